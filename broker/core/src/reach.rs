//! Whom a QoS 2 message has reached, for as long as its publisher may send it again (§4.3.3).
//!
//! Several shards take such a message over, each in a record of its own, so that a crash can leave it
//! with some of them. What a shard kept of it says beside the rows for whom it did (a *mark*); the
//! publisher's shard says the same in its note of the Packet Identifier. When the publisher sends
//! the message again, it goes to the others alone. Whom is said by slots and groups, because sessions
//! may be with another shard by then.
//!
//! A mark goes when the identifier is given back, before the Client hears so: one that were left
//! would keep the next message with this identifier from somebody. [MQTT-4.3.3-11]

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::codec::PacketId;
use crate::hook::SessionId;
use crate::slot::{Slot, Slots};
use crate::topic::TopicFilter;

/// Who got a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Every session of these slots that subscribed by itself.
    pub slots: Slots,
    /// Somebody of each of these groups of Shared Subscriptions (§4.8.2).
    pub groups: BTreeSet<TopicFilter>,
}

impl Reach {
    /// Adds whom another part of the message reached.
    pub fn extend(&mut self, other: &Self) {
        self.slots.extend(&other.slots);
        self.groups.extend(other.groups.iter().cloned());
    }
}

/// The QoS 2 PUBLISH that a message came by, of a session that outlives its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The publisher's session.
    pub session: SessionId,
    /// The slot of that.
    pub slot: Slot,
    /// Its Packet Identifier.
    pub packet_id: PacketId,
    /// It is sent again behind a crash, and these have the message.
    pub reached: Option<Arc<Reach>>,
}

/// How far a QoS 2 message from a Client has come, while its Packet Identifier is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Taken over, or about to be; no other shard has a mark of it.
    Here,
    /// The same, and other shards may have marks.
    Elsewhere,
    /// A crash came between: these have it.
    Unfinished(Reach),
}

//! What shards tell each other: typed messages, in the order of cause and effect.
//!
//! That is more than in order between any two: what a shard sends because of a message must not
//! come to a third one before what that message's sender had sent there earlier. One queue for each
//! receiver, filled at once, gives that. A subscriber relies on it to find the newest retained
//! message with the topic's owner.
//!
//! A shard that owns a subscription tells the others which filters it wants to hear
//! ([`PeerMessage::Interest`]), and answers SUBSCRIBE only when all of them know. A publisher's
//! shard then hands a message to the interested shards alone, and answers PUBLISH only when each
//! says that it has taken it over ([`PeerMessage::Taken`]): durable there, if it has to be.
//!
//! The group of a Shared Subscription (§4.8.2) is owned by one shard, which wants to hear what the
//! group hears. Sessions of any shard join it ([`PeerMessage::Member`]). The owner chooses a member
//! for each message and hands it to that one's shard ([`PeerMessage::Hand`]).
//!
//! Whoever takes over a QoS 2 message of another shard's session keeps a mark of that, until it is
//! told that it will not come again ([`PeerMessage::Forget`]). See [`crate::reach`].

use std::any::Any;
use std::sync::Arc;

use crate::codec::{PacketId, QoS, ReasonCode};
use crate::hook::SessionId;
use crate::message::Message;
use crate::reach::{Origin, Reach};
use crate::slot::ShardId;
use crate::topic::TopicFilter;

/// A message from one shard to another.
#[derive(Debug)]
pub enum PeerMessage {
    /// A shard wants (or no longer wants) to hear what matches `filter`.
    Interest {
        /// The filter.
        filter: TopicFilter,
        /// Which shard: the sender, or at start the owner of a group that it has members of.
        shard: ShardId,
        /// Whether it is wanted.
        wanted: bool,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for.
        token: Option<u64>,
    },
    /// Deliver to the sessions of yours that subscribed.
    Publish {
        /// The message.
        message: Arc<Message>,
        /// Who published it, for No Local.
        publisher: Option<SessionId>,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for.
        token: Option<u64>,
        /// Whether the message goes to this one shard, so that a full queue can refuse it.
        only: bool,
        /// What it came by, if a mark of it is to be kept.
        origin: Option<Origin>,
    },
    /// A session of the sender's is a member of a group of yours, or is none any more.
    Member {
        /// The Shared Subscription, share name and all.
        filter: TopicFilter,
        /// The session.
        session: SessionId,
        /// What is to be known of it; `None`: it leaves.
        member: Option<Member>,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for: every publisher knows then.
        token: Option<u64>,
    },
    /// Deliver to this session of yours, the member of the group that was chosen.
    Hand {
        /// The Shared Subscription.
        filter: TopicFilter,
        /// The session.
        session: SessionId,
        /// The message.
        message: Arc<Message>,
        /// Repeated by [`PeerMessage::Taken`] or [`PeerMessage::Returned`], when one is asked for.
        token: Option<u64>,
        /// Whether nobody else gets the message, so that a full queue can refuse it.
        only: bool,
        /// Whether there is nobody with room to return it for.
        last: bool,
        /// What it came by, if a mark of it is to be kept.
        origin: Option<Origin>,
    },
    /// The session that was chosen cannot take it: choose another one.
    Returned {
        /// The Shared Subscription.
        filter: TopicFilter,
        /// The message.
        message: Arc<Message>,
        /// The token of [`PeerMessage::Hand`], which is still to be answered.
        token: Option<u64>,
        /// As there.
        only: bool,
        /// As there.
        origin: Option<Origin>,
    },
    /// A member's session is over, and this message of a group of yours was not delivered.
    Left {
        /// The Shared Subscription.
        filter: TopicFilter,
        /// The message.
        message: Arc<Message>,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for.
        token: Option<u64>,
    },
    /// Make this the retained message of its topic; an empty payload removes it.
    Retain {
        /// The message.
        message: Arc<Message>,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for.
        token: Option<u64>,
    },
    /// The sender has told all that it found at start, and nothing of it is still on its way.
    Started,
    /// At start: a session of yours published this message, and these have it.
    Reached {
        /// The session.
        session: SessionId,
        /// The Packet Identifier.
        packet_id: PacketId,
        /// Who.
        reach: Reach,
    },
    /// A session of the sender's does not send this message again: delete the marks of it.
    Forget {
        /// The session.
        session: SessionId,
        /// The Packet Identifier; `None`: whichever, the session is over.
        packet_id: Option<PacketId>,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for.
        token: Option<u64>,
    },
    /// What was asked under this token is done, and durable where it must be.
    Taken {
        /// The token.
        token: u64,
        /// Success, No matching subscribers, or why not.
        reason: ReasonCode,
    },
    /// Send me retained messages that match, for a subscription of mine: answered by one
    /// [`PeerMessage::Retained`], also where there are none.
    RetainedWanted {
        /// The filter.
        filter: TopicFilter,
        /// The place where the last answer ended; `None`: this is the first question.
        after: Option<Box<str>>,
        /// Repeated by [`PeerMessage::Retained`].
        session: SessionId,
        /// Repeated there as well: no other question has it.
        token: u64,
        /// How many are wanted at the most.
        messages_max: usize,
    },
    /// Retained messages for a new subscription, a piece of them.
    Retained {
        /// The subscribing session.
        session: SessionId,
        /// Which question this answers.
        token: u64,
        /// The messages.
        messages: Vec<Arc<Message>>,
        /// The place behind which there may be more.
        after: Option<Box<str>>,
    },
    /// From a service on one shard to its like on another.
    Service {
        /// Which service.
        service: u8,
        /// Its own type.
        message: Box<dyn Any + Send>,
    },
}

/// A member of the group of a Shared Subscription, as the owner of the group knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The granted QoS.
    pub qos: QoS,
    /// How much it can take.
    pub standing: Standing,
}

/// How much a member of a group can take; the first is chosen before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Connected, and a message can be sent at once.
    Ready,
    /// Connected; a message has to wait for others.
    Busy,
    /// Without a connection.
    Away,
    /// Its queue has no room.
    Full,
}

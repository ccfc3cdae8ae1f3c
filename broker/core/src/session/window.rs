//! What was sent to the Client and is not finished: the in-flight window, in the order of sending.
//!
//! An entry stays until PUBACK or PUBCOMP (or a refusal), over as many connections as that takes.
//! On a new connection every entry is sent again, in the old order, with its old Packet Identifier
//! [MQTT-4.4.0-1]; `sent` says whether that has happened on the present one.
//!
//! A session that ends with its connection sends nothing again: of most of its QoS 1 messages nothing
//! is kept but the identifier, which is one of `brief`.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{PacketId, QoS};
use crate::hook::Tag;
use crate::message::Message;
use crate::record::Position;
use crate::topic::TopicFilter;

/// A message chosen for one session.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    /// Its place in the order of the session's messages.
    pub(crate) number: u64,
    pub(crate) message: Arc<Message>,
    /// The QoS it is sent with. [MQTT-3.8.4-8]
    pub(crate) qos: QoS,
    /// The RETAIN flag it is sent with.
    pub(crate) retain: bool,
    pub(crate) subscription_id: Option<u32>,
    /// It must not be sent before this is stored.
    pub(crate) ready: Position,
    /// Its row, if it has one: to be deleted when it is acknowledged.
    pub(crate) key: Option<Bytes>,
    /// The Shared Subscription that it comes by: whose member ends leaves it to the others.
    pub(crate) share: Option<TopicFilter>,
    /// The service that delivers it, and the service's mark.
    pub(crate) tag: Option<(u8, Tag)>,
}

/// One message on its way to the Client.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) packet_id: PacketId,
    /// Its place in the order of sending, over all connections of the session.
    pub(crate) order: u64,
    pub(crate) state: State,
    /// Whether what `state` asks for was sent on the present connection.
    pub(crate) sent: bool,
    /// It must not be sent before this is stored (QoS 2 of a session that survives a crash).
    pub(crate) after: Position,
    /// Whether the store has a row of it.
    pub(crate) in_store: bool,
    /// Whether it was sent before on another connection, so that DUP is set. [MQTT-3.3.1-1]
    pub(crate) again: bool,
    /// Whether it holds a permit of the present connection's quota.
    pub(crate) has_permit: bool,
    pub(crate) queued: Queued,
}

impl InFlight {
    /// Whether the Client may have seen it, on this connection or an earlier one.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent || self.again || self.state == State::Pubrel
    }
}

/// An acknowledgement is not due for this entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotDue;

/// What the Client has to say next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// PUBLISH; PUBACK or PUBREC is due.
    Publish,
    /// PUBREL; PUBCOMP is due. [MQTT-4.3.3-6]
    Pubrel,
}

/// The entries, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Window {
    entries: VecDeque<InFlight>,
    /// The Packet Identifiers of `entries`, close together: each is looked for among all of them when
    /// it is given and when it is acknowledged.
    ids: VecDeque<PacketId>,
    unsent: usize,
    /// QoS 1 messages that were sent, and of which nothing is to be known but that.
    brief: VecDeque<PacketId>,
}

impl Window {
    /// A message was sent of which nothing has to be kept.
    pub(crate) fn push_brief(&mut self, id: PacketId) {
        self.brief.push_back(id);
    }

    /// A PUBACK: whether it ends one of those of which nothing was kept.
    pub(crate) fn finish_brief(&mut self, id: PacketId) -> bool {
        if self.brief.front() == Some(&id) {
            self.brief.pop_front();
            return true;
        }
        let index = self.brief.iter().position(|it| *it == id);
        index.and_then(|index| self.brief.remove(index)).is_some()
    }

    /// Whether the Client was sent something that it has still to acknowledge.
    pub(crate) fn awaits_acknowledgement(&self) -> bool {
        !self.brief.is_empty() || self.entries.iter().any(|entry| entry.sent)
    }

    /// Whether an acknowledgement other than PUBACK would be for one of which nothing was kept.
    pub(crate) fn is_brief(&self, id: PacketId) -> bool {
        self.brief.contains(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &InFlight> {
        self.entries.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut InFlight> {
        self.entries.iter_mut()
    }

    /// The Packet Identifiers that are in use.
    pub(crate) fn ids(&self) -> impl Iterator<Item = PacketId> {
        self.ids.iter().chain(&self.brief).copied()
    }

    /// Where an identifier is. Acknowledgements come in order, so it is the first as a rule.
    fn index(&self, id: PacketId) -> Option<usize> {
        if self.ids.front() == Some(&id) {
            return Some(0);
        }
        self.ids.iter().position(|it| *it == id)
    }

    pub(crate) fn push(&mut self, entry: InFlight) {
        self.unsent += usize::from(!entry.sent);
        self.ids.push_back(entry.packet_id);
        self.entries.push_back(entry);
    }

    /// Whether something waits to be sent on this connection.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// The entry at this place, oldest first. Whether it was sent is for [`Window::note_sent`].
    pub(crate) fn at(&mut self, index: usize) -> Option<&mut InFlight> {
        self.entries.get_mut(index)
    }

    /// Notes that an entry was sent on this connection.
    pub(crate) fn note_sent(&mut self, id: PacketId) {
        let entry = self.index(id).and_then(|index| self.entries.get_mut(index));
        if let Some(entry) = entry.filter(|entry| !entry.sent) {
            entry.sent = true;
            self.unsent -= 1;
        }
    }

    /// The entry of this Packet Identifier.
    pub(crate) fn get(&self, id: PacketId) -> Option<&InFlight> {
        self.entries.get(self.index(id)?)
    }

    /// Moves an entry on to PUBREL, which must not be sent before `after` is stored.
    pub(crate) fn release(&mut self, id: PacketId, after: Position) {
        if let Some(entry) = self.index(id).and_then(|index| self.entries.get_mut(index)) {
            entry.state = State::Pubrel;
            entry.after = after;
            self.unsent += usize::from(entry.sent);
            entry.sent = false;
        }
    }

    pub(crate) fn remove(&mut self, id: PacketId) -> Option<InFlight> {
        self.remove_at(self.index(id)?)
    }

    /// Takes the entry of this Packet Identifier out if it was sent and is in this state with this QoS;
    /// `Err` if it is not. `None`: there is no such entry.
    pub(crate) fn finish(
        &mut self,
        id: PacketId,
        qos: QoS,
        state: State,
    ) -> Option<Result<InFlight, NotDue>> {
        let Some(index) = self.index(id) else {
            return self.is_brief(id).then_some(Err(NotDue));
        };
        let entry = self.entries.get(index)?;
        if entry.queued.qos != qos || entry.state != state || !entry.sent {
            return Some(Err(NotDue));
        }
        self.remove_at(index).map(Ok)
    }

    fn remove_at(&mut self, index: usize) -> Option<InFlight> {
        // Acknowledgements come in order as a rule: nothing is moved then.
        let entry = if index == 0 {
            self.ids.pop_front();
            self.entries.pop_front()?
        } else {
            self.ids.remove(index);
            self.entries.remove(index)?
        };
        self.unsent -= usize::from(!entry.sent);
        Some(entry)
    }

    /// Takes every entry for unsent: there is a new connection.
    pub(crate) fn begin_again(&mut self) {
        for entry in &mut self.entries {
            entry.again |= entry.sent;
            entry.sent = false;
            entry.has_permit = false;
        }
        self.unsent = self.entries.len();
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = InFlight> {
        self.unsent = 0;
        self.brief.clear();
        self.ids.clear();
        self.entries.drain(..)
    }
}

//! Retained messages: the last one of each topic (§3.3.1.3), in memory and as a row each.
//!
//! A topic's retained message belongs to the shard of the topic's slot, whoever published it: so
//! two publishers on different shards cannot leave two.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::limits::Limits;
use crate::message::{BadRow, Message};
use crate::metric::Metric;
use crate::record::{KeyBuilder, Op, Row, RowKind};
use crate::slot::Slot;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicNames};

/// The retained messages of the topics that a shard owns.
#[derive(Debug)]
pub(crate) struct Retained {
    messages: TopicNames<Arc<Message>>,
    bytes: usize,
    /// Those that expire, soonest first.
    expiring: BTreeSet<(Time, Box<str>)>,
}

/// There is no room for another retained message: the bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetainedFull(pub(crate) Metric);

impl Retained {
    pub(crate) fn new() -> Self {
        Self { messages: TopicNames::new(), bytes: 0, expiring: BTreeSet::new() }
    }

    /// Makes `message` the one of its topic, or removes that if the payload is empty. What the
    /// store has to do for it, if anything. [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    pub(crate) fn set(
        &mut self,
        message: &Arc<Message>,
        limits: &Limits,
    ) -> Result<Option<Op>, RetainedFull> {
        let topic = &message.topic;
        if message.payload.is_empty() {
            return Ok(self.remove(topic));
        }
        let replaced = self.messages.get(topic).map(|message| message.size());
        let bytes = self.bytes.saturating_sub(replaced.unwrap_or(0)) + message.size();
        if replaced.is_none() && self.messages.len() >= limits.retained_messages_max {
            return Err(RetainedFull(Metric::LimitRetainedMessages));
        }
        if bytes > limits.retained_bytes_max {
            return Err(RetainedFull(Metric::LimitRetainedBytes));
        }
        if message.payload.len() > limits.retained_message_bytes_max {
            return Err(RetainedFull(Metric::LimitRetainedMessageBytes));
        }
        self.insert(message);
        self.bytes = bytes;
        Ok(Some(Op::Put { key: key(topic), value: message.to_bytes() }))
    }

    fn insert(&mut self, message: &Arc<Message>) {
        let topic = &message.topic;
        self.forget_expiry(topic);
        if let Some(expires) = message.expires {
            self.expiring.insert((expires, topic.clone()));
        }
        self.messages.insert(topic, Arc::clone(message));
    }

    fn remove(&mut self, topic: &str) -> Option<Op> {
        self.forget_expiry(topic);
        let message = self.messages.remove(topic)?;
        self.bytes = self.bytes.saturating_sub(message.size());
        Some(Op::Delete { key: key(topic) })
    }

    fn forget_expiry(&mut self, topic: &str) {
        if let Some(expires) = self.messages.get(topic).and_then(|message| message.expires) {
            self.expiring.remove(&(expires, topic.into()));
        }
    }

    /// When the next one expires.
    pub(crate) fn next_expiry(&self) -> Option<Time> {
        self.expiring.first().map(|(expires, _)| *expires)
    }

    /// Removes some of those that have expired, so that they take no place from others.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<Op> {
        let mut ops = Vec::new();
        while ops.len() < EXPIRED_AT_ONCE && self.next_expiry().is_some_and(|due| due <= now) {
            let Some((_, topic)) = self.expiring.pop_first() else { break };
            ops.extend(self.remove(&topic));
        }
        ops
    }

    /// How many there are, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }

    /// Takes back a row.
    pub(crate) fn recover(&mut self, row: &Row) -> Result<(), BadRow> {
        let message = Message::from_bytes(&row.value)?;
        self.bytes += message.size();
        self.insert(&message);
        Ok(())
    }

    /// Some of those that match and have not expired, behind a place: as many as there is room for,
    /// one at least. The place where that ends; `None`: there are no more.
    pub(crate) fn piece(
        &self,
        filter: &TopicFilter,
        after: Option<&str>,
        room: &mut Room,
        now: Time,
    ) -> (Vec<Arc<Message>>, Option<Box<str>>) {
        let mut found = Vec::new();
        let Room { messages, bytes, nodes } = room;
        let end = self.messages.matching_after(filter, after, nodes, &mut |_, message| {
            if message.is_expired(now) {
                return ControlFlow::Continue(());
            }
            found.push(Arc::clone(message));
            *messages = messages.saturating_sub(1);
            *bytes = bytes.saturating_sub(message.size());
            if *messages == 0 || *bytes == 0 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        (found, end)
    }
}

/// How much may be sent, or looked at, before the others have their turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// Levels of topics that may be looked at, whether they match or not.
    pub(crate) nodes: usize,
}

impl Room {
    /// What one turn has: a fraction of the 2 ms that a connection may take.
    pub(crate) const fn of_a_turn(limits: &Limits) -> Self {
        Self { messages: limits.retained_per_turn_max, bytes: 64 * 1024, nodes: 2_048 }
    }

    /// Whether the turn is over.
    pub(crate) const fn is_used(&self) -> bool {
        self.messages == 0 || self.bytes == 0 || self.nodes == 0
    }
}

fn key(topic: &str) -> Bytes {
    KeyBuilder::new(Slot::of(topic.as_bytes()), RowKind::Retained).raw(topic.as_bytes()).build()
}

/// How many expired messages are removed in one record.
const EXPIRED_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::message::MessageId;

    fn message(topic: &str, payload: &'static str) -> Arc<Message> {
        let payload = Bytes::from_static(payload.as_bytes());
        let now = Time::from_millis(0);
        Arc::new(Message::new(MessageId(1), topic, payload, QoS::AtLeastOnce, now))
    }

    #[test]
    fn an_empty_payload_removes_and_is_never_kept() {
        // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
        let mut retained = Retained::new();
        let limits = Limits::default();
        let all = TopicFilter::parse("#").unwrap();
        assert!(matches!(retained.set(&message("a", "1"), &limits), Ok(Some(Op::Put { .. }))));
        assert!(matches!(retained.set(&message("a", "2"), &limits), Ok(Some(Op::Put { .. }))));
        let (found, end) =
            retained.piece(&all, None, &mut Room::of_a_turn(&limits), Time::from_millis(0));
        assert_eq!(end, None);
        assert_eq!(found.iter().map(|found| &found.payload[..]).collect::<Vec<_>>(), [b"2"]);
        assert!(matches!(retained.set(&message("a", ""), &limits), Ok(Some(Op::Delete { .. }))));
        assert_eq!(retained.set(&message("a", ""), &limits), Ok(None));
        assert_eq!((retained.messages.len(), retained.bytes), (0, 0));
    }

    #[test]
    fn a_full_store_refuses_new_topics_and_takes_new_values() {
        let mut retained = Retained::new();
        let limits = Limits { retained_messages_max: 1, ..Limits::default() };
        assert!(retained.set(&message("a", "1"), &limits).is_ok());
        assert_eq!(
            retained.set(&message("b", "1"), &limits),
            Err(RetainedFull(Metric::LimitRetainedMessages))
        );
        assert!(retained.set(&message("a", "2"), &limits).is_ok());
    }
}

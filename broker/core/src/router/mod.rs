//! Who hears a message: the subscriptions of this shard, and which other shards want it.

mod groups;
mod retained;

pub(crate) use groups::{Chosen, Groups};
pub(crate) use retained::{Retained, RetainedFull, Room};

use crate::codec::QoS;
use crate::hook::SessionId;
use crate::message::Message;
use crate::peer::Member;
use crate::session::Subscription;
use crate::slot::ShardId;
use crate::topic::{TopicFilter, TopicTree};

/// The subscriptions of a shard, the interests of the others, and what it owns: groups of Shared
/// Subscriptions, and retained messages.
#[derive(Debug)]
pub(crate) struct Router {
    subscriptions: TopicTree<SessionId, Subscription>,
    interests: TopicTree<ShardId, ()>,
    pub(crate) groups: Groups,
    pub(crate) retained: Retained,
}

/// What of a message decides who gets which copies.
#[derive(Debug, Clone, std::marker::Copy)]
pub(crate) struct Heading<'a> {
    pub(crate) topic: &'a str,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

impl<'a> From<&'a Message> for Heading<'a> {
    fn from(message: &'a Message) -> Self {
        Self { topic: &message.topic, qos: message.qos, retain: message.retain }
    }
}

/// One copy for one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) session: SessionId,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) subscription_id: Option<u32>,
    /// The Shared Subscription that it comes by.
    pub(crate) share: Option<TopicFilter>,
}

impl Router {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            subscriptions: TopicTree::new(seed),
            interests: TopicTree::new(seed),
            groups: Groups::new(seed),
            retained: Retained::new(),
        }
    }

    /// Whether messages go to sessions of this shard alone, and not by groups.
    pub(crate) fn is_plain(&self) -> bool {
        self.interests.is_empty() && self.groups.is_empty()
    }

    /// Whether the shard hears what this filter (of a shared one: its filter part) matches.
    fn wants(&self, filter: &TopicFilter) -> bool {
        self.subscriptions.subscribers(filter) > 0 || self.groups.has_place(filter)
    }

    /// Notes a member of a group of this shard, which is a session of `shard`; `true` if the shard
    /// did not hear the filter part before.
    pub(crate) fn join(
        &mut self,
        filter: &TopicFilter,
        session: SessionId,
        shard: ShardId,
        member: Member,
    ) -> bool {
        let first = !self.wants(filter);
        self.groups.set(filter, session, Some((shard, member)));
        first
    }

    /// Takes a member out of its group; `true` if the shard has not to hear the filter part any
    /// more.
    pub(crate) fn leave(&mut self, filter: &TopicFilter, session: SessionId) -> bool {
        let was_there = self.groups.has_place(filter);
        self.groups.set(filter, session, None);
        was_there && !self.wants(filter)
    }

    /// Adds a subscription; `true` if the shard did not hear this filter before.
    pub(crate) fn subscribe(
        &mut self,
        filter: &TopicFilter,
        session: SessionId,
        subscription: Subscription,
    ) -> bool {
        let first = !self.wants(filter);
        self.subscriptions.insert(filter, session, subscription);
        first
    }

    /// Ends a subscription; `true` if the shard has not to hear this filter any more.
    pub(crate) fn unsubscribe(&mut self, filter: &TopicFilter, session: SessionId) -> bool {
        let was_there = self.subscriptions.remove(filter, &session).is_some();
        was_there && !self.wants(filter)
    }

    /// Notes whether another shard wants to hear `filter`.
    pub(crate) fn set_interest(&mut self, filter: &TopicFilter, shard: ShardId, wanted: bool) {
        if wanted {
            self.interests.insert(filter, shard, ());
        } else {
            self.interests.remove(filter, &shard);
        }
    }

    /// The other shards that want a message on `topic`.
    pub(crate) fn interested(&self, topic: &str, shards: &mut Vec<ShardId>) {
        shards.clear();
        if self.interests.is_empty() {
            return;
        }
        self.interests.matching(topic, &mut |shard, ()| shards.push(*shard));
        shards.sort_unstable();
        shards.dedup();
    }

    /// The copies of `message` that sessions of this shard get.
    ///
    /// One for each session, at the highest QoS of its matching subscriptions [MQTT-3.3.4-2]; where
    /// those have different Subscription Identifiers, one for each identifier, with that one alone
    /// [MQTT-3.3.4-5]: clients in wide use cannot read two in one packet.
    pub(crate) fn copies(
        &self,
        message: Heading<'_>,
        publisher: Option<SessionId>,
        copies: &mut Vec<Copy>,
    ) {
        copies.clear();
        self.subscriptions.matching(message.topic, &mut |session, subscription| {
            if subscription.no_local && publisher == Some(*session) {
                return; // [MQTT-3.8.3-3]
            }
            copies.push(Copy::new(message, *session, subscription));
        });
        if copies.len() > 1 {
            copies.sort_unstable_by_key(|copy| (copy.session, copy.subscription_id));
            copies.dedup_by(|later, first| {
                let same = later.session == first.session
                    && (later.subscription_id == first.subscription_id
                        || first.subscription_id.is_none());
                if same {
                    first.qos = first.qos.max(later.qos);
                    first.retain |= later.retain;
                    first.subscription_id = first.subscription_id.or(later.subscription_id);
                }
                same
            });
        }
    }
}

impl Copy {
    /// The copy that a subscription gives its session.
    pub(crate) fn new(
        message: Heading<'_>,
        session: SessionId,
        subscription: &Subscription,
    ) -> Self {
        Self {
            session,
            qos: message.qos.min(subscription.qos), // [MQTT-3.8.4-8]
            retain: message.retain && subscription.retain_as_published, // [MQTT-3.3.1-12]
            subscription_id: subscription.id,
            share: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::MessageId;
    use crate::time::Time;

    fn subscription(qos: QoS, id: Option<u32>) -> Subscription {
        Subscription { qos, no_local: false, retain_as_published: false, id }
    }

    fn copies(subscriptions: &[(&str, u64, Subscription)]) -> Vec<(u64, QoS, Option<u32>)> {
        let mut router = Router::new(1);
        for (filter, session, subscription) in subscriptions {
            let filter = TopicFilter::parse(filter).unwrap();
            router.subscribe(&filter, SessionId(*session), *subscription);
        }
        let message =
            Message::new(MessageId(1), "a/b", Bytes::new(), QoS::ExactlyOnce, Time::from_millis(0));
        let mut copies = Vec::new();
        router.copies((&message).into(), Some(SessionId(9)), &mut copies);
        copies.iter().map(|copy| (copy.session.0, copy.qos, copy.subscription_id)).collect()
    }

    #[test]
    fn overlapping_subscriptions_give_one_copy_at_the_highest_qos() {
        // [MQTT-3.3.4-2]
        let found = copies(&[
            ("a/#", 1, subscription(QoS::AtMostOnce, None)),
            ("a/+", 1, subscription(QoS::ExactlyOnce, None)),
            ("#", 2, subscription(QoS::AtLeastOnce, None)),
        ]);
        assert_eq!(found, [(1, QoS::ExactlyOnce, None), (2, QoS::AtLeastOnce, None)]);
    }

    #[test]
    fn overlapping_identifiers_give_a_copy_each() {
        // [MQTT-3.3.4-5]
        let found = copies(&[
            ("a/#", 1, subscription(QoS::AtMostOnce, Some(7))),
            ("a/+", 1, subscription(QoS::AtLeastOnce, Some(8))),
        ]);
        assert_eq!(found, [(1, QoS::AtMostOnce, Some(7)), (1, QoS::AtLeastOnce, Some(8))]);
    }

    #[test]
    fn no_local_hears_others_only() {
        // [MQTT-3.8.3-3]
        let no_local = Subscription { no_local: true, ..subscription(QoS::AtLeastOnce, None) };
        let found = copies(&[("a/b", 9, no_local), ("a/b", 1, no_local)]);
        assert_eq!(found, [(1, QoS::AtLeastOnce, None)]);
    }
}

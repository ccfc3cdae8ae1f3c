//! `$SYS`: what the broker says of itself. In memory only, and from the shell alone: Clients may not
//! publish there, and no record is ever written of it.
//!
//! Every shard is told the same values and delivers them to its own sessions, so nothing goes from
//! shard to shard. They are of QoS 0: nobody is owed an old number.

use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use super::marks::Keep;
use crate::codec::QoS;
use crate::hook::SessionId;
use crate::message::{Message, MessageId};
use crate::output::Outbox;
use crate::record::Position;
use crate::router::{Copy, Room};
use crate::system::{SYSTEM_ROOT, SystemValue};
use crate::time::Time;
use crate::topic::TopicFilter;

impl Shard {
    /// New values, for those who listen now and those who will.
    pub(super) fn tell_system(&mut self, values: &[SystemValue], now: Time, out: &mut Outbox) {
        for SystemValue { topic, payload } in values {
            // Nobody acknowledges it, so it needs no number of its own, which would be leased.
            let id = MessageId(0);
            let mut message = Message::new(id, topic, Bytes::clone(payload), QoS::AtMostOnce, now);
            message.retain = true;
            let message = Arc::new(message);
            self.system.insert(topic, Arc::clone(&message));
            self.find(&message, None, None);
            let routed = self.place(&message, Vec::new(), Keep::Nothing, out);
            self.hand_out(&message, routed, now, out);
            self.hand_over(&message, false, None, None, out);
        }
    }

    /// The present values for a new subscription; `false` if it is to other topics.
    pub(super) fn send_system(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        room: &mut Room,
        now: Time,
        out: &mut Outbox,
    ) -> bool {
        if filter.levels().next() != Some(SYSTEM_ROOT) {
            return false;
        }
        let subscription = self.sessions.get(&id).and_then(|it| it.subscriptions.get(filter));
        let Some(subscription) = subscription.copied() else { return true };
        let mut copies = Vec::new();
        self.system.matching(filter, &mut |_, message| {
            let (qos, subscription_id) = (QoS::AtMostOnce, subscription.id);
            let copy = Copy { session: id, qos, retain: true, subscription_id, share: None };
            copies.push((copy, Arc::clone(message)));
        });
        // There are some dozens of them: no piece is cut out of that.
        room.messages = room.messages.saturating_sub(copies.len());
        self.replay_retained(copies, Position::START, now, out);
        true
    }
}

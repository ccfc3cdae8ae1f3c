//! Will Messages: due when a connection ends otherwise than it should (§3.1.2.5).

use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::timers::Timer;
use crate::codec::{PacketKind, Properties, Publish};
use crate::hook::{ServiceEvent, SessionId};
use crate::message::MessageId;
use crate::output::Outbox;
use crate::session::{Who, Will};
use crate::time::Time;

/// A will that waits for its delay, or for its session to end.
#[derive(Debug)]
pub(super) struct PendingWill {
    who: Who,
    will: Will,
    due: Time,
}

impl Shard {
    /// A connection ended with this will: now, or later if the session may still come back.
    /// [MQTT-3.1.2-8]
    pub(super) fn will_due(
        &mut self,
        id: SessionId,
        who: &Who,
        will: Will,
        expiry: Duration,
        now: Time,
        out: &mut Outbox,
    ) {
        let wait = will.delay.min(expiry);
        if wait.is_zero() {
            self.publish_will(Some(id), who, will, now, out);
        } else {
            self.hold_will(id, who.clone(), will, now + wait);
        }
    }

    /// Keeps a will until it is due.
    pub(super) fn hold_will(&mut self, id: SessionId, who: Who, will: Will, due: Time) {
        self.timers.set(due, Timer::Will(id));
        self.wills.insert(id, PendingWill { who, will, due });
    }

    /// The Client is back in time. [MQTT-3.1.3-9]
    pub(super) fn recall_will(&mut self, id: SessionId) {
        if let Some(pending) = self.wills.remove(&id) {
            self.timers.cancel(pending.due, Timer::Will(id));
        }
    }

    /// The delay is over, or the session.
    pub(super) fn publish_pending_will(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        if let Some(PendingWill { who, will, due }) = self.wills.remove(&id) {
            self.timers.cancel(due, Timer::Will(id));
            self.publish_will(None, &who, will, now, out);
        }
    }

    /// What is kept of a will that is not yet due.
    pub(super) fn pending_will_row(&self, id: SessionId) -> Option<(Will, Option<Time>)> {
        self.wills.get(&id).map(|pending| (pending.will.clone(), Some(pending.due)))
    }

    fn publish_will(
        &mut self,
        session: Option<SessionId>,
        who: &Who,
        will: Will,
        now: Time,
        out: &mut Outbox,
    ) {
        // Rights may have changed since CONNECT.
        if self.may_say(&who.client(), &will.topic).is_err() {
            return;
        }
        let id = MessageId(self.ledger.number(out));
        let mut message = will.into_message(id, now);
        // Taken when more may have been offered. Of its QoS nobody gets more than is granted now.
        message.retain &= self.limits.offers.retain;
        let Some(service) = self.services.owner(&message.topic) else {
            self.publish_own(&Arc::new(message), session, now, out);
            return;
        };
        let properties = Properties::parse(&message.properties, PacketKind::Publish);
        let publish = Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: &message.topic,
            packet_id: None,
            properties: properties.unwrap_or_default(),
            payload: &message.payload,
        };
        let event = ServiceEvent::Published {
            session: None,
            client: who.client(),
            publish: &publish,
            token: None,
        };
        self.call(service, event, now, out);
    }
}

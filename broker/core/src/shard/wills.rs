//! Will Messages: due when a connection ends otherwise than it should (§3.1.2.5).
//!
//! A will leaves the row of its session in the record that keeps what became of it, so that it
//! comes at least once and, as soon as that is stored, never again. Where other shards have a part,
//! it leaves when all of them have stored theirs. [MQTT-3.1.2-10]

use std::sync::Arc;
use std::time::Duration;

use super::open::connected_row;
use super::timers::Timer;
use super::{Shard, Waiter};
use crate::codec::{PacketKind, Properties, Publish, ReasonCode};
use crate::hook::{ServiceEvent, SessionId};
use crate::message::MessageId;
use crate::metric::Metric;
use crate::output::Outbox;
use crate::record::Op;
use crate::session::rows::SessionRow;
use crate::session::{Who, Will, rows};
use crate::time::Time;

/// A will that waits for its delay, or for its session to end; or that is published and not yet
/// stored by everybody.
#[derive(Debug)]
pub(super) struct PendingWill {
    who: Who,
    will: Will,
    due: Time,
    /// The Session Expiry Interval, for the row without the will.
    expiry: Duration,
    /// What it has become, and how many other shards have still to store their part.
    published: Option<(MessageId, usize)>,
}

/// What publishing a message of nobody's has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing was stored, and nobody else has a part.
    Nothing,
    /// A record was stored, and the row that was to go along with it.
    Here,
    /// So many other shards have a part. The row was not stored.
    Elsewhere(usize),
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
        self.hold_will(id, who.clone(), will, now + wait, expiry);
        if wait.is_zero() {
            let row = self.row_without_will(id);
            let Some(will) = self.take_will(id) else { return };
            // Where nothing is stored, the row that is written of the session next is soon enough.
            self.publish_will(id, will, Some(id), row, now, out);
        }
    }

    /// Keeps a will until it is due.
    pub(super) fn hold_will(
        &mut self,
        id: SessionId,
        who: Who,
        will: Will,
        due: Time,
        expiry: Duration,
    ) {
        self.timers.set(due, Timer::Will(id));
        self.wills.insert(id, PendingWill { who, will, due, expiry, published: None });
    }

    /// The Client is back: in time, or the will is published already. [MQTT-3.1.3-9]
    pub(super) fn recall_will(&mut self, id: SessionId) {
        self.take_will(id);
    }

    /// The delay is over, and the session goes on.
    pub(super) fn publish_delayed_will(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        let row = self.row_without_will(id);
        let Some(will) = self.take_will(id) else { return };
        let kept = self.publish_will(id, will, None, row.clone(), now, out);
        if kept == Kept::Nothing
            && let Some(row) = row
        {
            self.ledger.append([row], false, out);
        }
    }

    /// The session ends, and its will with it. `row`: that of [`Shard::row_without_will`].
    pub(super) fn publish_last_will(
        &mut self,
        id: SessionId,
        row: Option<Op>,
        now: Time,
        out: &mut Outbox,
    ) {
        if let Some(will) = self.take_will(id)
            && will.published.is_none()
        {
            self.publish_will(id, will, None, row, now, out);
            // Its row goes at once.
            self.wills.remove(&id);
        }
    }

    fn take_will(&mut self, id: SessionId) -> Option<PendingWill> {
        let will = self.wills.remove(&id)?;
        self.timers.cancel(will.due, Timer::Will(id));
        Some(will)
    }

    /// The row of a session whose will is published; `None` if it has no row, or no will.
    pub(super) fn row_without_will(&self, id: SessionId) -> Option<Op> {
        let expiry = self.wills.get(&id)?.expiry;
        if let Some(session) = self.sessions.get(&id) {
            let row = SessionRow { will: None, ..connected_row(session) };
            return session.is_persistent().then(|| rows::session(session.slot, &row));
        }
        let offline = self.offline.get(&id)?;
        let row = SessionRow {
            id,
            user: Arc::clone(&offline.user),
            client_id: Arc::clone(&offline.client_id),
            expiry,
            // Till somebody comes back nobody knows what was sent before the crash.
            ends: (!offline.was_connected).then_some(offline.ends),
            will: None,
        };
        Some(rows::session(offline.slot, &row))
    }

    /// Another shard has stored its part of a will.
    pub(super) fn will_taken(
        &mut self,
        id: SessionId,
        message: MessageId,
        reason: ReasonCode,
        out: &mut Outbox,
    ) {
        if reason == ReasonCode::QuotaExceeded {
            // There is only one part that can be refused to a message of which nobody is told.
            self.counters.add(Metric::DroppedRetainedFull, 1);
        }
        let will = self.wills.get_mut(&id).and_then(|it| it.published.as_mut());
        let Some((_, waits)) = will.filter(|(its, _)| *its == message) else { return };
        *waits = waits.saturating_sub(1);
        if *waits > 0 {
            return;
        }
        let row = self.row_without_will(id);
        self.wills.remove(&id);
        if let Some(row) = row {
            self.ledger.append([row], false, out);
        }
    }

    /// What is kept of a will that is not yet due.
    pub(super) fn pending_will_row(&self, id: SessionId) -> Option<(Will, Option<Time>)> {
        self.wills.get(&id).map(|pending| (pending.will.clone(), Some(pending.due)))
    }

    /// Publishes a will, and has `row` kept along with it; or, where other shards have a part, the
    /// will remembered till they have stored that.
    fn publish_will(
        &mut self,
        id: SessionId,
        will: PendingWill,
        publisher: Option<SessionId>,
        row: Option<Op>,
        now: Time,
        out: &mut Outbox,
    ) -> Kept {
        let client = will.who.client();
        // Rights may have changed since CONNECT.
        if self.may_say(&client, &will.will.topic).is_err() {
            return Kept::Nothing;
        }
        let number = MessageId(self.ledger.number(out));
        let mut message = will.will.clone().into_message(number, now);
        // Taken when more may have been offered. Of its QoS nobody gets more than is granted now.
        message.retain &= self.limits.offers.retain;
        let Some(service) = self.services.owner(&message.topic) else {
            let waiter = row.is_some().then_some(Waiter::Will(id, number));
            let kept = self.publish_own(&Arc::new(message), publisher, row, waiter, now, out);
            if let Kept::Elsewhere(waits) = kept
                && waiter.is_some()
            {
                let published = Some((number, waits));
                self.wills.insert(id, PendingWill { published, ..will });
            }
            return kept;
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
        let event =
            ServiceEvent::Published { session: None, client, publish: &publish, token: None };
        self.call(service, event, now, out);
        Kept::Nothing
    }
}

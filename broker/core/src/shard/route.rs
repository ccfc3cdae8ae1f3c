//! Who gets a message: finding them, keeping it for them, handing it out.
//!
//! In steps, so that everybody knows what to wait for before anything is delivered: first the
//! rows, in one record, then the deliveries.

use std::sync::Arc;

use bytes::Bytes;

use super::marks::Keep;
use super::shared::Relay;
use super::wills::Kept;
use super::{Owed, Shard, Waiter};
use crate::codec::{QoS, ReasonCode};
use crate::hook::SessionId;
use crate::message::Message;
use crate::metric::Metric;
use crate::output::Outbox;
use crate::peer::PeerMessage;
use crate::reach::{Origin, Reach};
use crate::record::{Op, Position};
use crate::router::{Copy, RetainedFull};
use crate::session::{Offered, Pumped, Queued};
use crate::slot::{ShardId, Slot};
use crate::time::Time;

impl Copy {
    /// What its session is to send, once `ready` is stored.
    fn queued(
        self,
        number: u64,
        key: Option<Bytes>,
        message: &Arc<Message>,
        ready: Position,
    ) -> Queued {
        let Self { qos, retain, subscription_id, share, .. } = self;
        let (message, tag) = (Arc::clone(message), None);
        Queued { number, message, qos, retain, subscription_id, ready, key, share, tag }
    }
}

/// What became of a message on this shard.
#[derive(Debug)]
pub(super) struct Routed {
    /// Safe here when this is stored.
    pub(super) ready: Position,
    /// Somebody on this shard gets it.
    pub(super) matched: bool,
    places: Vec<Place>,
}

/// Who gets a message: the number of each copy, and the row it has.
pub(super) type Place = (Copy, u64, Option<Bytes>);

/// For how many copies memory is kept from one message to the next.
const PLACES_KEPT: usize = 1_024;

impl Routed {
    /// Whether this session gets a copy.
    pub(super) fn is_for(&self, session: SessionId) -> bool {
        self.places.iter().any(|(copy, ..)| copy.session == session)
    }
}

impl Shard {
    pub(super) fn owner(&self, topic: &str) -> ShardId {
        Slot::of(topic.as_bytes()).shard(self.shards)
    }

    pub(super) fn owns(&self, topic: &str) -> bool {
        self.shards == 1 || self.owner(topic) == self.id
    }

    /// Finds the sessions of this shard that get a message, and are not among those it has
    /// `reached`: the first of three steps.
    pub(super) fn find(
        &mut self,
        message: &Message,
        publisher: Option<SessionId>,
        reached: Option<&Reach>,
    ) {
        self.router.copies(message.into(), publisher, &mut self.copies);
        if let Some(reached) = reached {
            self.skip_reached(reached);
        }
        self.hands.clear();
        if !self.router.groups.is_empty() {
            self.find_members(message, reached);
        }
    }

    /// Whether one session alone was found, and has no room for the message.
    pub(super) fn is_full(&self, message: &Message) -> bool {
        match &self.copies[..] {
            [copy] if copy.qos > QoS::AtMostOnce => {
                let bound = self.full_by(copy, message);
                if let Some(bound) = bound {
                    self.counters.add(bound, 1);
                }
                bound.is_some()
            }
            _ => false,
        }
    }

    /// Gives a message to the sessions that [`Shard::find`] found.
    pub(super) fn route(
        &mut self,
        message: &Arc<Message>,
        ops: Vec<Op>,
        origin: Option<&Origin>,
        now: Time,
        out: &mut Outbox,
    ) -> (Position, ReasonCode) {
        let keep = origin.map_or(Keep::Nothing, Keep::Mark);
        let routed = self.place(message, ops, keep, out);
        let reason = match routed.matched {
            true => ReasonCode::Success,
            false => ReasonCode::NoMatchingSubscribers,
        };
        let ready = routed.ready;
        self.hand_out(message, routed, now, out);
        (ready, reason)
    }

    /// Has a message kept for those of [`Shard::find`] that need it, after `ops` and in one record
    /// with them.
    pub(super) fn place(
        &mut self,
        message: &Arc<Message>,
        mut ops: Vec<Op>,
        keep: Keep<'_>,
        out: &mut Outbox,
    ) -> Routed {
        let mut copies = std::mem::take(&mut self.copies);
        if message.retain && !self.retained_asked.is_empty() {
            self.note_retained_passed(&message.topic);
        }
        let mut routed = Routed {
            ready: Position::START,
            matched: !copies.is_empty(),
            places: std::mem::take(&mut self.places),
        };
        let mut keys = std::mem::take(&mut self.keys);
        for copy in copies.drain(..) {
            let number = self.ledger.number(out);
            if let Ok(key) = self.queue_row(&copy, number, message, &mut ops, out) {
                keys.extend(key.clone());
                routed.places.push((copy, number, key));
            }
        }
        match keys.len() {
            0 => {}
            1 => ops.extend(keys.pop().map(|key| Op::Put { key, value: message.to_bytes() })),
            _ => {
                let keys = std::mem::take(&mut keys);
                ops.push(Op::PutAll { keys, value: message.to_bytes() });
            }
        }
        self.keys = keys;
        let kept = routed.places.iter().filter_map(|(copy, _, key)| Some((copy, key.as_ref()?)));
        self.keep_reach(keep, kept, &mut ops, out);
        if !ops.is_empty() {
            routed.ready = self.ledger.append(ops.drain(..), true, out);
        }
        if (self.ops.capacity()..=PLACES_KEPT).contains(&ops.capacity()) {
            self.ops = ops;
        }
        self.copies = copies;
        routed
    }

    /// Has the copies with QoS 0 for the publisher itself wait for its answer, so that the order of
    /// the two is always the same.
    pub(super) fn hold_own(
        &mut self,
        message: &Arc<Message>,
        routed: &mut Routed,
        waiter: Option<Waiter>,
    ) {
        let Some(Waiter::Answer(id, serial) | Waiter::Noted(id, serial)) = waiter else { return };
        let own = |copy: &Copy| copy.session == id && copy.qos == QoS::AtMostOnce;
        if !routed.places.iter().any(|(copy, ..)| own(copy)) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        routed.places.retain(|(copy, number, _)| {
            let held = own(copy)
                && session
                    .receiving
                    .behind(serial, copy.clone().queued(*number, None, message, Position::START));
            !held
        });
    }

    /// Delivers a message to those that [`Shard::place`] found.
    pub(super) fn hand_out(
        &mut self,
        message: &Arc<Message>,
        routed: Routed,
        now: Time,
        out: &mut Outbox,
    ) {
        let Routed { ready, mut places, .. } = routed;
        for (copy, number, key) in places.drain(..) {
            self.deliver(copy, number, key, message, ready, now, out);
        }
        if places.capacity() <= PLACES_KEPT {
            self.places = places;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call each in route and in retained replay")]
    pub(super) fn deliver(
        &mut self,
        copy: Copy,
        number: u64,
        key: Option<Bytes>,
        message: &Arc<Message>,
        ready: Position,
        now: Time,
        out: &mut Outbox,
    ) {
        let session = copy.session;
        let queued = copy.queued(number, key, message, ready);
        self.drive(session, now, out, |session, cx| match session.offer(queued, cx) {
            Offered::Sent => Pumped::default(),
            Offered::Taken | Offered::Dropped => session.pump(cx),
        });
    }

    /// Retained messages for one subscription: to be kept and sent like any other message, and not
    /// before they are safe themselves, at `ready`.
    pub(super) fn replay_retained(
        &mut self,
        copies: Vec<(Copy, Arc<Message>)>,
        mut ready: Position,
        now: Time,
        out: &mut Outbox,
    ) {
        let mut ops = Vec::new();
        let mut deliveries = Vec::with_capacity(copies.len());
        for (copy, message) in copies {
            let number = self.ledger.number(out);
            let Ok(key) = self.queue_row(&copy, number, &message, &mut ops, out) else { continue };
            ops.extend(key.clone().map(|key| Op::Put { key, value: message.to_bytes() }));
            deliveries.push((copy, number, key, message));
        }
        if !ops.is_empty() {
            ready = self.ledger.append(ops, true, out);
        }
        for (copy, number, key, message) in deliveries {
            self.deliver(copy, number, key, &message, ready, now, out);
        }
    }

    /// Routes a message that no Client waits for: a will, or one of a service. `row` is kept along
    /// with it, if anything is and no other shard has a part; else `waiter` hears of each part.
    pub(super) fn publish_own(
        &mut self,
        message: &Arc<Message>,
        publisher: Option<SessionId>,
        row: Option<Op>,
        waiter: Option<Waiter>,
        now: Time,
        out: &mut Outbox,
    ) -> Kept {
        let mut parts = 0;
        let mut ops = Vec::new();
        if message.retain {
            if self.owns(&message.topic) {
                match self.router.retained.set(message, &self.limits) {
                    Ok(op) => ops.extend(op),
                    Err(RetainedFull(bound)) => {
                        self.counters.add(bound, 1);
                        self.counters.add(Metric::DroppedRetainedFull, 1);
                    }
                }
            } else {
                parts += 1;
                let token = waiter.map(|waiter| self.token(waiter));
                let shard = self.owner(&message.topic);
                let message = PeerMessage::Retain { message: Arc::clone(message), token };
                out.post(shard, message);
            }
        }
        self.find(message, publisher, None);
        let mut others = std::mem::take(&mut self.interested);
        self.router.interested(&message.topic, &mut others);
        parts += self.hands.len() + others.len();
        let keep = row.filter(|_| parts == 0).map_or(Keep::Nothing, Keep::Known);
        let routed = self.place(message, ops, keep, out);
        let kept = match (parts, routed.ready) {
            (0, Position::START) => Kept::Nothing,
            (0, _) => Kept::Here,
            _ => Kept::Elsewhere(parts),
        };
        self.hand_out(message, routed, now, out);
        self.hand_over(message, false, waiter, None, out);
        for shard in others.drain(..) {
            let token = waiter.map(|waiter| self.token(waiter));
            let message = Arc::clone(message);
            let (only, origin) = (false, None);
            let message = PeerMessage::Publish { message, publisher, token, only, origin };
            out.post(shard, message);
        }
        self.interested = others;
        kept
    }

    /// Another shard's message for sessions of this one.
    #[expect(clippy::too_many_arguments, reason = "the fields of one peer message")]
    pub(super) fn publish_from_peer(
        &mut self,
        from: ShardId,
        message: &Arc<Message>,
        publisher: Option<SessionId>,
        (token, only): (Option<u64>, bool),
        origin: Option<&Origin>,
        now: Time,
        out: &mut Outbox,
    ) {
        self.find(message, publisher, origin.and_then(|it| it.reached.as_deref()));
        if only && token.is_some() && self.hands.is_empty() && self.is_full(message) {
            self.owe(from, token, Position::START, ReasonCode::QuotaExceeded, out);
            return;
        }
        let only = only && self.hands.len() == 1 && self.copies.is_empty();
        let waits = self.hands.len();
        let (position, reason) = self.route(message, Vec::new(), origin, now, out);
        if waits == 0 {
            self.owe(from, token, position, reason, out);
            return;
        }
        let waiter =
            token.map(|token| self.relay(Relay { shard: from, token, waits, position, reason }));
        self.hand_over(message, only, waiter, origin, out);
    }

    /// Tells another shard that its part is done, as soon as it is safe.
    pub(super) fn owe(
        &mut self,
        shard: ShardId,
        token: Option<u64>,
        position: Position,
        reason: ReasonCode,
        out: &mut Outbox,
    ) {
        if let Some(token) = token {
            self.tell_stored(shard, position, PeerMessage::Taken { token, reason }, out);
        }
    }

    /// Tells another shard something as soon as `position` is safe, in order.
    pub(super) fn tell_stored(
        &mut self,
        shard: ShardId,
        position: Position,
        message: PeerMessage,
        out: &mut Outbox,
    ) {
        if self.owed.is_empty() && self.ledger.is_stored(position) {
            out.post(shard, message);
        } else {
            self.owed.push_back(Owed { position, shard, message });
        }
    }
}

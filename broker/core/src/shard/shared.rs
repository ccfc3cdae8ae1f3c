//! Shared Subscriptions (§4.8.2): joining a group, being chosen, and what a member leaves behind.
//!
//! The owner of a group chooses; the shard of the chosen session takes the message over, and only
//! that answers the publisher. A session that cannot take it sends it back to the owner.

use std::sync::Arc;

use bytes::Bytes;

use super::{Shard, Waiter};
use crate::codec::{QoS, ReasonCode};
use crate::hook::SessionId;
use crate::message::Message;
use crate::output::Outbox;
use crate::peer::{Member, PeerMessage, Standing};
use crate::reach::{Origin, Reach};
use crate::record::{Op, Position};
use crate::router::{Chosen, Copy};
use crate::session::{Subscription, worse};
use crate::slot::ShardId;
use crate::time::Time;
use crate::topic::TopicFilter;

/// What another shard waits for while this one waits for others.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) shard: ShardId,
    pub(super) token: u64,
    /// How many have still to say that they have done their part.
    pub(super) waits: usize,
    pub(super) position: Position,
    pub(super) reason: ReasonCode,
}

impl Shard {
    /// A session of this shard joins a group or changes how. The shard that owns the group, if it
    /// is another one; `Err` if it is this one, and whether it hears something new by it.
    pub(super) fn join(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        subscription: Subscription,
    ) -> Result<(ShardId, Member), bool> {
        let mut standing = Standing::Away;
        if let Some(session) = self.sessions.get_mut(&id) {
            standing = session.told.unwrap_or_else(|| session.standing(&self.limits));
            session.told = Some(standing);
        }
        let member = Member { qos: subscription.qos, standing };
        let owner = self.owner(filter.as_str());
        if owner == self.id {
            return Err(self.router.join(filter, id, owner, member));
        }
        Ok((owner, member))
    }

    /// A session of this shard leaves a group.
    pub(super) fn leave(&mut self, id: SessionId, filter: &TopicFilter, out: &mut Outbox) {
        let owner = self.owner(filter.as_str());
        if owner == self.id {
            self.left_group(id, filter, out);
        } else {
            let filter = filter.clone();
            let message = PeerMessage::Member { filter, session: id, member: None, token: None };
            out.post(owner, message);
        }
    }

    fn left_group(&mut self, id: SessionId, filter: &TopicFilter, out: &mut Outbox) {
        if self.router.leave(filter, id) && self.shards > 1 {
            self.announce(&filter.unshared(), false, None, out);
        }
    }

    /// Another shard's session joins a group of this one, changes how, or leaves it.
    pub(super) fn member(
        &mut self,
        from: ShardId,
        filter: &TopicFilter,
        session: SessionId,
        member: Option<Member>,
        token: Option<u64>,
        out: &mut Outbox,
    ) {
        let Some(member) = member else {
            self.left_group(session, filter, out);
            return;
        };
        let heard = filter.unshared();
        let first = self.router.join(filter, session, from, member);
        // While others are still being told for somebody else, this member has to wait as well.
        let to_tell = first || token.is_some() && self.announced.contains_key(&heard);
        if !to_tell || self.shards == 1 {
            self.owe(from, token, Position::START, ReasonCode::Success, out);
            return;
        }
        let waits = usize::from(self.shards - 1);
        let reason = ReasonCode::Success;
        let position = Position::START;
        let waiter =
            token.map(|token| self.relay(Relay { shard: from, token, waits, position, reason }));
        self.announce(&heard, true, waiter, out);
    }

    pub(super) fn relay(&mut self, relay: Relay) -> Waiter {
        self.next_token += 1;
        self.relays.insert(self.next_token, relay);
        Waiter::Relay(self.next_token)
    }

    /// A part of what another shard waits for is done.
    pub(super) fn relayed(
        &mut self,
        number: u64,
        reason: ReasonCode,
        position: Position,
        out: &mut Outbox,
    ) {
        let Some(relay) = self.relays.get_mut(&number) else { return };
        relay.waits = relay.waits.saturating_sub(1);
        relay.reason = worse(relay.reason, reason);
        relay.position = relay.position.max(position);
        if relay.waits == 0
            && let Some(relay) = self.relays.remove(&number)
        {
            self.owe(relay.shard, Some(relay.token), relay.position, relay.reason, out);
        }
    }

    /// Finds the members that get a message: those of this shard with [`Shard::find`]'s copies, the
    /// others to be handed it.
    pub(super) fn find_members(&mut self, message: &Message, reached: Option<&Reach>) {
        let mut chosen = std::mem::take(&mut self.chosen);
        self.router.groups.choose(&message.topic, message.qos, &mut chosen);
        for it in chosen.drain(..) {
            if reached.is_some_and(|reached| reached.groups.contains(&it.filter)) {
                continue;
            }
            self.assign(it, message);
        }
        self.chosen = chosen;
    }

    /// Takes note of the member that gets a message: the one chosen, or one with room.
    fn assign(&mut self, mut chosen: Chosen, message: &Message) {
        while chosen.shard == self.id {
            let Chosen { filter, session, last, .. } = &chosen;
            let Some(copy) = self.copy_for(filter, *session, message) else { return };
            if *last || copy.qos == QoS::AtMostOnce || self.has_room(&copy, message) {
                self.copies.push(copy);
                return;
            }
            if let Some(session) = self.sessions.get_mut(session) {
                session.told = Some(Standing::Full);
            }
            self.router.groups.set_standing(filter, *session, Standing::Full);
            match self.router.groups.choose_in(filter, message.qos) {
                Some(next) => chosen = next,
                None => return,
            }
        }
        self.hands.push(chosen);
    }

    /// What a session of this shard gets of a message by a Shared Subscription, if it has that.
    fn copy_for(&self, filter: &TopicFilter, id: SessionId, message: &Message) -> Option<Copy> {
        let subscription = if let Some(session) = self.sessions.get(&id) {
            session.subscriptions.get(filter)?
        } else {
            let mut all = self.offline.get(&id)?.subscriptions.iter();
            &all.find(|(its, _)| its == filter)?.1
        };
        let share = Some(filter.clone());
        Some(Copy { share, ..Copy::new(message.into(), id, subscription) })
    }

    /// Hands a message to the shards of the members that [`Shard::find`] found elsewhere.
    pub(super) fn hand_over(
        &mut self,
        message: &Arc<Message>,
        only: bool,
        waiter: Option<Waiter>,
        origin: Option<&Origin>,
        out: &mut Outbox,
    ) {
        let mut hands = std::mem::take(&mut self.hands);
        for chosen in hands.drain(..) {
            let token = waiter.map(|waiter| self.token(waiter));
            hand(chosen, message, (token, only), origin.cloned(), out);
        }
        self.hands = hands;
    }

    /// A session of this shard was chosen by another one.
    #[expect(clippy::too_many_arguments, reason = "the fields of one peer message")]
    pub(super) fn handed(
        &mut self,
        from: ShardId,
        filter: TopicFilter,
        id: SessionId,
        message: Arc<Message>,
        (token, only, last): (Option<u64>, bool, bool),
        origin: Option<Origin>,
        now: Time,
        out: &mut Outbox,
    ) {
        let copy = self.copy_for(&filter, id, &message);
        let full = copy
            .as_ref()
            .is_some_and(|it| it.qos > QoS::AtMostOnce && !self.has_room(it, &message));
        if full && last && only && token.is_some() {
            self.owe(from, token, Position::START, ReasonCode::QuotaExceeded, out);
            return;
        }
        let taken = copy.filter(|_| !full || last);
        let Some(copy) = taken else {
            if full {
                self.tell_standing(id, Standing::Full, out);
            }
            let message = PeerMessage::Returned { filter, message, token, only, origin };
            out.post(from, message);
            return;
        };
        self.copies.clear();
        // As in `skip_reached`: what may be lost was perhaps delivered before the crash.
        let again = origin.as_ref().is_some_and(|it| it.reached.is_some());
        if !(again && copy.qos == QoS::AtMostOnce) {
            self.copies.push(copy);
        }
        let (ready, reason) = self.route(&message, Vec::new(), origin.as_ref(), now, out);
        self.owe(from, token, ready, reason, out);
    }

    /// Somebody else of a group is to get a message. `token`: what to settle here when it is done.
    /// `gone`: the row it has here; in one record with the new one, if that is here as well.
    #[expect(clippy::too_many_arguments, reason = "the fields of a peer message, and a row")]
    pub(super) fn choose_again(
        &mut self,
        filter: &TopicFilter,
        message: &Arc<Message>,
        (token, only): (Option<u64>, bool),
        gone: Option<Op>,
        origin: Option<Origin>,
        now: Time,
        out: &mut Outbox,
    ) {
        self.copies.clear();
        self.hands.clear();
        if let Some(chosen) = self.router.groups.choose_in(filter, message.qos) {
            self.assign(chosen, message);
        }
        if let Some(chosen) = self.hands.pop() {
            hand(chosen, message, (token, only), origin, out);
            return;
        }
        let mut done = (Position::START, ReasonCode::QuotaExceeded);
        if !(only && token.is_some() && self.is_full(message)) {
            let gone = gone.filter(|_| !self.copies.is_empty());
            done = self.route(message, gone.into_iter().collect(), origin.as_ref(), now, out);
        }
        if let Some(token) = token {
            self.settle(token, done.1, done.0, now, out);
        }
    }

    /// A message that a member's session left: to the owner of its group.
    pub(super) fn leave_to_others(
        &mut self,
        filter: TopicFilter,
        message: Arc<Message>,
        token: Option<u64>,
        row: Option<Bytes>,
        now: Time,
        out: &mut Outbox,
    ) {
        let owner = self.owner(filter.as_str());
        if owner == self.id {
            let gone = row.map(|key| Op::Delete { key });
            self.choose_again(&filter, &message, (token, false), gone, None, now, out);
        } else {
            let message = PeerMessage::Left { filter, message, token };
            out.post(owner, message);
        }
    }

    /// A message that the session of a member on another shard left.
    pub(super) fn left(
        &mut self,
        from: ShardId,
        filter: &TopicFilter,
        message: &Arc<Message>,
        token: Option<u64>,
        now: Time,
        out: &mut Outbox,
    ) {
        let token = token.map(|token| {
            let (position, reason) = (Position::START, ReasonCode::Success);
            let relay = self.relay(Relay { shard: from, token, waits: 1, position, reason });
            self.token(relay)
        });
        self.choose_again(filter, message, (token, false), None, None, now, out);
    }

    /// Tells the owners of a session's groups how much it can take, where that has changed.
    pub(super) fn note_standing(&mut self, id: SessionId, out: &mut Outbox) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.told.is_none() || session.opening.is_some() {
            return;
        }
        let standing = session.standing(&self.limits);
        if session.told != Some(standing) {
            self.tell_standing(id, standing, out);
        }
    }

    /// Tells the owners of a session's groups how much it can take.
    pub(super) fn tell_standing(&mut self, id: SessionId, standing: Standing, out: &mut Outbox) {
        let shared = |(filter, subscription): (&TopicFilter, &Subscription)| {
            filter.share().is_some().then(|| (filter.clone(), subscription.qos))
        };
        let groups: Vec<(TopicFilter, QoS)> = if let Some(session) = self.sessions.get_mut(&id) {
            session.told = Some(standing);
            session.subscriptions.iter().filter_map(shared).collect()
        } else if let Some(offline) = self.offline.get(&id) {
            offline.subscriptions.iter().filter_map(|(it, with)| shared((it, with))).collect()
        } else {
            return;
        };
        for (filter, qos) in groups {
            let owner = self.owner(filter.as_str());
            if owner == self.id {
                self.router.groups.set_standing(&filter, id, standing);
            } else {
                let member = Some(Member { qos, standing });
                let message = PeerMessage::Member { filter, session: id, member, token: None };
                out.post(owner, message);
            }
        }
    }
}

fn hand(
    chosen: Chosen,
    message: &Arc<Message>,
    (token, only): (Option<u64>, bool),
    origin: Option<Origin>,
    out: &mut Outbox,
) {
    let Chosen { filter, session, shard, last } = chosen;
    let message = Arc::clone(message);
    let message = PeerMessage::Hand { filter, session, message, token, only, last, origin };
    out.post(shard, message);
}

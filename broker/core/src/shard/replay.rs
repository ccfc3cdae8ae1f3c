//! Retained messages for new subscriptions (§3.8.4), a piece at a time.
//!
//! A SUBSCRIBE of a few bytes may ask for all retained messages there are. So they come in pieces
//! that cost little, one behind the other: between two pieces the others have their turn, and the
//! next one is not looked for before the Client has taken the last. What waits for a Client is a
//! place for each filter ([`Replay`]), and a piece at the most.
//!
//! A piece is what is retained when it is looked for. All publishers route to the subscription before
//! the first piece, and tell a topic's owner of a new value before anybody else: so what is found is
//! never older than what was routed here before it was asked for. What is routed while another shard
//! is asked may be newer than its answer, and is noted: [`Asked::passed`].
//!
//! A session that outlives its connection goes on where it was when the connection ended. Its
//! subscription's row says that there are some to come, for a crash: then it begins again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Shard;
use crate::codec::QoS;
use crate::hook::SessionId;
use crate::message::Message;
use crate::output::{Outbox, Output};
use crate::peer::PeerMessage;
use crate::record::{Op, Position};
use crate::router::{Copy, Room};
use crate::session::{Replay, Replays, Session, rows};
use crate::slot::ShardId;
use crate::time::Time;
use crate::topic::TopicFilter;

/// A question for retained messages that another shard has to answer.
#[derive(Debug)]
pub(super) struct Asked {
    token: u64,
    filter: TopicFilter,
    /// What the answer is for; `None`: nobody wants it any more.
    replay: Option<Replay>,
    /// The answer says nothing: it is to be asked again.
    stale: bool,
    /// Topics of which a newer retained message was routed here meanwhile.
    passed: BTreeSet<Box<str>>,
}

/// How many topics a question remembers; it is open for as long as a message takes to the next
/// thread and back. Where there are more it is asked again.
const PASSED_MAX: usize = 4_096;

/// How many questions for retained messages other shards answer for a session at a time; those with
/// wildcards one alone.
const ASKED_MAX: usize = 8;

impl Asked {
    fn weight(filter: &TopicFilter) -> usize {
        if filter.has_wildcard() { ASKED_MAX } else { 1 }
    }
}

impl Shard {
    /// Sends the retained messages of new subscriptions, from this shard and the others.
    pub(super) fn send_retained(
        &mut self,
        id: SessionId,
        filters: &[TopicFilter],
        now: Time,
        out: &mut Outbox,
    ) {
        if filters.is_empty() {
            return;
        }
        for filter in filters {
            // Another shard that was asked before is asked again, and at once: what is published from
            // now on is no part of the answer.
            let asked = self.retained_asked.get_mut(&id).into_iter().flatten();
            let mut asked = asked.filter(|it| it.filter == *filter);
            let before = asked.find_map(|it| it.replay.take());
            if let Some(session) = self.sessions.get_mut(&id) {
                session.sending.replays.begin(filter, before.is_some_and(|it| it.noted));
            }
        }
        self.go_on_replaying(id, now, out);
    }

    /// Sends what waits for the Client, and then the next retained messages if it has taken the last.
    pub(super) fn go_on_replaying(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // Aside, or they would ask for their turn now.
        let replays = std::mem::take(&mut session.sending.replays);
        self.advance(id, now, out);
        self.replay_some(id, replays, now, out);
    }

    /// Sends a turn's worth of `replays`, which nobody finds with the session meanwhile.
    fn replay_some(&mut self, id: SessionId, mut replays: Replays, now: Time, out: &mut Outbox) {
        let mut room = Room::of_a_turn(&self.limits);
        while !room.is_used()
            && let Some(most) = self.replay_room(id, replays.first())
            && let Some(replay) = replays.take_first()
        {
            room.messages = room.messages.min(most);
            if let Some(unfinished) = self.replay(id, replay, &mut room, now, out) {
                replays.put_first(unfinished);
            }
        }
        self.note_replays(id, &mut replays, out);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.sending.replays = replays;
        }
        self.replay_in_turn(id, out);
    }

    /// How many more retained messages the Client is ready for, if it is for this replay.
    fn replay_room(&self, id: SessionId, next: Option<&Replay>) -> Option<usize> {
        let (session, next) = (self.sessions.get(&id)?, next?);
        if session.opening.is_some() || session.link.is_held_back() {
            return None;
        }
        let asked = self.retained_asked.get(&id).into_iter().flatten();
        let asked: usize = asked.map(|it| Asked::weight(&it.filter)).sum();
        let elsewhere = self.next_shard(next).is_some_and(|shard| shard != self.id);
        let more = if elsewhere { Asked::weight(&next.filter) } else { 1 };
        if asked + more > ASKED_MAX {
            return None;
        }
        session.sending.room_for_retained(self.queue_bounds(id))
    }

    /// The shard whose retained messages come next.
    fn next_shard(&self, replay: &Replay) -> Option<ShardId> {
        if replay.filter.has_wildcard() {
            let next = || ShardId((self.id.0 + replay.shards) % self.shards);
            (replay.shards < self.shards).then(next)
        } else {
            (replay.shards == 0).then(|| self.owner(replay.filter.as_str()))
        }
    }

    /// Has the shell come back for what is still to come, once the Client has taken what it got and
    /// the others had their turn.
    pub(super) fn replay_in_turn(&mut self, id: SessionId, out: &mut Outbox) {
        let next = self.sessions.get(&id).and_then(|it| it.sending.replays.first());
        if next.is_some()
            && self.replay_room(id, next).is_some()
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.link.throttled = true;
            out.outputs.push(Output::Throttled { connection: session.link.connection });
        }
    }

    /// Sends a piece, or asks for one. What is to go on in this turn or the next.
    fn replay(
        &mut self,
        id: SessionId,
        mut replay: Replay,
        room: &mut Room,
        now: Time,
        out: &mut Outbox,
    ) -> Option<Replay> {
        let session = self.sessions.get(&id)?;
        // It ended with its subscription.
        session.subscriptions.get(&replay.filter)?;
        let next = self.next_shard(&replay);
        let system = self.send_system(id, &replay.filter, room, now, out);
        // There may be some, from a time when they were offered.
        let Some(shard) = next.filter(|_| !system && self.limits.offers.retain) else {
            self.replayed(id, &replay, out);
            return None;
        };
        if shard != self.id {
            self.ask(id, shard, replay, room.messages, out);
            return None;
        }
        let after = replay.after.as_deref();
        let (messages, after) = self.router.retained.piece(&replay.filter, after, room, now);
        let ready = self.ledger.last_urgent();
        self.retained_found(id, &replay.filter, messages, ready, now, out);
        replay.advance(after);
        if self.next_shard(&replay).is_none() {
            self.replayed(id, &replay, out);
            return None;
        }
        Some(replay)
    }

    fn ask(
        &mut self,
        id: SessionId,
        shard: ShardId,
        replay: Replay,
        messages_max: usize,
        out: &mut Outbox,
    ) {
        self.next_token += 1;
        let (token, session, filter) = (self.next_token, id, replay.filter.clone());
        let after = replay.after.clone();
        let message = PeerMessage::RetainedWanted { filter, after, session, token, messages_max };
        out.post(shard, message);
        let (filter, replay, passed) = (replay.filter.clone(), Some(replay), BTreeSet::new());
        let asked = Asked { token, filter, replay, stale: false, passed };
        self.retained_asked.entry(id).or_default().push(asked);
    }

    /// Notes that a retained message was routed here: what other shards were asked for before may
    /// be older, and must not come after it.
    pub(super) fn note_retained_passed(&mut self, topic: &str) {
        for asked in self.retained_asked.values_mut().flatten() {
            if asked.filter.matches(topic) {
                asked.stale |= asked.passed.len() >= PASSED_MAX;
                if !asked.stale {
                    asked.passed.insert(topic.into());
                }
            }
        }
    }

    /// Another shard asks for retained messages.
    pub(super) fn retained_wanted(
        &mut self,
        from: ShardId,
        filter: &TopicFilter,
        after: Option<&str>,
        (session, token, messages_max): (SessionId, u64, usize),
        now: Time,
        out: &mut Outbox,
    ) {
        let mut room = Room::of_a_turn(&self.limits);
        room.messages = room.messages.min(messages_max);
        let (messages, after) = self.router.retained.piece(filter, after, &mut room, now);
        let message = PeerMessage::Retained { session, token, messages, after };
        // Nobody hears of what a crash could take back.
        self.tell_stored(from, self.ledger.last_urgent(), message, out);
    }

    /// Another shard's retained messages.
    pub(super) fn retained_answered(
        &mut self,
        id: SessionId,
        token: u64,
        mut messages: Vec<Arc<Message>>,
        after: Option<Box<str>>,
        now: Time,
        out: &mut Outbox,
    ) {
        // Every question is answered once, also where its session is over by now.
        let Some(all) = self.retained_asked.get_mut(&id) else { return };
        let Some(index) = all.iter().position(|it| it.token == token) else { return };
        let Asked { replay, stale, passed, .. } = all.swap_remove(index);
        if all.is_empty() {
            self.retained_asked.remove(&id);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut replays = std::mem::take(&mut session.sending.replays);
        if let Some(mut replay) = replay {
            if !stale {
                messages.retain(|message| !passed.contains(&message.topic));
                self.retained_found(id, &replay.filter, messages, Position::START, now, out);
                replay.advance(after);
            }
            replays.put_first(replay);
        }
        self.replay_some(id, replays, now, out);
    }

    /// Retained messages for a subscription, which may have changed meanwhile: safe at `ready`.
    fn retained_found(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        messages: Vec<Arc<Message>>,
        ready: Position,
        now: Time,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(subscription) = session.subscriptions.get(filter).copied() else { return };
        let copies = messages
            .into_iter()
            .map(|message| {
                let qos: QoS = message.qos.min(subscription.qos);
                let subscription_id = subscription.id;
                (Copy { session: id, qos, retain: true, subscription_id, share: None }, message)
            })
            .collect();
        self.replay_retained(copies, ready, now, out);
    }

    /// Notes with the subscriptions that there are some to come, where a crash must not end it: where
    /// a queue, if it had them all, would be kept as well.
    fn note_replays(&mut self, id: SessionId, replays: &mut Replays, out: &mut Outbox) {
        let Some(session) = self.sessions.get(&id) else { return };
        let ops = unnoted(session, replays);
        if !ops.is_empty() {
            self.ledger.append(ops, true, out);
        }
    }

    /// All retained messages of a subscription were sent.
    fn replayed(&mut self, id: SessionId, replay: &Replay, out: &mut Outbox) {
        let Some(session) = self.sessions.get(&id).filter(|_| replay.noted) else { return };
        let filter = &replay.filter;
        if let Some(subscription) = session.subscriptions.get(filter) {
            let row = rows::subscription(session.slot, id, filter.as_str(), *subscription, false);
            // A crash before that is stored has them come once more.
            self.ledger.append([row], false, out);
        }
    }

    /// Whether the row of a subscription is to say that retained messages are still to come.
    pub(super) fn is_replay_noted(&self, id: SessionId, filter: &TopicFilter) -> bool {
        let asked = self.retained_asked.get(&id).into_iter().flatten();
        let asked = asked.filter_map(|it| it.replay.as_ref());
        let waiting = self.sessions.get(&id).into_iter().flat_map(|it| it.sending.replays.iter());
        asked.chain(waiting).any(|it| it.filter == *filter && it.noted)
    }

    /// The Client does not want the retained messages of a filter any more.
    pub(super) fn forget_replay(&mut self, id: SessionId, filter: &TopicFilter) {
        for (_, unanswered) in self.retained_after.range_mut((id, 0)..=(id, u64::MAX)) {
            unanswered.retain(|it| it != filter);
        }
        for asked in self.retained_asked.get_mut(&id).into_iter().flatten() {
            if asked.filter == *filter {
                asked.replay = None;
            }
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.sending.replays.retain(|it| it.filter != *filter);
        }
    }

    /// The connection of a session is over: answers are to nobody. What is left to the next one are
    /// messages that would wait in its queue; QoS 0 ends with its connection.
    pub(super) fn recall_replays(&mut self, id: SessionId) {
        let asked = self.retained_asked.get_mut(&id).into_iter().flatten();
        let recalled: Vec<Replay> = asked.filter_map(|it| it.replay.take()).collect();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Session { sending, subscriptions, .. } = &mut **session;
        recalled.into_iter().for_each(|replay| sending.replays.put_first(replay));
        let qos = |it: &Replay| subscriptions.get(&it.filter).map(|it| it.qos);
        sending.replays.retain(|it| qos(it) > Some(QoS::AtMostOnce));
    }
}

/// Notes those that have to be: what is to be stored for it.
pub(super) fn unnoted(session: &Session, replays: &mut Replays) -> Vec<Op> {
    let Session { id, slot, subscriptions, .. } = session;
    if !session.is_persistent() {
        return Vec::new();
    }
    let mut ops = Vec::new();
    for replay in replays.iter_mut().filter(|it| !it.noted) {
        let filter = &replay.filter;
        let subscription = subscriptions.get(filter).filter(|it| it.qos > QoS::AtMostOnce);
        if let Some(subscription) = subscription {
            ops.push(rows::subscription(*slot, *id, filter.as_str(), *subscription, true));
            replay.noted = true;
        }
    }
    ops
}

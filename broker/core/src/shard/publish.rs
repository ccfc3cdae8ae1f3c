//! PUBLISH from a Client: who may, who takes it over, and when the Client hears so.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Owed, Shard};
use crate::codec::{Publish, QoS, ReasonCode, Version};
use crate::hook::{AnswerToken, Event, ServiceEvent, SessionId, Verdict};
use crate::message::{Message, MessageId};
use crate::output::{CloseCause, Outbox, Output};
use crate::peer::PeerMessage;
use crate::protocol_error::ProtocolError;
use crate::record::{Op, Position};
use crate::router::Copy;
use crate::session::{Pumped, Queued, Received, ReplyKind, rows};
use crate::slot::{ShardId, Slot};
use crate::time::Time;

/// A session whose queue is full, and nothing in it that could make room.
#[derive(Debug, Clone, Copy)]
struct NoRoom;

/// What became of a message on this shard.
#[derive(Debug)]
struct Routed {
    /// Safe here when this is stored.
    ready: Position,
    /// Somebody on this shard gets it.
    matched: bool,
    /// Who gets it: the number of each copy, and the row it has.
    places: Vec<(Copy, u64, Option<Bytes>)>,
}

impl Shard {
    /// A PUBLISH (§3.3).
    pub(super) fn publish(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        let receive_maximum = self.limits.receive_maximum;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let topic = match session.receive(publish, receive_maximum)? {
            Received::New(topic) => topic,
            Received::Repeat => {
                if let Some(packet_id) = publish.packet_id {
                    self.with(id, now, out, |session, cx| session.answer_repeat(packet_id, cx));
                }
                return Ok(());
            }
        };
        let publish = &Publish { topic: &topic, ..*publish };
        if let Err(reason) = self.may_publish(id, publish) {
            return self.answer_publish(id, publish, Err(reason), now, out);
        }
        if let Some(service) = self.services.owner(publish.topic) {
            self.publish_to_service(id, service, publish, now, out);
            return Ok(());
        }
        let message = match self.intercepted(id, publish, now, out) {
            Ok(message) => Arc::new(message),
            Err(reason) => return self.answer_publish(id, publish, Err(reason), now, out),
        };
        self.observe_published(&message, out);
        self.distribute(id, publish, &message, now, out)
    }

    /// Whether the bounds and the rights allow it.
    fn may_publish(&self, id: SessionId, publish: &Publish<'_>) -> Result<(), ReasonCode> {
        if self.limits.topic.check(publish.topic).is_err() {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if publish.topic.starts_with('$') {
            return Err(ReasonCode::NotAuthorized);
        }
        let mut properties = 0_usize;
        let mut bytes = 0_usize;
        for (name, value) in publish.properties.user_properties() {
            properties += 1;
            bytes += name.len() + value.len();
        }
        if properties > self.limits.user_properties_max
            || bytes > self.limits.user_property_bytes_max
            || (publish.retain && publish.payload.len() > self.limits.retained_message_bytes_max)
        {
            return Err(ReasonCode::QuotaExceeded);
        }
        let (Some(rights), Some(session)) = (&self.hooks.authorize, self.sessions.get(&id)) else {
            return Ok(());
        };
        match rights.publish(&session.client(), publish.topic) {
            Verdict::Allow => Ok(()),
            Verdict::Deny(reason) => Err(reason),
        }
    }

    fn publish_to_service(
        &mut self,
        id: SessionId,
        service: u8,
        publish: &Publish<'_>,
        now: Time,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let note = session.is_persistent();
        let token = publish.packet_id.map(|packet_id| {
            let kind = reply_kind(publish.qos, note);
            let serial = session.receiving.expect(kind, packet_id, Position::START, 1);
            session.receiving.note_service(serial);
            AnswerToken { session: id, serial }
        });
        let who = session.who();
        let event =
            ServiceEvent::Published { session: Some(id), client: who.client(), publish, token };
        self.call(service, event, now, out);
    }

    /// The message, as the interceptors left it.
    fn intercepted(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<Message, ReasonCode> {
        let number = self.ledger.number(out);
        let mut message = new_message(MessageId(number), publish, now);
        let Some(session) = self.sessions.get(&id) else { return Ok(message) };
        for interceptor in &self.hooks.intercept {
            if let Verdict::Deny(reason) = interceptor.accept(&session.client(), &mut message) {
                return Err(reason);
            }
        }
        Ok(message)
    }

    fn observe_published(&self, message: &Message, out: &mut Outbox) {
        if self.hooks.observed {
            let (message, topic) = (message.id, message.topic.clone());
            out.outputs.push(Output::Event(Event::Published { message, topic }));
        }
    }

    /// Hands a message to everybody who gets it, and arranges for the answer to the publisher.
    fn distribute(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        message: &Arc<Message>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        let mut others = std::mem::take(&mut self.interested);
        self.router.interested(&message.topic, &mut others);
        let own_retain = message.retain && self.owns(&message.topic);
        let remote_retain = message.retain && !own_retain;
        let waits = others.len() + usize::from(remote_retain);
        if others.is_empty() && self.is_full_for(message, id) {
            self.interested = others;
            let refused = Err(ReasonCode::QuotaExceeded);
            return self.answer_publish(id, publish, refused, now, out);
        }
        let mut ops = Vec::new();
        let mut ready = Position::START;
        if own_retain {
            match self.router.retained.set(message, &self.limits) {
                Ok(Some(op)) => ops.push(op),
                // It was removed already, but perhaps not for good yet.
                Ok(None) => ready = self.ledger.last(),
                Err(_) => {
                    self.interested = others;
                    let refused = Err(ReasonCode::QuotaExceeded);
                    return self.answer_publish(id, publish, refused, now, out);
                }
            }
        }
        let persistent = self.sessions.get(&id).is_some_and(|it| it.is_persistent());
        let note = persistent && publish.qos == QoS::ExactlyOnce;
        // In one record with the message, unless others have to take it over too.
        let noted = publish.packet_id.filter(|_| note && waits == 0);
        let noted = noted.and_then(|packet_id| {
            let session = self.sessions.get(&id)?;
            Some(rows::received(session.slot, id, packet_id))
        });
        let routed = self.place(message, Some(id), ops, noted, out);
        let ready = ready.max(routed.ready);
        let tokens = publish.packet_id.and_then(|packet_id| {
            let session = self.sessions.get_mut(&id)?;
            let kind = reply_kind(publish.qos, note && waits > 0);
            let waits = u16::try_from(waits).unwrap_or(u16::MAX);
            let serial = session.receiving.expect(kind, packet_id, ready, waits);
            // "Nobody listens" holds until somebody says otherwise.
            if !routed.matched {
                session.receiving.set_reason(serial, ReasonCode::NoMatchingSubscribers);
            }
            Some((id, serial))
        });
        // The answer goes before the deliveries: a Client that hears itself expects it first.
        self.release(id, now, out);
        let only = others.len() == 1 && !routed.matched;
        self.hand_out(message, routed, now, out);
        for shard in others.drain(..) {
            let token = tokens.map(|answer| self.token(answer));
            let message = Arc::clone(message);
            let message = PeerMessage::Publish { message, publisher: Some(id), token, only };
            out.outputs.push(Output::Peer { shard, message });
        }
        self.interested = others;
        if remote_retain {
            let token = tokens.map(|answer| self.token(answer));
            let shard = self.owner(&message.topic);
            let message = PeerMessage::Retain { message: Arc::clone(message), token };
            out.outputs.push(Output::Peer { shard, message });
        }
        Ok(())
    }

    /// Answers a PUBLISH at once. What MQTT 3.1.1 cannot say to a Client it is closed for, if
    /// acknowledging would be a lie; rights are none of its business.
    pub(super) fn answer_publish(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        result: Result<(), ReasonCode>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        let Some(packet_id) = publish.packet_id else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let reason = result.err().unwrap_or(ReasonCode::Success);
        if session.link.version == Version::V311 && reason == ReasonCode::QuotaExceeded {
            session.receiving.forget(packet_id);
            return Err(ProtocolError::Refused(reason).into());
        }
        let kind = reply_kind(publish.qos, false);
        let serial = session.receiving.expect(kind, packet_id, Position::START, 0);
        session.receiving.set_reason(serial, reason);
        self.release(id, now, out);
        Ok(())
    }

    /// Sends the answers of a session that are due.
    pub(super) fn release(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        let wait = self.with(id, now, out, |session, cx| session.release(cx));
        if wait == Some(true) {
            self.after(id, Pumped { wait: true, ..Pumped::default() }, out);
        }
    }

    /// The session's answer that another shard's part belongs to.
    pub(super) fn token(&mut self, answer: (SessionId, u64)) -> u64 {
        self.next_token += 1;
        self.tokens.insert(self.next_token, answer);
        self.next_token
    }

    pub(super) fn owner(&self, topic: &str) -> ShardId {
        Slot::of(topic.as_bytes()).shard(self.shards)
    }

    fn owns(&self, topic: &str) -> bool {
        self.shards == 1 || self.owner(topic) == self.id
    }

    /// Whether one session alone hears the message, and has no room for it.
    fn is_full_for(&mut self, message: &Message, publisher: SessionId) -> bool {
        let mut copies = std::mem::take(&mut self.copies);
        self.router.copies(message, Some(publisher), &mut copies);
        let full = match copies[..] {
            [copy] => copy.qos > QoS::AtMostOnce && !self.has_room(copy, message),
            _ => false,
        };
        self.copies = copies;
        full
    }

    /// Gives a message to the sessions of this shard.
    fn route(
        &mut self,
        message: &Arc<Message>,
        publisher: Option<SessionId>,
        ops: Vec<Op>,
        now: Time,
        out: &mut Outbox,
    ) -> (Position, ReasonCode) {
        let routed = self.place(message, publisher, ops, None, out);
        let reason = match routed.matched {
            true => ReasonCode::Success,
            false => ReasonCode::NoMatchingSubscribers,
        };
        let ready = routed.ready;
        self.hand_out(message, routed, now, out);
        (ready, reason)
    }

    /// Finds the sessions of this shard that get a message, and has it kept for those that need
    /// it, after `ops` and in one record with them. `noted`: kept as well, if anything has to be.
    fn place(
        &mut self,
        message: &Arc<Message>,
        publisher: Option<SessionId>,
        mut ops: Vec<Op>,
        noted: Option<Op>,
        out: &mut Outbox,
    ) -> Routed {
        let mut copies = std::mem::take(&mut self.copies);
        self.router.copies(message, publisher, &mut copies);
        if message.retain && !self.retained_asked.is_empty() {
            self.note_retained_passed(&message.topic);
        }
        let mut routed =
            Routed { ready: Position::START, matched: !copies.is_empty(), places: Vec::new() };
        let mut keys = Vec::new();
        for copy in &copies {
            let number = self.ledger.number(out);
            if let Ok(key) = self.queue_row(*copy, number, message, &mut ops) {
                keys.extend(key.clone());
                routed.places.push((*copy, number, key));
            }
        }
        match keys.len() {
            0 => {}
            1 => ops.extend(keys.pop().map(|key| Op::Put { key, value: message.to_bytes() })),
            _ => ops.push(Op::PutAll { keys, value: message.to_bytes() }),
        }
        if !ops.is_empty() {
            ops.extend(noted);
            routed.ready = self.ledger.append(ops, true, out);
        }
        self.copies = copies;
        routed
    }

    /// Delivers a message to those that [`Shard::place`] found.
    fn hand_out(&mut self, message: &Arc<Message>, routed: Routed, now: Time, out: &mut Outbox) {
        for (copy, number, key) in routed.places {
            self.deliver(copy, number, key, message, routed.ready, now, out);
        }
    }

    fn has_room(&self, copy: Copy, message: &Message) -> bool {
        let limits = &self.limits;
        let (messages, bytes) = (limits.session_queue_messages_max, limits.session_queue_bytes_max);
        if let Some(session) = self.sessions.get(&copy.session) {
            return session.sending.has_room(message.size(), messages, bytes);
        }
        self.offline
            .get(&copy.session)
            .is_none_or(|it| it.rows < messages && it.rows_bytes + message.size() <= bytes)
    }

    /// The key of the row that a copy needs: QoS 1 and 2, for a session that outlives its
    /// connection. A full queue loses its oldest message for it, where that is in memory.
    fn queue_row(
        &mut self,
        copy: Copy,
        number: u64,
        message: &Message,
        ops: &mut Vec<Op>,
    ) -> Result<Option<Bytes>, NoRoom> {
        if copy.qos == QoS::AtMostOnce {
            return Ok(None);
        }
        let full = !self.has_room(copy, message);
        let slot = if let Some(session) = self.sessions.get_mut(&copy.session) {
            if full {
                let dropped = session.sending.drop_oldest().ok_or(NoRoom)?;
                ops.extend(dropped.map(|key| Op::Delete { key }));
            }
            if !session.is_persistent() {
                return Ok(None);
            }
            session.sending.note_row(message);
            session.slot
        } else {
            let offline = self.offline.get_mut(&copy.session).ok_or(NoRoom)?;
            if full {
                return Err(NoRoom);
            }
            offline.rows += 1;
            offline.rows_bytes += message.size();
            offline.slot
        };
        let Copy { session, qos, retain, subscription_id } = copy;
        Ok(Some(rows::queued_key(slot, session, number, qos, retain, subscription_id)))
    }

    #[expect(clippy::too_many_arguments, reason = "one call each in route and in retained replay")]
    fn deliver(
        &mut self,
        copy: Copy,
        number: u64,
        key: Option<Bytes>,
        message: &Arc<Message>,
        ready: Position,
        now: Time,
        out: &mut Outbox,
    ) {
        let Copy { session, qos, retain, subscription_id } = copy;
        let message = Arc::clone(message);
        let queued =
            Queued { number, message, qos, retain, subscription_id, ready, key, tag: None };
        let pumped = self.with(session, now, out, |session, cx| {
            session.offer(queued, cx);
            session.pump(cx)
        });
        if let Some(pumped) = pumped {
            self.after(session, pumped, out);
        }
    }

    /// Retained messages for one subscription: to be kept and sent like any other message.
    pub(super) fn replay_retained(
        &mut self,
        copies: Vec<(Copy, Arc<Message>)>,
        now: Time,
        out: &mut Outbox,
    ) {
        let mut ops = Vec::new();
        let mut deliveries = Vec::with_capacity(copies.len());
        for (copy, message) in copies {
            let number = self.ledger.number(out);
            let Ok(key) = self.queue_row(copy, number, &message, &mut ops) else { continue };
            ops.extend(key.clone().map(|key| Op::Put { key, value: message.to_bytes() }));
            deliveries.push((copy, number, key, message));
        }
        let ready =
            if ops.is_empty() { Position::START } else { self.ledger.append(ops, true, out) };
        for (copy, number, key, message) in deliveries {
            self.deliver(copy, number, key, &message, ready, now, out);
        }
    }

    /// Routes a message that no Client waits for: a will, or one of a service.
    pub(super) fn publish_own(
        &mut self,
        message: &Arc<Message>,
        publisher: Option<SessionId>,
        now: Time,
        out: &mut Outbox,
    ) {
        let mut ops = Vec::new();
        if message.retain {
            if self.owns(&message.topic) {
                ops.extend(self.router.retained.set(message, &self.limits).ok().flatten());
            } else {
                let shard = self.owner(&message.topic);
                let message = PeerMessage::Retain { message: Arc::clone(message), token: None };
                out.outputs.push(Output::Peer { shard, message });
            }
        }
        self.route(message, publisher, ops, now, out);
        let mut others = std::mem::take(&mut self.interested);
        self.router.interested(&message.topic, &mut others);
        for shard in others.drain(..) {
            let message = Arc::clone(message);
            let message = PeerMessage::Publish { message, publisher, token: None, only: false };
            out.outputs.push(Output::Peer { shard, message });
        }
        self.interested = others;
    }

    /// Another shard's message for sessions of this one.
    #[expect(clippy::too_many_arguments, reason = "the fields of one peer message")]
    pub(super) fn publish_from_peer(
        &mut self,
        from: ShardId,
        message: &Arc<Message>,
        publisher: Option<SessionId>,
        token: Option<u64>,
        only: bool,
        now: Time,
        out: &mut Outbox,
    ) {
        if only
            && token.is_some()
            && publisher.is_some_and(|publisher| self.is_full_for(message, publisher))
        {
            self.owe(from, token, Position::START, ReasonCode::QuotaExceeded, out);
            return;
        }
        let (ready, reason) = self.route(message, publisher, Vec::new(), now, out);
        self.owe(from, token, ready, reason, out);
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
        let Some(token) = token else { return };
        if self.owed.is_empty() && self.ledger.is_stored(position) {
            let message = PeerMessage::Taken { token, reason };
            out.outputs.push(Output::Peer { shard, message });
        } else {
            self.owed.push_back(Owed { position, shard, token, reason });
        }
    }
}

fn reply_kind(qos: QoS, note: bool) -> ReplyKind {
    match qos {
        QoS::ExactlyOnce => ReplyKind::Pubrec { note },
        _ => ReplyKind::Puback,
    }
}

/// The Application Message that a PUBLISH carries.
fn new_message(id: MessageId, publish: &Publish<'_>, now: Time) -> Message {
    let mut properties = Vec::new();
    publish.properties.copy_forwarded(&mut properties);
    let expiry = publish.properties.message_expiry();
    Message {
        id,
        topic: publish.topic.into(),
        payload: Bytes::copy_from_slice(publish.payload),
        qos: publish.qos,
        retain: publish.retain,
        properties: properties.into(),
        accepted: now,
        expires: expiry.map(|seconds| now + Duration::from_secs(seconds.into())),
    }
}

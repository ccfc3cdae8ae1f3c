//! PUBLISH from a Client: who may, who takes it over, and when the Client hears so.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::marks::Keep;
use super::{Shard, Waiter};
use crate::admission::payload_fits;
use crate::codec::{Publish, QoS, ReasonCode, Version};
use crate::hook::{AnswerToken, Event, ServiceEvent, SessionId, Verdict};
use crate::message::{Message, MessageId};
use crate::metric::Metric;
use crate::output::{CloseCause, Outbox, Output};
use crate::peer::PeerMessage;
use crate::protocol_error::ProtocolError;
use crate::reach::{Origin, Progress, Reach};
use crate::record::Position;
use crate::router::RetainedFull;
use crate::session::{Note, Pumped, Received, ReplyKind, rows};
use crate::time::Time;

impl Shard {
    /// A PUBLISH (§3.3).
    pub(super) fn publish(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        self.counters.add(Metric::PublishReceived, 1);
        self.counters.add(Metric::PublishBytesReceived, publish.payload.len() as u64);
        if let Err(reason) = self.limits.offers.allow_message(publish.qos, publish.retain) {
            self.counters.add(Metric::refused_publish(reason), 1);
            return Err(ProtocolError::NotOffered(reason).into());
        }
        let receive_maximum = self.limits.receive_maximum;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let mut known = None;
        let topic = match session.receive(publish, receive_maximum)? {
            Received::New(topic) => topic,
            Received::Unfinished(topic, reach) => {
                known = Some(reach);
                topic
            }
            Received::Repeat => {
                if let Some(packet_id) = publish.packet_id {
                    self.with(id, now, out, |session, cx| session.answer_repeat(packet_id, cx));
                    self.release(id, now, out);
                }
                return Ok(());
            }
        };
        let publish = &Publish { topic: &topic, ..*publish };
        let reached = self.reached_before(id, publish, known, out);
        let is_text = publish.properties.payload_format();
        if !payload_fits(&self.limits, is_text, publish.payload) {
            let reason = ReasonCode::PayloadFormatInvalid;
            if publish.qos == QoS::AtMostOnce {
                self.counters.add(Metric::PublishRefusedFormat, 1);
                return Err(ProtocolError::Refused(reason).into());
            }
            return self.answer_publish(id, publish, Err(reason), now, out);
        }
        if let Err(reason) = self.may_publish(id, publish) {
            return self.answer_publish(id, publish, Err(reason), now, out);
        }
        if let Some(service) = self.services.owner(publish.topic) {
            self.publish_to_service(id, service, publish, now, out);
            return Ok(());
        }
        let found = self.may_be_express(publish);
        if found && self.express(id, publish, now, out) {
            return Ok(());
        }
        let message = match self.intercepted(id, publish, now, out) {
            Ok(message) => Arc::new(message),
            Err(reason) => return self.answer_publish(id, publish, Err(reason), now, out),
        };
        self.observe_published(&message, out);
        self.distribute(id, publish, &message, reached, found, now, out)
    }

    /// Whom the message of a QoS 2 PUBLISH has reached, if it comes again behind a crash: `known` of
    /// it here.
    fn reached_before(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        known: Option<Reach>,
        out: &mut Outbox,
    ) -> Option<Arc<Reach>> {
        let packet_id = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce)?;
        if known.is_none() && !publish.dup {
            // Who sends another message than the one that was left has lost its memory of that.
            if self.marks.reached.contains_key(&(id, packet_id)) {
                self.forget_reach(id, Some(packet_id), None, out);
            }
            return None;
        }
        let reached = self.reach_of(id, packet_id, known)?;
        self.sessions.get_mut(&id)?.receiving.note_elsewhere(packet_id);
        Some(reached)
    }

    /// Whether the bounds and the rights allow it.
    fn may_publish(&self, id: SessionId, publish: &Publish<'_>) -> Result<(), ReasonCode> {
        if let Err(error) = self.limits.topic.check(publish.topic) {
            if let Some(bound) = Metric::topic_bound(&error) {
                self.counters.add(bound, 1);
            }
            return Err(ReasonCode::TopicNameInvalid);
        }
        let mut properties = 0_usize;
        let mut bytes = 0_usize;
        for (name, value) in publish.properties.user_properties() {
            properties += 1;
            bytes += name.len() + value.len();
        }
        let retained = if publish.retain { publish.payload.len() } else { 0 };
        for (found, max, bound) in [
            (properties, self.limits.user_properties_max, Metric::LimitUserProperties),
            (bytes, self.limits.user_property_bytes_max, Metric::LimitUserPropertyBytes),
            (retained, self.limits.retained_message_bytes_max, Metric::LimitRetainedMessageBytes),
        ] {
            if found > max {
                self.counters.add(bound, 1);
                return Err(ReasonCode::QuotaExceeded);
            }
        }
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        self.may_say(&session.client(), publish.topic)
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
        let persistent = session.is_persistent();
        let token = publish.packet_id.map(|packet_id| {
            let note = if persistent { Note::Due } else { Note::Settled };
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
            out.outputs.push(Output::Event(Box::new(Event::Published { message, topic })));
        }
    }

    /// Hands a message to everybody who gets it, and arranges for the answer to the publisher.
    /// `found`: it is known who they are.
    #[expect(clippy::too_many_arguments, reason = "one call, behind the checks of `publish`")]
    fn distribute(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        message: &Arc<Message>,
        reached: Option<Arc<Reach>>,
        found: bool,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        let mut others = std::mem::take(&mut self.interested);
        self.router.interested(&message.topic, &mut others);
        let own_retain = message.retain && self.owns(&message.topic);
        let remote_retain = message.retain && !own_retain;
        if found {
            self.hands.clear();
        } else {
            self.find(message, Some(id), reached.as_deref());
        }
        let hands = self.hands.len();
        let waits = others.len() + hands + usize::from(remote_retain);
        if others.is_empty() && hands == 0 && self.is_full(message) {
            self.interested = others;
            let refused = Err(ReasonCode::QuotaExceeded);
            return self.answer_publish(id, publish, refused, now, out);
        }
        if self.disk_low && self.would_keep(id, message, waits) {
            self.counters.add(Metric::LimitDiskReserve, 1);
            self.interested = others;
            let refused = Err(ReasonCode::QuotaExceeded);
            return self.answer_publish(id, publish, refused, now, out);
        }
        let mut ops = std::mem::take(&mut self.ops);
        let mut ready = Position::START;
        if own_retain {
            match self.router.retained.set(message, &self.limits) {
                Ok(Some(op)) => ops.push(op),
                // It was removed already, but perhaps not for good yet.
                Ok(None) => ready = self.ledger.last(),
                Err(RetainedFull(bound)) => {
                    self.counters.add(bound, 1);
                    self.interested = others;
                    let refused = Err(ReasonCode::QuotaExceeded);
                    return self.answer_publish(id, publish, refused, now, out);
                }
            }
        }
        let origin = self.origin(id, publish, reached);
        let spread = others.len() + hands > 0;
        let again = origin.as_ref().is_some_and(|it| it.reached.is_some());
        let keep = match &origin {
            None => Keep::Nothing,
            Some(origin) if waits > 0 => Keep::Note(origin),
            Some(Origin { slot, packet_id, reached, .. }) => {
                let again = reached.is_some();
                let progress = if again { Progress::Elsewhere } else { Progress::Here };
                Keep::Known(rows::received(*slot, id, *packet_id, &progress))
            }
        };
        let mut routed = self.place(message, ops, keep, out);
        let ready = ready.max(routed.ready);
        let own = routed.is_for(id);
        let mut waiter = None;
        let answers_at_once = waits == 0 && self.answers_at_once(id, publish, ready);
        if let Some(packet_id) = publish.packet_id.filter(|_| !answers_at_once) {
            let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
            let noted = origin.is_some() && waits > 0;
            if noted && spread {
                session.receiving.note_elsewhere(packet_id);
            }
            let note = if noted { Note::Early } else { Note::Settled };
            let kind = reply_kind(publish.qos, note);
            let waits = u16::try_from(waits).unwrap_or(u16::MAX);
            let serial = session.receiving.expect(kind, packet_id, ready, waits);
            // "Nobody listens" holds until somebody says otherwise.
            if !routed.matched && !again {
                session.receiving.set_reason(serial, ReasonCode::NoMatchingSubscribers);
            }
            waiter =
                Some(if noted { Waiter::Noted(id, serial) } else { Waiter::Answer(id, serial) });
        }
        // The message is on its way before its publisher hears that it is: who waits for it waits
        // longer than who has sent it. A Client that hears itself expects the answer first.
        let matched = routed.matched;
        if own {
            self.answer(id, publish, answers_at_once, matched, now, out);
            self.hold_own(message, &mut routed, waiter);
        }
        self.hand_out(message, routed, now, out);
        if !own {
            self.answer(id, publish, answers_at_once, matched, now, out);
        }
        let only = others.len() + hands == 1 && !matched;
        // First: who gets the message must not find an older one retained afterwards.
        if remote_retain {
            let token = waiter.map(|waiter| self.token(waiter));
            let shard = self.owner(&message.topic);
            let message = PeerMessage::Retain { message: Arc::clone(message), token };
            out.post(shard, message);
        }
        self.hand_over(message, only, waiter, origin.as_ref(), out);
        for shard in others.drain(..) {
            let token = waiter.map(|waiter| self.token(waiter));
            let (message, publisher) = (Arc::clone(message), Some(id));
            let origin = origin.clone();
            let message = PeerMessage::Publish { message, publisher, token, only, origin };
            out.post(shard, message);
        }
        self.interested = others;
        Ok(())
    }

    /// Whether a PUBLISH of QoS 1, safe at `ready`, may be answered without waiting for anything.
    pub(super) fn answers_at_once(
        &self,
        id: SessionId,
        publish: &Publish<'_>,
        ready: Position,
    ) -> bool {
        publish.qos == QoS::AtLeastOnce
            && self.ledger.is_stored(ready)
            && self.sessions.get(&id).is_some_and(|it| !it.receiving.is_answering())
    }

    /// Sends the answer to a PUBLISH `at_once`, or whatever answers are due.
    pub(super) fn answer(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        at_once: bool,
        matched: bool,
        now: Time,
        out: &mut Outbox,
    ) {
        match publish.packet_id {
            None => {}
            Some(packet_id) if at_once => {
                let reason =
                    if matched { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
                self.with(id, now, out, |session, cx| session.send_puback(packet_id, reason, cx));
            }
            Some(_) => self.release(id, now, out),
        }
    }

    /// What is to be remembered of a QoS 2 PUBLISH, for it may come again behind a crash.
    fn origin(
        &self,
        id: SessionId,
        publish: &Publish<'_>,
        reached: Option<Arc<Reach>>,
    ) -> Option<Origin> {
        let packet_id = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce)?;
        let session = self.sessions.get(&id).filter(|it| it.is_persistent())?;
        Some(Origin { session: id, slot: session.slot, packet_id, reached })
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
        if let Err(reason) = result {
            self.counters.add(Metric::refused_publish(reason), 1);
        }
        let Some(packet_id) = publish.packet_id else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let reason = result.err().unwrap_or(ReasonCode::Success);
        if session.link.version == Version::V311 && reason == ReasonCode::QuotaExceeded {
            session.receiving.forget(packet_id);
            return Err(ProtocolError::Refused(reason).into());
        }
        // It was half taken over before a crash: that must not be left.
        let again = publish.qos == QoS::ExactlyOnce && session.receiving.is_elsewhere(packet_id);
        let kind = reply_kind(publish.qos, if again { Note::Refused } else { Note::Settled });
        let serial = session.receiving.expect(kind, packet_id, Position::START, 0);
        session.receiving.set_reason(serial, reason);
        if again {
            self.forget_first(id, packet_id, serial, out);
        }
        self.release(id, now, out);
        Ok(())
    }

    /// Sends the answers of a session that are due, and the messages that waited for a SUBACK.
    pub(super) fn release(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        let pumped = self.with(id, now, out, |session, cx| {
            let held_back = session.receiving.awaits_suback();
            let wait = session.release(cx);
            let goes_on = held_back && !session.receiving.awaits_suback();
            let mut pumped = if goes_on { session.pump(cx) } else { Pumped::default() };
            pumped.wait |= wait;
            pumped
        });
        if let Some(pumped) = pumped.filter(|pumped| *pumped != Pumped::default()) {
            self.after(id, pumped, out);
        }
        self.replay_in_turn(id, out);
    }

    /// What another shard is to repeat when it has done its part.
    pub(super) fn token(&mut self, waiter: Waiter) -> u64 {
        self.next_token += 1;
        self.tokens.insert(self.next_token, waiter);
        self.next_token
    }
}

fn reply_kind(qos: QoS, note: Note) -> ReplyKind {
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

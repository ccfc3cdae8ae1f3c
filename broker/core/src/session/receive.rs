//! PUBLISH from the Client, and the answers it gets: in the order of its requests.
//!
//! An answer waits until what it promises is true: its position is stored, other shards and services
//! have taken over their part. Answers keep the order of the requests, so one that waits holds back
//! those behind it; PINGRESP goes past them, and so do messages, but for those that a SUBSCRIBE
//! asked for: they come behind its SUBACK.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::rows;
use super::{Cx, Queued, Session};
use crate::codec::{
    Ack, Packet, PacketId, PacketKind, Properties, Publish, QoS, ReasonCode, Suback, Version,
};
use crate::protocol_error::ProtocolError;
use crate::record::Position;

/// What the Client has asked and not heard the answer to.
#[derive(Debug)]
pub(crate) struct Receiving {
    replies: VecDeque<Reply>,
    /// What they weigh together.
    weight: usize,
    /// The serial of the first of `replies`.
    first: u64,
    /// Identifiers of QoS 2 messages between PUBLISH and PUBCOMP. [MQTT-4.3.3-10]
    exactly_once: BTreeSet<PacketId>,
    /// PUBLISH packets of QoS 1 and 2 that count against the server's Receive Maximum.
    unacknowledged: usize,
    /// How many of `replies` are SUBACK.
    subacks: usize,
}

/// An answer that may still have to wait.
#[derive(Debug)]
struct Reply {
    kind: ReplyKind,
    /// What its question weighed, whatever became of it.
    weight: usize,
    packet_id: PacketId,
    reason: ReasonCode,
    properties: Bytes,
    ready: Position,
    /// How many others have still to say that they have done their part.
    waits: u16,
    /// A service is asked, which forgets the question with the connection.
    by_service: bool,
    /// It was asked on a connection that is over: what it decides holds, but nobody is told.
    silent: bool,
    /// What the Client hears of its own message with QoS 0: behind the answer.
    own: Vec<Queued>,
}

/// Which answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    Puback,
    /// `note`: the store has to know the identifier before PUBREC is sent.
    Pubrec {
        note: bool,
    },
    Pubcomp,
    Suback {
        reasons: Vec<u8>,
    },
    Unsuback {
        reasons: Vec<u8>,
    },
    /// To a question that nobody asks any more.
    Nothing,
}

impl ReplyKind {
    fn is_suback(&self) -> bool {
        matches!(self, Self::Suback { .. })
    }

    fn weight(&self) -> usize {
        match self {
            Self::Suback { reasons } | Self::Unsuback { reasons } => reasons.len(),
            _ => 1,
        }
    }
}

/// What a PUBLISH is, as far as the session can tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// A message for this topic, to be taken over.
    New(Cow<'a, str>),
    /// A repeat of a QoS 2 message that was taken over already: answered, not delivered again.
    Repeat,
}

impl Receiving {
    /// Nothing yet. Other shards may still answer what was asked in an earlier `life` of the
    /// session, so that serials never begin again.
    pub(crate) fn new(life: u64) -> Self {
        Self {
            replies: VecDeque::new(),
            weight: 0,
            first: life << 32,
            exactly_once: BTreeSet::new(),
            unacknowledged: 0,
            subacks: 0,
        }
    }

    /// Whether the session has to remember identifiers while it has no connection.
    pub(crate) fn has_exactly_once(&self) -> bool {
        !self.exactly_once.is_empty()
    }

    /// The identifiers of QoS 2 messages that were taken over, for the session to be put away; call
    /// it behind [`Receiving::begin_again`]. Identifiers of messages that were refused are forgotten.
    pub(crate) fn taken_over(&mut self) -> Vec<PacketId> {
        let mut undecided = Vec::new();
        for reply in &mut self.replies {
            if !matches!(reply.kind, ReplyKind::Pubrec { .. }) {
                continue;
            }
            if reply.waits > 0 {
                undecided.push(reply.packet_id);
                continue;
            }
            reply.kind = ReplyKind::Nothing;
            if reply.reason.is_error() {
                self.exactly_once.remove(&reply.packet_id);
            }
        }
        self.unacknowledged = self.exactly_once.len();
        self.exactly_once.iter().filter(|id| !undecided.contains(id)).copied().collect()
    }

    /// Whether others have still to take over a QoS 2 message that came on an older connection.
    pub(crate) fn is_undecided(&self) -> bool {
        self.replies.iter().any(|reply| reply.waits > 0)
    }

    /// The identifier of the PUBLISH that the answer `serial` is to, if somebody waits for it.
    pub(crate) fn refused(&mut self, serial: u64) -> Option<PacketId> {
        let reply = self.reply(serial).filter(|reply| !reply.silent)?;
        let publish = matches!(reply.kind, ReplyKind::Puback | ReplyKind::Pubrec { .. });
        let suback = usize::from(reply.kind.is_suback());
        // Whatever others still say of it, it was not taken over.
        reply.kind = ReplyKind::Nothing;
        let packet_id = reply.packet_id;
        self.subacks -= suback;
        publish.then_some(packet_id)
    }

    /// A service is asked for the answer `serial`.
    pub(crate) fn note_service(&mut self, serial: u64) {
        if let Some(reply) = self.reply(serial) {
            reply.by_service = true;
        }
    }

    /// The message of a PUBLISH that gets no answer was not taken over.
    pub(crate) fn forget(&mut self, packet_id: PacketId) {
        self.exactly_once.remove(&packet_id);
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
    }

    /// Takes back an identifier that a crash or the end of a connection left.
    pub(crate) fn restore(&mut self, id: PacketId) {
        if self.exactly_once.insert(id) {
            self.unacknowledged += 1;
        }
    }

    /// There is a new connection, or none: what was asked on the old one is answered to nobody.
    ///
    /// What becomes of a QoS 2 message still matters: the Client will repeat it, and must not be
    /// heard twice. Only a service forgets what it was asked, and is asked again.
    pub(crate) fn begin_again(&mut self) {
        for reply in &mut self.replies {
            reply.silent = true;
            reply.own.clear();
            let exactly_once = matches!(reply.kind, ReplyKind::Pubrec { .. });
            let forgotten = reply.by_service && reply.waits > 0;
            if exactly_once && !forgotten {
                continue;
            }
            if exactly_once {
                self.exactly_once.remove(&reply.packet_id);
            }
            reply.kind = ReplyKind::Nothing;
            reply.waits = 0;
            reply.ready = Position::START;
        }
        self.subacks = 0;
        while self.replies.front().is_some_and(|reply| reply.kind == ReplyKind::Nothing) {
            self.pop();
        }
        self.unacknowledged = self.exactly_once.len();
    }

    /// Expects an answer that waits for `ready` and for `waits` others; its serial.
    pub(crate) fn expect(
        &mut self,
        kind: ReplyKind,
        packet_id: PacketId,
        ready: Position,
        waits: u16,
    ) -> u64 {
        let reason = ReasonCode::Success;
        let properties = Bytes::new();
        let weight = kind.weight();
        let reply = Reply {
            kind,
            weight,
            packet_id,
            reason,
            properties,
            ready,
            waits,
            by_service: false,
            silent: false,
            own: Vec::new(),
        };
        self.weight += reply.weight;
        self.subacks += usize::from(reply.kind.is_suback());
        self.replies.push_back(reply);
        self.first + self.replies.len() as u64 - 1
    }

    /// Whether so many answers wait that the Client should not be asked for more questions.
    pub(crate) fn is_full(&self) -> bool {
        self.weight >= REPLIES_WEIGHT_MAX
    }

    /// Whether any answer waits.
    pub(crate) fn is_answering(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Whether a SUBSCRIBE was not answered yet. Messages wait for that: §3.8.4 permits them to come
    /// first, but many a Client takes what comes next for the answer.
    pub(crate) fn awaits_suback(&self) -> bool {
        self.subacks > 0
    }

    fn pop(&mut self) -> Option<Reply> {
        let reply = self.replies.pop_front()?;
        self.first += 1;
        self.weight = self.weight.saturating_sub(reply.weight);
        self.subacks -= usize::from(reply.kind.is_suback());
        Some(reply)
    }

    fn reply(&mut self, serial: u64) -> Option<&mut Reply> {
        let index = usize::try_from(serial.checked_sub(self.first)?).ok()?;
        self.replies.get_mut(index)
    }

    /// Somebody has done its part. The worst reason is what the Client hears. `true`: everybody
    /// has.
    pub(crate) fn done(
        &mut self,
        serial: u64,
        reason: ReasonCode,
        properties: Option<Bytes>,
        ready: Position,
    ) -> bool {
        let Some(reply) = self.reply(serial) else { return false };
        reply.waits = reply.waits.saturating_sub(1);
        reply.ready = reply.ready.max(ready);
        reply.reason = worse(reply.reason, reason);
        if let Some(properties) = properties {
            reply.properties = properties;
        }
        reply.waits == 0
    }

    /// Has a QoS 0 copy of the Client's own message wait for its answer; `false` if that was given.
    pub(crate) fn behind(&mut self, serial: u64, own: Queued) -> bool {
        let reply = self.reply(serial);
        reply.map(|reply| reply.own.push(own)).is_some()
    }

    /// Sets the reason of an answer before anybody was waited for.
    pub(crate) fn set_reason(&mut self, serial: u64, reason: ReasonCode) {
        if let Some(reply) = self.reply(serial) {
            reply.reason = reason;
        }
    }
}

/// Of two parts of one answer: an error before "nobody listens" before success, and "nobody" only
/// where all say so.
pub(crate) fn worse(one: ReasonCode, other: ReasonCode) -> ReasonCode {
    match (one.is_error(), other.is_error()) {
        (true, _) => one,
        (_, true) => other,
        _ if one == other => one,
        _ => ReasonCode::Success,
    }
}

impl Session {
    /// Checks a PUBLISH against the session: aliases, quota, repeats.
    pub(crate) fn receive<'a>(
        &mut self,
        publish: &Publish<'a>,
        receive_maximum: u16,
    ) -> Result<Received<'a>, ProtocolError> {
        if publish.properties.subscription_identifier().is_some() {
            return Err(ProtocolError::SubscriptionIdentifierInPublish);
        }
        let topic = match publish.properties.topic_alias() {
            None => Cow::Borrowed(publish.topic),
            Some(alias) => {
                Cow::Owned(self.link.aliases.resolve(publish.topic, alias)?.as_ref().to_owned())
            }
        };
        let Some(packet_id) = publish.packet_id else { return Ok(Received::New(topic)) };
        let receiving = &mut self.receiving;
        if publish.qos == QoS::ExactlyOnce && receiving.exactly_once.contains(&packet_id) {
            return Ok(Received::Repeat);
        }
        let unacknowledged = receiving.unacknowledged + 1;
        // MQTT 3.1.1 has no way to be told: there the socket is not read when the store lags.
        if self.link.version == Version::V5 && unacknowledged > usize::from(receive_maximum) {
            return Err(ProtocolError::ReceiveMaximumExceeded { unacknowledged, receive_maximum });
        }
        receiving.unacknowledged = unacknowledged;
        if publish.qos == QoS::ExactlyOnce {
            receiving.exactly_once.insert(packet_id);
        }
        Ok(Received::New(topic))
    }

    /// PUBREL: the identifier is free again, once the store knows. To be followed by
    /// [`Session::release`]. [MQTT-4.3.3-11]
    pub(crate) fn handle_pubrel(&mut self, packet_id: PacketId, cx: &mut Cx<'_>) {
        let known = self.receiving.exactly_once.remove(&packet_id);
        // A Client that does not wait for PUBREC must not leave a note behind.
        for reply in self.receiving.replies.iter_mut().filter(|it| it.packet_id == packet_id) {
            if reply.kind == (ReplyKind::Pubrec { note: true }) {
                reply.kind = ReplyKind::Pubrec { note: false };
            }
        }
        let mut ready = Position::START;
        if known {
            self.receiving.unacknowledged = self.receiving.unacknowledged.saturating_sub(1);
            if self.is_persistent() {
                let op = rows::received_gone(self.slot, self.id, packet_id);
                ready = cx.ledger.append(vec![op], true, cx.out);
            }
        }
        if !known && self.is_persistent() {
            // It may have been forgotten a moment ago, on a connection that did not hear so.
            ready = cx.ledger.last();
        }
        let serial = self.receiving.expect(ReplyKind::Pubcomp, packet_id, ready, 0);
        if !known {
            self.receiving.set_reason(serial, ReasonCode::PacketIdentifierNotFound);
        }
    }

    /// Sends the answers whose promise is true by now; `true` if the next one waits for the store.
    pub(crate) fn release(&mut self, cx: &mut Cx<'_>) -> bool {
        while let Some(reply) = self.receiving.replies.front_mut() {
            if reply.waits > 0 {
                return false;
            }
            // Only now is it certain that the message was taken over, so only now may a repeat
            // of it be told from a new one after a crash.
            if reply.kind == (ReplyKind::Pubrec { note: true }) && !reply.reason.is_error() {
                let op = rows::received(self.slot, self.id, reply.packet_id);
                reply.kind = ReplyKind::Pubrec { note: false };
                reply.ready = cx.ledger.append(vec![op], true, cx.out);
            }
            if !cx.ledger.is_stored(reply.ready) {
                return true;
            }
            if let Some(reply) = self.receiving.pop() {
                self.send_reply(reply, cx);
            }
        }
        false
    }

    fn send_reply(&mut self, reply: Reply, cx: &mut Cx<'_>) {
        let Reply { kind, packet_id, reason, properties, silent, own, .. } = reply;
        // [MQTT-3.4.2-2], [MQTT-3.4.2-3]
        let fits = properties.len() + ACK_BYTES_MAX <= self.link.packet_bytes_max;
        let allowed = fits && self.link.problem_information && self.link.version == Version::V5;
        let properties = if allowed { &properties[..] } else { &[] };
        let properties = Properties::parse(properties, PacketKind::Puback).unwrap_or_default();
        let ack = Ack { packet_id, reason, properties };
        let packet = match &kind {
            ReplyKind::Puback => {
                self.receiving.unacknowledged = self.receiving.unacknowledged.saturating_sub(1);
                Packet::Puback(ack)
            }
            ReplyKind::Pubrec { .. } => {
                // A refusal ends it: the identifier means a new message. [MQTT-4.3.3-9]
                if reason.is_error() && (silent || self.link.version == Version::V5) {
                    self.receiving.exactly_once.remove(&packet_id);
                    self.receiving.unacknowledged = self.receiving.unacknowledged.saturating_sub(1);
                }
                Packet::Pubrec(ack)
            }
            ReplyKind::Pubcomp => Packet::Pubcomp(ack),
            ReplyKind::Suback { reasons } => {
                Packet::Suback(Suback { packet_id, properties, reasons })
            }
            ReplyKind::Unsuback { reasons } => {
                Packet::Unsuback(Suback { packet_id, properties, reasons })
            }
            ReplyKind::Nothing => return,
        };
        if silent {
            return;
        }
        cx.out.send(self.link.connection, self.link.version, &packet);
        for queued in own {
            self.offer(queued, cx);
        }
    }

    /// The Client repeats a QoS 2 PUBLISH: PUBREC again, unless the first is still on its way. To be
    /// followed by [`Session::release`], whose caller sees to it that a wait for the store ends.
    pub(crate) fn answer_repeat(&mut self, packet_id: PacketId, cx: &mut Cx<'_>) {
        let mut replies = self.receiving.replies.iter_mut();
        let on_its_way = replies.find(|reply| {
            matches!(reply.kind, ReplyKind::Pubrec { .. }) && reply.packet_id == packet_id
        });
        if let Some(reply) = on_its_way {
            reply.silent = false;
        } else {
            let kind = ReplyKind::Pubrec { note: false };
            // The message may have come a moment ago, on a connection that did not hear so.
            let ready = if self.is_persistent() { cx.ledger.last() } else { Position::START };
            self.receiving.expect(kind, packet_id, ready, 0);
        }
    }
}

/// Questions of one session that may wait for their answers before nothing more is read of its
/// Client; each filter counts. Receive Maximum bounds only PUBLISH, and only of MQTT 5.
const REPLIES_WEIGHT_MAX: usize = 1024;

/// More than PUBACK or PUBREC takes besides its properties.
const ACK_BYTES_MAX: usize = 16;

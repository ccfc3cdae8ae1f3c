//! PUBLISH from the Client, and the answers it gets: in the order of its requests.
//!
//! An answer waits until what it promises is true: its position is stored, other shards and services
//! have taken over their part. Answers keep the order of the requests, so one that waits holds back
//! those behind it; PINGRESP goes past them, and so do messages, but for those that a SUBSCRIBE
//! asked for: they come behind its SUBACK.

use std::borrow::Cow;

use super::receiving::{Note, Reply, ReplyKind};
use super::{Cx, Session, rows};
use crate::codec::{
    Ack, Packet, PacketId, PacketKind, Properties, Publish, QoS, ReasonCode, Suback, Version,
};
use crate::protocol_error::ProtocolError;
use crate::reach::{Progress, Reach};
use crate::record::Position;

/// What a PUBLISH is, as far as the session can tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// A message for this topic, to be taken over.
    New(Cow<'a, str>),
    /// A repeat of a QoS 2 message that was taken over already: answered, not delivered again.
    Repeat,
    /// A repeat of a QoS 2 message that a crash left with some of those who get it: with these.
    Unfinished(Cow<'a, str>, Reach),
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
        if publish.qos == QoS::ExactlyOnce
            && let Some(progress) = receiving.exactly_once.get_mut(&packet_id)
        {
            return Ok(match std::mem::replace(progress, Progress::Elsewhere) {
                Progress::Unfinished(reach) => Received::Unfinished(topic, reach),
                known => {
                    *progress = known;
                    Received::Repeat
                }
            });
        }
        let unacknowledged = receiving.unacknowledged + 1;
        // MQTT 3.1.1 has no way to be told: there the socket is not read when the store lags.
        if self.link.version == Version::V5 && unacknowledged > usize::from(receive_maximum) {
            return Err(ProtocolError::ReceiveMaximumExceeded { unacknowledged, receive_maximum });
        }
        receiving.unacknowledged = unacknowledged;
        if publish.qos == QoS::ExactlyOnce {
            receiving.exactly_once.insert(packet_id, Progress::Here);
        }
        Ok(Received::New(topic))
    }

    /// PUBREL: the identifier is free again, once the store knows. To be followed by
    /// [`Session::release`]. [MQTT-4.3.3-11]
    ///
    /// The serial of PUBCOMP, if other shards may have marks to delete before it.
    pub(crate) fn handle_pubrel(&mut self, packet_id: PacketId, cx: &mut Cx<'_>) -> Option<u64> {
        let progress = self.receiving.exactly_once.remove(&packet_id);
        let known = progress.is_some();
        let mut marked = self.is_persistent() && progress != Some(Progress::Here);
        // A Client that does not wait for PUBREC must not leave a note behind, nor a mark.
        for reply in self.receiving.replies.iter_mut().filter(|it| it.packet_id == packet_id) {
            let ReplyKind::Pubrec { note } = &mut reply.kind else { continue };
            match note {
                Note::Due => *note = Note::Settled,
                Note::Early | Note::Refused if reply.waits > 0 => {
                    *note = Note::Released;
                    marked = false;
                }
                _ => {}
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
        marked.then_some(serial)
    }

    /// Sends the answers whose promise is true by now; `true` if the next one waits for the store.
    pub(crate) fn release(&mut self, cx: &mut Cx<'_>) -> bool {
        while let Some(reply) = self.receiving.replies.front_mut() {
            if reply.waits > 0 {
                return false;
            }
            // Only now is it certain whether the message was taken over, so only now may a repeat
            // of it be told from a new one after a crash.
            if let ReplyKind::Pubrec { note } = &mut reply.kind {
                let (id, slot, packet_id) = (self.id, self.slot, reply.packet_id);
                let op = match (*note, reply.reason.is_error()) {
                    (Note::Due, false) => {
                        Some(rows::received(slot, id, packet_id, &Progress::Here))
                    }
                    (Note::Early | Note::Refused, true) => {
                        Some(rows::received_gone(slot, id, packet_id))
                    }
                    _ => None,
                };
                *note = Note::Settled;
                if let Some(op) = op {
                    reply.ready = cx.ledger.append(vec![op], true, cx.out);
                }
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

    /// Answers a PUBLISH of QoS 1 for which nothing has to be waited.
    pub(crate) fn send_puback(&mut self, packet_id: PacketId, reason: ReasonCode, cx: &mut Cx<'_>) {
        self.receiving.unacknowledged = self.receiving.unacknowledged.saturating_sub(1);
        let ack = Ack { packet_id, reason, properties: Properties::default() };
        cx.out.send(self.link.connection, self.link.version, &Packet::Puback(ack));
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
            let kind = ReplyKind::Pubrec { note: Note::Settled };
            // The message may have come a moment ago, on a connection that did not hear so.
            let ready = if self.is_persistent() { cx.ledger.last() } else { Position::START };
            self.receiving.expect(kind, packet_id, ready, 0);
        }
    }
}

/// More than PUBACK or PUBREC takes besides its properties.
const ACK_BYTES_MAX: usize = 16;

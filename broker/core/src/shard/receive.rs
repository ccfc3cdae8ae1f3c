//! Packets of connections whose sessions are ready, and acknowledgements that end deliveries.

use std::sync::Arc;

use super::Shard;
use super::service::ToService;
use crate::codec::{Ack, Packet, QoS, ReasonCode};
use crate::hook::{Event, SessionId};
use crate::output::{CloseCause, ConnectionId, Outbox, Output};
use crate::protocol_error::ProtocolError;
use crate::session::{Done, State};
use crate::time::Time;

impl Shard {
    /// A packet of a connection whose session is ready.
    pub(super) fn receive(
        &mut self,
        connection: ConnectionId,
        packet: Packet<'_>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        let Some(id) = self.connections.get(&connection).copied() else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        session.link.heard = now;
        let version = session.link.version;
        match packet {
            Packet::Publish(publish) => return self.publish(id, &publish, now, out),
            Packet::Puback(ack) if session.finish_brief(ack.packet_id) => {
                if !session.is_at_rest() || session.is_followed() {
                    self.advance(id, now, out);
                }
            }
            Packet::Puback(ack) => {
                let due = (QoS::AtLeastOnce, State::Publish);
                self.finish(id, &ack, due, ack.reason, now, out)?;
            }
            Packet::Pubrec(ack) if ack.reason.is_error() => {
                // [MQTT-4.4.0-2]: it is over, and nobody else gets it.
                let due = (QoS::ExactlyOnce, State::Publish);
                self.finish(id, &ack, due, ack.reason, now, out)?;
            }
            Packet::Pubrec(ack) => {
                let known = self.with(id, now, out, |session, cx| {
                    let known = session.handle_pubrec(ack.packet_id, cx)?;
                    if !known {
                        let reason = ReasonCode::PacketIdentifierNotFound;
                        session.send_pubrel(ack.packet_id, reason, cx);
                    }
                    Ok::<_, ProtocolError>(())
                });
                known.transpose()?;
                self.advance(id, now, out);
            }
            Packet::Pubrel(ack) => {
                let packet_id = ack.packet_id;
                let marked =
                    self.with(id, now, out, |session, cx| session.handle_pubrel(packet_id, cx));
                if let Some(serial) = marked.flatten() {
                    self.forget_first(id, packet_id, serial, out);
                }
                self.release(id, now, out);
            }
            Packet::Pubcomp(ack) => {
                let due = (QoS::ExactlyOnce, State::Pubrel);
                self.finish(id, &ack, due, ReasonCode::Success, now, out)?;
            }
            Packet::Subscribe(subscribe) => return self.subscribe(id, &subscribe, now, out),
            Packet::Unsubscribe(unsubscribe) => {
                return self.unsubscribe(id, &unsubscribe, now, out);
            }
            Packet::Pingreq => out.send(connection, version, &Packet::Pingresp),
            Packet::Disconnect(disconnect) => {
                return self.disconnect(id, connection, &disconnect, now, out);
            }
            Packet::Connect(_) => return Err(ProtocolError::SecondConnect.into()),
            Packet::Auth(auth) => self.authenticate(id, &auth, out)?,
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return Err(ProtocolError::NotForClients(packet.name()).into());
            }
        }
        Ok(())
    }

    /// The acknowledgement that ends the delivery of a message, in the state that is due for it.
    fn finish(
        &mut self,
        id: SessionId,
        ack: &Ack<'_>,
        (qos, state): (QoS, State),
        reason: ReasonCode,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let done = self.with(id, now, out, |session, cx| {
            let done = session.finish(ack.packet_id, qos, state, cx)?;
            Ok((done, session.is_at_rest() && !session.is_followed()))
        });
        let Some((done, at_rest)) = done.transpose()? else { return Ok(()) };
        self.acknowledged(id, done, reason, now, out);
        if !at_rest {
            self.advance(id, now, out);
        }
        Ok(())
    }

    /// Tells whoever wants to know that a subscriber acknowledged a message.
    pub(super) fn acknowledged(
        &mut self,
        id: SessionId,
        done: Option<Done>,
        reason: ReasonCode,
        now: Time,
        out: &mut Outbox,
    ) {
        let Some(done) = done else { return };
        if self.hooks.observed
            && let Some(session) = self.sessions.get(&id)
        {
            out.outputs.push(Output::Event(Box::new(Event::Acknowledged {
                message: done.message,
                user: Arc::clone(&session.user),
                client_id: Arc::clone(&session.client_id),
                reason,
            })));
        }
        if let Some((service, tag)) = done.tag {
            self.services.push(service, ToService::Acknowledged { session: id, tag, reason });
            self.run_services(now, out);
        }
    }
}

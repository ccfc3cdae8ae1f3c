//! What other shards say.

use super::Shard;
use super::service::ToService;
use crate::codec::{ReasonCode, Version};
use crate::metric::Metric;
use crate::output::{Outbox, Output};
use crate::peer::PeerMessage;
use crate::protocol_error::ProtocolError;
use crate::record::Position;
use crate::router::RetainedFull;
use crate::slot::ShardId;
use crate::time::Time;

impl Shard {
    pub(super) fn peer(
        &mut self,
        from: ShardId,
        message: PeerMessage,
        now: Time,
        out: &mut Outbox,
    ) {
        match message {
            PeerMessage::Interest { filter, wanted, token } => {
                self.router.set_interest(&filter, from, wanted);
                self.owe(from, token, Position::START, ReasonCode::Success, out);
            }
            PeerMessage::Publish { message, publisher, token, only } => {
                self.publish_from_peer(from, &message, publisher, token, only, now, out);
            }
            PeerMessage::Retain { message, token } => {
                let (position, reason) = match self.router.retained.set(&message, &self.limits) {
                    Ok(Some(op)) => {
                        (self.ledger.append(vec![op], true, out), ReasonCode::NoMatchingSubscribers)
                    }
                    // It was removed already, but perhaps not for good yet.
                    Ok(None) => (self.ledger.last(), ReasonCode::NoMatchingSubscribers),
                    Err(RetainedFull(bound)) => {
                        self.counters.add(bound, 1);
                        if token.is_none() {
                            self.counters.add(Metric::DroppedRetainedFull, 1);
                        }
                        (Position::START, ReasonCode::QuotaExceeded)
                    }
                };
                self.owe(from, token, position, reason, out);
            }
            PeerMessage::Taken { token, reason } => self.taken(token, reason, now, out),
            PeerMessage::RetainedWanted { filter, session } => {
                let messages = self.router.retained.matching(&filter, now);
                let message = PeerMessage::Retained { filter, session, messages };
                out.outputs.push(Output::Peer { shard: from, message });
            }
            PeerMessage::Retained { filter, session, messages } => {
                self.retained_answered(session, filter, messages, now, out);
            }
            PeerMessage::Service { service, message } => {
                self.services.push(service, ToService::Peer { from, message });
            }
        }
    }

    /// Another shard has done its part of an answer.
    fn taken(&mut self, token: u64, reason: ReasonCode, now: Time, out: &mut Outbox) {
        self.announcement_answered(token);
        let Some((id, serial)) = self.tokens.remove(&token) else { return };
        if reason.is_error() {
            self.counters.add(Metric::refused_publish(reason), 1);
        }
        if let Some(offline) = self.offline.get_mut(&id) {
            offline.taken(id, serial, reason, &mut self.ledger, out);
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if reason == ReasonCode::QuotaExceeded
            && session.link.version == Version::V311
            && let Some(packet_id) = session.receiving.refused(serial)
        {
            // MQTT 3.1.1 cannot be told: it must not take the message for acknowledged.
            session.receiving.forget(packet_id);
            let connection = session.link.connection;
            self.refuse(connection, ProtocolError::Refused(reason).into(), now, out);
            return;
        }
        let all = self.with(id, now, out, |session, _| {
            session.receiving.done(serial, reason, None, Position::START)
        });
        if all == Some(true)
            && let Some(filters) = self.retained_after.remove(&(id, serial))
        {
            self.send_retained(id, &filters, now, out);
        }
        self.release(id, now, out);
    }
}

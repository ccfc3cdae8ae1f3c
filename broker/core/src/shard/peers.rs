//! What other shards say.

use super::service::ToService;
use super::{Shard, Waiter};
use crate::codec::{ReasonCode, Version};
use crate::hook::SessionId;
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
            PeerMessage::Interest { filter, shard, wanted, token } => {
                self.router.set_interest(&filter, shard, wanted);
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
            PeerMessage::Member { filter, session, member, token } => {
                self.member(from, &filter, session, member, token, out);
            }
            PeerMessage::Hand { filter, session, message, token, only, last } => {
                self.handed(from, filter, session, message, (token, only, last), now, out);
            }
            PeerMessage::Returned { filter, message, token, only } => {
                self.choose_again(&filter, &message, token, only, None, now, out);
            }
            PeerMessage::Left { filter, message, token } => {
                self.left(from, &filter, &message, token, now, out);
            }
            PeerMessage::Taken { token, reason } => {
                self.announcement_answered(token);
                self.settle(token, reason, Position::START, now, out);
            }
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

    /// Somebody has done what was asked under a token: it holds when `ready` is stored here.
    pub(super) fn settle(
        &mut self,
        token: u64,
        reason: ReasonCode,
        ready: Position,
        now: Time,
        out: &mut Outbox,
    ) {
        match self.tokens.remove(&token) {
            None => {}
            Some(Waiter::Relay(number)) => self.relayed(number, reason, ready, out),
            Some(Waiter::Sweep(number)) => self.swept_one(number, out),
            Some(Waiter::Answer(id, serial)) => self.answered(id, serial, reason, ready, now, out),
        }
    }

    /// A part of an answer to a Client is done.
    fn answered(
        &mut self,
        id: SessionId,
        serial: u64,
        reason: ReasonCode,
        ready: Position,
        now: Time,
        out: &mut Outbox,
    ) {
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
        let all = self
            .with(id, now, out, |session, _| session.receiving.done(serial, reason, None, ready));
        // SUBACK goes first, as it does where no other shard is to be waited for.
        self.release(id, now, out);
        if all == Some(true)
            && let Some(filters) = self.retained_after.remove(&(id, serial))
        {
            self.send_retained(id, &filters, now, out);
        }
    }
}

//! What other shards say.

use super::service::ToService;
use super::{Shard, Waiter};
use crate::codec::{ReasonCode, Version};
use crate::hook::SessionId;
use crate::metric::Metric;
use crate::output::Outbox;
use crate::peer::PeerMessage;
use crate::protocol_error::ProtocolError;
use crate::record::Position;
use crate::router::RetainedFull;
use crate::session::rows;
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
            PeerMessage::Publish { message, publisher, token, only, origin } => {
                let origin = origin.as_ref();
                self.publish_from_peer(from, &message, publisher, (token, only), origin, now, out);
            }
            PeerMessage::Retain { message, token } => {
                let (position, reason) = match self.router.retained.set(&message, &self.limits) {
                    Ok(Some(op)) => {
                        (self.ledger.append([op], true, out), ReasonCode::NoMatchingSubscribers)
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
            PeerMessage::Hand { filter, session, message, token, only, last, origin } => {
                let asked = (token, only, last);
                self.handed(from, filter, session, message, asked, origin, now, out);
            }
            PeerMessage::Returned { filter, message, token, only, origin } => {
                self.choose_again(&filter, &message, (token, only), None, origin, now, out);
            }
            PeerMessage::Left { filter, message, token } => {
                self.left(from, &filter, &message, token, now, out);
            }
            PeerMessage::Reached { session, packet_id, reach } => {
                self.reached(from, session, packet_id, &reach, out);
            }
            PeerMessage::Started => self.starting = self.starting.saturating_sub(1),
            PeerMessage::Forget { session, packet_id, token } => {
                self.forget_marks(from, session, packet_id, token, out);
            }
            PeerMessage::Taken { token, reason } => {
                self.announcement_answered(token);
                self.settle(token, reason, Position::START, now, out);
            }
            PeerMessage::RetainedWanted { filter, after, session, token, messages_max } => {
                let asked = (session, token, messages_max);
                self.retained_wanted(from, &filter, after.as_deref(), asked, now, out);
            }
            PeerMessage::Retained { session, token, messages, after } => {
                self.retained_answered(session, token, messages, after, now, out);
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
            Some(Waiter::Will(id, message)) => self.will_taken(id, message, reason, out),
            Some(Waiter::Answer(id, serial)) => self.answered(id, serial, reason, ready, now, out),
            Some(Waiter::Noted(id, serial)) => {
                if !self.sessions.contains_key(&id) && !self.offline.contains_key(&id) {
                    self.forget_reach(id, None, None, out);
                }
                self.answered(id, serial, reason, ready, now, out);
            }
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
            let released = offline.taken(id, serial, reason, &mut self.ledger, out);
            if let Some(packet_id) = released {
                self.forget_reach(id, Some(packet_id), None, out);
            }
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if reason == ReasonCode::QuotaExceeded
            && session.link.version == Version::V311
            && let Some((packet_id, noted)) = session.receiving.refused(serial)
        {
            // MQTT 3.1.1 cannot be told: it must not take the message for acknowledged.
            session.receiving.forget(packet_id);
            let connection = session.link.connection;
            if noted {
                let op = rows::received_gone(session.slot, id, packet_id);
                self.ledger.append([op], false, out);
                self.forget_reach(id, Some(packet_id), None, out);
            }
            self.refuse(connection, ProtocolError::Refused(reason).into(), now, out);
            return;
        }
        let all = self
            .with(id, now, out, |session, _| session.receiving.done(serial, reason, None, ready));
        if all == Some(true)
            && let Some(session) = self.sessions.get_mut(&id)
        {
            if let Some(packet_id) = session.receiving.take_refused(serial) {
                self.forget_first(id, packet_id, serial, out);
            } else if let Some(packet_id) = session.receiving.take_released(serial) {
                self.forget_reach(id, Some(packet_id), None, out);
            }
        }
        // SUBACK goes first, as it does where no other shard is to be waited for.
        self.release(id, now, out);
        if all == Some(true)
            && let Some(filters) = self.retained_after.remove(&(id, serial))
        {
            self.send_retained(id, &filters, now, out);
        }
    }
}

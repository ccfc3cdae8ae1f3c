//! What other shards say.

use super::Shard;
use super::service::ToService;
use crate::codec::ReasonCode;
use crate::output::{Outbox, Output};
use crate::peer::PeerMessage;
use crate::record::Position;
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
                    Ok(None) => (self.ledger.stored(), ReasonCode::NoMatchingSubscribers),
                    Err(_) => (self.ledger.stored(), ReasonCode::QuotaExceeded),
                };
                self.owe(from, token, position, reason, out);
            }
            PeerMessage::Taken { token, reason } => self.taken(token, reason, now, out),
            PeerMessage::RetainedWanted { filter, session } => {
                let messages = self.router.retained.matching(&filter, now);
                if !messages.is_empty() {
                    let message = PeerMessage::Retained { filter, session, messages };
                    out.outputs.push(Output::Peer { shard: from, message });
                }
            }
            PeerMessage::Retained { filter, session, messages } => {
                self.retained_found(session, &filter, messages, now, out);
            }
            PeerMessage::Service { service, message } => {
                self.services.push(service, ToService::Peer { from, message });
            }
        }
    }

    /// Another shard has done its part of an answer.
    fn taken(&mut self, token: u64, reason: ReasonCode, now: Time, out: &mut Outbox) {
        let Some((id, serial)) = self.tokens.remove(&token) else { return };
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

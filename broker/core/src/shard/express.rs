//! Messages that nobody has to remember, from the bytes they came in to those that go out.
//!
//! Most messages are delivered the moment they come, to sessions that end with their connection, or
//! with QoS 0. For those no [`Message`](crate::message::Message) is made: nothing is allocated, and what
//! goes to many is encoded once. Whatever asks for more (a row, a place in a queue, another shard, a
//! plugin that looks on) takes the long way of `publish` and `route`, for all copies: what is delivered to
//! one must not be ahead of what is kept for another.

use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use crate::codec::{Publish, QoS};
use crate::hook::SessionId;
use crate::message::{Message, MessageId};
use crate::output::{Outbox, PAYLOAD_COPIED_MAX, PublishBytes};
use crate::record::Position;
use crate::router::{Copy, Heading};
use crate::session::Brief;
use crate::time::Time;

impl Shard {
    /// Whether a PUBLISH asks for nothing but its delivery, as far as that can be told before anybody
    /// who gets it is known.
    pub(super) fn may_be_express(&self, publish: &Publish<'_>) -> bool {
        publish.qos < QoS::ExactlyOnce
            && !publish.retain
            && publish.properties.is_empty()
            && publish.payload.len() <= PAYLOAD_COPIED_MAX
            && self.hooks.intercept.is_empty()
            && !self.hooks.observed
            && self.router.is_plain()
    }

    /// Delivers a PUBLISH that [`may_be_express`](Self::may_be_express) and answers it; `false`, and
    /// nothing but `copies` has changed, if the long way has to be taken.
    pub(super) fn express(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        now: Time,
        out: &mut Outbox,
    ) -> bool {
        let heading = Heading { topic: publish.topic, qos: publish.qos, retain: publish.retain };
        self.router.copies(heading, Some(id), &mut self.copies);
        let answered =
            publish.packet_id.is_none() || self.answers_at_once(id, publish, Position::START);
        let size = Message::size_of_plain(publish.topic, publish.payload);
        if !answered || self.bounds.of(false).never_fits(size) {
            return false;
        }
        let mut copies = std::mem::take(&mut self.copies);
        let matched = !copies.is_empty();
        let gone = match &copies[..] {
            [] => true,
            [copy] => copy.session != id && self.send_brief(copy, publish, &mut None, now, out),
            _ => {
                let all = copies.iter().all(|it| it.session != id && self.needs_no_row(it));
                if all {
                    self.send_briefs(&copies, publish, now, out);
                }
                all
            }
        };
        if gone {
            copies.clear();
            self.answer(id, publish, true, matched, now, out);
        }
        self.copies = copies;
        gone
    }

    /// Whether a copy is not kept in the store.
    fn needs_no_row(&self, copy: &Copy) -> bool {
        let session = self.sessions.get(&copy.session);
        copy.qos == QoS::AtMostOnce || session.is_some_and(|session| !session.is_persistent())
    }

    /// Sends one copy at once, if that can be done.
    fn send_brief(
        &mut self,
        copy: &Copy,
        publish: &Publish<'_>,
        bytes: &mut Option<PublishBytes>,
        now: Time,
        out: &mut Outbox,
    ) -> bool {
        // A group's member may leave it to the others.
        if copy.share.is_some() {
            return false;
        }
        let Copy { qos, retain, subscription_id, .. } = *copy;
        let Publish { topic, payload, .. } = *publish;
        let brief = Brief { qos, retain, subscription_id, topic, payload };
        let sent =
            self.with(copy.session, now, out, |session, cx| session.send_brief(brief, bytes, cx));
        sent == Some(true)
    }

    /// Sends copies that need no row: each at once, or from a queue where its session cannot take it.
    fn send_briefs(&mut self, copies: &[Copy], publish: &Publish<'_>, now: Time, out: &mut Outbox) {
        let mut bytes = None;
        let mut kept: Option<Arc<Message>> = None;
        for copy in copies {
            if self.send_brief(copy, publish, &mut bytes, now, out) {
                continue;
            }
            if kept.is_none() {
                let id = MessageId(self.ledger.number(out));
                let payload = Bytes::copy_from_slice(publish.payload);
                kept = Some(Arc::new(Message::new(id, publish.topic, payload, publish.qos, now)));
            }
            let Some(message) = &kept else { continue };
            let number = self.ledger.number(out);
            // Without a row nothing is put into a record.
            let mut ops = Vec::new();
            if let Ok(key) = self.queue_row(copy, number, message, &mut ops, out) {
                self.deliver(copy.clone(), number, key, message, Position::START, now, out);
            }
        }
    }
}

//! PUBLISH to the Client: window, order, redelivery.
//!
//! A message passes the queue ([`super::sending`]) and then the window ([`super::window`]). Nothing
//! is sent before its position is stored: delivery never runs ahead of the promise to the publisher.

use super::rows;
use super::sending::QueueBounds;
use super::window::{InFlight, NotDue, Queued, State};
use super::{Cx, Session};
use crate::codec::{Ack, Packet, PacketId, Properties, PublishParts, QoS, ReasonCode};
use crate::hook::{Refused, Tag};
use crate::limits::{Limits, QUEUE_IN_MEMORY_MAX};
use crate::message::MessageId;
use crate::metric::Metric;
use crate::output::Output;
use crate::peer::Standing;
use crate::protocol_error::ProtocolError;
use crate::record::{Op, Position};
use crate::time::Time;

/// What [`Session::offer`] did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    Taken,
    /// It was sent at once, and nothing else has changed: no need to pump.
    Sent,
    /// It was dropped: QoS 0 to a slow reader.
    Dropped,
}

/// A message that the Client has acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) message: MessageId,
    /// The service that delivered it, and the service's mark.
    pub(crate) tag: Option<(u8, Tag)>,
}

/// What is needed for the session to go on after [`Session::pump`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pumped {
    /// Tell it when more is stored.
    pub(crate) wait: bool,
    /// Read rows of its queue behind this number.
    pub(crate) fetch_after: Option<u64>,
    /// Tell the services that there is room again.
    pub(crate) room: bool,
}

impl Session {
    /// Takes a message for the Client. Unless it says [`Offered::Sent`], follow it by
    /// [`Session::pump`].
    pub(crate) fn offer(&mut self, queued: Queued, cx: &mut Cx<'_>) -> Offered {
        if queued.qos == QoS::AtMostOnce {
            // Much at once is no slow reader: the shell has not had its turn to write. And retained
            // messages were asked for. [MQTT-3.3.1-9]
            let link = &self.link;
            let congested = link.congested;
            let much = link.burst > link.burst_max.saturating_mul(2);
            if self.opening.is_some() || congested && !queued.retain {
                return Self::drop_unsent(congested, cx);
            }
            if !(congested || much || self.sending.holds() || self.receiving.awaits_suback()) {
                if !self.send_publish(&queued, None, false, cx) {
                    cx.counters.add(Metric::DroppedTooLarge, 1);
                }
                return Offered::Taken;
            }
            let retained_max = self.link.held_max.max(HELD_RETAINED_BYTES_MAX);
            let bytes_max = if queued.retain { retained_max } else { self.link.held_max };
            if self.sending.hold(queued, bytes_max) {
                return Offered::Taken;
            }
            return Self::drop_unsent(true, cx);
        }
        let sending = &mut self.sending;
        if queued.key.is_some() {
            let full = sending.is_full_in_memory(cx.ledger);
            if self.opening.is_some() || full || sending.is_behind() {
                sending.stored_last = queued.number;
                return Offered::Taken;
            }
            sending.stored_last = queued.number;
            sending.loaded_last = queued.number;
        }
        if self.goes_at_once(&queued, cx) {
            self.send_new(queued, cx);
            return Offered::Sent;
        }
        self.sending.push(queued);
        Offered::Taken
    }

    /// Whether nothing has to go before a message of QoS 1 or 2, nothing keeps it back, and nothing
    /// has to be done besides. It has its permit then.
    fn goes_at_once(&mut self, queued: &Queued, cx: &Cx<'_>) -> bool {
        let kept_first = queued.qos == QoS::ExactlyOnce && self.is_persistent();
        self.nothing_goes_first()
            && !kept_first
            && cx.ledger.is_stored(queued.ready)
            && !queued.message.is_expired(cx.now)
            && self.link.quota.try_take()
    }

    /// Whether nothing has to go before the next message, and nothing keeps it back.
    pub(super) fn nothing_goes_first(&self) -> bool {
        self.opening.is_none()
            && !self.link.is_held_back()
            && !self.receiving.awaits_suback()
            && self.sending.is_at_rest()
    }

    /// Whether there is nothing to send and nothing to answer: to go on with it changes nothing.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.sending.is_at_rest() && self.opening.is_none() && !self.receiving.is_answering()
    }

    /// Counts a QoS 0 message that is not sent.
    fn drop_unsent(behind: bool, cx: &Cx<'_>) -> Offered {
        cx.counters.add(Metric::DroppedSlowReader, 1);
        if behind {
            cx.counters.add(Metric::LimitOutboundSoft, 1);
        }
        Offered::Dropped
    }

    /// How much it can take as the member of a group.
    pub(crate) fn standing(&self, limits: &Limits) -> Standing {
        let bounds = QueueBounds::new(limits, self.is_persistent());
        if self.sending.full_by(0, &bounds).is_some() {
            Standing::Full
        } else if self.link.is_held_back()
            || self.link.quota.is_exhausted()
            || self.sending.is_behind()
        {
            Standing::Busy
        } else {
            Standing::Ready
        }
    }

    /// Whether a service may deliver with QoS 1 or 2; if not, it hears of it when it may.
    pub(crate) fn service_may_deliver(&mut self) -> Result<(), Refused> {
        let sending = &mut self.sending;
        if self.opening.is_some()
            || self.link.is_held_back()
            || sending.queue.len() >= QUEUE_IN_MEMORY_MAX
        {
            sending.service_waits = true;
            return Err(Refused::Full);
        }
        Ok(())
    }

    /// Answers and sends what may be answered and sent now.
    pub(crate) fn go_on(&mut self, cx: &mut Cx<'_>) -> Pumped {
        let wait = self.release(cx);
        let mut pumped = self.pump(cx);
        pumped.wait |= wait;
        pumped
    }

    /// Sends what may be sent now: first what has to be sent again, then the queue.
    pub(crate) fn pump(&mut self, cx: &mut Cx<'_>) -> Pumped {
        let mut pumped = Pumped::default();
        if self.opening.is_some() || self.link.is_held_back() || self.receiving.awaits_suback() {
            return pumped;
        }
        while !self.link.throttled
            && let Some(queued) = self.sending.pop_held()
        {
            if !self.send_publish(&queued, None, false, cx) {
                cx.counters.add(Metric::DroppedTooLarge, 1);
            }
        }
        pumped.wait = self.send_window(cx);
        while !pumped.wait && !self.sending.window.has_unsent() && !self.link.throttled {
            let Some(front) = self.sending.queue.front() else { break };
            if !cx.ledger.is_stored(front.ready) {
                pumped.wait = true;
                break;
            }
            if front.message.is_expired(cx.now) {
                if let Some(mut expired) = self.sending.pop() {
                    // Its turn passes with an identifier: those behind it get the ones they would
                    // have got, and a gap tells where something expired.
                    let window = &self.sending.window;
                    self.sending.ids.next(|| window.ids());
                    cx.counters.add(Metric::DroppedExpired, 1);
                    self.forget(&mut expired, None, cx);
                }
                continue;
            }
            if !self.link.quota.try_take() {
                break;
            }
            let Some(queued) = self.sending.pop() else { break };
            pumped.wait = !self.send_new(queued, cx);
        }
        let sending = &mut self.sending;
        if sending.queue.is_empty() && sending.is_behind() && sending.reading.is_none() {
            sending.reading = Some(sending.stored_last);
            pumped.fetch_after = Some(sending.loaded_last);
        }
        if sending.service_waits && sending.queue.len() <= QUEUE_IN_MEMORY_MAX / 2 {
            sending.service_waits = false;
            pumped.room = true;
        }
        pumped
    }

    /// Sends what is in the window and was not sent on this connection; `true` if something there
    /// waits for the store.
    fn send_window(&mut self, cx: &mut Cx<'_>) -> bool {
        // Each kind keeps its order; a PUBREL passes a PUBLISH that has no permit. [MQTT-4.9.0-3]
        let mut held_back: [bool; 2] = [false; 2];
        let mut waits = false;
        let mut index = 0;
        while self.sending.window.has_unsent() && held_back != [true; 2] {
            let Some(entry) = self.sending.window.at(index) else { break };
            index += 1;
            let [publish, pubrel] = &mut held_back;
            let held = if entry.state == State::Publish { publish } else { pubrel };
            if entry.sent || *held {
                continue;
            }
            if !cx.ledger.is_stored(entry.after) {
                (*held, waits) = (true, true);
                continue;
            }
            if entry.state == State::Publish {
                if !entry.has_permit && !self.link.quota.try_take() {
                    *held = true;
                    continue;
                }
                entry.has_permit = true;
            }
            let (id, state, again) = (entry.packet_id, entry.state, entry.again);
            match state {
                State::Pubrel => self.send_pubrel(id, ReasonCode::Success, cx),
                State::Publish => {
                    let queued = entry.queued.clone();
                    if !self.send_publish(&queued, Some(id), again, cx) {
                        self.drop_too_large(id, cx);
                        index -= 1;
                        continue;
                    }
                }
            }
            self.sending.window.note_sent(id);
        }
        waits
    }

    /// Puts a message that has its permit into the window and sends it; `false` if that has to wait.
    fn send_new(&mut self, queued: Queued, cx: &mut Cx<'_>) -> bool {
        let window = &self.sending.window;
        let Some(packet_id) = self.sending.ids.next(|| window.ids()) else {
            // The window is smaller than the space of identifiers, so one is always free.
            self.sending.push(queued);
            return false;
        };
        self.sending.order += 1;
        let mut entry = InFlight {
            packet_id,
            order: self.sending.order,
            state: State::Publish,
            sent: false,
            after: Position::START,
            in_store: false,
            again: false,
            has_permit: true,
            queued,
        };
        // Exactly once means that a crash must not give the message another identifier.
        if entry.queued.qos == QoS::ExactlyOnce && self.is_persistent() {
            entry.in_store = true;
            let op = rows::in_flight(self.slot, self.id, &entry);
            entry.after = cx.ledger.append([op], true, cx.out);
            self.sending.window.push(entry);
            return false;
        }
        // What was there when a crash ended the last connection. [MQTT-3.3.1-1]
        let has_row = entry.queued.key.is_some();
        let dup = has_row && entry.queued.number <= self.sending.perhaps_sent;
        entry.sent = self.send_publish(&entry.queued, Some(packet_id), dup, cx);
        let too_large = !entry.sent;
        self.sending.window.push(entry);
        if too_large {
            self.drop_too_large(packet_id, cx);
        }
        true
    }

    /// A message too large for the Client counts as sent, and as acknowledged. [MQTT-3.1.2-25]
    fn drop_too_large(&mut self, packet_id: PacketId, cx: &mut Cx<'_>) {
        if let Some(mut entry) = self.sending.window.remove(packet_id) {
            cx.counters.add(Metric::DroppedTooLarge, 1);
            self.give_back(&entry);
            self.forget(&mut entry.queued, entry.in_store.then_some(packet_id), cx);
        }
    }

    /// A permit of this connection goes back; what was sent on another one took none here.
    fn give_back(&mut self, entry: &InFlight) {
        if entry.has_permit {
            self.link.quota.give_back();
        }
    }

    /// Whether the Client takes a PUBLISH of this size. [MQTT-3.1.2-24]
    pub(crate) fn fits(&self, queued: &Queued, now: Time) -> bool {
        let packet_id = (queued.qos > QoS::AtMostOnce).then_some(PacketId::MAX);
        let parts = publish_parts(queued, packet_id, false, now);
        parts.packet_len(self.link.version) <= self.link.packet_bytes_max
    }

    /// Writes a PUBLISH; `false` if it is too large for the Client.
    fn send_publish(
        &mut self,
        queued: &Queued,
        packet_id: Option<PacketId>,
        dup: bool,
        cx: &mut Cx<'_>,
    ) -> bool {
        let message = &queued.message;
        let parts = publish_parts(queued, packet_id, dup, cx.now);
        let length = parts.packet_len(self.link.version);
        if length > self.link.packet_bytes_max {
            return false;
        }
        self.count_sent(length, message.payload.len(), cx);
        cx.out.send_publish(self.link.connection, self.link.version, &parts, message)
    }

    /// Counts a PUBLISH of so many bytes, and so many of payload.
    pub(super) fn count_sent(&mut self, length: usize, payload: usize, cx: &mut Cx<'_>) {
        cx.counters.add(Metric::PublishSent, 1);
        cx.counters.add(Metric::PublishBytesSent, payload as u64);
        self.link.burst += length;
        if self.link.burst > self.link.burst_max && !self.link.throttled {
            self.link.throttled = true;
            let connection = self.link.connection;
            cx.out.outputs.push(Output::Throttled { connection });
        }
    }

    /// Sends PUBREL.
    pub(crate) fn send_pubrel(&self, packet_id: PacketId, reason: ReasonCode, cx: &mut Cx<'_>) {
        let ack = Ack { packet_id, reason, properties: Properties::default() };
        cx.out.send(self.link.connection, self.link.version, &Packet::Pubrel(ack));
    }

    /// An acknowledgement that ends the delivery of a message of this QoS in this state. `None` for an
    /// identifier that is not in use.
    pub(crate) fn finish(
        &mut self,
        packet_id: PacketId,
        qos: QoS,
        state: State,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Done>, ProtocolError> {
        let Some(finished) = self.sending.window.finish(packet_id, qos, state) else {
            return Ok(None);
        };
        let mut entry = finished.map_err(|NotDue| ProtocolError::OutOfTurn(packet_id))?;
        self.give_back(&entry);
        self.forget(&mut entry.queued, entry.in_store.then_some(packet_id), cx);
        let Queued { message, tag, .. } = entry.queued;
        Ok(Some(Done { message: message.id, tag }))
    }

    /// PUBREC: the Client has the message; PUBREL follows, once a crash cannot undo that. Whether
    /// the identifier is in use.
    pub(crate) fn handle_pubrec(
        &mut self,
        packet_id: PacketId,
        cx: &mut Cx<'_>,
    ) -> Result<bool, ProtocolError> {
        let window = &self.sending.window;
        let Some(entry) = window.get(packet_id) else {
            let brief = window.is_brief(packet_id);
            return if brief { Err(ProtocolError::OutOfTurn(packet_id)) } else { Ok(false) };
        };
        if entry.queued.qos != QoS::ExactlyOnce || (!entry.sent && entry.state == State::Publish) {
            return Err(ProtocolError::OutOfTurn(packet_id));
        }
        if entry.state == State::Pubrel {
            // It repeats what it said, and so do we.
            if entry.sent {
                self.send_pubrel(packet_id, ReasonCode::Success, cx);
            }
            return Ok(true);
        }
        let mut after = Position::START;
        if self.is_persistent() {
            let mut released = entry.clone();
            released.state = State::Pubrel;
            released.in_store = true;
            // Without the key: its row goes with this record, and is not to be counted again.
            self.sending.note_row_gone(&released.queued, cx.counters);
            let key = released.queued.key.take();
            let mut ops = vec![rows::in_flight(self.slot, self.id, &released)];
            ops.extend(key.map(|key| Op::Forget { key }));
            after = cx.ledger.append(ops, true, cx.out);
            for entry in self.sending.window.iter_mut().filter(|it| it.packet_id == packet_id) {
                entry.in_store = true;
                entry.queued.key = None;
            }
        }
        self.sending.window.release(packet_id, after);
        Ok(true)
    }

    /// Deletes the rows of a message that is done with; the store may take its time.
    fn forget(&mut self, queued: &mut Queued, in_flight: Option<PacketId>, cx: &mut Cx<'_>) {
        if queued.key.is_none() && in_flight.is_none() {
            return;
        }
        self.sending.note_row_gone(queued, cx.counters);
        let row = queued.key.take().map(|key| Op::Forget { key });
        let id = in_flight.map(|id| rows::in_flight_gone(self.slot, self.id, id));
        cx.ledger.append(row.into_iter().chain(id), false, cx.out);
    }

    /// A new connection has the session: what is in flight is to be sent again. [MQTT-4.4.0-1]
    pub(crate) fn begin_again(&mut self) {
        self.sending.window.begin_again();
        self.sending.clear_held();
        self.sending.forget_queued_tags();
    }
}

/// What is held for retained messages that wait for their turn: places for some 1,000 of them, which
/// are in memory anyway. No more are looked for where a piece waits.
const HELD_RETAINED_BYTES_MAX: usize = 256 * 1024;

/// The PUBLISH that a message becomes for this session.
fn publish_parts(
    queued: &Queued,
    packet_id: Option<PacketId>,
    dup: bool,
    now: Time,
) -> PublishParts<'_> {
    let message = &queued.message;
    PublishParts {
        dup,
        qos: queued.qos,
        retain: queued.retain,
        topic: &message.topic,
        packet_id,
        message_expiry: message.expiry_left(now),
        subscription_ids: queued.subscription_id.as_slice(),
        topic_alias: None,
        forwarded: &message.properties,
        payload_len: message.payload.len(),
    }
}

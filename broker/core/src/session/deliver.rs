//! PUBLISH to the Client: queue, window, order, redelivery.
//!
//! A message passes the queue and then the window. The queue is in memory up to a bound; what is
//! more lies in the store alone and is read back, in order, when the queue has run empty. Nothing is
//! sent before its position is stored: delivery never runs ahead of the promise to the publisher.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::packet_id::PacketIds;
use super::rows;
use super::window::{InFlight, State, Window};
use super::{Cx, Session};
use crate::codec::{Ack, Packet, PacketId, Properties, PublishParts, QoS, ReasonCode};
use crate::hook::{Refused, Tag};
use crate::limits::{QUEUE_IN_MEMORY_MAX, QUEUE_ROWS_PER_READ};
use crate::message::Message;
use crate::output::Output;
use crate::protocol_error::ProtocolError;
use crate::record::{Op, Position};
use crate::time::Time;

/// A message chosen for one session.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    /// Its place in the order of the session's messages.
    pub(crate) number: u64,
    pub(crate) message: Arc<Message>,
    /// The QoS it is sent with. [MQTT-3.8.4-8]
    pub(crate) qos: QoS,
    /// The RETAIN flag it is sent with.
    pub(crate) retain: bool,
    pub(crate) subscription_id: Option<u32>,
    /// It must not be sent before this is stored.
    pub(crate) ready: Position,
    /// Its row, if it has one: to be deleted when it is acknowledged.
    pub(crate) key: Option<Bytes>,
    /// The service that delivers it, and the service's mark.
    pub(crate) tag: Option<(u8, Tag)>,
}

/// Messages on their way to the Client.
#[derive(Debug)]
pub(crate) struct Sending {
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    pub(crate) window: Window,
    ids: PacketIds,
    order: u64,
    /// How many rows the session's queue has in the store, and their bytes.
    pub(crate) rows: usize,
    pub(crate) rows_bytes: usize,
    /// The largest number that went to the store, and the largest that came into memory (or went
    /// on from there). Where they differ the rest lies in the store alone.
    stored_last: u64,
    loaded_last: u64,
    /// Numbers of messages in the window whose rows are still to be read, and to be passed over.
    restored: BTreeSet<u64>,
    /// The session was resumed: rows may lie behind `loaded_last` that have no number here.
    unread: bool,
    /// What `stored_last` was when rows were asked for, while they are.
    reading: Option<u64>,
    /// A service was told that the session is full.
    service_waits: bool,
    /// The session waits for [`Cx::ledger`] to have stored something.
    pub(crate) waiting: bool,
    /// QoS 0 messages that a slow reader did not get.
    pub(crate) dropped: u64,
}

/// What [`Session::offer`] did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    Taken,
    /// It was dropped: QoS 0 to a slow reader.
    Dropped,
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

impl Sending {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            queue_bytes: 0,
            window: Window::default(),
            ids: PacketIds::new(),
            order: 0,
            rows: 0,
            rows_bytes: 0,
            stored_last: 0,
            loaded_last: 0,
            restored: BTreeSet::new(),
            unread: false,
            reading: None,
            service_waits: false,
            waiting: false,
            dropped: 0,
        }
    }

    /// One that has `rows` rows in the store and nothing of them in memory.
    pub(crate) fn with_rows(rows: usize, rows_bytes: usize) -> Self {
        Self { rows, rows_bytes, unread: rows > 0, ..Self::new() }
    }

    /// Messages lie in the store that are not in memory.
    fn is_behind(&self) -> bool {
        self.unread || self.stored_last > self.loaded_last
    }

    fn push(&mut self, queued: Queued) {
        self.queue_bytes += queued.message.size();
        self.queue.push_back(queued);
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queue_bytes = self.queue_bytes.saturating_sub(queued.message.size());
        Some(queued)
    }

    /// Takes back what was in flight when the last connection ended, in the order of sending.
    pub(crate) fn restore(&mut self, mut entries: Vec<InFlight>) {
        entries.sort_by_key(|entry| entry.order);
        for entry in entries {
            self.order = self.order.max(entry.order);
            self.ids.resume_after(entry.packet_id);
            // Not `loaded_last`: a crash leaves QoS 2 messages in flight, and before them QoS 1
            // messages that were in flight as well and are known by their rows only.
            if entry.queued.key.is_some() {
                self.restored.insert(entry.queued.number);
            }
            self.window.push(entry);
        }
    }

    /// Takes rows that were read of the queue, in order. `more`: there are others behind them.
    pub(crate) fn take_rows(&mut self, rows: Vec<Queued>, more: bool) {
        let asked_last = self.reading.take().unwrap_or(0);
        for queued in rows {
            if queued.number > self.loaded_last {
                self.loaded_last = queued.number;
                if !self.restored.remove(&queued.number) {
                    self.push(queued);
                }
            }
        }
        if !more {
            self.unread = false;
            self.restored.clear();
            self.loaded_last = self.loaded_last.max(asked_last);
        }
    }

    /// Tags of one service that are in flight.
    pub(crate) fn tags(&self, service: u8) -> Vec<Tag> {
        let tagged = self.window.iter().filter_map(|entry| entry.queued.tag);
        tagged.filter(|(owner, _)| *owner == service).map(|(_, tag)| tag).collect()
    }

    /// Forgets what services delivered and what was not sent: they deliver it again.
    pub(crate) fn forget_queued_tags(&mut self) {
        self.queue.retain(|queued| queued.tag.is_none());
        self.queue_bytes = self.queue.iter().map(|queued| queued.message.size()).sum();
        self.service_waits = false;
    }

    /// Whether a message of `bytes` finds room under the bounds of the session's queue.
    pub(crate) fn has_room(&self, bytes: usize, messages_max: usize, bytes_max: usize) -> bool {
        let waiting = self.rows.max(self.queue.len());
        waiting < messages_max && self.rows_bytes.max(self.queue_bytes) + bytes <= bytes_max
    }

    /// Pushes out the oldest message that waits and was not sent; its row, if it had one.
    pub(crate) fn drop_oldest(&mut self) -> Option<Option<Bytes>> {
        let index = self.queue.iter().position(|queued| queued.tag.is_none())?;
        let queued = self.queue.remove(index)?;
        self.queue_bytes = self.queue_bytes.saturating_sub(queued.message.size());
        self.note_row_gone(&queued);
        Some(queued.key)
    }

    /// Counts a row that the session's queue gets. Call it before [`Session::offer`].
    pub(crate) fn note_row(&mut self, message: &Message) {
        self.rows += 1;
        self.rows_bytes += message.size();
    }

    fn note_row_gone(&mut self, queued: &Queued) {
        if queued.key.is_some() {
            self.rows = self.rows.saturating_sub(1);
            self.rows_bytes = self.rows_bytes.saturating_sub(queued.message.size());
        }
    }
}

impl Session {
    /// Takes a message for the Client. Follow it by [`Session::pump`].
    pub(crate) fn offer(&mut self, queued: Queued, cx: &mut Cx<'_>) -> Offered {
        if queued.qos == QoS::AtMostOnce {
            if self.link.congested || self.link.burst > 2 * BURST_BYTES || self.opening.is_some() {
                self.sending.dropped += 1;
                return Offered::Dropped;
            }
            self.send_publish(&queued, None, false, cx);
            return Offered::Taken;
        }
        let sending = &mut self.sending;
        if queued.key.is_some() {
            let full = sending.queue.len() >= QUEUE_IN_MEMORY_MAX;
            if self.opening.is_some() || full || sending.is_behind() {
                sending.stored_last = queued.number;
                return Offered::Taken;
            }
            sending.stored_last = queued.number;
            sending.loaded_last = queued.number;
        }
        sending.push(queued);
        Offered::Taken
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

    /// Sends what may be sent now: first what has to be sent again, then the queue.
    pub(crate) fn pump(&mut self, cx: &mut Cx<'_>) -> Pumped {
        let mut pumped = Pumped::default();
        if self.opening.is_some() || self.link.is_held_back() {
            return pumped;
        }
        pumped.wait = self.send_window(cx);
        while !pumped.wait && !self.sending.window.has_unsent() && !self.link.throttled {
            let Some(front) = self.sending.queue.front() else { break };
            if !cx.ledger.is_stored(front.ready) {
                pumped.wait = true;
                break;
            }
            if front.message.is_expired(cx.now) {
                if let Some(expired) = self.sending.pop() {
                    // Its turn passes with an identifier: those behind it get the ones they would
                    // have got, and a gap tells where something expired.
                    let window = &self.sending.window;
                    self.sending.ids.next(|id| window.is_in_use(id));
                    self.forget(&expired, None, cx);
                }
                continue;
            }
            if !self.link.quota.try_take() {
                break;
            }
            pumped.wait = !self.send_front(cx);
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

    /// Moves the front of the queue into the window and sends it; `false` if that has to wait.
    fn send_front(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(queued) = self.sending.pop() else { return true };
        let window = &self.sending.window;
        let Some(packet_id) = self.sending.ids.next(|id| window.is_in_use(id)) else {
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
            entry.after = cx.ledger.append(vec![op], true, cx.out);
            self.sending.window.push(entry);
            return false;
        }
        entry.sent = self.send_publish(&entry.queued, Some(packet_id), false, cx);
        let too_large = !entry.sent;
        self.sending.window.push(entry);
        if too_large {
            self.drop_too_large(packet_id, cx);
        }
        true
    }

    /// A message too large for the Client counts as sent, and as acknowledged. [MQTT-3.1.2-25]
    fn drop_too_large(&mut self, packet_id: PacketId, cx: &mut Cx<'_>) {
        if let Some(entry) = self.sending.window.remove(packet_id) {
            self.give_back(&entry);
            self.forget(&entry.queued, entry.in_store.then_some(packet_id), cx);
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
        self.link.burst += length;
        if self.link.burst > BURST_BYTES && !self.link.throttled {
            self.link.throttled = true;
            let connection = self.link.connection;
            cx.out.outputs.push(Output::Throttled { connection });
        }
        cx.out.send_publish(self.link.connection, self.link.version, &parts, message)
    }

    /// Sends PUBREL.
    pub(crate) fn send_pubrel(&self, packet_id: PacketId, reason: ReasonCode, cx: &mut Cx<'_>) {
        let ack = Ack { packet_id, reason, properties: Properties::default() };
        cx.out.send(self.link.connection, self.link.version, &Packet::Pubrel(ack));
    }

    /// An acknowledgement that ends the delivery of a message of this QoS in this state. Returns
    /// the message; `None` for an identifier that is not in use.
    pub(crate) fn finish(
        &mut self,
        packet_id: PacketId,
        qos: QoS,
        state: State,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Queued>, ProtocolError> {
        let Some(entry) = self.sending.window.get(packet_id) else { return Ok(None) };
        if entry.queued.qos != qos || entry.state != state || !entry.sent {
            return Err(ProtocolError::OutOfTurn(packet_id));
        }
        let Some(entry) = self.sending.window.remove(packet_id) else { return Ok(None) };
        self.give_back(&entry);
        self.forget(&entry.queued, entry.in_store.then_some(packet_id), cx);
        Ok(Some(entry.queued))
    }

    /// PUBREC: the Client has the message; PUBREL follows, once a crash cannot undo that. Whether
    /// the identifier is in use.
    pub(crate) fn handle_pubrec(
        &mut self,
        packet_id: PacketId,
        cx: &mut Cx<'_>,
    ) -> Result<bool, ProtocolError> {
        let Some(entry) = self.sending.window.get(packet_id) else { return Ok(false) };
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
            let mut ops = vec![rows::in_flight(self.slot, self.id, &released)];
            ops.extend(released.queued.key.clone().map(|key| Op::Delete { key }));
            after = cx.ledger.append(ops, true, cx.out);
            self.sending.note_row_gone(&released.queued);
            for entry in self.sending.window.iter_mut().filter(|it| it.packet_id == packet_id) {
                entry.in_store = true;
                entry.queued.key = None;
            }
        }
        self.sending.window.release(packet_id, after);
        Ok(true)
    }

    /// Deletes the rows of a message that is done with; the store may take its time.
    fn forget(&mut self, queued: &Queued, in_flight: Option<PacketId>, cx: &mut Cx<'_>) {
        self.sending.note_row_gone(queued);
        let row = queued.key.clone().map(|key| Op::Delete { key });
        let id = in_flight.map(|id| rows::in_flight_gone(self.slot, self.id, id));
        let ops: Vec<Op> = row.into_iter().chain(id).collect();
        if !ops.is_empty() {
            cx.ledger.append(ops, false, cx.out);
        }
    }

    /// A new connection has the session: what is in flight is to be sent again. [MQTT-4.4.0-1]
    pub(crate) fn begin_again(&mut self) {
        self.sending.window.begin_again();
        self.sending.forget_queued_tags();
    }
}

/// How much goes to a Client in one go before the shell has to have written it: the bytes that a
/// connection may hold stay bounded, whatever is waiting for it.
const BURST_BYTES: usize = 256 * 1024;

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

/// More rows than are read at once must fit into the queue behind what it may hold.
const _: () = assert!(QUEUE_ROWS_PER_READ <= QUEUE_IN_MEMORY_MAX);

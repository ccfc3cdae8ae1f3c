//! What waits for the Client: the queue in memory, and how much of it lies in the store alone.
//!
//! A queue is in memory up to a bound. What is more has rows only, and is read back, in order, when
//! the queue has run empty.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::packet_id::PacketIds;
use super::replays::Replays;
use super::window::{InFlight, Queued, Window};
use crate::codec::QoS;
use crate::hook::Tag;
use crate::limits::{Limits, QUEUE_IN_MEMORY_MAX, QUEUE_ROWS_PER_READ};
use crate::message::Message;
use crate::metric::{Counters, Metric};
use crate::topic::TopicFilter;

/// Messages on their way to the Client.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(super) queue: VecDeque<Queued>,
    queue_bytes: usize,
    /// QoS 0 messages that wait for a SUBACK to go before them or for the shell to write, and their
    /// bytes.
    held: VecDeque<Queued>,
    held_bytes: usize,
    pub(crate) window: Window,
    pub(super) ids: PacketIds,
    pub(super) order: u64,
    /// How many rows the session's queue has in the store, and their bytes.
    pub(crate) rows: usize,
    pub(crate) rows_bytes: usize,
    /// The largest number that went to the store, and the largest that came into memory (or went
    /// on from there). Where they differ the rest lies in the store alone.
    pub(super) stored_last: u64,
    pub(super) loaded_last: u64,
    /// Numbers of messages in the window whose rows are still to be read, and to be passed over.
    pub(super) restored: BTreeSet<u64>,
    /// The session was resumed: rows may lie behind `loaded_last` that have no number here.
    unread: bool,
    /// What `stored_last` was when rows were asked for, while they are.
    pub(super) reading: Option<u64>,
    /// Retained messages that come when less waits.
    pub(crate) replays: Replays,
    /// A service was told that the session is full.
    pub(super) service_waits: bool,
    /// The session waits for [`Cx::ledger`] to have stored something.
    pub(crate) waiting: bool,
    /// The largest number that was in flight when the session was put away. See `Offline`.
    pub(crate) in_flight_last: u64,
    /// The largest number of a QoS 1 message that may have been sent before a crash.
    pub(crate) perhaps_sent: u64,
}

impl Sending {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            queue_bytes: 0,
            held: VecDeque::new(),
            held_bytes: 0,
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
            replays: Replays::default(),
            service_waits: false,
            waiting: false,
            in_flight_last: 0,
            perhaps_sent: 0,
        }
    }

    /// One that has `rows` rows in the store and nothing of them in memory.
    pub(crate) fn with_rows(rows: usize, rows_bytes: usize) -> Self {
        Self { rows, rows_bytes, unread: rows > 0, ..Self::new() }
    }

    /// Messages lie in the store that are not in memory.
    pub(super) fn is_behind(&self) -> bool {
        self.unread || self.stored_last > self.loaded_last
    }

    /// Whether nothing waits to be sent, or to be read from the store, or for room.
    pub(super) fn is_at_rest(&self) -> bool {
        self.queue.is_empty()
            && self.held.is_empty()
            && !self.window.has_unsent()
            && !self.is_behind()
            && !self.service_waits
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.queue_bytes += queued.message.size();
        self.queue.push_back(queued);
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queue_bytes = self.queue_bytes.saturating_sub(queued.message.size());
        Some(queued)
    }

    /// Holds a QoS 0 message back; `false` if too many bytes are held already.
    pub(super) fn hold(&mut self, queued: Queued, bytes_max: usize) -> bool {
        let bytes = self.held_bytes + held_bytes(&queued);
        if bytes > bytes_max {
            return false;
        }
        self.held_bytes = bytes;
        self.held.push_back(queued);
        true
    }

    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// How many retained messages may be looked for; `None`: what waits for the Client goes first. One
    /// always has room where nothing waits, whatever the bounds.
    pub(crate) fn room_for_retained(&self, bounds: &QueueBounds) -> Option<usize> {
        let (messages, bytes) = self.waiting_size();
        let messages = messages.max(self.held.len());
        if messages >= REPLAY_WAITING_MAX || bytes >= REPLAY_WAITING_BYTES_MAX {
            return None;
        }
        let room = bounds.messages.0.saturating_sub(messages);
        let room = if messages == 0 { room.max(1) } else { room };
        (room > 0).then_some(room)
    }

    /// The first of what was held back.
    pub(super) fn pop_held(&mut self) -> Option<Queued> {
        let queued = self.held.pop_front()?;
        self.held_bytes = self.held_bytes.saturating_sub(held_bytes(&queued));
        Some(queued)
    }

    /// Forgets what was held back for a connection that is over.
    pub(super) fn clear_held(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
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

    /// How many messages wait, in memory or in the store, and their bytes.
    pub(crate) fn waiting_size(&self) -> (usize, usize) {
        (self.rows.max(self.queue.len()), self.rows_bytes.max(self.queue_bytes))
    }

    /// Bytes of messages in memory that were not sent.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        self.queue_bytes + self.held_bytes
    }

    /// The bound of the session's queue that leaves no room for a message of `bytes`, if one does.
    pub(crate) fn full_by(&self, bytes: usize, bounds: &QueueBounds) -> Option<Metric> {
        bounds.full_by(self.waiting_size(), bytes)
    }

    /// Pushes out the oldest message that waits and was not sent; its row, if it had one.
    pub(crate) fn drop_oldest(&mut self, counters: &Counters) -> Option<Option<Bytes>> {
        let index = self.queue.iter().position(|queued| queued.tag.is_none())?;
        let queued = self.queue.remove(index)?;
        self.queue_bytes = self.queue_bytes.saturating_sub(queued.message.size());
        self.note_row_gone(&queued, counters);
        Some(queued.key)
    }

    /// What has no row and was not taken by the Client for certain, of Shared Subscriptions: for
    /// another member, when the session ends. What was sent with QoS 2 stays with its Client, who
    /// is gone. [MQTT-4.8.2-5]
    pub(crate) fn left_to_others(self) -> impl Iterator<Item = (TopicFilter, Arc<Message>)> {
        let Self { mut window, queue, .. } = self;
        let sent: Vec<InFlight> = window.drain().collect();
        let sent = sent.into_iter().filter_map(|entry| {
            let taken = entry.queued.qos == QoS::ExactlyOnce && entry.was_sent();
            (!taken).then_some(entry.queued)
        });
        let all = sent.chain(queue).filter(|queued| queued.key.is_none());
        all.filter_map(|queued| Some((queued.share?, queued.message)))
    }

    /// Counts a row that the session's queue gets. Call it before [`Session::offer`].
    pub(crate) fn note_row(&mut self, message: &Message, counters: &Counters) {
        counters.add(Metric::QueuedMessages, 1);
        counters.add(Metric::QueuedBytes, message.size() as u64);
        self.rows += 1;
        self.rows_bytes += message.size();
    }

    pub(super) fn note_row_gone(&mut self, queued: &Queued, counters: &Counters) {
        if queued.key.is_some() {
            counters.take(Metric::QueuedMessages, 1);
            counters.take(Metric::QueuedBytes, queued.message.size() as u64);
            self.rows = self.rows.saturating_sub(1);
            self.rows_bytes = self.rows_bytes.saturating_sub(queued.message.size());
        }
    }
}

/// How much may wait for a session, and what is counted when more is to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueBounds {
    messages: (usize, Metric),
    bytes: (usize, Metric),
}

/// The bounds of sessions that outlive their connection, and of those that do not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AllQueueBounds {
    persistent: QueueBounds,
    in_memory: QueueBounds,
}

impl AllQueueBounds {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            persistent: QueueBounds::new(limits, true),
            in_memory: QueueBounds::new(limits, false),
        }
    }

    pub(crate) fn of(&self, is_persistent: bool) -> &QueueBounds {
        if is_persistent { &self.persistent } else { &self.in_memory }
    }
}

impl QueueBounds {
    /// Those of a session that outlives its connection, or does not: all of that is in memory.
    pub(crate) fn new(limits: &Limits, is_persistent: bool) -> Self {
        let messages = (limits.session_queue_messages_max, Metric::LimitQueueMessages);
        let bytes = (limits.session_queue_bytes_max, Metric::LimitQueueBytes);
        if is_persistent {
            return Self { messages, bytes };
        }
        let messages_in_memory =
            (limits.memory_queue_messages_max, Metric::LimitMemoryQueueMessages);
        let bytes_max = limits.memory_queue_bytes_max.max(limits.packet_bytes_max);
        let bytes_in_memory = (bytes_max, Metric::LimitMemoryQueueBytes);
        let least = |one: (usize, Metric), other: (usize, Metric)| {
            if other.0 < one.0 { other } else { one }
        };
        Self { messages: least(messages, messages_in_memory), bytes: least(bytes, bytes_in_memory) }
    }

    /// Whether a message of `bytes` finds no room even where nothing waits.
    pub(crate) fn never_fits(&self, bytes: usize) -> bool {
        bytes > self.bytes.0
    }

    /// The bound that is met by a message of `bytes` behind so many messages and their bytes.
    pub(crate) fn full_by(&self, waiting: (usize, usize), bytes: usize) -> Option<Metric> {
        let ((messages_max, by_messages), (bytes_max, by_bytes)) = (self.messages, self.bytes);
        if waiting.0 >= messages_max {
            return Some(by_messages);
        }
        (waiting.1.saturating_add(bytes) > bytes_max).then_some(by_bytes)
    }
}

/// How many messages may wait for the Client when more retained ones are looked for: more than the
/// usual window, so that it never runs empty.
const REPLAY_WAITING_MAX: usize = 128;

/// The same in bytes of messages: with a turn's worth behind them less than a queue may be.
const REPLAY_WAITING_BYTES_MAX: usize = 128 * 1024;

/// What it takes to hold a message back: a retained one is in memory anyway.
fn held_bytes(queued: &Queued) -> usize {
    let own = if queued.retain { 0 } else { queued.message.size() };
    own + HELD_BYTES
}

/// The place of a message that is held back, a little more than it takes.
const HELD_BYTES: usize = 256;

/// More rows than are read at once must fit into the queue behind what it may hold.
const _: () = assert!(QUEUE_ROWS_PER_READ <= QUEUE_IN_MEMORY_MAX);

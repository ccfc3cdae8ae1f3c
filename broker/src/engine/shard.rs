//! A shard's end of the store: its newest rows, and how far they are safe.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use tidings_core::record::{Position, Query, Record, Row};
use tidings_core::slot::ShardId;

use super::reader::ReadRequest;
use crate::commit::{Desk, Frozen, Hub, Lane, Notify, Work, count, lock};
use crate::store::StoreFailure;
use crate::store::newest::Newest;
use crate::store::overlay::{self, Rows, newest_first};
use crate::store::read::{self, Answer};

/// Above this many records on their way to the disk, a shard must not read from its publishers.
pub const HANDOFF_RECORDS_MAX: u64 = 4_096;

/// Above this many bytes on their way to the disk, a shard must not read from its publishers.
pub const HANDOFF_BYTES_MAX: u64 = 8 << 20;

/// Rows in memory, notes of deleted ones included, at which a shard asks for a checkpoint: a note
/// takes some 100 bytes here and half of that in the journal, whose size would ask too late.
const ROWS_MAX: usize = 250_000;

/// How much the rows of a shard grow before who looks at the disk is told, in bytes: the shards
/// share what is counted down.
const TOLD_BYTES: u64 = 64 << 10;

/// Reads of one shard that the reader knows of; more wait with the shard.
pub(super) const READS_IN_FLIGHT_MAX: usize = 16;

/// What one shard appends to and reads from. Owned by the shard's thread.
#[derive(Debug)]
pub struct ShardStore {
    shard: ShardId,
    hub: Arc<Hub>,
    lane: Arc<Lane>,
    /// Rows written since the last freeze.
    active: Newest,
    /// Frozen rows that the store may not have yet, the oldest first.
    layers: Vec<Arc<Rows>>,
    /// What the rows of each of `layers` take in the store.
    layer_bytes: Vec<u64>,
    /// The last record in each of `layers`.
    layer_ends: Vec<u64>,
    /// Rows of later records are in memory, wherever they are.
    released_to: u64,
    /// How much of it [`Hub::growth`] knows of.
    told_bytes: u64,
    /// A checkpoint was asked for, because these are many rows.
    asked_for_checkpoint: bool,
    appended: u64,
    appended_bytes: u64,
    /// What the committer has not been told of.
    untold: Work,
    /// What the shard was last told is stored.
    told: u64,
    told_of_failure: bool,
    reader: SyncSender<ReadRequest>,
    in_flight: usize,
    waiting: VecDeque<(u64, Query)>,
    /// Answers that nobody had to be asked for.
    known: VecDeque<(u64, Answer)>,
    durable: bool,
}

/// What is on its way to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Records handed over and not yet stored.
    pub records: u64,
    /// Their bytes in the journal.
    pub bytes: u64,
    /// Checkpoints have fallen far behind the journal.
    pub behind: bool,
}

impl Backlog {
    /// Whether the shard must stop reading from its publishers until this is less.
    pub fn is_full(&self) -> bool {
        self.behind || self.records > HANDOFF_RECORDS_MAX || self.bytes > HANDOFF_BYTES_MAX
    }
}

/// What happened to a shard's records and reads.
#[derive(Debug, Clone)]
pub enum StoreEvent {
    /// Every record up to this one is safe.
    Stored(Position),
    /// The answer to a read.
    Rows {
        /// The number that [`ShardStore::read`] was given.
        id: u64,
        /// The rows, in the order asked for.
        rows: Vec<Row>,
        /// Whether the range has more behind the last.
        more: bool,
    },
    /// The store has ended: nothing will be stored or read any more. Comes once.
    Failed(StoreFailure),
}

impl ShardStore {
    pub(super) fn new(
        shard: ShardId,
        hub: Arc<Hub>,
        lane: Arc<Lane>,
        layers: Vec<Arc<Rows>>,
        reader: SyncSender<ReadRequest>,
        durable: bool,
    ) -> Self {
        let layer_bytes: Vec<_> = layers.iter().map(|rows| overlay::bytes(rows)).collect();
        let at_start = layer_bytes.iter().sum();
        lane.unstored_bytes.store(at_start, Ordering::Relaxed);
        Self {
            shard,
            hub,
            lane,
            active: Newest::default(),
            layer_ends: vec![0; layers.len()],
            released_to: 0,
            layer_bytes,
            told_bytes: at_start,
            asked_for_checkpoint: false,
            layers,
            appended: 0,
            appended_bytes: 0,
            untold: Work::None,
            told: 0,
            told_of_failure: false,
            reader,
            in_flight: 0,
            waiting: VecDeque::new(),
            known: VecDeque::new(),
            durable,
        }
    }

    /// Which shard this is the end of.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Sets what wakes the shard's thread. Once, before the shard begins; calls it if something
    /// has happened already.
    pub fn set_notifier(&mut self, notifier: Arc<dyn Notify>) {
        self.lane.set_notifier(notifier);
    }

    /// Applies the record to this shard's rows at once and puts it down for the committer, who is told
    /// by the next [`poll`](Self::poll): the notifier asks for one, so that all records of a turn go
    /// together. Positions count from 1. Never blocks on the disk.
    ///
    /// Keys must be of this shard's slots. A record that no journal can take (over 256 MiB, or a
    /// key over 64 KiB) is a failure of the store: the rows would be lost by the next start.
    pub fn append(&mut self, record: Record) -> Position {
        self.look_at_desk();
        self.appended += 1;
        let Record { ops, urgent } = record;
        if self.durable && self.hub.failure().is_none() {
            match self.lane.hand_over(self.shard, &ops) {
                Some(handed) => {
                    self.appended_bytes += handed.bytes;
                    let urgent = urgent || handed.is_enough;
                    self.untold = self.untold.max(if urgent { Work::Urgent } else { Work::Lazy });
                    // Who has set no notifier is not asked to poll.
                    if handed.is_enough || !self.lane.wake() {
                        self.tell_committer();
                    }
                }
                None => {
                    let cause = "a record is over 256 MiB or has a key over 64 KiB";
                    self.hub.fail(StoreFailure::new("append to the journal", cause));
                }
            }
        }
        for op in ops {
            self.active.apply(op, self.durable);
        }
        if self.active.len() >= ROWS_MAX && self.durable && !self.asked_for_checkpoint {
            self.asked_for_checkpoint = true;
            self.hub.want_checkpoint();
        }
        self.count_unstored();
        if !self.durable {
            self.lane.stored.store(self.appended, Ordering::Release);
            self.lane.wake();
        }
        Position(self.appended)
    }

    /// Tells the committer of what was handed over: once for all that came in one turn, so that a
    /// group holds it whole and its thread is not woken for a part of it.
    fn tell_committer(&mut self) {
        match std::mem::take(&mut self.untold) {
            Work::None => {}
            Work::Lazy => self.hub.stir_lazily(Instant::now()),
            Work::Urgent => self.hub.stir(),
        }
    }

    fn count_unstored(&mut self) {
        if !self.durable {
            return;
        }
        let bytes = self.layer_bytes.iter().sum::<u64>() + self.active.bytes();
        self.lane.unstored_bytes.store(bytes, Ordering::Relaxed);
        let grown = bytes.saturating_sub(self.told_bytes);
        if grown >= TOLD_BYTES {
            self.hub.growth.add(grown);
        }
        if grown == 0 || grown >= TOLD_BYTES {
            self.told_bytes = bytes;
        }
    }

    /// What was handed over and is not stored yet.
    pub fn backlog(&self) -> Backlog {
        let stored_bytes = self.lane.stored_bytes.load(Ordering::Acquire);
        Backlog {
            records: self.appended.saturating_sub(self.lane.stored.load(Ordering::Acquire)),
            bytes: self.appended_bytes.saturating_sub(stored_bytes),
            behind: self.hub.behind.load(Ordering::Acquire),
        }
    }

    /// Starts a read of this shard's rows, which sees every record appended before. Its answer
    /// comes with `id`; answers come in the order of the reads.
    ///
    /// Reads that wait are kept here: they are as many as the caller lets them be. A read walks
    /// over deleted rows of the time since the last checkpoint, so one that goes on where another
    /// ended should begin behind its last row.
    pub fn read(&mut self, id: u64, query: Query) {
        if self.in_flight >= READS_IN_FLIGHT_MAX || !self.waiting.is_empty() {
            self.waiting.push_back((id, query));
        } else {
            self.submit(id, query);
        }
    }

    /// The same of rows none of which was put by the record `since` or before it, unless that is the
    /// start: what no checkpoint has taken over is read from memory, at once.
    pub fn read_since(&mut self, id: u64, query: Query, since: Position) {
        self.look_at_desk();
        let in_memory = since > Position::START && since.0 >= self.released_to || !self.durable;
        if !in_memory || self.in_flight > 0 || !self.waiting.is_empty() {
            return self.read(id, query);
        }
        let (newer, older) = self.active.layers(&query.range, query.rows_max);
        let layers = [&newer, older].into_iter().chain(newest_first(&self.layers));
        self.known.push_back((id, read::read_layers(layers, &query)));
        count(&self.hub.counters.reads, 1);
        self.lane.wake();
    }

    /// What happened since the last time; `None` when nothing is left. Call it until then: the
    /// notifier is silent before.
    pub fn poll(&mut self) -> Option<StoreEvent> {
        self.tell_committer();
        loop {
            self.look_at_desk();
            if let Some(event) = self.next_event() {
                return Some(event);
            }
            if !self.lane.was_woken() {
                return None;
            }
        }
    }

    fn next_event(&mut self) -> Option<StoreEvent> {
        let stored = self.lane.stored.load(Ordering::Acquire);
        if stored > self.told {
            self.told = stored;
            return Some(StoreEvent::Stored(Position(stored)));
        }
        if let Some((id, Answer { rows, more })) = self.known.pop_front() {
            return Some(StoreEvent::Rows { id, rows, more });
        }
        if self.in_flight > 0 {
            let answer = lock(&self.lane.answers).pop_front();
            if let Some((id, answer)) = answer {
                self.in_flight -= 1;
                if let Some((id, query)) = self.waiting.pop_front() {
                    self.submit(id, query);
                }
                return Some(StoreEvent::Rows { id, rows: answer.rows, more: answer.more });
            }
        }
        if !self.told_of_failure
            && let Some(failure) = self.hub.failure()
        {
            self.told_of_failure = true;
            return Some(StoreEvent::Failed(failure.clone()));
        }
        None
    }

    fn submit(&mut self, id: u64, query: Query) {
        let Query { range, rows_max, bytes_max, backwards } = &query;
        let active = self.active.ordered(range);
        let (top, range) = overlay::capture(active, range, *backwards, *rows_max, *bytes_max);
        let request = ReadRequest::Rows {
            lane: Arc::clone(&self.lane),
            id,
            query: Query { range, ..query },
            top,
            layers: self.layers.clone(),
        };
        match self.reader.try_send(request) {
            Ok(()) => self.in_flight += 1,
            // The reader has ended, and the failure that ended it says so.
            Err(TrySendError::Disconnected(_)) => {}
            // As many fit as shards may have in flight.
            Err(TrySendError::Full(_)) => debug_assert!(false, "more reads than there is room for"),
        }
    }

    fn look_at_desk(&mut self) {
        if !self.lane.desk_changed.swap(false, Ordering::AcqRel) {
            return;
        }
        let lane = Arc::clone(&self.lane);
        let mut desk = lock(&lane.desk);
        self.release(&mut desk);
        if std::mem::take(&mut desk.freeze) {
            desk.frozen = Some(self.freeze());
        }
        drop(desk);
        self.hub.gate.changed();
    }

    /// Lets go of the layers that the store has. They are the oldest.
    fn release(&mut self, desk: &mut Desk) {
        let released = std::mem::take(&mut desk.release).min(self.layers.len());
        self.layers.drain(..released);
        self.layer_bytes.drain(..released);
        self.released_to = self.layer_ends.drain(..released).max().unwrap_or(self.released_to);
        self.count_unstored();
    }

    fn freeze(&mut self) -> Frozen {
        self.asked_for_checkpoint = false;
        if !self.active.is_empty() {
            let (rows, bytes) = self.active.take();
            self.layers.push(Arc::new(rows));
            self.layer_bytes.push(bytes);
            self.layer_ends.push(self.appended);
        }
        Frozen { layers: self.layers.clone(), records: self.appended }
    }
}

impl Drop for ShardStore {
    /// Leaves the rows to the last checkpoint.
    fn drop(&mut self) {
        self.tell_committer();
        let lane = Arc::clone(&self.lane);
        // One lock for both: what is released in between would be released by nobody.
        let mut desk = lock(&lane.desk);
        self.release(&mut desk);
        desk.left = Some(self.freeze());
        drop(desk);
        self.hub.gate.changed();
    }
}

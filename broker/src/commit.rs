//! The committer: takes every record that waits, writes them with one write and one sync, and
//! tells each shard how far it is safe.
//!
//! There is no timer to tune: while one group is being synced the next one gathers, so the group
//! is as large as the disk is slow. Only records that nobody waits for are given time to find
//! company. After a failed write or sync nothing is ever published again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::base::Copying;
use crate::growth::Growth;
use crate::journal::{Group, Journal};
use crate::store::StoreFailure;

mod counters;
mod gate;
mod lane;

pub use counters::Stats;
pub(crate) use counters::{Counters, count};
pub(crate) use gate::Gate;
pub(crate) use lane::{Desk, Frozen, Lane};

/// Wakes the thread of a shard: it has something to [`poll`](crate::engine::ShardStore::poll).
///
/// Called from the store's threads, and not again before the shard has polled to the end.
pub trait Notify: Send + Sync {
    /// Makes the shard's thread poll soon. Must not block.
    fn notify(&self);
}

/// What the store's threads and the shards share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) counters: Counters,
    /// The checkpointer waits here.
    pub(crate) gate: Gate,
    /// The sequence number of the last record that is safe.
    pub(crate) synced: AtomicU64,
    /// Journal bytes that no checkpoint has covered yet.
    pub(crate) uncovered_bytes: AtomicU64,
    /// Records up to here may leave the journal; the committer does it.
    pub(crate) forget: AtomicU64,
    /// One is under way, and may wait for records to be safe.
    pub(crate) checkpointing: AtomicBool,
    /// A checkpoint is to begin, whatever the journal's size.
    pub(crate) wanted: AtomicBool,
    /// Records up to here are in the store for good.
    pub(crate) checkpointed: AtomicU64,
    /// Records up to here are in the newest base too; [`NO_BASES`] where none are written.
    pub(crate) based: AtomicU64,
    /// Journal bytes behind the newest base.
    pub(crate) kept_bytes: AtomicU64,
    /// The disk is nearly full: bases are written sooner, so that less journal is kept.
    pub(crate) disk_low: AtomicBool,
    /// The keeper of bases waits here.
    pub(crate) keeper_gate: Gate,
    /// More of the journal is uncovered than checkpoints should ever let it: publishers must wait.
    pub(crate) behind: AtomicBool,
    /// Who looks at the disk waits here.
    pub(crate) growth: Growth,
    failure: OnceLock<StoreFailure>,
    urgent: AtomicBool,
    lazy: AtomicBool,
    state: Mutex<CommitterState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct CommitterState {
    /// Since when the oldest record waits that nobody waits for.
    lazy_since: Option<Instant>,
    /// Its thread waits for work: one that is busy looks again before it does, and costs no call.
    waits: bool,
    stop: Option<Stop>,
}

impl CommitterState {
    /// How long the oldest record that nobody waits for may still wait; nothing: there is none.
    fn lazy_left(&self, now: Instant, lazy_flush: Duration) -> Option<Duration> {
        let waited = self.lazy_since.map(|since| now.saturating_duration_since(since));
        waited.map(|waited| lazy_flush.saturating_sub(waited))
    }
}

/// How the committer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// With everything that was handed over committed.
    Drained,
    /// At once, as if killed.
    Abandoned,
}

/// What waits for the committer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Work {
    /// Nothing.
    #[default]
    None,
    /// Records that nobody waits for. They have [`EngineOptions::lazy_flush`] to find company.
    ///
    /// [`EngineOptions::lazy_flush`]: crate::engine::EngineOptions::lazy_flush
    Lazy,
    /// A record, or a place in the journal to be given back, that somebody waits for.
    Urgent,
}

/// Locks, whether or not another thread panicked while it held the lock: each panic of the
/// store's threads is turned into a failure, and the data is not used for anything then.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(crate) fn new(shards: u16, synced: u64) -> Self {
        Self {
            lanes: (0..shards).map(|_| Arc::default()).collect(),
            counters: Counters::default(),
            gate: Gate::default(),
            synced: AtomicU64::new(synced),
            uncovered_bytes: AtomicU64::new(0),
            forget: AtomicU64::new(0),
            checkpointing: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            checkpointed: AtomicU64::new(0),
            based: AtomicU64::new(NO_BASES),
            kept_bytes: AtomicU64::new(0),
            disk_low: AtomicBool::new(false),
            keeper_gate: Gate::default(),
            behind: AtomicBool::new(false),
            growth: Growth::default(),
            failure: OnceLock::new(),
            urgent: AtomicBool::new(false),
            lazy: AtomicBool::new(false),
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub(crate) fn failure(&self) -> Option<&StoreFailure> {
        self.failure.get()
    }

    /// The first failure counts. Tells every shard.
    pub(crate) fn fail(&self, failure: StoreFailure) {
        let _first = self.failure.set(failure);
        for lane in &self.lanes {
            lane.wake();
        }
        self.stir();
        self.gate.changed();
        self.keeper_gate.changed();
    }

    /// What checkpoints have yet to write: far more than the journal has of it, where one value is
    /// in many rows.
    pub(crate) fn unstored_bytes(&self) -> u64 {
        let lanes = self.lanes.iter();
        lanes.map(|lane| lane.unstored_bytes.load(Ordering::Relaxed)).fold(0, u64::saturating_add)
    }

    /// The journal has grown, which costs room and the next start time; or the rows in memory have.
    /// The one is much larger than the other where messages are delivered soon: those come and go in
    /// memory, and the later this is, the fewer are written only to be deleted again.
    pub(crate) fn is_checkpoint_due(&self, checkpoint_bytes: u64) -> bool {
        self.wanted.load(Ordering::Acquire)
            || self.uncovered_bytes.load(Ordering::Acquire) >= checkpoint_bytes
            || self.unstored_bytes() >= (checkpoint_bytes / 2).max(1)
    }

    /// Begins a checkpoint soon.
    pub(crate) fn want_checkpoint(&self) {
        self.wanted.store(true, Ordering::Release);
        self.gate.changed();
    }

    pub(crate) fn stop(&self, stop: Stop) {
        lock(&self.state).stop.get_or_insert(stop);
        self.wake.notify_all();
        self.gate.changed();
        self.keeper_gate.changed();
    }

    /// Records up to `through` are in the store: those that a base has too may leave the journal.
    pub(crate) fn checkpointed(&self, through: u64) {
        self.checkpointed.fetch_max(through, Ordering::AcqRel);
        self.forget.fetch_max(self.forgettable(), Ordering::AcqRel);
        self.keeper_gate.changed();
    }

    /// The last record that the journal need not have any more.
    pub(crate) fn forgettable(&self) -> u64 {
        let based = self.based.load(Ordering::Acquire);
        self.checkpointed.load(Ordering::Acquire).min(based)
    }

    pub(crate) fn stopping(&self) -> bool {
        lock(&self.state).stop.is_some()
    }

    /// Makes the committer look now.
    pub(crate) fn stir(&self) {
        if !self.urgent.swap(true, Ordering::AcqRel) && lock(&self.state).waits {
            self.wake.notify_all();
        }
    }

    /// Makes the committer look before long. The first record's time counts: however many follow,
    /// and however often, it waits no longer for them.
    pub(crate) fn stir_lazily(&self, now: Instant) {
        if !self.lazy.swap(true, Ordering::AcqRel) {
            let mut state = lock(&self.state);
            state.lazy_since.get_or_insert(now);
            if state.waits {
                self.wake.notify_all();
            }
        }
    }

    /// What the committer is asked for, without waiting for it.
    pub(crate) fn work(&self) -> Work {
        if self.urgent.load(Ordering::Acquire) {
            Work::Urgent
        } else if self.lazy.load(Ordering::Acquire) {
            Work::Lazy
        } else {
            Work::None
        }
    }

    /// The committer is about to take what waits: a record that comes later asks anew.
    pub(crate) fn take_on_work(&self) {
        let mut state = lock(&self.state);
        state.lazy_since = None;
        self.urgent.store(false, Ordering::Release);
        self.lazy.store(false, Ordering::Release);
    }

    /// Waits until there is a reason to commit.
    fn wait_for_work(&self, lazy_flush: Duration) -> Option<Stop> {
        let mut state = lock(&self.state);
        loop {
            if self.urgent.swap(false, Ordering::AcqRel) || state.stop.is_some() {
                break;
            }
            let left = state.lazy_left(Instant::now(), lazy_flush);
            state.waits = true;
            state = match left {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = self.wake.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.waits = false;
        // Before the records are taken: one that comes later asks anew.
        state.lazy_since = None;
        self.lazy.store(false, Ordering::Release);
        state.stop
    }
}

/// Writes groups to the journal.
#[derive(Debug)]
pub(crate) struct Committer {
    hub: Arc<Hub>,
    journal: Box<dyn Journal>,
    checkpoint_bytes: u64,
    /// Whether the journal syncs; only counted here.
    syncs: bool,
    group: Group,
    /// What a shard's lane gets in place of its group.
    spare: Group,
    /// Of each lane, the records in the group and their bytes.
    taken: Vec<(u64, u64)>,
    copying: Option<Copying>,
}

/// The value of [`Hub::based`] where there are no bases to wait for.
pub(crate) const NO_BASES: u64 = u64::MAX;

/// How much journal may wait for a checkpoint before publishers have to: what it begins at, and half
/// as much again while it is made.
const fn behind_at(checkpoint_bytes: u64) -> u64 {
    checkpoint_bytes.saturating_add(checkpoint_bytes / 2)
}

impl Committer {
    pub(crate) fn new(
        hub: Arc<Hub>,
        journal: Box<dyn Journal>,
        checkpoint_bytes: u64,
        syncs: bool,
    ) -> Self {
        let taken = vec![(0, 0); hub.lanes.len()];
        let (group, spare) = (Group::default(), Group::default());
        let copying = None;
        Self { hub, journal, checkpoint_bytes, syncs, group, spare, taken, copying }
    }

    /// From now on the journal forgets nothing while somebody copies.
    pub(crate) fn respect(&mut self, copying: Copying) {
        self.copying = Some(copying);
    }

    /// The thread: commits until it is stopped or fails, and gives the journal back.
    pub(crate) fn run(mut self, lazy_flush: Duration) -> Box<dyn Journal> {
        loop {
            let stop = self.hub.wait_for_work(lazy_flush);
            if stop == Some(Stop::Abandoned) || self.hub.failure().is_some() {
                return self.journal;
            }
            if let Err(failure) = self.commit_waiting() {
                self.hub.fail(failure);
                return self.journal;
            }
            if stop.is_some() {
                return self.journal;
            }
        }
    }

    /// Gives the journal back.
    pub(crate) fn into_journal(self) -> Box<dyn Journal> {
        self.journal
    }

    /// Commits all that was handed over, as one group, and lets the journal forget what it may.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`]; it must not be called again then.
    pub(crate) fn commit_waiting(&mut self) -> Result<(), StoreFailure> {
        for (lane, taken) in self.hub.lanes.iter().zip(&mut self.taken) {
            *taken = lane.take(&mut self.spare);
            self.group.append(&mut self.spare);
        }
        let failed = |error| StoreFailure::new("write the journal", error);
        let hub = &self.hub;
        if !self.group.is_empty() {
            let (records, bytes) =
                (u64::from(self.group.entries()), self.group.bytes().len() as u64);
            let last = self.journal.append(&mut self.group).map_err(failed)?;
            self.group.clear();
            hub.synced.store(last, Ordering::Release);
            count(&hub.counters.groups, 1);
            count(&hub.counters.syncs, u64::from(self.syncs));
            count(&hub.counters.records, records);
            count(&hub.counters.journal_bytes, bytes);
            hub.growth.add(bytes);
            for (lane, (records, bytes)) in hub.lanes.iter().zip(&self.taken) {
                if *records > 0 {
                    lane.stored_bytes.fetch_add(*bytes, Ordering::Release);
                    lane.stored.fetch_add(*records, Ordering::Release);
                    lane.wake();
                }
            }
            hub.kept_bytes.fetch_add(bytes, Ordering::AcqRel);
            let uncovered = hub.uncovered_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
            if uncovered >= behind_at(self.checkpoint_bytes) {
                hub.behind.store(true, Ordering::Release);
            }
            // Either it sees that these records are safe, or this that one is under way.
            fence(Ordering::SeqCst);
            if hub.checkpointing.load(Ordering::Acquire)
                || hub.is_checkpoint_due(self.checkpoint_bytes)
            {
                hub.gate.changed();
            }
        }
        match hub.forget.swap(0, Ordering::AcqRel) {
            0 => Ok(()),
            through => {
                let journal = &mut self.journal;
                let Some(copying) = &self.copying else {
                    return journal.forget(through).map_err(failed);
                };
                let locked = copying.unless(|| journal.forget(through));
                match locked.map_err(|error| StoreFailure::new("lock the folder", error))? {
                    Some(forgotten) => forgotten.map_err(failed),
                    None => {
                        // Tried again with the next group.
                        hub.forget.fetch_max(through, Ordering::AcqRel);
                        Ok(())
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_nobody_waits_for_waits_no_longer_because_others_follow() {
        let (hub, began) = (Hub::new(1, 0), Instant::now());
        let flush = Duration::from_millis(25);
        let left = |at| lock(&hub.state).lazy_left(began + Duration::from_millis(at), flush);
        assert_eq!(left(0), None);
        for at in 0..20 {
            hub.stir_lazily(began + Duration::from_millis(at));
        }
        assert_eq!(left(20), Some(Duration::from_millis(5)));
        assert_eq!(left(30), Some(Duration::ZERO));
        // One that comes while the others are written begins anew.
        hub.take_on_work();
        assert_eq!(left(30), None);
        hub.stir_lazily(began + Duration::from_millis(31));
        assert_eq!(left(32), Some(Duration::from_millis(24)));
    }
}

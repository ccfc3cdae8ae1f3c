//! What the store counts, each by the thread that does it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the store has done since it began, and is behind with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Groups written to the journal.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes.
    pub journal_bytes: u64,
    /// Groups that were synced, each with one sync.
    pub syncs: u64,
    /// Checkpoints finished.
    pub checkpoints: u64,
    /// Rows that checkpoints put into the store.
    pub rows_put: u64,
    /// Rows that checkpoints deleted from the store.
    pub rows_deleted: u64,
    /// Bytes of keys and values that checkpoints put into the store.
    pub store_bytes: u64,
    /// Reads answered.
    pub reads: u64,
    /// Bases written.
    pub bases: u64,
    /// Their bytes.
    pub base_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) journal_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) rows_put: AtomicU64,
    pub(crate) rows_deleted: AtomicU64,
    pub(crate) store_bytes: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) bases: AtomicU64,
    pub(crate) base_bytes: AtomicU64,
}

/// Adds to a counter of [`Counters`].
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            groups: get(&self.groups),
            records: get(&self.records),
            journal_bytes: get(&self.journal_bytes),
            syncs: get(&self.syncs),
            checkpoints: get(&self.checkpoints),
            rows_put: get(&self.rows_put),
            rows_deleted: get(&self.rows_deleted),
            store_bytes: get(&self.store_bytes),
            reads: get(&self.reads),
            bases: get(&self.bases),
            base_bytes: get(&self.base_bytes),
        }
    }
}

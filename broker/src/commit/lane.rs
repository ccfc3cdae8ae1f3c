//! A shard's lane: its records on their way to the committer, and what the store's threads put down
//! for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use tidings_core::record::Op;
use tidings_core::slot::ShardId;

use super::{Hub, Notify, lock};
use crate::journal::Group;
use crate::store::overlay::Rows;
use crate::store::read::Answer;

/// One shard's way to the store's threads and back.
#[derive(Default)]
pub(crate) struct Lane {
    pending: Mutex<Pending>,
    /// What the rows take that the store has not, each key with its value.
    pub(crate) unstored_bytes: AtomicU64,
    /// Records that are safe, and their bytes.
    pub(crate) stored: AtomicU64,
    pub(crate) stored_bytes: AtomicU64,
    pub(crate) answers: Mutex<VecDeque<(u64, Answer)>>,
    pub(crate) desk: Mutex<Desk>,
    /// Whether the shard has to look at its desk.
    pub(crate) desk_changed: AtomicBool,
    notifier: OnceLock<Arc<dyn Notify>>,
    notified: AtomicBool,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("stored", &self.stored).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Pending {
    group: Group,
    records: u64,
    bytes: u64,
}

/// What a shard and the checkpointer put down for each other.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// For the shard: freeze the rows written so far.
    pub(crate) freeze: bool,
    /// For the shard: so many of the oldest layers are in the store now.
    pub(crate) release: usize,
    /// For the checkpointer: every layer, with the records that they hold.
    pub(crate) frozen: Option<Frozen>,
    /// The shard is gone, and this is what it leaves.
    pub(crate) left: Option<Frozen>,
}

/// Rows of a shard that do not change any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frozen {
    /// The oldest first.
    pub(crate) layers: Vec<Arc<Rows>>,
    /// How many records of the shard they hold: all up to the last.
    pub(crate) records: u64,
}

/// Lazy records do not fill the hand-off while they wait for company.
const LAZY_RECORDS_MAX: u64 = 1_024;
const LAZY_BYTES_MAX: u64 = 1 << 20;

impl Lane {
    /// Hands a record to the committer; its size in bytes. `None`: it is too large for a journal.
    pub(crate) fn hand_over(
        &self,
        hub: &Hub,
        shard: ShardId,
        ops: &[Op],
        urgent: bool,
    ) -> Option<u64> {
        let mut pending = lock(&self.pending);
        let bytes = pending.group.push(shard, ops)? as u64;
        pending.records += 1;
        pending.bytes += bytes;
        let enough = pending.records >= LAZY_RECORDS_MAX || pending.bytes >= LAZY_BYTES_MAX;
        drop(pending);
        if urgent || enough {
            hub.stir();
        } else {
            hub.stir_lazily(Instant::now());
        }
        Some(bytes)
    }

    /// Takes all that waits, in exchange for an empty group: how many records, and their bytes.
    pub(super) fn take(&self, spare: &mut Group) -> (u64, u64) {
        let mut pending = lock(&self.pending);
        // Swapped and copied later: the shard waits for this lock.
        std::mem::swap(&mut pending.group, spare);
        (std::mem::take(&mut pending.records), std::mem::take(&mut pending.bytes))
    }

    pub(crate) fn set_notifier(&self, notifier: Arc<dyn Notify>) {
        if let Err(_second) = self.notifier.set(notifier) {
            tracing::warn!("a shard's notifier is set once; the second is ignored");
        }
        // What came before it is not lost.
        self.notified.store(false, Ordering::Release);
        self.wake();
    }

    /// Wakes the shard, unless it has been and has not polled since.
    pub(crate) fn wake(&self) {
        if !self.notified.swap(true, Ordering::AcqRel)
            && let Some(notifier) = self.notifier.get()
        {
            notifier.notify();
        }
    }

    /// Whether the shard was woken; from now on it can be again.
    pub(crate) fn was_woken(&self) -> bool {
        self.notified.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn ask_to_look(&self) {
        self.desk_changed.store(true, Ordering::Release);
        self.wake();
    }
}

//! A shard's lane: its records on their way to the committer, and what the store's threads put down
//! for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tidings_core::record::Op;
use tidings_core::slot::ShardId;

use super::{Notify, lock};
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

/// What was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handed {
    /// The record's size in the journal, in bytes.
    pub(crate) bytes: u64,
    /// As much waits as is worth a write of its own: the committer need not wait for the end of the
    /// shard's turn, and writes while that goes on.
    pub(crate) is_enough: bool,
}

/// So much is written at once rather than at the end of the shard's turn: a write of it costs its
/// bytes more than its call, and it takes the shard longer to gather than the committer to wake.
const ENOUGH_BYTES: u64 = 64 << 10;

impl Lane {
    /// Puts a record down for the committer, who is to be told of it. `None`: it is too large for a
    /// journal.
    pub(crate) fn hand_over(&self, shard: ShardId, ops: &[Op]) -> Option<Handed> {
        let mut pending = lock(&self.pending);
        let bytes = pending.group.push(shard, ops)? as u64;
        pending.records += 1;
        pending.bytes += bytes;
        Some(Handed { bytes, is_enough: pending.bytes >= ENOUGH_BYTES })
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

    /// Wakes the shard, unless it has been and has not polled since. Whether there is a way to.
    pub(crate) fn wake(&self) -> bool {
        let notifier = self.notifier.get();
        if !self.notified.swap(true, Ordering::AcqRel)
            && let Some(notifier) = notifier
        {
            notifier.notify();
        }
        notifier.is_some()
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

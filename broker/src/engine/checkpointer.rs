//! The checkpointer: moves what the journal's oldest records left behind into the store.
//!
//! In this order, and every step may be the last before a crash: note which records are safe;
//! let every shard freeze its rows, which hold at least those; wait until all that is frozen is
//! safe; write it and flush; only then let the journal and the shards forget. What was frozen
//! beyond the noted record is written by the store *and* replayed from the journal, which changes
//! nothing: replaying ends at the same rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::commit::{Frozen, Hub, count, lock};
use crate::store::overlay::Rows;
use crate::store::{Store, StoreFailure, checkpoint};

pub(super) struct Checkpointer {
    pub(super) hub: Arc<Hub>,
    pub(super) store: Arc<dyn Store>,
    pub(super) at_start: Arc<Mutex<Vec<Arc<Rows>>>>,
    pub(super) checkpoint_wanted: Arc<AtomicBool>,
    pub(super) checkpoint_bytes: u64,
}

impl Checkpointer {
    pub(super) fn run(self) {
        loop {
            self.hub.gate.wait_until(|| self.ended() || self.is_due());
            if self.ended() {
                return;
            }
            self.checkpoint_wanted.store(false, Ordering::Release);
            if let Err(failure) = self.checkpoint() {
                self.hub.fail(failure);
                return;
            }
        }
    }

    fn ended(&self) -> bool {
        self.hub.stopping() || self.hub.failure().is_some()
    }

    fn is_due(&self) -> bool {
        self.checkpoint_wanted.load(Ordering::Acquire)
            || self.hub.uncovered_bytes.load(Ordering::Acquire) >= self.checkpoint_bytes
    }

    fn checkpoint(&self) -> Result<(), StoreFailure> {
        let hub = &self.hub;
        let uncovered = hub.uncovered_bytes.load(Ordering::Acquire);
        // Before the freeze: each record up to here is in its shard's rows already.
        let through = hub.synced.load(Ordering::Acquire);
        for lane in &hub.lanes {
            let mut desk = lock(&lane.desk);
            desk.frozen = None;
            desk.freeze = true;
            drop(desk);
            lane.ask_to_look();
        }
        let mut shards = Vec::new();
        for lane in &hub.lanes {
            let mut frozen = None;
            hub.gate.wait_until(|| {
                let desk = lock(&lane.desk);
                frozen = desk.left.clone().or_else(|| desk.frozen.clone());
                frozen.is_some() || self.ended()
            });
            let Some(frozen) = frozen else { return Ok(()) };
            shards.push(frozen);
        }
        // Records may be frozen that wait for company: they need not find it.
        hub.stir();
        for (lane, frozen) in hub.lanes.iter().zip(&shards) {
            let stored = || lane.stored.load(Ordering::Acquire) >= frozen.records;
            hub.gate.wait_until(|| stored() || self.ended());
            if !stored() {
                return Ok(());
            }
        }
        write(hub, &*self.store, &shards, through)?;
        lock(&self.at_start).clear();
        hub.forget.fetch_max(through, Ordering::AcqRel);
        hub.uncovered_bytes.fetch_sub(uncovered, Ordering::AcqRel);
        // Before the shards are woken: one that waits for this looks then, and not again.
        hub.behind.store(false, Ordering::Release);
        for (lane, frozen) in hub.lanes.iter().zip(&shards) {
            let released = frozen.layers.len();
            let mut desk = lock(&lane.desk);
            if let Some(left) = &mut desk.left {
                let released = released.min(left.layers.len());
                left.layers.drain(..released);
            } else {
                desk.release += released;
            }
            drop(desk);
            lane.ask_to_look();
        }
        hub.stir();
        // Freeing a million rows takes a while: here, and not in a shard's thread.
        for lane in &hub.lanes {
            hub.gate.wait_until(|| lock(&lane.desk).release == 0 || self.ended());
        }
        drop(shards);
        Ok(())
    }
}

/// The checkpoint after the committer has ended: the record up to which the journal may forget,
/// or `None` when a shard still has its rows.
///
/// # Errors
///
/// As [`Store::put`].
pub(super) fn final_checkpoint(hub: &Hub, store: &dyn Store) -> Result<Option<u64>, StoreFailure> {
    let shards: Option<Vec<_>> =
        hub.lanes.iter().map(|lane| lock(&lane.desk).left.clone()).collect();
    let Some(shards) = shards else { return Ok(None) };
    let through = hub.synced.load(Ordering::Acquire);
    write(hub, store, &shards, through)?;
    Ok(Some(through))
}

fn write(
    hub: &Hub,
    store: &dyn Store,
    shards: &[Frozen],
    through: u64,
) -> Result<(), StoreFailure> {
    // Shards own runs of slots, and keys begin with their slot: this is key order.
    for frozen in shards {
        let written = checkpoint::write(store, &frozen.layers)?;
        count(&hub.counters.rows_put, written.puts);
        count(&hub.counters.rows_deleted, written.deletes);
        count(&hub.counters.store_bytes, written.bytes);
    }
    store.flush(through)?;
    count(&hub.counters.checkpoints, 1);
    Ok(())
}

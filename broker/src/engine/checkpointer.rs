//! The checkpointer: moves what the journal's oldest records left behind into the store.
//!
//! In this order, and every step may be the last before a crash: note which records are safe;
//! let every shard freeze its rows, which hold at least those; wait until all that is frozen is
//! safe; write it and flush; only then let the journal and the shards forget. What was frozen
//! beyond the noted record is written by the store *and* replayed from the journal, which changes
//! nothing: replaying ends at the same rows.
//!
//! Each is a [`Stage`] that says when it can be taken and never waits: its thread waits, or
//! whoever takes the steps by hand does something else.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::commit::{Frozen, Hub, Lane, count, lock};
use crate::store::overlay::Rows;
use crate::store::{Store, StoreFailure, checkpoint};

#[derive(Debug)]
pub(super) struct Checkpointer {
    pub(super) hub: Arc<Hub>,
    pub(super) store: Arc<dyn Store>,
    pub(super) at_start: Arc<Mutex<Vec<Arc<Rows>>>>,
    pub(super) checkpoint_bytes: u64,
    pub(super) stage: Stage,
    /// The store may have something to put in order.
    pub(super) untidy: bool,
}

/// How far a checkpoint is.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// None is under way.
    #[default]
    Idle,
    /// Shards were asked to freeze their rows.
    Freezing(Span),
    /// They have, and what is frozen has to be safe.
    Syncing(Span, Vec<Frozen>),
    /// So many shards' rows are in the store.
    Writing(Span, Vec<Frozen>, usize),
    /// All are, and have to be safe there.
    Flushing(Span, Vec<Frozen>),
    /// The journal may forget; the shards let go of what is stored.
    Releasing(Vec<Frozen>),
}

/// What a checkpoint covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The last record that was safe when it began.
    through: u64,
    /// Bytes of journal that no checkpoint had covered then.
    uncovered: u64,
}

impl Checkpointer {
    /// The thread: until the engine ends or fails.
    pub(super) fn run(mut self) {
        let hub = Arc::clone(&self.hub);
        let mut before = 0;
        loop {
            while !hub.gate.wait_for(LULL, || self.ended() || self.is_ready()) {
                // Nothing has come for a while: now it costs nobody anything, a start after a crash
                // has less to replay, and what was deleted gives back its room.
                let uncovered = hub.uncovered_bytes.load(Ordering::Acquire);
                let enough = uncovered >= self.checkpoint_bytes / 16;
                if enough && uncovered == before {
                    hub.wanted.store(true, Ordering::Release);
                }
                before = uncovered;
            }
            if self.ended() {
                return;
            }
            if let Err(failure) = self.step() {
                self.hub.fail(failure);
                return;
            }
        }
    }

    fn ended(&self) -> bool {
        self.hub.stopping() || self.hub.failure().is_some()
    }

    /// Whether the next step can be taken.
    pub(super) fn is_ready(&self) -> bool {
        let hub = &self.hub;
        match &self.stage {
            Stage::Idle => self.untidy || hub.is_checkpoint_due(self.checkpoint_bytes),
            Stage::Freezing(_) => hub.lanes.iter().all(|lane| {
                let desk = lock(&lane.desk);
                desk.left.is_some() || desk.frozen.is_some()
            }),
            Stage::Syncing(_, shards) => hub
                .lanes
                .iter()
                .zip(shards)
                .all(|(lane, frozen)| lane.stored.load(Ordering::Acquire) >= frozen.records),
            Stage::Writing(..) | Stage::Flushing(..) => true,
            Stage::Releasing(_) => hub.lanes.iter().all(|lane| lock(&lane.desk).release == 0),
        }
    }

    /// Takes the next step, which is ready.
    ///
    /// # Errors
    ///
    /// As [`Store::put`]; no step may be taken then.
    pub(super) fn step(&mut self) -> Result<(), StoreFailure> {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Idle if self.hub.is_checkpoint_due(self.checkpoint_bytes) => Stage::Freezing(self.ask_to_freeze()),
            Stage::Idle => {
                self.untidy = self.store.tidy()?;
                Stage::Idle
            }
            Stage::Freezing(span) => {
                let shards = self.hub.lanes.iter().map(|lane| frozen_by(lane)).collect();
                // Records may be frozen that wait for company: they need not find it.
                self.hub.stir();
                Stage::Syncing(span, shards)
            }
            Stage::Syncing(span, shards) => Stage::Writing(span, shards, 0),
            Stage::Writing(span, shards, written) => {
                if let Some(frozen) = shards.get(written) {
                    write(&self.hub, &*self.store, frozen)?;
                }
                if written + 1 < shards.len() {
                    Stage::Writing(span, shards, written + 1)
                } else {
                    Stage::Flushing(span, shards)
                }
            }
            Stage::Flushing(span, shards) => {
                flush(&self.hub, &*self.store, span.through)?;
                self.release(span, &shards);
                self.untidy = true;
                Stage::Releasing(shards)
            }
            // Freeing a million rows takes a while: here, and not in a shard's thread.
            Stage::Releasing(_shards) => {
                self.hub.checkpointing.store(false, Ordering::Release);
                Stage::Idle
            }
        };
        Ok(())
    }

    fn ask_to_freeze(&self) -> Span {
        let hub = &self.hub;
        hub.checkpointing.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        hub.wanted.store(false, Ordering::Release);
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
        Span { through, uncovered }
    }

    fn release(&self, span: Span, shards: &[Frozen]) {
        let hub = &self.hub;
        lock(&self.at_start).clear();
        hub.uncovered_bytes.fetch_sub(span.uncovered, Ordering::AcqRel);
        hub.checkpointed(span.through);
        // Before the shards are woken: one that waits for this looks then, and not again.
        hub.behind.store(false, Ordering::Release);
        for (lane, frozen) in hub.lanes.iter().zip(shards) {
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
    }
}

/// So long without a record, and what there is goes into the store.
const LULL: Duration = Duration::from_secs(2);

/// What a shard has frozen, or left when it went.
fn frozen_by(lane: &Lane) -> Frozen {
    let desk = lock(&lane.desk);
    desk.left.clone().or_else(|| desk.frozen.clone()).unwrap_or_default()
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
    for frozen in &shards {
        write(hub, store, frozen)?;
    }
    flush(hub, store, through)?;
    hub.checkpointed(through);
    Ok(Some(hub.forgettable()))
}

/// Shards own runs of slots, and keys begin with their slot: one after the other is key order.
fn write(hub: &Hub, store: &dyn Store, frozen: &Frozen) -> Result<(), StoreFailure> {
    let written = checkpoint::write(store, &frozen.layers)?;
    count(&hub.counters.rows_put, written.puts);
    count(&hub.counters.rows_deleted, written.deletes);
    count(&hub.counters.store_bytes, written.bytes);
    Ok(())
}

fn flush(hub: &Hub, store: &dyn Store, through: u64) -> Result<(), StoreFailure> {
    store.flush(through)?;
    count(&hub.counters.checkpoints, 1);
    Ok(())
}

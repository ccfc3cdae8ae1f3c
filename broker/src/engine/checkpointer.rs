//! The checkpointer: moves what the journal's oldest records left behind into the store.
//!
//! In this order, and every step may be the last before a crash: note which records are safe;
//! let every shard freeze its rows, which hold at least those; let some more journal come, and have
//! what came frozen behind them; wait until all that is frozen is safe; write what became of the
//! first rows and flush; only then let the journal and the shards forget. What was frozen
//! beyond the noted record is written by the store *and* replayed from the journal, which changes
//! nothing: replaying ends at the same rows.
//!
//! The second freeze is for messages that were on their way at the first: most are delivered by then,
//! and are not written only to be deleted by the next checkpoint. Who asks for one does not wait for it.
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
    /// They have, and what is on its way still may arrive and go.
    Settling(Span, Vec<Layers>),
    /// They were asked to freeze what has come since.
    FreezingLater(Span, Vec<Layers>),
    /// They have, and what is frozen has to be safe.
    Syncing(Span, Vec<Layers>),
    /// So many shards' rows are in the store.
    Writing(Span, Vec<Layers>, usize),
    /// All are, and have to be safe there.
    Flushing(Span, Vec<Layers>),
    /// The journal may forget; the shards let go of what is stored.
    Releasing(Vec<Layers>),
}

/// What a checkpoint covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The last record that was safe when it began.
    through: u64,
    /// Bytes of journal that no checkpoint had covered then.
    uncovered: u64,
    /// It is made for the journal's length, and nobody waits for it: it has the time to let messages
    /// go that are on their way.
    settles: bool,
}

/// What a shard has frozen.
#[derive(Debug, Default)]
pub(super) struct Layers {
    frozen: Frozen,
    /// How many of its layers, the oldest, are to be written.
    due: usize,
}

impl Layers {
    fn write(&self, hub: &Hub, store: &dyn Store) -> Result<(), StoreFailure> {
        let layers = &self.frozen.layers;
        let (due, later) = layers.split_at_checked(self.due).unwrap_or((layers, &[]));
        let written = checkpoint::write(store, due, later)?;
        count(&hub.counters.rows_put, written.puts);
        count(&hub.counters.rows_deleted, written.deletes);
        count(&hub.counters.store_bytes, written.bytes);
        Ok(())
    }
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
                let begun = matches!(self.stage, Stage::Settling(..));
                let enough = begun || uncovered >= self.checkpoint_bytes / 16;
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
            Stage::Settling(span, _) => {
                let settled = span.uncovered.saturating_add(self.checkpoint_bytes / SETTLES_IN);
                // Where publishers wait for it nothing more comes.
                hub.behind.load(Ordering::Acquire)
                    || hub.wanted.load(Ordering::Acquire)
                    || hub.uncovered_bytes.load(Ordering::Acquire) >= settled
                    || hub.unstored_bytes() >= self.checkpoint_bytes / 2
            }
            Stage::Freezing(_) | Stage::FreezingLater(..) => hub.lanes.iter().all(|lane| {
                let desk = lock(&lane.desk);
                desk.left.is_some() || desk.frozen.is_some()
            }),
            Stage::Syncing(_, shards) => hub
                .lanes
                .iter()
                .zip(shards)
                .all(|(lane, it)| lane.stored.load(Ordering::Acquire) >= it.frozen.records),
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
            Stage::Idle if self.hub.is_checkpoint_due(self.checkpoint_bytes) => {
                Stage::Freezing(self.ask_to_freeze())
            }
            Stage::Idle => {
                self.untidy = self.store.tidy()?;
                Stage::Idle
            }
            Stage::Freezing(span) => {
                let shards: Vec<_> = self.hub.lanes.iter().map(|lane| frozen_by(lane)).collect();
                if span.settles { Stage::Settling(span, shards) } else { self.sync(span, shards) }
            }
            // Somebody asks for all there is now: this one begins anew, and takes in what it froze.
            Stage::Settling(..) if self.hub.wanted.load(Ordering::Acquire) => {
                Stage::Freezing(self.ask_to_freeze())
            }
            Stage::Settling(span, shards) => {
                self.ask_shards_to_freeze();
                Stage::FreezingLater(span, shards)
            }
            Stage::FreezingLater(span, shards) => {
                let lanes = self.hub.lanes.iter().zip(shards);
                let later =
                    lanes.map(|(lane, Layers { due, .. })| Layers { due, ..frozen_by(lane) });
                self.sync(span, later.collect())
            }
            Stage::Syncing(span, shards) => Stage::Writing(span, shards, 0),
            Stage::Writing(span, shards, written) => {
                if let Some(shard) = shards.get(written) {
                    shard.write(&self.hub, &*self.store)?;
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

    fn sync(&self, span: Span, shards: Vec<Layers>) -> Stage {
        // Records may be frozen that wait for company: they need not find it.
        self.hub.stir();
        Stage::Syncing(span, shards)
    }

    fn ask_to_freeze(&self) -> Span {
        let hub = &self.hub;
        hub.checkpointing.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let wanted = hub.wanted.swap(false, Ordering::AcqRel);
        let uncovered = hub.uncovered_bytes.load(Ordering::Acquire);
        let settles = !wanted && uncovered >= self.checkpoint_bytes;
        // Before the freeze: each record up to here is in its shard's rows already.
        let through = hub.synced.load(Ordering::Acquire);
        self.ask_shards_to_freeze();
        Span { through, uncovered, settles }
    }

    fn ask_shards_to_freeze(&self) {
        for lane in &self.hub.lanes {
            let mut desk = lock(&lane.desk);
            desk.frozen = None;
            desk.freeze = true;
            drop(desk);
            lane.ask_to_look();
        }
    }

    fn release(&self, span: Span, shards: &[Layers]) {
        let hub = &self.hub;
        lock(&self.at_start).clear();
        hub.uncovered_bytes.fetch_sub(span.uncovered, Ordering::AcqRel);
        hub.checkpointed(span.through);
        // Before the shards are woken: one that waits for this looks then, and not again.
        hub.behind.store(false, Ordering::Release);
        for (lane, shard) in hub.lanes.iter().zip(shards) {
            let released = shard.due;
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

/// So much more journal, of what makes a checkpoint due, comes before what is on its way then counts as
/// staying: 2.5 MiB, some ten thousand messages.
const SETTLES_IN: u64 = 16;

/// So long without a record, and what there is goes into the store.
const LULL: Duration = Duration::from_secs(2);

/// What a shard has frozen, or left when it went.
fn frozen_by(lane: &Lane) -> Layers {
    let desk = lock(&lane.desk);
    let frozen = desk.left.clone().or_else(|| desk.frozen.clone()).unwrap_or_default();
    Layers { due: frozen.layers.len(), frozen }
}

/// The checkpoint after the committer has ended: the record up to which the journal may forget,
/// or `None` when a shard still has its rows.
///
/// # Errors
///
/// As [`Store::put`].
pub(super) fn final_checkpoint(hub: &Hub, store: &dyn Store) -> Result<Option<u64>, StoreFailure> {
    if hub.lanes.iter().any(|lane| lock(&lane.desk).left.is_none()) {
        return Ok(None);
    }
    let through = hub.synced.load(Ordering::Acquire);
    // Shards own runs of slots, and keys begin with their slot: one after the other is key order.
    for lane in &hub.lanes {
        frozen_by(lane).write(hub, store)?;
    }
    flush(hub, store, through)?;
    hub.checkpointed(through);
    Ok(Some(hub.forgettable()))
}

fn flush(hub: &Hub, store: &dyn Store, through: u64) -> Result<(), StoreFailure> {
    store.flush(through)?;
    count(&hub.counters.checkpoints, 1);
    Ok(())
}

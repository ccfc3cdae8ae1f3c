//! The durable store of a broker: journal, store, and the threads between them.
//!
//! A shard holds a [`ShardStore`] and never waits: it appends records, asks for rows, and learns
//! from [`ShardStore::poll`] how far its records are safe. An acknowledgement follows
//! [`StoreEvent::Stored`], never the append. Three threads do the rest: the committer makes groups
//! durable, the checkpointer moves what is still there into the store, the reader answers. Each
//! goes on in steps; [`Manual`] lets somebody else take them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tidings_core::record::{KeyRange, Op};
use tidings_core::slot::{SLOTS, ShardId, Slot};

use crate::base::Copying;
use crate::commit::{Committer, Hub, Stop, lock};
pub use crate::commit::{Notify, Stats, Work};
use crate::journal::{Journal, Recovered};
use crate::store::memory::MemoryStore;
use crate::store::overlay::{self, Rows};
use crate::store::sled::panic_text;
use crate::store::{Store, StoreFailure, read};
pub use check::{Checked, Part, Problem, check};
use checkpointer::{Checkpointer, Stage};
pub use copy::{CopyError, backup, restore};
use directory::Directory;
pub use directory::{FORMAT_VERSION, OpenError};
pub use manual::Manual;
use no_journal::NoJournal;
pub use options::{Compare, Durability, EngineOptions, UnknownDurability};
use reader::{ReadRequest, Reader};
pub use shard::{Backlog, HANDOFF_BYTES_MAX, HANDOFF_RECORDS_MAX, ShardStore, StoreEvent};

mod check;
mod checkpointer;
mod compare;
mod copy;
mod directory;
mod keeper;
mod manual;
mod no_journal;
mod open;
mod options;
mod reader;
mod rebuild;
mod shard;

/// The store of a broker, without the shards' ends of it.
///
/// Dropping it is like being killed: what was not yet stored is lost, what was stored is found by
/// the next [`open`](Self::open). See [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Engine {
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    /// What the journal held at the start, a layer per shard, until a checkpoint has stored it.
    at_start: Arc<Mutex<Vec<Arc<Rows>>>>,
    recovered: Recovered,
    made_anew: Option<String>,
    committer: Option<JoinHandle<Box<dyn Journal>>>,
    checkpointer: Option<JoinHandle<()>>,
    reader: Option<(SyncSender<ReadRequest>, JoinHandle<()>)>,
    keeper: Option<JoinHandle<()>>,
    base_wanted: Arc<AtomicBool>,
    /// Last: unlocked when everything else is closed.
    directory: Option<Directory>,
}

impl Engine {
    /// Opens the store in `options.dir`, or makes it, and recovers what was stored: an engine, and
    /// each shard's end of it, in the order of the shards.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(options: EngineOptions) -> Result<(Self, Vec<ShardStore>), OpenError> {
        if options.durability == Durability::Memory {
            return Self::start(
                &options,
                None,
                Box::new(NoJournal),
                Arc::new(MemoryStore::default()),
            );
        }
        Self::open_directory(&options)
    }

    /// As [`open`](Self::open), with another journal and another store; no directory is made,
    /// checked or locked. For tests that make them fail, and for a journal on several machines.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open_with(
        options: EngineOptions,
        journal: Box<dyn Journal>,
        store: Arc<dyn Store>,
    ) -> Result<(Self, Vec<ShardStore>), OpenError> {
        Self::start(&options, None, journal, store)
    }

    fn start(
        options: &EngineOptions,
        directory: Option<Directory>,
        journal: Box<dyn Journal>,
        store: Arc<dyn Store>,
    ) -> Result<(Self, Vec<ShardStore>), OpenError> {
        let (mut engine, workers, stores) = Self::prepare(options, directory, journal, store)?;
        engine.run(options, workers)?;
        Ok((engine, stores))
    }

    /// Starts the threads.
    fn run(&mut self, options: &EngineOptions, workers: Workers) -> Result<(), OpenError> {
        let Workers { reader, requests, checkpointer, committer } = workers;
        let hub = Arc::clone(&self.hub);
        let reader = spawn("store-reader", &hub, move || reader.run())?;
        self.reader = Some((requests, reader));
        if options.durability != Durability::Memory {
            let run = move || checkpointer.run();
            self.checkpointer = Some(spawn("store-checkpointer", &hub, run)?);
            let lazy_flush = options.lazy_flush;
            let run = move || committer.run(lazy_flush);
            self.committer = Some(spawn("store-committer", &hub, run)?);
        }
        Ok(())
    }

    /// Recovers what there is; nothing runs yet.
    fn prepare(
        options: &EngineOptions,
        directory: Option<Directory>,
        mut journal: Box<dyn Journal>,
        store: Arc<dyn Store>,
    ) -> Result<(Self, Workers, Vec<ShardStore>), OpenError> {
        let shards = options.shards.clamp(1, SLOTS);
        let complete_to = store.complete_to()?;
        let mut layers = vec![Rows::new(); usize::from(shards)];
        let recovered = journal.replay(complete_to, &mut |entry| {
            for op in split_by_shard(entry.ops) {
                let shard = shard_of(first_key(&op), shards);
                if let Some(rows) = layers.get_mut(usize::from(shard.0)) {
                    overlay::apply(rows, op, true);
                }
            }
        })?;
        if recovered.torn_bytes > 0 {
            let bytes = recovered.torn_bytes;
            tracing::warn!("left out {bytes} bytes of records that were not finished");
        }
        let layers: Vec<_> = layers.into_iter().map(Arc::new).collect();
        let hub = Arc::new(Hub::new(shards, recovered.last.max(complete_to)));
        hub.uncovered_bytes.store(recovered.bytes, Ordering::Release);

        let (requests, waiting) = sync_channel(usize::from(shards) * shard::READS_IN_FLIGHT_MAX);
        let durable = options.durability != Durability::Memory;
        let stores = (0..shards)
            .zip(&layers)
            .zip(&hub.lanes)
            .map(|((shard, layer), lane)| {
                let layers = if layer.is_empty() { Vec::new() } else { vec![Arc::clone(layer)] };
                let (hub, lane) = (Arc::clone(&hub), Arc::clone(lane));
                ShardStore::new(ShardId(shard), hub, lane, layers, requests.clone(), durable)
            })
            .collect();

        let at_start = Arc::new(Mutex::new(layers));
        let checkpoint_bytes = options.checkpoint_bytes.max(1);
        let syncs = options.durability == Durability::Fsync;
        let workers = Workers {
            reader: Reader { hub: Arc::clone(&hub), store: Arc::clone(&store), requests: waiting },
            requests,
            checkpointer: Checkpointer {
                hub: Arc::clone(&hub),
                store: Arc::clone(&store),
                at_start: Arc::clone(&at_start),
                checkpoint_bytes,
                stage: Stage::Idle,
                untidy: true,
            },
            committer: Committer::new(Arc::clone(&hub), journal, checkpoint_bytes, syncs),
        };
        let engine = Self {
            hub,
            store,
            at_start,
            recovered,
            made_anew: None,
            committer: None,
            checkpointer: None,
            reader: None,
            keeper: None,
            base_wanted: Arc::default(),
            directory,
        };
        Ok((engine, workers, stores))
    }

    /// What the start found in the journal.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Why the store was made anew by this start, if it was.
    pub fn made_anew(&self) -> Option<&str> {
        self.made_anew.as_deref()
    }

    /// Shows every row of `range` as it was at the start, in key order, to `each`. For shards
    /// before they begin: what they append later may or may not be seen.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn scan(
        &self,
        range: &KeyRange,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreFailure> {
        let layers = lock(&self.at_start).clone();
        read::merge(
            &*self.store,
            layers.iter().map(AsRef::as_ref),
            range,
            false,
            &mut |key, value| {
                each(&key, &value);
                true
            },
        )
    }

    /// What has been done since the start.
    pub fn stats(&self) -> Stats {
        self.hub.counters.read()
    }

    /// Where that is counted, for whoever asks while it runs.
    pub(crate) fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.hub)
    }

    /// What ended the store, if something did.
    pub fn failure(&self) -> Option<StoreFailure> {
        self.hub.failure().cloned()
    }

    /// Begins a checkpoint soon, whatever the journal's size. It needs the shards to poll.
    pub fn checkpoint(&self) {
        self.hub.want_checkpoint();
    }

    /// Writes a base soon, whatever the journal's size.
    pub fn base(&self) {
        self.base_wanted.store(true, Ordering::Release);
        self.hub.keeper_gate.changed();
    }

    /// Free bytes of the disk that the store is on, and its size. `None` in memory.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn disk_free(&self) -> io::Result<Option<DiskSpace>> {
        self.disk().space()
    }

    /// The disk that the store is on, for whoever looks at it while it runs.
    pub(crate) fn disk(&self) -> Disk {
        let path = self.directory.as_ref().map(|directory| directory.path().to_path_buf());
        Disk { path, store: Arc::clone(&self.store) }
    }

    /// Commits everything handed over and closes the store, after a last checkpoint if every
    /// [`ShardStore`] has been dropped. Rows of shards that are still there stay in the journal,
    /// where the next start finds them.
    ///
    /// # Errors
    ///
    /// When committing or the checkpoint failed, now or before.
    pub fn shutdown(mut self) -> Result<(), StoreFailure> {
        let journal = self.end(Stop::Drained);
        self.close(journal)
    }

    fn close(&self, journal: Option<Box<dyn Journal>>) -> Result<(), StoreFailure> {
        if let Some(failure) = self.hub.failure() {
            return Err(failure.clone());
        }
        let Some(mut journal) = journal else { return Ok(()) };
        if let Some(through) = checkpointer::final_checkpoint(&self.hub, &*self.store)? {
            let forget = || journal.forget(through);
            let forgotten = match &self.directory {
                Some(directory) => Copying::open(directory.path())
                    .and_then(|copying| copying.unless(forget))
                    .map_err(|error| StoreFailure::new("lock the folder", error))?
                    .unwrap_or(Ok(())),
                None => journal.forget(through),
            };
            forgotten.map_err(|error| StoreFailure::new("write the journal", error))?;
            if let Some(directory) = &self.directory {
                directory.closed_in_order()?;
            }
        }
        Ok(())
    }

    /// Ends the threads. The journal, if there is one and its thread did not panic.
    fn end(&mut self, stop: Stop) -> Option<Box<dyn Journal>> {
        self.hub.stop(stop);
        if let Some(thread) = self.keeper.take() {
            let _failed_already = thread.join();
        }
        if let Some(thread) = self.checkpointer.take() {
            let _failed_already = thread.join();
        }
        let journal = self.committer.take().and_then(|thread| thread.join().ok());
        if let Some((requests, thread)) = self.reader.take() {
            let _ended_already = requests.send(ReadRequest::End);
            let _failed_already = thread.join();
        }
        journal
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end(Stop::Abandoned);
    }
}

/// The disk that a store is on; none in memory.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    path: Option<PathBuf>,
    store: Arc<dyn Store>,
}

impl Disk {
    /// Its room; `None` in memory.
    pub(crate) fn space(&self) -> io::Result<Option<DiskSpace>> {
        let Some(path) = &self.path else { return Ok(None) };
        disk_space(path).map(Some)
    }

    /// What the store's own files have room for.
    pub(crate) fn spare_bytes(&self) -> Option<u64> {
        self.store.spare_bytes()
    }
}

/// What threads do, or [`Manual`].
#[derive(Debug)]
struct Workers {
    reader: Reader,
    requests: SyncSender<ReadRequest>,
    checkpointer: Checkpointer,
    committer: Committer,
}

/// Room on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// What is free for this process.
    pub free_bytes: u64,
    /// The size of the file system.
    pub total_bytes: u64,
}

/// The room of the disk that `path` is on.
fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let space = rustix::fs::statvfs(path)?;
    Ok(DiskSpace {
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
    })
}

/// A thread of the store; a panic in it is a failure of the store.
fn spawn<T: Send + 'static>(
    name: &'static str,
    hub: &Arc<Hub>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    let hub = Arc::clone(hub);
    let run = move || match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(panic) => {
            hub.fail(StoreFailure::panicked(name, panic_text(&*panic)));
            std::panic::resume_unwind(panic)
        }
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| OpenError::Store(StoreFailure::new("start a thread", error)))
}

/// The shard that owns a key when there are `shards`.
fn shard_of(key: &[u8], shards: u16) -> ShardId {
    Slot(key.first().copied().unwrap_or_default()).shard(shards)
}

fn first_key(op: &Op) -> &[u8] {
    match op {
        Op::Put { key, .. } | Op::Delete { key } | Op::Forget { key } => key,
        Op::PutAll { keys, .. } => keys.first().map(AsRef::as_ref).unwrap_or_default(),
    }
}

/// One shard's rows of then may belong to several shards now.
fn split_by_shard(ops: Vec<Op>) -> impl Iterator<Item = Op> {
    ops.into_iter().flat_map(|op| match op {
        Op::PutAll { keys, value } => {
            keys.into_iter().map(|key| Op::Put { key, value: value.clone() }).collect()
        }
        op => vec![op],
    })
}

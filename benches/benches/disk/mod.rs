//! The store on a disk, its threads' steps taken by hand: one record after the other, and
//! checkpoints.
//!
//! The folder is in the target directory, or in `TIDINGS_BENCH_DIR`: the disk counts.

#![allow(dead_code, reason = "each bench takes what it measures")]
#![expect(clippy::expect_used, reason = "what goes wrong here ends the bench that has it wrong")]

use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tidings_broker::engine::{Durability, EngineOptions, Manual, ShardStore, StoreEvent};
use tidings_broker::journal::{FileJournal, FileJournalOptions};
use tidings_broker::store::sled::SledStore;
use tidings_core::record::{KeyBuilder, Op, Position, Record, RowKind};
use tidings_core::slot::Slot;

/// What a stored message of 100 bytes takes in a row, about.
const VALUE: &[u8] = &[b'x'; 130];

/// A folder of a bench.
pub(crate) fn folder() -> TempDir {
    let places = std::env::var("TIDINGS_BENCH_DIR");
    let dir = places.unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").into());
    tempfile::tempdir_in(dir).expect("a folder")
}

/// A message as it stands in a session's queue.
pub(crate) fn message(number: u64) -> (Bytes, Bytes) {
    let session = KeyBuilder::new(Slot(3), RowKind::Queued).number(7);
    let key = session.number(number).byte(1).raw(&[0; 4]).build();
    (key, Bytes::from_static(VALUE))
}

/// The record that stores it.
pub(crate) fn record(number: u64) -> Record {
    let (key, value) = message(number);
    Record { ops: vec![Op::Put { key, value }], urgent: true }
}

/// No checkpoint and no base but those that are asked for.
pub(crate) fn options(folder: &TempDir, durability: Durability) -> EngineOptions {
    let never = u64::MAX / 4;
    let (checkpoint_bytes, base_bytes) = (never, never);
    EngineOptions { durability, checkpoint_bytes, base_bytes, ..EngineOptions::new(folder.path()) }
}

/// A store on a disk.
pub(crate) struct Disk {
    manual: Manual,
    shard: ShardStore,
    appended: u64,
    stored: u64,
    /// Last: removed when nothing is open any more.
    _folder: TempDir,
}

impl Disk {
    /// An empty one, which syncs each group or leaves that to the system.
    pub(crate) fn new(durability: Durability) -> Self {
        let folder = folder();
        let [journal, rows] = ["journal", "rows"].map(|name| folder.path().join(name));
        std::fs::create_dir(&journal).expect("a folder");
        let options = options(&folder, durability);
        let journal = FileJournal::new(FileJournalOptions {
            directory: journal,
            segment_bytes: options.segment_bytes,
            sync: durability == Durability::Fsync,
        });
        let rows = SledStore::open(&rows, options.cache_bytes).expect("sled");
        let (manual, mut shards) =
            Manual::open(&options, Box::new(journal), Arc::new(rows)).expect("an engine");
        let shard = shards.pop().expect("one shard");
        Self { manual, shard, appended: 0, stored: 0, _folder: folder }
    }

    /// Appends so many messages as one group; they are stored when it returns.
    pub(crate) fn append(&mut self, messages: u64) {
        for _ in 0..messages {
            self.appended += 1;
            self.shard.append(record(self.appended));
        }
        self.manual.commit().expect("a journal that writes");
        self.poll();
        assert_eq!(self.stored, self.appended, "stored");
    }

    /// Moves all messages that no checkpoint has had into sled.
    pub(crate) fn checkpoint(&mut self) {
        self.manual.engine().checkpoint();
        self.poll();
        while self.manual.checkpoint().expect("a store that writes") {
            self.poll();
        }
        assert_eq!(self.manual.engine().stats().rows_put, self.appended, "rows in sled");
    }

    fn poll(&mut self) {
        while let Some(event) = self.shard.poll() {
            if let StoreEvent::Stored(Position(position)) = event {
                self.stored = position;
            }
        }
    }
}

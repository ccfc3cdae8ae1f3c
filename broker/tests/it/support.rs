//! Words the tests share: records to write, shards to drive, disks to copy.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidings_broker::engine::{Engine, EngineOptions, Notify, ShardStore, StoreEvent};
use tidings_core::record::{KeyRange, Op, Position, Query, Record, Row};

/// Rows as they should be.
pub(crate) type Model = BTreeMap<Bytes, Bytes>;

pub(crate) fn put(key: &[u8], value: &[u8]) -> Op {
    Op::Put { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) }
}

pub(crate) fn delete(key: &[u8]) -> Op {
    Op::Delete { key: Bytes::copy_from_slice(key) }
}

pub(crate) fn urgent(ops: Vec<Op>) -> Record {
    Record { ops, urgent: true }
}

pub(crate) fn apply(model: &mut Model, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put { key, value } => {
                model.insert(key.clone(), value.clone());
            }
            Op::PutAll { keys, value } => {
                model.extend(keys.iter().map(|key| (key.clone(), value.clone())));
            }
            Op::Delete { key } | Op::Forget { key } => {
                model.remove(key);
            }
        }
    }
}

pub(crate) fn everything() -> KeyRange {
    KeyRange::prefix(&[])
}

pub(crate) fn query(range: KeyRange) -> Query {
    Query { range, rows_max: usize::MAX, bytes_max: usize::MAX, backwards: false }
}

/// Small files, so that tests see many of them.
pub(crate) fn options(dir: &Path) -> EngineOptions {
    EngineOptions { segment_bytes: 64 << 10, cache_bytes: 1 << 20, ..EngineOptions::new(dir) }
}

pub(crate) fn scan(engine: &Engine) -> Model {
    let mut rows = Vec::new();
    engine
        .scan(&everything(), &mut |key, value| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        })
        .unwrap();
    assert!(rows.is_sorted_by(|one, other| one.0 < other.0), "a scan in order, each key once");
    rows.into_iter().collect()
}

/// Says which rows differ, not all of them with their values.
#[track_caller]
pub(crate) fn assert_same(found: &Model, expected: &Model, context: impl std::fmt::Display) {
    let lacks: Vec<_> = expected.keys().filter(|key| !found.contains_key(*key)).collect();
    let too_many: Vec<_> = found.keys().filter(|key| !expected.contains_key(*key)).collect();
    let differs: Vec<_> = found
        .iter()
        .filter(|(key, value)| expected.get(*key).is_some_and(|other| other != *value))
        .map(|(key, _)| key)
        .collect();
    assert!(
        lacks.is_empty() && too_many.is_empty() && differs.is_empty(),
        "{context}: lacks {lacks:?}, has {too_many:?} besides, differs in {differs:?}"
    );
}

/// Numbers from a seed, the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Notify for Bell {
    fn notify(&self) {
        *self.rung.lock().unwrap() = true;
        self.ringing.notify_all();
    }
}

/// What one shard was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) stored: Position,
    pub(crate) answers: Vec<(u64, Vec<Row>, bool)>,
    pub(crate) failures: Vec<String>,
}

/// One thread that runs every shard.
pub(crate) struct Shards {
    pub(crate) stores: Vec<ShardStore>,
    pub(crate) told: Vec<Told>,
    bell: Arc<Bell>,
}

impl Shards {
    pub(crate) fn new(mut stores: Vec<ShardStore>) -> Self {
        let bell = Arc::new(Bell::default());
        for store in &mut stores {
            let notifier: Arc<dyn Notify> = Arc::clone(&bell) as _;
            store.set_notifier(notifier);
        }
        let told = stores.iter().map(|_| Told::default()).collect();
        Self { stores, told, bell }
    }

    pub(crate) fn poll(&mut self) {
        for (store, told) in self.stores.iter_mut().zip(&mut self.told) {
            while let Some(event) = store.poll() {
                match event {
                    StoreEvent::Stored(position) => {
                        assert!(position > told.stored, "positions grow");
                        assert!(told.failures.is_empty(), "nothing is stored after a failure");
                        told.stored = position;
                    }
                    StoreEvent::Rows { id, rows, more } => told.answers.push((id, rows, more)),
                    StoreEvent::Failed(failure) => told.failures.push(failure.to_string()),
                }
            }
        }
    }

    /// Polls whenever the notifier calls, until `done`. Fails when it never calls.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        loop {
            *self.bell.rung.lock().unwrap() = false;
            self.poll();
            if done(self) {
                return;
            }
            let rung = self.bell.rung.lock().unwrap();
            let waited =
                self.bell.ringing.wait_timeout_while(rung, PATIENCE, |rung| !*rung).unwrap();
            assert!(!waited.1.timed_out(), "no shard was woken");
        }
    }

    /// Appends and waits until it is stored.
    pub(crate) fn store(&mut self, shard: usize, ops: Vec<Op>) {
        let position = self.stores[shard].append(urgent(ops));
        self.until(|shards| shards.told[shard].stored >= position);
    }

    pub(crate) fn checkpoint(&mut self, engine: &Engine) {
        let before = engine.stats().checkpoints;
        engine.checkpoint();
        // A shard that holds nothing is not told of the end: it is the count that tells.
        let start = std::time::Instant::now();
        while engine.stats().checkpoints == before {
            assert!(engine.failure().is_none(), "{:?}", engine.failure());
            assert!(start.elapsed() < PATIENCE, "no checkpoint came to an end");
            self.poll();
            std::thread::yield_now();
        }
    }

    pub(crate) fn read(&mut self, shard: usize, query: Query) -> (Vec<Row>, bool) {
        self.stores[shard].read(7, query);
        self.until(|shards| !shards.told[shard].answers.is_empty());
        let (id, rows, more) = self.told[shard].answers.remove(0);
        assert_eq!(id, 7);
        (rows, more)
    }
}

/// Longer than any test takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a disk holds at this moment, in another place.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

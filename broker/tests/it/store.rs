//! The engine: what is acknowledged survives, what is read is right, what fails says so.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidings_broker::engine::{
    Durability, Engine, EngineOptions, FORMAT_VERSION, Manual, OpenError, ShardStore, StoreEvent,
};
use tidings_broker::journal::{
    Entry, FileJournal, FileJournalOptions, Group, Journal, JournalError, Recovered, ReplayError,
};
use tidings_broker::store::memory::MemoryStore;
use tidings_broker::store::overlay::Rows;
use tidings_broker::store::sled::SledStore;
use tidings_broker::store::{Store, StoreFailure, Visitor, read};
use tidings_core::record::{KeyRange, Op, Position, Query, Record};
use tidings_core::slot::Slot;

use crate::damage::{base_of, until_bases};
use crate::support::{
    Model, PATIENCE, Random, Shards, apply, assert_same, copy, delete, everything, options, put,
    query, scan, urgent,
};

fn open(options: EngineOptions) -> (Engine, Shards) {
    let (engine, stores) = Engine::open(options).unwrap();
    (engine, Shards::new(stores))
}

fn value(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

// --- what survives -----------------------------------------------------------------------------

#[test]
fn what_was_stored_is_there_after_a_kill_in_either_durability() {
    for durability in [Durability::Fsync, Durability::Os] {
        let dir = tempfile::tempdir().unwrap();
        let options = EngineOptions { durability, ..options(dir.path()) };
        {
            let (engine, mut shards) = open(options.clone());
            shards.store(0, vec![put(b"a", b"1"), put(b"b", b"2")]);
            shards.store(0, vec![delete(b"a"), put(b"c", &value(100_000, 3))]);
            drop(engine);
        }
        let (engine, _) = open(options);
        assert_eq!(engine.recovered().records, 2);
        let rows = scan(&engine);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[&b"b"[..]], b"2"[..]);
        assert_eq!(rows[&b"c"[..]], value(100_000, 3)[..]);
    }
}

#[test]
fn a_shutdown_stores_what_nobody_waits_for_and_leaves_nothing_to_replay() {
    let dir = tempfile::tempdir().unwrap();
    let forever = EngineOptions { lazy_flush: PATIENCE * 60, ..options(dir.path()) };
    let (engine, mut shards) = open(forever);
    shards.stores[0].append(Record { ops: vec![put(b"k", b"v")], urgent: false });
    drop(shards);
    engine.shutdown().unwrap();
    let (engine, _) = open(options(dir.path()));
    assert_eq!(engine.recovered().records, 0);
    assert_eq!(scan(&engine)[&b"k"[..]], b"v"[..]);
}

#[test]
fn a_shutdown_with_a_shard_still_there_leaves_its_rows_in_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut shards) = open(options(dir.path()));
    shards.store(0, vec![put(b"k", b"v")]);
    engine.shutdown().unwrap();
    drop(shards);
    let (engine, _) = open(options(dir.path()));
    assert_eq!(engine.recovered().records, 1);
    assert_eq!(scan(&engine).len(), 1);
}

#[test]
fn another_number_of_shards_finds_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    for (round, shards) in [1_u16, 3, 256, 2].into_iter().enumerate() {
        let (engine, mut driver) = open(EngineOptions { shards, ..options(dir.path()) });
        assert_same(&scan(&engine), &model, "after a start");
        for slot in 0..=255_u8 {
            let shard = usize::from(Slot(slot).shard(shards).0);
            let ops = vec![put(&[slot, round as u8], &[round as u8])];
            apply(&mut model, &ops);
            driver.stores[shard].append(urgent(ops));
        }
        driver.until(|driver| driver.stores.iter().all(|store| store.backlog().records == 0));
        for shard in 0..usize::from(shards) {
            let (rows, _) = driver.read(shard, query(everything_of(shard, shards)));
            assert!(!rows.is_empty());
        }
    }
}

/// The keys of a shard's slots.
fn everything_of(shard: usize, shards: u16) -> KeyRange {
    let slots: Vec<u8> =
        (0..=255).filter(|slot| usize::from(Slot(*slot).shard(shards).0) == shard).collect();
    let last = KeyRange::prefix(&[*slots.last().unwrap()]);
    KeyRange { start: Bytes::copy_from_slice(&slots[..1]), end: last.end }
}

// --- groups ------------------------------------------------------------------------------------

/// A journal in memory that the test can hold up, or make fail.
#[derive(Debug)]
struct TestJournal {
    next: u64,
    /// A message for each group that is about to be written.
    entered: Sender<u32>,
    /// What becomes of it.
    outcome: Receiver<bool>,
}

impl Journal for TestJournal {
    fn replay(
        &mut self,
        _after: u64,
        _each: &mut dyn FnMut(Entry),
    ) -> Result<Recovered, ReplayError> {
        Ok(Recovered::default())
    }

    fn append(&mut self, group: &mut Group) -> Result<u64, JournalError> {
        let _nobody_looks = self.entered.send(group.entries());
        if self.outcome.recv().unwrap_or(true) {
            self.next += u64::from(group.entries());
            Ok(self.next - 1)
        } else {
            let source = io::Error::from_raw_os_error(5);
            Err(JournalError { operation: "sync", file: PathBuf::from("test.log"), source })
        }
    }

    fn forget(&mut self, _through: u64) -> Result<(), JournalError> {
        Ok(())
    }
}

fn with_test_journal(shards: u16) -> (Engine, Vec<ShardStore>, Receiver<u32>, Sender<bool>) {
    let (entered, groups) = channel();
    let (allow, outcome) = channel();
    let options =
        EngineOptions { shards, lazy_flush: PATIENCE * 60, ..EngineOptions::new("unused") };
    let journal = TestJournal { next: 1, entered, outcome };
    let (engine, stores) =
        Engine::open_with(options, Box::new(journal), Arc::new(MemoryStore::default())).unwrap();
    (engine, stores, groups, allow)
}

#[test]
fn records_of_all_shards_that_wait_for_a_sync_share_the_next() {
    let (engine, mut stores, groups, allow) = with_test_journal(4);
    stores[0].append(urgent(vec![put(b"first", b"")]));
    assert_eq!(groups.recv_timeout(PATIENCE), Ok(1));
    std::thread::scope(|scope| {
        for store in &mut stores {
            scope.spawn(|| {
                let before = store.backlog().records;
                for number in 1..=100 {
                    let position = store.append(urgent(vec![put(&[store.shard().0 as u8], b"")]));
                    assert_eq!(position, Position(before + number));
                }
            });
        }
    });
    assert_eq!(stores[0].backlog().records, 101);
    allow.send(true).unwrap();
    assert_eq!(groups.recv_timeout(PATIENCE), Ok(400), "everything that waited");
    allow.send(true).unwrap();
    let mut shards = Shards::new(stores);
    shards.until(|shards| shards.told.iter().all(|told| told.stored >= Position(100)));
    assert_eq!(shards.told[0].stored, Position(101));
    assert_eq!((engine.stats().groups, engine.stats().records), (2, 401));
    assert_eq!(shards.stores[1].backlog().bytes, 0);
}

#[test]
fn a_record_nobody_waits_for_rides_along_with_one_that_somebody_does() {
    let (_engine, stores, groups, allow) = with_test_journal(2);
    let mut shards = Shards::new(stores);
    shards.stores[0].append(Record { ops: vec![put(b"a", b"")], urgent: false });
    shards.stores[1].append(urgent(vec![put(b"\xffb", b"")]));
    // The turn of both is over.
    shards.poll();
    assert_eq!(groups.recv_timeout(PATIENCE), Ok(2));
    allow.send(true).unwrap();
    shards.until(|shards| shards.told.iter().all(|told| told.stored == Position(1)));
}

#[test]
fn records_nobody_waits_for_are_stored_in_time_and_before_they_fill_the_hand_off() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, stores) =
        Engine::open(EngineOptions { lazy_flush: Duration::from_millis(5), ..options(dir.path()) })
            .unwrap();
    let mut shards = Shards::new(stores);
    shards.stores[0].append(Record { ops: vec![put(b"a", b"")], urgent: false });
    shards.until(|shards| shards.told[0].stored == Position(1));
    drop((engine, shards));

    let (_engine, mut stores, groups, _allow) = with_test_journal(1);
    for _ in 0..4_000 {
        stores[0].append(Record { ops: vec![put(b"a", b"")], urgent: false });
        if groups.try_recv().is_ok() {
            return;
        }
    }
    groups.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_hand_off_is_full_above_its_bounds() {
    let (_engine, mut stores, _groups, _allow) = with_test_journal(1);
    assert!(!stores[0].backlog().is_full());
    for _ in 0..9 {
        stores[0].append(urgent(vec![put(b"a", &[0; 1 << 20])]));
    }
    assert!(stores[0].backlog().is_full(), "by bytes");
    let (_engine, mut stores, _groups, _allow) = with_test_journal(1);
    for _ in 0..4_097 {
        stores[0].append(urgent(vec![put(b"a", b"")]));
    }
    assert!(stores[0].backlog().is_full(), "by records");
}

// --- failures ----------------------------------------------------------------------------------

#[test]
fn a_failed_sync_is_told_to_every_shard_and_nothing_is_stored_after_it() {
    let (engine, stores, groups, allow) = with_test_journal(3);
    let mut shards = Shards::new(stores);
    allow.send(true).unwrap();
    allow.send(false).unwrap();
    allow.send(true).unwrap();
    shards.store(0, vec![put(b"a", b"1")]);
    shards.stores[0].append(urgent(vec![put(b"a", b"2")]));
    shards.until(|shards| shards.told.iter().all(|told| !told.failures.is_empty()));
    shards.stores[0].append(urgent(vec![put(b"a", b"3")]));
    shards.poll();
    assert_eq!(shards.told[0].stored, Position(1));
    for told in &shards.told {
        assert_eq!(told.failures.len(), 1, "told once");
        assert!(told.failures[0].contains("cannot sync \"test.log\""), "{}", told.failures[0]);
        assert!(!told.failures[0].contains('\n'));
    }
    assert_eq!(groups.iter().take(2).count(), 2);
    assert!(groups.try_recv().is_err(), "the journal was not asked again");
    assert!(engine.shutdown().is_err());
}

#[test]
fn a_panic_in_the_journal_is_a_failure() {
    #[derive(Debug)]
    struct Panicking;
    impl Journal for Panicking {
        fn replay(
            &mut self,
            _after: u64,
            _each: &mut dyn FnMut(Entry),
        ) -> Result<Recovered, ReplayError> {
            Ok(Recovered::default())
        }
        fn append(&mut self, _group: &mut Group) -> Result<u64, JournalError> {
            panic!("of the test's own")
        }
        fn forget(&mut self, _through: u64) -> Result<(), JournalError> {
            Ok(())
        }
    }
    let options = EngineOptions::new("unused");
    let store = Arc::new(MemoryStore::default());
    let (engine, stores) = Engine::open_with(options, Box::new(Panicking), store).unwrap();
    let mut shards = Shards::new(stores);
    shards.stores[0].append(urgent(vec![put(b"a", b"1")]));
    shards.until(|shards| !shards.told[0].failures.is_empty());
    assert!(shards.told[0].failures[0].contains("of the test's own"));
    assert_eq!(engine.failure().unwrap().panicked, Some("store-committer"));
}

/// sled, but it calls the test before each write, and stops when told to.
#[derive(Debug)]
struct Stepping {
    below: SledStore,
    step: AtomicU64,
    /// The step that fails; 0: none.
    fails: u64,
    /// Where the disk is copied from and to, at each step that is a multiple of the number.
    copies: Mutex<Option<(PathBuf, PathBuf, u64)>>,
}

impl Stepping {
    fn step(&self) -> Result<(), StoreFailure> {
        let step = self.step.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((from, to, every)) = &*self.copies.lock().unwrap()
            && step.is_multiple_of(*every)
        {
            copy(from, &to.join(step.to_string()));
        }
        if step == self.fails {
            return Err(StoreFailure::new("take this step", "the test says so"));
        }
        Ok(())
    }
}

impl Store for Stepping {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreFailure> {
        self.step()?;
        self.below.put(key, value)
    }

    fn delete(&self, key: &[u8]) -> Result<bool, StoreFailure> {
        self.step()?;
        self.below.delete(key)
    }

    fn visit(
        &self,
        range: &KeyRange,
        backwards: bool,
        visitor: &mut dyn Visitor,
    ) -> Result<(), StoreFailure> {
        self.below.visit(range, backwards, visitor)
    }

    fn flush(&self, complete_to: u64) -> Result<(), StoreFailure> {
        self.step()?;
        self.below.flush(complete_to)?;
        self.step()
    }

    fn complete_to(&self) -> Result<u64, StoreFailure> {
        self.below.complete_to()
    }
}

/// An engine on a directory that [`Engine::open`] can open too.
fn open_stepping(
    dir: &Path,
    fails: u64,
    copies: Option<(PathBuf, PathBuf, u64)>,
) -> (Engine, Shards) {
    if !dir.join("VERSION").exists() {
        drop(Engine::open(options(dir)).unwrap());
    }
    let below = SledStore::open(&dir.join("sled"), 1 << 20).unwrap();
    let copies = Mutex::new(copies);
    let store = Stepping { below, step: AtomicU64::new(0), fails, copies };
    let journal = FileJournal::new(FileJournalOptions {
        directory: dir.join("journal"),
        segment_bytes: 64 << 10,
        sync: true,
    });
    let (engine, stores) =
        Engine::open_with(options(dir), Box::new(journal), Arc::new(store)).unwrap();
    (engine, Shards::new(stores))
}

/// Three rounds of changes, so that later ones meet what earlier ones left.
fn round(number: u8) -> Vec<Vec<Op>> {
    let key = |name: u8| [name, name];
    let mut records = vec![
        vec![put(&key(1), &value(9_000 - usize::from(number) * 3_000, number))],
        vec![put(&key(2), &[number]), put(&key(3), &[number]), delete(&key(3))],
        vec![put(&[4, number], &[number])],
    ];
    if number == 1 {
        records.push(vec![delete(&key(2)), delete(&[4, 0])]);
    }
    records
}

#[test]
fn a_checkpoint_killed_at_any_step_loses_and_revives_nothing() {
    let mut fails = 1;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        let (engine, mut shards) = open_stepping(dir.path(), fails, None);
        for number in 0..3 {
            for ops in round(number) {
                apply(&mut model, &ops);
                shards.store(0, ops);
            }
            engine.checkpoint();
            let before = engine.stats().checkpoints;
            while engine.stats().checkpoints == before && engine.failure().is_none() {
                shards.poll();
                std::thread::yield_now();
            }
            if engine.failure().is_some() {
                break;
            }
        }
        let failed = engine.failure().is_some();
        drop((engine, shards));
        for _ in 0..2 {
            let (engine, mut shards) = open(options(dir.path()));
            assert_same(&scan(&engine), &model, format!("killed at step {fails}"));
            shards.checkpoint(&engine);
            assert_same(&scan(&engine), &model, "after a checkpoint");
        }
        if !failed {
            assert!(fails > 15, "the checkpoints had {fails} steps");
            return;
        }
        fails += 1;
    }
}

#[test]
fn the_disk_at_any_moment_of_a_checkpoint_holds_everything_stored() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    let from_to = (dir.path().to_path_buf(), copies.path().to_path_buf(), 3);
    let (engine, mut shards) = open_stepping(dir.path(), 0, Some(from_to));
    for number in 0..3 {
        for ops in round(number) {
            apply(&mut model, &ops);
            shards.store(0, ops);
        }
        // The copies are of this moment: nothing else happens meanwhile.
        shards.checkpoint(&engine);
        let mut seen = 0;
        for copied in fs::read_dir(copies.path()).unwrap() {
            let copied = copied.unwrap().path();
            let (engine, _) = open(options(&copied));
            assert_same(&scan(&engine), &model, copied.display());
            drop(engine);
            fs::remove_dir_all(copied).unwrap();
            seen += 1;
        }
        assert!(seen > 0);
    }
}

/// A store that says when a row is put.
#[derive(Debug)]
struct Telling {
    below: MemoryStore,
    puts: Mutex<Sender<()>>,
}

impl Store for Telling {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreFailure> {
        self.puts.lock().unwrap().send(()).unwrap();
        self.below.put(key, value)
    }

    fn delete(&self, key: &[u8]) -> Result<bool, StoreFailure> {
        self.below.delete(key)
    }

    fn visit(
        &self,
        range: &KeyRange,
        backwards: bool,
        visitor: &mut dyn Visitor,
    ) -> Result<(), StoreFailure> {
        self.below.visit(range, backwards, visitor)
    }

    fn flush(&self, complete_to: u64) -> Result<(), StoreFailure> {
        self.below.flush(complete_to)
    }

    fn complete_to(&self) -> Result<u64, StoreFailure> {
        self.below.complete_to()
    }
}

#[test]
fn a_row_reaches_the_store_only_once_its_record_is_safe() {
    let (entered, groups) = channel();
    let (allow, outcome) = channel();
    let (puts, put_rows) = channel();
    let store = Telling { below: MemoryStore::default(), puts: Mutex::new(puts) };
    let journal = TestJournal { next: 1, entered, outcome };
    let options = EngineOptions::new("unused");
    let (engine, stores) = Engine::open_with(options, Box::new(journal), Arc::new(store)).unwrap();
    // Dropped before the engine, which would wait for the journal if the test fails.
    let allow = allow;
    let mut shards = Shards::new(stores);
    shards.stores[0].append(urgent(vec![put(b"a", b"1")]));
    shards.poll();
    groups.recv_timeout(PATIENCE).unwrap();
    engine.checkpoint();
    // The shard freezes its rows when it is asked to, which is soon.
    for _ in 0..20 {
        shards.poll();
        assert!(put_rows.recv_timeout(Duration::from_millis(5)).is_err(), "it is not synced");
    }
    allow.send(true).unwrap();
    shards.until(|_| put_rows.try_recv().is_ok() || engine.stats().checkpoints > 0);
}

#[test]
fn a_failed_checkpoint_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut shards) = open_stepping(dir.path(), 1, None);
    shards.store(0, vec![put(b"a", b"1")]);
    engine.checkpoint();
    shards.until(|shards| !shards.told[0].failures.is_empty());
    assert_eq!(shards.told[0].failures, ["cannot take this step: the test says so"]);
}

// --- what reaches the store --------------------------------------------------------------------

#[test]
fn a_row_that_came_and_went_never_reaches_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut shards) = open(options(dir.path()));
    for number in 0..100_u8 {
        shards.stores[0].append(urgent(vec![put(&[1, number], &[number; 200])]));
    }
    for number in 0..98_u8 {
        shards.stores[0].append(urgent(vec![delete(&[1, number])]));
    }
    shards.until(|shards| shards.told[0].stored == Position(198));
    shards.checkpoint(&engine);
    let stats = engine.stats();
    assert_eq!((stats.rows_put, stats.rows_deleted, stats.store_bytes), (2, 0, 2 * 202));
    shards.store(0, vec![delete(&[1, 98])]);
    shards.checkpoint(&engine);
    assert_eq!((engine.stats().rows_put, engine.stats().rows_deleted), (2, 1));
    assert_eq!(shards.read(0, query(everything())).0.len(), 1);
}

#[test]
fn a_row_forgotten_between_or_behind_checkpoints_is_gone_after_a_kill_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let forget = |number: u8| Op::Forget { key: Bytes::copy_from_slice(&[1, number]) };
    let (engine, mut shards) = open(options(dir.path()));
    shards.store(0, vec![put(&[1, 1], b"x"), put(&[1, 2], b"x"), forget(1)]);
    shards.checkpoint(&engine);
    assert_eq!((engine.stats().rows_put, engine.stats().rows_deleted), (1, 0));
    shards.store(0, vec![put(&[1, 3], b"x"), forget(2), forget(3)]);
    assert!(shards.read(0, query(everything())).0.is_empty());
    let before = tempfile::tempdir().unwrap();
    copy(dir.path(), before.path());
    shards.checkpoint(&engine);
    assert_eq!((engine.stats().rows_put, engine.stats().rows_deleted), (1, 1));
    drop(engine);
    for dir in [dir.path(), before.path()] {
        let (engine, _) = open(options(dir));
        assert!(scan(&engine).is_empty());
    }
}

#[test]
fn a_checkpoint_for_the_journals_length_leaves_out_what_goes_while_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let journal = || {
        Box::new(FileJournal::new(FileJournalOptions {
            directory: dir.path().to_path_buf(),
            segment_bytes: 64 << 10,
            sync: true,
        }))
    };
    let options = EngineOptions { checkpoint_bytes: 16_000, ..options(dir.path()) };
    let rows = Arc::new(MemoryStore::default());
    let (mut manual, stores) =
        Manual::open(&options, journal(), Arc::<MemoryStore>::clone(&rows)).unwrap();
    let mut shards = Shards::new(stores);
    let forget = |key: &'static [u8]| Op::Forget { key: Bytes::from_static(key) };
    let store = |manual: &mut Manual, shards: &mut Shards, ops| {
        shards.stores[0].append(urgent(ops));
        manual.commit().unwrap();
        while manual.checkpoint().unwrap() {
            shards.poll();
        }
        shards.poll();
    };
    // Much journal, and little in memory.
    let mut changes = vec![put(b"goes", &[0; 1_000]); 16];
    changes.extend([put(b"changes", b"1"), put(b"stays", b"1")]);
    store(&mut manual, &mut shards, changes);
    let changes = vec![forget(b"goes"), put(b"changes", b"2"), put(b"later", b"1")];
    store(&mut manual, &mut shards, changes);
    assert_eq!(manual.engine().stats().checkpoints, 0, "what is on its way has time");
    store(&mut manual, &mut shards, vec![put(b"later still", &[0; 1_000])]);
    let stats = manual.engine().stats();
    assert_eq!((stats.checkpoints, stats.rows_put, stats.rows_deleted), (1, 2, 0));
    let found = |store: &dyn Store| {
        let answer = read::read(store, [], &query(everything())).unwrap();
        answer.rows.into_iter().map(|row| (row.key, row.value.len())).collect::<Vec<_>>()
    };
    let row = |key: &'static str, length| (Bytes::from_static(key.as_bytes()), length);
    assert_eq!(found(&*rows), [row("changes", 1), row("stays", 1)]);
    let all = [row("changes", 1), row("later", 1), row("later still", 1_000), row("stays", 1)];
    shards.stores[0].read(1, query(everything()));
    manual.read().unwrap();
    shards.poll();
    let read: Vec<_> = shards.told[0].answers[0].1.iter().map(|row| row.key.clone()).collect();
    assert_eq!(read, all.clone().map(|(key, _)| key), "before a crash");
    drop((manual, shards));
    let (manual, _stores) =
        Manual::open(&options, journal(), Arc::<MemoryStore>::clone(&rows)).unwrap();
    let mut read = Vec::new();
    manual
        .engine()
        .scan(&everything(), &mut |key, value| {
            read.push((Bytes::copy_from_slice(key), value.len()));
        })
        .unwrap();
    assert_eq!(read, all, "behind it");
}

#[test]
fn a_checkpoint_that_publishers_wait_for_does_not_wait_for_what_they_send() {
    let dir = tempfile::tempdir().unwrap();
    let journal = FileJournal::new(FileJournalOptions {
        directory: dir.path().to_path_buf(),
        segment_bytes: 64 << 10,
        sync: true,
    });
    let options = EngineOptions { checkpoint_bytes: 16_000, ..options(dir.path()) };
    let (mut manual, stores) =
        Manual::open(&options, Box::new(journal), Arc::new(MemoryStore::default())).unwrap();
    let mut shards = Shards::new(stores);
    shards.stores[0].append(urgent(vec![put(b"a", &[0; 1_000]); 30]));
    manual.commit().unwrap();
    shards.poll();
    assert!(shards.stores[0].backlog().behind);
    while manual.checkpoint().unwrap() {
        shards.poll();
    }
    shards.poll();
    assert_eq!(manual.engine().stats().checkpoints, 1);
    assert!(!shards.stores[0].backlog().behind);
}

#[test]
fn a_checkpoint_begins_when_the_journal_has_grown_and_empties_it() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        EngineOptions { checkpoint_bytes: 300_000, base_bytes: 500_000, ..options(dir.path()) };
    let (engine, mut shards) = open(options);
    for number in 0..2_000_u64 {
        shards.store(0, vec![put(&(number % 7).to_be_bytes(), &[0; 1_000])]);
    }
    let stats = engine.stats();
    assert!(stats.checkpoints >= 3, "{stats:?}");
    assert!(stats.rows_put <= 7 * stats.checkpoints);
    shards.checkpoint(&engine);
    base_of(&engine, &mut shards);
    shards.store(0, vec![put(b"last", b"")]);
    // The committer forgets in its own time, at the latest with the group after the next.
    shards.store(0, vec![put(b"last", b"")]);
    let names: Vec<_> = fs::read_dir(dir.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let segments = names.iter().filter(|name| name.starts_with("journal-")).count();
    assert!(segments <= 2 && names.len() <= 4, "{names:?}");
    assert!(stats.bases >= 2, "{stats:?}");
}

#[test]
fn a_checkpoint_begins_when_what_it_would_write_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { checkpoint_bytes: 300_000, ..options(dir.path()) };
    let (engine, mut shards) = open(options);
    // One value, which the journal has once and the store will have in each row.
    let keys = (0..200_u32).map(|number| Bytes::copy_from_slice(&number.to_be_bytes())).collect();
    shards.store(0, vec![Op::PutAll { keys, value: value(1_000, 1).into() }]);
    shards.until(|_| engine.stats().checkpoints == 1);
    assert_eq!(engine.stats().rows_put, 200);
}

#[test]
fn a_checkpoint_begins_when_many_rows_are_in_memory_however_small_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { checkpoint_bytes: u64::MAX, ..options(dir.path()) };
    let (engine, mut shards) = open(options);
    let ops = (0..250_000_u32).map(|number| delete(&number.to_be_bytes())).collect();
    shards.store(0, ops);
    shards.until(|_| engine.stats().checkpoints == 1);
}

#[test]
fn a_checkpoint_begins_when_nothing_has_come_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { checkpoint_bytes: 1 << 20, ..options(dir.path()) };
    let (engine, mut shards) = open(options);
    shards.store(0, vec![put(b"much", &[0; 1 << 17])]);
    shards.until(|_| engine.stats().checkpoints == 1);
}

#[test]
fn a_base_of_what_has_gone_makes_room_before_much_journal_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { base_bytes: 1 << 20, ..options(dir.path()) };
    let (engine, mut shards) = open(options);
    for number in 0..100_u64 {
        shards.store(0, vec![put(&number.to_be_bytes(), &value(20_000, number as u8))]);
    }
    shards.checkpoint(&engine);
    base_of(&engine, &mut shards);
    let (bases, bytes) = (engine.stats().bases, engine.stats().base_bytes);
    for number in 0..100_u64 {
        shards.store(0, vec![delete(&number.to_be_bytes())]);
    }
    shards.checkpoint(&engine);
    until_bases(&engine, &mut shards, bases + 1);
    assert!(engine.stats().base_bytes < bytes + 100_000);
}

#[test]
fn a_shard_that_waits_for_checkpoints_is_woken_when_it_need_not_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut shards) = open(EngineOptions { checkpoint_bytes: 1, ..options(dir.path()) });
    for number in 0..20_u8 {
        shards.store(0, vec![put(&[number], b"")]);
        shards.until(|shards| !shards.stores[0].backlog().behind);
    }
    assert!(engine.stats().checkpoints > 0);
}

#[test]
fn values_of_any_length_are_stored_rewritten_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let lengths = [0, 1, 4_094, 4_095, 4_096, 4_097, 8_192, 8_193, 70_000];
    let mut random = Random(5);
    let read = |key: &[u8]| {
        let range = KeyRange::prefix(key);
        let answer = read::read(&store, [], &query(range)).unwrap();
        answer.rows.first().map(|row| row.value.clone())
    };
    // Their chunks lie side by side.
    let keys: [&[u8]; 3] = [b"k", b"k\0\0\0\0", b"k\0\0\0\x01"];
    let mut model = Model::new();
    for step in 0..400_u32 {
        let key = keys[random.below(3) as usize];
        if random.below(4) == 0 {
            let there = store.delete(key).unwrap();
            assert_eq!(there, model.remove(key).is_some());
        } else {
            let value = value(lengths[random.below(9) as usize], step as u8);
            store.put(key, &value).unwrap();
            model.insert(Bytes::copy_from_slice(key), value.into());
        }
        let rows = read::read(&store, [], &query(everything())).unwrap().rows;
        let rows: Model = rows.into_iter().map(|row| (row.key, row.value)).collect();
        assert_same(&rows, &model, format!("after change {step}"));
    }
    for key in keys {
        store.put(key, &value(70_000, 1)).unwrap();
        store.put(key, b"short").unwrap();
        assert_eq!(read(key).unwrap(), b"short"[..]);
        store.delete(key).unwrap();
    }
    store.flush(9).unwrap();
    drop(store);
    assert_eq!(sled_rows(dir.path()), 2, "no chunk is left, only what the store notes of itself");
}

/// All rows in sled, chunks and notes included; each small enough.
fn sled_rows(directory: &Path) -> usize {
    let config = || sled::Config::new().path(directory).segment_size(2 << 20);
    let tree = loop {
        // Its threads hold the lock for a moment.
        if let Ok(tree) = config().open() {
            break tree;
        }
        std::thread::yield_now();
    };
    tree.iter().map(|row| assert!(row.unwrap().1.len() <= 4_096)).count()
}

#[test]
fn the_longest_keys_make_no_files_of_their_own() {
    // Nobody syncs those, and sled panics when they are gone.
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    for family in 0..400_u16 {
        for member in 0..20_u16 {
            let mut key = family.to_be_bytes().to_vec();
            key.resize(1_530, b'x');
            key.extend_from_slice(&member.to_be_bytes());
            store.put(&key, b"").unwrap();
        }
    }
    store.flush(1).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
}

// --- reads -------------------------------------------------------------------------------------

#[test]
fn a_read_sees_what_was_appended_before_it() {
    let (_engine, mut stores, _groups, _allow) = with_test_journal(1);
    stores[0].append(urgent(vec![put(b"a", b"1")]));
    let mut shards = Shards::new(stores);
    let (rows, more) = shards.read(0, query(everything()));
    assert_eq!((rows.len(), more), (1, false));
    assert_eq!(shards.told[0].stored, Position(0), "though it is not stored yet");
}

#[test]
fn answers_come_in_the_order_of_the_reads_however_many() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, mut shards) = open(options(dir.path()));
    for number in 0..200_u64 {
        shards.stores[0].append(urgent(vec![put(b"k", &number.to_be_bytes())]));
        shards.stores[0].read(number, query(everything()));
    }
    shards.until(|shards| shards.told[0].answers.len() == 200);
    for (number, (id, rows, _)) in (0..).zip(&shards.told[0].answers) {
        assert_eq!(*id, number);
        let seen = u64::from_be_bytes(rows[0].value[..].try_into().unwrap());
        assert!(seen >= number, "read {number} saw {seen}");
    }
}

#[test]
fn rows_are_read_from_memory_until_a_checkpoint_has_taken_them_over() {
    let dir = tempfile::tempdir().unwrap();
    let journal = FileJournal::new(FileJournalOptions {
        directory: dir.path().to_path_buf(),
        segment_bytes: 64 << 10,
        sync: true,
    });
    let store = Arc::new(MemoryStore::default());
    let (mut manual, stores) =
        Manual::open(&options(dir.path()), Box::new(journal), store).unwrap();
    let mut shards = Shards::new(stores);
    let look = |manual: &mut Manual, shards: &mut Shards, since: u64, rows: usize| {
        shards.stores[0].read_since(1, query(everything()), Position(since));
        shards.poll();
        let at_once = !shards.told[0].answers.is_empty();
        while shards.told[0].answers.is_empty() {
            assert!(manual.read().unwrap());
            shards.poll();
        }
        let (_, found, more) = shards.told[0].answers.remove(0);
        assert_eq!((found.len(), more), (rows, false));
        at_once
    };
    for key in [b"a", b"b", b"c"] {
        shards.stores[0].append(urgent(vec![put(key, key)]));
    }
    assert!(!look(&mut manual, &mut shards, 0, 3), "nothing is known of what there was before");
    assert!(look(&mut manual, &mut shards, 1, 3));
    manual.commit().unwrap();
    manual.engine().checkpoint();
    let mut at_once = Vec::new();
    // Each step of it, and one of nothing: frozen, written, flushed, released.
    for _ in 0..8 {
        manual.checkpoint().unwrap();
        at_once.push(look(&mut manual, &mut shards, 1, 3));
    }
    assert!(at_once[0] && !at_once[7], "{at_once:?}");
    shards.stores[0].append(urgent(vec![put(b"d", b"")]));
    assert!(!look(&mut manual, &mut shards, 2, 4), "some are in the store");
    // Who knows better is believed, which shows that it is not asked.
    assert!(look(&mut manual, &mut shards, 3, 1));
}

/// What a read should answer.
fn expected(model: &Model, query: &Query) -> (Vec<(Bytes, Bytes)>, bool) {
    let in_range = model.iter().filter(|(key, _)| query.range.contains(key));
    let mut all: Vec<_> = in_range.map(|(key, value)| (key.clone(), value.clone())).collect();
    if query.backwards {
        all.reverse();
    }
    let mut rows = Vec::new();
    let mut bytes = 0;
    for row in all.clone() {
        if !rows.is_empty() && (rows.len() >= query.rows_max || bytes >= query.bytes_max) {
            break;
        }
        bytes += row.1.len();
        rows.push(row);
    }
    let more = rows.len() < all.len();
    (rows, more)
}

fn random_query(random: &mut Random, slot: u8) -> Query {
    let mut range = match random.below(3) {
        0 => KeyRange::prefix(&[slot]),
        1 => KeyRange::prefix(&[slot, random.below(4) as u8]),
        _ => {
            let (one, other) = (random.below(4) as u8, random.below(5) as u8);
            let key = |second: u8| Bytes::copy_from_slice(&[slot, second]);
            // Now and then it ends before it starts.
            KeyRange { start: key(one), end: Some(key(other)) }
        }
    };
    if random.below(3) == 0 {
        range = range.after(&[slot, random.below(4) as u8, random.below(8) as u8]);
    }
    Query {
        range,
        rows_max: [1, 2, 5, usize::MAX][random.below(4) as usize],
        bytes_max: [0, 1, 300, usize::MAX][random.below(4) as usize],
        backwards: random.below(2) == 0,
    }
}

#[test]
fn layers_and_store_read_as_one_forwards_and_backwards_with_limits() {
    let mut random = Random(11);
    for _ in 0..300 {
        let store = MemoryStore::default();
        let mut layers = vec![Rows::new(); random.below(4) as usize];
        let mut model = Model::new();
        for depth in 0..=layers.len() {
            for _ in 0..random.below(30) {
                let key = [0, random.below(4) as u8, random.below(8) as u8];
                let value = value(random.below(200) as usize, random.below(256) as u8);
                let gone = depth > 0 && random.below(2) == 0;
                let op = if gone { delete(&key) } else { put(&key, &value) };
                apply(&mut model, std::slice::from_ref(&op));
                match depth {
                    0 => store.put(&key, &value).unwrap(),
                    // The newest is the first.
                    _ => {
                        let layer = layers.iter_mut().rev().nth(depth - 1).unwrap();
                        tidings_broker::store::overlay::apply(layer, op.clone(), true);
                    }
                }
            }
        }
        for _ in 0..20 {
            let query = random_query(&mut random, 0);
            let answer = read::read(&store, &layers, &query).unwrap();
            let rows: Vec<_> = answer.rows.into_iter().map(|row| (row.key, row.value)).collect();
            assert_eq!((rows, answer.more), expected(&model, &query), "{query:?}");
        }
    }
}

// --- everything at once ------------------------------------------------------------------------

#[test]
fn random_changes_checkpoints_kills_and_reads_agree_with_a_map() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        for _ in 0..4 {
            let shards = 1 + random.below(3) as u16;
            let options = EngineOptions {
                shards,
                durability: [Durability::Fsync, Durability::Os][random.below(2) as usize],
                checkpoint_bytes: 50_000 + random.below(500_000),
                lazy_flush: Duration::from_millis(1),
                ..options(dir.path())
            };
            let (engine, mut driver) = open(options);
            assert_same(&scan(&engine), &model, format!("SEED={seed}"));
            for _ in 0..200 {
                let slot = random.below(256) as u8;
                let shard = usize::from(Slot(slot & 0xc3).shard(shards).0);
                let slot = slot & 0xc3;
                match random.below(10) {
                    0 => {
                        let query = random_query(&mut random, slot);
                        let (rows, more) = driver.read(shard, query.clone());
                        let rows: Vec<_> =
                            rows.into_iter().map(|row| (row.key, row.value)).collect();
                        assert_eq!((rows, more), expected(&model, &query), "SEED={seed}");
                    }
                    1 if random.below(8) == 0 => driver.checkpoint(&engine),
                    _ => {
                        let ops: Vec<_> =
                            (0..random.below(5)).map(|_| random_op(&mut random, slot)).collect();
                        apply(&mut model, &ops);
                        let urgent = random.below(2) == 0;
                        driver.stores[shard].append(Record { ops, urgent });
                        driver.poll();
                    }
                }
            }
            driver.until(|driver| driver.stores.iter().all(|store| store.backlog().records == 0));
            if random.below(3) == 0 {
                drop(driver);
                engine.shutdown().unwrap();
            }
        }
        let (engine, _) = open(options(dir.path()));
        assert_same(&scan(&engine), &model, format!("SEED={seed}"));
    }
}

fn random_op(random: &mut Random, slot: u8) -> Op {
    let key = |random: &mut Random| {
        Bytes::copy_from_slice(&[slot, random.below(4) as u8, random.below(8) as u8])
    };
    match random.below(5) {
        0 | 1 => Op::Delete { key: key(random) },
        2 => {
            let keys = (0..random.below(4)).map(|_| key(random)).collect();
            Op::PutAll { keys, value: value(random.below(50) as usize, slot).into() }
        }
        3 => put(&key(random), &value(random.below(20_000) as usize, slot)),
        _ => put(&key(random), &value(random.below(300) as usize, slot)),
    }
}

#[test]
fn records_dropped_before_they_were_stored_leave_a_prefix() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut states = vec![Model::new()];
        let (engine, mut shards) = open(options(dir.path()));
        for _ in 0..random.below(60) {
            let ops: Vec<_> = (0..2).map(|_| random_op(&mut random, 1)).collect();
            let mut state = states.last().unwrap().clone();
            apply(&mut state, &ops);
            states.push(state);
            shards.stores[0].append(urgent(ops));
        }
        shards.poll();
        drop(engine);
        let stored = shards.told[0].stored.0 as usize;
        let (engine, _) = open(options(dir.path()));
        let found = scan(&engine);
        assert!(
            states[stored..].contains(&found),
            "SEED={seed}: {stored} were stored and something else was found"
        );
    }
}

const CHILD: &str = "TIDINGS_TEST_STORE_CHILD";

/// Not a test of its own: it is the process that the next one kills.
#[test]
fn a_child_that_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    // A checkpoint, and often a base, is under way most of the time.
    let options = options(Path::new(&dir));
    let small = EngineOptions { checkpoint_bytes: 100_000, base_bytes: 100_000, ..options };
    let (_engine, mut shards) = open(small);
    for number in 1_u64.. {
        let gone = number.saturating_sub(40).to_be_bytes();
        shards.store(0, vec![put(&number.to_be_bytes(), &value(500, 1)), delete(&gone)]);
        println!("stored {number}");
    }
}

#[test]
fn a_process_killed_at_any_moment_keeps_what_it_acknowledged() {
    for lines in [1, 60, 700, 1_500] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::a_child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut numbers = output.lines().map_while(Result::ok).filter_map(|line| {
            line.split_once("stored ").and_then(|(_, number)| number.parse::<u64>().ok())
        });
        let mut last = numbers.nth(lines - 1).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died counts too.
        last = numbers.last().unwrap_or(last);
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        fs::remove_dir_all(copied.path().join("sled")).unwrap();
        let (engine, _) = open(options(dir.path()));
        assert_eq!(engine.made_anew(), None, "a kill does sled no harm");
        let (anew, _) = open(options(copied.path()));
        assert_same(&scan(&anew), &scan(&engine), "made anew of base and journal");
        let rows: BTreeSet<u64> = scan(&engine)
            .keys()
            .map(|key| u64::from_be_bytes(key[..].try_into().unwrap()))
            .collect();
        let newest = *rows.last().unwrap();
        assert!(newest == last || newest == last + 1, "said {last}, found {newest}");
        let expected: BTreeSet<u64> = (newest.saturating_sub(39).max(1)..=newest).collect();
        assert_eq!(rows, expected);
    }
}

// --- the directory -----------------------------------------------------------------------------

#[test]
fn a_directory_has_one_engine_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, shards) = open(options(dir.path()));
    let second = Engine::open(options(dir.path()));
    let error = second.map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    drop(engine);
    // The shards' ends alone do not hold it.
    open(options(dir.path()));
    drop(shards);
}

#[test]
fn a_directory_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(options(dir.path())));
    for (written, said) in [(&b"99\n"[..], "99"), (b"\xff1\n", "\u{fffd}1")] {
        fs::write(dir.path().join("VERSION"), written).unwrap();
        match Engine::open(options(dir.path())).map(|_| ()) {
            Err(OpenError::FormatVersion { found, expected, .. }) => {
                assert_eq!((found.as_str(), expected), (said, FORMAT_VERSION));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_directory_with_something_else_in_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sled")).unwrap();
    fs::write(dir.path().join("sled/db"), "precious").unwrap();
    let error = Engine::open(options(dir.path())).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
    assert_eq!(fs::read(dir.path().join("sled/db")).unwrap(), b"precious");
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("CREATING"), "").unwrap();
    fs::create_dir(dir.path().join("sled")).unwrap();
    fs::write(dir.path().join("sled/conf"), "half a line").unwrap();
    let (_engine, mut shards) = open(options(dir.path()));
    shards.store(0, vec![put(b"a", b"1")]);
    assert!(!dir.path().join("CREATING").exists() && dir.path().join("VERSION").exists());
}

#[test]
fn a_snapshot_that_sled_did_not_finish_does_not_keep_it_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (engine, mut shards) = open(options(dir.path()));
        shards.store(0, vec![put(b"a", b"1")]);
        drop(shards);
        engine.shutdown().unwrap();
    }
    let draft = dir.path().join("sled/snap.7FFFFFFFFFFFFFFF.generating");
    fs::write(&draft, "cut short").unwrap();
    let (engine, _) = open(options(dir.path()));
    assert_eq!(scan(&engine).len(), 1);
    assert!(!draft.exists());
}

#[test]
fn files_are_for_their_owner_only() {
    fn check(path: &Path) {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                check(&entry.unwrap().path());
            }
        } else {
            assert_eq!(mode, 0o600, "{path:?}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("new");
    let (engine, mut shards) = open(options(&store));
    shards.store(0, vec![put(b"a", b"1")]);
    shards.checkpoint(&engine);
    check(&store);
    assert_eq!(fs::metadata(&store).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn damage_in_the_journal_keeps_the_engine_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (_engine, mut shards) = open(options(dir.path()));
        shards.store(0, vec![put(b"a", b"1")]);
        shards.store(0, vec![put(b"b", b"2")]);
    }
    let path = dir.path().join("journal/journal-00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4_096 + 30] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Engine::open(options(dir.path())).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("is damaged at byte 4096"), "{error}");
}

#[test]
fn the_disk_s_room_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open(options(dir.path()));
    let space = engine.disk_free().unwrap().unwrap();
    assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
}

// --- in memory ---------------------------------------------------------------------------------

#[test]
fn in_memory_everything_works_and_no_file_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let memory = EngineOptions { durability: Durability::Memory, ..options(&nowhere) };
    let (engine, mut shards) = open(memory);
    shards.store(0, vec![put(b"a", b"1"), put(b"b", b"2"), put(b"c", b"3")]);
    shards.store(0, vec![delete(b"b")]);
    let backwards = Query { rows_max: 1, backwards: true, ..query(everything()) };
    let (rows, more) = shards.read(0, backwards);
    assert_eq!((&rows[0].key[..], rows.len(), more), (&b"c"[..], 1, true));
    assert_eq!(shards.stores[0].backlog().records, 0);
    assert_eq!(engine.disk_free().unwrap(), None);
    engine.shutdown().unwrap();
    assert!(!nowhere.exists());
}

#[test]
fn a_durability_has_a_word() {
    for word in ["fsync", "os", "memory"] {
        assert_eq!(word.parse::<Durability>().unwrap().to_string(), word);
    }
    let error = "always".parse::<Durability>().unwrap_err().to_string();
    assert_eq!(error, "expected durability `fsync`, `os` or `memory`, found \"always\"");
}

#[test]
fn a_notifier_set_late_is_called_for_what_has_happened() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut stores) = Engine::open(options(dir.path())).unwrap();
    stores[0].append(urgent(vec![put(b"a", b"1")]));
    while engine.stats().records == 0 {
        std::thread::yield_now();
    }
    let mut shards = Shards::new(stores);
    shards.until(|shards| shards.told[0].stored == Position(1));
    assert!(!matches!(shards.stores[0].poll(), Some(StoreEvent::Stored(_))));
}

//! Copies: taken while records are stored, and made a store again with everything in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidings_broker::base::{Block, Reader};
use tidings_broker::engine::{CopyError, Engine, EngineOptions, OpenError, backup, restore};

use crate::damage::{base_of, record, until_bases};
use crate::support::{Model, Random, Shards, apply, assert_same, options, put, scan};

fn copy_of(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    backup(dir, &mut bytes, Path::new("copy"), &mut |_| {}).unwrap();
    bytes
}

fn restored(copy: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("store");
    restore(copy, Path::new("copy"), &folder, &mut |_| {}).unwrap();
    (dir, folder)
}

#[test]
fn a_copy_taken_while_the_engine_serves_holds_what_was_stored_before() {
    let dir = tempfile::tempdir().unwrap();
    let many =
        EngineOptions { checkpoint_bytes: 400_000, segment_bytes: 64 << 10, ..options(dir.path()) };
    let (engine, stores) = Engine::open(many).unwrap();
    let mut shards = Shards::new(stores);
    // The state after each record, by the number in the row that each record writes.
    let (stored, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let copies = std::thread::scope(|scope| {
        let (dir, stored, done) = (dir.path(), &stored, &done);
        let copier = scope.spawn(move || {
            let mut copies = Vec::new();
            while !done.load(Ordering::Acquire) {
                let before = stored.load(Ordering::Acquire);
                copies.push((before, copy_of(dir)));
            }
            copies
        });
        let mut random = Random(11);
        for number in 1..=3_000_u64 {
            let mut ops = record(&mut random);
            ops.push(put(&[200], &number.to_be_bytes()));
            shards.store(0, ops);
            stored.store(number, Ordering::Release);
            if number % 1_000 == 0 {
                engine.base();
            }
        }
        until_bases(&engine, &mut shards, 1);
        done.store(true, Ordering::Release);
        copier.join().unwrap()
    });
    assert!(copies.len() >= 3, "{} copies were taken", copies.len());
    let step = copies.len().div_ceil(6);
    for (before, copy) in copies.iter().step_by(step) {
        let (_dir, folder) = restored(copy);
        let (engine, _) = Engine::open(options(&folder)).unwrap();
        assert_eq!(engine.recovered().records, 0);
        let rows = scan(&engine);
        let number =
            rows.get(&[200][..]).map_or(0, |row| u64::from_be_bytes(row[..].try_into().unwrap()));
        assert!(number >= *before, "{before} were stored before the copy, {number} are in it");
        let mut model = Model::new();
        let mut random = Random(11);
        for number in 1..=number {
            let mut ops = record(&mut random);
            ops.push(put(&[200], &number.to_be_bytes()));
            apply(&mut model, &ops);
        }
        assert_same(&rows, &model, format!("as of record {number}"));
    }
}

#[test]
fn a_restored_store_goes_on_and_can_be_copied_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    let mut random = Random(5);
    let (engine, stores) = Engine::open(options(dir.path())).unwrap();
    let mut shards = Shards::new(stores);
    for round in 0..3 {
        for _ in 0..50 {
            let ops = record(&mut random);
            apply(&mut model, &ops);
            shards.store(0, ops);
        }
        shards.checkpoint(&engine);
        if round == 1 {
            base_of(&engine, &mut shards);
        }
    }
    let (_dir, folder) = restored(&copy_of(dir.path()));
    {
        let (engine, stores) = Engine::open(options(&folder)).unwrap();
        assert_same(&scan(&engine), &model, "restored");
        let mut shards = Shards::new(stores);
        for _ in 0..50 {
            let ops = record(&mut random);
            apply(&mut model, &ops);
            shards.store(0, ops);
        }
    }
    let (_other, again) = restored(&copy_of(&folder));
    fs::remove_dir_all(folder.join("sled")).unwrap();
    for folder in [folder, again] {
        let (engine, _) = Engine::open(options(&folder)).unwrap();
        assert_same(&scan(&engine), &model, folder.display());
    }
}

#[test]
fn a_copy_that_is_damaged_anywhere_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, stores) = Engine::open(options(dir.path())).unwrap();
    let mut shards = Shards::new(stores);
    let mut random = Random(5);
    for _ in 0..20 {
        shards.store(0, record(&mut random));
    }
    shards.checkpoint(&engine);
    base_of(&engine, &mut shards);
    shards.store(0, record(&mut random));
    let good = copy_of(dir.path());
    let target = tempfile::tempdir().unwrap();
    let folder = target.path().join("store");
    for number in 0..12 {
        let mut copy = good.clone();
        if number % 3 == 0 {
            copy.truncate(random.below(good.len() as u64) as usize);
        } else {
            let at = random.below(good.len() as u64) as usize;
            copy[at] ^= 1 << random.below(8);
        }
        let error = restore(&copy[..], Path::new("copy"), &folder, &mut |_| {}).unwrap_err();
        assert!(matches!(error, CopyError::Base(_)), "{error}");
        assert!(!folder.join("VERSION").exists());
    }
    // And what the failed ones left is in nobody's way.
    restore(&good[..], Path::new("copy"), &folder, &mut |_| {}).unwrap();
    let error = restore(&good[..], Path::new("copy"), &folder, &mut |_| {}).unwrap_err();
    assert!(matches!(error, CopyError::NotEmpty { .. }), "{error}");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("something"), "else").unwrap();
    let error = restore(&good[..], Path::new("copy"), other.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, CopyError::NotEmpty { .. }), "{error}");
    let error = backup(other.path(), Vec::new(), Path::new("copy"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, CopyError::Open(OpenError::NoStore { .. })), "{error}");
    let base = tidings_broker::base::find(dir.path()).unwrap()[0].path.clone();
    let base = fs::read(base).unwrap();
    let error = restore(&base[..], Path::new("b"), &folder.join("x"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, CopyError::NotACopy { .. }), "{error}");
}

#[test]
fn a_copy_before_the_first_base_is_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, stores) = Engine::open(options(dir.path())).unwrap();
    let mut shards = Shards::new(stores);
    shards.store(0, vec![put(b"k", b"v")]);
    let copy = copy_of(dir.path());
    let mut reader = Reader::new(&copy[..], Path::new("copy")).unwrap();
    assert!(matches!(reader.next().unwrap(), Some(Block::Records(entries)) if entries.len() == 1));
    assert!(reader.next().unwrap().is_none());
    assert_eq!(reader.totals().last, 1);
}

#[test]
fn nothing_that_a_copy_needs_is_forgotten_while_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let small = EngineOptions { segment_bytes: 64 << 10, ..options(dir.path()) };
    let (engine, stores) = Engine::open(small).unwrap();
    let mut shards = Shards::new(stores);
    let mut random = Random(5);
    let mut some = |shards: &mut Shards| {
        for _ in 0..100 {
            shards.store(0, record(&mut random));
        }
        shards.checkpoint(&engine);
    };
    some(&mut shards);
    base_of(&engine, &mut shards);
    some(&mut shards);
    let before = tidings_broker::base::find(dir.path()).unwrap()[0].clone();
    // The engine goes on as soon as the first rows are copied.
    let mut began = false;
    backup(dir.path(), Vec::new(), Path::new("copy"), &mut |_| {
        if !std::mem::replace(&mut began, true) {
            some(&mut shards);
            base_of(&engine, &mut shards);
            some(&mut shards);
        }
    })
    .unwrap();
    assert!(before.path.exists(), "the base that it read");
    // And when nobody copies any more, it goes with the next.
    base_of(&engine, &mut shards);
    shards.store(0, vec![put(b"last", b"")]);
    let start = std::time::Instant::now();
    while before.path.exists() {
        assert!(start.elapsed() < crate::support::PATIENCE, "the old base stays");
        std::thread::yield_now();
    }
}

//! The store gives the space back of rows that are gone, and loses none that are there.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use tidings_broker::store::sled::SledStore;
use tidings_broker::store::{Store, read};

use crate::support::{Model, Random, assert_same, copy, everything};

const WASTE: u64 = 4 << 20;
const SEGMENTS: u64 = 3 * (2 << 20);

fn open(directory: &Path) -> SledStore {
    SledStore::open(directory, 1 << 20).unwrap().waste_bytes(WASTE)
}

fn rows(store: &SledStore) -> Model {
    let mut rows = Model::new();
    read::merge(store, [], &everything(), false, &mut |key, value| {
        rows.insert(key, value);
        true
    })
    .unwrap();
    rows
}

/// What the directory takes on the disk.
fn bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let of = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => bytes(&entry.path()),
        false => std::os::unix::fs::MetadataExt::blocks(&entry.metadata().unwrap()) * 512,
    };
    entries.map(of).sum()
}

fn key(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Puts many rows and deletes most of them again.
fn fill_and_drain(store: &SledStore, model: &mut Model, from: u32) {
    for number in from..from + 20_000 {
        // Some are cut into chunks.
        let length = if number % 1_000 == 7 { 9_000 } else { 200 };
        let value = vec![number.to_be_bytes()[3]; length];
        store.put(&key(number), &value).unwrap();
        model.insert(key(number), value.into());
    }
    store.flush(u64::from(from)).unwrap();
    for number in (from..from + 20_000).filter(|number| number % 10 != 7) {
        assert!(store.delete(&key(number)).unwrap());
        model.remove(&key(number));
    }
    store.flush(u64::from(from) + 1).unwrap();
}

#[test]
fn rows_that_came_and_went_leave_no_space_taken() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::new();
    let mut moves = 0;
    for round in 1..=3 {
        fill_and_drain(&store, &mut model, round * 100_000);
        let full = bytes(dir.path());
        while store.tidy().unwrap() {
            moves += 1;
        }
        assert_same(&rows(&store), &model, format_args!("round {round}"));
        let live: usize = model.iter().map(|(key, value)| key.len() + value.len()).sum();
        let left = bytes(dir.path());
        // Besides: what sled keeps in files of its own, and its last segments.
        assert!(left < live as u64 * 4 + WASTE + SEGMENTS, "{left} of {full} bytes for {live}");
    }
    assert!(moves > 3, "it moved {moves} times");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.complete_to().unwrap(), 300_001);
    assert_same(&rows(&store), &model, "opened again");
    assert!(!store.tidy().unwrap(), "what it knew of its rows is kept");
}

#[test]
fn what_is_written_during_a_move_is_there_after_it() {
    let mut random = Random(7);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::new();
    fill_and_drain(&store, &mut model, 0);
    fill_and_drain(&store, &mut model, 20_000);
    let mut steps = 0;
    while store.tidy().unwrap() {
        steps += 1;
        for _ in 0..200 {
            let number = random.below(60_000) as u32;
            if random.below(2) == 0 {
                store.put(&key(number), b"new").unwrap();
                model.insert(key(number), Bytes::from_static(b"new"));
            } else {
                assert_eq!(
                    store.delete(&key(number)).unwrap(),
                    model.remove(&key(number)).is_some()
                );
            }
        }
        assert_same(&rows(&store), &model, format_args!("step {steps}"));
    }
    assert!(steps >= 2, "it moved in {steps} steps");
    assert_same(&rows(&store), &model, "moved");
    store.flush(50_000).unwrap();
    drop(store);
    assert_same(&rows(&open(dir.path())), &model, "opened again");
}

#[test]
fn a_move_that_a_crash_cuts_short_at_any_step_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::new();
    fill_and_drain(&store, &mut model, 0);
    fill_and_drain(&store, &mut model, 20_000);
    let check = |at: &str| {
        let crashed = tempfile::tempdir().unwrap();
        copy(dir.path(), crashed.path());
        let store = open(crashed.path());
        assert_eq!(store.complete_to().unwrap(), 20_001, "{at}");
        assert_same(&rows(&store), &model, at);
        let folders = fs::read_dir(crashed.path()).unwrap();
        let names: Vec<_> = folders.map(|it| it.unwrap().file_name()).collect();
        assert!(names.len() < 6, "what does not count is gone: {at}: {names:?}");
    };
    check("before");
    let mut step = 0;
    while store.tidy().unwrap() {
        step += 1;
        check(&format!("step {step}"));
    }
    check("moved");
}

#[test]
fn a_name_of_no_folder_is_told_by_file() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("CURRENT"), "../elsewhere\n").unwrap();
    let error = SledStore::open(dir.path(), 1 << 20).unwrap_err().to_string();
    assert!(error.contains("CURRENT names no folder"), "{error}");
}

//! The store's own files broken in every way: with base and journal intact, every row is there.

use std::fs;
use std::path::{Path, PathBuf};

use tidings_broker::engine::{Compare, Engine, EngineOptions, OpenError, check};
use tidings_core::record::Op;

use crate::support::{Model, PATIENCE, Random, Shards, apply, assert_same, copy, delete, options};
use crate::support::{put, scan};

pub(crate) fn base_of(engine: &Engine, shards: &mut Shards) {
    let before = engine.stats().bases;
    engine.base();
    until_bases(engine, shards, before + 1);
}

/// Waits until so many bases have been written.
pub(crate) fn until_bases(engine: &Engine, shards: &mut Shards, bases: u64) {
    let start = std::time::Instant::now();
    while engine.stats().bases < bases {
        assert!(engine.failure().is_none(), "{:?}", engine.failure());
        assert!(start.elapsed() < PATIENCE, "no base was written");
        shards.poll();
        std::thread::yield_now();
    }
}

/// Records as a broker writes them: rows that come, change and go, short and long ones.
pub(crate) fn record(random: &mut Random) -> Vec<Op> {
    (0..=random.below(4))
        .map(|_| {
            let key = [random.below(16) as u8, random.below(250) as u8];
            let length = match random.below(20) {
                0 => 4_000 + random.below(20_000),
                1..=4 => random.below(3_000),
                _ => random.below(200),
            };
            if random.below(3) == 0 {
                delete(&key)
            } else {
                put(&key, &vec![random.below(256) as u8; length as usize])
            }
        })
        .collect()
}

/// A folder after a kill: checkpoints, a base in between, a journal behind the last checkpoint.
fn template(dir: &Path, checkpoints: usize) -> Model {
    let mut model = Model::new();
    let mut random = Random(7);
    let (engine, stores) = Engine::open(options(dir)).unwrap();
    let mut shards = Shards::new(stores);
    for round in 0..checkpoints {
        for _ in 0..400 {
            let ops = record(&mut random);
            apply(&mut model, &ops);
            shards.store(0, ops);
        }
        shards.checkpoint(&engine);
        if round == checkpoints / 2 {
            base_of(&engine, &mut shards);
        }
    }
    for _ in 0..100 {
        let ops = record(&mut random);
        apply(&mut model, &ops);
        shards.store(0, ops);
    }
    model
}

#[test]
fn a_journal_that_ends_before_the_store_does_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, stores) = Engine::open(options(dir.path())).unwrap();
    let mut shards = Shards::new(stores);
    for number in 0..300_u64 {
        shards.store(0, vec![put(&number.to_be_bytes(), &[7; 1_000])]);
    }
    shards.checkpoint(&engine);
    drop((shards, engine));
    let names = fs::read_dir(dir.path().join("journal")).unwrap().map(|it| it.unwrap().path());
    let mut segments: Vec<_> =
        names.filter(|path| path.to_str().unwrap().contains("journal-")).collect();
    segments.sort();
    // All behind the first: the store has some of their records.
    for segment in segments.drain(..).skip(1) {
        fs::remove_file(segment).unwrap();
    }
    // And is still so when somebody tries again.
    for _ in 0..2 {
        let error = Engine::open(options(dir.path())).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("may be missing"), "{error}");
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn harm(path: &Path, random: &mut Random) -> String {
    let mut bytes = fs::read(path).unwrap();
    let at = random.below(bytes.len().max(1) as u64) as usize;
    let what = match random.below(8) {
        0 => {
            fs::remove_file(path).unwrap();
            return format!("{path:?} removed");
        }
        1 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        2 => {
            bytes.iter_mut().skip(at).take(4_096).for_each(|byte| *byte = 0);
            format!("4096 zeros at {at}")
        }
        3 => {
            let at = at / 4_096 * 4_096;
            bytes.iter_mut().skip(at).take(65_536).for_each(|byte| *byte = 0);
            format!("65536 zeros at {at}")
        }
        4 => {
            let noise: Vec<u8> = (0..512).map(|_| random.below(256) as u8).collect();
            let length = noise.len().min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&noise[..length]);
            format!("noise at {at}")
        }
        5 => {
            let from = random.below(bytes.len().max(1) as u64) as usize / 4_096 * 4_096;
            let at = at / 4_096 * 4_096;
            let length = 4_096.min(bytes.len() - from).min(bytes.len() - at);
            bytes.copy_within(from..from + length, at);
            format!("page {from} at {at}")
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
            format!("a bit flipped at {at}")
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{path:?}: {what}")
}

#[test]
fn every_row_is_there_whatever_happens_to_the_stores_files() {
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 5);
    let seeds = std::env::var("SEEDS").ok().map_or(40, |seeds| seeds.parse().unwrap());
    let mut lost = Vec::new();
    for seed in 0..seeds {
        let mut random = Random(seed);
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let all = files(&copied.path().join("sled"));
        let data = all.iter().position(|path| path.ends_with("db")).unwrap();
        let which =
            if random.below(3) == 0 { random.below(all.len() as u64) as usize } else { data };
        let what = harm(&all[which], &mut random);
        match Engine::open(options(copied.path())) {
            Ok((engine, _)) => {
                let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    assert_same(&scan(&engine), &model, format!("seed {seed}: {what}"));
                }));
                if found.is_err() {
                    lost.push(format!("seed {seed}: {what}"));
                }
            }
            Err(error) => lost.push(format!("seed {seed}: {what}: {error}")),
        }
    }
    assert!(lost.is_empty(), "{} of {seeds}: {lost:#?}", lost.len());
}

/// Opens the folder, compares its rows, and ends as a crash does. Whether the store was made anew.
#[track_caller]
fn check_rows(dir: &Path, model: &Model, what: &str) -> bool {
    let (engine, _) = Engine::open(options(dir)).unwrap();
    assert_same(&scan(&engine), model, what);
    engine.made_anew().is_some()
}

#[test]
fn a_store_that_a_kill_left_whole_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 3);
    let always = EngineOptions { compare: Compare::Always, ..options(dir.path()) };
    for _ in 0..2 {
        let (engine, _) = Engine::open(always.clone()).unwrap();
        assert_eq!(engine.made_anew(), None);
        assert_same(&scan(&engine), &model, "after a kill");
    }
}

#[test]
fn one_start_that_was_killed_while_it_opened_the_store_is_no_reason_to_make_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 3);
    fs::write(dir.path().join("sled.opening"), "1\n").unwrap();
    assert!(!check_rows(dir.path(), &model, "killed once"));
    assert!(!dir.path().join("sled.opening").exists());
}

#[test]
fn a_store_without_a_segment_of_the_journal_is_damaged_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    drop(Engine::open(options(dir.path())).unwrap());
    let journal = dir.path().join("journal");
    for segment in fs::read_dir(&journal).unwrap() {
        fs::remove_file(segment.unwrap().path()).unwrap();
    }
    let error = Engine::open(options(dir.path())).unwrap_err();
    let OpenError::Damaged { file, .. } = &error else { panic!("{error}") };
    assert_eq!(*file, journal);
    let checked = check(dir.path(), &mut |_, _| {}, &mut |_, _| {}).unwrap();
    assert_eq!(checked.problems.len(), 1, "{checked:?}");
}

/// What is done to a folder, or to what is in it.
type Spoil<'a, T> = (&'a str, &'a dyn Fn(&T));

#[test]
fn a_store_that_is_gone_rolled_back_distrusted_or_never_opened_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let early = tempfile::tempdir().unwrap();
    template(dir.path(), 1);
    copy(&dir.path().join("sled"), early.path());
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 4);
    let spoil: [Spoil<'_, Path>; 6] = [
        ("gone", &|dir| fs::remove_dir_all(dir.join("sled")).unwrap()),
        ("a file", &|dir| {
            fs::remove_dir_all(dir.join("sled")).unwrap();
            fs::write(dir.join("sled"), "").unwrap();
        }),
        ("rolled back", &|dir| {
            fs::remove_dir_all(dir.join("sled")).unwrap();
            copy(early.path(), &dir.join("sled"));
        }),
        ("distrusted", &|dir| fs::write(dir.join("sled.distrusted"), "why").unwrap()),
        ("never opened", &|dir| fs::write(dir.join("sled.opening"), "2").unwrap()),
        ("half made anew", &|dir| {
            fs::write(dir.join("sled.distrusted"), "why").unwrap();
            copy(early.path(), &dir.join("sled.new"));
        }),
    ];
    for (what, spoil) in spoil {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        spoil(copied.path());
        assert!(check_rows(copied.path(), &model, what), "{what}");
        // And again, from what was made.
        assert!(!check_rows(copied.path(), &model, what), "{what}");
        let left = fs::read_dir(copied.path()).unwrap().map(|it| it.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("sled.")).collect();
        assert_eq!(left, ["sled.open"], "{what}");
    }
}

#[test]
fn a_store_is_made_anew_from_the_journal_alone_before_there_is_a_base() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    {
        let (engine, stores) = Engine::open(options(dir.path())).unwrap();
        let mut shards = Shards::new(stores);
        let mut random = Random(3);
        for _ in 0..3 {
            for _ in 0..100 {
                let ops = record(&mut random);
                apply(&mut model, &ops);
                shards.store(0, ops);
            }
            shards.checkpoint(&engine);
        }
    }
    fs::write(dir.path().join("sled.distrusted"), "why").unwrap();
    check_rows(dir.path(), &model, "from the journal");
}

#[test]
fn rows_that_sled_has_lost_without_a_word_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 4);
    let spoil: [Spoil<'_, sled::Db>; 3] = [
        ("rows less", &|tree| {
            for row in tree.scan_prefix([1, 3]).keys() {
                tree.remove(row.unwrap()).unwrap();
            }
        }),
        ("rows as they were before", &|tree| {
            for row in tree.scan_prefix([1, 4]).keys() {
                tree.insert(row.unwrap(), &[0, 77, 77, 77]).unwrap();
            }
        }),
        ("a row too many", &|tree| {
            tree.insert([1, 3, 251], &[0, 1]).unwrap();
            tree.insert([1, 16], &[0, 1]).unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let tree = sled::Config::new()
            .path(copied.path().join("sled"))
            .segment_size(2 << 20)
            .open()
            .unwrap();
        spoil(&tree);
        drop(tree);
        while sled_is_open(copied.path()) {
            std::thread::yield_now();
        }
        let never = EngineOptions { compare: Compare::Never, ..options(copied.path()) };
        let (engine, _) = Engine::open(never).unwrap();
        assert_ne!(scan(&engine), model, "{what}: otherwise nothing is tested");
        drop(engine);
        assert!(check_rows(copied.path(), &model, what), "{what}");
    }
}

fn sled_is_open(dir: &Path) -> bool {
    fs::File::open(dir.join("sled/db")).unwrap().try_lock().is_err()
}

#[test]
fn a_base_that_is_damaged_is_no_harm_while_the_store_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 4);
    for seed in 0..12 {
        let mut random = Random(seed);
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let base = base_file(copied.path());
        let what = harm(&base, &mut random);
        let (engine, stores) = Engine::open(options(copied.path())).unwrap();
        assert_same(&scan(&engine), &model, &what);
        // And the next base makes up for it.
        let mut shards = Shards::new(stores);
        shards.checkpoint(&engine);
        base_of(&engine, &mut shards);
        drop((engine, shards));
        fs::remove_dir_all(copied.path().join("sled")).unwrap();
        check_rows(copied.path(), &model, &what);
    }
}

#[test]
fn a_base_of_the_same_record_takes_the_place_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 4);
    let (engine, stores) = Engine::open(options(dir.path())).unwrap();
    let mut shards = Shards::new(stores);
    shards.checkpoint(&engine);
    for _ in 0..3 {
        base_of(&engine, &mut shards);
    }
    drop((engine, shards));
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert!(check_rows(dir.path(), &model, "three bases of one record"));
}

fn base_file(dir: &Path) -> PathBuf {
    let bases = tidings_broker::base::find(dir).unwrap();
    bases.first().unwrap().path.clone()
}

#[test]
fn with_store_and_base_both_damaged_the_error_names_what_is() {
    let dir = tempfile::tempdir().unwrap();
    template(dir.path(), 4);
    let base = base_file(dir.path());
    let mut bytes = fs::read(&base).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&base, bytes).unwrap();
    fs::write(dir.path().join("sled/db"), "nothing that sled knows").unwrap();
    for _ in 0..2 {
        let error = Engine::open(options(dir.path())).err().unwrap();
        let text = error.to_string();
        assert!(matches!(error, OpenError::Base { .. }), "{text}");
        assert!(text.contains("base-000") && text.contains("at byte 40"), "{text}");
        assert!(text.contains("from a copy") && !text.contains('\n'), "{text}");
    }
    fs::remove_file(base).unwrap();
    let error = Engine::open(options(dir.path())).err().unwrap();
    assert!(matches!(error, OpenError::NoBase { .. }), "{error}");
}

#[test]
fn a_folder_from_before_there_were_bases_gets_one_soon() {
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 4);
    fs::remove_file(base_file(dir.path())).unwrap();
    {
        let (engine, stores) = Engine::open(options(dir.path())).unwrap();
        let mut shards = Shards::new(stores);
        let start = std::time::Instant::now();
        while engine.stats().bases == 0 {
            assert!(start.elapsed() < PATIENCE, "no base came");
            shards.poll();
            std::thread::yield_now();
        }
    }
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    check_rows(dir.path(), &model, "from its first base");
}

#[test]
fn a_start_does_not_open_segments_that_only_a_base_needs() {
    let dir = tempfile::tempdir().unwrap();
    let model = template(dir.path(), 4);
    let first = files(&dir.path().join("journal"))[0].clone();
    assert!(first.to_string_lossy().contains("journal-"), "{first:?}");
    fs::write(&first, "not a segment").unwrap();
    let never = EngineOptions { compare: Compare::Never, ..options(dir.path()) };
    let (engine, _) = Engine::open(never).unwrap();
    assert_same(&scan(&engine), &model, "with the first segment unreadable");
}

//! The store's own files broken in every way: with base and journal intact, every row is there.

use std::fs;
use std::path::{Path, PathBuf};

use tidings_broker::base;
use tidings_broker::engine::{Engine, EngineOptions};
use tidings_core::record::Op;

use crate::support::{Model, PATIENCE, Random, Shards, apply, assert_same, copy, delete, options};
use crate::support::{put, scan};

pub(crate) fn base_of(engine: &Engine, shards: &mut Shards) {
    let before = engine.stats().bases;
    engine.base();
    let start = std::time::Instant::now();
    while engine.stats().bases == before {
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
        let which = if random.below(3) == 0 { random.below(all.len() as u64) as usize } else { data };
        let what = harm(&all[which], &mut random);
        eprintln!("seed {seed}: {what}");
        let started = std::time::Instant::now();
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
        eprintln!("   {:?}", started.elapsed());
    }
    assert!(lost.is_empty(), "{} of {seeds}: {lost:#?}", lost.len());
}

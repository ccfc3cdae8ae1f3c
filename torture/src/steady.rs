//! Publishing and draining at the same rate over a constant depth: memory and disk must stay flat.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bulk::{Bulk, Topics};
use crate::measure::{Memory, Size};
use crate::plot::{Panel, svg};
use crate::process::{Launch, Program};
use crate::scene::lock;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) place: PathBuf,
    /// Messages that wait all the time.
    pub(crate) depth: u64,
    /// Messages that pass in all.
    pub(crate) messages: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) threads: usize,
    pub(crate) csv: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
}

/// A moment.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) passed: u64,
    pub(crate) memory: Memory,
    pub(crate) folder: Size,
}

/// How it went.
#[derive(Debug, Serialize)]
pub(crate) struct Result {
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    /// The largest of the second quarter of the time, and of the last.
    pub(crate) early: Peak,
    pub(crate) late: Peak,
    pub(crate) flat: bool,
}

/// The most in a span of time.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Peak {
    pub(crate) rss_kib: u64,
    pub(crate) allocated: u64,
}

/// Messages of a Session: all wait, then all are drained.
const BATCH: u64 = 1000;
/// By how much the last quarter may be above the second.
const GROWTH_PERCENT: u64 = 10;

fn peak(samples: &[Sample]) -> Peak {
    let mut peak = Peak::default();
    for sample in samples {
        peak.rss_kib = peak.rss_kib.max(sample.memory.now_kib);
        peak.allocated = peak.allocated.max(sample.folder.allocated);
    }
    peak
}

const fn flat(early: u64, late: u64) -> bool {
    late <= early + early * GROWTH_PERCENT / 100
}

/// Runs it.
///
/// # Errors
///
/// What did not arrive.
pub(crate) fn run(plan: &Plan) -> std::result::Result<Result, String> {
    let launch = Launch::new(&plan.program, &plan.place).map_err(|error| error.to_string())?;
    let bulk = Bulk {
        address: launch.address(),
        topics: Topics::Own,
        payload_bytes: plan.payload_bytes,
        threads: plan.threads,
    };
    let (process, _) = launch.serve()?;
    let sessions = (plan.depth / BATCH).max(1);
    bulk.subscribe(sessions)?;
    bulk.publish(0..sessions, 0..BATCH)?;
    println!("{} messages wait in {sessions} sessions", sessions * BATCH);

    let (passed, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let (samples, began) = (Mutex::new(Vec::new()), Instant::now());
    let worked = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let sample = Sample {
                    seconds: began.elapsed().as_secs_f64(),
                    passed: passed.load(Ordering::Relaxed),
                    memory: Memory::of(process.id()),
                    folder: Size::of(&launch.data),
                };
                let number = {
                    let mut samples = lock(&samples);
                    samples.push(sample);
                    samples.len()
                };
                if number % 10 == 1 {
                    println!(
                        "{:>6.0} s  {:>9} messages  RSS {} KiB  folder {} KiB",
                        sample.seconds,
                        sample.passed,
                        sample.memory.now_kib,
                        sample.folder.allocated >> 10
                    );
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        let worked = pass(plan, &bulk, sessions, &passed);
        done.store(true, Ordering::Release);
        worked
    });
    worked?;
    let samples = std::mem::take(&mut *lock(&samples));
    write(plan, &samples)?;
    let quarter = samples.len() / 4;
    let early = peak(samples.get(quarter..quarter * 2).unwrap_or_default());
    let late = peak(samples.get(quarter * 3..).unwrap_or_default());
    let flat = flat(early.rss_kib, late.rss_kib) && flat(early.allocated, late.allocated);
    let messages = passed.load(Ordering::Relaxed);
    Ok(Result { seconds: began.elapsed().as_secs_f64(), messages, early, late, flat })
}

/// Drains a Session and fills it again, one after the other, by several threads.
fn pass(
    plan: &Plan,
    bulk: &Bulk,
    sessions: u64,
    passed: &AtomicU64,
) -> std::result::Result<(), String> {
    let turns = plan.messages / BATCH;
    // Each thread has sessions of its own: a turn of a session follows the one before.
    let threads = plan.threads.clamp(1, usize::try_from(sessions).unwrap_or(1)) as u64;
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for thread in 0..threads {
            let failed = &failed;
            scope.spawn(move || {
                for turn in 0..turns {
                    let (session, round) = (turn % sessions, turn / sessions);
                    if session % threads != thread || lock(failed).is_some() {
                        continue;
                    }
                    let now = round * BATCH..(round + 1) * BATCH;
                    let next = (round + 1) * BATCH..(round + 2) * BATCH;
                    let turned = bulk
                        .drain_one(session, now)
                        .and_then(|_| bulk.publish(session..session + 1, next));
                    match turned {
                        Ok(()) => {
                            passed.fetch_add(BATCH, Ordering::Relaxed);
                        }
                        Err(why) => {
                            lock(failed).get_or_insert(why);
                        }
                    }
                }
            });
        }
    });
    let failed = lock(&failed).take();
    failed.map_or(Ok(()), Err)
}

#[expect(clippy::cast_precision_loss, reason = "drawn, not counted with")]
fn write(plan: &Plan, samples: &[Sample]) -> std::result::Result<(), String> {
    let error = |error: std::io::Error| format!("cannot write: {error}");
    if let Some(path) = &plan.csv {
        let mut text = String::from("seconds,messages,rss_kib,allocated_bytes,apparent_bytes\n");
        for it in samples {
            let folder = it.folder;
            let line = format!(
                "{:.1},{},{},{},{}\n",
                it.seconds, it.passed, it.memory.now_kib, folder.allocated, folder.apparent
            );
            text.push_str(&line);
        }
        fs::write(path, text).map_err(error)?;
    }
    if let Some(path) = &plan.svg {
        let points = |value: fn(&Sample) -> f64| {
            samples.iter().map(|it| (it.passed as f64 / 1e6, value(it))).collect()
        };
        let panels = [
            Panel { title: "RSS, MiB", points: points(|it| it.memory.now_kib as f64 / 1024.0) },
            Panel {
                title: "folder on the disk, MiB",
                points: points(|it| it.folder.allocated as f64 / (1024.0 * 1024.0)),
            },
        ];
        let title = format!("{} messages wait, published and drained at the same rate", plan.depth);
        fs::write(path, svg(&title, "million messages", &panels)).map_err(error)?;
    }
    Ok(())
}

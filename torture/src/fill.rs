//! A million messages that wait: how soon it serves again, what it takes, and whether all come.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Serialize;

use crate::bulk::{Bulk, Topics};
use crate::measure::{Memory, Size};
use crate::process::{Ended, Launch, Process, Program};

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) place: PathBuf,
    pub(crate) sessions: u64,
    pub(crate) messages: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) topics: Topics,
    pub(crate) rounds: u64,
    pub(crate) threads: usize,
    /// Killed instead of stopped before the start that is measured.
    pub(crate) kill: bool,
}

/// What a round took.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) fill_s: f64,
    pub(crate) filled: Memory,
    pub(crate) full: Size,
    pub(crate) stop_s: f64,
    /// Until a CONNECT is accepted.
    pub(crate) start_s: f64,
    pub(crate) started: Memory,
    /// From CONNECT to the first message, right after the start.
    pub(crate) first_ms: f64,
    pub(crate) drain_s: f64,
    pub(crate) drained: Memory,
    pub(crate) empty: Size,
    /// Some seconds later, with nothing to do.
    pub(crate) settled: Size,
}

/// So often a second apart the folder is the same: what is given back has been.
const SETTLED: usize = 15;
/// So long that is waited for, in seconds.
const SETTLING_MAX: usize = 60;

fn settle(folder: &Path) -> Size {
    let (mut size, mut same) = (Size::of(folder), 0);
    for _ in 0..SETTLING_MAX {
        thread::sleep(Duration::from_secs(1));
        let now = Size::of(folder);
        same = if now.allocated == size.allocated { same + 1 } else { 0 };
        size = now;
        if same == SETTLED {
            break;
        }
    }
    size
}

const MIB: f64 = 1024.0 * 1024.0;

#[expect(clippy::cast_precision_loss, reason = "told to one decimal")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

/// Fills, starts anew and drains; tells while it goes.
///
/// # Errors
///
/// What did not come, or did not start.
pub(crate) fn run(plan: &Plan) -> Result<Vec<Round>, String> {
    let launch = Launch::new(&plan.program, &plan.place).map_err(|error| error.to_string())?;
    let bulk = Bulk {
        address: launch.address(),
        topics: plan.topics,
        payload_bytes: plan.payload_bytes,
        threads: plan.threads,
    };
    let (mut process, took) = launch.serve()?;
    println!("empty: ready after {took:?}, {:?}", Memory::of(process.id()));
    let began = Instant::now();
    bulk.subscribe(plan.sessions)?;
    println!("{} sessions subscribed in {:.1} s", plan.sessions, began.elapsed().as_secs_f64());
    let mut rounds = Vec::new();
    for number in 0..plan.rounds {
        let (next, round) = one(plan, &launch, &bulk, process, number)?;
        process = next;
        rounds.push(round);
    }
    stop(process, false)?;
    Ok(rounds)
}

fn stop(mut process: Process, kill: bool) -> Result<Duration, String> {
    let began = Instant::now();
    if kill {
        process.kill();
        return Ok(began.elapsed());
    }
    process.signal(Signal::TERM);
    match process.wait(Duration::from_secs(120)) {
        Some(Ended::Code(0) | Ended::Signal(15)) => Ok(began.elapsed()),
        ended => Err(format!("after SIGTERM: {ended:?}")),
    }
}

fn one(
    plan: &Plan,
    launch: &Launch,
    bulk: &Bulk,
    process: Process,
    number: u64,
) -> Result<(Process, Round), String> {
    let numbers = number * plan.messages..(number + 1) * plan.messages;
    let began = Instant::now();
    bulk.publish(0..plan.sessions, numbers.clone())?;
    let fill_s = began.elapsed().as_secs_f64();
    let filled = Memory::of(process.id());
    let full = Size::of(&launch.data);
    println!(
        "round {}: filled in {fill_s:.1} s; RSS {} KiB, most {} KiB; folder {:.1} MiB, apparent {:.1} MiB",
        number + 1,
        filled.now_kib,
        filled.most_kib,
        mib(full.allocated),
        mib(full.apparent)
    );
    let stop_s = stop(process, plan.kill)?.as_secs_f64();
    let (process, took) = launch.serve()?;
    let started = Memory::of(process.id());
    let first = bulk.drain_one(0, numbers.clone())?;
    println!(
        "         stopped in {stop_s:.2} s, ready after {:.2} s; RSS {} KiB, most {} KiB; first message {:.1} ms \
after CONNECT",
        took.as_secs_f64(),
        started.now_kib,
        started.most_kib,
        first.as_secs_f64() * 1000.0
    );
    let began = Instant::now();
    bulk.drain(1..plan.sessions, numbers)?;
    let drain_s = began.elapsed().as_secs_f64();
    let drained = Memory::of(process.id());
    let empty = Size::of(&launch.data);
    println!(
        "         drained in {drain_s:.1} s, all there; RSS {} KiB, most {} KiB; folder {:.1} MiB, apparent {:.1} MiB",
        drained.now_kib,
        drained.most_kib,
        mib(empty.allocated),
        mib(empty.apparent)
    );
    let settled = settle(&launch.data);
    println!("         folder left to itself: {:.1} MiB", mib(settled.allocated));
    let round = Round {
        fill_s,
        filled,
        full,
        stop_s,
        start_s: took.as_secs_f64(),
        started,
        first_ms: first.as_secs_f64() * 1000.0,
        drain_s,
        drained,
        empty,
        settled,
    };
    Ok((process, round))
}

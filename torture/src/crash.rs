//! Rounds: load, a break, a start, and the judgement.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cast::{Cast, PUBLISHERS};
use crate::process::{Launch, Program};
use crate::random::Random;
use crate::scene::{AGES_MS, Counts, Phase, Promise, Scene};
use crate::strike::{Mode, Striker};

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) mode: Mode,
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    pub(crate) chat: bool,
    /// Where files go, in a folder of their own.
    pub(crate) place: PathBuf,
    pub(crate) load_ms: (u64, u64),
    pub(crate) pause_ms: u64,
    pub(crate) stop_s: (u64, u64),
    pub(crate) disk_mib: u64,
    pub(crate) returned_ms: u64,
    /// Promises whose breaking is told, and not held against the broker.
    pub(crate) known: Vec<String>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) mode: String,
    pub(crate) seed: u64,
    pub(crate) rounds: u64,
    pub(crate) breaks: usize,
    pub(crate) acknowledged: u64,
    pub(crate) delivered: u64,
    pub(crate) chat: u64,
    pub(crate) ticks: u64,
    pub(crate) wills: u64,
    pub(crate) refused: u64,
    pub(crate) sent_again: u64,
    /// How many came again, by how long before the end they had been acknowledged: at most so many
    /// milliseconds, and the last longer.
    pub(crate) returned_by_ms: Vec<(Option<u64>, u64)>,
    pub(crate) unacknowledged: u64,
    pub(crate) without_dup: u64,
    pub(crate) start_ms_max: u128,
    /// How far the broker was behind its Clients at a break, at most.
    pub(crate) behind_ms_max: u128,
    pub(crate) refused_copies: u64,
    /// How often each promise was broken.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) holds: bool,
}

const HEADER: &str = "round  seed-moment  start ms  acknowledged  delivered  sent again  \
unacknowledged  without DUP  refused   chat  ticks  wills  faults";
/// Faults of one round that are told in full.
const TOLD: usize = 5;

/// Runs all rounds.
///
/// # Errors
///
/// Why nothing could be tried; `Ok(None)`: this machine cannot do it, and it was said.
pub(crate) fn run(plan: &Plan) -> Result<Option<Summary>, String> {
    let mut random = Random::new(plan.seed);
    let launch = Launch::new(&plan.program, &plan.place).map_err(|error| error.to_string())?;
    let striker = Striker::new(plan.mode, launch, &plan.place, plan.stop_s, plan.disk_mib);
    let mut striker = match striker {
        Ok(striker) => striker,
        Err(error) => {
            println!("skipped, this machine cannot do it: {error}");
            return Ok(None);
        }
    };
    let scene = Scene::new(
        striker.launch.address(),
        PUBLISHERS * 2,
        Duration::from_millis(plan.returned_ms),
    );
    let scene = Arc::new(scene);
    if matches!(plan.program, Program::Other(_)) {
        std::fs::create_dir_all(&striker.launch.data).map_err(|error| error.to_string())?;
    }
    let (mut process, _) = striker.launch.serve()?;
    let cast = Cast::start(&scene, &mut random, plan.chat, plan.pause_ms);
    let mut start_ms_max = 0;
    let mut broken = None;
    println!("{HEADER}");
    if cast.prepared() {
        for round in 1..=plan.rounds {
            let before = Snapshot::of(&scene);
            scene.enter(Phase::Load);
            let moment = random.millis(plan.load_ms.0, plan.load_ms.1);
            thread::sleep(moment);
            let served = striker.strike(process, &scene, &mut random);
            let (next, took) = match served {
                Ok(served) => served,
                Err(why) => {
                    scene.fault(Promise::Process, why);
                    tell(plan, &scene, round, (moment, Duration::ZERO), &before);
                    broken = Some(round);
                    break;
                }
            };
            process = next;
            start_ms_max = start_ms_max.max(took.as_millis());
            thread::sleep(random.millis(0, 200));
            cast.settle(round);
            tell(plan, &scene, round, (moment, took), &before);
            if round == plan.rounds {
                process.kill();
                break;
            }
        }
    }
    cast.end();
    let rounds = broken.unwrap_or(plan.rounds);
    Ok(Some(summary(plan, &scene, rounds, start_ms_max, striker.refused_copies)))
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

struct Snapshot {
    counts: [u64; 9],
    faults: usize,
    at: Instant,
}

impl Snapshot {
    fn of(scene: &Scene) -> Self {
        let Counts { acknowledged, delivered, sent_again, unacknowledged, .. } = &scene.counts;
        let Counts { without_dup, refused, chat, ticks, wills, .. } = &scene.counts;
        let counts = [acknowledged, delivered, sent_again, unacknowledged, without_dup, refused]
            .into_iter()
            .chain([chat, ticks, wills]);
        let mut all = [0; 9];
        for (slot, counter) in all.iter_mut().zip(counts) {
            *slot = get(counter);
        }
        Self { counts: all, faults: scene.faults(0).len(), at: Instant::now() }
    }
}

/// A line for the round, and what was wrong.
fn tell(
    plan: &Plan,
    scene: &Scene,
    round: u64,
    (moment, took): (Duration, Duration),
    before: &Snapshot,
) {
    let now = Snapshot::of(scene);
    let faults = scene.faults(before.faults);
    let mut counts = now.counts.iter().zip(before.counts).map(|(now, before)| now - before);
    let mut next = || counts.next().unwrap_or(0);
    println!(
        "{round:>5}  {:>8} ms  {:>8}  {:>12}  {:>9}  {:>10}  {:>14}  {:>11}  {:>7}  {:>5}  {:>5}  {:>5}  \
{:>6}   ({:.1} s)",
        moment.as_millis(),
        took.as_millis(),
        next(),
        next(),
        next(),
        next(),
        next(),
        next(),
        next(),
        next(),
        next(),
        faults.len(),
        before.at.elapsed().as_secs_f64(),
    );
    let mut told: BTreeMap<Promise, usize> = BTreeMap::new();
    for (promise, evidence) in &faults {
        let times = told.entry(*promise).or_default();
        *times += 1;
        if *times <= TOLD && !plan.known.iter().any(|it| it == promise.name()) {
            println!("       {}: {evidence}", promise.name());
        }
    }
    let _ = io::stdout().flush();
}

fn summary(
    plan: &Plan,
    scene: &Scene,
    rounds: u64,
    start_ms_max: u128,
    refused_copies: u64,
) -> Summary {
    let mut faults = BTreeMap::new();
    for (promise, _) in scene.faults(0) {
        *faults.entry(promise.name()).or_default() += 1;
    }
    let holds = faults.keys().all(|it| plan.known.iter().any(|known| known == it));
    let counts = &scene.counts;
    let steps = AGES_MS.iter().map(|it| Some(*it)).chain([None]);
    Summary {
        mode: format!("{:?}", plan.mode).to_lowercase(),
        seed: plan.seed,
        rounds,
        breaks: scene.breaks(),
        acknowledged: get(&counts.acknowledged),
        delivered: get(&counts.delivered),
        chat: get(&counts.chat),
        ticks: get(&counts.ticks),
        wills: get(&counts.wills),
        refused: get(&counts.refused),
        sent_again: get(&counts.sent_again),
        returned_by_ms: steps.zip(scene.ages()).collect(),
        unacknowledged: get(&counts.unacknowledged),
        without_dup: get(&counts.without_dup),
        start_ms_max,
        behind_ms_max: scene.behind_max().as_millis(),
        refused_copies,
        faults,
        holds,
    }
}

/// The verdict in words.
pub(crate) fn print(summary: &Summary) {
    println!(
        "\n{} rounds of {}, {} breaks: {} messages acknowledged, {} delivered, {} chat messages, {} ticks",
        summary.rounds,
        summary.mode,
        summary.breaks,
        summary.acknowledged,
        summary.delivered,
        summary.chat,
        summary.ticks
    );
    print!("came again after they were acknowledged, by ms before the end:");
    for (step, many) in &summary.returned_by_ms {
        match step {
            Some(step) => print!("  <={step}: {many}"),
            None => print!("  more: {many}"),
        }
    }
    println!(
        "\nslowest start {} ms; furthest behind at a break {} ms; damaged copies refused: {}",
        summary.start_ms_max, summary.behind_ms_max, summary.refused_copies
    );
    for (promise, many) in &summary.faults {
        println!("broken: {promise} ({many})");
    }
    println!("{}", if summary.holds { "every promise held" } else { "PROMISES WERE BROKEN" });
}

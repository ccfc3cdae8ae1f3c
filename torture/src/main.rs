//! The command: starts a broker, breaks it, and says whether it kept its word.
//!
//! Exit code 0: it did, or this machine cannot try it; 1: it did not; 2: nothing could be tried.

mod bulk;
mod cast;
mod changes;
mod chat;
mod crash;
mod disk;
mod fill;
mod inbox;
mod journal;
mod measure;
mod plot;
mod process;
mod publisher;
mod random;
mod retained;
mod scene;
mod steady;
mod strike;
mod subscriber;
mod wills;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};

use crate::bulk::Topics;
use crate::process::Program;
use crate::strike::Mode;

/// Breaks a running broker in every way there is, and holds it to its word.
#[derive(Debug, Parser)]
#[command(name = "tidings-torture")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Breaks it under load, round after round.
    Crash(Crash),
    /// Fills many offline sessions, starts anew, drains them, and measures.
    Fill(Fill),
    /// Publishes and drains at the same rate over a constant depth, and measures.
    Steady(Steady),
}

/// Which broker.
#[derive(Debug, Args)]
struct Broker {
    /// The binary of Tidings.
    #[arg(long, default_value = "target/release/tidings")]
    broker: PathBuf,
    /// Any other broker: a line for the shell with `{port}` and `{data}`, such as
    /// `exec mosquitto -p {port}`. Without chat.
    #[arg(long, value_name = "LINE")]
    broker_command: Option<String>,
    /// One more argument for Tidings, such as --broker-arg=--set=limits.receive_maximum=8; may be
    /// repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    broker_arg: Vec<String>,
    /// Shards of Tidings.
    #[arg(long, default_value_t = 1)]
    shards: u64,
    /// What an acknowledgement of Tidings survives: fsync, os, memory.
    #[arg(long, default_value = "fsync")]
    durability: String,
    /// Where files go; the system's place for temporary ones.
    #[arg(long)]
    place: Option<PathBuf>,
    /// Keep the files.
    #[arg(long)]
    keep: bool,
    /// Print the result as one line of JSON as well.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Crash {
    #[command(flatten)]
    broker: Broker,
    /// What breaks.
    #[arg(long, value_enum, default_value = "kill")]
    mode: Mode,
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Of the choices; told when it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// No chat users.
    #[arg(long)]
    no_chat: bool,
    /// Milliseconds of load before a break: least and most.
    #[arg(long, num_args = 2, default_values_t = [50, 1500])]
    load_ms: Vec<u64>,
    /// Most milliseconds between two bursts of a publisher.
    #[arg(long, default_value_t = 10)]
    pause_ms: u64,
    /// Seconds that it stands still in the mode stop: least and most.
    #[arg(long, num_args = 2, default_values_t = [5, 20])]
    stop_s: Vec<u64>,
    /// MiB of the file system in the modes power and full.
    #[arg(long, default_value_t = 256)]
    disk_mib: u64,
    /// What was acknowledged so many milliseconds before a break may not come again.
    #[arg(long, default_value_t = 100)]
    returned_ms: u64,
    /// A promise that is known to be broken, by the name in the report: told, and not held against
    /// the broker; may be repeated.
    #[arg(long, value_name = "PROMISE")]
    known: Vec<String>,
}

#[derive(Debug, Args)]
struct Fill {
    #[command(flatten)]
    broker: Broker,
    #[arg(long, default_value_t = 10_000)]
    sessions: u64,
    /// For each session.
    #[arg(long, default_value_t = 100)]
    messages: u64,
    #[arg(long, default_value_t = 100)]
    payload_bytes: usize,
    /// One topic for all sessions, instead of one each.
    #[arg(long)]
    fan: bool,
    #[arg(long, default_value_t = 2)]
    rounds: u64,
    /// Connections at once.
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// SIGKILL before the start that is measured, instead of SIGTERM.
    #[arg(long)]
    kill: bool,
}

#[derive(Debug, Args)]
struct Steady {
    #[command(flatten)]
    broker: Broker,
    /// Messages that wait all the time.
    #[arg(long, default_value_t = 100_000)]
    depth: u64,
    /// Messages that pass in all.
    #[arg(long, default_value_t = 7_200_000)]
    messages: u64,
    #[arg(long, default_value_t = 100)]
    payload_bytes: usize,
    /// Connections at once.
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Where the samples go.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Where the drawing goes.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// Small segments, checkpoints and bases, so that there are many, a reserve that suits a small disk, and no
/// limit of queues and takeovers in the way of Clients that do badly.
const SETTINGS: [&str; 9] = [
    "data.checkpoint_bytes=1048576",
    "data.segment_bytes=1048576",
    "data.base_bytes=8388608",
    "data.reserve_bytes=4194304",
    "data.reserve_percent=0",
    "limits.session_queue_messages_max=1000000",
    "limits.session_queue_bytes_max=4294967296",
    "limits.takeovers_max=1000",
    "chat.requests=false",
];

impl Broker {
    fn program(&self, settings: &[&str]) -> Program {
        if let Some(line) = &self.broker_command {
            return Program::Other(line.clone());
        }
        let mut arguments = vec!["--durability".into(), self.durability.clone()];
        let shards = format!("shards={}", self.shards);
        for setting in settings.iter().copied().chain([shards.as_str()]) {
            arguments.extend(["--set".to_owned(), setting.to_owned()]);
        }
        arguments.extend(self.broker_arg.iter().cloned());
        Program::Tidings(self.broker.clone(), arguments)
    }

    /// A folder for files, removed when dropped.
    fn place(&self) -> Result<tempfile::TempDir, String> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("torture-").disable_cleanup(self.keep);
        let made = match &self.place {
            Some(place) => builder.tempdir_in(place),
            None => builder.tempdir(),
        };
        made.map_err(|error| format!("cannot make a folder: {error}"))
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Crash(it) => crash(&it),
        Command::Fill(it) => fill(&it),
        Command::Steady(it) => steady(&it),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn pair(values: &[u64]) -> (u64, u64) {
    (values.first().copied().unwrap_or(0), values.get(1).copied().unwrap_or(0))
}

fn crash(it: &Crash) -> Result<bool, String> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = it.seed.unwrap_or_else(|| u64::from(clock.subsec_nanos()));
    let place = it.broker.place()?;
    println!("seed {seed}, files in {}", place.path().display());
    let plan = crash::Plan {
        program: it.broker.program(&SETTINGS),
        mode: it.mode,
        rounds: it.rounds,
        seed,
        chat: !it.no_chat && it.broker.broker_command.is_none(),
        place: place.path().to_owned(),
        load_ms: pair(&it.load_ms),
        pause_ms: it.pause_ms.max(1),
        stop_s: pair(&it.stop_s),
        disk_mib: it.disk_mib,
        returned_ms: it.returned_ms,
        known: it.known.clone(),
    };
    let Some(summary) = crash::run(&plan)? else { return Ok(true) };
    crash::print(&summary);
    tell_json(&it.broker, &summary)?;
    Ok(summary.holds)
}

fn tell_json(broker: &Broker, value: &impl serde::Serialize) -> Result<(), String> {
    if broker.json {
        println!("{}", serde_json::to_string(value).map_err(|error| error.to_string())?);
    }
    Ok(())
}

fn fill(it: &Fill) -> Result<bool, String> {
    let place = it.broker.place()?;
    let plan = fill::Plan {
        program: it.broker.program(&[]),
        place: place.path().to_owned(),
        sessions: it.sessions,
        messages: it.messages,
        payload_bytes: it.payload_bytes.max(16),
        topics: if it.fan { Topics::Fan } else { Topics::Own },
        rounds: it.rounds.max(1),
        threads: it.threads.max(1),
        kill: it.kill,
    };
    let rounds = fill::run(&plan)?;
    tell_json(&it.broker, &rounds)?;
    Ok(true)
}

fn steady(it: &Steady) -> Result<bool, String> {
    let place = it.broker.place()?;
    let plan = steady::Plan {
        program: it.broker.program(&[]),
        place: place.path().to_owned(),
        depth: it.depth,
        messages: it.messages,
        payload_bytes: it.payload_bytes.max(16),
        threads: it.threads.max(1),
        csv: it.csv.clone(),
        svg: it.svg.clone(),
    };
    let result = steady::run(&plan)?;
    println!(
        "{} messages in {:.0} s; most in the second quarter: RSS {} KiB, folder {} KiB; in the last: RSS {} KiB, \
folder {} KiB: {}",
        result.messages,
        result.seconds,
        result.early.rss_kib,
        result.early.allocated >> 10,
        result.late.rss_kib,
        result.late.allocated >> 10,
        if result.flat { "flat" } else { "IT GROWS" }
    );
    tell_json(&it.broker, &result)?;
    Ok(result.flat)
}

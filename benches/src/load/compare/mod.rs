//! Several brokers at the same work, in turn, round after round.
//!
//! What is written of it is made of the lines of `--raw` alone, so that it can be made again.

pub mod found;
mod page;
pub mod peers;
mod table;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

use crate::load::compare::found::{Found, Setting};
use crate::load::compare::peers::{Kind, Peer, Running, find, named};

/// What `tidings-bench compare` is told.
#[derive(Debug, Clone, Args)]
pub struct CompareOptions {
    /// The binary of Tidings; compared with each of --durability
    #[arg(long, value_name = "FILE")]
    pub tidings: Option<PathBuf>,
    /// Durabilities of Tidings: fsync, os, memory
    #[arg(long, value_delimiter = ',', default_value = "fsync,os,memory")]
    pub durability: Vec<String>,
    /// The binary of mosquitto; looked for where programs are, if not said
    #[arg(long, value_name = "FILE")]
    pub mosquitto: Option<PathBuf>,
    /// The binary of rumqttd; looked for where programs are, if not said
    #[arg(long, value_name = "FILE")]
    pub rumqttd: Option<PathBuf>,
    /// Another broker: NAME=COMMAND, where {port} and {dir} are filled in; may be repeated
    #[arg(long = "peer", value_parser = Peer::parse, value_name = "NAME=COMMAND")]
    pub peers: Vec<Peer>,
    /// What an acknowledgement of another broker survives: NAME=TEXT; may be repeated
    #[arg(long = "peer-note", value_parser = named, value_name = "NAME=TEXT")]
    pub notes: Vec<(String, String)>,
    /// Of all these only those with these names: `relay`, `tidings fsync`, `mosquitto`, …
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub only: Vec<String>,
    /// A work: the words after `tidings-bench load`; may be repeated. Without it, all that matter
    #[arg(long = "work", value_name = "WORDS")]
    pub works: Vec<String>,
    /// How often each broker does each work
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// How long a work is measured that is not counted
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Where the brokers have their folders: the disk counts
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write each run's line of JSON there as well, as soon as it is done
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Run nothing: write up again what an earlier --raw has
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tidings", "peers", "works", "raw"])]
    pub from: Option<PathBuf>,
}

const WORKS: [&str; 16] = [
    "pair --pairs 50 --window 100 --qos 0",
    "pair --pairs 50 --window 100 --qos 1",
    "pair --pairs 50 --window 100 --batch 1 --qos 0",
    "pair --pairs 50 --window 100 --batch 1 --qos 1",
    "pair --pairs 50 --window 1 --qos 0",
    "pair --pairs 50 --window 1 --qos 1",
    "pair --pairs 1 --window 1 --qos 0",
    "pair --pairs 1 --window 1 --qos 1",
    "pair --pairs 50 --rate 5000 --qos 1",
    "pair --pairs 50 --window 100 --qos 1 --persistent",
    "fanout --members 1000 --window 10 --qos 1",
    "offline --sessions 1000 --messages 100",
    "offline --sessions 1000 --messages 100 --together",
    "offline --sessions 1000 --messages 100 --kill --patience 5",
    "idle --connections 5000 --seconds 1",
    "storm --sessions 5000",
];

/// Runs everything, or reads what was run, and writes it up: in Markdown as the answer.
pub fn run(options: &CompareOptions, command: &str, say: impl Fn(&str)) -> Result<String, String> {
    let found = match &options.from {
        Some(path) => {
            let failed = |why: &dyn std::fmt::Display| format!("--from {}: {why}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
            Found::read(&text).map_err(|why| failed(&why))?
        }
        None => compare(options, command, say)?,
    };
    if let Some(path) = &options.report {
        let page = page::page(&found);
        std::fs::write(path, page).map_err(|it| format!("--report {}: {it}", path.display()))?;
    }
    Ok(table::markdown(&found))
}

/// Those who take part, and the names of those who could if they were installed.
fn cast(options: &CompareOptions, program: &Path) -> Result<(Vec<Peer>, Vec<String>), String> {
    let (mut peers, mut missing) = (vec![Peer::relay(program)], Vec::new());
    if let Some(tidings) = &options.tidings {
        peers.extend(options.durability.iter().map(|it| Peer::tidings(tidings, it)));
    }
    match options.mosquitto.clone().or_else(|| find("mosquitto")) {
        Some(program) => peers.extend(Peer::mosquitto(&program)),
        None => missing.push("mosquitto, which distributions have".into()),
    }
    match options.rumqttd.clone().or_else(|| find("rumqttd")) {
        Some(program) => peers.push(Peer::rumqttd(&program)),
        None => missing.push("rumqttd, see `cargo install rumqttd`".into()),
    }
    peers.extend(options.peers.iter().cloned());
    for (name, note) in &options.notes {
        let peer = peers.iter_mut().find(|it| it.name == *name);
        let peer = peer.ok_or_else(|| format!("--peer-note {name}: no broker has that name"))?;
        peer.durability.clone_from(note);
    }
    for name in &options.only {
        if !peers.iter().any(|it| it.name == *name) {
            let names: Vec<_> = peers.iter().map(|it| it.name.as_str()).collect();
            return Err(format!("--only {name}: expected some of {}", names.join(",")));
        }
    }
    if !options.only.is_empty() {
        peers.retain(|it| options.only.contains(&it.name));
        missing.clear();
    }
    Ok((peers, missing))
}

fn compare(options: &CompareOptions, command: &str, say: impl Fn(&str)) -> Result<Found, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (peers, missing) = cast(options, &program)?;
    let mut works = options.works.clone();
    if works.is_empty() {
        works = WORKS.map(Into::into).to_vec();
    }
    let dir = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = dir.join(format!("tidings-bench-{}", std::process::id()));
    let setting = Setting::of(options, command, &peers, missing, &works);
    let mut raw = Raw::create(options.raw.as_deref())?;
    raw.put(&json!({ "comparison": setting }))?;
    let mut found = Found { setting, runs: Vec::new() };
    for round in 0..options.rounds {
        for work in &works {
            for nth in 0..peers.len() {
                // Each has its turn at being the first.
                let Some(peer) = peers.get((nth + round) % peers.len()) else { continue };
                if work.starts_with("chat") && peer.kind != Kind::Ours {
                    continue;
                }
                say(&format!("round {} of {}: {work}: {}", round + 1, options.rounds, peer.name));
                let run = peer.start(&dir);
                let run = run.and_then(|mut it| one(&program, options, work, &mut it));
                let mut run = run.unwrap_or_else(|why| {
                    say(&why);
                    json!({ "failed": found::without_places(&why) })
                });
                if let Some(run) = run.as_object_mut() {
                    run.insert("peer".into(), peer.name.clone().into());
                    run.insert("asked".into(), work.clone().into());
                    run.insert("round".into(), (round + 1).into());
                }
                raw.put(&run)?;
                found.runs.push(run);
            }
        }
    }
    Ok(found)
}

/// One broker does a work once.
fn one(
    program: &Path,
    options: &CompareOptions,
    work: &str,
    running: &mut Running,
) -> Result<Value, String> {
    let mut command = Command::new(program);
    command.arg("load").args(work.split_whitespace()).arg("--json");
    if !work.contains("--messages") && !work.contains("--seconds") {
        command.args(["--seconds", &options.seconds.to_string()]);
    }
    let restarts = work.split_whitespace().any(|word| word == "--kill");
    if restarts {
        command.args(["--restart", &running.restart()]);
    }
    command.args(["--broker", &running.address.to_string()]);
    command.args(["--pid", &running.pid().to_string()]).stderr(Stdio::piped());
    let output = command.output().map_err(|error| error.to_string())?;
    if restarts {
        running.look_again();
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// The file of `--raw`, where there is one.
struct Raw<'a>(Option<(File, &'a Path)>);

impl<'a> Raw<'a> {
    fn create(path: Option<&'a Path>) -> Result<Self, String> {
        let create = |path: &'a Path| match File::create(path) {
            Ok(file) => Ok((file, path)),
            Err(error) => Err(format!("--raw {}: {error}", path.display())),
        };
        Ok(Self(path.map(create).transpose()?))
    }

    fn put(&mut self, line: &Value) -> Result<(), String> {
        let Some((file, path)) = &mut self.0 else { return Ok(()) };
        writeln!(file, "{line}").map_err(|error| format!("--raw {}: {error}", path.display()))
    }
}

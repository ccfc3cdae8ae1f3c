//! Several brokers at the same work, in turn, round after round: medians and ratios.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;

use crate::load::peers::Peer;
use crate::load::plot::short;

/// What `tidings-bench compare` is told.
#[derive(Debug, Clone, Args)]
pub struct CompareOptions {
    /// The binary of Tidings; compared with each of --durability
    #[arg(long, value_name = "FILE")]
    pub tidings: Option<PathBuf>,
    /// Durabilities of Tidings: fsync, os, memory
    #[arg(long, value_delimiter = ',', default_value = "fsync,memory")]
    pub durability: Vec<String>,
    /// Another broker: NAME=COMMAND, where {port} and {dir} are filled in; may be repeated
    #[arg(long = "peer", value_parser = Peer::parse, value_name = "NAME=COMMAND")]
    pub peers: Vec<Peer>,
    /// A work: the words after `tidings-bench load`; may be repeated. Without it, pairs and a group
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
    /// Write each run's line of JSON there as well
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
}

const WORKS: [&str; 10] = [
    "pair --pairs 50 --window 100 --qos 0",
    "pair --pairs 50 --window 100 --qos 1",
    "pair --pairs 50 --window 100 --batch 1 --qos 0",
    "pair --pairs 50 --window 100 --batch 1 --qos 1",
    "pair --pairs 50 --window 1 --qos 0",
    "pair --pairs 50 --window 1 --qos 1",
    "pair --pairs 1 --window 1 --qos 0",
    "pair --pairs 1 --window 1 --qos 1",
    "pair --pairs 50 --rate 5000 --qos 1",
    "fanout --members 1000 --window 10 --qos 1",
];

/// What is looked at of a phase: the table's title, and where it stands in the JSON.
const FIGURES: [(&str, &str); 5] = [
    ("A second", "/per_second"),
    ("Broker's CPU µs each", "/broker/cpu_us_each"),
    ("p50 µs", "/latency_us/p50"),
    ("p99 µs", "/latency_us/p99"),
    ("Generator's CPU µs each", "/generator/cpu_us_each"),
];

/// A work, and the phases of one broker's runs of it.
#[derive(Debug, Default, Clone)]
struct Cell {
    runs: Vec<Value>,
    /// Lost, doubled or swapped messages of all runs.
    wrong: u64,
    failed: Option<String>,
}

impl Cell {
    fn median(&self, phase: &str, figure: &str) -> Option<f64> {
        let of = |run: &Value| {
            let phases = run.get("phases")?.as_array()?;
            let phase = phases.iter().find(|it| it.get("name").is_some_and(|it| it == phase))?;
            phase.pointer(figure)?.as_f64()
        };
        median(self.runs.iter().filter_map(of).collect())
    }

    fn take(&mut self, run: Value) {
        let names = ["lost", "duplicates", "reordered", "foreign"];
        let count = |name: &&str| run.get(*name).and_then(Value::as_u64).unwrap_or_default();
        self.wrong += names.iter().map(count).sum::<u64>();
        self.runs.push(run);
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    match middle.checked_sub(1).and_then(|it| values.get(it)) {
        Some(lower) if values.len().is_multiple_of(2) => Some(f64::midpoint(*lower, *upper)),
        _ => Some(*upper),
    }
}

/// Runs everything, and writes it up in Markdown.
pub fn run(options: &CompareOptions, say: impl Fn(&str)) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut peers = vec![Peer::relay(&program)];
    if let Some(tidings) = &options.tidings {
        peers.extend(options.durability.iter().map(|it| Peer::tidings(tidings, it)));
    }
    peers.extend(Peer::mosquitto());
    peers.extend(options.peers.iter().cloned());
    let mut works = options.works.clone();
    if works.is_empty() {
        works = WORKS.map(Into::into).to_vec();
    }
    let dir = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = dir.join(format!("tidings-bench-{}", std::process::id()));
    let mut cells = vec![vec![Cell::default(); peers.len()]; works.len()];
    let mut raw = String::new();
    for round in 0..options.rounds {
        for (work, cells) in works.iter().zip(&mut cells) {
            for nth in 0..peers.len() {
                // Each has its turn at being the first.
                let nth = (nth + round) % peers.len();
                let (Some(peer), Some(cell)) = (peers.get(nth), cells.get_mut(nth)) else {
                    continue;
                };
                say(&format!("round {} of {}: {work}: {}", round + 1, options.rounds, peer.name));
                let running = peer.start(&dir)?;
                let mut command = Command::new(&program);
                command.arg("load").args(work.split_whitespace()).arg("--json");
                if !work.contains("--messages") && !work.contains("--seconds") {
                    command.args(["--seconds", &options.seconds.to_string()]);
                }
                command.args(["--broker", &running.address.to_string()]);
                command.args(["--pid", &running.pid().to_string()]).stderr(Stdio::piped());
                let output = command.output().map_err(|error| error.to_string())?;
                match serde_json::from_slice::<Value>(&output.stdout) {
                    Ok(mut run) => {
                        run.as_object_mut()
                            .and_then(|it| it.insert("peer".into(), peer.name.clone().into()));
                        let _ = writeln!(raw, "{run}");
                        cell.take(run);
                    }
                    Err(_) => {
                        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                        say(&why);
                        cell.failed = Some(why);
                    }
                }
            }
        }
    }
    if let Some(path) = &options.raw {
        std::fs::write(path, raw).map_err(|error| format!("--raw {}: {error}", path.display()))?;
    }
    Ok(page(options, &peers, &works, &cells))
}

fn page(options: &CompareOptions, peers: &[Peer], works: &[String], cells: &[Vec<Cell>]) -> String {
    let mut out = format!(
        "{}. Medians of {} interleaved rounds, each with a broker started anew; in brackets the ratio \
         to the first column.{}\n",
        machine(),
        options.rounds,
        others(cells)
    );
    for (title, figure) in FIGURES {
        // Writing to a text does not fail.
        let _ = write!(out, "\n**{title}**\n\n| work |");
        peers.iter().for_each(|peer| {
            let _ = write!(out, " {} |", peer.name);
        });
        let _ = write!(out, "\n| --- |{}\n", " --- |".repeat(peers.len()));
        for (work, cells) in works.iter().zip(cells) {
            for phase in phases(cells) {
                let first = cells.first().and_then(|it| it.median(&phase, figure));
                if cells.iter().all(|it| it.median(&phase, figure).is_none()) {
                    continue;
                }
                let _ = write!(out, "| {work}: {phase} |");
                for cell in cells {
                    let _ = write!(out, " {} |", entry(cell, &phase, figure, first));
                }
                out.push('\n');
            }
        }
    }
    out.push_str("\n| broker | started with | acknowledged messages of waiting sessions |\n| --- | --- | --- |\n");
    for peer in peers {
        let program = peer.command.split_whitespace().next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default();
        let command = peer.command.replacen(program, name, 1);
        let conf = peer
            .conf
            .as_deref()
            .map_or_else(String::new, |it| format!("; `{}`", it.trim().replace('\n', "; ")));
        let _ = writeln!(out, "| {} | `{command}`{conf} | {} |", peer.name, peer.durability);
    }
    out
}

/// What else the machine did at worst, where it was much.
fn others(cells: &[Vec<Cell>]) -> String {
    let runs = cells.iter().flatten().flat_map(|cell| &cell.runs);
    let phases = runs.filter_map(|run| run.get("phases")?.as_array()).flatten();
    // Short phases are too coarse to say.
    let long = phases.filter(|it| it.get("seconds").and_then(Value::as_f64) >= Some(0.5));
    let others = long.filter_map(|it| it.get("others_percent")?.as_f64()).fold(0.0, f64::max);
    if others > 10.0 {
        format!(
            " Other processes took up to {others:.0} % of a processor: only ratios mean something."
        )
    } else {
        String::new()
    }
}

/// The phases of a work that are compared, in order.
fn phases(cells: &[Cell]) -> Vec<String> {
    let runs = cells.iter().filter_map(|cell| cell.runs.first());
    let lists = runs.filter_map(|run| run.get("phases")?.as_array());
    let Some(longest) = lists.max_by_key(|it| it.len()) else { return Vec::new() };
    let names = longest.iter().filter_map(|it| it.get("name")?.as_str());
    names.filter(|name| !["come", "hold"].contains(name)).map(Into::into).collect()
}

fn entry(cell: &Cell, phase: &str, figure: &str, first: Option<f64>) -> String {
    let mut text = match (cell.median(phase, figure), &cell.failed) {
        (Some(value), _) => {
            let ratio = first.filter(|it| *it > 0.0).map(|first| value / first);
            let ratio = ratio.map_or_else(String::new, |it| format!(" ({it:.2})"));
            format!("{}{ratio}", short(value))
        }
        (None, Some(_)) => "failed".into(),
        (None, None) => "–".into(),
    };
    if cell.wrong > 0 {
        let _ = write!(text, ", {} lost, twice or out of order", cell.wrong);
    }
    text
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models = cpus.lines().filter_map(|line| line.strip_prefix("model name"));
    let models: Vec<_> = models.map(|it| it.trim_start_matches(['\t', ':', ' '])).collect();
    let model = models.first().copied().unwrap_or("an unknown processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} x {model}, Linux {}", models.len().max(1), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(rates: &[f64], lost: u64) -> Cell {
        let mut cell = Cell::default();
        for rate in rates {
            let phases =
                serde_json::json!([{"name": "come"}, {"name": "traffic", "per_second": rate}]);
            cell.take(serde_json::json!({"phases": phases, "lost": lost}));
        }
        cell
    }

    #[test]
    fn a_cell_is_the_median_with_its_ratio_and_what_was_wrong() {
        let cells = [cell(&[100.0, 300.0, 200.0], 0), cell(&[500.0, 300.0], 1), Cell::default()];
        let entries = cells.each_ref().map(|it| entry(it, "traffic", "/per_second", Some(200.0)));
        assert_eq!(entries, ["200 (1.00)", "400 (2.00), 2 lost, twice or out of order", "–"]);
        assert_eq!(phases(&cells), ["traffic"]);
    }

    #[test]
    fn a_page_names_every_broker_with_its_settings() {
        let peer = Peer::parse("x=/a/broker -p {port}").unwrap();
        let options = CompareOptions {
            tidings: None,
            durability: Vec::new(),
            peers: Vec::new(),
            works: Vec::new(),
            rounds: 1,
            seconds: 1.0,
            dir: None,
            raw: None,
        };
        let page = page(&options, &[peer], &["pair".into()], &[vec![cell(&[7.0], 0)]]);
        assert!(page.contains("| pair: traffic | 7 (1.00) |"), "{page}");
        assert!(page.contains("| x | `broker -p {port}` |"), "{page}");
    }
}

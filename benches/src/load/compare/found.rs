//! What a comparison has found: its lines, and figures made of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::compare::CompareOptions;
use crate::load::compare::peers::{Kind, Peer};

/// What was compared, where and how: the first line of `--raw`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// Processors and system.
    pub machine: String,
    /// Of the generator.
    pub version: String,
    /// What makes it again.
    pub command: String,
    /// How often each broker did each work.
    pub rounds: usize,
    /// Who took part, in order.
    pub peers: Vec<Peer>,
    /// Who is known, and was not there.
    pub missing: Vec<String>,
    /// The words of each work, in order.
    pub works: Vec<String>,
}

impl Setting {
    /// Of a comparison that begins.
    pub(crate) fn of(
        options: &CompareOptions,
        command: &str,
        peers: &[Peer],
        missing: Vec<String>,
        works: &[String],
    ) -> Self {
        let told = |it: &Peer| Peer { command: without_places(&it.command), ..it.clone() };
        Self {
            machine: machine(),
            version: env!("CARGO_PKG_VERSION").into(),
            command: without_places(command),
            rounds: options.rounds,
            peers: peers.iter().map(told).collect(),
            missing,
            works: works.to_vec(),
        }
    }
}

/// A comparison: its setting, and a line for each run.
#[derive(Debug, Clone)]
pub struct Found {
    /// What was compared.
    pub setting: Setting,
    /// What `load --json` said, with `peer`, `asked` and `round`; or `failed` instead.
    pub runs: Vec<Value>,
}

/// A phase of a work, of all brokers.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) work: &'a str,
    pub(crate) phase: &'a str,
    /// As many as there are brokers.
    pub(crate) cells: Vec<Cell<'a>>,
}

/// What one broker's runs have of a phase.
#[derive(Debug, Default)]
pub(crate) struct Cell<'a> {
    phases: Vec<&'a Value>,
    /// Lost, doubled or swapped messages of all runs.
    pub(crate) wrong: u64,
    /// Why a run did not come about.
    pub(crate) failed: Option<&'a str>,
}

/// What is looked at of a phase.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    /// Whether more of it is better.
    pub(crate) more: bool,
    of: fn(&Value) -> Option<f64>,
}

/// A figure over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stat {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

fn number(phase: &Value, place: &str) -> Option<f64> {
    phase.pointer(place)?.as_f64()
}

/// Each of what a phase counts.
fn each(phase: &Value, place: &str) -> Option<f64> {
    let count = number(phase, "/count").filter(|it| *it > 0.0)?;
    number(phase, place).map(|it| it / count)
}

/// All of them, in the order of the tables.
pub(crate) const FIGURES: [Figure; 9] = [
    Figure {
        title: "Throughput",
        unit: "a second",
        more: true,
        of: |it| number(it, "/per_second").filter(|it| *it > 0.0),
    },
    Figure {
        title: "Deliveries",
        unit: "a second",
        more: true,
        // One to one it would be said twice.
        of: |it| {
            let many = each(it, "/deliveries")? > 1.1;
            many.then(|| number(it, "/deliveries_per_second")).flatten()
        },
    },
    Figure {
        title: "Broker's CPU",
        unit: "µs each",
        more: false,
        of: |it| number(it, "/broker/cpu_us_each"),
    },
    Figure { title: "p50", unit: "µs", more: false, of: |it| number(it, "/latency_us/p50") },
    Figure { title: "p99", unit: "µs", more: false, of: |it| number(it, "/latency_us/p99") },
    Figure {
        title: "Written",
        unit: "bytes each",
        more: false,
        of: |it| each(it, "/broker/written_bytes").filter(|it| *it >= 1.0),
    },
    Figure {
        title: "RSS",
        unit: "MiB",
        more: false,
        of: |it| number(it, "/broker/rss_kib").map(|kib| kib / 1024.0),
    },
    Figure {
        title: "RSS grown",
        unit: "bytes a connection",
        more: false,
        of: |it| {
            let connections = it.get("name")? == "connect";
            connections.then(|| number(it, "/broker/rss_grown_bytes_each")).flatten()
        },
    },
    Figure {
        title: "Generator's CPU",
        unit: "µs each",
        more: false,
        of: |it| number(it, "/generator/cpu_us_each"),
    },
];

impl Cell<'_> {
    /// A figure of all runs that have it.
    pub(crate) fn stat(&self, figure: &Figure) -> Option<Stat> {
        let mut values: Vec<_> = self.phases.iter().filter_map(|it| (figure.of)(it)).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        Some(Stat { median: median(&values)?, least, most })
    }
}

/// Of what is sorted.
fn median(values: &[f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    match middle.checked_sub(1).and_then(|it| values.get(it)) {
        Some(lower) if values.len().is_multiple_of(2) => Some(f64::midpoint(*lower, *upper)),
        _ => Some(*upper),
    }
}

/// A broker's median beside others'.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ratios {
    /// To the relay's.
    pub(crate) relay: Option<f64>,
    /// To the best of the brokers that are not ours, and lost nothing.
    pub(crate) peer: Option<f64>,
}

impl Row<'_> {
    /// A figure of a broker, with its ratios.
    pub(crate) fn entry(
        &self,
        peers: &[Peer],
        nth: usize,
        figure: &Figure,
    ) -> Option<(Stat, Ratios)> {
        let own = self.cells.get(nth)?.stat(figure)?;
        let others = peers.iter().zip(&self.cells);
        let of = |kind| {
            let good = others.clone().filter(move |(it, cell)| it.kind == kind && cell.wrong == 0);
            good.filter_map(|(_, cell)| cell.stat(figure)).map(|it| it.median)
        };
        let best = if figure.more {
            of(Kind::Peer).reduce(f64::max)
        } else {
            of(Kind::Peer).reduce(f64::min)
        };
        let ratio = |to: Option<f64>| to.filter(|it| *it > 0.0).map(|it| own.median / it);
        Some((own, Ratios { relay: ratio(of(Kind::Relay).next()), peer: ratio(best) }))
    }
}

/// How the messages fared that a broker had acknowledged when it was killed.
#[derive(Debug)]
pub(crate) struct Survival<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    /// Came twice, or in another order.
    pub(crate) other: u64,
    pub(crate) failed: Option<&'a str>,
}

impl Survival<'_> {
    /// In a word.
    pub(crate) fn verdict(&self) -> String {
        match self.failed {
            Some(why) => format!("failed: {why}"),
            None if self.acknowledged == 0 => "nothing was acknowledged".into(),
            None if self.lost == 0 => "yes".into(),
            None => "no".into(),
        }
    }
}

impl Found {
    /// From the lines of `--raw`.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate().map(|(nth, line)| {
            serde_json::from_str::<Value>(line).map_err(|it| format!("line {}: {it}", nth + 1))
        });
        let mut first = lines.next().ok_or("it is empty")??;
        let setting = first.get_mut("comparison").map(Value::take);
        let setting = setting.ok_or("its first line does not say what was compared")?;
        let setting = serde_json::from_value(setting).map_err(|it| format!("line 1: {it}"))?;
        Ok(Self { setting, runs: lines.collect::<Result<_, _>>()? })
    }

    fn runs_of<'a>(&'a self, work: &'a str, peer: &'a str) -> impl Iterator<Item = &'a Value> {
        let is = |run: &Value, name, value| run.get(name).and_then(Value::as_str) == Some(value);
        self.runs.iter().filter(move |run| is(run, "asked", work) && is(run, "peer", peer))
    }

    /// Each work's phases that are compared, in order.
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let works = self.setting.works.iter();
        works.flat_map(|work| self.rows_of(work)).collect()
    }

    fn rows_of<'a>(&'a self, work: &'a str) -> Vec<Row<'a>> {
        let peers = &self.setting.peers;
        let lists = peers.iter().flat_map(|it| self.runs_of(work, &it.name)).map(phases);
        let longest = lists.max_by_key(Vec::len).unwrap_or_default();
        let names = longest.iter().filter_map(|it| it.get("name")?.as_str());
        let row = |phase: &'a str| {
            let cell = |peer: &'a Peer| {
                let mut cell = Cell::default();
                for run in self.runs_of(work, &peer.name) {
                    cell.wrong += wrong(run).iter().sum::<u64>();
                    cell.failed = cell.failed.or_else(|| run.get("failed")?.as_str());
                    let here = phases(run).into_iter();
                    cell.phases
                        .extend(here.filter(|it| it.get("name").is_some_and(|it| it == phase)));
                }
                cell
            };
            Row { work, phase, cells: peers.iter().map(cell).collect() }
        };
        // In these nothing is done that is to be compared.
        let rows =
            names.filter(|name| !["come", "hold"].contains(name)).map(row).collect::<Vec<_>>();
        if rows.is_empty() && self.setting.works.iter().any(|it| it == work) {
            // Everybody failed: it is said.
            return vec![row("")];
        }
        rows
    }

    /// What was left of acknowledged messages after `kill -9`, of each broker that was killed.
    pub(crate) fn survivals(&self) -> Vec<Survival<'_>> {
        let works = self.setting.works.iter();
        let works: Vec<_> =
            works.filter(|it| it.split_whitespace().any(|it| it == "--kill")).collect();
        let of = |peer| {
            let mut it = Survival { peer, acknowledged: 0, lost: 0, other: 0, failed: None };
            let mut runs = 0;
            for run in works.iter().flat_map(|work| self.runs_of(work, &peer.name)) {
                let [lost, others @ ..] = wrong(run);
                let store = phases(run)
                    .into_iter()
                    .find(|it| it.get("name").is_some_and(|it| it == "store"));
                let count = store.and_then(|it| it.get("count")?.as_u64());
                it.acknowledged += count.unwrap_or_default();
                (it.lost, it.other) = (it.lost + lost, it.other + others.iter().sum::<u64>());
                it.failed = it.failed.or_else(|| run.get("failed")?.as_str());
                runs += 1;
            }
            (runs > 0).then_some(it)
        };
        self.setting.peers.iter().filter_map(of).collect()
    }

    /// What else the machine did at worst, where it was much: in percent of a processor.
    pub(crate) fn others_percent(&self) -> Option<f64> {
        // Short phases are too coarse to say.
        let long = |it: &&Value| number(it, "/seconds") >= Some(0.5);
        let phases = self.runs.iter().flat_map(phases).filter(long);
        let most = phases.filter_map(|it| number(it, "/others_percent")).fold(0.0, f64::max);
        (most > 10.0).then_some(most)
    }
}

fn phases(run: &Value) -> Vec<&Value> {
    run.get("phases").and_then(Value::as_array).into_iter().flatten().collect()
}

fn wrong(run: &Value) -> [u64; 4] {
    ["lost", "duplicates", "reordered", "foreign"]
        .map(|name| run.get(name).and_then(Value::as_u64).unwrap_or_default())
}

/// A command without the folders in which somebody's machine has its files.
pub(crate) fn without_places(text: &str) -> String {
    let word = |word: &str| {
        let at = word.find('/').filter(|at| {
            // `{dir}/x` says more than `x`.
            word.get(..*at)
                .is_some_and(|before| before.is_empty() || before.ends_with(['=', '\'', '"']))
        });
        let (Some(at), Some(last)) = (at, word.rfind('/')) else { return word.to_owned() };
        [word.get(..at), word.get(last + 1..)].into_iter().flatten().collect()
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models = cpus.lines().filter_map(|line| line.strip_prefix("model name"));
    let models: Vec<_> = models.map(|it| it.trim_start_matches(['\t', ':', ' '])).collect();
    let model = models.first().copied().unwrap_or("an unknown processor");
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = memory.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    let gib = kib.unwrap_or_default().div_ceil(1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} x {model}, {gib} GiB, Linux {}", models.len().max(1), kernel.trim())
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A broker's rates of one work, and what was lost of it.
    pub(crate) fn found(rates: &[(&str, Kind, &[f64], u64)]) -> Found {
        let work = "pair --x <1>";
        let peer = |(name, kind, ..): &(&str, Kind, &[f64], u64)| Peer {
            kind: *kind,
            ..Peer::parse(&format!("{name}=/a/broker -p {{port}}")).unwrap()
        };
        let peers: Vec<_> = rates.iter().map(peer).collect();
        let run = |name: &str, rate: f64, lost: u64| {
            let latency = json!({ "p50": 1e6 / rate, "p99": 2e6 / rate });
            let traffic = json!({ "name": "traffic", "count": 10, "deliveries": 10, "per_second": rate,
                "latency_us": latency, "broker": { "cpu_us_each": 3.0, "rss_kib": 2048 } });
            json!({ "peer": name, "asked": work, "lost": lost, "phases": [{ "name": "come" }, traffic] })
        };
        let runs = rates.iter().flat_map(|(name, _, rates, lost)| {
            rates.iter().map(move |rate| run(name, *rate, *lost))
        });
        let runs = runs.collect();
        let setting = Setting {
            machine: "2 x it".into(),
            version: "1".into(),
            command: "tidings-bench compare".into(),
            rounds: 2,
            peers: peers
                .iter()
                .map(|it| Peer { command: without_places(&it.command), ..it.clone() })
                .collect(),
            missing: vec!["z, see `z`".into()],
            works: vec![work.into()],
        };
        Found { setting, runs }
    }

    #[test]
    fn ratios_are_to_the_relay_and_to_the_best_that_lost_nothing() {
        let found = found(&[
            ("relay", Kind::Relay, &[100.0, 300.0, 200.0], 0),
            ("ours", Kind::Ours, &[500.0, 300.0], 0),
            ("best", Kind::Peer, &[800.0], 1),
            ("good", Kind::Peer, &[160.0], 0),
            ("bad", Kind::Peer, &[10.0], 0),
        ]);
        let rows = found.rows();
        assert_eq!(rows.iter().map(|it| it.phase).collect::<Vec<_>>(), ["traffic"]);
        let [throughput, .., _] = &FIGURES;
        let (stat, ratios) = rows[0].entry(&found.setting.peers, 1, throughput).unwrap();
        assert_eq!(stat, Stat { median: 400.0, least: 300.0, most: 500.0 });
        assert_eq!((ratios.relay, ratios.peer), (Some(2.0), Some(2.5)));
        let (_, ratios) = rows[0].entry(&found.setting.peers, 1, &FIGURES[3]).unwrap();
        assert_eq!(ratios.peer.map(|it| (it * 1000.0).round()), Some(427.0), "the least is best");
    }

    #[test]
    fn a_comparison_comes_back_as_it_was_written() {
        let found = found(&[("a", Kind::Relay, &[1.0], 0), ("b", Kind::Peer, &[], 0)]);
        let mut text = json!({ "comparison": found.setting }).to_string();
        found.runs.iter().for_each(|run| text += &format!("\n{run}"));
        let again = Found::read(&text).unwrap();
        assert_eq!((again.runs, again.setting.peers), (found.runs, found.setting.peers));
        assert!(Found::read("").is_err() && Found::read("{}").is_err());
        assert!(Found::read(&format!("{text}\n{{")).unwrap_err().contains("line 3"));
    }

    #[test]
    fn what_survives_is_of_the_works_that_kill() {
        let mut found = found(&[("a", Kind::Peer, &[], 0), ("b", Kind::Peer, &[], 0)]);
        assert!(found.survivals().is_empty());
        found.setting.works = vec!["offline --kill".into()];
        let store = json!([{ "name": "store", "count": 100 }, { "name": "drain" }]);
        let run = json!({ "peer": "a", "asked": "offline --kill", "lost": 7, "phases": store });
        found.runs = vec![run.clone(), run];
        let survivals = found.survivals();
        let [it] = survivals.as_slice() else { panic!("{survivals:?}") };
        assert_eq!((it.peer.name.as_str(), it.acknowledged, it.lost), ("a", 200, 14));
    }

    #[test]
    fn places_are_left_out_of_commands() {
        let told = without_places("/a/b/broker --data {dir}/data --peer=x=/c/d -e 'x=/e/f' 1/2");
        assert_eq!(told, "broker --data {dir}/data --peer=x=d -e 'x=f' 1/2");
    }
}

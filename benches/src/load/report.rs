//! What a run has to say, as a table or as a line of JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::load::meter::Phase;
use crate::load::options::Options;
use crate::load::verify::Verdict;
use crate::load::wire::QoS;

/// All of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was done.
    #[serde(flatten)]
    pub settings: Settings,
    /// Figures of its parts, in order.
    pub phases: Vec<Phase>,
    /// What was lost, doubled, swapped.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// PUBACKs and PUBRECs that refuse, and connections that were turned away and came again.
    pub refused: u64,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
}

/// What a run was told to do.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Of the generator.
    pub version: &'static str,
    /// What the clients do.
    pub work: &'static str,
    /// How many of them.
    pub clients: String,
    /// Where the broker is.
    pub broker: String,
    /// 3.1.1 or 5.0.
    pub mqtt: &'static str,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Of publishers and subscribers.
    pub qos: u8,
    /// Bytes.
    pub payload: usize,
    /// Messages in flight of a publisher.
    pub window: usize,
    /// Messages of a publisher in one write at most.
    pub batch: Option<u64>,
    /// Messages a second, in an open loop.
    pub rate: Option<f64>,
    /// Whether the subscribers' sessions outlive their connections.
    pub persistent: bool,
    /// Of the generator.
    pub threads: usize,
}

impl Settings {
    /// Of these options, for clients that are described.
    pub fn of(options: &Options, clients: String) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            work: options.work.name(),
            clients,
            broker: options.broker.clone(),
            mqtt: if options.v5 { "5.0" } else { "3.1.1" },
            tls: options.tls.is_some(),
            qos: options.qos.bits(),
            payload: options.payload,
            window: options.window(),
            batch: options.batch,
            rate: options.rate,
            persistent: options.persistent,
            threads: options.threads,
        }
    }
}

/// A share of a processor from which the generator is what is measured.
const BUSY_PERCENT: f64 = 90.0;
/// A share of one processor from which others disturb, in phases that are long enough to say.
const OTHERS_PERCENT: f64 = 10.0;
const OTHERS_SECONDS: f64 = 0.5;

impl Report {
    /// With what the figures themselves warn of.
    pub fn new(settings: Settings, phases: Vec<Phase>, verdict: Verdict, refused: u64) -> Self {
        let mut warnings = Vec::new();
        for phase in &phases {
            let busy = phase.generator.busiest_thread_percent;
            if busy > BUSY_PERCENT {
                warnings.push(format!(
                    "{}: a thread of the generator took {busy:.0} % of a processor, so it may be what \
                     was measured; use --threads where there are processors for it",
                    phase.name
                ));
            }
        }
        let long = phases.iter().filter(|phase| phase.seconds >= OTHERS_SECONDS);
        let others = long.filter_map(|phase| phase.others_percent).fold(0.0, f64::max);
        if others > OTHERS_PERCENT {
            warnings.push(format!(
                "other processes took {others:.0} % of a processor: only ratios to what ran in turn with \
                 this mean something"
            ));
        }
        if phases.iter().all(|phase| phase.broker.is_none()) {
            let why = "the broker's process is not known, so nothing is said of it; give --pid";
            warnings.push(why.into());
        }
        Self { settings, phases, verdict, refused, warnings }
    }

    /// Whether the broker kept its word: with QoS 0 messages may be lost, with QoS 1 come twice.
    pub fn kept_its_word(&self) -> bool {
        let Verdict { lost, duplicates, reordered, foreign } = self.verdict;
        let qos = self.settings.qos;
        let lost = lost > 0 && qos > QoS::AtMostOnce.bits();
        let twice = duplicates > 0 && qos != QoS::AtLeastOnce.bits();
        !lost && !twice && reordered == 0 && foreign == 0
    }

    /// One line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| error.to_string())
    }

    /// Some lines to be read.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let it = &self.settings;
        let rate = it.rate.map_or(String::new(), |rate| format!(", {rate} a second"));
        // Writing to a text does not fail.
        let batch = it.batch.map_or(String::new(), |batch| format!(", {batch} in a write"));
        let _ = writeln!(
            out,
            "{} {}: MQTT {}{}, QoS {}, {} bytes, {} in flight{batch}{rate}{}, on {}",
            it.work,
            it.clients,
            it.mqtt,
            if it.tls { " over TLS" } else { "" },
            it.qos,
            it.payload,
            it.window,
            if it.persistent { ", persistent" } else { "" },
            it.broker
        );
        for phase in &self.phases {
            phase_lines(&mut out, phase);
        }
        let Verdict { lost, duplicates, reordered, foreign } = self.verdict;
        let _ = writeln!(
            out,
            "  lost {lost}, twice {duplicates}, out of order {reordered}, not theirs {foreign}, refused {}",
            self.refused
        );
        for warning in &self.warnings {
            let _ = writeln!(out, "  warning: {warning}");
        }
        out
    }
}

fn phase_lines(out: &mut String, phase: &Phase) {
    let _ = write!(out, "  {:<8} ", phase.name);
    if phase.per_second > 0.0 {
        let _ = write!(out, "{:.0} {}/s", phase.per_second, phase.unit);
        if phase.deliveries > 0 && phase.unit != "deliveries" {
            let _ = write!(out, ", {:.0} deliveries/s", phase.deliveries_per_second);
        }
        let _ = writeln!(out, " ({} in {:.2} s)", phase.count, phase.seconds);
    } else {
        let _ = writeln!(out, "{} {} for {:.2} s", phase.count, phase.unit, phase.seconds);
    }
    if let Some(it) = &phase.latency_us {
        let _ = writeln!(
            out,
            "    latency µs: p50 {:.0}, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
            it.p50, it.p90, it.p99, it.p99_9, it.max
        );
    }
    if let Some(it) = &phase.broker {
        let written = it.written_bytes.map_or_else(|| "?".into(), |bytes| bytes.to_string());
        let _ = writeln!(
            out,
            "    broker: {:.2} µs each, {:.0} % of a processor, RSS {} KiB (most {}, grown {} = {:.0} bytes each), \
             written {written} bytes, switches {} + {} involuntary",
            it.cpu_us_each,
            it.cpu_percent,
            it.rss_kib,
            it.rss_most_kib,
            it.rss_grown_kib,
            it.rss_grown_bytes_each,
            it.switches_voluntary,
            it.switches_involuntary
        );
    }
    let _ = writeln!(
        out,
        "    generator: {:.2} µs each, its busiest thread {:.0} % of a processor",
        phase.generator.cpu_us_each, phase.generator.busiest_thread_percent
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_a_broken_word_depends_on_the_qos() {
        let kept = |qos: u8, verdict: Verdict| {
            let settings = Settings {
                version: "",
                work: "pair",
                clients: String::new(),
                broker: String::new(),
                mqtt: "3.1.1",
                tls: false,
                qos,
                payload: 100,
                window: 1,
                batch: None,
                rate: None,
                persistent: false,
                threads: 1,
            };
            Report::new(settings, Vec::new(), verdict, 0).kept_its_word()
        };
        let on_all = |verdict| [0, 1, 2].map(|qos| kept(qos, verdict));
        let none = Verdict::default();
        assert_eq!(on_all(none), [true; 3]);
        assert_eq!(on_all(Verdict { lost: 1, ..none }), [true, false, false]);
        assert_eq!(on_all(Verdict { duplicates: 1, ..none }), [false, true, false]);
        assert_eq!(on_all(Verdict { reordered: 1, ..none }), [false; 3]);
        assert_eq!(on_all(Verdict { foreign: 1, ..none }), [false; 3]);
    }
}

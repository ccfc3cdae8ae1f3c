//! Takes samples of a run while it goes on, and makes figures of them.

use serde::Serialize;

use crate::load::clock::Clock;
use crate::load::latency::{Latencies, Summary};
use crate::load::process::{self, Usage};

/// How often samples are taken.
const SAMPLE_EVERY_NS: u64 = 200_000_000;

/// Where a run stood at a time.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: u64,
    count: u64,
    deliveries: u64,
    broker: Option<Usage>,
    own: Option<Usage>,
    machine: Option<u64>,
}

/// Samples of one phase after another.
#[derive(Debug)]
pub(crate) struct Meter {
    clock: Clock,
    /// The broker's process, if it is known.
    pub(crate) pid: Option<u32>,
    samples: Vec<Sample>,
}

/// Figures of one phase of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// What was done.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// How many.
    pub count: u64,
    /// How many a second.
    pub per_second: f64,
    /// PUBLISHes that came to subscribers.
    pub deliveries: u64,
    /// How many a second.
    pub deliveries_per_second: f64,
    /// What was timed, where something was.
    pub latency_us: Option<Summary>,
    /// The broker's part, if its process is known.
    pub broker: Option<BrokerUse>,
    /// The generator's part.
    pub generator: GeneratorUse,
    /// Percent of one processor that went to neither of them, if the broker's process is known.
    pub others_percent: Option<f64>,
    /// For plots.
    #[serde(skip)]
    pub points: Vec<Point>,
    /// For plots.
    #[serde(skip)]
    pub latencies: Latencies,
}

/// What the broker's process took for a phase.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct BrokerUse {
    /// Its number.
    pub pid: u32,
    /// Microseconds on a processor for each that was counted.
    pub cpu_us_each: f64,
    /// Percent of one processor.
    pub cpu_percent: f64,
    /// Resident memory at the end.
    pub rss_kib: u64,
    /// The most since the process began.
    pub rss_most_kib: u64,
    /// By how much it grew.
    pub rss_grown_kib: i64,
    /// The same in bytes, for each that was counted.
    pub rss_grown_bytes_each: f64,
    /// Bytes given to the disk, where the system says so.
    pub written_bytes: Option<u64>,
    /// How often it waited.
    pub switches_voluntary: u64,
    /// How often it was made to wait.
    pub switches_involuntary: u64,
}

/// What the generator took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct GeneratorUse {
    /// Microseconds on a processor for each that was counted.
    pub cpu_us_each: f64,
    /// Percent of one processor that its busiest thread took.
    pub busiest_thread_percent: f64,
}

/// What happened between two samples.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Seconds since the start of the run.
    pub second: f64,
    /// Counted, a second.
    pub per_second: f64,
    /// Came to subscribers, a second.
    pub deliveries_per_second: f64,
    /// The broker's share of a processor, in percent.
    pub cpu_percent: f64,
    /// Its resident memory, in MiB.
    pub rss_mib: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of a run are far below 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}

/// `a` per `b`; nothing per nothing is nothing.
fn per(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

impl Meter {
    /// Of a broker whose process may be known.
    pub(crate) fn new(clock: Clock, pid: Option<u32>) -> Self {
        Self { clock, pid, samples: Vec::new() }
    }

    /// Begins a phase.
    pub(crate) fn begin(&mut self) {
        self.samples.clear();
        self.sample(0, 0);
    }

    /// Begins a phase, of which something was counted before.
    pub(crate) fn begin_at(&mut self, count: u64, deliveries: u64) {
        self.samples.clear();
        self.sample(count, deliveries);
    }

    /// Says how far it is.
    pub(crate) fn sample(&mut self, count: u64, deliveries: u64) {
        self.samples.push(Sample {
            at: self.clock.now(),
            count,
            deliveries,
            broker: self.pid.and_then(Usage::of),
            own: Usage::of(std::process::id()),
            machine: process::machine_ns(),
        });
    }

    /// Says how far it is, where the last sample is long ago.
    pub(crate) fn tick(&mut self, count: u64, deliveries: u64) {
        let last = self.samples.last().map_or(0, |it| it.at);
        if self.clock.now().saturating_sub(last) >= SAMPLE_EVERY_NS {
            self.sample(count, deliveries);
        }
    }

    /// The figures of the phase between the first sample and the last.
    pub(crate) fn phase(
        &self,
        name: &'static str,
        unit: &'static str,
        latencies: Latencies,
    ) -> Phase {
        let none = Sample::default();
        let (first, last) = match self.samples.as_slice() {
            [first, .., last] => (first, last),
            _ => (&none, &none),
        };
        let ns = float(last.at.saturating_sub(first.at));
        let (seconds, count) = (ns / 1e9, last.count.saturating_sub(first.count));
        let deliveries = last.deliveries.saturating_sub(first.deliveries);
        let own = |of: fn(&Usage, &Usage) -> u64| match (&first.own, &last.own) {
            (Some(before), Some(after)) => float(of(after, before)),
            _ => 0.0,
        };
        // The last sample may come close behind another: too little time for a rate.
        let points = self.samples.windows(2).filter_map(|pair| match pair {
            [before, after] if after.at - before.at > SAMPLE_EVERY_NS / 10 => {
                Some(point(before, after))
            }
            _ => None,
        });
        Phase {
            name,
            unit,
            seconds,
            count,
            per_second: per(float(count), seconds),
            deliveries,
            deliveries_per_second: per(float(deliveries), seconds),
            latency_us: latencies.summary(),
            broker: self.pid.and_then(|pid| broker(pid, first, last, ns, count)),
            generator: GeneratorUse {
                cpu_us_each: per(own(Usage::cpu_ns_since) / 1e3, float(count)),
                busiest_thread_percent: 100.0 * per(own(Usage::busiest_ns_since), ns),
            },
            others_percent: others_ns(first, last).map(|others| 100.0 * per(others, ns)),
            points: points.collect(),
            latencies,
        }
    }
}

fn broker(pid: u32, first: &Sample, last: &Sample, ns: f64, count: u64) -> Option<BrokerUse> {
    let (before, after) = (first.broker.as_ref()?, last.broker.as_ref()?);
    let cpu = float(after.cpu_ns_since(before));
    let written = after.written.zip(before.written);
    let grown = after.rss_kib.0.cast_signed() - before.rss_kib.0.cast_signed();
    Some(BrokerUse {
        pid,
        cpu_us_each: per(cpu / 1e3, float(count)),
        cpu_percent: 100.0 * per(cpu, ns),
        rss_kib: after.rss_kib.0,
        rss_most_kib: after.rss_kib.1,
        rss_grown_kib: grown,
        #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 KiB")]
        rss_grown_bytes_each: per(grown as f64 * 1024.0, float(count)),
        written_bytes: written.map(|(after, before)| after.saturating_sub(before)),
        switches_voluntary: after.switches.0.saturating_sub(before.switches.0),
        switches_involuntary: after.switches.1.saturating_sub(before.switches.1),
    })
}

/// What the machine did beside broker and generator; where nothing else runs it is about nothing, and
/// the sums are too coarse to be sure of less.
fn others_ns(first: &Sample, last: &Sample) -> Option<f64> {
    let all = last.machine?.saturating_sub(first.machine?);
    let broker = last.broker.as_ref()?.cpu_ns_since(first.broker.as_ref()?);
    let own = last.own.as_ref()?.cpu_ns_since(first.own.as_ref()?);
    Some(float(all.saturating_sub(broker + own)))
}

fn point(before: &Sample, after: &Sample) -> Point {
    let ns = float(after.at.saturating_sub(before.at));
    let rate = |a: u64, b: u64| per(float(a.saturating_sub(b)), ns / 1e9);
    let cpu = match (&before.broker, &after.broker) {
        (Some(before), Some(after)) => float(after.cpu_ns_since(before)),
        _ => 0.0,
    };
    Point {
        second: float(after.at) / 1e9,
        per_second: rate(after.count, before.count),
        deliveries_per_second: rate(after.deliveries, before.deliveries),
        cpu_percent: 100.0 * per(cpu, ns),
        rss_mib: after.broker.as_ref().map_or(0.0, |it| float(it.rss_kib.0) / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_samples() {
        let mut meter = Meter::new(Clock::start(), None);
        meter.begin_at(100, 50);
        meter.sample(400, 200);
        meter.sample(1100, 550);
        for (sample, at) in
            meter.samples.iter_mut().zip([1_000_000_000, 2_000_000_000, 3_000_000_000])
        {
            sample.at = at;
        }
        let phase = meter.phase("traffic", "messages", Latencies::default());
        assert_eq!((phase.count, phase.deliveries), (1000, 500));
        assert!((phase.per_second - 500.0).abs() < 1e-9);
        assert!((phase.deliveries_per_second - 250.0).abs() < 1e-9);
        let rates: Vec<_> = phase.points.iter().map(|it| it.per_second.round()).collect();
        assert_eq!(rates, [300.0, 700.0]);
        assert!(phase.latency_us.is_none() && phase.broker.is_none());
    }
}

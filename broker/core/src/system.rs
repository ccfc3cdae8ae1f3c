//! The `$SYS` topics: what a broker says of itself to Clients, under the names that are customary.
//!
//! [`System`] turns samples of the metrics into the values that have changed since the last one.
//! They are no messages yet: each shard makes its own of them, in memory alone, so that every
//! Client hears the same values whichever shard it is on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;

use crate::metric::{Metric, Snapshot};
use crate::time::Time;

/// One topic and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemValue {
    /// The Topic Name; its first level is [`SYSTEM_ROOT`].
    pub topic: Arc<str>,
    /// What is said there.
    pub payload: Bytes,
}

/// The first level of the topics.
pub const SYSTEM_ROOT: &str = "$SYS";

/// Says what has changed from one sample to the next.
#[derive(Debug)]
pub struct System {
    version: String,
    last: BTreeMap<&'static str, (Arc<str>, Bytes)>,
    loads: Vec<Load>,
    sampled: Option<Time>,
}

/// The moving averages of one counter, each per minute.
#[derive(Debug)]
struct Load {
    topics: [String; 3],
    of: fn(&Snapshot) -> u64,
    counted: u64,
    averages: [f64; 3],
}

impl System {
    /// Of a broker that calls itself `version`.
    pub fn new(version: &str) -> Self {
        let load = |(name, of): &(&str, fn(&Snapshot) -> u64)| Load {
            topics: WINDOWS.map(|(window, _)| format!("$SYS/broker/load/{name}/{window}")),
            of: *of,
            counted: 0,
            averages: [0.0; 3],
        };
        Self {
            version: version.to_owned(),
            last: BTreeMap::new(),
            loads: LOADS.iter().map(load).collect(),
            sampled: None,
        }
    }

    /// What has changed since the last sample; everything, the first time.
    pub fn sample(&mut self, snapshot: &Snapshot, now: Time) -> Vec<SystemValue> {
        let mut changed = Vec::new();
        let version = self.version.clone();
        self.say("$SYS/broker/version", version, &mut changed);
        let uptime = format!("{} seconds", snapshot.get(Metric::Uptime));
        self.say("$SYS/broker/uptime", uptime, &mut changed);
        for (topic, of) in VALUES {
            self.say(topic, of(snapshot).to_string(), &mut changed);
        }
        self.sample_loads(snapshot, now, &mut changed);
        changed
    }

    fn say(&mut self, topic: &'static str, payload: String, changed: &mut Vec<SystemValue>) {
        let payload = Bytes::from(payload);
        let (topic, last) = self.last.entry(topic).or_insert_with(|| (topic.into(), Bytes::new()));
        if *last != payload {
            *last = payload.clone();
            changed.push(SystemValue { topic: Arc::clone(topic), payload });
        }
    }

    /// Exponential averages, as the load of a system is customarily told.
    fn sample_loads(&mut self, snapshot: &Snapshot, now: Time, changed: &mut Vec<SystemValue>) {
        let minutes = self.sampled.map(|sampled| now.since(sampled).as_secs_f64() / 60.0);
        self.sampled = Some(now);
        for load in &mut self.loads {
            let counted = (load.of)(snapshot);
            let new = counted.saturating_sub(load.counted);
            load.counted = counted;
            let windows = WINDOWS.iter().zip(&load.topics).zip(&mut load.averages);
            for (((_, window), topic), average) in windows {
                let before = text(*average);
                if let Some(minutes) = minutes.filter(|minutes| *minutes > 0.0) {
                    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
                    let per_minute = new as f64 / minutes;
                    *average = per_minute + (*average - per_minute) * (-minutes / window).exp();
                }
                let after = text(*average);
                if minutes.is_none() || before != after {
                    let payload = Bytes::from(after);
                    changed.push(SystemValue { topic: topic.as_str().into(), payload });
                }
            }
        }
    }
}

fn text(average: f64) -> String {
    let mut text = String::new();
    let _into_memory = write!(text, "{average:.2}");
    text
}

fn dropped(snapshot: &Snapshot) -> u64 {
    snapshot.family(Metric::DroppedSlowReader.name())
}

fn stored(snapshot: &Snapshot) -> u64 {
    snapshot.get(Metric::QueuedMessages) + snapshot.get(Metric::RetainedMessages)
}

/// The plain numbers.
#[expect(clippy::type_complexity, reason = "a table of topics and where their numbers come from")]
const VALUES: &[(&str, fn(&Snapshot) -> u64)] = &[
    ("$SYS/broker/clients/connected", |it| it.get(Metric::Connections)),
    ("$SYS/broker/clients/disconnected", |it| it.get(Metric::SessionsOffline)),
    ("$SYS/broker/clients/total", |it| {
        it.get(Metric::Connections) + it.get(Metric::SessionsOffline)
    }),
    ("$SYS/broker/clients/maximum", |it| it.get(Metric::ConnectionsMax)),
    ("$SYS/broker/clients/expired", |it| it.get(Metric::SessionsExpired)),
    ("$SYS/broker/messages/received", |it| it.get(Metric::PacketsReceived)),
    ("$SYS/broker/messages/sent", |it| it.get(Metric::PacketsSent)),
    ("$SYS/broker/messages/stored", stored),
    ("$SYS/broker/publish/messages/received", |it| it.get(Metric::PublishReceived)),
    ("$SYS/broker/publish/messages/sent", |it| it.get(Metric::PublishSent)),
    ("$SYS/broker/publish/messages/dropped", dropped),
    ("$SYS/broker/publish/bytes/received", |it| it.get(Metric::PublishBytesReceived)),
    ("$SYS/broker/publish/bytes/sent", |it| it.get(Metric::PublishBytesSent)),
    ("$SYS/broker/bytes/received", |it| it.get(Metric::BytesReceived)),
    ("$SYS/broker/bytes/sent", |it| it.get(Metric::BytesSent)),
    ("$SYS/broker/subscriptions/count", |it| it.get(Metric::Subscriptions)),
    ("$SYS/broker/retained messages/count", |it| it.get(Metric::RetainedMessages)),
    ("$SYS/broker/store/messages/count", stored),
    ("$SYS/broker/store/messages/bytes", |it| {
        it.get(Metric::QueuedBytes) + it.get(Metric::RetainedBytes)
    }),
];

/// What has moving averages.
#[expect(clippy::type_complexity, reason = "a table of topics and where their numbers come from")]
const LOADS: &[(&str, fn(&Snapshot) -> u64)] = &[
    ("connections", |it| it.get(Metric::ConnectsAccepted)),
    ("messages/received", |it| it.get(Metric::PacketsReceived)),
    ("messages/sent", |it| it.get(Metric::PacketsSent)),
    ("publish/received", |it| it.get(Metric::PublishReceived)),
    ("publish/sent", |it| it.get(Metric::PublishSent)),
    ("publish/dropped", dropped),
    ("bytes/received", |it| it.get(Metric::BytesReceived)),
    ("bytes/sent", |it| it.get(Metric::BytesSent)),
];

/// Over how many minutes is averaged.
const WINDOWS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[SystemValue]) -> Vec<(&str, &str)> {
        let said = |value: &SystemValue| std::str::from_utf8(&value.payload).unwrap().to_owned();
        values.iter().map(|it| (&*it.topic, Box::leak(said(it).into_boxed_str()) as &str)).collect()
    }

    #[test]
    fn first_sample_says_everything_and_the_next_what_has_changed() {
        let mut system = System::new("tidings version 1");
        let mut snapshot = Snapshot::default();
        let first = system.sample(&snapshot, Time::from_millis(0));
        assert_eq!(first.len(), 2 + VALUES.len() + 3 * LOADS.len());
        let topics: std::collections::BTreeSet<_> = first.iter().map(|it| &it.topic).collect();
        assert_eq!(topics.len(), first.len());
        assert!(said(&first).contains(&("$SYS/broker/version", "tidings version 1")));
        assert!(system.sample(&snapshot, Time::from_millis(10_000)).is_empty());
        snapshot.set(Metric::DroppedExpired, 2);
        snapshot.set(Metric::DroppedQueueFull, 1);
        let next = system.sample(&snapshot, Time::from_millis(20_000));
        assert!(said(&next).contains(&("$SYS/broker/publish/messages/dropped", "3")));
        assert_eq!(next.len(), 4, "{next:?}");
    }

    #[test]
    fn load_nears_what_comes_in_a_minute_and_falls_again() {
        let mut system = System::new("");
        let mut snapshot = Snapshot::default();
        let load = |values: &[SystemValue]| -> Option<f64> {
            let of = "$SYS/broker/load/publish/received/1min";
            said(values).iter().find(|it| it.0 == of).map(|it| it.1.parse().unwrap())
        };
        system.sample(&snapshot, Time::from_millis(0));
        let mut last = 0.0;
        for round in 1..=60 {
            // Ten in ten seconds are sixty a minute.
            snapshot.set(Metric::PublishReceived, round * 10);
            let at = Time::from_millis(round * 10_000);
            if let Some(load) = load(&system.sample(&snapshot, at)) {
                assert!(load > last && load <= 60.0, "{load} after {last}");
                last = load;
            }
        }
        assert!((last - 60.0).abs() < 0.1, "{last}");
        let fallen = load(&system.sample(&snapshot, Time::from_millis(660_000))).unwrap();
        assert!((fallen - 60.0 * (-1.0_f64).exp()).abs() < 0.1, "{fallen}");
    }
}

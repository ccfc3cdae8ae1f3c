//! What a run is told to do.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::load::stream::Tls;
use crate::load::verify::STAMP_BYTES;
use crate::load::wire::{PACKET_BYTES_MAX, QoS, Version};

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Pairs of a publisher and a subscriber, each on a topic of its own.
    Pair,
    /// One publisher, and many subscribers to its topic.
    Fanout,
    /// Messages stored for sessions that are away, then fetched by them.
    Offline,
    /// Connections that are made and held.
    Idle,
    /// Clients that connect, subscribe, publish to themselves and leave, again and again.
    Churn,
    /// Persistent sessions that all come back at once.
    Storm,
    /// Direct chats with ticks, on Tidings only: a user writes, the other hears and acknowledges.
    Chat,
    /// A user of many chats comes back to what was written meanwhile, on Tidings only.
    Resume,
}

impl Work {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Fanout => "fanout",
            Self::Offline => "offline",
            Self::Idle => "idle",
            Self::Churn => "churn",
            Self::Storm => "storm",
            Self::Chat => "chat",
            Self::Resume => "resume",
        }
    }
}

/// What `tidings-bench load` is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What the clients do
    pub work: Work,
    /// Where the broker listens
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "ADDR")]
    pub broker: String,
    /// pair, chat: how many pairs; offline: how many publishers
    #[arg(long, default_value_t = 50)]
    pub pairs: usize,
    /// fanout: how many subscribers
    #[arg(long, default_value_t = 1000)]
    pub members: usize,
    /// offline, storm: how many sessions; resume: how many chats
    #[arg(long, default_value_t = 1000)]
    pub sessions: usize,
    /// idle: how many connections; churn: how many at a time
    #[arg(long, default_value_t = 1000)]
    pub connections: usize,
    /// Quality of service, of publishers and subscribers: 0, 1 or 2
    #[arg(long, default_value = "1", value_parser = qos)]
    pub qos: QoS,
    /// Bytes of a message, of which 20 are number and time
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    pub payload: usize,
    /// Messages of a publisher in flight: neither acknowledged nor delivered to all. 100, or 1000
    /// with --rate
    #[arg(long)]
    pub window: Option<usize>,
    /// Messages that a publisher gives to the system in one write; all that may go, if not said
    #[arg(long)]
    pub batch: Option<u64>,
    /// Open loop: messages a second, of all publishers; latency counts from when each was due
    #[arg(long)]
    pub rate: Option<f64>,
    /// pair, fanout: the subscribers' sessions outlive their connections
    #[arg(long)]
    pub persistent: bool,
    /// Speak MQTT 5.0 instead of 3.1.1
    #[arg(long)]
    pub v5: bool,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// How long is measured; idle: how long connections are held
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Instead of --seconds: messages of each publisher. offline: messages for each session (100);
    /// resume: of each chat (20)
    #[arg(long)]
    pub messages: Option<u64>,
    /// Seconds of the same work before the measurement; none with --messages
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// How long nothing may happen before what is missing counts as lost
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub patience: f64,
    /// The broker's process; found by its port where it is on this machine
    #[arg(long)]
    pub pid: Option<u32>,
    /// User name to log in with
    #[arg(long)]
    pub user: Option<String>,
    /// Password to log in with
    #[arg(long)]
    pub password: Option<String>,
    /// Speak TLS with a broker that a certificate of this file (PEM) vouches for
    #[arg(long, value_name = "FILE")]
    pub tls: Option<PathBuf>,
    /// offline: all sessions have one topic in common, as a group's members: each message is for all
    #[arg(long)]
    pub together: bool,
    /// offline, resume: a shell command that restarts the broker between storing and fetching, or with --kill
    /// only starts it; BROKER_PID is its process
    #[arg(long, value_name = "COMMAND")]
    pub restart: Option<String>,
    /// offline, resume: kill the broker as `kill -9` does before the command of --restart
    #[arg(long, requires = "restart")]
    pub kill: bool,
    /// Print one line of JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

fn qos(text: &str) -> Result<QoS, String> {
    let bits: Option<u8> = text.parse().ok();
    bits.and_then(QoS::from_bits).ok_or_else(|| "expected 0, 1 or 2".into())
}

/// The largest window: identifiers of 16 bits must not come round before they are answered.
const WINDOW_MAX: usize = 60_000;

impl Options {
    /// Says what cannot be.
    pub fn check(&self) -> Result<(), String> {
        let most = PACKET_BYTES_MAX / 2;
        if !(STAMP_BYTES..=most).contains(&self.payload) {
            return Err(format!("--payload must be between {STAMP_BYTES} and {most} bytes"));
        }
        if !(1..=WINDOW_MAX).contains(&self.window()) {
            return Err(format!("--window must be between 1 and {WINDOW_MAX}"));
        }
        if self.batch == Some(0) {
            return Err("--batch must be at least 1".into());
        }
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e8)) {
            return Err("--rate must be more than 0, and at most 100,000,000".into());
        }
        let times = [self.seconds, self.warmup, self.patience];
        if times.iter().any(|it| !(0.0..=1e6).contains(it)) {
            return Err("times must be between 0 and 1,000,000 seconds".into());
        }
        if self.together && self.work != Work::Offline {
            return Err("--together is for the work offline".into());
        }
        let counts = [self.pairs, self.members, self.sessions, self.connections, self.threads];
        if counts.contains(&0) {
            return Err("counts must be at least 1".into());
        }
        Ok(())
    }

    /// Messages in flight of a publisher.
    pub fn window(&self) -> usize {
        self.window.unwrap_or_else(|| if self.rate.is_some() { 1000 } else { 100 })
    }

    /// What is spoken.
    pub fn version(&self) -> Version {
        if self.v5 { Version::V5 } else { Version::V311 }
    }

    /// See `--patience`.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.patience)
    }

    /// How TLS is spoken, where it is.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, String> {
        let host = self.broker.rsplit_once(':').map_or(self.broker.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        self.tls.as_deref().map(|file| Tls::new(file, host)).transpose()
    }

    /// How many connections there are at a time, or a few less.
    pub(crate) fn clients(&self) -> usize {
        match self.work {
            Work::Pair | Work::Chat => 2 * self.pairs,
            Work::Fanout => self.members,
            Work::Offline | Work::Storm => self.sessions,
            Work::Resume => self.sessions + 1,
            Work::Idle | Work::Churn => self.connections,
        }
    }

    /// Where the broker is.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let found = self.broker.to_socket_addrs().map_err(|error| {
            format!("--broker {}: {error}; expected for example 127.0.0.1:1883", self.broker)
        })?;
        // A name such as localhost may have several: the first that answers to MQTT 3.1.1's age.
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|it| it.is_ipv6());
        found.first().copied().ok_or_else(|| format!("--broker {}: no address", self.broker))
    }
}

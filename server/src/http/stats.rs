//! `GET /api/stats`: what an operator's page shows, now and of the last minutes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tidings_broker::SlowClient;
use tidings_broker::core::metric::{Metric, Snapshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Site;
use super::api::fresh;
use super::metrics::series;
use super::watched::Report;

/// What was counted at one moment, of what is drawn over time.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    /// Milliseconds since 1970.
    time: u64,
    connections: u64,
    /// Per second, since the sample before.
    publishes_in: u64,
    publishes_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    syncs: u64,
    queued: u64,
    memory: u64,
}

/// The samples of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Samples {
    kept: Mutex<VecDeque<Sample>>,
}

impl Samples {
    /// Takes one each second, as long as the broker is there.
    pub(super) async fn run(site: Arc<Site>) {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = (site.broker.metrics(), Instant::now());
        loop {
            seconds.tick().await;
            let now = (site.broker.metrics(), Instant::now());
            let elapsed = now.1.duration_since(before.1);
            if elapsed < Duration::from_millis(500) {
                continue;
            }
            let sample = Sample::between(&before.0, &now.0, elapsed);
            let mut kept = site.samples.lock();
            if kept.len() >= SAMPLES_MAX {
                kept.pop_front();
            }
            kept.push_back(sample);
            drop(kept);
            before = now;
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sample {
    fn between(before: &Snapshot, now: &Snapshot, elapsed: Duration) -> Self {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = |metric: Metric| {
            let more = now.get(metric).saturating_sub(before.get(metric));
            more.saturating_mul(1_000) / millis
        };
        Self {
            time: since_1970(),
            connections: now.get(Metric::Connections),
            publishes_in: rate(Metric::PublishReceived),
            publishes_out: rate(Metric::PublishSent),
            bytes_in: rate(Metric::BytesReceived),
            bytes_out: rate(Metric::BytesSent),
            syncs: rate(Metric::JournalSyncs),
            queued: now.get(Metric::QueuedMessages),
            memory: now.get(Metric::MemoryUsed).max(now.get(Metric::MemoryResident)),
        }
    }
}

#[derive(Serialize)]
struct Stats {
    version: &'static str,
    time: u64,
    uptime_seconds: u64,
    draining: bool,
    http_connections: usize,
    /// The newest last, one each second.
    samples: Vec<Sample>,
    chat: Report,
    slow_clients: Vec<Slow>,
    /// Everything that is counted, by the names of `/metrics`.
    counters: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Slow {
    user: String,
    client_id: String,
    bytes: usize,
    stuck_ms: u64,
}

impl From<SlowClient> for Slow {
    fn from(slow: SlowClient) -> Self {
        let stuck = slow.stuck_for.unwrap_or_default().as_millis();
        Self {
            user: slow.user,
            client_id: slow.client_id,
            bytes: slow.bytes,
            stuck_ms: u64::try_from(stuck).unwrap_or(u64::MAX),
        }
    }
}

/// `GET /api/stats`
pub(super) async fn stats(State(site): State<Arc<Site>>) -> Response {
    let snapshot = site.broker.metrics();
    // A shard that is busy is not waited for.
    let slow = timeout(PATIENCE, site.broker.slow_clients()).await.unwrap_or_default();
    let stats = Stats {
        version: env!("CARGO_PKG_VERSION"),
        time: since_1970(),
        uptime_seconds: snapshot.get(Metric::Uptime),
        draining: !site.is_serving(),
        http_connections: site.gate.count(),
        samples: site.samples.lock().iter().copied().collect(),
        chat: site.watched.ask(Instant::now()),
        slow_clients: slow.into_iter().map(Slow::from).collect(),
        counters: snapshot.iter().map(|(metric, value)| (series(metric), value)).collect(),
    };
    fresh(Json(stats))
}

fn since_1970() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const SAMPLES_MAX: usize = 180;
const PATIENCE: Duration = Duration::from_millis(500);

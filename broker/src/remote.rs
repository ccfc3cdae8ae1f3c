//! What a program may ask and say of a broker from any thread, while another one has it to stop.

use std::sync::Arc;

use tidings_core::metric::{Metric, Snapshot};
use tokio::sync::mpsc::unbounded_channel;

use crate::mail::{Mail, Post, SlowClient};
use crate::metrics::Metrics;

/// The way to a broker that somebody else has: see [`Broker::remote`](crate::Broker::remote). Cheap to
/// clone; of one that has stopped it tells what was counted last.
#[derive(Debug, Clone)]
pub struct Remote {
    metrics: Arc<Metrics>,
    posts: Vec<Post>,
}

impl Remote {
    pub(crate) fn new(metrics: Arc<Metrics>, posts: Vec<Post>) -> Self {
        Self { metrics, posts }
    }

    /// As [`Broker::metrics`](crate::Broker::metrics).
    pub fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    /// Counts what somebody met a bound of the program's own.
    pub fn count(&self, metric: Metric) {
        self.metrics.count(metric);
    }

    /// The Clients for whom most waits in memory, because they read more slowly than they are sent to:
    /// up to 32. Each shard looks at all its connections, so ask now and then.
    pub async fn slow_clients(&self) -> Vec<SlowClient> {
        let (answer, mut answers) = unbounded_channel();
        for post in &self.posts {
            post.send(Mail::Slowest(answer.clone()));
        }
        drop(answer);
        let mut all = Vec::new();
        while let Some(some) = answers.recv().await {
            all.extend(some);
        }
        all.sort_by_key(|client| std::cmp::Reverse(client.bytes));
        all.truncate(SLOW_MAX);
        all
    }

    /// As [`Broker::revoke`](crate::Broker::revoke).
    pub fn revoke(&self, user: &str) {
        let user: Arc<str> = user.into();
        for post in &self.posts {
            post.send(Mail::Revoked(Some(Arc::clone(&user))));
        }
    }
}

/// How many slow Clients are told of.
const SLOW_MAX: usize = 32;

//! What a program may ask and say of a broker from any thread, while another one has it to stop.

use std::sync::Arc;

use tidings_core::metric::{Metric, Snapshot};

use crate::mail::{Mail, Post};
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

    /// As [`Broker::revoke`](crate::Broker::revoke).
    pub fn revoke(&self, user: &str) {
        let user: Arc<str> = user.into();
        for post in &self.posts {
            post.send(Mail::Revoked(Some(Arc::clone(&user))));
        }
    }
}

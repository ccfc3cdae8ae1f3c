//! What connections hold, and what is done when memory is short.
//!
//! Who publishes is not read then: a PUBLISH waits in the input, and what came before it went on. A
//! Client that has messages to acknowledge is read as long as that may help, for its
//! acknowledgements may come behind its PUBLISH; at the last mark nobody's PUBLISH is taken.

use tidings_core::marks::MemoryMark;
use tidings_core::metric::Metric;
use tidings_core::output::ConnectionId;
use tidings_core::shard::{Input, Shard};

use super::Runtime;
use crate::connection::Phase;
use crate::mail::{Mail, Post, SlowClient};
use crate::metrics::Metrics;

impl Runtime {
    /// Counts what a connection holds now.
    pub(super) fn count_held(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let (before, held) = connection.count_held();
            self.held = (self.held + held).saturating_sub(before);
        }
    }

    /// Whether a PUBLISH of this connection has to wait; it is held then.
    pub(super) fn hold_publish(&mut self, id: ConnectionId) -> bool {
        let hold = must_hold(&self.metrics, &self.shard, id);
        if hold && let Some(connection) = self.connections.get_mut(&id) {
            connection.holds_publish = true;
        }
        hold
    }

    /// Tells what is held, and sees to it between two looks of others that it is not too much.
    pub(super) fn look_at_held(&mut self) {
        self.counters.set(Metric::HeldBytes, self.held as u64);
        self.held_looked = self.held_looked.min(self.held);
        if self.held - self.held_looked > LOOK_AFTER_BYTES {
            self.held_looked = self.held;
            let mail: u64 = self.posts.iter().map(Post::waiting_bytes).sum();
            let held = self.metrics.held_by_connections() + mail;
            let excess = self.metrics.pressure.excess(held);
            if excess > 0 {
                // Or as much would come in as goes.
                self.metrics.pressure.raise_mark(MemoryMark::CloseLargest);
                self.close_largest(excess);
            }
        }
    }

    /// What concerns memory and is asked from outside.
    pub(super) fn memory_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Memory { excess } => self.close_largest(excess),
            Mail::Slowest(answer) => {
                let _nobody_waits = answer.send(self.slowest());
            }
            _ => {}
        }
    }

    /// The Clients for whom most waits.
    fn slowest(&self) -> Vec<SlowClient> {
        let mut all = Vec::new();
        for (id, connection) in &self.connections {
            let bytes = connection.unwritten() + self.shard.bytes_in_memory(*id);
            if bytes > 0 {
                all.push((bytes, *id));
            }
        }
        all.sort_unstable_by(|a, b| b.cmp(a));
        let told = all.into_iter().take(SLOWEST_MAX).filter_map(|(bytes, id)| {
            let (user, client_id) = self.shard.whose(id)?;
            let stuck = self.connections.get(&id).and_then(|it| it.stuck_since);
            Some(SlowClient {
                user: user.to_owned(),
                client_id: client_id.to_owned(),
                bytes,
                stuck_for: stuck.map(|since| self.looked.since(since)),
            })
        });
        told.collect()
    }

    /// Closes the connections that hold most until so many bytes are given back: this shard's part
    /// of it.
    pub(super) fn close_largest(&mut self, excess: u64) {
        let all = self.metrics.held_by_connections();
        if excess == 0 || all == 0 {
            return;
        }
        let part = u128::from(excess) * self.held as u128 / u128::from(all);
        let mut part = usize::try_from(part).unwrap_or(usize::MAX);
        let sizes = self
            .connections
            .iter()
            .map(|(id, it)| (it.counted + self.shard.bytes_in_memory(*id), *id));
        let mut sizes: Vec<_> = sizes.filter(|(bytes, _)| *bytes >= WORTH_CLOSING_BYTES).collect();
        sizes.sort_unstable();
        while part > 0
            && let Some((bytes, id)) = sizes.pop()
        {
            part = part.saturating_sub(bytes);
            self.counters.add(Metric::LimitMemory, 1);
            self.count_end(id, Metric::ClosedMemory);
            tracing::debug!(connection = id.0, bytes, "closed: memory is short");
            if self.connections.get(&id).is_some_and(|it| it.phase <= Phase::Open) {
                self.handle(Input::Closed { connection: id });
            }
            self.forget(id);
        }
    }
}

/// Whether a PUBLISH of this connection would have to wait.
pub(super) fn must_hold(metrics: &Metrics, shard: &Shard, id: ConnectionId) -> bool {
    match metrics.pressure.mark() {
        MemoryMark::CloseLargest => true,
        MemoryMark::HoldPublishers => !shard.awaits_acknowledgement(id),
        _ => false,
    }
}

/// What is read at once: little while a PUBLISH might have to wait among it.
pub(super) fn read_bytes_max(metrics: &Metrics) -> usize {
    match metrics.pressure.mark() {
        MemoryMark::Enough | MemoryMark::RefuseConnections => usize::MAX,
        _ => READ_WHEN_SHORT_BYTES,
    }
}

/// See [`read_bytes_max`].
const READ_WHEN_SHORT_BYTES: usize = 4 * 1024;

/// After how much more held memory a shard looks by itself.
const LOOK_AFTER_BYTES: usize = 1024 * 1024;

/// How many slow Clients a shard tells of.
const SLOWEST_MAX: usize = 32;

/// Closing who holds less brings nothing.
const WORTH_CLOSING_BYTES: usize = 16 * 1024;

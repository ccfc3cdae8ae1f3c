//! The numbers of a whole broker: what its shards, its front and its store have counted, added up
//! when somebody asks.
//!
//! Nothing here is written on the way of a message; see [`tidings_core::metric`] for who writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tidings_core::metric::{Counters, Metric, Snapshot};
use tidings_core::time::Time;

use crate::clock::Clock;
use crate::commit::Hub;
use crate::pressure::Pressure;

/// All that counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    shards: Vec<Arc<Counters>>,
    /// Of everybody who has no shard; by [`Counters::add_shared`].
    pub(crate) others: Counters,
    /// Clients that are connected, over all shards: the most at once is no sum.
    connections: AtomicU64,
    connections_max: AtomicU64,
    /// Connections that have a place among those that may be, with a CONNACK or about to get one.
    places: AtomicUsize,
    pub(crate) pressure: Pressure,
    store: Arc<Hub>,
    clock: Clock,
    begun: Time,
}

impl Metrics {
    pub(crate) fn new(shards: Vec<Arc<Counters>>, store: Arc<Hub>, clock: Clock) -> Self {
        Self {
            shards,
            others: Counters::default(),
            connections: AtomicU64::new(0),
            connections_max: AtomicU64::new(0),
            places: AtomicUsize::new(0),
            pressure: Pressure::default(),
            store,
            clock,
            begun: clock.now(),
        }
    }

    /// A Client is connected.
    pub(crate) fn connected(&self) {
        let now = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.connections_max.fetch_max(now, Ordering::Relaxed);
    }

    /// A Client is not connected any more.
    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a place among the connections, of which there are at most `max`.
    pub(crate) fn try_enter(&self, max: usize) -> bool {
        let enter = |taken: usize| (taken < max).then_some(taken + 1);
        self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok()
    }

    /// Gives it back.
    pub(crate) fn leave(&self) {
        self.places.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts what happens outside of shards.
    pub(crate) fn count(&self, metric: Metric) {
        self.others.add_shared(metric, 1);
    }

    /// Bytes that connections hold, unwritten or of unfinished packets.
    pub(crate) fn held_by_connections(&self) -> u64 {
        self.shards.iter().map(|counters| counters.get(Metric::HeldBytes)).sum()
    }

    /// How many connections were closed because memory was short.
    pub(crate) fn closed_for_memory(&self) -> u64 {
        self.shards.iter().map(|counters| counters.get(Metric::ClosedMemory)).sum()
    }

    /// Everything, as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut all = Snapshot::default();
        for counters in &self.shards {
            all.add(counters);
        }
        all.add(&self.others);
        all.set(Metric::Uptime, self.clock.now().since(self.begun).as_secs());
        all.set(Metric::Connections, self.connections.load(Ordering::Relaxed));
        all.set(Metric::ConnectionsMax, self.connections_max.load(Ordering::Relaxed));
        let store = self.store.counters.read();
        all.set(Metric::JournalGroups, store.groups);
        all.set(Metric::JournalRecords, store.records);
        all.set(Metric::JournalBytes, store.journal_bytes);
        all.set(Metric::JournalSyncs, store.syncs);
        all.set(Metric::Checkpoints, store.checkpoints);
        all.set(Metric::StoreReads, store.reads);
        let waiting = self.store.uncovered_bytes.load(Ordering::Relaxed);
        all.set(Metric::JournalWaitingBytes, waiting);
        let behind = self.store.behind.load(Ordering::Relaxed);
        all.set(Metric::CheckpointsBehind, behind.into());
        let pressure = &self.pressure;
        all.set(Metric::DiskFreeBytes, pressure.disk_free.load(Ordering::Relaxed));
        all.set(Metric::DiskLow, pressure.disk_low.load(Ordering::Relaxed).into());
        all.set(Metric::MemoryResident, pressure.resident.load(Ordering::Relaxed));
        all.set(Metric::MemoryUsed, pressure.used.load(Ordering::Relaxed));
        all.set(Metric::MemoryBound, pressure.bound.load(Ordering::Relaxed));
        all.set(Metric::MemoryMark, pressure.mark().number().into());
        all
    }
}

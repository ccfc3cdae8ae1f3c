//! From a [`Builder`] to running threads, and to their end.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tidings_core::limits::Limits;
use tidings_core::metric::Snapshot;
use tidings_core::record::{KeyBuilder, Row, RowKind};
use tidings_core::shard::{Shard, ShardConfig};
use tidings_core::slot::{SLOTS, ShardId, Slot};

use crate::builder::{Builder, StartError};
use crate::clock::Clock;
use crate::descriptors::Descriptors;
use crate::engine::{Durability, Engine, EngineOptions, OpenError, ShardStore};
use crate::front::{Front, FrontHandle, message_bytes_max};
use crate::health::{Fatal, Health, guard};
use crate::journal::Journal;
use crate::limits::{ConnectionLimits, Rates};
use crate::listener::{Bound, Door, Endpoint, Listener};
use crate::mail::{Mail, MailBox, Post, ServiceLine};
use crate::metrics::Metrics;
use crate::observer::Observers;
use crate::remote::Remote;
use crate::runtime::{Runtime, RuntimeParts};
use crate::store::{Store, StoreFailure};
use crate::teller::Teller;
use crate::watch::{Watch, Watched};

/// A broker that serves. Dropping it ends it at once, as if killed; see [`Broker::stop`].
#[derive(Debug)]
pub struct Broker {
    addresses: Vec<SocketAddr>,
    endpoints: Vec<Endpoint>,
    door: Door,
    front: FrontHandle,
    posts: Vec<Post>,
    threads: Vec<JoinHandle<()>>,
    engine: Option<Engine>,
    metrics: Arc<Metrics>,
    teller: Option<Teller>,
    watch: Option<Watch>,
    health: Arc<Health>,
    /// Whoever comes while it stops is told where else to go.
    refers: bool,
    rates_apply: bool,
}

/// Why a broker did not stop in order. What was acknowledged is safe all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// Closing the store failed.
    #[error("cannot close the store: {0}")]
    Store(#[from] StoreFailure),
    /// It had failed before.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

impl Broker {
    /// The addresses where it listens, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens and what is spoken there, in the order of the [`Builder`].
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Whether Clients are held to rates: see [`Rates`].
    pub fn rates_apply(&self) -> bool {
        self.rates_apply
    }

    /// What has been counted, as it is now. Cheap enough to be asked every second.
    pub fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    /// A way to ask for [`metrics`](Self::metrics) and the like that may be given away.
    pub fn remote(&self) -> Remote {
        Remote::new(Arc::clone(&self.metrics), self.posts.clone())
    }

    /// Where connections are handed in that another server accepted.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Returns when the broker cannot go on, and why.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn failed(&self) -> Fatal {
        self.health.failed().await
    }

    /// Blocks until the broker cannot go on.
    ///
    /// # Errors
    /// Why not. There is no other way for it to end by itself.
    pub fn wait(&self) -> Result<(), Fatal> {
        Err(self.health.wait())
    }

    /// What [`Authorize`](tidings_core::hook::Authorize) answers has changed: subscriptions are
    /// looked at again, those of sessions without a connection too. A Client that had one it may not
    /// have any more is disconnected with 0x87, and does not find it when it comes back.
    pub fn rights_changed(&self) {
        for post in &self.posts {
            post.send(Mail::RightsChanged);
        }
    }

    /// The user may not be here any more: connections of theirs end with 0x87. Sessions stay until
    /// they expire. Say it after the login has ceased to work, or they come back at once.
    pub fn revoke(&self, user: &str) {
        self.remote().revoke(user);
    }

    /// Ends all connections with 0x87, so that everybody has to log in again.
    pub fn revoke_all(&self) {
        for post in &self.posts {
            post.send(Mail::Revoked(None));
        }
    }

    /// Stops in order: no more connections, every Client told, every session put away, everything
    /// stored. Blocks until that is done, a few seconds at most.
    ///
    /// # Errors
    /// What kept it from doing so.
    pub fn stop(mut self) -> Result<(), StopError> {
        // Told where else to go as long as somebody is there to say so; else turned away at once.
        if self.refers {
            self.front.drain();
        } else {
            self.front.stop();
        }
        drop((self.teller.take(), self.watch.take()));
        for post in &self.posts {
            post.send(Mail::Stop);
        }
        for thread in self.threads.drain(..) {
            let _panicked_already = thread.join();
        }
        self.front.stop();
        if let Some(engine) = self.engine.take() {
            // What a panic left is told as one.
            engine.shutdown().map_err(|failure| match failure.panicked {
                Some(_) => StopError::Fatal(failure.into()),
                None => StopError::Store(failure),
            })?;
        }
        self.health.failure().map_or(Ok(()), |fatal| Err(fatal.into()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.front.stop();
        drop((self.teller.take(), self.watch.take()));
        // The store ends first, so that nothing is acknowledged on the way out that is not safe.
        drop(self.engine.take());
        for post in &self.posts {
            post.send(Mail::Stop);
        }
        for thread in self.threads.drain(..) {
            let _panicked_already = thread.join();
        }
    }
}

impl Builder {
    /// Opens the store, recovers what it holds, and begins to serve on threads of its own. Raises the
    /// process's soft limit of open files to the hard one: every connection is a file.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub fn start(self) -> Result<Broker, StartError> {
        let durability = self.engine.durability;
        if durability != Durability::Memory && self.engine.dir.as_os_str().is_empty() {
            return Err(StartError::NoDirectory(durability));
        }
        start(self, Engine::open)
    }

    /// As [`start`](Self::start), with a journal and a store of the caller's, which nobody else
    /// has: see [`Engine::open_with`]. The data directory is left alone.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        self,
        journal: Box<dyn Journal>,
        store: Arc<dyn Store>,
    ) -> Result<Broker, StartError> {
        start(self, |options| Engine::open_with(options, journal, store))
    }
}

fn start(
    builder: Builder,
    open: impl FnOnce(EngineOptions) -> Result<(Engine, Vec<ShardStore>), OpenError>,
) -> Result<Broker, StartError> {
    let mut engine_options = builder.engine.clone();
    engine_options.shards = builder.shard_count();
    engine_options.disk_reserve = builder.disk_reserve;
    let shards = engine_options.shards;
    let durability = engine_options.durability;
    let descriptors = Descriptors::ask_for_all();
    // Listening comes first: a taken port should not cost a recovery to find out. Nothing is
    // accepted before the shards are ready.
    let listeners = listen(&builder.listeners)?;
    let endpoints: Vec<_> = listeners.iter().map(Bound::endpoint).collect();
    let (engine, stores) = open(engine_options)?;
    let clock = Clock::new();
    let rates_apply = match builder.connections.rates {
        Rates::On => true,
        Rates::Off => false,
        // Who comes by the door alone may come from anywhere.
        Rates::OffOnLoopback => {
            builder.listeners.is_empty() || !builder.listeners.iter().all(Listener::is_local)
        }
    };
    let connections = within_reason(builder.connections, &builder.limits);
    let connections = if rates_apply { connections } else { connections.without_rates() };
    let limits = limits_of_a_shard(&builder.limits, &connections, shards);
    let limits = Arc::new(Limits { rates_apply, ..limits });
    let health = Arc::new(Health::new());
    let observers = Observers::start(builder.observers).map_err(StartError::Thread)?;
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u64);

    let mut recovered = Vec::new();
    for store in stores {
        let id = store.shard();
        let config =
            ShardConfig { id, shards, limits: Arc::clone(&limits), seed: seed ^ u64::from(id.0) };
        let mut shard = Shard::new(config, builder.hooks.clone());
        let garbage = recover(&engine, &mut shard, id, shards, clock)?;
        recovered.push((shard, store, garbage));
    }
    let (posts, boxes): (Vec<Post>, Vec<MailBox>) = (0..shards).map(|_| MailBox::new()).unzip();
    for (service, factory) in (0..=u8::MAX).zip(&builder.hooks.services) {
        factory.opened(Arc::new(ServiceLine { service, posts: posts.clone() }));
    }
    let counters = recovered.iter().map(|(shard, ..)| Arc::clone(shard.counters())).collect();
    let metrics = Arc::new(Metrics::new(counters, engine.hub(), clock));
    let mut threads = Vec::new();
    let (ready, all_ready) = mpsc::channel();
    for ((shard, store, garbage), mail) in recovered.into_iter().zip(boxes) {
        let id = store.shard();
        let parts = RuntimeParts {
            id,
            shard,
            store,
            garbage,
            mail,
            posts: posts.clone(),
            clock,
            observers: observers.clone(),
            limits: connections.clone(),
            packet_bytes_max: limits.packet_bytes_max,
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            immediate: durability == Durability::Memory,
        };
        threads.push(spawn(id, parts, ready.clone(), &health).map_err(StartError::Thread)?);
    }
    drop(ready);
    // Every shard has told the others what it wants to hear before the first Client comes in.
    for _ in 0..shards {
        let _failed_already = all_ready.recv();
    }
    let watched = Watched {
        metrics: Arc::clone(&metrics),
        posts: posts.clone(),
        hub: engine.hub(),
        disk: engine.disk(),
        health: Arc::clone(&health),
        reserve: builder.disk_reserve,
        memory_bytes_max: connections.memory_bytes_max,
        allocator: builder.allocator,
    };
    let watch = Some(Watch::start(watched).map_err(StartError::Thread)?);
    let (door, guests) = Door::new(message_bytes_max(&limits));
    let refers = !limits.told.server_reference.is_empty();
    let mut teller = None;
    if !builder.system_interval.is_zero() {
        let (metrics, posts) = (Arc::clone(&metrics), posts.clone());
        let started = Teller::start(metrics, posts, clock, builder.system_interval);
        teller = Some(started.map_err(StartError::Thread)?);
    }
    let front = Front {
        listeners,
        guests,
        posts: posts.clone(),
        shards,
        limits,
        connections,
        descriptors,
        authenticate: builder.authenticate,
        methods: builder.methods,
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
        clock,
    };
    let front = front.start().map_err(StartError::Thread)?;
    let addresses = endpoints.iter().filter_map(Endpoint::address).collect();
    let engine = Some(engine);
    Ok(Broker {
        addresses,
        endpoints,
        door,
        front,
        posts,
        threads,
        engine,
        metrics,
        teller,
        watch,
        health,
        refers,
        rates_apply,
    })
}

/// The hard bound of what is unwritten has to leave room for what the soft one lets through: what
/// was unwritten already, a burst and twice that of QoS 0, and a largest packet with its properties.
fn within_reason(connections: ConnectionLimits, limits: &Limits) -> ConnectionLimits {
    let soft = connections.outbound_soft_bytes;
    let least = soft.saturating_mul(3).saturating_add(limits.packet_bytes_max);
    let outbound_hard_bytes = connections.outbound_hard_bytes.max(least);
    ConnectionLimits { outbound_hard_bytes, ..connections }
}

/// What is bounded for all shards together is shared out evenly, and what goes to a connection in
/// one go is what it may hold unwritten.
fn limits_of_a_shard(limits: &Limits, connections: &ConnectionLimits, shards: u16) -> Limits {
    let share = |all: usize| all.div_ceil(usize::from(shards));
    Limits {
        burst_bytes_max: connections.outbound_soft_bytes,
        held_bytes_max: connections.outbound_hard_bytes,
        retained_messages_max: share(limits.retained_messages_max),
        retained_bytes_max: share(limits.retained_bytes_max),
        ..limits.clone()
    }
}

fn listen(listeners: &[Listener]) -> Result<Vec<Bound>, StartError> {
    let bind = |listener: &Listener| {
        let place = || listener.place().clone();
        listener.bind().map_err(|source| StartError::Listen { place: place(), source })
    };
    listeners.iter().map(bind).collect()
}

/// Hands a shard its rows. What it has still to delete is returned, for when it runs.
fn recover(
    engine: &Engine,
    shard: &mut Shard,
    id: ShardId,
    shards: u16,
    clock: Clock,
) -> Result<Vec<Row>, StartError> {
    let mut garbage = Vec::new();
    let now = clock.now();
    let kinds = Shard::RECOVERED.into_iter().chain([RowKind::Garbage]);
    for kind in kinds {
        for slot in (0..SLOTS).filter_map(|slot| u8::try_from(slot).ok()).map(Slot) {
            if kind != RowKind::Meta && slot.shard(shards) != id {
                continue;
            }
            let mut failure = None;
            engine.scan(&KeyBuilder::new(slot, kind).prefix(), &mut |key, value| {
                let row = Row {
                    key: bytes::Bytes::copy_from_slice(key),
                    value: bytes::Bytes::copy_from_slice(value),
                };
                if kind == RowKind::Garbage {
                    garbage.push(row);
                } else if let Err(source) = shard.recover(&row, now)
                    && failure.is_none()
                {
                    failure = Some(StartError::Row { key: hex(&row.key), source });
                }
            })?;
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
    }
    Ok(garbage)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spawn(
    id: ShardId,
    parts: RuntimeParts,
    ready: mpsc::Sender<()>,
    health: &Arc<Health>,
) -> io::Result<JoinHandle<()>> {
    let name = format!("shard-{}", id.0);
    let (health, thread_name) = (Arc::clone(health), name.clone());
    let run = move || guard(&thread_name, &health, || Runtime::run(parts, ready));
    thread::Builder::new().name(name).spawn(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_connections_bind_the_shards_and_leave_room_for_each_other() {
        let limits = Limits { packet_bytes_max: 5_000, ..Limits::default() };
        let connections = ConnectionLimits {
            outbound_soft_bytes: 1_000,
            outbound_hard_bytes: 2_000,
            ..ConnectionLimits::default()
        };
        let connections = within_reason(connections, &limits);
        assert_eq!(connections.outbound_hard_bytes, 8_000);
        let of_shard = limits_of_a_shard(&limits, &connections, 3);
        assert_eq!((of_shard.burst_bytes_max, of_shard.retained_messages_max), (1_000, 33_334));
        assert_eq!(of_shard.held_bytes_max, 8_000);
        let roomy = ConnectionLimits { outbound_hard_bytes: 9_000, ..connections };
        assert_eq!(within_reason(roomy.clone(), &limits), roomy);
    }
}

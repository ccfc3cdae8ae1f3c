//! What a broker is made of: listeners, store, authentication, plugins.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::hook::{Authorize, Intercept, Observe, ServiceFactory};
use tidings_core::limits::Limits;
use tidings_core::marks::DiskReserve;
use tidings_core::message::BadRow;
use tidings_core::shard::Hooks;
use tidings_core::slot::SLOTS;

use crate::auth::{
    Authenticate, Credentials, Deciding, Decision, EnhancedAuthenticate, Methods, OpenOnLoopback,
};
use crate::engine::{Compare, Durability, EngineOptions, OpenError};
use crate::limits::ConnectionLimits;
use crate::listener::{Listener, Place};
use crate::memory::Allocator;
use crate::store::StoreFailure;

/// Puts a broker together.
///
/// The defaults: no listener, rows in memory, one shard for two cores, everybody from this machine
/// may come in under any user name.
#[derive(Debug)]
pub struct Builder {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) engine: EngineOptions,
    pub(crate) shards: u16,
    pub(crate) limits: Limits,
    pub(crate) connections: ConnectionLimits,
    pub(crate) authenticate: Arc<dyn Authenticate>,
    pub(crate) methods: Methods,
    pub(crate) hooks: Hooks,
    pub(crate) observers: Vec<Arc<dyn Observe>>,
    pub(crate) system_interval: Duration,
    pub(crate) disk_reserve: DiskReserve,
    pub(crate) allocator: Option<Allocator>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// The defaults.
    pub fn new() -> Self {
        let mut engine = EngineOptions::new(PathBuf::new());
        engine.durability = Durability::Memory;
        Self {
            listeners: Vec::new(),
            engine,
            shards: 0,
            limits: Limits::default(),
            connections: ConnectionLimits::default(),
            authenticate: Arc::new(OpenOnLoopback),
            methods: Methods::default(),
            hooks: Hooks::default(),
            observers: Vec::new(),
            system_interval: Duration::from_secs(10),
            disk_reserve: DiskReserve::default(),
            allocator: None,
        }
    }

    /// Listens for MQTT over TCP. Port 0: any free one, see [`crate::Broker::addresses`].
    #[must_use]
    pub fn listen(self, address: SocketAddr) -> Self {
        self.listener(Listener::tcp(address))
    }

    /// Listens there too: TCP or a Unix socket, within TLS or WebSocket or neither.
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Keeps everything in this directory, made if it is not there, and syncs it before anything is
    /// acknowledged (see [`Builder::durability`]).
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.engine.dir = dir.into();
        self.engine.durability = Durability::Fsync;
        self
    }

    /// What an acknowledgement survives. Anything but memory needs a [`Builder::data_dir`], and is
    /// to be said after it.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.engine.durability = durability;
        self
    }

    /// The size of a journal segment, and how much journal begins a checkpoint; in bytes.
    #[must_use]
    pub fn journal_bytes(mut self, segment: u64, checkpoint: u64) -> Self {
        self.engine.segment_bytes = segment;
        self.engine.checkpoint_bytes = checkpoint;
        self
    }

    /// What is to be left free of the disk: below it whatever would be kept is refused, and the rest
    /// goes on.
    #[must_use]
    pub fn disk_reserve(mut self, reserve: DiskReserve) -> Self {
        self.disk_reserve = reserve;
        self
    }

    /// What the process's allocator can say and do. Without it the broker goes by what the process
    /// has of the machine's memory, of which it does not know how much the allocator only keeps.
    #[must_use]
    pub fn allocator(mut self, allocator: Allocator) -> Self {
        self.allocator = Some(allocator);
        self
    }

    /// How much journal is kept before a base is written, in bytes, and when a start compares the
    /// store with both: see [`EngineOptions::base_bytes`] and [`EngineOptions::compare`].
    #[must_use]
    pub fn bases(mut self, journal_bytes: u64, compare: Compare) -> Self {
        self.engine.base_bytes = journal_bytes;
        self.engine.compare = compare;
        self
    }

    /// How many shards, each a thread: 0 for one for two cores, at most 256. The journal, the
    /// listeners and the system need the other half; and a hop between shards costs more than it
    /// brings before a shard's thread is full.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// The bounds of sessions and messages. Those of all retained messages are shared out among the
    /// shards.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The bounds of connections.
    #[must_use]
    pub fn connection_limits(mut self, limits: ConnectionLimits) -> Self {
        self.connections = limits;
        self
    }

    /// How often the values under `$SYS` are told anew; zero: there are none. Whoever
    /// [`Builder::authorize`] lets subscribe there may read them.
    #[must_use]
    pub fn system_interval(mut self, interval: Duration) -> Self {
        self.system_interval = interval;
        self
    }

    /// Who may come in, and as whom.
    #[must_use]
    pub fn authenticate(mut self, authenticate: Arc<dyn Authenticate>) -> Self {
        self.authenticate = authenticate;
        self
    }

    /// Offers Authentication Methods of MQTT 5 (§4.12), for Clients whose CONNECT names one: such a
    /// Client is not shown to [`Builder::authenticate`]. Several: the first that offers the method.
    #[must_use]
    pub fn enhanced_authenticate(mut self, authenticate: Arc<dyn EnhancedAuthenticate>) -> Self {
        self.methods.push(authenticate);
        self
    }

    /// Who may come in, decided by a closure. The user it names should be one of
    /// [`crate::auth::is_user_name`]: chat and rules by file know no others.
    ///
    /// ```
    /// use tidings_broker::Builder;
    /// use tidings_broker::auth::{Credentials, Decision, Refusal};
    ///
    /// /// Some lookup that takes its time.
    /// async fn is_right(user: &str, password: &[u8]) -> bool {
    ///     (user, password) == ("bob", b"secret")
    /// }
    ///
    /// let builder = Builder::new().authenticate_with(|login: Credentials| async move {
    ///     let (user, password) = (login.user_name.unwrap_or_default(), login.password);
    ///     if is_right(&user, &password.unwrap_or_default()).await {
    ///         Decision::accept(user)
    ///     } else {
    ///         Decision::Refuse(Refusal::BadUserNameOrPassword)
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn authenticate_with<F, Answer>(self, decide: F) -> Self
    where
        F: Fn(Credentials) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Decision> + Send + 'static,
    {
        self.authenticate(Arc::new(Deciding(decide)))
    }

    /// What Clients may do: by [rules](crate::rights::Rights), or by what a program knows. It is asked
    /// for each PUBLISH, SUBSCRIBE and will, and must answer from memory. When its answers change, say
    /// [`crate::Broker::rights_changed`].
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use tidings_broker::Builder;
    /// use tidings_broker::core::codec::ReasonCode;
    /// use tidings_broker::core::hook::{Authorize, Client, Verdict};
    /// use tidings_broker::core::topic::TopicFilter;
    ///
    /// /// Everybody says what they like below their own name, and hears everything.
    /// #[derive(Debug)]
    /// struct OwnRoot;
    ///
    /// impl Authorize for OwnRoot {
    ///     fn publish(&self, client: &Client<'_>, topic: &str) -> Verdict {
    ///         match topic.split_once('/') {
    ///             Some((root, _)) if root == client.user => Verdict::Allow,
    ///             _ => Verdict::Deny(ReasonCode::NotAuthorized),
    ///         }
    ///     }
    ///
    ///     fn subscribe(&self, _: &Client<'_>, _: &TopicFilter) -> Verdict {
    ///         Verdict::Allow
    ///     }
    /// }
    ///
    /// let builder = Builder::new().authorize(Arc::new(OwnRoot));
    /// ```
    #[must_use]
    pub fn authorize(mut self, authorize: Arc<dyn Authorize>) -> Self {
        self.hooks.authorize = Some(authorize);
        self
    }

    /// Sees each message before it is stored. Several: in the order given.
    #[must_use]
    pub fn intercept(mut self, intercept: Arc<dyn Intercept>) -> Self {
        self.hooks.intercept.push(intercept);
        self
    }

    /// Learns afterwards.
    #[must_use]
    pub fn observe(mut self, observe: Arc<dyn Observe>) -> Self {
        self.observers.push(observe);
        self.hooks.observed = true;
        self
    }

    /// Takes over topic roots, in every shard.
    #[must_use]
    pub fn service(mut self, service: Arc<dyn ServiceFactory>) -> Self {
        self.hooks.services.push(service);
        self
    }

    pub(crate) fn shard_count(&self) -> u16 {
        match self.shards {
            0 => {
                let cores = std::thread::available_parallelism().map_or(1, Into::into);
                u16::try_from(cores / 2).unwrap_or(SLOTS).clamp(1, SLOTS)
            }
            shards => shards.min(SLOTS),
        }
    }
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address or path cannot be listened on.
    #[error("cannot listen on {place}: {source}")]
    Listen {
        /// Which one.
        place: Place,
        /// What the system says.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] StoreFailure),
    /// A row cannot be understood, so that a session or a message would be lost.
    #[error("cannot recover the row {key}: {source}")]
    Row {
        /// Its key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        source: BadRow,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A durable store without a directory.
    #[error("durability {0} needs a data directory")]
    NoDirectory(Durability),
}

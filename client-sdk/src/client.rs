//! The client: one device's connection, local store and streams.

use crate::chat::{Chat, send_error};
use crate::driver::Driver;
use crate::entry::{Changed, Event, Presence, Receipt, State, TypingChanged};
use crate::error::{ConnectError, NameError, PresenceError, SendError, StoreError};
use crate::hub::{Listener, lock};
use crate::machine::{Command, Config, Machine, Standing};
use crate::messages::Messages;
use crate::options::{ConnectOptions, check_name};
use crate::shared::{Handle, Shared, Watched};
use crate::store::{MemoryStore, Store};
use crate::transport::{Counters, Mqtt, Traffic, Transport};
use crate::writer;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A device of a user, cheap to clone. When the last clone and the last stream and chat are dropped
/// the client closes.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) handle: Arc<Handle>,
}

impl Client {
    /// Opens the local store and begins to connect, and to reconnect for as long as the client lives.
    ///
    /// Does not wait for the broker: everything can be called at once, and happens when it answers.
    /// Watch [`state`](Self::state) or [`events`](Self::events) to know.
    ///
    /// # Errors
    ///
    /// An option is wrong, the store cannot be opened, or there is no tokio runtime.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let counters = Arc::new(Counters::default());
        let transport = Mqtt::new(&options, options.target()?, Arc::clone(&counters))?;
        let store = open_store(&options).await?;
        Self::start(transport, store, options, counters).await
    }

    /// [`connect`](Self::connect) over another transport, with another store.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub async fn connect_with(
        transport: impl Transport,
        store: Arc<dyn Store>,
        options: ConnectOptions,
    ) -> Result<Self, ConnectError> {
        options.check()?;
        Self::start(transport, store, options, Arc::default()).await
    }

    async fn start(
        transport: impl Transport,
        store: Arc<dyn Store>,
        options: ConnectOptions,
        counters: Arc<Counters>,
    ) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        let config = Config {
            user: options.user.clone(),
            backoff_min: options.backoff_min,
            backoff_max: options.backoff_max,
            keep_alive: options.keep_alive,
            keep_alive_max: options.keep_alive_max,
            answer_timeout: options.answer_timeout,
            in_flight_max: options.in_flight_max,
            outbox_sends_max: options.outbox_sends_max,
            outbox_bytes_max: options.outbox_bytes_max,
        };
        let seed = getrandom::u64().unwrap_or_default();
        let loading = Arc::clone(&store);
        let load = move || Machine::load(config, seed, &*loading);
        // The task can only fail by the runtime's end.
        let machine = runtime.spawn_blocking(load).await.map_err(|_| ConnectError::NoRuntime)??;
        let notice = store.notice();
        let (write, written) = mpsc::unbounded_channel();
        let jobs = writer::start(Arc::clone(&store), write).map_err(|source| {
            let path = options.data_dir.clone();
            StoreError::Io { action: "start a thread for", path, source }
        })?;
        let shared = Arc::new(Shared::new(store, counters));
        shared.unanswered.store(machine.unanswered(), Ordering::Relaxed);
        for standing in machine.standings() {
            shared.handle_standing(standing);
        }
        if let Some(notice) = notice {
            shared.events.keep(Event::StoreNotice(notice));
        }
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let handle = Handle {
            shared: Arc::clone(&shared),
            orders,
            user: options.user,
            payload_bytes_max: options.payload_bytes_max,
        };
        runtime.spawn(Driver::new(transport, machine, shared, jobs).run(ordered, written));
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Who this is.
    pub fn user(&self) -> &str {
        &self.handle.user
    }

    /// A chat: `@bob`, `climbing`, `!news`, `~9Zk1`. Asks nothing of the broker.
    ///
    /// # Errors
    ///
    /// The name is not one.
    pub fn chat(&self, name: &str) -> Result<Chat, NameError> {
        Chat::new(Arc::clone(&self.handle), name)
    }

    /// The room that one sits in, for who connected with a link and a code, or was paired.
    ///
    /// # Errors
    ///
    /// None: this name always is one.
    pub fn room(&self) -> Result<Chat, NameError> {
        self.chat("~")
    }

    /// All chats that this device knows, the most recent first: for a list with what is unread.
    pub fn chats(&self) -> Vec<Standing> {
        let mut all: Vec<Standing> = lock(&self.handle.shared.chats).values().cloned().collect();
        all.retain(|standing| standing.chat != crate::wire::NO_CHAT);
        all.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.chat.cmp(&b.chat)));
        all
    }

    /// The entries of every chat that has no stream of its own; see [`Chat::messages`].
    ///
    /// An older stream of this kind ends.
    pub fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.handle), None)
    }

    /// Which chats have changed, for a screen that shows them: each once, however much has changed
    /// since it was last told. What changed is in [`chats`](Self::chats) and [`Chat::page`].
    pub fn changes(&self) -> Changes {
        let listener = self.handle.shared.changes.listen(None);
        Changes { listener, _handle: Arc::clone(&self.handle) }
    }

    /// Ticks of own messages. A slow listener gets the newest of each chat and user.
    pub fn receipts(&self) -> Receipts {
        let listener = self.handle.shared.receipts.listen(None);
        Receipts { listener, _handle: Arc::clone(&self.handle) }
    }

    /// Who types where. A slow listener gets the newest of each chat and user.
    pub fn typing(&self) -> TypingChanges {
        let listener = self.handle.shared.typing.listen(None);
        TypingChanges { listener, _handle: Arc::clone(&self.handle) }
    }

    /// What happens to the client, beginning with how things stand. A slow listener misses the
    /// oldest beyond 1,024.
    pub fn events(&self) -> Events {
        let shared = &self.handle.shared;
        let listener = shared.events.listen(Some(Event::State(self.state())));
        Events { listener, _handle: Arc::clone(&self.handle) }
    }

    /// Where the connection stands.
    pub fn state(&self) -> State {
        self.handle.shared.state.borrow().clone()
    }

    /// Waits until there is a connection.
    ///
    /// # Errors
    ///
    /// The client was closed.
    pub async fn online(&self) -> Result<(), SendError> {
        let mut state = self.handle.shared.state.subscribe();
        let there = |state: &State| matches!(state, State::Online | State::Closed);
        match state.wait_for(there).await.as_deref() {
            Ok(State::Online) => Ok(()),
            _ => Err(SendError::Closed),
        }
    }

    /// Tries at once to connect: the network has changed, or the user asks for it. What connection
    /// there is is made anew. Also ends the rest behind a takeover.
    ///
    /// # Errors
    ///
    /// The client was closed.
    pub async fn reconnect(&self) -> Result<(), SendError> {
        self.handle.tell(Command::NetworkChanged).await.map_err(send_error)
    }

    /// Nobody looks at this device (`true`), or somebody does again.
    ///
    /// # Errors
    ///
    /// The client was closed.
    pub async fn away(&self, away: bool) -> Result<(), SendError> {
        self.handle.tell(Command::Away(away)).await.map_err(send_error)
    }

    /// Whether `user` is there: the present value as soon as the broker says it, then changes.
    ///
    /// # Errors
    ///
    /// The name is not a user's, 256 users are watched already, or the client is closed.
    pub fn presence(&self, user: &str) -> Result<PresenceChanges, PresenceError> {
        check_name("user", user.strip_prefix('~').unwrap_or(user))?;
        let shared = &self.handle.shared;
        if shared.is_closing() {
            return Err(PresenceError::Closed);
        }
        let mut watched = lock(&shared.watched);
        if watched.len() >= WATCHED_MAX && !watched.contains_key(user) {
            return Err(PresenceError::Full { users: watched.len() });
        }
        let Watched { hub, last, .. } = watched.entry(user.to_owned()).or_default();
        let listener = hub.listen(last.clone());
        shared.wake.notify_one();
        Ok(PresenceChanges { listener: Some(listener), handle: Arc::clone(&self.handle) })
    }

    /// How many sends and commands wait for the broker's answer, those of earlier runs included.
    pub fn unanswered(&self) -> usize {
        self.handle.shared.unanswered.load(Ordering::Relaxed)
    }

    /// What went over the connections of this client so far.
    pub fn traffic(&self) -> Traffic {
        self.handle.shared.counters.now()
    }

    /// Writes and acknowledges what is left to, says DISCONNECT, closes the store and waits for all
    /// of it; a broker that does not close the connection in turn costs a second.
    ///
    /// Sends without an answer stay in the outbox.
    pub async fn close(self) {
        self.handle.shared.close();
        let mut ended = self.handle.shared.ended.subscribe();
        // The sender lives in what we hold.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

async fn open_store(options: &ConnectOptions) -> Result<Arc<dyn Store>, ConnectError> {
    if options.in_memory {
        return Ok(Arc::new(MemoryStore::default()));
    }
    #[cfg(feature = "sled")]
    {
        let directory = options.data_dir.clone();
        let open = move || crate::store::SledStore::open(&directory);
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        let opened = runtime.spawn_blocking(open).await;
        Ok(Arc::new(opened.map_err(|_| ConnectError::NoRuntime)??))
    }
    #[cfg(not(feature = "sled"))]
    Err(ConnectError::Option {
        option: "data_dir",
        found: options.data_dir.display().to_string(),
        expected: "the feature sled of tidings-client, in_memory(), or connect_with a store",
    })
}

macro_rules! stream {
    ($(#[$doc:meta])* $name:ident of $item:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            listener: Listener<$item>,
            _handle: Arc<Handle>,
        }

        impl $name {
            /// The next one; none when the client was closed.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future loses nothing.
            pub async fn next(&mut self) -> Option<$item> {
                poll_fn(|cx| Pin::new(&mut self.listener).poll_next(cx)).await
            }
        }

        impl Stream for $name {
            type Item = $item;

            fn poll_next(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<$item>> {
                Pin::new(&mut self.listener).poll_next(cx)
            }
        }
    };
}

stream! {
    /// See [`Client::receipts`].
    Receipts of Receipt
}

stream! {
    /// See [`Client::events`].
    Events of Event
}

stream! {
    /// See [`Client::changes`].
    Changes of Changed
}

stream! {
    /// See [`Client::typing`].
    TypingChanges of TypingChanged
}

/// See [`Client::presence`].
#[derive(Debug)]
pub struct PresenceChanges {
    /// None only while it is being dropped.
    listener: Option<Listener<Presence>>,
    handle: Arc<Handle>,
}

impl PresenceChanges {
    /// The next change; none when the client was closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Presence> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for PresenceChanges {
    type Item = Presence;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Presence>> {
        let Some(listener) = &mut self.listener else { return Poll::Ready(None) };
        Pin::new(listener).poll_next(cx)
    }
}

/// The last stream of a user ends the subscription.
impl Drop for PresenceChanges {
    fn drop(&mut self) {
        self.listener = None;
        self.handle.shared.wake.notify_one();
    }
}

/// Orders that wait for the task at once; further ones wait for those.
const ORDERS_MAX: usize = 256;

/// Users whose presence may be watched at once.
const WATCHED_MAX: usize = 256;

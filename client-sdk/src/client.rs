//! The client: one device's connection, outbox and streams.

use crate::chat::{Chat, Messages};
use crate::engine::Engine;
use crate::entry::{Event, Presence, Receipt};
use crate::error::{ConnectError, NameError, OutboxError, PresenceError};
use crate::hub::{Listener, lock};
use crate::options::{ConnectOptions, check_name};
use crate::outbox::Outbox;
use crate::pending::Pending;
use crate::shared::{Handle, Shared, Watched};
use crate::transport::{Rumqttc, Transport};
use crate::writer::{self, Accepted};
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::sync::{Semaphore, mpsc};

/// A device of a user, cheap to clone. When the last clone and the last stream and chat are dropped
/// the client closes.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

impl Client {
    /// Opens the outbox and begins to connect, and to reconnect for as long as the client lives.
    ///
    /// Does not wait for the broker: sends go to the outbox until it answers. Watch
    /// [`events`](Self::events) to know.
    ///
    /// # Errors
    ///
    /// An option is wrong, the outbox cannot be opened, or there is no tokio runtime.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let (host, port) = options.host_and_port()?;
        let transport = Rumqttc::new(&options, host, port);
        Self::connect_with(transport, options).await
    }

    /// [`connect`](Self::connect) over another transport.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub async fn connect_with(
        transport: impl Transport,
        options: ConnectOptions,
    ) -> Result<Self, ConnectError> {
        options.check()?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        let opening = options.clone();
        let opened = runtime
            .spawn_blocking(move || {
                let (sends, bytes) = (opening.outbox_sends_max, opening.outbox_bytes_max);
                Outbox::open(&opening.data_dir, sends, bytes)
            })
            .await;
        // The task can only fail by the runtime's end.
        let (outbox, damage) = opened.map_err(|_| ConnectError::NoRuntime)??;
        let mut pending = Pending::default();
        for send in outbox.unanswered() {
            pending.insert(Accepted { send: send.clone(), answer: None });
        }
        let shared = Arc::new(Shared::new(&options, damage));
        shared.unanswered.store(pending.len(), Ordering::Relaxed);
        let (accept, accepted) = mpsc::unbounded_channel();
        let jobs = writer::start(outbox, accept).map_err(|source| {
            let path = options.data_dir.clone();
            OutboxError::Io { action: "start a thread for", path, source }
        })?;
        let handle = Handle {
            shared: Arc::clone(&shared),
            jobs: jobs.clone(),
            appends: Semaphore::new(APPENDS_MAX),
            payload_bytes_max: options.payload_bytes_max,
        };
        let engine = Engine { transport, options, shared, accepted, jobs, pending, next_token: 1 };
        runtime.spawn(engine.run());
        Ok(Self { handle: Arc::new(handle) })
    }

    /// A chat: `@bob`, `climbing`, `~room`, `!news`. Asks nothing of the broker.
    ///
    /// # Errors
    ///
    /// The name is not one.
    pub fn chat(&self, name: &str) -> Result<Chat, NameError> {
        Chat::new(Arc::clone(&self.handle), name)
    }

    /// The entries of every chat that has no stream of its own; see [`Chat::messages`].
    ///
    /// An older stream of this kind ends.
    pub fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.handle), None)
    }

    /// Ticks of own messages. A slow listener gets the newest of each chat and user.
    pub fn receipts(&self) -> Receipts {
        let listener = self.handle.shared.receipts.listen(None);
        Receipts { listener, _handle: Arc::clone(&self.handle) }
    }

    /// What happens to the client, beginning with how things stand. A slow listener misses the
    /// oldest beyond 1,024.
    pub fn events(&self) -> Events {
        let state = lock(&self.handle.shared.state);
        let damage = self.handle.shared.damage.clone().map(Event::OutboxDamaged);
        let first = damage.into_iter().chain(state.clone());
        let listener = self.handle.shared.events.listen(first);
        Events { listener, _handle: Arc::clone(&self.handle) }
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
            watched.retain(|_, watched| !watched.hub.is_deserted());
            if watched.len() >= WATCHED_MAX {
                return Err(PresenceError::Full { users: watched.len() });
            }
        }
        let Watched { hub, last } = watched.entry(user.to_owned()).or_default();
        let listener = hub.listen(last.clone());
        shared.wake.notify_one();
        Ok(PresenceChanges { listener: Some(listener), handle: Arc::clone(&self.handle) })
    }

    /// How many sends wait for the broker's answer, those of earlier runs included.
    pub fn unanswered(&self) -> usize {
        self.handle.shared.unanswered.load(Ordering::Relaxed)
    }

    /// Acknowledges what was taken, says DISCONNECT, closes the outbox and waits for all of it; a
    /// broker that does not close the connection in turn costs a second.
    ///
    /// Sends without an answer stay in the outbox.
    pub async fn close(self) {
        self.handle.shared.close();
        let mut ended = self.handle.shared.ended.subscribe();
        // The sender lives in what we hold.
        let _ = ended.wait_for(|ended| *ended).await;
    }
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

/// Sends that wait for the disk at once; further ones wait for those.
const APPENDS_MAX: usize = 256;

/// Users whose presence may be watched at once.
const WATCHED_MAX: usize = 256;

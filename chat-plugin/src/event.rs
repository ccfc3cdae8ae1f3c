//! What the program around a broker hears of chat, from a queue with an end.
//!
//! Chat never waits for who listens. What finds the queue full is lost, and counted: the next thing
//! that is heard is how much that was.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidings_core::hook::Host;
use tidings_core::metric::Metric;
use tidings_core::time::Time;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::topics::Place;

/// Which chat, as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChatRef {
    /// The chat of two users, whatever their order; twice the same: notes to self.
    Direct(Arc<str>, Arc<str>),
    /// A group; with `!` in front a channel, with `~` a room.
    Named(Arc<str>),
}

impl ChatRef {
    /// The chat of two users.
    pub fn direct(one: &str, other: &str) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self::Direct(low.into(), high.into())
    }

    /// A group, a channel or a room.
    pub fn named(name: &str) -> Self {
        Self::Named(name.into())
    }

    pub(crate) fn of(place: &Place) -> Self {
        match (place.named(), place.members()) {
            (Some(name), _) => Self::Named(Arc::clone(name)),
            (None, [low, high]) => Self::Direct(Arc::clone(low), Arc::clone(high)),
            (None, [one, ..]) => Self::Direct(Arc::clone(one), Arc::clone(one)),
            (None, []) => Self::named(""),
        }
    }
}

impl fmt::Display for ChatRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(one, other) => write!(f, "@{one}:@{other}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Something that has happened in a chat. Each is told once it is safe: a crash takes none back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatEvent {
    /// An entry is in a chat's log.
    Stored(StoredEntry),
    /// A user has everything up to this entry on a device.
    Delivered {
        /// The chat.
        chat: ChatRef,
        /// The user.
        user: Arc<str>,
        /// The entry.
        seq: u64,
    },
    /// A user has read everything up to this entry.
    Read {
        /// The chat.
        chat: ChatRef,
        /// The user.
        user: Arc<str>,
        /// The entry.
        seq: u64,
    },
    /// There is a message for a user of whom no device is connected: a push may be due. Told in
    /// chats of up to 1,024 members.
    Offline {
        /// The chat.
        chat: ChatRef,
        /// The user.
        user: Arc<str>,
        /// The message.
        seq: u64,
        /// How many entries of this chat no device of the user has.
        depth: u64,
    },
    /// So many events were lost here, because the queue was full.
    Lost {
        /// How many.
        count: u64,
    },
}

/// An entry of a chat's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredEntry {
    /// The chat.
    pub chat: ChatRef,
    /// Its place in the log.
    pub seq: u64,
    /// When the chat took it.
    pub time: Time,
    /// Who sent it.
    pub from: Arc<str>,
    /// What it is, if it is no message: the `kind` of the protocol.
    pub kind: Option<&'static str>,
    /// Its Content Type.
    pub content_type: Option<Box<str>>,
    /// What was sent.
    pub payload: Bytes,
}

/// A part of a chat's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPage {
    /// What is there, in order; not what is gone, or was deleted for all.
    pub entries: Vec<StoredEntry>,
    /// The newest entry of the chat.
    pub last: u64,
    /// From where on there may be more.
    pub next: Option<u64>,
}

/// Where the events of all chats arrive: see [`crate::ChatHandle::events`].
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<ChatEvent>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// The next event; `None` when the broker has stopped.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<ChatEvent> {
        match self.lost() {
            Some(lost) => Some(lost),
            None => self.queue.recv().await,
        }
    }

    /// The same, blocking the thread. Not to be called within an asynchronous runtime.
    pub fn blocking_next(&mut self) -> Option<ChatEvent> {
        self.lost().or_else(|| self.queue.blocking_recv())
    }

    /// The next event, if there is one by now.
    pub fn try_next(&mut self) -> Option<ChatEvent> {
        self.lost().or_else(|| self.queue.try_recv().ok())
    }

    fn lost(&self) -> Option<ChatEvent> {
        let count = self.lost.swap(0, Ordering::Relaxed);
        (count > 0).then_some(ChatEvent::Lost { count })
    }
}

/// The other end of [`Events`].
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    queue: mpsc::Sender<ChatEvent>,
    lost: Arc<AtomicU64>,
}

impl Listener {
    /// A queue of so many events, and its other end.
    pub(crate) fn new(capacity: usize) -> (Self, Events) {
        let (sender, queue) = mpsc::channel(capacity.max(1));
        let lost = Arc::new(AtomicU64::new(0));
        (Self { queue: sender, lost: Arc::clone(&lost) }, Events { queue, lost })
    }
}

/// Those who listen, as one side of a shard knows them.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<Listener>);

impl Listeners {
    /// One more.
    pub(crate) fn add(&mut self, listener: Listener) {
        self.0.retain(|known| !known.queue.is_closed());
        self.0.push(listener);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells all of them.
    pub(crate) fn tell(&mut self, event: &ChatEvent, host: &mut dyn Host) {
        self.0.retain(|listener| match listener.queue.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                listener.lost.fetch_add(1, Ordering::Relaxed);
                host.count(Metric::EventsLost);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        });
    }
}

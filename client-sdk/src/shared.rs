//! What the handles of a client and its task have in common.
//!
//! The application's side writes here what it wants, each part bounded, and wakes the task; the
//! task writes here what has come. Neither waits for the other with a lock held.

use crate::entry::{Event, Presence, Receipt};
use crate::hub::{Hub, lock};
use crate::inbox::Inbox;
use crate::options::ConnectOptions;
use crate::outbox::OutboxDamage;
use crate::writer::Job;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore, mpsc, watch};

/// What every handle holds; its end is the client's end.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
    /// Bounds the sends that wait for the disk.
    pub(crate) appends: Semaphore,
    pub(crate) payload_bytes_max: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What the handles and the task have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Told to everyone who listens to events, however late.
    pub(crate) damage: Option<OutboxDamage>,
    pub(crate) inbox: Inbox,
    pub(crate) events: Hub<Event>,
    pub(crate) receipts: Hub<Receipt>,
    pub(crate) watched: Mutex<BTreeMap<String, Watched>>,
    pub(crate) reads: Mutex<BTreeMap<String, u64>>,
    /// The last of [`Event::Connected`] and [`Event::Disconnected`].
    pub(crate) state: Mutex<Option<Event>>,
    pub(crate) unanswered: AtomicUsize,
    pub(crate) closing: AtomicBool,
    /// Something of the above changed.
    pub(crate) wake: Notify,
    /// Turns true when the task has ended and the outbox is closed.
    pub(crate) ended: watch::Sender<bool>,
}

/// A user whose presence is wanted.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) hub: Hub<Presence>,
    pub(crate) last: Option<Presence>,
}

impl Shared {
    pub(crate) fn new(options: &ConnectOptions, damage: Option<OutboxDamage>) -> Self {
        Self {
            damage,
            inbox: Inbox::new(options.receive_maximum),
            events: Hub::default(),
            receipts: Hub::default(),
            watched: Mutex::default(),
            reads: Mutex::default(),
            state: Mutex::default(),
            unanswered: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            wake: Notify::new(),
            ended: watch::Sender::new(false),
        }
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Ends every stream, after what it has not heard yet.
    pub(crate) fn end(&self) {
        self.inbox.close();
        self.events.close();
        self.receipts.close();
        for watched in lock(&self.watched).values() {
            watched.hub.close();
        }
        self.ended.send_replace(true);
    }
}

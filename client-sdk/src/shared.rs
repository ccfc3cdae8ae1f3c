//! What the handles of a client and its task have in common.
//!
//! The application's side gives orders, of which so many may wait; the task writes here what has
//! come. Neither waits for the other with a lock held.

use crate::entry::{Changed, Event, Presence, Receipt, State, TypingChanged};
use crate::hub::{Hub, lock};
use crate::inbox::Inbox;
use crate::machine::{Answer, Command, Failed, Standing};
use crate::store::Store;
use crate::transport::Counters;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// How the broker's answer to an errand reaches who waits for it.
pub(crate) type Outcome = oneshot::Sender<Result<Option<u64>, crate::error::Refusal>>;

/// A command, and who wants to know.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) answer: Option<oneshot::Sender<Result<Answer, Failed>>>,
    pub(crate) outcome: Option<Outcome>,
}

/// What every handle holds; its end is the client's end.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) user: String,
    pub(crate) payload_bytes_max: usize,
}

impl Handle {
    /// Gives an order and waits for its answer.
    pub(crate) async fn ask(&self, command: Command) -> Result<Answer, Failed> {
        let (answer, answered) = oneshot::channel();
        self.order(Order { command, answer: Some(answer), outcome: None }).await?;
        answered.await.unwrap_or(Err(Failed::Closed))
    }

    /// Gives an order that has no answer.
    pub(crate) async fn tell(&self, command: Command) -> Result<(), Failed> {
        self.order(Order { command, answer: None, outcome: None }).await
    }

    pub(crate) async fn order(&self, order: Order) -> Result<(), Failed> {
        if self.shared.is_closing() {
            return Err(Failed::Closed);
        }
        self.orders.send(order).await.map_err(|_| Failed::Closed)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What the handles and the task have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// None once the client has ended.
    pub(crate) store: Mutex<Option<Arc<dyn Store>>>,
    pub(crate) chats: Mutex<BTreeMap<String, Standing>>,
    pub(crate) inbox: Inbox,
    pub(crate) events: Hub<Event>,
    pub(crate) changes: Hub<Changed>,
    pub(crate) receipts: Hub<Receipt>,
    pub(crate) typing: Hub<TypingChanged>,
    pub(crate) watched: Mutex<BTreeMap<String, Watched>>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) unanswered: AtomicUsize,
    pub(crate) counters: Arc<Counters>,
    pub(crate) closing: AtomicBool,
    /// Something of the above is to be looked at.
    pub(crate) wake: Notify,
    /// Turns true when the task has ended and the store is closed.
    pub(crate) ended: watch::Sender<bool>,
}

/// A user whose presence is wanted.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) hub: Hub<Presence>,
    pub(crate) last: Option<Presence>,
    /// The machine knows.
    pub(crate) told: bool,
}

impl Shared {
    pub(crate) fn new(store: Arc<dyn Store>, counters: Arc<Counters>) -> Self {
        Self {
            store: Mutex::new(Some(store)),
            chats: Mutex::default(),
            inbox: Inbox::default(),
            events: Hub::default(),
            changes: Hub::default(),
            receipts: Hub::default(),
            typing: Hub::default(),
            watched: Mutex::default(),
            state: watch::Sender::new(State::Connecting),
            unanswered: AtomicUsize::new(0),
            counters,
            closing: AtomicBool::new(false),
            wake: Notify::new(),
            ended: watch::Sender::new(false),
        }
    }

    pub(crate) fn store(&self) -> Option<Arc<dyn Store>> {
        lock(&self.store).clone()
    }

    pub(crate) fn handle_standing(&self, standing: Standing) {
        self.inbox.handle_standing(&standing);
        let chat = standing.chat.clone();
        lock(&self.chats).insert(chat.clone(), standing);
        self.changes.tell(&Changed { chat });
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
        *lock(&self.store) = None;
        self.inbox.close();
        self.events.close();
        self.changes.close();
        self.receipts.close();
        self.typing.close();
        for watched in lock(&self.watched).values() {
            watched.hub.close();
        }
        self.state.send_replace(State::Closed);
        self.ended.send_replace(true);
    }
}

//! Entries between the broker and the application, and when they are acknowledged.
//!
//! An entry is acknowledged when the application is done with it: when it asks its stream for the
//! next one. Until then it counts against the Receive Maximum, so a slow application slows the
//! broker down and costs no memory. What was yielded but not done with is given again, after a crash
//! by the broker, to a new stream by this inbox.
//!
//! A new connection makes every waiting entry the broker's to send again, so they are forgotten
//! here; what was taken meanwhile is known by its seq and dropped when it comes a second time.

use crate::entry::Entry;
use crate::hub::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Which entries a stream wants: those of a chat, or of every chat without a stream of its own.
pub(crate) type Claim = Option<String>;

#[derive(Debug)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
    receive_maximum: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// By order of arrival; at most Receive Maximum.
    waiting: BTreeMap<u64, Held>,
    /// Yielded and not done with: at most one a stream.
    given: BTreeMap<u64, Given>,
    /// Highest seq received of each chat.
    highest: BTreeMap<String, u64>,
    claims: BTreeMap<Claim, Claimed>,
    /// Packet numbers to acknowledge on the present connection.
    due: Vec<u16>,
    connection: u64,
    next_arrival: u64,
    next_stream: u64,
    closed: bool,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    /// Connection and packet number to acknowledge.
    packet: Option<(u64, u16)>,
}

#[derive(Debug)]
struct Given {
    held: Held,
    stream: u64,
}

#[derive(Debug)]
struct Claimed {
    stream: u64,
    waker: Option<Waker>,
}

/// What became of a received entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It waits for its stream.
    Waiting,
    /// It waits, and there is no stream that wants it.
    Unclaimed,
    /// The application had it already.
    Duplicate,
    /// There is no room: the broker passed over the Receive Maximum.
    Full,
}

impl Inbox {
    pub(crate) fn new(receive_maximum: u16) -> Self {
        Self { inner: Mutex::default(), receive_maximum: usize::from(receive_maximum) }
    }

    /// A new connection: the broker sends again whatever was not acknowledged.
    pub(crate) fn handle_connected(&self) {
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        inner.connection += 1;
        inner.due.clear();
        // Entries of a chat arrive in order, so the first that waits is the lowest.
        while let Some((_, held)) = inner.waiting.pop_last() {
            inner.highest.insert(held.entry.chat, held.entry.seq.saturating_sub(1));
        }
    }

    pub(crate) fn handle_entry(&self, entry: Entry, number: Option<u16>) -> Received {
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        let packet = number.map(|number| (inner.connection, number));
        let again = inner.given.values_mut().map(|given| &mut given.held);
        let mut again = again.chain(inner.waiting.values_mut());
        let same = |held: &&mut Held| held.entry.chat == entry.chat && held.entry.seq == entry.seq;
        if let Some(held) = again.find(same) {
            held.packet = packet;
            return Received::Duplicate;
        }
        if inner.highest.get(&entry.chat).is_some_and(|highest| entry.seq <= *highest) {
            inner.due.extend(number);
            return Received::Duplicate;
        }
        if inner.waiting.len() >= self.receive_maximum {
            return Received::Full;
        }
        inner.remember(&entry);
        let chat = Some(entry.chat.clone());
        inner.next_arrival += 1;
        inner.waiting.insert(inner.next_arrival, Held { entry, packet });
        if inner.wake(&chat) || inner.wake(&None) { Received::Waiting } else { Received::Unclaimed }
    }

    /// A chat is over; one of the same name would begin at seq 1 again.
    pub(crate) fn handle_ended(&self, chat: &str) {
        lock(&self.inner).highest.remove(chat);
    }

    /// Packet numbers to acknowledge now, in the order of taking.
    pub(crate) fn take_due(&self) -> Vec<u16> {
        std::mem::take(&mut lock(&self.inner).due)
    }

    /// Streams end once nothing waits for them.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        for claimed in inner.claims.values_mut() {
            if let Some(waker) = claimed.waker.take() {
                waker.wake();
            }
        }
    }

    /// Gives a claim to a new stream; an older stream of the same claim ends.
    pub(crate) fn claim(&self, claim: &Claim) -> u64 {
        let mut inner = lock(&self.inner);
        inner.next_stream += 1;
        let stream = inner.next_stream;
        let older = inner.claims.insert(claim.clone(), Claimed { stream, waker: None });
        let older_stream = older.as_ref().map(|older| older.stream);
        // Also from the stream of every chat, when a chat gets one of its own: order demands it.
        inner.give_back(|given| {
            Some(given.stream) == older_stream || Some(&given.held.entry.chat) == claim.as_ref()
        });
        if let Some(waker) = older.and_then(|older| older.waker) {
            waker.wake();
        }
        stream
    }

    /// Ends a stream; what it has not taken is there for the next one.
    pub(crate) fn release(&self, claim: &Claim, stream: u64) {
        let mut inner = lock(&self.inner);
        inner.give_back(|given| given.stream == stream);
        if inner.claims.get(claim).is_some_and(|claimed| claimed.stream == stream) {
            inner.claims.remove(claim);
        }
        inner.wake(&None);
    }

    /// Acknowledges what the stream holds; wakes the connection if there is something to send.
    pub(crate) fn taken(&self, stream: u64, wake: &Notify) {
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        let Some(arrival) =
            inner.given.iter().find(|(_, given)| given.stream == stream).map(|(at, _)| *at)
        else {
            return;
        };
        let packet = inner.given.remove(&arrival).and_then(|given| given.held.packet);
        if let Some((connection, number)) = packet
            && connection == inner.connection
        {
            inner.due.push(number);
            wake.notify_one();
        }
    }

    /// The next entry of a stream, which holds none.
    pub(crate) fn poll_give(
        &self,
        claim: &Claim,
        stream: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Entry>> {
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        if inner.claims.get(claim).is_none_or(|claimed| claimed.stream != stream) {
            return Poll::Ready(None);
        }
        let wanted = |held: &Held| match claim {
            Some(chat) => held.entry.chat == *chat,
            None => !inner.claims.contains_key(&Some(held.entry.chat.clone())),
        };
        let next = inner.waiting.iter().find(|(_, held)| wanted(held)).map(|(at, _)| *at);
        if let Some((arrival, held)) = next.and_then(|at| inner.waiting.remove_entry(&at)) {
            let entry = held.entry.clone();
            inner.given.insert(arrival, Given { held, stream });
            return Poll::Ready(Some(entry));
        }
        if inner.closed {
            return Poll::Ready(None);
        }
        if let Some(claimed) = inner.claims.get_mut(claim) {
            claimed.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Inner {
    fn remember(&mut self, entry: &Entry) {
        // Forgetting a chat means at worst that an entry is given twice.
        if self.highest.len() >= CHATS_MAX && !self.highest.contains_key(&entry.chat) {
            self.highest.pop_first();
        }
        self.highest.insert(entry.chat.clone(), entry.seq);
    }

    /// Whether there is such a claim; wakes its stream.
    fn wake(&mut self, claim: &Claim) -> bool {
        let Some(claimed) = self.claims.get_mut(claim) else { return false };
        if let Some(waker) = claimed.waker.take() {
            waker.wake();
        }
        true
    }

    fn give_back(&mut self, which: impl Fn(&Given) -> bool) {
        let back: Vec<u64> =
            self.given.iter().filter(|(_, given)| which(given)).map(|(at, _)| *at).collect();
        for arrival in back {
            if let Some(given) = self.given.remove(&arrival) {
                self.waiting.insert(arrival, given.held);
            }
        }
    }
}

/// Chats whose highest seq is remembered.
const CHATS_MAX: usize = 16_384;

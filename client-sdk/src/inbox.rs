//! Which entries the application has been given, and which it is done with.
//!
//! Entries wait in the store, not here: a slow application costs no memory and holds up nobody. The
//! application is given what is in order, from where it left off, also over a crash: at least once.

use crate::entry::Entry;
use crate::hub::lock;
use crate::machine::Standing;
use crate::store::{Store, rows};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Which entries a stream wants: those of a chat, or of every chat without a stream of its own.
pub(crate) type Claim = Option<String>;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    places: BTreeMap<String, Place>,
    /// Chats with something to give, in the order in which it came.
    queue: VecDeque<String>,
    queued: BTreeSet<String>,
    claims: BTreeMap<Claim, Claimed>,
    /// What a stream holds and is not done with.
    given: BTreeMap<u64, (String, u64)>,
    /// What the machine is to be told.
    taken: BTreeMap<String, u64>,
    next_stream: u64,
    closed: bool,
}

#[derive(Debug)]
struct Place {
    in_order: u64,
    given: u64,
}

#[derive(Debug)]
struct Claimed {
    stream: u64,
    waker: Option<Waker>,
}

impl Inbox {
    /// A chat has come further.
    pub(crate) fn handle_standing(&self, standing: &Standing) {
        let mut inner = lock(&self.inner);
        let place = Place { in_order: 0, given: standing.taken };
        let place = inner.places.entry(standing.chat.clone()).or_insert(place);
        place.given = place.given.max(standing.taken);
        if standing.in_order > place.in_order {
            place.in_order = standing.in_order;
            inner.queue(&standing.chat);
        }
    }

    /// How far the application is, by chat: for the machine, once.
    pub(crate) fn take_taken(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut lock(&self.inner).taken)
    }

    /// Streams end.
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
        inner.give_back(|of, chat| Some(of) == older_stream || Some(chat) == claim.as_ref());
        if let Some(waker) = older.and_then(|older| older.waker) {
            waker.wake();
        }
        stream
    }

    /// Ends a stream; what it is not done with is there for the next one.
    pub(crate) fn release(&self, claim: &Claim, stream: u64) {
        let mut inner = lock(&self.inner);
        inner.give_back(|of, _| of == stream);
        if inner.claims.get(claim).is_some_and(|claimed| claimed.stream == stream) {
            inner.claims.remove(claim);
        }
        inner.wake(&None);
    }

    /// The stream is done with what it holds.
    pub(crate) fn taken(&self, stream: u64, wake: &Notify) {
        let mut inner = lock(&self.inner);
        if let Some((chat, seq)) = inner.given.remove(&stream) {
            inner.taken.insert(chat, seq);
            wake.notify_one();
        }
    }

    /// The next entry of a stream, which holds none.
    pub(crate) fn poll_give(
        &self,
        store: Option<&Arc<dyn Store>>,
        claim: &Claim,
        stream: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Entry>> {
        let mut inner = lock(&self.inner);
        let is_current = inner.claims.get(claim).is_some_and(|claimed| claimed.stream == stream);
        let Some(store) = store.filter(|_| is_current && !inner.closed) else {
            return Poll::Ready(None);
        };
        while let Some(chat) = inner.next(claim) {
            // A store that cannot be read ends the stream: that it failed is told as an event.
            let Ok(entry) = inner.read(&**store, &chat) else { return Poll::Ready(None) };
            if let Some(entry) = entry {
                inner.given.insert(stream, (chat.clone(), entry.seq));
                inner.queue(&chat);
                return Poll::Ready(Some(entry));
            }
        }
        if let Some(claimed) = inner.claims.get_mut(claim) {
            claimed.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Inner {
    /// A chat with something to give, taken off the queue.
    fn next(&mut self, claim: &Claim) -> Option<String> {
        let wanted = |chat: &String| match claim {
            Some(claimed) => chat == claimed,
            None => !self.claims.contains_key(&Some(chat.clone())),
        };
        let at = self.queue.iter().position(wanted)?;
        let chat = self.queue.remove(at)?;
        self.queued.remove(&chat);
        Some(chat)
    }

    /// The next entry of a chat that this device did not send itself.
    fn read(
        &mut self,
        store: &dyn Store,
        chat: &str,
    ) -> Result<Option<Entry>, crate::error::StoreError> {
        let Some(place) = self.places.get_mut(chat) else { return Ok(None) };
        while place.given < place.in_order {
            let (from, to) = (place.given + 1, place.in_order);
            let entries = rows::entries(store, chat, from, to, false, PAGE)?;
            let whole = entries.len() < PAGE;
            let last = entries.last().map_or(to, |entry| entry.seq);
            if let Some(entry) = entries.into_iter().find(|entry| !entry.own) {
                place.given = entry.seq;
                return Ok(Some(entry));
            }
            place.given = if whole { to } else { last };
            self.taken.insert(chat.to_owned(), place.given);
        }
        Ok(None)
    }

    fn queue(&mut self, chat: &str) {
        let more = self.places.get(chat).is_some_and(|place| place.given < place.in_order);
        if more && self.queued.insert(chat.to_owned()) {
            self.queue.push_back(chat.to_owned());
        }
        if more && !self.wake(&Some(chat.to_owned())) {
            self.wake(&None);
        }
    }

    /// Whether there is such a claim; wakes its stream.
    fn wake(&mut self, claim: &Claim) -> bool {
        let Some(claimed) = self.claims.get_mut(claim) else { return false };
        if let Some(waker) = claimed.waker.take() {
            waker.wake();
        }
        true
    }

    fn give_back(&mut self, which: impl Fn(u64, &String) -> bool) {
        let back: Vec<u64> = self
            .given
            .iter()
            .filter(|(stream, (chat, _))| which(**stream, chat))
            .map(|(stream, _)| *stream)
            .collect();
        for stream in back {
            if let Some((chat, seq)) = self.given.remove(&stream) {
                if let Some(place) = self.places.get_mut(&chat) {
                    place.given = place.given.min(seq.saturating_sub(1));
                }
                self.queue(&chat);
            }
        }
    }
}

/// Rows that are read at a time, where own entries lie between those of others.
const PAGE: usize = 16;

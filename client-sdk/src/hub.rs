//! Tells every listener, and lets none of them hold memory: a slow listener gets the newest.
//!
//! For what is state (ticks, presence) a newer value takes the place of an older one of the same
//! thing, so nothing is missed but what no longer holds. For events the oldest go first.

use futures_core::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// Something listeners can be told.
pub(crate) trait Tell: Clone {
    /// Takes `newer` in, if it is about the same thing.
    fn merge(&mut self, newer: &Self) -> bool;
}

/// Everyone who listens.
#[derive(Debug)]
pub(crate) struct Hub<T> {
    listeners: Mutex<Listeners<T>>,
}

#[derive(Debug)]
struct Listeners<T> {
    slots: Vec<Weak<Mutex<Slot<T>>>>,
    /// Told to everyone who listens, however late.
    kept: Option<T>,
    closed: bool,
}

#[derive(Debug)]
struct Slot<T> {
    waiting: VecDeque<T>,
    waker: Option<Waker>,
    closed: bool,
}

impl<T> Default for Hub<T> {
    fn default() -> Self {
        Self { listeners: Mutex::new(Listeners { slots: Vec::new(), kept: None, closed: false }) }
    }
}

impl<T: Tell> Hub<T> {
    pub(crate) fn tell(&self, value: &T) {
        lock(&self.listeners).slots.retain(|slot| {
            let Some(slot) = slot.upgrade() else { return false };
            lock(&slot).push(value);
            true
        });
    }

    /// Tells everyone who listens from now on first of all.
    pub(crate) fn keep(&self, value: T) {
        lock(&self.listeners).kept = Some(value);
    }

    /// A listener that hears `first`, then what is told from now on.
    pub(crate) fn listen(&self, first: impl IntoIterator<Item = T>) -> Listener<T> {
        let mut listeners = lock(&self.listeners);
        let waiting = listeners.kept.iter().cloned().chain(first).collect();
        let slot = Slot { waiting, waker: None, closed: listeners.closed };
        let slot = Arc::new(Mutex::new(slot));
        listeners.slots.retain(|slot| slot.strong_count() > 0);
        listeners.slots.push(Arc::downgrade(&slot));
        Listener { slot }
    }

    pub(crate) fn is_deserted(&self) -> bool {
        lock(&self.listeners).slots.iter().all(|slot| slot.strong_count() == 0)
    }

    /// Ends every listener after what it has not heard yet.
    pub(crate) fn close(&self) {
        let mut listeners = lock(&self.listeners);
        listeners.closed = true;
        for slot in listeners.slots.drain(..).filter_map(|slot| slot.upgrade()) {
            let mut slot = lock(&slot);
            slot.closed = true;
            slot.wake();
        }
    }
}

impl<T: Tell> Slot<T> {
    fn push(&mut self, value: &T) {
        if !self.waiting.iter_mut().any(|waiting| waiting.merge(value)) {
            if self.waiting.len() >= WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(value.clone());
        }
        self.wake();
    }
}

impl<T> Slot<T> {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One who listens.
#[derive(Debug)]
pub(crate) struct Listener<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Stream for Listener<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = lock(&self.slot);
        if let Some(value) = slot.waiting.pop_front() {
            return Poll::Ready(Some(value));
        }
        if slot.closed {
            return Poll::Ready(None);
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A panic elsewhere leaves nothing half-done behind these locks: every change is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values that wait for one listener.
const WAITING_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Level(&'static str, u32);

    impl Tell for Level {
        fn merge(&mut self, newer: &Self) -> bool {
            let same = self.0 == newer.0;
            if same {
                self.1 = newer.1;
            }
            same
        }
    }

    fn next<T: Tell>(listener: &mut Listener<T>) -> Poll<Option<T>> {
        Pin::new(listener).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn slow_listener_hears_the_newest_of_each_thing() {
        let hub = Hub::default();
        let mut slow = hub.listen(None);
        for level in 0..100_000 {
            hub.tell(&Level("a", level));
        }
        hub.tell(&Level("b", 1));
        assert_eq!(next(&mut slow), Poll::Ready(Some(Level("a", 99_999))));
        assert_eq!(next(&mut slow), Poll::Ready(Some(Level("b", 1))));
        assert_eq!(next(&mut slow), Poll::Pending);
    }

    #[test]
    fn closed_hub_ends_its_listeners_after_the_last_value() {
        let hub = Hub::default();
        let mut listener = hub.listen(Some(Level("a", 1)));
        hub.close();
        assert_eq!(next(&mut listener), Poll::Ready(Some(Level("a", 1))));
        assert_eq!(next(&mut listener), Poll::Ready(None));
        assert_eq!(next(&mut hub.listen(None)), Poll::Ready(None));
    }

    #[test]
    fn dropped_listener_is_forgotten() {
        let hub = Hub::<Level>::default();
        let listener = hub.listen(None);
        assert!(!hub.is_deserted());
        drop(listener);
        assert!(hub.is_deserted());
    }
}

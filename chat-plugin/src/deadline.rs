//! What is due when: the timers of one shard, soonest first.
//!
//! A timer is never cancelled. Whoever sets one looks, when it fires, whether there is still
//! something to do, and sets at most one per purpose: that keeps the list as short as the state.

use std::collections::BTreeMap;

use tidings_core::time::Time;

/// Timers in the order of their time, and of being set where that is the same.
#[derive(Debug)]
pub(crate) struct Deadlines<T> {
    timers: BTreeMap<(Time, u64), T>,
    serial: u64,
}

impl<T> Deadlines<T> {
    pub(crate) const fn new() -> Self {
        Self { timers: BTreeMap::new(), serial: 0 }
    }

    /// Sets a timer.
    pub(crate) fn set(&mut self, at: Time, what: T) {
        self.serial += 1;
        self.timers.insert((at, self.serial), what);
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes out one that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<T> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_before_their_time() {
        let mut timers = Deadlines::new();
        timers.set(Time::from_millis(20), 'b');
        timers.set(Time::from_millis(10), 'a');
        timers.set(Time::from_millis(20), 'c');
        assert_eq!(timers.next(), Some(Time::from_millis(10)));
        assert_eq!(timers.pop(Time::from_millis(9)), None);
        assert_eq!(timers.pop(Time::from_millis(20)), Some('a'));
        assert_eq!(timers.pop(Time::from_millis(20)), Some('b'));
        assert_eq!(timers.pop(Time::from_millis(20)), Some('c'));
        assert_eq!((timers.pop(Time::NEVER), timers.next()), (None, None));
    }
}

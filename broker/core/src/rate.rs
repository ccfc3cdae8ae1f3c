//! Token buckets: how often something may happen, with a burst before it counts.
//!
//! A [`Bucket`] is one number, the moment at which it is full again: eight bytes for each key, no
//! timer, and one that has not been used for a while is like a new one.

use std::time::Duration;

use crate::time::Time;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What one event costs, in microseconds: never zero.
    cost: u64,
    burst: u64,
}

impl Rate {
    /// `count` times within `within`, and `burst` times at once. `None` if `count` is 0: no bound. A
    /// burst of 0 is 1, or nothing would ever happen.
    pub fn new(count: u32, within: Duration, burst: u32) -> Option<Self> {
        let micros = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
        let cost = micros.checked_div(count.into())?.max(1);
        Some(Self { cost, burst: u64::from(burst.max(1)) })
    }

    /// `count` times a second.
    pub fn per_second(count: u32, burst: u32) -> Option<Self> {
        Self::new(count, Duration::from_secs(1), burst)
    }

    /// How often it may happen in a second, once the burst is over.
    pub const fn a_second(&self) -> u64 {
        1_000_000 / self.cost
    }

    /// How often it may happen at once.
    pub const fn burst(&self) -> u64 {
        self.burst
    }
}

/// What is left of a [`Rate`]. [`Bucket::default`] is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// In microseconds since the epoch.
    full_at: u64,
}

impl Bucket {
    /// How often it may happen now.
    pub fn available(&self, rate: Rate, now: Time) -> u64 {
        let missing = self.full_at.saturating_sub(micros(now)).div_ceil(rate.cost);
        rate.burst.saturating_sub(missing)
    }

    /// It has happened `count` times; more than [`Bucket::available`] is a debt.
    pub fn take(&mut self, count: u64, rate: Rate, now: Time) {
        let from = self.full_at.max(micros(now));
        self.full_at = from.saturating_add(rate.cost.saturating_mul(count));
    }

    /// Takes one if it is there.
    pub fn try_take(&mut self, rate: Rate, now: Time) -> bool {
        let may = self.available(rate, now) > 0;
        if may {
            self.take(1, rate, now);
        }
        may
    }

    /// When it may happen `count` times, at most the burst.
    pub fn ready_at(&self, count: u64, rate: Rate) -> Time {
        let spared = rate.burst.saturating_sub(count).saturating_mul(rate.cost);
        Time::from_millis(self.full_at.saturating_sub(spared).div_ceil(1_000))
    }

    /// Whether it is as good as new.
    pub fn is_full(&self, now: Time) -> bool {
        self.full_at <= micros(now)
    }
}

fn micros(time: Time) -> u64 {
    time.as_millis().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(1_000_000 + millis)
    }

    #[test]
    fn burst_is_at_once_and_the_rest_as_time_goes_by() {
        let rate = Rate::per_second(50, 200).unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.available(rate, at(0)), 200);
        for _ in 0..200 {
            assert!(bucket.try_take(rate, at(0)));
        }
        assert!(!bucket.try_take(rate, at(19)));
        assert_eq!((bucket.ready_at(1, rate), bucket.ready_at(5, rate)), (at(20), at(100)));
        assert!(bucket.try_take(rate, at(20)) && !bucket.try_take(rate, at(20)));
        assert_eq!(bucket.available(rate, at(1_020)), 50);
        // However long nothing happens, it is never more than a burst.
        assert_eq!(bucket.available(rate, at(1_000_000)), 200);
        assert!(bucket.is_full(at(1_000_000)) && !bucket.is_full(at(1_020)));
    }

    #[test]
    fn a_debt_is_paid_before_anything_happens_again() {
        let rate = Rate::per_second(10, 10).unwrap();
        let mut bucket = Bucket::default();
        bucket.take(20, rate, at(0));
        assert_eq!(bucket.available(rate, at(1_000)), 0);
        assert_eq!(bucket.available(rate, at(1_100)), 1);
        assert_eq!(bucket.ready_at(99, rate), at(2_000));
    }

    #[test]
    fn whatever_the_numbers_nothing_overflows() {
        assert_eq!(Rate::per_second(0, 7), None);
        let none_at_once = Rate::new(20, Duration::from_secs(60), 0).unwrap();
        assert_eq!((none_at_once.burst(), none_at_once.cost), (1, 3_000_000));
        for rate in [
            Rate::new(u32::MAX, Duration::ZERO, u32::MAX),
            Rate::new(1, Duration::MAX, u32::MAX),
            Rate::per_second(u32::MAX, 1),
        ] {
            let (rate, mut bucket) = (rate.unwrap(), Bucket::default());
            for now in [Time::from_millis(0), at(0), Time::NEVER] {
                bucket.take(u64::MAX, rate, now);
                let _ =
                    (bucket.available(rate, now), bucket.ready_at(1, rate), bucket.is_full(now));
                let _ = bucket.try_take(rate, now);
            }
        }
    }
}

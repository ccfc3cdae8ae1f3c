//! How fast connections arrive: from one address at any time, and in all after a start.
//!
//! Only the last few thousand addresses are remembered; one that is forgotten begins anew, with a
//! burst. That costs a network of that many addresses nothing, and nobody else anything.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use tidings_core::rate::{Bucket, Rate};
use tidings_core::time::Time;

use crate::auth::network;
use crate::limits::ConnectionLimits;

/// See the file's own words.
#[derive(Debug)]
pub(super) struct Arrivals {
    per_address: Option<Rate>,
    /// Two halves: when the younger is full, the older is forgotten and the younger becomes it. So
    /// what was used last stays, and nothing is ever searched.
    younger: HashMap<IpAddr, Bucket>,
    older: HashMap<IpAddr, Bucket>,
    /// Until `started`.
    at_start: Option<Rate>,
    started: Time,
    all: Bucket,
    waits: bool,
}

/// How long nobody is to be accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) time: Duration,
    /// Nobody waited before.
    pub(super) begins: bool,
}

impl Arrivals {
    pub(super) fn new(limits: &ConnectionLimits, now: Time) -> Self {
        Self {
            per_address: limits.connects_per_address(),
            younger: HashMap::new(),
            older: HashMap::new(),
            at_start: limits.start_connects(),
            started: now + limits.start_connect_time,
            all: Bucket::default(),
            waits: false,
        }
    }

    /// Counts a connection from `address`; `false`: there are too many.
    pub(super) fn may_come(&mut self, address: IpAddr, now: Time) -> bool {
        let Some(rate) = self.per_address else { return true };
        let address = network(address);
        if self.younger.len() >= ADDRESSES_MAX / 2 && !self.younger.contains_key(&address) {
            self.older = mem::take(&mut self.younger);
        }
        let older = &mut self.older;
        let bucket = self
            .younger
            .entry(address)
            .or_insert_with(|| older.remove(&address).unwrap_or_default());
        bucket.try_take(rate, now)
    }

    /// One was accepted.
    pub(super) fn accepted(&mut self, now: Time) {
        if let Some(rate) = self.at_start {
            self.all.take(1, rate, now);
        }
    }

    /// Whether the next has to wait because the start was a moment ago.
    pub(super) fn wait(&mut self, now: Time) -> Option<Wait> {
        let rate = self.at_start?;
        if now >= self.started {
            self.at_start = None;
            return None;
        }
        if self.all.available(rate, now) > 0 {
            self.waits = false;
            return None;
        }
        let begins = !mem::replace(&mut self.waits, true);
        Some(Wait { time: self.all.ready_at(1, rate).since(now), begins })
    }
}

/// How many addresses are remembered, in about a megabyte.
const ADDRESSES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(1_000_000 + millis)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_comes_in_a_burst_and_then_by_its_rate() {
        let limits = ConnectionLimits::default();
        let mut arrivals = Arrivals::new(&limits, at(0));
        for _ in 0..200 {
            assert!(arrivals.may_come(ip("2001:db8::1"), at(0)));
        }
        assert!(!arrivals.may_come(ip("2001:db8::2"), at(49)), "the same network");
        assert!(arrivals.may_come(ip("2001:db8:0:1::2"), at(49)));
        assert!(arrivals.may_come(ip("2001:db8::2"), at(50)));
        assert!(!arrivals.may_come(ip("2001:db8::1"), at(50)));
        let mut unbound = Arrivals::new(&limits.without_rates(), at(0));
        assert!((0..1_000).all(|_| unbound.may_come(ip("192.0.2.1"), at(0))));
        assert!(unbound.younger.is_empty());
    }

    #[test]
    fn addresses_used_last_are_remembered_and_the_others_bounded() {
        let limits = ConnectionLimits { connect_burst_per_address: 1, ..Default::default() };
        let mut arrivals = Arrivals::new(&limits, at(0));
        let seen = ip("192.0.2.1");
        assert!(arrivals.may_come(seen, at(0)));
        for number in 0..100_000_u32 {
            assert!(arrivals.may_come(IpAddr::from(number.to_be_bytes()), at(0)));
            if number % 5_000 == 0 {
                assert!(!arrivals.may_come(seen, at(0)), "forgotten by {number}");
            }
            assert!(arrivals.younger.len() + arrivals.older.len() <= ADDRESSES_MAX);
        }
    }

    #[test]
    fn after_a_start_connections_are_accepted_evenly_and_later_as_they_come() {
        let limits = ConnectionLimits { start_connect_rate: 500, ..Default::default() };
        let mut arrivals = Arrivals::new(&limits, at(0));
        for _ in 0..50 {
            assert_eq!(arrivals.wait(at(0)), None);
            arrivals.accepted(at(0));
        }
        let wait = |begins| Some(Wait { time: Duration::from_millis(2), begins });
        assert_eq!(arrivals.wait(at(0)), wait(true));
        assert_eq!(arrivals.wait(at(0)), wait(false));
        assert_eq!(arrivals.wait(at(2)), None);
        arrivals.accepted(at(2));
        assert_eq!(arrivals.wait(at(2)), wait(true));
        assert_eq!(arrivals.wait(at(60_000)), None);
        (0..1_000).for_each(|_| arrivals.accepted(at(60_000)));
        assert_eq!(arrivals.wait(at(60_000)), None);
    }
}

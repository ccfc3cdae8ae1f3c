//! How many logins may fail per address and per user within a minute.
//!
//! Only failures count, so a thousand devices behind one address can come back at once. An address
//! from which a user logged in before is not held up by what others try in that user's name: or
//! ten wrong passwords a minute would keep anybody out.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// The failures of the last minute, and who succeeded from where.
#[derive(Debug)]
pub(super) struct Failures {
    per_minute: usize,
    by_address: Recent<IpAddr>,
    by_user: Recent<String>,
    /// When a user last logged in from an address.
    succeeded: HashMap<(String, IpAddr), Instant>,
}

impl Failures {
    /// With `per_minute` 0 nothing is limited and nothing is kept.
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            per_minute: usize::try_from(per_minute).unwrap_or(usize::MAX),
            by_address: Recent::default(),
            by_user: Recent::default(),
            succeeded: HashMap::new(),
        }
    }

    /// Whether another try as `user` from `address` must not even be looked at.
    pub(super) fn limited(&self, user: &str, address: Option<IpAddr>, now: Instant) -> bool {
        if self.per_minute == 0 {
            return false;
        }
        let address = address.map(network);
        if address.is_some_and(|a| self.by_address.within_minute(&a, now) >= self.per_minute) {
            return true;
        }
        self.by_user.within_minute(user, now) >= self.per_minute
            && !address.is_some_and(|a| self.succeeded.contains_key(&(user.to_owned(), a)))
    }

    /// Counts a failure.
    pub(super) fn failed(&mut self, user: &str, address: Option<IpAddr>, now: Instant) {
        if self.per_minute == 0 {
            return;
        }
        self.by_user.push(user.to_owned(), self.per_minute, now);
        if let Some(address) = address {
            self.by_address.push(network(address), self.per_minute, now);
        }
    }

    /// Remembers a success.
    pub(super) fn succeeded(&mut self, user: &str, address: Option<IpAddr>, now: Instant) {
        let Some(address) = address else { return };
        if self.per_minute == 0 {
            return;
        }
        let key = (user.to_owned(), network(address));
        if self.succeeded.len() >= ENTRIES_MAX && !self.succeeded.contains_key(&key) {
            evict(&mut self.succeeded, |at| *at);
        }
        self.succeeded.insert(key, now);
    }
}

/// The last failures per key: at most `per_minute` instants each, [`ENTRIES_MAX`] keys.
#[derive(Debug)]
struct Recent<K>(HashMap<K, VecDeque<Instant>>);

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash + Clone> Recent<K> {
    fn within_minute<Q>(&self, key: &Q, now: Instant) -> usize
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let recent = |at: &&Instant| now.saturating_duration_since(**at) < MINUTE;
        self.0.get(key).map_or(0, |instants| instants.iter().filter(recent).count())
    }

    fn push(&mut self, key: K, per_minute: usize, now: Instant) {
        if self.0.len() >= ENTRIES_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, instants| {
                instants.back().is_some_and(|at| now.saturating_duration_since(*at) < MINUTE)
            });
            if self.0.len() >= ENTRIES_MAX {
                evict(&mut self.0, |instants| instants.back().copied().unwrap_or(now));
            }
        }
        let instants = self.0.entry(key).or_default();
        while instants.len() >= per_minute {
            instants.pop_front();
        }
        instants.push_back(now);
    }
}

/// Takes out the entry that is oldest by `age`: a scan, paid for only by a map that is full.
fn evict<K: Eq + Hash + Clone, V>(map: &mut HashMap<K, V>, age: impl Fn(&V) -> Instant) {
    if let Some(oldest) = map.iter().min_by_key(|(_, v)| age(v)).map(|(k, _)| k.clone()) {
        map.remove(&oldest);
    }
}

/// What one customer of a network has to try from: an IPv4 address, or an IPv6 /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Bounds each map to a few MiB. A full one forgets its oldest entry: who tries from that many
/// addresses in a minute is held by the queue in front of the hashes.
const ENTRIES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn tenth_failure_from_an_address_holds_up_every_user_there_for_a_minute() {
        let mut failures = Failures::new(10);
        let now = Instant::now();
        for i in 0..10 {
            assert!(!failures.limited("carol", ip("10.0.0.1"), now));
            failures.failed(&format!("user{i}"), ip("10.0.0.1"), now);
        }
        assert!(failures.limited("carol", ip("10.0.0.1"), now + Duration::from_secs(59)));
        assert!(!failures.limited("carol", ip("10.0.0.2"), now));
        assert!(!failures.limited("carol", ip("10.0.0.1"), now + MINUTE));
    }

    #[test]
    fn tenth_failure_of_a_user_holds_up_only_addresses_the_user_is_new_at() {
        let mut failures = Failures::new(10);
        let now = Instant::now();
        failures.succeeded("bob", ip("10.9.9.9"), now);
        for i in 0..10 {
            failures.failed("bob", ip(&format!("10.0.0.{i}")), now);
        }
        assert!(failures.limited("bob", ip("10.0.1.1"), now));
        assert!(failures.limited("bob", None, now));
        assert!(!failures.limited("alice", ip("10.0.1.1"), now));
        assert!(!failures.limited("bob", ip("10.9.9.9"), now));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let mut failures = Failures::new(1);
        let now = Instant::now();
        failures.failed("bob", ip("2001:db8::1"), now);
        assert!(failures.limited("alice", ip("2001:db8::2"), now));
        assert!(!failures.limited("alice", ip("2001:db8:0:1::2"), now));
    }

    #[test]
    fn full_map_forgets_its_oldest_key_and_grows_no_more() {
        let mut failures = Failures::new(1);
        let start = Instant::now();
        for i in 0..u32::try_from(ENTRIES_MAX).unwrap() + 10 {
            let now = start + Duration::from_micros(u64::from(i));
            failures.failed(&format!("user{i}"), Some(IpAddr::from(i.to_be_bytes())), now);
            failures.succeeded(&format!("user{i}"), Some(IpAddr::from(i.to_be_bytes())), now);
        }
        assert_eq!(failures.by_user.0.len(), ENTRIES_MAX);
        assert_eq!(failures.by_address.0.len(), ENTRIES_MAX);
        assert_eq!(failures.succeeded.len(), ENTRIES_MAX);
        assert!(!failures.limited("user0", None, start));
        assert!(failures.limited("user10", None, start));
    }

    #[test]
    fn nothing_is_limited_or_kept_when_switched_off() {
        let mut failures = Failures::new(0);
        let now = Instant::now();
        for _ in 0..100 {
            failures.failed("bob", ip("10.0.0.1"), now);
        }
        failures.succeeded("bob", ip("10.0.0.1"), now);
        assert!(!failures.limited("bob", ip("10.0.0.1"), now));
        assert!(failures.by_user.0.is_empty() && failures.succeeded.is_empty());
    }
}

//! How often one address may do something, and how often one link may be tried.
//!
//! Both are maps that strangers make grow: a full one forgets what is as good as new, and then the
//! oldest. Whoever has so many addresses is bounded by what they do, not here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidings_broker::auth::network;
use tidings_broker::core::rate::{Bucket, Rate};
use tidings_broker::core::time::Time;

use crate::config::Config;

/// A rate for each address.
#[derive(Debug)]
pub(super) struct PerAddress {
    /// None: no bound.
    rate: Option<Rate>,
    began: Instant,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl PerAddress {
    /// `per_minute` 0 is no bound.
    pub(super) fn new(per_minute: u32, burst: u32) -> Self {
        let rate = Rate::new(per_minute, Duration::from_secs(60), burst);
        Self { rate, began: Instant::now(), buckets: Mutex::default() }
    }

    /// Takes one for the address.
    ///
    /// # Errors
    /// There is none; after so many milliseconds there is.
    pub(super) fn take(&self, address: IpAddr) -> Result<(), u64> {
        self.ask(address, 1)
    }

    /// Whether there is one for the address, which is not taken.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn look(&self, address: IpAddr) -> Result<(), u64> {
        self.ask(address, 0)
    }

    fn ask(&self, address: IpAddr, taken: u64) -> Result<(), u64> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = self.now();
        let mut buckets = lock(&self.buckets);
        let address = network(address);
        if buckets.len() >= ENTRIES_MAX && !buckets.contains_key(&address) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= ENTRIES_MAX {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(address).or_default();
        if bucket.available(rate, now) == 0 {
            let wait = bucket.ready_at(1, rate).since(now);
            return Err(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
        }
        bucket.take(taken, rate, now);
        Ok(())
    }

    fn now(&self) -> Time {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Not at zero: an empty bucket is one that was full then.
        Time::from_millis(millis.saturating_add(1_000))
    }
}

/// Wrong codes for each link, whether there is such a link or not: what has to wait says nothing.
///
/// The seat itself counts as well, and is what keeps a guesser out. This is so that a person who has
/// mistyped hears how long to wait.
#[derive(Debug)]
pub(super) struct Guesses {
    free: u32,
    wait: Duration,
    links: Mutex<HashMap<Box<str>, Tried>>,
}

#[derive(Debug, Clone, Copy)]
struct Tried {
    wrong: u32,
    open_at: Instant,
    last: Instant,
}

impl Guesses {
    pub(super) fn new(config: &Config) -> Self {
        let free = u32::try_from(config.chat.seat_guesses).unwrap_or(u32::MAX);
        let wait = Duration::from_secs(config.chat.seat_wait_s);
        Self { free, wait, links: Mutex::default() }
    }

    /// Whether a code for the link is looked at now.
    ///
    /// # Errors
    /// After so many milliseconds.
    pub(super) fn may_try(&self, link: &str, now: Instant) -> Result<(), u64> {
        let links = lock(&self.links);
        let open_at = links.get(link).map_or(now, |tried| tried.open_at);
        let wait = open_at.saturating_duration_since(now);
        if wait.is_zero() {
            return Ok(());
        }
        Err(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
    }

    /// A code was wrong.
    pub(super) fn wrong(&self, link: &str, now: Instant) {
        let mut links = lock(&self.links);
        if links.len() >= ENTRIES_MAX && !links.contains_key(link) {
            links.retain(|_, tried| now.saturating_duration_since(tried.last) < FORGOTTEN_AFTER);
            if links.len() >= ENTRIES_MAX {
                links.clear();
            }
        }
        let new = Tried { wrong: 0, open_at: now, last: now };
        let tried = links.entry(link.into()).or_insert(new);
        tried.wrong = tried.wrong.saturating_add(1);
        tried.last = now;
        if let Some(over) = tried.wrong.checked_sub(self.free) {
            let times = 1_u32.checked_shl(over).unwrap_or(u32::MAX);
            tried.open_at = now + self.wait.saturating_mul(times).min(WAIT_MAX);
        }
    }

    /// A code was right.
    pub(super) fn right(&self, link: &str) {
        lock(&self.links).remove(link);
    }
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bounds each map to some two megabytes.
const ENTRIES_MAX: usize = 16_384;

/// The longest wait behind a wrong code.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// After what time without a try a link is worth forgetting.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_burst_and_others_have_theirs() {
        let rooms = PerAddress::new(1, 3);
        for _ in 0..3 {
            assert_eq!(rooms.take(ip("192.0.2.1")), Ok(()));
        }
        let wait = rooms.take(ip("192.0.2.1")).unwrap_err();
        assert!((1..=60_000).contains(&wait), "{wait}");
        assert_eq!(rooms.look(ip("192.0.2.2")), Ok(()));
        assert!(PerAddress::new(0, 1).take(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn a_full_map_of_addresses_grows_no_more() {
        let rooms = PerAddress::new(1, 1);
        for number in 0..u32::try_from(ENTRIES_MAX).unwrap() + 10 {
            rooms.take(IpAddr::from(number.to_be_bytes())).unwrap();
        }
        assert!(rooms.buckets.lock().unwrap().len() <= ENTRIES_MAX);
    }

    #[test]
    fn wrong_codes_for_a_link_wait_longer_and_longer_whatever_the_link() {
        let guesses = Guesses::new(&Config::default());
        let now = Instant::now();
        for _ in 0..4 {
            guesses.wrong("~x", now);
            assert_eq!(guesses.may_try("~x", now), Ok(()));
        }
        guesses.wrong("~x", now);
        assert_eq!(guesses.may_try("~x", now), Err(30_000));
        assert_eq!(guesses.may_try("~y", now), Ok(()));
        let later = now + Duration::from_secs(30);
        assert_eq!(guesses.may_try("~x", later), Ok(()));
        guesses.wrong("~x", later);
        assert_eq!(guesses.may_try("~x", later), Err(60_000));
        for _ in 0..100 {
            guesses.wrong("~x", later);
        }
        assert_eq!(guesses.may_try("~x", later), Err(3_600_000));
        guesses.right("~x");
        assert_eq!(guesses.may_try("~x", later), Ok(()));
    }
}

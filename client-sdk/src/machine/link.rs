//! The connection: when to try again, how long to be silent, and when to leave it.
//!
//! Times are since the machine began and never go back: no clock that a user can set decides here.

use super::rng::Rng;
use crate::transport::Lost;
use std::time::Duration;

/// Where the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing is to be tried any more, but for the hint that the network has changed.
    Stopped,
    /// Until then.
    Waiting(Duration),
    Connecting,
    Online {
        since: Duration,
    },
    /// DISCONNECT is said.
    Leaving(Duration),
}

/// When to try again.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    /// How long to wait; none: not to try again by itself.
    pub(super) fn after(&mut self, lost: &Lost, rng: &mut Rng) -> Option<Duration> {
        match lost {
            // Whoever took the device over would be thrown out in turn, for ever.
            Lost::TakenOver | Lost::Closed => return None,
            // What is refused now will be in a moment: nobody mends a password that fast.
            Lost::Refused { .. } => self.next = self.max,
            Lost::Unreachable { .. } | Lost::Ended { .. } | Lost::Silent { .. } => {}
        }
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.max);
        // Half of it is random, so that a broker that was restarted is not met by all at once.
        let half = wait / 2;
        let jitter = rng.below(u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1));
        Some(half + Duration::from_micros(jitter))
    }
}

/// How long a connection may be silent.
///
/// Networks forget connections that are silent for too long, and do not say how long that is. So the
/// silence grows with each connection that outlived some of it, and is halved where one was found
/// dead; what was too long once is not tried again until the network changes.
#[derive(Debug)]
pub(super) struct KeepAlive {
    max: Duration,
    ceiling: Duration,
    pub(super) now: Duration,
}

impl KeepAlive {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        let max = max.max(first);
        Self { max, ceiling: max, now: first }
    }

    pub(super) fn handle_lost(&mut self, lost: &Lost, lived: Duration) {
        if matches!(lost, Lost::Silent { .. }) {
            self.now = (self.now / 2).max(MIN);
            self.ceiling = self.now;
        } else if lived > self.now.saturating_mul(PROVEN) {
            self.now = self.now.saturating_mul(2).min(self.ceiling);
        }
    }

    pub(super) fn handle_network_changed(&mut self) {
        self.ceiling = self.max;
    }
}

/// A Keep Alive that no network is known to fall short of.
const MIN: Duration = Duration::from_secs(15);

/// How many of its silences a connection has to outlive before a longer one is tried.
const PROVEN: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> Lost {
        Lost::Ended { cause: String::new() }
    }

    #[test]
    fn waits_double_with_jitter_up_to_the_longest() {
        let (mut rng, max) = (Rng::new(1), Duration::from_secs(4));
        let mut backoff = Backoff::new(Duration::from_secs(1), max);
        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(backoff.after(&ended(), &mut rng).unwrap());
        }
        for (wait, full) in waits.iter().zip([1, 2, 4, 4, 4, 4]) {
            let full = Duration::from_secs(full);
            assert!(*wait >= full / 2 && *wait <= full, "{waits:?}");
        }
        assert_ne!(waits[3], waits[4], "jitter");
        backoff.reset();
        assert!(backoff.after(&ended(), &mut rng).unwrap() <= Duration::from_secs(1));
        assert_eq!(backoff.after(&Lost::TakenOver, &mut rng), None);
    }

    #[test]
    fn refused_login_is_not_tried_often() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let refused = Lost::Refused { reason: String::new() };
        assert!(backoff.after(&refused, &mut Rng::new(1)).unwrap() >= Duration::from_secs(30));
    }

    #[test]
    fn silence_grows_where_it_is_borne_and_shrinks_where_it_is_not() {
        let seconds = Duration::from_secs;
        let mut keep_alive = KeepAlive::new(seconds(60), seconds(240));
        keep_alive.handle_lost(&ended(), seconds(30));
        assert_eq!(keep_alive.now, seconds(60));
        keep_alive.handle_lost(&ended(), seconds(600));
        assert_eq!(keep_alive.now, seconds(120));
        let silent = Lost::Silent { after: seconds(130) };
        keep_alive.handle_lost(&silent, seconds(1_000));
        assert_eq!(keep_alive.now, seconds(60));
        keep_alive.handle_lost(&ended(), seconds(5_000));
        assert_eq!(keep_alive.now, seconds(60), "what was too long is not tried again");
        keep_alive.handle_network_changed();
        keep_alive.handle_lost(&ended(), seconds(5_000));
        assert_eq!(keep_alive.now, seconds(120));
        for _ in 0..9 {
            keep_alive.handle_lost(&silent, seconds(1));
        }
        assert_eq!(keep_alive.now, MIN);
    }
}

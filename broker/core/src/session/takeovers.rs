//! How often a session was taken over lately: two Clients with one identifier throw each other out.
//!
//! Each of them comes back at once, so without a bound they keep the server busy, and neither is
//! connected for long. With it one of them stays, and the other is told.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// The takeovers within the window, oldest first; as many as are allowed there. Takes no memory
/// until the first.
#[derive(Debug, Default)]
pub(crate) struct Takeovers(VecDeque<Time>);

impl Takeovers {
    /// Counts one more takeover, unless there were `max` within `window`.
    pub(crate) fn try_take(&mut self, max: usize, window: Duration, now: Time) -> bool {
        while self.0.front().is_some_and(|at| now.since(*at) >= window) {
            self.0.pop_front();
        }
        let allowed = self.0.len() < max;
        if allowed {
            self.0.push_back(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_allowed_fit_into_any_window() {
        let mut takeovers = Takeovers::default();
        let mut at =
            |millis| takeovers.try_take(2, Duration::from_secs(1), Time::from_millis(millis));
        assert!(at(0) && at(900) && !at(999));
        // The first has left the window, the second has not.
        assert!(at(1000) && !at(1001) && at(1900));
    }
}

//! The only clock: wall time at the start of the process, and from there on the monotonic clock.
//!
//! So the time that shards are told never goes back and never jumps, whatever is done to the
//! system's clock; a restart takes up the system's time anew.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidings_core::time::Time;

/// Tells the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Time,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn new() -> Self {
        // A system clock from before 1970 is taken for 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at: Time::from_millis(0) + since_epoch }
    }

    /// The time.
    pub(crate) fn now(&self) -> Time {
        self.started_at + self.started.elapsed()
    }

    /// The moment that the system's clock calls `moment`: it may have been set since the start.
    pub(crate) fn time(&self, moment: SystemTime) -> Time {
        let left = moment.duration_since(SystemTime::now()).unwrap_or_default();
        self.now() + left
    }

    /// The moment of the runtime's clock that is `time`.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        let instant = self.started.checked_add(time.since(self.started_at));
        // Further away than the system can say is as far as anybody waits.
        instant.unwrap_or_else(|| self.started + FAR_AWAY).into()
    }
}

const FAR_AWAY: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);

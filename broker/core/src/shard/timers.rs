//! What is due when: one ordered set for all deadlines of a shard.

use std::collections::BTreeSet;

use crate::hook::SessionId;
use crate::output::ConnectionId;
use crate::time::Time;

/// What a deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Look whether the Client was silent for one and a half Keep Alive. There is one per
    /// connection, set again when it fires too early: packets do not touch it.
    KeepAlive(ConnectionId),
    /// End a connection whose login is over.
    Login(ConnectionId),
    /// Publish a delayed will.
    Will(SessionId),
    /// End a session that has no connection.
    Expiry(SessionId),
    /// Look at more sessions after a change of rights.
    Rights,
}

/// The deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Time, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Time, timer: Timer) {
        if at != Time::NEVER {
            self.0.insert((at, timer));
        }
    }

    pub(crate) fn cancel(&mut self, at: Time, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The next deadline that has passed, and when it did.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<(Time, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first()
    }
}

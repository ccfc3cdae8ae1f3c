//! File descriptors: connections must leave some to the store, which cannot go on without.
//!
//! The journal opens a file every now and then. A Client's connection in its place would end the
//! broker: so the last [`RESERVED`] of what the system grants are not for connections.

use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptors {
    /// None has this number or a higher one.
    limit: u64,
}

impl Descriptors {
    /// Asks the system for as many as it lets this process have; many systems grant 1,024 to one
    /// that does not ask.
    pub(crate) fn ask_for_all() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let asked = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let granted = if asked.is_ok() { maximum } else { current };
        Self { limit: granted.unwrap_or(u64::MAX) }
    }

    /// Whether a connection with this descriptor is one too many. The system gives the lowest number
    /// that is free, so that all below it are in use.
    pub(crate) fn is_reserved(self, descriptor: RawFd) -> bool {
        let reserved = RESERVED.min(self.limit / 2);
        u64::try_from(descriptor).is_ok_and(|it| it >= self.limit - reserved)
    }

    /// How many there are.
    pub(crate) fn limit(self) -> u64 {
        self.limit
    }
}

/// Enough for the files of journal and store, those that are read again, and a webhook's questions.
const RESERVED: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_not_for_connections() {
        let descriptors = Descriptors { limit: 1024 };
        assert!(!descriptors.is_reserved(959) && descriptors.is_reserved(960));
        let few = Descriptors { limit: 20 };
        assert!(!few.is_reserved(9) && few.is_reserved(10));
        assert!(!Descriptors { limit: u64::MAX }.is_reserved(RawFd::MAX));
    }
}

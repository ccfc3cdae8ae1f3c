//! File descriptors: connections must leave some to the store, which cannot go on without.
//!
//! The journal opens a file every now and then. A Client's connection in its place would end the
//! broker: so the last [`RESERVED`] of what the system grants are not for connections.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;

use rustix::io::fcntl_dupfd_cloexec;
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
        let descriptors = Self { limit: granted.unwrap_or(u64::MAX) };
        // Without it all goes on, with the pauses.
        let _ = descriptors.make_room();
        descriptors
    }

    /// Has the system make its table of them as large as many connections need. It doubles it by and
    /// by, and where a process has threads whoever accepts waits each time until all processors have
    /// seen the new one: ten milliseconds and more, which are longest in a burst.
    fn make_room(self) -> io::Result<()> {
        let last = self.limit.min(ROOM).saturating_sub(1);
        let last = RawFd::try_from(last).unwrap_or(RawFd::MAX);
        let _closed_again = fcntl_dupfd_cloexec(File::open("/dev/null")?, last)?;
        Ok(())
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

/// For how many there is room from the start: half a megabyte of the system's memory.
const ROOM: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn table_of_descriptors_is_large_from_the_start() {
        let descriptors = Descriptors::ask_for_all();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= descriptors.limit().min(ROOM));
    }

    #[test]
    fn the_last_descriptors_are_not_for_connections() {
        let descriptors = Descriptors { limit: 1024 };
        assert!(!descriptors.is_reserved(959) && descriptors.is_reserved(960));
        let few = Descriptors { limit: 20 };
        assert!(!few.is_reserved(9) && few.is_reserved(10));
        assert!(!Descriptors { limit: u64::MAX }.is_reserved(RawFd::MAX));
    }
}

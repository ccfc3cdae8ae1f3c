//! How far memory and disk are used up, for every thread that has to do something about it.
//!
//! One thread looks and writes here (see [`crate::watch`]), any reads. Between two looks a shard
//! estimates: what was in use, and what is held more, or less, since.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tidings_core::marks::MemoryMark;

/// What the last look found.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Bytes that the process may use; 0: nobody knows, and nothing is bound.
    pub(crate) bound: AtomicU64,
    pub(crate) resident: AtomicU64,
    pub(crate) used: AtomicU64,
    /// What connections held then, and what was on its way between shards.
    pub(crate) held: AtomicU64,
    mark: AtomicU8,
    pub(crate) disk_free: AtomicU64,
    pub(crate) disk_low: AtomicBool,
}

impl Pressure {
    pub(crate) fn mark(&self) -> MemoryMark {
        MemoryMark::from_number(self.mark.load(Ordering::Relaxed))
    }

    pub(crate) fn set_mark(&self, mark: MemoryMark) {
        self.mark.store(mark.number(), Ordering::Relaxed);
    }

    /// The mark is at least this one, until the next look.
    pub(crate) fn raise_mark(&self, mark: MemoryMark) {
        self.mark.fetch_max(mark.number(), Ordering::Relaxed);
    }

    /// Bytes in use that are too many, now that so many are held.
    pub(crate) fn excess(&self, held: u64) -> u64 {
        let bound = self.bound.load(Ordering::Relaxed);
        let used = self.used.load(Ordering::Relaxed).saturating_add(held);
        let used = used.saturating_sub(self.held.load(Ordering::Relaxed));
        if bound == 0 || MemoryMark::of(used, bound) < MemoryMark::CloseLargest {
            return 0;
        }
        MemoryMark::CloseLargest.excess(used, bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_since_the_last_look_counts_at_once() {
        let pressure = Pressure::default();
        assert_eq!(pressure.excess(u64::MAX), 0, "without a bound");
        pressure.bound.store(1_000, Ordering::Relaxed);
        pressure.used.store(500, Ordering::Relaxed);
        pressure.held.store(100, Ordering::Relaxed);
        assert_eq!(pressure.excess(449), 0);
        assert_eq!(pressure.excess(450), 50);
        // What was given back since is not asked for again.
        pressure.used.store(900, Ordering::Relaxed);
        assert_eq!((pressure.excess(100), pressure.excess(51), pressure.excess(49)), (100, 51, 0));
    }
}

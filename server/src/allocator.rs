//! The allocator: one that can say how much is in use, and give back what is not.
//!
//! What the system's keeps of freed memory cannot be told from what is in use, and a burst would look
//! like a leak.

use tidings_broker::Allocator;
use tikv_jemalloc_ctl::{Access, AsName, arenas, epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the broker asks of it.
pub(crate) const HOOKS: Allocator = Allocator { allocated, give_back };

fn allocated() -> Option<u64> {
    epoch::advance().ok()?;
    stats::allocated::read().ok()?.try_into().ok()
}

/// An arena whose freed memory decays in no time gives all of it back at once.
fn give_back() {
    let Ok(arenas) = arenas::narenas::read() else { return };
    for arena in 0..arenas {
        let name = format!("arena.{arena}.dirty_decay_ms\0");
        let decay = name.as_bytes().name();
        // One that was never used has none.
        let Ok(milliseconds) = decay.read() else { continue };
        let milliseconds: isize = milliseconds;
        if decay.write(0_isize).is_ok() {
            let _as_before = decay.write(milliseconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_freed_is_given_back() {
        let pages = || {
            epoch::advance().unwrap();
            stats::resident::read().unwrap()
        };
        let before = allocated().unwrap();
        let held: Vec<_> = (0..2_000).map(|_| vec![1_u8; 32 * 1024]).collect();
        assert!(allocated().unwrap() > before + 60_000_000);
        drop(held);
        let kept = pages();
        give_back();
        assert!(pages() + 40_000_000 < kept, "{} of {kept}", pages());
    }
}

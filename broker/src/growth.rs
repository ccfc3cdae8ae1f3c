//! How much was written since somebody looked at the disk: enough of it wakes who looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts down the bytes until the next look.
#[derive(Debug)]
pub(crate) struct Growth {
    left: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    grown: bool,
    ended: bool,
}

impl Default for Growth {
    fn default() -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { left: AtomicU64::new(u64::MAX), state, changed }
    }
}

impl Growth {
    /// The next look is due after so many bytes.
    pub(crate) fn expect(&self, bytes: u64) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes were written, or are going to be.
    pub(crate) fn add(&self, bytes: u64) {
        let less = |left| (left != u64::MAX).then_some(left - bytes.min(left));
        let updated = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if updated.is_ok_and(|left| left > 0 && bytes >= left) {
            self.lock().grown = true;
            self.changed.notify_all();
        }
    }

    /// Waits that long, or until enough was written: whether it was. `None`: it is over.
    pub(crate) fn wait(&self, at_most: Duration) -> Option<bool> {
        let state = self.lock();
        let idle = |state: &mut State| !state.grown && !state.ended;
        let waited = self.changed.wait_timeout_while(state, at_most, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let grown = std::mem::take(&mut state.grown);
        (!state.ended).then_some(grown)
    }

    /// Nobody waits any more.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_once_enough_was_written() {
        let growth = Growth::default();
        growth.add(u64::MAX / 2);
        growth.expect(100);
        growth.add(99);
        assert_eq!(growth.wait(Duration::ZERO), Some(false));
        growth.add(1);
        growth.add(1_000);
        assert_eq!(growth.wait(Duration::MAX), Some(true));
        assert_eq!(growth.wait(Duration::ZERO), Some(false), "told once");
        growth.expect(1);
        growth.add(5);
        assert_eq!(growth.wait(Duration::MAX), Some(true));
        growth.end();
        assert_eq!(growth.wait(Duration::MAX), None);
    }
}

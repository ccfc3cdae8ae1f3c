//! Where a thread of the store waits until others have changed something.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::lock;

/// A condition that several threads change and one waits for.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    changes: Mutex<()>,
    changed: Condvar,
}

impl Gate {
    /// Returns once `met` is; it is asked again after each [`changed`](Self::changed).
    pub(crate) fn wait_until(&self, mut met: impl FnMut() -> bool) {
        let mut changes = lock(&self.changes);
        while !met() {
            changes = self.changed.wait(changes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same, for so long at most; whether it is met.
    pub(crate) fn wait_for(&self, timeout: Duration, mut met: impl FnMut() -> bool) -> bool {
        let changes = lock(&self.changes);
        let waited = self.changed.wait_timeout_while(changes, timeout, |()| !met());
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(crate) fn changed(&self) {
        // Taken so that the change cannot fall between the question and the wait.
        drop(lock(&self.changes));
        self.changed.notify_all();
    }
}

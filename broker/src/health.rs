//! Whether the broker can go on, for whoever waits to hear otherwise.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Poll;

use tokio::sync::watch;

use crate::store::StoreFailure;

/// Why a broker cannot go on. The process should end: what is acknowledged is safe on disk.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// The store failed: nothing can be acknowledged any more.
    #[error("the store failed: {0}")]
    Store(StoreFailure),
    /// A defect of the program, in this thread.
    #[error("thread {0} panicked")]
    Panic(String),
}

impl From<StoreFailure> for Fatal {
    fn from(failure: StoreFailure) -> Self {
        match failure.panicked {
            Some(thread) => Self::Panic(thread.to_owned()),
            None => Self::Store(failure),
        }
    }
}

/// Whether all is well, for whoever waits to hear otherwise.
#[derive(Debug)]
pub(crate) struct Health {
    /// For those that wait in a task.
    fatal: watch::Sender<Option<Fatal>>,
    /// For those that wait in a thread.
    changed: Condvar,
    lock: Mutex<()>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { fatal: watch::Sender::new(None), changed: Condvar::new(), lock: Mutex::new(()) }
    }

    /// The first failure counts.
    pub(crate) fn fail(&self, fatal: Fatal) {
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.fatal.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(fatal);
            }
            is_first
        });
        self.changed.notify_all();
    }

    /// The failure, if there was one.
    pub(crate) fn failure(&self) -> Option<Fatal> {
        self.fatal.borrow().clone()
    }

    /// Returns the failure when there is one.
    pub(crate) async fn failed(&self) -> Fatal {
        let mut fatal = self.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await.map(|it| it.clone()) {
            Ok(Some(fatal)) => fatal,
            // The sender lives as long as this.
            _ => std::future::pending().await,
        }
    }

    /// Blocks until there is a failure.
    pub(crate) fn wait(&self) -> Fatal {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(fatal) = self.failure() {
                return fatal;
            }
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a thread does. Its panic is told: the others would go on without it.
pub(crate) fn guard(thread: &str, health: &Arc<Health>, body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        health.fail(Fatal::Panic(thread.to_owned()));
    }
}

/// A task whose panic is told. The runtime would keep it to itself, and what the task was there for
/// would never be done again.
pub(crate) async fn telling(task: impl Future<Output = ()>, panicked: impl FnOnce()) {
    let mut task = pin!(task);
    let finished = poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| task.as_mut().poll(cx));
        catch_unwind(poll).map_or(Poll::Ready(false), |poll| poll.map(|()| true))
    });
    if !finished.await {
        panicked();
    }
}

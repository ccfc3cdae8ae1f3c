//! Observers: told afterwards, from a bounded queue on a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tidings_core::hook::{Event, Observe};

/// The way to the observers.
#[derive(Debug, Clone)]
pub(crate) struct Observers(Option<SyncSender<Event>>);

impl Observers {
    /// Starts the observers' thread, if there are any.
    pub(crate) fn start(observers: Vec<Arc<dyn Observe>>) -> std::io::Result<Self> {
        if observers.is_empty() {
            return Ok(Self(None));
        }
        let (sender, events) = sync_channel(EVENTS_WAITING_MAX);
        let run = move || run(&observers, &events);
        std::thread::Builder::new().name("observers".to_owned()).spawn(run)?;
        Ok(Self(Some(sender)))
    }

    /// Tells them, unless they are far behind: then the event is lost. Whether it is not.
    pub(crate) fn tell(&self, event: Event) -> bool {
        let Some(sender) = &self.0 else { return true };
        if let Err(TrySendError::Full(event)) = sender.try_send(event) {
            tracing::debug!(?event, "observers are behind: an event is lost");
            return false;
        }
        true
    }
}

fn run(observers: &[Arc<dyn Observe>], events: &Receiver<Event>) {
    for event in events {
        for observer in observers {
            // Its defect is its own: the others hear on, and nobody waits for observers.
            let observe = AssertUnwindSafe(|| observer.observe(&event));
            if catch_unwind(observe).is_err() {
                tracing::error!(?observer, "an observer panicked");
            }
        }
    }
}

/// Events that may wait for the observers.
const EVENTS_WAITING_MAX: usize = 8_192;

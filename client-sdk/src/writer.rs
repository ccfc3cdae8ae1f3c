//! The thread that writes the store: what waits for the disk is written as one group.
//!
//! While one group is being synced the next one gathers, so many sends and entries at once share a
//! sync. It also deletes what has expired, by the device's clock.

use crate::store::{Change, Store, rows};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedSender;

/// Changes, and the position that they bring the store to.
pub(crate) type Job = (u64, Vec<Change>);

/// How far the store is, or why it goes no further.
pub(crate) type Written = Result<u64, String>;

/// Starts the thread, which ends when the sender is dropped. What waits is bounded by the Receive
/// Maximum and the outbox: the machine makes a job of what comes in or is asked for.
///
/// # Errors
///
/// The system gives no thread.
pub(crate) fn start(
    store: Arc<dyn Store>,
    written: UnboundedSender<Written>,
) -> io::Result<Sender<Job>> {
    let (jobs, received) = channel();
    std::thread::Builder::new().name("tidings-store".to_owned()).spawn(move || {
        run(&*store, &received, &written);
        // In this order: who hears that the thread has ended may open the store again.
        drop(store);
        drop(written);
    })?;
    Ok(jobs)
}

fn run(store: &dyn Store, jobs: &Receiver<Job>, written: &UnboundedSender<Written>) {
    loop {
        let (mut position, mut changes) = match jobs.recv_timeout(PURGE) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => (0, expired(store)),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while changes.len() < GROUP_MAX
            && let Ok((later, more)) = jobs.try_recv()
        {
            position = later;
            changes.extend(more);
        }
        if changes.is_empty() {
            continue;
        }
        let result = store.write(&changes).map(|()| position).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        });
        // Nobody listening any more means that the client has ended.
        if (result.is_err() || position > 0) && written.send(result).is_err() {
            return;
        }
    }
}

fn expired(store: &dyn Store) -> Vec<Change> {
    // What cannot be read now is looked at again in a minute.
    rows::expired(store, now_ms()).unwrap_or_default()
}

/// By the device's clock, in ms since 1970: to show, and for what the user wished to disappear.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Changes that share one sync.
const GROUP_MAX: usize = 1_024;

/// How often expired entries are looked for.
const PURGE: Duration = Duration::from_secs(60);

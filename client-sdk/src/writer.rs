//! The thread that owns the outbox's file: what waits for the disk is written as one group.
//!
//! While one group is being synced the next one gathers, so many sends at once share a sync.

use crate::error::{NotStored, OutboxError, SendError};
use crate::outbox::{Outbox, Send};
use bytes::Bytes;
use std::io;
use tokio::sync::{mpsc, oneshot};

/// How the broker's answer reaches a [`Sent`](crate::Sent).
pub(crate) type Answer = oneshot::Sender<Result<u64, NotStored>>;

/// Work for the thread.
#[derive(Debug)]
pub(crate) enum Job {
    /// Make a send durable, then tell the sender and the engine.
    Append {
        chat: String,
        id: String,
        payload: Bytes,
        taken: oneshot::Sender<Result<(), SendError>>,
        answer: Answer,
    },
    /// The broker answered.
    Finish(u64),
    /// Write what is left, close the file and give up its lock.
    Close(oneshot::Sender<()>),
}

/// A send on disk.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) send: Send,
    /// None for a send of an earlier run.
    pub(crate) answer: Option<Answer>,
}

/// Starts the thread. Jobs are bounded by their makers: appends by a semaphore, finishes by the
/// outbox's own bound; and so are the accepted.
///
/// # Errors
///
/// The system gives no thread.
pub(crate) fn start(
    outbox: Outbox,
    accepted: mpsc::UnboundedSender<Accepted>,
) -> io::Result<mpsc::UnboundedSender<Job>> {
    let (jobs, received) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("tidings-outbox".to_owned())
        .spawn(move || run(outbox, received, &accepted))?;
    Ok(jobs)
}

fn run(
    mut outbox: Outbox,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    accepted: &mpsc::UnboundedSender<Accepted>,
) {
    let mut group = Vec::new();
    let mut closing = None;
    while closing.is_none() {
        let Some(first) = jobs.blocking_recv() else { break };
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Append { chat, id, payload, taken, answer } => {
                    match outbox.append(chat, id, payload) {
                        Ok(send) => group.push((send, taken, answer)),
                        Err(error) => drop(taken.send(Err(send_error(&error)))),
                    }
                }
                Job::Finish(number) => outbox.finish(number),
                Job::Close(closed) => closing = Some(closed),
            }
            next = if group.len() < GROUP_MAX { jobs.try_recv().ok() } else { None };
        }
        let synced = outbox.sync(!group.is_empty());
        for (send, taken, answer) in group.drain(..) {
            match &synced {
                Ok(()) => {
                    // Nobody listening means the sender gave up waiting; the send stands.
                    let _ = accepted.send(Accepted { send, answer: Some(answer) });
                    let _ = taken.send(Ok(()));
                }
                Err(error) => drop(taken.send(Err(send_error(error)))),
            }
        }
    }
    drop(outbox);
    if let Some(closed) = closing {
        let _ = closed.send(());
    }
}

fn send_error(error: &OutboxError) -> SendError {
    match error {
        OutboxError::Full { sends, bytes } => {
            SendError::OutboxFull { sends: *sends, bytes: *bytes }
        }
        OutboxError::Io { source, .. } => SendError::Disk { cause: source.to_string() },
        error => SendError::Disk { cause: error.to_string() },
    }
}

/// Sends that share one sync.
const GROUP_MAX: usize = 256;

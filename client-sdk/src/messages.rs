//! The stream of entries, and what was sent.

use crate::entry::Entry;
use crate::error::{NotStored, Refusal};
use crate::inbox::Claim;
use crate::shared::Handle;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// Something that the outbox holds. Dropping it changes nothing about the sending; the outcome is
/// then told as an [`Event`](crate::Event).
#[derive(Debug)]
#[must_use = "it is safe in the outbox, but the broker may still refuse it"]
pub struct Sent {
    pub(crate) id: String,
    pub(crate) answered: oneshot::Receiver<Result<Option<u64>, Refusal>>,
}

impl Sent {
    /// The message's id, which its [`Entry`] carries on every device.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the first tick: the broker has stored it, as the seq returned; 0 where nothing
    /// new came of it.
    ///
    /// May take as long as there is no connection.
    ///
    /// # Errors
    ///
    /// The broker refused it for good, or the client ended first.
    pub async fn stored(self) -> Result<u64, NotStored> {
        match self.answered.await {
            Ok(Ok(seq)) => Ok(seq.unwrap_or_default()),
            Ok(Err(refusal)) => Err(NotStored::Refused(refusal)),
            Err(_) => Err(NotStored::Closed),
        }
    }
}

/// A stream of entries; see [`Chat::messages`](crate::Chat::messages) for when they are dealt with.
#[derive(Debug)]
pub struct Messages {
    handle: Arc<Handle>,
    claim: Claim,
    stream: u64,
    done: bool,
}

impl Messages {
    pub(crate) fn new(handle: Arc<Handle>, claim: Claim) -> Self {
        let stream = handle.shared.inbox.claim(&claim);
        Self { handle, claim, stream, done: false }
    }

    /// The next entry; the one before counts as dealt with. None when the client was closed or a
    /// newer stream took this one's place.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing, but the entry before counts as dealt with.
    pub async fn next(&mut self) -> Option<Entry> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The last entry given is dealt with, without asking for another.
    pub fn taken(&mut self) {
        self.handle.shared.inbox.taken(self.stream, &self.handle.shared.wake);
    }
}

impl Stream for Messages {
    type Item = Entry;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Entry>> {
        if self.done {
            return Poll::Ready(None);
        }
        self.taken();
        let shared = &self.handle.shared;
        let store = shared.store();
        let given = shared.inbox.poll_give(store.as_ref(), &self.claim, self.stream, cx);
        self.done = matches!(given, Poll::Ready(None));
        given
    }
}

/// An entry that was given but not dealt with goes to the next stream.
impl Drop for Messages {
    fn drop(&mut self) {
        self.handle.shared.inbox.release(&self.claim, self.stream);
    }
}

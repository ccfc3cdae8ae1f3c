//! A chat's handle: send, receive, mark as read.

use crate::entry::Entry;
use crate::error::{MarkReadError, NameError, NotStored, SendError};
use crate::hub::lock;
use crate::inbox::Claim;
use crate::options::check_name;
use crate::shared::Handle;
use crate::writer::Job;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// A chat of the user, cheap to clone.
#[derive(Debug, Clone)]
pub struct Chat {
    handle: Arc<Handle>,
    name: String,
}

impl Chat {
    pub(crate) fn new(handle: Arc<Handle>, name: &str) -> Result<Self, NameError> {
        let inner = name.strip_prefix(['@', '~', '!']).unwrap_or(name);
        // A seat of a room is a user too: `~9Zk1.1`.
        let inner = inner.strip_prefix('~').filter(|_| name.starts_with('@')).unwrap_or(inner);
        if check_name("chat", inner).is_err() {
            let expected = "@user, group, ~room or !channel of 1 to 64 of A-Z a-z 0-9 . _ -";
            return Err(NameError { what: "chat", name: name.to_owned(), expected });
        }
        Ok(Self { handle, name: name.to_owned() })
    }

    /// The chat as this user sees it: `@bob` is the direct chat with Bob.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a message for sending and returns once it is on disk.
    ///
    /// From then on it survives a crash: it is sent, and sent again with the same id over however
    /// many connections, until the broker answers. The broker stores it once.
    ///
    /// # Errors
    ///
    /// The message is too long, the outbox is full or could not be written, or the client is closed.
    /// After [`SendError::Disk`] the message may still be sent by the next client on the same data
    /// directory.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may or may not have sent the message.
    pub async fn send(&self, payload: impl Into<Bytes>) -> Result<Sent, SendError> {
        let payload = payload.into();
        let max = self.handle.payload_bytes_max;
        if payload.len() > max {
            return Err(SendError::TooLarge { bytes: payload.len(), max });
        }
        let id = new_id()?;
        let permit = self.handle.appends.acquire().await;
        let _permit = permit.map_err(|_| SendError::Closed)?;
        if self.handle.shared.is_closing() {
            return Err(SendError::Closed);
        }
        let (taken, told) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let (chat, sent_id) = (self.name.clone(), id.clone());
        let job = Job::Append { chat, id: sent_id, payload, taken, answer };
        self.handle.jobs.send(job).map_err(|_| SendError::Closed)?;
        told.await.map_err(|_| SendError::Closed)??;
        Ok(Sent { id, answered })
    }

    /// The chat's entries, each in order, from where this device left off.
    ///
    /// An entry is acknowledged, and its author's second tick set, when the next one is asked for
    /// or [`Messages::taken`] is called. So a crash while it is being dealt with brings it again:
    /// at least once. Without a crash each (chat, seq) is given once.
    ///
    /// An older stream of the same chat ends.
    pub fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.handle), Some(self.name.clone()))
    }

    /// Tells that every entry up to `seq` was read.
    ///
    /// Returns at once; it is repeated until the broker has it, but does not survive the end of the
    /// program. Positions of one chat that wait become one.
    ///
    /// # Errors
    ///
    /// Positions of 1,024 other chats wait already, or the client is closed.
    pub fn mark_read(&self, seq: u64) -> Result<(), MarkReadError> {
        if self.handle.shared.is_closing() {
            return Err(MarkReadError::Closed);
        }
        let mut reads = lock(&self.handle.shared.reads);
        if reads.len() >= READS_MAX && !reads.contains_key(&self.name) {
            return Err(MarkReadError::Full { chats: reads.len() });
        }
        let marked = reads.entry(self.name.clone()).or_default();
        *marked = (*marked).max(seq);
        self.handle.shared.wake.notify_one();
        Ok(())
    }
}

/// A message that the outbox holds. Dropping it changes nothing about the sending; the outcome is
/// then told as an [`Event`](crate::Event).
#[derive(Debug)]
#[must_use = "the message is safe in the outbox, but the broker may still refuse it"]
pub struct Sent {
    id: String,
    answered: oneshot::Receiver<Result<u64, NotStored>>,
}

impl Sent {
    /// The message's id, which its [`Entry`] carries on every device.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the first tick: the broker has stored the message, as the seq returned.
    ///
    /// May take as long as there is no connection.
    ///
    /// # Errors
    ///
    /// The broker refused the message for good, or the client ended first.
    pub async fn stored(self) -> Result<u64, NotStored> {
        self.answered.await.unwrap_or(Err(NotStored::Closed))
    }
}

/// A stream of entries; see [`Chat::messages`] for when they are acknowledged.
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
    /// Dropping the future loses nothing, but the entry before is acknowledged.
    pub async fn next(&mut self) -> Option<Entry> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The last entry given is dealt with: acknowledges it without asking for another.
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
        let given = self.handle.shared.inbox.poll_give(&self.claim, self.stream, cx);
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

/// 128 random bits: nobody's retry meets another message.
fn new_id() -> Result<String, SendError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| SendError::NoRandomness { cause: error.to_string() })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Chats whose read position may wait for the broker.
const READS_MAX: usize = 1_024;

//! What the program around a broker asks of chat, and how it hears the answer.
//!
//! An answer comes through a channel of its own, from the shard that has it. A [`Reply`] that is
//! dropped unanswered says that the broker has stopped.

use serde::Serialize;
use tokio::sync::oneshot;

/// Where an answer goes.
#[derive(Debug)]
pub(crate) struct Reply<T>(oneshot::Sender<Result<T, CallError>>);

impl<T> Reply<T> {
    /// A reply, and where it arrives.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<T, CallError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Gives the answer. Who asked may have gone.
    pub(crate) fn give(self, answer: Result<T, CallError>) {
        let _gone = self.0.send(answer);
    }
}

/// Why chat did not do what the program asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nothing can be asked before the broker with this chat was started.
    #[error("the broker of this chat has not been started")]
    NotStarted,
    /// It has stopped.
    #[error("the broker of this chat has stopped")]
    Stopped,
    /// Too many calls wait for their answer.
    #[error("{0} calls wait for their answer already")]
    Busy(usize),
    /// The system has no randomness to make codes of.
    #[error("the system has no source of randomness")]
    NoRandomness,
    /// The link or the code is wrong, or there were too many wrong ones; which of them is not told.
    #[error("the link or the code is wrong, or has to wait")]
    NotOpened,
    /// Something that was named is not the name of a user, or a chat.
    #[error("expected the name of {expected}, found {found:?}")]
    Name {
        /// Of what.
        expected: &'static str,
        /// What was given, its beginning.
        found: String,
    },
    /// Chat has refused it, as it refuses a Client.
    #[error("{code}: {text}")]
    Refused {
        /// The code that a Client would have got.
        code: &'static str,
        /// The sentence beside it.
        text: String,
        /// When it makes sense to try again, in milliseconds.
        retry_after: Option<u64>,
    },
}

/// A room that was made: two seats for two people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What the room is called, with its `~`.
    pub name: String,
    /// How each of the two gets in.
    pub seats: [SeatKey; 2],
}

/// How somebody takes a seat of a room: user name and password of a CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct SeatKey {
    /// The seat's link: what nobody guesses. The user name.
    pub link: String,
    /// The secret code that goes another way. The password.
    pub code: String,
}

impl std::fmt::Debug for SeatKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeatKey").field("link", &self.link).finish_non_exhaustive()
    }
}

/// A seat that was opened by link and code.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The user that sits there: `~{room}.{1|2}`.
    pub user: String,
    /// What the room is called.
    pub room: String,
    /// What opens the seat as the code does, and cannot be locked out by wrong codes.
    pub token: String,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("user", &self.user)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

/// Why a room is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Why {
    /// One of the two has said so.
    End,
    /// One of the two has gone on to somebody else.
    Next,
    /// One of the two has gone, and cannot come back.
    Gone,
    /// Nobody wrote or came for a while.
    Idle,
    /// It has lasted as long as a room does.
    Timeout,
}

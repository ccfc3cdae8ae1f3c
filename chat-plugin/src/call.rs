//! What the program around a broker asks of chat, and how it hears the answer.
//!
//! An answer comes through a channel of its own, from the shard that has it. A [`Reply`] that is
//! dropped unanswered says that the broker has stopped.

use std::sync::Arc;

use serde::Serialize;
use tidings_core::time::Time;
use tokio::sync::oneshot;

use crate::group::Role;

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

/// What became of a message, or of a change of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its place in the log.
    pub seq: u64,
    /// When the chat took it.
    pub time: Time,
}

/// Who is in a chat and how far all are: a page of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// The title, if it is a group that has one.
    pub title: Option<String>,
    /// The newest entry.
    pub last: u64,
    /// How many are in it.
    pub count: usize,
    /// Those of this page, by name.
    pub members: Vec<Standing>,
    /// The name behind which there are more.
    pub next: Option<Arc<str>>,
}

/// A member of a chat, and how far she is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// Who.
    pub user: Arc<str>,
    /// What she may do, in a group.
    pub role: Option<Role>,
    /// Everything up to here has reached a device of hers.
    pub delivered: u64,
    /// She has read up to here.
    pub read: u64,
    /// How far each device is that the chat knows: Client Identifier and cursor.
    pub devices: Vec<(Arc<str>, u64)>,
}

/// Where a device is woken that has no connection: what it said to `me/push`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushTarget {
    /// Its Client Identifier.
    pub device: Arc<str>,
    /// Its own words, for the push service: nobody else looks at them.
    pub to: Arc<str>,
}

/// A room that was made: two seats for two people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What the room is called, with its `~`.
    pub name: String,
    /// How each of the two gets in.
    pub seats: [SeatKey; 2],
}

/// What the two in a room are called, where whoever had it made has said so.
pub(crate) type SeatNames = Arc<[Box<str>; 2]>;

/// The seats of a room that begins: no links where two were paired.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    pub(crate) links: Vec<Box<str>>,
    pub(crate) names: Option<SeatNames>,
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
    /// What whoever sits there is called, if the room was made with names.
    pub name: Option<String>,
    /// The user of the other seat.
    pub other: String,
    /// What that one is called.
    pub other_name: Option<String>,
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

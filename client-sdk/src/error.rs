//! What can go wrong, one type per operation.
//!
//! A lost connection is not among them: the client reconnects by itself and tells so by
//! [`Event`](crate::Event). An `Err` here means that something was not, and will not be, done.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A name that the protocol does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not a valid name: expected {expected}")]
pub struct NameError {
    /// What the name was meant for: a user, a device or a chat.
    pub what: &'static str,
    /// The name as it was given.
    pub name: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

/// Why [`Client::connect`](crate::Client::connect) did not give a client.
///
/// No broker answering is not a reason: the client starts offline, and sends wait in the outbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A user, device or chat name is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The address is not `host:port`.
    #[error("address {address:?} is not host:port, for example 127.0.0.1:1883")]
    Address {
        /// The address as it was given.
        address: String,
    },
    /// An option is outside its bounds.
    #[error("option {option} is {found}: expected {expected}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// The value as it was given.
        found: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// The outbox could not be opened.
    #[error("cannot open the outbox")]
    Outbox(#[from] OutboxError),
    /// Called outside a tokio runtime.
    #[error("no tokio runtime: call connect from within one")]
    NoRuntime,
}

/// Why the outbox's file could not be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The operating system refused.
    #[error("{action} {path:?}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another client has this outbox open: two would send each other's messages twice.
    #[error("{path:?} is in use by another client: give this one another device name or data dir")]
    InUse {
        /// The lock's file.
        path: PathBuf,
    },
    /// The file was written by another format version.
    #[error("{path:?} is not an outbox of format {expected}: found header {found:?}")]
    Format {
        /// The outbox's file.
        path: PathBuf,
        /// The format that this version reads.
        expected: u8,
        /// The first bytes of the file.
        found: Vec<u8>,
    },
    /// An earlier write or sync failed; what the disk holds is not known until it is opened again.
    #[error("an earlier write of the outbox failed: open the client again")]
    Poisoned,
    /// The outbox is at its bound.
    #[error("outbox full: {sends} sends of {bytes} bytes wait for the broker")]
    Full {
        /// Sends that wait.
        sends: usize,
        /// Their bytes.
        bytes: usize,
    },
}

/// Why [`Chat::send`](crate::Chat::send) did not take a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is longer than [`ConnectOptions::payload_bytes_max`](crate::ConnectOptions).
    #[error("message of {bytes} bytes: at most {max} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Too many sends wait for the broker; try again when some are answered.
    #[error("outbox full: {sends} sends of {bytes} bytes wait for the broker")]
    OutboxFull {
        /// Sends that wait.
        sends: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The disk did not take it.
    #[error("the outbox could not be written: {cause}")]
    Disk {
        /// What the operating system said.
        cause: String,
    },
    /// The system gave no randomness for the message's id.
    #[error("no randomness for the message's id: {cause}")]
    NoRandomness {
        /// What the operating system said.
        cause: String,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// Why a send that the outbox took was not stored by the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStored {
    /// The broker refused it for good: the outbox has forgotten it.
    #[error("refused by the broker: {code}: {text}")]
    Refused {
        /// `forbidden`, `unknown_chat`, `limit`, `size`, `format`, `conflict`, `ended`, `late` or
        /// `unavailable`.
        code: String,
        /// A sentence for people.
        text: String,
        /// How long the broker wishes to be left alone, when it said so.
        retry_after: Option<Duration>,
    },
    /// The client ended before the broker answered: the outbox keeps the message, and the next
    /// client on the same data directory sends it.
    #[error("the client ended before the broker answered: the message waits in the outbox")]
    Closed,
}

/// Why [`Chat::mark_read`](crate::Chat::mark_read) took nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MarkReadError {
    /// Read positions of too many chats wait for the broker.
    #[error("read positions of {chats} chats wait for the broker already")]
    Full {
        /// How many wait.
        chats: usize,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// Why [`Client::presence`](crate::Client::presence) gave no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// The user's name is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Too many users are watched.
    #[error("{users} users are watched already")]
    Full {
        /// How many are.
        users: usize,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

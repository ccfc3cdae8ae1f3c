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
    /// The address is neither `host:port` nor a URL.
    #[error(
        "address {address:?} is neither host:port, for example 127.0.0.1:1883, nor a URL, for \
         example mqtts://alice:secret@chat.example.org/phone"
    )]
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
    /// The local store could not be opened.
    #[error("cannot open the local store")]
    Store(#[from] StoreError),
    /// The transport that the URL asks for is not in this build.
    #[error("{scheme} needs the feature {feature} of tidings-client, or another transport")]
    Scheme {
        /// What the URL begins with.
        scheme: String,
        /// The feature.
        feature: &'static str,
    },
    /// The certificates to trust cannot be read.
    #[error("no certificates to trust: {cause}")]
    Certificates {
        /// Why.
        cause: String,
    },
    /// Called outside a tokio runtime.
    #[error("no tokio runtime: call connect from within one")]
    NoRuntime,
}

/// Why the local store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
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
    /// Another client has this store open: two would send each other's messages twice.
    #[error("{path:?} is in use by another client: give this one another device name or data dir")]
    InUse {
        /// The lock's file.
        path: PathBuf,
    },
    /// It was written by a later version of this library.
    #[error("the store is of version {found}, and this library reads {expected}: use a newer one")]
    Version {
        /// The newest version that is read.
        expected: u8,
        /// What was found.
        found: u8,
    },
    /// What was read is not what was written.
    #[error("the store is damaged ({what}): move its directory away, history comes again")]
    Damaged {
        /// What cannot be read.
        what: String,
    },
    /// An earlier write failed; what the disk holds is not known until it is opened again.
    #[error("an earlier write of the store failed: open the client again")]
    Poisoned,
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
    /// The message id is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// Why the broker said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused by the broker: {code}: {text}")]
pub struct Refusal {
    /// `forbidden`, `unknown_chat`, `limit`, `size`, `format`, `conflict`, `ended`, `late` or
    /// `unavailable`: what to act on.
    pub code: String,
    /// A sentence for people.
    pub text: String,
    /// How long the broker wishes to be left alone, when it said so.
    pub retry_after: Option<Duration>,
}

/// Why what the client took was not done by the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStored {
    /// The broker refused it for good: the outbox has forgotten it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The client ended before the broker answered: the outbox keeps the message, and the next
    /// client on the same data directory sends it.
    #[error("the client ended before the broker answered: the message waits in the outbox")]
    Closed,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The broker refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many questions wait for the broker already.
    #[error("{waiting} questions wait for the broker already: wait for one of them")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The answer, or a row of the store, cannot be read.
    #[error("cannot read the answer: {cause}")]
    Unreadable {
        /// Why.
        cause: String,
    },
    /// A name in the question is not one.
    #[error(transparent)]
    Name(#[from] NameError),
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

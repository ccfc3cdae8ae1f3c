//! What the application hears: entries of chats, ticks, presence, and the client's own events.

use crate::error::NotStored;
use crate::hub::Tell;
use crate::outbox::OutboxDamage;
use crate::transport::Lost;
use std::time::Duration;

/// One entry of a chat's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The chat as this user sees it: `@bob`, `climbing`, `~9Zk1`.
    pub chat: String,
    /// Place in the chat, from 1, without gaps in the log; own entries of this device are not sent
    /// back to it.
    pub seq: u64,
    /// The user who wrote it.
    pub from: String,
    /// Milliseconds since the Unix epoch by the broker's clock; never goes back inside a chat.
    pub time: u64,
    /// The sender's message id; empty when the entry has none.
    pub id: String,
    /// What it says.
    pub body: Body,
    /// What it does to the chat.
    pub kind: EntryKind,
    /// The seq meant by an edit, a reaction or a deletion.
    pub reference: Option<u64>,
    /// Content type, when the sender gave one.
    pub content_type: Option<String>,
    /// When it disappears, in milliseconds since the Unix epoch.
    pub expires: Option<u64>,
}

/// The payload of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A payload that is UTF-8.
    Text(String),
    /// Any other payload.
    Data(Vec<u8>),
    /// An entry without one, such as a tombstone.
    Empty,
}

/// What an entry does to its chat.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A message.
    Message,
    /// Replaces an earlier one of the same author.
    Edit,
    /// A reaction to an earlier one.
    Reaction,
    /// Deletes an earlier one.
    Delete,
    /// Written by the broker: membership, timers.
    System,
    /// A kind newer than this client.
    Other(String),
}

/// Ticks: how far others are, heard by the authors of messages only.
///
/// Cursors, not events: a lost one is healed by the next, and none ever goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// One user's cursors in a chat.
    User {
        /// The chat.
        chat: String,
        /// Whose cursors they are; one's own name tells what another own device has read.
        user: String,
        /// Every entry up to here is on a device of theirs.
        delivered: u64,
        /// Every entry up to here was read.
        read: u64,
        /// Entries that their device refused.
        failed: Vec<u64>,
    },
    /// Counts for one message of a larger group.
    Counts {
        /// The chat.
        chat: String,
        /// The message.
        seq: u64,
        /// How many members have it on a device.
        delivered: u64,
        /// How many have read it.
        read: u64,
        /// How many members there are.
        members: u64,
    },
}

/// Whether a user is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presence {
    /// The user.
    pub user: String,
    /// What the broker says.
    pub state: PresenceState,
    /// When they were last there, in milliseconds since the Unix epoch; none if never, or hidden.
    pub last_seen: Option<u64>,
    /// Orders the broker's statements: one of a lower epoch is never reported after a higher.
    pub epoch: u64,
}

/// The three states of presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceState {
    /// A device is connected and in use.
    Online,
    /// A device is connected.
    Away,
    /// None is.
    Offline,
}

/// What happened to the client itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection is open; unanswered sends are on their way again.
    Connected {
        /// Whether the broker still had the device's Session.
        session_present: bool,
    },
    /// There is no connection, for the first time or no longer.
    Disconnected {
        /// Why.
        reason: Lost,
        /// When the next attempt begins; none when the client was closed.
        retry_in: Option<Duration>,
    },
    /// A send whose [`Sent`](crate::Sent) is gone, from an earlier run or dropped, is stored.
    Stored {
        /// The chat.
        chat: String,
        /// The message id.
        id: String,
        /// The seq it got.
        seq: u64,
    },
    /// A send whose [`Sent`](crate::Sent) is gone was refused for good.
    NotStored {
        /// The chat.
        chat: String,
        /// The message id.
        id: String,
        /// Why.
        error: NotStored,
    },
    /// The broker has refused a send for the moment; it is repeated by itself.
    Postponed {
        /// The chat.
        chat: String,
        /// The message id.
        id: String,
        /// `limit` or what else the broker called it.
        code: String,
        /// When it is repeated.
        retry_in: Duration,
    },
    /// The broker refused something other than a message, such as a read position.
    Refused {
        /// The chat.
        chat: String,
        /// One of the codes of [`NotStored::Refused`].
        code: String,
        /// A sentence for people.
        text: String,
    },
    /// Entries wait for a stream that nobody has opened. They are not acknowledged, and as many as
    /// the Receive Maximum hold up every chat: open the chat's stream or the client's.
    Unclaimed {
        /// The chat.
        chat: String,
    },
    /// A chat is over: no more entries come.
    Ended {
        /// The chat.
        chat: String,
    },
    /// The broker refused a subscription.
    SubscriptionRefused {
        /// The Topic Filter; for `me/json/#` nothing can be received.
        filter: String,
        /// What the broker said.
        reason: String,
    },
    /// Something came in that this client cannot read; it was acknowledged and passed over.
    Unreadable {
        /// The Topic Name.
        topic: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The outbox's file had been damaged; sends may be missing from it.
    OutboxDamaged(OutboxDamage),
}

impl Tell for Event {
    fn merge(&mut self, _newer: &Self) -> bool {
        false
    }
}

impl Tell for Presence {
    fn merge(&mut self, newer: &Self) -> bool {
        self.clone_from(newer);
        true
    }
}

impl Tell for Receipt {
    fn merge(&mut self, newer: &Self) -> bool {
        match (self, newer) {
            (
                Self::User { chat, user, delivered, read, failed },
                Self::User { chat: c, user: u, delivered: d, read: r, failed: f },
            ) if chat == c && user == u => {
                *delivered = (*delivered).max(*d);
                *read = (*read).max(*r);
                failed.extend(f);
                failed.drain(..failed.len().saturating_sub(FAILED_MAX));
                true
            }
            (
                Self::Counts { chat, seq, delivered, read, members },
                Self::Counts { chat: c, seq: s, delivered: d, read: r, members: m },
            ) if chat == c && seq == s => {
                (*delivered, *read, *members) = ((*delivered).max(*d), (*read).max(*r), *m);
                true
            }
            _ => false,
        }
    }
}

/// Refused entries kept in one receipt; more than a Receive Maximum cannot be outstanding.
pub(crate) const FAILED_MAX: usize = 64;

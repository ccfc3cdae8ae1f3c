//! What the application hears: entries of chats, ticks, presence, and the client's own events.

use crate::error::Refusal;
use crate::hub::Tell;
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
    /// Whether this very device sent it.
    pub own: bool,
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

impl EntryKind {
    /// As the protocol calls it.
    pub fn name(&self) -> &str {
        match self {
            Self::Message => "message",
            Self::Edit => "edit",
            Self::Reaction => "reaction",
            Self::Delete => "delete",
            Self::System => "system",
            Self::Other(name) => name,
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        match name {
            "message" => Self::Message,
            "edit" => Self::Edit,
            "reaction" => Self::Reaction,
            "delete" => Self::Delete,
            "system" => Self::System,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Body {
    /// The text; none for other bytes.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Data(_) | Self::Empty => None,
        }
    }

    /// What a payload is: text if it is UTF-8.
    pub(crate) fn of(payload: &[u8]) -> Self {
        match std::str::from_utf8(payload) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Data(payload.to_vec()),
        }
    }
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

/// What somebody does right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typing {
    /// Writes.
    Typing,
    /// Speaks.
    Recording,
    /// Neither any more; also said when nothing was heard for 6 seconds.
    Stopped,
}

impl Typing {
    /// As the protocol calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::Recording => "recording",
            Self::Stopped => "stopped",
        }
    }
}

/// Somebody types, or has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypingChanged {
    /// The chat.
    pub chat: String,
    /// Who.
    pub user: String,
    /// What they do now.
    pub state: Typing,
}

/// Something of a chat changed: an entry, a tick, what is unread, what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changed {
    /// The chat.
    pub chat: String,
}

/// Where the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// An attempt is under way.
    Connecting,
    /// There is a connection.
    Online,
    /// There is none.
    Offline {
        /// Why.
        reason: Lost,
        /// When the next attempt begins; none: not before
        /// [`Client::reconnect`](crate::Client::reconnect).
        retry_in: Option<Duration>,
    },
    /// The client was closed.
    Closed,
}

/// What happened to the client itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The connection changed.
    State(State),
    /// The broker did not know the device any more, and what it missed is being fetched; or never
    /// knew it.
    NewSession,
    /// A send whose [`Sent`](crate::Sent) is gone, from an earlier run or dropped, is stored.
    Stored {
        /// The chat.
        chat: String,
        /// The message id.
        id: String,
        /// The seq it got, if it is an entry.
        seq: Option<u64>,
    },
    /// A send whose [`Sent`](crate::Sent) is gone was refused for good.
    NotStored {
        /// The chat.
        chat: String,
        /// The message id; empty for a command without one.
        id: String,
        /// Why.
        refusal: Refusal,
    },
    /// The broker has refused something for the moment; it is repeated by itself.
    Postponed {
        /// The chat.
        chat: String,
        /// The message id; empty for a command without one.
        id: String,
        /// `limit` or what else the broker called it.
        code: String,
        /// When it is repeated.
        retry_in: Duration,
    },
    /// Somebody wrote for the first time (`stranger`), or is a stranger no longer.
    Request {
        /// Who.
        user: String,
        /// Whether they are one.
        stranger: bool,
    },
    /// A chat is over: no more entries come.
    Ended {
        /// The chat.
        chat: String,
        /// Of a room: `end`, `next`, `gone`, `idle` or `timeout`.
        why: Option<String>,
    },
    /// A room is over soon.
    Ending {
        /// The room.
        chat: String,
        /// When, in ms since 1970.
        at: u64,
        /// `idle` or `timeout`.
        why: String,
    },
    /// The other one in a room has sent a signal, such as an offer for a call.
    Signal {
        /// The room.
        chat: String,
        /// Who.
        from: String,
        /// What.
        body: Body,
    },
    /// Pairing has found somebody.
    Paired {
        /// The room to talk in.
        chat: String,
        /// The pool.
        pool: String,
        /// What both like.
        interest: Option<String>,
        /// The other one.
        partner: String,
    },
    /// Pairing has found nobody in time.
    Unpaired {
        /// The pool.
        pool: String,
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
    /// The disk failed: nothing is sent or acknowledged any more. Open the client again.
    StoreFailed {
        /// What the store said.
        cause: String,
    },
    /// Something happened to the store before it was opened.
    StoreNotice(String),
}

impl Tell for Event {
    fn merge(&mut self, _newer: &Self) -> bool {
        false
    }
}

impl Tell for Changed {
    fn merge(&mut self, newer: &Self) -> bool {
        self == newer
    }
}

impl Tell for TypingChanged {
    fn merge(&mut self, newer: &Self) -> bool {
        let same = self.chat == newer.chat && self.user == newer.user;
        if same {
            self.state = newer.state;
        }
        same
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

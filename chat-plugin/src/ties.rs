//! What users think of each other: whom one blocks, whom one has accepted, and what is for whom.
//!
//! It is kept twice. The user's side has the list that she sees; each chat has the part of it that
//! concerns the chat, so that a send is judged without asking anybody. A *contact* is somebody whom
//! one has written to in a direct chat, or accepted; everybody else is a stranger.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidings_core::hook::SessionId;
use tidings_core::slot::ShardId;
use tidings_core::time::Time;

use crate::topics::ChatId;

/// For whom something is. On disk as the number of its place here: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reach {
    #[default]
    All,
    Contacts,
    Nobody,
}

/// What a user lets others know and do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Privacy {
    /// Who hears her ticks. Who hides them hears none.
    pub(crate) receipts: Reach,
    /// Who sees whether she is there. Who hides it sees nobody's.
    pub(crate) presence: Reach,
    /// Who may add her to a group.
    pub(crate) groups: Reach,
}

/// What a user thinks of another, beyond having written to him.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PeerRow {
    pub(crate) blocked: bool,
    pub(crate) accepted: bool,
}

/// What a chat knows of this: how one member stands to the other, or to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Stance {
    pub(crate) blocked: bool,
    pub(crate) accepted: bool,
    /// Whether her ticks are nobody's business.
    pub(crate) hides: bool,
}

/// When a device was last there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SeenRow {
    pub(crate) seen: Time,
}

/// Whether a chat has got into somebody's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It has.
    Yes,
    /// She has too many.
    Full,
    /// Too many strangers wait for her answer.
    Requests,
    /// She wants none of this.
    Unwanted,
}

/// Which of a user's commands waits for chats to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Telling(pub(crate) u64);

/// A session that wants to know of somebody's presence.
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) shard: ShardId,
    pub(crate) session: SessionId,
    /// Whose it is.
    pub(crate) by: Arc<str>,
    /// In which groups she is.
    pub(crate) groups: Vec<ChatId>,
    /// Whether it has just said so, and so is to hear something at once.
    pub(crate) fresh: bool,
}

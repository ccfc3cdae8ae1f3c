//! One entry of a chat's log, as it is in memory.
//!
//! Its row is written and read in `rows.rs`, and what a Client sees of it is made in `view.rs`:
//! neither is of interest to those who pass it on.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::time::Time;

/// One entry of a chat's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place in the log, from 1, without gaps.
    pub(crate) seq: u64,
    /// When the chat took it; never before the entry before it.
    pub(crate) time: Time,
    /// Who sent it.
    pub(crate) from: Arc<str>,
    /// From which device, which does not hear it again.
    pub(crate) device: Arc<str>,
    /// The sender's id for it, or the server's where the sender gave none.
    pub(crate) id: Box<str>,
    /// The Content Type (§3.3.2.3.9), if one was given.
    pub(crate) content_type: Option<Box<str>>,
    /// What was sent.
    pub(crate) payload: Bytes,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What an entry is. On disk by these numbers; a message has none there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// What a member wrote.
    Message = 0,
    /// What changed: members, roles, the title.
    System = 1,
}

impl Kind {
    pub(crate) const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::System),
            _ => None,
        }
    }

    /// Its name in views; a message has none.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Message => None,
            Self::System => Some("system"),
        }
    }
}

impl Entry {
    /// Whether it is unread until it was read: what changes something else is not.
    pub(crate) const fn counts(&self) -> bool {
        matches!(self.kind, Kind::Message)
    }

    /// Roughly the memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.payload.len()
    }
}

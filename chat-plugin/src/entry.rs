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
    /// The entry it is about; 0 for none.
    pub(crate) refers: u64,
    /// When its content goes.
    pub(crate) expires: Option<Time>,
}

/// What an entry is. On disk by these numbers; a message has none there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// What a member wrote.
    Message = 0,
    /// What changed: members, roles, the title.
    System = 1,
    /// What a message says from now on.
    Edit = 2,
    /// What somebody thinks of an entry; nothing, and it is taken back.
    Reaction = 3,
    /// An entry is gone for all.
    Delete = 4,
    /// An entry is gone for who wrote this, and nobody else hears of it.
    Hide = 5,
    /// Where an entry was that is gone.
    Gone = 6,
}

impl Kind {
    pub(crate) const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Message),
            1 => Some(Self::System),
            2 => Some(Self::Edit),
            3 => Some(Self::Reaction),
            4 => Some(Self::Delete),
            5 => Some(Self::Hide),
            6 => Some(Self::Gone),
            _ => None,
        }
    }

    /// Its name in views; a message has none.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Message | Self::Gone => None,
            Self::System => Some("system"),
            Self::Edit => Some("edit"),
            Self::Reaction => Some("reaction"),
            Self::Delete | Self::Hide => Some("delete"),
        }
    }
}

impl Entry {
    /// Whether it is unread until it was read: what changes something else is not.
    pub(crate) const fn counts(&self) -> bool {
        matches!(self.kind, Kind::Message)
    }

    /// Whether its author hears who has it.
    pub(crate) const fn ticks(&self) -> bool {
        matches!(self.kind, Kind::Message)
    }

    /// Whether `user` is to see it, at `now`.
    pub(crate) fn is_shown_to(&self, user: &str, now: Time) -> bool {
        match self.kind {
            Kind::Gone => false,
            Kind::Hide if *self.from != *user => false,
            _ => self.expires.is_none_or(|expires| expires > now),
        }
    }

    /// What stays of it when it has gone: its place, whose it was and by which id, and what stands
    /// for its content.
    pub(crate) fn gone(&self, content: &[u8]) -> Self {
        Self {
            content_type: None,
            payload: Bytes::copy_from_slice(content),
            kind: Kind::Gone,
            refers: 0,
            expires: None,
            ..self.clone()
        }
    }

    /// Roughly the memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.payload.len()
    }
}

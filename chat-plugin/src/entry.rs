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
}

impl Entry {
    /// Whether it is unread until it was read: what changes something else is not.
    #[expect(clippy::unused_self, reason = "all there is so far are messages")]
    pub(crate) const fn counts(&self) -> bool {
        true
    }

    /// Roughly the memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.payload.len()
    }
}

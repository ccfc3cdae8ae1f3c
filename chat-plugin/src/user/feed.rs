//! The messages of one device: a lane for each chat, and which of them lag behind.
//!
//! A feed lasts one stay, from connect to disconnect. What outlives it is with the chats: cursors.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidings_core::time::Time;

use super::lane::Lane;
use crate::map::{Map, map};
use crate::peer::FeedId;
use crate::topics::{ChatId, Place};

/// The messages of one device.
#[derive(Debug)]
pub(super) struct Feed {
    /// Which stay it is of.
    pub(super) id: FeedId,
    /// Since when it is a device.
    pub(super) since: Time,
    /// Whether it is its user's only one.
    pub(super) sole: bool,
    pub(super) lanes: Map<ChatId, Lane>,
    /// How many chats have been asked and not answered.
    pub(super) attaching: usize,
    /// The last chat of the index that was asked.
    pub(super) asked: Option<ChatId>,
    /// Lanes with something to hand over, the most recent first.
    pub(super) behind: BTreeSet<(Reverse<Time>, ChatId)>,
    /// The chat that was asked for entries and has not answered.
    pub(super) fetching: Option<Fetching>,
}

/// A question for entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetching {
    pub(super) chat: ChatId,
    /// From where on.
    pub(super) from: u64,
    /// The newest entry of the lane when it was asked.
    pub(super) head: u64,
}

impl Feed {
    /// One that has asked no chat yet.
    pub(super) fn new(id: FeedId, since: Time, sole: bool) -> Self {
        Self {
            id,
            since,
            sole,
            lanes: map(),
            attaching: 0,
            asked: None,
            behind: BTreeSet::new(),
            fetching: None,
        }
    }

    /// The chats it is attached to.
    pub(super) fn places(&self) -> impl Iterator<Item = &Arc<Place>> {
        // The order does not matter: each goes to a chat of its own.
        self.lanes.values().map(|lane| &lane.place)
    }

    /// Those whose chats have not said where the cursor is.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &Lane> {
        // The order does not matter: each tells a chat of its own.
        self.lanes.values().filter(|lane| !lane.attached)
    }

    /// Whether a chat was asked.
    pub(super) fn knows(&self, chat: ChatId) -> bool {
        self.lanes.contains_key(&chat)
    }

    /// Whether it knows where each of these chats is.
    pub(super) fn is_complete(&self, chats: &BTreeMap<ChatId, Arc<Place>>) -> bool {
        self.attaching == 0 && self.asked.is_none() && self.lanes.len() == chats.len()
    }

    /// Notes that a lane has something to hand over, if it has.
    pub(super) fn lags(&mut self, chat: ChatId) {
        if let Some(lane) = self.lanes.get(&chat).filter(|lane| lane.is_behind()) {
            self.behind.insert((Reverse(lane.time), chat));
        }
    }
}

//! A connected session: what it hears, and what waits for it.
//!
//! Only a connection makes one. What is known of a persistent session without one is its row, at
//! its user.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::{SessionId, Tag};
use tidings_core::message::Message;
use tidings_core::topic::TopicFilter;

use super::feed::Feed;
use crate::entry::Entry;
use crate::peer::{DeviceOf, SyncId};
use crate::topics::View;
use crate::topics::{ChatId, hears_messages, view_of};

/// A connected session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) user: Arc<str>,
    pub(super) client_id: Arc<str>,
    pub(super) version: Version,
    pub(super) persistent: bool,
    pub(super) resumed: bool,
    /// What it hears of its own.
    pub(super) filters: Vec<(TopicFilter, QoS)>,
    /// In which view.
    pub(super) view: View,
    /// Whether it asked for several entries in one message.
    pub(super) batch: bool,
    /// Whether it hears `ack` though a PUBACK says the same.
    pub(super) acks: bool,
    /// What it asked for and has not got yet.
    pub(super) syncs: Vec<SyncId>,
    /// Whether a subscription that hears messages was there before this connection.
    pub(super) kept: bool,
    /// Whose presence it watches.
    pub(super) watching: BTreeSet<Arc<str>>,
    /// Deliveries that it sends again by itself, and what came back before their lane was there.
    pub(super) in_flight: BTreeMap<Tag, Option<ReasonCode>>,
    /// Its messages, if it is a device.
    pub(super) feed: Option<Feed>,
    /// Whether it says that nobody looks at it.
    pub(super) away: bool,
    /// Whether it takes nothing at present.
    pub(super) full: bool,
    /// Answers that found it full.
    pub(super) answers: VecDeque<Arc<Message>>,
}

impl Session {
    /// The best QoS with which it hears messages.
    pub(super) fn hears(&self) -> Option<QoS> {
        let hearing = self.filters.iter().filter(|(filter, _)| hears_messages(filter));
        hearing.filter(|(filter, _)| view_of(filter) == self.view).map(|(_, qos)| *qos).max()
    }

    /// Its filters have changed. It hears in one view: where it asked for both, in JSON.
    pub(super) fn refresh_view(&mut self) {
        let cbor = |(filter, _): &(TopicFilter, QoS)| view_of(filter) == View::Cbor;
        let only = !self.filters.is_empty() && self.filters.iter().all(cbor);
        self.view = if only { View::Cbor } else { View::Json };
    }

    pub(super) fn device(&self, id: SessionId) -> DeviceOf {
        DeviceOf {
            user: Arc::clone(&self.user),
            client_id: Arc::clone(&self.client_id),
            session: id,
            persistent: self.persistent,
        }
    }

    /// Whether it is the device that sent this.
    pub(super) fn sent(&self, entry: &Entry) -> bool {
        *entry.from == *self.user && *entry.device == *self.client_id
    }

    /// Whether the cursor in a chat is past `before`.
    pub(super) fn moved(&self, chat: ChatId, before: u64) -> bool {
        let lane = self.feed.as_ref().and_then(|feed| feed.lanes.get(&chat));
        lane.is_some_and(|lane| lane.cursor() > before)
    }
}

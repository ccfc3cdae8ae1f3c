//! Devices: sessions that hear messages with QoS 1 or 2, and so have a cursor in each chat.
//!
//! A persistent one has a row, from its first subscription on until its cursors have been taken
//! back. A device that comes asks every chat it hears where its cursor is, and is handed nothing of
//! a chat before that has answered.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::codec::QoS;
use tidings_core::hook::{Host, SessionId, Tag};
use tidings_core::record::{Op, Record};
use tidings_core::time::Time;
use tidings_core::topic::TopicFilter;

use super::feed::Feed;
use super::lane::{Lane, places_of};
use super::outgoing::{put, to_chat};
use super::{Timer, UserSide};
use crate::peer::{ChatInput, DeviceOf, FeedId};
use crate::rows::{DeviceRow, RowValue, device_key};
use crate::topics::View;
use crate::topics::{ChatId, Place, hears_all_messages, hears_messages, in_view, view_of};

impl UserSide {
    /// Whether an answer is for the present stay of a device, and not for an earlier one.
    pub(super) fn is_present(&self, id: SessionId, feed: FeedId) -> bool {
        let present = self.sessions.get(&id).and_then(|session| session.feed.as_ref());
        present.is_some_and(|present| present.id == feed)
    }

    /// A session's subscriptions have changed, or its user's rows are there.
    pub(super) fn refresh(&mut self, id: SessionId, host: &mut dyn Host) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(user) = self.users.get_mut(&session.user) else { return };
        if !user.loaded {
            return;
        }
        let other_feeds =
            user.sessions.iter().filter(|other| **other != id).any(|other| {
                self.sessions.get(other).is_some_and(|session| session.feed.is_some())
            });
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.hears().is_none_or(|qos| qos == QoS::AtMostOnce) {
            if session.feed.take().is_some() {
                let (user, client_id) = (session.user.clone(), session.client_id.clone());
                self.end_device(&user, &client_id, id, host);
            }
            if let Some(session) = self.sessions.get(&id).filter(|s| s.hears().is_some()) {
                self.listen(&Arc::clone(&session.user), host);
            }
            return;
        }
        let everything = session
            .filters
            .iter()
            .filter(|(filter, _)| view_of(filter) == session.view)
            .any(|(filter, qos)| *qos > QoS::AtMostOnce && hears_all_messages(filter));
        let known = user.devices.get(&session.client_id).filter(|row| !row.leaving).copied();
        let known = known.filter(|row| session.resumed || row.session == id.0);
        session.batch |= session.resumed && user.batching.contains(&session.client_id);
        // A subscription from before without a row was made just before a crash: all that is kept
        // is for it.
        let now = if session.kept { Time::default() } else { host.now() };
        let since = known.map_or(now, |row| row.since);
        let row = DeviceRow { session: id.0, since, everything, leaving: false };
        if session.persistent && known != Some(row) {
            user.devices.insert(Arc::clone(&session.client_id), row);
            put(device_key(&session.user, &session.client_id), row.to_bytes(), true, host);
        }
        if session.feed.is_none() {
            let others = user
                .devices
                .iter()
                .filter(|(client_id, row)| !row.leaving && **client_id != session.client_id);
            let sole = others.count() == 0 && !other_feeds;
            let id = FeedId(self.next_feed);
            self.next_feed += 1;
            session.feed = Some(Feed::new(id, since, sole));
        }
        if let Some(feed) = &mut session.feed {
            feed.asked = None;
        }
        self.attach_more(id, host);
    }

    /// Asks chats for the cursor, a bounded number at a time.
    pub(super) fn attach_more(&mut self, id: SessionId, host: &mut dyn Host) {
        use std::ops::Bound::{Excluded, Unbounded};
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(user) = self.users.get(&session.user) else { return };
        let device = session.device(id);
        let Some(feed) = &mut session.feed else { return };
        let from = feed.asked.map_or(Unbounded, Excluded);
        for (chat, place) in user.chats.range((from, Unbounded)) {
            if feed.attaching >= ATTACHING_MAX {
                return;
            }
            feed.asked = Some(*chat);
            if feed.lanes.contains_key(chat)
                || !covers(&session.filters, session.view, &session.user, place)
            {
                continue;
            }
            let key = chat.to_key();
            let first = Tag { key, seq: 0 };
            let last = Tag { key, seq: u64::MAX };
            let in_flight = session.in_flight.range(first..=last);
            let answered = in_flight.clone().filter(|(_, reason)| reason.is_some());
            let waiting = in_flight.clone().filter(|(_, reason)| reason.is_none());
            let lane = Lane::new(
                Arc::clone(place),
                waiting.flat_map(|(tag, _)| places_of(*tag)),
                answered.clone().flat_map(|(tag, _)| places_of(*tag)),
            );
            feed.lanes.insert(*chat, lane);
            for (tag, _) in answered.filter(|(_, reason)| reason.is_some_and(|r| r.is_error())) {
                for seq in places_of(*tag) {
                    let failed = ChatInput::Failed { user: Arc::clone(&session.user), seq };
                    to_chat(place, failed, host);
                }
            }
            feed.attaching += 1;
            let attach = ChatInput::Attach {
                device: device.clone(),
                stance: user.stance(place),
                feed: feed.id,
                since: feed.since,
                sole: feed.sole,
                resumed: session.resumed,
            };
            to_chat(place, attach, host);
        }
        // A chat that begins later may come anywhere.
        feed.asked = None;
    }

    /// A chat has said where the cursor is.
    pub(super) fn attached(
        &mut self,
        chat: ChatId,
        id: SessionId,
        cursor: u64,
        head: u64,
        time: Time,
        host: &mut dyn Host,
    ) {
        let Some(feed) = self.sessions.get_mut(&id).and_then(|session| session.feed.as_mut())
        else {
            return;
        };
        let Some(lane) = feed.lanes.get_mut(&chat).filter(|lane| !lane.attached) else { return };
        lane.attach(cursor, head, time);
        let dirty = lane.cursor() > cursor;
        feed.attaching -= 1;
        feed.lags(chat);
        let more = feed.asked.is_some();
        if dirty {
            self.progressed(id, chat, host);
        }
        if more {
            self.attach_more(id, host);
        }
        self.pump(id, host);
    }

    /// A device is no more: its cursors are taken back, and then its row.
    pub(super) fn end_device(
        &mut self,
        name: &Arc<str>,
        client_id: &Arc<str>,
        session: SessionId,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get_mut(name) else { return };
        let row = user.devices.get_mut(client_id).filter(|row| row.session == session.0);
        let persistent = row.is_some();
        if let Some(row) = row
            && !row.leaving
        {
            // Until the row goes, a crash only repeats this.
            row.leaving = true;
            put(device_key(name, client_id), row.to_bytes(), false, host);
        }
        let connected = self.sessions.contains_key(&session);
        if !persistent && !connected {
            return;
        }
        if persistent {
            let left = Timer::Left(Arc::clone(name), Arc::clone(client_id));
            self.timers.set(host.now() + LEAVING, left);
        }
        let device = DeviceOf {
            user: Arc::clone(name),
            client_id: Arc::clone(client_id),
            session,
            persistent,
        };
        for place in user.chats.values() {
            to_chat(place, ChatInput::Detach { device: device.clone() }, host);
        }
    }

    /// The cursors of a device have been taken back by now.
    pub(super) fn forget_device(&mut self, name: &str, client_id: &str, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        if user.devices.get(client_id).is_some_and(|row| row.leaving) {
            user.devices.remove(client_id);
            let delete = Op::Delete { key: device_key(name, client_id) };
            host.store(Record { ops: vec![delete], urgent: false });
        }
    }
}

/// Whether a session hears the messages of a chat with QoS 1 or 2.
fn covers(filters: &[(TopicFilter, QoS)], view: View, user: &str, place: &Place) -> bool {
    let heard = || in_view(place.heard(user, "message"), view);
    let acknowledging = filters.iter().filter(|(_, qos)| *qos > QoS::AtMostOnce);
    acknowledging.filter(|(filter, _)| view_of(filter) == view).any(|(filter, _)| {
        hears_all_messages(filter) || (hears_messages(filter) && filter.matches(&heard()))
    })
}

/// How many chats a device asks for its cursor at a time.
const ATTACHING_MAX: usize = 256;

/// How long a device's row stays after it has ended.
const LEAVING: Duration = Duration::from_secs(10);

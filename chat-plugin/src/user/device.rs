//! Devices: what they lack is fetched, what is new is handed over, what they acknowledge is told.
//!
//! A session that hears messages with QoS 1 or 2 is a device and has a cursor in each chat. It is
//! handed entries in order, a lane for each chat; whenever it lags behind, because it just came or
//! because it was full, the chat is asked for what is missing, the most recent chat first. A
//! session that hears with QoS 0 gets what is new and nothing else.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use tidings_core::codec::{QoS, ReasonCode};
use tidings_core::hook::{Host, Refused, SessionId, Tag};
use tidings_core::message::Message;
use tidings_core::record::{Op, Record};
use tidings_core::time::Time;

use super::lane::Lane;
use super::{Session, Timer, UserSide, message, put, to_chat};
use crate::entry::Entry;
use crate::map::{Map, map};
use crate::peer::{ChatInput, FeedId, Tick};
use crate::rows::{DeviceRow, RowValue, device_key};
use crate::topics::{ChatId, Place, heard, hears_all_messages, hears_messages};
use crate::view;

/// The messages of one device.
#[derive(Debug)]
pub(super) struct Feed {
    id: FeedId,
    since: Time,
    sole: bool,
    lanes: Map<ChatId, Lane>,
    /// How many chats have been asked and not answered.
    attaching: usize,
    /// The last chat of the index that was asked.
    asked: Option<ChatId>,
    /// Lanes with something to hand over, the most recent first.
    behind: BTreeSet<(Reverse<Time>, ChatId)>,
    fetching: Option<ChatId>,
}

impl Feed {
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

    fn lags(&mut self, chat: ChatId) {
        if let Some(lane) = self.lanes.get(&chat).filter(|lane| lane.is_behind()) {
            self.behind.insert((Reverse(lane.time), chat));
        }
    }
}

/// Whether a lane can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Stop,
}

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
            return;
        }
        let everything = session
            .filters
            .iter()
            .any(|(filter, qos)| *qos > QoS::AtMostOnce && hears_all_messages(filter));
        let known = user.devices.get(&session.client_id).filter(|row| !row.leaving).copied();
        let known = known.filter(|row| session.resumed || row.session == id.0);
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
            session.feed = Some(Feed {
                id,
                since,
                sole,
                lanes: map(),
                attaching: 0,
                asked: None,
                behind: BTreeSet::new(),
                fetching: None,
            });
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
            if feed.lanes.contains_key(chat) || !covers(&session.filters, place, &session.user) {
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
                waiting.map(|(tag, _)| tag.seq),
                answered.clone().map(|(tag, _)| tag.seq),
            );
            feed.lanes.insert(*chat, lane);
            for (tag, _) in answered.filter(|(_, reason)| reason.is_some_and(|r| r.is_error())) {
                let failed = ChatInput::Failed { user: Arc::clone(&session.user), seq: tag.seq };
                to_chat(place, failed, host);
            }
            feed.attaching += 1;
            let attach = ChatInput::Attach {
                device: device.clone(),
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

    /// A chat has a new entry.
    pub(super) fn deliver(
        &mut self,
        place: &Arc<Place>,
        name: &str,
        entry: &Arc<Entry>,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get(name) else { return };
        let mut shown = Shown::new(place, name);
        let mut index = 0;
        let (mut progressed, mut lagging) = (Vec::new(), Vec::new());
        while let Some(id) = user.sessions.get(index).copied() {
            index += 1;
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(feed) = &mut session.feed else {
                if session.hears() == Some(QoS::AtMostOnce) && !is_own(session, entry) {
                    // QoS 0: a session that is full goes without.
                    let message = shown.message(entry, host);
                    let _ = host.deliver(id, &message, None);
                }
                continue;
            };
            let Some(lane) = feed.lanes.get_mut(&place.id).filter(|lane| lane.attached) else {
                continue;
            };
            lane.head = lane.head.max(entry.seq);
            lane.time = entry.time;
            if entry.seq == lane.next && !session.full {
                let before = lane.cursor();
                hand_over(session, id, entry, &mut shown, host);
                if session.moved(place.id, before) {
                    progressed.push(id);
                }
            }
            if let Some(feed) = &mut session.feed {
                feed.lags(place.id);
                if !feed.behind.is_empty() {
                    lagging.push(id);
                }
            }
        }
        for id in progressed {
            self.progressed(id, place.id, host);
        }
        for id in lagging {
            self.pump(id, host);
        }
    }

    /// Asks for what the most recent chat has and the device lacks, one question at a time.
    pub(super) fn pump(&mut self, id: SessionId, host: &mut dyn Host) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.full {
            return;
        }
        let Some(feed) = &mut session.feed else { return };
        if feed.fetching.is_some() || feed.attaching > 0 {
            return;
        }
        while let Some((_, chat)) = feed.behind.pop_first() {
            let Some(lane) = feed.lanes.get(&chat).filter(|lane| lane.is_behind()) else {
                continue;
            };
            feed.fetching = Some(chat);
            let (shard, from) = (host.shard(), lane.next);
            let fetch = ChatInput::Fetch { shard, session: id, feed: feed.id, from };
            return to_chat(&lane.place, fetch, host);
        }
    }

    /// A chat has answered with entries.
    pub(super) fn entries(
        &mut self,
        place: &Arc<Place>,
        id: SessionId,
        entries: &[Arc<Entry>],
        upto: u64,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(feed) = &mut session.feed else { return };
        if feed.fetching != Some(place.id) {
            return;
        }
        feed.fetching = None;
        let Some(lane) = feed.lanes.get(&place.id).filter(|lane| lane.attached) else { return };
        let before = lane.cursor();
        let name = Arc::clone(&session.user);
        let mut shown = Shown::new(place, &name);
        let mut flow = Flow::On;
        for entry in entries {
            shown.forget();
            flow = hand_over(session, id, entry, &mut shown, host);
            if flow == Flow::Stop {
                break;
            }
        }
        let moved = if let Some(feed) = &mut session.feed {
            if let Some(lane) = feed.lanes.get_mut(&place.id).filter(|_| flow == Flow::On) {
                // What was not among them is gone.
                lane.pass(upto);
                if upto < lane.next && entries.is_empty() {
                    // There is no more: never ask for the same nothing again.
                    lane.head = upto.max(lane.next - 1);
                }
            }
            feed.lags(place.id);
            session.moved(place.id, before)
        } else {
            false
        };
        if moved {
            self.progressed(id, place.id, host);
        }
        self.pump(id, host);
    }

    /// A delivery was acknowledged.
    pub(crate) fn acknowledged(
        &mut self,
        id: SessionId,
        tag: Tag,
        reason: ReasonCode,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let chat = ChatId::from_key(tag.key);
        let name = Arc::clone(&session.user);
        let lane = session.feed.as_mut().and_then(|feed| feed.lanes.get_mut(&chat));
        let Some(lane) = lane else {
            if let Some(answered) = session.in_flight.get_mut(&tag) {
                *answered = Some(reason);
            }
            return;
        };
        if !lane.acknowledge(tag.seq) {
            return;
        }
        if reason.is_error() {
            to_chat(&lane.place, ChatInput::Failed { user: name, seq: tag.seq }, host);
        }
        if lane.cursor() > lane.told {
            self.progressed(id, chat, host);
        }
    }

    /// Notes that a chat is to hear of a cursor before long.
    fn progressed(&mut self, id: SessionId, chat: ChatId, host: &mut dyn Host) {
        let Some(feed) = self.sessions.get_mut(&id).and_then(|session| session.feed.as_mut())
        else {
            return;
        };
        let Some(lane) = feed.lanes.get_mut(&chat) else { return };
        if !std::mem::replace(&mut lane.dirty, true) {
            if self.dirty.is_empty() {
                self.timers.set(host.now() + self.options.progress_delay, Timer::Progress);
            }
            self.dirty.push((id, chat));
        }
    }

    /// Tells the chats how far devices are.
    pub(super) fn tell_progress(&mut self, host: &mut dyn Host) {
        for (id, chat) in std::mem::take(&mut self.dirty) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let device = session.device(id);
            let Some(feed) = &mut session.feed else { continue };
            let Some(lane) = feed.lanes.get_mut(&chat) else { continue };
            lane.dirty = false;
            let cursor = lane.cursor();
            if cursor > lane.told {
                lane.told = cursor;
                to_chat(&lane.place, ChatInput::Progress { device, cursor }, host);
            }
        }
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
        let device = crate::peer::DeviceOf {
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

    /// Tells the devices of `to` how far `about` is.
    pub(super) fn receipt(
        &mut self,
        place: &Arc<Place>,
        to: &str,
        about: &str,
        tick: &Tick,
        except: Option<&str>,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get(to) else { return };
        if user.sessions.is_empty() {
            return;
        }
        let message = receipt_message(place, to, about, tick, host);
        for id in &user.sessions {
            let Some(session) = self.sessions.get(id) else { continue };
            if except != Some(&*session.client_id) {
                // Lost ones heal: the cursors are told again.
                let _ = host.deliver(*id, &message, None);
            }
        }
    }

    /// A device that came back hears how far the others are.
    pub(super) fn receipts_at_attach(
        &mut self,
        place: &Arc<Place>,
        id: SessionId,
        peer: Option<Tick>,
        own_read: u64,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let name = &session.user;
        if let Some(tick) = peer.filter(|tick| tick.delivered > Some(0)) {
            let message = receipt_message(place, name, place.peer(name), &tick, host);
            let _ = host.deliver(id, &message, None);
        }
        if own_read > 0 {
            let tick = Tick { read: Some(own_read), ..Tick::default() };
            let message = receipt_message(place, name, name, &tick, host);
            let _ = host.deliver(id, &message, None);
        }
    }
}

impl Session {
    /// Whether the cursor in a chat is past `before`.
    fn moved(&self, chat: ChatId, before: u64) -> bool {
        let lane = self.feed.as_ref().and_then(|feed| feed.lanes.get(&chat));
        lane.is_some_and(|lane| lane.cursor() > before)
    }
}

/// Hands one entry over to a device whose turn it is, or passes over it.
fn hand_over(
    session: &mut Session,
    id: SessionId,
    entry: &Arc<Entry>,
    shown: &mut Shown<'_>,
    host: &mut dyn Host,
) -> Flow {
    let own = is_own(session, entry);
    let user = Arc::clone(&session.user);
    let Some(feed) = &mut session.feed else { return Flow::Stop };
    let chat = shown.place.id;
    let Some(lane) = feed.lanes.get_mut(&chat) else { return Flow::Stop };
    if entry.seq < lane.next {
        return Flow::On;
    }
    // What lies between is gone, or it would have come.
    lane.pass(entry.seq - 1);
    if entry.seq < lane.next {
        return Flow::On;
    }
    if own || lane.has(entry.seq) {
        lane.pass(entry.seq);
        return Flow::On;
    }
    let tag = Tag { key: chat.to_key(), seq: entry.seq };
    let message = shown.message(entry, host);
    match host.deliver(id, &message, Some(tag)) {
        Ok(QoS::AtMostOnce) => {
            // Another of its filters hears this chat with QoS 0: nobody will say it arrived.
            lane.frozen = true;
            lane.pass(entry.seq);
            Flow::On
        }
        Ok(_) => {
            lane.hand_over();
            Flow::On
        }
        Err(Refused::Full) => {
            session.full = true;
            Flow::Stop
        }
        Err(Refused::TooLarge) => {
            // Counts as sent [MQTT-3.1.2-25], but it is no delivery.
            lane.pass(entry.seq);
            to_chat(&lane.place, ChatInput::Failed { user, seq: entry.seq }, host);
            Flow::On
        }
        Err(Refused::NotSubscribed | Refused::NotConnected) => {
            lane.attached = false;
            Flow::Stop
        }
    }
}

/// Whether the session is the device that sent it.
fn is_own(session: &Session, entry: &Entry) -> bool {
    *entry.from == *session.user && *entry.device == *session.client_id
}

/// Whether a session hears the messages of a chat with QoS 1 or 2.
fn covers(filters: &[(tidings_core::topic::TopicFilter, QoS)], place: &Place, user: &str) -> bool {
    let mut acknowledging = filters.iter().filter(|(_, qos)| *qos > QoS::AtMostOnce);
    acknowledging.any(|(filter, _)| {
        hears_all_messages(filter)
            || (hears_messages(filter) && filter.matches(&heard(place.peer(user), "message")))
    })
}

/// An entry as one user's sessions see it: encoded once, and only if somebody looks.
struct Shown<'a> {
    place: &'a Arc<Place>,
    user: &'a str,
    message: Option<Arc<Message>>,
}

impl<'a> Shown<'a> {
    fn new(place: &'a Arc<Place>, user: &'a str) -> Self {
        Self { place, user, message: None }
    }

    /// The next entry is another one.
    fn forget(&mut self) {
        self.message = None;
    }

    fn message(&mut self, entry: &Entry, host: &mut dyn Host) -> Arc<Message> {
        let message = self.message.get_or_insert_with(|| {
            let topic = heard(self.place.peer(self.user), "message");
            message(&topic, view::entry(entry), QoS::AtLeastOnce, host)
        });
        Arc::clone(message)
    }
}

fn receipt_message(
    place: &Place,
    to: &str,
    about: &str,
    tick: &Tick,
    host: &mut dyn Host,
) -> Arc<Message> {
    let body = view::body(&view::Receipt {
        user: about,
        delivered: tick.delivered,
        read: tick.read,
        failed: &tick.failed,
    });
    message(&heard(place.peer(to), "receipt"), body, QoS::AtMostOnce, host)
}

/// How many chats a device asks for its cursor at a time.
const ATTACHING_MAX: usize = 256;

/// How long a device's row stays after it has ended.
const LEAVING: std::time::Duration = std::time::Duration::from_secs(10);

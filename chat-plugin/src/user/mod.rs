//! The side of the users: their sessions, what they ask for, and what they hear.
//!
//! A user's rows and all her sessions are in one shard, so that her devices need no coordination.
//! She is in memory while a session of hers is connected or somebody watches her presence. What
//! needs her rows waits until they are read; sending does not need them.

mod command;
mod device;
mod lane;
mod parting;
mod presence;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::{Client, Disconnection, Host, Refused, SessionId, Tag};
use tidings_core::message::Message;
use tidings_core::record::{Op, Position, Query, Record, Row};
use tidings_core::slot::ShardId;
use tidings_core::time::Time;
use tidings_core::topic::TopicFilter;

use crate::deadline::Deadlines;
use crate::map::{Map, map};
use crate::options::ChatOptions;
use crate::peer::{ChatInput, DeviceOf, Peer, PresenceState, ToChat, ToUser};
use crate::rows::{
    DeviceRow, PresenceRow, RowValue, UserChatRow, UserRow, split_user_key, user_chat_key,
    user_range,
};
use crate::topics::{ChatId, Listening, Place, hears_messages, is_name, user_slot};
use device::Feed;

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct UserSide {
    options: Arc<ChatOptions>,
    users: Map<Arc<str>, User>,
    sessions: Map<SessionId, Session>,
    reads: Map<u64, Arc<str>>,
    next_read: u64,
    next_feed: u64,
    timers: Deadlines<Timer>,
    /// Chats that begin and wait for the index row to be safe.
    begins: VecDeque<(Position, Arc<Place>, ChatInput)>,
    /// Lanes whose cursor the chat is to hear of.
    dirty: Vec<(SessionId, ChatId)>,
}

#[derive(Debug, Clone)]
enum Timer {
    /// Tell chats of cursors.
    Progress,
    /// A user may be offline.
    Grace(Arc<str>),
    /// A device's cursors have been taken back.
    Left(Arc<str>, Arc<str>),
}

/// A user in memory.
#[derive(Debug)]
struct User {
    name: Arc<str>,
    /// Whether her rows have been read.
    loaded: bool,
    /// Those that are connected.
    sessions: Vec<SessionId>,
    /// Persistent ones, by Client Identifier.
    devices: BTreeMap<Arc<str>, DeviceRow>,
    chats: BTreeMap<ChatId, Arc<Place>>,
    /// Places by the peer's name: spares the hash.
    places: Map<Box<str>, Arc<Place>>,
    presence: PresenceState,
    /// When her last session ended, and whether a will may bring the change forward.
    away: Option<(Time, bool)>,
    watchers: BTreeSet<(ShardId, SessionId)>,
    /// When she was last heard typing, by chat.
    typing: BTreeMap<ChatId, Time>,
    /// What waits for her rows.
    waiting: Vec<Later>,
}

/// What needs a user's rows.
#[derive(Debug)]
enum Later {
    Begin { place: Arc<Place>, since: Time },
    Ended { client_id: Arc<str>, session: SessionId },
    Watch { shard: ShardId, session: SessionId },
    Ahead { device: DeviceOf, tags: Vec<Tag> },
}

/// A connected session.
#[derive(Debug)]
struct Session {
    user: Arc<str>,
    client_id: Arc<str>,
    version: Version,
    persistent: bool,
    resumed: bool,
    /// What it hears of its own.
    filters: Vec<(TopicFilter, QoS)>,
    /// Whether a subscription that hears messages was there before this connection.
    kept: bool,
    /// Whose presence it watches.
    watching: BTreeSet<Arc<str>>,
    /// Deliveries that it sends again by itself, and what came back before their lane was there.
    in_flight: BTreeMap<Tag, Option<ReasonCode>>,
    /// Its messages, if it is a device.
    feed: Option<Feed>,
    /// Whether it takes nothing at present.
    full: bool,
    /// Answers that found it full.
    answers: VecDeque<Arc<Message>>,
}

impl Session {
    /// The best QoS with which it hears messages.
    fn hears(&self) -> Option<QoS> {
        let hearing = self.filters.iter().filter(|(filter, _)| hears_messages(filter));
        hearing.map(|(_, qos)| *qos).max()
    }

    fn device(&self, id: SessionId) -> DeviceOf {
        DeviceOf {
            user: Arc::clone(&self.user),
            client_id: Arc::clone(&self.client_id),
            session: id,
            persistent: self.persistent,
        }
    }
}

impl UserSide {
    pub(crate) fn new(options: Arc<ChatOptions>) -> Self {
        Self {
            options,
            users: map(),
            sessions: map(),
            reads: map(),
            next_read: 1,
            next_feed: 1,
            timers: Deadlines::new(),
            begins: VecDeque::new(),
            dirty: Vec::new(),
        }
    }

    /// When [`UserSide::timed_out`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// A session has a connection.
    pub(crate) fn connected(
        &mut self,
        id: SessionId,
        client: &Client<'_>,
        persistent: bool,
        resumed: bool,
        in_flight: &[Tag],
        host: &mut dyn Host,
    ) {
        if !is_name(client.user) {
            return;
        }
        let user = self.user(client.user, host);
        if !user.sessions.contains(&id) {
            user.sessions.push(id);
        }
        let name = Arc::clone(&user.name);
        self.sessions.insert(
            id,
            Session {
                user: Arc::clone(&name),
                client_id: client.client_id.into(),
                version: client.version,
                persistent,
                resumed,
                filters: Vec::new(),
                kept: false,
                watching: BTreeSet::new(),
                in_flight: in_flight.iter().map(|tag| (*tag, None)).collect(),
                feed: None,
                full: false,
                answers: VecDeque::new(),
            },
        );
        self.arrived(&name, host);
    }

    /// A session has no connection any more.
    pub(crate) fn disconnected(&mut self, id: SessionId, how: Disconnection, host: &mut dyn Host) {
        // Before the session is forgotten: its next connection builds on what the chats know.
        self.tell_progress(host);
        self.tell_ahead(id, host);
        let Some(session) = self.sessions.remove(&id) else { return };
        if let Some(feed) = &session.feed
            && !session.persistent
        {
            for place in feed.places() {
                let what = ChatInput::Detach { device: session.device(id) };
                to_chat(place, what, host);
            }
        }
        for watched in &session.watching {
            let (shard, user) = (host.shard(), Arc::clone(watched));
            to_user(watched, ToUser::Unwatch { user, shard, session: id }, host);
        }
        if let Some(user) = self.users.get_mut(&session.user) {
            user.sessions.retain(|connected| *connected != id);
        }
        self.left(&session.user, how, host);
    }

    /// A session is over.
    pub(crate) fn session_ended(
        &mut self,
        id: SessionId,
        client: &Client<'_>,
        host: &mut dyn Host,
    ) {
        if !is_name(client.user) {
            return;
        }
        if self.sessions.contains_key(&id) {
            self.disconnected(id, Disconnection::Abrupt, host);
        }
        let ended = Later::Ended { client_id: client.client_id.into(), session: id };
        self.later(client.user, ended, host);
    }

    /// A session hears something from now on.
    pub(crate) fn subscribed(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        qos: QoS,
        new: bool,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match Listening::parse(filter) {
            Ok(Listening::Presence(user)) => {
                let user: Arc<str> = user.into();
                session.watching.insert(Arc::clone(&user));
                let (shard, to) = (host.shard(), Arc::clone(&user));
                to_user(&to, ToUser::Watch { user, shard, session: id }, host);
            }
            Ok(Listening::Own) => {
                session.filters.retain(|(known, _)| known != filter);
                session.filters.push((filter.clone(), qos));
                session.kept |= !new && session.resumed && hears_messages(filter);
                self.refresh(id, host);
            }
            Err(_) => {}
        }
    }

    /// A session does not hear something any more.
    pub(crate) fn unsubscribed(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match Listening::parse(filter) {
            Ok(Listening::Presence(user)) => {
                if let Some(user) = session.watching.take(user) {
                    let (shard, to) = (host.shard(), Arc::clone(&user));
                    to_user(&to, ToUser::Unwatch { user, shard, session: id }, host);
                }
            }
            Ok(Listening::Own) => {
                session.filters.retain(|(known, _)| known != filter);
                self.refresh(id, host);
            }
            Err(_) => {}
        }
    }

    /// The session takes deliveries again.
    pub(crate) fn room(&mut self, id: SessionId, host: &mut dyn Host) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.full = false;
        while let Some(answer) = session.answers.pop_front() {
            if matches!(host.deliver(id, &answer, None), Err(Refused::Full)) {
                session.answers.push_front(answer);
                session.full = true;
                return;
            }
        }
        self.pump(id, host);
    }

    /// Records up to `position` are safe.
    pub(crate) fn stored(&mut self, position: Position, host: &mut dyn Host) {
        while self.begins.front().is_some_and(|(at, ..)| *at <= position) {
            let Some((_, place, begun)) = self.begins.pop_front() else { return };
            to_chat(&place, begun, host);
        }
    }

    /// Rows have come. Ignores those asked for by the other side.
    pub(crate) fn rows(&mut self, token: u64, rows: &[Row], more: bool, host: &mut dyn Host) {
        let Some(name) = self.reads.remove(&token) else { return };
        let Some(user) = self.users.get_mut(&name) else { return };
        for row in rows {
            // A row that cannot be read is passed over: nobody else depends on it.
            let _ = user.take(row);
        }
        if let Some(last) = rows.last().filter(|_| more) {
            let range = user_range(&name).after(&last.key);
            return self.read(name, range, host);
        }
        user.loaded = true;
        let leaving = user.devices.iter().filter(|(_, row)| row.leaving);
        let mut waiting: Vec<Later> = leaving
            .map(|(client_id, row)| Later::Ended {
                client_id: Arc::clone(client_id),
                session: SessionId(row.session),
            })
            .collect();
        waiting.append(&mut user.waiting);
        self.presence_loaded(&name, host);
        for later in waiting {
            self.now(&name, later, host);
        }
        let sessions = self.users.get(&name).map(|user| user.sessions.clone());
        for id in sessions.unwrap_or_default() {
            self.refresh(id, host);
        }
        self.unload(&name);
    }

    /// Takes what a chat, or another user's side, says.
    pub(crate) fn handle(&mut self, input: ToUser, host: &mut dyn Host) {
        match input {
            ToUser::Begin { place, user, since } => {
                self.later(&user, Later::Begin { place, since }, host);
            }
            ToUser::Answered { place, origin, id, made, outcome } => {
                self.answered(&place, &origin, id.as_deref(), made, outcome, host);
            }
            ToUser::Attached { place, session, feed, cursor, head, time, peer, own_read } => {
                if self.is_present(session, feed) {
                    self.receipts_at_attach(&place, session, peer, own_read, host);
                    self.attached(place.id, session, cursor, head, time, host);
                }
            }
            ToUser::Deliver { place, user, entry } => self.deliver(&place, &user, &entry, host),
            ToUser::Entries { place, session, feed, entries, upto } => {
                if self.is_present(session, feed) {
                    self.entries(&place, session, &entries, upto, host);
                }
            }
            ToUser::Receipt { place, to, about, tick, except } => {
                self.receipt(&place, &to, &about, &tick, except.as_deref(), host);
            }
            ToUser::Watch { user, shard, session } => {
                self.later(&user, Later::Watch { shard, session }, host);
            }
            ToUser::Unwatch { user, shard, session } => {
                if let Some(watched) = self.users.get_mut(&user) {
                    watched.watchers.remove(&(shard, session));
                    watched.waiting.retain(|later| {
                        !matches!(later, Later::Watch { shard: s, session: id }
                            if *s == shard && *id == session)
                    });
                    self.unload(&user);
                }
            }
            ToUser::Presence { user, state, sessions } => {
                self.presence_changed(&user, state, &sessions, host);
            }
            ToUser::Typing { to, from, state } => self.typing_heard(&to, &from, state, host),
        }
    }

    /// Does what is due by now.
    pub(crate) fn timed_out(&mut self, host: &mut dyn Host) {
        let now = host.now();
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Progress => self.tell_progress(host),
                Timer::Grace(user) => self.grace_over(&user, host),
                Timer::Left(user, client_id) => self.forget_device(&user, &client_id, host),
            }
        }
    }

    /// The user, who is being read if she was not there.
    fn user(&mut self, name: &str, host: &mut dyn Host) -> &mut User {
        if !self.users.contains_key(name) {
            let name: Arc<str> = name.into();
            self.users.insert(Arc::clone(&name), User::new(Arc::clone(&name)));
            self.read(Arc::clone(&name), user_range(&name), host);
        }
        self.users.entry_ref(name).or_insert_with(|| User::new(name.into()))
    }

    fn read(&mut self, name: Arc<str>, range: tidings_core::record::KeyRange, host: &mut dyn Host) {
        let token = self.next_read;
        self.next_read += READ_STEP;
        self.reads.insert(token, name);
        let (rows_max, bytes_max) = (READ_ROWS_MAX, READ_BYTES_MAX);
        host.read(token, Query { range, rows_max, bytes_max, backwards: false });
    }

    /// Does something now, or as soon as the user's rows are read.
    fn later(&mut self, name: &str, later: Later, host: &mut dyn Host) {
        let user = self.user(name, host);
        let name = Arc::clone(&user.name);
        if user.loaded {
            self.now(&name, later, host);
            self.unload(&name);
        } else {
            user.waiting.push(later);
        }
    }

    fn now(&mut self, name: &Arc<str>, later: Later, host: &mut dyn Host) {
        match later {
            Later::Begin { place, since } => self.begin(name, place, since, host),
            Later::Ended { client_id, session } => {
                self.end_device(name, &client_id, session, host);
            }
            Later::Watch { shard, session } => self.watch(name, shard, session, host),
            Later::Ahead { device, tags } => self.ahead(&device, &tags, host),
        }
    }

    /// Puts a chat into a user's index.
    fn begin(&mut self, name: &Arc<str>, place: Arc<Place>, since: Time, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        let known = user.chats.contains_key(&place.id);
        if !known && user.chats.len() >= self.options.user_chats_max {
            let refused =
                ChatInput::Begun { user: Arc::clone(name), taken: false, devices: Vec::new() };
            return to_chat(&place, refused, host);
        }
        user.chats.insert(place.id, Arc::clone(&place));
        let row = UserChatRow { peer: place.peer(name).to_string(), since };
        let key = user_chat_key(name, place.id);
        let position = put(key, row.to_bytes(), true, host);
        let everywhere = user.devices.iter().filter(|(_, row)| row.everything && !row.leaving);
        let devices = everywhere.map(|(client_id, row)| DeviceOf {
            user: Arc::clone(name),
            client_id: Arc::clone(client_id),
            session: SessionId(row.session),
            persistent: true,
        });
        let begun =
            ChatInput::Begun { user: Arc::clone(name), taken: true, devices: devices.collect() };
        self.begins.push_back((position, place, begun));
        for id in user.sessions.clone() {
            self.attach_more(id, host);
        }
    }

    /// Drops a user from memory whom nothing needs there.
    fn unload(&mut self, name: &str) {
        let idle = self.users.get(name).is_some_and(|user| {
            user.loaded
                && user.sessions.is_empty()
                && user.watchers.is_empty()
                && user.waiting.is_empty()
                && user.away.is_none()
        });
        if idle {
            self.users.remove(name);
        }
    }

    /// Delivers an answer, which waits if the session is full; some are lost if too many wait.
    fn answer_message(&mut self, id: SessionId, message: Arc<Message>, host: &mut dyn Host) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.full || matches!(host.deliver(id, &message, None), Err(Refused::Full)) {
            session.full = true;
            if session.answers.len() < ANSWERS_MAX {
                session.answers.push_back(message);
            }
        }
    }
}

impl User {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            loaded: false,
            sessions: Vec::new(),
            devices: BTreeMap::new(),
            chats: BTreeMap::new(),
            places: map(),
            presence: PresenceState::default(),
            away: None,
            watchers: BTreeSet::new(),
            typing: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    fn take(&mut self, row: &Row) -> Option<()> {
        let (kind, rest) = split_user_key(&row.key, &self.name)?;
        match kind {
            UserRow::Presence => {
                let row = PresenceRow::from_bytes(&row.value).ok()?;
                self.presence = PresenceState {
                    online: row.online,
                    last_seen: row.last_seen,
                    epoch: row.epoch,
                };
            }
            UserRow::Device => {
                let row = DeviceRow::from_bytes(&row.value).ok()?;
                self.devices.insert(std::str::from_utf8(rest).ok()?.into(), row);
            }
            UserRow::Chat => {
                let chat = UserChatRow::from_bytes(&row.value).ok()?;
                let place = Place::direct(&self.name, &chat.peer);
                self.chats.insert(place.id, place);
            }
        }
        Some(())
    }

    /// The direct chat with `peer`.
    fn place(&mut self, peer: &str) -> Arc<Place> {
        if let Some(place) = self.places.get(peer) {
            return Arc::clone(place);
        }
        if self.places.len() >= PLACES_MAX {
            self.places.clear();
        }
        let place = Place::direct(&self.name, peer);
        self.places.insert(peer.into(), Arc::clone(&place));
        place
    }
}

fn to_chat(place: &Arc<Place>, what: ChatInput, host: &mut dyn Host) {
    let shard = place.shard(host.shards());
    host.send(shard, Box::new(Peer::Chat(ToChat { place: Arc::clone(place), what })));
}

fn to_user(user: &str, what: ToUser, host: &mut dyn Host) {
    let shard = user_slot(user).shard(host.shards());
    host.send(shard, Box::new(Peer::User(what)));
}

fn put(key: Bytes, value: Bytes, urgent: bool, host: &mut dyn Host) -> Position {
    host.store(Record { ops: vec![Op::Put { key, value }], urgent })
}

/// A message of the service's own.
fn message(topic: &str, payload: Bytes, qos: QoS, host: &mut dyn Host) -> Arc<Message> {
    Arc::new(Message::new(host.message_id(), topic, payload, qos, host.now()))
}

/// Read tokens of this side are odd.
const READ_STEP: u64 = 2;

/// How many rows of a user one read takes.
const READ_ROWS_MAX: usize = 1_024;

/// After how many bytes it ends.
const READ_BYTES_MAX: usize = 256 * 1024;

/// How many answers wait for a session that is full. Those beyond are lost: with MQTT 5 the
/// acknowledgement has said the same.
const ANSWERS_MAX: usize = 64;

/// How many places a user has at hand.
const PLACES_MAX: usize = 256;

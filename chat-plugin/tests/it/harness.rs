//! A broker in miniature: shards, a store that loses what was not synced, sessions with windows.
//!
//! Nothing happens by itself. A test lets messages flow with [`World::run`], makes records safe
//! with [`World::sync`], lets time pass with [`World::advance`], and [`World::settle`] does all of it
//! until nothing moves. With a seed other than 0 the order of everything that is not promised to be
//! in order is random.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidings_chat::{Chat, ChatHandle, ChatOptions, Vault};
use tidings_core::codec::{
    PacketId, PacketKind, Properties, PropertiesBuf, Property, Publish, QoS, ReasonCode, Version,
};
use tidings_core::hook::{
    Answer, AnswerToken, Client, Disconnection, Host, Line, Refused, Service, ServiceEvent,
    ServiceFactory, SessionId, Tag,
};
use tidings_core::message::{Message, MessageId};
use tidings_core::metric::Metric;
use tidings_core::record::{Op, Position, Query, Record, Row};
use tidings_core::slot::{ShardId, Slot};
use tidings_core::time::Time;
use tidings_core::topic::TopicFilter;

/// Keys that survive every crash.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Vec<Option<[u8; 32]>>>);

impl Keys {
    /// Those that are not destroyed.
    pub(crate) fn left(&self) -> usize {
        self.0.lock().unwrap().iter().flatten().count()
    }
}

impl Keys {
    pub(crate) fn bring_back(&self, place: usize) {
        self.0.lock().unwrap()[place] = Some([place as u8 + 1; 32]);
    }
}

impl Vault for Keys {
    fn allot(&self) -> Option<(u64, [u8; 32])> {
        let mut keys = self.0.lock().unwrap();
        let place = keys.len() as u64;
        let secret = [place as u8 + 1; 32];
        keys.push(Some(secret));
        Some((place, secret))
    }

    fn secret(&self, place: u64) -> Option<[u8; 32]> {
        self.0.lock().unwrap().get(place as usize).copied().flatten()
    }

    fn destroy(&self, place: u64) {
        self.0.lock().unwrap()[place as usize] = None;
    }
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    shuffled: bool,
    chat: Chat,
    shards: Vec<Shard>,
    network: BTreeMap<(u16, u16), VecDeque<Box<dyn Any + Send>>>,
    pub(crate) outside: Outside,
    /// Whether what is published says that it was sent before.
    pub(crate) dup: bool,
    next_session: u64,
    next_serial: u64,
    from_outside: Arc<FromOutside>,
}

/// What the program around the broker has sent and no shard has got yet.
#[derive(Debug)]
struct FromOutside {
    shards: u16,
    sent: Mutex<Vec<(ShardId, Box<dyn Any + Send>)>>,
}

impl Line for FromOutside {
    fn shards(&self) -> u16 {
        self.shards
    }

    fn send(&self, shard: ShardId, message: Box<dyn Any + Send>) {
        self.sent.lock().unwrap().push((shard, message));
    }
}

struct Shard {
    service: Box<dyn Service>,
    events: VecDeque<Event>,
    store: Store,
    reads: VecDeque<(u64, Query)>,
}

/// What all shards see: sessions and answers.
#[derive(Default)]
pub(crate) struct Outside {
    sessions: BTreeMap<SessionId, Session>,
    answers: BTreeMap<u64, Answer>,
    next_message: u64,
    /// Whether users are held to rates.
    pub(crate) rates_apply: bool,
    pub(crate) counted: Vec<Metric>,
    /// Sessions that the service wants to be over.
    ending: Vec<SessionId>,
}

/// A client's session.
pub(crate) struct Session {
    pub(crate) user: String,
    pub(crate) client_id: String,
    pub(crate) version: Version,
    persistent: bool,
    /// Whether its client says with CONNECT that it takes batches.
    pub(crate) batch: bool,
    /// Whether it says that it hears `ack`.
    pub(crate) ack: bool,
    pub(crate) connected: bool,
    filters: Vec<(TopicFilter, QoS)>,
    pub(crate) window: usize,
    pub(crate) queue_max: usize,
    in_flight: VecDeque<(Arc<Message>, Option<Tag>)>,
    queue: VecDeque<(Arc<Message>, Option<Tag>)>,
    full: bool,
    /// What its client has heard, with whether it was sent again.
    pub(crate) heard: Vec<Heard>,
    /// Whether its client acknowledges as soon as it is let.
    pub(crate) acknowledges: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) topic: String,
    /// As JSON, whatever the view.
    pub(crate) body: String,
    /// As it came.
    pub(crate) bytes: Bytes,
    pub(crate) qos: QoS,
    /// The Correlation Data.
    pub(crate) correlation: Option<Vec<u8>>,
    pub(crate) again: bool,
}

enum Event {
    Started,
    Connected { session: SessionId, resumed: bool, in_flight: Vec<Tag> },
    Disconnected { session: SessionId, how: Disconnection },
    Ended { session: SessionId, user: String, client_id: String },
    Subscribed { session: SessionId, filter: TopicFilter, qos: QoS, new: bool },
    Unsubscribed { session: SessionId, filter: TopicFilter },
    Published(Published),
    Acknowledged { session: SessionId, tag: Tag, reason: ReasonCode },
    Room { session: SessionId },
    Stored(Position),
}

struct Published {
    session: Option<SessionId>,
    user: String,
    client_id: String,
    version: Version,
    topic: String,
    payload: Bytes,
    properties: Vec<u8>,
    token: Option<AnswerToken>,
}

/// Rows as reads see them, and as a crash leaves them.
#[derive(Default)]
pub(crate) struct Store {
    rows: BTreeMap<Bytes, Bytes>,
    synced: BTreeMap<Bytes, Bytes>,
    unsynced: VecDeque<Record>,
    /// How often each row was put: one that was put twice is not forgotten, but deleted.
    times: BTreeMap<Bytes, usize>,
    synced_times: BTreeMap<Bytes, usize>,
    position: u64,
    /// How many records there were, urgent ones among them, and how many rows they put.
    pub(crate) records: usize,
    pub(crate) urgent: usize,
    pub(crate) puts: usize,
}

fn apply(rows: &mut BTreeMap<Bytes, Bytes>, record: &Record) {
    for op in &record.ops {
        match op {
            Op::Put { key, value } => {
                rows.insert(key.clone(), value.clone());
            }
            Op::PutAll { keys, value } => {
                for key in keys {
                    rows.insert(key.clone(), value.clone());
                }
            }
            Op::Delete { key } | Op::Forget { key } => {
                rows.remove(key);
            }
        }
    }
}

fn note_times(times: &mut BTreeMap<Bytes, usize>, record: &Record) {
    for op in &record.ops {
        match op {
            Op::Put { key, .. } => *times.entry(key.clone()).or_default() += 1,
            Op::PutAll { .. } => {}
            Op::Delete { key } => drop(times.remove(key)),
            Op::Forget { key } => {
                let count = times.remove(key).unwrap_or_default();
                assert!(count <= 1, "put {count} times and then forgotten: {key:?}");
            }
        }
    }
}

impl Store {
    fn sync_some(&mut self, count: usize) -> Position {
        for record in self.unsynced.drain(..count) {
            apply(&mut self.synced, &record);
            note_times(&mut self.synced_times, &record);
        }
        Position(self.position - self.unsynced.len() as u64)
    }

    fn read(&self, query: &Query) -> (Vec<Row>, bool) {
        let inside = |(key, _): &(&Bytes, &Bytes)| query.range.contains(key);
        let row = |(key, value): (&Bytes, &Bytes)| Row { key: key.clone(), value: value.clone() };
        let mut all: Vec<Row> = self.rows.iter().filter(inside).map(row).collect();
        if query.backwards {
            all.reverse();
        }
        let mut bytes = 0;
        let mut taken = 0;
        for row in &all {
            if taken >= query.rows_max || (taken > 0 && bytes >= query.bytes_max) {
                break;
            }
            bytes += row.value.len();
            taken += 1;
        }
        let more = taken < all.len();
        all.truncate(taken);
        (all, more)
    }
}

struct FakeHost<'a> {
    now: Time,
    shard: ShardId,
    shards: u16,
    rng: &'a mut Rng,
    store: &'a mut Store,
    reads: &'a mut VecDeque<(u64, Query)>,
    network: &'a mut BTreeMap<(u16, u16), VecDeque<Box<dyn Any + Send>>>,
    outside: &'a mut Outside,
}

impl Host for FakeHost<'_> {
    fn now(&self) -> Time {
        self.now
    }

    fn shard(&self) -> ShardId {
        self.shard
    }

    fn shards(&self) -> u16 {
        self.shards
    }

    fn random(&mut self) -> u64 {
        self.rng.next()
    }

    fn message_id(&mut self) -> MessageId {
        self.outside.next_message += 1;
        MessageId(self.outside.next_message)
    }

    fn store(&mut self, record: Record) -> Position {
        let Some(first) = record.ops.first() else {
            self.store.position += 1;
            self.store.unsynced.push_back(record);
            return Position(self.store.position);
        };
        let key = match first {
            Op::Put { key, .. } | Op::Delete { key } | Op::Forget { key } => key,
            Op::PutAll { keys, .. } => &keys[0],
        };
        assert_eq!(Slot(key[0]).shard(self.shards), self.shard, "a row of another shard: {key:?}");
        self.store.records += 1;
        self.store.urgent += usize::from(record.urgent);
        self.store.puts += record.ops.iter().filter(|op| matches!(op, Op::Put { .. })).count();
        apply(&mut self.store.rows, &record);
        note_times(&mut self.store.times, &record);
        self.store.unsynced.push_back(record);
        self.store.position += 1;
        Position(self.store.position)
    }

    fn read(&mut self, token: u64, query: Query) {
        assert!(query.rows_max > 0);
        self.reads.push_back((token, query));
    }

    fn send(&mut self, shard: ShardId, message: Box<dyn Any + Send>) {
        assert!(shard.0 < self.shards);
        self.network.entry((self.shard.0, shard.0)).or_default().push_back(message);
    }

    fn deliver(
        &mut self,
        id: SessionId,
        message: &Arc<Message>,
        tag: Option<Tag>,
    ) -> Result<QoS, Refused> {
        let session = self.outside.sessions.get_mut(&id).ok_or(Refused::NotConnected)?;
        assert_eq!(
            Slot::of(session.user.as_bytes()).shard(self.shards),
            self.shard,
            "a session of another shard"
        );
        if !session.connected {
            return Err(Refused::NotConnected);
        }
        let matching = session.filters.iter().filter(|(filter, _)| filter.matches(&message.topic));
        let granted = matching.map(|(_, qos)| *qos).max().ok_or(Refused::NotSubscribed)?;
        let qos = granted.min(message.qos);
        if qos == QoS::AtMostOnce {
            session.hear(message, false);
        } else if session.in_flight.len() < session.window {
            session.hear(message, false);
            session.in_flight.push_back((Arc::clone(message), tag));
        } else if session.queue.len() < session.queue_max {
            session.queue.push_back((Arc::clone(message), tag));
        } else {
            session.full = true;
            return Err(Refused::Full);
        }
        Ok(qos)
    }

    fn answer(&mut self, token: AnswerToken, answer: Answer) {
        let before = self.outside.answers.insert(token.serial, answer);
        assert!(before.is_none(), "answered twice: {token:?}");
    }

    fn end_session(&mut self, session: SessionId) -> bool {
        let known = self.outside.sessions.contains_key(&session);
        self.outside.ending.extend(known.then_some(session));
        known
    }

    fn rates_apply(&self) -> bool {
        self.outside.rates_apply
    }

    fn count(&mut self, metric: Metric) {
        self.outside.counted.push(metric);
    }

    fn publish(&mut self, message: Arc<Message>) {
        panic!("chat publishes nothing to others: {message:?}");
    }
}

impl Session {
    fn hear(&mut self, message: &Message, again: bool) {
        self.heard.push(Heard {
            topic: message.topic.to_string(),
            body: as_json(message),
            bytes: message.payload.clone(),
            qos: message.qos,
            correlation: Properties::parse(&message.properties, PacketKind::Publish)
                .unwrap()
                .correlation_data()
                .map(<[u8]>::to_vec),
            again,
        });
    }
}

impl World {
    /// Where everybody knows everybody: what strangers are not told is for tests of their own.
    pub(crate) fn new(shards: u16) -> Self {
        let mut options = ChatOptions::default();
        options.requests = false;
        Self::with(shards, options, 0)
    }

    pub(crate) fn with(shards: u16, options: ChatOptions, seed: u64) -> Self {
        Self::of(shards, Chat::new(options), seed)
    }

    pub(crate) fn of(shards: u16, chat: Chat, seed: u64) -> Self {
        let mut world = Self {
            now: Time::from_millis(1_700_000_000_000),
            rng: Rng(seed),
            shuffled: seed != 0,
            chat: chat.with_secret([7; 32]),
            shards: Vec::new(),
            network: BTreeMap::new(),
            outside: Outside::default(),
            dup: false,
            next_session: 1,
            next_serial: 1,
            from_outside: Arc::new(FromOutside { shards, sent: Mutex::default() }),
        };
        world.begin(shards);
        world
    }

    /// The same, with what chats keep sealed.
    pub(crate) fn sealed(shards: u16, options: ChatOptions, seed: u64, keys: &Arc<Keys>) -> Self {
        let mut world = Self::with(shards, options, seed);
        world.chat = world.chat.clone().with_vault(Arc::clone(keys) as Arc<dyn Vault>);
        world.shards.clear();
        world.begin(shards);
        world
    }

    /// From now on what chats keep is sealed; the world begins again as after a crash.
    pub(crate) fn seal(&mut self, keys: &Arc<Keys>) {
        self.chat = self.chat.clone().with_vault(Arc::clone(keys) as Arc<dyn Vault>);
        self.crash(true);
    }

    fn begin(&mut self, shards: u16) {
        let world = self;
        world.chat.opened(Arc::clone(&world.from_outside) as Arc<dyn Line>);
        for shard in 0..shards {
            let mut events = VecDeque::new();
            events.push_back(Event::Started);
            world.shards.push(Shard {
                service: world.chat.make(ShardId(shard), shards),
                events,
                store: Store::default(),
                reads: VecDeque::new(),
            });
        }
    }

    fn home(&self, user: &str) -> &Shard {
        let shard = Slot::of(user.as_bytes()).shard(self.shards.len() as u16);
        &self.shards[usize::from(shard.0)]
    }

    fn event(&mut self, user: &str, event: Event) {
        let shard = Slot::of(user.as_bytes()).shard(self.shards.len() as u16);
        self.shards[usize::from(shard.0)].events.push_back(event);
    }

    /// Tells a service all it has not heard of: a session and what its service knows of it change
    /// together.
    fn catch_up(&mut self, user: &str) {
        let shard = Slot::of(user.as_bytes()).shard(self.shards.len() as u16);
        while self.take_event(usize::from(shard.0)) {}
    }

    pub(crate) fn allows(&self, user: &str, filter: &str) -> Result<(), ReasonCode> {
        let client = Client { user, client_id: "x", version: Version::V5 };
        self.home(user).service.subscribe(&client, &TopicFilter::parse(filter).unwrap())
    }

    pub(crate) fn session(&mut self, id: SessionId) -> &mut Session {
        self.outside.sessions.get_mut(&id).unwrap()
    }

    /// What everybody has heard, and forgets it.
    pub(crate) fn take_all_heard(&mut self) -> Vec<String> {
        let sessions = self.outside.sessions.values_mut();
        let heard = sessions.flat_map(|session| std::mem::take(&mut session.heard));
        heard.map(|heard| heard.body).collect()
    }

    /// Whether a session is there.
    pub(crate) fn has_session(&self, id: SessionId) -> bool {
        self.outside.sessions.contains_key(&id)
    }

    /// The session of a client that is known.
    pub(crate) fn connected_session(&self, user: &str, client_id: &str) -> SessionId {
        let mut sessions = self.outside.sessions.iter();
        let found = sessions.find(|(_, it)| it.user == user && it.client_id == client_id);
        *found.unwrap().0
    }

    /// Connects with MQTT 5 and a session that is kept.
    pub(crate) fn connect(&mut self, user: &str, client_id: &str) -> SessionId {
        self.connect_as(user, client_id, Version::V5, true)
    }

    pub(crate) fn connect_as(
        &mut self,
        user: &str,
        client_id: &str,
        version: Version,
        persistent: bool,
    ) -> SessionId {
        self.catch_up(user);
        let known = self
            .outside
            .sessions
            .iter()
            .find(|(_, session)| session.user == user && session.client_id == client_id);
        let known = known.map(|(id, _)| *id);
        if let Some(id) = known {
            if self.session(id).connected {
                self.end_connection(id, Disconnection::TakenOver);
            }
            if self.session(id).persistent && persistent {
                self.resume(id);
                return id;
            }
            self.end_session(id);
        }
        let id = SessionId(self.next_session);
        self.next_session += 1;
        self.outside.sessions.insert(
            id,
            Session {
                user: user.into(),
                client_id: client_id.into(),
                version,
                persistent,
                batch: false,
                ack: false,
                connected: true,
                filters: Vec::new(),
                window: 64,
                queue_max: 64,
                in_flight: VecDeque::new(),
                queue: VecDeque::new(),
                full: false,
                heard: Vec::new(),
                acknowledges: true,
            },
        );
        self.event(user, Event::Connected { session: id, resumed: false, in_flight: Vec::new() });
        self.catch_up(user);
        id
    }

    fn resume(&mut self, id: SessionId) {
        let session = self.session(id);
        session.connected = true;
        let again: Vec<Arc<Message>> =
            session.in_flight.iter().map(|(message, _)| Arc::clone(message)).collect();
        for message in again {
            session.hear(&message, true);
        }
        let in_flight = session.in_flight.iter().filter_map(|(_, tag)| *tag).collect();
        let (user, filters) = (session.user.clone(), session.filters.clone());
        self.event(&user, Event::Connected { session: id, resumed: true, in_flight });
        for (filter, qos) in filters {
            self.event(&user, Event::Subscribed { session: id, filter, qos, new: false });
        }
        self.catch_up(&user);
    }

    pub(crate) fn disconnect(&mut self, id: SessionId, how: Disconnection) {
        self.end_connection(id, how);
        if !self.session(id).persistent {
            self.end_session(id);
        }
    }

    fn end_connection(&mut self, id: SessionId, how: Disconnection) {
        let user = self.session(id).user.clone();
        self.catch_up(&user);
        let session = self.session(id);
        session.connected = false;
        session.full = false;
        session.queue.clear();
        self.event(&user, Event::Disconnected { session: id, how });
        self.catch_up(&user);
    }

    /// Its session expires, or is replaced.
    pub(crate) fn end_session(&mut self, id: SessionId) {
        let user = self.session(id).user.clone();
        self.catch_up(&user);
        let session = self.outside.sessions.remove(&id).unwrap();
        let ended =
            Event::Ended { session: id, user: session.user.clone(), client_id: session.client_id };
        self.event(&session.user, ended);
        self.catch_up(&user);
    }

    pub(crate) fn subscribe(&mut self, id: SessionId, filter: &str, qos: QoS) {
        let filter = TopicFilter::parse(filter).unwrap();
        let session = self.session(id);
        let before = session.filters.len();
        session.filters.retain(|(known, _)| *known != filter);
        let new = session.filters.len() == before;
        session.filters.push((filter.clone(), qos));
        let user = session.user.clone();
        self.event(&user, Event::Subscribed { session: id, filter, qos, new });
    }

    /// Subscribes to what is not the service's: it is not told.
    pub(crate) fn subscribe_plain(&mut self, id: SessionId, filter: &str) {
        let filter = TopicFilter::parse(filter).unwrap();
        self.session(id).filters.push((filter, QoS::AtLeastOnce));
    }

    pub(crate) fn unsubscribe(&mut self, id: SessionId, filter: &str) {
        let filter = TopicFilter::parse(filter).unwrap();
        let session = self.session(id);
        session.filters.retain(|(known, _)| *known != filter);
        let user = session.user.clone();
        self.event(&user, Event::Unsubscribed { session: id, filter });
    }

    /// Connects a device that hears everything of its user.
    pub(crate) fn device(&mut self, user: &str, client_id: &str) -> SessionId {
        let id = self.connect(user, client_id);
        if self.session(id).filters.is_empty() {
            self.subscribe(id, "me/json/#", QoS::AtLeastOnce);
        }
        id
    }

    /// Publishes with QoS 1. Returns what [`World::answer`] is asked with.
    pub(crate) fn publish(&mut self, id: SessionId, topic: &str, payload: &[u8]) -> u64 {
        self.publish_with(id, topic, payload, &[])
    }

    pub(crate) fn publish_with(
        &mut self,
        id: SessionId,
        topic: &str,
        payload: &[u8],
        properties: &[Property<'_>],
    ) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        let mut buffer = PropertiesBuf::new();
        for property in properties {
            buffer.push(*property);
        }
        let session = self.session(id);
        let published = Published {
            session: Some(id),
            user: session.user.clone(),
            client_id: session.client_id.clone(),
            version: session.version,
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload),
            properties: buffer.as_properties().as_bytes().to_vec(),
            token: Some(AnswerToken { session: id, serial }),
        };
        let user = published.user.clone();
        self.event(&user, Event::Published(published));
        serial
    }

    /// Publishes with QoS 0.
    pub(crate) fn publish_qos0(&mut self, id: SessionId, topic: &str, payload: &[u8]) {
        self.publish(id, topic, payload);
        let user = self.session(id).user.clone();
        let shard = Slot::of(user.as_bytes()).shard(self.shards.len() as u16);
        if let Some(Event::Published(published)) =
            self.shards[usize::from(shard.0)].events.back_mut()
        {
            published.token = None;
        }
    }

    /// The will of a session that is over comes.
    pub(crate) fn will(&mut self, user: &str, client_id: &str, topic: &str, payload: &[u8]) {
        let published = Published {
            session: None,
            user: user.into(),
            client_id: client_id.into(),
            version: Version::V5,
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload),
            properties: Vec::new(),
            token: None,
        };
        self.event(user, Event::Published(published));
    }

    /// Has a PUBLISH been acknowledged, and how?
    pub(crate) fn answer(&self, serial: u64) -> Option<ReasonCode> {
        self.outside.answers.get(&serial).map(|answer| answer.reason)
    }

    /// A user property of an acknowledgement.
    pub(crate) fn property(&self, serial: u64, name: &str) -> Option<String> {
        let answer = self.outside.answers.get(&serial)?;
        let properties = Properties::parse(&answer.properties, PacketKind::Puback).unwrap();
        properties.user_property(name).map(Into::into)
    }

    /// The seq a send was acknowledged with.
    pub(crate) fn seq(&self, serial: u64) -> Option<u64> {
        self.property(serial, "seq").map(|seq| seq.parse().unwrap())
    }

    /// Topics and bodies of what the client has and has not acknowledged.
    pub(crate) fn in_flight(&mut self, id: SessionId) -> Vec<(String, String)> {
        let text = |message: &Arc<Message>| (message.topic.to_string(), as_json(message));
        self.session(id).in_flight.iter().map(|(message, _)| text(message)).collect()
    }

    /// The client acknowledges the oldest delivery that it has.
    pub(crate) fn acknowledge(&mut self, id: SessionId, reason: ReasonCode) -> bool {
        self.acknowledge_at(id, 0, reason)
    }

    /// The client acknowledges one of the deliveries that it has.
    pub(crate) fn acknowledge_at(&mut self, id: SessionId, at: usize, reason: ReasonCode) -> bool {
        let session = self.session(id);
        if !session.connected {
            return false;
        }
        let Some((_, tag)) = session.in_flight.remove(at) else { return false };
        let user = session.user.clone();
        if let Some((message, tag)) = session.queue.pop_front() {
            session.hear(&message, false);
            session.in_flight.push_back((message, tag));
        }
        let room = session.full && session.queue.len() <= session.queue_max / 2;
        if room {
            session.full = false;
        }
        if let Some(tag) = tag {
            self.event(&user, Event::Acknowledged { session: id, tag, reason });
        }
        if room {
            self.event(&user, Event::Room { session: id });
        }
        true
    }

    /// Everybody who does so by itself acknowledges what it has. Returns whether anybody did.
    pub(crate) fn acknowledge_all(&mut self) -> bool {
        let ids: Vec<SessionId> = self.outside.sessions.keys().copied().collect();
        let mut any = false;
        for id in ids {
            while self.session(id).acknowledges && self.acknowledge(id, ReasonCode::Success) {
                any = true;
            }
        }
        any
    }

    /// Lets messages and reads flow until nothing moves. Stores nothing, lets no time pass.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    /// What the program around the broker does with chat.
    pub(crate) fn handle_of_chat(&self) -> ChatHandle {
        self.chat.handle()
    }

    /// The program around the broker calls, and waits for the answer.
    pub(crate) fn call<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
                return answer;
            }
            self.run();
            self.sync();
        }
        panic!("no answer");
    }

    /// One event of one shard. Returns whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        for (shard, message) in self.from_outside.sent.lock().unwrap().drain(..) {
            self.network.entry((shard.0, shard.0)).or_default().push_back(message);
        }
        let count = self.shards.len();
        let first = if self.shuffled { self.rng.below(count * 3) } else { 0 };
        for turn in 0..count * 3 {
            let turn = (first + turn) % (count * 3);
            let shard = turn % count;
            let done = match turn / count {
                0 => self.take_event(shard),
                1 => self.take_peer(shard),
                _ => self.take_rows(shard),
            };
            if done {
                return true;
            }
        }
        false
    }

    fn take_event(&mut self, shard: usize) -> bool {
        let Some(event) = self.shards[shard].events.pop_front() else { return false };
        self.tell(shard, event);
        true
    }

    fn take_peer(&mut self, shard: usize) -> bool {
        let to = shard as u16;
        let mut waiting: Vec<u16> = self
            .network
            .iter()
            .filter(|((_, at), queue)| *at == to && !queue.is_empty())
            .map(|((from, _), _)| *from)
            .collect();
        if waiting.is_empty() {
            return false;
        }
        let pick = if self.shuffled { self.rng.below(waiting.len()) } else { 0 };
        let from = waiting.swap_remove(pick);
        let message = self.network.get_mut(&(from, to)).unwrap().pop_front().unwrap();
        self.handle(shard, ServiceEvent::Peer { from: ShardId(from), message });
        true
    }

    fn take_rows(&mut self, shard: usize) -> bool {
        let shard_ = &mut self.shards[shard];
        if shard_.reads.is_empty() {
            return false;
        }
        let pick = if self.shuffled { self.rng.below(shard_.reads.len()) } else { 0 };
        let (token, query) = shard_.reads.remove(pick).unwrap();
        let (rows, more) = shard_.store.read(&query);
        self.handle(shard, ServiceEvent::Rows { token, rows, more });
        true
    }

    fn tell(&mut self, shard: usize, event: Event) {
        let of = |session: &SessionId, world: &Self| {
            world.outside.sessions.get(session).map(|session| {
                (
                    session.user.clone(),
                    session.client_id.clone(),
                    session.version,
                    session.persistent,
                )
            })
        };
        match event {
            Event::Started => self.handle(shard, ServiceEvent::Started),
            Event::Connected { session, resumed, in_flight } => {
                let Some((user, client_id, version, persistent)) = of(&session, self) else {
                    return;
                };
                let client = Client { user: &user, client_id: &client_id, version };
                let in_flight = &in_flight[..];
                let mut properties = PropertiesBuf::new();
                if self.session(session).batch {
                    properties.push(Property::UserProperty("batch", "1"));
                }
                if self.session(session).ack {
                    properties.push(Property::UserProperty("ack", "1"));
                }
                let user_properties = properties.as_properties();
                self.handle(
                    shard,
                    ServiceEvent::Connected {
                        session,
                        client,
                        persistent,
                        resumed,
                        in_flight,
                        user_properties,
                    },
                );
            }
            Event::Disconnected { session, how } => {
                let client = Client { user: "", client_id: "", version: Version::V5 };
                self.handle(shard, ServiceEvent::Disconnected { session, client, how });
            }
            Event::Ended { session, user, client_id } => {
                let version = Version::V5;
                let client = Client { user: &user, client_id: &client_id, version };
                self.handle(shard, ServiceEvent::SessionEnded { session, client });
            }
            Event::Subscribed { session, filter, qos, new } => {
                let filter = &filter;
                self.handle(shard, ServiceEvent::Subscribed { session, filter, qos, new });
            }
            Event::Unsubscribed { session, filter } => {
                let filter = &filter;
                self.handle(shard, ServiceEvent::Unsubscribed { session, filter });
            }
            Event::Published(published) => {
                let publish = Publish {
                    dup: self.dup,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    topic: &published.topic,
                    packet_id: PacketId::new(1),
                    properties: Properties::parse(&published.properties, PacketKind::Publish)
                        .unwrap(),
                    payload: &published.payload,
                };
                let client = Client {
                    user: &published.user,
                    client_id: &published.client_id,
                    version: published.version,
                };
                self.handle(
                    shard,
                    ServiceEvent::Published {
                        session: published.session,
                        client,
                        publish: &publish,
                        token: published.token,
                    },
                );
            }
            Event::Acknowledged { session, tag, reason } => {
                self.handle(shard, ServiceEvent::Acknowledged { session, tag, reason });
            }
            Event::Room { session } => self.handle(shard, ServiceEvent::Room { session }),
            Event::Stored(position) => self.handle(shard, ServiceEvent::Stored(position)),
        }
    }

    fn handle(&mut self, shard: usize, event: ServiceEvent<'_>) {
        let shards = self.shards.len() as u16;
        let Shard { service, store, reads, .. } = &mut self.shards[shard];
        let mut host = FakeHost {
            now: self.now,
            shard: ShardId(shard as u16),
            shards,
            rng: &mut self.rng,
            store,
            reads,
            network: &mut self.network,
            outside: &mut self.outside,
        };
        service.handle(event, &mut host);
        for id in std::mem::take(&mut self.outside.ending) {
            let Some(session) = self.outside.sessions.remove(&id) else { continue };
            let (user, client_id) = (session.user, session.client_id);
            if session.connected {
                let how = Disconnection::Abrupt;
                self.event(&user, Event::Disconnected { session: id, how });
            }
            self.event(&user.clone(), Event::Ended { session: id, user, client_id });
        }
    }

    /// Makes all records safe, and tells.
    pub(crate) fn sync(&mut self) {
        for shard in 0..self.shards.len() {
            let all = self.shards[shard].store.unsynced.len();
            self.sync_shard(shard, all);
        }
        self.run();
    }

    /// Makes some records of one shard safe, and tells.
    pub(crate) fn sync_shard(&mut self, shard: usize, count: usize) {
        let Shard { store, events, .. } = &mut self.shards[shard];
        if count > 0 {
            let position = store.sync_some(count);
            events.push_back(Event::Stored(position));
        }
    }

    pub(crate) fn unsynced(&self, shard: usize) -> usize {
        self.shards[shard].store.unsynced.len()
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Lets time pass. Timers fire in between, nothing is stored.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            self.run();
            let next = self.shards.iter().filter_map(|shard| shard.service.next_timeout()).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            for shard in 0..self.shards.len() {
                if self.shards[shard].service.next_timeout().is_some_and(|at| at <= self.now) {
                    self.handle(shard, ServiceEvent::TimedOut);
                }
            }
        }
        self.now = until;
    }

    /// Does all there is to do: flows, syncs, acknowledges, and lets a second pass.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            self.run();
            while self.acknowledge_all() {
                self.run();
            }
            self.sync();
            self.advance(Duration::from_millis(50));
        }
        self.run();
    }

    /// Power is lost and comes back: what was not synced is gone, all connections are over, and
    /// sessions that are not kept with them.
    pub(crate) fn crash(&mut self, keep_in_flight: bool) {
        let count = self.shards.len() as u16;
        self.network.clear();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            shard.service = self.chat.make(ShardId(number as u16), count);
            shard.events.clear();
            shard.events.push_back(Event::Started);
            shard.reads.clear();
            let store = &mut shard.store;
            store.rows = store.synced.clone();
            store.times = store.synced_times.clone();
            store.unsynced.clear();
            store.position = 0;
        }
        self.outside.sessions.retain(|_, session| session.persistent);
        for session in self.outside.sessions.values_mut() {
            session.connected = false;
            session.full = false;
            session.queue.clear();
            if !keep_in_flight {
                session.in_flight.clear();
            }
        }
        self.now = self.now + Duration::from_millis(1_000);
    }

    /// Every row that a crash would leave, of all shards.
    pub(crate) fn rows(&self) -> BTreeMap<Bytes, Bytes> {
        let rows = self.shards.iter().flat_map(|shard| shard.store.rows.clone());
        rows.collect()
    }

    pub(crate) fn stored_counts(&self) -> (usize, usize, usize) {
        self.shards.iter().fold((0, 0, 0), |(records, urgent, puts), shard| {
            let store = &shard.store;
            (records + store.records, urgent + store.urgent, puts + store.puts)
        })
    }

    /// The bodies a client heard on topics that end like this, and forgets them.
    pub(crate) fn take_heard(&mut self, id: SessionId, kind: &str) -> Vec<String> {
        let session = self.session(id);
        let end = format!("/{kind}");
        let (taken, kept) = std::mem::take(&mut session.heard)
            .into_iter()
            .partition(|heard| heard.topic.ends_with(&end) || heard.topic == kind);
        session.heard = kept;
        taken.into_iter().map(|heard: Heard| heard.body).collect()
    }

    /// What a question was answered with on `kind`: there is one answer.
    pub(crate) fn take_answer(&mut self, id: SessionId, kind: &str) -> serde_json::Value {
        let mut heard = self.take_heard(id, kind);
        assert_eq!(heard.len(), 1, "{heard:?}");
        serde_json::from_str(&heard.remove(0)).unwrap()
    }

    /// The places of the messages a client heard, and forgets them.
    pub(crate) fn take_seqs(&mut self, id: SessionId) -> Vec<u64> {
        self.take_heard(id, "message").iter().map(|body| number(body, "seq").unwrap()).collect()
    }
}

/// A body as JSON: one in CBOR with the names of an entry's keys.
fn as_json(message: &Message) -> String {
    if !message.topic.starts_with("me/cbor/") {
        return String::from_utf8(message.payload.to_vec()).unwrap();
    }
    let body = ciborium::from_reader(&message.payload[..]).unwrap();
    serde_json::to_string(&from_cbor(&body)).unwrap()
}

fn from_cbor(value: &ciborium::Value) -> serde_json::Value {
    use ciborium::Value;
    match value {
        Value::Integer(number) => u64::try_from(*number).unwrap().into(),
        Value::Text(text) => text.clone().into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
        Value::Bool(value) => (*value).into(),
        Value::Null => serde_json::Value::Null,
        Value::Array(items) => items.iter().map(from_cbor).collect(),
        Value::Map(pairs) => {
            let names = ["seq", "from", "time", "id", "text", "type", "kind", "ref", "expires"];
            let name = |key: &Value| match key {
                Value::Text(name) => name.clone(),
                key => names[usize::try_from(key.as_integer().unwrap()).unwrap()].to_string(),
            };
            pairs.iter().map(|(key, value)| (name(key), from_cbor(value))).collect()
        }
        other => panic!("unexpected in a body: {other:?}"),
    }
}

/// A number field of a body.
pub(crate) fn number(body: &str, field: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    value.get(field)?.as_u64()
}

/// A text field of a body.
pub(crate) fn text(body: &str, field: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    Some(value.get(field)?.as_str()?.to_string())
}

/// Random numbers that are the same on every run (splitmix64).
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

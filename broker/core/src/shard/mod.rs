//! A shard: all sessions, subscriptions and services of some slots behind one `handle`.
//!
//! It is a state machine without input or output of its own. It is told what happened and pushes
//! what must be done about it; several shards are as many machines that send each other messages.
//! The files beside this one are parts of the one machine, by what they react to.

mod authenticate;
mod close;
mod express;
mod input;
mod load;
mod marks;
mod open;
mod peers;
mod publish;
mod receive;
mod recover;
mod replay;
mod rights;
mod room;
mod route;
mod service;
mod shared;
mod subscribe;
mod system;
mod timers;
mod verify;
mod wills;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

pub use input::{AuthStep, Hooks, Input, Open, ShardConfig};
pub use open::{refer_connect, refuse_connect};
pub use verify::{Verifier, Wrong};

use crate::collections::Map;
use crate::hook::SessionId;
use crate::ledger::Ledger;
use crate::limits::{QUEUE_BYTES_PER_READ, QUEUE_ROWS_PER_READ};
use crate::message::{Message, MessageId};
use crate::metric::{Counters, Metric};
use crate::output::{CloseCause, ConnectionId, Outbox};
use crate::peer::PeerMessage;
use crate::record::{KeyRange, Op, Position, Query, Record};
use crate::router::{Chosen, Copy, Router};
use crate::session::{AllQueueBounds, Cx, Pumped, Session, rows};
use crate::slot::{ShardId, Slot};
use crate::time::Time;
use crate::topic::{TopicFilter, TopicNames};
use load::{ReadFor, Sweep};
use marks::Marks;
use recover::Offline;
use replay::Asked;
use route::Place;
use service::{Services, ToService};
use shared::Relay;
use timers::Timers;
use wills::PendingWill;

/// The state machine. See the module.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    shards: u16,
    limits: Arc<crate::limits::Limits>,
    /// What follows from `limits`, for every message.
    bounds: AllQueueBounds,
    hooks: Hooks,
    ledger: Ledger,
    /// Boxed: a map has room for more than there is, and moves all of it when it grows.
    sessions: Map<SessionId, Box<Session>>,
    offline: Map<SessionId, Offline>,
    /// User, NUL, Client Identifier: who has which session, connected or not.
    index: BTreeMap<Box<str>, SessionId>,
    connections: Map<ConnectionId, SessionId>,
    router: Router,
    timers: Timers,
    wills: Map<SessionId, PendingWill>,
    services: Services,
    random: u64,
    /// Sessions that go on when more is stored.
    waiting: Vec<SessionId>,
    /// What other shards are owed once it is stored.
    owed: VecDeque<Owed>,
    /// What another shard's [`PeerMessage::Taken`] belongs to.
    tokens: Map<u64, Waiter>,
    next_token: u64,
    /// How many shards have still to say what they found at start.
    starting: u16,
    /// What other shards wait for and this one cannot say alone.
    relays: Map<u64, Relay>,
    marks: Marks,
    /// Rows that are deleted when the messages among them are with somebody else.
    sweeps: Map<u64, Sweep>,
    /// Retained messages to send when an answer has everybody's part.
    retained_after: BTreeMap<(SessionId, u64), Vec<TopicFilter>>,
    /// Retained messages that other shards were asked for.
    retained_asked: BTreeMap<SessionId, Vec<Asked>>,
    /// Filters that other shards are being told of, by the token of their answer.
    announcing: Map<u64, TopicFilter>,
    /// How many answers are still to come about a filter.
    announced: BTreeMap<TopicFilter, usize>,
    /// The record that ended a session last.
    ended: Position,
    reads: Map<u64, ReadFor>,
    /// Sessions that are to be looked at again because rights changed; the next one last.
    recheck: Vec<SessionId>,
    next_read: u64,
    lives: u64,
    copies: Vec<Copy>,
    places: Vec<Place>,
    /// Memory for the keys and changes of one message.
    keys: Vec<Bytes>,
    ops: Vec<Op>,
    /// Members of groups: chosen for the message at hand, and of those the other shards'.
    chosen: Vec<Chosen>,
    hands: Vec<Chosen>,
    interested: Vec<ShardId>,
    counters: Arc<Counters>,
    /// Nothing more is to be kept than there is.
    disk_low: bool,
    /// What the broker says of itself, for new subscriptions.
    system: TopicNames<Arc<Message>>,
}

/// Who waits for what another shard says.
#[derive(Debug, Clone, Copy)]
enum Waiter {
    /// An answer to a Client, by its serial.
    Answer(SessionId, u64),
    /// The same, to a PUBLISH of which others may have a mark by then.
    Noted(SessionId, u64),
    /// Another shard: one of `relays`.
    Relay(u64),
    /// One of `sweeps`.
    Sweep(u64),
    /// A session's will, by the message that it has become.
    Will(SessionId, MessageId),
}

/// What another shard is told once `position` is stored.
#[derive(Debug)]
struct Owed {
    position: Position,
    shard: ShardId,
    message: PeerMessage,
}

impl Shard {
    /// A shard without any state. Hand it the rows of its slots, then [`Input::Started`].
    pub fn new(config: ShardConfig, hooks: Hooks) -> Self {
        let ShardConfig { id, shards, limits, seed } = config;
        let services = Services::new(&hooks.services, id, shards);
        Self {
            id,
            shards,
            bounds: AllQueueBounds::new(&limits),
            limits,
            hooks,
            ledger: Ledger::new(id),
            sessions: Map::default(),
            offline: Map::default(),
            index: BTreeMap::new(),
            connections: Map::default(),
            router: Router::new(seed),
            timers: Timers::default(),
            wills: Map::default(),
            services,
            random: seed,
            waiting: Vec::new(),
            owed: VecDeque::new(),
            tokens: Map::default(),
            next_token: 0,
            starting: shards.saturating_sub(1),
            relays: Map::default(),
            marks: Marks::default(),
            sweeps: Map::default(),
            retained_after: BTreeMap::new(),
            retained_asked: BTreeMap::new(),
            announcing: Map::default(),
            announced: BTreeMap::new(),
            ended: Position::START,
            reads: Map::default(),
            recheck: Vec::new(),
            next_read: 0,
            lives: 0,
            copies: Vec::new(),
            places: Vec::new(),
            keys: Vec::new(),
            ops: Vec::new(),
            chosen: Vec::new(),
            hands: Vec::new(),
            interested: Vec::new(),
            counters: Arc::default(),
            disk_low: false,
            system: TopicNames::new(),
        }
    }

    /// Advances the machine by one event and pushes what must be done about it.
    ///
    /// `now` never goes back from one call to the next.
    pub fn handle(&mut self, input: Input<'_>, now: Time, out: &mut Outbox) {
        match input {
            Input::Started => self.start(now, out),
            Input::Open(open) => {
                self.counters.add(Metric::PacketsReceived, 1);
                self.open(&open, now, out);
            }
            Input::Received { connection, packet } => {
                self.counters.add(Metric::PacketsReceived, 1);
                if let Err(cause) = self.receive(connection, packet, now, out) {
                    self.refuse(connection, cause, now, out);
                }
            }
            Input::Malformed { connection, cause } => {
                self.refuse(connection, cause.into(), now, out);
            }
            Input::Refuse { connection, reason } => {
                self.refuse(connection, CloseCause::Refused(reason), now, out);
            }
            Input::Authenticated { connection, step } => {
                self.authenticated(connection, step, now, out);
            }
            Input::Closed { connection } => self.lost(connection, now, out),
            Input::Congested { connection, congested } => {
                if let Some(id) = self.connections.get(&connection).copied() {
                    self.with(id, now, out, |session, _| session.link.set_congested(congested));
                    self.go_on_replaying(id, now, out);
                }
            }
            Input::Stored(position) => self.stored(position, now, out),
            Input::Rows { token, rows, more } => self.rows(token, rows, more, now, out),
            Input::Peer { from, message } => self.peer(from, message, now, out),
            Input::System(values) => self.tell_system(&values, now, out),
            Input::Disk { low } => self.disk_low = low,
            Input::TimedOut => self.timed_out(now, out),
            Input::RightsChanged => self.rights_changed(now, out),
            Input::Revoked { user } => self.revoked(user, now, out),
            Input::Stop => self.stop(now, out),
        }
        self.run_services(now, out);
        self.count(out);
    }

    /// What this shard has counted; adds up while it runs.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// When [`Input::TimedOut`] is due next.
    pub fn next_timeout(&self) -> Option<Time> {
        if self.starting > 0 {
            return None;
        }
        let services = self.services.next_timeout();
        let retained = self.router.retained.next_expiry();
        self.timers.next().into_iter().chain(services).chain(retained).min()
    }

    /// Whether an answer to a Client waits: whoever says DISCONNECT behind its questions is heard out
    /// first. Ends by itself.
    pub fn is_answering(&self, connection: ConnectionId) -> bool {
        let session = self.connections.get(&connection).and_then(|id| self.sessions.get(id));
        session.is_some_and(|session| session.receiving.is_answering())
    }

    /// Whether so many answers to a Client wait for the store, for services or for other shards that
    /// nothing more should be read of it. Ends by itself: no answer waits for the Client.
    pub fn is_behind(&self, connection: ConnectionId) -> bool {
        let session = self.connections.get(&connection).and_then(|id| self.sessions.get(id));
        session.is_some_and(|session| session.receiving.is_full())
    }

    /// The connection of this Client's session, which a new one would take over.
    pub fn connection_of(&self, user: &str, client_id: &str) -> Option<ConnectionId> {
        let id = self.index.get(&open::index_key(user, client_id))?;
        self.sessions.get(id).map(|session| session.link.connection)
    }

    /// Counts what is known at the end of an event.
    fn count(&self, out: &mut Outbox) {
        let counters = &self.counters;
        counters.add(Metric::PacketsSent, std::mem::take(&mut out.packets));
        counters.set(Metric::SessionsConnected, self.sessions.len() as u64);
        counters.set(Metric::SessionsOffline, self.offline.len() as u64);
        let (messages, bytes) = self.router.retained.size();
        counters.set(Metric::RetainedMessages, messages as u64);
        counters.set(Metric::RetainedBytes, bytes as u64);
    }

    /// Runs `f` on a session that is connected.
    fn with<R>(
        &mut self,
        id: SessionId,
        now: Time,
        out: &mut Outbox,
        f: impl FnOnce(&mut Session, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        let session = self.sessions.get_mut(&id)?;
        let mut cx = Cx { now, out, ledger: &mut self.ledger, counters: &self.counters };
        Some(f(session, &mut cx))
    }

    /// Lets a session do what has become possible: open, answer, send.
    fn advance(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        if !self.finish_open(id, now, out) {
            return;
        }
        self.drive(id, now, out, |session, cx| session.go_on(cx));
    }

    /// Has a session go on, and arranges for what it needs to.
    fn drive(
        &mut self,
        id: SessionId,
        now: Time,
        out: &mut Outbox,
        go_on: impl FnOnce(&mut Session, &mut Cx<'_>) -> Pumped,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut cx = Cx { now, out, ledger: &mut self.ledger, counters: &self.counters };
        let pumped = go_on(session, &mut cx);
        if pumped != Pumped::default() || session.is_followed() {
            self.after(id, pumped, out);
        }
    }

    /// Arranges for what a session needs to go on.
    fn after(&mut self, id: SessionId, pumped: Pumped, out: &mut Outbox) {
        self.replay_in_turn(id, out);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let is_member = session.told.is_some();
        if pumped.wait && !session.sending.waiting {
            session.sending.waiting = true;
            self.waiting.push(id);
        }
        if let Some(number) = pumped.fetch_after {
            let range = rows::queued_after(session.slot, id, number);
            let (life, since) = (session.life, session.sending.rows_since);
            self.read_queue(ReadFor::Queue(id, life), range, QUEUE_ROWS_PER_READ, since, out);
        }
        if pumped.room {
            self.services.push_all(|| ToService::Room { session: id });
        }
        if is_member {
            self.note_standing(id, out);
        }
    }

    /// Everything up to `position` is safe: what waited for it goes on.
    fn stored(&mut self, position: Position, now: Time, out: &mut Outbox) {
        self.ledger.set_stored(position);
        while self.owed.front().is_some_and(|owed| self.ledger.is_stored(owed.position)) {
            if let Some(Owed { shard, message, .. }) = self.owed.pop_front() {
                out.post(shard, message);
            }
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        for id in waiting.drain(..) {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.sending.waiting = false;
                self.advance(id, now, out);
            }
        }
        // The list is filled anew by those that still wait: keep whichever has room.
        if self.waiting.is_empty() {
            self.waiting = waiting;
        }
        self.services.push_all(|| ToService::Stored(position));
    }

    fn read_rows(&mut self, what: ReadFor, range: KeyRange, rows_max: usize, out: &mut Outbox) {
        self.read_queue(what, range, rows_max, Position::START, out);
    }

    /// Reads rows of a queue, of which it is known since when there are any.
    fn read_queue(
        &mut self,
        what: ReadFor,
        range: KeyRange,
        rows_max: usize,
        since: Position,
        out: &mut Outbox,
    ) {
        let query = Query { range, rows_max, bytes_max: QUEUE_BYTES_PER_READ, backwards: false };
        self.next_read += 1;
        self.reads.insert(self.next_read, what);
        out.read(self.next_read, query, since);
    }

    fn read(&mut self, what: ReadFor, query: Query, out: &mut Outbox) {
        self.next_read += 1;
        self.reads.insert(self.next_read, what);
        out.read(self.next_read, query, Position::START);
    }

    /// Has a record kept on behalf of a service.
    fn store(&mut self, record: Record, out: &mut Outbox) -> Position {
        self.ledger.append(record.ops, record.urgent, out)
    }

    fn random(&mut self) -> u64 {
        // SplitMix64 by Steele, Lea and Flood: one addition and a mix.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The slot of a session: its user's, so that all devices of a user are on one shard; for Clients
/// without a user, that of the Client Identifier, so that they are not all on one.
pub fn session_slot(user: &str, client_id: &str) -> Slot {
    Slot::of(if user.is_empty() { client_id.as_bytes() } else { user.as_bytes() })
}

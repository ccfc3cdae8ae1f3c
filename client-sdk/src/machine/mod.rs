//! Every decision of a client, without input or output: no socket, no file, no clock, no thread.
//!
//! The machine is told what happened ([`Input`]) and answers with what is to be done ([`Output`]),
//! in order. So any history replays from its inputs and a seed, and a port to another language
//! can follow this one line by line. What a newcomer would get wrong:
//!
//! - Nothing goes out ahead of the store: a send is published, an entry acknowledged and the
//!   application told once [`Input::Stored`] has said that it is safe.
//! - A connection that ends takes with it what was under way. It is all published again, by message
//!   id: Packet Identifiers, DUP and the broker's Session play no part in it.
//! - Places of a chat that are missing are asked for; entries that come twice are known by their
//!   place; the application is given what is in order.
//!
//! The parts: `link` when to connect, `outbox` what is published until it is answered, `errands`
//! what follows from an answer, `inbound` what comes in, `ask` questions and gaps, `watch` presence
//! and typing, `chat` what is known of a chat.

mod ask;
mod chat;
mod errands;
mod inbound;
mod io;
mod link;
mod outbox;
pub(crate) mod ranges;
pub(crate) mod rng;
#[cfg(test)]
mod sim;
mod watch;

pub use self::io::{
    Answer, Command, Errand, Expects, Failed, Input, Output, Question, Request, Standing, Told,
};

use self::ask::Asker;
use self::chat::Chat;
use self::link::{Backoff, KeepAlive, Link};
use self::outbox::Outbox;
use self::rng::Rng;
use self::watch::Watch;
use crate::entry::{Event, State};
use crate::error::{Refusal, StoreError};
use crate::store::rows::{self, DeviceRow, Loaded};
use crate::store::{Change, Store};
use crate::transport::{Lost, Opened, Outgoing};
use crate::wire;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// What a machine has to know of its device, and its bounds.
#[derive(Debug, Clone)]
pub struct Config {
    /// The user.
    pub user: String,
    /// The first wait between attempts to connect.
    pub backoff_min: Duration,
    /// The longest.
    pub backoff_max: Duration,
    /// The Keep Alive of the first connection.
    pub keep_alive: Duration,
    /// What it may grow to where the network bears it.
    pub keep_alive_max: Duration,
    /// How long an answer may take, behind its PUBACK, before it is asked for again.
    pub answer_timeout: Duration,
    /// Publishes without an answer, at once.
    pub in_flight_max: u16,
    /// Errands that wait for the broker.
    pub outbox_sends_max: usize,
    /// Their bytes.
    pub outbox_bytes_max: usize,
}

/// A client's state: see the [module](self).
#[derive(Debug)]
pub struct Machine {
    config: Config,
    rng: Rng,
    link: Link,
    backoff: Backoff,
    keep_alive: KeepAlive,
    closing: bool,
    failed: Option<String>,
    /// Counts connections: what belongs to an earlier one is not acknowledged on a later.
    connection: u64,
    window: usize,
    /// The broker has acknowledged the subscription to one's own.
    subscribed: bool,
    /// The room that the user sits in.
    room: Option<String>,
    away: bool,
    device: DeviceRow,
    chats: BTreeMap<String, Chat>,
    outbox: Outbox,
    asker: Asker,
    watch: Watch,
    /// Read positions on their way: token to chat and place.
    reading: BTreeMap<u64, (String, u64)>,
    reads_due: BTreeSet<String>,
    /// Chats of which something may be missing.
    gappy: BTreeSet<String>,
    next_token: u64,
    last_errand: u64,
    /// What the present input changes.
    changes: Vec<Change>,
    dirty: BTreeSet<String>,
    /// What may be written a little later: a crash only has it heard or asked for again.
    lazy: BTreeSet<String>,
    lazy_at: Option<Duration>,
    /// What is to be done once what the present input changes is safe.
    later: Vec<Held>,
    held: VecDeque<(u64, Held)>,
    written: u64,
    stored: u64,
}

/// What waits for the store.
#[derive(Debug)]
enum Held {
    Acknowledge {
        connection: u64,
        packet: u16,
    },
    /// An errand may go.
    Safe(u64),
    Answer(Request, Answer),
    Refused(Request, Refusal),
    Tell(Told),
}

impl Machine {
    /// A machine of what a store holds. `seed` is for jitter.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or is of a later version.
    pub fn load(config: Config, seed: u64, store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Self::new(config, seed, rows::load(store)?))
    }

    fn new(config: Config, seed: u64, loaded: Loaded) -> Self {
        let mut outbox = Outbox::default();
        // A number is free again once its errand is answered: only their order counts.
        let last_errand = loaded.errands.last().map_or(0, |(number, _)| *number);
        for (number, errand) in loaded.errands {
            outbox.insert(number, errand);
            outbox.handle_stored(number);
        }
        let chats: BTreeMap<String, Chat> =
            loaded.chats.into_iter().map(|(name, row)| (name, Chat::of(row))).collect();
        let unreported = |(_, chat): &(&String, &Chat)| chat.read > chat.read_told;
        let reads_due = chats.iter().filter(unreported).map(|(name, _)| name.clone()).collect();
        Self {
            asker: Asker::new(Rng::new(!seed).next()),
            rng: Rng::new(seed),
            link: Link::Waiting(Duration::ZERO),
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            keep_alive: KeepAlive::new(config.keep_alive, config.keep_alive_max),
            closing: false,
            failed: None,
            connection: 0,
            window: 1,
            subscribed: false,
            room: None,
            away: false,
            device: loaded.device,
            gappy: chats.keys().cloned().collect(),
            chats,
            outbox,
            watch: Watch::default(),
            reading: BTreeMap::new(),
            reads_due,
            next_token: 1,
            last_errand,
            changes: Vec::new(),
            dirty: BTreeSet::new(),
            lazy: BTreeSet::new(),
            lazy_at: None,
            later: Vec::new(),
            held: VecDeque::new(),
            written: 0,
            stored: 0,
            config,
        }
    }

    /// How every chat stands, for whoever begins to look.
    pub fn standings(&self) -> Vec<Standing> {
        let of = |(name, chat): (&String, &Chat)| chat.standing(name, self.outbox.waiting(name));
        let known = self.chats.iter().map(of);
        let begun = self.outbox.chats().filter(|name| !self.chats.contains_key(*name));
        let begun = begun.map(|name| Chat::default().standing(name, self.outbox.waiting(name)));
        known.chain(begun).collect()
    }

    /// Errands that the broker has not answered.
    pub fn unanswered(&self) -> usize {
        self.outbox.len()
    }

    /// Advances the machine by one event, and pushes what must be done about it.
    ///
    /// `now` is since any moment before the first call, and never goes back.
    pub fn handle(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        match input {
            Input::Command(request, command) => self.handle_command(request, command, now, out),
            Input::Opened(opened) => self.handle_opened(opened, now, out),
            Input::Lost(lost) => self.handle_lost(lost, now, out),
            Input::Received { topic, payload, packet } => {
                self.handle_received(&topic, payload, packet, now);
            }
            Input::Acknowledged { token, reason, text, properties } => {
                self.handle_acknowledged(token, wire::puback(reason, text, &properties), now);
            }
            Input::Subscribed { filter, refused } => self.handle_subscribed(filter, refused),
            Input::Stored(position) => {
                self.stored = self.stored.max(position);
                self.release(out);
            }
            Input::NotStored(cause) => self.handle_not_stored(cause, out),
            Input::TimedOut => {}
        }
        self.settle(now, out);
    }

    /// When the machine is to be told [`Input::TimedOut`], if nothing else happens before.
    pub fn next_timeout(&self) -> Option<Duration> {
        let link = match self.link {
            Link::Waiting(until) | Link::Leaving(until) => Some(until),
            Link::Stopped | Link::Connecting | Link::Online { .. } => None,
        };
        let online = matches!(self.link, Link::Online { .. });
        let asked = [self.outbox.next_timeout(), self.asker.next_timeout(), self.next_gap_check()];
        let asked = asked.into_iter().flatten().filter(|_| online);
        link.into_iter().chain(asked).chain(self.watch.next_timeout()).chain(self.lazy_at).min()
    }

    fn is_online(&self) -> bool {
        matches!(self.link, Link::Online { .. })
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn tell(&mut self, event: Event) {
        self.later.push(Held::Tell(Told::Event(event)));
    }

    fn handle_opened(&mut self, opened: Opened, now: Duration, out: &mut Vec<Output>) {
        if self.closing || self.failed.is_some() {
            return out.push(Output::Cut);
        }
        self.link = Link::Online { since: now };
        self.connection += 1;
        self.window = usize::from(opened.receive_maximum.min(self.config.in_flight_max)).max(1);
        if !opened.session_present {
            self.subscribed = false;
            self.watch.handle_new_session();
            self.tell(Event::NewSession);
        }
        if !self.subscribed {
            // Before any question: what comes behind the answer is then heard.
            let filter = wire::OWN_FILTER.to_owned();
            out.push(Output::Subscribe { filter, subscribe: true });
        }
        self.tell(Event::State(State::Online));
        self.ask_on_opening(!opened.session_present, now);
    }

    fn handle_subscribed(&mut self, filter: String, refused: Option<String>) {
        if let Some(reason) = refused {
            self.watch.handle_refused(&filter);
            self.tell(Event::SubscriptionRefused { filter, reason });
        } else if filter == wire::OWN_FILTER {
            self.subscribed = true;
        }
    }

    fn handle_lost(&mut self, lost: Lost, now: Duration, out: &mut Vec<Output>) {
        let leaving = matches!(self.link, Link::Leaving(_));
        if let Link::Online { since } = self.link {
            let lived = now.saturating_sub(since);
            self.keep_alive.handle_lost(&lost, lived);
            if lived >= STEADY {
                self.backoff.reset();
            }
        }
        self.connection += 1;
        self.outbox.handle_lost();
        self.asker.handle_lost();
        self.watch.handle_lost();
        self.reads_due
            .extend(std::mem::take(&mut self.reading).into_values().map(|(chat, _)| chat));
        if matches!(self.link, Link::Stopped) {
            return;
        }
        let wait = if leaving { None } else { self.backoff.after(&lost, &mut self.rng) };
        self.link = wait.map_or(Link::Stopped, |wait| Link::Waiting(now + wait));
        if !self.closing {
            self.tell(Event::State(State::Offline { reason: lost, retry_in: wait }));
        }
        self.release(out);
    }

    fn handle_not_stored(&mut self, cause: String, out: &mut Vec<Output>) {
        if self.failed.is_some() {
            return;
        }
        self.failed = Some(cause.clone());
        for (_, held) in std::mem::take(&mut self.held) {
            if let Held::Answer(request, _) = held {
                out.push(Output::Answer(request, Err(Failed::Disk(cause.clone()))));
            }
        }
        self.link = Link::Stopped;
        out.push(Output::Cut);
        out.push(Output::Tell(Told::Event(Event::StoreFailed { cause })));
    }

    /// What has become safe happens.
    fn release(&mut self, out: &mut Vec<Output>) {
        while self.held.front().is_some_and(|(at, _)| *at <= self.stored) {
            if let Some((_, held)) = self.held.pop_front() {
                self.let_go(held, out);
            }
        }
    }

    fn let_go(&mut self, held: Held, out: &mut Vec<Output>) {
        match held {
            Held::Acknowledge { connection, packet } => {
                // A Packet Identifier of an earlier connection may name another packet by now.
                if connection == self.connection && self.is_online() {
                    out.push(Output::Acknowledge(packet));
                }
            }
            Held::Safe(number) => self.outbox.handle_stored(number),
            Held::Answer(request, answer) => out.push(Output::Answer(request, Ok(answer))),
            Held::Refused(request, refusal) => {
                out.push(Output::Answer(request, Err(Failed::Refused(refusal))));
            }
            Held::Tell(told) => out.push(Output::Tell(told)),
        }
    }

    /// Brings everything in line with what has changed.
    fn settle(&mut self, now: Duration, out: &mut Vec<Output>) {
        self.outbox.handle_time(now);
        self.asker.handle_time(now);
        for told in self.watch.handle_time(now) {
            self.later.push(Held::Tell(told));
        }
        if let Link::Waiting(until) = self.link
            && until <= now
            && !self.closing
        {
            self.link = Link::Connecting;
            self.tell(Event::State(State::Connecting));
            out.push(Output::Connect { keep_alive: self.keep_alive.now });
        }
        if self.is_online() && !self.closing {
            self.watch.bring_in_line(out);
            self.ask_for_gaps(now);
            self.publish(out);
        }
        self.write(now, out);
        self.leave(now, out);
    }

    /// Publishes what may go, as far as the broker takes it.
    fn publish(&mut self, out: &mut Vec<Output>) {
        // A part of the window is kept for each kind, so that none starves the others.
        while self.reading.len() < self.window.div_ceil(4)
            && self.outbox.in_flight() + self.reading.len() + self.asker.in_flight() < self.window
        {
            let free = |chat: &&String| !self.reading.values().any(|(of, _)| of == *chat);
            let Some(chat) = self.reads_due.iter().find(free).cloned() else { break };
            self.reads_due.remove(&chat);
            let Some(seq) = self.chats.get(&chat).map(|chat| chat.read) else { continue };
            let token = self.token();
            let payload = Bytes::from(seq.to_string());
            out.push(Output::Publish(Outgoing::new(token, wire::topic(&chat, "read"), payload)));
            self.reading.insert(token, (chat, seq));
        }
        while self.asker.in_flight() < self.window.div_ceil(2).min(ask::ASKED_MAX)
            && self.outbox.in_flight() + self.reading.len() + self.asker.in_flight() < self.window
        {
            let token = self.token();
            let Some(publish) = self.asker.next(token) else { break };
            out.push(Output::Publish(publish));
        }
        let held = if self.room.is_none() { "~" } else { "" };
        while self.outbox.in_flight() + self.reading.len() + self.asker.in_flight() < self.window {
            let token = self.token();
            let Some(row) = self.outbox.next(token, held) else { break };
            out.push(Output::Publish(errands::publish_of(token, row)));
        }
    }

    /// Writes what has changed, and lets happen what waits for nothing.
    fn write(&mut self, now: Duration, out: &mut Vec<Output>) {
        let is_due = self.lazy_at.is_some_and(|at| at <= now) || self.closing;
        if is_due || !self.changes.is_empty() || !self.dirty.is_empty() {
            self.dirty.append(&mut self.lazy);
        } else if self.lazy_at.is_none() && !self.lazy.is_empty() {
            self.lazy_at = Some(now + LAZY);
        }
        if self.lazy.is_empty() {
            self.lazy_at = None;
        }
        for name in std::mem::take(&mut self.dirty) {
            let waiting = self.outbox.waiting(&name);
            let stored = self.stored;
            let standing = match self.chats.get_mut(&name) {
                Some(chat) => {
                    chat.fresh.retain(|(position, _)| *position > stored);
                    self.changes.push(rows::put_chat(&name, &chat.row()));
                    chat.standing(&name, waiting)
                }
                None => Chat::default().standing(&name, waiting),
            };
            self.later.push(Held::Tell(Told::Chat(Box::new(standing))));
            self.gappy.insert(name);
        }
        if self.failed.is_some() {
            self.changes.clear();
            self.later.retain(|held| matches!(held, Held::Tell(_)));
        }
        if !self.changes.is_empty() {
            self.written += 1;
            let changes = std::mem::take(&mut self.changes);
            out.push(Output::Write { position: self.written, changes });
        }
        for held in std::mem::take(&mut self.later) {
            if self.failed.is_none() && (self.written > self.stored || !self.held.is_empty()) {
                // News of the connection waits for no disk.
                match held {
                    Held::Tell(Told::Event(Event::State(_))) => self.let_go(held, out),
                    held => self.held.push_back((self.written, held)),
                }
            } else {
                self.let_go(held, out);
            }
        }
    }

    /// Goes the way out, a step at a time.
    fn leave(&mut self, now: Duration, out: &mut Vec<Output>) {
        if !self.closing || (self.written > self.stored && self.failed.is_none()) {
            return;
        }
        match self.link {
            Link::Online { .. } => {
                self.link = Link::Leaving(now + LEAVE);
                out.push(Output::Disconnect);
            }
            Link::Leaving(until) if until > now => {}
            Link::Connecting | Link::Leaving(_) | Link::Waiting(_) => {
                self.link = Link::Stopped;
                out.push(Output::Cut);
                self.end(out);
            }
            Link::Stopped => self.end(out),
        }
    }

    fn end(&mut self, out: &mut Vec<Output>) {
        for request in self.asker.close() {
            out.push(Output::Answer(request, Err(Failed::Closed)));
        }
        out.push(Output::Tell(Told::Event(Event::State(State::Closed))));
        out.push(Output::Closed);
    }
}

/// A connection that lasted so long was none of those that fail at once.
const STEADY: Duration = Duration::from_secs(10);

/// How long ticks and what the application is done with may wait to be written.
const LAZY: Duration = Duration::from_secs(1);

/// How long the broker has to close the connection behind DISCONNECT.
const LEAVE: Duration = Duration::from_secs(1);

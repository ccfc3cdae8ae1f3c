//! Two machines and a model of the broker, over a network that loses whatever it likes, with disks
//! that write when they like and programs that crash. One seed is one history.
//!
//! What is promised is checked at each step, and at the end, when everything may come to rest.

#![expect(
    clippy::cast_possible_truncation,
    clippy::needless_range_loop,
    reason = "numbers are small here, and users are numbers"
)]

mod broker;
mod check;

use super::io::{Answer, Command, Errand, Input, Output, Request, Standing, Told};
use super::rng::Rng;
use super::{Config, Machine};
use crate::entry::Entry;
use crate::store::{Change, MemoryStore, Store, rows};
use crate::transport::{Lost, Opened, Outgoing};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const USERS: [&str; 2] = ["alice", "bob"];
const GROUP: &str = "climbing";

fn other(user: usize) -> usize {
    1 - user
}

/// How a user calls a chat.
fn name(chat: usize, user: usize) -> String {
    if chat == 0 { format!("@{}", USERS[other(user)]) } else { GROUP.to_owned() }
}

fn number(name: &str) -> usize {
    usize::from(!name.starts_with('@'))
}

// ---- the broker ----

#[derive(Default)]
struct Log {
    entries: Vec<Value>,
    ids: BTreeMap<(usize, String), u64>,
    /// Entries up to here are not kept.
    gone: u64,
    delivered: [u64; 2],
    read: [u64; 2],
}

#[derive(Default)]
struct Session {
    present: bool,
    subscribed: bool,
    cursors: [u64; 2],
}

enum ToBroker {
    Publish(Outgoing),
    Subscribe,
    Acknowledge(u16),
}

enum ToClient {
    Opened(bool),
    Publish { topic: String, payload: String, packet: Option<u16> },
    Acknowledged { token: u64, reason: u8, properties: Vec<(String, String)> },
    Subscribed,
}

struct Wire {
    up: VecDeque<ToBroker>,
    down: VecDeque<ToClient>,
    sent: BTreeMap<u16, (usize, u64, u64)>,
    offered: [u64; 2],
    next_packet: u16,
}

// ---- a client ----

struct Client {
    machine: Machine,
    store: MemoryStore,
    writes: VecDeque<(u64, Vec<Change>)>,
    connecting: bool,
    wire: Option<Wire>,
    standings: BTreeMap<String, Standing>,
    asked: BTreeMap<Request, (usize, u64)>,
}

struct Sim {
    rng: Rng,
    now: Duration,
    logs: [Log; 2],
    sessions: [Session; 2],
    clients: Vec<Client>,
    /// What was answered with Taken, by user and chat.
    promised: [[BTreeSet<u64>; 2]; 2],
    next: u64,
    calm: bool,
    trace: u64,
    seed: u64,
}

fn config(user: usize) -> Config {
    Config {
        user: USERS[user].to_owned(),
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_secs(2),
        keep_alive: Duration::from_secs(60),
        keep_alive_max: Duration::from_secs(240),
        answer_timeout: Duration::from_secs(5),
        in_flight_max: 8,
        outbox_sends_max: 1_000,
        outbox_bytes_max: 1 << 20,
    }
}

fn client(user: usize, seed: u64, store: MemoryStore) -> Client {
    Client {
        machine: Machine::load(config(user), seed, &store).unwrap(),
        store,
        writes: VecDeque::new(),
        connecting: false,
        wire: None,
        standings: BTreeMap::new(),
        asked: BTreeMap::new(),
    }
}

impl Sim {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            now: Duration::ZERO,
            logs: Default::default(),
            sessions: Default::default(),
            clients: (0..2).map(|user| client(user, seed, MemoryStore::default())).collect(),
            promised: Default::default(),
            next: 0,
            calm: false,
            trace: 0,
            seed,
        }
    }

    fn input(&mut self, user: usize, input: Input) {
        let mut out = Vec::new();
        self.clients[user].machine.handle(input, self.now, &mut out);
        for output in out {
            self.carry_out(user, output);
        }
    }

    fn carry_out(&mut self, user: usize, output: Output) {
        let text = format!("{user} {output:?}");
        self.trace = text
            .bytes()
            .fold(self.trace, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let client = &mut self.clients[user];
        match output {
            Output::Connect { .. } => client.connecting = true,
            Output::Cut | Output::Disconnect => (client.wire, client.connecting) = (None, false),
            Output::Write { position, changes } => client.writes.push_back((position, changes)),
            Output::Answer(request, answer) => {
                if let Some((chat, text)) = client.asked.remove(&request) {
                    assert_eq!(answer, Ok(Answer::Taken));
                    let stored = rows::errands(&client.store).unwrap();
                    let safe = stored.iter().any(|row| row.payload == text.to_string().as_bytes());
                    assert!(safe, "taken before it was safe");
                    self.promised[user][chat].insert(text);
                }
            }
            Output::Publish(publish) => {
                if let Some((_, id)) = publish.topic.split_once("/send/") {
                    let safe = rows::errands(&client.store).unwrap();
                    let safe = safe.iter().any(|row| row.id == id);
                    assert!(safe, "seed {}: {user} sent {id} before it was safe", self.seed);
                }
                self.up(user, ToBroker::Publish(publish));
            }
            Output::Subscribe { .. } => self.up(user, ToBroker::Subscribe),
            Output::Acknowledge(packet) => self.up(user, ToBroker::Acknowledge(packet)),
            Output::Tell(Told::Chat(standing)) => {
                let from = standing.taken + 1;
                let readable = self.stored(user, &standing.chat);
                for seq in from..=standing.in_order {
                    let (log, chat) = (&self.logs[number(&standing.chat)], number(&standing.chat));
                    let is_gone = seq <= log.gone;
                    assert!(
                        is_gone || readable.contains_key(&seq),
                        "seed {}: {user} was told of {chat}/{seq}, which is not there: {standing:?} {:?} row {:?} log {:?}",
                        self.seed,
                        readable.keys(),
                        self.clients[user].machine.chats.get(&standing.chat).unwrap().row(),
                        log.entries.get(seq as usize - 1)
                    );
                }
                self.clients[user].standings.insert(standing.chat.clone(), *standing);
            }
            Output::Tell(_) => {}
            Output::Closed => panic!("nobody closed"),
        }
    }

    fn up(&mut self, user: usize, packet: ToBroker) {
        if let Some(wire) = &mut self.clients[user].wire {
            wire.up.push_back(packet);
        }
    }

    fn stored(&self, user: usize, chat: &str) -> BTreeMap<u64, Entry> {
        let entries = rows::entries(&self.clients[user].store, chat, 1, u64::MAX - 1, false, 9_999);
        entries.unwrap().into_iter().map(|entry| (entry.seq, entry)).collect()
    }

    fn connect(&mut self, user: usize) {
        if !std::mem::take(&mut self.clients[user].connecting) {
            return;
        }
        if !self.calm && self.rng.below(4) == 0 {
            let cause = "nobody there".to_owned();
            let address = String::new();
            return self.input(user, Input::Lost(Lost::Unreachable { address, cause }));
        }
        let session = &mut self.sessions[user];
        let present = session.present;
        if !present {
            // A first device begins with all there is, a later one with the present.
            let is_first = session.cursors == [0, 0];
            let ends = [0, 1].map(|chat| self.logs[chat].entries.len() as u64);
            let cursors = if is_first { [0, 0] } else { ends };
            *session = Session { present: true, subscribed: false, cursors };
        }
        let (up, down) = (VecDeque::new(), VecDeque::from([ToClient::Opened(present)]));
        let (sent, next_packet) = (BTreeMap::new(), 0);
        self.clients[user].wire = Some(Wire { up, down, sent, offered: [0, 0], next_packet });
    }

    fn cut(&mut self, user: usize) {
        if self.clients[user].wire.take().is_some() {
            let lost = match self.rng.below(2) {
                0 => Lost::Silent { after: Duration::from_secs(9) },
                _ => Lost::Ended { cause: "cut".to_owned() },
            };
            self.input(user, Input::Lost(lost));
        }
    }

    fn crash(&mut self, user: usize) {
        let store = std::mem::take(&mut self.clients[user].store);
        let seed = self.rng.next();
        self.clients[user] = client(user, seed, store);
        for standing in self.clients[user].machine.standings() {
            self.clients[user].standings.insert(standing.chat.clone(), standing);
        }
    }

    fn commit(&mut self, user: usize) {
        let client = &mut self.clients[user];
        let Some((position, changes)) = client.writes.pop_front() else { return };
        client.store.write(&changes).unwrap();
        self.input(user, Input::Stored(position));
    }

    /// A crash in the middle of a write: any of its changes are there.
    fn tear(&mut self, user: usize) {
        if let Some((_, mut changes)) = self.clients[user].writes.pop_front() {
            changes.retain(|_| self.rng.below(2) == 0);
            self.clients[user].store.write(&changes).unwrap();
        }
        self.crash(user);
    }

    fn send(&mut self, user: usize) {
        let chat = self.rng.below(2) as usize;
        self.next += 1;
        let (text, request) = (self.next, self.next);
        self.clients[user].asked.insert(request, (chat, text));
        let errand = Errand {
            chat: name(chat, user),
            verb: format!("send/m{text}"),
            id: format!("m{text}"),
            payload: Bytes::from(text.to_string()),
            content_type: None,
            reference: None,
            time: 0,
        };
        self.input(user, Input::Command(request, Command::Do(errand)));
    }

    fn read(&mut self, user: usize, chat: usize) {
        let chat = name(chat, user);
        let seq = self.clients[user].standings.get(&chat).map_or(0, |standing| standing.in_order);
        self.input(user, Input::Command(0, Command::Read { chat, seq }));
    }

    fn carry(&mut self, user: usize) {
        if let Some(packet) = self.clients[user].wire.as_mut().and_then(|wire| wire.up.pop_front())
        {
            self.receive(user, packet);
        }
        let packet = self.clients[user].wire.as_mut().and_then(|wire| wire.down.pop_front());
        let input = match packet {
            None => return,
            Some(ToClient::Opened(session_present)) => {
                Input::Opened(Opened { session_present, receive_maximum: 4 })
            }
            Some(ToClient::Subscribed) => {
                Input::Subscribed { filter: crate::wire::OWN_FILTER.to_owned(), refused: None }
            }
            Some(ToClient::Acknowledged { token, reason, properties }) => {
                Input::Acknowledged { token, reason, text: None, properties }
            }
            Some(ToClient::Publish { topic, payload, packet }) => {
                Input::Received { topic, payload: Bytes::from(payload), packet }
            }
        };
        self.input(user, input);
    }

    fn pass(&mut self, most: Duration) {
        let next = self.clients.iter().filter_map(|client| client.machine.next_timeout()).min();
        let until = next.map_or(self.now + most, |next| next.max(self.now)).min(self.now + most);
        self.now = until;
        for user in 0..2 {
            if self.clients[user].machine.next_timeout().is_some_and(|at| at <= self.now) {
                self.input(user, Input::TimedOut);
            }
        }
    }

    fn step(&mut self) {
        let user = self.rng.below(2) as usize;
        match self.rng.below(100) {
            0..=9 => self.send(user),
            10..=13 => {
                let chat = self.rng.below(2) as usize;
                self.read(user, chat);
            }
            14..=16 => self.cut(user),
            17 => self.crash(user),
            18 => self.tear(user),
            19 => {
                let log = &mut self.logs[self.rng.below(2) as usize];
                let had = log.delivered[0].min(log.delivered[1]);
                log.gone = log.gone.max(had.saturating_sub(self.rng.below(4)));
            }
            20 if self.clients[user].wire.is_none() && self.rng.below(3) == 0 => {
                self.sessions[user].present = false;
            }
            21..=26 => self.connect(user),
            27..=40 => self.commit(user),
            41..=50 => self.pass(Duration::from_millis(500)),
            51..=62 => {
                let chat = self.rng.below(2) as usize;
                self.deliver(user, chat);
            }
            _ => self.carry(user),
        }
    }

    /// Lets everything come to rest, twice: what was lost of ticks is told by `sync` later on.
    fn rest(&mut self) {
        self.calm = true;
        for round in 0..3 {
            for _ in 0..1_500 {
                for user in 0..2 {
                    self.connect(user);
                    self.commit(user);
                    self.carry(user);
                    for chat in 0..2 {
                        self.deliver(user, chat);
                    }
                }
                self.pass(Duration::from_millis(200));
            }
            for user in 0..2 {
                for chat in 0..2 {
                    self.read(user, chat);
                }
                // What was just read is under way, and is to be said again.
                if round == 0 {
                    self.cut(user);
                }
                if round == 1 {
                    self.now += Duration::from_secs(100);
                    self.cut(user);
                }
            }
        }
    }
}

fn text_of(entry: &Value) -> u64 {
    entry["text"].as_str().unwrap().parse().unwrap()
}

fn run(seed: u64, steps: u32) -> Sim {
    let mut sim = Sim::new(seed);
    for _ in 0..steps {
        sim.step();
    }
    sim.check_orders();
    sim
}

#[test]
fn promises_hold_whatever_the_network_the_disk_and_the_program_do() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let mut sent = 0;
    for seed in first..first + seeds {
        let mut sim = run(seed, 3_000);
        sim.rest();
        sim.check_all();
        sent += sim.logs.iter().map(|log| log.entries.len()).sum::<usize>();
    }
    assert!(sent as u64 > 50 * seeds, "{sent} messages are no test");
}

#[test]
fn one_seed_is_one_history() {
    let [one, two] = [run(3, 1_500), run(3, 1_500)];
    assert_eq!((one.trace, one.next), (two.trace, two.next));
    assert_ne!(one.trace, run(4, 1_500).trace);
}

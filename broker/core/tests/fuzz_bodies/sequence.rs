//! What must hold whatever Clients, the network, the store and the clock do to the core: the body of
//! a fuzz target, as a plain function.
//!
//! The simulation asks what well-behaved Clients are owed. Here Clients say anything at any time:
//! packets in the wrong order, with identifiers in use, acknowledgements of nothing, any bytes. The
//! bytes of an input are choices, one after the other. What is checked:
//!
//! - nothing panics, and every packet that goes out is one a server may send;
//! - CONNACK comes first and once, nothing comes behind DISCONNECT or a refusal;
//! - a Packet Identifier in use is not given again, nor more of them than Receive Maximum, and no
//!   packet is larger than the Client takes;
//! - an answer has a question, and every question on a connection that lives gets its answer;
//! - a message that comes was published there, on a topic that was subscribed to, in order;
//! - an acknowledged message reaches every session that outlives its connection and had its SUBACK
//!   before, also when all that was not stored by then is lost.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which fail where they panic"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidings_core::codec::{Ack, Auth, Packet, PropertiesBuf, Property, ReasonCode, RetainHandling};
use tidings_core::topic::oracle;

use crate::harness::{
    Cluster, Delivery, Got, Link, filter, lasting, line, message, packet_id, v5, v311,
};

/// Runs the history that `data` spells.
pub(crate) fn any_bytes(data: &[u8]) {
    let mut world = World::new(Choices(data));
    while !world.choices.0.is_empty() && world.steps < STEPS_MAX {
        world.steps += 1;
        world.step();
        world.listen();
    }
    world.finish();
}

/// Longer histories only take longer.
const STEPS_MAX: usize = 400;

/// Sessions outlive their connections by more than all the time that passes.
const EXPIRY: u32 = 5_000;
const TIME_MAX: u64 = 4_000;

const NAMES: usize = 4;
const TOPICS: [&str; 6] = ["a", "a/b", "b", "a/b/c", "/", "$a"];
const FILTERS: [&str; 9] = ["a", "a/+", "#", "a/#", "+/b", "b", "+", "/", "$share/g/a"];
/// The one of them that is a shared subscription.
const SHARED: usize = 8;

/// One choice after the other; 0 where there are none left.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % end
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 1
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Puback,
    Pubrec,
    Pubcomp,
    Suback,
    Unsuback,
    Pingresp,
}

/// A Network Connection from the Client's end.
#[derive(Debug)]
struct Line {
    link: Link,
    name: usize,
    window: usize,
    packet_bytes_max: usize,
    lasting: bool,
    connack: bool,
    over: bool,
    /// What was asked and not answered, by what the answer is; with the message, if it was one.
    asked: BTreeMap<(Question, u16), VecDeque<Option<usize>>>,
    /// Filters of each SUBSCRIBE that is not answered.
    wanted: BTreeMap<u16, Vec<(usize, u8)>>,
    /// Identifiers of the server in use: whether their PUBLISH came on this connection.
    in_use: BTreeMap<u16, bool>,
    /// Acknowledgements that the Client should send.
    due: VecDeque<(Question, u16)>,
    aliases: BTreeMap<u16, usize>,
}

/// A Client and its session.
#[derive(Debug, Default)]
struct Client {
    line: Option<usize>,
    /// The session outlives its connections for certain, and nothing strange was done to it.
    lasting: bool,
    /// Filters that are granted for certain, with their QoS.
    granted: BTreeMap<usize, u8>,
    /// Filters that were ever asked for.
    asked: BTreeSet<usize>,
    heard: BTreeSet<usize>,
    /// The last number by publisher, topic, QoS and Subscription Identifier.
    last: BTreeMap<(usize, usize, u8, Option<u32>), usize>,
    /// QoS 2 identifiers on their way to the server.
    exactly_once: BTreeSet<u16>,
    /// Those of which the Client cannot know what they stand for.
    confused: BTreeSet<u16>,
}

#[derive(Debug)]
struct Entry {
    publisher: usize,
    topic: usize,
    qos: u8,
    acknowledged: bool,
    owed: BTreeSet<usize>,
}

struct World<'a> {
    choices: Choices<'a>,
    steps: usize,
    broker: Cluster,
    shards: u16,
    seconds: u64,
    lines: Vec<Line>,
    clients: Vec<Client>,
    entries: Vec<Entry>,
}

impl<'a> World<'a> {
    fn new(mut choices: Choices<'a>) -> Self {
        let shards = [1, 2, 3][choices.below(3)];
        let mut broker = Cluster::new(shards);
        if choices.one_in(2) {
            broker.lazy();
        }
        let clients = (0..NAMES).map(|_| Client::default()).collect();
        let (lines, entries) = (Vec::new(), Vec::new());
        Self { choices, steps: 0, broker, shards, seconds: 0, lines, clients, entries }
    }

    fn step(&mut self) {
        let name = self.choices.below(NAMES);
        let action = self.choices.below(26);
        match (action, self.clients[name].line) {
            (0..=2, _) | (_, None) => self.connect(name),
            (3..=9, Some(line)) => self.publish(line),
            (10..=12, Some(line)) => self.subscribe(line),
            (13..=16, Some(line)) => self.acknowledge(line),
            (17, Some(line)) => self.say_something(line),
            (18, Some(line)) => self.say_anything(line),
            (19, Some(line)) => self.disconnect(line),
            (20, Some(line)) => self.broker.lose(self.lines[line].link),
            (21, Some(line)) => {
                let congested = self.choices.one_in(2);
                self.broker.congest(self.lines[line].link, congested);
            }
            _ => self.world_does_something(),
        }
    }

    fn world_does_something(&mut self) {
        let shard = self.choices.below(self.shards.into());
        match self.choices.below(12) {
            0 => self.broker.hold_reads(true),
            1 => self.broker.hold_reads(false),
            2 => self.broker.hold_peers(true),
            3 => self.broker.hold_peers(false),
            4 => {
                self.broker.pass_peer(shard);
            }
            5 => {
                self.broker.answer_read(shard);
            }
            6 => {
                let seconds = [1, 9, 30, 2_000][self.choices.below(4)];
                self.seconds += seconds;
                if self.seconds < TIME_MAX {
                    self.broker.advance(seconds);
                }
            }
            7 | 8 => {
                let records = self.choices.below(self.broker.unsynced(shard) + 1);
                self.broker.sync_some(shard, records);
            }
            9 => self.broker.sync(),
            10 => {
                let shards = 0..usize::from(self.shards);
                let kept: Vec<usize> =
                    shards.map(|it| self.choices.below(self.broker.unsynced(it) + 1)).collect();
                self.broker.crash_keeping(&kept);
                self.all_lines_are_gone();
            }
            _ => {
                self.shards = [1, 2, 3][self.choices.below(3)];
                self.broker.restart(self.shards);
                self.all_lines_are_gone();
            }
        }
    }

    fn all_lines_are_gone(&mut self) {
        for line in &mut self.lines {
            line.over = true;
        }
        for client in &mut self.clients {
            client.line = None;
        }
    }

    // What Clients do.

    fn connect(&mut self, name: usize) {
        let kind = self.choices.below(16);
        let (mut options, may_last) = match (name, kind) {
            // MQTT 3.1.1 keeps its session for ever, or not at all.
            (2, 0..=11) => (v311(&client_name(name)).resume(), true),
            (2, _) => (v311(&client_name(name)), false),
            (_, 0..=11) => (lasting(&client_name(name), EXPIRY), true),
            (_, 12) => (lasting(&client_name(name), 10), false),
            (_, 13) => (v5(&client_name(name)).resume(), false),
            (_, 14) => (v5(&client_name(name)), false),
            _ => (lasting(&client_name(name), EXPIRY).clean(), false),
        };
        let (mut window, mut packet_bytes_max) = (64, usize::MAX);
        if name != 2 {
            window = [64, 1, 2][self.choices.below(3)];
            options = options.with(Property::ReceiveMaximum(window));
            // Too small for CONNACK, or for some messages.
            if let Some(bytes) = [None, Some(16), Some(28)][self.choices.below(9) % 7 % 3] {
                packet_bytes_max = bytes;
                let bytes = u32::try_from(bytes).unwrap();
                options = options.with(Property::MaximumPacketSize(bytes));
            }
        }
        if self.choices.one_in(4) {
            let (qos, delay) = ([0, 1, 2][self.choices.below(3)], [0, 5][self.choices.below(2)]);
            let topic = TOPICS[self.choices.below(TOPICS.len() - 1)];
            options = options.will(topic, "will", qos, if name == 2 { 0 } else { delay });
        }
        if self.choices.one_in(4) {
            options = options.keep_alive(10);
        }
        if !may_last || packet_bytes_max < usize::MAX {
            self.forget(name);
        }
        let link = self.broker.connect(&options);
        self.clients[name].line = Some(self.lines.len());
        self.lines.push(Line {
            link,
            name,
            window: window.into(),
            packet_bytes_max,
            lasting: may_last && packet_bytes_max == usize::MAX,
            connack: false,
            over: false,
            asked: BTreeMap::new(),
            wanted: BTreeMap::new(),
            in_use: BTreeMap::new(),
            due: VecDeque::new(),
            aliases: BTreeMap::new(),
        });
    }

    /// Nothing is certain about the session any more.
    fn forget(&mut self, name: usize) {
        self.clients[name].lasting = false;
        self.clients[name].granted.clear();
        for entry in &mut self.entries {
            entry.owed.remove(&name);
        }
    }

    fn publish(&mut self, line: usize) {
        let name = self.lines[line].name;
        let qos = u8::try_from(self.choices.below(3)).unwrap();
        let id = if qos == 0 { 0 } else { u16::try_from(self.choices.below(8) + 1).unwrap() };
        let mut topic = self.choices.below(TOPICS.len());
        let flags = self.choices.below(256);
        let number = self.entries.len();
        let mut sent = message(TOPICS[topic], &number.to_string(), qos, id);
        sent.retain = flags & 0x07 == 1;
        sent.dup = qos > 0 && flags & 0x18 == 0x08;
        let mut expires = false;
        if name != 2 && flags & 0x60 == 0x20 {
            let alias = u16::try_from(self.choices.below(34) + 1).unwrap();
            sent = sent.with(Property::TopicAlias(alias));
            if flags & 0x80 == 0 {
                self.lines[line].aliases.insert(alias, topic);
            } else {
                sent.topic = String::new();
                // One that is not known closes the connection.
                topic = self.lines[line].aliases.get(&alias).copied().unwrap_or(topic);
            }
        } else if name != 2 && flags & 0x60 == 0x40 {
            expires = true;
            sent = sent.with(Property::MessageExpiry(5));
        }
        let publisher = &mut self.clients[name];
        let mut is_new = qos > 0 && !expires;
        if qos == 2 {
            if !publisher.exactly_once.insert(id) {
                publisher.confused.insert(id);
            }
            is_new &= !publisher.confused.contains(&id);
        }
        let owed = (0..NAMES).filter(|it| is_new && *it != name && self.is_owed(*it, topic));
        let owed = owed.collect();
        self.entries.push(Entry { publisher: name, topic, qos, acknowledged: false, owed });
        match qos {
            1 => self.ask(line, Question::Puback, id, Some(number)),
            2 => self.ask(line, Question::Pubrec, id, Some(number)),
            _ => {}
        }
        self.broker.publish(self.lines[line].link, &sent);
    }

    fn is_owed(&self, name: usize, topic: usize) -> bool {
        let client = &self.clients[name];
        let mut granted = client.granted.iter();
        // Of a shared subscription somebody gets it, nobody knows who.
        let owes = |filter: usize| filter != SHARED && matches(filter, TOPICS[topic]);
        client.lasting && granted.any(|(filter, qos)| *qos > 0 && owes(*filter))
    }

    fn ask(&mut self, line: usize, answer: Question, id: u16, number: Option<usize>) {
        self.lines[line].asked.entry((answer, id)).or_default().push_back(number);
    }

    fn subscribe(&mut self, line: usize) {
        let name = self.lines[line].name;
        let id = u16::try_from(self.choices.below(8) + 1).unwrap();
        if self.choices.one_in(4) {
            let which = self.choices.below(FILTERS.len());
            self.forget(name);
            self.ask(line, Question::Unsuback, id, None);
            return self.broker.unsubscribe(self.lines[line].link, id, &[FILTERS[which]]);
        }
        let mut filters = Vec::new();
        let mut wanted = Vec::new();
        for _ in 0..=self.choices.below(2) {
            let (which, flags) = (self.choices.below(FILTERS.len()), self.choices.below(256));
            let qos = [1, 2, 0, 1][flags & 3];
            let mut it = filter(FILTERS[which], qos);
            if name != 2 {
                it.options.no_local = flags & 0x1C == 0x04 && !FILTERS[which].starts_with('$');
                it.options.retain_as_published = flags & 0x20 != 0;
                it.options.retain_handling = match flags >> 6 {
                    1 => RetainHandling::SendIfNew,
                    2 => RetainHandling::DoNotSend,
                    _ => RetainHandling::Send,
                };
            }
            if self.clients[name].granted.contains_key(&which) {
                let lasting = self.clients[name].lasting;
                self.forget(name);
                self.clients[name].lasting = lasting;
            }
            self.clients[name].asked.insert(which);
            wanted.push((which, qos));
            filters.push(it);
        }
        let identifier = (name != 2 && self.choices.one_in(3)).then_some(7);
        self.ask(line, Question::Suback, id, None);
        let line = &mut self.lines[line];
        // Two questions with one identifier: which answer is whose is not worth the trouble.
        let first = line.asked[&(Question::Suback, id)].len() == 1;
        line.wanted.insert(id, if first { wanted } else { Vec::new() });
        self.broker.subscribe_with(line.link, id, &filters, identifier);
    }

    /// What is due, most of the time.
    fn acknowledge(&mut self, line: usize) {
        let refuses = self.choices.one_in(16);
        let Some((kind, id)) = self.lines[line].due.pop_front() else { return };
        let reason = if refuses && self.lines[line].name != 2 {
            ReasonCode::QuotaExceeded
        } else {
            ReasonCode::Success
        };
        self.answer(line, kind, id, reason);
    }

    fn answer(&mut self, line: usize, kind: Question, id: u16, reason: ReasonCode) {
        let ack = Ack { packet_id: packet_id(id), reason, properties: Default::default() };
        let it = &mut self.lines[line];
        let packet = match kind {
            Question::Puback => {
                it.in_use.remove(&id);
                Packet::Puback(ack)
            }
            Question::Pubrec => {
                if reason.is_error() {
                    it.in_use.remove(&id);
                }
                Packet::Pubrec(ack)
            }
            _ => {
                it.in_use.remove(&id);
                Packet::Pubcomp(Ack::success(ack.packet_id))
            }
        };
        self.broker.send(it.link, &packet);
    }

    /// A packet that is right by itself.
    fn say_something(&mut self, line: usize) {
        let id = u16::try_from(self.choices.below(9) + 1).unwrap();
        let kind = self.choices.below(8);
        if kind < 4 {
            let (question, id) = (Question::Pubcomp, packet_id(id));
            self.ask(line, question, id.get(), None);
            return self.broker.send(self.lines[line].link, &Packet::Pubrel(Ack::success(id)));
        }
        let ack = Ack::success(packet_id(id));
        let packet = match kind {
            4 => {
                self.ask(line, Question::Pingresp, 0, None);
                Packet::Pingreq
            }
            // In turn or not: what is out of turn closes the connection.
            5 => Packet::Puback(ack),
            6 => Packet::Pubrec(ack),
            _ if self.lines[line].name == 2 => Packet::Pingresp,
            _ => {
                let properties = PropertiesBuf::new();
                let reason = ReasonCode::ContinueAuthentication;
                let auth = Auth { reason, properties: properties.as_properties() };
                return self.broker.send(self.lines[line].link, &Packet::Auth(auth));
            }
        };
        if matches!(packet, Packet::Puback(_)) {
            self.lines[line].in_use.remove(&id);
        }
        self.broker.send(self.lines[line].link, &packet);
    }

    /// Any bytes with a length that fits.
    fn say_anything(&mut self, line: usize) {
        let count = self.choices.below(40);
        let mut bytes = self.choices.take(count + 1);
        if bytes.is_empty() {
            return;
        }
        bytes.insert(1, u8::try_from(bytes.len() - 1).unwrap());
        let name = self.lines[line].name;
        // It may mean anything; so nothing that the connection has asked or is owed is certain.
        self.forget(name);
        self.clients[name].confused.extend(0..=u16::MAX);
        self.clients[name].asked.extend(0..FILTERS.len());
        let it = &mut self.lines[line];
        (it.connack, it.lasting) = (true, false);
        self.broker.raw(it.link, bytes);
        // Its answers, and what comes without a filter we know of, are not looked at any more.
        self.lines[line].over = true;
    }

    fn disconnect(&mut self, line: usize) {
        let reason = match self.choices.below(3) {
            1 if self.lines[line].name != 2 => ReasonCode::DisconnectWithWill,
            _ => ReasonCode::Success,
        };
        let mut properties = PropertiesBuf::new();
        if self.lines[line].name != 2 && self.choices.one_in(4) {
            properties.push(Property::SessionExpiry([0, 10][self.choices.below(2)]));
            self.forget(self.lines[line].name);
            // Its CONNACK may still be on its way: what that begins does not last.
            self.lines[line].lasting = false;
        }
        self.broker.disconnect_with(self.lines[line].link, reason, &properties);
    }

    // What Clients hear.

    fn listen(&mut self) {
        for line in 0..self.lines.len() {
            let link = self.lines[line].link;
            for got in self.broker.got(link) {
                if !self.lines[line].over {
                    self.hear(line, &got);
                }
            }
            let it = &mut self.lines[line];
            let largest = self.broker.largest(link);
            assert!(largest <= it.packet_bytes_max, "{largest} bytes to one that takes fewer");
            // Until its CONNACK a connection is neither open nor closed.
            if self.broker.is_over(link) {
                it.over = true;
                let current = &mut self.clients[it.name].line;
                *current = current.filter(|it| *it != line);
            }
        }
    }

    fn hear(&mut self, line: usize, got: &Got) {
        let it = &mut self.lines[line];
        let is_connack = matches!(got, Got::Connack { .. });
        assert_ne!(it.connack, is_connack, "CONNACK first and once: {}", self::line(got));
        match got {
            Got::Connack { present, reason, .. } => {
                it.connack = true;
                if reason.is_error() {
                    it.over = true;
                    return;
                }
                let client = &mut self.clients[it.name];
                assert!(*present || !client.lasting, "the session is gone");
                if !*present {
                    client.lasting = it.lasting;
                    client.granted.clear();
                    let name = it.name;
                    for entry in &mut self.entries {
                        entry.owed.remove(&name);
                    }
                }
            }
            Got::Publish(delivery) => self.delivered(line, delivery),
            Got::Puback(id, reason, _) => self.answered(line, Question::Puback, *id, *reason),
            Got::Pubrec(id, reason) => self.answered(line, Question::Pubrec, *id, *reason),
            Got::Pubcomp(id, reason) => {
                self.answered(line, Question::Pubcomp, *id, *reason);
                let name = self.lines[line].name;
                self.clients[name].exactly_once.remove(id);
            }
            Got::Suback(id, reasons) => {
                self.answered(line, Question::Suback, *id, ReasonCode::Success);
                let it = &mut self.lines[line];
                let wanted = it.wanted.remove(id).unwrap_or_default();
                let client = &mut self.clients[it.name];
                for ((which, qos), reason) in wanted.iter().zip(reasons) {
                    assert!(*reason == *qos || *reason >= 0x80, "granted {reason} for {qos}");
                    if *reason == *qos && client.lasting {
                        client.granted.insert(*which, *qos);
                    }
                }
            }
            Got::Unsuback(id, _) => {
                self.answered(line, Question::Unsuback, *id, ReasonCode::Success)
            }
            Got::Pingresp => self.answered(line, Question::Pingresp, 0, ReasonCode::Success),
            Got::Pubrel(id, reason) => {
                // One that answers a PUBREC to nothing says so, but not in MQTT 3.1.1.
                if *reason == ReasonCode::Success && it.name != 2 {
                    it.in_use.entry(*id).or_insert(false);
                }
                it.due.push_back((Question::Pubcomp, *id));
            }
            Got::Disconnect(_) | Got::Elsewhere(..) => it.over = true,
            Got::Auth(..) => panic!("nobody named a method: {}", self::line(got)),
        }
    }

    fn answered(&mut self, line: usize, question: Question, id: u16, reason: ReasonCode) {
        let it = &mut self.lines[line];
        let asked = it.asked.get_mut(&(question, id));
        let number = asked.and_then(VecDeque::pop_front);
        let number = number.unwrap_or_else(|| panic!("{question:?} {id} answers nothing"));
        let Some(number) = number.filter(|_| !reason.is_error()) else { return };
        let entry = &mut self.entries[number];
        entry.acknowledged = true;
        let nobody = reason == ReasonCode::NoMatchingSubscribers;
        let owed = &entry.owed;
        assert!(!nobody || owed.is_empty(), "nobody listens to {number}, and {owed:?} do");
    }

    fn delivered(&mut self, line: usize, it: &Delivery) {
        let to = &mut self.lines[line];
        if it.qos > 0 {
            let known = to.in_use.insert(it.id, true);
            assert_eq!(known, None, "identifier {} is in use", it.id);
            let paid = to.in_use.values().filter(|paid| **paid).count();
            assert!(paid <= to.window, "{paid} unacknowledged, {} are taken", to.window);
            let due = if it.qos == 1 { Question::Puback } else { Question::Pubrec };
            to.due.push_back((due, it.id));
        }
        let Ok(number) = it.payload.parse::<usize>() else { return };
        let (entry, client) = (&self.entries[number], &mut self.clients[to.name]);
        assert_eq!(it.topic, TOPICS[entry.topic], "{it:?}");
        assert!(it.qos <= entry.qos && !it.topic.starts_with('$'), "{it:?}");
        let mut asked = client.asked.iter();
        assert!(asked.any(|asked| matches(*asked, &it.topic)), "{it:?}");
        let is_new = client.heard.insert(number);
        // What another one of a shared subscription did not take comes late.
        let shares = client.asked.contains(&SHARED);
        if it.qos == 0 || it.retain || !is_new || shares {
            return;
        }
        let kind = (entry.publisher, entry.topic, it.qos, it.subscription);
        let before = client.last.insert(kind, number);
        assert!(before.is_none_or(|before| before < number), "{number} behind {before:?}");
    }

    /// All that is not stored is lost. Everybody comes back, and every promise is due.
    fn finish(&mut self) {
        self.broker.crash();
        self.all_lines_are_gone();
        self.broker.hold_peers(false);
        self.broker.hold_reads(false);
        self.broker.eager();
        for name in 0..NAMES {
            self.choices = Choices(&[]);
            self.connect(name);
            self.listen();
        }
        while self.lines.iter().any(|it| !it.over && !it.due.is_empty()) {
            for line in 0..self.lines.len() {
                if let Some((kind, id)) = self.lines[line].due.pop_front() {
                    self.answer(line, kind, id, ReasonCode::Success);
                }
            }
            self.listen();
        }
        for (number, entry) in self.entries.iter().enumerate().filter(|(_, it)| it.acknowledged) {
            for name in &entry.owed {
                let heard = self.clients[*name].heard.contains(&number);
                assert!(heard, "{} never heard {number}: {entry:?}", client_name(*name));
            }
        }
    }
}

fn matches(filter: usize, topic: &str) -> bool {
    oracle::matches(FILTERS[filter].trim_start_matches("$share/g/"), topic)
}

fn client_name(name: usize) -> String {
    format!("client-{name}")
}

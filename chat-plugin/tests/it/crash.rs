//! Random histories with crashes, against a ledger of what everybody was promised.
//!
//! `SEED=n` runs one history, `SEEDS=n` that many. A failure prints its seed; the same seed is the
//! same history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{Property, QoS, ReasonCode};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{Rng, World, number, text};

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const DEVICES: [&str; 2] = ["phone", "laptop"];
const STEPS: usize = 1_500;

/// A chat by the names of its members, in order.
type Pair = (&'static str, &'static str);

/// A device by its user and its Client Identifier.
type DeviceId = (&'static str, &'static str);

fn pair(one: &'static str, other: &'static str) -> Pair {
    if one <= other { (one, other) } else { (other, one) }
}

fn user(name: &str) -> &'static str {
    USERS.into_iter().find(|user| *user == name).unwrap()
}

/// What one device has.
#[derive(Default)]
struct Device {
    session: Option<SessionId>,
    /// How often its connection has ended.
    epoch: u64,
    /// What it acknowledged, and in which epoch.
    acknowledged: BTreeMap<(Pair, u64), u64>,
    /// What it has heard in this epoch and not acknowledged.
    heard: BTreeSet<(Pair, u64)>,
}

#[derive(Clone)]
struct Send {
    chat: Pair,
    from: &'static str,
    to: &'static str,
    id: String,
    payload: String,
    /// What it says about which entry, if it is no message.
    about: Option<(&'static str, u64)>,
}

/// Everything that was promised, and to whom.
#[derive(Default)]
struct Ledger {
    devices: BTreeMap<DeviceId, Device>,
    sends: Vec<Send>,
    /// Which devices tried a send: they may not hear it.
    tried: BTreeMap<(Pair, String), BTreeSet<DeviceId>>,
    open: BTreeMap<u64, usize>,
    /// The place each acknowledged send got.
    places: BTreeMap<(Pair, &'static str, String), u64>,
    /// What every place holds.
    entries: BTreeMap<(Pair, u64), (String, String, String)>,
    /// Entries that somebody may have deleted for all, or for herself.
    deleted: BTreeSet<(Pair, u64)>,
    hidden: BTreeSet<(Pair, u64, &'static str)>,
    /// Those that were acknowledged to be, and for whom.
    deleted_for: BTreeSet<(Pair, u64, &'static str)>,
    /// Ids of entries that are none for all, or no messages.
    about: BTreeMap<(Pair, String), &'static str>,
    /// The highest read that was reported, by chat and reader.
    read: BTreeMap<(Pair, &'static str), u64>,
    reads_open: BTreeMap<u64, (Pair, &'static str, u64)>,
    reads_done: BTreeMap<(Pair, &'static str), u64>,
    /// What users last said of others: who, of whom, and whether to block.
    blocks_open: BTreeMap<u64, (&'static str, &'static str, bool)>,
    /// Blocks that were acknowledged, and not touched since.
    blocked: BTreeSet<(&'static str, &'static str)>,
    /// Sends that were published while one of the two was blocked for certain.
    barred: BTreeSet<u64>,
    refused: usize,
    /// The last tick each device heard of another user.
    ticks: BTreeMap<(DeviceId, &'static str), (u64, u64)>,
}

struct Sim {
    world: World,
    rng: Rng,
    /// Whether strangers are told nothing.
    requests: bool,
    ledger: Ledger,
    /// How many there were: a history without any tests nothing.
    batches: usize,
    histories: usize,
    floods: usize,
    unread: u64,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut options = ChatOptions::default();
        let mut rng = Rng(seed ^ 0x5eed);
        if rng.below(2) == 0 {
            // Chats come and go from memory.
            options.chats_loaded_max = 1;
        }
        options.requests = rng.below(2) == 0;
        options.request_messages_per_day = 0;
        let requests = options.requests;
        let shards = 1 + rng.below(4) as u16;
        let mut world = if seed.is_multiple_of(2) {
            World::with(shards, options, seed)
        } else {
            World::sealed(shards, options, seed, &Arc::default())
        };
        let mut ledger = Ledger::default();
        for user in USERS {
            for client_id in DEVICES {
                let session = world.connect(user, client_id);
                let view = if rng.below(3) == 0 { "me/cbor/#" } else { "me/json/#" };
                world.subscribe(session, view, QoS::AtLeastOnce);
                if rng.below(2) == 0 {
                    world.publish(session, "me/state", br#"{"batch":true}"#);
                }
                world.session(session).window = 1 + rng.below(8);
                world.session(session).queue_max = 1 + rng.below(8);
                world.session(session).acknowledges = false;
                let device = Device { session: Some(session), ..Device::default() };
                ledger.devices.insert((user, client_id), device);
            }
        }
        world.settle();
        Self { world, rng, requests, ledger, batches: 0, histories: 0, floods: 0, unread: 0 }
    }

    fn any_device(&mut self) -> DeviceId {
        (USERS[self.rng.below(USERS.len())], DEVICES[self.rng.below(DEVICES.len())])
    }

    fn connected(&mut self, device: DeviceId) -> Option<SessionId> {
        let session = self.ledger.devices[&device].session?;
        self.world.session(session).connected.then_some(session)
    }

    fn act(&mut self) {
        match self.rng.below(100) {
            0..=12 => self.send(),
            13..=14 => self.say_about(),
            15..=19 => self.retry(),
            20..=44 => self.acknowledge(),
            45..=47 => self.disconnect(),
            48..=49 => self.bounce(),
            50..=53 => self.connect(),
            54..=56 => self.read(),
            57 => self.ask(),
            79 => self.block(),
            58..=67 => {
                let shard = self.rng.below(self.world.shards());
                let count = self.rng.below(self.world.unsynced(shard) + 1);
                self.world.sync_shard(shard, count);
            }
            68..=77 => {
                let by = self.rng.below(80) as u64;
                self.world.advance(Duration::from_millis(by));
            }
            78 if self.rng.below(4) == 0 => self.crash(),
            _ => {
                for _ in 0..self.rng.below(20) {
                    if !self.world.step() {
                        break;
                    }
                }
            }
        }
        self.check();
    }

    fn send(&mut self) {
        let device = self.any_device();
        let Some(session) = self.connected(device) else { return };
        let to = USERS[self.rng.below(USERS.len())];
        // Now and then one chat is noisy: more than any window and queue holds, and no other may
        // lose anything by it.
        let noisy = self.rng.below(50) == 0;
        self.floods += usize::from(noisy);
        for _ in 0..if noisy { 40 } else { 1 } {
            let number = self.ledger.sends.len();
            let chat = pair(device.0, to);
            let id = format!("m{number}");
            let payload = format!("payload {number}");
            let send = Send { chat, from: device.0, to, id, payload, about: None };
            self.ledger.sends.push(send);
            self.post(number, device, session);
        }
    }

    /// Edits, reacts to, or deletes an entry that somebody has seen.
    fn say_about(&mut self) {
        let device = self.any_device();
        let Some(session) = self.connected(device) else { return };
        let to = USERS[self.rng.below(USERS.len())];
        let chat = pair(device.0, to);
        let known: Vec<u64> = self
            .ledger
            .entries
            .range((chat, 0)..=(chat, u64::MAX))
            .map(|((_, seq), _)| *seq)
            .collect();
        if known.is_empty() {
            return;
        }
        let seq = known[known.len() - 1 - self.rng.below(known.len().min(12))];
        let number = self.ledger.sends.len();
        let (verb, payload) = match self.rng.below(4) {
            0 => ("edit", format!("edited {number}")),
            1 => ("react", format!("reaction {number}")),
            2 => {
                self.ledger.deleted.insert((chat, seq));
                ("delete", "everyone".to_string())
            }
            _ => {
                self.ledger.hidden.insert((chat, seq, device.0));
                ("delete", "me".to_string())
            }
        };
        let id = format!("m{number}");
        let kind = if payload == "me" { "hide" } else { verb };
        self.ledger.about.insert((chat, id.clone()), kind);
        let send = Send { chat, from: device.0, to, id, payload, about: Some((verb, seq)) };
        self.ledger.sends.push(send);
        self.post(number, device, session);
    }

    fn retry(&mut self) {
        if self.ledger.sends.is_empty() {
            return;
        }
        let back = self.rng.below(self.ledger.sends.len().min(10));
        let number = self.ledger.sends.len() - 1 - back;
        let from = self.ledger.sends[number].from;
        let device = (from, DEVICES[self.rng.below(DEVICES.len())]);
        let Some(session) = self.connected(device) else { return };
        self.post(number, device, session);
    }

    fn post(&mut self, number: usize, device: DeviceId, session: SessionId) {
        let send = self.ledger.sends[number].clone();
        let topic = match send.about {
            None => format!("chat/@{}/send", send.to),
            Some((verb, seq)) => format!("chat/@{}/{verb}/{seq}", send.to),
        };
        let id = [Property::CorrelationData(send.id.as_bytes())];
        let serial = self.world.publish_with(session, &topic, send.payload.as_bytes(), &id);
        self.ledger.open.insert(serial, number);
        let barred = self.ledger.blocked.contains(&(send.from, send.to))
            || self.ledger.blocked.contains(&(send.to, send.from));
        // What was tried before may have been kept, and is answered with its place.
        let new = !self.ledger.tried.contains_key(&(send.chat, send.id.clone()));
        // Deleting is for the blocked as well.
        if barred && new && send.about.is_none() {
            self.ledger.barred.insert(serial);
        }
        self.ledger.tried.entry((send.chat, send.id)).or_default().insert(device);
    }

    /// Somebody blocks another, or takes it back.
    fn block(&mut self) {
        let device = self.any_device();
        let Some(session) = self.connected(device) else { return };
        let peer = USERS[self.rng.below(USERS.len())];
        if peer == device.0 {
            return;
        }
        let on = self.rng.below(3) == 0;
        let word = if on { "block" } else { "unblock" };
        let body = format!(r#"{{"{word}":["{peer}"]}}"#);
        let serial = self.world.publish(session, "me/block", body.as_bytes());
        // Nothing is certain before this is answered, nor if it never is.
        self.ledger.blocked.remove(&(device.0, peer));
        self.ledger.blocks_open.retain(|_, open| (open.0, open.1) != (device.0, peer));
        self.ledger.blocks_open.insert(serial, (device.0, peer, on));
        if !on {
            // It may overtake what is on its way.
            self.ledger.barred.clear();
        }
    }

    fn acknowledge(&mut self) {
        let device = self.any_device();
        let Some(session) = self.connected(device) else { return };
        let waiting = self.world.in_flight(session);
        if waiting.is_empty() {
            return;
        }
        let at = if self.rng.below(4) == 0 { self.rng.below(waiting.len()) } else { 0 };
        let reason = match self.rng.below(30) {
            0 => ReasonCode::UnspecifiedError,
            _ => ReasonCode::Success,
        };
        let (topic, body) = waiting[at].clone();
        self.world.acknowledge_at(session, at, reason);
        self.note_acknowledged(device, &topic, &body);
    }

    fn note_acknowledged(&mut self, device: DeviceId, topic: &str, body: &str) {
        let (peer, seqs) = if let Some(peer) = peer_of(topic, "message") {
            (peer, vec![number(body, "seq").unwrap()])
        } else if let Some(peer) = peer_of(topic, "batch") {
            (peer, entries_of(body).into_iter().map(|(seq, _)| seq).collect())
        } else {
            return;
        };
        let chat = pair(device.0, peer);
        let device = self.ledger.devices.get_mut(&device).unwrap();
        for seq in seqs {
            device.heard.remove(&(chat, seq));
            device.acknowledged.insert((chat, seq), device.epoch);
        }
    }

    fn disconnect(&mut self) {
        let device = self.any_device();
        let Some(session) = self.connected(device) else { return };
        let hows = [Disconnection::Clean, Disconnection::Abrupt, Disconnection::TakenOver];
        let how = hows[self.rng.below(3)];
        self.world.disconnect(session, how);
        self.check();
        self.over(device);
    }

    /// A connection is over: what was not acknowledged may not have arrived.
    fn over(&mut self, device: DeviceId) {
        let device = self.ledger.devices.get_mut(&device).unwrap();
        device.epoch += 1;
        device.heard.clear();
    }

    fn connect(&mut self) {
        let device = self.any_device();
        let session = self.ledger.devices[&device].session.unwrap();
        if !self.world.session(session).connected {
            self.world.connect(device.0, device.1);
        }
    }

    /// A device is away for no time at all: what was on its way to it still is.
    fn bounce(&mut self) {
        let device = self.any_device();
        if let Some(session) = self.connected(device) {
            self.world.disconnect(session, Disconnection::Abrupt);
            self.check();
            self.over(device);
            self.world.connect(device.0, device.1);
        }
    }

    fn read(&mut self) {
        let device = self.any_device();
        let Some(session) = self.connected(device) else { return };
        let peer = USERS[self.rng.below(USERS.len())];
        let chat = pair(device.0, peer);
        let last = self.ledger.entries.range((chat, 0)..=(chat, u64::MAX)).next_back();
        let Some(((_, last), _)) = last else { return };
        let seq = 1 + self.rng.below(*last as usize) as u64;
        let topic = format!("chat/@{peer}/read");
        let serial = self.world.publish(session, &topic, seq.to_string().as_bytes());
        let read = self.ledger.read.entry((chat, device.0)).or_default();
        *read = (*read).max(seq);
        self.ledger.reads_open.insert(serial, (chat, device.0, seq));
    }

    /// A device asks for a part of a log.
    fn ask(&mut self) {
        let device = self.any_device();
        let Some(session) = self.connected(device) else { return };
        let peer = USERS[self.rng.below(USERS.len())];
        let from = 1 + self.rng.below(40) as u64;
        let to = from + self.rng.below(60) as u64;
        let limit = 1 + self.rng.below(80);
        let what = match self.rng.below(3) {
            0 => format!(r#"{{"limit":{limit}}}"#),
            1 => format!(r#"{{"to":{to},"limit":{limit}}}"#),
            _ => format!(r#"{{"from":{from},"to":{to},"limit":{limit}}}"#),
        };
        self.world.publish(session, &format!("chat/@{peer}/history"), what.as_bytes());
    }

    /// What everybody has not read is as many as the ledger says.
    fn check_unread(&mut self) {
        for user_name in USERS {
            let session = self.ledger.devices[&(user_name, "phone")].session.unwrap();
            let asked = self.world.publish(session, "me/sync", b"");
            self.world.session(session).acknowledges = true;
            self.world.settle();
            assert_eq!(self.world.answer(asked), Some(ReasonCode::Success));
            let answer = self.world.take_answer(session, "sync");
            for of in answer["chats"].as_array().unwrap() {
                let peer = user(of["chat"].as_str().unwrap().strip_prefix('@').unwrap());
                let chat = pair(user_name, peer);
                let others = |read: u64| {
                    let behind = self.ledger.entries.range((chat, read + 1)..=(chat, u64::MAX));
                    let counts = |((_, seq), (_, id, _)): &(&(Pair, u64), &(_, String, _))| {
                        !self.ledger.about.contains_key(&(chat, id.clone()))
                            && !self.ledger.hidden.contains(&(chat, *seq, user_name))
                            && !self.ledger.deleted.contains(&(chat, *seq))
                    };
                    let gone = |((_, seq), _): &(&(Pair, u64), _)| {
                        self.ledger.hidden.contains(&(chat, *seq, user_name))
                            || self.ledger.deleted.contains(&(chat, *seq))
                    };
                    let others = behind.filter(|(_, (from, ..))| from != user_name);
                    let (mut sure, mut perhaps) = (0, 0);
                    for entry in others {
                        sure += u64::from(counts(&entry));
                        perhaps += u64::from(gone(&entry));
                    }
                    (sure, sure + perhaps)
                };
                // What was reported and not acknowledged may have been lost.
                let at = |of: &BTreeMap<(Pair, &str), u64>| {
                    of.get(&(chat, user_name)).copied().unwrap_or_default()
                };
                let (most, least) =
                    (others(at(&self.ledger.reads_done)).1, others(at(&self.ledger.read)).0);
                let unread = of["unread"].as_u64().unwrap();
                assert!(
                    (least..=most).contains(&unread),
                    "{user_name} has {unread} of {chat:?} unread, expected {least} to {most}"
                );
                self.unread += unread;
            }
        }
    }

    /// What was deleted is in nobody's history.
    fn check_deleted(&mut self) {
        for (chat, seq, name) in self.ledger.deleted_for.clone() {
            let session = self.ledger.devices[&(name, "phone")].session.unwrap();
            let peer = if chat.0 == name { chat.1 } else { chat.0 };
            let range = format!(r#"{{"from":{seq},"to":{seq}}}"#);
            self.world.publish(session, &format!("chat/@{peer}/history"), range.as_bytes());
            self.world.settle();
            let answer = self.world.take_answer(session, "history");
            assert_eq!(answer["gone"], serde_json::json!([[seq, seq]]), "{chat:?} for {name}");
        }
    }

    fn crash(&mut self) {
        let keep = self.rng.below(2) == 0;
        self.world.crash(keep);
        for user in USERS {
            for client_id in DEVICES {
                self.over((user, client_id));
            }
        }
    }

    /// Reads what everybody has heard, and holds it against the ledger.
    fn check(&mut self) {
        let open: Vec<(u64, usize)> =
            self.ledger.open.iter().map(|(serial, number)| (*serial, *number)).collect();
        for (serial, number) in open {
            let Some(answer) = self.world.answer(serial) else { continue };
            self.ledger.open.remove(&serial);
            if answer == ReasonCode::NotAuthorized {
                assert_eq!(self.world.property(serial, "code").as_deref(), Some("forbidden"));
                self.ledger.refused += 1;
                continue;
            }
            assert!(!self.ledger.barred.contains(&serial), "a message passed a block");
            let send = &self.ledger.sends[number];
            if send.about.is_some() && (answer.is_error() || self.world.seq(serial).is_none()) {
                // Too late, not hers, or done already.
                continue;
            }
            assert_eq!(answer, ReasonCode::Success);
            let seq = self.world.seq(serial).unwrap();
            if let Some(("delete", of)) = send.about {
                let all = [send.chat.0, send.chat.1];
                let whom = all.iter().filter(|name| send.payload != "me" || **name == send.from);
                self.ledger.deleted_for.extend(whom.map(|name| (send.chat, of, *name)));
            }
            let known = self.ledger.places.insert((send.chat, send.from, send.id.clone()), seq);
            assert!(known.is_none_or(|known| known == seq), "{} got two places", send.id);
            let entry = (send.from.to_string(), send.id.clone(), send.payload.clone());
            self.ledger.note_entry(send.chat, seq, entry);
        }
        let blocks: Vec<u64> = self.ledger.blocks_open.keys().copied().collect();
        for serial in blocks {
            let Some(answer) = self.world.answer(serial) else { continue };
            let (user, peer, on) = self.ledger.blocks_open.remove(&serial).unwrap();
            if on && answer == ReasonCode::Success {
                self.ledger.blocked.insert((user, peer));
            }
        }
        let reads: Vec<u64> = self.ledger.reads_open.keys().copied().collect();
        for serial in reads {
            if self.world.answer(serial) == Some(ReasonCode::Success) {
                let (chat, user, seq) = self.ledger.reads_open.remove(&serial).unwrap();
                let done = self.ledger.reads_done.entry((chat, user)).or_default();
                *done = (*done).max(seq);
            }
        }
        for user in USERS {
            for client_id in DEVICES {
                self.check_device((user, client_id));
            }
        }
    }

    fn check_device(&mut self, id: DeviceId) {
        let Some(session) = self.ledger.devices[&id].session else { return };
        let heard = std::mem::take(&mut self.world.session(session).heard);
        for heard in heard {
            if let Some(peer) = peer_of(&heard.topic, "message") {
                let chat = pair(id.0, peer);
                let seq = number(&heard.body, "seq").unwrap();
                let field = |name| text(&heard.body, name).unwrap();
                self.ledger.note_entry(chat, seq, (field("from"), field("id"), field("text")));
                if !heard.again {
                    self.ledger.note_heard(id, chat, seq);
                }
                self.ledger.devices.get_mut(&id).unwrap().heard.insert((chat, seq));
            } else if let Some(peer) = peer_of(&heard.topic, "batch") {
                let chat = pair(id.0, peer);
                for entry in entries_of(&heard.body) {
                    self.ledger.note_entry(chat, entry.0, entry.1);
                    if !heard.again {
                        self.ledger.note_heard(id, chat, entry.0);
                    }
                    self.ledger.devices.get_mut(&id).unwrap().heard.insert((chat, entry.0));
                }
                self.batches += 1;
            } else if let Some(peer) = peer_of(&heard.topic, "history") {
                self.ledger.note_history(id.0, pair(id.0, peer), &heard.body);
                self.histories += 1;
            } else if heard.topic.ends_with("/error") {
                let code = text(&heard.body, "code").unwrap();
                let about = text(&heard.body, "id").is_some();
                let expected = code == "forbidden" || about && code == "late";
                assert!(code == "unknown_chat" || expected, "{heard:?}");
            } else if let Some(peer) = peer_of(&heard.topic, "receipt") {
                let about = text(&heard.body, "user").unwrap();
                let chat = pair(id.0, peer);
                let mut sends = self.ledger.sends.iter();
                let wrote = about == id.0 || sends.any(|it| it.chat == chat && it.from == about);
                assert!(wrote || !self.requests, "{} is a stranger to {about}", id.0);
                self.ledger.note_receipt(id, peer, &heard.body);
            } else if heard.topic.ends_with("/request") {
                assert!(self.requests, "{heard:?}");
            } else {
                panic!("unexpected: {heard:?}");
            }
        }
    }

    /// Everybody comes back and hears all there is.
    fn finish(&mut self) {
        for user in USERS {
            for client_id in DEVICES {
                let session = self.ledger.devices[&(user, client_id)].session.unwrap();
                if !self.world.session(session).connected {
                    self.world.connect(user, client_id);
                }
            }
        }
        for _ in 0..200 {
            let mut any = false;
            self.world.run();
            self.check();
            for user in USERS {
                for client_id in DEVICES {
                    let session = self.ledger.devices[&(user, client_id)].session.unwrap();
                    for (topic, body) in self.world.in_flight(session) {
                        any = true;
                        self.world.acknowledge(session, ReasonCode::Success);
                        self.note_acknowledged((user, client_id), &topic, &body);
                        self.check();
                    }
                }
            }
            self.world.sync();
            self.world.advance(Duration::from_millis(60));
            self.check();
            if !any && self.ledger.open.is_empty() {
                break;
            }
        }
        self.world.settle();
        self.check();
        self.ledger.all_have_all();
        self.check_unread();
        self.check_deleted();
    }
}

impl Ledger {
    fn note_entry(&mut self, chat: Pair, seq: u64, entry: (String, String, String)) {
        let known = self.entries.entry((chat, seq)).or_insert_with(|| entry.clone());
        assert_eq!(*known, entry, "place {seq} of {chat:?} holds two things");
    }

    /// A device may not hear what it sent, or tried to; nor what was deleted, or is for others.
    fn is_own(&self, id: DeviceId, chat: Pair, seq: u64) -> bool {
        if self.is_not_for(id.0, chat, seq) {
            return true;
        }
        let Some((from, message, _)) = self.entries.get(&(chat, seq)) else {
            // Nobody was told of it: stored, its sender gone. It must be the device's own.
            return true;
        };
        let tried = self.tried.get(&(chat, message.clone()));
        from == id.0 && tried.is_some_and(|tried| tried.contains(&id))
    }

    /// Whether a place may be gone for a user although it is kept.
    fn is_not_for(&self, name: &'static str, chat: Pair, seq: u64) -> bool {
        let entry = self.entries.get(&(chat, seq));
        let hides = entry.is_some_and(|(from, message, _)| {
            from != name && self.about.get(&(chat, message.clone())) == Some(&"hide")
        });
        hides || self.deleted.contains(&(chat, seq)) || self.hidden.contains(&(chat, seq, name))
    }

    fn note_heard(&mut self, id: DeviceId, chat: Pair, seq: u64) {
        let (from, message, _) = &self.entries[&(chat, seq)];
        let hide = self.about.get(&(chat, message.clone())) == Some(&"hide");
        assert!(!hide || from == id.0, "{id:?} hears what {from} hides for herself");
        let device = &self.devices[&id];
        let again = device.acknowledged.get(&(chat, seq));
        assert!(
            again.is_none_or(|epoch| *epoch < device.epoch),
            "{id:?} hears {seq} of {chat:?} again, which it acknowledged on this connection"
        );
        assert!(!device.heard.contains(&(chat, seq)), "{id:?} hears {seq} of {chat:?} twice");
        for before in 1..seq {
            let has = device.acknowledged.contains_key(&(chat, before))
                || device.heard.contains(&(chat, before));
            assert!(
                has || self.is_own(id, chat, before),
                "{id:?} hears {seq} of {chat:?} before {before}, {:?}",
                self.entries.get(&(chat, before))
            );
        }
    }

    /// An answer holds every place of its range, as an entry or as gone; and what is gone, every
    /// device has.
    fn note_history(&mut self, asker: &'static str, chat: Pair, body: &str) {
        let answer: serde_json::Value = serde_json::from_str(body).unwrap();
        let mut places = BTreeSet::new();
        for (seq, entry) in entries_of(&answer["entries"].to_string()) {
            self.note_entry(chat, seq, entry);
            assert!(places.insert(seq), "{seq} twice: {body}");
        }
        for range in answer["gone"].as_array().unwrap() {
            for seq in range[0].as_u64().unwrap()..=range[1].as_u64().unwrap() {
                assert!(places.insert(seq), "{seq} twice: {body}");
                if self.is_not_for(asker, chat, seq) {
                    continue;
                }
                for name in BTreeSet::from([chat.0, chat.1]) {
                    for client_id in DEVICES {
                        let device = &self.devices[&(name, client_id)];
                        assert!(
                            device.acknowledged.contains_key(&(chat, seq))
                                || self.is_own((name, client_id), chat, seq),
                            "{seq} of {chat:?} is gone, and {name}'s {client_id} lacks it"
                        );
                    }
                }
            }
        }
        let range = answer["from"].as_u64().unwrap()..=answer["to"].as_u64().unwrap();
        assert_eq!(places, range.collect(), "{body}");
    }

    fn note_receipt(&mut self, id: DeviceId, peer: &'static str, body: &str) {
        let chat = pair(id.0, peer);
        let about = user(&text(body, "user").unwrap());
        let read = number(body, "read").unwrap_or_default();
        let reported = self.read.get(&(chat, about)).copied().unwrap_or_default();
        assert!(read <= reported, "{id:?} is told {about} has read {read}, reported {reported}");
        if about == id.0 {
            assert_eq!(number(body, "delivered"), None, "ticks for own messages");
            return;
        }
        let delivered = number(body, "delivered").unwrap();
        assert!(delivered >= read, "read implies delivered: {body}");
        let complete = |client_id: &'static str| {
            (1..=delivered).all(|seq| {
                let device = &self.devices[&(about, client_id)];
                device.acknowledged.contains_key(&(chat, seq))
                    || self.is_own((about, client_id), chat, seq)
            })
        };
        assert!(
            delivered <= reported || DEVICES.into_iter().any(complete),
            "{id:?} is told {about} has {delivered} of {chat:?}, and no device does"
        );
        let wrote = self.sends.iter().any(|send| send.from == id.0 && send.chat == chat);
        assert!(wrote, "{id:?} wrote nothing and is told of {about}");
        // To no device it goes back, over crashes neither.
        let last = self.ticks.entry((id, about)).or_default();
        assert!(
            delivered >= last.0 && read >= last.1,
            "{id:?} was told {last:?} of {about} and now {body}"
        );
        *last = (delivered, read);
    }

    fn all_have_all(&self) {
        let mut ids = BTreeSet::new();
        for ((chat, seq), (from, id, _)) in &self.entries {
            assert!(ids.insert((chat, from, id)), "{id} is there twice, again at {seq}");
            assert!(*seq == 1 || self.entries.contains_key(&(*chat, seq - 1)), "a hole at {seq}");
            for name in BTreeSet::from([chat.0, chat.1]) {
                for client_id in DEVICES {
                    let device = &self.devices[&(name, client_id)];
                    assert!(
                        device.acknowledged.contains_key(&(*chat, *seq))
                            || self.is_own((name, client_id), *chat, *seq),
                        "{name}'s {client_id} never got {seq} of {chat:?}"
                    );
                }
            }
        }
        for ((chat, from, id), seq) in &self.places {
            let entry = self.entries.get(&(*chat, *seq)).map(|(from, id, _)| (&**from, &**id));
            assert_eq!(entry, Some((*from, &**id)), "acknowledged and lost");
        }
    }
}

fn peer_of(topic: &str, kind: &str) -> Option<&'static str> {
    let own = topic.strip_prefix("me/json/@").or_else(|| topic.strip_prefix("me/cbor/@"))?;
    let peer = own.strip_suffix(kind)?.strip_suffix('/')?;
    Some(user(peer))
}

/// The entries of a list, each with its place.
fn entries_of(body: &str) -> Vec<(u64, (String, String, String))> {
    let list: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
    let field = |entry: &serde_json::Value, name| entry[name].as_str().unwrap().to_string();
    let of = |entry: &serde_json::Value| {
        let of = (field(entry, "from"), field(entry, "id"), field(entry, "text"));
        (entry["seq"].as_u64().unwrap(), of)
    };
    list.iter().map(of).collect()
}

fn history(seed: u64) -> Sim {
    let mut sim = Sim::new(seed);
    for _ in 0..STEPS {
        sim.act();
    }
    sim.finish();
    sim
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("SEEDS").unwrap_or(40) + 1,
    }
}

#[test]
fn promises_are_kept_over_crashes() {
    let (mut entries, mut ticks, mut batches, mut histories, mut unread) = (0, 0, 0, 0, 0);
    let (mut deleted, mut refused) = (0, 0);
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| history(seed));
        let Ok(sim) = result else { panic!("replay with SEED={seed}") };
        entries += sim.ledger.entries.len();
        ticks += sim.ledger.ticks.len();
        batches += sim.batches;
        histories += sim.histories;
        unread += sim.unread;
        refused += sim.ledger.refused;
        deleted += sim.ledger.deleted_for.len();
    }
    println!(
        "{entries} entries, {ticks} pairs heard ticks, {batches} batches, {histories} answers of \
         history, {unread} unread, {deleted} deleted"
    );
    assert!(batches > 0 && histories > 0 && unread > 0, "the histories test nothing");
    assert!(entries > 0 && ticks > 0 && refused > 0, "the histories test nothing");
    assert!(deleted > 0, "the histories test nothing");
}

#[test]
fn one_seed_is_one_history() {
    let (one, other) = (history(7), history(7));
    assert_eq!(one.world.rows(), other.world.rows());
    assert_eq!(one.ledger.entries, other.ledger.entries);
}

#[test]
fn an_acknowledged_read_survives_a_crash() {
    for seed in 1..=5 {
        let mut sim = Sim::new(seed);
        for _ in 0..300 {
            sim.act();
        }
        sim.world.crash(true);
        let done = sim.ledger.reads_done.clone();
        for ((chat, reader), seq) in done {
            let author = if chat.0 == reader { chat.1 } else { chat.0 };
            let device = sim.world.connect(author, "phone");
            sim.world.settle();
            sim.world.take_heard(device, "message");
            let topic = format!("/@{reader}/receipt");
            let session = sim.world.session(device);
            let ticks = session.heard.iter().filter(|heard| heard.topic.ends_with(&topic));
            let last = ticks.filter_map(|heard| number(&heard.body, "read")).max();
            if let Some(last) = last {
                assert!(last >= seq, "{reader} read {seq}, {author} is told {last}");
            }
        }
    }
}

#[test]
fn a_reconnect_at_any_moment_of_catching_up_loses_nothing() {
    let mut caught_up = false;
    for steps in (0..).take_while(|steps| *steps < 400) {
        let mut world = World::new(2);
        let bob = world.device("bob", "phone");
        let alice = world.connect("alice", "laptop");
        world.settle();
        world.disconnect(bob, Disconnection::Abrupt);
        for n in 0..150 {
            world.publish(alice, &format!("chat/@bob/send/m{n}"), b"x");
        }
        world.settle();
        // A short window and a long queue: what is lost with a connection is most of it.
        world.session(bob).window = 3;
        world.session(bob).queue_max = 100;
        world.connect("bob", "phone");
        caught_up |= !(0..steps).all(|_| world.step());
        world.disconnect(bob, Disconnection::Abrupt);
        world.session(bob).heard.clear();
        world.connect("bob", "phone");
        world.settle();
        let seqs: BTreeSet<u64> = world.take_seqs(bob).into_iter().collect();
        assert_eq!(seqs, (1..=150).collect(), "after {steps} steps");
        if caught_up {
            return;
        }
    }
    panic!("400 steps are not enough to catch up");
}

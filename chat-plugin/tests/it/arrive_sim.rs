//! Random histories of everything that changes a chat, with crashes, slow readers and batches: in the
//! end every device has heard what `history` shows its user.
//!
//! No model says what that is: the log is asked. So whatever is said, edited, hidden, expired, or was
//! written while somebody was away, nothing that is still there may have been passed over, and nobody
//! may wait for the next message to hear the one before. And everything that was asked is answered.
//!
//! `SEED=n` runs one history, `SEEDS=n` that many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{Keys, Rng, World, number};

const STEPS: usize = 1_200;
const USERS: [&str; 4] = ["ann", "bob", "cat", "dan"];
const DEVICES: [(&str, &str); 2] = [("phone", "me/json/#"), ("laptop", "me/cbor/#")];
const GROUPS: [&str; 3] = ["club", "team", "!news"];

/// A chat as one user calls it, and what a device heard of it.
type Heard = BTreeMap<String, BTreeSet<u64>>;

#[derive(Debug)]
struct Device {
    user: &'static str,
    client_id: &'static str,
    session: SessionId,
    heard: Heard,
    /// The last of each chat since it connected, and not as a repetition.
    last: BTreeMap<String, u64>,
}

struct Sim {
    world: World,
    rng: Rng,
    devices: Vec<Device>,
    sent: usize,
    /// What somebody wanted to see no more, 0 for all there was: a crash may have taken that back from
    /// the log, and not from a device that was spared it.
    hidden: BTreeSet<(String, String, usize)>,
    /// What was heard in direct chats, by their two users: who wrote it, and whether it is a message.
    written: BTreeMap<(String, String, u64), (String, bool)>,
    /// What was asked since the last crash.
    asked: Vec<(u64, SessionId, String)>,
    /// Direct chats all of which is known.
    whole: usize,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed ^ 0xa221_0e5e);
        let mut options = ChatOptions::default();
        options.requests = rng.below(2) == 0;
        options.chats_loaded_max = 1 + rng.below(4);
        // Rates have tests of their own.
        (options.send_burst, options.question_burst) = (1_000_000, 1_000_000);
        let shards = 1 + rng.below(3) as u16;
        let mut world = if rng.below(2) == 0 {
            World::sealed(shards, options, seed, &Arc::new(Keys::default()))
        } else {
            World::with(shards, options, seed)
        };
        let mut devices = Vec::new();
        for user in USERS {
            for (client_id, filter) in DEVICES {
                let session = world.connect_as(user, client_id, Version::V5, true);
                world.subscribe(session, filter, QoS::AtLeastOnce);
                if rng.below(2) == 0 {
                    world.publish(session, "me/state", br#"{"batch":true}"#);
                }
                let (heard, last) = (Heard::new(), BTreeMap::new());
                devices.push(Device { user, client_id, session, heard, last });
            }
        }
        world.settle();
        let mut sim = Self {
            world,
            rng,
            devices,
            sent: 0,
            hidden: BTreeSet::new(),
            written: BTreeMap::new(),
            asked: Vec::new(),
            whole: 0,
        };
        for device in 0..sim.devices.len() {
            sim.slow_down(device);
        }
        let ann = sim.devices[1].session;
        for group in GROUPS {
            let users = br#"{"users":["bob","cat"]}"#;
            sim.world.publish(ann, &format!("chat/{group}/create"), users);
        }
        sim.world.run();
        sim
    }

    fn slow_down(&mut self, device: usize) {
        let (window, queue) = (1 + self.rng.below(5), 1 + self.rng.below(6));
        let session = self.world.session(self.devices[device].session);
        (session.window, session.queue_max) = (window, queue);
        session.acknowledges = false;
    }

    fn any(&mut self) -> usize {
        self.rng.below(self.devices.len())
    }

    /// A device that is connected.
    fn actor(&mut self) -> Option<(usize, SessionId)> {
        let device = self.any();
        let session = self.devices[device].session;
        self.world.session(session).connected.then_some((device, session))
    }

    /// A chat as a user calls it.
    fn chat(&mut self) -> String {
        match self.rng.below(3) {
            0 => format!("@{}", USERS[self.rng.below(USERS.len())]),
            _ => GROUPS[self.rng.below(GROUPS.len())].into(),
        }
    }

    fn act(&mut self) {
        match self.rng.below(100) {
            0..=39 => self.command(),
            40..=59 => {
                let device = self.any();
                let session = self.devices[device].session;
                if self.world.session(session).connected {
                    for _ in 0..1 + self.rng.below(4) {
                        self.world.acknowledge(session, ReasonCode::Success);
                    }
                }
            }
            60..=63 => {
                if let Some((device, session)) = self.actor() {
                    let how = [Disconnection::Clean, Disconnection::Abrupt][self.rng.below(2)];
                    self.world.disconnect(session, how);
                    self.over(device);
                }
            }
            64..=68 => {
                let device = self.any();
                self.connect(device);
            }
            69..=78 => {
                let shard = self.rng.below(self.world.shards());
                let count = self.rng.below(self.world.unsynced(shard) + 1);
                self.world.sync_shard(shard, count);
            }
            79..=84 => {
                let millis = [10, 300, 3_000, 40_000][self.rng.below(4)];
                self.world.advance(Duration::from_millis(millis));
            }
            85 if self.rng.below(6) == 0 => {
                let keep = self.rng.below(2) == 0;
                self.look();
                self.world.crash(keep);
                self.asked.clear();
                (0..self.devices.len()).for_each(|device| self.over(device));
            }
            _ => {
                for _ in 0..self.rng.below(30) {
                    self.world.step();
                }
            }
        }
        self.look();
    }

    fn connect(&mut self, device: usize) {
        let Device { user, client_id, session, .. } = self.devices[device];
        if !self.world.session(session).connected {
            let again = self.world.connect(user, client_id);
            assert_eq!(again, session, "its session is kept");
        }
    }

    /// The connection of a device has ended.
    fn over(&mut self, device: usize) {
        self.look();
        let over = self.devices[device].session;
        // The answer to a question went with the connection.
        self.asked.retain(|(_, id, what)| *id != over || !what.contains("/history"));
        self.devices[device].last.clear();
    }

    fn command(&mut self) {
        let Some((_, session)) = self.actor() else { return };
        let chat = self.chat();
        let seq = 1 + self.rng.below(1 + self.sent / 3);
        let user = USERS[self.rng.below(USERS.len())];
        let (verb, payload) = match self.rng.below(60) {
            0..=2 => (format!("edit/{seq}"), "again".to_string()),
            3..=4 => (format!("react/{seq}"), "+1".into()),
            5..=10 => (format!("delete/{seq}"), "me".into()),
            11 => (format!("delete/{seq}"), "everyone".into()),
            12..=13 => ("read".into(), seq.to_string()),
            14..=16 => ("remove".into(), format!(r#"{{"users":["{user}"]}}"#)),
            17..=20 => ("add".into(), format!(r#"{{"users":["{user}"]}}"#)),
            21 => ("leave".into(), String::new()),
            22 => ("timer".into(), r#"{"seconds":30}"#.into()),
            23 => ("timer".into(), r#"{"seconds":0}"#.into()),
            24 => ("retention".into(), r#"{"keep":"forever"}"#.into()),
            25 => ("retention".into(), r#"{"keep":"days:1"}"#.into()),
            26 => ("retention".into(), r#"{"keep":"until_delivered"}"#.into()),
            27 if chat.starts_with('@') => ("end".into(), String::new()),
            28..=29 => ("history".into(), String::new()),
            30 => return self.personal(session, user),
            31 => {
                // More than a page, and than any window and queue: of one chat, or of one that
                // somebody is just not in.
                let count = 20 + self.rng.below(120);
                for _ in 0..count {
                    self.send(session, &chat);
                }
                return;
            }
            _ => return self.send(session, &chat),
        };
        let own = self.world.session(session).user.clone();
        if verb == "end" || payload == "me" {
            let seq = if verb == "end" { 0 } else { seq };
            self.hidden.insert((own, chat.clone(), seq));
        } else if let Some(peer) = chat.strip_prefix('@').filter(|_| {
            // What went by somebody's will is not there to be read.
            payload == "everyone" || verb == "timer" || verb == "retention"
        }) {
            let seq = if payload == "everyone" { seq } else { usize::MAX };
            self.hidden.insert((peer.into(), format!("@{own}"), seq));
            self.hidden.insert((own, chat.clone(), seq));
        }
        self.ask(session, &format!("chat/{chat}/{verb}"), &payload);
    }

    fn ask(&mut self, session: SessionId, topic: &str, payload: &str) {
        let serial = self.world.publish(session, topic, payload.as_bytes());
        self.asked.push((serial, session, format!("{topic} {payload}")));
    }

    fn send(&mut self, session: SessionId, chat: &str) {
        self.sent += 1;
        let (topic, text) = (format!("chat/{chat}/send/m{}", self.sent), self.sent.to_string());
        self.ask(session, &topic, &text);
    }

    fn personal(&mut self, session: SessionId, user: &str) {
        let own = self.world.session(session).user.clone();
        if own == user {
            return;
        }
        let (kind, payload) = match self.rng.below(3) {
            0 => ("block", format!(r#"{{"block":["{user}"]}}"#)),
            1 => ("block", format!(r#"{{"unblock":["{user}"]}}"#)),
            _ => ("state", format!(r#"{{"accept":["{user}"]}}"#)),
        };
        self.ask(session, &format!("me/{kind}"), &payload);
    }

    /// Looks at all that was heard.
    fn look(&mut self) {
        for device in &mut self.devices {
            let heard = std::mem::take(&mut self.world.session(device.session).heard);
            for heard in heard {
                let mut levels = heard.topic.split('/').skip(2);
                let (Some(chat), Some(kind)) = (levels.next(), levels.next()) else { continue };
                let body: serde_json::Value = serde_json::from_str(&heard.body).unwrap();
                let entries = match kind {
                    "message" => vec![body],
                    "batch" => body.as_array().unwrap().clone(),
                    _ => continue,
                };
                for entry in entries {
                    let seq = entry["seq"].as_u64().unwrap();
                    if let Some(peer) = chat.strip_prefix('@') {
                        let from = entry["from"].as_str().unwrap().to_string();
                        let what = (from, entry.get("kind").is_none());
                        self.written.insert(of_pair(device.user, peer, seq), what);
                    }
                    let new = device.heard.entry(chat.into()).or_default().insert(seq);
                    if heard.again {
                        continue;
                    }
                    let last = device.last.insert(chat.into(), seq).unwrap_or_default();
                    let (user, client_id) = (device.user, device.client_id);
                    let whose = format!("{user}'s {client_id} hears {seq} of {chat}");
                    assert!(seq > last, "{whose} behind {last}, new: {new}");
                }
            }
        }
    }

    fn finish(&mut self) -> usize {
        for device in 0..self.devices.len() {
            self.connect(device);
            let session = self.world.session(self.devices[device].session);
            session.acknowledges = true;
        }
        self.world.settle();
        self.look();
        for (serial, _, what) in &self.asked {
            assert!(self.world.answer(*serial).is_some(), "never answered: {what}");
        }
        let mut shown = 0;
        for at in 0..self.devices.len() {
            let (user, session) = (self.devices[at].user, self.devices[at].session);
            let chats = GROUPS.into_iter().map(String::from);
            let chats: Vec<_> = chats.chain(USERS.map(|peer| format!("@{peer}"))).collect();
            for chat in chats {
                for (seq, entry) in self.history(session, &chat) {
                    shown += 1;
                    let device = &self.devices[at];
                    let heard = device.heard.get(&chat).is_some_and(|heard| heard.contains(&seq));
                    let hidden = |seq| self.hidden.contains(&(user.into(), chat.clone(), seq));
                    let own = entry["from"] == user || hidden(0) || hidden(seq as usize);
                    let whose = format!("{user}'s {}", device.client_id);
                    assert!(heard || own, "{whose} never heard {seq} of {chat}: {entry}");
                }
            }
        }
        for device in [0, 2, 4, 6] {
            self.check_sync(device);
        }
        shown
    }

    /// Where a user's direct chats are is what was heard there comes to.
    fn check_sync(&mut self, device: usize) {
        let Device { user, session, .. } = self.devices[device];
        self.world.session(session).heard.clear();
        self.world.publish(session, "me/sync", br#"{"limit":200}"#);
        self.world.settle();
        let body = self.world.take_answer(session, "sync");
        for chat in body["chats"].as_array().unwrap() {
            let name = chat["chat"].as_str().unwrap();
            let Some(peer) = name.strip_prefix('@') else { continue };
            let (last, read) = (chat["last"].as_u64().unwrap(), chat["read"].as_u64().unwrap());
            let range = of_pair(user, peer, 0)..=of_pair(user, peer, u64::MAX);
            let heard: Vec<_> = self.written.range(range).collect();
            let from = (user.into(), name.into(), 0)..=(user.into(), name.into(), usize::MAX);
            let whole = heard.iter().map(|((.., seq), _)| *seq).eq(1..=last)
                && self.hidden.range(from).next().is_none();
            let of_others =
                |((.., seq), (from, message)): &&(&(String, String, u64), &(String, bool))| {
                    *seq > read && *message && from != user
                };
            let unread = heard.iter().filter(of_others).count() as u64;
            if whole {
                self.whole += 1;
                assert_eq!(chat["unread"], unread, "{user}: {chat}");
            }
        }
    }

    /// What a user may see of a chat; nothing if she is not in it.
    fn history(&mut self, id: SessionId, chat: &str) -> Vec<(u64, serde_json::Value)> {
        let (mut entries, mut from) = (Vec::new(), 1);
        loop {
            self.world.session(id).heard.clear();
            let asked = format!(r#"{{"from":{from},"limit":200}}"#);
            let asked = self.world.publish(id, &format!("chat/{chat}/history"), asked.as_bytes());
            self.world.settle();
            if self.world.answer(asked) != Some(ReasonCode::Success) {
                return Vec::new();
            }
            let body = self.world.take_heard(id, "history").remove(0);
            let part: serde_json::Value = serde_json::from_str(&body).unwrap();
            for entry in part["entries"].as_array().unwrap() {
                entries.push((entry["seq"].as_u64().unwrap(), entry.clone()));
            }
            let (to, last) = (number(&body, "to").unwrap(), number(&body, "last").unwrap());
            if to >= last {
                return entries;
            }
            from = to + 1;
        }
    }
}

fn of_pair(one: &str, other: &str, seq: u64) -> (String, String, u64) {
    (one.min(other).into(), one.max(other).into(), seq)
}

#[test]
fn what_history_shows_has_reached_every_device() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 1..1 + count.unwrap_or(20),
    };
    let (mut shown, mut whole) = (0, 0);
    for seed in seeds {
        eprintln!("SEED={seed}");
        let mut sim = Sim::new(seed);
        for _ in 0..STEPS {
            sim.act();
        }
        shown += sim.finish();
        whole += sim.whole;
    }
    eprintln!("{shown} entries shown, {whole} chats known");
    assert!(shown > 1_000 && whole > 20, "a history that shows nothing tests nothing");
}

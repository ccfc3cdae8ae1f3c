//! Random histories of groups with crashes: members come and go while everybody writes.
//!
//! Alice's phone only listens, so what it hears is the whole log of each group. In the end it says
//! who was a member when, and everything that anybody heard is held against that. `SEED=n` runs one
//! history, `SEEDS=n` that many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::ReasonCode;
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{Rng, World, number, text};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const DEVICES: [&str; 2] = ["phone", "laptop"];
const GROUPS: [&str; 2] = ["climbing", "cooking"];
const STEPS: usize = 1_500;

/// A device by its user and its Client Identifier.
type DeviceId = (&'static str, &'static str);

/// A place in a group's log.
type Seq = (&'static str, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    from: String,
    system: bool,
    id: String,
    text: String,
}

#[derive(Default)]
struct Device {
    session: Option<SessionId>,
    /// How often its connection has ended.
    epoch: u64,
    /// What it acknowledged, and in which epoch.
    acknowledged: BTreeMap<Seq, u64>,
    /// Everything it ever heard.
    heard: BTreeSet<Seq>,
    /// The last it heard of each group in this epoch, and not as a repetition.
    last: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct Ledger {
    devices: BTreeMap<DeviceId, Device>,
    /// Sends by their number: group, sender and text. Their id is their number.
    sends: Vec<(&'static str, &'static str)>,
    open: BTreeMap<u64, usize>,
    /// Which devices tried a send: they need not hear it.
    tried: BTreeSet<(usize, DeviceId)>,
    places: BTreeMap<usize, u64>,
    entries: BTreeMap<Seq, Entry>,
    /// The last tick each device heard of another user, by group.
    ticks: BTreeMap<(DeviceId, &'static str, String), u64>,
    refused: usize,
}

struct Sim {
    world: World,
    rng: Rng,
    ledger: Ledger,
    floods: usize,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut options = ChatOptions::default();
        let mut rng = Rng(seed ^ 0x6009);
        if rng.below(2) == 0 {
            options.chats_loaded_max = 1;
        }
        let shards = 1 + rng.below(4) as u16;
        let mut world = World::with(shards, options, seed);
        let mut ledger = Ledger::default();
        for user in USERS {
            for client_id in DEVICES {
                let session = world.device(user, client_id);
                world.session(session).window = 1 + rng.below(8);
                world.session(session).queue_max = 1 + rng.below(8);
                world.session(session).acknowledges = false;
                let device = Device { session: Some(session), ..Device::default() };
                ledger.devices.insert((user, client_id), device);
            }
        }
        world.settle();
        let laptop = ledger.devices[&("alice", "laptop")].session.unwrap();
        for group in GROUPS {
            world.publish(laptop, &format!("chat/{group}/create"), br#"{"users":["bob"]}"#);
        }
        world.run();
        Self { world, rng, ledger, floods: 0 }
    }

    fn any_device(&mut self) -> DeviceId {
        (USERS[self.rng.below(USERS.len())], DEVICES[self.rng.below(DEVICES.len())])
    }

    /// One that acts: Alice's phone does not.
    fn actor(&mut self) -> Option<(DeviceId, SessionId)> {
        let device = self.any_device();
        let session = self.connected(device).filter(|_| device != ("alice", "phone"))?;
        Some((device, session))
    }

    fn connected(&mut self, device: DeviceId) -> Option<SessionId> {
        let session = self.ledger.devices[&device].session?;
        self.world.session(session).connected.then_some(session)
    }

    fn act(&mut self) {
        match self.rng.below(100) {
            0..=17 => self.send(),
            18..=42 => self.acknowledge(),
            43..=45 => self.disconnect(),
            46..=50 => self.connect(),
            51..=57 => self.change(),
            58..=67 => {
                let shard = self.rng.below(self.world.shards());
                let count = self.rng.below(self.world.unsynced(shard) + 1);
                self.world.sync_shard(shard, count);
            }
            68..=77 => {
                let by = self.rng.below(800) as u64;
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
        let Some((device, session)) = self.actor() else { return };
        let sends = self.ledger.sends.len();
        let retry = sends > 0 && self.rng.below(4) == 0;
        let number = if retry { sends - 1 - self.rng.below(sends.min(10)) } else { sends };
        if number == sends {
            let group = GROUPS[self.rng.below(GROUPS.len())];
            self.ledger.sends.push((group, device.0));
        }
        if self.ledger.sends[number].1 == device.0 {
            self.post(number, device, session);
        }
        // Now and then one group is noisy: more than any window and queue holds, and the other may
        // lose nothing by it.
        if self.rng.below(60) == 0 {
            self.floods += 1;
            let (group, _) = self.ledger.sends[number];
            for number in (self.ledger.sends.len()..).take(40) {
                self.ledger.sends.push((group, device.0));
                self.post(number, device, session);
            }
        }
    }

    fn post(&mut self, number: usize, device: DeviceId, session: SessionId) {
        let (group, _) = self.ledger.sends[number];
        let topic = format!("chat/{group}/send/m{number}");
        let serial = self.world.publish(session, &topic, format!("text {number}").as_bytes());
        self.ledger.open.insert(serial, number);
        self.ledger.tried.insert((number, device));
    }

    /// Somebody comes, or goes.
    fn change(&mut self) {
        let group = GROUPS[self.rng.below(GROUPS.len())];
        let user = USERS[1 + self.rng.below(USERS.len() - 1)];
        let (session, verb, payload) = match self.rng.below(5) {
            0 => (self.connected((user, "laptop")), "leave", String::new()),
            1 | 2 => {
                let users = format!(r#"{{"users":["{user}"]}}"#);
                (self.connected(("alice", "laptop")), "remove", users)
            }
            _ => {
                let other = USERS[1 + self.rng.below(USERS.len() - 1)];
                let users = format!(r#"{{"users":["{user}","{other}"]}}"#);
                (self.connected(("alice", "laptop")), "add", users)
            }
        };
        if let Some(session) = session {
            self.world.publish(session, &format!("chat/{group}/{verb}"), payload.as_bytes());
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
        let (topic, body) = waiting[at].clone();
        self.world.acknowledge_at(session, at, ReasonCode::Success);
        self.note_acknowledged(device, &topic, &body);
    }

    fn note_acknowledged(&mut self, device: DeviceId, topic: &str, body: &str) {
        let Some(group) = group_of(topic, "message") else { return };
        let seq = (group, number(body, "seq").unwrap());
        let device = self.ledger.devices.get_mut(&device).unwrap();
        device.acknowledged.insert(seq, device.epoch);
    }

    fn disconnect(&mut self) {
        let device = self.any_device();
        let Some(session) = self.connected(device) else { return };
        let how = [Disconnection::Clean, Disconnection::Abrupt][self.rng.below(2)];
        self.world.disconnect(session, how);
        self.check();
        self.over(device);
        if self.rng.below(2) == 0 {
            self.world.connect(device.0, device.1);
        }
    }

    fn over(&mut self, device: DeviceId) {
        let device = self.ledger.devices.get_mut(&device).unwrap();
        device.epoch += 1;
        device.last.clear();
    }

    fn connect(&mut self) {
        let device = self.any_device();
        let session = self.ledger.devices[&device].session.unwrap();
        if !self.world.session(session).connected {
            self.world.connect(device.0, device.1);
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

    fn check(&mut self) {
        let open: Vec<(u64, usize)> = self.ledger.open.iter().map(|(s, n)| (*s, *n)).collect();
        for (serial, number) in open {
            let Some(answer) = self.world.answer(serial) else { continue };
            self.ledger.open.remove(&serial);
            if answer == ReasonCode::Success {
                let seq = self.world.seq(serial).unwrap();
                let known = self.ledger.places.insert(number, seq);
                assert!(known.is_none_or(|known| known == seq), "m{number} got two places");
            } else {
                let code = self.world.property(serial, "code");
                let expected = ["forbidden", "unknown_chat"];
                assert!(expected.contains(&code.as_deref().unwrap()), "{code:?}");
                self.ledger.refused += 1;
            }
        }
        for user in USERS {
            for client_id in DEVICES {
                self.check_device((user, client_id));
            }
        }
    }

    fn check_device(&mut self, id: DeviceId) {
        let session = self.ledger.devices[&id].session.unwrap();
        let heard = std::mem::take(&mut self.world.session(session).heard);
        for heard in heard {
            if let Some(group) = group_of(&heard.topic, "message") {
                self.ledger.note_heard(id, group, &heard.body, heard.again);
            } else if let Some(group) = group_of(&heard.topic, "receipt") {
                self.ledger.note_receipt(id, group, &heard.body);
            } else {
                let others = ["ended", "error", "invite"];
                let known = others.iter().any(|kind| heard.topic.ends_with(kind));
                assert!(known, "unexpected: {heard:?}");
            }
        }
    }

    fn finish(&mut self) {
        for user in USERS {
            for client_id in DEVICES {
                let session = self.ledger.devices[&(user, client_id)].session.unwrap();
                if !self.world.session(session).connected {
                    self.world.connect(user, client_id);
                }
            }
        }
        for _ in 0..2_000 {
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
        for group in GROUPS {
            self.ledger.judge(group);
        }
    }
}

impl Ledger {
    fn note_heard(&mut self, id: DeviceId, group: &'static str, body: &str, again: bool) {
        let seq = number(body, "seq").unwrap();
        let field = |name| text(body, name).unwrap();
        let system = text(body, "kind").is_some();
        let entry = Entry { from: field("from"), system, id: field("id"), text: field("text") };
        let known = self.entries.entry((group, seq)).or_insert_with(|| entry.clone());
        assert_eq!(*known, entry, "place {seq} of {group} holds two things");
        let device = self.devices.get_mut(&id).unwrap();
        device.heard.insert((group, seq));
        if again {
            return;
        }
        let epoch = device.acknowledged.get(&(group, seq));
        assert!(
            epoch.is_none_or(|epoch| *epoch < device.epoch),
            "{id:?} hears {seq} of {group} again, which it acknowledged on this connection"
        );
        let last = device.last.insert(group, seq).unwrap_or_default();
        assert!(seq > last, "{id:?} hears {seq} of {group} behind {last}");
    }

    /// What a device need not hear, being of its own making.
    fn is_own(&self, id: DeviceId, entry: &Entry) -> bool {
        if entry.from != id.0 {
            return false;
        }
        // Changes have no id of the Client's: any device of hers but Alice's phone may have asked.
        let number = entry.id.strip_prefix('m').and_then(|number| number.parse().ok());
        (entry.system && id != ("alice", "phone"))
            || number.is_some_and(|number| self.tried.contains(&(number, id)))
    }

    fn note_receipt(&mut self, id: DeviceId, group: &'static str, body: &str) {
        let about = text(body, "user").unwrap();
        let about = USERS.into_iter().find(|user| **user == about).unwrap();
        assert_ne!(about, id.0, "a tick for own messages");
        let delivered = number(body, "delivered").unwrap();
        let last = self.ticks.entry((id, group, about.into())).or_default();
        assert!(delivered >= *last, "{id:?} was told {last} of {about} and now {body}");
        *last = delivered;
        // Only where the whole log is known up to there it is known who was in it.
        if (1..=delivered).any(|seq| !self.entries.contains_key(&(group, seq))) {
            return;
        }
        let stays = self.stays(group, about);
        let complete = |client_id: &'static str| {
            (1..=delivered).filter(|seq| stays.contains(seq)).all(|seq| {
                let device = &self.devices[&(about, client_id)];
                device.acknowledged.contains_key(&(group, seq))
                    || self.is_own((about, client_id), &self.entries[&(group, seq)])
            })
        };
        assert!(
            DEVICES.into_iter().any(complete),
            "{id:?} is told {about} has {delivered} of {group}, and no device does: {:?}",
            DEVICES.map(|client_id| &self.devices[&(about, client_id)].acknowledged)
        );
    }

    /// The places a user may see, by the system entries.
    fn stays(&self, group: &'static str, user: &str) -> BTreeSet<u64> {
        let mut stays = BTreeSet::new();
        let mut here = false;
        for ((_, seq), entry) in self.entries.range((group, 0)..=(group, u64::MAX)) {
            let mut goes = false;
            if entry.system {
                let told: serde_json::Value = serde_json::from_str(&entry.text).unwrap();
                let users = told["users"].as_array().cloned().unwrap_or_default();
                let named = users.iter().any(|named| named == user);
                match told["action"].as_str().unwrap() {
                    "create" => here = named || entry.from == user,
                    "add" => here |= named,
                    "remove" => goes = named,
                    "leave" => goes = entry.from == user,
                    other => panic!("{other}"),
                }
            }
            if here {
                stays.insert(*seq);
            }
            here &= !goes;
        }
        stays
    }

    fn judge(&self, group: &'static str) {
        let log: Vec<u64> =
            self.entries.range((group, 0)..=(group, u64::MAX)).map(|((_, seq), _)| *seq).collect();
        let whole: Vec<u64> = (1..=log.len() as u64).collect();
        assert_eq!(log, whole, "a hole in {group}");
        let phone = &self.devices[&("alice", "phone")];
        for seq in &log {
            assert!(phone.acknowledged.contains_key(&(group, *seq)), "{seq} of {group} is missing");
        }
        for (id, device) in &self.devices {
            let stays = self.stays(group, id.0);
            for seq in &log {
                let (place, entry) = ((group, *seq), &self.entries[&(group, *seq)]);
                let has = device.acknowledged.contains_key(&place) || self.is_own(*id, entry);
                assert!(has || !stays.contains(seq), "{id:?} never got {seq} of {group}");
                let strange = device.heard.contains(&place) && !stays.contains(seq);
                assert!(!strange, "{id:?} heard {seq} of {group} and was not in it: {entry:?}");
            }
        }
        let sent = self.places.iter().filter(|(number, _)| self.sends[**number].0 == group);
        for (number, seq) in sent {
            let entry = &self.entries[&(group, *seq)];
            assert_eq!(entry.id, format!("m{number}"), "acknowledged and lost");
            assert!(self.stays(group, self.sends[*number].1).contains(seq), "{entry:?}");
        }
        let mut ids = BTreeSet::new();
        for seq in &log {
            let entry = &self.entries[&(group, *seq)];
            assert!(entry.system || ids.insert(&entry.id), "{} is there twice", entry.id);
        }
    }
}

fn group_of(topic: &str, kind: &str) -> Option<&'static str> {
    let group = topic.strip_prefix("me/json/")?.strip_suffix(kind)?.strip_suffix('/')?;
    GROUPS.into_iter().find(|known| *known == group)
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
fn groups_keep_their_promises_over_crashes() {
    let (mut system, mut entries, mut ticks, mut refused, mut floods) = (0, 0, 0, 0, 0);
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| history(seed));
        let Ok(sim) = result else { panic!("replay with SEED={seed}") };
        entries += sim.ledger.entries.len();
        system += sim.ledger.entries.values().filter(|entry| entry.system).count();
        ticks += sim.ledger.ticks.len();
        refused += sim.ledger.refused;
        floods += sim.floods;
    }
    println!(
        "{entries} entries, {system} of them changes, {ticks} ticks, {refused} refused, {floods} floods"
    );
    let tested = entries > system && system > 0 && ticks > 0 && refused > 0 && floods > 0;
    assert!(tested, "nothing is tested");
}

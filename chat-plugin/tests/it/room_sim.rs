//! Random histories of rooms, against a ledger: every order of what is not promised to be in order,
//! slow readers, lost connections, retries, ends.
//!
//! `SEED=n` runs one history, `SEEDS=n` that many. A failure prints its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{Rng, World, number, text};

const ROOMS: usize = 2;
const STEPS: usize = 600;

/// A connection of a seat.
struct Seated {
    id: SessionId,
    room: usize,
    user: String,
    there: bool,
    heard: Vec<u64>,
    acknowledged: BTreeSet<u64>,
    /// The ids of what it sent, or tried to: it may not hear them.
    sent: BTreeSet<String>,
    /// Whether it has heard that the room is over.
    ended: bool,
}

#[derive(Default)]
struct Room {
    name: String,
    users: Vec<String>,
    over: bool,
    /// The place of each id that was acknowledged.
    places: BTreeMap<String, u64>,
    ids: Vec<(String, String)>,
}

struct Sim {
    world: World,
    rng: Rng,
    rooms: Vec<Room>,
    seated: Vec<Seated>,
    /// Sends that wait for their PUBACK.
    open: Vec<(u64, usize, String)>,
    ticks: usize,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed ^ 0x0200_5eed);
        let mut options = ChatOptions::default();
        // Nothing else is in memory, so that whatever could be unloaded is.
        options.chats_loaded_max = 1;
        let mut world = World::with(1 + rng.below(4) as u16, options, seed);
        let mut sim_rooms = Vec::new();
        for _ in 0..ROOMS {
            let chat = world.handle_of_chat();
            let made = world.call(chat.make_room()).unwrap();
            let users = (1..=2).map(|seat| format!("{}.{seat}", made.name)).collect();
            sim_rooms.push(Room { name: made.name, users, ..Room::default() });
        }
        let (seated, open) = (Vec::new(), Vec::new());
        Self { world, rng, rooms: sim_rooms, seated, open, ticks: 0 }
    }

    fn sit(&mut self) {
        let room = self.rng.below(ROOMS);
        if self.rooms[room].over || self.seated.iter().filter(|it| it.there).count() > 6 {
            return;
        }
        let user = self.rooms[room].users[self.rng.below(2)].clone();
        let client_id = ["phone", "laptop"][self.rng.below(2)];
        let taken = |it: &&mut Seated| it.there && it.user == user;
        for before in self.seated.iter_mut().filter(taken) {
            // The same device takes over.
            before.there &= self.world.session(before.id).client_id != client_id;
        }
        let version = [Version::V311, Version::V5][self.rng.below(2)];
        let id = self.world.connect_as(&user, client_id, version, false);
        self.world.subscribe(id, "me/json/#", QoS::AtLeastOnce);
        let session = self.world.session(id);
        session.window = 1 + self.rng.below(5);
        session.queue_max = 1 + self.rng.below(4);
        session.acknowledges = false;
        self.seated.push(Seated {
            id,
            room,
            user,
            there: true,
            heard: Vec::new(),
            acknowledged: BTreeSet::new(),
            sent: BTreeSet::new(),
            ended: false,
        });
    }

    fn anybody(&mut self) -> Option<usize> {
        let there: Vec<usize> =
            (0..self.seated.len()).filter(|at| self.seated[*at].there).collect();
        (!there.is_empty()).then(|| there[self.rng.below(there.len())])
    }

    fn send(&mut self, again: bool) {
        let Some(at) = self.anybody() else { return };
        let room = self.seated[at].room;
        let user = self.seated[at].user.clone();
        let known: Vec<String> = self.rooms[room]
            .ids
            .iter()
            .filter(|(from, _)| *from == user)
            .map(|(_, id)| id.clone())
            .collect();
        let id = if again && !known.is_empty() {
            known[self.rng.below(known.len())].clone()
        } else {
            let id = format!("m{}", self.rooms[room].ids.len());
            self.rooms[room].ids.push((user.clone(), id.clone()));
            id
        };
        let topic = format!("chat/~/send/{id}");
        let serial = self.world.publish(self.seated[at].id, &topic, id.as_bytes());
        self.seated[at].sent.insert(id.clone());
        self.open.push((serial, room, id));
    }

    fn act(&mut self) {
        match self.rng.below(100) {
            0..=19 => self.send(false),
            20..=24 => self.send(true),
            25..=59 => {
                if let Some(at) = self.anybody() {
                    self.acknowledge(at);
                }
            }
            60..=69 => self.sit(),
            70..=74 => {
                if let Some(at) = self.anybody() {
                    let how = [Disconnection::Clean, Disconnection::Abrupt][self.rng.below(2)];
                    self.look();
                    self.seated[at].there = false;
                    self.world.disconnect(self.seated[at].id, how);
                }
            }
            75..=79 => {
                if let Some(at) = self.anybody() {
                    let seq = self.rng.below(9).to_string();
                    self.world.publish(self.seated[at].id, "chat/~/read", seq.as_bytes());
                }
            }
            80..=94 => {
                for _ in 0..self.rng.below(30) {
                    self.world.step();
                }
            }
            95..=98 => {
                let by = self.rng.below(300) as u64;
                self.world.advance(Duration::from_millis(by));
            }
            _ => {
                if let Some(at) = self.anybody().filter(|_| self.rng.below(8) == 0) {
                    self.world.publish(self.seated[at].id, "chat/~/end", b"");
                    self.world.run();
                    self.look();
                    self.rooms[self.seated[at].room].over = true;
                }
            }
        }
        self.look();
    }

    fn acknowledge(&mut self, at: usize) {
        let id = self.seated[at].id;
        let body = self.world.in_flight(id).first().cloned();
        let Some((topic, body)) = body else { return };
        if topic.ends_with("/message") {
            let seq = number(&body, "seq").unwrap();
            self.seated[at].acknowledged.insert(seq);
        }
        self.world.acknowledge(id, ReasonCode::Success);
    }

    /// Looks at everything that was heard and answered since.
    fn look(&mut self) {
        for at in 0..self.seated.len() {
            if !self.seated[at].there {
                continue;
            }
            let id = self.seated[at].id;
            let room = self.seated[at].room;
            for heard in std::mem::take(&mut self.world.session(id).heard) {
                let (kind, body) = (heard.topic.rsplit('/').next().unwrap(), heard.body);
                match kind {
                    "message" => self.message(at, &body),
                    "ack" => {
                        // MQTT 3.1.1 learns the place so.
                        let (id, seq) = (text(&body, "id").unwrap(), number(&body, "seq").unwrap());
                        assert_eq!(*self.rooms[room].places.entry(id).or_insert(seq), seq);
                    }
                    "receipt" => self.tick(room, &body),
                    "ended" => self.seated[at].ended = true,
                    _ => {}
                }
            }
        }
        for (serial, room, id) in std::mem::take(&mut self.open) {
            match self.world.answer(serial) {
                None => self.open.push((serial, room, id)),
                Some(code) if code.is_error() => {}
                Some(_) => {
                    if let Some(seq) = self.world.seq(serial) {
                        let place = self.rooms[room].places.entry(id.clone()).or_insert(seq);
                        assert_eq!(*place, seq, "a retry has the place of the first");
                    }
                }
            }
        }
        assert!(self.world.rows().is_empty(), "never stored");
    }

    fn message(&mut self, at: usize, body: &str) {
        let seated = &mut self.seated[at];
        assert!(!seated.ended, "heard behind the end: {body}");
        let seq = number(body, "seq").unwrap();
        let said = text(body, "text").unwrap();
        assert_eq!(text(body, "id").as_ref(), Some(&said));
        let place = self.rooms[seated.room].places.entry(said).or_insert(seq);
        assert_eq!(*place, seq, "stored once");
        assert!(seated.heard.last().is_none_or(|last| *last < seq), "in order");
        seated.heard.push(seq);
    }

    fn tick(&mut self, room: usize, body: &str) {
        let about = text(body, "user").unwrap();
        let delivered = number(body, "delivered").unwrap_or_default();
        let has_all = |it: &Seated| {
            it.user == about
                && (1..=delivered).all(|seq| {
                    // What it sent itself it has.
                    let of = self.rooms[room].places.iter().find(|(_, at)| **at == seq);
                    let own = of.is_none_or(|(id, _)| it.sent.contains(id));
                    it.acknowledged.contains(&seq) || own
                })
        };
        let read = number(body, "read").unwrap_or_default();
        let truth = read >= delivered || self.seated.iter().any(has_all);
        assert!(truth, "a tick for what nobody has: {body}");
        self.ticks += 1;
    }

    fn finish(&mut self) -> usize {
        loop {
            self.world.settle();
            self.look();
            let there = (0..self.seated.len()).filter(|at| self.seated[*at].there);
            let id = |at: usize| self.seated[at].id;
            let busy: Vec<_> = there.map(|at| (at, id(at))).collect();
            let busy: Vec<_> =
                busy.into_iter().filter(|(_, id)| !self.world.in_flight(*id).is_empty()).collect();
            if busy.is_empty() {
                break;
            }
            for (at, id) in busy {
                while !self.world.in_flight(id).is_empty() {
                    self.acknowledge(at);
                }
            }
        }
        for seated in self.seated.iter().filter(|it| it.there && !self.rooms[it.room].over) {
            let room = &self.rooms[seated.room];
            let last = room.places.values().max().copied().unwrap_or_default();
            let places: BTreeSet<u64> = room.places.values().copied().collect();
            assert_eq!(places, (1..=last).collect(), "contiguous, in {}", room.name);
            let own = |seq: &u64| {
                room.places.iter().any(|(id, at)| at == seq && seated.sent.contains(id))
            };
            let heard: BTreeSet<u64> = seated.heard.iter().copied().collect();
            let missing = (1..=last).filter(|seq| !heard.contains(seq) && !own(seq));
            assert_eq!(missing.count(), 0, "{heard:?} of {last}");
        }
        self.ticks
    }
}

#[test]
fn rooms_keep_their_promises_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 1..1 + count.unwrap_or(30),
    };
    let mut ticks = 0;
    for seed in seeds {
        eprintln!("SEED={seed}");
        let mut sim = Sim::new(seed);
        for _ in 0..STEPS {
            sim.act();
        }
        ticks += sim.finish();
    }
    assert!(ticks > 0, "a history without ticks tests nothing");
}

//! Random histories in which both sides of a chat delete it, over and over, between crashes.
//!
//! What was said before both were told that it is deleted is never heard again: by no device, however
//! late it comes, not in history, not by a retry, and no key of it is left. `SEED=n` runs one history,
//! `SEEDS=n` that many.

use std::sync::Arc;
use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::ReasonCode;
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{Keys, Rng, World, text};

const DEVICES: [(&str, &str); 4] =
    [("alice", "phone"), ("alice", "laptop"), ("bob", "phone"), ("bob", "laptop")];

struct Sim {
    world: World,
    keys: Arc<Keys>,
    rng: Rng,
    /// What was sent: who did, what it says, and what its acknowledgement is asked with.
    sent: Vec<(&'static str, String, u64)>,
    /// How many of them nobody is to hear any more.
    deleted: usize,
    /// A key that was given right before a crash, and sealed nothing that is left, is nobody's.
    crashes: usize,
    /// How much was heard before that: a history without any tests nothing.
    heard: usize,
}

fn peer(user: &str) -> &'static str {
    if user == "alice" { "bob" } else { "alice" }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed ^ 0xe4d);
        let mut options = ChatOptions::default();
        options.requests = false;
        if rng.below(2) == 0 {
            options.chats_loaded_max = 1;
        }
        let keys = Arc::new(Keys::default());
        let mut world = World::sealed(1 + rng.below(4) as u16, options, seed, &keys);
        for (user, device) in DEVICES {
            let id = world.device(user, device);
            world.session(id).window = 1 + rng.below(5);
            world.session(id).queue_max = 1 + rng.below(5);
        }
        if rng.below(2) == 0 {
            // So that what everybody has is there to come back.
            let id = world.device("alice", "phone");
            world.publish(id, "chat/@bob/retention", br#"{"keep":"forever"}"#);
        }
        world.settle();
        Self { world, keys, rng, sent: Vec::new(), deleted: 0, crashes: 0, heard: 0 }
    }

    /// A device, connected now if it was not.
    fn any(&mut self) -> (&'static str, SessionId) {
        let (user, device) = DEVICES[self.rng.below(DEVICES.len())];
        let id = self.world.device(user, device);
        if !self.world.session(id).connected {
            self.world.connect(user, device);
        }
        (user, id)
    }

    fn act(&mut self) {
        match self.rng.below(20) {
            0..=7 => {
                let (user, id) = self.any();
                let number = self.sent.len();
                let payload = format!("secret {number}");
                let topic = format!("chat/@{}/send/m{number}", peer(user));
                let serial = self.world.publish(id, &topic, payload.as_bytes());
                self.sent.push((user, payload, serial));
            }
            8..=9 => {
                let (_, id) = self.any();
                self.world.disconnect(id, Disconnection::Abrupt);
            }
            10 => self.retry(),
            11 => {
                self.world.sync();
            }
            12 => self.world.advance(Duration::from_millis(50)),
            13 => {
                self.world.acknowledge_all();
            }
            14 if self.rng.below(5) == 0 => self.crash(true),
            _ => {
                for _ in 0..self.rng.below(30) {
                    self.world.step();
                }
            }
        }
    }

    fn crash(&mut self, keep_in_flight: bool) {
        self.crashes += 1;
        self.world.crash(keep_in_flight);
    }

    /// Something is sent once more by who sent it: as likely as not long deleted.
    fn retry(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let number = self.rng.below(self.sent.len());
        let (user, payload, serial) = self.sent[number].clone();
        if self.world.seq(serial).is_none() {
            // Perhaps nobody ever got it: then it is sent now.
            return;
        }
        let id = self.world.device(user, "phone");
        let topic = format!("chat/@{}/send/m{number}", peer(user));
        self.world.publish(id, &topic, payload.as_bytes());
    }

    /// One side deletes all there is, and tries until it hears that this is done.
    fn end(&mut self, user: &'static str) {
        loop {
            let id = self.world.device(user, "phone");
            let topic = format!("chat/@{}/end", peer(user));
            let ended = self.world.publish(id, &topic, b"");
            for _ in 0..self.rng.below(40) {
                self.world.step();
            }
            if self.rng.below(4) == 0 {
                self.crash(true);
                continue;
            }
            self.world.settle();
            if self.world.answer(ended) == Some(ReasonCode::Success) {
                return;
            }
        }
    }

    /// Whether a text is one that was deleted by both.
    fn is_deleted(&self, said: &str) -> bool {
        let number = said.strip_prefix("secret ").and_then(|number| number.parse::<usize>().ok());
        number.is_some_and(|number| number < self.deleted)
    }

    /// Everybody comes, hears what there is, and asks for the rest.
    fn check(&mut self) {
        for (user, device) in DEVICES {
            let id = self.world.device(user, device);
            self.world.settle();
            for heard in std::mem::take(&mut self.world.session(id).heard) {
                // What was on its way already is sent once more by the session.
                if heard.again || !heard.topic.ends_with("/message") {
                    continue;
                }
                let said = text(&heard.body, "text").unwrap();
                assert!(!self.is_deleted(&said), "{user} hears {said} of {}", self.deleted);
                self.heard += usize::from(said.starts_with("secret"));
            }
            let topic = format!("chat/@{}/history", peer(user));
            self.world.publish(id, &topic, br#"{"limit":200}"#);
            self.world.settle();
            for answer in self.world.take_heard(id, "history") {
                let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                for entry in answer["entries"].as_array().unwrap() {
                    let said = entry["text"].as_str().unwrap();
                    assert!(!self.is_deleted(said), "{user} reads {said} of {}", self.deleted);
                }
            }
        }
    }

    fn run(&mut self) {
        for round in 0..4 {
            for _ in 0..80 {
                self.act();
            }
            // What is on its way to the chat arrives, or is lost; to devices that are away it is not.
            self.world.settle();
            if self.rng.below(2) == 0 {
                self.check();
            }
            let both = if self.rng.below(2) == 0 { ["alice", "bob"] } else { ["bob", "alice"] };
            both.into_iter().for_each(|user| self.end(user));
            self.deleted = self.sent.len();
            for (user, device) in DEVICES {
                // Until now it could be heard.
                let id = self.world.connected_session(user, device);
                self.world.session(id).heard.clear();
            }
            let left = self.keys.left();
            assert!(
                left <= self.crashes,
                "round {round}: {left} keys after {} crashes",
                self.crashes
            );
            for crash in [false, true, true] {
                self.check();
                for _ in 0..3 {
                    self.retry();
                }
                self.world.settle();
                if crash {
                    let keep_in_flight = self.rng.below(2) == 0;
                    self.crash(keep_in_flight);
                }
            }
            self.check();
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("SEEDS").unwrap_or(20) + 1,
    }
}

#[test]
fn what_both_have_deleted_never_comes_back() {
    let mut heard = 0;
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(seed);
            sim.run();
            sim.heard
        });
        let Ok(of_seed) = result else { panic!("replay with SEED={seed}") };
        heard += of_seed;
    }
    assert!(heard > 0, "the histories test nothing");
}

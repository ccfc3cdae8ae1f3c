//! `kill -9` while the subscriber is online, and comes and goes itself.
//!
//! A message that it acknowledged is not to come back as new. It knows that an acknowledgement was
//! taken when the broker answered a PINGREQ sent behind it; such a confirmation counts unless a
//! crash followed within [`WRITTEN_WITHIN`].

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::crash::{ALL, EACH, PUBLISHERS, Scene};
use crate::support::{number, text};
use crate::wire::{Connect, Gone, PUBACK, Packet, Publish, Wire};

/// What was acknowledged longer ago than this survives a crash as acknowledged. Promised are
/// 100 ms; the rest is for a machine that is busy with other things.
const WRITTEN_WITHIN: Duration = Duration::from_millis(500);

const CRASHES: usize = 3;

/// When the broker was not there: from the kill to the banner of the next.
type Outages = Mutex<Vec<(Instant, Option<Instant>)>>;

struct Rng(u64);

impl Rng {
    fn between(&mut self, low: u64, high: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (low + self.0 % (high - low)) as usize
    }
}

/// Bob, who is online most of the time.
struct Bob {
    rng: Rng,
    outages: Arc<Outages>,
    /// By publisher: the number of the next new message.
    next: Vec<usize>,
    /// When the broker said that it had the acknowledgements of these, by publisher.
    confirmed: Vec<(Instant, Vec<Range<usize>>)>,
    /// By publisher, what came back though the broker had been told.
    back: Vec<BTreeSet<usize>>,
    /// Whether an acknowledgement counts only if there is one for everything before it too.
    by_cursor: bool,
    /// Publisher and number of a message.
    read: fn(&Publish) -> (usize, usize),
}

impl Bob {
    /// `here` is what this connection has taken last without a gap, by publisher.
    fn take(&mut self, message: &Publish, here: &mut [Range<usize>]) {
        let (publisher, number) = (self.read)(message);
        let here = &mut here[publisher];
        let start = if here.end == number { here.start } else { number };
        *here = start..number + 1;
        let next = &mut self.next[publisher];
        assert!(number <= *next, "{publisher}: expected {next}, found {number}");
        if number == *next {
            *next += 1;
        } else if self.is_confirmed(publisher, number) {
            self.back[publisher].insert(number);
        }
    }

    /// Whether the broker had the acknowledgement, and time to write it.
    fn is_confirmed(&self, publisher: usize, number: usize) -> bool {
        let outages = self.outages.lock().unwrap();
        let counts = |at: Instant| {
            !outages
                .iter()
                .any(|(from, to)| at + WRITTEN_WITHIN >= *from && to.is_none_or(|to| at <= to))
        };
        let counting = self.confirmed.iter().filter(|(at, _)| counts(*at));
        let mut taken: Vec<_> = counting.map(|(_, taken)| taken[publisher].clone()).collect();
        if !self.by_cursor {
            return taken.iter().any(|taken| taken.contains(&number));
        }
        taken.sort_by_key(|taken| taken.start);
        let pass = |cursor: usize, taken: &Range<usize>| {
            if taken.start <= cursor { cursor.max(taken.end) } else { cursor }
        };
        number < taken.iter().fold(0, pass)
    }

    fn complete(&self) -> bool {
        self.next.iter().sum::<usize>() == ALL
    }

    /// One connection, until it breaks, Bob breaks it, or everything is there.
    fn visit(&mut self, scene: &Connection) -> Result<(), Gone> {
        let (mut wire, code, present) = Wire::try_connect(scene.address, &phone())?;
        assert_eq!((code, present), (0, true));
        let mut asked = VecDeque::new();
        let mut here = vec![0..0; PUBLISHERS];
        for count in 0..self.rng.between(50, 600) {
            match wire.try_next()? {
                Packet::Publish(message) => {
                    self.take(&message, &mut here);
                    wire.queue_ack(PUBACK, message.id);
                    if count % 20 == 0 || self.complete() {
                        wire.send(&[0xc0, 0])?;
                        asked.push_back(here.clone());
                    } else if !wire.has_next() {
                        wire.flush()?;
                    }
                }
                Packet::Pingresp => {
                    self.confirmed.push((Instant::now(), asked.pop_front().unwrap()));
                    if self.complete() && asked.is_empty() {
                        break;
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        Ok(())
    }
}

struct Connection {
    address: std::net::SocketAddr,
    progress: Arc<crate::crash::Progress>,
}

fn phone() -> Connect {
    Connect::new("phone").user("bob").persistent()
}

/// Plays the scene; what came back though acknowledged, and what publishers sent again.
fn play(
    filter: &str,
    topic: fn(usize, usize) -> String,
    by_cursor: bool,
    read: fn(&Publish) -> (usize, usize),
) -> (Vec<BTreeSet<usize>>, Vec<BTreeSet<usize>>) {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::start(directory.path());
    let mut first = Wire::connect(scene.address, &phone());
    first.subscribe(filter, 1);
    first.disconnect();

    let seed = RandomState::new().hash_one(0) | 1;
    eprintln!("seed {seed}");
    let outages: Arc<Outages> = Arc::default();
    let mut bob = Bob {
        rng: Rng(seed),
        outages: Arc::clone(&outages),
        next: vec![0; PUBLISHERS],
        confirmed: Vec::new(),
        back: vec![BTreeSet::new(); PUBLISHERS],
        by_cursor,
        read,
    };
    let connection = Connection { address: scene.address, progress: Arc::clone(&scene.progress) };
    let bob = thread::spawn(move || {
        while !bob.complete() {
            let starts = connection.progress.starts();
            let visit = bob.visit(&connection);
            let down = bob.outages.lock().unwrap().last().is_some_and(|it| it.1.is_none());
            if visit.is_err() && down {
                connection.progress.wait_started_again(starts);
            }
        }
        bob
    });
    // So that acknowledgements older than what may be lost are there at every kill.
    scene.publish(topic, Some(Duration::from_millis(60)));
    let mut rng = Rng(seed.rotate_left(32));
    for crash in 1..=CRASHES {
        let share = ALL * crash / (CRASHES + 1);
        scene.progress.wait_acknowledged(share + rng.between(0, 800));
        outages.lock().unwrap().push((Instant::now(), None));
        scene.crash();
        scene.restart_quietly(directory.path());
        outages.lock().unwrap().last_mut().unwrap().1 = Some(Instant::now());
        scene.progress.started();
    }
    let sent_again = scene.finish();
    let bob = bob.join().unwrap();
    assert!(bob.confirmed.len() > 20, "few confirmations: {}", bob.confirmed.len());
    (bob.back, sent_again)
}

#[test]
fn chat_entries_that_a_flapping_bob_acknowledged_do_not_come_back_after_crashes() {
    let (back, _) = play(
        "me/json/#",
        |_, k| format!("chat/@bob/send/m{k}"),
        true,
        |entry| {
            let seq = number(entry.text(), "seq") as usize;
            assert_eq!(text(entry.text(), "id"), format!("m{}", seq - 1), "{entry:?}");
            let alice = entry.topic.strip_prefix("me/json/@alice").unwrap();
            (alice.strip_suffix("/message").unwrap().parse().unwrap(), seq - 1)
        },
    );
    assert!(back.iter().all(BTreeSet::is_empty), "below the cursor: {back:?}");
}

#[test]
fn plain_messages_that_a_flapping_bob_acknowledged_come_back_only_if_sent_again() {
    let (back, sent_again) = play(
        "plain/#",
        |number, _| format!("plain/{number}/x"),
        false,
        |message| {
            let publisher = message.topic.split('/').nth(1).unwrap();
            (publisher.parse().unwrap(), message.text().parse().unwrap())
        },
    );
    for (back, sent_again) in back.iter().zip(&sent_again) {
        let more: Vec<_> = back.difference(sent_again).collect();
        assert!(more.is_empty(), "acknowledged, and back: {more:?}");
    }
    assert!(sent_again.iter().all(|it| it.len() < EACH));
}

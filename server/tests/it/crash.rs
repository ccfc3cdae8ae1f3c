//! `kill -9` of the real binary, which syncs before it acknowledges.
//!
//! Publishers pipeline, and when the broker is gone they connect anew and send again what was not
//! acknowledged, in order. What must hold then: everything that was acknowledged arrives, in order;
//! a chat stores a message once whatever was sent again; a plain session sees at most those twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{Server, number, text};
use crate::wire::{Connect, Gone, PUBACK, Packet, Publish, Wire};

pub(crate) const PUBLISHERS: usize = 8;
pub(crate) const EACH: usize = 1_250;
pub(crate) const ALL: usize = PUBLISHERS * EACH;
/// Unacknowledged messages of a publisher; the broker announces 64.
const WINDOW: usize = 60;

/// What publishers and the test know of each other.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    acknowledged: AtomicUsize,
    /// How often the broker was started, for those who wait for it to come back.
    starts: Mutex<usize>,
    changed: Condvar,
}

impl Progress {
    pub(crate) fn tell(&self, acknowledged: usize) {
        self.acknowledged.fetch_add(acknowledged, Ordering::AcqRel);
        // Taken so that the change cannot fall between the question and the wait.
        drop(self.starts.lock().unwrap());
        self.changed.notify_all();
    }

    pub(crate) fn wait_acknowledged(&self, at_least: usize) {
        let mut starts = self.starts.lock().unwrap();
        while self.acknowledged.load(Ordering::Acquire) < at_least {
            let (held, late) = self.changed.wait_timeout(starts, Duration::from_secs(60)).unwrap();
            assert!(!late.timed_out(), "publishers are stuck: {self:?}");
            starts = held;
        }
    }

    pub(crate) fn started(&self) {
        *self.starts.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    pub(crate) fn starts(&self) -> usize {
        *self.starts.lock().unwrap()
    }

    pub(crate) fn wait_started_again(&self, before: usize) {
        let starts = self.starts.lock().unwrap();
        let patience = Duration::from_secs(60);
        let waited = self.changed.wait_timeout_while(starts, patience, |now| *now <= before);
        assert!(!waited.unwrap().1.timed_out(), "the broker does not come back");
    }
}

/// One publisher: sends `EACH` numbered messages. Returns which of them it sent more than once.
fn publish_all(
    address: SocketAddr,
    name: &str,
    topic: impl Fn(usize) -> String,
    pause: Option<Duration>,
    progress: &Progress,
) -> BTreeSet<usize> {
    let mut acknowledged = 0;
    let mut sent_before = 0;
    let mut sent_again = BTreeSet::new();
    while acknowledged < EACH {
        let starts = progress.starts();
        let mut attempt = || -> Result<(), Gone> {
            let connect = Connect::new("sender").user(name);
            let (mut wire, code, _) = Wire::try_connect(address, &connect)?;
            assert_eq!(code, 0);
            let mut next = acknowledged;
            let mut waiting: VecDeque<u16> = VecDeque::new();
            while acknowledged < EACH {
                if waiting.len() <= WINDOW / 2 {
                    while waiting.len() < WINDOW && next < EACH {
                        if next < sent_before {
                            sent_again.insert(next);
                        }
                        waiting.push_back(
                            wire.queue_publish(&topic(next), next.to_string().as_bytes()),
                        );
                        next += 1;
                    }
                    sent_before = sent_before.max(next);
                    wire.flush()?;
                    if let Some(pause) = pause {
                        thread::sleep(pause);
                    }
                }
                let mut told = 0;
                loop {
                    match wire.try_next() {
                        Ok(Packet::Ack(PUBACK, id, 0)) => {
                            assert_eq!(Some(id), waiting.pop_front(), "PUBACK out of order");
                            acknowledged += 1;
                            told += 1;
                        }
                        Ok(other) => panic!("{name} expected PUBACK, found {other:?}"),
                        Err(gone) => {
                            progress.tell(told);
                            return Err(gone);
                        }
                    }
                    if !wire.has_next() {
                        break;
                    }
                }
                progress.tell(told);
            }
            wire.disconnect();
            Ok(())
        };
        if attempt().is_err() {
            progress.wait_started_again(starts);
        }
    }
    sent_again
}

/// The broker, and who publishes to it.
pub(crate) struct Scene {
    server: Option<Server>,
    pub(crate) address: SocketAddr,
    pub(crate) progress: Arc<Progress>,
    publishers: Vec<JoinHandle<BTreeSet<usize>>>,
}

const ARGS: [&str; 8] = [
    "--durability",
    "fsync",
    "--set",
    "limits.session_queue_messages_max=20000",
    "--set",
    "data.checkpoint_bytes=1048576",
    "--set",
    "chat.requests=false",
];

impl Scene {
    pub(crate) fn start(directory: &Path) -> Self {
        let server = Server::start(directory, &ARGS);
        let address = server.address;
        let (progress, publishers) = (Arc::default(), Vec::new());
        Self { server: Some(server), address, progress, publishers }
    }

    pub(crate) fn publish(&mut self, topic: fn(usize, usize) -> String, pause: Option<Duration>) {
        for number in 0..PUBLISHERS {
            let (address, progress) = (self.address, Arc::clone(&self.progress));
            let run = move || {
                let name = format!("alice{number}");
                publish_all(address, &name, |k| topic(number, k), pause, &progress)
            };
            self.publishers.push(thread::spawn(run));
        }
    }

    /// `kill -9`.
    pub(crate) fn crash(&mut self) {
        self.server.take().unwrap().crash();
    }

    pub(crate) fn restart(&mut self, directory: &Path) {
        self.restart_quietly(directory);
        self.progress.started();
    }

    /// Nobody is told yet.
    pub(crate) fn restart_quietly(&mut self, directory: &Path) {
        self.server = Some(Server::start_at(directory, &self.address.to_string(), &ARGS));
    }

    /// Waits until everything is acknowledged; what each publisher sent again.
    pub(crate) fn finish(&mut self) -> Vec<BTreeSet<usize>> {
        self.publishers.drain(..).map(|it| it.join().unwrap()).collect()
    }
}

#[test]
fn chat_loses_and_doubles_nothing_over_two_crashes_while_bob_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::start(directory.path());
    let phone = Connect::new("phone").user("bob").persistent();
    let mut bob = Wire::connect(scene.address, &phone);
    bob.subscribe("me/json/#", 1);
    bob.disconnect();

    scene.publish(|_, k| format!("chat/@bob/send/m{k}"), None);
    scene.progress.wait_acknowledged(ALL * 2 / 5);
    scene.crash();
    assert!(scene.progress.acknowledged.load(Ordering::Acquire) < ALL, "killed too late");
    scene.restart(directory.path());
    let sent_again = scene.finish();
    assert!(sent_again.iter().any(|it| !it.is_empty()), "nothing was on its way at the kill");
    scene.crash();
    scene.restart(directory.path());

    let (mut bob, present) = Wire::resume(scene.address, &phone);
    assert!(present);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..ALL {
        let entry = bob.message();
        let last = last.entry(entry.topic.clone()).or_default();
        *last += 1;
        check_entry(&entry, *last);
    }
    let chats = (0..PUBLISHERS).map(|n| (format!("me/json/@alice{n}/message"), EACH as u64));
    assert_eq!(last, chats.collect());
    bob.ping();
}

/// The entry is the one that the chat has at `seq`: publishers number their messages from 0.
fn check_entry(entry: &Publish, seq: u64) {
    let json = entry.text();
    assert_eq!(number(json, "seq"), seq, "{} {json}", entry.topic);
    assert_eq!(text(json, "id"), format!("m{}", seq - 1), "{} {json}", entry.topic);
    assert_eq!(text(json, "text"), format!("{}", seq - 1), "{} {json}", entry.topic);
}

#[test]
fn plain_session_loses_nothing_and_keeps_order_over_two_crashes_while_bob_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::start(directory.path());
    let phone = Connect::new("phone").user("bob").persistent();
    let mut bob = Wire::connect(scene.address, &phone);
    bob.subscribe("plain/#", 1);
    bob.disconnect();

    scene.publish(|number, _| format!("plain/{number}/x"), None);
    scene.progress.wait_acknowledged(ALL * 2 / 5);
    scene.crash();
    assert!(scene.progress.acknowledged.load(Ordering::Acquire) < ALL, "killed too late");
    scene.restart(directory.path());
    let sent_again = scene.finish();
    scene.crash();
    scene.restart(directory.path());

    let (mut bob, present) = Wire::resume(scene.address, &phone);
    assert!(present);
    let mut seen = Plain::default();
    while !seen.complete() {
        seen.take(&bob.message());
    }
    for (number, doubled) in &seen.doubled {
        let more: Vec<_> = doubled.difference(&sent_again[*number]).collect();
        assert!(more.is_empty(), "twice, though sent once by {number}: {more:?}");
    }
    bob.ping();
}

/// What arrived on ordinary topics.
#[derive(Debug, Default)]
struct Plain {
    next: BTreeMap<usize, usize>,
    doubled: BTreeMap<usize, BTreeSet<usize>>,
}

impl Plain {
    /// New ones come in order; others came before.
    fn take(&mut self, message: &Publish) {
        let publisher = message.topic.split('/').nth(1).unwrap().parse().unwrap();
        let number: usize = message.text().parse().unwrap();
        let next = self.next.entry(publisher).or_default();
        assert!(number <= *next, "{publisher}: expected {next}, found {number}");
        if number == *next {
            *next += 1;
        } else {
            self.doubled.entry(publisher).or_default().insert(number);
        }
    }

    fn complete(&self) -> bool {
        self.next.values().sum::<usize>() == ALL
    }
}

//! QoS 2 over `kill -9`: from publishers who keep their Session State to subscribers who keep theirs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::crash::{Progress, Scene};
use crate::wire::{Connect, Gone, PATIENCE, PUBCOMP, PUBREC, PUBREL, Packet, Publish, Wire};

const PUBLISHERS: usize = 6;
const EACH: usize = 500;
const ALL: usize = PUBLISHERS * EACH;
const WINDOW: usize = 20;
const CRASHES: usize = 4;
/// Names that two shards divide between them.
const AWAY: [&str; 4] = ["away0", "away1", "away2", "away3"];
const HERE: [&str; 3] = ["here0", "here1", "here2"];
/// Members of one group, who are away.
const MEMBERS: [&str; 3] = ["member0", "member1", "member2"];

fn client(name: &str) -> Connect {
    Connect::new("phone").user(name).persistent()
}

/// A message that has its PUBREC is released, till PUBCOMP.
struct Pending {
    id: u16,
    number: usize,
    released: bool,
}

/// Sends `EACH` numbered messages; how many of them more than once.
fn publish_all(address: SocketAddr, name: &str, topic: &str, progress: &Progress) -> usize {
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let mut next = 0;
    let mut again = 0;
    while next < EACH || !pending.is_empty() {
        let starts = progress.starts();
        let mut attempt = || -> Result<(), Gone> {
            let (mut wire, code, present) = Wire::try_connect(address, &client(name))?;
            assert!(code == 0 && (present || next == 0), "{name}: {code} {present}");
            for it in &pending {
                if it.released {
                    wire.queue_ack(PUBREL, it.id);
                } else {
                    let text = it.number.to_string();
                    let mut bytes = wire.publish_bytes(topic, text.as_bytes(), 2, false, it.id);
                    bytes[0] |= 8;
                    again += 1;
                    wire.send(&bytes)?;
                }
            }
            while next < EACH || !pending.is_empty() {
                while pending.len() < WINDOW && next < EACH {
                    // Identifiers come again soon.
                    let free = |id: &u16| pending.iter().all(|it| it.id != *id);
                    let id = (1..).find(free).unwrap();
                    pending.push_back(Pending { id, number: next, released: false });
                    next += 1;
                    let bytes =
                        wire.publish_bytes(topic, (next - 1).to_string().as_bytes(), 2, false, id);
                    wire.send(&bytes)?;
                }
                wire.flush()?;
                match wire.try_next()? {
                    Packet::Ack(PUBREC, id, 0) => {
                        let it = pending.iter_mut().find(|it| it.id == id).unwrap();
                        it.released = true;
                        wire.queue_ack(PUBREL, id);
                        progress.tell(1);
                    }
                    Packet::Ack(PUBCOMP, id, 0) => pending.retain(|it| it.id != id),
                    other => panic!("{name}: unexpected {other:?}"),
                }
            }
            wire.flush()
        };
        if attempt().is_err() {
            progress.wait_started_again(starts);
        }
    }
    again
}

/// What somebody heard: how often, by topic and payload.
#[derive(Default)]
struct Heard {
    /// Between PUBREC and PUBREL.
    received: BTreeSet<u16>,
    count: BTreeMap<(String, usize), usize>,
    last: BTreeMap<String, usize>,
}

impl Heard {
    fn take(&mut self, message: &Publish, ordered: bool) {
        let number: usize = message.text().parse().unwrap();
        *self.count.entry((message.topic.clone(), number)).or_default() += 1;
        let before = self.last.insert(message.topic.clone(), number);
        assert!(!ordered || before.is_none_or(|it| it < number), "{before:?}, then {number}");
    }

    /// One connection, until it breaks or everything is there.
    fn visit(&mut self, address: SocketAddr, name: &str, wanted: usize) -> Result<(), Gone> {
        let (mut wire, code, present) = Wire::try_connect(address, &client(name))?;
        assert_eq!((code, present), (0, true));
        while self.count.len() < wanted || !self.received.is_empty() {
            match wire.try_next()? {
                Packet::Publish(message) => {
                    assert_eq!(message.qos, 2);
                    if self.received.insert(message.id) {
                        self.take(&message, true);
                    }
                    wire.queue_ack(PUBREC, message.id);
                }
                Packet::Ack(PUBREL, id, _) => {
                    self.received.remove(&id);
                    wire.queue_ack(PUBCOMP, id);
                }
                other => panic!("{name}: unexpected {other:?}"),
            }
            if !wire.has_next() {
                wire.flush()?;
            }
        }
        wire.ping();
        Ok(())
    }

    /// What a member of the group gets before the answer to a PINGREQ.
    fn take_round(&mut self, wire: &mut Wire) {
        wire.send(&[0xc0, 0]).unwrap();
        loop {
            match wire.next() {
                Packet::Publish(message) => {
                    self.take(&message, false);
                    wire.queue_ack(PUBREC, message.id);
                }
                Packet::Ack(PUBREL, id, _) => wire.queue_ack(PUBCOMP, id),
                Packet::Pingresp => return wire.flush().unwrap(),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn doubled(&self) -> usize {
        self.count.values().filter(|count| **count > 1).count()
    }
}

#[test]
fn qos_2_is_delivered_once_to_everybody_over_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::start(directory.path());
    let singles = AWAY.iter().chain(&HERE).map(|name| (name, "plain/#"));
    for (name, filter) in singles.chain(MEMBERS.iter().map(|name| (name, "$share/g/plain/#"))) {
        let mut wire = Wire::connect(scene.address, &client(name));
        wire.subscribe(filter, 2);
        wire.disconnect();
    }
    let here = HERE.map(|name| {
        let (address, progress) = (scene.address, Arc::clone(&scene.progress));
        thread::spawn(move || {
            let mut heard = Heard::default();
            loop {
                let starts = progress.starts();
                if heard.visit(address, name, ALL).is_ok() {
                    break heard;
                }
                progress.wait_started_again(starts);
            }
        })
    });
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let (address, progress) = (scene.address, Arc::clone(&scene.progress));
            thread::spawn(move || {
                let (name, topic) = (format!("alice{number}"), format!("plain/{number}"));
                publish_all(address, &name, &topic, &progress)
            })
        })
        .collect();
    for crash in 1..=CRASHES {
        scene.progress.wait_acknowledged(ALL * crash / (CRASHES + 1));
        scene.crash();
        scene.restart(directory.path());
    }
    let again: usize = publishers.into_iter().map(|it| it.join().unwrap()).sum();
    assert!(again > 0, "nothing was on its way at the kills");
    eprintln!("{again} of {ALL} sent again");

    for (name, heard) in HERE.into_iter().zip(here) {
        let heard = heard.join().unwrap();
        assert_eq!((heard.count.len(), heard.doubled()), (ALL, 0), "{name}");
    }
    for name in AWAY {
        let mut heard = Heard::default();
        heard.visit(scene.address, name, ALL).unwrap();
        assert_eq!((heard.count.len(), heard.doubled()), (ALL, 0), "{name}");
    }
    let mut members = MEMBERS.map(|name| Wire::resume(scene.address, &client(name)).0);
    let mut group = Heard::default();
    let (mut before, mut since) = (0, Instant::now());
    while before < ALL && since.elapsed() < PATIENCE {
        members.iter_mut().for_each(|it| group.take_round(it));
        if group.count.len() > before {
            (before, since) = (group.count.len(), Instant::now());
        }
    }
    members.iter_mut().for_each(|it| group.take_round(it));
    assert_eq!((group.count.len(), group.doubled()), (ALL, 0), "the group");
}

//! Chat users: what they send has one number each, none is left out, and ticks are true.
//!
//! Alice and Carol write to Bob, who has two devices. Only for a broker with the chat service.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tidings_core::codec::{PacketId, PacketKind, QoS, Version};

use crate::publisher::note;
use crate::random::Random;
use crate::scene::{Phase, Promise, Scene, count, lock};
use crate::wire::{Gone, Hello, ONLY, Packet, Publish, Wire};

/// Who writes, and in which version of MQTT.
pub(crate) const SENDERS: [(&str, Version); 2] = [("alice", Version::V5), ("carol", Version::V311)];
/// Bob's devices, and whether they flap.
pub(crate) const DEVICES: [(&str, Version, bool); 2] =
    [("bob-phone", Version::V311, true), ("bob-tablet", Version::V5, false)];
const WINDOW: usize = 12;

/// A chat of Bob with a sender, as all of them see it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Message numbers by seq, as the devices heard them.
    entries: BTreeMap<u64, u64>,
    acknowledged: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// By device: how far it has heard and, without a gap, acknowledged.
    devices: BTreeMap<String, Device>,
    /// The last tick.
    delivered: u64,
}

#[derive(Debug, Default)]
struct Device {
    heard: u64,
    acknowledged: u64,
    /// When the last hundreds were acknowledged.
    at: VecDeque<(u64, Instant, u64)>,
    connection: u64,
    ended: BTreeMap<u64, (Instant, Duration)>,
}

/// The logs by sender.
pub(crate) type Logs = Arc<BTreeMap<&'static str, Mutex<Log>>>;

pub(crate) fn logs() -> Logs {
    Arc::new(SENDERS.iter().map(|(name, _)| (*name, Mutex::default())).collect())
}

#[derive(Debug, Deserialize)]
struct Entry {
    seq: u64,
    id: String,
}

#[derive(Debug, Deserialize)]
struct Receipt {
    delivered: u64,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    id: String,
}

fn message_number(id: &str) -> Option<u64> {
    id.strip_prefix('m')?.parse().ok()
}

/// Sends to Bob, and hears ticks.
#[derive(Debug)]
pub(crate) struct Sender {
    scene: Arc<Scene>,
    random: Random,
    name: &'static str,
    version: Version,
    logs: Logs,
    next: u64,
    waiting: VecDeque<(PacketId, u64)>,
}

impl Sender {
    pub(crate) fn new(
        scene: &Arc<Scene>,
        random: Random,
        (name, version): (&'static str, Version),
        logs: &Logs,
    ) -> Self {
        let (scene, logs) = (Arc::clone(scene), Arc::clone(logs));
        Self { scene, random, name, version, logs, next: 0, waiting: VecDeque::new() }
    }

    pub(crate) fn run(mut self) {
        let hello = Hello::new(self.version, format!("{}-phone", self.name)).user(self.name);
        let mut known = false;
        while self.scene.phase() != Phase::End {
            let served = Wire::connect(self.scene.address, &hello).and_then(|(wire, present)| {
                if known && !present {
                    self.scene
                        .fault(Promise::Session, format!("{}: its session is gone", self.name));
                }
                self.serve(wire, present, &mut known)
            });
            if let Err(gone) = served {
                note(&self.scene, self.name, &gone);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn serve(&mut self, mut wire: Wire, present: bool, known: &mut bool) -> Result<(), Gone> {
        if !present || !*known {
            wire.subscribe(ONLY, &[("me/json/#", QoS::AtLeastOnce)]);
        }
        for (id, number) in &self.waiting {
            put(&mut wire, *id, *number, true);
        }
        wire.flush()?;
        loop {
            match self.scene.phase() {
                Phase::End => {
                    wire.disconnect();
                    return Ok(());
                }
                Phase::Load if *known && self.waiting.len() < WINDOW => {
                    for _ in 0..self.random.between(0, 3) {
                        let id = wire.next_id(|id| self.waiting.iter().any(|it| it.0 == id));
                        put(&mut wire, id, self.next, false);
                        self.waiting.push_back((id, self.next));
                        self.next += 1;
                    }
                    wire.flush()?;
                }
                phase @ (Phase::Settle | Phase::Prepare) if *known && self.waiting.is_empty() => {
                    self.scene.idle(self.name, phase);
                }
                _ => {}
            }
            let mut next = wire.poll(Duration::from_millis(self.random.between(2, 12)))?;
            while let Some(packet) = next {
                match packet {
                    Packet::Suback(..) => *known = true,
                    Packet::Ack(PacketKind::Puback, id, refused) => self.acknowledged(id, refused),
                    Packet::Publish(publish) => {
                        self.hear(&publish);
                        if let Some(id) = publish.id {
                            wire.ack(PacketKind::Puback, id);
                        }
                    }
                    Packet::Disconnect(code) => return Err(Gone::Refused(code)),
                    _ => {}
                }
                next = wire.take()?;
            }
            wire.flush()?;
        }
    }

    fn acknowledged(&mut self, id: PacketId, refused: bool) {
        let at = self.waiting.iter().position(|it| it.0 == id);
        let Some((_, number)) = at.and_then(|at| self.waiting.remove(at)) else { return };
        let Some(log) = self.logs.get(self.name) else { return };
        if refused {
            lock(log).refused.insert(number);
            count(&self.scene.counts.refused);
        } else {
            lock(log).acknowledged.insert(number);
            count(&self.scene.counts.chat);
        }
    }

    fn hear(&mut self, publish: &Publish) {
        let Some(log) = self.logs.get(self.name) else { return };
        let mut log = lock(log);
        if publish.topic.ends_with("/receipt") {
            let Ok(receipt) = serde_json::from_slice::<Receipt>(&publish.payload) else { return };
            count(&self.scene.counts.ticks);
            let truth = log.devices.values().map(|it| it.acknowledged).max().unwrap_or(0);
            if receipt.delivered > truth {
                let evidence = format!(
                    "{} is told that bob has {}, he acknowledged {truth}",
                    self.name, receipt.delivered
                );
                self.scene.fault(Promise::Tick, evidence);
            }
            log.delivered = log.delivered.max(receipt.delivered);
        } else if publish.topic.ends_with("/error")
            && let Ok(refusal) = serde_json::from_slice::<Refusal>(&publish.payload)
            && let Some(number) = message_number(&refusal.id)
        {
            log.refused.insert(number);
            count(&self.scene.counts.refused);
        }
    }
}

fn put(wire: &mut Wire, id: PacketId, number: u64, dup: bool) {
    let how = (QoS::AtLeastOnce, dup, false);
    wire.publish(
        &format!("chat/@bob/send/m{number}"),
        format!("text {number}").as_bytes(),
        how,
        Some(id),
    );
}

/// One of Bob's devices.
pub(crate) fn run_device(
    scene: &Arc<Scene>,
    mut random: Random,
    (name, version, flaps): (&str, Version, bool),
    logs: &Logs,
) {
    let hello = Hello::new(version, name).user("bob");
    let (mut known, mut connection) = (false, 0);
    while scene.phase() != Phase::End {
        connection += 1;
        for log in logs.values() {
            lock(log).devices.entry(name.into()).or_default().connection = connection;
        }
        let served = Wire::connect(scene.address, &hello).and_then(|(wire, present)| {
            if known && !present {
                scene.fault(Promise::Session, format!("{name}: its session is gone"));
            }
            let leaves = flaps.then(|| Instant::now() + random.millis(5, 400));
            listen(scene, name, logs, wire, &mut known, leaves)
        });
        for log in logs.values() {
            if let Some(device) = lock(log).devices.get_mut(name) {
                device.ended.insert(connection, (Instant::now(), scene.behind()));
            }
        }
        if let Err(gone) = served {
            note(scene, name, &gone);
        }
        thread::sleep(random.millis(2, 30));
    }
}

fn listen(
    scene: &Scene,
    name: &str,
    logs: &Logs,
    mut wire: Wire,
    known: &mut bool,
    leaves: Option<Instant>,
) -> Result<(), Gone> {
    if !*known {
        wire.subscribe(ONLY, &[("me/json/#", QoS::AtLeastOnce)]);
        wire.flush()?;
    }
    loop {
        match scene.phase() {
            Phase::End => {
                wire.disconnect();
                return Ok(());
            }
            phase @ Phase::Prepare if *known => scene.idle(name, phase),
            Phase::Load if *known && leaves.is_some_and(|it| Instant::now() > it) => return Ok(()),
            _ => {}
        }
        let mut heard = Vec::new();
        let mut next = wire.poll(Duration::from_millis(5))?;
        while let Some(packet) = next {
            match packet {
                Packet::Suback(..) => *known = true,
                Packet::Publish(publish) => {
                    heard.extend(entry(scene, name, logs, &publish));
                    if let Some(id) = publish.id {
                        wire.ack(PacketKind::Puback, id);
                    }
                }
                Packet::Disconnect(code) => return Err(Gone::Refused(code)),
                _ => {}
            }
            next = wire.take()?;
        }
        // Ticks may be as early as this; the ages are counted from when it was written.
        for (sender, seq) in &heard {
            if let Some(device) =
                logs.get(sender).map(lock).as_mut().and_then(|it| it.devices.get_mut(name))
            {
                device.acknowledged = device.acknowledged.max(*seq);
            }
        }
        wire.flush()?;
        for (sender, seq) in heard {
            if let Some(device) =
                logs.get(sender).map(lock).as_mut().and_then(|it| it.devices.get_mut(name))
            {
                let connection = device.connection;
                device.at.push_back((seq, Instant::now(), connection));
                if device.at.len() > 2000 {
                    device.at.pop_front();
                }
            }
        }
    }
}

/// An entry arrives at a device: of whom, and which.
fn entry(scene: &Scene, name: &str, logs: &Logs, publish: &Publish) -> Option<(&'static str, u64)> {
    let sender = publish.topic.strip_prefix("me/json/@")?.strip_suffix("/message")?;
    let sender = SENDERS.iter().find(|it| it.0 == sender)?.0;
    let entry: Entry = serde_json::from_slice(&publish.payload).ok()?;
    let number = message_number(&entry.id)?;
    let mut log = lock(logs.get(sender)?);
    let seq = entry.seq;
    match log.entries.insert(seq, number) {
        Some(before) if before != number => {
            scene.fault(Promise::ChatLog, format!("{sender}: {seq} is m{before} and m{number}"));
        }
        Some(_) => {}
        None => {
            if let Some((other, _)) = log.entries.iter().find(|it| *it.1 == number && *it.0 != seq)
            {
                let evidence = format!("{sender}: m{number} is {other} and {seq}");
                scene.fault(Promise::ChatLog, evidence);
            }
            if log.entries.range(..seq).next_back().is_some_and(|(_, before)| *before > number) {
                let evidence = format!("{sender}: m{number} is {seq}, behind a later one");
                scene.fault(Promise::Order, evidence);
            }
        }
    }
    let device = log.devices.entry(name.into()).or_default();
    if seq > device.heard + 1 {
        let evidence = format!("{name}: {seq} of {sender} comes after {}", device.heard);
        scene.fault(Promise::ChatLog, evidence);
    }
    if seq > device.heard {
        device.heard = seq;
        count(&scene.counts.delivered);
    } else if let Some((_, at, connection)) = device.at.iter().rev().find(|it| it.0 == seq) {
        let age = scene.age(*at, device.ended.get(connection).copied());
        scene.returned(age, &format!("{name}: {seq} of {sender} again"));
    } else {
        count(&scene.counts.unacknowledged);
    }
    Some((sender, seq))
}

/// What is not at every device, or not ticked.
pub(crate) fn lacks(logs: &Logs, ticks: bool) -> Option<String> {
    for (sender, log) in logs.iter() {
        let log = lock(log);
        let stored: BTreeSet<u64> = log.entries.values().copied().collect();
        let wanted = log.acknowledged.difference(&log.refused);
        if let Some(number) = wanted.into_iter().find(|it| !stored.contains(it)) {
            return Some(format!("m{number} of {sender}"));
        }
        let last = log.entries.last_key_value().map_or(0, |it| *it.0);
        if let Some((name, device)) = log.devices.iter().find(|it| it.1.heard < last) {
            return Some(format!("{last} of {sender} at {name}, which has {}", device.heard));
        }
        if ticks && log.delivered < last {
            return Some(format!("the tick of {last} at {sender}, who has {}", log.delivered));
        }
    }
    None
}

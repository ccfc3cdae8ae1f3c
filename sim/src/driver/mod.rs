//! One history: a seed decides what happens next, until everything is repaired and every promise
//! is due.
//!
//! A step is what a Client, the network, the clock or a crash does; between steps some of the events
//! happen that wait in the process and the network, in an order of the seed's. What must hold is
//! checked where it can break, not at the end: when bytes leave, when packets arrive.

mod chat;
mod crash;
mod finish;
mod publish;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use tidings_chat::{Chat, ChatOptions};
use tidings_core::codec::{Packet, QoS, ReasonCode, Version, decode};
use tidings_core::limits::Limits;
use tidings_core::shard::Hooks;
use tidings_core::time::Time;

use crate::cast::{Cast, Publisher, Rights, Subscriber, Subscription, user_of};
use crate::chat::{ChatCast, Device, NAMES, USERS};
use crate::disk::SimDisk;
use crate::faults::Fault;
use crate::network::{Link, Owner};
use crate::process::{Around, Machine, OUTBOUND_SOFT_BYTES, Process};
use crate::promises::{Entry, Promises};
use crate::rng::Rng;
use crate::store::SimStore;
use crate::trace::Trace;
use crate::wire::{self, Hello};

/// What a history came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Choices made.
    pub steps: u64,
    /// Processes that were killed, for whatever reason.
    pub crashes: u64,
    /// Of those, by a power cut.
    pub power_cuts: u64,
    /// Errors of the disk.
    pub disk_errors: u64,
    /// Stops in order.
    pub stops: u64,
    /// Checkpoints that came to an end.
    pub checkpoints: u64,
    /// Messages sent, in chats and outside.
    pub messages: u64,
    /// Messages heard.
    pub deliveries: u64,
    /// A digest of all that happened.
    pub digest: u64,
}

impl Tally {
    /// Adds another history's.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.disk_errors += other.disk_errors;
        self.stops += other.stops;
        self.checkpoints += other.checkpoints;
        self.messages += other.messages;
        self.deliveries += other.deliveries;
        self.digest = self.digest.rotate_left(1) ^ other.digest;
    }
}

/// A world and its history so far.
#[derive(Debug)]
pub(crate) struct Sim {
    rng: Rng,
    pub(crate) trace: Trace,
    machine: Machine,
    store: Arc<SimStore>,
    process: Option<Process>,
    links: Vec<Link>,
    cast: Cast,
    shards: u16,
    /// Messages from this one on are of connections from behind the last crash.
    wills_from: usize,
    pub(crate) tally: Tally,
}

/// How many topics there are outside of chats.
const TOPICS: usize = 3;

const TOPIC_NAMES: [&str; TOPICS] = ["t/0", "t/1", "t/2"];

/// How many steps a history has.
const STEPS: usize = 160;

impl Sim {
    pub(crate) fn new(seed: u64, fault: Fault, verbose: bool) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x7469_6469_6e67_7321);
        let disk = SimDisk::new(rng.fork(), fault);
        let store = Arc::new(SimStore::new(disk.clone(), rng.fork(), fault));
        let mut options = ChatOptions::default();
        if rng.one_in(2) {
            // Chats come and go from memory.
            options.chats_loaded_max = 1;
        }
        // What strangers are not told is for the tests of chat.
        options.requests = false;
        let limits = Limits {
            takeovers_max: usize::MAX,
            burst_bytes_max: OUTBOUND_SOFT_BYTES,
            // Few topics have a retained message: one at a time there are pieces all the same.
            retained_per_turn_max: 1,
            ..Limits::default()
        };
        let machine = Machine {
            disk: disk.clone(),
            store: Arc::clone(&store) as _,
            limits: Arc::new(limits),
            hooks: Hooks {
                authorize: Some(Arc::new(Rights)),
                services: vec![Arc::new(Chat::new(options))],
                ..Hooks::default()
            },
            segment_bytes: [8_192, 16_384, 65_536][rng.below(3)],
            checkpoint_bytes: [2_000, 8_000, 1 << 20][rng.below(3)],
            fault,
        };
        let cast = Cast {
            disk,
            fault,
            fault_in: 1 + rng.below(20),
            publishers: (0..3).map(|it| publisher(it, &mut rng)).collect(),
            subscribers: (0..6).map(|it| subscriber(it, &mut rng)).collect(),
            promises: Promises::default(),
            chat: ChatCast { devices: devices(&mut rng), ..ChatCast::default() },
        };
        let shards = [1, 1, 2, 3, 4][rng.below(5)];
        let now = Time::from_millis(1_700_000_000_000);
        Self {
            rng,
            trace: Trace::new(verbose, now),
            machine,
            store,
            process: None,
            links: Vec::new(),
            cast,
            shards,
            wills_from: 0,
            tally: Tally::default(),
        }
    }

    /// The whole history.
    pub(crate) fn run(&mut self) {
        self.start();
        self.join_devices();
        for step in 0..STEPS {
            self.trace.step = step + 1;
            self.step();
            let events = [0, 1, 3, 10, 40][self.rng.below(5)];
            self.pump(events);
        }
        self.trace.step = STEPS + 1;
        self.finish();
        self.tally.steps = STEPS as u64;
        self.tally.digest = self.trace.digest();
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0 => self.crash(),
            1 => self.break_soon(),
            2 if self.rng.one_in(2) => self.stop(),
            3..=4 => {
                if let Some(process) = &self.process {
                    process.ask_for_checkpoint();
                }
            }
            5..=9 => self.break_link(),
            10..=14 => {
                let millis = [5, 30, 120, 1_000, 20_000][self.rng.below(5)];
                self.advance(millis);
            }
            15..=34 => self.publish(),
            35..=54 => {
                let which = self.rng.below(self.cast.subscribers.len());
                self.subscriber_acts(which);
            }
            55..=56 => self.stranger(),
            57..=96 => self.device_acts(),
            _ => self.reconnect(),
        }
    }

    /// Time passes; who is to notice does so in its turn.
    fn advance(&mut self, millis: u64) {
        self.trace.now = self.trace.now + Duration::from_millis(millis);
        for subscriber in self.cast.subscribers.iter_mut().filter(|it| it.brief) {
            subscriber.may_be_gone |= millis >= 1_000;
        }
    }

    /// Some connection is lost, at any byte, and perhaps the server is not told.
    fn break_link(&mut self) {
        let live: Vec<usize> =
            (0..self.links.len()).filter(|it| !self.links[*it].client_gone).collect();
        if live.is_empty() {
            return;
        }
        let id = live[self.rng.below(live.len())];
        let half_open = self.rng.one_in(4);
        let clean = self.rng.one_in(4);
        self.lose(id, half_open, clean);
    }

    fn lose(&mut self, id: usize, half_open: bool, clean: bool) {
        let link = &mut self.links[id];
        if clean && !half_open {
            wire::disconnect(link.version, &mut link.up);
        }
        let kept = if clean { link.up.len() } else { self.rng.below(link.up.len() + 1) };
        self.trace.note("break", id, &[u8::from(half_open)]);
        link.lose(kept, half_open);
        let owner = link.owner;
        self.client_lost(owner, id);
    }

    /// A Client has no connection any more.
    fn client_lost(&mut self, owner: Owner, id: usize) {
        match owner {
            Owner::Publisher(which) => {
                let publisher = &mut self.cast.publishers[which];
                if publisher.link == Some(id) {
                    publisher.link = None;
                    publisher.open = false;
                }
            }
            Owner::Subscriber(which) => {
                let subscriber = &mut self.cast.subscribers[which];
                if subscriber.link == Some(id) {
                    subscriber.link = None;
                    subscriber.open = false;
                }
            }
            Owner::Device(which) => {
                let device = &mut self.cast.chat.devices[which];
                if device.link == Some(id) {
                    device.over();
                }
            }
            Owner::Stranger | Owner::Witness => {}
        }
    }

    /// A new connection, with its CONNECT on the way.
    fn dial(&mut self, owner: Owner, hello: &Hello<'_>) -> usize {
        let mut link = Link::new(owner, hello.version);
        wire::connect(hello, &mut link.up);
        self.links.push(link);
        self.links.len() - 1
    }

    /// One who has no rights tries what others may.
    fn stranger(&mut self) {
        let version = if self.rng.one_in(2) { Version::V5 } else { Version::V311 };
        let hello = Hello {
            version,
            name: "stranger",
            clean: self.rng.one_in(2),
            expiry: 1_000,
            receive_maximum: 10,
            will: None,
        };
        let id = self.dial(Owner::Stranger, &hello);
        let entry = Entry { qos: 1, denied: true, ..Entry::default() };
        let number = self.cast.promises.sent(entry);
        let up = &mut self.links[id].up;
        wire::subscribe(1, "t/#", QoS::ExactlyOnce, version, up);
        let payload = wire::payload(number);
        let message = wire::Message {
            topic: "t/0",
            payload: payload.as_bytes(),
            qos: QoS::AtLeastOnce,
            id: 2,
            retain: self.rng.one_in(2),
            dup: false,
        };
        wire::publish(message, version, up);
    }

    /// Up to `most` events that wait happen.
    fn pump(&mut self, most: usize) {
        for _ in 0..most {
            if !self.event(true) {
                break;
            }
        }
    }

    /// All events that wait happen.
    fn settle(&mut self) {
        for _ in 0..SETTLE_MAX {
            if !self.event(false) {
                return;
            }
        }
        panic!("no end: {SETTLE_MAX} events and still more");
    }

    /// One event of those that wait; `false`: none does.
    fn event(&mut self, in_time: bool) -> bool {
        let shards = self.process.as_ref().map_or(0, Process::shards);
        let slots = 3 + 3 * shards + 2 * self.links.len();
        let from = self.rng.below(slots);
        (0..slots).any(|slot| self.try_event((from + slot) % slots, shards, in_time))
    }

    fn try_event(&mut self, slot: usize, shards: usize, in_time: bool) -> bool {
        let links = 3 + 3 * shards;
        if slot >= links {
            let (id, up) = ((slot - links) / 2, (slot - links).is_multiple_of(2));
            return if up { self.carry_up(id) } else { self.carry_down(id) };
        }
        let Self { process, links, trace, cast, rng, .. } = self;
        let Some(process) = process else { return false };
        let mut around = Around { links, trace, witness: cast, rng };
        let shard = slot.saturating_sub(3) / 3;
        let done = match slot {
            0 => process.commit(in_time && around.rng.one_in(4)),
            1 => process.checkpoint(),
            2 => process.read(),
            _ => match slot % 3 {
                0 => process.look(shard, &mut around),
                1 => Ok(process.take_mail(shard, &mut around)),
                _ => Ok(process.time_out(shard, &mut around)),
            },
        };
        done.unwrap_or_else(|failure| {
            self.failed(&failure.to_string());
            true
        })
    }

    /// The server reads some of what a Client sent.
    fn carry_up(&mut self, id: usize) -> bool {
        let Self { process, links, trace, cast, rng, .. } = self;
        let link = &links[id];
        let Some(process) = process else { return false };
        if link.server_gone || link.up.is_empty() && !link.reset {
            return false;
        }
        let most = if rng.one_in(4) { 1 + rng.below(link.up.len().max(1)) } else { link.up.len() };
        let user = user_of(&cast.chat, link.owner).to_owned();
        let mut around = Around { links, trace, witness: cast, rng };
        process.read_link(id, &user, most, &mut around)
    }

    /// A Client gets some of what the server wrote.
    fn carry_down(&mut self, id: usize) -> bool {
        let link = &mut self.links[id];
        if link.client_gone || link.down.is_empty() && !link.server_gone {
            return false;
        }
        let length = link.down.len();
        let part = length > 0 && self.rng.one_in(4);
        let most = if part { 1 + self.rng.below(length) } else { length };
        link.arrived.extend(link.down.drain(..most));
        let arrived = std::mem::take(&mut link.arrived);
        let (owner, version) = (link.owner, link.version);
        let mut used = 0;
        while let Ok(Some((packet, taken))) = decode(&arrived[used..], version, usize::MAX) {
            used += taken;
            self.got(owner, id, &packet);
        }
        let link = &mut self.links[id];
        if link.client_gone {
            return true;
        }
        link.arrived = arrived[used..].to_vec();
        if link.server_gone && link.down.is_empty() {
            link.client_gone = true;
            self.client_lost(owner, id);
            return true;
        }
        let Self { process, links, trace, cast, rng, .. } = self;
        if let Some(process) = process {
            process.drained(id, &mut Around { links, trace, witness: cast, rng });
        }
        true
    }

    /// A packet arrives at a Client.
    fn got(&mut self, owner: Owner, id: usize, packet: &Packet<'_>) {
        if let Packet::Disconnect(disconnect) = packet {
            let expected = [
                ReasonCode::KeepAliveTimeout,
                ReasonCode::SessionTakenOver,
                ReasonCode::ServerShuttingDown,
            ];
            let reason = disconnect.reason;
            assert!(expected.contains(&reason), "{owner:?} is told to go: {reason}");
            return;
        }
        if matches!(packet, Packet::Publish(_)) {
            self.tally.deliveries += 1;
        }
        match owner {
            Owner::Publisher(which) => self.publisher_got(which, id, packet),
            Owner::Subscriber(which) => self.subscriber_got(which, id, packet),
            Owner::Device(which) => self.device_got(which, id, packet),
            Owner::Witness => {}
            Owner::Stranger => match packet {
                Packet::Publish(_) => panic!("rights: a message for one who may not hear it"),
                Packet::Suback(suback) => {
                    assert!(suback.reasons.iter().all(|it| *it >= 0x80), "rights: granted");
                }
                _ => {}
            },
        }
    }
}

/// More events than any history has waiting.
const SETTLE_MAX: usize = 200_000;

fn publisher(number: usize, rng: &mut Rng) -> Publisher {
    Publisher {
        name: format!("publisher-{number}-{}", rng.below(100)),
        version: if rng.one_in(2) { Version::V5 } else { Version::V311 },
        lasting: number != 2,
        link: None,
        open: false,
        pending: Vec::new(),
        next_id: 0,
        will: None,
    }
}

fn subscriber(number: usize, rng: &mut Rng) -> Subscriber {
    let shared = number == 3 || number == 4;
    let version = if shared || rng.one_in(2) { Version::V5 } else { Version::V311 };
    let tail = rng.below(100);
    let brief = number == 0 && version == Version::V5;
    Subscriber {
        name: format!("subscriber-{number}-{tail}"),
        version,
        filter: if shared {
            "$share/group/t/#"
        } else if number == 5 {
            "w/#"
        } else {
            "t/#"
        },
        qos: if number == 1 { QoS::AtLeastOnce } else { QoS::ExactlyOnce },
        // MQTT 3.1.1 has no way to say it.
        window: if version == Version::V5 { [1, 2, 5][rng.below(3)] } else { u16::MAX },
        brief,
        fleeting: brief && tail.is_multiple_of(2),
        toggles: number == 2,
        link: None,
        open: false,
        subscription: Subscription::Absent,
        may_be_gone: false,
        unacknowledged: Vec::new(),
        received: std::collections::BTreeMap::new(),
        sent: Vec::new(),
        settled: std::collections::BTreeMap::new(),
        heard: std::collections::BTreeSet::new(),
        order: Vec::new(),
        on_this_link: std::collections::BTreeSet::new(),
    }
}

fn devices(rng: &mut Rng) -> Vec<Device> {
    let mut devices = Vec::new();
    for user in USERS {
        for name in NAMES {
            if user == USERS[2] && name == NAMES[1] {
                continue;
            }
            devices.push(Device {
                user,
                name,
                version: if rng.one_in(3) { Version::V311 } else { Version::V5 },
                window: [1, 3, 5][rng.below(3)],
                link: None,
                open: false,
                subscribed: false,
                next_id: 0,
                pending: Vec::new(),
                epoch: 0,
                unacknowledged: Vec::new(),
                acknowledged: std::collections::BTreeMap::new(),
                heard: std::collections::BTreeSet::new(),
            });
        }
    }
    devices
}

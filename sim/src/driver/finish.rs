//! The end of a history: everything is repaired, everybody comes back, every promise is due.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::codec::{Packet, QoS, Version, decode};
use tidings_core::record::RowKind;

use super::Sim;
use crate::cast::Subscription;
use crate::network::Owner;
use crate::wire::{self, Hello};

/// Rounds of waiting and acknowledging: more than the longest backlog takes.
const ROUNDS_MAX: usize = 400;

impl Sim {
    /// Somebody without a connection comes back.
    pub(super) fn reconnect(&mut self) {
        let which = self.rng.below(3);
        if self.cast.publishers[which].link.is_none() {
            self.connect_publisher(which);
        }
        let which = self.rng.below(self.cast.subscribers.len());
        if self.cast.subscribers[which].link.is_none() {
            self.connect_subscriber(which);
        }
    }

    pub(super) fn finish(&mut self) {
        self.machine.disk.kill();
        self.settle();
        // Half-open connections are noticed, and whoever has none comes back.
        for id in 0..self.links.len() {
            if !self.links[id].client_gone {
                self.lose(id, false, false);
            }
            self.links[id].reset = true;
        }
        self.settle();
        for which in 0..self.cast.publishers.len() {
            self.connect_publisher(which);
        }
        for which in 0..self.cast.subscribers.len() {
            self.connect_subscriber(which);
        }
        for which in 0..self.cast.chat.devices.len() {
            self.connect_device(which);
        }
        self.settle();
        for _ in 0..ROUNDS_MAX {
            if !self.acknowledge_all() {
                break;
            }
            self.advance(30);
            self.settle();
        }
        self.settle_times();
        self.check();
    }

    /// Everybody answers all that came; whether there was anything, or something may still come.
    fn acknowledge_all(&mut self) -> bool {
        let mut any = false;
        for which in 0..self.cast.subscribers.len() {
            while !self.cast.subscribers[which].unacknowledged.is_empty() {
                self.acknowledge(which);
                any = true;
            }
        }
        for which in 0..self.cast.chat.devices.len() {
            while !self.cast.chat.devices[which].unacknowledged.is_empty() {
                self.device_acknowledges(which);
                any = true;
            }
        }
        any || self.cast.publishers.iter().any(|it| !it.pending.is_empty())
            || self.cast.chat.devices.iter().any(|it| !it.pending.is_empty())
    }

    /// What gathers for a while has its time; nobody is away for longer than a Keep Alive.
    fn settle_times(&mut self) {
        for _ in 0..12 {
            self.advance(250);
            self.settle();
            self.acknowledge_all();
            self.settle();
        }
    }

    fn check(&mut self) {
        let cast = &self.cast;
        for publisher in &cast.publishers {
            let left = &publisher.pending;
            assert!(left.is_empty(), "never answered: {left:?} of {}", publisher.name);
        }
        for (which, it) in cast.subscribers.iter().enumerate() {
            let settled = [Subscription::Granted, Subscription::Absent].contains(&it.subscription);
            assert!(settled, "{}: {:?} is never answered", it.name, it.subscription);
            if !it.brief && !it.shared() {
                cast.promises.check_heard(which, &it.name, &it.heard, &it.order);
            }
        }
        cast.promises.check_group();
        for device in &cast.chat.devices {
            let left = &device.pending;
            assert!(left.is_empty(), "never answered: {left:?} of {}", device.user);
        }
        cast.chat.check_all();
        self.check_retained();
        // What a process finds that starts is all there is.
        self.stop();
        self.check_rows();
    }

    fn check_retained(&mut self) {
        let version = Version::V5;
        let hello = Hello {
            version,
            name: "witness",
            clean: true,
            expiry: 0,
            receive_maximum: 10,
            will: None,
        };
        let id = self.dial(Owner::Witness, &hello);
        wire::subscribe(1, "t/#", QoS::AtMostOnce, version, &mut self.links[id].up);
        // Nobody reads for it: what came is looked at here.
        self.links[id].client_gone = true;
        self.settle();
        let (mut found, mut at) = (BTreeMap::new(), 0);
        let down = std::mem::take(&mut self.links[id].down);
        while let Ok(Some((packet, length))) = decode(&down[at..], version, usize::MAX) {
            at += length;
            let Packet::Publish(publish) = packet else { continue };
            let Some(number) = wire::number(publish.payload) else { continue };
            let topic = self.cast.promises.entries[number].topic;
            let other = found.insert(topic, number);
            assert_eq!(other, None, "retained: two messages of one topic");
        }
        self.cast.promises.check_retained(&found);
        self.links[id].reset = true;
        self.settle();
    }

    /// Nothing is left behind of what is over.
    fn check_rows(&mut self) {
        let Some(process) = &self.process else { panic!("no process at the end") };
        let rows = process.rows();
        let Ok(rows) = rows else { panic!("rows cannot be read: {rows:?}") };
        let of = |kind: RowKind| rows.iter().filter(move |row| row.key[1] == kind as u8);
        let sessions: BTreeSet<u64> =
            of(RowKind::Session).filter_map(|row| session_of(&row.value)).collect();
        for kind in [RowKind::Subscription, RowKind::Queued, RowKind::InFlight] {
            for row in of(kind) {
                let id = row.key[2..10].try_into().map(u64::from_be_bytes);
                let known = id.is_ok_and(|id| sessions.contains(&id));
                assert!(known, "orphan: a row of no session: {kind:?} {:?}", row.key);
            }
        }
        let garbage: Vec<_> = of(RowKind::Garbage).collect();
        assert!(garbage.is_empty(), "garbage is left: {garbage:?}");
        let queued: Vec<_> = of(RowKind::Queued).map(|row| &row.key).collect();
        assert!(queued.is_empty(), "all is acknowledged, and messages are left: {queued:?}");
        let in_flight: Vec<_> = of(RowKind::InFlight).map(|row| &row.key).collect();
        assert!(
            in_flight.is_empty(),
            "all is acknowledged, and identifiers are left: {in_flight:?}"
        );
    }
}

/// The number of a session by its row: behind the format's byte, seven bits a byte.
fn session_of(row: &[u8]) -> Option<u64> {
    let mut number = 0;
    for (place, byte) in row.get(1..)?.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

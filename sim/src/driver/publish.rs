//! Publishers: they send, hear the end of it, and send again what they did not.

use tidings_core::codec::{Packet, QoS, ReasonCode};

use super::{Sim, TOPIC_NAMES, TOPICS};
use crate::cast::{Pending, Subscription};
use crate::network::Owner;
use crate::promises::Entry;
use crate::wire::{self, Answer, Hello};

/// How many messages a publisher has unanswered at the most.
const PENDING_MAX: usize = 10;

impl Sim {
    pub(super) fn publish(&mut self) {
        let which = self.rng.below(self.cast.publishers.len());
        let publisher = &self.cast.publishers[which];
        let Some(link) = publisher.link else { return self.connect_publisher(which) };
        // Before CONNACK it does not know what it has to send again first.
        if !publisher.open || publisher.pending.len() >= PENDING_MAX {
            return;
        }
        let qos = QoS::from_u8(u8::try_from(self.rng.below(3)).unwrap()).unwrap();
        let topic = self.rng.below(TOPICS);
        let retain = self.rng.one_in(6);
        let granted = |it: &usize| {
            let it = &self.cast.subscribers[*it];
            it.subscription == Subscription::Granted && !it.brief && !it.hears_wills()
        };
        let all = 0..self.cast.subscribers.len();
        let (shared, owed): (Vec<_>, Vec<_>) =
            all.clone().filter(granted).partition(|it| self.cast.subscribers[*it].shared());
        let absent = |it: &usize| self.cast.subscribers[*it].subscription == Subscription::Absent;
        let number = self.cast.promises.sent(Entry {
            publisher: which,
            topic,
            qos: qos.as_u8(),
            retain,
            sends: 1,
            owed,
            group_owed: !shared.is_empty(),
            shut_out: all.filter(absent).collect(),
            ..Entry::default()
        });
        let publisher = &mut self.cast.publishers[which];
        let mut id = 0;
        if qos > QoS::AtMostOnce {
            id = publisher.take_id();
            publisher.pending.push(Pending { id, number, released: false });
        }
        self.tally.messages += 1;
        self.send_message(which, link, number, id, false);
    }

    fn send_message(&mut self, which: usize, link: usize, number: usize, id: u16, dup: bool) {
        let entry = &self.cast.promises.entries[number];
        let payload = wire::payload(number);
        let message = wire::Message {
            topic: TOPIC_NAMES[entry.topic],
            payload: payload.as_bytes(),
            qos: QoS::from_u8(entry.qos).unwrap(),
            id,
            retain: entry.retain,
            dup,
        };
        let version = self.cast.publishers[which].version;
        wire::publish(message, version, &mut self.links[link].up);
    }

    pub(super) fn connect_publisher(&mut self, which: usize) {
        let will = if self.rng.one_in(3) {
            let entry = Entry { publisher: which, qos: 1, will: true, ..Entry::default() };
            let number = self.cast.promises.sent(entry);
            Some(("w/will", number, [0, 5][self.rng.below(2)]))
        } else {
            None
        };
        let publisher = &self.cast.publishers[which];
        let name = publisher.name.clone();
        let hello = Hello {
            version: publisher.version,
            name: &name,
            clean: !publisher.lasting,
            expiry: if publisher.lasting { LASTING } else { 0 },
            receive_maximum: 20,
            will,
        };
        let link = self.dial(Owner::Publisher(which), &hello);
        let publisher = &mut self.cast.publishers[which];
        publisher.link = Some(link);
        publisher.open = false;
        publisher.will = will.map(|it| (link, it.1));
    }

    pub(super) fn publisher_got(&mut self, which: usize, link: usize, packet: &Packet<'_>) {
        if self.cast.publishers[which].link != Some(link) {
            return;
        }
        let version = self.cast.publishers[which].version;
        match packet {
            Packet::Connack(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success, "CONNACK");
                self.cast.publishers[which].open = true;
                self.publish_again(which, link, connack.session_present);
            }
            Packet::Puback(ack) => {
                assert!(!ack.reason.is_error(), "PUBACK: {}", ack.reason);
                let number = self.answered(which, ack.packet_id.get(), false);
                assert_eq!(self.cast.promises.entries[number].qos, 1, "PUBACK for QoS 2");
                self.cast.promises.acknowledged(number);
                let pending = &mut self.cast.publishers[which].pending;
                pending.retain(|it| it.id != ack.packet_id.get());
            }
            Packet::Pubrec(ack) => {
                assert!(!ack.reason.is_error(), "PUBREC: {}", ack.reason);
                let number = self.answered(which, ack.packet_id.get(), true);
                assert_eq!(self.cast.promises.entries[number].qos, 2, "PUBREC for QoS 1");
                self.cast.promises.acknowledged(number);
                let up = &mut self.links[link].up;
                wire::answer(Answer::Pubrel, ack.packet_id.get(), version, up);
            }
            Packet::Pubcomp(ack) => {
                let pending = &mut self.cast.publishers[which].pending;
                pending.retain(|it| it.id != ack.packet_id.get());
            }
            other => panic!("a publisher gets {}", other.name()),
        }
    }

    /// It is back, and sends again, in order, what it has not heard the end of.
    fn publish_again(&mut self, which: usize, link: usize, present: bool) {
        let version = self.cast.publishers[which].version;
        let pending = self.cast.publishers[which].pending.clone();
        for it in pending {
            if it.released {
                if present {
                    wire::answer(Answer::Pubrel, it.id, version, &mut self.links[link].up);
                } else {
                    // Taken over before: the Client does not send it again.
                    let pending = &mut self.cast.publishers[which].pending;
                    pending.retain(|other| other.id != it.id);
                }
                continue;
            }
            let entry = &mut self.cast.promises.entries[it.number];
            entry.anew |= !present;
            entry.sends += 1;
            self.send_message(which, link, it.number, it.id, true);
        }
    }

    fn answered(&mut self, which: usize, id: u16, released: bool) -> usize {
        let pending = self.cast.publishers[which].pending.iter_mut().find(|it| it.id == id);
        let Some(pending) = pending else { panic!("an answer to nothing: {id}") };
        pending.released = released;
        pending.number
    }
}

/// Seconds that a session lasts which is not to end, whatever the clock does.
pub(super) const LASTING: u32 = 1_000_000;

impl crate::cast::Publisher {
    fn take_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 50 + 1;
            if self.pending.iter().all(|it| it.id != self.next_id) {
                return self.next_id;
            }
        }
    }
}

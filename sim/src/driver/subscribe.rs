//! Subscribers: in time, late, slow or flapping; what comes to them is held against the ledger.

use tidings_core::codec::{Packet, PacketId, Publish, QoS, ReasonCode};

use super::Sim;
use super::publish::LASTING;
use crate::cast::{Delivery, Subscription};
use crate::network::Owner;
use crate::wire::{self, Answer, Hello};

/// The identifier of SUBSCRIBE and UNSUBSCRIBE.
const SUBSCRIBE_ID: u16 = 1;

impl Sim {
    pub(super) fn subscriber_acts(&mut self, which: usize) {
        let subscriber = &self.cast.subscribers[which];
        match subscriber.link {
            None => self.connect_subscriber(which),
            Some(_) if subscriber.open && subscriber.toggles && self.rng.one_in(6) => {
                self.toggle(which);
            }
            Some(_) => {
                for _ in 0..=self.rng.below(3) {
                    self.acknowledge(which);
                }
            }
        }
    }

    pub(super) fn connect_subscriber(&mut self, which: usize) {
        let subscriber = &mut self.cast.subscribers[which];
        let name = subscriber.name.clone();
        let hello = Hello {
            version: subscriber.version,
            name: &name,
            clean: false,
            expiry: match (subscriber.brief, subscriber.fleeting) {
                (_, true) => 0,
                (true, _) => 30,
                _ => LASTING,
            },
            receive_maximum: subscriber.window,
            will: None,
        };
        subscriber.open = false;
        subscriber.on_this_link.clear();
        subscriber.unacknowledged.clear();
        let link = self.dial(Owner::Subscriber(which), &hello);
        self.cast.subscribers[which].link = Some(link);
    }

    fn toggle(&mut self, which: usize) {
        let subscriber = &mut self.cast.subscribers[which];
        let Some(link) = subscriber.link else { return };
        let up = &mut self.links[link].up;
        match subscriber.subscription {
            Subscription::Granted => {
                wire::unsubscribe(SUBSCRIBE_ID, subscriber.filter, subscriber.version, up);
                subscriber.subscription = Subscription::Leaving;
                // What it was promised may be dropped from here on.
                for entry in &mut self.cast.promises.entries {
                    entry.owed.retain(|owed| *owed != which);
                }
            }
            Subscription::Absent => self.ask(which, link),
            Subscription::Asked | Subscription::Leaving => {}
        }
    }

    fn ask(&mut self, which: usize, link: usize) {
        let subscriber = &mut self.cast.subscribers[which];
        subscriber.subscription = Subscription::Asked;
        // From here on it may hear of what is on its way.
        for entry in &mut self.cast.promises.entries {
            entry.shut_out.retain(|it| *it != which);
        }
        let (filter, qos, version) = (subscriber.filter, subscriber.qos, subscriber.version);
        wire::subscribe(SUBSCRIBE_ID, filter, qos, version, &mut self.links[link].up);
    }

    /// Answers the oldest that it has not answered.
    pub(super) fn acknowledge(&mut self, which: usize) {
        let subscriber = &mut self.cast.subscribers[which];
        let Some(link) = subscriber.link else { return };
        if subscriber.unacknowledged.is_empty() {
            return;
        }
        let delivery = subscriber.unacknowledged.remove(0);
        let up = &mut self.links[link].up;
        if delivery.qos == QoS::AtLeastOnce {
            subscriber.sent.push((link, delivery));
            wire::answer(Answer::Puback, delivery.id, subscriber.version, up);
        } else {
            subscriber.received.insert(delivery.id, delivery);
            wire::answer(Answer::Pubrec, delivery.id, subscriber.version, up);
        }
    }

    pub(super) fn subscriber_got(&mut self, which: usize, link: usize, packet: &Packet<'_>) {
        if self.cast.subscribers[which].link != Some(link) {
            return;
        }
        match packet {
            Packet::Connack(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success, "CONNACK");
                self.subscriber_opened(which, link, connack.session_present);
            }
            Packet::Suback(suback) => {
                assert!(suback.reasons.iter().all(|it| *it <= 2), "SUBACK {:?}", suback.reasons);
                self.cast.subscribers[which].subscription = Subscription::Granted;
            }
            Packet::Unsuback(_) => {
                self.cast.subscribers[which].subscription = Subscription::Absent;
            }
            Packet::Publish(publish) => self.delivered(which, publish),
            Packet::Pubrel(ack) => {
                let subscriber = &mut self.cast.subscribers[which];
                let id = ack.packet_id.get();
                if let Some(delivery) = subscriber.received.remove(&id) {
                    subscriber.sent.push((link, delivery));
                }
                let version = subscriber.version;
                wire::answer(Answer::Pubcomp, id, version, &mut self.links[link].up);
            }
            other => panic!("a subscriber gets {}", other.name()),
        }
    }

    fn subscriber_opened(&mut self, which: usize, link: usize, present: bool) {
        let subscriber = &mut self.cast.subscribers[which];
        subscriber.open = true;
        let lasting = !subscriber.brief && subscriber.subscription == Subscription::Granted;
        assert!(present || !lasting, "session lost: {}", subscriber.name);
        if !present || subscriber.may_be_gone {
            subscriber.begin_anew();
            subscriber.may_be_gone = false;
        }
        match subscriber.subscription {
            Subscription::Granted if present => {}
            // The answer was lost: it asks again.
            Subscription::Leaving => {
                let (filter, version) = (subscriber.filter, subscriber.version);
                wire::unsubscribe(SUBSCRIBE_ID, filter, version, &mut self.links[link].up);
            }
            Subscription::Absent if subscriber.toggles && subscriber.heard.len() > 2 => {}
            _ => self.ask(which, link),
        }
    }

    fn delivered(&mut self, which: usize, publish: &Publish<'_>) {
        let Some(number) = wire::number(publish.payload) else { panic!("a payload of nobody") };
        let entry = self.cast.promises.entries[number].clone();
        assert!(!entry.denied, "rights: message {number} of one who may not send it");
        assert!(!entry.cancelled, "will {number} of a connection that ended with DISCONNECT");
        let subscriber = &mut self.cast.subscribers[which];
        assert_eq!(publish.topic.starts_with("w/"), subscriber.hears_wills(), "not asked for");
        let shut_out =
            subscriber.subscription == Subscription::Absent && entry.shut_out.contains(&which);
        assert!(!shut_out, "{} hears {number} after its UNSUBACK", subscriber.name);
        let id = publish.packet_id.map_or(0, PacketId::get);
        if publish.qos > QoS::AtMostOnce {
            let in_use = subscriber.unacknowledged.iter().any(|it| it.id == id);
            assert!(!in_use, "packet identifier {id} of {} is in use", subscriber.name);
            let open = subscriber.unacknowledged.len();
            assert!(open < usize::from(subscriber.window), "window of {}", subscriber.name);
            let (qos, retained) = (publish.qos, publish.retain);
            subscriber.unacknowledged.push(Delivery { id, number, qos, retained });
        }
        let known = subscriber.received.get(&id).filter(|_| publish.qos == QoS::ExactlyOnce);
        if let Some(known) = known {
            assert_eq!(known.number, number, "identifier {id} given to another message");
            assert_eq!(known.retained, publish.retain, "{number} comes again as another copy");
            assert!(publish.dup, "{number} comes again and is not marked as a duplicate");
        }
        let known = known.is_some();
        if publish.retain {
            assert!(!subscriber.shared(), "a retained message for a Shared Subscription");
            // The reply to the subscription, which says nothing of order or of how often.
            subscriber.heard.insert(number);
            return;
        }
        if publish.qos == QoS::AtMostOnce {
            return;
        }
        assert_eq!(publish.qos.as_u8(), entry.qos.min(subscriber.qos.as_u8()), "QoS of {number}");
        if subscriber.shared() {
            self.cast.promises.entries[number].group_heard.insert(which);
        }
        if known {
            return;
        }
        if self.cast.promises.is_due_once(number) && !subscriber.brief {
            let settled = subscriber.settled.contains_key(&number);
            assert!(!settled, "{number} came again to {}, acknowledged", subscriber.name);
            let first = subscriber.on_this_link.insert(number);
            assert!(first, "{number} came twice to {} on a connection", subscriber.name);
        }
        if subscriber.heard.insert(number) {
            subscriber.order.push(number);
        }
    }
}

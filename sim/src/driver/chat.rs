//! Devices of people: they send, with ids that make a repeat harmless, acknowledge and read.

use tidings_core::codec::{Packet, PacketId, Publish, QoS, ReasonCode, Version};

use super::Sim;
use super::publish::LASTING;
use crate::chat::{Pair, Said, Send, USERS, field, pair, text, user};
use crate::faults::Fault;
use crate::network::Owner;
use crate::process::Around;
use crate::wire::{self, Answer, Hello};

/// How much a device has unanswered at the most.
const SAID_MAX: usize = 8;

impl Sim {
    /// Every device joins before anybody says anything: a further one would begin at the present.
    pub(super) fn join_devices(&mut self) {
        for which in 0..self.cast.chat.devices.len() {
            self.connect_device(which);
        }
        self.settle();
        assert!(self.cast.chat.devices.iter().all(|it| it.subscribed), "a device cannot join");
    }

    pub(super) fn device_acts(&mut self) {
        let which = self.rng.below(self.cast.chat.devices.len());
        if self.cast.chat.devices[which].link.is_none() {
            return self.connect_device(which);
        }
        match self.rng.below(10) {
            0..=3 => self.say(which),
            4 => self.report_read(which),
            5 => self.type_on(which),
            _ => {
                for _ in 0..=self.rng.below(3) {
                    self.device_acknowledges(which);
                }
            }
        }
    }

    pub(super) fn connect_device(&mut self, which: usize) {
        let device = &self.cast.chat.devices[which];
        let hello = Hello {
            version: device.version,
            name: device.name,
            clean: false,
            expiry: LASTING,
            receive_maximum: device.window,
            will: None,
        };
        let link = self.dial(Owner::Device(which), &hello);
        let device = &mut self.cast.chat.devices[which];
        device.link = Some(link);
        device.open = false;
    }

    fn say(&mut self, which: usize) {
        let device = &self.cast.chat.devices[which];
        if !device.open || device.pending.len() >= SAID_MAX {
            return;
        }
        let to = USERS[self.rng.below(USERS.len())];
        let from = device.user;
        // One number for messages of both kinds, so that the disk can be asked for either.
        let number = self.cast.promises.sent(crate::promises::Entry::default());
        let send = Send {
            chat: pair(from, to),
            from,
            to,
            payload: wire::payload(number),
            tried: std::iter::once(which).collect(),
            acknowledged: false,
        };
        self.cast.chat.sends.insert(number, send);
        self.tally.messages += 1;
        self.tell(which, Said::Send(number));
    }

    /// Says something new, under a new identifier.
    fn tell(&mut self, which: usize, said: Said) {
        let device = &mut self.cast.chat.devices[which];
        let id = loop {
            device.next_id = device.next_id % 100 + 1;
            if device.pending.iter().all(|it| it.0 != device.next_id) {
                break device.next_id;
            }
        };
        device.pending.push((id, said));
        self.transmit(which, id, said, false);
    }

    fn transmit(&mut self, which: usize, id: u16, said: Said, dup: bool) {
        let device = &self.cast.chat.devices[which];
        let Some(link) = device.link else { return };
        let (topic, payload) = match said {
            Said::Send(number) => {
                let send = &self.cast.chat.sends[&number];
                (send.topic(number), send.payload.clone())
            }
            Said::Read(chat, seq) => {
                let peer = if chat.0 == device.user { chat.1 } else { chat.0 };
                (format!("chat/@{peer}/read"), seq.to_string())
            }
        };
        let (topic, payload) = (&topic[..], payload.as_bytes());
        let qos = QoS::AtLeastOnce;
        let message = wire::Message { topic, payload, qos, id, retain: false, dup };
        wire::publish(message, device.version, &mut self.links[link].up);
    }

    fn report_read(&mut self, which: usize) {
        let device = &self.cast.chat.devices[which];
        let chat = pair(device.user, USERS[self.rng.below(USERS.len())]);
        let places = &self.cast.chat.places;
        let last = places.range((chat, 0)..=(chat, u64::MAX)).next_back().map(|it| it.0.1);
        let Some(last) = last.filter(|_| device.open && device.pending.len() < SAID_MAX) else {
            return;
        };
        let seq = 1 + self.rng.below(usize::try_from(last).unwrap()) as u64;
        let read = self.cast.chat.read.entry((chat, device.user)).or_default();
        *read = seq.max(*read);
        self.tell(which, Said::Read(chat, seq));
    }

    fn type_on(&mut self, which: usize) {
        let device = &self.cast.chat.devices[which];
        let Some(link) = device.link.filter(|_| device.open) else { return };
        let topic = format!("chat/@{}/typing", USERS[self.rng.below(USERS.len())]);
        let (topic, payload, qos) = (&topic[..], &b"typing"[..], QoS::AtMostOnce);
        let message = wire::Message { topic, payload, qos, id: 0, retain: false, dup: false };
        wire::publish(message, device.version, &mut self.links[link].up);
    }

    /// Acknowledges the oldest that it has not acknowledged.
    pub(super) fn device_acknowledges(&mut self, which: usize) {
        let device = &mut self.cast.chat.devices[which];
        let Some(link) = device.link else { return };
        if device.unacknowledged.is_empty() {
            return;
        }
        let (id, place) = device.unacknowledged.remove(0);
        if let Some(place) = place {
            if self.cast.fault == Fault::CursorPastUnacknowledged && self.rng.one_in(20) {
                return self.pretend(which, link, id);
            }
            device.heard.remove(&place);
            device.acknowledged.insert(place, device.epoch);
        }
        if self.cast.fault == Fault::AcknowledgementLost && self.rng.one_in(20) {
            return;
        }
        wire::answer(Answer::Puback, id, device.version, &mut self.links[link].up);
    }

    /// The fault: the server takes for acknowledged what is not, and the Client is gone.
    fn pretend(&mut self, which: usize, link: usize, id: u16) {
        let Some(packet_id) = PacketId::new(id) else { return };
        let Self { process, links, trace, cast, rng, .. } = self;
        if let Some(process) = process {
            let packet = Packet::Puback(tidings_core::codec::Ack::success(packet_id));
            let mut around = Around { links, trace, witness: cast, rng };
            process.forge(link, packet, &mut around);
        }
        if self.cast.chat.devices[which].link == Some(link) {
            self.lose(link, false, false);
        }
    }

    pub(super) fn device_got(&mut self, which: usize, link: usize, packet: &Packet<'_>) {
        if self.cast.chat.devices[which].link != Some(link) {
            return;
        }
        match packet {
            Packet::Connack(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success, "CONNACK");
                self.device_opened(which, link, connack.session_present);
            }
            Packet::Suback(suback) => {
                assert!(suback.reasons.iter().all(|it| *it <= 2), "SUBACK {:?}", suback.reasons);
                self.cast.chat.devices[which].subscribed = true;
            }
            Packet::Puback(ack) => {
                let device = &mut self.cast.chat.devices[which];
                let id = ack.packet_id.get();
                let Some(at) = device.pending.iter().position(|it| it.0 == id) else {
                    panic!("an answer to nothing: {id}");
                };
                let (_, said) = device.pending.remove(at);
                assert!(!ack.reason.is_error(), "PUBACK: {}", ack.reason);
                if let Said::Send(number) = said {
                    let seq = ack.properties.user_property("seq").and_then(|it| it.parse().ok());
                    let known = seq.is_some() || device.version == Version::V311;
                    assert!(known, "no place in PUBACK");
                    self.send_acknowledged(number, seq);
                }
            }
            Packet::Publish(publish) => self.device_hears(which, publish),
            other => panic!("a device gets {}", other.name()),
        }
    }

    fn device_opened(&mut self, which: usize, link: usize, present: bool) {
        let device = &mut self.cast.chat.devices[which];
        device.open = true;
        assert!(present || !device.subscribed, "session lost: {}", device.user);
        if !device.subscribed {
            let (qos, version) = (QoS::AtLeastOnce, device.version);
            wire::subscribe(1_000, "me/json/#", qos, version, &mut self.links[link].up);
        }
        let pending = self.cast.chat.devices[which].pending.clone();
        for (id, said) in pending {
            self.transmit(which, id, said, true);
        }
    }

    fn send_acknowledged(&mut self, number: usize, seq: Option<u64>) {
        let Some(send) = self.cast.chat.sends.get_mut(&number) else { return };
        send.acknowledged = true;
        let chat = send.chat;
        if let Some(seq) = seq {
            self.cast.chat.note_place(chat, seq, number);
        }
    }

    fn device_hears(&mut self, which: usize, publish: &Publish<'_>) {
        let chat = &mut self.cast.chat;
        let own = chat.devices[which].user;
        let body = String::from_utf8_lossy(publish.payload).into_owned();
        let mut levels = publish.topic.strip_prefix("me/json/").unwrap_or_default().split('/');
        let peer = levels.next().and_then(|it| it.strip_prefix('@')).map(user);
        let kind = levels.next().unwrap_or_default();
        let mut place: Option<(Pair, u64)> = None;
        match (peer, kind) {
            (Some(peer), "message") => {
                let seq = field(&body, "seq").unwrap();
                let said = text(&body, "text").unwrap();
                let number = wire::number(said.as_bytes()).unwrap();
                assert_eq!(text(&body, "id"), Some(format!("i{number}")), "id and text differ");
                let send = &chat.sends[&number];
                assert_eq!(send.chat, pair(own, peer), "a message of another chat");
                assert_eq!(Some(send.from), text(&body, "from").as_deref(), "another author");
                let kept = self.cast.disk.has_kept(number);
                assert!(kept, "delivered and not stored: {number} of a chat");
                chat.note_place(pair(own, peer), seq, number);
                if !publish.dup {
                    chat.note_heard(which, pair(own, peer), seq);
                }
                chat.devices[which].heard.insert((pair(own, peer), seq));
                place = Some((pair(own, peer), seq));
            }
            (Some(peer), "receipt") => chat.note_tick(which, peer, &body),
            (Some(_), "typing" | "ack") => {}
            _ => panic!("a device hears {}: {body}", publish.topic),
        }
        if let Some(id) = publish.packet_id {
            let device = &mut chat.devices[which];
            let in_use = device.unacknowledged.iter().any(|it| it.0 == id.get());
            assert!(!in_use, "packet identifier {id:?} of a device is in use");
            if device.version == Version::V5 {
                let open = device.unacknowledged.len();
                assert!(open < usize::from(device.window), "window of {}", device.user);
            }
            device.unacknowledged.push((id.get(), place));
        }
    }
}

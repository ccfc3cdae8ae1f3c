//! Who takes part, and what each of them knows: publishers, subscribers, and one who may not.
//!
//! A Client knows what a Client can know. What it was promised is written down in [`Promises`], and
//! the [`Witness`] here sees what no Client can: what has reached the server, and what of it the
//! disk has kept.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::codec::{Packet, Publish, QoS, ReasonCode, Version, decode};
use tidings_core::hook::{Authorize, Client, Verdict};
use tidings_core::topic::TopicFilter;

use crate::chat::ChatCast;
use crate::disk::SimDisk;
use crate::faults::Fault;
use crate::network::{Link, Owner};
use crate::process::Witness;
use crate::promises::Promises;
use crate::wire;

/// What a publisher has not heard the end of.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) id: u16,
    pub(crate) number: usize,
    /// PUBREC came: PUBREL is to be answered.
    pub(crate) released: bool,
}

#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) lasting: bool,
    pub(crate) link: Option<usize>,
    /// CONNACK came.
    pub(crate) open: bool,
    pub(crate) pending: Vec<Pending>,
    pub(crate) next_id: u16,
    /// The message of its will, and the link that it is the will of.
    pub(crate) will: Option<(usize, usize)>,
}

/// A copy of a message, as it came to a subscriber.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) id: u16,
    pub(crate) number: usize,
    pub(crate) qos: QoS,
    /// The reply to a subscription: another copy than the one that comes of being subscribed.
    pub(crate) retained: bool,
}

/// How far a SUBSCRIBE or UNSUBSCRIBE is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subscription {
    /// Never asked for, or UNSUBACK came.
    Absent,
    /// SUBSCRIBE was sent.
    Asked,
    /// SUBACK came.
    Granted,
    /// UNSUBSCRIBE was sent.
    Leaving,
}

#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) filter: &'static str,
    pub(crate) qos: QoS,
    pub(crate) window: u16,
    /// Its session may end while it is away.
    pub(crate) brief: bool,
    /// Its session ends with its connection.
    pub(crate) fleeting: bool,
    /// It leaves and comes back.
    pub(crate) toggles: bool,
    pub(crate) link: Option<usize>,
    pub(crate) open: bool,
    pub(crate) subscription: Subscription,
    pub(crate) may_be_gone: bool,
    /// What it has to answer, in the order it came.
    pub(crate) unacknowledged: Vec<Delivery>,
    /// QoS 2 identifiers between PUBREC and PUBREL, kept over connections.
    pub(crate) received: BTreeMap<u16, Delivery>,
    /// What is on its way to be acknowledged for good, and over which link.
    pub(crate) sent: Vec<(usize, Delivery)>,
    /// What came of being subscribed, and the server has heard the acknowledgement of: until what
    /// follows from it is safe, the shard and its number of records.
    pub(crate) settled: BTreeMap<usize, Option<(usize, u64)>>,
    pub(crate) heard: BTreeSet<usize>,
    /// In the order of first hearing.
    pub(crate) order: Vec<usize>,
    pub(crate) on_this_link: BTreeSet<usize>,
}

impl Subscriber {
    pub(crate) fn shared(&self) -> bool {
        self.filter.starts_with("$share")
    }

    pub(crate) fn hears_wills(&self) -> bool {
        self.filter == "w/#"
    }

    /// The session it had is over, and so is what belonged to it.
    pub(crate) fn begin_anew(&mut self) {
        self.unacknowledged.clear();
        self.received.clear();
        self.sent.clear();
        self.settled.clear();
        self.heard.clear();
        self.order.clear();
        self.on_this_link.clear();
    }
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) disk: SimDisk,
    pub(crate) fault: Fault,
    pub(crate) fault_in: usize,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) promises: Promises,
    pub(crate) chat: ChatCast,
}

/// The user of a link.
pub(crate) fn user_of(chat: &ChatCast, owner: Owner) -> &str {
    match owner {
        Owner::Publisher(_) | Owner::Subscriber(_) | Owner::Witness => "",
        Owner::Device(which) => chat.devices[which].user,
        Owner::Stranger => STRANGER,
    }
}

/// A user who may do nothing.
pub(crate) const STRANGER: &str = "mallory";

/// Rights: everybody but the stranger may do everything.
#[derive(Debug)]
pub(crate) struct Rights;

impl Rights {
    fn of(client: &Client<'_>) -> Verdict {
        if client.user == STRANGER {
            Verdict::Deny(ReasonCode::NotAuthorized)
        } else {
            Verdict::Allow
        }
    }
}

impl Authorize for Rights {
    fn publish(&self, client: &Client<'_>, _topic: &str) -> Verdict {
        Self::of(client)
    }

    fn subscribe(&self, client: &Client<'_>, _filter: &TopicFilter) -> Verdict {
        Self::of(client)
    }
}

impl Cast {
    /// What was on its way over a connection that is gone, when the process is gone too.
    pub(crate) fn crashed(&mut self) {
        for publisher in &mut self.publishers {
            publisher.link = None;
            publisher.open = false;
            publisher.will = None;
            for pending in &publisher.pending {
                self.promises.entries[pending.number].crashed = true;
            }
        }
        // Nothing answers DISCONNECT: the crash may have taken it.
        for entry in &mut self.promises.entries {
            entry.cancelled = false;
        }
        for subscriber in &mut self.subscribers {
            subscriber.link = None;
            subscriber.open = false;
            subscriber.sent.clear();
            subscriber.settled.retain(|_, until| until.is_none());
        }
        self.chat.crashed();
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        if self.fault != fault {
            return false;
        }
        self.fault_in = self.fault_in.saturating_sub(1);
        self.fault_in == 0
    }

    /// The server acknowledges: it must have kept what somebody is to get.
    fn acknowledges(&self, which: usize, id: u16, reason: ReasonCode) {
        let pending = self.publishers[which].pending.iter().find(|it| it.id == id);
        if let Some(pending) = pending.filter(|it| !reason.is_error() && !it.released) {
            let entry = &self.promises.entries[pending.number];
            let kept =
                entry.owed.is_empty() && !entry.group_owed || self.disk.has_kept(pending.number);
            assert!(kept, "acknowledged and not stored: message {} {entry:?}", pending.number);
        }
    }

    fn delivers(&mut self, link: &Link, id: usize, publish: &Publish<'_>) -> Option<u16> {
        let Owner::Subscriber(which) = link.owner else { return None };
        let number = wire::number(publish.payload)?;
        let subscriber = &self.subscribers[which];
        if publish.qos > QoS::AtMostOnce && (publish.retain || !subscriber.brief) {
            let kept = self.disk.has_kept(number);
            assert!(kept, "delivered and not stored: message {number} to {}", subscriber.name);
            let used = subscriber.unacknowledged.last().map(|it| it.id);
            if let Some(used) =
                used.filter(|used| Some(*used) != publish.packet_id.map(|it| it.get()))
                && subscriber.link == Some(id)
                && self.strikes(Fault::PacketIdReused)
            {
                return Some(used);
            }
        }
        None
    }
}

impl Witness for Cast {
    fn sends(&mut self, id: usize, link: &Link, bytes: &mut Vec<u8>) {
        let mut changed = Vec::new();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Ok(Some((packet, length))) = decode(rest, link.version, usize::MAX) else {
                panic!("the server sends what is no packet: {rest:?}");
            };
            let mut reused = None;
            match (&packet, link.owner) {
                (Packet::Puback(ack) | Packet::Pubrec(ack), Owner::Publisher(which)) => {
                    self.acknowledges(which, ack.packet_id.get(), ack.reason);
                }
                (Packet::Puback(ack), Owner::Device(which)) => {
                    self.chat.acknowledges(which, ack.packet_id.get(), ack.reason, &self.disk);
                }
                (Packet::Publish(publish), _) => reused = self.delivers(link, id, publish),
                _ => {}
            }
            if let (Some(reused), Packet::Publish(publish)) = (reused, &packet) {
                let packet_id = tidings_core::codec::PacketId::new(reused);
                let publish = Packet::Publish(Publish { packet_id, ..*publish });
                publish.encode(link.version, &mut changed).unwrap();
            } else {
                changed.extend_from_slice(&rest[..length]);
            }
            at += length;
        }
        *bytes = changed;
    }

    fn heard(&mut self, id: usize, link: &Link, packet: &Packet<'_>, shard: usize, appended: u64) {
        match (packet, link.owner) {
            (Packet::Puback(ack) | Packet::Pubcomp(ack), Owner::Subscriber(which)) => {
                let subscriber = &mut self.subscribers[which];
                let ack = (id, ack.packet_id.get());
                let sent = subscriber.sent.iter().position(|(link, it)| (*link, it.id) == ack);
                if let Some((_, it)) = sent.map(|at| subscriber.sent.remove(at))
                    && !it.retained
                {
                    subscriber.settled.insert(it.number, Some((shard, appended)));
                }
            }
            (Packet::Disconnect(_), Owner::Publisher(which)) => {
                if let Some((of, will)) = self.publishers[which].will
                    && of == id
                {
                    self.promises.entries[will].cancelled = true;
                }
            }
            _ => {}
        }
    }

    fn stored(&mut self, shard: usize, records: u64) {
        for subscriber in &mut self.subscribers {
            for until in subscriber.settled.values_mut() {
                if until.is_some_and(|(of, appended)| of == shard && appended <= records) {
                    *until = None;
                }
            }
        }
    }
}

//! Simulation: one seed, one history of Clients, a store and crashes, against a ledger of promises.
//!
//! Publishers behave as the specification asks of them: one that is back sends again, in order,
//! what was not acknowledged. The ledger knows what was sent, what was acknowledged, and what every
//! subscriber received. What is checked:
//!
//! - acknowledged messages reach every lasting subscriber that had its SUBACK before, in the order
//!   of their publisher, topic and QoS;
//! - QoS 2 once; QoS 1 a second time only behind a reconnect or a crash;
//! - what a subscriber acknowledged, and the store then kept, does not come again;
//! - a Packet Identifier is not given again while it is in use, nor more of them than the window;
//! - of a Shared Subscription each acknowledged message reaches one member, in the same order, and
//!   no second one unless a crash or the end of a member's session came between;
//! - the retained message of a topic is the one acknowledged last, or a later one.
//!
//! A crash may bring the broker back with another number of shards.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which fail where they panic"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidings_core::codec::{Property, ReasonCode};
use tidings_core::limits::Limits;
use tidings_core::output::CloseCause;
use tidings_core::record::RowKind;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Delivery, Got, Link, filter, lasting, line, message, v5};

/// Where the choices come from: a seed, or the bytes of a fuzzer, and zeros behind them.
enum Rng {
    Seed(u64),
    Bytes(VecDeque<u8>),
}

impl Rng {
    fn next(&mut self) -> u64 {
        let state = match self {
            Self::Seed(state) => state,
            // `below` takes the upper half.
            Self::Bytes(bytes) => return u64::from(bytes.pop_front().unwrap_or(0)) << 33,
        };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }
}

/// What a publisher has not heard the end of.
#[derive(Debug, Clone)]
struct Pending {
    id: u16,
    number: usize,
    /// PUBREC came: PUBREL is to be answered.
    released: bool,
}

#[derive(Debug)]
struct Publisher {
    name: String,
    link: Option<Link>,
    lasting: bool,
    /// Its session may have expired.
    may_be_gone: bool,
    pending: Vec<Pending>,
    next_id: u16,
}

/// A message as the ledger knows it.
#[derive(Debug, Clone)]
struct Entry {
    publisher: usize,
    topic: usize,
    qos: u8,
    acknowledged: bool,
    /// A crash came while it was not acknowledged.
    crashed: bool,
    /// It was sent again by a session that had forgotten it.
    anew: bool,
    retain: bool,
    /// How often it was sent: each time a new message, if it is QoS 1. [MQTT-4.3.2-5]
    sends: usize,
    /// Lasting subscribers that are owed it.
    owed: Vec<usize>,
    /// Some member of the group is owed it.
    group_owed: bool,
    /// The session of a member ended since it was sent.
    left: bool,
    /// The members that heard it.
    group_heard: BTreeSet<usize>,
}

#[derive(Debug)]
struct Subscriber {
    name: String,
    link: Option<Link>,
    window: u16,
    qos: u8,
    granted: bool,
    /// A member of the group.
    shared: bool,
    /// Identifiers that the Client has not acknowledged, in the order they came.
    unacknowledged: Vec<(u16, usize)>,
    /// QoS 2 identifiers between PUBREC and PUBREL, kept by the Client over connections.
    received: BTreeMap<u16, usize>,
    /// How often each message was taken in.
    heard: BTreeMap<usize, usize>,
    /// In the order of first hearing.
    order: Vec<usize>,
    /// Acknowledged, and perhaps not stored.
    acknowledged: BTreeSet<usize>,
    /// Acknowledged and stored since.
    settled: BTreeSet<usize>,
    /// Its session was to be replaced, or may have expired.
    may_be_gone: bool,
    /// Messages heard on the present connection.
    on_this_link: BTreeSet<usize>,
}

struct Sim {
    rng: Rng,
    broker: Cluster,
    shards: usize,
    /// There was more than one shard at some time.
    several: bool,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    entries: Vec<Entry>,
    retained: BTreeMap<usize, usize>,
    lazy: bool,
}

const TOPICS: usize = 3;

fn filter_of(shared: bool) -> &'static str {
    if shared { "$share/group/t/#" } else { "t/#" }
}

fn topic_name(topic: usize) -> String {
    format!("t/{topic}")
}

impl Sim {
    fn new(mut rng: Rng) -> Self {
        let shards = [1, 1, 2, 4][rng.below(4)];
        let publishers = (0..3).map(|it| Publisher {
            name: format!("publisher-{it}-{}", rng.below(100)),
            link: None,
            lasting: it != 2,
            may_be_gone: false,
            pending: Vec::new(),
            next_id: 0,
        });
        let publishers = publishers.collect();
        let subscribers = (0..6).map(|it| Subscriber {
            name: format!("subscriber-{it}-{}", rng.below(100)),
            link: None,
            window: [1, 3, 64][rng.below(3)],
            qos: [2, 1, 2, 2, 1, 2][it],
            granted: false,
            shared: it > 2,
            unacknowledged: Vec::new(),
            received: BTreeMap::new(),
            heard: BTreeMap::new(),
            order: Vec::new(),
            acknowledged: BTreeSet::new(),
            settled: BTreeSet::new(),
            may_be_gone: false,
            on_this_link: BTreeSet::new(),
        });
        let subscribers = subscribers.collect();
        // Clients here take over from themselves as often as chance has it.
        let retained_per_turn_max = 1;
        let limits =
            Limits { takeovers_max: usize::MAX, retained_per_turn_max, ..Limits::default() };
        let shard_count = u16::try_from(shards).unwrap();
        let mut broker = Cluster::with(shard_count, limits, Hooks::default());
        let lazy = rng.one_in(2);
        if lazy {
            broker.lazy();
        }
        Self {
            rng,
            broker,
            shards,
            several: shards > 1,
            publishers,
            subscribers,
            entries: Vec::new(),
            retained: BTreeMap::new(),
            lazy,
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.listen();
        }
        self.finish();
    }

    fn step(&mut self) {
        match self.rng.below(42) {
            0 => self.crash(),
            1..=3 => {
                let which = self.rng.below(self.publishers.len());
                self.break_publisher(which);
            }
            4..=6 => {
                let which = self.rng.below(self.subscribers.len());
                self.break_subscriber(which);
            }
            7..=9 if self.lazy => {
                let shard = self.rng.below(self.shards);
                let records = self.rng.below(self.broker.unsynced(shard) + 1);
                self.broker.sync_some(shard, records);
            }
            10..=11 if self.lazy => self.sync(),
            12 => {
                let seconds = self.rng.below(20);
                self.broker.advance(seconds as u64);
            }
            13 => {
                let hold = self.rng.one_in(2);
                self.broker.hold_reads(hold);
            }
            14 => {
                let hold = self.rng.one_in(2);
                self.broker.hold_peers(hold);
            }
            15 => {
                let which = self.rng.below(self.subscribers.len());
                let congested = self.rng.one_in(2);
                if let Some(link) = self.subscribers[which].link {
                    self.broker.congest(link, congested);
                }
            }
            16..=17 => {
                let shard = self.rng.below(self.shards);
                self.broker.pass_peer(shard);
                let shard = self.rng.below(self.shards);
                self.broker.answer_read(shard);
            }
            18..=27 => {
                let which = self.rng.below(self.publishers.len());
                self.publish(which);
            }
            28 if self.rng.one_in(4) => {
                self.broker.advance(6_000);
                for subscriber in &mut self.subscribers {
                    subscriber.may_be_gone = true;
                }
                for entry in &mut self.entries {
                    entry.group_owed = false;
                    entry.left = true;
                }
                for publisher in &mut self.publishers {
                    publisher.may_be_gone = true;
                }
            }
            29 if self.rng.one_in(2) => {
                let which = self.rng.below(self.subscribers.len());
                self.begin_anew(which);
            }
            _ => {
                let which = self.rng.below(self.subscribers.len());
                self.acknowledge(which);
            }
        }
    }

    /// A subscriber that has lost its memory: it wants a new session.
    fn begin_anew(&mut self, which: usize) {
        self.forget_subscriber(which);
        self.subscribers[which].may_be_gone = true;
        self.connect_subscriber(which, true);
    }

    /// Whatever a subscriber was owed belonged to a session that is over.
    fn forget_subscriber(&mut self, which: usize) {
        let subscriber = &mut self.subscribers[which];
        subscriber.unacknowledged.clear();
        subscriber.received.clear();
        subscriber.heard.clear();
        subscriber.order.clear();
        subscriber.acknowledged.clear();
        subscriber.settled.clear();
        subscriber.on_this_link.clear();
        self.release_promises(which);
    }

    fn release_promises(&mut self, which: usize) {
        self.subscribers[which].granted = false;
        if self.subscribers[which].shared {
            self.member_ended(which);
        }
        for entry in &mut self.entries {
            entry.owed.retain(|owed| *owed != which);
        }
    }

    /// What the session of a member had goes to another one, unless it was sent with QoS 2: then it
    /// may be gone with it. [MQTT-4.8.2-5]
    fn member_ended(&mut self, which: usize) {
        let stays = |it: &Subscriber| it.shared && it.granted && !it.may_be_gone;
        let others = self.subscribers.iter().any(stays);
        for entry in &mut self.entries {
            let sent_once = entry.qos.min(self.subscribers[which].qos) == 2;
            entry.group_owed &= others && !sent_once;
            entry.left = true;
        }
    }

    fn sync(&mut self) {
        self.broker.sync();
        self.settled();
    }

    /// What was acknowledged before is stored now, if nothing waits.
    fn settled(&mut self) {
        for shard in 0..self.shards {
            if self.broker.unsynced(shard) > 0 {
                return;
            }
        }
        for subscriber in &mut self.subscribers {
            let acknowledged = std::mem::take(&mut subscriber.acknowledged);
            subscriber.settled.extend(acknowledged);
        }
    }

    fn crash(&mut self) {
        let kept: Vec<usize> =
            (0..self.shards).map(|it| self.rng.below(self.broker.unsynced(it) + 1)).collect();
        for publisher in &self.publishers {
            for pending in &publisher.pending {
                self.entries[pending.number].crashed = true;
            }
        }
        if self.rng.one_in(3) {
            self.shards = [1, 2, 3, 4][self.rng.below(4)];
            self.several |= self.shards > 1;
        }
        self.broker.crash_keeping_into(&kept, u16::try_from(self.shards).unwrap());
        for publisher in &mut self.publishers {
            publisher.link = None;
        }
        for subscriber in &mut self.subscribers {
            subscriber.link = None;
            subscriber.acknowledged.clear();
        }
    }

    fn break_publisher(&mut self, which: usize) {
        let taken_over = self.rng.one_in(3);
        match self.publishers[which].link {
            Some(link) if !taken_over => {
                self.broker.lose(link);
                self.publishers[which].link = None;
            }
            _ => self.connect_publisher(which),
        }
    }

    fn connect_publisher(&mut self, which: usize) {
        let publisher = &self.publishers[which];
        let options =
            if publisher.lasting { lasting(&publisher.name, 5_000) } else { v5(&publisher.name) };
        let link = self.broker.connect(&options);
        self.publishers[which].link = Some(link);
    }

    fn break_subscriber(&mut self, which: usize) {
        let taken_over = self.rng.one_in(3);
        match self.subscribers[which].link {
            Some(link) if !taken_over => {
                self.broker.lose(link);
                self.subscribers[which].link = None;
            }
            _ => self.connect_subscriber(which, false),
        }
    }

    fn connect_subscriber(&mut self, which: usize, clean: bool) {
        let subscriber = &mut self.subscribers[which];
        let mut options = lasting(&subscriber.name, 5_000);
        options.clean = clean;
        let options = options.with(Property::ReceiveMaximum(subscriber.window));
        let (granted, qos) = (subscriber.granted, subscriber.qos);
        let link = self.broker.connect(&options);
        self.subscribers[which].link = Some(link);
        self.subscribers[which].on_this_link.clear();
        self.subscribers[which].unacknowledged.clear();
        if !granted {
            let shared = self.subscribers[which].shared;
            self.broker.subscribe(link, 1, &[filter(filter_of(shared), qos)]);
        }
    }

    fn publish(&mut self, which: usize) {
        if self.publishers[which].link.is_none() {
            self.connect_publisher(which);
            return;
        }
        let publisher = &mut self.publishers[which];
        // Before CONNACK it does not know what it has to send again first.
        let open = publisher.link.is_some_and(|link| self.broker.is_open(link));
        if !open || publisher.pending.len() >= 20 {
            return;
        }
        // A session that does not last is not resumed, so what it has not heard of is lost; QoS 0
        // neither is of it nor can be promised.
        let qos = u8::try_from(self.rng.below(3)).unwrap();
        let number = self.entries.len();
        let topic = self.rng.below(TOPICS);
        let id = if qos == 0 {
            0
        } else {
            loop {
                publisher.next_id = publisher.next_id % 50 + 1;
                let id = publisher.next_id;
                if publisher.pending.iter().all(|it| it.id != id) {
                    break id;
                }
            }
        };
        let granted = (0..self.subscribers.len()).filter(|it| self.subscribers[*it].granted);
        let (group, owed): (Vec<_>, Vec<_>) = granted.partition(|it| self.subscribers[*it].shared);
        // Nobody may be left of the group, and it is not known yet.
        let group_owed = group.iter().any(|it| !self.subscribers[*it].may_be_gone);
        self.entries.push(Entry {
            publisher: which,
            topic,
            qos,
            acknowledged: false,
            crashed: false,
            anew: false,
            retain: false,
            sends: 1,
            owed,
            group_owed,
            left: false,
            group_heard: BTreeSet::new(),
        });
        if qos > 0 {
            publisher.pending.push(Pending { id, number, released: false });
        }
        let mut sent = message(&topic_name(topic), &number.to_string(), qos, id);
        // One publisher and one QoS: between several, which is the last is for the server to say,
        // and a QoS 1 message sent again may come behind a QoS 2 one that is known already.
        if which == 0 && qos == 1 && self.rng.one_in(2) {
            sent = sent.retained();
            self.entries[number].retain = true;
        }
        let link = publisher.link.unwrap();
        self.broker.publish(link, &sent);
    }

    /// The publisher is back: everything it has no answer to is sent again. [MQTT-4.4.0-1]
    fn publish_again(&mut self, which: usize, present: bool) {
        let link = self.publishers[which].link.unwrap();
        let pending = self.publishers[which].pending.clone();
        let may_be_gone = std::mem::take(&mut self.publishers[which].may_be_gone);
        if !present {
            // Its state is gone, and with it what it was promised.
            for it in &mut self.publishers[which].pending {
                it.released = false;
            }
        }
        for it in pending {
            let entry = &mut self.entries[it.number];
            entry.anew |= !present || may_be_gone;
            if it.released && present {
                self.broker.pubrel(link, it.id);
                continue;
            }
            if it.released {
                // Taken over before: the Client does not send it again.
                self.publishers[which].pending.retain(|other| other.id != it.id);
                continue;
            }
            entry.sends += 1;
            let topic = topic_name(entry.topic);
            let mut sent = message(&topic, &it.number.to_string(), entry.qos, it.id).again();
            sent.retain = entry.retain;
            self.broker.publish(link, &sent);
        }
    }

    fn acknowledge(&mut self, which: usize) {
        let Some(link) = self.subscribers[which].link else {
            self.connect_subscriber(which, false);
            return;
        };
        let subscriber = &mut self.subscribers[which];
        if subscriber.unacknowledged.is_empty() {
            return;
        }
        let (id, number) = subscriber.unacknowledged.remove(0);
        if self.qos_for(which, number) == 1 {
            self.subscribers[which].acknowledged.insert(number);
            self.broker.puback(link, id);
        } else {
            self.subscribers[which].received.insert(id, number);
            self.broker.pubrec(link, id);
        }
    }

    fn qos_for(&self, subscriber: usize, number: usize) -> u8 {
        self.entries[number].qos.min(self.subscribers[subscriber].qos)
    }

    /// Everybody reads what has come.
    fn listen(&mut self) {
        loop {
            let mut quiet = true;
            for which in 0..self.publishers.len() {
                let Some(link) = self.publishers[which].link else { continue };
                for got in self.broker.got(link) {
                    quiet = false;
                    self.publisher_got(which, &got);
                }
                if let Some(cause) = self.broker.closed(link) {
                    assert_eq!(*cause, CloseCause::KeepAliveTimedOut);
                    self.publishers[which].link = None;
                }
            }
            for which in 0..self.subscribers.len() {
                let Some(link) = self.subscribers[which].link else { continue };
                for got in self.broker.got(link) {
                    quiet = false;
                    self.subscriber_got(which, &got);
                }
                if let Some(cause) = self.broker.closed(link) {
                    assert_eq!(*cause, CloseCause::KeepAliveTimedOut);
                    self.subscribers[which].link = None;
                }
            }
            if quiet {
                break;
            }
        }
        if !self.lazy {
            self.settled();
        }
    }

    fn publisher_got(&mut self, which: usize, got: &Got) {
        let link = self.publishers[which].link.unwrap();
        match got {
            Got::Connack { present, reason: ReasonCode::Success, .. } => {
                self.publish_again(which, *present);
            }
            Got::Puback(id, reason, _) => {
                assert!(!reason.is_error(), "{}", line(got));
                let number = self.answered(which, *id, false);
                assert_eq!(self.entries[number].qos, 1);
                self.acknowledged(number);
                self.publishers[which].pending.retain(|it| it.id != *id);
            }
            Got::Pubrec(id, reason) => {
                assert!(!reason.is_error(), "{}", line(got));
                let number = self.answered(which, *id, true);
                assert_eq!(self.entries[number].qos, 2);
                self.acknowledged(number);
                self.broker.pubrel(link, *id);
            }
            Got::Pubcomp(id, _) => {
                self.publishers[which].pending.retain(|it| it.id != *id);
            }
            Got::Disconnect(ReasonCode::KeepAliveTimeout) => {}
            other => panic!("publisher got {}", line(other)),
        }
    }

    fn acknowledged(&mut self, number: usize) {
        let entry = &mut self.entries[number];
        entry.acknowledged = true;
        if entry.retain {
            let kept = self.retained.entry(entry.topic).or_insert(number);
            *kept = number.max(*kept);
        }
    }

    fn answered(&mut self, which: usize, id: u16, released: bool) -> usize {
        let pending = self.publishers[which].pending.iter_mut().find(|it| it.id == id);
        let pending = pending.unwrap_or_else(|| panic!("answer to nothing: {id}"));
        pending.released = released;
        pending.number
    }

    fn subscriber_got(&mut self, which: usize, got: &Got) {
        let link = self.subscribers[which].link.unwrap();
        match got {
            Got::Connack { present, reason: ReasonCode::Success, .. } => {
                let subscriber = &mut self.subscribers[which];
                assert!(*present || !subscriber.granted || subscriber.may_be_gone, "session lost");
                if subscriber.may_be_gone {
                    // Also where there is one: it may be that of a connection whose CONNACK never
                    // came.
                    let (granted, qos) = (subscriber.granted, subscriber.qos);
                    if *present {
                        self.subscribers[which].received.clear();
                        self.release_promises(which);
                    } else {
                        self.forget_subscriber(which);
                    }
                    if granted {
                        let shared = self.subscribers[which].shared;
                        self.broker.subscribe(link, 1, &[filter(filter_of(shared), qos)]);
                    }
                }
                self.subscribers[which].may_be_gone = false;
            }
            Got::Disconnect(ReasonCode::KeepAliveTimeout) => {}
            Got::Suback(..) => self.subscribers[which].granted = true,
            Got::Publish(delivery) => self.delivered(which, delivery),
            Got::Pubrel(id, _) => {
                if let Some(number) = self.subscribers[which].received.remove(id) {
                    self.subscribers[which].acknowledged.insert(number);
                }
                self.broker.pubcomp(link, *id);
            }
            other => panic!("subscriber got {}", line(other)),
        }
    }

    fn delivered(&mut self, which: usize, delivery: &Delivery) {
        let number: usize = delivery.payload.parse().unwrap();
        let entry = self.entries[number].clone();
        let several = self.several;
        let subscriber = &mut self.subscribers[which];
        assert_eq!(delivery.topic, topic_name(entry.topic));
        if delivery.retain {
            assert!(!subscriber.shared, "a retained message for a Shared Subscription");
            // The reply to the subscription, which says nothing of order or of how often.
            if delivery.id > 0 {
                subscriber.unacknowledged.push((delivery.id, number));
            }
            subscriber.heard.entry(number).or_insert(1);
            return;
        }
        if delivery.qos == 0 {
            return;
        }
        assert_eq!(delivery.qos, entry.qos.min(subscriber.qos));
        if subscriber.shared {
            self.entries[number].group_heard.insert(which);
        }
        let in_use = subscriber.unacknowledged.iter().any(|(id, _)| *id == delivery.id);
        assert!(!in_use, "packet identifier {} is in use", delivery.id);
        assert!(
            subscriber.unacknowledged.len() < usize::from(subscriber.window),
            "more than the window"
        );
        subscriber.unacknowledged.push((delivery.id, number));
        if delivery.qos == 2
            && let Some(known) = subscriber.received.get(&delivery.id)
        {
            assert_eq!(*known, number, "identifier {} given to another message", delivery.id);
            assert!(delivery.dup, "not marked as a duplicate");
            return;
        }
        let once = match entry.qos {
            1 => entry.sends == 1,
            _ => !entry.anew,
        };
        // From one shard to another, a crash may leave it with both.
        let once = once && !(subscriber.shared && entry.left && several);
        if once {
            let settled = subscriber.settled.contains(&number);
            assert!(!settled, "{number} came again, acknowledged and stored");
            let first = subscriber.on_this_link.insert(number);
            assert!(first, "{number} came twice on one connection");
        }
        let heard = subscriber.heard.entry(number).or_insert(0);
        *heard += 1;
        if *heard == 1 {
            subscriber.order.push(number);
        }
        // A Client that has not sent PUBREC forgets what it got, as one that crashed would.
    }

    /// Everything is repaired, everybody comes back, and every promise is due.
    fn finish(&mut self) {
        self.lazy = false;
        self.broker.hold_peers(false);
        self.broker.hold_reads(false);
        self.broker.eager();
        self.listen();
        for which in 0..self.publishers.len() {
            if let Some(link) = self.publishers[which].link {
                self.broker.lose(link);
            }
            self.connect_publisher(which);
            self.listen();
        }
        for which in 0..self.subscribers.len() {
            if let Some(link) = self.subscribers[which].link {
                self.broker.lose(link);
            }
            self.connect_subscriber(which, false);
            self.listen();
        }
        loop {
            let mut done = true;
            for which in 0..self.subscribers.len() {
                while !self.subscribers[which].unacknowledged.is_empty() {
                    self.acknowledge(which);
                    self.listen();
                    done = false;
                }
            }
            if done {
                break;
            }
        }
        self.check_promises();
        self.check_group();
        self.check_retained();
        self.check_rows();
    }

    fn check_promises(&self) {
        for (which, subscriber) in self.subscribers.iter().enumerate() {
            for (number, entry) in self.entries.iter().enumerate() {
                if entry.qos == 0 || !entry.acknowledged || !entry.owed.contains(&which) {
                    continue;
                }
                let heard = subscriber.heard.contains_key(&number);
                assert!(heard, "{} never heard {number}: {entry:?}", subscriber.name);
            }
            let mut last = BTreeMap::new();
            for number in &subscriber.order {
                let entry = &self.entries[*number];
                // One from before the subscription may come when its publisher sends it again. A group
                // has no order: what one member returns comes to another behind later ones.
                // [MQTT-4.6.0-6]
                if entry.anew || entry.crashed || !entry.owed.contains(&which) {
                    continue;
                }
                let before = last.insert((entry.publisher, entry.topic, entry.qos), *number);
                assert!(
                    before.is_none_or(|before| before < *number),
                    "{} heard {number} behind {before:?}",
                    subscriber.name
                );
            }
        }
    }

    fn check_group(&self) {
        for (number, entry) in self.entries.iter().enumerate().filter(|(_, it)| it.qos > 0) {
            let heard = &entry.group_heard;
            let owed = entry.acknowledged && entry.group_owed;
            assert!(!owed || !heard.is_empty(), "nobody of the group heard {number}: {entry:?}");
            // Where it was left it was perhaps delivered before.
            let once = !entry.crashed && !entry.anew && !entry.left && entry.sends == 1;
            assert!(!once || heard.len() < 2, "{heard:?} of the group heard {number}: {entry:?}");
        }
    }

    fn check_retained(&mut self) {
        let link = self.broker.join(&v5("witness"));
        self.broker.subscribe(link, 1, &[filter("t/#", 0)]);
        let mut found = BTreeMap::new();
        for it in self.broker.got(link) {
            let Got::Publish(delivery) = it else { continue };
            let number: usize = delivery.payload.parse().unwrap();
            let other = found.insert(self.entries[number].topic, number);
            assert_eq!(other, None, "two retained messages of one topic");
        }
        for (topic, number) in &self.retained {
            let kept = found.get(topic);
            assert!(kept >= Some(number), "topic {topic}: {kept:?} retained, not {number}");
        }
    }

    /// Nothing is left behind of what is over.
    fn check_rows(&mut self) {
        let [_, _, queued, in_flight, garbage] = self.broker.session_rows();
        let left = self.broker.rows_of(RowKind::Queued);
        assert_eq!((queued, garbage), (0, 0), "rows left: {left:?}");
        let pending = self.publishers.iter().map(|it| it.pending.len()).sum::<usize>();
        let left = self.broker.rows_of(RowKind::InFlight);
        assert_eq!((in_flight, pending), (0, 0), "identifiers left: {left:?}");
        let left = self.broker.rows_of(RowKind::Reached);
        assert!(left.is_empty(), "marks left: {left:?}");
    }
}

/// Runs the history that a fuzzer's bytes choose, a choice each.
pub(crate) fn any_bytes(data: &[u8]) {
    // Its own choices take as many as there are steps, or more.
    Sim::new(Rng::Bytes(data.iter().copied().collect())).run(data.len().min(500) / 3);
}

/// Runs one seed and says which it was if it fails. The digest of all that happened.
fn history(seed: u64, steps: usize) -> u64 {
    let result = std::panic::catch_unwind(|| {
        let mut sim = Sim::new(Rng::Seed(seed));
        sim.run(steps);
        sim.broker.trace
    });
    match result {
        Ok(trace) => trace,
        Err(panic) => {
            eprintln!("replay with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SEEDS").unwrap_or(200)).collect(),
    }
}

#[test]
fn promises_survive_crashes_and_reconnects() {
    for seed in seeds() {
        history(seed, 400);
    }
}

#[test]
fn one_seed_gives_one_history() {
    for seed in seeds().into_iter().take(5) {
        assert_eq!(history(seed, 400), history(seed, 400), "SEED={seed}");
    }
}

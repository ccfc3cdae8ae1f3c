//! Retained messages for a new subscription come a piece at a time, as the Client takes them.

use std::collections::BTreeMap;

use tidings_core::codec::{Packet, Property, RetainHandling};
use tidings_core::record::RowKind;

use crate::harness::{Cluster, Delivery, Got, Link, filter, lasting, message, v5, v311};

/// The most that comes in one turn.
const PIECE: usize = 256;

/// A broker with so many retained messages, `s/0000` and so on, and who published them.
fn broker_with(shards: u16, count: usize) -> (Cluster, Link) {
    let mut broker = Cluster::new(shards);
    let alice = broker.join(&v5("alice"));
    for number in 0..count {
        broker.publish(alice, &message(&topic(number), "0", 1, 1).retained());
    }
    broker.received(alice);
    (broker, alice)
}

fn topic(number: usize) -> String {
    format!("s/{number:05}")
}

fn deliveries(broker: &mut Cluster, link: Link) -> Vec<Delivery> {
    let publish = |got| if let Got::Publish(delivery) = got { Some(delivery) } else { None };
    broker.got(link).into_iter().filter_map(publish).collect()
}

/// Reads and acknowledges until nothing more comes.
fn read_all(broker: &mut Cluster, link: Link) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let some = deliveries(broker, link);
        if some.is_empty() {
            return all;
        }
        for it in some.iter().filter(|it| it.qos == 1) {
            broker.puback(link, it.id);
        }
        all.extend(some);
    }
}

fn topics(of: &[Delivery]) -> Vec<&str> {
    let mut topics: Vec<_> = of.iter().map(|it| &it.topic[..]).collect();
    topics.sort_unstable();
    topics
}

fn all(count: usize) -> Vec<String> {
    (0..count).map(topic).collect()
}

#[test]
fn a_turn_is_bounded_in_messages_in_bytes_and_in_what_is_looked_at() {
    // [MQTT-3.3.1-9]
    for (qos, bob) in [(0, v5("bob")), (1, v5("bob")), (1, lasting("bob", 100))] {
        let (mut broker, _) = broker_with(1, 2 * PIECE + 10);
        let bob = broker.join(&bob);
        broker.hold_writes(true);
        broker.subscribe(bob, 1, &[filter("#", qos)]);
        let mut found = Vec::new();
        for turn in 0.. {
            let got = deliveries(&mut broker, bob);
            if got.is_empty() {
                break;
            }
            assert!(got.len() <= PIECE, "turn {turn}: {}", got.len());
            for it in got.iter().filter(|it| it.qos == 1) {
                broker.puback(bob, it.id);
            }
            broker.congest(bob, false);
            found.extend(got);
        }
        let found: Vec<_> = found.into_iter().map(|it| it.topic).collect();
        assert_eq!(found, all(2 * PIECE + 10), "QoS {qos}");
    }
    // Large ones: so many bytes, and one more message.
    let mut broker = Cluster::new(1);
    let alice = broker.join(&v5("alice"));
    for number in 0..20 {
        broker.publish(alice, &message(&topic(number), &"x".repeat(20_000), 1, 1).retained());
    }
    broker.hold_writes(true);
    for (wanted, turns) in [("#", [4, 4, 4, 4, 4]), ("+/#", [4, 4, 4, 4, 4])] {
        let bob = broker.join(&v5("bob"));
        broker.subscribe(bob, 1, &[filter(wanted, 0)]);
        for most in turns {
            assert_eq!(deliveries(&mut broker, bob).len(), most);
            broker.congest(bob, false);
        }
        assert!(deliveries(&mut broker, bob).is_empty());
    }
    // What does not match costs as well: the last of 5,000 names is not found in the first turn.
    let (mut broker, alice) = broker_with(1, 5_000);
    broker.publish(alice, &message("s/z/z", "0", 1, 1).retained());
    broker.hold_writes(true);
    let bob = broker.join(&v5("bob"));
    broker.subscribe(bob, 1, &[filter("+/+/z", 0)]);
    assert_eq!(broker.received(bob), ["SUBACK 1 [00]"]);
    broker.congest(bob, false);
    assert!(broker.received(bob).is_empty());
    broker.congest(bob, false);
    assert_eq!(broker.received(bob), ["PUBLISH q0 retain s/z/z=0"]);
}

#[test]
fn who_does_not_read_gets_no_more_and_holds_little() {
    const COUNT: usize = 20_000;
    for shards in [1, 2] {
        let (mut broker, _) = broker_with(shards, COUNT);
        for qos in [0, 1] {
            for bob in [v5("bob"), v311("bob"), lasting("bob", 100)] {
                let bob = broker.join(&bob.clean());
                broker.hold_writes(true);
                let filters = ["#", "+/#", "s/#", "s/+"].map(|it| filter(it, qos));
                for id in 1..100 {
                    broker.subscribe(bob, id, &filters);
                    broker.send(bob, &Packet::Pingreq);
                }
                assert!(broker.bytes_in_memory(bob) < 100_000, "{}", broker.bytes_in_memory(bob));
                let early = deliveries(&mut broker, bob);
                assert!(early.len() <= 3 * PIECE);
                // It is written, and takes no more.
                broker.congest(bob, true);
                for id in 100..200 {
                    broker.subscribe(bob, id, &filters);
                }
                assert!(broker.bytes_in_memory(bob) < 100_000, "{}", broker.bytes_in_memory(bob));
                assert!(deliveries(&mut broker, bob).is_empty());
                assert!(broker.rows_of(RowKind::Queued).len() <= 3 * PIECE);
                // Whoever reads after all gets all: nothing was dropped on the way.
                broker.hold_writes(false);
                broker.congest(bob, false);
                for it in early.iter().filter(|it| it.qos == 1) {
                    broker.puback(bob, it.id);
                }
                let found = read_all(&mut broker, bob).len();
                // Asked for again, what waited already comes twice.
                let all = 4 * COUNT - 3 * PIECE..=4 * COUNT + 3 * PIECE;
                assert!(all.contains(&found), "{found}, QoS {qos}");
                broker.lose(bob);
            }
        }
    }
}

#[test]
fn receive_maximum_holds_back_and_acknowledgements_bring_more() {
    // [MQTT-4.9.0-2]
    for shards in [1, 3] {
        let (mut broker, _) = broker_with(shards, 1_000);
        for bob in [v5("bob"), lasting("bob", 100)] {
            let bob = broker.join(&bob.clean().with(Property::ReceiveMaximum(7)));
            broker.subscribe(bob, 1, &[filter("#", 1)]);
            assert_eq!(deliveries(&mut broker, bob).len(), 7);
            broker.congest(bob, false);
            assert!(deliveries(&mut broker, bob).is_empty());
            assert!(broker.rows_of(RowKind::Queued).len() <= 2 * PIECE);
            for id in 1..8 {
                broker.puback(bob, id);
            }
            assert_eq!(read_all(&mut broker, bob).len(), 1_000 - 7, "{shards} shards");
            broker.lose(bob);
        }
    }
}

#[test]
fn no_value_comes_behind_a_newer_one_and_the_newest_comes_to_all_topics() {
    // The publisher, the owners of the topics and the subscriber on all shards there are; what is
    // replaced and removed meanwhile lies before the place, behind it and at it.
    const COUNT: usize = 600;
    for seed in 0..60_u64 {
        let shards = 1 + (seed % 4) as u16;
        let (mut broker, alice) = broker_with(shards, COUNT);
        let bob = broker.name_on("bob", seed as usize / 4 % usize::from(shards));
        let bob = broker.join(&v5(&bob));
        broker.hold_peers(true);
        broker.hold_writes(true);
        let qos = u8::from(seed % 2 == 0);
        broker.subscribe(bob, 1, &[filter(["#", "s/+", "+/#"][seed as usize % 3], qos)]);
        let mut random = seed;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (random >> 33) as usize % bound
        };
        let mut got = Vec::new();
        let mut newest = BTreeMap::new();
        for version in 1..2_000 {
            match below(10) {
                0 => {
                    let number = below(COUNT);
                    newest.insert(topic(number), version);
                    let value = version.to_string();
                    broker.publish(alice, &message(&topic(number), &value, 1, 2).retained());
                }
                1 => broker.congest(bob, false),
                2 if qos == 1 => {
                    let some = deliveries(&mut broker, bob);
                    for it in &some {
                        broker.puback(bob, it.id);
                    }
                    got.extend(some);
                }
                _ => drop(broker.pass_peer(below(usize::from(shards)))),
            }
        }
        broker.hold_peers(false);
        broker.hold_writes(false);
        broker.congest(bob, false);
        got.extend(read_all(&mut broker, bob));
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for Delivery { topic, payload, .. } in got {
            let version: usize = payload.parse().unwrap();
            let before = seen.insert(topic.clone(), version);
            assert!(before <= Some(version), "seed {seed}: {topic}={version} behind {before:?}");
        }
        assert_eq!(seen.len(), COUNT, "seed {seed}");
        for (topic, version) in newest {
            assert_eq!(seen[&topic], version, "seed {seed}: {topic}");
        }
    }
}

#[test]
fn what_is_removed_or_expires_before_its_turn_does_not_come() {
    let (mut broker, alice) = broker_with(1, 400);
    let last = message(&topic(401), "0", 1, 1).retained().with(Property::MessageExpiry(5));
    broker.publish(alice, &last);
    broker.hold_writes(true);
    let bob = broker.join(&v5("bob"));
    broker.subscribe(bob, 1, &[filter("#", 0)]);
    assert_eq!(deliveries(&mut broker, bob).len(), PIECE);
    broker.publish(alice, &message(&topic(0), "", 1, 1).retained());
    broker.publish(alice, &message(&topic(399), "", 1, 1).retained());
    broker.advance(6);
    let live = deliveries(&mut broker, bob);
    assert_eq!(topics(&live), [topic(0), topic(399)]);
    broker.congest(bob, false);
    assert_eq!(topics(&deliveries(&mut broker, bob)), all(399)[PIECE..]);
}

#[test]
fn unsubscribe_ends_it_and_subscribing_again_begins_it_again() {
    // [MQTT-3.10.4-2], [MQTT-3.3.1-11]
    for shards in [1, 3] {
        let (mut broker, _) = broker_with(shards, 1_000);
        for bob in [v5("bob"), lasting("bob", 100)] {
            let bob = broker.join(&bob.clean());
            broker.hold_writes(true);
            broker.subscribe(bob, 1, &[filter("#", 0)]);
            let first = deliveries(&mut broker, bob).len();
            assert!(first <= 2 * PIECE);
            broker.unsubscribe(bob, 2, &["#"]);
            broker.subscribe(bob, 3, &[filter("#", 0).handling(RetainHandling::DoNotSend)]);
            broker.hold_writes(false);
            broker.congest(bob, false);
            assert_eq!(read_all(&mut broker, bob), [], "after {first}, {shards} shards");
            // Asked for 200 times it comes once, behind what came before the last time; and who does
            // not ask for it anew is left what was asked for.
            broker.hold_writes(true);
            for id in 0..200 {
                broker.subscribe(bob, 4 + id, &[filter("#", 0)]);
            }
            let early = deliveries(&mut broker, bob).len();
            assert!(early <= 3 * PIECE, "{early}");
            broker.subscribe(bob, 999, &[filter("#", 0).handling(RetainHandling::SendIfNew)]);
            broker.hold_writes(false);
            broker.congest(bob, false);
            let rest = read_all(&mut broker, bob).len();
            assert!((1_000 - PIECE..=1_000).contains(&rest), "{early} and {rest}");
            broker.lose(bob);
        }
    }
}

#[test]
fn a_session_goes_on_where_its_connection_ended() {
    const COUNT: usize = 1_000;
    // How it ends: it is lost, taken over, lost and started anew, or a crash comes at once.
    for (shards, end) in [1, 3].into_iter().flat_map(|shards| (0..4).map(move |end| (shards, end)))
    {
        let (mut broker, _) = broker_with(shards, COUNT);
        let mut bob = broker.join(&lasting("bob", 100));
        let filters = [("#", 1), ("s/#", 1), ("+/+", 0)].map(|(it, qos)| filter(it, qos));
        broker.subscribe(bob, 1, &filters);
        let mut got = Vec::new();
        for _ in 0..3 {
            let some = deliveries(&mut broker, bob);
            assert!(some.len() <= 64, "the window: {}", some.len());
            for it in &some {
                broker.puback(bob, it.id);
            }
            got.extend(some);
        }
        match end {
            0 => broker.lose(bob),
            1 => {}
            2 => {
                broker.lose(bob);
                broker.crash();
            }
            _ => broker.crash(),
        }
        bob = broker.join(&lasting("bob", 100));
        got.extend(read_all(&mut broker, bob));
        let mut found = topics(&got);
        found.dedup();
        assert_eq!(found, all(COUNT), "{shards} shards, end {end}");
        // Each filter's once, and after a crash from the beginning; QoS 0 ended with its connection.
        let most = if end < 2 { 2 * COUNT + 64 } else { 3 * COUNT };
        assert!((2 * COUNT..=most).contains(&got.len()), "{}, end {end}", got.len());
        assert!(got.iter().all(|it| it.qos == 1 && it.retain));
        // Then it is over, also for a crash.
        broker.crash();
        bob = broker.join(&lasting("bob", 100));
        assert_eq!(read_all(&mut broker, bob), []);
        assert_eq!(broker.session_rows(), [1, 3, 0, 0, 0]);
    }
}

#[test]
fn a_new_value_is_retained_before_anybody_gets_it() {
    // The subscriber's shard owns the topic and the publisher is on another one: what tells them of
    // the new value comes in two parts, and a piece is looked for between the two.
    let mut broker = Cluster::new(2);
    let alice = broker.name_on("alice", 0);
    let alice = broker.join(&v5(&alice));
    let topics: Vec<String> =
        (0..).map(topic).filter(|it| broker.owner_of(it) == 1).take(300).collect();
    for topic in &topics {
        broker.publish(alice, &message(topic, "old", 1, 1).retained());
    }
    let bob = broker.name_on("bob", 1);
    let bob = broker.join(&v5(&bob));
    broker.hold_writes(true);
    broker.subscribe(bob, 1, &[filter("#", 0)]);
    broker.hold_peers(true);
    broker.publish(alice, &message(&topics[299], "new", 1, 1).retained());
    let mut got = deliveries(&mut broker, bob);
    while broker.pass_peer(1) {
        broker.congest(bob, false);
        got.extend(deliveries(&mut broker, bob));
    }
    broker.hold_peers(false);
    broker.congest(bob, false);
    got.extend(deliveries(&mut broker, bob));
    let values: Vec<_> = got.iter().filter(|it| it.topic == topics[299]).collect();
    assert!(!values.is_empty() && values.iter().all(|it| it.payload == "new"), "{values:?}");
}

#[test]
fn a_question_that_is_open_is_nobodys_loss() {
    // The connection ends, or the Client subscribes anew or ends the subscription, at every step of
    // what passes between three shards.
    const COUNT: usize = 400;
    for (what, steps) in (0..4).flat_map(|what| (0..24).map(move |steps| (what, steps))) {
        let (mut broker, _) = broker_with(3, COUNT);
        let name = broker.name_on("bob", 0);
        let mut bob = broker.join(&lasting(&name, 100));
        broker.hold_peers(true);
        broker.subscribe(bob, 1, &[filter("#", 1)]);
        for step in 0..steps {
            broker.pass_peer(step % 3);
        }
        let early = broker.got(bob);
        let heard = early.iter().any(|it| matches!(it, Got::Suback(..)));
        let early = early.into_iter().filter_map(|it| match it {
            Got::Publish(delivery) => Some(delivery),
            _ => None,
        });
        let mut got: Vec<_> = early.collect();
        for it in &got {
            broker.puback(bob, it.id);
        }
        let context = format!("{what} after {steps} steps");
        match what {
            // Answers come to nobody.
            0 => {
                broker.lose(bob);
                broker.hold_peers(false);
                bob = broker.join(&lasting(&name, 100));
            }
            // Or to the next connection.
            1 => {
                bob = broker.join(&lasting(&name, 100));
                broker.hold_peers(false);
            }
            2 => {
                broker.subscribe(bob, 2, &[filter("#", 1)]);
                broker.hold_peers(false);
            }
            _ => {
                broker.unsubscribe(bob, 2, &["#"]);
                broker.subscribe(bob, 3, &[filter("#", 1).handling(RetainHandling::DoNotSend)]);
                let waiting = deliveries(&mut broker, bob);
                for it in &waiting {
                    broker.puback(bob, it.id);
                }
                broker.hold_peers(false);
                got.extend(waiting);
                got.extend(read_all(&mut broker, bob));
                assert!(got.len() < COUNT || steps > 12, "{context}: {}", got.len());
                continue;
            }
        }
        if what == 2 {
            // All of them anew, whatever came before.
            got.clear();
        }
        got.extend(read_all(&mut broker, bob));
        let mut found = topics(&got);
        found.dedup();
        if heard || what == 2 {
            assert_eq!(found, all(COUNT), "{context}");
        }
    }
}

#[test]
fn messages_that_are_published_meanwhile_do_not_wait_for_the_last_piece() {
    for shards in [1, 2] {
        let (mut broker, alice) = broker_with(shards, 10 * PIECE);
        broker.hold_writes(true);
        let bob = broker.join(&v5("bob"));
        broker.subscribe(bob, 1, &[filter("#", 1)]);
        for number in 0..5 {
            broker.publish(alice, &message("live", &number.to_string(), 1, 2));
            // What waited goes first, then a piece of what is retained.
            let mut turns = 0;
            loop {
                let got = deliveries(&mut broker, bob);
                for it in &got {
                    broker.puback(bob, it.id);
                }
                if got.iter().any(|it| !it.retain) {
                    break;
                }
                broker.congest(bob, false);
                turns += 1;
            }
            assert!(turns <= 8, "{number} came after {turns} turns of 64 messages");
        }
        assert!(read_all(&mut broker, bob).len() < PIECE, "there were more to come");
        broker.hold_writes(false);
        broker.congest(bob, false);
        assert!(read_all(&mut broker, bob).len() > PIECE);
    }
}

#[test]
fn what_is_published_behind_a_subscription_made_anew_does_not_come_a_second_time() {
    // The owner of the topic is another shard, at every pace of the two.
    for pace in 0..8 {
        let mut broker = Cluster::new(2);
        let topic = broker.topic_on("t", 1);
        let bob = broker.name_on("bob", 0);
        let bob = broker.join(&v5(&bob));
        let subacks = |got: &[Got]| got.iter().filter(|it| matches!(it, Got::Suback(..))).count();
        broker.hold_peers(true);
        broker.subscribe(bob, 1, &[filter(&topic, 1)]);
        broker.subscribe(bob, 2, &[filter(&topic, 1)]);
        let mut got = broker.got(bob);
        for step in 0.. {
            if subacks(&got) == 2 {
                break;
            }
            let first = (step % 2) ^ usize::from(step >= pace);
            if !broker.pass_peer(first) {
                broker.pass_peer(1 - first);
            }
            got.extend(broker.got(bob));
        }
        broker.publish(bob, &message(&topic, "live", 1, 3).retained());
        broker.hold_peers(false);
        got.extend(broker.got(bob));
        let came = got.iter().filter(|it| matches!(it, Got::Publish(_))).count();
        assert_eq!(came, 1, "pace {pace}: {got:?}");
    }
}

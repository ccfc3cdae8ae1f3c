//! Retained messages: set, replaced, removed, and how subscribing asks for them.

use tidings_core::codec::{Property, RetainHandling};
use tidings_core::limits::Limits;
use tidings_core::record::RowKind;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Got, filter, lasting, message, v5};

#[test]
fn last_retained_message_comes_with_a_subscription_from_any_shard() {
    // [MQTT-3.3.1-5] to [MQTT-3.3.1-9]
    for shards in [1, 2, 4] {
        for crash in [false, true] {
            let mut broker = Cluster::new(shards);
            let alice = broker.join(&v5("alice"));
            for (id, topic) in (1..).zip(["a/1", "a/2", "a/3", "a/4"]) {
                broker.publish(alice, &message(topic, "old", 1, id).retained());
                broker.publish(alice, &message(topic, topic, 1, id).retained());
            }
            broker.publish(alice, &message("a/3", "", 1, 9).retained());
            broker.publish(alice, &message("a/4", "passes", 1, 10));
            if crash {
                broker.crash();
            }
            let bob = broker.join(&lasting("bob", 100));
            broker.subscribe(bob, 1, &[filter("a/+", 1)]);
            let mut got = broker.received(bob);
            assert_eq!(got.remove(0), "SUBACK 1 [01]");
            for line in &mut got {
                *line = line.replace(" 1 ", " ").replace(" 2 ", " ").replace(" 3 ", " ");
            }
            got.sort();
            let expected = [
                "PUBLISH q1 retain a/1=a/1",
                "PUBLISH q1 retain a/2=a/2",
                "PUBLISH q1 retain a/4=a/4",
            ];
            assert_eq!(got, expected);
        }
    }
}

#[test]
fn retain_handling_asks_always_once_or_never() {
    // [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-4]
    for shards in [1, 2] {
        let mut broker = Cluster::new(shards);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("a", "kept", 1, 1).retained());
        let name = broker.name_on("bob", broker.owner_of("a"));
        let bob = broker.join(&v5(&name));
        let asking = |handling| [filter("a", 0).handling(handling)];
        let mut comes = |handling| {
            broker.subscribe(bob, 1, &asking(handling));
            broker.received(bob).len() == 2
        };
        assert!(!comes(RetainHandling::DoNotSend));
        assert!(!comes(RetainHandling::SendIfNew));
        assert!(comes(RetainHandling::Send) && comes(RetainHandling::Send));
        broker.unsubscribe(bob, 2, &["a"]);
        broker.received(bob);
        let mut comes = |handling| {
            broker.subscribe(bob, 1, &asking(handling));
            broker.received(bob).len() == 2
        };
        assert!(comes(RetainHandling::SendIfNew) && !comes(RetainHandling::SendIfNew));
    }
}

#[test]
fn retain_flag_is_forwarded_where_the_subscription_asks() {
    // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    let mut broker = Cluster::new(2);
    let alice = broker.join(&v5("alice"));
    let bob = broker.join(&v5("bob"));
    broker.subscribe(bob, 1, &[filter("a", 0)]);
    let eve = broker.join(&v5("eve"));
    broker.subscribe(eve, 1, &[filter("a", 0).retain_as_published()]);
    broker.publish(alice, &message("a", "1", 0, 0).retained());
    broker.publish(alice, &message("a", "2", 0, 0));
    assert_eq!(broker.received(bob)[1..], ["PUBLISH q0 a=1", "PUBLISH q0 a=2"]);
    assert_eq!(broker.received(eve)[1..], ["PUBLISH q0 retain a=1", "PUBLISH q0 a=2"]);
}

#[test]
fn expired_retained_message_is_not_sent_and_another_counts_down() {
    // [MQTT-3.3.2-6]
    let mut broker = Cluster::new(1);
    let alice = broker.join(&v5("alice"));
    let short = message("a", "1", 0, 0).retained().with(Property::MessageExpiry(5));
    broker.publish(alice, &short);
    let long = message("b", "2", 0, 0).retained().with(Property::MessageExpiry(15));
    broker.publish(alice, &long);
    broker.advance(5);
    let bob = broker.join(&v5("bob"));
    broker.subscribe(bob, 1, &[filter("#", 0)]);
    assert_eq!(broker.received(bob)[1..], ["PUBLISH q0 retain expiry=10 b=2"]);
}

#[test]
fn retained_message_comes_to_nobody_before_it_is_stored() {
    for shards in [1, 2, 3] {
        for subscriber in 0..shards {
            let mut broker = Cluster::new(shards);
            let alice = broker.join(&v5("alice"));
            let bob = broker.name_on("bob", usize::from(subscriber));
            let bob = broker.join(&v5(&bob));
            broker.lazy();
            broker.publish(alice, &message("a", "new", 1, 1).retained());
            broker.subscribe(bob, 1, &[filter("a", 1)]);
            let early = broker.received(bob);
            assert!(early.len() < 2, "{subscriber} of {shards}: {early:?}");
            broker.sync();
            let all = [early, broker.received(bob)].concat();
            assert_eq!(all, ["SUBACK 1 [01]", "PUBLISH q1 1 retain a=new"]);
        }
    }
}

#[test]
fn removal_is_acknowledged_only_when_it_is_stored() {
    let mut broker = Cluster::new(1);
    let alice = broker.join(&v5("alice"));
    let eve = broker.join(&v5("eve"));
    broker.publish(alice, &message("a", "1", 1, 1).retained());
    broker.lazy();
    broker.received(alice);
    broker.publish(alice, &message("a", "", 1, 2).retained());
    broker.publish(eve, &message("a", "", 1, 1).retained());
    assert!(broker.received(alice).is_empty() && broker.received(eve).is_empty());
    broker.sync();
    assert_eq!(broker.received(eve), ["PUBACK 1 10"]);
}

#[test]
fn subscriber_never_ends_with_an_outdated_value() {
    // All orders in which the messages between four shards can pass: publisher, owner of the
    // topic, subscriber.
    let mut orders = 0;
    for seed in 0..500_u64 {
        let mut broker = Cluster::new(3);
        let alice = broker.name_on("alice", 0);
        let alice = broker.join(&v5(&alice));
        let topic = broker.topic_on("t", 1);
        broker.publish(alice, &message(&topic, "old", 1, 1).retained());
        let bob = broker.name_on("bob", 2);
        let bob = broker.join(&v5(&bob));
        broker.hold_peers(true);
        broker.subscribe(bob, 1, &[filter("#", 1)]);
        let mut random = seed;
        for step in 0..40 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let shard = usize::try_from(random >> 33).unwrap() % 3;
            broker.pass_peer(shard);
            if step == seed % 20 {
                broker.publish(alice, &message(&topic, "new", 1, 2).retained());
            }
        }
        broker.hold_peers(false);
        let got = broker.received(bob);
        assert!(got.last().is_some_and(|line| line.ends_with("=new")), "seed {seed}: {got:?}");
        orders += usize::from(got.len() > 2);
    }
    assert!(orders > 0, "no order in which both values came");
}

#[test]
fn expired_retained_message_makes_room_and_leaves_no_row() {
    let limits = Limits { retained_messages_max: 2, ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let alice = broker.join(&v5("alice"));
    let expiring = |topic: &str, seconds| {
        message(topic, "x", 1, 1).retained().with(Property::MessageExpiry(seconds))
    };
    broker.publish(alice, &expiring("a", 10));
    broker.publish(alice, &expiring("b", 10));
    // The newer one counts, also where it does not expire.
    broker.publish(alice, &message("b", "y", 1, 1).retained());
    broker.received(alice);
    broker.publish(alice, &message("c", "z", 1, 1).retained());
    assert_eq!(broker.received(alice), ["PUBACK 1 97"]);
    broker.crash();
    broker.advance(11);
    assert_eq!(broker.rows_of(RowKind::Retained).len(), 1);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("c", "z", 1, 1).retained());
    assert_eq!(broker.received(alice), ["PUBACK 1 10"]);
    broker.subscribe(alice, 2, &[filter("#", 0)]);
    let expected = ["SUBACK 2 [00]", "PUBLISH q0 retain b=y", "PUBLISH q0 retain c=z"];
    assert_eq!(broker.received(alice), expected);
}

#[test]
fn many_and_large_retained_messages_all_come_with_qos_0() {
    // [MQTT-3.3.1-9]
    for shards in [1, 2] {
        let mut broker = Cluster::new(shards);
        let alice = broker.join(&v5("alice"));
        let large = "x".repeat(60_000);
        for number in 0..12_u16 {
            broker.publish(alice, &message(&format!("l/{number}"), &large, 1, 1).retained());
        }
        for number in 0..300_u16 {
            broker.publish(alice, &message(&format!("s/{number}"), "x", 1, 1).retained());
        }
        for (filters, count) in [("l/+", 12), ("s/+", 300)] {
            for bob in [v5("bob"), lasting("bob", 100)] {
                let bob = broker.join(&bob);
                broker.subscribe(bob, 1, &[filter(filters, 0)]);
                assert_eq!(broker.received(bob).len(), 1 + count, "{filters} on {shards} shards");
            }
        }
    }
}

#[test]
fn retained_messages_of_many_filters_come_as_they_are_taken() {
    // [MQTT-3.3.1-9]
    for shards in [1, 2] {
        let mut broker = Cluster::new(shards);
        let alice = broker.join(&v5("alice"));
        for number in 0..600_u16 {
            broker.publish(alice, &message(&format!("s/{number}"), "x", 1, 1).retained());
        }
        // A packet of a kilobyte that asks for 153,600 messages.
        let repeated = vec!["#"; 256];
        // Each of these finds the same.
        let different = ["#", "+/#", "s/#", "s/+", "+/+"].to_vec();
        for (filters, least, most) in [(repeated, 600, 40_000), (different, 3_000, 3_000)] {
            for qos in [0, 1] {
                for bob in [v5("bob"), lasting("bob", 100)] {
                    let bob = broker.join(&bob.clean());
                    let filters: Vec<_> = filters.iter().map(|it| filter(it, qos)).collect();
                    broker.subscribe(bob, 1, &filters);
                    let mut found = 0;
                    loop {
                        let got = broker.got(bob);
                        if got.is_empty() {
                            break;
                        }
                        for it in got {
                            let Got::Publish(delivery) = it else { continue };
                            found += 1;
                            if qos == 1 {
                                broker.puback(bob, delivery.id);
                            }
                        }
                    }
                    assert!((least..=most).contains(&found), "{found}, QoS {qos}, {shards} shards");
                    broker.lose(bob);
                }
            }
        }
    }
}

//! PUBLISH to Clients: window, order, redelivery, queues larger than memory, expiry, subscriptions.

use tidings_core::codec::{Ack, Packet, Property, ReasonCode};

use crate::harness::{Cluster, Link, filter, lasting, message, packet_id, v5, v311};

/// A broker, a publisher and a subscriber to `a` with `qos`.
fn pair(shards: u16, bob: &crate::harness::Options, qos: u8) -> (Cluster, Link, Link) {
    let mut broker = Cluster::new(shards);
    let alice = broker.join(&v5("alice"));
    let bob = broker.join(bob);
    broker.listen(bob, "a", qos);
    (broker, alice, bob)
}

#[test]
fn exhausted_quota_holds_back_publish_only() {
    // [MQTT-4.9.0-2], [MQTT-4.9.0-3], [MQTT-3.3.4-9]
    let (mut broker, alice, bob) = pair(1, &v5("bob").with(Property::ReceiveMaximum(2)), 2);
    for id in 1..=4 {
        let qos = if id == 2 { 2 } else { 1 };
        broker.publish(alice, &message("a", &id.to_string(), qos, id));
    }
    broker.publish(alice, &message("a", "now", 0, 0));
    broker.send(bob, &Packet::Pingreq);
    let expected = ["PUBLISH q1 1 a=1", "PUBLISH q2 2 a=2", "PUBLISH q0 a=now", "PINGRESP"];
    assert_eq!(broker.received(bob), expected);
    broker.pubrec(bob, 2);
    assert_eq!(broker.received(bob), ["PUBREL 2"]);
    broker.pubcomp(bob, 2);
    assert_eq!(broker.received(bob), ["PUBLISH q1 3 a=3"]);
    broker.puback(bob, 1);
    assert_eq!(broker.received(bob), ["PUBLISH q1 4 a=4"]);
}

#[test]
fn acknowledgement_of_an_unused_identifier_frees_nothing() {
    let (mut broker, alice, bob) = pair(1, &v5("bob").with(Property::ReceiveMaximum(2)), 2);
    for (id, qos) in [(1, 1), (2, 2), (3, 1)] {
        broker.publish(alice, &message("a", &id.to_string(), qos, id));
    }
    broker.received(bob);
    broker.puback(bob, 9);
    broker.pubcomp(bob, 9);
    assert!(broker.received(bob).is_empty());
    broker.pubrec(bob, 9);
    assert_eq!(broker.received(bob), ["PUBREL 9 92"]);
    broker.puback(bob, 1);
    assert_eq!(broker.received(bob), ["PUBLISH q1 3 a=3"]);
}

#[test]
fn acknowledgement_out_of_turn_is_a_protocol_error() {
    let wrong: [fn(&mut Cluster, Link); 4] = [
        |broker, bob| broker.pubcomp(bob, 1),
        |broker, bob| broker.pubrec(bob, 1),
        |broker, bob| broker.puback(bob, 2),
        |broker, bob| broker.pubcomp(bob, 2),
    ];
    for acknowledge in wrong {
        let (mut broker, alice, bob) = pair(1, &v5("bob"), 2);
        for (id, qos) in [(1, 1), (2, 2)] {
            broker.publish(alice, &message("a", &id.to_string(), qos, id));
        }
        broker.received(bob);
        acknowledge(&mut broker, bob);
        assert_eq!(broker.received(bob), ["DISCONNECT 82"]);
    }
}

#[test]
fn repeated_pubrec_gets_pubrel_again() {
    // [MQTT-4.3.3-4]
    let (mut broker, alice, bob) = pair(1, &v311("bob"), 2);
    broker.publish(alice, &message("a", "1", 2, 1));
    broker.pubrec(bob, 1);
    broker.pubrec(bob, 1);
    assert_eq!(broker.received(bob), ["PUBLISH q2 1 a=1", "PUBREL 1", "PUBREL 1"]);
}

#[test]
fn resumed_session_gets_what_is_in_flight_again() {
    // [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.3.3-6]
    for takeover in [false, true] {
        for stored in [false, true] {
            let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 2);
            for (id, qos) in [(1, 1), (2, 2), (3, 2), (4, 1), (5, 1)] {
                broker.publish(alice, &message("a", &id.to_string(), qos, id));
            }
            broker.pubrec(bob, 3);
            broker.puback(bob, 4);
            broker.received(bob);
            if !takeover {
                broker.lose(bob);
            }
            if stored && !takeover {
                broker.crash();
            }
            let bob = broker.connect(&lasting("bob", 100));
            let expected = [
                "CONNACK present",
                "PUBLISH q1 1 dup a=1",
                "PUBLISH q2 2 dup a=2",
                "PUBREL 3",
                "PUBLISH q1 5 dup a=5",
            ];
            assert_eq!(broker.received(bob), expected);
            // Identifiers in use are not given to others. [MQTT-2.2.1-4]
            let alice = broker.join(&v5("alice"));
            broker.publish(alice, &message("a", "6", 1, 1));
            assert_eq!(broker.received(bob), ["PUBLISH q1 6 a=6"]);
        }
    }
}

#[test]
fn resumed_session_gets_no_pubrel_before_a_crash_cannot_undo_pubrec() {
    // [MQTT-4.3.3-1]
    for comes_twice in [false, true] {
        let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 2);
        broker.publish(alice, &message("a", "1", 2, 1));
        assert_eq!(broker.received(bob), ["PUBLISH q2 1 a=1"]);
        broker.lazy();
        broker.pubrec(bob, 1);
        broker.lose(bob);
        let mut bob = broker.connect(&lasting("bob", 100));
        if comes_twice {
            broker.lose(bob);
            bob = broker.connect(&lasting("bob", 100));
        }
        assert_eq!(broker.received(bob), [""; 0]);
        broker.sync();
        assert_eq!(broker.received(bob), ["CONNACK present", "PUBREL 1"]);
    }
}

#[test]
fn what_a_resumed_session_was_sent_from_its_queue_has_dup_after_a_crash() {
    // [MQTT-3.3.1-1]
    let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 1);
    broker.lose(bob);
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.sync();
    broker.lazy();
    let bob = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(bob), [""; 0]);
    broker.sync();
    assert_eq!(broker.received(bob), ["CONNACK present", "PUBLISH q1 1 a=1"]);
    broker.crash();
    let bob = broker.connect(&lasting("bob", 100));
    broker.sync();
    assert_eq!(broker.received(bob), ["CONNACK present", "PUBLISH q1 1 dup a=1"]);
}

#[test]
fn pubrel_is_not_held_back_by_messages_without_permit() {
    // [MQTT-4.9.0-3]
    let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 2);
    for id in 1..=3 {
        broker.publish(alice, &message("a", &id.to_string(), 2, id));
    }
    broker.pubrec(bob, 3);
    broker.lose(bob);
    let bob = broker.join(&lasting("bob", 100).with(Property::ReceiveMaximum(1)));
    assert_eq!(broker.received(bob), ["PUBLISH q2 1 dup a=1", "PUBREL 3"]);
    // PUBREL took no permit of this connection, so PUBCOMP gives none.
    broker.pubcomp(bob, 3);
    assert!(broker.received(bob).is_empty());
}

#[test]
fn refused_delivery_is_over() {
    // [MQTT-4.4.0-2]
    let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 2);
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.publish(alice, &message("a", "2", 2, 2));
    let refusal = |id| Ack { reason: ReasonCode::QuotaExceeded, ..Ack::success(packet_id(id)) };
    broker.send(bob, &Packet::Puback(refusal(1)));
    broker.send(bob, &Packet::Pubrec(refusal(2)));
    broker.lose(bob);
    let bob = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(bob), ["CONNACK present"]);
    assert_eq!(broker.session_rows(), [1, 1, 0, 0, 0]);
}

#[test]
fn crash_loses_no_message_in_flight_of_either_qos() {
    let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 2);
    for (id, qos) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
        broker.publish(alice, &message("a", &id.to_string(), qos, id));
    }
    broker.pubrec(bob, 4);
    broker.crash();
    let bob = broker.connect(&lasting("bob", 100));
    let expected = [
        "CONNACK present",
        "PUBLISH q2 2 dup a=2",
        "PUBREL 4",
        "PUBLISH q1 5 dup a=1",
        "PUBLISH q1 6 dup a=3",
    ];
    assert_eq!(broker.received(bob), expected);
    for id in [5, 6] {
        broker.puback(bob, id);
    }
    broker.pubcomp(bob, 4);
    broker.pubrec(bob, 2);
    broker.pubcomp(bob, 2);
    assert_eq!(broker.session_rows(), [1, 1, 0, 0, 0]);
}

#[test]
fn acknowledged_and_stored_messages_do_not_come_again() {
    let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 1);
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.publish(alice, &message("a", "2", 1, 2));
    broker.puback(bob, 1);
    broker.crash();
    let bob = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(bob), ["CONNACK present", "PUBLISH q1 1 dup a=2"]);
}

#[test]
fn what_may_have_been_sent_before_a_crash_is_marked_as_sent_again() {
    // [MQTT-3.3.1-1]
    let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 1);
    let away = broker.join(&lasting("away", 100));
    broker.listen(away, "a", 1);
    broker.lose(away);
    broker.publish(alice, &message("a", "1", 1, 1));
    assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=1"]);
    broker.crash();
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("a", "2", 1, 2));
    for name in ["bob", "bob", "away"] {
        let link = broker.connect(&lasting(name, 100));
        broker.hold_writes(false);
        let dup = if name == "bob" { " dup" } else { "" };
        let got = broker.received(link);
        assert_eq!(got[1], format!("PUBLISH q1 1{dup} a=1"), "{name}");
        broker.lose(link);
    }
    let bob = broker.connect(&lasting("bob", 100));
    let expected = ["CONNACK present", "PUBLISH q1 1 dup a=1", "PUBLISH q1 2 dup a=2"];
    assert_eq!(broker.received(bob), expected);
}

/// Acknowledges whatever comes until nothing comes, and returns the payloads.
fn drain(broker: &mut Cluster, bob: Link) -> Vec<String> {
    let mut payloads = Vec::new();
    loop {
        let got = broker.got(bob);
        if got.is_empty() {
            return payloads;
        }
        for it in got {
            if let crate::harness::Got::Publish(delivery) = it {
                payloads.push(delivery.payload);
                broker.puback(bob, delivery.id);
            }
        }
    }
}

#[test]
fn what_comes_while_the_store_is_busy_goes_on_from_memory() {
    let options = lasting("bob", 100);
    let (mut broker, alice, bob) = pair(1, &options, 1);
    let others = ["carol", "dave"].map(|name| broker.join(&v5(name)));
    let publish = |broker: &mut Cluster| {
        for alice in [alice, others[0], others[1]] {
            for id in 1..=60 {
                broker.publish(alice, &message("a", &id.to_string(), 1, id));
            }
        }
    };
    broker.lazy();
    publish(&mut broker);
    broker.eager();
    let expected: Vec<_> = (0..3).flat_map(|_| (1..=60).map(|it| it.to_string())).collect();
    assert_eq!((drain(&mut broker, bob), broker.reads()), (expected.clone(), 0));
    // A Client that is slow is another matter.
    publish(&mut broker);
    assert_eq!(drain(&mut broker, bob), expected);
    assert!(broker.reads() > 0);
}

#[test]
fn queue_larger_than_memory_is_read_back_in_order_while_new_messages_come() {
    for crash in [false, true] {
        for online in [false, true] {
            let options = lasting("bob", 100).with(Property::ReceiveMaximum(5));
            let (mut broker, alice, mut bob) = pair(2, &options, 1);
            if !online {
                broker.lose(bob);
            }
            for id in 1..=300 {
                broker.publish(alice, &message("a", &id.to_string(), 1, id));
            }
            if crash {
                broker.crash();
            }
            if !online || crash {
                bob = broker.join(&options);
            }
            let alice = broker.join(&v5("alice"));
            let mut payloads = Vec::new();
            for id in 301..=400 {
                broker.publish(alice, &message("a", &id.to_string(), 1, id));
                let got = broker.got(bob);
                for it in got {
                    if let crate::harness::Got::Publish(delivery) = it {
                        payloads.push(delivery.payload);
                        broker.puback(bob, delivery.id);
                    }
                }
            }
            payloads.extend(drain(&mut broker, bob));
            let expected: Vec<String> = (1..=400).map(|it| it.to_string()).collect();
            assert_eq!(payloads, expected, "crash {crash}, online {online}");
            assert_eq!(broker.session_rows(), [1, 1, 0, 0, 0]);
        }
    }
}

#[test]
fn messages_read_back_are_not_sent_before_they_are_stored() {
    let (mut broker, alice, bob) = pair(1, &lasting("bob", 5_000), 1);
    let publish = |broker: &mut Cluster, numbers: std::ops::RangeInclusive<u16>| {
        for number in numbers {
            broker.publish(alice, &message("a", &number.to_string(), 1, number));
        }
    };
    publish(&mut broker, 1..=200);
    broker.lazy();
    publish(&mut broker, 201..=205);
    let heard = drain(&mut broker, bob);
    assert!(!heard.contains(&"201".to_owned()), "{heard:?}");
    broker.sync();
    let rest = drain(&mut broker, bob);
    assert_eq!(rest.last().map(|it| &it[..]), Some("205"));
    assert_eq!(heard.len() + rest.len(), 205);
}

#[test]
fn slow_reader_misses_qos_0_and_nothing_else() {
    let (mut broker, alice, bob) = pair(1, &v5("bob"), 1);
    broker.congest(bob, true);
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.publish(alice, &message("a", "0", 0, 0));
    assert!(broker.received(bob).is_empty());
    broker.congest(bob, false);
    assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=1"]);
}

#[test]
fn message_too_large_for_the_client_counts_as_sent() {
    // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
    for qos in 0..=2 {
        for options in [v5("bob"), lasting("bob", 100)] {
            let options = options.with(Property::MaximumPacketSize(50));
            let (mut broker, alice, bob) = pair(1, &options, qos);
            broker.publish(alice, &message("a", &"x".repeat(50), qos, u16::from(qos)));
            broker.publish(alice, &message("a", "fits", 0, 0));
            assert_eq!(broker.received(bob), ["PUBLISH q0 a=fits"]);
            assert_eq!(broker.session_rows()[2..], [0; 3]);
        }
    }
}

#[test]
fn expired_message_is_dropped_and_another_counts_down() {
    // [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    let expiring = |payload: &str, id, seconds| {
        message("a", payload, 1, id).with(Property::MessageExpiry(seconds))
    };
    for crash in [false, true] {
        let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 1);
        broker.publish(alice, &expiring("now", 1, 10));
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 expiry=10 a=now"]);
        broker.puback(bob, 1);
        broker.lose(bob);
        broker.publish(alice, &expiring("short", 2, 10));
        broker.publish(alice, &expiring("long", 3, 30));
        broker.publish(alice, &message("a", "always", 1, 4));
        if crash {
            broker.crash();
        }
        broker.advance(10);
        let bob = broker.join(&lasting("bob", 100).with(Property::ReceiveMaximum(1)));
        let first = broker.got(bob);
        let id = match &first[..] {
            [crate::harness::Got::Publish(it)] => it.id,
            _ => panic!("{first:?}"),
        };
        assert_eq!(crate::harness::line(&first[0]), format!("PUBLISH q1 {id} expiry=20 a=long"));
        broker.puback(bob, id);
        assert_eq!(broker.received(bob), [format!("PUBLISH q1 {} a=always", id + 1)]);
        broker.puback(bob, id + 1);
        assert_eq!(broker.session_rows()[2..], [0; 3]);
    }
}

#[test]
fn queue_of_a_connected_session_expires_too() {
    let options = v5("bob").with(Property::ReceiveMaximum(1));
    let (mut broker, alice, bob) = pair(1, &options, 1);
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.publish(alice, &message("a", "2", 1, 2).with(Property::MessageExpiry(5)));
    broker.publish(alice, &message("a", "3", 1, 3));
    broker.advance(5);
    broker.puback(bob, 1);
    assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=1", "PUBLISH q1 3 a=3"]);
}

#[test]
fn suback_waits_until_every_shard_knows_and_the_store_too() {
    let mut broker = Cluster::new(4);
    let bob = broker.join(&lasting("bob", 100));
    let eve = broker.name_on("eve", broker.shard_of("", "bob"));
    let eve = broker.join(&lasting(&eve, 100));
    broker.hold_peers(true);
    broker.subscribe(bob, 1, &[filter("a", 1)]);
    // Somebody else's subscription to the same filter is no further.
    broker.subscribe(eve, 1, &[filter("a", 0)]);
    for shard in 0..4 {
        assert!(broker.received(bob).is_empty() && broker.received(eve).is_empty());
        while shard != broker.shard_of("", "bob") && broker.pass_peer(shard) {}
    }
    broker.hold_peers(false);
    assert_eq!(broker.received(bob), ["SUBACK 1 [01]"]);
    assert_eq!(broker.received(eve), ["SUBACK 1 [00]"]);
    broker.lazy();
    broker.subscribe(bob, 2, &[filter("b", 1)]);
    broker.unsubscribe(bob, 3, &["a", "nothing"]);
    assert!(broker.received(bob).is_empty());
    broker.sync();
    assert_eq!(broker.received(bob), ["SUBACK 2 [01]", "UNSUBACK 3 [00, 11]"]);
}

#[test]
fn subscriptions_survive_a_crash_on_every_shard() {
    let mut broker = Cluster::new(4);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a/+", 1);
    broker.crash();
    let publishers: Vec<_> = (0..4).map(|shard| broker.name_on("p", shard)).collect();
    for (id, name) in publishers.iter().enumerate() {
        let link = broker.join(&v5(name));
        broker.publish(link, &message("a/b", &id.to_string(), 1, 1));
        assert_eq!(broker.received(link), ["PUBACK 1"]);
    }
    let bob = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(bob).len(), 5);
}

#[test]
fn overlapping_subscriptions_give_the_highest_qos_once_or_each_identifier() {
    // [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-5], [MQTT-3.8.4-8]
    let (mut broker, alice, bob) = pair(2, &lasting("bob", 100), 0);
    broker.subscribe(bob, 1, &[filter("#", 1), filter("+", 2)]);
    broker.publish(alice, &message("a", "1", 1, 1));
    assert_eq!(broker.received(bob), ["SUBACK 1 [01, 02]", "PUBLISH q1 1 a=1"]);
    broker.unsubscribe(bob, 2, &["#"]);
    broker.subscribe_with(bob, 3, &[filter("a", 1)], Some(7));
    broker.subscribe_with(bob, 4, &[filter("+", 2)], Some(8));
    broker.received(bob);
    broker.publish(alice, &message("a", "2", 1, 2));
    assert_eq!(broker.received(bob), ["PUBLISH q1 2 sub=7 a=2", "PUBLISH q1 3 sub=8 a=2"]);
}

#[test]
fn own_messages_do_not_come_back_with_no_local() {
    // [MQTT-3.8.3-3]
    let mut broker = Cluster::new(2);
    let alice = broker.join(&lasting("alice", 100));
    broker.subscribe(alice, 1, &[filter("a", 1).no_local()]);
    broker.received(alice);
    broker.publish(alice, &message("a", "1", 0, 0));
    assert!(broker.received(alice).is_empty());
    let eve = broker.join(&v5("eve"));
    broker.publish(eve, &message("a", "2", 0, 0));
    assert_eq!(broker.received(alice), ["PUBLISH q0 a=2"]);
}

#[test]
fn unsubscribed_messages_stop_and_those_begun_are_completed() {
    // [MQTT-3.10.4-2], [MQTT-3.10.4-3]
    let (mut broker, alice, bob) = pair(2, &v5("bob"), 2);
    broker.publish(alice, &message("a", "1", 2, 1));
    broker.unsubscribe(bob, 1, &["a"]);
    broker.publish(alice, &message("a", "2", 2, 2));
    broker.pubrec(bob, 1);
    assert_eq!(broker.received(bob), ["PUBLISH q2 1 a=1", "UNSUBACK 1 [00]", "PUBREL 1"]);
}

#[test]
fn identifier_in_use_is_passed_over_when_identifiers_begin_again() {
    // [MQTT-2.2.1-4]
    let (mut broker, alice, bob) = pair(1, &v5("bob"), 1);
    broker.publish(alice, &message("a", "stuck", 1, 1));
    assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=stuck"]);
    for _ in 0..65_534_u32 {
        broker.publish(alice, &message("a", "x", 1, 1));
        for it in broker.got(bob) {
            let crate::harness::Got::Publish(delivery) = it else { panic!("{it:?}") };
            broker.puback(bob, delivery.id);
        }
        broker.got(alice);
    }
    broker.publish(alice, &message("a", "again", 1, 1));
    assert_eq!(broker.received(bob), ["PUBLISH q1 2 a=again"]);
}

#[test]
fn rows_of_a_session_are_counted_right_over_pubrec_and_reconnects() {
    // A count that is too low leaves rows behind for good when the session ends.
    let (mut broker, alice, bob) = pair(1, &lasting("bob", 100), 2);
    broker.publish(alice, &message("a", "1", 2, 1));
    broker.publish(alice, &message("a", "2", 2, 2));
    broker.pubrec(bob, 1);
    broker.crash();
    let bob = broker.join(&lasting("bob", 100));
    broker.pubcomp(bob, 1);
    broker.join(&lasting("bob", 100).clean());
    assert_eq!(broker.session_rows(), [1, 0, 0, 0, 0]);
}

#[test]
fn large_messages_in_flight_are_all_found_again_under_their_identifiers() {
    // [MQTT-4.4.0-1]: however many reads it takes.
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 2);
    let alice = broker.join(&v5("alice"));
    for number in 1..=9 {
        let qos = if number % 2 == 0 { 1 } else { 2 };
        let payload = format!("{number}{}", "x".repeat(100_000));
        broker.publish(alice, &message("a", &payload, qos, number));
    }
    let head = |line: String| line.chars().take(22).collect::<String>();
    let sent: Vec<_> = broker.received(bob).into_iter().map(head).collect();
    assert_eq!(sent.len(), 9);
    broker.pubrec(bob, 5);
    assert_eq!(broker.received(bob), ["PUBREL 5"]);
    broker.lose(bob);
    let bob = broker.join(&lasting("bob", 100));
    let again: Vec<_> = broker.received(bob).into_iter().map(head).collect();
    let expected: Vec<_> = (1..=9)
        .map(|number| match number {
            5 => "PUBREL 5".to_owned(),
            _ if number % 2 == 0 => format!("PUBLISH q1 {number} dup a={number}xx"),
            _ => format!("PUBLISH q2 {number} dup a={number}xx"),
        })
        .collect();
    assert_eq!(again, expected.into_iter().map(head).collect::<Vec<_>>());
}

#[test]
fn suback_goes_before_what_was_subscribed_to() {
    // §3.8.4 permits another order; Clients that read one packet for one request do not.
    for shards in [1, 2, 4] {
        for bob in [v5("bob"), lasting("bob", 100)] {
            let mut broker = Cluster::new(shards);
            let alice = broker.join(&v5("alice"));
            let owner = broker.shard_of("", "bob");
            let topic = broker.topic_on("a/", owner);
            broker.publish(alice, &message(&topic, "kept", 0, 0).retained());
            broker.publish(alice, &message("b", "kept", 1, 1).retained());
            let bob = broker.join(&bob);
            broker.lazy();
            broker.hold_peers(true);
            broker.subscribe(bob, 1, &[filter("a/+", 0)]);
            broker.subscribe(bob, 2, &[filter("b", 1)]);
            broker.publish(bob, &message(&topic, "own", 0, 0));
            broker.publish(bob, &message("b", "own", 1, 3));
            broker.send(bob, &Packet::Pingreq);
            let mut early = broker.received(bob);
            broker.hold_peers(false);
            broker.sync();
            broker.eager();
            early.extend(broker.received(bob));
            let at = |what: &str| early.iter().position(|line| line.starts_with(what)).unwrap();
            assert!(at("SUBACK 1") < at("PUBLISH q0"), "{early:?}");
            assert!(at("SUBACK 2") < at("PUBLISH q1"), "{early:?}");
            let own = early.iter().filter(|line| line.ends_with("=own")).count();
            let kept = early.iter().filter(|line| line.ends_with("=kept")).count();
            assert_eq!((own, kept), (2, 2), "{early:?}");
        }
    }
}

#[test]
fn message_of_qos_0_held_for_a_suback_is_not_held_by_the_window() {
    // [MQTT-4.9.0-3]
    let (mut broker, alice, bob) = pair(2, &v5("bob").with(Property::ReceiveMaximum(1)), 1);
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.received(bob);
    broker.hold_peers(true);
    broker.subscribe(bob, 7, &[filter("b", 0)]);
    broker.hold_peers(false);
    broker.publish(alice, &message("a", "2", 1, 2));
    broker.publish(alice, &message("b", "now", 0, 0));
    assert_eq!(broker.received(bob), ["SUBACK 7 [00]", "PUBLISH q0 b=now"]);
}

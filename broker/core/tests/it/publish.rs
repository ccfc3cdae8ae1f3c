//! PUBLISH from Clients: answers, their order, exactly once, and what is refused.

use tidings_core::codec::Property;
use tidings_core::limits::Limits;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, filter, lasting, message, v5, v311};

#[test]
fn each_qos_is_answered_as_it_asks() {
    // [MQTT-3.3.4-1], [MQTT-4.3.3-8], [MQTT-4.3.3-11]
    for shards in [1, 2, 4] {
        let mut broker = Cluster::new(shards);
        let bob = broker.join(&v5("bob"));
        broker.subscribe(bob, 1, &[filter("#", 2)]);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("a", "0", 0, 0));
        broker.publish(alice, &message("a", "1", 1, 7));
        broker.publish(alice, &message("a", "2", 2, 8));
        broker.pubrel(alice, 8);
        assert_eq!(broker.received(alice), ["PUBACK 7", "PUBREC 8", "PUBCOMP 8"]);
        let expected = ["SUBACK 1 [02]", "PUBLISH q0 a=0", "PUBLISH q1 1 a=1", "PUBLISH q2 2 a=2"];
        assert_eq!(broker.received(bob), expected);
        broker.puback(bob, 1);
        broker.pubrec(bob, 2);
        assert_eq!(broker.received(bob), ["PUBREL 2"]);
        broker.pubcomp(bob, 2);
        assert!(broker.received(bob).is_empty());
    }
}

#[test]
fn message_that_nobody_hears_is_acknowledged_as_such() {
    let mut broker = Cluster::new(2);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.publish(alice, &message("a", "2", 2, 2));
    broker.publish(alice, &message("a", "3", 1, 3).retained());
    assert_eq!(broker.received(alice), ["PUBACK 1 10", "PUBREC 2 10", "PUBACK 3 10"]);
    let bob = broker.join(&v5("bob"));
    broker.listen(bob, "a", 0);
    broker.publish(alice, &message("a", "4", 1, 4));
    assert_eq!(broker.received(alice), ["PUBACK 4"]);
}

#[test]
fn puback_and_delivery_wait_until_the_message_is_stored() {
    // [MQTT-4.3.2-4]
    for shards in [1, 2] {
        let mut broker = Cluster::new(shards);
        let name = broker.name_on("bob", usize::from(shards - 1));
        let bob = broker.join(&lasting(&name, 100));
        broker.listen(bob, "a", 1);
        let alice = broker.name_on("alice", 0);
        let alice = broker.join(&v5(&alice));
        broker.lazy();
        broker.publish(alice, &message("a", "1", 1, 1));
        assert!(broker.received(alice).is_empty() && broker.received(bob).is_empty());
        broker.sync();
        assert_eq!(broker.received(alice), ["PUBACK 1"]);
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=1"]);
        broker.publish(alice, &message("a", "2", 2, 2));
        assert!(broker.received(alice).is_empty());
        broker.sync();
        assert_eq!(broker.received(alice), ["PUBREC 2"]);
    }
}

#[test]
fn answers_keep_the_order_of_the_requests() {
    // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
    let mut broker = Cluster::new(2);
    let bob = broker.name_on("bob", 1);
    let bob = broker.join(&v5(&bob));
    broker.listen(bob, "far", 1);
    let alice = broker.name_on("alice", 0);
    let alice = broker.join(&v5(&alice));
    broker.hold_peers(true);
    broker.publish(alice, &message("far", "1", 1, 1));
    broker.publish(alice, &message("nobody", "2", 1, 2));
    broker.publish(alice, &message("nobody", "3", 2, 3));
    assert!(broker.received(alice).is_empty());
    broker.hold_peers(false);
    assert_eq!(broker.received(alice), ["PUBACK 1", "PUBACK 2 10", "PUBREC 3 10"]);
}

#[test]
fn repeat_before_pubrel_is_answered_and_not_delivered_again() {
    // [MQTT-4.3.3-10], [MQTT-4.3.3-12]
    let mut broker = Cluster::new(1);
    let bob = broker.join(&v5("bob"));
    broker.listen(bob, "a", 0);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("a", "1", 2, 1));
    broker.publish(alice, &message("a", "1", 2, 1).again());
    broker.pubrel(alice, 1);
    broker.publish(alice, &message("a", "2", 2, 1));
    let expected = ["PUBREC 1", "PUBREC 1", "PUBCOMP 1", "PUBREC 1"];
    assert_eq!(broker.received(alice), expected);
    assert_eq!(broker.received(bob), ["PUBLISH q0 a=1", "PUBLISH q0 a=2"]);
    broker.pubrel(alice, 9);
    assert_eq!(broker.received(alice), ["PUBCOMP 9 92"]);
}

/// Alice publishes with QoS 2 to Bob and loses her connection before PUBREC or behind it.
fn interrupted(shards: u16, lasting_bob: bool, takeover: bool, answered: bool) {
    let mut broker = Cluster::new(shards);
    let name = broker.name_on("bob", usize::from(shards - 1));
    let bob = if lasting_bob { broker.join(&lasting(&name, 100)) } else { broker.join(&v5(&name)) };
    broker.listen(bob, "a", 2);
    let name = broker.name_on("alice", 0);
    let alice = broker.join(&lasting(&name, 100));
    broker.hold_peers(!answered);
    broker.publish(alice, &message("a", "once", 2, 1));
    if !takeover {
        broker.lose(alice);
    }
    let alice = broker.connect(&lasting(&name, 100));
    broker.publish(alice, &message("a", "once", 2, 1).again());
    broker.publish(alice, &message("a", "next", 2, 2));
    broker.hold_peers(false);
    assert_eq!(broker.received(alice), ["CONNACK present", "PUBREC 1", "PUBREC 2"]);
    assert_eq!(broker.received(bob), ["PUBLISH q2 1 a=once", "PUBLISH q2 2 a=next"]);
    broker.pubrel(alice, 1);
    broker.pubrel(alice, 2);
    assert_eq!(broker.received(alice), ["PUBCOMP 1", "PUBCOMP 2"]);
}

#[test]
fn exactly_once_holds_over_reconnects() {
    for shards in [1, 2] {
        for lasting_bob in [false, true] {
            for takeover in [false, true] {
                for answered in [false, true] {
                    interrupted(shards, lasting_bob, takeover, answered);
                }
            }
        }
    }
}

#[test]
fn exactly_once_holds_over_a_crash_at_any_record() {
    for records in 0..6 {
        let mut broker = Cluster::new(1);
        let bob = broker.join(&lasting("bob", 100));
        broker.listen(bob, "a", 1);
        let alice = broker.join(&lasting("alice", 100));
        broker.lazy();
        broker.publish(alice, &message("a", "once", 2, 1));
        broker.crash_keeping(&[records]);
        broker.eager();
        let alice = broker.join(&lasting("alice", 100));
        broker.publish(alice, &message("a", "once", 2, 1).again());
        assert_eq!(broker.received(alice), ["PUBREC 1"]);
        let bob = broker.connect(&lasting("bob", 100));
        // What was there may have been sent.
        let heard: Vec<_> =
            broker.received(bob).iter().map(|line| line.replace(" dup", "")).collect();
        assert_eq!(heard, ["CONNACK present", "PUBLISH q1 1 a=once"], "{records}");
    }
}

#[test]
fn pubcomp_frees_the_identifier_only_when_that_is_stored() {
    // [MQTT-4.3.3-11]
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 2);
    let alice = broker.join(&lasting("alice", 100));
    broker.publish(alice, &message("a", "1", 2, 1));
    broker.lazy();
    broker.received(alice);
    broker.pubrel(alice, 1);
    assert!(broker.received(alice).is_empty());
    // Nor where the Client asks again before.
    let alice = broker.connect(&lasting("alice", 100));
    broker.pubrel(alice, 1);
    assert_eq!(broker.received(alice), ["CONNACK present"]);
    broker.sync();
    assert_eq!(broker.received(alice), ["PUBCOMP 1 92"]);
}

#[test]
fn full_queue_refuses_the_sender_to_it_alone() {
    let limits = Limits { session_queue_messages_max: 3, ..Limits::default() };
    for shards in [1, 2] {
        for online in [false, true] {
            let mut broker = Cluster::with(shards, limits.clone(), Hooks::default());
            let name = broker.name_on("bob", usize::from(shards - 1));
            let bob = broker.join(&lasting(&name, 100));
            broker.listen(bob, "a", 1);
            if !online {
                broker.lose(bob);
            }
            let name = broker.name_on("alice", 0);
            let alice = broker.join(&v5(&name));
            let old = broker.name_on("old", 0);
            let old = broker.join(&v311(&old));
            for id in 1..=4 {
                broker.publish(alice, &message("a", &id.to_string(), 1, id).retained());
            }
            let expected = ["PUBACK 1", "PUBACK 2", "PUBACK 3", "PUBACK 4 97"];
            assert_eq!(broker.received(alice), expected);
            broker.publish(alice, &message("a", "5", 2, 5));
            assert_eq!(broker.received(alice), ["PUBREC 5 97"]);
            // [MQTT-4.3.3-9]: the identifier means a new message now.
            broker.publish(alice, &message("a", "5", 2, 5));
            assert_eq!(broker.received(alice), ["PUBREC 5 97"]);
            // MQTT 3.1.1 cannot be told: it is closed, and nothing is acknowledged.
            broker.publish(old, &message("a", "6", 1, 1));
            assert!(broker.received(old).is_empty() && broker.closed(old).is_some());
        }
    }
}

#[test]
fn message_refused_to_mqtt_311_is_a_new_one_when_it_comes_again() {
    let limits = Limits { session_queue_messages_max: 1, ..Limits::default() };
    for shards in [1, 2] {
        let mut broker = Cluster::with(shards, limits.clone(), Hooks::default());
        let name = broker.name_on("bob", usize::from(shards - 1));
        let bob = broker.join(&lasting(&name, 100));
        broker.listen(bob, "a", 2);
        let old = v311(&broker.name_on("old", 0)).resume();
        let link = broker.join(&old);
        broker.publish(link, &message("a", "1", 2, 1));
        broker.publish(link, &message("a", "2", 2, 2));
        assert!(broker.closed(link).is_some());
        assert_eq!(broker.received(link), ["PUBREC 1"]);
        broker.pubrec(bob, 1);
        broker.pubcomp(bob, 1);
        broker.received(bob);
        let link = broker.join(&old);
        broker.pubrel(link, 1);
        broker.publish(link, &message("a", "2", 2, 2).again());
        assert_eq!(broker.received(link), ["PUBCOMP 1", "PUBREC 2"]);
        assert_eq!(broker.received(bob), ["PUBLISH q2 2 a=2"]);
    }
}

#[test]
fn refused_message_does_not_become_the_retained_one() {
    let limits = Limits { session_queue_messages_max: 1, ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 1);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("a", "1", 1, 1).retained());
    broker.publish(alice, &message("a", "2", 1, 2).retained());
    assert_eq!(broker.received(alice), ["PUBACK 1", "PUBACK 2 97"]);
    let eve = broker.join(&v5("eve"));
    broker.listen(eve, "a", 0);
    assert_eq!(broker.received(eve), ["PUBLISH q0 retain a=1"]);
}

#[test]
fn full_queue_loses_its_oldest_for_a_message_to_many() {
    let limits = Limits { session_queue_messages_max: 3, ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let bob = broker.join(&lasting("bob", 100).with(Property::ReceiveMaximum(1)));
    broker.listen(bob, "a", 1);
    let eve = broker.join(&v5("eve"));
    broker.listen(eve, "a", 0);
    let alice = broker.join(&v5("alice"));
    for id in 1..=5 {
        broker.publish(alice, &message("a", &id.to_string(), 1, id));
    }
    let mut got = broker.received(bob);
    for id in 1..=3 {
        broker.puback(bob, id);
        got.extend(broker.received(bob));
    }
    assert_eq!(got, ["PUBLISH q1 1 a=1", "PUBLISH q1 2 a=4", "PUBLISH q1 3 a=5"]);
    assert_eq!(broker.session_rows()[2], 0);
}

#[test]
fn topic_alias_stands_for_its_topic_on_one_connection() {
    // [MQTT-3.3.2-7], [MQTT-3.3.2-12]
    let mut broker = Cluster::new(1);
    let bob = broker.join(&v5("bob"));
    broker.listen(bob, "#", 0);
    let alice = broker.join(&lasting("alice", 100));
    broker.publish(alice, &message("a", "1", 0, 0).with(Property::TopicAlias(3)));
    broker.publish(alice, &message("", "2", 0, 0).with(Property::TopicAlias(3)));
    assert_eq!(broker.received(bob), ["PUBLISH q0 a=1", "PUBLISH q0 a=2"]);
    broker.lose(alice);
    let alice = broker.join(&lasting("alice", 100));
    broker.publish(alice, &message("", "3", 0, 0).with(Property::TopicAlias(3)));
    assert_eq!(broker.received(alice), ["DISCONNECT 82"]);
    let alice = broker.join(&lasting("alice", 100));
    broker.publish(alice, &message("a", "3", 0, 0).with(Property::TopicAlias(33)));
    assert_eq!(broker.received(alice), ["DISCONNECT 94"]);
}

#[test]
fn more_than_receive_maximum_is_refused() {
    // [MQTT-3.3.4-7]
    let limits = Limits { receive_maximum: 2, ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 1);
    let alice = broker.join(&v5("alice"));
    let old = broker.join(&v311("old"));
    broker.lazy();
    for id in 1..=3 {
        broker.publish(alice, &message("a", "x", 1, id));
        broker.publish(old, &message("a", "x", 1, id));
    }
    assert_eq!(broker.received(alice), ["DISCONNECT 93"]);
    broker.sync();
    assert_eq!(broker.received(old), ["PUBACK 1", "PUBACK 2", "PUBACK 3"]);
}

#[test]
fn topics_of_the_server_are_not_for_clients() {
    let mut broker = Cluster::new(1);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("$SYS/x", "1", 1, 1));
    assert_eq!(broker.received(alice), ["PUBACK 1 87"]);
}

#[test]
fn late_answers_of_other_shards_count_for_the_connection_that_asked() {
    let mut broker = Cluster::new(2);
    let bob = broker.join(&lasting(&broker.name_on("bob", 1), 100));
    broker.listen(bob, "a", 1);
    let alice = lasting(&broker.name_on("alice", 0), 100);
    let link = broker.join(&alice);
    broker.hold_peers(true);
    broker.publish(link, &message("a", "1", 1, 1));
    broker.lose(link);
    let link = broker.join(&alice);
    broker.lazy();
    broker.pass_peer(1);
    broker.sync();
    broker.publish(link, &message("a", "2", 1, 2));
    // What has come back is the answer to the first message.
    while broker.pass_peer(0) {}
    assert!(broker.received(link).is_empty());
    broker.eager();
    broker.hold_peers(false);
    assert_eq!(broker.received(link), ["PUBACK 2"]);
}

#[test]
fn pubrec_for_a_repeat_waits_until_the_message_is_stored() {
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 2);
    let alice = broker.join(&lasting("alice", 100));
    broker.lazy();
    broker.publish(alice, &message("a", "1", 2, 1));
    broker.lose(alice);
    let alice = broker.connect(&lasting("alice", 100));
    broker.publish(alice, &message("a", "1", 2, 1).again());
    assert_eq!(broker.received(alice), ["CONNACK present"]);
    broker.sync();
    assert_eq!(broker.received(alice), ["PUBREC 1"]);
}

#[test]
fn repeat_of_an_answered_message_is_answered_while_the_store_is_behind() {
    // [MQTT-4.3.3-10]
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 2);
    let alice = broker.join(&lasting("alice", 100));
    broker.publish(alice, &message("a", "1", 2, 1));
    assert_eq!(broker.received(alice), ["PUBREC 1"]);
    broker.lazy();
    // What is written about the lost connection is what the answer waits for.
    broker.lose(alice);
    let alice = broker.connect(&lasting("alice", 100));
    broker.publish(alice, &message("a", "1", 2, 1).again());
    broker.sync();
    assert_eq!(broker.received(alice), ["CONNACK present", "PUBREC 1"]);
}

#[test]
fn own_copy_with_qos_0_comes_behind_the_answer() {
    // Always: also where the answer waits for the store, or for another shard.
    for shards in [1, 2, 4] {
        let mut broker = Cluster::new(shards);
        let other = broker.join(&lasting(&broker.name_on("other", usize::from(shards - 1)), 100));
        broker.listen(other, "with-other", 1);
        let alice = broker.join(&v5(&broker.name_on("alice", 0)));
        for topic in ["alone", "with-other"] {
            broker.listen(alice, topic, 0);
        }
        for (qos, answer) in [(1, "PUBACK"), (2, "PUBREC")] {
            for topic in ["alone", "with-other"] {
                for retain in [false, true] {
                    let mut sent = message(topic, "x", qos, 7);
                    sent.retain = retain;
                    broker.publish(alice, &sent);
                    let own = format!("PUBLISH q0 {topic}=x");
                    assert_eq!(broker.received(alice), [format!("{answer} 7"), own]);
                    if qos == 2 {
                        broker.pubrel(alice, 7);
                        broker.got(alice);
                    }
                }
            }
        }
    }
}

#[test]
fn message_is_on_its_way_before_its_publisher_hears_so_but_for_its_own_copy() {
    // With QoS 2 to a session that lasts the store has to know of the delivery first.
    for (qos, lasting_bob) in [(1, false), (1, true), (2, false)] {
        let mut broker = Cluster::new(1);
        let bob = broker.join(&if lasting_bob { lasting("bob", 100) } else { v5("bob") });
        broker.subscribe(bob, 1, &[filter("to/bob", 2), filter("to/both", 2)]);
        let alice = broker.join(&v5("alice"));
        broker.subscribe(alice, 1, &[filter("to/both", 2)]);
        for (packet_id, topic, expected) in
            [(1, "to/bob", [bob, alice]), (2, "to/both", [alice, bob])]
        {
            broker.sent_to.clear();
            broker.lazy();
            broker.publish(alice, &message(topic, "x", qos, packet_id));
            broker.sync();
            assert_eq!(broker.sent_to.get(..2), Some(&expected[..]), "{topic}, QoS {qos}");
        }
    }
}

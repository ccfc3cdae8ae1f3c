//! Shared Subscriptions (§4.8.2): one member for each message, wherever everybody lives.

use tidings_core::codec::{Ack, Packet, Property, ReasonCode, RetainHandling};
use tidings_core::limits::Limits;
use tidings_core::record::RowKind;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Delivery, Got, Link, filter, lasting, message, packet_id, v5, v311};

const FILTER: &str = "$share/g/t/#";

/// A broker in every way that group, members and publisher can be spread over shards. Members are
/// `m0`… by their shard; the publisher is a name on shard 0.
fn everywhere(test: impl Fn(Cluster, &str)) {
    for shards in [1, 2, 4] {
        for owner in 0..usize::from(shards) {
            let broker = Cluster::new(shards);
            let mut names = (0..).map(|it| format!("$share/g{it}/t/#"));
            let filter = names.find(|it| broker.owner_of(it) == owner).unwrap();
            test(broker, &filter);
        }
    }
}

fn member_name(broker: &Cluster, number: usize) -> String {
    let shard = number % broker.shards();
    broker.name_on(&format!("member-{number}-"), shard)
}

fn payloads(broker: &mut Cluster, link: Link) -> Vec<String> {
    deliveries(broker, link).into_iter().map(|it| it.payload).collect()
}

fn deliveries(broker: &mut Cluster, link: Link) -> Vec<Delivery> {
    let got = broker.got(link).into_iter();
    got.filter_map(|it| if let Got::Publish(it) = it { Some(it) } else { None }).collect()
}

#[test]
fn each_message_goes_to_one_member_and_members_take_turns() {
    // [MQTT-4.8.2-3], [MQTT-3.3.4-2]
    everywhere(|mut broker, shared| {
        let mut members = Vec::new();
        for number in 0..3 {
            let link = broker.join(&v5(&member_name(&broker, number)));
            broker.listen(link, shared, 1);
            members.push(link);
        }
        let plain = broker.join(&v5("plain"));
        broker.listen(plain, "t/+", 1);
        let other = broker.join(&v5("other"));
        broker.listen(other, "$share/other/t/+", 1);
        let alice = broker.join(&v5("alice"));
        for number in 1..=6 {
            broker.publish(alice, &message("t/1", &number.to_string(), 1, number));
        }
        let acks: Vec<_> = (1..=6).map(|it| format!("PUBACK {it}")).collect();
        assert_eq!(broker.received(alice), acks);
        let all: Vec<String> = (1..=6).map(|it| it.to_string()).collect();
        assert_eq!(payloads(&mut broker, plain), all);
        assert_eq!(payloads(&mut broker, other), all);
        let mut heard = Vec::new();
        for link in &members {
            let own = payloads(&mut broker, *link);
            assert_eq!(own.len(), 2, "{own:?}");
            heard.extend(own);
        }
        heard.sort();
        assert_eq!(heard, all);
    });
}

#[test]
fn qos_and_identifier_are_those_of_the_member_that_was_chosen() {
    // [MQTT-3.8.4-8], [MQTT-3.3.4-3]
    everywhere(|mut broker, shared| {
        let one = broker.join(&v5(&member_name(&broker, 0)));
        broker.subscribe_with(one, 1, &[filter(shared, 1).retain_as_published()], Some(5));
        let two = broker.join(&v5(&member_name(&broker, 1)));
        broker.subscribe_with(two, 1, &[filter(shared, 2)], Some(6));
        broker.got(one);
        broker.got(two);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("t/a", "x", 2, 1).retained());
        broker.publish(alice, &message("t/b", "x", 2, 2).retained());
        let mut heard = [broker.received(one), broker.received(two)].concat();
        heard.iter_mut().for_each(|line| *line = line.replace("t/b", "t/a"));
        assert_eq!(heard, ["PUBLISH q1 1 retain sub=5 t/a=x", "PUBLISH q2 1 sub=6 t/a=x"]);
    });
}

#[test]
fn session_with_a_subscription_of_its_own_and_two_shares_gets_three_copies() {
    everywhere(|mut broker, shared| {
        let bob = broker.join(&v5("bob"));
        for filter in [shared, "$share/h/t/+", "t/+"] {
            broker.listen(bob, filter, 0);
        }
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("t/1", "x", 0, 0));
        assert_eq!(payloads(&mut broker, bob), ["x", "x", "x"]);
        // What ends is the subscription with exactly this name.
        broker.unsubscribe(bob, 1, &["t/#", shared, "t/+"]);
        assert_eq!(broker.received(bob), ["UNSUBACK 1 [11, 00, 00]"]);
        broker.publish(alice, &message("t/1", "y", 0, 0));
        assert_eq!(payloads(&mut broker, bob), ["y"]);
        broker.unsubscribe(bob, 2, &["$share/h/t/+"]);
        broker.got(bob);
        broker.publish(alice, &message("t/1", "z", 1, 1));
        assert_eq!(broker.received(alice), ["PUBACK 1 10"]);
    });
}

#[test]
fn retained_messages_are_not_sent_for_a_shared_subscription() {
    everywhere(|mut broker, shared| {
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("t/1", "old", 1, 1).retained());
        let bob = broker.join(&v5("bob"));
        broker.subscribe(bob, 1, &[filter(shared, 1).handling(RetainHandling::Send)]);
        assert_eq!(broker.received(bob), ["SUBACK 1 [01]"]);
    });
}

#[test]
fn suback_waits_until_every_publisher_knows() {
    let mut broker = Cluster::new(4);
    let bob = broker.join(&v5("bob"));
    broker.hold_peers(true);
    broker.subscribe(bob, 1, &[filter(FILTER, 1)]);
    assert!(broker.received(bob).is_empty());
    broker.hold_peers(false);
    assert_eq!(broker.received(bob), ["SUBACK 1 [01]"]);
}

#[test]
fn puback_waits_until_the_chosen_member_has_it_stored() {
    // [MQTT-4.3.2-4]
    everywhere(|mut broker, shared| {
        let member = broker.shards() - 1;
        let bob = broker.join(&lasting(&broker.name_on("bob", member), 100));
        broker.listen(bob, shared, 1);
        let alice = broker.join(&v5(&broker.name_on("alice", 0)));
        broker.lazy();
        broker.publish(alice, &message("t/1", "x", 1, 1));
        assert!(broker.received(alice).is_empty() && broker.received(bob).is_empty());
        broker.sync();
        assert_eq!(broker.received(alice), ["PUBACK 1"]);
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 t/1=x"]);
    });
}

#[test]
fn members_that_are_there_and_not_busy_go_first() {
    everywhere(|mut broker, shared| {
        let away = broker.join(&lasting(&member_name(&broker, 0), 100));
        broker.listen(away, shared, 1);
        broker.lose(away);
        let busy = v5(&member_name(&broker, 1)).with(Property::ReceiveMaximum(1));
        let busy = broker.join(&busy);
        broker.listen(busy, shared, 1);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("t/1", "1", 1, 1));
        assert_eq!(broker.received(busy), ["PUBLISH q1 1 t/1=1"]);
        let ready = broker.join(&v5(&member_name(&broker, 2)));
        broker.listen(ready, shared, 1);
        broker.publish(alice, &message("t/1", "2", 1, 2));
        broker.publish(alice, &message("t/1", "3", 1, 3));
        assert_eq!(payloads(&mut broker, ready), ["2", "3"]);
        broker.puback(busy, 1);
        broker.publish(alice, &message("t/1", "4", 1, 4));
        broker.publish(alice, &message("t/1", "5", 1, 5));
        assert_eq!(payloads(&mut broker, ready).len(), 1);
        assert_eq!(payloads(&mut broker, busy).len(), 1);
        // Nobody is there: kept for the one who comes back, unless it may be lost.
        broker.lose(ready);
        broker.lose(busy);
        broker.received(alice);
        broker.publish(alice, &message("t/1", "6", 1, 6));
        broker.publish(alice, &message("t/1", "lost", 0, 0));
        assert_eq!(broker.received(alice), ["PUBACK 6"]);
        let back = broker.join(&lasting(&member_name(&broker, 0), 100));
        // "4" or "5" was left by the one that was busy, or by the one that was ready.
        assert_eq!(payloads(&mut broker, back).last().unwrap(), "6");
    });
}

#[test]
fn full_members_are_passed_over_and_a_full_group_refuses() {
    let limits = Limits { session_queue_messages_max: 2, ..Limits::default() };
    for shards in [1, 2, 4] {
        let mut broker = Cluster::with(shards, limits.clone(), Hooks::default());
        let mut away = Vec::new();
        for number in 0..3 {
            let name = member_name(&broker, number);
            let link = broker.join(&lasting(&name, 100));
            broker.listen(link, FILTER, 1);
            broker.lose(link);
            away.push(name);
        }
        let alice = broker.join(&v5("alice"));
        for number in 1..=7 {
            broker.publish(alice, &message("t/1", &number.to_string(), 1, number));
        }
        let mut expected: Vec<_> = (1..=6).map(|it| format!("PUBACK {it}")).collect();
        expected.push("PUBACK 7 97".to_owned());
        assert_eq!(broker.received(alice), expected);
        let mut heard = Vec::new();
        for name in &away {
            let link = broker.join(&lasting(name, 100));
            let own = payloads(&mut broker, link);
            assert_eq!(own.len(), 2, "{own:?}");
            heard.extend(own);
        }
        heard.sort();
        assert_eq!(heard, ["1", "2", "3", "4", "5", "6"]);
    }
}

#[test]
fn refused_message_goes_to_nobody_else() {
    // [MQTT-4.8.2-6]
    everywhere(|mut broker, shared| {
        let one = broker.join(&v5(&member_name(&broker, 0)));
        broker.listen(one, shared, 2);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("t/1", "1", 1, 1));
        broker.publish(alice, &message("t/1", "2", 2, 2));
        assert_eq!(payloads(&mut broker, one), ["1", "2"]);
        let two = broker.join(&v5(&member_name(&broker, 1)));
        broker.listen(two, shared, 2);
        let refusal = |id| {
            let reason = ReasonCode::UnspecifiedError;
            Ack { reason, ..Ack::success(packet_id(id)) }
        };
        broker.send(one, &Packet::Puback(refusal(1)));
        broker.send(one, &Packet::Pubrec(refusal(2)));
        broker.lose(one);
        assert!(broker.received(two).is_empty());
    });
}

/// What a session leaves when it ends: with QoS 1 everything that was not acknowledged, with QoS 2
/// only what was never sent.
fn ended_session_leaves_its_messages(lasts: bool, crash: bool) {
    everywhere(|mut broker, shared| {
        let name = member_name(&broker, 0);
        let expiry = if lasts { 100 } else { 0 };
        let one = lasting(&name, expiry).with(Property::ReceiveMaximum(3));
        let one = broker.join(&one);
        broker.listen(one, shared, 2);
        let alice = broker.join(&v5("alice"));
        for (number, qos) in [1, 2, 1, 1, 2].into_iter().enumerate() {
            let id = u16::try_from(number + 1).unwrap();
            broker.publish(alice, &message("t/1", &id.to_string(), qos, id));
        }
        assert_eq!(payloads(&mut broker, one), ["1", "2", "3"]);
        broker.puback(one, 3);
        assert_eq!(payloads(&mut broker, one), ["4"]);
        let other = lasting(&member_name(&broker, 1), 1000);
        let two = broker.join(&other);
        broker.listen(two, shared, 2);
        broker.lose(two);
        broker.lose(one);
        if lasts {
            broker.advance(50);
            let two = broker.join(&other);
            assert!(payloads(&mut broker, two).is_empty(), "left too early");
            broker.lose(two);
            if crash {
                broker.crash();
            }
            broker.advance(101);
        }
        let two = broker.join(&other);
        let heard = deliveries(&mut broker, two);
        let mut heard: Vec<_> = heard.iter().map(|it| (&it.payload[..], it.qos)).collect();
        heard.sort_unstable();
        assert_eq!(heard, [("1", 1), ("4", 1), ("5", 2)]);
        assert_eq!(broker.rows_of(RowKind::Garbage).len(), 0);
        assert_eq!(broker.rows_of(RowKind::Queued).len(), 3);
    });
}

#[test]
fn session_that_ends_with_its_connection_leaves_its_messages_to_the_group() {
    // [MQTT-4.8.2-5]
    ended_session_leaves_its_messages(false, false);
}

#[test]
fn session_that_expires_leaves_its_messages_to_the_group() {
    // [MQTT-4.8.2-5]
    ended_session_leaves_its_messages(true, false);
}

#[test]
fn session_that_expires_behind_a_crash_leaves_its_messages_to_the_group() {
    ended_session_leaves_its_messages(true, true);
}

#[test]
fn what_is_in_flight_stays_with_its_session_while_that_lasts() {
    // [MQTT-4.8.2-4]
    everywhere(|mut broker, shared| {
        let name = member_name(&broker, 0);
        let one = broker.join(&lasting(&name, 100));
        broker.listen(one, shared, 2);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("t/1", "1", 2, 1));
        broker.publish(alice, &message("t/1", "2", 1, 2));
        let two = broker.join(&v5(&member_name(&broker, 1)));
        broker.listen(two, shared, 2);
        broker.lose(one);
        let one = broker.join(&lasting(&name, 100));
        assert_eq!(broker.received(one), ["PUBLISH q2 1 dup t/1=1", "PUBLISH q1 2 dup t/1=2"]);
        assert!(broker.received(two).is_empty());
    });
}

#[test]
fn group_is_heard_though_a_session_on_its_owners_shard_expired_before_the_members_were_told() {
    let mut broker = Cluster::new(3);
    let mut names = (0..).map(|it| format!("$share/g{it}/t/#"));
    let shared = names.find(|it| broker.owner_of(it) == 0).unwrap();
    let plain = broker.join(&lasting(&broker.name_on("plain", 0), 5));
    broker.listen(plain, "t/#", 1);
    broker.lose(plain);
    let name = broker.name_on("member", 1);
    let member = broker.join(&lasting(&name, 1_000));
    broker.listen(member, &shared, 1);
    broker.lose(member);
    broker.advance_unnoticed(60);
    broker.crash_untold();
    broker.advance(0);
    while broker.pass_peer(2) {}
    let alice = broker.join(&v5(&broker.name_on("alice", 2)));
    broker.publish(alice, &message("t/1", "x", 1, 1));
    broker.hold_peers(false);
    assert_eq!(broker.received(alice), ["PUBACK 1"]);
    let member = broker.join(&lasting(&name, 1_000));
    assert_eq!(payloads(&mut broker, member), ["x"]);
}

#[test]
fn memberships_come_back_after_a_crash_on_any_number_of_shards() {
    for (before, after) in [(1, 1), (2, 2), (4, 1), (1, 4), (2, 4)] {
        let mut broker = Cluster::new(before);
        let names: Vec<_> = (0..3).map(|it| format!("member-{it}")).collect();
        for name in &names {
            let link = broker.join(&lasting(name, 100));
            broker.listen(link, FILTER, 1);
        }
        broker.restart(after);
        // Whoever publishes first finds the group, on whichever shard.
        for shard in 0..usize::from(after) {
            let alice = broker.join(&v5(&broker.name_on("alice", shard)));
            broker.publish(alice, &message("t/1", &format!("x{shard}"), 1, 1));
            assert_eq!(broker.received(alice), ["PUBACK 1"]);
        }
        let mut heard = 0;
        for name in &names {
            let link = broker.join(&lasting(name, 100));
            heard += payloads(&mut broker, link).len();
        }
        assert_eq!(heard, usize::from(after));
    }
}

#[test]
fn will_is_shared_like_any_message() {
    everywhere(|mut broker, shared| {
        let mut members = Vec::new();
        for number in 0..2 {
            let link = broker.join(&v5(&member_name(&broker, number)));
            broker.listen(link, shared, 1);
            members.push(link);
        }
        let alice = broker.join(&v5("alice").will("t/will", "gone", 1, 0));
        broker.lose(alice);
        let heard: Vec<_> = members.iter().flat_map(|it| payloads(&mut broker, *it)).collect();
        assert_eq!(heard, ["gone"]);
    });
}

#[test]
fn older_clients_share_as_well() {
    let mut broker = Cluster::new(2);
    let one = broker.join(&v311("one"));
    let two = broker.join(&v311("two"));
    broker.listen(one, FILTER, 1);
    broker.listen(two, FILTER, 1);
    let alice = broker.join(&v311("alice"));
    broker.publish(alice, &message("t/1", "1", 1, 1));
    broker.publish(alice, &message("t/1", "2", 1, 2));
    assert_eq!(payloads(&mut broker, one).len(), 1);
    assert_eq!(payloads(&mut broker, two).len(), 1);
    // What is no Shared Subscription is refused, as a filter may be. [MQTT-4.8.2-1]
    broker.subscribe(one, 7, &["$share//t", "$share/+/t", "$share/a"].map(|it| filter(it, 1)));
    assert_eq!(broker.received(one), ["SUBACK 7 [80, 80, 80]"]);
}

#[test]
fn message_on_its_way_to_a_member_that_leaves_goes_to_another() {
    for owner in [0, 1, 2] {
        let mut broker = Cluster::new(3);
        let mut names = (0..).map(|it| format!("$share/g{it}/t/#"));
        let shared = names.find(|it| broker.owner_of(it) == owner).unwrap();
        let one = broker.join(&v5(&broker.name_on("one", 1)));
        broker.listen(one, &shared, 1);
        let two = broker.join(&v5(&broker.name_on("two", 2)));
        broker.listen(two, &shared, 1);
        let alice = broker.join(&v5(&broker.name_on("alice", 0)));
        broker.hold_peers(true);
        for number in 1..=4 {
            broker.publish(alice, &message("t/1", &number.to_string(), 1, number));
        }
        broker.pass_peer(owner);
        broker.lose(one);
        broker.hold_peers(false);
        let mut heard = payloads(&mut broker, two);
        heard.sort();
        assert_eq!(heard, ["1", "2", "3", "4"]);
        assert_eq!(broker.received(alice).len(), 4);
    }
}

#[test]
fn whoever_publishes_first_after_a_start_finds_every_group() {
    // Before the owner itself has said what it wants to hear.
    for (owner, member, publisher) in [(2, 0, 0), (2, 0, 1), (2, 1, 0), (1, 2, 0), (0, 2, 1)] {
        let mut broker = Cluster::new(3);
        let mut names = (0..).map(|it| format!("$share/g{it}/t/#"));
        let shared = names.find(|it| broker.owner_of(it) == owner).unwrap();
        let bob = broker.join(&lasting(&broker.name_on("bob", member), 100));
        broker.listen(bob, &shared, 1);
        broker.hold_peers(true);
        broker.restart(3);
        let alice = broker.join(&v5(&broker.name_on("alice", publisher)));
        broker.publish(alice, &message("t/1", "x", 1, 1));
        broker.hold_peers(false);
        assert_eq!(broker.received(alice), ["PUBACK 1"]);
    }
}

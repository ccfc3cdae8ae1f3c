//! Bounds that bite: what the Client hears, what is left, and where it is counted.

use std::time::Duration;

use tidings_core::codec::{Property, ReasonCode};
use tidings_core::limits::Limits;
use tidings_core::metric::Metric;
use tidings_core::record::RowKind;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Got, filter, lasting, message, v5, v311};

#[test]
fn session_that_is_fought_over_stays_with_who_has_it() {
    // [MQTT-3.1.4-3] up to a bound.
    for lasts in [true, false] {
        let limits = Limits { takeovers_max: 3, ..Limits::default() };
        let mut broker = Cluster::with(2, limits, Hooks::default());
        let client = || if lasts { lasting("bob", 100) } else { v5("bob") };
        let mut holder = broker.join(&client());
        for _ in 0..3 {
            let next = broker.join(&client());
            assert_eq!(broker.received(holder), ["DISCONNECT 8e"]);
            holder = next;
        }
        let fourth = broker.connect(&client());
        assert_eq!(broker.received(fourth), ["CONNACK 9f"]);
        // A clean start is a takeover like any other.
        let fifth = broker.connect(&client().clean());
        assert_eq!(broker.received(fifth), ["CONNACK 9f"]);
        let old = broker.connect(&v311("bob"));
        assert_eq!(broker.received(old), ["CONNACK 88"]);
        assert!(broker.is_open(holder) && broker.received(holder).is_empty());
        assert_eq!(broker.metrics().get(Metric::LimitTakeovers), 3);
        assert_eq!(broker.metrics().get(Metric::ConnectsRefusedRate), 3);
        // Others are not meant, and time heals.
        broker.join(&v5("eve"));
        broker.advance(10);
        broker.join(&client());
        assert_eq!(broker.received(holder), ["DISCONNECT 8e"]);
    }
}

/// The payloads that a session without a connection finds when it comes back.
fn waiting(broker: &mut Cluster) -> Vec<String> {
    let bob = broker.join(&lasting("bob", 100));
    let mut found = Vec::new();
    loop {
        let got = broker.got(bob);
        if got.is_empty() {
            broker.lose(bob);
            return found;
        }
        for it in got {
            if let Got::Publish(delivery) = it {
                found.push(delivery.payload.clone());
                broker.puback(bob, delivery.id);
            }
        }
    }
}

#[test]
fn full_queue_without_connection_loses_its_oldest_for_a_message_to_many() {
    for shards in [1, 2] {
        let limits = Limits { session_queue_messages_max: 3, ..Limits::default() };
        let mut broker = Cluster::with(shards, limits, Hooks::default());
        let bob = broker.join(&lasting("bob", 100));
        broker.listen(bob, "a", 1);
        broker.lose(bob);
        let eve = broker.join(&v5("eve"));
        broker.listen(eve, "a", 0);
        let dan = broker.join(&v5("dan"));
        broker.listen(dan, "a", 0);
        let alice = broker.join(&v5("alice"));
        for id in 1..=7 {
            broker.publish(alice, &message("a", &id.to_string(), 1, id));
        }
        let acknowledged: Vec<_> = (1..=7).map(|id| format!("PUBACK {id}")).collect();
        assert_eq!(broker.received(alice), acknowledged);
        assert_eq!(broker.rows_of(RowKind::Queued).len(), 3);
        assert_eq!(broker.metrics().get(Metric::QueuedMessages), 3);
        assert_eq!(broker.metrics().get(Metric::DroppedQueueFull), 4);
        assert_eq!(broker.metrics().get(Metric::LimitQueueMessages), 4);
        assert_eq!(waiting(&mut broker), ["5", "6", "7"]);
        assert_eq!(broker.session_rows()[2], 0);
        assert_eq!(broker.metrics().get(Metric::QueuedMessages), 0);
        assert_eq!(broker.metrics().get(Metric::QueuedBytes), 0);
    }
}

#[test]
fn full_queue_by_bytes_drops_what_the_new_message_needs() {
    let limits = Limits { session_queue_bytes_max: 4_000, ..Limits::default() };
    for online in [true, false] {
        let mut broker = Cluster::with(1, limits.clone(), Hooks::default());
        let bob = broker.join(&lasting("bob", 100).with(Property::ReceiveMaximum(1)));
        broker.listen(bob, "a", 1);
        if !online {
            broker.lose(bob);
        }
        let eve = broker.join(&v5("eve"));
        broker.listen(eve, "a", 0);
        let alice = broker.join(&v5("alice"));
        for id in 1..=9 {
            broker.publish(alice, &message("a", &format!("{id}{}", "x".repeat(300)), 1, id));
        }
        broker.publish(alice, &message("a", &"y".repeat(2_000), 1, 10));
        // One that can never fit pushes nothing out.
        broker.publish(alice, &message("a", &"z".repeat(9_000), 1, 11));
        if online {
            broker.lose(bob);
        }
        let found = waiting(&mut broker);
        let first = found.first().unwrap();
        let kept_in_flight = if online { '1' } else { '9' };
        assert!(found.len() < 7 && found.len() > 2, "{found:?}");
        assert!(online == first.starts_with(kept_in_flight), "{found:?}");
        assert!(found.last().unwrap().starts_with('y'), "{found:?}");
        let dropped = broker.metrics().get(Metric::DroppedQueueFull);
        assert_eq!(dropped, 11 - found.len() as u64, "{found:?}");
    }
}

#[test]
fn what_the_client_may_have_seen_is_not_pushed_out() {
    let limits = Limits { session_queue_messages_max: 4, ..Limits::default() };
    for crash in [false, true] {
        let mut broker = Cluster::with(1, limits.clone(), Hooks::default());
        let bob = broker.join(&lasting("bob", 100).with(Property::ReceiveMaximum(2)));
        broker.listen(bob, "a", 2);
        let eve = broker.join(&v5("eve"));
        broker.listen(eve, "a", 0);
        let alice = broker.join(&v5("alice"));
        for id in 1..=4 {
            broker.publish(alice, &message("a", &id.to_string(), 2, id));
            broker.pubrel(alice, id);
        }
        let sent = broker.received(bob);
        assert_eq!(sent, ["PUBLISH q2 1 a=1", "PUBLISH q2 2 a=2"]);
        broker.lose(bob);
        if crash {
            broker.crash();
        }
        let eve = broker.join(&v5("eve"));
        broker.listen(eve, "a", 0);
        let alice = broker.join(&v5("alice"));
        for id in 5..=6 {
            broker.publish(alice, &message("a", &id.to_string(), 2, id));
        }
        let bob = broker.join(&lasting("bob", 100));
        let again = broker.received(bob);
        let expected = [
            "PUBLISH q2 1 dup a=1",
            "PUBLISH q2 2 dup a=2",
            "PUBLISH q2 3 a=5",
            "PUBLISH q2 4 a=6",
        ];
        assert_eq!(again, expected);
    }
}

#[test]
fn queue_that_is_read_when_its_client_comes_back_is_left_alone() {
    let limits = Limits { session_queue_messages_max: 2, ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 1);
    broker.lose(bob);
    let eve = broker.join(&v5("eve"));
    broker.listen(eve, "a", 0);
    let alice = broker.join(&v5("alice"));
    broker.hold_reads(true);
    for id in 1..=4 {
        broker.publish(alice, &message("a", &id.to_string(), 1, id));
    }
    assert_eq!(broker.rows_of(RowKind::Queued).len(), 4);
    let bob = broker.connect(&lasting("bob", 100));
    broker.lose(bob);
    broker.hold_reads(false);
    // The answer to an old question changes nothing; the next message asks anew.
    assert_eq!(broker.rows_of(RowKind::Queued).len(), 4);
    broker.publish(alice, &message("a", "5", 1, 5));
    assert_eq!(waiting(&mut broker), ["4", "5"]);
    assert_eq!(broker.metrics().get(Metric::QueuedMessages), 0);
}

#[test]
fn counters_tell_what_goes_through() {
    let mut broker = Cluster::new(2);
    let bob = broker.join(&lasting("bob", 100));
    broker.subscribe(bob, 1, &[filter("a", 1), filter("b/#", 0)]);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("a", "four", 1, 1).retained());
    broker.publish(alice, &message("$x", "", 1, 2));
    broker.puback(bob, 1);
    let all = broker.metrics();
    let of = |metric| all.get(metric);
    assert_eq!((of(Metric::SessionsConnected), of(Metric::SessionsOffline)), (2, 0));
    assert_eq!((of(Metric::Subscriptions), of(Metric::RetainedMessages)), (2, 1));
    assert_eq!(of(Metric::ConnectsAccepted), 2);
    // CONNECT twice, SUBSCRIBE, PUBLISH twice, PUBACK; and what answers them.
    assert_eq!((of(Metric::PacketsReceived), of(Metric::PacketsSent)), (6, 6));
    assert_eq!((of(Metric::PublishReceived), of(Metric::PublishSent)), (2, 1));
    assert_eq!((of(Metric::PublishBytesReceived), of(Metric::PublishBytesSent)), (4, 4));
    assert_eq!(of(Metric::PublishRefusedRights), 1);
    broker.unsubscribe(bob, 2, &["b/#", "c"]);
    assert_eq!(broker.metrics().get(Metric::Subscriptions), 1);
    broker.lose(bob);
    broker.publish(alice, &message("a", "2", 1, 3));
    assert_eq!(broker.metrics().get(Metric::SessionsOffline), 1);
    assert_eq!(broker.metrics().get(Metric::QueuedMessages), 1);
    broker.crash();
    let all = broker.metrics();
    assert_eq!(all.get(Metric::Subscriptions), 1);
    assert_eq!((all.get(Metric::QueuedMessages), all.get(Metric::RetainedMessages)), (1, 1));
    broker.advance(100);
    let all = broker.metrics();
    assert_eq!((all.get(Metric::SessionsExpired), all.get(Metric::SessionsOffline)), (1, 0));
    assert_eq!((all.get(Metric::Subscriptions), all.get(Metric::QueuedMessages)), (0, 0));
}

#[test]
fn bounds_that_bite_are_counted_by_their_key() {
    let limits = Limits {
        subscriptions_per_session_max: 2,
        wildcard_subscriptions_per_session_max: 1,
        filters_per_subscribe_max: 4,
        retained_messages_max: 1,
        retained_message_bytes_max: 8,
        retained_bytes_max: 1_000,
        user_properties_max: 1,
        user_property_bytes_max: 10,
        receive_maximum: 1,
        topic_alias_max: 1,
        ..Limits::default()
    };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let alice = broker.join(&v5("alice"));
    broker.subscribe(alice, 1, &[filter("a/#", 0), filter("b/#", 0), filter("c", 0)]);
    broker.subscribe(alice, 2, &[filter("d", 0), filter(&"x".repeat(2_000), 0)]);
    broker.subscribe(alice, 3, &[filter(&"/".repeat(40), 0)]);
    let expected = ["SUBACK 1 [00, 97, 00]", "SUBACK 2 [97, 8f]", "SUBACK 3 [8f]"];
    assert_eq!(broker.received(alice), expected);
    broker.publish(alice, &message("r", "1", 1, 1).retained());
    broker.publish(alice, &message("s", "1", 1, 2).retained());
    broker.publish(alice, &message("r", "123456789", 1, 3).retained());
    let two = message("u", "", 1, 4).with(Property::UserProperty("a", "b"));
    broker.publish(alice, &two.with(Property::UserProperty("a", "b")));
    let long = message("u", "", 1, 5).with(Property::UserProperty("a", "0123456789"));
    broker.publish(alice, &long);
    let got = broker.received(alice);
    assert_eq!(got[1..], ["PUBACK 2 97", "PUBACK 3 97", "PUBACK 4 97", "PUBACK 5 97"]);
    let all = broker.metrics();
    let bounds = [
        Metric::LimitWildcards,
        Metric::LimitSubscriptions,
        Metric::LimitTopicBytes,
        Metric::LimitTopicLevels,
        Metric::LimitRetainedMessages,
        Metric::LimitRetainedMessageBytes,
        Metric::LimitUserProperties,
        Metric::LimitUserPropertyBytes,
    ];
    for bound in bounds {
        assert_eq!(all.get(bound), 1, "{bound:?}");
    }
    assert_eq!(all.get(Metric::PublishRefusedQuota), 4);
    broker.publish(alice, &message("q", "", 2, 6));
    broker.publish(alice, &message("q", "", 2, 7));
    assert_eq!(broker.received(alice)[1..], ["DISCONNECT 93"]);
    let bob = broker.join(&v5("bob"));
    broker.subscribe(bob, 1, &["a"; 5].map(|it| filter(it, 0)));
    let eve = broker.join(&v5("eve"));
    broker.publish(eve, &message("q", "", 0, 0).with(Property::TopicAlias(2)));
    let dan = broker.join(&v5("dan"));
    broker.raw(dan, vec![0x30, 0xff, 0xff, 0x7f]);
    assert_eq!(broker.received(dan), ["DISCONNECT 95"]);
    let all = broker.metrics();
    let bounds = [
        Metric::LimitReceiveMaximum,
        Metric::LimitFilters,
        Metric::LimitTopicAlias,
        Metric::LimitPacketBytes,
    ];
    for bound in bounds {
        assert_eq!(all.get(bound), 1, "{bound:?}");
    }
    assert_eq!((all.get(Metric::ClosedProtocol), all.get(Metric::ClosedMalformed)), (3, 1));
}

#[test]
fn retained_bytes_have_a_bound_also_for_wills_and_updates() {
    let limits = Limits { retained_bytes_max: 1_000, ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("r", &"x".repeat(500), 1, 1).retained());
    broker.publish(alice, &message("s", &"x".repeat(500), 1, 2).retained());
    broker.publish(alice, &message("r", &"x".repeat(700), 1, 3).retained());
    assert_eq!(broker.received(alice)[1], "PUBACK 2 97");
    let eve = broker.join(&v5("eve").will("w", &"x".repeat(500), 1, 0).will_retained());
    broker.lose(eve);
    let all = broker.metrics();
    assert_eq!((all.get(Metric::RetainedMessages), all.get(Metric::LimitRetainedBytes)), (1, 2));
    assert_eq!(all.get(Metric::DroppedRetainedFull), 1);
}

#[test]
fn messages_that_do_not_arrive_are_counted_by_their_cause() {
    let mut broker = Cluster::new(1);
    let bob = broker.join(&v5("bob").with(Property::MaximumPacketSize(100)));
    broker.subscribe(bob, 1, &[filter("a", 1), filter("b", 0)]);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("a", &"x".repeat(200), 1, 1));
    broker.publish(alice, &message("b", &"x".repeat(200), 0, 0));
    assert_eq!(broker.metrics().get(Metric::DroppedTooLarge), 2);
    broker.congest(bob, true);
    broker.publish(alice, &message("b", "", 0, 0));
    let short = message("a", "", 1, 2).with(Property::MessageExpiry(1));
    broker.publish(alice, &short);
    broker.advance(2);
    broker.congest(bob, false);
    let all = broker.metrics();
    assert_eq!((all.get(Metric::DroppedSlowReader), all.get(Metric::DroppedExpired)), (1, 1));
    assert_eq!(all.get(Metric::LimitOutboundSoft), 1);
    assert_eq!(broker.received(bob), ["SUBACK 1 [01, 00]"]);
}

#[test]
fn burst_to_one_connection_has_the_bound_that_is_configured() {
    let burst = |burst_bytes_max| {
        let limits = Limits { burst_bytes_max, ..Limits::default() };
        let mut broker = Cluster::with(1, limits, Hooks::default());
        let bob = broker.join(&v5("bob"));
        broker.listen(bob, "a", 0);
        broker.hold_writes(true);
        let alice = broker.join(&v5("alice"));
        for _ in 0..20 {
            broker.publish(alice, &message("a", &"x".repeat(1_000), 0, 0));
        }
        broker.received(bob).len()
    };
    assert_eq!(burst(1_000), 2);
    assert_eq!(burst(4_000), 8);
    assert_eq!(burst(100_000), 20);
}

#[test]
fn keep_alive_of_none_becomes_the_servers_where_it_can_be_told() {
    let limits = Limits { keep_alive_max: Duration::from_secs(60), ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    for (asked, told, silence) in [(0, Some(60), 90), (61, Some(60), 90), (10, None, 15)] {
        let link = broker.connect(&v5("bob").keep_alive(asked));
        let got = broker.got(link);
        let [Got::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
        // [MQTT-3.2.2-21]
        assert_eq!(properties.as_properties().server_keep_alive(), told);
        broker.advance(silence - 1);
        assert!(broker.is_open(link), "{asked}");
        broker.advance(1);
        assert_eq!(broker.received(link), ["DISCONNECT 8d"], "{asked}");
    }
    // MQTT 3.1.1 cannot be told another one than it asked for.
    let none = broker.join(&v311("old").keep_alive(0));
    let long = broker.join(&v311("long").keep_alive(600));
    broker.advance(899);
    assert!(broker.is_open(none) && broker.is_open(long));
    broker.advance(1_000_000);
    assert!(broker.is_open(none) && !broker.is_open(long));
    assert_eq!(broker.metrics().get(Metric::ClosedKeepAlive), 4);
}

#[test]
fn exactly_once_identifier_is_stored_once_however_often_it_is_sent() {
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 1);
    broker.lose(bob);
    let alice = broker.join(&lasting("alice", 100));
    for _ in 0..50 {
        broker.publish(alice, &message("a", "1", 2, 7));
    }
    assert_eq!(broker.rows_of(RowKind::InFlight).len(), 1);
    assert_eq!(broker.received(alice).len(), 50);
    let records = broker.records();
    for _ in 0..50 {
        broker.publish(alice, &message("a", "1", 2, 7));
    }
    assert_eq!(broker.records(), records, "a repeat costs a record");
    broker.disconnect(alice, ReasonCode::Success);
    let alice = broker.join(&lasting("alice", 100));
    broker.publish(alice, &message("a", "1", 2, 7));
    assert_eq!(broker.rows_of(RowKind::InFlight).len(), 1);
    assert_eq!(broker.rows_of(RowKind::Queued).len(), 1);
}

#[test]
fn what_waits_in_memory_has_bounds_of_its_own() {
    let by_messages = Limits { memory_queue_messages_max: 3, ..Limits::default() };
    let by_bytes =
        Limits { memory_queue_bytes_max: 4_000, packet_bytes_max: 3_000, ..Limits::default() };
    for (limits, bound) in
        [(by_messages, Metric::LimitMemoryQueueMessages), (by_bytes, Metric::LimitMemoryQueueBytes)]
    {
        let mut broker = Cluster::with(1, limits, Hooks::default());
        // One each is in flight: the others wait.
        let slow = Property::ReceiveMaximum(1);
        let bob = broker.join(&v5("bob").with(slow));
        let carol = broker.join(&lasting("carol", 100).with(slow));
        for (link, topic) in [(bob, "bob"), (carol, "carol"), (bob, "all"), (carol, "all")] {
            broker.listen(link, topic, 1);
        }
        let alice = broker.join(&v5("alice"));
        let payload = |id: u16| format!("{id}{}", "x".repeat(1_000));
        for topic in ["bob", "carol"] {
            for id in 1..=5 {
                broker.publish(alice, &message(topic, &payload(id), 1, id));
            }
        }
        // To one alone it is refused; who outlives its connection takes it.
        let answers = broker.received(alice);
        let refused: Vec<_> = answers.iter().filter(|it| it.ends_with(" 97")).collect();
        assert_eq!(refused, ["PUBACK 5 97"], "{bound:?}");
        assert_eq!(broker.metrics().get(bound), 1);
        // To many the oldest goes, and is counted.
        broker.publish(alice, &message("all", &payload(9), 1, 9));
        assert_eq!(broker.received(alice), ["PUBACK 9"]);
        assert_eq!(broker.metrics().get(Metric::DroppedQueueFull), 1);
        assert_eq!(broker.metrics().get(bound), 2);
        let mut numbers = Vec::new();
        loop {
            let got = broker.got(bob);
            let Some(Got::Publish(delivery)) = got.last() else { break };
            numbers.push(delivery.payload.as_bytes()[0] - b'0');
            broker.puback(bob, delivery.id);
        }
        assert_eq!(numbers, [1, 3, 4, 9], "{bound:?}");
    }
}

#[test]
fn what_is_held_of_qos_0_is_bound_by_what_may_be_unwritten() {
    let limits = Limits { held_bytes_max: 10_000, ..Limits::default() };
    let mut broker = Cluster::with(2, limits, Hooks::default());
    let bob = broker.join(&v5(&broker.name_on("bob", 0)));
    broker.listen(bob, "a", 0);
    let alice = broker.join(&v5(&broker.name_on("alice", 0)));
    // A SUBACK that waits for the other shard holds them.
    broker.hold_peers(true);
    broker.subscribe(bob, 7, &[filter("b", 0)]);
    for _ in 0..20 {
        broker.publish(alice, &message("a", &"x".repeat(1_000), 0, 0));
    }
    broker.hold_peers(false);
    let received = broker.received(bob);
    assert!((5..=10).contains(&(received.len() - 1)), "{received:?}");
    let dropped = broker.metrics().get(Metric::DroppedSlowReader);
    assert_eq!(dropped, 21 - received.len() as u64);
}

//! What Clients must not do, and what they hear of it: DISCONNECT in MQTT 5, nothing in 3.1.1.

use tidings_core::codec::{Packet, Property};
use tidings_core::limits::{Limits, Told};
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Options, filter, message, v5, v311};

/// Bytes as an MQTT 5 Client sends them, and the code of the DISCONNECT it gets.
fn refusals() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let connect = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x03bob".to_vec();
    vec![
        ("second CONNECT", connect, "DISCONNECT 82"), // [MQTT-3.1.0-2]
        ("CONNACK", vec![0x20, 3, 0, 0, 0], "DISCONNECT 82"),
        ("SUBACK", vec![0x90, 4, 0, 1, 0, 0], "DISCONNECT 82"),
        ("UNSUBACK", vec![0xB0, 4, 0, 1, 0, 0], "DISCONNECT 82"),
        ("PINGRESP", vec![0xD0, 0], "DISCONNECT 82"),
        ("AUTH", vec![0xF0, 0], "DISCONNECT 82"), // [MQTT-4.12.0-7]
        ("reserved type", vec![0x00, 0], "DISCONNECT 81"),
        ("PUBREL without flags", vec![0x60, 2, 0, 1], "DISCONNECT 81"), // [MQTT-3.6.1-1]
        ("QoS 3", vec![0x36, 5, 0, 1, b'a', 0, 1], "DISCONNECT 81"),    // [MQTT-3.3.1-4]
        ("unknown alias", vec![0x30, 6, 0, 0, 3, 0x23, 0, 1], "DISCONNECT 82"),
        ("subscription identifier", vec![0x30, 6, 0, 1, b'a', 2, 0x0B, 1], "DISCONNECT 82"),
    ]
}

#[test]
fn protocol_errors_are_told_in_mqtt_5() {
    // [MQTT-4.13.1-1], [MQTT-4.13.2-1]
    for (what, bytes, expected) in refusals() {
        let mut broker = Cluster::new(1);
        let bob = broker.join(&v5("bob"));
        broker.raw(bob, bytes);
        assert_eq!(broker.received(bob), [expected], "{what}");
        assert!(broker.closed(bob).is_some(), "{what}");
    }
}

#[test]
fn protocol_errors_close_mqtt_311_without_a_word() {
    let connect = b"\x10\x0F\x00\x04MQTT\x04\x02\x00\x00\x00\x03bob".to_vec();
    let wrong = [
        connect,
        vec![0x20, 2, 0, 0],
        vec![0x90, 3, 0, 1, 0],
        vec![0xB0, 2, 0, 1],
        vec![0xD0, 0],
        vec![0xF0, 0],
        vec![0x60, 2, 0, 1],
    ];
    for bytes in wrong {
        let mut broker = Cluster::new(1);
        let bob = broker.join(&v311("bob"));
        broker.raw(bob, bytes.clone());
        assert!(broker.received(bob).is_empty(), "{bytes:?}");
        assert!(broker.closed(bob).is_some(), "{bytes:?}");
    }
}

#[test]
fn nothing_is_taken_or_sent_behind_a_close() {
    let mut broker = Cluster::new(1);
    let bob = broker.join(&v5("bob"));
    broker.listen(bob, "#", 1);
    broker.raw(bob, vec![0xF0, 0]);
    broker.received(bob);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.send(bob, &Packet::Pingreq);
    assert!(broker.received(bob).is_empty());
}

fn connack_of(options: &Options, limits: Limits) -> Vec<String> {
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let link = broker.connect(options);
    assert!(!broker.is_open(link) && broker.closed(link).is_some());
    broker.received(link)
}

#[test]
fn connect_beyond_the_bounds_is_refused_in_connack() {
    let default = Limits::default;
    assert_eq!(connack_of(&v5(&"x".repeat(129)), default()), ["CONNACK 85"]);
    assert_eq!(connack_of(&v311("").resume(), default()), ["CONNACK 85"]);
    assert_eq!(connack_of(&v5("bob").will("$SYS/x", "", 0, 0), default()), ["CONNACK 90"]);
}

#[test]
fn sessions_of_one_user_have_a_bound() {
    let limits = Limits { sessions_per_user_max: 2, ..Limits::default() };
    let mut broker = Cluster::with(2, limits, Hooks::default());
    let one = broker.join(&v5("1").user("bob"));
    broker.join(&v5("2").user("bob"));
    broker.join(&v5("3").user("bobby"));
    let third = broker.connect(&v5("3").user("bob"));
    assert_eq!(broker.received(third), ["CONNACK 97"]);
    // Another connection of a session it has is none more.
    broker.join(&v5("2").user("bob"));
    broker.lose(one);
    broker.join(&v5("3").user("bob"));
}

#[test]
fn filters_are_refused_one_by_one() {
    // [MQTT-3.8.4-6], [MQTT-3.9.3-1]
    let limits = Limits {
        subscriptions_per_session_max: 3,
        wildcard_subscriptions_per_session_max: 1,
        filters_per_subscribe_max: 8,
        ..Limits::default()
    };
    let mut broker = Cluster::with(2, limits, Hooks::default());
    let bob = broker.join(&v5("bob"));
    let wanted = ["a", "a/#", "b/#", "$share/g/a", "b", "a", "c"];
    broker.subscribe(bob, 1, &wanted.map(|it| filter(it, 1)));
    assert_eq!(broker.received(bob), ["SUBACK 1 [01, 01, 97, 01, 97, 01, 97]"]);
    broker.subscribe(bob, 2, &["a"; 9].map(|it| filter(it, 1)));
    assert_eq!(broker.received(bob), ["DISCONNECT 97"]);
    let old = broker.join(&v311("old"));
    broker.subscribe(old, 1, &["a", "$share/g/a"].map(|it| filter(it, 2)));
    assert_eq!(broker.received(old), ["SUBACK 1 [02, 02]"]);
}

#[test]
fn connack_tells_the_bounds_that_differ_from_what_was_asked() {
    let mut broker = Cluster::new(1);
    let link = broker.connect(&v5("").with(Property::SessionExpiry(u32::MAX)));
    let got = broker.got(link);
    let [crate::harness::Got::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
    let told = properties.as_properties();
    assert_eq!(told.assigned_client_id(), Some("assigned-0")); // [MQTT-3.2.2-16]
    assert_eq!(told.session_expiry(), Some(30 * 24 * 3600));
    assert_eq!(told.server_keep_alive(), Some(1200)); // [MQTT-3.2.2-21]
    assert_eq!((told.receive_maximum(), told.topic_alias_maximum()), (Some(64), Some(32)));
    assert_eq!(told.maximum_packet_size(), Some(256 * 1024));
    assert!(told.shared_subscription_available());
}

#[test]
fn payload_that_is_not_the_text_it_says_is_refused_where_that_is_checked() {
    // §3.3.2.3.2
    let text = |qos, id| message("a", b"\xff", qos, id).with(Property::PayloadFormat(true));
    let limits = Limits { payload_format_checked: true, ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let alice = broker.join(&v5("alice"));
    broker.listen(alice, "a", 0);
    broker.publish(alice, &text(1, 1));
    broker.publish(alice, &text(2, 2));
    broker.publish(alice, &message("a", b"\xff", 1, 3));
    broker.publish(alice, &message("a", "ok", 2, 2).with(Property::PayloadFormat(true)));
    let acks = ["PUBACK 1 99", "PUBREC 2 99", "PUBACK 3", "PUBLISH q0 a=\u{fffd}"];
    assert_eq!(broker.received(alice), [&acks[..], &["PUBREC 2", "PUBLISH q0 a=ok"]].concat());
    broker.publish(alice, &text(0, 0));
    assert_eq!(broker.received(alice), ["DISCONNECT 99"]);
    // Otherwise it is nobody's business but theirs.
    let mut broker = Cluster::new(1);
    let alice = broker.join(&v5("alice"));
    broker.listen(alice, "a", 0);
    broker.publish(alice, &text(0, 0));
    assert_eq!(broker.received(alice), ["PUBLISH q0 a=\u{fffd}"]);
}

#[test]
fn answers_larger_than_the_client_takes_are_not_sent() {
    // [MQTT-3.1.2-24]
    let mut broker = Cluster::new(1);
    for (largest, connack) in [(4, &[][..]), (5, &["CONNACK 95"]), (17, &["CONNACK 95"])] {
        let bob = broker.connect(&v5("bob").with(Property::MaximumPacketSize(largest)));
        assert_eq!(broker.received(bob), connack, "{largest}");
        assert!(broker.closed(bob).is_some(), "{largest}");
    }
    let names: Vec<String> = (0..125).map(|number| format!("a/{number}")).collect();
    for (largest, filters, suback) in [(130, 125, false), (131, 125, true), (129, 124, true)] {
        let bob = broker.join(&v5("bob").with(Property::MaximumPacketSize(largest)));
        let filters: Vec<_> = names.iter().take(filters).map(|name| filter(name, 0)).collect();
        broker.subscribe(bob, 1, &filters);
        let got = broker.received(bob);
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!(got[0].starts_with("SUBACK 1"), suback, "{got:?}");
        assert_eq!(got[0] == "DISCONNECT 95", !suback, "{got:?}");
    }
}

#[test]
fn disconnect_says_why_in_words_where_that_is_wanted_and_fits() {
    // [MQTT-3.14.2-3]
    for (told, largest, expected) in [
        (false, 200, "DISCONNECT 82"),
        (true, 200, "DISCONNECT 82 protocol error: second CONNECT on one network connection"),
        (true, 60, "DISCONNECT 82"),
    ] {
        let told = Told { reason_strings: told, ..Told::default() };
        let limits = Limits { told, ..Limits::default() };
        let mut broker = Cluster::with(1, limits, Hooks::default());
        let options = v5("bob").with(Property::MaximumPacketSize(largest));
        let bob = broker.join(&options);
        broker.raw(bob, b"\x10\x10\0\x04MQTT\x05\x02\0\0\0\0\x03bob".to_vec());
        assert_eq!(broker.received(bob), [expected]);
    }
}

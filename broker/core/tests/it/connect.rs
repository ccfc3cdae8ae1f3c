//! CONNECT: which session a Client gets, takeover, and how connections and sessions end.

use tidings_core::codec::{PropertiesBuf, Property, ReasonCode};
use tidings_core::limits::{Limits, Told};
use tidings_core::record::RowKind;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Got, Options, filter, lasting, message, v5, v311};

#[test]
fn clean_start_begins_anew_and_resume_finds_what_is_there() {
    // [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.2.2-2], [MQTT-3.2.2-3]
    for shards in [1, 2, 4] {
        let mut broker = Cluster::new(shards);
        let bob = broker.connect(&lasting("bob", 100));
        assert_eq!(broker.received(bob), ["CONNACK"]);
        broker.listen(bob, "a", 1);
        broker.lose(bob);
        let bob = broker.connect(&lasting("bob", 100));
        assert_eq!(broker.received(bob), ["CONNACK present"]);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("a", "hello", 1, 1));
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=hello"]);
        broker.lose(bob);
        let bob = broker.connect(&lasting("bob", 100).clean());
        assert_eq!(broker.received(bob), ["CONNACK"]);
        broker.publish(alice, &message("a", "nobody", 1, 2));
        assert!(broker.received(bob).is_empty());
        assert_eq!(broker.received(alice), ["PUBACK 1", "PUBACK 2 10"]);
    }
}

#[test]
fn session_of_mqtt_311_lasts_unless_it_is_clean() {
    let mut broker = Cluster::new(1);
    let bob = broker.connect(&v311("bob").resume());
    broker.listen(bob, "a", 1);
    broker.disconnect(bob, ReasonCode::Success);
    let bob = broker.connect(&v311("bob").resume());
    assert_eq!(broker.received(bob), ["CONNACK present"]);
    broker.disconnect(bob, ReasonCode::Success);
    let bob = broker.connect(&v311("bob"));
    assert_eq!(broker.received(bob), ["CONNACK"]);
    broker.disconnect(bob, ReasonCode::Success);
    let bob = broker.connect(&v311("bob").resume());
    assert_eq!(broker.received(bob), ["CONNACK"]);
}

#[test]
fn live_session_is_taken_over_and_the_old_connection_told() {
    // [MQTT-3.1.4-3]
    let mut broker = Cluster::new(2);
    let old = broker.join(&lasting("bob", 100));
    broker.listen(old, "a", 1);
    let new = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(old), ["DISCONNECT 8e"]);
    assert!(broker.closed(old).is_some());
    assert_eq!(broker.received(new), ["CONNACK present"]);
    let old = broker.join(&v311("carol"));
    let new = broker.connect(&v311("carol"));
    assert!(broker.received(old).is_empty() && broker.closed(old).is_some());
    assert_eq!(broker.received(new), ["CONNACK"]);
}

#[test]
fn session_without_expiry_ends_when_it_is_taken_over() {
    let mut broker = Cluster::new(1);
    let old = broker.join(&v5("bob"));
    broker.listen(old, "a", 1);
    let new = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(new), ["CONNACK"]);
    // The same where the newer connection said that the session shall end with it.
    let ends = broker.connect(&v5("bob").resume());
    assert_eq!(broker.received(ends), ["CONNACK present"]);
    let new = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(new), ["CONNACK"]);
}

#[test]
fn takeover_while_opening_leaves_one_connection_and_one_connack() {
    // [MQTT-3.2.0-2], [MQTT-3.14.0-1]: who had no CONNACK gets no DISCONNECT.
    let mut broker = Cluster::new(1);
    broker.lazy();
    let first = broker.connect(&lasting("bob", 100));
    let second = broker.connect(&lasting("bob", 100));
    broker.sync();
    assert!(broker.received(first).is_empty() && broker.closed(first).is_some());
    // The Client has not heard of a session yet, and it was never stored before.
    assert_eq!(broker.received(second), ["CONNACK"]);

    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 1);
    broker.lose(bob);
    let alice = broker.join(&v5("alice"));
    for id in 1..=3 {
        broker.publish(alice, &message("a", &id.to_string(), 1, id));
    }
    broker.hold_reads(true);
    let first = broker.connect(&lasting("bob", 100));
    let second = broker.connect(&lasting("bob", 100));
    assert!(broker.received(second).is_empty());
    broker.hold_reads(false);
    assert!(broker.received(first).is_empty());
    let expected = ["CONNACK present", "PUBLISH q1 1 a=1", "PUBLISH q1 2 a=2", "PUBLISH q1 3 a=3"];
    assert_eq!(broker.received(second), expected);
}

#[test]
fn connection_lost_while_its_session_is_read_leaves_the_session_as_it_was() {
    let mut broker = Cluster::new(1);
    let alice = broker.join(&v5("alice"));
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 2);
    for id in 1..=3 {
        broker.publish(alice, &message("a", &id.to_string(), 2, id));
        broker.pubrel(alice, id);
    }
    broker.pubrec(bob, 1);
    broker.lose(bob);
    broker.received(bob);
    broker.hold_reads(true);
    for _ in 0..2 {
        let bob = broker.connect(&lasting("bob", 100));
        broker.lose(bob);
    }
    let bob = broker.connect(&lasting("bob", 100));
    // The first answers are those to questions of connections that are over.
    broker.answer_read(0);
    broker.answer_read(0);
    assert!(broker.received(bob).is_empty());
    broker.hold_reads(false);
    let expected = ["CONNACK present", "PUBREL 1", "PUBLISH q2 2 dup a=2", "PUBLISH q2 3 dup a=3"];
    assert_eq!(broker.received(bob), expected);
}

#[test]
fn connack_of_a_new_lasting_session_waits_until_it_is_stored() {
    let mut broker = Cluster::new(1);
    broker.lazy();
    let bob = broker.connect(&lasting("bob", 100));
    assert!(broker.received(bob).is_empty());
    broker.sync();
    assert_eq!(broker.received(bob), ["CONNACK"]);
    broker.crash();
    let bob = broker.connect(&lasting("bob", 100));
    broker.sync();
    assert_eq!(broker.received(bob), ["CONNACK present"]);
}

#[test]
fn connack_waits_until_the_session_it_replaces_is_gone_for_good() {
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.lazy();
    let mut ends = PropertiesBuf::new();
    ends.push(Property::SessionExpiry(0));
    broker.disconnect_with(bob, ReasonCode::Success, &ends);
    let bob = broker.connect(&v5("bob"));
    assert!(broker.received(bob).is_empty());
    broker.sync();
    assert_eq!(broker.received(bob), ["CONNACK"]);
}

#[test]
fn session_ends_when_its_expiry_has_passed() {
    // [MQTT-3.1.2-23], [MQTT-4.1.0-2]
    for crash in [false, true] {
        let mut broker = Cluster::new(2);
        let bob = broker.join(&lasting("bob", 100));
        broker.listen(bob, "a", 1);
        broker.lose(bob);
        if crash {
            broker.crash();
        }
        broker.advance(99);
        let bob = broker.connect(&lasting("bob", 100));
        assert_eq!(broker.received(bob), ["CONNACK present"]);
        broker.lose(bob);
        broker.advance(100);
        assert_eq!(broker.session_rows(), [0; 5]);
        let bob = broker.connect(&lasting("bob", 100));
        assert_eq!(broker.received(bob), ["CONNACK"]);
        // A Client that comes before anybody has looked at the clock does not find it either.
        broker.lose(bob);
        broker.advance_unnoticed(100);
        let bob = broker.connect(&lasting("bob", 100));
        assert_eq!(broker.received(bob), ["CONNACK"]);
    }
}

#[test]
fn disconnect_changes_the_expiry_of_its_session() {
    let expiring = |seconds| {
        let mut properties = PropertiesBuf::new();
        properties.push(Property::SessionExpiry(seconds));
        properties
    };
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.disconnect_with(bob, ReasonCode::Success, &expiring(10));
    broker.advance(9);
    let bob = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(bob), ["CONNACK present"]);
    broker.disconnect_with(bob, ReasonCode::Success, &expiring(0));
    assert_eq!(broker.session_rows(), [0; 5]);
    // §3.14.2.2.2: a session that was to end cannot be made to last.
    let bob = broker.join(&v5("bob"));
    broker.disconnect_with(bob, ReasonCode::Success, &expiring(10));
    assert_eq!(broker.received(bob), ["DISCONNECT 82"]);
}

#[test]
fn clients_of_two_users_may_share_an_identifier() {
    let mut broker = Cluster::new(2);
    let one = broker.join(&v5("phone").user("alice"));
    let other = broker.join(&v5("phone").user("bob"));
    assert!(broker.is_open(one) && broker.is_open(other));
}

#[test]
fn silence_of_one_and_a_half_keep_alive_ends_the_connection() {
    // [MQTT-3.1.2-22]
    let mut broker = Cluster::new(1);
    let bob = broker.join(&v5("bob").keep_alive(10));
    let old = broker.join(&v311("old").keep_alive(10));
    broker.advance(14);
    broker.send(bob, &tidings_core::codec::Packet::Pingreq);
    broker.advance(1);
    assert!(broker.closed(old).is_some() && broker.received(old).is_empty());
    broker.advance(13);
    assert_eq!(broker.received(bob), ["PINGRESP"]);
    broker.advance(1);
    assert_eq!(broker.received(bob), ["DISCONNECT 8d"]);
}

#[test]
fn replaced_session_leaves_no_rows_behind_even_over_crashes() {
    for records in 0..12 {
        let mut broker = Cluster::new(1);
        let bob = broker.join(&lasting("bob", 1000));
        broker.listen(bob, "a", 1);
        let alice = broker.join(&v5("alice"));
        broker.lose(bob);
        for id in 1..=600 {
            broker.publish(alice, &message("a", "x", 1, id));
        }
        let bob = broker.join(&lasting("bob", 1000));
        broker.lose(bob);
        assert_eq!(broker.session_rows(), [1, 1, 600, 64, 0]);
        broker.lazy();
        let bob = broker.connect(&lasting("bob", 1000).clean());
        broker.lose(bob);
        broker.crash_keeping(&[records]);
        broker.eager();
        let bob = broker.connect(&lasting("bob", 1000).clean());
        assert_eq!(broker.received(bob), ["CONNACK"]);
        assert_eq!(broker.session_rows(), [1, 0, 0, 0, 0], "{records} records kept");
    }
}

#[test]
fn stop_puts_sessions_away_without_wills() {
    let mut broker = Cluster::new(2);
    let bob = broker.join(&lasting("bob", 100).will("w", "gone", 1, 0));
    let eve = broker.join(&lasting("eve", 100));
    broker.listen(eve, "w", 1);
    broker.stop();
    assert_eq!(broker.received(bob), ["DISCONNECT 8b"]);
    broker.crash();
    let eve = broker.connect(&lasting("eve", 100));
    assert_eq!(broker.received(eve), ["CONNACK present"]);
    assert_eq!(broker.rows_of(RowKind::Session).len(), 2);
}

#[test]
fn sessions_survive_a_change_of_the_number_of_shards() {
    let mut broker = Cluster::new(1);
    for name in ["a", "b", "c", "d", "e"] {
        let link = broker.join(&lasting(name, 100));
        broker.subscribe(link, 1, &[filter("t/#", 1)]);
        broker.lose(link);
    }
    for (round, shards) in [(1, 4), (2, 2), (3, 3), (4, 1)] {
        broker.restart(shards);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("t/x", &round.to_string(), 1, 1));
        for name in ["a", "b", "c", "d", "e"] {
            let link = broker.connect(&lasting(name, 100));
            let expected = ["CONNACK present".to_owned(), format!("PUBLISH q1 1 t/x={round}")];
            assert_eq!(broker.received(link), expected);
            broker.puback(link, 1);
            broker.lose(link);
        }
    }
}

#[test]
fn new_session_whose_client_never_had_connack_is_not_found_again() {
    // [MQTT-3.2.2-3]
    let mut broker = Cluster::new(1);
    broker.lazy();
    let bob = broker.connect(&lasting("bob", 100));
    broker.lose(bob);
    let bob = broker.connect(&lasting("bob", 100));
    broker.sync();
    assert_eq!(broker.received(bob), ["CONNACK"]);
}

#[test]
fn clients_are_referred_to_another_server_when_there_is_one() {
    // §4.11
    let told = Told { server_reference: "b.example.org".to_owned(), ..Told::default() };
    let limits = Limits { told, ..Limits::default() };
    let mut broker = Cluster::with(2, limits, Hooks::default());
    let bob = broker.join(&v5("bob"));
    let small = broker.join(&v5("small").with(Property::MaximumPacketSize(20)));
    let old = broker.join(&v311("old"));
    broker.stop();
    assert_eq!(broker.received(bob), ["DISCONNECT 9c b.example.org"]);
    assert_eq!(broker.received(small), ["DISCONNECT 9c"]); // [MQTT-3.1.2-24]
    assert!(broker.received(old).is_empty());
}

#[test]
fn response_information_is_for_those_who_request_it() {
    // [MQTT-3.1.2-28]
    let told = Told { response_information: "replies/%c".to_owned(), ..Told::default() };
    let limits = Limits { told, ..Limits::default() };
    let mut broker = Cluster::with(1, limits, Hooks::default());
    let mut heard = |options: Options| {
        let link = broker.connect(&options);
        let got = broker.got(link);
        let [Got::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
        properties.as_properties().response_information().map(str::to_owned)
    };
    let asking = |name| v5(name).with(Property::RequestResponseInformation(true));
    assert_eq!(heard(asking("bob")).as_deref(), Some("replies/bob"));
    assert_eq!(heard(asking("a/b")), None);
    assert_eq!(heard(v5("bob")), None);
    assert_eq!(heard(v5("bob").with(Property::RequestResponseInformation(false))), None);
}

#[test]
fn nothing_of_a_temporary_user_is_kept_whatever_her_client_asks_for() {
    let mut broker = Cluster::new(2);
    let asked = [lasting("phone", 100).user("~x.1"), v311("phone").resume().user("~x.1")];
    for (options, v5) in asked.iter().zip([true, false]) {
        let link = broker.connect(options);
        let got = broker.got(link);
        let [Got::Connack { present: false, properties, .. }] = &got[..] else { panic!("{got:?}") };
        let told = properties.as_properties().session_expiry();
        assert_eq!(told, v5.then_some(0), "what it asked for is not what it gets");
        // Without rights there are no plain topics for her, to hear or to say.
        broker.subscribe(link, 1, &[filter("a", 1)]);
        broker.publish(link, &message("a", "hello", 1, 2));
        let refused =
            if v5 { ["SUBACK 1 [87]", "PUBACK 2 87"] } else { ["SUBACK 1 [80]", "PUBACK 2"] };
        assert_eq!(broker.received(link), refused);
        let mut later = PropertiesBuf::new();
        later.push(Property::SessionExpiry(100));
        if v5 {
            broker.disconnect_with(link, ReasonCode::Success, &later);
        } else {
            broker.lose(link);
        }
        assert_eq!(broker.session_rows(), [0; 5]);
    }
}

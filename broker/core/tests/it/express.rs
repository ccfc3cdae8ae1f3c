//! Messages that nobody has to remember: delivered from the bytes they came in, where all copies can be.

use std::fmt::Write as _;

use tidings_core::codec::Property;
use tidings_core::hook::Event;

use crate::harness::{Cluster, Link, Options, filter, lasting, message, v5, v311};

fn with_listeners(listeners: &[&Options]) -> (Cluster, Link, Vec<Link>) {
    let mut broker = Cluster::new(1);
    let alice = broker.join(&v5("alice"));
    let listeners = listeners.iter().map(|options| {
        let link = broker.join(options);
        broker.listen(link, "a", 1);
        link
    });
    let listeners = listeners.collect();
    (broker, alice, listeners)
}

#[test]
fn each_gets_its_own_identifier_version_and_subscription_identifier() {
    let (mut broker, alice, _) = with_listeners(&[]);
    let [bob, dave, carol] = [v311("bob"), v311("dave"), v5("carol")].map(|it| broker.join(&it));
    let erin = broker.join(&v5("erin"));
    for link in [bob, dave, carol] {
        broker.listen(link, "a", 1);
    }
    broker.subscribe_with(erin, 1, &[filter("a", 1)], Some(7));
    broker.received(erin);
    // One has another identifier next than the others.
    broker.listen(dave, "b", 1);
    broker.publish(alice, &message("b", "x", 1, 1));
    broker.publish(alice, &message("a", "hello", 1, 2));
    broker.publish(alice, &message("a", "", 0, 0));
    let plain = ["PUBLISH q1 1 a=hello", "PUBLISH q0 a="];
    assert_eq!(broker.received(bob), plain);
    assert_eq!(broker.received(carol), plain);
    let daves = ["PUBLISH q1 1 b=x", "PUBLISH q1 2 a=hello", "PUBLISH q0 a="];
    assert_eq!(broker.received(dave), daves);
    let erins = broker.received(erin);
    assert!(erins.len() == 2 && erins.iter().all(|it| it.contains('7')), "{erins:?}");
    assert_eq!(broker.received(alice), ["PUBACK 1", "PUBACK 2"]);
}

#[test]
fn none_is_delivered_before_what_another_copy_needs_is_stored() {
    let (mut broker, alice, links) = with_listeners(&[&v5("bob"), &lasting("carol", 100)]);
    let [bob, carol] = links[..] else { panic!() };
    broker.lazy();
    broker.publish(alice, &message("a", "1", 1, 1));
    assert!(broker.received(bob).is_empty() && broker.received(carol).is_empty());
    broker.sync();
    for link in [bob, carol] {
        assert_eq!(broker.received(link), ["PUBLISH q1 1 a=1"]);
    }
    assert_eq!(broker.received(alice), ["PUBACK 1"]);
}

#[test]
fn more_may_be_in_flight_than_of_what_is_kept_and_the_rest_follows_in_order() {
    let (mut broker, alice, links) = with_listeners(&[&v311("bob")]);
    let bob = links[0];
    let sent = 1_100_u16;
    for id in 1..=sent {
        broker.publish(alice, &message("a", &id.to_string(), 1, id));
    }
    let mut got = broker.received(bob);
    assert_eq!(got.len(), 1_024);
    // In any order: each makes room for one.
    for id in [500, 1, 1_024] {
        broker.puback(bob, id);
    }
    let next = broker.received(bob);
    assert_eq!(next.len(), 3);
    got.extend(next);
    for id in (2..=sent).filter(|id| ![500, 1_024].contains(id)) {
        broker.puback(bob, id);
        got.extend(broker.received(bob));
    }
    let expected = (1..=sent).map(|id| format!("PUBLISH q1 {id} a={id}"));
    assert!(got.iter().eq(&expected.collect::<Vec<_>>()), "{:?}", got.last());
    // What comes now is behind all of that.
    broker.publish(alice, &message("a", "last", 1, 1));
    assert_eq!(broker.received(bob), ["PUBLISH q1 1101 a=last"]);
}

#[test]
fn receive_maximum_of_the_client_holds() {
    // [MQTT-3.3.4-9]
    let (mut broker, alice, links) =
        with_listeners(&[&v5("bob").with(Property::ReceiveMaximum(2)), &v5("carol")]);
    let [bob, carol] = links[..] else { panic!() };
    for id in 1..=4 {
        broker.publish(alice, &message("a", &id.to_string(), 1, id));
    }
    assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=1", "PUBLISH q1 2 a=2"]);
    assert_eq!(broker.received(carol).len(), 4);
    broker.puback(bob, 2);
    assert_eq!(broker.received(bob), ["PUBLISH q1 3 a=3"]);
    broker.puback(bob, 1);
    assert_eq!(broker.received(bob), ["PUBLISH q1 4 a=4"]);
}

#[test]
fn other_acknowledgements_than_puback_are_out_of_turn() {
    for acknowledge in [Cluster::pubrec, Cluster::pubcomp] {
        let (mut broker, alice, links) = with_listeners(&[&v5("bob")]);
        let bob = links[0];
        broker.publish(alice, &message("a", "1", 1, 1));
        broker.received(bob);
        acknowledge(&mut broker, bob, 1);
        assert_eq!(broker.received(bob), ["DISCONNECT 82"]);
    }
}

#[test]
fn slow_reader_gets_the_rest_later_and_others_do_not_wait() {
    let (mut broker, alice, links) = with_listeners(&[&v311("bob"), &v311("carol")]);
    let [bob, carol] = links[..] else { panic!() };
    broker.congest(bob, true);
    for id in 1..=3 {
        broker.publish(alice, &message("a", &id.to_string(), 1, id));
    }
    broker.publish(alice, &message("a", "lost", 0, 0));
    assert!(broker.received(bob).is_empty());
    assert_eq!(broker.received(carol).len(), 4);
    broker.congest(bob, false);
    let mut expected = String::new();
    for id in 1..=3 {
        writeln!(expected, "PUBLISH q1 {id} a={id}").unwrap();
    }
    assert_eq!(broker.received(bob).join("\n"), expected.trim_end());
}

#[test]
fn who_is_observed_is_told_of_and_takes_the_long_way() {
    let hooks = tidings_core::shard::Hooks { observed: true, ..Default::default() };
    let mut broker = Cluster::with(1, tidings_core::limits::Limits::default(), hooks);
    let alice = broker.join(&v5("alice"));
    let bob = broker.join(&v5("bob"));
    broker.listen(bob, "a", 1);
    broker.publish(alice, &message("a", "1", 1, 1));
    broker.received(bob);
    broker.puback(bob, 1);
    let acknowledged = |it: &Event| matches!(it, Event::Acknowledged { .. });
    assert!(broker.events.iter().any(acknowledged), "{:?}", broker.events);
}

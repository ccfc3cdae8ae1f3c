//! A broker that offers less of MQTT than there is: what it tells, and what it does with who asks for
//! the rest.

use tidings_core::codec::{Property, QoS};
use tidings_core::limits::{Limits, Offers};
use tidings_core::metric::Metric;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Got, Options, filter, lasting, message, v5, v311};

fn offering(offers: Offers) -> Limits {
    Limits { offers, ..Limits::default() }
}

fn at_most(maximum_qos: QoS) -> Limits {
    offering(Offers { maximum_qos, ..Offers::default() })
}

fn without_retain() -> Limits {
    offering(Offers { retain: false, ..Offers::default() })
}

fn with(limits: Limits) -> Cluster {
    Cluster::with(2, limits, Hooks::default())
}

/// What CONNACK says of what is offered.
fn told(broker: &mut Cluster, options: &Options) -> Vec<String> {
    let link = broker.connect(options);
    let got = broker.got(link);
    let [Got::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
    let offer = |property: &Property<'_>| {
        matches!(
            property,
            Property::MaximumQoS(_)
                | Property::RetainAvailable(_)
                | Property::WildcardSubscriptionAvailable(_)
                | Property::SubscriptionIdentifiersAvailable(_)
                | Property::SharedSubscriptionAvailable(_)
        )
    };
    let properties = properties.as_properties();
    properties.iter().filter(offer).map(|property| format!("{property:?}")).collect()
}

#[test]
fn connack_tells_what_is_left_out_and_nothing_else() {
    // [MQTT-3.2.2-9]
    let all = Offers::default();
    assert_eq!(told(&mut with(offering(all.clone())), &v5("bob")), [""; 0]);
    let cases = [
        (Offers { maximum_qos: QoS::AtMostOnce, ..all.clone() }, "MaximumQoS(0)"),
        (Offers { maximum_qos: QoS::AtLeastOnce, ..all.clone() }, "MaximumQoS(1)"),
        (Offers { retain: false, ..all.clone() }, "RetainAvailable(false)"),
        (
            Offers { wildcard_subscriptions: false, ..all.clone() },
            "WildcardSubscriptionAvailable(false)",
        ),
        (
            Offers { subscription_identifiers: false, ..all.clone() },
            "SubscriptionIdentifiersAvailable(false)",
        ),
        (Offers { shared_subscriptions: false, ..all }, "SharedSubscriptionAvailable(false)"),
    ];
    for (offers, expected) in cases {
        let mut broker = with(offering(offers));
        assert_eq!(told(&mut broker, &v5("bob")), [expected]);
        assert_eq!(told(&mut broker, &v311("old")), [""; 0]);
    }
}

#[test]
fn publish_above_the_maximum_qos_ends_its_connection() {
    // [MQTT-3.2.2-11]
    for (maximum, above) in [(QoS::AtMostOnce, [1, 2]), (QoS::AtLeastOnce, [2, 2])] {
        let mut broker = with(at_most(maximum));
        let bob = broker.join(&v5("bob"));
        broker.subscribe(bob, 1, &[filter("a", 2)]);
        let granted = maximum.as_u8();
        assert_eq!(broker.received(bob), [format!("SUBACK 1 [{granted:02x}]")]);
        for qos in above {
            let alice = broker.join(&v5("alice"));
            broker.publish(alice, &message("a", "x", qos, 1));
            assert_eq!(broker.received(alice), ["DISCONNECT 9b"]);
            let old = broker.join(&v311("old"));
            broker.publish(old, &message("a", "x", qos, 1));
            assert!(broker.received(old).is_empty() && !broker.is_open(old));
        }
        assert!(broker.received(bob).is_empty());
        let refused = [Metric::PublishRefusedOffer, Metric::LimitMaximumQoS, Metric::ClosedRefused];
        assert_eq!(refused.map(|it| broker.metrics().get(it)), [4, 4, 4]);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("a", "y", granted, u16::from(granted)));
        assert_eq!(broker.received(bob).len(), 1);
    }
}

#[test]
fn subscription_is_granted_the_maximum_qos_at_most() {
    // [MQTT-3.2.2-10]
    let mut broker = with(at_most(QoS::AtLeastOnce));
    for client in [v5("bob"), v311("old")] {
        let bob = broker.join(&client);
        broker.subscribe(bob, 1, &[filter("a", 0), filter("b", 1), filter("c", 2)]);
        assert_eq!(broker.received(bob), ["SUBACK 1 [00, 01, 01]"]);
        assert!(broker.is_open(bob));
    }
}

#[test]
fn will_that_is_not_offered_is_refused_with_its_connection() {
    // [MQTT-3.2.2-12], [MQTT-3.2.2-13]
    let mut broker = with(at_most(QoS::AtLeastOnce));
    let bob = broker.connect(&v5("bob").will("a", "gone", 2, 0));
    assert_eq!(broker.received(bob), ["CONNACK 9b"]);
    let old = broker.connect(&v311("old").will("a", "gone", 2, 0));
    // As 5 of MQTT 3.1.1, not authorized.
    assert_eq!(broker.received(old), ["CONNACK 87"]);
    broker.join(&v5("bob").will("a", "gone", 1, 0).will_retained());

    let mut broker = with(without_retain());
    let bob = broker.connect(&v5("bob").will("a", "gone", 2, 0).will_retained());
    assert_eq!(broker.received(bob), ["CONNACK 9a"]);
    assert!(!broker.is_open(bob));
    broker.join(&v5("bob").will("a", "gone", 2, 0));
}

#[test]
fn retained_publish_where_nothing_is_retained_ends_its_connection() {
    // [MQTT-3.2.2-14]
    let mut broker = with(without_retain());
    let bob = broker.join(&v5("bob"));
    broker.listen(bob, "a", 2);
    for qos in [0, 1, 2] {
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("a", "x", qos, u16::from(qos)).retained());
        assert_eq!(broker.received(alice), ["DISCONNECT 9a"]);
    }
    let old = broker.join(&v311("old"));
    broker.publish(old, &message("a", "x", 1, 1).retained());
    assert!(broker.received(old).is_empty() && !broker.is_open(old));
    assert!(broker.received(bob).is_empty());
    assert_eq!(broker.metrics().get(Metric::LimitRetain), 4);
    assert_eq!(broker.metrics().get(Metric::RetainedMessages), 0);
}

#[test]
fn subscription_of_a_kind_that_is_not_offered_is_refused_alone() {
    let offers = Offers::default();
    let limits = offering(Offers { wildcard_subscriptions: false, ..offers.clone() });
    let mut broker = with(limits);
    let all = [filter("a", 1), filter("+/a", 1), filter("a/#", 0), filter("$share/g/#", 1)];
    for (client, answer) in
        [(v5("bob"), "SUBACK 1 [01, a2, a2, a2]"), (v311("old"), "SUBACK 1 [01, 80, 80, 80]")]
    {
        let bob = broker.join(&client);
        broker.subscribe(bob, 1, &all);
        assert_eq!(broker.received(bob), [answer]);
    }
    assert_eq!(broker.metrics().get(Metric::LimitWildcardSubscriptions), 6);

    let mut broker = with(offering(Offers { shared_subscriptions: false, ..offers.clone() }));
    for (client, answer) in [(v5("bob"), "SUBACK 1 [01, 9e]"), (v311("old"), "SUBACK 1 [01, 80]")] {
        let bob = broker.join(&client);
        broker.subscribe(bob, 1, &[filter("+/a", 1), filter("$share/g/a", 1)]);
        assert_eq!(broker.received(bob), [answer]);
    }
    assert_eq!(broker.metrics().get(Metric::LimitSharedSubscriptions), 2);

    let mut broker = with(offering(Offers { subscription_identifiers: false, ..offers }));
    let bob = broker.join(&v5("bob"));
    broker.subscribe_with(bob, 1, &[filter("a", 1), filter("b", 0)], Some(7));
    broker.subscribe(bob, 2, &[filter("a", 1)]);
    assert_eq!(broker.received(bob), ["SUBACK 1 [a1, a1]", "SUBACK 2 [01]"]);
    assert_eq!(broker.metrics().get(Metric::LimitSubscriptionIdentifiers), 2);
}

#[test]
fn what_was_offered_before_is_kept_as_far_as_it_still_can_be() {
    let mut broker = with(Limits::default());
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("kept", "x", 2, 1).retained());
    let will = lasting("eve", 100).will("a", "gone", 2, 50).will_retained();
    broker.join(&will);
    let bob = broker.join(&lasting("bob", 100));
    broker.subscribe(bob, 1, &[filter("a", 2), filter("$share/g/b", 2)]);
    assert_eq!(broker.received(bob), ["SUBACK 1 [02, 02]"]);

    let mut offers = Offers { retain: false, shared_subscriptions: false, ..Offers::default() };
    broker.crash_into(offering(offers.clone()));
    let bob = broker.join(&lasting("bob", 100));
    broker.subscribe(bob, 1, &[filter("kept", 1).retain_as_published()]);
    assert_eq!(broker.received(bob), ["SUBACK 1 [01]"]);

    offers.maximum_qos = QoS::AtLeastOnce;
    broker.crash_into(offering(offers));
    let bob = broker.join(&lasting("bob", 100));
    let carl = broker.join(&v5("carl"));
    broker.subscribe(carl, 1, &[filter("a", 2).retain_as_published()]);
    let alice = broker.join(&v5("alice"));
    broker.publish(alice, &message("b", "y", 1, 1));
    broker.advance(60);
    assert_eq!(broker.received(bob), ["PUBLISH q1 1 b=y", "PUBLISH q1 2 a=gone"]);
    assert_eq!(broker.received(carl), ["SUBACK 1 [01]", "PUBLISH q1 1 a=gone"]);

    broker.crash_into(Limits::default());
    let dan = broker.join(&v5("dan"));
    broker.subscribe(dan, 1, &[filter("kept", 0), filter("a", 0)]);
    assert_eq!(broker.received(dan), ["SUBACK 1 [00, 00]", "PUBLISH q0 retain kept=x"]);
}

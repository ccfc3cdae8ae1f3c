//! A disk that is nearly full: nothing more is kept, and what there is goes out.

use tidings_core::codec::{Property, ReasonCode};
use tidings_core::metric::Metric;
use tidings_core::record::RowKind;

use crate::harness::{Cluster, filter, lasting, message, v5, v311};

#[test]
fn what_would_be_kept_is_refused_and_what_is_kept_goes_out() {
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100).with(Property::ReceiveMaximum(1)));
    broker.listen(bob, "kept", 2);
    let eve = broker.join(&v5("eve"));
    broker.listen(eve, "live", 2);
    let alice = broker.join(&v5("alice"));
    let old = broker.join(&v311("old"));
    for id in 1..=2 {
        broker.publish(alice, &message("kept", &id.to_string(), 1, id));
    }
    broker.received(alice);
    assert_eq!(broker.received(bob), ["PUBLISH q1 1 kept=1"]);
    broker.disk(true);

    broker.publish(alice, &message("kept", "x", 1, 3));
    broker.publish(alice, &message("kept", "x", 2, 4));
    broker.publish(alice, &message("live", "x", 1, 5).retained());
    broker.publish(alice, &message("live", "x", 0, 0).retained());
    assert_eq!(broker.received(alice), ["PUBACK 3 97", "PUBREC 4 97", "PUBACK 5 97"]);
    assert_eq!(broker.rows_of(RowKind::Queued).len(), 2);
    // What nobody keeps goes on, and so does what takes something away.
    broker.publish(alice, &message("live", "a", 1, 6));
    broker.publish(alice, &message("live", "b", 2, 7));
    broker.publish(alice, &message("kept", "c", 0, 0));
    broker.publish(alice, &message("live", "", 1, 8).retained());
    let received = broker.received(alice);
    assert_eq!(received, ["PUBACK 6", "PUBREC 7", "PUBACK 8"]);
    let live = ["PUBLISH q1 1 live=a", "PUBLISH q2 2 live=b", "PUBLISH q1 3 live="];
    assert_eq!(broker.received(eve), live);
    broker.puback(bob, 1);
    assert_eq!(broker.received(bob), ["PUBLISH q0 kept=c", "PUBLISH q1 2 kept=2"]);
    broker.puback(bob, 2);
    assert_eq!(broker.rows_of(RowKind::Queued).len(), 0);
    // MQTT 3.1.1 has no word for it.
    broker.publish(old, &message("kept", "x", 1, 1));
    assert!(broker.received(old).is_empty() && !broker.is_open(old));
    assert_eq!(broker.metrics().get(Metric::LimitDiskReserve), 5);
    assert_eq!(broker.metrics().get(Metric::PublishRefusedQuota), 5);

    broker.disk(false);
    broker.publish(alice, &message("kept", "y", 1, 9));
    assert_eq!(broker.received(alice), ["PUBACK 9"]);
    assert_eq!(broker.received(bob), ["PUBLISH q1 3 kept=y"]);
}

#[test]
fn sessions_and_subscriptions_that_would_be_kept_are_refused_and_old_ones_serve() {
    let mut broker = Cluster::new(2);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "a", 1);
    broker.lose(bob);
    let passing = broker.join(&v5("carol"));
    broker.disk(true);

    let new = broker.connect(&lasting("dan", 100));
    assert_eq!(broker.received(new), ["CONNACK 97"]);
    // Not by a takeover either.
    let grown = broker.connect(&lasting("carol", 100));
    assert_eq!(broker.received(grown), ["CONNACK 97"]);
    assert!(broker.is_open(passing));
    let will = broker.connect(&v5("eve").will("w", "gone", 1, 0));
    assert_eq!(broker.received(will), ["CONNACK 97"]);
    let bob = broker.join(&lasting("bob", 100));
    broker.subscribe(bob, 1, &[filter("a", 1), filter("b", 1)]);
    assert_eq!(broker.received(bob), ["SUBACK 1 [01, 97]"]);
    // What is not kept is as ever.
    let eve = broker.join(&v5("eve").will("w", "gone", 0, 0));
    broker.listen(eve, "b", 1);
    assert_eq!(broker.metrics().get(Metric::LimitDiskReserve), 4);
    let quota = Metric::refused_connect(ReasonCode::QuotaExceeded);
    assert_eq!(broker.metrics().get(quota), 3);
    broker.disk(false);
    broker.join(&lasting("dan", 100));
}

#[test]
fn nothing_is_handed_to_other_shards_that_they_would_keep() {
    let mut broker = Cluster::new(2);
    let bob = broker.join(&lasting(&broker.name_on("bob", 0), 100));
    broker.listen(bob, "a", 1);
    let alice = broker.join(&v5(&broker.name_on("alice", 1)));
    broker.disk(true);
    broker.publish(alice, &message("a", "x", 1, 1));
    let topic = broker.topic_on("t", 0);
    broker.publish(alice, &message(&topic, "x", 1, 2).retained());
    broker.publish(alice, &message("a", "y", 0, 0));
    assert_eq!(broker.received(alice), ["PUBACK 1 97", "PUBACK 2 97"]);
    assert_eq!(broker.received(bob), ["PUBLISH q0 a=y"]);
    assert_eq!(broker.rows_of(RowKind::Retained).len(), 0);
}

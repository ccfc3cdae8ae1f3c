//! `$SYS`: what the broker says of itself.

use std::sync::Arc;

use tidings_core::codec::ReasonCode;
use tidings_core::hook::{Authorize, Client, Verdict};
use tidings_core::limits::Limits;
use tidings_core::shard::Hooks;
use tidings_core::topic::TopicFilter;

use crate::harness::{Cluster, filter, lasting, message, v5, v311};

const VERSION: (&str, &str) = ("$SYS/broker/version", "v");

#[test]
fn subscription_gets_the_present_values_and_then_what_changes() {
    for shards in [1, 3] {
        let mut broker = Cluster::new(shards);
        broker.tell(&[VERSION, ("$SYS/broker/uptime", "1")]);
        for name in ["bob", "carol", "dave"] {
            let bob = broker.join(&v5(name));
            broker.subscribe(bob, 1, &[filter("$SYS/#", 2)]);
            let expected = [
                "SUBACK 1 [02]",
                "PUBLISH q0 retain $SYS/broker/uptime=1",
                "PUBLISH q0 retain $SYS/broker/version=v",
            ];
            assert_eq!(broker.received(bob), expected, "{name}");
        }
        let old = broker.join(&v311("old"));
        broker.listen(old, "$SYS/broker/+", 0);
        broker.received(old);
        broker.tell(&[("$SYS/broker/uptime", "2")]);
        assert_eq!(broker.received(old), ["PUBLISH q0 $SYS/broker/uptime=2"]);
        let late = broker.join(&v5("late"));
        broker.listen(late, "$SYS/broker/uptime", 0);
        assert_eq!(broker.received(late), ["PUBLISH q0 retain $SYS/broker/uptime=2"]);
    }
}

#[test]
fn wildcards_at_the_front_do_not_match() {
    // [MQTT-4.7.2-1]
    let mut broker = Cluster::new(2);
    broker.tell(&[VERSION]);
    let bob = broker.join(&v5("bob"));
    broker.subscribe(bob, 1, &["#", "+/broker/version", "+/#"].map(|it| filter(it, 0)));
    broker.tell(&[VERSION]);
    assert_eq!(broker.received(bob), ["SUBACK 1 [00, 00, 00]"]);
}

#[test]
fn nothing_of_it_is_stored_or_kept_for_who_is_not_there() {
    let mut broker = Cluster::new(2);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "$SYS/#", 1);
    let records = broker.records();
    broker.tell(&[VERSION]);
    broker.lose(bob);
    let put_away = broker.records();
    broker.tell(&[("$SYS/broker/uptime", "3")]);
    assert_eq!((broker.records(), put_away - records), (put_away, 1));
    let bob = broker.connect(&lasting("bob", 100));
    assert_eq!(broker.received(bob), ["CONNACK present"]);
    broker.tell(&[("$SYS/broker/uptime", "4")]);
    assert_eq!(broker.received(bob), ["PUBLISH q0 $SYS/broker/uptime=4"]);
}

#[test]
fn clients_do_not_publish_there() {
    let mut broker = Cluster::new(1);
    broker.tell(&[VERSION]);
    let eve = broker.join(&v5("eve"));
    broker.publish(eve, &message("$SYS/broker/version", "mine", 1, 1).retained());
    broker.publish(eve, &message("$SYS/broker/version", "mine", 0, 0).retained());
    assert_eq!(broker.received(eve), ["PUBACK 1 87"]);
    broker.listen(eve, "$SYS/broker/version", 0);
    assert_eq!(broker.received(eve), ["PUBLISH q0 retain $SYS/broker/version=v"]);
}

/// Nobody may hear `$SYS`.
#[derive(Debug)]
struct Discreet;

impl Authorize for Discreet {
    fn publish(&self, _: &Client<'_>, _: &str) -> Verdict {
        Verdict::Allow
    }

    fn subscribe(&self, _: &Client<'_>, filter: &TopicFilter) -> Verdict {
        match filter.root() {
            "$SYS" => Verdict::Deny(ReasonCode::NotAuthorized),
            _ => Verdict::Allow,
        }
    }
}

#[test]
fn rights_decide_who_reads_it() {
    let hooks = Hooks { authorize: Some(Arc::new(Discreet)), ..Hooks::default() };
    let mut broker = Cluster::with(2, Limits::default(), hooks);
    broker.tell(&[VERSION]);
    let bob = broker.join(&v5("bob"));
    broker.subscribe(bob, 1, &["$SYS/#", "$SYS/broker/version", "a"].map(|it| filter(it, 0)));
    broker.tell(&[VERSION]);
    assert_eq!(broker.received(bob), ["SUBACK 1 [87, 87, 00]"]);
}

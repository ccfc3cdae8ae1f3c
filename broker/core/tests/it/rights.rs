//! Rights: asked wherever something is said or heard, and asked again when they change.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tidings_core::codec::ReasonCode;
use tidings_core::hook::{Authorize, Client, Verdict};
use tidings_core::limits::Limits;
use tidings_core::output::CloseCause;
use tidings_core::record::RowKind;
use tidings_core::shard::Hooks;
use tidings_core::topic::TopicFilter;

use crate::harness::{Cluster, filter, lasting, message, v5, v311};

/// Denies what it is told to deny, topics and filters alike.
#[derive(Debug, Default)]
struct Denied(Mutex<BTreeSet<String>>);

impl Denied {
    fn add(&self, what: &str) {
        self.0.lock().unwrap().insert(what.to_owned());
    }

    fn verdict(&self, what: &str) -> Verdict {
        match self.0.lock().unwrap().contains(what) {
            true => Verdict::Deny(ReasonCode::NotAuthorized),
            false => Verdict::Allow,
        }
    }
}

impl Authorize for Denied {
    fn publish(&self, _: &Client<'_>, topic: &str) -> Verdict {
        self.verdict(topic)
    }

    fn subscribe(&self, _: &Client<'_>, filter: &TopicFilter) -> Verdict {
        self.verdict(filter.as_str())
    }
}

fn cluster(shards: u16) -> (Cluster, Arc<Denied>) {
    let denied = Arc::new(Denied::default());
    let hooks =
        Hooks { authorize: Some(Arc::clone(&denied) as Arc<dyn Authorize>), ..Hooks::default() };
    (Cluster::with(shards, Limits::default(), hooks), denied)
}

#[test]
fn publish_is_asked_for_with_the_topic_behind_an_alias() {
    let (mut broker, denied) = cluster(1);
    let bob = broker.join(&v5("bob"));
    let alias = || tidings_core::codec::Property::TopicAlias(1);
    broker.publish(bob, &message("secret", "1", 1, 1).with(alias()));
    assert_eq!(broker.received(bob), ["PUBACK 1 10"]);
    denied.add("secret");
    broker.publish(bob, &message("", "2", 1, 2).with(alias()));
    broker.publish(bob, &message("$SYS/x", "3", 1, 3));
    assert_eq!(broker.received(bob), ["PUBACK 2 87", "PUBACK 3 87"]);
}

#[test]
fn denied_retained_message_is_not_kept() {
    let (mut broker, denied) = cluster(2);
    denied.add("t");
    let bob = broker.join(&v5("bob"));
    broker.publish(bob, &message("t", "1", 1, 1).retained());
    assert_eq!(broker.received(bob), ["PUBACK 1 87"]);
    broker.listen(bob, "#", 1);
    assert!(broker.received(bob).is_empty());
}

#[test]
fn will_is_asked_for_at_connect_and_again_when_it_is_due() {
    let (mut broker, denied) = cluster(2);
    let eve = broker.join(&v5("eve"));
    broker.listen(eve, "#", 0);
    denied.add("no");
    let refused = broker.connect(&v5("bob").will("no", "x", 0, 0));
    assert_eq!(broker.received(refused), ["CONNACK 87"]);
    let bob = broker.join(&v5("bob").will("later", "x", 0, 0));
    let amy = broker.join(&lasting("amy", 100).will("later", "x", 0, 10));
    denied.add("later");
    broker.lose(bob);
    broker.lose(amy);
    broker.advance(20);
    assert!(broker.received(eve).is_empty());
}

#[test]
fn change_ends_the_connection_that_had_more_and_takes_the_subscription_away() {
    for shards in [1, 3] {
        let (mut broker, denied) = cluster(shards);
        let bob = broker.join(&lasting("bob", 100));
        let old = broker.join(&v311("old"));
        let amy = broker.join(&v5("amy"));
        for link in [bob, old] {
            broker.listen(link, "secret/#", 1);
        }
        broker.listen(bob, "news", 1);
        broker.listen(amy, "news", 1);
        denied.add("secret/#");
        broker.rights_changed();
        assert_eq!(broker.received(bob), ["DISCONNECT 87"]);
        let cause = CloseCause::RightsEnded("secret/#".into());
        assert_eq!(broker.closed(bob), Some(&cause));
        assert!(broker.received(old).is_empty() && broker.closed(old) == Some(&cause));
        assert!(broker.is_open(amy));
        broker.publish(amy, &message("secret/x", "1", 1, 1));
        broker.publish(amy, &message("news", "2", 1, 2));
        let bob = broker.join(&lasting("bob", 100).resume());
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 news=2"]);
        broker.subscribe(bob, 7, &[filter("secret/#", 1)]);
        assert_eq!(broker.received(bob), ["SUBACK 7 [87]"]);
    }
}

#[test]
fn change_takes_subscriptions_of_waiting_sessions_away_for_good() {
    for crash in [false, true] {
        let (mut broker, denied) = cluster(2);
        let bob = broker.join(&lasting("bob", 100));
        broker.listen(bob, "secret/#", 1);
        broker.listen(bob, "news", 1);
        broker.lose(bob);
        denied.add("secret/#");
        if crash {
            broker.crash();
        } else {
            broker.rights_changed();
        }
        assert_eq!(broker.rows_of(RowKind::Subscription).len(), 1);
        let amy = broker.join(&v5("amy"));
        broker.publish(amy, &message("secret/x", "1", 1, 1));
        assert_eq!(broker.received(amy), ["PUBACK 1 10"]);
        broker.publish(amy, &message("news", "2", 1, 2));
        let bob = broker.join(&lasting("bob", 100).resume());
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 news=2"]);
    }
}

#[test]
fn resumed_session_is_asked_for_even_before_the_change_was_told() {
    let (mut broker, denied) = cluster(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "secret/#", 1);
    denied.add("secret/#");
    // Another connection takes it over, and one finds it waiting.
    let second = broker.join(&lasting("bob", 100).resume());
    broker.publish(second, &message("secret/x", "1", 1, 1));
    assert_eq!(broker.received(second), ["PUBACK 1 10"]);
    assert_eq!(broker.rows_of(RowKind::Subscription).len(), 0);
}

#[test]
fn many_sessions_are_looked_at_in_steps() {
    let (mut broker, denied) = cluster(1);
    denied.add("none");
    for number in 0..5_000 {
        let link = broker.join(&lasting(&format!("bob{number}"), 1_000));
        broker.listen(link, "secret", 0);
        broker.lose(link);
    }
    denied.add("secret");
    broker.rights_changed();
    let left = broker.rows_of(RowKind::Subscription).len();
    assert!((1..5_000).contains(&left), "{left} after one step");
    broker.advance(1);
    assert_eq!(broker.rows_of(RowKind::Subscription).len(), 0);
}

#[test]
fn revoked_user_is_disconnected_everywhere_and_keeps_the_sessions() {
    let (mut broker, _) = cluster(2);
    let phone = broker.join(&lasting("phone", 100).user("bob"));
    let laptop = broker.join(&v311("laptop").user("bob"));
    let amy = broker.join(&v5("phone").user("amy"));
    broker.revoke(Some("bob"));
    assert_eq!(broker.received(phone), ["DISCONNECT 87"]);
    assert!(broker.closed(laptop).is_some() && broker.is_open(amy));
    let phone = broker.connect(&lasting("phone", 100).user("bob").resume());
    assert_eq!(broker.received(phone), ["CONNACK present"]);
    broker.revoke(None);
    assert!(!broker.is_open(phone) && !broker.is_open(amy));
}

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
    // It is not due again, whatever becomes of the rights. [MQTT-3.1.2-10]
    denied.0.lock().unwrap().clear();
    broker.crash();
    let eve = broker.join(&v5("eve"));
    broker.listen(eve, "#", 0);
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

const TOPICS: [&str; 3] = ["a/x", "a/y", "b/x"];
const FILTERS: [&str; 6] = ["a/#", "b/#", "+/x", "#", "a/x", "b/x"];

/// Who must not hear which topic; a filter is allowed if that leaves all of it.
#[derive(Debug, Default)]
struct Hearing(Mutex<BTreeSet<(String, &'static str)>>);

impl Hearing {
    fn allows(&self, name: &str, topic: &'static str) -> bool {
        !self.0.lock().unwrap().contains(&(name.to_owned(), topic))
    }
}

impl Authorize for Hearing {
    fn publish(&self, _: &Client<'_>, _: &str) -> Verdict {
        Verdict::Allow
    }

    fn subscribe(&self, client: &Client<'_>, filter: &TopicFilter) -> Verdict {
        let mut all = TOPICS.into_iter().filter(|topic| filter.matches(topic));
        match all.all(|topic| self.allows(client.client_id, topic)) {
            true => Verdict::Allow,
            false => Verdict::Deny(ReasonCode::NotAuthorized),
        }
    }
}

/// One history of Clients that come, go and subscribe, of crashes, and of rights that change. Nobody
/// hears a message who might not hear its topic when it was published. How many were heard.
fn history_of_rights(seed: u64) -> usize {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |end: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap() % end
    };
    let hearing = Arc::new(Hearing::default());
    let authorize = Some(Arc::clone(&hearing) as Arc<dyn Authorize>);
    let hooks = Hooks { authorize, ..Hooks::default() };
    let mut broker = Cluster::with([1, 2, 3][below(3)], Limits::default(), hooks);
    let names: Vec<String> = (0..4).map(|it| format!("client-{it}-{seed}")).collect();
    let mut links = [None; 4];
    // Who might hear the message of each number.
    let mut allowed: Vec<Vec<bool>> = Vec::new();
    let mut heard = 0;
    let mut press = broker.join(&v5("press"));
    for _ in 0..200 {
        let which = below(4);
        match below(12) {
            0 if below(4) == 0 => {
                broker.crash();
                links = [None; 4];
                press = broker.join(&v5("press"));
            }
            0 | 1 => {
                if let Some(link) = links[which].take() {
                    broker.lose(link);
                }
            }
            2..=4 => {
                let mut options = lasting(&names[which], 1_000);
                options = if below(4) == 0 { options } else { options.resume() };
                links[which] = Some(broker.join(&options));
            }
            5 | 6 => {
                if let Some(link) = links[which] {
                    broker.subscribe(link, 7, &[filter(FILTERS[below(6)], 1)]);
                }
            }
            7 | 8 => {
                let key = (names[which].clone(), TOPICS[below(3)]);
                let mut denied = hearing.0.lock().unwrap();
                if !denied.remove(&key) {
                    denied.insert(key);
                }
                drop(denied);
                broker.rights_changed();
            }
            _ => {
                let topic = TOPICS[below(3)];
                allowed.push(names.iter().map(|name| hearing.allows(name, topic)).collect());
                let number = (allowed.len() - 1).to_string();
                broker.publish(press, &message(topic, &number, 0, 0));
                broker.publish(press, &message(topic, &number, 1, 9));
            }
        }
        for (which, link) in links.iter_mut().enumerate() {
            let Some(open) = *link else { continue };
            for line in broker.received(open) {
                let Some((_, number)) = line.split_once('=') else { continue };
                let number: usize = number.split(' ').next().unwrap().parse().unwrap();
                assert!(allowed[number][which], "{which} heard {line}; replay with seed {seed}");
                heard += 1;
            }
            if !broker.is_open(open) {
                *link = None;
            }
        }
    }
    heard
}

#[test]
fn nobody_hears_what_rights_deny_whatever_changes() {
    let heard: usize = (0..80).map(history_of_rights).sum();
    assert!(heard > 1_000, "only {heard} messages were heard at all");
}

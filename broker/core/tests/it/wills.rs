//! Will Messages: when they are due, and when they are not.

use tidings_core::codec::{PropertiesBuf, Property, ReasonCode};
use tidings_core::limits::Limits;
use tidings_core::metric::Metric;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Link, Options, lasting, message, v5, v311};

fn with_listener(shards: u16) -> (Cluster, Link) {
    let mut broker = Cluster::new(shards);
    let eve = broker.join(&lasting("eve", 10_000));
    broker.listen(eve, "w", 1);
    (broker, eve)
}

#[test]
fn will_is_published_when_the_connection_breaks() {
    // [MQTT-3.1.2-8], [MQTT-3.14.4-3], [MQTT-3.1.2-10]
    for shards in [1, 2] {
        let (mut broker, eve) = with_listener(shards);
        for options in [v5("bob"), v311("bob"), lasting("bob", 100)] {
            let options = options.will("w", "gone", 1, 0);
            let bob = broker.join(&options);
            broker.disconnect(bob, ReasonCode::Success);
            assert!(broker.received(eve).is_empty());
            let bob = broker.join(&options);
            broker.lose(bob);
            assert_eq!(broker.received(eve).len(), 1);
        }
        let bob = broker.join(&v5("bob").will("w", "said", 0, 0));
        broker.disconnect(bob, ReasonCode::DisconnectWithWill);
        assert_eq!(broker.received(eve), ["PUBLISH q0 w=said"]);
        let bob = broker.join(&v5("bob").will("w", "silent", 0, 0).keep_alive(10));
        broker.advance(15);
        assert_eq!(broker.received(bob), ["DISCONNECT 8d"]);
        assert_eq!(broker.received(eve), ["PUBLISH q0 w=silent"]);
    }
}

#[test]
fn delayed_will_waits_for_its_delay_or_the_end_of_its_session() {
    // §3.1.3.2.2
    for crash in [false, true] {
        for (delay, expiry, due) in [(10, 100, 10), (100, 10, 10)] {
            let (mut broker, eve) = with_listener(2);
            let bob = broker.join(&lasting("bob", expiry).will("w", "gone", 1, delay));
            broker.lose(bob);
            let mut eve = eve;
            if crash {
                broker.crash();
                eve = broker.join(&lasting("eve", 10_000));
            }
            broker.advance(due - 1);
            assert!(broker.received(eve).is_empty());
            broker.advance(1);
            assert_eq!(broker.received(eve), ["PUBLISH q1 1 w=gone"]);
            broker.advance(200);
            assert!(broker.received(eve).is_empty());
        }
    }
}

#[test]
fn client_that_is_back_in_time_recalls_its_will() {
    // [MQTT-3.1.3-9]
    let (mut broker, eve) = with_listener(1);
    let bob = broker.join(&lasting("bob", 100).will("w", "gone", 1, 10));
    broker.lose(bob);
    broker.advance(9);
    broker.join(&lasting("bob", 100));
    broker.advance(1000);
    assert!(broker.received(eve).is_empty());
}

#[test]
fn takeover_publishes_a_will_without_delay_and_recalls_one_with() {
    let (mut broker, eve) = with_listener(1);
    broker.join(&lasting("bob", 100).will("w", "at once", 0, 0));
    broker.join(&lasting("bob", 100).will("w", "later", 0, 10));
    assert_eq!(broker.received(eve), ["PUBLISH q0 w=at once"]);
    broker.join(&lasting("bob", 100));
    broker.advance(1000);
    assert!(broker.received(eve).is_empty());
}

#[test]
fn clean_start_ends_the_session_and_so_publishes_its_will() {
    // [MQTT-3.1.2-8]: at the end of the session, if that comes before the delay is over.
    for online in [false, true] {
        let (mut broker, eve) = with_listener(1);
        let bob = broker.join(&lasting("bob", 100).will("w", "gone", 0, 50));
        if !online {
            broker.lose(bob);
        }
        broker.join(&lasting("bob", 100).clean());
        assert_eq!(broker.received(eve), ["PUBLISH q0 w=gone"], "online {online}");
        broker.advance(1000);
        assert!(broker.received(eve).is_empty());
    }
}

#[test]
fn disconnect_that_ends_the_session_publishes_its_will_at_once() {
    let (mut broker, eve) = with_listener(1);
    let bob = broker.join(&lasting("bob", 100).will("w", "gone", 0, 50));
    let mut zero = PropertiesBuf::new();
    zero.push(Property::SessionExpiry(0));
    broker.disconnect_with(bob, ReasonCode::DisconnectWithWill, &zero);
    assert_eq!(broker.received(eve), ["PUBLISH q0 w=gone"]);
}

#[test]
fn will_may_be_retained() {
    // [MQTT-3.1.2-14], [MQTT-3.1.2-15]
    for shards in [1, 4] {
        let mut broker = Cluster::new(shards);
        let bob = broker.join(&v5("bob").will("w", "kept", 1, 0).will_retained());
        broker.lose(bob);
        broker.crash();
        let eve = broker.join(&v5("eve"));
        broker.listen(eve, "w", 0);
        assert_eq!(broker.received(eve), ["PUBLISH q0 retain w=kept"]);
    }
}

#[test]
fn will_of_a_connected_client_survives_a_crash() {
    // [MQTT-3.1.2-7]
    let (mut broker, _) = with_listener(2);
    broker.join(&lasting("bob", 100).will("w", "gone", 1, 0));
    broker.crash();
    broker.advance(1);
    let eve = broker.join(&lasting("eve", 10_000));
    assert_eq!(broker.received(eve), ["PUBLISH q1 1 w=gone"]);
}

#[test]
fn a_session_that_hears_its_own_will_gets_nothing_on_the_connection_that_is_over() {
    // The harness takes no packet behind the end of a connection.
    for (qos, on_the_next) in
        [(0, &[][..]), (1, &["PUBLISH q1 1 w=gone"]), (2, &["PUBLISH q2 1 w=gone"])]
    {
        for how in 0..3 {
            let mut broker = Cluster::new(1);
            let options = lasting("bob", 100);
            let bob = broker.join(&options.clone().will("w", "gone", qos, 0));
            broker.listen(bob, "w", 2);
            match how {
                0 => broker.disconnect(bob, ReasonCode::DisconnectWithWill),
                1 => broker.raw(bob, vec![0xFF, 0]),
                _ => {}
            }
            let bob = broker.connect(&options);
            let received = broker.received(bob);
            assert_eq!(
                (&*received[0], &received[1..]),
                (
                    "CONNACK present",
                    &on_the_next.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..]
                )
            );
        }
    }
}

#[test]
fn expiry_of_a_will_begins_when_it_is_published() {
    // §3.1.3.2.4
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 1000));
    broker.listen(bob, "will", 1);
    broker.lose(bob);
    let mut alice = lasting("alice", 1000).will("will", "gone", 1, 30);
    alice.will.as_mut().unwrap().properties.push(Property::MessageExpiry(20));
    let alice = broker.join(&alice);
    broker.lose(alice);
    broker.advance(30);
    broker.advance(5);
    let bob = broker.join(&lasting("bob", 1000));
    assert_eq!(broker.received(bob), ["PUBLISH q1 1 expiry=15 will=gone"]);
    broker.lose(bob);
    broker.advance(16);
    let bob = broker.join(&lasting("bob", 1000));
    // It was sent before: what was begun is completed. [MQTT-4.3.2-1]
    assert_eq!(broker.received(bob).len(), 1);
}

/// A way for a will to become due: of `bob`, who is connected.
type Due = fn(&mut Cluster, Link, &Options);

/// Every way, by its name: with the Will Delay and the Session Expiry Interval.
const WAYS: [(&str, u32, u32, Due); 9] = [
    ("lost", 0, 1000, |broker, bob, _| broker.lose(bob)),
    ("said", 0, 1000, |broker, bob, _| broker.disconnect(bob, ReasonCode::DisconnectWithWill)),
    ("taken over", 0, 1000, |broker, _, options| {
        broker.connect(&Options { will: None, ..options.clone() });
    }),
    ("delay", 10, 1000, |broker, bob, _| {
        broker.lose(bob);
        broker.advance(10);
    }),
    ("expiry", 100, 10, |broker, bob, _| {
        broker.lose(bob);
        broker.advance(10);
    }),
    ("clean start", 100, 1000, |broker, bob, options| {
        broker.lose(bob);
        broker.connect(&Options { will: None, ..options.clone() }.clean());
    }),
    ("taken over by a clean start", 100, 1000, |broker, _, options| {
        broker.connect(&Options { will: None, ..options.clone() }.clean());
    }),
    ("crash", 0, 1000, |broker, _, _| {
        broker.crash();
        broker.advance(1);
    }),
    ("crash, delay", 10, 1000, |broker, _, _| {
        broker.crash();
        broker.advance(10);
    }),
];

/// A session on the last shard that waits for "w", and one on the first that has a will.
fn with_will(shards: u16, delay: u32, expiry: u32) -> (Cluster, Options, Link, Options) {
    let mut broker = Cluster::new(shards);
    let eve = lasting(&broker.name_on("eve", usize::from(shards) - 1), 10_000);
    let link = broker.join(&eve);
    broker.listen(link, "w", 1);
    broker.lose(link);
    let bob = lasting(&broker.name_on("bob", 0), expiry).will("w", "gone", 1, delay);
    let link = broker.join(&bob);
    (broker, eve, link, bob)
}

/// How often the will came in all to a session that had no connection meanwhile.
fn came(broker: &mut Cluster, eve: &Options) -> usize {
    let eve = broker.join(eve);
    broker.received(eve).iter().filter(|it| it.ends_with("w=gone")).count()
}

#[test]
fn will_that_was_published_never_comes_again() {
    // [MQTT-3.1.2-10]
    for (name, delay, expiry, due) in WAYS {
        for shards in [1, 3] {
            for stops in [false, true] {
                let (mut broker, eve, bob, options) = with_will(shards, delay, expiry);
                due(&mut broker, bob, &options);
                for _ in 0..3 {
                    if stops {
                        broker.stop();
                    }
                    broker.crash();
                    broker.advance(200);
                }
                assert_eq!(came(&mut broker, &eve), 1, "{name}, {shards} shards, stops {stops}");
            }
        }
    }
}

#[test]
fn will_is_published_and_forgotten_in_one_record() {
    for (name, delay, expiry, due) in WAYS {
        let mut whole = false;
        for kept in 0.. {
            let (mut broker, eve, bob, options) = with_will(1, delay, expiry);
            broker.lazy();
            due(&mut broker, bob, &options);
            if kept > broker.unsynced(0) {
                break;
            }
            whole |= kept > 0;
            broker.crash_keeping(&[kept]);
            broker.eager();
            broker.advance(200);
            broker.crash();
            broker.advance(200);
            assert_eq!(came(&mut broker, &eve), 1, "{name}, {kept} records");
        }
        assert!(whole, "{name}: nothing was stored");
    }
}

#[test]
fn will_is_kept_till_every_shard_has_stored_its_part() {
    // What leaves the row of the session at once is stored once by whoever writes that row.
    for (name, delay, expiry, due) in [WAYS[0], WAYS[1], WAYS[3], WAYS[7], WAYS[8]] {
        let tear = |kept: [usize; 2], passes: usize| {
            let (mut broker, eve, bob, options) = with_will(2, delay, expiry);
            broker.lazy();
            broker.hold_peers(true);
            if name.starts_with("crash") {
                broker.eager();
                broker.hold_peers(false);
                broker.crash();
                broker.lazy();
                broker.hold_peers(true);
                broker.advance(u64::from(delay));
            } else {
                due(&mut broker, bob, &options);
            }
            // First one shard does what it can, then the other, and so on.
            for pass in 0..passes {
                read_and_store(&mut broker, (pass + 1) % 2);
            }
            let left = [broker.unsynced(0), broker.unsynced(1)];
            broker.crash_keeping(&[kept[0].min(left[0]), kept[1].min(left[1])]);
            broker.hold_peers(false);
            broker.eager();
            broker.advance(200);
            for _ in 0..2 {
                broker.crash();
                broker.advance(200);
            }
            (came(&mut broker, &eve), left)
        };
        for passes in 0..5 {
            for kept in [[0, 0], [1, 0], [9, 0], [0, 1], [0, 9], [9, 9]] {
                let (came, left) = tear(kept, passes);
                let at = format!("{name}, {passes} passes, {kept:?} of {left:?}");
                assert!((1..=2).contains(&came), "{at}: {came} times");
                // The second shard's part is safe, the first has heard so and has stored that.
                assert!(passes < 4 || came == 1, "{at}: {came} times");
            }
        }
    }
}

/// `shard` reads what it was told, and what it has to keep is safe.
fn read_and_store(broker: &mut Cluster, shard: usize) {
    while broker.pass_peer(shard) {}
    let all = broker.unsynced(shard);
    broker.sync_some(shard, all);
}

#[test]
fn will_is_kept_till_the_last_of_many_shards_has_stored_its_part() {
    let mut broker = Cluster::new(3);
    let listeners = [0, 1, 2].map(|shard| lasting(&broker.name_on("eve", shard), 10_000));
    for options in &listeners {
        let link = broker.join(options);
        broker.listen(link, "w", 1);
        broker.lose(link);
    }
    let bob = lasting(&broker.name_on("bob", 0), 1000).will("w", "gone", 1, 10);
    let bob = broker.join(&bob);
    broker.lose(bob);
    broker.lazy();
    broker.hold_peers(true);
    broker.advance(10);
    for shard in [0, 1, 0] {
        read_and_store(&mut broker, shard);
    }
    broker.crash();
    broker.hold_peers(false);
    broker.eager();
    broker.advance(10);
    let heard = listeners.map(|options| came(&mut broker, &options));
    assert_eq!(heard, [2, 2, 1], "only the last had not stored it");
}

#[test]
fn part_of_an_older_will_says_nothing_of_the_next() {
    let (mut broker, eve, bob, options) = with_will(2, 0, 1000);
    broker.hold_peers(true);
    broker.lose(bob);
    let bob = broker.connect(&options);
    broker.lazy();
    broker.lose(bob);
    read_and_store(&mut broker, 0);
    // The other shard stores the first will and says so; then comes the crash.
    assert!(broker.pass_peer(1));
    let all = broker.unsynced(1);
    broker.sync_some(1, all);
    read_and_store(&mut broker, 0);
    broker.crash();
    broker.hold_peers(false);
    broker.eager();
    broker.advance(10);
    assert_eq!(came(&mut broker, &eve), 2);
}

#[test]
fn will_that_nobody_wants_is_forgotten_as_well() {
    for (qos, delay) in [(0, 10), (1, 10), (1, 0)] {
        let mut broker = Cluster::new(2);
        let bob = broker.join(&lasting("bob", 1000).will("w", "gone", qos, delay));
        broker.lose(bob);
        broker.advance(10);
        broker.crash();
        let eve = broker.join(&lasting("eve", 10_000));
        broker.listen(eve, "w", 1);
        broker.advance(100);
        assert!(broker.received(eve).is_empty());
    }
}

#[test]
fn client_that_is_back_has_its_own_will_and_not_the_one_before() {
    for shards in [1, 2] {
        let (mut broker, eve, bob, options) = with_will(shards, 0, 1000);
        broker.hold_peers(true);
        broker.lose(bob);
        // The other shard has not answered yet.
        let again = broker.connect(&Options { will: None, ..options.clone() });
        broker.lose(again);
        broker.connect(&options);
        broker.hold_peers(false);
        broker.crash();
        broker.advance(1);
        broker.crash();
        broker.advance(1);
        assert_eq!(came(&mut broker, &eve), 2);
    }
}

#[test]
fn session_is_the_same_when_its_will_is_published() {
    for crashed in [false, true] {
        let mut broker = Cluster::new(1);
        let options = lasting("bob", 1000).will("w", "gone", 1, 10);
        let bob = broker.join(&options);
        broker.listen(bob, "a", 1);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("a", "1", 1, 1));
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=1"]);
        if crashed {
            broker.crash();
        } else {
            broker.lose(bob);
        }
        broker.advance(10);
        // What is kept of it now was written behind its will.
        broker.crash();
        broker.advance(980);
        let bob = broker.join(&options);
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 dup a=1"], "crashed {crashed}");
        broker.lose(bob);
        broker.advance(20);
        broker.crash();
        broker.advance(980);
        let bob = broker.connect(&options);
        assert_eq!(broker.received(bob)[0], "CONNACK", "crashed {crashed}");
    }
}

#[test]
fn retained_will_is_stored_and_forgotten_wherever_its_topic_is() {
    for full in [false, true] {
        for on in 0..2 {
            let retained_messages_max = usize::from(!full);
            let limits = Limits { retained_messages_max, ..Limits::default() };
            let mut broker = Cluster::with(2, limits, Hooks::default());
            let name = broker.name_on("bob", 0);
            let topic = broker.topic_on("t", on);
            let options = lasting(&name, 1000).will(&topic, "gone", 1, 10).will_retained();
            let bob = broker.join(&options);
            broker.lose(bob);
            broker.advance(10);
            let dropped = broker.metrics().get(Metric::DroppedRetainedFull);
            assert_eq!(dropped, u64::from(full), "on {on}");
            let alice = broker.join(&v5("alice"));
            broker.publish(alice, &message(&topic, "", 1, 1).retained());
            broker.crash();
            broker.advance(100);
            let eve = broker.join(&v5("eve"));
            broker.listen(eve, &topic, 1);
            assert!(broker.received(eve).is_empty(), "full {full}, on {on}");
        }
    }
}

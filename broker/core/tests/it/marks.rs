//! QoS 2 over several shards and a crash: whom a message has reached is known when it comes again.

use tidings_core::limits::Limits;
use tidings_core::record::RowKind;
use tidings_core::shard::Hooks;

use crate::harness::{Cluster, Link, lasting, message, v311};

const SHARED: &str = "$share/g/#";

/// Three who hear everything on as many shards, two who share it, and a publisher with the first.
struct Scene {
    broker: Cluster,
    alice: String,
    single: Vec<String>,
    members: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let mut broker = Cluster::new(3);
        let alice = broker.name_on("alice", 0);
        let single: Vec<_> = (0..3).map(|shard| broker.name_on("single", shard)).collect();
        let members: Vec<_> = (1..3).map(|shard| broker.name_on("member", shard)).collect();
        for (name, filter) in
            single.iter().map(|it| (it, "#")).chain(members.iter().map(|it| (it, SHARED)))
        {
            let link = broker.join(&lasting(name, 1_000));
            broker.listen(link, filter, 2);
        }
        Self { broker, alice, single, members }
    }

    fn alice(&mut self) -> Link {
        let options = lasting(&self.alice, 1_000);
        let link = self.broker.connect(&options);
        self.broker.got(link);
        link
    }

    /// What each of these hears, taken to its end.
    fn hear(&mut self, names: &[String]) -> Vec<String> {
        let mut heard = Vec::new();
        for name in names {
            let link = self.broker.connect(&lasting(name, 1_000));
            for line in self.broker.received(link) {
                let Some((head, payload)) = line.split_once('=') else { continue };
                heard.push(payload.to_owned());
                let id = head.split(' ').find_map(|word| word.parse().ok()).unwrap();
                self.broker.pubrec(link, id);
                self.broker.pubcomp(link, id);
            }
            self.broker.lose(link);
        }
        heard
    }

    /// Alice hears the end of her message, and everybody has it once.
    fn check_once(&mut self, alice: Link, payload: &str, what: &str) {
        self.broker.pubrel(alice, 1);
        let (single, members) = (self.single.clone(), self.members.clone());
        assert_eq!(self.hear(&single), [payload; 3], "{what}");
        assert_eq!(self.hear(&members), [payload], "{what}");
        assert_eq!(self.broker.rows_of(RowKind::Reached), [], "{what}");
        assert_eq!(self.broker.rows_of(RowKind::InFlight), [], "{what}");
    }
}

#[test]
fn message_reaches_everybody_once_wherever_a_crash_leaves_it() {
    // [MQTT-4.3.3-10]
    for passed in 0..8 {
        for kept in 0..27 {
            for shards in 1..=4 {
                let mut scene = Scene::new();
                let alice = scene.alice();
                scene.broker.lazy();
                scene.broker.hold_peers(true);
                scene.broker.publish(alice, &message("a", "once", 2, 1));
                for turn in 0..passed {
                    scene.broker.pass_peer(turn % 3);
                }
                let kept = [kept % 3, kept / 3 % 3, kept / 9];
                scene.broker.crash_keeping_into(&kept, shards);
                scene.broker.hold_peers(false);
                scene.broker.eager();
                let alice = scene.alice();
                scene.broker.publish(alice, &message("a", "once", 2, 1).again());
                assert_eq!(scene.broker.received(alice), ["PUBREC 1"]);
                scene.check_once(alice, "once", &format!("{passed} {kept:?} {shards}"));
            }
        }
    }
}

#[test]
fn message_reaches_everybody_once_over_two_crashes() {
    for passed in 0..6 {
        for kept in 0..8 {
            let mut scene = Scene::new();
            for crash in 0..2 {
                let alice = scene.alice();
                scene.broker.lazy();
                scene.broker.hold_peers(true);
                let once = message("a", "once", 2, 1);
                scene.broker.publish(alice, &if crash > 0 { once.again() } else { once });
                for turn in 0..passed {
                    scene.broker.pass_peer((turn + crash) % 3);
                }
                let kept = [kept % 2, kept / 2 % 2, kept / 4 % 2];
                scene.broker.crash_keeping_into(&kept, 3 - crash as u16);
                scene.broker.hold_peers(false);
                scene.broker.eager();
            }
            let alice = scene.alice();
            scene.broker.publish(alice, &message("a", "once", 2, 1).again());
            assert_eq!(scene.broker.received(alice), ["PUBREC 1"]);
            scene.check_once(alice, "once", &format!("{passed} {kept:?}"));
        }
    }
}

#[test]
fn what_was_answered_is_not_delivered_again_behind_a_crash() {
    for shards in 1..=4 {
        let mut scene = Scene::new();
        let alice = scene.alice();
        scene.broker.publish(alice, &message("a", "once", 2, 1));
        let (single, members) = (scene.single.clone(), scene.members.clone());
        assert_eq!(scene.hear(&single), ["once"; 3]);
        assert_eq!(scene.hear(&members), ["once"]);
        scene.broker.restart(shards);
        let alice = scene.alice();
        scene.broker.publish(alice, &message("a", "once", 2, 1).again());
        assert_eq!(scene.broker.received(alice).len(), 1);
        assert!(scene.hear(&single).is_empty() && scene.hear(&members).is_empty());
        scene.broker.pubrel(alice, 1);
        scene.broker.publish(alice, &message("a", "next", 2, 1));
        scene.check_once(alice, "next", &shards.to_string());
    }
}

/// Alice on the first shard, Bob on the second, who hears everything.
fn pair() -> (Cluster, String, String) {
    let mut broker = Cluster::new(2);
    let (alice, bob) = (broker.name_on("alice", 0), broker.name_on("bob", 1));
    let link = broker.join(&lasting(&bob, 100));
    broker.listen(link, "#", 2);
    broker.lose(link);
    (broker, alice, bob)
}

fn heard(broker: &mut Cluster, bob: &str) -> Vec<String> {
    let link = broker.connect(&lasting(bob, 100));
    let heard = broker.received(link);
    broker.lose(link);
    heard.iter().filter_map(|line| Some(line.split_once('=')?.1.to_owned())).collect()
}

#[test]
fn pubcomp_waits_until_no_mark_can_come_back() {
    // [MQTT-4.3.3-11]
    for again in [false, true] {
        let (mut broker, name, bob) = pair();
        let mut alice = broker.join(&lasting(&name, 100));
        broker.publish(alice, &message("a", "first", 2, 1));
        broker.lazy();
        broker.pubrel(alice, 1);
        broker.sync_some(0, 9);
        if again {
            alice = broker.join(&lasting(&name, 100));
            broker.received(alice);
            broker.pubrel(alice, 1);
            broker.sync_some(0, 9);
        } else {
            assert_eq!(broker.received(alice), ["PUBREC 1"]);
        }
        assert!(broker.received(alice).is_empty());
        broker.sync();
        let done = if again { "PUBCOMP 1 92" } else { "PUBCOMP 1" };
        assert_eq!(broker.received(alice), [done]);
        // The next message with this identifier is another one, also if nothing is noted of it.
        broker.publish(alice, &message("a", "second", 2, 1));
        broker.crash();
        broker.eager();
        let alice = broker.join(&lasting(&name, 100));
        broker.publish(alice, &message("a", "second", 2, 1).again());
        assert_eq!(heard(&mut broker, &bob), ["first", "second"]);
    }
}

#[test]
fn pubrec_waits_for_one_record_here_and_one_there() {
    let (mut broker, name, _) = pair();
    let alice = broker.join(&lasting(&name, 100));
    let before = broker.records();
    broker.lazy();
    broker.publish(alice, &message("a", "x", 1, 7));
    assert_eq!((broker.unsynced(0), broker.unsynced(1)), (0, 1));
    broker.sync();
    assert_eq!(broker.received(alice), ["PUBACK 7"]);
    broker.publish(alice, &message("a", "x", 2, 1));
    assert_eq!((broker.unsynced(0), broker.unsynced(1)), (1, 1));
    // Neither waits for the other.
    broker.sync();
    assert_eq!(broker.received(alice), ["PUBREC 1"]);
    assert_eq!(broker.records() - before, 3);
    broker.pubrel(alice, 1);
    assert_eq!((broker.unsynced(0), broker.unsynced(1)), (1, 1));
    broker.sync();
    assert_eq!(broker.received(alice), ["PUBCOMP 1"]);
}

#[test]
fn one_shard_marks_nothing() {
    let mut broker = Cluster::new(1);
    let bob = broker.join(&lasting("bob", 100));
    broker.listen(bob, "#", 2);
    let alice = broker.join(&lasting("alice", 100));
    let before = broker.records();
    broker.publish(alice, &message("a", "x", 2, 1));
    assert_eq!(broker.rows_of(RowKind::Reached), []);
    // The second one gives Bob's copy its identifier.
    assert_eq!(broker.records() - before, 2);
}

#[test]
fn client_that_does_not_wait_for_pubrec_leaves_no_mark() {
    for gone in 0..3 {
        let (mut broker, name, bob) = pair();
        let alice = broker.join(&lasting(&name, 100));
        broker.hold_peers(true);
        broker.publish(alice, &message("a", "x", 2, 1));
        broker.pubrel(alice, 1);
        match gone {
            0 => {}
            1 => broker.lose(alice),
            _ => {
                broker.connect(&lasting(&name, 100).clean());
            }
        }
        broker.hold_peers(false);
        assert_eq!(heard(&mut broker, &bob), ["x"]);
        let [_, _, _, in_flight, _] = broker.session_rows();
        // Bob's own.
        assert_eq!((broker.rows_of(RowKind::Reached).len(), in_flight), (0, 1), "{gone}");
    }
}

#[test]
fn mark_that_a_group_passes_on_does_not_outlive_its_session() {
    for ends in [false, true] {
        let mut broker = Cluster::new(3);
        let mut names = (0..).map(|it| format!("$share/g{it}/#"));
        let shared = names.find(|it| broker.owner_of(it) == 1).unwrap();
        let bob = broker.join(&lasting(&broker.name_on("bob", 2), 100));
        broker.listen(bob, &shared, 2);
        broker.lose(bob);
        let name = broker.name_on("alice", 0);
        let alice = broker.join(&lasting(&name, 100));
        broker.hold_peers(true);
        broker.publish(alice, &message("a", "x", 2, 1));
        broker.pubrel(alice, 1);
        if ends {
            broker.connect(&lasting(&name, 100).clean());
        }
        // What it is told to forget overtakes what the group's shard hands it.
        while broker.pass_peer(2) {}
        broker.hold_peers(false);
        assert_eq!(broker.rows_of(RowKind::Queued).len(), 1);
        assert_eq!(broker.rows_of(RowKind::Reached), [], "{ends}");
    }
}

#[test]
fn session_that_ends_takes_its_marks_with_it() {
    for (crash, expires) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut broker, name, _) = pair();
        let alice = broker.join(&lasting(&name, 100));
        broker.publish(alice, &message("a", "x", 2, 1));
        broker.lose(alice);
        assert_eq!(broker.rows_of(RowKind::Reached).len(), 1);
        if crash {
            broker.restart(3);
        }
        if expires {
            broker.advance(101);
        } else {
            broker.join(&lasting(&name, 100).clean());
        }
        assert_eq!(broker.rows_of(RowKind::Reached), [], "{crash} {expires}");
    }
}

#[test]
fn marks_that_outlive_their_session_over_a_crash_are_deleted_at_start() {
    for shards in 1..=3 {
        let (mut broker, name, _) = pair();
        let alice = broker.join(&lasting(&name, 100));
        broker.publish(alice, &message("a", "x", 2, 1));
        broker.lose(alice);
        broker.lazy();
        let alice = broker.connect(&lasting(&name, 100).clean());
        broker.sync_some(0, 9);
        assert_eq!(broker.received(alice), ["CONNACK"]);
        broker.restart(shards);
        broker.eager();
        assert_eq!(broker.rows_of(RowKind::Reached), [], "{shards}");
    }
}

#[test]
fn refused_message_leaves_no_mark_with_those_who_took_it() {
    for crash in [false, true] {
        let limits = Limits { retained_messages_max: 0, ..Limits::default() };
        let mut broker = Cluster::with(2, limits, Hooks::default());
        let (name, bob) = (broker.name_on("alice", 0), broker.name_on("bob", 1));
        let link = broker.join(&lasting(&bob, 100));
        broker.listen(link, "#", 2);
        broker.lose(link);
        let topic = broker.topic_on("t", 1);
        let alice = broker.join(&lasting(&name, 100));
        broker.lazy();
        broker.publish(alice, &message(&topic, "x", 2, 1).retained());
        broker.sync();
        // The others have forgotten it before she hears that she may send it as a new one.
        assert_eq!(broker.received(alice), Vec::<String>::new());
        broker.sync();
        broker.sync();
        assert_eq!(broker.received(alice), ["PUBREC 1 97"]);
        if crash {
            broker.crash();
        }
        broker.eager();
        assert_eq!(broker.rows_of(RowKind::Reached), []);
        assert_eq!(broker.rows_of(RowKind::InFlight), []);
        let alice = broker.join(&lasting(&name, 100));
        broker.publish(alice, &message("other", "y", 2, 1));
        assert_eq!(broker.received(alice), ["PUBREC 1"]);
        assert_eq!(heard(&mut broker, &bob), ["x", "y"]);
    }
}

#[test]
fn another_message_under_an_identifier_of_before_the_crash_is_another_message() {
    // A Client that came back without its memory. What was noted is a repeat whatever it says.
    let (mut broker, name, bob) = pair();
    let alice = broker.join(&lasting(&name, 100));
    broker.lazy();
    broker.publish(alice, &message("a", "first", 2, 1));
    broker.crash_keeping(&[0, 9]);
    broker.eager();
    let alice = broker.join(&lasting(&name, 100));
    broker.publish(alice, &message("a", "second", 2, 1));
    assert_eq!(broker.rows_of(RowKind::Reached).len(), 1);
    broker.crash();
    let alice = {
        broker.received(alice);
        broker.join(&lasting(&name, 100))
    };
    broker.publish(alice, &message("a", "second", 2, 1).again());
    assert_eq!(heard(&mut broker, &bob), ["first", "second"]);
}

#[test]
fn older_clients_repeat_as_well() {
    for kept in 0..4 {
        let (mut broker, name, bob) = pair();
        let alice = broker.join(&v311(&name).resume());
        broker.lazy();
        broker.publish(alice, &message("a", "once", 2, 1));
        broker.crash_keeping_into(&[kept % 2, kept / 2], 4);
        broker.eager();
        let alice = broker.join(&v311(&name).resume());
        broker.publish(alice, &message("a", "once", 2, 1).again());
        broker.pubrel(alice, 1);
        assert_eq!(broker.received(alice), ["PUBREC 1", "PUBCOMP 1"]);
        assert_eq!(heard(&mut broker, &bob), ["once"]);
        assert_eq!(broker.rows_of(RowKind::Reached), []);
    }
}

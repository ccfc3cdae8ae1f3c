//! Presence: who is online, since when not, and what is no change.

use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::Disconnection;

use crate::harness::{World, number, text};

/// A world in which Alice watches Bob.
fn watching() -> (World, tidings_core::hook::SessionId) {
    let mut world = World::new(3);
    let alice = world.connect_as("alice", "laptop", Version::V5, false);
    world.subscribe(alice, "presence/bob", QoS::AtLeastOnce);
    world.run();
    (world, alice)
}

fn states(world: &mut World, session: tidings_core::hook::SessionId) -> Vec<String> {
    let heard = world.take_heard(session, "presence/bob");
    heard.iter().filter_map(|body| text(body, "state")).collect()
}

#[test]
fn the_current_value_comes_at_once_and_then_changes() {
    let (mut world, alice) = watching();
    let heard = world.take_heard(alice, "presence/bob");
    assert_eq!(heard, [r#"{"state":"offline","last_seen":0,"epoch":0}"#]);
    let bob = world.device("bob", "phone");
    world.run();
    let online = world.take_heard(alice, "presence/bob");
    assert_eq!(text(&online[0], "state").as_deref(), Some("online"));
    world.advance(Duration::from_secs(60));
    let left = world.now;
    world.disconnect(bob, Disconnection::Clean);
    world.run();
    let offline = world.take_heard(alice, "presence/bob");
    assert_eq!(text(&offline[0], "state").as_deref(), Some("offline"));
    assert_eq!(number(&offline[0], "last_seen"), Some(left.as_millis()));
    assert!(number(&offline[0], "epoch") > number(&online[0], "epoch"));
    // Who comes later hears the same.
    let carol = world.connect("carol", "c");
    world.subscribe(carol, "presence/bob", QoS::AtMostOnce);
    world.run();
    assert_eq!(world.take_heard(carol, "presence/bob"), offline);
}

#[test]
fn an_abrupt_end_counts_after_the_grace_and_a_reconnect_makes_it_none() {
    let (mut world, alice) = watching();
    let bob = world.connect("bob", "phone");
    world.run();
    assert_eq!(states(&mut world, alice), ["offline", "online"]);
    world.disconnect(bob, Disconnection::Abrupt);
    world.advance(Duration::from_millis(4_900));
    world.connect("bob", "phone");
    world.advance(Duration::from_secs(10));
    assert_eq!(states(&mut world, alice), [""; 0]);
    let left = world.now;
    world.disconnect(bob, Disconnection::Abrupt);
    world.advance(Duration::from_millis(4_999));
    assert_eq!(states(&mut world, alice), [""; 0]);
    world.advance(Duration::from_millis(1));
    let heard = world.take_heard(alice, "presence/bob");
    assert_eq!(text(&heard[0], "state").as_deref(), Some("offline"));
    assert_eq!(number(&heard[0], "last_seen"), Some(left.as_millis()));
}

#[test]
fn a_takeover_is_no_change_and_its_will_neither() {
    let (mut world, alice) = watching();
    let bob = world.connect("bob", "phone");
    world.run();
    states(&mut world, alice);
    world.disconnect(bob, Disconnection::TakenOver);
    world.will("bob", "phone", "me/will", b"gone");
    world.run();
    world.connect("bob", "phone");
    world.advance(Duration::from_secs(20));
    assert_eq!(states(&mut world, alice), [""; 0]);
}

#[test]
fn a_will_brings_the_end_forward() {
    let (mut world, alice) = watching();
    let bob = world.connect("bob", "phone");
    world.run();
    states(&mut world, alice);
    world.disconnect(bob, Disconnection::Abrupt);
    world.will("bob", "phone", "me/gone", b"");
    world.run();
    assert_eq!(states(&mut world, alice), ["offline"]);
    world.advance(Duration::from_secs(20));
    assert_eq!(states(&mut world, alice), [""; 0]);
    // With another session connected it is none.
    let phone = world.connect("bob", "phone");
    let tablet = world.connect("bob", "tablet");
    world.run();
    assert_eq!(states(&mut world, alice), ["online"]);
    world.disconnect(phone, Disconnection::Abrupt);
    world.will("bob", "phone", "me/will", b"");
    world.advance(Duration::from_secs(20));
    assert_eq!(states(&mut world, alice), [""; 0]);
    world.disconnect(tablet, Disconnection::Clean);
    world.run();
    assert_eq!(states(&mut world, alice), ["offline"]);
}

#[test]
fn last_seen_and_the_epoch_survive_a_crash() {
    let (mut world, alice) = watching();
    let bob = world.connect("bob", "phone");
    world.advance(Duration::from_secs(60));
    world.disconnect(bob, Disconnection::Clean);
    world.settle();
    let before = world.take_heard(alice, "presence/bob").pop().unwrap();
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    world.subscribe(alice, "presence/bob", QoS::AtMostOnce);
    world.settle();
    assert_eq!(world.take_heard(alice, "presence/bob"), [&*before]);
    // Online when it crashed: offline now, as a later change.
    world.connect("bob", "phone");
    world.settle();
    let online = world.take_heard(alice, "presence/bob").pop().unwrap();
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    world.settle();
    assert_eq!(world.take_heard(alice, "presence/bob"), [&*online], "he may be about to come back");
    world.advance(Duration::from_secs(70));
    let after = world.take_heard(alice, "presence/bob").pop().unwrap();
    assert_eq!(text(&after, "state").as_deref(), Some("offline"));
    assert!(number(&after, "epoch") > number(&online, "epoch"));
    assert!(number(&after, "last_seen") >= number(&online, "last_seen"));
}

#[test]
fn who_was_there_when_the_server_was_stopped_was_last_seen_then() {
    let mut world = World::new(2);
    let bob = world.connect("bob", "phone");
    world.advance(Duration::from_secs(3_600));
    // All connections end, and the server behind them.
    let left = world.now;
    world.disconnect(bob, Disconnection::Abrupt);
    world.run();
    world.sync();
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    world.subscribe(alice, "presence/bob", QoS::AtMostOnce);
    world.run();
    assert_eq!(states(&mut world, alice), ["online"], "he may be about to come back");
    world.advance(Duration::from_secs(70));
    let offline = world.take_heard(alice, "presence/bob").pop().unwrap();
    assert_eq!(text(&offline, "state").as_deref(), Some("offline"));
    assert_eq!(number(&offline, "last_seen"), Some(left.as_millis()));
}

#[test]
fn watchers_are_forgotten_when_they_leave_and_bounded() {
    let mut options = ChatOptions::default();
    options.requests = false;
    options.watchers_max = 1;
    let mut world = World::with(2, options, 0);
    let first = world.connect("alice", "a");
    let second = world.connect("carol", "c");
    world.subscribe(first, "presence/bob", QoS::AtMostOnce);
    world.run();
    world.subscribe(second, "presence/bob", QoS::AtMostOnce);
    world.run();
    assert_eq!(states(&mut world, second), ["offline"], "the value at once, beyond the bound too");
    let bob = world.connect("bob", "phone");
    world.run();
    assert_eq!(states(&mut world, first), ["offline", "online"]);
    assert_eq!(states(&mut world, second), [""; 0]);
    world.unsubscribe(first, "presence/bob");
    world.run();
    world.subscribe(second, "presence/bob", QoS::AtMostOnce);
    world.run();
    world.disconnect(bob, Disconnection::Clean);
    world.run();
    assert_eq!(states(&mut world, first), [""; 0]);
    assert_eq!(states(&mut world, second), ["online", "offline"]);
}

#[test]
fn presence_is_for_one_user_at_a_time() {
    let world = World::new(1);
    assert_eq!(world.allows("alice", "presence/bob"), Ok(()));
    for filter in ["presence/+", "presence/#", "presence/bob/x"] {
        assert_eq!(world.allows("alice", filter), Err(ReasonCode::TopicFilterInvalid));
    }
    assert_eq!(world.allows("", "presence/bob"), Err(ReasonCode::NotAuthorized));
}

/// Everybody watches a few others.
fn crowd(world: &mut World, count: usize) {
    for user in 0..count {
        let session = world.connect(&format!("u{user}"), "phone");
        for step in [1, 31, 333] {
            let other = (user + step) % count;
            world.subscribe(session, &format!("presence/u{other}"), QoS::AtMostOnce);
        }
    }
    world.run();
}

#[test]
fn ten_thousand_users_who_come_back_after_a_restart_are_no_storm() {
    const USERS: usize = 10_000;
    let mut world = World::new(4);
    crowd(&mut world, USERS);
    world.sync();
    world.advance(Duration::from_secs(60));
    let before = world.take_all_heard();
    assert!(before.len() >= 3 * USERS, "{}", before.len());
    world.sync();
    world.crash(true);
    let stored = world.stored_counts();
    for user in 0..USERS {
        world.connect(&format!("u{user}"), "phone");
        world.advance(Duration::from_millis(1));
    }
    world.advance(Duration::from_secs(300));
    let after = world.take_all_heard();
    assert_eq!(after.len(), 3 * USERS, "one value for each who watches, and no change");
    assert!(after.iter().all(|body| text(body, "state").as_deref() == Some("online")));
    assert_eq!(world.stored_counts(), stored, "and nothing is stored");
}

#[test]
fn many_changes_at_once_are_told_by_and_by_and_only_the_newest() {
    const USERS: usize = 500;
    let mut options = ChatOptions::default();
    options.requests = false;
    options.presence_rate = 100;
    let mut world = World::with(1, options, 0);
    crowd(&mut world, USERS);
    world.advance(Duration::from_secs(60));
    world.take_all_heard();
    let sessions: Vec<_> =
        (0..USERS).map(|user| world.connected_session(&format!("u{user}"), "phone")).collect();
    // Everybody goes away and comes back twice within a moment.
    for away in [true, false, true, false, true] {
        for session in &sessions {
            world.publish(*session, "me/state", format!(r#"{{"away":{away}}}"#).as_bytes());
        }
        world.advance(Duration::from_millis(100));
    }
    let at_once = world.take_all_heard().len();
    assert!(at_once <= 160, "{at_once} in half a second, 100 at once and 100 a second");
    world.advance(Duration::from_secs(60));
    let rest = world.take_all_heard();
    assert!(rest.len() <= 3 * USERS, "{}", rest.len());
    let last = rest.iter().filter(|body| text(body, "state").as_deref() == Some("away"));
    assert!(last.count() >= 3 * USERS - at_once, "each hears how it is in the end");
}

#[test]
fn what_changed_meanwhile_is_not_told_one_by_one_to_who_comes_back() {
    let mut world = World::new(2);
    let alice = world.connect("alice", "laptop");
    world.subscribe(alice, "presence/bob", QoS::AtLeastOnce);
    world.run();
    world.disconnect(alice, Disconnection::Clean);
    for _ in 0..3 {
        let bob = world.connect("bob", "phone");
        world.advance(Duration::from_secs(60));
        world.disconnect(bob, Disconnection::Clean);
        world.advance(Duration::from_secs(60));
    }
    world.connect("bob", "phone");
    world.settle();
    states(&mut world, alice);
    world.connect("alice", "laptop");
    world.settle();
    assert_eq!(states(&mut world, alice), ["online"]);
}

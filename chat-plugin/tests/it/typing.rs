//! Typing: who hears it, how often, and that it is the first thing to be dropped.

use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::hook::SessionId;

use crate::harness::{World, text};

fn pair(world: &mut World) -> (SessionId, SessionId) {
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    world.settle();
    world.publish(alice, "chat/@bob/send", b"hello");
    world.settle();
    world.publish(bob, "chat/@alice/send", b"hello");
    world.settle();
    (alice, bob)
}

fn states(world: &mut World, session: SessionId) -> Vec<String> {
    let heard = world.take_heard(session, "typing");
    heard.iter().filter_map(|body| text(body, "state")).collect()
}

#[test]
fn typing_and_recording_are_heard_once_in_two_seconds_and_their_end_at_once() {
    let mut world = World::with(2, ChatOptions::default(), 0);
    let (alice, bob) = pair(&mut world);
    for _ in 0..10 {
        world.publish_qos0(alice, "chat/@bob/typing", b"typing");
        world.advance(Duration::from_millis(300));
    }
    assert_eq!(states(&mut world, bob), ["typing", "typing"], "in three seconds");
    world.advance(Duration::from_secs(2));
    world.publish_qos0(alice, "chat/@bob/typing", b"recording");
    world.publish_qos0(alice, "chat/@bob/typing", b"stopped");
    world.publish_qos0(alice, "chat/@bob/typing", b"stopped");
    world.run();
    assert_eq!(states(&mut world, bob), ["recording", "stopped"]);
    assert_eq!(states(&mut world, alice), [""; 0], "not one's own");
    let odd = world.publish(alice, "chat/@bob/typing", b"singing");
    world.run();
    assert_eq!(world.property(odd, "code").as_deref(), Some("format"));
}

#[test]
fn typing_is_not_for_a_session_that_is_full_and_never_waits() {
    let mut world = World::with(2, ChatOptions::default(), 0);
    let (alice, bob) = pair(&mut world);
    world.session(bob).acknowledges = false;
    (world.session(bob).window, world.session(bob).queue_max) = (1, 1);
    let begin = world.stored_counts();
    for _ in 0..4 {
        world.publish(alice, "chat/@bob/send", b"x");
    }
    world.run();
    world.sync();
    world.run();
    let before = world.stored_counts();
    assert!(before > begin);
    world.publish_qos0(alice, "chat/@bob/typing", b"typing");
    world.run();
    assert_eq!(states(&mut world, bob), [""; 0]);
    assert_eq!(world.stored_counts(), before, "and it is never stored");
    world.session(bob).acknowledges = true;
    world.settle();
    assert_eq!(states(&mut world, bob), [""; 0], "nor queued");
}

#[test]
fn typing_in_a_group_is_not_heard_of_one_who_is_blocked() {
    let mut world = World::with(3, ChatOptions::default(), 0);
    let (alice, bob) = pair(&mut world);
    let carol = world.device("carol", "c");
    world.publish(alice, "chat/climbing/create", br#"{"users":["bob","carol"]}"#);
    world.settle();
    world.publish(bob, "me/block", br#"{"block":["alice"]}"#);
    world.settle();
    world.publish_qos0(alice, "chat/climbing/typing", b"typing");
    world.run();
    assert_eq!(states(&mut world, carol), ["typing"]);
    assert_eq!(states(&mut world, bob), [""; 0]);
}

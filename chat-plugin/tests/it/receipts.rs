//! Ticks: who hears them, when, and that they never go back.

use std::time::Duration;

use tidings_core::codec::{QoS, ReasonCode};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{World, number, text};

fn pair(world: &mut World) -> (SessionId, SessionId) {
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    world.settle();
    (alice, bob)
}

fn send(world: &mut World, from: SessionId, to: &str, count: usize) {
    for _ in 0..count {
        world.publish(from, &format!("chat/@{to}/send"), b"x");
    }
}

#[test]
fn ticks_come_from_acknowledgements_and_not_before() {
    let mut world = World::new(3);
    let (alice, bob) = pair(&mut world);
    world.session(bob).acknowledges = false;
    send(&mut world, alice, "bob", 3);
    world.settle();
    assert_eq!(world.take_seqs(bob), [1, 2, 3]);
    assert_eq!(world.take_heard(alice, "receipt"), [""; 0]);
    // The second before the first: nothing is complete yet.
    world.acknowledge_at(bob, 1, ReasonCode::Success);
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt"), [""; 0]);
    world.acknowledge(bob, ReasonCode::Success);
    world.settle();
    let heard = world.session(alice).heard.last().unwrap().clone();
    assert_eq!(heard.topic, "me/json/@bob/receipt");
    assert_eq!(heard.body, r#"{"user":"bob","delivered":2,"read":0}"#);
    assert_eq!(world.take_heard(bob, "receipt"), [""; 0], "only the author hears");
}

#[test]
fn ticks_are_coalesced() {
    let mut world = World::new(2);
    let (alice, bob) = pair(&mut world);
    send(&mut world, alice, "bob", 1);
    world.settle();
    world.take_heard(alice, "receipt");
    for _ in 0..60 {
        send(&mut world, alice, "bob", 1);
        world.run();
        world.sync();
        world.acknowledge_all();
        world.advance(Duration::from_millis(10));
        world.sync();
    }
    world.settle();
    let ticks = world.take_heard(alice, "receipt");
    assert!((2..=8).contains(&ticks.len()), "60 messages in 600 ms: {ticks:?}");
    let delivered: Vec<_> = ticks.iter().filter_map(|tick| number(tick, "delivered")).collect();
    assert!(delivered.is_sorted(), "{delivered:?}");
    assert_eq!(delivered.last(), Some(&61));
    assert_eq!(world.take_seqs(bob).len(), 61);
}

#[test]
fn reading_is_told_clamped_and_never_goes_back() {
    let mut world = World::new(3);
    let (alice, bob) = pair(&mut world);
    let tablet = world.device("bob", "tablet");
    send(&mut world, alice, "bob", 3);
    world.settle();
    world.take_heard(alice, "receipt");
    let read = world.publish(bob, "chat/@alice/read", b"2");
    world.run();
    assert_eq!(world.answer(read), None, "not before it is stored");
    world.settle();
    assert_eq!(world.answer(read), Some(ReasonCode::Success));
    world.publish(bob, "chat/@alice/read", b"1");
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt"), [r#"{"user":"bob","delivered":3,"read":2}"#]);
    world.publish_qos0(bob, "chat/@alice/read", b"99");
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt"), [r#"{"user":"bob","delivered":3,"read":3}"#]);
    // Bob's other device hears what he has read, the one that said so does not.
    let own = world.take_heard(tablet, "receipt");
    assert_eq!(own, [r#"{"user":"bob","read":2}"#, r#"{"user":"bob","read":3}"#]);
    assert_eq!(world.take_heard(bob, "receipt"), [""; 0]);
    // It outlives a crash, and what comes after the clamp is unread.
    world.crash(true);
    let alice = world.device("alice", "laptop");
    world.settle();
    let ticks = world.take_heard(alice, "receipt");
    assert_eq!(ticks.last().unwrap(), r#"{"user":"bob","delivered":3,"read":3}"#);
    send(&mut world, alice, "bob", 1);
    world.device("bob", "phone");
    world.settle();
    assert_eq!(
        world.take_heard(alice, "receipt").last().unwrap(),
        r#"{"user":"bob","delivered":4,"read":3}"#
    );
}

#[test]
fn reading_implies_delivery() {
    let mut world = World::new(2);
    let alice = world.device("alice", "laptop");
    let bob = world.connect("bob", "tool");
    send(&mut world, alice, "bob", 3);
    world.settle();
    world.publish(bob, "chat/@alice/read", b"3");
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt"), [r#"{"user":"bob","delivered":3,"read":3}"#]);
}

#[test]
fn own_messages_make_no_ticks() {
    let mut world = World::new(3);
    let (alice, bob) = pair(&mut world);
    let tablet = world.device("bob", "tablet");
    send(&mut world, alice, "bob", 1);
    world.settle();
    world.take_heard(alice, "receipt");
    // Bob's own messages move his cursors, and that is nobody's business.
    send(&mut world, bob, "alice", 5);
    world.settle();
    assert_eq!(world.take_seqs(tablet), [1, 2, 3, 4, 5, 6]);
    assert_eq!(world.take_heard(alice, "receipt"), [""; 0]);
    let heard = world.take_heard(bob, "receipt");
    assert_eq!(heard.last().unwrap(), r#"{"user":"alice","delivered":6,"read":0}"#);
    // Nor notes to self.
    send(&mut world, alice, "alice", 3);
    world.device("alice", "phone");
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt"), [""; 0]);
}

#[test]
fn an_author_who_comes_back_hears_how_far_the_other_is() {
    let mut world = World::new(3);
    let (alice, bob) = pair(&mut world);
    send(&mut world, alice, "bob", 2);
    world.run();
    world.sync();
    world.sync();
    world.disconnect(alice, Disconnection::Abrupt);
    world.settle();
    world.session(alice).heard.clear();
    let alice = world.device("alice", "laptop");
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt"), [r#"{"user":"bob","delivered":2,"read":0}"#]);
    // Bob never wrote: there is nothing to tell him.
    world.disconnect(bob, Disconnection::Abrupt);
    let bob = world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_heard(bob, "receipt"), [""; 0]);
}

#[test]
fn a_refused_delivery_is_told_as_failed_and_the_cursor_moves_on() {
    let mut world = World::new(2);
    let (alice, bob) = pair(&mut world);
    world.session(bob).acknowledges = false;
    send(&mut world, alice, "bob", 3);
    world.settle();
    world.acknowledge(bob, ReasonCode::Success);
    world.acknowledge(bob, ReasonCode::ImplementationSpecificError);
    world.acknowledge(bob, ReasonCode::Success);
    world.settle();
    let ticks = world.take_heard(alice, "receipt");
    let failed: Vec<_> = ticks.iter().filter(|tick| tick.contains("failed")).collect();
    assert_eq!(failed, [r#"{"user":"bob","delivered":3,"read":0,"failed":[2]}"#]);
    assert_eq!(text(&ticks[0], "user").as_deref(), Some("bob"));
}

#[test]
fn ticks_are_told_only_when_what_they_say_is_stored() {
    let mut world = World::new(1);
    let (alice, bob) = pair(&mut world);
    send(&mut world, alice, "bob", 1);
    world.run();
    world.sync();
    world.sync();
    world.acknowledge_all();
    world.advance(Duration::from_secs(1));
    assert_eq!(world.take_seqs(bob), [1]);
    assert_eq!(world.take_heard(alice, "receipt"), [""; 0], "a crash could still take it back");
    world.sync();
    world.advance(Duration::from_millis(1));
    assert_eq!(world.take_heard(alice, "receipt").len(), 1);
}

#[test]
fn cursors_cost_a_record_per_chat_and_delay_and_never_an_urgent_one() {
    let mut world = World::new(1);
    let (alice, bob) = pair(&mut world);
    send(&mut world, alice, "bob", 1);
    world.settle();
    let before = world.stored_counts();
    send(&mut world, alice, "bob", 50);
    world.settle();
    let (records, urgent, _) = world.stored_counts();
    assert_eq!(urgent - before.1, 50, "one for each send");
    let lazy = (records - before.0) - (urgent - before.1);
    assert!((1..=4).contains(&lazy), "{lazy} records for cursors");
    assert_eq!(world.take_seqs(bob).len(), 51);
    world.subscribe(bob, "presence/alice", QoS::AtMostOnce);
}

#[test]
fn what_a_device_acknowledged_is_with_the_store_within_35_ms_however_much_follows() {
    let mut world = World::new(1);
    let (alice, bob) = pair(&mut world);
    send(&mut world, alice, "bob", 1);
    world.settle();
    let mut surely = 0;
    for millis in 1..=200 {
        world.publish(alice, &format!("chat/@bob/send/n{millis}"), b"x");
        world.run();
        world.sync();
        while world.acknowledge_all() {
            world.run();
        }
        if let Some(seq) = world.take_seqs(bob).last()
            && millis <= 165
        {
            surely = *seq;
        }
        world.advance(Duration::from_millis(1));
        world.sync();
    }
    assert!(surely > 100, "{surely}");
    world.crash(false);
    world.connect("bob", "phone");
    world.settle();
    let again = world.take_seqs(bob);
    assert!(again.iter().all(|seq| *seq > surely), "{again:?} again, {surely} was acknowledged");
}

#[test]
fn ticks_of_a_direct_chat_wait_a_tenth_of_a_second_for_others() {
    let mut world = World::new(1);
    let (alice, bob) = pair(&mut world);
    send(&mut world, alice, "bob", 1);
    world.run();
    world.sync();
    world.run();
    world.sync();
    world.acknowledge_all();
    assert_eq!(world.take_seqs(bob), [1]);
    for _ in 0..9 {
        world.advance(Duration::from_millis(10));
        world.sync();
    }
    assert_eq!(world.take_heard(alice, "receipt"), [""; 0]);
    for _ in 0..5 {
        world.advance(Duration::from_millis(10));
        world.sync();
    }
    assert_eq!(world.take_heard(alice, "receipt"), [r#"{"user":"bob","delivered":1,"read":0}"#]);
}

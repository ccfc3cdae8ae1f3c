//! How long content stays: timers, retention, and chats that are only in memory.

use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::Property;
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::World;

fn ask(world: &mut World, id: SessionId, chat: &str, range: &str) -> serde_json::Value {
    world.publish(id, &format!("chat/{chat}/history"), range.as_bytes());
    world.settle();
    world.take_answer(id, "history")
}

/// The texts of all there is of a chat.
fn texts(world: &mut World, id: SessionId, chat: &str) -> Vec<String> {
    let (mut texts, mut from) = (Vec::new(), 1);
    loop {
        let answer = ask(world, id, chat, &format!(r#"{{"from":{from},"limit":200}}"#));
        let entries = answer["entries"].as_array().unwrap().iter();
        let messages = entries.filter(|entry| entry["kind"].is_null());
        texts.extend(messages.map(|entry| entry["text"].as_str().unwrap().to_string()));
        from = answer["to"].as_u64().unwrap() + 1;
        if from > answer["last"].as_u64().unwrap() {
            return texts;
        }
    }
}

fn on_disk(world: &World, text: &str) -> bool {
    world.rows().values().any(|row| row.windows(text.len()).any(|part| part == text.as_bytes()))
}

fn pass(world: &mut World, seconds: u64) {
    world.advance(Duration::from_secs(seconds));
    world.settle();
    world.advance(Duration::from_secs(2));
    world.settle();
}

/// Alice has a device, and Bob none: what she sends is kept for him.
fn waiting(shards: u16) -> (World, SessionId) {
    let mut world = World::new(shards);
    let alice = world.device("alice", "laptop");
    world.settle();
    (world, alice)
}

#[test]
fn a_timer_is_an_entry_and_what_comes_then_goes_in_its_time() {
    let (mut world, alice) = waiting(3);
    world.publish(alice, "chat/@bob/send", b"before");
    let set = world.publish(alice, "chat/@bob/timer", br#"{"seconds":600}"#);
    let again = world.publish(alice, "chat/@bob/timer", br#"{"seconds":600}"#);
    world.settle();
    assert_eq!((world.seq(set), world.seq(again)), (Some(2), None));
    world.publish(alice, "chat/@bob/send", b"short lived");
    world.settle();
    world.publish(alice, "chat/@bob/timer", br#"{"seconds":0}"#);
    world.publish(alice, "chat/@bob/send", b"behind");
    world.settle();
    let answer = ask(&mut world, alice, "@bob", "");
    let entries = answer["entries"].as_array().unwrap();
    assert_eq!(entries[1]["text"], r#"{"action":"timer","seconds":600}"#);
    assert_eq!((&entries[1]["kind"], &entries[1]["expires"]), (&"system".into(), &().into()));
    let expires = entries[2]["expires"].as_u64().unwrap();
    assert_eq!(expires - entries[2]["time"].as_u64().unwrap(), 600_000);
    assert!(entries[4]["expires"].is_null());
    pass(&mut world, 580);
    assert!(on_disk(&world, "short lived"));
    pass(&mut world, 30);
    assert!(!on_disk(&world, "short lived"));
    assert_eq!(texts(&mut world, alice, "@bob"), ["before", "behind"]);
    // Bob comes now.
    let bob = world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(bob), [1, 2, 4, 5]);
}

#[test]
fn content_goes_while_nobody_is_there_and_over_a_restart() {
    for crash in [false, true] {
        let mut options = ChatOptions::default();
        options.chats_loaded_max = 1;
        let mut world = World::with(2, options, 0);
        let alice = world.device("alice", "laptop");
        world.settle();
        world.publish(alice, "chat/@bob/timer", br#"{"seconds":3600}"#);
        for at in 0..3 {
            world.publish(alice, "chat/@bob/send", format!("short lived {at}").as_bytes());
            world.settle();
            world.advance(Duration::from_secs(100));
        }
        for at in 0..8 {
            world.publish(alice, &format!("chat/@other{at}/send"), b"x");
            world.settle();
        }
        world.disconnect(alice, Disconnection::Clean);
        world.settle();
        if crash {
            world.crash(true);
            world.settle();
        }
        assert!(on_disk(&world, "short lived 0"));
        pass(&mut world, 3_330);
        assert!(!on_disk(&world, "short lived 0") && on_disk(&world, "short lived 2"));
        pass(&mut world, 400);
        assert!(!on_disk(&world, "short lived"));
        // Nothing is due any more, and no row says so.
        assert!(!world.rows().keys().any(|key| key[1] == 64 && key[2] == 3));
        let alice = world.connect("alice", "laptop");
        world.settle();
        assert_eq!(texts(&mut world, alice, "@bob"), [""; 0]);
    }
}

#[test]
fn what_has_expired_is_shown_to_nobody_even_before_it_has_gone() {
    let (mut world, alice) = waiting(1);
    world.publish(alice, "chat/@bob/timer", br#"{"seconds":640000}"#);
    world.publish(alice, "chat/@bob/send", b"one");
    world.settle();
    world.advance(Duration::from_secs(9_000));
    world.publish(alice, "chat/@bob/send", b"two");
    world.settle();
    world.advance(Duration::from_secs(640_000 - 9_000));
    world.settle();
    // The second is put off, so that the log is not walked over for each.
    world.advance(Duration::from_secs(9_001));
    world.settle();
    assert!(on_disk(&world, "two"));
    let bob = world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(bob), [1]);
    assert_eq!(texts(&mut world, bob, "@alice"), [""; 0]);
    pass(&mut world, 10_000);
    assert!(!on_disk(&world, "two"));
}

#[test]
fn entries_are_kept_for_days_or_for_ever_if_that_is_set() {
    let (mut world, alice) = waiting(2);
    let bob = world.device("bob", "phone");
    world.settle();
    let days = world.publish(alice, "chat/@bob/retention", br#"{"keep":"days:2"}"#);
    world.publish(alice, "chat/@bob/send", b"for two days");
    world.settle();
    assert_eq!(world.seq(days), Some(1));
    world.advance(Duration::from_secs(5));
    world.settle();
    // Delivered, and kept.
    assert_eq!(world.take_seqs(bob), [1, 2]);
    assert_eq!(texts(&mut world, bob, "@alice"), ["for two days"]);
    let info = ask(&mut world, bob, "@alice", "");
    assert_eq!(info["entries"][0]["text"], r#"{"action":"retention","keep":"days:2"}"#);
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    world.settle();
    pass(&mut world, 47 * 3_600);
    assert!(on_disk(&world, "for two days"));
    pass(&mut world, 3_601);
    assert!(!on_disk(&world, "for two days"));
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"forever"}"#);
    world.publish(alice, "chat/@bob/send", b"for ever");
    world.settle();
    world.disconnect(alice, Disconnection::Clean);
    for _ in 0..40 {
        pass(&mut world, 24 * 3_600);
    }
    let alice = world.connect("alice", "laptop");
    world.settle();
    assert_eq!(texts(&mut world, alice, "@bob"), ["for ever"]);
    // Days set later hold for what is there already.
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"days:1"}"#);
    world.settle();
    pass(&mut world, 2);
    assert!(!on_disk(&world, "for ever"));
}

#[test]
fn a_chat_in_memory_leaves_nothing_on_disk_and_gives_no_place_twice() {
    let (mut world, alice) = waiting(3);
    world.publish(alice, "chat/@bob/send", b"on disk");
    world.settle();
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"memory"}"#);
    world.settle();
    let before = world.stored_counts();
    let id = [Property::CorrelationData(b"m1")];
    let sent = world.publish_with(alice, "chat/@bob/send", b"in memory 1", &id);
    world.settle();
    let again = world.publish_with(alice, "chat/@bob/send", b"in memory 1", &id);
    world.publish(alice, "chat/@bob/send", b"in memory 2");
    world.publish(alice, "chat/@bob/edit/3", b"in memory 3");
    world.settle();
    assert_eq!((world.seq(sent), world.seq(again)), (Some(3), Some(3)));
    // One record for the places that are set aside, not one for each.
    assert_eq!(world.stored_counts().1 - before.1, 1);
    assert!(on_disk(&world, "on disk") && !on_disk(&world, "in memory"));
    let answer = ask(&mut world, alice, "@bob", r#"{"from":1}"#);
    assert_eq!((&answer["to"], &answer["last"]), (&2.into(), &5.into()));
    let answer = ask(&mut world, alice, "@bob", r#"{"from":3}"#);
    assert_eq!(answer["entries"].as_array().unwrap().len(), 3);
    let answer = ask(&mut world, alice, "@bob", "");
    assert_eq!((&answer["from"], &answer["to"]), (&3.into(), &5.into()));
    let bob = world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(bob), [1, 2, 3, 4, 5]);
    // Delivered it stays, and gone for all it is gone.
    world.publish(alice, "chat/@bob/delete/4", b"everyone");
    world.advance(Duration::from_secs(5));
    world.settle();
    assert_eq!(texts(&mut world, bob, "@alice"), ["in memory 1"]);
    world.take_heard(bob, "message");
    world.crash(true);
    let (alice, bob) = (world.connect("alice", "laptop"), world.connect("bob", "phone"));
    world.settle();
    assert_eq!(world.take_seqs(bob), [0; 0]);
    let next = world.publish(alice, "chat/@bob/send", b"after");
    world.settle();
    let place = world.seq(next).unwrap();
    assert!(place > 6, "{place}");
    assert_eq!(world.take_seqs(bob), [place]);
    let range = format!(r#"{{"from":3,"to":{place}}}"#);
    let answer = ask(&mut world, bob, "@alice", &range);
    assert_eq!(answer["gone"], serde_json::json!([[3, place - 1]]));
    world.publish(bob, "me/sync", b"");
    world.settle();
    // What was only in memory is not unread any more, what was delivered from the disk still is.
    assert_eq!(world.take_answer(bob, "sync")["chats"][0]["unread"], 2);
    // Back to the disk, and nothing is lost any more.
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"forever"}"#);
    let kept = world.publish(alice, "chat/@bob/send", b"kept");
    world.settle();
    assert_eq!(world.seq(kept), Some(place + 2));
    world.crash(true);
    let bob = world.connect("bob", "phone");
    world.settle();
    assert_eq!(texts(&mut world, bob, "@alice"), ["kept"]);
}

#[test]
fn a_timer_holds_in_memory_as_well() {
    let (mut world, alice) = waiting(1);
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"memory"}"#);
    world.publish(alice, "chat/@bob/timer", br#"{"seconds":60}"#);
    world.settle();
    world.publish(alice, "chat/@bob/send", b"short lived");
    world.settle();
    assert_eq!(texts(&mut world, alice, "@bob"), ["short lived"]);
    pass(&mut world, 70);
    assert_eq!(texts(&mut world, alice, "@bob"), [""; 0]);
    assert!(!world.rows().keys().any(|key| key[1] == 64 && key[2] == 3));
}

#[test]
fn in_a_group_admins_set_the_timer_and_the_retention() {
    let (mut world, alice) = waiting(3);
    let bob = world.device("bob", "phone");
    world.settle();
    world.publish(alice, "chat/climbing/create", br#"{"users":["bob","zoe"]}"#);
    world.settle();
    for (verb, payload) in [("timer", r#"{"seconds":60}"#), ("retention", r#"{"keep":"forever"}"#)]
    {
        let topic = format!("chat/climbing/{verb}");
        let refused = world.publish(bob, &topic, payload.as_bytes());
        let nonsense = world.publish(alice, &topic, b"{}");
        let done = world.publish(alice, &topic, payload.as_bytes());
        world.settle();
        assert_eq!(world.property(refused, "code").as_deref(), Some("forbidden"));
        assert_eq!(world.property(nonsense, "code").as_deref(), Some("format"));
        assert!(world.seq(done).is_some());
    }
    world.publish(bob, "chat/climbing/send", b"short lived");
    world.settle();
    assert_eq!(texts(&mut world, alice, "climbing"), ["short lived"]);
    pass(&mut world, 61);
    assert_eq!(texts(&mut world, alice, "climbing"), [""; 0]);
    assert!(!on_disk(&world, "short lived"));
}

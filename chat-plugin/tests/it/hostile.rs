//! What a Client says that means no good: numbers that are none, texts without end, and places that
//! are not its own.

use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{Property, QoS, Version};
use tidings_core::hook::SessionId;
use tidings_core::record::Row;

use crate::harness::World;

const LAST: u64 = u64::MAX;

fn code(world: &World, sent: u64) -> Option<String> {
    world.property(sent, "code")
}

/// Alice has written one message to Bob.
fn one(world: &mut World) -> (SessionId, SessionId) {
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    world.publish(alice, "chat/@bob/send/m1", b"hers");
    world.settle();
    assert_eq!(world.take_seqs(bob), [1]);
    (alice, bob)
}

#[test]
fn no_place_is_so_high_that_it_means_another() {
    let mut world = World::new(2);
    let (alice, bob) = one(&mut world);
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"forever"}"#);
    world.publish(alice, "chat/@bob/send/m2", b"hers");
    world.settle();
    assert_eq!(world.take_seqs(bob), [2, 3]);
    for (verb, payload) in [("delete", "everyone"), ("delete", "me"), ("edit", "x"), ("react", "x")]
    {
        let sent = world.publish(bob, &format!("chat/@alice/{verb}/{LAST}"), payload.as_bytes());
        world.settle();
        assert_eq!(code(&world, sent).as_deref(), Some("format"), "{verb} {payload}");
    }
    let reference = Property::UserProperty("ref", "18446744073709551615");
    let sent = world.publish_with(bob, "chat/@alice/send", b"as it is", &[reference]);
    world.settle();
    assert_eq!(code(&world, sent).as_deref(), Some("format"));
    assert_eq!(world.take_heard(alice, "message"), Vec::<String>::new());
    world.publish(bob, "chat/@alice/history", b"");
    world.settle();
    let answer = world.take_answer(bob, "history");
    assert_eq!((&answer["last"], &answer["entries"][1]["text"]), (&3.into(), &"hers".into()));
}

#[test]
fn what_is_wrong_is_told_in_few_words() {
    let mut world = World::new(1);
    let (alice, _) = one(&mut world);
    let long = "x".repeat(200_000);
    let payloads = [
        format!(r#"{{"{long}":1}}"#),
        format!(r#"{{"user":"bob","role":"{long}"}}"#),
        format!(r#"{{"keep":"{long}"}}"#),
        "[".repeat(200_000),
        format!(r#"{{"users":["{long}"]}}"#),
    ];
    for verb in ["create", "add", "role", "invite", "retention", "timer", "join"] {
        for payload in &payloads {
            let sent = world.publish(alice, &format!("chat/climbing/{verb}"), payload.as_bytes());
            world.settle();
            assert!(code(&world, sent).is_some(), "{verb}");
            for body in world.take_heard(alice, "error") {
                assert!(body.len() < 1_024, "{verb}: {} bytes", body.len());
            }
        }
    }
}

#[test]
fn a_chat_in_memory_is_never_full() {
    let mut options = ChatOptions::default();
    options.requests = false;
    options.chat_entries_max = 5;
    let mut world = World::with(1, options, 0);
    let (alice, bob) = one(&mut world);
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"memory"}"#);
    for number in 0..20 {
        let sent = world.publish(alice, "chat/@bob/send", format!("{number}").as_bytes());
        world.settle();
        assert!(world.seq(sent).is_some(), "{number}: {:?}", code(&world, sent));
    }
    assert_eq!(world.take_seqs(bob).last(), Some(&22));
}

#[test]
fn many_chats_in_memory_hold_no_more_than_they_may() {
    let mut options = ChatOptions::default();
    options.requests = false;
    options.memory_bytes_max = 64 * 1024;
    let mut world = World::with(1, options, 0);
    let alice = world.device("alice", "laptop");
    world.settle();
    let say = |world: &mut World, chat: usize| {
        let sent = world.publish(alice, &format!("chat/@u{chat}/send"), &[b'x'; 4_000]);
        world.settle();
        (world.seq(sent).is_some(), code(world, sent))
    };
    let kept = |world: &mut World, chat: usize| {
        let topic = format!("chat/@u{chat}/history");
        world.publish(alice, &topic, br#"{"limit":200}"#);
        world.settle();
        let answer = world.take_answer(alice, "history");
        answer["entries"].as_array().unwrap().len()
    };
    for chat in 0..12 {
        world.publish(alice, &format!("chat/@u{chat}/send"), b"x");
        world.settle();
        world.publish(alice, &format!("chat/@u{chat}/retention"), br#"{"keep":"memory"}"#);
        world.settle();
    }
    for number in 0..12 {
        assert_eq!(say(&mut world, 0), (true, None), "{number}");
    }
    // Alone it may have as much as it likes; with others that come it keeps its newest.
    assert_eq!(kept(&mut world, 0), 12);
    let mut refused = 0;
    for chat in 0..12 {
        for _ in 0..6 {
            let (stored, code) = say(&mut world, chat);
            refused += usize::from(!stored);
            assert_eq!(code.as_deref().unwrap_or("limit"), "limit");
        }
    }
    assert!((10..60).contains(&refused), "{refused} of 72");
    assert!((2..7).contains(&kept(&mut world, 0)));
    // What is on disk is another matter.
    world.publish(alice, "chat/@u0/retention", br#"{"keep":"forever"}"#);
    world.settle();
    assert_eq!(say(&mut world, 0), (true, None));
}

#[test]
fn what_is_about_an_entry_begins_no_chat() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let eve = world.device("eve", "laptop");
    world.settle();
    let before = world.rows().len();
    for (verb, payload) in [
        ("react/1", &b"x"[..]),
        ("edit/1", b"x"),
        ("delete/1", b"everyone"),
        ("delete/1", b"me"),
        ("end", b""),
    ] {
        let sent = world.publish(eve, &format!("chat/@bob/{verb}"), payload);
        world.settle();
        assert_eq!(code(&world, sent).as_deref(), Some("unknown_chat"), "{verb}");
    }
    assert_eq!(world.rows().len(), before);
    world.publish(bob, "me/sync", b"{}");
    world.settle();
    assert_eq!(world.take_answer(bob, "sync")["chats"], serde_json::json!([]));
    // A message and what is about it may come in one breath.
    world.publish(eve, "chat/@bob/send/m1", b"hello");
    let about = world.publish(eve, "chat/@bob/react/1", b"x");
    world.settle();
    assert_eq!(world.seq(about), Some(2));
}

#[test]
fn personal_answers_are_of_no_group() {
    let mut world = World::new(1);
    let eve = world.device("eve", "laptop");
    world.settle();
    let sent = world.publish(eve, "chat/-/create", br#"{"users":["bob"]}"#);
    world.settle();
    assert_eq!(code(&world, sent).as_deref(), Some("format"));
}

/// Eve was removed from a group in which she has a device that never acknowledges.
fn removed(world: &mut World) -> (SessionId, SessionId) {
    let alice = world.device("alice", "laptop");
    let eve = world.device("eve", "phone");
    world.session(eve).acknowledges = false;
    world.settle();
    world.publish(alice, "chat/climbing/create", br#"{"users":["eve"]}"#);
    world.publish(alice, "chat/climbing/send", b"hello");
    world.settle();
    world.publish(alice, "chat/climbing/remove", br#"{"user":"eve"}"#);
    world.settle();
    (alice, eve)
}

#[test]
fn who_was_removed_does_not_learn_when_the_group_was_last_busy() {
    let mut world = World::new(2);
    let (alice, eve) = removed(&mut world);
    let sync = |world: &mut World| {
        world.publish(eve, "me/sync", b"");
        world.settle();
        world.session(eve).window = 1_000;
        let heard = world.take_heard(eve, "sync");
        serde_json::from_str::<serde_json::Value>(heard.last().unwrap()).unwrap()["chats"].clone()
    };
    let before = sync(&mut world);
    world.advance(Duration::from_secs(100));
    world.publish(alice, "chat/climbing/send", b"secret");
    world.settle();
    assert_eq!(sync(&mut world), before);
}

#[test]
fn who_was_removed_does_not_see_who_is_there() {
    for again in [false, true] {
        let mut options = ChatOptions::default();
        options.requests = true;
        let mut world = World::with(2, options, 0);
        let (_, mut eve) = removed(&mut world);
        for (key, value) in world.rows() {
            tidings_chat::verify(&Row { key, value }).unwrap();
        }
        if again {
            world.crash(true);
            world.device("alice", "laptop");
            eve = world.connect_as("eve", "other", Version::V5, false);
        }
        world.subscribe(eve, "presence/alice", QoS::AtLeastOnce);
        world.settle();
        let heard = world.take_heard(eve, "presence/alice");
        assert!(!heard.is_empty());
        assert!(heard.iter().all(|body| body.contains("offline")), "{again} {heard:?}");
    }
}

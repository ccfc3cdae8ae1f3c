//! `me/sync`: every chat, the most recent first, with cursors and what is unread.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_chat::ChatOptions;
use tidings_core::codec::{QoS, ReasonCode};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::World;

fn ask(world: &mut World, id: SessionId, what: &Value) -> Value {
    let asked = world.publish(id, "me/sync", what.to_string().as_bytes());
    world.settle();
    assert_eq!(world.answer(asked), Some(ReasonCode::Success), "{what}");
    world.take_answer(id, "sync")
}

fn names(answer: &Value) -> Vec<String> {
    let chats = answer["chats"].as_array().unwrap();
    chats.iter().map(|chat| chat["chat"].as_str().unwrap().to_string()).collect()
}

fn send(world: &mut World, from: SessionId, to: &str, count: usize) {
    for _ in 0..count {
        world.publish(from, &format!("chat/@{to}/send"), b"hello");
        world.settle();
    }
}

/// What of a chat is unread for the user of a session.
fn unread(world: &mut World, id: SessionId, chat: &str) -> u64 {
    let answer = ask(world, id, &json!({}));
    let chats = answer["chats"].as_array().unwrap();
    let of = chats.iter().find(|of| of["chat"] == chat).unwrap();
    of["unread"].as_u64().unwrap()
}

#[test]
fn a_page_holds_the_most_recent_chats_with_cursors_and_what_is_unread() {
    let mut world = World::new(4);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    send(&mut world, alice, "carol", 1);
    send(&mut world, alice, "bob", 2);
    send(&mut world, bob, "alice", 3);
    world.publish(bob, "chat/@alice/read", b"1");
    world.publish(alice, "chat/@bob/read", b"3");
    world.settle();
    let answer = ask(&mut world, alice, &json!({"request": "s"}));
    assert_eq!(names(&answer), ["@bob", "@carol"]);
    assert_eq!((&answer["request"], answer.get("next")), (&json!("s"), None));
    let first = &answer["chats"][0];
    assert_eq!(
        (&first["last"], &first["read"], &first["unread"]),
        (&json!(5), &json!(3), &json!(2))
    );
    assert_eq!(first["others"], json!([{"user": "bob", "delivered": 5, "read": 1}]));
    assert!(first["time"].as_u64().unwrap() > 1_700_000_000_000);
    // Carol has no device, and was not told of anybody: she wrote nothing.
    let carol = world.connect("carol", "phone");
    world.subscribe(carol, "me/json/+/sync", QoS::AtLeastOnce);
    let answer = ask(&mut world, carol, &json!({}));
    assert_eq!(names(&answer), ["@alice"]);
    let chat = &answer["chats"][0];
    assert_eq!((&chat["unread"], chat.get("others")), (&json!(1), None));
}

#[test]
fn pages_follow_each_other_whether_lanes_know_the_order_or_not() {
    let mut world = World::new(3);
    let alice = world.device("alice", "laptop");
    let script = world.connect("alice", "script");
    world.subscribe(script, "me/json/+/sync", QoS::AtLeastOnce);
    world.settle();
    for peer in 0..25 {
        send(&mut world, alice, &format!("peer{peer}"), 1);
        world.advance(Duration::from_millis(5));
    }
    // An old one is the newest again.
    send(&mut world, alice, "peer3", 1);
    let mut expected: Vec<String> = (0..25).rev().map(|peer| format!("@peer{peer}")).collect();
    expected.retain(|name| name != "@peer3");
    expected.insert(0, "@peer3".into());
    for id in [alice, script] {
        let mut what = json!({"limit": 10});
        let mut found = Vec::new();
        loop {
            let answer = ask(&mut world, id, &what);
            found.extend(names(&answer));
            let Some(next) = answer.get("next") else { break };
            what["after"] = next.clone();
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn what_is_unread_is_right_although_the_entries_are_gone() {
    let mut options = ChatOptions::default();
    options.chats_loaded_max = 1;
    let mut world = World::with(2, options, 0);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    // All of it is delivered, so nothing is in the log any more.
    for _ in 0..10 {
        send(&mut world, alice, "bob", 2);
        send(&mut world, bob, "alice", 1);
    }
    assert_eq!((unread(&mut world, bob, "@alice"), unread(&mut world, alice, "@bob")), (20, 10));
    world.publish(bob, "chat/@alice/read", b"15");
    world.settle();
    assert_eq!(unread(&mut world, bob, "@alice"), 10);
    // What the chat remembers of them survives being unloaded, and a crash.
    for peer in 0..10 {
        send(&mut world, alice, &format!("peer{peer}"), 1);
    }
    assert_eq!(unread(&mut world, bob, "@alice"), 10);
    world.crash(true);
    let (bob, alice) = (world.connect("bob", "phone"), world.connect("alice", "laptop"));
    world.settle();
    assert_eq!((unread(&mut world, bob, "@alice"), unread(&mut world, alice, "@bob")), (10, 10));
    send(&mut world, bob, "alice", 3);
    assert_eq!((unread(&mut world, bob, "@alice"), unread(&mut world, alice, "@bob")), (10, 13));
    world.publish(bob, "chat/@alice/read", b"99");
    world.publish(alice, "chat/@bob/read", b"99");
    world.settle();
    assert_eq!((unread(&mut world, bob, "@alice"), unread(&mut world, alice, "@bob")), (0, 0));
}

#[test]
fn a_question_too_many_is_refused_and_one_of_who_leaves_forgotten() {
    let mut world = World::new(1);
    let alice = world.device("alice", "laptop");
    send(&mut world, alice, "bob", 1);
    let asked: Vec<u64> = (0..6).map(|_| world.publish(alice, "me/sync", b"")).collect();
    world.settle();
    let answers: Vec<_> = asked.iter().map(|asked| world.answer(*asked).unwrap()).collect();
    assert!(answers.contains(&ReasonCode::Success));
    for bad in [&b"{\"after\":\"x\"}"[..], b"{\"limit\":0}", b"7"] {
        let asked = world.publish(alice, "me/sync", bad);
        world.settle();
        assert_eq!(world.property(asked, "code").as_deref(), Some("format"));
    }
    world.publish(alice, "me/sync", b"");
    world.disconnect(alice, Disconnection::Abrupt);
    world.settle();
    world.connect("alice", "laptop");
    world.take_heard(alice, "sync");
    assert_eq!(names(&ask(&mut world, alice, &json!({}))), ["@bob"]);
}

#[test]
fn what_changes_a_group_is_never_unread() {
    let mut world = World::new(3);
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    let carol = world.device("carol", "phone");
    world.settle();
    let command = |world: &mut World, id: SessionId, verb: &str, payload: &str| {
        world.publish(id, &format!("chat/climbing/{verb}"), payload.as_bytes());
        world.settle();
    };
    command(&mut world, alice, "create", "{}");
    command(&mut world, alice, "add", r#"{"users":["bob"]}"#);
    command(&mut world, alice, "send", "one");
    command(&mut world, bob, "send", "two");
    command(&mut world, alice, "title", r#"{"title":"Climbing"}"#);
    command(&mut world, alice, "add", r#"{"users":["carol"]}"#);
    command(&mut world, alice, "send", "three");
    // Alice has bob's one, bob two of hers, carol what came after her.
    for _ in 0..2 {
        for (id, unread_) in [(alice, 1), (bob, 2), (carol, 1)] {
            assert_eq!(unread(&mut world, id, "climbing"), unread_);
        }
        world.crash(true);
        for (user, client_id) in [("alice", "laptop"), ("bob", "phone"), ("carol", "phone")] {
            world.connect(user, client_id);
        }
        world.settle();
    }
    command(&mut world, bob, "read", "7");
    assert_eq!(unread(&mut world, bob, "climbing"), 0);
    let answer = ask(&mut world, alice, &json!({}));
    let others = answer["chats"][0]["others"].as_array().unwrap();
    let of_bob = others.iter().find(|other| other["user"] == "bob").unwrap();
    assert_eq!((&of_bob["delivered"], &of_bob["read"]), (&json!(7), &json!(7)));
}

#[test]
fn what_is_unread_is_right_after_a_crash_whatever_memory_holds_of_it() {
    for count in [1, 63, 64, 65, 75, 128, 129, 200, 300, 700] {
        let mut world = World::new(2);
        let alice = world.device("alice", "laptop");
        // One that is away, so that all of it is kept.
        let phone = world.device("alice", "phone");
        world.settle();
        world.disconnect(phone, Disconnection::Clean);
        for at in 0..count {
            world.publish(alice, "chat/@alice/send", b"note");
            // Half of them are Alice's own.
            world.publish(alice, "chat/@bob/send", b"hello");
            if at % 50 == 49 {
                world.settle();
            }
        }
        let bob = world.connect("bob", "tool");
        for _ in 0..count {
            world.publish(bob, "chat/@alice/send", b"hello");
        }
        world.settle();
        world.crash(true);
        let (alice, bob) = (world.device("alice", "laptop"), world.device("bob", "tool"));
        world.settle();
        for (id, chat, expected) in
            [(alice, "@alice", 0), (alice, "@bob", count), (bob, "@alice", count)]
        {
            assert_eq!(unread(&mut world, id, chat), expected, "{chat} of {count}");
        }
    }
}

#[test]
fn what_was_in_memory_only_takes_nothing_from_what_is_unread() {
    let mut world = World::new(2);
    let alice = world.device("alice", "laptop");
    send(&mut world, alice, "bob", 3);
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"memory"}"#);
    world.settle();
    send(&mut world, alice, "bob", 3);
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"forever"}"#);
    world.settle();
    send(&mut world, alice, "bob", 70);
    world.crash(true);
    let (alice, bob) = (world.device("alice", "laptop"), world.device("bob", "phone"));
    world.settle();
    assert_eq!((unread(&mut world, alice, "@bob"), unread(&mut world, bob, "@alice")), (0, 73));
}

//! What devices leave with the server: where they are woken, and their public keys.

use serde_json::{Value, json};
use tidings_core::codec::{Property, QoS, Version};
use tidings_core::hook::SessionId;

use crate::harness::World;

fn say(world: &mut World, from: SessionId, topic: &str, payload: &str) -> Option<String> {
    let command = world.publish(from, topic, payload.as_bytes());
    world.settle();
    world.property(command, "code")
}

fn keys_of(world: &mut World, by: SessionId, user: &str) -> Value {
    assert_eq!(say(world, by, "me/keys", &json!({ "of": user }).to_string()), None);
    world.take_answer(by, "keys")["devices"].take()
}

#[test]
fn public_keys_are_for_all_but_the_blocked_and_go_with_the_device() {
    let mut world = World::new(3);
    let [phone, tablet] = ["phone", "tablet"].map(|device| world.device("bob", device));
    let alice = world.device("alice", "laptop");
    assert_eq!(keys_of(&mut world, alice, "bob"), json!([]));
    for (session, keys) in [(phone, "K1"), (tablet, "K2"), (phone, "K3")] {
        let set = json!({ "set": keys }).to_string();
        assert_eq!(say(&mut world, session, "me/keys", &set), None);
    }
    let both = json!([{"device": "phone", "keys": "K3"}, {"device": "tablet", "keys": "K2"}]);
    assert_eq!(keys_of(&mut world, alice, "bob"), both);
    // One's own, and over a crash.
    world.crash(true);
    let phone = world.connect("bob", "phone");
    let alice = world.connect("alice", "laptop");
    world.settle();
    assert_eq!(say(&mut world, phone, "me/keys", ""), None);
    let own = world.take_answer(phone, "keys");
    assert_eq!((&own["user"], &own["devices"]), (&json!("bob"), &both));
    assert_eq!(say(&mut world, phone, "me/devices", r#"{"logout":"tablet"}"#), None);
    let set = r#"{"set":""}"#;
    let left = json!([{"device": "phone", "keys": "K3"}]);
    assert_eq!(keys_of(&mut world, alice, "bob"), left);
    assert_eq!(say(&mut world, phone, "me/block", r#"{"block":["alice"]}"#), None);
    assert_eq!(keys_of(&mut world, alice, "bob"), json!([]));
    assert_eq!(say(&mut world, phone, "me/block", r#"{"unblock":["alice"]}"#), None);
    assert_eq!(keys_of(&mut world, alice, "bob"), left);
    assert_eq!(say(&mut world, phone, "me/keys", set), None);
    assert_eq!(keys_of(&mut world, alice, "bob"), json!([]));
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    world.settle();
    assert_eq!(keys_of(&mut world, alice, "bob"), json!([]));
}

#[test]
fn where_a_device_is_woken_is_for_the_program_and_its_own() {
    let mut world = World::new(3);
    let bob = world.device("bob", "phone");
    assert_eq!(say(&mut world, bob, "me/push", "{}"), None);
    assert_eq!(world.take_answer(bob, "push"), json!({ "push": null }));
    assert_eq!(say(&mut world, bob, "me/push", r#"{"set":"fcm:7"}"#), None);
    assert_eq!(say(&mut world, bob, "me/push", r#"{"request":3}"#), None);
    assert_eq!(world.take_answer(bob, "push"), json!({ "push": "fcm:7", "request": 3 }));
    // A tablet of his is none of its business, and nobody else hears of it.
    let tablet = world.device("bob", "tablet");
    assert_eq!(say(&mut world, tablet, "me/push", ""), None);
    assert_eq!(world.take_answer(tablet, "push"), json!({ "push": null }));
    assert_eq!(keys_of(&mut world, tablet, "bob"), json!([]));
    world.crash(true);
    let chat = world.handle_of_chat();
    let targets = world.call(chat.push_targets("bob")).unwrap();
    let targets: Vec<_> = targets.iter().map(|it| (&*it.device, &*it.to)).collect();
    assert_eq!(targets, [("phone", "fcm:7")]);
    assert!(world.call(chat.push_targets("nobody")).unwrap().is_empty());
    assert!(world.call(chat.push_targets("no body")).is_err());
}

#[test]
fn what_cannot_be_kept_or_understood_is_refused() {
    let mut world = World::new(2);
    let alice = world.device("alice", "laptop");
    let passing = world.connect_as("alice", "tab", Version::V5, false);
    world.subscribe(passing, "me/json/#", QoS::AtLeastOnce);
    for topic in ["me/push", "me/keys"] {
        let code = say(&mut world, passing, topic, r#"{"set":"x"}"#);
        assert_eq!(code.as_deref(), Some("forbidden"), "{topic}");
        let long = json!({ "set": "x".repeat(4_096) }).to_string();
        for bad in ["7", r#"{"sett":"x"}"#, &long] {
            let code = say(&mut world, alice, topic, bad);
            assert_eq!(code.as_deref(), Some("format"), "{topic} {bad:.20}");
        }
    }
    for bad in [r#"{"of":"bob","set":"x"}"#, r#"{"of":"no body"}"#] {
        assert_eq!(say(&mut world, alice, "me/keys", bad).as_deref(), Some("format"), "{bad}");
    }
    let to = [Property::ResponseTopic("answers/alice"), Property::CorrelationData(b"7")];
    world.subscribe_plain(alice, "answers/alice");
    world.publish_with(alice, "me/keys", b"", &to);
    world.settle();
    assert_eq!(world.session(alice).heard.pop().unwrap().topic, "answers/alice");
}

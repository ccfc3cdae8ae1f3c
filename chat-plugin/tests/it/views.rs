//! The compact view, batches, and coming back to many chats.

use serde_json::json;
use tidings_core::codec::{Property, QoS, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{World, number, text};

fn compact(world: &mut World, user: &str, client_id: &str) -> SessionId {
    let id = world.connect(user, client_id);
    world.subscribe(id, "me/cbor/#", QoS::AtLeastOnce);
    id
}

fn takes_batches(world: &mut World, id: SessionId) {
    let said = world.publish(id, "me/state", br#"{"batch":true}"#);
    world.settle();
    assert_eq!(world.answer(said), Some(ReasonCode::Success));
}

/// The places in the batches a client heard.
fn batches(world: &mut World, id: SessionId) -> Vec<Vec<u64>> {
    let seqs = |body: &String| {
        let entries: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
        entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
    };
    world.take_heard(id, "batch").iter().map(seqs).collect()
}

#[test]
fn an_entry_in_the_compact_view_has_numbers_for_keys_and_its_payload_as_it_is() {
    let mut world = World::new(2);
    let bob = compact(&mut world, "bob", "phone");
    let alice = world.connect("alice", "laptop");
    world.settle();
    world.publish(alice, "chat/@bob/send/m1", &[0xff, 0x00]);
    world.settle();
    let heard = world.session(bob).heard.remove(0);
    assert_eq!(heard.topic, "me/cbor/@alice/message");
    // Golden: Clients of this view are on people's phones. The time is eight bytes.
    let begin = b"\xa5\x00\x01\x01\x65alice\x02\x1b";
    assert_eq!(&heard.bytes[..begin.len()], begin);
    assert_eq!(&heard.bytes[begin.len() + 8..], b"\x03\x62m1\x04\x42\xff\x00");
    // Everything else it hears comes in this view as well.
    world.publish(bob, "chat/@alice/send/b1", b"hi");
    world.settle();
    world.publish(alice, "chat/@bob/read", b"2");
    world.publish(bob, "chat/@alice/sned", b"");
    world.publish(bob, "chat/@alice/history", b"{\"request\":\"r\"}");
    world.publish(bob, "me/sync", b"");
    world.settle();
    assert!(world.session(bob).heard.iter().all(|heard| heard.topic.starts_with("me/cbor/")));
    assert_eq!(number(&world.take_heard(bob, "receipt")[0], "read"), Some(2));
    assert_eq!(text(&world.take_heard(bob, "error")[0], "code").as_deref(), Some("format"));
    let history = world.take_answer(bob, "history");
    assert_eq!((&history["last"], &history["request"]), (&json!(2), &json!("r")));
    assert_eq!(world.take_answer(bob, "sync")["chats"][0]["unread"], 1);
}

#[test]
fn each_device_has_its_own_view_and_one_of_both_has_json() {
    let mut world = World::new(2);
    let phone = compact(&mut world, "bob", "phone");
    let laptop = world.device("bob", "laptop");
    let both = compact(&mut world, "bob", "tablet");
    world.subscribe(both, "me/json/#", QoS::AtLeastOnce);
    let alice = world.connect("alice", "laptop");
    world.settle();
    world.publish(alice, "chat/@bob/send/m1", b"hello");
    world.settle();
    for (id, topic) in [
        (phone, "me/cbor/@alice/message"),
        (laptop, "me/json/@alice/message"),
        (both, "me/json/@alice/message"),
    ] {
        let heard: Vec<_> = world.session(id).heard.drain(..).map(|heard| heard.topic).collect();
        assert_eq!(heard, [topic]);
    }
    // Who comes back hears what it missed in its view, without subscribing again.
    world.disconnect(phone, Disconnection::Clean);
    world.publish(alice, "chat/@bob/send/m2", b"again");
    world.settle();
    world.connect("bob", "phone");
    world.settle();
    let heard = world.session(phone).heard.remove(0);
    assert_eq!(heard.topic, "me/cbor/@alice/message");
    assert_eq!(
        (number(&heard.body, "seq"), text(&heard.body, "text").unwrap()),
        (Some(2), "again".into())
    );
}

#[test]
fn a_device_that_asked_catches_up_in_batches_with_one_acknowledgement_each() {
    let mut world = World::new(3);
    let bob = world.device("bob", "phone");
    takes_batches(&mut world, bob);
    let alice = world.device("alice", "laptop");
    world.disconnect(bob, Disconnection::Clean);
    for number in 1..=100 {
        world.publish(alice, &format!("chat/@bob/send/m{number}"), b"hello");
    }
    world.settle();
    world.session(bob).acknowledges = false;
    // A crash in between: what a device said is kept with its session.
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    world.connect("bob", "phone");
    for _ in 0..4 {
        world.run();
        world.sync();
    }
    let heard = batches(&mut world, bob);
    assert_eq!(heard.concat(), (1..=100).collect::<Vec<_>>());
    assert_eq!(heard.len(), 2);
    assert_eq!(world.take_heard(bob, "message"), [""; 0]);
    // One acknowledgement is for all of them.
    assert!(world.acknowledge(bob, ReasonCode::Success));
    world.settle();
    let ticks = world.take_heard(alice, "receipt");
    assert_eq!(number(ticks.last().unwrap(), "delivered"), Some(64));
    world.session(bob).acknowledges = true;
    world.settle();
    let ticks = world.take_heard(alice, "receipt");
    assert_eq!(number(ticks.last().unwrap(), "delivered"), Some(100));
    // What is new comes one by one.
    world.publish(alice, "chat/@bob/send/m101", b"hello");
    world.settle();
    assert_eq!(world.take_seqs(bob), [101]);
}

#[test]
fn a_device_can_ask_for_batches_when_it_connects() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let alice = world.connect("alice", "laptop");
    for asks in [true, false] {
        world.disconnect(bob, Disconnection::Clean);
        for _ in 0..3 {
            world.publish(alice, "chat/@bob/send", b"hello");
        }
        world.settle();
        world.session(bob).batch = asks;
        world.connect("bob", "phone");
        world.settle();
        assert_eq!(batches(&mut world, bob).concat().len(), if asks { 3 } else { 0 });
        assert_eq!(world.take_seqs(bob).len(), if asks { 0 } else { 3 });
    }
}

#[test]
fn a_batch_that_was_not_acknowledged_comes_again_once_and_a_refused_one_is_told() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    takes_batches(&mut world, bob);
    let alice = world.device("alice", "laptop");
    world.disconnect(bob, Disconnection::Clean);
    for number in 1..=5 {
        world.publish(alice, &format!("chat/@bob/send/m{number}"), b"hello");
    }
    world.settle();
    world.session(bob).acknowledges = false;
    world.connect("bob", "phone");
    world.settle();
    assert_eq!(batches(&mut world, bob), [[1, 2, 3, 4, 5]]);
    world.disconnect(bob, Disconnection::Abrupt);
    world.publish(alice, "chat/@bob/send/m6", b"hello");
    world.settle();
    world.connect("bob", "phone");
    world.settle();
    assert_eq!(batches(&mut world, bob), [[1, 2, 3, 4, 5]], "sent again by the session");
    assert_eq!(world.take_seqs(bob), [6]);
    world.take_heard(alice, "receipt");
    world.acknowledge(bob, ReasonCode::UnspecifiedError);
    world.acknowledge(bob, ReasonCode::Success);
    world.settle();
    let ticks = world.take_heard(alice, "receipt");
    assert!(ticks.last().unwrap().contains("\"failed\":[1,2,3,4,5]"), "{ticks:?}");
}

#[test]
fn a_device_that_hears_no_batches_gets_single_entries() {
    let mut world = World::new(1);
    let bob = world.connect("bob", "phone");
    world.subscribe(bob, "me/json/+/message", QoS::AtLeastOnce);
    takes_batches(&mut world, bob);
    let alice = world.connect("alice", "laptop");
    world.disconnect(bob, Disconnection::Clean);
    for number in 1..=5 {
        world.publish(alice, &format!("chat/@bob/send/m{number}"), b"hello");
    }
    world.settle();
    world.connect("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(bob), [1, 2, 3, 4, 5]);
    let refused = world.publish(bob, "me/state", b"{}");
    world.settle();
    assert_eq!(world.property(refused, "code").as_deref(), Some("format"));
}

#[test]
fn a_session_that_begins_anew_has_to_ask_again() {
    let mut world = World::new(1);
    let bob = world.device("bob", "phone");
    takes_batches(&mut world, bob);
    let rows = world.rows().len();
    world.end_session(bob);
    world.settle();
    assert!(world.rows().len() < rows);
    let alice = world.connect("alice", "laptop");
    let bob = world.device("bob", "phone");
    world.settle();
    world.disconnect(bob, Disconnection::Clean);
    for number in 1..=3 {
        world.publish(alice, &format!("chat/@bob/send/m{number}"), b"hello");
    }
    world.settle();
    world.connect("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(bob), [1, 2, 3]);
}

#[test]
fn who_comes_back_to_many_chats_hears_the_most_recent_first() {
    let mut world = World::new(4);
    let bob = world.device("bob", "phone");
    takes_batches(&mut world, bob);
    world.disconnect(bob, Disconnection::Clean);
    for peer in 0..300 {
        let from = world.connect(&format!("peer{peer}"), "laptop");
        for _ in 0..3 {
            world.publish(from, "chat/@bob/send", b"hello");
        }
        world.run();
        world.sync();
        world.sync();
        world.advance(std::time::Duration::from_millis(1));
        world.sync();
    }
    world.settle();
    world.connect("bob", "phone");
    world.settle();
    let heard = std::mem::take(&mut world.session(bob).heard);
    let topics: Vec<String> = heard.into_iter().map(|heard| heard.topic).collect();
    let expected: Vec<String> =
        (0..300).rev().map(|peer| format!("me/json/@peer{peer}/batch")).collect();
    assert_eq!(topics, expected);
}

#[test]
fn all_that_a_group_says_is_heard_in_the_compact_view_too() {
    let mut world = World::new(2);
    let alice = compact(&mut world, "alice", "phone");
    let bob = compact(&mut world, "bob", "phone");
    world.settle();
    for (id, verb, payload) in [
        (alice, "create", "{}"),
        (alice, "add", r#"{"users":["bob"]}"#),
        (alice, "send", "hello"),
        (bob, "send", "hi"),
        (bob, "typing", "typing"),
        (alice, "info", "{}"),
        (alice, "remove", r#"{"users":["bob"]}"#),
    ] {
        world.publish(id, &format!("chat/climbing/{verb}"), payload.as_bytes());
        world.settle();
    }
    for id in [alice, bob] {
        let topics: Vec<&str> = world.session(id).heard.iter().map(|it| &*it.topic).collect();
        assert!(topics.iter().all(|topic| topic.starts_with("me/cbor/climbing/")), "{topics:?}");
    }
    assert_eq!(world.take_answer(alice, "info")["members"].as_array().unwrap().len(), 2);
    assert_eq!(world.take_heard(bob, "ended").len(), 1);
    let heard = world.take_heard(bob, "message");
    assert_eq!(text(&heard[0], "kind").as_deref(), Some("system"));
}

#[test]
fn each_kind_comes_with_its_qos() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    takes_batches(&mut world, bob);
    let old = world.connect_as("bob", "old", Version::V311, true);
    world.subscribe(old, "me/json/#", QoS::AtLeastOnce);
    let alice = world.device("alice", "laptop");
    world.subscribe(alice, "presence/bob", QoS::AtLeastOnce);
    world.settle();
    for (id, topic, payload) in [
        (old, "chat/@alice/send/m0", "hello"),
        (alice, "chat/@bob/send/m1", "hello"),
        (bob, "chat/@alice/read", "2"),
        (bob, "chat/@alice/typing", "typing"),
        (alice, "chat/@bob/sned", ""),
        (alice, "chat/@bob/history", ""),
        (alice, "chat/@bob/info", ""),
        (alice, "me/sync", ""),
        (alice, "chat/climbing/create", r#"{"users":["bob"]}"#),
        (alice, "chat/climbing/invite", "{}"),
        (alice, "chat/climbing/remove", r#"{"users":["bob"]}"#),
    ] {
        world.publish(id, topic, payload.as_bytes());
        world.settle();
    }
    world.disconnect(bob, Disconnection::Clean);
    world.publish(alice, "chat/@bob/send/m2", b"again");
    world.publish(alice, "chat/@bob/send/m3", b"again");
    world.settle();
    world.connect("bob", "phone");
    world.settle();
    let mut kinds = std::collections::BTreeMap::new();
    for id in [alice, bob, old] {
        for heard in &world.session(id).heard {
            let kind = match heard.topic.strip_prefix("presence/") {
                Some(_) => "presence",
                None => heard.topic.rsplit('/').next().unwrap(),
            };
            let before = kinds.insert(kind.to_owned(), heard.qos);
            assert!(before.is_none_or(|qos| qos == heard.qos), "{}", heard.topic);
        }
    }
    let of = |qos: QoS| -> Vec<&str> {
        let found = kinds.iter().filter(|(_, it)| **it == qos);
        found.map(|(kind, _)| &**kind).collect()
    };
    assert_eq!(of(QoS::AtMostOnce), ["presence", "receipt", "typing"]);
    assert_eq!(
        of(QoS::AtLeastOnce),
        ["ack", "batch", "ended", "error", "history", "info", "invite", "message", "sync"]
    );
}

#[test]
fn every_question_may_say_where_it_is_answered() {
    let mut world = World::new(2);
    let alice = world.device("alice", "laptop");
    world.subscribe_plain(alice, "answers/alice");
    world.publish(alice, "chat/@bob/send", b"hello");
    world.publish(alice, "chat/climbing/create", b"{}");
    world.settle();
    for topic in [
        "chat/@bob/history",
        "chat/@bob/info",
        "chat/climbing/info",
        "chat/climbing/invite",
        "me/sync",
        "me/block",
        "me/privacy",
        "me/devices",
        "me/push",
        "me/keys",
    ] {
        let to = [Property::ResponseTopic("answers/alice"), Property::CorrelationData(b"7")];
        world.session(alice).heard.clear();
        world.publish_with(alice, topic, b"{}", &to);
        world.settle();
        let heard = world.session(alice).heard.pop().unwrap();
        assert_eq!((&*heard.topic, heard.qos), ("answers/alice", QoS::AtLeastOnce), "{topic}");
        assert_eq!(heard.correlation.as_deref(), Some(&b"7"[..]), "{topic}");
        // Who cannot say so has a word that comes back.
        world.publish(alice, topic, br#"{"request":"r7"}"#);
        world.settle();
        let heard = world.session(alice).heard.pop().unwrap();
        let kind = topic.rsplit('/').next().unwrap();
        assert!(heard.topic.ends_with(kind), "{}", heard.topic);
        assert_eq!(text(&heard.body, "request").as_deref(), Some("r7"), "{topic}");
    }
}

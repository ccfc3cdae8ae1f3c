//! History: every range is answered completely, so that every gap closes.

use serde_json::{Value, json};
use tidings_chat::ChatOptions;
use tidings_core::codec::{Property, QoS, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{World, text};

/// Alice has sent `count` messages, which Bob's phone has not: they are kept.
fn kept(world: &mut World, count: u64) -> SessionId {
    let bob = world.device("bob", "phone");
    world.settle();
    world.disconnect(bob, Disconnection::Clean);
    let alice = world.device("alice", "laptop");
    for number in 1..=count {
        world.publish(alice, &format!("chat/@bob/send/m{number}"), b"hello");
        world.settle();
    }
    alice
}

fn ask(world: &mut World, id: SessionId, chat: &str, what: &Value) -> Value {
    let asked = world.publish(id, &format!("chat/{chat}/history"), what.to_string().as_bytes());
    world.settle();
    assert_eq!(world.answer(asked), Some(ReasonCode::Success), "{what}");
    world.take_answer(id, "history")
}

fn seqs(answer: &Value) -> Vec<u64> {
    let entries = answer["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
}

#[test]
fn a_range_is_answered_with_its_entries() {
    let mut world = World::new(3);
    let alice = kept(&mut world, 10);
    let answer = ask(&mut world, alice, "@bob", &json!({"from": 3, "to": 5, "request": "r1"}));
    assert_eq!(seqs(&answer), [3, 4, 5]);
    assert_eq!(answer["entries"][0]["text"], "hello");
    assert_eq!(answer["entries"][0]["id"], "m3");
    assert_eq!(
        (&answer["from"], &answer["to"], &answer["last"]),
        (&json!(3), &json!(5), &json!(10))
    );
    assert_eq!((&answer["gone"], &answer["request"]), (&json!([]), &json!("r1")));
}

#[test]
fn a_range_reaches_no_further_than_the_log_and_a_long_one_says_where_it_ends() {
    let mut world = World::new(2);
    let alice = kept(&mut world, 9);
    let answer = ask(&mut world, alice, "@bob", &json!({"from": 8, "to": 99}));
    assert_eq!((seqs(&answer), &answer["to"]), (vec![8, 9], &json!(9)));
    let answer = ask(&mut world, alice, "@bob", &json!({"from": 50}));
    assert_eq!((seqs(&answer), &answer["gone"], &answer["to"]), (vec![], &json!([]), &json!(9)));
    // Forwards from a place, backwards from the end.
    let answer = ask(&mut world, alice, "@bob", &json!({"from": 2, "limit": 3}));
    assert_eq!(
        (seqs(&answer), &answer["from"], &answer["to"]),
        (vec![2, 3, 4], &json!(2), &json!(4))
    );
    let answer = ask(&mut world, alice, "@bob", &json!({"limit": 3}));
    assert_eq!(
        (seqs(&answer), &answer["from"], &answer["to"]),
        (vec![7, 8, 9], &json!(7), &json!(9))
    );
    let answer = ask(&mut world, alice, "@bob", &json!({"to": 6, "limit": 2}));
    assert_eq!((seqs(&answer), &answer["from"], &answer["to"]), (vec![5, 6], &json!(5), &json!(6)));
}

#[test]
fn what_is_gone_is_said_to_be() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    for number in 1..=5 {
        world.publish(alice, &format!("chat/@bob/send/m{number}"), b"hello");
        world.settle();
    }
    // Every device of both has them.
    let answer = ask(&mut world, alice, "@bob", &json!({"from": 1, "to": 40}));
    assert_eq!((seqs(&answer), &answer["gone"]), (vec![], &json!([[1, 5]])));
    world.disconnect(bob, Disconnection::Clean);
    world.publish(alice, "chat/@bob/send/m6", b"hello");
    world.settle();
    let answer = ask(&mut world, alice, "@bob", &json!({}));
    assert_eq!((seqs(&answer), &answer["gone"]), (vec![6], &json!([[1, 5]])));
    assert_eq!(answer["from"], 1);
}

#[test]
fn history_is_the_same_from_memory_and_from_the_store() {
    let mut options = ChatOptions::default();
    options.chats_loaded_max = 1;
    let mut world = World::with(1, options, 0);
    let alice = kept(&mut world, 150);
    for wanted in [
        json!({"from": 1, "to": 150, "limit": 200}),
        json!({"from": 40, "to": 90}),
        json!({"limit": 70}),
        json!({"to": 60, "limit": 50}),
    ] {
        let answer = ask(&mut world, alice, "@bob", &wanted);
        let (from, to) = (answer["from"].as_u64().unwrap(), answer["to"].as_u64().unwrap());
        assert_eq!(seqs(&answer), (from..=to).collect::<Vec<_>>(), "{wanted}");
        world.crash(true);
        world.connect("alice", "laptop");
        let again = ask(&mut world, alice, "@bob", &wanted);
        assert_eq!(again, answer);
    }
}

#[test]
fn a_chat_is_not_unloaded_while_it_reads() {
    for steps in 0..40 {
        let mut options = ChatOptions::default();
        options.requests = false;
        options.chats_loaded_max = 1;
        let mut world = World::with(1, options, 0);
        kept(&mut world, 70);
        world.crash(true);
        let alice = world.connect("alice", "laptop");
        let bob = world.connect("bob", "phone");
        let asked = world.publish(alice, "chat/@bob/history", br#"{"from":1,"to":2}"#);
        for _ in 0..steps {
            world.step();
        }
        for peer in 0..20 {
            world.publish(alice, &format!("chat/@peer{peer}/send"), b"x");
        }
        world.settle();
        assert_eq!(world.answer(asked), Some(ReasonCode::Success), "after {steps} steps");
        assert_eq!(world.take_seqs(bob).len(), 70, "after {steps} steps");
    }
}

#[test]
fn an_answer_is_bounded_in_bytes_and_holds_one_entry_at_least() {
    let mut world = World::new(1);
    let bob = world.device("bob", "phone");
    world.settle();
    world.disconnect(bob, Disconnection::Clean);
    let alice = world.device("alice", "laptop");
    for number in 1..=4 {
        world.publish(alice, &format!("chat/@bob/send/m{number}"), &[b'x'; 60 * 1024]);
        world.settle();
    }
    let mut next = 1;
    let mut heard = Vec::new();
    while next <= 4 {
        let answer = ask(&mut world, alice, "@bob", &json!({"from": next}));
        assert!(seqs(&answer).len() <= 2);
        heard.extend(seqs(&answer));
        next = answer["to"].as_u64().unwrap() + 1;
    }
    assert_eq!(heard, [1, 2, 3, 4]);
}

#[test]
fn only_members_are_answered_and_questions_are_to_be_understood() {
    let mut world = World::new(2);
    let alice = kept(&mut world, 2);
    let carol = world.device("carol", "phone");
    let unknown = world.publish(carol, "chat/@bob/history", b"{}");
    let refused: Vec<u64> = [
        &br#"{"from":"x"}"#[..],
        br#"{"form":1}"#,
        br#"{"from":5,"to":4}"#,
        br#"{"limit":0}"#,
        b"[1",
        &[b' '; 2_000],
    ]
    .into_iter()
    .map(|payload| world.publish(alice, "chat/@bob/history", payload))
    .collect();
    world.settle();
    assert_eq!(world.property(unknown, "code").as_deref(), Some("unknown_chat"));
    for refused in refused {
        assert_eq!(world.property(refused, "code").as_deref(), Some("format"));
    }
    assert_eq!(world.take_heard(carol, "history"), [""; 0]);
}

#[test]
fn an_answer_goes_to_the_response_topic_with_the_correlation_data() {
    let mut world = World::new(2);
    let alice = kept(&mut world, 1);
    let properties =
        [Property::ResponseTopic("answers/alice"), Property::CorrelationData(b"\x00\xff")];
    // Not subscribed there: on its own topic instead.
    world.publish_with(alice, "chat/@bob/history", b"", &properties);
    world.settle();
    let heard = world.session(alice).heard.pop().unwrap();
    assert_eq!(heard.topic, "me/json/@bob/history");
    assert_eq!(heard.correlation.as_deref(), Some(&b"\x00\xff"[..]));
    world.subscribe_plain(alice, "answers/alice");
    world.publish_with(alice, "chat/@bob/history", b"", &properties);
    world.settle();
    let heard = world.session(alice).heard.pop().unwrap();
    assert_eq!(heard.topic, "answers/alice");
    assert_eq!(heard.correlation.as_deref(), Some(&b"\x00\xff"[..]));
    // Only the device that asked hears it.
    let phone = world.device("alice", "phone");
    world.settle();
    world.take_heard(phone, "message");
    ask(&mut world, alice, "@bob", &json!({}));
    assert_eq!(world.take_heard(phone, "history"), [""; 0]);
}

#[test]
fn who_hears_no_answers_is_told_so() {
    let mut world = World::new(1);
    kept(&mut world, 1);
    let deaf = world.connect("alice", "script");
    let asked = world.publish(deaf, "chat/@bob/history", b"");
    world.settle();
    assert_eq!(world.property(asked, "code").as_deref(), Some("forbidden"));
    // MQTT 3.1.1 hears answers like any other.
    let old = world.connect_as("alice", "old", Version::V311, true);
    world.subscribe(old, "me/json/+/history", QoS::AtLeastOnce);
    let answer = ask(&mut world, old, "@bob", &json!({"request": 7}));
    assert_eq!((seqs(&answer), &answer["request"]), (vec![1], &json!(7)));
}

#[test]
fn an_answer_waits_for_a_session_that_is_full() {
    let mut world = World::new(1);
    let alice = kept(&mut world, 3);
    world.session(alice).window = 1;
    world.session(alice).queue_max = 1;
    world.session(alice).acknowledges = false;
    for number in 0..4 {
        let what = json!({"from": 1, "request": number});
        world.publish(alice, "chat/@bob/history", what.to_string().as_bytes());
    }
    world.run();
    world.session(alice).acknowledges = true;
    world.settle();
    let heard = world.take_heard(alice, "history");
    assert_eq!(heard.len(), 4);
    assert!(heard.iter().all(|body| text(body, "x").is_none()));
}

#[test]
fn a_member_of_a_group_sees_what_was_written_while_she_was_in_it() {
    let mut world = World::new(3);
    let alice = world.device("alice", "laptop");
    let (away, carol) = (world.device("bob", "phone"), world.device("carol", "phone"));
    let command = |world: &mut World, verb: &str, payload: &str| {
        let serial = world.publish(alice, &format!("chat/climbing/{verb}"), payload.as_bytes());
        world.settle();
        assert_eq!(world.answer(serial), Some(ReasonCode::Success), "{verb}");
    };
    command(&mut world, "create", "{}");
    command(&mut world, "add", r#"{"users":["bob"]}"#);
    // Who lacks it all keeps it all.
    world.disconnect(away, Disconnection::Clean);
    for n in 3..=5 {
        command(&mut world, &format!("send/m{n}"), "before");
    }
    command(&mut world, "add", r#"{"users":["carol"]}"#);
    command(&mut world, "send/m7", "with her");
    command(&mut world, "remove", r#"{"users":["carol"]}"#);
    command(&mut world, "send/m9", "without her");
    let asked = json!({"from": 1, "to": 40});
    let hers = ask(&mut world, carol, "climbing", &asked);
    assert_eq!((seqs(&hers), &hers["gone"]), (vec![6, 7, 8], &json!([[1, 5], [9, 40]])));
    assert_eq!(hers["last"], 8, "it ends for her there");
    let behind = ask(&mut world, carol, "climbing", &json!({"from": 9}));
    assert_eq!((seqs(&behind), &behind["gone"]), (vec![], &json!([])));
    let all = ask(&mut world, alice, "climbing", &asked);
    let added = all["gone"].as_array().unwrap().len();
    assert_eq!(*seqs(&all).last().unwrap(), 9);
    assert!(added <= 1, "{all}");
    assert_eq!(all["entries"][seqs(&all).len() - 2]["kind"], "system");
    // After a crash, from the store, it is the same.
    world.crash(true);
    world.connect("carol", "phone");
    assert_eq!(ask(&mut world, carol, "climbing", &asked), hers);
    let stranger = world.device("dave", "phone");
    let refused = world.publish(stranger, "chat/climbing/history", b"");
    world.settle();
    assert_eq!(world.property(refused, "code").as_deref(), Some("forbidden"));
}

#[test]
fn an_answer_holds_100_entries_and_200_if_that_is_asked_for() {
    let mut world = World::new(1);
    let alice = kept(&mut world, 210);
    for (what, count) in [
        (json!({}), 100),
        (json!({"from": 1}), 100),
        (json!({"from": 1, "limit": 200}), 200),
        (json!({"from": 1, "limit": 1_000}), 200),
        (json!({"limit": 7}), 7),
    ] {
        let answer = ask(&mut world, alice, "@bob", &what);
        assert_eq!(seqs(&answer).len(), count, "{what}");
    }
}

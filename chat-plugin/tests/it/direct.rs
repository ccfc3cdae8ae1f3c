//! Direct chats: sending, order, retries, devices that come and go.

use tidings_chat::ChatOptions;
use tidings_core::codec::{Property, QoS, ReasonCode, Version};
use tidings_core::hook::Disconnection;

use crate::harness::{World, number, text};

#[test]
fn a_send_is_acknowledged_and_delivered_only_after_it_is_stored() {
    let mut world = World::new(3);
    let bob = world.device("bob", "phone");
    let alice = world.connect("alice", "laptop");
    world.settle();
    let sent = world.publish(alice, "chat/@bob/send/m1", b"hello");
    // The chat begins: both index rows.
    world.run();
    world.sync();
    world.run();
    assert_eq!(world.answer(sent), None);
    assert_eq!(world.take_heard(bob, "message"), [""; 0]);
    world.sync();
    assert_eq!(world.answer(sent), Some(ReasonCode::Success));
    assert_eq!(world.seq(sent), Some(1));
    let heard = &world.session(bob).heard[0];
    assert_eq!(heard.topic, "me/json/@alice/message");
    let body = heard.body.clone();
    assert!(body.starts_with(r#"{"seq":1,"from":"alice","time":17000000"#), "{body}");
    assert!(body.ends_with(r#","id":"m1","text":"hello"}"#), "{body}");
    // From now on one record is all a send needs.
    world.settle();
    let before = world.stored_counts();
    let sent = world.publish(alice, "chat/@bob/send/m2", b"again");
    world.run();
    let (records, urgent, puts) = world.stored_counts();
    assert_eq!((records - before.0, urgent - before.1, puts - before.2), (1, 1, 1));
    assert_eq!((world.answer(sent), world.seq(sent)), (None, None));
    world.sync();
    assert_eq!(world.seq(sent), Some(2));
}

#[test]
fn a_retry_gets_the_original_place_whenever_it_comes() {
    let mut world = World::new(4);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    let first = world.publish(alice, "chat/@bob/send/m1", b"hello");
    world.run();
    let racing = world.publish(alice, "chat/@bob/send/m1", b"hello");
    world.run();
    assert_eq!((world.answer(first), world.answer(racing)), (None, None));
    world.settle();
    let stored = world.publish(alice, "chat/@bob/send/m1", b"hello");
    let correlated = [Property::CorrelationData(b"m1")];
    let by_property = world.publish_with(alice, "chat/@bob/send", b"hello", &correlated);
    let other_device = world.connect("alice", "phone");
    let elsewhere = world.publish(other_device, "chat/@bob/send/m1", b"hello");
    world.settle();
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    let after_crash = world.publish(alice, "chat/@bob/send/m1", b"hello");
    world.settle();
    for sent in [first, racing, stored, by_property, elsewhere, after_crash] {
        assert_eq!(world.seq(sent), Some(1));
    }
    assert_eq!(world.take_seqs(bob), [1]);
    // Bob's m1 is another message than Alice's.
    let bob = world.connect("bob", "phone");
    let sent = world.publish(bob, "chat/@alice/send/m1", b"hello");
    world.settle();
    assert_eq!(world.seq(sent), Some(2));
}

#[test]
fn a_retry_is_known_after_the_chat_was_unloaded() {
    let mut options = ChatOptions::default();
    options.chats_loaded_max = 2;
    let mut world = World::with(1, options, 0);
    let alice = world.connect("alice", "laptop");
    world.publish(alice, "chat/@bob/send/m1", b"hello");
    world.settle();
    for peer in 0..20 {
        world.publish(alice, &format!("chat/@peer{peer}/send/m1"), b"hello");
        world.settle();
    }
    let retried = world.publish(alice, "chat/@bob/send/m1", b"hello");
    let next = world.publish(alice, "chat/@bob/send/m2", b"hello");
    let conflict = world.publish(alice, "chat/@bob/send/m1", b"hallo");
    world.settle();
    assert_eq!((world.seq(retried), world.seq(next)), (Some(1), Some(2)));
    assert_eq!(world.answer(conflict), Some(ReasonCode::ImplementationSpecificError));
}

#[test]
fn the_same_id_with_another_payload_is_a_conflict() {
    let mut world = World::new(2);
    let alice = world.device("alice", "laptop");
    world.settle();
    let first = world.publish(alice, "chat/@bob/send/m1", b"hello");
    let racing = world.publish(alice, "chat/@bob/send/m1", b"other");
    world.settle();
    let late = world.publish(alice, "chat/@bob/send/m1", b"other");
    world.settle();
    assert_eq!(world.seq(first), Some(1));
    for refused in [racing, late] {
        assert_eq!(world.answer(refused), Some(ReasonCode::ImplementationSpecificError));
        assert_eq!(world.property(refused, "code").as_deref(), Some("conflict"));
    }
    let errors = world.take_heard(alice, "error");
    assert_eq!(errors.len(), 2);
    assert_eq!(text(&errors[0], "id").as_deref(), Some("m1"));
    assert_eq!(text(&errors[0], "code").as_deref(), Some("conflict"));
}

#[test]
fn a_sender_without_an_id_is_told_the_one_it_got() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let alice = world.connect("alice", "laptop");
    let sent = world.publish(alice, "chat/@bob/send", b"one");
    let retried = world.publish(alice, "chat/@bob/send", b"one");
    world.settle();
    assert_eq!((world.seq(sent), world.seq(retried)), (Some(1), Some(2)));
    let heard = world.take_heard(bob, "message");
    assert_eq!(text(&heard[0], "id"), world.property(sent, "id"));
}

#[test]
fn mqtt_3_hears_an_ack_and_errors_as_messages() {
    let mut world = World::new(2);
    let alice = world.connect_as("alice", "laptop", Version::V311, true);
    world.subscribe(alice, "me/json/#", QoS::AtLeastOnce);
    let sent = world.publish(alice, "chat/@bob/send/m1", b"one");
    world.publish_qos0(alice, "chat/@bob/send/m2", b"two");
    world.publish(alice, "chat/@bob/sned/m1", b"one");
    world.settle();
    assert_eq!(world.answer(sent), Some(ReasonCode::Success));
    assert_eq!(world.property(sent, "seq"), None);
    let acks = world.take_heard(alice, "ack");
    assert_eq!(acks.len(), 2);
    assert_eq!((text(&acks[0], "id").unwrap(), number(&acks[0], "seq")), ("m1".into(), Some(1)));
    assert_eq!((text(&acks[1], "id").unwrap(), number(&acks[1], "seq")), ("m2".into(), Some(2)));
    let errors = world.take_heard(alice, "error");
    assert_eq!(text(&errors[0], "code").as_deref(), Some("format"));
    assert!(text(&errors[0], "text").unwrap().contains("send, read, typing"), "{errors:?}");
}

#[test]
fn mqtt_5_hears_an_ack_when_it_asked_for_it() {
    let mut world = World::new(2);
    let alice = world.device("alice", "laptop");
    let acks = |world: &mut World, at: u64| {
        let sent = world.publish(alice, &format!("chat/@bob/send/m{at}"), b"x");
        world.settle();
        assert_eq!(world.seq(sent), Some(at), "in PUBACK in any case");
        world
            .take_heard(alice, "ack")
            .iter()
            .filter_map(|ack| number(ack, "seq"))
            .collect::<Vec<_>>()
    };
    assert_eq!(acks(&mut world, 1), [0; 0]);
    let asked = world.publish(alice, "me/state", br#"{"ack":true}"#);
    assert_eq!(acks(&mut world, 2), [2]);
    assert_eq!(world.answer(asked), Some(ReasonCode::Success));
    // It holds for this connection; the next one may say so in CONNECT.
    for asks in [false, true] {
        world.disconnect(alice, Disconnection::Clean);
        world.session(alice).ack = asks;
        world.connect("alice", "laptop");
        let at = 3 + u64::from(asks);
        assert_eq!(acks(&mut world, at), if asks { vec![at] } else { vec![] });
    }
}

#[test]
fn a_refusal_that_passes_says_in_the_puback_too_when_to_try_again() {
    let mut options = ChatOptions::default();
    options.chat_waiting_max = 1;
    let mut world = World::with(1, options, 0);
    let alice = world.device("alice", "laptop");
    world.settle();
    let first = world.publish(alice, "chat/@bob/send/m1", b"one");
    let busy = world.publish(alice, "chat/@bob/send/m2", b"two");
    let bad = world.publish(alice, "chat/@bob/sned/m3", b"three");
    world.settle();
    assert_eq!((world.seq(first), world.property(first, "retry_after")), (Some(1), None));
    assert_eq!(world.property(busy, "code").as_deref(), Some("unavailable"));
    let errors = world.take_heard(alice, "error");
    let busy_heard = errors.iter().find(|body| text(body, "id").as_deref() == Some("m2")).unwrap();
    let millis = number(busy_heard, "retry_after").map(|millis| millis.to_string());
    assert!(millis.is_some());
    assert_eq!(world.property(busy, "retry_after"), millis);
    assert_eq!(world.property(bad, "code").as_deref(), Some("format"));
    assert_eq!(world.property(bad, "retry_after"), None);
    let again = world.publish(alice, "chat/@bob/send/m2", b"two");
    world.settle();
    assert_eq!(world.seq(again), Some(2));
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_code() {
    let mut options = ChatOptions::default();
    options.payload_bytes_max = 10;
    options.user_chats_max = 3;
    let mut world = World::with(2, options, 0);
    let alice = world.connect("alice", "laptop");
    let nobody = world.connect("", "x");
    let strange = world.connect("jos\u{e9}", "x");
    for (session, topic, payload, code) in [
        (alice, "chat/@bob/send/m1", &b"12345678901"[..], "size"),
        (alice, "chat/@bob/read", b"yes", "format"),
        (alice, "chat/@bob/read", b"7", "unknown_chat"),
        (alice, "chat/@bob/history", b"{}", "unknown_chat"),
        (alice, "chat/climbing/send", b"x", "unknown_chat"),
        (alice, "presence/bob", b"x", "forbidden"),
        (nobody, "chat/@bob/send", b"x", "forbidden"),
        (strange, "chat/@bob/send", b"x", "forbidden"),
    ] {
        let sent = world.publish(session, topic, payload);
        world.settle();
        assert_eq!(world.property(sent, "code").as_deref(), Some(code), "{topic}");
        assert!(world.answer(sent).is_some_and(ReasonCode::is_error), "{topic}");
    }
    for peer in ["a", "b", "c", "d"] {
        let sent = world.publish(alice, &format!("chat/@{peer}/send"), b"x");
        world.settle();
        let code = (peer == "d").then(|| "limit".to_string());
        assert_eq!(world.property(sent, "code"), code, "{peer}");
    }
    let odd = [Property::CorrelationData(b"\xff")];
    let sent = world.publish_with(alice, "chat/@a/send", b"x", &odd);
    world.settle();
    assert_eq!(world.property(sent, "code").as_deref(), Some("format"));
    assert_eq!(world.allows("", "me/json/#"), Err(ReasonCode::NotAuthorized));
    assert_eq!(world.allows("bob", "me/cbor/#"), Ok(()));
    assert_eq!(world.allows("bob", "me/json/#"), Ok(()));
}

#[test]
fn what_was_sent_while_away_comes_in_order_and_then_goes() {
    let mut world = World::new(3);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    world.disconnect(bob, Disconnection::Abrupt);
    for n in 0..500 {
        world.publish(alice, &format!("chat/@bob/send/m{n}"), format!("{n}").as_bytes());
        if n % 50 == 0 {
            world.settle();
        }
    }
    world.settle();
    world.crash(false);
    let bob = world.device("bob", "phone");
    world.session(bob).heard.clear();
    world.settle();
    assert_eq!(world.take_seqs(bob), (1..=500).collect::<Vec<_>>());
    // Alice's laptop has them too, as its own: nothing keeps them.
    let alice = world.device("alice", "laptop");
    world.settle();
    assert_eq!(world.take_seqs(alice), [0; 0]);
    let logs = world.rows().keys().filter(|key| key.len() == 28 && key[19] == 5).count();
    assert_eq!(logs, 0);
    let sent = world.publish(alice, "chat/@bob/send/next", b"x");
    world.settle();
    assert_eq!(world.seq(sent), Some(501), "the place is known although the log is empty");
    world.crash(false);
    let alice = world.device("alice", "laptop");
    let sent = world.publish(alice, "chat/@bob/send/over", b"x");
    world.settle();
    assert_eq!(world.seq(sent), Some(502));
}

#[test]
fn a_full_session_gets_the_rest_when_there_is_room() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    world.session(bob).window = 3;
    world.session(bob).queue_max = 2;
    world.session(bob).acknowledges = false;
    for n in 0..200 {
        world.publish(alice, &format!("chat/@bob/send/m{n}"), b"x");
        world.run();
    }
    world.settle();
    assert_eq!(world.take_seqs(bob), [1, 2, 3]);
    for n in 0..40 {
        world.publish(alice, &format!("chat/@bob/send/n{n}"), b"x");
    }
    world.session(bob).acknowledges = true;
    world.settle();
    assert_eq!(world.take_seqs(bob), (4..=240).collect::<Vec<_>>());
}

#[test]
fn a_resumed_session_hears_nothing_twice_as_new() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    world.session(bob).window = 4;
    world.session(bob).acknowledges = false;
    for n in 0..10 {
        world.publish(alice, &format!("chat/@bob/send/m{n}"), b"x");
    }
    world.settle();
    assert_eq!(world.take_seqs(bob), [1, 2, 3, 4]);
    // 2 and 3 are acknowledged, 1 is not.
    world.acknowledge_at(bob, 1, ReasonCode::Success);
    world.acknowledge_at(bob, 1, ReasonCode::Success);
    world.run();
    world.disconnect(bob, Disconnection::Abrupt);
    world.run();
    world.session(bob).heard.clear();
    world.connect("bob", "phone");
    world.session(bob).acknowledges = true;
    world.settle();
    let heard = world.session(bob).heard.clone();
    let new: Vec<u64> = heard
        .iter()
        .filter(|heard| heard.topic.ends_with("/message") && !heard.again)
        .map(|heard| number(&heard.body, "seq").unwrap())
        .collect();
    // 2 and 3 again: the cursor had not passed 1. What was in flight comes as the session's own.
    assert_eq!(new, [2, 3, 7, 8, 9, 10]);
}

#[test]
fn what_a_hasty_visitor_acknowledged_does_not_come_back_as_new() {
    // The second time after a crash, so that not even the user's rows are there.
    for crash in [false, true] {
        let mut world = World::new(2);
        let bob = world.device("bob", "phone");
        let alice = world.device("alice", "laptop");
        world.settle();
        world.session(bob).window = 4;
        world.session(bob).acknowledges = false;
        for n in 0..6 {
            world.publish(alice, &format!("chat/@bob/send/m{n}"), b"x");
        }
        world.settle();
        assert_eq!(world.take_seqs(bob), [1, 2, 3, 4]);
        if crash {
            world.crash(true);
        } else {
            world.disconnect(bob, Disconnection::Abrupt);
            world.run();
        }
        // What was in flight is acknowledged, and he is gone, before the chat says a word.
        world.connect("bob", "phone");
        for _ in 1..=3 {
            world.acknowledge(bob, ReasonCode::Success);
        }
        world.disconnect(bob, Disconnection::Abrupt);
        world.run();
        world.session(bob).heard.clear();
        world.connect("bob", "phone");
        world.session(bob).acknowledges = true;
        world.settle();
        assert_eq!(world.take_seqs(bob), [4, 5, 6], "after a crash: {crash}");
    }
}

#[test]
fn devices_begin_where_they_are_due() {
    let mut world = World::new(3);
    let alice = world.device("alice", "laptop");
    for n in 1..=3 {
        world.publish(alice, &format!("chat/@bob/send/m{n}"), b"x");
    }
    world.settle();
    // The first device ever: all that is kept.
    let phone = world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(phone), [1, 2, 3]);
    // A further one: the present.
    let tablet = world.device("bob", "tablet");
    world.settle();
    world.publish(alice, "chat/@bob/send/m4", b"x");
    world.settle();
    assert_eq!(world.take_seqs(tablet), [4]);
    assert_eq!(world.take_seqs(phone), [4]);
    // One that was away when a chat began has it from the beginning.
    world.disconnect(tablet, Disconnection::Clean);
    let carol = world.connect("carol", "c");
    world.publish(carol, "chat/@bob/send/c1", b"x");
    world.publish(carol, "chat/@bob/send/c2", b"x");
    world.settle();
    assert_eq!(world.take_seqs(phone), [1, 2]);
    let tablet = world.device("bob", "tablet");
    world.settle();
    assert_eq!(world.take_seqs(tablet), [1, 2]);
    // All are gone, messages come, a new one: where the furthest was.
    world.disconnect(phone, Disconnection::Clean);
    world.disconnect(tablet, Disconnection::Clean);
    world.end_session(phone);
    world.end_session(tablet);
    world.settle();
    world.publish(alice, "chat/@bob/send/m5", b"x");
    world.settle();
    let watch = world.device("bob", "watch");
    world.settle();
    assert_eq!(world.take_seqs(watch), [5]);
}

#[test]
fn a_device_that_has_ended_holds_nothing_back() {
    let mut world = World::new(2);
    let phone = world.device("bob", "phone");
    let tablet = world.device("bob", "tablet");
    let alice = world.device("alice", "laptop");
    world.settle();
    world.disconnect(tablet, Disconnection::Clean);
    world.publish(alice, "chat/@bob/send/m1", b"x");
    world.settle();
    assert_eq!(world.take_seqs(phone), [1]);
    let logs =
        |world: &World| world.rows().keys().filter(|key| key.len() == 28 && key[19] == 5).count();
    assert_eq!(logs(&world), 1);
    world.end_session(tablet);
    world.settle();
    assert_eq!(logs(&world), 0);
    world.advance(std::time::Duration::from_secs(11));
    let tablets = world.rows().keys().filter(|key| key.ends_with(b"tablet")).count();
    assert_eq!(tablets, 0, "neither cursor nor device is left");
}

#[test]
fn own_messages_reach_the_other_devices_and_not_the_sender() {
    let mut world = World::new(2);
    let laptop = world.device("alice", "laptop");
    let phone = world.device("alice", "phone");
    world.settle();
    world.publish(laptop, "chat/@bob/send/m1", b"x");
    world.publish(laptop, "chat/@alice/send/n1", b"note");
    world.settle();
    assert_eq!(world.take_seqs(laptop), [0; 0]);
    let topics: Vec<String> =
        world.session(phone).heard.iter().map(|heard| heard.topic.clone()).collect();
    assert_eq!(topics, ["me/json/@bob/message", "me/json/@alice/message"]);
    world.disconnect(laptop, Disconnection::Clean);
    world.publish(phone, "chat/@bob/send/m2", b"x");
    world.settle();
    let laptop = world.device("alice", "laptop");
    world.settle();
    assert_eq!(world.take_seqs(laptop), [2]);
}

#[test]
fn sessions_that_hear_with_qos_0_get_what_is_new_only() {
    let mut world = World::new(2);
    let alice = world.device("alice", "laptop");
    world.publish(alice, "chat/@bob/send/m1", b"x");
    let bob = world.connect_as("bob", "tool", Version::V311, false);
    world.settle();
    world.subscribe(bob, "me/json/#", QoS::AtMostOnce);
    world.settle();
    world.publish(alice, "chat/@bob/send/m2", b"x");
    world.settle();
    assert_eq!(world.take_seqs(bob), [2]);
    world.disconnect(bob, Disconnection::Clean);
    let phone = world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(phone), [1, 2], "no cursor was left");
}

#[test]
fn a_narrow_filter_hears_its_chat_only() {
    let mut world = World::new(2);
    let bob = world.connect("bob", "phone");
    world.subscribe(bob, "me/json/@alice/message", QoS::AtLeastOnce);
    let alice = world.connect("alice", "a");
    let carol = world.connect("carol", "c");
    world.publish(alice, "chat/@bob/send/m1", b"x");
    world.publish(carol, "chat/@bob/send/m1", b"x");
    world.settle();
    let heard = world.take_heard(bob, "message");
    assert_eq!(heard.len(), 1);
    assert_eq!(text(&heard[0], "from").as_deref(), Some("alice"));
    world.unsubscribe(bob, "me/json/@alice/message");
    world.publish(alice, "chat/@bob/send/m2", b"x");
    world.settle();
    assert_eq!(world.take_seqs(bob), [0; 0]);
}

#[test]
fn a_retry_from_long_ago_gets_the_original_place() {
    for (crash, heard) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut world = World::new(2);
        if heard {
            world.device("bob", "phone");
        }
        let mut alice = world.connect("alice", "laptop");
        for n in 1..=900 {
            world.publish(alice, &format!("chat/@bob/send/m{n}"), b"x");
            if n % 7 == 0 {
                world.settle();
            }
        }
        world.settle();
        if crash {
            world.crash(true);
            alice = world.connect("alice", "laptop");
        }
        for (n, body, seq) in [(1, b"x", Some(1)), (899, b"x", Some(899)), (450, b"y", None)] {
            let again = world.publish(alice, &format!("chat/@bob/send/m{n}"), body);
            world.settle();
            assert_eq!(world.seq(again), seq, "m{n}, crash {crash}, heard {heard}");
        }
        let new = world.publish(alice, "chat/@bob/send/m901", b"x");
        world.settle();
        assert_eq!(world.seq(new), Some(901));
        // A row for each would be 900.
        let ids = world.rows().keys().filter(|key| key[1] == 64 && key.get(19) == Some(&4)).count();
        assert!((3..=130).contains(&ids), "{ids} pages, crash {crash}, heard {heard}");
    }
}

#[test]
fn old_entries_and_ids_expire() {
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    let mut world = World::new(1);
    let alice = world.connect("alice", "laptop");
    for n in 0..300 {
        world.publish(alice, &format!("chat/@bob/send/m{n}"), b"x");
    }
    world.settle();
    world.advance(day * 29);
    let last = world.publish(alice, "chat/@bob/send/last", b"x");
    world.settle();
    assert_eq!(world.seq(last), Some(301));
    world.advance(day * 2);
    world.settle();
    let bob = world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(bob), [301]);
    // Of those there is one page: a few more that it was begun with, and the last.
    let keys = world.rows().into_keys().filter(|key| key.len() == 28 && key[19] == 4);
    assert_eq!(keys.map(|key| key[26..].to_vec()).collect::<Vec<_>>(), [297_u16.to_be_bytes()]);
}

#[test]
fn typing_is_heard_by_the_other_and_limited() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.publish_qos0(alice, "chat/@bob/typing", b"typing");
    world.settle();
    assert_eq!(world.take_heard(bob, "typing"), [""; 0], "the chat has not begun");
    world.publish(alice, "chat/@bob/send/m1", b"x");
    world.settle();
    for state in [&b"typing"[..], b"typing", b"stopped", b"stopped"] {
        world.publish_qos0(alice, "chat/@bob/typing", state);
    }
    world.settle();
    let heard = world.take_heard(bob, "typing");
    let states: Vec<_> = heard.iter().filter_map(|body| text(body, "state")).collect();
    assert_eq!(states, ["typing", "stopped"]);
}

#[test]
fn a_retry_is_known_in_a_chat_with_more_ids_than_one_read_holds() {
    let mut world = World::new(1);
    let alice = world.connect("alice", "laptop");
    let send = |world: &mut World, alice, n: u64| {
        world.publish(alice, &format!("chat/@bob/send/m{n}"), b"x")
    };
    for n in 1..=1_500 {
        send(&mut world, alice, n);
        if n % 500 == 0 {
            world.settle();
        }
    }
    world.crash(false);
    let alice = world.connect("alice", "laptop");
    let again: Vec<u64> = (1..=1_500).step_by(7).collect();
    for few in again.chunks(500) {
        let sent: Vec<u64> = few.iter().map(|n| send(&mut world, alice, *n)).collect();
        let new = send(&mut world, alice, 10_000 + few[0]);
        world.settle();
        let seqs: Vec<_> = sent.iter().map(|serial| world.seq(*serial)).collect();
        assert_eq!(seqs, few.iter().map(|n| Some(*n)).collect::<Vec<_>>());
        assert_eq!(world.seq(new), Some(1_501));
    }
}

#[test]
fn neither_packet_identifier_nor_dup_makes_a_retry() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    // All with one Packet Identifier.
    let first = world.publish(alice, "chat/@bob/send", b"hello");
    let second = world.publish(alice, "chat/@bob/send/m2", b"hello");
    world.settle();
    world.dup = true;
    let third = world.publish(alice, "chat/@bob/send", b"hello");
    let fourth = world.publish(alice, "chat/@bob/send", b"hello");
    let again = world.publish(alice, "chat/@bob/send/m2", b"hello");
    world.settle();
    let seqs = [first, second, third, fourth, again].map(|sent| world.seq(sent));
    assert_eq!(seqs, [Some(1), Some(2), Some(3), Some(4), Some(2)]);
    assert_eq!(world.take_seqs(bob), [1, 2, 3, 4]);
}

#[test]
fn signals_take_no_place_and_no_row() {
    let mut world = World::new(2);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.publish(alice, "chat/@bob/send/m1", b"x");
    world.publish(bob, "chat/@alice/send/m1", b"x");
    world.settle();
    world.subscribe(alice, "presence/bob", QoS::AtLeastOnce);
    world.settle();
    let before = world.stored_counts();
    world.publish_qos0(alice, "chat/@bob/typing", b"typing");
    world.publish_qos0(bob, "chat/@alice/typing", b"recording");
    world.settle();
    assert_eq!(world.stored_counts(), before);
    world.publish(bob, "chat/@alice/read", b"1");
    world.settle();
    assert_eq!(world.take_heard(bob, "typing").len(), 1);
    assert!(!world.take_heard(alice, "presence/bob").is_empty());
    assert!(!world.take_heard(alice, "receipt").is_empty());
    let next = world.publish(alice, "chat/@bob/send/m2", b"x");
    world.settle();
    assert_eq!(world.seq(next), Some(3));
    assert_eq!(world.take_seqs(bob), [1, 3]);
}

#[test]
fn time_never_goes_back_in_a_chat_though_the_clock_does() {
    for kept in [false, true] {
        let mut world = World::new(2);
        let alice = world.device("alice", "laptop");
        if !kept {
            world.device("bob", "phone");
        }
        world.settle();
        let first = world.publish(alice, "chat/@bob/send", b"x");
        world.settle();
        let first: u64 = world.property(first, "time").unwrap().parse().unwrap();
        world.crash(true);
        // The server is started with a clock that is a day behind.
        world.now = tidings_core::time::Time::from_millis(first - 24 * 3_600_000);
        let alice = world.device("alice", "laptop");
        world.settle();
        let next = world.publish(alice, "chat/@bob/send", b"x");
        world.settle();
        let next: u64 = world.property(next, "time").unwrap().parse().unwrap();
        assert!(next >= first, "{next} behind {first}, kept: {kept}");
    }
}

#[test]
fn a_retry_is_known_for_a_day_after_everybody_has_it() {
    for crash in [false, true] {
        let mut world = World::new(2);
        let bob = world.device("bob", "phone");
        let alice = world.device("alice", "laptop");
        world.settle();
        world.publish(alice, "chat/@bob/send/m1", b"hello");
        world.settle();
        assert_eq!(world.take_seqs(bob), [1]);
        for _ in 0..143 {
            world.advance(std::time::Duration::from_secs(600));
            world.sync();
        }
        if crash {
            world.crash(true);
        }
        let alice = world.device("alice", "laptop");
        let again = world.publish(alice, "chat/@bob/send/m1", b"hello");
        let other = world.publish(alice, "chat/@bob/send/m1", b"hallo");
        world.settle();
        assert_eq!(world.seq(again), Some(1), "crash: {crash}");
        assert_eq!(world.property(other, "code").as_deref(), Some("conflict"));
    }
}

#[test]
fn a_device_that_is_away_costs_no_write_however_much_is_sent() {
    let mut world = World::new(2);
    let phones = ["phone", "tablet", "watch"].map(|name| world.device("bob", name));
    let alice = world.device("alice", "laptop");
    world.publish(alice, "chat/@bob/send", b"x");
    world.settle();
    for phone in phones {
        world.disconnect(phone, Disconnection::Clean);
    }
    world.settle();
    let before = world.stored_counts();
    for _ in 0..100 {
        world.publish(alice, "chat/@bob/send", b"x");
        world.run();
        world.sync();
    }
    let (records, urgent, puts) = world.stored_counts();
    // Alice's own cursor is a row now and then; of Bob's three devices there is none.
    assert_eq!((records - before.0, urgent - before.1), (100, 100));
    assert!(puts - before.2 <= 120, "{} rows", puts - before.2);
}

#[test]
fn a_noisy_chat_costs_another_none_of_its_messages() {
    let mut options = ChatOptions::default();
    options.requests = false;
    options.chat_entries_max = 300;
    let mut world = World::with(2, options, 0);
    let bob = world.device("bob", "phone");
    let (alice, eve) = (world.device("alice", "laptop"), world.device("eve", "bot"));
    world.settle();
    world.session(bob).window = 1;
    world.session(bob).queue_max = 1;
    world.disconnect(bob, Disconnection::Abrupt);
    let mut noise = Vec::new();
    for n in 0..500 {
        noise.push(world.publish(eve, "chat/@bob/send", b"buy"));
        if n % 50 == 0 {
            world.publish(alice, "chat/@bob/send", b"hello");
            world.settle();
        }
    }
    world.settle();
    let taken = noise.iter().filter(|sent| world.seq(**sent).is_some()).count() as u64;
    assert_eq!(taken, 300, "the noisy chat alone is full");
    world.connect("bob", "phone");
    for n in 500..600 {
        world.publish(eve, &format!("chat/@bob/send/n{n}"), b"buy");
    }
    world.publish(alice, "chat/@bob/send/last", b"hello");
    world.settle();
    world.settle();
    let heard = std::mem::take(&mut world.session(bob).heard);
    let of = |peer: &str| -> Vec<u64> {
        let topic = format!("me/json/@{peer}/message");
        let of = heard.iter().filter(|heard| heard.topic == topic);
        of.map(|heard| number(&heard.body, "seq").unwrap()).collect()
    };
    assert_eq!(of("alice"), (1..=11).collect::<Vec<_>>());
    let noise = of("eve");
    assert!(noise.len() >= 300 && noise.is_sorted_by(|one, next| one + 1 == *next));
}

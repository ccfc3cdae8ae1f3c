//! The program around the broker: what it can do beside the topics, and what it hears.

use std::time::Duration;

use tidings_chat::{
    CallError, Chat, ChatEvent, ChatOptions, ChatRef, Events, Outgoing, Role, SYSTEM,
};
use tidings_core::codec::ReasonCode;
use tidings_core::hook::Disconnection;
use tidings_core::metric::Metric;

use crate::harness::{World, text};

fn all(events: &mut Events) -> Vec<ChatEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}

fn code(error: &CallError) -> &'static str {
    match error {
        CallError::Refused { code, .. } => code,
        other => panic!("{other}"),
    }
}

#[test]
fn program_sends_to_users_groups_and_rooms_and_knows_the_place_of_each() {
    for shards in [1, 3] {
        let mut world = World::new(shards);
        let chat = world.handle_of_chat();
        let alice = world.device("alice", "phone");
        world.publish(alice, "chat/climbing/create", b"{}");
        let room = world.call(chat.make_room()).unwrap();
        world.settle();
        let direct = ChatRef::direct("bot", "alice");
        let hello = Outgoing::new("bot", direct.clone(), "hello").id("m1").content_type("a/b");
        let sent = world.call(chat.send(hello.clone())).unwrap();
        assert_eq!((sent.seq, world.call(chat.send(hello)).unwrap()), (1, sent));
        let other = Outgoing::new("bot", direct, "other").id("m1");
        assert_eq!(code(&world.call(chat.send(other)).unwrap_err()), "conflict");
        let notice = Outgoing::new(SYSTEM, ChatRef::named("climbing"), "closed on Monday");
        assert_eq!(world.call(chat.send(notice)).unwrap().seq, 2);
        let into_room = Outgoing::new(SYSTEM, ChatRef::named(&room.name), "welcome");
        assert_eq!(world.call(chat.send(into_room)).unwrap().seq, 1);
        world.settle();
        let heard = world.take_heard(alice, "message");
        let from = heard.iter().map(|body| text(body, "from").unwrap()).collect::<Vec<_>>();
        assert_eq!(from, ["alice", "bot", "system"][..].to_vec().split_off(1), "{heard:?}");
        // And what she answers is a message like any other.
        let answer = world.publish(alice, "chat/@bot/send", b"thanks");
        world.settle();
        assert_eq!(world.seq(answer), Some(2));
        for (message, expected) in [
            (Outgoing::new(SYSTEM, ChatRef::named("nowhere"), "x"), "unknown_chat"),
            (Outgoing::new(SYSTEM, ChatRef::named("~nowhere"), "x"), "ended"),
            (Outgoing::new("bot", ChatRef::direct("bot", "alice"), vec![0; 70_000]), "size"),
        ] {
            assert_eq!(code(&world.call(chat.send(message)).unwrap_err()), expected);
        }
        for message in [
            Outgoing::new("bot", ChatRef::direct("alice", "bob"), "x"),
            Outgoing::new("bot", ChatRef::direct("bot", "b b"), "x"),
            Outgoing::new("bot", ChatRef::named("a/b"), "x"),
            Outgoing::new("bot", ChatRef::direct("bot", "bob"), "x").id("a b"),
        ] {
            let refused = world.call(chat.send(message)).unwrap_err();
            assert!(matches!(refused, CallError::Name { .. }), "{refused}");
        }
    }
}

#[test]
fn program_manages_groups_that_it_is_not_in() {
    let mut world = World::new(2);
    let chat = world.handle_of_chat();
    let (alice, bob) = (world.device("alice", "phone"), world.device("bob", "phone"));
    let carol = world.device("carol", "phone");
    let made = world.call(chat.create_group("climbing", "alice", Some("Climbing"), &["bob"]));
    assert_eq!(made.unwrap().unwrap().seq, 1);
    assert_eq!(world.call(chat.create_group("climbing", "alice", None, &[])), Ok(None));
    let taken = world.call(chat.create_group("climbing", "bob", None, &[])).unwrap_err();
    assert_eq!(code(&taken), "conflict");
    assert_eq!(world.call(chat.set_role("climbing", "bob", Role::Reader)).unwrap().unwrap().seq, 2);
    let refused = world.publish(bob, "chat/climbing/send", b"hello");
    world.settle();
    assert_eq!(world.property(refused, "code").as_deref(), Some("forbidden"));
    assert_eq!(world.call(chat.remove("climbing", &["bob", "dave"])).unwrap().unwrap().seq, 3);
    assert_eq!(world.call(chat.remove("climbing", &["bob"])), Ok(None));
    assert_eq!(world.call(chat.add("climbing", &["dave"], None)).unwrap().unwrap().seq, 4);
    assert_eq!(world.call(chat.set_title("climbing", "Boulders")).unwrap().unwrap().seq, 5);
    let token = world.call(chat.invite("climbing", Some(Duration::from_secs(60)), Some(1)));
    let join = format!(r#"{{"token":"{}"}}"#, token.unwrap());
    let joined = world.publish(carol, "chat/climbing/join", join.as_bytes());
    world.settle();
    assert_eq!(world.answer(joined), Some(ReasonCode::Success));
    assert_eq!(world.take_heard(bob, "ended").len(), 1);
    let told = world.take_heard(alice, "message");
    assert_eq!(text(&told[1], "from").as_deref(), Some("system"), "{told:?}");
    let survey = world.call(chat.survey(&ChatRef::named("climbing"), None, 2)).unwrap();
    assert_eq!((survey.title.as_deref(), survey.count), (Some("Boulders"), 3));
    let members = survey.members.iter().map(|it| (&*it.user, it.role)).collect::<Vec<_>>();
    assert_eq!(members, [("alice", Some(Role::Owner)), ("carol", Some(Role::Member))]);
    let more = world.call(chat.survey(&ChatRef::named("climbing"), survey.next.as_deref(), 2));
    assert_eq!(more.unwrap().members[0].user, "dave".into());
    let unknown = world.call(chat.add("nowhere", &["bob"], None)).unwrap_err();
    assert_eq!(code(&unknown), "unknown_chat");
}

#[test]
fn program_reads_the_log_of_any_chat_and_asks_for_one_member() {
    let mut world = World::new(2);
    let chat = world.handle_of_chat();
    let alice = world.device("alice", "phone");
    for number in 1..=5 {
        let text = format!("message {number}");
        world.publish(alice, &format!("chat/@bob/send/m{number}"), text.as_bytes());
    }
    world.publish(alice, "chat/@bob/delete/3", b"everyone");
    world.settle();
    let direct = ChatRef::direct("bob", "alice");
    for crashed in [false, true] {
        let page = world.call(chat.log(&direct, 0, 2)).unwrap();
        let texts = page.entries.iter().map(|it| String::from_utf8(it.payload.to_vec()).unwrap());
        assert_eq!(texts.collect::<Vec<_>>(), ["message 1", "message 2"]);
        assert_eq!((page.last, page.next, &page.entries[0].chat), (6, Some(3), &direct));
        // What was deleted is not there any more; what deleted it is an entry as well.
        let page = world.call(chat.log(&direct, 3, 200)).unwrap();
        let found: Vec<_> = page.entries.iter().map(|it| (it.seq, it.kind)).collect();
        assert_eq!(found, [(4, None), (5, None), (6, Some("delete"))]);
        assert_eq!(page.next, None);
        assert_eq!(world.call(chat.log(&direct, 99, 1)).unwrap().entries, []);
        let standing = world.call(chat.standing(&direct, "alice")).unwrap().unwrap();
        assert_eq!((&*standing.user, standing.role), ("alice", None));
        assert_eq!(world.call(chat.standing(&direct, "carol")).unwrap(), None);
        if !crashed {
            world.crash(false);
            world.settle();
        }
    }
    let nowhere = ChatRef::named("nowhere");
    assert_eq!(world.call(chat.standing(&nowhere, "alice")).unwrap(), None);
    assert_eq!(code(&world.call(chat.log(&nowhere, 1, 1)).unwrap_err()), "unknown_chat");
    let room = world.call(chat.make_room()).unwrap();
    let place = ChatRef::named(&room.name);
    let seat = format!("{}.1", room.name);
    assert!(world.call(chat.standing(&place, &seat)).unwrap().is_some());
    assert_eq!(world.call(chat.log(&place, 1, 9)).unwrap().last, 0);
    world.call(chat.end_room(&room.name)).unwrap();
    assert_eq!(code(&world.call(chat.standing(&place, &seat)).unwrap_err()), "ended");
    assert_eq!(code(&world.call(chat.log(&place, 1, 9)).unwrap_err()), "ended");
}

#[test]
fn program_sees_how_far_each_device_is() {
    let mut world = World::new(2);
    let chat = world.handle_of_chat();
    let alice = world.device("alice", "phone");
    let (phone, laptop) = (world.device("bob", "phone"), world.device("bob", "laptop"));
    world.settle();
    world.disconnect(laptop, Disconnection::Abrupt);
    for _ in 0..3 {
        world.publish(alice, "chat/@bob/send", b"hello");
    }
    world.settle();
    world.publish(phone, "chat/@alice/read", b"2");
    world.settle();
    let direct = ChatRef::direct("bob", "alice");
    let survey = world.call(chat.survey(&direct, None, 10)).unwrap();
    assert_eq!((survey.last, survey.count), (3, 2));
    let bob = &survey.members[1];
    assert_eq!((&*bob.user, bob.role, bob.delivered, bob.read), ("bob", None, 3, 2));
    let mut devices = bob.devices.clone();
    devices.sort();
    assert_eq!(devices, [("laptop".into(), 0), ("phone".into(), 3)]);
    let none = world.call(chat.survey(&ChatRef::direct("x", "y"), None, 10)).unwrap_err();
    assert_eq!(code(&none), "unknown_chat");
}

#[test]
fn listener_hears_what_is_stored_delivered_and_read_and_who_is_not_there() {
    for shards in [1, 3] {
        let mut world = World::new(shards);
        let chat = world.handle_of_chat();
        let mut events = chat.events(100).unwrap();
        let alice = world.device("alice", "phone");
        world.publish(alice, "chat/@bob/send", b"one");
        world.publish(alice, "chat/@bob/send", b"two");
        world.run();
        assert_eq!(all(&mut events), [], "nothing is safe yet");
        world.settle();
        let direct = ChatRef::direct("alice", "bob");
        let heard = all(&mut events);
        let stored: Vec<_> = heard
            .iter()
            .filter_map(|event| match event {
                ChatEvent::Stored(it) => {
                    Some((it.chat.clone(), it.seq, &*it.from, &it.payload[..]))
                }
                _ => None,
            })
            .collect();
        let expected: [(ChatRef, u64, &str, &[u8]); 2] =
            [(direct.clone(), 1, "alice", b"one"), (direct.clone(), 2, "alice", b"two")];
        assert_eq!(stored, expected);
        let offline = |seq, depth| {
            let (chat, user) = (direct.clone(), "bob".into());
            ChatEvent::Offline { chat, user, seq, depth }
        };
        assert!(heard.contains(&offline(1, 1)) && heard.contains(&offline(2, 2)), "{heard:?}");
        let bob = world.device("bob", "phone");
        world.settle();
        world.publish(bob, "chat/@alice/read", b"2");
        world.settle();
        let heard = all(&mut events);
        let (user, seq) = (std::sync::Arc::from("bob"), 2);
        let delivered =
            ChatEvent::Delivered { chat: direct.clone(), user: std::sync::Arc::clone(&user), seq };
        let read = ChatEvent::Read { chat: direct.clone(), user, seq };
        assert_eq!(heard, [delivered, read]);
        // Somebody is there: no push is due.
        world.publish(alice, "chat/@bob/send", b"three");
        world.settle();
        let heard = all(&mut events);
        assert!(!heard.iter().any(|event| matches!(event, ChatEvent::Offline { .. })), "{heard:?}");
        // In a group, of each; what is no message wakes nobody.
        world.publish(alice, "chat/climbing/create", br#"{"users":["bob","carol"]}"#);
        world.settle();
        let heard = all(&mut events);
        assert!(!heard.iter().any(|event| matches!(event, ChatEvent::Offline { .. })), "{heard:?}");
        world.publish(bob, "chat/climbing/send", b"who comes?");
        world.settle();
        let group = ChatRef::named("climbing");
        let expected = ChatEvent::Offline { chat: group, user: "carol".into(), seq: 2, depth: 2 };
        let offline: Vec<_> = all(&mut events)
            .into_iter()
            .filter(|event| matches!(event, ChatEvent::Offline { .. }))
            .collect();
        assert_eq!(offline, [expected]);
    }
}

#[test]
fn listener_that_is_too_slow_loses_events_and_hears_how_many() {
    let mut world = World::new(1);
    let chat = world.handle_of_chat();
    let mut events = chat.events(2).unwrap();
    let mut other = chat.events(100).unwrap();
    let gone = chat.events(1).unwrap();
    drop(gone);
    let alice = world.device("alice", "phone");
    for _ in 0..5 {
        world.publish(alice, "chat/@alice/send", b"note");
    }
    world.settle();
    // Five entries, and that her device has them.
    let (heard, whole) = (all(&mut events), all(&mut other));
    assert_eq!((heard.len(), whole.len()), (3, 6), "{heard:?}");
    assert_eq!(heard[0], ChatEvent::Lost { count: 4 });
    assert_eq!(heard[1..], whole[..2]);
    assert_eq!(world.outside.counted, [Metric::EventsLost; 4]);
    world.publish(alice, "chat/@alice/send", b"note");
    world.settle();
    assert!(matches!(&all(&mut events)[0], ChatEvent::Stored(entry) if entry.seq == 6));
}

#[test]
fn calls_say_when_there_is_nobody_to_ask() {
    let mut world = World::new(1);
    let alone = Chat::default().handle();
    assert_eq!(world.call(alone.make_room()), Err(CallError::NotStarted));
    assert!(alone.events(1).is_err());
    let mut options = ChatOptions::default();
    options.calls_max = 1;
    let mut world = World::with(1, options, 0);
    let chat = world.handle_of_chat();
    let direct = ChatRef::direct("alice", "bob");
    let first = chat.survey(&direct, None, 1);
    let mut first = std::pin::pin!(first);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert_eq!(world.call(chat.survey(&direct, None, 1)), Err(CallError::Busy(1)));
    assert!(matches!(world.call(first), Err(CallError::Refused { .. })));
    assert!(matches!(world.call(chat.survey(&direct, None, 1)), Err(CallError::Refused { .. })));
}

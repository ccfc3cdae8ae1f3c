//! Rooms: two seats opened by link and code, in memory only, over when one says so or time does.

use std::time::Duration;

use tidings_chat::{CallError, ChatOptions, Room};
use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{World, number, text};

/// A room, and the users of its two seats.
fn room(world: &mut World) -> (Room, [String; 2]) {
    let chat = world.handle_of_chat();
    let room = world.call(chat.make_room()).unwrap();
    let users = room
        .seats
        .clone()
        .map(|key| world.call(chat.login(&key.link, key.code.as_bytes())).unwrap());
    (room, users)
}

/// A connection of a seat that hears everything; nothing of it is kept.
fn sit(world: &mut World, user: &str, client_id: &str) -> SessionId {
    let id = world.connect_as(user, client_id, Version::V5, false);
    world.subscribe(id, "me/json/#", QoS::AtLeastOnce);
    world.run();
    id
}

fn texts(world: &mut World, id: SessionId) -> Vec<String> {
    world.take_heard(id, "message").iter().map(|body| text(body, "text").unwrap()).collect()
}

#[test]
fn two_seats_talk_as_in_a_direct_chat_and_nothing_of_it_is_stored() {
    for shards in [1, 3] {
        let mut world = World::new(shards);
        let (room, [one, two]) = room(&mut world);
        assert_eq!([one.clone(), two.clone()], [1, 2].map(|seat| format!("{}.{seat}", room.name)));
        let (alice, bob) = (sit(&mut world, &one, "phone"), sit(&mut world, &two, "laptop"));
        assert_eq!(world.allows(&one, &format!("presence/{two}")), Ok(()));
        world.subscribe(alice, &format!("presence/{two}"), QoS::AtMostOnce);
        let sent = world.publish(alice, "chat/~/send/m1", b"unspeakable");
        world.run();
        // No disk to wait for.
        assert_eq!((world.answer(sent), world.seq(sent)), (Some(ReasonCode::Success), Some(1)));
        let heard = world.session(bob).heard[0].clone();
        assert_eq!(heard.topic, format!("me/json/{}/message", room.name));
        assert_eq!(text(&heard.body, "from"), Some(one.clone()));
        world.publish(bob, &format!("chat/{}/typing", room.name), b"typing");
        world.settle();
        assert_eq!(text(&world.take_heard(alice, "typing")[0], "user"), Some(two.clone()));
        let ticks = world.take_heard(alice, "receipt");
        assert_eq!(number(ticks.last().unwrap(), "delivered"), Some(1), "{ticks:?}");
        world.publish(bob, "chat/~/read", b"1");
        world.settle();
        let ticks = world.take_heard(alice, "receipt");
        assert_eq!(number(ticks.last().unwrap(), "read"), Some(1), "{ticks:?}");
        let again = world.publish(alice, "chat/~/send/m1", b"unspeakable");
        let other = world.publish(alice, "chat/~/send/m1", b"other");
        world.publish(alice, "chat/~/history", b"{}");
        world.publish(alice, "me/sync", b"{}");
        world.settle();
        assert_eq!(world.seq(again), Some(1));
        assert_eq!(world.property(other, "code").as_deref(), Some("conflict"));
        assert_eq!(world.take_answer(alice, "history")["entries"][0]["text"], "unspeakable");
        assert_eq!(world.take_answer(alice, "sync")["chats"][0]["chat"], *room.name);
        let online = world.take_heard(alice, &format!("presence/{two}"));
        assert_eq!(text(&online[0], "state").as_deref(), Some("online"));
        // Not a row, of the chat or of its users.
        assert_eq!((world.rows().len(), world.stored_counts().2), (0, 0));
    }
}

#[test]
fn names_of_the_two_are_told_with_the_seat_and_with_info() {
    let mut world = World::new(3);
    let chat = world.handle_of_chat();
    let room = world.call(chat.make_room_for(["  Ann ", "Ben"])).unwrap();
    let [one, two] = &room.seats;
    let ann = world.call(chat.open_seat(&one.link, one.code.as_bytes())).unwrap();
    let names = |seat: &tidings_chat::Opened| (seat.name.clone(), seat.other_name.clone());
    assert_eq!(names(&ann), (Some("Ann".into()), Some("Ben".into())));
    let ben = world.call(chat.open_seat(&two.link, two.code.as_bytes())).unwrap();
    assert_eq!(names(&ben), (Some("Ben".into()), Some("Ann".into())));
    assert_eq!((&*ann.other, &*ben.other), (&*ben.user, &*ann.user));
    let id = sit(&mut world, &ann.user, "phone");
    world.publish(id, "chat/~/info", b"{}");
    world.settle();
    let members = world.take_answer(id, "info")["members"].clone();
    assert_eq!([&members[0]["name"], &members[1]["name"]], ["Ann", "Ben"], "{members}");
    assert_eq!(members[0]["user"], *ann.user);

    for wrong in ["", "  ", "a\nb", "a\u{202e}b", &"x".repeat(41)] {
        let refused = world.call(chat.make_room_for(["Ann", wrong])).unwrap_err();
        assert!(matches!(refused, CallError::Name { .. }), "{wrong:?}: {refused}");
    }
    assert!(world.call(chat.make_room_for(["é".repeat(40).as_str(), "2"])).is_ok());
    // A room that nobody gave names to has none.
    let room = world.call(chat.make_room()).unwrap();
    let seat = world.call(chat.open_seat(&room.seats[0].link, room.seats[0].code.as_bytes()));
    assert_eq!(names(&seat.unwrap()), (None, None));
    assert!(world.rows().is_empty());
}

#[test]
fn what_is_said_in_a_room_can_be_edited_reacted_to_and_taken_back() {
    let mut world = World::new(2);
    let (_, [one, two]) = room(&mut world);
    let (alice, bob) = (sit(&mut world, &one, "phone"), sit(&mut world, &two, "phone"));
    for said in ["helo", "taken back"] {
        world.publish(alice, "chat/~/send", said.as_bytes());
    }
    world.settle();
    let done = [
        world.publish(alice, "chat/~/edit/1", b"hello"),
        world.publish(bob, "chat/~/react/1", b"+1"),
        world.publish(alice, "chat/~/delete/2", b"everyone"),
    ];
    let not_there = world.publish(bob, "chat/~/timer", br#"{"seconds":60}"#);
    world.settle();
    assert!(done.iter().all(|serial| world.answer(*serial) == Some(ReasonCode::Success)));
    assert!(world.answer(not_there).unwrap().is_error());
    let heard = world.take_heard(bob, "message");
    let kinds: Vec<_> = heard.iter().filter_map(|body| text(body, "kind")).collect();
    assert_eq!(kinds, ["edit", "delete"], "{heard:?}");
    assert_eq!(text(&world.take_heard(alice, "message")[0], "kind").as_deref(), Some("reaction"));
    // Who comes now sees it as it is.
    let late = sit(&mut world, &two, "tablet");
    world.settle();
    let shown = world.take_heard(late, "message");
    assert!(!shown.iter().any(|body| body.contains("taken back")), "{shown:?}");
    assert!(world.rows().is_empty());
}

#[test]
fn same_link_and_code_show_the_chat_as_it_is_on_any_device() {
    let mut world = World::new(2);
    let (_, [one, two]) = room(&mut world);
    let alice = sit(&mut world, &one, "phone");
    for said in ["a", "b", "c"] {
        world.publish(alice, "chat/~/send", said.as_bytes());
    }
    world.settle();
    let bob = sit(&mut world, &two, "phone");
    world.settle();
    assert_eq!(texts(&mut world, bob), ["a", "b", "c"]);
    world.publish(bob, "chat/~/send", b"d");
    world.settle();
    world.disconnect(bob, Disconnection::Clean);
    world.settle();
    // Another device, and the same again, whatever the broker is asked to keep.
    let laptop = world.connect_as(&two, "laptop", Version::V311, true);
    world.subscribe(laptop, "me/json/#", QoS::AtLeastOnce);
    let bob = sit(&mut world, &two, "phone");
    world.settle();
    assert_eq!(texts(&mut world, laptop), ["a", "b", "c", "d"]);
    assert_eq!(texts(&mut world, bob), ["a", "b", "c", "d"]);
    world.publish(alice, "chat/~/send", b"e");
    world.settle();
    assert_eq!(
        (texts(&mut world, laptop), texts(&mut world, bob)),
        (vec!["e".into()], vec!["e".into()])
    );
    // Who hears with QoS 0 hears what is new.
    let radio = world.connect_as(&two, "radio", Version::V5, false);
    world.subscribe(radio, "me/json/#", QoS::AtMostOnce);
    world.publish(alice, "chat/~/send", b"f");
    world.settle();
    assert_eq!(texts(&mut world, radio), ["f"]);
    assert!(world.rows().is_empty());
}

#[test]
fn wrong_codes_cost_time_and_then_the_seat_and_never_tell_whether_there_is_one() {
    let mut options = ChatOptions::default();
    (options.room_idle, options.room_lifetime) =
        (Duration::from_secs(1 << 30), Duration::from_secs(1 << 30));
    let mut world = World::with(2, options, 0);
    let (room, _) = room(&mut world);
    let chat = world.handle_of_chat();
    let key = &room.seats[0];
    let (code, wrong) = (key.code.as_bytes(), b"WRONG234");
    let opened = world.call(chat.open_seat(&key.link, code)).unwrap();
    for link in [&*key.link, "~nothing", "bob", ""] {
        let refused = world.call(chat.open_seat(link, wrong));
        assert_eq!(refused, Err(CallError::NotOpened), "{link}");
    }
    // A right one forgives what was wrong before it.
    assert!(world.call(chat.open_seat(&key.link, code)).is_ok());
    for _ in 0..5 {
        assert!(world.call(chat.open_seat(&key.link, wrong)).is_err());
    }
    assert_eq!(world.call(chat.open_seat(&key.link, code)), Err(CallError::NotOpened));
    assert!(world.call(chat.open_seat(&key.link, opened.token.as_bytes())).is_ok());
    world.advance(Duration::from_secs(29));
    assert!(world.call(chat.open_seat(&key.link, code)).is_err());
    world.advance(Duration::from_secs(1));
    assert!(world.call(chat.open_seat(&key.link, code)).is_ok());
    // Each wait is twice as long as the one before, and at last there is none that helps.
    for _ in 0..5 {
        assert!(world.call(chat.open_seat(&key.link, wrong)).is_err());
    }
    for wait in [30, 60, 120, 240, 480] {
        world.advance(Duration::from_secs(wait));
        assert!(world.call(chat.open_seat(&key.link, wrong)).is_err());
        world.advance(Duration::from_secs(wait));
        let closed = world.call(chat.open_seat(&key.link, code));
        assert!(closed.is_err(), "twice as long: {wait}");
    }
    world.advance(Duration::from_secs(7 * 24 * 60 * 60));
    assert!(world.call(chat.open_seat(&key.link, code)).is_err());
    assert!(world.call(chat.open_seat(&key.link, opened.token.as_bytes())).is_ok());
    // The other seat has nothing to do with it.
    let other = &room.seats[1];
    let opened = world.call(chat.open_seat(&other.link, other.code.as_bytes())).unwrap();
    assert_eq!((opened.user, opened.room), (format!("{}.2", room.name), room.name));
}

#[test]
fn end_by_one_ends_it_for_both_and_leaves_nothing() {
    let mut world = World::new(2);
    let (room, [one, two]) = room(&mut world);
    let (alice, bob) = (sit(&mut world, &one, "phone"), sit(&mut world, &two, "phone"));
    world.publish(alice, "chat/~/send", b"unspeakable");
    world.settle();
    let ended = world.publish(bob, &format!("chat/{}/end", room.name), b"");
    world.settle();
    assert_eq!(world.answer(ended), Some(ReasonCode::Success));
    for id in [alice, bob] {
        assert_eq!(world.take_heard(id, "ended"), [r#"{"seq":1,"why":"end"}"#]);
        for command in ["send", "end", "history", "read", "typing", "signal"] {
            let late = world.publish(id, &format!("chat/{}/{command}", room.name), b"1");
            world.settle();
            assert!(world.answer(late).unwrap().is_error(), "{command}");
        }
    }
    let chat = world.handle_of_chat();
    for key in &room.seats {
        let opened = world.call(chat.open_seat(&key.link, key.code.as_bytes()));
        assert_eq!(opened, Err(CallError::NotOpened));
    }
    assert!(world.call(chat.end_room(&room.name)).is_err());
    // Whoever still comes under that name, with a login from before, hears that it is over.
    world.disconnect(alice, Disconnection::Clean);
    let late = sit(&mut world, &one, "laptop");
    world.settle();
    assert!(world.take_heard(late, "message").is_empty());
    assert_eq!(world.take_heard(late, "ended").len(), 1);
}

#[test]
fn program_around_the_broker_ends_a_room() {
    let mut world = World::new(1);
    let (room, [one, _]) = room(&mut world);
    let alice = sit(&mut world, &one, "phone");
    let chat = world.handle_of_chat();
    assert_eq!(world.call(chat.end_room(&room.name)), Ok(()));
    world.settle();
    assert_eq!(world.take_heard(alice, "ended").len(), 1);
    assert!(matches!(world.call(chat.end_room("climbing")), Err(CallError::Name { .. })));
}

#[test]
fn room_is_over_when_nobody_writes_or_comes_and_the_two_are_told_before() {
    let mut world = World::new(2);
    let (_, [one, two]) = room(&mut world);
    let alice = sit(&mut world, &one, "phone");
    let bob = sit(&mut world, &two, "phone");
    world.advance(Duration::from_secs(28 * 60));
    assert!(world.take_heard(bob, "ending").is_empty());
    world.publish(alice, "chat/~/send", b"still there?");
    world.settle();
    world.advance(Duration::from_secs(28 * 60));
    assert!(world.take_heard(bob, "ending").is_empty(), "a message puts it off");
    world.advance(Duration::from_secs(60));
    for id in [alice, bob] {
        let told = world.take_heard(id, "ending");
        assert_eq!(told.len(), 1);
        assert_eq!(text(&told[0], "why").as_deref(), Some("idle"));
        let left = number(&told[0], "at").unwrap() - world.now.as_millis();
        assert!((58_000..=60_000).contains(&left), "{left}");
    }
    // Somebody comes in the last minute.
    world.disconnect(bob, Disconnection::Clean);
    let bob = sit(&mut world, &two, "phone");
    world.advance(Duration::from_secs(28 * 60));
    assert!(world.take_heard(alice, "ended").is_empty(), "a connection puts it off");
    world.advance(Duration::from_secs(3 * 60));
    for id in [alice, bob] {
        assert_eq!(world.take_heard(id, "ending").len(), 1);
        assert_eq!(world.take_heard(id, "ended"), [r#"{"seq":1,"why":"idle"}"#]);
    }
}

#[test]
fn room_is_over_after_its_lifetime_whatever_is_said() {
    let mut options = ChatOptions::default();
    options.room_lifetime = Duration::from_secs(3_600);
    let mut world = World::with(1, options, 0);
    let (_, [one, _]) = room(&mut world);
    let alice = sit(&mut world, &one, "phone");
    for _ in 0..6 {
        world.advance(Duration::from_secs(590));
        world.publish(alice, "chat/~/send", b"on and on");
    }
    world.settle();
    world.advance(Duration::from_secs(60));
    let told = world.take_heard(alice, "ending");
    assert_eq!(told.iter().map(|body| text(body, "why").unwrap()).collect::<Vec<_>>(), ["timeout"]);
    assert_eq!(world.take_heard(alice, "ended"), [r#"{"seq":6,"why":"timeout"}"#]);
}

#[test]
fn nobody_else_is_in_a_room_and_a_seat_is_nowhere_else() {
    let mut world = World::new(2);
    let (mine, [one, two]) = room(&mut world);
    let (theirs, _) = room(&mut world);
    let alice = sit(&mut world, &one, "phone");
    let bob = world.device("bob", "phone");
    world.publish(bob, "chat/climbing/create", b"{}");
    world.settle();
    let code = |world: &mut World, id, topic: &str| {
        let serial = world.publish(id, topic, b"{}");
        world.settle();
        world.property(serial, "code")
    };
    for topic in ["send", "history", "info", "end", "signal"] {
        let topic = format!("chat/{}/{topic}", mine.name);
        assert_eq!(code(&mut world, bob, &topic).as_deref(), Some("forbidden"), "{topic}");
    }
    let other = format!("chat/{}/send", theirs.name);
    let own = format!("chat/@{one}/send");
    for topic in
        ["chat/@bob/send", "chat/climbing/send", "chat/mine/create", "pair/x", &other, &own]
    {
        assert!(code(&mut world, alice, topic).is_some(), "{topic}");
    }
    assert!(world.take_heard(bob, "message").iter().all(|body| text(body, "kind").is_some()));
    let allows = |user: &str, watched: &str| world.allows(user, &format!("presence/{watched}"));
    assert_eq!(allows(&one, &two), Ok(()));
    assert_eq!(allows(&one, "bob"), Err(ReasonCode::NotAuthorized));
    assert_eq!(allows("bob", &one), Err(ReasonCode::NotAuthorized));
    assert_eq!(allows(&one, &format!("{}.1", theirs.name)), Err(ReasonCode::NotAuthorized));
    assert_eq!(world.allows("bob", "presence/alice"), Ok(()));
}

#[test]
fn room_that_is_full_drops_its_oldest_entries_and_says_what_is_gone() {
    let mut options = ChatOptions::default();
    options.room_bytes_max = 64 * 1024;
    // That is for chats that keep what somebody has not got.
    options.chat_entries_max = 10;
    let mut world = World::with(1, options, 0);
    let (_, [one, two]) = room(&mut world);
    let alice = sit(&mut world, &one, "phone");
    let long = vec![b'x'; 1_000];
    for number in 0..200 {
        world.publish(alice, &format!("chat/~/send/m{number}"), &long);
        world.run();
    }
    let bob = sit(&mut world, &two, "phone");
    world.settle();
    let seqs = world.take_seqs(bob);
    assert_eq!(seqs, (seqs[0]..=200).collect::<Vec<_>>());
    assert!((30..60).contains(&seqs.len()), "{}", seqs.len());
    world.publish(bob, "chat/~/history", br#"{"from":1,"limit":200}"#);
    world.settle();
    let history = world.take_answer(bob, "history");
    assert_eq!(history["gone"][0], serde_json::json!([1, seqs[0] - 1]));
    let again = world.publish(alice, "chat/~/send/m199", &long);
    world.settle();
    assert_eq!(world.seq(again), Some(200));
}

#[test]
fn rooms_are_bounded_and_none_outlives_a_crash() {
    let mut options = ChatOptions::default();
    options.rooms_max = 1;
    let mut world = World::with(1, options, 0);
    let (made, [one, _]) = room(&mut world);
    let chat = world.handle_of_chat();
    let refused = world.call(chat.make_room()).unwrap_err();
    assert!(matches!(refused, CallError::Refused { code: "limit", .. }), "{refused}");
    let alice = sit(&mut world, &one, "phone");
    world.publish(alice, "chat/~/send", b"unspeakable");
    world.settle();
    world.crash(true);
    assert!(world.rows().is_empty());
    let key = &made.seats[0];
    assert!(world.call(chat.open_seat(&key.link, key.code.as_bytes())).is_err());
    let (_, [one, _]) = room(&mut world);
    assert_ne!(one, format!("{}.1", made.name), "no name is given twice");
}

#[test]
fn signals_reach_the_other_at_once_or_never() {
    let mut world = World::new(2);
    let (room, [one, two]) = room(&mut world);
    let alice = sit(&mut world, &one, "phone");
    let early = world.publish(alice, "chat/~/signal", b"offer");
    world.settle();
    assert_eq!(world.property(early, "code").as_deref(), Some("late"));
    let (bob, more) = (sit(&mut world, &two, "phone"), sit(&mut world, &two, "laptop"));
    world.settle();
    assert!(world.take_heard(bob, "signal").is_empty());
    let offer = world.publish(alice, "chat/~/signal", b"offer");
    world.publish_qos0(alice, "chat/~/signal", &[0xff]);
    world.settle();
    assert_eq!(world.answer(offer), Some(ReasonCode::Success));
    let told = [
        format!(r#"{{"from":"{one}","text":"offer"}}"#),
        format!(r#"{{"from":"{one}","data":"/w=="}}"#),
    ];
    assert_eq!(world.take_heard(bob, "signal"), told);
    assert_eq!(world.take_heard(more, "signal"), told);
    assert!(world.take_heard(alice, "signal").is_empty());
    let large = world.publish(alice, "chat/~/signal", &vec![b'x'; 16 * 1024 + 1]);
    let many: Vec<u64> =
        (0..70).map(|_| world.publish(alice, "chat/~/signal", b"candidate")).collect();
    world.settle();
    assert_eq!(world.property(large, "code").as_deref(), Some("size"));
    let refused = many.iter().filter(|serial| world.answer(**serial).unwrap().is_error());
    assert_eq!(refused.count(), 10, "a burst of 60");
    let last = *many.last().unwrap();
    assert_eq!(world.property(last, "code").as_deref(), Some("limit"));
    assert!(world.property(last, "retry_after").is_some());
    world.publish(bob, "chat/~/history", b"{}");
    world.settle();
    assert_eq!(world.take_answer(bob, "history")["last"], 0, "{}", room.name);
}

#[test]
fn no_link_code_or_name_of_a_room_says_anything_of_another() {
    let mut world = World::new(2);
    let chat = world.handle_of_chat();
    let mut words = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let room = world.call(chat.make_room()).unwrap();
        let [one, two] = &room.seats;
        for long in [&room.name, &one.link, &two.link] {
            // 12 random bytes, so that nobody finds one by trying.
            assert_eq!(long.len(), 17, "{long}");
            assert!(long.starts_with('~'));
        }
        for word in [&room.name, &one.link, &two.link, &one.code, &two.code] {
            assert!(words.insert(word[..word.len().min(9)].to_owned()), "{word} is like another");
        }
        assert_eq!((one.code.len(), two.code.len()), (8, 8));
    }
}

//! Pairing: strangers who share something, anyone after a while, nobody twice.

use std::collections::BTreeSet;
use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};
use tidings_core::metric::Metric;

use crate::harness::{World, text};

fn world(shards: u16) -> World {
    let mut options = ChatOptions::default();
    options.pairing = true;
    World::with(shards, options, 0)
}

/// Somebody who comes in as nobody.
fn guest(world: &mut World) -> SessionId {
    let chat = world.handle_of_chat();
    let user = world.call(chat.login("~anon", b"")).unwrap();
    assert!(user.starts_with("~anon-"), "{user}");
    let id = world.connect_as(&user, "phone", Version::V5, false);
    world.subscribe(id, "me/json/#", QoS::AtLeastOnce);
    world.run();
    id
}

/// Waits in a pool; returns the Reason Code.
fn wait(world: &mut World, id: SessionId, interests: &[&str]) -> ReasonCode {
    let payload = serde_json::json!({ "interests": interests }).to_string();
    let serial = world.publish(id, "pair/talk", payload.as_bytes());
    world.run();
    world.answer(serial).unwrap()
}

/// The room somebody was paired into, and over what.
fn paired(world: &mut World, id: SessionId) -> Option<(String, Option<String>)> {
    let heard = world.take_heard(id, "paired").pop()?;
    Some((text(&heard, "chat").unwrap(), text(&heard, "interest")))
}

#[test]
fn two_who_share_an_interest_are_in_a_room_at_once_and_talk() {
    for shards in [1, 4] {
        let mut world = world(shards);
        let (ann, ben) = (guest(&mut world), guest(&mut world));
        assert_eq!(wait(&mut world, ann, &["Jazz ", "rust"]), ReasonCode::Success);
        assert_eq!(paired(&mut world, ann), None);
        wait(&mut world, ben, &["jazz"]);
        let (room, interest) = paired(&mut world, ann).unwrap();
        assert_eq!(paired(&mut world, ben), Some((room.clone(), Some("jazz".into()))));
        assert_eq!(interest.as_deref(), Some("jazz"));
        let partner = world.session(ben).user.clone();
        let user = world.session(ann).user.clone();
        assert_eq!(world.allows(&user, &format!("presence/{partner}")), Ok(()));
        world.publish(ann, "chat/~/send", b"hello");
        world.publish(ben, &format!("chat/{room}/typing"), b"typing");
        world.settle();
        assert_eq!(world.take_heard(ben, "message").len(), 1);
        assert_eq!(world.take_heard(ann, "typing").len(), 1);
        assert!(world.rows().is_empty());
        world.publish(ben, "chat/~/end", b"");
        world.settle();
        assert_eq!(world.take_heard(ann, "ended"), [r#"{"seq":1,"why":"end"}"#]);
        assert!(world.allows(&user, &format!("presence/{partner}")).is_err());
        // And both may wait again.
        assert_eq!(wait(&mut world, ann, &[]), ReasonCode::Success);
    }
}

#[test]
fn rarest_shared_interest_decides_and_of_those_who_has_waited_longest() {
    let mut world = world(1);
    let [ann, ben, cat, dan, eve] = [(); 5].map(|()| guest(&mut world));
    // Two who have met wait for the same, and are not for each other.
    wait(&mut world, ann, &["x"]);
    wait(&mut world, ben, &["x"]);
    world.publish(ann, "chat/~/end", b"");
    world.run();
    assert!(paired(&mut world, ann).is_some() && paired(&mut world, ben).is_some());
    wait(&mut world, ann, &["music"]);
    wait(&mut world, ben, &["music"]);
    wait(&mut world, cat, &["zen"]);
    wait(&mut world, dan, &["music", "zen"]);
    assert_eq!(paired(&mut world, dan).unwrap().1.as_deref(), Some("zen"));
    assert!(paired(&mut world, cat).is_some());
    wait(&mut world, eve, &["music", "zen"]);
    assert_eq!(paired(&mut world, eve), paired(&mut world, ann));
    assert_eq!(paired(&mut world, ben), None);
}

#[test]
fn after_a_while_anyone_will_do_and_who_names_nothing_takes_the_first_who_is_free() {
    let mut world = world(2);
    let (ann, ben, cat) = (guest(&mut world), guest(&mut world), guest(&mut world));
    wait(&mut world, ann, &["jazz"]);
    wait(&mut world, ben, &[]);
    assert_eq!(paired(&mut world, ben), None, "she still hopes for jazz");
    wait(&mut world, cat, &[]);
    let (room, interest) = paired(&mut world, cat).unwrap();
    assert_eq!((paired(&mut world, ben).unwrap().0, interest), (room, None));
    world.advance(Duration::from_secs(9));
    let dan = guest(&mut world);
    wait(&mut world, dan, &["chess"]);
    assert_eq!(paired(&mut world, ann), None);
    world.advance(Duration::from_secs(1));
    assert_eq!(paired(&mut world, ann), None, "he still hopes for chess");
    world.advance(Duration::from_secs(9));
    assert_eq!(paired(&mut world, ann).unwrap(), paired(&mut world, dan).unwrap());
    let (eve, fay) = (guest(&mut world), guest(&mut world));
    wait(&mut world, eve, &["tea"]);
    world.advance(Duration::from_secs(10));
    wait(&mut world, fay, &[]);
    assert_eq!(paired(&mut world, fay), paired(&mut world, eve));
}

#[test]
fn nobody_meets_the_same_one_again_before_long() {
    let mut world = world(2);
    let (ann, ben) = (guest(&mut world), guest(&mut world));
    wait(&mut world, ann, &["jazz"]);
    wait(&mut world, ben, &["jazz"]);
    let (first, _) = paired(&mut world, ann).unwrap();
    // In a room one does not wait for another.
    assert!(wait(&mut world, ann, &["jazz"]).is_error());
    world.settle();
    let next = world.publish(ann, "pair/talk/next", br#"{"interests":["jazz"]}"#);
    world.settle();
    assert_eq!(world.answer(next), Some(ReasonCode::Success));
    assert_eq!(world.take_heard(ben, "ended"), [r#"{"seq":0,"why":"next"}"#]);
    wait(&mut world, ben, &["jazz"]);
    world.advance(Duration::from_secs(30));
    assert_eq!(paired(&mut world, ann), None);
    let cat = guest(&mut world);
    wait(&mut world, cat, &["jazz"]);
    let (second, _) = paired(&mut world, cat).unwrap();
    assert_ne!(first, second);
    assert_eq!(paired(&mut world, ann).unwrap().0, second, "she has waited longest");
    assert_eq!(world.take_heard(ben, "paired").len(), 1);
    // Much later they may.
    world.publish(ann, "chat/~/end", b"");
    world.advance(Duration::from_secs(3_600));
    wait(&mut world, ann, &["jazz"]);
    wait(&mut world, ben, &["jazz"]);
    assert_eq!(paired(&mut world, ann), paired(&mut world, ben));
}

#[test]
fn who_waits_may_leave_and_time_and_a_lost_connection_do_the_same() {
    let mut world = world(2);
    let (ann, ben) = (guest(&mut world), guest(&mut world));
    wait(&mut world, ann, &[]);
    let left = world.publish(ann, "pair/talk/leave", b"");
    world.run();
    assert_eq!(world.answer(left), Some(ReasonCode::Success));
    wait(&mut world, ben, &[]);
    assert_eq!((paired(&mut world, ann), paired(&mut world, ben)), (None, None));
    world.disconnect(ben, Disconnection::Abrupt);
    let serial = world.publish(ann, "pair/talk", br#"{"ttl":5}"#);
    world.run();
    assert_eq!(world.answer(serial), Some(ReasonCode::Success));
    assert_eq!(paired(&mut world, ann), None);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.take_heard(ann, "unpaired"), [r#"{"pool":"talk"}"#]);
    let cat = guest(&mut world);
    wait(&mut world, cat, &[]);
    assert_eq!(paired(&mut world, cat), None);
}

#[test]
fn who_goes_for_good_ends_the_room_and_who_comes_back_in_time_does_not() {
    let mut world = world(2);
    let chat = world.handle_of_chat();
    let secret = b"sixteen bytes or more";
    let user = world.call(chat.login("~anon", secret)).unwrap();
    assert_eq!(world.call(chat.login("~anon", secret)).unwrap(), user);
    assert_ne!(world.call(chat.login("~anon", b"short")).unwrap(), user);
    let ann = world.connect_as(&user, "phone", Version::V311, false);
    world.subscribe(ann, "me/json/#", QoS::AtLeastOnce);
    let ben = guest(&mut world);
    wait(&mut world, ann, &[]);
    wait(&mut world, ben, &[]);
    world.publish(ben, "chat/~/send", b"still there?");
    world.settle();
    world.disconnect(ann, Disconnection::Abrupt);
    world.advance(Duration::from_secs(4));
    let ann = world.connect_as(&user, "phone", Version::V311, false);
    world.subscribe(ann, "me/json/#", QoS::AtLeastOnce);
    world.settle();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.take_heard(ann, "message").len(), 1);
    world.disconnect(ann, Disconnection::Clean);
    world.settle();
    assert_eq!(world.take_heard(ben, "ended"), [r#"{"seq":1,"why":"gone"}"#]);
    // She comes a moment later: there is nothing for her any more.
    let ann = world.connect_as(&user, "phone", Version::V311, false);
    world.subscribe(ann, "me/json/#", QoS::AtLeastOnce);
    world.settle();
    assert!(world.take_heard(ann, "message").is_empty());
}

#[test]
fn pairing_is_for_guests_and_what_is_wrong_is_told() {
    let mut world = world(1);
    let bob = world.device("bob", "phone");
    let ann = guest(&mut world);
    let code = |world: &mut World, id, topic: &str, payload: &str| {
        let serial = world.publish(id, topic, payload.as_bytes());
        world.settle();
        world.property(serial, "code")
    };
    assert_eq!(code(&mut world, bob, "pair/talk", "{}").as_deref(), Some("forbidden"));
    for payload in [
        "jazz",
        r#"{"interest":["jazz"]}"#,
        r#"{"interests":[""]}"#,
        r#"{"interests":["1","2","3","4","5","6","7","8","9"]}"#,
        &format!(r#"{{"interests":["{}"]}}"#, "x".repeat(33)),
    ] {
        assert_eq!(code(&mut world, ann, "pair/talk", payload).as_deref(), Some("format"));
    }
    let chat = World::new(1).handle_of_chat();
    assert!(world.call(chat.login("~anon", b"")).is_err(), "pairing is off by default");
}

#[test]
fn a_thousand_wait_at_once_and_each_meets_the_one_who_shares_something() {
    const COUNT: usize = 1_000;
    let mut options = ChatOptions::default();
    options.pairing = true;
    options.pair_waiting_max = COUNT;
    options.pair_wait = Duration::from_secs(60);
    let mut world = World::with(3, options, 0);
    let alone = |world: &mut World, at: usize| {
        let id = guest(world);
        let code = wait(world, id, &[&format!("own-{at}")]);
        (id, code)
    };
    let first: Vec<SessionId> = (0..COUNT).map(|at| alone(&mut world, at).0).collect();
    assert!(first.iter().all(|id| world.session(*id).heard.is_empty()), "all of them wait");
    let (one_more, code) = alone(&mut world, COUNT);
    assert_eq!(code, ReasonCode::QuotaExceeded);
    assert_eq!(world.outside.counted, [Metric::LimitPairing]);
    let mut rooms = BTreeSet::new();
    for at in 0..COUNT {
        let at = at * 7 % COUNT;
        let (id, _) = alone(&mut world, at);
        let (room, interest) = paired(&mut world, id).unwrap();
        assert_eq!(interest, Some(format!("own-{at}")));
        assert_eq!(paired(&mut world, first[at]).unwrap().0, room);
        rooms.insert(room);
    }
    assert_eq!(rooms.len(), COUNT);
    world.session(one_more).heard.clear();
    wait(&mut world, one_more, &["late"]);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.take_heard(one_more, "unpaired").len(), 1, "there is room again");
}

//! Blocks, strangers, and what users let others know.

use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{QoS, ReasonCode};
use tidings_core::hook::{Disconnection, SessionId};
use tidings_core::metric::Metric;

use crate::harness::{World, number, text};

/// A world in which strangers are strangers.
fn world(shards: u16) -> World {
    World::with(shards, ChatOptions::default(), 0)
}

fn pair(world: &mut World) -> (SessionId, SessionId) {
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    world.settle();
    (alice, bob)
}

/// Alice and Bob have written to each other.
fn friends(world: &mut World) -> (SessionId, SessionId) {
    let (alice, bob) = pair(world);
    say(world, alice, "chat/@bob/send", b"hello");
    say(world, bob, "chat/@alice/send", b"hello");
    forget(world, [alice, bob]);
    (alice, bob)
}

fn forget<const N: usize>(world: &mut World, sessions: [SessionId; N]) {
    for session in sessions {
        world.session(session).heard.clear();
    }
}

/// Publishes, and waits for all that follows. The code of the refusal, if it is one.
fn say(world: &mut World, from: SessionId, topic: &str, payload: &[u8]) -> Option<String> {
    let said = world.publish(from, topic, payload);
    world.settle();
    assert!(world.answer(said).is_some(), "{topic} is not answered");
    world.property(said, "code")
}

fn code(code: &str) -> Option<String> {
    Some(code.into())
}

fn ticks(world: &mut World, session: SessionId) -> Vec<(u64, u64)> {
    let heard = world.take_heard(session, "receipt");
    let others = heard.iter().filter(|body| number(body, "delivered").is_some());
    others.map(|it| (number(it, "delivered").unwrap(), number(it, "read").unwrap())).collect()
}

fn states(world: &mut World, session: SessionId, user: &str) -> Vec<String> {
    let heard = world.take_heard(session, &format!("presence/{user}"));
    heard.iter().filter_map(|body| text(body, "state")).collect()
}

#[test]
fn who_is_blocked_is_refused_at_each_send_and_heard_of_no_more() {
    for crash in [false, true] {
        let mut world = world(3);
        let (alice, bob) = friends(&mut world);
        world.subscribe(alice, "presence/bob", QoS::AtLeastOnce);
        world.run();
        assert_eq!(states(&mut world, alice, "bob"), ["online"]);
        say(&mut world, alice, "chat/@bob/send", b"before");
        let before = ticks(&mut world, alice);
        assert_eq!(before, [(3, 0)]);
        forget(&mut world, [alice, bob]);
        assert_eq!(say(&mut world, bob, "me/block", br#"{"block":["alice"]}"#), None);
        assert_eq!(states(&mut world, alice, "bob"), ["offline"], "as one who is not there");
        let (mut alice, mut bob) = (alice, bob);
        if crash {
            world.crash(true);
            alice = world.device("alice", "laptop");
            bob = world.device("bob", "phone");
            world.settle();
        }
        assert_eq!(say(&mut world, alice, "chat/@bob/send/m1", b"hello?"), code("forbidden"));
        assert_eq!(say(&mut world, bob, "chat/@alice/send/m1", b"!"), code("forbidden"));
        assert_eq!(world.take_heard(bob, "message"), [""; 0]);
        // Neither ticks nor typing, neither to nor from.
        say(&mut world, bob, "chat/@alice/read", b"3");
        world.publish_qos0(bob, "chat/@alice/typing", b"typing");
        world.publish_qos0(alice, "chat/@bob/typing", b"typing");
        world.settle();
        assert_eq!(ticks(&mut world, alice), []);
        assert_eq!(world.take_heard(alice, "typing"), [""; 0]);
        assert_eq!(world.take_heard(bob, "typing"), [""; 0]);
        // What was sent before is where it was.
        say(&mut world, alice, "me/sync", b"");
        let chats = world.take_answer(alice, "sync")["chats"].clone();
        assert_eq!((chats[0]["last"].as_u64(), chats[0]["others"].is_null()), (Some(3), true));
        // And all of it comes back.
        assert_eq!(say(&mut world, bob, "me/block", br#"{"unblock":["alice"]}"#), None);
        assert_eq!(ticks(&mut world, alice), [(3, 3)], "what was read meanwhile too");
        assert_eq!(states(&mut world, alice, "bob").pop().as_deref(), Some("online"));
        assert_eq!(say(&mut world, alice, "chat/@bob/send/m1", b"hello?"), None);
        assert_eq!(world.take_seqs(bob), [4]);
    }
}

#[test]
fn a_block_is_answered_when_no_send_passes_it_any_more() {
    let mut world = world(2);
    let (alice, bob) = friends(&mut world);
    let blocked = world.publish(bob, "me/block", br#"{"block":["alice"]}"#);
    world.run();
    assert_eq!(world.answer(blocked), None, "a crash would take it back");
    let sent = world.publish(alice, "chat/@bob/send", b"x");
    world.settle();
    assert_eq!(world.answer(blocked), Some(ReasonCode::Success));
    assert_eq!(world.property(sent, "code"), code("forbidden"));
    // Of somebody with whom there is no chat it is answered as well.
    let other = world.publish(bob, "me/block", br#"{"block":["eve"]}"#);
    world.run();
    assert_eq!(world.answer(other), None);
    world.sync();
    assert_eq!(world.answer(other), Some(ReasonCode::Success));
}

#[test]
fn a_retry_of_what_was_taken_before_a_block_still_hears_its_place() {
    let mut world = world(2);
    let (alice, bob) = friends(&mut world);
    let sent = world.publish(alice, "chat/@bob/send/m1", b"x");
    world.settle();
    say(&mut world, bob, "me/block", br#"{"block":["alice"]}"#);
    let again = world.publish(alice, "chat/@bob/send/m1", b"x");
    world.settle();
    assert_eq!((world.seq(sent), world.seq(again)), (Some(3), Some(3)));
}

#[test]
fn who_is_blocked_begins_no_chat_and_adds_nobody_to_a_group() {
    let mut world = world(3);
    let (alice, bob) = pair(&mut world);
    say(&mut world, bob, "me/block", br#"{"block":["alice"]}"#);
    assert_eq!(say(&mut world, alice, "chat/@bob/send", b"hello"), code("forbidden"));
    assert_eq!(say(&mut world, bob, "chat/@alice/send", b"hello"), code("forbidden"));
    say(&mut world, alice, "chat/climbing/create", b"");
    let add = br#"{"users":["bob","carol"]}"#;
    assert_eq!(say(&mut world, alice, "chat/climbing/add", add), code("forbidden"));
    let create = br#"{"users":["bob"]}"#;
    assert_eq!(say(&mut world, alice, "chat/bowling/create", create), code("forbidden"));
    assert_eq!(say(&mut world, alice, "chat/climbing/add", br#"{"users":["carol"]}"#), None);
    // By a link she comes herself, whoever made it.
    say(&mut world, alice, "chat/climbing/invite", b"{}");
    let token = world.take_answer(alice, "invite")["token"].as_str().unwrap().to_string();
    let join = format!(r#"{{"token":"{token}"}}"#);
    assert_eq!(say(&mut world, bob, "chat/climbing/join", join.as_bytes()), None);
}

#[test]
fn the_list_of_the_blocked_is_paged_and_bounded_and_survives() {
    let mut options = ChatOptions::default();
    options.peers_max = 3;
    let mut world = World::with(2, options, 0);
    let (_, bob) = pair(&mut world);
    say(&mut world, bob, "me/block", br#"{"block":["eve","carol"]}"#);
    assert_eq!(say(&mut world, bob, "me/state", br#"{"accept":["dave"]}"#), None);
    assert_eq!(say(&mut world, bob, "me/block", br#"{"block":["zoe"]}"#), code("limit"));
    assert_eq!(world.outside.counted, [Metric::LimitChatPeers]);
    assert_eq!(say(&mut world, bob, "me/block", br#"{"block":["eve"]}"#), None);
    world.crash(true);
    let bob = world.device("bob", "phone");
    world.session(bob).heard.clear();
    say(&mut world, bob, "me/block", br#"{"limit":1,"request":"r1"}"#);
    let page = world.take_answer(bob, "block");
    assert_eq!(page.to_string(), r#"{"blocked":["carol"],"next":"carol","request":"r1"}"#);
    say(&mut world, bob, "me/block", br#"{"limit":1,"after":"carol"}"#);
    assert_eq!(world.take_answer(bob, "block").to_string(), r#"{"blocked":["eve"]}"#);
    say(&mut world, bob, "me/block", br#"{"unblock":["eve","carol"]}"#);
    assert_eq!(say(&mut world, bob, "me/block", br#"{"block":["zoe"]}"#), None);
    for bad in [
        &br#"{"block":["bob"]}"#[..],
        br#"{"block":["b b"]}"#,
        br#"{"block":"eve"}"#,
        br#"{"blocked":["eve"]}"#,
        format!(r#"{{"block":[{}"x"]}}"#, r#""a","#.repeat(64)).as_bytes(),
    ] {
        assert_eq!(say(&mut world, bob, "me/block", bad), code("format"));
    }
}

#[test]
fn a_stranger_hears_no_ticks_until_he_is_answered() {
    for accepted in [false, true] {
        let mut world = world(3);
        let (alice, bob) = pair(&mut world);
        say(&mut world, alice, "chat/@bob/send", b"hello");
        let told = world.session(bob).heard[1].clone();
        assert_eq!(
            (&*told.topic, &*told.body),
            ("me/json/@alice/request", r#"{"user":"alice","stranger":true}"#),
            "behind the message"
        );
        assert_eq!(world.take_seqs(bob), [1]);
        say(&mut world, bob, "chat/@alice/read", b"1");
        world.publish_qos0(bob, "chat/@alice/typing", b"typing");
        world.publish_qos0(alice, "chat/@bob/typing", b"typing");
        world.settle();
        assert_eq!(world.take_heard(alice, "receipt"), [""; 0]);
        assert_eq!(world.take_heard(alice, "typing"), [""; 0]);
        assert_eq!(world.take_heard(bob, "typing"), [""; 0]);
        // Nor does she when she comes back, nor when she asks.
        world.disconnect(alice, Disconnection::Abrupt);
        let alice = world.device("alice", "laptop");
        world.settle();
        assert_eq!(world.take_heard(alice, "receipt"), [""; 0]);
        say(&mut world, alice, "me/sync", b"");
        let chat = world.take_answer(alice, "sync")["chats"][0].clone();
        assert!(chat["others"].is_null() && chat["stranger"].is_null(), "{chat}");
        say(&mut world, alice, "chat/@bob/info", br#"{"seq":1}"#);
        let info = world.take_answer(alice, "info").to_string();
        assert_eq!(info, r#"{"delivered":0,"members":1,"read":0,"seq":1}"#);
        // He sees that it is one.
        say(&mut world, bob, "me/sync", b"");
        assert_eq!(world.take_answer(bob, "sync")["chats"][0]["stranger"], true);
        say(&mut world, bob, "chat/@alice/info", b"{}");
        assert_eq!(world.take_answer(bob, "info")["stranger"], true);
        if accepted {
            say(&mut world, bob, "me/state", br#"{"accept":["alice"]}"#);
        } else {
            say(&mut world, bob, "chat/@alice/send", b"hello you");
        }
        assert_eq!(ticks(&mut world, alice)[0], (1, 1));
        let told = world.take_heard(bob, "request");
        assert_eq!(
            told,
            [r#"{"user":"alice","stranger":true}"#, r#"{"user":"alice","stranger":false}"#]
        );
        world.crash(true);
        let (alice, bob) = pair(&mut world);
        forget(&mut world, [alice, bob]);
        say(&mut world, bob, "me/sync", b"");
        assert!(world.take_answer(bob, "sync")["chats"][0]["stranger"].is_null());
        say(&mut world, alice, "chat/@bob/send", b"there?");
        assert!(!ticks(&mut world, alice).is_empty());
        assert_eq!(world.take_heard(bob, "request"), [""; 0]);
    }
}

#[test]
fn who_is_accepted_before_he_writes_is_no_stranger() {
    let mut world = world(2);
    let (alice, bob) = pair(&mut world);
    say(&mut world, bob, "me/state", br#"{"accept":["alice"]}"#);
    say(&mut world, alice, "chat/@bob/send", b"hello");
    assert_eq!(world.take_heard(bob, "request"), [""; 0]);
    assert_eq!(ticks(&mut world, alice), [(1, 0)]);
}

#[test]
fn a_stranger_sends_so_many_a_day_and_begins_no_more_than_are_held() {
    let mut options = ChatOptions::default();
    options.request_messages_per_day = 3;
    options.requests_max = 2;
    let mut world = World::with(2, options, 0);
    world.outside.rates_apply = true;
    let (alice, bob) = pair(&mut world);
    for _ in 0..3 {
        assert_eq!(say(&mut world, alice, "chat/@bob/send", b"hello"), None);
    }
    let sent = world.publish(alice, "chat/@bob/send", b"hello");
    world.settle();
    assert_eq!(world.property(sent, "code"), code("limit"));
    let wait: u64 = world.property(sent, "retry_after").unwrap().parse().unwrap();
    assert!(wait > 23 * 3_600_000 && wait <= 24 * 3_600_000, "{wait}");
    assert_eq!(world.outside.counted, [Metric::LimitChatRequests]);
    world.advance(Duration::from_millis(wait));
    for expected in [None, None, None, code("limit")] {
        assert_eq!(say(&mut world, alice, "chat/@bob/send", b"hello"), expected);
    }
    // Others find room, so many.
    let others = ["carol", "dave"].map(|user| world.device(user, "d"));
    assert_eq!(say(&mut world, others[0], "chat/@bob/send", b"hello"), None);
    assert_eq!(say(&mut world, others[1], "chat/@bob/send", b"hello"), code("limit"));
    assert_eq!(world.outside.counted.last(), Some(&Metric::LimitChatRequestsHeld));
    assert_eq!(say(&mut world, bob, "chat/@dave/send", b"hello"), None, "his own are none");
    say(&mut world, bob, "chat/@alice/send", b"hello");
    let eve = world.device("eve", "d");
    assert_eq!(say(&mut world, eve, "chat/@bob/send", b"hello"), None);
    // And who is answered is bound no more.
    for _ in 0..5 {
        assert_eq!(say(&mut world, alice, "chat/@bob/send", b"hello"), None);
    }
}

#[test]
fn who_hides_receipts_gets_none_in_direct_chats_and_in_groups() {
    let mut world = world(3);
    let (alice, bob) = friends(&mut world);
    let carol = world.device("carol", "phone");
    say(&mut world, alice, "chat/climbing/create", br#"{"users":["bob","carol"]}"#);
    forget(&mut world, [alice, bob, carol]);
    assert_eq!(say(&mut world, bob, "me/privacy", br#"{"receipts":"nobody"}"#), None);
    world.session(bob).acknowledges = false;
    for from in [alice, bob] {
        let other = if from == alice { "bob" } else { "alice" };
        say(&mut world, from, &format!("chat/@{other}/send"), b"x");
        say(&mut world, from, "chat/climbing/send", b"x");
    }
    world.session(bob).acknowledges = true;
    world.settle();
    let about = |world: &mut World, session| -> Vec<String> {
        let heard = world.take_heard(session, "receipt");
        let mut about: Vec<_> = heard.iter().filter_map(|body| text(body, "user")).collect();
        about.dedup();
        about
    };
    assert_eq!(about(&mut world, alice), ["carol"], "of the group, and of the others there");
    assert_eq!(about(&mut world, bob), [""; 0]);
    assert_eq!(say(&mut world, bob, "chat/climbing/info", br#"{"seq":3}"#), code("forbidden"));
    say(&mut world, bob, "me/sync", b"");
    let chats = world.take_answer(bob, "sync")["chats"].clone();
    assert!(chats.as_array().unwrap().iter().all(|chat| chat["others"].is_null()), "{chats}");
    // It outlives a crash, and reads back.
    world.crash(true);
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    forget(&mut world, [alice, bob]);
    say(&mut world, bob, "me/privacy", b"{}");
    let privacy = world.take_answer(bob, "privacy").to_string();
    assert_eq!(privacy, r#"{"groups":"all","presence":"all","receipts":"nobody"}"#);
    say(&mut world, alice, "chat/@bob/send", b"x");
    assert_eq!(about(&mut world, alice), [""; 0]);
    say(&mut world, bob, "me/privacy", br#"{"receipts":"all"}"#);
    assert_eq!(about(&mut world, alice), ["bob"], "how far he is now");
}

#[test]
fn presence_is_for_whom_it_is_shown_to_and_who_hides_hers_sees_none() {
    let mut world = world(3);
    let (alice, bob) = friends(&mut world);
    let [carol, dave] = ["carol", "dave"].map(|user| world.device(user, "d"));
    say(&mut world, bob, "chat/climbing/create", br#"{"users":["carol"]}"#);
    // Dave has only written.
    say(&mut world, dave, "chat/@bob/send", b"hello");
    let all = [alice, carol, dave];
    for session in all {
        world.subscribe(session, "presence/bob", QoS::AtLeastOnce);
    }
    world.run();
    let seen = |world: &mut World| all.map(|session| states(world, session, "bob").join(" "));
    assert_eq!(seen(&mut world), ["online", "online", "offline"]);
    say(&mut world, bob, "me/privacy", br#"{"presence":"contacts"}"#);
    assert_eq!(seen(&mut world), ["", "offline", ""]);
    world.disconnect(bob, Disconnection::Clean);
    let bob = world.device("bob", "phone");
    world.settle();
    assert_eq!(seen(&mut world), ["offline online", "", ""]);
    say(&mut world, bob, "me/privacy", br#"{"presence":"nobody"}"#);
    assert_eq!(seen(&mut world), ["offline", "", ""]);
    // Bob sees nobody now.
    world.subscribe(bob, "presence/alice", QoS::AtLeastOnce);
    world.settle();
    assert_eq!(states(&mut world, bob, "alice"), ["offline"]);
    say(&mut world, bob, "me/privacy", br#"{"presence":"all"}"#);
    assert_eq!(seen(&mut world), ["online", "online", ""]);
    assert_eq!(states(&mut world, bob, "alice"), ["online"]);
    // Who is answered sees, and who leaves the group does not.
    say(&mut world, bob, "chat/@dave/send", b"hello");
    assert_eq!(seen(&mut world), ["", "", "online"]);
    say(&mut world, bob, "chat/climbing/leave", b"");
    assert_eq!(seen(&mut world)[1], "offline");
}

#[test]
fn who_comes_into_a_group_sees_and_is_seen_there_without_asking_again() {
    let mut world = world(3);
    let [alice, bob] = ["alice", "bob"].map(|user| world.device(user, "phone"));
    let carol = world.device("carol", "phone");
    for (session, user) in [(alice, "bob"), (bob, "alice"), (bob, "carol")] {
        world.subscribe(session, &format!("presence/{user}"), QoS::AtLeastOnce);
    }
    world.run();
    assert_eq!(states(&mut world, alice, "bob"), ["offline"]);
    assert_eq!(states(&mut world, bob, "alice"), ["offline"]);
    say(&mut world, alice, "chat/climbing/create", br#"{"users":["carol"]}"#);
    assert_eq!(states(&mut world, bob, "alice"), [""; 0]);
    say(&mut world, alice, "chat/climbing/add", br#"{"users":["bob"]}"#);
    assert_eq!(states(&mut world, alice, "bob"), ["online"]);
    assert_eq!(states(&mut world, bob, "alice"), ["online"]);
    // Who went away meanwhile too.
    assert_eq!(states(&mut world, bob, "carol"), ["offline", "online"]);
    world.disconnect(carol, Disconnection::Clean);
    world.settle();
    assert_eq!(states(&mut world, bob, "carol"), ["offline"]);
    say(&mut world, alice, "chat/climbing/remove", br#"{"users":["bob"]}"#);
    assert_eq!(states(&mut world, alice, "bob"), ["offline"]);
    assert_eq!(states(&mut world, bob, "alice"), ["offline"]);
}

#[test]
fn what_hides_and_shows_presence_has_ever_higher_epochs() {
    let mut world = world(2);
    let (alice, bob) = friends(&mut world);
    world.subscribe(alice, "presence/bob", QoS::AtLeastOnce);
    world.settle();
    for presence in ["nobody", "all", "contacts", "nobody", "all"] {
        let set = format!(r#"{{"presence":"{presence}"}}"#);
        say(&mut world, bob, "me/privacy", set.as_bytes());
        say(&mut world, bob, "me/block", br#"{"block":["alice"]}"#);
        say(&mut world, bob, "me/block", br#"{"unblock":["alice"]}"#);
    }
    let heard = world.take_heard(alice, "presence/bob");
    let epochs: Vec<_> = heard.iter().filter_map(|body| number(body, "epoch")).collect();
    assert!(epochs.len() > 8 && epochs.is_sorted_by(|one, next| one < next), "{heard:?}");
    let last = heard.last().unwrap();
    assert_eq!(text(last, "state").as_deref(), Some("online"));
}

#[test]
fn who_may_be_added_to_groups_says_so() {
    let mut world = world(2);
    let (alice, bob) = friends(&mut world);
    let carol = world.device("carol", "d");
    say(&mut world, bob, "me/privacy", br#"{"groups":"contacts"}"#);
    let add = br#"{"users":["bob"]}"#;
    for (from, group, expected) in [(carol, "one", code("forbidden")), (alice, "two", None)] {
        say(&mut world, from, &format!("chat/{group}/create"), b"");
        assert_eq!(say(&mut world, from, &format!("chat/{group}/add"), add), expected);
    }
    say(&mut world, bob, "me/privacy", br#"{"groups":"nobody"}"#);
    say(&mut world, alice, "chat/three/create", b"");
    assert_eq!(say(&mut world, alice, "chat/three/add", add), code("forbidden"));
    assert_eq!(say(&mut world, bob, "chat/four/create", b""), None, "one's own are one's own");
}

#[test]
fn away_is_told_while_every_session_says_so() {
    let mut world = world(2);
    let (alice, phone) = friends(&mut world);
    world.subscribe(alice, "presence/bob", QoS::AtLeastOnce);
    let tablet = world.device("bob", "tablet");
    world.settle();
    say(&mut world, phone, "me/state", br#"{"away":true}"#);
    assert_eq!(states(&mut world, alice, "bob"), ["online"]);
    say(&mut world, tablet, "me/state", br#"{"away":true}"#);
    assert_eq!(states(&mut world, alice, "bob"), ["away"]);
    world.disconnect(tablet, Disconnection::Abrupt);
    world.settle();
    assert_eq!(states(&mut world, alice, "bob"), [""; 0]);
    say(&mut world, phone, "me/state", br#"{"away":false}"#);
    assert_eq!(states(&mut world, alice, "bob"), ["online"]);
    say(&mut world, phone, "me/state", br#"{"away":true}"#);
    // Who comes is there until it says otherwise.
    world.device("bob", "tablet");
    world.settle();
    assert_eq!(states(&mut world, alice, "bob"), ["away", "online"]);
    assert_eq!(say(&mut world, phone, "me/state", b"{}"), code("format"));
}

#[test]
fn who_is_blocked_may_still_delete_and_nothing_else() {
    let mut world = world(2);
    let (alice, bob) = friends(&mut world);
    let carol = world.device("carol", "c");
    world.settle();
    say(&mut world, bob, "me/block", br#"{"block":["alice"]}"#);
    for (session, peer) in [(alice, "bob"), (bob, "alice")] {
        for (topic, payload) in [("react/1/r", "x"), ("timer", r#"{"seconds":60}"#)] {
            let said =
                say(&mut world, session, &format!("chat/@{peer}/{topic}"), payload.as_bytes());
            assert_eq!(said, code("forbidden"), "{topic} to {peer}");
        }
        assert_eq!(say(&mut world, session, &format!("chat/@{peer}/delete/1"), b"me"), None);
    }
    // Nor is it an answer to a stranger.
    say(&mut world, carol, "chat/@bob/send", b"hello");
    say(&mut world, bob, "chat/@carol/delete/1", b"me");
    say(&mut world, bob, "chat/@carol/read", b"1");
    assert_eq!(ticks(&mut world, carol), []);
    say(&mut world, bob, "me/sync", b"");
    let chats = world.take_answer(bob, "sync")["chats"].to_string();
    assert!(chats.contains(r#""stranger":true"#), "{chats}");
}

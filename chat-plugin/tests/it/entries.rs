//! What is said about entries: edits, reactions, deleting for all and for oneself.

use std::time::Duration;

use tidings_core::codec::{Property, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{World, number, text};

/// Alice has written three messages to Bob: her laptop and his phone.
fn three(world: &mut World) -> (SessionId, SessionId) {
    let bob = world.device("bob", "phone");
    let alice = world.device("alice", "laptop");
    world.settle();
    for at in 1..=3 {
        world.publish(alice, &format!("chat/@bob/send/m{at}"), format!("text {at}").as_bytes());
    }
    world.settle();
    assert_eq!(world.take_seqs(bob), [1, 2, 3]);
    (alice, bob)
}

fn code(world: &World, sent: u64) -> Option<String> {
    world.property(sent, "code")
}

fn unread(world: &mut World, id: SessionId) -> serde_json::Value {
    world.publish(id, "me/sync", b"");
    world.settle();
    world.take_answer(id, "sync")["chats"][0]["unread"].clone()
}

fn gone(world: &mut World, id: SessionId, chat: &str) -> (Vec<u64>, serde_json::Value) {
    world.publish(id, &format!("chat/{chat}/history"), br#"{"from":1}"#);
    world.settle();
    let answer = world.take_answer(id, "history");
    let seqs = answer["entries"].as_array().unwrap().iter();
    (seqs.map(|entry| entry["seq"].as_u64().unwrap()).collect(), answer["gone"].clone())
}

#[test]
fn an_edit_is_an_entry_about_another_and_only_its_author_makes_it() {
    let mut world = World::new(3);
    let (alice, bob) = three(&mut world);
    let edit = world.publish(alice, "chat/@bob/edit/2/e1", b"text two");
    let again = world.publish(alice, "chat/@bob/edit/2/e1", b"text two");
    let other = world.publish(alice, "chat/@bob/edit/3/e1", b"text two");
    let not_own = world.publish(bob, "chat/@alice/edit/2", b"nonsense");
    let not_there = world.publish(alice, "chat/@bob/edit/9", b"x");
    world.settle();
    assert_eq!((world.seq(edit), world.seq(again)), (Some(4), Some(4)));
    assert_eq!(code(&world, other).as_deref(), Some("conflict"));
    assert_eq!(code(&world, not_own).as_deref(), Some("forbidden"));
    assert_eq!(code(&world, not_there).as_deref(), Some("late"));
    let heard = world.take_heard(bob, "message");
    assert_eq!(heard.len(), 1);
    assert!(heard[0].ends_with(r#""id":"e1","text":"text two","kind":"edit","ref":2}"#));
    // An edit of an edit is none: it is the message that is edited, as often as one likes.
    let of_edit = world.publish(alice, "chat/@bob/edit/4", b"x");
    let second = world.publish(alice, "chat/@bob/edit/2", b"text II");
    world.settle();
    assert_eq!((code(&world, of_edit).as_deref(), world.seq(second)), (Some("late"), Some(5)));
}

#[test]
fn whose_a_message_was_is_known_for_a_day_after_it_is_gone() {
    let mut world = World::new(2);
    let (alice, bob) = three(&mut world);
    world.settle();
    for crash in [false, true] {
        if crash {
            world.crash(true);
        }
        let (alice, bob) = (world.connect("alice", "laptop"), world.connect("bob", "phone"));
        let own = world.publish(alice, "chat/@bob/edit/1", b"text one");
        let other = world.publish(bob, "chat/@alice/delete/1", b"everyone");
        world.settle();
        assert!(world.seq(own).is_some(), "{:?}", code(&world, own));
        assert_eq!(code(&world, other).as_deref(), Some("forbidden"));
    }
    world.disconnect(alice, Disconnection::Clean);
    world.disconnect(bob, Disconnection::Clean);
    world.settle();
    for _ in 0..26 {
        world.advance(Duration::from_secs(3_600));
        world.settle();
    }
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    let late = world.publish(alice, "chat/@bob/edit/1", b"text I");
    world.settle();
    assert_eq!(code(&world, late).as_deref(), Some("late"));
}

#[test]
fn a_reaction_is_for_everything_that_is_there_and_an_empty_one_takes_it_back() {
    let mut world = World::new(3);
    let (alice, bob) = three(&mut world);
    let reaction = world.publish(bob, "chat/@alice/react/2/r1", "👍".as_bytes());
    let back = world.publish(bob, "chat/@alice/react/2", b"");
    world.settle();
    assert_eq!((world.seq(reaction), world.seq(back)), (Some(4), Some(5)));
    let heard = world.take_heard(alice, "message");
    assert!(heard[0].ends_with(r#""id":"r1","text":"👍","kind":"reaction","ref":2}"#));
    assert!(heard[1].ends_with(r#""text":"","kind":"reaction","ref":2}"#));
}

#[test]
fn what_is_said_about_entries_is_never_unread_and_brings_no_ticks() {
    let mut world = World::new(3);
    let (alice, bob) = three(&mut world);
    world.publish(bob, "chat/@alice/read", b"3");
    world.settle();
    world.advance(Duration::from_secs(1));
    world.settle();
    world.take_heard(alice, "receipt");
    world.take_heard(bob, "receipt");
    world.publish(alice, "chat/@bob/edit/2", b"text two");
    world.publish(bob, "chat/@alice/react/3", b"+");
    world.publish(alice, "chat/@bob/delete/3", b"everyone");
    world.settle();
    world.advance(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt"), [""; 0]);
    assert_eq!(world.take_heard(bob, "receipt"), [""; 0]);
    assert_eq!(unread(&mut world, bob), 0);
    assert_eq!(unread(&mut world, alice), 0);
}

#[test]
fn deleted_for_everyone_is_gone_from_the_log_and_an_entry_tells_of_it() {
    let mut world = World::new(3);
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    world.settle();
    world.disconnect(bob, Disconnection::Clean);
    for at in 1..=3 {
        world.publish(alice, "chat/@bob/send", format!("text {at}").as_bytes());
    }
    world.settle();
    let deleted = world.publish(alice, "chat/@bob/delete/2", b"everyone");
    let again = world.publish(alice, "chat/@bob/delete/2", b"everyone");
    world.settle();
    assert_eq!((world.seq(deleted), world.seq(again)), (Some(4), None));
    assert_eq!(world.answer(again), Some(ReasonCode::Success));
    let rows = world.rows();
    let contains = |text: &[u8]| rows.values().any(|row| row.windows(6).any(|it| it == text));
    assert!(contains(b"text 1") && !contains(b"text 2"));
    assert_eq!(gone(&mut world, alice, "@bob"), (vec![1, 3, 4], serde_json::json!([[2, 2]])));
    // Bob comes later, and over a crash: he gets what there is, and nothing of what was.
    world.crash(true);
    let bob = world.connect("bob", "phone");
    world.settle();
    let heard = world.take_heard(bob, "message");
    let seqs: Vec<_> = heard.iter().map(|body| number(body, "seq").unwrap()).collect();
    assert_eq!(seqs, [1, 3, 4]);
    assert!(heard[2].ends_with(r#""text":"everyone","kind":"delete","ref":2}"#));
    assert_eq!(unread(&mut world, bob), 2);
    let edit = world.publish(bob, "chat/@alice/delete/1", b"everyone");
    let nonsense = world.publish(bob, "chat/@alice/delete/1", b"all");
    world.settle();
    assert_eq!(code(&world, edit).as_deref(), Some("forbidden"));
    assert_eq!(code(&world, nonsense).as_deref(), Some("format"));
}

#[test]
fn deleted_for_me_is_hidden_from_all_my_devices_and_the_other_hears_nothing_of_it() {
    let mut world = World::new(3);
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    let tablet = world.connect_as("bob", "tablet", Version::V311, true);
    world.subscribe_plain(tablet, "me/json/#");
    world.settle();
    let carol = world.device("alice", "watch");
    world.settle();
    world.disconnect(carol, Disconnection::Clean);
    world.disconnect(tablet, Disconnection::Clean);
    for at in 1..=3 {
        world.publish(alice, "chat/@bob/send", format!("text {at}").as_bytes());
    }
    world.settle();
    world.take_heard(bob, "message");
    let hidden = world.publish(bob, "chat/@alice/delete/2", b"me");
    let again = world.publish(bob, "chat/@alice/delete/2", b"me");
    world.settle();
    assert_eq!((world.seq(hidden), world.seq(again)), (Some(4), None));
    assert_eq!(world.answer(again), Some(ReasonCode::Success));
    assert_eq!(world.take_heard(alice, "message"), [""; 0]);
    assert_eq!(gone(&mut world, alice, "@bob"), (vec![1, 2, 3], serde_json::json!([[4, 4]])));
    assert_eq!(gone(&mut world, bob, "@alice"), (vec![1, 3, 4], serde_json::json!([[2, 2]])));
    assert_eq!((unread(&mut world, bob), unread(&mut world, alice)), (2.into(), 0.into()));
    world.crash(true);
    let tablet = world.connect_as("bob", "tablet", Version::V311, true);
    world.settle();
    let heard = world.take_heard(tablet, "message");
    let seqs: Vec<_> = heard.iter().map(|body| number(body, "seq").unwrap()).collect();
    assert_eq!(seqs, [1, 3, 4]);
    assert!(heard[2].ends_with(r#""text":"me","kind":"delete","ref":2}"#));
    assert_eq!(unread(&mut world, tablet), 2);
    // What comes then is there for both.
    let alice = world.connect("alice", "laptop");
    let next = world.publish(alice, "chat/@bob/send", b"text 5");
    world.settle();
    assert_eq!((world.seq(next), world.take_seqs(tablet)), (Some(5), vec![5]));
    // Her watch was away all the time: it is not kept from what is behind.
    let watch = world.connect("alice", "watch");
    world.settle();
    assert_eq!(world.take_seqs(watch), [1, 2, 3, 5]);
    // Deleted by both: its row is gone as well.
    let has =
        |world: &World| world.rows().values().any(|row| row.windows(6).any(|it| it == b"text 3"));
    let bob = world.connect("bob", "phone");
    world.disconnect(watch, Disconnection::Clean);
    world.disconnect(tablet, Disconnection::Clean);
    world.publish(alice, "chat/@bob/send", b"text 6");
    world.settle();
    world.publish(alice, "chat/@bob/delete/6", b"me");
    world.settle();
    let six =
        |world: &World| world.rows().values().any(|row| row.windows(6).any(|it| it == b"text 6"));
    assert!(six(&world));
    world.publish(bob, "chat/@alice/delete/6", b"me");
    world.settle();
    assert!(!six(&world) && !has(&world));
}

#[test]
fn admins_delete_for_everyone_in_a_group_and_edit_nothing() {
    let mut world = World::new(3);
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    let carol = world.device("carol", "phone");
    world.settle();
    world.publish(alice, "chat/climbing/create", br#"{"users":["bob","carol","zoe"]}"#);
    world.publish(bob, "chat/climbing/send/m1", b"hello");
    world.settle();
    let by_other = world.publish(carol, "chat/climbing/delete/2", b"everyone");
    let edit = world.publish(alice, "chat/climbing/edit/2", b"x");
    let hidden = world.publish(carol, "chat/climbing/delete/2", b"me");
    world.settle();
    let by_admin = world.publish(alice, "chat/climbing/delete/2", b"everyone");
    world.settle();
    assert_eq!(code(&world, by_other).as_deref(), Some("forbidden"));
    assert_eq!(code(&world, edit).as_deref(), Some("forbidden"));
    assert_eq!((world.seq(hidden), world.seq(by_admin)), (Some(3), Some(4)));
    assert_eq!(gone(&mut world, bob, "climbing"), (vec![1, 4], serde_json::json!([[2, 3]])));
    // Who came later does not say anything about what was before.
    world.publish(alice, "chat/climbing/add", br#"{"users":["dave"]}"#);
    let dave = world.device("dave", "phone");
    world.settle();
    let early = world.publish(dave, "chat/climbing/react/2", b"+");
    let outsider = world.device("erin", "phone");
    let foreign = world.publish(outsider, "chat/climbing/react/2", b"+");
    world.settle();
    assert_eq!(code(&world, early).as_deref(), Some("late"));
    assert_eq!(code(&world, foreign).as_deref(), Some("forbidden"));
}

#[test]
fn what_is_said_about_an_entry_has_its_id_by_correlation_data_too() {
    let mut world = World::new(1);
    let (alice, _) = three(&mut world);
    let id = [Property::CorrelationData(b"d1")];
    let first = world.publish_with(alice, "chat/@bob/delete/1", b"everyone", &id);
    world.settle();
    let again = world.publish_with(alice, "chat/@bob/delete/1", b"everyone", &id);
    world.settle();
    assert_eq!((world.seq(first), world.seq(again)), (Some(4), Some(4)));
    let heard = world.publish_with(alice, "chat/@bob/delete/2", b"everyone", &id);
    world.settle();
    assert_eq!(code(&world, heard).as_deref(), Some("conflict"));
    let error = world.take_heard(alice, "error");
    assert_eq!(text(&error[0], "id").as_deref(), Some("d1"));
}

#[test]
fn a_deleted_message_does_not_come_back_by_its_retry() {
    for crash in [false, true] {
        let mut world = World::new(2);
        let alice = world.device("alice", "laptop");
        world.settle();
        world.publish(alice, "chat/@bob/send/m1", b"hello");
        for at in 0..70 {
            world.publish(alice, &format!("chat/@bob/send/n{at}"), b"x");
        }
        world.settle();
        world.publish(alice, "chat/@bob/delete/1", b"everyone");
        world.settle();
        if crash {
            world.crash(true);
        }
        let alice = world.connect("alice", "laptop");
        let again = world.publish(alice, "chat/@bob/send/m1", b"hello");
        let other = world.publish(alice, "chat/@bob/send/m1", b"hallo");
        world.settle();
        assert_eq!(world.seq(again), Some(1));
        assert_eq!(code(&world, other).as_deref(), Some("conflict"));
        let bob = world.device("bob", "phone");
        world.settle();
        let seqs = world.take_seqs(bob);
        assert_eq!((seqs.len(), seqs[0]), (71, 2));
    }
}

#[test]
fn a_message_can_say_what_it_replies_to() {
    let mut world = World::new(2);
    let (alice, bob) = three(&mut world);
    let reply = [Property::UserProperty("ref", "2")];
    let sent = world.publish_with(bob, "chat/@alice/send/r1", b"indeed", &reply);
    let wrong = [Property::UserProperty("ref", "two")];
    let refused = world.publish_with(bob, "chat/@alice/send", b"indeed", &wrong);
    world.settle();
    assert_eq!(world.seq(sent), Some(4));
    assert_eq!(code(&world, refused).as_deref(), Some("format"));
    let heard = world.take_heard(alice, "message");
    assert!(heard[0].ends_with(r#""id":"r1","text":"indeed","ref":2}"#), "{heard:?}");
    // It is a message like any other.
    assert_eq!(unread(&mut world, alice), 1);
}

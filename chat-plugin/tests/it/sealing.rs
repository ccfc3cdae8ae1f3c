//! Content sealed with keys of chats, and chats that are deleted by both.

use std::sync::Arc;
use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::Property;
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{Keys, World};

fn sealed(shards: u16) -> (World, Arc<Keys>) {
    let keys = Arc::new(Keys::default());
    (World::sealed(shards, ChatOptions::default(), 0, &keys), keys)
}

fn on_disk(world: &World, text: &[u8]) -> bool {
    world.rows().values().any(|row| row.windows(text.len()).any(|part| part == text))
}

fn history(world: &mut World, id: SessionId, chat: &str) -> Vec<String> {
    world.publish(id, &format!("chat/{chat}/history"), br#"{"from":1,"limit":200}"#);
    world.settle();
    let answer = world.take_answer(id, "history");
    let texts = answer["entries"].as_array().unwrap().iter();
    texts.map(|entry| entry["text"].as_str().unwrap().to_string()).collect()
}

fn chats(world: &mut World, id: SessionId) -> usize {
    world.publish(id, "me/sync", b"");
    world.settle();
    world.take_answer(id, "sync")["chats"].as_array().unwrap().len()
}

#[test]
fn nothing_that_was_said_is_in_clear_on_disk_and_all_of_it_is_read_again() {
    let (mut world, keys) = sealed(3);
    let alice = world.device("alice", "laptop");
    world.settle();
    let kind = [Property::ContentType("text/secret"), Property::CorrelationData(b"m1")];
    world.publish_with(alice, "chat/@bob/send", b"the word is swordfish", &kind);
    world.publish(alice, "chat/@bob/edit/1", b"the word is herring");
    world.publish(alice, "chat/@bob/react/1", b"fishy");
    world.publish(alice, "chat/climbing/create", br#"{"title":"t","users":["bob"]}"#);
    world.publish(alice, "chat/climbing/send", b"swordfish again");
    world.settle();
    for text in [&b"swordfish"[..], b"herring", b"fishy", b"text/secret"] {
        assert!(!on_disk(&world, text));
    }
    assert_eq!(keys.left(), 2, "one for each chat");
    world.crash(true);
    let alice = world.connect("alice", "laptop");
    let again = world.publish_with(alice, "chat/@bob/send", b"the word is swordfish", &kind);
    let other = world.publish_with(alice, "chat/@bob/send", b"the word is haddock", &kind);
    world.settle();
    assert_eq!(world.seq(again), Some(1));
    assert_eq!(world.property(other, "code").as_deref(), Some("conflict"));
    let bob = world.device("bob", "phone");
    world.settle();
    let heard = world.take_heard(bob, "message");
    assert_eq!(heard.len(), 5);
    assert!(heard.iter().any(|body| body.contains("swordfish") && body.contains("text/secret")));
    assert_eq!(history(&mut world, bob, "climbing").len(), 2);
}

#[test]
fn what_was_there_before_keys_is_read_and_known_with_them() {
    let mut world = World::new(2);
    let alice = world.device("alice", "laptop");
    world.settle();
    world.publish(alice, "chat/@bob/send/m1", b"before");
    world.settle();
    let keys = Arc::new(Keys::default());
    world.seal(&keys);
    let alice = world.connect("alice", "laptop");
    let again = world.publish(alice, "chat/@bob/send/m1", b"before");
    let other = world.publish(alice, "chat/@bob/send/m1", b"behind");
    let next = world.publish(alice, "chat/@bob/send/m2", b"sealed");
    world.settle();
    let next_again = world.publish(alice, "chat/@bob/send/m2", b"sealed");
    world.settle();
    assert_eq!((world.seq(again), world.seq(next)), (Some(1), Some(2)));
    assert_eq!(world.seq(next_again), Some(2));
    assert_eq!(world.property(other, "code").as_deref(), Some("conflict"));
    assert!(on_disk(&world, b"before") && !on_disk(&world, b"sealed"));
    assert_eq!(history(&mut world, alice, "@bob"), ["before", "sealed"]);
}

#[test]
fn a_chat_that_both_have_deleted_is_destroyed_with_its_key() {
    let (mut world, keys) = sealed(3);
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    let tablet = world.device("bob", "tablet");
    world.settle();
    world.publish(alice, "chat/@bob/retention", br#"{"keep":"forever"}"#);
    for at in 0..70 {
        world.publish(alice, &format!("chat/@bob/send/m{at}"), b"swordfish");
    }
    world.settle();
    world.disconnect(tablet, Disconnection::Clean);
    world.take_heard(bob, "message");
    world.take_heard(tablet, "message");
    let ended = world.publish(bob, "chat/@alice/end", b"");
    let again = world.publish(bob, "chat/@alice/end", b"");
    world.settle();
    assert_eq!((world.seq(ended), world.seq(again)), (Some(72), None));
    // Bob's side is gone, on all his devices, and Alice's is as it was.
    assert_eq!(history(&mut world, bob, "@alice"), ["all"]);
    assert_eq!((chats(&mut world, bob), chats(&mut world, alice)), (0, 1));
    assert_eq!(history(&mut world, alice, "@bob").len(), 71);
    assert_eq!(world.take_heard(alice, "message"), [""; 0]);
    assert_eq!(keys.left(), 1);
    let tablet = world.connect("bob", "tablet");
    world.settle();
    let heard = world.take_heard(tablet, "message");
    assert_eq!(heard.len(), 1);
    assert!(heard[0].ends_with(r#""text":"all","kind":"delete","ref":71}"#), "{heard:?}");
    // What comes then is in the chat for both.
    world.publish(alice, "chat/@bob/send/n1", b"herring");
    world.settle();
    assert_eq!(history(&mut world, bob, "@alice"), ["all", "herring"]);
    assert_eq!(chats(&mut world, bob), 1);
    world.publish(alice, "chat/@bob/end", b"");
    world.settle();
    assert_eq!(keys.left(), 1, "Bob still has what came last");
    world.publish(bob, "chat/@alice/end", b"");
    world.settle();
    assert_eq!(keys.left(), 0);
    for _ in 0..2 {
        for (user, device) in [("alice", "laptop"), ("bob", "phone")] {
            let id = world.connect(user, device);
            world.settle();
            let peer = if user == "alice" { "@bob" } else { "@alice" };
            let texts = history(&mut world, id, peer);
            assert!(texts.iter().all(|text| text == "all"), "{texts:?}");
            assert_eq!(chats(&mut world, id), 0);
        }
        world.crash(true);
    }
    // A late retry does not bring anything back, and the chat can begin anew.
    let alice = world.connect("alice", "laptop");
    let late = world.publish(alice, "chat/@bob/send/m3", b"swordfish");
    let anew = world.publish(alice, "chat/@bob/send/x1", b"a new leaf");
    world.settle();
    assert_eq!((world.seq(late), world.seq(anew)), (Some(5), Some(76)));
    assert_eq!(keys.left(), 1);
    let bob = world.connect("bob", "phone");
    world.settle();
    assert_eq!(history(&mut world, bob, "@alice").last().unwrap(), "a new leaf");
    // The rows of what nobody can read go when every device is past them.
    world.connect("bob", "tablet");
    world.advance(Duration::from_secs(2));
    world.settle();
    let rows = world.rows();
    let log = rows.keys().filter(|key| key.len() == 28 && key[1..3] == [64, 1] && key[19] == 5);
    assert!(log.count() <= 4);
}

#[test]
fn notes_to_self_are_destroyed_by_their_only_side_and_groups_are_left() {
    let (mut world, keys) = sealed(2);
    let alice = world.device("alice", "laptop");
    world.settle();
    let nothing = world.publish(alice, "chat/@alice/end", b"");
    world.settle();
    assert_eq!(world.seq(nothing), None);
    world.publish(alice, "chat/@alice/send", b"swordfish");
    world.publish(alice, "chat/climbing/create", b"");
    world.settle();
    let group = world.publish(alice, "chat/climbing/end", b"");
    world.settle();
    assert_eq!(keys.left(), 2);
    world.publish(alice, "chat/@alice/end", b"");
    world.settle();
    assert_eq!((keys.left(), world.property(group, "code").as_deref()), (1, Some("format")));
}

#[test]
fn a_key_that_was_to_go_when_the_power_went_goes_at_the_next_start() {
    let (mut world, keys) = sealed(2);
    let alice = world.device("alice", "laptop");
    world.settle();
    world.publish(alice, "chat/@alice/send", b"swordfish");
    world.settle();
    world.publish(alice, "chat/@alice/end", b"");
    world.settle();
    let doomed = |world: &World| world.rows().keys().filter(|key| key[1..3] == [64, 4]).count();
    assert_eq!((keys.left(), doomed(&world)), (0, 1));
    // As if it had not reached the disk.
    keys.bring_back(0);
    world.crash(true);
    world.settle();
    assert_eq!((keys.left(), doomed(&world)), (0, 1));
    world.crash(true);
    world.settle();
    assert_eq!((keys.left(), doomed(&world)), (0, 0));
}

#[test]
fn the_key_of_a_deleted_message_goes_when_nothing_else_needs_it() {
    let (mut world, keys) = sealed(2);
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    world.settle();
    world.publish(alice, "chat/@bob/send/m1", b"swordfish");
    world.settle();
    world.advance(Duration::from_secs(2));
    world.settle();
    assert_eq!(keys.left(), 1, "everybody has it, and nobody wanted it to be gone");
    world.disconnect(bob, Disconnection::Clean);
    for at in 2..5 {
        world.publish(alice, &format!("chat/@bob/send/m{at}"), b"swordfish");
    }
    world.publish(alice, "chat/@bob/delete/3", b"everyone");
    world.settle();
    assert_eq!(keys.left(), 1, "others are sealed with it");
    let bob = world.connect("bob", "phone");
    world.settle();
    world.advance(Duration::from_secs(2));
    world.settle();
    assert_eq!(keys.left(), 0);
    // What was sent is known all the same, and what comes has a key of its own.
    let late = world.publish(alice, "chat/@bob/send/m4", b"swordfish");
    let next = world.publish(alice, "chat/@bob/send/m6", b"herring");
    world.settle();
    assert_eq!((world.seq(late), world.seq(next), keys.left()), (Some(4), Some(6), 1));
    assert_eq!(
        world.take_heard(bob, "message").last().map(|body| body.contains("herring")),
        Some(true)
    );
    // What disappears takes its key along.
    world.publish(alice, "chat/@carol/timer", br#"{"seconds":60}"#);
    world.publish(alice, "chat/@carol/retention", br#"{"keep":"days:1"}"#);
    world.publish(alice, "chat/@carol/send", b"swordfish");
    world.settle();
    assert_eq!(keys.left(), 2);
    for _ in 0..3 {
        world.advance(Duration::from_secs(13 * 3_600));
        world.settle();
    }
    assert_eq!(keys.left(), 1);
}

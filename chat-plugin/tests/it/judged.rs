//! What a moderator refuses, and what a chat has no room for.

use std::sync::{Arc, Mutex};

use tidings_chat::{Chat, ChatOptions, Code, Draft, Judgement, Moderate};
use tidings_core::codec::{Property, ReasonCode};
use tidings_core::hook::{Disconnection, SessionId};
use tidings_core::metric::Metric;

use crate::harness::{World, text};

/// Refuses what has a word in it, and notes what it was asked.
#[derive(Debug, Default)]
struct Strict(Mutex<Vec<String>>);

impl Moderate for Strict {
    fn judge(&self, draft: &Draft<'_>) -> Judgement {
        let Draft { chat, sender, device, id, content_type, payload, .. } = *draft;
        let (id, content_type) = (id.unwrap_or("-"), content_type.unwrap_or("-"));
        let payload = String::from_utf8_lossy(payload);
        let line = format!("{sender}/{device} {chat} {id} {content_type} {payload}");
        self.0.lock().unwrap().push(line);
        if payload.contains("spam") {
            Judgement::Refuse { code: Code::Forbidden, text: "no advertisements here".into() }
        } else {
            Judgement::Allow
        }
    }
}

fn options() -> ChatOptions {
    let mut options = ChatOptions::default();
    options.requests = false;
    options
}

fn say(world: &mut World, from: SessionId, topic: &str, payload: &[u8]) -> u64 {
    let said = world.publish(from, topic, payload);
    world.settle();
    said
}

#[test]
fn what_a_moderator_refuses_is_not_kept_and_its_sender_hears_why() {
    let strict = Arc::new(Strict::default());
    let chat = Chat::new(options()).with_moderator(Arc::<Strict>::clone(&strict));
    let mut world = World::of(3, chat, 0);
    let alice = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    let kind = [Property::ContentType("text/plain")];
    let fine = world.publish_with(alice, "chat/@bob/send/m1", b"hello", &kind);
    world.settle();
    let bad = say(&mut world, alice, "chat/@bob/send/m2", b"buy spam");
    let next = say(&mut world, alice, "chat/@bob/send/m3", b"sorry");
    assert_eq!((world.seq(fine), world.seq(next)), (Some(1), Some(2)), "it took no place");
    assert_eq!(world.answer(bad), Some(ReasonCode::NotAuthorized));
    assert_eq!(world.property(bad, "code").as_deref(), Some("forbidden"));
    let errors = world.take_heard(alice, "error");
    assert_eq!(text(&errors[0], "text").as_deref(), Some("no advertisements here"));
    assert_eq!(world.take_seqs(bob), [1, 2]);
    // What is kept is answered without asking, and what nobody may send as well.
    say(&mut world, alice, "chat/@bob/send/m1", b"hello");
    say(&mut world, alice, "chat/climbing/send/m4", b"who is there");
    say(&mut world, alice, "chat/climbing/create", b"");
    say(&mut world, alice, "chat/climbing/send", b"spam");
    let asked = strict.0.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "alice/laptop @bob m1 text/plain hello",
            "alice/laptop @bob m2 - buy spam",
            "alice/laptop @bob m3 - sorry",
            "alice/laptop climbing - - spam",
        ]
    );
}

#[test]
fn a_full_chat_refuses_and_has_room_again_when_its_members_have_what_it_keeps() {
    for (entries, bytes) in [(3, 1 << 20), (100, 3 * 1_100)] {
        let mut options = options();
        (options.chat_entries_max, options.chat_bytes_max) = (entries, bytes);
        let mut world = World::with(2, options, 0);
        let alice = world.device("alice", "laptop");
        let bob = world.device("bob", "phone");
        world.settle();
        world.disconnect(bob, Disconnection::Abrupt);
        let send = |world: &mut World, alice| {
            let sent = say(world, alice, "chat/@bob/send", &[b'x'; 900]);
            world.property(sent, "code")
        };
        let full = Some("limit".to_owned());
        let taken: Vec<_> = (0..4).map(|_| send(&mut world, alice)).collect();
        assert_eq!(taken, [None, None, None, full.clone()], "{entries} {bytes}");
        let counted = world.outside.counted.last().copied();
        let metric = if entries == 3 { Metric::LimitChatEntries } else { Metric::LimitChatBytes };
        assert_eq!(counted, Some(metric));
        // It is as full when it has been read again; another has room.
        world.crash(true);
        let alice = world.device("alice", "laptop");
        world.settle();
        assert_eq!(send(&mut world, alice), full);
        let other = say(&mut world, alice, "chat/@carol/send", b"x");
        assert_eq!(world.seq(other), Some(1));
        let bob = world.device("bob", "phone");
        world.settle();
        assert_eq!(world.take_seqs(bob), [1, 2, 3], "and nothing went for it");
        assert_eq!(send(&mut world, alice), None);
    }
}

//! A phone that was away, over real sockets: what waits for it, history, and where all chats are.

use std::time::Instant;

use crate::support::{Server, number, text};
use crate::wire::{Connect, PUBACK, Packet, Publish, Wire};

/// How many chats wait for the phone, and how many entries in each.
const CHATS: usize = 500;
const EACH: usize = 20;

fn phone() -> Connect {
    Connect::new("phone").user("bob").persistent()
}

/// Publishes some commands at once, and waits until all are acknowledged. What is heard meanwhile is
/// acknowledged and returned.
fn commands(wire: &mut Wire, commands: &[(String, &[u8])]) -> Vec<Publish> {
    let mut open: Vec<u16> =
        commands.iter().map(|(topic, payload)| wire.queue_publish(topic, payload)).collect();
    wire.flush().unwrap();
    let mut heard = Vec::new();
    while !open.is_empty() {
        match wire.next() {
            Packet::Ack(PUBACK, acked, 0) => open.retain(|id| *id != acked),
            Packet::Publish(publish) => {
                if publish.qos > 0 {
                    wire.queue_ack(PUBACK, publish.id);
                }
                heard.push(publish);
            }
            other => panic!("expected PUBACK, found {other:?}"),
        }
    }
    heard
}

/// What answers one question.
fn answer(wire: &mut Wire, topic: &str, payload: &str, kind: &str) -> Publish {
    let heard = commands(wire, &[(topic.into(), payload.as_bytes())]);
    let mut answers = heard.into_iter().filter(|publish| publish.topic.ends_with(kind));
    answers.next().unwrap_or_else(|| {
        let message = wire.message();
        assert!(message.topic.ends_with(kind), "{message:?}");
        message
    })
}

/// The user's own laptop fills them: for the phone these are entries like any other.
fn fill(server: &Server, round: usize) {
    let mut laptop = Wire::connect(server.address, &Connect::new("laptop").user("bob"));
    for chat in 0..CHATS {
        let sends: Vec<(String, &[u8])> = (0..EACH)
            .map(|n| (format!("chat/@peer{chat}/send/m{round}-{n}"), &b"hello there"[..]))
            .collect();
        commands(&mut laptop, &sends);
    }
}

/// The phone comes, and hears all that waits.
fn catch_up(server: &Server, when: &str) {
    let begun = Instant::now();
    let (mut bob, present) = Wire::resume(server.address, &phone());
    assert!(present);
    let first = bob.message();
    let first_after = begun.elapsed();
    let mut heard = vec![first];
    while heard.len() < CHATS {
        heard.push(bob.message());
    }
    let all_after = begun.elapsed();
    println!("{CHATS} chats, {when}: first batch after {first_after:?}, all after {all_after:?}");
    let chat = |publish: &Publish| {
        let chat = publish.topic.strip_prefix("me/json/@peer").unwrap();
        chat.strip_suffix("/batch").unwrap().parse::<usize>().unwrap()
    };
    // Which is the last of several in one millisecond is not said.
    assert!(chat(&heard[0]) >= CHATS - EACH && chat(&heard[CHATS - 1]) < EACH);
    for batch in &heard {
        assert_eq!(batch.text().matches("\"seq\":").count(), EACH, "{batch:?}");
    }
    bob.ping();
    bob.disconnect();
}

#[test]
fn a_phone_comes_back_to_many_chats_in_batches_and_the_most_recent_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &[]);
    let mut bob = Wire::connect(server.address, &phone());
    bob.subscribe("me/json/#", 1);
    commands(&mut bob, &[("me/state".into(), br#"{"batch":true}"#)]);
    bob.disconnect();
    fill(&server, 1);
    catch_up(&server, "from memory");
    fill(&server, 2);
    server.stop();
    server = Server::start(directory.path(), &[]);
    catch_up(&server, "after a start");
    server.stop();
}

#[test]
fn a_gap_is_filled_by_history_and_sync_says_where_all_chats_are() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut bob = Wire::connect(server.address, &phone());
    bob.subscribe("me/json/#", 1);
    bob.disconnect();
    let mut alice = Wire::connect(server.address, &Connect::new("laptop").user("alice"));
    alice.subscribe("me/json/#", 1);
    for n in 1..=5 {
        let send = format!("chat/@bob/send/m{n}");
        commands(&mut alice, &[(send, b"hello")]);
    }
    let asked = r#"{"from":2,"to":4,"request":"gap"}"#;
    let history = answer(&mut alice, "chat/@bob/history", asked, "/history");
    assert_eq!(history.topic, "me/json/@bob/history");
    assert_eq!(history.text().matches("\"seq\":").count(), 3, "{history:?}");
    assert_eq!(text(history.text(), "request"), "gap");
    assert_eq!((number(history.text(), "to"), number(history.text(), "last")), (4, 5));

    // Bob hears all of it, so that it goes; what is unread stays known.
    let mut bob = Wire::connect(server.address, &phone());
    for _ in 1..=5 {
        bob.message();
    }
    commands(&mut bob, &[("chat/@alice/read".into(), b"3")]);
    let sync = answer(&mut bob, "me/sync", "{}", "/sync");
    assert_eq!(sync.topic, "me/json/-/sync");
    assert_eq!(text(sync.text(), "chat"), "@alice");
    assert_eq!((number(sync.text(), "last"), number(sync.text(), "unread")), (5, 2));
    server.stop();
}

#[test]
fn the_compact_view_is_heard_over_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut bob = Wire::connect(server.address, &phone());
    bob.subscribe("me/cbor/#", 1);
    let mut alice = Wire::connect(server.address, &Connect::new("laptop").user("alice"));
    commands(&mut alice, &[("chat/@bob/send/m1".into(), &[0xff, 0])]);
    let message = bob.message();
    assert_eq!(message.topic, "me/cbor/@alice/message");
    let payload = &message.payload[..];
    assert!(payload.starts_with(b"\xa5\x00\x01\x01\x65alice\x02\x1b"), "{payload:x?}");
    assert!(payload.ends_with(b"\x03\x62m1\x04\x42\xff\x00"), "{payload:x?}");
}

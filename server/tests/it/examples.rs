//! The examples of a program around a broker, driven by clients: what they show is so.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;

use tidings_broker::{Broker, Builder};
use tidings_chat::{Chat, ChatEvent, ChatHandle, ChatRef};

use crate::support::text;
use crate::wire::{Connect, PUBACK, Packet, Publish, Wire};

#[allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "as it is"
)]
#[path = "../../examples/bot.rs"]
mod bot;
#[allow(dead_code, unreachable_pub, clippy::print_stdout, reason = "as it is")]
#[path = "../../examples/moderation_filter.rs"]
mod moderation_filter;
#[allow(dead_code, unreachable_pub, clippy::print_stdout, reason = "as it is")]
#[path = "../../examples/push_notifier.rs"]
mod push_notifier;

fn start() -> (Broker, ChatHandle, SocketAddr) {
    start_with(Chat::default())
}

fn start_with(chat: Chat) -> (Broker, ChatHandle, SocketAddr) {
    let handle = chat.handle();
    let listen = "127.0.0.1:0".parse().unwrap();
    let broker = Builder::new().shards(2).listen(listen).service(Arc::new(chat)).start().unwrap();
    let address = broker.addresses()[0];
    (broker, handle, address)
}

fn client(address: SocketAddr, user: &str) -> Wire {
    let mut wire = Wire::connect(address, &Connect::new("phone").user(user).v5().persistent());
    wire.subscribe("me/json/#", 1);
    wire
}

/// Publishes a command and waits until it is done.
fn done(wire: &mut Wire, topic: &str, payload: &str) {
    let id = wire.queue_publish(topic, payload.as_bytes());
    wire.flush().unwrap();
    loop {
        match wire.next() {
            Packet::Ack(PUBACK, acked, 0) if acked == id => return,
            Packet::Publish(Publish { qos: 1, id, .. }) => wire.queue_ack(PUBACK, id),
            Packet::Publish(_) => {}
            other => panic!("expected PUBACK {id}, found {other:?}"),
        }
    }
}

/// What a user said next; whatever else comes is passed over.
fn message_from(wire: &mut Wire, user: &str) -> String {
    loop {
        let message = match wire.next() {
            Packet::Publish(message) => message,
            Packet::Ack(PUBACK, _, 0) => continue,
            other => panic!("expected PUBLISH, found {other:?}"),
        };
        if message.qos > 0 {
            wire.queue_ack(PUBACK, message.id);
            wire.flush().unwrap();
        }
        if message.topic.ends_with("/message") && text(message.text(), "from") == user {
            return text(message.text(), "text").to_owned();
        }
    }
}

#[test]
fn bot_answers_who_writes_to_it_and_greets_who_joins() {
    let (broker, chat, address) = start();
    let events = chat.events(1_024).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bot = thread::spawn({
        let chat = chat.clone();
        move || runtime.block_on(bot::answer(chat, events))
    });
    let mut alice = client(address, "alice");
    alice.queue_publish("chat/@bot/send/m1", b"ping");
    alice.flush().unwrap();
    assert_eq!(message_from(&mut alice, "bot"), "you said ping");
    done(&mut alice, "chat/climbing/create", "");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let token = runtime.block_on(chat.invite("climbing", None, None)).unwrap();
    let mut bob = client(address, "bob");
    let join = format!(r#"{{"token":"{token}"}}"#);
    bob.queue_publish("chat/climbing/join", join.as_bytes());
    bob.flush().unwrap();
    assert_eq!(message_from(&mut bob, "bot"), "welcome, bob");
    broker.stop().unwrap();
    // Its calls end, and it with them.
    assert!(bot.join().unwrap().is_ok());
}

#[test]
fn push_notifier_tells_once_of_who_is_away_until_she_has_it() {
    let (broker, chat, address) = start();
    let events = chat.events(1_024).unwrap();
    let (sender, pushed) = mpsc::channel();
    let notifier = thread::spawn(move || {
        push_notifier::notify(events, |user, chat, depth| {
            sender.send((user.to_owned(), chat.clone(), depth)).unwrap();
        });
    });
    let mut alice = client(address, "alice");
    let direct = ChatRef::direct("alice", "bob");
    done(&mut alice, "chat/@bob/send/m1", "hello");
    assert_eq!(pushed.recv().unwrap(), ("bob".into(), direct.clone(), 1));
    done(&mut alice, "chat/@bob/send/m2", "are you there?");
    // She comes, has it all, and goes again: the author hears it when it is safe.
    let mut bob = client(address, "bob");
    for _ in 0..2 {
        message_from(&mut bob, "alice");
    }
    // Who answers tells a stranger of her ticks.
    done(&mut bob, "chat/@alice/send/m1", "I am");
    loop {
        match alice.next() {
            Packet::Publish(Publish { qos: 1, id, .. }) => alice.queue_ack(PUBACK, id),
            Packet::Publish(receipt) if receipt.text().contains(r#""delivered":"#) => break,
            Packet::Publish(_) => {}
            other => panic!("expected PUBLISH, found {other:?}"),
        }
    }
    bob.disconnect();
    // The broker may notice a moment later that she has gone: then the next one tells.
    let mut sent = 2;
    let pushed = loop {
        sent += 1;
        done(&mut alice, &format!("chat/@bob/send/m{sent}"), "bye");
        done(&mut alice, "me/state", r#"{"batch":false}"#);
        if let Ok(pushed) = pushed.try_recv() {
            break pushed;
        }
    };
    assert_eq!((pushed.0, pushed.1), ("bob".into(), direct));
    broker.stop().unwrap();
    notifier.join().unwrap();
}

#[test]
fn moderation_filter_refuses_what_it_must_and_mutes_who_does_not_stop() {
    let filter = Arc::new(moderation_filter::Filter::new(&["buy now"]));
    let moderator = Arc::clone(&filter);
    let (broker, chat, address) = start_with(Chat::default().with_moderator(moderator));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut events = chat.events(64).unwrap();
    let mut alice = client(address, "alice");
    let mut send = |id: &str, payload: &str| {
        let id = alice.queue_publish(&format!("chat/@bob/send/{id}"), payload.as_bytes());
        alice.flush().unwrap();
        loop {
            match alice.next() {
                Packet::Ack(PUBACK, acked, code) if acked == id => return code,
                Packet::Publish(Publish { qos: 1, id, .. }) => alice.queue_ack(PUBACK, id),
                Packet::Publish(_) => {}
                other => panic!("expected PUBACK {id}, found {other:?}"),
            }
        }
    };
    assert_eq!(send("m1", "hello"), 0);
    assert_eq!(send("m2", "BUY NOW while it lasts"), 0x87);
    // What is retried is refused again, and what was kept is not looked at a second time.
    assert_eq!((send("m2", "BUY NOW while it lasts"), send("m1", "hello")), (0x87, 0));
    // The slow way: somebody has looked at what was delivered, and mutes her from now on.
    let stored = loop {
        if let ChatEvent::Stored(entry) = runtime.block_on(events.next()).unwrap() {
            break entry;
        }
    };
    filter.mute(&stored.from);
    assert_eq!(send("m3", "hello again"), 0x87);
    broker.stop().unwrap();
}

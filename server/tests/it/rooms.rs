//! Rooms and pairing over real sockets: a broker in a program that makes a room, and the binary.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tidings_broker::Builder;
use tidings_broker::auth::{Credentials, Decision, OpenOnLoopback, Refusal, TemporaryUsers};
use tidings_chat::{Chat, Room};

use crate::support::{Server, text};
use crate::wire::{Connect, PUBACK, Packet, Publish, Wire};

struct Member {
    wire: Wire,
    /// What came while something else was waited for.
    early: Vec<Publish>,
}

impl Member {
    /// Comes in with a user name and a password, and hears everything there is for it.
    fn come(address: SocketAddr, connect: Connect) -> Self {
        let mut wire = Wire::connect(address, &connect);
        wire.subscribe("me/json/#", 1);
        Self { wire, early: Vec::new() }
    }

    /// Publishes with QoS 1, and returns the Reason Code.
    fn command(&mut self, topic: &str, payload: &str) -> u8 {
        let id = self.wire.queue_publish(topic, payload.as_bytes());
        self.wire.flush().unwrap();
        loop {
            match self.wire.next() {
                Packet::Ack(PUBACK, acked, code) if acked == id => return code,
                Packet::Publish(publish) => {
                    if publish.qos > 0 {
                        self.wire.queue_ack(PUBACK, publish.id);
                    }
                    self.early.push(publish);
                }
                other => panic!("expected PUBACK {id}, found {other:?}"),
            }
        }
    }

    /// The next message of this kind; others are passed over.
    fn hears(&mut self, kind: &str) -> Publish {
        loop {
            let early = (!self.early.is_empty()).then(|| self.early.remove(0));
            let message = early.unwrap_or_else(|| self.wire.message());
            if message.topic.ends_with(&format!("/{kind}")) {
                return message;
            }
        }
    }
}

/// Whether a file below a folder holds these bytes.
fn holds(directory: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().map(Result::unwrap).any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes)
    })
}

fn make_room(chat: &tidings_chat::ChatHandle) -> Room {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(chat.make_room()).unwrap()
}

#[test]
fn two_take_their_seats_by_link_and_code_and_no_file_knows_what_they_said() {
    let directory = tempfile::tempdir().unwrap();
    let chat = Chat::default();
    let handle = chat.handle();
    let asked = handle.clone();
    let logins = TemporaryUsers::new(Arc::new(OpenOnLoopback), move |login: Credentials| {
        let handle = asked.clone();
        async move {
            let name = login.user_name.unwrap_or_default();
            match handle.login(&name, &login.password.unwrap_or_default()).await {
                Ok(user) => Decision::accept(user),
                Err(_) => Decision::Refuse(Refusal::BadUserNameOrPassword),
            }
        }
    });
    let broker = Builder::new()
        .data_dir(directory.path())
        .shards(3)
        .listen("127.0.0.1:0".parse().unwrap())
        .authenticate(Arc::new(logins))
        .service(Arc::new(chat))
        .start()
        .unwrap();
    let address = broker.addresses()[0];
    let room = make_room(&handle);
    let [one, two] = &room.seats;
    let seat = |name: &str, link: &str, code: &str| Connect::new(name).user(link).password(code);

    for (link, code) in [(&*one.link, "WRONG234"), ("~nothing", &*one.code), (&*room.name, "x")] {
        let refused = Wire::try_connect(address, &seat("phone", link, code).v5());
        assert_eq!(refused.unwrap().1, 0x86, "{link}");
    }
    // One of them wants a session that is kept: there is none.
    let mut alice = Member::come(address, seat("phone", &one.link, &one.code).persistent());
    let mut bob = Member::come(address, seat("phone", &two.link, &two.code).v5());
    let mut carol = Member::come(address, Connect::new("phone").user("carol").v5());
    assert_eq!(bob.command("chat/~/send/m1", "an unspeakable word"), 0);
    let heard = alice.hears("message");
    assert_eq!(heard.topic, format!("me/json/{}/message", room.name));
    assert_eq!(text(heard.text(), "from"), format!("{}.2", room.name));
    assert_eq!(alice.command("chat/~/read", "1"), 0);
    let ticks = bob.hears("receipt");
    assert!(ticks.text().contains("delivered"), "{}", ticks.text());
    // Carol knows the name and nothing else; a seat is for its room and for nothing else.
    assert_eq!(carol.command(&format!("chat/{}/send", room.name), "me too"), 0x87);
    assert_eq!(carol.command("chat/@dave/send", "a word that is kept"), 0);
    assert_eq!(bob.command("chat/@carol/send", "hello"), 0x87);
    assert_eq!(bob.command("plain/topic", "hello"), 0x87);

    drop(alice);
    let mut alice = Member::come(address, seat("tablet", &one.link, &one.code));
    assert_eq!(text(alice.hears("message").text(), "text"), "an unspeakable word");
    assert_eq!(alice.command(&format!("chat/{}/end", room.name), ""), 0);
    assert!(bob.hears("ended").text().contains(r#""why":"end""#));
    let late = Wire::try_connect(address, &seat("phone", &two.link, &two.code).v5());
    assert_eq!(late.unwrap().1, 0x86);
    broker.stop().unwrap();
    assert!(holds(directory.path(), b"a word that is kept"), "this is where it would be");
    for secret in ["unspeakable", &room.name, &one.link, &one.code] {
        assert!(!holds(directory.path(), secret.as_bytes()), "{secret}");
    }
}

#[test]
fn two_strangers_meet_and_go_on_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--set", "chat.pairing=on"]);
    let guest = |name: &str| Member::come(server.address, Connect::new(name).user("~anon").v5());
    let (mut ann, mut ben, mut cat) = (guest("a"), guest("b"), guest("c"));
    assert_eq!(ann.command("pair/talk", r#"{"interests":["jazz","rust"]}"#), 0);
    assert_eq!(ben.command("pair/talk", r#"{"interests":["chess"]}"#), 0);
    assert_eq!(cat.command("pair/talk", r#"{"interests":["rust"]}"#), 0);
    let (paired, of_cat) = (ann.hears("paired"), cat.hears("paired"));
    assert_eq!(text(paired.text(), "interest"), "rust");
    let room = text(paired.text(), "chat");
    assert_eq!(text(of_cat.text(), "chat"), room);
    assert_eq!(cat.command("chat/~/send/m1", "hello, whoever you are"), 0);
    assert_eq!(text(ann.hears("message").text(), "text"), "hello, whoever you are");
    assert_eq!(ann.command(&format!("chat/{room}/signal"), "offer"), 0);
    assert_eq!(text(cat.hears("signal").text(), "text"), "offer");
    assert_eq!(cat.command("pair/talk/next", r#"{"interests":["chess"]}"#), 0);
    assert!(ann.hears("ended").text().contains(r#""why":"next""#));
    assert_eq!(text(cat.hears("paired").text(), "interest"), "chess");
    ben.hears("paired");
    // Who goes ends it for the other.
    drop(cat);
    assert!(ben.hears("ended").text().contains(r#""why":"gone""#));
    assert_eq!(ann.command("plain/topic", "hello"), 0x87);
    assert_eq!(ann.command("chat/@bob/send", "hello"), 0x87);
}

#[test]
fn without_pairing_nobody_comes_in_as_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for name in ["~anon", "~anon-x", "~", "~x.1"] {
        let refused = Wire::try_connect(server.address, &Connect::new("phone").user(name).v5());
        assert_eq!(refused.unwrap().1, 0x86, "{name}");
    }
}

//! Groups over real sockets: three clients of both versions, a removal, a link, a restart.

use std::net::SocketAddr;

use crate::support::{Server, number, text};
use crate::wire::{Connect, PUBACK, Packet, Publish, Wire};

struct Member {
    wire: Wire,
    /// What came while something else was waited for.
    early: Vec<Publish>,
}

impl Member {
    fn connect(address: SocketAddr, user: &str, v5: bool) -> Self {
        let connect = Connect::new("phone").user(user).persistent();
        let connect = if v5 { connect.v5() } else { connect };
        Self { wire: Wire::connect(address, &connect), early: Vec::new() }
    }

    /// The same for the first time: later its session hears without subscribing.
    fn begin(address: SocketAddr, user: &str, v5: bool) -> Self {
        let mut member = Self::connect(address, user, v5);
        member.wire.subscribe("me/json/#", 1);
        member
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

    /// The next message on this topic; others are passed over.
    fn hears(&mut self, topic: &str) -> String {
        loop {
            let early = (!self.early.is_empty()).then(|| self.early.remove(0));
            let message = early.unwrap_or_else(|| self.wire.message());
            if message.topic == topic {
                return message.text().to_owned();
            }
        }
    }
}

#[test]
fn three_clients_share_a_group_until_one_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut alice = Member::begin(server.address, "alice", false);
    let mut bob = Member::begin(server.address, "bob", true);
    let mut carol = Member::begin(server.address, "carol", false);
    let (said, ended) = ("me/json/climbing/message", "me/json/climbing/ended");

    assert_eq!(bob.command("chat/climbing/send/early", "hello?"), 0x90);
    assert_eq!(alice.command("chat/climbing/create", r#"{"title":"Climbing","users":["bob"]}"#), 0);
    assert_eq!(alice.command("chat/climbing/invite", "{}"), 0);
    let link = alice.hears("me/json/climbing/invite");
    let join = format!(r#"{{"token":"{}"}}"#, text(&link, "token"));
    assert_eq!(carol.command("chat/climbing/join", &join), 0);
    assert_eq!(bob.command("chat/climbing/send/m1", "hello"), 0);
    // Created, a link, Carol has joined, and only then Bob has said something.
    for seq in 1..=3 {
        let entry = bob.hears(said);
        assert_eq!((number(&entry, "seq"), text(&entry, "kind")), (seq, "system"));
    }
    for member in [&mut alice, &mut carol] {
        let entry = loop {
            let entry = member.hears(said);
            if !entry.contains("system") {
                break entry;
            }
        };
        assert_eq!((number(&entry, "seq"), text(&entry, "text")), (4, "hello"));
    }
    // A tick of each to its author.
    let ticks = [bob.hears("me/json/climbing/receipt"), bob.hears("me/json/climbing/receipt")];
    assert!(ticks.iter().all(|tick| number(tick, "delivered") == 4), "{ticks:?}");

    // Removed, and then nothing more, over a restart too.
    assert_eq!(alice.command("chat/climbing/remove", r#"{"user":"carol"}"#), 0);
    assert_eq!(alice.command("chat/climbing/send/m2", "without her"), 0);
    let removal = carol.hears(said);
    assert!(removal.contains("remove"), "{removal}");
    assert_eq!(number(&carol.hears(ended), "seq"), 5);
    carol.command("chat/climbing/send/m3", "me too");
    assert_eq!(text(&carol.hears("me/json/climbing/error"), "code"), "forbidden");
    assert!(bob.hears(said).contains("remove"));
    assert_eq!(text(&bob.hears(said), "text"), "without her");
    bob.wire.ping();
    server.stop();
    let server = Server::start(directory.path(), &[]);
    let mut alice = Member::connect(server.address, "alice", false);
    let mut bob = Member::connect(server.address, "bob", true);
    let mut carol = Member::connect(server.address, "carol", false);
    assert_eq!(alice.command("chat/climbing/send/m4", "again"), 0);
    let entry = bob.hears(said);
    assert_eq!((number(&entry, "seq"), text(&entry, "text")), (7, "again"));
    carol.wire.ping();
    carol.command("chat/climbing/info", "{}");
    assert_eq!(text(&carol.hears("me/json/climbing/error"), "code"), "forbidden");
    assert!(carol.early.iter().all(|heard| heard.topic != said), "{:?}", carol.early);
    assert_eq!(bob.command("chat/climbing/info", "{}"), 0);
    let info = bob.hears("me/json/climbing/info");
    assert!(info.contains(r#""members":[{"user":"alice","role":"owner""#), "{info}");
}

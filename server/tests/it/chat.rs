//! Chat over real sockets: the three lines of the banner, ticks, retries, presence.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Server, number, text};
use crate::wire::{Connect, Packet, Publish, Wire};

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether mosquitto's clients are here; where tests must not be skipped, they have to be.
fn has_mosquitto() -> bool {
    let missing: Vec<_> = ["mosquitto_pub", "mosquitto_sub"]
        .into_iter()
        .filter(|name| {
            let mut command = Command::new(name);
            let found = command.arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.is_err()
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    let must = std::env::var("TIDINGS_NEED_CLIENTS").is_ok_and(|value| value == "1");
    assert!(!must, "{missing:?} is not on PATH, and TIDINGS_NEED_CLIENTS=1");
    eprintln!("skipped: {missing:?} is not on PATH");
    false
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {line}")]).stdin(Stdio::null());
    command
}

#[test]
fn lines_of_the_banner_deliver_a_message_as_printed() {
    if !has_mosquitto() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let printed = |name: &str| {
        let mut lines = server.banner.lines().map(str::trim);
        lines.find(|line| line.starts_with(name)).unwrap().to_owned()
    };
    let mut subscriber =
        Killed(shell(&printed("mosquitto_sub")).stdout(Stdio::piped()).spawn().unwrap());
    // Whether bob's phone comes before the message or after it makes no difference.
    let published = shell(&printed("mosquitto_pub")).status().unwrap();
    assert!(published.success());
    // That she is a stranger may be said before it or behind it.
    let mut lines = BufReader::new(subscriber.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| !line.starts_with("me/json/@alice/request")).unwrap();
    let (topic, json) = line.split_once(' ').unwrap();
    assert_eq!(topic, "me/json/@alice/message");
    let time = number(json, "time");
    assert!(time > 1_700_000_000_000, "{json}");
    assert_eq!(
        json,
        format!(r#"{{"seq":1,"from":"alice","time":{time},"id":"m1","text":"hello"}}"#)
    );
}

fn device(server: &Server, user: &str, name: &str) -> Wire {
    let mut wire = Wire::connect(server.address, &Connect::new(name).user(user).persistent());
    wire.subscribe("me/json/#", 1);
    wire
}

fn assert_entry(found: &Publish, topic: &str, json: &str) {
    assert_eq!((found.topic.as_str(), found.qos), (topic, 1), "{found:?}");
    let time = number(found.text(), "time");
    assert_eq!(found.text(), json.replace("TIME", &time.to_string()));
}

/// The next that is no receipt; a receipt may come at any time between.
fn after_receipts(wire: &mut Wire) -> Publish {
    loop {
        let message = wire.message();
        if !message.topic.ends_with("/receipt") {
            return message;
        }
    }
}

fn receipt(wire: &mut Wire) -> Publish {
    loop {
        let message = wire.message();
        if message.topic.ends_with("/receipt") {
            assert_eq!((message.topic.as_str(), message.qos), ("me/json/@bob/receipt", 0));
            return message;
        }
    }
}

/// Publishes a chat command at QoS 1. Deliveries may come before its PUBACK: they are returned.
fn command(wire: &mut Wire, topic: &str, payload: &str) -> Vec<Publish> {
    let id = wire.queue_publish(topic, payload.as_bytes());
    wire.flush().unwrap();
    let mut before = Vec::new();
    loop {
        match wire.next() {
            Packet::Ack(crate::wire::PUBACK, acked, 0) if acked == id => return before,
            Packet::Publish(publish) => {
                if publish.qos > 0 {
                    wire.queue_ack(crate::wire::PUBACK, publish.id);
                }
                before.push(publish);
            }
            other => panic!("expected PUBACK {id}, found {other:?}"),
        }
    }
}

#[test]
fn message_reaches_both_sides_once_and_its_ticks_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--set", "chat.requests=false"]);
    let mut bob = device(&server, "bob", "phone");
    let mut laptop = device(&server, "alice", "laptop");
    let mut tablet = device(&server, "alice", "tablet");

    let heard = command(&mut laptop, "chat/@bob/send/m1", "hello");
    let m1 = r#"{"seq":1,"from":"alice","time":TIME,"id":"m1","text":"hello"}"#;
    assert_entry(&bob.message(), "me/json/@alice/message", m1);
    assert_entry(&after_receipts(&mut tablet), "me/json/@bob/message", m1);
    // MQTT 3.1.1 has no room in a PUBACK, so the sender hears `ack`.
    let ack = heard.into_iter().next().unwrap_or_else(|| laptop.message());
    assert_eq!(ack.topic, "me/json/@bob/ack");
    assert_eq!((number(ack.text(), "seq"), text(ack.text(), "id")), (1, "m1"));

    let delivered = receipt(&mut laptop);
    assert_eq!(text(delivered.text(), "user"), "bob");
    assert_eq!(number(delivered.text(), "delivered"), 1);
    assert_eq!(number(receipt(&mut tablet).text(), "delivered"), 1);
    command(&mut bob, "chat/@alice/read", "1");
    let read = receipt(&mut laptop);
    assert_eq!((number(read.text(), "delivered"), number(read.text(), "read")), (1, 1));

    // The same again, from another device even, is answered with the same place.
    for wire in [&mut laptop, &mut tablet] {
        let again = command(wire, "chat/@bob/send/m1", "hello");
        let ack = again.into_iter().find(|it| it.topic.ends_with("/ack"));
        let ack = ack.unwrap_or_else(|| after_receipts(wire));
        assert_eq!((ack.topic.as_str(), number(ack.text(), "seq")), ("me/json/@bob/ack", 1));
    }
    command(&mut tablet, "chat/@bob/send/m2", "again");
    let m2 = r#"{"seq":2,"from":"alice","time":TIME,"id":"m2","text":"again"}"#;
    assert_entry(&bob.message(), "me/json/@alice/message", m2);
    server.stop();
}

#[test]
fn command_that_nobody_knows_is_answered_with_an_error_and_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut alice = device(&server, "alice", "laptop");
    let error = command(&mut alice, "chat/@bob/shout", "hello").pop();
    let error = error.unwrap_or_else(|| alice.message());
    assert!(error.topic.ends_with("/error"), "{error:?}");
    assert_eq!(text(error.text(), "code"), "format", "{error:?}");
    assert!(!text(error.text(), "text").is_empty(), "{error:?}");
    // MQTT 5 has a code in the PUBACK too.
    let mut five = Wire::connect(server.address, &Connect::new("five").user("alice").v5());
    let id = five.queue_publish("chat/@bob/shout", b"hello");
    five.flush().unwrap();
    match five.next() {
        Packet::Ack(crate::wire::PUBACK, acked, code) => {
            assert_eq!(acked, id);
            assert!(code >= 0x80, "{code:#x}");
        }
        other => panic!("expected PUBACK, found {other:?}"),
    }
    five.ping();
    alice.ping();
}

fn presence(wire: &mut Wire) -> (String, u64) {
    let message = wire.message();
    assert_eq!((message.topic.as_str(), message.qos), ("presence/alice", 0));
    let json = message.text();
    (text(json, "state").to_owned(), number(json, "last_seen"))
}

/// Bob, who has a chat with alice and watches her.
fn watcher(server: &Server) -> Wire {
    let mut bob = Wire::connect(server.address, &Connect::new("watch").user("bob"));
    command(&mut bob, "chat/@alice/send/m1", "hello");
    bob.subscribe("presence/alice", 0);
    assert_eq!(presence(&mut bob).0, "offline");
    bob
}

#[test]
fn presence_follows_a_killed_client_within_the_grace() {
    if !has_mosquitto() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let grace = Duration::from_millis(400);
    let server = Server::start(
        directory.path(),
        &["--set", "chat.requests=false", "--set", "chat.presence_grace_ms=400"],
    );
    let mut bob = watcher(&server);
    let port = server.address.port();
    let line = format!("mosquitto_sub -p {port} -i phone -u alice -c -q 1 -t 'me/json/#'");
    let mut alice = Killed(shell(&line).stdout(Stdio::null()).spawn().unwrap());
    assert_eq!(presence(&mut bob).0, "online");
    let killed = Instant::now();
    alice.0.kill().unwrap();
    let (state, last_seen) = presence(&mut bob);
    let after = killed.elapsed();
    assert_eq!(state, "offline");
    assert!(last_seen > 1_700_000_000_000, "{last_seen}");
    assert!(after >= grace / 2 && after < grace + Duration::from_secs(5), "after {after:?}");
}

#[test]
fn presence_follows_a_disconnect_at_once() {
    let directory = tempfile::tempdir().unwrap();
    // A grace that the test would not outlast.
    let server = Server::start(
        directory.path(),
        &["--set", "chat.requests=false", "--set", "chat.presence_grace_ms=600000"],
    );
    let mut bob = watcher(&server);
    let alice = Wire::connect(server.address, &Connect::new("phone").user("alice"));
    assert_eq!(presence(&mut bob).0, "online");
    alice.disconnect();
    assert_eq!(presence(&mut bob).0, "offline");
}

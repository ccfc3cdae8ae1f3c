//! What both sides of a chat have deleted is found by no search through the data folder, nor is the key
//! it was sealed with; and what is kept is in clear nowhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::Server;
use crate::wire::{Connect, PUBACK, Packet, Publish, Wire};

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Nothing below a folder holds any of these.
fn assert_nowhere(folder: &Path, needles: &[&[u8]], when: &str) {
    let mut all = Vec::new();
    files(folder, &mut all);
    assert!(all.len() > 3, "a store has more files than these: {all:?}");
    for file in all {
        // One may have gone since.
        let content = fs::read(&file).unwrap_or_default();
        for (at, byte) in content.iter().enumerate() {
            let found = needles.iter().any(|it| it[0] == *byte && content[at..].starts_with(it));
            assert!(!found, "{} at {at}, {when}", file.display());
        }
    }
}

/// A device that acknowledges what it hears, and remembers it.
struct Device {
    wire: Wire,
    heard: Vec<Publish>,
}

impl Device {
    fn new(server: &Server, user: &str) -> Self {
        let connect = Connect::new(user).user(user).persistent();
        let (mut wire, present) = Wire::resume(server.address, &connect);
        if !present {
            wire.subscribe("me/json/#", 1);
        }
        Self { wire, heard: Vec::new() }
    }

    /// Publishes, and waits for the PUBACK.
    fn say(&mut self, topic: &str, payload: &str) {
        let id = self.wire.queue_publish(topic, payload.as_bytes());
        self.wire.flush().unwrap();
        loop {
            match self.wire.next() {
                Packet::Ack(PUBACK, acked, 0) if acked == id => return,
                Packet::Publish(publish) => {
                    if publish.qos > 0 {
                        self.wire.queue_ack(PUBACK, publish.id);
                    }
                    self.heard.push(publish);
                }
                other => panic!("expected PUBACK {id}, found {other:?}"),
            }
        }
    }

    /// The first it hears of a kind that says this.
    fn hear(&mut self, kind: &str, text: &str) -> String {
        loop {
            for heard in self.heard.drain(..) {
                if heard.topic.ends_with(kind) && heard.text().contains(text) {
                    return heard.text().to_owned();
                }
            }
            self.heard.push(self.wire.message());
        }
    }

    /// Everything that is acknowledged is so when this returns.
    fn leave(mut self) {
        self.wire.ping_past_messages();
        self.wire.disconnect();
    }
}

/// The next that is a message of a chat; it is not acknowledged.
fn next_message(wire: &mut Wire) -> Publish {
    loop {
        match wire.next() {
            Packet::Publish(publish) if publish.topic.ends_with("/message") => return publish,
            Packet::Publish(_) => {}
            other => panic!("expected a message, found {other:?}"),
        }
    }
}

/// Secrets as they are in the file of keys.
fn secrets(data: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(data.join("chat-keys")).unwrap();
    file[32..].chunks(32).map(<[u8]>::to_vec).collect()
}

#[test]
fn what_both_have_deleted_is_found_by_no_search_nor_is_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("tidings-data");
    let args = ["--set", "data.checkpoint_bytes=1048576", "--set", "data.base_bytes=1048576"];
    let server = Server::start(directory.path(), &args);
    let (mut alice, mut bob) = (Device::new(&server, "alice"), Device::new(&server, "bob"));
    alice.say("chat/@bob/retention", r#"{"keep":"forever"}"#);
    for at in 0..300 {
        let filler = "x".repeat(8_000);
        alice.say(&format!("chat/@bob/send/m{at}"), &format!("SWORDFISH-{at} {filler}"));
        bob.hear("/message", &format!("SWORDFISH-{at} "));
    }
    bob.say("chat/@alice/send/r1", "HERRING is better");
    alice.hear("/message", "HERRING");
    alice.say("chat/@bob/edit/2/e1", "MACKEREL instead");
    bob.hear("/message", "MACKEREL");
    // A device that goes before it has acknowledged what was sent to it.
    let tablet = || Connect::new("tablet").user("bob").persistent();
    let mut wire = Wire::connect(server.address, &tablet());
    wire.subscribe("me/json/#", 1);
    alice.say("chat/@bob/send/s1", "HERRING for the tablet");
    let first = next_message(&mut wire);
    assert!(first.text().contains("HERRING for the tablet"));
    drop(wire);
    let (mut wire, _) = Wire::resume(server.address, &tablet());
    let again = next_message(&mut wire);
    assert_eq!((again.id, again.dup, again.text()), (first.id, true, first.text()));
    drop(wire);
    bob.hear("/message", "HERRING for the tablet");
    alice.leave();
    bob.leave();
    let clear = ["SWORDFISH", "HERRING", "MACKEREL"];
    let clear = clear.map(str::as_bytes);
    assert_nowhere(&data, &clear, "kept");
    // It is all there, also after a crash.
    server.crash();
    let server = Server::start(directory.path(), &args);
    let (mut alice, mut bob) = (Device::new(&server, "alice"), Device::new(&server, "bob"));
    bob.say("chat/@alice/history", r#"{"from":3,"limit":3}"#);
    bob.hear("/history", "SWORDFISH-2 ");
    // What was kept of it only that process could read: the chat sends it anew.
    let (mut wire, _) = Wire::resume(server.address, &tablet());
    assert_eq!(next_message(&mut wire).text(), first.text());
    drop(wire);
    let before = secrets(&data);
    bob.say("chat/@alice/end", "");
    alice.say("chat/@bob/end", "");
    let deadline = Instant::now() + Duration::from_secs(30);
    let key = loop {
        let now = secrets(&data);
        let gone = before.iter().zip(&now).find(|(before, now)| before != now);
        if let Some((key, now)) = gone {
            assert_eq!(*now, vec![0; 32]);
            break key.clone();
        }
        assert!(Instant::now() < deadline, "no key was destroyed");
    };
    bob.say("chat/@alice/history", r#"{"from":1,"limit":200}"#);
    assert!(!bob.hear("/history", "").contains("SWORDFISH"));
    alice.leave();
    bob.leave();
    let search = |when: &str| {
        assert_nowhere(&data, &[clear[0], clear[1], clear[2], &key], when);
    };
    search("while it runs");
    server.stop();
    search("after its end");
    let server = Server::start(directory.path(), &args);
    let mut bob = Device::new(&server, "bob");
    bob.say("chat/@alice/history", r#"{"from":1,"limit":200}"#);
    assert!(!bob.hear("/history", "").contains("SWORDFISH"));
    server.crash();
    search("after another start");
}

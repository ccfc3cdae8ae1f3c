//! Rights by file, from outside: what users may do, and what happens when files change.

use std::fs;
use std::path::Path;

use crate::support::Server;
use crate::wire::{Connect, PUBACK, Packet, Wire};
use crate::{run, run_with};

fn publish(wire: &mut Wire, topic: &str) -> u8 {
    let bytes = wire.publish_bytes(topic, b"x", 1, false, 9);
    wire.send(&bytes).unwrap();
    match wire.next() {
        Packet::Ack(PUBACK, 9, reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn add(directory: &Path, name: &str) {
    run_with(directory, &["user", "add", name], b"pw").ok();
}

fn connect(name: &str) -> Connect {
    Connect::new("phone").v5().user(name).password("pw")
}

/// Puts a file there at once, as editors and `mv` do.
fn replace(directory: &Path, text: &str) {
    let path = directory.join("tidings-data/rights");
    fs::write(path.with_extension("new"), text).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

#[test]
fn users_have_chat_and_what_the_rights_file_allows() {
    let directory = tempfile::tempdir().unwrap();
    add(directory.path(), "bob");
    let server = Server::start(directory.path(), &[]);
    assert!(
        server.banner.contains("chat for every user, and no other topics"),
        "{}",
        server.banner
    );
    assert!(server.banner.contains("allow more in tidings-data/rights"), "{}", server.banner);
    let mut bob = Wire::connect(server.address, &connect("bob"));
    bob.subscribe("me/json/#", 1);
    assert_eq!(publish(&mut bob, "sensors/bob/1"), 0x87);
    let (_, log) = server.end("-TERM");
    assert!(log.contains("no rule allows it"), "{log}");

    replace(directory.path(), "allow users both sensors/%u/#\n");
    let server = Server::start(directory.path(), &[]);
    assert!(server.banner.contains("1 rule, and chat for every user"), "{}", server.banner);
    let mut bob = Wire::connect(server.address, &connect("bob"));
    assert_eq!(publish(&mut bob, "sensors/bob/1"), 0x10);
    assert_eq!(publish(&mut bob, "sensors/amy/1"), 0x87);
    drop(server);
    let server = Server::start(directory.path(), &["--set", "rights.otherwise=allow"]);
    let mut bob = Wire::connect(server.address, &connect("bob"));
    assert_eq!(publish(&mut bob, "sensors/amy/1"), 0x10);
}

#[test]
fn changed_rights_file_counts_without_a_restart_and_a_wrong_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    add(directory.path(), "bob");
    add(directory.path(), "amy");
    replace(directory.path(), "allow all both #\n");
    let server = Server::start(directory.path(), &[]);
    let mut bob = Wire::connect(server.address, &connect("bob").persistent());
    bob.subscribe("secret/#", 1);
    let mut amy = Wire::connect(server.address, &connect("amy"));
    replace(directory.path(), "alow all both #\n");
    run(directory.path(), &["user", "remove", "amy"]).ok();
    server.signal("-HUP");
    // Users are looked at together with rights: when she is gone, the wrong file was seen.
    assert_eq!(amy.next(), Packet::Disconnect(0x87));
    assert_eq!(publish(&mut bob, "x"), 0x10);
    replace(directory.path(), "deny all both secret/#\nallow all both #\n");
    assert_eq!(bob.next(), Packet::Disconnect(0x87));
    bob.ends();
    let (mut bob, present) = Wire::resume(server.address, &connect("bob").persistent());
    assert!(present);
    assert_eq!(publish(&mut bob, "secret/x"), 0x87);
    let (_, log) = server.end("-TERM");
    let wrong = "tidings-data/rights:1: expected `allow`, `deny`, `group` or `#`, found `alow`; \
                 the rights before stay in force";
    assert!(log.contains(wrong), "{log}");
}

#[test]
fn removed_user_is_disconnected_and_so_is_everybody_when_the_first_user_comes() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut open = Wire::connect(server.address, &Connect::new("open").v5());
    assert_eq!(publish(&mut open, "x"), 0x10);
    add(directory.path(), "bob");
    assert_eq!(open.next(), Packet::Disconnect(0x87));
    open.ends();
    add(directory.path(), "amy");
    // The users may still be those of a moment ago.
    let login = |name| loop {
        if let Ok((wire, 0, _)) = Wire::try_connect(server.address, &connect(name)) {
            break wire;
        }
    };
    let (mut amy, mut bob) = (login("amy"), login("bob"));
    run(directory.path(), &["user", "remove", "bob"]).ok();
    assert_eq!(bob.next(), Packet::Disconnect(0x87));
    bob.ends();
    amy.ping();
}

#[test]
fn wrong_rights_file_ends_the_start_with_78() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("tidings-data")).unwrap();
    replace(directory.path(), "# mine\nallow bob publish x\n");
    assert_eq!(
        run(directory.path(), &["serve"]).failed(78),
        "tidings-data/rights:2: expected `all`, `users`, `anonymous`, `user NAME` or \
         `group NAME`, found `bob`"
    );
    let error = run(directory.path(), &["--set", "rights.file=none"]).failed(78);
    assert_eq!(error, "rights.file: there is no file none; an empty one allows nothing");
}

#[test]
fn rights_test_says_which_line_decides() {
    let directory = tempfile::tempdir().unwrap();
    let test = |user: &str, verb: &str, topic: &str| {
        let run = run(directory.path(), &["rights", "test", user, verb, topic]);
        assert_eq!(run.err, "");
        (run.code.unwrap(), run.out.trim_end().to_owned())
    };
    let is = |code: i32, text: &str| (code, text.to_owned());
    assert_eq!(test("bob", "publish", "x"), is(0, "allowed by default: there are no users yet"));
    add(directory.path(), "bob");
    replace(directory.path(), "group staff amy\nallow group staff both x/#\ndeny all both x/y\n");
    let line = |number| format!("tidings-data/rights:{number}");
    assert_eq!(test("amy", "publish", "x/y"), is(0, &format!("allowed by {}", line(2))));
    assert_eq!(test("bob", "subscribe", "x/#"), is(77, &format!("denied by {}", line(3))));
    assert_eq!(test("bob", "publish", "x/z").0, 77);
    assert!(test("bob", "subscribe", "me/json/#").1.starts_with("allowed by chat"));
    assert_eq!(run(directory.path(), &["rights", "test", "bob", "publish", "#"]).code, Some(64));
}

//! `check`, `backup` and `restore` of the real binary, beside one that serves.

use std::fs;

use crate::run;
use crate::support::Server;
use crate::wire::{Connect, Wire};

#[test]
fn store_is_copied_while_it_serves_restored_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let phone = Connect::new("phone").user("bob").persistent();
    let mut bob = Wire::connect(server.address, &phone);
    bob.subscribe("plain/#", 1);
    bob.subscribe("me/json/#", 1);
    bob.disconnect();
    let mut alice = Wire::connect(server.address, &Connect::new("desk").user("alice"));
    for number in 0..50 {
        alice.publish(&format!("plain/{number}"), b"hello", 1, false);
        alice.publish(&format!("chat/@bob/send/m{number}"), b"hello", 1, false);
    }
    let refused = run(directory.path(), &["check", "tidings-data"]).failed(75);
    assert!(refused.contains("in use"), "{refused}");
    let copy = other.path().join("copy");
    let copy = copy.to_str().unwrap();
    let said = run(directory.path(), &["backup", "tidings-data", copy]).ok();
    assert!(said.starts_with("copied ") && said.ends_with(&format!("to {copy}\n")), "{said}");
    let streamed = crate::tidings(directory.path(), &["backup", "tidings-data", "-"]).output();
    let streamed = streamed.unwrap();
    assert!(streamed.status.success() && streamed.stdout.starts_with(b"TIDINGSB"));
    drop(alice);
    server.stop();
    let whole = run(directory.path(), &["check", "tidings-data"]).ok();
    for part in ["journal", "store", "session", "subscription", "queued", "chat", "no problems"] {
        assert!(whole.contains(part), "{part} in {whole}");
    }

    let said = run(other.path(), &["restore", "copy", "tidings-data"]).ok();
    assert!(said.starts_with("restored "), "{said}");
    let refused = run(other.path(), &["restore", "copy", "tidings-data"]).failed(73);
    assert!(refused.contains("not empty"), "{refused}");
    let json = run(other.path(), &["check", "--json", "tidings-data"]).ok();
    assert!(json.contains("\"problems\":[]") && json.contains("\"base\""), "{json}");
    let server = Server::start(other.path(), &[]);
    let (mut bob, present) = Wire::resume(server.address, &phone);
    assert!(present);
    let heard: Vec<_> = (0..100).map(|_| bob.message().topic).collect();
    assert_eq!(heard.iter().filter(|topic| topic.starts_with("plain/")).count(), 50);
    drop(bob);
    server.stop();
}

#[test]
fn store_without_the_keys_of_its_chats_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    Server::start(directory.path(), &[]).stop();
    let keys = directory.path().join("tidings-data/chat-keys");
    fs::remove_file(&keys).unwrap();
    let refused = run(directory.path(), &["--listen", "127.0.0.1:0"]).failed(65);
    assert!(refused.contains("chat-keys is missing"), "{refused}");
    assert!(!keys.exists(), "left as it was");
    fs::write(&keys, b"").unwrap();
    Server::start(directory.path(), &[]).stop();
}

#[test]
fn damage_is_named_and_ends_with_65() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut alice = Wire::connect(server.address, &Connect::new("desk").user("alice"));
    for number in 0..50 {
        alice.publish(&format!("chat/@bob/send/m{number}"), b"hello", 1, false);
    }
    drop(alice);
    server.crash();
    let journal = directory.path().join("tidings-data/store/journal");
    let mut segments: Vec<_> = fs::read_dir(&journal)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("journal-"))
        .collect();
    segments.sort();
    let mut bytes = fs::read(&segments[0]).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&segments[0], bytes).unwrap();
    let before: Vec<_> = files(&directory.path().join("tidings-data"));
    let found = run(directory.path(), &["check", "tidings-data"]);
    assert_eq!((found.code, found.err.as_str()), (Some(65), ""), "{found:?}");
    assert!(found.out.contains("problem: ") && found.out.contains("at byte "), "{}", found.out);
    assert!(found.out.contains("1 problem\n"), "{}", found.out);
    assert_eq!(files(&directory.path().join("tidings-data")), before, "nothing is touched");
    let nothing = run(directory.path(), &["check", "nowhere"]).failed(65);
    assert!(nothing.contains("no store is in \"nowhere/store\""), "{nothing}");
}

fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

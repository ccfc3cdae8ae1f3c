//! What is wrong gets one clear answer, and others are served as before.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::Server;
use crate::wire::{Connect, PATIENCE, Packet, Wire, packet, put_text};
use crate::{run, run_with};

#[test]
fn data_folder_in_use_ends_with_75() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let args = ["--listen", "127.0.0.1:0", "--set", "log.level=off"];
    let error = run(directory.path(), &args).failed(75);
    assert!(error.contains("is in use by another process"), "{error}");
    Wire::connect(server.address, &Connect::new("unharmed")).ping();
}

#[test]
fn file_in_place_of_the_data_folder_ends_with_78() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("data"), "precious").unwrap();
    let args = ["--listen", "127.0.0.1:0", "--data", "data", "--set", "log.level=off"];
    let error = run(directory.path(), &args).failed(78);
    assert!(error.contains("data is no folder"), "{error}");
}

#[test]
fn wrong_format_version_ends_with_65() {
    let directory = tempfile::tempdir().unwrap();
    Server::start(directory.path(), &[]).stop();
    let version = directory.path().join("tidings-data/store/VERSION");
    assert_eq!(fs::read_to_string(&version).unwrap().trim(), "1");
    fs::write(&version, "7\n").unwrap();
    let args = ["--listen", "127.0.0.1:0", "--set", "log.level=off"];
    let error = run(directory.path(), &args).failed(65);
    assert!(error.contains("format version \"7\", this program needs 1"), "{error}");
    fs::write(&version, "1\n").unwrap();
    Server::start(directory.path(), &[]).stop();
}

#[test]
fn damaged_journal_ends_with_65_and_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--durability", "fsync"]);
    let bob = Connect::new("phone").user("bob").persistent();
    let mut bob = Wire::connect(server.address, &bob);
    // Each its own group, for each waits until it is stored.
    for filter in ["a", "b", "c", "d"] {
        bob.subscribe(filter, 1);
    }
    server.crash();
    let journal = directory.path().join("tidings-data/store/journal");
    let mut files = fs::read_dir(&journal).unwrap().map(|it| it.unwrap().path());
    let segment = files.find(|it| it.to_str().unwrap().contains("/journal-")).unwrap();
    // The first record; behind it are others, so it was acknowledged.
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4096] ^= 0xFF;
    fs::write(&segment, bytes).unwrap();
    let args = ["--listen", "127.0.0.1:0", "--set", "log.level=off"];
    let error = run(directory.path(), &args).failed(65);
    assert!(error.contains("is damaged at byte 4096"), "{error}");
    assert!(error.contains(segment.file_name().unwrap().to_str().unwrap()), "{error}");
}

#[test]
fn wrong_password_is_refused_in_the_words_of_the_version() {
    let directory = tempfile::tempdir().unwrap();
    run_with(directory.path(), &["user", "add", "bob"], b"right").ok();
    let server = Server::start(directory.path(), &[]);
    let connect = |password: &str| Connect::new("phone").user("bob").password(password);
    let mut bob = Wire::connect(server.address, &connect("right"));
    let answer = |connect: Connect| Wire::try_connect(server.address, &connect).unwrap();
    let (wire, code, _) = answer(connect("wrong").v5());
    assert_eq!(code, 0x86);
    wire.ends();
    let (wire, code, _) = answer(connect("wrong"));
    assert!(code == 4 || code == 5, "{code}");
    wire.ends();
    // Nobody is let in without a name either.
    let (wire, code, _) = answer(Connect::new("phone").v5());
    assert!(code == 0x86 || code == 0x87, "{code:#x}");
    wire.ends();
    bob.ping();
}

#[test]
fn malformed_and_oversized_packets_end_their_connection_only() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut bob = Wire::connect(server.address, &Connect::new("bob"));
    let reserved_qos = packet(0x36, b"\0\x01tx");
    let mut too_large = vec![0x30, 0xff, 0xff, 0xff, 0x7f];
    put_text(&mut too_large, "t");
    let bad = [(reserved_qos, 0x81), (packet(0xf1, b"x"), 0x81), (too_large, 0x95)];
    for (bytes, code) in bad {
        let mut five = Wire::connect(server.address, &Connect::new("bad").v5());
        five.send(&bytes).unwrap();
        assert_eq!(five.next(), Packet::Disconnect(code), "{bytes:02x?}");
        five.ends();
        let mut four = Wire::connect(server.address, &Connect::new("bad"));
        four.send(&bytes).unwrap();
        four.ends();
    }
    bob.ping();
}

#[test]
fn stranger_who_says_nothing_or_little_is_closed_when_the_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--set", "limits.connect_timeout_s=1"]);
    let mut bob = Wire::connect(server.address, &Connect::new("bob"));
    let began = Instant::now();
    let silent = TcpStream::connect(server.address).unwrap();
    let mut slow = Wire::open(server.address, 4).unwrap();
    slow.send(&Connect::new("slow").bytes()[..9]).unwrap();
    for mut stream in [silent, slow.stream] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "something was said to a stranger");
        assert!(began.elapsed() >= Duration::from_millis(900));
    }
    bob.ping();
    // What is no MQTT is closed at once, and nothing is said to it.
    let mut http = Wire::open(server.address, 4).unwrap();
    http.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    http.ends();
}

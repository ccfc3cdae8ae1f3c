//! `tidings config print`, and a configuration that is wrong.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::run;
use crate::support::Server;
use crate::wire::{Connect, PATIENCE, Wire};

#[test]
fn printed_file_is_a_configuration_that_prints_the_same_values() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["config", "print", "--set", "limits.receive_maximum=32", "--listen", "[::1]:9"];
    let first = run(directory.path(), &args).ok();
    assert!(first.contains("\nreceive_maximum = 32  # from --set; default 64\n"), "{first}");
    assert!(first.contains("\nlisten = [\"[::1]:9\"]  # from --listen; "), "{first}");
    fs::write(directory.path().join("t.toml"), &first).unwrap();
    let second = run(directory.path(), &["config", "print", "--config", "t.toml"]).ok();
    assert!(second.contains("receive_maximum = 32  # from t.toml:"), "{second}");
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn wrong_configuration_ends_with_78_and_one_line() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("t.toml"), "[limits]\nreceive_maximun = 1\n").unwrap();
    let unknown = "t.toml:2: unknown key `limits.receive_maximun`; \
                   did you mean `limits.receive_maximum`?";
    for command in [&["serve"][..], &[], &["config", "print"], &["user", "list"]] {
        let args = [command, &["--config", "t.toml"]].concat();
        assert_eq!(run(directory.path(), &args).failed(78), unknown);
    }
    let error = run(directory.path(), &["--config", "none.toml"]).failed(78);
    assert!(error.starts_with("none.toml: cannot read the configuration: "), "{error}");
    assert_eq!(
        run(directory.path(), &["--set", "shards=many"]).failed(78),
        "--set: shards: expected an integer from 0 to 256, found \"many\""
    );
}

#[test]
fn server_that_offers_less_says_so() {
    let directory = tempfile::tempdir().unwrap();
    for (set, told) in [
        ("maximum_qos=1", Some([0x24, 1])),
        ("maximum_qos=0", Some([0x24, 0])),
        ("retain_available=false", Some([0x25, 0])),
        ("wildcard_subscriptions_available=false", Some([0x28, 0])),
        ("subscription_identifiers_available=false", Some([0x29, 0])),
        ("shared_subscriptions_available=false", Some([0x2a, 0])),
        ("connections_max=1", None),
    ] {
        let server = Server::start(directory.path(), &["--set", &format!("limits.{set}")]);
        let mut first = TcpStream::connect(server.address).unwrap();
        first.set_read_timeout(Some(PATIENCE)).unwrap();
        first.write_all(&Connect::new("first").v5().bytes()).unwrap();
        let mut connack = [0; 64];
        let read = first.read(&mut connack).unwrap();
        let connack = &connack[..read];
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{set}: {connack:02x?}");
        // Receive Maximum and Maximum Packet Size come first, then what is not offered.
        let offers =
            connack[13..].chunks(2).filter(|it| matches!(it[0], 0x24 | 0x25 | 0x28..=0x2a));
        assert_eq!(offers.collect::<Vec<_>>(), told.iter().collect::<Vec<_>>(), "{set}");
        let (_, code, _) = Wire::try_connect(server.address, &Connect::new("more").v5()).unwrap();
        assert_eq!(code, if set == "connections_max=1" { 0x97 } else { 0 }, "{set}");
        server.crash();
    }
}

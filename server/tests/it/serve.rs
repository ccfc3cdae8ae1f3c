//! `tidings serve`: the banner, the refusals and the end by signal.

use std::net::TcpListener;

use super::{run, run_with};
use crate::support::Server;

#[test]
fn start_without_a_command_serves_and_says_what_to_try() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let port = server.address.port();
    for part in [
        "open, because there are no users",
        "tidings-data",
        &format!("mosquitto_sub -p {port} -i phone -u bob -c -q 1 -t 'me/json/#' -v"),
        &format!("mosquitto_pub -p {port} -i laptop -u alice -q 1 -t chat/@bob/send/m1 -m hello"),
        &format!("cargo run --example chat -- alice bob --addr 127.0.0.1:{port}"),
    ] {
        assert!(server.banner.contains(part), "{part} in {}", server.banner);
    }
    assert!(!server.banner.contains('\x1b'), "colours in a pipe");
}

#[test]
fn sigterm_and_sigint_end_with_0_and_only_the_log_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["-TERM", "-INT"] {
        let (code, log) = Server::start(directory.path(), &[]).end(signal);
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");
    }
    let args = ["--set", "log.format=json"];
    let (_, log) = Server::start(directory.path(), &args).end("-TERM");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
    let args = ["--set", "log.level=off"];
    assert_eq!(Server::start(directory.path(), &args).end("-TERM").1, "");
}

#[test]
fn taken_port_ends_with_69() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["serve", "--listen", &address, "--set", "log.level=off"];
    let error = run(directory.path(), &args).failed(69);
    assert!(error.contains(&address) && error.contains("the port is taken"), "{error}");
}

#[test]
fn open_start_off_loopback_is_refused_until_there_is_a_user() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    assert_eq!(
        run(at, &["--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0"]).failed(78),
        "listen: expected loopback addresses only while there are no users, found 0.0.0.0:0; \
         add one with `tidings user add NAME`"
    );
    let error = run(at, &["--listen", "[::]:0", "--data", "other"]).failed(78);
    assert!(error.ends_with("`tidings user add NAME --users other/users`"), "{error}");
    run_with(at, &["user", "add", "bob"], b"pw").ok();
    let server = Server::start(at, &["--listen", "0.0.0.0:0"]);
    assert!(server.banner.contains("1 user with a password"), "{}", server.banner);
}

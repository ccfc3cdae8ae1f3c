//! Logins besides the users file, from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::hmac;

use crate::support::Server;
use crate::wire::{Connect, Packet, Wire};
use crate::{run, run_with};

/// The public key of the example in RFC 8037.
const KEY: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn code(server: &Server, connect: &Connect) -> u8 {
    Wire::try_connect(server.address, connect).unwrap().1
}

#[test]
fn webhook_decides_about_those_who_are_not_in_the_users_file() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("auth.webhook_url=http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = String::new();
            while !question.contains("}") {
                let mut chunk = [0; 1024];
                let read = stream.read(&mut chunk).unwrap();
                question.push_str(&String::from_utf8_lossy(&chunk[..read]));
            }
            let status = if question.contains("right") { "200 OK" } else { "401 Unauthorized" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    run_with(directory.path(), &["user", "add", "bob"], b"pw").ok();
    let server = Server::start(directory.path(), &["--set", &url]);
    assert!(server.banner.contains("logins that http://127.0.0.1:"), "{}", server.banner);
    let connect =
        |user: &str, password: &str| Connect::new("phone").v5().user(user).password(password);
    assert_eq!(code(&server, &connect("amy", "right")), 0);
    assert_eq!(code(&server, &connect("amy", "wrong")), 0x86);
    assert_eq!(code(&server, &connect("bob", "pw")), 0);
    // What the webhook would accept is nothing for a user of the file.
    assert_eq!(code(&server, &connect("bob", "right")), 0x86);
    // Chat is for every user, wherever they come from.
    let mut amy = Wire::connect(server.address, &connect("amy", "right"));
    amy.subscribe("me/json/#", 1);
    amy.ping();
}

#[test]
fn login_that_is_refused_is_in_the_log_with_who_and_where_and_without_the_password() {
    let directory = tempfile::tempdir().unwrap();
    run_with(directory.path(), &["user", "add", "bob"], b"pw").ok();
    let server = Server::start(directory.path(), &[]);
    let long = "x".repeat(100);
    for (user, password) in [("bob", "hunter2"), ("not\na user", "hunter3"), (&long, "hunter4")] {
        let connect = Connect::new("phone").v5().user(user).password(password);
        assert_eq!(code(&server, &connect), 0x86);
    }
    let (_, log) = server.end("-TERM");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("login refused")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    for part in ["INFO", "\"bob\"", "\"phone\"", "127.0.0.1:", "bad user name or password"] {
        assert!(lines[0].contains(part), "{part} in {log}");
    }
    assert!(lines[1].contains(r"not\na user") && !lines[2].contains(&long), "{log}");
    assert!(!log.contains("hunter"), "{log}");
}

#[test]
fn logins_that_fail_too_often_are_not_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    run_with(directory.path(), &["user", "add", "bob"], b"pw").ok();
    let sets = ["limits.login_failures_per_minute=2", "limits.login_failure_delay_ms=0"];
    let server = Server::start(directory.path(), &["--set", sets[0], "--set", sets[1]]);
    let connect = |password: &str| Connect::new("phone").v5().user("bob").password(password);
    for (password, expected) in [("a", 0x86), ("b", 0x86), ("c", 0x89), ("pw", 0x89)] {
        assert_eq!(code(&server, &connect(password)), expected, "{password}");
    }
}

#[test]
fn token_that_does_not_hold_is_refused_and_nobody_comes_in_without_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("keys"), KEY).unwrap();
    let server = Server::start(directory.path(), &["--set", "auth.jwt_keys=keys"]);
    assert!(server.banner.contains("JSON Web Tokens as password"), "{}", server.banner);
    let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJib2IifQ.AAAA";
    assert_eq!(code(&server, &Connect::new("phone").v5().user("bob").password(token)), 0x86);
    assert_eq!(code(&server, &Connect::new("phone").v5().user("bob")), 0x86);
    assert_eq!(code(&server, &Connect::new("phone").v5()), 0x86);
}

#[test]
fn token_signed_with_the_secret_is_taken_and_the_connection_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    fs::write(directory.path().join("secret"), secret).unwrap();
    let args = ["--set", "auth.jwt_secret_file=secret"];
    let server = Server::start(directory.path(), &args);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let token =
        hs256(secret.as_bytes(), &format!(r#"{{"sub":"bob","exp":{}}}"#, now.as_secs() + 5));
    let bob = Connect { password: Some(token), user: Some("bob".into()), ..Connect::new("p").v5() };
    let mut bob = Wire::connect(server.address, &bob);
    bob.ping();
    assert_eq!(bob.next(), Packet::Disconnect(0x87));
    bob.ends();
}

#[test]
fn wrong_settings_end_the_start_with_78() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("short"), "secret").unwrap();
    fs::write(at.join("keys"), KEY).unwrap();
    for (sets, expected) in [
        (&["auth.jwt_keys=none"][..], "none: cannot read the keys of tokens: "),
        (&["auth.jwt_secret_file=short"], "short: expected a secret of at least 32 bytes, found 6"),
        (
            &["auth.jwt_keys=keys", "auth.jwt_algorithms=HS256"],
            "auth.jwt_algorithms: expected some of EdDSA ES256 RS256, found \"HS256\"; HS256 is \
             accepted where auth.jwt_secret_file is set",
        ),
        (
            &["auth.webhook_url=https://x/"],
            "auth.webhook_url: expected an address such as http://127.0.0.1:8080/login, found \
             `https://x/`; for https, ask a proxy on this machine",
        ),
    ] {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let error = run(at, &[&["--listen", "127.0.0.1:0"][..], &sets].concat()).failed(78);
        assert!(error.starts_with(expected), "{error}");
    }
}

/// A token with these claims.
fn hs256(secret: &[u8], claims: &str) -> String {
    let encode = Base64UrlUnpadded::encode_string;
    let signed = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", encode(signature.as_ref()))
}

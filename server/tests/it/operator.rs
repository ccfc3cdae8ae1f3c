//! What is for whoever runs the server, by HTTP: numbers, logging somebody out, the end.

use serde_json::{Value, json};

use crate::run_with;
use crate::support::Server;
use crate::web::{Ask, mqtt};
use crate::wire::Connect;

fn start(directory: &std::path::Path, sets: &[&str]) -> Server {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args: Vec<_> = ["--http", "127.0.0.1:0"].into_iter().chain(sets).collect();
    Server::start(directory, &args)
}

#[test]
fn numbers_are_for_this_machine_and_for_users_who_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let web = server.web();
    let answer = Ask::get("/metrics").send(web);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        "# TYPE tidings_connections gauge\ntidings_connections 0\n",
        "tidings_limit_hits_total{limit=\"web.rooms_per_minute\"} 0\n",
        "tidings_http_connections 1\n",
    ] {
        assert!(answer.text().contains(line), "{line} in {}", answer.text());
    }
    let elsewhere = |path: &str| Ask::get(path).with("X-Forwarded-For", "192.0.2.1");
    for path in ["/metrics", "/api/stats"] {
        let refused = elsewhere(path).send(web);
        assert_eq!(refused.refused(401), "forbidden", "{path}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        let rebound = Ask::get(path).with("Host", "evil.example").send(web);
        assert_eq!(rebound.refused(401), "forbidden");
    }
    drop(server);

    for name in ["alice", "bob"] {
        run_with(directory.path(), &["user", "add", name], b"right").ok();
    }
    let server = start(directory.path(), &["web.operator_local=off", "web.operators=alice"]);
    let web = server.web();
    assert_eq!(Ask::get("/metrics").send(web).refused(401), "forbidden");
    let token = |user: &str| {
        let login = Ask::post("/api/login", &json!({"user": user, "password": "right"}));
        format!("Bearer {}", login.send(web).ok()["token"].as_str().unwrap())
    };
    let as_user = |ask: Ask, user: &str| ask.with("Authorization", &token(user)).send(web);
    assert_eq!(as_user(Ask::get("/metrics"), "alice").status, 200);
    assert_eq!(as_user(Ask::get("/metrics"), "bob").refused(403), "forbidden");
    let nobody = Ask::get("/metrics").with("Authorization", "Bearer tidings1.1.2.x.alice");
    assert_eq!(nobody.send(web).refused(401), "forbidden");
}

#[test]
fn page_shows_busy_chats_and_how_long_messages_take() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let web = server.web();
    let stats = || Ask::get("/api/stats").send(web).ok();
    let first = stats();
    assert_eq!(first["chat"]["top_chats"], json!([]));
    assert_eq!(first["counters"]["tidings_sessions{state=\"connected\"}"], 0);
    let (mut bob, _) = mqtt(web, &Connect::new("phone").user("bob"));
    bob.subscribe("me/json/#", 1);
    let (mut alice, _) = mqtt(web, &Connect::new("laptop").user("alice"));
    // Whether the first is counted depends on who is faster; a message later it is.
    for _ in 0..1_000 {
        let id = alice.queue_publish("chat/@bob/send", b"hello");
        alice.flush().unwrap();
        let _acknowledged = (id, alice.next());
        while !bob.message().topic.ends_with("/message") {}
        let stats = stats();
        if stats["chat"]["delivery_ms"].is_object() {
            assert_eq!(stats["chat"]["top_chats"][0]["chat"], "@alice:@bob");
            assert!(stats["chat"]["delivered"].as_u64().unwrap() >= 1);
            assert_eq!(stats["counters"]["tidings_connections"], 2);
            assert_eq!(stats["slow_clients"], Value::Array(Vec::new()));
            return;
        }
    }
    panic!("nothing was counted");
}

#[test]
fn who_is_logged_out_is_out_with_every_device_and_may_log_in_again() {
    let directory = tempfile::tempdir().unwrap();
    run_with(directory.path(), &["user", "add", "alice"], b"right").ok();
    let server = start(directory.path(), &["limits.login_failure_delay_ms=0"]);
    let web = server.web();
    let login = Ask::post("/api/login", &json!({"user": "alice", "password": "right"}));
    let token = login.send(web).ok()["token"].as_str().unwrap().to_owned();
    let with_token = Connect::new("tab").user("alice").password(&token);
    let (mut wire, code) = mqtt(web, &with_token);
    assert_eq!(code, 0);
    let log_out = |body: Value| Ask::post("/api/admin/logout", &body).send(web);
    assert_eq!(log_out(json!({"user": "a/b"})).refused(400), "format");
    assert_eq!(log_out(json!({"user": "alice"})).ok(), json!({"done": true}));
    assert!(wire.try_next().is_err());
    assert_eq!(mqtt(web, &with_token).1, 4);
    let token = login.send(web).ok()["token"].as_str().unwrap().to_owned();
    assert_eq!(mqtt(web, &Connect::new("tab").user("alice").password(&token)).1, 0);
}

#[test]
fn operator_ends_the_server_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let web = server.web();
    let (mut wire, _) = mqtt(web, &Connect::new("tab").user("alice").v5());
    let page = Ask::new("POST", "/api/admin/drain").with("Origin", "http://evil.example");
    assert_eq!(page.send(web).refused(403), "forbidden");
    assert_eq!(Ask::new("POST", "/api/admin/drain").send(web).status, 202);
    assert_eq!(wire.next(), crate::wire::Packet::Disconnect(0x8b));
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
    assert!(log.contains("an operator"), "{log}");
}

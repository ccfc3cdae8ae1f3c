//! HTTP of the real binary: rooms by link and code from a browser's side, and what is refused.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;

use crate::support::{Server, text};
use crate::web::{Answer, Ask, Socket, connect, mqtt, mqtt_over};
use crate::wire::Connect;
use crate::{run, run_with};

const WEB: [&str; 2] = ["--http", "127.0.0.1:0"];

fn start(directory: &std::path::Path, sets: &[&str]) -> Server {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    Server::start(directory, &WEB.into_iter().chain(sets).collect::<Vec<_>>())
}

#[test]
fn two_people_meet_by_link_and_code_and_talk_over_one_port() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let web = server.web();
    let config = Ask::get("/api/config").send(web).ok();
    assert_eq!((&config["open"], &config["rooms"], &config["pairing"]), {
        let yes = &json!(true);
        (yes, yes, yes)
    });
    let made = Ask::post("/api/rooms", &json!({"names": [" Ann", "Ben"]})).send(web);
    assert_eq!(made.status, 201);
    let made = made.ok();
    assert_eq!((&made["idle_seconds"], &made["seats"][1]["name"]), (&json!(1800), &json!("Ben")));
    let seat = |number: usize| {
        let seat = &made["seats"][number];
        let link = seat["link"].as_str().unwrap().trim_start_matches('~').to_owned();
        // As somebody reads it out.
        let code = seat["code"].as_str().unwrap().to_lowercase();
        Ask::post(
            "/api/seats",
            &json!({"link": link, "code": format!("{}-{}", &code[..4], &code[4..])}),
        )
    };
    let (ann, ben) = (seat(0).send(web).ok(), seat(1).send(web).ok());
    assert_eq!((&ann["name"], &ann["other"]["name"]), (&json!("Ann"), &json!("Ben")));
    assert_eq!((&ben["other"]["user"], &ben["room"]), (&ann["user"], &made["room"]));
    let come = |number: usize, seat: &serde_json::Value| {
        let link = made["seats"][number]["link"].as_str().unwrap();
        let connect = Connect::new("tab").user(link).password(seat["token"].as_str().unwrap());
        let (mut wire, code) = mqtt(web, &connect);
        assert_eq!(code, 0);
        wire.subscribe("me/json/#", 1);
        wire
    };
    let (mut of_ann, mut of_ben) = (come(0, &ann), come(1, &ben));
    of_ann.queue_publish("chat/~/send/m1", b"hello");
    of_ann.flush().unwrap();
    let heard = of_ben.message();
    assert!(heard.topic.ends_with("/message"), "{}", heard.topic);
    assert_eq!(text(heard.text(), "text"), "hello");
    // A connection through here outlives none of the broker's, and the end is in order.
    server.stop();
}

#[test]
fn wrong_codes_wait_and_say_nothing_of_the_link() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let web = server.web();
    let made = Ask::post("/api/rooms", &json!({"names": ["Ann", "Ben"]})).send(web).ok();
    let link = made["seats"][0]["link"].as_str().unwrap();
    let open = |link: &str, code: &str| {
        Ask::post("/api/seats", &json!({"link": link, "code": code})).send(web)
    };
    let code = made["seats"][0]["code"].as_str().unwrap();
    let opened = open(link, code).ok();
    for link in [link, "~there-is-none"] {
        let mut bodies = Vec::new();
        for _ in 0..5 {
            let refused = open(link, "WRONG234");
            assert_eq!(refused.refused(403), "not_opened");
            bodies.push(refused.text().to_owned());
        }
        assert!(bodies.iter().all(|body| *body == bodies[0]));
        let waits = open(link, code);
        assert_eq!(waits.refused(429), "limit", "{link}");
        assert!(waits.json()["retry_after"].as_u64().unwrap() > 20_000);
        assert_eq!(waits.header("retry-after"), Some("30"));
    }
    // Whoever was in comes in again with what was given then.
    assert_eq!(open(link, opened["token"].as_str().unwrap()).ok()["token"], opened["token"]);
    assert_eq!(open(&"x".repeat(100), code).refused(403), "not_opened");
}

#[test]
fn whatever_is_wrong_is_told_with_a_code_and_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["web.rooms=false"]);
    let web = server.web();
    let rooms = |body: &serde_json::Value| Ask::post("/api/rooms", body);
    assert_eq!(rooms(&json!({"names": ["a", "b"]})).send(web).refused(403), "forbidden");
    drop(server);
    let server = start(directory.path(), &["chat.pairing=off"]);
    let web = server.web();
    assert_eq!(Ask::get("/api/config").send(web).ok()["pairing"], false);
    let (_, code) = mqtt(web, &Connect::new("tab").user("~anon"));
    assert_eq!(code, 4);
    for wrong in [
        json!({"names": ["", "b"]}),
        json!({"names": ["a", "b\u{202e}"]}),
        json!({"names": ["a"]}),
        json!({"names": ["a", "b"], "more": 1}),
        json!([]),
    ] {
        assert_eq!(rooms(&wrong).send(web).refused(400), "format", "{wrong}");
    }
    let large = json!({"names": ["a", "x".repeat(20_000)]});
    assert_eq!(rooms(&large).send(web).refused(413), "size");
    let form = Ask::new("POST", "/api/rooms").with("Content-Type", "text/plain").body("{}");
    assert_eq!(form.send(web).refused(415), "format");
    assert_eq!(Ask::get("/api/nothing").send(web).refused(404), "not_found");
    assert_eq!(Ask::get("/api/rooms").send(web).refused(405), "format");
    assert_eq!(Ask::get("/mqtt").send(web).refused(426), "format");
    let good = rooms(&json!({"names": ["a", "b"]}));
    for origin in ["http://evil.example", "null"] {
        assert_eq!(good.clone().with("Origin", origin).send(web).refused(403), "forbidden");
    }
    // A page that gave this machine a name of its own.
    let rebound = good.clone().with("Host", "evil.example").with("Origin", "http://evil.example");
    assert_eq!(rebound.send(web).refused(403), "forbidden");
    let config = Ask::get("/api/config").with("Host", "evil.example").send(web).ok();
    assert_eq!(config["open"], false);
    assert_eq!(good.with("Origin", &format!("http://{web}")).send(web).status, 201);
    let socket = Ask::get("/mqtt")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    // `Connection: close` stands behind it, which is no upgrade.
    assert_eq!(socket.send(web).refused(426), "format");
}

#[test]
fn login_gives_a_token_that_outlives_a_restart_and_not_its_user() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let login = |user: &str, password: &str| {
        Ask::post("/api/login", &json!({"user": user, "password": password}))
    };
    let comes =
        |web, user: &str, token: &str| mqtt(web, &Connect::new("tab").user(user).password(token)).1;
    // Open access is for this machine, which neither a proxy nor a page is that names it.
    let web = server.web();
    let open = Ask::post("/api/login", &json!({"user": "bob"})).send(web).ok();
    assert_eq!(open["user"], "bob");
    for (name, value) in [("Host", "evil.example"), ("X-Forwarded-For", "192.0.2.1")] {
        let refused = login("bob", "").with(name, value).send(web);
        assert_eq!(refused.refused(403), "forbidden", "{name}");
    }
    assert_eq!(login("b/b", "").send(web).refused(400), "format");
    // The same by MQTT; whoever needs no login comes in.
    for (user, code) in [("bob", 5), ("~anon", 0)] {
        let socket = Socket::open_with(web, &[("X-Forwarded-For", "192.0.2.1")]);
        assert_eq!(mqtt_over(socket, &Connect::new("tab").user(user)).1, code, "{user}");
    }
    let open = open["token"].as_str().unwrap().to_owned();
    assert_eq!(comes(web, "bob", &open), 0);
    drop(server);

    run_with(directory.path(), &["user", "add", "alice"], b"right").ok();
    let server = start(directory.path(), &["limits.login_failure_delay_ms=0"]);
    let web = server.web();
    assert_eq!(Ask::get("/api/config").send(web).ok()["open"], false);
    assert_eq!(login("alice", "wrong").send(web).refused(401), "forbidden");
    assert_eq!(login("nobody", "").send(web).refused(401), "forbidden");
    let answer = login("alice", "right").send(web);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = answer.ok();
    assert!(answer["expires"].as_u64().unwrap() > 1_790_000_000_000);
    let token = answer["token"].as_str().unwrap().to_owned();
    drop(server);
    let server = start(directory.path(), &["limits.login_failure_delay_ms=0"]);
    let web = server.web();
    assert_eq!(comes(web, "alice", &token), 0);
    assert_eq!(comes(web, "bob", &token), 4, "it is alice's");
    assert_eq!(comes(web, "bob", &open), 4, "nobody proved to be bob");
    let (mut wire, _) = mqtt(web, &Connect::new("other").user("alice").password(&token));
    run_with(directory.path(), &["user", "add", "--replace", "alice"], b"new").ok();
    // Whoever was in with the old password is out, and stays out.
    assert!(wire.try_next().is_err());
    assert_eq!(comes(web, "alice", &token), 4);
}

#[test]
fn every_answer_says_what_a_page_may_do() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let web = server.web();
    for path in ["/health", "/api/config", "/nothing", "/mqtt"] {
        let answer = Ask::get(path).send(web);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'self';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(policy.contains(&format!("ws://{web}")), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert!(answer.header("permissions-policy").unwrap().contains("camera=(self)"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(Ask::get("/health").send(web).ok(), json!({"status": "ok"}));
}

#[test]
fn app_is_one_page_whose_files_are_kept_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let web = server.web();
    let index = Ask::get("/").send(web);
    assert_eq!((index.status, index.header("cache-control")), (200, Some("no-cache")));
    assert!(index.text().contains("<title>"), "{}", index.text());
    for path in ["/r/x1", "/strangers", "/chats", "/admin"] {
        assert_eq!(Ask::get(path).send(web).body, index.body, "{path}");
    }
    let again = Ask::get("/").with("If-None-Match", index.header("etag").unwrap()).send(web);
    assert_eq!((again.status, again.body.len()), (304, 0));
    let head = Ask::new("HEAD", "/").send(web);
    assert_eq!((head.status, head.body.len()), (200, 0));
    let files = index.text().split('"').filter(|part| part.starts_with("/assets/"));
    for path in files {
        let plain = Ask::get(path).send(web);
        assert!(plain.header("cache-control").unwrap().contains("immutable"), "{path}");
        for encoding in ["br", "gzip"] {
            let packed = Ask::get(path).with("Accept-Encoding", encoding).send(web);
            assert_eq!(packed.header("content-encoding"), Some(encoding), "{path}");
            assert!(packed.body.len() < plain.body.len() && packed.header("vary").is_some());
        }
    }
    for path in ["/assets/none.js", "/../Cargo.toml", "/.git/config"] {
        assert_eq!(Ask::get(path).send(web).refused(404), "not_found", "{path}");
    }
}

#[test]
fn who_is_slow_or_comes_too_often_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let sets = ["web.timeout_s=1", "web.connections_max=3", "limits.rates=on", "web.rooms_burst=2"];
    let server = start(directory.path(), &sets);
    let web = server.web();
    // Half a head, half a body, nothing at all, and nothing behind a request.
    let mut slow: Vec<_> = (0..3).map(|_| connect(web)).collect();
    slow[0].write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n").unwrap();
    slow[1].write_all(b"POST /api/rooms HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{").unwrap();
    let mut late = connect(web);
    assert_eq!(late.read(&mut [0; 64]).unwrap_or(0), 0, "the fourth of three");
    for at in [0, 2] {
        let _said_or_not = slow[at].read_to_end(&mut Vec::new());
    }
    assert_eq!(Answer::read(&mut slow[1]).status, 408);
    let mut idle = connect(web);
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut idle).status, 200);
    // Those that became MQTT are the broker's to count.
    let _sockets: Vec<_> = (0..6).map(|_| Socket::open(web)).collect();
    let make = || Ask::post("/api/rooms", &json!({"names": ["a", "b"]})).send(web);
    assert_eq!((make().status, make().status), (201, 201));
    let refused = make();
    assert_eq!(refused.refused(429), "limit");
    assert!(refused.json()["retry_after"].as_u64().unwrap() <= 6_000);
    let many = "x-many: 1\r\n".repeat(100);
    let mut stream = connect(web);
    let request = format!("GET /health HTTP/1.1\r\nHost: a\r\n{many}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 431);
    let mut stream = connect(web);
    let _ = stream.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(70_000)).as_bytes());
    assert!([414, 431].contains(&Answer::read(&mut stream).status));
}

#[test]
fn all_who_come_at_once_come_in() {
    let directory = tempfile::tempdir().unwrap();
    // All from one address, and none of them known yet.
    let server = start(directory.path(), &["limits.unauthenticated_per_address_max=1000"]);
    let web = server.web();
    let come = |number: usize| {
        std::thread::spawn(move || {
            let name = format!("tab-{number}");
            let (mut wire, code) = mqtt(web, &Connect::new(&name).user("~anon").v5());
            wire.subscribe("me/json/#", 1);
            (wire, code)
        })
    };
    let all: Vec<_> = (0..200).map(come).collect();
    let all: Vec<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(all.iter().all(|(_, code)| *code == 0));
}

#[test]
fn port_that_was_asked_for_must_be_free_and_the_default_one_need_not() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["--listen", "127.0.0.1:0", "--set", "log.level=off", "--http", &address];
    let error = run(directory.path(), &args).failed(69);
    assert!(error.contains(&format!("http: cannot listen on {address}")), "{error}");
    assert!(error.contains("--http off"), "{error}");
    let _mine_or_another_programs = TcpListener::bind("127.0.0.1:8080");
    let server = Server::start_by_default(directory.path());
    assert!(server.banner.contains("another program has port 8080"), "{}", server.banner);
    server.stop();
    let everywhere = ["--listen", "127.0.0.1:0", "--http", "0.0.0.0:0", "--set", "log.level=off"];
    let error = run(directory.path(), &everywhere).failed(78);
    assert!(error.starts_with("http: expected loopback addresses only"), "{error}");
}

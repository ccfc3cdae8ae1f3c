//! Files of chats by HTTP: uploaded in pieces, seen by who is in the chat, gone with the last message.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::support::Server;
use crate::web::{Answer, Ask, Socket, mqtt};
use crate::wire::{Connect, PUBACK, Packet, Wire};

const FILE_TYPE: &str = "application/vnd.tidings.file+json";

fn start(directory: &Path, sets: &[&str]) -> Server {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args: Vec<_> = ["--http", "127.0.0.1:0"].into_iter().chain(sets).collect();
    Server::start(directory, &args)
}

/// Who asks, by the token of a login.
struct Caller {
    web: SocketAddr,
    bearer: String,
}

impl Caller {
    fn log_in(web: SocketAddr, user: &str) -> Self {
        let answer = Ask::post("/api/login", &json!({"user": user})).send(web).ok();
        Self { web, bearer: format!("Bearer {}", answer["token"].as_str().unwrap()) }
    }

    fn ask(&self, ask: Ask) -> Answer {
        let ask = ask.with("Authorization", &self.bearer).with("Tus-Resumable", "1.0.0");
        ask.send(self.web)
    }

    fn begin(&self, chat: &str, kind: &str, bytes: usize) -> Answer {
        let coded = |text: &str| Base64::encode_string(text.as_bytes());
        let metadata = format!("chat {},type {}", coded(chat), coded(kind));
        let ask = Ask::new("POST", "/api/media").with("Upload-Length", &bytes.to_string());
        self.ask(ask.with("Upload-Metadata", &metadata))
    }

    fn patch(&self, place: &str, offset: usize, piece: &[u8]) -> Answer {
        let ask = Ask::new("PATCH", place).with("Upload-Offset", &offset.to_string());
        self.ask(ask.with("Content-Type", "application/offset+octet-stream").body(piece))
    }

    /// All of it at once; the hash.
    fn upload(&self, chat: &str, kind: &str, bytes: &[u8]) -> String {
        let begun = self.begin(chat, kind, bytes.len());
        assert_eq!(begun.status, 201, "{}", begun.text());
        let done = self.patch(begun.header("location").unwrap(), 0, bytes);
        assert_eq!(done.status, 204, "{}", done.text());
        done.header("tidings-media").unwrap().to_owned()
    }

    fn get(&self, chat: &str, hash: &str) -> Answer {
        self.ask(Ask::get(&format!("/api/media/{hash}?chat={chat}")))
    }

    /// Asks until it is not there any more.
    fn waits_until_gone(&self, chat: &str, hash: &str) {
        while self.get(chat, hash).status == 200 {}
        assert_eq!(self.get(chat, hash).status, 404);
    }
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a PUBLISH with a Content Type.
fn file_message(topic: &str, hash: &str, id: u16) -> Vec<u8> {
    let mut body = Vec::new();
    let text = |body: &mut Vec<u8>, text: &str| {
        body.extend((text.len() as u16).to_be_bytes());
        body.extend(text.as_bytes());
    };
    text(&mut body, topic);
    body.extend(id.to_be_bytes());
    body.push((FILE_TYPE.len() + 3) as u8);
    body.push(3);
    text(&mut body, FILE_TYPE);
    body.extend(json!({"media": hash, "name": "a.png", "size": 1}).to_string().bytes());
    let mut packet = vec![0x32];
    packet.extend([(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8]);
    packet.extend(body);
    packet
}

fn send(wire: &mut Wire<Socket>, topic: &str, hash: &str) {
    let id = wire.next_id();
    wire.send(&file_message(topic, hash, id)).unwrap();
    while !matches!(wire.next(), Packet::Ack(PUBACK, acked, code) if acked == id && code == 0) {}
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn file_is_uploaded_in_pieces_over_a_restart_and_seen_by_who_is_in_the_chat() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let alice = Caller::log_in(server.web(), "alice");
    let bytes: Vec<u8> = (0..700_000_u32).map(|number| (number % 251) as u8).collect();
    let begun = alice.begin("@bob", "image/png", bytes.len());
    assert_eq!((begun.status, begun.header("tus-resumable")), (201, Some("1.0.0")));
    let place = begun.header("location").unwrap().to_owned();
    let first = alice.patch(&place, 0, &bytes[..300_000]);
    assert_eq!((first.status, first.header("upload-offset")), (204, Some("300000")));
    assert_eq!(first.header("tidings-media"), None);
    assert_eq!(alice.patch(&place, 5, b"x").refused(409), "conflict");
    server.stop();

    let server = start(directory.path(), &[]);
    let alice = Caller { web: server.web(), ..alice };
    let head = alice.ask(Ask::new("HEAD", &place));
    assert_eq!((head.header("upload-offset"), head.header("upload-length")), {
        (Some("300000"), Some("700000"))
    });
    let bob = Caller::log_in(server.web(), "bob");
    assert_eq!(bob.ask(Ask::new("HEAD", &place)).status, 404, "it is alice's");
    // A piece that ends early stays as far as it came.
    let mut broken = crate::web::connect(server.web());
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nUpload-Offset: 300000\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: 400000\r\n\r\n",
        alice.bearer
    );
    std::io::Write::write_all(&mut broken, head.as_bytes()).unwrap();
    std::io::Write::write_all(&mut broken, &bytes[300_000..350_000]).unwrap();
    drop(broken);
    let offset = loop {
        let head = alice.ask(Ask::new("HEAD", &place));
        let offset: usize = head.header("upload-offset").unwrap().parse().unwrap();
        if offset > 300_000 {
            break offset;
        }
    };
    let done = alice.patch(&place, offset, &bytes[offset..]);
    assert_eq!(done.status, 204, "{}", done.text());
    let hash = done.header("tidings-media").unwrap();
    assert_eq!(hash, sha256(&bytes));
    assert_eq!(alice.ask(Ask::new("HEAD", &place)).status, 404, "it is a file now");

    // Before the message that names it, it is whose it was.
    assert_eq!((alice.get("@bob", hash).status, bob.get("@alice", hash).status), (200, 404));
    let (mut wire, _) = mqtt(server.web(), &Connect::new("tab").user("alice").v5());
    send(&mut wire, "chat/@bob/send", hash);
    let got = bob.get("@alice", hash);
    assert_eq!((got.status, got.header("content-type")), (200, Some("image/png")));
    assert!(got.body == bytes && got.header("cache-control").unwrap().contains("immutable"));
    assert!(got.header("content-security-policy").unwrap().contains("sandbox"));
    let path = format!("/api/media/{hash}?chat=@alice");
    let part = bob.ask(Ask::get(&path).with("Range", "bytes=699990-"));
    assert_eq!((part.status, &part.body[..]), (206, &bytes[699_990..]));
    assert_eq!(part.header("content-range"), Some("bytes 699990-699999/700000"));
    assert_eq!(bob.ask(Ask::get(&path).with("Range", "bytes=700000-")).refused(416), "format");
    let carol = Caller::log_in(server.web(), "carol");
    for (chat, status) in [("@alice", 404), ("@bob", 404), ("~x", 403), ("climbing", 403)] {
        assert_eq!(carol.get(chat, hash).status, status, "{chat}");
    }
    assert_eq!(bob.get("@bob", hash).status, 404, "these would be notes to himself");
    assert_eq!(bob.get("@alice", &"0".repeat(64)).refused(404), "not_found");
    assert_eq!(bob.get("@alice", "../../users").status, 404);
    assert_eq!(Ask::get(&path).send(server.web()).refused(401), "forbidden");
}

#[test]
fn what_cannot_be_uploaded_is_refused_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let sets =
        ["media.file_bytes_max=1000", "media.user_bytes_per_day=132000", "media.bytes_max=140000"];
    let server = start(directory.path(), &sets);
    let web = server.web();
    assert_eq!(Ask::get("/api/config").send(web).ok()["media_bytes_max"], 1000);
    let alice = Caller::log_in(web, "alice");
    let options = Ask::new("OPTIONS", "/api/media").send(web);
    assert_eq!((options.status, options.header("tus-max-size")), (204, Some("1000")));
    assert_eq!(alice.begin("@bob", "a/b", 1001).refused(413), "size");
    assert_eq!(alice.begin("@bob", "a/b", 0).refused(400), "format");
    assert_eq!(alice.begin("nowhere", "a/b", 1).refused(403), "forbidden");
    assert_eq!(alice.begin("a b", "a/b", 1).refused(400), "format");
    assert_eq!(alice.ask(Ask::new("POST", "/api/media")).refused(400), "format");
    let other = Ask::new("POST", "/api/media").with("Tus-Resumable", "0.2.2").send(web);
    assert_eq!(other.refused(412), "format");
    let hash = alice.upload("@bob", "text/html", &[b'x'; 900]);
    assert_eq!(alice.begin("@bob", "a/b", 700).refused(429), "limit");
    assert_eq!(alice.patch("/api/media/uploads/none", 0, b"x").refused(404), "not_found");
    let small = alice.begin("@bob", "a/b", 5);
    let place = small.header("location").unwrap();
    assert_eq!(alice.patch(place, 0, b"more than five").refused(413), "size");
    assert_eq!(alice.ask(Ask::new("DELETE", place)).status, 204);
    assert_eq!(alice.ask(Ask::new("DELETE", place)).status, 404);
    let carol = Caller::log_in(web, "carol");
    assert_eq!(carol.begin("@bob", "a/b", 1000).status, 201);
    // Each file counts 64 KiB besides.
    let dave = Caller::log_in(web, "dave");
    assert_eq!(dave.begin("@alice", "a/b", 500).refused(429), "limit");
    let metrics = Ask::get("/metrics").send(web);
    for bound in ["file_bytes_max", "user_bytes_per_day", "bytes_max"] {
        let none = format!("tidings_limit_hits_total{{limit=\"media.{bound}\"}} 0\n");
        assert!(!metrics.text().contains(&none), "{bound}");
    }
    // What a browser might run is to be saved.
    let (mut wire, _) = mqtt(web, &Connect::new("tab").user("alice").v5());
    send(&mut wire, "chat/@bob/send", &hash);
    let got = alice.get("@bob", &hash);
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_eq!(got.header("content-disposition"), Some("attachment"));
}

#[test]
fn file_goes_with_the_last_message_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let sets = ["media.checks_per_second=100", "media.unreferenced_s=1"];
    let server = start(directory.path(), &sets);
    let web = server.web();
    let alice = Caller::log_in(web, "alice");
    let (mut wire, _) = mqtt(web, &Connect::new("tab").user("alice").v5());
    let stored = directory.path().join("tidings-data/media/files");
    // One that stays, one that is deleted, one that nobody names.
    let names = ["stays", "goes", "unnamed"];
    let [stays, goes, unnamed] =
        names.map(|name| alice.upload("@bob", "image/png", name.as_bytes()));
    send(&mut wire, "chat/@bob/send", &stays);
    send(&mut wire, "chat/@bob/send", &goes);
    alice.waits_until_gone("@bob", &unnamed);
    assert_eq!(alice.get("@bob", &goes).status, 200);
    let id = wire.queue_publish("chat/@bob/delete/2", b"everyone");
    wire.flush().unwrap();
    assert_eq!(wire.next(), Packet::Ack(PUBACK, id, 0));
    alice.waits_until_gone("@bob", &goes);
    assert_eq!(alice.get("@bob", &stays).status, 200);
    let left = files(&stored);
    assert!(left.len() == 1 && left[0].ends_with(&stays), "{left:?}");
}

#[test]
fn file_of_a_room_is_in_memory_and_goes_with_the_room() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["media.checks_per_second=100"]);
    let web = server.web();
    let made = Ask::post("/api/rooms", &json!({"names": ["Ann", "Ben"]})).send(web).ok();
    let sit = |number: usize| {
        let seat = &made["seats"][number];
        let key = json!({"link": seat["link"], "code": seat["code"]});
        let opened = Ask::post("/api/seats", &key).send(web).ok();
        let link = seat["link"].as_str().unwrap();
        let token = opened["token"].as_str().unwrap();
        let caller = Caller { web, bearer: format!("Bearer {link}:{token}") };
        (caller, mqtt(web, &Connect::new("tab").user(link).password(token).v5()).0)
    };
    let ((ann, mut of_ann), (ben, _of_ben)) = (sit(0), sit(1));
    let hash = ann.upload("~", "image/png", b"an unspeakable picture");
    send(&mut of_ann, "chat/~/send", &hash);
    assert_eq!(ben.get("~", &hash).body, b"an unspeakable picture");
    assert_eq!(ben.get(made["room"].as_str().unwrap(), &hash).status, 200);
    let alice = Caller::log_in(web, "alice");
    assert_eq!(alice.get(made["room"].as_str().unwrap(), &hash).status, 403);
    let stored = files(&directory.path().join("tidings-data"));
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(11).any(|part| part == b"unspeakable" || *part == hash.as_bytes()[..11])
    };
    assert!(!stored.iter().any(holds));
    let id = of_ann.queue_publish("chat/~/end", b"");
    of_ann.flush().unwrap();
    while !matches!(of_ann.next(), Packet::Ack(PUBACK, acked, _) if acked == id) {}
    assert!([401, 403, 404].contains(&ben.get("~", &hash).status));
}

//! Groups: who is in them, what each hears and may do, and what it costs.

use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};
use tidings_core::metric::Metric;

use crate::harness::{World, number, text};

/// Alice has made `climbing` and added those named, each with a phone. Everything is heard.
fn climbing(world: &mut World, others: &[&str]) -> (SessionId, Vec<SessionId>) {
    let alice = world.device("alice", "phone");
    let ids: Vec<SessionId> = others.iter().map(|user| world.device(user, "phone")).collect();
    world.settle();
    done(world, alice, "chat/climbing/create", r#"{"title":"Climbing"}"#);
    if !others.is_empty() {
        done(world, alice, "chat/climbing/add", &users(others));
    }
    for id in ids.iter().chain([&alice]) {
        world.session(*id).heard.clear();
    }
    (alice, ids)
}

fn users(names: &[&str]) -> String {
    serde_json::json!({ "users": names }).to_string()
}

fn ask(world: &mut World, id: SessionId, topic: &str, payload: &str) -> u64 {
    let serial = world.publish(id, topic, payload.as_bytes());
    world.settle();
    serial
}

fn done(world: &mut World, id: SessionId, topic: &str, payload: &str) {
    let serial = ask(world, id, topic, payload);
    let code = world.property(serial, "code");
    assert_eq!(world.answer(serial), Some(ReasonCode::Success), "{topic} {payload}: {code:?}");
}

fn refused(world: &mut World, id: SessionId, topic: &str, payload: &str, code: &str) {
    let serial = ask(world, id, topic, payload);
    assert_eq!(world.property(serial, "code").as_deref(), Some(code), "{topic} {payload}");
}

/// The texts of the messages a client heard, `system` entries by their action.
fn texts(world: &mut World, id: SessionId) -> Vec<String> {
    let bodies = world.take_heard(id, "message");
    let shown = bodies.iter().map(|body| {
        let shown = text(body, "text").unwrap();
        if text(body, "kind").as_deref() == Some("system") {
            let user = serde_json::from_str::<serde_json::Value>(&shown).unwrap();
            return format!("{} {}", text(body, "from").unwrap(), user["action"].as_str().unwrap());
        }
        shown
    });
    shown.collect()
}

#[test]
fn a_group_is_made_and_every_member_hears_it() {
    for shards in [1, 4] {
        let mut world = World::new(shards);
        let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
        done(&mut world, alice, "chat/climbing/send/m1", "hello");
        done(&mut world, ids[0], "chat/climbing/send/m1", "hi");
        assert_eq!(texts(&mut world, alice), ["hi"]);
        assert_eq!(texts(&mut world, ids[0]), ["hello"]);
        let heard = world.take_heard(ids[1], "message");
        assert_eq!(heard.len(), 2);
        assert_eq!((number(&heard[0], "seq"), number(&heard[1], "seq")), (Some(3), Some(4)));
        assert_eq!(text(&heard[1], "from").as_deref(), Some("bob"));
    }
}

#[test]
fn every_change_is_an_entry_with_its_place() {
    let mut world = World::new(2);
    let alice = world.device("alice", "phone");
    let watcher = world.device("alice", "laptop");
    world.settle();
    for (verb, payload) in [
        ("create", r#"{"title":"Climbing","users":["bob"]}"#),
        ("add", r#"{"users":["carol"]}"#),
        ("role", r#"{"user":"bob","role":"admin"}"#),
        ("title", r#"{"title":"Bouldering"}"#),
        ("invite", "{}"),
        ("remove", r#"{"user":"carol"}"#),
        ("leave", ""),
    ] {
        done(&mut world, alice, &format!("chat/climbing/{verb}"), payload);
    }
    let heard = world.take_heard(watcher, "message");
    let seqs: Vec<_> = heard.iter().map(|body| number(body, "seq").unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
    let told: Vec<String> = heard.iter().map(|body| text(body, "text").unwrap()).collect();
    assert_eq!(
        told,
        [
            r#"{"action":"create","users":["bob"],"title":"Climbing"}"#,
            r#"{"action":"add","users":["carol"],"role":"member"}"#,
            r#"{"action":"role","users":["bob"],"role":"admin"}"#,
            r#"{"action":"title","title":"Bouldering"}"#,
            r#"{"action":"invite","role":"member"}"#,
            r#"{"action":"remove","users":["carol"]}"#,
            r#"{"action":"leave","owner":"bob"}"#,
        ]
    );
    assert!(heard.iter().all(|body| text(body, "kind").as_deref() == Some("system")));
    // What is done already is done once more without an entry.
    let bob = world.device("bob", "phone");
    world.settle();
    done(&mut world, bob, "chat/climbing/create", "{}");
    done(&mut world, bob, "chat/climbing/title", r#"{"title":"Bouldering"}"#);
    done(&mut world, alice, "chat/climbing/leave", "{}");
    done(&mut world, bob, "chat/climbing/send/m1", "x");
    assert_eq!(world.take_heard(watcher, "message"), Vec::<String>::new());
}

#[test]
fn a_removal_counts_for_the_next_entry() {
    for seed in 0..20 {
        let mut world = World::with(1 + seed as u16 % 4, ChatOptions::default(), seed);
        let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
        let listener = world.connect("bob", "radio");
        world.subscribe(listener, "me/json/#", QoS::AtMostOnce);
        world.settle();
        // All of it at once: what comes behind the removal is judged by it.
        world.publish(alice, "chat/climbing/send/m1", b"before");
        world.publish(alice, "chat/climbing/remove", br#"{"user":"bob"}"#);
        world.publish(alice, "chat/climbing/send/m2", b"after");
        world.settle();
        for bob in [ids[0], listener] {
            assert_eq!(texts(&mut world, bob), ["before", "alice remove"], "seed {seed}");
            let ended = world.take_heard(bob, "ended");
            assert_eq!(ended, [r#"{"seq":4}"#], "seed {seed}");
        }
        assert_eq!(texts(&mut world, ids[1]), ["before", "alice remove", "after"]);
        refused(&mut world, ids[0], "chat/climbing/send/m9", "x", "forbidden");
        refused(&mut world, ids[0], "chat/climbing/read", "5", "forbidden");
        refused(&mut world, ids[0], "chat/climbing/info", "{}", "forbidden");
        // Also not on another device, nor when that one comes back.
        world.disconnect(ids[0], Disconnection::Abrupt);
        world.device("bob", "phone");
        let tablet = world.device("bob", "tablet");
        world.settle();
        done(&mut world, alice, "chat/climbing/send/m3", "later");
        for bob in [ids[0], tablet, listener] {
            assert_eq!(texts(&mut world, bob), Vec::<String>::new(), "seed {seed}");
        }
    }
}

#[test]
fn who_was_away_when_removed_hears_everything_up_to_that_and_then_nothing() {
    let mut world = World::new(3);
    let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
    world.disconnect(ids[0], Disconnection::Clean);
    done(&mut world, alice, "chat/climbing/send/m1", "one");
    done(&mut world, alice, "chat/climbing/remove", &users(&["bob"]));
    done(&mut world, alice, "chat/climbing/send/m2", "two");
    world.crash(true);
    world.settle();
    world.device("bob", "phone");
    world.settle();
    assert_eq!(texts(&mut world, ids[0]), ["one", "alice remove"]);
    assert_eq!(world.take_heard(ids[0], "ended").len(), 1);
    // Now his index has it no more.
    world.disconnect(ids[0], Disconnection::Clean);
    world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_heard(ids[0], "ended").len(), 0);
}

#[test]
fn a_refused_invitation_takes_nothing_from_who_has_left() {
    let mut world = World::new(3);
    let (alice, others) = climbing(&mut world, &["bob", "carol"]);
    let [bob, carol] = others[..] else { panic!("{others:?}") };
    world.disconnect(bob, Disconnection::Clean);
    done(&mut world, alice, "chat/climbing/send", "missed");
    done(&mut world, alice, "chat/climbing/remove", &users(&["bob", "carol"]));
    world.disconnect(carol, Disconnection::Clean);
    // Carol will not have it, and Bob is asked for all the same.
    let laptop = world.connect("carol", "laptop");
    done(&mut world, laptop, "me/block", r#"{"block":["alice"]}"#);
    refused(&mut world, alice, "chat/climbing/add", &users(&["bob", "carol"]), "forbidden");
    world.crash(true);
    world.connect("bob", "phone");
    world.settle();
    assert_eq!(texts(&mut world, bob), ["missed", "alice remove"]);
    // He is in it no more than before.
    refused(&mut world, bob, "chat/climbing/send", "x", "forbidden");
    let laptop = world.connect("carol", "laptop");
    done(&mut world, laptop, "me/block", r#"{"unblock":["alice"]}"#);
    let alice = world.connect("alice", "phone");
    done(&mut world, alice, "chat/climbing/add", &users(&["bob", "carol"]));
    assert_eq!(texts(&mut world, bob), ["alice add"]);
}

#[test]
fn what_comes_behind_a_long_time_away_is_fetched_at_once() {
    let mut world = World::new(2);
    let (alice, others) = climbing(&mut world, &["bob", "carol"]);
    let carol = others[1];
    world.settle();
    world.take_seqs(carol);
    // Bob keeps what Carol never sees.
    world.disconnect(others[0], Disconnection::Clean);
    done(&mut world, alice, "chat/climbing/remove", &users(&["carol"]));
    assert_eq!(world.take_seqs(carol).len(), 1);
    world.disconnect(carol, Disconnection::Clean);
    world.settle();
    for n in 0..300 {
        if n % 50 == 0 {
            world.advance(Duration::from_secs(60));
        }
        done(&mut world, alice, &format!("chat/climbing/send/m{n}"), "x");
    }
    done(&mut world, alice, "chat/climbing/add", &users(&["carol"]));
    world.connect("carol", "phone");
    world.settle();
    let heard = world.take_seqs(carol);
    assert_eq!(heard.len(), 1, "the one that adds her, and nothing of what came before: {heard:?}");
}

#[test]
fn who_joins_sees_what_comes_from_then_on() {
    let mut world = World::new(2);
    let (alice, _) = climbing(&mut world, &["bob"]);
    done(&mut world, alice, "chat/climbing/send/m1", "old");
    let carol = world.device("carol", "phone");
    let second = world.device("carol", "laptop");
    world.settle();
    world.publish(alice, "chat/climbing/send/m2", b"also old");
    world.publish(alice, "chat/climbing/add", users(&["carol"]).as_bytes());
    world.publish(alice, "chat/climbing/send/m3", b"new");
    world.settle();
    assert_eq!(texts(&mut world, carol), ["alice add", "new"]);
    assert_eq!(texts(&mut world, second), ["alice add", "new"]);
    let third = world.device("carol", "tablet");
    world.settle();
    assert_eq!(texts(&mut world, third), Vec::<String>::new());
    // Gone and added again: what was between is not hers.
    done(&mut world, alice, "chat/climbing/remove", &users(&["carol"]));
    done(&mut world, alice, "chat/climbing/send/m4", "between");
    done(&mut world, alice, "chat/climbing/add", &users(&["carol"]));
    done(&mut world, alice, "chat/climbing/send/m5", "again");
    for device in [carol, second, third] {
        assert_eq!(texts(&mut world, device), ["alice remove", "alice add", "again"]);
    }
}

#[test]
fn everybody_may_do_what_the_role_says() {
    let mut world = World::new(2);
    let (alice, ids) = climbing(&mut world, &["bob", "carol", "dave"]);
    let [bob, carol, dave] = ids[..] else { panic!() };
    let chat = |verb: &str| format!("chat/climbing/{verb}");
    let role = |user: &str, role: &str| format!(r#"{{"user":"{user}","role":"{role}"}}"#);
    for (verb, payload) in [
        ("add", users(&["eve"])),
        ("remove", users(&["carol"])),
        ("title", r#"{"title":"x"}"#.into()),
        ("invite", "{}".into()),
        ("role", role("carol", "reader")),
    ] {
        refused(&mut world, bob, &chat(verb), &payload, "forbidden");
    }
    done(&mut world, alice, &chat("role"), &role("bob", "admin"));
    done(&mut world, alice, &chat("role"), &role("carol", "admin"));
    done(&mut world, bob, &chat("add"), &users(&["eve"]));
    done(&mut world, bob, &chat("role"), &role("dave", "reader"));
    for (verb, payload) in [
        ("add", r#"{"users":["frank"],"role":"admin"}"#.into()),
        ("remove", users(&["carol"])),
        ("remove", users(&["alice"])),
        ("role", role("eve", "admin")),
        ("role", role("alice", "member")),
    ] {
        refused(&mut world, bob, &chat(verb), &payload, "forbidden");
    }
    // A reader reads.
    world.session(dave).heard.clear();
    refused(&mut world, dave, &chat("send/m1"), "x", "forbidden");
    done(&mut world, carol, &chat("send/m1"), "hello");
    assert_eq!(texts(&mut world, dave), ["hello"]);
    // There is always an owner.
    refused(&mut world, alice, &chat("role"), &role("alice", "member"), "conflict");
    done(&mut world, alice, &chat("leave"), "");
    refused(&mut world, alice, &chat("send/m2"), "x", "forbidden");
    done(&mut world, bob, &chat("role"), &role("carol", "owner"));
    done(&mut world, carol, &chat("role"), &role("bob", "member"));
    refused(&mut world, bob, &chat("title"), r#"{"title":"x"}"#, "forbidden");
    refused(&mut world, carol, &chat("role"), &role("nobody", "admin"), "conflict");
    // The last one to go ends it.
    done(&mut world, carol, &chat("remove"), &users(&["bob", "dave", "eve"]));
    done(&mut world, carol, &chat("leave"), "");
    refused(&mut world, carol, &chat("send/m3"), "x", "ended");
    refused(&mut world, alice, &chat("create"), "", "conflict");
    refused(&mut world, alice, "chat/nowhere/send", "x", "unknown_chat");
    refused(&mut world, alice, "chat/nowhere/add", &users(&["bob"]), "unknown_chat");
    refused(&mut world, alice, "chat/climbing/add", "bob", "format");
}

#[test]
fn a_link_opens_a_group_as_long_and_as_often_as_it_says() {
    let mut world = World::new(2);
    let (alice, _) = climbing(&mut world, &[]);
    let invite = |world: &mut World, payload: &str| {
        done(world, alice, "chat/climbing/invite", payload);
        let told = world.take_heard(alice, "invite");
        (text(&told[0], "token").unwrap(), told)
    };
    let join = |token: &str| format!(r#"{{"token":"{token}"}}"#);
    let bob = world.device("bob", "phone");
    let carol = world.device("carol", "phone");
    let dave = world.device("dave", "phone");
    world.settle();
    let (once, told) = invite(&mut world, r#"{"uses":1}"#);
    assert_eq!(told, [format!(r#"{{"token":"{once}","role":"member","uses":1}}"#)]);
    assert_eq!(once.len(), 22);
    refused(&mut world, bob, "chat/climbing/join", &join("guessed"), "forbidden");
    refused(&mut world, bob, "chat/nowhere/join", &join(&once), "forbidden");
    done(&mut world, bob, "chat/climbing/join", &join(&once));
    done(&mut world, bob, "chat/climbing/join", &join(&once));
    refused(&mut world, carol, "chat/climbing/join", &join(&once), "forbidden");
    assert_eq!(texts(&mut world, bob), Vec::<String>::new(), "his own entry is acknowledged");
    assert_eq!(texts(&mut world, alice), ["bob join"]);
    // It expires.
    let (short, _) = invite(&mut world, r#"{"expires":60}"#);
    let (long, _) = invite(&mut world, r#"{"role":"reader"}"#);
    assert_ne!(short, long);
    world.advance(Duration::from_secs(61));
    refused(&mut world, carol, "chat/climbing/join", &join(&short), "forbidden");
    world.crash(true);
    world.settle();
    for (user, _) in [("alice", 0), ("carol", 1), ("dave", 2)] {
        world.device(user, "phone");
    }
    world.settle();
    done(&mut world, carol, "chat/climbing/join", &join(&long));
    refused(&mut world, carol, "chat/climbing/send", "x", "forbidden");
    // It is taken back.
    let revoke = format!(r#"{{"revoke":"{long}"}}"#);
    refused(&mut world, carol, "chat/climbing/invite", &revoke, "forbidden");
    done(&mut world, alice, "chat/climbing/invite", &revoke);
    refused(&mut world, dave, "chat/climbing/join", &join(&long), "forbidden");
}

#[test]
fn a_channel_has_few_who_write_and_readers_that_cost_nothing() {
    let options = ChatOptions::default();
    let mut world = World::with(2, options, 0);
    let alice = world.device("alice", "phone");
    let readers: Vec<SessionId> =
        (0..50).map(|n| world.device(&format!("reader{n}"), "phone")).collect();
    world.settle();
    done(&mut world, alice, "chat/!news/create", "{}");
    let names: Vec<String> = (0..50).map(|n| format!("reader{n}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    done(&mut world, alice, "chat/!news/add", &users(&names));
    refused(&mut world, readers[0], "chat/!news/send", "x", "forbidden");
    world.settle();
    let (_, _, before) = world.stored_counts();
    for n in 0..10 {
        done(&mut world, alice, &format!("chat/!news/send/m{n}"), "extra");
    }
    world.advance(Duration::from_secs(60));
    world.settle();
    let (_, _, after) = world.stored_counts();
    for reader in &readers {
        assert_eq!(world.take_seqs(*reader), (2..=11).collect::<Vec<u64>>());
        assert_eq!(world.take_heard(*reader, "receipt"), Vec::<String>::new());
    }
    // A log row, an id row, how far Alice and her device are, the head, and who wrote what is gone;
    // no row for a reader.
    assert!(after - before <= 10 * 6, "{} rows", after - before);
    // Their cursors outlive them nevertheless.
    world.disconnect(readers[0], Disconnection::Abrupt);
    world.settle();
    world.crash(false);
    world.device("reader0", "phone");
    world.settle();
    assert_eq!(world.take_seqs(readers[0]), Vec::<u64>::new());
    // One who goes is no entry, and hears nothing more.
    done(&mut world, readers[0], "chat/!news/leave", "");
    let alice = world.device("alice", "phone");
    world.settle();
    done(&mut world, alice, "chat/!news/send/last", "last");
    assert_eq!(world.take_seqs(readers[0]), Vec::<u64>::new());
    assert_eq!(world.take_heard(readers[0], "ended").len(), 1);
    world.device("reader1", "phone");
    world.settle();
    assert!(world.take_seqs(readers[1]).contains(&12));
}

#[test]
fn readers_that_stay_are_stored_now_and_then() {
    let mut world = World::new(1);
    let alice = world.device("alice", "phone");
    let bob = world.device("bob", "phone");
    world.settle();
    done(&mut world, alice, "chat/!news/create", r#"{"users":["bob"]}"#);
    done(&mut world, alice, "chat/!news/send/m1", "x");
    assert_eq!(world.take_seqs(bob), [1, 2]);
    world.advance(Duration::from_secs(6 * 60));
    world.settle();
    world.crash(false);
    world.device("bob", "phone");
    world.settle();
    assert_eq!(world.take_seqs(bob), Vec::<u64>::new());
}

#[test]
fn a_small_group_tells_authors_how_far_each_is() {
    let mut world = World::new(2);
    let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
    world.advance(Duration::from_secs(5));
    world.session(alice).heard.clear();
    world.session(ids[0]).heard.clear();
    world.publish(alice, "chat/climbing/send/m1", b"x");
    world.publish(alice, "chat/climbing/send/m2", b"x");
    world.settle();
    world.publish(ids[1], "chat/climbing/read", b"4");
    world.settle();
    world.advance(Duration::from_secs(3));
    world.settle();
    let told = world.take_heard(alice, "receipt");
    let last = |user: &str| told.iter().rfind(|body| text(body, "user").as_deref() == Some(user));
    assert!(told.len() <= 4, "{told:?}");
    assert_eq!(
        [last("bob").unwrap(), last("carol").unwrap()],
        [r#"{"user":"bob","delivered":4,"read":0}"#, r#"{"user":"carol","delivered":4,"read":4}"#]
    );
    // Bob wrote nothing, so he hears of nobody.
    assert_eq!(world.take_heard(ids[0], "receipt"), Vec::<String>::new());
    // What was lost is told again.
    world.disconnect(alice, Disconnection::Abrupt);
    world.device("alice", "phone");
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt").len(), 2);
}

#[test]
fn a_refused_entry_is_no_delivery_in_a_group_either() {
    let mut world = World::new(2);
    let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
    world.advance(Duration::from_secs(5));
    world.session(ids[0]).acknowledges = false;
    world.publish(alice, "chat/climbing/send/m1", b"x");
    world.settle();
    world.session(alice).heard.clear();
    world.acknowledge(ids[0], ReasonCode::UnspecifiedError);
    world.settle();
    world.advance(Duration::from_secs(3));
    let told = world.take_heard(alice, "receipt");
    let bob = told.iter().rfind(|body| text(body, "user").as_deref() == Some("bob"));
    assert_eq!(
        bob.map(|body| &**body),
        Some(r#"{"user":"bob","delivered":3,"read":0,"failed":[3]}"#)
    );
}

fn crowd(world: &mut World, count: usize) -> (SessionId, Vec<SessionId>) {
    let names: Vec<String> = (0..count).map(|n| format!("user{n:04}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let alice = world.device("alice", "phone");
    let ids = names.iter().map(|name| world.device(name, "phone")).collect();
    world.settle();
    done(world, alice, "chat/climbing/create", "{}");
    for names in names.chunks(256) {
        done(world, alice, "chat/climbing/add", &users(names));
    }
    world.settle();
    world.advance(Duration::from_secs(10));
    world.settle();
    world.session(alice).heard.clear();
    (alice, ids)
}

#[test]
fn a_larger_group_tells_authors_how_many_it_are() {
    let mut world = World::new(2);
    let (alice, ids) = crowd(&mut world, 60);
    for id in &ids[20..] {
        world.session(*id).acknowledges = false;
    }
    let sent = world.publish(alice, "chat/climbing/send/m1", b"x");
    world.settle();
    let seq = world.seq(sent).unwrap();
    for id in &ids[..7] {
        world.publish(*id, "chat/climbing/read", seq.to_string().as_bytes());
    }
    world.settle();
    world.advance(Duration::from_secs(5));
    world.settle();
    let told = world.take_heard(alice, "receipt");
    assert_eq!(
        told.last().unwrap(),
        &format!(r#"{{"seq":{seq},"delivered":20,"read":7,"members":60}}"#)
    );
    // However much is written, an author hears at most two a second.
    for n in 0..40 {
        world.publish(alice, &format!("chat/climbing/send/n{n}"), b"x");
    }
    for second in 0..15 {
        world.run();
        while world.acknowledge_all() {
            world.run();
        }
        world.sync();
        world.advance(Duration::from_secs(2));
        let told = world.take_heard(alice, "receipt").len();
        assert!(told <= 4, "{told} in two seconds, {second}");
    }
    assert_eq!(world.take_heard(ids[0], "receipt"), Vec::<String>::new());
}

#[test]
fn a_message_to_a_thousand_is_one_row_and_hardly_a_receipt() {
    let mut world = World::new(4);
    let (alice, ids) = crowd(&mut world, 999);
    for id in &ids {
        world.session(*id).heard.clear();
    }
    let before = world.stored_counts();
    let sent = world.publish(alice, "chat/climbing/send", b"hello");
    world.run();
    let after = world.stored_counts();
    assert_eq!((after.0 - before.0, after.2 - before.2), (1, 1), "one record of one row");
    world.sync();
    let seq = world.seq(sent).unwrap();
    let mut heard = 0;
    for id in &ids {
        let seqs = world.take_seqs(*id);
        assert_eq!(seqs, [seq]);
        heard += seqs.len();
    }
    assert_eq!(heard, 999);
    assert_eq!(world.stored_counts(), after, "delivering writes nothing");
    let mut most = 0;
    for _ in 0..10 {
        world.run();
        while world.acknowledge_all() {
            world.run();
        }
        world.sync();
        world.advance(Duration::from_secs(1));
        most = most.max(world.take_heard(alice, "receipt").len());
    }
    assert!(most <= 2, "{most} receipts in a second");
    // Who wants to know asks.
    let all = format!(r#"{{"seq":{seq},"limit":2}}"#);
    done(&mut world, alice, "chat/climbing/info", &all);
    let told = world.take_heard(alice, "info");
    assert_eq!(
        told,
        [format!(
            r#"{{"seq":{seq},"delivered":999,"read":0,"members":999,"who":[{{"user":"user0000","delivered":true,"read":false}},{{"user":"user0001","delivered":true,"read":false}}],"next":"user0001"}}"#
        )]
    );
    refused(&mut world, ids[0], "chat/climbing/info", &all, "forbidden");
    refused(&mut world, alice, "chat/climbing/info", r#"{"seq":9999}"#, "late");
}

#[test]
fn info_tells_who_is_there_a_page_at_a_time() {
    let mut world = World::new(2);
    let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
    let mut names = Vec::new();
    let mut after = String::from("{}");
    for _ in 0..3 {
        done(
            &mut world,
            ids[0],
            "chat/climbing/info",
            &after.replace('}', r#","limit":1}"#).replace("{,", "{"),
        );
        let told = world.take_heard(ids[0], "info");
        let told: serde_json::Value = serde_json::from_str(&told[0]).unwrap();
        assert_eq!((&told["title"], &told["count"]), (&"Climbing".into(), &3.into()));
        assert_eq!(told["role"], "member");
        let member = &told["members"][0];
        names.push((member["user"].to_string(), member["role"].to_string()));
        after =
            told["next"].as_str().map_or(String::new(), |name| format!(r#"{{"after":"{name}"}}"#));
    }
    assert_eq!(after, "");
    let names: Vec<String> = names.iter().map(|(user, role)| format!("{user}{role}")).collect();
    assert_eq!(names, [r#""alice""owner""#, r#""bob""member""#, r#""carol""member""#]);
    // Admins see the links.
    done(&mut world, alice, "chat/climbing/invite", "");
    done(&mut world, alice, "chat/climbing/info", "");
    assert!(world.take_heard(alice, "info")[0].contains(r#""links":[{"token""#));
    done(&mut world, ids[0], "chat/climbing/info", "");
    assert!(!world.take_heard(ids[0], "info")[0].contains("token"));
    // Of a direct chat as well.
    done(&mut world, alice, "chat/@bob/send/m1", "x");
    done(&mut world, alice, "chat/@bob/info", "");
    assert_eq!(
        world.take_heard(alice, "info"),
        [r#"{"seq":1,"count":2,"members":[{"user":"alice"},{"user":"bob"}]}"#]
    );
    refused(&mut world, alice, "chat/@carol/info", "", "unknown_chat");
}

#[test]
fn groups_have_bounds() {
    let mut options = ChatOptions::default();
    options.group_members_max = 3;
    options.channel_members_max = 4;
    options.user_chats_max = 2;
    let mut world = World::with(2, options, 0);
    let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
    refused(&mut world, alice, "chat/climbing/add", &users(&["dave"]), "limit");
    let added = r#"{"users":["a","b","c"]}"#;
    done(&mut world, alice, "chat/!news/create", added);
    refused(&mut world, alice, "chat/!news/add", &users(&["dave"]), "limit");
    // Alice has two chats now, and no room for a third.
    refused(&mut world, alice, "chat/third/create", "", "limit");
    refused(&mut world, alice, "chat/third/send", "x", "unknown_chat");
    // Bob begins a third: of those who were to be added with her nobody is in it.
    done(&mut world, ids[0], "chat/other/create", "");
    refused(&mut world, ids[0], "chat/other/add", &users(&["alice", "carol"]), "limit");
    done(&mut world, ids[0], "chat/other/add", &users(&["carol"]));
}

#[test]
fn a_group_begins_at_the_rate_of_chats() {
    let mut options = ChatOptions::default();
    options.new_chats_per_minute = 2;
    let mut world = World::with(1, options, 0);
    world.outside.rates_apply = true;
    let alice = world.device("alice", "phone");
    world.settle();
    done(&mut world, alice, "chat/one/create", "");
    done(&mut world, alice, "chat/two/create", "");
    refused(&mut world, alice, "chat/three/create", "", "limit");
    done(&mut world, alice, "chat/one/send", "x");
    assert!(world.outside.counted.contains(&Metric::LimitNewChats));
}

#[test]
fn mqtt_3_takes_part() {
    let mut world = World::new(2);
    let alice = world.connect_as("alice", "old", Version::V311, true);
    world.subscribe(alice, "me/json/#", QoS::AtLeastOnce);
    let bob = world.device("bob", "phone");
    world.settle();
    world.publish(alice, "chat/climbing/create", br#"{"users":["bob"]}"#);
    world.publish(alice, "chat/climbing/send/m1", b"hello");
    world.publish(alice, "chat/climbing/remove", br#"{"users":["alice"]}"#);
    world.settle();
    assert_eq!(texts(&mut world, bob), ["alice create", "hello"]);
    let acks = world.take_heard(alice, "ack");
    assert_eq!(acks.iter().map(|ack| number(ack, "seq")).collect::<Vec<_>>(), [Some(1), Some(2)]);
    let error = &world.take_heard(alice, "error")[0];
    assert_eq!(text(error, "code").as_deref(), Some("format"));
}

#[test]
fn what_everybody_has_goes_and_what_somebody_lacks_stays() {
    let mut world = World::new(2);
    let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
    let logs =
        |world: &World| world.rows().keys().filter(|key| key[2] == 1 && key[19] == 5).count();
    done(&mut world, alice, "chat/climbing/send/m1", "x");
    world.advance(Duration::from_secs(3));
    world.settle();
    assert_eq!(logs(&world), 0);
    world.disconnect(ids[0], Disconnection::Clean);
    done(&mut world, alice, "chat/climbing/send/m2", "x");
    world.advance(Duration::from_secs(3));
    world.settle();
    assert_eq!(logs(&world), 1);
    // Who is removed still gets what was sent before; then it goes.
    done(&mut world, alice, "chat/climbing/remove", &users(&["bob"]));
    done(&mut world, alice, "chat/climbing/send/m3", "x");
    world.advance(Duration::from_secs(3));
    world.settle();
    assert_eq!(logs(&world), 3);
    world.device("bob", "phone");
    world.settle();
    world.advance(Duration::from_secs(3));
    world.settle();
    assert_eq!(logs(&world), 0);
    // All rows can be read, and those who were are forgotten one day.
    let seats =
        |world: &World| world.rows().keys().filter(|key| key[2] == 1 && key[19] == 2).count();
    for (key, value) in world.rows() {
        tidings_chat::verify(&tidings_core::record::Row { key, value }).unwrap();
    }
    assert_eq!(seats(&world), 3);
    world.advance(Duration::from_secs(31 * 24 * 3_600));
    world.settle();
    assert_eq!(seats(&world), 2);
}

#[test]
fn who_types_is_heard_by_the_others() {
    let mut world = World::new(3);
    let (alice, ids) = climbing(&mut world, &["bob", "carol"]);
    world.publish_qos0(ids[0], "chat/climbing/typing", b"typing");
    world.publish_qos0(ids[0], "chat/climbing/typing", b"typing");
    world.settle();
    for id in [alice, ids[1]] {
        let heard = world.take_heard(id, "typing");
        assert_eq!(heard, [r#"{"user":"bob","state":"typing"}"#]);
    }
    assert_eq!(world.take_heard(ids[0], "typing"), Vec::<String>::new());
    done(&mut world, alice, "chat/climbing/remove", &users(&["carol"]));
    world.publish_qos0(alice, "chat/climbing/typing", b"recording");
    world.publish_qos0(ids[1], "chat/climbing/typing", b"typing");
    world.settle();
    assert_eq!(world.take_heard(ids[0], "typing").len(), 1);
    assert_eq!(world.take_heard(ids[1], "typing"), Vec::<String>::new());
    assert_eq!(world.take_heard(alice, "typing"), Vec::<String>::new());
}

#[test]
fn history_answers_what_was_hers_and_says_that_the_rest_is_gone() {
    let mut world = World::new(2);
    let (alice, ids) = climbing(&mut world, &["bob"]);
    // Bob's other device never comes, so everything is kept.
    let other = world.device("bob", "laptop");
    world.settle();
    world.disconnect(other, Disconnection::Clean);
    let carol = world.device("carol", "phone");
    world.settle();
    done(&mut world, alice, "chat/climbing/send/m3", "three");
    done(&mut world, alice, "chat/climbing/add", &users(&["carol"]));
    done(&mut world, alice, "chat/climbing/send/m5", "five");
    done(&mut world, alice, "chat/climbing/remove", &users(&["carol"]));
    done(&mut world, alice, "chat/climbing/send/m7", "seven");
    done(&mut world, alice, "chat/climbing/add", &users(&["carol"]));
    done(&mut world, alice, "chat/climbing/remove", &users(&["carol"]));
    done(&mut world, alice, "chat/climbing/send/m10", "ten");
    for whole in [false, true] {
        if whole {
            // Not from memory, but from rows.
            world.crash(true);
            world.settle();
            world.device("carol", "phone");
            world.settle();
        }
        done(&mut world, carol, "chat/climbing/history", r#"{"from":1,"to":10}"#);
        let told = world.take_heard(carol, "history");
        let told: serde_json::Value = serde_json::from_str(&told[0]).unwrap();
        let entries = told["entries"].as_array().unwrap();
        let seqs: Vec<_> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, [4, 5, 6, 8, 9]);
        assert_eq!(told["gone"], serde_json::json!([[1, 3], [7, 7], [10, 10]]));
    }
    // Behind her removal everything is gone, and what is not asked for is the newest of hers.
    done(&mut world, carol, "chat/climbing/history", r#"{"from":10}"#);
    assert!(world.take_heard(carol, "history")[0].contains(r#""entries":[],"gone":[]"#));
    done(&mut world, carol, "chat/climbing/history", r#"{"limit":2}"#);
    let newest = &world.take_heard(carol, "history")[0];
    assert!(newest.contains(r#""from":8,"to":9"#), "{newest}");
    let dave = world.device("dave", "phone");
    world.settle();
    refused(&mut world, dave, "chat/climbing/history", "{}", "forbidden");
    let _ = ids;
}

#[test]
fn sync_tells_of_groups_what_is_unread() {
    let mut world = World::new(2);
    let (alice, ids) = climbing(&mut world, &["bob"]);
    done(&mut world, alice, "chat/climbing/send/m1", "one");
    done(&mut world, alice, "chat/climbing/title", r#"{"title":"x"}"#);
    done(&mut world, alice, "chat/climbing/send/m2", "two");
    done(&mut world, ids[0], "chat/climbing/send/m3", "three");
    done(&mut world, ids[0], "me/sync", "");
    let told: serde_json::Value =
        serde_json::from_str(&world.take_heard(ids[0], "sync")[0]).unwrap();
    let chat = &told["chats"][0];
    assert_eq!(
        (&chat["chat"], &chat["last"], &chat["unread"]),
        (&"climbing".into(), &6.into(), &2.into())
    );
    done(&mut world, ids[0], "chat/climbing/read", "5");
    done(&mut world, ids[0], "me/sync", "");
    assert!(world.take_heard(ids[0], "sync")[0].contains(r#""unread":0"#));
}

#[test]
fn the_compact_view_has_groups_too() {
    let mut world = World::new(2);
    let (alice, _) = climbing(&mut world, &[]);
    let bob = world.connect("bob", "phone");
    world.subscribe(bob, "me/cbor/#", QoS::AtLeastOnce);
    world.settle();
    done(&mut world, alice, "chat/climbing/add", &users(&["bob"]));
    done(&mut world, alice, "chat/climbing/send/m1", "hello");
    let heard = world.session(bob).heard.clone();
    let topics: Vec<&str> = heard.iter().map(|heard| &*heard.topic).collect();
    assert_eq!(topics, ["me/cbor/climbing/message"; 2]);
    assert_eq!(texts(&mut world, bob), ["alice add", "hello"]);
    world.publish(bob, "chat/climbing/info", br#"{"request":"r1"}"#);
    world.settle();
    assert!(world.take_heard(bob, "info")[0].contains(r#""request":"r1""#));
}

#[test]
fn a_channel_of_thousands_of_readers_is_written_once_for_each_message() {
    let readers = 4_000;
    let mut world = World::new(4);
    let alice = world.device("alice", "phone");
    let here: Vec<SessionId> =
        (0..10).map(|n| world.device(&format!("user{n:05}"), "phone")).collect();
    world.settle();
    done(&mut world, alice, "chat/!news/create", "{}");
    let names: Vec<String> = (0..readers).map(|n| format!("user{n:05}")).collect();
    for names in names.chunks(256) {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        world.publish(alice, "chat/!news/add", users(&names).as_bytes());
        world.run();
        world.sync();
        world.sync();
    }
    world.settle();
    done(&mut world, alice, "chat/!news/info", r#"{"limit":1}"#);
    let told = world.take_heard(alice, "info");
    assert_eq!(number(&told[0], "count"), Some(readers + 1));
    assert_eq!(number(&told[0], "seq"), Some(1), "readers come without an entry");
    let before = world.stored_counts();
    world.publish(alice, "chat/!news/send", b"extra");
    world.run();
    let after = world.stored_counts();
    assert_eq!((after.0 - before.0, after.2 - before.2), (1, 1));
    world.settle();
    for reader in here {
        assert_eq!(world.take_seqs(reader), [2]);
    }
    // Their seats outlive memory.
    world.crash(true);
    let alice = world.device("alice", "phone");
    world.settle();
    done(&mut world, alice, "chat/!news/info", r#"{"limit":1}"#);
    assert_eq!(number(&world.take_heard(alice, "info")[0], "count"), Some(readers + 1));
}

#[test]
fn more_than_256_are_told_nothing_unless_they_ask() {
    let mut world = World::new(2);
    let (alice, ids) = crowd(&mut world, 256);
    let sent = world.publish(alice, "chat/climbing/send", b"hello");
    world.settle();
    world.publish_qos0(ids[0], "chat/climbing/typing", b"typing");
    world.settle();
    world.advance(Duration::from_secs(10));
    world.settle();
    assert_eq!(world.take_heard(alice, "receipt"), Vec::<String>::new());
    assert_eq!(world.take_heard(alice, "typing"), Vec::<String>::new());
    let seq = world.seq(sent).unwrap();
    done(&mut world, alice, "chat/climbing/info", &format!(r#"{{"seq":{seq},"limit":1}}"#));
    let told = world.take_answer(alice, "info");
    assert_eq!((&told["delivered"], &told["members"]), (&256.into(), &256.into()));
    // One fewer, and it tells by itself.
    done(&mut world, alice, "chat/climbing/remove", &users(&["user0009"]));
    world.publish(alice, "chat/climbing/send", b"hello");
    world.settle();
    world.advance(Duration::from_secs(5));
    assert!(!world.take_heard(alice, "receipt").is_empty());
}

#[test]
fn ticks_wait_for_others_one_second_in_a_small_group_and_two_in_a_larger_one() {
    for (count, millis) in [(31, 1_000), (32, 2_000)] {
        let mut world = World::new(1);
        let (alice, ids) = crowd(&mut world, count);
        world.publish(alice, "chat/climbing/send", b"hello");
        world.run();
        world.sync();
        while world.acknowledge_all() {
            world.run();
        }
        // How far each device is is stored within this time.
        let early = millis - 100;
        for _ in 0..early / 50 {
            world.advance(Duration::from_millis(50));
            world.sync();
        }
        assert_eq!(world.take_heard(alice, "receipt"), Vec::<String>::new(), "{count}");
        for _ in 0..8 {
            world.advance(Duration::from_millis(50));
            world.sync();
        }
        let told = world.take_heard(alice, "receipt");
        assert_eq!(told.len(), if count == 31 { ids.len() } else { 1 }, "{told:?}");
    }
}

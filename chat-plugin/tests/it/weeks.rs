//! Two people and three devices, in both versions of MQTT, one of them away for three weeks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_core::codec::{QoS, ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::{World, number, text};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DAYS: u64 = 21;
/// What Alice writes on each of her devices, every day.
const A_DAY: u64 = 5;

/// A device in MQTT 3.1.1, or 5.0.
fn come(world: &mut World, user: &str, client_id: &str, version: Version) -> SessionId {
    let id = world.connect_as(user, client_id, version, true);
    world.subscribe(id, "me/json/#", QoS::AtLeastOnce);
    id
}

/// What a session has heard of a chat: number and text of each entry, in the order in which they came.
fn heard(world: &mut World, id: SessionId) -> Vec<(u64, String)> {
    let bodies = world.take_heard(id, "message");
    bodies.iter().map(|body| (number(body, "seq").unwrap(), text(body, "text").unwrap())).collect()
}

/// The only chat that a session's user has, as `sync` tells it.
fn chat(world: &mut World, id: SessionId) -> Value {
    let asked = world.publish(id, "me/sync", b"{}");
    world.settle();
    assert_eq!(world.answer(asked), Some(ReasonCode::Success));
    world.take_answer(id, "sync")["chats"][0].clone()
}

/// How far the last receipt says that Bob is.
fn ticks(world: &mut World, id: SessionId) -> Option<(u64, u64)> {
    let receipts = world.take_heard(id, "receipt");
    let mut of_bob = receipts.iter().filter(|body| text(body, "user").as_deref() == Some("bob"));
    let last = of_bob.next_back()?;
    Some((number(last, "delivered").unwrap(), number(last, "read").unwrap()))
}

#[test]
fn who_was_away_for_three_weeks_hears_everything_once_in_order_and_all_ticks_are_right() {
    let mut world = World::new(4);
    let phone = come(&mut world, "alice", "phone", Version::V5);
    let laptop = come(&mut world, "alice", "laptop", Version::V311);
    let bob = come(&mut world, "bob", "phone", Version::V311);
    world.publish(bob, "chat/@alice/send/hello", b"hello");
    world.settle();
    assert_eq!(heard(&mut world, phone), [(1, "hello".to_string())]);
    assert_eq!(heard(&mut world, laptop), [(1, "hello".to_string())]);
    world.publish(laptop, "chat/@bob/read", b"1");
    world.settle();
    world.disconnect(bob, Disconnection::Abrupt);
    world.advance(DAY);
    let (mut sent, mut last) = (BTreeMap::from([(1, "hello".to_string())]), 1);
    let mut devices = [phone, laptop];
    for day in 1..=DAYS {
        for nth in 0..A_DAY {
            for (at, name) in ["phone", "laptop"].into_iter().enumerate() {
                let words = format!("day {day}, {nth}, by {name}");
                let topic = format!("chat/@bob/send/{name}-{day}-{nth}");
                let send = world.publish(devices[at], &topic, words.as_bytes());
                // Nobody knows whether it came: it is said again, on the other device.
                let again = world.publish(devices[1 - at], &topic, words.as_bytes());
                world.settle();
                last += 1;
                for send in [send, again] {
                    assert_eq!(world.answer(send), Some(ReasonCode::Success), "{words}");
                }
                sent.insert(last, words);
            }
        }
        for id in devices {
            // One that has just come is told how far he was: at his own greeting.
            let ticks = ticks(&mut world, id).unwrap_or((1, 0));
            assert_eq!(ticks, (1, 0), "day {day}: nobody has heard anything");
            // Each hears what the other device sent, and what it only repeated.
            let heard = heard(&mut world, id);
            assert!(heard.is_sorted() && heard.iter().all(|(seq, words)| sent[seq] == *words));
        }
        match day % 7 {
            2 => world.disconnect(devices[1], Disconnection::Clean),
            3 => devices[1] = come(&mut world, "alice", "laptop", Version::V311),
            5 => {
                world.crash(day % 2 == 0);
                devices[0] = come(&mut world, "alice", "phone", Version::V5);
                devices[1] = come(&mut world, "alice", "laptop", Version::V311);
            }
            _ => {}
        }
        if day % 7 == 2 {
            // She cannot write where she is not connected.
            devices[1] = devices[0];
        }
        world.advance(DAY);
    }
    let all = 1 + DAYS * A_DAY * 2;
    assert_eq!(last, all);
    let mine = chat(&mut world, devices[0]);
    assert_eq!((&mine["last"], &mine["unread"]), (&json!(all), &json!(0)));
    assert_eq!(mine["others"][0]["delivered"], json!(1));
    // Three weeks are over, and nothing was forgotten for it.
    let bob = world.connect_as("bob", "phone", Version::V311, true);
    world.settle();
    let came = heard(&mut world, bob);
    let expected: Vec<_> = sent.into_iter().skip(1).collect();
    assert_eq!(came, expected);
    let his = chat(&mut world, bob);
    assert_eq!(
        (&his["last"], &his["unread"], &his["read"]),
        (&json!(all), &json!(all - 1), &json!(0))
    );
    for id in devices {
        assert_eq!(ticks(&mut world, id), Some((all, 0)), "both devices hear it");
    }
    world.publish(bob, "chat/@alice/read", (all - 10).to_string().as_bytes());
    world.settle();
    assert_eq!(chat(&mut world, bob)["unread"], json!(10));
    for id in devices {
        assert_eq!(ticks(&mut world, id), Some((all, all - 10)));
    }
    world.publish(bob, "chat/@alice/read", all.to_string().as_bytes());
    world.settle();
    assert_eq!(chat(&mut world, bob)["unread"], json!(0));
    for id in devices {
        assert_eq!(ticks(&mut world, id), Some((all, all)));
    }
    // And nothing comes again.
    world.disconnect(bob, Disconnection::Clean);
    let bob = world.connect_as("bob", "phone", Version::V311, true);
    world.settle();
    assert_eq!(heard(&mut world, bob), []);
}

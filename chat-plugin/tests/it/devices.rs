//! The devices of a user: listed, and logged out.

use std::time::Duration;

use tidings_core::codec::{ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};

use crate::harness::World;

fn list(world: &mut World, session: SessionId) -> Vec<serde_json::Value> {
    world.session(session).heard.clear();
    world.publish(session, "me/devices", b"{}");
    world.settle();
    world.take_answer(session, "devices")["devices"].as_array().unwrap().clone()
}

#[test]
fn devices_are_listed_with_when_they_came_and_were_last_there() {
    let mut world = World::new(2);
    let begin = world.now.as_millis();
    let phone = world.device("bob", "phone");
    world.settle();
    world.advance(Duration::from_secs(60));
    let laptop = world.device("bob", "laptop");
    world.connect_as("bob", "web", Version::V5, false);
    world.settle();
    world.advance(Duration::from_secs(60));
    let left = world.now.as_millis();
    world.disconnect(phone, Disconnection::Clean);
    world.settle();
    world.crash(true);
    world.advance(Duration::from_secs(60));
    let laptop = {
        let _ = laptop;
        world.device("bob", "laptop")
    };
    world.connect_as("bob", "web", Version::V5, false);
    world.settle();
    let devices = list(&mut world, laptop);
    let names: Vec<_> = devices.iter().map(|it| it["device"].as_str().unwrap()).collect();
    assert_eq!(names, ["laptop", "phone", "web"]);
    assert_eq!((&devices[0]["connected"], &devices[0]["subscribed"]), (&true.into(), &true.into()));
    assert!(devices[0]["since"].as_u64() > Some(begin + 60_000));
    assert_eq!(devices[1]["connected"], false);
    assert_eq!(devices[1]["since"].as_u64(), Some(begin));
    assert_eq!(devices[1]["seen"].as_u64(), Some(left));
    assert_eq!(
        (&devices[2]["connected"], &devices[2]["subscribed"]),
        (&true.into(), &false.into())
    );
    assert!(devices[2]["since"].is_null());
}

#[test]
fn a_device_that_is_logged_out_is_over_connected_or_not() {
    for connected in [true, false] {
        let mut world = World::new(3);
        let alice = world.device("alice", "laptop");
        let phone = world.device("bob", "phone");
        let tablet = world.device("bob", "tablet");
        world.settle();
        world.publish(alice, "chat/@bob/send", b"one");
        world.settle();
        world.session(phone).acknowledges = false;
        if !connected {
            world.disconnect(phone, Disconnection::Abrupt);
        }
        // The phone lacks it, so it is kept.
        world.publish(alice, "chat/@bob/send", b"two");
        world.settle();
        let out = world.publish(tablet, "me/devices", br#"{"logout":"phone"}"#);
        world.run();
        assert_eq!(world.answer(out), None, "a crash would take it back");
        assert!(!world.has_session(phone));
        world.settle();
        assert_eq!(world.answer(out), Some(ReasonCode::Success));
        world.advance(Duration::from_secs(60));
        world.settle();
        let devices = list(&mut world, tablet);
        assert_eq!(devices.len(), 1, "{devices:?}");
        // Nothing waits for it any more.
        let log = world.rows().into_keys().filter(|key| key.get(19) == Some(&5)).count();
        assert_eq!(log, 0, "the entry is kept for nobody");
        let again = world.publish(tablet, "me/devices", br#"{"logout":"phone"}"#);
        world.settle();
        assert_eq!(world.property(again, "code").as_deref(), Some("conflict"));
        // It comes back as a new one, and begins with the present.
        let phone = world.device("bob", "phone");
        world.publish(alice, "chat/@bob/send", b"three");
        world.settle();
        assert_eq!(world.take_seqs(phone), [3]);
    }
}

#[test]
fn a_device_may_log_itself_out() {
    let mut world = World::new(1);
    let phone = world.device("bob", "phone");
    world.settle();
    world.publish(phone, "me/devices", br#"{"logout":"phone"}"#);
    world.settle();
    assert!(!world.has_session(phone));
}

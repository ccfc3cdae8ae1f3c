//! Rights over sockets: who may what, live changes, and the rules against brute force.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tidings_broker::Broker;
use tidings_broker::core::hook::Authorize;
use tidings_broker::rights::{Otherwise, Rights};

use crate::rights_body::{Found, agrees_with_naive_reading};
use crate::shell::builder;
use crate::wire::{Connect, PUBACK, Packet, Wire, packet, put_text};

fn address(broker: &Broker) -> std::net::SocketAddr {
    broker.addresses()[0]
}

/// A broker with these rules, which may be changed.
fn broker(rules: &str) -> (Broker, Arc<Rights>, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rights");
    fs::write(&path, rules).unwrap();
    let rights = Arc::new(Rights::open(&path, Otherwise::Deny).unwrap());
    let authorize = Arc::clone(&rights) as Arc<dyn Authorize>;
    (builder().shards(2).authorize(authorize).start().unwrap(), rights, path, directory)
}

fn bob() -> Connect {
    Connect::new("phone").v5().user("bob")
}

#[test]
fn rules_decide_about_publish_subscribe_and_wills() {
    let (broker, ..) = broker("allow users both own/%u/#\nallow all subscribe news/#\n");
    let mut wire = Wire::connect(address(&broker), &bob());
    let mut ask = |topic: &str| {
        let bytes = wire.publish_bytes(topic, b"x", 1, true, 9);
        wire.send(&bytes).unwrap();
        match wire.next() {
            Packet::Ack(PUBACK, 9, reason) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        ["own/bob/x", "own/amy/x", "news/x", "$SYS/x"].map(&mut ask),
        [0x10, 0x87, 0x87, 0x87]
    );
    let mut ask = |filter: &str| {
        let mut body = vec![0, 9, 0];
        put_text(&mut body, filter);
        body.push(1);
        wire.send(&packet(0x82, &body)).unwrap();
        match wire.next() {
            Packet::Suback(_, reasons) => reasons[0],
            other => panic!("{other:?}"),
        }
    };
    for (filter, expected) in
        [("news/+", 1), ("news/#", 1), ("#", 0x87), ("+/bob/x", 0x87), ("own/amy/#", 0x87)]
    {
        assert_eq!(ask(filter), expected, "{filter}");
    }
    let will = |topic| Wire::try_connect(address(&broker), &bob().will(topic, "gone")).unwrap().1;
    assert_eq!(will("own/amy/will"), 0x87);
    assert_eq!(will("own/bob/will"), 0);
}

#[test]
fn change_of_the_file_ends_connections_that_had_more() {
    let (broker, rights, path, _directory) = broker("allow all both #\n");
    let mut bob = Wire::connect(address(&broker), &bob().persistent());
    bob.subscribe("secret/#", 1);
    let mut amy = Wire::connect(address(&broker), &Connect::new("amy").user("amy"));
    amy.subscribe("news", 0);
    fs::write(&path, "deny all subscribe secret/#\nallow all both #\n").unwrap();
    assert!(rights.read_again(false).unwrap());
    broker.rights_changed();
    assert_eq!(bob.next(), Packet::Disconnect(0x87));
    bob.ends();
    amy.publish("secret/x", b"", 1, false);
    amy.ping();
    let (mut bob, present) = Wire::resume(address(&broker), &self::bob().persistent());
    assert!(present);
    bob.ping();
}

#[test]
fn revoked_user_is_disconnected() {
    let (broker, ..) = broker("");
    let mut phone = Wire::connect(address(&broker), &bob());
    let mut amy = Wire::connect(address(&broker), &Connect::new("amy").v5().user("amy"));
    broker.revoke("bob");
    assert_eq!(phone.next(), Packet::Disconnect(0x87));
    phone.ends();
    amy.ping();
    broker.revoke_all();
    assert_eq!(amy.next(), Packet::Disconnect(0x87));
}

#[test]
fn rules_agree_with_brute_force() {
    let mut random = 0x1dea_5eed_u64;
    let mut total = Found::default();
    for _ in 0..1_500 {
        let bytes: Vec<u8> = (0..96)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 32) as u8
            })
            .collect();
        let found = agrees_with_naive_reading(&bytes);
        total.topics_allowed += found.topics_allowed;
        total.topics_denied += found.topics_denied;
        total.wildcards_allowed += found.wildcards_allowed;
        total.too_cautious += found.too_cautious;
        total.filters += found.filters;
    }
    // It asked something, and caution is rare.
    assert!(total.topics_allowed > 10_000 && total.topics_denied > 10_000, "{total:?}");
    assert!(total.wildcards_allowed > 100, "{total:?}");
    assert!(total.too_cautious * 20 < total.filters, "{total:?}");
}

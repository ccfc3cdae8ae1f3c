//! §4.4: what is sent again when a session is resumed, and what is not.

use crate::case::{Bench, Outcome, cases};
use crate::number::{PUBCOMP, PUBREC, PUBREL};
use crate::packet::{Publish, ack, ack_with};
use crate::wire::Wire;

cases! {
    "4.4" {
        unacknowledged_publish_is_sent_again:
            v5 ["MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.3.2-3"],
            v311 ["MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-2.3.1-3"];
        unreceived_qos_2_is_sent_again: v5 ["MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.3.3-3"],
            v311 ["MQTT-4.4.0-1", "MQTT-3.3.1-1"];
        pubrel_is_sent_again: v5 ["MQTT-4.4.0-1", "MQTT-4.3.3-5", "MQTT-4.3.3-6"],
            v311 ["MQTT-4.4.0-1", "MQTT-4.3.3-1"];
        messages_are_sent_again_in_their_order: v5 ["MQTT-4.4.0-1", "MQTT-4.6.0-1"],
            v311 ["MQTT-4.4.0-1", "MQTT-4.6.0-1", "MQTT-4.6.0-6"];
        acknowledged_messages_are_not_sent_again: v5 ["MQTT-4.4.0-2"], v311 ["MQTT-4.3.2-1"];
        puback_that_refuses_ends_it: v5 ["MQTT-4.4.0-2"], v311 [];
        new_messages_follow_those_sent_again: v5 ["MQTT-4.6.0-5"], v311 ["MQTT-4.6.0-6"];
    }
}

/// A session that subscribed to everything of this case, and a publisher.
fn kept_pair(b: &Bench) -> Result<(Wire, Wire), crate::case::Fail> {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("#"), 2)?;
    Ok((wire, b.join("pub")?))
}

fn again(b: &Bench, wire: Wire) -> Result<Wire, crate::case::Fail> {
    wire.drop_connection();
    let (wire, present) = b.join_kept("a")?;
    b.check(present, "expected Session Present 1, found 0")?;
    Ok(wire)
}

fn sent_again(b: &Bench, qos: u8) -> Outcome {
    let (mut wire, mut publisher) = kept_pair(b)?;
    publisher.publish(&Publish::new(&b.topic("x"), "again").qos(qos, 0))?;
    let first = wire.message()?;
    b.check(!first.dup, "expected DUP 0 on a first delivery, found 1")?;
    let mut wire = again(b, wire)?;
    let second = wire.take("again")?;
    b.same("identifier and DUP", (second.id, second.dup), (first.id, true))?;
    wire.ping()
}

fn unacknowledged_publish_is_sent_again(b: &Bench) -> Outcome {
    sent_again(b, 1)
}

fn unreceived_qos_2_is_sent_again(b: &Bench) -> Outcome {
    sent_again(b, 2)
}

fn pubrel_is_sent_again(b: &Bench) -> Outcome {
    let (mut wire, mut publisher) = kept_pair(b)?;
    publisher.publish(&Publish::new(&b.topic("x"), "x").qos(2, 0))?;
    let id = wire.message()?.id;
    wire.send(&ack(PUBREC, id));
    wire.acked(PUBREL, id)?;
    let mut wire = again(b, wire)?;
    wire.acked(PUBREL, id)?;
    wire.send(&ack(PUBCOMP, id));
    wire.ping()?;
    let mut wire = again(b, wire)?;
    wire.ping()
}

fn messages_are_sent_again_in_their_order(b: &Bench) -> Outcome {
    let (mut wire, mut publisher) = kept_pair(b)?;
    let mut ids = Vec::new();
    for number in 0..8 {
        let publish = Publish::new(&b.topic("x"), &number.to_string()).qos(1, 0);
        publisher.publish(&publish)?;
        ids.push(wire.message()?.id);
    }
    let mut wire = again(b, wire)?;
    for (number, id) in ids.into_iter().enumerate() {
        let found = wire.take(&number.to_string())?;
        b.same("identifier and DUP", (found.id, found.dup), (id, true))?;
    }
    wire.ping()
}

fn acknowledged_messages_are_not_sent_again(b: &Bench) -> Outcome {
    let (mut wire, mut publisher) = kept_pair(b)?;
    publisher.publish(&Publish::new(&b.topic("x"), "1").qos(1, 0))?;
    publisher.publish(&Publish::new(&b.topic("x"), "2").qos(2, 0))?;
    wire.take("1")?;
    wire.take("2")?;
    wire.ping()?;
    let mut wire = again(b, wire)?;
    wire.ping()?;
    b.nothing_more(&mut wire, &mut publisher)
}

fn puback_that_refuses_ends_it(b: &Bench) -> Outcome {
    let (mut wire, mut publisher) = kept_pair(b)?;
    publisher.publish(&Publish::new(&b.topic("x"), "1").qos(1, 0))?;
    publisher.publish(&Publish::new(&b.topic("x"), "2").qos(2, 0))?;
    let (one, two) = (wire.message()?, wire.message()?);
    wire.send(&ack_with(crate::number::PUBACK, one.id, 0x80));
    wire.send(&ack_with(PUBREC, two.id, 0x80));
    wire.ping()?;
    let mut wire = again(b, wire)?;
    wire.ping()?;
    b.nothing_more(&mut wire, &mut publisher)
}

fn new_messages_follow_those_sent_again(b: &Bench) -> Outcome {
    let (mut wire, mut publisher) = kept_pair(b)?;
    publisher.publish(&Publish::new(&b.topic("x"), "1").qos(1, 0))?;
    wire.message()?;
    wire.drop_connection();
    publisher.publish(&Publish::new(&b.topic("x"), "2").qos(1, 0))?;
    let (mut wire, _) = b.join_kept("a")?;
    publisher.publish(&Publish::new(&b.topic("x"), "3").qos(1, 0))?;
    for payload in ["1", "2", "3"] {
        wire.take(payload)?;
    }
    wire.ping()
}

//! §4.3 and §4.6: the handshakes of QoS 1 and 2, and order.

use std::thread::sleep;
use std::time::Duration;

use crate::case::{Bench, Outcome, cases};
use crate::number::{MESSAGE_EXPIRY, PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::packet::{Props, Publish, ack};

cases! {
    "4.3.2" {
        identifier_is_new_after_puback: v5 ["MQTT-4.3.2-5", "MQTT-4.3.2-4"],
            v311 ["MQTT-4.3.2-2"];
        qos_1_is_not_sent_again_on_the_same_connection: v5 ["MQTT-4.4.0-1", "MQTT-4.3.2-3"],
            v311 ["MQTT-4.3.2-1"];
    }
    "4.3.3" {
        repeated_qos_2_is_delivered_once: v5 ["MQTT-4.3.3-10", "MQTT-4.3.3-8"],
            v311 ["MQTT-4.3.3-2"];
        repeated_qos_2_on_a_new_connection_is_delivered_once: v5 ["MQTT-4.3.3-10"],
            v311 ["MQTT-4.3.3-2"];
        identifier_is_new_after_pubcomp: v5 ["MQTT-4.3.3-12"], v311 ["MQTT-4.3.3-2"];
        repeated_pubrel_is_completed_again: v5 ["MQTT-4.3.3-11"], v311 ["MQTT-4.3.3-2"];
        qos_2_is_released_and_ends_with_pubcomp:
            v5 ["MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT-4.3.3-6"], v311 ["MQTT-4.3.3-1"];
        expiry_does_not_end_a_handshake_begun: v5 ["MQTT-4.3.3-7", "MQTT-4.3.3-13"], v311 [];
        identifiers_of_the_two_directions_are_apart: v5 ["MQTT-2.2.1-4"], v311 ["MQTT-2.3.1-4"];
    }
    "4.6" {
        order_of_a_publisher_is_kept: v5 ["MQTT-4.6.0-5", "MQTT-4.6.0-6"],
            v311 ["MQTT-4.6.0-5", "MQTT-4.6.0-6"];
        order_is_kept_in_a_waiting_session: v5 ["MQTT-4.6.0-5"], v311 ["MQTT-4.6.0-6"];
        acknowledgements_come_in_order: v5 ["MQTT-4.6.0-2", "MQTT-4.6.0-3"],
            v311 ["MQTT-4.6.0-2", "MQTT-4.6.0-3", "MQTT-4.6.0-6"];
    }
}

fn identifier_is_new_after_puback(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    publisher.publish(&Publish::new(&b.topic("x"), "1").qos(1, 7))?;
    publisher.publish(&Publish::new(&b.topic("x"), "2").qos(1, 7))?;
    publisher.publish(&Publish::new(&b.topic("x"), "3").qos(1, 7).dup())?;
    for payload in ["1", "2", "3"] {
        sub.take(payload)?;
    }
    Ok(())
}

fn qos_1_is_not_sent_again_on_the_same_connection(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    publisher.publish(&Publish::new(&b.topic("x"), "once").qos(1, 0))?;
    let once = sub.message()?;
    publisher.publish(&Publish::new(&b.topic("x"), "other").qos(1, 0))?;
    let other = sub.take("other")?;
    b.check(once.id != other.id, format!("the identifier {} is in use", once.id))?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn repeated_qos_2_is_delivered_once(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    let publish = Publish::new(&b.topic("x"), "once").qos(2, 7);
    publisher.send(&publish.bytes(b.version));
    publisher.acked(PUBREC, 7)?;
    publisher.send(&publish.dup().bytes(b.version));
    publisher.acked(PUBREC, 7)?;
    publisher.release(7)?;
    sub.take("once")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn repeated_qos_2_on_a_new_connection_is_delivered_once(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 2)?;
    let (mut publisher, _) = b.join_kept("pub")?;
    let publish = Publish::new(&b.topic("x"), "once").qos(2, 7);
    publisher.send(&publish.bytes(b.version));
    publisher.acked(PUBREC, 7)?;
    publisher.drop_connection();
    let (mut publisher, present) = b.join_kept("pub")?;
    b.check(present, "expected Session Present 1, found 0")?;
    publisher.send(&publish.dup().bytes(b.version));
    publisher.acked(PUBREC, 7)?;
    publisher.release(7)?;
    sub.take("once")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn identifier_is_new_after_pubcomp(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    publisher.publish(&Publish::new(&b.topic("x"), "1").qos(2, 7))?;
    publisher.publish(&Publish::new(&b.topic("x"), "2").qos(2, 7))?;
    publisher.publish(&Publish::new(&b.topic("x"), "3").qos(2, 7).dup())?;
    for payload in ["1", "2", "3"] {
        sub.take(payload)?;
    }
    Ok(())
}

fn repeated_pubrel_is_completed_again(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    publisher.publish(&Publish::new(&b.topic("x"), "once").qos(2, 7))?;
    publisher.send(&ack(PUBREL, 7));
    publisher.acked(PUBCOMP, 7)?;
    sub.take("once")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn qos_2_is_released_and_ends_with_pubcomp(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    publisher.publish(&Publish::new(&b.topic("x"), "once").qos(2, 0))?;
    let found = sub.message()?;
    sub.send(&ack(PUBREC, found.id));
    sub.acked(PUBREL, found.id)?;
    // Unasked, it says nothing more; and the message is not sent again.
    sub.ping()?;
    sub.send(&ack(PUBCOMP, found.id));
    b.nothing_more(&mut sub, &mut publisher)
}

fn expiry_does_not_end_a_handshake_begun(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("#"), 2)?;
    let mut publisher = b.join("pub")?;
    let props = Props::new().four(MESSAGE_EXPIRY, 1);
    let publish = Publish::new(&b.topic("x"), "old").qos(2, 7).with(props);
    publisher.publish(&publish)?;
    let id = wire.message()?.id;
    let begun = Publish { id: 8, topic: b.id("nobody").into(), ..publish };
    publisher.send(&begun.bytes(b.version));
    publisher.acked(PUBREC, 8)?;
    wire.drop_connection();
    // Passing time is what this is about.
    sleep(Duration::from_millis(2500));
    publisher.release(8)?;
    let (mut wire, _) = b.join_kept("a")?;
    let again = wire.take("old")?;
    b.same("identifier and DUP", (again.id, again.dup), (id, true))?;
    wire.ping()
}

fn identifiers_of_the_two_directions_are_apart(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.subscribe(&b.topic("in"), 2)?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("in"), "from the server").qos(2, 0))?;
    let found = wire.message()?;
    let id = found.id;
    wire.send(&Publish::new(&b.topic("out"), "to the server").qos(2, id).bytes(b.version));
    wire.acked(PUBREC, id)?;
    wire.send(&ack(PUBREC, id));
    wire.acked(PUBREL, id)?;
    wire.send(&ack(PUBREL, id));
    wire.acked(PUBCOMP, id)?;
    wire.send(&ack(PUBCOMP, id));
    wire.ping()
}

fn order_of_a_publisher_is_kept(b: &Bench) -> Outcome {
    for qos in [0, 1, 2] {
        let mut sub = b.join(&format!("sub{qos}"))?;
        sub.subscribe(&b.topic("#"), 2)?;
        let mut publisher = b.join("pub")?;
        for number in 0..50 {
            publisher.publish(&Publish::new(&b.topic("x"), &number.to_string()).qos(qos, 0))?;
        }
        for number in 0..50 {
            sub.take(&number.to_string())?;
        }
        sub.disconnect();
        publisher.disconnect();
    }
    Ok(())
}

fn order_is_kept_in_a_waiting_session(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("#"), 1)?;
    wire.disconnect();
    let mut publisher = b.join("pub")?;
    // More than a window, more than a page of anything, less than a usual quota.
    for number in 0..90 {
        publisher.publish(&Publish::new(&b.topic("x"), &number.to_string()).qos(1, 0))?;
    }
    let (mut wire, _) = b.join_kept("a")?;
    for number in 0..90 {
        wire.take(&number.to_string())?;
    }
    wire.ping()
}

fn acknowledgements_come_in_order(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    let ids = [9, 3, 7, 1];
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        let all: Vec<u8> = ids
            .iter()
            .flat_map(|id| Publish::new(&b.topic("x"), "x").qos(qos, *id).bytes(b.version))
            .collect();
        wire.send(&all);
        for id in ids {
            wire.acked(kind, id)?;
        }
    }
    let all: Vec<u8> = ids.iter().flat_map(|id| ack(PUBREL, *id)).collect();
    wire.send(&all);
    for id in ids {
        wire.acked(PUBCOMP, id)?;
    }
    Ok(())
}

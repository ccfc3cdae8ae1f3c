//! §4.3 and §4.6: the handshakes of QoS 1 and 2, and order.

use std::thread::sleep;
use std::time::Duration;

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{MESSAGE_EXPIRY, PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::packet::{Props, Publish, ack};
use crate::wire::Wire;

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
        repeated_pubrec_is_answered_by_pubrel: v5 ["MQTT-4.3.3-4"], v311 ["MQTT-4.3.3-1"];
        pubrel_on_a_new_connection_is_completed: v5 ["MQTT-4.3.3-11", "MQTT-4.1.0-1"],
            v311 ["MQTT-4.3.3-2", "MQTT-4.1.0-1"];
        publish_after_pubrel_on_a_new_connection_is_a_new_message: v5 ["MQTT-4.3.3-12"],
            v311 ["MQTT-4.3.3-2"];
        qos_2_begun_ends_with_a_clean_session: v5 ["MQTT-3.1.2-4", "MQTT-4.3.3-12"],
            v311 ["MQTT-3.1.2-6", "MQTT-4.3.3-2"];
        handshakes_of_several_identifiers_interleave: v5 ["MQTT-2.2.1-5", "MQTT-4.3.3-11"],
            v311 ["MQTT-2.3.1-6", "MQTT-4.3.3-2"];
        same_identifier_of_two_clients_is_apart: v5 ["MQTT-4.3.3-10"], v311 ["MQTT-4.3.3-2"];
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
        pubrels_come_in_the_order_of_the_pubrecs: v5 ["MQTT-4.6.0-4"],
            v311 ["MQTT-4.6.0-4", "MQTT-4.6.0-6"];
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
    let other = sub.message()?;
    b.check(once.id != other.id, format!("the identifier {} is in use", once.id))?;
    b.nothing_more(&mut sub, &mut publisher)?;
    // In their order, as a Client has to [MQTT-4.6.0-2].
    sub.acknowledge(&once)?;
    sub.acknowledge(&other)?;
    sub.ping()
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

fn pubrels_come_in_the_order_of_the_pubrecs(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    let mut ids = Vec::new();
    for payload in ["1", "2", "3", "4"] {
        publisher.publish(&Publish::new(&b.topic("x"), payload).qos(2, 0))?;
        ids.push(sub.message()?.id);
    }
    sub.send(&ids.iter().flat_map(|id| ack(PUBREC, *id)).collect::<Vec<_>>());
    for id in &ids {
        sub.acked(PUBREL, *id)?;
    }
    sub.send(&ids.iter().flat_map(|id| ack(PUBCOMP, *id)).collect::<Vec<_>>());
    sub.ping()
}

fn repeated_pubrec_is_answered_by_pubrel(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    publisher.publish(&Publish::new(&b.topic("x"), "once").qos(2, 0))?;
    let id = sub.message()?.id;
    for _ in 0..2 {
        sub.send(&ack(PUBREC, id));
        sub.acked(PUBREL, id)?;
    }
    sub.send(&ack(PUBCOMP, id));
    b.nothing_more(&mut sub, &mut publisher)
}

/// A message whose PUBREC was received, on a connection that then breaks.
fn received(b: &Bench, id: u16) -> Result<Wire, Fail> {
    let (mut publisher, _) = b.join_kept("pub")?;
    publisher.send(&Publish::new(&b.topic("x"), "once").qos(2, id).bytes(b.version));
    publisher.acked(PUBREC, id)?;
    publisher.drop_connection();
    let (publisher, present) = b.join_kept("pub")?;
    b.check(present, "expected Session Present 1, found 0")?;
    Ok(publisher)
}

fn pubrel_on_a_new_connection_is_completed(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 2)?;
    let mut publisher = received(b, 7)?;
    publisher.send(&ack(PUBREL, 7));
    b.same("code", publisher.acked(PUBCOMP, 7)?, 0)?;
    sub.take("once")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn publish_after_pubrel_on_a_new_connection_is_a_new_message(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 2)?;
    let mut publisher = received(b, 7)?;
    publisher.release(7)?;
    publisher.publish(&Publish::new(&b.topic("x"), "another").qos(2, 7))?;
    sub.take("once")?;
    sub.take("another")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn qos_2_begun_ends_with_a_clean_session(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 2)?;
    received(b, 7)?.drop_connection();
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "another").qos(2, 7))?;
    // A Server hands the first one on at PUBLISH or at PUBREL, so it may or may not have come.
    let mut found = sub.message()?;
    sub.acknowledge(&found)?;
    if found.text() == "once" {
        found = sub.take("another")?;
    }
    b.same("payload", found.text(), "another".to_owned())?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn handshakes_of_several_identifiers_interleave(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    let ids = [1, 0xFFFF, 300, 2];
    for id in ids {
        let payload = id.to_string();
        publisher.send(&Publish::new(&b.topic("x"), &payload).qos(2, id).bytes(b.version));
        publisher.acked(PUBREC, id)?;
    }
    // In their order, as a Client has to [MQTT-4.6.0-4], but all at once.
    publisher.send(&ids.iter().flat_map(|id| ack(PUBREL, *id)).collect::<Vec<_>>());
    for id in ids {
        publisher.acked(PUBCOMP, id)?;
    }
    let mut found = Vec::new();
    for _ in ids {
        let message = sub.message()?;
        sub.acknowledge(&message)?;
        found.push(message.text());
    }
    found.sort();
    let mut expected = ids.map(|id| id.to_string());
    expected.sort();
    b.same("messages", found, expected.to_vec())?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn same_identifier_of_two_clients_is_apart(b: &Bench) -> Outcome {
    let (mut sub, mut one) = b.pair(2)?;
    let mut two = b.join("two")?;
    one.send(&Publish::new(&b.topic("x"), "one").qos(2, 7).bytes(b.version));
    one.acked(PUBREC, 7)?;
    two.publish(&Publish::new(&b.topic("y"), "two").qos(2, 7))?;
    one.release(7)?;
    let mut found = Vec::new();
    for _ in 0..2 {
        let message = sub.message()?;
        sub.acknowledge(&message)?;
        found.push(message.text());
    }
    found.sort();
    b.same("messages", found, vec!["one".to_owned(), "two".to_owned()])
}

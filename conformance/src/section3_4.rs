//! §3.4 to §3.7: PUBACK, PUBREC, PUBREL and PUBCOMP, in their forms short and long.

use crate::case::{Bench, Outcome, cases};
use crate::number::{PUBCOMP, PUBREC, PUBREL};
use crate::packet::{Props, Publish, ack, frame};

cases! {
    "3.4" {
        acknowledgements_in_every_form_are_understood: v5 ["MQTT-3.4.2-1", "MQTT-4.3.2-3"],
            v311 [];
        cut_off_acknowledgement_closes: v5 ["MQTT-4.13.1-1"], v311 ["MQTT-4.8.0-1"];
    }
    "3.6" {
        pubrel_with_other_flags_closes: v5 ["MQTT-3.6.1-1"], v311 ["MQTT-3.6.1-1"];
        pubrel_of_the_server_has_its_flags: v5 ["MQTT-3.6.1-1", "MQTT-3.6.2-1", "MQTT-4.3.3-4"],
            v311 ["MQTT-3.6.1-1", "MQTT-4.3.3-1"];
    }
    "3.7" {
        pubrel_for_nothing_is_completed: v5 ["MQTT-3.7.2-1", "MQTT-4.3.3-11"],
            v311 ["MQTT-4.3.3-2"];
    }
}

fn acknowledgements_in_every_form_are_understood(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    let props = Props::new().text(0x1F, "reason").pair("a", "b").block(b.version);
    for (index, rest) in
        [vec![], vec![0], vec![0, 0], vec![0x10], [vec![0], props].concat()].into_iter().enumerate()
    {
        let payload = index.to_string();
        publisher.publish(&Publish::new(&b.topic("x"), &payload).qos(1, 0))?;
        let found = sub.message()?;
        b.same("payload", found.text(), payload)?;
        sub.send(&frame(0x40, &[&found.id.to_be_bytes(), &rest]));
        sub.ping()?;
    }
    Ok(())
}

fn cut_off_acknowledgement_closes(b: &Bench) -> Outcome {
    b.each_closes(&[
        frame(0x40, &[]),
        frame(0x40, &[&[1]]),
        frame(0x50, &[&[1]]),
        frame(0x62, &[&[1]]),
        frame(0x70, &[&[1]]),
    ])
}

fn pubrel_with_other_flags_closes(b: &Bench) -> Outcome {
    for (index, first) in [0x60, 0x61, 0x63, 0x6A].into_iter().enumerate() {
        let mut wire = b.join(&format!("w{index}"))?;
        wire.send(&Publish::new(&b.topic("x"), "x").qos(2, 1).bytes(b.version));
        wire.acked(PUBREC, 1)?;
        wire.send(&frame(first, &[&[0, 1]]));
        wire.closed()?;
    }
    Ok(())
}

fn pubrel_of_the_server_has_its_flags(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    publisher.publish(&Publish::new(&b.topic("x"), "x").qos(2, 0))?;
    let found = sub.message()?;
    sub.send(&ack(PUBREC, found.id));
    let packet = sub.packet()?;
    b.same("first byte", packet.first, 0x62)?;
    b.same("identifier", packet.body.get(..2), Some(&found.id.to_be_bytes()[..]))?;
    sub.send(&ack(PUBCOMP, found.id));
    sub.ping()
}

fn pubrel_for_nothing_is_completed(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.send(&ack(PUBREL, 99));
    // In MQTT 5 it may say that it knows of none.
    wire.acked(PUBCOMP, 99)?;
    wire.ping()
}

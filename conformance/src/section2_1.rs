//! §2: fixed headers, Packet Identifiers, and property blocks.

use crate::case::{Bench, Outcome, cases};
use crate::number::{PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, UNSUBACK};
use crate::packet::{Props, Publish, ack, frame, subscribe, text, unsubscribe};

cases! {
    "2.1.2" {
        reserved_packet_type_closes: v5 ["MQTT-4.13.1-1"], v311 ["MQTT-4.8.0-1"];
        packet_that_only_a_server_sends_closes: v5 ["MQTT-4.13.1-1"], v311 ["MQTT-4.8.0-1"];
    }
    "2.1.3" {
        reserved_flags_close: v5 ["MQTT-2.1.3-1"], v311 ["MQTT-2.2.2-1", "MQTT-2.2.2-2"];
        connect_flags_in_the_fixed_header_close: v5 ["MQTT-2.1.3-1", "MQTT-3.1.4-1"],
            v311 ["MQTT-2.2.2-2"];
    }
    "2.2.1" {
        packet_identifier_zero_closes: v5 ["MQTT-2.2.1-3"], v311 ["MQTT-2.3.1-1"];
        qos_0_is_sent_without_an_identifier: v5 ["MQTT-2.2.1-2"], v311 ["MQTT-2.3.1-5"];
        identifiers_sent_are_unused_and_not_zero: v5 ["MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1"],
            v311 ["MQTT-2.3.1-1", "MQTT-2.3.1-4"];
        acknowledgements_repeat_the_identifier: v5 ["MQTT-2.2.1-5", "MQTT-4.3.3-11"],
            v311 ["MQTT-2.3.1-6"];
        suback_and_unsuback_repeat_the_identifier:
            v5 ["MQTT-2.2.1-6", "MQTT-3.8.4-2", "MQTT-3.10.4-5"],
            v311 ["MQTT-2.3.1-7", "MQTT-3.8.4-2", "MQTT-3.10.4-4"];
    }
    "2.2.2" {
        no_properties_are_a_length_of_zero: v5 ["MQTT-2.2.2-1"], v311 [];
        unknown_property_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_of_another_packet_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_given_twice_closes: v5 ["MQTT-4.13.1-1"], v311 [];
    }
}

fn reserved_packet_type_closes(b: &Bench) -> Outcome {
    b.each_closes(&[vec![0x00, 0]])?;
    // MQTT 5 has a use for type 15, see §3.15.
    if b.is_v5() { Ok(()) } else { b.each_closes(&[vec![0xF0, 0]]) }
}

fn packet_that_only_a_server_sends_closes(b: &Bench) -> Outcome {
    let block = Props::new().block(b.version);
    b.each_closes(&[
        frame(0x20, &[&[0, 0], &block]),
        frame(0x90, &[&[0, 1], &block, &[0]]),
        frame(0xB0, &[&[0, 1], &block]),
        vec![0xD0, 0],
    ])
}

fn reserved_flags_close(b: &Bench) -> Outcome {
    b.each_closes(&[
        vec![0xC1, 0],
        vec![0xC8, 0],
        frame(0x41, &[&[0, 1]]),
        frame(0x52, &[&[0, 1]]),
        frame(0x74, &[&[0, 1]]),
    ])
}

fn connect_flags_in_the_fixed_header_close(b: &Bench) -> Outcome {
    let mut bytes = b.hello("a").bytes();
    if let Some(first) = bytes.first_mut() {
        *first |= 1;
    }
    b.each_connect_closes(&[bytes])
}

fn packet_identifier_zero_closes(b: &Bench) -> Outcome {
    let topic = b.topic("x");
    b.each_closes(&[
        Publish::new(&topic, "x").qos(1, 0).bytes(b.version),
        Publish::new(&topic, "x").qos(2, 0).bytes(b.version),
        subscribe(b.version, 0, &[(&topic, 0)], Props::new()),
        unsubscribe(b.version, 0, &[&topic]),
    ])
}

fn qos_0_is_sent_without_an_identifier(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    publisher.publish(&Publish::new(&b.topic("x"), "payload"))?;
    let packet = sub.packet()?;
    let expected = frame(0x30, &[&text(b.topic("x")), &Props::new().block(b.version), b"payload"]);
    b.same("packet", packet.hex(), crate::read::hex(&expected))
}

fn identifiers_sent_are_unused_and_not_zero(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..12_u8 {
        let publish = Publish::new(&b.topic("x"), "payload").qos(1 + index % 2, 0);
        publisher.publish(&publish)?;
        let found = sub.message()?;
        b.check(seen.insert(found.id), format!("the identifier {} is in use", found.id))?;
        b.check(!found.dup, "expected DUP 0 on a first delivery, found 1")?;
    }
    Ok(())
}

fn acknowledgements_repeat_the_identifier(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    for id in [1, 0x0100, 0xFFFF] {
        wire.send(&Publish::new(&b.topic("x"), "x").qos(1, id).bytes(b.version));
        wire.acked(PUBACK, id)?;
        wire.send(&Publish::new(&b.topic("x"), "x").qos(2, id).bytes(b.version));
        wire.acked(PUBREC, id)?;
        wire.send(&ack(PUBREL, id));
        wire.acked(PUBCOMP, id)?;
    }
    Ok(())
}

fn suback_and_unsuback_repeat_the_identifier(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    for id in [1, 0x0100, 0xFFFF] {
        wire.send(&subscribe(b.version, id, &[(&b.topic("x"), 0)], Props::new()));
        wire.answer(SUBACK, id)?;
        wire.send(&unsubscribe(b.version, id, &[&b.topic("x")]));
        wire.answer(UNSUBACK, id)?;
    }
    Ok(())
}

fn no_properties_are_a_length_of_zero(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    publisher.publish(&Publish::new(&b.topic("x"), "").qos(1, 0))?;
    let packet = sub.packet()?;
    b.same("length of the body", packet.body.len(), 2 + b.topic("x").len() + 2 + 1)?;
    b.same("last byte", packet.body.last().copied(), Some(0))
}

fn publish_with(b: &Bench, props: Props) -> Vec<u8> {
    Publish::new(&b.topic("x"), "x").with(props).bytes(b.version)
}

fn unknown_property_closes(b: &Bench) -> Outcome {
    b.each_closes(&[
        publish_with(b, Props::new().byte(0x00, 1)),
        publish_with(b, Props::new().byte(0x7E, 1)),
        publish_with(b, Props::new().byte(0x2B, 1)),
    ])?;
    b.each_connect_closes(&[b.hello("c").with(Props::new().byte(0x7E, 1)).bytes()])
}

fn property_of_another_packet_closes(b: &Bench) -> Outcome {
    b.each_closes(&[
        publish_with(b, Props::new().four(crate::number::SESSION_EXPIRY, 1)),
        publish_with(b, Props::new().two(crate::number::RECEIVE_MAXIMUM, 1)),
        subscribe(
            b.version,
            1,
            &[(&b.topic("x"), 0)],
            Props::new().four(crate::number::MESSAGE_EXPIRY, 1),
        ),
    ])?;
    b.each_connect_closes(&[b.hello("c").with(Props::new().two(0x13, 1)).bytes()])
}

fn property_given_twice_closes(b: &Bench) -> Outcome {
    b.each_closes(&[
        publish_with(b, Props::new().byte(0x01, 1).byte(0x01, 1)),
        publish_with(b, Props::new().text(0x03, "a").text(0x03, "a")),
        publish_with(b, Props::new().four(0x02, 9).four(0x02, 9)),
    ])?;
    b.each_connect_closes(&[
        b.hello("c").with(Props::new().two(0x21, 9).two(0x21, 9)).bytes(),
        b.hello("c").with(Props::new().four(0x11, 9).four(0x11, 9)).bytes(),
    ])
}

//! §2.2.2: which properties stand in which packet, how often, and where they end.

use crate::case::{Bench, Outcome, cases};
use crate::number::{
    AUTH_DATA, AUTH_METHOD, CONTENT_TYPE, CORRELATION_DATA, MAXIMUM_PACKET_SIZE, MESSAGE_EXPIRY,
    PAYLOAD_FORMAT, PROBLEM_INFORMATION, RECEIVE_MAXIMUM, RESPONSE_TOPIC, SESSION_EXPIRY,
    SUBSCRIPTION_ID, TOPIC_ALIAS, TOPIC_ALIAS_MAXIMUM, USER_PROPERTY, WILL_DELAY,
};
use crate::packet::{Props, Publish, Version, frame, subscribe, text};

cases! {
    "2.2.2.2" {
        property_of_another_packet_in_connect_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_of_another_packet_in_a_will_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_of_another_packet_in_publish_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_of_another_packet_in_an_acknowledgement_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_of_another_packet_in_subscribe_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_of_another_packet_in_unsubscribe_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_of_another_packet_in_disconnect_is_no_farewell:
            v5 ["MQTT-4.13.1-1", "MQTT-3.1.2-8"], v311 [];
        property_given_twice_in_connect_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_given_twice_in_a_will_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_given_twice_in_publish_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        property_given_twice_in_an_acknowledgement_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        subscription_identifier_given_twice_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        cut_off_properties_close: v5 ["MQTT-4.13.1-1"], v311 [];
        absent_property_length_closes: v5 ["MQTT-2.2.2-1", "MQTT-4.13.1-1"], v311 [];
        nul_in_a_property_closes: v5 ["MQTT-1.5.4-2"], v311 [];
        user_properties_are_taken_in_every_packet:
            v5 ["MQTT-3.1.4-5", "MQTT-3.8.4-1", "MQTT-3.10.4-4", "MQTT-4.3.2-3"], v311 [];
    }
}

/// Every property, with a value that is right where it is allowed.
fn every() -> Vec<(u8, Vec<u8>)> {
    let short = || text("a");
    vec![
        (PAYLOAD_FORMAT, vec![1]),
        (MESSAGE_EXPIRY, vec![0, 0, 0, 9]),
        (CONTENT_TYPE, short()),
        (RESPONSE_TOPIC, short()),
        (CORRELATION_DATA, short()),
        (SUBSCRIPTION_ID, vec![1]),
        (SESSION_EXPIRY, vec![0, 0, 0, 0]),
        (ASSIGNED_CLIENT_ID, short()),
        (SERVER_KEEP_ALIVE, vec![0, 9]),
        (AUTH_METHOD, short()),
        (AUTH_DATA, short()),
        (PROBLEM_INFORMATION, vec![1]),
        (WILL_DELAY, vec![0, 0, 0, 0]),
        (RESPONSE_INFORMATION_ASKED, vec![0]),
        (RESPONSE_INFORMATION, short()),
        (SERVER_REFERENCE, short()),
        (REASON_STRING, short()),
        (RECEIVE_MAXIMUM, vec![0, 9]),
        (TOPIC_ALIAS_MAXIMUM, vec![0, 9]),
        (TOPIC_ALIAS, vec![0, 1]),
        (0x24, vec![1]),
        (0x25, vec![1]),
        (USER_PROPERTY, [text("a"), text("b")].concat()),
        (MAXIMUM_PACKET_SIZE, vec![0, 1, 0, 0]),
        (0x28, vec![1]),
        (0x29, vec![1]),
        (0x2A, vec![1]),
    ]
}

/// §2.2.2.2, without those that a Server alone sends.
const IN_CONNECT: &[u8] = &[
    SESSION_EXPIRY,
    AUTH_METHOD,
    AUTH_DATA,
    PROBLEM_INFORMATION,
    RESPONSE_INFORMATION_ASKED,
    RECEIVE_MAXIMUM,
    TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY,
    MAXIMUM_PACKET_SIZE,
];
const IN_WILL: &[u8] = &[
    PAYLOAD_FORMAT,
    MESSAGE_EXPIRY,
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    CORRELATION_DATA,
    WILL_DELAY,
    USER_PROPERTY,
];
const IN_PUBLISH: &[u8] = &[
    PAYLOAD_FORMAT,
    MESSAGE_EXPIRY,
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    CORRELATION_DATA,
    TOPIC_ALIAS,
    USER_PROPERTY,
];
const IN_ACKNOWLEDGEMENT: &[u8] = &[REASON_STRING, USER_PROPERTY];
const IN_SUBSCRIBE: &[u8] = &[SUBSCRIPTION_ID, USER_PROPERTY];
const IN_UNSUBSCRIBE: &[u8] = &[USER_PROPERTY];

const ASSIGNED_CLIENT_ID: u8 = 0x12;
const SERVER_KEEP_ALIVE: u8 = 0x13;
const RESPONSE_INFORMATION_ASKED: u8 = 0x19;
const RESPONSE_INFORMATION: u8 = 0x1A;
const SERVER_REFERENCE: u8 = 0x1C;
const REASON_STRING: u8 = 0x1F;

/// A packet for each property that may not stand in it.
fn strangers(allowed: &[u8], packet: impl Fn(Props) -> Vec<u8>) -> Vec<Vec<u8>> {
    let strange = every().into_iter().filter(|it| !allowed.contains(&it.0));
    strange.map(|(id, value)| packet(Props::new().raw(id, &value))).collect()
}

/// A packet for each property that may stand in it once, there twice.
fn twins(allowed: &[u8], packet: impl Fn(Props) -> Vec<u8>) -> Vec<Vec<u8>> {
    let once = |it: &(u8, Vec<u8>)| allowed.contains(&it.0) && it.0 != USER_PROPERTY;
    let twice = |(id, value): (u8, Vec<u8>)| Props::new().raw(id, &value).raw(id, &value);
    every().into_iter().filter(once).map(|it| packet(twice(it))).collect()
}

fn publish_with(b: &Bench, props: Props) -> Vec<u8> {
    Publish::new(&b.topic("x"), "x").with(props).bytes(b.version)
}

fn will_with(b: &Bench, props: Props) -> Vec<u8> {
    let mut connect = b.hello("w").will(&b.topic("will"), "gone");
    if let Some(will) = &mut connect.will {
        will.props = props;
    }
    connect.bytes()
}

fn unsubscribe_with(b: &Bench, props: &Props) -> Vec<u8> {
    frame(0xA2, &[&[0, 1], &props.block(Version::V5), &text(b.topic("x"))])
}

fn ack_with(first: u8, props: &Props) -> Vec<u8> {
    frame(first, &[&[0, 1, 0], &props.block(Version::V5)])
}

fn property_of_another_packet_in_connect_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&strangers(IN_CONNECT, |props| b.hello("c").with(props).bytes()))
}

fn property_of_another_packet_in_a_will_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&strangers(IN_WILL, |props| will_with(b, props)))
}

fn property_of_another_packet_in_publish_closes(b: &Bench) -> Outcome {
    // A Subscription Identifier has a statement and a case of its own.
    let allowed = [IN_PUBLISH, &[SUBSCRIPTION_ID]].concat();
    b.each_closes(&strangers(&allowed, |props| publish_with(b, props)))
}

fn property_of_another_packet_in_an_acknowledgement_closes(b: &Bench) -> Outcome {
    for first in [0x40, 0x50, 0x62, 0x70] {
        let mut wrong = strangers(IN_ACKNOWLEDGEMENT, |props| ack_with(first, &props));
        // The four have one table: a few of it each, others for each.
        let keep = usize::from(first >> 4) % 4;
        wrong = wrong.into_iter().skip(keep).step_by(4).collect();
        b.each_closes(&wrong)?;
    }
    Ok(())
}

fn property_of_another_packet_in_subscribe_closes(b: &Bench) -> Outcome {
    let packet = |props| subscribe(b.version, 1, &[(&b.topic("x"), 0)], props);
    b.each_closes(&strangers(IN_SUBSCRIBE, packet))
}

fn property_of_another_packet_in_unsubscribe_closes(b: &Bench) -> Outcome {
    b.each_closes(&strangers(IN_UNSUBSCRIBE, |props| unsubscribe_with(b, &props)))
}

/// The connection ends in any case; that the will is published shows how.
fn property_of_another_packet_in_disconnect_is_no_farewell(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("will"), 0)?;
    for (id, value) in [(PAYLOAD_FORMAT, vec![1]), (RECEIVE_MAXIMUM, vec![0, 9])] {
        let connect = b.hello("w").will(&b.topic("will"), "gone");
        let (mut wire, _) = b.join_with("w", &connect)?;
        let props = Props::new().raw(id, &value).block(b.version);
        wire.send(&frame(0xE0, &[&[0], &props]));
        wire.closed()?;
        sub.take("gone")?;
    }
    Ok(())
}

fn property_given_twice_in_connect_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&twins(IN_CONNECT, |props| b.hello("c").with(props).bytes()))
}

fn property_given_twice_in_a_will_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&twins(IN_WILL, |props| will_with(b, props)))
}

fn property_given_twice_in_publish_closes(b: &Bench) -> Outcome {
    b.each_closes(&twins(IN_PUBLISH, |props| publish_with(b, props)))
}

fn property_given_twice_in_an_acknowledgement_closes(b: &Bench) -> Outcome {
    let props = Props::new().text(REASON_STRING, "a").text(REASON_STRING, "a");
    b.each_closes(&[0x40, 0x50, 0x62, 0x70].map(|first| ack_with(first, &props)))
}

fn subscription_identifier_given_twice_closes(b: &Bench) -> Outcome {
    let props = Props::new().var(SUBSCRIPTION_ID, 1).var(SUBSCRIPTION_ID, 2);
    b.each_closes(&[subscribe(b.version, 1, &[(&b.topic("x"), 0)], props)])
}

fn cut_off_properties_close(b: &Bench) -> Outcome {
    let topic = text(b.topic("x"));
    b.each_closes(&[
        // The block is longer than the packet.
        frame(0x30, &[&topic, &[9], &[PAYLOAD_FORMAT, 1]]),
        // A value is longer than the block.
        frame(0x30, &[&topic, &[1], &[PAYLOAD_FORMAT, 1], b"x"]),
        frame(0x30, &[&topic, &[3], &[MESSAGE_EXPIRY, 0, 0, 0, 9], b"x"]),
        frame(0x30, &[&topic, &[5], &[CONTENT_TYPE, 0, 9, b'a', b'a'], b"x"]),
        frame(0x30, &[&topic, &[5], &[USER_PROPERTY, 0, 1, b'a', 0], b"x"]),
        // The length of the block has no end.
        frame(0x30, &[&topic, &[0xFF, 0xFF, 0xFF, 0xFF, 1], b"x"]),
    ])
}

/// A PUBLISH would take the payload for the length: these have nothing in its place.
fn absent_property_length_closes(b: &Bench) -> Outcome {
    let topic = text(b.topic("x"));
    b.each_closes(&[
        frame(0x30, &[&topic]),
        frame(0x32, &[&topic, &[0, 1]]),
        frame(0x82, &[&[0, 1]]),
        frame(0xA2, &[&[0, 1]]),
    ])
}

fn nul_in_a_property_closes(b: &Bench) -> Outcome {
    b.each_closes(&[
        publish_with(b, Props::new().text(CONTENT_TYPE, b"a\0")),
        publish_with(b, Props::new().text(RESPONSE_TOPIC, b"a\0b")),
    ])
}

fn user_properties_are_taken_in_every_packet(b: &Bench) -> Outcome {
    let props = Props::new().pair("a", "1").pair("a", "1").pair("", "");
    let (mut wire, _) = b.join_with("a", &b.hello("a").with(props.clone()))?;
    let codes = wire.subscribe_all(&[(&b.topic("x"), 1)], props.clone())?;
    b.same("codes", codes, vec![1])?;
    let publish = Publish::new(&b.topic("x"), "x").qos(1, 9).with(props.clone());
    wire.publish(&publish)?;
    let found = wire.message()?;
    let block = props.block(b.version);
    wire.send(&frame(0x40, &[&found.id.to_be_bytes(), &[0], &block]));
    wire.send(&unsubscribe_with(b, &props));
    wire.answer(crate::number::UNSUBACK, 1)?;
    wire.ping()?;
    wire.send(&frame(0xE0, &[&[0], &block]));
    b.same("reason of the end", wire.closed()?, None)
}

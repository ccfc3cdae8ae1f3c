//! §3.3.2: the topic and the properties of PUBLISH.

use std::thread::sleep;
use std::time::Duration;

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{
    CONTENT_TYPE, CORRELATION_DATA, MESSAGE_EXPIRY, PAYLOAD_FORMAT, RESPONSE_TOPIC,
    SUBSCRIPTION_ID, TOPIC_ALIAS, TOPIC_ALIAS_MAXIMUM, USER_PROPERTY,
};
use crate::packet::{Props, Publish, frame};
use crate::wire::{Connack, Wire};

cases! {
    "3.3.2.1" {
        wildcard_in_a_topic_name_closes: v5 ["MQTT-3.3.2-2", "MQTT-4.7.0-1"],
            v311 ["MQTT-3.3.2-2", "MQTT-4.7.1-1"];
        empty_topic_name_closes: v5 ["MQTT-4.7.3-1"], v311 ["MQTT-4.7.3-1"];
        publish_without_a_whole_topic_name_closes: v5 ["MQTT-3.3.2-1"], v311 ["MQTT-3.3.2-1"];
    }
    "3.3.2.3" {
        properties_are_forwarded_unchanged:
            v5 ["MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-20"], v311 [];
        user_properties_are_forwarded_in_order: v5 ["MQTT-3.3.2-17", "MQTT-3.3.2-18"], v311 [];
        expired_message_is_not_delivered: v5 ["MQTT-3.3.2-5"], v311 [];
        expiry_is_forwarded_less_the_time_waited: v5 ["MQTT-3.3.2-6"], v311 [];
        alias_stands_for_the_topic: v5 ["MQTT-3.3.2-12"], v311 [];
        alias_can_be_given_to_another_topic: v5 ["MQTT-3.3.2-12"], v311 [];
        alias_ends_with_the_connection: v5 ["MQTT-3.3.2-7"], v311 [];
        alias_that_was_never_given_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        aliases_of_two_connections_are_apart: v5 ["MQTT-3.3.2-7", "MQTT-3.3.2-12"], v311 [];
        alias_is_given_by_every_qos: v5 ["MQTT-3.3.2-12"], v311 [];
        expired_retained_message_is_not_sent: v5 ["MQTT-3.3.2-5"], v311 [];
        expiry_of_a_retained_message_is_less_the_time_waited: v5 ["MQTT-3.3.2-6"], v311 [];
        expiry_without_waiting_is_not_raised: v5 ["MQTT-3.3.2-6"], v311 [];
        publish_without_its_identifier_closes: v5 ["MQTT-4.13.1-1"], v311 ["MQTT-2.3.1-1"];
        alias_zero_closes: v5 ["MQTT-3.3.2-8"], v311 [];
        alias_above_the_maximum_closes:
            v5 ["MQTT-3.3.2-9", "MQTT-3.2.2-17", "MQTT-3.2.2-18"], v311 [];
        wildcard_in_a_response_topic_closes: v5 ["MQTT-3.3.2-14"], v311 [];
        ill_formed_response_topic_closes: v5 ["MQTT-3.3.2-13"], v311 [];
        ill_formed_content_type_closes: v5 ["MQTT-3.3.2-19"], v311 [];
        subscription_identifier_from_a_client_closes: v5 ["MQTT-3.3.4-6"], v311 [];
    }
}

fn wildcard_in_a_topic_name_closes(b: &Bench) -> Outcome {
    let publish = |topic: &str| Publish::new(&b.topic(topic), "x").bytes(b.version);
    b.each_closes(&[publish("#"), publish("+"), publish("a/+/b"), publish("a+"), publish("a#b")])
}

fn empty_topic_name_closes(b: &Bench) -> Outcome {
    b.each_closes(&[Publish::new("", "x").bytes(b.version)])
}

fn publish_without_a_whole_topic_name_closes(b: &Bench) -> Outcome {
    b.each_closes(&[frame(0x30, &[]), frame(0x30, &[&[0]]), frame(0x30, &[&[0, 9, b'a']])])
}

fn properties_are_forwarded_unchanged(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    let publish = Publish::new(&b.topic("x"), "payload").qos(1, 0).with(
        Props::new()
            .byte(PAYLOAD_FORMAT, 1)
            .text(CONTENT_TYPE, "text/plain")
            .text(RESPONSE_TOPIC, "an/answer")
            .text(CORRELATION_DATA, [0, 0xFF, 1]),
    );
    publisher.publish(&publish)?;
    let found = sub.take("payload")?;
    for id in [PAYLOAD_FORMAT, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA] {
        b.same(&format!("property {id:#04x}"), found.property(id), publish.property(id))?;
    }
    Ok(())
}

fn user_properties_are_forwarded_in_order(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(0)?;
    let props =
        Props::new().pair("b", "1").pair("a", "2").pair("b", "1").pair("", "").pair("b", "0");
    let publish = Publish::new(&b.topic("x"), "payload").with(props);
    publisher.publish(&publish)?;
    let found = sub.take("payload")?;
    b.same("user properties", found.property(USER_PROPERTY), publish.property(USER_PROPERTY))
}

fn expired_message_is_not_delivered(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("#"), 1)?;
    wire.disconnect();
    let mut publisher = b.join("pub")?;
    let props = Props::new().four(MESSAGE_EXPIRY, 1);
    publisher.publish(&Publish::new(&b.topic("x"), "too late").qos(1, 0).with(props))?;
    publisher.publish(&Publish::new(&b.topic("x"), "in time").qos(1, 0))?;
    // Passing time is what this is about.
    sleep(Duration::from_millis(2500));
    let (mut wire, _) = b.join_kept("a")?;
    wire.take("in time")?;
    wire.ping()
}

fn expiry_is_forwarded_less_the_time_waited(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("#"), 1)?;
    wire.disconnect();
    let mut publisher = b.join("pub")?;
    let props = Props::new().four(MESSAGE_EXPIRY, 100);
    publisher.publish(&Publish::new(&b.topic("x"), "waits").qos(1, 0).with(props))?;
    // Passing time is what this is about.
    sleep(Duration::from_millis(2500));
    let (mut wire, _) = b.join_kept("a")?;
    let found = wire.take("waits")?.property(MESSAGE_EXPIRY);
    let left = found.as_ref().ok().and_then(|it| it.first()).and_then(|it| it.last().copied());
    let right = left.is_some_and(|it| (90..=98).contains(&it));
    b.check(right, format!("expected an expiry of 97 or 98, found {found:?}"))
}

/// A connection and the Topic Alias Maximum of the Server.
fn with_aliases(b: &Bench) -> Result<(Wire, u16), Fail> {
    let (wire, connack) = b.join_with("pub", &b.hello("pub"))?;
    match alias_maximum(&connack) {
        0 => Err(Fail::Skipped("the Server takes no Topic Alias".into())),
        maximum => Ok((wire, maximum)),
    }
}

fn alias_maximum(connack: &Connack) -> u16 {
    let number = connack.number(TOPIC_ALIAS_MAXIMUM).unwrap_or(0);
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn aliased(topic: &str, payload: &str, alias: u16) -> Publish {
    Publish::new(topic, payload).with(Props::new().two(TOPIC_ALIAS, alias))
}

fn alias_stands_for_the_topic(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 0)?;
    let (mut publisher, maximum) = with_aliases(b)?;
    for alias in [1, maximum] {
        let topic = b.topic(&format!("x{alias}"));
        publisher.publish(&aliased(&topic, "with topic", alias))?;
        publisher.publish(&aliased("", "without", alias))?;
        for payload in ["with topic", "without"] {
            let found = sub.take(payload)?;
            b.same("topic", found.topic, topic.clone().into_bytes())?;
        }
    }
    Ok(())
}

fn alias_can_be_given_to_another_topic(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 0)?;
    let (mut publisher, _) = with_aliases(b)?;
    publisher.publish(&aliased(&b.topic("x"), "1", 1))?;
    publisher.publish(&aliased(&b.topic("y"), "2", 1))?;
    publisher.publish(&aliased("", "3", 1))?;
    for (payload, topic) in [("1", "x"), ("2", "y"), ("3", "y")] {
        b.same("topic", sub.take(payload)?.topic, b.topic(topic).into_bytes())?;
    }
    Ok(())
}

fn alias_ends_with_the_connection(b: &Bench) -> Outcome {
    let (mut publisher, connack) = b.join_with("pub", &b.hello_kept("pub"))?;
    if alias_maximum(&connack) == 0 {
        return Err(Fail::Skipped("the Server takes no Topic Alias".into()));
    }
    publisher.publish(&aliased(&b.topic("x"), "1", 1))?;
    publisher.disconnect();
    let (mut publisher, _) = b.join_kept("pub")?;
    publisher.publish(&aliased("", "2", 1))?;
    publisher.closed().map(drop)
}

fn alias_zero_closes(b: &Bench) -> Outcome {
    b.each_closes(&[aliased(&b.topic("x"), "x", 0).bytes(b.version)])
}

fn alias_above_the_maximum_closes(b: &Bench) -> Outcome {
    let (mut publisher, connack) = b.join_with("pub", &b.hello("pub"))?;
    let Some(above) = alias_maximum(&connack).checked_add(1) else {
        return Err(Fail::Skipped("the Server takes every Topic Alias".into()));
    };
    publisher.publish(&aliased(&b.topic("x"), "x", above))?;
    publisher.closed().map(drop)
}

fn publish_with(b: &Bench, props: Props) -> Vec<u8> {
    Publish::new(&b.topic("x"), "x").with(props).bytes(b.version)
}

fn wildcard_in_a_response_topic_closes(b: &Bench) -> Outcome {
    b.each_closes(&[
        publish_with(b, Props::new().text(RESPONSE_TOPIC, "a/#")),
        publish_with(b, Props::new().text(RESPONSE_TOPIC, "+/a")),
    ])
}

fn ill_formed_response_topic_closes(b: &Bench) -> Outcome {
    b.each_closes(&[publish_with(b, Props::new().text(RESPONSE_TOPIC, b"a\xFF"))])
}

fn ill_formed_content_type_closes(b: &Bench) -> Outcome {
    b.each_closes(&[publish_with(b, Props::new().text(CONTENT_TYPE, b"a\xFF"))])
}

fn subscription_identifier_from_a_client_closes(b: &Bench) -> Outcome {
    b.each_closes(&[publish_with(b, Props::new().var(SUBSCRIPTION_ID, 1))])
}

fn alias_that_was_never_given_closes(b: &Bench) -> Outcome {
    let (mut publisher, _) = with_aliases(b)?;
    publisher.publish(&aliased("", "x", 1))?;
    publisher.closed().map(drop)
}

fn aliases_of_two_connections_are_apart(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 0)?;
    let (mut one, _) = with_aliases(b)?;
    let mut two = b.join("two")?;
    one.publish(&aliased(&b.topic("x"), "1", 1))?;
    sub.take("1")?;
    two.publish(&aliased(&b.topic("y"), "2", 1))?;
    sub.take("2")?;
    one.publish(&aliased("", "3", 1))?;
    b.same("topic", sub.take("3")?.topic, b.topic("x").into_bytes())?;
    two.publish(&aliased("", "4", 1))?;
    b.same("topic", sub.take("4")?.topic, b.topic("y").into_bytes())
}

fn alias_is_given_by_every_qos(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 2)?;
    let (mut publisher, _) = with_aliases(b)?;
    for qos in [2, 1, 0] {
        let topic = b.topic(&format!("x{qos}"));
        publisher.publish(&aliased(&topic, "with topic", 1).qos(qos, 0))?;
        publisher.publish(&aliased("", "without", 1).qos(qos, 0))?;
        for payload in ["with topic", "without"] {
            b.same("topic", sub.take(payload)?.topic, topic.clone().into_bytes())?;
        }
    }
    Ok(())
}

fn expired_retained_message_is_not_sent(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    let props = Props::new().four(MESSAGE_EXPIRY, 1);
    publisher.publish(&Publish::new(&b.topic("x"), "too late").qos(1, 0).retain().with(props))?;
    // Passing time is what this is about.
    sleep(Duration::from_millis(2500));
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 1)?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn seconds_left(message: &Publish) -> Option<u32> {
    let values = message.property(MESSAGE_EXPIRY).ok()?;
    let value: [u8; 4] = values.first()?.as_slice().try_into().ok()?;
    Some(u32::from_be_bytes(value))
}

fn expiry_of_a_retained_message_is_less_the_time_waited(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    let props = Props::new().four(MESSAGE_EXPIRY, 1000);
    publisher.publish(&Publish::new(&b.topic("x"), "waits").qos(1, 0).retain().with(props))?;
    // Passing time is what this is about.
    sleep(Duration::from_millis(2500));
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 1)?;
    let left = seconds_left(&sub.take("waits")?);
    let right = left.is_some_and(|it| (900..=998).contains(&it));
    b.check(right, format!("expected an expiry of 997 or 998, found {left:?}"))
}

fn expiry_without_waiting_is_not_raised(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    for sent in [1000, u32::MAX] {
        let props = Props::new().four(MESSAGE_EXPIRY, sent);
        publisher.publish(&Publish::new(&b.topic("x"), "x").qos(1, 0).with(props))?;
        let left = seconds_left(&sub.take("x")?);
        let right = left.is_some_and(|it| (sent - 60..=sent).contains(&it));
        b.check(right, format!("expected an expiry of {sent}, found {left:?}"))?;
    }
    Ok(())
}

fn publish_without_its_identifier_closes(b: &Bench) -> Outcome {
    let topic = crate::packet::text(b.topic("x"));
    b.each_closes(&[frame(0x32, &[&topic]), frame(0x34, &[&topic, &[1]])])
}

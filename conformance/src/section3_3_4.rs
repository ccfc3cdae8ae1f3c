//! §3.3.4 and §4.9: what a PUBLISH brings about, and how many may be unacknowledged.

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{PUBACK, PUBCOMP, PUBREC, PUBREL, RECEIVE_MAXIMUM, SUBSCRIPTION_ID};
use crate::packet::{Props, Publish, ack, ack_with};
use crate::wire::Wire;

cases! {
    "3.3.4" {
        publish_is_answered_as_its_qos_asks: v5 ["MQTT-3.3.4-1", "MQTT-3.4.2-1", "MQTT-3.5.2-1"],
            v311 ["MQTT-3.3.4-1"];
        overlapping_subscriptions_deliver_at_the_highest_qos: v5 ["MQTT-3.3.4-2"],
            v311 ["MQTT-3.3.5-1"];
        topic_sent_matches_the_filter: v5 ["MQTT-3.3.2-3"], v311 ["MQTT-3.3.2-3"];
        every_matching_client_gets_the_message: v5 ["MQTT-4.5.0-1"], v311 ["MQTT-4.5.0-1"];
        large_payload_arrives_whole: v5 ["MQTT-4.2-1"], v311 ["MQTT-7.1.1-1"];
        subscription_identifier_is_sent: v5 ["MQTT-3.3.4-3"], v311 [];
        overlapping_subscriptions_have_their_identifiers:
            v5 ["MQTT-3.3.4-3", "MQTT-3.3.4-4", "MQTT-3.3.4-5"], v311 [];
        subscription_identifier_is_replaced: v5 ["MQTT-3.3.4-3", "MQTT-3.8.4-3"], v311 [];
    }
    "4.9" {
        receive_maximum_holds_back_messages: v5 ["MQTT-3.3.4-9", "MQTT-4.9.0-1", "MQTT-4.9.0-2"],
            v311 [];
        receive_maximum_holds_back_nothing_else: v5 ["MQTT-3.3.4-10", "MQTT-4.9.0-3"], v311 [];
        receive_maximum_holds_back_what_is_sent_again: v5 ["MQTT-3.3.4-9", "MQTT-4.9.0-1"],
            v311 [];
        qos_0_is_not_held_back: v5 ["MQTT-4.9.0-3"], v311 [];
        pubrec_that_refuses_gives_its_place_back: v5 ["MQTT-4.9.0-2", "MQTT-4.4.0-2"], v311 [];
        pubcomp_gives_the_place_of_qos_2_back: v5 ["MQTT-4.9.0-2"], v311 [];
        more_than_the_servers_receive_maximum_closes: v5 ["MQTT-3.3.4-7"], v311 [];
        servers_receive_maximum_can_be_used_up: v5 ["MQTT-3.3.4-7"], v311 [];
    }
}

fn publish_is_answered_as_its_qos_asks(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.publish(&Publish::new(&b.topic("x"), "0"))?;
    wire.ping()?;
    wire.send(&Publish::new(&b.topic("x"), "1").qos(1, 5).bytes(b.version));
    wire.acked(PUBACK, 5)?;
    wire.send(&Publish::new(&b.topic("x"), "2").qos(2, 6).bytes(b.version));
    wire.acked(PUBREC, 6)?;
    wire.send(&ack(PUBREL, 6));
    wire.acked(PUBCOMP, 6)?;
    wire.ping()
}

fn overlapping_subscriptions_deliver_at_the_highest_qos(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 0)?;
    sub.subscribe(&b.topic("+"), 2)?;
    sub.subscribe(&b.topic("x"), 1)?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "once").qos(2, 0))?;
    publisher.publish(&Publish::new(&b.topic("end"), "end").qos(2, 0))?;
    // One copy, or one for each subscription.
    let mut found = Vec::new();
    loop {
        let message = sub.message()?;
        sub.acknowledge(&message)?;
        if message.text() == "end" {
            break;
        }
        found.push(message.qos);
    }
    b.check(found.contains(&2), format!("expected a copy of QoS 2, found {found:?}"))?;
    b.check(found.len() <= 3, format!("expected at most 3 copies, found {found:?}"))
}

fn topic_sent_matches_the_filter(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("+/b"), 0)?;
    sub.subscribe(&b.topic("end"), 0)?;
    let mut publisher = b.join("pub")?;
    for topic in ["a/b", "a/c", "b", "x/b", "a/b/c"] {
        publisher.publish(&Publish::new(&b.topic(topic), topic))?;
    }
    for topic in ["a/b", "x/b"] {
        b.same("topic", sub.take(topic)?.topic, b.topic(topic).into_bytes())?;
    }
    b.nothing_more(&mut sub, &mut publisher)
}

fn every_matching_client_gets_the_message(b: &Bench) -> Outcome {
    let mut subs = Vec::new();
    for index in 0..8_u8 {
        let mut sub = b.join(&format!("sub{index}"))?;
        sub.subscribe(&b.topic("x"), index % 3)?;
        subs.push((sub, index % 3));
    }
    b.join("pub")?.publish(&Publish::new(&b.topic("x"), "all").qos(2, 0))?;
    for (sub, qos) in &mut subs {
        b.same("QoS", sub.take("all")?.qos, *qos)?;
    }
    Ok(())
}

fn large_payload_arrives_whole(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    let payload: String = (0..20_000).map(|number| format!("{number:05}")).collect();
    publisher.publish(&Publish::new(&b.topic("x"), &payload).qos(1, 0))?;
    let found = sub.message()?;
    sub.acknowledge(&found)?;
    b.check(found.text() == payload, "the payload is not what was sent")
}

fn subscribe_as(wire: &mut Wire, filter: &str, options: u8, id: usize) -> Outcome {
    let codes = wire.subscribe_all(&[(filter, options)], Props::new().var(SUBSCRIPTION_ID, id))?;
    match codes.as_slice() {
        [0..=2] => Ok(()),
        [0xA1] => Err(Fail::Skipped("the Server takes no Subscription Identifiers".into())),
        _ => wire.fail(format!("expected a grant, found {codes:02x?}")),
    }
}

fn subscription_identifier_is_sent(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    let mut publisher = b.join("pub")?;
    for (index, id) in [1, 127, 128, 16_384, 268_435_455].into_iter().enumerate() {
        let topic = b.topic(&format!("x{index}"));
        subscribe_as(&mut sub, &topic, 1, id)?;
        publisher.publish(&Publish::new(&topic, "x").qos(1, 0))?;
        let found = sub.take("x")?.property(SUBSCRIPTION_ID);
        b.same("identifiers", found, Ok(vec![crate::packet::var_int(id)]))?;
    }
    Ok(())
}

fn overlapping_subscriptions_have_their_identifiers(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    subscribe_as(&mut sub, &b.topic("x"), 0, 1)?;
    subscribe_as(&mut sub, &b.topic("+"), 0, 2)?;
    sub.subscribe(&b.topic("#"), 0)?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "x"))?;
    publisher.publish(&Publish::new(&b.topic("end/last"), "end"))?;
    let mut ids = Vec::new();
    let mut copies = 0;
    loop {
        let message = sub.message()?;
        if message.text() == "end" {
            break;
        }
        copies += 1;
        let of_this = message.property(SUBSCRIPTION_ID).or_else(|wrong| sub.fail(wrong))?;
        b.check(copies == 1 || of_this.len() <= 1, "several copies, one with several identifiers")?;
        ids.extend(of_this);
    }
    ids.sort();
    b.same("identifiers of all copies", ids, vec![vec![1], vec![2]])
}

fn subscription_identifier_is_replaced(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    let mut publisher = b.join("pub")?;
    subscribe_as(&mut sub, &b.topic("x"), 0, 1)?;
    subscribe_as(&mut sub, &b.topic("x"), 0, 2)?;
    publisher.publish(&Publish::new(&b.topic("x"), "with"))?;
    b.same("identifiers", sub.take("with")?.property(SUBSCRIPTION_ID), Ok(vec![vec![2]]))?;
    sub.subscribe(&b.topic("x"), 0)?;
    publisher.publish(&Publish::new(&b.topic("x"), "without"))?;
    b.same("identifiers", sub.take("without")?.property(SUBSCRIPTION_ID), Ok(Vec::new()))
}

/// A subscriber of QoS 2 that takes this many unacknowledged messages, and a publisher.
fn narrow(b: &Bench, maximum: u16) -> Result<(Wire, Wire), Fail> {
    let connect = b.hello("sub").with(Props::new().two(RECEIVE_MAXIMUM, maximum));
    let (mut sub, _) = b.join_with("sub", &connect)?;
    sub.subscribe(&b.topic("#"), 2)?;
    Ok((sub, b.join("pub")?))
}

fn receive_maximum_holds_back_messages(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = narrow(b, 2)?;
    for payload in ["1", "2", "3", "4"] {
        publisher.publish(&Publish::new(&b.topic("x"), payload).qos(1, 0))?;
    }
    let first = sub.message()?;
    let second = sub.message()?;
    sub.ping()?;
    // In their order, as a Client has to [MQTT-4.6.0-2].
    sub.acknowledge(&first)?;
    let third = sub.message()?;
    b.same("payload", third.text(), "3".to_owned())?;
    sub.ping()?;
    sub.acknowledge(&second)?;
    let fourth = sub.message()?;
    b.same("payload", fourth.text(), "4".to_owned())?;
    sub.acknowledge(&third)?;
    sub.acknowledge(&fourth)?;
    sub.ping()
}

fn receive_maximum_holds_back_nothing_else(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = narrow(b, 1)?;
    publisher.publish(&Publish::new(&b.topic("x"), "first").qos(1, 0))?;
    let first = sub.message()?;
    publisher.publish(&Publish::new(&b.topic("x"), "second").qos(1, 0))?;
    sub.subscribe(&b.topic("y"), 0)?;
    sub.publish(&Publish::new("not-for-us", "x").qos(2, 0))?;
    sub.ping()?;
    sub.acknowledge(&first)?;
    sub.take("second").map(drop)
}

fn receive_maximum_holds_back_what_is_sent_again(b: &Bench) -> Outcome {
    let (mut sub, _) = b.join_kept("sub")?;
    sub.subscribe(&b.topic("#"), 1)?;
    let mut publisher = b.join("pub")?;
    for payload in ["1", "2", "3"] {
        publisher.publish(&Publish::new(&b.topic("x"), payload).qos(1, 0))?;
        sub.message()?;
    }
    sub.drop_connection();
    let connect = b.hello_kept("sub").with(Props::new().two(RECEIVE_MAXIMUM, 1));
    let (mut sub, _) = b.join_with("sub", &connect)?;
    for payload in ["1", "2", "3"] {
        let message = sub.message()?;
        b.same("payload", message.text(), payload.to_owned())?;
        sub.ping()?;
        sub.acknowledge(&message)?;
    }
    sub.ping()
}

fn qos_0_is_not_held_back(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = narrow(b, 1)?;
    publisher.publish(&Publish::new(&b.topic("x"), "first").qos(1, 0))?;
    let first = sub.message()?;
    publisher.publish(&Publish::new(&b.topic("x"), "passes"))?;
    sub.take("passes")?;
    sub.acknowledge(&first)?;
    sub.ping()
}

fn pubrec_that_refuses_gives_its_place_back(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = narrow(b, 1)?;
    publisher.publish(&Publish::new(&b.topic("x"), "first").qos(2, 0))?;
    publisher.publish(&Publish::new(&b.topic("x"), "second").qos(2, 0))?;
    let first = sub.message()?;
    sub.send(&ack_with(PUBREC, first.id, 0x80));
    // No PUBREL for the first: the second is next.
    sub.take("second")?;
    sub.ping()
}

fn pubcomp_gives_the_place_of_qos_2_back(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = narrow(b, 1)?;
    publisher.publish(&Publish::new(&b.topic("x"), "first").qos(2, 0))?;
    publisher.publish(&Publish::new(&b.topic("x"), "second").qos(2, 0))?;
    let first = sub.message()?;
    sub.send(&ack(PUBREC, first.id));
    sub.acked(PUBREL, first.id)?;
    sub.ping()?;
    sub.send(&ack(PUBCOMP, first.id));
    sub.take("second").map(drop)
}

/// A connection, and how many messages the Server takes from it unacknowledged.
fn servers_maximum(b: &Bench) -> Result<(Wire, u16), Fail> {
    let (wire, connack) = b.join_with("a", &b.hello("a"))?;
    match connack.number(RECEIVE_MAXIMUM).and_then(|it| u16::try_from(it).ok()) {
        Some(maximum) if maximum <= 2000 => Ok((wire, maximum)),
        _ => Err(Fail::Skipped("the Server's Receive Maximum is too large to try".into())),
    }
}

fn begin(b: &Bench, wire: &mut Wire, count: u16) {
    for id in 1..=count {
        wire.send(&Publish::new(&b.topic("x"), "x").qos(2, id).bytes(b.version));
    }
}

fn more_than_the_servers_receive_maximum_closes(b: &Bench) -> Outcome {
    let (mut wire, maximum) = servers_maximum(b)?;
    begin(b, &mut wire, maximum);
    for id in 1..=maximum {
        wire.acked(PUBREC, id)?;
    }
    // PUBREC does not end it: only PUBCOMP does.
    wire.send(&Publish::new(&b.topic("x"), "x").qos(2, maximum + 1).bytes(b.version));
    match wire.closed()? {
        None | Some(0x93) => Ok(()),
        Some(code) => wire.fail(format!("expected DISCONNECT 93, found {code:02x}")),
    }
}

fn servers_receive_maximum_can_be_used_up(b: &Bench) -> Outcome {
    let (mut wire, maximum) = servers_maximum(b)?;
    begin(b, &mut wire, maximum);
    for id in 1..=maximum {
        wire.acked(PUBREC, id)?;
    }
    for id in 1..=maximum {
        wire.release(id)?;
    }
    begin(b, &mut wire, 1);
    wire.acked(PUBREC, 1).map(drop)
}

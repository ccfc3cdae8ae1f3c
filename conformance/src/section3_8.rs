//! §3.8 and §3.9: SUBSCRIBE and SUBACK.

use crate::case::{Bench, Outcome, cases};
use crate::number::{SUBACK, SUBSCRIPTION_ID};
use crate::packet::{Props, Publish, frame, subscribe};

cases! {
    "3.8.1" {
        subscribe_with_other_flags_closes: v5 ["MQTT-3.8.1-1"], v311 ["MQTT-3.8.1-1"];
    }
    "3.8.3" {
        subscribe_without_a_filter_closes: v5 ["MQTT-3.8.3-2"], v311 ["MQTT-3.8.3-3"];
        subscribe_without_options_closes: v5 ["MQTT-3.8.3-2"], v311 ["MQTT-4.8.0-1"];
        qos_3_closes: v5 ["MQTT-4.13.1-1"], v311 ["MQTT-3.8.3-4"];
        reserved_option_bits_close: v5 ["MQTT-3.8.3-5"], v311 ["MQTT-3.8.3-4"];
        retain_handling_3_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        subscription_identifier_zero_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        no_local_keeps_own_messages_away: v5 ["MQTT-3.8.3-3"], v311 [];
        no_local_is_of_its_subscription_alone: v5 ["MQTT-3.8.3-3"], v311 [];
        no_local_holds_over_connections_of_a_session: v5 ["MQTT-3.8.3-3"], v311 [];
        no_local_and_retain_as_published_go_together: v5 ["MQTT-3.8.3-3", "MQTT-3.3.1-13"],
            v311 [];
        options_are_replaced_with_the_subscription: v5 ["MQTT-3.8.4-3"], v311 [];
        without_no_local_own_messages_come_back: v5 ["MQTT-4.5.0-1"], v311 ["MQTT-4.5.0-1"];
    }
    "3.8.4" {
        subscribe_is_answered: v5 ["MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-7"],
            v311 ["MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-6"];
        several_filters_have_one_answer_in_their_order:
            v5 ["MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.9.3-1", "MQTT-3.9.3-2"],
            v311 ["MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT-3.9.3-2"];
        same_filter_again_replaces_the_subscription: v5 ["MQTT-3.8.4-3"],
            v311 ["MQTT-3.8.4-3"];
        same_filter_twice_in_one_subscribe_is_one_subscription:
            v5 ["MQTT-3.8.4-3", "MQTT-3.8.4-5"], v311 ["MQTT-3.8.4-3", "MQTT-3.8.4-4"];
        delivery_is_at_the_lower_qos: v5 ["MQTT-3.8.4-8"], v311 ["MQTT-3.8.4-6"];
    }
}

fn subscribe_with_other_flags_closes(b: &Bench) -> Outcome {
    let body =
        [vec![0, 1], Props::new().block(b.version), crate::packet::text(b.topic("x")), vec![0]]
            .concat();
    b.each_closes(&[0x80, 0x81, 0x83, 0x8A].map(|first| frame(first, &[&body])))
}

fn subscribe_without_a_filter_closes(b: &Bench) -> Outcome {
    b.each_closes(&[subscribe(b.version, 1, &[], Props::new())])
}

fn subscribe_without_options_closes(b: &Bench) -> Outcome {
    let none = Props::new().block(b.version);
    b.each_closes(&[frame(0x82, &[&[0, 1], &none, &crate::packet::text(b.topic("x"))])])
}

fn with_options(b: &Bench, options: u8) -> Vec<u8> {
    subscribe(b.version, 1, &[(&b.topic("x"), options)], Props::new())
}

fn qos_3_closes(b: &Bench) -> Outcome {
    b.each_closes(&[with_options(b, 3)])
}

fn reserved_option_bits_close(b: &Bench) -> Outcome {
    let mut bits = vec![0x40, 0x80];
    if !b.is_v5() {
        bits.extend([0x04, 0x08, 0x10, 0x20]);
    }
    b.each_closes(&bits.into_iter().map(|bit| with_options(b, bit)).collect::<Vec<_>>())
}

fn retain_handling_3_closes(b: &Bench) -> Outcome {
    b.each_closes(&[with_options(b, 0x30)])
}

fn subscription_identifier_zero_closes(b: &Bench) -> Outcome {
    let props = Props::new().var(SUBSCRIPTION_ID, 0);
    b.each_closes(&[subscribe(b.version, 1, &[(&b.topic("x"), 0)], props)])
}

/// Subscription options: No Local.
const NO_LOCAL: u8 = 4;

fn no_local_keeps_own_messages_away(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.subscribe(&b.topic("#"), 1 | NO_LOCAL)?;
    wire.publish(&Publish::new(&b.topic("x"), "own").qos(1, 0))?;
    let mut other = b.join("other")?;
    other.publish(&Publish::new(&b.topic("x"), "of another").qos(1, 0))?;
    wire.take("of another")?;
    b.nothing_more(&mut wire, &mut other)
}

fn no_local_is_of_its_subscription_alone(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.subscribe(&b.topic("#"), 1 | NO_LOCAL)?;
    wire.subscribe(&b.topic("x"), 0)?;
    wire.publish(&Publish::new(&b.topic("x"), "own").qos(1, 0))?;
    b.same("QoS", wire.take("own")?.qos, 0)?;
    b.nothing_more(&mut wire, &mut b.join("other")?)
}

/// It is the Client Identifier of the publisher that counts.
fn no_local_holds_over_connections_of_a_session(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("#"), 1 | NO_LOCAL)?;
    wire.publish(&Publish::new(&b.topic("x"), "own").qos(1, 0))?;
    wire.disconnect();
    let (mut wire, present) = b.join_kept("a")?;
    b.check(present, "expected Session Present 1, found 0")?;
    wire.publish(&Publish::new(&b.topic("x"), "own").qos(1, 0))?;
    b.nothing_more(&mut wire, &mut b.join("other")?)
}

/// Subscription options: Retain As Published.
const AS_PUBLISHED: u8 = 8;

fn no_local_and_retain_as_published_go_together(b: &Bench) -> Outcome {
    let (mut wire, mut other) = (b.join("a")?, b.join("other")?);
    wire.subscribe(&b.topic("#"), 1 | NO_LOCAL | AS_PUBLISHED)?;
    wire.publish(&Publish::new(&b.topic("x"), "own").qos(1, 0).retain())?;
    other.publish(&Publish::new(&b.topic("x"), "of another").qos(1, 0).retain())?;
    b.check(wire.take("of another")?.retain, "expected RETAIN 1, found 0")?;
    b.nothing_more(&mut wire, &mut other)
}

fn options_are_replaced_with_the_subscription(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.subscribe(&b.topic("x"), 1 | NO_LOCAL | AS_PUBLISHED)?;
    wire.subscribe(&b.topic("x"), 1)?;
    wire.publish(&Publish::new(&b.topic("x"), "own").qos(1, 0).retain())?;
    b.check(!wire.take("own")?.retain, "expected RETAIN 0, found 1")?;
    wire.subscribe(&b.topic("end"), 0)?;
    b.nothing_more(&mut wire, &mut b.join("other")?)
}

fn without_no_local_own_messages_come_back(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.subscribe(&b.topic("#"), 1)?;
    wire.publish(&Publish::new(&b.topic("x"), "own"))?;
    wire.take("own").map(drop)
}

fn subscribe_is_answered(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    for (qos, id) in [(0, 300), (1, 301), (2, 302)] {
        let topic = b.topic(&format!("x{qos}"));
        wire.send(&subscribe(b.version, id, &[(&topic, qos)], Props::new()));
        let codes = wire.answer(SUBACK, id)?;
        b.check(
            matches!(codes.as_slice(), [granted] if *granted <= qos),
            format!("expected a grant of at most QoS {qos}, found {codes:02x?}"),
        )?;
    }
    Ok(())
}

fn several_filters_have_one_answer_in_their_order(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    let names: Vec<_> = (0..20_u8).map(|it| (b.topic(&format!("x{it}")), it * 7 % 3)).collect();
    let filters: Vec<_> = names.iter().map(|(name, qos)| (name.as_str(), *qos)).collect();
    let codes = sub.subscribe_all(&filters, Props::new())?;
    b.same("codes", codes, filters.iter().map(|it| it.1).collect())?;
    let mut publisher = b.join("pub")?;
    for (topic, qos) in filters {
        publisher.publish(&Publish::new(topic, topic).qos(2, 0))?;
        b.same("QoS", sub.take(topic)?.qos, qos)?;
    }
    Ok(())
}

fn same_filter_again_replaces_the_subscription(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    let mut publisher = b.join("pub")?;
    for qos in [2, 0, 1] {
        sub.subscribe(&b.topic("#"), qos)?;
        publisher.publish(&Publish::new(&b.topic("x"), "x").qos(2, 0))?;
        b.same("QoS", sub.take("x")?.qos, qos)?;
        b.nothing_more(&mut sub, &mut publisher)?;
    }
    Ok(())
}

fn same_filter_twice_in_one_subscribe_is_one_subscription(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    let topic = b.topic("#");
    let codes = sub.subscribe_all(&[(&topic, 2), (&topic, 1)], Props::new())?;
    b.same("codes", codes, vec![2, 1])?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "x").qos(2, 0))?;
    b.same("QoS", sub.take("x")?.qos, 1)?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn delivery_is_at_the_lower_qos(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    for granted in [0, 1, 2] {
        let mut sub = b.join("sub")?;
        sub.subscribe(&b.topic("x"), granted)?;
        for published in [0, 1, 2] {
            publisher.publish(&Publish::new(&b.topic("x"), "x").qos(published, 0))?;
            b.same("QoS", sub.take("x")?.qos, granted.min(published))?;
        }
        sub.disconnect();
    }
    Ok(())
}

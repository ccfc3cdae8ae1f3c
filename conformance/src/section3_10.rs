//! §3.10 and §3.11: UNSUBSCRIBE and UNSUBACK.

use crate::case::{Bench, Outcome, cases};
use crate::number::{PUBCOMP, PUBREC, PUBREL, UNSUBACK};
use crate::packet::{Props, Publish, ack, frame, text, unsubscribe};

cases! {
    "3.10.1" {
        unsubscribe_with_other_flags_closes: v5 ["MQTT-3.10.1-1"], v311 ["MQTT-3.10.1-1"];
    }
    "3.10.3" {
        unsubscribe_without_a_filter_closes: v5 ["MQTT-3.10.3-2"], v311 ["MQTT-3.10.3-2"];
        ill_formed_filter_to_unsubscribe_closes: v5 ["MQTT-3.10.3-1"], v311 ["MQTT-3.10.3-1"];
    }
    "3.10.4" {
        equal_filter_ends_its_subscription: v5 ["MQTT-3.10.4-1", "MQTT-3.10.4-2"],
            v311 ["MQTT-3.10.4-1", "MQTT-3.10.4-2"];
        filter_that_only_matches_ends_nothing: v5 ["MQTT-3.10.4-1"], v311 ["MQTT-3.10.4-1"];
        deliveries_begun_are_completed: v5 ["MQTT-3.10.4-3"], v311 ["MQTT-3.10.4-3"];
        unsubscribe_is_answered_though_nothing_is_removed:
            v5 ["MQTT-3.10.4-4", "MQTT-3.10.4-5"], v311 ["MQTT-3.10.4-4", "MQTT-3.10.4-5"];
        several_filters_have_one_answer: v5 ["MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2"],
            v311 ["MQTT-3.10.4-6"];
    }
}

fn unsubscribe_with_other_flags_closes(b: &Bench) -> Outcome {
    let body = [vec![0, 1], Props::new().block(b.version), text(b.topic("x"))].concat();
    b.each_closes(&[0xA0, 0xA1, 0xA3, 0xAA].map(|first| frame(first, &[&body])))
}

fn unsubscribe_without_a_filter_closes(b: &Bench) -> Outcome {
    b.each_closes(&[unsubscribe(b.version, 1, &[])])
}

fn ill_formed_filter_to_unsubscribe_closes(b: &Bench) -> Outcome {
    let none = Props::new().block(b.version);
    b.each_closes(&[frame(0xA2, &[&[0, 1], &none, &text(b"a\xFF")])])
}

fn equal_filter_ends_its_subscription(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("end"), 0)?;
    let mut publisher = b.join("pub")?;
    for filter in ["x", "+", "x/#"] {
        sub.subscribe(&b.topic(filter), 1)?;
        if filter == "+" {
            // It matches the marker as well.
            sub.unsubscribe(&[&b.topic("end")])?;
        }
        publisher.publish(&Publish::new(&b.topic("x"), "before").qos(1, 0))?;
        sub.take("before")?;
        let codes = sub.unsubscribe(&[&b.topic(filter)])?;
        b.same("codes", codes, if b.is_v5() { vec![0] } else { vec![] })?;
        sub.subscribe(&b.topic("end"), 0)?;
        publisher.publish(&Publish::new(&b.topic("x"), "after").qos(1, 0))?;
        b.nothing_more(&mut sub, &mut publisher)?;
    }
    Ok(())
}

fn filter_that_only_matches_ends_nothing(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("x/y"), 0)?;
    let others = [b.topic("x/+"), b.topic("#"), b.topic("X/y"), b.topic("x/y/"), b.topic("x")];
    for other in &others {
        let codes = sub.unsubscribe(&[other])?;
        b.same("codes", codes, if b.is_v5() { vec![0x11] } else { vec![] })?;
    }
    b.join("pub")?.publish(&Publish::new(&b.topic("x/y"), "still"))?;
    sub.take("still").map(drop)
}

fn deliveries_begun_are_completed(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    publisher.publish(&Publish::new(&b.topic("x"), "begun").qos(2, 0))?;
    let begun = sub.message()?;
    sub.unsubscribe(&[&b.topic("#")])?;
    sub.send(&ack(PUBREC, begun.id));
    sub.acked(PUBREL, begun.id)?;
    sub.send(&ack(PUBCOMP, begun.id));
    sub.ping()
}

fn unsubscribe_is_answered_though_nothing_is_removed(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.send(&unsubscribe(b.version, 0x1234, &[&b.topic("x")]));
    let codes = wire.answer(UNSUBACK, 0x1234)?;
    b.same("codes", codes, if b.is_v5() { vec![0x11] } else { vec![] })
}

fn several_filters_have_one_answer(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    let (one, two, three) = (b.topic("1"), b.topic("2"), b.topic("3"));
    sub.subscribe_all(&[(&one, 0), (&three, 0)], Props::new())?;
    let codes = sub.unsubscribe(&[&one, &two, &three])?;
    b.same("codes", codes, if b.is_v5() { vec![0, 0x11, 0] } else { vec![] })?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&one, "1"))?;
    publisher.publish(&Publish::new(&three, "3"))?;
    sub.subscribe(&b.topic("end"), 0)?;
    b.nothing_more(&mut sub, &mut publisher)
}

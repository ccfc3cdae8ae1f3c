//! §3.3.1: the flags of PUBLISH, and with them retained messages.

use crate::case::{Bench, Outcome, cases};
use crate::packet::{Props, Publish};

cases! {
    "3.3.1.1" {
        dup_of_a_publisher_is_not_passed_on: v5 ["MQTT-3.3.1-3", "MQTT-4.3.2-2", "MQTT-4.3.3-2"],
            v311 ["MQTT-3.3.1-3", "MQTT-4.3.2-1", "MQTT-4.3.3-1"];
        dup_is_0_on_qos_0: v5 ["MQTT-3.3.1-2", "MQTT-4.3.1-1"],
            v311 ["MQTT-3.3.1-2", "MQTT-4.3.1-1"];
    }
    "3.3.1.2" {
        qos_3_closes: v5 ["MQTT-3.3.1-4"], v311 ["MQTT-3.3.1-4"];
    }
    "3.3.1.3" {
        retained_message_reaches_a_new_subscription: v5 ["MQTT-3.3.1-5", "MQTT-3.3.1-9"],
            v311 ["MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8"];
        retained_message_replaces_the_one_before: v5 ["MQTT-3.3.1-5"],
            v311 ["MQTT-3.3.1-5", "MQTT-3.3.1-7"];
        every_matching_topic_has_its_retained_message: v5 ["MQTT-3.3.1-9"],
            v311 ["MQTT-3.3.1-6"];
        empty_retained_message_is_delivered_and_removes: v5 ["MQTT-3.3.1-6", "MQTT-3.3.1-7"],
            v311 ["MQTT-3.3.1-10", "MQTT-3.3.1-11"];
        message_without_retain_leaves_the_retained_one: v5 ["MQTT-3.3.1-8"],
            v311 ["MQTT-3.3.1-12"];
        established_subscription_gets_retain_0: v5 ["MQTT-3.3.1-12"], v311 ["MQTT-3.3.1-9"];
        retained_message_has_at_most_the_granted_qos: v5 ["MQTT-3.8.4-8"], v311 ["MQTT-3.8.4-6"];
        subscribing_again_sends_retained_messages_again: v5 ["MQTT-3.8.4-4", "MQTT-3.8.4-3"],
            v311 ["MQTT-3.8.4-3"];
        retain_handling_1_sends_to_new_subscriptions_only: v5 ["MQTT-3.3.1-10"], v311 [];
        retain_handling_2_sends_none: v5 ["MQTT-3.3.1-11"], v311 [];
        retain_as_published_keeps_the_flag: v5 ["MQTT-3.3.1-13"], v311 [];
        retained_properties_are_kept: v5 ["MQTT-3.3.1-5", "MQTT-3.3.2-17"], v311 [];
    }
}

fn dup_of_a_publisher_is_not_passed_on(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(2)?;
    for (qos, payload) in [(1, "one"), (2, "two")] {
        publisher.publish(&Publish::new(&b.topic("x"), payload).qos(qos, 0).dup())?;
        b.check(!sub.take(payload)?.dup, "expected DUP 0, found 1")?;
    }
    Ok(())
}

fn dup_is_0_on_qos_0(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(0)?;
    for qos in [0, 1, 2] {
        publisher.publish(&Publish::new(&b.topic("x"), "x").qos(qos, 0))?;
        let found = sub.take("x")?;
        b.same("QoS and DUP", (found.qos, found.dup), (0, false))?;
    }
    Ok(())
}

fn qos_3_closes(b: &Bench) -> Outcome {
    let publish = Publish::new(&b.topic("x"), "x").qos(3, 1);
    b.each_closes(&[publish.bytes(b.version), publish.retain().bytes(b.version)])
}

fn retained_message_reaches_a_new_subscription(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    for qos in [0, 1, 2] {
        let topic = b.topic(&format!("x{qos}"));
        publisher.publish(&Publish::new(&topic, "kept").qos(qos, 0).retain())?;
        publisher.ping()?;
        let mut sub = b.join("sub")?;
        sub.subscribe(&topic, 2)?;
        let found = sub.take("kept")?;
        b.same("QoS and RETAIN", (found.qos, found.retain), (qos, true))?;
        b.same("topic", found.topic, topic.into_bytes())?;
    }
    Ok(())
}

fn retained_message_replaces_the_one_before(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "first").qos(1, 0).retain())?;
    publisher.publish(&Publish::new(&b.topic("x"), "second").retain())?;
    publisher.ping()?;
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 1)?;
    sub.take("second")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn every_matching_topic_has_its_retained_message(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    for name in ["a", "a/b", "a/b/c", "other"] {
        publisher.publish(&Publish::new(&b.topic(name), name).qos(1, 0).retain())?;
    }
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("a/#"), 0)?;
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(sub.message()?.text());
    }
    found.sort();
    b.same("retained messages", found, vec!["a".into(), "a/b".into(), "a/b/c".into()])?;
    sub.subscribe(&b.topic("end"), 0)?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn empty_retained_message_is_delivered_and_removes(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(1, 0).retain())?;
    sub.take("kept")?;
    publisher.publish(&Publish::new(&b.topic("x"), "").qos(1, 0).retain())?;
    sub.take("")?;
    let mut late = b.join("late")?;
    late.subscribe(&b.topic("#"), 0)?;
    b.nothing_more(&mut late, &mut publisher)
}

fn message_without_retain_leaves_the_retained_one(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(1, 0).retain())?;
    publisher.publish(&Publish::new(&b.topic("x"), "passing").qos(1, 0))?;
    publisher.publish(&Publish::new(&b.topic("x"), "").qos(1, 0))?;
    publisher.publish(&Publish::new(&b.topic("y"), "passing").qos(1, 0))?;
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 0)?;
    sub.take("kept")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn established_subscription_gets_retain_0(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(1)?;
    for qos in [0, 1] {
        publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(qos, 0).retain())?;
        b.check(!sub.take("kept")?.retain, "expected RETAIN 0, found 1")?;
    }
    Ok(())
}

fn retained_message_has_at_most_the_granted_qos(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(2, 0).retain())?;
    for granted in [0, 1, 2] {
        let mut sub = b.join("sub")?;
        sub.subscribe(&b.topic("x"), granted)?;
        b.same("QoS", sub.take("kept")?.qos, granted)?;
        sub.disconnect();
    }
    Ok(())
}

fn subscribing_again_sends_retained_messages_again(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(1, 0).retain())?;
    let mut sub = b.join("sub")?;
    for _ in 0..2 {
        sub.subscribe(&b.topic("#"), 0)?;
        b.check(sub.take("kept")?.retain, "expected RETAIN 1, found 0")?;
    }
    // Replaced, not added: there is one subscription, and it is live.
    b.nothing_more(&mut sub, &mut publisher)?;
    b.nothing_more(&mut sub, &mut publisher)
}

/// Subscription options: Retain Handling.
const ONLY_IF_NEW: u8 = 1 << 4;
const NEVER: u8 = 2 << 4;
/// Subscription options: Retain As Published.
const AS_PUBLISHED: u8 = 1 << 3;

fn retain_handling_1_sends_to_new_subscriptions_only(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(1, 0).retain())?;
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 1 | ONLY_IF_NEW)?;
    sub.take("kept")?;
    sub.subscribe(&b.topic("#"), 1 | ONLY_IF_NEW)?;
    b.nothing_more(&mut sub, &mut publisher)?;
    sub.unsubscribe(&[&b.topic("#")])?;
    sub.subscribe(&b.topic("#"), 1 | ONLY_IF_NEW)?;
    sub.take("kept").map(drop)
}

fn retain_handling_2_sends_none(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(1, 0).retain())?;
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), NEVER)?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn retain_as_published_keeps_the_flag(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 1 | AS_PUBLISHED)?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(1, 0).retain())?;
    b.check(sub.take("kept")?.retain, "expected RETAIN 1, found 0")?;
    publisher.publish(&Publish::new(&b.topic("x"), "passing").qos(1, 0))?;
    b.check(!sub.take("passing")?.retain, "expected RETAIN 0, found 1")
}

fn retained_properties_are_kept(b: &Bench) -> Outcome {
    let props = Props::new().pair("b", "1").pair("a", "2");
    let mut publisher = b.join("pub")?;
    let publish = Publish::new(&b.topic("x"), "kept").qos(1, 0).retain().with(props.clone());
    publisher.publish(&publish)?;
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("x"), 0)?;
    b.same("properties", sub.take("kept")?.props, props)
}

//! §4.8: shared subscriptions, of MQTT 5 only.

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::SHARED_AVAILABLE;
use crate::packet::{Props, Publish, subscribe};
use crate::wire::Wire;

cases! {
    "4.8.2" {
        share_name_that_is_not_allowed_closes: v5 ["MQTT-4.8.2-1", "MQTT-4.8.2-2"], v311 [];
        no_local_on_a_shared_subscription_closes: v5 ["MQTT-3.8.3-4"], v311 [];
        shared_message_goes_to_one_of_the_group: v5 ["MQTT-4.8.2-3"], v311 [];
        shared_subscription_has_its_granted_qos: v5 ["MQTT-4.8.2-3"], v311 [];
        groups_and_others_have_a_copy_each: v5 ["MQTT-4.5.0-1"], v311 [];
    }
}

fn joined(b: &Bench, label: &str) -> Result<Wire, Fail> {
    let (wire, connack) = b.join_with(label, &b.hello(label))?;
    if connack.number(SHARED_AVAILABLE) == Some(0) {
        return Err(Fail::Skipped("the Server offers no shared subscriptions".into()));
    }
    Ok(wire)
}

fn shared(b: &Bench, group: &str, rest: &str) -> String {
    format!("$share/{group}/{}", b.topic(rest))
}

fn share_name_that_is_not_allowed_closes(b: &Bench) -> Outcome {
    for (index, filter) in
        ["$share//x", "$share/a+/x", "$share/a#/x", "$share/a", "$share/a/"].iter().enumerate()
    {
        let mut wire = joined(b, &format!("w{index}"))?;
        wire.send(&subscribe(b.version, 1, &[(filter, 0)], Props::new()));
        match wire.packet() {
            // It may refuse the filter, or close.
            Ok(packet) if packet.kind() == crate::number::SUBACK => {
                let code = packet.body.last().copied().unwrap_or(0);
                b.check(code >= 0x80, format!("expected a refusal of {filter}, found {packet}"))?;
            }
            Ok(packet) if packet.kind() != crate::number::DISCONNECT => {
                return wire.fail(format!("expected a refusal of {filter}, found {packet}"));
            }
            _ => drop(wire.closed()?),
        }
    }
    Ok(())
}

fn no_local_on_a_shared_subscription_closes(b: &Bench) -> Outcome {
    let mut wire = joined(b, "a")?;
    wire.send(&subscribe(b.version, 1, &[(&shared(b, "g", "x"), 4)], Props::new()));
    wire.closed().map(drop)
}

/// Reads what came before the marker on a topic of its own.
fn until_end(wire: &mut Wire) -> Result<Vec<Publish>, Fail> {
    let mut found = Vec::new();
    loop {
        let message = wire.message()?;
        wire.acknowledge(&message)?;
        if message.text() == "end" {
            return Ok(found);
        }
        found.push(message);
    }
}

fn shared_message_goes_to_one_of_the_group(b: &Bench) -> Outcome {
    let mut members = Vec::new();
    for label in ["a", "b", "c"] {
        let mut wire = joined(b, label)?;
        wire.subscribe(&shared(b, "g", "x"), 1)?;
        wire.subscribe(&b.topic("end"), 1)?;
        members.push(wire);
    }
    let mut publisher = b.join("pub")?;
    for number in 0..12 {
        publisher.publish(&Publish::new(&b.topic("x"), &format!("{number:02}")).qos(1, 0))?;
    }
    publisher.publish(&Publish::new(&b.topic("end"), "end").qos(1, 0))?;
    let mut found = Vec::new();
    for member in &mut members {
        found.extend(until_end(member)?.iter().map(Publish::text));
    }
    found.sort();
    b.same("messages to all", found, (0..12).map(|it| format!("{it:02}")).collect())
}

fn shared_subscription_has_its_granted_qos(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    for qos in [0, 1, 2] {
        let mut wire = joined(b, &format!("a{qos}"))?;
        wire.subscribe(&shared(b, "g", &format!("x{qos}")), qos)?;
        publisher.publish(&Publish::new(&b.topic(&format!("x{qos}")), "x").qos(2, 0))?;
        b.same("QoS", wire.take("x")?.qos, qos)?;
    }
    Ok(())
}

fn groups_and_others_have_a_copy_each(b: &Bench) -> Outcome {
    let mut wires = Vec::new();
    for (label, filter) in
        [("a", shared(b, "g", "x")), ("b", shared(b, "h", "x")), ("c", b.topic("x"))]
    {
        let mut wire = joined(b, label)?;
        wire.subscribe(&filter, 1)?;
        wires.push(wire);
    }
    b.join("pub")?.publish(&Publish::new(&b.topic("x"), "x").qos(1, 0))?;
    for wire in &mut wires {
        wire.take("x")?;
    }
    Ok(())
}

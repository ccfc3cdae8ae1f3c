//! §4.8: shared subscriptions, of MQTT 5 only.

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{PUBREC, PUBREL, SHARED_AVAILABLE, SUBSCRIPTION_ID};
use crate::packet::{Connect, Props, Publish, ack, ack_with, subscribe};
use crate::wire::Wire;

cases! {
    "4.8.2" {
        share_name_that_is_not_allowed_closes: v5 ["MQTT-4.8.2-1", "MQTT-4.8.2-2"], v311 [];
        no_local_on_a_shared_subscription_closes: v5 ["MQTT-3.8.3-4"], v311 [];
        shared_message_goes_to_one_of_the_group: v5 ["MQTT-4.8.2-3"], v311 [];
        shared_subscription_has_its_granted_qos: v5 ["MQTT-4.8.2-3"], v311 [];
        groups_and_others_have_a_copy_each: v5 ["MQTT-4.5.0-1"], v311 [];
        shared_and_other_subscription_of_one_client_both_count: v5 ["MQTT-4.5.0-1"], v311 [];
        shared_qos_2_is_completed_with_the_same_client: v5 ["MQTT-4.8.2-4"], v311 [];
        shared_qos_2_begun_goes_to_no_other_when_the_session_ends: v5 ["MQTT-4.8.2-5"], v311 [];
        shared_message_that_is_refused_goes_to_no_other: v5 ["MQTT-4.8.2-6"], v311 [];
        retained_message_is_not_sent_to_a_shared_subscription: v5 ["MQTT-3.3.1-9"], v311 [];
        unsubscribed_member_gets_no_more: v5 ["MQTT-3.10.4-1", "MQTT-3.10.4-2"], v311 [];
        member_that_went_away_is_replaced: v5 ["MQTT-4.5.0-1"], v311 [];
        shared_filter_has_wildcards_and_its_identifier: v5 ["MQTT-4.8.2-2", "MQTT-3.3.4-3"],
            v311 [];
    }
}

fn joined(b: &Bench, label: &str) -> Result<Wire, Fail> {
    joined_with(b, label, &b.hello(label))
}

fn joined_with(b: &Bench, label: &str, connect: &Connect) -> Result<Wire, Fail> {
    let (wire, connack) = b.join_with(label, connect)?;
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

fn shared_and_other_subscription_of_one_client_both_count(b: &Bench) -> Outcome {
    let mut wire = joined(b, "a")?;
    wire.subscribe(&shared(b, "g", "x"), 0)?;
    wire.subscribe(&b.topic("#"), 0)?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "x"))?;
    wire.take("x")?;
    wire.take("x")?;
    b.nothing_more(&mut wire, &mut publisher)
}

/// Two members whose sessions outlive their connections; each hears `end` too.
fn members(b: &Bench) -> Result<[Wire; 2], Fail> {
    let member = |label| -> Result<Wire, Fail> {
        let mut wire = joined_with(b, label, &b.hello_kept(label))?;
        wire.subscribe(&shared(b, "g", "x"), 2)?;
        wire.subscribe(&b.topic("end"), 0)?;
        Ok(wire)
    };
    Ok([member("a")?, member("b")?])
}

/// The member that was chosen for a message, the message, and the other member.
fn chosen(b: &Bench, members: [Wire; 2], qos: u8) -> Result<(Wire, Publish, Wire), Fail> {
    let [one, two] = members;
    b.join("pub")?.publish(&Publish::new(&b.topic("x"), "x").qos(qos, 0))?;
    let (mut one, mut other) = Wire::first_to_receive(one, two)?;
    let message = one.message()?;
    b.same("payload", message.text(), "x".to_owned())?;
    b.check(!other.has_received()?, "both members of the group have the message")?;
    Ok((one, message, other))
}

/// The same Client again, after its connection broke.
fn again(b: &Bench, wire: Wire, kept: bool) -> Result<Wire, Fail> {
    let label = wire.label().to_owned();
    wire.drop_connection();
    let connect = if kept { b.hello_kept(&label) } else { b.hello(&label) };
    let (wire, connack) = b.join_with(&label, &connect)?;
    b.same("Session Present", connack.session_present(), kept)?;
    Ok(wire)
}

fn shared_qos_2_is_completed_with_the_same_client(b: &Bench) -> Outcome {
    let (one, message, mut other) = chosen(b, members(b)?, 2)?;
    // Before PUBREC, then before PUBCOMP.
    let mut one = again(b, one, true)?;
    let found = one.message()?;
    b.same("identifier and DUP", (found.id, found.dup), (message.id, true))?;
    one.send(&ack(PUBREC, found.id));
    one.acked(PUBREL, found.id)?;
    let mut one = again(b, one, true)?;
    one.acked(PUBREL, found.id)?;
    one.send(&ack(crate::number::PUBCOMP, found.id));
    one.ping()?;
    b.nothing_more(&mut other, &mut b.join("pub")?)
}

fn shared_qos_2_begun_goes_to_no_other_when_the_session_ends(b: &Bench) -> Outcome {
    let (one, _, mut other) = chosen(b, members(b)?, 2)?;
    let mut one = again(b, one, false)?;
    one.ping()?;
    b.nothing_more(&mut other, &mut b.join("pub")?)
}

fn shared_message_that_is_refused_goes_to_no_other(b: &Bench) -> Outcome {
    for (qos, kind) in [(1, crate::number::PUBACK), (2, PUBREC)] {
        let (mut one, message, mut other) = chosen(b, members(b)?, qos)?;
        one.send(&ack_with(kind, message.id, 0x80));
        one.ping()?;
        b.nothing_more(&mut other, &mut b.join("pub")?)?;
        one.disconnect();
        other.disconnect();
    }
    Ok(())
}

/// §4.8.2 takes them out of what §3.3.1.3 sends to a new subscription, without a number of its own.
fn retained_message_is_not_sent_to_a_shared_subscription(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "kept").qos(1, 0).retain())?;
    let mut wire = joined(b, "a")?;
    wire.subscribe(&shared(b, "g", "#"), 1)?;
    b.nothing_more(&mut wire, &mut publisher)
}

fn unsubscribed_member_gets_no_more(b: &Bench) -> Outcome {
    let [mut one, mut two] = members(b)?;
    // An equal filter without its share is another subscription.
    let codes = one.unsubscribe(&[&b.topic("x"), &shared(b, "h", "x")])?;
    b.same("codes", codes, vec![0x11, 0x11])?;
    b.same("codes", one.unsubscribe(&[&shared(b, "g", "x")])?, vec![0])?;
    let mut publisher = b.join("pub")?;
    for payload in ["1", "2", "3"] {
        publisher.publish(&Publish::new(&b.topic("x"), payload).qos(1, 0))?;
        two.take(payload)?;
    }
    b.nothing_more(&mut one, &mut publisher)
}

fn member_that_went_away_is_replaced(b: &Bench) -> Outcome {
    let mut members = [joined(b, "a")?, joined(b, "b")?];
    for wire in &mut members {
        wire.subscribe(&shared(b, "g", "x"), 1)?;
    }
    let [one, mut two] = members;
    one.disconnect();
    let mut publisher = b.join("pub")?;
    for payload in ["1", "2", "3"] {
        publisher.publish(&Publish::new(&b.topic("x"), payload).qos(1, 0))?;
        two.take(payload)?;
    }
    Ok(())
}

fn shared_filter_has_wildcards_and_its_identifier(b: &Bench) -> Outcome {
    let mut wire = joined(b, "a")?;
    let props = Props::new().var(SUBSCRIPTION_ID, 7);
    let codes = wire.subscribe_all(&[(&shared(b, "g-1", "+/y/#"), 1)], props)?;
    b.same("codes", codes, vec![1])?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("y"), "must not arrive").qos(1, 0))?;
    publisher.publish(&Publish::new(&b.topic("x/y/z"), "x").qos(1, 0))?;
    b.same("identifiers", wire.take("x")?.property(SUBSCRIPTION_ID), Ok(vec![vec![7]]))
}

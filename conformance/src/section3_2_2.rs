//! §3.2.2: refusals, and the limits that a Server announces. A case about a limit that the Server
//! does not have is skipped; it needs a broker that is configured so.

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{
    DISCONNECT, MAXIMUM_QOS, PUBREC, RETAIN_AVAILABLE, SUBACK, WILDCARD_AVAILABLE,
};
use crate::packet::{Props, Publish, ack, subscribe};

cases! {
    "3.2.2.2" {
        client_id_that_is_not_taken_is_refused: v5 ["MQTT-3.1.3-8"],
            v311 ["MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5"];
        wrong_password_is_refused: v5 ["MQTT-3.1.4-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7"],
            v311 ["MQTT-3.2.2-4", "MQTT-3.2.2-5"];
        connect_that_fails_a_further_check_closes: v5 ["MQTT-3.1.4-2"], v311 [];
    }
    "3.2.2.3.4" {
        qos_that_is_not_announced_otherwise_is_supported: v5 ["MQTT-3.2.2-9"], v311 [];
        subscribe_with_every_qos_is_accepted: v5 ["MQTT-3.2.2-10"], v311 ["MQTT-3.8.4-6"];
        publish_above_the_maximum_qos_closes: v5 ["MQTT-3.2.2-11"], v311 [];
        will_above_the_maximum_qos_is_refused: v5 ["MQTT-3.2.2-12"], v311 [];
    }
    "3.2.2.3.5" {
        retained_will_without_retain_is_refused: v5 ["MQTT-3.2.2-13"], v311 [];
        retained_publish_without_retain_closes: v5 ["MQTT-3.2.2-14"], v311 [];
    }
    "3.2.2.3.11" {
        wildcards_work_or_are_refused: v5 ["MQTT-4.13.1-1"], v311 ["MQTT-3.8.3-2"];
    }
    "3.3.5" {
        denied_publish_is_acknowledged_or_closes: v5 ["MQTT-3.4.2-1", "MQTT-3.5.2-1"],
            v311 ["MQTT-3.3.5-2"];
        identifier_is_new_after_a_pubrec_that_refuses: v5 ["MQTT-4.3.3-9"], v311 [];
    }
}

fn not_offered(what: &str) -> Fail {
    Fail::Skipped(what.into())
}

fn client_id_that_is_not_taken_is_refused(b: &Bench) -> Outcome {
    let mut refused = 0;
    for (index, id) in
        [b.id(&"x".repeat(1000)), b.id(&"x".repeat(60_000)), b.id("+/#")].into_iter().enumerate()
    {
        let mut connect = b.hello("");
        connect.client_id = id.into();
        let mut wire = b.open(&format!("w{index}"))?;
        wire.send(&connect.bytes());
        let packet = match wire.packet() {
            Ok(packet) => packet,
            // In MQTT 5 it may keep silent; and the whole may be more than it takes from strangers.
            Err(_) if b.is_v5() || index == 1 => {
                wire.closed()?;
                refused += 1;
                continue;
            }
            Err(fail) => return Err(fail),
        };
        match packet.body.get(1) {
            Some(0) => wire.disconnect(),
            Some(code) => {
                let right = if b.is_v5() { *code >= 0x80 } else { *code == 2 };
                b.check(right, format!("expected a refusal of the identifier, found {packet}"))?;
                b.same("flags", packet.body.first(), Some(&0))?;
                refused += 1;
                wire.closed()?;
            }
            None => return wire.fail(format!("expected a CONNACK, found {packet}")),
        }
    }
    if refused == 0 {
        return Err(not_offered("the Server takes every Client Identifier that was tried"));
    }
    Ok(())
}

fn wrong_password_is_refused(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    let Some((_, password)) = b.login() else {
        return Err(not_offered("no account is given: see --user and --password"));
    };
    connect.password = Some(format!("{password}x").into());
    let mut wire = b.open("a")?;
    wire.send(&connect.bytes());
    match wire.closed_or_refused()? {
        None => Ok(()),
        Some(4 | 5) if !b.is_v5() => Ok(()),
        Some(0x86 | 0x87 | 0x80) => Ok(()),
        Some(code) => wire.fail(format!("expected a refusal of the password, found {code:02x}")),
    }
}

fn connect_that_fails_a_further_check_closes(b: &Bench) -> Outcome {
    let method = |name: &str| Props::new().text(crate::number::AUTH_METHOD, name);
    b.each_connect_closes(&[
        b.hello("a").with(method("no-such")).bytes(),
        b.hello_kept("a").with(method("")).bytes(),
    ])
}

fn maximum_qos(b: &Bench) -> Result<u8, Fail> {
    let (_, connack) = b.join_with("max", &b.hello("max"))?;
    Ok(connack.number(MAXIMUM_QOS).and_then(|it| u8::try_from(it).ok()).unwrap_or(2))
}

fn qos_that_is_not_announced_otherwise_is_supported(b: &Bench) -> Outcome {
    let most = maximum_qos(b)?;
    let mut wire = b.join("a")?;
    for qos in 0..=most {
        let code = wire.publish(&Publish::new(&b.topic("x"), "x").qos(qos, 0))?;
        b.check(code < 0x80, format!("expected QoS {qos} to be taken, found {code:02x}"))?;
    }
    wire.ping()
}

fn subscribe_with_every_qos_is_accepted(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    for qos in [0, 1, 2] {
        let codes = wire.subscribe_all(&[(&b.topic("x"), qos)], Props::new())?;
        let granted = codes.first().is_some_and(|code| *code <= qos);
        b.check(granted, format!("expected at most QoS {qos}, found {codes:02x?}"))?;
    }
    Ok(())
}

fn above_maximum(b: &Bench) -> Result<u8, Fail> {
    match maximum_qos(b)? {
        most @ ..2 => Ok(most + 1),
        _ => Err(not_offered("the Server offers every QoS")),
    }
}

fn publish_above_the_maximum_qos_closes(b: &Bench) -> Outcome {
    let above = above_maximum(b)?;
    b.each_closes(&[Publish::new(&b.topic("x"), "x").qos(above, 1).bytes(b.version)])
}

fn will_above_the_maximum_qos_is_refused(b: &Bench) -> Outcome {
    let above = above_maximum(b)?;
    let mut connect = b.hello("a").will(&b.topic("will"), "gone");
    if let Some(will) = &mut connect.will {
        will.qos = above;
    }
    b.each_connect_closes(&[connect.bytes()])
}

fn without_retain(b: &Bench) -> Outcome {
    let (_, connack) = b.join_with("r", &b.hello("r"))?;
    match connack.number(RETAIN_AVAILABLE) {
        Some(0) => Ok(()),
        _ => Err(not_offered("the Server offers retained messages")),
    }
}

fn retained_will_without_retain_is_refused(b: &Bench) -> Outcome {
    without_retain(b)?;
    let mut connect = b.hello("a").will(&b.topic("will"), "gone");
    if let Some(will) = &mut connect.will {
        will.retain = true;
    }
    b.each_connect_closes(&[connect.bytes()])
}

fn retained_publish_without_retain_closes(b: &Bench) -> Outcome {
    without_retain(b)?;
    b.each_closes(&[Publish::new(&b.topic("x"), "x").retain().bytes(b.version)])
}

fn wildcards_work_or_are_refused(b: &Bench) -> Outcome {
    let (mut wire, connack) = b.join_with("a", &b.hello("a"))?;
    let mut publisher = b.join("pub")?;
    for filter in ["+/y", "x/#"] {
        wire.send(&subscribe(b.version, 1, &[(&b.topic(filter), 0)], Props::new()));
        let packet = wire.packet()?;
        if packet.kind() == DISCONNECT && b.is_v5() {
            return wire.closed().map(drop);
        }
        let code = packet.body.last().copied().unwrap_or(0x80);
        b.same("packet type", packet.kind(), SUBACK)?;
        if code < 0x80 {
            let offered = connack.number(WILDCARD_AVAILABLE) != Some(0);
            b.check(offered, format!("expected no grant of {filter}, found {packet}"))?;
            publisher.publish(&Publish::new(&b.topic("x/y"), "x"))?;
            wire.take("x")?;
            wire.unsubscribe(&[&b.topic(filter)])?;
        }
    }
    Ok(())
}

fn denied_publish_is_acknowledged_or_closes(b: &Bench) -> Outcome {
    for qos in [0, 1, 2] {
        let mut wire = b.join(&format!("a{qos}"))?;
        let publish = Publish::new(b.denied_topic(), "denied").qos(qos, 1);
        wire.send(&publish.bytes(b.version));
        if qos == 0 {
            wire.send(&[0xC0, 0]);
        }
        let Ok(packet) = wire.packet() else {
            wire.closed()?;
            continue;
        };
        match (packet.kind(), qos) {
            (DISCONNECT, _) if b.is_v5() => drop(wire.closed()?),
            (crate::number::PINGRESP, 0) | (crate::number::PUBACK, 1) | (PUBREC, 2) => {}
            _ => return wire.fail(format!("expected an acknowledgement, found {packet}")),
        }
    }
    Ok(())
}

fn identifier_is_new_after_a_pubrec_that_refuses(b: &Bench) -> Outcome {
    let (mut sub, mut wire) = b.pair(2)?;
    wire.send(&Publish::new(b.denied_topic(), "denied").qos(2, 7).bytes(b.version));
    let Ok(packet) = wire.packet() else {
        wire.closed()?;
        return Err(not_offered("the Server closes instead of refusing a PUBLISH by PUBREC"));
    };
    if packet.kind() != PUBREC || packet.body.get(2).is_none_or(|code| *code < 0x80) {
        return Err(not_offered("the Server refuses no PUBLISH by PUBREC: see --denied-topic"));
    }
    for publish in [Publish::new(&b.topic("x"), "1"), Publish::new(&b.topic("x"), "2").dup()] {
        let publish = publish.qos(2, 7);
        wire.send(&publish.bytes(b.version));
        wire.acked(PUBREC, 7)?;
        wire.send(&ack(crate::number::PUBREL, 7));
        wire.acked(crate::number::PUBCOMP, 7)?;
        sub.take(&publish.text())?;
    }
    Ok(())
}

//! §3.2: CONNACK. Its flags, codes and properties are also checked wherever one is read.

use crate::case::{Bench, Outcome, cases};
use crate::number::{AUTH_METHOD, CONNACK, PINGRESP};
use crate::packet::Props;

cases! {
    "3.2" {
        one_connack_is_sent_and_it_is_the_first: v5 ["MQTT-3.2.0-1", "MQTT-3.2.0-2"],
            v311 ["MQTT-3.2.0-1"];
    }
    "3.2.2" {
        accepted_connection_has_clear_flags: v5 ["MQTT-3.2.2-1", "MQTT-3.2.2-2", "MQTT-3.1.4-5"],
            v311 ["MQTT-3.2.2-1", "MQTT-3.1.4-4"];
        refusal_of_a_known_client_has_no_session_present: v5 ["MQTT-3.2.2-6", "MQTT-3.2.2-7"],
            v311 [];
        properties_have_values_that_are_allowed: v5 ["MQTT-3.2.2-8"], v311 [];
        without_a_method_there_is_none_in_connack: v5 ["MQTT-4.12.0-6"], v311 [];
        response_information_is_not_sent_unasked: v5 ["MQTT-3.1.2-28"], v311 [];
        packet_larger_than_the_servers_maximum_closes: v5 ["MQTT-3.2.2-15"], v311 [];
    }
}

fn one_connack_is_sent_and_it_is_the_first(b: &Bench) -> Outcome {
    let mut wire = b.open("a")?;
    wire.send(&[b.hello("a").bytes(), vec![0xC0, 0, 0xC0, 0]].concat());
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(wire.packet()?.kind());
    }
    b.same("packet types", kinds, vec![CONNACK, PINGRESP, PINGRESP])
}

fn accepted_connection_has_clear_flags(b: &Bench) -> Outcome {
    let (_, connack) = b.join_with("a", &b.hello("a"))?;
    b.same("flags", connack.flags, 0)?;
    b.same("code", connack.code, 0)
}

fn refusal_of_a_known_client_has_no_session_present(b: &Bench) -> Outcome {
    b.join_kept("a")?.0.disconnect();
    let mut wire = b.open("a")?;
    wire.send(&b.hello_kept("a").with(Props::new().text(AUTH_METHOD, "no-such")).bytes());
    wire.closed().map(drop)
}

fn properties_have_values_that_are_allowed(b: &Bench) -> Outcome {
    let (_, connack) = b.join_with("a", &b.hello("a"))?;
    let mut seen = std::collections::BTreeSet::new();
    for (id, value) in &connack.props {
        let allowed = match id {
            0x11 | 0x12 | 0x13 | 0x1A | 0x1C | 0x1F | 0x22 => true,
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => matches!(value.as_slice(), [0 | 1]),
            0x21 => value.as_slice() != [0, 0],
            0x27 => value.as_slice() != [0, 0, 0, 0],
            0x26 => continue,
            _ => false,
        };
        b.check(allowed, format!("property {id:#04x} may not have the value {value:?}"))?;
        b.check(seen.insert(id), format!("property {id:#04x} is given twice"))?;
    }
    Ok(())
}

fn without_a_method_there_is_none_in_connack(b: &Bench) -> Outcome {
    let (_, connack) = b.join_with("a", &b.hello("a"))?;
    let found = connack.props.iter().any(|it| matches!(it.0, 0x15 | 0x16));
    b.check(!found, format!("expected no authentication, found {connack:?}"))
}

fn response_information_is_not_sent_unasked(b: &Bench) -> Outcome {
    let (_, absent) = b.join_with("a", &b.hello("a"))?;
    let (_, zero) = b.join_with("b", &b.hello("b").with(Props::new().byte(0x19, 0)))?;
    for connack in [absent, zero] {
        let found = connack.props.iter().any(|it| it.0 == 0x1A);
        b.check(!found, format!("expected no Response Information, found {connack:?}"))?;
    }
    Ok(())
}

fn packet_larger_than_the_servers_maximum_closes(b: &Bench) -> Outcome {
    let (mut wire, connack) = b.join_with("a", &b.hello("a"))?;
    let Some(maximum) = connack.number(0x27) else {
        return Err(crate::case::Fail::Skipped("no Maximum Packet Size is announced".into()));
    };
    // The header alone says how long it would be.
    let length = usize::try_from(maximum).unwrap_or(usize::MAX);
    let mut bytes = vec![0x30];
    bytes.extend(crate::packet::var_int(length));
    wire.send(&bytes);
    wire.send(&vec![0; length.min(64 * 1024)]);
    match wire.closed()? {
        None | Some(0x95) => Ok(()),
        Some(code) => wire.fail(format!("expected DISCONNECT 95, found {code:02x}")),
    }
}

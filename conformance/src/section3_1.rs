//! §3.1, the packet itself: what a CONNECT must be like, and what follows when it is not.

use crate::case::{Bench, Outcome, cases};
use crate::number::{AUTH_METHOD, PINGRESP, PUBACK, SUBACK};
use crate::packet::{Props, Publish, Version, Will, frame, subscribe, text};

cases! {
    "3.1.0" {
        first_packet_other_than_connect_closes: v5 ["MQTT-3.1.0-1"], v311 ["MQTT-3.1.0-1"];
        second_connect_closes: v5 ["MQTT-3.1.0-2"], v311 ["MQTT-3.1.0-2"];
    }
    "3.1.2" {
        other_protocol_name_closes: v5 ["MQTT-3.1.2-1"], v311 ["MQTT-3.1.2-1"];
        unsupported_protocol_level_is_refused: v5 ["MQTT-3.1.2-2"], v311 ["MQTT-3.1.2-2"];
        reserved_connect_flag_closes: v5 ["MQTT-3.1.2-3"], v311 ["MQTT-3.1.2-3"];
        will_qos_without_a_will_closes: v5 ["MQTT-3.1.2-11"],
            v311 ["MQTT-3.1.2-11", "MQTT-3.1.2-13"];
        will_retain_without_a_will_closes: v5 ["MQTT-3.1.2-13"],
            v311 ["MQTT-3.1.2-11", "MQTT-3.1.2-15"];
        will_qos_3_closes: v5 ["MQTT-3.1.2-12"], v311 ["MQTT-3.1.2-14"];
        will_flag_without_a_will_closes: v5 ["MQTT-3.1.2-9"], v311 ["MQTT-3.1.2-9"];
        user_name_flag_without_a_user_name_closes: v5 ["MQTT-3.1.2-17"], v311 ["MQTT-3.1.2-19"];
        password_flag_without_a_password_closes: v5 ["MQTT-3.1.2-19"], v311 ["MQTT-3.1.2-21"];
        password_without_a_user_name_closes: v5 [], v311 ["MQTT-3.1.2-22"];
        receive_maximum_zero_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        maximum_packet_size_zero_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        authentication_data_without_a_method_closes: v5 ["MQTT-4.13.1-1"], v311 [];
        flag_property_of_two_closes: v5 ["MQTT-4.13.1-1"], v311 [];
    }
    "3.1.3" {
        client_ids_of_1_to_23_letters_and_digits_are_accepted: v5 ["MQTT-3.1.3-5"],
            v311 ["MQTT-3.1.3-5"];
        empty_client_id_is_replaced_by_a_unique_one:
            v5 ["MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16"], v311 ["MQTT-3.1.3-6"];
        empty_client_id_for_a_kept_session_is_refused: v5 [],
            v311 ["MQTT-3.1.3-7", "MQTT-3.1.3-8", "MQTT-3.2.2-4", "MQTT-3.2.2-5"];
        ill_formed_will_topic_closes: v5 ["MQTT-3.1.3-11"], v311 ["MQTT-3.1.3-10"];
        ill_formed_user_name_closes: v5 ["MQTT-3.1.3-12"], v311 ["MQTT-3.1.3-11"];
        wildcard_in_a_will_topic_closes: v5 ["MQTT-4.7.0-1"],
            v311 ["MQTT-4.7.1-1", "MQTT-3.2.2-6"];
    }
    "3.1.4" {
        cut_off_connect_closes: v5 ["MQTT-3.1.4-1", "MQTT-3.1.3-3"],
            v311 ["MQTT-3.1.4-1", "MQTT-3.1.3-3"];
        bytes_after_the_payload_close: v5 ["MQTT-3.1.4-1"], v311 ["MQTT-3.1.4-1"];
        packets_sent_with_the_connect_are_answered_after_connack:
            v5 ["MQTT-3.1.4-5", "MQTT-3.2.0-1"], v311 ["MQTT-3.1.4-4", "MQTT-3.2.0-1"];
        connect_in_single_bytes_is_accepted: v5 ["MQTT-4.2-1"], v311 ["MQTT-7.1.1-1"];
        packets_after_a_refused_connect_are_not_processed: v5 ["MQTT-3.1.4-6", "MQTT-3.2.2-7"],
            v311 ["MQTT-3.1.4-5", "MQTT-3.2.2-5"];
        unsupported_authentication_method_is_refused:
            v5 ["MQTT-4.12.0-1", "MQTT-3.2.2-6", "MQTT-3.2.2-7"], v311 [];
    }
}

fn first_packet_other_than_connect_closes(b: &Bench) -> Outcome {
    let publish = Publish::new(&b.topic("x"), "x").bytes(b.version);
    let subscribe = subscribe(b.version, 1, &[(&b.topic("x"), 0)], Props::new());
    for (index, bytes) in [publish, subscribe, vec![0xC0, 0], vec![0xE0, 0]].iter().enumerate() {
        let mut wire = b.open(&format!("w{index}"))?;
        wire.send(bytes);
        // Nothing tells the Server which version this is, so it has no words for us.
        let said = wire.closed()?;
        b.same("words before the end", said, None)?;
    }
    Ok(())
}

fn second_connect_closes(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.send(&b.hello("a").bytes());
    wire.closed().map(drop)
}

fn other_protocol_name_closes(b: &Bench) -> Outcome {
    for (index, name) in [&b"MQTU"[..], b"mqtt", b"MQT", b"MQTTT", b""].iter().enumerate() {
        let mut connect = b.hello("a");
        connect.name = name.to_vec();
        let mut wire = b.open(&format!("w{index}"))?;
        wire.send(&connect.bytes());
        wire.turned_away()?;
    }
    Ok(())
}

fn unsupported_protocol_level_is_refused(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.level = if b.is_v5() { 6 } else { 2 };
    let mut wire = b.open("a")?;
    wire.send(&connect.bytes());
    if b.is_v5() {
        // A Server may keep silent, or answer as that other version would read it.
        return match wire.packet() {
            Ok(packet) => {
                let code = packet.body.get(1).copied();
                b.check(
                    packet.kind() == 2 && code != Some(0),
                    format!("expected CONNACK 84, found {packet}"),
                )?;
                wire.closed().map(drop)
            }
            Err(_) => wire.closed().map(drop),
        };
    }
    b.same("return code", wire.refused()?, 1)
}

fn reserved_connect_flag_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.flags_xor = 1;
    b.each_connect_closes(&[connect.bytes()])
}

fn will_qos_without_a_will_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.flags_xor = 0x08;
    b.each_connect_closes(&[connect.bytes()])
}

fn will_retain_without_a_will_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.flags_xor = 0x20;
    b.each_connect_closes(&[connect.bytes()])
}

fn will_qos_3_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a").will(&b.topic("will"), "gone");
    connect.flags_xor = 0x18;
    b.each_connect_closes(&[connect.bytes()])
}

fn will_flag_without_a_will_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.user = None;
    connect.password = None;
    connect.flags_xor = 0x04;
    b.each_connect_closes(&[connect.bytes()])
}

fn user_name_flag_without_a_user_name_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.user = None;
    connect.password = None;
    connect.flags_xor = 0x80;
    b.each_connect_closes(&[connect.bytes()])
}

fn password_flag_without_a_password_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.user = Some(b"user".to_vec());
    connect.password = None;
    connect.flags_xor = 0x40;
    b.each_connect_closes(&[connect.bytes()])
}

fn password_without_a_user_name_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.user = None;
    connect.password = Some(b"password".to_vec());
    b.each_connect_closes(&[connect.bytes()])
}

fn receive_maximum_zero_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&[b.hello("a").with(Props::new().two(0x21, 0)).bytes()])
}

fn maximum_packet_size_zero_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&[b.hello("a").with(Props::new().four(0x27, 0)).bytes()])
}

fn authentication_data_without_a_method_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&[b.hello("a").with(Props::new().text(0x16, "data")).bytes()])
}

fn flag_property_of_two_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&[
        b.hello("a").with(Props::new().byte(0x17, 2)).bytes(),
        b.hello("a").with(Props::new().byte(0x19, 2)).bytes(),
    ])
}

fn client_ids_of_1_to_23_letters_and_digits_are_accepted(b: &Bench) -> Outcome {
    // Both versions may be asked at once, and one-letter names are scarce.
    let short = if b.is_v5() { "A" } else { "z" };
    let whole = b.id("0123456789abcdefghijklm");
    let long: String = whole.chars().take(23).collect();
    for id in [short, &long, &b.id("XYZQRSTUV")] {
        let mut connect = b.hello("");
        connect.client_id = id.into();
        b.join_with("a", &connect)?.0.disconnect();
    }
    Ok(())
}

fn empty_client_id_is_replaced_by_a_unique_one(b: &Bench) -> Outcome {
    let mut connect = b.hello("");
    connect.client_id = Vec::new();
    let (mut one, first) = b.join_with("one", &connect)?;
    let (mut two, second) = b.join_with("two", &connect)?;
    if b.is_v5() {
        let id = |connack: &crate::wire::Connack| {
            connack.props.iter().find(|it| it.0 == 0x12).map(|it| it.1.clone())
        };
        b.check(id(&first).is_some_and(|it| it.len() > 2), "no Assigned Client Identifier")?;
        b.check(id(&first) != id(&second), "the same Assigned Client Identifier twice")?;
    }
    one.ping()?;
    two.ping()
}

fn empty_client_id_for_a_kept_session_is_refused(b: &Bench) -> Outcome {
    let mut connect = b.hello("");
    connect.client_id = Vec::new();
    connect.clean = false;
    let mut wire = b.open("a")?;
    wire.send(&connect.bytes());
    b.same("return code", wire.refused()?, 2)
}

fn ill_formed_will_topic_closes(b: &Bench) -> Outcome {
    // There is no such string, so the bytes are put together by hand.
    let head = [b.version.level(), 0x06, 0, 60];
    let none = Props::new().block(b.version);
    let payload = [text(b.id("a")), none.clone(), text(b"a\xFFb"), text("gone")].concat();
    b.each_connect_closes(&[frame(0x10, &[&text("MQTT"), &head, &none, &payload])])
}

fn ill_formed_user_name_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.user = Some(b"a\xFFb".to_vec());
    b.each_connect_closes(&[connect.bytes()])
}

fn wildcard_in_a_will_topic_closes(b: &Bench) -> Outcome {
    let will = |topic: &str| {
        let (topic, payload) = (b.topic(topic), b"gone".to_vec());
        let mut connect = b.hello("a");
        connect.will = Some(Will { topic, payload, qos: 0, retain: false, props: Props::new() });
        connect.bytes()
    };
    // Neither version has a code of 3.1.1 for it: silence is all that is left there.
    b.each_connect_closes(&[will("#"), will("+/a")])
}

fn cut_off_connect_closes(b: &Bench) -> Outcome {
    let mut without_id = b.hello("a").bytes();
    without_id.truncate(12);
    let body = without_id.get(2..).unwrap_or_default().to_vec();
    let overlong_id = [text("MQTT"), vec![b.version.level(), 2, 0, 60]].concat();
    let none = Props::new().block(b.version);
    b.each_connect_closes(&[
        frame(0x10, &[&body]),
        frame(0x10, &[&overlong_id, &none, &[0, 9, b'a']]),
        frame(0x10, &[]),
    ])
}

fn bytes_after_the_payload_close(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.trailing = vec![0, 1, b'x'];
    b.each_connect_closes(&[connect.bytes()])
}

fn packets_sent_with_the_connect_are_answered_after_connack(b: &Bench) -> Outcome {
    let mut wire = b.open("a")?;
    let all = [
        b.hello("a").bytes(),
        subscribe(b.version, 1, &[(&b.topic("x"), 0)], Props::new()),
        Publish::new(&b.topic("y"), "y").qos(1, 2).bytes(b.version),
        vec![0xC0, 0],
    ];
    wire.send(&all.concat());
    b.same("code", wire.connack()?.code, 0)?;
    // The three have no order among themselves.
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(wire.packet()?.kind());
    }
    kinds.sort_unstable();
    b.same("packet types", kinds, vec![PUBACK, SUBACK, PINGRESP])
}

fn connect_in_single_bytes_is_accepted(b: &Bench) -> Outcome {
    let mut wire = b.open("a")?;
    wire.send_split(&b.hello("a").bytes(), 1);
    b.same("code", wire.connack()?.code, 0)?;
    let (topic, id) = (b.topic("x"), 7);
    wire.send_split(&subscribe(b.version, id, &[(&topic, 0)], Props::new()), 1);
    b.same("codes", wire.answer(SUBACK, id)?, vec![0])?;
    wire.send_split(&Publish::new(&topic, "payload").bytes(b.version), 1);
    wire.take("payload").map(drop)
}

/// A CONNECT that a Server has to refuse.
fn refusable(b: &Bench) -> Vec<u8> {
    match b.version {
        Version::V5 => b.hello("a").with(Props::new().text(AUTH_METHOD, "no-such")).bytes(),
        Version::V311 => {
            let mut connect = b.hello("");
            connect.client_id = Vec::new();
            connect.clean = false;
            connect.bytes()
        }
    }
}

fn packets_after_a_refused_connect_are_not_processed(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(0)?;
    let mut wire = b.open("a")?;
    let late = Publish::new(&b.topic("x"), "must not arrive").bytes(b.version);
    wire.send(&[refusable(b), late].concat());
    wire.closed_or_refused()?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn unsupported_authentication_method_is_refused(b: &Bench) -> Outcome {
    let mut wire = b.open("a")?;
    wire.send(&refusable(b));
    match wire.closed()? {
        None | Some(0x8C | 0x87) => Ok(()),
        Some(code) => wire.fail(format!("expected CONNACK 8c or 87, found {code:02x}")),
    }
}

//! §1.5: strings and integers, as far as a Server shows how it reads and writes them.

use crate::case::{Bench, Outcome, cases};
use crate::number::{CONTENT_TYPE, USER_PROPERTY};
use crate::packet::{Props, Publish, frame, subscribe, text};

cases! {
    "1.5.4" {
        ill_formed_utf8_client_id_closes: v5 ["MQTT-1.5.4-1", "MQTT-3.1.3-4"],
            v311 ["MQTT-1.5.3-1", "MQTT-3.1.3-4"];
        ill_formed_utf8_topic_name_closes: v5 ["MQTT-1.5.4-1"], v311 ["MQTT-1.5.3-1"];
        ill_formed_utf8_filter_closes: v5 ["MQTT-1.5.4-1", "MQTT-3.8.3-1"],
            v311 ["MQTT-1.5.3-1", "MQTT-3.8.3-1"];
        nul_in_a_client_id_closes: v5 ["MQTT-1.5.4-2"], v311 ["MQTT-1.5.3-2"];
        nul_in_a_topic_name_closes: v5 ["MQTT-1.5.4-2", "MQTT-4.7.3-2"],
            v311 ["MQTT-1.5.3-2", "MQTT-4.7.3-2"];
        nul_in_a_filter_closes: v5 ["MQTT-1.5.4-2", "MQTT-4.7.3-2"],
            v311 ["MQTT-1.5.3-2", "MQTT-4.7.3-2"];
        byte_order_mark_is_kept: v5 ["MQTT-1.5.4-3"], v311 ["MQTT-1.5.3-3"];
    }
    "1.5.5" {
        length_of_five_bytes_closes: v5 ["MQTT-4.13.1-1"], v311 ["MQTT-4.8.0-1"];
        lengths_sent_are_the_shortest: v5 ["MQTT-1.5.5-1"], v311 ["MQTT-3.3.4-1"];
    }
    "1.5.7" {
        ill_formed_user_property_closes: v5 ["MQTT-1.5.7-1"], v311 [];
    }
}

/// Lone continuation, overlong, a surrogate, above U+10FFFF, cut off.
const ILL_FORMED: [&[u8]; 5] =
    [b"a\x80", b"a\xC0\xAF", b"a\xED\xA0\x80", b"a\xF4\x90\x80\x80", b"a\xE2\x82"];

fn ill_formed_utf8_client_id_closes(b: &Bench) -> Outcome {
    let connect = |id: &&[u8]| {
        let mut connect = b.hello("");
        connect.client_id = id.to_vec();
        connect.bytes()
    };
    b.each_connect_closes(&ILL_FORMED.iter().map(connect).collect::<Vec<_>>())
}

fn ill_formed_utf8_topic_name_closes(b: &Bench) -> Outcome {
    let publish = |topic: &&[u8]| {
        let mut publish = Publish::new("", "x");
        publish.topic = topic.to_vec();
        publish.bytes(b.version)
    };
    b.each_closes(&ILL_FORMED.iter().map(publish).collect::<Vec<_>>())
}

fn ill_formed_utf8_filter_closes(b: &Bench) -> Outcome {
    let subscribe = |filter: &&[u8]| {
        frame(0x82, &[&[0, 1], &Props::new().block(b.version), &text(filter), &[0]])
    };
    b.each_closes(&ILL_FORMED.iter().map(subscribe).collect::<Vec<_>>())
}

fn nul_in_a_client_id_closes(b: &Bench) -> Outcome {
    b.each_connect_closes(&[b.hello("a\0b").bytes()])
}

fn nul_in_a_topic_name_closes(b: &Bench) -> Outcome {
    b.each_closes(&[Publish::new(&b.topic("a\0b"), "x").bytes(b.version)])
}

fn nul_in_a_filter_closes(b: &Bench) -> Outcome {
    b.each_closes(&[subscribe(b.version, 1, &[(&b.topic("a\0b"), 0)], Props::new())])
}

fn byte_order_mark_is_kept(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("\u{FEFF}x\u{FEFF}"), 0)?;
    sub.subscribe(&b.topic("end"), 0)?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "without"))?;
    let props = Props::new().text(CONTENT_TYPE, "\u{FEFF}type");
    let topic = b.topic("\u{FEFF}x\u{FEFF}");
    publisher.publish(&Publish::new(&topic, "with").with(props.clone()))?;
    let found = sub.take("with")?;
    b.same("topic", found.topic, topic.into_bytes())?;
    if b.is_v5() {
        b.same("properties", found.props, props)?;
    }
    b.nothing_more(&mut sub, &mut publisher)
}

fn length_of_five_bytes_closes(b: &Bench) -> Outcome {
    b.each_closes(&[
        vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        vec![0x30, 0x80, 0x80, 0x80, 0x80, 0],
    ])
}

/// The wire refuses every length that is too long; this makes the Server write those at the edges.
fn lengths_sent_are_the_shortest(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(0)?;
    let topic = b.topic("x");
    let head = 2 + topic.len() + usize::from(b.is_v5());
    for remaining in [head, 127, 128, 16_383, 16_384] {
        let payload = "x".repeat(remaining - head);
        publisher.publish(&Publish::new(&topic, &payload))?;
        sub.take(&payload)?;
    }
    Ok(())
}

fn ill_formed_user_property_closes(b: &Bench) -> Outcome {
    let publish = |name: &[u8], value: &[u8]| {
        let props = Props::new().raw(USER_PROPERTY, &[text(name), text(value)].concat());
        Publish::new(&b.topic("x"), "x").with(props).bytes(b.version)
    };
    b.each_closes(&[publish(b"a\xFF", b"b"), publish(b"a", b"b\xFF"), publish(b"a\0", b"b")])
}

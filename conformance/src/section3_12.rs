//! §3.12 to §3.15: PINGREQ, DISCONNECT and AUTH.

use crate::case::{Bench, Outcome, cases};
use crate::number::{AUTH_METHOD, SESSION_EXPIRY};
use crate::packet::{Props, Publish, frame};

cases! {
    "3.12" {
        ping_is_answered: v5 ["MQTT-3.12.4-1"], v311 ["MQTT-3.12.4-1"];
        ping_with_a_body_closes: v5 ["MQTT-4.13.1-1"], v311 ["MQTT-4.8.0-1"];
    }
    "3.14" {
        disconnect_with_other_flags_publishes_the_will: v5 ["MQTT-3.14.1-1"],
            v311 ["MQTT-3.14.1-1"];
        disconnect_before_connack_is_not_sent: v5 ["MQTT-3.14.0-1"], v311 ["MQTT-3.1.4-1"];
        disconnect_of_the_server_is_its_last_packet: v5 [
            "MQTT-3.14.2-1",
            "MQTT-3.14.2-2",
            "MQTT-3.14.4-1",
            "MQTT-3.14.4-2",
            "MQTT-4.13.2-1",
        ], v311 [];
        session_expiry_from_zero_is_refused: v5 ["MQTT-4.13.1-1"], v311 [];
    }
    "3.15" {
        auth_with_other_flags_closes: v5 ["MQTT-3.15.1-1"], v311 [];
        auth_without_a_method_in_connect_closes: v5 ["MQTT-4.12.0-7"], v311 [];
        auth_with_an_unknown_code_closes: v5 ["MQTT-3.15.2-1"], v311 [];
    }
}

fn ping_is_answered(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.ping()?;
    wire.ping()
}

fn ping_with_a_body_closes(b: &Bench) -> Outcome {
    b.each_closes(&[vec![0xC0, 1, 0]])
}

/// A broken DISCONNECT is none: the connection ends as if the network had failed.
fn disconnect_with_other_flags_publishes_the_will(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 0)?;
    let connect = b.hello("a").will(&b.topic("will"), "gone");
    let (mut wire, _) = b.join_with("a", &connect)?;
    wire.send(&[0xE1, 0]);
    wire.closed()?;
    sub.take("gone").map(drop)
}

fn disconnect_before_connack_is_not_sent(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.trailing = vec![1, 2, 3];
    let mut wire = b.open("a")?;
    wire.send(&connect.bytes());
    // The wire takes a CONNACK at most, as long as none came.
    wire.closed().map(drop)
}

/// The wire looks at its code and its properties, and takes nothing after it.
fn disconnect_of_the_server_is_its_last_packet(b: &Bench) -> Outcome {
    let (mut taken_over, _) = b.join_kept("a")?;
    let (mut wrong, _) = b.join_kept("a")?;
    taken_over.closed()?;
    wrong.subscribe(&b.topic("#"), 1)?;
    // What follows the wrong packet is not processed.
    let after = Publish::new(&b.topic("x"), "must not arrive").bytes(b.version);
    wrong.send(&[vec![0x00, 0], after, vec![0xC0, 0]].concat());
    wrong.closed().map(drop)
}

/// §3.14.2.2.2: it cannot be raised from 0, and then the DISCONNECT is a protocol error.
fn session_expiry_from_zero_is_refused(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    let props = Props::new().four(SESSION_EXPIRY, 60).block(b.version);
    wire.send(&frame(0xE0, &[&[0], &props]));
    wire.closed()?;
    let (_, present) = b.join_kept("a")?;
    b.check(!present, "expected Session Present 0, found 1")
}

fn auth_with_other_flags_closes(b: &Bench) -> Outcome {
    let props = Props::new().text(AUTH_METHOD, "m").block(b.version);
    b.each_closes(&[0xF1, 0xF8].map(|first| frame(first, &[&[0x18], &props])))
}

fn auth_without_a_method_in_connect_closes(b: &Bench) -> Outcome {
    let props = Props::new().text(AUTH_METHOD, "m").block(b.version);
    b.each_closes(&[
        frame(0xF0, &[&[0x18], &props]),
        frame(0xF0, &[&[0x19], &props]),
        vec![0xF0, 0],
    ])
}

fn auth_with_an_unknown_code_closes(b: &Bench) -> Outcome {
    let props = Props::new().text(AUTH_METHOD, "m").block(b.version);
    b.each_closes(&[frame(0xF0, &[&[0x17], &props])])
}

//! §6: WebSockets. Each case is skipped over another transport, where there are no frames.

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{PUBACK, SUBACK};
use crate::packet::{Props, Publish, subscribe};
use crate::transport::Frame;
use crate::transport::websocket::{BINARY, CONTINUATION, FIN, PING, TEXT};
use crate::wire::Wire;

cases! {
    "6.0" {
        subprotocol_mqtt_is_selected: v5 ["MQTT-6.0.0-4"], v311 ["MQTT-6.0.0-4"];
        server_sends_binary_frames: v5 ["MQTT-6.0.0-1"], v311 ["MQTT-6.0.0-1"];
        text_frame_closes: v5 ["MQTT-6.0.0-1"], v311 ["MQTT-6.0.0-1"];
        frame_of_a_reserved_type_closes: v5 ["MQTT-6.0.0-1"], v311 ["MQTT-6.0.0-1"];
        several_packets_in_one_frame_are_processed: v5 ["MQTT-6.0.0-2"], v311 ["MQTT-6.0.0-2"];
        packet_in_frames_of_one_byte_is_processed: v5 ["MQTT-6.0.0-2"], v311 ["MQTT-6.0.0-2"];
        frame_may_end_within_a_packet: v5 ["MQTT-6.0.0-2"], v311 ["MQTT-6.0.0-2"];
        fragmented_message_is_processed: v5 ["MQTT-6.0.0-2"], v311 ["MQTT-6.0.0-2"];
        empty_frames_are_no_end: v5 ["MQTT-6.0.0-2"], v311 ["MQTT-6.0.0-2"];
        ping_within_a_fragmented_message_is_answered: v5 ["MQTT-6.0.0-2"],
            v311 ["MQTT-6.0.0-2"];
    }
}

fn path<'a>(b: &'a Bench) -> Result<&'a str, Fail> {
    b.websocket_path().ok_or_else(|| Fail::Skipped("this transport has no WebSocket".into()))
}

fn joined(b: &Bench, label: &str) -> Result<Wire, Fail> {
    path(b)?;
    b.join(label)
}

fn subprotocol_mqtt_is_selected(b: &Bench) -> Outcome {
    let path = path(b)?;
    for offered in [&["mqtt"][..], &["mqtt", "chat"], &["chat", "mqtt"]] {
        let opening = b.open_websocket(path, offered)?;
        b.check(opening.accepted, format!("expected 101, found {}", opening.head))?;
        b.same("subprotocols", opening.protocols, vec!["mqtt".to_owned()])?;
    }
    Ok(())
}

/// The wire refuses every other frame; these are short, medium and long.
fn server_sends_binary_frames(b: &Bench) -> Outcome {
    let mut wire = joined(b, "a")?;
    wire.subscribe(&b.topic("#"), 1)?;
    for length in [0, 200, 70_000] {
        let payload = "x".repeat(length);
        wire.publish(&Publish::new(&b.topic("x"), &payload).qos(1, 0))?;
        wire.take(&payload)?;
    }
    Ok(())
}

fn text_frame_closes(b: &Bench) -> Outcome {
    let mut wire = joined(b, "a")?;
    // These bytes are text too, in both versions: what they are sent as is all that is wrong.
    let publish = Publish::new(&b.topic("x"), "x").bytes(b.version);
    wire.send_frames(&[Frame::new(FIN | TEXT, &publish)]);
    wire.closed()?;
    let mut wire = b.open("b")?;
    wire.send_frames(&[Frame::new(FIN | TEXT, b"CONNECT")]);
    wire.closed().map(drop)
}

fn frame_of_a_reserved_type_closes(b: &Bench) -> Outcome {
    let mut wire = joined(b, "a")?;
    wire.send_frames(&[Frame::new(FIN | 3, &[0xC0, 0])]);
    wire.closed().map(drop)
}

/// CONNECT, SUBSCRIBE, PUBLISH: each has an answer.
fn three(b: &Bench) -> [Vec<u8>; 3] {
    [
        b.hello("a").bytes(),
        subscribe(b.version, 1, &[(&b.topic("x"), 0)], Props::new()),
        Publish::new(&b.topic("y"), "y").qos(1, 2).bytes(b.version),
    ]
}

fn answered(b: &Bench, wire: &mut Wire) -> Outcome {
    b.same("code", wire.connack()?.code, 0)?;
    let mut kinds = vec![wire.packet()?.kind(), wire.packet()?.kind()];
    kinds.sort_unstable();
    b.same("packet types", kinds, vec![PUBACK, SUBACK])
}

fn several_packets_in_one_frame_are_processed(b: &Bench) -> Outcome {
    path(b)?;
    let mut wire = b.open("a")?;
    wire.send_frames(&[Frame::binary(&three(b).concat())]);
    answered(b, &mut wire)
}

fn packet_in_frames_of_one_byte_is_processed(b: &Bench) -> Outcome {
    path(b)?;
    let mut wire = b.open("a")?;
    let frames: Vec<_> = three(b).concat().iter().map(|byte| Frame::binary(&[*byte])).collect();
    wire.send_frames(&frames);
    answered(b, &mut wire)
}

fn frame_may_end_within_a_packet(b: &Bench) -> Outcome {
    path(b)?;
    let mut wire = b.open("a")?;
    let [connect, subscribe, publish] = three(b);
    let all = [connect.clone(), subscribe.clone(), publish].concat();
    // One cut in the CONNECT's header, one in the SUBSCRIBE, which begins in the same frame.
    let (one, rest) = all.split_at(1);
    let (two, three) = rest.split_at(connect.len() + subscribe.len() / 2);
    wire.send_frames(&[one, two, three].map(Frame::binary));
    answered(b, &mut wire)
}

fn fragmented_message_is_processed(b: &Bench) -> Outcome {
    path(b)?;
    let mut wire = b.open("a")?;
    let all = three(b).concat();
    let mut frames: Vec<_> = all.chunks(7).map(|piece| Frame::new(CONTINUATION, piece)).collect();
    if let Some(first) = frames.first_mut() {
        first.first = BINARY;
    }
    if let Some(last) = frames.last_mut() {
        last.first |= FIN;
    }
    wire.send_frames(&frames);
    answered(b, &mut wire)
}

fn empty_frames_are_no_end(b: &Bench) -> Outcome {
    path(b)?;
    let mut wire = b.open("a")?;
    let all = three(b).concat();
    let (one, two) = all.split_at(9);
    wire.send_frames(&[b"", one, b"", two, b""].map(Frame::binary));
    answered(b, &mut wire)
}

fn ping_within_a_fragmented_message_is_answered(b: &Bench) -> Outcome {
    let mut wire = joined(b, "a")?;
    wire.send_frames(&[
        Frame::new(BINARY, &[0xC0]),
        Frame::new(FIN | PING, b"between"),
        Frame::new(FIN | CONTINUATION, &[0]),
    ]);
    wire.packet().and_then(|it| b.same("first byte", it.first, 0xD0))?;
    b.same("pongs", wire.take_pongs(), vec![b"between".to_vec()])
}

//! §7: conformance itself, as far as it can be asked of a Server.

use crate::case::{Bench, Outcome, cases};
use crate::packet::Publish;

cases! {
    "7" {
        client_of_the_text_alone_is_served: v5 ["MQTT-4.2-1"],
            v311 ["MQTT-7.0.0-2", "MQTT-7.1.1-1"];
        packets_of_one_segment_are_all_processed: v5 ["MQTT-4.2-1"], v311 ["MQTT-7.1.1-1"];
        packets_cut_anywhere_are_all_processed: v5 ["MQTT-4.2-1"], v311 ["MQTT-7.1.1-1"];
    }
}

/// Nothing but what the text names, and every packet type of a Client.
fn client_of_the_text_alone_is_served(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.subscribe(&b.topic("#"), 2)?;
    for qos in [0, 1, 2] {
        wire.publish(&Publish::new(&b.topic("x"), "x").qos(qos, 0))?;
        wire.take("x")?;
    }
    wire.unsubscribe(&[&b.topic("#")])?;
    wire.ping()?;
    wire.disconnect();
    Ok(())
}

/// As many as a Client may send at once, then one that has an answer.
fn burst(b: &Bench) -> Vec<u8> {
    let publish = |number: u8| Publish::new(&b.topic("x"), &number.to_string()).bytes(b.version);
    [(0..40).flat_map(publish).collect(), vec![0xC0, 0]].concat()
}

fn all_of_the_burst(b: &Bench, size: usize) -> Outcome {
    let (mut sub, mut wire) = b.pair(0)?;
    wire.send_split(&burst(b), size);
    b.same("first byte", wire.packet()?.first, 0xD0)?;
    for number in 0..40 {
        sub.take(&number.to_string())?;
    }
    Ok(())
}

fn packets_of_one_segment_are_all_processed(b: &Bench) -> Outcome {
    all_of_the_burst(b, usize::MAX)
}

fn packets_cut_anywhere_are_all_processed(b: &Bench) -> Outcome {
    for size in [1, 3, 29] {
        all_of_the_burst(b, size)?;
    }
    Ok(())
}

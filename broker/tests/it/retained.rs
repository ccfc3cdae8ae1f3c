//! Very many retained messages: for who reads them, who does not, and everybody else.

use std::net::SocketAddr;

use tidings_broker::Broker;
use tidings_broker::core::metric::Metric;

use crate::shell::builder;
use crate::wire::{Connect, Packet, Wire, packet, put_text};

const COUNT: usize = 20_000;

/// A broker with so many retained messages of so many bytes each.
fn broker_with(shards: u16, bytes: usize) -> Broker {
    let broker = builder().shards(shards).start().unwrap();
    let mut alice = Wire::connect(broker.addresses()[0], &Connect::new("alice"));
    for number in 0..COUNT {
        let payload = vec![b'x'; bytes];
        let publish = alice.publish_bytes(&format!("s/{number}"), &payload, 0, true, 0);
        alice.send(&publish).unwrap();
    }
    alice.publish("s/last", b"", 1, true);
    broker
}

fn join(address: SocketAddr, name: &str) -> Wire {
    Wire::connect(address, &Connect::new(name))
}

fn ask_for_all(wire: &mut Wire) {
    let mut body = vec![0, 7];
    put_text(&mut body, "#");
    body.push(1);
    wire.send(&packet(0x82, &body)).unwrap();
    while !matches!(wire.next(), Packet::Suback(..)) {}
}

#[test]
fn retained_messages_wait_for_who_does_not_read_and_all_come_to_who_does() {
    // More than the system takes for two.
    for shards in [1, 2] {
        let broker = broker_with(shards, 1_000);
        let address = broker.addresses()[0];
        let mut sleepy: Vec<_> = (0..4).map(|it| join(address, &format!("sleepy{it}"))).collect();
        sleepy.iter_mut().for_each(ask_for_all);
        let mut bob = join(address, "bob");
        ask_for_all(&mut bob);
        for _ in 0..COUNT {
            assert!(bob.message().retain);
        }
        // What a connection may hold unwritten, and nothing for what comes behind it.
        let held = broker.metrics().get(Metric::HeldBytes);
        assert!(held < 5 * 512 * 1024, "{held} bytes held");
        for wire in &mut sleepy {
            for _ in 0..COUNT {
                assert!(wire.message().retain);
            }
            wire.ping();
        }
        assert_eq!(broker.metrics().get(Metric::DroppedSlowReader), 0);
    }
}

#[test]
fn others_have_their_turn_between_retained_messages() {
    let broker = broker_with(1, 1);
    let address = broker.addresses()[0];
    let mut alice = join(address, "alice");
    let sent = || broker.metrics().get(Metric::PublishSent);
    // Whoever asks and waits for the answer again and again has passed between two turns each time. A
    // machine that has no time for the thread that asks is given another try.
    let mut answers = 0;
    for _ in 0..20 {
        let mut bob = join(address, "bob");
        // All of it is less than the system takes for a connection.
        let all = sent() + COUNT as u64;
        ask_for_all(&mut bob);
        let mut meanwhile = 0;
        while sent() < all {
            alice.ping();
            meanwhile += 1;
        }
        for _ in 0..COUNT {
            assert!(bob.message().retain);
        }
        answers = answers.max(meanwhile);
        if answers >= 10 {
            break;
        }
    }
    assert!(answers >= 10, "{answers} answers while {COUNT} messages were sent");
}

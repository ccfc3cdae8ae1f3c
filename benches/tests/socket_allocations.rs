//! What a message allocates from socket to socket, with a whole broker in this process: on all of
//! its threads, in steady state.
//!
//! One test alone, so that nobody else allocates meanwhile.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use counting::{allocations_of_others, places_of_others};
use tidings_bench::load::wire::{
    AckKind, Connect, QoS, Version, put_ack, put_connect, put_publish, put_subscribe,
};
use tidings_broker::{Builder, Durability};

mod counting;

/// Messages that go round together, and how often.
const BATCH: u16 = 10;
const ROUNDS: usize = 500;
const TOPIC: &[u8] = b"to/bob";
const PAYLOAD: &[u8] = &[b'x'; 100];

/// Allocations for each thousand messages, at most: a setting, whether Bob's session is persistent,
/// the QoS, and the bound, some hundredths above what was counted. A change that needs more raises
/// one, and its commit says why. Where nothing is kept it is none but for what the broker does by the clock.
const LIMITS: [(Durability, bool, QoS, usize); 5] = [
    (Durability::Memory, false, QoS::AtMostOnce, 20),
    (Durability::Memory, false, QoS::AtLeastOnce, 20),
    (Durability::Memory, true, QoS::AtLeastOnce, 10_900),
    (Durability::Os, true, QoS::AtLeastOnce, 10_900),
    (Durability::Memory, false, QoS::ExactlyOnce, 3_450),
];

/// If it is set, where, and how often for each message: `TIDINGS_BENCH_PLACES=1`, and `--nocapture`.
const PLACES: &str = "TIDINGS_BENCH_PLACES";

struct Client {
    socket: TcpStream,
    out: Vec<u8>,
    incoming: Vec<u8>,
}

impl Client {
    fn join(address: SocketAddr, client_id: &str, clean_start: bool) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let (out, incoming) = (Vec::with_capacity(1 << 16), vec![0; 1 << 16]);
        let mut client = Self { socket, out, incoming };
        let connect = Connect { client_id, clean_start, keep_alive: 600, ..Connect::default() };
        put_connect(&mut client.out, &connect);
        client.send();
        client.receive(4);
        client
    }

    fn send(&mut self) {
        self.socket.write_all(&self.out).unwrap();
        self.out.clear();
    }

    fn receive(&mut self, len: usize) -> &[u8] {
        self.socket.read_exact(&mut self.incoming[..len]).unwrap();
        &self.incoming[..len]
    }

    /// Answers this many acknowledgements in a row with others.
    fn answer(&mut self, kind: AckKind) {
        let len = usize::from(BATCH) * 4;
        self.socket.read_exact(&mut self.incoming[..len]).unwrap();
        for ack in self.incoming[..len].chunks(4) {
            put_ack(&mut self.out, kind, u16::from_be_bytes([ack[2], ack[3]]));
        }
        self.send();
    }
}

/// Alice sends a batch to Bob, and both do what the QoS wants of them.
fn round(alice: &mut Client, bob: &mut Client, qos: QoS) {
    for id in 1..=BATCH {
        let id = if qos == QoS::AtMostOnce { 0 } else { id };
        put_publish(&mut alice.out, Version::V311, (qos, id), TOPIC, PAYLOAD);
    }
    let (batch, publish) = (usize::from(BATCH), alice.out.len() / usize::from(BATCH));
    alice.send();
    if qos == QoS::ExactlyOnce {
        alice.answer(AckKind::Pubrel);
    }
    if qos != QoS::AtMostOnce {
        alice.receive(batch * 4);
    }
    let id_at = 4 + TOPIC.len();
    let received = bob.receive(batch * publish).to_vec();
    let kind = if qos == QoS::ExactlyOnce { AckKind::Pubrec } else { AckKind::Puback };
    for publish in received.chunks(publish) {
        assert_eq!(&publish[publish.len() - PAYLOAD.len()..], PAYLOAD);
        if qos != QoS::AtMostOnce {
            put_ack(&mut bob.out, kind, u16::from_be_bytes([publish[id_at], publish[id_at + 1]]));
        }
    }
    bob.send();
    if qos == QoS::ExactlyOnce {
        bob.answer(AckKind::Pubcomp);
    }
}

/// Allocations of the broker for each thousand messages, rounded up.
fn measured(durability: Durability, persistent: bool, qos: QoS) -> usize {
    let data = tempfile::tempdir().unwrap();
    let builder = Builder::new().durability(durability).data_dir(data.path());
    let broker = builder.listen("127.0.0.1:0".parse().unwrap()).start().unwrap();
    let mut alice = Client::join(broker.addresses()[0], "alice", true);
    let mut bob = Client::join(broker.addresses()[0], "bob", !persistent);
    put_subscribe(&mut bob.out, Version::V311, "to/bob", qos);
    bob.send();
    bob.receive(5);
    let rounds = |alice: &mut Client, bob: &mut Client| {
        for _ in 0..ROUNDS {
            round(alice, bob, qos);
        }
    };
    // Buffers grow, tables are made.
    rounds(&mut alice, &mut bob);
    let count = allocations_of_others(|| rounds(&mut alice, &mut bob));
    if std::env::var_os(PLACES).is_some() {
        let places = places_of_others(|| (0..10).for_each(|_| round(&mut alice, &mut bob, qos)));
        for (count, place) in places {
            println!("{:>8.2} {place}", count as f64 / 10.0 / f64::from(BATCH));
        }
    }
    broker.stop().unwrap();
    (count * 1000).div_ceil(ROUNDS * usize::from(BATCH))
}

#[test]
fn a_message_takes_no_more_allocations_than_it_did() {
    let mut exceeded = Vec::new();
    for (durability, persistent, qos, limit) in LIMITS {
        let count = measured(durability, persistent, qos);
        let session = if persistent { "persistent" } else { "clean" };
        let what = format!("{durability:?}, {session}, {qos:?}: {count} a thousand, limit {limit}");
        println!("{what}");
        if count > limit {
            exceeded.push(what);
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:#?}");
}

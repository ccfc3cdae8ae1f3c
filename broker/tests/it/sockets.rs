//! What sockets do to a broker: pieces, lumps, halves, and readers that do not read.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidings_broker::core::hook::{Authorize, Client, Verdict};
use tidings_broker::core::limits::{Limits, Told};
use tidings_broker::core::topic::TopicFilter;
use tidings_broker::{Broker, ConnectionLimits, Fatal};

use crate::shell::{builder, memory};
use crate::wire::{Connect, PATIENCE, PUBACK, Packet, Wire, packet, put_text};

fn address(broker: &Broker) -> SocketAddr {
    broker.addresses()[0]
}

fn subscribe_bytes(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 7];
    put_text(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

#[test]
fn many_packets_in_one_segment_are_handled_in_order() {
    let broker = memory();
    let mut wire = Wire::open(address(&broker), 4).unwrap();
    let mut bytes = Connect::new("lump").bytes();
    bytes.extend(subscribe_bytes("t", 1));
    for number in 0..50_u16 {
        bytes.extend(wire.publish_bytes("t", number.to_string().as_bytes(), 1, false, number + 1));
    }
    bytes.extend([0xc0, 0]);
    wire.send(&bytes).unwrap();
    assert_eq!(wire.next(), Packet::Connack { present: false, code: 0 });
    // Of one kind each, in order; a message may overtake the SUBACK (§3.8.4).
    let (mut acknowledged, mut delivered, mut others) = (0, 0, 0);
    while acknowledged + delivered + others < 102 {
        match wire.next() {
            Packet::Suback(7, codes) => {
                others += 1;
                assert_eq!(codes, [1]);
            }
            Packet::Ack(PUBACK, id, 0) => {
                acknowledged += 1;
                assert_eq!(id, acknowledged);
            }
            Packet::Publish(publish) => {
                assert_eq!(publish.text(), delivered.to_string());
                wire.queue_ack(PUBACK, publish.id);
                wire.flush().unwrap();
                delivered += 1;
            }
            Packet::Pingresp => others += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn packets_that_come_byte_by_byte_are_the_same_packets() {
    let broker = memory();
    let mut wire = Wire::open(address(&broker), 4).unwrap();
    let drip = |wire: &mut Wire, bytes: Vec<u8>| {
        for byte in bytes {
            wire.send(&[byte]).unwrap();
        }
    };
    drip(&mut wire, [Connect::new("drop by drop").bytes(), subscribe_bytes("t", 0)].concat());
    assert_eq!(wire.next(), Packet::Connack { present: false, code: 0 });
    assert_eq!(wire.next(), Packet::Suback(7, vec![0]));
    let long = wire.publish_bytes("t", &[b'x'; 300], 0, false, 0);
    let last = wire.publish_bytes("t", b"last", 0, false, 0);
    drip(&mut wire, [long, last].concat());
    assert_eq!(wire.message().text(), "x".repeat(300));
    assert_eq!(wire.message().text(), "last");
}

#[test]
fn half_closed_connection_is_lost_after_what_it_sent() {
    let broker = memory();
    let mut bob = Wire::connect(address(&broker), &Connect::new("bob"));
    bob.subscribe("t/#", 1);
    let with_will = Connect::new("alice").will("t/gone", "alice");
    let mut alice = Wire::connect(address(&broker), &with_will);
    let bytes = alice.publish_bytes("t/last", b"words", 1, false, 1);
    alice.send(&bytes).unwrap();
    alice.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(bob.message().topic, "t/last");
    assert_eq!(bob.message().topic, "t/gone");
    // Whether PUBACK still made it or not: the end comes.
    while let Ok(packet) = alice.try_next() {
        assert_eq!(packet, Packet::Ack(PUBACK, 1, 0));
    }
}

fn limits(unsent: Duration) -> ConnectionLimits {
    ConnectionLimits { unsent_timeout: unsent, ..ConnectionLimits::default() }
}

#[test]
fn reader_that_does_not_read_is_closed_when_the_time_is_over_and_others_hear_all() {
    let unsent = Duration::from_millis(500);
    let broker = builder().connection_limits(limits(unsent)).start().unwrap();
    let mut watch = Wire::connect(address(&broker), &Connect::new("watch"));
    watch.subscribe("gone", 0);
    let sleepy = Connect::new("sleepy").will("gone", "sleepy");
    let mut sleepy = Wire::connect(address(&broker), &sleepy);
    sleepy.subscribe("t", 0);
    let mut bob = Wire::connect(address(&broker), &Connect::new("bob"));
    bob.subscribe("t", 1);
    let mut alice = Wire::connect(address(&broker), &Connect::new("alice"));
    let payload = vec![b'x'; 16 * 1024];
    let began = Instant::now();
    // More than the system's buffers take, and each heard by bob before the next.
    for _ in 0..1024 {
        alice.publish("t", &payload, 1, false);
        assert_eq!(bob.message().payload.len(), payload.len());
    }
    assert_eq!(watch.message().text(), "sleepy");
    assert!(began.elapsed() >= unsent);
    drop(sleepy);
}

#[test]
fn reader_that_keeps_up_is_not_closed_by_a_burst_of_many() {
    let limits = limits(Duration::from_secs(30));
    let broker = builder().shards(1).connection_limits(limits).start().unwrap();
    let mut bob = Wire::connect(address(&broker), &Connect::new("bob"));
    bob.subscribe("t", 0);
    let reader = thread::spawn(move || {
        while bob.message().payload != b"end" {}
        bob.ping_past_messages();
    });
    let address = address(&broker);
    let together = Arc::new(Barrier::new(16));
    let burst = |number: usize| {
        let mut wire = Wire::connect(address, &Connect::new(&format!("alice{number}")));
        let one = wire.publish_bytes("t", &[b'x'; 1000], 0, false, 0);
        let together = Arc::clone(&together);
        thread::spawn(move || {
            together.wait();
            wire.send(&one.repeat(1024)).unwrap();
            wire.ping();
        })
    };
    let bursts: Vec<_> = (0..16).map(burst).collect();
    for burst in bursts {
        burst.join().unwrap();
    }
    // QoS 0 may be lost on the way to a reader who is behind, so it is said until it is heard.
    let mut alice = Wire::connect(address, &Connect::new("alice"));
    while !reader.is_finished() {
        alice.publish("t", b"end", 0, false);
        alice.ping();
    }
    reader.join().unwrap();
}

#[test]
fn strangers_beyond_the_bound_of_an_address_are_closed_and_make_room_again() {
    let limits =
        ConnectionLimits { unauthenticated_per_address_max: 3, ..ConnectionLimits::default() };
    let broker = builder().connection_limits(limits).start().unwrap();
    let connect = || TcpStream::connect(address(&broker)).unwrap();
    let inside: Vec<_> = (0..3).map(|_| connect()).collect();
    let mut one_too_many = connect();
    one_too_many.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(one_too_many.read(&mut [0]).unwrap_or(0), 0);
    drop(inside);
    // The broker hears of it before long.
    let begin = Instant::now();
    while Wire::try_connect(address(&broker), &Connect::new("in")).is_err() {
        assert!(begin.elapsed() < PATIENCE, "nobody is let in any more");
    }
}

#[test]
fn stop_is_not_kept_waiting_by_who_reads_byte_by_byte_or_not_at_all() {
    let broker = builder().connection_limits(limits(Duration::from_secs(30))).start().unwrap();
    let mut clients = Vec::new();
    for name in ["slow", "asleep"] {
        let mut wire = Wire::connect(address(&broker), &Connect::new(name).v5());
        wire.subscribe("t", 0);
        clients.push(wire);
    }
    let mut alice = Wire::connect(address(&broker), &Connect::new("alice"));
    for _ in 0..256 {
        alice.publish("t", &vec![b'x'; 64 * 1024], 0, false);
    }
    alice.ping();
    let mut slow = clients[0].stream.try_clone().unwrap();
    let reader = thread::spawn(move || {
        // So little at a time that it takes minutes.
        let mut bytes = [0; 4096];
        while matches!(slow.read(&mut bytes), Ok(read) if read > 0) {
            thread::sleep(Duration::from_millis(100));
        }
    });
    let begin = Instant::now();
    broker.stop().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    clients[0].stream.shutdown(Shutdown::Both).unwrap();
    reader.join().unwrap();
}

#[test]
fn clients_are_referred_to_another_server_while_the_broker_stops() {
    // §4.11
    let told = Told { server_reference: "b.example.org".to_owned(), ..Told::default() };
    let broker = builder().limits(Limits { told, ..Limits::default() }).start().unwrap();
    let address = address(&broker);
    let mut bob = Wire::connect(address, &Connect::new("bob").v5());
    let mut waiting = Wire::open(address, 5).unwrap();
    let stopping = thread::spawn(move || broker.stop().unwrap());
    assert_eq!(bob.next(), Packet::Disconnect(0x9c));
    // Bob stays on the line for as long as the broker bears with him; meanwhile others come.
    for (version, code) in [(5, 0x9c), (4, 3)] {
        let mut wire = Wire::open(address, version).unwrap();
        let connect = Connect::new("late");
        let connect = if version == 5 { connect.v5() } else { connect };
        wire.send(&connect.bytes()).unwrap();
        assert_eq!(wire.next(), Packet::Connack { present: false, code });
    }
    waiting.send(&Connect::new("waited").v5().bytes()).unwrap();
    assert_eq!(waiting.next(), Packet::Connack { present: false, code: 0x9c });
    drop(bob);
    stopping.join().unwrap();
    assert!(TcpStream::connect(address).is_err(), "nobody is accepted any more");
}

#[test]
fn disconnect_is_heard_before_the_next_connection_of_its_client() {
    // [MQTT-3.14.4-3]: a will that was taken back is not published by a takeover.
    let broker = memory();
    let mut witness = Wire::connect(address(&broker), &Connect::new("witness"));
    witness.subscribe("will", 0);
    let connect = Connect::new("hasty").will("will", "gone").bytes();
    let mut last = Wire::open(address(&broker), 4).unwrap();
    last.send(&connect).unwrap();
    for _ in 0..300 {
        assert!(matches!(last.next(), Packet::Connack { code: 0, .. }));
        last.send(&[0xe0, 0]).unwrap();
        let mut next = Wire::open(address(&broker), 4).unwrap();
        next.send(&connect).unwrap();
        last = next;
    }
    witness.ping();
    assert!(!witness.has_next(), "{:?}", witness.next());
}

#[test]
fn who_says_more_behind_disconnect_loses_nothing_that_was_said_to_him_before() {
    let broker = memory();
    let mut bytes = Connect::new("chatterbox").bytes();
    bytes.extend(subscribe_bytes("t", 1));
    bytes.extend([0xe0, 0]);
    // More than is read at once: to close now would reset the connection.
    bytes.resize(bytes.len() + 1024 * 1024, 0xc0);
    let mut stream = TcpStream::connect(address(&broker)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&bytes).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, [0x20, 2, 0, 0, 0x90, 3, 0, 7, 1]);
}

/// Holds its shard up at "gate" until it is let go, and notes who published to "t", in order.
#[derive(Debug)]
struct Gate {
    entered: Sender<()>,
    go_on: Mutex<Receiver<()>>,
    heard: Mutex<Vec<String>>,
}

impl Authorize for Gate {
    fn publish(&self, client: &Client<'_>, topic: &str) -> Verdict {
        if topic == "gate" {
            self.entered.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        } else {
            self.heard.lock().unwrap().push(client.client_id.to_owned());
        }
        Verdict::Allow
    }

    fn subscribe(&self, _: &Client<'_>, _: &TopicFilter) -> Verdict {
        Verdict::Allow
    }
}

#[test]
fn storm_of_small_packets_lets_others_have_their_turn() {
    // In one read there is room for all of them.
    const PACKETS: usize = 10_000;
    let ((entered, entries), (let_go, go_on)) = (channel(), channel());
    let gate = Gate { entered, go_on: Mutex::new(go_on), heard: Mutex::default() };
    let gate = Arc::new(gate);
    let broker = builder().shards(1).authorize(Arc::clone(&gate) as _).start().unwrap();
    let connect = |name| Wire::connect(address(&broker), &Connect::new(name));
    let (mut keeper, mut one, mut other) = (connect("keeper"), connect("one"), connect("other"));
    let bytes = keeper.publish_bytes("gate", b"", 0, false, 0);
    keeper.send(&bytes).unwrap();
    entries.recv_timeout(PATIENCE).unwrap();
    // Both have said everything before either is heard.
    for wire in [&mut one, &mut other] {
        let storm = wire.publish_bytes("t", b"", 0, false, 0).repeat(PACKETS);
        assert!(storm.len() < 64 * 1024);
        wire.send(&storm).unwrap();
    }
    let_go.send(()).unwrap();
    one.ping();
    other.ping();
    let heard = gate.heard.lock().unwrap();
    assert_eq!(heard.len(), 2 * PACKETS);
    let longest = heard.chunk_by(|one, next| one == next).map(<[_]>::len).max().unwrap();
    // Two reads a turn, 1,024 packets each; the last of one round may be the first of the next.
    assert!(longest <= 4 * 1_024, "{longest} of one before the other had its turn");
}

/// Defective.
#[derive(Debug)]
struct PanicsAt(&'static str);

impl Authorize for PanicsAt {
    fn publish(&self, _: &Client<'_>, topic: &str) -> Verdict {
        assert_ne!(topic, self.0, "a defect");
        Verdict::Allow
    }

    fn subscribe(&self, _: &Client<'_>, _: &TopicFilter) -> Verdict {
        Verdict::Allow
    }
}

/// Waits for the broker to say that it cannot go on.
fn failure(broker: &Broker) -> Fatal {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let failed = runtime.block_on(async { tokio::time::timeout(PATIENCE, broker.failed()).await });
    failed.expect("the broker goes on as if nothing had happened")
}

#[test]
fn panic_in_a_shard_ends_the_broker_and_not_only_a_connection() {
    let broker = builder().authorize(Arc::new(PanicsAt("bad"))).start().unwrap();
    let mut alice = Wire::connect(address(&broker), &Connect::new("alice"));
    alice.publish("good", b"", 1, false);
    let bytes = alice.publish_bytes("bad", b"", 1, false, 9);
    alice.send(&bytes).unwrap();
    let Fatal::Panic(thread) = failure(&broker) else { panic!("another failure") };
    assert!(thread.starts_with("shard-"), "{thread}");
    alice.ends();
}

#[test]
fn store_that_is_behind_only_holds_publishers_up() {
    let dir = tempfile::tempdir().unwrap();
    // Every sixteenth message begins a checkpoint, and four checkpoints' worth is too much.
    let broker = builder().data_dir(dir.path()).journal_bytes(1 << 16, 1 << 16).start().unwrap();
    let phone = Connect::new("bob").persistent();
    let mut bob = Wire::connect(address(&broker), &phone);
    bob.subscribe("t/#", 1);
    bob.disconnect();
    let address = address(&broker);
    let publish = |number: usize| {
        thread::spawn(move || {
            let mut wire = Wire::connect(address, &Connect::new(&format!("alice{number}")));
            for _ in 0..10 {
                let ids: Vec<_> =
                    (0..50).map(|_| wire.queue_publish("t/x", &[b'x'; 4000])).collect();
                wire.flush().unwrap();
                for id in ids {
                    assert_eq!(wire.next(), Packet::Ack(PUBACK, id, 0));
                }
            }
        })
    };
    let publishers: Vec<_> = (0..4).map(publish).collect();
    for publisher in publishers {
        publisher.join().unwrap();
    }
    let (mut bob, _) = Wire::resume(address, &phone);
    for _ in 0..4 * 10 * 50 {
        assert_eq!(bob.message().payload.len(), 4000);
    }
    bob.ping();
    broker.stop().unwrap();
}

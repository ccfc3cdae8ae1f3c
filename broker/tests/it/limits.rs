//! Bounds of connections over real sockets, what is counted, and what the broker says of itself.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidings_broker::core::codec::QoS;
use tidings_broker::core::limits::{Limits, Offers};
use tidings_broker::core::metric::{Metric, Snapshot};
use tidings_broker::{Broker, ConnectionLimits};

use crate::shell::{builder, memory};
use crate::wire::{Connect, PATIENCE, PUBACK, Packet, Wire};

/// What is counted beside the way of a message is there soon.
pub(crate) fn eventually(broker: &Broker, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let begin = Instant::now();
    loop {
        let metrics = broker.metrics();
        if holds(&metrics) {
            // Not what was read just now: the numbers of one reading are not all of one moment.
            return broker.metrics();
        }
        assert!(begin.elapsed() < PATIENCE, "{metrics:?}");
        std::thread::yield_now();
    }
}

#[test]
fn metrics_tell_what_went_over_the_wire() {
    let broker = memory();
    let address = broker.addresses()[0];
    let mut bob = Wire::connect(address, &Connect::new("bob"));
    bob.subscribe("t", 1);
    let mut alice = Wire::connect(address, &Connect::new("alice").v5());
    alice.publish("t", b"hello", 1, true);
    assert_eq!(bob.message().payload, b"hello");
    bob.ping();
    let all = broker.metrics();
    let of = |metric| all.get(metric);
    assert_eq!((of(Metric::Connections), of(Metric::ConnectionsMax)), (2, 2));
    assert_eq!((of(Metric::PublishReceived), of(Metric::PublishSent)), (1, 1));
    assert_eq!((of(Metric::PublishBytesReceived), of(Metric::PublishBytesSent)), (5, 5));
    assert_eq!((of(Metric::Subscriptions), of(Metric::RetainedMessages)), (1, 1));
    // CONNECT, SUBSCRIBE, PUBACK and PINGREQ; CONNECT and PUBLISH.
    assert_eq!(of(Metric::PacketsReceived), 6);
    // CONNACK, SUBACK, PUBLISH and PINGRESP; CONNACK and PUBACK.
    assert_eq!(of(Metric::PacketsSent), 6);
    assert!(of(Metric::BytesReceived) > 20 && of(Metric::BytesSent) > 20);
    bob.disconnect();
    drop(alice);
    let all = eventually(&broker, |all| all.get(Metric::Connections) == 0);
    assert_eq!(all.get(Metric::ConnectionsMax), 2);
    assert_eq!((all.get(Metric::ClosedByClient), all.get(Metric::ClosedByNetwork)), (1, 1));
}

#[test]
fn everybody_hears_the_same_of_the_broker_at_once_and_when_it_changes() {
    let broker = builder().system_interval(Duration::from_millis(20)).start().unwrap();
    let address = broker.addresses()[0];
    // Of so many names some are on either shard.
    let mut clients: Vec<_> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .map(|name| Wire::connect(address, &Connect::new(name)))
        .collect();
    for client in &mut clients {
        client.subscribe("$SYS/broker/version", 0);
        let version = client.message();
        assert_eq!(version.text(), concat!("tidings version ", env!("CARGO_PKG_VERSION")));
        assert!(version.retain);
    }
    for client in &mut clients {
        client.subscribe("$SYS/broker/clients/+", 2);
        loop {
            let message = client.message();
            if message.topic.ends_with("/connected") && message.text() == "6" {
                break;
            }
        }
    }
}

#[test]
fn broker_that_is_to_say_nothing_of_itself_does_not() {
    let broker = builder().system_interval(Duration::ZERO).start().unwrap();
    let mut bob = Wire::connect(broker.addresses()[0], &Connect::new("bob"));
    bob.subscribe("$SYS/#", 0);
    bob.ping();
}

#[test]
fn session_is_taken_over_ten_times_and_then_kept() {
    let broker = memory();
    let address = broker.addresses()[0];
    let mut clients = vec![Wire::connect(address, &Connect::new("bob").v5())];
    for _ in 0..10 {
        clients.push(Wire::connect(address, &Connect::new("bob").v5()));
    }
    let (_wire, code, _) = Wire::try_connect(address, &Connect::new("bob").v5()).unwrap();
    assert_eq!(code, 0x9f);
    clients.last_mut().unwrap().ping();
    let all = broker.metrics();
    assert_eq!((all.get(Metric::LimitTakeovers), all.get(Metric::ClosedTakenOver)), (1, 10));
}

#[test]
fn client_too_many_is_refused_until_another_goes() {
    let limits = ConnectionLimits { connections_max: 2, ..ConnectionLimits::default() };
    let broker = builder().connection_limits(limits).start().unwrap();
    let address = broker.addresses()[0];
    let join = |connect: &Connect| {
        Wire::try_connect(address, connect).map(|(wire, code, _)| (wire, code)).unwrap()
    };
    let first = join(&Connect::new("a").v5());
    let second = join(&Connect::new("b"));
    assert_eq!((first.1, second.1), (0, 0));
    assert_eq!(join(&Connect::new("c").v5()).1, 0x97);
    assert_eq!(join(&Connect::new("d")).1, 3);
    // Who takes its own session over is not one more.
    let again = join(&Connect::new("a").v5());
    assert_eq!(again.1, 0);
    assert_eq!(join(&Connect::new("c").v5()).1, 0x97);
    let all = broker.metrics();
    assert_eq!((all.get(Metric::Connections), all.get(Metric::LimitConnections)), (2, 3));
    assert_eq!(all.get(Metric::ConnectsRefusedQuota), 3);
    // Each place is there again, however its Client went, and only once: the first has not even closed
    // its end yet.
    second.0.disconnect();
    eventually(&broker, |all| all.get(Metric::Connections) == 1);
    let third = join(&Connect::new("c"));
    assert_eq!(third.1, 0);
    drop((first, again, third));
    eventually(&broker, |all| all.get(Metric::Connections) == 0);
    let names = ["e", "f", "g"];
    let joined: Vec<_> = names.iter().map(|name| join(&Connect::new(name).v5())).collect();
    let codes: Vec<_> = joined.iter().map(|it| it.1).collect();
    assert_eq!(codes, [0, 0, 0x97]);
}

#[test]
fn will_that_is_not_offered_is_refused_and_counted() {
    let offers = Offers { maximum_qos: QoS::AtMostOnce, ..Offers::default() };
    let limits = Limits { offers, ..Limits::default() };
    let broker = builder().limits(limits).start().unwrap();
    let connect = Connect::new("bob").will("t", "gone").v5();
    let (_, code, _) = Wire::try_connect(broker.addresses()[0], &connect).unwrap();
    assert_eq!(code, 0x9b);
    let all = broker.metrics();
    let counted = (all.get(Metric::LimitMaximumQoS), all.get(Metric::ConnectsRefusedOffer));
    assert_eq!(counted, (1, 1));
}

#[test]
fn no_byte_puts_off_the_deadline_of_the_opening() {
    let connect_timeout = Duration::from_millis(300);
    let limits = ConnectionLimits { connect_timeout, ..ConnectionLimits::default() };
    let broker = builder().connection_limits(limits).start().unwrap();
    let mut stream = TcpStream::connect(broker.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut bytes = Connect::new("slow").password(&"x".repeat(10_000)).bytes().into_iter();
    loop {
        match stream.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let byte = bytes.next().expect("closed before all was said");
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
            }
            closed => {
                assert_eq!(closed.unwrap_or(0), 0);
                break;
            }
        }
    }
    let all = eventually(&broker, |all| all.get(Metric::LimitConnectTimeout) == 1);
    assert_eq!(all.get(Metric::ConnectsRefusedTimeout), 1);
}

#[test]
fn what_does_not_begin_as_connect_is_closed_at_its_first_byte() {
    let broker = memory();
    for first in [b'G', 0x30, 0xc0, 0x00, 0x11, 0x16] {
        let mut stream = TcpStream::connect(broker.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[first]).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "{first:02x}");
    }
    let refused = broker.metrics().get(Metric::ConnectsRefusedProtocol);
    assert_eq!(refused, 6);
}

#[test]
fn connect_larger_than_its_bound_is_refused_by_its_header() {
    let limits = ConnectionLimits { connect_bytes_max: 1_000, ..ConnectionLimits::default() };
    let broker = builder().connection_limits(limits).start().unwrap();
    let mut stream = TcpStream::connect(broker.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Nothing but the length: what it announces never comes.
    stream.write_all(&[0x10, 0xe9, 0x07]).unwrap();
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "it did not say yet in which version: {answer:02x?}");
    assert_eq!(broker.metrics().get(Metric::ConnectsRefusedProtocol), 1);
}

#[test]
fn largest_message_goes_to_who_reads_whatever_the_bounds_of_connections() {
    let limits = Limits { packet_bytes_max: 16 << 20, ..Limits::default() };
    let connections = ConnectionLimits {
        outbound_soft_bytes: 1_000,
        outbound_hard_bytes: 1_000,
        ..ConnectionLimits::default()
    };
    let broker = builder().limits(limits).connection_limits(connections).start().unwrap();
    let address = broker.addresses()[0];
    let mut bob = Wire::connect(address, &Connect::new("bob"));
    bob.subscribe("t", 1);
    let mut alice = Wire::connect(address, &Connect::new("alice"));
    let payload = vec![b'x'; 15 << 20];
    for _ in 0..2 {
        alice.publish("t", &payload, 1, false);
    }
    for _ in 0..2 {
        let message = bob.message();
        assert_eq!(message.payload.len(), payload.len());
    }
}

#[test]
fn reader_who_takes_its_time_does_not_keep_the_broker_from_stopping() {
    let connections = ConnectionLimits {
        outbound_soft_bytes: 64 << 20,
        outbound_hard_bytes: 256 << 20,
        stop_timeout: Duration::ZERO,
        ..ConnectionLimits::default()
    };
    let broker = builder().connection_limits(connections).start().unwrap();
    let address = broker.addresses()[0];
    let mut bob = Wire::connect(address, &Connect::new("bob"));
    bob.subscribe("t", 0);
    let mut alice = Wire::connect(address, &Connect::new("alice"));
    // More than the system takes off the broker's hands.
    let (messages, payload) = (200, vec![b'x'; 200_000]);
    for _ in 0..messages {
        alice.publish("t", &payload, 0, false);
    }
    alice.ping();
    let stopping = std::thread::spawn(move || broker.stop());
    // It takes something all the time, so that it never looks stuck: with some seconds it would take
    // everything.
    let (mut read, mut chunk) = (0, vec![0; 256 * 1024]);
    while let Ok(more @ 1..) = bob.stream.read(&mut chunk) {
        read += more;
        std::thread::sleep(Duration::from_millis(2));
    }
    stopping.join().unwrap().unwrap();
    assert!(read < messages * payload.len(), "it waited for all of {read} bytes");
}

#[test]
fn burst_of_many_publishers_waits_in_memory_until_its_reader_has_had_a_turn() {
    const PUBLISHERS: usize = 64;
    let broker = builder().shards(1).start().unwrap();
    let address = broker.addresses()[0];
    let mut bob = Wire::connect(address, &Connect::new("bob"));
    bob.subscribe("t", 1);
    let publish = |number| {
        let mut wire = Wire::connect(address, &Connect::new(&format!("alice{number}")).v5());
        // All that Receive Maximum lets it.
        let ids: Vec<_> = (0..64).map(|_| wire.queue_publish("t", &[b'x'; 100])).collect();
        wire.flush().unwrap();
        (wire, ids)
    };
    let wires: Vec<_> = (0..PUBLISHERS).map(publish).collect();
    for (mut wire, ids) in wires {
        for id in ids {
            assert_eq!(wire.next(), Packet::Ack(PUBACK, id, 0));
        }
    }
    for _ in 0..PUBLISHERS * 64 {
        bob.message();
    }
}

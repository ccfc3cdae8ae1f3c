//! SIGTERM: everyone is told, nothing that was acknowledged is lost, and a start finds it all.

use std::sync::mpsc;
use std::thread;

use crate::support::Server;
use crate::wire::{Connect, PUBACK, Packet, Wire};

#[test]
fn sigterm_tells_clients_and_keeps_sessions_retained_and_queues() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let phone = Connect::new("phone").v5().persistent();
    let mut bob = Wire::connect(server.address, &phone);
    bob.subscribe("box/#", 1);
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    let mut old = Wire::connect(server.address, &Connect::new("old"));
    alice.publish("news", b"kept", 1, true);
    // Delivered and not acknowledged; it is sent again.
    alice.publish("box/1", b"unacknowledged", 1, false);
    let Packet::Publish(first) = bob.next() else { panic!("no message") };
    assert_eq!((first.text(), first.dup), ("unacknowledged", false));

    server.signal("-TERM");
    for wire in [&mut bob, &mut alice] {
        assert_eq!(wire.next(), Packet::Disconnect(0x8b));
    }
    assert!(old.try_next().is_err(), "MQTT 3.1.1 has nothing to say goodbye with");
    for wire in [bob, alice] {
        wire.ends();
    }
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");

    let server = Server::start(directory.path(), &[]);
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    alice.publish("box/2", b"while he is away", 1, false);
    server.stop();
    let server = Server::start(directory.path(), &[]);
    let (mut bob, present) = Wire::resume(server.address, &phone);
    assert!(present);
    let again = bob.message();
    assert_eq!((again.text(), again.dup, again.id), ("unacknowledged", true, first.id));
    assert_eq!(bob.message().text(), "while he is away");
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    alice.publish("box/3", b"now", 1, false);
    assert_eq!(bob.message().text(), "now");
    bob.subscribe("news", 1);
    let news = bob.message();
    assert_eq!((news.text(), news.retain), ("kept", true));
    bob.ping();
}

#[test]
fn what_was_acknowledged_before_sigterm_is_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let phone = Connect::new("phone").persistent();
    let mut bob = Wire::connect(server.address, &phone);
    bob.subscribe("box/#", 1);
    let address = server.address;
    let (enough, wait) = mpsc::channel();
    // Publishes as fast as it can until the broker goes, and knows what was acknowledged.
    let publisher = thread::spawn(move || {
        let mut alice = Wire::connect(address, &Connect::new("alice"));
        let (mut sent, mut acknowledged) = (0_u32, 0_u32);
        loop {
            while sent < acknowledged + 50 {
                alice.queue_publish("box/x", sent.to_string().as_bytes());
                sent += 1;
            }
            if alice.flush().is_err() {
                return acknowledged;
            }
            match alice.try_next() {
                Ok(Packet::Ack(PUBACK, _, 0)) => acknowledged += 1,
                Ok(other) => panic!("expected PUBACK, found {other:?}"),
                Err(_) => return acknowledged,
            }
            if acknowledged == 500 {
                enough.send(()).unwrap();
            }
        }
    });
    // Bob reads along, so that some messages are with him, some on their way, some in the queue.
    let mut expected = 0_u32;
    while expected < 200 {
        assert_eq!(bob.message().text(), expected.to_string());
        expected += 1;
    }
    bob.ping_past_messages();
    wait.recv().unwrap();
    server.stop();
    drop(bob);
    let acknowledged = publisher.join().unwrap();
    assert!(acknowledged >= 500);

    let server = Server::start(directory.path(), &[]);
    let (mut bob, present) = Wire::resume(server.address, &phone);
    assert!(present);
    while expected < acknowledged {
        assert_eq!(bob.message().text(), expected.to_string());
        expected += 1;
    }
}

//! Answers that have to wait, and long ones: how much a Client may ask meanwhile, and that it is
//! heard again afterwards.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tidings_broker::core::codec::ReasonCode;
use tidings_broker::core::hook::{
    Answer, AnswerToken, Client, Host, Service, ServiceEvent, ServiceFactory,
};
use tidings_broker::core::slot::ShardId;
use tidings_broker::core::time::Time;
use tidings_broker::core::topic::TopicFilter;

use crate::shell::builder;
use crate::wire::{Connect, PUBACK, Packet, Wire};

/// Answers nobody before somebody says `slow/go`.
#[derive(Debug, Default)]
struct Slow(Vec<AnswerToken>);

impl Service for Slow {
    fn roots(&self) -> &'static [&'static str] {
        &["slow"]
    }

    fn subscribe(&self, _: &Client<'_>, _: &TopicFilter) -> Result<(), ReasonCode> {
        Err(ReasonCode::NotAuthorized)
    }

    fn handle(&mut self, event: ServiceEvent<'_>, host: &mut dyn Host) {
        let ServiceEvent::Published { publish, token, .. } = event else { return };
        self.0.extend(token);
        if publish.topic == "slow/go" {
            let reason = ReasonCode::Success;
            for token in self.0.drain(..) {
                host.answer(token, Answer { reason, properties: Default::default() });
            }
        }
    }

    fn next_timeout(&self) -> Option<Time> {
        None
    }
}

/// Makes [`Slow`].
#[derive(Debug)]
struct MakeSlow;

impl ServiceFactory for MakeSlow {
    fn make(&self, _: ShardId, _: u16) -> Box<dyn Service> {
        Box::<Slow>::default()
    }
}

#[test]
fn client_whose_answers_wait_is_not_read_without_bound_and_goes_on_when_they_came() {
    let broker = builder().shards(1).service(Arc::new(MakeSlow)).start().unwrap();
    let address = broker.addresses()[0];
    let mut alice = Wire::connect(address, &Connect::new("alice"));
    let one = alice.publish_bytes("slow/question", &[b'x'; 1000], 1, false, 7);
    // Far more than the bound and what the system's buffers take.
    let all = one.repeat(64 * 1024);
    alice.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut sent = 0;
    loop {
        assert!(sent < all.len(), "everything was read though nothing was answered");
        match alice.stream.write(&all[sent..]) {
            Ok(written) => sent += written,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                break;
            }
        }
    }
    // On the same shard. What is read after one `slow/go` waits for the next.
    let done = Arc::new(AtomicBool::new(false));
    let going = Arc::clone(&done);
    let bob = thread::spawn(move || {
        let mut bob = Wire::connect(address, &Connect::new("bob"));
        while !going.load(Ordering::Acquire) {
            bob.publish("slow/go", b"", 1, false);
        }
    });
    for _ in 0..sent / one.len() {
        assert_eq!(alice.next(), Packet::Ack(PUBACK, 7, 0));
    }
    done.store(true, Ordering::Release);
    bob.join().unwrap();
}

#[test]
fn client_is_heard_again_after_an_answer_that_was_longer_than_may_wait_for_it() {
    let broker = builder().shards(1).start().unwrap();
    let address = broker.addresses()[0];
    let mut alice = Wire::connect(address, &Connect::new("alice"));
    let payload = vec![b'x'; 60_000];
    for number in 0..8 {
        alice.publish(&format!("r/{number}"), &payload, 1, true);
    }
    // The system takes it all at once, as long as nobody has filled its buffers.
    let mut bob = Wire::connect(address, &Connect::new("bob"));
    bob.subscribe("r/#", 0);
    for _ in 0..8 {
        assert_eq!(bob.message().payload.len(), payload.len());
    }
    bob.ping();
}

#[test]
fn client_that_says_disconnect_at_once_gets_its_answers_first() {
    let broker = builder().shards(1).service(Arc::new(MakeSlow)).start().unwrap();
    let address = broker.addresses()[0];
    let mut alice = Wire::connect(address, &Connect::new("alice"));
    let mut bytes = alice.publish_bytes("slow/question", b"", 1, false, 7);
    bytes.extend([0xe0, 0]);
    alice.send(&bytes).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let going = Arc::clone(&done);
    let bob = thread::spawn(move || {
        let mut bob = Wire::connect(address, &Connect::new("bob"));
        while !going.load(Ordering::Acquire) {
            bob.publish("slow/go", b"", 1, false);
        }
    });
    assert_eq!(alice.next(), Packet::Ack(PUBACK, 7, 0));
    alice.ends();
    done.store(true, Ordering::Release);
    bob.join().unwrap();
}

#[test]
fn disconnect_that_waits_for_answers_is_one_for_whoever_takes_the_session_over() {
    let broker = builder().shards(1).service(Arc::new(MakeSlow)).start().unwrap();
    let address = broker.addresses()[0];
    let mut bob = Wire::connect(address, &Connect::new("bob"));
    bob.subscribe("gone/+", 0);
    let options = Connect::new("alice").persistent();
    let mut alice = Wire::connect(address, &options.clone().will("gone/alice", "gone"));
    let mut bytes = alice.publish_bytes("slow/question", b"", 1, false, 7);
    bytes.extend([0xe0, 0]);
    alice.send(&bytes).unwrap();
    let (mut again, present) = Wire::resume(address, &options);
    assert!(present);
    again.publish("gone/nobody", b"", 0, false);
    assert_eq!(bob.message().topic, "gone/nobody");
}

#[test]
fn whatever_was_said_is_heard_before_the_next_connection_takes_the_session_over() {
    let broker = builder().shards(2).start().unwrap();
    let address = broker.addresses()[0];
    let mut bob = Wire::connect(address, &Connect::new("bob"));
    bob.subscribe("gone/+", 1);
    let options = Connect::new("alice").will("gone/alice", "gone");
    let mut alice = Wire::connect(address, &options);
    for round in 0..HASTY_ROUNDS {
        let again = TcpStream::connect(address).unwrap();
        // The DISCONNECT is with the system before the CONNECT is, and the shard may hear of that first.
        alice.send(&[0xe0, 0]).unwrap();
        drop(alice);
        alice = Wire::connect_over(again, &options);
        alice.publish(&format!("gone/round{round}"), b"", 0, false);
        assert_eq!(bob.message().topic, format!("gone/round{round}"));
    }
    alice.disconnect();
}

/// More than it took to see it go wrong.
const HASTY_ROUNDS: usize = 3_000;

//! How fast Clients may be, over real sockets: what they publish, and how they come.
//!
//! Nothing here is asserted of time but that something has not happened too early: a busy machine
//! is only slower.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_broker::auth::{LoginLimits, ScramSha256, UsersFile};
use tidings_broker::core::metric::Metric;
use tidings_broker::listener::Listener;
use tidings_broker::{Broker, Builder, ConnectionLimits, Rates};
use tokio::net::TcpSocket;

use crate::limits::eventually;
use crate::shell::builder;
use crate::wire::{Connect, Gone, PATIENCE, Packet, Wire};

fn limits() -> ConnectionLimits {
    ConnectionLimits { rates: Rates::On, ..ConnectionLimits::default() }
}

fn start(limits: ConnectionLimits) -> Broker {
    builder().connection_limits(limits).start().unwrap()
}

fn address(broker: &Broker) -> SocketAddr {
    broker.addresses()[0]
}

/// Another address of this machine.
fn near(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 7, number))
}

/// Connects from an address of choice.
fn from(local: IpAddr, to: SocketAddr) -> TcpStream {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let stream = builder.enable_all().build().unwrap().block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(local, 0)).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Publishes without waiting for anything.
fn flood(wire: &mut Wire, count: u16, qos: u8) {
    let publish = |id: u16| wire.publish_bytes("t", &id.to_be_bytes(), qos, false, id);
    let bytes: Vec<u8> = (1..=count).flat_map(publish).collect();
    wire.send(&bytes).unwrap();
}

/// Whether the broker closes it without a word.
fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

#[test]
fn client_that_publishes_too_fast_is_read_more_slowly_and_loses_nothing() {
    for qos in [0, 1] {
        let broker = start(ConnectionLimits { publish_rate: 100, publish_burst: 10, ..limits() });
        let mut bob = Wire::connect(address(&broker), &Connect::new("bob"));
        bob.subscribe("t", 0);
        let mut alice = Wire::connect(address(&broker), &Connect::new("alice"));
        let begin = Instant::now();
        flood(&mut alice, 60, qos);
        for number in 1..=60_u16 {
            assert_eq!(bob.message().payload, number.to_be_bytes());
        }
        // 10 at once and 50 by 100 a second.
        assert!(begin.elapsed() >= Duration::from_millis(480), "{:?}", begin.elapsed());
        let all = broker.metrics();
        assert_eq!((all.get(Metric::LimitPublishRate), all.get(Metric::LimitPublishOver)), (1, 0));
    }
}

#[test]
fn client_within_its_rate_and_others_are_not_held_up() {
    let broker = start(ConnectionLimits { publish_rate: 1, publish_burst: 5, ..limits() });
    let mut alice = Wire::connect(address(&broker), &Connect::new("alice"));
    flood(&mut alice, 20, 0);
    eventually(&broker, |all| all.get(Metric::LimitPublishRate) == 1);
    let mut bob = Wire::connect(address(&broker), &Connect::new("bob"));
    bob.subscribe("u", 0);
    for number in 0..4 {
        bob.publish("u", b"mine", 1, false);
        assert_eq!(bob.message().text(), "mine", "{number}");
    }
    assert_eq!(broker.metrics().get(Metric::LimitPublishRate), 1);
}

#[test]
fn who_waits_for_each_answer_is_slowed_down_and_never_closed() {
    let publish_over_max = Duration::from_millis(100);
    let broker = start(ConnectionLimits {
        publish_rate: 40,
        publish_burst: 2,
        publish_over_max,
        ..limits()
    });
    let mut alice = Wire::connect(address(&broker), &Connect::new("alice"));
    for _ in 0..20 {
        alice.publish("t", b"x", 1, false);
    }
    alice.ping();
}

#[test]
fn client_that_is_too_fast_for_too_long_is_disconnected() {
    let publish_over_max = Duration::from_millis(200);
    let limits =
        ConnectionLimits { publish_rate: 20, publish_burst: 5, publish_over_max, ..limits() };
    let broker = start(limits);
    for v5 in [true, false] {
        let connect = Connect::new("alice");
        let connect = if v5 { connect.v5() } else { connect };
        let mut alice = Wire::connect(address(&broker), &connect);
        flood(&mut alice, 500, 1);
        let end = loop {
            let next = alice.try_next();
            if !matches!(next, Ok(Packet::Ack(..))) {
                break next;
            }
        };
        if v5 {
            assert!(matches!(end, Ok(Packet::Disconnect(0x96))), "{end:?}");
        } else {
            assert!(matches!(end, Err(Gone)), "{end:?}");
        }
    }
    let all = broker.metrics();
    assert_eq!((all.get(Metric::LimitPublishOver), all.get(Metric::ClosedRefused)), (2, 2));
    assert!(all.get(Metric::PublishReceived) < 100, "{all:?}");
}

#[test]
fn address_that_connects_too_often_is_closed_before_a_word() {
    let connect_burst_per_address = 5;
    let broker = start(ConnectionLimits {
        connect_rate_per_address: 1,
        connect_burst_per_address,
        ..limits()
    });
    let mut streams: Vec<_> = (0..40).map(|_| from(near(1), address(&broker))).collect();
    eventually(&broker, |all| all.get(Metric::LimitConnectRate) >= 30);
    let closed = streams.iter_mut().skip(20).filter_map(|it| is_closed(it).then_some(())).count();
    assert!(closed >= 15, "{closed}");
    // Others come and go as before, and who is in stays.
    let mut bob = Wire::over(from(near(2), address(&broker)), 4);
    bob.send(&Connect::new("bob").bytes()).unwrap();
    assert_eq!(bob.next(), Packet::Connack { present: false, code: 0 });
    streams[0].write_all(&Connect::new("first").bytes()).unwrap();
    let mut connack = [0; 4];
    streams[0].read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    bob.ping();
}

#[test]
fn address_has_so_many_connections_and_one_more_when_one_has_gone() {
    let broker = start(ConnectionLimits { connections_per_address_max: 3, ..limits() });
    let join = |name: &str, number| {
        let mut wire = Wire::over(from(near(number), address(&broker)), 4);
        let _closed = wire.send(&Connect::new(name).bytes());
        wire.try_next().ok().map(|_| wire)
    };
    let mut first = join("a", 1).unwrap();
    let _others = (join("b", 1).unwrap(), join("c", 1).unwrap());
    assert!(join("d", 1).is_none());
    let _elsewhere = join("d", 2).unwrap();
    first.ping();
    first.disconnect();
    eventually(&broker, |all| all.get(Metric::Connections) == 3);
    // It lingers for a moment after its last word.
    let begin = Instant::now();
    while join("e", 1).is_none() {
        assert!(begin.elapsed() < PATIENCE, "its place is not given back");
    }
    assert!(broker.metrics().get(Metric::LimitConnectionsPerAddress) >= 1);
}

#[test]
fn stranger_from_a_fresh_address_gets_in_while_a_few_addresses_take_all_places() {
    let limits = ConnectionLimits {
        unauthenticated_max: 32,
        unauthenticated_per_address_max: 8,
        ..limits()
    };
    let users = UsersFile::open("none", LoginLimits::default()).unwrap();
    let scram = Arc::new(ScramSha256::new(users));
    let builder = builder().connection_limits(limits).enhanced_authenticate(scram);
    let broker = builder.start().unwrap();
    // They begin to authenticate and say nothing more.
    let begin = Connect::new("attack").method("SCRAM-SHA-256", b"n,,n=bob,r=nonce").bytes();
    let attacker = |number: u8| {
        let mut stream = from(near(100 + number % 4), address(&broker));
        let _closed = stream.write_all(&begin);
        stream
    };
    let mut attack: Vec<_> = (0..32).map(attacker).collect();
    for number in 0..10 {
        // The attackers go on.
        attack.push(attacker(number));
        let mut fresh = Wire::over(from(near(number), address(&broker)), 4);
        fresh.send(&Connect::new(&format!("fresh{number}")).bytes()).unwrap();
        assert_eq!(fresh.next(), Packet::Connack { present: false, code: 0 }, "{number}");
    }
    assert!(broker.metrics().get(Metric::LimitUnauthenticated) > 0);
    let timeouts = broker.metrics().get(Metric::LimitConnectTimeout);
    assert_eq!(timeouts, 0, "nobody had to wait for the others' time to be over");
}

#[test]
fn after_a_start_all_who_come_back_at_once_get_in_and_nobody_is_refused() {
    const CLIENTS: usize = 2_000;
    let broker = start(ConnectionLimits { start_connect_rate: 1_000, ..limits() });
    let begin = Instant::now();
    let mut streams: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut stream = from(near((number % 250) as u8), address(&broker));
            stream.write_all(&Connect::new(&format!("c{number}")).bytes()).unwrap();
            stream
        })
        .collect();
    for stream in &mut streams {
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
    }
    // A tenth of a second's worth at once, the others evenly.
    assert!(begin.elapsed() >= Duration::from_millis(1_800), "{:?}", begin.elapsed());
    let all = broker.metrics();
    assert_eq!(all.get(Metric::ConnectsAccepted), CLIENTS as u64);
    assert_eq!(all.family("tidings_connects_refused_total"), 0);
    assert!(all.get(Metric::LimitStartConnectRate) > 0);
}

#[test]
fn rates_are_off_where_only_this_machine_comes_in_unless_it_is_said() {
    let loopback = || Listener::tcp("127.0.0.1:0".parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let unix = || Listener::unix(dir.path().join("socket"));
    let proxies = || ["127.0.0.1".parse().unwrap()];
    let anywhere = || Listener::tcp("0.0.0.0:0".parse().unwrap());
    let apply = |listeners: Vec<Listener>, rates| {
        let limits = ConnectionLimits { rates, ..ConnectionLimits::default() };
        let builder = Builder::new().connection_limits(limits).shards(1);
        let builder = listeners.into_iter().fold(builder, Builder::listener);
        builder.start().unwrap().rates_apply()
    };
    let auto = Rates::OffOnLoopback;
    assert!(!apply(vec![loopback(), unix()], auto));
    assert!(apply(vec![loopback(), anywhere()], auto));
    assert!(apply(vec![loopback().behind_proxy(proxies())], auto));
    assert!(apply(vec![], auto));
    assert!(apply(vec![loopback()], Rates::On) && !apply(vec![anywhere()], Rates::Off));
    // What is off costs a flood nothing.
    let broker = builder().start().unwrap();
    let mut alice = Wire::connect(address(&broker), &Connect::new("alice"));
    flood(&mut alice, 5_000, 0);
    alice.ping();
    assert_eq!(broker.metrics().get(Metric::LimitPublishRate), 0);
}

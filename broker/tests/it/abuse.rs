//! WebSocket and TLS in the hands of who means harm: each ends as it should, and others go on.
//!
//! What a single wrong frame or handshake ends with is in `websocket.rs` and `tls.rs`; here are the
//! floods, the endless and the silent.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tidings_broker::core::limits::Limits;
use tidings_broker::core::metric::Metric;
use tidings_broker::listener::{ClientCertificates, Listener, Tls, TlsOptions};
use tidings_broker::{Broker, Builder, ConnectionLimits};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::keys::{Authority, Files, TlsClient};
use crate::limits::eventually;
use crate::websocket::{CONNACK, PINGRESP, REQUEST, connect, frame, next_frame, tcp, upgraded};
use crate::wire::{Connect, Gone, Packet, Wire};

fn websocket() -> Builder {
    let address = "127.0.0.1:0".parse().unwrap();
    Builder::new().listener(Listener::tcp(address).with_websocket()).shards(2)
}

/// Says CONNECT in one frame.
fn introduced(broker: &Broker, name: &str) -> TcpStream {
    let mut stream = upgraded(broker);
    stream.write_all(&frame(0x82, &Connect::new(name).bytes())).unwrap();
    assert_eq!(next_frame(&mut stream), (0x82, CONNACK.to_vec()));
    stream
}

/// Sends a part over and over until the broker has closed; `false`: it took `most` bytes and more.
fn closes(stream: &mut TcpStream, part: &[u8], most: usize) -> bool {
    let mut sent = 0;
    while sent < most {
        if stream.write_all(part).is_err() {
            return true;
        }
        sent += part.len();
    }
    // All of it may be with the system.
    let mut rest = [0; 1024];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            }
        }
    }
}

#[test]
fn endless_headers_are_refused_at_their_bound_and_dripping_ones_when_the_time_is_over() {
    let connect_timeout = Duration::from_millis(400);
    let limits = ConnectionLimits { connect_timeout, ..ConnectionLimits::default() };
    let broker = websocket().connection_limits(limits).start().unwrap();
    let mut bob = connect(&broker, "bob");
    for part in [&b"X: y\r\n"[..], b"X", b"\r\n ", b"\0"] {
        let mut stream = tcp(&broker);
        stream.write_all(b"GET /mqtt HTTP/1.1\r\n").unwrap();
        assert!(closes(&mut stream, &part.repeat(1_000), 4 << 20), "{part:?}");
    }
    let mut drips = tcp(&broker);
    drips.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut bytes = REQUEST.bytes().chain(std::iter::repeat(b'x'));
    let end = loop {
        match drips.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let byte = bytes.next().unwrap();
                if drips.write_all(&[byte]).is_err() {
                    break 0;
                }
            }
            closed => break closed.unwrap_or(0),
        }
    };
    assert_eq!(end, 0);
    eventually(&broker, |all| all.get(Metric::LimitConnectTimeout) >= 1);
    bob.ping();
}

#[test]
fn frames_of_a_byte_and_of_none_are_a_stream_like_any_other() {
    // [MQTT-6.0.0-2]
    let broker = websocket().start().unwrap();
    let mut bob = connect(&broker, "bob");
    bob.subscribe("t", 0);
    let mut stream = upgraded(&broker);
    let publish = Wire::over(std::io::empty(), 4).publish_bytes("t", b"in bytes", 0, false, 0);
    let bytes = [Connect::new("x").bytes(), publish, vec![0xc0, 0]].concat();
    let mut frames = frame(0x02, b"");
    for byte in &bytes {
        frames.extend(frame(0x00, std::slice::from_ref(byte)));
        frames.extend(frame(0x00, b""));
    }
    frames.extend(frame(0x80, b""));
    stream.write_all(&frames).unwrap();
    let mut data = Vec::new();
    while data.len() < CONNACK.len() + PINGRESP.len() {
        let (first, payload) = next_frame(&mut stream);
        assert_eq!(first, 0x82);
        data.extend(payload);
    }
    assert_eq!(data, [&CONNACK[..], &PINGRESP].concat());
    assert_eq!(bob.message().text(), "in bytes");
    // A hundred thousand that say nothing, in one message that never ends.
    let nothing = frame(0x00, b"").repeat(1_000);
    stream.write_all(&frame(0x02, b"")).unwrap();
    for _ in 0..100 {
        stream.write_all(&nothing).unwrap();
        bob.ping();
    }
    stream.write_all(&frame(0x80, &[0xc0, 0])).unwrap();
    assert_eq!(next_frame(&mut stream), (0x82, PINGRESP.to_vec()));
}

#[test]
fn message_in_pieces_is_bounded_as_a_whole() {
    let limits = Limits { packet_bytes_max: 1_000, ..Limits::default() };
    let broker = websocket().limits(limits).start().unwrap();
    let mut bob = connect(&broker, "bob");
    let mut stream = introduced(&broker, "x");
    // Packets that are fine each, in one message without end.
    let pings = [0xc0, 0].repeat(100);
    stream.write_all(&frame(0x02, &pings)).unwrap();
    let mut sent = pings.len();
    while sent < 1 << 20 && stream.write_all(&frame(0x00, &pings)).is_ok() {
        sent += pings.len();
    }
    let mut code = None;
    let mut header = [0; 2];
    while stream.read_exact(&mut header).is_ok() {
        let mut length = usize::from(header[1]);
        if length == 126 {
            let mut long = [0; 2];
            stream.read_exact(&mut long).unwrap();
            length = u16::from_be_bytes(long).into();
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        if header[0] == 0x88 {
            code = Some(payload);
            break;
        }
    }
    // The reason may be lost with the rest of what was sent; the end may not.
    assert!(code.is_none_or(|code| code == 1009_u16.to_be_bytes()));
    eventually(&broker, |all| all.get(Metric::Connections) == 1);
    bob.ping();
}

#[test]
fn who_does_not_answer_a_close_is_closed_all_the_same() {
    let broker = websocket().start().unwrap();
    let mut bob = connect(&broker, "bob");
    for goodbye in [frame(0x82, &[0xe0, 0]), frame(0x88, &[3, 0xe8]), frame(0x81, b"text")] {
        let mut stream = introduced(&broker, "x");
        stream.write_all(&goodbye).unwrap();
        assert_eq!(next_frame(&mut stream).0, 0x88, "{goodbye:02x?}");
        eventually(&broker, |all| all.get(Metric::Connections) == 1);
        // It goes on as if nothing had been said.
        let publish = Wire::over(std::io::empty(), 4).publish_bytes("t", b"late", 0, true, 0);
        assert!(closes(&mut stream, &frame(0x82, &publish).repeat(500), 64 << 20));
    }
    assert_eq!(broker.metrics().get(Metric::PublishReceived), 0);
    bob.ping();
}

#[test]
fn pings_are_answered_as_fast_as_they_are_read_and_no_faster() {
    let broker = websocket().start().unwrap();
    let mut bob = connect(&broker, "bob");
    let mut stream = introduced(&broker, "x");
    let pings = frame(0x89, b"ping").repeat(1_000);
    for _ in 0..20 {
        stream.write_all(&pings).unwrap();
        bob.ping();
    }
    stream.write_all(&frame(0x82, &[0xc0, 0])).unwrap();
    let mut pongs = 0;
    loop {
        match next_frame(&mut stream) {
            (0x8a, payload) => assert_eq!(payload, b"ping"),
            (0x82, payload) => {
                assert_eq!(payload, PINGRESP);
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
        pongs += 1;
    }
    assert!((1..=20_000).contains(&pongs), "{pongs}");
}

#[test]
fn wrong_lengths_and_reserved_opcodes_end_their_connection() {
    let broker = websocket().start().unwrap();
    let mut bob = connect(&broker, "bob");
    let mut largest = vec![0x82, 0xff];
    largest.extend([0xff; 8]);
    largest.extend([0; 4]);
    for bytes in [
        largest,
        // A control frame of 126 bytes, one in pieces, and opcodes of nobody.
        frame(0x89, &[0; 126]),
        frame(0x0a, b""),
        frame(0x84, b""),
        frame(0x8b, b""),
        frame(0xb2, &[0xc0, 0]),
        // A length in more bytes than it needs.
        vec![0x82, 0xfe, 0, 2, 0, 0, 0, 0, 0xc0, 0],
        frame(0x88, b"x"),
    ] {
        let mut stream = introduced(&broker, "x");
        stream.write_all(&bytes).unwrap();
        let (first, payload) = next_frame(&mut stream);
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        assert!(first == 0x88 && matches!(code, 1002 | 1009), "{bytes:02x?}: {code}");
    }
    eventually(&broker, |all| all.get(Metric::Connections) == 1);
    bob.ping();
}

struct Secure {
    broker: Broker,
    authority: Authority,
    _files: tempfile::TempDir,
}

fn secure(limits: ConnectionLimits) -> Secure {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let Files { certificate, key, .. } = Files::new(dir.path(), &authority);
    let client_certificates = ClientCertificates::Off;
    let tls = Tls::open(TlsOptions { certificate, key, client_certificates }).unwrap();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).with_tls(&tls);
    let broker = Builder::new().listener(listener).connection_limits(limits).shards(2);
    Secure { broker: broker.start().unwrap(), authority, _files: dir }
}

impl Secure {
    fn connect(&self, name: &str) -> Wire<TlsClient> {
        let address = self.broker.addresses()[0];
        let versions = &[&TLS13, &TLS12];
        let stream = crate::keys::tls(address, &self.authority, None, versions, &[]);
        Wire::connect_over(stream, &Connect::new(name))
    }
}

#[test]
fn handshakes_without_end_are_closed_long_before_they_are_large() {
    let secure = secure(ConnectionLimits::default());
    let mut bob = secure.connect("bob");
    let record = |kind: u8, body: &[u8]| {
        let mut record = vec![kind, 3, 1];
        record.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        record.extend(body);
        record
    };
    // A ClientHello that says it has 16 MiB.
    let mut large = vec![1, 0xff, 0xff, 0xff];
    large.resize(16_384, 0);
    for part in [
        record(0x16, &large),
        record(0x16, &[0; 16_384]),
        record(0x17, &[0; 100]),
        record(0x15, &[1, 0]),
        record(0x14, &[1]),
        record(0x16, &[]),
        vec![0x16, 3, 1, 0xff, 0xff],
        vec![0xff; 1_000],
    ] {
        let mut stream = TcpStream::connect(secure.broker.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(crate::wire::PATIENCE)).unwrap();
        assert!(closes(&mut stream, &part, 32 << 20), "{:02x?}", &part[..5]);
    }
    let refused = secure.broker.metrics().get(Metric::ConnectsRefusedProtocol);
    assert!(refused >= 6, "{refused}");
    bob.ping();
}

#[test]
fn garbage_behind_a_handshake_ends_its_connection_only() {
    let secure = secure(ConnectionLimits::default());
    let mut bob = secure.connect("bob");
    for garbage in
        [&[0xff; 100][..], b"\x17\x03\x03\x00\x20garbage that nobody has encrypted", b"GET / "]
    {
        let mut wire = secure.connect("x");
        wire.ping();
        wire.stream.sock.write_all(&garbage.repeat(10)).unwrap();
        assert!(matches!(wire.try_next(), Err(Gone)));
        eventually(&secure.broker, |all| all.get(Metric::Connections) == 1);
    }
    bob.ping();
}

#[test]
fn keys_may_be_changed_but_not_all_the_time() {
    let secure = secure(ConnectionLimits::default());
    let mut bob = secure.connect("bob");
    let mut wire = secure.connect("x");
    for _ in 0..200 {
        wire.stream.conn.refresh_traffic_keys().unwrap();
        wire.ping();
    }
    // And nothing else: each is an answer that somebody has to keep.
    for _ in 0..2_000 {
        wire.stream.conn.refresh_traffic_keys().unwrap();
        let _closed = wire.stream.conn.write_tls(&mut wire.stream.sock);
    }
    assert!(matches!(wire.try_next(), Err(Gone)));
    eventually(&secure.broker, |all| all.get(Metric::Connections) == 1);
    bob.ping();
}

#[test]
fn client_of_tls_that_stops_reading_is_closed_when_its_time_is_over() {
    let unsent_timeout = Duration::from_millis(300);
    let secure = secure(ConnectionLimits { unsent_timeout, ..ConnectionLimits::default() });
    let mut stuck = secure.connect("stuck");
    stuck.subscribe("t", 0);
    let mut bob = secure.connect("bob");
    let payload = vec![b'x'; 200_000];
    // More than the systems at both ends take; what it does not take beyond its bound is dropped.
    for _ in 0..100 {
        bob.publish("t", &payload, 0, false);
    }
    bob.ping();
    let all = eventually(&secure.broker, |all| all.get(Metric::Connections) == 1);
    assert_eq!((all.get(Metric::LimitUnsent), all.get(Metric::ClosedNotReading)), (1, 1));
    assert!(all.get(Metric::DroppedSlowReader) > 0, "{all:?}");
    let mut read = 0;
    while let Ok(Packet::Publish(_)) = stuck.try_next() {
        read += 1;
    }
    assert!(read < 100, "{read}");
    bob.ping();
}

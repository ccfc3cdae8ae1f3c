//! WebSocket: streams of bytes in frames, and everything a frame or request may be that is wrong.
//!
//! Well-behaved clients are those of a library; the others write frames by hand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use tidings_broker::core::limits::Limits;
use tidings_broker::listener::{ClientCertificates, Listener, Tls, TlsOptions, Transport};
use tidings_broker::{Broker, Builder, ConnectionLimits};
use tokio_rustls::rustls::ALL_VERSIONS;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Message, WebSocket};

use crate::keys::{Authority, Files};
use crate::wire::{Connect, PATIENCE, PUBACK, Packet, Wire};

fn builder() -> Builder {
    let address = "127.0.0.1:0".parse().unwrap();
    Builder::new().listener(Listener::tcp(address).with_websocket()).shards(2)
}

fn address(broker: &Broker) -> SocketAddr {
    broker.addresses()[0]
}

/// A WebSocket as the stream of bytes that MQTT makes of it.
pub(crate) struct Client<S: Read + Write> {
    socket: WebSocket<S>,
    received: Bytes,
}

impl<S: Read + Write> Client<S> {
    fn over(stream: S) -> Self {
        let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
        let mqtt = HeaderValue::from_static("mqtt");
        request.headers_mut().insert("Sec-WebSocket-Protocol", mqtt);
        let (socket, answer) = tungstenite::client(request, stream).map_err(drop).unwrap();
        // [MQTT-6.0.0-4]
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Self { socket, received: Bytes::new() }
    }

    fn send(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }
}

impl<S: Read + Write> Read for Client<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.received.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.received = bytes,
                Ok(Message::Close(_)) => return Ok(0),
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let some = self.received.len().min(buf.len());
        buf[..some].copy_from_slice(&self.received.split_to(some));
        Ok(some)
    }
}

impl<S: Read + Write> Write for Client<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let message = Message::Binary(Bytes::copy_from_slice(buf));
        self.socket.send(message).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn tcp(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(address(broker)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn connect(broker: &Broker, name: &str) -> Wire<Client<TcpStream>> {
    Wire::connect_over(Client::over(tcp(broker)), &Connect::new(name))
}

pub(crate) const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Reads until the end of an answer's headers.
fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

/// A connection that is upgraded, for frames by hand.
pub(crate) fn upgraded(broker: &Broker) -> TcpStream {
    let mut stream = tcp(broker);
    stream.write_all(REQUEST.as_bytes()).unwrap();
    let answer = answer(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    stream
}

/// A masked frame of this first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [9, 8, 7, 6];
    let length = u16::try_from(payload.len()).unwrap();
    let mut bytes = vec![first];
    if length < 126 {
        bytes.push(0x80 | length as u8);
    } else {
        bytes.push(0x80 | 126);
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The next frame from the broker: its first byte and its payload.
pub(crate) fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    stream.read_exact(&mut header).unwrap();
    assert!(header[1] < 126, "short and not masked");
    let mut payload = vec![0; header[1].into()];
    stream.read_exact(&mut payload).unwrap();
    (header[0], payload)
}

pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0];

#[test]
fn messages_of_any_size_go_both_ways_and_the_end_is_told() {
    let broker = builder().start().unwrap();
    assert_eq!(broker.endpoints()[0].transport, Transport::Ws);
    let (mut alice, mut bob) = (connect(&broker, "alice"), connect(&broker, "bob"));
    bob.subscribe("t", 1);
    for size in [0, 1, 125, 126, 65_536, 200_000] {
        alice.publish("t", &vec![b'x'; size], 1, false);
        assert_eq!(bob.message().payload.len(), size);
    }
    alice.send(&[0xe0, 0]).unwrap();
    let Ok(Message::Close(Some(close))) = alice.stream.socket.read() else { panic!("no goodbye") };
    assert_eq!(close.code, CloseCode::Normal);
    bob.ping();
}

#[test]
fn packets_share_frames_and_span_them() {
    // [MQTT-6.0.0-2]
    let broker = builder().start().unwrap();
    let mut stream = upgraded(&broker);
    let mut wire = Wire::over(&stream, 4);
    let bytes =
        [Connect::new("x").bytes(), wire.publish_bytes("t", b"payload", 1, false, 7)].concat();
    wire.queue_publish("t", b"");
    drop(wire);
    let (one, rest) = bytes.split_at(5);
    let (two, three) = rest.split_at(bytes.len() - 10);
    let frames = [
        frame(0x82, one),
        frame(0x02, two),
        frame(0x89, b"between"),
        frame(0x80, three),
        frame(0x82, &[0xc0, 0, 0xc0, 0]),
    ]
    .concat();
    // However it is cut.
    for piece in frames.chunks(7) {
        stream.write_all(piece).unwrap();
    }
    let (mut data, mut pongs) = (Vec::new(), Vec::new());
    while data.len() < 4 + 4 + 4 {
        match next_frame(&mut stream) {
            (0x82, payload) => data.extend(payload),
            (0x8a, payload) => pongs.push(payload),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(data, [&CONNACK[..], &[0x40, 2, 0, 7], &PINGRESP, &PINGRESP].concat());
    assert_eq!(pongs, [b"between"]);
}

#[test]
fn ping_is_answered_before_and_after_connect() {
    let broker = builder().start().unwrap();
    let mut client = Client::over(tcp(&broker));
    let ping = |client: &mut Client<TcpStream>, text: &'static str| {
        client.send(Message::Ping(text.into()));
        assert_eq!(client.socket.read().unwrap(), Message::Pong(text.into()));
    };
    ping(&mut client, "early");
    let mut wire = Wire::connect_over(client, &Connect::new("x"));
    ping(&mut wire.stream, "late");
    wire.ping();
}

#[test]
fn who_pings_and_does_not_read_makes_nothing_grow_and_is_heard() {
    let broker = builder().start().unwrap();
    let mut bob = connect(&broker, "bob");
    bob.subscribe("t", 0);
    let mut stream = upgraded(&broker);
    stream.write_all(&frame(0x82, &Connect::new("pings").bytes())).unwrap();
    // Far more answers than the system's buffers hold.
    let pings = frame(0x89, &[b'x'; 125]).repeat(1000);
    for _ in 0..200 {
        stream.write_all(&pings).unwrap();
    }
    let publish = Wire::over(io::empty(), 4).publish_bytes("t", b"still here", 0, false, 0);
    stream.write_all(&frame(0x82, &publish)).unwrap();
    assert_eq!(bob.message().text(), "still here");
}

#[test]
fn wrong_frames_end_their_connection_with_a_code() {
    let broker = builder().start().unwrap();
    let mut bob = connect(&broker, "bob");
    let mut too_large = vec![0x82, 0xff];
    too_large.extend((400_000_u64).to_be_bytes());
    too_large.extend([0; 4]);
    for (bytes, code) in [
        // [MQTT-6.0.0-1]
        (frame(0x81, b"text"), 1003_u16),
        (vec![0x82, 2, 0xc0, 0], 1002),
        (frame(0xc2, &[0xc0, 0]), 1002),
        (frame(0x83, b""), 1002),
        (frame(0x80, &[0xc0, 0]), 1002),
        ([frame(0x02, b""), frame(0x82, b"")].concat(), 1002),
        (frame(0x09, b""), 1002),
        (too_large, 1009),
        // A close is answered with its code.
        (frame(0x88, &[0x03, 0xe9]), 1001),
    ] {
        for first in [Vec::new(), frame(0x82, &Connect::new("x").bytes())] {
            let mut stream = upgraded(&broker);
            let expect_connack = !first.is_empty();
            stream.write_all(&[first, bytes.clone()].concat()).unwrap();
            if expect_connack {
                assert_eq!(next_frame(&mut stream), (0x82, CONNACK.to_vec()), "{bytes:02x?}");
            }
            let close = (0x88, code.to_be_bytes().to_vec());
            assert_eq!(next_frame(&mut stream), close, "{bytes:02x?}");
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "{bytes:02x?}");
        }
    }
    bob.ping();
}

#[test]
fn reader_who_wakes_up_gets_everything() {
    let limits = Limits { memory_queue_bytes_max: 16 << 20, ..Limits::default() };
    let broker = builder().limits(limits).start().unwrap();
    let (mut alice, mut bob) = (connect(&broker, "alice"), connect(&broker, "bob"));
    bob.subscribe("t", 1);
    for number in 0..60_u8 {
        alice.publish("t", &vec![number; 200_000], 1, false);
    }
    for number in 0..60_u8 {
        assert_eq!(bob.message().payload, vec![number; 200_000]);
    }
    bob.ping();
}

#[test]
fn requests_that_are_no_upgrade_get_an_answer_in_a_line() {
    let broker = builder().start().unwrap();
    let long = format!("GET /mqtt HTTP/1.1\r\nX: {}\r\n", "x".repeat(20_000));
    for (from, to, status, text) in [
        ("mqtt\r\n\r\n", "other\r\n\r\n", 400, "expected Sec-WebSocket-Protocol mqtt"),
        ("/mqtt", "/elsewhere", 404, "at /mqtt"),
        ("Upgrade: websocket\r\n", "", 426, "WebSocket client"),
        ("GET", "Origin: https://evil.example\r\nGET", 400, "not HTTP"),
        ("Host", "Origin: https://evil.example\r\nHost", 403, "websocket.origins"),
        ("GET /mqtt HTTP/1.1\r\n", &long, 431, "larger than 16384 bytes"),
    ] {
        let mut stream = tcp(&broker);
        stream.write_all(REQUEST.replace(from, to).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{to}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains(text) && body.lines().count() == 1, "{to}: {answer}");
    }
    let mut stream = tcp(&broker);
    let same_host = REQUEST.replace("Host", "Origin: http://localhost:3000\r\nHost");
    stream.write_all(same_host.as_bytes()).unwrap();
    assert!(answer(&mut stream).starts_with("HTTP/1.1 101"));
}

#[test]
fn half_a_request_is_closed_when_the_time_is_over() {
    let connect_timeout = Duration::from_millis(300);
    let limits = ConnectionLimits { connect_timeout, ..ConnectionLimits::default() };
    let broker = builder().connection_limits(limits).start().unwrap();
    let mut half = tcp(&broker);
    half.write_all(&REQUEST.as_bytes()[..60]).unwrap();
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
    // A whole one buys no time.
    let mut whole = upgraded(&broker);
    whole.write_all(&frame(0x82, &Connect::new("x").bytes()[..5])).unwrap();
    assert_eq!(whole.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_another_server_upgraded_comes_in_by_the_door() {
    let limits = ConnectionLimits { unauthenticated_max: 1, ..ConnectionLimits::default() };
    let broker = Builder::new().connection_limits(limits).shards(2).start().unwrap();
    let (client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_nonblocking(true).unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let door = broker.door();
    // Its runtime goes on running, and moves the bytes.
    let theirs = thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let stream = tokio::net::UnixStream::from_std(server).unwrap();
            door.websocket(stream, "127.0.0.1:9".parse().unwrap()).unwrap();
            let _ended = ended.await;
        });
    });
    let role = tungstenite::protocol::Role::Client;
    let socket = WebSocket::from_raw_socket(client, role, None);
    let client = Client { socket, received: Bytes::new() };
    let mut wire = Wire::connect_over(client, &Connect::new("guest"));
    wire.subscribe("t", 1);
    let id = wire.queue_publish("t", &[b'x'; 200_000]);
    wire.flush().unwrap();
    let mut packets = [wire.next(), wire.next()];
    packets.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
    assert_eq!(packets[0], Packet::Ack(PUBACK, id, 0));
    let door = broker.door();
    broker.stop().unwrap();
    drop(end);
    theirs.join().unwrap();
    let closed = door.websocket(tokio::io::duplex(1).0, "127.0.0.1:9".parse().unwrap());
    assert!(closed.is_err());
}

#[test]
fn over_tls_it_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let Files { certificate, key, .. } = Files::new(dir.path(), &authority);
    let client_certificates = ClientCertificates::Off;
    let tls = Tls::open(TlsOptions { certificate, key, client_certificates }).unwrap();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).with_tls(&tls).with_websocket();
    let broker = Builder::new().listener(listener).shards(2).start().unwrap();
    assert!(broker.endpoints()[0].to_string().starts_with("wss://127.0.0.1:"));
    let connect = |name: &str| {
        // As browsers say it.
        let protocols = ["http/1.1"];
        let stream = crate::keys::tls(address(&broker), &authority, None, ALL_VERSIONS, &protocols);
        Wire::connect_over(Client::over(stream), &Connect::new(name))
    };
    let (mut alice, mut bob) = (connect("alice"), connect("bob"));
    bob.subscribe("t", 1);
    let id = alice.queue_publish("t", &[b'x'; 200_000]);
    alice.flush().unwrap();
    assert_eq!(alice.next(), Packet::Ack(PUBACK, id, 0));
    assert_eq!(bob.message().payload.len(), 200_000);
    bob.ping();
}

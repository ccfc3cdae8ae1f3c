//! A Client of bare bytes over a blocking socket, for tests over real sockets.
//!
//! It shares no code with the broker, sends wrong bytes as willingly as right ones, and pipelines:
//! what is written is sent by [`Wire::flush`]. Every read has a deadline, so that a broker that
//! says nothing fails the test and does not hang it.

#![allow(dead_code, reason = "the tests of two crates share it, and each uses a part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long anything may take, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A packet from the broker. Properties are skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Connack {
        present: bool,
        code: u8,
    },
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP: the packet's type, its identifier, its Reason Code.
    Ack(u8, u16, u8),
    Suback(u16, Vec<u8>),
    Unsuback(u16),
    Pingresp,
    Disconnect(u8),
    /// Its Reason Code, Authentication Method and Authentication Data.
    Auth(u8, String, Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    /// 0 at QoS 0.
    pub(crate) id: u16,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
}

impl Publish {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;

/// What a CONNECT says.
#[derive(Debug, Clone)]
pub(crate) struct Connect {
    pub(crate) version: u8,
    pub(crate) client_id: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// Clean Start, and no Session Expiry Interval. Without it a session lives an hour.
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    /// Topic and payload of a will at QoS 1.
    pub(crate) will: Option<(String, String)>,
    /// Authentication Method and Authentication Data.
    pub(crate) method: Option<(String, Vec<u8>)>,
}

impl Connect {
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            version: 4,
            client_id: client_id.into(),
            user: None,
            password: None,
            clean: true,
            keep_alive: 60,
            will: None,
            method: None,
        }
    }

    pub(crate) fn v5(mut self) -> Self {
        self.version = 5;
        self
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = Some(user.into());
        self
    }

    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    pub(crate) fn persistent(mut self) -> Self {
        self.clean = false;
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &str) -> Self {
        self.will = Some((topic.into(), payload.into()));
        self
    }

    /// Authenticates by `method`, whose first data this is.
    pub(crate) fn method(mut self, method: &str, data: &[u8]) -> Self {
        self.method = Some((method.into(), data.into()));
        self.v5()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, "MQTT");
        let flag = |is: bool, bit: u8| if is { 1 << bit } else { 0 };
        let flags = flag(self.clean, 1)
            | flag(self.will.is_some(), 2)
            | flag(self.will.is_some(), 3)
            | flag(self.password.is_some(), 6)
            | flag(self.user.is_some(), 7);
        body.extend([self.version, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.version == 5 {
            let mut properties = Vec::new();
            if !self.clean {
                properties.extend([0x11, 0, 0, 0x0e, 0x10]);
            }
            if let Some((method, data)) = &self.method {
                put_method(&mut properties, method, data);
            }
            put_length(&mut body, properties.len());
            body.extend(properties);
        }
        put_text(&mut body, &self.client_id);
        if let Some((topic, payload)) = &self.will {
            if self.version == 5 {
                body.push(0);
            }
            put_text(&mut body, topic);
            put_text(&mut body, payload);
        }
        for text in [&self.user, &self.password].into_iter().flatten() {
            put_text(&mut body, text);
        }
        packet(0x10, &body)
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    pub(crate) stream: S,
    version: u8,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    last_id: u16,
    /// Authentication Method and Authentication Data of the CONNACK.
    pub(crate) method: Option<(String, Vec<u8>)>,
}

/// The connection is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Wire {
    /// A connection that has sent nothing.
    pub(crate) fn open(address: SocketAddr, version: u8) -> Result<Self, Gone> {
        let stream = TcpStream::connect(address).map_err(|_| Gone)?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(Self::over(stream, version))
    }

    /// Connects; the code and Session Present of the CONNACK.
    pub(crate) fn try_connect(
        address: SocketAddr,
        connect: &Connect,
    ) -> Result<(Self, u8, bool), Gone> {
        let mut wire = Self::open(address, connect.version)?;
        wire.send(&connect.bytes())?;
        match wire.try_next()? {
            Packet::Connack { present, code } => Ok((wire, code, present)),
            other => panic!("expected CONNACK, found {other:?}"),
        }
    }

    /// Connects and is accepted; whether the session was present.
    pub(crate) fn resume(address: SocketAddr, connect: &Connect) -> (Self, bool) {
        let (wire, code, present) = Self::try_connect(address, connect).expect("a CONNACK");
        assert_eq!(code, 0, "{connect:?}");
        (wire, present)
    }

    pub(crate) fn connect(address: SocketAddr, connect: &Connect) -> Self {
        Self::resume(address, connect).0
    }
}

impl<S: Read + Write> Wire<S> {
    /// A connection that was made in another way. Its reads are to have a deadline.
    pub(crate) fn over(stream: S, version: u8) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { stream, version, input, used: 0, output, last_id: 0, method: None }
    }

    /// Connects and is accepted.
    pub(crate) fn connect_over(stream: S, connect: &Connect) -> Self {
        let mut wire = Self::over(stream, connect.version);
        wire.send(&connect.bytes()).unwrap();
        assert_eq!(wire.next(), Packet::Connack { present: false, code: 0 });
        wire
    }

    pub(crate) fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// Sends these bytes now, behind what waited.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.output.extend_from_slice(bytes);
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        let sent = self.stream.write_all(&self.output).map_err(|_| Gone);
        self.output.clear();
        sent
    }

    /// The bytes of a PUBLISH.
    pub(crate) fn publish_bytes(
        &self,
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
        id: u16,
    ) -> Vec<u8> {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 5);
        put_text(&mut body, topic);
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        if self.version == 5 {
            body.push(0);
        }
        body.extend_from_slice(payload);
        packet(0x30 | qos << 1 | u8::from(retain), &body)
    }

    /// Puts a PUBLISH at QoS 1 behind what waits to be flushed; its Packet Identifier.
    pub(crate) fn queue_publish(&mut self, topic: &str, payload: &[u8]) -> u16 {
        let id = self.next_id();
        let bytes = self.publish_bytes(topic, payload, 1, false, id);
        self.output.extend(bytes);
        id
    }

    /// Publishes and completes the handshake of the QoS.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool) {
        let id = self.next_id();
        let bytes = self.publish_bytes(topic, payload, qos, retain, id);
        self.send(&bytes).unwrap();
        match qos {
            0 => {}
            1 => self.taken(PUBACK, id),
            _ => {
                self.taken(PUBREC, id);
                self.queue_ack(PUBREL, id);
                self.flush().unwrap();
                assert_eq!(self.next(), Packet::Ack(PUBCOMP, id, 0));
            }
        }
    }

    /// Expects that a PUBLISH was taken, whether or not anybody wanted it.
    fn taken(&mut self, kind: u8, id: u16) {
        let next = self.next();
        let no_matching_subscribers = Packet::Ack(kind, id, 0x10);
        assert!(next == Packet::Ack(kind, id, 0) || next == no_matching_subscribers, "{next:?}");
    }

    /// Puts an acknowledgement behind what waits to be flushed.
    pub(crate) fn queue_ack(&mut self, kind: u8, id: u16) {
        let flags = if kind == PUBREL { 2 } else { 0 };
        self.output.extend(packet(kind << 4 | flags, &id.to_be_bytes()));
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        let id = self.next_id();
        let mut body = id.to_be_bytes().to_vec();
        if self.version == 5 {
            body.push(0);
        }
        put_text(&mut body, filter);
        body.push(qos);
        self.send(&packet(0x82, &body)).unwrap();
        assert_eq!(self.next(), Packet::Suback(id, vec![qos]), "{filter}");
    }

    pub(crate) fn disconnect(mut self) {
        self.send(&[0xe0, 0]).unwrap();
        self.ends();
    }

    /// Comes back when the broker has handled all that was sent before; nothing else may come.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xc0, 0]).unwrap();
        assert_eq!(self.next(), Packet::Pingresp);
    }

    /// The same where messages may come before; they are not acknowledged, and forgotten.
    pub(crate) fn ping_past_messages(&mut self) {
        self.send(&[0xc0, 0]).unwrap();
        while let Packet::Publish(_) = self.next() {}
    }

    pub(crate) fn next(&mut self) -> Packet {
        self.try_next().expect("a packet, found the end of the connection")
    }

    /// The next packet, which is a PUBLISH; acknowledged as its QoS wants it.
    pub(crate) fn message(&mut self) -> Publish {
        match self.next() {
            Packet::Publish(publish) => {
                match publish.qos {
                    0 => {}
                    1 => self.queue_ack(PUBACK, publish.id),
                    _ => {
                        self.queue_ack(PUBREC, publish.id);
                        self.flush().unwrap();
                        assert_eq!(self.next(), Packet::Ack(PUBREL, publish.id, 0));
                        self.queue_ack(PUBCOMP, publish.id);
                    }
                }
                self.flush().unwrap();
                publish
            }
            other => panic!("expected PUBLISH, found {other:?}"),
        }
    }

    /// Expects that the broker closes, and says nothing before.
    pub(crate) fn ends(mut self) {
        if let Ok(packet) = self.try_next() {
            panic!("expected the end of the connection, found {packet:?}");
        }
    }

    /// Whether a whole packet is there without reading more.
    pub(crate) fn has_next(&self) -> bool {
        whole(self.input.get(self.used..).unwrap_or_default()).is_some()
    }

    pub(crate) fn try_next(&mut self) -> Result<Packet, Gone> {
        loop {
            if let Some((header, length)) = whole(&self.input[self.used..]) {
                let bytes = &self.input[self.used..self.used + header + length];
                let packet = parse(bytes[0], &bytes[header..], self.version);
                if let Packet::Connack { code: 0, .. } = packet
                    && self.version == 5
                {
                    self.method = method(&bytes[header + 2..]);
                }
                self.used += header + length;
                return Ok(packet);
            }
            self.input.drain(..self.used);
            self.used = 0;
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Gone),
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("nothing came for {PATIENCE:?}, and the connection is open")
                }
                Err(_) => return Err(Gone),
            }
        }
    }
}

/// Lengths of header and body, if both are there whole.
fn whole(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let header = at + 2;
            return (bytes.len() >= header + length).then_some((header, length));
        }
    }
    None
}

fn parse(first: u8, body: &[u8], version: u8) -> Packet {
    let u16_at = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match first >> 4 {
        2 => Packet::Connack { present: body[0] == 1, code: body[1] },
        3 => {
            let end = 2 + usize::from(u16_at(0));
            let topic = String::from_utf8(body[2..end].to_vec()).unwrap();
            let qos = first >> 1 & 3;
            let (id, mut at) = if qos > 0 { (u16_at(end), end + 2) } else { (0, end) };
            if version == 5 {
                at += properties(&body[at..]);
            }
            let (retain, dup) = (first & 1 == 1, first & 8 == 8);
            Packet::Publish(Publish { topic, payload: body[at..].to_vec(), qos, id, retain, dup })
        }
        kind @ PUBACK..=PUBCOMP => Packet::Ack(kind, u16_at(0), body.get(2).copied().unwrap_or(0)),
        9 => {
            let codes = if version == 5 { 2 + properties(&body[2..]) } else { 2 };
            Packet::Suback(u16_at(0), body[codes..].to_vec())
        }
        11 => Packet::Unsuback(u16_at(0)),
        13 => Packet::Pingresp,
        15 => {
            let (method, data) = method(&body[1..]).unwrap();
            Packet::Auth(body[0], method, data)
        }
        14 => Packet::Disconnect(body.first().copied().unwrap_or(0)),
        kind => panic!("a Server sends no packet of type {kind}"),
    }
}

/// How many bytes properties take, their length included. None of ours is above 16 KiB.
fn properties(bytes: &[u8]) -> usize {
    match bytes[0] {
        short @ 0..0x80 => 1 + usize::from(short),
        low => 2 + usize::from(low & 0x7f) + (usize::from(bytes[1]) << 7),
    }
}

/// Authentication Method and Authentication Data in properties that begin with their length.
fn method(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = properties(bytes);
    let mut at = if end > 0x80 { 2 } else { 1 };
    let (mut method, mut data) = (None, Vec::new());
    while at < end {
        let value = &bytes[at + 1..end];
        let text = || 2 + usize::from(u16::from_be_bytes([value[0], value[1]]));
        at += 1 + match bytes[at] {
            0x15 => {
                method = Some(String::from_utf8(value[2..text()].to_vec()).unwrap());
                text()
            }
            0x16 => {
                data = value[2..text()].to_vec();
                text()
            }
            0x12 | 0x1a | 0x1c | 0x1f => text(),
            0x11 | 0x27 => 4,
            0x13 | 0x21 | 0x22 => 2,
            0x24 | 0x25 | 0x28..=0x2a => 1,
            other => panic!("property {other:#04x}"),
        };
    }
    method.map(|method| (method, data))
}

/// Authentication Method and Authentication Data, none where it is empty.
fn put_method(out: &mut Vec<u8>, method: &str, data: &[u8]) {
    out.push(0x15);
    put_text(out, method);
    if !data.is_empty() {
        out.push(0x16);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
    }
}

/// An AUTH.
pub(crate) fn auth(code: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let mut properties = Vec::new();
    put_method(&mut properties, method, data);
    let mut body = vec![code];
    put_length(&mut body, properties.len());
    body.extend(properties);
    packet(0xf0, &body)
}

/// A packet of this first byte and body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

/// A Variable Byte Integer.
fn put_length(out: &mut Vec<u8>, mut rest: usize) {
    loop {
        let more = if rest > 0x7f { 0x80 } else { 0 };
        out.push((rest & 0x7f) as u8 | more);
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

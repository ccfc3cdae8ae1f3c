//! A raw connection: sends any bytes, reads whole packets with a deadline.
//!
//! Sending never fails: a broker may close while a case still writes, and the case learns of it
//! when it reads, where it says whether that is what it expects. Absence is not shown by waiting:
//! a case sends a marker after what must not arrive, and reads up to the marker.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::log::Log;
use crate::number::{
    CONNACK, DISCONNECT, MAXIMUM_PACKET_SIZE, MAXIMUM_QOS, PUBLISH, RETAIN_AVAILABLE,
    SESSION_EXPIRY, WILDCARD_AVAILABLE,
};
use crate::outcome::{Fail, Outcome};
use crate::packet::Version;
use crate::read::{Packet, Reader, hex, properties};
use crate::transport::{Channel, Frame};

/// A connection to the broker under test.
#[derive(Debug)]
pub struct Wire {
    stream: Channel,
    pub(crate) version: Version,
    label: String,
    pub(crate) log: Log,
    patience: Duration,
    input: Vec<u8>,
    /// Read while another packet was waited for.
    waiting: VecDeque<Packet>,
    next_id: u16,
    packet_bytes_max: usize,
    accepted: bool,
    offer: Offer,
    /// Sent before the CONNACK.
    early: Vec<u8>,
}

/// What the Server offers, as its CONNACK says; in MQTT 3.1.1 it cannot say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) wildcards: bool,
    pub(crate) packet_bytes: usize,
}

/// What a CONNACK says (§3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connack {
    /// The Connect Acknowledge Flags.
    pub flags: u8,
    /// The reason code, or the return code.
    pub code: u8,
    /// The properties, each with the bytes of its value.
    pub props: Vec<(u8, Vec<u8>)>,
}

impl Connack {
    /// The number in a property of up to four bytes.
    pub fn number(&self, id: u8) -> Option<u32> {
        let (_, value) = self.props.iter().find(|it| it.0 == id)?;
        Some(value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Whether there was a session.
    pub fn session_present(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// What the stream holds next.
enum Next {
    Packet(Packet),
    Closed,
    Silent,
}

impl Wire {
    pub(crate) fn new(
        stream: Channel,
        version: Version,
        label: &str,
        log: Log,
        patience: Duration,
    ) -> Self {
        let label = label.to_owned();
        let (input, waiting) = (Vec::new(), VecDeque::new());
        Self {
            stream,
            version,
            label,
            log,
            patience,
            input,
            waiting,
            next_id: 1,
            packet_bytes_max: usize::MAX,
            accepted: false,
            early: Vec::new(),
            offer: Offer { qos: 2, retain: true, wildcards: true, packet_bytes: usize::MAX },
        }
    }

    /// What the case calls it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// How long an answer may take from now on, if the case knows better than the target.
    pub fn patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Makes it a failure to receive a packet of more bytes than this.
    pub fn packet_bytes_max(&mut self, most: u32) {
        self.packet_bytes_max = usize::try_from(most).unwrap_or(usize::MAX);
    }

    /// Sends bytes, whatever they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.note_beyond_offer(bytes);
        if !self.accepted {
            self.early.extend(bytes);
        }
        let unsent = self.stream.send(bytes).is_err();
        let note = if unsent { " (could not be sent)" } else { "" };
        self.log.push(format!("{}> {}{note}", self.label, hex(bytes)));
    }

    /// Notes a PUBLISH that the Server's CONNACK rules out: what follows from it is no failure.
    fn note_beyond_offer(&self, bytes: &[u8]) {
        let mut rest = Reader(bytes);
        if bytes.len() > self.offer.packet_bytes {
            self.log.beyond("packets of this size".into());
        }
        while let Ok(first) = rest.byte() {
            let Ok(length) = rest.var_int() else { return };
            let (qos, retain) = ((first >> 1) & 3, first & 1 != 0);
            if first >> 4 == PUBLISH && qos < 3 && qos > self.offer.qos {
                self.log.beyond(format!("QoS {qos}"));
            }
            if first >> 4 == PUBLISH && retain && !self.offer.retain {
                self.log.beyond("retained messages".into());
            }
            if rest.take(length).is_err() {
                return;
            }
        }
    }

    /// Sends bytes in pieces of `size`, each in a write of its own, and in a frame if there are any.
    pub fn send_split(&mut self, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size.max(1)) {
            let _closed_already = self.stream.send(piece);
        }
        self.log.push(format!("{}> {} (in pieces of {size})", self.label, hex(bytes)));
    }

    /// Sends frames of a WebSocket, whatever they are; nothing over another transport.
    pub fn send_frames(&mut self, frames: &[Frame]) {
        let Channel::WebSocket(socket) = &mut self.stream else { return };
        let unsent = socket.send(frames).is_err();
        let note = if unsent { " (could not be sent)" } else { "" };
        for frame in frames {
            let line = format!("frame {:02x}: {}{note}", frame.first, hex(&frame.payload));
            self.log.push(format!("{}> {line}", self.label));
        }
    }

    /// The payloads of the pongs that came over a WebSocket so far.
    pub fn take_pongs(&mut self) -> Vec<Vec<u8>> {
        match &mut self.stream {
            Channel::WebSocket(socket) => socket.take_pongs(),
            Channel::Stream(_) => Vec::new(),
        }
    }

    /// Closes the connection without a DISCONNECT.
    pub fn drop_connection(self) {
        self.stream.cut();
        self.log.push(format!("{}| connection dropped", self.label));
    }

    /// Sends a DISCONNECT 00 and closes.
    pub fn disconnect(mut self) {
        self.send(&[0xE0, 0]);
        self.stream.finish();
        // Until the Server has closed too, it may not have looked at the DISCONNECT.
        while matches!(self.poll(self.patience), Ok(Next::Packet(_))) {}
    }

    /// A Packet Identifier that this connection has not used.
    pub fn fresh_id(&mut self) -> u16 {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        id
    }

    /// The next packet.
    ///
    /// # Errors
    /// The connection is closed, or nothing comes in time, or bytes that are no packet.
    pub fn packet(&mut self) -> Result<Packet, Fail> {
        match self.poll(self.patience)? {
            Next::Packet(packet) => Ok(packet),
            Next::Closed => self.fail("expected a packet, found the connection closed"),
            Next::Silent => self.fail("expected a packet, found none in time"),
        }
    }

    /// Whether a packet is there already; it waits to be read.
    ///
    /// # Errors
    /// Bytes that are no packet.
    pub(crate) fn has_received(&mut self) -> Result<bool, Fail> {
        match self.poll(GLANCE)? {
            Next::Packet(packet) => {
                self.waiting.push_front(packet);
                Ok(true)
            }
            Next::Closed => self.fail("expected a packet, found the connection closed"),
            Next::Silent => Ok(false),
        }
    }

    /// The one of two connections that gets a packet, and the other one.
    ///
    /// # Errors
    /// Neither does in time.
    pub(crate) fn first_to_receive(mut one: Self, mut two: Self) -> Result<(Self, Self), Fail> {
        let deadline = Instant::now() + one.patience;
        while Instant::now() < deadline {
            if one.has_received()? {
                return Ok((one, two));
            }
            (one, two) = (two, one);
        }
        one.fail("expected a packet here or on another connection, found none in time")
    }

    /// The next packet, of a type.
    ///
    /// # Errors
    /// As [`Wire::packet`], and for a packet of another type.
    pub fn next_of(&mut self, kind: u8) -> Result<Packet, Fail> {
        let packet = self.packet()?;
        self.of(kind, packet)
    }

    /// The CONNACK, accepting or not.
    ///
    /// # Errors
    /// Another packet, none, or a malformed one.
    pub fn connack(&mut self) -> Result<Connack, Fail> {
        let packet = self.next_of(CONNACK)?;
        let connack = self.parse_connack(&packet).or_else(|wrong| self.fail(wrong))?;
        self.accepted = connack.code == 0;
        self.offer = Offer {
            qos: connack.number(MAXIMUM_QOS).and_then(|it| u8::try_from(it).ok()).unwrap_or(2),
            retain: connack.number(RETAIN_AVAILABLE) != Some(0),
            wildcards: connack.number(WILDCARD_AVAILABLE) != Some(0),
            packet_bytes: connack
                .number(MAXIMUM_PACKET_SIZE)
                .and_then(|it| usize::try_from(it).ok())
                .unwrap_or(usize::MAX),
        };
        // What came with the CONNECT knew nothing of it.
        let early = std::mem::take(&mut self.early);
        self.note_beyond_offer(&early);
        Ok(connack)
    }

    /// That the Server offers what a case needs; it is skipped where it does not.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn offers(&self, is_needed: impl Fn(Offer) -> bool, what: &str) -> Outcome {
        if is_needed(self.offer) {
            return Ok(());
        }
        Err(Fail::Skipped(format!("the Server does not offer {what}")))
    }

    /// Holds [MQTT-3.2.2-1] and, for the properties, [MQTT-3.2.2-8] on every CONNACK.
    fn parse_connack(&self, packet: &Packet) -> Result<Connack, String> {
        let mut reader = Reader(&packet.body);
        let (flags, code) = (reader.byte()?, reader.byte()?);
        let props = match self.version {
            Version::V311 => Vec::new(),
            Version::V5 => {
                let length = reader.var_int()?;
                properties(reader.take(length)?)?
            }
        };
        let codes = match self.version {
            Version::V311 => &[0, 1, 2, 3, 4, 5][..],
            Version::V5 => CONNACK_CODES,
        };
        if packet.first != 0x20 || flags > 1 || !reader.0.is_empty() || !codes.contains(&code) {
            return Err(format!("a CONNACK that is not allowed: {packet}"));
        }
        Ok(Connack { flags, code, props })
    }

    /// That the Server closes: it says why, or nothing, and no more. Returns its reason code.
    ///
    /// MQTT 3.1.1 has no words for it, so anything before the end is a failure there.
    ///
    /// # Errors
    /// Another packet, or a connection that stays open.
    pub fn closed(&mut self) -> Result<Option<u8>, Fail> {
        let mut said = None;
        loop {
            match self.poll(self.patience)? {
                Next::Closed => return Ok(said),
                Next::Silent => return self.fail("expected a closed connection, found it open"),
                Next::Packet(packet) => {
                    let reason = self.last_word(&packet).or_else(|wrong| self.fail(wrong))?;
                    if said.replace(reason).is_some() {
                        return self.fail(format!("expected the end, found {packet}"));
                    }
                }
            }
        }
    }

    /// Holds [MQTT-3.14.2-1] and [MQTT-3.14.2-2] on every DISCONNECT.
    fn last_word(&self, packet: &Packet) -> Result<u8, String> {
        let kind = if self.accepted { DISCONNECT } else { CONNACK };
        if packet.kind() != kind || self.version == Version::V311 {
            return Err(format!("expected a closed connection, found {packet}"));
        }
        if kind == CONNACK {
            let connack = self.parse_connack(packet)?;
            let refused = connack.code >= 0x80 && connack.flags == 0;
            return if refused { Ok(connack.code) } else { Err(format!("not closed: {packet}")) };
        }
        let code = packet.body.first().copied().unwrap_or(0);
        let mut reader = Reader(packet.body.get(1..).unwrap_or_default());
        let length = if reader.0.is_empty() { 0 } else { reader.var_int()? };
        let props = properties(reader.take(length)?)?;
        let expiry = props.iter().any(|it| it.0 == SESSION_EXPIRY);
        if packet.first != 0xE0 || !DISCONNECT_CODES.contains(&code) || expiry {
            return Err(format!("a DISCONNECT that is not allowed of a Server: {packet}"));
        }
        Ok(code)
    }

    /// That the CONNECT is refused: a CONNACK that says so, then the end. Returns its code.
    ///
    /// # Errors
    /// Anything else.
    pub fn refused(&mut self) -> Result<u8, Fail> {
        let connack = self.connack()?;
        if connack.code == 0 || connack.flags != 0 {
            return self.fail(format!("expected a refusal, found {connack:?}"));
        }
        match self.poll(self.patience)? {
            Next::Closed => Ok(connack.code),
            Next::Silent => self.fail("expected a close after the refusal, found it open"),
            Next::Packet(packet) => self.fail(format!("after the refusal, found {packet}")),
        }
    }

    /// That the CONNECT is not accepted, whether or not a CONNACK says so.
    ///
    /// # Errors
    /// Anything else.
    pub fn turned_away(&mut self) -> Outcome {
        match self.poll(self.patience)? {
            Next::Closed => Ok(()),
            Next::Silent => self.fail("expected a closed connection, found it open"),
            Next::Packet(packet) => {
                self.waiting.push_front(packet);
                self.refused().map(drop)
            }
        }
    }

    /// That the connection is closed, in MQTT 3.1.1 after a refusal.
    ///
    /// # Errors
    /// Anything else.
    pub fn closed_or_refused(&mut self) -> Result<Option<u8>, Fail> {
        match self.version {
            Version::V311 => self.refused().map(Some),
            Version::V5 => self.closed(),
        }
    }

    /// The next packet of a type; messages may come before it, and wait to be read after it.
    ///
    /// §3.8.4 lets a Server send them before the SUBACK, and nothing orders them among answers.
    pub(crate) fn among_messages(&mut self, kind: u8) -> Result<Packet, Fail> {
        let mut early = VecDeque::new();
        let found = loop {
            let packet = self.packet()?;
            if packet.kind() != PUBLISH || early.len() == WAITING_MAX {
                break packet;
            }
            early.push_back(packet);
        };
        early.append(&mut self.waiting);
        self.waiting = early;
        self.of(kind, found)
    }

    fn of(&self, kind: u8, packet: Packet) -> Result<Packet, Fail> {
        if packet.kind() == kind {
            return Ok(packet);
        }
        self.fail(format!("expected {}, found {packet}", crate::read::kind_name(kind)))
    }

    /// A failure of this connection.
    ///
    /// # Errors
    /// Always: it is made for `return`.
    pub fn fail<T>(&self, what: impl Into<String>) -> Result<T, Fail> {
        Err(Fail::Failed(format!("{}: {}", self.label, what.into())))
    }

    fn poll(&mut self, patience: Duration) -> Result<Next, Fail> {
        if let Some(packet) = self.waiting.pop_front() {
            return Ok(Next::Packet(packet));
        }
        let deadline = Instant::now() + patience;
        loop {
            if let Some(packet) = self.whole_packet()? {
                self.log.push(format!("{}< {}", self.label, packet.hex()));
                return Ok(Next::Packet(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // A timeout of zero would mean none at all.
            if left.is_zero() || self.stream.set_read_timeout(left).is_err() {
                return Ok(Next::Silent);
            }
            let mut scratch = [0; 4096];
            match self.stream.read(&mut scratch) {
                Ok(0) => return Ok(self.end()),
                Ok(count) => self.input.extend(scratch.iter().take(count)),
                Err(error) => match error.kind() {
                    ErrorKind::Other => return self.fail(error.to_string()),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Ok(self.end()),
                },
            }
        }
    }

    fn end(&self) -> Next {
        self.log.push(format!("{}| closed by the broker", self.label));
        Next::Closed
    }

    fn whole_packet(&mut self) -> Result<Option<Packet>, Fail> {
        let Some((first, rest)) = self.input.split_first() else { return Ok(None) };
        let header: Vec<u8> = rest.iter().take(4).copied().collect();
        let Some(last) = header.iter().position(|byte| byte & 0x80 == 0) else {
            if header.len() == 4 {
                return self.fail(format!("a length without an end: {}", hex(&self.input)));
            }
            return Ok(None);
        };
        let length = Reader(&header).var_int().or_else(|wrong| self.fail(wrong))?;
        let (begin, end) = (last + 2, last + 2 + length);
        if end > self.packet_bytes_max {
            let most = self.packet_bytes_max;
            return self.fail(format!("expected at most {most} bytes, found {end}"));
        }
        let Some(body) = self.input.get(begin..end) else { return Ok(None) };
        let packet = Packet { first: *first, body: body.to_vec() };
        self.input.drain(..end);
        Ok(Some(packet))
    }
}

/// §3.2.2.2
const CONNACK_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];

/// §3.14.2.1, those that a Server sends.
const DISCONNECT_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];

/// How long to look at one of two connections before the other.
const GLANCE: Duration = Duration::from_millis(10);

/// How many messages may come before an answer.
const WAITING_MAX: usize = 1000;

//! The packets that a load is made of, both ways, for MQTT 3.1.1 and 5.0.
//!
//! A library's codec of its own, so that no broker's code is measured against itself. It takes
//! apart what it needs and believes the rest: a generator measures, it does not judge. Nothing here
//! allocates but for the buffer that the caller gives.

use std::fmt;

/// The largest packet that is taken, from either side.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// Which MQTT a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// MQTT 3.1.1.
    #[default]
    V311,
    /// MQTT 5.0.
    V5,
}

/// A quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum QoS {
    /// 0.
    #[default]
    AtMostOnce,
    /// 1.
    AtLeastOnce,
    /// 2.
    ExactlyOnce,
}

impl QoS {
    /// As the wire has it.
    pub fn bits(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    /// From the wire; 3 is none.
    pub fn from_bits(bits: u8) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce].get(usize::from(bits)).copied()
    }
}

/// The four packets that acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckKind {
    /// The answer to a PUBLISH of QoS 1.
    Puback,
    /// The first answer to a PUBLISH of QoS 2.
    Pubrec,
    /// The answer to PUBREC.
    Pubrel,
    /// The answer to PUBREL.
    Pubcomp,
}

impl AckKind {
    fn first_byte(self) -> u8 {
        match self {
            Self::Puback => 0x40,
            Self::Pubrec => 0x50,
            Self::Pubrel => 0x62,
            Self::Pubcomp => 0x70,
        }
    }
}

/// A packet, as far as it matters here. What it holds lies in the bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNECT.
    Connect {
        /// What it speaks.
        version: Version,
    },
    /// CONNACK.
    Connack {
        /// Whether there was a Session.
        present: bool,
        /// 0 for success.
        code: u8,
        /// Receive Maximum, 65,535 where it is not said.
        receive_maximum: u16,
    },
    /// PUBLISH.
    Publish {
        /// Its quality of service.
        qos: QoS,
        /// Its Topic Name.
        topic: &'a [u8],
        /// 0 with QoS 0.
        packet_id: u16,
        /// What it carries.
        payload: &'a [u8],
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack {
        /// Which of them.
        kind: AckKind,
        /// What it answers.
        packet_id: u16,
        /// 0x80 and above is a refusal.
        code: u8,
    },
    /// SUBSCRIBE, of which the first filter is looked at.
    Subscribe {
        /// To be answered with.
        packet_id: u16,
        /// The first filter.
        filter: &'a [u8],
        /// The QoS it asks for.
        qos: QoS,
    },
    /// SUBACK.
    Suback {
        /// Of the first filter.
        code: u8,
    },
    /// PINGREQ.
    Pingreq,
    /// DISCONNECT, with its code where it has one.
    Disconnect {
        /// 0 in MQTT 3.1.1.
        code: u8,
    },
    /// Any other.
    Other(u8),
}

/// Bytes that are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no MQTT packet: {}", self.0)
    }
}

/// What is left of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A Variable Byte Integer (§1.5.5).
    fn varint(&mut self) -> Result<usize, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a length of more than four bytes"))
    }

    fn properties(&mut self, version: Version) -> Result<&'a [u8], Malformed> {
        if version == Version::V311 {
            return Ok(&[]);
        }
        let len = self.varint()?;
        self.take(len)
    }
}

/// The next packet of `bytes` and its length; nothing as long as it is not whole.
pub fn decode(bytes: &[u8], version: Version) -> Result<Option<(Packet<'_>, usize)>, Malformed> {
    let [first, second, ..] = bytes else { return Ok(None) };
    let mut head = Reader(bytes.get(1..).unwrap_or_default());
    let len = if *second < 0x80 {
        head.0 = head.0.get(1..).unwrap_or_default();
        usize::from(*second)
    } else {
        match head.varint() {
            Ok(len) => len,
            // Up to four bytes, of which not all are here.
            Err(_) if bytes.len() < 5 => return Ok(None),
            Err(malformed) => return Err(malformed),
        }
    };
    if len > PACKET_BYTES_MAX {
        return Err(Malformed("it says that it is larger than 1 MiB"));
    }
    let Some(body) = head.0.get(..len) else { return Ok(None) };
    let packet = body_of(*first, Reader(body), version)?;
    Ok(Some((packet, bytes.len() - head.0.len() + len)))
}

fn body_of(first: u8, mut body: Reader<'_>, version: Version) -> Result<Packet<'_>, Malformed> {
    let ack = |kind, mut body: Reader<'_>| {
        let packet_id = body.u16()?;
        Ok(Packet::Ack { kind, packet_id, code: body.u8().unwrap_or(0) })
    };
    match first >> 4 {
        1 => {
            body.text()?;
            let version = if body.u8()? == 5 { Version::V5 } else { Version::V311 };
            Ok(Packet::Connect { version })
        }
        2 => {
            let (flags, code) = (body.u8()?, body.u8()?);
            let receive_maximum = if version == Version::V5 && !body.0.is_empty() {
                receive_maximum(Reader(body.properties(version)?))
            } else {
                u16::MAX
            };
            Ok(Packet::Connack { present: flags & 1 == 1, code, receive_maximum })
        }
        3 => {
            let qos = QoS::from_bits((first >> 1) & 3).ok_or(Malformed("QoS 3"))?;
            let topic = body.text()?;
            let packet_id = if qos == QoS::AtMostOnce { 0 } else { body.u16()? };
            body.properties(version)?;
            Ok(Packet::Publish { qos, topic, packet_id, payload: body.0 })
        }
        4 => ack(AckKind::Puback, body),
        5 => ack(AckKind::Pubrec, body),
        6 => ack(AckKind::Pubrel, body),
        7 => ack(AckKind::Pubcomp, body),
        8 => {
            let packet_id = body.u16()?;
            body.properties(version)?;
            let filter = body.text()?;
            let qos = QoS::from_bits(body.u8()? & 3).ok_or(Malformed("QoS 3"))?;
            Ok(Packet::Subscribe { packet_id, filter, qos })
        }
        9 => {
            body.u16()?;
            body.properties(version)?;
            Ok(Packet::Suback { code: body.u8()? })
        }
        12 => Ok(Packet::Pingreq),
        14 => Ok(Packet::Disconnect { code: body.u8().unwrap_or(0) }),
        other => Ok(Packet::Other(other)),
    }
}

/// Receive Maximum among the properties of CONNACK (§3.2.2.3), as far as they are known.
fn receive_maximum(mut properties: Reader<'_>) -> u16 {
    let mut found = u16::MAX;
    while let Ok(name) = properties.u8() {
        let skipped = match name {
            0x21 => properties.u16().map(|value| found = value),
            0x13 | 0x22 => properties.take(2).map(drop),
            0x11 | 0x27 => properties.take(4).map(drop),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => properties.take(1).map(drop),
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => properties.text().map(drop),
            0x26 => properties.text().and_then(|_| properties.text()).map(drop),
            _ => Err(Malformed("a property that CONNACK does not have")),
        };
        if skipped.is_err() {
            break;
        }
    }
    found
}

/// What a CONNECT says.
#[derive(Debug, Clone, Default)]
pub struct Connect<'a> {
    /// What is spoken.
    pub version: Version,
    /// Clean Start.
    pub clean_start: bool,
    /// The Client Identifier.
    pub client_id: &'a str,
    /// Seconds; 0 for none.
    pub keep_alive: u16,
    /// Who it is, where that is asked.
    pub user: Option<&'a str>,
    /// With a user only.
    pub password: Option<&'a str>,
}

/// For how long a persistent Session outlives its connection, in MQTT 5.
const SESSION_EXPIRY_S: u32 = 86_400;

/// The length before a text: nothing that we send is as long as to be cut.
fn len_of(text: &[u8]) -> [u8; 2] {
    u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&len_of(text));
    out.extend_from_slice(text);
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn put_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    put_varint(out, body.len());
    out.extend_from_slice(body);
}

/// Puts a CONNECT.
pub fn put_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let mut body = Vec::new();
    put_text(&mut body, b"MQTT");
    body.push(if connect.version == Version::V5 { 5 } else { 4 });
    let mut flags = if connect.clean_start { 2 } else { 0 };
    flags |= if connect.user.is_some() { 0x80 } else { 0 };
    flags |= if connect.password.is_some() { 0x40 } else { 0 };
    body.push(flags);
    body.extend_from_slice(&connect.keep_alive.to_be_bytes());
    if connect.version == Version::V5 {
        if connect.clean_start {
            body.push(0);
        } else {
            body.extend_from_slice(&[5, 0x11]);
            body.extend_from_slice(&SESSION_EXPIRY_S.to_be_bytes());
        }
    }
    put_text(&mut body, connect.client_id.as_bytes());
    for text in [connect.user, connect.password].into_iter().flatten() {
        put_text(&mut body, text.as_bytes());
    }
    put_packet(out, 0x10, &body);
}

/// Puts a CONNACK.
pub fn put_connack(out: &mut Vec<u8>, version: Version) {
    match version {
        Version::V311 => put_packet(out, 0x20, &[0, 0]),
        Version::V5 => put_packet(out, 0x20, &[0, 0, 0]),
    }
}

/// Puts a SUBSCRIBE for one filter.
pub fn put_subscribe(out: &mut Vec<u8>, version: Version, filter: &str, qos: QoS) {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    put_text(&mut body, filter.as_bytes());
    body.push(qos.bits());
    put_packet(out, 0x82, &body);
}

/// Puts a SUBACK for one filter.
pub fn put_suback(out: &mut Vec<u8>, version: Version, packet_id: u16, qos: QoS) {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.push(qos.bits());
    put_packet(out, 0x90, &body);
}

/// Puts PUBACK, PUBREC, PUBREL or PUBCOMP.
#[inline]
pub fn put_ack(out: &mut Vec<u8>, kind: AckKind, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
}

/// Puts a PINGRESP.
pub fn put_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd0, 0]);
}

/// Puts a DISCONNECT, with which a Session of MQTT 5 keeps its expiry.
pub fn put_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xe0, 0]);
}

/// A PUBLISH as it goes to a subscriber, put in pieces.
#[inline]
pub fn put_publish(
    out: &mut Vec<u8>,
    version: Version,
    (qos, packet_id): (QoS, u16),
    topic: &[u8],
    payload: &[u8],
) {
    let id_len = if qos == QoS::AtMostOnce { 0 } else { 2 };
    let properties = if version == Version::V5 { &[0][..] } else { &[] };
    out.push(0x30 | qos.bits() << 1);
    put_varint(out, 2 + topic.len() + id_len + properties.len() + payload.len());
    out.extend_from_slice(&len_of(topic));
    out.extend_from_slice(topic);
    if qos != QoS::AtMostOnce {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    out.extend_from_slice(properties);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], version: Version) -> Packet<'_> {
        let (packet, len) = decode(bytes, version).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        packet
    }

    #[test]
    fn a_publish_comes_back_as_it_was_put() {
        for version in [Version::V311, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for len in [0, 100, 200, 20_000] {
                    let (mut out, payload) = (Vec::new(), vec![7; len]);
                    let packet_id = if qos == QoS::AtMostOnce { 0 } else { 0x1234 };
                    put_publish(&mut out, version, (qos, packet_id), b"a/b", &payload);
                    let expected =
                        Packet::Publish { qos, topic: b"a/b", packet_id, payload: &payload };
                    assert_eq!(whole(&out, version), expected);
                    for cut in 0..out.len().min(8) {
                        assert_eq!(decode(&out[..cut], version), Ok(None), "{cut} bytes");
                    }
                }
            }
        }
    }

    #[test]
    fn packets_that_a_client_sends_are_those_of_the_specification() {
        let mut out = Vec::new();
        let connect = Connect { client_id: "c", clean_start: true, ..Connect::default() };
        put_connect(&mut out, &connect);
        assert_eq!(out, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c");
        out.clear();
        let (version, user) = (Version::V5, Some("u"));
        put_connect(&mut out, &Connect { version, client_id: "c", user, ..Connect::default() });
        assert_eq!(out, b"\x10\x16\0\x04MQTT\x05\x80\0\0\x05\x11\0\x01\x51\x80\0\x01c\0\x01u");
        assert_eq!(whole(&out, Version::V311), Packet::Connect { version: Version::V5 });
        out.clear();
        put_subscribe(&mut out, Version::V5, "a/#", QoS::AtLeastOnce);
        assert_eq!(out, b"\x82\x09\0\x01\0\0\x03a/#\x01");
        out.clear();
        put_ack(&mut out, AckKind::Pubrel, 0x102);
        assert_eq!(out, [0x62, 2, 1, 2]);
    }

    #[test]
    fn what_a_broker_answers_is_understood() {
        let connack = b"\x20\x0c\x01\0\x09\x24\x01\x21\0\x40\x26\0\0\0";
        let connack = [&connack[..], b"\0"].concat();
        let connack = [&[0x20, 13, 1, 0, 10][..], &connack[5..]].concat();
        let expected = Packet::Connack { present: true, code: 0, receive_maximum: 64 };
        assert_eq!(whole(&connack, Version::V5), expected);
        let expected = Packet::Connack { present: false, code: 5, receive_maximum: u16::MAX };
        assert_eq!(whole(&[0x20, 2, 0, 5], Version::V311), expected);
        assert_eq!(whole(&[0x90, 3, 0, 1, 0x80], Version::V311), Packet::Suback { code: 0x80 });
        let puback = |code| Packet::Ack { kind: AckKind::Puback, packet_id: 9, code };
        assert_eq!(whole(&[0x40, 2, 0, 9], Version::V5), puback(0));
        assert_eq!(whole(&[0x40, 4, 0, 9, 0x97, 0], Version::V5), puback(0x97));
    }

    #[test]
    fn bytes_that_are_no_packet_are_refused() {
        assert!(decode(&[0x30, 0xff, 0xff, 0xff, 0xff, 1], Version::V311).is_err());
        assert!(decode(&[0x30, 0xff, 0xff, 0xff, 0x7f], Version::V311).is_err(), "256 MiB");
        assert!(decode(&[0x36, 4, 0, 0, 0, 1], Version::V311).is_err(), "QoS 3");
        assert!(decode(&[0x40, 1, 0], Version::V311).is_err());
    }
}

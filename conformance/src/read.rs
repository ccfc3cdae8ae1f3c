//! Packets that were read, taken apart.
//!
//! What does not follow the specification is an error: a broker's words are part of what is tested.

use crate::number::{PUBLISH, USER_PROPERTY};
use crate::packet::{Props, Publish, Version, frame};

/// A packet that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Packet type and flags.
    pub first: u8,
    /// What follows the Remaining Length.
    pub body: Vec<u8>,
}

impl Packet {
    /// The packet type.
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The bytes, as short hexadecimal text.
    pub fn hex(&self) -> String {
        hex(&frame(self.first, &[&self.body]))
    }
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", kind_name(self.kind()), self.hex())
    }
}

/// Bytes as text; of long ones the beginning.
pub fn hex(bytes: &[u8]) -> String {
    let shown: Vec<_> = bytes.iter().take(HEX_SHOWN).map(|it| format!("{it:02x}")).collect();
    let rest = bytes.len().saturating_sub(HEX_SHOWN);
    if rest == 0 { shown.join(" ") } else { format!("{} +{rest} bytes", shown.join(" ")) }
}

/// The name of a packet type (§2.1.2).
pub fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; 16] = [
        "reserved type 0",
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "AUTH",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("no type")
}

/// Takes properties apart: identifiers with the bytes of their values.
///
/// # Errors
/// An identifier that does not exist, or a value that does not end where it should.
pub fn properties(block: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, String> {
    let mut reader = Reader(block);
    let mut found = Vec::new();
    while !reader.0.is_empty() {
        let id = reader.byte()?;
        let before = reader.0;
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(reader.take(1)?),
            0x13 | 0x21 | 0x22 | 0x23 => drop(reader.take(2)?),
            0x02 | 0x11 | 0x18 | 0x27 => drop(reader.take(4)?),
            0x0B => drop(reader.var_int()?),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => drop(reader.text()?),
            USER_PROPERTY => {
                reader.text()?;
                reader.text()?;
            }
            _ => return Err(format!("no property has the identifier {id:#04x}")),
        }
        let used = before.len() - reader.0.len();
        found.push((id, before.iter().take(used).copied().collect()));
    }
    Ok(found)
}

/// Reads fields off the front.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let Some((front, rest)) = self.0.split_at_checked(count) else {
            return Err(format!("expected {count} more bytes, found {}", self.0.len()));
        };
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    pub(crate) fn two(&mut self) -> Result<u16, String> {
        Ok(self.take(2)?.iter().fold(0, |value, byte| value << 8 | u16::from(*byte)))
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8], String> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    /// [MQTT-1.5.5-1]
    pub(crate) fn var_int(&mut self) -> Result<usize, String> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return if shortest { Ok(value) } else { Err("a length in too many bytes".into()) };
            }
        }
        Err("a length of more than four bytes".into())
    }
}

impl Publish {
    /// What is wrong with it as what a Server sends, or itself.
    pub(crate) fn parse(packet: &Packet, version: Version) -> Result<Self, String> {
        let qos = (packet.first >> 1) & 3;
        if packet.first >> 4 != PUBLISH || qos == 3 {
            return Err(format!("expected a PUBLISH, found {packet}"));
        }
        let mut reader = Reader(&packet.body);
        let topic = reader.text()?.to_vec();
        let id = if qos == 0 { 0 } else { reader.two()? };
        if qos > 0 && id == 0 {
            return Err(format!("a packet identifier of 0 in {packet}"));
        }
        let props = match version {
            Version::V311 => Props::new(),
            Version::V5 => {
                let length = reader.var_int()?;
                Props(reader.take(length)?.to_vec())
            }
        };
        let (dup, retain) = (packet.first & 8 != 0, packet.first & 1 != 0);
        Ok(Self { dup, qos, retain, topic, id, props, payload: reader.0.to_vec() })
    }

    /// The values of one property, each as the bytes it was sent in.
    pub fn property(&self, id: u8) -> Result<Vec<Vec<u8>>, String> {
        Ok(properties(&self.props.0)?.into_iter().filter(|it| it.0 == id).map(|it| it.1).collect())
    }
}

/// How many bytes of a packet are shown.
const HEX_SHOWN: usize = 96;

//! The small packets: PUBACK, PUBREC, PUBREL, PUBCOMP (§3.4 to §3.7), DISCONNECT (§3.14) and AUTH
//! (§3.15).
//!
//! In MQTT 5.0 their tails may be left out: no Property Length means no properties, no Reason Code
//! means success.

use super::malformed::{Malformed, TooLarge};
use super::primitive::{Reader, put_header, put_u16};
use super::properties::Properties;
use super::reason::ReasonCode;
use super::types::{PacketId, PacketKind, Version};

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Of the PUBLISH that it answers.
    pub packet_id: PacketId,
    /// [`ReasonCode::Success`] in MQTT 3.1.1.
    pub reason: ReasonCode,
    /// Reason String and User Properties; none in MQTT 3.1.1.
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// The acknowledgement that says no more than that.
    #[inline]
    pub const fn success(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }
    }

    #[inline]
    pub(super) fn decode(
        packet: PacketKind,
        mut reader: Reader<'a>,
        version: Version,
    ) -> Result<Self, Malformed> {
        if version == Version::V311 && reader.left() != 2 {
            return Err(Malformed::RemainingLength { packet, found: reader.left(), expected: 2 });
        }
        let packet_id = reader.packet_id()?;
        if reader.is_empty() {
            return Ok(Self::success(packet_id));
        }
        let (reason, properties) = reason_and_properties(packet, reader)?;
        Ok(Self { packet_id, reason, properties })
    }

    #[inline]
    pub(super) fn encode(
        &self,
        packet: PacketKind,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let plain = self.reason == ReasonCode::Success && self.properties.is_empty();
        if version == Version::V311 || plain {
            let [high, low] = self.packet_id.get().to_be_bytes();
            out.extend_from_slice(&[packet.first_byte(), 2, high, low]);
            return Ok(());
        }
        let properties = tail_len(&self.properties);
        put_header(out, packet.first_byte(), 3 + properties)?;
        put_u16(out, self.packet_id.get());
        out.push(self.reason.as_u8());
        if properties != 0 {
            self.properties.put(version, out);
        }
        Ok(())
    }
}

/// DISCONNECT: why the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// [`ReasonCode::NormalDisconnection`] in MQTT 3.1.1.
    pub reason: ReasonCode,
    /// None in MQTT 3.1.1.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(super) fn decode(reader: Reader<'a>, version: Version) -> Result<Self, Malformed> {
        let packet = PacketKind::Disconnect;
        if version == Version::V311 && !reader.is_empty() {
            return Err(Malformed::RemainingLength { packet, found: reader.left(), expected: 0 });
        }
        if reader.is_empty() {
            let reason = ReasonCode::NormalDisconnection;
            return Ok(Self { reason, properties: Properties::EMPTY });
        }
        let (reason, properties) = reason_and_properties(packet, reader)?;
        Ok(Self { reason, properties })
    }

    /// Always the long form in MQTT 5.0: some client libraries cannot read the others.
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let first = PacketKind::Disconnect.first_byte();
        if version == Version::V311 {
            return put_header(out, first, 0);
        }
        put_header(out, first, 1 + self.properties.encoded_len(version))?;
        out.push(self.reason.as_u8());
        self.properties.put(version, out);
        Ok(())
    }
}

/// AUTH: a step of enhanced authentication (§4.12). Only in MQTT 5.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, Continue Authentication or Re-authenticate.
    pub reason: ReasonCode,
    /// With an Authentication Method, but for the bare success that §3.15.2.1 allows to be empty.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn decode(reader: Reader<'a>) -> Result<Self, Malformed> {
        if reader.is_empty() {
            return Ok(Self { reason: ReasonCode::Success, properties: Properties::EMPTY });
        }
        let (reason, properties) = reason_and_properties(PacketKind::Auth, reader)?;
        if properties.authentication_method().is_none() {
            return Err(Malformed::AuthWithoutMethod);
        }
        Ok(Self { reason, properties })
    }

    /// Written the same in every version: there is no AUTH to send in MQTT 3.1.1.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let first = PacketKind::Auth.first_byte();
        if self.reason == ReasonCode::Success && self.properties.is_empty() {
            return put_header(out, first, 0);
        }
        put_header(out, first, 1 + self.properties.encoded_len(Version::V5))?;
        out.push(self.reason.as_u8());
        self.properties.put(Version::V5, out);
        Ok(())
    }
}

/// A Reason Code and, unless the packet ends there, properties; then the end. MQTT 5.0 only.
#[inline]
fn reason_and_properties<'a>(
    packet: PacketKind,
    mut reader: Reader<'a>,
) -> Result<(ReasonCode, Properties<'a>), Malformed> {
    let reason = read_reason(packet, &mut reader)?;
    if reader.is_empty() {
        return Ok((reason, Properties::EMPTY));
    }
    let properties = Properties::read(&mut reader, packet, Version::V5)?;
    reader.end()?;
    Ok((reason, properties))
}

/// A Reason Code that this packet may carry (§2.4).
#[inline]
pub(super) fn read_reason(
    packet: PacketKind,
    reader: &mut Reader<'_>,
) -> Result<ReasonCode, Malformed> {
    let found = reader.u8()?;
    ReasonCode::from_u8(found)
        .filter(|reason| reason.is_allowed_in(packet))
        .ok_or(Malformed::ReasonCode { packet, found })
}

/// Properties at the end of an acknowledgement, which has no Property Length without them.
const fn tail_len(properties: &Properties<'_>) -> usize {
    if properties.is_empty() { 0 } else { properties.encoded_len(Version::V5) }
}

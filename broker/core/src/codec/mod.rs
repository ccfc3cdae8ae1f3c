//! Bytes to packets and back, for MQTT 3.1.1 and 5.0.
//!
//! Packets borrow from the bytes they were decoded from: nothing is copied and nothing allocated.
//! Decoding is strict. Whatever one packet alone can get wrong is a [`Malformed`] here, so that the
//! code behind never meets it; what takes a Session to judge is left to the Session. The codec
//! serves both sides: it decodes what only a Server may send as well, see
//! [`Publish::has_subscription_identifier`].

mod connect;
mod control;
mod frame;
mod malformed;
mod primitive;
mod properties;
mod property;
mod publish;
mod reason;
mod subscribe;
mod topic_check;
mod types;

pub use connect::{Connack, Connect, Will};
pub use control::{Ack, Auth, Disconnect};
pub use frame::{Frame, frame};
pub use malformed::{Malformed, TooLarge};
pub use primitive::{STRING_BYTES_MAX, VAR_INT_MAX};
pub use properties::{Properties, PropertiesBuf};
pub use property::Property;
pub use publish::{Publish, PublishParts};
pub use reason::ReasonCode;
pub use subscribe::{
    RetainHandling, Suback, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe,
    put_subscribe_filter, put_unsubscribe_filter,
};
pub use types::{PacketId, PacketKind, QoS, Version};

use primitive::{Reader, put_header};

/// One MQTT Control Packet (§3), borrowed from the bytes it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// §3.1
    Connect(Connect<'a>),
    /// §3.2
    Connack(Connack<'a>),
    /// §3.3
    Publish(Publish<'a>),
    /// §3.4
    Puback(Ack<'a>),
    /// §3.5
    Pubrec(Ack<'a>),
    /// §3.6
    Pubrel(Ack<'a>),
    /// §3.7
    Pubcomp(Ack<'a>),
    /// §3.8
    Subscribe(Subscribe<'a>),
    /// §3.9
    Suback(Suback<'a>),
    /// §3.10
    Unsubscribe(Unsubscribe<'a>),
    /// §3.11; in MQTT 3.1.1 without reasons.
    Unsuback(Suback<'a>),
    /// §3.12
    Pingreq,
    /// §3.13
    Pingresp,
    /// §3.14
    Disconnect(Disconnect<'a>),
    /// §3.15, MQTT 5.0 only.
    Auth(Auth<'a>),
}

/// Decodes the packet at the front of `bytes`: the packet, and how many bytes it took. `Ok(None)`:
/// more bytes are needed.
///
/// `version` is what the CONNECT of this connection asked for; a CONNECT itself is read by what it
/// says. `packet_bytes_max` limits the whole packet with its fixed header, and is enforced as soon
/// as that header is there.
///
/// # Errors
///
/// Why the bytes are no packet. The connection they came on cannot be read any further (§4.13.1).
#[inline]
pub fn decode(
    bytes: &[u8],
    version: Version,
    packet_bytes_max: usize,
) -> Result<Option<(Packet<'_>, usize)>, Malformed> {
    if version == Version::V311 && bytes.first().is_some_and(|first| *first >= 0xF0) {
        return Err(Malformed::AuthBeforeV5);
    }
    let Some(frame) = frame(bytes, packet_bytes_max)? else { return Ok(None) };
    let Some(body) = bytes.get(frame.header_len..frame.total()) else { return Ok(None) };
    let reader = Reader::new(body);
    let packet = match frame.kind {
        PacketKind::Publish => Packet::Publish(Publish::decode(frame.first, reader, version)?),
        PacketKind::Puback => Packet::Puback(Ack::decode(frame.kind, reader, version)?),
        PacketKind::Pubrec => Packet::Pubrec(Ack::decode(frame.kind, reader, version)?),
        PacketKind::Pubrel => Packet::Pubrel(Ack::decode(frame.kind, reader, version)?),
        PacketKind::Pubcomp => Packet::Pubcomp(Ack::decode(frame.kind, reader, version)?),
        PacketKind::Connect => Packet::Connect(Connect::decode(reader)?),
        PacketKind::Connack => Packet::Connack(Connack::decode(reader, version)?),
        PacketKind::Subscribe => Packet::Subscribe(Subscribe::decode(reader, version)?),
        PacketKind::Suback => Packet::Suback(Suback::decode(frame.kind, reader, version)?),
        PacketKind::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(reader, version)?),
        PacketKind::Unsuback => Packet::Unsuback(Suback::decode(frame.kind, reader, version)?),
        PacketKind::Pingreq => Packet::Pingreq,
        PacketKind::Pingresp => Packet::Pingresp,
        PacketKind::Disconnect => Packet::Disconnect(Disconnect::decode(reader, version)?),
        PacketKind::Auth => Packet::Auth(Auth::decode(reader)?),
        // No first byte announces a will.
        PacketKind::Will => return Err(Malformed::PacketType),
    };
    Ok(Some((packet, frame.total())))
}

impl Packet<'_> {
    /// Which packet it is.
    pub const fn kind(&self) -> PacketKind {
        match self {
            Self::Connect(_) => PacketKind::Connect,
            Self::Connack(_) => PacketKind::Connack,
            Self::Publish(_) => PacketKind::Publish,
            Self::Puback(_) => PacketKind::Puback,
            Self::Pubrec(_) => PacketKind::Pubrec,
            Self::Pubrel(_) => PacketKind::Pubrel,
            Self::Pubcomp(_) => PacketKind::Pubcomp,
            Self::Subscribe(_) => PacketKind::Subscribe,
            Self::Suback(_) => PacketKind::Suback,
            Self::Unsubscribe(_) => PacketKind::Unsubscribe,
            Self::Unsuback(_) => PacketKind::Unsuback,
            Self::Pingreq => PacketKind::Pingreq,
            Self::Pingresp => PacketKind::Pingresp,
            Self::Disconnect(_) => PacketKind::Disconnect,
            Self::Auth(_) => PacketKind::Auth,
        }
    }

    /// The specification's name for it, such as `PUBLISH`.
    pub const fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Appends the packet to `out`. Properties, and Reason Codes but for CONNACK and SUBACK, are
    /// left out in MQTT 3.1.1. A CONNECT is written in its own version.
    ///
    /// Takes packets at their word: one that was decoded, or filled with values in their ranges,
    /// decodes again.
    ///
    /// # Errors
    ///
    /// A string, or the packet, is longer than its length field can say; nothing was appended. The
    /// receiver's Maximum Packet Size is the caller's to keep.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        match self {
            Self::Publish(publish) => publish.encode(version, out),
            Self::Puback(ack) | Self::Pubrec(ack) | Self::Pubrel(ack) | Self::Pubcomp(ack) => {
                ack.encode(self.kind(), version, out)
            }
            Self::Connect(connect) => connect.encode(out),
            Self::Connack(connack) => connack.encode(version, out),
            Self::Subscribe(subscribe) => subscribe.encode(version, out),
            Self::Suback(suback) | Self::Unsuback(suback) => {
                suback.encode(self.kind(), version, out)
            }
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Self::Pingreq | Self::Pingresp => put_header(out, self.kind().first_byte(), 0),
            Self::Disconnect(disconnect) => disconnect.encode(version, out),
            Self::Auth(auth) => auth.encode(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_id_is_never_0() {
        assert_eq!(PacketId::new(0), None);
        assert_eq!(PacketId::new(1), Some(PacketId::MIN));
        assert_eq!(PacketId::MAX.get(), 65_535);
    }

    #[test]
    fn auth_in_v311_is_refused_at_its_first_byte() {
        assert_eq!(decode(&[0xF0], Version::V311, 100), Err(Malformed::AuthBeforeV5));
        assert_eq!(decode(&[0xF0, 0], Version::V311, 100), Err(Malformed::AuthBeforeV5));
        assert_eq!(decode(&[0xF0], Version::V5, 100), Ok(None));
    }

    #[test]
    fn what_follows_a_packet_is_left_alone() {
        let bytes = [0xC0, 0x00, 0xFF, 0xFF];
        assert_eq!(decode(&bytes, Version::V5, 100), Ok(Some((Packet::Pingreq, 2))));
    }

    #[test]
    fn a_large_packet_is_refused_before_its_body_arrives() {
        let expected = Malformed::PacketTooLarge { bytes: 131, max: 130 };
        assert_eq!(decode(&[0x30, 0x80, 0x01], Version::V5, 130), Err(expected));
        assert_eq!(decode(&[0x30, 0x80, 0x01], Version::V5, 131), Ok(None));
    }

    #[test]
    fn names_are_those_of_the_specification() {
        assert_eq!(Packet::Pingreq.name(), "PINGREQ");
        assert_eq!(Version::V311.to_string(), "3.1.1");
    }
}

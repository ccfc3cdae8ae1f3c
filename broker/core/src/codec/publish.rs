//! PUBLISH (§3.3): the packet, and the fast way to write it for many recipients.
//!
//! Whether an empty Topic Name stands for a known Topic Alias, and whether a Client may send what
//! it sent, is not known here.

use super::malformed::{Malformed, TooLarge};
use super::primitive::{
    Reader, VAR_INT_MAX, put_header, put_string, put_u16, put_u32, put_var_int, string_len,
    var_int_len,
};
use super::properties::Properties;
use super::property::id;
use super::topic_check::{TopicFault, check_topic_name};
use super::types::{PacketId, PacketKind, QoS, Version};

/// A PUBLISH: an Application Message on one hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether it may have been sent before; never with QoS 0 ([MQTT-3.3.1-2]).
    pub dup: bool,
    /// Its QoS on this hop.
    pub qos: QoS,
    /// RETAIN (§3.3.1.3).
    pub retain: bool,
    /// Free of wildcards; empty only beside a Topic Alias (§3.3.2.1).
    pub topic: &'a str,
    /// There with QoS 1 and 2, and only there ([MQTT-2.2.1-2]).
    pub packet_id: Option<PacketId>,
    /// None in MQTT 3.1.1.
    pub properties: Properties<'a>,
    /// Of any length, 0 included.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    #[inline]
    pub(super) fn decode(
        first: u8,
        mut reader: Reader<'a>,
        version: Version,
    ) -> Result<Self, Malformed> {
        let qos = QoS::from_u8(first >> 1 & 0b11).ok_or(Malformed::PublishQos3)?;
        let topic = check_topic_name(reader.binary()?)?
            .map_err(|TopicFault { found, at }| Malformed::TopicWildcard { found, at })?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = Properties::read(&mut reader, PacketKind::Publish, version)?;
        if topic.is_empty() && properties.topic_alias().is_none() {
            return Err(match version {
                Version::V311 => Malformed::TopicEmpty,
                Version::V5 => Malformed::TopicEmptyWithoutAlias,
            });
        }
        let (dup, retain) = (first & 0b1000 != 0, first & 0b0001 != 0);
        let payload = reader.rest();
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload })
    }

    #[inline]
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let id_len = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let remaining = string_len(self.topic.as_bytes())?
            + id_len
            + self.properties.encoded_len(version)
            + self.payload.len();
        put_header(out, first_byte(self.dup, self.qos, self.retain), remaining)?;
        put_string(out, self.topic);
        if self.qos != QoS::AtMostOnce {
            put_u16(out, self.packet_id.map_or(0, PacketId::get));
        }
        self.properties.put(version, out);
        out.extend_from_slice(self.payload);
        Ok(())
    }

    /// Whether a Subscription Identifier stands in it, which only a Server may put there
    /// ([MQTT-3.3.4-6]).
    pub fn has_subscription_identifier(&self) -> bool {
        self.properties.subscription_identifier().is_some()
    }
}

/// A PUBLISH in parts: the fast path of delivery, which builds no [`Properties`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishParts<'a> {
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Its QoS on this hop.
    pub qos: QoS,
    /// RETAIN (§3.3.1.3).
    pub retain: bool,
    /// Free of wildcards; empty only beside a Topic Alias.
    pub topic: &'a str,
    /// With QoS 1 and 2; `None` leaves two zero bytes for it, to be patched before it is sent.
    pub packet_id: Option<PacketId>,
    /// Message Expiry Interval, seconds.
    pub message_expiry: Option<u32>,
    /// Subscription Identifiers, each 1 to 268,435,455.
    pub subscription_ids: &'a [u32],
    /// Topic Alias, not 0.
    pub topic_alias: Option<u16>,
    /// More properties, as [`Properties::copy_forwarded`] gives them.
    pub forwarded: &'a [u8],
    /// How many bytes of payload follow the head.
    pub payload_len: usize,
}

impl PublishParts<'_> {
    /// The whole packet in bytes, payload included: what Maximum Packet Size limits.
    pub fn packet_len(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + var_int_len(remaining) + remaining
    }

    /// Appends everything but the payload, which the caller appends or sends after it.
    ///
    /// Gives the offset of the Packet Identifier from the packet's first byte, where a copy for
    /// another recipient gets its own; nothing with QoS 0, which has none.
    ///
    /// # Errors
    ///
    /// The topic or the packet is longer than its length field can say; nothing was appended.
    #[inline]
    pub fn encode_head(
        &self,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, TooLarge> {
        let start = out.len();
        string_len(self.topic.as_bytes())?;
        let remaining = self.remaining(version);
        put_header(out, first_byte(self.dup, self.qos, self.retain), remaining)?;
        put_string(out, self.topic);
        let packet_id_at = match self.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let at = out.len() - start;
                put_u16(out, self.packet_id.map_or(0, PacketId::get));
                Some(at)
            }
        };
        if version == Version::V5 {
            // The packet is measured: its properties fit.
            put_var_int(out, u32::try_from(self.properties_len()).unwrap_or(VAR_INT_MAX));
            if let Some(alias) = self.topic_alias {
                out.push(id::TOPIC_ALIAS);
                put_u16(out, alias);
            }
            if let Some(seconds) = self.message_expiry {
                out.push(id::MESSAGE_EXPIRY);
                put_u32(out, seconds);
            }
            for subscription_id in self.subscription_ids {
                out.push(id::SUBSCRIPTION_IDENTIFIER);
                put_var_int(out, *subscription_id);
            }
            out.extend_from_slice(self.forwarded);
        }
        Ok(packet_id_at)
    }

    fn remaining(&self, version: Version) -> usize {
        let properties = match version {
            Version::V311 => 0,
            Version::V5 => var_int_len(self.properties_len()) + self.properties_len(),
        };
        let id_len = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        2 + self.topic.len() + id_len + properties + self.payload_len
    }

    fn properties_len(&self) -> usize {
        let ids: usize = self.subscription_ids.iter().map(|id| 1 + var_int_len(*id as usize)).sum();
        let alias = if self.topic_alias.is_some() { 3 } else { 0 };
        let expiry = if self.message_expiry.is_some() { 5 } else { 0 };
        alias + expiry + ids + self.forwarded.len()
    }
}

#[inline]
const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    PacketKind::Publish.first_byte() | (dup as u8) << 3 | qos.as_u8() << 1 | retain as u8
}

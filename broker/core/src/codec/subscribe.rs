//! SUBSCRIBE (§3.8), UNSUBSCRIBE (§3.10) and their acknowledgements (§3.9, §3.11).
//!
//! Topic Filters stay in the packet's bytes, checked once; reading them back cannot fail. MQTT 3.1.1
//! knows no Shared Subscriptions: there `$share/…` is a Topic Filter like any other to the codec.

use super::malformed::{Malformed, TooLarge};
use super::primitive::{Reader, put_header, put_string, put_u16};
use super::properties::Properties;
use super::reason::ReasonCode;
use super::types::{PacketId, PacketKind, QoS, Version};

/// SUBSCRIBE: at least one Topic Filter with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Of this SUBSCRIBE.
    pub packet_id: PacketId,
    /// None in MQTT 3.1.1.
    pub properties: Properties<'a>,
    filters: &'a [u8],
}

/// One Topic Filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// Valid by §4.7, with its `$share/…` if it has one.
    pub filter: &'a str,
    /// How to deliver what it matches.
    pub options: SubscriptionOptions,
}

/// How a Client wants to get what a Topic Filter matches (§3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscriptionOptions {
    /// At most this QoS.
    pub qos: QoS,
    /// Not what the Client published itself. False in MQTT 3.1.1.
    pub no_local: bool,
    /// RETAIN as the publisher set it. False in MQTT 3.1.1.
    pub retain_as_published: bool,
    /// What of the retained messages is sent now. `Send` in MQTT 3.1.1.
    pub retain_handling: RetainHandling,
}

/// Which retained messages a SUBSCRIBE brings (§3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match.
    #[default]
    Send = 0,
    /// All that match, if the subscription did not exist.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

impl SubscriptionOptions {
    /// Reads the options byte.
    ///
    /// # Errors
    ///
    /// QoS 3, Retain Handling 3, or reserved bits, which in MQTT 3.1.1 are all but the QoS
    /// ([MQTT-3.8.3-5]).
    #[inline]
    pub const fn from_u8(byte: u8, version: Version) -> Result<Self, Malformed> {
        let reserved = match version {
            Version::V311 => 0b1111_1100,
            Version::V5 => 0b1100_0000,
        };
        if byte & reserved != 0 {
            return Err(Malformed::SubscriptionReservedBits { found: byte });
        }
        let Some(qos) = QoS::from_u8(byte & 0b11) else {
            return Err(Malformed::SubscriptionQos3);
        };
        let retain_handling = match byte >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Malformed::RetainHandling3),
        };
        Ok(Self {
            qos,
            no_local: byte & 0b100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }

    /// The options byte.
    #[inline]
    pub const fn as_u8(self, version: Version) -> u8 {
        match version {
            Version::V311 => self.qos.as_u8(),
            Version::V5 => {
                self.qos.as_u8()
                    | (self.no_local as u8) << 2
                    | (self.retain_as_published as u8) << 3
                    | (self.retain_handling as u8) << 4
            }
        }
    }
}

impl<'a> Subscribe<'a> {
    /// A SUBSCRIBE of Topic Filters as [`put_subscribe_filter`] writes them.
    ///
    /// # Errors
    ///
    /// What decoding such a SUBSCRIBE would refuse.
    pub fn new(
        packet_id: PacketId,
        properties: Properties<'a>,
        filters: &'a [u8],
        version: Version,
    ) -> Result<Self, Malformed> {
        let mut reader = Reader::new(filters);
        if reader.is_empty() {
            return Err(Malformed::NoFilters { packet: PacketKind::Subscribe });
        }
        while !reader.is_empty() {
            let shared = check_filter(reader.string()?, version)?;
            let options = SubscriptionOptions::from_u8(reader.u8()?, version)?;
            if shared && options.no_local {
                return Err(Malformed::NoLocalOnShared);
            }
        }
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, Malformed> {
        let packet_id = reader.packet_id()?;
        let properties = Properties::read(&mut reader, PacketKind::Subscribe, version)?;
        Self::new(packet_id, properties, reader.rest(), version)
    }

    /// The Topic Filters in their order.
    pub fn filters(&self) -> impl Iterator<Item = SubscribeFilter<'a>> + use<'a> {
        let mut reader = Reader::new(self.filters);
        std::iter::from_fn(move || {
            let filter = reader.string().ok()?;
            // Valid options of MQTT 3.1.1 mean the same in 5.0.
            let options = SubscriptionOptions::from_u8(reader.u8().ok()?, Version::V5).ok()?;
            Some(SubscribeFilter { filter, options })
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let remaining = 2 + self.properties.encoded_len(version) + self.filters.len();
        put_header(out, PacketKind::Subscribe.first_byte(), remaining)?;
        put_u16(out, self.packet_id.get());
        self.properties.put(version, out);
        for SubscribeFilter { filter, options } in self.filters() {
            put_string(out, filter);
            out.push(options.as_u8(version));
        }
        Ok(())
    }
}

/// Appends a Topic Filter and its options as they stand in a SUBSCRIBE, for [`Subscribe::new`].
pub fn put_subscribe_filter(
    out: &mut Vec<u8>,
    filter: &str,
    options: SubscriptionOptions,
    version: Version,
) {
    put_string(out, filter);
    out.push(options.as_u8(version));
}

/// UNSUBSCRIBE: at least one Topic Filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Of this UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// User Properties; none in MQTT 3.1.1.
    pub properties: Properties<'a>,
    filters: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// An UNSUBSCRIBE of Topic Filters as [`put_unsubscribe_filter`] writes them.
    ///
    /// # Errors
    ///
    /// What decoding such an UNSUBSCRIBE would refuse.
    pub fn new(
        packet_id: PacketId,
        properties: Properties<'a>,
        filters: &'a [u8],
        version: Version,
    ) -> Result<Self, Malformed> {
        let mut reader = Reader::new(filters);
        if reader.is_empty() {
            return Err(Malformed::NoFilters { packet: PacketKind::Unsubscribe });
        }
        while !reader.is_empty() {
            check_filter(reader.string()?, version)?;
        }
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, Malformed> {
        let packet_id = reader.packet_id()?;
        let properties = Properties::read(&mut reader, PacketKind::Unsubscribe, version)?;
        Self::new(packet_id, properties, reader.rest(), version)
    }

    /// The Topic Filters in their order.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.filters);
        std::iter::from_fn(move || reader.string().ok())
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let remaining = 2 + self.properties.encoded_len(version) + self.filters.len();
        put_header(out, PacketKind::Unsubscribe.first_byte(), remaining)?;
        put_u16(out, self.packet_id.get());
        self.properties.put(version, out);
        out.extend_from_slice(self.filters);
        Ok(())
    }
}

/// Appends a Topic Filter as it stands in an UNSUBSCRIBE, for [`Unsubscribe::new`].
pub fn put_unsubscribe_filter(out: &mut Vec<u8>, filter: &str) {
    put_string(out, filter);
}

/// SUBACK or UNSUBACK: a verdict on each Topic Filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suback<'a> {
    /// Of what it answers.
    pub packet_id: PacketId,
    /// Reason String and User Properties; none in MQTT 3.1.1.
    pub properties: Properties<'a>,
    /// A Reason Code for each Topic Filter, in their order; in MQTT 3.1.1 0, 1, 2 or 0x80 in a
    /// SUBACK and nothing in an UNSUBACK.
    pub reasons: &'a [u8],
}

impl<'a> Suback<'a> {
    pub(super) fn decode(
        packet: PacketKind,
        mut reader: Reader<'a>,
        version: Version,
    ) -> Result<Self, Malformed> {
        if (version, packet) == (Version::V311, PacketKind::Unsuback) && reader.left() != 2 {
            return Err(Malformed::RemainingLength { packet, found: reader.left(), expected: 2 });
        }
        let packet_id = reader.packet_id()?;
        let properties = Properties::read(&mut reader, packet, version)?;
        let reasons = reader.rest();
        if reasons.is_empty() && (version, packet) != (Version::V311, PacketKind::Unsuback) {
            return Err(Malformed::NoReasons { packet });
        }
        for found in reasons.iter().copied() {
            let allowed = match version {
                Version::V311 => matches!(found, 0 | 1 | 2 | 0x80),
                Version::V5 => {
                    ReasonCode::from_u8(found).is_some_and(|code| code.is_allowed_in(packet))
                }
            };
            if !allowed {
                return Err(Malformed::ReasonCode { packet, found });
            }
        }
        Ok(Self { packet_id, properties, reasons })
    }

    /// In MQTT 3.1.1 every failure of a SUBACK is 0x80, and an UNSUBACK has no reasons.
    pub(super) fn encode(
        &self,
        packet: PacketKind,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let bare = (version, packet) == (Version::V311, PacketKind::Unsuback);
        let reasons = if bare { &[] } else { self.reasons };
        let remaining = 2 + self.properties.encoded_len(version) + reasons.len();
        put_header(out, packet.first_byte(), remaining)?;
        put_u16(out, self.packet_id.get());
        self.properties.put(version, out);
        match version {
            Version::V311 => out.extend(reasons.iter().map(|reason| (*reason).min(0x80))),
            Version::V5 => out.extend_from_slice(reasons),
        }
        Ok(())
    }
}

/// Checks a Topic Filter (§4.7.1, §4.8.2), and says whether it is a Shared Subscription's.
fn check_filter(filter: &str, version: Version) -> Result<bool, Malformed> {
    if version == Version::V5
        && let Some(shared) = filter.strip_prefix("$share/")
    {
        let (name, filter) = shared.split_once('/').ok_or(Malformed::ShareFilter)?;
        if name.is_empty() || name.contains(['+', '#']) {
            return Err(Malformed::ShareName);
        }
        if filter.is_empty() {
            return Err(Malformed::ShareFilter);
        }
        check_levels(filter, "$share/".len() + name.len() + 1)?;
        return Ok(true);
    }
    if filter.is_empty() {
        return Err(Malformed::FilterEmpty);
    }
    check_levels(filter, 0)?;
    Ok(false)
}

/// Checks where the wildcards stand; `start` is added to the offsets in errors.
fn check_levels(filter: &str, start: usize) -> Result<(), Malformed> {
    let mut at = start;
    let end = start + filter.len();
    for level in filter.split('/') {
        let level_end = at + level.len();
        if let Some(offset) = level.bytes().position(|byte| matches!(byte, b'+' | b'#')) {
            match level {
                "+" => {}
                "#" if level_end == end => {}
                _ if level.as_bytes().get(offset) == Some(&b'#') => {
                    return Err(Malformed::FilterHash { at: at + offset });
                }
                _ => return Err(Malformed::FilterPlus { at: at + offset }),
            }
        }
        at = level_end + 1;
    }
    Ok(())
}

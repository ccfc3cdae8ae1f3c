//! The small types that packets are made of: version, QoS, Packet Identifier, packet type.
//!
//! At the bottom of the codec: causes, reasons and properties all speak of packets by these.

use std::fmt;
use std::num::NonZeroU16;

/// Which MQTT a connection speaks, by the Protocol Level of its CONNECT (§3.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5.0, level 5.
    V5,
}

impl Version {
    /// The Protocol Level: 4 or 5.
    pub const fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// The version with this Protocol Level.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            4 => Some(Self::V311),
            5 => Some(Self::V5),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// How hard both sides try to deliver (§4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// QoS 1, acknowledged by PUBACK.
    AtLeastOnce = 1,
    /// QoS 2, PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this number: 0, 1 or 2.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire.
    #[inline]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

/// A Packet Identifier (§2.2.1): 1 to 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The smallest.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The largest.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// The identifier with this number; nothing for 0 ([MQTT-2.2.1-3]).
    #[inline]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number, never 0.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The packet types by their number (§2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketKind {
    /// No packet of its own: the Will inside a CONNECT, which has its own properties (§3.1.3.2).
    Will = 0,
    /// §3.1
    Connect = 1,
    /// §3.2
    Connack = 2,
    /// §3.3
    Publish = 3,
    /// §3.4
    Puback = 4,
    /// §3.5
    Pubrec = 5,
    /// §3.6
    Pubrel = 6,
    /// §3.7
    Pubcomp = 7,
    /// §3.8
    Subscribe = 8,
    /// §3.9
    Suback = 9,
    /// §3.10
    Unsubscribe = 10,
    /// §3.11
    Unsuback = 11,
    /// §3.12
    Pingreq = 12,
    /// §3.13
    Pingresp = 13,
    /// §3.14
    Disconnect = 14,
    /// §3.15, MQTT 5.0 only
    Auth = 15,
}

impl PacketKind {
    /// The kind that a packet's first byte announces; nothing for the reserved type 0.
    #[inline]
    pub const fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The specification's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Will => "will",
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The first byte of such a packet, but for the flags of a PUBLISH (§2.1.3).
    #[inline]
    pub(super) const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.flags()
    }

    /// One bit of sixteen, for sets of kinds.
    pub(super) const fn bit(self) -> u16 {
        1 << self as u8
    }

    /// The flags that every packet of this kind has, but for PUBLISH (§2.1.3).
    pub(super) const fn flags(self) -> u8 {
        match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }
}

impl fmt::Display for PacketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

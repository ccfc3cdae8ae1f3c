//! Every way in which bytes fail to be a packet.
//!
//! Both kinds of §1.2 are here, Malformed Packets and those Protocol Errors that one packet shows by
//! itself. What needs a Session to judge (a second CONNECT, an unknown Topic Alias) is not.

use super::reason::ReasonCode;
use super::types::PacketKind;

/// Why bytes are not a packet: one variant per cause, with the numbers that explain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    // The fixed header.
    /// Packet type 0 is reserved (§2.1.2).
    #[error("packet type 0 is reserved")]
    PacketType,
    /// AUTH came with MQTT 5.0.
    #[error("packet type 15 (AUTH) does not exist in MQTT 3.1.1")]
    AuthBeforeV5,
    /// [MQTT-2.1.3-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.6.1-1]
    #[error("{packet} has the fixed header flags {found:#06b}, expected {expected:#06b}")]
    ReservedFlags {
        /// Which packet.
        packet: PacketKind,
        /// The four low bits of the first byte.
        found: u8,
        /// What they must be.
        expected: u8,
    },
    /// [MQTT-3.3.1-4]
    #[error("PUBLISH has QoS 3, expected 0, 1 or 2")]
    PublishQos3,
    /// [MQTT-3.3.1-2]
    #[error("PUBLISH has DUP set at QoS 0")]
    DupWithQos0,
    /// [MQTT-1.5.5-1]
    #[error("variable byte integer takes {bytes} bytes for {value}, expected the fewest")]
    VarIntNotMinimal {
        /// The number it stands for.
        value: u32,
        /// How many bytes it takes.
        bytes: u8,
    },
    /// A variable byte integer that goes on after its fourth byte (§1.5.5).
    #[error("variable byte integer goes on after its fourth byte")]
    VarIntTooLong,
    /// More than the receiver's Maximum Packet Size ([MQTT-3.1.2-24] on the other side).
    #[error("packet of {bytes} bytes exceeds the maximum packet size of {max} bytes")]
    PacketTooLarge {
        /// The whole packet with its fixed header.
        bytes: usize,
        /// What the receiver accepts.
        max: usize,
    },
    /// A packet of one size only that has another.
    #[error("{packet} has a remaining length of {found}, expected {expected}")]
    RemainingLength {
        /// Which packet.
        packet: PacketKind,
        /// What its fixed header says.
        found: usize,
        /// What it must say.
        expected: usize,
    },

    // Fields.
    /// A field that would run past the end of its packet or property list.
    #[error("field of {needed} bytes runs past the end, {left} bytes are left")]
    Short {
        /// What the field takes.
        needed: usize,
        /// What there is.
        left: usize,
    },
    /// Bytes after the last field.
    #[error("{bytes} bytes follow the last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// [MQTT-1.5.4-1]
    #[error("string is not UTF-8 from byte {at} on")]
    Utf8 {
        /// Offset in the string.
        at: usize,
    },
    /// [MQTT-1.5.4-2]
    #[error("string holds U+0000 at byte {at}")]
    Nul {
        /// Offset in the string.
        at: usize,
    },
    /// [MQTT-2.2.1-3], [MQTT-2.2.1-4]
    #[error("packet identifier is 0")]
    PacketIdZero,
    /// A number that §2.4 does not list, or not for this packet.
    #[error("{packet} has the reason code {found:#04x}, which is not one of its own")]
    ReasonCode {
        /// Which packet.
        packet: PacketKind,
        /// The number.
        found: u8,
    },

    // Topics.
    /// [MQTT-4.7.3-1], [MQTT-3.3.2-1]
    #[error("topic name is empty")]
    TopicEmpty,
    /// An empty Topic Name needs a Topic Alias (§3.3.2.1).
    #[error("topic name is empty and there is no topic alias")]
    TopicEmptyWithoutAlias,
    /// [MQTT-3.3.2-2], [MQTT-4.7.1-1]
    #[error("topic name holds the wildcard `{found}` at byte {at}")]
    TopicWildcard {
        /// `#` or `+`.
        found: char,
        /// Offset in the Topic Name.
        at: usize,
    },
    /// A Response Topic is a Topic Name.
    #[error("response topic is empty")]
    ResponseTopicEmpty,
    /// [MQTT-3.3.2-14]
    #[error("response topic holds the wildcard `{found}` at byte {at}")]
    ResponseTopicWildcard {
        /// `#` or `+`.
        found: char,
        /// Offset in the Response Topic.
        at: usize,
    },
    /// [MQTT-3.3.2-8]
    #[error("topic alias is 0")]
    TopicAliasZero,
    /// [MQTT-4.7.3-1]
    #[error("topic filter is empty")]
    FilterEmpty,
    /// [MQTT-4.7.1-1]
    #[error("topic filter has `#` at byte {at}, expected alone in the last level")]
    FilterHash {
        /// Offset in the Topic Filter.
        at: usize,
    },
    /// [MQTT-4.7.1-2]
    #[error("topic filter has `+` at byte {at}, expected alone in its level")]
    FilterPlus {
        /// Offset in the Topic Filter.
        at: usize,
    },
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[error("share name is empty or holds a wildcard")]
    ShareName,
    /// [MQTT-4.8.2-2]
    #[error("share name is not followed by `/` and a topic filter")]
    ShareFilter,

    // CONNECT.
    /// [MQTT-3.1.2-1]
    #[error("protocol name of {bytes} bytes is not `MQTT`")]
    ProtocolName {
        /// Its length.
        bytes: usize,
    },
    /// [MQTT-3.1.2-2]
    #[error("protocol level {level} is not 4 (MQTT 3.1.1) or 5 (MQTT 5.0)")]
    UnsupportedProtocolVersion {
        /// What the Client asks for.
        level: u8,
    },
    /// [MQTT-3.1.2-3]
    #[error("CONNECT has its reserved flag set")]
    ConnectReservedFlag,
    /// [MQTT-3.1.2-12]
    #[error("CONNECT has a will with QoS 3, expected 0, 1 or 2")]
    WillQos3,
    /// [MQTT-3.1.2-11]
    #[error("CONNECT has a will QoS of {qos} without a will")]
    WillQosWithoutWill {
        /// The two bits.
        qos: u8,
    },
    /// [MQTT-3.1.2-13]
    #[error("CONNECT has will retain set without a will")]
    WillRetainWithoutWill,
    /// MQTT 3.1.1 only: its [MQTT-3.1.2-22].
    #[error("CONNECT of MQTT 3.1.1 has a password without a user name")]
    PasswordWithoutUserName,

    // CONNACK.
    /// [MQTT-3.2.2-1]
    #[error("CONNACK has the acknowledge flags {found:#04x}, expected 0 or 1")]
    ConnackFlags {
        /// The whole byte.
        found: u8,
    },
    /// [MQTT-3.2.2-6]
    #[error("CONNACK has session present set beside the refusal {reason:#04x}")]
    SessionPresentWithRefusal {
        /// The Reason Code or return code.
        reason: u8,
    },

    // SUBSCRIBE, UNSUBSCRIBE and their acknowledgements.
    /// [MQTT-3.8.3-2], [MQTT-3.10.3-2]
    #[error("{packet} has no topic filter")]
    NoFilters {
        /// SUBSCRIBE or UNSUBSCRIBE.
        packet: PacketKind,
    },
    /// [MQTT-3.8.3-5]
    #[error("subscription options {found:#04x} have reserved bits set")]
    SubscriptionReservedBits {
        /// The whole byte.
        found: u8,
    },
    /// QoS 3 asked for (§3.8.3.1).
    #[error("subscription asks for QoS 3, expected 0, 1 or 2")]
    SubscriptionQos3,
    /// Retain Handling 3 (§3.8.3.1).
    #[error("subscription has retain handling 3, expected 0, 1 or 2")]
    RetainHandling3,
    /// [MQTT-3.8.3-4]
    #[error("shared subscription has no local set")]
    NoLocalOnShared,
    /// SUBACK and UNSUBACK carry a Reason Code per Topic Filter (§3.9.3, §3.11.3).
    #[error("{packet} has no reason code")]
    NoReasons {
        /// SUBACK or UNSUBACK.
        packet: PacketKind,
    },

    // Properties.
    /// A property list that would run past the end of its packet.
    #[error("properties of {length} bytes run past the end, {left} bytes are left")]
    PropertiesBeyondPacket {
        /// The Property Length.
        length: usize,
        /// What there is.
        left: usize,
    },
    /// A number that §2.2.2.2 does not list.
    #[error("property {id:#04x} is unknown")]
    UnknownProperty {
        /// The Property Identifier, its first byte.
        id: u8,
    },
    /// A property of other packets.
    #[error("{packet} has the property {id:#04x}, which is not one of its own")]
    PropertyNotAllowed {
        /// Which packet.
        packet: PacketKind,
        /// The Property Identifier.
        id: u8,
    },
    /// A second one of what may stand once.
    #[error("property {id:#04x} stands more than once")]
    PropertyTwice {
        /// The Property Identifier.
        id: u8,
    },
    /// A value out of its range: not 0 or 1, or 0 where that means nothing.
    #[error("property {id:#04x} has the value {found}, which it must not have")]
    PropertyValue {
        /// The Property Identifier.
        id: u8,
        /// The number.
        found: u32,
    },
    /// Authentication Data without Authentication Method (§3.1.2.11.10).
    #[error("{packet} has authentication data without an authentication method")]
    AuthenticationDataWithoutMethod {
        /// CONNECT, CONNACK or AUTH.
        packet: PacketKind,
    },
    /// AUTH without Authentication Method (§3.15.2.2.2).
    #[error("AUTH has no authentication method")]
    AuthWithoutMethod,
}

impl Malformed {
    /// What DISCONNECT, or CONNACK for a CONNECT, says about it (§4.13.1).
    ///
    /// Only where `ReasonCode::is_allowed_in` that packet: CONNACK has no Topic Alias Invalid, but
    /// CONNECT has no Topic Alias either.
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::ProtocolName { .. } | Self::UnsupportedProtocolVersion { .. } => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::TopicEmpty | Self::TopicWildcard { .. } => ReasonCode::TopicNameInvalid,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Self::FilterEmpty
            | Self::FilterHash { .. }
            | Self::FilterPlus { .. }
            | Self::ShareName
            | Self::ShareFilter => ReasonCode::TopicFilterInvalid,
            Self::TopicEmptyWithoutAlias
            | Self::ResponseTopicEmpty
            | Self::ResponseTopicWildcard { .. }
            | Self::NoFilters { .. }
            | Self::NoReasons { .. }
            | Self::NoLocalOnShared
            | Self::RetainHandling3
            | Self::SessionPresentWithRefusal { .. }
            | Self::ReasonCode { .. }
            | Self::PropertyTwice { .. }
            | Self::PropertyValue { .. }
            | Self::AuthenticationDataWithoutMethod { .. }
            | Self::AuthWithoutMethod
            | Self::AuthBeforeV5 => ReasonCode::ProtocolError,
            Self::PacketType
            | Self::ReservedFlags { .. }
            | Self::PublishQos3
            | Self::DupWithQos0
            | Self::VarIntNotMinimal { .. }
            | Self::VarIntTooLong
            | Self::RemainingLength { .. }
            | Self::Short { .. }
            | Self::Trailing { .. }
            | Self::Utf8 { .. }
            | Self::Nul { .. }
            | Self::PacketIdZero
            | Self::ConnectReservedFlag
            | Self::WillQos3
            | Self::WillQosWithoutWill { .. }
            | Self::WillRetainWithoutWill
            | Self::PasswordWithoutUserName
            | Self::ConnackFlags { .. }
            | Self::SubscriptionReservedBits { .. }
            | Self::SubscriptionQos3
            | Self::PropertiesBeyondPacket { .. }
            | Self::UnknownProperty { .. }
            | Self::PropertyNotAllowed { .. } => ReasonCode::MalformedPacket,
        }
    }
}

/// A packet that the protocol has no length for: it cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes exceed the {max} that the length before them can say")]
pub struct TooLarge {
    /// The size of the string, the binary data or the packet after its fixed header.
    pub bytes: usize,
    /// 65,535 for strings and binary data (§1.5.4), 268,435,455 for the others (§1.5.5).
    pub max: usize,
}

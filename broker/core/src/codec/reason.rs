//! Reason Codes: what one side tells the other about a packet (§2.4).
//!
//! One list of codes serves all packets, and each packet allows its own few. MQTT 3.1.1 has return
//! codes in CONNACK only; [`ReasonCode::to_v311`] and [`ReasonCode::from_v311`] translate.

use super::types::PacketKind;
use std::fmt;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, [$($packet:ident)*];)*) => {
        /// What became of a packet, or why a connection ends (§2.4). Below 0x80 is success.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $value,)*
        }

        impl ReasonCode {
            /// The code with this number; nothing for a number that §2.4 does not list.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name §2.4 gives it, in lower case.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// A bit for each packet that may carry it, by the packet's number.
            const fn packets(self) -> u16 {
                match self {
                    $(Self::$name => 0 $(| PacketKind::$packet.bit())*,)*
                }
            }

            /// Every code, ascending.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

reason_codes! {
    /// Done. Also "normal disconnection" and "granted QoS 0".
    Success = 0x00, "success",
        [Connack Puback Pubrec Pubrel Pubcomp Suback Unsuback Disconnect Auth];
    /// SUBACK: at most QoS 1.
    GrantedQoS1 = 0x01, "granted QoS 1", [Suback];
    /// SUBACK: at most QoS 2.
    GrantedQoS2 = 0x02, "granted QoS 2", [Suback];
    /// DISCONNECT of a Client that wants its Will published.
    DisconnectWithWill = 0x04, "disconnect with will message", [Disconnect];
    /// Accepted, and nobody subscribes to it.
    NoMatchingSubscribers = 0x10, "no matching subscribers", [Puback Pubrec];
    /// UNSUBACK: there was none.
    NoSubscriptionExisted = 0x11, "no subscription existed", [Unsuback];
    /// AUTH: another step follows.
    ContinueAuthentication = 0x18, "continue authentication", [Auth];
    /// AUTH: the Client starts again on a live connection.
    ReAuthenticate = 0x19, "re-authenticate", [Auth];
    /// No more is said.
    UnspecifiedError = 0x80, "unspecified error",
        [Connack Puback Pubrec Suback Unsuback Disconnect];
    /// Bytes that are no packet (§1.2).
    MalformedPacket = 0x81, "malformed packet", [Connack Disconnect];
    /// A packet that is not allowed, or not now (§1.2).
    ProtocolError = 0x82, "protocol error", [Connack Disconnect];
    /// Valid, but not for this implementation.
    ImplementationSpecificError = 0x83, "implementation specific error",
        [Connack Puback Pubrec Suback Unsuback Disconnect];
    /// A protocol level that the Server does not speak.
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version", [Connack];
    /// A well-formed Client Identifier that is not allowed.
    ClientIdentifierNotValid = 0x85, "client identifier not valid", [Connack];
    /// The credential does not check.
    BadUserNameOrPassword = 0x86, "bad user name or password", [Connack];
    /// Known, but without the right.
    NotAuthorized = 0x87, "not authorized",
        [Connack Puback Pubrec Suback Unsuback Disconnect];
    /// The Server cannot serve at present.
    ServerUnavailable = 0x88, "server unavailable", [Connack];
    /// The Server has too much to do.
    ServerBusy = 0x89, "server busy", [Connack Disconnect];
    /// Shut out by an administrator.
    Banned = 0x8A, "banned", [Connack];
    /// The Server stops.
    ServerShuttingDown = 0x8B, "server shutting down", [Disconnect];
    /// The Authentication Method is unknown, or not the one in use.
    BadAuthenticationMethod = 0x8C, "bad authentication method", [Connack Disconnect];
    /// Nothing was heard for one and a half Keep Alive.
    KeepAliveTimeout = 0x8D, "keep alive timeout", [Disconnect];
    /// Another connection took the Session over.
    SessionTakenOver = 0x8E, "session taken over", [Disconnect];
    /// A Topic Filter that the Server does not accept.
    TopicFilterInvalid = 0x8F, "topic filter invalid", [Suback Unsuback Disconnect];
    /// A Topic Name that the receiver does not accept.
    TopicNameInvalid = 0x90, "topic name invalid", [Connack Puback Pubrec Disconnect];
    /// The Packet Identifier stands for another exchange.
    PacketIdentifierInUse = 0x91, "packet identifier in use", [Puback Pubrec Suback Unsuback];
    /// The Packet Identifier stands for nothing.
    PacketIdentifierNotFound = 0x92, "packet identifier not found", [Pubrel Pubcomp];
    /// More unacknowledged PUBLISH than were announced as acceptable.
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded", [Disconnect];
    /// A Topic Alias of 0, above the maximum, or never set.
    TopicAliasInvalid = 0x94, "topic alias invalid", [Disconnect];
    /// Larger than the Maximum Packet Size.
    PacketTooLarge = 0x95, "packet too large", [Connack Disconnect];
    /// Too many packets in too little time.
    MessageRateTooHigh = 0x96, "message rate too high", [Disconnect];
    /// A limit of the Server or its administrator is reached.
    QuotaExceeded = 0x97, "quota exceeded", [Connack Puback Pubrec Suback Disconnect];
    /// Ended by an administrator.
    AdministrativeAction = 0x98, "administrative action", [Disconnect];
    /// The payload is not what its Payload Format Indicator says.
    PayloadFormatInvalid = 0x99, "payload format invalid", [Connack Puback Pubrec Disconnect];
    /// Retained messages are not offered.
    RetainNotSupported = 0x9A, "retain not supported", [Connack Disconnect];
    /// Above the Maximum QoS.
    QoSNotSupported = 0x9B, "QoS not supported", [Connack Disconnect];
    /// Use the named Server for now.
    UseAnotherServer = 0x9C, "use another server", [Connack Disconnect];
    /// Use the named Server from now on.
    ServerMoved = 0x9D, "server moved", [Connack Disconnect];
    /// Shared Subscriptions are not offered.
    SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported",
        [Suback Disconnect];
    /// Too many connections in too little time.
    ConnectionRateExceeded = 0x9F, "connection rate exceeded", [Connack Disconnect];
    /// The connection lasted as long as it may.
    MaximumConnectTime = 0xA0, "maximum connect time", [Disconnect];
    /// Subscription Identifiers are not offered.
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported",
        [Suback Disconnect];
    /// Wildcards in Topic Filters are not offered.
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported",
        [Suback Disconnect];
}

impl ReasonCode {
    /// 0x00 in a DISCONNECT.
    #[expect(non_upper_case_globals, reason = "§2.4 gives one number several names")]
    pub const NormalDisconnection: Self = Self::Success;

    /// 0x00 in a SUBACK.
    #[expect(non_upper_case_globals, reason = "§2.4 gives one number several names")]
    pub const GrantedQoS0: Self = Self::Success;

    /// The number on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether it reports a failure: 0x80 and above.
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether this kind of packet may carry it (the last column of §2.4).
    pub const fn is_allowed_in(self, packet: PacketKind) -> bool {
        self.packets() & packet.bit() != 0
    }

    /// The CONNACK return code of MQTT 3.1.1 (its §3.2.2.3), 0 to 5, that comes nearest.
    ///
    /// 3.1.1 has no word for most refusals: passing trouble on the Server's side becomes 3 (server
    /// unavailable), all else 5 (not authorized).
    pub const fn to_v311(self) -> u8 {
        match self {
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::UnspecifiedError
            | Self::ImplementationSpecificError
            | Self::ServerUnavailable
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::QuotaExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::ConnectionRateExceeded => 3,
            Self::BadUserNameOrPassword => 4,
            code if !code.is_error() => 0,
            _ => 5,
        }
    }

    /// The code for a CONNACK return code of MQTT 3.1.1; nothing above 5.
    pub const fn from_v311(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_its_own_code_or_none() {
        let known: Vec<u8> = (0..=u8::MAX)
            .filter(|value| {
                ReasonCode::from_u8(*value).is_some_and(|code| {
                    assert_eq!(code.as_u8(), *value);
                    true
                })
            })
            .collect();
        assert_eq!(known.len(), 43);
        assert_eq!(known.len(), ReasonCode::ALL.len());
        assert!(ReasonCode::ALL.is_sorted());
    }

    #[test]
    fn errors_begin_at_0x80() {
        for code in ReasonCode::ALL {
            assert_eq!(code.is_error(), code.as_u8() >= 0x80, "{code:?}");
            assert!(!code.to_string().is_empty());
        }
        assert!(!ReasonCode::ReAuthenticate.is_error());
        assert!(ReasonCode::UnspecifiedError.is_error());
    }

    #[test]
    fn v311_return_codes_survive_the_way_there_and_back() {
        for value in 0..=5 {
            assert_eq!(ReasonCode::from_v311(value).map(ReasonCode::to_v311), Some(value));
        }
        assert_eq!(ReasonCode::from_v311(6), None);
    }

    #[test]
    fn every_refusal_of_a_connack_is_a_refusal_in_v311() {
        for code in ReasonCode::ALL.iter().filter(|code| code.is_error()) {
            assert!((1..=5).contains(&code.to_v311()), "{code:?}");
        }
        assert_eq!(ReasonCode::Success.to_v311(), 0);
        assert_eq!(ReasonCode::ServerBusy.to_v311(), 3);
        assert_eq!(ReasonCode::Banned.to_v311(), 5);
    }

    #[test]
    fn codes_are_allowed_where_section_2_4_says() {
        let allowed =
            |packet| ReasonCode::ALL.iter().filter(|code| code.is_allowed_in(packet)).count();
        // The number of rows of each packet's own table; DISCONNECT has 0x8C besides, by §2.4.
        assert_eq!(allowed(PacketKind::Connack), 22);
        assert_eq!(allowed(PacketKind::Puback), 9);
        assert_eq!(allowed(PacketKind::Pubrec), 9);
        assert_eq!(allowed(PacketKind::Pubrel), 2);
        assert_eq!(allowed(PacketKind::Pubcomp), 2);
        assert_eq!(allowed(PacketKind::Suback), 12);
        assert_eq!(allowed(PacketKind::Unsuback), 7);
        assert_eq!(allowed(PacketKind::Disconnect), 29 + 1);
        assert_eq!(allowed(PacketKind::Auth), 3);
        assert_eq!(allowed(PacketKind::Publish), 0);
    }
}

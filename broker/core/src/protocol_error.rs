//! Well-formed packets that break the protocol, and the Reason Codes they are answered with (§4.13).

use crate::codec::{PacketId, ReasonCode};

/// A well-formed packet that breaks the protocol (§1.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// [MQTT-3.1.0-2]
    #[error("second CONNECT on one network connection")]
    SecondConnect,
    /// A packet that only a server sends.
    #[error("{0} is not for a client to send")]
    NotForClients(&'static str),
    /// [MQTT-3.3.4-7]
    #[error("{unacknowledged} unacknowledged PUBLISH exceed Receive Maximum {receive_maximum}")]
    ReceiveMaximumExceeded {
        /// How many are unacknowledged, this one included.
        unacknowledged: usize,
        /// How many may be.
        receive_maximum: u16,
    },
    /// [MQTT-3.3.2-8], [MQTT-3.3.2-9]
    #[error("topic alias {alias} is not in 1..={maximum}")]
    TopicAliasInvalid {
        /// The alias.
        alias: u16,
        /// The Topic Alias Maximum of the server.
        maximum: u16,
    },
    /// §3.3.2.3.4
    #[error("topic alias {alias} was never set on this network connection")]
    TopicAliasUnknown {
        /// The alias.
        alias: u16,
    },
    /// [MQTT-3.3.4-6]
    #[error("a client's PUBLISH has a subscription identifier")]
    SubscriptionIdentifierInPublish,
    /// A Packet Identifier that is still in use for something else.
    #[error("packet identifier {} is in use", .0.get())]
    PacketIdInUse(PacketId),
    /// An acknowledgement that is not the one due for its Packet Identifier. [MQTT-4.3.2-1] ff.
    #[error("acknowledgement of packet identifier {} is not the one that is due", .0.get())]
    OutOfTurn(PacketId),
    /// AUTH without an authentication method in CONNECT. [MQTT-4.12.0-7]
    #[error("AUTH without an authentication method in CONNECT")]
    UnexpectedAuth,
    /// [MQTT-4.12.1-1]
    #[error("AUTH does not repeat the authentication method of CONNECT")]
    AuthenticationMethodChanged,
    /// An AUTH that is not the one due (§4.12.1).
    #[error("AUTH with {0} is not the one that is due")]
    AuthOutOfTurn(ReasonCode),
    /// §3.14.2.2.2
    #[error("DISCONNECT sets a session expiry where CONNECT had none")]
    SessionExpiryAtDisconnect,
    /// More filters than [`crate::limits::Limits::filters_per_subscribe_max`].
    #[error("{filters} filters in one packet, at most {max} are taken")]
    TooManyFilters {
        /// How many there were.
        filters: usize,
        /// How many are taken.
        max: usize,
    },
    /// The answer, with a Reason Code for each filter, is larger than the Client takes.
    /// [MQTT-3.1.2-24]
    #[error("answer of {bytes} bytes exceeds the client's Maximum Packet Size {max}")]
    AnswerTooLarge {
        /// What it would take.
        bytes: usize,
        /// What the Client takes.
        max: usize,
    },
    /// A part of MQTT that this server does not offer, and said so: see
    /// [`Offers`](crate::limits::Offers).
    #[error("{0} by this server, as its CONNACK says")]
    NotOffered(ReasonCode),
    /// A message to be refused that has no acknowledgement to say so: of MQTT 3.1.1, or QoS 0.
    #[error("message refused: {0}")]
    Refused(ReasonCode),
}

impl ProtocolError {
    /// The one place where a cause becomes a wire code (§4.13).
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::ReceiveMaximumExceeded { .. } => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAliasInvalid { .. } => ReasonCode::TopicAliasInvalid,
            Self::AuthenticationMethodChanged => ReasonCode::BadAuthenticationMethod,
            Self::AnswerTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::TooManyFilters { .. } => ReasonCode::QuotaExceeded,
            Self::NotOffered(reason) | Self::Refused(reason) => *reason,
            Self::SecondConnect
            | Self::NotForClients(_)
            | Self::TopicAliasUnknown { .. }
            | Self::SubscriptionIdentifierInPublish
            | Self::PacketIdInUse(_)
            | Self::OutOfTurn(_)
            | Self::UnexpectedAuth
            | Self::AuthOutOfTurn(_)
            | Self::SessionExpiryAtDisconnect => ReasonCode::ProtocolError,
        }
    }
}

//! Why a command was refused: the protocol's names, and the Reason Codes that come nearest.
//!
//! MQTT has fewer words for it than chat: a Client that wants to know acts on the name, which the
//! `error` message and the user property `code` carry, and not on the Reason Code.

use serde::Serialize;
use tidings_core::codec::ReasonCode;

/// Why a command was refused. The names are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// Not for this user, or not here.
    Forbidden,
    /// There is no such chat.
    UnknownChat,
    /// Too much, or too fast.
    Limit,
    /// Too large.
    Size,
    /// Not understood.
    Format,
    /// It contradicts what is there.
    Conflict,
    /// The chat is over.
    Ended,
    /// It is gone.
    Late,
    /// Not now.
    Unavailable,
}

impl Code {
    /// The Reason Code of the PUBACK or PUBREC (§3.4.2.1) that comes nearest.
    pub(crate) const fn reason(self) -> ReasonCode {
        match self {
            Self::Forbidden => ReasonCode::NotAuthorized,
            Self::UnknownChat => ReasonCode::TopicNameInvalid,
            Self::Limit | Self::Size => ReasonCode::QuotaExceeded,
            Self::Format => ReasonCode::PayloadFormatInvalid,
            Self::Conflict | Self::Ended | Self::Late => ReasonCode::ImplementationSpecificError,
            Self::Unavailable => ReasonCode::UnspecifiedError,
        }
    }

    /// Its name, as in the body.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::UnknownChat => "unknown_chat",
            Self::Limit => "limit",
            Self::Size => "size",
            Self::Format => "format",
            Self::Conflict => "conflict",
            Self::Ended => "ended",
            Self::Late => "late",
            Self::Unavailable => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_name_it_is_written_with() {
        for code in [
            Code::Forbidden,
            Code::UnknownChat,
            Code::Limit,
            Code::Size,
            Code::Format,
            Code::Conflict,
            Code::Ended,
            Code::Late,
            Code::Unavailable,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert!(code.reason().is_error());
        }
    }
}

//! What Clients may subscribe to below the roots of chat.

use tidings_core::codec::ReasonCode;
use tidings_core::topic::TopicFilter;

use super::is_user;

/// What a filter below one of the roots may hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listening<'a> {
    /// Something of `me/json/…` or `me/cbor/…`.
    Own,
    /// `presence/{user}`.
    Presence(&'a str),
}

impl<'a> Listening<'a> {
    /// Reads a filter.
    ///
    /// # Errors
    /// The Reason Code for SUBACK.
    pub(crate) fn parse(filter: &'a TopicFilter) -> Result<Self, ReasonCode> {
        if filter.share().is_some() {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let mut levels = filter.as_str().split('/');
        match (levels.next(), levels.next()) {
            (Some("me"), Some("json" | "cbor")) => Ok(Self::Own),
            (Some("me"), _) => Err(ReasonCode::TopicFilterInvalid),
            (Some("presence"), Some(user)) if levels.next().is_none() => {
                if is_user(user) {
                    Ok(Self::Presence(user))
                } else {
                    Err(ReasonCode::TopicFilterInvalid)
                }
            }
            (Some("presence"), _) => Err(ReasonCode::TopicFilterInvalid),
            _ => Err(ReasonCode::NotAuthorized),
        }
    }
}

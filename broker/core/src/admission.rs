//! What is asked of a CONNECT before anybody is authenticated: the bounds, and a name for its session.
//!
//! Runs before the shard is known, because the name decides which shard it is.

use crate::codec::{Connect, ReasonCode, Version};
use crate::limits::Limits;

/// A CONNECT within the bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The Client Identifier that holds.
    pub client_id: String,
    /// Whether the server gave it. [MQTT-3.1.3-6]
    pub assigned: bool,
}

/// Checks `connect`. `assign` makes a Client Identifier that nobody else has.
///
/// # Errors
/// The Reason Code for CONNACK.
pub fn admit(
    connect: &Connect<'_>,
    limits: &Limits,
    assign: impl FnOnce() -> String,
) -> Result<Admission, ReasonCode> {
    if connect.client_id.len() > limits.client_id_bytes_max {
        return Err(ReasonCode::ClientIdentifierNotValid);
    }
    let user_fits = connect.user_name.is_none_or(|name| name.len() <= limits.user_bytes_max);
    let password_fits = connect.password.is_none_or(|it| it.len() <= limits.password_bytes_max);
    if !user_fits || !password_fits {
        return Err(ReasonCode::BadUserNameOrPassword);
    }
    if let Some(will) = &connect.will {
        limits.offers.allow_message(will.qos, will.retain)?;
        if limits.topic.check(will.topic).is_err() || will.topic.starts_with('$') {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if !payload_fits(limits, will.properties.payload_format(), will.payload) {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        let too_large = will.payload.len() > limits.retained_message_bytes_max;
        let properties = will.properties.user_properties();
        let (count, bytes) = properties.fold((0_usize, 0), |(count, bytes), (name, value)| {
            (count + 1, bytes + name.len() + value.len())
        });
        let too_many = count > limits.user_properties_max || bytes > limits.user_property_bytes_max;
        if (will.retain && too_large) || too_many {
            return Err(ReasonCode::QuotaExceeded);
        }
    }
    if !connect.client_id.is_empty() {
        return Ok(Admission { client_id: connect.client_id.to_owned(), assigned: false });
    }
    // MQTT 3.1.1 cannot tell the Client its name, so that it could never come back to its session.
    if connect.version == Version::V311 && !connect.clean_start {
        return Err(ReasonCode::ClientIdentifierNotValid);
    }
    Ok(Admission { client_id: assign(), assigned: true })
}

/// Whether a payload is what its Payload Format Indicator says, as far as that is to be checked.
pub(crate) fn payload_fits(limits: &Limits, is_text: Option<bool>, payload: &[u8]) -> bool {
    !limits.payload_format_checked || is_text != Some(true) || std::str::from_utf8(payload).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Properties, PropertiesBuf, Property, QoS, Will};

    fn connect(client_id: &str, version: Version, clean_start: bool) -> Connect<'_> {
        Connect {
            version,
            clean_start,
            keep_alive: 0,
            client_id,
            properties: Properties::default(),
            will: None,
            user_name: None,
            password: None,
        }
    }

    #[test]
    fn an_empty_identifier_is_assigned_where_the_client_can_do_without_it() {
        // [MQTT-3.1.3-6]; for 3.1.1 [MQTT-3.1.3-8]
        let admit = |connect| admit(&connect, &Limits::default(), || "made-up".to_owned());
        let assigned = Ok(Admission { client_id: "made-up".to_owned(), assigned: true });
        assert_eq!(admit(connect("", Version::V5, false)), assigned);
        assert_eq!(admit(connect("", Version::V311, true)), assigned);
        let refused = admit(connect("", Version::V311, false));
        assert_eq!(refused, Err(ReasonCode::ClientIdentifierNotValid));
    }

    #[test]
    fn will_has_the_bounds_of_a_message() {
        let limits = Limits {
            user_properties_max: 1,
            user_property_bytes_max: 4,
            retained_message_bytes_max: 2,
            ..Limits::default()
        };
        let refused = |properties: &[(&str, &str)], retain, topic| {
            let mut bytes = PropertiesBuf::new();
            for (name, value) in properties {
                bytes.push(Property::UserProperty(name, value));
            }
            let mut connect = connect("a", Version::V5, true);
            connect.will = Some(Will {
                qos: QoS::AtMostOnce,
                retain,
                properties: bytes.as_properties(),
                topic,
                payload: b"abc",
            });
            admit(&connect, &limits, String::new).err()
        };
        assert_eq!(refused(&[("ab", "cd")], false, "t"), None);
        let quota = Some(ReasonCode::QuotaExceeded);
        assert_eq!(refused(&[("a", "b"), ("a", "b")], false, "t"), quota);
        assert_eq!(refused(&[("ab", "cde")], false, "t"), quota);
        assert_eq!(refused(&[], true, "t"), quota);
        let long = "x".repeat(1_025);
        assert_eq!(refused(&[], false, &long), Some(ReasonCode::TopicNameInvalid));
    }

    #[test]
    fn bounds_are_refused_with_their_own_codes() {
        let limits = Limits::default();
        let long = "x".repeat(129);
        let refused = admit(&connect(&long, Version::V5, true), &limits, String::new);
        assert_eq!(refused, Err(ReasonCode::ClientIdentifierNotValid));
        let mut named = connect("a", Version::V5, true);
        named.user_name = Some(&long);
        let refused = admit(&named, &limits, String::new);
        assert_eq!(refused, Err(ReasonCode::BadUserNameOrPassword));
    }
}

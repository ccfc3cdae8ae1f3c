//! Every bound of the core, with its default and what happens when it is reached.
//!
//! Nothing is dropped in silence: each bound ends in a Reason Code that the Client sees, or in a
//! count that the operator sees.

use std::time::Duration;

use crate::codec::{PropertiesBuf, Property, QoS, ReasonCode};
use crate::topic::{TopicFilter, TopicLimits};

/// The bounds of a broker. Each is one number; [`Limits::default`] suits a public server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest packet taken, in bytes, told to MQTT 5 Clients as Maximum Packet Size; more:
    /// DISCONNECT with 0x95 (§3.1.2.11.4).
    pub packet_bytes_max: usize,
    /// The longest Client Identifier, in bytes; longer: CONNACK 0x85.
    pub client_id_bytes_max: usize,
    /// The longest user name, in bytes; longer: CONNACK 0x86.
    pub user_bytes_max: usize,
    /// The longest password, in bytes; longer: CONNACK 0x86.
    pub password_bytes_max: usize,
    /// Topic Names and Topic Filters: bytes and levels; more: 0x90 or 0x8F.
    pub topic: TopicLimits,
    /// User properties in one packet; more: 0x97.
    pub user_properties_max: usize,
    /// Bytes of all user properties of one packet; more: 0x97.
    pub user_property_bytes_max: usize,
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE; more: DISCONNECT with 0x97.
    pub filters_per_subscribe_max: usize,
    /// Topic Alias Maximum for what Clients send (§3.2.2.3.8).
    pub topic_alias_max: u16,
    /// Receive Maximum for what Clients send, and the most that is unacknowledged towards one
    /// (§4.9); an MQTT 5 Client that sends more: DISCONNECT with 0x93.
    pub receive_maximum: u16,
    /// Bytes of messages given to one connection in one go, before the shell must have written
    /// them: what a connection may hold stays bounded, whatever waits for it.
    pub burst_bytes_max: usize,
    /// Messages waiting for one session; then the sender of a message to it alone hears 0x97 (MQTT
    /// 3.1.1: is closed without PUBACK), and a message to many pushes out the oldest.
    pub session_queue_messages_max: usize,
    /// Bytes waiting for one session, with the same effect.
    pub session_queue_bytes_max: usize,
    /// The same for a session that ends with its connection: all that waits for it is in memory.
    pub memory_queue_messages_max: usize,
    /// Bytes of that; a largest packet, if that is more.
    pub memory_queue_bytes_max: usize,
    /// Bytes of QoS 0 that wait for the shell to have written to a connection, or for a SUBACK; what
    /// is more is dropped. Retained messages are in memory anyway and have a bound of their own.
    pub held_bytes_max: usize,
    /// The longest Session Expiry Interval; a longer one is shortened, and CONNACK says so.
    pub session_expiry_max: Duration,
    /// The longest Keep Alive; a longer one, or none, becomes Server Keep Alive for MQTT 5.
    pub keep_alive_max: Duration,
    /// Subscriptions of one session; more: 0x97 in SUBACK.
    pub subscriptions_per_session_max: usize,
    /// Those of them with wildcards; more: 0x97 in SUBACK.
    pub wildcard_subscriptions_per_session_max: usize,
    /// Sessions of one user; more: CONNACK 0x97. Does not bind anonymous Clients.
    pub sessions_per_user_max: usize,
    /// How often a session may be taken over within [`Limits::takeover_window`]; more: CONNACK
    /// 0x9F, and the connection that has the session keeps it.
    pub takeovers_max: usize,
    /// The time in which takeovers are counted.
    pub takeover_window: Duration,
    /// Retained messages of one shard; more: 0x97.
    pub retained_messages_max: usize,
    /// The largest retained payload, in bytes; more: 0x97.
    pub retained_message_bytes_max: usize,
    /// Bytes of all retained messages of one shard; more: 0x97.
    pub retained_bytes_max: usize,
    /// Retained messages that are sent for a new subscription before the others have their turn.
    pub retained_per_turn_max: usize,
    /// Whether a payload that is said to be text has to be (§3.3.2.3.2); if not: 0x99.
    pub payload_format_checked: bool,
    /// Whether services hold Clients to the rates that they have. Told by the shell, which knows
    /// where Clients come from.
    pub rates_apply: bool,
    /// Which parts of MQTT Clients may use.
    pub offers: Offers,
    /// What MQTT 5 Clients are told besides.
    pub told: Told,
}

/// The parts of MQTT that a server may leave out. MQTT 5 Clients are told in CONNACK which those are;
/// what sessions had before they were left out they keep. Default: everything is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offers {
    /// The highest QoS (§3.2.2.3.4): a PUBLISH above it is answered by DISCONNECT with 0x9B, a will
    /// by CONNACK 0x9B, and a subscription is granted at most it.
    pub maximum_qos: QoS,
    /// Retained messages (§3.2.2.3.5); if not: DISCONNECT or, for a will, CONNACK with 0x9A.
    pub retain: bool,
    /// Subscriptions with wildcards (§3.2.2.3.11); if not: 0xA2 in SUBACK.
    pub wildcard_subscriptions: bool,
    /// Subscription Identifiers (§3.2.2.3.12); if not: 0xA1 in SUBACK.
    pub subscription_identifiers: bool,
    /// Shared Subscriptions (§3.2.2.3.13); if not: 0x9E in SUBACK.
    pub shared_subscriptions: bool,
}

impl Default for Offers {
    fn default() -> Self {
        Self {
            maximum_qos: QoS::ExactlyOnce,
            retain: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
        }
    }
}

impl Offers {
    /// Whether a PUBLISH, or a will, may be of this kind. [MQTT-3.2.2-12], [MQTT-3.2.2-13]
    pub(crate) fn allow_message(&self, qos: QoS, retain: bool) -> Result<(), ReasonCode> {
        if qos > self.maximum_qos {
            Err(ReasonCode::QoSNotSupported)
        } else if retain && !self.retain {
            Err(ReasonCode::RetainNotSupported)
        } else {
            Ok(())
        }
    }

    /// Whether a subscription may be of this kind, of whatever QoS. [MQTT-3.2.2-10]
    pub(crate) fn allow_subscription(
        &self,
        filter: &TopicFilter,
        identifier: Option<u32>,
    ) -> Result<(), ReasonCode> {
        if !self.shared_subscriptions && filter.share().is_some() {
            Err(ReasonCode::SharedSubscriptionsNotSupported)
        } else if !self.wildcard_subscriptions && filter.has_wildcard() {
            Err(ReasonCode::WildcardSubscriptionsNotSupported)
        } else if !self.subscription_identifiers && identifier.is_some() {
            Err(ReasonCode::SubscriptionIdentifiersNotSupported)
        } else {
            Ok(())
        }
    }

    /// Adds to CONNACK what is left out. [MQTT-3.2.2-9]
    pub(crate) fn announce(&self, to: &mut PropertiesBuf) {
        if self.maximum_qos < QoS::ExactlyOnce {
            to.push(Property::MaximumQoS(self.maximum_qos.as_u8()));
        }
        for (offered, property) in [
            (self.retain, Property::RetainAvailable(false)),
            (self.wildcard_subscriptions, Property::WildcardSubscriptionAvailable(false)),
            (self.subscription_identifiers, Property::SubscriptionIdentifiersAvailable(false)),
            (self.shared_subscriptions, Property::SharedSubscriptionAvailable(false)),
        ] {
            if !offered {
                to.push(property);
            }
        }
    }
}

/// What MQTT 5 Clients are told of the world around the broker. Empty: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Response Information for those that request it (§3.2.2.3.15), `%c` and `%u` standing for
    /// Client Identifier and user.
    pub response_information: String,
    /// The server to use instead when this one stops (§4.11).
    pub server_reference: String,
    /// Whether a DISCONNECT says in words why (§3.14.2.2.3), where the Client takes packets of that
    /// size.
    pub reason_strings: bool,
}

impl Told {
    /// The Response Information for one Client; `None` where its names would change the topic.
    pub fn response_information_for(&self, client_id: &str, user: &str) -> Option<String> {
        let pattern = &self.response_information;
        let unfit = |name: &str| name.is_empty() || name.contains(['+', '#', '/', '%']);
        let misfits = [("%c", client_id), ("%u", user)];
        if pattern.is_empty()
            || misfits.iter().any(|(mark, name)| pattern.contains(mark) && unfit(name))
        {
            return None;
        }
        Some(pattern.replace("%c", client_id).replace("%u", user))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 256 * 1024,
            client_id_bytes_max: 128,
            user_bytes_max: 64,
            password_bytes_max: 16 * 1024,
            topic: TopicLimits::default(),
            user_properties_max: 64,
            user_property_bytes_max: 8 * 1024,
            filters_per_subscribe_max: 256,
            topic_alias_max: 32,
            receive_maximum: 64,
            burst_bytes_max: 256 * 1024,
            session_queue_messages_max: 10_000,
            session_queue_bytes_max: 16 * 1024 * 1024,
            memory_queue_messages_max: 10_000,
            memory_queue_bytes_max: 4 * 1024 * 1024,
            held_bytes_max: 1024 * 1024,
            session_expiry_max: Duration::from_secs(30 * 24 * 3600),
            keep_alive_max: Duration::from_secs(1200),
            subscriptions_per_session_max: 512,
            wildcard_subscriptions_per_session_max: 64,
            sessions_per_user_max: 16,
            takeovers_max: 10,
            takeover_window: Duration::from_secs(10),
            retained_messages_max: 100_000,
            retained_message_bytes_max: 64 * 1024,
            retained_bytes_max: 64 * 1024 * 1024,
            retained_per_turn_max: 256,
            payload_format_checked: false,
            rates_apply: false,
            offers: Offers::default(),
            told: Told::default(),
        }
    }
}

/// Messages of a session held in memory besides those in its window. What is more waits in the
/// store, if the session outlives its connection.
pub(crate) const QUEUE_IN_MEMORY_MAX: usize = 64;

/// The same while the store has not said yet that the first of them is safe.
pub(crate) const QUEUE_UNSTORED_MAX: usize = 256;

/// Messages that a full queue without a connection may be beyond its bound, while the oldest are
/// being read so that they can be deleted. Behind these the newest is dropped.
pub(crate) const QUEUE_OVERSHOOT_MAX: usize = 4_096;

/// How many rows are read of a waiting queue at a time.
pub(crate) const QUEUE_ROWS_PER_READ: usize = 64;

/// How many bytes are read of a waiting queue at a time.
pub(crate) const QUEUE_BYTES_PER_READ: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_information_is_left_out_where_a_name_would_change_the_topic() {
        let told =
            |pattern: &str| Told { response_information: pattern.to_owned(), ..Told::default() };
        let one = told("replies/%u/%c");
        assert_eq!(one.response_information_for("c1", "bob").as_deref(), Some("replies/bob/c1"));
        for (client_id, user) in
            [("a/b", "bob"), ("c1", "+"), ("c1", ""), ("#", "bob"), ("%u", "bob")]
        {
            assert_eq!(one.response_information_for(client_id, user), None);
        }
        assert_eq!(told("replies").response_information_for("a/b", "").as_deref(), Some("replies"));
        assert_eq!(told("").response_information_for("c1", "bob"), None);
    }
}

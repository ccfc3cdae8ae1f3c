//! The bounds that a broker and its chat are given, as configured.

use std::time::Duration;

use tidings_broker::core::codec::QoS;
use tidings_broker::core::limits::{Limits, Offers, Told};
use tidings_broker::core::marks::DiskReserve;
use tidings_broker::core::topic::TopicLimits;
use tidings_broker::{ConnectionLimits, Rates};
use tidings_chat::ChatOptions;

use crate::config::{self, Config};
use crate::listeners::off_loopback;
use crate::seats;

/// What is to be left free of the disk, as configured. `tidings config print` writes defaults out:
/// so what is written counts as asked for only where it is another number.
pub(crate) fn disk_reserve(config: &Config) -> DiskReserve {
    let default = DiskReserve::default();
    let bytes = config.data.reserve_bytes;
    let bytes_percent_max = if bytes == default.bytes { default.bytes_percent_max } else { 100 };
    let percent = u8::try_from(config.data.reserve_percent).unwrap_or(u8::MAX);
    DiskReserve { bytes, bytes_percent_max, percent }
}

/// Chat, as configured.
pub(crate) fn chat(config: &Config) -> ChatOptions {
    let chat = &config.chat;
    let mut options = ChatOptions::default();
    options.payload_bytes_max = size(chat.payload_bytes_max);
    options.send_rate = count(chat.send_rate);
    options.send_burst = count(chat.send_burst);
    options.new_chats_per_minute = count(chat.new_chats_per_minute);
    options.question_rate = count(chat.question_rate);
    options.question_burst = count(chat.question_burst);
    options.requests = chat.requests;
    options.request_messages_per_day = count(chat.request_messages_per_day);
    options.requests_max = size(chat.requests_max);
    options.chat_entries_max = chat.entries_max;
    options.chat_bytes_max = chat.bytes_max;
    options.peers_max = size(chat.peers_max);
    options.presence_start_grace = Duration::from_millis(chat.presence_start_grace_ms);
    options.presence_rate = count(chat.presence_rate);
    options.group_members_max = size(chat.group_members_max);
    options.channel_members_max = size(chat.channel_members_max);
    options.presence_grace = Duration::from_millis(chat.presence_grace_ms);
    options.receipt_delay = Duration::from_millis(chat.receipt_delay_ms);
    options.retention = Duration::from_secs(chat.retention_days * 24 * 3600);
    seats::bound(config, &mut options);
    options
}

/// The bounds of sessions and messages, as configured.
pub(crate) fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        packet_bytes_max: size(limits.packet_bytes_max),
        client_id_bytes_max: size(limits.client_id_bytes_max),
        user_bytes_max: size(limits.user_bytes_max),
        password_bytes_max: size(limits.password_bytes_max),
        topic: TopicLimits {
            bytes_max: size(limits.topic_bytes_max),
            levels_max: size(limits.topic_levels_max),
        },
        user_properties_max: size(limits.user_properties_max),
        user_property_bytes_max: size(limits.user_property_bytes_max),
        filters_per_subscribe_max: size(limits.filters_per_subscribe_max),
        topic_alias_max: u16::try_from(limits.topic_alias_max).unwrap_or(u16::MAX),
        receive_maximum: u16::try_from(limits.receive_maximum).unwrap_or(u16::MAX),
        session_queue_messages_max: size(limits.session_queue_messages_max),
        session_queue_bytes_max: size(limits.session_queue_bytes_max),
        memory_queue_messages_max: size(limits.memory_queue_messages_max),
        memory_queue_bytes_max: size(limits.memory_queue_bytes_max),
        session_expiry_max: Duration::from_secs(limits.session_expiry_max_s),
        keep_alive_max: Duration::from_secs(limits.keep_alive_max_s),
        subscriptions_per_session_max: size(limits.subscriptions_per_session_max),
        wildcard_subscriptions_per_session_max: size(limits.wildcard_subscriptions_per_session_max),
        sessions_per_user_max: size(limits.sessions_per_user_max),
        takeovers_max: size(limits.takeovers_max),
        takeover_window: Duration::from_secs(limits.takeover_window_s),
        retained_messages_max: size(limits.retained_messages_max),
        retained_message_bytes_max: size(limits.retained_message_bytes_max),
        retained_bytes_max: size(limits.retained_bytes_max),
        payload_format_checked: limits.payload_format == config::PayloadFormat::Check,
        offers: offers(config),
        told: Told {
            response_information: config.top.response_information.clone(),
            server_reference: config.drain.server_reference.clone(),
            reason_strings: config.top.reason_strings,
        },
        // The broker takes it from the bounds of connections.
        ..Limits::default()
    }
}

/// What of MQTT may be used, as configured.
fn offers(config: &Config) -> Offers {
    let limits = &config.limits;
    Offers {
        maximum_qos: match limits.maximum_qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        },
        retain: limits.retain_available,
        wildcard_subscriptions: limits.wildcard_subscriptions_available,
        subscription_identifiers: limits.subscription_identifiers_available,
        shared_subscriptions: limits.shared_subscriptions_available,
    }
}

/// The bounds of connections, as configured.
pub(crate) fn connections(config: &Config) -> ConnectionLimits {
    let limits = &config.limits;
    ConnectionLimits {
        connect_bytes_max: size(limits.connect_bytes_max),
        connections_max: size(limits.connections_max),
        connect_timeout: Duration::from_secs(limits.connect_timeout_s),
        unauthenticated_max: size(limits.unauthenticated_connections_max),
        unauthenticated_per_address_max: size(limits.unauthenticated_per_address_max),
        rates: match limits.rates {
            // Who comes by HTTP comes by the door, which the broker cannot judge by its address.
            config::Rates::Auto if off_loopback(config).is_some() || config.web.forwarded => {
                Rates::On
            }
            config::Rates::Auto => Rates::OffOnLoopback,
            config::Rates::On => Rates::On,
            config::Rates::Off => Rates::Off,
        },
        publish_rate: count(limits.publish_rate),
        publish_burst: count(limits.publish_burst),
        publish_over_max: Duration::from_secs(limits.publish_over_max_s),
        connect_rate_per_address: count(limits.connect_rate_per_address),
        connect_burst_per_address: count(limits.connect_burst_per_address),
        connections_per_address_max: size(limits.connections_per_address_max),
        start_connect_rate: count(limits.start_connect_rate),
        start_connect_time: Duration::from_secs(limits.start_connect_s),
        outbound_soft_bytes: size(limits.outbound_soft_bytes),
        outbound_hard_bytes: size(limits.outbound_hard_bytes),
        memory_bytes_max: limits.memory_bytes_max,
        unsent_timeout: Duration::from_secs(limits.unsent_timeout_s),
        stop_timeout: Duration::from_secs(config.drain.timeout_s),
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

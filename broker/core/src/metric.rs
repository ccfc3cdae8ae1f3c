//! What is counted: one table of names and help texts, and the counters of one shard.
//!
//! A shard counts into [`Counters`] of its own, so that no two threads ever write one cache line;
//! whoever wants to know adds them up in a [`Snapshot`]. Every bound that bites, every message that
//! is dropped and every refusal has its row: nothing happens in silence.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::codec::ReasonCode;
use crate::topic::TopicError;

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// The table: `Kind "family" "help" "label" { Variant "value of the label"; … }`, one row a family.
macro_rules! metrics {
    ($( $kind:ident $name:literal $help:literal $label:literal
        { $( $variant:ident $value:literal; )+ } )+) => {
        /// One number that the broker keeps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Metric {
            $( $(
                #[doc = $help]
                #[doc = concat!("\n\n`", $name, "` ", $label, " ", $value)]
                $variant,
            )+ )+
        }

        impl Metric {
            /// Every metric, those of one family side by side.
            pub const ALL: &'static [Self] = &[$( $( Self::$variant, )+ )+];

            /// The family's name, as a Prometheus exporter writes it; the unit is its last word.
            pub const fn name(self) -> &'static str {
                match self { $( $( Self::$variant => $name, )+ )+ }
            }

            /// What the family says.
            pub const fn help(self) -> &'static str {
                match self { $( $( Self::$variant => $help, )+ )+ }
            }

            /// How it behaves.
            pub const fn kind(self) -> MetricKind {
                match self { $( $( Self::$variant => MetricKind::$kind, )+ )+ }
            }

            /// The label that tells it from others of its family, and its value.
            pub const fn label(self) -> Option<(&'static str, &'static str)> {
                let (label, value) = match self {
                    $( $( Self::$variant => ($label, $value), )+ )+
                };
                if label.is_empty() { None } else { Some((label, value)) }
            }
        }
    };
}

metrics! {
    Gauge "tidings_uptime_seconds" "Seconds since the broker began to serve." "" { Uptime ""; }
    Gauge "tidings_connections" "Clients that are connected." "" { Connections ""; }
    Gauge "tidings_connections_max" "The most Clients that were connected at once." "" {
        ConnectionsMax "";
    }
    Gauge "tidings_sessions" "Sessions, by whether their Client is there." "state" {
        SessionsConnected "connected";
        SessionsOffline "offline";
    }
    Gauge "tidings_subscriptions" "Subscriptions of all sessions." "" { Subscriptions ""; }
    Gauge "tidings_retained_messages" "Retained messages." "" { RetainedMessages ""; }
    Gauge "tidings_retained_bytes" "Bytes of memory that retained messages take." "" {
        RetainedBytes "";
    }
    Gauge "tidings_queued_messages" "Messages kept for sessions that outlive their connection." "" {
        QueuedMessages "";
    }
    Gauge "tidings_queued_bytes" "Bytes of these messages." "" { QueuedBytes ""; }
    Counter "tidings_connects_accepted_total" "CONNECT packets that got a session." "" {
        ConnectsAccepted "";
    }
    Counter "tidings_connects_refused_total" "Connections that got no session, by why." "reason" {
        ConnectsRefusedProtocol "protocol";
        ConnectsRefusedTimeout "timeout";
        ConnectsRefusedAddress "address_full";
        ConnectsRefusedIdentifier "client_identifier";
        ConnectsRefusedCredentials "bad_user_name_or_password";
        ConnectsRefusedRights "not_authorized";
        ConnectsRefusedBusy "server_busy";
        ConnectsRefusedQuota "quota";
        ConnectsRefusedRate "rate";
        ConnectsRefusedOffer "not_offered";
        ConnectsRefusedOther "other";
    }
    Counter "tidings_connections_closed_total" "Connections that ended, by why." "cause" {
        ClosedByClient "client";
        ClosedByNetwork "network";
        ClosedMalformed "malformed";
        ClosedProtocol "protocol_error";
        ClosedRefused "refused";
        ClosedRights "not_authorized";
        ClosedKeepAlive "keep_alive";
        ClosedTakenOver "taken_over";
        ClosedNotReading "not_reading";
        ClosedMemory "memory";
        ClosedShuttingDown "shutting_down";
    }
    Counter "tidings_sessions_expired_total" "Sessions whose expiry passed while nobody was there." "" {
        SessionsExpired "";
    }
    Counter "tidings_received_packets_total" "MQTT packets taken from Clients." "" {
        PacketsReceived "";
    }
    Counter "tidings_sent_packets_total" "MQTT packets given to Clients." "" { PacketsSent ""; }
    Counter "tidings_received_bytes_total" "Bytes read from Clients behind their CONNECT." "" {
        BytesReceived "";
    }
    Counter "tidings_sent_bytes_total" "Bytes written to Clients." "" { BytesSent ""; }
    Counter "tidings_received_publishes_total" "PUBLISH packets taken from Clients." "" {
        PublishReceived "";
    }
    Counter "tidings_sent_publishes_total" "PUBLISH packets given to Clients." "" {
        PublishSent "";
    }
    Counter "tidings_received_publish_bytes_total" "Payload bytes of PUBLISH from Clients." "" {
        PublishBytesReceived "";
    }
    Counter "tidings_sent_publish_bytes_total" "Payload bytes of PUBLISH to Clients." "" {
        PublishBytesSent "";
    }
    Counter "tidings_refused_publishes_total" "PUBLISH packets that were not taken over, by why." "reason" {
        PublishRefusedQuota "quota";
        PublishRefusedRights "not_authorized";
        PublishRefusedTopic "topic_name";
        PublishRefusedFormat "payload_format";
        PublishRefusedOffer "not_offered";
        PublishRefusedOther "other";
    }
    Counter "tidings_dropped_messages_total" "Messages that one recipient did not get, by why." "cause" {
        DroppedSlowReader "slow_reader";
        DroppedQueueFull "queue_full";
        DroppedExpired "expired";
        DroppedTooLarge "too_large";
        DroppedShardBehind "shard_behind";
        DroppedRetainedFull "retained_full";
    }
    Counter "tidings_lost_events_total" "Events that observers were too slow for." "" {
        EventsLost "";
    }
    Counter "tidings_limit_hits_total" "How often a bound was reached, by its configuration key." "limit" {
        LimitPacketBytes "packet_bytes_max";
        LimitTopicBytes "topic_bytes_max";
        LimitTopicLevels "topic_levels_max";
        LimitUserProperties "user_properties_max";
        LimitUserPropertyBytes "user_property_bytes_max";
        LimitFilters "filters_per_subscribe_max";
        LimitTopicAlias "topic_alias_max";
        LimitReceiveMaximum "receive_maximum";
        LimitOutboundSoft "outbound_soft_bytes";
        LimitOutboundHard "outbound_hard_bytes";
        LimitUnsent "unsent_timeout_s";
        LimitQueueMessages "session_queue_messages_max";
        LimitQueueBytes "session_queue_bytes_max";
        LimitMemoryQueueMessages "memory_queue_messages_max";
        LimitMemoryQueueBytes "memory_queue_bytes_max";
        LimitSubscriptions "subscriptions_per_session_max";
        LimitWildcards "wildcard_subscriptions_per_session_max";
        LimitSessions "sessions_per_user_max";
        LimitTakeovers "takeovers_max";
        LimitRetainedMessages "retained_messages_max";
        LimitRetainedMessageBytes "retained_message_bytes_max";
        LimitRetainedBytes "retained_bytes_max";
        LimitConnectTimeout "connect_timeout_s";
        LimitUnauthenticated "unauthenticated_connections_max";
        LimitUnauthenticatedPerAddress "unauthenticated_per_address_max";
        LimitConnections "connections_max";
        LimitPublishRate "publish_rate";
        LimitPublishOver "publish_over_max_s";
        LimitConnectRate "connect_rate_per_address";
        LimitConnectionsPerAddress "connections_per_address_max";
        LimitStartConnectRate "start_connect_rate";
        LimitChatSends "chat.send_rate";
        LimitNewChats "chat.new_chats_per_minute";
        LimitChatQuestions "chat.question_rate";
        LimitChatRequests "chat.request_messages_per_day";
        LimitChatRequestsHeld "chat.requests_max";
        LimitChatPeers "chat.peers_max";
        LimitChatEntries "chat.entries_max";
        LimitChatBytes "chat.bytes_max";
        LimitGroupMembers "chat.group_members_max";
        LimitChannelMembers "chat.channel_members_max";
        LimitMemoryBytes "chat.memory_bytes_max";
        LimitRooms "chat.rooms_max";
        LimitSignals "chat.signal_rate";
        LimitPairing "chat.pair_waiting_max";
        LimitWebRooms "web.rooms_per_minute";
        LimitWebGuesses "web.guesses_per_minute";
        LimitWebConnections "web.connections_max";
        LimitWebConnectionsPerAddress "web.connections_per_address_max";
        LimitMediaFile "media.file_bytes_max";
        LimitMediaDay "media.user_bytes_per_day";
        LimitMediaBytes "media.bytes_max";
        LimitMediaRooms "media.room_bytes_max";
        LimitMediaUploads "media.uploads_max";
        LimitMaximumQoS "maximum_qos";
        LimitRetain "retain_available";
        LimitWildcardSubscriptions "wildcard_subscriptions_available";
        LimitSubscriptionIdentifiers "subscription_identifiers_available";
        LimitSharedSubscriptions "shared_subscriptions_available";
        LimitMemory "memory_bytes_max";
        LimitDiskReserve "reserve_bytes";
    }
    Counter "tidings_journal_groups_total" "Groups of records written to the journal." "" {
        JournalGroups "";
    }
    Counter "tidings_journal_records_total" "Records written to the journal." "" {
        JournalRecords "";
    }
    Counter "tidings_journal_bytes_total" "Bytes written to the journal." "" { JournalBytes ""; }
    Counter "tidings_journal_syncs_total" "Groups that were synced to the disk." "" {
        JournalSyncs "";
    }
    Counter "tidings_checkpoints_total" "Checkpoints that moved the journal into the store." "" {
        Checkpoints "";
    }
    Counter "tidings_store_reads_total" "Reads that the store answered." "" { StoreReads ""; }
    Gauge "tidings_journal_waiting_bytes" "Bytes of the journal that no checkpoint covers yet." "" {
        JournalWaitingBytes "";
    }
    Gauge "tidings_checkpoints_behind" "1 while publishers wait for a checkpoint, else 0." "" {
        CheckpointsBehind "";
    }
    Gauge "tidings_disk_free_bytes" "Free bytes of the disk that the store is on." "" {
        DiskFreeBytes "";
    }
    Gauge "tidings_disk_low" "1 while the disk is nearly full, else 0." "" { DiskLow ""; }
    Gauge "tidings_memory_bytes" "Bytes of memory that the process has, and uses of them." "kind" {
        MemoryResident "resident";
        MemoryUsed "used";
    }
    Gauge "tidings_memory_bound_bytes" "Bytes of memory that it may use; 0 if nobody knows." "" {
        MemoryBound "";
    }
    Gauge "tidings_memory_mark" "How far memory is used up: 0, or 1 from 60 %, 2 from 75 %, 3 from 85 %." "" {
        MemoryMark "";
    }
    Gauge "tidings_held_bytes" "Bytes that connections hold, unwritten or of unfinished packets." "" {
        HeldBytes "";
    }
}

impl Metric {
    /// Where a CONNECT is counted that was refused with `reason`.
    pub const fn refused_connect(reason: ReasonCode) -> Self {
        match reason {
            ReasonCode::ClientIdentifierNotValid => Self::ConnectsRefusedIdentifier,
            ReasonCode::BadUserNameOrPassword => Self::ConnectsRefusedCredentials,
            ReasonCode::NotAuthorized => Self::ConnectsRefusedRights,
            ReasonCode::ServerBusy => Self::ConnectsRefusedBusy,
            ReasonCode::QuotaExceeded => Self::ConnectsRefusedQuota,
            ReasonCode::ConnectionRateExceeded => Self::ConnectsRefusedRate,
            ReasonCode::QoSNotSupported | ReasonCode::RetainNotSupported => {
                Self::ConnectsRefusedOffer
            }
            ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::PacketTooLarge
            | ReasonCode::UnsupportedProtocolVersion => Self::ConnectsRefusedProtocol,
            _ => Self::ConnectsRefusedOther,
        }
    }

    /// Where a PUBLISH is counted that was refused with `reason`.
    pub const fn refused_publish(reason: ReasonCode) -> Self {
        match reason {
            ReasonCode::QuotaExceeded => Self::PublishRefusedQuota,
            ReasonCode::NotAuthorized => Self::PublishRefusedRights,
            ReasonCode::TopicNameInvalid => Self::PublishRefusedTopic,
            ReasonCode::PayloadFormatInvalid => Self::PublishRefusedFormat,
            ReasonCode::QoSNotSupported | ReasonCode::RetainNotSupported => {
                Self::PublishRefusedOffer
            }
            _ => Self::PublishRefusedOther,
        }
    }

    /// The key of a part of MQTT that is not offered, if that is what `reason` says.
    pub const fn not_offered(reason: ReasonCode) -> Option<Self> {
        match reason {
            ReasonCode::QoSNotSupported => Some(Self::LimitMaximumQoS),
            ReasonCode::RetainNotSupported => Some(Self::LimitRetain),
            ReasonCode::WildcardSubscriptionsNotSupported => Some(Self::LimitWildcardSubscriptions),
            ReasonCode::SubscriptionIdentifiersNotSupported => {
                Some(Self::LimitSubscriptionIdentifiers)
            }
            ReasonCode::SharedSubscriptionsNotSupported => Some(Self::LimitSharedSubscriptions),
            _ => None,
        }
    }

    /// The bound that a topic is beyond, if that is what is wrong with it.
    pub const fn topic_bound(error: &TopicError) -> Option<Self> {
        match error {
            TopicError::TooManyBytes { .. } => Some(Self::LimitTopicBytes),
            TopicError::TooManyLevels { .. } => Some(Self::LimitTopicLevels),
            _ => None,
        }
    }
}

/// The counters of one shard: written by its thread, read by any.
#[derive(Debug)]
pub struct Counters {
    cells: [AtomicU64; Metric::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self { cells: [const { AtomicU64::new(0) }; Metric::ALL.len()] }
    }
}

impl Counters {
    /// Adds. By one thread alone: it costs what adding to a plain number costs.
    pub fn add(&self, metric: Metric, n: u64) {
        if let Some(cell) = self.cells.get(metric as usize) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }

    /// Adds, whoever else adds at the same time.
    pub fn add_shared(&self, metric: Metric, n: u64) {
        if let Some(cell) = self.cells.get(metric as usize) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Takes from a gauge, down to zero. By one thread alone.
    pub fn take(&self, metric: Metric, n: u64) {
        if let Some(cell) = self.cells.get(metric as usize) {
            cell.store(cell.load(Ordering::Relaxed).saturating_sub(n), Ordering::Relaxed);
        }
    }

    /// What it is now.
    pub fn get(&self, metric: Metric) -> u64 {
        self.cells.get(metric as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, value: u64) {
        if let Some(cell) = self.cells.get(metric as usize) {
            cell.store(value, Ordering::Relaxed);
        }
    }
}

/// The values of all metrics at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    values: [u64; Metric::ALL.len()],
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { values: [0; Metric::ALL.len()] }
    }
}

impl Snapshot {
    /// The value of one metric.
    pub fn get(&self, metric: Metric) -> u64 {
        self.values.get(metric as usize).copied().unwrap_or(0)
    }

    /// Every metric with its value, those of one family side by side.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, u64)> {
        Metric::ALL.iter().copied().zip(self.values)
    }

    /// The sum over a family.
    pub fn family(&self, name: &str) -> u64 {
        self.iter().filter(|(metric, _)| metric.name() == name).map(|(_, value)| value).sum()
    }

    /// Sets the value of one metric.
    pub fn set(&mut self, metric: Metric, value: u64) {
        if let Some(of_metric) = self.values.get_mut(metric as usize) {
            *of_metric = value;
        }
    }

    /// Adds what one shard has counted.
    pub fn add(&mut self, counters: &Counters) {
        for (value, cell) in self.values.iter_mut().zip(&counters.cells) {
            *value = value.saturating_add(cell.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_of_the_table_is_told_from_the_others() {
        let mut seen = BTreeSet::new();
        for (index, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, index);
            assert!(seen.insert((metric.name(), metric.label())), "{metric:?}");
            assert!(metric.help().ends_with('.'), "{metric:?}");
            let counts = metric.name().ends_with("_total");
            assert_eq!(counts, metric.kind() == MetricKind::Counter, "{metric:?}");
        }
    }

    #[test]
    fn snapshot_is_the_sum_of_the_shards() {
        let (one, other) = (Counters::default(), Counters::default());
        one.add(Metric::PacketsSent, 2);
        one.add(Metric::PacketsSent, 1);
        other.add_shared(Metric::PacketsSent, 4);
        other.set(Metric::RetainedBytes, 9);
        other.take(Metric::RetainedBytes, 10);
        let mut snapshot = Snapshot::default();
        snapshot.add(&one);
        snapshot.add(&other);
        assert_eq!(snapshot.get(Metric::PacketsSent), 7);
        assert_eq!(snapshot.iter().map(|(_, value)| value).sum::<u64>(), 7);
    }
}

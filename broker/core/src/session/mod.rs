//! One Client's session while it is connected (§4.1).
//!
//! A session is in memory exactly as long as it has a Network Connection. One that outlives its
//! connection goes back to rows (see [`rows`]) when the connection ends, and leaves only an entry
//! in the shard's index. `receive` is what comes from the Client, `deliver` what goes to it, out of
//! `sending` (what waits) into `window` (what is unacknowledged).

mod alias;
mod brief;
mod deliver;
mod packet_id;
mod quota;
mod receive;
mod receiving;
mod replays;
pub(crate) mod rows;
mod sending;
mod takeovers;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use brief::Brief;
pub(crate) use deliver::{Done, Offered, Pumped};
pub(crate) use receive::Received;
pub(crate) use receiving::{Note, Receiving, ReplyKind, worse};
pub(crate) use replays::{Replay, Replays};
pub(crate) use sending::{AllQueueBounds, QueueBounds, Sending};
pub(crate) use takeovers::Takeovers;
pub(crate) use window::{InFlight, Queued, State};

use crate::codec::{
    Connect, PropertiesBuf, QoS, RetainHandling, SubscriptionOptions, Version, Will as WillPacket,
};
use crate::hook::{Client, SessionId, is_temporary};
use crate::ledger::Ledger;
use crate::limits::{Limits, Offers};
use crate::message::{Message, MessageId};
use crate::metric::Counters;
use crate::output::{ConnectionId, Outbox};
use crate::peer::Standing;
use crate::record::Position;
use crate::slot::Slot;
use crate::time::Time;
use crate::topic::TopicFilter;
use alias::TopicAliases;
use quota::SendQuota;

/// A session that has a connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) slot: Slot,
    pub(crate) user: Arc<str>,
    pub(crate) client_id: Arc<str>,
    /// How long it outlives its connection; zero: not at all.
    pub(crate) expiry: Duration,
    pub(crate) link: Link,
    pub(crate) subscriptions: BTreeMap<TopicFilter, Subscription>,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    pub(crate) will: Option<Will>,
    /// CONNACK is not sent yet: nothing is taken from the Client and nothing sent to it.
    pub(crate) opening: Option<Opening>,
    /// What the owners of its groups know of it, if it is a member of any (§4.8.2).
    pub(crate) told: Option<Standing>,
    /// Tells this time in memory from earlier ones, whose reads may still be answered.
    pub(crate) life: u64,
    pub(crate) takeovers: Takeovers,
}

/// What CONNACK waits for, and what it says.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) ready: Position,
    /// Reads of the session's rows that are under way.
    pub(crate) reads: u8,
    pub(crate) session_present: bool,
    pub(crate) properties: PropertiesBuf,
    /// The user properties of CONNECT.
    pub(crate) said: PropertiesBuf,
}

/// A [`Client`] that borrows nothing of its session.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    user: Arc<str>,
    client_id: Arc<str>,
    version: Version,
}

impl Who {
    pub(crate) fn new(user: &Arc<str>, client_id: &Arc<str>, version: Version) -> Self {
        Self { user: Arc::clone(user), client_id: Arc::clone(client_id), version }
    }

    pub(crate) fn client(&self) -> Client<'_> {
        Client { user: &self.user, client_id: &self.client_id, version: self.version }
    }
}

/// What a session may touch of its shard while it handles something.
#[derive(Debug)]
pub(crate) struct Cx<'a> {
    pub(crate) now: Time,
    pub(crate) out: &'a mut Outbox,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) counters: &'a Counters,
}

impl Session {
    /// Who is at the other end.
    pub(crate) fn client(&self) -> Client<'_> {
        Client { user: &self.user, client_id: &self.client_id, version: self.link.version }
    }

    /// The same, to be kept while the session changes.
    pub(crate) fn who(&self) -> Who {
        Who::new(&self.user, &self.client_id, self.link.version)
    }

    /// Whether somebody looks at what it does: retained messages that come in turn, or the owners of
    /// its groups.
    pub(crate) fn is_followed(&self) -> bool {
        self.told.is_some() || !self.sending.replays.is_empty()
    }

    /// Whether it outlives its connection.
    pub(crate) fn is_persistent(&self) -> bool {
        !self.expiry.is_zero()
    }
}

/// What belongs to the Network Connection and not to the session.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) version: Version,
    /// One and a half Keep Alive; `None`: no end.
    pub(crate) silence_max: Option<Duration>,
    /// When that is looked at next.
    pub(crate) silence_due: Option<Time>,
    pub(crate) heard: Time,
    /// When the login is over.
    pub(crate) expires: Time,
    /// The Authentication Method of CONNECT: without one there is no AUTH. [MQTT-4.12.0-6]
    pub(crate) authentication_method: Option<Box<str>>,
    pub(crate) reauthentication: Reauthentication,
    pub(crate) quota: SendQuota,
    pub(crate) packet_bytes_max: usize,
    pub(crate) aliases: TopicAliases,
    /// Whether reason strings and user properties may be sent everywhere. [MQTT-3.1.2-29]
    pub(crate) problem_information: bool,
    /// The shell holds enough unsent bytes of this connection.
    pub(crate) congested: bool,
    /// Bytes of messages sent since the shell last said that they are written.
    pub(crate) burst: usize,
    /// Above this many it is asked to say so.
    pub(crate) burst_max: usize,
    /// Bytes of QoS 0 that may be held back for it.
    pub(crate) held_max: usize,
    /// The shell was asked to say so.
    pub(crate) throttled: bool,
    /// Session Expiry Interval in CONNECT was above zero (§3.14.2.2.2).
    pub(crate) may_set_expiry: bool,
    /// The Client wants the session, which has rows, to end with this connection.
    pub(crate) ends_session: bool,
}

/// Whose turn it is while a Client is authenticated again (§4.12.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reauthentication {
    /// It is not.
    Idle,
    /// The authenticator's.
    Asked,
    /// The Client's.
    Answering,
}

impl Link {
    /// The shell's word on how much is unwritten.
    pub(crate) fn set_congested(&mut self, congested: bool) {
        self.congested = congested;
        self.throttled = congested;
        if !congested {
            self.burst = 0;
        }
    }

    /// Whether messages with QoS 1 and 2 have to wait until the shell has written.
    pub(crate) fn is_held_back(&self) -> bool {
        self.congested || self.throttled
    }

    /// The connection that `connect` opened.
    pub(crate) fn new(
        connection: ConnectionId,
        connect: &Connect<'_>,
        limits: &Limits,
        now: Time,
    ) -> Self {
        let properties = &connect.properties;
        let receive_maximum = properties.receive_maximum().unwrap_or(u16::MAX);
        let largest = properties.maximum_packet_size().unwrap_or(u32::MAX);
        Self {
            connection,
            version: connect.version,
            silence_max: keep_alive(connect, limits).map(|keep_alive| keep_alive * 3 / 2),
            silence_due: None,
            heard: now,
            expires: Time::NEVER,
            authentication_method: properties.authentication_method().map(Into::into),
            reauthentication: Reauthentication::Idle,
            quota: SendQuota::new(receive_maximum, limits.receive_maximum),
            packet_bytes_max: usize::try_from(largest).unwrap_or(usize::MAX),
            aliases: TopicAliases::new(limits.topic_alias_max),
            problem_information: properties.request_problem_information(),
            congested: false,
            burst: 0,
            burst_max: limits.burst_bytes_max,
            held_max: limits.held_bytes_max,
            throttled: false,
            may_set_expiry: !asked_expiry(connect, limits).is_zero(),
            ends_session: false,
        }
    }
}

/// The Keep Alive that holds: the Client's, or the server's where that is shorter and can be said
/// (MQTT 5). [MQTT-3.2.2-21]
pub(crate) fn keep_alive(connect: &Connect<'_>, limits: &Limits) -> Option<Duration> {
    let asked = Duration::from_secs(connect.keep_alive.into());
    match connect.version {
        Version::V5 if asked.is_zero() || asked > limits.keep_alive_max => {
            Some(limits.keep_alive_max)
        }
        _ if asked.is_zero() => None,
        _ => Some(asked),
    }
}

/// How long the session shall outlive the connection (§3.1.2.11.2): MQTT 3.1.1 knows only "not at
/// all" and "for ever", which is as long as the server keeps anything. Of a temporary user nothing is.
pub(crate) fn session_expiry(user: &str, connect: &Connect<'_>, limits: &Limits) -> Duration {
    if is_temporary(user) { Duration::ZERO } else { asked_expiry(connect, limits) }
}

fn asked_expiry(connect: &Connect<'_>, limits: &Limits) -> Duration {
    match connect.version {
        Version::V5 => {
            let seconds = connect.properties.session_expiry().unwrap_or(0);
            Duration::from_secs(seconds.into()).min(limits.session_expiry_max)
        }
        Version::V311 if connect.clean_start => Duration::ZERO,
        Version::V311 => limits.session_expiry_max,
    }
}

/// What a session subscribed with (§3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) id: Option<u32>,
}

impl Subscription {
    pub(crate) fn new(options: SubscriptionOptions, id: Option<u32>) -> Self {
        let SubscriptionOptions { qos, no_local, retain_as_published, .. } = options;
        Self { qos, no_local, retain_as_published, id }
    }

    /// The same, with a QoS that is offered.
    pub(crate) fn at_most(self, offers: &Offers) -> Self {
        Self { qos: self.qos.min(offers.maximum_qos), ..self }
    }

    /// Whether retained messages are to be sent now. [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
    pub(crate) fn wants_retained(handling: RetainHandling, new: bool) -> bool {
        match handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        }
    }
}

/// The Will Message of a connection (§3.1.2.5). [MQTT-3.1.2-7]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: Box<str>,
    pub(crate) payload: bytes::Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: bytes::Bytes,
    /// Message Expiry Interval, which begins when the will is published.
    pub(crate) message_expiry: Option<u32>,
    pub(crate) delay: Duration,
}

impl Will {
    pub(crate) fn new(will: &WillPacket<'_>) -> Self {
        let mut properties = Vec::new();
        will.properties.copy_forwarded(&mut properties);
        Self {
            topic: will.topic.into(),
            payload: bytes::Bytes::copy_from_slice(will.payload),
            qos: will.qos,
            retain: will.retain,
            properties: properties.into(),
            message_expiry: will.properties.message_expiry(),
            delay: Duration::from_secs(will.properties.will_delay().unwrap_or(0).into()),
        }
    }

    /// The message it becomes when it is published.
    pub(crate) fn into_message(self, id: MessageId, now: Time) -> Message {
        Message {
            id,
            topic: self.topic,
            payload: self.payload,
            qos: self.qos,
            retain: self.retain,
            properties: self.properties,
            accepted: now,
            expires: self.message_expiry.map(|left| now + Duration::from_secs(left.into())),
        }
    }
}

//! The plugin roles: what a program that embeds the broker can add or decide.
//!
//! Each role is one small trait. [`Authorize`] and [`Intercept`] are asked on the data path and
//! answer from memory. [`Observe`] learns afterwards, from a queue of its own. A [`Service`] is the
//! strong one: a state machine that lives in every shard beside the sessions, takes over topic
//! roots, chooses who hears what, and is told of every acknowledgement by the tag it put on the
//! delivery. Chat is a service.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Properties, Publish, QoS, ReasonCode, Version};
use crate::message::{Message, MessageId};
use crate::metric::Metric;
use crate::record::{Position, Query, Record, Row};
use crate::slot::ShardId;
use crate::time::Time;
use crate::topic::TopicFilter;

/// One incarnation of a session: never given twice, also not after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Who is at the other end, as authentication and CONNECT said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// The user, from the credential; empty for an anonymous one.
    pub user: &'a str,
    /// The Client Identifier (§3.1.3.1).
    pub client_id: &'a str,
    /// The protocol version it speaks.
    pub version: Version,
}

/// What [`Authorize`] and [`Intercept`] answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Refuse, with this Reason Code.
    Deny(ReasonCode),
}

/// Decides what a Client may do. On the data path: answers from memory, never blocks.
pub trait Authorize: Debug + Send + Sync {
    /// May `client` publish to `topic`? Also asked for Will Messages.
    fn publish(&self, client: &Client<'_>, topic: &str) -> Verdict;
    /// May `client` hear what matches `filter`?
    fn subscribe(&self, client: &Client<'_>, filter: &TopicFilter) -> Verdict;
}

/// Sees a message once, before it is stored; may change or refuse it. Never blocks either.
pub trait Intercept: Debug + Send + Sync {
    /// May change topic, payload and the rest of `message`, which then goes on as changed.
    fn accept(&self, client: &Client<'_>, message: &mut Message) -> Verdict;
}

/// Learns afterwards, from its own bounded queue. May be slow; changes nothing.
pub trait Observe: Debug + Send + Sync {
    /// Called in the order of the events of one shard.
    fn observe(&self, event: &Event);
}

/// What an [`Observe`] hears.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A Client was accepted.
    Connected {
        /// Its user.
        user: Arc<str>,
        /// Its Client Identifier.
        client_id: Arc<str>,
    },
    /// A Network Connection is over.
    Disconnected {
        /// Its user.
        user: Arc<str>,
        /// Its Client Identifier.
        client_id: Arc<str>,
        /// How it ended.
        how: Disconnection,
    },
    /// A message was accepted from a Client.
    Published {
        /// The message's identity, which [`Event::Acknowledged`] repeats.
        message: MessageId,
        /// Its topic.
        topic: Box<str>,
    },
    /// A subscriber acknowledged a message (PUBACK or PUBCOMP).
    Acknowledged {
        /// The message's identity.
        message: MessageId,
        /// The subscriber's user.
        user: Arc<str>,
        /// The subscriber's Client Identifier.
        client_id: Arc<str>,
        /// What the subscriber said of it: 0x80 and above is a refusal.
        reason: ReasonCode,
    },
}

/// How a Network Connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disconnection {
    /// DISCONNECT with Reason Code 0 (or MQTT 3.1.1's): no will.
    Clean,
    /// Anything else: the network, a deadline, a protocol error, DISCONNECT with will.
    Abrupt,
    /// Another connection took the session over; [`ServiceEvent::Connected`] follows at once.
    TakenOver,
}

/// A service's own mark on a delivery: what its acknowledgement will be told with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// What the delivery belongs to, for example a chat.
    pub key: u128,
    /// Which part of it, for example a sequence number.
    pub seq: u64,
}

/// A PUBLISH that waits for its service's [`Host::answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnswerToken {
    /// The publishing session.
    pub session: SessionId,
    /// Which of its requests.
    pub serial: u64,
}

/// A state machine that lives in every shard and owns topic roots.
///
/// One per shard, made by a [`ServiceFactory`]. It is told events in order and acts through its
/// [`Host`]; it has no clock, no files and no locks. What it wants kept it stores as rows under
/// [`crate::record::RowKind::Service`] in the slot they belong to.
pub trait Service: Debug + Send {
    /// The first topic levels that are this service's alone: messages published there come to it
    /// and are not routed; subscriptions there hear only what it delivers.
    fn roots(&self) -> &'static [&'static str];

    /// Whether `client` may subscribe to `filter`, whose first level is one of the roots.
    ///
    /// # Errors
    /// The Reason Code for SUBACK.
    fn subscribe(&self, client: &Client<'_>, filter: &TopicFilter) -> Result<(), ReasonCode>;

    /// Advances the machine by one event.
    fn handle(&mut self, event: ServiceEvent<'_>, host: &mut dyn Host);

    /// When [`ServiceEvent::TimedOut`] is due next.
    fn next_timeout(&self) -> Option<Time>;

    /// What is to be kept in place of the payload of a message of this service that was sent and not
    /// acknowledged, while its session is away; nothing, and it is kept as it is.
    fn veil(&self, payload: &[u8]) -> Option<Bytes> {
        let _ = payload;
        None
    }

    /// The payload of what [`Service::veil`] made. Nothing, and the message is not sent again: the
    /// service delivers it anew, as after a crash.
    fn unveil(&self, kept: &[u8]) -> Option<Bytes> {
        let _ = kept;
        None
    }
}

/// Makes the service of each shard.
pub trait ServiceFactory: Debug + Send + Sync {
    /// The service of `shard`, one of `shards`.
    fn make(&self, shard: ShardId, shards: u16) -> Box<dyn Service>;

    /// The shards are up, and this leads to them: for a service that the program around the broker
    /// talks to.
    fn opened(&self, line: Arc<dyn Line>) {
        drop(line);
    }
}

/// The way from the program around a broker to a service's shards.
pub trait Line: Debug + Send + Sync {
    /// How many shards there are.
    fn shards(&self) -> u16;

    /// Sends to the service on `shard`, where it arrives as [`ServiceEvent::Peer`] from that shard
    /// itself. What is sent to a broker that has stopped is dropped.
    fn send(&self, shard: ShardId, message: Box<dyn Any + Send>);
}

/// Whether nothing of this user may be kept: her sessions end with their connections, whatever they
/// ask for, and no login gives such a name but that of a service.
pub fn is_temporary(user: &str) -> bool {
    user.starts_with(TEMPORARY)
}

/// What the names of users begin with of whom nothing is kept.
pub const TEMPORARY: char = '~';

/// What a [`Service`] is told.
#[derive(Debug)]
pub enum ServiceEvent<'a> {
    /// The shard is up: rows can be read.
    Started,
    /// A session has a Network Connection now. Its subscriptions follow as
    /// [`ServiceEvent::Subscribed`] where it was resumed.
    Connected {
        /// The session.
        session: SessionId,
        /// Whose it is.
        client: Client<'a>,
        /// Whether the session outlives the connection (Session Expiry above 0).
        persistent: bool,
        /// Whether it was there before.
        resumed: bool,
        /// Deliveries of this service that the session sends again by itself.
        in_flight: &'a [Tag],
        /// The user properties of its CONNECT, and nothing else.
        user_properties: Properties<'a>,
    },
    /// The session has no Network Connection any more. What was delivered and not acknowledged is
    /// in flight if the session is resumed; what was queued and not sent is forgotten.
    Disconnected {
        /// The session.
        session: SessionId,
        /// Whose it is.
        client: Client<'a>,
        /// How it ended.
        how: Disconnection,
    },
    /// The session is over, connected or not: expired, or replaced by a clean start.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Whose it was.
        client: Client<'a>,
    },
    /// The session hears `filter` from now on, at most with `qos`.
    Subscribed {
        /// The session.
        session: SessionId,
        /// A filter below one of the roots.
        filter: &'a TopicFilter,
        /// The granted QoS.
        qos: QoS,
        /// Whether it is a new subscription and neither replaced nor resumed.
        new: bool,
    },
    /// The session does not hear `filter` any more.
    Unsubscribed {
        /// The session.
        session: SessionId,
        /// The filter that ended.
        filter: &'a TopicFilter,
    },
    /// A Client published below one of the roots, or its Will Message is due there.
    Published {
        /// The publishing session; `None` if it is over (a will).
        session: Option<SessionId>,
        /// Who publishes.
        client: Client<'a>,
        /// What it published; the topic is in full, aliases are resolved.
        publish: &'a Publish<'a>,
        /// To be answered exactly once; `None` for QoS 0 and wills.
        token: Option<AnswerToken>,
    },
    /// A delivery was acknowledged: PUBACK, or PUBCOMP, or a PUBREC of 0x80 and above.
    Acknowledged {
        /// The session.
        session: SessionId,
        /// The delivery's tag.
        tag: Tag,
        /// What the subscriber said: 0x80 and above is a refusal.
        reason: ReasonCode,
    },
    /// The session takes deliveries again after [`Refused::Full`].
    Room {
        /// The session.
        session: SessionId,
    },
    /// Records up to this position are safe.
    Stored(Position),
    /// The answer to [`Host::read`].
    Rows {
        /// The token given there.
        token: u64,
        /// The rows, in the order asked for.
        rows: Vec<Row>,
        /// Whether the range holds more than was asked for.
        more: bool,
    },
    /// A message from this service on another shard, or on this one.
    Peer {
        /// Where it comes from.
        from: ShardId,
        /// The service's own type.
        message: Box<dyn Any + Send>,
    },
    /// The deadline of [`Service::next_timeout`] has come.
    TimedOut,
}

/// Why a delivery was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The session is over or has no connection.
    NotConnected,
    /// None of its subscriptions matches the topic.
    NotSubscribed,
    /// It has enough waiting; for QoS 1 and 2 a [`ServiceEvent::Room`] will follow.
    Full,
    /// The message is larger than the Client takes: it counts as sent. [MQTT-3.1.2-25]
    TooLarge,
}

/// What a service answers to a PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The Reason Code of the PUBACK or PUBREC. MQTT 3.1.1 has none and is acknowledged anyway.
    pub reason: ReasonCode,
    /// Encoded properties (§3.4.2.2) of the acknowledgement; left out for MQTT 3.1.1, and where the
    /// Client wants no problem information.
    pub properties: Bytes,
}

/// What a [`Service`] acts through.
pub trait Host {
    /// The time.
    fn now(&self) -> Time;
    /// The shard this is.
    fn shard(&self) -> ShardId;
    /// How many shards there are.
    fn shards(&self) -> u16;
    /// 64 random bits, from the shard's seed.
    fn random(&mut self) -> u64;
    /// Whether the disk is nearly full: what would keep more should be refused.
    fn disk_low(&self) -> bool {
        false
    }
    /// An identity for a message of the service's own.
    fn message_id(&mut self) -> MessageId;

    /// Keeps a record. [`ServiceEvent::Stored`] tells when it is safe; own reads see it at once.
    fn store(&mut self, record: Record) -> Position;
    /// Reads rows; [`ServiceEvent::Rows`] answers with `token`.
    fn read(&mut self, token: u64, query: Query);

    /// Sends to this service on `shard`; also to itself, where it arrives after this event.
    /// Messages from one shard to another arrive in order.
    fn send(&mut self, shard: ShardId, message: Box<dyn Any + Send>);

    /// Delivers to one session, now. The QoS is the lower of the message's and the granted one of
    /// the matching subscriptions, and returned. A `tag` comes back with the acknowledgement.
    ///
    /// # Errors
    /// Nothing was delivered, and why.
    fn deliver(
        &mut self,
        session: SessionId,
        message: &Arc<Message>,
        tag: Option<Tag>,
    ) -> Result<QoS, Refused>;

    /// Answers a PUBLISH: its acknowledgement is sent, in order. A token of a connection that is
    /// over is ignored.
    fn answer(&mut self, token: AnswerToken, answer: Answer);

    /// Ends a session of this shard, once this event is done: its connection is closed with Reason
    /// Code 0x98 (administrative action), and what was kept for it goes.
    /// [`ServiceEvent::SessionEnded`] follows. Returns whether there is such a session.
    fn end_session(&mut self, session: SessionId) -> bool;

    /// Whether the service is to hold Clients to the rates that it has: not where only this machine
    /// comes in.
    fn rates_apply(&self) -> bool;
    /// Counts one.
    fn count(&mut self, metric: Metric);

    /// Publishes a plain message, routed to its subscribers; topics of services are not routed.
    fn publish(&mut self, message: Arc<Message>);
}

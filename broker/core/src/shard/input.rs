//! What a shard is told, and what it is made with.

use std::sync::Arc;

use crate::codec::{Connect, Malformed, Packet, ReasonCode};
use crate::hook::{Authorize, Intercept, ServiceFactory};
use crate::limits::Limits;
use crate::output::ConnectionId;
use crate::peer::PeerMessage;
use crate::record::{Position, Row};
use crate::slot::ShardId;
use crate::system::SystemValue;
use crate::time::Time;

/// Which shard it is and what binds it.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Its number.
    pub id: ShardId,
    /// How many shards there are, at most 256.
    pub shards: u16,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// What its random numbers and hashes begin with.
    pub seed: u64,
}

/// The plugins, by role. Each role may be empty.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Decides what a Client may do; everything, if there is none.
    pub authorize: Option<Arc<dyn Authorize>>,
    /// See each message before it is stored, in this order.
    pub intercept: Vec<Arc<dyn Intercept>>,
    /// Make the services of each shard; at most 256.
    pub services: Vec<Arc<dyn ServiceFactory>>,
    /// Whether events are wanted: [`crate::output::Output::Event`].
    pub observed: bool,
}

/// What a shard is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// All rows were handed in: begin.
    Started,
    /// A Client that was authenticated wants its session.
    Open(Open<'a>),
    /// A packet came in. Not before [`crate::output::Output::Opened`].
    Received {
        /// Where.
        connection: ConnectionId,
        /// Which.
        packet: Packet<'a>,
    },
    /// Bytes came in that are no packet.
    Malformed {
        /// Where.
        connection: ConnectionId,
        /// What is wrong with them.
        cause: Malformed,
    },
    /// The shell cannot go on with a connection: its Client is told `reason`, which is at least 0x80,
    /// and closed.
    Refuse {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: ReasonCode,
    },
    /// The answer to [`crate::output::Output::Authenticate`].
    Authenticated {
        /// Where.
        connection: ConnectionId,
        /// What the authenticator says.
        step: AuthStep<'a>,
    },
    /// The connection is gone. Not for one the shard has closed itself.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// The Client does not read, or reads again: too many bytes wait to be written.
    Congested {
        /// Which.
        connection: ConnectionId,
        /// Whether it is.
        congested: bool,
    },
    /// Every record up to this position survives a crash.
    Stored(Position),
    /// The answer to [`crate::output::Output::Read`].
    Rows {
        /// The token given there.
        token: u64,
        /// The rows, in the order asked for.
        rows: Vec<Row>,
        /// Whether the range holds more than was asked for.
        more: bool,
    },
    /// Another shard says something.
    Peer {
        /// Which one.
        from: ShardId,
        /// What.
        message: PeerMessage,
    },
    /// The broker says this of itself, to whoever asks: told to every shard.
    System(Arc<[SystemValue]>),
    /// The disk is nearly full, or is not any more: what would keep more is refused, while
    /// deliveries, acknowledgements and deletions go on.
    Disk {
        /// Whether it is; see [`crate::marks::DiskMark`].
        low: bool,
    },
    /// The deadline of [`super::Shard::next_timeout`] has come.
    TimedOut,
    /// [`Authorize`] answers otherwise than before: every subscription is looked at again, those of
    /// sessions without a connection too.
    RightsChanged,
    /// What authentication said is not true any more: connections end with 0x87, sessions stay.
    Revoked {
        /// Whose connections; `None`: everybody's.
        user: Option<&'a str>,
    },
    /// The server stops: every Client is told, every session put away.
    Stop,
}

/// A step of enhanced authentication, as the authenticator took it (§4.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthStep<'a> {
    /// The Client is to say more.
    Continue {
        /// What it is told; empty: nothing.
        data: &'a [u8],
    },
    /// It is known.
    Accept {
        /// As whom.
        user: &'a str,
        /// When that is over; [`Time::NEVER`] if it is not.
        expires: Time,
        /// What it is told; empty: nothing.
        data: &'a [u8],
    },
    /// It is not; the connection ends. [MQTT-4.12.1-2]
    Refuse(ReasonCode),
}

/// A CONNECT whose Client is known. See [`crate::admission::admit`].
#[derive(Debug)]
pub struct Open<'a> {
    /// The connection.
    pub connection: ConnectionId,
    /// Who authentication says it is; empty: anonymous.
    pub user: &'a str,
    /// The Client Identifier: the Client's own, or the one it was given.
    pub client_id: &'a str,
    /// Whether it was given one. [MQTT-3.2.2-16]
    pub assigned: bool,
    /// When what authentication says is over; [`Time::NEVER`] if it is not.
    pub expires: Time,
    /// What the last step of enhanced authentication says to the Client, in CONNACK; empty:
    /// nothing.
    pub authentication_data: &'a [u8],
    /// What it said.
    pub connect: Connect<'a>,
}

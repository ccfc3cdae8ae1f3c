//! The seam to MQTT: a [`Transport`] opens connections, a [`Link`] is one.
//!
//! A connection that ends takes with it everything that was under way; what was unanswered is the
//! machine's to publish again, by message id. MQTT 5 is spoken because its PUBACK carries a Reason
//! Code and the entry's seq (§3.4.2).

mod mqtt;
mod stream;
#[cfg(feature = "websocket")]
mod websocket;

pub use self::mqtt::Traffic;
pub(crate) use self::mqtt::{Counters, Mqtt};

use bytes::Bytes;
use std::future::Future;
use std::time::Duration;

/// Opens Network Connections, one after the other.
pub trait Transport: Send + Sync + 'static {
    /// An open connection.
    type Link: Link;

    /// Connects once, as one who is silent for no longer than `keep_alive`; no retries, the caller
    /// waits and calls again.
    ///
    /// # Errors
    ///
    /// Why no connection came about.
    fn connect(
        &self,
        keep_alive: Duration,
    ) -> impl Future<Output = Result<(Self::Link, Opened), Lost>> + Send;
}

/// One Network Connection, open until [`next`](Link::next) fails.
pub trait Link: Send + 'static {
    /// Hands over a publish, to be sent in the order of the calls.
    ///
    /// # Errors
    ///
    /// The connection takes no more: it is as good as lost.
    fn publish(&mut self, publish: Outgoing) -> Result<(), Lost>;

    /// Subscribes at the highest QoS 1, or unsubscribes.
    ///
    /// # Errors
    ///
    /// The connection takes no more: it is as good as lost.
    fn subscribe(&mut self, filter: &str, subscribe: bool) -> Result<(), Lost>;

    /// Acknowledges an incoming publish by the number it came with.
    ///
    /// # Errors
    ///
    /// The connection takes no more: it is as good as lost.
    fn acknowledge(&mut self, number: u16) -> Result<(), Lost>;

    /// Sends DISCONNECT; [`next`](Link::next) fails soon after.
    fn disconnect(&mut self);

    /// What happened next.
    ///
    /// # Errors
    ///
    /// The connection ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Happened, Lost>> + Send;
}

/// What the broker said in CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Whether the device's Session was still there (§3.2.2.1.1).
    pub session_present: bool,
    /// How many QoS 1 publishes the broker takes unacknowledged (§3.2.2.3.3).
    pub receive_maximum: u16,
}

/// A publish to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Names the publish in [`Happened::Acknowledged`]; never sent.
    pub token: u64,
    /// Topic Name.
    pub topic: String,
    /// Application Message.
    pub payload: Bytes,
    /// At QoS 0, which nobody acknowledges; otherwise at QoS 1.
    pub at_most_once: bool,
    /// Content Type (§3.3.2.3.9).
    pub content_type: Option<String>,
    /// User properties.
    pub properties: Vec<(String, String)>,
}

impl Outgoing {
    /// A publish at QoS 1 with nothing but a payload.
    pub fn new(token: u64, topic: String, payload: Bytes) -> Self {
        let properties = Vec::new();
        Self { token, topic, payload, at_most_once: false, content_type: None, properties }
    }
}

/// What a [`Link`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A publish came in.
    Received {
        /// Topic Name.
        topic: String,
        /// Application Message.
        payload: Bytes,
        /// What [`Link::acknowledge`] wants; none at QoS 0.
        number: Option<u16>,
    },
    /// The broker answered a publish: PUBACK (§3.4).
    Acknowledged {
        /// That of [`Outgoing::token`].
        token: u64,
        /// The Reason Code.
        reason: u8,
        /// The Reason String.
        text: Option<String>,
        /// The user properties.
        properties: Vec<(String, String)>,
    },
    /// The broker answered a subscription: SUBACK.
    Subscribed {
        /// The Topic Filter.
        filter: String,
        /// What the Reason Code says, if it is 0x80 or more.
        refused: Option<String>,
    },
    /// Something that only proves the connection to be alive.
    Alive,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// Nobody answers at the address.
    #[error("no broker at {address}: {cause}")]
    Unreachable {
        /// The address.
        address: String,
        /// What the operating system said.
        cause: String,
    },
    /// The broker answered CONNECT with a refusal.
    #[error("the broker refused the connection: {reason}")]
    Refused {
        /// What the Reason Code says.
        reason: String,
    },
    /// Another connection of the same user and device took the Session over (0x8E).
    #[error("another program connected as the same user and device")]
    TakenOver,
    /// The connection ended.
    #[error("connection lost: {cause}")]
    Ended {
        /// What was seen of it.
        cause: String,
    },
    /// Nothing came for so long that the connection must be dead.
    #[error("connection lost: silent for {after:?}")]
    Silent {
        /// How long.
        after: Duration,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

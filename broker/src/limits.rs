//! Every bound of connections, with its default and what happens when it is reached.
//!
//! The bounds of sessions and messages are the core's: [`tidings_core::limits::Limits`].

use std::time::Duration;

use tidings_core::rate::Rate;

/// The bounds of connections, as far as they are the shell's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The largest CONNECT, and AUTH before CONNACK, whatever larger packets are taken later. More:
    /// CONNACK 0x95 and closed.
    pub connect_bytes_max: usize,
    /// Clients that are connected at once; 0: no bound. One that would be one more: CONNACK 0x97 (MQTT
    /// 3.1.1: 3). Who takes its own session over is not one more.
    pub connections_max: usize,
    /// From accept to a complete and accepted CONNECT, enhanced authentication included; no byte
    /// makes it longer. Then: closed. A connected Client has as long to be authenticated again.
    pub connect_timeout: Duration,
    /// Connections that have not been accepted yet, in all; more wait in the system's backlog.
    pub unauthenticated_max: usize,
    /// The same for one address; more are closed, unless one of them says CONNECT within 10 ms. Below
    /// `unauthenticated_max` each address has besides only its share of the places as soon as those
    /// are short.
    pub unauthenticated_per_address_max: usize,
    /// Whether the rates below are in force.
    pub rates: Rates,
    /// PUBLISH packets a second of one connection, whatever their QoS; 0: no bound. Above it the socket
    /// is not read.
    pub publish_rate: u32,
    /// How many it may send at once, 2 at least.
    pub publish_burst: u32,
    /// How long a connection may be above its rate without a break: then DISCONNECT with 0x96 (MQTT
    /// 3.1.1: closed). Zero: for ever.
    pub publish_over_max: Duration,
    /// Connections a second from one address, or one IPv6 network (/64); 0: no bound. More are closed
    /// at once: before CONNECT there is nothing to answer.
    pub connect_rate_per_address: u32,
    /// How many of them at once.
    pub connect_burst_per_address: u32,
    /// Connections from one address at a time, those of authenticated Clients included; 0: no bound.
    /// More are closed at once.
    pub connections_per_address_max: usize,
    /// Connections a second that are accepted in the first time after a start; 0: no bound. The others
    /// wait in the system's backlog.
    pub start_connect_rate: u32,
    /// How long that time is.
    pub start_connect_time: Duration,
    /// Unwritten bytes of a connection above which nothing more is taken from its queue, QoS 0
    /// messages are dropped, and nothing is read from it.
    pub outbound_soft_bytes: usize,
    /// Unwritten bytes of a connection above which it is closed; never fewer than three times the
    /// soft bound and a largest packet, or those who read well would be closed.
    pub outbound_hard_bytes: usize,
    /// Bytes of memory that the process may use; 0: the limit of its control group, or half of what
    /// the machine has. At 60 % of it nobody new is let in (CONNACK 0x89), at 75 % publishers are
    /// not read, at 85 % the connections that hold most are closed.
    pub memory_bytes_max: u64,
    /// How long a Client may not read while bytes wait for it. Then: closed.
    pub unsent_timeout: Duration,
    /// How long a broker that stops waits at the most for its Clients to take what is on its way to
    /// them. Then: closed.
    pub stop_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connect_bytes_max: 64 * 1024,
            connections_max: 0,
            connect_timeout: Duration::from_secs(10),
            unauthenticated_max: 1024,
            unauthenticated_per_address_max: 64,
            rates: Rates::default(),
            publish_rate: 50,
            publish_burst: 200,
            publish_over_max: Duration::from_secs(30),
            connect_rate_per_address: 20,
            connect_burst_per_address: 200,
            connections_per_address_max: 256,
            start_connect_rate: 500,
            start_connect_time: Duration::from_secs(60),
            outbound_soft_bytes: 256 * 1024,
            outbound_hard_bytes: 1024 * 1024,
            memory_bytes_max: 0,
            unsent_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(4),
        }
    }
}

impl ConnectionLimits {
    /// The same without rates.
    pub(crate) fn without_rates(self) -> Self {
        Self {
            publish_rate: 0,
            connect_rate_per_address: 0,
            connections_per_address_max: 0,
            start_connect_rate: 0,
            ..self
        }
    }

    pub(crate) fn publishes(&self) -> Option<Rate> {
        Rate::per_second(self.publish_rate, self.publish_burst.max(2))
    }

    pub(crate) fn connects_per_address(&self) -> Option<Rate> {
        Rate::per_second(self.connect_rate_per_address, self.connect_burst_per_address)
    }

    /// What is accepted after a start comes evenly: a tenth of a second's worth at once.
    pub(crate) fn start_connects(&self) -> Option<Rate> {
        Rate::per_second(self.start_connect_rate, self.start_connect_rate / 10)
    }
}

/// Whether Clients are held to rates: of PUBLISH, of connections from an address, of what they do in
/// chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rates {
    /// Unless every listener is for this machine alone, and behind no proxy: such a broker is being
    /// developed with, or measured.
    #[default]
    OffOnLoopback,
    /// Wherever they come from.
    On,
    /// Never.
    Off,
}

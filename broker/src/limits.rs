//! Every bound of connections, with its default and what happens when it is reached.
//!
//! The bounds of sessions and messages are the core's: [`tidings_core::limits::Limits`].

use std::time::Duration;

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
    /// The same for one address; more are closed at once.
    pub unauthenticated_per_address_max: usize,
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
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connect_bytes_max: 64 * 1024,
            connections_max: 0,
            connect_timeout: Duration::from_secs(10),
            unauthenticated_max: 1024,
            unauthenticated_per_address_max: 64,
            outbound_soft_bytes: 256 * 1024,
            outbound_hard_bytes: 1024 * 1024,
            memory_bytes_max: 0,
            unsent_timeout: Duration::from_secs(30),
        }
    }
}

//! Network Connections: bytes on their way, in both directions, as far as they get.
//!
//! A [`Link`] moves no byte by itself. What one end knows of the other's end comes behind the bytes,
//! if at all: a half-open link is one whose Client is gone and whose server is not told.

use tidings_core::codec::Version;

/// One Network Connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whose it is.
    pub(crate) owner: Owner,
    pub(crate) version: Version,
    /// From the Client, not yet read by the server.
    pub(crate) up: Vec<u8>,
    /// From the server, not yet at the Client.
    pub(crate) down: Vec<u8>,
    /// At the Client: the beginning of a packet.
    pub(crate) arrived: Vec<u8>,
    /// The Client is gone.
    pub(crate) client_gone: bool,
    /// The server will hear of that, behind what is in `up`.
    pub(crate) reset: bool,
    /// The server has closed it: the Client hears of that behind what is in `down`.
    pub(crate) server_gone: bool,
    /// The server has read CONNECT.
    pub(crate) introduced: bool,
}

/// The Client at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Publisher(usize),
    Subscriber(usize),
    Device(usize),
    Stranger,
    /// Who looks at the retained messages at the end.
    Witness,
}

impl Link {
    pub(crate) fn new(owner: Owner, version: Version) -> Self {
        Self {
            owner,
            version,
            up: Vec::new(),
            down: Vec::new(),
            arrived: Vec::new(),
            client_gone: false,
            reset: false,
            server_gone: false,
            introduced: false,
        }
    }

    /// The server writes. To a Client that is gone it does so in vain.
    pub(crate) fn send_down(&mut self, bytes: &[u8]) {
        if !self.client_gone || !self.reset {
            self.down.extend_from_slice(bytes);
        }
    }

    /// The Client is gone, with what was on its way to it; of what it had sent, `kept` bytes get
    /// through.
    pub(crate) fn lose(&mut self, kept: usize, half_open: bool) {
        self.client_gone = true;
        self.reset = !half_open;
        self.up.truncate(kept);
        self.arrived = Vec::new();
        if self.reset {
            self.down.clear();
        }
    }

    /// Whether nothing will ever happen on it.
    pub(crate) fn is_over(&self) -> bool {
        self.server_gone && (self.client_gone || self.down.is_empty())
    }
}

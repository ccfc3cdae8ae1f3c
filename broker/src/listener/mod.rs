//! Where Clients come in: ordered bytes and who is at the other end, nothing of MQTT.
//!
//! A [`Listener`] says where, and which layers the bytes come through: the PROXY protocol, TLS,
//! WebSocket, in this order. What it makes of a connection is one boxed `Stream`, whatever the
//! layers, which the front reads CONNECT from and which then moves to the thread of its shard.
//!
//! ```
//! use tidings_broker::listener::Listener;
//!
//! # fn main() -> Result<(), std::net::AddrParseError> {
//! let websocket = Listener::tcp("127.0.0.1:8083".parse()?).with_websocket();
//! let local = Listener::unix("/run/tidings.sock").mode(0o660);
//! # Ok(())
//! # }
//! ```

use std::fmt::{self, Debug};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::auth::PeerCertificate;

#[cfg(test)]
#[path = "../../tests/fuzz_bodies/transports.rs"]
mod any_bytes;
mod bound;
mod certificate;
mod door;
mod frame;
mod proxy;
mod socket;
mod tls;
mod unix;
mod upgrade;
mod websocket;

pub(crate) use bound::{Bound, Ready};
pub(crate) use door::Guest;
pub use door::{Door, DoorClosed, Room};
pub use proxy::{Network, NotANetwork};
pub(crate) use socket::Socket;
pub use tls::{ClientCertificates, Tls, TlsError, TlsOptions};
pub use upgrade::{names_this_machine, page_may_connect};

/// A place where Clients come in, for [`Builder::listener`](crate::Builder::listener).
#[derive(Debug, Clone)]
pub struct Listener {
    place: Place,
    mode: u32,
    proxies: Option<Arc<[Network]>>,
    tls: Option<Tls>,
    websocket: Option<Arc<[String]>>,
}

impl Listener {
    /// TCP. Port 0: any free one, see [`Broker::endpoints`](crate::Broker::endpoints).
    pub fn tcp(address: SocketAddr) -> Self {
        Self::at(Place::Tcp(address))
    }

    /// A Unix socket. Its Clients count as coming from 127.0.0.1. The file is removed at the end; one
    /// that a process left which is gone is replaced.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::Unix(path.into()))
    }

    fn at(place: Place) -> Self {
        Self { place, mode: 0o600, proxies: None, tls: None, websocket: None }
    }

    /// Who may use a Unix socket: the permissions of its file, 0600 if nothing is said.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Within TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// Within WebSocket at `/mqtt` or `/`. Pages may connect that are of the same host.
    #[must_use]
    pub fn with_websocket(self) -> Self {
        self.with_websocket_from([])
    }

    /// Within WebSocket, where pages of these origins may connect besides, such as
    /// `https://chat.example`; `*` lets all in. What is no browser names no origin and may always.
    #[must_use]
    pub fn with_websocket_from(mut self, origins: impl IntoIterator<Item = String>) -> Self {
        self.websocket = Some(origins.into_iter().collect());
        self
    }

    /// Behind a proxy that says by the PROXY protocol, version 2, who is at the other end. Everybody
    /// else is turned away; on a Unix socket whoever may use it is trusted.
    #[must_use]
    pub fn behind_proxy(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.proxies = Some(proxies.into_iter().collect());
        self
    }

    /// Whether only this machine reaches it: a loopback address or a Unix socket, behind no proxy.
    pub fn is_local(&self) -> bool {
        let is_near = match &self.place {
            Place::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Place::Unix(_) => true,
        };
        is_near && self.proxies.is_none()
    }

    /// Listens.
    ///
    /// # Errors
    /// Most likely: somebody else does.
    pub(crate) fn bind(&self) -> io::Result<Bound> {
        Bound::new(self.clone())
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    fn transport(&self) -> Transport {
        match (&self.tls, &self.websocket) {
            (None, None) => Transport::Mqtt,
            (Some(_), None) => Transport::Mqtts,
            (None, Some(_)) => Transport::Ws,
            (Some(_), Some(_)) => Transport::Wss,
        }
    }
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => fmt::Display::fmt(&path.display(), f),
        }
    }
}

/// What MQTT is spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// The socket itself.
    Mqtt,
    /// TLS.
    Mqtts,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

/// Where a broker listens. Its `Display` is what a Client is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What is spoken there.
    pub transport: Transport,
    /// Where, with the port that was chosen.
    pub place: Place,
}

impl Endpoint {
    /// The address, if it is not a path.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Tcp(address) => Some(address),
            Place::Unix(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path) = match self.transport {
            Transport::Mqtt => ("mqtt", ""),
            Transport::Mqtts => ("mqtts", ""),
            Transport::Ws => ("ws", "/mqtt"),
            Transport::Wss => ("wss", "/mqtt"),
        };
        match &self.place {
            Place::Tcp(address) => write!(f, "{scheme}://{address}{path}"),
            Place::Unix(file) => write!(f, "{scheme}+unix:{}", file.display()),
        }
    }
}

/// Ordered bytes in both directions, that can move from one thread to another.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// What the bytes travel on, below all layers; `None`: nothing that is bound to a runtime.
    fn socket(&mut self) -> Option<&mut Socket>;

    /// Whether it is the socket itself: to close it is all there is to say at the end.
    fn is_bare(&self) -> bool {
        false
    }

    /// Takes it from this thread's runtime, to be sent to another thread.
    fn detach(&mut self) -> io::Result<()> {
        self.socket().map_or(Ok(()), Socket::detach)
    }

    /// Gives it to this thread's runtime.
    fn attach(&mut self) -> io::Result<()> {
        self.socket().map_or(Ok(()), Socket::attach)
    }
}

impl Stream for Socket {
    fn socket(&mut self) -> Option<&mut Socket> {
        Some(self)
    }

    fn is_bare(&self) -> bool {
        true
    }
}

impl Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// What was proved in the TLS handshake.
    pub(crate) certificate: Option<PeerCertificate>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address, f)
    }
}

/// Who comes through a Unix socket: this machine.
const THIS_MACHINE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

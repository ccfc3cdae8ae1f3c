//! Where Clients come in: ordered bytes and who is at the other end, nothing of MQTT.

use std::fmt::{self, Debug};
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::auth::PeerCertificate;

mod socket;

pub(crate) use socket::Socket;

/// Ordered bytes in both directions, that can move from one thread to another.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// What the bytes travel on, below all layers; `None`: nothing that is bound to a runtime.
    fn socket(&mut self) -> Option<&mut Socket>;

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

//! A listener that listens: connections, and the layers that each comes through.

use std::io;
use std::net::SocketAddr;

use rustix::io::retry_on_intr;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::tls::Within;
use super::unix::SocketFile;
use super::websocket::WebSocket;
use super::{Endpoint, Listener, Peer, Place, Socket, Stream, THIS_MACHINE, proxy, unix, upgrade};

/// A listener that listens, on no runtime yet.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: Listener,
    socket: BoundSocket,
}

#[derive(Debug)]
enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl Bound {
    pub(super) fn new(mut listener: Listener) -> io::Result<Self> {
        let socket = match &mut listener.place {
            Place::Tcp(address) => {
                let socket = std::net::TcpListener::bind(*address)?;
                socket.set_nonblocking(true)?;
                // What is accepted there has it from the listener.
                let _no_delay_is_only_faster = set_tcp_nodelay(&socket, true);
                rustix::net::listen(&socket, BACKLOG)?;
                *address = socket.local_addr()?;
                BoundSocket::Tcp(socket)
            }
            Place::Unix(path) => {
                let (socket, file) = unix::bind(path, listener.mode)?;
                rustix::net::listen(&socket, BACKLOG)?;
                BoundSocket::Unix(socket, file)
            }
        };
        Ok(Self { listener, socket })
    }

    /// Where it listens, with the port that was chosen.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { transport: self.listener.transport(), place: self.listener.place.clone() }
    }

    /// Gives it to this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<Ready> {
        let socket = match self.socket {
            BoundSocket::Tcp(socket) => {
                #[expect(
                    deprecated,
                    reason = "unsound for what changes its descriptor, which this does not; its \
                              successor is an unsafe function"
                )]
                let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
                ReadySocket::Tcp(socket)
            }
            BoundSocket::Unix(socket, file) => {
                ReadySocket::Unix(tokio::net::UnixListener::from_std(socket)?, file)
            }
        };
        Ok(Ready { listener: self.listener, socket })
    }
}

/// A listener that accepts.
#[derive(Debug)]
pub(crate) struct Ready {
    listener: Listener,
    socket: ReadySocket,
}

#[derive(Debug)]
enum ReadySocket {
    Tcp(AsyncFd<std::net::TcpListener>),
    Unix(
        tokio::net::UnixListener,
        #[expect(dead_code, reason = "removed when dropped")] SocketFile,
    ),
}

impl Ready {
    /// The next connection, and where it comes from.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match &self.socket {
            ReadySocket::Tcp(listener) => {
                let accepted = listener.async_io(Interest::READABLE, accept).await;
                let (stream, address) = accepted?;
                Ok((stream.into(), address))
            }
            ReadySocket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((stream.into(), THIS_MACHINE))
            }
        }
    }

    /// Whether a proxy is to say who is at the other end.
    pub(crate) fn is_behind_proxy(&self) -> bool {
        self.listener.proxies.is_some()
    }

    /// Whether connections come through no layer at all.
    pub(crate) fn is_plain(&self) -> bool {
        let Listener { proxies, tls, websocket, .. } = &self.listener;
        proxies.is_none() && tls.is_none() && websocket.is_none()
    }

    /// Who is at the other end, as the proxy at `address` says.
    ///
    /// # Errors
    /// It is not one that is trusted, or does not say so as agreed.
    pub(crate) async fn ask_proxy(
        &self,
        socket: &mut Socket,
        address: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let is_unix = matches!(self.socket, ReadySocket::Unix(..));
        let mut trusted = self.listener.proxies.iter().flat_map(|networks| networks.iter());
        if !is_unix && !trusted.any(|network| network.contains(address.ip())) {
            let text = "not a proxy that is trusted";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(proxy::read(socket, address.ip()).await?.unwrap_or(address))
    }

    /// Takes a connection through its layers. Messages of WebSocket are bounded by the last.
    ///
    /// # Errors
    /// A handshake failed; the other side was told, as far as its layer can.
    pub(crate) async fn open(
        &self,
        socket: Socket,
        address: SocketAddr,
        message_bytes_max: u64,
    ) -> io::Result<(Box<dyn Stream>, Peer)> {
        let websocket = self.listener.websocket.as_deref();
        let plain = Peer { address, certificate: None };
        let Some(tls) = &self.listener.tls else {
            return Ok(match websocket {
                None => (Box::new(socket), plain),
                Some(origins) => {
                    (upgraded(socket, origins, address, message_bytes_max).await?, plain)
                }
            });
        };
        tls.refresh();
        let within = if websocket.is_some() { Within::Http } else { Within::Mqtt };
        let (stream, certificate) = tls.accept(socket, within).await?;
        let peer = Peer { certificate, ..plain };
        Ok(match websocket {
            None => (Box::new(stream), peer),
            Some(origins) => (upgraded(stream, origins, address, message_bytes_max).await?, peer),
        })
    }
}

/// Accepts for no runtime: who has said CONNECT by now needs the front's no more.
fn accept(listener: &std::net::TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (stream, address) = retry_on_intr(|| acceptfrom_with(listener, flags))?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    let address = address.ok_or(io::ErrorKind::NotConnected)?;
    Ok((stream.into(), address))
}

async fn upgraded<S: Stream + 'static>(
    mut stream: S,
    origins: &[String],
    address: SocketAddr,
    message_bytes_max: u64,
) -> io::Result<Box<dyn Stream>> {
    let early = upgrade::upgrade(&mut stream, origins, address.ip()).await?;
    Ok(Box::new(WebSocket::new(stream, early, message_bytes_max)))
}

/// How many connections the system keeps until they are accepted; it has a bound of its own
/// (`net.core.somaxconn`). The library's 128 would have those that come back after a restart knock
/// again a second later, and later still.
const BACKLOG: i32 = 4_096;

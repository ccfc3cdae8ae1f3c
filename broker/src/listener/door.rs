//! Connections that another server accepted, such as an HTTP server that upgraded `/mqtt`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, channel};

use super::websocket::WebSocket;
use super::{Peer, Socket, Stream};

/// Where connections are handed in that another server accepted. Cheap to clone.
///
/// They count as strangers and have the deadline of any other. A stream stays on the runtime that
/// it came from, which has to go on running: what arrives wakes the shard's thread from there.
#[derive(Debug, Clone)]
pub struct Door {
    guests: Sender<Guest>,
    message_bytes_max: u64,
}

/// Too many connections wait at the [`Door`], or the broker stops: it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker takes no more connections just now")]
pub struct DoorClosed;

/// A connection that was handed in.
pub(crate) struct Guest {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) peer: Peer,
}

impl Door {
    /// A door, and where the guests come out.
    pub(crate) fn new(message_bytes_max: u64) -> (Self, Receiver<Guest>) {
        let (guests, receiver) = channel(WAITING_MAX);
        (Self { guests, message_bytes_max }, receiver)
    }

    /// Waits until not too many wait at the door, and keeps a place there.
    ///
    /// # Errors
    /// It is closed for good.
    pub async fn room(&self) -> Result<Room, DoorClosed> {
        let permit = self.guests.clone().reserve_owned().await.map_err(|_| DoorClosed)?;
        Ok(Room { permit, message_bytes_max: self.message_bytes_max })
    }

    /// Hands in a connection that was upgraded to WebSocket: the answer 101 is sent, with the
    /// subprotocol `mqtt`, and whether the page may connect was looked at (RFC 6455, section 4.2).
    ///
    /// # Errors
    /// It is closed.
    pub fn websocket<S>(&self, stream: S, peer: SocketAddr) -> Result<(), DoorClosed>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let permit = self.guests.clone().try_reserve_owned().map_err(|_| DoorClosed)?;
        let room = Room { permit, message_bytes_max: self.message_bytes_max };
        room.websocket(Vec::new(), stream, peer);
        Ok(())
    }
}

/// A place at the [`Door`], for one connection.
#[derive(Debug)]
pub struct Room {
    permit: OwnedPermit<Guest>,
    message_bytes_max: u64,
}

impl Room {
    /// As [`Door::websocket`], where `early` was read from the stream already, behind the request to
    /// upgrade.
    pub fn websocket<S>(self, early: Vec<u8>, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = WebSocket::new(Foreign(stream), early, self.message_bytes_max);
        let peer = Peer { address: peer, certificate: None };
        self.permit.send(Guest { stream: Box::new(stream), peer });
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guest").field(&self.peer).finish()
    }
}

/// A stream of somebody else's runtime.
struct Foreign<S>(S);

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for Foreign<S> {
    fn socket(&mut self) -> Option<&mut Socket> {
        None
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Foreign<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Foreign<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// How many wait for the front's thread; they are few, for it only takes them over.
const WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_at_the_door_can_wait_for_it() {
        let (door, mut guests) = Door::new(1_000);
        let hand_in = || door.websocket(tokio::io::duplex(1).0, "127.0.0.1:9".parse().unwrap());
        for _ in 0..WAITING_MAX {
            hand_in().unwrap();
        }
        assert!(hand_in().is_err());
        let mut room = pin!(door.room());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(room.as_mut().poll(&mut cx).is_pending());
        assert!(guests.recv().await.is_some());
        // The place is whose turn it was, and nobody else's.
        assert!(hand_in().is_err());
        let Poll::Ready(Ok(room)) = room.as_mut().poll(&mut cx) else { panic!("no place") };
        room.websocket(Vec::new(), tokio::io::duplex(1).0, "127.0.0.1:9".parse().unwrap());
        drop(guests);
        assert!(door.room().await.is_err());
    }
}

//! The system's end of a connection, which can move from one thread's runtime to another's.
//!
//! What stands on it (TLS, WebSocket) keeps its state and moves along: [`Socket::detach`] takes the
//! socket from the runtime that accepted it, [`Socket::attach`] gives it to the one it is on then.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A socket.
#[derive(Debug)]
pub(crate) struct Socket {
    state: State,
    /// See [`Socket::read_directly`].
    direct: bool,
    /// Given to a runtime that has not looked at it: whether it takes bytes is known to the system only.
    fresh: bool,
}

#[derive(Debug)]
enum State {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Accepted, and on no runtime yet: the first bytes may be there before it needs one.
    NewTcp(std::net::TcpStream),
    DetachedTcp(std::net::TcpStream),
    DetachedUnix(std::os::unix::net::UnixStream),
    /// A move that failed: the socket is closed.
    Gone,
}

impl Socket {
    /// The number that the system knows it by; -1 after a move that failed.
    pub(crate) fn descriptor(&self) -> RawFd {
        match &self.state {
            State::Tcp(stream) => stream.as_raw_fd(),
            State::Unix(stream) => stream.as_raw_fd(),
            State::NewTcp(stream) | State::DetachedTcp(stream) => stream.as_raw_fd(),
            State::DetachedUnix(stream) => stream.as_raw_fd(),
            State::Gone => -1,
        }
    }

    /// Takes the socket from its runtime. It cannot be read or written until it is attached.
    pub(crate) fn detach(&mut self) -> io::Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Tcp(stream) => State::DetachedTcp(stream.into_std()?),
            State::NewTcp(stream) => State::DetachedTcp(stream),
            State::Unix(stream) => State::DetachedUnix(stream.into_std()?),
            other => other,
        };
        Ok(())
    }

    /// Gives the socket to the runtime of this thread.
    pub(crate) fn attach(&mut self) -> io::Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::NewTcp(stream) | State::DetachedTcp(stream) => {
                State::Tcp(TcpStream::from_std(stream)?)
            }
            State::DetachedUnix(stream) => State::Unix(UnixStream::from_std(stream)?),
            other => other,
        };
        self.fresh = true;
        Ok(())
    }

    fn attach_if_new(&mut self) -> io::Result<()> {
        if matches!(self.state, State::NewTcp(_)) { self.attach() } else { Ok(()) }
    }

    /// Whether reads ask the system first. A runtime looks for what is new only now and then, and
    /// until it has looked it says of a socket with bytes that there are none.
    pub(crate) fn read_directly(&mut self, direct: bool) {
        self.direct = direct;
    }

    /// Reads what the system has of it; `WouldBlock`: nothing.
    fn read_now(&self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let into = buf.initialize_unfilled();
        let read = match &self.state {
            State::Tcp(stream) => retry_on_intr(|| rustix::io::read(stream, &mut *into))?,
            State::Unix(stream) => retry_on_intr(|| rustix::io::read(stream, &mut *into))?,
            State::NewTcp(stream) => retry_on_intr(|| rustix::io::read(stream, &mut *into))?,
            _ => return Err(io::ErrorKind::NotConnected.into()),
        };
        buf.advance(read);
        Ok(())
    }

    /// Writes the first bytes on a runtime, without waiting for it to look; `None`: it has, or the
    /// socket takes nothing.
    fn write_fresh(&mut self, buf: &[u8]) -> Option<io::Result<usize>> {
        if !std::mem::take(&mut self.fresh) {
            return None;
        }
        let flags = SendFlags::NOSIGNAL;
        let written = match &self.state {
            State::Tcp(stream) => retry_on_intr(|| send(stream, buf, flags)),
            State::Unix(stream) => retry_on_intr(|| send(stream, buf, flags)),
            _ => return None,
        };
        match written {
            Err(Errno::AGAIN) => None,
            written => Some(written.map_err(io::Error::from)),
        }
    }
}

impl From<std::net::TcpStream> for Socket {
    /// One that was accepted and does not block.
    fn from(stream: std::net::TcpStream) -> Self {
        Self { state: State::NewTcp(stream), direct: false, fresh: false }
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { state: State::Unix(stream), direct: false, fresh: false }
    }
}

/// Read or written between two runtimes.
fn detached<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let new = matches!(self.state, State::NewTcp(_));
        if self.direct || new {
            match self.read_now(buf) {
                // From here on the runtime tells when there is something.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
        self.attach_if_new()?;
        match &mut self.state {
            State::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            State::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            _ => detached(),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.attach_if_new()?;
        if let Some(written) = self.write_fresh(buf) {
            return Poll::Ready(written);
        }
        match &mut self.state {
            State::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            State::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            _ => detached(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.attach_if_new()?;
        match &mut self.state {
            State::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            State::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            _ => detached(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The system holds what was written.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.attach_if_new()?;
        match &mut self.state {
            State::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::task::Waker;

    use rustix::net::sockopt::tcp_nodelay;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::listener::Listener;

    #[tokio::test]
    async fn runtime_is_asked_only_by_who_waits_for_the_first_bytes() {
        let bound = Listener::tcp("127.0.0.1:0".parse().unwrap()).bind().unwrap();
        let address = bound.endpoint().address().unwrap();
        let listener = bound.attach().unwrap();
        for waits in [false, true] {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 5];
            if waits {
                let mut cx = Context::from_waker(Waker::noop());
                let mut buf = ReadBuf::new(&mut bytes);
                assert!(Pin::new(&mut socket).poll_read(&mut cx, &mut buf).is_pending());
            }
            client.write_all(b"first").unwrap();
            socket.read_exact(&mut bytes).await.unwrap();
            assert_eq!((&bytes, matches!(socket.state, State::NewTcp(_))), (b"first", !waits));
        }
    }

    #[tokio::test]
    async fn what_is_accepted_does_not_delay_and_is_written_before_its_runtime_has_looked() {
        let bound = Listener::tcp("127.0.0.1:0".parse().unwrap()).bind().unwrap();
        let address = bound.endpoint().address().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (mut socket, _) = bound.attach().unwrap().accept().await.unwrap();
        let State::NewTcp(stream) = &socket.state else { panic!("{socket:?}") };
        assert!(tcp_nodelay(stream).unwrap());
        socket.detach().unwrap();
        socket.attach().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut socket).poll_write(&mut cx, b"first").is_ready());
        assert!(Pin::new(&mut socket).poll_write(&mut cx, b"second").is_pending());
    }
}

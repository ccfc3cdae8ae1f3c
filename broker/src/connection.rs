//! One Network Connection on its shard's thread: bytes that came in, bytes that wait to go out.
//!
//! A connection that has nothing to say holds no buffer: input is read into the shard's scratch
//! memory and only an unfinished packet is kept, output memory is given back once it is written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tidings_core::codec::Version;
use tidings_core::rate::Bucket;
use tidings_core::time::Time;
use tokio::io::ReadBuf;

use crate::listener::Stream;
use crate::unwritten::Unwritten;
use crate::visitors::Visitor;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// CONNACK is not sent: nothing is read.
    Opening,
    /// Packets go both ways.
    Open,
    /// The shard has let go of it: what is to be written is written, then it is closed.
    Closing,
    /// All is written and the other side was told; it has some time to read.
    Lingering,
}

/// Whether the Client has said DISCONNECT: all that was asked before is answered first, also to a
/// Client in haste.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// Not that we know.
    No,
    /// It waits in the input.
    Waits,
    /// It is to be heard at once.
    Now,
}

/// A connection.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    pub(crate) version: Version,
    pub(crate) phase: Phase,
    /// It had its CONNACK, and counts among those that are connected.
    pub(crate) connected: bool,
    /// It has a place among the connections that may be.
    pub(crate) placed: bool,
    /// The beginning of a packet whose end has not come yet.
    pub(crate) input: Vec<u8>,
    /// `input` was looked at and holds no whole packet.
    pub(crate) waits_for_more: bool,
    output: Unwritten,
    /// All is written, but a layer of the stream may hold some of it.
    unflushed: bool,
    /// Wakes the task that polls this connection.
    pub(crate) waker: Option<Waker>,
    /// It is not read before it has been written: its task is to be woken then.
    pub(crate) waits_for_room: bool,
    /// In the list of connections to be written.
    pub(crate) dirty: bool,
    /// The shard knows that the Client does not read.
    pub(crate) congested: bool,
    /// In the list of those of which the shard is to be told that they do again.
    pub(crate) relieved: bool,
    /// Since when nothing could be written; or since when it lingers.
    pub(crate) stuck_since: Option<Time>,
    /// When it is looked at, whether it is stuck then or not.
    pub(crate) watched_until: Option<Time>,
    pub(crate) parting: Parting,
    /// It is closed as soon as all is written: DISCONNECT was the last that the Client had to say, and
    /// it waits for nothing but the end of the connection.
    pub(crate) ends_at_once: bool,
    /// A PUBLISH waits in the input until there is memory for it.
    pub(crate) holds_publish: bool,
    /// What it holds as far as the shard's thread has counted it, in bytes.
    pub(crate) counted: usize,
    /// In the list of connections that wait for the store, or for answers.
    pub(crate) stalled: bool,
    pub(crate) pace: Pace,
    /// Its place among those from its address.
    _from: Option<Visitor>,
}

/// How fast a connection publishes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    pub(crate) bucket: Bucket,
    /// It is not read before.
    pub(crate) paused_until: Option<Time>,
    /// Since when it has had more to say than it may, without a break.
    pub(crate) over_since: Option<Time>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("phase", &self.phase)
            .field("input", &self.input.len())
            .field("unwritten", &self.unwritten())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        version: Version,
        input: Vec<u8>,
        from: Option<Visitor>,
    ) -> Self {
        Self {
            stream,
            version,
            phase: Phase::Opening,
            connected: false,
            placed: false,
            input,
            waits_for_more: false,
            output: Unwritten::default(),
            unflushed: false,
            waker: None,
            waits_for_room: false,
            dirty: false,
            congested: false,
            relieved: false,
            stuck_since: None,
            watched_until: None,
            parting: Parting::No,
            ends_at_once: false,
            holds_publish: false,
            counted: 0,
            stalled: false,
            pace: Pace::default(),
            _from: from,
        }
    }

    /// Appends to what is to be written.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.output.push(bytes);
    }

    /// How many bytes are still to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.output.len()
    }

    /// Bytes in its buffers. What they could hold besides takes no memory of the machine's.
    fn held_bytes(&self) -> usize {
        self.input.len() + self.output.held_bytes()
    }

    /// Counts that: what it was when it was counted last, and what it is.
    pub(crate) fn count_held(&mut self) -> (usize, usize) {
        let held = self.held_bytes();
        (std::mem::replace(&mut self.counted, held), held)
    }

    /// Whether there is something for [`Connection::poll_write`] to do.
    pub(crate) fn is_unsent(&self) -> bool {
        self.unflushed || self.unwritten() > 0
    }

    /// Writes what there is. `Pending`: the connection's task is woken when there is room.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let front = self.output.front();
            let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, front))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.unflushed = true;
            self.stuck_since = None;
        }
        if self.unflushed {
            ready!(Pin::new(&mut *self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads into `scratch`; 0: the other side has finished.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Whether reads ask the system first: see [`Socket::read_directly`](crate::listener::Socket).
    pub(crate) fn read_directly(&mut self, direct: bool) {
        if let Some(socket) = self.stream.socket() {
            socket.read_directly(direct);
        }
    }

    /// Whether to close it is all there is to say at the end.
    pub(crate) fn is_bare(&self) -> bool {
        self.stream.is_bare()
    }

    /// Tells the other side that no more will come.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

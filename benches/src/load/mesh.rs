//! Many connections on one thread: one `epoll_wait` for all, one read for all that a connection has
//! to say, one write for all that it gets told in a turn.
//!
//! Edge-triggered: a read that does not fill the memory given has emptied the socket, so that a
//! turn costs a connection one read and one write, however many packets they carry.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::load::clock::Clock;
use crate::load::stream::{Stream, Tls};
use crate::load::wire::{Malformed, PACKET_BYTES_MAX, Packet, Version, decode};

/// What one read takes at most.
const SCRATCH_BYTES: usize = 256 << 10;
/// Events of one `epoll_wait`.
const EVENTS_MAX: usize = 1024;
/// The number of the listener among the connections, which is none of theirs.
const LISTENER: u64 = u64::MAX;
/// The same for the timer.
const TIMER: u64 = u64::MAX - 1;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Gone {
    /// The other side closed it.
    Closed,
    /// It failed.
    Failed(io::Error),
    /// What came is no packet.
    Malformed(Malformed),
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the other side"),
            Self::Failed(error) => error.fmt(f),
            Self::Malformed(malformed) => malformed.fmt(f),
        }
    }
}

/// What is done about packets.
pub(crate) trait Actor {
    /// A packet came on a connection, at a time of the run's clock.
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64);

    /// A connection ended, not by [`Mesh::close`].
    fn gone(&mut self, at: usize, why: &Gone);

    /// Somebody connected.
    fn accepted(&mut self, _at: usize) {}

    /// All that came in this turn was told, and nothing of it is written yet.
    fn turn_end(&mut self, _outs: &mut Outs) {}
}

#[derive(Debug, Default)]
struct Out {
    bytes: Vec<u8>,
    sent: usize,
    /// Where one write ends and the next begins, counted from the first byte; none is needed at the
    /// end.
    cuts: VecDeque<usize>,
    /// Whether it stands in the list.
    dirty: bool,
    /// Whether the socket takes nothing for now.
    blocked: bool,
    /// Whether the connection is to be closed when all is written.
    ending: bool,
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Outs {
    outs: Vec<Out>,
    dirty: Vec<usize>,
}

impl Outs {
    /// Puts something that is written at the end of the turn.
    #[inline]
    pub(crate) fn put(&mut self, at: usize, put: impl FnOnce(&mut Vec<u8>)) {
        if let Some(out) = self.outs.get_mut(at) {
            if !out.dirty {
                out.dirty = true;
                self.dirty.push(at);
            }
            put(&mut out.bytes);
        }
    }

    /// Ends a write: what is put from now on goes in one of its own.
    pub(crate) fn cut(&mut self, at: usize) {
        if let Some(out) = self.outs.get_mut(at) {
            out.cuts.push_back(out.bytes.len());
        }
    }

    /// What waits for a connection that does not take it.
    #[inline]
    pub(crate) fn waiting(&self, at: usize) -> usize {
        self.outs.get(at).map_or(0, |out| out.bytes.len() - out.sent)
    }

    /// Closes a connection once all that was put is written.
    pub(crate) fn end(&mut self, at: usize) {
        self.put(at, |_| ());
        if let Some(out) = self.outs.get_mut(at) {
            out.ending = true;
        }
    }
}

#[derive(Debug)]
struct Peer {
    stream: Stream,
    version: Version,
    /// The beginning of a packet that is not whole.
    rest: Vec<u8>,
}

/// The connections of a thread, by their numbers.
pub(crate) struct Mesh {
    epoll: OwnedFd,
    timer: OwnedFd,
    listener: Option<TcpListener>,
    peers: Vec<Option<Peer>>,
    /// Numbers to be given again, to those who connect to us.
    free: Vec<usize>,
    outs: Outs,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
    clock: Clock,
    version: Version,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("peers", &self.peers).finish_non_exhaustive()
    }
}

fn watched() -> epoll::EventFlags {
    use epoll::EventFlags as It;
    It::IN | It::OUT | It::RDHUP | It::ET
}

impl Mesh {
    /// Without any connection; those that are opened speak `version`.
    pub(crate) fn new(version: Version, clock: Clock) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let (data, edge) = (epoll::EventData::new_u64(TIMER), epoll::EventFlags::ET);
        epoll::add(&epoll, &timer, data, epoll::EventFlags::IN | edge)?;
        Ok(Self {
            epoll,
            timer,
            listener: None,
            peers: Vec::new(),
            free: Vec::new(),
            outs: Outs::default(),
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; SCRATCH_BYTES],
            clock,
            version,
        })
    }

    /// Takes connections from a listener that does not block.
    pub(crate) fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&self.epoll, &listener, data, epoll::EventFlags::IN)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// What waits to be written.
    pub(crate) fn outs(&mut self) -> &mut Outs {
        &mut self.outs
    }

    /// Begins to connect, as connection `at`. What is put meanwhile is written once it is open.
    pub(crate) fn open(
        &mut self,
        at: usize,
        to: SocketAddr,
        from: Option<IpAddr>,
        tls: Option<&Tls>,
    ) -> io::Result<()> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(from) = from {
            rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
        }
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.add(at, Stream::new(socket.into(), tls)?, true)
    }

    fn add(&mut self, at: usize, stream: Stream, blocked: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(at as u64);
        epoll::add(&self.epoll, stream.socket(), data, watched())?;
        if self.peers.len() <= at {
            self.peers.resize_with(at + 1, || None);
            self.outs.outs.resize_with(at + 1, Out::default);
        }
        if let (Some(peer), Some(out)) = (self.peers.get_mut(at), self.outs.outs.get_mut(at)) {
            *peer = Some(Peer { stream, version: self.version, rest: Vec::new() });
            out.bytes.clear();
            out.cuts.clear();
            (out.sent, out.blocked, out.ending) = (0, blocked, false);
        }
        Ok(())
    }

    /// Closes a connection as it stands.
    pub(crate) fn close(&mut self, at: usize) {
        if let (Some(peer), Some(out)) = (self.peers.get_mut(at), self.outs.outs.get_mut(at)) {
            *peer = None;
            out.bytes = Vec::new();
            out.sent = 0;
        }
    }

    /// Whether a connection is open, or being opened.
    pub(crate) fn is_open(&self, at: usize) -> bool {
        self.peers.get(at).is_some_and(Option::is_some)
    }

    /// Ends the wait of a [`turn`](Self::turn) after this time: to the microsecond, other than a wait's
    /// own timeout.
    pub(crate) fn wake_in(&self, wait: Duration) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Nothing would turn the timer off.
        let wait = timespec(wait.max(Duration::from_nanos(1)));
        let when = Itimerspec { it_interval: zero, it_value: wait };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &when)?;
        Ok(())
    }

    /// Waits until something happens, at most so long, and has the actor do something about it.
    pub(crate) fn turn(&mut self, wait: Duration, actor: &mut impl Actor) -> io::Result<()> {
        // What was put outside of a turn must not wait for one.
        self.flush(actor);
        let mut events = std::mem::take(&mut self.events);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timespec(wait))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let (data, flags) = (event.data.u64(), event.flags);
            match (data, usize::try_from(data)) {
                (LISTENER, _) => self.accept(actor),
                (TIMER, _) | (_, Err(_)) => {}
                (_, Ok(at)) => self.ready(at, flags, actor),
            }
        }
        self.events = events;
        actor.turn_end(&mut self.outs);
        self.flush(actor);
        Ok(())
    }

    fn accept(&mut self, actor: &mut impl Actor) {
        let Some(listener) = self.listener.take() else { return };
        while let Ok((socket, _)) = listener.accept() {
            let at = self.free.pop().unwrap_or(self.peers.len());
            let set = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
            if set.is_ok() && self.add(at, Stream::plain(socket), false).is_ok() {
                actor.accepted(at);
            }
        }
        self.listener = Some(listener);
    }

    fn ready(&mut self, at: usize, flags: epoll::EventFlags, actor: &mut impl Actor) {
        use epoll::EventFlags as It;
        if flags.contains(It::OUT)
            && let Some(out) = self.outs.outs.get_mut(at)
            && let Some(Some(peer)) = self.peers.get(at)
            && (out.blocked || peer.stream.wants_flush())
        {
            out.blocked = false;
            self.outs.put(at, |_| ());
        }
        if flags.intersects(It::IN | It::RDHUP | It::HUP | It::ERR) {
            let to_its_end = flags.intersects(It::RDHUP | It::HUP | It::ERR);
            if let Err(why) = self.read(at, to_its_end, actor) {
                self.gone(at, &why, actor);
            }
        }
    }

    fn gone(&mut self, at: usize, why: &Gone, actor: &mut impl Actor) {
        self.leave(at);
        actor.gone(at, why);
    }

    /// Closes a connection; its number is given again to somebody who connects to us.
    fn leave(&mut self, at: usize) {
        self.close(at);
        if self.listener.is_some() {
            self.free.push(at);
        }
    }

    /// Reads until the socket is empty, or to its end.
    fn read(&mut self, at: usize, to_its_end: bool, actor: &mut impl Actor) -> Result<(), Gone> {
        loop {
            let Some(Some(peer)) = self.peers.get_mut(at) else { return Ok(()) };
            let kept = peer.rest.len();
            if self.scratch.len() < 2 * kept {
                self.scratch.resize((2 * kept).min(2 * PACKET_BYTES_MAX + SCRATCH_BYTES), 0);
            }
            let (head, free) = self.scratch.split_at_mut(kept);
            let read = match peer.stream.read(free) {
                Ok(0) => return Err(Gone::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Gone::Failed(error)),
            };
            let emptied = read < free.len() && peer.stream.short_is_empty();
            head.copy_from_slice(&peer.rest);
            peer.rest.clear();
            let now = self.clock.now();
            let mut unread = self.scratch.get(..kept + read).unwrap_or_default();
            while let Some((packet, len)) = decode(unread, peer.version).map_err(Gone::Malformed)? {
                if let Packet::Connect { version } = packet {
                    peer.version = version;
                }
                actor.packet(at, &packet, &mut self.outs, now);
                unread = unread.get(len..).unwrap_or_default();
            }
            peer.rest.extend_from_slice(unread);
            if emptied && !to_its_end {
                return Ok(());
            }
        }
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, actor: &mut impl Actor) {
        let mut dirty = std::mem::take(&mut self.outs.dirty);
        for at in dirty.drain(..) {
            let ended = match (self.peers.get_mut(at), self.outs.outs.get_mut(at)) {
                (Some(Some(peer)), Some(out)) => {
                    out.dirty = false;
                    out.write(&mut peer.stream)
                }
                (_, Some(out)) => {
                    // Its connection went while it was being told something.
                    out.dirty = false;
                    out.bytes.clear();
                    continue;
                }
                _ => continue,
            };
            match ended {
                Ok(false) => {}
                Ok(true) => self.leave(at),
                Err(error) => self.gone(at, &Gone::Failed(error), actor),
            }
        }
        // The list's memory is kept; nobody was put on it meanwhile but by `gone`.
        dirty.append(&mut self.outs.dirty);
        self.outs.dirty = dirty;
    }
}

impl Out {
    /// Writes what it can; whether the connection is to be closed.
    fn write(&mut self, stream: &mut Stream) -> io::Result<bool> {
        while !self.blocked && self.sent < self.bytes.len() {
            while self.cuts.front().is_some_and(|cut| *cut <= self.sent) {
                self.cuts.pop_front();
            }
            let end = self.cuts.front().copied().unwrap_or(self.bytes.len());
            match stream.write(self.bytes.get(self.sent..end).unwrap_or_default()) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if !self.blocked {
            match stream.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                flushed => flushed?,
            }
        }
        if self.sent == self.bytes.len() && !self.blocked {
            self.bytes.clear();
            self.cuts.clear();
            self.sent = 0;
            return Ok(self.ending);
        }
        if self.sent > SCRATCH_BYTES {
            self.bytes.drain(..self.sent);
            self.cuts.iter_mut().for_each(|cut| *cut = cut.saturating_sub(self.sent));
            self.sent = 0;
        }
        Ok(false)
    }
}

fn timespec(time: Duration) -> Timespec {
    let tv_sec = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: time.subsec_nanos().into() }
}

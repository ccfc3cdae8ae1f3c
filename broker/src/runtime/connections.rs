//! The connections of a shard's thread: read, written, watched.
//!
//! A connection is read by its own task and written by the writer's, which comes when all that were
//! ready had their turn. Whoever cannot write is woken by its own socket again.

use std::task::{Context, Poll};

use tidings_core::codec::{Packet, Version, decode};
use tidings_core::output::ConnectionId;
use tidings_core::shard::{Input, Open};
use tidings_core::time::Time;
use tokio::net::TcpStream;

use super::{LINGER, Runtime, wake};
use crate::connection::{Connection, Phase};
use crate::mail::Introduced;

impl Runtime {
    /// A connection that came from the front.
    pub(super) fn introduce(&mut self, introduced: Introduced) -> Option<ConnectionId> {
        let Introduced { stream, mut bytes, user, client_id, assigned } = introduced;
        let stream = TcpStream::from_std(stream).ok()?;
        let Ok(Some((Packet::Connect(connect), used))) = decode(&bytes, Version::V5, usize::MAX)
        else {
            return None;
        };
        let version = connect.version;
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        // What came behind CONNECT waits until the session is open.
        let input = bytes.get(used..).unwrap_or_default().to_vec();
        self.connections.insert(id, Connection::new(Box::new(stream), version, input));
        tracing::debug!(connection = id.0, user, client_id, "opening");
        let open = Open { connection: id, user: &user, client_id: &client_id, assigned, connect };
        self.handle(Input::Open(open));
        bytes.clear();
        Some(id)
    }

    /// The task of a connection.
    pub(super) fn poll_connection(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(()) };
        if !connection.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            connection.waker = Some(cx.waker().clone());
        }
        if connection.unwritten() > 0 && !self.write(id, cx) {
            return Poll::Ready(());
        }
        for _ in 0..READS_PER_TURN {
            match self.poll_phase(id, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        // The others are to have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One step of a connection: `Ready(true)`: there may be more to do, `false`: it is gone.
    fn poll_phase(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(false) };
        match connection.phase {
            Phase::Opening => return Poll::Pending,
            Phase::Closing => {
                if connection.unwritten() > 0 {
                    return Poll::Pending;
                }
                if connection.poll_shutdown(cx).is_pending() {
                    return Poll::Pending;
                }
                connection.phase = Phase::Lingering;
                connection.stuck_since = None;
                self.watch(id);
                return Poll::Ready(true);
            }
            Phase::Lingering => {
                return match connection.poll_read(cx, &mut self.scratch) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(1..)) => Poll::Ready(true),
                    Poll::Ready(_) => Poll::Ready(self.forget(id)),
                };
            }
            Phase::Open => {}
        }
        if connection.unwritten() > self.limits.outbound_soft_bytes {
            connection.waits_for_room = true;
            return Poll::Pending;
        }
        if self.store.backlog().is_full() || self.shard.is_behind(id) {
            // Once each, however often its task is woken for something else.
            if !std::mem::replace(&mut connection.stalled, true) {
                self.stalled.push(id);
            }
            return Poll::Pending;
        }
        let input = std::mem::take(&mut connection.input);
        if !input.is_empty() && !connection.waits_for_more {
            self.receive(id, input, 0);
            return Poll::Ready(true);
        }
        connection.input = input;
        let mut scratch = std::mem::take(&mut self.scratch);
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(false) };
        let read = connection.poll_read(cx, &mut scratch);
        let result = match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(read @ 1..)) => {
                let bytes = scratch.get(..read).unwrap_or_default();
                self.receive_bytes(id, bytes);
                Poll::Ready(true)
            }
            Poll::Ready(end) => {
                tracing::debug!(connection = id.0, ?end, "lost");
                self.handle(Input::Closed { connection: id });
                Poll::Ready(self.forget(id))
            }
        };
        self.scratch = scratch;
        result
    }

    /// Takes bytes behind what there is of an unfinished packet.
    fn receive_bytes(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.input.is_empty() {
            let (used, more) = self.receive_packets(id, bytes);
            let rest = bytes.get(used..).unwrap_or_default();
            self.keep_rest(id, rest.to_vec(), more);
        } else {
            let mut input = std::mem::take(&mut connection.input);
            input.extend_from_slice(bytes);
            self.receive(id, input, 0);
        }
    }

    fn receive(&mut self, id: ConnectionId, mut input: Vec<u8>, from: usize) {
        let (used, more) = self.receive_packets(id, input.get(from..).unwrap_or_default());
        input.drain(..from + used);
        self.keep_rest(id, input, more);
    }

    /// `more`: there may be whole packets in it.
    fn keep_rest(&mut self, id: ConnectionId, rest: Vec<u8>, more: bool) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.phase == Phase::Open
        {
            connection.waits_for_more = !more;
            // Idle connections hold no memory.
            connection.input = if rest.is_empty() { Vec::new() } else { rest };
        }
    }

    /// Hands whole packets to the shard, as many as one connection may before the others have
    /// their turn; how many bytes they were, and whether there may be more of them.
    fn receive_packets(&mut self, id: ConnectionId, bytes: &[u8]) -> (usize, bool) {
        let Some(connection) = self.connections.get(&id) else { return (bytes.len(), false) };
        let version = connection.version;
        let now = self.clock.now();
        let (mut used, mut packets, mut more) = (0, 0_usize, false);
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match decode(rest, version, self.packet_bytes_max) {
                Ok(None) => break,
                Ok(Some((packet, length))) => {
                    used += length;
                    let input = Input::Received { connection: id, packet };
                    self.shard.handle(input, now, &mut self.out);
                    packets += 1;
                    let look = packets.is_multiple_of(PACKETS_PER_LOOK);
                    if look && (packets == PACKETS_PER_READ || self.shard.is_behind(id)) {
                        more = true;
                        break;
                    }
                }
                Err(cause) => {
                    used = bytes.len();
                    let input = Input::Malformed { connection: id, cause };
                    self.shard.handle(input, now, &mut self.out);
                    break;
                }
            }
            if self.out.outputs.len() >= OUTPUTS_PER_BATCH {
                self.carry_out();
            }
        }
        self.carry_out();
        // A service may have answered others.
        self.wake_stalled();
        (used, more)
    }

    /// Writes what there is; `false`: the connection is gone.
    fn write(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let result = connection.poll_write(cx);
        let unwritten = connection.unwritten();
        // The socket wakes a task only for what it could not take at once.
        if unwritten <= self.limits.outbound_soft_bytes
            && std::mem::take(&mut connection.waits_for_room)
        {
            wake(connection.waker.as_ref());
        }
        let was_congested = connection.congested;
        match result {
            Poll::Ready(Ok(())) => {
                connection.stuck_since = None;
                if connection.phase == Phase::Closing {
                    wake(connection.waker.as_ref());
                }
            }
            Poll::Ready(Err(_)) => {
                self.handle(Input::Closed { connection: id });
                return self.forget(id);
            }
            Poll::Pending => self.watch(id),
        }
        let congested = if was_congested {
            unwritten > self.limits.outbound_soft_bytes / 4
        } else {
            unwritten > self.limits.outbound_soft_bytes
        };
        if unwritten > self.limits.outbound_hard_bytes {
            tracing::debug!(connection = id.0, unwritten, "client does not read: closed");
            self.handle(Input::Closed { connection: id });
            return self.forget(id);
        }
        if congested != was_congested {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.congested = congested;
            }
            self.handle(Input::Congested { connection: id, congested });
        }
        true
    }

    /// Drops a connection; always `false`.
    pub(super) fn forget(&mut self, id: ConnectionId) -> bool {
        if let Some(connection) = self.connections.remove(&id) {
            if let Some(until) = connection.watched_until {
                self.stuck.remove(&(until, id));
            }
            wake(connection.waker.as_ref());
        }
        if self.stopping && self.connections.is_empty() {
            wake(self.wake_end.as_ref());
        }
        false
    }

    /// The task that writes: it comes after those that were ready when the first wanted to.
    pub(super) fn poll_writer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wake_writer = Some(cx.waker().clone());
        while !self.dirty.is_empty() {
            for id in std::mem::take(&mut self.dirty) {
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                connection.dirty = false;
                // Its own task is to be woken when there is room again.
                if let Some(waker) = connection.waker.clone() {
                    self.write(id, &mut Context::from_waker(&waker));
                }
            }
        }
        Poll::Pending
    }

    pub(super) fn check_stuck(&mut self, id: ConnectionId, now: Time) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.watched_until = None;
        let Some(since) = connection.stuck_since else { return };
        let open = connection.phase <= Phase::Open;
        let patience = if open { self.limits.unsent_timeout } else { LINGER };
        if now.since(since) < patience {
            return self.watch(id);
        }
        if open {
            tracing::debug!(connection = id.0, "client does not read: closed");
            self.handle(Input::Closed { connection: id });
        }
        self.forget(id);
    }
}

/// How often a connection is read before the others have their turn.
const READS_PER_TURN: usize = 4;

/// Packets that are taken of one read: a read may hold thousands of the smallest.
const PACKETS_PER_READ: usize = 1024;

/// After how many packets it is looked whether answers to the Client wait.
const PACKETS_PER_LOOK: usize = 32;

/// Outputs that gather before they are carried out.
const OUTPUTS_PER_BATCH: usize = 1024;

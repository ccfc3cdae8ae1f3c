//! What goes out: the writer's turn, and connections that do not take what waits for them.
//!
//! A connection that cannot be written is looked at once it has had its time: the time a Client
//! may go without reading, or the shorter one to read its goodbye.

use std::task::{Context, Poll};
use std::time::Duration;

use tidings_core::metric::Metric;
use tidings_core::output::{CloseCause, ConnectionId};
use tidings_core::shard::Input;
use tidings_core::time::Time;

use super::read::TURN;
use super::{Runtime, wake};
use crate::connection::Phase;

impl Runtime {
    pub(super) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
            wake(self.wake_writer.as_ref());
        }
    }

    pub(super) fn close(&mut self, id: ConnectionId, cause: &CloseCause) {
        if let Some(connection) = self.connections.get_mut(&id) {
            tracing::debug!(connection = id.0, "closing: {cause}");
            connection.phase = Phase::Closing;
            let disconnected = matches!(cause, CloseCause::Disconnected);
            connection.ends_at_once = disconnected && connection.is_bare();
            if std::mem::take(&mut connection.placed) {
                self.metrics.leave();
            }
            if std::mem::take(&mut connection.connected) {
                self.metrics.disconnected();
            }
            connection.input = Vec::new();
            connection.stuck_since = None;
            self.count_held(id);
            self.watch(id);
            self.mark_dirty(id);
        }
    }

    /// Looks at a connection again after a while: it cannot write, or lingers.
    pub(super) fn watch(&mut self, id: ConnectionId) {
        let now = self.clock.now();
        if let Some(connection) = self.connections.get_mut(&id) {
            let patience = match connection.phase {
                Phase::Opening | Phase::Open => self.limits.unsent_timeout,
                Phase::Closing | Phase::Lingering => LINGER,
            };
            let since = *connection.stuck_since.get_or_insert(now);
            // One entry each, however often it gets stuck and unstuck: at worst it is looked at
            // early, and again.
            let due = since + patience;
            if connection.watched_until.is_none_or(|until| until > due) {
                if let Some(until) = connection.watched_until.replace(due) {
                    self.stuck.remove(&(until, id));
                }
                self.stuck.insert((due, id));
            }
        }
    }

    /// Writes what there is; `false`: the connection is gone.
    pub(super) fn write(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let before = connection.unwritten();
        let result = connection.poll_write(cx);
        let unwritten = connection.unwritten();
        self.counters.add(Metric::BytesSent, before.saturating_sub(unwritten) as u64);
        let (counted, held) = connection.count_held();
        self.held = (self.held + held).saturating_sub(counted);
        // At once: to write to hundreds takes a while, in which somebody may ask.
        self.counters.set(Metric::HeldBytes, self.held as u64);
        self.held_looked = self.held_looked.min(self.held);
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
                    if connection.ends_at_once {
                        return self.forget(id);
                    }
                    wake(connection.waker.as_ref());
                }
            }
            Poll::Ready(Err(_)) => {
                self.count_end(id, Metric::ClosedByNetwork);
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
            self.counters.add(Metric::LimitOutboundHard, 1);
            self.count_end(id, Metric::ClosedNotReading);
            self.handle(Input::Closed { connection: id });
            return self.forget(id);
        }
        if congested && !was_congested {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.congested = true;
            }
            self.handle(Input::Congested { connection: id, congested });
        } else if was_congested && !congested {
            self.relieve_later(id);
        }
        true
    }

    /// A connection has written what it had: whoever has more for it is told in turn.
    fn relieve_later(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !std::mem::replace(&mut connection.relieved, true)
        {
            self.relieved.push_back(id);
            wake(self.wake_reliever.as_ref());
        }
    }

    /// The task that has the shard send more to connections that have written what they had. It ends
    /// with each turn, so that one Client for which very much waits, and who reads it, is not all that
    /// there is to do.
    pub(super) fn poll_reliever(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.relieved.is_empty() {
            self.wake_reliever = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // Nobody wakes it out of the break that it takes now: sockets are looked at in that.
        self.wake_reliever = None;
        let turn_ends = self.clock.now() + TURN;
        while self.clock.now() < turn_ends
            && let Some(id) = self.relieved.pop_front()
        {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.relieved = false;
            // If something else filled it meanwhile, it is relieved when that is written.
            if connection.unwritten() <= self.limits.outbound_soft_bytes / 4 {
                connection.congested = false;
                self.handle(Input::Congested { connection: id, congested: false });
            }
        }
        Poll::Ready(())
    }

    /// Counts the end of a connection that the shard has not closed.
    pub(super) fn count_end(&self, id: ConnectionId, cause: Metric) {
        if self.connections.get(&id).is_some_and(|it| it.phase <= Phase::Open) {
            self.counters.add(cause, 1);
        }
    }

    /// Drops a connection; always `false`.
    pub(super) fn forget(&mut self, id: ConnectionId) -> bool {
        if let Some(connection) = self.connections.remove(&id) {
            self.held = self.held.saturating_sub(connection.counted);
            if connection.placed {
                self.metrics.leave();
            }
            if connection.connected {
                self.metrics.disconnected();
            }
            if let Some(until) = connection.watched_until {
                self.stuck.remove(&(until, id));
            }
            if let Some(until) = connection.pace.paused_until {
                self.paused.remove(&(until, id));
            }
            wake(connection.waker.as_ref());
        }
        self.methods.remove(&id);
        if self.stopping && self.connections.is_empty() {
            wake(self.wake_end.as_ref());
        }
        false
    }

    /// The task that writes: it comes after those that were ready when the first wanted to.
    pub(super) fn poll_writer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wake_writer = Some(cx.waker().clone());
        while !self.dirty.is_empty() {
            let mut dirty = std::mem::take(&mut self.dirty);
            for id in dirty.drain(..) {
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                connection.dirty = false;
                // Its own task is to be woken when there is room again.
                if let Some(waker) = connection.waker.clone() {
                    self.write(id, &mut Context::from_waker(&waker));
                }
            }
            // Whichever has memory, unless writing made others dirty.
            if self.dirty.is_empty() {
                self.dirty = dirty;
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
            self.counters.add(Metric::LimitUnsent, 1);
            self.count_end(id, Metric::ClosedNotReading);
            self.handle(Input::Closed { connection: id });
        }
        self.forget(id);
    }
}

/// How long a closed connection may take to read the last words.
const LINGER: Duration = Duration::from_secs(1);

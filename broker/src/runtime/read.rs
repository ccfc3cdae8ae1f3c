//! What comes in: a connection from the front, its task, and the packets that it brings.
//!
//! Only the beginning of an unfinished packet is kept from one read to the next. While much waits
//! to be written, or for the store, a connection is not read at all.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidings_core::codec::{Packet, ReasonCode, Version, decode};
use tidings_core::metric::Metric;
use tidings_core::output::ConnectionId;
use tidings_core::shard::{Input, Open, refuse_connect};
use tidings_core::time::Time;

use super::Runtime;
use super::authenticate::ByMethod;
use super::memory::{must_hold, read_bytes_max};
use crate::connection::{Connection, Parting, Phase};
use crate::mail::{Introduced, Login};
use crate::turns::wake_behind_others;

impl Runtime {
    /// A connection that came from the front.
    pub(super) fn introduce(&mut self, introduced: Introduced) -> Option<ConnectionId> {
        let Introduced { mut stream, mut bytes, login, from } = introduced;
        stream.attach().ok()?;
        let Ok(Some((Packet::Connect(connect), used))) = decode(&bytes, Version::V5, usize::MAX)
        else {
            return None;
        };
        let version = connect.version;
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        // What came behind CONNECT waits until the session is open.
        let input = bytes.get(used..).unwrap_or_default().to_vec();
        let mut connection = Box::new(Connection::new(stream, version, input, from));
        // Who takes its session over gets a place beside the older connection, which goes.
        let takes_over = self.shard.connection_of(&login.user, &login.client_id).is_some();
        let max = self.limits.connections_max;
        connection.placed =
            self.metrics.try_enter(if max == 0 || takes_over { usize::MAX } else { max });
        let placed = connection.placed;
        self.connections.insert(id, connection);
        if !placed {
            self.counters.add(Metric::LimitConnections, 1);
            self.counters.add(Metric::refused_connect(ReasonCode::QuotaExceeded), 1);
            refuse_connect(id, &connect, ReasonCode::QuotaExceeded, &mut self.out);
            self.carry_out();
            return Some(id);
        }
        let Login { user, client_id, assigned, expires, authentication_data, reauthenticator } =
            login;
        tracing::debug!(connection = id.0, user, client_id, "opening");
        let expires = expires.map_or(Time::NEVER, |expires| self.clock.time(expires));
        let (user, client_id) = (&user[..], &client_id[..]);
        if let Some(reauthenticator) = reauthenticator {
            self.methods.insert(id, ByMethod::new(reauthenticator));
        }
        let open = Open {
            connection: id,
            user,
            client_id,
            assigned,
            expires,
            authentication_data: &authentication_data,
            connect,
        };
        self.handle(Input::Open(open));
        bytes.clear();
        Some(id)
    }

    /// The task of a connection.
    pub(super) fn poll_connection(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_time();
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(()) };
        if !connection.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            connection.waker = Some(cx.waker().clone());
        }
        if connection.is_unsent() && !self.write(id, cx) {
            return Poll::Ready(());
        }
        let turn_ends = self.looked + TURN;
        for _ in 0..READS_PER_TURN {
            match self.poll_phase(id, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            // What a few packets took is known by the next read; what many took was looked at.
            if self.looked >= turn_ends {
                break;
            }
        }
        wake_behind_others(cx);
        Poll::Pending
    }

    /// One step of a connection: `Ready(true)`: there may be more to do, `false`: it is gone.
    fn poll_phase(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(false) };
        match connection.phase {
            Phase::Opening => return Poll::Pending,
            Phase::Closing => {
                if connection.is_unsent() {
                    return Poll::Pending;
                }
                if connection.ends_at_once {
                    return Poll::Ready(self.forget(id));
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
        let hear_out = connection.parting == Parting::Now;
        if connection.unwritten() > self.limits.outbound_soft_bytes && !hear_out {
            connection.waits_for_room = true;
            return Poll::Pending;
        }
        // It is woken when it may publish again.
        if connection.pace.paused_until.is_some() && !hear_out {
            return Poll::Pending;
        }
        let publishes = connection.holds_publish || begins_publish(&connection.input);
        connection.holds_publish = publishes && must_hold(&self.metrics, &self.shard, id);
        let must_wait = self.store.backlog().is_full()
            || self.shard.is_behind(id)
            || connection.parting == Parting::Waits && self.shard.is_answering(id);
        if connection.holds_publish || must_wait && !hear_out {
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
        let most = read_bytes_max(&self.metrics).min(scratch.len());
        let read = connection.poll_read(cx, scratch.get_mut(..most).unwrap_or_default());
        let result = match read {
            Poll::Pending => {
                // It has said all it had to say, and might say more.
                connection.pace.over_since = None;
                Poll::Pending
            }
            Poll::Ready(Ok(read @ 1..)) => {
                let bytes = scratch.get(..read).unwrap_or_default();
                self.counters.add(Metric::BytesReceived, read as u64);
                self.receive_bytes(id, bytes);
                Poll::Ready(true)
            }
            Poll::Ready(end) => {
                tracing::debug!(connection = id.0, ?end, "lost");
                self.count_end(id, Metric::ClosedByNetwork);
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
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // Who says more behind DISCONNECT may not be done: to close a socket with unread bytes takes
        // back what was written last.
        connection.ends_at_once &= rest.is_empty();
        if connection.phase == Phase::Open {
            connection.waits_for_more = !more;
            // Idle connections hold no memory.
            connection.input = if rest.is_empty() { Vec::new() } else { rest };
            self.count_held(id);
        }
    }

    /// The connection that this one would take over.
    pub(super) fn older_connection(&self, introduced: &Introduced) -> Option<ConnectionId> {
        let Login { user, client_id, .. } = &introduced.login;
        self.shard.connection_of(user, client_id)
    }

    /// Hears what a Client has said on a connection before its next one takes the session over:
    /// after DISCONNECT there is no will, and nothing to take over.
    ///
    /// What the system has is read, whether or not the runtime knows of it yet, and whether or not
    /// the connection had to wait for the store or for its answers: nobody is there any more to
    /// hear them. So it is bounded, and a DISCONNECT behind very much is not heard.
    pub(super) fn hear_out(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // Its own task is to be woken by what comes later; if it never ran, it will.
        let waker = connection.waker.clone().unwrap_or_else(|| Waker::noop().clone());
        connection.parting = Parting::Now;
        connection.read_directly(true);
        self.look();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..READS_TO_HEAR_OUT {
            let open = self.connections.get(&id).is_some_and(|it| it.phase == Phase::Open);
            if !open || self.poll_phase(id, &mut cx) != Poll::Ready(true) {
                break;
            }
        }
        // The next one may be refused, and this one stay.
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.parting = Parting::No;
            connection.read_directly(false);
        }
    }

    /// Whether a DISCONNECT has to wait for the answers to what was asked before it.
    fn must_wait(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        if connection.parting == Parting::Now || !self.shard.is_answering(id) {
            return false;
        }
        connection.parting = Parting::Waits;
        true
    }

    /// Hands whole packets to the shard, as many as one connection may before the others have
    /// their turn; how many bytes they were, and whether there may be more of them.
    fn receive_packets(&mut self, id: ConnectionId, bytes: &[u8]) -> (usize, bool) {
        let Some(connection) = self.connections.get(&id) else { return (bytes.len(), false) };
        let version = connection.version;
        let now = self.looked;
        let publishes_max = self.publishes_max(connection, now);
        let (mut used, mut packets, mut more) = (0, 0_usize, false);
        let mut publishes = 0_u64;
        let mut pace = Glances::new(now);
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match decode(rest, version, self.packet_bytes_max) {
                Ok(None) => break,
                Ok(Some((Packet::Disconnect(_), _))) if self.must_wait(id) => {
                    more = true;
                    break;
                }
                Ok(Some((Packet::Publish(_), _))) if self.hold_publish(id) => {
                    more = true;
                    break;
                }
                Ok(Some((packet, length))) => {
                    used += length;
                    publishes += u64::from(matches!(packet, Packet::Publish(_)));
                    let is_last = matches!(packet, Packet::Disconnect(_));
                    let input = Input::Received { connection: id, packet };
                    self.shard.handle(input, now, &mut self.out);
                    packets += 1;
                    if is_last {
                        break;
                    }
                    if publishes >= publishes_max {
                        more = true;
                        break;
                    }
                    if pace.is_due(packets) && pace.ends_turn(packets, self.look()) {
                        more = true;
                        break;
                    }
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
        self.count_publishes(id, publishes, now);
        self.carry_out();
        // A service may have answered others.
        self.wake_stalled();
        (used, more)
    }
}

/// Whether the beginning of a packet is that of a PUBLISH (§2.1.2).
fn begins_publish(input: &[u8]) -> bool {
    input.first().is_some_and(|first| first >> 4 == 3)
}

/// How long a connection is listened to before the others have their turn. Most packets take a
/// microsecond; a SUBSCRIBE of hundreds of filters, or a PUBLISH to thousands, a thousand times that.
/// What a turn brings goes out in one write for each receiver, so that a shorter one costs more for a
/// group: at 2 ms half as much again for 1,000 receivers.
pub(super) const TURN: Duration = Duration::from_millis(5);

/// After how many packets it is looked whether the turn is over: where they take long, soon.
struct Glances {
    begun: Time,
    last: Time,
    each: usize,
    due: usize,
}

impl Glances {
    fn new(begun: Time) -> Self {
        Self { begun, last: begun, each: PACKETS_PER_GLANCE, due: PACKETS_PER_GLANCE }
    }

    fn is_due(&self, packets: usize) -> bool {
        packets >= self.due
    }

    /// Whether the turn is over, so many packets after it began.
    fn ends_turn(&mut self, packets: usize, now: Time) -> bool {
        let quick = now.since(self.last) < TURN / 32;
        self.each =
            if quick { (self.each * 2).min(PACKETS_PER_GLANCE_MAX) } else { PACKETS_PER_GLANCE };
        self.due = packets + self.each;
        self.last = now;
        now.since(self.begun) >= TURN
    }
}

const PACKETS_PER_GLANCE: usize = 4;
const PACKETS_PER_GLANCE_MAX: usize = 32;

/// How often a connection is read before the others have their turn.
const READS_PER_TURN: usize = 2;

/// How often a connection is read at the most before another takes its session over.
const READS_TO_HEAR_OUT: usize = 16;

/// Packets that are taken of one read: a read may hold thousands of the smallest.
const PACKETS_PER_READ: usize = 1024;

/// After how many packets it is looked whether answers to the Client wait.
const PACKETS_PER_LOOK: usize = 32;

/// Outputs that gather before they are carried out.
const OUTPUTS_PER_BATCH: usize = 1024;

//! The end of a connection, and of a session.

use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::open::{connected_row, index_key};
use super::recover::Offline;
use super::replay::unnoted;
use super::timers::Timer;
use crate::codec::{
    Disconnect, Malformed, Packet, Properties, PropertiesBuf, Property, ReasonCode, Version,
};
use crate::hook::{Disconnection, Event, ServiceEvent, SessionId, is_temporary};
use crate::metric::Metric;
use crate::output::{CloseCause, ConnectionId, Outbox, Output};
use crate::peer::Standing;
use crate::protocol_error::ProtocolError;
use crate::record::{Op, Position, RowKind};
use crate::session::{InFlight, Link, Replays, Sending, Session, Who, rows};
use crate::slot::Slot;
use crate::time::Time;

impl Shard {
    /// The network is gone.
    pub(super) fn lost(&mut self, connection: ConnectionId, now: Time, out: &mut Outbox) {
        if let Some(id) = self.connections.remove(&connection) {
            self.end_connection(id, Disconnection::Abrupt, now, out);
        }
    }

    /// The Client did what it must not, or cannot go on.
    pub(super) fn refuse(
        &mut self,
        connection: ConnectionId,
        cause: CloseCause,
        now: Time,
        out: &mut Outbox,
    ) {
        let Some(id) = self.connections.remove(&connection) else { return };
        if let Some(session) = self.sessions.get(&id) {
            let text = self.limits.told.reason_strings.then(|| cause.to_string());
            let mut properties = PropertiesBuf::new();
            // [MQTT-3.14.2-3]
            if let Some(text) = text.filter(|text| {
                text.len() <= REASON_BYTES_MAX
                    && text.len() + GOODBYE_BYTES_MAX <= session.link.packet_bytes_max
            }) {
                properties.push(Property::ReasonString(&text));
            }
            let properties = properties.as_properties();
            Self::say_goodbye_with(session, reason_of(&cause), properties, out);
        }
        self.count_close(&cause);
        out.outputs.push(Output::Close { connection, cause });
        self.end_connection(id, Disconnection::Abrupt, now, out);
    }

    fn count_close(&self, cause: &CloseCause) {
        let (closed, bound) = match cause {
            CloseCause::Disconnected => (Metric::ClosedByClient, None),
            CloseCause::Malformed(Malformed::PacketTooLarge { .. }) => {
                (Metric::ClosedMalformed, Some(Metric::LimitPacketBytes))
            }
            CloseCause::Malformed(_) => (Metric::ClosedMalformed, None),
            CloseCause::Protocol(error) => match error {
                ProtocolError::ReceiveMaximumExceeded { .. } => {
                    (Metric::ClosedProtocol, Some(Metric::LimitReceiveMaximum))
                }
                ProtocolError::TopicAliasInvalid { .. } => {
                    (Metric::ClosedProtocol, Some(Metric::LimitTopicAlias))
                }
                ProtocolError::TooManyFilters { .. } => {
                    (Metric::ClosedProtocol, Some(Metric::LimitFilters))
                }
                ProtocolError::NotOffered(reason) => {
                    (Metric::ClosedRefused, Metric::not_offered(*reason))
                }
                ProtocolError::Refused(_) => (Metric::ClosedRefused, None),
                _ => (Metric::ClosedProtocol, None),
            },
            CloseCause::Refused(_) => (Metric::ClosedRefused, None),
            CloseCause::RightsEnded(_) | CloseCause::LoginExpired => (Metric::ClosedRights, None),
            CloseCause::KeepAliveTimedOut => (Metric::ClosedKeepAlive, None),
            CloseCause::TakenOver => (Metric::ClosedTakenOver, None),
            CloseCause::ShuttingDown => (Metric::ClosedShuttingDown, None),
        };
        self.counters.add(closed, 1);
        if let Some(bound) = bound {
            self.counters.add(bound, 1);
        }
    }

    /// A DISCONNECT (§3.14).
    pub(super) fn disconnect(
        &mut self,
        id: SessionId,
        connection: ConnectionId,
        disconnect: &Disconnect<'_>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        let longest = self.limits.session_expiry_max;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if let Some(seconds) = disconnect.properties.session_expiry() {
            let longest =
                if is_temporary(session.who().client().user) { Duration::ZERO } else { longest };
            let expiry = Duration::from_secs(seconds.into()).min(longest);
            if !expiry.is_zero() && !session.link.may_set_expiry {
                return Err(ProtocolError::SessionExpiryAtDisconnect.into());
            }
            session.link.ends_session |= expiry.is_zero();
            if !expiry.is_zero() {
                session.expiry = expiry;
            }
        }
        // [MQTT-3.14.4-3]
        let how = if disconnect.reason == ReasonCode::Success {
            session.will = None;
            Disconnection::Clean
        } else {
            Disconnection::Abrupt
        };
        self.connections.remove(&connection);
        let cause = CloseCause::Disconnected;
        self.count_close(&cause);
        out.outputs.push(Output::Close { connection, cause });
        self.end_connection(id, how, now, out);
        Ok(())
    }

    /// The connection of a session is over, and the session with it if it shall not outlive it.
    fn end_connection(&mut self, id: SessionId, how: Disconnection, now: Time, out: &mut Outbox) {
        self.disconnected(id, how, now, out);
        let outlives = self
            .sessions
            .get(&id)
            .is_some_and(|session| session.is_persistent() && !session.link.ends_session);
        // A new session of which its Client was not told ends as if it had never been: to find it
        // later would make the Client believe that it still has an older one. [MQTT-3.2.2-3]
        let unheard_of = self
            .sessions
            .get(&id)
            .and_then(|session| session.opening.as_ref())
            .is_some_and(|opening| !opening.session_present);
        if outlives && !unheard_of {
            self.put_away(id, now, out);
        } else {
            self.end_session(id, now, out);
        }
    }

    /// Tells services and observers, and sees to the will.
    pub(super) fn disconnected(
        &mut self,
        id: SessionId,
        how: Disconnection,
        now: Time,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // Else it stays for as long as the Client might have been silent: half an hour.
        if let Some(due) = session.link.silence_due.take() {
            self.timers.cancel(due, Timer::KeepAlive(session.link.connection));
        }
        let login = Timer::Login(session.link.connection);
        self.timers.cancel(session.link.expires, login);
        // What the session gets from now on, its own will perhaps, waits for its next connection.
        session.link.set_congested(true);
        let who = session.who();
        let will = session.will.take();
        // Nobody was told of a connection that had no CONNACK yet.
        let was_open = session.opening.is_none();
        let ends = !session.is_persistent() || session.link.ends_session;
        let expiry = if ends { Duration::ZERO } else { session.expiry };
        if self.hooks.observed && was_open {
            let (user, client_id) = (Arc::clone(&session.user), Arc::clone(&session.client_id));
            out.outputs.push(Output::Event(Box::new(Event::Disconnected { user, client_id, how })));
        }
        self.drop_retained_after(id);
        for service in self.services.all().filter(|_| was_open) {
            let event = ServiceEvent::Disconnected { session: id, client: who.client(), how };
            self.call(service, event, now, out);
        }
        if let Some(will) = will {
            self.will_due(id, &who, will, expiry, now, out);
        }
    }

    /// Says why in a DISCONNECT, where the version has one for servers and CONNACK was sent.
    /// [MQTT-3.14.0-1]
    pub(super) fn say_goodbye(session: &Session, reason: ReasonCode, out: &mut Outbox) {
        Self::say_goodbye_with(session, reason, Properties::default(), out);
    }

    pub(super) fn say_goodbye_with(
        session: &Session,
        reason: ReasonCode,
        properties: Properties<'_>,
        out: &mut Outbox,
    ) {
        let Link { connection, version, .. } = session.link;
        if version == Version::V5 && session.opening.is_none() {
            let goodbye = Disconnect { reason, properties };
            out.send(connection, version, &Packet::Disconnect(goodbye));
        }
    }

    fn drop_retained_after(&mut self, id: SessionId) {
        let keys: Vec<_> =
            self.retained_after.range((id, 0)..=(id, u64::MAX)).map(|(key, _)| *key).collect();
        for key in keys {
            self.retained_after.remove(&key);
        }
    }

    /// Puts a session away: everything it is goes to rows, and only an index entry stays.
    fn put_away(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        self.recall_replays(id);
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let mut replays = std::mem::take(&mut session.sending.replays);
        session.receiving.begin_again();
        let received = session.receiving.note_all(session.slot, id);
        let ends = now + session.expiry;
        let mut row = connected_row(&session);
        row.ends = Some(ends);
        row.will = self.pending_will_row(id);
        let mut ops = vec![rows::session(session.slot, &row)];
        let mut in_flight = session.receiving.has_exactly_once();
        // A session that was still being read has all its rows as they were.
        let untouched = session.opening.as_ref().is_some_and(|opening| opening.reads > 0);
        let mut in_flight_last = if untouched { session.sending.in_flight_last } else { 0 };
        // Behind the records that took the messages over: what is stored of this is true.
        ops.extend(received);
        ops.extend(unnoted(&session, &mut replays));
        let mut ready = session.opening.as_ref().map_or(Position::START, |it| it.ready);
        let window: Vec<InFlight> = session.sending.window.drain().collect();
        for entry in window {
            ready = ready.max(entry.after);
            if entry.was_sent() {
                in_flight = true;
                in_flight_last = in_flight_last.max(entry.queued.number);
                ops.push(match self.services.veiled(&entry) {
                    Some(veiled) => rows::in_flight_as(session.slot, id, &veiled, true),
                    None => rows::in_flight(session.slot, id, &entry),
                });
            } else if entry.in_store {
                // It goes back to the queue, where its row is; a service delivers its own again.
                ops.push(rows::in_flight_gone(session.slot, id, entry.packet_id));
            }
        }
        // They wait for the next group: whoever comes back reads them from memory till then.
        self.ledger.append(ops, false, out);
        let Session { slot, user, client_id, subscriptions, sending, receiving, told, .. } =
            *session;
        let offline = Offline {
            slot,
            user,
            client_id,
            ends,
            rows: sending.rows,
            rows_bytes: sending.rows_bytes,
            rows_since: sending.rows_since,
            in_flight: in_flight || untouched,
            in_flight_last,
            perhaps_sent: sending.perhaps_sent,
            was_connected: false,
            ready,
            dropping: None,
            receiving: receiving.is_undecided().then(|| Box::new(receiving)),
            subscriptions: subscriptions.into_iter().collect(),
            replays,
        };
        self.offline.insert(id, offline);
        self.timers.set(ends, Timer::Expiry(id));
        if told.is_some() {
            self.tell_standing(id, Standing::Away, out);
        }
    }

    /// Ends a session that is in memory. What is still to be stored for it.
    pub(super) fn end_session(&mut self, id: SessionId, now: Time, out: &mut Outbox) -> Position {
        // A will that could have waited ends with its session. [MQTT-3.1.2-8]
        let row = self.row_without_will(id);
        self.publish_last_will(id, row, now, out);
        self.recall_replays(id);
        let Some(session) = self.sessions.remove(&id) else { return Position::START };
        let who = session.who();
        let persistent = session.is_persistent();
        // Services hear of a session when its first connection has its CONNACK.
        let known = session.opening.as_ref().is_none_or(|opening| opening.session_present);
        let Session { slot, user, client_id, subscriptions, sending, told, .. } = *session;
        let (rows, rows_bytes) = (sending.rows, sending.rows_bytes);
        self.never_sent(id, slot, &sending, out);
        let offline = Offline {
            slot,
            user,
            client_id,
            ends: now,
            rows,
            rows_bytes,
            rows_since: Position::START,
            in_flight: persistent,
            in_flight_last: 0,
            perhaps_sent: 0,
            was_connected: false,
            ready: Position::START,
            dropping: None,
            receiving: None,
            subscriptions: subscriptions.into_iter().collect(),
            replays: Replays::default(),
        };
        let ended = self.over(id, offline, known.then_some(&who), persistent, now, out);
        if told.is_some() {
            for (filter, message) in sending.left_to_others() {
                self.leave_to_others(filter, message, None, None, now, out);
            }
        }
        ended
    }

    /// A QoS 2 message that has its identifier and was not sent yet is one that waits, for another
    /// member of its group.
    fn never_sent(&mut self, id: SessionId, slot: Slot, sending: &Sending, out: &mut Outbox) {
        let unsent = sending.window.iter().filter(|it| it.in_store && !it.was_sent());
        let ops: Vec<Op> = unsent.map(|it| rows::in_flight_gone(slot, id, it.packet_id)).collect();
        if !ops.is_empty() {
            self.ledger.append(ops, false, out);
        }
    }

    /// Ends a session that has no connection.
    pub(super) fn end_offline(&mut self, id: SessionId, now: Time, out: &mut Outbox) -> Position {
        let row = self.row_without_will(id);
        let Some(offline) = self.offline.remove(&id) else { return Position::START };
        self.timers.cancel(offline.ends, Timer::Expiry(id));
        let who = offline.who();
        self.publish_last_will(id, row, now, out);
        self.over(id, offline, Some(&who), true, now, out)
    }

    /// Ends a session because a service says so, connected or not.
    pub(super) fn log_out(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&id) else {
            self.end_offline(id, now, out);
            return;
        };
        session.link.ends_session = true;
        let connection = session.link.connection;
        let cause = CloseCause::Refused(ReasonCode::AdministrativeAction);
        self.refuse(connection, cause, now, out);
    }

    /// Takes every trace of a session out of the shard and has its rows deleted. `who`: whose it
    /// was, if services know of it.
    fn over(
        &mut self,
        id: SessionId,
        session: Offline,
        who: Option<&Who>,
        has_rows: bool,
        now: Time,
        out: &mut Outbox,
    ) -> Position {
        self.index.remove(&index_key(&session.user, &session.client_id));
        self.counters.take(Metric::Subscriptions, session.subscriptions.len() as u64);
        self.counters.take(Metric::QueuedMessages, session.rows as u64);
        self.counters.take(Metric::QueuedBytes, session.rows_bytes as u64);
        let mut ops = Vec::new();
        if has_rows {
            ops.push(rows::session_gone(session.slot, &session.user, &session.client_id));
        }
        for (filter, _) in &session.subscriptions {
            if has_rows {
                ops.push(rows::subscription_gone(session.slot, id, filter.as_str()));
            }
            if self.services.owner(filter.as_str()).is_none() {
                self.drop_filter(id, filter, out);
            }
        }
        let mut sweeps = Vec::new();
        if has_rows && session.rows > 0 {
            let range = rows::all(session.slot, RowKind::Queued, id);
            sweeps.push(self.discard(session.slot, range, &mut ops));
        }
        if has_rows && session.in_flight {
            let range = rows::all(session.slot, RowKind::InFlight, id);
            sweeps.push(self.discard(session.slot, range, &mut ops));
            self.forget_reach(id, None, None, out);
        }
        let ended = self.keep(ops, out);
        self.ended = self.ended.max(ended);
        for sweep in sweeps {
            self.begin_sweep(sweep, out);
        }
        for service in self.services.all() {
            let Some(who) = who else { break };
            let event = ServiceEvent::SessionEnded { session: id, client: who.client() };
            self.call(service, event, now, out);
        }
        ended
    }

    fn keep(&mut self, ops: Vec<Op>, out: &mut Outbox) -> Position {
        if ops.is_empty() { Position::START } else { self.ledger.append(ops, true, out) }
    }

    /// The server stops: every Client is told, every session put away, no will is published.
    pub(super) fn stop(&mut self, now: Time, out: &mut Outbox) {
        let mut connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        connections.sort_unstable();
        let mut reason = ReasonCode::ServerShuttingDown;
        let mut properties = PropertiesBuf::new();
        let limits = Arc::clone(&self.limits);
        let elsewhere = &limits.told.server_reference;
        if !elsewhere.is_empty() {
            reason = ReasonCode::UseAnotherServer;
            properties.push(Property::ServerReference(elsewhere));
        }
        for connection in connections {
            let Some(id) = self.connections.remove(&connection) else { continue };
            if let Some(session) = self.sessions.get_mut(&id) {
                session.will = None;
                // The others go as well, one after the other: nothing is left to anybody.
                session.told = None;
                // [MQTT-3.1.2-24]
                let fits = elsewhere.len() + GOODBYE_BYTES_MAX <= session.link.packet_bytes_max;
                let properties = if fits { properties.as_properties() } else { <_>::default() };
                Self::say_goodbye_with(session, reason, properties, out);
            }
            let cause = CloseCause::ShuttingDown;
            self.count_close(&cause);
            out.outputs.push(Output::Close { connection, cause });
            self.end_connection(id, Disconnection::Abrupt, now, out);
        }
    }
}

/// More than a DISCONNECT takes besides the text of its Server Reference or Reason String.
const GOODBYE_BYTES_MAX: usize = 16;

/// The longest Reason String: some name a filter.
const REASON_BYTES_MAX: usize = 1_024;

/// The Reason Code that a cause is told with.
fn reason_of(cause: &CloseCause) -> ReasonCode {
    match cause {
        CloseCause::Malformed(malformed) => malformed.reason_code(),
        CloseCause::Protocol(error) => error.reason_code(),
        CloseCause::Refused(reason) => *reason,
        CloseCause::RightsEnded(_) => ReasonCode::NotAuthorized,
        CloseCause::KeepAliveTimedOut => ReasonCode::KeepAliveTimeout,
        CloseCause::LoginExpired => ReasonCode::NotAuthorized,
        CloseCause::TakenOver => ReasonCode::SessionTakenOver,
        CloseCause::ShuttingDown => ReasonCode::ServerShuttingDown,
        CloseCause::Disconnected => ReasonCode::Success,
    }
}

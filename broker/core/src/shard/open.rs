//! CONNECT: which session it gets, and when CONNACK may say so (§3.1.4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::input::Open;
use super::timers::Timer;
use crate::codec::{
    Connack, Connect, Packet, Properties, PropertiesBuf, Property, ReasonCode, Version,
};
use crate::hook::{Client, Disconnection, Event, ServiceEvent, SessionId};
use crate::metric::Metric;
use crate::output::{CloseCause, ConnectionId, Outbox, Output};
use crate::peer::Standing;
use crate::record::Position;
use crate::session::rows::SessionRow;
use crate::session::{
    Link, Opening, Receiving, Sending, Session, Takeovers, Will, keep_alive, rows, session_expiry,
};
use crate::time::Time;

impl Shard {
    /// A Client wants its session.
    pub(super) fn open(&mut self, open: &Open<'_>, now: Time, out: &mut Outbox) {
        let expiry = session_expiry(open.user, &open.connect, &self.limits);
        let allowed =
            if open.expires <= now { Err(ReasonCode::NotAuthorized) } else { self.may_open(open) };
        if let Err(reason) = allowed.and_then(|()| self.may_be_told(open, expiry)) {
            return self.refuse_open(open, reason, out);
        }
        let key = index_key(open.user, open.client_id);
        let id = match self.index.get(&key).copied() {
            None => self.new_session(open, expiry, Position::START, now, out),
            Some(id) if self.sessions.contains_key(&id) => {
                let Some(takeovers) = self.try_take_over(id, now) else {
                    let reason = ReasonCode::ConnectionRateExceeded;
                    return self.refuse_open(open, reason, out);
                };
                let id = self.take_over(id, open, expiry, now, out);
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.takeovers = takeovers;
                }
                id
            }
            // Its time may be over before anybody has looked at the clock. [MQTT-4.1.0-2]
            Some(id) if open.connect.clean_start || self.has_ended(id, now) => {
                let ended = self.end_offline(id, now, out);
                self.new_session(open, expiry, ended, now, out)
            }
            Some(id) => self.resume(id, open, expiry, now, out),
        };
        self.connections.insert(open.connection, id);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.link.expires = open.expires;
            self.timers.set(open.expires, Timer::Login(open.connection));
        }
        self.advance(id, now, out);
    }

    /// Counts a takeover, unless there were too many of late: the session's count of them, for
    /// whichever session comes of it.
    fn try_take_over(&mut self, id: SessionId, now: Time) -> Option<Takeovers> {
        let (max, window) = (self.limits.takeovers_max, self.limits.takeover_window);
        let session = self.sessions.get_mut(&id)?;
        if session.takeovers.try_take(max, window, now) {
            return Some(std::mem::take(&mut session.takeovers));
        }
        self.counters.add(Metric::LimitTakeovers, 1);
        None
    }

    /// Answers a CONNECT with a refusal. [MQTT-3.2.2-7]
    fn refuse_open(&self, open: &Open<'_>, reason: ReasonCode, out: &mut Outbox) {
        self.counters.add(Metric::refused_connect(reason), 1);
        refuse_connect(open.connection, &open.connect, reason, out);
    }

    /// A number for each time that a session comes into memory.
    fn next_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    fn has_ended(&self, id: SessionId, now: Time) -> bool {
        self.offline.get(&id).is_some_and(|offline| offline.ends <= now)
    }

    fn may_open(&self, open: &Open<'_>) -> Result<(), ReasonCode> {
        if let Some(will) = &open.connect.will {
            let Open { user, client_id, .. } = *open;
            let client = Client { user, client_id, version: open.connect.version };
            self.may_say(&client, will.topic)?;
        }
        let key = index_key(open.user, open.client_id);
        if self.disk_low && self.would_begin_to_keep(open, &key) {
            self.counters.add(Metric::LimitDiskReserve, 1);
            return Err(ReasonCode::QuotaExceeded);
        }
        if open.user.is_empty() || self.index.contains_key(&key) {
            return Ok(());
        }
        let first = index_key(open.user, "");
        let same_user = self.index.range(first..).map(|(key, _)| key);
        let sessions = same_user
            .take_while(|key| key.split_once('\0').is_some_and(|(user, _)| user == open.user))
            .take(self.limits.sessions_per_user_max)
            .count();
        if sessions >= self.limits.sessions_per_user_max {
            self.counters.add(Metric::LimitSessions, 1);
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(())
    }

    /// Whether the Client takes a CONNACK that says all it has to. [MQTT-3.1.2-24]
    fn may_be_told(&self, open: &Open<'_>, expiry: Duration) -> Result<(), ReasonCode> {
        let Some(max) = open.connect.properties.maximum_packet_size() else { return Ok(()) };
        let mut properties = PropertiesBuf::new();
        self.connack_properties(open, expiry, &mut properties);
        let (session_present, reason) = (false, ReasonCode::Success);
        let properties = properties.as_properties();
        let connack = Packet::Connack(Connack { session_present, reason, properties });
        let mut bytes = Vec::new();
        match connack.encode(open.connect.version, &mut bytes) {
            Ok(()) if u32::try_from(bytes.len()).is_ok_and(|bytes| bytes <= max) => Ok(()),
            _ => Err(ReasonCode::PacketTooLarge),
        }
    }

    /// A session that was not there before, once `after` is stored.
    fn new_session(
        &mut self,
        open: &Open<'_>,
        expiry: Duration,
        after: Position,
        now: Time,
        out: &mut Outbox,
    ) -> SessionId {
        let id = SessionId(self.ledger.number(out));
        let life = self.next_life();
        let will = open.connect.will.as_ref().map(Will::new);
        let mut session = Box::new(Session {
            id,
            slot: super::session_slot(open.user, open.client_id),
            user: open.user.into(),
            client_id: open.client_id.into(),
            expiry,
            link: Link::new(open.connection, &open.connect, &self.limits, now),
            subscriptions: BTreeMap::new(),
            receiving: Receiving::new(life),
            sending: Sending::new(),
            will,
            opening: None,
            told: None,
            life,
            takeovers: Takeovers::default(),
        });
        // A session that ended a moment ago must not be there again after a crash.
        let mut ready = after.max(self.ended);
        if session.is_persistent() {
            let row = connected_row(&session);
            ready = self.ledger.append([rows::session(session.slot, &row)], true, out);
        }
        session.opening = Some(self.opening(open, expiry, false, ready));
        self.index.insert(index_key(open.user, open.client_id), id);
        self.sessions.insert(id, session);
        id
    }

    /// The session is connected already: the newer connection gets it. [MQTT-3.1.4-3]
    fn take_over(
        &mut self,
        id: SessionId,
        open: &Open<'_>,
        expiry: Duration,
        now: Time,
        out: &mut Outbox,
    ) -> SessionId {
        let Some(session) = self.sessions.get_mut(&id) else {
            return self.new_session(open, expiry, Position::START, now, out);
        };
        let old = session.link.connection;
        self.connections.remove(&old);
        Self::say_goodbye(session, ReasonCode::SessionTakenOver, out);
        self.counters.add(Metric::ClosedTakenOver, 1);
        out.outputs.push(Output::Close { connection: old, cause: CloseCause::TakenOver });
        // Without an expiry the old session ends with its connection, whatever is asked for now.
        let outlives = session.is_persistent() && !session.link.ends_session;
        if open.connect.clean_start || !outlives {
            self.disconnected(id, Disconnection::TakenOver, now, out);
            let ended = self.end_session(id, now, out);
            return self.new_session(open, expiry, ended, now, out);
        }
        // Only a will that may wait is recalled by a connection that comes in time. [MQTT-3.1.3-9]
        let recalled = session.will.as_ref().is_some_and(|will| !will.delay.is_zero());
        if recalled {
            session.will = None;
        }
        // Who had no CONNACK yet leaves what it waited for, and what it would have said.
        let unopened = session.opening.as_ref();
        let (ready, reads, present) = unopened.map_or((Position::START, 0, true), |opening| {
            (opening.ready, opening.reads, opening.session_present)
        });
        self.disconnected(id, Disconnection::TakenOver, now, out);
        self.recall_replays(id);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.sending.waiting = false;
            session.receiving.begin_again();
            session.begin_again();
        }
        let opening = Opening { reads, ..self.opening(open, expiry, present, ready) };
        self.attach(id, open, expiry, opening, now, out);
        id
    }

    /// The session is in the store: it is read before CONNACK. [MQTT-3.1.2-5]
    fn resume(
        &mut self,
        id: SessionId,
        open: &Open<'_>,
        expiry: Duration,
        now: Time,
        out: &mut Outbox,
    ) -> SessionId {
        let Some(offline) = self.offline.remove(&id) else {
            return self.new_session(open, expiry, Position::START, now, out);
        };
        self.timers.cancel(offline.ends, Timer::Expiry(id));
        let life = self.next_life();
        let mut session = Box::new(Session {
            id,
            slot: offline.slot,
            user: offline.user,
            client_id: offline.client_id,
            expiry,
            link: Link::new(open.connection, &open.connect, &self.limits, now),
            subscriptions: offline.subscriptions.into_iter().collect(),
            receiving: offline
                .receiving
                .map_or_else(|| Receiving::new(life), |receiving| *receiving),
            sending: Sending::with_rows(offline.rows, offline.rows_bytes),
            will: None,
            opening: None,
            told: None,
            life,
            takeovers: Takeovers::default(),
        });
        session.sending.in_flight_last = offline.in_flight_last;
        session.sending.rows_since = offline.rows_since;
        session.sending.perhaps_sent = offline.perhaps_sent;
        session.sending.replays = offline.replays;
        // In memory, and without a connection as far as its groups know.
        let shared = session.subscriptions.keys().any(|filter| filter.share().is_some());
        session.told = shared.then_some(Standing::Away);
        session.sending.waiting = false;
        self.sessions.insert(id, session);
        let opening = self.opening(open, expiry, true, offline.ready);
        self.attach(id, open, expiry, opening, now, out);
        self.load(id, offline.in_flight, out);
        id
    }

    /// Gives a session that was there its new connection.
    fn attach(
        &mut self,
        id: SessionId,
        open: &Open<'_>,
        expiry: Duration,
        opening: Opening,
        now: Time,
        out: &mut Outbox,
    ) {
        self.recall_will(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let ends_with_connection = expiry.is_zero() && session.is_persistent();
        session.link = Link::new(open.connection, &open.connect, &self.limits, now);
        session.will = open.connect.will.as_ref().map(Will::new);
        // A session that shall not outlive this connection keeps its rows until then: whether it
        // is found again after a crash is of no interest, and its messages are in order.
        if !ends_with_connection {
            session.expiry = expiry;
        }
        session.link.ends_session = ends_with_connection;
        let row = connected_row(session);
        let op = rows::session(session.slot, &row);
        // What is queued may be sent with CONNACK, and after a crash it is to have DUP then: only
        // this row tells. What comes later is stored behind it, and without a queue nobody waits: a
        // crash before it is stored leaves the older end of the session.
        let has_rows = session.sending.rows > 0;
        let stored = self.ledger.append([op], has_rows, out);
        session.opening = Some(Opening {
            ready: if has_rows { opening.ready.max(stored) } else { opening.ready },
            ..opening
        });
        self.drop_lost(id, out);
    }

    /// What CONNACK will say.
    fn opening(
        &self,
        open: &Open<'_>,
        expiry: Duration,
        session_present: bool,
        ready: Position,
    ) -> Opening {
        let mut properties = PropertiesBuf::new();
        if open.connect.version == Version::V5 {
            self.connack_properties(open, expiry, &mut properties);
        }
        let mut said = PropertiesBuf::new();
        for (name, value) in open.connect.properties.user_properties() {
            said.push(Property::UserProperty(name, value));
        }
        Opening { ready, reads: 0, session_present, properties, said }
    }

    fn connack_properties(&self, open: &Open<'_>, expiry: Duration, to: &mut PropertiesBuf) {
        let limits = &self.limits;
        let connect = &open.connect;
        let asked = Duration::from_secs(connect.properties.session_expiry().unwrap_or(0).into());
        if asked != expiry {
            let seconds = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
            to.push(Property::SessionExpiry(seconds));
        }
        if limits.receive_maximum != u16::MAX {
            to.push(Property::ReceiveMaximum(limits.receive_maximum));
        }
        to.push(Property::MaximumPacketSize(
            u32::try_from(limits.packet_bytes_max).unwrap_or(u32::MAX),
        ));
        limits.offers.announce(to);
        if open.assigned {
            to.push(Property::AssignedClientId(open.client_id));
        }
        if limits.topic_alias_max > 0 {
            to.push(Property::TopicAliasMaximum(limits.topic_alias_max));
        }
        let asked = Duration::from_secs(connect.keep_alive.into());
        if let Some(holds) = keep_alive(connect, limits)
            && holds != asked
        {
            let seconds = u16::try_from(holds.as_secs()).unwrap_or(u16::MAX);
            to.push(Property::ServerKeepAlive(seconds));
        }
        // Without a method in CONNECT there is neither. [MQTT-4.12.0-5], [MQTT-4.12.0-6]
        if let Some(method) = connect.properties.authentication_method() {
            to.push(Property::AuthenticationMethod(method));
            if !open.authentication_data.is_empty() {
                to.push(Property::AuthenticationData(open.authentication_data));
            }
        }
        if connect.properties.request_response_information()
            && let Some(it) = limits.told.response_information_for(open.client_id, open.user)
        {
            to.push(Property::ResponseInformation(&it));
        }
    }

    /// Sends CONNACK if nothing is missing any more; `false` if something is.
    pub(super) fn finish_open(&mut self, id: SessionId, now: Time, out: &mut Outbox) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(opening) = &session.opening else { return true };
        if opening.reads > 0 {
            return false;
        }
        if !self.ledger.is_stored(opening.ready) {
            if !session.sending.waiting {
                session.sending.waiting = true;
                self.waiting.push(id);
            }
            return false;
        }
        let Some(opening) = session.opening.take() else { return true };
        let connection = session.link.connection;
        let connack = Connack {
            session_present: opening.session_present,
            reason: ReasonCode::Success,
            properties: opening.properties.as_properties(),
        };
        out.send(connection, session.link.version, &Packet::Connack(connack));
        out.outputs.push(Output::Opened { connection });
        self.counters.add(Metric::ConnectsAccepted, 1);
        if let Some(silence_max) = session.link.silence_max {
            let due = now + silence_max;
            session.link.silence_due = Some(due);
            self.timers.set(due, Timer::KeepAlive(connection));
        }
        if self.hooks.observed {
            let (user, client_id) = (Arc::clone(&session.user), Arc::clone(&session.client_id));
            out.outputs.push(Output::Event(Box::new(Event::Connected { user, client_id })));
        }
        self.tell_connected(id, &opening, now, out);
        true
    }

    fn tell_connected(&mut self, id: SessionId, opening: &Opening, now: Time, out: &mut Outbox) {
        for service in self.services.all() {
            let Some(session) = self.sessions.get(&id) else { return };
            let who = session.who();
            let persistent = session.is_persistent() && !session.link.ends_session;
            let in_flight = session.sending.tags(service);
            let subscriptions: Vec<_> = session
                .subscriptions
                .iter()
                .filter(|(filter, _)| self.services.owner(filter.as_str()) == Some(service))
                .map(|(filter, subscription)| (filter.clone(), subscription.qos))
                .collect();
            let event = ServiceEvent::Connected {
                session: id,
                client: who.client(),
                persistent,
                resumed: opening.session_present,
                in_flight: &in_flight,
                user_properties: opening.said.as_properties(),
            };
            self.call(service, event, now, out);
            for (filter, qos) in &subscriptions {
                let event = ServiceEvent::Subscribed { session: id, filter, qos: *qos, new: false };
                self.call(service, event, now, out);
            }
        }
    }
}

/// The row of a session that is connected, as a crash would leave it.
pub(super) fn connected_row(session: &Session) -> SessionRow {
    SessionRow {
        id: session.id,
        user: Arc::clone(&session.user),
        client_id: Arc::clone(&session.client_id),
        expiry: session.expiry,
        ends: None,
        will: session.will.clone().map(|will| (will, None)),
    }
}

/// The key of a session in the shard's index. Neither part can hold a NUL. [MQTT-1.5.4-2]
pub(super) fn index_key(user: &str, client_id: &str) -> Box<str> {
    format!("{user}\0{client_id}").into()
}

/// Answers a CONNECT with a refusal, from before there is a session.
pub fn refuse_connect(
    connection: ConnectionId,
    connect: &Connect<'_>,
    reason: ReasonCode,
    out: &mut Outbox,
) {
    let properties = Properties::default();
    let connack = Connack { session_present: false, reason, properties };
    let largest = connect.properties.maximum_packet_size();
    if largest.is_none_or(|largest| largest >= REFUSAL_BYTES) {
        out.send(connection, connect.version, &Packet::Connack(connack));
    }
    out.outputs.push(Output::Close { connection, cause: CloseCause::Refused(reason) });
}

/// Answers a CONNECT that comes while the server stops: another one is to be used (§4.11).
pub fn refer_connect(
    connection: ConnectionId,
    connect: &Connect<'_>,
    server_reference: &str,
    out: &mut Outbox,
) {
    let reason = ReasonCode::UseAnotherServer;
    let mut properties = PropertiesBuf::new();
    let largest = connect.properties.maximum_packet_size().unwrap_or(u32::MAX);
    // Its property takes three bytes, and perhaps lengthens both lengths by one. [MQTT-3.1.2-24]
    if largest as usize >= REFUSAL_BYTES as usize + server_reference.len() + 5 {
        properties.push(Property::ServerReference(server_reference));
    } else if largest < REFUSAL_BYTES {
        let cause = CloseCause::Refused(reason);
        return out.outputs.push(Output::Close { connection, cause });
    }
    let properties = properties.as_properties();
    let connack = Connack { session_present: false, reason, properties };
    out.send(connection, connect.version, &Packet::Connack(connack));
    out.outputs.push(Output::Close { connection, cause: CloseCause::Refused(reason) });
}

/// What a CONNACK without properties takes.
const REFUSAL_BYTES: u32 = 5;

//! Start: rows back into memory, and what time has done while nobody was there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::load::ReadFor;
use super::open::index_key;
use super::service::ToService;
use super::timers::Timer;
use crate::codec::{PacketId, ReasonCode, Version};
use crate::hook::{ServiceEvent, SessionId};
use crate::ledger::Ledger;
use crate::message::{BadRow, Message};
use crate::metric::Metric;
use crate::output::{CloseCause, ConnectionId, Outbox};
use crate::peer::PeerMessage;
use crate::record::{Position, Row, RowKind};
use crate::session::{Receiving, Replays, Subscription, Who, rows};
use crate::slot::{ShardId, Slot};
use crate::time::Time;
use crate::topic::TopicFilter;

/// A session that waits for its Client: an index entry, and its subscriptions for the router.
#[derive(Debug)]
pub(super) struct Offline {
    pub(super) slot: Slot,
    pub(super) user: Arc<str>,
    pub(super) client_id: Arc<str>,
    /// When it ends.
    pub(super) ends: Time,
    /// Rows of its queue, and their bytes.
    pub(super) rows: usize,
    pub(super) rows_bytes: usize,
    /// None of them was put before this record.
    pub(super) rows_since: Position,
    /// Whether Packet Identifiers are in use.
    pub(super) in_flight: bool,
    /// The largest number among the messages in flight: rows up to it are not dropped when the
    /// queue is full, for the Client may have seen them.
    pub(super) in_flight_last: u64,
    /// The largest number of a QoS 1 message that may have been sent before a crash.
    pub(super) perhaps_sent: u64,
    /// A crash ended its last connection.
    pub(super) was_connected: bool,
    /// What its last connection waited for: rows say nothing of that, and nobody may be told before
    /// it is stored what they say.
    pub(super) ready: Position,
    /// The read that finds the oldest messages of a queue that is too long.
    pub(super) dropping: Option<u64>,
    /// QoS 2 messages of its last connection that other shards have still to take over.
    pub(super) receiving: Option<Box<Receiving>>,
    pub(super) subscriptions: Vec<(TopicFilter, Subscription)>,
    /// Retained messages that were still to come when its last connection ended.
    pub(super) replays: Replays,
}

impl Offline {
    /// Whose it is. In which version it was spoken with last is not kept.
    pub(super) fn who(&self) -> Who {
        Who::new(&self.user, &self.client_id, Version::V5)
    }

    /// Another shard has done its part of what was asked on the last connection. An identifier that
    /// the Client gave back before.
    pub(super) fn taken(
        &mut self,
        id: SessionId,
        serial: u64,
        reason: ReasonCode,
        ledger: &mut Ledger,
        out: &mut Outbox,
    ) -> Option<PacketId> {
        let receiving = self.receiving.as_mut()?;
        let all = receiving.done(serial, reason, None, Position::START);
        let released = if all { receiving.take_released(serial) } else { None };
        let ops = receiving.note_all(self.slot, id);
        if !receiving.is_undecided() {
            self.receiving = None;
        }
        if !ops.is_empty() {
            ledger.append(ops, false, out);
        }
        released
    }
}

impl Shard {
    /// The kinds of rows to hand to [`Shard::recover`], in this order; those of
    /// [`RowKind::Meta`] from all slots, the others from the shard's own.
    pub const RECOVERED: [RowKind; 7] = [
        RowKind::Meta,
        RowKind::Session,
        RowKind::Subscription,
        RowKind::Queued,
        RowKind::InFlight,
        RowKind::Retained,
        RowKind::Reached,
    ];

    /// Takes a row back at start, before [`super::Input::Started`].
    ///
    /// # Errors
    /// The row cannot be understood. What it was about is lost, so the start should fail.
    pub fn recover(&mut self, row: &Row, now: Time) -> Result<(), BadRow> {
        let [_, kind, ..] = row.key[..] else { return Err(BadRow::Content) };
        if kind == RowKind::Meta as u8 {
            return self.ledger.recover(&row.value);
        }
        if kind == RowKind::Session as u8 {
            return self.recover_session(row, now);
        }
        if kind == RowKind::Retained as u8 {
            return self.router.retained.recover(row);
        }
        if kind == RowKind::Reached as u8 {
            return self.recover_mark(row);
        }
        let (id, rest) = rows::owner(&row.key).ok_or(BadRow::Content)?;
        // Rows of a session that is over are on their way out.
        let Some(offline) = self.offline.get_mut(&id) else { return Ok(()) };
        if kind == RowKind::Queued as u8 {
            let bytes = size_of::<Message>() + row.value.len();
            offline.rows += 1;
            offline.rows_bytes += bytes;
            if offline.was_connected
                && let Some((number, _)) = rest.split_first_chunk::<8>()
            {
                // Which of them were sent nobody knows.
                offline.perhaps_sent = offline.perhaps_sent.max(u64::from_be_bytes(*number));
            }
            self.counters.add(Metric::QueuedMessages, 1);
            self.counters.add(Metric::QueuedBytes, bytes as u64);
        } else if kind == RowKind::InFlight as u8 {
            offline.in_flight = true;
            if let Ok(rows::InFlightRow::ToClient(entry) | rows::InFlightRow::Veiled(entry)) =
                rows::read_in_flight(row)
            {
                offline.in_flight_last = offline.in_flight_last.max(entry.queued.number);
            }
        } else if kind == RowKind::Subscription as u8 {
            let text = std::str::from_utf8(rest).map_err(|_| BadRow::Content)?;
            let filter = TopicFilter::parse(text).map_err(|_| BadRow::Content)?;
            // Granted when more may have been offered.
            let (subscription, replaying) = rows::read_subscription(&row.value)?;
            if replaying {
                offline.replays.recover(&filter);
            }
            offline.subscriptions.push((filter, subscription.at_most(&self.limits.offers)));
            self.counters.add(Metric::Subscriptions, 1);
        }
        Ok(())
    }

    fn recover_session(&mut self, row: &Row, now: Time) -> Result<(), BadRow> {
        let [slot, ..] = row.key[..] else { return Err(BadRow::Content) };
        let session = rows::read_session(&row.value)?;
        // Connected when the server went down: its time begins now. And where the clock was set back
        // meanwhile, nobody lives longer than was asked for.
        let at_most = now + session.expiry;
        let ends = session.ends.unwrap_or(at_most).min(at_most);
        if let Some((will, due)) = session.will {
            let who = Who::new(&session.user, &session.client_id, Version::V5);
            let due = due.unwrap_or(now + will.delay).min(ends);
            self.hold_will(session.id, who, will, due, session.expiry);
        }
        self.index.insert(index_key(&session.user, &session.client_id), session.id);
        self.offline.insert(
            session.id,
            Offline {
                slot: Slot(slot),
                user: session.user,
                client_id: session.client_id,
                ends,
                rows: 0,
                rows_bytes: 0,
                rows_since: Position::START,
                in_flight: false,
                in_flight_last: 0,
                perhaps_sent: 0,
                was_connected: session.ends.is_none(),
                ready: Position::START,
                dropping: None,
                receiving: None,
                subscriptions: Vec::new(),
                replays: Replays::default(),
            },
        );
        Ok(())
    }

    /// Takes back a row of [`RowKind::Garbage`], after [`super::Input::Started`]: the deletion of
    /// what it names goes on.
    ///
    /// # Errors
    /// The row cannot be understood.
    pub fn resume_sweep(&mut self, row: &Row, out: &mut Outbox) -> Result<(), BadRow> {
        let [slot, ..] = row.key[..] else { return Err(BadRow::Content) };
        let range = rows::read_garbage(&row.key, &row.value)?;
        self.begin_sweep(ReadFor::Garbage(Slot(slot), range), out);
        Ok(())
    }

    /// All rows are here.
    pub(super) fn start(&mut self, now: Time, out: &mut Outbox) {
        let mut ids: Vec<SessionId> = self.offline.keys().copied().collect();
        ids.sort_unstable();
        let mut wanted = Vec::new();
        let mut owners = BTreeSet::new();
        for id in ids {
            self.drop_lost_at_start(id, out);
            let Some(offline) = self.offline.get(&id) else { continue };
            self.timers.set(offline.ends, Timer::Expiry(id));
            for (filter, subscription) in offline.subscriptions.clone() {
                if filter.share().is_some() {
                    match self.join(id, &filter, subscription) {
                        Err(first) => wanted.extend(first.then(|| filter.unshared())),
                        Ok((shard, member)) => {
                            owners.insert((shard, filter.unshared()));
                            let (session, member) = (id, Some(member));
                            let message =
                                PeerMessage::Member { filter, session, member, token: None };
                            out.post(shard, message);
                        }
                    }
                } else if self.services.owner(filter.as_str()).is_none()
                    && self.router.subscribe(&filter, id, subscription)
                {
                    wanted.push(filter);
                }
            }
        }
        self.announce_owners(owners, out);
        self.tell_marks(out);
        // Nobody can publish before every shard has heard this: the listeners open later.
        for filter in wanted {
            self.announce(&filter, true, None, out);
        }
        for shard in (0..self.shards).map(ShardId).filter(|shard| *shard != self.id) {
            out.post(shard, PeerMessage::Started);
        }
        for service in self.services.all() {
            self.call(service, ServiceEvent::Started, now, out);
        }
    }

    /// Tells the others what the owners of groups want that this shard has members of: they would
    /// tell too late themselves, when the listeners may be open.
    fn announce_owners(&mut self, owners: BTreeSet<(ShardId, TopicFilter)>, out: &mut Outbox) {
        for (owner, filter) in owners {
            self.router.set_interest(&filter, owner, true);
            for shard in (0..self.shards).map(ShardId) {
                if shard != self.id && shard != owner {
                    let filter = filter.clone();
                    let message =
                        PeerMessage::Interest { filter, shard: owner, wanted: true, token: None };
                    out.post(shard, message);
                }
            }
        }
    }

    /// Closes a connection that was silent for too long, or looks again later.
    fn check_silence(
        &mut self,
        connection: ConnectionId,
        planned: Time,
        now: Time,
        out: &mut Outbox,
    ) {
        let id = self.connections.get(&connection);
        let Some(session) = id.and_then(|id| self.sessions.get_mut(id)) else { return };
        let Some(silence_max) = session.link.silence_max else { return };
        // Who is told that late was not running: what the Client said meanwhile is still unread.
        let late = now.since(planned);
        if late > LATE {
            session.link.heard = session.link.heard + late + TIME_TO_READ;
        }
        let due = session.link.heard + silence_max;
        if due > now {
            session.link.silence_due = Some(due);
            self.timers.set(due, Timer::KeepAlive(connection));
        } else {
            self.refuse(connection, CloseCause::KeepAliveTimedOut, now, out);
        }
    }

    /// Deadlines have passed.
    ///
    /// None has at start before every shard has told what it found: a session that expired meanwhile
    /// may be the only one here that wants what the members of a group on other shards want.
    pub(super) fn timed_out(&mut self, now: Time, out: &mut Outbox) {
        if self.starting > 0 {
            return;
        }
        while let Some((planned, timer)) = self.timers.pop_due(now) {
            match timer {
                Timer::KeepAlive(connection) => self.check_silence(connection, planned, now, out),
                Timer::Login(connection) => {
                    self.refuse(connection, CloseCause::LoginExpired, now, out);
                }
                Timer::Will(id) => self.publish_delayed_will(id, now, out),
                Timer::Expiry(id) => {
                    self.counters.add(Metric::SessionsExpired, 1);
                    self.end_offline(id, now, out);
                }
                Timer::Rights => self.recheck_some(now, out),
            }
        }
        let expired = self.router.retained.expire(now);
        if !expired.is_empty() {
            self.ledger.append(expired, false, out);
        }
        if self.services.next_timeout().is_some_and(|due| due <= now) {
            self.services.push_all(|| ToService::TimedOut);
        }
    }
}

/// Deadlines are met within milliseconds, unless the process was stopped or the machine slept.
const LATE: Duration = Duration::from_millis(500);

/// What a process that was stopped needs at the most to read what its Clients said meanwhile.
const TIME_TO_READ: Duration = Duration::from_secs(1);

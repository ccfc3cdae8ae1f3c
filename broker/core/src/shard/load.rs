//! Rows that were asked for: of sessions that come back, of queues, of what is to be deleted.

use super::{Shard, Waiter};
use crate::codec::QoS;
use crate::hook::{ServiceEvent, SessionId};
use crate::limits::QUEUE_ROWS_PER_READ;
use crate::message::BadRow;
use crate::output::Outbox;
use crate::record::{KeyRange, Op, Row, RowKind};
use crate::session::rows::{self, InFlightRow};
use crate::session::{InFlight, Queued};
use crate::slot::Slot;
use crate::time::Time;

/// What a read is for. A session that was put away meanwhile and came back asks anew; its number of
/// [`crate::session::Session::life`] says which answers are its own.
#[derive(Debug)]
pub(crate) enum ReadFor {
    /// The identifiers of a session that is being resumed, with those that were read before.
    InFlight(SessionId, u64, Vec<InFlight>),
    /// The first messages of the queue of a session that is being resumed.
    FirstQueued(SessionId, u64),
    /// More messages of a session's queue.
    Queue(SessionId, u64),
    /// The oldest messages of a session without a connection, of which it has too many.
    Oldest(SessionId),
    /// Identifiers of a session whose queue is to be deleted.
    Sent(Slot, KeyRange),
    /// Rows that are to be deleted.
    Garbage(Slot, KeyRange),
    /// A service's own.
    Service { service: u8, token: u64 },
}

impl Shard {
    /// Rows have been read.
    pub(super) fn rows(
        &mut self,
        token: u64,
        rows: Vec<Row>,
        more: bool,
        now: Time,
        out: &mut Outbox,
    ) {
        match self.reads.remove(&token) {
            None => {}
            Some(ReadFor::Service { service, token }) => {
                self.call(service, ServiceEvent::Rows { token, rows, more }, now, out);
            }
            Some(ReadFor::Oldest(id)) => self.drop_oldest(id, token, &rows, out),
            Some(ReadFor::Sent(slot, range)) => self.sweep_sent(slot, range, &rows, more, out),
            Some(ReadFor::Garbage(slot, range)) => self.sweep(slot, range, &rows, more, now, out),
            Some(
                ReadFor::InFlight(id, life, _)
                | ReadFor::FirstQueued(id, life)
                | ReadFor::Queue(id, life),
            ) if self.sessions.get(&id).is_none_or(|session| session.life != life) => {}
            Some(ReadFor::Queue(id, _)) => {
                self.queue_rows(id, rows, more);
                self.advance(id, now, out);
            }
            Some(ReadFor::FirstQueued(id, _)) => {
                self.queue_rows(id, rows, more);
                self.loaded(id, now, out);
            }
            Some(ReadFor::InFlight(id, _, before)) => {
                self.in_flight_rows(id, before, &rows, more, out);
                self.loaded(id, now, out);
            }
        }
    }

    /// One of the reads that a resumed session waits for is done.
    fn loaded(&mut self, id: SessionId, now: Time, out: &mut Outbox) {
        if let Some(session) = self.sessions.get_mut(&id)
            && let Some(opening) = &mut session.opening
        {
            opening.reads = opening.reads.saturating_sub(1);
        }
        self.advance(id, now, out);
    }

    fn queue_rows(&mut self, id: SessionId, rows: Vec<Row>, more: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // A row that cannot be read is left where it is: `check` of the store names it, and the
        // messages behind it are not held up.
        let queued = rows.into_iter().filter_map(|row| rows::take_queued(row).ok());
        // A read shows rows before they are safe: what was queued last may not be.
        let ready = self.ledger.last_urgent();
        let queued = queued.map(|queued| Queued { ready, ..queued }).collect();
        session.sending.take_rows(queued, more);
    }

    /// Asks for what a session was doing when it was put away: first all its identifiers, so that
    /// what has one is passed over in the queue.
    pub(super) fn load(&mut self, id: SessionId, in_flight: bool, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (slot, life, queued) = (session.slot, session.life, session.sending.rows > 0);
        let Some(opening) = &mut session.opening else { return };
        if in_flight {
            opening.reads += 1;
            let range = rows::all(slot, RowKind::InFlight, id);
            self.read_rows(ReadFor::InFlight(id, life, Vec::new()), range, IN_FLIGHT_PER_READ, out);
        } else if queued {
            opening.reads += 1;
            let range = rows::queued_after(slot, id, 0);
            let (what, since) = (ReadFor::FirstQueued(id, life), session.sending.rows_since);
            self.read_queue(what, range, QUEUE_ROWS_PER_READ * 2, since, out);
        }
    }

    fn in_flight_rows(
        &mut self,
        id: SessionId,
        mut window: Vec<InFlight>,
        rows: &[Row],
        more: bool,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let read: Vec<Result<InFlightRow, BadRow>> =
            rows.iter().map(rows::read_in_flight).collect();
        // What only its service can read, and cannot: it delivers that again by itself.
        let mut lost = Vec::new();
        for row in read.into_iter().flatten() {
            match row {
                InFlightRow::ToClient(entry) => window.push(*entry),
                InFlightRow::Veiled(entry) => {
                    let packet_id = entry.packet_id;
                    match self.services.unveiled(*entry) {
                        Some(entry) => window.push(entry),
                        None => lost.push(rows::in_flight_gone(session.slot, id, packet_id)),
                    }
                }
                InFlightRow::FromClient(packet_id, progress) => {
                    session.receiving.restore(packet_id, progress);
                }
            }
        }
        if !lost.is_empty() {
            self.ledger.append(lost, false, out);
        }
        let Some(last) = rows.last().filter(|_| more) else {
            session.sending.restore(window);
            self.load(id, false, out);
            return;
        };
        let range = rows::all(session.slot, RowKind::InFlight, id).after(&last.key);
        let what = ReadFor::InFlight(id, session.life, window);
        if let Some(opening) = &mut session.opening {
            opening.reads += 1;
        }
        self.read_rows(what, range, IN_FLIGHT_PER_READ, out);
    }

    /// Begins to delete every row in `range`; survives a crash.
    pub(super) fn discard(&mut self, slot: Slot, range: KeyRange, ops: &mut Vec<Op>) -> ReadFor {
        ops.push(rows::garbage(slot, &range));
        ReadFor::Garbage(slot, range)
    }

    /// Deletes some rows, and asks for the next. What is there of Shared Subscriptions goes to other
    /// members of its group first.
    fn sweep(
        &mut self,
        slot: Slot,
        range: KeyRange,
        rows: &[Row],
        more: bool,
        now: Time,
        out: &mut Outbox,
    ) {
        let mut ops: Vec<Op> = rows.iter().map(|row| Op::Delete { key: row.key.clone() }).collect();
        ops.extend(rows.iter().filter_map(sent_with_qos_2));
        let rest = rows.last().filter(|_| more).map(|last| range.clone().after(&last.key));
        let queued = |row: &Row| row.key.get(1) == Some(&(RowKind::Queued as u8));
        let left: Vec<Queued> = rows
            .iter()
            .filter(|row| queued(row))
            .filter_map(|row| rows::read_queued(row).ok())
            .filter(|it| it.share.is_some())
            .collect();
        let sweep = Sweep { slot, range, ops, rest, waits: left.len() };
        if left.is_empty() {
            self.swept(sweep, out);
            return;
        }
        self.next_token += 1;
        let number = self.next_token;
        self.sweeps.insert(number, sweep);
        for Queued { share, message, key, .. } in left {
            let token = self.token(Waiter::Sweep(number));
            if let Some(filter) = share {
                self.leave_to_others(filter, message, Some(token), key, now, out);
            }
        }
    }

    /// A message of a sweep is with somebody else.
    pub(super) fn swept_one(&mut self, number: u64, out: &mut Outbox) {
        let Some(sweep) = self.sweeps.get_mut(&number) else { return };
        sweep.waits = sweep.waits.saturating_sub(1);
        if sweep.waits == 0
            && let Some(sweep) = self.sweeps.remove(&number)
        {
            self.swept(sweep, out);
        }
    }

    fn swept(&mut self, sweep: Sweep, out: &mut Outbox) {
        let Sweep { slot, range, mut ops, rest, .. } = sweep;
        if rest.is_none() {
            ops.push(rows::garbage_gone(slot, &range));
        }
        self.ledger.append(ops, false, out);
        if let Some(rest) = rest {
            self.sweep_rest(slot, range, rest, out);
        }
    }

    /// What was sent with QoS 2 goes to nobody else: it is deleted before the rest of its queue is
    /// looked at. [MQTT-4.8.2-5]
    fn sweep_sent(
        &mut self,
        slot: Slot,
        range: KeyRange,
        rows: &[Row],
        more: bool,
        out: &mut Outbox,
    ) {
        let ops: Vec<Op> = rows.iter().filter_map(sent_with_qos_2).collect();
        if !ops.is_empty() {
            self.ledger.append(ops, false, out);
        }
        match rows.last().filter(|_| more) {
            Some(last) => self.read_sent(slot, range, Some(&last.key), out),
            None => {
                let rest = range.clone();
                self.sweep_rest(slot, range, rest, out);
            }
        }
    }

    fn read_sent(&mut self, slot: Slot, range: KeyRange, behind: Option<&[u8]>, out: &mut Outbox) {
        let Some((id, _)) = rows::owner(&range.start) else { return };
        let sent = rows::all(slot, RowKind::InFlight, id);
        let sent = behind.map_or_else(|| sent.clone(), |key| sent.clone().after(key));
        self.read_rows(ReadFor::Sent(slot, range), sent, SWEPT_ROWS_PER_READ, out);
    }

    fn sweep_rest(&mut self, slot: Slot, range: KeyRange, rest: KeyRange, out: &mut Outbox) {
        self.read_rows(ReadFor::Garbage(slot, range), rest, SWEPT_ROWS_PER_READ, out);
    }

    /// Asks for the first rows to delete.
    pub(super) fn begin_sweep(&mut self, what: ReadFor, out: &mut Outbox) {
        let ReadFor::Garbage(slot, range) = what else { return };
        if range.start.get(1) == Some(&(RowKind::Queued as u8)) {
            self.read_sent(slot, range, None, out);
        } else {
            let rest = range.clone();
            self.sweep_rest(slot, range, rest, out);
        }
    }
}

/// The deletion of the queued message that a row of an identifier says was sent with QoS 2.
fn sent_with_qos_2(row: &Row) -> Option<Op> {
    if row.key.get(1) != Some(&(RowKind::InFlight as u8)) {
        return None;
    }
    let Ok(InFlightRow::ToClient(entry)) = rows::read_in_flight(row) else { return None };
    let key = entry.queued.key.filter(|_| entry.queued.qos == QoS::ExactlyOnce)?;
    Some(Op::Delete { key })
}

/// Rows that are to be deleted together.
#[derive(Debug)]
pub(super) struct Sweep {
    slot: Slot,
    range: KeyRange,
    ops: Vec<Op>,
    /// What is to be read next.
    rest: Option<KeyRange>,
    /// How many messages are still to be taken over by others.
    waits: usize,
}

/// How many identifiers are read in one step; they come with their messages.
const IN_FLIGHT_PER_READ: usize = 256;

/// How many rows are deleted in one step.
const SWEPT_ROWS_PER_READ: usize = 256;

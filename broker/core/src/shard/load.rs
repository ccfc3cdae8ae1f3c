//! Rows that were asked for: of sessions that come back, of queues, of what is to be deleted.

use super::Shard;
use crate::hook::{ServiceEvent, SessionId};
use crate::message::BadRow;
use crate::output::Outbox;
use crate::record::{KeyRange, Op, Row};
use crate::session::rows::{self, InFlightRow};
use crate::slot::Slot;
use crate::time::Time;

/// What a read is for. A session that was put away meanwhile and came back asks anew; its number of
/// [`crate::session::Session::life`] says which answers are its own.
#[derive(Debug)]
pub(crate) enum ReadFor {
    /// The identifiers of a session that is being resumed.
    InFlight(SessionId, u64),
    /// The first messages of the queue of a session that is being resumed.
    FirstQueued(SessionId, u64),
    /// More messages of a session's queue.
    Queue(SessionId, u64),
    /// The oldest messages of a session without a connection, of which it has too many.
    Oldest(SessionId),
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
            Some(ReadFor::Garbage(slot, range)) => self.sweep(slot, range, &rows, more, out),
            Some(
                ReadFor::InFlight(id, life)
                | ReadFor::FirstQueued(id, life)
                | ReadFor::Queue(id, life),
            ) if self.sessions.get(&id).is_none_or(|session| session.life != life) => {}
            Some(ReadFor::Queue(id, _)) => {
                self.queue_rows(id, &rows, more);
                self.advance(id, now, out);
            }
            Some(ReadFor::FirstQueued(id, _)) => {
                self.queue_rows(id, &rows, more);
                self.loaded(id, now, out);
            }
            Some(ReadFor::InFlight(id, _)) => {
                self.in_flight_rows(id, &rows);
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

    fn queue_rows(&mut self, id: SessionId, rows: &[Row], more: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // A row that cannot be read is left where it is: `check` of the store names it, and the
        // messages behind it are not held up.
        let queued = rows.iter().filter_map(|row| rows::read_queued(row).ok()).collect();
        session.sending.take_rows(queued, more);
    }

    fn in_flight_rows(&mut self, id: SessionId, rows: &[Row]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut window = Vec::new();
        let read: Vec<Result<InFlightRow, BadRow>> =
            rows.iter().map(rows::read_in_flight).collect();
        for row in read.into_iter().flatten() {
            match row {
                InFlightRow::ToClient(entry) => window.push(*entry),
                InFlightRow::FromClient(packet_id) => session.receiving.restore(packet_id),
            }
        }
        session.sending.restore(window);
    }

    /// Begins to delete every row in `range`; survives a crash.
    pub(super) fn discard(&mut self, slot: Slot, range: KeyRange, ops: &mut Vec<Op>) -> ReadFor {
        ops.push(rows::garbage(slot, &range));
        ReadFor::Garbage(slot, range)
    }

    /// Deletes some rows, and asks for the next.
    fn sweep(&mut self, slot: Slot, range: KeyRange, rows: &[Row], more: bool, out: &mut Outbox) {
        let mut ops: Vec<Op> = rows.iter().map(|row| Op::Delete { key: row.key.clone() }).collect();
        if !more {
            ops.push(rows::garbage_gone(slot, &range));
        }
        self.ledger.append(ops, false, out);
        if more && let Some(last) = rows.last() {
            let rest = range.clone().after(&last.key);
            self.sweep_rest(slot, range, rest, out);
        }
    }

    fn sweep_rest(&mut self, slot: Slot, range: KeyRange, rest: KeyRange, out: &mut Outbox) {
        self.read_rows(ReadFor::Garbage(slot, range), rest, SWEPT_ROWS_PER_READ, out);
    }

    /// Asks for the first rows to delete.
    pub(super) fn begin_sweep(&mut self, what: ReadFor, out: &mut Outbox) {
        if let ReadFor::Garbage(slot, range) = what {
            let rest = range.clone();
            self.sweep_rest(slot, range, rest, out);
        }
    }
}

/// How many rows are deleted in one step.
const SWEPT_ROWS_PER_READ: usize = 256;

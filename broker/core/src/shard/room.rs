//! Full queues, and a disk that is nearly full: what keeps a message out, and what goes to make room.

use bytes::Bytes;

use super::Shard;
use super::input::Open;
use super::load::ReadFor;
use crate::codec::QoS;
use crate::hook::SessionId;
use crate::limits::{QUEUE_OVERSHOOT_MAX, QUEUE_ROWS_PER_READ};
use crate::message::Message;
use crate::metric::Metric;
use crate::output::{ConnectionId, Outbox};
use crate::record::{Op, Row};
use crate::router::Copy;
use crate::session::{QueueBounds, rows, session_expiry};

/// A session whose queue is full, and nothing in it that could make room.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoRoom;

impl Shard {
    /// Whether a Client was sent messages that it has still to acknowledge.
    pub fn awaits_acknowledgement(&self, connection: ConnectionId) -> bool {
        let session = self.connections.get(&connection).and_then(|id| self.sessions.get(id));
        session.is_some_and(|session| session.sending.window.awaits_acknowledgement())
    }

    /// Whose connection this is: user and Client Identifier.
    pub fn whose(&self, connection: ConnectionId) -> Option<(&str, &str)> {
        let session = self.connections.get(&connection).and_then(|id| self.sessions.get(id))?;
        let client = session.client();
        Some((client.user, client.client_id))
    }

    /// Bytes of messages that wait in memory for a Client; they may wait for others as well.
    pub fn bytes_in_memory(&self, connection: ConnectionId) -> usize {
        let session = self.connections.get(&connection).and_then(|id| self.sessions.get(id));
        session.map_or(0, |session| session.sending.bytes_in_memory())
    }

    /// The bound of a session's queue that leaves no room for a message, if there is none.
    pub(super) fn full_by(&self, copy: &Copy, message: &Message) -> Option<Metric> {
        match self.sessions.get(&copy.session) {
            Some(session) => {
                let bounds = self.bounds.of(session.is_persistent());
                session.sending.full_by(message.size(), bounds)
            }
            None => {
                let offline = self.offline.get(&copy.session)?;
                let waiting = (offline.rows, offline.rows_bytes);
                self.bounds.of(true).full_by(waiting, message.size())
            }
        }
    }

    /// How much may wait for a session; one without a connection has outlived it.
    pub(super) fn queue_bounds(&self, id: SessionId) -> &QueueBounds {
        self.bounds.of(self.sessions.get(&id).is_none_or(|it| it.is_persistent()))
    }

    /// Whether a session's queue has room for a message.
    pub(super) fn has_room(&self, copy: &Copy, message: &Message) -> bool {
        self.full_by(copy, message).is_none()
    }

    /// Whether a message from session `id`, whose copies were found, would be kept; any with QoS
    /// 1 or 2 that `others` have to take over counts, since nobody asks them.
    pub(super) fn would_keep(&self, id: SessionId, message: &Message, others: usize) -> bool {
        if message.retain && !message.payload.is_empty() {
            return true;
        }
        let outlives = |id: &SessionId| match self.sessions.get(id) {
            Some(session) => session.is_persistent(),
            None => self.offline.contains_key(id),
        };
        match message.qos {
            QoS::AtMostOnce => false,
            _ if others > 0 => true,
            QoS::ExactlyOnce if outlives(&id) => true,
            _ => self.copies.iter().any(|it| it.qos > QoS::AtMostOnce && outlives(&it.session)),
        }
    }

    /// Whether a Client wants something kept that is not yet: a session, or a will for later. One
    /// that comes back to its session is let in, for that is how the disk gets empty.
    pub(super) fn would_begin_to_keep(&self, open: &Open<'_>, key: &str) -> bool {
        let kept = self
            .index
            .get(key)
            .is_some_and(|id| self.sessions.get(id).is_none_or(|it| it.is_persistent()));
        let will = open.connect.will.as_ref();
        let keeps_will = will.is_some_and(|it| it.retain || it.qos > QoS::AtMostOnce);
        !kept && (keeps_will || !session_expiry(open.user, &open.connect, &self.limits).is_zero())
    }

    /// The key of the row that a copy needs: QoS 1 and 2, for a session that outlives its
    /// connection. A full queue loses its oldest messages for it: at once where they are in memory;
    /// where they are in the store, as soon as they have been read.
    pub(super) fn queue_row(
        &mut self,
        copy: &Copy,
        number: u64,
        message: &Message,
        ops: &mut Vec<Op>,
        out: &mut Outbox,
    ) -> Result<Option<Bytes>, NoRoom> {
        if copy.qos == QoS::AtMostOnce {
            return Ok(None);
        }
        let full_by = self.full_by(copy, message);
        if let Some(bound) = full_by {
            self.counters.add(bound, 1);
            if self.queue_bounds(copy.session).never_fits(message.size()) {
                self.counters.add(Metric::DroppedQueueFull, 1);
                return Err(NoRoom);
            }
        }
        let Copy { session: id, qos, retain, subscription_id, share } = copy;
        let slot = if self.sessions.contains_key(id) {
            if full_by.is_some() {
                self.push_out(copy, message, ops)?;
            }
            let session = self.sessions.get_mut(id).ok_or(NoRoom)?;
            if !session.is_persistent() {
                return Ok(None);
            }
            session.sending.note_row(message, self.ledger.settled(), &self.counters);
            session.slot
        } else {
            let offline = self.offline.get_mut(id).ok_or(NoRoom)?;
            let limits = &self.limits;
            let rows_max = limits.session_queue_messages_max.saturating_add(QUEUE_OVERSHOOT_MAX);
            let bytes_max = limits.session_queue_bytes_max.saturating_mul(2);
            let bytes = offline.rows_bytes.saturating_add(message.size());
            if offline.rows >= rows_max || bytes > bytes_max {
                self.counters.add(Metric::DroppedQueueFull, 1);
                return Err(NoRoom);
            }
            self.counters.add(Metric::QueuedMessages, 1);
            self.counters.add(Metric::QueuedBytes, message.size() as u64);
            if offline.rows == 0 {
                offline.rows_since = self.ledger.settled();
            }
            offline.rows += 1;
            offline.rows_bytes = bytes;
            let slot = offline.slot;
            if full_by.is_some() {
                self.read_oldest(*id, out);
            }
            slot
        };
        let share = share.as_ref();
        let key = rows::queued_key(slot, *id, number, *qos, *retain, *subscription_id, share);
        Ok(Some(key))
    }

    /// Makes room in the queue of a session that is connected.
    fn push_out(
        &mut self,
        copy: &Copy,
        message: &Message,
        ops: &mut Vec<Op>,
    ) -> Result<(), NoRoom> {
        while self.full_by(copy, message).is_some() {
            // Its oldest; or, if none is in memory that was not sent, this one.
            self.counters.add(Metric::DroppedQueueFull, 1);
            let session = self.sessions.get_mut(&copy.session).ok_or(NoRoom)?;
            let dropped = session.sending.drop_oldest(&self.counters).ok_or(NoRoom)?;
            ops.extend(dropped.map(|key| Op::Forget { key }));
        }
        Ok(())
    }

    /// Asks for the oldest messages of a session that has no connection, and too many of them.
    fn read_oldest(&mut self, id: SessionId, out: &mut Outbox) {
        let Some(offline) = self.offline.get(&id).filter(|it| it.dropping.is_none()) else {
            return;
        };
        let range = rows::queued_after(offline.slot, id, offline.in_flight_last);
        self.read_rows(ReadFor::Oldest(id), range, QUEUE_ROWS_PER_READ, out);
        let token = self.next_read;
        if let Some(offline) = self.offline.get_mut(&id) {
            offline.dropping = Some(token);
        }
    }

    /// Drops as many of the oldest messages of a session as it has too many.
    pub(super) fn drop_oldest(
        &mut self,
        id: SessionId,
        token: u64,
        rows: &[Row],
        out: &mut Outbox,
    ) {
        let (messages, bytes) =
            (self.limits.session_queue_messages_max, self.limits.session_queue_bytes_max);
        // The Client may have come, and gone again, since these were asked for.
        let Some(offline) = self.offline.get_mut(&id).filter(|it| it.dropping == Some(token))
        else {
            return;
        };
        offline.dropping = None;
        let mut ops = Vec::new();
        for row in rows {
            if offline.rows <= messages && offline.rows_bytes <= bytes {
                break;
            }
            let message = rows::read_queued(row).map(|queued| queued.message.size());
            let size = message.unwrap_or(row.value.len());
            offline.rows = offline.rows.saturating_sub(1);
            offline.rows_bytes = offline.rows_bytes.saturating_sub(size);
            self.counters.take(Metric::QueuedMessages, 1);
            self.counters.take(Metric::QueuedBytes, size as u64);
            self.counters.add(Metric::DroppedQueueFull, 1);
            ops.push(Op::Delete { key: row.key.clone() });
        }
        let too_many = offline.rows > messages || offline.rows_bytes > bytes;
        if !ops.is_empty() {
            self.ledger.append(ops, false, out);
            if too_many {
                self.read_oldest(id, out);
            }
        }
    }
}

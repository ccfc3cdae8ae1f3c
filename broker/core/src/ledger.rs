//! The shard's count of what it wanted kept and what is safe, and the numbers it hands out.
//!
//! Positions begin anew with each process; numbers never do. Numbers (of sessions, messages and
//! places in queues) are taken from a lease that is stored before any number of it is used, so that
//! a crash skips some and repeats none. The low byte of a number is its shard: no two shards
//! ever give the same.

use bytes::Bytes;

use crate::message::{BadRow, pack, unpack};
use crate::output::{Outbox, Output};
use crate::record::{KeyBuilder, Op, Position, Record, RowKind};
use crate::slot::{ShardId, Slot};

/// Positions and numbers of one shard.
#[derive(Debug)]
pub(crate) struct Ledger {
    shard: ShardId,
    last: Position,
    last_urgent: Position,
    stored: Position,
    counter: u64,
    leased: u64,
}

impl Ledger {
    pub(crate) fn new(shard: ShardId) -> Self {
        let start = Position::START;
        Self { shard, last: start, last_urgent: start, stored: start, counter: 0, leased: 0 }
    }

    /// The position that the next record will have.
    pub(crate) fn next_position(&self) -> Position {
        Position(self.last.0 + 1)
    }

    /// Has `ops` kept, whole or not at all.
    pub(crate) fn append(&mut self, ops: Vec<Op>, urgent: bool, out: &mut Outbox) -> Position {
        self.last = self.next_position();
        if urgent {
            self.last_urgent = self.last;
        }
        out.outputs.push(Output::Store(Record { ops, urgent }));
        self.last
    }

    /// Learns that everything up to `position` is safe.
    pub(crate) fn set_stored(&mut self, position: Position) {
        self.stored = self.stored.max(position);
    }

    /// The position of the last record.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// The position of the last record that somebody waits for. What a Client was promised is in
    /// those up to it.
    pub(crate) fn last_urgent(&self) -> Position {
        self.last_urgent
    }

    pub(crate) fn is_stored(&self, position: Position) -> bool {
        position <= self.stored
    }

    /// A number that was never given before, larger than all that this shard gave.
    pub(crate) fn number(&mut self, out: &mut Outbox) -> u64 {
        if self.counter >= self.leased {
            self.lease(out);
        }
        self.counter += 1;
        self.counter << 8 | u64::from(self.shard.0)
    }

    fn lease(&mut self, out: &mut Outbox) {
        self.leased = self.counter + LEASE;
        // Every record that uses a number of this lease comes behind this one in the journal, so
        // nobody needs to wait for it.
        let row = Op::Put { key: Self::key(self.shard), value: pack(FORMAT, &self.leased) };
        self.append(vec![row], false, out);
    }

    /// Learns from a [`RowKind::Meta`] row, of whichever shard, what numbers may have been used.
    pub(crate) fn recover(&mut self, value: &[u8]) -> Result<(), BadRow> {
        let leased: u64 = unpack(FORMAT, value)?;
        self.counter = self.counter.max(leased);
        self.leased = self.counter;
        Ok(())
    }

    fn key(shard: ShardId) -> Bytes {
        // A shard's row lies in a slot of its number, which it need not own: the row belongs to
        // the shard, and every shard reads those of all slots at start.
        KeyBuilder::new(Slot((shard.0 & 0xff) as u8), RowKind::Meta).build()
    }
}

/// Whether a [`RowKind::Meta`] row can be read.
pub(crate) fn verify(value: &[u8]) -> Result<(), BadRow> {
    unpack::<u64>(FORMAT, value).map(|_| ())
}

/// How many numbers one stored row covers.
const LEASE: u64 = 1 << 20;
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_and_never_repeat_after_a_crash() {
        let mut out = Outbox::default();
        let mut ledger = Ledger::new(ShardId(3));
        let first: Vec<u64> = (0..5).map(|_| ledger.number(&mut out)).collect();
        let Some(Output::Store(record)) = out.outputs.first() else {
            panic!("no lease was stored")
        };
        let [Op::Put { value, .. }] = &record.ops[..] else { panic!("{record:?}") };

        let mut restarted = Ledger::new(ShardId(3));
        restarted.recover(value).unwrap();
        let next = restarted.number(&mut out);
        assert!(first.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(first.iter().all(|number| *number < next && number & 0xff == 3));
    }
}

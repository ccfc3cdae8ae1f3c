//! The shard's count of what it wanted kept and what is safe, and the numbers it hands out.
//!
//! Positions begin anew with each process; numbers never do. Numbers (of sessions, messages and
//! places in queues) are taken from a lease that is stored before any number of it is used, so that
//! a crash skips some and repeats none. The low byte of a number is its shard: no two shards
//! ever give the same.

use bytes::Bytes;

use crate::message::{BadRow, pack, unpack};
use crate::output::Outbox;
use crate::record::{KeyBuilder, Op, Position, Record, RowKind};
use crate::slot::{ShardId, Slot};

/// Positions and numbers of one shard.
#[derive(Debug)]
pub(crate) struct Ledger {
    shard: ShardId,
    last: Position,
    /// The size of the last record, about.
    last_bytes: usize,
    last_urgent: Position,
    stored: Position,
    counter: u64,
    leased: u64,
}

impl Ledger {
    pub(crate) fn new(shard: ShardId) -> Self {
        let start = Position::START;
        let (counter, leased, last_bytes) = (0, 0, 0);
        Self { shard, last: start, last_bytes, last_urgent: start, stored: start, counter, leased }
    }

    /// Has `ops` kept, whole or not at all.
    ///
    /// What is appended while one batch is handled becomes one record, up to a bound: its position
    /// is that of all of them, and there is one header, one checksum and one hand-over for it.
    pub(crate) fn append(
        &mut self,
        ops: impl IntoIterator<Item = Op>,
        urgent: bool,
        out: &mut Outbox,
    ) -> Position {
        let has_room = |record: &Record| record.ops.len() < RECORD_OPS_MAX;
        if self.last_bytes >= RECORD_BYTES_MAX || !out.open_record().is_some_and(|it| has_room(it))
        {
            self.last = Position(self.last.0 + 1);
            self.last_bytes = 0;
            out.begin_record(Record::default());
        }
        if let Some(record) = out.open_record() {
            record.urgent |= urgent;
            for op in ops {
                self.last_bytes += op_bytes(&op);
                record.ops.push(op);
            }
        }
        if urgent {
            self.last_urgent = self.last;
        }
        self.last
    }

    /// Learns that everything up to `position` is safe.
    pub(crate) fn set_stored(&mut self, position: Position) {
        self.stored = self.stored.max(position);
    }

    /// A position before that of whatever is appended from now on.
    pub(crate) fn settled(&self) -> Position {
        Position(self.last.0.saturating_sub(1))
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
        self.append([row], false, out);
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

/// About how much of a record a change takes.
fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value } => key.len() + value.len(),
        Op::PutAll { keys, value } => keys.iter().map(Bytes::len).sum::<usize>() + value.len(),
        Op::Delete { key } | Op::Forget { key } => key.len(),
    }
}

/// Whether a [`RowKind::Meta`] row can be read.
pub(crate) fn verify(value: &[u8]) -> Result<(), BadRow> {
    unpack::<u64>(FORMAT, value).map(|_| ())
}

/// How many numbers one stored row covers.
const LEASE: u64 = 1 << 20;

/// A record of so many changes, or bytes, takes no more. One that needs more at once has it.
const RECORD_OPS_MAX: usize = 256;
const RECORD_BYTES_MAX: usize = 64 * 1024;
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

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

    #[test]
    fn what_is_appended_together_is_one_record_up_to_a_bound_and_a_read_comes_between() {
        let (mut out, mut ledger) = (Outbox::default(), Ledger::new(ShardId(0)));
        let op = |length: usize| Op::Delete { key: vec![0; length].into() };
        let records = |out: &Outbox| -> Vec<(usize, bool)> {
            let stores = out.outputs.iter().filter_map(|output| match output {
                Output::Store(record) => Some((record.ops.len(), record.urgent)),
                _ => None,
            });
            stores.collect()
        };
        let settled = ledger.settled();
        assert_eq!(ledger.append([op(1)], false, &mut out), Position(1));
        assert_eq!(ledger.last_urgent(), Position::START);
        assert_eq!(ledger.append([op(1), op(1)], true, &mut out), Position(1));
        assert_eq!((ledger.last_urgent(), records(&out)), (Position(1), vec![(3, true)]));
        assert!(settled < Position(1) && ledger.settled() < Position(1));
        let range = crate::record::KeyRange::prefix(&[]);
        let query = crate::record::Query { range, rows_max: 1, bytes_max: 1, backwards: false };
        out.read(1, query, Position::START);
        assert_eq!(ledger.append([op(1)], false, &mut out), Position(2));
        out.clear();
        for number in 0..=RECORD_OPS_MAX as u64 {
            let expected = if number < RECORD_OPS_MAX as u64 { 3 } else { 4 };
            assert_eq!(ledger.append([op(1)], false, &mut out), Position(expected));
        }
        out.clear();
        for expected in [5, 6] {
            assert_eq!(ledger.append([op(RECORD_BYTES_MAX)], false, &mut out), Position(expected));
        }
    }
}

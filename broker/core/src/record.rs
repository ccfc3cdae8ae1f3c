//! What survives a crash: changes of rows in one ordered space of keys.
//!
//! The core says *what* must be kept as a [`Record`], a list of [`Op`]s that the journal keeps
//! whole or not at all; how it reaches the disk is the shell's. Rows have plain byte keys that begin
//! with the owner's slot; the order of the bytes is the order of delivery.
//!
//! A [`Position`] counts the records of one shard. The shell answers with the last position that
//! is safe, and everything that waited for it goes on: acknowledging is never a guess.

use bytes::Bytes;

use crate::slot::Slot;

/// How many records of a shard came before and including one. 0: nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// Safe from the start: nothing has to be waited for.
    pub const START: Self = Self(0);
}

/// One change of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The row is there with this value, whatever was there before.
    Put {
        /// The row's key, at most [`KEY_BYTES_MAX`].
        key: Bytes,
        /// The row's value, at most [`VALUE_BYTES_MAX`].
        value: Bytes,
    },
    /// Several rows with one value, which the journal writes once.
    PutAll {
        /// The rows' keys.
        keys: Vec<Bytes>,
        /// The value of each.
        value: Bytes,
    },
    /// The row is not there.
    Delete {
        /// The row's key.
        key: Bytes,
    },
    /// The row is not there, and its key was put once and is never put again. On disk it is a
    /// [`Op::Delete`]; in memory a row that nobody else has seen yet leaves nothing behind.
    Forget {
        /// The row's key.
        key: Bytes,
    },
}

/// Changes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The changes, in order: a later one wins.
    pub ops: Vec<Op>,
    /// Whether somebody waits for it: `false` may ride along with a later group, within 100 ms.
    pub urgent: bool,
}

/// The longest key of a row, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024 + 512;

/// The longest value of a row, in bytes: the largest packet, and room for what goes with it.
pub const VALUE_BYTES_MAX: usize = 17 * 1024 * 1024;

/// What a row is about: the second byte of its key. On disk for ever; numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RowKind {
    /// A shard's own notes, such as the numbers it has handed out.
    Meta = 1,
    /// A session that outlives its connection.
    Session = 2,
    /// A subscription of a session.
    Subscription = 3,
    /// A message waiting in a session's queue.
    Queued = 4,
    /// A Packet Identifier in use between a session and its client.
    InFlight = 5,
    /// A retained message.
    Retained = 6,
    /// Rows that nothing refers to any more and that are still to be deleted.
    Garbage = 7,
    /// Whom a QoS 2 message of another shard's session has reached.
    Reached = 8,
    /// A row of a service: the rest of the key is the service's own.
    Service = 64,
}

/// Builds keys: slot, kind, and then parts that sort by their bytes.
#[derive(Debug, Clone)]
pub struct KeyBuilder(Vec<u8>);

impl KeyBuilder {
    /// Begins a key in `slot`.
    pub fn new(slot: Slot, kind: RowKind) -> Self {
        let mut bytes = Vec::with_capacity(40);
        bytes.push(slot.0);
        bytes.push(kind as u8);
        Self(bytes)
    }

    /// Appends one byte.
    #[must_use]
    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Appends a number whose byte order is its numeric order.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends bytes as they are; the last part, or one of a fixed length.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a string that holds no NUL, and the NUL that ends it.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self
    }

    /// The key.
    pub fn build(self) -> Bytes {
        Bytes::from(self.0)
    }

    /// Every key that begins with these bytes.
    pub fn prefix(self) -> KeyRange {
        KeyRange::prefix(&self.0)
    }
}

/// Keys from `start` (included) to `end` (excluded; `None`: without an end).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// The first key that is not in the range any more.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        let end = loop {
            match end.pop() {
                None => break None,
                Some(u8::MAX) => {}
                Some(last) => {
                    end.push(last + 1);
                    break Some(Bytes::from(end));
                }
            }
        };
        Self { start: Bytes::copy_from_slice(prefix), end }
    }

    /// The part of this range that comes after `key`.
    #[must_use]
    pub fn after(self, key: &[u8]) -> Self {
        let mut start = key.to_vec();
        start.push(0);
        Self { start: Bytes::from(start).max(self.start), end: self.end }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

/// One row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// What to read: rows of a range, in order, as new as the moment of asking or newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Where to look.
    pub range: KeyRange,
    /// How many rows at the most.
    pub rows_max: usize,
    /// Stop after the row that brings the values to this many bytes. At least one row is read.
    pub bytes_max: usize,
    /// From the end of the range backwards.
    pub backwards: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_grows() {
        let range = KeyRange::prefix(&[1, 2, 255]);
        assert_eq!(range.end.as_deref(), Some(&[1, 3][..]));
        assert!(range.contains(&[1, 2, 255]) && range.contains(&[1, 2, 255, 255, 9]));
        assert!(!range.contains(&[1, 3]) && !range.contains(&[1, 2, 254]));
        assert_eq!(KeyRange::prefix(&[255, 255]).end, None);
    }

    #[test]
    fn after_leaves_the_key_itself_out() {
        let range = KeyRange::prefix(&[7]).after(&[7, 1]);
        assert!(!range.contains(&[7, 1]) && range.contains(&[7, 1, 0]) && range.contains(&[7, 2]));
    }

    #[test]
    fn keys_sort_as_their_numbers_do() {
        let key = |number| KeyBuilder::new(Slot(3), RowKind::Queued).number(number).build();
        assert!(key(9) < key(10) && key(255) < key(256) && key(u64::MAX - 1) < key(u64::MAX));
    }
}

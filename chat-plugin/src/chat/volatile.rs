//! Rows of chats that are in memory only: what they store and read goes here, and never to the host.
//!
//! Such a chat is one like any other, and knows nothing of it. What it stores is safe as soon as it
//! is done with what it does, and what it reads is there then: both are told in the order in which
//! they were asked for.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidings_core::record::{KeyRange, Op, Query, Row};

use super::cx::Waiting;
use crate::map::{Map, map};
use crate::rows::chat_of;
use crate::topics::ChatId;

/// See the file's own words.
#[derive(Debug)]
pub(super) struct Volatile {
    chats: Map<ChatId, Rows>,
    /// What has been stored, and who waits to hear it.
    pub(super) done: VecDeque<(ChatId, Waiting)>,
    /// What has been read.
    pub(super) read: VecDeque<(u64, Vec<Row>, bool)>,
}

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Bytes, Bytes>,
    bytes: usize,
}

impl Volatile {
    pub(super) fn new() -> Self {
        Self { chats: map(), done: VecDeque::new(), read: VecDeque::new() }
    }

    /// The chat is in memory only from now on.
    pub(super) fn begin(&mut self, chat: ChatId) {
        self.chats.insert(chat, Rows::default());
    }

    /// Everything of a chat is forgotten.
    pub(super) fn end(&mut self, chat: ChatId) {
        self.chats.remove(&chat);
    }

    pub(super) fn holds(&self, chat: ChatId) -> bool {
        !self.chats.is_empty() && self.chats.contains_key(&chat)
    }

    /// The chat whose rows these are, if it is in memory only.
    pub(super) fn owner(&self, ops: &[Op]) -> Option<ChatId> {
        if self.chats.is_empty() {
            return None;
        }
        let (Op::Put { key, .. } | Op::Delete { key } | Op::Forget { key }) = ops.first()? else {
            return None;
        };
        chat_of(key).filter(|chat| self.chats.contains_key(chat))
    }

    /// What a chat's rows take, in bytes.
    pub(super) fn bytes(&self, chat: ChatId) -> usize {
        self.chats.get(&chat).map_or(0, |rows| rows.bytes)
    }

    pub(super) fn apply(&mut self, chat: ChatId, ops: Vec<Op>) {
        let Some(rows) = self.chats.get_mut(&chat) else { return };
        for op in ops {
            match op {
                Op::Put { key, value } => rows.put(key, value),
                Op::PutAll { keys, value } => {
                    keys.iter().for_each(|key| rows.put(key.clone(), value.clone()));
                }
                Op::Delete { key } | Op::Forget { key } => rows.delete(&key),
            }
        }
    }

    /// The rows of a chat in a range, ascending.
    pub(super) fn range(
        &self,
        chat: ChatId,
        range: KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&Bytes, &Bytes)> {
        let rows = self.chats.get(&chat).map(|rows| match range.end {
            Some(end) if range.start >= end => rows.rows.range::<Bytes, _>(end.clone()..end),
            Some(end) => rows.rows.range::<Bytes, _>(range.start..end),
            None => rows.rows.range::<Bytes, _>(range.start..),
        });
        rows.into_iter().flatten()
    }

    /// Answers a question, when the chat is done with what it does.
    pub(super) fn ask(&mut self, chat: ChatId, token: u64, query: Query) {
        let Query { range, rows_max, bytes_max, backwards } = query;
        let found = self
            .range(chat, range)
            .map(|(key, value)| Row { key: key.clone(), value: value.clone() });
        let found: Vec<Row> = if backwards { found.rev().collect() } else { found.collect() };
        let mut bytes = 0;
        let fits = |row: &&Row| {
            let fits = bytes == 0 || bytes < bytes_max;
            bytes += row.value.len();
            fits
        };
        let count = found.iter().take(rows_max).take_while(fits).count();
        let more = count < found.len();
        let rows = found.into_iter().take(count).collect();
        self.read.push_back((token, rows, more));
    }
}

impl Rows {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len() + ROW_BYTES;
        let size = key.len() + ROW_BYTES;
        // Whoever stores may have cut it from something larger, which would stay with it.
        let (key, value) = (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
        if let Some(before) = self.rows.insert(key, value) {
            self.bytes -= before.len() + size;
        }
    }

    fn delete(&mut self, key: &Bytes) {
        if let Some(value) = self.rows.remove(key) {
            self.bytes -= key.len() + value.len() + ROW_BYTES;
        }
    }
}

/// What a row takes besides its key and value, in bytes.
const ROW_BYTES: usize = 64;

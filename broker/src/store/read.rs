//! Reading: the overlay's layers and the store as one ordered space.

use std::iter::Peekable;

use bytes::Bytes;
use tidings_core::record::{KeyRange, Query, Row};

use super::overlay::{Merge, Rows};
use super::{Store, StoreFailure, Visitor, Wanted};

/// Rows that answer a query, and whether the range has more of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
    /// Whether there are more in the range behind the last.
    pub more: bool,
}

/// Answers `query` from `layers`, the newest first, and from what `store` has below them.
///
/// # Errors
///
/// As [`Store::visit`].
pub fn read<'a>(
    store: &dyn Store,
    layers: impl IntoIterator<Item = &'a Rows>,
    query: &Query,
) -> Result<Answer, StoreFailure> {
    let mut answer = Answer::default();
    let mut bytes = 0_usize;
    merge(store, layers, &query.range, query.backwards, &mut |key, value| {
        let full = answer.rows.len() >= query.rows_max.max(1) || bytes >= query.bytes_max;
        if full && !answer.rows.is_empty() {
            answer.more = true;
            return false;
        }
        bytes = bytes.saturating_add(value.len());
        answer.rows.push(Row { key, value });
        true
    })?;
    Ok(answer)
}

/// Answers `query` from `layers` alone, the newest first: for who knows that a store has no more.
pub fn read_layers<'a>(layers: impl IntoIterator<Item = &'a Rows>, query: &Query) -> Answer {
    let mut answer = Answer::default();
    let mut bytes = 0_usize;
    for (key, value) in Merge::new(layers, &query.range, query.backwards) {
        let Some(value) = value else { continue };
        let full = answer.rows.len() >= query.rows_max.max(1) || bytes >= query.bytes_max;
        if full && !answer.rows.is_empty() {
            answer.more = true;
            break;
        }
        bytes = bytes.saturating_add(value.len());
        answer.rows.push(Row { key: key.to_bytes(), value: value.clone() });
    }
    answer
}

/// Shows every row of `range` to `each` until that answers `false`. See [`read`].
///
/// # Errors
///
/// As [`Store::visit`].
pub fn merge<'a>(
    store: &dyn Store,
    layers: impl IntoIterator<Item = &'a Rows>,
    range: &KeyRange,
    backwards: bool,
    each: &mut dyn FnMut(Bytes, Bytes) -> bool,
) -> Result<(), StoreFailure> {
    let over = Merge::new(layers, range, backwards).peekable();
    let mut merging = Merging { over, backwards, each, stopped: false };
    store.visit(range, backwards, &mut merging)?;
    merging.catch_up(None);
    Ok(())
}

struct Merging<'a, 'b> {
    over: Peekable<Merge<'a>>,
    backwards: bool,
    each: &'b mut dyn FnMut(Bytes, Bytes) -> bool,
    stopped: bool,
}

impl Merging<'_, '_> {
    fn emit(&mut self, key: Bytes, value: Bytes) {
        self.stopped = !(self.each)(key, value);
    }

    /// Emits the overlay's rows before `key`; all of them without one.
    fn catch_up(&mut self, key: Option<&[u8]>) {
        while !self.stopped {
            let backwards = self.backwards;
            let due = self.over.next_if(|(over, _)| match key {
                None => true,
                Some(key) if backwards => over[..] > *key,
                Some(key) => over[..] < *key,
            });
            let Some((over, value)) = due else { break };
            if let Some(value) = value {
                self.emit(over.to_bytes(), value.clone());
            }
        }
    }
}

impl Visitor for Merging<'_, '_> {
    fn meet(&mut self, key: &[u8]) -> Wanted {
        self.catch_up(Some(key));
        if self.stopped {
            return Wanted::Stop;
        }
        match self.over.next_if(|(over, _)| over[..] == *key) {
            Some((over, Some(value))) => {
                self.emit(over.to_bytes(), value.clone());
                if self.stopped { Wanted::Stop } else { Wanted::Skip }
            }
            Some((_, None)) => Wanted::Skip,
            None => Wanted::Value,
        }
    }

    fn take(&mut self, key: &[u8], value: Bytes) {
        self.emit(Bytes::copy_from_slice(key), value);
    }
}

//! What the shards wrote since the last checkpoint: newer than the store, and looked at first.
//!
//! A deleted row stays here as a note that it is gone, since the store may still have it. Layers
//! are frozen for a checkpoint and shared then; only the newest, which its shard owns, changes.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::record::{KeyRange, Op};

use super::key::RowKey;

/// Rows with their values; `None`: deleted.
pub type Rows = BTreeMap<RowKey, Option<Bytes>>;

/// What a change does to the bytes that a layer's rows take in a store: of keys and values, those of
/// a row that shares its value with others as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Of rows that are there now.
    pub put: u64,
    /// Of rows that were there before.
    pub gone: u64,
}

impl Change {
    fn insert(&mut self, rows: &mut Rows, key: Bytes, value: Option<Bytes>) {
        self.put += row_bytes(&key, value.as_ref());
        let key_bytes = key.len();
        if let Some(Some(before)) = rows.insert(key.into(), value) {
            self.gone += (key_bytes + before.len()) as u64;
        }
    }

    fn remove(&mut self, rows: &mut Rows, key: &Bytes) {
        self.gone += row_bytes(key, rows.remove(&key[..]).flatten().as_ref());
    }

    /// Takes a row away whose key no older layer and no store can have, if it is here.
    fn forget(&mut self, rows: &mut Rows, key: Bytes, notes: bool) {
        match rows.entry(key.into()) {
            btree_map::Entry::Occupied(row) if row.get().is_some() || !notes => {
                let (key, value) = row.remove_entry();
                self.gone += row_bytes(&key, value.as_ref());
            }
            btree_map::Entry::Vacant(place) if notes => {
                place.insert(None);
            }
            _ => {}
        }
    }
}

/// A row that is not there takes nothing.
fn row_bytes(key: &[u8], value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| (key.len() + value.len()) as u64)
}

/// The bytes that the rows of a layer take in a store.
pub fn bytes(rows: &Rows) -> u64 {
    rows.iter().map(|(key, value)| row_bytes(key, value.as_ref())).sum()
}

/// Applies one change. Without `notes`, for want of a store below, a deleted row leaves none.
pub fn apply(rows: &mut Rows, op: Op, notes: bool) -> Change {
    let mut change = Change::default();
    match op {
        Op::Put { key, value } => change.insert(rows, key, Some(value)),
        Op::PutAll { keys, value } => {
            keys.into_iter().for_each(|key| change.insert(rows, key, Some(value.clone())));
        }
        // Where it was put is this layer, and no older one or the store can have it.
        Op::Forget { key } => change.forget(rows, key, notes),
        Op::Delete { key } if notes => change.insert(rows, key, None),
        Op::Delete { key } => change.remove(rows, &key),
    }
    change
}

/// Several layers as one: of each key, what the newest layer has.
///
/// Yields keys in order, or backwards, deleted ones included.
#[derive(Debug)]
pub struct Merge<'a> {
    /// The newest first.
    layers: Vec<Peekable<Walk<'a>>>,
    backwards: bool,
}

impl<'a> Merge<'a> {
    /// Merges the part of the layers that lies in `range`; the newest layer comes first.
    pub fn new(
        layers: impl IntoIterator<Item = &'a Rows>,
        range: &KeyRange,
        backwards: bool,
    ) -> Self {
        let empty = range.end.as_ref().is_some_and(|end| *end <= range.start);
        let layers = layers
            .into_iter()
            .filter(|_| !empty)
            .map(|rows| Walk { rows: rows.range::<[u8], _>(bounds(range)), backwards }.peekable())
            .collect();
        Self { layers, backwards }
    }
}

impl<'a> Iterator for Merge<'a> {
    type Item = (&'a RowKey, Option<&'a Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        let backwards = self.backwards;
        let keys = self.layers.iter_mut().filter_map(|layer| layer.peek().map(|(key, _)| *key));
        let key = if backwards { keys.max() } else { keys.min() }?;
        let mut newest = None;
        for layer in &mut self.layers {
            if let Some((_, value)) = layer.next_if(|(other, _)| *other == key) {
                newest.get_or_insert(value);
            }
        }
        newest.map(|value| (key, value.as_ref()))
    }
}

/// One layer, in either direction.
#[derive(Debug)]
struct Walk<'a> {
    rows: btree_map::Range<'a, RowKey, Option<Bytes>>,
    backwards: bool,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (&'a RowKey, &'a Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.backwards { self.rows.next_back() } else { self.rows.next() }
    }
}

/// The range as the standard library's maps want it. They panic at one that ends before it starts.
pub(crate) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let end = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(&range.start), end)
}

/// The rows of `range` that a read of at most `rows_max` rows and `bytes_max` bytes can need from
/// the layer `rows`, and the range that they are complete for: shorter when there were more.
pub fn capture(
    rows: &Rows,
    range: &KeyRange,
    backwards: bool,
    rows_max: usize,
    bytes_max: usize,
) -> (Rows, KeyRange) {
    let mut captured = Rows::new();
    let (mut live, mut bytes, mut range) = (0_usize, 0_usize, range.clone());
    for (key, value) in Merge::new([rows], &range.clone(), backwards) {
        captured.insert(key.clone(), value.cloned());
        let Some(value) = value else { continue };
        // One row more than can be answered: it is how the answer knows that there are more.
        if live >= rows_max.max(1) || (live > 0 && bytes >= bytes_max) {
            if backwards {
                range.start = key.to_bytes();
            } else {
                range.end = Some(successor(key));
            }
            break;
        }
        live += 1;
        bytes = bytes.saturating_add(value.len());
    }
    (captured, range)
}

/// The smallest key behind `key`.
pub(super) fn successor(key: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(key.len() + 1);
    bytes.extend_from_slice(key);
    bytes.push(0);
    Bytes::from(bytes)
}

/// Layers from the newest to the oldest, out of the order in which they were frozen.
pub fn newest_first(layers: &[Arc<Rows>]) -> impl Iterator<Item = &Rows> {
    layers.iter().rev().map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Bytes {
        Bytes::from_static(b"k")
    }

    #[test]
    fn a_row_that_is_forgotten_where_it_was_put_leaves_nothing_and_elsewhere_a_note() {
        let mut rows = Rows::new();
        apply(&mut rows, Op::PutAll { keys: vec![key()], value: key() }, true);
        apply(&mut rows, Op::Forget { key: key() }, true);
        assert!(rows.is_empty());
        apply(&mut rows, Op::Forget { key: key() }, true);
        assert_eq!(rows.get(&key()[..]), Some(&None));
        apply(&mut rows, Op::Forget { key: key() }, true);
        assert_eq!(rows.get(&key()[..]), Some(&None), "the note that it is gone is kept");
    }

    #[test]
    fn bytes_are_those_of_each_row_whoever_shares_its_value() {
        let (mut rows, mut counted) = (Rows::new(), 0);
        let keys = || (0..8).map(|number| Bytes::from(vec![number])).collect::<Vec<_>>();
        let first = || keys().swap_remove(0);
        let value = Bytes::from_static(&[0; 100]);
        for (op, bytes) in [
            (Op::PutAll { keys: keys(), value: value.clone() }, 808),
            (Op::Put { key: first(), value: key() }, 709),
            (Op::Put { key: first(), value }, 808),
            (Op::Forget { key: first() }, 707),
            (Op::Forget { key: first() }, 707),
            (Op::Delete { key: keys().swap_remove(1) }, 606),
            (Op::Delete { key: keys().swap_remove(1) }, 606),
        ] {
            let what = format!("{op:?}");
            let Change { put, gone } = apply(&mut rows, op, true);
            counted = counted + put - gone;
            assert_eq!((counted, super::bytes(&rows)), (bytes, bytes), "{what}");
        }
        assert_eq!(apply(&mut rows, Op::Delete { key: key() }, false), Change::default());
    }
}

//! What a checkpoint writes: the last word of the frozen layers about each row, in key order.
//!
//! A row that came and went between two checkpoints leaves a note that it is gone, and the store,
//! which never had it, writes nothing. The note is not dropped earlier: a checkpoint that a crash
//! broke off may have put the row there.

use std::sync::Arc;

use tidings_core::record::KeyRange;

use super::overlay::{Merge, Rows, newest_first};
use super::{Store, StoreFailure};

/// What a checkpoint did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Rows put.
    pub puts: u64,
    /// Rows that were there and are no more.
    pub deletes: u64,
    /// Bytes of keys and values put.
    pub bytes: u64,
}

/// Writes what became of the rows of `layers`, given in the order they were frozen in: their net effect,
/// and the last word of `later`, which was frozen behind them, about the same keys. So what went
/// meanwhile is not written; what came is left to another time.
///
/// # Errors
///
/// As [`Store::put`].
pub fn write(
    store: &dyn Store,
    layers: &[Arc<Rows>],
    later: &[Arc<Rows>],
) -> Result<Written, StoreFailure> {
    let mut written = Written::default();
    for (key, value) in Merge::new(newest_first(layers), &KeyRange::prefix(&[]), false) {
        let last_word = newest_first(later).find_map(|rows| rows.get(key));
        if let Some(value) = last_word.map_or(value, Option::as_ref) {
            store.put(key, value)?;
            written.puts += 1;
            written.bytes += (key.len() + value.len()) as u64;
        } else if store.delete(key)? {
            written.deletes += 1;
        }
    }
    Ok(written)
}

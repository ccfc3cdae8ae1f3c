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

/// Writes the net effect of `layers`, given in the order they were frozen in.
///
/// # Errors
///
/// As [`Store::put`].
pub fn write(store: &dyn Store, layers: &[Arc<Rows>]) -> Result<Written, StoreFailure> {
    let mut written = Written::default();
    for (key, value) in Merge::new(newest_first(layers), &KeyRange::prefix(&[]), false) {
        if let Some(value) = value {
            store.put(key, value)?;
            written.puts += 1;
            written.bytes += (key.len() + value.len()) as u64;
        } else if store.delete(key)? {
            written.deletes += 1;
        }
    }
    Ok(written)
}

//! Where a device keeps what it must not forget: a small trait, and rows for it.
//!
//! A store is an ordered map of bytes with one way to write. Everything that the machine decides to
//! keep goes through [`Store::write`], in order; nothing is acknowledged to the broker, and no
//! message is on its way, before that call has returned.

mod memory;
pub(crate) mod rows;
#[cfg(feature = "sled")]
mod sled;

pub use self::memory::MemoryStore;
#[cfg(feature = "sled")]
pub use self::sled::SledStore;

use crate::error::StoreError;
use std::fmt::Debug;
use std::ops::Range;

/// Rows in the order of their keys, as bytes compare.
pub trait Store: Debug + Send + Sync + 'static {
    /// Applies the changes, in order, and returns once they survive a crash.
    ///
    /// A crash in between may leave any of them and none of the others. Called by one thread at a
    /// time.
    ///
    /// # Errors
    ///
    /// The disk failed. Nobody knows then what it holds: the store is not written to again until it
    /// is opened anew.
    fn write(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// Up to `limit` rows with keys in `range`, from its begin, or `backwards` from its end.
    ///
    /// # Errors
    ///
    /// The disk failed.
    fn read(
        &self,
        range: Range<&[u8]>,
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// What happened to this store before it was opened that the user should know; none by default.
    fn notice(&self) -> Option<String> {
        None
    }
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// One change of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts a row, in the place of one with the same key.
    Put {
        /// Up to 256 bytes.
        key: Vec<u8>,
        /// Up to 512 KiB.
        value: Vec<u8>,
    },
    /// Deletes a row, if there is one.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// Deletes every row from one key to another.
    DeleteRange {
        /// The first key that goes.
        from: Vec<u8>,
        /// The first key behind them.
        to: Vec<u8>,
    },
}

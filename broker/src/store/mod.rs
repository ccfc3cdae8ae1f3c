//! The store: the rows that outlive a checkpoint, as the journal's records left them.
//!
//! It is behind the journal, never ahead of what is acknowledged: newer rows are in the shards'
//! [`overlay`]s, and a read looks there first. So a store may be found half written after a
//! crash; the journal is replayed over it, and what it holds of such rows is never seen.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::record::KeyRange;

pub mod checkpoint;
pub mod key;
pub mod memory;
pub mod newest;
pub mod overlay;
pub mod read;
pub mod sled;

/// Keeps rows in the order of their keys.
///
/// One thread writes; any thread may read meanwhile and sees each row as it was or as it is.
pub trait Store: Send + Sync + Debug {
    /// Makes the row be there with this value.
    ///
    /// # Errors
    ///
    /// Anything the store says; it is not used again then.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreFailure>;

    /// Makes the row not be there. Answers whether it was.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn delete(&self, key: &[u8]) -> Result<bool, StoreFailure>;

    /// Shows the rows of `range` to `visitor`, in order or `backwards`, until it has enough.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn visit(
        &self,
        range: &KeyRange,
        backwards: bool,
        visitor: &mut dyn Visitor,
    ) -> Result<(), StoreFailure>;

    /// Returns once everything put and deleted is durable, and with it that the effects of all
    /// records up to the journal's sequence number `complete_to` are in the store.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn flush(&self, complete_to: u64) -> Result<(), StoreFailure>;

    /// Puts itself in order, a little at a time, by the thread that writes: behind each flush, and
    /// again while it answers that there is more to do. Changes no row.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn tidy(&self) -> Result<bool, StoreFailure> {
        Ok(false)
    }

    /// The number of the last [`flush`](Self::flush); 0 before the first.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn complete_to(&self) -> Result<u64, StoreFailure>;

    /// Bytes of its files that hold nothing any more and that it uses again before they grow, as far
    /// as it knows. `None`: it is busy, and what it said before may still hold.
    fn spare_bytes(&self) -> Option<u64> {
        Some(0)
    }

    /// What its rows took at the last flush, keys and values. `None`: it does not count.
    fn live_bytes(&self) -> Option<u64> {
        None
    }
}

/// Looks at rows as they come, and says which are worth fetching.
pub trait Visitor {
    /// What to do about the row with this key.
    fn meet(&mut self, key: &[u8]) -> Wanted;

    /// The value, after [`Wanted::Value`].
    fn take(&mut self, key: &[u8], value: Bytes);
}

/// The answer of [`Visitor::meet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Fetch its value.
    Value,
    /// Leave it out. Its value need not even be readable.
    Skip,
    /// Show no more rows.
    Stop,
}

/// The journal or the store cannot go on: nothing is acknowledged any more, and the process ends.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {operation}: {cause}")]
pub struct StoreFailure {
    /// What was tried, such as `flush the store`.
    pub operation: &'static str,
    /// Why it failed, in one line.
    pub cause: Arc<str>,
    /// Whether the store's files are to blame, rather than the disk or the system: then they are
    /// made anew by the next start.
    pub is_damage: bool,
    /// The thread that panicked, if that is why: a defect of the program, and not of the disk.
    pub panicked: Option<&'static str>,
}

impl StoreFailure {
    /// A failure of `operation` for `cause`, whose line breaks become spaces.
    pub fn new(operation: &'static str, cause: impl Display) -> Self {
        Self {
            operation,
            cause: cause.to_string().replace(['\n', '\r'], " ").into(),
            is_damage: false,
            panicked: None,
        }
    }

    /// A thread that panicked with these words.
    pub(crate) fn panicked(thread: &'static str, words: impl Display) -> Self {
        Self { panicked: Some(thread), ..Self::new("go on storing", words) }
    }

    /// The same of a store that is damaged.
    pub fn damage(operation: &'static str, cause: impl Display) -> Self {
        Self { is_damage: true, ..Self::new(operation, cause) }
    }
}

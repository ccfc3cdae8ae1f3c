//! A base: all rows of the store in one file that nothing but this module can spoil.
//!
//! The store is somebody else's code and may one day not open its own files. A base and the journal
//! from it on are enough to make the store anew, so the journal forgets only what both the store
//! and the newest base hold. A copy for another machine is the same format with the journal's
//! records behind the rows. `docs/storage.md` draws the bytes.
//!
//! A base is **fuzzy**: its rows are read one after the other while checkpoints go on, so it holds
//! all that the records up to [`Header::complete_to`] did, and some of what later ones did. That is
//! no harm, because the journal from `complete_to` on is replayed over it: a record only puts and
//! deletes rows, so of each row its last record decides, whatever was there before. It does need
//! the records up to [`Totals::settled_at`], the last whose effects may be in it; they were durable
//! before the store had them, and the journal keeps them.

use std::io;
use std::path::PathBuf;

mod block;
mod copying;
mod folder;
mod read;
mod write;

pub use block::{BLOCK_BYTES, Header, Kind, Totals};
pub(crate) use copying::Copying;
pub use folder::{Found, find};
pub(crate) use folder::{open, publish, remove_drafts, start};
pub use read::{Block, Reader};
pub use write::Writer;

/// The version of the format. On disk for ever.
pub const FORMAT_VERSION: u16 = 1;

/// Why a base or a copy cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// The system says no.
    #[error("cannot {operation} {file:?}: {source}")]
    Io {
        /// What was tried, such as `read`.
        operation: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A later version of the program wrote it.
    #[error("{file:?} has format version {found}, this program reads {FORMAT_VERSION}")]
    FormatVersion {
        /// The file.
        file: PathBuf,
        /// The version it says it has.
        found: u16,
    },
    /// What is there is not what was written.
    #[error("{file:?} is damaged at byte {offset}: {why}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the block begins that does not check, in bytes from the start of the file.
        offset: u64,
        /// What was expected and what was found.
        why: String,
    },
}

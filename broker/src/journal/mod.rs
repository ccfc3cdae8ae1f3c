//! The journal: every record in the order it was acknowledged, and nothing else.
//!
//! An acknowledgement rests on the journal alone; the [`Store`](crate::store::Store) only keeps
//! what outlives it. Records are numbered by one sequence over all shards, from 1, without gaps:
//! that is how a missing file or a lost sector is told from a torn tail, which is expected after a
//! power cut and was never acknowledged. `FORMAT.md` beside this file draws the bytes.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use tidings_core::record::Op;
use tidings_core::slot::ShardId;

mod disk;
mod entry;
mod file;
mod recovery;
mod scan;
mod segment;

pub use disk::{Disk, DiskFile, FileDisk};
pub(crate) use entry::{BODY_VERSION, decode_ops, encode_ops};
pub use entry::{ENTRY_BYTES_MAX, Group, HEADER_BYTES};
pub use file::{FileJournal, FileJournalOptions};

/// Hands every record after the sequence number `after` to `each`, with the file it is in, and
/// changes nothing. The journal may be in use by another process, if that keeps it from forgetting:
/// then what was acknowledged before the call is handed over, and perhaps more.
///
/// # Errors
///
/// As [`Journal::replay`].
pub fn read(
    directory: &Path,
    after: u64,
    each: &mut dyn FnMut(&Path, Entry),
) -> Result<Recovered, ReplayError> {
    recovery::read(&FileDisk, directory, after, each)
}

/// The segments in `directory`, each with its first record, oldest first.
///
/// # Errors
///
/// When the directory cannot be listed.
pub fn segments(directory: &Path) -> Result<Vec<(u64, PathBuf)>, ReplayError> {
    recovery::firsts(&FileDisk, directory)
}

/// Keeps groups of records in order, and gives them back after a crash.
///
/// One thread owns it. The first call is [`replay`](Self::replay). After an error from
/// [`append`](Self::append) or [`forget`](Self::forget) it is never called again: what a failed
/// sync left on the disk is unknown, and a second sync that succeeds proves nothing.
pub trait Journal: Send + Debug {
    /// Hands every record after the sequence number `after` to `each`, oldest first, and gets
    /// ready to append behind the last one.
    ///
    /// A torn tail is cut. What was handed over is as durable as if it had just been appended.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, is of another format, or is damaged before its tail, and when
    /// records after `after` are missing.
    fn replay(&mut self, after: u64, each: &mut dyn FnMut(Entry))
    -> Result<Recovered, ReplayError>;

    /// Appends the group, numbering its records; they are durable when it returns. Answers with
    /// the sequence number of the last.
    ///
    /// # Errors
    ///
    /// When writing or syncing failed: then nothing of the group may be acknowledged.
    fn append(&mut self, group: &mut Group) -> Result<u64, JournalError>;

    /// Records up to the sequence number `through` will not be asked for again: their space may
    /// be used for others.
    ///
    /// # Errors
    ///
    /// When a file could not be removed or renamed.
    fn forget(&mut self, through: u64) -> Result<(), JournalError>;
}

/// A record as it comes back from the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the order of all shards' records.
    pub sequence: u64,
    /// The shard that wrote it, of as many as there were then.
    pub shard: ShardId,
    /// Its changes, in order.
    pub ops: Vec<Op>,
}

/// What a replay found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Records handed over.
    pub records: u64,
    /// Their size in the journal, in bytes.
    pub bytes: u64,
    /// Bytes of unfinished records at the end that are left out; after a crash they had never been
    /// acknowledged.
    pub torn_bytes: u64,
    /// The sequence number of the last record there is, whether handed over or not.
    pub last: u64,
    /// Whether the last segment's groups were synced one by one: then nothing that was acknowledged
    /// can be missing behind it after a crash.
    pub synced: bool,
}

/// Why the journal cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Reading, or putting the journal in order for writing, failed.
    #[error(transparent)]
    Io(#[from] JournalError),
    /// A segment of another version of the format.
    #[error("{file:?} has format version {found}, this program reads {expected}")]
    FormatVersion {
        /// The segment.
        file: PathBuf,
        /// The version it says it has.
        found: u16,
        /// The version that this program reads and writes.
        expected: u16,
    },
    /// Acknowledged records cannot be read.
    #[error("{file:?} is damaged at byte {offset}: {why}; restore the data folder from a copy")]
    Damaged {
        /// The segment, or the directory when a whole segment is missing.
        file: PathBuf,
        /// Where reading stopped, in bytes from the start of the file.
        offset: u64,
        /// What was expected and what was found.
        why: String,
    },
}

/// An operation on a file of the journal that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {file:?}: {source}")]
pub struct JournalError {
    /// What was tried, such as `sync`.
    pub operation: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Names operation and file of a system error.
pub(crate) trait Context<T> {
    fn context(self, operation: &'static str, file: &Path) -> Result<T, JournalError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, operation: &'static str, file: &Path) -> Result<T, JournalError> {
        self.map_err(|source| JournalError {
            operation,
            file: file.to_path_buf(),
            source: source.into(),
        })
    }
}

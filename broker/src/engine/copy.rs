//! Copies of a store: taken while the broker serves, and made a store again somewhere else.
//!
//! A copy is the newest base and the journal behind it, in one file. Neither is asked of the broker:
//! it only forgets nothing while a copier holds its lock, see [`Copying`]. What was acknowledged
//! before the copy was begun is in it, and no half of a record ever is.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tidings_core::record::{KeyRange, Query};

use super::directory::{Directory, OpenError};
use super::rebuild::{put, wait_until_closed};
use crate::base::{self, BaseError, Block, Copying, Header, Kind, Reader, Totals, Writer};
use crate::clock::Clock;
use crate::journal::{self, FileJournal, FileJournalOptions, ReplayError};
use crate::store::sled::SledStore;
use crate::store::{Store, StoreFailure, read};

/// Why there is no copy, or no store made of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The folder holds no store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The base or the copy cannot be read.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReplayError),
    /// The new store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// No base is there yet, and the journal does not begin with the first record.
    #[error(
        "{folder:?} has no base yet, and its journal begins at record {first}; a broker writes one \
         soon after it was started"
    )]
    NoBase {
        /// The folder of the store.
        folder: PathBuf,
        /// The first record of its journal.
        first: u64,
    },
    /// What is to be restored to is not empty.
    #[error("{folder:?} is not empty; restore to a folder that is")]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// The file is a base, not a copy.
    #[error("{file:?} is not a copy, but the base of a store")]
    NotACopy {
        /// The file.
        file: PathBuf,
    },
    /// Reading or writing failed.
    #[error("cannot {operation} {file:?}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes a copy of the store in `folder` to `out`, while a broker may be serving from it; `file` is
/// for what errors say. `progress` hears now and then how much has been written.
///
/// # Errors
///
/// See [`CopyError`]; what has been written then is no copy, and cannot be taken for one.
pub fn backup(
    folder: &Path,
    out: impl Write,
    file: &Path,
    progress: &mut dyn FnMut(Totals),
) -> Result<Totals, CopyError> {
    Directory::check(folder)?;
    let io = |operation, file: &Path| {
        let file = file.to_path_buf();
        move |source| CopyError::Io { operation, file, source }
    };
    let _kept = Copying::begin(folder).map_err(io("lock", folder))?;
    let journal = folder.join("journal");
    let first = journal::segments(&journal)?.first().map_or(1, |(first, _)| *first);
    let base = base::find(folder)?.into_iter().next();
    let after = base.as_ref().map_or(0, |base| base.complete_to);
    if after + 1 < first {
        return Err(CopyError::NoBase { folder: folder.to_path_buf(), first });
    }
    let header = Header::new(Kind::Copy, after, Clock::new().now().as_millis());
    let write = || io("write", file);
    let mut writer = Writer::new(out, header).map_err(write())?;
    let mut settled_at = 0;
    if let Some(base) = &base {
        let mut reader = base::open(&base.path)?;
        while let Some(block) = reader.next()? {
            if let Block::Rows(rows) = block {
                for (key, value) in rows {
                    writer.row(&key, &value).map_err(write())?;
                }
            }
            progress(writer.totals());
        }
        settled_at = reader.totals().settled_at;
    }
    let mut failed = None;
    journal::read(&journal, after, &mut |_, entry| {
        if failed.is_none() {
            failed = writer.record(entry.sequence, entry.shard, &entry.ops).err();
            progress(writer.totals());
        }
    })?;
    if let Some(error) = failed {
        return Err(write()(error));
    }
    Ok(writer.finish(settled_at).map_err(write())?.1)
}

/// Makes a store in `folder`, which is empty or not there, of the copy that `input` holds; `file` is
/// for what errors say. A broker that starts from it has everything that the copy has.
///
/// # Errors
///
/// See [`CopyError`]. The folder is no store then: it is one only once the whole copy was good.
pub fn restore(
    input: impl Read,
    file: &Path,
    folder: &Path,
    progress: &mut dyn FnMut(Totals),
) -> Result<Totals, CopyError> {
    let mut reader = Reader::new(input, file)?;
    if reader.header().kind != Kind::Copy {
        return Err(CopyError::NotACopy { file: file.to_path_buf() });
    }
    let io = |operation, file: &Path| {
        let file = file.to_path_buf();
        move |source| CopyError::Io { operation, file, source }
    };
    if folder.join("VERSION").exists() || has_others(folder).map_err(io("list", folder))? {
        return Err(CopyError::NotEmpty { folder: folder.to_path_buf() });
    }
    let directory = Directory::open(folder)?;
    let store = SledStore::open(&directory.store(), CACHE_BYTES)?;
    let mut flushed = 0;
    while let Some(block) = reader.next()? {
        match block {
            Block::Rows(rows) => {
                rows.iter().try_for_each(|(key, value)| store.put(key, value))?;
            }
            Block::Records(entries) => {
                let mut ops = entries.iter().flat_map(|entry| &entry.ops);
                ops.try_for_each(|op| put(&store, op))?;
            }
        }
        if reader.offset() - flushed > FLUSH_BYTES {
            flushed = reader.offset();
            store.flush(0)?;
        }
        progress(reader.totals());
    }
    let totals = reader.totals();
    if totals.last < totals.settled_at {
        let Totals { last, settled_at, .. } = totals;
        tracing::warn!("records up to {settled_at} left traces, but end at {last}");
    }
    store.flush(totals.last)?;
    write_base(folder, &store, totals.last).map_err(io("write a base in", folder))?;
    drop(store);
    let data = directory.store().join("db");
    wait_until_closed(&data).map_err(io("close", &data))?;
    let mut journal = FileJournal::new(FileJournalOptions {
        directory: directory.journal(),
        segment_bytes: SEGMENT_BYTES,
        sync: true,
    });
    journal.begin_at(totals.last + 1).map_err(ReplayError::from)?;
    directory.complete()?;
    Ok(totals)
}

/// The first base of a new store.
fn write_base(folder: &Path, store: &SledStore, complete_to: u64) -> io::Result<()> {
    let header = Header::new(Kind::Base, complete_to, Clock::new().now().as_millis());
    let out = io::BufWriter::with_capacity(1 << 20, base::start(folder)?);
    let mut writer = Writer::new(out, header)?;
    let mut range = KeyRange::prefix(&[]);
    loop {
        let query = Query { range, rows_max: 1_024, bytes_max: 1 << 20, backwards: false };
        let answer = read::read(store, [], &query).map_err(io::Error::other)?;
        for row in &answer.rows {
            writer.row(&row.key, &row.value)?;
        }
        let Some(last) = answer.rows.last().filter(|_| answer.more) else { break };
        range = query.range.after(&last.key);
    }
    let (out, _) = writer.finish(complete_to)?;
    let draft = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    base::publish(folder, &draft, complete_to)?;
    Ok(())
}

/// Whether there is anything that an earlier attempt did not leave.
fn has_others(folder: &Path) -> io::Result<bool> {
    if !folder.exists() || folder.join("CREATING").exists() {
        return Ok(false);
    }
    Ok(fs::read_dir(folder)?.next().is_some())
}

const CACHE_BYTES: u64 = 16 << 20;

/// After so many bytes of the copy sled is made to write.
const FLUSH_BYTES: u64 = 64 << 20;

/// Of the one segment that says where records go on.
const SEGMENT_BYTES: u64 = 64 << 10;

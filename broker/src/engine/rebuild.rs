//! A store made anew: when sled cannot open its files, or what is in them cannot be all.
//!
//! The newest base and the journal from it on hold every row; without a base the journal begins
//! with the first record. The new store is built beside the old one, which is removed only when the
//! new one is whole: as long as the note that the old one is distrusted lies there, a start begins
//! all over. Memory is that of one block, one piece of a segment and sled's cache, however many rows
//! there are.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tidings_core::record::Op;

use super::directory::{Directory, OpenError};
use super::{Durability, EngineOptions};
use crate::base::{self, Block, Found};
use crate::journal::{self, ReplayError};
use crate::store::sled::{SledStore, distrust_file};
use crate::store::{Store, StoreFailure};

/// Builds the store in `directory` from base and journal, because of `why`.
pub(super) fn rebuild(
    directory: &Directory,
    options: &EngineOptions,
    why: &str,
) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: directory.path().to_path_buf(), source };
    let started = Instant::now();
    tracing::warn!("{why}: the store is made anew from base and journal");
    let distrusted = distrust_file(&directory.store());
    // Or one that was cut short would be told as a reason of its own, again and again.
    if !distrusted.exists() {
        directory.mark(&distrusted, why).map_err(io)?;
    }
    let built = build(directory, options, why)?;
    directory.swap_stores().map_err(io)?;
    directory.unmark(&[distrusted, directory.opening()]).map_err(io)?;
    let Built { rows, records, complete_to } = built;
    let took = started.elapsed();
    tracing::warn!(rows, records, complete_to, ?took, "the store is made anew");
    Ok(())
}

/// What the new store was made of.
#[derive(Debug, Default)]
struct Built {
    rows: u64,
    records: u64,
    complete_to: u64,
}

fn build(directory: &Directory, options: &EngineOptions, why: &str) -> Result<Built, OpenError> {
    let journal = directory.journal();
    let segments = journal::segments(&journal)?;
    let first = segments.first().map_or(1, |(first, _)| *first);
    let mut refused = None;
    for found in base::find(directory.path())
        .map_err(|source| OpenError::Base { why: why.to_owned(), source })?
    {
        if found.complete_to + 1 < first {
            continue;
        }
        let store = fresh(directory, options)?;
        match load(&found, &store)? {
            Ok(built) => return apply(directory, options, store, built),
            Err(error) => {
                tracing::warn!("{error}");
                refused = refused.or(Some(error));
            }
        }
    }
    if first <= 1 {
        let built = (Built::default(), 0);
        return apply(directory, options, fresh(directory, options)?, built);
    }
    let why = why.to_owned();
    Err(match refused {
        Some(source) => OpenError::Base { why, source },
        None => OpenError::NoBase { why, journal, first },
    })
}

/// An empty store beside the old one.
fn fresh(directory: &Directory, options: &EngineOptions) -> Result<SledStore, OpenError> {
    let path = directory.new_store();
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
    }
    Ok(SledStore::open(&path, options.cache_bytes)?)
}

/// Puts the rows of a base; with the record that they are settled at. The inner error is the base's.
fn load(
    found: &Found,
    store: &SledStore,
) -> Result<Result<(Built, u64), base::BaseError>, StoreFailure> {
    let mut progress = Progress::default();
    let mut reader = match found.totals().and_then(|_| base::open(&found.path)) {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(error)),
    };
    let mut flushed = 0;
    loop {
        match reader.next() {
            Ok(Some(Block::Rows(rows))) => {
                for (key, value) in rows {
                    store.put(&key, &value)?;
                }
            }
            Ok(Some(Block::Records(_))) => {}
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
        // What sled has not written stays in memory.
        if reader.offset() - flushed > FLUSH_BYTES {
            flushed = reader.offset();
            store.flush(0)?;
        }
        progress.tell(reader.totals().rows, "rows");
    }
    let totals = reader.totals();
    let built = Built { rows: totals.rows, records: 0, complete_to: found.complete_to };
    Ok(Ok((built, totals.settled_at)))
}

/// Puts what the journal holds behind the rows, and makes all of it safe.
fn apply(
    directory: &Directory,
    options: &EngineOptions,
    store: SledStore,
    (mut built, settled_at): (Built, u64),
) -> Result<Built, OpenError> {
    let mut progress = Progress::default();
    let mut failure = None;
    let mut unflushed = 0;
    let recovered = journal::read(&directory.journal(), built.complete_to, &mut |_, entry| {
        if failure.is_some() {
            return;
        }
        unflushed += entry.ops.len() as u64;
        let mut applied = entry.ops.iter().try_for_each(|op| put(&store, op));
        if unflushed > FLUSH_OPS {
            unflushed = 0;
            applied = applied.and_then(|()| store.flush(0));
        }
        failure = applied.err();
        built.records += 1;
        progress.tell(built.records, "records");
    })?;
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    if recovered.last < built.complete_to.max(settled_at) {
        let expected = built.complete_to.max(settled_at);
        let found = recovered.last;
        let why = format!("expected records up to {expected}, found them up to {found}");
        // What only the system had in memory may be gone, and was promised no more.
        if options.durability == Durability::Fsync {
            let file = directory.journal();
            return Err(ReplayError::Damaged { file, offset: 0, why }.into());
        }
        tracing::warn!("{why}");
    }
    built.complete_to = recovered.last.max(built.complete_to);
    store.flush(built.complete_to)?;
    drop(store);
    wait_until_closed(&directory.new_store().join("db"))
        .map_err(|source| OpenError::Io { path: directory.new_store(), source })?;
    Ok(built)
}

pub(super) fn put(store: &SledStore, op: &Op) -> Result<(), StoreFailure> {
    match op {
        Op::Put { key, value } => store.put(key, value),
        Op::PutAll { keys, value } => keys.iter().try_for_each(|key| store.put(key, value)),
        Op::Delete { key } | Op::Forget { key } => store.delete(key).map(|_| ()),
    }
}

/// sled's threads hold its lock for a moment after it was dropped, and know the files by their path.
pub(super) fn wait_until_closed(data: &Path) -> io::Result<()> {
    let file = File::open(data)?;
    file.lock()?;
    file.unlock()
}

/// Says now and then how far something is that takes long.
#[derive(Debug)]
struct Progress(Instant);

impl Default for Progress {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Progress {
    fn tell(&mut self, count: u64, of_what: &str) {
        if self.0.elapsed() >= TELL_EVERY {
            self.0 = Instant::now();
            tracing::info!("the store is being made anew: {count} {of_what} so far");
        }
    }
}

const TELL_EVERY: Duration = Duration::from_secs(2);

/// After so many bytes of rows sled is made to write.
const FLUSH_BYTES: u64 = 64 << 20;

/// After so many changes too.
const FLUSH_OPS: u64 = 200_000;

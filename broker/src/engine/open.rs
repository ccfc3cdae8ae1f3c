//! Opening a store on disk, and what is done when it cannot be opened.
//!
//! sled may answer with an error, panic, lack what it had, or never answer: for the last there is a
//! note beside it while it is being opened, which the next start finds. In each case the store is
//! made anew, see [`rebuild`]; only a disk that is full or failing is no reason to. What it lacks it
//! may not know itself: after an end out of order its rows are compared with base and journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::compare::{CompareError, Compared, compare};
use super::directory::{Directory, OpenError};
use super::keeper::Keeper;
use super::rebuild::{rebuild, wait_until_closed};
use super::{Compare, DiskSpace, Durability, Engine, EngineOptions, ShardStore, disk_space, spawn};
use crate::base::{self, Copying, Found};
use crate::journal::{self, FileJournal, FileJournalOptions};
use crate::store::sled::{SledStore, distrust_file};
use crate::store::{Store, StoreFailure};

/// So many starts may end while they open the store before it is made anew. One may have been killed
/// there for reasons of its own.
pub(super) const OPENINGS_MAX: u32 = 2;

impl Engine {
    pub(super) fn open_directory(
        options: &EngineOptions,
    ) -> Result<(Self, Vec<ShardStore>), OpenError> {
        let directory = Directory::open(&options.dir)?;
        let folder = directory.path().to_path_buf();
        let io = |source| OpenError::Io { path: folder.clone(), source };
        base::remove_drafts(&folder).map_err(io)?;
        // There has been one since before the directory was complete.
        if directory.was_complete() && journal::segments(&directory.journal())?.is_empty() {
            let (file, why) = (directory.journal(), "no segment is there".to_owned());
            return Err(OpenError::Damaged { file, offset: 0, why });
        }
        let bases = base::find(&folder).unwrap_or_default();
        let mut unread = false;
        let (store, made_anew) = match open_store(&directory, options, &bases, &mut unread)? {
            Ok(store) => (store, None),
            Err(why) => {
                rebuild(&directory, options, &why)?;
                (SledStore::open(&directory.store(), options.cache_bytes)?, Some(why))
            }
        };
        directory.mark(&directory.opened(), "removed at an end in order").map_err(io)?;
        let complete_to = store.complete_to()?;
        let disk = disk_space(&folder).map_err(io)?;
        let checkpoint_bytes = options.checkpoint_bytes_on(disk.total_bytes);
        let options = &EngineOptions { checkpoint_bytes, ..options.clone() };
        let journal = FileJournal::new(FileJournalOptions {
            directory: directory.journal(),
            segment_bytes: segment_bytes(options, disk),
            sync: options.durability == Durability::Fsync,
        });
        let store = Arc::new(store);
        let (mut engine, mut workers, stores) =
            Self::prepare(options, Some(directory), Box::new(journal), Arc::clone(&store) as _)?;
        engine.made_anew = made_anew;
        if let Some(directory) = &engine.directory {
            directory.complete()?;
        }
        let copying = Copying::open(&folder).map_err(io)?;
        workers.committer.respect(copying.clone());
        // Records that the store has and the journal has not: no base from before can reach those
        // behind them.
        let gap = engine.recovered().last < complete_to;
        let bases = Bases::of(bases, &engine, gap || unread)?;
        let keeper = keep(options, &engine, store, bases, complete_to, copying);
        engine.run(options, workers)?;
        let hub = Arc::clone(&engine.hub);
        engine.keeper = Some(spawn("store-keeper", &hub, move || keeper.run())?);
        Ok((engine, stores))
    }
}

/// The size of a segment on this disk; says what is less there than was asked for.
fn segment_bytes(options: &EngineOptions, DiskSpace { total_bytes, .. }: DiskSpace) -> u64 {
    let bytes = options.segment_bytes_on(total_bytes);
    if bytes < options.segment_bytes {
        tracing::info!(
            total_bytes,
            asked_for = options.segment_bytes,
            "the disk is small: a segment of the journal has {bytes} bytes"
        );
    }
    let reserve_bytes = options.disk_reserve.of(total_bytes);
    if reserve_bytes < options.disk_reserve.bytes {
        tracing::info!(
            total_bytes,
            asked_for = options.disk_reserve.bytes,
            "the disk is small: {reserve_bytes} bytes of it are to be left free"
        );
    }
    bytes
}

/// The store as it is; the inner error says why it must be made anew. `unread` becomes true where
/// what it would be made of cannot be read.
fn open_store(
    directory: &Directory,
    options: &EngineOptions,
    bases: &[Found],
    unread: &mut bool,
) -> Result<Result<SledStore, String>, OpenError> {
    let io = |source| OpenError::Io { path: directory.path().to_path_buf(), source };
    let distrusted = distrust_file(&directory.store());
    if distrusted.exists() {
        let text = std::fs::read_to_string(&distrusted).unwrap_or_default();
        let text: String = text.lines().next().unwrap_or("no reason").chars().take(300).collect();
        return Ok(Err(format!("the store is not trusted any more ({text})")));
    }
    let failed = directory.failed_openings();
    if failed >= OPENINGS_MAX {
        return Ok(Err(format!("{failed} starts in a row never got past opening the store")));
    }
    directory.mark(&directory.opening(), &(failed + 1).to_string()).map_err(io)?;
    let opened = SledStore::open(&directory.store(), options.cache_bytes)
        .and_then(|store| store.complete_to().map(|complete_to| (store, complete_to)));
    let opened = match opened {
        Ok((store, complete_to)) => {
            match lacks(directory, options, bases, (&store, complete_to), unread)? {
                None => Ok(store),
                Some(why) => {
                    drop(store);
                    wait_until_closed(&directory.store().join("db")).map_err(io)?;
                    Err(why)
                }
            }
        }
        Err(StoreFailure { is_damage: true, operation, cause, .. }) => {
            Err(format!("cannot {operation}: {cause}"))
        }
        Err(failure) => {
            directory.unmark(&[directory.opening()]).map_err(io)?;
            return Err(failure.into());
        }
    };
    directory.unmark(&[directory.opening()]).map_err(io)?;
    Ok(opened)
}

/// Why a store that is complete up to this record lacks some that it had.
fn lacks(
    directory: &Directory,
    options: &EngineOptions,
    bases: &[Found],
    (store, complete_to): (&SledStore, u64),
    unread: &mut bool,
) -> Result<Option<String>, OpenError> {
    let segments = journal::segments(&directory.journal())?;
    let first = segments.first().map_or(1, |(first, _)| *first);
    let based = bases.first().map_or(0, |base| base.complete_to);
    if complete_to < based {
        return Ok(Some(format!("the store ends at record {complete_to}, and had record {based}")));
    }
    if complete_to + 1 < first {
        let why = format!("the store ends at record {complete_to}, the journal begins at {first}");
        return Ok(Some(why));
    }
    let in_order = !directory.opened().exists();
    if options.compare == Compare::Never || (options.compare == Compare::AfterCrash && in_order) {
        return Ok(None);
    }
    if based + 1 < first {
        tracing::info!("no base yet to compare the store with");
        return Ok(None);
    }
    let started = Instant::now();
    match compare(store, complete_to, bases.first(), &directory.journal(), &mut |_, _| {}) {
        Ok(Compared { differences, count, rows }) => {
            let took = started.elapsed();
            tracing::info!(rows, ?took, "compared the store with base and journal");
            let first = differences.first();
            Ok(first
                .map(|first| format!("the store has lost rows: {first}, of {count} that differ")))
        }
        Err(CompareError::Store(StoreFailure { is_damage: true, operation, cause, .. })) => {
            Ok(Some(format!("cannot {operation}: {cause}")))
        }
        Err(CompareError::Store(failure)) => Err(failure.into()),
        // The store is whole as far as anybody can tell; a new base is written soon.
        Err(CompareError::Base(error)) => {
            tracing::warn!("the store cannot be compared with its base: {error}");
            *unread = true;
            Ok(None)
        }
        Err(error @ (CompareError::Journal(_) | CompareError::Behind { .. })) => {
            tracing::warn!("the store cannot be compared with the journal: {error}");
            *unread = true;
            Ok(None)
        }
    }
}

/// The bases of a folder, and whether they are of use.
struct Bases {
    found: Vec<Found>,
    size: u64,
    /// Whether the newest and the journal hold everything; with no base, the journal alone.
    reach: bool,
}

impl Bases {
    fn of(found: Vec<Found>, engine: &Engine, gap: bool) -> Result<Self, OpenError> {
        let Some(directory) = &engine.directory else {
            return Ok(Self { found, size: 0, reach: true });
        };
        let segments = journal::segments(&directory.journal())?;
        let first = segments.first().map_or(1, |(first, _)| *first);
        let totals = found.first().map(Found::totals);
        let size = totals.as_ref().and_then(|it| it.as_ref().ok()).map_or(0, |it| it.bytes);
        let complete_to = found.first().map_or(0, |base| base.complete_to);
        if let Some(Err(error)) = &totals {
            tracing::warn!("{error}; a new base is written");
        }
        let reach = !gap && !matches!(totals, Some(Err(_))) && first <= complete_to + 1;
        // The journal from the newest base on, or from what the store needs.
        let after = if reach { complete_to } else { 0 };
        let kept = segments.iter().zip(segments.iter().skip(1));
        let kept = kept.filter(|(_, (next, _))| *next > after + 1);
        let lengths = kept.map(|((_, path), _)| path.metadata().map_or(0, |file| file.len()));
        let hub = &engine.hub;
        hub.kept_bytes.store(lengths.sum(), Ordering::Release);
        hub.based.store(after, Ordering::Release);
        Ok(Self { found, size, reach })
    }
}

/// Who writes the next ones.
fn keep(
    options: &EngineOptions,
    engine: &Engine,
    store: Arc<SledStore>,
    bases: Bases,
    complete_to: u64,
    copying: Copying,
) -> Keeper {
    let hub = Arc::clone(&engine.hub);
    hub.checkpointed.store(complete_to, Ordering::Release);
    let wanted = Arc::clone(&engine.base_wanted);
    wanted.store(!bases.reach, Ordering::Release);
    if !bases.reach && engine.recovered().records > 0 {
        // A base is read from what a checkpoint left whole.
        engine.checkpoint();
    }
    Keeper {
        hub,
        store,
        at_start: Arc::clone(&engine.at_start),
        folder: options.dir.clone(),
        copying,
        bases: bases.found,
        size: bases.size,
        not_before: 0,
        journal_bytes: options.base_bytes.max(1),
        reserve: options.disk_reserve,
        wanted,
    }
}

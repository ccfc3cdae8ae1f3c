//! The keeper of bases: writes a new one when the journal behind the last has grown enough.
//!
//! A base costs reading and writing all rows, so there is one for each `EngineOptions::base_bytes`
//! of journal, or for twice what it takes itself if that is more: then it adds at most half to what
//! the journal writes. What the last one holds that has gone since counts as journal does: when most
//! rows have gone, the next one is cheap, and the room of both is wanted back. Nobody waits for it: its thread is of low priority, writes in pieces, rests as
//! long as it worked, and gives up, with the journal just kept longer, where the disk is short.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidings_core::marks::DiskReserve;
use tidings_core::record::{KeyRange, Query};

use super::disk_space;
use crate::base::{self, Copying, Found, Header, Kind, Totals, Writer};
use crate::clock::Clock;
use crate::commit::{Hub, count, lock};
use crate::store::overlay::Rows;
use crate::store::{Store, StoreFailure, read};

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) hub: Arc<Hub>,
    pub(super) store: Arc<dyn Store>,
    pub(super) at_start: Arc<Mutex<Vec<Arc<Rows>>>>,
    pub(super) folder: PathBuf,
    pub(super) copying: Copying,
    /// Those there are, the newest first.
    pub(super) bases: Vec<Found>,
    /// The size of the newest, in bytes.
    pub(super) size: u64,
    /// One failed: none before the journal is so long.
    pub(super) not_before: u64,
    /// Of `EngineOptions::base_bytes`.
    pub(super) journal_bytes: u64,
    /// With less free none is written.
    pub(super) reserve: DiskReserve,
    /// One is wanted whatever the journal's size.
    pub(super) wanted: Arc<AtomicBool>,
}

/// Why there is no new base.
enum NoBase {
    /// The engine ends.
    Ended,
    /// The disk is short, or fails: it may do better later.
    Disk(io::Error),
    Store(StoreFailure),
}

impl From<io::Error> for NoBase {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Keeper {
    /// The thread: until the engine ends or fails.
    pub(super) fn run(mut self) {
        // Its own thread's alone, in Linux. Without it the rests are all there is.
        let _as_it_is = rustix::process::setpriority_process(None, 19);
        self.look_at_newest();
        loop {
            let hub = Arc::clone(&self.hub);
            hub.keeper_gate.wait_until(|| self.ended() || self.is_due());
            if self.ended() {
                return;
            }
            self.wanted.store(false, Ordering::Release);
            match self.write() {
                Ok(()) => {}
                Err(NoBase::Ended) => return,
                Err(NoBase::Disk(error)) => {
                    tracing::warn!("no new base, and the journal is kept longer: {error}");
                    // Not before as much again has come.
                    self.not_before = self.kept() + self.size + self.journal_bytes;
                    // Nor at once where the disk is short: each try writes to it.
                    hub.keeper_gate.wait_for(RETRY, || self.ended());
                }
                Err(NoBase::Store(failure)) => return hub.fail(failure),
            }
        }
    }

    fn ended(&self) -> bool {
        self.hub.stopping() || self.hub.failure().is_some()
    }

    /// What the journal holds behind the newest base and the store has.
    fn kept(&self) -> u64 {
        let hub = &self.hub;
        let uncovered = hub.uncovered_bytes.load(Ordering::Acquire);
        hub.kept_bytes.load(Ordering::Acquire).saturating_sub(uncovered)
    }

    fn is_due(&self) -> bool {
        // A crash may have left a checkpoint half done. Before one is done again, rows of the
        // journal's tail are not whole in the store, and nobody reads them there.
        let settled = || lock(&self.at_start).iter().all(|rows| rows.is_empty());
        let next_size = self.store.live_bytes().unwrap_or(self.size);
        let waste = self.kept() + self.size.saturating_sub(next_size);
        let enough = if self.hub.disk_low.load(Ordering::Acquire) {
            (self.size / 4).max(PIECE_BYTES / 4)
        } else {
            self.journal_bytes.max(next_size.saturating_mul(2)).max(self.not_before)
        };
        (self.wanted.load(Ordering::Acquire) || waste >= enough) && settled()
    }

    /// Reads the newest base once, so that damage to it is found while there is another way out.
    fn look_at_newest(&self) {
        let Some(newest) = self.bases.first() else { return };
        let read = || {
            let mut reader = base::open(&newest.path)?;
            let mut paced = Pace::default();
            while reader.next()?.is_some() && !self.ended() {
                paced.rest(reader.offset());
            }
            Ok(())
        };
        let result: Result<(), LookError> = read();
        if let Err(error) = result {
            tracing::warn!("{error}; a new base is written");
            self.wanted.store(true, Ordering::Release);
        }
    }

    fn write(&mut self) -> Result<(), NoBase> {
        let hub = Arc::clone(&self.hub);
        let started = Instant::now();
        let kept = self.kept();
        // In this order: what a checkpoint does from here on is behind the record.
        let complete_to = hub.checkpointed.load(Ordering::Acquire);
        let (draft, totals) = match self.write_draft(complete_to) {
            Ok(written) => written,
            Err(error) => {
                // What it holds helps nobody, and its room may be what the journal needs.
                base::remove_drafts(&self.folder)?;
                return Err(error);
            }
        };
        let path = base::publish(&self.folder, &draft, complete_to)?;
        // One of the same record had the same name, and is the new one now.
        self.bases.retain(|base| base.path != path);
        self.bases.insert(0, Found { path, complete_to });
        (self.size, self.not_before) = (totals.bytes, 0);
        count(&hub.counters.bases, 1);
        count(&hub.counters.base_bytes, totals.bytes);
        hub.based.store(complete_to, Ordering::Release);
        hub.kept_bytes.fetch_sub(kept, Ordering::AcqRel);
        hub.forget.fetch_max(hub.forgettable(), Ordering::AcqRel);
        hub.stir();
        self.remove_older()?;
        let (rows, bytes, took) = (totals.rows, totals.bytes, started.elapsed());
        tracing::info!(complete_to, rows, bytes, ?took, "wrote a base");
        Ok(())
    }

    fn write_draft(&self, complete_to: u64) -> Result<(File, Totals), NoBase> {
        let created_ms = Clock::new().now().as_millis();
        let header = Header::new(Kind::Base, complete_to, created_ms);
        let out = io::BufWriter::with_capacity(1 << 20, base::start(&self.folder)?);
        let mut writer = Writer::new(out, header)?;
        let mut paced = Pace::default();
        let mut range = KeyRange::prefix(&[]);
        loop {
            if self.ended() {
                return Err(NoBase::Ended);
            }
            let query = Query { range, rows_max: 1_024, bytes_max: 1 << 18, backwards: false };
            let answer = read::read(&*self.store, [], &query).map_err(NoBase::Store)?;
            for row in &answer.rows {
                writer.row(&row.key, &row.value)?;
            }
            let Some(last) = answer.rows.last().filter(|_| answer.more) else { break };
            range = query.range.after(&last.key);
            // With each batch: on a small disk the room of a piece is all there is.
            self.check_room()?;
            paced.rest(writer.bytes());
            if paced.is_new_piece {
                writer.get_mut().flush()?;
                writer.get_mut().get_ref().sync_data()?;
            }
        }
        // What the store had from records behind `complete_to` was durable before it had it.
        let settled_at = self.hub.synced.load(Ordering::Acquire);
        let (out, totals) = writer.finish(settled_at)?;
        let draft = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((draft, totals))
    }

    fn check_room(&self) -> io::Result<()> {
        // Where the disk is short already, a base is what lets the journal go.
        let low = self.hub.disk_low.load(Ordering::Acquire);
        let space = disk_space(&self.folder)?;
        let (free, reserve) = (space.free_bytes, self.reserve.of(space.total_bytes));
        let reserve = if low { reserve / 2 } else { reserve };
        if free < reserve {
            let why = format!("{free} bytes are free on the disk, {reserve} are to stay so");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        Ok(())
    }

    /// Removes all but the newest, unless somebody copies: then with the next.
    fn remove_older(&mut self) -> io::Result<()> {
        let older = self.bases.split_off(1);
        let removed = self
            .copying
            .unless(|| older.iter().try_for_each(|base| fs::remove_file(&base.path)))?;
        match removed {
            Some(removed) => removed,
            None => {
                self.bases.extend(older);
                Ok(())
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Base(#[from] base::BaseError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Rests for as long as it worked, after each piece.
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: u64,
    is_new_piece: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { since: Instant::now(), bytes: 0, is_new_piece: false }
    }
}

impl Pace {
    fn rest(&mut self, bytes: u64) {
        self.is_new_piece = bytes - self.bytes >= PIECE_BYTES;
        if self.is_new_piece {
            std::thread::sleep(self.since.elapsed().min(REST_MAX));
            (self.since, self.bytes) = (Instant::now(), bytes);
        }
    }
}

/// What is written at once and synced: little enough that the journal's own syncs do not wait long.
const PIECE_BYTES: u64 = 4 << 20;

/// So long after one that failed none is tried.
const RETRY: Duration = Duration::from_secs(5);

/// So long the end of the engine may wait for it.
const REST_MAX: Duration = Duration::from_millis(100);

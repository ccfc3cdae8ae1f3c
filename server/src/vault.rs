//! The keys of chats, in a file of their own: places of 32 bytes, each written over when its chat is
//! to be gone.
//!
//! Not in the store: what was a row there stays in old segments of the journal, in bases and in pages
//! of sled until these are written over by chance. Secrets are made and synced before they are given
//! out, many at a time, so that taking one costs nothing; those of a start that nobody took stay
//! unused. What the disk below the file keeps of blocks that were written over (flash, snapshots,
//! file systems that copy on write) is beyond what a program can say.

use std::collections::{HashSet, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tidings_chat::Vault;

/// What the file is called, beside the store.
pub(crate) const NAME: &str = "chat-keys";

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct FileVault {
    inside: Arc<Inside>,
    jobs: Option<Sender<Job>>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inside {
    file: File,
    state: Mutex<State>,
    /// Held by who makes secrets.
    maker: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Secrets that are safe and that nobody has.
    pool: VecDeque<[u8; SECRET_BYTES]>,
    /// The place of the first of them.
    next: u64,
    /// More are being made.
    making: bool,
    /// Places that are being written over.
    going: HashSet<u64>,
}

#[derive(Debug)]
enum Job {
    Make,
    Destroy(u64),
}

impl FileVault {
    /// Opens the keys in a data folder, or begins with none.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(data)?;
        let path = data.join(NAME);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(&path)?;
        // Two that add to it would write over each other's secrets.
        file.try_lock()?;
        let length = file.metadata()?.len();
        if length < PLACES_AT {
            file.write_all_at(MAGIC, 0)?;
            file.sync_all()?;
            File::open(data)?.sync_all()?;
        } else {
            let mut magic = [0; MAGIC.len()];
            file.read_exact_at(&mut magic, 0)?;
            if magic != *MAGIC {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is something else"));
            }
        }
        // Half a place is of a start that made none of it known.
        let next = length.saturating_sub(PLACES_AT).div_ceil(SECRET_BYTES as u64);
        let state = Mutex::new(State { next, ..State::default() });
        let inside = Arc::new(Inside { file, state, maker: Mutex::default() });
        inside.make()?;
        let (jobs, todo) = mpsc::channel();
        let working = Arc::clone(&inside);
        let worker = thread::Builder::new().name("chat-keys".into()).spawn(move || {
            while let Ok(job) = todo.recv() {
                let more: Vec<Job> = todo.try_iter().collect();
                working.work(std::iter::once(job).chain(more));
            }
        })?;
        Ok(Self { inside, jobs: Some(jobs), worker: Some(worker) })
    }
}

impl FileVault {
    fn ask(&self, job: Job) {
        let _ended = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Drop for FileVault {
    /// What was asked for is done when it is gone.
    fn drop(&mut self) {
        self.jobs = None;
        let _panicked = self.worker.take().map(JoinHandle::join);
    }
}

impl Vault for FileVault {
    fn allot(&self) -> Option<(u64, [u8; 32])> {
        let mut state = self.inside.state();
        if state.pool.is_empty() {
            drop(state);
            self.inside.make().inspect_err(|error| failed("add to", error)).ok()?;
            state = self.inside.state();
        }
        let secret = state.pool.pop_front()?;
        let place = state.next;
        state.next += 1;
        if state.pool.len() < POOL_LOW && !std::mem::replace(&mut state.making, true) {
            self.ask(Job::Make);
        }
        Some((place, secret))
    }

    fn secret(&self, place: u64) -> Option<[u8; 32]> {
        if self.inside.state().going.contains(&place) {
            return None;
        }
        let mut secret = [0; SECRET_BYTES];
        self.inside.file.read_exact_at(&mut secret, at(place)).ok()?;
        (secret != [0; SECRET_BYTES]).then_some(secret)
    }

    fn destroy(&self, place: u64) {
        self.inside.state().going.insert(place);
        self.ask(Job::Destroy(place));
    }
}

impl Inside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes secrets, and gives them out once they are safe.
    fn make(&self) -> io::Result<()> {
        let mut bytes = vec![0; POOL * SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        // Nobody else makes any meanwhile: where they end does not change.
        let _making = self.maker.lock().unwrap_or_else(PoisonError::into_inner);
        let first = {
            let state = self.state();
            state.next + state.pool.len() as u64
        };
        self.file.write_all_at(&bytes, at(first))?;
        self.file.sync_data()?;
        let mut state = self.state();
        let secrets = bytes.chunks_exact(SECRET_BYTES);
        state.pool.extend(secrets.filter_map(|secret| <[u8; SECRET_BYTES]>::try_from(secret).ok()));
        state.making = false;
        Ok(())
    }

    fn work(&self, jobs: impl Iterator<Item = Job>) {
        let mut gone = Vec::new();
        for job in jobs {
            let done = match job {
                Job::Make => self.make(),
                Job::Destroy(place) => {
                    gone.push(place);
                    self.file.write_all_at(&[0; SECRET_BYTES], at(place))
                }
            };
            done.unwrap_or_else(|error| failed("write", &error));
        }
        if gone.is_empty() {
            return;
        }
        match self.file.sync_data() {
            Ok(()) => {
                let mut state = self.state();
                gone.iter().for_each(|place| {
                    state.going.remove(place);
                });
            }
            // They stay unknown, and are written over at the next start.
            Err(error) => failed("sync", &error),
        }
    }
}

fn failed(what: &str, error: &io::Error) {
    tracing::error!("cannot {what} {NAME}: {error}; see to the disk and start again");
}

fn at(place: u64) -> u64 {
    PLACES_AT + place * SECRET_BYTES as u64
}

const MAGIC: &[u8; 32] = b"TIDINGS chat keys, version 1\n\0\0\0";

const PLACES_AT: u64 = MAGIC.len() as u64;

const SECRET_BYTES: usize = 32;

/// How many secrets are made at a time: a start leaves as many unused at the most, 32 KiB.
const POOL: usize = 1_024;

/// With how many left more are made.
const POOL_LOW: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_secret_is_given_once_and_stays_until_it_is_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = HashMap::new();
        for _ in 0..3 {
            let vault = FileVault::open(folder.path()).unwrap();
            for _ in 0..POOL + POOL_LOW {
                let (place, secret) = vault.allot().unwrap();
                assert!(known.insert(place, secret).is_none(), "{place} given twice");
            }
            assert!(known.iter().all(|(place, secret)| vault.secret(*place) == Some(*secret)));
        }
        let distinct: HashSet<_> = known.values().collect();
        assert_eq!(distinct.len(), known.len());
        let vault = FileVault::open(folder.path()).unwrap();
        assert!(FileVault::open(folder.path()).is_err(), "one at a time");
        vault.destroy(7);
        assert_eq!(vault.secret(7), None);
        // What is behind it in the same line is done when it is.
        while vault.inside.state().going.contains(&7) {
            thread::yield_now();
        }
        assert_eq!(vault.secret(7), None);
        let bytes = std::fs::read(folder.path().join(NAME)).unwrap();
        let found = |secret: &[u8; 32]| bytes.windows(32).any(|part| part == secret);
        assert!(!found(&known[&7]) && found(&known[&8]));
        assert_eq!(vault.secret(1_000_000), None);
    }

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), [b'x'; 100]).unwrap();
        assert!(FileVault::open(folder.path()).is_err());
        assert_eq!(std::fs::read(folder.path().join(NAME)).unwrap(), [b'x'; 100]);
    }
}

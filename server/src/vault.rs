//! The keys of chats, in a file of their own: places of 32 bytes, each written over when its chat is
//! to be gone.
//!
//! Not in the store: what was a row there stays in old segments of the journal, in bases and in pages
//! of sled until these are written over by chance. Secrets are made and synced before they are given
//! out, many at a time, so that taking one costs nothing; those of a start that nobody took stay
//! unused. A place says of which secret it is: should the file be an older one than the store, such as
//! one that was put back from a copy, its places are given out again, and what the store still has
//! by the old ones is not mistaken for theirs. What the disk below the file keeps of blocks that were written over (flash, snapshots,
//! file systems that copy on write) is beyond what a program can say.

use std::collections::{HashSet, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ring::digest::{SHA256, digest};
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
        let place = place(state.next, &secret);
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
        self.inside.secret(place)
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

    /// The secret of a place; nothing if what is there now is not that one.
    fn secret(&self, place: u64) -> Option<[u8; SECRET_BYTES]> {
        let mut secret = [0; SECRET_BYTES];
        self.file.read_exact_at(&mut secret, at(place)).ok()?;
        let its = place >> INDEX_BITS;
        let same = its == 0 || its == mark(&secret);
        (same && secret != [0; SECRET_BYTES]).then_some(secret)
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
                    match self.secret(place) {
                        Some(_) => self.file.write_all_at(&[0; SECRET_BYTES], at(place)),
                        None => Ok(()),
                    }
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

/// What a place is called: where it is, and what tells its secret from another.
fn place(index: u64, secret: &[u8; SECRET_BYTES]) -> u64 {
    index | mark(secret) << INDEX_BITS
}

/// What tells a secret from another, 24 bits that are never all zero: so are those of places that were
/// given out before there was such a thing, which are taken at their word.
fn mark(secret: &[u8; SECRET_BYTES]) -> u64 {
    let hash = digest(&SHA256, &[b"chat key ".as_slice(), secret].concat());
    let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
    (u64::from_be_bytes(first) >> INDEX_BITS).max(1)
}

fn at(place: u64) -> u64 {
    let index = place & ((1 << INDEX_BITS) - 1);
    PLACES_AT + index * SECRET_BYTES as u64
}

/// How much of a place says where it is.
const INDEX_BITS: u32 = 40;

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
        let places: Vec<u64> = known.keys().copied().take(2).collect();
        let [gone, kept] = places[..] else { panic!("{places:?}") };
        vault.destroy(gone);
        assert_eq!(vault.secret(gone), None);
        // What is behind it in the same line is done when it is.
        while vault.inside.state().going.contains(&gone) {
            thread::yield_now();
        }
        assert_eq!(vault.secret(gone), None);
        let bytes = std::fs::read(folder.path().join(NAME)).unwrap();
        let found = |secret: &[u8; 32]| bytes.windows(32).any(|part| part == secret);
        assert!(!found(&known[&gone]) && found(&known[&kept]));
        assert_eq!(vault.secret(1_000_000), None);
    }

    #[test]
    fn an_older_file_has_no_secrets_of_places_that_it_gives_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let vault = FileVault::open(folder.path()).unwrap();
        let (kept, _) = vault.allot().unwrap();
        let older = std::fs::read(&path).unwrap();
        drop(vault);
        let vault = FileVault::open(folder.path()).unwrap();
        let (lost, secret) = vault.allot().unwrap();
        assert_eq!(vault.secret(lost), Some(secret));
        drop(vault);
        std::fs::write(&path, older).unwrap();
        let vault = FileVault::open(folder.path()).unwrap();
        let (again, secret) = vault.allot().unwrap();
        assert_eq!(at(again), at(lost), "the same place");
        assert_eq!((vault.secret(lost), vault.secret(again)), (None, Some(secret)));
        assert!(vault.secret(kept).is_some());
        // Nor does the end of what was lost harm who has the place now.
        vault.destroy(lost);
        drop(vault);
        let vault = FileVault::open(folder.path()).unwrap();
        assert_eq!(vault.secret(again), Some(secret));
        let unmarked = again & ((1 << INDEX_BITS) - 1);
        assert_eq!(vault.secret(unmarked), Some(secret), "by a place that says no more");
    }

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), [b'x'; 100]).unwrap();
        assert!(FileVault::open(folder.path()).is_err());
        assert_eq!(std::fs::read(folder.path().join(NAME)).unwrap(), [b'x'; 100]);
    }
}

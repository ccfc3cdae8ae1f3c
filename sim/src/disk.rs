//! A disk in memory that keeps what it has promised, and of the rest what a seed lets it keep.
//!
//! A file is what the system has (`bytes`) and what is safe (`safe`); they differ in `dirty`
//! sectors and in length. Names are safe once their directory was synced. A power cut lets each
//! unsynced sector come out new, old or torn, and each change of names happen or not. A sync that
//! fails leaves sectors that the system has and takes for written: no later sync writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_broker::journal::{Disk, DiskFile};

use crate::faults::Fault;
use crate::rng::Rng;
use crate::wire::marks;

/// What is written and lost as a whole.
const SECTOR: usize = 512;

/// How the disk, or the store on it, will fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing is done any more: the process, or the machine, is about to be gone.
    Outage,
    /// A write or a sync fails with an error, and nothing else does.
    Error,
    /// There is no room for a while.
    Full,
}

/// So many operations until there is trouble.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    left: Option<(u64, Trouble)>,
    burnt: Option<Trouble>,
}

impl Fuse {
    pub(crate) fn set(&mut self, operations: u64, trouble: Trouble) {
        if self.burnt.is_none() && self.left.is_none() {
            self.left = Some((operations, trouble));
        }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// What became of an operation.
    fn burn(&mut self) -> Option<Trouble> {
        if let Some((left, trouble)) = &mut self.left {
            if *left > 0 {
                *left -= 1;
            } else {
                self.burnt = Some(*trouble);
                self.left = None;
            }
        }
        self.burnt
    }
}

/// A [`Disk`] that breaks.
#[derive(Debug, Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: Rng,
    fault: Fault,
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    safe_names: BTreeMap<PathBuf, usize>,
    /// Since the directory was synced.
    changes: Vec<Change>,
    fuse: Fuse,
    /// The messages that have been safe on this disk.
    safe_messages: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    safe: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// A change of names.
#[derive(Debug)]
enum Change {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Change {
    /// Makes it in `names`; one whose file is not there is none.
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl SimDisk {
    pub(crate) fn new(rng: Rng, fault: Fault) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng,
            fault,
            files: Vec::new(),
            names: BTreeMap::new(),
            safe_names: BTreeMap::new(),
            changes: Vec::new(),
            fuse: Fuse::default(),
            safe_messages: BTreeSet::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets something go wrong after so many operations.
    pub(crate) fn break_after(&self, operations: u64, trouble: Trouble) {
        self.state().fuse.set(operations, trouble);
    }

    /// For the store, which is on the same disk.
    pub(crate) fn fails(&self) -> Option<io::Error> {
        self.state().burn().err()
    }

    /// Whether a message has been safe.
    pub(crate) fn has_kept(&self, number: usize) -> bool {
        self.state().safe_messages.contains(&number)
    }

    /// The process is gone; what it had written the system still has.
    pub(crate) fn kill(&self) {
        self.state().fuse.reset();
    }

    /// The machine is without power for a moment.
    pub(crate) fn cut_power(&self) {
        let mut state = self.state();
        state.fuse.reset();
        let State { rng, files, names, safe_names, changes, .. } = &mut *state;
        for change in changes.drain(..) {
            if rng.one_in(2) {
                change.apply(safe_names);
            }
        }
        *names = safe_names.clone();
        // Each cut has its own odds, so that all, none and some survive.
        let odds = 1 + rng.below(4);
        for file in files {
            file.lose_power(rng, odds);
        }
    }
}

impl File {
    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if bytes.is_empty() {
            return;
        }
        self.bytes[at..end].copy_from_slice(bytes);
        self.dirty.extend(at / SECTOR..=(end - 1) / SECTOR);
    }

    /// Writes one sector to where it is safe.
    fn keep(&mut self, sector: usize) {
        let from = (sector * SECTOR).min(self.bytes.len());
        let to = (from + SECTOR).min(self.bytes.len());
        if self.safe.len() < to {
            self.safe.resize(to, 0);
        }
        self.safe[from..to].copy_from_slice(&self.bytes[from..to]);
    }

    fn sync(&mut self, safe_messages: &mut BTreeSet<usize>) {
        if let (Some(first), Some(last)) = (self.dirty.first(), self.dirty.last()) {
            let from = (first * SECTOR).saturating_sub(SECTOR);
            let to = ((last + 2) * SECTOR).min(self.bytes.len());
            safe_messages.extend(marks(self.bytes.get(from..to).unwrap_or_default()));
        }
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
        self.safe.resize(self.bytes.len(), 0);
    }

    fn lose_power(&mut self, rng: &mut Rng, odds: usize) {
        if self.dirty.is_empty() && self.safe.len() == self.bytes.len() {
            self.bytes.clone_from(&self.safe);
            return;
        }
        if rng.one_in(2) {
            self.safe.resize(self.bytes.len(), 0);
        }
        let length = self.safe.len();
        for sector in std::mem::take(&mut self.dirty) {
            if rng.one_in(odds) {
                self.keep(sector);
            } else if rng.one_in(8) {
                let (from, whole) = (sector * SECTOR, self.bytes.len());
                let to = (from + 1 + rng.below(SECTOR)).min(whole).min(length);
                if from < to {
                    self.safe[from..to].copy_from_slice(&self.bytes[from..to]);
                }
            }
        }
        self.bytes.clone_from(&self.safe);
    }
}

impl State {
    fn burn(&mut self) -> io::Result<()> {
        match self.fuse.burn() {
            None => Ok(()),
            Some(Trouble::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(_) => Err(io::Error::from_raw_os_error(EIO)),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Syncs a file, or fails to: then the system takes for written what it has not written.
    fn sync(&mut self, file: usize) -> io::Result<()> {
        let burnt = self.burn();
        let Self { rng, files, fault, safe_messages, fuse, .. } = self;
        let file = &mut files[file];
        if let Err(error) = burnt {
            if fuse.burnt == Some(Trouble::Error) {
                for sector in std::mem::take(&mut file.dirty) {
                    if rng.one_in(2) {
                        file.keep(sector);
                    }
                }
            }
            return Err(error);
        }
        if *fault != Fault::StoredBeforeSync || !rng.one_in(20) {
            file.sync(safe_messages);
        }
        Ok(())
    }
}

const EIO: i32 = 5;

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.burn()?;
        // One that is there stays the same file under its name, and is emptied.
        if let Ok(file) = state.find(path) {
            state.files[file].bytes.clear();
            state.files[file].dirty.clear();
            return Ok(Box::new(Handle { disk: self.clone(), file }));
        }
        let file = state.files.len();
        state.files.push(File::default());
        state.change(Change::Create(path.to_path_buf(), file));
        Ok(Box::new(Handle { disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.burn()?;
        let file = state.find(path)?;
        Ok(Box::new(Handle { disk: self.clone(), file }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        let file = state.find(path)?;
        Ok(state.files[file].bytes.len() as u64)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.state();
        state.burn()?;
        Ok(state.names.keys().filter(|path| path.parent() == Some(directory)).cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.burn()?;
        state.find(from)?;
        state.change(Change::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.burn()?;
        state.find(path)?;
        state.change(Change::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.burn()?;
        if state.fault != Fault::DirectoryNotSynced {
            state.changes.clear();
            state.safe_names = state.names.clone();
        }
        Ok(())
    }

    fn salt(&self) -> u32 {
        let bytes = self.state().rng.next().to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

#[derive(Debug)]
struct Handle {
    disk: SimDisk,
    file: usize,
}

impl DiskFile for Handle {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.burn()?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = state.files[self.file].bytes.get(at..).unwrap_or_default();
        let length = bytes.len().min(into.len());
        into[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let burnt = state.burn();
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        // One that fails may have written a part.
        let length = if burnt.is_ok() { bytes.len() } else { state.rng.below(bytes.len() + 1) };
        state.files[self.file].write(&bytes[..length], at);
        burnt
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.burn()?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let file = &mut state.files[self.file];
        let before = file.bytes.len();
        file.bytes.resize(length, 0);
        // Where there was something else before.
        let end = length.min(file.safe.len());
        if before < end {
            file.dirty.extend(before / SECTOR..=(end - 1) / SECTOR);
        }
        file.dirty.retain(|sector| sector * SECTOR < length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.state().sync(self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.state().sync(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> (SimDisk, Box<dyn DiskFile>) {
        let disk = SimDisk::new(Rng::new(seed), Fault::None);
        let file = disk.create(Path::new("d/f")).unwrap();
        (disk, file)
    }

    fn read(disk: &SimDisk) -> io::Result<Vec<u8>> {
        let path = Path::new("d/f");
        let mut bytes = vec![0; usize::try_from(disk.length(path)?).unwrap()];
        let read = disk.open_to_read(path)?.read_at(&mut bytes, 0)?;
        assert_eq!(read, bytes.len());
        Ok(bytes)
    }

    #[test]
    fn what_was_synced_survives_every_power_cut_and_the_rest_some() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let (disk, file) = disk(seed);
            file.write_at(&[1; 1_024], 0).unwrap();
            file.sync_all().unwrap();
            disk.sync_directory(Path::new("d")).unwrap();
            file.write_at(&[2; 512], 512).unwrap();
            disk.cut_power();
            let bytes = read(&disk).unwrap();
            assert_eq!(bytes[..512], [1; 512]);
            outcomes.insert(bytes[512..].iter().filter(|byte| **byte == 2).count());
        }
        assert!(outcomes.contains(&0) && outcomes.contains(&512) && outcomes.len() > 2);
    }

    #[test]
    fn a_name_is_safe_once_its_directory_is_synced() {
        let mut there = BTreeSet::new();
        for seed in 0..20 {
            let (disk, _) = disk(seed);
            disk.cut_power();
            there.insert(read(&disk).is_ok());
        }
        assert_eq!(there.len(), 2);
    }

    #[test]
    fn what_a_failed_sync_left_no_later_one_writes() {
        let mut lost = 0;
        for seed in 0..20 {
            let (disk, file) = disk(seed);
            file.sync_all().unwrap();
            disk.sync_directory(Path::new("d")).unwrap();
            file.write_at(&[2; 512], 0).unwrap();
            disk.break_after(0, Trouble::Error);
            assert!(file.sync_data().is_err());
            disk.kill();
            assert_eq!(read(&disk).unwrap(), [2; 512]);
            file.sync_all().unwrap();
            disk.cut_power();
            lost += usize::from(read(&disk).unwrap() != [2; 512]);
        }
        assert!(lost > 0 && lost < 20);
    }
}

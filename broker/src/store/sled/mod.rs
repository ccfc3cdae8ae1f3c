//! The store on disk: generations of sled's folders.
//!
//! sled 0.34 keeps what it once took from the disk: a million messages that were delivered leave
//! hundreds of megabytes behind, and each further million may add as much. So when most of its file
//! is waste, the rows move to a new folder, some at a time while the old one goes on serving, and
//! the old folder is removed. `CURRENT` names the folder that counts; another one is a move that a
//! crash cut short.
//!
//! How one folder is used is in `tree`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use tidings_core::record::KeyRange;

use self::tree::{Note, Tree, cannot_open};
use super::{Store, StoreFailure, Visitor, Wanted};

pub(crate) use self::tree::{distrust_file, panic_text};

mod tree;

/// A [`Store`] in folders of sled's.
///
/// One thread writes. Any number may read.
pub struct SledStore {
    directory: PathBuf,
    cache_bytes: u64,
    waste_bytes: u64,
    /// Held for writing only while another generation takes over.
    current: RwLock<Tree>,
    upkeep: Mutex<Upkeep>,
    /// What [`Upkeep::live_bytes`] was at the last flush: that one is held while the disk works.
    live_bytes: AtomicU64,
}

/// What only the thread that writes looks at.
#[derive(Debug)]
struct Upkeep {
    /// About what the rows take, keys and values.
    live_bytes: u64,
    complete_to: u64,
    /// How many times as large as its rows the file was when they had just been moved there, but for
    /// what may be waste whatever there is; 0: it was not, or nobody knows.
    fresh_factor: u64,
    moving: Option<Moving>,
}

/// The rows are on their way to a new generation.
struct Moving {
    to: Tree,
    /// Those before this key are there, and are kept as they are in the old one.
    before: Bytes,
    live_bytes: u64,
}

// sled's own would print the tree.
impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Moving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moving").field("before", &self.before).finish_non_exhaustive()
    }
}

/// Names the generation that counts. Without it, the directory itself is the first.
const CURRENT: &str = "CURRENT";
const CURRENT_DRAFT: &str = "CURRENT.draft";

/// The file that may be waste whatever there is, in bytes.
const WASTE_BYTES: u64 = 64 << 20;

/// How many times as large as its rows the file may be besides. Fresh ones are twice as large.
const WASTE_FACTOR: u64 = 4;

/// How many times its rows have to be free for a move, and how much a folder without any takes.
const MOVED_FACTOR: u64 = 3;
const FRESH_BYTES: u64 = 8 << 20;

/// How much is moved in one step: some milliseconds.
const MOVED_ROWS: usize = 512;
const MOVED_BYTES: usize = 1 << 20;

impl SledStore {
    /// Opens or creates the store; the directory above it exists.
    ///
    /// `cache_bytes` bounds sled's cache; it takes up to four times as much.
    ///
    /// # Errors
    ///
    /// Anything sled says, and any panic of it.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, StoreFailure> {
        let current = current(directory).map_err(cannot_open)?;
        let folder = current.as_ref().map_or_else(|| directory.into(), |it| directory.join(it));
        remove_others(directory, current.as_deref()).map_err(cannot_open)?;
        let tree = Tree::open(&folder, directory, cache_bytes)?;
        // Not known of a store that never counted: the next move will.
        let live_bytes = tree.noted(Note::LiveBytes)?.unwrap_or(0);
        let upkeep = Upkeep {
            live_bytes,
            complete_to: tree.noted(Note::CompleteTo)?.unwrap_or(0),
            fresh_factor: 0,
            moving: None,
        };
        Ok(Self {
            directory: directory.to_path_buf(),
            cache_bytes,
            waste_bytes: WASTE_BYTES,
            current: RwLock::new(tree),
            upkeep: Mutex::new(upkeep),
            live_bytes: AtomicU64::new(live_bytes),
        })
    }

    /// Sets how many bytes of the file may be waste whatever there is; 64 MiB.
    #[must_use]
    pub fn waste_bytes(mut self, bytes: u64) -> Self {
        self.waste_bytes = bytes;
        self
    }

    /// Whether so much of the file is waste that the rows are better moved.
    fn is_wasteful(&self, upkeep: &Upkeep) -> Result<bool, StoreFailure> {
        let bytes = self.read(Tree::disk_bytes)?;
        // Rows that take more than is reasonable even when fresh are not moved for ever.
        let factor = upkeep.fresh_factor.saturating_mul(2).max(WASTE_FACTOR);
        let reasonable = upkeep.live_bytes.saturating_mul(factor);
        if bytes <= reasonable.saturating_add(self.waste_bytes) {
            return Ok(false);
        }
        // Both are there until the rows have moved; once most have gone they have room anywhere.
        let space = rustix::fs::statvfs(&self.directory)
            .map_err(|error| StoreFailure::new("look at the disk", error))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        Ok(free > upkeep.live_bytes.saturating_mul(MOVED_FACTOR).saturating_add(FRESH_BYTES))
    }

    fn upkeep(&self) -> MutexGuard<'_, Upkeep> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, f: impl FnOnce(&Tree) -> T) -> T {
        f(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin_to_move(&self) -> Result<Moving, StoreFailure> {
        let io = |error: io::Error| StoreFailure::new("make a folder of the store", error);
        let old = current(&self.directory).map_err(io)?;
        let number = old.and_then(|name| generation(&name)).unwrap_or(0) + 1;
        let folder = self.directory.join(number.to_string());
        DirBuilder::new().mode(0o700).create(&folder).map_err(io)?;
        let to = Tree::open(&folder, &self.directory, self.cache_bytes)?;
        Ok(Moving { to, before: Bytes::new(), live_bytes: 0 })
    }

    /// Moves some rows; whether there are more.
    fn move_some(&self, moving: &mut Moving) -> Result<bool, StoreFailure> {
        let mut some = Batch { rows: Vec::new(), bytes: 0, more: false };
        let range = KeyRange { start: moving.before.clone(), end: None };
        self.read(|tree| tree.visit(&range, false, &mut some))?;
        for (key, value) in &some.rows {
            moving.to.put(key, value)?;
            moving.live_bytes += (key.len() + value.len()) as u64;
        }
        if let Some((last, _)) = some.rows.last() {
            moving.before = super::overlay::successor(last);
        }
        Ok(some.more)
    }

    /// The new generation counts from now on, and the old one goes.
    fn finish_move(&self, upkeep: &mut Upkeep, moving: Moving) -> Result<(), StoreFailure> {
        let io = |error: io::Error| StoreFailure::new("change to a folder of the store", error);
        let Moving { to, live_bytes, .. } = moving;
        to.flush()?;
        to.note(Note::LiveBytes, live_bytes)?;
        to.note(Note::CompleteTo, upkeep.complete_to)?;
        to.flush()?;
        let name = to.folder().file_name().unwrap_or_default().to_os_string();
        point_to(&self.directory, &name.to_string_lossy()).map_err(io)?;
        upkeep.live_bytes = live_bytes;
        let fresh_bytes = to.disk_bytes()?.saturating_sub(self.waste_bytes);
        upkeep.fresh_factor = fresh_bytes.div_ceil(live_bytes.max(1));
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, to);
        drop(current);
        drop(old);
        remove_others(&self.directory, Some(&name.to_string_lossy())).map_err(io)
    }
}

/// Rows to move.
struct Batch {
    rows: Vec<(Bytes, Bytes)>,
    bytes: usize,
    more: bool,
}

impl Visitor for Batch {
    fn meet(&mut self, _key: &[u8]) -> Wanted {
        if self.rows.len() >= MOVED_ROWS || self.bytes >= MOVED_BYTES {
            self.more = true;
            return Wanted::Stop;
        }
        Wanted::Value
    }

    fn take(&mut self, key: &[u8], value: Bytes) {
        self.bytes += key.len() + value.len();
        self.rows.push((Bytes::copy_from_slice(key), value));
    }
}

impl Store for SledStore {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreFailure> {
        let mut upkeep = self.upkeep();
        let bytes = (key.len() + value.len()) as u64;
        let took = self.read(|tree| tree.put(key, value))?;
        upkeep.live_bytes = (upkeep.live_bytes + bytes).saturating_sub(took);
        if let Some(moving) = upkeep.moving.as_mut().filter(|moving| *key < moving.before[..]) {
            let took = moving.to.put(key, value)?;
            moving.live_bytes = (moving.live_bytes + bytes).saturating_sub(took);
        }
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<bool, StoreFailure> {
        let mut upkeep = self.upkeep();
        let took = self.read(|tree| tree.delete(key))?;
        upkeep.live_bytes = upkeep.live_bytes.saturating_sub(took.unwrap_or(0));
        if let Some(moving) = upkeep.moving.as_mut().filter(|moving| *key < moving.before[..]) {
            let took = moving.to.delete(key)?;
            moving.live_bytes = moving.live_bytes.saturating_sub(took.unwrap_or(0));
        }
        Ok(took.is_some())
    }

    fn visit(
        &self,
        range: &KeyRange,
        backwards: bool,
        visitor: &mut dyn Visitor,
    ) -> Result<(), StoreFailure> {
        self.read(|tree| tree.visit(range, backwards, visitor))
    }

    fn flush(&self, complete_to: u64) -> Result<(), StoreFailure> {
        let mut upkeep = self.upkeep();
        upkeep.complete_to = complete_to;
        self.live_bytes.store(upkeep.live_bytes, Ordering::Relaxed);
        self.read(|tree| {
            // Twice: the number must never be durable before what it speaks of.
            tree.flush()?;
            tree.note(Note::LiveBytes, upkeep.live_bytes)?;
            tree.note(Note::CompleteTo, complete_to)?;
            tree.flush()
        })
    }

    fn complete_to(&self) -> Result<u64, StoreFailure> {
        Ok(self.upkeep().complete_to)
    }

    fn spare_bytes(&self) -> Option<u64> {
        // Whoever writes holds this for as long as the disk takes.
        let upkeep = self.upkeep.try_lock().ok()?;
        let file = self.read(Tree::disk_bytes).ok()?;
        Some(file.saturating_sub(upkeep.live_bytes.saturating_mul(WASTE_FACTOR)))
    }

    fn live_bytes(&self) -> Option<u64> {
        Some(self.live_bytes.load(Ordering::Relaxed))
    }

    fn tidy(&self) -> Result<bool, StoreFailure> {
        let mut upkeep = self.upkeep();
        let Some(mut moving) = upkeep.moving.take() else {
            if !self.is_wasteful(&upkeep)? {
                return Ok(false);
            }
            upkeep.moving = Some(self.begin_to_move()?);
            return Ok(true);
        };
        if self.move_some(&mut moving)? {
            upkeep.moving = Some(moving);
            return Ok(true);
        }
        self.finish_move(&mut upkeep, moving)?;
        Ok(false)
    }
}

/// The name of the folder that counts.
fn current(directory: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(directory.join(CURRENT)) {
        Ok(name) => {
            let name = name.trim().to_owned();
            if generation(&name).is_none() {
                let why = format!("{CURRENT} names no folder: {name:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            Ok(Some(name))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn generation(name: &str) -> Option<u64> {
    name.parse().ok()
}

fn point_to(directory: &Path, name: &str) -> io::Result<()> {
    let draft = directory.join(CURRENT_DRAFT);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    File::open(directory)?.sync_all()?;
    fs::rename(&draft, directory.join(CURRENT))?;
    File::open(directory)?.sync_all()
}

/// Removes generations that do not count (any more).
fn remove_others(directory: &Path, current: Option<&str>) -> io::Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_folder = entry.file_type()?.is_dir();
        match current {
            // The directory itself was the first generation.
            Some(_) if !is_folder && !name.starts_with(CURRENT) => fs::remove_file(entry.path())?,
            Some(current) if name == current => {}
            _ if is_folder && (generation(&name).is_some() || current.is_some()) => {
                fs::remove_dir_all(entry.path())?;
            }
            _ => {}
        }
    }
    Ok(())
}

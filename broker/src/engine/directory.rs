//! The directory of a store: whose it is, which format it has, and that only one process has it.
//!
//! `VERSION` appears last when a directory is made. Without it, what is there is either a start
//! that was cut short, and `CREATING` says so, or somebody else's: then nothing is touched.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::base::BaseError;
use crate::journal::ReplayError;
use crate::store::StoreFailure;

/// The format of the directory, in its file `VERSION`.
pub const FORMAT_VERSION: u32 = 1;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("{dir:?} is in use by another process; stop that one, or use another directory")]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// Nothing is there that a broker served from.
    #[error(
        "no store is in {dir:?}: it has no file VERSION; name a folder that a broker served from"
    )]
    NoStore {
        /// The directory.
        dir: PathBuf,
    },
    /// Something else is there.
    #[error("{dir:?} holds something else than a store; use an empty directory")]
    NotAStore {
        /// The directory.
        dir: PathBuf,
    },
    /// Another version of the program made it.
    #[error("{dir:?} has format version {found:?}, this program needs {expected}")]
    FormatVersion {
        /// The directory.
        dir: PathBuf,
        /// What its file `VERSION` says.
        found: String,
        /// The version that this program reads and writes.
        expected: u32,
    },
    /// A file or directory could not be made or read.
    #[error("cannot open {path:?}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Records that were acknowledged cannot be read.
    #[error("{file:?} is damaged at byte {offset}: {why}; restore the data folder from a copy")]
    Damaged {
        /// The segment of the journal, or its directory when a whole segment is missing.
        file: PathBuf,
        /// Where reading stopped, in bytes from the start of the file.
        offset: u64,
        /// What was expected and what was found.
        why: String,
    },
    /// The journal cannot be read for another reason.
    #[error("cannot open the journal: {0}")]
    Journal(#[source] ReplayError),
    /// The base cannot be read, and the store has to be made anew from it.
    #[error("{why}; it cannot be made anew, because {source}; restore the data folder from a copy")]
    Base {
        /// Why the store is made anew.
        why: String,
        /// What is wrong with the base.
        source: BaseError,
    },
    /// The store has to be made anew, and nothing is there to make it of.
    #[error(
        "{why}; it cannot be made anew: the journal in {journal:?} begins at record {first} and no \
         base is there; restore the data folder from a copy"
    )]
    NoBase {
        /// Why the store is made anew.
        why: String,
        /// The journal's directory.
        journal: PathBuf,
        /// Its first record.
        first: u64,
    },
    /// The store cannot be read, or a thread not be started.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl From<ReplayError> for OpenError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Damaged { file, offset, why } => Self::Damaged { file, offset, why },
            error => Self::Journal(error),
        }
    }
}

/// A directory that is locked for this process until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    was_complete: bool,
    _lock: File,
}

const LOCK: &str = "lock";
const VERSION: &str = "VERSION";
const CREATING: &str = "CREATING";
const VERSION_DRAFT: &str = "VERSION.draft";

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_path_buf(), source };
        let made = !path.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        if made && let Some(parent) = path.parent().filter(|parent| parent.exists()) {
            sync(parent).map_err(io)?;
        }
        let ours = path.join(VERSION).exists() || path.join(CREATING).exists();
        if !ours && !is_empty(path).map_err(io)? {
            return Err(OpenError::NotAStore { dir: path.to_path_buf() });
        }
        let lock = file(path, LOCK).map_err(io)?;
        Self::lock(path, &lock)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io)?;
        let was_complete = path.join(VERSION).exists();
        let directory = Self { path: path.to_path_buf(), was_complete, _lock: lock };
        if was_complete {
            Self::check_version(path)?;
        } else {
            directory.begin().map_err(io)?;
        }
        Ok(directory)
    }

    /// Whether a store that this program can read is there; nothing is locked or made.
    pub(super) fn check(path: &Path) -> Result<(), OpenError> {
        if path.join(VERSION).exists() {
            Self::check_version(path)
        } else {
            Err(OpenError::NoStore { dir: path.to_path_buf() })
        }
    }

    /// Locks a store that is there already; nothing is made.
    pub(super) fn look(path: &Path) -> Result<Self, OpenError> {
        Self::check(path)?;
        let io = |source| OpenError::Io { path: path.to_path_buf(), source };
        let lock = file(path, LOCK).map_err(io)?;
        Self::lock(path, &lock)?;
        Ok(Self { path: path.to_path_buf(), was_complete: true, _lock: lock })
    }

    fn lock(path: &Path, lock: &File) -> Result<(), OpenError> {
        match lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => {
                Err(OpenError::Io { path: path.to_path_buf(), source })
            }
        }
    }

    fn check_version(dir: &Path) -> Result<(), OpenError> {
        let path = dir.join(VERSION);
        let found = fs::read(&path).map_err(|source| OpenError::Io { path, source })?;
        // Whatever it says, it is not what this program writes: no failure of the disk.
        let found = String::from_utf8_lossy(&found);
        if found.trim() != FORMAT_VERSION.to_string() {
            let dir = dir.to_path_buf();
            let found = found.trim().chars().take(32).collect();
            return Err(OpenError::FormatVersion { dir, found, expected: FORMAT_VERSION });
        }
        Ok(())
    }

    /// Makes the directories; what an earlier attempt left in them was never used.
    fn begin(&self) -> io::Result<()> {
        file(&self.path, CREATING)?.sync_all()?;
        sync(&self.path)?;
        for directory in [self.journal(), self.store()] {
            if directory.exists() {
                fs::remove_dir_all(&directory)?;
            }
            DirBuilder::new().mode(0o700).create(&directory)?;
        }
        sync(&self.path)
    }

    /// From now on the directory is a store. Called once the parts are in place.
    pub(super) fn complete(&self) -> Result<(), OpenError> {
        let complete = || {
            if !self.path.join(VERSION).exists() {
                let mut draft = file(&self.path, VERSION_DRAFT)?;
                draft.set_len(0)?;
                writeln!(draft, "{FORMAT_VERSION}")?;
                draft.sync_all()?;
                fs::rename(self.path.join(VERSION_DRAFT), self.path.join(VERSION))?;
                sync(&self.path)?;
            }
            match fs::remove_file(self.path.join(CREATING)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        complete().map_err(|source| OpenError::Io { path: self.path.clone(), source })
    }

    /// Whether it was a store before this opened it.
    pub(super) fn was_complete(&self) -> bool {
        self.was_complete
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// Where a store is made anew, until it is whole.
    pub(super) fn new_store(&self) -> PathBuf {
        self.path.join("sled.new")
    }

    /// There while the store is being opened: a process that never got past it left it behind.
    pub(super) fn opening(&self) -> PathBuf {
        self.path.join("sled.opening")
    }

    /// How often sled was about to be opened, in a row, and never was.
    pub(super) fn failed_openings(&self) -> u32 {
        match fs::read_to_string(self.opening()) {
            Ok(text) => text.trim().parse().unwrap_or(1),
            Err(_) => 0,
        }
    }

    /// There while the store is open: a process that did not end in order left it behind.
    pub(super) fn opened(&self) -> PathBuf {
        self.path.join("sled.open")
    }

    /// The next start finds the store as it was left.
    pub(super) fn closed_in_order(&self) -> Result<(), StoreFailure> {
        self.unmark(&[self.opened()]).map_err(|error| StoreFailure::new("close the store", error))
    }

    /// Makes a note, so that it is there after a power cut too.
    pub(super) fn mark(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        sync(&self.path)
    }

    /// Takes notes away.
    pub(super) fn unmark(&self, paths: &[PathBuf]) -> io::Result<()> {
        for path in paths {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync(&self.path)
    }

    /// Puts the store that was made anew in the place of the old one.
    pub(super) fn swap_stores(&self) -> io::Result<()> {
        if self.store().is_dir() {
            fs::remove_dir_all(self.store())?;
        } else if self.store().exists() {
            fs::remove_file(self.store())?;
        }
        fs::rename(self.new_store(), self.store())?;
        sync(&self.path)
    }
}

fn file(directory: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(name))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// But for what a start that was cut short leaves first, and what a file system puts there.
fn is_empty(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if name != LOCK && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

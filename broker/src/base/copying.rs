//! Whether somebody copies the folder right now: then nothing of it may be removed or used again.
//!
//! A copier is another process, which takes a shared lock on a file of the folder and reads. The
//! system takes the lock away when the copier ends, however it ends; meanwhile the broker goes on
//! and only keeps more of its journal.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file that copiers lock. Clones are one of them: they do not take each other for copiers.
#[derive(Debug, Clone)]
pub(crate) struct Copying(Arc<Mutex<File>>);

const NAME: &str = "copying";

impl Copying {
    /// Opens the file in the folder of a store, or makes it.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(folder.join(NAME)).map(|file| Self(Arc::new(Mutex::new(file))))
    }

    /// Runs `remove` and answers with its result, or does not, while somebody copies.
    ///
    /// # Errors
    ///
    /// What the system says of the lock.
    pub(crate) fn unless<T>(&self, remove: impl FnOnce() -> T) -> io::Result<Option<T>> {
        let file = self.file();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let removed = remove();
        file.unlock()?;
        Ok(Some(removed))
    }

    /// Keeps everything in the folder from now on until it is dropped.
    pub(crate) fn begin(folder: &Path) -> io::Result<Self> {
        let copying = Self::open(folder)?;
        copying.file().lock_shared()?;
        Ok(copying)
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_removed_while_anybody_copies() {
        let folder = tempfile::tempdir().unwrap();
        let broker = Copying::open(folder.path()).unwrap();
        assert_eq!(broker.unless(|| 1).unwrap(), Some(1));
        let one = Copying::begin(folder.path()).unwrap();
        let other = Copying::begin(folder.path()).unwrap();
        assert_eq!(broker.unless(|| 2).unwrap(), None);
        drop(one);
        assert_eq!(broker.unless(|| 3).unwrap(), None);
        drop(other);
        assert_eq!(broker.unless(|| 4).unwrap(), Some(4));
    }
}

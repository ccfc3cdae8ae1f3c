//! What the journal asks of a disk, and the system's answer.
//!
//! Few calls, none finer than a group, so that one through a trait object costs nothing beside the
//! call itself. Another disk is one that breaks by a seed. What is written is safe once the file
//! was synced, its name once the directory was: a disk may promise more, the journal never asks it.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Files by their names.
pub trait Disk: Debug + Send + Sync {
    /// Makes an empty file for reading and writing, in place of one that has the name.
    ///
    /// # Errors
    ///
    /// What the system says, as in every call of this trait and of [`DiskFile`].
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there for reading.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The length of a file, in bytes.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// The files of a directory, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Gives a file another name, in place of the file that has it. Safe after
    /// [`sync_directory`](Self::sync_directory).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file away. Safe after [`sync_directory`](Self::sync_directory).
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what files there are in a directory, and their names, safe.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// A number that nobody who sends messages can know.
    fn salt(&self) -> u32;
}

/// An open file.
pub trait DiskFile: Debug + Send {
    /// Fills as much of `into` as there is from byte `at` on, and answers with how much that is.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `bytes` from byte `at` on.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes the file this long, and room for it on the disk where that can be done.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Makes the file this long.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes what was written safe, and as much of the rest as it takes to read it.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes everything about the file safe.
    fn sync_all(&self) -> io::Result<()>;
}

/// The system's files. Those it makes are for their owner alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileDisk;

impl Disk for FileDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|file| Ok(file?.path())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn salt(&self) -> u32 {
        // The only randomness the standard library hands out; it comes from the system.
        let [s0, s1, s2, s3, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        u32::from_le_bytes([s0, s1, s2, s3])
    }
}

impl DiskFile for File {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let (mut into, mut at, mut read) = (into, at, 0);
        while !into.is_empty() {
            match FileExt::read_at(self, into, at) {
                Ok(0) => break,
                Ok(more) => {
                    (read, at) = (read + more, at + more as u64);
                    into = into.get_mut(more..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            // A file system that cannot reserve: the length alone, then.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Self::set_len(self, length)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_behind_the_end_of_a_file_gives_what_there_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = FileDisk.create(&directory.path().join("file")).unwrap();
        file.write_at(b"0123456789", 0).unwrap();
        let mut into = [0; 6];
        assert_eq!(file.read_at(&mut into, 3).unwrap(), 6);
        assert_eq!(&into, b"345678");
        assert_eq!(file.read_at(&mut into, 8).unwrap(), 2);
        assert_eq!(&into[..2], b"89");
        assert_eq!(file.read_at(&mut into, 11).unwrap(), 0);
    }
}

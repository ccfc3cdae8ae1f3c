//! Where whole files are: a folder, or memory. Each is named by the SHA-256 of its content.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::lock;
use super::uploads::Part;

/// See the file's own words.
#[derive(Debug)]
pub(super) enum Shelf {
    Folder(PathBuf),
    Memory(Mutex<HashMap<String, Bytes>>),
}

/// A file to be read.
#[derive(Debug, Clone)]
pub(crate) enum Open {
    File(Arc<File>),
    Memory(Bytes),
}

impl Shelf {
    pub(super) fn in_folder(folder: &Path) -> io::Result<Self> {
        let files = folder.join("files");
        DirBuilder::new().recursive(true).mode(0o700).create(&files)?;
        Ok(Self::Folder(files))
    }

    pub(super) fn in_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// Puts a file into its place, safe once this returns. It may be there already.
    pub(super) async fn put(&self, hash: &str, part: Part) -> io::Result<()> {
        match (self, part) {
            (Self::Folder(folder), Part::File { file, path }) => {
                let to = place(folder, hash);
                let moved = move || {
                    file.sync_all()?;
                    let dir = to.parent().unwrap_or(&to).to_owned();
                    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
                    fs::rename(&path, &to)?;
                    File::open(dir)?.sync_all()
                };
                spawn_blocking(moved).await.map_err(io::Error::other)?
            }
            (Self::Memory(files), Part::Memory(bytes)) => {
                lock(files).insert(hash.to_owned(), bytes.into());
                Ok(())
            }
            (_, part) => {
                part.remove();
                Err(io::Error::other("the upload is of another kind"))
            }
        }
    }

    pub(super) fn open(&self, hash: &str) -> Option<Open> {
        match self {
            Self::Folder(folder) => {
                File::open(place(folder, hash)).ok().map(|file| Open::File(Arc::new(file)))
            }
            Self::Memory(files) => lock(files).get(hash).cloned().map(Open::Memory),
        }
    }

    /// Nobody names it any more.
    pub(super) async fn remove(&self, hash: &str) {
        match self {
            Self::Folder(folder) => {
                let path = place(folder, hash);
                let removed = spawn_blocking(move || fs::remove_file(path)).await;
                if let Err(error) = removed.map_err(io::Error::other).and_then(|removed| removed) {
                    tracing::warn!(hash, "cannot remove a file: {error}");
                }
            }
            Self::Memory(files) => {
                lock(files).remove(hash);
            }
        }
    }
}

/// By the first letters of its name, so that no folder has too many.
fn place(folder: &Path, hash: &str) -> PathBuf {
    let (first, _) = hash.split_at_checked(2).unwrap_or(("", hash));
    folder.join(first).join(hash)
}

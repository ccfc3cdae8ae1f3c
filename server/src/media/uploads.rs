//! Uploads under way. One that is for a chat that is kept goes on behind a restart: what there is of it is
//! a file, and beside it what it is to become.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64ct::{Base64UrlUnpadded, Encoding};
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::index::GRANT_BYTES;
use super::{Media, MediaError, lock};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Where they are; none: in memory.
    folder: Option<PathBuf>,
    all: HashMap<String, Upload>,
}

/// What an upload is to become.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) user: String,
    pub(super) chat: String,
    pub(super) kind: String,
    pub(super) bytes: u64,
    /// Before this place of the chat's log nothing names it.
    pub(super) from: u64,
    pub(super) is_room: bool,
}

#[derive(Debug)]
struct Upload {
    order: Order,
    offset: u64,
    touched: Instant,
    /// None while somebody writes.
    part: Option<Part>,
}

/// What there is of a file.
#[derive(Debug)]
pub(super) enum Part {
    File { file: Arc<File>, path: PathBuf },
    Memory(Vec<u8>),
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Uploads {
    /// With those that a server before has left in the folder.
    pub(super) fn open(folder: Option<&Path>) -> io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self::default()) };
        let folder = folder.join("uploads");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut uploads = Self { folder: Some(folder.clone()), all: HashMap::new() };
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let order = fs::read(&path).ok().and_then(|it| serde_json::from_slice(&it).ok());
            let part = path.with_extension("part");
            let file = OpenOptions::new().read(true).write(true).open(&part);
            let (Some(order), Ok(file), Some(id)) =
                (order, file, path.file_stem().and_then(|it| it.to_str()))
            else {
                // Half made: nobody was told of it.
                let _gone = (fs::remove_file(&path), fs::remove_file(&part));
                continue;
            };
            let order: Order = order;
            let offset = file.metadata()?.len().min(order.bytes);
            let part = Some(Part::File { file: Arc::new(file), path: part });
            let upload = Upload { order, offset, touched: Instant::now(), part };
            uploads.all.insert(id.to_owned(), upload);
        }
        Ok(uploads)
    }

    /// Bytes that all of one kind will have, and all of a user.
    pub(super) fn bytes(&self, is_room: bool, user: &str) -> (u64, u64) {
        let sum = |of: &dyn Fn(&Order) -> bool| {
            let these = self.all.values().filter(|it| of(&it.order));
            these.map(|it| it.order.bytes.saturating_add(GRANT_BYTES)).sum()
        };
        (sum(&|it| it.is_room == is_room), sum(&|it| it.user == user))
    }

    /// Whether there may be one more, of this user.
    pub(super) fn has_room(&self, user: &str, max: usize) -> bool {
        let own = self.all.values().filter(|it| it.order.user == user).count();
        self.all.len() < max && own < PER_USER_MAX
    }

    /// A new one; its id.
    pub(super) fn begin(&mut self, order: Order) -> io::Result<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let id = Base64UrlUnpadded::encode_string(&random);
        let folder = self.folder.as_ref().filter(|_| !order.is_room);
        let part = match folder {
            None => Part::Memory(Vec::new()),
            Some(folder) => {
                let path = folder.join(&id).with_extension("part");
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(0o600);
                let file = Arc::new(options.open(&path)?);
                let mut beside = options.open(path.with_extension("json"))?;
                beside.write_all(&serde_json::to_vec(&order)?)?;
                Part::File { file, path }
            }
        };
        let upload = Upload { order, offset: 0, touched: Instant::now(), part: Some(part) };
        self.all.insert(id.clone(), upload);
        Ok(id)
    }

    pub(super) fn progress(&self, user: &str, id: &str) -> Option<Progress> {
        let upload = self.all.get(id).filter(|upload| upload.order.user == user)?;
        Some(Progress { offset: upload.offset, bytes: upload.order.bytes })
    }

    /// Takes one to write to; none: somebody has it.
    pub(super) fn take(&mut self, id: &str) -> Option<Part> {
        let upload = self.all.get_mut(id)?;
        upload.touched = Instant::now();
        upload.part.take()
    }

    fn give_back(&mut self, id: &str, offset: u64, part: Part) {
        if let Some(upload) = self.all.get_mut(id) {
            upload.offset = offset;
            upload.touched = Instant::now();
            upload.part = Some(part);
        }
    }

    /// It is whole, or given up.
    pub(super) fn forget(&mut self, id: &str) -> Option<Order> {
        if let Some(folder) = &self.folder {
            let _of_a_room = fs::remove_file(folder.join(id).with_extension("json"));
        }
        self.all.remove(id).map(|upload| upload.order)
    }

    /// Those that nobody has gone on with go.
    pub(super) fn forget_old(&mut self, now: Instant) {
        let is_old = |upload: &&Upload| {
            let age = now.saturating_duration_since(upload.touched);
            let max = if upload.order.is_room { OLD_IN_ROOM } else { OLD };
            upload.part.is_some() && age >= max
        };
        let all = self.all.iter();
        let old: Vec<String> =
            all.filter(|(_, upload)| is_old(upload)).map(|(id, _)| id.clone()).collect();
        for id in old {
            if let Some(part) = self.take(&id) {
                part.remove();
            }
            self.forget(&id);
        }
    }
}

impl Part {
    /// The hash of all of it, in hexadecimal.
    pub(super) async fn hash(self) -> io::Result<(String, Self)> {
        spawn_blocking(move || {
            let mut context = Context::new(&SHA256);
            match &self {
                Self::Memory(bytes) => context.update(bytes),
                Self::File { file, .. } => {
                    let mut file = &**file;
                    file.seek(SeekFrom::Start(0))?;
                    let mut piece = vec![0; PIECE_BYTES];
                    loop {
                        let count = file.read(&mut piece)?;
                        let Some(read) = piece.get(..count).filter(|it| !it.is_empty()) else {
                            break;
                        };
                        context.update(read);
                    }
                }
            }
            let digest = context.finish();
            let hash = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            Ok((hash, self))
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Nobody wants it.
    pub(super) fn remove(self) {
        if let Self::File { path, .. } = self {
            let _gone = fs::remove_file(path);
        }
    }
}

/// Somebody writes to an upload. What is written stays, however that ends.
#[derive(Debug)]
pub(crate) struct Writing {
    media: Arc<Media>,
    id: String,
    progress: Progress,
    part: Option<Part>,
}

impl Writing {
    pub(super) fn new(media: Arc<Media>, id: String, progress: Progress, part: Part) -> Self {
        Self { media, id, progress, part: Some(part) }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// Puts some more behind it.
    ///
    /// # Errors
    /// It is more than was said, or cannot be written.
    pub(crate) async fn append(&mut self, bytes: Bytes) -> Result<(), MediaError> {
        let Progress { offset, bytes: max } = self.progress;
        let end = offset.saturating_add(bytes.len() as u64);
        if end > max {
            return Err(MediaError::Size { max });
        }
        match &mut self.part {
            Some(Part::Memory(memory)) => memory.extend_from_slice(&bytes),
            Some(Part::File { file, .. }) => {
                let file = Arc::clone(file);
                let written = spawn_blocking(move || file.write_all_at(&bytes, offset)).await;
                written.map_err(io::Error::other)??;
            }
            None => return Err(MediaError::NotFound),
        }
        self.progress.offset = end;
        Ok(())
    }

    /// Ends it; if all is there the hash of the file, which is its chat's from then on.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(crate) async fn finish(mut self) -> Result<Option<String>, MediaError> {
        if self.progress.offset < self.progress.bytes {
            return Ok(None);
        }
        let part = self.part.take();
        let order = lock(&self.media.uploads).forget(&self.id);
        let (Some(part), Some(order)) = (part, order) else { return Err(MediaError::NotFound) };
        self.media.shelve(order, part).await.map(Some)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            lock(&self.media.uploads).give_back(&self.id, self.progress.offset, part);
        }
    }
}

/// Uploads of one user at once.
const PER_USER_MAX: usize = 8;

/// When one that nobody goes on with is given up.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// The same in a room.
const OLD_IN_ROOM: Duration = Duration::from_secs(10 * 60);

/// What is read of a file at once.
const PIECE_BYTES: usize = 256 * 1024;

//! Rows in one folder of sled's, used only in the ways that survive a power cut.
//!
//! What a newcomer would get wrong, all of it measured:
//!
//! - `flush` writes and never syncs. Here an own handle on sled's file does, after each flush.
//! - Pages over a quarter of a segment go to files of their own, which nobody syncs. So values are
//!   cut into chunks, and segments are large enough for a page of the longest keys.
//! - sled panics where others answer with an error: each call is caught, and a panic is a failure.
//! - No batches and no transactions: the journal, replayed over it, is what makes records whole.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tidings_core::record::KeyRange;

use super::super::{StoreFailure, Visitor, Wanted};

/// One tree of sled's, and the folder it is in.
pub(super) struct Tree {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    data: File,
    folder: PathBuf,
    /// The file that says that the store is not to be trusted any more.
    distrusted: PathBuf,
    is_distrusted: AtomicBool,
    /// Held for writing while the chunks of one row change, for reading while rows are read.
    chunks: RwLock<()>,
}

/// The first byte of a key in sled. On disk for ever.
const SPACE_META: u8 = 0;
const SPACE_ROWS: u8 = 1;
const SPACE_CHUNKS: u8 = 2;

/// The first byte of a row's value in sled. On disk for ever.
const VALUE_WHOLE: u8 = 0;
const VALUE_CHUNKED: u8 = 1;

/// A number that a folder keeps besides its rows: eight bytes, big-endian. On disk for ever.
#[derive(Debug, Clone, Copy)]
pub(super) enum Note {
    /// The last record whose effects are all there.
    CompleteTo = 1,
    /// About how many bytes of keys and values there are.
    LiveBytes = 2,
}

/// The longest value in sled, in bytes, with the byte in front of it.
const CHUNK_BYTES: usize = 4_096;

/// sled makes a file of its own of every page over a quarter of this. Its largest page is an inner
/// one: 257 keys of 1,537 bytes.
const SEGMENT_BYTES: usize = 2 << 20;

impl Tree {
    /// Opens or creates `folder` of the store in `directory`.
    pub(super) fn open(
        folder: &Path,
        directory: &Path,
        cache_bytes: u64,
    ) -> Result<Self, StoreFailure> {
        remove_drafts(folder).map_err(cannot_open)?;
        let db = caught(OPEN, || open_patiently(folder, cache_bytes))?;
        let data = File::open(folder.join("db")).map_err(cannot_open)?;
        secure(folder).map_err(cannot_open)?;
        let (db, chunks, folder) = (Some(db), RwLock::new(()), folder.to_path_buf());
        let (distrusted, is_distrusted) = (distrust_file(directory), AtomicBool::new(false));
        Ok(Self { db, data, folder, distrusted, is_distrusted, chunks })
    }

    fn with<T>(
        &self,
        operation: &'static str,
        f: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, StoreFailure> {
        let db = self.db.as_ref().ok_or_else(|| StoreFailure::new(operation, "closed"))?;
        caught(operation, || f(db)).inspect_err(|failure| self.distrust(failure))
    }

    /// Leaves a word for the next start, which then makes the store anew instead of failing as this
    /// one did, again and again.
    fn distrust(&self, failure: &StoreFailure) {
        if !failure.is_damage || self.is_distrusted.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = fs::write(&self.distrusted, format!("{failure}\n")) {
            tracing::error!("cannot write {:?}: {error}", self.distrusted);
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its file takes on the disk.
    pub(super) fn disk_bytes(&self) -> Result<u64, StoreFailure> {
        let blocks = self.data.metadata().map(|metadata| metadata.blocks().saturating_mul(512));
        blocks.map_err(|error| StoreFailure::new("look at the store", error))
    }

    /// Returns once everything put and deleted is durable.
    pub(super) fn flush(&self) -> Result<(), StoreFailure> {
        self.with("flush the store", |db| db.flush())?;
        self.data.sync_data().map_err(|error| StoreFailure::new("sync the store", error))
    }

    pub(super) fn note(&self, note: Note, number: u64) -> Result<(), StoreFailure> {
        let key = [SPACE_META, note as u8];
        self.with("write to the store", |db| db.insert(key, &number.to_be_bytes()))?;
        Ok(())
    }

    pub(super) fn noted(&self, note: Note) -> Result<Option<u64>, StoreFailure> {
        let key = [SPACE_META, note as u8];
        let value = self.with("read from the store", |db| db.get(key))?;
        Ok(value.and_then(|value| value.first_chunk().copied()).map(u64::from_be_bytes))
    }

    /// Puts a row; about how many bytes that row took before.
    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> Result<u64, StoreFailure> {
        self.with("write to the store", |db| {
            let row = row_key(key);
            let old = db.get(&row)?;
            let took = old.as_ref().map_or(0, |old| bytes_of(key, old));
            let before = old.map_or(0, |old| chunk_count(&old));
            if value.len() < CHUNK_BYTES && before == 0 {
                db.insert(row, prefixed(VALUE_WHOLE, value))?;
                return Ok(took);
            }
            let _alone = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
            // Too many first, the row itself last: whatever a crash leaves, the row names at
            // least the chunks there are, and writing it again leaves none behind.
            let chunks = if value.len() < CHUNK_BYTES { &[] } else { value }.chunks(CHUNK_BYTES);
            let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
            for index in count..before {
                db.remove(chunk_key(key, index))?;
            }
            let head = if count == 0 {
                prefixed(VALUE_WHOLE, value)
            } else {
                let head = prefixed(VALUE_CHUNKED, &count.to_be_bytes());
                if before < count {
                    db.insert(&row, &head[..])?;
                }
                for (index, chunk) in (0..count).zip(chunks) {
                    db.insert(chunk_key(key, index), chunk)?;
                }
                head
            };
            db.insert(row, head)?;
            Ok(took)
        })
    }

    /// Deletes a row; about how many bytes it took, if it was there.
    pub(super) fn delete(&self, key: &[u8]) -> Result<Option<u64>, StoreFailure> {
        self.with("write to the store", |db| {
            let row = row_key(key);
            let Some(old) = db.get(&row)? else { return Ok(None) };
            let count = chunk_count(&old);
            let _alone =
                (count > 0).then(|| self.chunks.write().unwrap_or_else(PoisonError::into_inner));
            for index in 0..count {
                db.remove(chunk_key(key, index))?;
            }
            db.remove(row)?;
            Ok(Some(bytes_of(key, &old)))
        })
    }

    pub(super) fn visit(
        &self,
        range: &KeyRange,
        backwards: bool,
        visitor: &mut dyn Visitor,
    ) -> Result<(), StoreFailure> {
        if range.end.as_ref().is_some_and(|end| *end <= range.start) {
            return Ok(());
        }
        let start = row_key(&range.start);
        let end = range.end.as_ref().map_or_else(|| vec![SPACE_CHUNKS], |end| row_key(end));
        self.with("read from the store", |db| {
            let _unchanged = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
            let mut rows = db.range(start..end);
            while let Some(row) = if backwards { rows.next_back() } else { rows.next() } {
                let (row, value) = row?;
                let key = row.strip_prefix(&[SPACE_ROWS]).unwrap_or_default();
                match visitor.meet(key) {
                    Wanted::Value => visitor.take(key, value_of(db, key, &value)?),
                    Wanted::Skip => {}
                    Wanted::Stop => break,
                }
            }
            Ok(())
        })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // sled flushes here, and panics when it cannot.
        let db = self.db.take();
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::error!("cannot close the store: it panicked");
        }
    }
}

fn row_key(key: &[u8]) -> Vec<u8> {
    prefixed(SPACE_ROWS, key)
}

fn chunk_key(key: &[u8], index: u32) -> Vec<u8> {
    let mut bytes = prefixed(SPACE_CHUNKS, key);
    bytes.extend_from_slice(&index.to_be_bytes());
    bytes
}

fn prefixed(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rest.len() + 5);
    bytes.push(first);
    bytes.extend_from_slice(rest);
    bytes
}

/// How many chunks a row's value in sled refers to.
fn chunk_count(value: &[u8]) -> u32 {
    match value {
        [VALUE_CHUNKED, count @ ..] => {
            count.first_chunk().map_or(0, |count| u32::from_be_bytes(*count))
        }
        _ => 0,
    }
}

/// About what a row takes, from its value in sled.
fn bytes_of(key: &[u8], value: &[u8]) -> u64 {
    let value = match chunk_count(value) {
        0 => value.len(),
        count => CHUNK_BYTES.saturating_mul(count as usize),
    };
    (key.len() + value) as u64
}

fn value_of(tree: &sled::Db, key: &[u8], value: &[u8]) -> Result<Bytes, sled::Error> {
    if let [VALUE_WHOLE, value @ ..] = value {
        return Ok(Bytes::copy_from_slice(value));
    }
    let count = chunk_count(value);
    let mut whole = Vec::new();
    for index in 0..count {
        let chunk = tree.get(chunk_key(key, index))?.ok_or_else(|| {
            sled::Error::ReportableBug(format!("chunk {index} of {count} of a row is missing"))
        })?;
        whole.extend_from_slice(&chunk);
    }
    if count == 0 {
        return Err(sled::Error::ReportableBug("a row has no value".to_owned()));
    }
    Ok(Bytes::from(whole))
}

/// The file beside sled's `directory` that says that it is not to be trusted, and why.
pub(crate) fn distrust_file(directory: &Path) -> PathBuf {
    directory.with_extension("distrusted")
}

fn caught<T>(
    operation: &'static str,
    f: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, StoreFailure> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|error| {
            let is_damage = is_damage(&error);
            StoreFailure { is_damage, ..StoreFailure::new(operation, error) }
        }),
        Err(panic) => {
            let text = panic_text(&*panic);
            let is_damage = !blames_the_system(&text);
            Err(StoreFailure { is_damage, ..StoreFailure::new(operation, text) })
        }
    }
}

/// Whether an error comes of what is in sled's files. A full or failing disk, a limit or a missing
/// right is mended elsewhere, and a store made anew would only meet it again.
fn is_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Io(error) => is_damage_of_files(error),
        _ => true,
    }
}

const OPEN: &str = "open the store";

/// What the system says of the store's own files while they are opened.
pub(super) fn cannot_open(error: io::Error) -> StoreFailure {
    let is_damage = is_damage_of_files(&error);
    StoreFailure { is_damage, ..StoreFailure::new(OPEN, error) }
}

fn is_damage_of_files(error: &io::Error) -> bool {
    use io::ErrorKind::{
        OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, ResourceBusy,
        StorageFull, WouldBlock,
    };
    let text = error.to_string();
    let of_the_system = matches!(
        error.kind(),
        OutOfMemory
            | PermissionDenied
            | QuotaExceeded
            | ReadOnlyFilesystem
            | ResourceBusy
            | StorageFull
            | WouldBlock
    );
    !of_the_system && !blames_the_system(&text) && !text.contains("acquire lock")
}

/// sled hands errors of the system on as text: EIO, EAGAIN, ENOMEM, EACCES, ENFILE, EMFILE, ENOSPC,
/// EROFS and EDQUOT.
fn blames_the_system(text: &str) -> bool {
    [5, 11, 12, 13, 23, 24, 28, 30, 122].iter().any(|code| {
        text.contains(&format!("os error {code})")) || text.contains(&format!("code: {code},"))
    })
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a word"))
}

/// sled's threads may hold its lock for a moment after it was dropped in this process. Other
/// processes are kept out by the directory's own lock.
fn open_patiently(directory: &Path, cache_bytes: u64) -> Result<sled::Db, sled::Error> {
    const TRIES: u32 = 200;
    let mut tries = 0;
    loop {
        let opened = sled::Config::new()
            .path(directory)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None)
            .open();
        tries += 1;
        match opened {
            Err(sled::Error::Io(error))
                if tries < TRIES && error.to_string().contains("acquire lock") =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// A snapshot that sled was writing when it was killed looks like the newest one to it.
fn remove_drafts(directory: &Path) -> io::Result<()> {
    for file in files(directory)? {
        if file.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Makes what sled created readable by its owner only, and safe: sled syncs neither its
/// configuration nor the directory.
fn secure(directory: &Path) -> io::Result<()> {
    for file in files(directory)? {
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        File::open(&file)?.sync_all()?;
    }
    File::open(directory)?.sync_all()
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

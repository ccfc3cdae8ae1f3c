//! The store on disk: sled 0.34.7, used only in the ways that survive a power cut.
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
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tidings_core::record::KeyRange;

use super::{Store, StoreFailure, Visitor, Wanted};

/// A [`Store`] in a directory of sled's.
pub struct SledStore {
    /// `None` only while it is dropped.
    tree: Option<sled::Db>,
    data: File,
    /// The file that says that the store is not to be trusted any more.
    distrusted: PathBuf,
    is_distrusted: AtomicBool,
    /// Held for writing while the chunks of one row change, for reading while rows are read.
    chunks: RwLock<()>,
}

// sled's own would print the tree.
impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").finish_non_exhaustive()
    }
}

/// The first byte of a key in sled. On disk for ever.
const SPACE_META: u8 = 0;
const SPACE_ROWS: u8 = 1;
const SPACE_CHUNKS: u8 = 2;

/// The first byte of a row's value in sled. On disk for ever.
const VALUE_WHOLE: u8 = 0;
const VALUE_CHUNKED: u8 = 1;

/// How far the store is complete: eight bytes, big-endian.
const COMPLETE_TO: [u8; 2] = [SPACE_META, 1];

/// The longest value in sled, in bytes, with the byte in front of it.
const CHUNK_BYTES: usize = 4_096;

/// sled makes a file of its own of every page over a quarter of this. Its largest page is an inner
/// one: 257 keys of 1,537 bytes.
const SEGMENT_BYTES: usize = 2 << 20;

impl SledStore {
    /// Opens or creates the store; the directory above it exists.
    ///
    /// `cache_bytes` bounds sled's cache; it takes up to four times as much.
    ///
    /// # Errors
    ///
    /// Anything sled says, and any panic of it.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, StoreFailure> {
        const OPERATION: &str = "open the store";
        let io = |error: io::Error| {
            let is_damage = is_damage_of_files(&error);
            StoreFailure { is_damage, ..StoreFailure::new(OPERATION, error) }
        };
        remove_drafts(directory).map_err(io)?;
        let tree = caught(OPERATION, || open_patiently(directory, cache_bytes))?;
        let data = File::open(directory.join("db")).map_err(io)?;
        secure(directory).map_err(io)?;
        let (tree, chunks) = (Some(tree), RwLock::new(()));
        let (distrusted, is_distrusted) = (distrust_file(directory), AtomicBool::new(false));
        Ok(Self { tree, data, distrusted, is_distrusted, chunks })
    }

    fn with<T>(
        &self,
        operation: &'static str,
        f: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, StoreFailure> {
        let tree = self.tree.as_ref().ok_or_else(|| StoreFailure::new(operation, "closed"))?;
        caught(operation, || f(tree)).inspect_err(|failure| self.distrust(failure))
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

    fn flush_and_sync(&self) -> Result<(), StoreFailure> {
        self.with("flush the store", |tree| tree.flush())?;
        self.data.sync_data().map_err(|error| StoreFailure::new("sync the store", error))
    }
}

impl Store for SledStore {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreFailure> {
        self.with("write to the store", |tree| {
            let row = row_key(key);
            let before = tree.get(&row)?.map_or(0, |old| chunk_count(&old));
            if value.len() < CHUNK_BYTES && before == 0 {
                tree.insert(row, prefixed(VALUE_WHOLE, value))?;
                return Ok(());
            }
            let _alone = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
            // Too many first, the row itself last: whatever a crash leaves, the row names at
            // least the chunks there are, and writing it again leaves none behind.
            let chunks = if value.len() < CHUNK_BYTES { &[] } else { value }.chunks(CHUNK_BYTES);
            let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
            for index in count..before {
                tree.remove(chunk_key(key, index))?;
            }
            let head = if count == 0 {
                prefixed(VALUE_WHOLE, value)
            } else {
                let head = prefixed(VALUE_CHUNKED, &count.to_be_bytes());
                if before < count {
                    tree.insert(&row, &head[..])?;
                }
                for (index, chunk) in (0..count).zip(chunks) {
                    tree.insert(chunk_key(key, index), chunk)?;
                }
                head
            };
            tree.insert(row, head)?;
            Ok(())
        })
    }

    fn delete(&self, key: &[u8]) -> Result<bool, StoreFailure> {
        self.with("write to the store", |tree| {
            let row = row_key(key);
            let Some(old) = tree.get(&row)? else { return Ok(false) };
            let count = chunk_count(&old);
            let _alone =
                (count > 0).then(|| self.chunks.write().unwrap_or_else(PoisonError::into_inner));
            for index in 0..count {
                tree.remove(chunk_key(key, index))?;
            }
            tree.remove(row)?;
            Ok(true)
        })
    }

    fn visit(
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
        self.with("read from the store", |tree| {
            let _unchanged = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
            let mut rows = tree.range(start..end);
            while let Some(row) = if backwards { rows.next_back() } else { rows.next() } {
                let (row, value) = row?;
                let key = row.strip_prefix(&[SPACE_ROWS]).unwrap_or_default();
                match visitor.meet(key) {
                    Wanted::Value => visitor.take(key, value_of(tree, key, &value)?),
                    Wanted::Skip => {}
                    Wanted::Stop => break,
                }
            }
            Ok(())
        })
    }

    fn flush(&self, complete_to: u64) -> Result<(), StoreFailure> {
        // Twice: the number must never be durable before what it speaks of.
        self.flush_and_sync()?;
        self.with("write to the store", |tree| {
            tree.insert(COMPLETE_TO, &complete_to.to_be_bytes())
        })?;
        self.flush_and_sync()
    }

    fn complete_to(&self) -> Result<u64, StoreFailure> {
        let value = self.with("read from the store", |tree| tree.get(COMPLETE_TO))?;
        Ok(value.and_then(|value| value.first_chunk().copied()).map_or(0, u64::from_be_bytes))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // sled flushes here, and panics when it cannot.
        let tree = self.tree.take();
        if catch_unwind(AssertUnwindSafe(|| drop(tree))).is_err() {
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

//! Rows in sled, used only in the ways that survive a power cut.
//!
//! What a newcomer would get wrong, all of it measured on the broker's side:
//!
//! - `flush` writes and never syncs. Here an own handle on sled's file does, behind each write.
//! - Pages over a quarter of a segment go to files of their own, which nobody syncs. So long values
//!   are cut into chunks.
//! - sled panics where others answer with an error: each call is caught, and a panic is a failure.
//! - It keeps what it once took from the disk: where most of its file is waste, opening it moves the
//!   rows to a new one.

use super::{Change, Row, Store};
use crate::error::StoreError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A [`Store`] in a directory, for one client at a time.
pub struct SledStore {
    db: ::sled::Db,
    data: File,
    directory: PathBuf,
    poisoned: AtomicBool,
    notice: Option<String>,
    /// Held for its lock.
    _lock: File,
}

// sled's own would print the rows.
impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens or creates the store in a directory of its own, readable by its owner only.
    ///
    /// # Errors
    ///
    /// The directory cannot be used, is in use by another client, or is damaged.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        create_private(directory).map_err(|source| io_error("create", directory, source))?;
        let lock_path = directory.join("lock");
        let lock = private(&lock_path).map_err(|source| io_error("open", &lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: lock_path }),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &lock_path, source)),
        }
        let path = directory.join(FOLDER);
        let tidied = tidy(directory).map_err(|source| io_error("tidy", directory, source));
        tidied?;
        let mut db = open(&path)?;
        if caught(|| db.size_on_disk())? > WASTE_BYTES {
            db = without_waste(directory, db)?;
        }
        let file = path.join("db");
        let data = File::open(&file).map_err(|source| io_error("open", &file, source))?;
        let older = directory.join("outbox").is_file();
        let notice = older.then(|| {
            "unsent messages of version 0.0 are in the file `outbox`, which is not read any more"
                .to_owned()
        });
        let (directory, poisoned) = (directory.to_owned(), AtomicBool::new(false));
        Ok(Self { db, data, directory, poisoned, notice, _lock: lock })
    }

    fn apply(&self, change: &Change) -> Result<(), ::sled::Error> {
        match change {
            Change::Put { key, value } => self.put(key, value),
            Change::Delete { key } => self.delete(&row_key(key)),
            Change::DeleteRange { from, to } => {
                for row in self.db.range(row_key(from)..row_key(to)) {
                    self.delete(&row?.0)?;
                }
                Ok(())
            }
        }
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), ::sled::Error> {
        let row = row_key(key);
        let old = self.db.get(&row)?.as_deref().and_then(Chunks::of);
        if value.len() < CHUNK_BYTES {
            let mut whole = Vec::with_capacity(value.len() + 1);
            whole.push(WHOLE);
            whole.extend(value);
            self.db.insert(&row, whole)?;
        } else {
            // Under a number of their own: until the row names them, the old ones count.
            let number = old.as_ref().map_or(0, |old| old.number.wrapping_add(1));
            let count = u32::try_from(value.chunks(CHUNK_BYTES).len()).unwrap_or(u32::MAX);
            let new = Chunks { number, count };
            for (index, chunk) in (0..count).zip(value.chunks(CHUNK_BYTES)) {
                self.db.insert(new.key(&row, index), chunk)?;
            }
            self.db.insert(&row, &new.to_bytes()[..])?;
        }
        self.delete_chunks(&row, old)
    }

    fn delete(&self, row: &[u8]) -> Result<(), ::sled::Error> {
        let old = self.db.remove(row)?;
        self.delete_chunks(row, old.as_deref().and_then(Chunks::of))
    }

    fn delete_chunks(&self, row: &[u8], chunks: Option<Chunks>) -> Result<(), ::sled::Error> {
        let Some(chunks) = chunks else { return Ok(()) };
        for index in 0..chunks.count {
            self.db.remove(chunks.key(row, index))?;
        }
        Ok(())
    }

    /// None for a row that went meanwhile.
    fn value(&self, row: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, ::sled::Error> {
        let Some(chunks) = Chunks::of(value) else {
            return Ok(Some(value.get(1..).unwrap_or_default().to_vec()));
        };
        let mut whole = Vec::new();
        for index in 0..chunks.count {
            let Some(chunk) = self.db.get(chunks.key(row, index))? else { return Ok(None) };
            whole.extend_from_slice(&chunk);
        }
        Ok(Some(whole))
    }

    fn rows(
        &self,
        range: Range<&[u8]>,
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Row>, ::sled::Error> {
        let mut found = Vec::new();
        let mut rows = self.db.range(row_key(range.start)..row_key(range.end));
        while found.len() < limit {
            let next = if backwards { rows.next_back() } else { rows.next() };
            let Some(next) = next else { break };
            let (row, value) = next?;
            if let Some(value) = self.value(&row, &value)? {
                found.push((row.get(1..).unwrap_or_default().to_vec(), value));
            }
        }
        Ok(found)
    }
}

impl Store for SledStore {
    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned);
        }
        let written = caught(|| {
            changes.iter().try_for_each(|change| self.apply(change))?;
            self.db.flush()
        });
        let synced = written.and_then(|_| {
            self.data.sync_data().map_err(|source| io_error("sync", &self.directory, source))
        });
        self.poisoned.store(synced.is_err(), Ordering::Release);
        synced
    }

    fn read(
        &self,
        range: Range<&[u8]>,
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if range.start >= range.end {
            return Ok(Vec::new());
        }
        caught(|| self.rows(range, backwards, limit))
    }

    fn notice(&self) -> Option<String> {
        self.notice.clone()
    }
}

/// Where a long value is.
#[derive(Debug, Clone, Copy)]
struct Chunks {
    number: u32,
    count: u32,
}

impl Chunks {
    fn of(value: &[u8]) -> Option<Self> {
        let rest = value.strip_prefix(&[CHUNKED])?;
        let (number, rest) = rest.split_first_chunk()?;
        let (count, _) = rest.split_first_chunk()?;
        Some(Self { number: u32::from_be_bytes(*number), count: u32::from_be_bytes(*count) })
    }

    fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.number.to_be_bytes(), self.count.to_be_bytes()];
        [&[CHUNKED][..], &numbers.concat()].concat()
    }

    fn key(self, row: &[u8], index: u32) -> Vec<u8> {
        let mut key = vec![SPACE_CHUNKS];
        key.extend(row);
        key.extend(self.number.to_be_bytes());
        key.extend(index.to_be_bytes());
        key
    }
}

fn row_key(key: &[u8]) -> Vec<u8> {
    let mut row = vec![SPACE_ROWS];
    row.extend(key);
    row
}

fn open(path: &Path) -> Result<::sled::Db, StoreError> {
    let config = ::sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        match caught(|| config.open()) {
            // An earlier one of this process may be letting go of the file right now.
            Err(StoreError::Io { source, .. })
                if source.kind() == io::ErrorKind::WouldBlock
                    && std::time::Instant::now() < deadline =>
            {
                std::thread::yield_now();
            }
            opened => return opened,
        }
    }
}

/// Moves the rows to a new file, if they are few for the old one.
fn without_waste(directory: &Path, db: ::sled::Db) -> Result<::sled::Db, StoreError> {
    let live = caught(|| {
        let bytes = |row: Result<(::sled::IVec, ::sled::IVec), _>| {
            row.map(|(key, value)| (key.len() + value.len()) as u64)
        };
        db.iter().map(bytes).sum::<Result<u64, ::sled::Error>>()
    })?;
    if caught(|| db.size_on_disk())? < live.saturating_mul(WASTE_FACTOR) + WASTE_BYTES {
        return Ok(db);
    }
    let (path, new) = (directory.join(FOLDER), directory.join(NEW));
    let fresh = open(&new)?;
    caught(|| {
        for row in db.iter() {
            let (key, value) = row?;
            fresh.insert(key, value)?;
        }
        fresh.flush()
    })?;
    drop((fresh, db));
    let moved = File::open(new.join("db"))
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&path, directory.join(OLD)))
        .and_then(|()| std::fs::rename(&new, &path))
        .and_then(|()| File::open(directory)?.sync_all())
        .and_then(|()| std::fs::remove_dir_all(directory.join(OLD)));
    moved.map_err(|source| io_error("move the rows of", directory, source))?;
    open(&path)
}

/// Finishes or takes back a move that a crash cut short.
fn tidy(directory: &Path) -> io::Result<()> {
    let [path, new, old] = [FOLDER, NEW, OLD].map(|name| directory.join(name));
    if old.exists() && !path.exists() {
        std::fs::rename(&old, &path)?;
    }
    for half in [new, old] {
        if half.exists() {
            std::fs::remove_dir_all(half)?;
        }
    }
    Ok(())
}

fn caught<T>(f: impl FnOnce() -> Result<T, ::sled::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(::sled::Error::Io(source))) => {
            Err(StoreError::Io { action: "use the store", path: PathBuf::from(FOLDER), source })
        }
        Ok(Err(error)) => Err(StoreError::Damaged { what: error.to_string() }),
        Err(_) => Err(StoreError::Damaged { what: "the store panicked".to_owned() }),
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}

/// Messages are private: nobody but the owner reads them.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

const FOLDER: &str = "store";
const NEW: &str = "store.new";
const OLD: &str = "store.old";

// The first byte of a key, and of a row's value, in sled. On disk for ever.
const SPACE_ROWS: u8 = 1;
const SPACE_CHUNKS: u8 = 2;
const WHOLE: u8 = 0;
const CHUNKED: u8 = 1;

/// The longest value in sled: 17 of them are a page, far below a quarter of its segments of 512 KiB.
const CHUNK_BYTES: usize = 4_096;

/// sled takes up to four times as much.
const CACHE_BYTES: u64 = 4 << 20;

/// What the file may waste whatever there is, and how many times its rows it may take besides.
const WASTE_BYTES: u64 = 64 << 20;
const WASTE_FACTOR: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tidings-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    fn put(key: &[u8], value: Vec<u8>) -> Change {
        Change::Put { key: key.to_vec(), value }
    }

    fn all(store: &SledStore) -> Vec<Row> {
        store.read(&[0]..&[255], false, 99).unwrap()
    }

    #[test]
    fn rows_long_and_short_are_there_after_opening_again() {
        let path = folder("rows");
        let long = |byte: u8| vec![byte; 3 * CHUNK_BYTES + 5];
        let store = SledStore::open(&path).unwrap();
        store.write(&[put(b"a", long(1)), put(b"b", vec![2]), put(b"c", long(3))]).unwrap();
        store.write(&[put(b"a", long(4)), put(b"c", vec![5])]).unwrap();
        assert!(matches!(SledStore::open(&path), Err(StoreError::InUse { .. })));
        drop(store);
        let store = SledStore::open(&path).unwrap();
        let expected =
            [(b"a".to_vec(), long(4)), (b"b".to_vec(), vec![2]), (b"c".to_vec(), vec![5])];
        assert_eq!(all(&store), expected);
        let backwards = store.read(b"a"..b"c", true, 1).unwrap();
        assert_eq!(backwards, [(b"b".to_vec(), vec![2])]);
        let (from, to) = (b"a".to_vec(), b"b".to_vec());
        store.write(&[Change::DeleteRange { from, to }]).unwrap();
        assert_eq!(all(&store).len(), 2);
        // No chunk is left of what was long once.
        let chunks = store.db.scan_prefix([SPACE_CHUNKS]).count();
        assert_eq!(chunks, 0);
        let _ = std::fs::remove_dir_all(&path);
    }

    #[test]
    fn waste_is_left_behind_and_a_move_that_was_cut_short_is_taken_back() {
        let path = folder("waste");
        let store = SledStore::open(&path).unwrap();
        store.write(&[put(b"kept", vec![7; 9_000])]).unwrap();
        drop(store);
        let db = open(&path.join(FOLDER)).unwrap();
        // As if the file were large: whatever its size, the move keeps every row.
        let moved = without_waste(&path, db).unwrap();
        drop(moved);
        std::fs::rename(path.join(FOLDER), path.join(OLD)).unwrap();
        std::fs::create_dir(path.join(NEW)).unwrap();
        let store = SledStore::open(&path).unwrap();
        assert_eq!(all(&store), [(b"kept".to_vec(), vec![7; 9_000])]);
        let _ = std::fs::remove_dir_all(&path);
    }
}

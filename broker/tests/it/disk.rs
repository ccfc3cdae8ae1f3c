//! The order in which the journal asks a disk for things, where another order would lose records.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tidings_broker::journal::{
    Disk, DiskFile, FileDisk, FileJournal, FileJournalOptions, Group, Journal,
};
use tidings_core::slot::ShardId;

use crate::support::put;

/// What was asked for, in order, by the names of files.
type Log = Arc<Mutex<Vec<String>>>;

/// The system's disk, and a record of what it is asked for.
#[derive(Debug, Default)]
struct Recorder {
    log: Log,
    /// Syncs of data fail.
    fails: Arc<Mutex<bool>>,
}

impl Recorder {
    fn note(&self, what: &str, path: &Path) {
        let name = path.file_name().unwrap().to_string_lossy();
        self.log.lock().unwrap().push(format!("{what} {name}"));
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let (log, fails) = (Arc::clone(&self.log), Arc::clone(&self.fails));
        Box::new(RecordedFile { log, fails, file, path: path.to_path_buf() })
    }
}

impl Disk for Recorder {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, FileDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, FileDisk.open(path)?))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, FileDisk.open_to_read(path)?))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        FileDisk.length(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        FileDisk.list(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", from);
        FileDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        FileDisk.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.log.lock().unwrap().push("sync names".to_owned());
        FileDisk.sync_directory(directory)
    }

    fn salt(&self) -> u32 {
        7
    }
}

#[derive(Debug)]
struct RecordedFile {
    log: Log,
    fails: Arc<Mutex<bool>>,
    file: Box<dyn DiskFile>,
    path: PathBuf,
}

impl RecordedFile {
    fn note(&self, what: &str) {
        let name = self.path.file_name().unwrap().to_string_lossy();
        self.log.lock().unwrap().push(format!("{what} {name}"));
    }
}

impl DiskFile for RecordedFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.note(&format!("write {} at {at}", bytes.len()));
        self.file.write_at(bytes, at)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        if *self.fails.lock().unwrap() {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.note("sync");
        self.file.sync_all()
    }
}

/// A journal of small segments on a recorded disk.
fn journal(directory: &Path) -> (FileJournal, Log, Arc<Mutex<bool>>) {
    let disk = Recorder::default();
    let (log, fails) = (Arc::clone(&disk.log), Arc::clone(&disk.fails));
    let options = FileJournalOptions {
        directory: directory.to_path_buf(),
        segment_bytes: 8 << 10,
        sync: true,
    };
    (FileJournal::on(Arc::new(disk), options), log, fails)
}

fn group(length: usize) -> Group {
    let mut group = Group::default();
    group.push(ShardId(0), &[put(b"key", &vec![1; length])]).unwrap();
    group
}

fn place(log: &[String], wanted: &str, from: usize) -> usize {
    let found = log.iter().skip(from).position(|it| it.starts_with(wanted));
    from + found.unwrap_or_else(|| panic!("no `{wanted}` behind {from}: {log:?}"))
}

#[test]
fn a_segment_is_written_over_only_once_its_old_name_is_gone_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, log, _) = journal(dir.path());
    journal.replay(0, &mut |_| {}).unwrap();
    for _ in 0..4 {
        journal.append(&mut group(2_000)).unwrap();
    }
    log.lock().unwrap().clear();
    journal.forget(3).unwrap();
    for _ in 0..4 {
        journal.append(&mut group(2_000)).unwrap();
    }
    let log = log.lock().unwrap();
    let renamed = place(&log, "rename journal-", 0);
    let synced = place(&log, "sync names", renamed);
    let reused = log.iter().position(|it| it.contains("spare-") && it.starts_with("write"));
    assert!(reused.is_some_and(|reused| reused > synced), "{log:?}");
}

#[test]
fn what_a_failed_sync_left_is_written_again_before_it_counts_as_stored() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut journal, _, fails) = journal(dir.path());
        journal.replay(0, &mut |_| {}).unwrap();
        journal.append(&mut group(10)).unwrap();
        journal.append(&mut group(10)).unwrap();
        *fails.lock().unwrap() = true;
        assert!(journal.append(&mut group(1_000)).is_err());
    }
    let (mut journal, log, _) = journal(dir.path());
    let mut found = 0;
    // The store has the first record: that one is safe without the journal.
    journal.replay(1, &mut |_| found += 1).unwrap();
    assert_eq!(found, 2, "nobody can tell that the last was not synced");
    let log = log.lock().unwrap();
    // What begins behind the last record is made to be none.
    let written = place(&log, "write 24 at", 0) + 1;
    assert!(log[written].starts_with("write "), "{log:?}");
    let length: usize = log[written].split(' ').nth(1).unwrap().parse().unwrap();
    assert!((1_000..1_300).contains(&length), "both records, and not the first: {log:?}");
    assert!(log[written].contains("journal-"), "{log:?}");
    assert_eq!(log[written + 1], format!("sync {}", log[written].rsplit(' ').next().unwrap()));
}

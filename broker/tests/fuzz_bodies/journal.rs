//! What must hold of a journal on a disk that broke: the body of a fuzz target, as a plain function.
//!
//! An input spells records in groups, restarts between them, and what becomes of the files: cut,
//! flipped, overwritten, sectors of the last group that never arrived, files missing or doubled.
//! Whatever it is, reading the journal back does not panic, and answers in one of two ways:
//!
//! - with the first of the records as they were, at least all those before the damage; and nothing
//!   of a later group than the first one missing is left on the disk unread;
//! - with an error that names a file and a place in it, and only if something was damaged that had
//!   been acknowledged.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which fail where they panic"
)]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tidings_broker::journal::{
    Entry, FileJournal, FileJournalOptions, Group, Journal, Recovered, ReplayError,
};
use tidings_core::record::Op;
use tidings_core::slot::ShardId;

/// Writes the journal that `data` spells into `directory`, which is empty, breaks it, and reads it
/// back.
pub(crate) fn any_bytes(data: &[u8], directory: &Path) {
    let mut choices = Choices(data);
    let mut written = Written::new(&mut choices, directory);
    // What a power cut may do comes first, because only it can be undone to be looked at.
    let harmless = match choices.below(3) {
        0 => true,
        1 => written.tear(&mut choices),
        _ => {
            for _ in 0..=choices.below(3) {
                written.damage(&mut choices, directory);
            }
            false
        }
    };
    let (spoilt, records) = (written.first_spoilt(), written.records.len());
    match replay(directory) {
        Ok((recovered, found)) => {
            assert_eq!(recovered.last, found.len() as u64);
            for (entry, record) in found.iter().zip(&written.records) {
                assert_eq!((&entry.ops, entry.shard), (&record.ops, ShardId(record.shard)));
            }
            assert!(found.len() <= records, "{} of {records} records", found.len());
            assert!(found.len() >= spoilt, "{} records, {spoilt} before the damage", found.len());
            if let Some(lost) = written.records.get(found.len()) {
                let mut behind = written.records[found.len()..].iter();
                let whole = behind.find(|it| !it.is_spoilt && it.group != lost.group);
                assert!(whole.is_none(), "a later group is whole, and nobody says so: {whole:?}");
            }
            written.goes_on_behind(&found, directory);
        }
        Err(error) => {
            assert!(!harmless, "a torn tail is no damage: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
            match error {
                ReplayError::Damaged { file, offset, .. } => {
                    let length = fs::metadata(&file).map_or(0, |file| file.len());
                    assert!(file.starts_with(directory), "{file:?}");
                    // A file may have been cut before the place where its first record was due.
                    let end = length.max(DATA_START as u64);
                    assert!(offset <= end || !file.is_file(), "{file:?}: {offset}");
                }
                ReplayError::FormatVersion { file, .. } => assert!(file.starts_with(directory)),
                other => panic!("{other}"),
            }
        }
    }
}

/// One choice after the other; 0 where there are none left.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % end
    }

    /// A number for places in files.
    fn place(&mut self, end: usize) -> usize {
        let (high, low) = (self.below(256), self.below(256));
        (high << 8 | low) % end.max(1)
    }
}

#[derive(Debug)]
struct Record {
    ops: Vec<Op>,
    shard: u16,
    group: usize,
    file: PathBuf,
    start: usize,
    end: usize,
    is_spoilt: bool,
}

/// A journal and what was written to it.
struct Written {
    records: Vec<Record>,
    groups: usize,
    /// The last file as it was before the last group.
    before: Option<(PathBuf, Vec<u8>)>,
}

impl Written {
    fn new(choices: &mut Choices<'_>, directory: &Path) -> Self {
        let mut journal = open(directory);
        journal.replay(0, &mut |_| {}).unwrap();
        let mut written = Self { records: Vec::new(), groups: 0, before: None };
        for _ in 0..=choices.below(6) {
            written.append(choices, &mut journal, directory);
            if choices.below(5) == 1 {
                drop(journal);
                journal = open(directory);
                let mut count = 0;
                journal.replay(0, &mut |_| count += 1).unwrap();
                assert_eq!(count, written.records.len());
                // It has been read back: so it is as durable as if it had been synced.
                written.before = None;
            }
        }
        written
    }

    fn append(&mut self, choices: &mut Choices<'_>, journal: &mut FileJournal, directory: &Path) {
        let mut group = Group::default();
        let mut new = Vec::new();
        for _ in 0..=choices.below(4) {
            let shard = u16::try_from(choices.below(3)).unwrap();
            let ops: Vec<Op> = (0..choices.below(3)).map(|_| any_op(choices)).collect();
            let length = group.push(ShardId(shard), &ops).unwrap();
            new.push((ops, shard, length));
        }
        let last = last_segment(directory);
        self.before = Some((last.clone(), fs::read(&last).unwrap()));
        journal.append(&mut group).unwrap();
        let file = last_segment(directory);
        if file != last {
            // Of the new one there was no more than its header.
            let mut bytes = fs::read(&file).unwrap();
            bytes[DATA_START..].fill(0);
            self.before = Some((file.clone(), bytes));
        }
        let behind = self.records.last().filter(|it| it.file == file).map(|it| it.end);
        let mut start = behind.unwrap_or(DATA_START);
        for (ops, shard, length) in new {
            let (group, file, end) = (self.groups, file.clone(), start + length);
            self.records.push(Record { ops, shard, group, file, start, end, is_spoilt: false });
            start = end;
        }
        self.groups += 1;
    }

    /// The power went while the last group was written: any of its sectors are on the disk, and any
    /// part of one.
    fn tear(&mut self, choices: &mut Choices<'_>) -> bool {
        let Some((path, before)) = self.before.take() else { return true };
        let after = fs::read(&path).unwrap();
        let mut disk = before;
        disk.resize(after.len(), 0);
        for sector in DATA_START / SECTOR..after.len().div_ceil(SECTOR) {
            let start = sector * SECTOR;
            let end = after.len().min(start + SECTOR);
            if disk[start..end] == after[start..end] {
                continue;
            }
            let arrived = match choices.below(4) {
                0 => 0,
                1 | 2 => end - start,
                _ => choices.place(end - start),
            };
            disk[start..start + arrived].copy_from_slice(&after[start..start + arrived]);
        }
        self.spoil_where_different(&path, &after, &disk);
        fs::write(&path, disk).unwrap();
        true
    }

    /// What no power cut does.
    fn damage(&mut self, choices: &mut Choices<'_>, directory: &Path) {
        let segments = segments(directory);
        let Some(path) = segments.get(choices.below(segments.len().max(1))) else { return };
        let bytes = fs::read(path).unwrap();
        let mut disk = bytes.clone();
        // Where the records are, most of the time.
        let used = self.records.iter().filter(|it| it.file == *path).map(|it| it.end).max();
        let end = if choices.below(8) == 1 { disk.len() } else { used.unwrap_or(64) };
        let start = if choices.below(8) == 1 { 0 } else { DATA_START.min(end) };
        let at = start + choices.place(end - start);
        match choices.below(6) {
            0 => disk.truncate(at),
            1 | 2 => {
                if let Some(byte) = disk.get_mut(at) {
                    *byte ^= 1 << choices.below(8);
                }
            }
            3 => {
                let value = u8::try_from(choices.below(256)).unwrap();
                let length = choices.place(1_024);
                disk.iter_mut().skip(at).take(length).for_each(|byte| *byte = value);
            }
            4 => {
                // A sector in another's place.
                let (from, to) = (at / SECTOR * SECTOR, start / SECTOR * SECTOR);
                if from + SECTOR <= disk.len() {
                    disk.copy_within(from..from + SECTOR, to);
                }
            }
            _ => {
                for record in self.records.iter_mut().filter(|it| it.file == *path) {
                    record.is_spoilt = true;
                }
                return fs::remove_file(path).unwrap();
            }
        }
        self.spoil_where_different(path, &bytes, &disk);
        fs::write(path, disk).unwrap();
    }

    fn spoil_where_different(&mut self, path: &Path, before: &[u8], after: &[u8]) {
        let part = |bytes: &[u8], it: &Record| bytes.get(it.start..it.end).map(<[u8]>::to_vec);
        for record in self.records.iter_mut().filter(|it| it.file == *path) {
            record.is_spoilt |= part(before, record) != part(after, record);
        }
    }

    /// How many records stand before the first damage.
    fn first_spoilt(&self) -> usize {
        self.records.iter().position(|it| it.is_spoilt).unwrap_or(self.records.len())
    }

    /// What is appended now stands behind what was found, and brings nothing back.
    fn goes_on_behind(&self, found: &[Entry], directory: &Path) {
        let ops = vec![Op::Delete { key: Bytes::from_static(b"new") }];
        let mut journal = open(directory);
        journal.replay(0, &mut |_| {}).unwrap();
        let mut group = Group::default();
        group.push(ShardId(9), &ops).unwrap();
        let last = journal.append(&mut group).unwrap();
        drop(journal);
        let (_, again) = replay(directory).unwrap();
        assert_eq!((last, again.len()), (found.len() as u64 + 1, found.len() + 1));
        assert_eq!(&again[..found.len()], found);
        assert_eq!(again[found.len()].ops, ops);
    }
}

fn any_op(choices: &mut Choices<'_>) -> Op {
    let bytes = |choices: &mut Choices<'_>, end| {
        let (byte, length) = (choices.below(256), choices.below(end));
        Bytes::from(vec![u8::try_from(byte).unwrap(); length * length / 16])
    };
    match choices.below(4) {
        0 => Op::Delete { key: bytes(choices, 16) },
        1 => {
            let keys = (0..choices.below(4)).map(|_| bytes(choices, 16)).collect();
            Op::PutAll { keys, value: bytes(choices, 256) }
        }
        _ => Op::Put { key: bytes(choices, 16), value: bytes(choices, 256) },
    }
}

fn open(directory: &Path) -> FileJournal {
    FileJournal::new(FileJournalOptions {
        directory: directory.to_path_buf(),
        segment_bytes: SEGMENT_BYTES,
        sync: true,
    })
}

fn replay(directory: &Path) -> Result<(Recovered, Vec<Entry>), ReplayError> {
    let mut entries = Vec::new();
    let recovered = open(directory).replay(0, &mut |entry| entries.push(entry))?;
    Ok((recovered, entries))
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("journal-"))
        .collect();
    files.sort();
    files
}

fn last_segment(directory: &Path) -> PathBuf {
    segments(directory).pop().unwrap()
}

/// Where a segment's records begin.
const DATA_START: usize = 4_096;

/// Small, so that a few groups fill several.
const SEGMENT_BYTES: u64 = 8 << 10;

const SECTOR: usize = 512;

//! The journal in files of one directory, one write and one sync for each group.
//!
//! A start always begins a new segment, with a new salt: behind a torn tail the last one may hold
//! records that are whole and were never acknowledged, and records appended in front of them could
//! bring them back.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, FileDisk};
use super::recovery;
use super::segment::{Segment, SegmentHeader, segment_name, spare_name};
use super::{Context, Entry, Group, Journal, JournalError, Recovered, ReplayError};

/// How a [`FileJournal`] writes.
#[derive(Debug, Clone)]
pub struct FileJournalOptions {
    /// Its directory, which exists. Nothing else lives there.
    pub directory: PathBuf,
    /// The size of a segment, in bytes; a group that is larger gets a larger segment of its own.
    pub segment_bytes: u64,
    /// Whether each group is synced before [`Journal::append`] returns.
    pub sync: bool,
}

/// A [`Journal`] in files.
#[derive(Debug)]
pub struct FileJournal {
    disk: Arc<dyn Disk>,
    options: FileJournalOptions,
    /// Every segment with its first record, oldest first; the last is `current`.
    segments: VecDeque<(u64, PathBuf)>,
    current: Option<Segment>,
    spares: Vec<PathBuf>,
    /// The sequence number that the next record gets.
    next: u64,
}

impl FileJournal {
    /// A journal that reads and writes nothing before [`Journal::replay`].
    pub fn new(options: FileJournalOptions) -> Self {
        Self::on(Arc::new(FileDisk), options)
    }

    /// The same on another disk than the system's.
    pub fn on(disk: Arc<dyn Disk>, options: FileJournalOptions) -> Self {
        let (segments, spares) = (VecDeque::new(), Vec::new());
        Self { disk, options, segments, current: None, spares, next: 1 }
    }

    /// Begins a journal whose first record gets this number, in a directory without one.
    ///
    /// # Errors
    ///
    /// When its first segment cannot be made.
    pub fn begin_at(&mut self, next: u64) -> Result<(), JournalError> {
        self.next = next;
        self.begin_segment()
    }

    fn begin_segment(&mut self) -> Result<(), JournalError> {
        let header = SegmentHeader {
            first: self.next,
            salt: self.disk.salt(),
            synced: self.options.sync,
            capacity: self.options.segment_bytes,
        };
        let spare = self.spares.pop();
        let directory = &self.options.directory;
        let segment = Segment::create(&*self.disk, directory, header, spare)?;
        // The one before may have been empty and have had the same name.
        if self.segments.back().is_some_and(|(first, _)| *first == self.next) {
            self.segments.pop_back();
        }
        self.segments.push_back((self.next, directory.join(segment_name(self.next))));
        self.current = Some(segment);
        Ok(())
    }

    /// Keeps a segment's file for later, or removes it.
    fn retire(&mut self, first: u64, path: PathBuf) -> Result<(), JournalError> {
        if self.is_whole(&path) && self.spares.len() < SPARES_MAX {
            let spare = self.options.directory.join(spare_name(first));
            self.disk.rename(&path, &spare).context("rename", &path)?;
            self.spares.push(spare);
            Ok(())
        } else {
            self.disk.remove(&path).context("remove", &path)
        }
    }

    /// Whether a file has the size of a segment, so that it can be one again.
    fn is_whole(&self, path: &Path) -> bool {
        self.disk.length(path).is_ok_and(|length| length == self.options.segment_bytes)
    }
}

/// How many used segments wait to be used again: as many as a checkpoint frees.
const SPARES_MAX: usize = 2;

impl Journal for FileJournal {
    fn replay(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Recovered, ReplayError> {
        let found = recovery::replay(&*self.disk, &self.options.directory, after, each)?;
        self.next = found.recovered.last.max(after) + 1;
        self.segments = found.segments.into();
        for spare in found.spares {
            if self.is_whole(&spare) && self.spares.len() < SPARES_MAX {
                self.spares.push(spare);
            } else {
                self.disk.remove(&spare).context("remove", &spare)?;
            }
        }
        let before = self.segments.back().cloned();
        self.begin_segment()?;
        // Only now, when it is not the last any more: that one has to be as long as it was made.
        // Or a process that dies again and again would fill the disk with segments.
        if let Some((_, path)) = before.filter(|(first, _)| *first < self.next) {
            let file = self.disk.open(&path).context("open", &path)?;
            file.set_len(found.end).context("truncate", &path)?;
        }
        Ok(found.recovered)
    }

    fn append(&mut self, group: &mut Group) -> Result<u64, JournalError> {
        if !self.current.as_ref().is_some_and(|segment| segment.fits(group.bytes().len())) {
            if let Some(full) = &self.current {
                // Without this, a power cut could take the end of one segment and leave the next,
                // which is damage and no torn tail. A synced segment has nothing left to sync.
                full.sync()?;
            }
            self.begin_segment()?;
        }
        let Some(segment) = &mut self.current else {
            return Ok(self.next.saturating_sub(1));
        };
        let last = group.stamp(self.next, segment.salt());
        segment.append(group.bytes())?;
        self.next = last + 1;
        Ok(last)
    }

    fn forget(&mut self, through: u64) -> Result<(), JournalError> {
        let spares = self.spares.len();
        // A segment is over where the next begins, so the current one always stays.
        while self.segments.get(1).is_some_and(|(first, _)| *first <= through.saturating_add(1)) {
            if let Some((first, path)) = self.segments.pop_front() {
                self.retire(first, path)?;
            }
        }
        if self.spares.len() > spares {
            // Before one is written over: a power cut must not give it its old name back.
            let directory = &self.options.directory;
            self.disk.sync_directory(directory).context("sync", directory)?;
        }
        Ok(())
    }
}

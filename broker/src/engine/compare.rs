//! Whether the store holds what base and journal say it must.
//!
//! sled, having lost a part of its file, may open it all the same, without the rows that were there
//! or with what they were before. So after an end out of order each row is compared once. The base
//! has them in the same order; of what the journal changed since then, only a hash of each key and
//! a checksum of its last value are kept, and of a long journal only those of some slots at a time.
//!
//! Rows of records that the store is not complete to are left out: a checkpoint may have been
//! cut short, and until the next one nobody reads them there.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::BufReader;
use std::path::Path;

use bytes::Bytes;
use tidings_core::record::{KeyRange, Op};

use crate::base::{self, BaseError, Block, Found, Reader};
use crate::journal::{self, ReplayError};
use crate::store::{Store, StoreFailure, Visitor, Wanted};

/// Why nothing can be said about a store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// The base cannot be read.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReplayError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// The store has records that the journal has not.
    #[error("the store ends at record {complete_to}, the journal at {last}")]
    Behind {
        /// The store's last.
        complete_to: u64,
        /// The journal's last.
        last: u64,
    },
}

/// A row that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) key: Bytes,
    pub(crate) what: &'static str,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("row ")?;
        self.key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, " {}", self.what)
    }
}

/// What [`compare`] found.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Rows of the store that are as they must be.
    pub(crate) rows: u64,
    /// The first few that are not.
    pub(crate) differences: Vec<Difference>,
    /// How many are not.
    pub(crate) count: u64,
}

/// Compares each row of `store`, complete up to `complete_to`, with `base`, where there is one, and
/// the journal behind it. Shows each that is as it must be to `inspect`, in the order of their keys.
pub(crate) fn compare(
    store: &dyn Store,
    complete_to: u64,
    base: Option<&Found>,
    journal: &Path,
    inspect: &mut dyn FnMut(&[u8], &Bytes),
) -> Result<Compared, CompareError> {
    let segments = journal::segments(journal)?;
    let lengths = segments.iter().map(|(_, path)| path.metadata().map_or(0, |file| file.len()));
    let passes = (lengths.sum::<u64>() / JOURNAL_BYTES_PER_PASS + 1).min(256);
    let mut compared = Compared::default();
    for pass in 0..passes {
        let slot = |pass: u64| pass * 256 / passes;
        let start = if pass == 0 { Bytes::new() } else { one_byte(slot(pass)) };
        let end = (pass + 1 < passes).then(|| one_byte(slot(pass + 1)));
        let range = KeyRange { start, end };
        let changes = Changes::of(journal, base, complete_to, &range)?;
        let base = Rows::open(base, &range)?;
        let failed = None;
        let mut comparing = Comparing { base, changes, compared, failed, inspect: &mut *inspect };
        store.visit(&range, false, &mut comparing)?;
        compared = comparing.end()?;
    }
    Ok(compared)
}

fn one_byte(slot: u64) -> Bytes {
    Bytes::from(vec![u8::try_from(slot).unwrap_or(u8::MAX)])
}

/// What the journal says of rows since the base.
#[derive(Debug, Default)]
struct Changes {
    hasher: RandomState,
    /// By the hash of its key the checksum of the value that a row must have; `None`: it is gone.
    last: HashMap<u64, Option<u32>>,
    /// Rows of which nothing can be said.
    open: HashSet<u64>,
}

impl Changes {
    fn of(
        journal: &Path,
        base: Option<&Found>,
        complete_to: u64,
        range: &KeyRange,
    ) -> Result<Self, CompareError> {
        let mut changes = Self::default();
        let after = base.map_or(0, |base| base.complete_to);
        let recovered = journal::read(journal, after, &mut |_, entry| {
            let is_open = entry.sequence > complete_to;
            for op in &entry.ops {
                match op {
                    Op::Put { key, value } => {
                        changes.note(range, key, is_open, || Some(crc32c::crc32c(value)));
                    }
                    Op::PutAll { keys, value } => {
                        let sum = crc32c::crc32c(value);
                        for key in keys {
                            changes.note(range, key, is_open, || Some(sum));
                        }
                    }
                    Op::Delete { key } | Op::Forget { key } => {
                        changes.note(range, key, is_open, || None);
                    }
                }
            }
        })?;
        let last = recovered.last;
        if last < complete_to {
            return Err(CompareError::Behind { complete_to, last });
        }
        Ok(changes)
    }

    fn note(
        &mut self,
        range: &KeyRange,
        key: &[u8],
        is_open: bool,
        sum: impl FnOnce() -> Option<u32>,
    ) {
        if !range.contains(key) {
            return;
        }
        let hash = self.hasher.hash_one(key);
        if is_open {
            self.open.insert(hash);
        } else {
            self.last.insert(hash, sum());
        }
    }
}

/// The rows of a base within a range, one after the other.
#[derive(Debug)]
struct Rows {
    reader: Option<Reader<BufReader<File>>>,
    block: std::vec::IntoIter<(Bytes, Bytes)>,
    range: KeyRange,
    next: Option<(Bytes, Bytes)>,
}

impl Rows {
    fn open(base: Option<&Found>, range: &KeyRange) -> Result<Self, BaseError> {
        let reader = base.map(|base| base::open(&base.path)).transpose()?;
        let range = range.clone();
        let mut rows = Self { reader, block: Vec::new().into_iter(), range, next: None };
        rows.advance()?;
        Ok(rows)
    }

    /// Puts the next row of the range into `next`.
    fn advance(&mut self) -> Result<(), BaseError> {
        self.next = None;
        loop {
            for (key, value) in self.block.by_ref() {
                if self.range.contains(&key) {
                    self.next = Some((key, value));
                    return Ok(());
                }
                if key >= self.range.start {
                    // Behind the range: the rest is another pass's.
                    self.reader = None;
                }
            }
            let Some(reader) = &mut self.reader else { return Ok(()) };
            match reader.next()? {
                Some(Block::Rows(rows)) => self.block = rows.into_iter(),
                Some(Block::Records(_)) | None => self.reader = None,
            }
        }
    }
}

struct Comparing<'a> {
    base: Rows,
    changes: Changes,
    compared: Compared,
    /// The base cannot be read on: then nothing is said at all.
    failed: Option<BaseError>,
    inspect: &'a mut dyn FnMut(&[u8], &Bytes),
}

/// What a row must be.
enum Expected {
    Unknown,
    Gone,
    Sum(u32),
}

impl Comparing<'_> {
    fn differs(&mut self, key: &[u8], what: &'static str) {
        self.compared.count += 1;
        if self.compared.differences.len() < DIFFERENCES_MAX {
            let key = Bytes::copy_from_slice(key);
            self.compared.differences.push(Difference { key, what });
        }
    }

    /// The row that the base has is not in the store.
    fn missed(&mut self, key: &[u8]) {
        let hash = self.changes.hasher.hash_one(key);
        if self.changes.open.contains(&hash) {
            return;
        }
        match self.changes.last.get(&hash) {
            Some(None) => {}
            Some(Some(_)) => {
                self.changes.last.remove(&hash);
                self.differs(key, "is missing");
            }
            None => self.differs(key, "is missing"),
        }
    }

    /// Passes over the rows of the base before `key`, and takes the one with it.
    fn base_row(&mut self, key: Option<&[u8]>) -> Result<Option<Bytes>, BaseError> {
        while let Some((at, value)) = self.base.next.take() {
            match key {
                Some(key) if at[..] > *key => {
                    self.base.next = Some((at, value));
                    break;
                }
                Some(key) if at[..] == *key => {
                    self.base.advance()?;
                    return Ok(Some(value));
                }
                _ => {
                    self.missed(&at);
                    self.base.advance()?;
                }
            }
        }
        Ok(None)
    }

    fn expected(&mut self, key: &[u8], based: Option<&Bytes>) -> Expected {
        let hash = self.changes.hasher.hash_one(key);
        if self.changes.open.contains(&hash) {
            return Expected::Unknown;
        }
        match (self.changes.last.remove(&hash), based) {
            (Some(Some(sum)), _) => Expected::Sum(sum),
            (None, Some(value)) => Expected::Sum(crc32c::crc32c(value)),
            (Some(None), _) | (None, None) => Expected::Gone,
        }
    }

    /// After the last row of the store.
    fn end(mut self) -> Result<Compared, CompareError> {
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        self.base_row(None)?;
        // What the journal put and nobody met. Its keys are not known any more.
        let open = &self.changes.open;
        let puts = self.changes.last.iter().filter(|(_, sum)| sum.is_some());
        let missing = puts.filter(|(hash, _)| !open.contains(*hash)).count();
        for _ in 0..missing {
            self.differs(b"", "(of the journal) is missing");
        }
        Ok(self.compared)
    }
}

impl Visitor for Comparing<'_> {
    fn meet(&mut self, key: &[u8]) -> Wanted {
        let hash = self.changes.hasher.hash_one(key);
        if self.failed.is_some() {
            Wanted::Stop
        } else if self.changes.open.contains(&hash) {
            // Its value may not even be readable. The base's row is passed over with the next.
            Wanted::Skip
        } else {
            Wanted::Value
        }
    }

    fn take(&mut self, key: &[u8], value: Bytes) {
        let based = match self.base_row(Some(key)) {
            Ok(based) => based,
            Err(error) => {
                self.failed.get_or_insert(error);
                return;
            }
        };
        match self.expected(key, based.as_ref()) {
            Expected::Sum(sum) if sum == crc32c::crc32c(&value) => {
                self.compared.rows += 1;
                (self.inspect)(key, &value);
            }
            Expected::Sum(_) => self.differs(key, "has another value"),
            Expected::Gone => self.differs(key, "should not be there"),
            Expected::Unknown => {}
        }
    }
}

/// How many differences are kept with their keys.
const DIFFERENCES_MAX: usize = 100;

/// The changes of so much journal are kept in memory at once: some 50 MB.
const JOURNAL_BYTES_PER_PASS: u64 = 256 << 20;

//! Looking at a store that nobody serves from: whether all of it is there and can be read.
//!
//! Base and journal are read to their ends, then each row of sled is compared with them. sled has no
//! way to be opened without being written to, and may throw away what it cannot read: so it is
//! opened only where base and journal are good, and could make it anew.

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::compare::{CompareError, compare};
use super::directory::{Directory, OpenError};
use super::open::OPENINGS_MAX;
use super::rebuild::wait_until_closed;
use crate::base::{self, Block};
use crate::journal;
use crate::store::Store;
use crate::store::sled::{SledStore, distrust_file};

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Each part of the store.
    pub parts: Vec<Part>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// What is worth knowing and nothing is wrong with.
    pub notes: Vec<String>,
    /// Whether base and journal hold everything, so that a lost store costs nothing.
    pub reach: bool,
}

/// A part of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub what: &'static str,
    /// Of how many records or rows.
    pub count: u64,
    /// How large, in bytes.
    pub bytes: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a file, or the key of a row.
    pub place: String,
    /// What is wrong there, and what that means.
    pub what: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Checks the store in `folder`, which it locks. Shows each row to `inspect`, in the order of their
/// keys; `progress` hears what is being done.
///
/// # Errors
///
/// When no store is there, a process has it, or it is of another version.
pub fn check(
    folder: &Path,
    inspect: &mut dyn FnMut(&[u8], &Bytes),
    progress: &mut dyn FnMut(&str, u64),
) -> Result<Checked, OpenError> {
    let directory = Directory::look(folder)?;
    let mut checked = Checked::default();
    let first = check_journal(&directory.journal(), &mut checked, progress);
    let based = check_bases(folder, &mut checked, progress);
    checked.reach = first <= based.as_ref().map_or(0, |base| base.complete_to) + 1;
    if !checked.reach {
        checked.notes.push(format!(
            "{}: no base reaches the journal, which begins at record {first}: the store cannot be \
             made anew before the next base, which a broker writes soon after its start",
            folder.display()
        ));
    }
    check_rows(&directory, based.as_ref(), &mut checked, inspect, progress);
    Ok(checked)
}

impl Checked {
    fn problem(&mut self, place: impl Display, what: impl Display) {
        let (place, what) = (place.to_string(), what.to_string());
        self.problems.push(Problem { place, what });
    }
}

/// Reads every record. Answers with the number of the first.
fn check_journal(
    journal: &Path,
    checked: &mut Checked,
    progress: &mut dyn FnMut(&str, u64),
) -> u64 {
    let segments = match journal::segments(journal) {
        Ok(segments) => segments,
        Err(error) => {
            checked.problem(journal.display(), error);
            return 1;
        }
    };
    if segments.is_empty() {
        checked.problem(journal.display(), "acknowledged records are lost: no segment is there");
    }
    let first = segments.first().map_or(1, |(first, _)| *first);
    let bytes = segments.iter().map(|(_, path)| length(path)).sum();
    let mut count = 0;
    let read = journal::read(journal, first.saturating_sub(1), &mut |_, _| {
        count += 1;
        progress("records", count);
    });
    match read {
        Ok(recovered) if recovered.torn_bytes > 0 => checked.notes.push(format!(
            "{}: a torn tail of {} bytes, which the next start leaves out; after a crash it was never \
             acknowledged",
            journal.display(),
            recovered.torn_bytes
        )),
        Ok(_) => {}
        Err(error) => checked.problem(journal.display(), format!("acknowledged records are lost: {error}")),
    }
    checked.parts.push(Part { what: "journal", count, bytes });
    first
}

/// Reads every base to its end. Answers with the newest, if it is good.
fn check_bases(
    folder: &Path,
    checked: &mut Checked,
    progress: &mut dyn FnMut(&str, u64),
) -> Option<base::Found> {
    let bases = match base::find(folder) {
        Ok(bases) => bases,
        Err(error) => {
            checked.problem(folder.display(), error);
            return None;
        }
    };
    let mut newest = None;
    for (age, found) in bases.into_iter().enumerate() {
        let mut rows = 0;
        let mut read = || {
            let mut reader = base::open(&found.path)?;
            while let Some(Block::Rows(_)) = reader.next()? {
                rows = reader.totals().rows;
                progress("rows of the base", rows);
            }
            found.totals().map(|_| ())
        };
        match read() {
            Ok(()) if age == 0 => newest = Some(found.clone()),
            Ok(()) => {}
            Err(error) => checked.problem(
                found.path.display(),
                format!("the store cannot be made anew from it, a start writes a new one: {error}"),
            ),
        }
        checked.parts.push(Part { what: "base", count: rows, bytes: length(&found.path) });
    }
    newest
}

fn check_rows(
    directory: &Directory,
    base: Option<&base::Found>,
    checked: &mut Checked,
    inspect: &mut dyn FnMut(&[u8], &Bytes),
    progress: &mut dyn FnMut(&str, u64),
) {
    let path = directory.store();
    let bytes = files(&path).iter().map(|path| length(path)).sum();
    let what = "the store failed before; the next start makes it anew";
    let failed = [
        distrust_file(&path).exists().then(|| distrust_file(&path)),
        (directory.failed_openings() >= OPENINGS_MAX).then(|| directory.opening()),
    ];
    if let Some(note) = failed.into_iter().flatten().next() {
        // Nothing is lost where base and journal have everything.
        if checked.problems.is_empty() && checked.reach {
            checked.notes.push(format!("{}: {what}", note.display()));
        } else {
            checked.problem(note.display(), what);
        }
        return;
    }
    if !checked.problems.is_empty() {
        checked.notes.push(format!(
            "{}: not looked at: to open it may change it, and it could not be made anew",
            path.display()
        ));
        return;
    }
    let mut count = 0;
    let opened = SledStore::open(&path, CACHE_BYTES)
        .and_then(|store| store.complete_to().map(|complete_to| (store, complete_to)));
    let (store, complete_to) = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            // A disk that is full or failing is no damage.
            let mend = if failure.is_damage { "; a start makes it anew" } else { "" };
            return checked.problem(path.display(), format!("{failure}{mend}"));
        }
    };
    let compared = compare(&store, complete_to, base, &directory.journal(), &mut |key, value| {
        count += 1;
        progress("rows of the store", count);
        inspect(key, value);
    });
    drop(store);
    if let Err(error) = wait_until_closed(&path.join("db")) {
        checked.problem(path.display(), error);
    }
    match compared {
        Ok(compared) => {
            for difference in &compared.differences {
                let what = "sled lost or mixed up rows; a start with data.compare = \"always\" makes \
                            it anew";
                checked.problem(path.display(), format!("{difference}: {what}"));
            }
            let shown = compared.differences.len() as u64;
            if compared.count > shown {
                let more = compared.count - shown;
                checked.problem(path.display(), format!("{more} more rows differ"));
            }
        }
        // Known already, and noted.
        Err(CompareError::Journal(_)) if base.is_none() => {}
        Err(error) => checked.problem(path.display(), error),
    }
    checked.parts.push(Part { what: "store", count, bytes });
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |file| file.len())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
}

const CACHE_BYTES: u64 = 16 << 20;

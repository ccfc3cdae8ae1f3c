//! Bases as files of a store's folder: their names, drafts, and which ones there are.
//!
//! A base gets its name only once all of it is safe, and the one before goes only then: at every
//! moment there is at least one whole base, if ever there was one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, TOTALS_BYTES, Totals};
use super::{BaseError, Reader};

/// A base of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The record up to which its rows are complete, by its name.
    pub complete_to: u64,
}

impl Found {
    /// What the end of the file says, if header and end are in order. What is between is not looked
    /// at: that takes reading all of it.
    ///
    /// # Errors
    ///
    /// See [`BaseError`].
    pub fn totals(&self) -> Result<Totals, BaseError> {
        let header = open(&self.path)?.header();
        let io = |source| BaseError::Io { operation: "read", file: self.path.clone(), source };
        let mut file = File::open(&self.path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let offset = length.saturating_sub((BLOCK_HEADER_BYTES + TOTALS_BYTES) as u64);
        let damaged =
            |why: &str| BaseError::Damaged { file: self.path.clone(), offset, why: why.to_owned() };
        if header.complete_to != self.complete_to {
            return Err(damaged("its header has another record number than its name"));
        }
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let no_end = || damaged("the file does not end as a base does");
        let (block, body) = bytes.split_first_chunk().ok_or_else(no_end)?;
        let body: &[u8; TOTALS_BYTES] = body.try_into().map_err(|_| no_end())?;
        let block = BlockHeader::decode(block).ok_or_else(no_end)?;
        let totals = Totals::decode(body);
        if block.kind != BlockKind::End as u8
            || block.sum(header.salt, body) != block.checksum
            || totals.bytes != length
        {
            return Err(no_end());
        }
        Ok(totals)
    }
}

/// The bases in `folder`, the newest first.
///
/// # Errors
///
/// When the folder cannot be listed.
pub fn find(folder: &Path) -> Result<Vec<Found>, BaseError> {
    let io = |source| BaseError::Io { operation: "list", file: folder.to_path_buf(), source };
    let mut found = Vec::new();
    for file in fs::read_dir(folder).map_err(io)? {
        let file = file.map_err(io)?;
        if let Some(complete_to) = number(&file.file_name().to_string_lossy()) {
            found.push(Found { path: file.path(), complete_to });
        }
    }
    found.sort_unstable_by_key(|found| std::cmp::Reverse(found.complete_to));
    Ok(found)
}

/// A reader of a base or a copy.
pub(crate) fn open(path: &Path) -> Result<Reader<BufReader<File>>, BaseError> {
    let io = |source| BaseError::Io { operation: "open", file: path.to_path_buf(), source };
    let file = File::open(path).map_err(io)?;
    Reader::new(BufReader::with_capacity(1 << 18, file), path)
}

/// An empty draft of a base.
pub(crate) fn start(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(folder.join(DRAFT))
}

/// Gives the draft its name, once it is safe.
pub(crate) fn publish(folder: &Path, draft: &File, complete_to: u64) -> io::Result<PathBuf> {
    draft.sync_all()?;
    let path = folder.join(name(complete_to));
    fs::rename(folder.join(DRAFT), &path)?;
    File::open(folder)?.sync_all()?;
    Ok(path)
}

/// Removes what an end of the process left unfinished.
pub(crate) fn remove_drafts(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(DRAFT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const DRAFT: &str = "base.draft";

fn name(complete_to: u64) -> String {
    format!("base-{complete_to:020}.tidings")
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("base-")?.strip_suffix(".tidings")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Header, Kind, Writer};
    use super::*;

    fn base(folder: &Path, complete_to: u64) -> PathBuf {
        let header = Header::new(Kind::Base, complete_to, 1);
        let mut writer = Writer::new(start(folder).unwrap(), header).unwrap();
        writer.row(b"k", b"v").unwrap();
        let (draft, _) = writer.finish(complete_to + 2).unwrap();
        publish(folder, &draft, complete_to).unwrap()
    }

    #[test]
    fn bases_are_found_the_newest_first_and_drafts_go() {
        let folder = tempfile::tempdir().unwrap();
        start(folder.path()).unwrap();
        assert_eq!(find(folder.path()).unwrap(), []);
        base(folder.path(), 9);
        base(folder.path(), 10);
        start(folder.path()).unwrap();
        remove_drafts(folder.path()).unwrap();
        remove_drafts(folder.path()).unwrap();
        let found = find(folder.path()).unwrap();
        assert_eq!(found.iter().map(|found| found.complete_to).collect::<Vec<_>>(), [10, 9]);
        let totals = found[0].totals().unwrap();
        assert_eq!((totals.rows, totals.settled_at), (1, 12));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_base_without_its_end_or_under_another_name_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = base(folder.path(), 9);
        let bytes = fs::read(&path).unwrap();
        for length in [0, 10, 39, 40, 60, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            let found = Found { path: path.clone(), complete_to: 9 };
            assert!(matches!(found.totals(), Err(BaseError::Damaged { .. })), "{length}");
        }
        fs::write(&path, &bytes).unwrap();
        assert!(Found { path: path.clone(), complete_to: 8 }.totals().is_err());
        assert!(Found { path, complete_to: 9 }.totals().is_ok());
    }
}

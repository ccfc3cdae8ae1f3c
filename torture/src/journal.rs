//! The journal of our broker seen from outside: where its records end, as `FORMAT.md` draws it.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const FIRST_RECORD: usize = 4096;
const HEADER_BYTES: usize = 24;

/// The newest segment: where each record begins that starts a group, and where the last ends.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) groups: Vec<u64>,
    pub(crate) end: u64,
    pub(crate) len: u64,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Segment {
    /// The newest one in the data folder; none if there is no journal.
    pub(crate) fn newest(data: &Path) -> io::Result<Option<Self>> {
        let mut newest = None;
        for entry in fs::read_dir(data.join("store/journal"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("journal-") && newest.as_ref().is_none_or(|(it, _)| *it < name) {
                newest = Some((name, path));
            }
        }
        let Some((_, path)) = newest else { return Ok(None) };
        let bytes = fs::read(&path)?;
        let (mut at, mut groups) = (FIRST_RECORD, Vec::new());
        let mut expected = number(&bytes, 16).map(u64::from_le_bytes);
        while let Some(sequence) = number(&bytes, at + 8).map(u64::from_le_bytes)
            && Some(sequence) == expected
            && let Some(len) = number(&bytes, at + 4).map(u32::from_le_bytes)
        {
            let end = at + HEADER_BYTES + usize::try_from(len).unwrap_or(usize::MAX >> 1);
            if end > bytes.len() {
                break;
            }
            if number(&bytes, at + 16).map(u32::from_le_bytes) == Some(0) {
                groups.push(at as u64);
            }
            at = end;
            expected = Some(sequence + 1);
        }
        Ok(Some(Self { path, groups, end: at as u64, len: bytes.len() as u64 }))
    }

    /// Writes these bytes there.
    pub(crate) fn damage(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Cuts the file there.
    pub(crate) fn cut(&self, at: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(&self.path)?.set_len(at)
    }
}

/// Copies a data folder.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

//! Which file is which chat's: a line for each change, in a file that is read at the start.
//!
//! A line that a crash left half is the last one, and of something that nobody was told of.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// All files of a section.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: BTreeMap<String, Known>,
    bytes: u64,
}

#[derive(Debug)]
struct Known {
    bytes: u64,
    /// By the name of the chat.
    grants: BTreeMap<String, Grant>,
}

/// That a file is a chat's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    /// Who uploaded it.
    pub(super) user: String,
    /// When, in milliseconds since 1970.
    pub(super) time: u64,
    /// Its media type.
    pub(super) kind: String,
    /// Before this place of the log nothing names it.
    pub(super) from: u64,
    /// An entry that named it when it was looked.
    pub(super) named: Option<u64>,
}

/// A change, and a line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) hash: String,
    pub(super) chat: String,
    pub(super) bytes: u64,
    /// None: the chat has it no more.
    pub(super) grant: Option<Grant>,
}

impl Line {
    /// Puts it behind the others; safe once this returns. Blocks for that.
    pub(super) fn write(&self, log: &File) -> io::Result<()> {
        // Its own line, also behind one that could not be written whole.
        let mut bytes = vec![b'\n'];
        write(&mut bytes, self)?;
        let mut log = log;
        log.write_all(&bytes)?;
        log.sync_data()
    }
}

impl Index {
    pub(super) fn in_memory() -> Self {
        Self::default()
    }

    /// Reads the file at `path`, and writes it anew without what is not true any more. The file is where
    /// changes go.
    pub(super) fn open(path: &Path) -> io::Result<(Self, File)> {
        let mut index = Self::default();
        match fs::read(path) {
            Ok(bytes) => {
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                for line in lines {
                    if let Ok(line) = serde_json::from_slice::<Line>(line) {
                        index.apply(line);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let new = PathBuf::from(format!("{}.new", path.display()));
        let mut options = OpenOptions::new();
        let mut log = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut all = Vec::new();
        for (hash, chat, bytes, grant) in index.iter() {
            let grant = Some(grant.clone());
            write(&mut all, &Line { hash: hash.into(), chat: chat.into(), bytes, grant })?;
        }
        log.write_all(&all)?;
        log.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()?;
        Ok((index, log))
    }

    /// Bytes of all files, and [`GRANT_BYTES`] for each chat that has one.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same of what a user has uploaded since then.
    pub(super) fn bytes_of(&self, user: &str, since: u64) -> u64 {
        let own = self.iter().filter(|(_, _, _, it)| it.user == user && it.time >= since);
        own.map(|(_, _, bytes, _)| bytes.saturating_add(GRANT_BYTES)).sum()
    }

    /// The size of a file, and what makes it the chat's, if it is.
    pub(super) fn find(&self, hash: &str, chat: &str) -> Option<(u64, Grant)> {
        let known = self.files.get(hash)?;
        known.grants.get(chat).map(|grant| (known.bytes, grant.clone()))
    }

    /// What is to be applied for a file to be a chat's.
    pub(super) fn line(&self, hash: &str, bytes: u64, chat: &str, grant: Grant) -> Line {
        // An earlier upload to the same chat may be named by an earlier entry.
        let before = self.files.get(hash).and_then(|known| known.grants.get(chat));
        let from = before.map_or(grant.from, |before| before.from.min(grant.from));
        let grant = Some(Grant { from, ..grant });
        Line { hash: hash.into(), chat: chat.into(), bytes, grant }
    }

    /// An entry names the file.
    pub(super) fn named(&mut self, hash: &str, chat: &str, seq: u64) {
        let known = self.files.get_mut(hash);
        if let Some(grant) = known.and_then(|known| known.grants.get_mut(chat)) {
            // Not written: it is looked again behind a start.
            grant.named = Some(seq);
        }
    }

    /// Whether some chat has a file.
    pub(super) fn holds(&self, hash: &str) -> bool {
        self.files.contains_key(hash)
    }

    /// Up to so many grants behind one, as pairs of hash and chat.
    pub(super) fn behind(
        &self,
        last: &(String, String),
        count: usize,
    ) -> Vec<(String, String, Grant)> {
        let all = self.files.range(last.0.clone()..).flat_map(|(hash, known)| {
            known.grants.iter().map(move |(chat, grant)| (hash, chat, grant))
        });
        let behind = all.filter(|(hash, chat, _)| (*hash, *chat) > (&last.0, &last.1));
        behind
            .take(count)
            .map(|(hash, chat, it)| (hash.clone(), chat.clone(), it.clone()))
            .collect()
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str, u64, &Grant)> {
        self.files.iter().flat_map(|(hash, known)| {
            let of = |(chat, grant)| (hash.as_str(), String::as_str(chat), known.bytes, grant);
            known.grants.iter().map(of)
        })
    }

    /// Takes over a change that is written.
    pub(super) fn apply(&mut self, line: Line) {
        let Line { hash, chat, bytes, grant } = line;
        match grant {
            Some(grant) => {
                let known = self.files.entry(hash).or_insert_with(|| {
                    self.bytes = self.bytes.saturating_add(bytes);
                    Known { bytes, grants: BTreeMap::new() }
                });
                if known.grants.insert(chat, grant).is_none() {
                    self.bytes = self.bytes.saturating_add(GRANT_BYTES);
                }
            }
            None => {
                let Some(known) = self.files.get_mut(&hash) else { return };
                if known.grants.remove(&chat).is_some() {
                    self.bytes = self.bytes.saturating_sub(GRANT_BYTES);
                }
                if known.grants.is_empty() {
                    self.bytes = self.bytes.saturating_sub(known.bytes);
                    self.files.remove(&hash);
                }
            }
        }
    }
}

/// What each chat that has a file counts besides, so that many small ones are bounded too.
pub(super) const GRANT_BYTES: u64 = 64 * 1024;

fn write(to: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(user: &str, time: u64, from: u64) -> Grant {
        Grant { user: user.into(), time, kind: "image/png".into(), from, named: None }
    }

    #[test]
    fn what_is_granted_outlives_a_start_and_a_line_that_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let (mut index, log) = Index::open(&path).unwrap();
        let mut say = |line: &dyn Fn(&Index) -> Line| {
            let line = line(&index);
            line.write(&log).unwrap();
            index.apply(line);
        };
        say(&|it| it.line("aa", 10, "@a:@b", grant("a", 5, 7)));
        say(&|it| it.line("aa", 10, "climbing", grant("b", 6, 1)));
        say(&|it| it.line("bb", 3, "@a:@b", grant("a", 9, 1)));
        // Half a line, such as a full disk leaves.
        (&log).write_all(br#"{"hash":"cc","chat":"#).unwrap();
        say(&|it| it.line("aa", 10, "@a:@b", grant("b", 8, 9)));
        let gone = || Line { hash: "aa".into(), chat: "climbing".into(), bytes: 0, grant: None };
        say(&|_| gone());
        let (mut index, _) = Index::open(&path).unwrap();
        assert_eq!((index.bytes(), index.find("cc", "x")), (13 + 2 * GRANT_BYTES, None));
        assert_eq!(index.find("aa", "@a:@b").unwrap().0, 10);
        assert_eq!(index.find("aa", "climbing"), None);
        let own = (index.bytes_of("a", 9), index.bytes_of("b", 0));
        assert_eq!(own, (3 + GRANT_BYTES, 10 + GRANT_BYTES));
        let first = index.behind(&Default::default(), 1);
        assert_eq!((&*first[0].0, first[0].2.from), ("aa", 7));
        let last = (first[0].0.clone(), first[0].1.clone());
        assert_eq!(index.behind(&last, 9).len(), 1);
        index.apply(Line { chat: "@a:@b".into(), ..gone() });
        assert_eq!((index.holds("aa"), index.bytes()), (false, 3 + GRANT_BYTES));
    }
}

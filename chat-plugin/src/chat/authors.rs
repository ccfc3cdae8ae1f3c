//! Who wrote what, as runs of places: what remains of entries that are gone but not read.
//!
//! How many entries somebody has not read cannot be said from two places alone: her own do not
//! count, nor does what only changes something. So each chat remembers, from the first place that
//! somebody has not read, who wrote how many in a row. That is in the log itself as long as the
//! entries are; when they go, their runs stay in a row of their own. Where many stay, the row tells
//! of the older ones too, so that a chat that is read has to look at few.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::entry::Entry;
use crate::rows::AuthorsRow;

/// See the file's own words.
#[derive(Debug, Default)]
pub(super) struct Authors {
    /// Nothing is known of places up to here.
    base: u64,
    /// And nothing behind this one, where the runs end.
    end: u64,
    runs: VecDeque<Run>,
    /// Whether there is a row.
    stored: bool,
    /// Up to where it tells.
    kept: u64,
}

#[derive(Debug)]
struct Run {
    count: u64,
    /// Who wrote them; nobody where they do not count.
    from: Option<Arc<str>>,
}

impl Authors {
    /// What is known of the entries that are gone.
    pub(super) fn from_row(row: AuthorsRow) -> Self {
        let names: Vec<Arc<str>> = row.names.iter().map(|name| Arc::from(&**name)).collect();
        let run = |(count, name): &(u64, u16)| Run {
            count: *count,
            from: usize::from(*name).checked_sub(1).and_then(|at| names.get(at)).cloned(),
        };
        let end = row.base + row.runs.iter().map(|(count, _)| count).sum::<u64>();
        let runs = row.runs.iter().map(run).collect();
        Self { base: row.base, end, runs, stored: true, kept: end }
    }

    /// An entry has its place. Where places before it are not known, it begins anew behind them.
    /// One that is known already is passed over.
    pub(super) fn push(&mut self, entry: &Entry) {
        if entry.seq <= self.end {
            return;
        }
        if entry.seq != self.end + 1 {
            self.base = entry.seq - 1;
            self.runs.clear();
        }
        self.end = entry.seq;
        let from = entry.counts().then_some(&entry.from);
        match self.runs.back_mut() {
            Some(run) if run.from.as_ref() == from => run.count += 1,
            _ => self.runs.push_back(Run { count: 1, from: from.cloned() }),
        }
        self.bound();
    }

    /// What is told next is of `seq` and behind it: of what lies before that, and is not known,
    /// nothing will be.
    pub(super) fn begin(&mut self, seq: u64) {
        let before = seq.saturating_sub(1);
        if before > self.end {
            self.runs.clear();
            (self.base, self.end) = (before, before);
        }
    }

    /// The places up to `seq` are of what has gone: nobody is to read it.
    pub(super) fn pass(&mut self, seq: u64) {
        let count = seq.saturating_sub(self.end);
        if count > 0 {
            self.end = seq;
            self.runs.push_back(Run { count, from: None });
            self.bound();
        }
    }

    fn bound(&mut self) {
        while self.runs.len() > RUNS_MAX
            && let Some(first) = self.runs.pop_front()
        {
            self.base += first.count;
        }
    }

    /// An entry has gone by somebody's will: nobody is to read it any more.
    pub(super) fn erase(&mut self, seq: u64) {
        let mut before = self.base;
        let holds = |run: &Run| {
            before += run.count;
            before >= seq
        };
        let Some(at) = self.runs.iter().position(holds).filter(|_| seq > self.base) else { return };
        if self.runs.len() + 2 > RUNS_MAX {
            return;
        }
        let Some(Run { count, from: Some(from) }) = self.runs.get(at) else { return };
        let (count, from) = (*count, Arc::clone(from));
        self.runs.remove(at);
        let first = seq - (before - count) - 1;
        let parts = [(first, Some(from.clone())), (1, None), (count - first - 1, Some(from))];
        for (count, from) in parts.into_iter().rev().filter(|(count, _)| *count > 0) {
            self.runs.insert(at, Run { count, from });
        }
    }

    /// Forgets what everybody has read.
    pub(super) fn forget(&mut self, read: u64) {
        while let Some(first) = self.runs.front_mut() {
            let known = read.saturating_sub(self.base);
            if known == 0 {
                return;
            }
            let gone = known.min(first.count);
            first.count -= gone;
            self.base += gone;
            if first.count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// How many behind `read` and up to `last` are others' and count. Of places that are not known,
    /// all do.
    pub(super) fn unread(&self, user: &str, read: u64, last: u64) -> u64 {
        let (mut unread, mut seq) = (self.base.min(last).saturating_sub(read), self.base);
        for run in &self.runs {
            let end = (seq + run.count).min(last);
            if run.from.as_ref().is_some_and(|from| **from != *user) {
                unread += end.saturating_sub(seq.max(read));
            }
            seq += run.count;
        }
        unread + last.saturating_sub(seq.max(read))
    }

    /// Up to where the row tells.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    /// The last place that is known of.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The row that tells of places up to `upto`, or where it told before: none if there is none and
    /// need not be.
    pub(super) fn row(&mut self, upto: u64) -> Option<AuthorsRow> {
        self.kept = self.kept.max(upto);
        let mut row = AuthorsRow { base: self.base, ..AuthorsRow::default() };
        let mut left = self.kept.saturating_sub(self.base);
        for run in &self.runs {
            let count = run.count.min(left);
            if count == 0 {
                break;
            }
            left -= count;
            let name = run.from.as_ref().map_or(0, |from| {
                let known = row.names.iter().position(|name| **name == **from);
                let at = known.unwrap_or_else(|| {
                    row.names.push(from.to_string());
                    row.names.len() - 1
                });
                u16::try_from(at + 1).unwrap_or_default()
            });
            row.runs.push((count, name));
        }
        let needed = !row.runs.is_empty();
        let was = std::mem::replace(&mut self.stored, needed);
        (needed || was).then_some(row)
    }
}

/// How many runs a chat remembers. What is before them counts as unread for all.
const RUNS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_core::time::Time;

    use super::*;

    fn entry(seq: u64, from: &str) -> Arc<Entry> {
        Arc::new(Entry {
            seq,
            time: Time::default(),
            from: from.into(),
            device: "d".into(),
            id: "m".into(),
            content_type: None,
            payload: Bytes::new(),
            kind: crate::entry::Kind::Message,
            refers: 0,
            expires: None,
        })
    }

    fn authors(from: &str) -> Authors {
        let mut authors = Authors::default();
        for (seq, name) in (1..).zip(from.chars()) {
            authors.push(&entry(seq, if name == 'a' { "alice" } else { "bob" }));
        }
        authors
    }

    #[test]
    fn own_entries_never_count() {
        let mut authors = authors("aabaaab");
        let unread = |authors: &Authors, user, read| authors.unread(user, read, 7);
        assert_eq!([0, 1, 2, 3, 7].map(|read| unread(&authors, "bob", read)), [5, 4, 3, 3, 0]);
        assert_eq!([0, 3, 7].map(|read| unread(&authors, "alice", read)), [2, 1, 0]);
        assert_eq!(authors.unread("bob", 0, 2), 2, "what is not visible is not counted");
        authors.forget(4);
        assert_eq!([4, 5, 7].map(|read| unread(&authors, "bob", read)), [2, 1, 0]);
        assert_eq!(unread(&authors, "bob", 2), 4, "what is not known counts");
    }

    #[test]
    fn what_was_erased_does_not_count() {
        let mut authors = authors("aabaaab");
        let unread = |authors: &Authors| [0, 4].map(|read| authors.unread("bob", read, 7));
        authors.erase(5);
        assert_eq!(unread(&authors), [4, 1]);
        authors.erase(5);
        authors.erase(1);
        authors.erase(9);
        assert_eq!((unread(&authors), authors.unread("alice", 0, 7)), ([3, 1], 2));
        authors.erase(3);
        assert_eq!((unread(&authors), authors.unread("alice", 0, 7)), ([3, 1], 1));
    }

    #[test]
    fn what_is_gone_from_the_log_is_in_the_row() {
        let mut before = authors("aabaaab");
        assert!(before.row(0).is_none());
        before.forget(1);
        let row = before.row(4).unwrap();
        assert_eq!((row.base, &row.runs[..]), (1, &[(1, 1), (1, 2), (1, 1)][..]));
        let mut after = Authors::from_row(row);
        for seq in [3, 5, 6] {
            after.push(&entry(seq, "alice"));
        }
        assert_eq!(after.unread("bob", 1, 6), 4);
        assert_eq!(after.unread("alice", 1, 6), 1);
        after.forget(6);
        assert_eq!(after.row(6).map(|row| row.runs), Some(Vec::new()), "the row is emptied");
        assert!(after.row(6).is_none(), "once");
    }

    #[test]
    fn runs_are_bounded() {
        let long = "ab".repeat(RUNS_MAX);
        let authors = authors(&long);
        assert_eq!(authors.runs.len(), RUNS_MAX);
        let last = 2 * RUNS_MAX as u64;
        assert_eq!(authors.unread("bob", last - 10, last), 5);
        assert_eq!(authors.unread("bob", 0, last), 3 * RUNS_MAX as u64 / 2);
    }
}

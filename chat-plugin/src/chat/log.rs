//! The log of one chat in memory: where it ends, from where it is kept, and its newest entries.
//!
//! `last_seq` counts what was handed to the store; `visible` what is safe there. Nobody hears of an
//! entry before it is visible. The entries kept in memory are a cache and may be dropped any time.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::time::Time;

use crate::entry::Entry;

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct Log {
    /// The newest entry; 0 before the first.
    pub(crate) last_seq: u64,
    /// Its time.
    pub(crate) last_time: Time,
    /// The newest entry that is stored.
    pub(crate) visible: u64,
    /// Every entry below it is gone.
    pub(crate) floor: u64,
    /// What the kept entries have, about.
    kept_bytes: u64,
    tail: VecDeque<Arc<Entry>>,
    tail_bytes: usize,
    /// From here on entries are nowhere but here.
    memory_from: Option<u64>,
}

impl Log {
    pub(crate) const fn new(last_seq: u64, last_time: Time, floor: u64) -> Self {
        Self {
            last_seq,
            last_time,
            visible: last_seq,
            floor,
            kept_bytes: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            memory_from: None,
        }
    }

    /// The place and the time of an entry that comes now.
    pub(crate) fn next(&self, now: Time) -> (u64, Time) {
        (self.last_seq + 1, self.last_time.max(now))
    }

    /// Appends the entry that [`Log::next`] gave its place.
    pub(crate) fn push(&mut self, entry: Arc<Entry>) {
        self.last_seq = entry.seq;
        self.last_time = entry.time;
        self.kept_bytes = self.kept_bytes.saturating_add(entry.size() as u64);
        self.remember(entry);
    }

    /// How many entries are kept, at the most.
    pub(crate) fn kept(&self) -> u64 {
        (self.last_seq + 1).saturating_sub(self.floor)
    }

    /// What they have in bytes, about.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// The log has been read, or its newest `count` entries with so many bytes: the rest is taken
    /// to be like them.
    pub(crate) fn count_kept(&mut self, count: u64, bytes: u64) {
        let whole = u128::from(bytes) * u128::from(self.kept()) / u128::from(count.max(1));
        self.kept_bytes = u64::try_from(whole).unwrap_or(u64::MAX);
    }

    /// Everything below `floor` goes.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        let kept = self.kept();
        let left = (self.last_seq + 1).saturating_sub(floor);
        let bytes = u128::from(self.kept_bytes) * u128::from(left) / u128::from(kept.max(1));
        self.kept_bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.floor = floor;
    }

    /// Keeps an entry in memory that is newer than all that are there.
    pub(crate) fn remember(&mut self, entry: Arc<Entry>) {
        self.tail_bytes += entry.size();
        self.tail.push_back(entry);
        let (entries, bytes) = match self.memory_from {
            Some(_) => (MEMORY_ENTRIES_MAX, MEMORY_BYTES_MAX),
            None => (TAIL_ENTRIES_MAX, TAIL_BYTES_MAX),
        };
        while self.tail.len() > entries || self.tail_bytes > bytes {
            self.forget_first();
        }
    }

    /// Entries from `from` on are to be nowhere but here; or nothing: they have rows again.
    pub(crate) fn keep_in_memory(&mut self, from: Option<u64>) {
        self.memory_from = from;
    }

    /// Whether entries that come are to be nowhere but here.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.memory_from.is_some()
    }

    /// Whether a place is one of those that are nowhere but here.
    pub(crate) fn is_only_here(&self, seq: u64) -> bool {
        self.memory_from.is_some_and(|first| seq >= first)
    }

    /// Whether there is anything that is nowhere but here.
    pub(crate) fn holds_alone(&self) -> bool {
        self.tail.back().is_some_and(|last| self.is_only_here(last.seq))
    }

    /// The last place whose entry has a row, if there may be one from `from` on: what is behind it is
    /// only here.
    pub(crate) fn rows_to(&self, from: u64) -> Option<u64> {
        self.memory_from.filter(|first| *first > from).map(|first| first - 1)
    }

    /// The oldest entry of those that are only here.
    pub(crate) fn oldest_in_memory(&self) -> u64 {
        self.tail.front().map_or(self.last_seq + 1, |first| first.seq)
    }

    /// From `from` on, or from the oldest of those that are only here, if it is one of them.
    fn reachable(&self, from: u64) -> u64 {
        if self.is_only_here(from) { from.max(self.oldest_in_memory()) } else { from }
    }

    /// An entry has gone: what memory has is what stays of it.
    pub(crate) fn erase(&mut self, gone: Arc<Entry>) {
        let first = self.tail.front().map(|first| first.seq);
        let at = first.and_then(|first| usize::try_from(gone.seq.checked_sub(first)?).ok());
        if let Some(entry) = at.and_then(|at| self.tail.get_mut(at)) {
            self.tail_bytes -= entry.size();
            self.tail_bytes += gone.size();
            *entry = gone;
        }
    }

    /// Drops from memory what every device has, but for a few that tell who wrote last.
    pub(crate) fn trim(&mut self) {
        let floor = self.floor.saturating_sub(TRIMMED_ENTRIES);
        let floor = self.memory_from.map_or(floor, |first| floor.min(first));
        while self.tail.front().is_some_and(|entry| entry.seq < floor) {
            self.forget_first();
        }
    }

    /// Drops from memory what can be read again; of what is only here all but the newest.
    pub(crate) fn forget(&mut self) {
        if self.is_in_memory() {
            while self.tail.len() > TAIL_ENTRIES_MAX || self.tail_bytes > TAIL_BYTES_MAX {
                self.forget_first();
            }
        } else {
            self.tail = VecDeque::new();
            self.tail_bytes = 0;
        }
    }

    /// Drops all of it from memory, also what is nowhere else.
    pub(crate) fn clear(&mut self) {
        self.tail = VecDeque::new();
        self.tail_bytes = 0;
    }

    /// Drops the oldest from memory, until the rest takes no more than so many bytes or is the newest.
    pub(crate) fn forget_oldest(&mut self, bytes: usize) {
        while self.tail.len() > 1 && self.tail_bytes > bytes {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(entry) = self.tail.pop_front() {
            self.tail_bytes -= entry.size();
        }
    }

    /// The memory the entries take, in bytes.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// Visible entries from `from` on, as far as one answer goes; nothing if they are not all in
    /// memory.
    pub(crate) fn from(&self, from: u64) -> Option<Vec<Arc<Entry>>> {
        if from > self.visible {
            return Some(Vec::new());
        }
        let first = self.tail.front()?.seq;
        let from = self.reachable(from.max(self.floor));
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let mut bytes = 0;
        let entries = self.tail.iter().skip(skip).take(FETCH_ENTRIES_MAX);
        let entries = entries.take_while(|entry| {
            let fits = entry.seq <= self.visible && (bytes == 0 || bytes <= FETCH_BYTES_MAX);
            bytes += entry.size();
            fits
        });
        Some(entries.cloned().collect())
    }

    /// The entries between two places, both included; nothing if they are not all in memory.
    pub(crate) fn between(
        &self,
        from: u64,
        to: u64,
    ) -> Option<impl DoubleEndedIterator<Item = Arc<Entry>>> {
        let first = self.tail.front()?.seq;
        let from = self.reachable(from);
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let count = usize::try_from((to + 1).saturating_sub(from)).ok()?;
        let end = skip.saturating_add(count).min(self.tail.len());
        Some(self.tail.range(skip.min(end)..end).cloned())
    }

    /// The last visible place whose entry is older than `time`, as far back as memory goes.
    pub(crate) fn before(&self, time: Time) -> u64 {
        let newer = |entry: &&Arc<Entry>| entry.seq <= self.visible && entry.time >= time;
        let first = self.tail.iter().find(newer);
        first.map_or(self.visible, |entry| entry.seq.saturating_sub(1))
    }

    /// Whether `author` wrote a message behind `after` and up to `to`; yes where memory does not
    /// go back so far.
    pub(crate) fn wrote(&self, author: &str, after: u64, to: u64) -> bool {
        if after >= to {
            return false;
        }
        if self.tail.front().is_none_or(|first| first.seq > after + 1) {
            return true;
        }
        let mut between = self.tail.iter().skip_while(|e| e.seq <= after);
        between.any(|entry| entry.seq <= to && entry.ticks() && *entry.from == *author)
    }

    /// The visible entries in memory, ascending.
    pub(crate) fn tail(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> {
        self.tail.iter().filter(|entry| entry.seq <= self.visible)
    }

    /// An entry in memory.
    pub(crate) fn get(&self, seq: u64) -> Option<&Arc<Entry>> {
        let first = self.tail.front()?.seq;
        self.tail.get(usize::try_from(seq.checked_sub(first)?).ok()?)
    }
}

/// How many of the newest entries a chat keeps in memory.
pub(crate) const TAIL_ENTRIES_MAX: usize = 64;

/// How many of them stay where every device has them.
const TRIMMED_ENTRIES: u64 = 8;

/// How many bytes of them.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// How many entries of a chat there are where they are only in memory: beyond them the oldest go.
const MEMORY_ENTRIES_MAX: usize = 1_024;

/// How many bytes of them.
const MEMORY_BYTES_MAX: usize = 1024 * 1024;

/// How many entries one answer to a fetch holds.
pub(crate) const FETCH_ENTRIES_MAX: usize = 64;

/// After how many bytes it ends.
pub(crate) const FETCH_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(seq: u64, from: &str, bytes: usize) -> Arc<Entry> {
        Arc::new(Entry {
            seq,
            time: Time::from_millis(seq * 10),
            from: from.into(),
            device: "d".into(),
            id: "m".into(),
            content_type: None,
            payload: Bytes::from(vec![b'x'; bytes]),
            kind: crate::entry::Kind::Message,
            refers: 0,
            expires: None,
        })
    }

    fn log(count: u64) -> Log {
        let mut log = Log::new(0, Time::default(), 1);
        for seq in 1..=count {
            log.push(entry(seq, if seq % 2 == 0 { "bob" } else { "alice" }, 1));
        }
        log.visible = log.last_seq;
        log
    }

    fn seqs(entries: Option<Vec<Arc<Entry>>>) -> Option<Vec<u64>> {
        Some(entries?.iter().map(|entry| entry.seq).collect())
    }

    #[test]
    fn places_are_contiguous_and_time_never_goes_back() {
        let mut log = log(3);
        assert_eq!(log.next(Time::from_millis(5)), (4, Time::from_millis(30)));
        assert_eq!(log.next(Time::from_millis(99)), (4, Time::from_millis(99)));
        log.push(entry(4, "bob", 1));
        assert_eq!((log.last_seq, log.visible), (4, 3));
        assert_eq!(seqs(log.from(2)), Some(vec![2, 3]), "4 is not visible yet");
    }

    #[test]
    fn memory_is_bounded_in_entries_and_bytes() {
        let long = log(200);
        assert_eq!(seqs(long.from(190)), Some((190..=200).collect()));
        assert_eq!(seqs(long.from(136)), None);
        assert_eq!(seqs(long.from(137)).map(|all| all.len()), Some(64));
        assert_eq!(seqs(long.from(201)), Some(vec![]));
        let mut log = log(2);
        log.push(entry(3, "bob", 63 * 1024));
        log.push(entry(4, "bob", 63 * 1024));
        assert!(log.tail_bytes() <= TAIL_BYTES_MAX);
        assert_eq!(log.get(4).map(|entry| entry.seq), Some(4));
        assert_eq!(log.get(3), None);
        log.forget();
        assert_eq!((log.tail_bytes(), log.last_seq), (0, 4));
    }

    #[test]
    fn authors_are_found_where_memory_reaches_and_assumed_where_not() {
        let log = log(100);
        assert!(log.wrote("alice", 97, 99) && !log.wrote("alice", 99, 100));
        assert!(!log.wrote("carol", 90, 100));
        assert!(log.wrote("carol", 10, 100));
        assert!(!log.wrote("alice", 100, 100));
    }

    #[test]
    fn what_is_only_in_memory_stays_there_in_bounds() {
        let mut log = log(3);
        log.keep_in_memory(Some(4));
        for seq in 4..=100 {
            log.push(entry(seq, "bob", 1));
        }
        log.visible = 100;
        log.forget();
        assert_eq!((log.oldest_in_memory(), log.rows_to(2), log.rows_to(4)), (37, Some(3), None));
        assert_eq!(seqs(log.from(2)), None, "that is for the rows to say");
        assert_eq!(seqs(log.from(9)), Some((37..=100).collect()), "the oldest have gone");
        assert_eq!(log.between(9, 40).map(|entries| entries.count()), Some(4));
        for seq in 101..=3_000 {
            log.push(entry(seq, "bob", 1));
        }
        assert_eq!(log.oldest_in_memory(), 3_000 - 1_023);
        log.push(entry(3_001, "bob", 1024 * 1024));
        assert_eq!(log.oldest_in_memory(), 3_002, "larger than all of the room there is");
        log.keep_in_memory(None);
        assert!(!log.is_in_memory());
    }

    #[test]
    fn what_was_erased_keeps_its_place_and_nothing_else() {
        let mut log = log(3);
        let before = log.tail_bytes();
        log.erase(Arc::new(log.get(2).unwrap().gone(b"")));
        log.erase(entry(9, "bob", 3));
        let entry = log.get(2).unwrap();
        assert_eq!((entry.seq, entry.kind, entry.payload.len()), (2, crate::entry::Kind::Gone, 0));
        assert!(!log.wrote("bob", 1, 2));
        assert_eq!((log.tail_bytes(), seqs(log.from(1))), (before - 1, Some(vec![1, 2, 3])));
    }

    #[test]
    fn the_present_is_behind_everything_older() {
        let log = log(10);
        assert_eq!(log.before(Time::from_millis(75)), 7);
        assert_eq!(log.before(Time::from_millis(80)), 7);
        assert_eq!(log.before(Time::from_millis(1000)), 10);
        assert_eq!(log.before(Time::default()), 0);
    }
}

//! The ids of a chat's sends: what makes a retry harmless.
//!
//! An id needs no row while its entry is in the log, which says it. When entries go, or are many,
//! their ids are put together into a page: one row for hundreds. In memory are the ids that no page
//! holds yet, and for each other one in which page it is. So a new id is known to be new without a
//! look at the store, and what became of an old one is one row away. A chat that was just read has
//! none of it: they are read before the first send that needs them (`retry.rs`).

use std::collections::VecDeque;

use tidings_core::record::Op;
use tidings_core::time::Time;

use crate::map::{Map, map};
use crate::rows::{ContentHash, IdHash, IdPage, PagedId, RowValue, ids_key};
use crate::topics::ChatId;

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) seq: u64,
    pub(crate) content: ContentHash,
    pub(crate) time: Time,
}

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was used, and this became of it.
    Here(Known),
    /// If it was used, then this page says what became of it.
    Page(u64),
    /// It was not used.
    New,
    /// The pages have to be read first.
    Unread,
}

/// What is known of the id of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    Here(Known),
    /// If it has one, it is in this page.
    Page(u64),
    /// It had none, or it is forgotten.
    Unknown,
    /// The pages have to be read first.
    Unread,
}

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct Ids {
    /// The place of the entry of each, which is told by the first half of its hash: one look for a
    /// new id, wherever the old ones are.
    places: Map<u64, u64>,
    /// Those that no page holds, in the order of their places.
    recent: VecDeque<Recent>,
    /// Whether those are all there are.
    complete: bool,
    /// Nothing if they were not read.
    pages: Option<Pages>,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    id: IdHash,
    known: Known,
}

/// All pages of a chat.
#[derive(Debug, Default)]
struct Pages {
    list: VecDeque<Page>,
    /// How many ids they hold.
    ids: usize,
    /// The last page, while it is so small that more goes into it.
    open: Option<IdPage>,
}

#[derive(Debug, Clone, Copy)]
struct Page {
    first: u64,
    last: u64,
    /// When its last id was used.
    time: Time,
    count: usize,
}

impl Ids {
    /// Those of a chat that has just begun, or of one that is to be read.
    pub(crate) fn new(begins: bool) -> Self {
        let pages = begins.then(Pages::default);
        Self { places: map(), recent: VecDeque::new(), complete: begins, pages }
    }

    /// Whether everything is in memory.
    pub(crate) fn are_read(&self) -> bool {
        self.pages.is_some()
    }

    /// What is known of an id.
    pub(crate) fn find(&self, id: &IdHash) -> Found {
        let Some(pages) = &self.pages else {
            return self.find_recent(id).map_or(Found::Unread, Found::Here);
        };
        let Some(seq) = self.places.get(&short(id)) else { return Found::New };
        if let Some(known) = self.find_recent(id) {
            return Found::Here(known);
        }
        let behind = pages.list.partition_point(|page| page.first <= *seq);
        let page = behind.checked_sub(1).and_then(|at| pages.list.get(at));
        page.map_or(Found::New, |page| Found::Page(page.first))
    }

    fn find_recent(&self, id: &IdHash) -> Option<Known> {
        let seq = self.places.get(&short(id))?;
        let at = self.recent.binary_search_by_key(seq, |recent| recent.known.seq).ok()?;
        self.recent.get(at).filter(|recent| recent.id == *id).map(|recent| recent.known)
    }

    /// What is known of the id of a place.
    pub(crate) fn of_place(&self, seq: u64) -> Placed {
        if let Ok(at) = self.recent.binary_search_by_key(&seq, |recent| recent.known.seq) {
            let recent = self.recent.get(at);
            return recent.map_or(Placed::Unknown, |recent| Placed::Here(recent.known));
        }
        let Some(pages) = &self.pages else { return Placed::Unread };
        let at = pages.list.partition_point(|page| page.last < seq);
        let page = pages.list.get(at).filter(|page| page.first <= seq);
        page.map_or(Placed::Unknown, |page| Placed::Page(page.first))
    }

    /// Remembers the id of an entry behind all others.
    pub(crate) fn insert(&mut self, id: IdHash, known: Known) {
        self.places.insert(short(&id), known.seq);
        self.recent.push_back(Recent { id, known });
    }

    /// How many no page holds.
    pub(crate) fn unpaged(&self) -> usize {
        self.recent.len()
    }

    /// Puts ids of entries up to `upto` into pages; they have been read. The rows are to be stored
    /// with what deletes the entries.
    pub(crate) fn page(&mut self, upto: u64, chat: ChatId, ops: &mut Vec<Op>) {
        let Some(pages) = &mut self.pages else { return };
        let mut left = self.recent.partition_point(|recent| recent.known.seq <= upto);
        while let Some(Recent { known, .. }) = self.recent.front().copied().filter(|_| left > 0) {
            let open = pages.open.take();
            let opened = open.is_some();
            let new = || IdPage { seq: known.seq, time: known.time, ids: Vec::new() };
            let mut page = open.unwrap_or_else(new);
            let count = left.min(PAGE_IDS - page.ids.len());
            left -= count;
            pages.ids += count;
            page.ids.reserve_exact(count);
            for Recent { id, known } in self.recent.drain(..count) {
                page.push(id, known);
            }
            let is = page.told();
            match pages.list.back_mut().filter(|_| opened) {
                Some(grown) => *grown = is,
                None => pages.list.push_back(is),
            }
            ops.push(Op::Put { key: ids_key(chat, page.seq), value: page.to_bytes() });
            pages.open = Some(page).filter(|page| page.ids.len() < OPEN_IDS);
        }
        let over = pages.ids > IDS_MAX + IDS_MAX / 8;
        self.forget_pages(chat, ops, |_, left| over && left > IDS_MAX);
    }

    /// Forgets what was used before `time` and whose entries are all below `floor`. The rows are to be
    /// deleted.
    pub(crate) fn expire(&mut self, time: Time, floor: u64, chat: ChatId, ops: &mut Vec<Op>) {
        self.forget_pages(chat, ops, |page, _| page.time < time && page.last < floor);
    }

    /// Forgets those of entries below `floor` that no page holds.
    pub(crate) fn forget_below(&mut self, floor: u64) {
        while let Some(Recent { id, known }) =
            self.recent.front().copied().filter(|recent| recent.known.seq < floor)
        {
            self.recent.pop_front();
            if self.places.get(&short(&id)) == Some(&known.seq) {
                self.places.remove(&short(&id));
            }
        }
    }

    /// Forgets the oldest pages, as long as `goes` says so of a page and of how many ids are left.
    fn forget_pages(
        &mut self,
        chat: ChatId,
        ops: &mut Vec<Op>,
        goes: impl Fn(&Page, usize) -> bool,
    ) {
        let Some(pages) = &mut self.pages else { return };
        let mut last = 0;
        while let Some(page) = pages.list.front().copied().filter(|page| goes(page, pages.ids)) {
            pages.list.pop_front();
            pages.ids -= page.count;
            ops.push(Op::Delete { key: ids_key(chat, page.first) });
            last = page.last;
        }
        if last > 0 {
            pages.open = pages.open.take().filter(|page| page.seq > last);
            self.places.retain(|_, seq| *seq > last);
        }
    }

    /// Whether it is known which ids no page holds.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// All pages were read, and what is behind them.
    pub(crate) fn have_read(&mut self, Reading { pages, mut places }: Reading) {
        let recent = self.recent.iter();
        places.extend(recent.map(|recent| (short(&recent.id), recent.known.seq)));
        self.places = places;
        self.complete = true;
        self.pages = Some(pages);
    }

    /// Forgets the pages, which can be read again.
    pub(crate) fn forget(&mut self) {
        self.pages = None;
        let recent = self.recent.iter();
        self.places = map();
        self.places.extend(recent.map(|recent| (short(&recent.id), recent.known.seq)));
    }

    /// The memory the pages take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.as_ref().map_or(0, |pages| pages.ids * ID_BYTES)
    }
}

/// Pages on their way into memory.
#[derive(Debug)]
pub(crate) struct Reading {
    pages: Pages,
    places: Map<u64, u64>,
}

impl Reading {
    pub(crate) fn new() -> Self {
        Self { pages: Pages::default(), places: map() }
    }

    /// Takes the next page.
    pub(crate) fn take(&mut self, page: IdPage) {
        let known = page.ids.iter().map(|paged| (short(&paged.id), page.known(paged).seq));
        self.places.extend(known);
        self.pages.ids += page.ids.len();
        self.pages.list.push_back(page.told());
        self.pages.open = Some(page).filter(|page| page.ids.len() < OPEN_IDS);
    }

    /// Up to which entry pages hold the ids.
    pub(crate) fn paged_to(&self) -> u64 {
        self.pages.list.back().map_or(0, |page| page.last)
    }
}

impl IdPage {
    /// What became of an id, if it is here.
    pub(crate) fn find(&self, id: &IdHash) -> Option<Known> {
        self.ids.iter().rev().find(|paged| paged.id == *id).map(|paged| self.known(paged))
    }

    /// What became of the id of a place, if it is here.
    pub(crate) fn of_place(&self, seq: u64) -> Option<Known> {
        let paged = self.ids.iter().find(|paged| self.seq.saturating_add(paged.after) == seq);
        paged.map(|paged| self.known(paged))
    }

    fn push(&mut self, id: IdHash, Known { seq, content, time }: Known) {
        let after = seq.saturating_sub(self.seq);
        let later = time.as_millis().saturating_sub(self.time.as_millis());
        self.ids.push(PagedId { id, content, after, later });
    }

    /// What is remembered of it.
    fn told(&self) -> Page {
        let (last, time) = self.ids.last().map_or((self.seq, self.time), |last| {
            let Known { seq, time, .. } = self.known(last);
            (seq, time)
        });
        Page { first: self.seq, last, time, count: self.ids.len() }
    }

    fn known(&self, paged: &PagedId) -> Known {
        let time = Time::from_millis(self.time.as_millis().saturating_add(paged.later));
        Known { seq: self.seq.saturating_add(paged.after), content: paged.content, time }
    }
}

/// What tells an id from the others of its chat, in memory: a page that does not have it after all
/// says that it is new.
fn short(id: &IdHash) -> u64 {
    id.first_chunk().map_or(0, |half| u64::from_be_bytes(*half))
}

/// How many ids of a chat are remembered. Beyond them the oldest are forgotten, be it before their time:
/// as many sends as two who are bounded as by default make in a day.
const IDS_MAX: usize = 262_144;

/// How many ids no page holds before one is made of them, if their entries stay.
pub(crate) const UNPAGED_MAX: usize = 256;

/// How many ids a page holds at the most.
const PAGE_IDS: usize = 256;

/// A page with fewer ids is written again with the next ones.
const OPEN_IDS: usize = 8;

/// The memory for one id in a page, in bytes.
const ID_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: ChatId = ChatId([7; 16]);

    fn id(number: u64) -> (IdHash, Known) {
        let mut hash = IdHash::default();
        hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let content = number.to_le_bytes();
        (hash, Known { seq: number, content, time: Time::from_millis(number * 10) })
    }

    /// A chat's pages, as the store has them.
    #[derive(Default)]
    struct Disk(std::collections::BTreeMap<Vec<u8>, IdPage>);

    impl Disk {
        fn apply(&mut self, ops: Vec<Op>) {
            for op in ops {
                match op {
                    Op::Put { key, value } => {
                        self.0.insert(key.to_vec(), IdPage::from_bytes(&value).unwrap());
                    }
                    Op::Delete { key } => assert!(self.0.remove(&key[..]).is_some()),
                    _ => panic!(),
                }
            }
        }

        fn read(&self) -> Ids {
            let mut reading = Reading::new();
            self.0.values().cloned().for_each(|page| reading.take(page));
            let mut ids = Ids::new(false);
            ids.have_read(reading);
            ids
        }

        /// What an id leads to.
        fn find(&self, ids: &Ids, hash: &IdHash) -> Option<Known> {
            match ids.find(hash) {
                Found::Here(known) => Some(known),
                Found::Page(page) => self.0.get(&ids_key(CHAT, page)[..])?.find(hash),
                Found::New => None,
                Found::Unread => panic!(),
            }
        }
    }

    #[test]
    fn what_was_used_is_known_whoever_holds_it_and_after_a_read_as_well() {
        let (mut ids, mut disk) = (Ids::new(true), Disk::default());
        let mut next = 1;
        for step in 0..200_u64 {
            for _ in 0..step * step % 97 {
                let (hash, known) = id(next);
                ids.insert(hash, known);
                next += 1;
            }
            let mut ops = Vec::new();
            let upto = next.saturating_sub(step % 5);
            ids.page(upto, CHAT, &mut ops);
            disk.apply(ops);
            assert!(ids.unpaged() < 5);
        }
        let mut ops = Vec::new();
        ids.page(next, CHAT, &mut ops);
        disk.apply(ops);
        let read = disk.read();
        for ids in [&ids, &read] {
            for number in 1..next {
                let (hash, known) = id(number);
                assert_eq!(disk.find(ids, &hash), Some(known), "{number}");
                let Placed::Page(page) = ids.of_place(number) else { panic!("{number}") };
                let page = &disk.0[&ids_key(CHAT, page)[..]];
                assert_eq!(page.of_place(number), Some(known), "{number}");
            }
            assert_eq!(ids.find(&id(next).0), Found::New);
        }
        assert_eq!(read.of_place(next), Placed::Unknown);
        let (hash, known) = id(next);
        ids.insert(hash, known);
        assert_eq!(ids.of_place(next), Placed::Here(known));
        assert_eq!(Ids::new(false).find(&id(1).0), Found::Unread);
        let sizes = disk.0.values().map(|page| page.ids.len());
        assert!(sizes.clone().rev().skip(1).all(|size| (OPEN_IDS..=PAGE_IDS).contains(&size)));
    }

    #[test]
    fn what_is_old_and_whose_entry_is_gone_is_forgotten() {
        let (mut ids, mut disk) = (Ids::new(true), Disk::default());
        for number in 1..=3_000 {
            let (hash, known) = id(number);
            ids.insert(hash, known);
            if number % 100 == 0 {
                let mut ops = Vec::new();
                ids.page(number, CHAT, &mut ops);
                disk.apply(ops);
            }
        }
        let mut ops = Vec::new();
        ids.expire(Time::from_millis(20_001), 1_601, CHAT, &mut ops);
        assert_eq!(ops.len(), 16, "the entries behind are there");
        disk.apply(ops);
        let mut ops = Vec::new();
        ids.expire(Time::from_millis(20_001), 3_001, CHAT, &mut ops);
        assert_eq!(ops.len(), 4, "these are not old enough");
        disk.apply(ops);
        for ids in [&ids, &disk.read()] {
            assert_eq!(ids.find(&id(2_000).0), Found::New);
            assert_eq!(disk.find(ids, &id(2_001).0), Some(id(2_001).1));
        }
    }

    #[test]
    fn too_many_are_forgotten_from_the_oldest_on() {
        let (mut ids, mut disk) = (Ids::new(true), Disk::default());
        let many = IDS_MAX as u64 + IDS_MAX as u64 / 8 + 500;
        for number in 1..=many {
            let (hash, known) = id(number);
            ids.insert(hash, known);
            if ids.unpaged() == UNPAGED_MAX {
                let mut ops = Vec::new();
                ids.page(number, CHAT, &mut ops);
                disk.apply(ops);
            }
        }
        let kept = disk.0.values().map(|page| page.ids.len()).sum::<usize>();
        assert!((IDS_MAX - PAGE_IDS..=IDS_MAX + 2 * PAGE_IDS).contains(&kept), "{kept}");
        assert_eq!(ids.find(&id(1).0), Found::New);
        assert_eq!(disk.find(&ids, &id(many - 600).0), Some(id(many - 600).1));
        assert_eq!(ids.bytes(), kept * ID_BYTES);
    }
}

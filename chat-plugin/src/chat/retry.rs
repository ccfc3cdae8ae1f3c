//! Sends that come a second time, and how it is found out.
//!
//! The ids of a chat are read when the first send with one comes, or the first entry is to go: its
//! pages, and behind them the entries whose ids no page holds. What comes meanwhile waits.

use tidings_core::record::{Query, Row};

use super::cx::{Cx, Reading};
use super::ids::{self, Found, Known, UNPAGED_MAX};
use super::one::{Blocked, Chat};
use crate::code::Code;
use crate::entry::Entry;
use crate::peer::{ChatInput, Outcome, Refusal};
use crate::rows::{
    ChatRow, IdHash, IdPage, RowValue, chat_rows, hash_id, ids_key, log_range, only, split_chat_key,
};

/// What is known of the foremost send's id.
pub(super) enum LookUp {
    Known(Known),
    New,
    /// The store was asked.
    Asked,
}

/// The ids of a chat on their way into memory.
#[derive(Debug)]
pub(super) struct ReadingIds {
    pages: ids::Reading,
    /// A sweep waits for them.
    sweep: bool,
}

impl Chat {
    pub(super) fn look_up(&mut self, hash: &IdHash, cx: &mut Cx<'_>) -> LookUp {
        match self.ids.find(hash) {
            Found::Here(known) => return LookUp::Known(known),
            Found::New => return LookUp::New,
            Found::Page(first) => {
                let range = only(ids_key(self.id(), first));
                let query = Query { range, rows_max: 1, bytes_max: usize::MAX, backwards: false };
                cx.read(self.id(), query, Reading::Id);
            }
            Found::Unread => {
                self.want_ids(false, cx);
            }
        }
        LookUp::Asked
    }

    /// The store has said what the page of the foremost send's id says.
    pub(super) fn id_read(&mut self, rows: &[Row], cx: &mut Cx<'_>) {
        if !matches!(self.blocked, Some(Blocked::Id)) {
            return;
        }
        self.blocked = None;
        let Some(post) = self.waiting.front() else { return };
        let Some(hash) = post.id.as_ref().map(|id| hash_id(&post.sender, id)) else { return };
        match rows.first().map(|row| IdPage::from_bytes(&row.value)).transpose() {
            Ok(page) => match page.and_then(|page| page.find(&hash)) {
                Some(known) => self.retried(known, cx),
                None if self.may_send(cx) => self.admit(Some(hash), cx),
                None => {}
            },
            Err(_) => {
                if let Some(post) = self.waiting.pop_front() {
                    let refusal = Refusal::new(Code::Unavailable, "the id's row cannot be read");
                    cx.refuse(&self.place, ChatInput::Send(post), refusal);
                }
            }
        }
        self.work(cx);
    }

    /// The foremost send has an id that is known.
    pub(super) fn retried(&mut self, known: Known, cx: &mut Cx<'_>) {
        let Some(post) = self.waiting.pop_front() else { return };
        let (about, content_type) = ((post.kind, post.refers), post.content_type.as_deref());
        let content = self.hash_of(known.seq, &post.sender, about, content_type, &post.payload);
        // What was destroyed is taken at its word.
        if content.is_some_and(|content| content != known.content) {
            let refusal =
                Refusal::new(Code::Conflict, "this id was already used for another message");
            return cx.refuse(&self.place, ChatInput::Send(post), refusal);
        }
        if let Some(pending) = self.pending.iter_mut().find(|p| p.entry.seq == known.seq) {
            if pending.waiters.len() >= WAITERS_MAX {
                let refusal = Refusal::busy("too many retries of one message at once");
                return cx.refuse(&self.place, ChatInput::Send(post), refusal);
            }
            pending.waiters.push(post.origin);
            return;
        }
        let outcome = Outcome::Sent { seq: known.seq, time: known.time };
        cx.answer(&self.place, post.origin, post.id.map(|id| (id, false)), outcome);
    }

    /// Whether all ids are in memory; if not, they will be. `sweep`: a sweep waits for them.
    pub(super) fn want_ids(&mut self, sweep: bool, cx: &mut Cx<'_>) -> bool {
        if self.ids.are_read() {
            return true;
        }
        if let Some(reading) = &mut self.reading_ids {
            reading.sweep |= sweep;
        } else {
            let pages = ids::Reading::new();
            self.reading_ids = Some(Box::new(ReadingIds { pages, sweep }));
            let range = chat_rows(self.id(), ChatRow::Ids);
            let query =
                Query { range, rows_max: PAGES_AT_ONCE, bytes_max: BYTES_MAX, backwards: false };
            cx.read(self.id(), query, Reading::Ids);
        }
        false
    }

    /// Pages have come.
    pub(super) fn ids_read(&mut self, rows: &[Row], more: bool, cx: &mut Cx<'_>) {
        let Some(reading) = &mut self.reading_ids else { return };
        // What cannot be read is as good as forgotten: its sends are new.
        let pages = rows.iter().filter_map(|row| IdPage::from_bytes(&row.value).ok());
        pages.for_each(|page| reading.pages.take(page));
        if let Some(last) = rows.last().filter(|_| more) {
            let range = chat_rows(self.id(), ChatRow::Ids).after(&last.key);
            let query =
                Query { range, rows_max: PAGES_AT_ONCE, bytes_max: BYTES_MAX, backwards: false };
            return cx.read(self.id(), query, Reading::Ids);
        }
        if self.ids.is_complete() {
            return self.ids_are_read(cx);
        }
        let from = reading.pages.paged_to() + 1;
        let from = from.max(self.log.floor);
        let in_memory = self.log.between(from, self.log.visible).map(Iterator::collect::<Vec<_>>);
        let Some(entries) = in_memory else { return self.read_ids_of_log(from, cx) };
        entries.iter().for_each(|entry| self.id_of(entry));
        self.ids_are_read(cx);
    }

    fn read_ids_of_log(&mut self, from: u64, cx: &mut Cx<'_>) {
        if from > self.log.visible {
            return self.ids_are_read(cx);
        }
        let range = log_range(self.id(), from, self.log.visible);
        let query =
            Query { range, rows_max: ENTRIES_AT_ONCE, bytes_max: BYTES_MAX, backwards: false };
        cx.read(self.id(), query, Reading::IdsOfLog);
    }

    /// Entries behind the pages have come.
    pub(super) fn ids_of_log_read(&mut self, rows: &[Row], more: bool, cx: &mut Cx<'_>) {
        let seq_of = |row: &Row| {
            let (_, seq) = split_chat_key(&row.key)?;
            Some(u64::from_be_bytes(seq.try_into().ok()?))
        };
        for row in rows {
            if let Some(entry) = self.keys.entry(row) {
                self.id_of(&entry);
            }
        }
        match rows.last().and_then(seq_of).filter(|_| more) {
            Some(last) => self.read_ids_of_log(last + 1, cx),
            None => self.ids_are_read(cx),
        }
    }

    fn id_of(&mut self, entry: &Entry) {
        let content = self.content_of(entry);
        let known = Known { seq: entry.seq, content, time: entry.time };
        self.ids.insert(hash_id(&entry.from, &entry.id), known);
    }

    fn ids_are_read(&mut self, cx: &mut Cx<'_>) {
        let Some(reading) = self.reading_ids.take() else { return };
        let ReadingIds { pages, sweep } = *reading;
        self.ids.have_read(pages);
        if matches!(self.blocked, Some(Blocked::Id)) {
            self.blocked = None;
            self.work(cx);
        }
        if sweep {
            self.sweep_read(cx);
        }
        self.expend_later(cx);
    }

    /// Entries that stay: when they are many, their ids go into pages, and their authors into the row.
    pub(super) fn page_many(&mut self, cx: &mut Cx<'_>) {
        if self.log.is_in_memory() {
            if cx.shared.memory_bytes > cx.options().memory_bytes_max {
                self.log.forget_oldest(SCARCE_BYTES);
            }
            // What became of those that are only in memory is nobody's to know later.
            return self.ids.forget_below(self.log.oldest_in_memory());
        }
        let visible = self.log.visible;
        let mut ops = Vec::new();
        if self.ids.unpaged() >= UNPAGED_MAX && self.ids.are_read() {
            self.ids.page(visible, self.id(), &mut ops);
        }
        if visible >= self.authors_of.kept().max(self.log.floor) + UNPAGED_MAX as u64 {
            self.authors_op(visible, &mut ops);
        }
        if !ops.is_empty() {
            cx.store(ops, false);
        }
    }
}

/// What a chat keeps that is only in memory, in bytes, where all such chats keep too much.
const SCARCE_BYTES: usize = 16 * 1024;

/// How many retries of one send may wait for it to be stored.
const WAITERS_MAX: usize = 64;

/// How many pages one read takes.
const PAGES_AT_ONCE: usize = 256;

/// How many entries one read takes.
const ENTRIES_AT_ONCE: usize = 256;

/// After how many bytes either ends.
const BYTES_MAX: usize = 1 << 20;

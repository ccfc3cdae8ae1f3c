//! Reading a chat from its rows.
//!
//! What lies in front of the ids is all there is of a chat beside its log: head, members, cursors.
//! Of the log its end is read, which is all of it where everybody has what was sent: the newest place
//! is the larger of the head's and the last row's. One read from the front holds both of most chats; only
//! where that is too much, a second one looks at the end, and a third at what is between it and the
//! row that tells who wrote what. The ids wait for the first who needs them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::record::{Query, Row};

use super::authors::Authors;
use super::cursor::Member;
use super::cx::{Cx, Reading};
use super::hidden::Hidden;
use super::keys::Keys;
use super::log::{Log, TAIL_ENTRIES_MAX};
use super::members::Members;
use super::one::Chat;
use crate::code::Code;
use crate::entry::Entry;
use crate::group::Retention;
use crate::peer::{ChatInput, Refusal};
use crate::rows::{
    AuthorsRow, ChatRow, CursorRow, GroupRow, HeadPart, HeadRow, HiddenRow, KeyRow, MemberRow,
    RowValue, SeatRow, SettingsRow, chat_range, chat_rows, front_range, log_range, split_chat_key,
    stance_of,
};
use crate::ties::Stance;
use crate::topics::Place;

/// A chat that is being read, and what came for it meanwhile.
#[derive(Debug)]
pub(super) struct Loading {
    place: Arc<Place>,
    waiting: VecDeque<ChatInput>,
    sends: usize,
    head: Option<HeadRow>,
    members: Members,
    group: GroupRow,
    authors: Authors,
    hidden: Vec<(Box<str>, Hidden)>,
    settings: SettingsRow,
    key: KeyRow,
    /// Of the log, as they are: the key may come behind them.
    rows: Vec<(u64, Bytes)>,
    entries: Vec<Arc<Entry>>,
}

/// How a load goes on.
pub(super) enum Load {
    Reading,
    Loaded(Box<Chat>, VecDeque<ChatInput>),
    Failed(Refusal),
}

impl Loading {
    pub(super) fn new(place: Arc<Place>) -> Self {
        let members = Members::of(&place);
        Self {
            place,
            waiting: VecDeque::new(),
            sends: 0,
            head: None,
            members,
            group: GroupRow::default(),
            authors: Authors::default(),
            hidden: Vec::new(),
            settings: SettingsRow::default(),
            key: KeyRow::default(),
            rows: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) {
        let range = chat_range(self.place.id);
        let query = Query { range, rows_max: FIRST_ROWS, bytes_max: FIRST_BYTES, backwards: false };
        cx.read(self.place.id, query, Reading::Whole);
    }

    /// Keeps what came for later. Sends are bounded; all else is by the members' devices.
    pub(super) fn queue(&mut self, what: ChatInput, cx: &mut Cx<'_>) {
        if matches!(what, ChatInput::Send(_) | ChatInput::Read { .. } | ChatInput::Info { .. }) {
            if self.sends >= cx.options().chat_waiting_max {
                return cx.refuse(&self.place, what, Refusal::busy("the chat is being read"));
            }
            self.sends += 1;
        }
        self.waiting.push_back(what);
    }

    pub(super) fn into_queue(self) -> (Arc<Place>, VecDeque<ChatInput>) {
        (self.place, self.waiting)
    }

    /// Takes rows, and asks for more or is done.
    pub(super) fn rows(
        &mut self,
        reading: &Reading,
        rows: Vec<Row>,
        more: bool,
        cx: &mut Cx<'_>,
    ) -> Load {
        if let Reading::Between(to) = reading {
            return self.between(*to, &rows, more, cx);
        }
        let last = rows.last().map(|row| row.key.clone()).filter(|_| more);
        let in_front = |key: &Bytes| split_chat_key(key).is_some_and(|(row, _)| row < ChatRow::Ids);
        for row in rows {
            if self.take(&row).is_none() {
                return Load::Failed(unreadable());
            }
        }
        match (reading, last) {
            // So many cursors that the rest is yet to come.
            (Reading::Whole | Reading::Front, Some(key)) if in_front(&key) => {
                let range = front_range(self.place.id).after(&key);
                let query =
                    Query { range, rows_max: ROWS_MAX, bytes_max: BYTES_MAX, backwards: false };
                cx.read(self.place.id, query, Reading::Front);
                return Load::Reading;
            }
            (Reading::Whole, Some(_)) | (Reading::Front, _) => {
                // The oldest entries are of no use: they leave no gap to the newest.
                self.rows.clear();
                let query = Query {
                    range: chat_rows(self.place.id, ChatRow::Log),
                    rows_max: TAIL_ENTRIES_MAX,
                    bytes_max: BYTES_MAX,
                    backwards: true,
                };
                cx.read(self.place.id, query, Reading::End);
                return Load::Reading;
            }
            (Reading::End, _) => self.rows.reverse(),
            _ => {}
        }
        match self.gap() {
            Some((from, to)) => {
                self.authors.begin(from);
                self.read_between(from, to, cx);
                Load::Reading
            }
            None => self.finish(cx),
        }
    }

    /// The places of which neither the row of authors nor the end of the log tells who wrote there,
    /// and that somebody has not read.
    fn gap(&self) -> Option<(u64, u64)> {
        let head = self.head.as_ref().filter(|_| self.settings.retention != Retention::Memory)?;
        let last = self.rows.last().map_or(0, |(seq, _)| *seq).max(head.last_seq);
        let numbers = self.rows.iter().rev().map(|(seq, _)| *seq);
        let at_end = numbers.zip((1..=last).rev()).take_while(|(seq, at)| seq == at).count();
        let present = self.members.iter().filter(|(_, member)| member.is_present());
        let read = present.map(|(_, member)| member.far.read.max(member.from.saturating_sub(1)));
        let known = self.authors.end().max(head.floor.saturating_sub(1));
        let known = known.max(read.min().unwrap_or_default());
        let to = last - at_end as u64;
        (known < to).then(|| (to.saturating_sub(GAP_MAX).max(known) + 1, to))
    }

    fn read_between(&self, from: u64, to: u64, cx: &mut Cx<'_>) {
        let range = log_range(self.place.id, from, to);
        let query = Query { range, rows_max: ROWS_MAX, bytes_max: BYTES_MAX, backwards: false };
        cx.read(self.place.id, query, Reading::Between(to));
    }

    fn between(&mut self, to: u64, rows: &[Row], more: bool, cx: &mut Cx<'_>) -> Load {
        let keys = Keys::read(self.key, cx);
        for row in rows {
            let Some(entry) = keys.entry(row) else { return Load::Failed(unreadable()) };
            // What is missing here has been deleted.
            self.authors.pass(entry.seq - 1);
            self.authors.push(&entry);
        }
        if more && !rows.is_empty() {
            self.read_between(self.authors.end() + 1, to, cx);
            return Load::Reading;
        }
        self.authors.pass(to);
        self.finish(cx)
    }

    fn take(&mut self, row: &Row) -> Option<()> {
        let (kind, rest) = split_chat_key(&row.key)?;
        match kind {
            ChatRow::Head => self.take_head(HeadPart::of(rest)?, row)?,
            ChatRow::Group => self.group = GroupRow::from_bytes(&row.value).ok()?,
            ChatRow::Member if stance_of(rest).is_some() => {
                // Of a group it may be somebody long gone.
                if let Some(member) = self.members.get_mut(stance_of(rest)?) {
                    member.stance = Stance::from_bytes(&row.value).ok()?;
                }
            }
            ChatRow::Member => {
                let user = std::str::from_utf8(rest).ok()?;
                if self.place.is_group() {
                    let seat = SeatRow::from_bytes(&row.value).ok()?;
                    self.members.put(&user.into(), Member::seated(seat));
                } else {
                    let stored = MemberRow::from_bytes(&row.value).ok()?;
                    *self.members.get_mut(user)? = Member::stored(stored);
                }
            }
            ChatRow::Device => {
                let end = rest.iter().position(|byte| *byte == 0)?;
                let (user, client_id) = rest.split_at_checked(end)?;
                let client_id = std::str::from_utf8(client_id.get(1..)?).ok()?;
                let cursor = CursorRow::from_bytes(&row.value).ok()?;
                let member = self.members.get_mut(std::str::from_utf8(user).ok()?);
                if member.is_none() && self.place.is_group() {
                    // Of somebody long gone.
                    return Some(());
                }
                member?.add_stored_device(client_id, cursor);
            }
            ChatRow::Ids => {}
            ChatRow::Log => {
                let seq = u64::from_be_bytes(rest.try_into().ok()?);
                self.rows.push((seq, row.value.clone()));
            }
        }
        Some(())
    }

    fn take_head(&mut self, part: HeadPart<'_>, row: &Row) -> Option<()> {
        match part {
            HeadPart::Head => self.head = Some(HeadRow::from_bytes(&row.value).ok()?),
            HeadPart::Authors => {
                self.authors = Authors::from_row(AuthorsRow::from_bytes(&row.value).ok()?);
            }
            HeadPart::Hidden(user) => {
                let hidden = Hidden::from_row(HiddenRow::from_bytes(&row.value).ok()?);
                self.hidden.push((user.into(), hidden));
            }
            HeadPart::Key => self.key = KeyRow::from_bytes(&row.value).ok()?,
            HeadPart::Settings => self.settings = SettingsRow::from_bytes(&row.value).ok()?,
        }
        Some(())
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Load {
        let keys = Keys::read(self.key, cx);
        for (seq, value) in self.rows.drain(..) {
            let Some(entry) = keys.entry_of(seq, &value) else { return Load::Failed(unreadable()) };
            self.entries.push(Arc::new(entry));
        }
        let mut log = self.head.as_ref().map_or_else(
            || Log::new(0, tidings_core::time::Time::default(), 1),
            |head| Log::new(head.last_seq, head.last_time, head.floor),
        );
        if let Some(last) = self.entries.last() {
            log.last_seq = log.last_seq.max(last.seq);
            log.last_time = log.last_time.max(last.time);
            log.visible = log.last_seq;
        }
        // Only what reaches the end without a gap serves as memory of it.
        let last_seq = log.last_seq;
        let contiguous = |at: &usize| {
            let expected = last_seq.checked_sub(*at as u64);
            self.entries.iter().rev().nth(*at).map(|entry| entry.seq) == expected
        };
        let usable = (0..self.entries.len()).take_while(contiguous).count();
        let skip = self.entries.len() - usable;
        let bytes = self.entries.iter().map(|entry| entry.size() as u64).sum();
        log.count_kept(self.entries.len() as u64, bytes);
        // They may be more than memory holds.
        let mut authors = std::mem::take(&mut self.authors);
        for entry in self.entries.drain(..).skip(skip) {
            authors.push(&entry);
            log.remember(entry);
        }
        let mut members = std::mem::take(&mut self.members);
        for (user, hidden) in self.hidden.drain(..) {
            if let Some(member) = members.get_mut(&user) {
                member.hidden = hidden;
            }
        }
        let group = std::mem::take(&mut self.group);
        let place = Arc::clone(&self.place);
        let mut chat = Chat::new(place, self.head.take(), log, authors, members, group);
        chat.settings = self.settings;
        chat.keys = keys;
        chat.resume_settings();
        chat.find_dead();
        Load::Loaded(Box::new(chat), std::mem::take(&mut self.waiting))
    }
}

fn unreadable() -> Refusal {
    let text = "a row of this chat cannot be read: was it written by a newer server?";
    Refusal::new(Code::Unavailable, text)
}

/// Of how many entries it is looked who wrote them.
const GAP_MAX: u64 = 16_384;

/// How many rows the first read takes: head, cursors, and what waits in most chats.
const FIRST_ROWS: usize = 96;

/// After how many bytes it ends.
const FIRST_BYTES: usize = 64 * 1024;

/// How many rows another read of cursors takes.
const ROWS_MAX: usize = 1_024;

/// After how many bytes it ends.
const BYTES_MAX: usize = 256 * 1024;

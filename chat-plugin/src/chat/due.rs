//! What goes by a time of its own: content with a timer, and entries of chats that keep them for so
//! many days.
//!
//! A chat of which something goes has a row that says when the next does, and a shard reads these
//! rows when it begins: so it goes also while nobody asks for the chat, and over a restart. Until it
//! has gone, nobody is shown it any more. Looking for what goes walks over the whole log, and so is
//! put off a little where much goes piece by piece.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::record::{KeyRange, Op, Query, Row};
use tidings_core::slot::Slot;
use tidings_core::time::Time;

use super::cx::{Cx, Reading};
use super::one::Chat;
use crate::entry::{Entry, Kind};
use crate::group::Retention;
use crate::rows::{DueRow, RowValue, doomed_place, due_key, due_range, log_range, split_chat_key};
use crate::topics::{ChatId, Place};

/// A walk over the log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Purging {
    /// When the next entry goes of those that were passed and stay.
    next: Option<Time>,
    /// Whether nothing stays so far.
    nothing_stays: bool,
    /// Everything below it has gone.
    below: u64,
}

impl Chat {
    /// When an entry goes.
    fn goes_at(&self, entry: &Entry) -> Option<Time> {
        let kept = match self.settings.retention {
            Retention::Days(days) => {
                Some(entry.time + Duration::from_secs(u64::from(days) * DAY_SECONDS))
            }
            _ => None,
        };
        [kept, entry.expires].into_iter().flatten().min()
    }

    /// An entry comes: the chat is woken when it goes.
    pub(super) fn due_ops(&mut self, entry: &Entry, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        let Some(at) = self.goes_at(entry) else { return };
        if let Some(purging) = &mut self.purging {
            purging.next = Some(purging.next.map_or(at, |next| next.min(at)));
        } else if self.due.is_none_or(|due| at < due) {
            self.set_due(Some(at), ops, cx);
        }
    }

    /// It is looked before long what goes when.
    pub(super) fn look_for_due(&mut self, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        if self.purging.is_none() {
            self.set_due(Some(cx.now() + SOON), ops, cx);
        }
    }

    fn set_due(&mut self, at: Option<Time>, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        if at == self.due {
            return;
        }
        self.due = at;
        let key = due_key(self.id());
        ops.push(match at {
            Some(at) => {
                let members = self.place.members().iter().map(|name| name.to_string()).collect();
                let group = self.place.group_name().map(Into::into);
                Op::Put { key, value: DueRow { at, members, group }.to_bytes() }
            }
            None => Op::Delete { key },
        });
        cx.wake_at(&self.place, at);
    }

    /// Something is due: the log is looked through.
    pub(super) fn purge(&mut self, cx: &mut Cx<'_>) {
        if self.purging.is_some() || self.due.is_none_or(|due| due > cx.now()) {
            return;
        }
        self.purging = Some(Purging { next: None, nothing_stays: true, below: 0 });
        self.read_for_purge(self.log.floor, cx);
    }

    fn read_for_purge(&mut self, from: u64, cx: &mut Cx<'_>) {
        let to = self.log.rows_to(from).unwrap_or(self.log.last_seq);
        if from > to || self.log.is_in_memory() && self.log.rows_to(from).is_none() {
            return self.purge_memory(cx);
        }
        let query = Query {
            range: log_range(self.id(), from, to),
            rows_max: ROWS_MAX,
            bytes_max: BYTES_MAX,
            backwards: false,
        };
        cx.read(self.id(), query, Reading::Purge);
    }

    /// Entries have come.
    pub(super) fn purge_read(&mut self, rows: &[Row], more: bool, cx: &mut Cx<'_>) {
        let seq_of = |row: &Row| {
            let (_, seq) = split_chat_key(&row.key)?;
            Some(u64::from_be_bytes(seq.try_into().ok()?))
        };
        let mut ops = Vec::new();
        for row in rows {
            if let Some(entry) = self.keys.entry(row) {
                self.purge_entry(entry, &mut ops, cx);
            }
        }
        let below = self.purging.map_or(0, |purging| purging.below);
        if below > self.log.floor {
            self.delete_below(below, &mut ops);
            self.retire_key(true, &mut ops, cx);
        }
        if !ops.is_empty() {
            cx.store(ops, false);
        }
        match rows.last().and_then(seq_of).filter(|_| more) {
            Some(last) => self.read_for_purge(last + 1, cx),
            None => self.purge_memory(cx),
        }
    }

    /// What is only in memory goes from there.
    fn purge_memory(&mut self, cx: &mut Cx<'_>) {
        let mut ops = Vec::new();
        if self.log.is_in_memory() {
            let entries: Vec<_> = self.log.tail().cloned().collect();
            for entry in entries {
                self.purge_entry(Entry::clone(&entry), &mut ops, cx);
            }
        }
        let Some(purging) = self.purging.take() else { return };
        let soonest = cx.now() + SOON.max(Duration::from_secs(self.settings.timer / PUT_OFF));
        self.set_due(purging.next.map(|next| next.max(soonest)), &mut ops, cx);
        if !ops.is_empty() {
            cx.store(ops, false);
        }
    }

    fn purge_entry(&mut self, entry: Entry, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        let Some(mut purging) = self.purging else { return };
        let (seq, at) = (entry.seq, self.goes_at(&entry));
        let is_gone = entry.kind == Kind::Gone;
        if !is_gone && at.is_none_or(|at| at > cx.now()) {
            purging.nothing_stays = false;
            let sooner = |next: Time| at.map_or(next, |at| at.min(next));
            purging.next = purging.next.map(sooner).or(at);
        } else if purging.nothing_stays && self.want_ids(false, cx) && !self.log.is_in_memory() {
            // All before it has gone as well.
            self.authors_of.erase(seq);
            purging.below = seq + 1;
        } else if !is_gone {
            self.target = Some(entry);
            self.erase(seq, ops);
            self.target = None;
        }
        self.purging = Some(purging);
    }
}

impl Cx<'_> {
    pub(super) fn read_due(&mut self, slot: Slot, range: KeyRange) {
        let query = Query { range, rows_max: ROWS_MAX, bytes_max: BYTES_MAX, backwards: false };
        let nobody = ChatId([0; 16]);
        self.read(nobody, query, Reading::Due(slot));
    }

    /// A key was to go when the shard was last there.
    fn doomed_read(&mut self, row: &Row, place: u64) {
        let Some(vault) = &self.shared.vault else { return };
        if vault.secret(place).is_some() {
            vault.destroy(place);
        } else {
            self.store(vec![Op::Delete { key: row.key.clone() }], false);
        }
    }

    /// What is due of the chats of a slot has come.
    pub(super) fn due_read(&mut self, slot: Slot, rows: &[Row], more: bool) {
        for row in rows {
            if let Some(place) = doomed_place(&row.key) {
                self.doomed_read(row, place);
                continue;
            }
            let Ok(DueRow { at, members, group }) = DueRow::from_bytes(&row.value) else {
                continue;
            };
            let place = match (group, &members[..]) {
                (Some(group), _) => Place::group(&group),
                (None, [one]) => Place::direct(one, one),
                (None, [one, other]) => Place::direct(one, other),
                _ => continue,
            };
            // What was set meanwhile is newer.
            if !self.shared.due.contains_key(&place.id) {
                self.wake_at(&Arc::clone(&place), Some(at));
            }
        }
        if let Some(last) = rows.last().filter(|_| more) {
            self.read_due(slot, due_range(slot).after(&last.key));
        }
    }
}

const DAY_SECONDS: u64 = 24 * 3_600;

/// By which part of its time something may go late, so that a log is not walked over too often.
const PUT_OFF: u64 = 64;

/// And by how much at the least.
const SOON: Duration = Duration::from_secs(1);

/// How many rows one step looks at.
const ROWS_MAX: usize = 256;

/// After how many bytes it ends.
const BYTES_MAX: usize = 256 * 1024;

//! What goes, and when: an entry when every device of every member has it, an id when its entry is
//! gone and a day has passed, and everything after a time.
//!
//! Deleting is never urgent. It rides along with the cursors, and what was written and deleted
//! between two checkpoints of the store never reaches it.

use tidings_core::record::{Op, Query, Row};
use tidings_core::time::Time;

use super::cursor::Member;
use super::cx::{Cx, Reading, Timer};
use super::one::Chat;
use crate::group::Retention;
use crate::rows::{RowValue, authors_key, log_key, log_range};

impl Chat {
    /// How many of the oldest entries every device of every member has. A member without any device
    /// is waited for.
    pub(super) fn expendable(&self) -> u64 {
        if self.place.is_room() {
            // Whoever opens a seat sees the room as it is.
            return 0;
        }
        let upto = match self.settings.retention {
            Retention::UntilDelivered => self.log.visible,
            // What has rows is from before.
            Retention::Memory => self.log.rows_to(0).unwrap_or_default().min(self.log.visible),
            Retention::Days(_) | Retention::Forever => self.dead_to.min(self.log.visible),
        };
        if self.members.count() > COUNTED_MAX {
            // Somebody is always away: what so many hear is kept for its time.
            return 0;
        }
        // Who was removed still gets what was sent before.
        let owed = |member: &Member| {
            member.is_present() || !(member.devices.is_empty() || member.is_through())
        };
        let waited = self.members.iter().filter(|(_, member)| owed(member));
        let had = waited.map(|(_, member)| member.all_have()).min();
        // A group that everybody has left keeps nothing.
        let had = had.unwrap_or_else(|| if self.created.is_some() { self.log.visible } else { 0 });
        (had.min(upto) + 1).saturating_sub(self.log.floor)
    }

    /// Sees to it that what everybody has goes before long.
    pub(super) fn expend_later(&mut self, cx: &mut Cx<'_>) {
        if !self.place.is_group() {
            if self.expendable() > 0 {
                self.set_flush(cx);
            }
        } else if self.members.count() <= COUNTED_MAX
            && !std::mem::replace(&mut self.expend_set, true)
        {
            // Looks at every member, and so not at each acknowledgement.
            cx.set_timer(cx.now() + EXPEND_DELAY, self.id(), Timer::Expend);
        }
    }

    /// The time for it has come.
    pub(super) fn expend(&mut self, cx: &mut Cx<'_>) {
        self.expend_set = false;
        if self.expendable() > 0 {
            self.expend_due = true;
            self.set_flush(cx);
        }
    }

    /// Deletes them, as far as one record goes.
    pub(super) fn delete_expendable(&mut self, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        let count = self.expendable().min(DELETES_MAX);
        if count > 0 && self.want_ids(false, cx) {
            self.delete_below(self.log.floor + count, ops);
            self.retire_key(false, ops, cx);
        }
    }

    /// Deletes the entries below a place. Their ids have been read.
    pub(super) fn delete_below(&mut self, floor: u64, ops: &mut Vec<Op>) {
        self.ids.page(floor.saturating_sub(1), self.id(), ops);
        ops.extend((self.log.floor..floor).map(|seq| self.delete_op(seq)));
        self.log.raise_floor(floor);
        self.log.trim();
        ops.push(self.head_op());
        self.authors_op(floor.saturating_sub(1), ops);
    }

    /// Deletes the row of an entry.
    fn delete_op(&self, seq: u64) -> Op {
        let key = log_key(self.id(), seq);
        // What was put twice must not come back as it was at first.
        if seq <= self.settings.rewritten { Op::Delete { key } } else { Op::Forget { key } }
    }

    /// What remains of entries that go, in the record that deletes them; of what is up to a place.
    pub(super) fn authors_op(&mut self, upto: u64, ops: &mut Vec<Op>) {
        if self.members.count() <= COUNTED_MAX {
            // What was reported and is not safe may have to be said again.
            let present = self.members.iter().filter(|(_, member)| member.is_present());
            let read =
                present.map(|(_, member)| member.safe.read.max(member.from.saturating_sub(1)));
            self.authors_of.forget(read.min().unwrap_or_default());
        }
        if let Some(row) = self.authors_of.row(upto) {
            let key = authors_key(self.id());
            ops.push(if row.runs.is_empty() {
                Op::Delete { key }
            } else {
                Op::Put { key, value: row.to_bytes() }
            });
        }
    }

    /// The chat is in memory now.
    pub(super) fn loaded(&mut self, cx: &mut Cx<'_>) {
        self.all_hear(cx);
        self.due = cx.shared.due.get(&self.id()).map(|(at, _)| *at);
        self.sweep_at = cx.now() + FIRST_SWEEP;
        cx.set_timer(self.sweep_at, self.id(), Timer::Sweep);
        self.expend_later(cx);
    }

    /// Begins to look for what has expired. A timer from before the chat was unloaded is not meant.
    pub(super) fn sweep(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        if now < self.sweep_at || self.sweeping {
            return;
        }
        self.sweep_at = now + SWEEP_EVERY;
        cx.set_timer(self.sweep_at, self.id(), Timer::Sweep);
        self.sweep_former(cx);
        if self.want_ids(true, cx) {
            self.sweep_read(cx);
        }
    }

    /// The ids have been read.
    pub(super) fn sweep_read(&mut self, cx: &mut Cx<'_>) {
        if self.sweeping {
            return;
        }
        self.read_log(cx);
    }

    /// Forgets ids that are old and whose entries are gone.
    fn expire_ids(&mut self, cx: &mut Cx<'_>) {
        let kept = u64::try_from(cx.options().ids_kept.as_millis()).unwrap_or(u64::MAX);
        let used_before = Time::from_millis(cx.now().as_millis().saturating_sub(kept));
        let mut ops = Vec::new();
        self.ids.expire(used_before, self.log.floor, self.id(), &mut ops);
        if !ops.is_empty() {
            cx.store(ops, false);
        }
    }

    fn read_log(&mut self, cx: &mut Cx<'_>) {
        self.sweeping = self.log.floor <= self.log.visible;
        if !self.sweeping {
            self.expire_ids(cx);
        } else {
            let query = Query {
                range: log_range(self.id(), self.log.floor, self.log.visible),
                rows_max: SWEEP_ROWS,
                bytes_max: SWEEP_BYTES,
                backwards: false,
            };
            cx.read(self.id(), query, Reading::SweepLog);
        }
    }

    pub(super) fn sweep_log(&mut self, rows: &[Row], cx: &mut Cx<'_>) {
        self.sweeping = false;
        let now = cx.now();
        let Some(retention) = self.kept_for(cx) else { return self.expire_ids(cx) };
        let entry = |row: &Row| self.keys.entry(row);
        let read = rows.iter().map_while(entry);
        let expired: Vec<u64> =
            read.take_while(|entry| entry.time + retention < now).map(|entry| entry.seq).collect();
        let Some(last) = expired.last().filter(|_| self.ids.are_read()) else {
            return self.expire_ids(cx);
        };
        let all = expired.len() == rows.len();
        let mut ops = Vec::new();
        self.delete_below(self.log.floor.max(last + 1), &mut ops);
        self.retire_key(false, &mut ops, cx);
        cx.store(ops, false);
        if all {
            self.read_log(cx);
        } else {
            self.expire_ids(cx);
        }
    }
}

/// Up to how many members it is looked whether all have an entry.
const COUNTED_MAX: usize = 1_024;

/// How long acknowledgements in a group gather before it is looked.
const EXPEND_DELAY: std::time::Duration = std::time::Duration::from_secs(1);

/// How many entries one record deletes.
const DELETES_MAX: u64 = 256;

/// How many rows a step of a sweep looks at.
const SWEEP_ROWS: usize = 256;

/// After how many bytes it ends.
const SWEEP_BYTES: usize = 256 * 1024;

/// How long after loading the first sweep comes.
const FIRST_SWEEP: std::time::Duration = std::time::Duration::from_secs(60);

/// How long after that the next.
const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(60 * 60);

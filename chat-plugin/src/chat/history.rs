//! Parts of the log on request: every range is answered completely.
//!
//! What is between the first and the last place of an answer and not among its entries is said to be
//! gone, so that a device that lacks something always learns what became of it. An answer that would
//! be too long ends earlier and says where; the asker goes on from there.

use std::sync::Arc;

use tidings_core::record::{Query, Row};
use tidings_core::slot::ShardId;

use super::cx::{Cx, Reading};
use super::one::Chat;
use crate::entry::Entry;
use crate::peer::{Outcome, Part, Question, Range, Summary, SyncId, Tick, ToUser};
use crate::rows::{MemberRow, log_range};

/// A part of the log that is being read.
#[derive(Debug)]
pub(super) struct Asked {
    from: u64,
    to: u64,
    last: u64,
    user: Arc<str>,
    /// Whether it ends at the end where it is too long, and not at its beginning.
    backwards: bool,
    ask: Box<Question>,
}

impl Chat {
    /// A member asks for a part of the log.
    pub(super) fn history(
        &mut self,
        user: &Arc<str>,
        range: Range,
        ask: Box<Question>,
        cx: &mut Cx<'_>,
    ) {
        let member = self.members.get(user);
        let Some(member) = member.filter(|_| self.created.is_some()) else {
            let refusal = self.is_member(user).err().unwrap_or_else(Self::nobody);
            return cx.answer(&self.place, ask.origin, None, Outcome::Refused(refusal));
        };
        let last = member.sees_to(self.log.visible);
        let to = range.to.unwrap_or(last);
        // Behind her removal everything is gone for her, whether there is something or not.
        let to = if member.is_present() { to.min(last) } else { to };
        let kept_to = to.min(last);
        let from = range.from.unwrap_or(1).max(1);
        let user = Arc::clone(user);
        // What has rows and what is only in memory do not go into one answer.
        let (mut from, mut to, mut kept_to) = (from, to, kept_to);
        if let Some(rows_to) =
            self.log.rows_to(from.max(self.log.floor)).filter(|rows| *rows < kept_to)
        {
            if range.from.is_none() {
                from = rows_to + 1;
            } else {
                (to, kept_to) = (rows_to, rows_to);
            }
        }
        let asked = Asked { from, to, last, backwards: range.from.is_none(), user, ask };
        let kept_from = from.max(self.log.floor);
        if kept_from > kept_to {
            return self.tell_history(asked, Vec::new(), false, cx);
        }
        if let Some(entries) = self.log.between(kept_from, kept_to) {
            let size = |entry: &Arc<Entry>| entry.size();
            let (entries, more) = if asked.backwards {
                let (mut entries, more) = bounded(entries.rev(), range.limit, size);
                entries.reverse();
                (entries, more)
            } else {
                bounded(entries, range.limit, size)
            };
            return self.tell_history(asked, entries, more, cx);
        }
        let query = Query {
            range: log_range(self.id(), kept_from, kept_to),
            rows_max: range.limit,
            bytes_max: HISTORY_BYTES_MAX,
            backwards: asked.backwards,
        };
        self.reads += 1;
        cx.read(self.id(), query, Reading::History(Box::new(asked)));
    }

    /// The rows for it have come.
    pub(super) fn history_read(&mut self, asked: Asked, rows: &[Row], more: bool, cx: &mut Cx<'_>) {
        self.reads = self.reads.saturating_sub(1);
        // A row that cannot be read is passed over, as one that is gone.
        let entry = |row: &Row| self.keys.entry(row).map(Arc::new);
        let mut entries: Vec<Arc<Entry>> = rows.iter().filter_map(entry).collect();
        if asked.backwards {
            entries.reverse();
        }
        self.tell_history(asked, entries, more, cx);
    }

    fn tell_history(
        &self,
        asked: Asked,
        mut entries: Vec<Arc<Entry>>,
        more: bool,
        cx: &mut Cx<'_>,
    ) {
        let Asked { mut from, mut to, last, backwards, user, ask } = asked;
        if more && backwards {
            from = entries.first().map_or(from, |entry| entry.seq);
        } else if more {
            to = entries.last().map_or(to, |entry| entry.seq);
        }
        self.keep_seen(&user, &mut entries, cx.now());
        let gone = gaps(from, to, entries.iter().map(|entry| entry.seq));
        let shard = ask.origin.shard;
        let part = Part { from, to, last, entries, gone };
        cx.tell_shard(shard, ToUser::History { place: Arc::clone(&self.place), ask, part });
    }

    /// Says where the chat is.
    pub(super) fn summarise(&self, user: &str, shard: ShardId, sync: SyncId, cx: &mut Cx<'_>) {
        let summary = self.summary(user, cx);
        cx.tell_shard(shard, ToUser::Summary { place: Arc::clone(&self.place), sync, summary });
    }

    fn summary(&self, user: &str, cx: &Cx<'_>) -> Option<Summary> {
        let member = self.members.get(user)?;
        self.created?;
        let last = member.until.map_or(self.log.visible, |until| until.min(self.log.visible));
        let read = member.far.read.min(last);
        if member.hidden.contains(last) && member.hidden.reach(1) >= last {
            // She has deleted her side, and nothing came since.
            return None;
        }
        let begun = read.max(member.from.saturating_sub(1));
        let hidden = member.hidden.behind(begun).filter(|(first, _)| *first <= last);
        let hidden =
            hidden.map(|(first, to)| self.authors_of.unread(user, first - 1, to.min(last)));
        let hidden = hidden.sum();
        let tick = |safe: MemberRow| Tick {
            delivered: Some(safe.delivered),
            read: Some(safe.read),
            failed: Vec::new(),
        };
        let mut others = Vec::new();
        let writes = member.writes || self.place.is_group() && member.may_write();
        if writes && self.members.count() <= OTHERS_MAX {
            let told = |name: &str| *name != *user && self.hears_ticks(user, name, cx);
            let known = self.members.page(None).filter(|(name, _)| told(name));
            others.extend(known.map(|(name, it)| (Arc::clone(name), tick(it.safe))));
        }
        Some(Summary {
            last,
            time: self.log.last_time,
            read,
            unread: self.authors_of.unread(user, begun, last).saturating_sub(hidden),
            stranger: self.is_request_to(user, cx),
            others,
        })
    }
}

/// In how large a group a summary tells how far each member is; in a larger one `info` does.
const OTHERS_MAX: usize = 32;

/// As many as one answer holds, and whether there are more.
fn bounded<T: Clone>(
    items: impl Iterator<Item = T>,
    limit: usize,
    size: impl Fn(&T) -> usize,
) -> (Vec<T>, bool) {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for item in items {
        if taken.len() >= limit || bytes >= HISTORY_BYTES_MAX {
            return (taken, true);
        }
        bytes += size(&item);
        taken.push(item);
    }
    (taken, false)
}

/// What is missing between two places, both included, among those that ascend.
fn gaps(from: u64, to: u64, present: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let (mut gaps, mut next) = (Vec::new(), from);
    for seq in present {
        if seq > next {
            gaps.push((next, seq - 1));
        }
        next = seq + 1;
    }
    if next <= to {
        gaps.push((next, to));
    }
    gaps
}

/// After how many bytes of entries an answer ends.
const HISTORY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_in_as_few_ranges_as_there_are() {
        let gaps = |from, to, present: &[u64]| gaps(from, to, present.iter().copied());
        assert_eq!(gaps(1, 5, &[1, 2, 3, 4, 5]), []);
        assert_eq!(gaps(1, 9, &[3, 4, 7]), [(1, 2), (5, 6), (8, 9)]);
        assert_eq!(gaps(4, 9, &[]), [(4, 9)]);
        assert_eq!(gaps(10, 9, &[]), []);
    }
}

//! Parts of the log for the program around the broker, which sees all of it.
//!
//! As with the history of a member, what has rows and what is only in memory do not go into one page.

use std::sync::Arc;

use tidings_core::record::{Query, Row};

use super::cx::{Cx, Reading};
use super::one::Chat;
use crate::call::Reply;
use crate::code::Code;
use crate::entry::{Entry, Kind};
use crate::event::LogPage;
use crate::peer::Refusal;
use crate::rows::log_range;

/// A part of the log that is being read.
#[derive(Debug)]
pub(super) struct Looked {
    to: u64,
    reply: Reply<LogPage>,
}

impl Chat {
    /// The program asks for a part of the log.
    pub(super) fn look(&mut self, from: u64, limit: usize, reply: Reply<LogPage>, cx: &mut Cx<'_>) {
        if self.created.is_none() {
            let refusal = Refusal::new(Code::UnknownChat, "there is no such chat");
            return reply.give(Err(refusal.into()));
        }
        let last = self.log.visible;
        let from = from.max(self.log.floor).max(1);
        let to = self.log.rows_to(from).map_or(last, |rows| rows.min(last));
        let rows_max = limit.clamp(1, LIMIT_MAX);
        if from > to {
            return reply.give(Ok(self.page(to, std::iter::empty(), None)));
        }
        if let Some(entries) = self.log.between(from, to) {
            let entries: Vec<Arc<Entry>> = entries.take(rows_max).collect();
            let end = entries.last().map(|entry| entry.seq).filter(|_| entries.len() == rows_max);
            return reply.give(Ok(self.page(to, entries.iter(), end)));
        }
        let range = log_range(self.id(), from, to);
        let query = Query { range, rows_max, bytes_max: BYTES_MAX, backwards: false };
        self.reads += 1;
        cx.read(self.id(), query, Reading::Look(Box::new(Looked { to, reply })));
    }

    /// The rows for it have come.
    pub(super) fn look_read(&mut self, looked: Looked, rows: &[Row], more: bool) {
        self.reads = self.reads.saturating_sub(1);
        let Looked { to, reply } = looked;
        // A row that cannot be read is passed over, as one that is gone.
        let entries: Vec<Arc<Entry>> =
            rows.iter().filter_map(|row| self.keys.entry(row).map(Arc::new)).collect();
        let end = entries.last().map(|entry| entry.seq).filter(|_| more);
        reply.give(Ok(self.page(to, entries.iter(), end)));
    }

    /// A page up to `to`, or to `end` if it was cut there.
    fn page<'a>(
        &self,
        to: u64,
        entries: impl Iterator<Item = &'a Arc<Entry>>,
        end: Option<u64>,
    ) -> LogPage {
        let last = self.log.visible;
        let next = end.unwrap_or(to).saturating_add(1);
        LogPage {
            entries: entries
                .filter(|entry| entry.kind != Kind::Gone)
                .map(|entry| self.as_stored(entry))
                .collect(),
            last,
            next: (next <= last).then_some(next),
        }
    }
}

/// How many entries a page holds at the most.
const LIMIT_MAX: usize = 200;

/// After how many bytes of entries a page ends.
const BYTES_MAX: usize = 256 * 1024;

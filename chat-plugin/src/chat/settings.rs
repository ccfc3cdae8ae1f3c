//! What is set for a chat: the timer after which content goes, and how long entries are kept.
//!
//! Both change by an entry of the log, in a group by its admins and in a direct chat by either. What
//! was there before keeps the timer it came with. Where a log is only in memory, places are given out
//! of a stretch that the head says are used: so none is given twice, and what a restart lost is gone.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::record::Op;
use tidings_core::time::Time;

use super::cx::Cx;
use super::one::Chat;
use super::plan::Plan;
use crate::code::Code;
use crate::entry::Kind;
use crate::group::{Change, Retention, Role, Told};
use crate::peer::Refusal;
use crate::rows::SettingsRow;
use crate::view;

impl Chat {
    pub(super) fn plan_settings(
        &self,
        sender: &Arc<str>,
        change: &Change,
    ) -> Result<Option<Plan>, Refusal> {
        if self.place.is_group() && self.role(sender)? < Role::Admin {
            let text = "this is for the admins of the group";
            return Err(Refusal::new(Code::Forbidden, text));
        }
        let mut settings = self.settings;
        let told = match *change {
            Change::Timer(seconds) => {
                settings.timer = seconds;
                view::body(&Told { action: "timer", seconds: Some(seconds), ..Told::default() })
            }
            Change::Retention(retention) => {
                settings.retention = retention;
                let keep = retention.text();
                view::body(&Told { action: "retention", keep: Some(&keep), ..Told::default() })
            }
            _ => return Ok(None),
        };
        if settings == self.settings {
            return Ok(None);
        }
        Ok(Some(Plan { settings: Some(settings), told: Some(told), ..Plan::default() }))
    }

    /// Sets what was planned, in the record of its entry, which is the next.
    pub(super) fn set(&mut self, settings: SettingsRow, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        let was = std::mem::replace(&mut self.settings, settings);
        let memory = settings.retention == Retention::Memory;
        if memory != (was.retention == Retention::Memory) {
            // The entry that says so has a row.
            let behind = self.log.last_seq + 2;
            self.settings.memory_from = if memory { behind } else { 0 };
            self.log.keep_in_memory(memory.then_some(behind));
            self.reserved = 0;
            ops.push(self.head_op());
        }
        ops.push(self.settings_op());
        if matches!(settings.retention, Retention::Days(_)) && was.retention != settings.retention {
            // What is there already goes sooner now, or later.
            self.look_for_due(ops, cx);
        }
    }

    /// The chat has been read.
    pub(super) fn resume_settings(&mut self) {
        if self.settings.retention == Retention::Memory {
            // What was only in memory is no more.
            let last = self.log.last_seq;
            self.authors_of.pass(last);
            self.log.keep_in_memory(Some(self.settings.memory_from));
            self.reserved = last;
        }
    }

    /// A place is given to what is only in memory.
    pub(super) fn reserve(&mut self, seq: u64, ops: &mut Vec<Op>) {
        if seq > self.reserved {
            self.reserved = seq + RESERVED;
            ops.push(self.head_op());
        }
    }

    /// When the content of what comes now goes.
    pub(super) fn expiry(&self, kind: Kind, time: Time) -> Option<Time> {
        let content = matches!(kind, Kind::Message | Kind::Edit | Kind::Reaction);
        (self.settings.timer > 0 && content)
            .then(|| time + Duration::from_secs(self.settings.timer))
    }

    /// How long an entry is kept at the most.
    pub(super) fn kept_for(&self, cx: &Cx<'_>) -> Option<Duration> {
        match self.settings.retention {
            Retention::UntilDelivered | Retention::Memory => Some(cx.options().retention),
            Retention::Days(days) => Some(Duration::from_secs(u64::from(days) * DAY_SECONDS)),
            Retention::Forever => None,
        }
    }
}

const DAY_SECONDS: u64 = 24 * 3_600;

/// How many places a chat that is only in memory sets aside at a time: as many may be gone after a
/// restart without ever having been given.
const RESERVED: u64 = 1_024;

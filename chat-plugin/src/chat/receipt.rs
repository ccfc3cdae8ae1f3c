//! Ticks: what members have, told to those who wrote it.
//!
//! Only what is stored is told. A cursor that a crash takes back was never heard of, so no author
//! sees a tick go back. Ticks gather for a while, and an author hears the newest.

use std::sync::Arc;

use tidings_core::record::Op;

use super::cx::{Cx, Timer, Waiting};
use super::one::Chat;
use crate::group::Role;
use crate::peer::{DeviceOf, Origin, Outcome, Refusal, Tick, ToUser};
use crate::rows::{MemberRow, RowValue, member_key};

impl Chat {
    /// A device has acknowledged these. Its cursor passes those that follow it without a gap.
    pub(super) fn progress_ahead(&mut self, of: &DeviceOf, seqs: &[u64], cx: &mut Cx<'_>) {
        let kept_from = self.log.floor.saturating_sub(1);
        let member = self.members.get_mut(&of.user);
        let Some(device) = member.and_then(|member| member.device(&of.client_id)) else { return };
        let before = device.cursor.max(kept_from);
        let passed = |cursor: u64, seq: &u64| if *seq == cursor + 1 { *seq } else { cursor };
        let cursor = seqs.iter().fold(before, passed);
        if cursor > before {
            self.progress(of, cursor, cx);
        }
    }

    pub(super) fn progress(&mut self, of: &DeviceOf, cursor: u64, cx: &mut Cx<'_>) {
        let channel = self.place.is_channel();
        let Some(member) = self.members.get_mut(&of.user) else { return };
        let cursor = cursor.min(member.sees_to(self.log.visible));
        let lazy = channel && member.role == Role::Reader;
        if member.progress(of, cursor, lazy) {
            self.expend_later(cx);
            self.flush_later(&of.user, cx);
            self.receipts_later(&of.user, cx);
            self.retire(&of.user, cx);
            if lazy {
                self.keep_readers_later(cx);
            }
        }
    }

    pub(super) fn read(
        &mut self,
        user: &Arc<str>,
        device: &Arc<str>,
        seq: u64,
        origin: Origin,
        cx: &mut Cx<'_>,
    ) {
        if let Err(refusal) = self.is_member(user) {
            return cx.answer(&self.place, origin, None, Outcome::Refused(refusal));
        }
        let seq = seq.min(self.log.visible);
        let Some(member) = self.members.get_mut(user) else { return };
        let news = member.read(seq, device);
        if news {
            self.flush_later(user, cx);
            self.receipts_later(user, cx);
        }
        if origin.token.is_none() {
            return;
        }
        // Old news may still be on its way to the store.
        if (news || self.flush_set || self.flushing > 0) && self.readers.len() < READERS_MAX {
            self.readers.push(origin);
            self.set_flush(cx);
        } else if news {
            let refusal = Refusal::busy("too many reports at once");
            cx.answer(&self.place, origin, None, Outcome::Refused(refusal));
        } else {
            cx.answer(&self.place, origin, None, Outcome::Done);
        }
    }

    pub(super) fn failed(&mut self, user: &Arc<str>, seq: u64, cx: &mut Cx<'_>) {
        let own = self.log.get(seq).is_some_and(|entry| *entry.from == **user);
        let Some(member) = self.members.get_mut(user) else { return };
        if !own && member.failed.len() < FAILED_MAX && !member.failed.contains(&seq) {
            member.failed.push(seq);
            self.receipts_later(user, cx);
        }
    }

    fn receipts_later(&mut self, user: &Arc<str>, cx: &mut Cx<'_>) {
        if self.place.is_group() {
            return self.group_receipts_later(user, cx);
        }
        if self.receipts_at.is_none() {
            let at = cx.now() + cx.options().receipt_delay;
            self.receipts_at = Some(at);
            cx.set_timer(at, self.id(), Timer::Receipts);
        }
    }

    /// Stores what is behind, and deletes what nobody needs any more: one record.
    pub(super) fn flush(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::take(&mut self.flush_set) {
            return;
        }
        let (chat, group) = (self.id(), self.place.is_group());
        let mut ops = Vec::new();
        let mut members = Vec::new();
        for user in self.members.take_behind(MEMBERS_MAX) {
            self.members.cursor_ops(chat, &user, &mut ops);
            let Some(member) = self.members.get_mut(&user) else { continue };
            if std::mem::take(&mut member.dirty) {
                let value = if group { member.seat().to_bytes() } else { member.far.to_bytes() };
                ops.push(Op::Put { key: member_key(chat, &user), value });
                members.push((user, member.far));
            }
        }
        if !group || std::mem::take(&mut self.expend_due) {
            self.delete_expendable(&mut ops, cx);
            // Ids that have to be read first say themselves that they were.
            if self.expendable() > 0 && self.ids.are_read() {
                self.expend_due = true;
                self.set_flush(cx);
            }
        }
        if self.members.is_behind() {
            self.set_flush(cx);
        }
        let readers = std::mem::take(&mut self.readers);
        if ops.is_empty() && readers.is_empty() {
            return;
        }
        self.flushing += 1;
        let urgent = !readers.is_empty();
        cx.store_and_wait(chat, ops, urgent, Waiting::Flush { members, readers });
    }

    pub(super) fn flush_stored(
        &mut self,
        members: &[(Arc<str>, MemberRow)],
        readers: Vec<Origin>,
        cx: &mut Cx<'_>,
    ) {
        self.flushing -= 1;
        for (user, row) in members {
            if let Some(member) = self.members.get_mut(user) {
                let before = std::mem::replace(&mut member.safe, *row);
                self.tell_far(user, before, *row, cx);
            }
        }
        for origin in readers {
            cx.answer(&self.place, origin, None, Outcome::Done);
        }
        if !self.place.is_group() {
            self.receipts(cx);
        }
    }

    /// Tells what is stored and has not been told, if it is time.
    pub(super) fn receipts(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        if self.receipts_at.is_none_or(|at| at > now) {
            return;
        }
        if self.place.is_group() {
            return self.group_receipts(cx);
        }
        let mut told = false;
        let place = Arc::clone(&self.place);
        for user in place.members() {
            told |= self.tell(user, cx);
        }
        let behind = |member: &super::cursor::Member| {
            member.far != member.told || member.far.read != member.own_told
        };
        if !self.members.iter().any(|(_, member)| behind(member)) {
            self.receipts_at = None;
        } else if told && let Some(user) = place.members().first() {
            self.receipts_at = None;
            self.receipts_later(user, cx);
        }
        // Otherwise it is overdue, and told as soon as it is stored.
    }

    /// Tells how far a member is. Returns whether there was news.
    fn tell(&mut self, user: &Arc<str>, cx: &mut Cx<'_>) -> bool {
        let other = self.place.members().iter().find(|other| *other != user);
        let writes = |other: &str| self.members.get(other).is_some_and(|other| other.writes);
        let author = other.filter(|other| writes(other) && self.hears_ticks(other, user, cx));
        let Some(member) = self.members.get_mut(user) else { return false };
        if let Some(author) = author {
            let (told, safe) = (member.told, member.safe);
            // What failed is told with the cursor that passes it.
            let news = (!member.failed.is_empty() && safe == member.far)
                || self.log.wrote(author, told.delivered, safe.delivered)
                || self.log.wrote(author, told.read, safe.read);
            if news {
                let receipt = ToUser::Receipt {
                    place: Arc::clone(&self.place),
                    to: Arc::clone(author),
                    about: Arc::clone(user),
                    tick: Tick {
                        delivered: Some(safe.delivered),
                        read: Some(safe.read),
                        failed: std::mem::take(&mut member.failed),
                    },
                    except: None,
                };
                cx.tell_user(author, receipt);
            }
        }
        if member.safe == member.far {
            member.failed.clear();
        }
        let mut news = member.told != member.safe;
        member.told = member.safe;
        news |= self.tell_own_read(user, cx);
        news
    }

    /// Tells a member's other devices how far she has read. Returns whether that is news.
    pub(super) fn tell_own_read(&mut self, user: &Arc<str>, cx: &mut Cx<'_>) -> bool {
        let Some(member) = self.members.get_mut(user) else { return false };
        if member.safe.read <= member.own_told {
            return false;
        }
        member.own_told = member.safe.read;
        let receipt = ToUser::Receipt {
            place: Arc::clone(&self.place),
            to: Arc::clone(user),
            about: Arc::clone(user),
            tick: Tick { read: Some(member.safe.read), ..Tick::default() },
            except: member.read_on.take(),
        };
        cx.tell_user(user, receipt);
        true
    }
}

/// Of how many members one flush holds rows.
const MEMBERS_MAX: usize = 1_024;

/// How many reports of having read may wait for one flush.
const READERS_MAX: usize = 1_024;

/// How many refused entries are told at once; the cursor moves on over those beyond.
const FAILED_MAX: usize = 64;

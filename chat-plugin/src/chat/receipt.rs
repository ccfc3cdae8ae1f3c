//! Ticks: what members have, told to those who wrote it.
//!
//! Only what is stored is told. A cursor that a crash takes back was never heard of, so no author
//! sees a tick go back. Ticks gather for a while, and an author hears the newest.

use std::sync::Arc;

use tidings_core::record::Op;

use super::cx::{Cx, Timer, Waiting};
use super::one::Chat;
use crate::code::Code;
use crate::peer::{DeviceOf, Origin, Outcome, Refusal, Tick, ToUser};
use crate::rows::{MemberRow, RowValue, member_key};

impl Chat {
    /// A device has acknowledged these. Its cursor passes those that follow it without a gap.
    pub(super) fn progress_ahead(&mut self, of: &DeviceOf, seqs: &[u64], cx: &mut Cx<'_>) {
        let kept_from = self.log.floor.saturating_sub(1);
        let member = self.place.member(&of.user).and_then(|at| self.members.get_mut(at));
        let Some(device) = member.and_then(|member| member.device(&of.client_id)) else { return };
        let before = device.cursor.max(kept_from);
        let passed = |cursor: u64, seq: &u64| if *seq == cursor + 1 { *seq } else { cursor };
        let cursor = seqs.iter().fold(before, passed);
        if cursor > before {
            self.progress(of, cursor, cx);
        }
    }

    pub(super) fn progress(&mut self, of: &DeviceOf, cursor: u64, cx: &mut Cx<'_>) {
        let Some(at) = self.place.member(&of.user) else { return };
        let cursor = cursor.min(self.log.visible);
        let news = self.members.get_mut(at).is_some_and(|member| member.progress(of, cursor));
        if news {
            if self.expendable() > 0 {
                self.set_flush(cx);
            }
            self.flush_later(cx);
            self.receipts_later(cx);
        }
    }

    pub(super) fn read(
        &mut self,
        user: &str,
        device: &Arc<str>,
        seq: u64,
        origin: Origin,
        cx: &mut Cx<'_>,
    ) {
        let (Some(at), Some(_)) = (self.place.member(user), self.created) else {
            let refusal = Refusal::new(Code::UnknownChat, "nothing was ever sent in this chat");
            return cx.answer(&self.place, origin, None, Outcome::Refused(refusal));
        };
        let seq = seq.min(self.log.visible);
        let Some(member) = self.members.get_mut(at) else { return };
        let news = member.read(seq, device);
        if news {
            self.flush_later(cx);
            self.receipts_later(cx);
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

    pub(super) fn failed(&mut self, user: &str, seq: u64, cx: &mut Cx<'_>) {
        let own = self.log.get(seq).is_some_and(|entry| *entry.from == *user);
        let Some(at) = self.place.member(user) else { return };
        let Some(member) = self.members.get_mut(at) else { return };
        if !own && member.failed.len() < FAILED_MAX && !member.failed.contains(&seq) {
            member.failed.push(seq);
            self.receipts_later(cx);
        }
    }

    fn receipts_later(&mut self, cx: &mut Cx<'_>) {
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
        let mut ops = Vec::new();
        self.cursor_ops(&mut ops);
        let chat = self.id();
        for (user, member) in self.place.members().iter().zip(&mut self.members) {
            if std::mem::take(&mut member.dirty) {
                ops.push(Op::Put { key: member_key(chat, user), value: member.far.to_bytes() });
            }
        }
        self.delete_expendable(&mut ops);
        if self.expendable() > 0 {
            self.set_flush(cx);
        }
        let readers = std::mem::take(&mut self.readers);
        if ops.is_empty() && readers.is_empty() {
            return;
        }
        self.flushing += 1;
        let members = self.members.iter().map(|member| member.far).collect();
        let urgent = !readers.is_empty();
        cx.store_and_wait(chat, ops, urgent, Waiting::Flush { members, readers });
    }

    pub(super) fn flush_stored(
        &mut self,
        members: &[MemberRow],
        readers: Vec<Origin>,
        cx: &mut Cx<'_>,
    ) {
        self.flushing -= 1;
        for (member, row) in self.members.iter_mut().zip(members) {
            member.safe = *row;
        }
        for origin in readers {
            cx.answer(&self.place, origin, None, Outcome::Done);
        }
        self.receipts(cx);
    }

    /// Tells what is stored and has not been told, if it is time.
    pub(super) fn receipts(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        if self.receipts_at.is_none_or(|at| at > now) {
            return;
        }
        let mut told = false;
        for at in 0..self.members.len() {
            told |= self.tell(at, cx);
        }
        let behind = |member: &super::cursor::Member| {
            member.far != member.told || member.far.read != member.own_told
        };
        if !self.members.iter().any(behind) {
            self.receipts_at = None;
        } else if told {
            self.receipts_at = None;
            self.receipts_later(cx);
        }
        // Otherwise it is overdue, and told as soon as it is stored.
    }

    /// Tells how far a member is. Returns whether there was news.
    fn tell(&mut self, at: usize, cx: &mut Cx<'_>) -> bool {
        let Some(user) = self.place.members().get(at) else { return false };
        let other = (0..self.members.len()).find(|other| *other != at);
        let author = other.filter(|other| self.writes(*other));
        let author = author.and_then(|other| self.place.members().get(other));
        let Some(member) = self.members.get_mut(at) else { return false };
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
        if member.safe.read > member.own_told {
            member.own_told = member.safe.read;
            let receipt = ToUser::Receipt {
                place: Arc::clone(&self.place),
                to: Arc::clone(user),
                about: Arc::clone(user),
                tick: Tick { read: Some(member.safe.read), ..Tick::default() },
                except: member.read_on.take(),
            };
            cx.tell_user(user, receipt);
            news = true;
        }
        news
    }
}

/// How many reports of having read may wait for one flush.
const READERS_MAX: usize = 1_024;

/// How many refused entries are told at once; the cursor moves on over those beyond.
const FAILED_MAX: usize = 64;

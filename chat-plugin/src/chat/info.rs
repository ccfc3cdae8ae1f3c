//! Who is in a chat, and who has one entry: asked for, a page at a time.
//!
//! Who has an entry is told to its author and to nobody else, as with ticks.

use std::sync::Arc;

use tidings_core::record::{Query, Row};

use super::cx::{Cx, Reading};
use super::one::Chat;
use crate::code::Code;
use crate::group::Role;
use crate::peer::{Ask, Outcome, Question, Refusal, ToUser};
use crate::rows::{log_key, only};
use crate::view;

impl Chat {
    pub(super) fn info(
        &mut self,
        user: &Arc<str>,
        of: Ask,
        question: Box<Question>,
        cx: &mut Cx<'_>,
    ) {
        if let Err(refusal) = self.is_member(user) {
            return cx.answer(&self.place, question.origin, None, Outcome::Refused(refusal));
        }
        let Some(seq) = of.seq else { return self.tell_info(user, &of, question, cx) };
        if let Some(entry) = self.log.get(seq).filter(|_| seq <= self.log.visible) {
            let author = Arc::clone(&entry.from);
            return self.tell_who(user, &author, seq, &of, question, cx);
        }
        let range = only(log_key(self.id(), seq));
        let query = Query { range, rows_max: 1, bytes_max: usize::MAX, backwards: false };
        self.reads += 1;
        cx.read(self.id(), query, Reading::Info { user: Arc::clone(user), of, question });
    }

    pub(super) fn info_read(
        &mut self,
        user: &Arc<str>,
        of: &Ask,
        question: Box<Question>,
        rows: &[Row],
        cx: &mut Cx<'_>,
    ) {
        self.reads = self.reads.saturating_sub(1);
        let seq = of.seq.unwrap_or_default();
        let entry = rows.first().and_then(|row| self.keys.entry(row));
        if let Some(entry) = entry.filter(|_| seq <= self.log.visible) {
            return self.tell_who(user, &entry.from, seq, of, question, cx);
        }
        let refusal = Refusal::new(Code::Late, "this entry is gone, or not there yet");
        cx.answer(&self.place, question.origin, None, Outcome::Refused(refusal));
    }

    fn tell_info(&self, user: &Arc<str>, of: &Ask, question: Box<Question>, cx: &mut Cx<'_>) {
        let limit = of.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let mut page = self.members.page(of.after.as_deref());
        let shown: Vec<_> = page.by_ref().take(limit).collect();
        let next = page.next().and_then(|_| shown.last()).map(|(name, _)| &***name);
        let group = self.place.is_group();
        let role = |role| Some(role).filter(|_| group);
        let members = shown.iter().map(|(name, member)| view::InfoMember {
            user: name,
            name: cx.shared.rooms.name_of(self.id(), name),
            role: role(member.role),
            joined: Some(member.joined).filter(|_| group),
        });
        let own = self.members.present(user).map_or(Role::Reader, |member| member.role);
        let links: Vec<view::Invite<'_>> = if own >= Role::Admin && of.after.is_none() && group {
            let links = self.group.links.iter();
            links
                .filter(|link| link.expires.is_none_or(|expires| expires > cx.now()))
                .map(|link| view::Invite {
                    token: &link.token,
                    role: link.role,
                    expires: link.expires,
                    uses: link.uses,
                    request: None,
                })
                .collect()
        } else {
            Vec::new()
        };
        let body = view::body(&view::Info {
            title: self.group.title.as_deref(),
            role: role(own),
            seq: self.log.visible,
            count: self.members.count(),
            stranger: self.is_request_to(user, cx),
            members: members.collect(),
            links,
            next,
            request: question.request.as_ref(),
        });
        self.inform(question, body, cx);
    }

    fn tell_who(
        &self,
        user: &Arc<str>,
        author: &str,
        seq: u64,
        of: &Ask,
        question: Box<Question>,
        cx: &mut Cx<'_>,
    ) {
        if **user != *author {
            let refusal = Refusal::new(Code::Forbidden, "only who wrote an entry hears who has it");
            return cx.answer(&self.place, question.origin, None, Outcome::Refused(refusal));
        }
        if self.hides(user) {
            let refusal = Refusal::new(Code::Forbidden, "you hide your receipts, and so see none");
            return cx.answer(&self.place, question.origin, None, Outcome::Refused(refusal));
        }
        let limit = of.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let page = self.members.page(of.after.as_deref());
        let shown = |name: &str| *name != *author && self.hears_ticks(author, name, cx);
        let page = page.filter(|(name, member)| shown(name) && member.sees(seq));
        let mut page = page.peekable();
        let shown: Vec<_> = page.by_ref().take(limit).collect();
        let next = page.peek().and_then(|_| shown.last()).map(|(name, _)| &***name);
        let who = shown.iter().map(|(name, member)| view::InfoWho {
            user: name,
            delivered: self.has(member, seq),
            read: member.safe.read >= seq,
        });
        // Of a channel only how many: who reads it is nobody's business.
        let who = if self.place.is_channel() { Vec::new() } else { who.collect() };
        let next = next.filter(|_| !who.is_empty());
        let (counts, request) = (self.counts(seq, author, cx), question.request.as_ref());
        let body = view::body(&view::InfoSeq { counts, who, next, request });
        self.inform(question, body, cx);
    }

    fn inform(&self, question: Box<Question>, body: bytes::Bytes, cx: &mut Cx<'_>) {
        let place = Arc::clone(&self.place);
        cx.tell_shard(question.origin.shard, ToUser::Info { place, question, body });
    }
}

/// How many members an answer holds, if nothing is said.
const PAGE: usize = 100;

/// How many at the most.
const PAGE_MAX: usize = 500;

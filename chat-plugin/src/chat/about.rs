//! What is said about an entry: edits, reactions, and that it is to go.
//!
//! Each is an entry of its own in the same line as the sends, so that every device learns of it as
//! it learns of a message. Whose an entry is stands in the log as long as it is kept, and in the row
//! of its id for a day at least; who asks to change what nobody can tell the author of is told that
//! it is late.

use std::sync::Arc;

use tidings_core::record::{Op, Query, Row};

use super::cx::{Cx, Reading};
use super::one::{Blocked, Chat};
use crate::code::Code;
use crate::entry::{Entry, Kind};
use crate::group::Role;
use crate::peer::{ChatInput, Outcome, Refusal};
use crate::rows::{IdHash, Mark, RowValue, hash_id, hidden_key, log_key, only};

/// Whose an entry is.
enum Author {
    Is(Arc<str>),
    /// As its sender's id tells.
    Own(bool),
    /// It has gone, by somebody's will.
    Gone,
    /// The log has to be asked.
    Stored,
    Unknown,
}

impl Chat {
    /// The foremost send is new: it gets its place if what it is about allows that.
    pub(super) fn admit(&mut self, hash: Option<IdHash>, cx: &mut Cx<'_>) {
        let Some(post) = self.waiting.front() else { return };
        let (kind, seq) = (post.kind, post.refers);
        if matches!(kind, Kind::Message | Kind::System | Kind::Gone) {
            return self.append(hash, cx);
        }
        let member = self.members.get(&post.sender);
        let seen = member.is_some_and(|member| member.sees(seq));
        if seq > self.log.last_seq || self.place.is_group() && !seen {
            return self.refuse_first(late(), cx);
        }
        let hidden = member.is_some_and(|member| member.hidden.contains(seq));
        match kind {
            Kind::Hide if hidden => self.done_first(cx),
            Kind::Hide if member.is_some_and(|member| member.hidden.len() >= HIDDEN_MAX) => {
                let text = format!("at most {HIDDEN_MAX} parts of a chat are hidden");
                self.refuse_first(Refusal::new(Code::Limit, &text), cx);
            }
            Kind::Edit | Kind::Delete => match self.author_of(seq, &post.sender) {
                Author::Is(author) => self.judge(hash, Some(*author == *post.sender), cx),
                Author::Own(own) => self.judge(hash, Some(own), cx),
                Author::Unknown => self.judge(hash, None, cx),
                Author::Gone if kind == Kind::Delete => self.done_first(cx),
                Author::Gone => self.refuse_first(late(), cx),
                Author::Stored => {
                    self.blocked = Some(Blocked::About(hash));
                    let range = only(log_key(self.id(), seq));
                    let query =
                        Query { range, rows_max: 1, bytes_max: usize::MAX, backwards: false };
                    cx.read(self.id(), query, Reading::About);
                }
            },
            _ => self.append(hash, cx),
        }
    }

    /// The store has said whose entry the foremost send is about.
    pub(super) fn about_read(&mut self, rows: &[Row], cx: &mut Cx<'_>) {
        let Some(Blocked::About(hash)) = self.blocked else { return };
        self.blocked = None;
        if let Some(post) = self.waiting.front() {
            let entry =
                rows.first().and_then(|row| Entry::from_bytes(post.refers, &row.value).ok());
            let own = entry.filter(|entry| entry.kind == Kind::Message);
            let own = own.map(|entry| entry.from == post.sender);
            let known = || self.by_id(post.refers, &post.sender);
            let own = own.or_else(known);
            self.judge(hash, own, cx);
        }
        self.work(cx);
    }

    /// Whether the entry is the sender's `own` decides; nothing, and nobody can tell.
    fn judge(&mut self, hash: Option<IdHash>, own: Option<bool>, cx: &mut Cx<'_>) {
        let Some(post) = self.waiting.front() else { return };
        let admin = self.place.is_group()
            && self.members.present(&post.sender).is_some_and(|it| it.role >= Role::Admin);
        match own {
            Some(true) => self.append(hash, cx),
            _ if admin && post.kind == Kind::Delete => self.append(hash, cx),
            Some(false) => {
                let text = match post.kind {
                    Kind::Edit => "only who wrote a message edits it",
                    _ => "only who wrote a message, or an admin of a group, deletes it for all",
                };
                self.refuse_first(Refusal::new(Code::Forbidden, text), cx);
            }
            None => self.refuse_first(late(), cx),
        }
    }

    fn author_of(&self, seq: u64, user: &str) -> Author {
        if let Some(entry) = self.log.get(seq) {
            return match entry.kind {
                Kind::Message => Author::Is(Arc::clone(&entry.from)),
                Kind::Gone => Author::Gone,
                _ => Author::Unknown,
            };
        }
        if seq >= self.log.floor {
            return Author::Stored;
        }
        self.by_id(seq, user).map_or(Author::Unknown, Author::Own)
    }

    fn by_id(&self, seq: u64, user: &str) -> Option<bool> {
        self.ids.of_place(seq).filter(|row| !row.old).map(|row| row.is_by(self.mark(user)))
    }

    /// What stands for a sender in the rows of ids.
    pub(super) fn mark(&self, user: &str) -> Mark {
        if self.place.is_group() {
            return hash_id(user, "").first_chunk().copied().unwrap_or_default();
        }
        let at = self.place.members().iter().position(|name| **name == *user);
        [0, 0, 0, at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)]
    }

    /// What follows from an entry about another, in its record.
    pub(super) fn about_ops(&mut self, entry: &Entry, ops: &mut Vec<Op>) {
        let seq = entry.refers;
        match entry.kind {
            Kind::Delete => self.erase(seq, ops),
            Kind::Hide => {
                let (id, floor) = (self.id(), self.log.floor);
                let Some(member) = self.members.get_mut(&entry.from) else { return };
                member.hidden.insert(seq, seq);
                member.hidden.forget(member.far.read.min(floor.saturating_sub(1)));
                let value = member.hidden.row().to_bytes();
                ops.push(Op::Put { key: hidden_key(id, &entry.from), value });
                let hidden = |user: &Arc<str>| {
                    self.members.get(user).is_some_and(|member| member.hidden.contains(seq))
                };
                let mut members = self.place.members().iter();
                if !self.place.is_group() && members.all(hidden) {
                    self.erase(seq, ops);
                }
            }
            _ => {}
        }
    }

    /// The content of an entry goes.
    fn erase(&mut self, seq: u64, ops: &mut Vec<Op>) {
        if seq >= self.log.floor {
            ops.push(Op::Delete { key: log_key(self.id(), seq) });
        }
        self.log.erase(seq);
        self.authors_of.erase(seq);
    }

    fn refuse_first(&mut self, refusal: Refusal, cx: &mut Cx<'_>) {
        if let Some(post) = self.waiting.pop_front() {
            cx.refuse(&self.place, ChatInput::Send(post), refusal);
        }
    }

    /// What the foremost send asks for is so already.
    fn done_first(&mut self, cx: &mut Cx<'_>) {
        if let Some(post) = self.waiting.pop_front() {
            cx.answer(&self.place, post.origin, None, Outcome::Done);
        }
    }
}

fn late() -> Refusal {
    Refusal::new(Code::Late, "this entry is gone, or not there yet")
}

/// How many parts of a chat a member hides; parts that touch are one.
const HIDDEN_MAX: usize = 256;

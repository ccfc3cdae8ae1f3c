//! What is said about an entry: edits, reactions, and that it is to go.
//!
//! Each is an entry of its own in the same line as the sends, so that every device learns of it as
//! it learns of a message. Whose an entry is stands in the log as long as it is kept, and in the row
//! of its id for a day at least; who asks to change what nobody can tell the author of is told that
//! it is late.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::record::{Op, Query, Row};

use super::cx::{Cx, Reading};
use super::ids::Placed;
use super::one::{Blocked, Chat};
use crate::code::Code;
use crate::entry::{Entry, Kind};
use crate::group::Role;
use crate::peer::{ALL, ChatInput, EVERYTHING, Outcome, Post, Refusal};
use crate::rows::{
    ChatRow, IdHash, IdPage, Mark, RowValue, hash_id, hidden_key, ids_key, is_by, log_key, only,
    settings_key, split_chat_key,
};

/// Whose an entry is.
enum Author {
    Is(Arc<str>),
    /// As its id tells.
    Own(bool),
    /// It has gone, by somebody's will.
    Gone,
    /// This row tells.
    Stored(Bytes),
    /// The ids have to be read first.
    Unread,
    Unknown,
}

impl Chat {
    /// The foremost send is new: it gets its place if what it is about allows that.
    pub(super) fn admit(&mut self, hash: Option<IdHash>, cx: &mut Cx<'_>) {
        if !self.log.is_in_memory() && !self.keyed(cx) {
            let text = "the server has no key to seal this with";
            return self.refuse_first(Refusal::new(Code::Unavailable, text), cx);
        }
        let Some(post) = self.waiting.front_mut() else { return };
        if matches!(post.kind, Kind::Message | Kind::System | Kind::Gone) {
            return self.append(hash, cx);
        }
        if post.kind == Kind::Hide && post.refers == EVERYTHING {
            post.refers = self.log.last_seq;
            return self.end(hash, cx);
        }
        let Some(post) = self.waiting.front() else { return };
        let (kind, seq) = (post.kind, post.refers);
        let member = self.members.get(&post.sender);
        let seen = member.is_some_and(|member| member.sees(seq));
        if seq > self.log.last_seq || self.place.is_group() && !seen {
            return self.refuse_first(late(), cx);
        }
        let hidden = member.is_some_and(|member| member.hidden.contains(seq));
        let ranges = member.map_or(0, |member| member.hidden.len());
        match kind {
            Kind::Reaction => return self.append(hash, cx),
            Kind::Hide if hidden => return self.done_first(cx),
            Kind::Hide if ranges >= HIDDEN_MAX => {
                let text = format!("at most {HIDDEN_MAX} parts of a chat are hidden");
                return self.refuse_first(Refusal::new(Code::Limit, &text), cx);
            }
            _ => {}
        }
        match self.author_of(seq, &post.sender) {
            Author::Stored(key) => {
                self.blocked = Some(Blocked::About(hash));
                let query = Query {
                    range: only(key),
                    rows_max: 1,
                    bytes_max: usize::MAX,
                    backwards: false,
                };
                cx.read(self.id(), query, Reading::About);
            }
            _ if kind == Kind::Hide => self.append(hash, cx),
            Author::Is(author) => self.judge(hash, Some(*author == *post.sender), cx),
            Author::Own(own) => self.judge(hash, Some(own), cx),
            Author::Unknown => self.judge(hash, None, cx),
            Author::Gone if kind == Kind::Delete => self.done_first(cx),
            Author::Gone => self.refuse_first(late(), cx),
            Author::Unread => {
                self.blocked = Some(Blocked::Id);
                self.want_ids(false, cx);
            }
        }
    }

    /// The foremost send deletes all of a direct chat for its sender.
    fn end(&mut self, hash: Option<IdHash>, cx: &mut Cx<'_>) {
        let Some(post) = self.waiting.front() else { return };
        if self.place.is_group() {
            let text = "end is for direct chats: leave a group";
            return self.refuse_first(Refusal::new(Code::Format, text), cx);
        }
        let member = self.members.get(&post.sender);
        if post.refers == 0 || member.is_some_and(|it| it.hidden.contains(post.refers)) {
            return self.done_first(cx);
        }
        self.append(hash, cx);
    }

    /// The store has said whose entry the foremost send is about.
    pub(super) fn about_read(&mut self, rows: &[Row], cx: &mut Cx<'_>) {
        let Some(Blocked::About(hash)) = self.blocked else { return };
        self.blocked = None;
        if let Some(post) = self.waiting.front() {
            let (kind, seq) = (post.kind, post.refers);
            let mark = self.mark(&post.sender);
            let row = rows.first().and_then(|row| Some((split_chat_key(&row.key)?.0, &row.value)));
            let own = match row {
                Some((ChatRow::Log, value)) => {
                    self.target = self.keys.entry_of(seq, value);
                    let target = self.target.as_ref().filter(|entry| entry.kind == Kind::Message);
                    target.map(|entry| entry.from == post.sender)
                }
                Some((_, value)) => {
                    let known = IdPage::from_bytes(value).ok().and_then(|page| page.of_place(seq));
                    known.map(|known| is_by(&known.content, mark))
                }
                None => None,
            };
            if kind == Kind::Hide {
                self.append(hash, cx);
            } else {
                self.judge(hash, own, cx);
            }
            self.target = None;
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
            return Author::Stored(log_key(self.id(), seq));
        }
        match self.ids.of_place(seq) {
            Placed::Here(known) => Author::Own(is_by(&known.content, self.mark(user))),
            Placed::Page(first) => Author::Stored(ids_key(self.id(), first)),
            Placed::Unknown => Author::Unknown,
            Placed::Unread => Author::Unread,
        }
    }

    /// What stands for a sender in the rows of ids.
    pub(super) fn mark(&self, user: &str) -> Mark {
        if self.place.is_group() {
            return hash_id(user, "").first_chunk().copied().unwrap_or_default();
        }
        let at = self.place.members().iter().position(|name| **name == *user);
        [0, 0, at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)]
    }

    /// What follows from an entry about another, in its record.
    pub(super) fn about_ops(&mut self, entry: &Entry, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        match entry.kind {
            Kind::Delete => self.erase(entry.refers, ops),
            Kind::Hide => self.hide(entry, ops, cx),
            _ => {}
        }
    }

    /// Somebody does not want to see an entry any more, or all of them.
    fn hide(&mut self, entry: &Entry, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        let (seq, floor, all) = (entry.refers, self.log.floor, entry.payload == ALL);
        let place = Arc::clone(&self.place);
        let mut both = !place.is_group();
        let mut nothing_stays = both && all;
        let other = place.members().iter().filter(|name| **name != entry.from);
        for user in std::iter::once(&entry.from).chain(other) {
            let Some(member) = self.members.get_mut(user) else { continue };
            let before = member.hidden.clone();
            if *user == entry.from {
                member.hidden.insert(if all { 1 } else { seq }, if all { entry.seq } else { seq });
                let read = member.far.read;
                member.hidden.forget(read.min(floor.saturating_sub(1)));
            } else {
                both &= member.hidden.contains(seq);
                // To the other one this entry is nothing: what is hidden goes on behind it.
                nothing_stays &= floor >= entry.seq || member.hidden.reach(floor) + 1 >= entry.seq;
                if member.hidden.contains(entry.seq - 1) {
                    member.hidden.insert(entry.seq, entry.seq);
                }
            }
            if member.hidden != before {
                let value = member.hidden.row().to_bytes();
                ops.push(Op::Put { key: hidden_key(place.id, user), value });
            }
        }
        if nothing_stays {
            // Both have deleted all there is: nothing is to yield it any more.
            self.dead_to = entry.seq;
            self.log.clear();
            self.destroy_key(ops, cx);
            self.expend_later(cx);
        } else if both && !all {
            self.erase(seq, ops);
        }
    }

    /// Up to where both members of a direct chat have deleted all there is.
    pub(super) fn find_dead(&mut self) {
        if !self.place.is_group() {
            let floor = self.log.floor;
            let reach = self.members.iter().map(|(_, member)| member.hidden.reach(floor));
            self.dead_to = reach.min().unwrap_or_default();
        }
    }

    /// The content of an entry goes. What stays of it keeps its id known.
    pub(super) fn erase(&mut self, seq: u64, ops: &mut Vec<Op>) {
        self.authors_of.erase(seq);
        if seq <= self.authors_of.kept() {
            self.authors_op(0, ops);
        }
        let entry =
            self.log.get(seq).map(|entry| Entry::clone(entry)).or_else(|| self.target.take());
        let Some(entry) = entry.filter(|entry| entry.seq == seq) else { return };
        let gone = Arc::new(entry.gone(&self.content_of(&entry)));
        if seq >= self.log.floor && !self.log.is_only_here(seq) {
            ops.push(Op::Put { key: log_key(self.id(), seq), value: gone.to_bytes() });
            if seq > self.settings.rewritten {
                self.settings.rewritten = seq;
                ops.push(self.settings_op());
            }
        }
        self.log.erase(gone);
    }

    /// What is set, as a row.
    pub(super) fn settings_op(&self) -> Op {
        Op::Put { key: settings_key(self.id()), value: self.settings.to_bytes() }
    }

    /// What is about an entry begins no chat in somebody's list. Returns whether the foremost send is
    /// refused.
    pub(super) fn refuse_without_chat(&mut self, cx: &mut Cx<'_>) -> bool {
        let about = |post: &Post| post.change.is_none() && post.kind != Kind::Message;
        let refused = self.waiting.front().is_some_and(|post| about(post));
        if refused {
            let text = "nothing was ever sent in this chat";
            self.refuse_first(Refusal::new(Code::UnknownChat, text), cx);
        }
        refused
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

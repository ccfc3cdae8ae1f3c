//! How the members of a chat stand to each other: who is blocked, who is a stranger, whose ticks
//! are nobody's business.
//!
//! The user's side says it: with a change, when the chat begins, and whenever a device attaches, so
//! that what a crash took away comes again. It is kept here too, for who is judged by it is seldom
//! there at the same time as who said it.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::metric::Metric;
use tidings_core::record::Op;
use tidings_core::slot::ShardId;

use super::cursor::Member;
use super::cx::{Cx, Waiting};
use super::one::Chat;
use crate::code::Code;
use crate::peer::{Refusal, ToUser};
use crate::rows::{RowValue, stance_key};
use crate::ties::{Stance, Taken, Telling};

impl Chat {
    /// A member has said how she stands to the others.
    pub(super) fn stance(
        &mut self,
        user: &Arc<str>,
        stance: Stance,
        telling: Option<(ShardId, Telling)>,
        cx: &mut Cx<'_>,
    ) {
        let changed = self.set_stance(user, stance, cx);
        let Some((shard, telling)) = telling else { return };
        // Behind what is on its way to the store already.
        let ops = if changed { Vec::new() } else { self.stance_op(user).into_iter().collect() };
        self.flushing += 1;
        cx.store_and_wait(self.id(), ops, true, Waiting::Stance { shard, telling });
    }

    /// Who waited for it is told that it is stored.
    pub(super) fn stance_stored(&mut self, shard: ShardId, telling: Telling, cx: &mut Cx<'_>) {
        self.flushing -= 1;
        cx.tell_shard(shard, ToUser::Told { telling, kept: true });
    }

    /// Keeps how a member stands to the others. Returns whether that is news.
    pub(super) fn set_stance(&mut self, user: &Arc<str>, stance: Stance, cx: &mut Cx<'_>) -> bool {
        if self.members.get(user).is_none_or(|member| member.stance == stance) {
            return false;
        }
        let direct = !self.place.is_group();
        let heard = if direct { self.who_hears(cx) } else { Vec::new() };
        if let Some(member) = self.members.get_mut(user) {
            member.stance = stance;
        }
        let ops = self.stance_op(user).into_iter().collect();
        cx.store(ops, false);
        for author in self.who_hears(cx).into_iter().filter(|_| direct) {
            if !heard.contains(&author) {
                self.tell_again(&author, cx);
            }
        }
        true
    }

    /// The row of a member's stance: none where it is as it is without one.
    pub(super) fn stance_op(&self, user: &str) -> Option<Op> {
        let stance = self.members.get(user)?.stance;
        let key = stance_key(self.id(), user);
        Some(if stance == Stance::default() {
            Op::Delete { key }
        } else {
            Op::Put { key, value: stance.to_bytes() }
        })
    }

    /// Those of a direct chat who hear how far the other one is.
    fn who_hears(&self, cx: &Cx<'_>) -> Vec<Arc<str>> {
        let members = self.place.members().iter();
        let hears = members.filter(|user| self.hears_ticks(user, self.place.peer(user), cx));
        hears.cloned().collect()
    }

    /// A member hears ticks that were not for her before.
    fn tell_again(&self, author: &Arc<str>, cx: &mut Cx<'_>) {
        let tick = self.tick_for(author, cx).filter(|tick| tick.delivered > Some(0));
        if let Some(tick) = tick {
            let (place, to) = (Arc::clone(&self.place), Arc::clone(author));
            let about = Arc::clone(self.place.peer(author));
            cx.tell_user(author, ToUser::Receipt { place, to, about, tick, except: None });
        }
    }

    /// Whether ticks of `about` are for `author`: they know each other, nobody is blocked, and
    /// neither hides theirs.
    pub(super) fn hears_ticks(&self, author: &str, about: &str, cx: &Cx<'_>) -> bool {
        let (Some(one), Some(other)) = (self.members.get(author), self.members.get(about)) else {
            return false;
        };
        let hidden = one.stance.hides || other.stance.hides;
        let blocked = one.stance.blocked || other.stance.blocked;
        !hidden && (self.place.is_group() || (!blocked && self.is_known_to(other, cx)))
    }

    /// Whether a member hides her ticks, and so hears none.
    pub(super) fn hides(&self, user: &str) -> bool {
        self.members.get(user).is_some_and(|member| member.stance.hides)
    }

    /// Whether the other one of a direct chat is no stranger to a member.
    fn is_known_to(&self, member: &Member, cx: &Cx<'_>) -> bool {
        let known = member.writes || member.stance.accepted;
        known || !cx.options().requests || self.place.is_room()
    }

    /// Whether a direct chat waits for a member to answer or to accept.
    pub(super) fn is_request_to(&self, user: &str, cx: &Cx<'_>) -> bool {
        let member = self.members.get(user).filter(|_| self.place.members().len() > 1);
        !self.place.is_group() && member.is_some_and(|member| !self.is_known_to(member, cx))
    }

    /// Whether a member of a direct chat may send now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admits(&self, sender: &str, cx: &mut Cx<'_>) -> Result<(), Refusal> {
        let peer = self.place.peer(sender);
        if **peer == *sender {
            return Ok(());
        }
        let (Some(one), Some(other)) = (self.members.get(sender), self.members.get(peer)) else {
            return Ok(());
        };
        if one.stance.blocked {
            return Err(Refusal::new(Code::Forbidden, BLOCKED));
        }
        if other.stance.blocked {
            return Err(Refusal::new(Code::Forbidden, UNWANTED));
        }
        if self.is_known_to(other, cx) {
            return Ok(());
        }
        // Nobody else has written: the log holds what the stranger has sent, and nothing more.
        let days = self.created.map_or(0, |created| cx.now().since(created).as_secs() / DAY);
        let max = u64::from(cx.options().request_messages_per_day);
        let max = if cx.host.rates_apply() { max } else { 0 };
        if max > 0 && self.log.last_seq >= max.saturating_mul(days + 1) {
            cx.host.count(Metric::LimitChatRequests);
            let left = DAY - self.created.map_or(0, |at| cx.now().since(at).as_secs() % DAY);
            let text = format!("{peer} has not answered yet: wait for it");
            let retry_after = Some(Duration::from_secs(left).as_millis());
            let retry_after = retry_after.and_then(|millis| u64::try_from(millis).ok());
            return Err(Refusal { retry_after, ..Refusal::new(Code::Limit, &text) });
        }
        Ok(())
    }

    /// The first entry of a member in a direct chat is safe: she knows the other one now.
    pub(super) fn acquaint(&mut self, author: &Arc<str>, cx: &mut Cx<'_>) {
        if self.place.is_group() {
            return;
        }
        let Some(member) = self.members.get_mut(author).filter(|it| it.writes && !it.acquainted)
        else {
            return;
        };
        member.acquainted = true;
        let stranger = cx.options().requests && !member.stance.accepted;
        let (place, user) = (Arc::clone(&self.place), Arc::clone(author));
        cx.tell_user(author, ToUser::Knows { place, user });
        let other = Arc::clone(self.place.peer(author));
        if stranger && other != *author && self.hears_ticks(&other, author, cx) {
            self.tell_again(&other, cx);
        }
    }

    /// Why a chat could not begin: `user` is who did not take it.
    pub(super) fn not_taken(&self, user: &str, taken: Taken, sender: &str) -> Refusal {
        let of = |code, text: String| Refusal::new(code, &text);
        match taken {
            Taken::Unwanted if self.place.is_group() => {
                of(Code::Forbidden, format!("{user} is not to be added by you"))
            }
            Taken::Unwanted if *user == *sender => Refusal::new(Code::Forbidden, BLOCKED),
            Taken::Unwanted => Refusal::new(Code::Forbidden, UNWANTED),
            Taken::Requests => of(Code::Limit, format!("too many wait for an answer of {user}")),
            Taken::Full | Taken::Yes => of(Code::Limit, format!("{user} has too many chats")),
        }
    }
}

/// What is told who blocks the one she writes to.
const BLOCKED: &str = "you have blocked this user: unblock them first";

/// What is told who is blocked.
const UNWANTED: &str = "this user takes no messages from you";

const DAY: u64 = 24 * 60 * 60;

//! What changes a group: in which order, and the one record that holds a change.
//!
//! Rows: the group's own (title, links), a seat for each member and for those who were, and in the
//! log an entry of kind `system` for each change, all in one record. The chat's side owns them; a
//! user's side has the group in her index, stored before she is added. A change takes its turn among
//! the sends. Rights are looked at when its turn comes (`plan.rs`), so that it is judged by what
//! stands in the log before it. In a channel readers come and go without an entry: nobody else would want to hear
//! of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::record::Op;
use tidings_core::time::Time;

use super::cursor::Member;
use super::cx::{Cx, Waiting};
use super::one::{Blocked, Chat, Pending};
use super::plan::Plan;
use crate::code::Code;
use crate::entry::{Entry, Kind};
use crate::group::Role;
use crate::peer::{AnswerTo, ChatInput, DeviceOf, Origin, Outcome, Post, Refusal, ToUser};
use crate::rows::{RowValue, group_key, member_key};
use crate::ties::{Stance, Taken};

/// Users who are being added, and wait for the group to be in their index.
#[derive(Debug)]
pub(super) struct Joining {
    post: Box<Post>,
    plan: Plan,
    missing: BTreeSet<Arc<str>>,
    begun: BTreeMap<Arc<str>, (Stance, Vec<DeviceOf>)>,
}

/// What follows once a change is safe.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) joins: Vec<Arc<str>>,
    pub(super) parts: Vec<Arc<str>>,
    pub(super) origin: Option<Origin>,
    pub(super) answer: Option<Told>,
}

/// What only the one who asked is told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) to: AnswerTo,
    pub(super) kind: &'static str,
    pub(super) body: Bytes,
}

impl Chat {
    /// What a user may do here.
    pub(super) fn role(&self, user: &str) -> Result<Role, Refusal> {
        match self.members.present(user) {
            _ if self.created.is_none() => {
                Err(Refusal::new(Code::UnknownChat, "there is no group of this name"))
            }
            Some(member) => Ok(member.role),
            None if self.members.count() == 0 => {
                Err(Refusal::new(Code::Ended, "everybody has left this group"))
            }
            None => Err(Self::nobody()),
        }
    }

    /// What somebody is told who has no place here.
    pub(super) fn nobody() -> Refusal {
        Refusal::new(Code::Forbidden, "you are not in this group")
    }

    /// Whether a user is in this chat.
    pub(super) fn is_member(&self, user: &str) -> Result<(), Refusal> {
        if self.place.is_group() {
            self.role(user).map(|_| ())
        } else if self.created.is_none() {
            Err(Refusal::new(Code::UnknownChat, "nothing was ever sent in this chat"))
        } else {
            Ok(())
        }
    }

    /// The foremost of what waits is a change.
    pub(super) fn change(&mut self, cx: &mut Cx<'_>) {
        let Some(mut post) = self.waiting.pop_front() else { return };
        let Some(change) = post.change.take() else { return };
        if !self.place.is_group()
            && post.origin.call().is_none()
            && let Err(refusal) = self.admits(&post.sender, cx)
        {
            return cx.refuse(&self.place, ChatInput::Send(post), refusal);
        }
        match self.plan(&post, *change, cx) {
            Err(refusal) => cx.refuse(&self.place, ChatInput::Send(post), refusal),
            Ok(None) => cx.answer(&self.place, post.origin, None, Outcome::Done),
            Ok(Some(plan)) if plan.joins.is_empty() => {
                self.apply(&post, plan, BTreeMap::new(), cx);
            }
            Ok(Some(plan)) => {
                let missing: BTreeSet<Arc<str>> =
                    plan.joins.iter().map(|(user, _)| Arc::clone(user)).collect();
                // Who comes by a link comes by herself.
                let by = Some(&post.sender).filter(|by| !missing.contains(*by) || plan.create);
                let by = by.filter(|_| post.origin.call().is_none());
                for user in &missing {
                    let (place, since) = (Arc::clone(&self.place), cx.now());
                    let (user_, by) = (Arc::clone(user), by.cloned());
                    let begin = ToUser::Begin { place, user: user_, by, since };
                    cx.tell_user(user, begin);
                }
                let begun = BTreeMap::new();
                let joining = Joining { post, plan, missing, begun };
                self.blocked = Some(Blocked::Joining(Box::new(joining)));
            }
        }
    }

    /// Whether this has to wait for its user to be added.
    pub(super) fn is_early(&self, what: &ChatInput) -> bool {
        let (ChatInput::Attach { device: DeviceOf { user, .. }, .. } | ChatInput::Listen { user }) =
            what
        else {
            return false;
        };
        self.is_joining(user)
    }

    /// Whether a user is just being added.
    pub(super) fn is_joining(&self, user: &str) -> bool {
        let Some(Blocked::Joining(joining)) = &self.blocked else { return false };
        joining.plan.joins.iter().any(|(joining, _)| **joining == *user)
    }

    /// A user who is being added has the group in her index, or no room for it.
    pub(super) fn joining_begun(
        &mut self,
        user: &str,
        taken: Taken,
        stance: Stance,
        devices: Vec<DeviceOf>,
        cx: &mut Cx<'_>,
    ) {
        let Some(Blocked::Joining(joining)) = &mut self.blocked else { return };
        let Some(user) = joining.missing.take(user) else { return };
        let sender = Arc::clone(&joining.post.sender);
        let refused = (taken != Taken::Yes).then(|| (Arc::clone(&user), taken));
        joining.begun.insert(user, (stance, devices));
        if refused.is_none() && !joining.missing.is_empty() {
            return;
        }
        let Some(Blocked::Joining(joining)) = self.blocked.take() else { return };
        let Joining { post, plan, begun, .. } = *joining;
        if let Some((unwilling, taken)) = refused {
            for (user, _) in plan.joins {
                if self.members.present(&user).is_none() {
                    self.forget_index(&user, cx);
                }
            }
            let refusal = self.not_taken(&unwilling, taken, &sender);
            cx.refuse(&self.place, ChatInput::Send(post), refusal);
        } else {
            self.apply(&post, plan, begun, cx);
        }
        for parked in std::mem::take(&mut self.parked) {
            self.handle(parked, cx);
        }
        self.work(cx);
    }

    /// Makes it so: one record.
    fn apply(
        &mut self,
        post: &Post,
        plan: Plan,
        mut begun: BTreeMap<Arc<str>, (Stance, Vec<DeviceOf>)>,
        cx: &mut Cx<'_>,
    ) {
        let (next, time) = self.log.next(cx.now());
        let last = if plan.told.is_some() { next } else { next - 1 };
        let mut ops = Vec::with_capacity(2 + plan.joins.len() + plan.parts.len());
        if plan.create {
            self.created = Some(time);
        }
        if let Some(group) = plan.group {
            self.group = group;
            ops.push(Op::Put { key: group_key(self.id()), value: self.group.to_bytes() });
        }
        for (user, role) in &plan.joins {
            let (stance, devices) = begun.remove(user).unwrap_or_default();
            self.seat(user, *role, time, next, devices);
            if let Some(member) = self.members.get_mut(user) {
                member.stance = stance;
            }
            ops.extend(self.stance_op(user).filter(|_| stance != Stance::default()));
        }
        for user in &plan.parts {
            self.members.change(user, |member| {
                member.until = Some(last);
                member.joined = time;
                member.retired = false;
            });
        }
        for (user, role) in &plan.roles {
            self.members.change(user, |member| member.role = *role);
        }
        let changed = plan.joins.iter().chain(&plan.roles).map(|(user, _)| user);
        for user in changed.chain(&plan.parts) {
            let Some(member) = self.members.get(user) else { continue };
            let (key, value) = (member_key(self.id(), user), member.seat().to_bytes());
            ops.push(Op::Put { key, value });
        }
        for (user, _) in &plan.joins {
            // With the rest: a device that a crash made unknown would not be waited for.
            self.members.cursor_ops(self.place.id, user, &mut ops);
        }
        if plan.create {
            ops.push(self.head_op());
        }
        if let Some(settings) = plan.settings {
            self.set(settings, &mut ops, cx);
        }
        let joins = plan.joins.iter().map(|(user, _)| Arc::clone(user)).collect();
        let to = AnswerTo::of(post);
        let answer = plan.answer.zip(to).map(|((kind, body), to)| Told { to, kind, body });
        let parts = plan.parts;
        let effect = Box::new(Effect { joins, parts, origin: Some(post.origin), answer });
        let Some(payload) = plan.told else {
            self.flushing += 1;
            let waiting = Waiting::Silent { effect, seq: last };
            return cx.store_and_wait(self.id(), ops, true, waiting);
        };
        let entry = Arc::new(Entry {
            seq: next,
            time,
            from: Arc::clone(&post.sender),
            device: Arc::clone(&post.device),
            id: format!("{:016x}", cx.host.random()).into(),
            content_type: Some("application/json".into()),
            payload,
            kind: Kind::System,
            refers: 0,
            expires: None,
        });
        self.entry_ops(&entry, &mut ops, cx);
        self.authors_of.push(&entry);
        self.log.push(Arc::clone(&entry));
        self.begin_ops(&entry.from, &mut ops);
        self.due_ops(&entry, &mut ops, cx);
        let waiters = vec![post.origin];
        self.pending.push_back(Pending { entry, made: true, waiters, effect: Some(effect) });
        cx.store_and_wait(self.id(), ops, true, Waiting::Entry);
    }

    /// Somebody is in the group, and sees what comes from `from` on.
    fn seat(&mut self, user: &Arc<str>, role: Role, now: Time, from: u64, begun: Vec<DeviceOf>) {
        if self.members.get(user).is_none() {
            let gone = Member { until: Some(0), ..Member::default() };
            self.members.put(user, gone);
        }
        self.members.change(user, |member| {
            member.role = role;
            member.joined = now;
            member.enter(from);
            member.failed.clear();
            for device in begun {
                if member.device(&device.client_id).is_none() {
                    member.begin_device(&device, from - 1);
                }
            }
        });
    }
}

//! What changes a group: who may, what it comes to, and the one record that holds it.
//!
//! Rows: the group's own (title, links), a seat for each member and for those who were, and in the
//! log an entry of kind `system` for each change, all in one record. The chat's side owns them; a
//! user's side has the group in her index, stored before she is added. A change takes its turn among
//! the sends. Rights are looked at when its turn comes, so that it is judged by what stands in the
//! log before it. In a channel readers come and go without an entry: nobody else would want to hear
//! of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::metric::Metric;
use tidings_core::record::Op;
use tidings_core::time::Time;

use super::cursor::Member;
use super::cx::{Cx, Waiting};
use super::one::{Blocked, Chat, Pending};
use crate::code::Code;
use crate::entry::{Entry, Kind};
use crate::group::{Change, Role, Told};
use crate::peer::{ChatInput, DeviceOf, Origin, Outcome, Post, Refusal, ToUser};
use crate::rows::{GroupRow, LinkRow, RowValue, group_key, log_key, member_key};
use crate::view;

/// Users who are being added, and wait for the group to be in their index.
#[derive(Debug)]
pub(super) struct Joining {
    post: Box<Post>,
    plan: Plan,
    missing: BTreeSet<Arc<str>>,
    devices: BTreeMap<Arc<str>, Vec<DeviceOf>>,
}

/// What a change comes to.
#[derive(Debug, Default)]
struct Plan {
    create: bool,
    joins: Vec<(Arc<str>, Role)>,
    parts: Vec<Arc<str>>,
    roles: Vec<(Arc<str>, Role)>,
    /// The group's own row, where that changes.
    group: Option<GroupRow>,
    /// What members are told; nothing, and it is no entry.
    told: Option<Bytes>,
    /// What only the one who asked is told.
    answer: Option<(&'static str, Bytes)>,
}

/// What follows once a change is safe.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) joins: Vec<Arc<str>>,
    pub(super) parts: Vec<Arc<str>>,
    pub(super) origin: Option<Origin>,
    pub(super) answer: Option<(&'static str, Bytes)>,
}

impl Chat {
    /// Whether the foremost send may pass; it is refused if not.
    pub(super) fn may_send(&mut self, cx: &mut Cx<'_>) -> bool {
        if !self.place.is_group() {
            return true;
        }
        let Some(post) = self.waiting.front() else { return false };
        let refusal = match self.role(&post.sender) {
            Ok(Role::Reader) => Refusal::new(Code::Forbidden, "you may only read here"),
            Ok(_) => return true,
            Err(refusal) => refusal,
        };
        if let Some(post) = self.waiting.pop_front() {
            cx.refuse(&self.place, ChatInput::Send(post), refusal);
        }
        false
    }

    /// What a user may do here.
    fn role(&self, user: &str) -> Result<Role, Refusal> {
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
        match self.plan(&post, *change, cx) {
            Err(refusal) => cx.refuse(&self.place, ChatInput::Send(post), refusal),
            Ok(None) => cx.answer(&self.place, post.origin, None, Outcome::Done),
            Ok(Some(plan)) if plan.joins.is_empty() => {
                self.apply(&post, plan, BTreeMap::new(), cx);
            }
            Ok(Some(plan)) => {
                let missing: BTreeSet<Arc<str>> =
                    plan.joins.iter().map(|(user, _)| Arc::clone(user)).collect();
                for user in &missing {
                    let (place, since) = (Arc::clone(&self.place), cx.now());
                    let begin = ToUser::Begin { place, user: Arc::clone(user), since };
                    cx.tell_user(user, begin);
                }
                let devices = BTreeMap::new();
                let joining = Joining { post, plan, missing, devices };
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
        taken: bool,
        devices: Vec<DeviceOf>,
        cx: &mut Cx<'_>,
    ) {
        let Some(Blocked::Joining(joining)) = &mut self.blocked else { return };
        let Some(user) = joining.missing.take(user) else { return };
        let refused = (!taken).then(|| format!("{user} has too many chats"));
        joining.devices.insert(user, devices);
        if refused.is_none() && !joining.missing.is_empty() {
            return;
        }
        let Some(Blocked::Joining(joining)) = self.blocked.take() else { return };
        let Joining { post, plan, devices, .. } = *joining;
        if let Some(text) = refused {
            for (user, _) in plan.joins {
                if self.members.present(&user).is_none() {
                    self.forget_index(&user, cx);
                }
            }
            let refusal = Refusal::new(Code::Limit, &text);
            cx.refuse(&self.place, ChatInput::Send(post), refusal);
        } else {
            self.apply(&post, plan, devices, cx);
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
        mut devices: BTreeMap<Arc<str>, Vec<DeviceOf>>,
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
            self.seat(user, *role, time, next, devices.remove(user).unwrap_or_default());
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
        let joins = plan.joins.iter().map(|(user, _)| Arc::clone(user)).collect();
        let (parts, answer) = (plan.parts, plan.answer);
        let effect = Box::new(Effect { joins, parts, origin: Some(post.origin), answer });
        let Some(payload) = plan.told else {
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
        });
        ops.push(Op::Put { key: log_key(self.id(), next), value: entry.to_bytes() });
        self.authors_of.push(&entry);
        self.log.push(Arc::clone(&entry));
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

    fn plan(&self, post: &Post, change: Change, cx: &mut Cx<'_>) -> Result<Option<Plan>, Refusal> {
        let sender = &post.sender;
        if let Change::Create { title, users } = change {
            return self.plan_create(sender, title, users, cx);
        }
        if let Change::Join { token } = change {
            return self.plan_join(sender, &token, cx);
        }
        if matches!(change, Change::Leave)
            && self.members.get(sender).is_some_and(|m| !m.is_present())
        {
            return Ok(None);
        }
        let role = self.role(sender)?;
        let forbidden = |text: &str| Err(Refusal::new(Code::Forbidden, text));
        if role < Role::Admin && !matches!(change, Change::Leave) {
            return forbidden("this is for the admins of the group");
        }
        let channel = self.place.is_channel();
        match change {
            Change::Create { .. } | Change::Join { .. } => Ok(None),
            Change::Add { users, role: wanted } => {
                let usual = if channel { Role::Reader } else { Role::Member };
                let wanted = wanted.unwrap_or(usual);
                if wanted >= Role::Admin && role != Role::Owner {
                    return forbidden("only an owner makes admins");
                }
                let new = users.iter().filter(|user| self.members.present(user).is_none());
                let joins: Vec<_> = new.map(|user| (Arc::clone(user), wanted)).collect();
                if joins.is_empty() {
                    return Ok(None);
                }
                self.room_for(&joins, cx)?;
                let users: Vec<_> = joins.iter().map(|(user, _)| Arc::clone(user)).collect();
                let told =
                    Told { action: "add", users: &users, role: Some(wanted), ..Told::default() };
                let told = (!channel || wanted > Role::Reader).then(|| view::body(&told));
                Ok(Some(Plan { joins, told, ..Plan::default() }))
            }
            Change::Remove { users } => {
                let mut parts = Vec::new();
                let mut loud = !channel;
                for user in users {
                    let Some(member) = self.members.present(&user) else { continue };
                    if user == *sender {
                        return Err(Refusal::new(Code::Format, "who goes herself says leave"));
                    }
                    if member.role >= Role::Admin && role != Role::Owner {
                        return forbidden("only an owner removes admins");
                    }
                    loud |= member.role > Role::Reader;
                    parts.push(user);
                }
                if parts.is_empty() {
                    return Ok(None);
                }
                let told = Told { action: "remove", users: &parts, ..Told::default() };
                let told = loud.then(|| view::body(&told));
                Ok(Some(Plan { parts, told, ..Plan::default() }))
            }
            Change::Leave => {
                let mut roles = Vec::new();
                if role == Role::Owner && !self.members.owned_without(sender) {
                    roles.extend(self.members.heir(sender).map(|heir| (heir, Role::Owner)));
                }
                let owner = roles.first().map(|(heir, _)| &**heir);
                let told = Told { action: "leave", owner, ..Told::default() };
                let told = (!channel || role > Role::Reader).then(|| view::body(&told));
                let parts = vec![Arc::clone(sender)];
                Ok(Some(Plan { parts, roles, told, ..Plan::default() }))
            }
            Change::Role { user, role: wanted } => self.plan_role(sender, role, user, wanted, cx),
            Change::Title(title) => {
                let title = Some(title).filter(|title| !title.is_empty());
                if title == self.group.title {
                    return Ok(None);
                }
                let shown = Some(title.as_deref().unwrap_or_default());
                let told = Told { action: "title", title: shown, ..Told::default() };
                let told = Some(view::body(&told));
                let group = Some(GroupRow { title, ..self.group.clone() });
                Ok(Some(Plan { group, told, ..Plan::default() }))
            }
            Change::Invite { expires, uses, role: wanted } => {
                let usual = if channel { Role::Reader } else { Role::Member };
                let role = wanted.unwrap_or(usual);
                if role >= Role::Admin {
                    return Err(Refusal::new(Code::Format, "a link is for readers or members"));
                }
                let now = cx.now();
                let mut group = self.group.clone();
                group.links.retain(|link| link.expires.is_none_or(|at| at > now));
                if group.links.len() >= LINKS_MAX {
                    let text = format!("a group has at most {LINKS_MAX} links: revoke one");
                    return Err(Refusal::new(Code::Limit, &text));
                }
                let seconds = expires.map(|seconds| seconds.min(LINK_SECONDS_MAX));
                let expires = seconds.map(|s| now + std::time::Duration::from_secs(s));
                let token = cx.token(self.id()).ok_or_else(|| {
                    Refusal::new(Code::Unavailable, "the server has no source of randomness")
                })?;
                let answer = view::Invite { token: &token, role, expires, uses };
                let answer = Some(("invite", view::body(&answer)));
                let by = sender.to_string();
                group.links.push(LinkRow { token, role, by, expires, uses });
                let told = Told { action: "invite", role: Some(role), ..Told::default() };
                let told = Some(view::body(&told));
                Ok(Some(Plan { group: Some(group), told, answer, ..Plan::default() }))
            }
            Change::Revoke { token } => {
                let mut group = self.group.clone();
                group.links.retain(|link| link.token != token);
                if group.links.len() == self.group.links.len() {
                    return Ok(None);
                }
                let told = Some(view::body(&Told { action: "revoke", ..Told::default() }));
                Ok(Some(Plan { group: Some(group), told, ..Plan::default() }))
            }
        }
    }

    fn plan_create(
        &self,
        sender: &Arc<str>,
        title: Option<String>,
        mut users: Vec<Arc<str>>,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Plan>, Refusal> {
        if self.created.is_some() {
            return match self.role(sender) {
                // Perhaps the answer to an earlier one was lost.
                Ok(Role::Owner) => Ok(None),
                _ => Err(Refusal::new(Code::Conflict, "this name is taken")),
            };
        }
        users.retain(|user| user != sender);
        let role = if self.place.is_channel() { Role::Reader } else { Role::Member };
        let told =
            Told { action: "create", users: &users, title: title.as_deref(), ..Told::default() };
        let told = Some(view::body(&told));
        let others = users.into_iter().map(|user| (user, role));
        let joins: Vec<_> = others.chain([(Arc::clone(sender), Role::Owner)]).collect();
        self.room_for(&joins, cx)?;
        let group = Some(GroupRow { title, links: Vec::new() });
        Ok(Some(Plan { create: true, joins, group, told, ..Plan::default() }))
    }

    fn plan_join(
        &self,
        sender: &Arc<str>,
        token: &str,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Plan>, Refusal> {
        if self.members.present(sender).is_some() {
            return Ok(None);
        }
        // Who holds no link learns nothing about the group, not even whether it is there.
        let none = || Refusal::new(Code::Forbidden, "this link does not open a group");
        let mut group = self.group.clone();
        let now = cx.now();
        let opens = |link: &&mut LinkRow| {
            link.token == token && link.expires.is_none_or(|expires| expires > now)
        };
        let link = group.links.iter_mut().find(opens).ok_or_else(none)?;
        if self.members.count() == 0 {
            return Err(none());
        }
        let joins = vec![(Arc::clone(sender), link.role)];
        let silent = self.place.is_channel() && link.role == Role::Reader;
        self.room_for(&joins, cx)?;
        let counted = link.uses.is_some();
        link.uses = link.uses.map(|uses| uses.saturating_sub(1));
        group.links.retain(|link| link.uses != Some(0));
        let told = (!silent).then(|| view::body(&Told { action: "join", ..Told::default() }));
        let group = Some(group).filter(|_| counted);
        Ok(Some(Plan { joins, group, told, ..Plan::default() }))
    }

    fn plan_role(
        &self,
        sender: &Arc<str>,
        own: Role,
        user: Arc<str>,
        role: Role,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Plan>, Refusal> {
        let Some(member) = self.members.present(&user) else {
            let text = format!("{user} is not in this group");
            return Err(Refusal::new(Code::Conflict, &text));
        };
        if member.role == role {
            return Ok(None);
        }
        if own != Role::Owner && (role >= Role::Admin || member.role >= Role::Admin) {
            let text = "only an owner makes admins, or takes it back";
            return Err(Refusal::new(Code::Forbidden, text));
        }
        if user == *sender && own == Role::Owner && !self.members.owned_without(sender) {
            return Err(Refusal::new(Code::Conflict, "a group needs an owner: make one first"));
        }
        if !member.may_write() {
            self.room_for_writers(1, cx)?;
        }
        let users = [Arc::clone(&user)];
        let told = Told { action: "role", users: &users, role: Some(role), ..Told::default() };
        let told = Some(view::body(&told));
        Ok(Some(Plan { roles: vec![(user, role)], told, ..Plan::default() }))
    }

    fn room_for(&self, joins: &[(Arc<str>, Role)], cx: &mut Cx<'_>) -> Result<(), Refusal> {
        let options = cx.options();
        let channel = self.place.is_channel();
        let max = if channel { options.channel_members_max } else { options.group_members_max };
        if self.members.count() + joins.len() > max {
            cx.host.count(if channel {
                Metric::LimitChannelMembers
            } else {
                Metric::LimitGroupMembers
            });
            let text = format!("at most {max} members");
            return Err(Refusal::new(Code::Limit, &text));
        }
        self.room_for_writers(joins.iter().filter(|(_, role)| *role > Role::Reader).count(), cx)
    }

    fn room_for_writers(&self, more: usize, cx: &mut Cx<'_>) -> Result<(), Refusal> {
        let max = cx.options().group_members_max;
        if more > 0 && self.members.writers() + more > max {
            cx.host.count(Metric::LimitGroupMembers);
            let text = format!("at most {max} members who may write");
            return Err(Refusal::new(Code::Limit, &text));
        }
        Ok(())
    }
}

/// How many links a group has at once.
const LINKS_MAX: usize = 16;

/// How long a link lasts at the most, if it does not last for ever: a hundred years.
const LINK_SECONDS_MAX: u64 = 100 * 365 * 24 * 3_600;

//! Who may change a group, and what a change comes to.
//!
//! Nothing is changed here: a plan is carried out by `group.rs`, when those who are to be added have
//! the group in their index. What is so already comes to nothing, so that a command may be repeated.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::metric::Metric;

use super::cx::Cx;
use super::one::Chat;
use crate::code::Code;
use crate::group::{Change, Role, Told};
use crate::peer::{Post, Refusal};
use crate::rows::{GroupRow, LinkRow, SettingsRow};
use crate::view;

/// What a change comes to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: bool,
    pub(super) joins: Vec<(Arc<str>, Role)>,
    pub(super) parts: Vec<Arc<str>>,
    pub(super) roles: Vec<(Arc<str>, Role)>,
    /// The group's own row, where that changes.
    pub(super) group: Option<GroupRow>,
    /// What members are told; nothing, and it is no entry.
    pub(super) told: Option<Bytes>,
    pub(super) settings: Option<SettingsRow>,
    /// What only the one who asked is told.
    pub(super) answer: Option<(&'static str, Bytes)>,
}

impl Chat {
    /// What a change comes to; nothing where all of it is so already.
    pub(super) fn plan(
        &self,
        post: &Post,
        change: Change,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Plan>, Refusal> {
        let sender = &post.sender;
        if let Change::Create { title, users } = change {
            return self.plan_create(sender, title, users, cx);
        }
        if let Change::Join { token } = change {
            return self.plan_join(sender, &token, cx);
        }
        if matches!(change, Change::Timer(_) | Change::Retention(_)) {
            return self.plan_settings(sender, &change);
        }
        if matches!(change, Change::Leave)
            && self.members.get(sender).is_some_and(|m| !m.is_present())
        {
            return Ok(None);
        }
        let called = post.origin.call().is_some() && self.created.is_some();
        let role = if called { Role::Owner } else { self.role(sender)? };
        let forbidden = |text: &str| Err(Refusal::new(Code::Forbidden, text));
        if role < Role::Admin && !matches!(change, Change::Leave) {
            return forbidden("this is for the admins of the group");
        }
        let channel = self.place.is_channel();
        match change {
            Change::Create { .. }
            | Change::Join { .. }
            | Change::Timer(_)
            | Change::Retention(_) => Ok(None),
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
            Change::Invite { expires, uses, role: wanted, .. } => {
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
                let request = post.ask.as_ref().and_then(|ask| ask.request.as_ref());
                let answer = view::Invite { token: &token, role, expires, uses, request };
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

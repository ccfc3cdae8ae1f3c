//! Who sees whose presence: shared chats, what the one shows, and what the other shows herself.
//!
//! Both sides are asked, each where it is known. The one who looks must not hide herself from him
//! (then nothing is asked at all); the one looked at must show himself to her. Who may not see
//! hears what is told of a user who was never there. A watcher who may not is remembered all the
//! same: what changes is told when it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::hook::{Host, SessionId, is_temporary};
use tidings_core::slot::ShardId;

use super::UserSide;
use super::outgoing::to_user;
use super::person::User;
use super::presence::tell;
use crate::peer::{Peer, PresenceState, ToUser};
use crate::ties::{Reach, Watching};
use crate::topics::ChatId;

/// A session that watches somebody.
#[derive(Debug)]
pub(super) struct Watcher {
    by: Arc<str>,
    /// Groups that both were in when it began.
    groups: Vec<ChatId>,
    /// Whether it is told.
    pub(super) allowed: bool,
}

impl User {
    /// Whether somebody sees her presence. `requests`: whether strangers are told nothing.
    fn shows(&self, by: &str, groups: &[ChatId], requests: bool) -> bool {
        // Of those in rooms it was looked at when they subscribed.
        if *by == *self.name || is_temporary(&self.name) || is_temporary(by) {
            return true;
        }
        let shared = || groups.iter().any(|group| self.is_in(*group));
        let reached = match self.privacy.presence {
            Reach::All => !requests || self.knows(by) || shared(),
            reach => self.is_for(reach, by),
        };
        reached && !self.blocks(by)
    }

    /// Whether she may look at somebody's presence: who hides hers sees none.
    fn may_look(&self, at: &str) -> bool {
        *at == *self.name || (!self.blocks(at) && self.is_for(self.privacy.presence, at))
    }
}

impl UserSide {
    /// A session of hers wants to know; `fresh`: and has just said so.
    pub(super) fn look(
        &self,
        name: &Arc<str>,
        id: SessionId,
        at: &Arc<str>,
        fresh: bool,
        host: &mut dyn Host,
    ) {
        let watching = self.sessions.get(&id).is_some_and(|session| session.watching.contains(at));
        let Some(user) = self.users.get(name).filter(|_| watching) else { return };
        let shard = host.shard();
        if user.may_look(at) {
            let groups = user.chats.values();
            let groups = groups.filter(|place| place.is_group() && user.is_in(place.id));
            let groups = groups.map(|place| place.id).take(GROUPS_MAX).collect();
            let by = Watching { shard, session: id, by: Arc::clone(name), groups, fresh };
            to_user(at, ToUser::Watch { user: Arc::clone(at), by: Box::new(by) }, host);
        } else if fresh {
            tell(at, PresenceState::default(), shard, vec![id], host);
        } else {
            to_user(at, ToUser::Unwatch { user: Arc::clone(at), shard, session: id }, host);
        }
    }

    /// A session wants to know.
    pub(super) fn watch(&mut self, name: &Arc<str>, by: Watching, host: &mut dyn Host) {
        let Watching { shard, session, by, groups, fresh } = by;
        let (max, requests) = (self.options.watchers_max, self.options.requests);
        let Some(user) = self.users.get_mut(name) else { return };
        let shared: Vec<ChatId> = groups.into_iter().filter(|group| user.is_in(*group)).collect();
        let allowed = user.shows(&by, &shared, requests);
        let key = (shard, session);
        let before = user.watchers.get(&key).is_some_and(|watcher| watcher.allowed);
        let value = if allowed { user.presence } else { PresenceState::default() };
        if user.watchers.contains_key(&key) || user.watchers.len() < max {
            // What it may not see any more is hidden from it below.
            let allowed = allowed || before;
            user.watchers.insert(key, Watcher { by, groups: shared, allowed });
        }
        if fresh || allowed && !before {
            tell(name, value, shard, vec![session], host);
        }
        if before && !allowed {
            self.show_anew(name, None, host);
        }
    }

    /// A session does not want to know any more.
    pub(super) fn unwatch(&mut self, name: &str, shard: ShardId, session: SessionId) {
        if let Some(user) = self.users.get_mut(name) {
            user.watchers.remove(&(shard, session));
            user.waiting.retain(|later| {
                !matches!(later, super::person::Later::Watch { by }
                    if by.shard == shard && by.session == session)
            });
            self.unload(name);
        }
    }

    /// Who may see a user's presence has changed, for one or for all: those who may no more hear
    /// that she is gone, those who may now hear how it is.
    fn show_anew(&mut self, name: &Arc<str>, only: Option<&str>, host: &mut dyn Host) {
        let requests = self.options.requests;
        let Some(user) = self.users.get_mut(name) else { return };
        let mut watchers = std::mem::take(&mut user.watchers);
        let (mut shown, mut hidden) = (BTreeMap::new(), BTreeMap::new());
        for ((shard, session), watcher) in &mut watchers {
            if only.is_some_and(|only| *only != *watcher.by) {
                continue;
            }
            let allowed = user.shows(&watcher.by, &watcher.groups, requests);
            if std::mem::replace(&mut watcher.allowed, allowed) != allowed {
                let told = if allowed { &mut shown } else { &mut hidden };
                told.entry(*shard).or_insert_with(Vec::new).push(*session);
            }
        }
        user.watchers = watchers;
        if shown.is_empty() && hidden.is_empty() {
            return;
        }
        // Each must override what the other has told.
        let epoch = (user.presence.epoch + 1).max(host.now().as_millis());
        user.presence.epoch = epoch + 1;
        let (state, none) = (user.presence, PresenceState { epoch, ..PresenceState::default() });
        self.keep_presence(name, host);
        for (shard, sessions) in shown {
            tell(name, state, shard, sessions, host);
        }
        for (shard, sessions) in hidden {
            tell(name, none, shard, sessions, host);
        }
    }

    /// Something has changed between a user and another: who sees whom is looked at again.
    pub(super) fn presence_of_pair(&mut self, name: &Arc<str>, peer: &str, host: &mut dyn Host) {
        self.show_anew(name, Some(peer), host);
        self.look_anew(name, Some(peer), host);
    }

    /// The same between a user and everybody.
    pub(super) fn presence_shown_anew(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        self.show_anew(name, None, host);
        self.look_anew(name, None, host);
    }

    /// A user has come into a group, and may know somebody there now whom she watches, or who watches
    /// her.
    pub(super) fn presence_in_group(&self, name: &Arc<str>, host: &mut dyn Host) {
        self.look_anew(name, None, host);
        let watchers = self.users.get(name).into_iter().flat_map(|user| &user.watchers);
        for ((shard, session), watcher) in watchers.filter(|(_, watcher)| !watcher.allowed) {
            let (user, at) = (Arc::clone(&watcher.by), Arc::clone(name));
            let look = ToUser::Look { user, session: *session, at };
            host.send(*shard, Box::new(Peer::User(look)));
        }
    }

    fn look_anew(&self, name: &Arc<str>, only: Option<&str>, host: &mut dyn Host) {
        for id in self.users.get(name).iter().flat_map(|user| &user.sessions) {
            let watching = self.sessions.get(id).into_iter().flat_map(|it| &it.watching);
            for at in watching.filter(|at| only.is_none_or(|only| *only == ***at)) {
                self.look(name, *id, at, false, host);
            }
        }
    }
}

/// How many groups of who looks are compared with those of the other.
const GROUPS_MAX: usize = 1_024;

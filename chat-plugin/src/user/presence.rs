//! Presence: online while a session is connected, away while all of them say so, and when a user
//! was last seen.
//!
//! A clean end counts at once. Any other end counts after a grace in which a reconnect makes it no
//! change; a will brings that forward. Who was online when the server ended has a longer one, from
//! the start on: everybody comes back at once then, and nobody is to hear of it. Every change takes
//! a higher epoch, over restarts too: the larger of the next number and the time in milliseconds,
//! so that even an epoch whose row a crash took back is not given again. Who may see what is in
//! `watch.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::codec::QoS;
use tidings_core::hook::{Disconnection, Host, SessionId, is_temporary};
use tidings_core::slot::ShardId;
use tidings_core::time::Time;

use super::outgoing::{message, put};
use super::person::Gone;
use super::{Timer, UserSide};
use crate::peer::{Peer, PresenceState, ToUser};
use crate::rows::{PresenceRow, RowValue, presence_key};
use crate::view;

impl UserSide {
    /// The shard is up.
    pub(crate) fn started(&mut self, now: Time) {
        self.returning_until = now + self.options.presence_start_grace;
    }

    /// A session of the user has connected.
    pub(super) fn arrived(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.gone = None;
        if user.loaded {
            self.here(name, host);
        }
    }

    /// A session of the user is there: she is online, or away if all of them say so.
    pub(super) fn here(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        let session = |id: &SessionId| self.sessions.get(id);
        let away = user.sessions.iter().filter_map(session).all(|session| session.away);
        if !user.presence.online || user.presence.away != away {
            let state = PresenceState { online: true, away, ..user.presence };
            self.set_presence(name, state, host.now(), host);
        }
    }

    /// A session of the user has disconnected.
    pub(super) fn left(&mut self, name: &Arc<str>, how: Disconnection, host: &mut dyn Host) {
        let now = host.now();
        let Some(user) = self.users.get_mut(name) else { return };
        if !user.sessions.is_empty() {
            if user.loaded {
                self.here(name, host);
            }
        } else if how == Disconnection::Clean && user.loaded {
            self.offline(name, now, host);
        } else {
            // Taken over: a will that now comes is that of the connection before.
            let until = now + self.options.presence_grace;
            let by_will = how != Disconnection::TakenOver;
            user.gone = Some(Gone { since: now, until, by_will });
            if user.loaded && user.presence.online {
                // Should the server end before that counts: this is when she was last seen.
                user.presence.last_seen = now;
                self.keep_presence(name, host);
            }
            self.timers.set(until, Timer::Grace(Arc::clone(name)));
        }
        self.unload(name);
    }

    /// The user's rows have been read.
    pub(super) fn presence_loaded(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let now = host.now();
        let Some(user) = self.users.get_mut(name) else { return };
        let returns = user.presence.online && now < self.returning_until;
        if !user.sessions.is_empty() {
            if !returns {
                user.presence.online = false;
            }
            self.here(name, host);
        } else if returns && user.gone.is_none() {
            // She was online when the server ended, and may be about to come back.
            let spread = self.options.presence_start_grace.as_millis() / 8 + 1;
            let spread = u64::try_from(spread).unwrap_or(1);
            let until =
                Time::from_millis(self.returning_until.as_millis() + host.random() % spread);
            let since = user.presence.last_seen;
            user.gone = Some(Gone { since, until, by_will: true });
            self.timers.set(until, Timer::Grace(Arc::clone(name)));
        } else if user.presence.online && user.gone.is_none() {
            let last_seen = user.presence.last_seen;
            self.offline(name, last_seen, host);
        }
    }

    /// The grace of a user may be over.
    pub(super) fn grace_over(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let now = host.now();
        let Some(user) = self.users.get(name).filter(|user| user.loaded) else {
            // Her rows are being read; what is found there is set right once more.
            if self.users.contains_key(name) {
                self.timers.set(now + self.options.presence_grace, Timer::Grace(Arc::clone(name)));
            }
            return;
        };
        if let Some(gone) = user.gone.filter(|gone| now >= gone.until) {
            self.offline(name, gone.since, host);
            self.unload(name);
        }
    }

    /// A will of the user has come.
    pub(super) fn will(&mut self, name: &str, host: &mut dyn Host) {
        let Some(user) = self.users.get(name).filter(|user| user.loaded) else { return };
        if let Some(gone) = user.gone.filter(|gone| gone.by_will) {
            let name = Arc::clone(&user.name);
            self.offline(&name, gone.since, host);
            self.unload(&name);
        }
    }

    fn offline(&mut self, name: &Arc<str>, last_seen: Time, host: &mut dyn Host) {
        self.set_presence(name, PresenceState::default(), last_seen, host);
    }

    fn set_presence(
        &mut self,
        name: &Arc<str>,
        state: PresenceState,
        last_seen: Time,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.gone = None;
        let epoch = (user.presence.epoch + 1).max(host.now().as_millis());
        let last_seen = last_seen.max(user.presence.last_seen);
        user.presence = PresenceState { epoch, last_seen, ..state };
        self.keep_presence(name, host);
        self.tell_watchers(name, host);
        if !state.online {
            self.guest_gone(name, host);
        }
    }

    /// Stores the presence of a user as it is.
    pub(super) fn keep_presence(&self, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        let PresenceState { epoch, last_seen, online, .. } = user.presence;
        if !is_temporary(name) {
            let row = PresenceRow { epoch, last_seen, online };
            put(presence_key(name), row.to_bytes(), false, host);
        }
    }

    /// Tells those who watch a user, now or, where too much is told, by and by: the newest only.
    fn tell_watchers(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let now = host.now();
        let Some(user) = self.users.get_mut(name) else { return };
        if user.watchers.is_empty() || user.untold {
            return;
        }
        if let Some(rate) = self.paces.presence
            && (!self.untold.is_empty() || self.told_presence.available(rate, now) == 0)
        {
            user.untold = true;
            if self.untold.is_empty() {
                self.timers.set(self.told_presence.ready_at(1, rate), Timer::Presence);
            }
            return self.untold.push_back(Arc::clone(name));
        }
        self.tell_watchers_now(name, host);
    }

    /// There is time for those who have not been told.
    pub(super) fn tell_untold(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let Some(rate) = self.paces.presence else { return };
        while self.told_presence.available(rate, now) > 0 {
            let Some(name) = self.untold.pop_front() else { return };
            if let Some(user) = self.users.get_mut(&name) {
                user.untold = false;
                self.tell_watchers_now(&name, host);
            }
        }
        if !self.untold.is_empty() {
            self.timers.set(self.told_presence.ready_at(1, rate), Timer::Presence);
        }
    }

    fn tell_watchers_now(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        let mut watching: BTreeMap<ShardId, Vec<SessionId>> = BTreeMap::new();
        let mut count = 0;
        for ((shard, session), watcher) in &user.watchers {
            if watcher.allowed {
                watching.entry(*shard).or_default().push(*session);
                count += 1;
            }
        }
        for (shard, sessions) in watching {
            tell(name, user.presence, shard, sessions, host);
        }
        if let Some(rate) = self.paces.presence {
            self.told_presence.take(count, rate, host.now());
        }
    }

    /// The presence of a user, for sessions here.
    pub(super) fn presence_changed(
        &mut self,
        name: &str,
        state: PresenceState,
        sessions: &[SessionId],
        host: &mut dyn Host,
    ) {
        let body = view::body(&view::Presence {
            state: match state {
                PresenceState { online: false, .. } => "offline",
                PresenceState { away: true, .. } => "away",
                PresenceState { .. } => "online",
            },
            last_seen: state.last_seen,
            epoch: state.epoch,
        });
        let message = message(["presence/", name].concat(), body, QoS::AtMostOnce, host);
        for id in sessions {
            let watching =
                self.sessions.get(id).is_some_and(|session| session.watching.contains(name));
            if watching {
                let _ = host.deliver(*id, &message, None);
            }
        }
    }
}

/// Tells sessions of one shard of a user's presence.
pub(super) fn tell(
    user: &Arc<str>,
    state: PresenceState,
    shard: ShardId,
    sessions: Vec<SessionId>,
    host: &mut dyn Host,
) {
    let presence = ToUser::Presence { user: Arc::clone(user), state, sessions };
    host.send(shard, Box::new(Peer::User(presence)));
}

//! Presence: online while a session is connected, and when a user was last seen.
//!
//! A clean end counts at once. Any other end counts after a grace in which a reconnect makes it no
//! change; a will brings that forward. Every change takes a higher epoch, over restarts too: the
//! larger of the next number and the time in milliseconds, so that even an epoch whose row a crash
//! took back is not given again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::codec::QoS;
use tidings_core::hook::{Disconnection, Host, SessionId, is_temporary};
use tidings_core::slot::ShardId;
use tidings_core::time::Time;

use super::outgoing::{message, put};
use super::{Timer, UserSide};
use crate::peer::{Peer, PresenceState, ToUser};
use crate::rows::{PresenceRow, RowValue, presence_key};
use crate::view;

impl UserSide {
    /// A session of the user has connected.
    pub(super) fn arrived(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.away = None;
        if user.loaded && !user.presence.online {
            self.set_presence(name, true, host.now(), host);
        }
    }

    /// A session of the user has disconnected.
    pub(super) fn left(&mut self, name: &Arc<str>, how: Disconnection, host: &mut dyn Host) {
        let now = host.now();
        let Some(user) = self.users.get_mut(name) else { return };
        if user.sessions.is_empty() {
            if how == Disconnection::Clean && user.loaded {
                self.set_presence(name, false, now, host);
            } else {
                // Taken over: a will that now comes is that of the connection before.
                user.away = Some((now, how != Disconnection::TakenOver));
                let grace = self.options.presence_grace;
                self.timers.set(now + grace, Timer::Grace(Arc::clone(name)));
            }
        }
        self.unload(name);
    }

    /// The user's rows have been read.
    pub(super) fn presence_loaded(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        let here = !user.sessions.is_empty();
        if here {
            self.set_presence(name, true, host.now(), host);
        } else if user.presence.online && user.away.is_none() {
            // She was online when the server ended.
            let last_seen = user.presence.last_seen;
            self.set_presence(name, false, last_seen, host);
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
        let over = user.away.filter(|(since, _)| now >= *since + self.options.presence_grace);
        if let Some((since, _)) = over {
            self.set_presence(name, false, since, host);
            self.unload(name);
        }
    }

    /// A will of the user has come.
    pub(super) fn will(&mut self, name: &str, host: &mut dyn Host) {
        let Some(user) = self.users.get(name).filter(|user| user.loaded) else { return };
        if let Some((since, true)) = user.away {
            let name = Arc::clone(&user.name);
            self.set_presence(&name, false, since, host);
            self.unload(&name);
        }
    }

    fn set_presence(
        &mut self,
        name: &Arc<str>,
        online: bool,
        last_seen: Time,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.away = None;
        let epoch = (user.presence.epoch + 1).max(host.now().as_millis());
        let last_seen = last_seen.max(user.presence.last_seen);
        user.presence = PresenceState { online, last_seen, epoch };
        if !is_temporary(name) {
            let row = PresenceRow { epoch, last_seen, online };
            put(presence_key(name), row.to_bytes(), false, host);
        }
        let mut watching: BTreeMap<ShardId, Vec<SessionId>> = BTreeMap::new();
        for (shard, session) in &user.watchers {
            watching.entry(*shard).or_default().push(*session);
        }
        for (shard, sessions) in watching {
            tell(name, user.presence, shard, sessions, host);
        }
        if !online {
            self.guest_gone(name, host);
        }
    }

    /// A session wants to know.
    pub(super) fn watch(
        &mut self,
        name: &Arc<str>,
        shard: ShardId,
        session: SessionId,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get_mut(name) else { return };
        if user.watchers.len() < self.options.watchers_max {
            user.watchers.insert((shard, session));
        }
        tell(name, user.presence, shard, vec![session], host);
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
            state: if state.online { "online" } else { "offline" },
            last_seen: state.last_seen,
            epoch: state.epoch,
        });
        let mut topic = String::from("presence/");
        topic.push_str(name);
        let message = message(topic, body, QoS::AtMostOnce, host);
        for id in sessions {
            let watching =
                self.sessions.get(id).is_some_and(|session| session.watching.contains(name));
            if watching {
                let _ = host.deliver(*id, &message, None);
            }
        }
    }
}

fn tell(
    user: &Arc<str>,
    state: PresenceState,
    shard: ShardId,
    sessions: Vec<SessionId>,
    host: &mut dyn Host,
) {
    let presence = ToUser::Presence { user: Arc::clone(user), state, sessions };
    host.send(shard, Box::new(Peer::User(presence)));
}

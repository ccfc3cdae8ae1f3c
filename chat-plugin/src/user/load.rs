//! Users come into memory, and leave it.
//!
//! A user is read whole, from all her rows. What needs them runs now or once they are there, in
//! the order in which it came.

use std::sync::Arc;

use tidings_core::hook::{Host, SessionId, is_temporary};
use tidings_core::record::{KeyRange, Query, Row};

use super::UserSide;
use super::person::{Later, User};
use crate::rows::user_range;

impl UserSide {
    /// The user, who is being read if she was not there.
    pub(super) fn user(&mut self, name: &str, host: &mut dyn Host) -> &mut User {
        if !self.users.contains_key(name) {
            let name: Arc<str> = name.into();
            let pace = self.paces.recall(&name);
            if is_temporary(&name) {
                let user = User { pace, ..User::temporary(Arc::clone(&name)) };
                self.users.insert(Arc::clone(&name), user);
            } else {
                let user = User { pace, ..User::new(Arc::clone(&name)) };
                self.users.insert(Arc::clone(&name), user);
                self.read(Arc::clone(&name), user_range(&name), host);
            }
        }
        self.users.entry_ref(name).or_insert_with(|| User::new(name.into()))
    }

    /// Does something now, or as soon as the user's rows are read.
    pub(super) fn later(&mut self, name: &str, later: Later, host: &mut dyn Host) {
        let user = self.user(name, host);
        let name = Arc::clone(&user.name);
        if user.loaded {
            self.now(&name, later, host);
            self.unload(&name);
        } else {
            user.waiting.push(later);
        }
    }

    fn now(&mut self, name: &Arc<str>, later: Later, host: &mut dyn Host) {
        match later {
            Later::Begin { place, by, since } => self.begin(name, place, by, since, host),
            Later::Knows { place } => self.has_written(name, &place, host),
            Later::Setting { setting, ask } => self.setting(name, setting, *ask, host),
            Later::Keys { by, ask } => self.keys(name, &by, ask, host),
            Later::Pushes { reply } => self.pushes(name, reply),
            Later::Sync { ask, page } => self.sync(name, *ask, page, host),
            Later::Forget { place } => self.forget_group(&place, name, host),
            Later::Left { place } => self.left_group(name, &place, host),
            Later::Ended { client_id, session } => {
                self.forget_state(name, &client_id, host);
                self.end_device(name, &client_id, session, host);
                self.logged_out(session, host);
            }
            Later::Watch { by } => self.watch(name, *by, host),
            Later::Look { session, at } => self.look(name, session, &at, true, host),
            Later::Ahead { device, tags } => self.ahead(&device, &tags, host),
            Later::Send { place, post } => self.send_now(name, &place, post, host),
        }
    }

    /// Rows have come. Ignores those asked for by the other side.
    pub(crate) fn rows(&mut self, token: u64, rows: &[Row], more: bool, host: &mut dyn Host) {
        let Some(name) = self.reads.remove(&token) else { return };
        let Some(user) = self.users.get_mut(&name) else { return };
        for row in rows {
            // A row that cannot be read is passed over: nobody else depends on it.
            let _ = user.take(row);
        }
        if let Some(last) = rows.last().filter(|_| more) {
            let range = user_range(&name).after(&last.key);
            return self.read(name, range, host);
        }
        user.loaded = true;
        let leaving = user.devices.iter().filter(|(_, row)| row.leaving);
        let mut waiting: Vec<Later> = leaving
            .map(|(client_id, row)| Later::Ended {
                client_id: Arc::clone(client_id),
                session: SessionId(row.session),
            })
            .collect();
        waiting.append(&mut user.waiting);
        self.presence_loaded(&name, host);
        for later in waiting {
            self.now(&name, later, host);
        }
        let sessions = self.users.get(&name).map(|user| user.sessions.clone());
        for id in sessions.unwrap_or_default() {
            self.refresh(id, host);
        }
        self.unload(&name);
    }

    fn read(&mut self, name: Arc<str>, range: KeyRange, host: &mut dyn Host) {
        let token = self.next_read;
        self.next_read += READ_STEP;
        self.reads.insert(token, name);
        let (rows_max, bytes_max) = (READ_ROWS_MAX, READ_BYTES_MAX);
        host.read(token, Query { range, rows_max, bytes_max, backwards: false });
    }

    /// Drops a user from memory whom nothing needs there.
    pub(super) fn unload(&mut self, name: &str) {
        let idle = self.users.get(name).is_some_and(|user| {
            user.loaded
                && user.sessions.is_empty()
                && user.watchers.is_empty()
                && user.waiting.is_empty()
                && user.gone.is_none()
        });
        if idle && let Some(user) = self.users.remove(name) {
            self.leave_audiences(name, user.chats.keys().copied());
            self.paces.remember(&user.name, user.pace);
        }
    }
}

/// Read tokens of this side are odd.
const READ_STEP: u64 = 2;

/// How many rows of a user one read takes.
const READ_ROWS_MAX: usize = 1_024;

/// After how many bytes it ends.
const READ_BYTES_MAX: usize = 256 * 1024;

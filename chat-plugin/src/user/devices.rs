//! `me/devices`: which devices a user has, and the end of one of them.
//!
//! A device is known while it is connected, and for as long as it hears messages with a session that
//! is kept. Who logs one out ends its session: the broker closes its connection, what waited for it
//! goes, and its cursors with it. What let it log in is not ours to take back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use tidings_core::codec::Publish;
use tidings_core::hook::{Host, SessionId};
use tidings_core::record::{Op, Record};

use super::UserSide;
use super::ask::{ask, question};
use super::outgoing::put;
use super::ties::Setting;
use crate::code::Code;
use crate::json::Request;
use crate::peer::{Origin, Question, Refusal};
use crate::rows::{RowValue, seen_key};
use crate::ties::SeenRow;
use crate::view;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DevicesOf {
    logout: Option<String>,
    request: Option<Request>,
}

impl UserSide {
    /// `me/devices`.
    ///
    /// # Errors
    /// It is not understood, or too much waits.
    pub(super) fn ask_devices(
        &mut self,
        name: &str,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"logout":"phone"} or {}"#;
        let DevicesOf { logout, request } = question(publish.payload, example)?;
        let ask = Box::new(ask(publish, origin, request)?);
        self.ask_setting(name, Setting::Devices { logout }, ask, host)
    }

    /// The user's rows are there.
    pub(super) fn devices(
        &mut self,
        name: &Arc<str>,
        logout: Option<String>,
        ask: &Question,
        host: &mut dyn Host,
    ) {
        match logout {
            None => self.list_devices(name, ask, host),
            Some(client_id) => {
                if let Err(refusal) = self.log_out(name, &client_id, ask.origin, host) {
                    self.refuse_setting(&ask.origin, &refusal, host);
                }
            }
        }
    }

    fn list_devices(&mut self, name: &Arc<str>, ask: &Question, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        let mut devices: BTreeMap<&str, view::Device<'_>> = BTreeMap::new();
        for (client_id, row) in user.devices.iter().filter(|(_, row)| !row.leaving) {
            let device = view::Device {
                device: client_id,
                since: Some(row.since),
                seen: user.seen.get(client_id).copied().unwrap_or_default().max(row.since),
                connected: false,
                subscribed: true,
            };
            devices.insert(client_id, device);
        }
        for session in user.sessions.iter().filter_map(|id| self.sessions.get(id)) {
            let since = devices.get(&*session.client_id).and_then(|known| known.since);
            let device = view::Device {
                device: &session.client_id,
                since,
                seen: host.now(),
                connected: true,
                subscribed: session.feed.is_some(),
            };
            devices.insert(&session.client_id, device);
        }
        let devices: Vec<_> = devices.into_values().collect();
        let view = ask.origin.session.map(|id| self.view(id)).unwrap_or_default();
        let request = ask.request.as_ref();
        let body = view.body(&view::Devices { devices: &devices, request });
        self.tell_answer(ask, "me/json/-/devices".into(), body, host);
    }

    fn log_out(
        &mut self,
        name: &Arc<str>,
        client_id: &str,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let none = || Refusal::new(Code::Conflict, "you have no device of this name");
        let user = self.users.get(name).ok_or_else(none)?;
        let of = |id: &&SessionId| {
            self.sessions.get(*id).is_some_and(|session| *session.client_id == *client_id)
        };
        let connected = user.sessions.iter().find(of).copied();
        let row = user.devices.get(client_id).filter(|row| !row.leaving);
        let id = connected.or_else(|| row.map(|row| SessionId(row.session))).ok_or_else(none)?;
        if self.logouts.len() >= LOGOUTS_MAX {
            return Err(Refusal::busy("too many devices are being logged out"));
        }
        self.logouts.push((id, origin));
        if !host.end_session(id) {
            // It was over without our knowing.
            self.end_device(name, &Arc::from(client_id), id, host);
            self.logged_out(id, host);
        }
        Ok(())
    }

    /// A session is over: who asked for that hears so when it is safe.
    pub(super) fn logged_out(&mut self, id: SessionId, host: &mut dyn Host) {
        while let Some(at) = self.logouts.iter().position(|(session, _)| *session == id) {
            let (_, origin) = self.logouts.swap_remove(at);
            // Behind all that its end has brought about.
            let position = host.store(Record { ops: Vec::new(), urgent: true });
            self.kept.push_back((position, origin));
        }
    }

    /// A device has gone for a while.
    pub(super) fn note_seen(&mut self, name: &str, client_id: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        if user.devices.get(client_id).is_some_and(|row| !row.leaving) {
            let seen = host.now();
            user.seen.insert(Arc::clone(client_id), seen);
            put(seen_key(name, client_id), SeenRow { seen }.to_bytes(), false, host);
        }
    }

    /// What goes with the row of a device.
    pub(super) fn forget_seen(&mut self, name: &str, client_id: &str) -> Option<Op> {
        self.users.get_mut(name)?.seen.remove(client_id)?;
        Some(Op::Delete { key: seen_key(name, client_id) })
    }
}

/// How many devices are being logged out at once, of all users of a shard.
const LOGOUTS_MAX: usize = 1_024;

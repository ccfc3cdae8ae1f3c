//! What a device leaves with the server: where it is woken (`me/push`), and its public keys
//! (`me/keys`).
//!
//! Texts that mean nothing here. Where a device is woken is for the program around the broker, its
//! keys are for everybody who could write to its user: a directory, for clients that encrypt from
//! end to end. Both are kept with the device's session, and go with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use tidings_core::codec::Publish;
use tidings_core::hook::{Host, is_temporary};
use tidings_core::record::{Op, Record};

use super::UserSide;
use super::ask::{ask, question_of};
use super::outgoing::{put, to_user};
use super::person::User;
use super::ties::Setting;
use crate::call::{PushTarget, Reply};
use crate::code::Code;
use crate::json::Request;
use crate::peer::{Origin, Question, Refusal, ToUser};
use crate::rows::{NoteKind, NoteRow, RowValue, note_key};
use crate::topics::is_name;
use crate::view;

/// The notes of a user's devices.
pub(super) type Notes = BTreeMap<(NoteKind, Arc<str>), Arc<str>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushOf {
    set: Option<String>,
    request: Option<Request>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysOf {
    set: Option<String>,
    of: Option<String>,
    request: Option<Request>,
}

impl UserSide {
    /// `me/push`.
    ///
    /// # Errors
    /// It is not understood, or too much waits.
    pub(super) fn ask_push(
        &mut self,
        name: &str,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"set":"…"} or {}"#;
        let PushOf { set, request } = question_of(publish.payload, example, NOTE_BYTES_MAX)?;
        let ask = Box::new(ask(publish, origin, request)?);
        let setting = match set {
            Some(text) => Setting::Note { kind: NoteKind::Push, text },
            None => Setting::Push,
        };
        self.ask_setting(name, setting, ask, host)
    }

    /// `me/keys`.
    ///
    /// # Errors
    /// The same.
    pub(super) fn ask_keys(
        &mut self,
        name: &str,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"set":"…"}, {"of":"bob"} or {}"#;
        let KeysOf { set, of, request } = question_of(publish.payload, example, NOTE_BYTES_MAX)?;
        let ask = Box::new(ask(publish, origin, request)?);
        match (set, of) {
            (Some(_), Some(_)) => {
                Err(Refusal::new(Code::Format, &format!("expected {example}, one at a time")))
            }
            (Some(text), None) => {
                let setting = Setting::Note { kind: NoteKind::Keys, text };
                self.ask_setting(name, setting, ask, host)
            }
            (None, of) => {
                let of: Arc<str> = of.as_deref().unwrap_or(name).into();
                if !is_name(&of) || is_temporary(name) {
                    let text = "expected a user that stays, [A-Za-z0-9._-]{1,64}";
                    return Err(Refusal::new(Code::Format, text));
                }
                let keys = ToUser::Keys { user: Arc::clone(&of), by: name.into(), ask };
                to_user(&of, keys, host);
                Ok(())
            }
        }
    }

    /// The user's rows are there: this device leaves something, or with an empty text takes it back.
    pub(super) fn set_note(
        &mut self,
        name: &Arc<str>,
        kind: NoteKind,
        text: &str,
        ask: &Question,
        host: &mut dyn Host,
    ) {
        let session = ask.origin.session.and_then(|id| self.sessions.get(&id));
        let kept = session.filter(|session| session.persistent);
        let (Some(session), Some(user)) = (kept, self.users.get_mut(name)) else {
            let text = "this is kept with a persistent session: set a Session Expiry Interval, or \
                        with MQTT 3.1.1 Clean Session 0";
            let refusal = Refusal::new(Code::Forbidden, text);
            return self.refuse_setting(&ask.origin, &refusal, host);
        };
        let key = note_key(name, kind, &session.client_id);
        let of = (kind, Arc::clone(&session.client_id));
        let position = if text.is_empty() {
            user.notes.remove(&of);
            host.store(Record { ops: vec![Op::Delete { key }], urgent: true })
        } else {
            user.notes.insert(of, text.into());
            put(key, NoteRow { text: text.into() }.to_bytes(), true, host)
        };
        self.kept.push_back((position, ask.origin));
    }

    /// The same: what this device has said of where it is woken.
    pub(super) fn tell_push(&mut self, name: &str, ask: &Question, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        let session = ask.origin.session.and_then(|id| self.sessions.get(&id));
        let Some(session) = session else { return };
        let push = user.notes.get(&(NoteKind::Push, Arc::clone(&session.client_id)));
        let request = ask.request.as_ref();
        let body = session.view.body(&view::Push { push: push.map(|text| &**text), request });
        self.tell_answer(ask, "me/json/-/push".into(), body, host);
    }

    /// The rows of a user are there whose keys somebody wants. Those she blocks see none.
    pub(super) fn keys(
        &mut self,
        name: &Arc<str>,
        by: &str,
        ask: Box<Question>,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get(name) else { return };
        let devices = if user.blocks(by) { Vec::new() } else { user.notes_of(NoteKind::Keys) };
        let told = ToUser::KeysTold { of: Arc::clone(name), devices, ask };
        to_user(by, told, host);
    }

    /// The keys of somebody's devices, for the session that asked.
    pub(super) fn keys_told(
        &mut self,
        of: &str,
        devices: &[(Arc<str>, Arc<str>)],
        ask: &Question,
        host: &mut dyn Host,
    ) {
        let view = ask.origin.session.map(|id| self.view(id)).unwrap_or_default();
        let of_device = devices.iter().map(|(device, keys)| view::DeviceKeys { device, keys });
        let devices: Vec<_> = of_device.collect();
        let request = ask.request.as_ref();
        let body = view.body(&view::Keys { user: of, devices: &devices, request });
        self.tell_answer(ask, "me/json/-/keys".into(), body, host);
    }

    /// The program wants to know where a user's devices are woken.
    pub(super) fn pushes(&self, name: &str, reply: Reply<Vec<PushTarget>>) {
        let user = self.users.get(name);
        let notes = user.map(|user| user.notes_of(NoteKind::Push)).unwrap_or_default();
        let target = |(device, to)| PushTarget { device, to };
        reply.give(Ok(notes.into_iter().map(target).collect()));
    }

    /// What goes with a device.
    pub(super) fn forget_notes(&mut self, name: &str, client_id: &Arc<str>) -> Vec<Op> {
        let Some(user) = self.users.get_mut(name) else { return Vec::new() };
        let mut ops = Vec::new();
        for kind in [NoteKind::Push, NoteKind::Keys] {
            if user.notes.remove(&(kind, Arc::clone(client_id))).is_some() {
                ops.push(Op::Delete { key: note_key(name, kind, client_id) });
            }
        }
        ops
    }
}

impl User {
    fn notes_of(&self, kind: NoteKind) -> Vec<(Arc<str>, Arc<str>)> {
        let notes = self.notes.iter().filter(|((of, _), _)| *of == kind);
        notes.map(|((_, device), text)| (Arc::clone(device), Arc::clone(text))).collect()
    }
}

/// The longest of these commands, in bytes.
const NOTE_BYTES_MAX: usize = 4 * 1_024;

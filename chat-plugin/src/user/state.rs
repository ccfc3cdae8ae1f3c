//! `me/state`: what a device says of itself, and whom its user accepts.
//!
//! Whether somebody looks at it, and whether it hears `ack` beside PUBACK, hold until it disconnects.
//! Whether it takes several entries in one message is kept with its session, so that the first thing
//! it hears when it comes back comes that way.

use std::sync::Arc;

use serde::Deserialize;
use tidings_core::codec::{PropertiesBuf, Publish};
use tidings_core::hook::Host;
use tidings_core::record::{Op, Record};

use super::UserSide;
use super::ask::question_of;
use super::command::done;
use super::outgoing::put;
use super::ties::NAMES_BYTES_MAX;
use crate::code::Code;
use crate::peer::{Origin, Refusal};
use crate::rows::{RowValue, StateRow, state_key};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    batch: Option<bool>,
    ack: Option<bool>,
    away: Option<bool>,
    #[serde(default)]
    accept: Vec<String>,
}

impl UserSide {
    /// A device says what it takes.
    ///
    /// # Errors
    /// It is not understood.
    pub(super) fn set_state(
        &mut self,
        name: &str,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"batch":true}, {"ack":true}, {"away":true} or {"accept":["bob"]}"#;
        let State { batch, ack, away, accept } =
            question_of(publish.payload, example, NAMES_BYTES_MAX)?;
        let of_device = batch.is_some() || ack.is_some() || away.is_some();
        if of_device != accept.is_empty() {
            return Err(Refusal::new(Code::Format, &format!("expected {example}")));
        }
        if !of_device {
            self.may_ask(name, host)?;
            return self.ask_accept(name, accept, publish, origin, host);
        }
        let session = origin.session.and_then(|id| self.sessions.get_mut(&id));
        if let Some((session, ack)) = session.zip(ack) {
            session.acks = ack;
        }
        if let Some(away) = away {
            self.set_away(away, &origin, host);
        }
        match batch {
            Some(batch) => self.set_batch(batch, origin, host),
            None => done(&origin, PropertiesBuf::new(), host),
        }
        Ok(())
    }

    fn set_away(&mut self, away: bool, origin: &Origin, host: &mut dyn Host) {
        let session = origin.session.and_then(|id| self.sessions.get_mut(&id));
        let Some(session) = session else { return };
        session.away = away;
        let name = Arc::clone(&session.user);
        if self.users.get(&name).is_some_and(|user| user.loaded) {
            self.here(&name, host);
        }
    }

    fn set_batch(&mut self, batch: bool, origin: Origin, host: &mut dyn Host) {
        let session = origin.session.and_then(|id| self.sessions.get_mut(&id));
        let Some(session) = session else { return };
        session.batch = batch;
        let key = state_key(&session.user, &session.client_id);
        let known = self.users.get_mut(&session.user).is_some_and(|user| {
            if batch && session.persistent {
                !user.batching.insert(Arc::clone(&session.client_id))
            } else {
                !user.batching.remove(&session.client_id)
            }
        });
        if !session.persistent || known && batch {
            return done(&origin, PropertiesBuf::new(), host);
        }
        let position = if batch {
            put(key, StateRow { batch }.to_bytes(), true, host)
        } else {
            host.store(Record { ops: vec![Op::Delete { key }], urgent: true })
        };
        self.kept.push_back((position, origin));
    }

    /// A session is over, and what its device said with it.
    pub(super) fn forget_state(&mut self, name: &str, client_id: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        let batching = user.batching.remove(client_id);
        let mut ops: Vec<Op> = self.forget_seen(name, client_id).into_iter().collect();
        ops.extend(self.forget_notes(name, client_id));
        ops.extend(batching.then(|| Op::Delete { key: state_key(name, client_id) }));
        if !ops.is_empty() {
            host.store(Record { ops, urgent: false });
        }
    }
}

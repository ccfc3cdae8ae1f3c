//! `me/state`: what a device says of itself.
//!
//! Whether it takes several entries in one message is kept with its session, so that the first thing
//! it hears when it comes back comes that way.

use std::sync::Arc;

use serde::Deserialize;
use tidings_core::codec::PropertiesBuf;
use tidings_core::hook::Host;
use tidings_core::record::{Op, Record};

use super::UserSide;
use super::ask::question;
use super::command::done;
use super::outgoing::put;
use crate::code::Code;
use crate::peer::{Origin, Refusal};
use crate::rows::{RowValue, StateRow, state_key};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    batch: Option<bool>,
}

impl UserSide {
    /// A device says what it takes.
    ///
    /// # Errors
    /// It is not understood.
    pub(super) fn set_state(
        &mut self,
        payload: &[u8],
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"batch":true}"#;
        let State { batch: Some(batch) } = question(payload, example)? else {
            return Err(Refusal::new(Code::Format, &format!("expected {example}")));
        };
        let session = origin.session.and_then(|id| self.sessions.get_mut(&id));
        let Some(session) = session else { return Ok(()) };
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
            done(&origin, PropertiesBuf::new(), host);
            return Ok(());
        }
        let position = if batch {
            put(key, StateRow { batch }.to_bytes(), true, host)
        } else {
            host.store(Record { ops: vec![Op::Delete { key }], urgent: true })
        };
        self.kept.push_back((position, origin));
        Ok(())
    }

    /// A session is over, and what its device said with it.
    pub(super) fn forget_state(&mut self, name: &str, client_id: &str, host: &mut dyn Host) {
        let user = self.users.get_mut(name);
        if user.is_some_and(|user| user.batching.remove(client_id)) {
            let delete = Op::Delete { key: state_key(name, client_id) };
            host.store(Record { ops: vec![delete], urgent: false });
        }
    }
}

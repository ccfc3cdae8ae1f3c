//! Authentication again while a Client is connected (§4.12.1).
//!
//! The authenticator is the shell's: each step is asked for and answered later, and all other
//! packets go on meanwhile. Until the last step the login from before holds, with its end.

use super::Shard;
use super::input::AuthStep;
use super::timers::Timer;
use crate::codec::{Auth, Packet, PropertiesBuf, Property, ReasonCode};
use crate::hook::SessionId;
use crate::output::{CloseCause, ConnectionId, Outbox, Output};
use crate::protocol_error::ProtocolError;
use crate::session::{Link, Reauthentication};
use crate::time::Time;

impl Shard {
    /// An AUTH from the Client.
    pub(super) fn authenticate(
        &mut self,
        id: SessionId,
        auth: &Auth<'_>,
        out: &mut Outbox,
    ) -> Result<(), ProtocolError> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let link = &mut session.link;
        // [MQTT-4.12.0-7]
        let method = link.authentication_method.as_deref().ok_or(ProtocolError::UnexpectedAuth)?;
        if auth.properties.authentication_method() != Some(method) {
            return Err(ProtocolError::AuthenticationMethodChanged);
        }
        let begins = match (auth.reason, link.reauthentication) {
            (ReasonCode::ReAuthenticate, Reauthentication::Idle) => true,
            // [MQTT-4.12.0-3]
            (ReasonCode::ContinueAuthentication, Reauthentication::Answering) => false,
            (reason, _) => return Err(ProtocolError::AuthOutOfTurn(reason)),
        };
        link.reauthentication = Reauthentication::Asked;
        let data = auth.properties.authentication_data().unwrap_or_default().into();
        out.outputs.push(Output::Authenticate { connection: link.connection, begins, data });
        Ok(())
    }

    /// What the authenticator says to it.
    pub(super) fn authenticated(
        &mut self,
        connection: ConnectionId,
        step: AuthStep<'_>,
        now: Time,
        out: &mut Outbox,
    ) {
        let session = self.connections.get(&connection).and_then(|id| self.sessions.get_mut(id));
        let Some(session) = session else { return };
        let link = &mut session.link;
        match (link.reauthentication, &step) {
            (Reauthentication::Asked, _) => {}
            // The Client has not answered in time.
            (Reauthentication::Answering, AuthStep::Refuse(_)) => {}
            _ => return,
        }
        let refused = match step {
            AuthStep::Continue { data } | AuthStep::Accept { data, .. }
                if auth_len(link, data) > link.packet_bytes_max.min(AUTH_BYTES_MAX) =>
            {
                ReasonCode::PacketTooLarge
            }
            AuthStep::Continue { data } => {
                link.reauthentication = Reauthentication::Answering;
                // [MQTT-4.12.0-2]
                return send_auth(link, ReasonCode::ContinueAuthentication, data, out);
            }
            // Sessions, rights and chats belong to the user: another one has to connect anew.
            AuthStep::Accept { user, .. } if *user != *session.user => ReasonCode::NotAuthorized,
            AuthStep::Accept { expires, .. } if expires <= now => ReasonCode::NotAuthorized,
            AuthStep::Accept { expires, data, .. } => {
                link.reauthentication = Reauthentication::Idle;
                let old = std::mem::replace(&mut link.expires, expires);
                send_auth(link, ReasonCode::Success, data, out);
                self.timers.cancel(old, Timer::Login(connection));
                self.timers.set(expires, Timer::Login(connection));
                return;
            }
            AuthStep::Refuse(reason) => reason,
        };
        // [MQTT-4.12.1-2]
        self.refuse(connection, CloseCause::Refused(refused), now, out);
    }
}

/// AUTH to the Client, with the method that all of them repeat. [MQTT-4.12.0-5]
fn send_auth(link: &Link, reason: ReasonCode, data: &[u8], out: &mut Outbox) {
    let Some(method) = &link.authentication_method else { return };
    let mut properties = PropertiesBuf::new();
    properties.push(Property::AuthenticationMethod(method));
    if !data.is_empty() {
        properties.push(Property::AuthenticationData(data));
    }
    let auth = Auth { reason, properties: properties.as_properties() };
    out.send(link.connection, link.version, &Packet::Auth(auth));
}

/// What an AUTH with this data takes at the most.
fn auth_len(link: &Link, data: &[u8]) -> usize {
    let method = link.authentication_method.as_ref().map_or(0, |method| method.len());
    AUTH_OVERHEAD_BYTES + method + data.len()
}

/// First byte, two lengths, Reason Code, and what stands before method and data.
const AUTH_OVERHEAD_BYTES: usize = 1 + 4 + 4 + 1 + 3 + 3;

/// As much as the broker takes of a Client whom it does not know yet.
const AUTH_BYTES_MAX: usize = 64 * 1024;

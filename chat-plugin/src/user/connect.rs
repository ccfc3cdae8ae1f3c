//! Sessions connect, subscribe, unsubscribe, disconnect and end.
//!
//! Whether a session is a device follows from its subscriptions, so it is looked at again after
//! each change of them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidings_core::codec::QoS;
use tidings_core::hook::{Client, Disconnection, Host, SessionId, Tag, is_temporary};
use tidings_core::topic::TopicFilter;

use super::UserSide;
use super::outgoing::{to_chat, to_user};
use super::person::Later;
use super::session::Session;
use crate::peer::{ChatInput, ToUser};
use crate::topics::View;
use crate::topics::{Listening, hears_messages, is_user};

/// How a session comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    /// Whether it outlives its connection.
    pub(crate) persistent: bool,
    /// Whether it was there before.
    pub(crate) resumed: bool,
    /// Deliveries that it sends again by itself.
    pub(crate) in_flight: &'a [Tag],
    /// Whether it takes several entries in one message.
    pub(crate) batch: bool,
    /// Whether it hears `ack` though a PUBACK says the same.
    pub(crate) acks: bool,
}

impl UserSide {
    /// A session has a connection.
    pub(crate) fn connected(
        &mut self,
        id: SessionId,
        client: &Client<'_>,
        arrival: &Arrival<'_>,
        host: &mut dyn Host,
    ) {
        let Arrival { persistent, resumed, in_flight, batch, acks } = *arrival;
        // The broker keeps no session of such a user either.
        let persistent = persistent && !is_temporary(client.user);
        if !is_user(client.user) {
            return;
        }
        let user = self.user(client.user, host);
        if !user.sessions.contains(&id) {
            user.sessions.push(id);
        }
        let name = Arc::clone(&user.name);
        let client_id = if is_temporary(&name) {
            // Each connection is a device of its own, which hears what the one before has said.
            format!("{}/{}", client.client_id, id.0).into()
        } else {
            client.client_id.into()
        };
        self.sessions.insert(
            id,
            Session {
                user: Arc::clone(&name),
                client_id,
                version: client.version,
                persistent,
                resumed,
                filters: Vec::new(),
                view: View::default(),
                batch,
                acks,
                syncs: Vec::new(),
                kept: false,
                watching: BTreeSet::new(),
                in_flight: in_flight.iter().map(|tag| (*tag, None)).collect(),
                feed: None,
                away: false,
                full: false,
                answers: VecDeque::new(),
            },
        );
        self.arrived(&name, host);
    }

    /// A session has no connection any more.
    pub(crate) fn disconnected(&mut self, id: SessionId, how: Disconnection, host: &mut dyn Host) {
        // Before the session is forgotten: its next connection builds on what the chats know.
        self.tell_progress(host);
        self.tell_ahead(id, host);
        let Some(session) = self.sessions.remove(&id) else { return };
        self.note_seen(&session.user, &session.client_id, host);
        for sync in &session.syncs {
            self.syncs.remove(sync);
        }
        for place in session.feed.iter().flat_map(|feed| feed.places()) {
            let device = session.device(id);
            if !session.persistent {
                to_chat(place, ChatInput::Detach { device }, host);
            } else if place.is_channel() {
                to_chat(place, ChatInput::Rest { device }, host);
            }
        }
        for watched in &session.watching {
            let (shard, user) = (host.shard(), Arc::clone(watched));
            to_user(watched, ToUser::Unwatch { user, shard, session: id }, host);
        }
        if let Some(user) = self.users.get_mut(&session.user) {
            user.sessions.retain(|connected| *connected != id);
        }
        self.leave_pool(&session.user, host);
        self.left(&session.user, how, host);
    }

    /// A session is over.
    pub(crate) fn session_ended(
        &mut self,
        id: SessionId,
        client: &Client<'_>,
        host: &mut dyn Host,
    ) {
        if !is_user(client.user) {
            return;
        }
        if self.sessions.contains_key(&id) {
            self.disconnected(id, Disconnection::Abrupt, host);
        }
        let ended = Later::Ended { client_id: client.client_id.into(), session: id };
        self.later(client.user, ended, host);
    }

    /// A session hears something from now on.
    pub(crate) fn subscribed(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        qos: QoS,
        new: bool,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match Listening::parse(filter) {
            Ok(Listening::Presence(user)) => {
                let at: Arc<str> = user.into();
                session.watching.insert(Arc::clone(&at));
                let name = Arc::clone(&session.user);
                self.later(&name, Later::Look { session: id, at }, host);
            }
            Ok(Listening::Own) => {
                session.filters.retain(|(known, _)| known != filter);
                session.filters.push((filter.clone(), qos));
                session.refresh_view();
                session.kept |= !new && session.resumed && hears_messages(filter);
                self.refresh(id, host);
            }
            Err(_) => {}
        }
    }

    /// A session does not hear something any more.
    pub(crate) fn unsubscribed(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match Listening::parse(filter) {
            Ok(Listening::Presence(user)) => {
                if let Some(user) = session.watching.take(user) {
                    let (shard, to) = (host.shard(), Arc::clone(&user));
                    to_user(&to, ToUser::Unwatch { user, shard, session: id }, host);
                }
            }
            Ok(Listening::Own) => {
                session.filters.retain(|(known, _)| known != filter);
                session.refresh_view();
                self.refresh(id, host);
            }
            Err(_) => {}
        }
    }
}

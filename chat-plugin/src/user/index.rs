//! Chats begin: each goes into the index of its members before anything is in its log.
//!
//! The index row is stored before the chat hears of it. A crash in between leaves an index row for
//! a chat without entries, and never entries that no index knows of.

use std::sync::Arc;

use tidings_core::codec::PropertiesBuf;
use tidings_core::hook::{Host, SessionId, is_temporary};
use tidings_core::metric::Metric;
use tidings_core::record::Position;
use tidings_core::time::Time;

use super::UserSide;
use super::command::done;
use super::outgoing::{put, to_chat};
use super::person::User;
use crate::options::ChatOptions;
use crate::peer::{ChatInput, DeviceOf};
use crate::rows::{RowValue, UserChatRow, UserContactRow, UserGroupRow, user_chat_key};
use crate::ties::{Reach, Taken};
use crate::topics::Place;

impl UserSide {
    /// Puts a chat into a user's index.
    pub(super) fn begin(
        &mut self,
        name: &Arc<str>,
        place: Arc<Place>,
        by: Option<Arc<str>>,
        since: Time,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get_mut(name) else { return };
        let taken = user.takes(&place, by.as_deref(), &self.options);
        let stance = user.stance(&place);
        if taken != Taken::Yes {
            if taken == Taken::Requests {
                host.count(Metric::LimitChatRequestsHeld);
            }
            let devices = Vec::new();
            let refused = ChatInput::Begun { user: Arc::clone(name), taken, stance, devices };
            return to_chat(&place, refused, host);
        }
        let joins = place.is_group() && !user.is_in(place.id);
        user.chats.insert(place.id, Arc::clone(&place));
        user.left.remove(&place.id);
        let peer = place.peer(name);
        if !place.is_group() && by.as_ref().is_some_and(|by| by == name) {
            user.contacts.insert(Arc::clone(peer));
        }
        let row = match place.group_name() {
            Some(group) => UserGroupRow { name: group.to_string(), since }.to_bytes(),
            None if user.contacts.contains(peer) => {
                UserContactRow { peer: peer.to_string(), since }.to_bytes()
            }
            None => UserChatRow { peer: peer.to_string(), since }.to_bytes(),
        };
        let position = put(user_chat_key(name, place.id), row, true, host);
        let everywhere = user.devices.iter().filter(|(_, row)| row.everything && !row.leaving);
        let devices = everywhere.map(|(client_id, row)| DeviceOf {
            user: Arc::clone(name),
            client_id: Arc::clone(client_id),
            session: SessionId(row.session),
            persistent: true,
        });
        let (of, devices) = (Arc::clone(name), devices.collect());
        let begun = ChatInput::Begun { user: of, taken, stance, devices };
        self.begins.push_back((position, place, begun));
        for id in user.sessions.clone() {
            self.attach_more(id, host);
        }
        if joins {
            self.presence_in_group(name, host);
        }
    }

    /// Records up to `position` are safe.
    pub(crate) fn stored(&mut self, position: Position, host: &mut dyn Host) {
        while self.begins.front().is_some_and(|(at, ..)| *at <= position) {
            let Some((_, place, begun)) = self.begins.pop_front() else { break };
            to_chat(&place, begun, host);
        }
        while self.kept.front().is_some_and(|(at, _)| *at <= position) {
            let Some((_, origin)) = self.kept.pop_front() else { return };
            done(&origin, PropertiesBuf::new(), host);
        }
        while self.settings_kept.front().is_some_and(|(at, _)| *at <= position) {
            let Some((_, telling)) = self.settings_kept.pop_front() else { return };
            self.told(telling, true, host);
        }
    }
}

impl User {
    /// Whether she takes a chat into her index that `by` begins with her, or adds her to.
    fn takes(&self, place: &Place, by: Option<&str>, options: &ChatOptions) -> Taken {
        if is_temporary(&self.name) {
            // Nothing but rooms is for her.
            return Taken::Full;
        }
        let by = by.filter(|by| **by != *self.name);
        let unwanted = |by: &str| {
            let reach = if place.is_group() { self.privacy.groups } else { Reach::All };
            self.blocks(by) || !self.is_for(reach, by)
        };
        let blocks = !place.is_group() && self.blocks(place.peer(&self.name));
        if blocks || by.is_some_and(unwanted) {
            return Taken::Unwanted;
        }
        if self.chats.contains_key(&place.id) {
            return Taken::Yes;
        }
        if self.chats.len() >= options.user_chats_max {
            return Taken::Full;
        }
        let stranger = by.is_some_and(|by| !place.is_group() && !self.knows(by));
        if options.requests && stranger && self.requests() >= options.requests_max {
            return Taken::Requests;
        }
        Taken::Yes
    }
}

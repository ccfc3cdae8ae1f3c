//! Chats begin: each goes into the index of its members before anything is in its log.
//!
//! The index row is stored before the chat hears of it. A crash in between leaves an index row for
//! a chat without entries, and never entries that no index knows of.

use std::sync::Arc;

use tidings_core::codec::PropertiesBuf;
use tidings_core::hook::{Host, SessionId, is_temporary};
use tidings_core::record::Position;
use tidings_core::time::Time;

use super::UserSide;
use super::command::done;
use super::outgoing::{put, to_chat};
use crate::peer::{ChatInput, DeviceOf};
use crate::rows::{RowValue, UserChatRow, UserGroupRow, user_chat_key};
use crate::topics::Place;

impl UserSide {
    /// Puts a chat into a user's index.
    pub(super) fn begin(
        &mut self,
        name: &Arc<str>,
        place: Arc<Place>,
        since: Time,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get_mut(name) else { return };
        if is_temporary(name) {
            // Nothing but rooms is for her.
            let refused =
                ChatInput::Begun { user: Arc::clone(name), taken: false, devices: Vec::new() };
            return to_chat(&place, refused, host);
        }
        let known = user.chats.contains_key(&place.id);
        if !known && user.chats.len() >= self.options.user_chats_max {
            let refused =
                ChatInput::Begun { user: Arc::clone(name), taken: false, devices: Vec::new() };
            return to_chat(&place, refused, host);
        }
        user.chats.insert(place.id, Arc::clone(&place));
        let row = match place.group_name() {
            Some(group) => UserGroupRow { name: group.to_string(), since }.to_bytes(),
            None => UserChatRow { peer: place.peer(name).to_string(), since }.to_bytes(),
        };
        let position = put(user_chat_key(name, place.id), row, true, host);
        let everywhere = user.devices.iter().filter(|(_, row)| row.everything && !row.leaving);
        let devices = everywhere.map(|(client_id, row)| DeviceOf {
            user: Arc::clone(name),
            client_id: Arc::clone(client_id),
            session: SessionId(row.session),
            persistent: true,
        });
        let begun =
            ChatInput::Begun { user: Arc::clone(name), taken: true, devices: devices.collect() };
        self.begins.push_back((position, place, begun));
        for id in user.sessions.clone() {
            self.attach_more(id, host);
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
    }
}

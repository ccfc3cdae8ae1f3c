//! What devices acknowledge, on its way to the chats: cursors, gathered for a while.
//!
//! A cursor that a chat has not heard of yet is lost with the connection, and what lies behind it
//! is sent again: so it is told at the latest when the session disconnects.

use std::sync::Arc;

use tidings_core::codec::ReasonCode;
use tidings_core::hook::{Host, SessionId, Tag};

use super::lane::places_of;
use super::outgoing::to_chat;
use super::{Timer, UserSide};
use crate::peer::ChatInput;
use crate::topics::ChatId;

impl UserSide {
    /// A delivery was acknowledged.
    pub(crate) fn acknowledged(
        &mut self,
        id: SessionId,
        tag: Tag,
        reason: ReasonCode,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let chat = ChatId::from_key(tag.key);
        let lane = session.feed.as_mut().and_then(|feed| feed.lanes.get_mut(&chat));
        let Some(lane) = lane else {
            if let Some(answered) = session.in_flight.get_mut(&tag) {
                *answered = Some(reason);
            }
            return;
        };
        let mut waited_for = false;
        for seq in places_of(tag) {
            if lane.acknowledge(seq) {
                waited_for = true;
                if reason.is_error() {
                    let failed = ChatInput::Failed { user: Arc::clone(&session.user), seq };
                    to_chat(&lane.place, failed, host);
                }
            }
        }
        if !waited_for {
            return;
        }
        if lane.cursor() > lane.told {
            self.progressed(id, chat, host);
        }
    }

    /// Notes that a chat is to hear of a cursor before long.
    pub(super) fn progressed(&mut self, id: SessionId, chat: ChatId, host: &mut dyn Host) {
        let Some(feed) = self.sessions.get_mut(&id).and_then(|session| session.feed.as_mut())
        else {
            return;
        };
        let Some(lane) = feed.lanes.get_mut(&chat) else { return };
        if !std::mem::replace(&mut lane.dirty, true) {
            if self.dirty.is_empty() {
                self.timers.set(host.now() + self.options.progress_delay, Timer::Progress);
            }
            self.dirty.push((id, chat));
        }
    }

    /// Tells the chats how far devices are.
    pub(super) fn tell_progress(&mut self, host: &mut dyn Host) {
        for (id, chat) in std::mem::take(&mut self.dirty) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let device = session.device(id);
            let Some(feed) = &mut session.feed else { continue };
            let Some(lane) = feed.lanes.get_mut(&chat) else { continue };
            lane.dirty = false;
            let cursor = lane.cursor();
            if cursor > lane.told {
                lane.told = cursor;
                to_chat(&lane.place, ChatInput::Progress { device, cursor }, host);
            }
        }
    }
}

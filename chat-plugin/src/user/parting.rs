//! What a device acknowledged just before it went, told to the chats that have not answered it.
//!
//! A lane whose chat has not said yet where the cursor is cannot say how far the device came. But
//! what it acknowledged is out of its window, so that nobody else remembers: without this, a Client
//! that comes and goes quickly would get the same entries again as new ones.

use std::sync::Arc;

use tidings_core::hook::{Host, SessionId, Tag};

use super::UserSide;
use super::lane::places_of;
use super::outgoing::to_chat;
use super::person::Later;
use crate::peer::{ChatInput, DeviceOf};
use crate::topics::ChatId;

impl UserSide {
    /// Tells the chats, each of which counts on from the cursor that it has.
    pub(super) fn tell_ahead(&mut self, id: SessionId, host: &mut dyn Host) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.persistent) else {
            return;
        };
        let device = session.device(id);
        for lane in session.feed.iter().flat_map(|feed| feed.unanswered()) {
            let seqs: Vec<u64> = lane.ahead().collect();
            if !seqs.is_empty() {
                to_chat(&lane.place, ChatInput::Ahead { device: device.clone(), seqs }, host);
            }
        }
        // Chats that were not even asked, perhaps because the user's rows are still being read.
        let asked = |tag: &Tag| {
            session.feed.as_ref().is_some_and(|feed| feed.knows(ChatId::from_key(tag.key)))
        };
        let answered = session.in_flight.iter().filter(|(_, reason)| reason.is_some());
        let tags: Vec<Tag> = answered.map(|(tag, _)| *tag).filter(|tag| !asked(tag)).collect();
        if !tags.is_empty() {
            let name = Arc::clone(&session.user);
            self.later(&name, Later::Ahead { device, tags }, host);
        }
    }

    /// The user's rows are there: her chats can be told. `tags` ascend.
    pub(super) fn ahead(&self, device: &DeviceOf, tags: &[Tag], host: &mut dyn Host) {
        let Some(user) = self.users.get(&device.user) else { return };
        for of_one in tags.chunk_by(|one, next| one.key == next.key) {
            let chat = of_one.first().map(|tag| ChatId::from_key(tag.key));
            let Some(place) = chat.and_then(|chat| user.chats.get(&chat)) else { continue };
            let mut seqs: Vec<u64> = of_one.iter().flat_map(|tag| places_of(*tag)).collect();
            seqs.sort_unstable();
            to_chat(place, ChatInput::Ahead { device: device.clone(), seqs }, host);
        }
    }
}

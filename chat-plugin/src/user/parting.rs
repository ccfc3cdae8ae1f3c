//! What a device acknowledged just before it went, told to the chats that have not answered it.
//!
//! A lane whose chat has not said yet where the cursor is cannot say how far the device came. But
//! what it acknowledged is out of its window, so that nobody else remembers: without this, a Client
//! that comes and goes quickly would get the same entries again as new ones.

use tidings_core::hook::{Host, SessionId, Tag};

use super::UserSide;
use super::outgoing::to_chat;
use crate::peer::ChatInput;
use crate::topics::ChatId;

impl UserSide {
    /// Tells the chats, each of which counts on from the cursor that it has.
    pub(super) fn tell_ahead(&self, id: SessionId, host: &mut dyn Host) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.persistent) else {
            return;
        };
        let Some(user) = self.users.get(&session.user) else { return };
        let mut rest = &session.in_flight;
        let kept;
        if let Some(feed) = &session.feed {
            for lane in feed.unanswered() {
                let seqs: Vec<u64> = lane.ahead().collect();
                if !seqs.is_empty() {
                    let ahead = ChatInput::Ahead { device: session.device(id), seqs };
                    to_chat(&lane.place, ahead, host);
                }
            }
            kept = rest
                .iter()
                .filter(|(tag, _)| !feed.knows(ChatId::from_key(tag.key)))
                .map(|(tag, reason)| (*tag, *reason))
                .collect();
            rest = &kept;
        }
        let answered = |(tag, reason): (&Tag, &Option<_>)| reason.is_some().then_some(*tag);
        let mut tags = rest.iter().filter_map(answered).peekable();
        while let Some(first) = tags.next() {
            let mut seqs = vec![first.seq];
            while let Some(next) = tags.next_if(|next| next.key == first.key) {
                seqs.push(next.seq);
            }
            if let Some(place) = user.chats.get(&ChatId::from_key(first.key)) {
                to_chat(place, ChatInput::Ahead { device: session.device(id), seqs }, host);
            }
        }
    }
}

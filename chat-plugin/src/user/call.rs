//! Calls of the program around the broker, and what it hears of users.
//!
//! A call goes the way of any send, and so finds its place among them; but it is the server's own:
//! no rate and no right holds it back. Its answer comes back here by its number.

use std::sync::Arc;

use serde::Deserialize;
use tidings_core::hook::Host;

use super::UserSide;
use super::outgoing::to_chat;
use crate::call::{CallError, Sent};
use crate::event::{ChatEvent, ChatRef, Listener};
use crate::peer::{Asked, Call, ChatInput, Origin, Outcome, Refusal};
use crate::topics::Place;

/// What a group answers to `invite`.
#[derive(Deserialize)]
struct Link {
    token: String,
}

impl UserSide {
    /// The program sends something, or changes a group.
    pub(super) fn call(&mut self, call: Call, host: &mut dyn Host) {
        let Call { place, mut post, asked } = call;
        if host.disk_low() && !place.is_room() {
            return refuse(asked, Refusal::disk_full().into());
        }
        let serial = self.next_call;
        self.next_call += 1;
        self.calls.insert(serial, asked);
        post.origin = Origin::of_call(host.shard(), serial);
        to_chat(&place, ChatInput::Send(post), host);
    }

    /// A call has ended.
    pub(super) fn call_answered(&mut self, serial: u64, outcome: Outcome) {
        let Some(asked) = self.calls.remove(&serial) else { return };
        match (asked, outcome) {
            (asked, Outcome::Refused(refusal)) => refuse(asked, refusal.into()),
            (Asked::Sent(reply), Outcome::Sent { seq, time }) => {
                reply.give(Ok(Some(Sent { seq, time })));
            }
            (Asked::Sent(reply), Outcome::Done) => reply.give(Ok(None)),
            // The link is still to come.
            (asked @ Asked::Invite(_), _) => {
                self.calls.insert(serial, asked);
            }
        }
    }

    /// What a call has brought besides.
    pub(super) fn call_told(&mut self, serial: u64, body: &[u8]) {
        if let Some(Asked::Invite(reply)) = self.calls.remove(&serial) {
            let link = serde_json::from_slice(body).map(|Link { token }| token);
            reply.give(link.map_err(|_| CallError::Stopped));
        }
    }

    /// The program wants to hear what happens.
    pub(crate) fn listen_to_all(&mut self, listener: Listener) {
        self.listeners.add(listener);
    }

    /// A message was stored for these users: who has no device there?
    pub(super) fn are_there(
        &mut self,
        place: &Place,
        seq: u64,
        users: Vec<(Arc<str>, u64)>,
        host: &mut dyn Host,
    ) {
        for (user, depth) in users {
            if self.users.get(&user).is_none_or(|user| user.sessions.is_empty()) {
                let event = ChatEvent::Offline { chat: ChatRef::of(place), user, seq, depth };
                self.listeners.tell(&event, host);
            }
        }
    }
}

fn refuse(asked: Asked, error: CallError) {
    match asked {
        Asked::Sent(reply) => reply.give(Err(error)),
        Asked::Invite(reply) => reply.give(Err(error)),
    }
}

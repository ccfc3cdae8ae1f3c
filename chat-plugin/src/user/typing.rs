//! Who types: passed on at once, never stored, never queued.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::codec::QoS;
use tidings_core::hook::{Host, SessionId};

use super::UserSide;
use super::outgoing::{PerView, message, to_chat, to_user};
use super::person::User;
use crate::peer::{ChatInput, ToUser};
use crate::topics::{Place, View, in_view};
use crate::view;

impl UserSide {
    /// Passes on that a user types: at most one in a while for each chat, and never a chat that
    /// has not begun.
    pub(super) fn typing(
        &mut self,
        name: &str,
        chat: &str,
        state: &'static str,
        host: &mut dyn Host,
    ) {
        let now = host.now();
        let Some(user) = self.users.get_mut(name) else { return };
        let place = user.place(chat);
        if !user.chats.contains_key(&place.id) || place.members().len() == 1 {
            return;
        }
        let requests = self.options.requests && !place.is_room();
        if !place.is_group() && !user.is_heard_typing(place.peer(name), requests) {
            return;
        }
        let last = user.typing.get(&place.id).copied();
        match (state, last) {
            ("stopped", None) => return,
            ("stopped", Some(_)) => {
                user.typing.remove(&place.id);
            }
            (_, Some(last)) if now < last + TYPING_EVERY => return,
            _ => {
                if user.typing.len() >= TYPING_CHATS_MAX {
                    user.typing.clear();
                }
                user.typing.insert(place.id, now);
            }
        }
        let from = Arc::clone(&user.name);
        if place.is_group() {
            return to_chat(&place, ChatInput::Typing { user: from, state }, host);
        }
        let to = Arc::clone(place.peer(name));
        to_user(&Arc::clone(&to), ToUser::Typing { place, to, from, state }, host);
    }

    /// A member of a group types: all others hear it.
    pub(super) fn typing_all(
        &self,
        place: &Place,
        from: &str,
        state: &'static str,
        host: &mut dyn Host,
    ) {
        let Some(audience) = self.audiences.get(&place.id) else { return };
        let mut messages = PerView::default();
        for name in audience.iter().filter(|name| ***name != *from) {
            let user = self.users.get(name).filter(|user| !user.blocks(from));
            for id in user.iter().flat_map(|user| &user.sessions) {
                let Some(view) = self.view_with_room(*id) else { continue };
                let message = messages.in_view(view, || {
                    let body = view.body(&view::Typing { user: from, state });
                    message(in_view(place.heard("", "typing"), view), body, QoS::AtMostOnce, host)
                });
                let _ = host.deliver(*id, &message, None);
            }
        }
    }

    pub(super) fn typing_heard(
        &mut self,
        place: &Place,
        to: &str,
        from: &str,
        state: &'static str,
        host: &mut dyn Host,
    ) {
        let requests = self.options.requests && !place.is_room();
        let user = self.users.get(to).filter(|user| user.is_heard_typing(from, requests));
        let Some(user) = user else { return };
        let mut messages = PerView::default();
        for id in &user.sessions {
            let Some(view) = self.view_with_room(*id) else { continue };
            let message = messages.in_view(view, || {
                let body = view.body(&view::Typing { user: from, state });
                message(in_view(place.heard(to, "typing"), view), body, QoS::AtMostOnce, host)
            });
            let _ = host.deliver(*id, &message, None);
        }
    }
}

impl UserSide {
    /// In which view a session hears, if it is not full: typing is the first thing to be dropped.
    fn view_with_room(&self, id: SessionId) -> Option<View> {
        self.sessions.get(&id).filter(|session| !session.full).map(|session| session.view)
    }
}

impl User {
    /// Whether she and another hear each other typing: only who knows each other does.
    fn is_heard_typing(&self, peer: &str, requests: bool) -> bool {
        !self.blocks(peer) && (!requests || self.knows(peer))
    }
}

/// How often a user is heard typing in one chat.
const TYPING_EVERY: Duration = Duration::from_secs(2);

/// In how many chats a user types at once; beyond it, all are forgotten, and told again.
const TYPING_CHATS_MAX: usize = 64;

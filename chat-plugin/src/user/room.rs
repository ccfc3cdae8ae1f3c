//! Rooms as the two in them see them, and who may be where.
//!
//! A temporary user has nothing but her room: no other chat, no rows, no session that outlives its
//! connection. Nobody but the two is in a room, whatever the topic says.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::codec::QoS;
use tidings_core::hook::{Host, SessionId, is_temporary};
use tidings_core::metric::Metric;
use tidings_core::rate::Rate;

use super::UserSide;
use super::outgoing::{PerView, message, to_chat, to_user};
use crate::call::Why;
use crate::code::Code;
use crate::peer::{ChatInput, Origin, Outcome, Peer, Refusal, RoomTold, ToRoom, ToUser};
use crate::topics::{Command, Place, View, in_view};
use crate::view;

impl UserSide {
    /// Whether a command is for who gives it.
    ///
    /// # Errors
    /// It is about a room of others, or for users who stay.
    pub(super) fn may_be_there(&self, name: &str, command: &Command<'_>) -> Result<(), Refusal> {
        let forbidden = |text| Err(Refusal::new(Code::Forbidden, text));
        match command.chat() {
            Some(chat) if chat.starts_with('~') => {
                match self.users.get(name).and_then(|user| user.room(chat)) {
                    Some(_) => Ok(()),
                    None => forbidden("you are in no such room, or it is over"),
                }
            }
            Some(_) if is_temporary(name) => forbidden("you are here for one room only"),
            None if is_temporary(name) => match command {
                Command::Sync | Command::State | Command::Will | Command::Pair { .. } => Ok(()),
                _ => forbidden("this is for users who stay"),
            },
            _ => Ok(()),
        }
    }

    /// Whether a user may watch another's presence, as far as rooms go.
    pub(crate) fn may_watch(&self, name: &str, watched: &str) -> bool {
        if !is_temporary(name) && !is_temporary(watched) {
            return true;
        }
        let rooms = self.users.get(name).map(|user| user.chats.values());
        let mut members = rooms.into_iter().flatten().flat_map(|place| place.members());
        members.any(|member| **member == *watched)
    }

    /// A member ends a room.
    pub(super) fn ask_end(&self, name: &str, chat: &str, origin: Origin, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        let Some(place) = user.room(chat) else { return };
        let user = Some(Arc::clone(&user.name));
        let end = ToRoom::End { user, why: Why::End, origin: Some(origin), reply: None };
        to_chat(place, ChatInput::Room(Box::new(end)), host);
    }

    /// A member says something to the other's devices that is not kept.
    ///
    /// # Errors
    /// It is too large, or comes too fast.
    pub(super) fn signal(
        &mut self,
        name: &str,
        chat: &str,
        payload: &[u8],
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let max = self.options.signal_bytes_max;
        if payload.len() > max {
            let text = format!("the signal has {} bytes, at most {max} are taken", payload.len());
            return Err(Refusal::new(Code::Size, &text));
        }
        let Some(user) = self.users.get_mut(name) else { return Ok(()) };
        let rate = Rate::per_second(self.options.signal_rate, self.options.signal_burst);
        // They are passed on at once, so that this bounds what waits for the other: always.
        if let Some(rate) = rate
            && !user.signals.try_take(rate, host.now())
        {
            host.count(Metric::LimitSignals);
            let wait = user.signals.ready_at(1, rate).since(host.now());
            let retry_after = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            return Err(Refusal {
                retry_after,
                ..Refusal::new(Code::Limit, "you send signals too fast")
            });
        }
        let Some(place) = user.room(chat) else { return Ok(()) };
        let (user, payload) = (Arc::clone(&user.name), Bytes::copy_from_slice(payload));
        let signal = ToRoom::Signal { user, payload, origin };
        to_chat(place, ChatInput::Room(Box::new(signal)), host);
        Ok(())
    }

    /// A room, or a pool, has said something.
    pub(super) fn room_told(&mut self, told: RoomTold, host: &mut dyn Host) {
        match told {
            RoomTold::Paired { place, user, paired } => self.paired(&place, &user, &paired, host),
            RoomTold::Unpaired { user, pool } => self.unpaired(&user, &pool, host),
            RoomTold::Ending { place, user, at, why } => {
                let body = |view: View| view.body(&view::Ending { at, why });
                self.tell_all(&place, &user, "ending", body, host);
            }
            RoomTold::Ended { place, user, seq, why } => {
                self.room_ended(&place, &user, seq, why, host);
            }
            RoomTold::Signal { place, to, from, payload, origin } => {
                self.signalled(place, &to, &from, &payload, origin, host);
            }
        }
    }

    /// A room is over for a user.
    fn room_ended(
        &mut self,
        place: &Arc<Place>,
        name: &Arc<str>,
        seq: u64,
        why: Why,
        host: &mut dyn Host,
    ) {
        let body = |view: View| view.body(&view::Ended { seq, why: Some(why) });
        self.tell_all(place, name, "ended", body, host);
        self.forget_room(place, name, host);
    }

    /// A user is in a room no more.
    pub(super) fn forget_room(&mut self, place: &Arc<Place>, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.chats.remove(&place.id);
        let mut attaching = Vec::new();
        for id in &user.sessions {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            for other in place.members().iter().filter(|other| *other != name) {
                if let Some(watched) = session.watching.take(other) {
                    let shard = host.shard();
                    let unwatch = ToUser::Unwatch { user: watched, shard, session: *id };
                    to_user(other, unwatch, host);
                }
            }
            let Some(feed) = &mut session.feed else { continue };
            if feed.fetching.is_some_and(|asked| asked.chat == place.id) {
                feed.fetching = None;
            }
            if let Some(lane) = feed.lanes.remove(&place.id)
                && !lane.attached
            {
                feed.attaching = feed.attaching.saturating_sub(1);
                attaching.push(*id);
            }
        }
        for id in attaching {
            self.attach_more(id, host);
        }
    }

    fn signalled(
        &mut self,
        place: Arc<Place>,
        to: &str,
        from: &str,
        payload: &[u8],
        origin: Origin,
        host: &mut dyn Host,
    ) {
        let sessions = self.sessions_of(to);
        let mut messages = PerView::default();
        let mut taken = false;
        for id in sessions {
            let view = self.view(id);
            let message = messages.in_view(view, || {
                let body = view.signal(from, payload);
                message(in_view(place.heard(to, "signal"), view), body, QoS::AtLeastOnce, host)
            });
            taken |= host.deliver(id, &message, None).is_ok();
        }
        let outcome = if taken {
            Outcome::Done
        } else {
            Outcome::Refused(Refusal::new(Code::Late, "nobody is there to hear it"))
        };
        let answered = ToUser::Answered { place, origin, id: None, made: false, outcome };
        host.send(origin.shard, Box::new(Peer::User(answered)));
    }

    /// Tells every session of a user something of a chat.
    pub(super) fn tell_all(
        &mut self,
        place: &Place,
        name: &str,
        kind: &str,
        body: impl Fn(View) -> Bytes,
        host: &mut dyn Host,
    ) {
        let mut messages = PerView::default();
        for id in self.sessions_of(name) {
            let view = self.view(id);
            let message = messages.in_view(view, || {
                let topic = in_view(place.heard(name, kind), view);
                message(topic, body(view), QoS::AtLeastOnce, host)
            });
            self.answer_message(id, message, host);
        }
    }

    fn sessions_of(&self, name: &str) -> Vec<SessionId> {
        self.users.get(name).map(|user| user.sessions.clone()).unwrap_or_default()
    }
}

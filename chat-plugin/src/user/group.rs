//! Groups as their members hear them: who listens here, and what is told to all of them at once.
//!
//! A chat says once for each shard that there is an entry. Who of its members has a session here
//! stands in the audience, and only by the chat's word: what the index says may be older than a
//! removal.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::codec::{Publish, QoS};
use tidings_core::hook::{Client, Host, SessionId};
use tidings_core::record::{Op, Record};

use super::UserSide;
use super::ask::{ask, question};
use super::deliver::Shown;
use super::outgoing::{PerView, message, put, to_chat};
use super::person::Later;
use crate::code::Code;
use crate::entry::{Entry, Kind};
use crate::group::Change;
use crate::peer::{AnswerTo, Ask, ChatInput, Counts, Origin, Post, Question, Refusal};
use crate::rows::{RowValue, UserLeftRow, user_chat_key};
use crate::topics::{ChatId, Place, in_view};
use crate::view;

impl UserSide {
    /// A user asks for a change of a group.
    pub(super) fn ask_change(
        &mut self,
        client: &Client<'_>,
        place: Arc<Place>,
        verb: &str,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let refuse = |text: &str| Refusal::new(Code::Format, text);
        let mut change = Change::parse(verb, publish.payload).map_err(|text| refuse(&text))?;
        let ask = match &mut change {
            Change::Invite { request, .. } => Some(Box::new(ask(publish, origin, request.take())?)),
            _ => None,
        };
        if host.disk_low() {
            return Err(Refusal::disk_full());
        }
        let (sender, device) = self.names(client, origin.session);
        let post = Post {
            sender,
            device,
            id: None,
            content_type: None,
            payload: Bytes::new(),
            kind: Kind::System,
            refers: 0,
            change: Some(Box::new(change)),
            ask,
            origin,
        };
        self.send(client.user, place, Box::new(post), host)
    }

    /// A user asks who is in a chat, or who has an entry.
    pub(super) fn ask_info(
        &self,
        client: &Client<'_>,
        place: &Arc<Place>,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let mut of: Ask = question(publish.payload, r#"{} or {"seq":1842}"#)?;
        let question = Box::new(ask(publish, origin, of.request.take())?);
        let (user, _) = self.names(client, origin.session);
        to_chat(place, ChatInput::Info { user, of: Box::new(of), question }, host);
        Ok(())
    }

    /// A chat has answered.
    pub(super) fn info_told(
        &mut self,
        place: &Place,
        question: &Question,
        body: Bytes,
        host: &mut dyn Host,
    ) {
        let session = question.origin.session.and_then(|id| self.sessions.get(&id));
        let Some(session) = session else { return };
        let (body, topic) = (session.view.of_json(body), place.heard(&session.user, "info"));
        self.tell_answer(question, topic, body, host);
    }

    /// A chat says that a user is in it.
    pub(super) fn joined(&mut self, place: &Arc<Place>, name: &Arc<str>) {
        if place.is_group() && self.users.contains_key(name) {
            self.audiences.entry(place.id).or_default().insert(Arc::clone(name));
        }
    }

    /// A chat says that a user is in it no more.
    pub(super) fn parted(
        &mut self,
        place: &Arc<Place>,
        name: &Arc<str>,
        only: Option<SessionId>,
        seq: u64,
        host: &mut dyn Host,
    ) {
        self.leave_audience(place.id, name);
        let sessions = self.users.get(name).map(|user| user.sessions.clone()).unwrap_or_default();
        let mut messages = PerView::default();
        for id in sessions.into_iter().filter(|id| only.is_none_or(|only| only == *id)) {
            let view = self.view(id);
            let ended = messages.in_view(view, || {
                let body = view.body(&view::Ended { seq, why: None });
                message(in_view(place.heard(name, "ended"), view), body, QoS::AtLeastOnce, host)
            });
            self.answer_message(id, ended, host);
        }
        self.later(name, Later::Left { place: Arc::clone(place) }, host);
    }

    /// A user needs a group in her index no more. Her lanes stay: what they wait for still comes.
    pub(super) fn forget_group(&mut self, place: &Place, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.left.remove(&place.id);
        if user.chats.remove(&place.id).is_some() {
            let delete = Op::Delete { key: user_chat_key(name, place.id) };
            host.store(Record { ops: vec![delete], urgent: false });
            self.presence_shown_anew(name, host);
        }
    }

    /// A user is in a group no more, which stays in her index for what she lacks of it. Who is
    /// in it is not there for her any more, nor she for them.
    pub(super) fn left_group(&mut self, name: &Arc<str>, place: &Place, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        let Some(group) = place.group_name().filter(|_| user.is_in(place.id)) else { return };
        user.left.insert(place.id);
        let row = UserLeftRow { name: group.to_string() };
        put(user_chat_key(name, place.id), row.to_bytes(), false, host);
        self.presence_shown_anew(name, host);
    }

    /// A user leaves memory.
    pub(super) fn leave_audiences(&mut self, name: &str, chats: impl Iterator<Item = ChatId>) {
        for chat in chats {
            self.leave_audience(chat, name);
        }
    }

    fn leave_audience(&mut self, chat: ChatId, name: &str) {
        if let Some(audience) = self.audiences.get_mut(&chat) {
            audience.remove(name);
            if audience.is_empty() {
                self.audiences.remove(&chat);
            }
        }
    }

    /// A session that hears with QoS 0 asks the groups whether its user is in them.
    pub(super) fn listen(&self, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        for place in user.chats.values().filter(|place| place.is_group() || place.is_room()) {
            to_chat(place, ChatInput::Listen { user: Arc::clone(name) }, host);
        }
    }

    /// A group has a new entry.
    pub(super) fn broadcast(
        &mut self,
        place: &Arc<Place>,
        entry: &Arc<Entry>,
        host: &mut dyn Host,
    ) {
        let Some(audience) = self.audiences.get(&place.id) else { return };
        let names: Vec<Arc<str>> = BTreeSet::iter(audience).cloned().collect();
        // They all hear the same, so it is encoded once.
        let mut shown = Shown::new(place, "");
        for name in names {
            self.deliver_to(&name, entry, &mut shown, host);
        }
    }

    /// How many have an entry, for its author.
    pub(super) fn counts(&self, place: &Place, to: &str, counts: Counts, host: &mut dyn Host) {
        let Some(user) = self.users.get(to).filter(|user| !user.sessions.is_empty()) else {
            return;
        };
        let mut messages = PerView::default();
        for id in &user.sessions {
            let view = self.view(*id);
            let receipt = messages.in_view(view, || {
                let topic = in_view(place.heard(to, "receipt"), view);
                message(topic, view.body(&counts), QoS::AtMostOnce, host)
            });
            let _ = host.deliver(*id, &receipt, None);
        }
    }

    /// What a command has brought.
    pub(super) fn answer_with(
        &mut self,
        place: &Place,
        to: &AnswerTo,
        kind: &str,
        body: Bytes,
        host: &mut dyn Host,
    ) {
        let ask = match to {
            AnswerTo::Call(call) => return self.call_told(*call, &body),
            AnswerTo::Session(ask) => ask,
        };
        let session = ask.origin.session.and_then(|id| self.sessions.get(&id));
        let Some(session) = session else { return };
        let (body, topic) = (session.view.of_json(body), place.heard(&session.user, kind));
        self.tell_answer(ask, topic, body, host);
    }
}

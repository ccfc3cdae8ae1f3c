//! What Clients publish below the roots of chat, and how they are answered.
//!
//! A command is checked here as far as it goes without the chat, and then travels to the chat's
//! shard with the address of its answer. MQTT 5 learns the end from the acknowledgement; MQTT 3.1.1
//! has nothing there, and so hears an `ack`. An `error` is heard by both.

use std::sync::Arc;

use tidings_core::codec::{PropertiesBuf, Property, Publish, QoS, ReasonCode, Version};
use tidings_core::hook::{Answer, AnswerToken, Client, Host, Refused, SessionId, TEMPORARY};
use tidings_core::message::Message;

use super::UserSide;
use super::entries::{self, Said};
use super::outgoing::{message, to_chat};
use crate::code::Code;
use crate::entry::Kind;
use crate::json::Digits;
use crate::peer::{ChatInput, EVERYTHING, Origin, Outcome, Refusal};
use crate::topics::View;
use crate::topics::{Command, Place, answered, in_view, is_user};
use crate::view;

impl UserSide {
    /// A Client has published below one of the roots.
    pub(crate) fn published(
        &mut self,
        session: Option<SessionId>,
        client: &Client<'_>,
        publish: &Publish<'_>,
        token: Option<AnswerToken>,
        host: &mut dyn Host,
    ) {
        let origin = Origin { shard: host.shard(), session, token };
        if let Err((id, refusal)) = self.command(client, publish, origin, host) {
            let topic = answered(publish.topic, "error");
            self.refused(&origin, client.version, &topic, id, &refusal, host);
        }
    }

    fn command<'a>(
        &mut self,
        client: &Client<'_>,
        publish: &Publish<'a>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), (Option<&'a str>, Refusal)> {
        let refuse = |id, code, text: &str| Err((id, Refusal::new(code, text)));
        if client.user.is_empty() {
            return refuse(None, Code::Forbidden, "chat is for users that have logged in");
        }
        if !is_user(client.user) {
            let text = "your user name is none for chat: expected [A-Za-z0-9._-]{1,64}";
            return refuse(None, Code::Forbidden, text);
        }
        if origin.session.is_none() && publish.topic.starts_with("me/") {
            self.will(client.user, host);
            return Ok(());
        }
        let command = Command::parse(publish.topic)
            .map_err(|bad| (None, Refusal { code: bad.code, text: bad.text, retry_after: None }))?;
        self.may_be_there(client.user, &command).map_err(|refusal| (None, refusal))?;
        match command {
            Command::Send { chat, id } => {
                let said = Said { chat, id, kind: Kind::Message, refers: 0 };
                self.ask_send(client, publish, said, origin, host)?;
            }
            Command::About { chat, verb, seq, id } => {
                let kind = entries::kind_of(verb, publish.payload);
                let kind = kind.map_err(|refusal| (id, refusal))?;
                let said = Said { chat, id, kind, refers: seq };
                self.ask_send(client, publish, said, origin, host)?;
            }
            Command::End { chat } if !chat.starts_with(TEMPORARY) => {
                let said = Said { chat, id: None, kind: Kind::Hide, refers: EVERYTHING };
                self.ask_send(client, publish, said, origin, host)?;
            }
            Command::Read { chat } => {
                let seq = std::str::from_utf8(publish.payload).ok();
                let Some(seq) = seq.and_then(|text| text.trim().parse::<u64>().ok()) else {
                    let text = "expected the seq up to which you have read, such as 1839";
                    return refuse(None, Code::Format, text);
                };
                let place = self.place(client.user, chat);
                let (user, device) = self.names(client, origin.session);
                to_chat(&place, ChatInput::Read { user, device, seq, origin }, host);
            }
            Command::Typing { chat } => {
                let state = match publish.payload {
                    b"typing" => "typing",
                    b"recording" => "recording",
                    b"stopped" => "stopped",
                    _ => return refuse(None, Code::Format, "known: typing, recording, stopped"),
                };
                self.typing(client.user, chat, state, host);
                done(&origin, PropertiesBuf::new(), host);
            }
            Command::History { chat } => {
                self.may_ask(client.user, host).map_err(|refusal| (None, refusal))?;
                let place = self.place(client.user, chat);
                self.ask_history(client.user, &place, publish, origin, host)
                    .map_err(|refusal| (None, refusal))?;
            }
            Command::Info { chat } => {
                self.may_ask(client.user, host).map_err(|refusal| (None, refusal))?;
                let place = self.place(client.user, chat);
                let asked = self.ask_info(client, &place, publish, origin, host);
                asked.map_err(|refusal| (None, refusal))?;
            }
            Command::Change { chat, verb } => {
                let place = self.place(client.user, chat);
                let asked = self.ask_change(client, place, verb, publish, origin, host);
                asked.map_err(|refusal| (None, refusal))?;
            }
            Command::End { chat } => self.ask_end(client.user, chat, origin, host),
            Command::Signal { chat } => {
                self.signal(client.user, chat, publish.payload, origin, host)
                    .map_err(|refusal| (None, refusal))?;
            }
            Command::Pair { pool, verb } => {
                self.ask_pair(client.user, pool, verb, publish.payload, origin, host)
                    .map_err(|refusal| (None, refusal))?;
            }
            Command::Sync => {
                self.may_ask(client.user, host).map_err(|refusal| (None, refusal))?;
                self.ask_sync(client.user, publish, origin, host)
                    .map_err(|refusal| (None, refusal))?;
            }
            Command::State => {
                let set = self.set_state(client.user, publish, origin, host);
                set.map_err(|refusal| (None, refusal))?;
            }
            Command::Block => {
                self.may_ask(client.user, host).map_err(|refusal| (None, refusal))?;
                let asked = self.ask_block(client.user, publish, origin, host);
                asked.map_err(|refusal| (None, refusal))?;
            }
            Command::Privacy => {
                self.may_ask(client.user, host).map_err(|refusal| (None, refusal))?;
                let asked = self.ask_privacy(client.user, publish, origin, host);
                asked.map_err(|refusal| (None, refusal))?;
            }
            Command::Devices => {
                self.may_ask(client.user, host).map_err(|refusal| (None, refusal))?;
                let asked = self.ask_devices(client.user, publish, origin, host);
                asked.map_err(|refusal| (None, refusal))?;
            }
            Command::Push => {
                self.may_ask(client.user, host).map_err(|refusal| (None, refusal))?;
                let asked = self.ask_push(client.user, publish, origin, host);
                asked.map_err(|refusal| (None, refusal))?;
            }
            Command::Keys => {
                self.may_ask(client.user, host).map_err(|refusal| (None, refusal))?;
                let asked = self.ask_keys(client.user, publish, origin, host);
                asked.map_err(|refusal| (None, refusal))?;
            }
            Command::Will => done(&origin, PropertiesBuf::new(), host),
        }
        Ok(())
    }

    pub(super) fn place(&mut self, user: &str, chat: &str) -> Arc<Place> {
        match self.users.get_mut(user) {
            Some(user) => user.place(chat),
            None => Place::of(user, chat),
        }
    }

    /// User and Client Identifier, without a copy where they are known.
    pub(super) fn names(
        &self,
        client: &Client<'_>,
        session: Option<SessionId>,
    ) -> (Arc<str>, Arc<str>) {
        let known = session.and_then(|id| self.sessions.get(&id));
        known.map_or_else(
            || (client.user.into(), client.client_id.into()),
            |session| (Arc::clone(&session.user), Arc::clone(&session.client_id)),
        )
    }

    /// A command has come back from the chat.
    pub(super) fn answered(
        &mut self,
        place: &Arc<Place>,
        origin: &Origin,
        id: Option<&str>,
        made: bool,
        outcome: Outcome,
        host: &mut dyn Host,
    ) {
        if let Some(call) = origin.call() {
            return self.call_answered(call, outcome);
        }
        let session = origin.session.and_then(|id| self.sessions.get(&id));
        let version = session.map_or(Version::V5, |session| session.version);
        let user = session.map(|session| Arc::clone(&session.user));
        let topic = |kind| user.map(|user| place.heard(&user, kind)).unwrap_or_default();
        match outcome {
            Outcome::Done => done(origin, PropertiesBuf::new(), host),
            Outcome::Sent { seq, time } => {
                let mut properties = PropertiesBuf::new();
                if version == Version::V5 && origin.token.is_some() {
                    properties = PropertiesBuf::with_capacity(SENT_BYTES);
                    let mut digits = Digits::default();
                    properties.push(Property::UserProperty("seq", digits.of(seq)));
                    properties.push(Property::UserProperty("time", digits.of(time.as_millis())));
                    if let Some(id) = id.filter(|_| made) {
                        properties.push(Property::UserProperty("id", id));
                    }
                }
                done(origin, properties, host);
                // Who hears nothing of its own would not be given it.
                let hears = |id: &SessionId| {
                    self.sessions.get(id).is_some_and(|session| !session.filters.is_empty())
                };
                let Some(session) = origin.session.filter(hears) else { return };
                let asked = self.sessions.get(&session).is_some_and(|session| session.acks);
                if version == Version::V311 || origin.token.is_none() || asked {
                    let ack = view::Ack { id: id.unwrap_or_default(), seq, time };
                    let view = self.view(session);
                    let topic = in_view(topic("ack"), view);
                    let ack = message(topic, view.body(&ack), QoS::AtLeastOnce, host);
                    self.answer_message(session, ack, host);
                }
            }
            Outcome::Refused(refusal) => {
                let topic = topic("error");
                self.refused(origin, version, &topic, id, &refusal, host);
            }
        }
    }

    pub(super) fn refused(
        &mut self,
        origin: &Origin,
        version: Version,
        topic: &str,
        id: Option<&str>,
        refusal: &Refusal,
        host: &mut dyn Host,
    ) {
        if let Some(token) = origin.token {
            let mut properties = PropertiesBuf::new();
            if version == Version::V5 {
                properties.push(Property::ReasonString(&refusal.text));
                properties.push(Property::UserProperty("code", refusal.code.name()));
                if let Some(millis) = refusal.retry_after {
                    let mut digits = Digits::default();
                    properties.push(Property::UserProperty("retry_after", digits.of(millis)));
                }
            }
            let properties = properties.into_bytes();
            host.answer(token, Answer { reason: refusal.code.reason(), properties });
        }
        let Some(session) = origin.session else { return };
        let view = self.view(session);
        let body = view.body(&view::Error {
            id,
            code: refusal.code,
            text: &refusal.text,
            retry_after: refusal.retry_after,
        });
        let error = message(in_view(topic.into(), view), body, QoS::AtLeastOnce, host);
        self.answer_message(session, error, host);
    }

    /// In which view a session hears.
    pub(super) fn view(&self, id: SessionId) -> View {
        self.sessions.get(&id).map(|session| session.view).unwrap_or_default()
    }

    /// Delivers an answer, which waits if the session is full; some are lost if too many wait.
    pub(super) fn answer_message(
        &mut self,
        id: SessionId,
        message: Arc<Message>,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.full || matches!(host.deliver(id, &message, None), Err(Refused::Full)) {
            session.full = true;
            if session.answers.len() < ANSWERS_MAX {
                session.answers.push_back(message);
            }
        }
    }
}

/// A command is done.
pub(super) fn done(origin: &Origin, properties: PropertiesBuf, host: &mut dyn Host) {
    if let Some(token) = origin.token {
        let properties = properties.into_bytes();
        host.answer(token, Answer { reason: ReasonCode::Success, properties });
    }
}

/// How many answers wait for a session that is full. Those beyond are lost: with MQTT 5 the
/// acknowledgement has said the same.
pub(super) const ANSWERS_MAX: usize = 64;

/// What the acknowledgement of a send takes, its place and its time.
const SENT_BYTES: usize = 48;

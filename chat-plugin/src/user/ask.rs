//! Questions: how they are put, and how their answers find the way back.
//!
//! An answer goes to the session that asked and to nobody else: to the Response Topic with the
//! Correlation Data where it gave them and hears that topic, to its own topic of the answer
//! otherwise. The PUBACK of a question comes with its answer, or says why there is none.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidings_core::codec::{PropertiesBuf, Property, Publish, QoS};
use tidings_core::hook::{Host, Refused};
use tidings_core::message::Message;

use super::UserSide;
use super::command::{ANSWERS_MAX, done};
use super::outgoing::{message, to_chat};
use crate::code::Code;
use crate::json::{Request, why};
use crate::peer::{ChatInput, Origin, Part, Question, Range, Refusal};
use crate::topics::{Place, in_view};
use crate::view::History;

/// What is asked of `history`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryOf {
    from: Option<u64>,
    to: Option<u64>,
    limit: Option<usize>,
    request: Option<Request>,
}

impl UserSide {
    /// A member asks for a part of the log.
    ///
    /// # Errors
    /// It is not understood.
    pub(super) fn ask_history(
        &self,
        user: &str,
        place: &Arc<Place>,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"from":1001,"to":1040,"limit":200}"#;
        let HistoryOf { from, to, limit, request } = question(publish.payload, example)?;
        if limit == Some(0) || from.zip(to).is_some_and(|(from, to)| from > to) {
            let text = format!("expected a range that holds something, such as {example}");
            return Err(Refusal::new(Code::Format, &text));
        }
        let limit = limit.map_or(HISTORY_DEFAULT, |limit| limit.min(HISTORY_MAX));
        let ask = Box::new(ask(publish, origin, request)?);
        let range = Range { from, to, limit };
        to_chat(place, ChatInput::History { user: user.into(), range, ask }, host);
        Ok(())
    }

    /// A chat has answered.
    pub(super) fn history_told(
        &mut self,
        place: &Arc<Place>,
        ask: &Question,
        part: &Part,
        host: &mut dyn Host,
    ) {
        let session = ask.origin.session.and_then(|id| self.sessions.get(&id));
        let Some(session) = session else { return };
        let body = session.view.history(&History {
            from: part.from,
            to: part.to,
            last: part.last,
            entries: &part.entries,
            gone: &part.gone,
            request: ask.request.as_ref(),
        });
        let topic = place.heard(&session.user, "history");
        self.tell_answer(ask, topic, body, host);
    }

    /// Gives an answer to who asked.
    pub(super) fn tell_answer(
        &mut self,
        ask: &Question,
        topic: String,
        body: Bytes,
        host: &mut dyn Host,
    ) {
        let Some(id) = ask.origin.session else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (version, view) = (session.version, session.view);
        let own = in_view(topic.clone(), view);
        let asked_for = ask.topic.as_ref().map(|topic| String::from(&**topic));
        let mut refusal = None;
        for topic in asked_for.into_iter().chain([own]) {
            let answer = correlated(message(topic, body.clone(), QoS::AtLeastOnce, host), ask);
            refusal = match host.deliver(id, &answer, None) {
                Ok(_) => None,
                Err(Refused::Full) if session.answers.len() < ANSWERS_MAX => {
                    session.full = true;
                    session.answers.push_back(answer);
                    None
                }
                Err(Refused::Full) => Some(Refusal::busy("too many answers wait for you")),
                Err(Refused::TooLarge) => {
                    let text = "the answer is larger than your Maximum Packet Size: ask for less";
                    Some(Refusal::new(Code::Size, text))
                }
                Err(Refused::NotSubscribed) => {
                    // Where it may be heard instead, if this was the topic that was asked for.
                    let text = "you hear no answers: subscribe to me/json/# or me/cbor/#";
                    refusal = Some(Refusal::new(Code::Forbidden, text));
                    continue;
                }
                Err(Refused::NotConnected) => return,
            };
            break;
        }
        match refusal {
            None => done(&ask.origin, PropertiesBuf::new(), host),
            Some(refusal) => {
                let topic = topic.rsplit_once('/').map_or("me/json/-", |(chat, _)| chat);
                let topic = [topic, "/error"].concat();
                self.refused(&ask.origin, version, &topic, None, &refusal, host);
            }
        }
    }
}

/// The address of an answer.
///
/// # Errors
/// It has too much of a name.
pub(super) fn ask(
    publish: &Publish<'_>,
    origin: Origin,
    request: Option<Request>,
) -> Result<Question, Refusal> {
    let correlation = publish.properties.correlation_data();
    let named = matches!(&request, Some(Request::Text(text)) if text.len() > REQUEST_BYTES_MAX);
    if named || correlation.is_some_and(|data| data.len() > REQUEST_BYTES_MAX) {
        let text = format!(
            "expected a request, or Correlation Data, of at most {REQUEST_BYTES_MAX} bytes"
        );
        return Err(Refusal::new(Code::Format, &text));
    }
    Ok(Question {
        origin,
        topic: publish.properties.response_topic().map(Into::into),
        correlation: correlation.map(Bytes::copy_from_slice),
        request,
    })
}

/// What is asked: JSON, or nothing for all defaults.
///
/// # Errors
/// It is something else.
pub(super) fn question<T: DeserializeOwned + Default>(
    payload: &[u8],
    example: &str,
) -> Result<T, Refusal> {
    question_of(payload, example, QUESTION_BYTES_MAX)
}

/// The same of up to so many bytes.
///
/// # Errors
/// The same.
pub(super) fn question_of<T: DeserializeOwned + Default>(
    payload: &[u8],
    example: &str,
    bytes_max: usize,
) -> Result<T, Refusal> {
    if payload.is_empty() {
        return Ok(T::default());
    }
    let bad = |why: String| {
        Refusal::new(Code::Format, &format!("expected a question such as {example}: {why}"))
    };
    if payload.len() > bytes_max {
        return Err(bad(format!("it has {} bytes", payload.len())));
    }
    serde_json::from_slice(payload).map_err(|error| bad(why(&error)))
}

/// The answer with what the asker knows it by.
fn correlated(message: Arc<Message>, ask: &Question) -> Arc<Message> {
    let Some(data) = &ask.correlation else { return message };
    let mut properties = PropertiesBuf::new();
    properties.push(Property::CorrelationData(data));
    let properties = Bytes::copy_from_slice(properties.as_properties().as_bytes());
    let message = Arc::unwrap_or_clone(message);
    Arc::new(Message { properties, ..message })
}

/// How many entries an answer holds where the question does not say.
const HISTORY_DEFAULT: usize = 100;

/// How many it holds at the most.
const HISTORY_MAX: usize = 200;

/// The longest question, in bytes.
const QUESTION_BYTES_MAX: usize = 1_024;

/// The longest name of a question, in bytes.
const REQUEST_BYTES_MAX: usize = 128;

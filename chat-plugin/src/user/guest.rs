//! Who came in to be paired: waiting in a pool, meeting somebody, going on to the next.
//!
//! A guest has no name but the one the server gave, and nothing of hers is kept: when she has gone
//! for longer than a grace, her room is over for the other too. Whom she was brought together with
//! is decided at the home of the pool.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tidings_core::codec::{PropertiesBuf, QoS};
use tidings_core::hook::Host;

use super::UserSide;
use super::ask::question;
use super::command::done;
use super::outgoing::{message, to_chat, to_pool};
use crate::call::Why;
use crate::code::Code;
use crate::peer::{ChatInput, Origin, Paired, Refusal, ToPair, ToRoom};
use crate::topics::{PairVerb, Place, View, in_view, is_guest};
use crate::view;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    interests: Vec<String>,
    ttl: Option<u64>,
}

impl UserSide {
    /// A guest wants to be paired, or not any more.
    ///
    /// # Errors
    /// She may not, or it is not understood.
    pub(super) fn ask_pair(
        &mut self,
        name: &str,
        pool: &str,
        verb: PairVerb,
        payload: &[u8],
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        if !is_guest(name) {
            let text = "pairing is for who comes in as nobody: connect with the user name ~anon";
            return Err(Refusal::new(Code::Forbidden, text));
        }
        self.may_ask(name, host)?;
        let Some(user) = self.users.get(name) else { return Ok(()) };
        let (name, rooms) = (Arc::clone(&user.name), user.chats.len());
        if verb == PairVerb::Leave {
            self.leave_pools(&name, host);
            done(&origin, PropertiesBuf::new(), host);
            return Ok(());
        }
        let Wanted { interests, ttl } = question(payload, EXAMPLE)?;
        let interests = interests_of(interests)?;
        if verb == PairVerb::Wait && rooms > 0 {
            let text = "you are in a room: say pair/{pool}/next, or end it";
            return Err(Refusal::new(Code::Conflict, text));
        }
        self.leave_rooms(&name, Why::Next, host);
        self.leave_pools(&name, host);
        let max = self.options.pair_ttl_max;
        let ttl = ttl.map_or(TTL, |seconds| Duration::from_secs(seconds.max(1))).min(max);
        let Some(user) = self.users.get_mut(&name) else { return Ok(()) };
        let pool: Arc<str> = pool.into();
        user.pool = Some(Arc::clone(&pool));
        let join = ToPair::Join { user: name, pool: Arc::clone(&pool), interests, ttl, origin };
        to_pool(&pool, join, host);
        Ok(())
    }

    /// Somebody was found.
    pub(super) fn paired(
        &mut self,
        place: &Arc<Place>,
        name: &Arc<str>,
        paired: &Paired,
        host: &mut dyn Host,
    ) {
        let waits = self.users.get_mut(name).filter(|user| {
            // Meanwhile she may have gone, or wait elsewhere.
            !user.sessions.is_empty() && user.pool.as_ref() == Some(&paired.pool)
        });
        let Some(user) = waits else { return leave(place, name, Why::Gone, host) };
        user.pool = None;
        user.chats.insert(place.id, Arc::clone(place));
        let sessions = user.sessions.clone();
        let body = |view: View| {
            view.body(&view::Paired {
                chat: &place.name_for(name),
                pool: &paired.pool,
                interest: paired.interest.as_deref(),
                partner: place.peer(name),
            })
        };
        self.tell_all(place, name, "paired", body, host);
        for id in sessions {
            self.refresh(id, host);
        }
    }

    /// Nobody was found in time.
    pub(super) fn unpaired(&mut self, name: &str, pool: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        if user.pool.as_ref() != Some(pool) {
            return;
        }
        user.pool = None;
        for id in user.sessions.clone() {
            let view = self.view(id);
            let body = view.body(&view::Unpaired { pool });
            let topic = in_view("me/json/-/unpaired".into(), view);
            self.answer_message(id, message(topic, body, QoS::AtLeastOnce, host), host);
        }
    }

    /// A connection is over: with the last one a guest waits for nobody.
    pub(super) fn leave_pool(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        if self.users.get(name).is_some_and(|user| user.sessions.is_empty()) {
            self.leave_pools(name, host);
        }
    }

    /// A user is offline: who cannot come back leaves her room.
    pub(super) fn guest_gone(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        if is_guest(name) {
            self.leave_rooms(name, Why::Gone, host);
        }
    }

    fn leave_pools(&mut self, name: &Arc<str>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        if let Some(pool) = user.pool.take() {
            let leave = ToPair::Leave { user: Arc::clone(name), pool: Arc::clone(&pool) };
            to_pool(&pool, leave, host);
        }
    }

    fn leave_rooms(&mut self, name: &Arc<str>, why: Why, host: &mut dyn Host) {
        let Some(user) = self.users.get(name) else { return };
        let rooms: Vec<Arc<Place>> = user.chats.values().cloned().collect();
        for place in rooms {
            leave(&place, name, why, host);
            self.forget_room(&place, name, host);
        }
    }
}

fn leave(place: &Arc<Place>, name: &Arc<str>, why: Why, host: &mut dyn Host) {
    let end = ToRoom::End { user: Some(Arc::clone(name)), why, origin: None, reply: None };
    to_chat(place, ChatInput::Room(Box::new(end)), host);
}

/// Interests as they are compared: in lower case, each once.
fn interests_of(texts: Vec<String>) -> Result<Vec<Arc<str>>, Refusal> {
    let fits = |text: &String| (1..=INTEREST_BYTES_MAX).contains(&text.trim().len());
    if texts.len() > INTERESTS_MAX || !texts.iter().all(fits) {
        let text = format!(
            "expected at most {INTERESTS_MAX} interests of 1 to {INTEREST_BYTES_MAX} bytes"
        );
        return Err(Refusal::new(Code::Format, &text));
    }
    let mut interests: Vec<Arc<str>> =
        texts.iter().map(|text| text.trim().to_lowercase().into()).collect();
    interests.sort();
    interests.dedup();
    Ok(interests)
}

const EXAMPLE: &str = r#"{"interests":["rust","jazz"],"ttl":60}"#;

/// How many interests one names.
const INTERESTS_MAX: usize = 8;

/// The longest of them, in bytes.
const INTEREST_BYTES_MAX: usize = 32;

/// How long one waits who does not say.
const TTL: Duration = Duration::from_secs(60);

//! How fast a user sends, begins chats, and asks: over all her devices, and from one connection to the next.
//!
//! Only where the host holds Clients to rates. Whether a chat is new stands in the user's rows, so what
//! she sends before they are read waits for them, in order.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::codec::Version;
use tidings_core::hook::Host;
use tidings_core::metric::Metric;
use tidings_core::rate::{Bucket, Rate};
use tidings_core::time::Time;

use super::UserSide;
use super::outgoing::to_chat;
use super::person::Later;
use crate::code::Code;
use crate::map::{Map, map};
use crate::options::ChatOptions;
use crate::peer::{ChatInput, Post, Refusal};
use crate::topics::{ChatId, Place};

/// What a user has left.
#[derive(Debug, Default)]
pub(super) struct Pace {
    sends: Bucket,
    begins: Bucket,
    questions: Bucket,
    /// Chats that were paid for and may not be in her index yet, the last ones.
    begun: VecDeque<ChatId>,
}

/// What users have left who are not in memory: those of the last few thousand who had spent something.
#[derive(Debug)]
pub(super) struct Paces {
    sends: Option<Rate>,
    begins: Option<Rate>,
    questions: Option<Rate>,
    /// How many are told of somebody's presence; of the whole shard.
    pub(super) presence: Option<Rate>,
    /// Two halves: when the younger is full the older is forgotten.
    younger: Map<Arc<str>, Pace>,
    older: Map<Arc<str>, Pace>,
}

impl Paces {
    pub(super) fn new(options: &ChatOptions) -> Self {
        Self {
            sends: Rate::per_second(options.send_rate, options.send_burst),
            begins: Rate::new(options.new_chats_per_minute, MINUTE, options.new_chats_per_minute),
            questions: Rate::per_second(options.question_rate, options.question_burst),
            presence: Rate::per_second(options.presence_rate, options.presence_rate),
            younger: map(),
            older: map(),
        }
    }

    /// What a user has left who comes into memory.
    pub(super) fn recall(&mut self, name: &str) -> Pace {
        let known = self.younger.remove(name).or_else(|| self.older.remove(name));
        known.unwrap_or_default()
    }

    /// A user leaves memory.
    pub(super) fn remember(&mut self, name: &Arc<str>, pace: Pace) {
        if pace.sends == Bucket::default() && pace.questions == Bucket::default() {
            return;
        }
        if self.younger.len() >= PACES_MAX / 2 {
            self.older = mem::take(&mut self.younger);
        }
        self.younger.insert(Arc::clone(name), pace);
    }
}

impl UserSide {
    /// Passes a send on to its chat, if its user is not too fast.
    ///
    /// # Errors
    /// She is.
    pub(super) fn send(
        &mut self,
        name: &str,
        place: Arc<Place>,
        post: Box<Post>,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        // A will may come when nobody is there; it is one for each connection.
        if let Some(user) = self.users.get_mut(name).filter(|_| host.rates_apply()) {
            let now = host.now();
            if let Some(rate) = self.paces.sends
                && !user.pace.sends.try_take(rate, now)
            {
                host.count(Metric::LimitChatSends);
                let text = "you send too fast";
                return Err(too_fast(text, user.pace.sends, rate, now));
            }
            if self.paces.begins.is_some() && !user.loaded {
                if user.waiting.len() >= SENDS_WAITING_MAX {
                    return Err(Refusal::busy("too many messages wait for your chats to be read"));
                }
                user.waiting.push(Later::Send { place, post });
                return Ok(());
            }
        }
        self.send_to_known(name, &place, post, host)
    }

    /// Whether a user may ask something now.
    ///
    /// # Errors
    /// She asks too fast.
    pub(super) fn may_ask(&mut self, name: &str, host: &mut dyn Host) -> Result<(), Refusal> {
        let Some(rate) = self.paces.questions.filter(|_| host.rates_apply()) else { return Ok(()) };
        let Some(user) = self.users.get_mut(name) else { return Ok(()) };
        let now = host.now();
        if user.pace.questions.try_take(rate, now) {
            return Ok(());
        }
        host.count(Metric::LimitChatQuestions);
        Err(too_fast("you ask too fast", user.pace.questions, rate, now))
    }

    /// A send once it is known which chats there are.
    fn send_to_known(
        &mut self,
        name: &str,
        place: &Arc<Place>,
        post: Box<Post>,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        if let Some(rate) = self.paces.begins.filter(|_| host.rates_apply())
            && let Some(user) = self.users.get_mut(name)
            && !user.chats.contains_key(&place.id)
            && !user.pace.begun.contains(&place.id)
        {
            let now = host.now();
            if !user.pace.begins.try_take(rate, now) {
                host.count(Metric::LimitNewChats);
                let text = "you begin too many chats";
                return Err(too_fast(text, user.pace.begins, rate, now));
            }
            if user.pace.begun.len() >= BEGUN_MAX {
                user.pace.begun.pop_front();
            }
            user.pace.begun.push_back(place.id);
        }
        to_chat(place, ChatInput::Send(post), host);
        Ok(())
    }

    /// A send that has waited for the user's rows.
    pub(super) fn send_now(
        &mut self,
        name: &str,
        place: &Arc<Place>,
        post: Box<Post>,
        host: &mut dyn Host,
    ) {
        let (origin, id) = (post.origin, post.id.clone());
        if let Err(refusal) = self.send_to_known(name, place, post, host) {
            let session = origin.session.and_then(|id| self.sessions.get(&id));
            let version = session.map_or(Version::V5, |session| session.version);
            let topic = place.heard(name, "error");
            self.refused(&origin, version, &topic, id.as_deref(), &refusal, host);
        }
    }
}

fn too_fast(text: &str, bucket: Bucket, rate: Rate, now: Time) -> Refusal {
    let wait = bucket.ready_at(1, rate).since(now);
    let retry_after = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Refusal { retry_after, ..Refusal::new(Code::Limit, text) }
}

const MINUTE: Duration = Duration::from_secs(60);

/// How many users a shard remembers who are not in memory.
const PACES_MAX: usize = 16_384;

/// How many sends of one user wait for her rows.
pub(super) const SENDS_WAITING_MAX: usize = 1_024;

/// How many chats of one user may be on their way into her index and not be paid for again.
const BEGUN_MAX: usize = 64;

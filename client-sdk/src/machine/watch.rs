//! What is only true right now: presence, and who types.

use super::io::{Output, Told};
use crate::entry::{Presence, Typing};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Watch {
    wanted: BTreeSet<String>,
    /// On this connection, or in the Session before it.
    subscribed: BTreeSet<String>,
    /// Subscribed on this very connection: whether the broker took it is not known yet.
    fresh: BTreeSet<String>,
    unwanted: BTreeSet<String>,
    epochs: BTreeMap<String, u64>,
    /// Who types where, until when.
    typing: BTreeMap<(String, String), Duration>,
    /// What oneself was last said to do, by chat.
    said: BTreeMap<String, (Typing, Duration)>,
}

impl Watch {
    pub(super) fn handle_new_session(&mut self) {
        self.subscribed.clear();
    }

    pub(super) fn handle_lost(&mut self) {
        for user in std::mem::take(&mut self.fresh) {
            self.subscribed.remove(&user);
        }
        self.unwanted.clear();
        self.said.clear();
    }

    pub(super) fn handle_refused(&mut self, filter: &str) {
        // Not asked again on this connection.
        if let Some(user) = filter.strip_prefix("presence/") {
            self.fresh.insert(user.to_owned());
        }
    }

    pub(super) fn want(&mut self, user: String, wanted: bool) {
        if wanted {
            self.wanted.insert(user);
        } else {
            self.wanted.remove(&user);
            self.epochs.remove(&user);
        }
    }

    /// Subscribes to who is wanted, and no longer to who is not.
    pub(super) fn bring_in_line(&mut self, out: &mut Vec<Output>) {
        let missing: Vec<String> = self.wanted.difference(&self.subscribed).cloned().collect();
        let excess = self.subscribed.difference(&self.wanted).cloned();
        let excess: BTreeSet<String> = excess.chain(std::mem::take(&mut self.unwanted)).collect();
        for user in missing {
            let filter = wire::presence_topic(&user);
            out.push(Output::Subscribe { filter, subscribe: true });
            self.fresh.insert(user.clone());
            self.subscribed.insert(user);
        }
        for user in excess {
            self.subscribed.remove(&user);
            self.fresh.remove(&user);
            let filter = wire::presence_topic(&user);
            out.push(Output::Subscribe { filter, subscribe: false });
        }
    }

    /// What to tell of a presence; a lower epoch never overrides a higher one.
    pub(super) fn handle_presence(&mut self, presence: Presence) -> Option<Told> {
        let user = &presence.user;
        if !self.wanted.contains(user) {
            // An earlier run subscribed, and the Session remembers.
            if self.unwanted.len() < UNWANTED_MAX {
                self.unwanted.insert(user.clone());
            }
            return None;
        }
        let epoch = self.epochs.entry(user.clone()).or_default();
        if presence.epoch < *epoch {
            return None;
        }
        *epoch = presence.epoch;
        Some(Told::Presence(presence))
    }

    pub(super) fn handle_typing(
        &mut self,
        chat: String,
        user: String,
        state: Typing,
        now: Duration,
    ) -> Option<Told> {
        let key = (chat.clone(), user.clone());
        if state == Typing::Stopped {
            self.typing.remove(&key)?;
        } else if self.typing.len() < TYPING_MAX || self.typing.contains_key(&key) {
            self.typing.insert(key, now + TYPING);
        } else {
            return None;
        }
        Some(Told::Typing { chat, user, state })
    }

    /// Who was not heard for a while has stopped.
    pub(super) fn handle_time(&mut self, now: Duration) -> Vec<Told> {
        let over: Vec<(String, String)> =
            self.typing.iter().filter(|(_, at)| **at <= now).map(|(who, _)| who.clone()).collect();
        over.into_iter()
            .map(|(chat, user)| {
                self.typing.remove(&(chat.clone(), user.clone()));
                Told::Typing { chat, user, state: Typing::Stopped }
            })
            .collect()
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.typing.values().min().copied()
    }

    /// Whether it is worth saying: others let it expire after 6 s, and hear one in 2 s at most.
    pub(super) fn say(&mut self, chat: &str, state: Typing, now: Duration) -> bool {
        let said = self.said.get(chat);
        let again = said.is_none_or(|(was, at)| *was != state || now >= *at + SAY_AGAIN);
        if !again || (state == Typing::Stopped && said.is_none()) {
            return false;
        }
        if state == Typing::Stopped {
            self.said.remove(chat);
        } else {
            if self.said.len() >= TYPING_MAX {
                self.said.pop_first();
            }
            self.said.insert(chat.to_owned(), (state, now));
        }
        true
    }
}

/// How long what was heard of typing holds.
const TYPING: Duration = Duration::from_secs(6);

/// How often one's own typing is said while it lasts.
const SAY_AGAIN: Duration = Duration::from_secs(3);

/// Who is known to type, at once.
const TYPING_MAX: usize = 1_024;

/// Presences heard of nobody that are ended at a time.
const UNWANTED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_expires_and_is_not_said_too_often() {
        let (mut watch, second) = (Watch::default(), Duration::from_secs(1));
        let (chat, user) = ("@bob".to_owned(), "bob".to_owned());
        let heard = |watch: &mut Watch, state, now| {
            watch.handle_typing(chat.clone(), user.clone(), state, now).is_some()
        };
        assert!(!heard(&mut watch, Typing::Stopped, second));
        assert!(heard(&mut watch, Typing::Typing, second));
        assert_eq!(watch.next_timeout(), Some(7 * second));
        assert!(watch.handle_time(6 * second).is_empty());
        let over = Told::Typing { chat: chat.clone(), user: user.clone(), state: Typing::Stopped };
        assert_eq!(watch.handle_time(7 * second), [over]);
        assert_eq!(watch.next_timeout(), None);

        let said = |watch: &mut Watch, state, s| watch.say("@bob", state, s * second);
        assert!(!said(&mut watch, Typing::Stopped, 1));
        assert!(said(&mut watch, Typing::Typing, 1));
        assert!(!said(&mut watch, Typing::Typing, 3));
        assert!(said(&mut watch, Typing::Recording, 3));
        assert!(said(&mut watch, Typing::Recording, 6));
        assert!(said(&mut watch, Typing::Stopped, 6));
        assert!(!said(&mut watch, Typing::Stopped, 7));
    }

    #[test]
    fn presence_of_a_session_that_nobody_wants_is_ended() {
        let mut watch = Watch::default();
        watch.want("bob".to_owned(), true);
        let presence = |user: &str, epoch| Presence {
            user: user.to_owned(),
            state: crate::entry::PresenceState::Online,
            last_seen: None,
            epoch,
        };
        assert!(watch.handle_presence(presence("bob", 5)).is_some());
        assert!(watch.handle_presence(presence("bob", 4)).is_none());
        assert!(watch.handle_presence(presence("eve", 5)).is_none());
        let mut out = Vec::new();
        watch.bring_in_line(&mut out);
        let [
            Output::Subscribe { filter: wanted, subscribe: true },
            Output::Subscribe { filter: unwanted, subscribe: false },
        ] = &out[..]
        else {
            panic!("{out:?}")
        };
        assert_eq!((wanted.as_str(), unwanted.as_str()), ("presence/bob", "presence/eve"));
    }
}

//! Questions: what the application asks, and what the machine asks by itself to miss nothing.
//!
//! A question is asked again over connections until it has its answer. What is missing of a chat
//! is asked for as soon as it is known to be missing, one part of a chat at a time.

use super::io::{Answer, Expects, Failed, Output, Question, Request};
use super::{Held, Machine};
use crate::error::Refusal;
use crate::transport::Outgoing;
use crate::wire::{self, NO_CHAT, Puback};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Asker {
    asked: BTreeMap<u64, Asked>,
    next: u64,
    synced_at: Option<Duration>,
}

#[derive(Debug)]
struct Asked {
    question: Question,
    owner: Owner,
    state: State,
    refusals: u32,
}

/// Whose question it is.
#[derive(Debug, Clone)]
enum Owner {
    Application(Request),
    /// A part that is missing.
    Gap {
        chat: String,
        from: u64,
        to: u64,
    },
    /// The application wants older entries.
    Scroll {
        request: Request,
        chat: String,
        before: Option<u64>,
        limit: u64,
    },
    /// Where all chats are; `missed` if this device may have missed something.
    Sync {
        missed: bool,
        all: bool,
    },
    /// Which room one sits in.
    Room,
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due,
    /// No PUBACK yet.
    Sent(u64),
    /// The answer has until then.
    Acknowledged(Duration),
    Later(Duration),
}

impl Asker {
    /// `first` is to be another one at each start: answers to an earlier run wait in the Session, and
    /// would be taken for those of this one.
    pub(super) fn new(first: u64) -> Self {
        Self { next: first >> 16, ..Self::default() }
    }

    fn put(&mut self, owner: Owner, question: Question) {
        self.next += 1;
        self.asked.insert(self.next, Asked { question, owner, state: State::Due, refusals: 0 });
    }

    fn of_application(&self) -> usize {
        let of =
            |asked: &&Asked| matches!(asked.owner, Owner::Application(_) | Owner::Scroll { .. });
        self.asked.values().filter(of).count()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.asked.values().filter(|asked| matches!(asked.state, State::Sent(_))).count()
    }

    fn waits(&self) -> usize {
        let waits = |asked: &&Asked| matches!(asked.state, State::Sent(_) | State::Acknowledged(_));
        self.asked.values().filter(waits).count()
    }

    pub(super) fn handle_lost(&mut self) {
        self.asked.retain(|_, asked| !matches!(asked.owner, Owner::Nobody | Owner::Room));
        for asked in self.asked.values_mut() {
            if !matches!(asked.state, State::Later(_)) {
                asked.state = State::Due;
            }
        }
    }

    pub(super) fn handle_time(&mut self, now: Duration) {
        for asked in self.asked.values_mut() {
            if let State::Acknowledged(until) | State::Later(until) = asked.state
                && until <= now
            {
                asked.state = State::Due;
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let until = |asked: &Asked| match asked.state {
            State::Acknowledged(until) | State::Later(until) => Some(until),
            State::Due | State::Sent(_) => None,
        };
        self.asked.values().filter_map(until).min()
    }

    /// The next question to publish.
    pub(super) fn next(&mut self, token: u64) -> Option<Outgoing> {
        if self.waits() >= ASKED_MAX {
            return None;
        }
        let due = |(_, asked): &(&u64, &mut Asked)| asked.state == State::Due;
        let (number, asked) = self.asked.iter_mut().find(due)?;
        asked.state = State::Sent(token);
        let Question { topic, payload, expects } = &asked.question;
        let payload = match expects {
            Expects::Request => with_request(payload, *number),
            Expects::Nothing => payload.clone(),
        };
        Some(Outgoing::new(token, topic.clone(), payload))
    }

    /// Everything ends; whose commands those were.
    pub(super) fn close(&mut self) -> Vec<Request> {
        let asked = std::mem::take(&mut self.asked).into_values();
        asked.filter_map(|asked| asked.owner.request()).collect()
    }
}

impl Owner {
    fn request(&self) -> Option<Request> {
        match self {
            Self::Application(request) | Self::Scroll { request, .. } => Some(*request),
            Self::Gap { .. } | Self::Sync { .. } | Self::Room | Self::Nobody => None,
        }
    }
}

impl Machine {
    /// What a new connection begins with.
    pub(super) fn ask_on_opening(&mut self, new_session: bool, now: Duration) {
        if self.away {
            self.ask_nobody("me/state", Bytes::from_static(br#"{"away":true}"#));
        }
        if self.config.user.starts_with('~') {
            // A temporary user: there is one room, if any, and its name is not known yet.
            if self.room.is_none() && !self.config.user.starts_with("~anon") {
                let question = question("chat/~/info".to_owned(), "{}".to_owned());
                self.asker.put(Owner::Room, question);
            }
            return;
        }
        let recently = |at: Duration| now.saturating_sub(at) < SYNC_AGAIN;
        let all = new_session || !self.device.synced;
        if !all && self.asker.synced_at.is_some_and(recently) {
            return;
        }
        let missed = new_session && self.device.synced;
        // One at a time: the later knows more.
        let sync = |asked: &Asked| match asked.owner {
            Owner::Sync { missed, all } => Some((missed, all)),
            _ => None,
        };
        let before: Vec<(bool, bool)> = self.asker.asked.values().filter_map(sync).collect();
        self.asker.asked.retain(|_, asked| sync(asked).is_none());
        let missed = missed || before.iter().any(|(missed, _)| *missed);
        let all = all || before.iter().any(|(_, all)| *all);
        self.ask_sync(missed, all, None);
    }

    pub(super) fn ask_sync(&mut self, missed: bool, all: bool, after: Option<&str>) {
        let limit = if all { SYNC_ALL } else { SYNC_SOME };
        let json = match after {
            Some(after) => serde_json::json!({ "limit": limit, "after": after }),
            None => serde_json::json!({ "limit": limit }),
        };
        let question = question("me/sync".to_owned(), json.to_string());
        self.asker.put(Owner::Sync { missed, all }, question);
    }

    /// A command to the broker that nobody waits for and that holds for this connection.
    pub(super) fn ask_nobody(&mut self, topic: &str, payload: Bytes) {
        let expects = Expects::Nothing;
        let question = Question { topic: topic.to_owned(), payload, expects };
        self.asker.put(Owner::Nobody, question);
    }

    pub(super) fn handle_ask(&mut self, request: Request, asks: Question, out: &mut Vec<Output>) {
        let waiting = self.asker.of_application();
        if waiting >= QUESTIONS_MAX {
            let full = Failed::Full { waiting, bytes: 0 };
            return out.push(Output::Answer(request, Err(full)));
        }
        self.asker.put(Owner::Application(request), asks);
    }

    pub(super) fn handle_fetch(
        &mut self,
        request: Request,
        chat: String,
        before: Option<u64>,
        limit: u64,
        out: &mut Vec<Output>,
    ) {
        let waiting = self.asker.of_application();
        if waiting >= QUESTIONS_MAX {
            let full = Failed::Full { waiting, bytes: 0 };
            return out.push(Output::Answer(request, Err(full)));
        }
        self.scroll(request, chat, before, limit);
    }

    /// Asks for what is not here of the places before one, or answers that all of it is.
    fn scroll(&mut self, request: Request, chat: String, before: Option<u64>, limit: u64) {
        let top = self.chats.get(&chat).map_or(0, |chat| chat.top);
        let to = before.map_or(top, |before| top.min(before.saturating_sub(1)));
        let from = to.saturating_sub(limit.saturating_sub(1)).max(1);
        let missing = self.chats.get(&chat).and_then(|chat| chat.known.last_gap(from, to));
        let json = match missing {
            Some((from, to)) => {
                let from = from.max(to.saturating_sub(HISTORY_MAX - 1));
                serde_json::json!({ "from": from, "to": to, "limit": HISTORY_MAX })
            }
            None if top > 0 => {
                return self.later.push(Held::Answer(request, Answer::Done));
            }
            // Nothing is known of it: the newest there are.
            None => serde_json::json!({ "limit": limit.clamp(1, HISTORY_MAX) }),
        };
        let question = question(wire::topic(&chat, "history"), json.to_string());
        self.asker.put(Owner::Scroll { request, chat, before, limit }, question);
    }

    /// Asks for what is missing of chats that have changed.
    pub(super) fn ask_for_gaps(&mut self, now: Duration) {
        let looked_at: Vec<String> = self.gappy.iter().cloned().collect();
        for name in looked_at {
            let busy = self.outbox.is_busy(&name);
            let Some(chat) = self.chats.get_mut(&name) else {
                self.gappy.remove(&name);
                continue;
            };
            let Some((from, to)) = chat.missing() else {
                chat.missing_since = None;
                self.gappy.remove(&name);
                continue;
            };
            // What is missing may be just what is being sent, whose place is about to be told.
            let since = *chat.missing_since.get_or_insert(now);
            if busy && now < since + OWN_SEND {
                continue;
            }
            chat.asked = true;
            chat.missing_since = None;
            self.gappy.remove(&name);
            let to = to.min(from + HISTORY_MAX - 1);
            let json = serde_json::json!({ "from": from, "to": to, "limit": HISTORY_MAX });
            let question = question(wire::topic(&name, "history"), json.to_string());
            self.asker.put(Owner::Gap { chat: name, from, to }, question);
        }
    }

    pub(super) fn next_gap_check(&self) -> Option<Duration> {
        let since = |name: &String| self.chats.get(name).and_then(|chat| chat.missing_since);
        self.gappy.iter().filter_map(since).min().map(|since| since + OWN_SEND)
    }

    /// PUBACK of a question; whether it was one.
    pub(super) fn handle_asked(&mut self, token: u64, said: &Puback, now: Duration) -> bool {
        let sent = |(_, asked): &(&u64, &mut Asked)| asked.state == State::Sent(token);
        let Some((&number, asked)) = self.asker.asked.iter_mut().find(sent) else { return false };
        match said {
            Puback::Done { .. } if asked.question.expects == Expects::Nothing => {
                self.answer(number, Answer::Done);
            }
            Puback::Done { .. } => {
                asked.state = State::Acknowledged(now + self.config.answer_timeout);
            }
            Puback::Refused { refusal, doubtful } => {
                let signal = asked.question.expects == Expects::Nothing;
                if !signal && (*doubtful || refusal.retry_after.is_some()) {
                    asked.refusals = asked.refusals.saturating_add(1);
                    let doubled = RETRY.saturating_mul(1 << (asked.refusals - 1).min(6));
                    let wait = refusal.retry_after.unwrap_or(doubled).clamp(RETRY, RETRY_MAX);
                    asked.state = State::Later(now + wait);
                } else {
                    self.fail(number, refusal.clone());
                }
            }
        }
        true
    }

    /// A message that answers a question.
    pub(super) fn handle_answer(
        &mut self,
        chat: &str,
        request: Option<u64>,
        payload: Bytes,
        now: Duration,
    ) -> Result<(), String> {
        let Some(number) = request else { return Ok(()) };
        let Some(asked) = self.asker.asked.get(&number) else { return Ok(()) };
        // The number alone could be that of an earlier run.
        let of_chat = |prefix: &str| asked.question.topic.starts_with(&format!("chat/{prefix}/"));
        let belongs = match chat {
            NO_CHAT => asked.question.topic.starts_with("me/"),
            chat => of_chat(chat) || (of_chat("~") && chat.starts_with('~')),
        };
        if !belongs {
            return Ok(());
        }
        match asked.owner.clone() {
            Owner::Application(_) => self.answer(number, Answer::Json(payload)),
            Owner::Nobody => self.answer(number, Answer::Done),
            Owner::Room => {
                self.asker.asked.remove(&number);
                self.handle_room(chat);
            }
            Owner::Sync { missed, all } => {
                let page = wire::sync(&payload)?;
                self.asker.asked.remove(&number);
                self.handle_sync(page, missed, all, now);
            }
            Owner::Gap { chat, from, to } => {
                let history = wire::history(&chat, &payload);
                self.asker.asked.remove(&number);
                let is_empty = history.as_ref().map_or(true, |history| history.to < history.from);
                self.close_gap(&chat, from, to, is_empty);
                self.handle_history(&chat, history?);
            }
            Owner::Scroll { request, chat, before, limit } => {
                let history = wire::history(&chat, &payload)?;
                self.asker.asked.remove(&number);
                let is_empty = history.last == 0 || history.to < history.from;
                self.handle_history(&chat, history);
                if is_empty {
                    self.later.push(Held::Answer(request, Answer::Done));
                } else {
                    self.scroll(request, chat, before, limit);
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, number: u64, answer: Answer) {
        let owner = self.asker.asked.remove(&number).map(|asked| asked.owner);
        if let Some(request) = owner.and_then(|owner| owner.request()) {
            self.later.push(Held::Answer(request, answer));
        }
    }

    fn fail(&mut self, number: u64, refusal: Refusal) {
        let Some(asked) = self.asker.asked.remove(&number) else { return };
        match asked.owner {
            Owner::Application(request) | Owner::Scroll { request, .. } => {
                self.later.push(Held::Refused(request, refusal));
            }
            // There is nobody who has it: it is not to be waited for.
            Owner::Gap { chat, from, to } => self.close_gap(&chat, from, to, true),
            Owner::Sync { .. } | Owner::Room | Owner::Nobody => {}
        }
    }

    /// A question for a gap is over; `give_up` if what it asked for is never to be had.
    fn close_gap(&mut self, name: &str, from: u64, to: u64, give_up: bool) {
        let Some(chat) = self.chats.get_mut(name) else { return };
        chat.asked = false;
        if give_up {
            chat.insert_gone(from, to);
        }
        self.dirty.insert(name.to_owned());
    }

    /// The room that one sits in has a name: what was sent to `~` goes there.
    pub(super) fn handle_room(&mut self, name: &str) {
        if name == "~" || !name.starts_with('~') || self.room.as_deref() == Some(name) {
            return;
        }
        self.room = Some(name.to_owned());
        self.outbox.rename("~", name);
        self.chat_mut(name);
        self.dirty.insert(name.to_owned());
    }

    fn handle_history(&mut self, name: &str, history: wire::History) {
        let chat = self.chat_mut(name);
        chat.top = chat.top.max(history.last);
        for entry in history.entries {
            self.take_entry(entry, false);
        }
        let chat = self.chat_mut(name);
        for (from, to) in history.gone {
            chat.insert_gone(from, to);
        }
        // All of it is answered: what is neither there nor gone is not to be had.
        chat.insert_gone(history.from, history.to);
        self.dirty.insert(name.to_owned());
    }

    fn handle_sync(&mut self, page: wire::Sync, missed: bool, all: bool, now: Duration) {
        let me = self.config.user.clone();
        for one in page.chats {
            if one.chat == NO_CHAT {
                continue;
            }
            let chat = self.chat_mut(&one.chat);
            chat.handle_sync(one.last, one.read, one.unread, missed);
            chat.time = chat.time.max(one.time);
            chat.stranger = one.stranger;
            for other in one.others.iter().filter(|other| other.user != me) {
                chat.handle_other(&other.user, other.delivered, other.read);
            }
            self.dirty.insert(one.chat);
        }
        match page.next.filter(|_| all) {
            Some(next) => self.ask_sync(missed, all, Some(&next)),
            None => {
                self.asker.synced_at = Some(now);
                if all && !self.device.synced {
                    self.device.synced = true;
                    self.changes.push(crate::store::rows::put_device(&self.device));
                }
            }
        }
    }
}

fn question(topic: String, json: String) -> Question {
    Question { topic, payload: Bytes::from(json), expects: Expects::Request }
}

/// Puts the number into a JSON object.
fn with_request(object: &Bytes, number: u64) -> Bytes {
    let mut with = format!(r#"{{"request":{number}"#).into_bytes();
    let rest = object.trim_ascii().strip_prefix(b"{").map_or(&b"}"[..], <[u8]>::trim_ascii_start);
    if rest != b"}" {
        with.push(b',');
    }
    with.extend(rest);
    Bytes::from(with)
}

/// Questions whose answers are waited for, at once: the broker takes ten.
pub(super) const ASKED_MAX: usize = 4;

/// Questions of the application that wait, at once.
const QUESTIONS_MAX: usize = 64;

/// Entries of one answer; the broker gives no more.
const HISTORY_MAX: u64 = 200;

/// Chats of a page of `sync`: of all pages, and where one is enough.
const SYNC_ALL: u64 = 200;
const SYNC_SOME: u64 = 100;

/// How long after it was asked where all chats are a connection does not ask again: what is told
/// meanwhile says the same, but for ticks that were lost.
const SYNC_AGAIN: Duration = Duration::from_secs(60);

/// How long an own send may explain what is missing.
const OWN_SEND: Duration = Duration::from_secs(1);

const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_goes_into_any_object() {
        let with = |json: &'static str| with_request(&Bytes::from_static(json.as_bytes()), 7);
        assert_eq!(with("{}"), r#"{"request":7}"#);
        assert_eq!(with(" { } "), r#"{"request":7}"#);
        assert_eq!(with(r#"{"from":1}"#), r#"{"request":7,"from":1}"#);
        assert_eq!(with(""), r#"{"request":7}"#);
    }
}

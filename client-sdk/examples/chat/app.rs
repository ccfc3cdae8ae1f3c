//! What the messenger shows and what keys do to it: all of it without a terminal and a connection.
//!
//! A key comes in and an [`Action`] goes out, which `run.rs` carries out; what the client says comes
//! in as well. So each can be tried by a test, and what is drawn is a picture of this alone.

use crate::input::Input;
use crate::words::{ago, now_ms};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tidings_client::transport::Lost;
use tidings_client::{
    EntryKind, Event, Message, Presence, PresenceState, Standing, State, Typing, TypingChanged,
};

/// What is shown.
pub(crate) struct App {
    pub(crate) you: String,
    pub(crate) address: String,
    /// The chats, the most recent first.
    pub(crate) chats: Vec<Standing>,
    /// The one that is open.
    pub(crate) open: Option<String>,
    /// Its messages, in order.
    pub(crate) messages: Vec<Message>,
    /// How many rows above the newest.
    pub(crate) above: usize,
    pub(crate) input: Input,
    pub(crate) presence: BTreeMap<String, Presence>,
    /// Who types, by chat.
    pub(crate) typing: BTreeSet<(String, String, bool)>,
    pub(crate) state: State,
    /// How many sends wait for the broker.
    pub(crate) unanswered: usize,
    /// The last thing to say, until a key is pressed.
    pub(crate) note: Option<String>,
    pub(crate) help: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    /// Another chat is open.
    Open(String),
    Send {
        chat: String,
        text: String,
        reply_to: Option<u64>,
    },
    Edit {
        chat: String,
        seq: u64,
        text: String,
    },
    React {
        chat: String,
        seq: u64,
        reaction: String,
    },
    Delete {
        chat: String,
        seq: u64,
        for_everyone: bool,
    },
    Create {
        group: String,
        users: Vec<String>,
    },
    Add {
        chat: String,
        users: Vec<String>,
    },
    Remove {
        chat: String,
        users: Vec<String>,
    },
    Leave {
        chat: String,
    },
    Title {
        chat: String,
        title: String,
    },
    Info {
        chat: String,
    },
    Accept {
        user: String,
    },
    Block {
        user: String,
    },
    Typing {
        chat: String,
        state: Typing,
    },
    /// What is older than what is shown.
    Older {
        chat: String,
        before: u64,
    },
    Reconnect,
}

impl App {
    pub(crate) fn new(you: String, address: String, with: Option<String>) -> Self {
        Self {
            you,
            address,
            chats: Vec::new(),
            open: with,
            messages: Vec::new(),
            above: 0,
            input: Input::default(),
            presence: BTreeMap::new(),
            typing: BTreeSet::new(),
            state: State::Connecting,
            unanswered: 0,
            note: None,
            help: false,
        }
    }

    /// The chats as they stand now.
    pub(crate) fn set_chats(&mut self, chats: Vec<Standing>) {
        self.chats = chats;
        if self.open.is_none() {
            self.open = self.chats.first().map(|first| first.chat.clone());
        }
        // One that nobody has written in yet.
        if let Some(open) = &self.open
            && !self.chats.iter().any(|known| known.chat == *open)
        {
            let mut new = Standing::default();
            new.chat.clone_from(open);
            self.chats.insert(0, new);
        }
    }

    /// Users whose presence is of interest.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &str> {
        let direct = self.chats.iter().filter_map(|standing| standing.chat.strip_prefix('@'));
        direct.filter(|user| *user != self.you).take(WATCHED_MAX)
    }

    pub(crate) fn typing(&mut self, changed: TypingChanged) {
        let TypingChanged { chat, user, state, .. } = changed;
        self.typing.retain(|(of, who, _)| *of != chat || *who != user);
        if state != Typing::Stopped {
            self.typing.insert((chat, user, state == Typing::Recording));
        }
    }

    /// Who has written types no more.
    pub(crate) fn wrote(&mut self, chat: &str, user: &str) {
        self.typing.retain(|(of, who, _)| of != chat || who != user);
    }

    pub(crate) fn event(&mut self, event: Event) {
        match event {
            Event::State(state) => self.state = state,
            Event::NotStored { chat, refusal, .. } => {
                self.note = Some(format!("{chat} did not take it: {refusal}"));
            }
            Event::Postponed { code, retry_in, .. } => {
                self.note = Some(format!("the broker says {code}: again in {}", seconds(retry_in)));
            }
            Event::Request { user, stranger: true } => {
                self.note = Some(format!("{user} is new to you: /accept {user}, or /block {user}"));
            }
            Event::Ended { chat, .. } => self.note = Some(format!("you are no longer in {chat}")),
            Event::SubscriptionRefused { filter, reason } => {
                self.note = Some(format!("the broker refused {filter}: {reason}"));
            }
            Event::StoreFailed { cause } => self.note = Some(format!("the disk failed: {cause}")),
            Event::StoreNotice(notice) => self.note = Some(notice),
            _ => {}
        }
    }

    /// A key was pressed.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Option<Action> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if std::mem::take(&mut self.help) && !control {
            return None;
        }
        match key.code {
            KeyCode::Char('c' | 'q') if control => return Some(Action::Quit),
            KeyCode::Char('r') if control => return Some(Action::Reconnect),
            KeyCode::Char('h') if control => self.help = true,
            KeyCode::F(1) => self.help = true,
            KeyCode::Tab => return self.step(1),
            KeyCode::BackTab => return self.step(-1),
            KeyCode::Down if self.input.is_empty() => return self.step(1),
            KeyCode::Up if self.input.is_empty() => return self.step(-1),
            KeyCode::PageUp => {
                self.above += PAGE;
                return self.older();
            }
            KeyCode::PageDown => self.above = self.above.saturating_sub(PAGE),
            KeyCode::Esc => {
                self.input.take();
                (self.above, self.note) = (0, None);
            }
            KeyCode::Enter => return self.enter(),
            _ => {
                if !self.input.key(key) {
                    return None;
                }
                self.note = None;
                let command = self.input.text().starts_with('/');
                let chat = self.open.clone().filter(|_| !command)?;
                let state = if self.input.is_empty() { Typing::Stopped } else { Typing::Typing };
                return Some(Action::Typing { chat, state });
            }
        }
        None
    }

    /// Text that was pasted.
    pub(crate) fn paste(&mut self, text: &str) {
        self.input.paste(text);
    }

    /// Opens the next chat of the list, or the one before.
    fn step(&mut self, by: isize) -> Option<Action> {
        let count = isize::try_from(self.chats.len()).ok().filter(|count| *count > 0)?;
        let at = self.chats.iter().position(|known| Some(&known.chat) == self.open.as_ref());
        let at = at.and_then(|at| isize::try_from(at).ok()).unwrap_or(-by);
        let next = usize::try_from((at + by).rem_euclid(count)).ok()?;
        let chat = self.chats.get(next)?.chat.clone();
        self.open(chat)
    }

    fn open(&mut self, chat: String) -> Option<Action> {
        if self.open.as_ref() != Some(&chat) {
            self.messages.clear();
        }
        self.above = 0;
        self.open = Some(chat.clone());
        let chats = std::mem::take(&mut self.chats);
        self.set_chats(chats);
        Some(Action::Open(chat))
    }

    fn older(&self) -> Option<Action> {
        let first = self.messages.first().filter(|first| first.seq > 1)?;
        Some(Action::Older { chat: self.open.clone()?, before: first.seq })
    }

    fn enter(&mut self) -> Option<Action> {
        let text = self.input.take();
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        self.above = 0;
        if let Some(command) = text.strip_prefix('/').filter(|rest| !rest.starts_with('/')) {
            return match self.command(command) {
                Ok(action) => action,
                Err(usage) => {
                    self.note = Some(usage.into());
                    None
                }
            };
        }
        let Some(chat) = self.open.clone() else {
            self.note = Some("nobody to write to: /chat bob opens a chat".into());
            return None;
        };
        // Two strokes are one that is meant.
        let text = if text.starts_with("//") { &text[1..] } else { text };
        Some(Action::Send { chat, text: text.into(), reply_to: None })
    }

    fn command(&mut self, line: &str) -> Result<Option<Action>, &'static str> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (rest, open) = (rest.trim(), self.open.clone());
        let names = || rest.split_whitespace().map(|name| name.trim_start_matches('@').to_owned());
        let chat = || open.clone().ok_or("open a chat first: /chat bob");
        let group = || {
            chat().and_then(|chat| {
                if chat.starts_with(['@', '~']) { Err("that is for groups") } else { Ok(chat) }
            })
        };
        let about = |usage, own| -> Result<(u64, String), &'static str> {
            let (seq, text) = rest.split_once(' ').unwrap_or((rest, ""));
            Ok((self.numbered(seq, own).ok_or(usage)?, text.trim().to_owned()))
        };
        Ok(Some(match verb {
            "chat" | "c" => {
                let name = rest.split_whitespace().next().ok_or("/chat bob, or /chat climbing")?;
                let known = self.chats.iter().any(|known| known.chat == name);
                let group = known || name.starts_with(['@', '~', '!']);
                let chat = if group { name.to_owned() } else { format!("@{name}") };
                return Ok(self.open(chat));
            }
            "group" | "g" => {
                let mut names = names();
                let group = names.next().ok_or("/group climbing bob carol")?;
                let action = Action::Create { group: group.clone(), users: names.collect() };
                self.open(group);
                action
            }
            "add" if !rest.is_empty() => Action::Add { chat: group()?, users: names().collect() },
            "add" => return Err("/add carol dave"),
            "remove" if !rest.is_empty() => {
                Action::Remove { chat: group()?, users: names().collect() }
            }
            "remove" => return Err("/remove carol"),
            "leave" => Action::Leave { chat: group()? },
            "title" => Action::Title { chat: group()?, title: rest.into() },
            "info" | "who" => Action::Info { chat: chat()? },
            "accept" => Action::Accept { user: names().next().ok_or("/accept bob")? },
            "block" => Action::Block { user: names().next().ok_or("/block bob")? },
            "reply" | "r" => {
                let (seq, text) = about("/reply 12 text: the number is beside the time", false)?;
                Action::Send { chat: chat()?, text, reply_to: Some(seq) }
            }
            "edit" | "e" => {
                let (seq, text) = about("/edit 12 text: the number is beside the time", true)?;
                Action::Edit { chat: chat()?, seq, text }
            }
            "react" => {
                let (seq, reaction) = about("/react 12 +1: the number is beside the time", false)?;
                Action::React { chat: chat()?, seq, reaction }
            }
            "delete" | "d" => {
                let (seq, whose) = about("/delete 12, or /delete 12 everyone", true)?;
                Action::Delete { chat: chat()?, seq, for_everyone: whose == "everyone" }
            }
            "reconnect" => Action::Reconnect,
            "quit" | "q" => Action::Quit,
            _ => {
                self.help = true;
                return Ok(None);
            }
        }))
    }

    /// The message that is meant by a number, or by `-`: the newest, or one's own newest.
    fn numbered(&self, text: &str, own: bool) -> Option<u64> {
        if let Ok(seq) = text.parse() {
            return Some(seq);
        }
        let said = |message: &&Message| message.kind == EntryKind::Message && message.seq > 0;
        let mut said = self.messages.iter().rev().filter(said);
        let newest = said.find(|message| !own || message.from == self.you);
        newest.filter(|_| text == "-").map(|message| message.seq)
    }

    /// What is beside the name of the open chat: who types there, or whether the other one is there.
    pub(crate) fn about_open(&self) -> Option<String> {
        let open = self.open.as_ref()?;
        let types: Vec<&(String, String, bool)> =
            self.typing.iter().filter(|(chat, ..)| chat == open).collect();
        if let Some((_, user, recording)) = types.first() {
            let what = if *recording { "is recording…" } else { "is typing…" };
            let others = if types.len() > 1 { " and others: one" } else { "" };
            return Some(format!("{user}{others} {what}"));
        }
        let user = open.strip_prefix('@')?;
        if user == self.you {
            return Some("notes to yourself".into());
        }
        self.presence.get(user).map(described)
    }

    /// The connection in a few words, and whether it is there.
    pub(crate) fn connection(&self) -> (bool, String) {
        let waits = match self.unanswered {
            0 => String::new(),
            1 => ", 1 waits to be sent".into(),
            count => format!(", {count} wait to be sent"),
        };
        match &self.state {
            State::Online => (true, format!("{} at {}{waits}", self.you, self.address)),
            State::Connecting => (false, format!("connecting to {}{waits}", self.address)),
            State::Offline { reason: Lost::Unreachable { .. }, .. } => (
                false,
                format!("no broker at {}: `cargo run --release` starts one{waits}", self.address),
            ),
            State::Offline { reason, retry_in: Some(retry_in) } => {
                (false, format!("{reason}; again in {}{waits}", seconds(*retry_in)))
            }
            State::Offline { reason, retry_in: None } => {
                (false, format!("{reason}; Ctrl-R connects again{waits}"))
            }
            _ => (false, "closed".into()),
        }
    }
}

/// Whether somebody is there, in words.
fn described(presence: &Presence) -> String {
    match (presence.state, presence.last_seen) {
        (PresenceState::Online, _) => "online".into(),
        (PresenceState::Away, _) => "away".into(),
        (PresenceState::Offline, Some(time)) => {
            format!("last seen {}", ago(now_ms().saturating_sub(time)))
        }
        (PresenceState::Offline, None) => "offline".into(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f32().ceil())
}

/// How many rows PgUp and PgDn move.
const PAGE: usize = 10;

/// How many users' presence is watched.
const WATCHED_MAX: usize = 64;

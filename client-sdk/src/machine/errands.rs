//! Commands of the application, and what follows from the broker's answer to a durable one.

use super::io::{Answer, Command, Errand, Failed, Output, Request, Told};
use super::{Held, Link, Machine};
use crate::entry::{Body, Entry, EntryKind, Event, Typing};
use crate::error::Refusal;
use crate::store::rows::{self, ErrandRow};
use crate::transport::{Lost, Outgoing};
use crate::wire::{self, NO_CHAT, Puback};
use bytes::Bytes;
use std::time::Duration;

impl Machine {
    pub(super) fn handle_command(
        &mut self,
        request: Request,
        command: Command,
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let refused = match &self.failed {
            Some(cause) => Some(Failed::Disk(cause.clone())),
            None => self.closing.then_some(Failed::Closed),
        };
        match (command, refused) {
            (Command::Close, _) => self.closing = true,
            (
                Command::Do(_) | Command::Read { .. } | Command::Ask(_) | Command::Fetch { .. },
                Some(failed),
            ) => out.push(Output::Answer(request, Err(failed))),
            (_, Some(_)) => {}
            (Command::Do(errand), None) => self.handle_do(request, errand, out),
            (Command::Ask(question), None) => self.handle_ask(request, question, out),
            (Command::Fetch { chat, before, limit }, None) => {
                let chat = self.named(chat);
                self.handle_fetch(request, chat, before, limit, out);
            }
            (Command::Read { chat, seq }, None) => {
                let name = self.named(chat);
                if let Some(chat) = self.chats.get_mut(&name)
                    && chat.handle_read(seq.min(chat.here()))
                {
                    self.reads_due.insert(name.clone());
                    self.dirty.insert(name);
                }
                self.later.push(Held::Answer(request, Answer::Taken));
            }
            (Command::Taken { chat: name, seq }, None) => {
                if let Some(chat) = self.chats.get_mut(&name)
                    && chat.taken < seq
                {
                    chat.taken = seq;
                    self.lazy.insert(name);
                }
            }
            (Command::Typing { chat, state }, None) => self.handle_typing(&chat, state, now, out),
            (Command::Watch { user, watch }, None) => self.watch.want(user, watch),
            (Command::Away(away), None) => {
                if self.away != away && self.is_online() {
                    let json = if away { r#"{"away":true}"# } else { r#"{"away":false}"# };
                    self.ask_nobody("me/state", Bytes::from_static(json.as_bytes()));
                }
                self.away = away;
            }
            (Command::NetworkChanged, None) => self.handle_network_changed(now, out),
        }
    }

    fn handle_network_changed(&mut self, now: Duration, out: &mut Vec<Output>) {
        self.keep_alive.handle_network_changed();
        self.backoff.reset();
        match self.link {
            // What it went over may be no more, and nobody would say so for a while.
            Link::Online { .. } | Link::Connecting => {
                out.push(Output::Cut);
                let cause = "the network changed".to_owned();
                self.handle_lost(Lost::Ended { cause }, now, out);
                self.backoff.reset();
            }
            Link::Leaving(_) => return,
            Link::Stopped | Link::Waiting(_) => {}
        }
        self.link = Link::Waiting(now);
    }

    fn handle_typing(&mut self, chat: &str, state: Typing, now: Duration, out: &mut Vec<Output>) {
        if self.is_online() && self.watch.say(chat, state, now) {
            let payload = Bytes::from_static(state.name().as_bytes());
            let token = self.token();
            let mut publish = Outgoing::new(token, wire::topic(chat, "typing"), payload);
            publish.at_most_once = true;
            out.push(Output::Publish(publish));
        }
    }

    fn handle_do(&mut self, request: Request, errand: Errand, out: &mut Vec<Output>) {
        let (waiting, bytes) = (self.outbox.len(), self.outbox.bytes());
        let over = bytes.saturating_add(errand.payload.len()) > self.config.outbox_bytes_max;
        if waiting >= self.config.outbox_sends_max || over {
            let full = Failed::Full { waiting, bytes };
            return out.push(Output::Answer(request, Err(full)));
        }
        let Errand { chat, verb, id, payload, content_type, reference, time } = errand;
        let (chat, payload) = (self.named(chat), payload.to_vec());
        let row = ErrandRow { chat, verb, id, payload, content_type, reference, time };
        self.last_errand += 1;
        let number = self.last_errand;
        self.changes.push(rows::put_errand(number, &row));
        self.dirty.insert(row.chat.clone());
        self.outbox.insert(number, row);
        self.later.push(Held::Safe(number));
        self.later.push(Held::Answer(request, Answer::Taken));
    }

    /// A chat's name in the store: `~` is the room that one sits in.
    fn named(&self, chat: String) -> String {
        match &self.room {
            Some(room) if chat == "~" => room.clone(),
            _ => chat,
        }
    }

    /// PUBACK, of whatever it was.
    pub(super) fn handle_acknowledged(&mut self, token: u64, said: Puback, now: Duration) {
        if let Some((chat, seq)) = self.reading.remove(&token) {
            // A refused one would be refused again.
            if let Some(known) = self.chats.get_mut(&chat) {
                known.read_told = known.read_told.max(seq);
                if known.read > known.read_told {
                    self.reads_due.insert(chat.clone());
                }
                self.lazy.insert(chat);
            }
            return;
        }
        let Some(number) = self.outbox.under_way(token) else {
            self.handle_asked(token, &said, now);
            return;
        };
        match said {
            Puback::Done { seq, time } => self.finish(number, Ok((seq, time))),
            Puback::Refused { refusal, doubtful } => self.refuse(number, refusal, doubtful, now),
        }
    }

    /// The broker refused an errand, for a while or for good.
    pub(super) fn refuse(&mut self, number: u64, refusal: Refusal, doubtful: bool, now: Duration) {
        if !doubtful && refusal.retry_after.is_none() {
            return self.finish(number, Err(refusal));
        }
        let retry_in = self.outbox.postpone(number, refusal.retry_after, now);
        let Some(row) = self.outbox.get(number) else { return };
        let (chat, id, code) = (row.chat.clone(), row.id.clone(), refusal.code);
        self.tell(Event::Postponed { chat, id, code, retry_in });
    }

    /// The broker has answered an errand for good: with the place and time of its entry, if any.
    pub(super) fn finish(
        &mut self,
        number: u64,
        result: Result<(Option<u64>, Option<u64>), Refusal>,
    ) {
        let Some(row) = self.outbox.finish(number) else { return };
        match result {
            Ok((Some(seq), time)) => self.handle_own(&row, seq, time.unwrap_or(row.time)),
            // Done before: a group that was made when its PUBACK was lost has a place to be asked.
            Ok((None, _)) if row.chat != NO_CHAT => self.ask_sync(false, false, None),
            Ok(_) | Err(_) => {}
        }
        // Behind its entry: a crash between the two has it sent, and answered, once more.
        self.changes.push(rows::delete_errand(number));
        if row.chat != NO_CHAT {
            self.dirty.insert(row.chat.clone());
        }
        let result = result.map(|(seq, _)| seq);
        self.later.push(Held::Tell(Told::Outcome { chat: row.chat, id: row.id, result }));
    }

    /// What this device did is an entry now, which it is not told of otherwise.
    fn handle_own(&mut self, row: &ErrandRow, seq: u64, time: u64) {
        let mut verb = row.verb.split('/');
        let (kind, about) = (verb.next().unwrap_or_default(), verb.next());
        let about = about.and_then(|seq| seq.parse::<u64>().ok());
        let kind = match kind {
            "send" => EntryKind::Message,
            "edit" => EntryKind::Edit,
            "react" => EntryKind::Reaction,
            "delete" | "end" => EntryKind::Delete,
            // The words of such an entry are the broker's: its place is missing, and asked for.
            _ => {
                let chat = self.chat_mut(&row.chat);
                chat.want_from(seq);
                chat.top = chat.top.max(seq);
                return;
            }
        };
        let (reference, body) = match kind {
            EntryKind::Message => (row.reference, Body::of(&row.payload)),
            EntryKind::Delete if about.is_none() => {
                (Some(seq.saturating_sub(1)), Body::Text("all".to_owned()))
            }
            _ => (about, Body::of(&row.payload)),
        };
        let chat = self.chat_mut(&row.chat);
        chat.want_from(seq);
        self.take_entry(
            Entry {
                chat: row.chat.clone(),
                seq,
                from: self.config.user.clone(),
                time,
                id: row.id.clone(),
                body,
                kind,
                reference,
                content_type: row.content_type.clone(),
                expires: None,
                own: true,
            },
            false,
        );
    }
}

/// The packet of an errand.
pub(super) fn publish_of(token: u64, row: &ErrandRow) -> Outgoing {
    let payload = Bytes::copy_from_slice(&row.payload);
    let mut publish = Outgoing::new(token, wire::topic(&row.chat, &row.verb), payload);
    publish.content_type.clone_from(&row.content_type);
    if let Some(reference) = row.reference {
        publish.properties.push(("ref".to_owned(), reference.to_string()));
    }
    publish
}

//! What the broker publishes: entries, answers, ticks, news.

use super::chat::Chat;
use super::io::Told;
use super::{Held, Machine};
use crate::entry::{Entry, EntryKind, Event, Receipt};
use crate::store::rows;
use crate::wire::{self, Heard};
use bytes::Bytes;
use std::time::Duration;

impl Machine {
    pub(super) fn handle_received(
        &mut self,
        topic: &str,
        payload: Bytes,
        packet: Option<u16>,
        now: Duration,
    ) {
        let heard = wire::parse(topic, &payload)
            .and_then(|(chat, heard)| self.handle_heard(chat, heard, payload, now));
        if let Err(cause) = heard {
            self.tell(Event::Unreadable { topic: topic.to_owned(), cause });
        }
        // Behind all that it brought, once that is safe; in the order of arrival [MQTT-4.6.0-2].
        if let Some(packet) = packet {
            self.later.push(Held::Acknowledge { connection: self.connection, packet });
        }
    }

    fn handle_heard(
        &mut self,
        chat: &str,
        heard: Heard,
        payload: Bytes,
        now: Duration,
    ) -> Result<(), String> {
        if chat.starts_with('~') && self.config.user.starts_with('~') {
            self.handle_room(chat);
        }
        match heard {
            Heard::Entries(entries) => {
                for entry in entries {
                    self.take_entry(entry, true);
                }
            }
            Heard::Acked { id, seq, time } => {
                if let Some(number) = self.outbox.find(chat, &id) {
                    self.finish(number, Ok((Some(seq), Some(time))));
                }
            }
            Heard::Refused { id, refusal } => {
                // Of what is not under way it is old: PUBACK has said it, or a connection ended.
                let number = self.outbox.find(chat, &id);
                if let Some(number) = number.filter(|number| self.outbox.is_open(*number))
                    && refusal.retry_after.is_none()
                {
                    self.refuse(number, refusal, false, now);
                }
            }
            Heard::Answer { request } => {
                return self.handle_answer(chat, request, payload, now);
            }
            Heard::Receipt(receipt) => self.handle_receipt(chat, receipt),
            Heard::Presence(presence) => {
                let told = self.watch.handle_presence(presence);
                self.later.extend(told.map(Held::Tell));
            }
            Heard::Typing { user, state } => {
                let told = self.watch.handle_typing(chat.to_owned(), user, state, now);
                self.later.extend(told.map(Held::Tell));
            }
            Heard::Ended { why } => self.handle_ended(chat, why),
            Heard::Event(event) => {
                if let Event::Request { stranger, .. } = &event {
                    let stranger = *stranger;
                    self.chat_mut(chat).stranger = stranger;
                    self.dirty.insert(chat.to_owned());
                }
                if let Event::Paired { chat, .. } = &event {
                    self.handle_room(chat);
                }
                self.tell(event);
            }
            Heard::Other => {}
        }
        Ok(())
    }

    fn handle_ended(&mut self, name: &str, why: Option<String>) {
        let chat = self.chat_mut(name);
        chat.ended = true;
        self.dirty.insert(name.to_owned());
        if self.room.as_deref() == Some(name) {
            self.room = None;
        }
        self.tell(Event::Ended { chat: name.to_owned(), why });
    }

    fn handle_receipt(&mut self, name: &str, receipt: Receipt) {
        let me = self.config.user.clone();
        if let Some(chat) = self.chats.get_mut(name)
            && let Receipt::User { user, delivered, read, .. } = &receipt
        {
            let changed = if *user == me {
                // Read on another device of one's own.
                let changed = chat.handle_read(*read);
                chat.read_told = chat.read_told.max(*read);
                changed
            } else {
                chat.handle_other(user, *delivered, *read)
            };
            if changed {
                self.lazy.insert(name.to_owned());
                let waiting = self.outbox.waiting(name);
                let standing = chat.standing(name, waiting);
                self.later.push(Held::Tell(Told::Chat(Box::new(standing))));
            }
        }
        self.later.push(Held::Tell(Told::Receipt(receipt)));
    }

    pub(super) fn chat_mut(&mut self, name: &str) -> &mut Chat {
        self.chats.entry(name.to_owned()).or_default()
    }

    /// An entry, `live` as it was delivered, or from history; one that is here already changes
    /// nothing.
    pub(super) fn take_entry(&mut self, entry: Entry, live: bool) {
        let name = entry.chat.clone();
        let mine = entry.from == self.config.user;
        // One's own that history brings, ahead of the PUBACK or in its place.
        if mine
            && !entry.own
            && let Some(number) = self.outbox.find(&name, &entry.id)
        {
            self.finish(number, Ok((Some(entry.seq), Some(entry.time))));
            return;
        }
        let me = self.config.user.clone();
        let position = self.written + 1;
        let chat = self.chat_mut(&name);
        if live {
            chat.want_from(entry.seq);
            chat.ended = false;
        }
        if !chat.insert(&entry, &me) {
            return;
        }
        chat.fresh.push((position, entry.seq));
        rows::put_entry(&entry, &mut self.changes);
        if entry.kind == EntryKind::Delete {
            self.handle_delete(&entry);
        }
        self.dirty.insert(name);
    }

    /// What a deletion is about goes from here as well.
    fn handle_delete(&mut self, entry: &Entry) {
        let Some(about) = entry.reference else { return };
        let from = if entry.body.text() == Some("all") { 1 } else { about };
        rows::delete_entries(&entry.chat, from, about, &mut self.changes);
        self.chat_mut(&entry.chat).forget(from, about);
    }
}

//! Rows beside those that every chat and user has: what is set for a chat, what is hidden, where its
//! key is, what is due, and what devices have left.
//!
//! What is beside a head is read with it, before the log.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_core::record::{KeyBuilder, KeyRange, RowKind};
use tidings_core::slot::Slot;
use tidings_core::time::Time;

use super::{ChatRow, Family, RowValue, UserRow, chat_key, user_key};
use crate::group::Retention;
use crate::topics::ChatId;

pub(crate) fn due_key(chat: ChatId) -> Bytes {
    let key = KeyBuilder::new(chat.slot(), RowKind::Service).byte(Family::Due as u8);
    key.raw(&chat.0).build()
}

/// A key of a chat of this slot that is to go for good.
pub(crate) fn doomed_key(slot: Slot, place: u64) -> Bytes {
    KeyBuilder::new(slot, RowKind::Service).byte(Family::Doomed as u8).number(place).build()
}

/// Everything that is due of the chats of a slot, and behind it all keys that are to go.
pub(crate) fn due_range(slot: Slot) -> KeyRange {
    let due = KeyBuilder::new(slot, RowKind::Service).byte(Family::Due as u8).prefix();
    let doomed = KeyBuilder::new(slot, RowKind::Service).byte(Family::Doomed as u8).prefix();
    KeyRange { end: doomed.end, ..due }
}

/// The place of a key that is to go; nothing if the row is another.
pub(crate) fn doomed_place(key: &[u8]) -> Option<u64> {
    let (family, place) = key.get(2..)?.split_first()?;
    (*family == Family::Doomed as u8).then_some(u64::from_be_bytes(place.try_into().ok()?))
}

/// What a member does not want to see, likewise.
pub(crate) fn hidden_key(chat: ChatId, user: &str) -> Bytes {
    chat_key(chat, ChatRow::Head).byte(HIDDEN).raw(user.as_bytes()).build()
}

/// What is set for a chat, likewise.
pub(crate) fn settings_key(chat: ChatId) -> Bytes {
    chat_key(chat, ChatRow::Head).byte(SETTINGS).build()
}

/// Where the key of its content is, likewise.
pub(crate) fn key_key(chat: ChatId) -> Bytes {
    chat_key(chat, ChatRow::Head).byte(KEY).build()
}

/// What a device of a user has left.
pub(crate) fn note_key(user: &str, kind: NoteKind, client_id: &str) -> Bytes {
    let row = match kind {
        NoteKind::Push => UserRow::Push,
        NoteKind::Keys => UserRow::Keys,
    };
    user_key(user, row).raw(client_id.as_bytes()).build()
}

/// What there is beside a head: see [`HeadPart`].
pub(super) const AUTHORS: u8 = 1;
const HIDDEN: u8 = 2;
const SETTINGS: u8 = 3;
const KEY: u8 = 4;

/// What a row of the sort [`ChatRow::Head`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadPart<'a> {
    Head,
    Authors,
    /// Of this member.
    Hidden(&'a str),
    Settings,
    Key,
}

impl<'a> HeadPart<'a> {
    /// By what stands behind the sort in its key.
    pub(crate) fn of(rest: &'a [u8]) -> Option<Self> {
        match rest {
            [] => Some(Self::Head),
            [AUTHORS] => Some(Self::Authors),
            [HIDDEN, user @ ..] => std::str::from_utf8(user).ok().map(Self::Hidden),
            [SETTINGS] => Some(Self::Settings),
            [KEY] => Some(Self::Key),
            _ => None,
        }
    }
}

/// What a member does not want to see: first and last entry of each range, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct HiddenRow {
    pub(crate) ranges: Vec<(u64, u64)>,
}

/// What is set for a chat, and what follows from it; none where all is as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SettingsRow {
    /// After how many seconds the content of what comes goes; 0 for never.
    pub(crate) timer: u64,
    pub(crate) retention: Retention,
    /// The last entry whose row was written a second time.
    pub(crate) rewritten: u64,
    /// The first entry that is in memory only, if that is what is set.
    pub(crate) memory_from: u64,
}

/// Where the key is with which content is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    /// Its place in the vault; none while there is none.
    pub(crate) place: Option<u64>,
    /// The first entry of this key: the keys of those before are destroyed.
    pub(crate) since: u64,
    /// What is before this one was never sealed.
    pub(crate) clear_to: u64,
}

/// What a device has left with the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoteRow {
    pub(crate) text: String,
}

/// What such a thing is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoteKind {
    /// Where it is woken.
    Push,
    /// Its public keys.
    Keys,
}

/// That something of a chat goes by time: what finds it although nobody asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DueRow {
    pub(crate) at: Time,
    /// Of a direct chat.
    pub(crate) members: Vec<String>,
    pub(crate) group: Option<String>,
}

impl RowValue for NoteRow {}
impl RowValue for SettingsRow {}
impl RowValue for DueRow {}
impl RowValue for KeyRow {}
impl RowValue for HiddenRow {}

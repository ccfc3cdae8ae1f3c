//! A conversation as people see it: messages with their edits, reactions and ticks.

use crate::entry::{Body, Entry, EntryKind};
use crate::error::StoreError;
use crate::machine::Standing;
use crate::store::{Store, rows};
use std::collections::BTreeMap;

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Its place; 0 while the broker has not stored it.
    pub seq: u64,
    /// Who wrote it.
    pub from: String,
    /// When, in ms since 1970, by the broker's clock; by the device's while it waits.
    pub time: u64,
    /// Its id.
    pub id: String,
    /// What it says, as last edited.
    pub body: Body,
    /// Content type, when the sender gave one.
    pub content_type: Option<String>,
    /// The message that it replies to.
    pub reply_to: Option<u64>,
    /// Whether it was edited.
    pub edited: bool,
    /// What others, and oneself, make of it, by user.
    pub reactions: BTreeMap<String, String>,
    /// How far it is.
    pub ticks: Ticks,
    /// [`EntryKind::Message`], or [`EntryKind::System`] for what changed the chat.
    pub kind: EntryKind,
}

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ticks {
    /// Of somebody else.
    None,
    /// On this device only: it will be sent.
    Waiting,
    /// ✓ The broker has stored it.
    Stored,
    /// ✓✓ A device of each other whose ticks are known has it.
    Delivered,
    /// Blue ✓✓: they all have read it.
    Read,
}

impl Ticks {
    /// As it is written: ``, `…`, `✓`, `✓✓`, and `✓✓` once more for read: colour tells.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Waiting => "…",
            Self::Stored => "✓",
            Self::Delivered | Self::Read => "✓✓",
        }
    }
}

/// The ticks of one's own message at a place.
pub(crate) fn ticks(standing: Option<&Standing>, seq: u64) -> Ticks {
    let others = standing.map(|standing| standing.others.as_slice()).unwrap_or_default();
    if others.is_empty() {
        Ticks::Stored
    } else if others.iter().all(|(_, _, read)| *read >= seq) {
        Ticks::Read
    } else if others.iter().all(|(_, delivered, _)| *delivered >= seq) {
        Ticks::Delivered
    } else {
        Ticks::Stored
    }
}

/// The last `limit` messages before a place, in order, as far as they are here; those that wait
/// at the end, if the newest are wanted.
pub(crate) fn page(
    store: &dyn Store,
    user: &str,
    chat: &str,
    standing: Option<&Standing>,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<Message>, StoreError> {
    let mut found = Vec::new();
    if before.is_none() {
        found = waiting(store, user, chat, limit)?;
        found.reverse();
    }
    let mut to = before.map_or(u64::MAX - 1, |before| before.saturating_sub(1));
    while found.len() < limit && to > 0 {
        let entries = rows::entries(store, chat, 1, to, true, PAGE)?;
        let Some(first) = entries.first() else { break };
        to = first.seq.saturating_sub(1);
        let shown = |entry: &Entry| matches!(entry.kind, EntryKind::Message | EntryKind::System);
        for entry in entries.into_iter().rev().filter(shown) {
            if found.len() < limit {
                found.push(message(store, user, standing, entry)?);
            }
        }
    }
    found.reverse();
    Ok(found)
}

fn message(
    store: &dyn Store,
    user: &str,
    standing: Option<&Standing>,
    entry: Entry,
) -> Result<Message, StoreError> {
    let own = entry.own || entry.from == user;
    let mut message = Message {
        seq: entry.seq,
        ticks: if own && entry.kind == EntryKind::Message {
            ticks(standing, entry.seq)
        } else {
            Ticks::None
        },
        from: entry.from,
        time: entry.time,
        id: entry.id,
        body: entry.body,
        content_type: entry.content_type,
        reply_to: entry.reference,
        edited: false,
        reactions: BTreeMap::new(),
        kind: entry.kind,
    };
    for about in rows::about(store, &entry.chat, entry.seq)? {
        match about.kind {
            // The server holds to it too, but knows old authors by a short hash only.
            EntryKind::Edit if about.from == message.from => {
                (message.body, message.edited) = (about.body, true);
            }
            EntryKind::Reaction => match about.body.text() {
                Some(text) if !text.is_empty() => {
                    message.reactions.insert(about.from, text.to_owned());
                }
                _ => drop(message.reactions.remove(&about.from)),
            },
            _ => {}
        }
    }
    Ok(message)
}

/// The last messages of a chat that the broker has not answered.
fn waiting(
    store: &dyn Store,
    user: &str,
    chat: &str,
    limit: usize,
) -> Result<Vec<Message>, StoreError> {
    let mut found: Vec<Message> = rows::errands(store)?
        .into_iter()
        .filter(|row| row.chat == chat && row.verb.starts_with("send/"))
        .map(|row| Message {
            seq: 0,
            from: user.to_owned(),
            time: row.time,
            id: row.id,
            body: Body::of(&row.payload),
            content_type: row.content_type,
            reply_to: row.reference,
            edited: false,
            reactions: BTreeMap::new(),
            ticks: Ticks::Waiting,
            kind: EntryKind::Message,
        })
        .collect();
    found.drain(..found.len().saturating_sub(limit));
    Ok(found)
}

/// Entries that are read at a time.
const PAGE: usize = 64;

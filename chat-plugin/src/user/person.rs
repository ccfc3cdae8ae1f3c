//! A user in memory: her devices, her chats, her presence, and what waits for her rows.
//!
//! She can be there before her rows are: what needs them waits in `waiting`, all else goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidings_core::hook::{SessionId, TEMPORARY, Tag};
use tidings_core::rate::Bucket;
use tidings_core::record::Row;
use tidings_core::slot::ShardId;
use tidings_core::time::Time;

use super::note::Notes;
use super::rates::Pace;
use super::sync::Page;
use super::ties::Setting;
use super::watch::Watcher;
use crate::call::{PushTarget, Reply};
use crate::map::{Map, map};
use crate::peer::{DeviceOf, Post, PresenceState, Question};
use crate::rows::{
    DeviceRow, NoteKind, NoteRow, PresenceRow, RowValue, StateRow, UserChatRow, UserContactRow,
    UserGroupRow, UserLeftRow, UserRow, is_of_contact, is_of_group, is_of_left, split_user_key,
};
use crate::ties::{PeerRow, Privacy, SeenRow, Watching};
use crate::topics::{ChatId, OWN_ROOM, Place};

/// A user in memory.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Arc<str>,
    /// Whether her rows have been read.
    pub(super) loaded: bool,
    /// Those that are connected.
    pub(super) sessions: Vec<SessionId>,
    /// Persistent ones, by Client Identifier.
    pub(super) devices: BTreeMap<Arc<str>, DeviceRow>,
    /// Those of them that take several entries in one message.
    pub(super) batching: BTreeSet<Arc<str>>,
    pub(super) chats: BTreeMap<ChatId, Arc<Place>>,
    /// Groups of them that she is in no more.
    pub(super) left: BTreeSet<ChatId>,
    /// With whom of them she has written herself.
    pub(super) contacts: BTreeSet<Arc<str>>,
    /// Whom she blocks, and whom she has accepted.
    pub(super) peers: BTreeMap<Arc<str>, PeerRow>,
    pub(super) privacy: Privacy,
    /// When her devices were last there.
    pub(super) seen: BTreeMap<Arc<str>, Time>,
    /// What they have left.
    pub(super) notes: Notes,
    /// Places by what she calls them: spares the hash.
    pub(super) places: Map<Box<str>, Arc<Place>>,
    pub(super) presence: PresenceState,
    /// Her last session has ended, and she is not offline yet.
    pub(super) gone: Option<Gone>,
    pub(super) watchers: BTreeMap<(ShardId, SessionId), Watcher>,
    /// Whether they are still to hear of a change.
    pub(super) untold: bool,
    /// When she was last heard typing, by chat.
    pub(super) typing: BTreeMap<ChatId, Time>,
    /// How fast she may still send.
    pub(super) pace: Pace,
    /// What waits for her rows.
    pub(super) waiting: Vec<Later>,
    /// Where she waits to be paired.
    pub(super) pool: Option<Arc<str>>,
    /// How fast she may still send signals.
    pub(super) signals: Bucket,
}

/// Somebody who has gone without a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    pub(super) since: Time,
    /// When it counts.
    pub(super) until: Time,
    /// Whether a will brings that forward.
    pub(super) by_will: bool,
}

/// What needs a user's rows.
#[derive(Debug)]
pub(super) enum Later {
    Begin { place: Arc<Place>, by: Option<Arc<str>>, since: Time },
    Knows { place: Arc<Place> },
    Setting { setting: Setting, ask: Box<Question> },
    Forget { place: Arc<Place> },
    Left { place: Arc<Place> },
    Ended { client_id: Arc<str>, session: SessionId },
    Watch { by: Box<Watching> },
    Look { session: SessionId, at: Arc<str> },
    Ahead { device: DeviceOf, tags: Vec<Tag> },
    Send { place: Arc<Place>, post: Box<Post> },
    Sync { ask: Box<Question>, page: Page },
    Keys { by: Arc<str>, ask: Box<Question> },
    Pushes { reply: Reply<Vec<PushTarget>> },
}

impl User {
    /// One whose rows have not been read.
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            loaded: false,
            sessions: Vec::new(),
            devices: BTreeMap::new(),
            batching: BTreeSet::new(),
            chats: BTreeMap::new(),
            left: BTreeSet::new(),
            contacts: BTreeSet::new(),
            peers: BTreeMap::new(),
            privacy: Privacy::default(),
            seen: BTreeMap::new(),
            notes: Notes::new(),
            places: map(),
            presence: PresenceState::default(),
            gone: None,
            watchers: BTreeMap::new(),
            untold: false,
            typing: BTreeMap::new(),
            pace: Pace::default(),
            waiting: Vec::new(),
            pool: None,
            signals: Bucket::default(),
        }
    }

    /// One of whom nothing is kept: there are no rows to wait for.
    pub(super) fn temporary(name: Arc<str>) -> Self {
        let seat = Place::of_seat(&name);
        let chats = seat.into_iter().map(|place| (place.id, place)).collect();
        Self { loaded: true, chats, ..Self::new(name) }
    }

    /// The room that she calls `chat`, if she is in it.
    pub(super) fn room(&self, chat: &str) -> Option<&Arc<Place>> {
        let room = match chat {
            OWN_ROOM => self.chats.values().next(),
            name => self.chats.get(&ChatId::named(name)),
        };
        room.filter(|place| place.is_room())
    }

    /// Takes what one of her rows says; nothing if it cannot be read.
    pub(super) fn take(&mut self, row: &Row) -> Option<()> {
        let (kind, rest) = split_user_key(&row.key, &self.name)?;
        match kind {
            UserRow::Presence => {
                let row = PresenceRow::from_bytes(&row.value).ok()?;
                self.presence = PresenceState {
                    online: row.online,
                    away: false,
                    last_seen: row.last_seen,
                    epoch: row.epoch,
                };
            }
            UserRow::Device => {
                let row = DeviceRow::from_bytes(&row.value).ok()?;
                self.devices.insert(std::str::from_utf8(rest).ok()?.into(), row);
            }
            UserRow::State => {
                if StateRow::from_bytes(&row.value).ok()?.batch {
                    self.batching.insert(std::str::from_utf8(rest).ok()?.into());
                }
            }
            UserRow::Peer => {
                let peer = PeerRow::from_bytes(&row.value).ok()?;
                self.peers.insert(std::str::from_utf8(rest).ok()?.into(), peer);
            }
            UserRow::Privacy => self.privacy = Privacy::from_bytes(&row.value).ok()?,
            UserRow::Seen => {
                let seen = SeenRow::from_bytes(&row.value).ok()?.seen;
                self.seen.insert(std::str::from_utf8(rest).ok()?.into(), seen);
            }
            UserRow::Push | UserRow::Keys => {
                let keys = kind == UserRow::Keys;
                let kind = if keys { NoteKind::Keys } else { NoteKind::Push };
                let text = NoteRow::from_bytes(&row.value).ok()?.text;
                self.notes.insert((kind, std::str::from_utf8(rest).ok()?.into()), text.into());
            }
            UserRow::Chat => {
                let place = if is_of_left(&row.value) {
                    let place = Place::group(&UserLeftRow::from_bytes(&row.value).ok()?.name);
                    self.left.insert(place.id);
                    place
                } else if is_of_group(&row.value) {
                    Place::group(&UserGroupRow::from_bytes(&row.value).ok()?.name)
                } else if is_of_contact(&row.value) {
                    let chat = UserContactRow::from_bytes(&row.value).ok()?;
                    let place = Place::direct(&self.name, &chat.peer);
                    self.contacts.insert(Arc::clone(place.peer(&self.name)));
                    place
                } else {
                    let chat = UserChatRow::from_bytes(&row.value).ok()?;
                    Place::direct(&self.name, &chat.peer)
                };
                self.chats.insert(place.id, place);
            }
        }
        Some(())
    }

    /// Whether she is in a group, as far as her index says.
    pub(super) fn is_in(&self, group: ChatId) -> bool {
        self.chats.contains_key(&group) && !self.left.contains(&group)
    }

    /// What she calls `chat`.
    pub(super) fn place(&mut self, chat: &str) -> Arc<Place> {
        if chat.starts_with(TEMPORARY)
            && let Some(room) = self.room(chat)
        {
            return Arc::clone(room);
        }
        if let Some(place) = self.places.get(chat) {
            return Arc::clone(place);
        }
        if self.places.len() >= PLACES_MAX {
            self.places.clear();
        }
        let place = Place::of(&self.name, chat);
        self.places.insert(chat.into(), Arc::clone(&place));
        place
    }
}

/// How many places a user has at hand.
const PLACES_MAX: usize = 256;

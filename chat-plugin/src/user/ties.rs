//! Whom a user blocks, whom she has accepted, and what she lets others know: `me/block`,
//! `me/privacy`, and `accept` of `me/state`.
//!
//! Her own row is stored first. Where a chat has to know, it is told then, and the PUBACK comes when
//! it has kept that: behind it no send of a blocked user passes. What a crash takes from a chat
//! comes again with the next device that attaches.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use tidings_core::codec::{PropertiesBuf, Publish, QoS, Version};
use tidings_core::hook::{Host, is_temporary};
use tidings_core::metric::Metric;
use tidings_core::record::{Op, Record};

use super::UserSide;
use super::ask::{ask, question_of};
use super::command::done;
use super::outgoing::{PerView, message, put, to_chat};
use super::person::{Later, User};
use super::rates::SENDS_WAITING_MAX;
use crate::code::Code;
use crate::json::Request;
use crate::peer::{ChatInput, Origin, Question, Refusal};
use crate::rows::{NoteKind, RowValue, UserContactRow, peer_key, privacy_key, user_chat_key};
use crate::ties::{PeerRow, Privacy, Reach, Stance, Telling};
use crate::topics::{Place, in_view, is_name};
use crate::view;

/// A personal command that needs the user's rows.
#[derive(Debug)]
pub(super) enum Setting {
    /// Whom she blocks from now on, and whom no more; neither: the list is asked for.
    Block { block: Vec<Arc<str>>, unblock: Vec<Arc<str>>, after: Option<String>, limit: usize },
    /// Which devices she has, or which one is to go.
    Devices { logout: Option<String> },
    /// What this device leaves; an empty text takes it back.
    Note { kind: NoteKind, text: String },
    /// What it has left of where it is woken.
    Push,
    /// Whom she knows from now on.
    Accept(Vec<Arc<str>>),
    /// What she lets others know; nothing: it is asked for.
    Privacy { receipts: Option<Reach>, presence: Option<Reach>, groups: Option<Reach> },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    #[serde(default)]
    block: Vec<String>,
    #[serde(default)]
    unblock: Vec<String>,
    after: Option<String>,
    limit: Option<usize>,
    request: Option<Request>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPrivacy {
    receipts: Option<Reach>,
    presence: Option<Reach>,
    groups: Option<Reach>,
    request: Option<Request>,
}

/// A command whose chats have not all kept it.
#[derive(Debug)]
pub(super) struct ToldOf {
    origin: Origin,
    left: usize,
    /// Whether one could not keep it.
    failed: bool,
}

impl User {
    /// Whether she blocks somebody.
    pub(super) fn blocks(&self, peer: &str) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.blocked)
    }

    /// Whether somebody is a contact of hers: she has written to him, or accepted him.
    pub(super) fn knows(&self, peer: &str) -> bool {
        *peer == *self.name
            || self.contacts.contains(peer)
            || self.peers.get(peer).is_some_and(|peer| peer.accepted)
    }

    /// Whether something of such reach is for somebody.
    pub(super) fn is_for(&self, reach: Reach, peer: &str) -> bool {
        match reach {
            Reach::All => true,
            Reach::Contacts => self.knows(peer),
            Reach::Nobody => false,
        }
    }

    /// How she stands to the others of a chat.
    pub(super) fn stance(&self, place: &Place) -> Stance {
        let hides = self.privacy.receipts == Reach::Nobody;
        if place.is_group() {
            return Stance { hides, ..Stance::default() };
        }
        let peer = self.peers.get(&**place.peer(&self.name)).copied().unwrap_or_default();
        Stance { blocked: peer.blocked, accepted: peer.accepted, hides }
    }

    /// How many strangers wait for her to answer.
    pub(super) fn requests(&self) -> usize {
        let direct = self.chats.values().filter(|place| !place.is_group());
        direct.filter(|place| !self.knows(place.peer(&self.name))).count()
    }
}

impl UserSide {
    /// `me/block`.
    ///
    /// # Errors
    /// It is not understood, or too much waits.
    pub(super) fn ask_block(
        &mut self,
        name: &str,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"block":["bob"]}, {"unblock":["bob"]} or {}"#;
        let Block { block, unblock, after, limit, request } =
            question_of(publish.payload, example, NAMES_BYTES_MAX)?;
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let (block, unblock) = (names(name, block)?, names(name, unblock)?);
        let setting = Setting::Block { block, unblock, after, limit };
        self.ask_setting(name, setting, Box::new(ask(publish, origin, request)?), host)
    }

    /// `me/privacy`.
    ///
    /// # Errors
    /// The same.
    pub(super) fn ask_privacy(
        &mut self,
        name: &str,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"receipts":"all","presence":"contacts","groups":"nobody"} or {}"#;
        let SetPrivacy { receipts, presence, groups, request } =
            question_of(publish.payload, example, NAMES_BYTES_MAX)?;
        let setting = Setting::Privacy { receipts, presence, groups };
        self.ask_setting(name, setting, Box::new(ask(publish, origin, request)?), host)
    }

    /// `accept` of `me/state`.
    ///
    /// # Errors
    /// The same.
    pub(super) fn ask_accept(
        &mut self,
        name: &str,
        users: Vec<String>,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let setting = Setting::Accept(names(name, users)?);
        self.ask_setting(name, setting, Box::new(ask(publish, origin, None)?), host)
    }

    pub(super) fn ask_setting(
        &mut self,
        name: &str,
        setting: Setting,
        ask: Box<Question>,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        if is_temporary(name) {
            return Err(Refusal::new(Code::Forbidden, "this is for users that stay"));
        }
        if self.users.get(name).is_some_and(|user| user.waiting.len() >= SENDS_WAITING_MAX) {
            return Err(Refusal::busy("too much waits for your chats to be read"));
        }
        self.later(name, Later::Setting { setting, ask }, host);
        Ok(())
    }

    /// The user's rows are there.
    pub(super) fn setting(
        &mut self,
        name: &Arc<str>,
        setting: Setting,
        ask: Question,
        host: &mut dyn Host,
    ) {
        match setting {
            Setting::Block { block, unblock, after, limit }
                if block.is_empty() && unblock.is_empty() =>
            {
                self.list_blocked(name, &ask, after.as_deref(), limit, host);
            }
            Setting::Block { block, unblock, .. } => {
                let changes = block.into_iter().map(|peer| (peer, true));
                let changes = changes.chain(unblock.into_iter().map(|peer| (peer, false)));
                let blocked = |row: PeerRow, blocked| PeerRow { blocked, ..row };
                self.change_peers(name, changes.collect(), blocked, ask, host);
            }
            Setting::Devices { logout } => self.devices(name, logout, &ask, host),
            Setting::Note { kind, text } => self.set_note(name, kind, &text, &ask, host),
            Setting::Push => self.tell_push(name, &ask, host),
            Setting::Accept(users) => {
                let changes = users.into_iter().map(|peer| (peer, true)).collect();
                let accepted = |row: PeerRow, accepted| PeerRow { accepted, ..row };
                self.change_peers(name, changes, accepted, ask, host);
            }
            Setting::Privacy { receipts: None, presence: None, groups: None } => {
                let Some(user) = self.users.get(name) else { return };
                let now = view::PrivacyNow { privacy: user.privacy, request: ask.request.as_ref() };
                let view = ask.origin.session.map(|id| self.view(id)).unwrap_or_default();
                let body = view.body(&now);
                self.tell_answer(&ask, "me/json/-/privacy".into(), body, host);
            }
            Setting::Privacy { receipts, presence, groups } => {
                self.set_privacy(name, receipts, presence, groups, ask.origin, host);
            }
        }
    }

    fn list_blocked(
        &mut self,
        name: &str,
        ask: &Question,
        after: Option<&str>,
        limit: usize,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get(name) else { return };
        let all = user.peers.iter().filter(|(_, peer)| peer.blocked).map(|(name, _)| &**name);
        let mut page = all.filter(|name| after.is_none_or(|after| *name > after)).peekable();
        let blocked: Vec<&str> = page.by_ref().take(limit).collect();
        let next = page.peek().and_then(|_| blocked.last()).copied();
        let view = ask.origin.session.map(|id| self.view(id)).unwrap_or_default();
        let request = ask.request.as_ref();
        let body = view.body(&view::Blocked { blocked: &blocked, next, request });
        self.tell_answer(ask, "me/json/-/block".into(), body, host);
    }

    /// Blocks, unblocks or accepts, and tells the chats.
    fn change_peers(
        &mut self,
        name: &Arc<str>,
        changes: Vec<(Arc<str>, bool)>,
        change: impl Fn(PeerRow, bool) -> PeerRow,
        ask: Question,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get_mut(name) else { return };
        let new = changes.iter().filter(|(peer, on)| *on && !user.peers.contains_key(peer)).count();
        let max = self.options.peers_max;
        if user.peers.len() + new > max {
            host.count(Metric::LimitChatPeers);
            let text = format!("at most {max} users are blocked or accepted: unblock some");
            let refusal = Refusal::new(Code::Limit, &text);
            return self.refuse_setting(&ask.origin, &refusal, host);
        }
        let (mut ops, mut places, mut met) = (Vec::new(), Vec::new(), Vec::new());
        for (peer, on) in changes {
            let known = user.knows(&peer);
            let row = change(user.peers.get(&peer).copied().unwrap_or_default(), on);
            let key = peer_key(name, &peer);
            ops.push(if row == PeerRow::default() {
                user.peers.remove(&peer);
                Op::Delete { key }
            } else {
                user.peers.insert(Arc::clone(&peer), row);
                Op::Put { key, value: row.to_bytes() }
            });
            // Also where nothing has changed: the one who asks may not know what became of it.
            places.extend(user.chats.get(&Place::direct(name, &peer).id).cloned());
            met.push((Arc::clone(&peer), !known && user.knows(&peer)));
        }
        let position = host.store(Record { ops, urgent: true });
        let telling = Telling(self.next_telling);
        self.next_telling += 1;
        for place in &places {
            self.tell_stance(name, place, Some(telling), host);
        }
        if places.is_empty() {
            self.kept.push_back((position, ask.origin));
        } else {
            // The chat stores behind what is on the way from here; both are safe when it says so.
            self.tellings.insert(
                telling,
                ToldOf { origin: ask.origin, left: places.len() + 1, failed: false },
            );
            self.settings_kept.push_back((position, telling));
        }
        for (peer, new) in met {
            if new {
                self.no_stranger(name, &peer, host);
            }
            self.presence_of_pair(name, &peer, host);
        }
    }

    fn set_privacy(
        &mut self,
        name: &Arc<str>,
        receipts: Option<Reach>,
        presence: Option<Reach>,
        groups: Option<Reach>,
        origin: Origin,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get_mut(name) else { return };
        let before = user.privacy;
        user.privacy = Privacy {
            receipts: receipts.unwrap_or(before.receipts),
            presence: presence.unwrap_or(before.presence),
            groups: groups.unwrap_or(before.groups),
        };
        let privacy = user.privacy;
        let position = put(privacy_key(name), privacy.to_bytes(), true, host);
        self.kept.push_back((position, origin));
        if (before.receipts == Reach::Nobody) != (privacy.receipts == Reach::Nobody) {
            let places: Vec<Arc<Place>> = user.chats.values().cloned().collect();
            for place in places {
                self.tell_stance(name, &place, None, host);
            }
        }
        if before.presence != privacy.presence {
            self.presence_shown_anew(name, host);
        }
    }

    /// Tells a chat how a user stands to the others in it.
    fn tell_stance(
        &mut self,
        name: &Arc<str>,
        place: &Arc<Place>,
        telling: Option<Telling>,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get(name) else { return };
        let now = user.stance(place);
        // What says how she stood when the chat began may still be waiting.
        for (_, of, begun) in &mut self.begins {
            if let ChatInput::Begun { user, stance, .. } = begun
                && of.id == place.id
                && *user == *name
            {
                *stance = now;
            }
        }
        let telling = telling.map(|telling| (host.shard(), telling));
        let stance = ChatInput::Stance { user: Arc::clone(name), stance: now, telling };
        to_chat(place, stance, host);
    }

    /// A chat has kept what it was told, or the user's own rows are safe.
    pub(super) fn told(&mut self, telling: Telling, kept: bool, host: &mut dyn Host) {
        let Some(told) = self.tellings.get_mut(&telling) else { return };
        told.left -= 1;
        told.failed |= !kept;
        if told.left > 0 {
            return;
        }
        let Some(ToldOf { origin, failed, .. }) = self.tellings.remove(&telling) else { return };
        if failed {
            let refusal = Refusal::busy("not all chats could keep it: say it again");
            return self.refuse_setting(&origin, &refusal, host);
        }
        done(&origin, PropertiesBuf::new(), host);
    }

    pub(super) fn refuse_setting(
        &mut self,
        origin: &Origin,
        refusal: &Refusal,
        host: &mut dyn Host,
    ) {
        let session = origin.session.and_then(|id| self.sessions.get(&id));
        let version = session.map_or(Version::V5, |session| session.version);
        self.refused(origin, version, "me/json/-/error", None, refusal, host);
    }

    /// A user has written in a direct chat.
    pub(super) fn has_written(&mut self, name: &Arc<str>, place: &Arc<Place>, host: &mut dyn Host) {
        let Some(user) = self.users.get_mut(name) else { return };
        let peer = Arc::clone(place.peer(name));
        let known = user.knows(&peer);
        if place.named().is_some()
            || !user.chats.contains_key(&place.id)
            || !user.contacts.insert(Arc::clone(&peer))
        {
            return;
        }
        let row = UserContactRow { peer: peer.to_string(), since: host.now() };
        put(user_chat_key(name, place.id), row.to_bytes(), false, host);
        if !known {
            self.no_stranger(name, &peer, host);
        }
    }

    /// Somebody is a stranger no more.
    fn no_stranger(&mut self, name: &Arc<str>, peer: &Arc<str>, host: &mut dyn Host) {
        let place = Place::direct(name, peer);
        if self.users.get(name).is_some_and(|user| user.chats.contains_key(&place.id)) {
            self.tell_stranger(name, peer, false, host);
        }
        self.presence_of_pair(name, peer, host);
    }

    /// Tells a user's devices that somebody is a stranger who writes to her, or is none any more.
    pub(super) fn tell_stranger(
        &mut self,
        name: &str,
        peer: &str,
        stranger: bool,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get(name).filter(|_| self.options.requests) else { return };
        if user.knows(peer) == stranger {
            return;
        }
        let sessions = user.sessions.clone();
        let place = Place::direct(name, peer);
        let mut messages = PerView::default();
        for id in sessions {
            let view = self.view(id);
            let told = messages.in_view(view, || {
                let body = view.body(&view::Stranger { user: peer, stranger });
                message(in_view(place.heard(name, "request"), view), body, QoS::AtLeastOnce, host)
            });
            self.answer_message(id, told, host);
        }
    }
}

/// The users of a command.
///
/// # Errors
/// They are too many, or none.
fn names(own: &str, texts: Vec<String>) -> Result<Vec<Arc<str>>, Refusal> {
    if texts.len() > NAMES_MAX {
        return Err(Refusal::new(Code::Format, &format!("at most {NAMES_MAX} users at a time")));
    }
    if texts.iter().any(|text| !is_name(text) || **text == *own) {
        let text = "expected other users, each [A-Za-z0-9._-]{1,64}";
        return Err(Refusal::new(Code::Format, text));
    }
    let names: BTreeSet<Arc<str>> = texts.into_iter().map(Arc::from).collect();
    Ok(names.into_iter().collect())
}

/// How many users one command names.
const NAMES_MAX: usize = 64;

/// The longest such command, in bytes.
pub(super) const NAMES_BYTES_MAX: usize = 8 * 1_024;

/// How many of a list an answer holds, if nothing is said.
const PAGE: usize = 500;

/// How many at the most.
const PAGE_MAX: usize = 1_000;

//! Entries on their way to devices: what is new is handed over, what they lack is fetched.
//!
//! A device is handed entries in order, a lane for each chat; whenever it lags behind, because it
//! just came or because it was full, the chat is asked for what is missing, the most recent chat
//! first. A session that hears with QoS 0 gets what is new and nothing else.

use std::sync::Arc;

use tidings_core::codec::QoS;
use tidings_core::hook::{Host, Refused, SessionId, Tag};
use tidings_core::message::Message;

use super::UserSide;
use super::outgoing::{message, to_chat};
use super::session::Session;
use crate::entry::Entry;
use crate::peer::ChatInput;
use crate::topics::Place;
use crate::view;

impl UserSide {
    /// A chat has a new entry.
    pub(super) fn deliver(
        &mut self,
        place: &Arc<Place>,
        name: &str,
        entry: &Arc<Entry>,
        host: &mut dyn Host,
    ) {
        self.deliver_to(name, entry, &mut Shown::new(place, name), host);
    }

    /// Hands a new entry to the sessions of one user.
    pub(super) fn deliver_to(
        &mut self,
        name: &str,
        entry: &Arc<Entry>,
        shown: &mut Shown<'_>,
        host: &mut dyn Host,
    ) {
        let place = shown.place;
        let Some(user) = self.users.get(name) else { return };
        let mut index = 0;
        let (mut progressed, mut lagging) = (Vec::new(), Vec::new());
        while let Some(id) = user.sessions.get(index).copied() {
            index += 1;
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(feed) = &mut session.feed else {
                if session.hears() == Some(QoS::AtMostOnce) && !session.sent(entry) {
                    // QoS 0: a session that is full goes without.
                    let message = shown.message(entry, host);
                    let _ = host.deliver(id, &message, None);
                }
                continue;
            };
            let Some(lane) = feed.lanes.get_mut(&place.id).filter(|lane| lane.attached) else {
                continue;
            };
            lane.head = lane.head.max(entry.seq);
            lane.time = entry.time;
            if entry.seq == lane.next && !session.full {
                let before = lane.cursor();
                hand_over(session, id, entry, shown, host);
                if session.moved(place.id, before) {
                    progressed.push(id);
                }
            }
            if let Some(feed) = &mut session.feed {
                feed.lags(place.id);
                if !feed.behind.is_empty() {
                    lagging.push(id);
                }
            }
        }
        for id in progressed {
            self.progressed(id, place.id, host);
        }
        for id in lagging {
            self.pump(id, host);
        }
    }

    /// Asks for what the most recent chat has and the device lacks, one question at a time.
    pub(super) fn pump(&mut self, id: SessionId, host: &mut dyn Host) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.full {
            return;
        }
        let Some(feed) = &mut session.feed else { return };
        if feed.fetching.is_some() || feed.attaching > 0 {
            return;
        }
        while let Some((_, chat)) = feed.behind.pop_first() {
            let Some(lane) = feed.lanes.get(&chat).filter(|lane| lane.is_behind()) else {
                continue;
            };
            feed.fetching = Some(chat);
            let (shard, from) = (host.shard(), lane.next);
            let user = Arc::clone(&session.user);
            let fetch = ChatInput::Fetch { user, shard, session: id, feed: feed.id, from };
            return to_chat(&lane.place, fetch, host);
        }
    }

    /// A chat has answered with entries.
    pub(super) fn entries(
        &mut self,
        place: &Arc<Place>,
        id: SessionId,
        entries: &[Arc<Entry>],
        upto: u64,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(feed) = &mut session.feed else { return };
        if feed.fetching != Some(place.id) {
            return;
        }
        feed.fetching = None;
        let Some(lane) = feed.lanes.get(&place.id).filter(|lane| lane.attached) else { return };
        let before = lane.cursor();
        let name = Arc::clone(&session.user);
        let mut shown = Shown::new(place, &name);
        let mut flow = Flow::On;
        for entry in entries {
            shown.forget();
            flow = hand_over(session, id, entry, &mut shown, host);
            if flow == Flow::Stop {
                break;
            }
        }
        let moved = if let Some(feed) = &mut session.feed {
            if let Some(lane) = feed.lanes.get_mut(&place.id).filter(|_| flow == Flow::On) {
                // What was not among them is gone.
                lane.pass(upto);
                if upto < lane.next && entries.is_empty() {
                    // There is no more: never ask for the same nothing again.
                    lane.head = upto.max(lane.next - 1);
                }
            }
            feed.lags(place.id);
            session.moved(place.id, before)
        } else {
            false
        };
        if moved {
            self.progressed(id, place.id, host);
        }
        self.pump(id, host);
    }

    /// The session takes deliveries again.
    pub(crate) fn room(&mut self, id: SessionId, host: &mut dyn Host) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.full = false;
        while let Some(answer) = session.answers.pop_front() {
            if matches!(host.deliver(id, &answer, None), Err(Refused::Full)) {
                session.answers.push_front(answer);
                session.full = true;
                return;
            }
        }
        self.pump(id, host);
    }
}

/// Hands one entry over to a device whose turn it is, or passes over it.
fn hand_over(
    session: &mut Session,
    id: SessionId,
    entry: &Arc<Entry>,
    shown: &mut Shown<'_>,
    host: &mut dyn Host,
) -> Flow {
    let own = session.sent(entry);
    let user = Arc::clone(&session.user);
    let Some(feed) = &mut session.feed else { return Flow::Stop };
    let chat = shown.place.id;
    let Some(lane) = feed.lanes.get_mut(&chat) else { return Flow::Stop };
    if entry.seq < lane.next {
        return Flow::On;
    }
    // What lies between is gone, or it would have come.
    lane.pass(entry.seq - 1);
    if entry.seq < lane.next {
        return Flow::On;
    }
    if own || lane.has(entry.seq) {
        lane.pass(entry.seq);
        return Flow::On;
    }
    let tag = Tag { key: chat.to_key(), seq: entry.seq };
    let message = shown.message(entry, host);
    match host.deliver(id, &message, Some(tag)) {
        Ok(QoS::AtMostOnce) => {
            // Another of its filters hears this chat with QoS 0: nobody will say it arrived.
            lane.frozen = true;
            lane.pass(entry.seq);
            Flow::On
        }
        Ok(_) => {
            lane.hand_over();
            Flow::On
        }
        Err(Refused::Full) => {
            session.full = true;
            Flow::Stop
        }
        Err(Refused::TooLarge) => {
            // Counts as sent [MQTT-3.1.2-25], but it is no delivery.
            lane.pass(entry.seq);
            to_chat(&lane.place, ChatInput::Failed { user, seq: entry.seq }, host);
            Flow::On
        }
        Err(Refused::NotSubscribed | Refused::NotConnected) => {
            lane.attached = false;
            Flow::Stop
        }
    }
}

/// Whether a lane can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Stop,
}

/// An entry as one user's sessions see it, or those of all members of a group: encoded once, and only
/// if somebody looks.
pub(super) struct Shown<'a> {
    place: &'a Arc<Place>,
    user: &'a str,
    message: Option<Arc<Message>>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(place: &'a Arc<Place>, user: &'a str) -> Self {
        Self { place, user, message: None }
    }

    /// The next entry is another one.
    fn forget(&mut self) {
        self.message = None;
    }

    /// What a session of the user is given.
    fn message(&mut self, entry: &Entry, host: &mut dyn Host) -> Arc<Message> {
        let message = self.message.get_or_insert_with(|| {
            let topic = self.place.heard(self.user, "message");
            message(&topic, view::entry(entry), QoS::AtLeastOnce, host)
        });
        Arc::clone(message)
    }
}

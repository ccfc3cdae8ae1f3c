//! Entries on their way to devices: what is new is handed over, what they lack is fetched.
//!
//! A device is handed entries in order, a lane for each chat; whenever it lags behind, because it
//! just came or because it was full, the chat is asked for what is missing, the most recent chat
//! first. A session that hears with QoS 0 gets what is new and nothing else.

use std::sync::Arc;

use tidings_core::codec::QoS;
use tidings_core::hook::{Host, Refused, SessionId};
use tidings_core::message::Message;

use super::UserSide;
use super::feed::Fetching;
use super::lane::{PLACES_MAX, tag_of};
use super::outgoing::{PerView, message, to_chat};
use super::session::Session;
use crate::entry::Entry;
use crate::peer::ChatInput;
use crate::topics::View;
use crate::topics::{Place, in_view};

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
        if entry.seq == 1 && *entry.from != *name && !place.is_room() {
            self.tell_stranger(name, &entry.from, true, host);
        }
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
                if session.hears() == Some(QoS::AtMostOnce)
                    && !session.sent(entry)
                    && entry.is_shown_to(&session.user, host.now())
                {
                    // QoS 0: a session that is full goes without.
                    let message = shown.message(entry, session.view, host);
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
            let (shard, from) = (host.shard(), lane.next);
            feed.fetching = Some(Fetching { chat, from, head: lane.head });
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
        let Some(asked) = feed.fetching.filter(|asked| asked.chat == place.id) else { return };
        feed.fetching = None;
        let Some(lane) = feed.lanes.get(&place.id).filter(|lane| lane.attached) else { return };
        let before = lane.cursor();
        let name = Arc::clone(&session.user);
        let mut shown = Shown::new(place, &name);
        let mut flow = Flow::On;
        let mut rest = entries;
        let mut together = session.batch;
        while let Some((entry, others)) = rest.split_first() {
            if together {
                match hand_over_together(session, id, rest, &shown, host) {
                    Together::Taken(behind) => {
                        rest = behind;
                        continue;
                    }
                    Together::Stop => {
                        flow = Flow::Stop;
                        break;
                    }
                    Together::No => {}
                    Together::Never => together = false,
                }
            }
            shown.forget();
            flow = hand_over(session, id, entry, &mut shown, host);
            if flow == Flow::Stop {
                break;
            }
            rest = others;
        }
        let moved = if let Some(feed) = &mut session.feed {
            if let Some(lane) = feed.lanes.get_mut(&place.id).filter(|_| flow == Flow::On) {
                // What was not among them is gone.
                lane.pass(upto);
                // There is no more, unless it came meanwhile: never ask for the same nothing again.
                if upto < asked.from && lane.head == asked.head {
                    lane.head = lane.next - 1;
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
    let own = session.sent(entry) || !entry.is_shown_to(&session.user, host.now());
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
    let tag = tag_of(chat, entry.seq, entry.seq);
    let message = shown.message(entry, session.view, host);
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
            let user = Arc::clone(&session.user);
            to_chat(&lane.place, ChatInput::Failed { user, seq: entry.seq }, host);
            Flow::On
        }
        Err(Refused::NotSubscribed | Refused::NotConnected) => {
            lane.attached = false;
            Flow::Stop
        }
    }
}

/// Hands over as many of the foremost entries as go into one message, if these are several.
fn hand_over_together<'a>(
    session: &mut Session,
    id: SessionId,
    entries: &'a [Arc<Entry>],
    shown: &Shown<'_>,
    host: &mut dyn Host,
) -> Together<'a> {
    let Some(lane) = session.feed.as_ref().and_then(|feed| feed.lanes.get(&shown.place.id)) else {
        return Together::No;
    };
    let (mut chosen, mut passed, mut bytes) = (Vec::new(), 0, 0);
    for entry in entries {
        if lane.has(entry.seq) {
            break;
        }
        if entry.seq >= lane.next && !session.sent(entry) && !lane.is_ahead(entry.seq) {
            if bytes > 0 && bytes + entry.size() > BATCH_BYTES_MAX {
                break;
            }
            bytes += entry.size();
            chosen.push(Arc::clone(entry));
        }
        passed += 1;
    }
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return Together::No };
    if chosen.len() < 2 || last.seq - first.seq >= PLACES_MAX {
        return Together::No;
    }
    let (first, last) = (first.seq, last.seq);
    let topic = in_view(shown.place.heard(shown.user, "batch"), session.view);
    let message = message(topic, session.view.batch(&chosen), QoS::AtLeastOnce, host);
    let delivered = host.deliver(id, &message, Some(tag_of(shown.place.id, first, last)));
    let lane = session.feed.as_mut().and_then(|feed| feed.lanes.get_mut(&shown.place.id));
    let Some(lane) = lane else { return Together::No };
    match delivered {
        Ok(QoS::AtMostOnce) => {
            lane.frozen = true;
            lane.pass(last);
        }
        Ok(_) => lane.hand_over_all(chosen.iter().map(|entry| entry.seq), last),
        Err(Refused::Full) => {
            session.full = true;
            return Together::Stop;
        }
        // Each by itself may be small enough, and be subscribed to.
        Err(Refused::TooLarge | Refused::NotSubscribed) => return Together::Never,
        Err(Refused::NotConnected) => {
            lane.attached = false;
            return Together::Stop;
        }
    }
    Together::Taken(entries.get(passed..).unwrap_or_default())
}

/// How several entries at once were taken.
enum Together<'a> {
    /// They were, and these are left.
    Taken(&'a [Arc<Entry>]),
    /// There are no several here.
    No,
    /// This session takes no several.
    Never,
    /// It takes nothing now.
    Stop,
}

/// After how many bytes a batch ends.
const BATCH_BYTES_MAX: usize = 32 * 1024;

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
    messages: PerView,
}

impl<'a> Shown<'a> {
    pub(super) fn new(place: &'a Arc<Place>, user: &'a str) -> Self {
        Self { place, user, messages: PerView::default() }
    }

    /// The next entry is another one.
    fn forget(&mut self) {
        self.messages = PerView::default();
    }

    /// What a session of the user is given.
    fn message(&mut self, entry: &Entry, view: View, host: &mut dyn Host) -> Arc<Message> {
        self.messages.in_view(view, || {
            let topic = in_view(self.place.heard(self.user, "message"), view);
            message(topic, view.entry(entry), QoS::AtLeastOnce, host)
        })
    }
}

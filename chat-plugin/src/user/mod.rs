//! The side of the users: their sessions, what they ask for, and what they hear.
//!
//! A user's rows and all her sessions are in one shard, so that her devices need no coordination.
//! She is in memory while a session of hers is connected or somebody watches her presence. What
//! needs her rows waits until they are read; sending does not need them.

mod ask;
mod call;
mod command;
mod connect;
mod deliver;
mod device;
mod devices;
mod entries;
mod feed;
mod group;
mod guest;
mod index;
mod lane;
mod load;
mod note;
mod outgoing;
mod parting;
mod person;
mod presence;
mod progress;
mod rates;
mod receipt;
mod room;
mod session;
mod state;
mod sync;
mod ties;
mod typing;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidings_core::hook::{Host, SessionId};
use tidings_core::rate::Bucket;
use tidings_core::record::Position;
use tidings_core::time::Time;

use crate::deadline::Deadlines;
use crate::event::Listeners;
use crate::map::{Map, map};
use crate::options::ChatOptions;
use crate::peer::{Asked, ChatInput, Origin, Outcome, SyncId, ToUser};
use crate::ties::Telling;
use crate::topics::{ChatId, Place};
pub(crate) use connect::Arrival;
use person::{Later, User};
use rates::Paces;
use session::Session;
use sync::Sync;
use ties::ToldOf;

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct UserSide {
    options: Arc<ChatOptions>,
    paces: Paces,
    users: Map<Arc<str>, User>,
    sessions: Map<SessionId, Session>,
    reads: Map<u64, Arc<str>>,
    next_read: u64,
    next_feed: u64,
    timers: Deadlines<Timer>,
    /// Chats that begin and wait for the index row to be safe.
    begins: VecDeque<(Position, Arc<Place>, ChatInput)>,
    /// Commands whose record is to be safe.
    kept: VecDeque<(Position, Origin)>,
    /// The same, where chats are to keep it as well.
    settings_kept: VecDeque<(Position, Telling)>,
    tellings: Map<Telling, ToldOf>,
    next_telling: u64,
    /// Pages that are being made.
    syncs: Map<SyncId, Sync>,
    next_sync: u64,
    /// Who hears what comes of a group: members with a session here, by the chats' word.
    audiences: Map<ChatId, BTreeSet<Arc<str>>>,
    /// Until when who was online when the server ended may come back unnoticed.
    returning_until: Time,
    /// Users of whose presence nobody has been told, in order.
    untold: VecDeque<Arc<str>>,
    told_presence: Bucket,
    /// Sessions that are being ended, and who asked for it.
    logouts: Vec<(SessionId, Origin)>,
    /// Lanes whose cursor the chat is to hear of.
    dirty: Vec<(SessionId, ChatId)>,
    /// Calls of the program around the broker that wait for their answer.
    calls: Map<u64, Asked>,
    next_call: u64,
    /// Who wants to hear what happens.
    listeners: Listeners,
}

#[derive(Debug, Clone)]
enum Timer {
    /// Tell chats of cursors.
    Progress,
    /// A user may be offline.
    Grace(Arc<str>),
    /// Tell of users whose presence has changed.
    Presence,
    /// A device's cursors have been taken back.
    Left(Arc<str>, Arc<str>),
}

impl UserSide {
    pub(crate) fn new(options: Arc<ChatOptions>) -> Self {
        Self {
            paces: Paces::new(&options),
            options,
            users: map(),
            sessions: map(),
            reads: map(),
            next_read: 1,
            next_feed: 1,
            timers: Deadlines::new(),
            begins: VecDeque::new(),
            kept: VecDeque::new(),
            settings_kept: VecDeque::new(),
            tellings: map(),
            next_telling: 1,
            syncs: map(),
            next_sync: 1,
            audiences: map(),
            returning_until: Time::default(),
            untold: VecDeque::new(),
            told_presence: Bucket::default(),
            logouts: Vec::new(),
            dirty: Vec::new(),
            calls: map(),
            next_call: 1,
            listeners: Listeners::default(),
        }
    }

    /// When [`UserSide::timed_out`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Takes what a chat, or another user's side, says.
    pub(crate) fn handle(&mut self, input: ToUser, host: &mut dyn Host) {
        match input {
            ToUser::Begin { place, user, by, since } => {
                self.later(&user, Later::Begin { place, by, since }, host);
            }
            ToUser::Knows { place, user } => self.later(&user, Later::Knows { place }, host),
            ToUser::Told { telling, kept } => self.told(telling, kept, host),
            ToUser::Answered { place, origin, id, made, outcome } => {
                self.answered(&place, &origin, id.as_deref(), made, outcome, host);
            }
            ToUser::Attached {
                place,
                session,
                feed,
                cursor,
                head,
                time,
                peer,
                own_read,
                knows,
                member,
            } => {
                if self.is_present(session, feed) {
                    let user = self.sessions.get(&session).map(|session| Arc::clone(&session.user));
                    if let Some(user) = user {
                        if member {
                            self.joined(&place, &user);
                        }
                        if knows {
                            self.has_written(&user, &place, host);
                        }
                    }
                    self.receipts_at_attach(&place, session, peer, own_read, host);
                    self.attached(place.id, session, cursor, head, time, host);
                }
            }
            ToUser::Deliver { place, users, entry, sent } => {
                if let Some((origin, made)) = sent {
                    let outcome = Outcome::Sent { seq: entry.seq, time: entry.time };
                    self.answered(&place, &origin, Some(&entry.id), made, outcome, host);
                }
                users.of(&place).for_each(|user| self.deliver(&place, user, &entry, host));
            }
            ToUser::Entries { place, session, feed, entries, upto } => {
                if self.is_present(session, feed) {
                    self.entries(&place, session, &entries, upto, host);
                }
            }
            ToUser::History { place, ask, part } => self.history_told(&place, &ask, &part, host),
            ToUser::Summary { place, sync, summary } => {
                self.summary_told(place, sync, summary, host);
            }
            ToUser::Receipt { place, to, about, tick, except } => {
                self.receipt(&place, &to, &about, &tick, except.as_deref(), host);
            }
            ToUser::Watch { user, by } => self.later(&user, Later::Watch { by }, host),
            ToUser::Keys { user, by, ask } => self.later(&user, Later::Keys { by, ask }, host),
            ToUser::KeysTold { of, devices, ask } => self.keys_told(&of, &devices, &ask, host),
            ToUser::Pushes { user, reply } => self.later(&user, Later::Pushes { reply }, host),
            ToUser::Look { user, session, at } => self.look(&user, session, &at, false, host),
            ToUser::Unwatch { user, shard, session } => self.unwatch(&user, shard, session),
            ToUser::Presence { user, state, sessions } => {
                self.presence_changed(&user, state, &sessions, host);
            }
            ToUser::Broadcast { place, entry } => self.broadcast(&place, &entry, host),
            ToUser::TypingAll { place, from, state } => self.typing_all(&place, &from, state, host),
            ToUser::Joined { place, user } => self.joined(&place, &user),
            ToUser::Parted { place, user, session, seq } => {
                self.parted(&place, &user, session, seq, host);
            }
            ToUser::Forget { place, user } => {
                self.later(&user, Later::Forget { place }, host);
            }
            ToUser::Left { place, user } => self.later(&user, Later::Left { place }, host),
            ToUser::Info { place, question, body } => {
                self.info_told(&place, &question, body, host);
            }
            ToUser::Answer { place, to, kind, body } => {
                self.answer_with(&place, &to, kind, body, host);
            }
            ToUser::Counts { place, to, counts } => self.counts(&place, &to, counts, host),
            ToUser::Typing { place, to, from, state } => {
                self.typing_heard(&place, &to, &from, state, host);
            }
            ToUser::Room(told) => self.room_told(told, host),
            ToUser::Call(call) => self.call(*call, host),
            ToUser::AreThere { place, seq, users } => self.are_there(&place, seq, users, host),
        }
    }

    /// Does what is due by now.
    pub(crate) fn timed_out(&mut self, host: &mut dyn Host) {
        let now = host.now();
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Progress => self.tell_progress(host),
                Timer::Grace(user) => self.grace_over(&user, host),
                Timer::Presence => self.tell_untold(host),
                Timer::Left(user, client_id) => self.forget_device(&user, &client_id, host),
            }
        }
    }
}

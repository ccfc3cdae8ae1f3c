//! The side of the chats: every chat whose slot is this shard's, as far as it is in memory.
//!
//! A chat is read when something concerns it, and what comes meanwhile waits, in order. Beyond a
//! number of chats the one idle longest is dropped from memory: nothing is lost by that, all it
//! knows is in rows or is known to the devices that are connected.

mod cursor;
mod ids;
mod load;
mod log;
mod one;
mod receipt;
mod retention;

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::hook::{Host, SessionId};
use tidings_core::record::{Op, Position, Query, Record, Row};
use tidings_core::slot::ShardId;
use tidings_core::time::Time;

use crate::deadline::Deadlines;
use crate::map::{Map, map};
use crate::options::ChatOptions;
use crate::peer::{ChatInput, FeedId, Origin, Outcome, Peer, Refusal, ToChat, ToUser};
use crate::rows::MemberRow;
use crate::topics::{ChatId, Place, user_slot};
use load::{Load, Loading};
use one::Chat;

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct ChatSide {
    chats: Map<ChatId, State>,
    /// Every chat in memory once: where the hand of the clock is, that finds idle ones.
    ring: VecDeque<ChatId>,
    shared: Shared,
}

#[derive(Debug)]
enum State {
    Loading(Box<Loading>),
    Ready(Box<Chat>),
}

/// What all chats of a shard have in common.
#[derive(Debug)]
struct Shared {
    options: Arc<ChatOptions>,
    timers: Deadlines<(ChatId, Timer)>,
    reads: Map<u64, (ChatId, Reading)>,
    next_read: u64,
    stored: VecDeque<(Position, ChatId, Waiting)>,
    /// What the entries in memory take, of all chats.
    tail_bytes: usize,
}

/// What a chat sets timers for.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// Store cursors.
    Flush,
    /// Tell ticks.
    Receipts,
    /// Delete what has expired.
    Sweep,
}

/// What a chat reads rows for.
#[derive(Debug)]
enum Reading {
    /// To be loaded: its rows from the first on.
    Whole,
    /// To be loaded: the end of its log.
    End,
    /// To know whether the foremost send's id is known.
    Id,
    /// For a device: everything up to `visible`.
    Fetch { to: Fetcher, visible: u64 },
    /// To find ids that have expired.
    SweepIds,
    /// To find entries that have expired.
    SweepLog,
}

/// The device that fetches.
#[derive(Debug, Clone, Copy)]
struct Fetcher {
    shard: ShardId,
    session: SessionId,
    feed: FeedId,
}

/// What waits for a record to be safe.
#[derive(Debug)]
enum Waiting {
    /// The foremost pending entry.
    Entry,
    /// How far the members were, and who waits to hear that it is stored.
    Flush { members: Vec<MemberRow>, readers: Vec<Origin> },
}

/// What a chat acts through.
struct Cx<'a> {
    host: &'a mut dyn Host,
    shared: &'a mut Shared,
}

impl Cx<'_> {
    fn now(&self) -> Time {
        self.host.now()
    }

    fn options(&self) -> &ChatOptions {
        &self.shared.options
    }

    fn set_timer(&mut self, at: Time, chat: ChatId, timer: Timer) {
        self.shared.timers.set(at, (chat, timer));
    }

    fn read(&mut self, chat: ChatId, query: Query, reading: Reading) {
        let token = self.shared.next_read;
        self.shared.next_read += READ_STEP;
        self.shared.reads.insert(token, (chat, reading));
        self.host.read(token, query);
    }

    fn store(&mut self, ops: Vec<Op>, urgent: bool) -> Position {
        self.host.store(Record { ops, urgent })
    }

    fn store_and_wait(&mut self, chat: ChatId, ops: Vec<Op>, urgent: bool, waiting: Waiting) {
        let position = self.store(ops, urgent);
        self.shared.stored.push_back((position, chat, waiting));
    }

    fn tell_user(&mut self, user: &str, what: ToUser) {
        let shard = user_slot(user).shard(self.host.shards());
        self.tell_shard(shard, what);
    }

    fn tell_shard(&mut self, shard: ShardId, what: ToUser) {
        self.host.send(shard, Box::new(Peer::User(what)));
    }

    fn answer(
        &mut self,
        place: &Arc<Place>,
        origin: Origin,
        id: Option<(Box<str>, bool)>,
        outcome: Outcome,
    ) {
        let (id, made) = id.map_or((None, false), |(id, made)| (Some(id), made));
        let place = Arc::clone(place);
        self.tell_shard(origin.shard, ToUser::Answered { place, origin, id, made, outcome });
    }

    /// Refuses what can be refused; what cannot needs no answer.
    fn refuse(&mut self, place: &Arc<Place>, what: ChatInput, refusal: Refusal) {
        let outcome = Outcome::Refused(refusal);
        match what {
            ChatInput::Send(post) => {
                let id = post.id.map(|id| (id, false));
                self.answer(place, post.origin, id, outcome);
            }
            ChatInput::Read { origin, .. } => self.answer(place, origin, None, outcome),
            _ => {}
        }
    }
}

impl ChatSide {
    pub(crate) fn new(options: Arc<ChatOptions>) -> Self {
        Self {
            chats: map(),
            ring: VecDeque::new(),
            shared: Shared {
                options,
                timers: Deadlines::new(),
                reads: map(),
                next_read: 0,
                stored: VecDeque::new(),
                tail_bytes: 0,
            },
        }
    }

    /// When [`ChatSide::timed_out`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.shared.timers.next()
    }

    /// Takes what a user's side says.
    pub(crate) fn handle(&mut self, input: ToChat, host: &mut dyn Host) {
        let id = input.chat();
        match self.chats.get_mut(&id) {
            Some(State::Ready(_)) => {
                self.with(id, host, |chat, cx| chat.handle(input.what, cx));
            }
            Some(State::Loading(loading)) => {
                let cx = &mut Cx { host, shared: &mut self.shared };
                loading.queue(input.what, cx);
            }
            None => {
                let mut cx = Cx { host, shared: &mut self.shared };
                let mut loading = Box::new(Loading::new(input.place));
                loading.begin(&mut cx);
                loading.queue(input.what, &mut cx);
                self.chats.insert(id, State::Loading(loading));
                self.ring.push_back(id);
                self.unload_idle();
            }
        }
    }

    /// Records up to `position` are safe.
    pub(crate) fn stored(&mut self, position: Position, host: &mut dyn Host) {
        while self.shared.stored.front().is_some_and(|(at, ..)| *at <= position) {
            let Some((_, id, waiting)) = self.shared.stored.pop_front() else { break };
            self.with(id, host, |chat, cx| match waiting {
                Waiting::Entry => chat.entry_stored(cx),
                Waiting::Flush { members, readers } => chat.flush_stored(&members, readers, cx),
            });
        }
    }

    /// Rows have come. Returns whether they were asked for from here.
    pub(crate) fn rows(&mut self, token: u64, rows: Vec<Row>, more: bool, host: &mut dyn Host) {
        let Some((id, reading)) = self.shared.reads.remove(&token) else { return };
        if let Some(State::Loading(loading)) = self.chats.get_mut(&id) {
            let cx = &mut Cx { host: &mut *host, shared: &mut self.shared };
            match loading.rows(&reading, rows, more, cx) {
                Load::Reading => {}
                Load::Failed(refusal) => {
                    let Some(State::Loading(loading)) = self.chats.remove(&id) else { return };
                    self.ring.retain(|chat| *chat != id);
                    let (place, queue) = loading.into_queue();
                    for what in queue {
                        let refusal = Refusal::new(refusal.code, &refusal.text);
                        Cx { host: &mut *host, shared: &mut self.shared }
                            .refuse(&place, what, refusal);
                    }
                }
                Load::Loaded(chat, queue) => {
                    self.shared.tail_bytes += chat.tail_bytes();
                    self.chats.insert(id, State::Ready(chat));
                    self.with(id, host, |chat, cx| {
                        chat.loaded(cx);
                        for what in queue {
                            chat.handle(what, cx);
                        }
                    });
                }
            }
            return;
        }
        self.with(id, host, |chat, cx| match reading {
            Reading::Id => chat.id_read(&rows, cx),
            Reading::Fetch { to, visible } => chat.fetched(to, visible, &rows, more, cx),
            Reading::SweepIds => chat.sweep_ids(&rows, more, cx),
            Reading::SweepLog => chat.sweep_log(&rows, cx),
            Reading::Whole | Reading::End => {}
        });
    }

    /// Does what is due by now.
    pub(crate) fn timed_out(&mut self, host: &mut dyn Host) {
        let now = host.now();
        while let Some((id, timer)) = self.shared.timers.pop(now) {
            self.with(id, host, |chat, cx| match timer {
                Timer::Flush => chat.flush(cx),
                Timer::Receipts => chat.receipts(cx),
                Timer::Sweep => chat.sweep(cx),
            });
        }
    }

    fn with(&mut self, id: ChatId, host: &mut dyn Host, act: impl FnOnce(&mut Chat, &mut Cx<'_>)) {
        let Some(State::Ready(chat)) = self.chats.get_mut(&id) else { return };
        let before = chat.tail_bytes();
        chat.touched = true;
        act(chat, &mut Cx { host, shared: &mut self.shared });
        self.shared.tail_bytes = self.shared.tail_bytes + chat.tail_bytes() - before;
        if self.shared.tail_bytes > TAILS_BYTES_MAX {
            self.shrink();
        }
    }

    /// Moves the hand of the clock a little: what it passes twice without being touched goes.
    fn unload_idle(&mut self) {
        for _ in 0..CLOCK_STEPS {
            if self.chats.len() <= self.shared.options.chats_loaded_max {
                return;
            }
            let Some(id) = self.ring.pop_front() else { return };
            let keep = match self.chats.get_mut(&id) {
                Some(State::Ready(chat)) => std::mem::take(&mut chat.touched) || !chat.is_quiet(),
                Some(State::Loading(_)) => true,
                None => continue,
            };
            if keep {
                self.ring.push_back(id);
            } else if let Some(State::Ready(chat)) = self.chats.remove(&id) {
                self.shared.tail_bytes -= chat.tail_bytes();
            }
        }
    }

    /// Drops entries from memory that can be read again.
    fn shrink(&mut self) {
        for _ in 0..CLOCK_STEPS {
            let Some(id) = self.ring.pop_front() else { return };
            if let Some(State::Ready(chat)) = self.chats.get_mut(&id) {
                self.shared.tail_bytes -= chat.tail_bytes();
                chat.forget_tail();
            }
            self.ring.push_back(id);
        }
    }
}

/// Read tokens of this side are even, those of the users' side odd.
const READ_STEP: u64 = 2;

/// How far the hand of the clock moves at a time.
const CLOCK_STEPS: usize = 8;

/// How many bytes of entries all chats of a shard keep in memory.
const TAILS_BYTES_MAX: usize = 64 * 1024 * 1024;

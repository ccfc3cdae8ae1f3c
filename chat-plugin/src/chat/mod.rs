//! The side of the chats: every chat whose slot is this shard's, as far as it is in memory.
//!
//! A chat is read when something concerns it, and what comes meanwhile waits, in order. Beyond a
//! number of chats the one idle longest is dropped from memory: nothing is lost by that, all it
//! knows is in rows or is known to the devices that are connected.

mod about;
mod attach;
mod authors;
mod cursor;
mod cx;
mod due;
mod group;
mod hidden;
mod history;
mod ids;
mod info;
mod judge;
mod keys;
mod load;
mod log;
mod look;
mod members;
mod one;
mod plan;
mod receipt;
mod retention;
mod retry;
mod room;
mod seats;
mod settings;
mod stance;
mod ticks;
mod told;
mod volatile;

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::hook::Host;
use tidings_core::record::{Position, Row};
use tidings_core::slot::Slot;
use tidings_core::time::Time;

use crate::event::Listener;
use crate::map::{Map, map};
use crate::moderate::Moderate;
use crate::options::{ChatOptions, Secret};
use crate::peer::{ChatInput, Refusal, ToChat};
use crate::rows::due_range;
use crate::seal::Vault;
use crate::topics::ChatId;
use cx::{Cx, Reading, Shared, Timer, Waiting};
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

impl ChatSide {
    pub(crate) fn new(
        options: Arc<ChatOptions>,
        secret: Option<Secret>,
        vault: Option<Arc<dyn Vault>>,
        moderator: Option<Arc<dyn Moderate>>,
    ) -> Self {
        let mut shared = Shared::new(options, secret, vault);
        shared.moderator = moderator;
        Self { chats: map(), ring: VecDeque::new(), shared }
    }

    /// When [`ChatSide::timed_out`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let rooms = self.shared.rooms.next_due();
        [self.shared.timers.next(), rooms].into_iter().flatten().min()
    }

    /// The program around the broker wants to hear what happens.
    pub(crate) fn listen(&mut self, listener: Listener) {
        self.shared.listeners.add(listener);
    }

    /// Takes what a user's side says.
    pub(crate) fn handle(&mut self, input: ToChat, host: &mut dyn Host) {
        if input.place.is_room() {
            self.handle_room(input, host);
            return self.settle(host);
        }
        self.pass(input, host);
    }

    /// Passes on what concerns a chat that may not be in memory.
    fn pass(&mut self, input: ToChat, host: &mut dyn Host) {
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
                if !self.shared.volatile.holds(id) {
                    // What is only here does not leave memory.
                    self.ring.push_back(id);
                }
                self.unload_idle();
            }
        }
    }

    /// Records up to `position` are safe.
    pub(crate) fn stored(&mut self, position: Position, host: &mut dyn Host) {
        while self.shared.stored.front().is_some_and(|(at, ..)| *at <= position) {
            let Some((_, id, waiting)) = self.shared.stored.pop_front() else { break };
            self.safe(id, waiting, host);
        }
    }

    /// A record of a chat is safe.
    fn safe(&mut self, id: ChatId, waiting: Waiting, host: &mut dyn Host) {
        self.with(id, host, |chat, cx| match waiting {
            Waiting::Entry => chat.entry_stored(cx),
            Waiting::Flush { members, readers } => chat.flush_stored(&members, readers, cx),
            Waiting::Silent { effect, seq } => chat.silent_stored(effect, seq, cx),
            Waiting::Stance { shard, telling } => chat.stance_stored(shard, telling, cx),
        });
    }

    /// What chats that are in memory only have stored and read.
    fn settle(&mut self, host: &mut dyn Host) {
        let mut grown = None;
        loop {
            if let Some((id, waiting)) = self.shared.volatile.done.pop_front() {
                if self.shared.volatile.bytes(id) > self.shared.options.room_bytes_max {
                    grown = Some(id);
                }
                self.safe(id, waiting, host);
            } else if let Some((token, rows, more)) = self.shared.volatile.read.pop_front() {
                self.rows(token, rows, more, host);
            } else if let Some(id) = grown.take() {
                self.with(id, host, Chat::drop_oldest);
            } else {
                return;
            }
        }
    }

    /// Rows have come. Returns whether they were asked for from here.
    pub(crate) fn rows(&mut self, token: u64, rows: Vec<Row>, more: bool, host: &mut dyn Host) {
        let Some((id, reading)) = self.shared.reads.remove(&token) else { return };
        if let Reading::Due(slot) = reading {
            return Cx { host, shared: &mut self.shared }.due_read(slot, &rows, more);
        }
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
                    self.shared.memory_bytes += chat.memory_bytes();
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
            Reading::About => chat.about_read(&rows, cx),
            Reading::Fetch { to, user, visible } => {
                chat.fetched(to, &user, visible, &rows, more, cx);
            }
            Reading::History(asked) => chat.history_read(*asked, &rows, more, cx),
            Reading::Look(looked) => chat.look_read(*looked, &rows, more),
            Reading::Ids => chat.ids_read(&rows, more, cx),
            Reading::IdsOfLog => chat.ids_of_log_read(&rows, more, cx),
            Reading::SweepLog => chat.sweep_log(&rows, cx),
            Reading::Info { user, of, question } => {
                chat.info_read(&user, &of, question, &rows, cx);
            }
            Reading::Purge => chat.purge_read(&rows, more, cx),
            Reading::Whole
            | Reading::Front
            | Reading::End
            | Reading::Between(_)
            | Reading::Due(_) => {}
        });
    }

    /// Does what is due by now.
    pub(crate) fn timed_out(&mut self, host: &mut dyn Host) {
        let now = host.now();
        while let Some((id, timer)) = self.shared.timers.pop(now) {
            if matches!(timer, Timer::Wake) {
                self.wake(id, host);
                continue;
            }
            self.with(id, host, |chat, cx| match timer {
                Timer::Flush => chat.flush(cx),
                Timer::Receipts => chat.receipts(cx),
                Timer::Sweep => chat.sweep(cx),
                Timer::Expend => chat.expend(cx),
                Timer::Readers => chat.keep_readers(cx),
                Timer::Wake => {}
            });
        }
        while let Some(id) = self.shared.rooms.pop_due(now) {
            self.watch_room(id, host);
        }
        self.settle(host);
    }

    /// The shard begins: what is due is known to it before anybody asks.
    pub(crate) fn started(&mut self, host: &mut dyn Host) {
        let (shard, shards) = (host.shard(), host.shards());
        let mut cx = Cx { host, shared: &mut self.shared };
        for slot in (0..=u8::MAX).map(Slot).filter(|slot| slot.shard(shards) == shard) {
            cx.read_due(slot, due_range(slot));
        }
    }

    /// Something of a chat is due.
    fn wake(&mut self, id: ChatId, host: &mut dyn Host) {
        let Some((at, place)) = self.shared.due.get(&id) else { return };
        // A timer of before it was put off finds it not due.
        if *at <= host.now() {
            let place = Arc::clone(place);
            self.handle(ToChat { place, what: ChatInput::Wake }, host);
        }
    }

    fn with(&mut self, id: ChatId, host: &mut dyn Host, act: impl FnOnce(&mut Chat, &mut Cx<'_>)) {
        let Some(State::Ready(chat)) = self.chats.get_mut(&id) else { return };
        let (before, held) = (chat.tail_bytes(), chat.memory_bytes());
        chat.touched = true;
        act(chat, &mut Cx { host, shared: &mut self.shared });
        self.shared.tail_bytes = self.shared.tail_bytes + chat.tail_bytes() - before;
        self.shared.memory_bytes = self.shared.memory_bytes + chat.memory_bytes() - held;
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
                self.shared.memory_bytes -= chat.memory_bytes();
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
                self.shared.tail_bytes += chat.tail_bytes();
            }
            self.ring.push_back(id);
        }
    }
}

/// How far the hand of the clock moves at a time.
const CLOCK_STEPS: usize = 8;

/// How many bytes of entries all chats of a shard keep in memory.
const TAILS_BYTES_MAX: usize = 64 * 1024 * 1024;

//! What a chat acts through: the host, and what all chats of a shard have in common.
//!
//! A chat asks for rows, timers and stored records by what they are for, and gets them back through
//! `mod.rs`, which knows of whom each answer is. A chat that was unloaded meanwhile gets none.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tidings_core::hook::{Host, SessionId};
use tidings_core::record::{Op, Position, Query, Record};
use tidings_core::slot::{ShardId, Slot};
use tidings_core::time::Time;

use super::group::Effect;
use super::history::Asked;
use super::look::Looked;
use super::room::Rooms;
use super::volatile::Volatile;
use crate::call::Reply;
use crate::deadline::Deadlines;
use crate::event::Listeners;
use crate::map::{Map, map};
use crate::moderate::Moderate;
use crate::options::{ChatOptions, Secret};
use crate::peer::{Ask, ChatInput, FeedId, Origin, Outcome, Peer, Question, Refusal, ToUser};
use crate::rows::MemberRow;
use crate::seal::Vault;
use crate::ties::Telling;
use crate::topics::{ChatId, Place, user_slot};

/// What all chats of a shard have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Arc<ChatOptions>,
    pub(super) timers: Deadlines<(ChatId, Timer)>,
    pub(super) reads: Map<u64, (ChatId, Reading)>,
    pub(super) next_read: u64,
    pub(super) stored: VecDeque<(Position, ChatId, Waiting)>,
    /// Who may refuse a message.
    pub(super) moderator: Option<Arc<dyn Moderate>>,
    /// Chats of which something goes by time, in memory or not.
    pub(super) due: Map<ChatId, (Time, Arc<Place>)>,
    /// Where the keys of chats are; none, and nothing is sealed.
    pub(super) vault: Option<Arc<dyn Vault>>,
    /// What makes links unguessable; none where the system had no randomness to give.
    secret: Option<Secret>,
    /// What the entries in memory take, of all chats.
    pub(super) tail_bytes: usize,
    /// What those entries take that are nowhere else.
    pub(super) memory_bytes: usize,
    /// The rows of chats that are in memory only.
    pub(super) volatile: Volatile,
    pub(super) rooms: Rooms,
    /// Who wants to hear what happens.
    pub(super) listeners: Listeners,
}

impl Shared {
    pub(super) fn new(
        options: Arc<ChatOptions>,
        secret: Option<Secret>,
        vault: Option<Arc<dyn Vault>>,
    ) -> Self {
        Self {
            options,
            vault,
            secret,
            moderator: None,
            timers: Deadlines::new(),
            reads: map(),
            next_read: 0,
            stored: VecDeque::new(),
            due: map(),
            tail_bytes: 0,
            memory_bytes: 0,
            volatile: Volatile::new(),
            rooms: Rooms::new(),
            listeners: Listeners::default(),
        }
    }
}

/// What a chat sets timers for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Timer {
    /// Store cursors.
    Flush,
    /// Tell ticks.
    Receipts,
    /// Delete what has expired.
    Sweep,
    /// Look what all members of a group have.
    Expend,
    /// Store the cursors of a channel's readers.
    Readers,
    /// Something goes by time.
    Wake,
}

/// What a chat reads rows for.
#[derive(Debug)]
pub(super) enum Reading {
    /// To be loaded: its rows from the first on.
    Whole,
    /// To be loaded: more of its rows before the ids.
    Front,
    /// To be loaded: the end of its log.
    End,
    /// To be loaded: who wrote what lies between the row that tells it and the end of its log, up to
    /// this place.
    Between(u64),
    /// To know what became of the foremost send's id.
    Id,
    /// To know all ids: their pages, and the entries behind these.
    Ids,
    IdsOfLog,
    /// To know whose entry the foremost send is about.
    About,
    /// For a device: everything up to `visible`.
    Fetch {
        to: Fetcher,
        user: Arc<str>,
        visible: u64,
    },
    /// For a member who asked for a part of the log.
    History(Box<Asked>),
    /// For the program around the broker, which asked for a part of the log.
    Look(Box<Looked>),
    /// To find entries that have expired.
    SweepLog,
    /// To find entries that go by a time of their own.
    Purge,
    /// To know what is due, of all chats of a slot.
    Due(Slot),
    /// To know who wrote an entry whose receipts somebody asks for.
    Info {
        user: Arc<str>,
        of: Ask,
        question: Box<Question>,
    },
}

/// The device that fetches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetcher {
    pub(super) shard: ShardId,
    pub(super) session: SessionId,
    pub(super) feed: FeedId,
}

/// What waits for a record to be safe.
#[derive(Debug)]
pub(super) enum Waiting {
    /// The foremost pending entry.
    Entry,
    /// How far the members were, and who waits to hear that it is stored.
    Flush { members: Vec<(Arc<str>, MemberRow)>, readers: Vec<Origin> },
    /// A change of a channel that is no entry.
    Silent { effect: Box<Effect>, seq: u64 },
    /// Who waits to hear that a member's stance is stored.
    Stance { shard: ShardId, telling: Telling },
}

/// What a chat acts through.
pub(super) struct Cx<'a> {
    pub(super) host: &'a mut dyn Host,
    pub(super) shared: &'a mut Shared,
}

impl Cx<'_> {
    pub(super) fn now(&self) -> Time {
        self.host.now()
    }

    pub(super) fn options(&self) -> &ChatOptions {
        &self.shared.options
    }

    /// A word that nobody guesses: the host's random numbers are for everybody to see in message ids,
    /// and what comes next could be told from them.
    pub(super) fn token(&mut self, chat: ChatId) -> Option<String> {
        let random = self.host.random().to_be_bytes();
        let now = self.now().as_millis().to_be_bytes();
        let secret = self.shared.secret.as_ref()?;
        let hash = Sha256::new().chain_update(secret.0).chain_update(chat.0);
        let hash = hash.chain_update(random).chain_update(now).finalize();
        Some(URL_SAFE_NO_PAD.encode(hash.get(..TOKEN_BYTES)?))
    }

    pub(super) fn set_timer(&mut self, at: Time, chat: ChatId, timer: Timer) {
        self.shared.timers.set(at, (chat, timer));
    }

    pub(super) fn read(&mut self, chat: ChatId, query: Query, reading: Reading) {
        let token = self.shared.next_read;
        self.shared.next_read += READ_STEP;
        self.shared.reads.insert(token, (chat, reading));
        if self.shared.volatile.holds(chat) {
            return self.shared.volatile.ask(chat, token, query);
        }
        self.host.read(token, query);
    }

    /// Stores what nobody waits for.
    pub(super) fn store(&mut self, ops: Vec<Op>, urgent: bool) {
        match self.shared.volatile.owner(&ops) {
            Some(chat) => self.shared.volatile.apply(chat, ops),
            None => {
                self.host.store(Record { ops, urgent });
            }
        }
    }

    pub(super) fn store_and_wait(
        &mut self,
        chat: ChatId,
        ops: Vec<Op>,
        urgent: bool,
        waiting: Waiting,
    ) {
        if self.shared.volatile.holds(chat) {
            self.shared.volatile.apply(chat, ops);
            return self.shared.volatile.done.push_back((chat, waiting));
        }
        let position = self.host.store(Record { ops, urgent });
        self.shared.stored.push_back((position, chat, waiting));
    }

    /// Waits for what is on its way already. Returns whether there is anything.
    pub(super) fn wait_too(&mut self, chat: ChatId) -> bool {
        let Some((position, ..)) = self.shared.stored.back() else { return false };
        let position = *position;
        self.shared.stored.push_back((position, chat, Waiting::Entry));
        true
    }

    /// Sees to it that a chat is woken when something of it is due.
    pub(super) fn wake_at(&mut self, place: &Arc<Place>, at: Option<Time>) {
        match at {
            Some(at) => {
                self.shared.due.insert(place.id, (at, Arc::clone(place)));
                self.set_timer(at, place.id, Timer::Wake);
            }
            None => {
                self.shared.due.remove(&place.id);
            }
        }
    }

    pub(super) fn tell_user(&mut self, user: &str, what: ToUser) {
        let shard = user_slot(user).shard(self.host.shards());
        self.tell_shard(shard, what);
    }

    pub(super) fn tell_shard(&mut self, shard: ShardId, what: ToUser) {
        self.host.send(shard, Box::new(Peer::User(what)));
    }

    pub(super) fn answer(
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
    pub(super) fn refuse(&mut self, place: &Arc<Place>, what: ChatInput, refusal: Refusal) {
        let outcome = Outcome::Refused(refusal);
        match what {
            ChatInput::Send(post) => {
                let id = post.id.map(|id| (id, false));
                self.answer(place, post.origin, id, outcome);
            }
            ChatInput::Info { question, .. } => {
                self.answer(place, question.origin, None, outcome);
            }
            ChatInput::Read { origin, .. } => {
                self.answer(place, origin, None, outcome);
            }
            ChatInput::Stance { telling: Some((shard, telling)), .. } => {
                self.tell_shard(shard, ToUser::Told { telling, kept: false });
            }
            ChatInput::Survey { reply, .. } => refuse_call(reply, outcome),
            ChatInput::Look { reply, .. } => refuse_call(reply, outcome),
            ChatInput::Stand { reply, .. } => refuse_call(reply, outcome),
            ChatInput::History { ask, .. } => self.answer(place, ask.origin, None, outcome),
            ChatInput::Summarise { shard, sync, .. } => {
                let place = Arc::clone(place);
                self.tell_shard(shard, ToUser::Summary { place, sync, summary: None });
            }
            _ => {}
        }
    }
}

fn refuse_call<T>(reply: Reply<T>, outcome: Outcome) {
    if let Outcome::Refused(refusal) = outcome {
        reply.give(Err(refusal.into()));
    }
}

/// How many bytes of a hash a link's token stands for.
const TOKEN_BYTES: usize = 16;

/// Read tokens of this side are even, those of the users' side odd.
const READ_STEP: u64 = 2;

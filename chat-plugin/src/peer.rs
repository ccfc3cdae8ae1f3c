//! What the two sides of chat say to each other: the side of the users, where sessions are, and the
//! side of the chats, where logs are.
//!
//! Both live in every shard, and a chat's shard is often not its members'. Messages from one shard
//! to another arrive in order, and much rests on that: what a chat has delivered before it answers
//! an attach is before that answer; a device's progress is before its next attach.

mod answer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_core::hook::SessionId;
use tidings_core::slot::ShardId;
use tidings_core::time::Time;

use crate::call::{
    CallError, Opened, PushTarget, Reply, SeatNames, Seats, Sent, Standing, Survey, Why,
};
use crate::code::Code;
use crate::entry::{Entry, Kind};
use crate::event::{Listener, LogPage};
use crate::group::Change;
use crate::json::Request;
use crate::ties::{Stance, Taken, Telling, Watching};
use crate::topics::{ChatId, Place};

pub(crate) use answer::{AnswerTo, Origin, Question};

/// A message between shards, or from a shard to itself.
#[derive(Debug)]
pub(crate) enum Peer {
    Chat(ToChat),
    User(ToUser),
    Seat(ToSeat),
    Pair(ToPair),
    /// The program around the broker wants to hear what happens.
    Listen(Listener),
}

/// What the program around the broker sends, or changes in a group.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) place: Arc<Place>,
    pub(crate) post: Box<Post>,
    pub(crate) asked: Asked,
}

/// What it waits for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// That it is done; nothing where it was so already.
    Sent(Reply<Option<Sent>>),
    /// The token of a link.
    Invite(Reply<String>),
}

/// Which part of a log is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    /// From here on; none: the newest up to `to`.
    pub(crate) from: Option<u64>,
    /// Up to here, which it holds; none: up to the end.
    pub(crate) to: Option<u64>,
    /// How many entries at most.
    pub(crate) limit: usize,
}

/// A part of a log, completely: what is between `from` and `to` and not among the entries is gone.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The newest entry of the log.
    pub(crate) last: u64,
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) gone: Vec<(u64, u64)>,
}

/// Where a chat is, as one member sees it.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) last: u64,
    pub(crate) time: Time,
    pub(crate) read: u64,
    pub(crate) unread: u64,
    /// Whether the other one is a stranger, who waits to be answered or accepted.
    pub(crate) stranger: bool,
    /// How far the others are, if the member has written.
    pub(crate) others: Vec<(Arc<str>, Tick)>,
}

/// Which `sync` a summary is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SyncId(pub(crate) u64);

/// A send on its way to the log.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) sender: Arc<str>,
    pub(crate) device: Arc<str>,
    /// The sender's id for it: none, and a retry is a new message.
    pub(crate) id: Option<Box<str>>,
    pub(crate) content_type: Option<Box<str>>,
    pub(crate) payload: Bytes,
    /// What it becomes in the log.
    pub(crate) kind: Kind,
    /// The entry it is about; 0 for none.
    pub(crate) refers: u64,
    /// What is to be changed in a group; then there is no id and no payload. It takes its turn among
    /// the sends, so that what is sent behind it finds it done.
    pub(crate) change: Option<Box<Change>>,
    /// Where it goes what the change brings besides.
    pub(crate) ask: Option<Box<Question>>,
    pub(crate) origin: Origin,
}

/// What a send is about that is about all there is up to now.
pub(crate) const EVERYTHING: u64 = u64::MAX;

/// The payload of an entry by which somebody deletes all of a chat for herself.
pub(crate) const ALL: &[u8] = b"all";

/// One device of one user: a session that hears messages and acknowledges them.
#[derive(Debug, Clone)]
pub(crate) struct DeviceOf {
    pub(crate) user: Arc<str>,
    pub(crate) client_id: Arc<str>,
    pub(crate) session: SessionId,
    /// Whether its cursor is to outlive its connection.
    pub(crate) persistent: bool,
}

/// One stay of a device, from connect to disconnect: the answer to a question of an earlier stay
/// would make the present one pass over what was lost with that connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedId(pub(crate) u64);

/// What a chat is told.
#[derive(Debug)]
pub(crate) struct ToChat {
    pub(crate) place: Arc<Place>,
    pub(crate) what: ChatInput,
}

/// See [`ToChat`].
#[derive(Debug)]
pub(crate) enum ChatInput {
    /// A member sends.
    Send(Box<Post>),
    /// A member has read up to `seq`.
    Read { user: Arc<str>, device: Arc<str>, seq: u64, origin: Origin },
    /// A device is there and wants what lies beyond its cursor.
    Attach {
        device: DeviceOf,
        stance: Stance,
        feed: FeedId,
        /// Since when it is a device.
        since: Time,
        /// Whether it is its user's only one.
        sole: bool,
        /// Whether its session was there before this connection.
        resumed: bool,
    },
    /// A device wants entries from `from` on.
    Fetch { user: Arc<str>, shard: ShardId, session: SessionId, feed: FeedId, from: u64 },
    /// A member asks for a part of the log.
    History { user: Arc<str>, range: Range, ask: Box<Question> },
    /// A member's side asks where the chat is.
    Summarise { user: Arc<str>, shard: ShardId, sync: SyncId },
    /// A device has acknowledged everything up to `cursor`.
    Progress { device: DeviceOf, cursor: u64 },
    /// A device has acknowledged these, ascending, and does not know its cursor.
    Ahead { device: DeviceOf, seqs: Vec<u64> },
    /// A device of `user` has refused an entry.
    Failed { user: Arc<str>, seq: u64 },
    /// A device is no more.
    Detach { device: DeviceOf },
    /// A device has gone for a while: what the chat only remembers of it is to be kept.
    Rest { device: DeviceOf },
    /// A user listens with QoS 0 and has no device there.
    Listen { user: Arc<str> },
    /// A member types.
    Typing { user: Arc<str>, state: &'static str },
    /// Something of the chat is due to go.
    Wake,
    /// A member asks who is in the chat, or how far all are with one entry.
    Info { user: Arc<str>, of: Box<Ask>, question: Box<Question> },
    /// A member has the chat in her index now, or not.
    Begun { user: Arc<str>, taken: Taken, stance: Stance, devices: Vec<DeviceOf> },
    /// How a member stands to the others from now on. Whoever waits for it is told when it is kept.
    Stance { user: Arc<str>, stance: Stance, telling: Option<(ShardId, Telling)> },
    /// What only rooms are told.
    Room(Box<ToRoom>),
    /// The program around the broker asks who is there and how far all are.
    Survey { after: Option<Arc<str>>, limit: usize, reply: Reply<Survey> },
    /// It asks for a part of the log.
    Look { from: u64, limit: usize, reply: Reply<LogPage> },
    /// It asks how far one member is, if that is one.
    Stand { user: Arc<str>, reply: Reply<Option<Standing>> },
}

/// What only rooms are told.
#[derive(Debug)]
pub(crate) enum ToRoom {
    /// It begins, with links to its seats or for two who were paired.
    Make { seats: Seats, paired: Option<Paired>, reply: Option<Reply<()>> },
    /// A member ends it, or (none) the program around the broker.
    End { user: Option<Arc<str>>, why: Why, origin: Option<Origin>, reply: Option<Reply<()>> },
    /// A member says something to the other's devices that is not kept.
    Signal { user: Arc<str>, payload: Bytes, origin: Origin },
}

/// Over what two were brought together.
#[derive(Debug, Clone)]
pub(crate) struct Paired {
    pub(crate) pool: Arc<str>,
    pub(crate) interest: Option<Arc<str>>,
}

/// What users are told of rooms and pools.
#[derive(Debug)]
pub(crate) enum RoomTold {
    /// Somebody was found.
    Paired { place: Arc<Place>, user: Arc<str>, paired: Paired },
    /// Nobody was found in time.
    Unpaired { user: Arc<str>, pool: Arc<str> },
    /// A room is over before long.
    Ending { place: Arc<Place>, user: Arc<str>, at: Time, why: Why },
    /// It is over.
    Ended { place: Arc<Place>, user: Arc<str>, seq: u64, why: Why },
    /// What the other says that is not kept.
    Signal { place: Arc<Place>, to: Arc<str>, from: Arc<str>, payload: Bytes, origin: Origin },
}

/// What the keeper of a seat's link is told.
#[derive(Debug)]
pub(crate) enum ToSeat {
    Add { link: Box<str>, seat: Seat, reply: Reply<()> },
    Drop { link: Box<str> },
    Open { link: Box<str>, given: Box<[u8]>, reply: Reply<Opened> },
}

/// A seat of a room, and what its code is known by.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) room: Arc<str>,
    pub(crate) number: u8,
    pub(crate) names: Option<SeatNames>,
    pub(crate) salt: [u8; 16],
    pub(crate) code: [u8; 32],
}

/// What the home of a pool is told.
#[derive(Debug)]
pub(crate) enum ToPair {
    /// Somebody waits for somebody.
    Join { user: Arc<str>, pool: Arc<str>, interests: Vec<Arc<str>>, ttl: Duration, origin: Origin },
    /// Somebody does not wait any more.
    Leave { user: Arc<str>, pool: Arc<str> },
}

/// What is asked of `info`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// The entry it is about; none: the chat.
    pub(crate) seq: Option<u64>,
    /// The member behind whom the answer begins.
    pub(crate) after: Option<String>,
    /// How many members it holds.
    pub(crate) limit: Option<usize>,
    /// What the asker calls it.
    pub(crate) request: Option<Request>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in the log.
    Sent { seq: u64, time: Time },
    /// It is done.
    Done,
    /// It was refused.
    Refused(Refusal),
}

/// Why a command was refused, for the Client to read.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: String,
    /// When it makes sense to try again, in milliseconds.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(code: Code, text: &str) -> Self {
        Self { code, text: text.into(), retry_after: None }
    }

    /// One that passes by itself.
    pub(crate) fn busy(text: &str) -> Self {
        Self { code: Code::Unavailable, text: text.into(), retry_after: Some(BUSY_MILLIS) }
    }

    /// Nothing more can be kept for the time being.
    pub(crate) fn disk_full() -> Self {
        let text = "the disk of the server is nearly full".into();
        Self { code: Code::Unavailable, text, retry_after: Some(DISK_FULL_MILLIS) }
    }
}

impl From<Refusal> for CallError {
    fn from(Refusal { code, text, retry_after }: Refusal) -> Self {
        Self::Refused { code: code.name(), text, retry_after }
    }
}

/// What to wait before trying again what was too much at once.
const BUSY_MILLIS: u64 = 1_000;

/// And what the disk has no room for.
const DISK_FULL_MILLIS: u64 = 30_000;

/// How far a user is, as another (or another device of hers) is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tick {
    pub(crate) delivered: Option<u64>,
    pub(crate) read: Option<u64>,
    pub(crate) failed: Vec<u64>,
}

/// How many have one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) seq: u64,
    pub(crate) delivered: usize,
    pub(crate) read: usize,
    /// How many others there are.
    pub(crate) members: usize,
}

/// The presence of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PresenceState {
    pub(crate) online: bool,
    /// Whether all her sessions say that she is not looking.
    pub(crate) away: bool,
    pub(crate) last_seen: Time,
    pub(crate) epoch: u64,
}

/// Which members of a direct chat are meant: a bit for each, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends(pub(crate) u8);

impl Ends {
    /// Those of them.
    pub(crate) fn of(self, place: &Place) -> impl Iterator<Item = &Arc<str>> {
        let members = place.members().iter().enumerate();
        members.filter(move |(at, _)| self.0 & (1 << at) != 0).map(|(_, user)| user)
    }
}

/// What the side of the users is told.
#[derive(Debug)]
pub(crate) enum ToUser {
    /// A chat begins: `user` is to have it in her index. It is `by` who writes to her, or adds her.
    Begin { place: Arc<Place>, user: Arc<str>, by: Option<Arc<str>>, since: Time },
    /// A user has written in a direct chat: the other one is none of her strangers any more.
    Knows { place: Arc<Place>, user: Arc<str> },
    /// A chat has kept what it was told of a user.
    Told { telling: Telling, kept: bool },
    /// A command has ended.
    Answered {
        place: Arc<Place>,
        origin: Origin,
        /// The id of the send; none for other commands.
        id: Option<Box<str>>,
        /// Whether the server made that id.
        made: bool,
        outcome: Outcome,
    },
    /// The answer to an attach.
    Attached {
        place: Arc<Place>,
        session: SessionId,
        feed: FeedId,
        cursor: u64,
        /// The newest entry that can be delivered.
        head: u64,
        /// When that was written.
        time: Time,
        /// How far the other member is, for a device of an author.
        peer: Option<Tick>,
        /// What the device's own user has read.
        own_read: u64,
        /// Whether she has written there, if it is a direct chat.
        knows: bool,
        /// Whether she is in it, and hears what comes.
        member: bool,
    },
    /// A user is in a group: she hears what comes from now on.
    Joined { place: Arc<Place>, user: Arc<str> },
    /// A user is in a group no more; `session`: only that one is to be told.
    Parted { place: Arc<Place>, user: Arc<str>, session: Option<SessionId>, seq: u64 },
    /// A user has all she will ever have of a group.
    Forget { place: Arc<Place>, user: Arc<str> },
    /// The same, but that her devices may lack something of it yet.
    Left { place: Arc<Place>, user: Arc<str> },
    /// A new entry of a group, for all its members on the shard.
    Broadcast { place: Arc<Place>, entry: Arc<Entry> },
    /// A member of a group types, for all others on the shard.
    TypingAll { place: Arc<Place>, from: Arc<str>, state: &'static str },
    /// Who is in a chat, or has an entry, in JSON, for the session that asked.
    Info { place: Arc<Place>, question: Box<Question>, body: Bytes },
    /// What a command brought, for the asking session.
    Answer { place: Arc<Place>, to: AnswerTo, kind: &'static str, body: Bytes },
    /// News of how many have an entry of a group, for its author.
    Counts { place: Arc<Place>, to: Arc<str>, counts: Counts },
    /// A new entry of a direct chat, for those of its members who are on the shard.
    Deliver {
        place: Arc<Place>,
        users: Ends,
        entry: Arc<Entry>,
        /// The send it came of, if that is to be answered there, and whether the server made its id.
        sent: Option<(Origin, bool)>,
    },
    /// The answer to a fetch: everything there is from what was asked for to `upto`.
    Entries {
        place: Arc<Place>,
        session: SessionId,
        feed: FeedId,
        entries: Vec<Arc<Entry>>,
        upto: u64,
    },
    /// The answer to a question for a part of the log.
    History { place: Arc<Place>, ask: Box<Question>, part: Part },
    /// Where a chat is; nothing if it cannot be said.
    Summary { place: Arc<Place>, sync: SyncId, summary: Option<Summary> },
    /// News of how far `about` is, for the devices of `to` but `except`.
    Receipt {
        place: Arc<Place>,
        to: Arc<str>,
        about: Arc<str>,
        tick: Tick,
        except: Option<Arc<str>>,
    },
    /// A session wants to know of a user's presence.
    Watch { user: Arc<str>, by: Box<Watching> },
    /// A session does not want to know any more.
    Unwatch { user: Arc<str>, shard: ShardId, session: SessionId },
    /// Somebody wants the keys of a user's devices.
    Keys { user: Arc<str>, by: Arc<str>, ask: Box<Question> },
    /// The keys of somebody's devices, each with its name, for the session that asked.
    KeysTold { of: Arc<str>, devices: Vec<(Arc<str>, Arc<str>)>, ask: Box<Question> },
    /// The program around the broker wants to know where a user's devices are woken.
    Pushes { user: Arc<str>, reply: Reply<Vec<PushTarget>> },
    /// Whom a session of hers watches may have come to show herself: she is to look again.
    Look { user: Arc<str>, session: SessionId, at: Arc<str> },
    /// The presence of a user, for some sessions of one shard.
    Presence { user: Arc<str>, state: PresenceState, sessions: Vec<SessionId> },
    /// A user types, or stops.
    Typing { place: Arc<Place>, to: Arc<str>, from: Arc<str>, state: &'static str },
    /// What users are told of rooms and pools.
    Room(RoomTold),
    /// The program around the broker sends something, or changes a group.
    Call(Box<Call>),
    /// A message was stored for these, of whom so much is still undelivered: who is not there?
    AreThere { place: Arc<Place>, seq: u64, users: Vec<(Arc<str>, u64)> },
}

impl ToChat {
    pub(crate) fn chat(&self) -> ChatId {
        self.place.id
    }
}

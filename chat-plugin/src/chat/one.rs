//! One chat: sends become entries, entries become visible, members hear them.
//!
//! A send passes four gates, in order of arrival: the chat exists (both members have it in their
//! index), its id is new, its record is stored, and only then it is acknowledged and delivered. A
//! retry that overtakes the storing waits for the same record.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::record::{Op, Query, Row};
use tidings_core::time::Time;

use super::authors::Authors;
use super::cursor::Member;
use super::cx::{Cx, Fetcher, Reading, Timer, Waiting};
use super::ids::Ids;
use super::log::Log;
use crate::code::Code;
use crate::entry::Entry;
use crate::peer::{ChatInput, DeviceOf, Origin, Outcome, Post, Refusal, ToUser};
use crate::rows::{
    CursorRow, HeadRow, IdHash, IdRow, RowValue, cursor_key, hash_content, hash_id, head_key,
    id_key, log_key, only,
};
use crate::topics::{ChatId, Place};

/// A chat in memory.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) place: Arc<Place>,
    /// When it began; nothing while it has not.
    pub(super) created: Option<Time>,
    /// Which members have written something: a bit for each.
    authors: u64,
    pub(super) log: Log,
    pub(super) ids: Ids,
    /// Who wrote what somebody has not read.
    pub(super) authors_of: Authors,
    /// In the order of the place's.
    pub(super) members: Vec<Member>,
    /// Sends that have no place in the log yet.
    waiting: VecDeque<Box<Post>>,
    blocked: Option<Blocked>,
    /// Entries that are not visible yet, in order.
    pending: VecDeque<Pending>,
    /// Reports of having read that wait for the next flush.
    pub(super) readers: Vec<Origin>,
    pub(super) flush_set: bool,
    pub(super) flushing: usize,
    pub(super) receipts_at: Option<Time>,
    pub(super) sweep_at: Time,
    pub(super) sweeping: bool,
    /// How many reads for others are on their way.
    pub(super) reads: usize,
    /// Whether something concerned it since the hand of the clock passed.
    pub(super) touched: bool,
}

/// Why the foremost send waits.
#[derive(Debug)]
enum Blocked {
    /// For members to have the chat in their index: a bit for each that is missing.
    Begin(u64),
    /// For the store to say whether its id is known.
    Id,
    /// For earlier entries to be stored.
    Full,
}

#[derive(Debug)]
struct Pending {
    entry: Arc<Entry>,
    made: bool,
    waiters: Vec<Origin>,
}

impl Chat {
    pub(super) fn new(
        place: Arc<Place>,
        head: Option<HeadRow>,
        log: Log,
        ids: Ids,
        authors_of: Authors,
        members: Vec<Member>,
    ) -> Self {
        Self {
            place,
            created: head.as_ref().map(|head| head.created),
            authors: head.map_or(0, |head| head.authors),
            log,
            ids,
            authors_of,
            members,
            reads: 0,
            waiting: VecDeque::new(),
            blocked: None,
            pending: VecDeque::new(),
            readers: Vec::new(),
            flush_set: false,
            flushing: 0,
            receipts_at: None,
            sweep_at: Time::NEVER,
            sweeping: false,
            touched: true,
        }
    }

    pub(super) fn id(&self) -> ChatId {
        self.place.id
    }

    pub(super) fn tail_bytes(&self) -> usize {
        self.log.tail_bytes()
    }

    pub(super) fn forget_tail(&mut self) {
        self.log.forget();
    }

    /// Whether nothing would be lost or late if it left memory.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
            && self.pending.is_empty()
            && self.readers.is_empty()
            && !self.flush_set
            && self.flushing == 0
            && self.receipts_at.is_none()
            && !self.sweeping
            && self.reads == 0
            && self.members.iter().flat_map(|member| &member.devices).all(|d| d.persistent)
    }

    pub(super) fn handle(&mut self, what: ChatInput, cx: &mut Cx<'_>) {
        match what {
            ChatInput::Send(post) => self.send(post, cx),
            ChatInput::Read { user, device, seq, origin } => {
                self.read(&user, &device, seq, origin, cx);
            }
            ChatInput::Attach { device, feed, since, sole, resumed } => {
                self.attach(&device, feed, since, sole, resumed, cx);
            }
            ChatInput::Fetch { shard, session, feed, from } => {
                self.fetch(Fetcher { shard, session, feed }, from, cx);
            }
            ChatInput::History { user, range, ask } => self.history(&user, range, ask, cx),
            ChatInput::Summarise { user, shard, sync } => self.summarise(&user, shard, sync, cx),
            ChatInput::Progress { device, cursor } => self.progress(&device, cursor, cx),
            ChatInput::Ahead { device, seqs } => self.progress_ahead(&device, &seqs, cx),
            ChatInput::Failed { user, seq } => self.failed(&user, seq, cx),
            ChatInput::Detach { device } => self.detach(&device, cx),
            ChatInput::Begun { user, taken, devices } => self.begun(&user, taken, devices, cx),
        }
    }

    fn send(&mut self, post: Box<Post>, cx: &mut Cx<'_>) {
        if self.waiting.len() >= cx.options().chat_waiting_max {
            let refusal = Refusal::busy("too many messages wait in this chat");
            return cx.refuse(&self.place, ChatInput::Send(post), refusal);
        }
        self.waiting.push_back(post);
        self.work(cx);
    }

    /// Lets sends pass as far as they can.
    fn work(&mut self, cx: &mut Cx<'_>) {
        while self.blocked.is_none() {
            let Some(post) = self.waiting.front() else { return };
            if self.created.is_none() {
                return self.begin(cx);
            }
            if self.pending.len() >= PENDING_MAX {
                self.blocked = Some(Blocked::Full);
                return;
            }
            let hash = post.id.as_ref().map(|id| hash_id(&post.sender, id));
            if let Some(hash) = &hash {
                if let Some(known) = self.ids.get(hash).copied() {
                    self.retried(known, cx);
                    continue;
                }
                if !self.ids.complete {
                    self.blocked = Some(Blocked::Id);
                    let range = only(id_key(self.id(), hash));
                    let query =
                        Query { range, rows_max: 1, bytes_max: usize::MAX, backwards: false };
                    return cx.read(self.id(), query, Reading::Id);
                }
            }
            self.append(hash, cx);
        }
    }

    /// Asks every member's side to put the chat into her index.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        self.blocked = Some(Blocked::Begin((1 << self.place.members().len()) - 1));
        for user in self.place.members() {
            let begin = ToUser::Begin {
                place: Arc::clone(&self.place),
                user: Arc::clone(user),
                since: cx.now(),
            };
            cx.tell_user(user, begin);
        }
    }

    fn begun(&mut self, user: &str, taken: bool, devices: Vec<DeviceOf>, cx: &mut Cx<'_>) {
        let Some(Blocked::Begin(missing)) = &mut self.blocked else { return };
        let Some(at) = self.place.member(user) else { return };
        if !taken {
            self.blocked = None;
            for post in std::mem::take(&mut self.waiting) {
                let refusal = Refusal::new(Code::Limit, "one of you has too many chats");
                cx.refuse(&self.place, ChatInput::Send(post), refusal);
            }
            return;
        }
        *missing &= !(1 << at);
        let all = *missing == 0;
        if let Some(member) = self.members.get_mut(at) {
            for device in devices {
                if member.device(&device.client_id).is_none() {
                    member.begin_device(&device, 0);
                }
            }
        }
        if all {
            self.blocked = None;
            self.created = Some(cx.now());
            self.work(cx);
        }
    }

    /// The foremost send has an id that is known.
    fn retried(&mut self, known: IdRow, cx: &mut Cx<'_>) {
        let Some(post) = self.waiting.pop_front() else { return };
        if known.content != hash_content(post.content_type.as_deref(), &post.payload) {
            let refusal =
                Refusal::new(Code::Conflict, "this id was already used for another message");
            return cx.refuse(&self.place, ChatInput::Send(post), refusal);
        }
        if let Some(pending) = self.pending.iter_mut().find(|p| p.entry.seq == known.seq) {
            if pending.waiters.len() >= WAITERS_MAX {
                let refusal = Refusal::busy("too many retries of one message at once");
                return cx.refuse(&self.place, ChatInput::Send(post), refusal);
            }
            pending.waiters.push(post.origin);
            return;
        }
        let outcome = Outcome::Sent { seq: known.seq, time: known.time };
        cx.answer(&self.place, post.origin, post.id.map(|id| (id, false)), outcome);
    }

    /// The store has said whether the foremost send's id is known.
    pub(super) fn id_read(&mut self, rows: &[Row], cx: &mut Cx<'_>) {
        if !matches!(self.blocked, Some(Blocked::Id)) {
            return;
        }
        self.blocked = None;
        let known = rows.first().map(|row| IdRow::from_bytes(&row.value));
        match known {
            None => {
                let hash = self
                    .waiting
                    .front()
                    .and_then(|post| Some(hash_id(&post.sender, post.id.as_deref()?)));
                self.append(hash, cx);
            }
            Some(Ok(known)) => self.retried(known, cx),
            Some(Err(_)) => {
                if let Some(post) = self.waiting.pop_front() {
                    let refusal = Refusal::new(Code::Unavailable, "the id's row cannot be read");
                    cx.refuse(&self.place, ChatInput::Send(post), refusal);
                }
            }
        }
        self.work(cx);
    }

    /// The foremost send gets its place and is stored: one record.
    fn append(&mut self, hash: Option<IdHash>, cx: &mut Cx<'_>) {
        let Some(post) = self.waiting.pop_front() else { return };
        let post = *post;
        let Some(author) = self.place.member(&post.sender) else { return };
        let (seq, time) = self.log.next(cx.now());
        let made = post.id.is_none();
        let id = post.id.unwrap_or_else(|| made_id(cx.host.random()));
        let entry = Arc::new(Entry {
            seq,
            time,
            from: post.sender,
            device: post.device,
            id,
            content_type: post.content_type,
            payload: post.payload,
        });
        let mut ops = Vec::with_capacity(2);
        ops.push(Op::Put { key: log_key(self.id(), seq), value: entry.to_bytes() });
        if let Some(hash) = hash {
            let content = hash_content(entry.content_type.as_deref(), &entry.payload);
            let row = IdRow { seq, content, time };
            ops.push(Op::Put { key: id_key(self.id(), &hash), value: row.to_bytes() });
            self.ids.insert(hash, row);
        }
        self.authors_of.push(&entry);
        self.log.push(Arc::clone(&entry));
        if self.authors & (1 << author) == 0 {
            // Once for each member: the head learns that she writes, and of the chat's beginning.
            self.authors |= 1 << author;
            ops.push(self.head_op());
            self.cursor_ops(&mut ops);
        }
        self.pending.push_back(Pending { entry, made, waiters: vec![post.origin] });
        cx.store_and_wait(self.id(), ops, true, Waiting::Entry);
    }

    /// The foremost pending entry is safe: now it counts.
    pub(super) fn entry_stored(&mut self, cx: &mut Cx<'_>) {
        let Some(Pending { entry, made, waiters }) = self.pending.pop_front() else { return };
        self.log.visible = entry.seq;
        for origin in waiters {
            let outcome = Outcome::Sent { seq: entry.seq, time: entry.time };
            cx.answer(&self.place, origin, Some((entry.id.clone(), made)), outcome);
        }
        for user in self.place.members() {
            let deliver = ToUser::Deliver {
                place: Arc::clone(&self.place),
                user: Arc::clone(user),
                entry: Arc::clone(&entry),
            };
            cx.tell_user(user, deliver);
        }
        if matches!(self.blocked, Some(Blocked::Full)) {
            self.blocked = None;
            self.work(cx);
        }
    }

    pub(super) fn writes(&self, member: usize) -> bool {
        self.authors & (1 << member) != 0
    }

    /// The head's row as it is now. Every record that deletes the newest entry holds it.
    pub(super) fn head_op(&self) -> Op {
        let head = HeadRow {
            members: self.place.members().iter().map(|name| name.to_string()).collect(),
            created: self.created.unwrap_or_default(),
            last_seq: self.log.last_seq,
            last_time: self.log.last_time,
            floor: self.log.floor,
            authors: self.authors,
        };
        Op::Put { key: head_key(self.id()), value: head.to_bytes() }
    }

    /// The rows of devices that are behind.
    pub(super) fn cursor_ops(&mut self, ops: &mut Vec<Op>) {
        let chat = self.id();
        for (user, member) in self.place.members().iter().zip(&mut self.members) {
            for device in member.devices.iter_mut().filter(|device| device.dirty) {
                device.dirty = false;
                let row = CursorRow { cursor: device.cursor, session: device.session.0 };
                let key = cursor_key(chat, user, &device.client_id);
                ops.push(Op::Put { key, value: row.to_bytes() });
            }
        }
    }

    /// Sees to it that cursors are stored before long, if there is something to store.
    pub(super) fn flush_later(&mut self, cx: &mut Cx<'_>) {
        if self.created.is_some() && self.members.iter().any(Member::is_dirty) {
            self.set_flush(cx);
        }
    }

    pub(super) fn set_flush(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.flush_set, true) {
            let at = cx.now() + cx.options().cursor_delay;
            cx.set_timer(at, self.id(), Timer::Flush);
        }
    }
}

/// An id for who gave none.
fn made_id(random: u64) -> Box<str> {
    let mut hex = [0; 16];
    let nibbles = random.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (digit, nibble) in hex.iter_mut().zip(nibbles) {
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    std::str::from_utf8(&hex).unwrap_or_default().into()
}

/// How many entries of a chat may wait to be stored at once.
const PENDING_MAX: usize = 2_048;

/// How many retries of one send may wait for it to be stored.
const WAITERS_MAX: usize = 64;

//! One chat: sends become entries, entries become visible, members hear them.
//!
//! A send passes four gates, in order of arrival: the chat exists (both members have it in their
//! index), its id is new, its record is stored, and only then it is acknowledged and delivered. A
//! retry that overtakes the storing waits for the same record. What changes a group stands in the
//! same line, so that whoever is added or removed is so for the next send: `group.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidings_core::record::Op;
use tidings_core::time::Time;

use super::authors::Authors;
use super::cx::{Cx, Fetcher, Timer, Waiting};
use super::due::Purging;
use super::group::{Effect, Joining};
use super::ids::{Ids, Known};
use super::keys::Keys;
use super::log::Log;
use super::members::Members;
use super::retry::{LookUp, ReadingIds};
use crate::entry::{Entry, Kind};
use crate::peer::{ChatInput, DeviceOf, Ends, Origin, Outcome, Post, Refusal, ToUser};
use crate::rows::{GroupRow, HeadRow, IdHash, RowValue, SettingsRow, hash_id, head_key};
use crate::ties::{Stance, Taken};
use crate::topics::{ChatId, Place, user_slot};

/// A chat in memory.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) place: Arc<Place>,
    /// When it began; nothing while it has not.
    pub(super) created: Option<Time>,
    pub(super) log: Log,
    pub(super) ids: Ids,
    /// Who wrote what somebody has not read.
    pub(super) authors_of: Authors,
    pub(super) members: Members,
    /// What it is besides, if it is a group.
    pub(super) group: GroupRow,
    pub(super) settings: SettingsRow,
    pub(super) keys: Keys,
    /// Up to here both members of a direct chat have deleted all there is.
    pub(super) dead_to: u64,
    /// Up to which place none is given again after a restart, where the log is in memory.
    pub(super) reserved: u64,
    /// When something goes by time, as its row says.
    pub(super) due: Option<Time>,
    pub(super) purging: Option<Purging>,
    /// Sends that have no place in the log yet.
    pub(super) waiting: VecDeque<Box<Post>>,
    pub(super) blocked: Option<Blocked>,
    /// The entry that the foremost send is about, if it was read for that.
    pub(super) target: Option<Entry>,
    /// Entries that are not visible yet, in order.
    pub(super) pending: VecDeque<Pending>,
    /// What came of users who are just being added.
    pub(super) parked: Vec<ChatInput>,
    /// Reports of having read that wait for the next flush.
    pub(super) readers: Vec<Origin>,
    pub(super) flush_set: bool,
    /// How many records are on their way that somebody waits for and that are no entries.
    pub(super) flushing: usize,
    pub(super) receipts_at: Option<Time>,
    /// What authors in a group were told of their entries.
    pub(super) told: BTreeMap<u64, (usize, usize)>,
    /// Whether it is to be looked before long what has been had by all.
    pub(super) expend_set: bool,
    /// Whether the next flush does.
    pub(super) expend_due: bool,
    /// Whether cursors of readers gather.
    pub(super) readers_set: bool,
    pub(super) sweep_at: Time,
    pub(super) sweeping: bool,
    /// What was read of its ids, while they are being read.
    pub(super) reading_ids: Option<Box<ReadingIds>>,
    /// How many reads for others are on their way.
    pub(super) reads: usize,
    /// Whether something concerned it since the hand of the clock passed.
    pub(super) touched: bool,
}

/// Why the foremost send waits.
#[derive(Debug)]
pub(super) enum Blocked {
    /// For members to have the chat in their index: a bit for each that is missing.
    Begin(u64),
    /// For users to have the group in their index who are to be added.
    Joining(Box<Joining>),
    /// For the store to say what is known of its id.
    Id,
    /// For the store to say whose entry it is about; its own id stands for it.
    About(Option<IdHash>),
    /// For earlier entries to be stored.
    Full,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) entry: Arc<Entry>,
    pub(super) made: bool,
    pub(super) waiters: Vec<Origin>,
    /// What follows from it for members of a group.
    pub(super) effect: Option<Box<Effect>>,
}

impl Chat {
    pub(super) fn new(
        place: Arc<Place>,
        head: Option<HeadRow>,
        log: Log,
        authors_of: Authors,
        mut members: Members,
        group: GroupRow,
    ) -> Self {
        let authors = head.as_ref().map_or(0, |head| head.authors);
        for (at, user) in place.members().iter().enumerate() {
            if let Some(member) = members.get_mut(user) {
                member.writes = authors & (1 << at) != 0;
                member.acquainted = member.writes;
            }
        }
        Self {
            place,
            created: head.as_ref().map(|head| head.created),
            log,
            ids: Ids::new(head.is_none()),
            authors_of,
            members,
            reads: 0,
            group,
            settings: SettingsRow::default(),
            keys: Keys::default(),
            dead_to: 0,
            reserved: 0,
            due: None,
            purging: None,
            waiting: VecDeque::new(),
            blocked: None,
            target: None,
            pending: VecDeque::new(),
            parked: Vec::new(),
            readers: Vec::new(),
            flush_set: false,
            flushing: 0,
            receipts_at: None,
            told: BTreeMap::new(),
            expend_set: false,
            expend_due: false,
            readers_set: false,
            sweep_at: Time::NEVER,
            sweeping: false,
            reading_ids: None,
            touched: true,
        }
    }

    pub(super) fn id(&self) -> ChatId {
        self.place.id
    }

    /// The memory of what can be read again, in bytes.
    pub(super) fn tail_bytes(&self) -> usize {
        let log = if self.log.is_in_memory() { 0 } else { self.log.tail_bytes() };
        log + self.ids.bytes()
    }

    /// And of what is nowhere else.
    pub(super) fn memory_bytes(&self) -> usize {
        if self.log.is_in_memory() { self.log.tail_bytes() } else { 0 }
    }

    pub(super) fn forget_tail(&mut self) {
        self.log.forget();
        if self.blocked.is_none() {
            self.ids.forget();
        }
    }

    /// Whether nothing would be lost or late if it left memory.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
            && self.blocked.is_none()
            && self.parked.is_empty()
            && self.pending.is_empty()
            && self.readers.is_empty()
            && !self.flush_set
            && self.flushing == 0
            && self.receipts_at.is_none()
            && !self.expend_set
            && !self.readers_set
            && !self.sweeping
            && self.reading_ids.is_none()
            && self.reads == 0
            && self.purging.is_none()
            && !self.log.holds_alone()
            && self.members.iter().flat_map(|(_, member)| &member.devices).all(|d| d.persistent)
    }

    pub(super) fn handle(&mut self, what: ChatInput, cx: &mut Cx<'_>) {
        if self.parked.len() < PARKED_MAX && self.is_early(&what) {
            return self.parked.push(what);
        }
        match what {
            ChatInput::Send(post) => self.send(post, cx),
            ChatInput::Read { user, device, seq, origin } => {
                self.read(&user, &device, seq, origin, cx);
            }
            ChatInput::Attach { device, stance, feed, since, sole, resumed } => {
                self.set_stance(&device.user, stance, cx);
                self.attach(&device, feed, since, sole, resumed, cx);
            }
            ChatInput::Fetch { user, shard, session, feed, from } => {
                self.fetch(Fetcher { shard, session, feed }, &user, from, cx);
            }
            ChatInput::History { user, range, ask } => self.history(&user, range, ask, cx),
            ChatInput::Summarise { user, shard, sync } => self.summarise(&user, shard, sync, cx),
            ChatInput::Progress { device, cursor } => self.progress(&device, cursor, cx),
            ChatInput::Ahead { device, seqs } => self.progress_ahead(&device, &seqs, cx),
            ChatInput::Failed { user, seq } => self.failed(&user, seq, cx),
            ChatInput::Detach { device } => self.detach(&device, cx),
            ChatInput::Begun { user, taken, stance, devices } => {
                self.begun(&user, taken, stance, devices, cx);
            }
            ChatInput::Stance { user, stance, telling } => self.stance(&user, stance, telling, cx),
            ChatInput::Rest { device } => self.rest(&device, cx),
            ChatInput::Listen { user } => self.listen(&user, cx),
            ChatInput::Typing { user, state } => self.typing(&user, state, cx),
            ChatInput::Wake => self.purge(cx),
            ChatInput::Info { user, of, question } => self.info(&user, *of, question, cx),
            ChatInput::Survey { .. } | ChatInput::Look { .. } | ChatInput::Stand { .. } => {
                self.asked_by_program(what, cx);
            }
            // Taken by `room.rs` before it comes here.
            ChatInput::Room(_) => {}
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
    pub(super) fn work(&mut self, cx: &mut Cx<'_>) {
        while self.blocked.is_none() {
            let Some(post) = self.waiting.front() else { return };
            if self.created.is_none() && !self.place.is_group() {
                if self.refuse_without_chat(cx) {
                    continue;
                }
                return self.begin(cx);
            }
            if self.pending.len() >= PENDING_MAX {
                self.blocked = Some(Blocked::Full);
                return;
            }
            if post.change.is_some() {
                self.change(cx);
                continue;
            }
            let hash = post.id.as_ref().map(|id| hash_id(&post.sender, id));
            if let Some(hash) = &hash {
                match self.look_up(hash, cx) {
                    LookUp::Known(known) => {
                        self.retried(known, cx);
                        continue;
                    }
                    LookUp::New => {}
                    LookUp::Asked => {
                        self.blocked = Some(Blocked::Id);
                        return;
                    }
                }
            }
            // Who is no member any more still learns what became of her send.
            if self.may_send(cx) {
                self.admit(hash, cx);
            }
        }
    }

    /// Asks every member's side to put the chat into her index.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        self.blocked = Some(Blocked::Begin((1 << self.place.members().len()) - 1));
        let post = self.waiting.front().filter(|post| post.origin.call().is_none());
        let by = post.map(|post| Arc::clone(&post.sender));
        for user in self.place.members() {
            let begin = ToUser::Begin {
                place: Arc::clone(&self.place),
                user: Arc::clone(user),
                by: by.clone(),
                since: cx.now(),
            };
            cx.tell_user(user, begin);
        }
    }

    fn begun(
        &mut self,
        user: &str,
        taken: Taken,
        stance: Stance,
        devices: Vec<DeviceOf>,
        cx: &mut Cx<'_>,
    ) {
        if self.place.is_group() {
            return self.joining_begun(user, taken, stance, devices, cx);
        }
        let Some(Blocked::Begin(missing)) = &mut self.blocked else { return };
        let Some(at) = self.place.members().iter().position(|name| **name == *user) else { return };
        if taken != Taken::Yes {
            self.blocked = None;
            for post in std::mem::take(&mut self.waiting) {
                let refusal = self.not_taken(user, taken, &post.sender);
                cx.refuse(&self.place, ChatInput::Send(post), refusal);
            }
            return;
        }
        *missing &= !(1 << at);
        let all = *missing == 0;
        self.set_stance(&Arc::from(user), stance, cx);
        if let Some(member) = self.members.get_mut(user) {
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

    /// The foremost send gets its place and is stored: one record.
    pub(super) fn append(&mut self, hash: Option<IdHash>, cx: &mut Cx<'_>) {
        let Some(post) = self.waiting.pop_front() else { return };
        let post = *post;
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
            kind: post.kind,
            refers: post.refers,
            expires: self.expiry(post.kind, time),
        });
        let mut ops = Vec::with_capacity(2);
        if self.log.is_in_memory() {
            self.reserve(seq, &mut ops);
        } else {
            self.entry_ops(&entry, &mut ops, cx);
        }
        if let Some(hash) = hash {
            let content = self.content_of(&entry);
            self.ids.insert(hash, Known { seq, content, time });
        }
        self.authors_of.push(&entry);
        self.log.push(Arc::clone(&entry));
        if entry.refers > 0 {
            self.about_ops(&entry, &mut ops, cx);
        }
        if !matches!(entry.kind, Kind::Delete | Kind::Hide) {
            // Who only deletes has not answered.
            self.begin_ops(&entry.from, &mut ops);
        }
        self.due_ops(&entry, &mut ops, cx);
        let waiters = vec![post.origin];
        let first = self.pending.is_empty();
        self.pending.push_back(Pending { entry, made, waiters, effect: None });
        if !ops.is_empty() {
            cx.store_and_wait(self.id(), ops, true, Waiting::Entry);
        } else if first || !cx.wait_too(self.id()) {
            self.entry_stored(cx);
        }
    }

    /// Once for each member of a direct chat: the head learns that she writes, and of the chat's
    /// beginning.
    pub(super) fn begin_ops(&mut self, author: &str, ops: &mut Vec<Op>) {
        let author = self.members.get_mut(author).filter(|_| !self.place.is_group());
        if author.is_some_and(|author| !std::mem::replace(&mut author.writes, true)) {
            ops.push(self.head_op());
            let members = self.place.members();
            members.iter().for_each(|user| self.members.cursor_ops(self.place.id, user, ops));
        }
    }

    /// The foremost pending entry is safe: now it counts.
    pub(super) fn entry_stored(&mut self, cx: &mut Cx<'_>) {
        let Some(Pending { entry, made, waiters, effect }) = self.pending.pop_front() else {
            return;
        };
        self.log.visible = entry.seq;
        self.page_many(cx);
        let mut waiters = waiters.into_iter().peekable();
        // They are of one user, on one shard: the first is answered with the delivery there.
        let direct = !self.place.is_group();
        let first = waiters
            .next_if(|origin| direct && origin.call().is_none())
            .map(|origin| (origin, made));
        for origin in waiters {
            let outcome = Outcome::Sent { seq: entry.seq, time: entry.time };
            cx.answer(&self.place, origin, Some((entry.id.clone(), made)), outcome);
        }
        self.acquaint(&entry.from, cx);
        self.before(effect.as_deref(), cx);
        for shard in self.members.shards() {
            let (place, entry) = (Arc::clone(&self.place), Arc::clone(&entry));
            cx.tell_shard(shard, ToUser::Broadcast { place, entry });
        }
        self.after(effect, entry.seq, cx);
        self.deliver(&entry, first, cx);
        self.tell_listeners(&entry, cx);
        if matches!(self.blocked, Some(Blocked::Full)) {
            self.blocked = None;
            self.work(cx);
        }
    }

    /// Tells the members of a direct chat, once for each shard, and there who sent it.
    fn deliver(&self, entry: &Arc<Entry>, mut sent: Option<(Origin, bool)>, cx: &mut Cx<'_>) {
        let shards = cx.host.shards();
        let mut left = self.place.members().iter().map(|user| user_slot(user).shard(shards));
        let (one, other) = (left.next(), left.next());
        for (shard, bit, first) in [(one, 1, true), (other, 2, false)] {
            let Some(shard) = shard else { return };
            let both = one == other;
            if both && !first {
                return;
            }
            let deliver = ToUser::Deliver {
                place: Arc::clone(&self.place),
                users: Ends(if both { 3 } else { bit }),
                entry: Arc::clone(entry),
                sent: sent.take_if(|(origin, _)| origin.shard == shard),
            };
            cx.tell_shard(shard, deliver);
        }
    }

    /// The head's row as it is now. Every record that deletes the newest entry holds it.
    pub(super) fn head_op(&self) -> Op {
        let names = self.place.members().iter().enumerate();
        let writes = names.filter(|(_, user)| self.members.get(user).is_some_and(|m| m.writes));
        let head = HeadRow {
            members: self.place.members().iter().map(|name| name.to_string()).collect(),
            created: self.created.unwrap_or_default(),
            last_seq: self.log.last_seq.max(self.reserved),
            last_time: self.log.last_time,
            floor: self.log.floor,
            authors: writes.fold(0, |bits, (at, _)| bits | 1 << at),
        };
        Op::Put { key: head_key(self.id()), value: head.to_bytes() }
    }

    /// Sees to it that a member's rows are stored before long, if they are behind.
    pub(super) fn flush_later(&mut self, user: &Arc<str>, cx: &mut Cx<'_>) {
        if self.created.is_some() && self.members.note_behind(user) {
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

/// How many devices of users who are being added may wait. One beyond them is told that its user is
/// not in the group, and fetches what it lacks with the first entry that comes.
const PARKED_MAX: usize = 4_096;

//! Rooms: two seats, memory only, and an end that nobody can put off for ever.
//!
//! A room is a direct chat with a name, so that messages, ticks and history are those of any other.
//! What is its own is how long it lasts: nothing in it is ever given to the host to store, and when
//! it ends it is gone at once, for both.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidings_core::hook::Host;
use tidings_core::record::Op;
use tidings_core::time::Time;

use super::cx::Cx;
use super::one::Chat;
use super::{ChatSide, State};
use crate::call::{CallError, Reply, Seats, Why};
use crate::code::Code;
use crate::map::{Map, map};
use crate::peer::{
    ChatInput, Origin, Outcome, Paired, Peer, Refusal, RoomTold, ToChat, ToRoom, ToSeat, ToUser,
};
use crate::rows::{HeadRow, RowValue, head_key, log_key, log_range};
use crate::topics::{ChatId, Place, link_slot};

/// What there is of a room besides the chat.
#[derive(Debug)]
pub(super) struct Room {
    place: Arc<Place>,
    seats: Seats,
    /// When it ends at the latest.
    ends: Time,
    /// When somebody last wrote or came.
    active: Time,
    /// Of which end the two have been told.
    warned: Option<Time>,
    /// When it is to be looked at.
    due: Time,
}

/// The rooms of a shard.
#[derive(Debug)]
pub(super) struct Rooms {
    all: Map<ChatId, Room>,
    /// When each is to be looked at: one that is over is not among them.
    dues: BTreeSet<(Time, ChatId)>,
}

impl Rooms {
    pub(super) fn new() -> Self {
        Self { all: map(), dues: BTreeSet::new() }
    }

    /// When one is to be looked at.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.dues.first().map(|(at, _)| *at)
    }

    /// One that is to be looked at by now.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<ChatId> {
        let (at, id) = *self.dues.first()?;
        (at <= now).then(|| {
            self.dues.pop_first();
            id
        })
    }

    /// What a user of a room is called there.
    pub(super) fn name_of(&self, id: ChatId, user: &str) -> Option<&str> {
        let room = self.all.get(&id)?;
        let names = room.seats.names.as_ref()?;
        let mut seats = (1..).zip(names.iter());
        let (_, name) = seats.find(|(number, _)| {
            let suffix = user.rsplit_once('.').map(|(_, suffix)| suffix.parse());
            suffix == Some(Ok(*number))
        })?;
        Some(name)
    }

    fn look_at(&mut self, id: ChatId, at: Time) {
        if let Some(room) = self.all.get_mut(&id) {
            self.dues.remove(&(room.due, id));
            room.due = at;
            self.dues.insert((at, id));
        }
    }

    fn remove(&mut self, id: ChatId) -> Option<Room> {
        let room = self.all.remove(&id)?;
        self.dues.remove(&(room.due, id));
        Some(room)
    }
}

impl ChatSide {
    /// Takes what concerns a room.
    pub(super) fn handle_room(&mut self, input: ToChat, host: &mut dyn Host) {
        let id = input.chat();
        let ToChat { place, what } = input;
        let now = host.now();
        let room = self.shared.rooms.all.get_mut(&id);
        let what = match (what, room) {
            (ChatInput::Room(told), room) => {
                let known = room.map(|room| Arc::clone(&room.place));
                return self.room_told(&place, known, *told, host);
            }
            (what, None) => {
                return Cx { host, shared: &mut self.shared }.room_is_over(&place, what);
            }
            (what, Some(room)) => {
                if matches!(
                    what,
                    ChatInput::Send(_) | ChatInput::Attach { .. } | ChatInput::Listen { .. }
                ) {
                    room.active = now;
                }
                ToChat { place: Arc::clone(&room.place), what }
            }
        };
        self.pass(what, host);
    }

    fn room_told(
        &mut self,
        place: &Arc<Place>,
        known: Option<Arc<Place>>,
        told: ToRoom,
        host: &mut dyn Host,
    ) {
        match (told, known) {
            (ToRoom::Make { seats, paired, reply }, None) => {
                self.make_room(place, seats, paired, reply, host);
            }
            (ToRoom::Make { reply, .. }, Some(_)) => {
                if let Some(reply) = reply {
                    reply.give(Err(refused(Code::Conflict, "this room is there already")));
                }
            }
            (ToRoom::End { user, why, origin, reply }, Some(known)) => {
                let member = |user: &Arc<str>| known.members().contains(user);
                if user.as_ref().is_none_or(member) {
                    self.end_room(known.id, why, host);
                }
                if let Some(origin) = origin {
                    Cx { host, shared: &mut self.shared }.answer(
                        &known,
                        origin,
                        None,
                        Outcome::Done,
                    );
                }
                if let Some(reply) = reply {
                    reply.give(Ok(()));
                }
            }
            (ToRoom::End { origin, reply, .. }, None) => {
                if let Some(origin) = origin {
                    let outcome = Outcome::Refused(over());
                    Cx { host, shared: &mut self.shared }.answer(place, origin, None, outcome);
                }
                if let Some(reply) = reply {
                    reply.give(Err(refused(Code::Ended, OVER)));
                }
            }
            (ToRoom::Signal { user, payload, origin }, Some(place)) => {
                let to = Arc::clone(place.peer(&user));
                if let Some(room) = self.shared.rooms.all.get_mut(&place.id) {
                    room.active = host.now();
                }
                let told =
                    RoomTold::Signal { place, to: Arc::clone(&to), from: user, payload, origin };
                Cx { host, shared: &mut self.shared }.tell_user(&to, ToUser::Room(told));
            }
            (ToRoom::Signal { origin, .. }, None) => {
                let outcome = Outcome::Refused(over());
                Cx { host, shared: &mut self.shared }.answer(place, origin, None, outcome);
            }
        }
    }

    fn make_room(
        &mut self,
        place: &Arc<Place>,
        seats: Seats,
        paired: Option<Paired>,
        reply: Option<Reply<()>>,
        host: &mut dyn Host,
    ) {
        let (now, id) = (host.now(), place.id);
        let cx = &mut Cx { host, shared: &mut self.shared };
        let max = cx.options().rooms_max;
        if cx.shared.rooms.all.len() >= max {
            cx.host.count(tidings_core::metric::Metric::LimitRooms);
            if let Some(reply) = reply {
                reply.give(Err(refused(Code::Limit, "there are too many rooms")));
            }
            // Who was brought together here waits no more.
            for user in place.members().iter().filter(|_| paired.is_some()) {
                let (place, user) = (Arc::clone(place), Arc::clone(user));
                let ended =
                    RoomTold::Ended { place, user: Arc::clone(&user), seq: 0, why: Why::Gone };
                cx.tell_user(&user, ToUser::Room(ended));
            }
            return;
        }
        let ends = now + cx.options().room_lifetime;
        let room =
            Room { place: Arc::clone(place), seats, ends, active: now, warned: None, due: now };
        cx.shared.rooms.all.insert(id, room);
        cx.shared.volatile.begin(id);
        let head = HeadRow {
            members: place.members().iter().map(|name| name.to_string()).collect(),
            created: now,
            last_seq: 0,
            last_time: Time::default(),
            floor: 1,
            authors: 0,
        };
        cx.store(vec![Op::Put { key: head_key(id), value: head.to_bytes() }], false);
        self.watch_room(id, host);
        let cx = &mut Cx { host, shared: &mut self.shared };
        for user in place.members() {
            if let Some(paired) = &paired {
                let (place, paired) = (Arc::clone(place), paired.clone());
                let told = RoomTold::Paired { place, user: Arc::clone(user), paired };
                cx.tell_user(user, ToUser::Room(told));
            }
        }
        if let Some(reply) = reply {
            reply.give(Ok(()));
        }
    }

    /// The time of a room may have come, or that to say so.
    pub(super) fn watch_room(&mut self, id: ChatId, host: &mut dyn Host) {
        let now = host.now();
        let cx = &mut Cx { host, shared: &mut self.shared };
        let (idle, warning) = (cx.options().room_idle, cx.options().room_warning);
        let Some(room) = cx.shared.rooms.all.get_mut(&id) else { return };
        let idle_at = room.active + idle;
        let (at, why) =
            if idle_at < room.ends { (idle_at, Why::Idle) } else { (room.ends, Why::Timeout) };
        if at <= now {
            return self.end_room(id, why, host);
        }
        let warn = at - warning;
        if warn > now {
            return cx.shared.rooms.look_at(id, warn);
        }
        if room.warned.replace(at) != Some(at) {
            let place = Arc::clone(&room.place);
            for user in place.members() {
                let (place, name) = (Arc::clone(&place), Arc::clone(user));
                let told = RoomTold::Ending { place, user: name, at, why };
                cx.tell_user(user, ToUser::Room(told));
            }
        }
        cx.shared.rooms.look_at(id, at);
    }

    /// A room is over: nothing of it stays.
    fn end_room(&mut self, id: ChatId, why: Why, host: &mut dyn Host) {
        // What has been said is in its place before the end.
        self.settle(host);
        let Some(room) = self.shared.rooms.remove(id) else { return };
        self.shared.volatile.end(id);
        let mut seq = 0;
        match self.chats.remove(&id) {
            Some(State::Ready(chat)) => {
                seq = chat.log.visible;
                self.shared.tail_bytes -= chat.tail_bytes();
                self.shared.memory_bytes -= chat.memory_bytes();
                chat.room_over(&mut Cx { host, shared: &mut self.shared });
            }
            Some(State::Loading(loading)) => {
                let (place, queue) = loading.into_queue();
                for what in queue {
                    Cx { host: &mut *host, shared: &mut self.shared }.refuse(&place, what, over());
                }
            }
            None => {}
        }
        let cx = &mut Cx { host, shared: &mut self.shared };
        for link in room.seats.links {
            let shard = link_slot(&link).shard(cx.host.shards());
            cx.host.send(shard, Box::new(Peer::Seat(ToSeat::Drop { link })));
        }
        for user in room.place.members() {
            let (place, name) = (Arc::clone(&room.place), Arc::clone(user));
            let told = RoomTold::Ended { place, user: name, seq, why };
            cx.tell_user(user, ToUser::Room(told));
        }
    }
}

impl Cx<'_> {
    /// Answers what came for a room that is over.
    fn room_is_over(&mut self, place: &Arc<Place>, what: ChatInput) {
        let attach = match &what {
            ChatInput::Attach { device, feed, .. } => Some((device.clone(), Some(*feed))),
            _ => None,
        };
        let listener = match &what {
            ChatInput::Listen { user } => Some(Arc::clone(user)),
            _ => None,
        };
        self.refuse(place, what, over());
        let user = match attach {
            Some((device, Some(feed))) => {
                let attached = ToUser::Attached {
                    place: Arc::clone(place),
                    session: device.session,
                    feed,
                    cursor: 0,
                    head: 0,
                    time: Time::default(),
                    own_read: 0,
                    knows: false,
                    member: false,
                    peer: None,
                };
                self.tell_user(&device.user, attached);
                Some(device.user)
            }
            _ => listener,
        };
        if let Some(user) = user {
            let (place, name) = (Arc::clone(place), Arc::clone(&user));
            let told = RoomTold::Ended { place, user: name, seq: 0, why: Why::Gone };
            self.tell_user(&user, ToUser::Room(told));
        }
    }
}

impl Chat {
    /// The room is over: whoever waits for an answer gets one.
    fn room_over(mut self: Box<Self>, cx: &mut Cx<'_>) {
        for post in std::mem::take(&mut self.waiting) {
            cx.refuse(&self.place, ChatInput::Send(post), over());
        }
        let readers: Vec<Origin> = std::mem::take(&mut self.readers);
        for origin in readers {
            cx.answer(&self.place, origin, None, Outcome::Refused(over()));
        }
    }

    /// The room has grown too large: its oldest entries go, and their ids with them.
    pub(super) fn drop_oldest(&mut self, cx: &mut Cx<'_>) {
        let (id, max) = (self.id(), cx.options().room_bytes_max);
        let mut excess = cx.shared.volatile.bytes(id).saturating_sub(max - max / 4);
        let mut ops = Vec::new();
        let mut floor = self.log.floor;
        for (key, value) in cx.shared.volatile.range(id, log_range(id, floor, u64::MAX - 1)) {
            if excess == 0 || floor >= self.log.visible {
                break;
            }
            excess = excess.saturating_sub(key.len() + value.len());
            ops.push(Op::Delete { key: log_key(id, floor) });
            floor += 1;
        }
        if ops.is_empty() {
            return;
        }
        self.ids.forget_below(floor);
        self.ids.expire(Time::NEVER, floor, id, &mut ops);
        self.log.raise_floor(floor);
        self.log.trim();
        ops.push(self.head_op());
        self.authors_op(self.log.floor.saturating_sub(1), &mut ops);
        cx.store(ops, false);
    }
}

fn over() -> Refusal {
    Refusal::new(Code::Ended, OVER)
}

fn refused(code: Code, text: &str) -> CallError {
    CallError::Refused { code: code.name(), text: text.into(), retry_after: None }
}

const OVER: &str = "this room is over";

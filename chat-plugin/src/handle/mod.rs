//! What the program around a broker does with chat: a typed way in beside the topics.
//!
//! A call is a message to the shard that has what it is about, and its answer comes back through a
//! channel; so calls wait for nothing but their own shard, and may be made from any thread and any
//! runtime.

mod chats;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tidings_core::hook::Line;
use tidings_core::slot::{ShardId, Slot};

use crate::call::{CallError, Opened, Reply, Room, SeatKey, SeatNames, Seats, Why};
use crate::options::{ChatOptions, Secret};
use crate::pairing::ROOM_BYTES;
use crate::peer::{ChatInput, Peer, Seat, ToChat, ToRoom, ToSeat};
use crate::seat;
use crate::topics::{GUESTS, Place, is_user, link_slot};

pub use chats::{Outgoing, SYSTEM};

/// The way into the chat of a broker: see [`crate::Chat::handle`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChatHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Arc<ChatOptions>,
    secret: Option<Secret>,
    line: OnceLock<Arc<dyn Line>>,
    /// What makes one secret word differ from the next.
    serial: AtomicU64,
    /// How many calls wait for their answer.
    calls: AtomicUsize,
    /// The same of logins, which strangers ask for: they are not to keep the program from its calls.
    logins: AtomicUsize,
}

impl ChatHandle {
    pub(crate) fn new(options: Arc<ChatOptions>, secret: Option<Secret>) -> Self {
        let line = OnceLock::new();
        let (calls, logins) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let serial = AtomicU64::new(0);
        Self { inner: Arc::new(Inner { options, secret, line, serial, calls, logins }) }
    }

    /// The broker is there. A second one with the same chat has no handle.
    pub(crate) fn open_line(&self, line: Arc<dyn Line>) {
        let _second = self.inner.line.set(line);
    }

    /// Makes a room for two: a name, and for each of the two a link and a code. Nothing of it is
    /// ever on a disk, the codes not even in memory.
    ///
    /// # Errors
    /// There are too many rooms, or see [`CallError`].
    pub async fn make_room(&self) -> Result<Room, CallError> {
        self.make(None).await
    }

    /// The same, for two people of these names: those of the two seats, in this order. Both hear them
    /// with `info`, and each with the seat that is opened.
    ///
    /// # Errors
    /// A name that is none: expected are 1 to 40 characters on one line. Or as [`Self::make_room`].
    pub async fn make_room_for(&self, names: [&str; 2]) -> Result<Room, CallError> {
        let names = names.map(str::trim);
        if let Some(name) = names.iter().find(|name| !is_persons_name(name)) {
            return Err(bad_name("a person, 1 to 40 characters on one line", name));
        }
        self.make(Some(Arc::new(names.map(Into::into)))).await
    }

    async fn make(&self, names: Option<SeatNames>) -> Result<Room, CallError> {
        let secret = self.inner.secret.ok_or(CallError::NoRandomness)?;
        let word = |purpose: &str, bytes: usize| {
            let serial = self.inner.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            secret.word(purpose, &[&serial], bytes)
        };
        let name = ["~", &word("made room", ROOM_BYTES)].concat();
        let keys = [1, 2].map(|_: u8| SeatKey {
            link: ["~", &word("link", ROOM_BYTES)].concat(),
            code: self.code(secret),
        });
        let [one, two] = [1, 2].map(|number| crate::topics::seat(&name, number));
        let place = Place::room(&name, &one, &two);
        let links = keys.iter().map(|key| key.link.as_str().into()).collect();
        let shard = |slot: Slot, line: &dyn Line| slot.shard(line.shards());
        let slot = place.id.slot();
        self.call(|reply, line| {
            let seats = Seats { links, names: names.clone() };
            let make = ToRoom::Make { seats, paired: None, reply: Some(reply) };
            let what = ChatInput::Room(Box::new(make));
            (shard(slot, line), Peer::Chat(ToChat { place, what }))
        })
        .await?;
        for (number, key) in (1..).zip(&keys) {
            let serial = self.inner.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            let mut salt = [0; 16];
            for (to, from) in salt.iter_mut().zip(secret.keyed("salt", &[&serial])) {
                *to = from;
            }
            let code = seat::hash(secret, &salt, key.code.as_bytes());
            let names = names.clone();
            let seat = Seat { room: name.as_str().into(), number, names, salt, code };
            let link: Box<str> = key.link.as_str().into();
            self.call(|reply, line| {
                (shard(link_slot(&link), line), Peer::Seat(ToSeat::Add { link, seat, reply }))
            })
            .await?;
        }
        Ok(Room { name, seats: keys })
    }

    /// Opens a seat by its link and its code, or the token that an earlier call gave.
    ///
    /// # Errors
    /// [`CallError::NotOpened`], whatever is wrong: nobody learns whether there is such a link.
    pub async fn open_seat(&self, link: &str, code: &[u8]) -> Result<Opened, CallError> {
        self.open(link, code, |inner| &inner.calls).await
    }

    async fn open(&self, link: &str, code: &[u8], among: Among) -> Result<Opened, CallError> {
        if link.len() > LINK_BYTES_MAX || code.len() > CODE_BYTES_MAX {
            return Err(CallError::NotOpened);
        }
        let (link, given): (Box<str>, Box<[u8]>) = (link.into(), code.into());
        self.call_among(among, |reply, line| {
            let shard = link_slot(&link).shard(line.shards());
            (shard, Peer::Seat(ToSeat::Open { link, given, reply }))
        })
        .await
    }

    /// Whom a CONNECT speaks for whose User Name begins with `~`: a link with its code or token as
    /// the Password, or where [`ChatOptions::pairing`] is on `~anon`, for somebody who is to be
    /// paired. With a Password of at least 16 bytes such a one is the same the next time.
    ///
    /// Ask it in front of every other way to log in, and let nobody in by such a name otherwise.
    ///
    /// # Errors
    /// [`CallError::NotOpened`], or see [`CallError`].
    pub async fn login(&self, user_name: &str, password: &[u8]) -> Result<String, CallError> {
        if user_name != GUEST {
            let opened = self.open(user_name, password, |inner| &inner.logins).await;
            return opened.map(|opened| opened.user);
        }
        if !self.inner.options.pairing {
            return Err(CallError::NotOpened);
        }
        let secret = self.inner.secret.ok_or(CallError::NoRandomness)?;
        let word = if password.len() >= GUEST_BYTES_MIN {
            secret.word("guest", &[password], ROOM_BYTES)
        } else {
            let serial = self.inner.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            secret.word("new guest", &[&serial], ROOM_BYTES)
        };
        Ok([GUESTS, &word].concat())
    }

    /// Ends a room for both.
    ///
    /// # Errors
    /// There is none of this name, or see [`CallError`].
    pub async fn end_room(&self, name: &str) -> Result<(), CallError> {
        if !name.starts_with('~') || !is_user(name) {
            return Err(bad_name("a room", name));
        }
        let place = Place::room(name, "", "");
        self.call(|reply, line| {
            let end = ToRoom::End { user: None, why: Why::End, origin: None, reply: Some(reply) };
            let what = ChatInput::Room(Box::new(end));
            (place.shard(line.shards()), Peer::Chat(ToChat { place, what }))
        })
        .await
    }

    /// Sends something to a shard, and waits for the answer.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Reply<T>, &dyn Line) -> (ShardId, Peer) + Send,
    ) -> Result<T, CallError> {
        self.call_among(|inner| &inner.calls, ask).await
    }

    async fn call_among<T: Send + 'static>(
        &self,
        among: Among,
        ask: impl FnOnce(Reply<T>, &dyn Line) -> (ShardId, Peer) + Send,
    ) -> Result<T, CallError> {
        let line = self.inner.line.get().ok_or(CallError::NotStarted)?;
        let _waits = Waits::new(&self.inner, among)?;
        let (reply, answer) = Reply::new();
        let (shard, message) = ask(reply, line.as_ref());
        line.send(shard, Box::new(message));
        answer.await.unwrap_or(Err(CallError::Stopped))
    }

    fn code(&self, secret: Secret) -> String {
        let serial = self.inner.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let random = secret.keyed("code of a seat", &[&serial]);
        let letter = |byte: &u8| CODE_LETTERS.get(usize::from(byte & 31)).copied().map(char::from);
        random.iter().take(CODE_LETTERS_COUNT).filter_map(letter).collect()
    }
}

/// Among what a call is counted.
type Among = fn(&Inner) -> &AtomicUsize;

/// A call that waits for its answer.
#[derive(Debug)]
struct Waits(Arc<Inner>, Among);

impl Waits {
    fn new(inner: &Arc<Inner>, among: Among) -> Result<Self, CallError> {
        let waits = Self(Arc::clone(inner), among);
        let before = among(inner).fetch_add(1, Ordering::Relaxed);
        if before >= inner.options.calls_max { Err(CallError::Busy(before)) } else { Ok(waits) }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.1(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn bad_name(expected: &'static str, found: &str) -> CallError {
    CallError::Name { expected, found: found.chars().take(64).collect() }
}

/// Whether people can be called so: nothing that would break a line or turn one around.
fn is_persons_name(name: &str) -> bool {
    let breaks =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.contains(breaks)
}

/// The longest name of a person in a room, in characters.
const NAME_CHARS_MAX: usize = 40;

/// The User Name of who comes in to be paired.
const GUEST: &str = "~anon";

/// With how many bytes of Password a guest is the same again.
const GUEST_BYTES_MIN: usize = 16;

/// What codes are made of: 32 letters and digits that nobody takes for another.
const CODE_LETTERS: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/// How many of them a code has: a million million, of which a seat lets ten be tried.
const CODE_LETTERS_COUNT: usize = 8;

/// The longest link that is looked for.
const LINK_BYTES_MAX: usize = 64;

/// The longest code that is looked at.
const CODE_BYTES_MAX: usize = 256;

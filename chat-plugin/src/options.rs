//! Every bound and delay of chat, with its default.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// What can be set. The defaults suit a server of any size; no field may be zero, but for the rates,
/// where it means: no bound. Those are in force where the broker holds Clients to rates.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatOptions {
    /// The largest payload of one message, in bytes. Above it: `size`.
    pub payload_bytes_max: usize,
    /// How many messages a second a user sends, from all devices together. Beyond it: `limit`, and when
    /// to try again.
    pub send_rate: u32,
    /// How many of them at once.
    pub send_burst: u32,
    /// How many chats a user may begin within a minute. Beyond it: `limit`.
    pub new_chats_per_minute: u32,
    /// How many questions a second a user asks: `history` and `sync`. Beyond it: `limit`.
    pub question_rate: u32,
    /// How many of them at once.
    pub question_burst: u32,
    /// How long a user still counts as online after the last connection ended without a word.
    pub presence_grace: Duration,
    /// How long after a start a user who was online when the server ended still counts as online:
    /// who comes back by then has never been away, and nobody hears of it.
    pub presence_start_grace: Duration,
    /// How many are told of changes of presence in a second, by each shard. Beyond it changes wait,
    /// and only the newest of a user is told.
    pub presence_rate: u32,
    /// How long ticks of a direct chat gather before they are told.
    pub receipt_delay: Duration,
    /// How long acknowledgements gather before cursors are stored.
    pub cursor_delay: Duration,
    /// How long acknowledgements gather before the chat hears of them.
    pub progress_delay: Duration,
    /// How long an entry is kept at the most, whoever still lacks it.
    pub retention: Duration,
    /// How long the id of a send is remembered at the least.
    pub ids_kept: Duration,
    /// How many chats a shard keeps in memory. Beyond it those idle longest are unloaded.
    pub chats_loaded_max: usize,
    /// How many sends of one chat may wait for something at once. Beyond it: `unavailable`.
    pub chat_waiting_max: usize,
    /// Whether a stranger's first message is a request: until it is answered or accepted no ticks,
    /// no typing and no presence are told, and only few messages are taken. Without, everybody who
    /// is not blocked counts as known.
    pub requests: bool,
    /// How many messages a day a stranger may send who is not answered. Beyond it: `limit`. A rate.
    pub request_messages_per_day: u32,
    /// From how many strangers a user holds requests. Beyond it: `limit` for the next one.
    pub requests_max: usize,
    /// How many users one may have blocked or accepted. Beyond it: `limit`.
    pub peers_max: usize,
    /// How many entries of one chat are kept at once. Beyond it: `limit`.
    pub chat_entries_max: u64,
    /// How many bytes they have, about: counted when they are written, and of what was there
    /// before a chat was read told from its newest. Beyond it: `limit`.
    pub chat_bytes_max: u64,
    /// How many chats one user may begin or be drawn into. Beyond it: `limit`.
    pub user_chats_max: usize,
    /// How many members a group has at the most, and how many of a channel may write. Beyond it:
    /// `limit`.
    pub group_members_max: usize,
    /// How many members a channel has at the most, readers included. Beyond it: `limit`.
    pub channel_members_max: usize,
    /// How long a reader's cursors in a channel gather before they are stored, if the device stays.
    pub reader_delay: Duration,
    /// How many sessions may watch one user's presence. Those beyond hear the value at once, and
    /// no changes.
    pub watchers_max: usize,
    /// What all chats of a shard that are only in memory hold there, in bytes. Beyond it each keeps its
    /// newest 16 KiB, and beyond twice as much what is sent there is refused: `limit`.
    pub memory_bytes_max: usize,
    /// How long a room lasts without a message or a connection.
    pub room_idle: Duration,
    /// How long it lasts at the most.
    pub room_lifetime: Duration,
    /// How long before its end a room is told.
    pub room_warning: Duration,
    /// How many rooms a shard holds. Beyond it none is made.
    pub rooms_max: usize,
    /// What a room holds in memory, in bytes. Beyond it the oldest entries go.
    pub room_bytes_max: usize,
    /// How many wrong codes in a row a seat takes before the next has to wait.
    pub seat_guesses: u32,
    /// With how many it is closed.
    pub seat_guesses_max: u32,
    /// How long the first wait is; each further one is twice as long.
    pub seat_wait: Duration,
    /// How many bytes a signal between the two of a room has at the most. Beyond it: `size`.
    pub signal_bytes_max: usize,
    /// How many signals a second somebody sends. Beyond it: `limit`.
    pub signal_rate: u32,
    /// How many of them at once.
    pub signal_burst: u32,
    /// Whether a Client may come in as nobody, under the user name `~anon`, to be paired.
    pub pairing: bool,
    /// How long who names interests waits for somebody who shares one, before anyone will do.
    pub pair_wait: Duration,
    /// How long somebody waits to be paired at the most.
    pub pair_ttl_max: Duration,
    /// How many wait in the pools of a shard at once. Beyond it: `limit`.
    pub pair_waiting_max: usize,
    /// How long two who met are not paired again.
    pub pair_again: Duration,
    /// How many calls of the program around the broker wait for their answer at once, and how many
    /// logins of seats.
    pub calls_max: usize,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            payload_bytes_max: 64 * 1024,
            send_rate: 2,
            send_burst: 60,
            new_chats_per_minute: 20,
            question_rate: 1,
            question_burst: 10,
            presence_grace: Duration::from_secs(5),
            presence_start_grace: Duration::from_secs(60),
            presence_rate: 2_000,
            receipt_delay: Duration::from_millis(100),
            cursor_delay: Duration::from_millis(25),
            progress_delay: Duration::from_millis(10),
            retention: Duration::from_secs(30 * DAY_SECONDS),
            ids_kept: Duration::from_secs(DAY_SECONDS),
            chats_loaded_max: 100_000,
            chat_waiting_max: 1_024,
            requests: true,
            request_messages_per_day: 20,
            requests_max: 1_000,
            peers_max: 2_000,
            chat_entries_max: 100_000,
            chat_bytes_max: 256 * 1024 * 1024,
            user_chats_max: 10_000,
            group_members_max: 1_024,
            channel_members_max: 100_000,
            reader_delay: Duration::from_secs(5 * 60),
            watchers_max: 10_000,
            room_idle: Duration::from_secs(30 * 60),
            room_lifetime: Duration::from_secs(DAY_SECONDS),
            room_warning: Duration::from_secs(60),
            memory_bytes_max: 256 * 1024 * 1024,
            rooms_max: 4_096,
            room_bytes_max: 1024 * 1024,
            seat_guesses: 5,
            seat_guesses_max: 10,
            seat_wait: Duration::from_secs(30),
            signal_bytes_max: 16 * 1024,
            signal_rate: 20,
            signal_burst: 60,
            pairing: false,
            pair_wait: Duration::from_secs(10),
            pair_ttl_max: Duration::from_secs(10 * 60),
            pair_waiting_max: 10_000,
            pair_again: Duration::from_secs(60 * 60),
            calls_max: 1_024,
        }
    }
}

/// What makes links, codes and tokens unguessable.
#[derive(Clone, Copy)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl Secret {
    /// One of the system's making, or none if it cannot.
    pub(crate) fn of_the_system() -> Option<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).is_ok().then_some(Self(bytes))
    }

    /// 32 bytes that only who has the secret can tell, other ones for each purpose.
    pub(crate) fn keyed(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(self.0);
        for part in std::iter::once(&purpose.as_bytes()).chain(parts) {
            // With their lengths, so that what ends one part never begins the next.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// A word of letters, digits, `-` and `_` made of them.
    pub(crate) fn word(&self, purpose: &str, parts: &[&[u8]], bytes: usize) -> String {
        let all = self.keyed(purpose, parts);
        URL_SAFE_NO_PAD.encode(all.get(..bytes).unwrap_or(&all))
    }
}

/// Whether two secrets are the same, in a time that does not say where they differ.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differing) == 0
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

const DAY_SECONDS: u64 = 24 * 60 * 60;

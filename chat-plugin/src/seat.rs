//! Seats of rooms: which link and which code open which, and what wrong codes cost.
//!
//! A link lives on the shard of its slot, so that who knows one knows nothing of the other. Whether
//! there is such a link is told to nobody: a wrong code, a code that has to wait, a seat that is
//! closed and a link that never was are answered alike, after the same work. The code itself is not
//! kept, only what a secret of this process makes of it.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::hook::Host;
use tidings_core::time::Time;

use crate::call::{CallError, Opened};
use crate::map::{Map, map};
use crate::options::{ChatOptions, Secret, same};
use crate::peer::{Seat, ToSeat};
use crate::topics::seat;

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct SeatSide {
    options: Arc<ChatOptions>,
    secret: Option<Secret>,
    seats: Map<Box<str>, Kept>,
}

#[derive(Debug)]
struct Kept {
    seat: Seat,
    /// Wrong codes since the last right one.
    wrong: u32,
    /// Before this no code is looked at.
    open_at: Time,
}

impl SeatSide {
    pub(crate) fn new(options: Arc<ChatOptions>, secret: Option<Secret>) -> Self {
        Self { options, secret, seats: map() }
    }

    /// Takes what rooms, and who wants to open a seat, say.
    pub(crate) fn handle(&mut self, input: ToSeat, host: &mut dyn Host) {
        match input {
            ToSeat::Add { link, seat, reply } => {
                self.seats.insert(link, Kept { seat, wrong: 0, open_at: Time::default() });
                reply.give(Ok(()));
            }
            ToSeat::Drop { link } => {
                self.seats.remove(&link);
            }
            ToSeat::Open { link, given, reply } => {
                reply.give(self.open(&link, &given, host.now()));
            }
        }
    }

    fn open(&mut self, link: &str, given: &[u8], now: Time) -> Result<Opened, CallError> {
        let secret = self.secret.ok_or(CallError::NoRandomness)?;
        let mut found = self.seats.get_mut(link);
        let (salt, code) =
            found.as_ref().map_or(([0; 16], [0; 32]), |kept| (kept.seat.salt, kept.seat.code));
        // All of it, whether there is such a seat or not.
        let token = token(secret, link, &salt);
        let (by_code, by_token) =
            (same(&hash(secret, &salt, given), &code), same(token.as_bytes(), given));
        let Some(kept) = &mut found else { return Err(CallError::NotOpened) };
        let closed = kept.wrong >= self.options.seat_guesses_max;
        if !by_token {
            if closed || now < kept.open_at {
                return Err(CallError::NotOpened);
            }
            if !by_code {
                kept.wrong += 1;
                if let Some(over) = kept.wrong.checked_sub(self.options.seat_guesses) {
                    let times = 1_u32.checked_shl(over).unwrap_or(u32::MAX);
                    kept.open_at = now + self.options.seat_wait.saturating_mul(times).min(WAIT_MAX);
                }
                return Err(CallError::NotOpened);
            }
            kept.wrong = 0;
        }
        let room = kept.seat.room.to_string();
        let (own, others) = if kept.seat.number == 1 { (1, 2) } else { (2, 1) };
        let name = |number: u8| {
            let names = kept.seat.names.as_ref()?;
            names.get(usize::from(number) - 1).map(ToString::to_string)
        };
        Ok(Opened {
            user: seat(&room, own),
            name: name(own),
            other: seat(&room, others),
            other_name: name(others),
            room,
            token,
        })
    }
}

/// What a code is known by.
pub(crate) fn hash(secret: Secret, salt: &[u8; 16], code: &[u8]) -> [u8; 32] {
    secret.keyed("code", &[salt, code])
}

/// What opens a seat that was opened once.
fn token(secret: Secret, link: &str, salt: &[u8; 16]) -> String {
    secret.word("token", &[link.as_bytes(), salt], TOKEN_BYTES)
}

/// How many bytes of a hash a token stands for.
const TOKEN_BYTES: usize = 16;

/// The longest wait behind a wrong code.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

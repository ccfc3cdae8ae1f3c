//! Rooms and pairing, as configured: their bounds, and the logins of those who are there for a while.

use std::sync::Arc;
use std::time::Duration;

use tidings_broker::auth::{Authenticate, Credentials, Decision, Refusal, TemporaryUsers};
use tidings_chat::{CallError, ChatHandle, ChatOptions};

use crate::config::{Config, Switch};
use crate::listeners::is_for_this_machine;

/// The bounds of rooms and pools.
pub(crate) fn bound(config: &Config, options: &mut ChatOptions) {
    let chat = &config.chat;
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    options.room_idle = Duration::from_secs(chat.room_idle_s);
    options.room_lifetime = Duration::from_secs(chat.room_lifetime_s);
    options.room_warning = Duration::from_secs(chat.room_warning_s);
    options.memory_bytes_max = size(chat.memory_bytes_max);
    options.rooms_max = size(chat.rooms_max);
    options.room_bytes_max = size(chat.room_bytes_max);
    options.seat_guesses = count(chat.seat_guesses);
    options.seat_guesses_max = count(chat.seat_guesses_max);
    options.seat_wait = Duration::from_secs(chat.seat_wait_s);
    options.signal_bytes_max = size(chat.signal_bytes_max);
    options.signal_rate = count(chat.signal_rate);
    options.signal_burst = count(chat.signal_burst);
    options.pairing = is_pairing_on(config);
    options.pair_wait = Duration::from_secs(chat.pair_wait_s);
    options.pair_ttl_max = Duration::from_secs(chat.pair_ttl_max_s);
    options.pair_waiting_max = size(chat.pair_waiting_max);
    options.pair_again = Duration::from_secs(chat.pair_again_s);
}

/// Whether strangers may come in to be paired.
pub(crate) fn is_pairing_on(config: &Config) -> bool {
    match config.chat.pairing {
        Switch::On => true,
        Switch::Off => false,
        Switch::Auto => !config.top.http.is_empty() && is_for_this_machine(config),
    }
}

/// The ways to log in, with those of seats and guests in front.
pub(crate) fn in_front_of(
    others: Arc<dyn Authenticate>,
    chat: ChatHandle,
) -> Arc<dyn Authenticate> {
    Arc::new(TemporaryUsers::new(others, move |login: Credentials| {
        let chat = chat.clone();
        async move {
            let name = login.user_name.unwrap_or_default();
            match chat.login(&name, &login.password.unwrap_or_default()).await {
                Ok(user) => Decision::accept(user),
                Err(CallError::Busy(_)) => Decision::Refuse(Refusal::ServerBusy),
                // Whether there is such a seat is nobody's business.
                Err(_) => Decision::Refuse(Refusal::BadUserNameOrPassword),
            }
        }
    }))
}

//! Who is let as far as a handshake: by how fast and how many they come, in all and from an address.
//!
//! Nobody is told why not: before CONNECT the protocol has no answer, and the cheapest end is what an
//! address that connects too often should cost. It is counted, by its key.

use std::net::SocketAddr;
use std::time::Duration;

use tidings_core::metric::Metric;
use tokio::time::sleep;

use super::Desk;
use super::strangers::{Answer, Stranger};
use crate::visitors::Visitor;

/// More come from one address than may.
pub(super) struct TooMany;

/// Whether a stranger has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    Taken,
    /// Places are short; ask again.
    NotYet,
    /// Its address has too many; another may have one in a moment.
    TooMany,
    /// Places are short, and its address has its share.
    Nowhere,
}

impl Desk {
    /// Waits until somebody may be accepted: not too many are on their way to a place, and after a
    /// start not everybody at once.
    pub(super) async fn wait_for_room(&self) {
        while self.strangers.lobby_is_full() {
            sleep(PAUSE_WHEN_FULL).await;
        }
        if self.strangers.may_not_come_at_once() {
            for _ in 0..ASKED_MAX {
                sleep(PAUSE_WHEN_FULL / ASKED_MAX).await;
                if !self.strangers.are_many() {
                    break;
                }
            }
        }
        loop {
            let now = self.front.clock.now();
            let wait = self.arrivals.borrow_mut().wait(now);
            let Some(wait) = wait else { return };
            if wait.begins {
                self.front.metrics.count(Metric::LimitStartConnectRate);
            }
            sleep(wait.time).await;
        }
    }

    /// Counts a connection for its address, as an arrival and as one that is there.
    pub(super) fn count(&self, address: SocketAddr) -> Result<Option<Visitor>, TooMany> {
        let refuse = |limit: Metric, text: &str| {
            self.front.metrics.count(limit);
            self.front.metrics.count(Metric::ConnectsRefusedAddress);
            tracing::debug!(peer = %address, "{text}");
            Err(TooMany)
        };
        if !self.arrivals.borrow_mut().may_come(address.ip(), self.front.clock.now()) {
            return refuse(Metric::LimitConnectRate, "its address connects too often");
        }
        match self.front.connections.connections_per_address_max {
            0 => Ok(None),
            max => match self.visitors.enter(address.ip(), max) {
                Some(visitor) => Ok(Some(visitor)),
                None => refuse(
                    Metric::LimitConnectionsPerAddress,
                    "too many connections from one address",
                ),
            },
        }
    }

    /// Waits for a place among the strangers; `false`: its address has too many, and had for a moment.
    pub(super) async fn gets_a_place(&self, stranger: &Stranger, address: SocketAddr) -> bool {
        let mut asked = 0;
        loop {
            match self.seat(stranger, address) {
                Seat::Taken => return true,
                Seat::NotYet => sleep(PAUSE_WHEN_FULL).await,
                Seat::Nowhere => return false,
                // Of many who come at once the first have said CONNECT a moment later.
                Seat::TooMany if asked < ASKED_MAX => {
                    asked += 1;
                    sleep(PAUSE_WHEN_FULL / ASKED_MAX).await;
                }
                Seat::TooMany => {
                    let metrics = &self.front.metrics;
                    metrics.count(Metric::LimitUnauthenticatedPerAddress);
                    metrics.count(Metric::ConnectsRefusedAddress);
                    tracing::debug!(peer = %address, "too many strangers from one address");
                    return false;
                }
            }
        }
    }

    /// Asks for a place among the strangers, for one who may have it already.
    pub(super) fn seat(&self, stranger: &Stranger, address: SocketAddr) -> Seat {
        if stranger.has_a_place() {
            return Seat::Taken;
        }
        let (metrics, answer) = (&self.front.metrics, stranger.ask_for_place(address.ip()));
        if answer.is_short() && stranger.is_short_first() {
            metrics.count(Metric::LimitUnauthenticated);
        }
        match answer {
            Answer::Yes | Answer::InsteadOfAnother => Seat::Taken,
            Answer::Wait => Seat::NotYet,
            Answer::TooMany => Seat::TooMany,
            Answer::MoreThanItsShare => {
                metrics.count(Metric::ConnectsRefusedAddress);
                tracing::debug!(peer = %address, "places are short: others come first");
                Seat::Nowhere
            }
        }
    }
}

const PAUSE_WHEN_FULL: Duration = Duration::from_millis(10);

/// How often in such a pause one asks whose address has too many.
const ASKED_MAX: u32 = 5;

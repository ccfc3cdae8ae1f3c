//! Connections that publish faster than they may: their sockets are not read for a while.
//!
//! Nothing is dropped: what a Client has sent waits with the system, whose flow control slows it
//! down. Who has more to send than it may for too long without a break is disconnected. A connection
//! within its rate costs a comparison for each packet and some arithmetic for each read.

use tidings_core::codec::ReasonCode;
use tidings_core::metric::Metric;
use tidings_core::output::ConnectionId;
use tidings_core::rate::Rate;
use tidings_core::shard::Input;
use tidings_core::time::Time;

use super::{Runtime, wake};
use crate::connection::{Connection, Phase};

impl Runtime {
    /// How many PUBLISH packets may be taken of a connection now. One at least, for which packet comes
    /// next is known once it is taken.
    pub(super) fn publishes_max(&self, connection: &Connection, now: Time) -> u64 {
        let available = |rate| connection.pace.bucket.available(rate, now).max(1);
        self.publishes.map_or(u64::MAX, available)
    }

    /// Counts what a connection has published, and pauses it if it may not publish more.
    pub(super) fn count_publishes(&mut self, id: ConnectionId, publishes: u64, now: Time) {
        let Some(rate) = self.publishes.filter(|_| publishes > 0) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let pace = &mut connection.pace;
        pace.bucket.take(publishes, rate, now);
        if pace.bucket.available(rate, now) > 0 || connection.phase != Phase::Open {
            return;
        }
        if pace.over_since.is_none() {
            pace.over_since = Some(now);
            self.counters.add(Metric::LimitPublishRate, 1);
            tracing::debug!(connection = id.0, "publishes too fast: read more slowly");
        }
        let until = pace.bucket.ready_at(batch(rate), rate);
        if let Some(before) = pace.paused_until.replace(until) {
            self.paused.remove(&(before, id));
        }
        self.paused.insert((until, id));
    }

    /// Lets connections be read again whose time has come, and ends those that were above their rate
    /// for too long.
    pub(super) fn end_pauses(&mut self, now: Time) {
        while let Some((due, id)) = self.paused.first().copied()
            && due <= now
        {
            self.paused.pop_first();
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.pace.paused_until = None;
            let over = connection.pace.over_since.unwrap_or(now);
            let max = self.limits.publish_over_max;
            if !max.is_zero() && now.since(over) >= max && connection.phase == Phase::Open {
                self.counters.add(Metric::LimitPublishOver, 1);
                let reason = ReasonCode::MessageRateTooHigh;
                self.handle(Input::Refuse { connection: id, reason });
            } else {
                wake(connection.waker.as_ref());
            }
        }
    }
}

/// How many PUBLISH packets a paused connection waits for: a tenth of a second's, so that a thousand
/// connections in a pause do not wake a thousand times for a packet each. Two at least: with the second
/// it is seen that a Client that waits for each answer has nothing more to say.
fn batch(rate: Rate) -> u64 {
    (rate.a_second() / 10).max(2).min(rate.burst())
}

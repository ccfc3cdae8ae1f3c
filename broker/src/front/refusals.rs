//! The lines of the log about logins that were refused: enough to see who tries what, and never so many
//! that somebody who tries fills the disk. The counters have all of them.

use std::net::SocketAddr;
use std::time::Duration;

use tidings_core::codec::ReasonCode;
use tidings_core::rate::{Bucket, Rate};
use tidings_core::time::Time;

/// See the file's own words.
#[derive(Debug)]
pub(super) struct Refusals {
    rate: Option<Rate>,
    bucket: Bucket,
    left_out: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        let rate = Rate::new(LINES_PER_MINUTE, Duration::from_secs(60), LINES_AT_ONCE);
        Self { rate, bucket: Bucket::default(), left_out: 0 }
    }
}

impl Refusals {
    /// Tells of one, or of how many were left out before it, or leaves it out. A user's name is what
    /// somebody claims; what is no text is escaped.
    pub(super) fn tell(
        &mut self,
        user: &str,
        client_id: &str,
        peer: SocketAddr,
        reason: ReasonCode,
        now: Time,
    ) {
        let Some(left_out) = self.may_tell(now) else { return };
        let shortened = |text: &str| text.chars().take(NAME_CHARS_MAX).collect::<String>();
        let (user, client_id) = (shortened(user), shortened(client_id));
        if left_out == 0 {
            tracing::info!(?user, ?client_id, %peer, "login refused: {reason}");
        } else {
            tracing::info!(
                ?user, ?client_id, %peer, left_out,
                "login refused: {reason}; others before it were left out here"
            );
        }
    }

    /// How many were left out before this one; `None`: it is left out as well.
    fn may_tell(&mut self, now: Time) -> Option<u64> {
        if self.rate.is_some_and(|rate| !self.bucket.try_take(rate, now)) {
            self.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

const LINES_PER_MINUTE: u32 = 12;
const LINES_AT_ONCE: u32 = 20;

/// What is refused for its length is not told at that length.
const NAME_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_of_refused_logins_is_a_few_lines_that_say_how_many_there_were() {
        let mut refusals = Refusals::default();
        let at = |millis: u64| Time::from_millis(1_000_000 + millis);
        let told = (0..1_000).filter_map(|_| refusals.may_tell(at(0))).collect::<Vec<_>>();
        assert_eq!(told, [0; 20]);
        assert_eq!(refusals.may_tell(at(4_999)), None);
        assert_eq!(refusals.may_tell(at(5_000)), Some(981));
        assert_eq!(refusals.may_tell(at(10_000)), Some(0));
    }
}

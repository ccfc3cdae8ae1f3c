//! The send quota: how many QoS 1 and 2 PUBLISH packets may be unacknowledged (§4.9).
//!
//! It belongs to the Network Connection and is no part of the Session State: a resumed session
//! starts from the Receive Maximum of its new connection. The server's own bound is for what it keeps
//! until it is acknowledged; of brief messages it keeps two bytes.

/// Permits for PUBLISH packets of QoS 1 and 2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendQuota {
    available: u16,
    /// Of them, those for messages that are kept.
    kept: u16,
    receive_maximum: u16,
    kept_max: u16,
}

impl SendQuota {
    /// As many permits as the Client's Receive Maximum [MQTT-4.9.0-1], but for messages that are kept
    /// no more than `kept_max`, and for all together not very many more.
    pub(crate) fn new(receive_maximum: u16, kept_max: u16) -> Self {
        let kept_max = kept_max.min(receive_maximum);
        let receive_maximum = receive_maximum.min(kept_max.saturating_mul(BRIEF_FOR_EACH_KEPT));
        Self { available: receive_maximum, kept: kept_max, receive_maximum, kept_max }
    }

    /// Takes a permit for a message that is kept, if there is one. [MQTT-4.9.0-2]
    pub(crate) fn try_take(&mut self) -> bool {
        let there_is = !self.is_exhausted();
        if there_is {
            self.available -= 1;
            self.kept -= 1;
        }
        there_is
    }

    /// Takes a permit for a message of which nothing is kept, if there is one.
    pub(crate) fn try_take_brief(&mut self) -> bool {
        let there_is = self.available > 0;
        self.available = self.available.saturating_sub(1);
        there_is
    }

    /// Whether there is no permit for a message that is kept.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.available == 0 || self.kept == 0
    }

    /// Returns one permit, on PUBACK, PUBCOMP, or PUBREC >= 0x80.
    ///
    /// Saturates: a PUBREL sent again on a new connection brings a PUBCOMP this quota never paid
    /// for.
    pub(crate) fn give_back(&mut self) {
        self.give_back_brief();
        self.kept = self.kept.saturating_add(1).min(self.kept_max);
    }

    /// Returns the permit of a message of which nothing was kept.
    pub(crate) fn give_back_brief(&mut self) {
        self.available = self.available.saturating_add(1).min(self.receive_maximum);
    }
}

/// How many messages of which nothing is kept may be unacknowledged, for each that is kept: with the
/// default of 64 that makes two kilobytes for 1,024.
const BRIEF_FOR_EACH_KEPT: u16 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_run_out_and_come_back_up_to_the_maximum() {
        let mut quota = SendQuota::new(2, 64);
        assert!(quota.try_take() && quota.try_take() && !quota.try_take());
        quota.give_back();
        assert!(quota.try_take());
        for _ in 0..5 {
            quota.give_back();
        }
        assert!(quota.try_take() && quota.try_take() && !quota.try_take());
    }

    #[test]
    fn receive_maximum_holds_for_all_together_and_the_own_bound_for_what_is_kept() {
        // [MQTT-3.3.4-9]
        let mut quota = SendQuota::new(3, 2);
        assert!(quota.try_take_brief() && quota.try_take() && quota.try_take());
        assert!(!quota.try_take_brief() && !quota.try_take());
        quota.give_back_brief();
        assert!(!quota.try_take() && quota.try_take_brief());
        quota.give_back();
        assert!(quota.try_take() && !quota.try_take_brief());

        let mut quota = SendQuota::new(u16::MAX, 2);
        assert_eq!((0..100).filter(|_| quota.try_take_brief()).count(), 32);
    }
}

//! The send quota: how many QoS 1 and 2 PUBLISH packets may be unacknowledged (§4.9).
//!
//! It belongs to the Network Connection and is no part of the Session State: a resumed session
//! starts from the Receive Maximum of its new connection.

/// Permits for PUBLISH packets of QoS 1 and 2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendQuota {
    available: u16,
    receive_maximum: u16,
}

impl SendQuota {
    /// As many permits as the Client's Receive Maximum. [MQTT-4.9.0-1]
    pub(crate) fn new(receive_maximum: u16) -> Self {
        Self { available: receive_maximum, receive_maximum }
    }

    /// Takes one permit, if there is one. [MQTT-4.9.0-2]
    pub(crate) fn try_take(&mut self) -> bool {
        let there_is = self.available > 0;
        self.available = self.available.saturating_sub(1);
        there_is
    }

    /// Whether there is no permit.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.available == 0
    }

    /// Returns one permit, on PUBACK, PUBCOMP, or PUBREC >= 0x80.
    ///
    /// Saturates: a PUBREL sent again on a new connection brings a PUBCOMP this quota never paid
    /// for.
    pub(crate) fn give_back(&mut self) {
        self.available = self.available.saturating_add(1).min(self.receive_maximum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_run_out_and_come_back_up_to_the_maximum() {
        let mut quota = SendQuota::new(2);
        assert!(quota.try_take() && quota.try_take() && !quota.try_take());
        quota.give_back();
        assert!(quota.try_take());
        for _ in 0..5 {
            quota.give_back();
        }
        assert!(quota.try_take() && quota.try_take() && !quota.try_take());
    }
}

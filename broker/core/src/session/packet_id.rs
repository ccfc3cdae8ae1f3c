//! Packet Identifiers of what the server sends: never one that is in use, wrap-around included.

use crate::codec::PacketId;

/// Gives Packet Identifiers, in turn. [MQTT-2.2.1-4]
#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketIds {
    last: u16,
}

impl PacketIds {
    /// Begins with 1.
    pub(crate) fn new() -> Self {
        Self { last: 0 }
    }

    /// The next identifier for which `in_use` is false; `None` if all 65,535 are in use.
    pub(crate) fn next(&mut self, in_use: impl Fn(PacketId) -> bool) -> Option<PacketId> {
        for _ in 0..=u16::MAX {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if let Some(id) = PacketId::new(self.last)
                && !in_use(id)
            {
                return Some(id);
            }
        }
        None
    }

    /// Goes on behind `id`, which a resumed session still uses.
    pub(crate) fn resume_after(&mut self, id: PacketId) {
        self.last = id.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrap_around_skips_zero_and_what_is_in_use() {
        let mut ids = PacketIds { last: u16::MAX - 1 };
        let free = |id: PacketId| ![1, 2].contains(&id.get());
        let mut next = || ids.next(|id| !free(id)).map(PacketId::get);
        assert_eq!([next(), next(), next()], [Some(u16::MAX), Some(3), Some(4)]);
    }

    #[test]
    fn exhausted_identifiers_give_none() {
        assert_eq!(PacketIds::new().next(|_| true), None);
    }
}

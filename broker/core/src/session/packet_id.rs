//! Packet Identifiers of what the server sends: never one that is in use, wrap-around included.

use crate::codec::PacketId;

/// Gives Packet Identifiers, in turn. [MQTT-2.2.1-4]
#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketIds {
    last: u16,
    /// So many behind `last` are free for certain: those in use are looked through only when it is 0.
    free: u16,
}

impl PacketIds {
    /// Begins with 1.
    pub(crate) fn new() -> Self {
        Self { last: 0, free: 0 }
    }

    /// The next identifier that is not among those that `in_use` gives; `None` if all 65,535 are in
    /// use. Whoever gets one takes it into use, or leaves it free.
    pub(crate) fn next<I>(&mut self, in_use: impl Fn() -> I) -> Option<PacketId>
    where
        I: Iterator<Item = PacketId>,
    {
        if self.free == 0 {
            let (skipped, free) = next_free(self.last, in_use())?;
            *self = Self { last: skipped, free };
        }
        self.free -= 1;
        self.last = behind(self.last);
        PacketId::new(self.last)
    }

    /// Goes on behind `id`, which a resumed session still uses.
    pub(crate) fn resume_after(&mut self, id: PacketId) {
        *self = Self { last: id.get(), free: 0 };
    }
}

/// The identifier that comes behind `id`.
fn behind(id: u16) -> u16 {
    id.checked_add(1).unwrap_or(1)
}

/// The next free identifiers behind `last`: the one before them, and how many they are. `None` if all
/// are in use.
fn next_free(last: u16, in_use: impl Iterator<Item = PacketId>) -> Option<(u16, u16)> {
    // One bit for each, by its distance from `last`: from 1 to 65,535.
    let mut used = [0_u64; (u16::MAX as usize + 1) / 64];
    for id in in_use.map(PacketId::get) {
        let distance = if id > last { id - last } else { u16::MAX - last + id };
        if let Some(word) = used.get_mut(usize::from(distance / 64)) {
            *word |= 1 << (distance % 64);
        }
    }
    let is_used = |distance: &u16| {
        used.get(usize::from(distance / 64)).is_some_and(|it| it >> (distance % 64) & 1 == 1)
    };
    let first = (1..=u16::MAX).find(|distance| !is_used(distance))?;
    let free = (first..=u16::MAX).take_while(|distance| !is_used(distance)).count();
    let before = u32::from(last) + u32::from(first) - 1;
    let before = if before > u32::from(u16::MAX) { before - u32::from(u16::MAX) } else { before };
    Some((u16::try_from(before).unwrap_or(0), u16::try_from(free).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn wrap_around_skips_zero_and_what_is_in_use() {
        let mut ids = PacketIds { last: u16::MAX - 1, free: 0 };
        let used = [1, 2].map(|id| PacketId::new(id).unwrap());
        let mut next = || ids.next(|| used.into_iter()).map(PacketId::get);
        assert_eq!([next(), next(), next()], [Some(u16::MAX), Some(3), Some(4)]);
    }

    #[test]
    fn none_is_given_that_is_in_use_whatever_is_given_back_when() {
        let mut ids = PacketIds::new();
        let mut used = VecDeque::new();
        let mut random = 1_u32;
        for round in 0..200_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = ids.next(|| used.iter().copied()).unwrap();
            if round % 1_000 == 0 {
                assert!(!used.contains(&id), "{id:?} is in use");
            }
            // Some stay for long, so that those behind them come round.
            used.push_back(id);
            if used.len() > 300 {
                let index = usize::try_from(random >> 24).unwrap();
                used.remove(index + 20);
            }
        }
        let mut sorted: Vec<u16> = used.iter().map(|id| id.get()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), used.len());
    }

    #[test]
    fn exhausted_identifiers_give_none() {
        let all = || (1..=u16::MAX).filter_map(PacketId::new);
        assert_eq!(PacketIds::new().next(all), None);
    }
}

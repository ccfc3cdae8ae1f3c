//! Who owns what: keys hash to one of 256 slots, and a slot belongs to a shard.
//!
//! The hash and the number of slots are part of the format on disk: keys begin with their slot, so
//! that more shards (or, later, more machines) are another assignment of slots and no migration.

use serde::{Deserialize, Serialize};

/// How many slots there are. On disk for ever.
pub const SLOTS: u16 = 256;

/// One of the [`SLOTS`] parts that all state is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u8);

impl Slot {
    /// The slot of a key: FNV-1a of its bytes, folded. Never changes its answer for a key.
    pub fn of(key: &[u8]) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in key {
            hash ^= u64::from(*byte);
            hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
        }
        // FNV's low bits are its weakest: fold the high half in, and one multiplication more.
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((hash >> 56) as u8)
    }

    /// The shard that owns this slot when there are `shards` of them.
    ///
    /// Contiguous runs of slots, as even as 256 divides.
    pub fn shard(self, shards: u16) -> ShardId {
        let share = u32::from(self.0) * u32::from(shards.clamp(1, SLOTS)) / u32::from(SLOTS);
        // Less than 256, because the slot is.
        ShardId(u16::try_from(share).unwrap_or(0))
    }
}

/// Some of the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slots([u64; 4]);

impl Slots {
    /// Adds one.
    pub fn insert(&mut self, slot: Slot) {
        if let Some(word) = self.0.get_mut(usize::from(slot.0 >> 6)) {
            *word |= 1 << (slot.0 & 63);
        }
    }

    /// Whether it is among them.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.get(usize::from(slot.0 >> 6)).is_some_and(|word| word >> (slot.0 & 63) & 1 == 1)
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: &Self) {
        for (word, other) in self.0.iter_mut().zip(others.0) {
            *word |= other;
        }
    }
}

/// A state machine that owns some of the slots; numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_slot_for_ever() {
        // Golden values: a change of any of them orphans data on disk.
        let slots: Vec<u8> =
            ["", "alice", "bob", "chat"].iter().map(|key| Slot::of(key.as_bytes()).0).collect();
        assert_eq!(slots, GOLDEN);
    }

    const GOLDEN: [u8; 4] = [133, 75, 31, 124];

    #[test]
    fn slots_hold_what_was_put_in_and_nothing_else() {
        let mut slots = Slots::default();
        let mut others = Slots::default();
        for slot in [0, 63, 64, 200] {
            slots.insert(Slot(slot));
        }
        others.insert(Slot(255));
        slots.extend(&others);
        let found: Vec<u8> = (0..=u8::MAX).filter(|it| slots.contains(Slot(*it))).collect();
        assert_eq!(found, [0, 63, 64, 200, 255]);
    }

    #[test]
    fn every_slot_has_a_shard_and_every_shard_its_share() {
        for shards in 1..=64_u16 {
            let mut owned = vec![0_u16; usize::from(shards)];
            for slot in 0..=u8::MAX {
                owned[usize::from(Slot(slot).shard(shards).0)] += 1;
            }
            let least = owned.iter().min().copied().unwrap_or_default();
            let most = owned.iter().max().copied().unwrap_or_default();
            assert!(least > 0 && most - least <= 1, "{shards} shards own {owned:?}");
        }
    }
}

//! How a store is kept: what is to survive, and how much is written when.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tidings_core::marks::DiskReserve;

/// What an acknowledged change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut: every group is synced before it counts as stored.
    #[default]
    Fsync,
    /// The end of the process, however sudden, but no power cut.
    Os,
    /// Nothing: all rows are in memory.
    Memory,
}

impl Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
            Self::Memory => "memory",
        })
    }
}

/// A word that names no [`Durability`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected durability `fsync`, `os` or `memory`, found {0:?}")]
pub struct UnknownDurability(String);

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(word: &str) -> Result<Self, UnknownDurability> {
        match word {
            "fsync" => Ok(Self::Fsync),
            "os" => Ok(Self::Os),
            "memory" => Ok(Self::Memory),
            _ => Err(UnknownDurability(word.to_owned())),
        }
    }
}

/// When a start compares each row of the store with base and journal, and makes the store anew where
/// it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compare {
    /// After an end that was not in order.
    #[default]
    AfterCrash,
    /// At each start.
    Always,
    /// At none: sled is taken at its word.
    Never,
}

/// How an [`Engine`](super::Engine) stores.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Its directory, made if it is not there. Unused with [`Durability::Memory`].
    pub dir: PathBuf,
    /// What an acknowledged change survives.
    pub durability: Durability,
    /// How many shards there are, 1 to 256. May differ from the last time.
    pub shards: u16,
    /// The size of a segment of the journal, in bytes, at least 64 KiB; on a small disk at most a
    /// thirty-second of it or 1 MiB.
    pub segment_bytes: u64,
    /// After how many bytes of journal a checkpoint begins; sooner, when half as many are to be
    /// written by it. On a small disk at most 1/256 of it or 4 MiB.
    pub checkpoint_bytes: u64,
    /// How long a record that nobody waits for may wait for a group to join.
    pub lazy_flush: Duration,
    /// How much journal is kept before a base is written, in bytes, from which the store can be made
    /// anew; twice the size of all rows if that is more.
    pub base_bytes: u64,
    /// When the store is compared with base and journal at the start.
    pub compare: Compare,
    /// What the store may cache, in bytes; it takes up to four times as much memory.
    pub cache_bytes: u64,
    /// What a base leaves free of the disk; where it cannot, none is written and the journal is kept
    /// longer.
    pub disk_reserve: DiskReserve,
}

impl EngineOptions {
    /// The defaults, for one shard in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::Fsync,
            shards: 1,
            segment_bytes: 64 << 20,
            checkpoint_bytes: 40 << 20,
            base_bytes: 64 << 20,
            compare: Compare::AfterCrash,
            lazy_flush: Duration::from_millis(25),
            cache_bytes: 8 << 20,
            disk_reserve: DiskReserve::default(),
        }
    }

    /// What `checkpoint_bytes` are on a disk of this size: what waits to be written needs room.
    pub(super) fn checkpoint_bytes_on(&self, total_bytes: u64) -> u64 {
        self.checkpoint_bytes.min((total_bytes / CHECKPOINTS_MIN).max(SMALL_CHECKPOINT_BYTES))
    }

    /// The size of a segment on a disk of this size.
    pub(super) fn segment_bytes_on(&self, total_bytes: u64) -> u64 {
        let bytes_max = (total_bytes / SEGMENTS_MIN).max(SMALL_SEGMENT_BYTES);
        self.segment_bytes.min(bytes_max).max(SEGMENT_BYTES_MIN)
    }
}

/// A segment holds at least its header and some records.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// A disk has room for at least so many: some are in use, some kept until there is a base, and some
/// wait to be used again.
const SEGMENTS_MIN: u64 = 32;

/// A disk has room for the journal of so many checkpoints.
const CHECKPOINTS_MIN: u64 = 256;

/// So much journal may wait for one on any disk.
const SMALL_CHECKPOINT_BYTES: u64 = 4 << 20;

/// So large one may be on any disk.
const SMALL_SEGMENT_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_a_small_part_of_the_disk() {
        let default = EngineOptions::new("");
        let on = [4 << 20, 64 << 20, 2 << 30, 1 << 40].map(|total| default.segment_bytes_on(total));
        assert_eq!(on, [1 << 20, 2 << 20, 64 << 20, 64 << 20]);
        let on = [1 << 20, 4 << 30, 1 << 40].map(|total| default.checkpoint_bytes_on(total));
        assert_eq!(on, [4 << 20, 16 << 20, 40 << 20]);
        let small = EngineOptions { segment_bytes: 0, ..default };
        assert_eq!(small.segment_bytes_on(1 << 40), SEGMENT_BYTES_MIN);
    }
}

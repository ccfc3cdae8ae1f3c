//! How a store is kept: what is to survive, and how much is written when.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

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
    /// The size of a segment of the journal, in bytes, at least 64 KiB.
    pub segment_bytes: u64,
    /// After how many bytes of journal a checkpoint begins.
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
    /// How many bytes of the disk a base leaves free; where it cannot, none is written and the
    /// journal is kept longer.
    pub disk_reserve_bytes: u64,
}

impl EngineOptions {
    /// The defaults, for one shard in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::Fsync,
            shards: 1,
            segment_bytes: 64 << 20,
            checkpoint_bytes: 16 << 20,
            base_bytes: 64 << 20,
            compare: Compare::AfterCrash,
            lazy_flush: Duration::from_millis(25),
            cache_bytes: 8 << 20,
            disk_reserve_bytes: 1 << 30,
        }
    }
}

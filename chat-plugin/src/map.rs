//! The one hash map of this crate: fast, and the same on every run.
//!
//! Its order is never looked at; what is walked lives in a `BTreeMap`.

use foldhash::fast::FixedState;

/// A hash map whose hasher has a fixed seed.
///
/// The keys that Clients choose (names, identifiers) are bounded in length and number wherever they
/// enter one, and chat ids are a cryptographic hash: collisions cannot be piled up at will.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;

/// An empty [`Map`].
pub(crate) fn map<K, V>() -> Map<K, V> {
    Map::with_hasher(FixedState::with_seed(SEED))
}

const SEED: u64 = 0x7469_6469_6e67_7321;

//! A hash map whose order is the same in every run: the standard one's is random.
//!
//! Keys here are numbers that the server gives, so nobody outside can choose them to collide.

use foldhash::fast::FixedState;

/// A hash map with a fixed seed.
pub type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;

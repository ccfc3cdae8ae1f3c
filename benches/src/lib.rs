//! Benches, and the load generator.
//!
//! The benches of parts stand in `benches/`, one file each, without sockets. The feature `peers`
//! adds other projects' code beside ours, and is off otherwise.

pub mod work;
pub mod world;

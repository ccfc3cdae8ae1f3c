//! Shards, the chat service and the code that stores, under one driver that a seed leads.
//!
//! The journal, its recovery, the committer, checkpoints and reads are the broker's own, on a disk
//! and a store that break ([`Fault`] aside, as disks do). Clients speak packets over links that cut
//! at any byte. Time is a number. So a history is its seed, and a failure replays.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a simulation fails where it panics, and says which seed it was"
)]

mod cast;
mod chat;
mod disk;
mod driver;
mod faults;
mod network;
mod process;
mod promises;
mod report;
mod rng;
mod store;
mod trace;
mod wire;

pub use driver::Tally;
pub use faults::Fault;
pub use report::{Broken, run};

//! Behaviour tests of the core, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first thing that is not as expected"
)]

mod authenticate;
mod codec;
mod connect;
mod corpus;
mod deadlines;
mod deliver;
mod disk;
mod express;
mod harness;
mod limits;
mod marks;
mod offers;
mod publish;
mod refused;
mod replay;
mod retained;
mod rights;
#[path = "../fuzz_bodies/sequence.rs"]
mod sequence;
mod service;
mod shared;
mod sim;
mod system;
#[path = "../fuzz_bodies/topic.rs"]
mod topic;
mod wills;
mod words;

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
mod deadlines;
mod deliver;
mod harness;
mod limits;
mod publish;
mod refused;
mod retained;
mod rights;
mod service;
mod shared;
mod sim;
mod system;
mod wills;
mod words;

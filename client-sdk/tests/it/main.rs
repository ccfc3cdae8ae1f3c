//! The client over a transport that a test plays the broker of, and over sockets to a real one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that panics fails its test"
)]

mod client;
mod encrypted;
mod fake;
mod link;
mod proxy;
mod real;
mod role;
mod rooms;
mod storm;
mod terminal;

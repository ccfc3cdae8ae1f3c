//! The chat service as its broker sees it: events in, deliveries and answers out.

#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers of shards and shuffled choices are small here"
)]

mod crash;
mod direct;
mod harness;
mod presence;
mod receipts;

//! The chat service as its broker sees it: events in, deliveries and answers out.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that is wrong is to fail, and its numbers are small"
)]

mod arrive_sim;
mod attack_sim;
mod crash;
mod devices;
mod direct;
mod ended_sim;
mod entries;
mod group_crash;
mod groups;
mod harness;
mod history;
mod hostile;
mod judged;
mod keeping;
mod notes;
mod pairing;
mod presence;
mod program;
mod rates;
mod receipts;
mod room_sim;
mod rooms;
mod safety;
mod sealing;
mod sync;
mod typing;
mod views;
mod weeks;

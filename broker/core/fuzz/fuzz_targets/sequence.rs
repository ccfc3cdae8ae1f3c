//! Any history of Clients that do as they like, a network, a store and a clock, into the core.
#![no_main]
#![allow(dead_code, reason = "the behaviour tests use the rest")]

#[path = "../../tests/it/harness.rs"]
mod harness;
#[path = "../../tests/fuzz_bodies/sequence.rs"]
mod sequence;
#[path = "../../tests/it/words.rs"]
mod words;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sequence::any_bytes(data));

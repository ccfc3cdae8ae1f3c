//! The simulation, with the choices of a fuzzer instead of a seed's.
#![no_main]
#![allow(dead_code, reason = "the behaviour tests use the rest")]

#[path = "../../tests/it/harness.rs"]
mod harness;
#[path = "../../tests/it/sim.rs"]
mod sim;
#[path = "../../tests/it/words.rs"]
mod words;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sim::any_bytes(data));

//! Any history of filters and names into both topic trees, against the naive oracle.
#![no_main]

#[path = "../../tests/fuzz_bodies/topic.rs"]
mod topic;

libfuzzer_sys::fuzz_target!(|data: &[u8]| topic::any_bytes(data));

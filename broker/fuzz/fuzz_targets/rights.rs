//! Rules, a Client and questions, against a naive reading of the rules.
#![no_main]
#![allow(dead_code, reason = "the tests look at what was found")]

#[path = "../../tests/fuzz_bodies/rights.rs"]
mod rights;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    rights::agrees_with_naive_reading(data);
});

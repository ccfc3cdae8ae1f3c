//! A base or a copy that breaks in any way.
#![no_main]

#[path = "../../tests/fuzz_bodies/base.rs"]
mod base;

libfuzzer_sys::fuzz_target!(|data: &[u8]| base::any_bytes(data));

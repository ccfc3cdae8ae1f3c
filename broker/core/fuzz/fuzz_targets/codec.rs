//! Any bytes, in any pieces, into the codec.
#![no_main]

#[path = "../../tests/fuzz_bodies/codec.rs"]
mod codec;

libfuzzer_sys::fuzz_target!(|data: &[u8]| codec::any_bytes(data));

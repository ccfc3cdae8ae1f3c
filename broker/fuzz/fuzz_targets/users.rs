//! Any text as a users file.
#![no_main]

#[path = "../../tests/fuzz_bodies/users.rs"]
mod users;

libfuzzer_sys::fuzz_target!(|data: &[u8]| users::any_bytes(data));

//! Any text as a configuration file, and as values on the command line.
#![no_main]
#![allow(dead_code, reason = "the binary uses the rest")]

#[path = "../../tests/fuzz_bodies/config.rs"]
mod body;
#[path = "../../src/config/mod.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().expect("a temporary directory");
    }
    DIRECTORY.with(|directory| body::any_bytes(data, directory.path()));
});

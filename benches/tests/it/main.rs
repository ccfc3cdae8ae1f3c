//! The load generator against the bare relay and against Tidings: counts, no times.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod binary;
mod load;

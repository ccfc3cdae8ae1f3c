//! The load generator against the bare relay and against Tidings: counts, no times.
#![cfg(target_os = "linux")]

mod load;

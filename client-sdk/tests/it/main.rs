//! The client over a transport that a test plays the broker of: no sockets, real files.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that panics fails its test")]

mod fake;
mod receives;
mod sends;

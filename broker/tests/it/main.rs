//! Behaviour tests of the shell, one binary: real threads, real files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails"
)]

mod answers;
mod journal;
mod login_panics;
mod rights;
#[path = "../fuzz_bodies/rights.rs"]
mod rights_body;
mod rumqtt;
mod shell;
mod sockets;
mod store;
mod support;
mod webhook;
mod wire;

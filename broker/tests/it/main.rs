//! Behaviour tests of the shell, one binary: real threads, real files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails"
)]

mod abuse;
mod answers;
mod copies;
mod corpus;
mod damage;
mod disk;
mod enhanced;
mod faults;
#[path = "../fuzz_bodies/base.rs"]
mod fuzz_base;
#[path = "../fuzz_bodies/journal.rs"]
mod fuzz_journal;
#[path = "../fuzz_bodies/users.rs"]
mod fuzz_users;
mod journal;
mod keys;
mod limits;
mod login_panics;
mod rates;
mod retained;
mod rights;
#[path = "../fuzz_bodies/rights.rs"]
mod rights_body;
mod rumqtt;
mod scram;
mod shell;
mod sockets;
mod store;
mod support;
mod tls;
mod unix;
mod upkeep;
mod webhook;
mod websocket;
mod wire;

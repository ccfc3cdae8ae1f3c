//! The tests of this crate: our own broker, the list of statements, the chat protocol, the rules of the repository.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod ours;
mod protocol;
mod statements;
mod tidy;

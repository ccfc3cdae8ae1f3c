//! The tests of this crate: our own broker, the list of statements, the rules of the repository.

mod ours;
mod statements;
mod tidy;

//! Behaviour tests of the core, one binary.

mod connect;
mod harness;
mod publish;

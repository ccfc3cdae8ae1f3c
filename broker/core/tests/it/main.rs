//! Behaviour tests of the core, one binary.

mod connect;
mod deliver;
mod harness;
mod publish;
mod refused;
mod retained;
mod service;
mod sim;
mod wills;
mod words;

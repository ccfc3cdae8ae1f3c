//! An embeddable, durable MQTT broker.
//!
//! What is decided is decided in `tidings-core`; this crate moves the bytes: it listens
//! ([`Builder::listen`], [`listener`]), authenticates ([`auth`]), looks up [`rights`], runs each shard
//! on a thread of its own, and makes records durable ([`engine`]).
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = tidings_broker::Builder::new()
//!     .listen("127.0.0.1:1883".parse()?)
//!     .data_dir("data")
//!     .start()?;
//! println!("listening on {:?}", broker.addresses());
//! broker.wait()?;
//! # Ok(())
//! # }
//! ```

pub mod auth;
pub mod base;
mod builder;
mod clock;
pub mod commit;
mod connection;
mod descriptors;
pub mod engine;
mod exchange;
mod front;
mod growth;
mod health;
pub mod journal;
mod limits;
pub mod listener;
mod mail;
mod memory;
mod metrics;
mod observer;
mod pressure;
mod remote;
pub mod rights;
mod runtime;
mod start;
pub mod store;
mod teller;
mod turns;
mod unwritten;
mod visitors;
mod watch;

pub use builder::{Builder, StartError};
pub use engine::Durability;
pub use health::Fatal;
pub use limits::{ConnectionLimits, Rates};
pub use mail::SlowClient;
pub use memory::Allocator;
pub use remote::Remote;
pub use start::{Broker, StopError};
pub use tidings_core as core;

/// The README's examples, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;

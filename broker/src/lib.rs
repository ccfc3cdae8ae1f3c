//! An embeddable, durable MQTT broker.
//!
//! What is decided is decided in `tidings-core`; this crate moves the bytes: it listens
//! ([`Builder::listen`]), authenticates ([`auth`]), runs each shard on a thread of its own, and makes
//! records durable ([`engine`]).
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
mod builder;
mod clock;
pub mod commit;
mod connection;
pub mod engine;
mod front;
pub mod journal;
mod mail;
mod observer;
mod runtime;
mod start;
pub mod store;

pub use builder::{Builder, ConnectionLimits, StartError};
pub use engine::Durability;
pub use start::{Broker, Fatal, StopError};
pub use tidings_core as core;

//! The decisions of the Tidings MQTT broker, without input or output.
//!
//! Everything a broker decides happens here: what bytes mean ([`codec`]), who hears what
//! ([`topic`], the router), what a Client may expect of its session, what has to survive a crash
//! ([`record`]). Nothing here opens a socket or a file or asks a clock: a [`shard::Shard`] is told
//! what happened and answers with what must be done, so that any history replays from its inputs.
//! The crate `tidings-broker` moves the bytes.

pub mod admission;
pub mod codec;
pub mod collections;
pub mod hook;
mod ledger;
pub mod limits;
pub mod marks;
pub mod message;
pub mod metric;
pub mod output;
pub mod peer;
mod protocol_error;
pub mod rate;
pub mod reach;
pub mod record;
mod router;
mod session;
pub mod shard;
pub mod slot;
pub mod system;
pub mod time;
pub mod topic;

pub use protocol_error::ProtocolError;

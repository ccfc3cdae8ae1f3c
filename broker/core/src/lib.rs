//! The decisions of the Tidings MQTT broker, without input or output.

pub mod codec;
pub mod hook;
pub mod message;
pub mod record;
pub mod slot;
pub mod time;
pub mod topic;

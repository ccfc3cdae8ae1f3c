//! The shell of the Tidings MQTT broker: what touches files, threads and sockets.

pub mod commit;
pub mod engine;
pub mod journal;
pub mod store;

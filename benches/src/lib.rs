//! Benches, and the load generator.
//!
//! The benches of parts stand in `benches/`, one file each, without sockets. The feature `peers`
//! adds other projects' code beside ours, and is off otherwise.
//!
//! The binary `tidings-bench` puts load on any MQTT broker by its address, and measures. It is all in
//! `load`, shares no code with a broker, ours included, nor with the benches of parts ([`work`],
//! [`world`]), and needs Linux, which tells what the broker's process took.

#[cfg(target_os = "linux")]
pub mod load;
pub mod work;
pub mod world;

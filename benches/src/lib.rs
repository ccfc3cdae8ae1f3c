//! Benches, and the load generator.
//!
//! The benches of parts stand in `benches/`, one file each, without sockets. The feature `peers`
//! adds other projects' code beside ours, and is off otherwise.
//!
//! The binary `tidings-bench` puts load on any MQTT broker by its address, and measures. It shares
//! no code with a broker, ours included, nor with the benches of parts ([`work`], [`world`]). It
//! needs Linux, which tells what the broker's process took.

#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
pub mod compare;
#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
pub mod html;
#[cfg(target_os = "linux")]
pub mod latency;
#[cfg(target_os = "linux")]
pub mod load;
#[cfg(target_os = "linux")]
mod mesh;
#[cfg(target_os = "linux")]
pub mod meter;
#[cfg(target_os = "linux")]
mod opening;
#[cfg(target_os = "linux")]
pub mod options;
#[cfg(target_os = "linux")]
pub mod peers;
#[cfg(target_os = "linux")]
mod plot;
#[cfg(target_os = "linux")]
mod post;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod progress;
#[cfg(target_os = "linux")]
pub mod relay;
#[cfg(target_os = "linux")]
pub mod report;
#[cfg(target_os = "linux")]
mod sessions;
#[cfg(target_os = "linux")]
mod stage;
#[cfg(target_os = "linux")]
mod steady;
#[cfg(target_os = "linux")]
mod template;
#[cfg(target_os = "linux")]
mod traffic;
#[cfg(target_os = "linux")]
pub mod verify;
#[cfg(target_os = "linux")]
pub mod wire;
pub mod work;
pub mod world;

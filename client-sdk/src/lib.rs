//! The Rust SDK for chat over MQTT with Tidings.
//!
//! ```no_run
//! use tidings_client::{Client, ConnectOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(ConnectOptions::new("127.0.0.1:1883", "alice", "phone")).await?;
//! let bob = client.chat("@bob")?;
//! let sent = bob.send("hello").await?; // on disk: it will arrive, whatever happens
//! println!("stored as {}", sent.stored().await?); // one tick
//!
//! let mut messages = bob.messages();
//! while let Some(entry) = messages.next().await {
//!     println!("{}: {:?}", entry.from, entry.body);
//!     bob.mark_read(entry.seq)?; // bob's ticks turn blue
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is guaranteed
//!
//! - **Sending.** Once [`Chat::send`] has returned, the message survives a crash of the program and
//!   of the machine. It is repeated with the same id until the broker answers, so it is stored at
//!   least once, and by the broker's rule for ids once. Messages of one chat are sent in the order
//!   of `send`; the broker may store them in another only where it refused one for the moment while
//!   later ones were under way.
//! - **Receiving.** Each entry is given at least once: it is acknowledged when the application asks
//!   for the next one, and what a crash interrupted comes again. Within one run each (chat, seq) is
//!   given once, unless its stream was dropped before it was done with. Inside a chat, in order.
//! - **Memory.** Entries that nobody takes are at most the Receive Maximum; then the broker waits.
//!   That holds for all chats together: a chat that nobody listens to holds up the others, and
//!   [`Event::Unclaimed`] says so. Ticks and presence are state: a slow listener gets the newest.
//! - **Not promised.** Ticks, presence and events are not stored; read positions are repeated while
//!   the program runs. There is no local history, and no TLS yet.

mod chat;
mod client;
mod engine;
mod entry;
mod error;
mod hub;
mod inbox;
mod options;
mod outbox;
mod pending;
mod shared;
pub mod transport;
mod wire;
mod writer;

pub use chat::{Chat, Messages, Sent};
pub use client::{Client, Events, PresenceChanges, Receipts};
pub use entry::{Body, Entry, EntryKind, Event, Presence, PresenceState, Receipt};
pub use error::{
    ConnectError, MarkReadError, NameError, NotStored, OutboxError, PresenceError, SendError,
};
pub use options::ConnectOptions;
pub use outbox::OutboxDamage;

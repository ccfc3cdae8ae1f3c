//! The Rust SDK for chat over MQTT with Tidings: a chat app in an afternoon.
//!
//! ```no_run
//! use tidings_client::{Client, ConnectOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ConnectOptions::from_url("mqtt://alice:secret@localhost", "alice-phone")?;
//! let client = Client::connect(options).await?; // does not wait for the broker
//! let bob = client.chat("@bob")?;
//! let sent = bob.send("hello").await?; // on disk: it will arrive, whatever happens
//! println!("stored as {}", sent.stored().await?); // one tick
//!
//! let mut messages = bob.messages();
//! while let Some(entry) = messages.next().await {
//!     println!("{}: {:?}", entry.from, entry.body.text());
//!     bob.mark_read(entry.seq).await?; // bob's ticks turn blue
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where what is
//!
//! - [`Client`] is a device: its chats ([`Client::chats`]), what has changed ([`Client::changes`]), ticks,
//!   typing, presence, the state of its connection, and what belongs to the user: devices, privacy, blocks.
//! - [`Chat`] is a direct chat, a group, a channel or a room: send, edit, react, delete, look back
//!   ([`Chat::page`], [`Chat::history`]), mark as read, and what changes a group.
//! - [`Messages`] gives each entry to a program that acts on it; [`Message`] is one as people see it.
//! - [`machine`] has every decision, without input or output: the reference for other languages.
//! - [`store`] and [`transport`] are the two seams: where things are kept, how bytes are moved.
//!
//! The guide with a cookbook, and what each state asks of an application, is `docs/sdk.md`.
//!
//! # What is guaranteed
//!
//! - **Sending.** Once [`Chat::send`] has returned, the message survives a crash of the program and of
//!   the machine. It is published with its id until the broker answers, and stored by it once;
//!   messages of one chat are stored in the order of `send`. The same holds for edits, reactions,
//!   deletions, and what changes groups and settings.
//! - **Receiving.** An entry is acknowledged to the broker once it is in the local store. Each
//!   (chat, seq) is there once; what is missing is asked for. A program is given entries in order,
//!   without holes, and again only what a crash interrupted.
//! - **Memory.** Bounded by the Receive Maximum and the outbox: entries wait in the store. Ticks,
//!   presence and changes are state: a slow listener gets the newest.
//! - **Not promised.** Typing and signals are heard at once or never.
//!
//! # Features
//!
//! `sled` (the local store on disk), `tls` (`mqtts://`, `wss://`), `websocket` (`ws://`, `wss://`): all on by
//! default.

mod account;
mod chat;
mod client;
mod driver;
mod entry;
mod error;
mod group;
mod hub;
mod inbox;
pub mod machine;
mod messages;
mod options;
mod shared;
pub mod store;
pub mod transport;
mod view;
mod wire;
mod writer;

pub use account::{Audience, Blocked, Device, DeviceKeys, Privacy};
pub use chat::{Chat, SendOptions};
pub use client::{Changes, Client, Events, PresenceChanges, Receipts, TypingChanges};
pub use entry::{
    Body, Changed, Entry, EntryKind, Event, Presence, PresenceState, Receipt, State, Typing,
    TypingChanged,
};
pub use error::{
    AskError, ConnectError, NameError, NotStored, PresenceError, Refusal, SendError, StoreError,
};
pub use group::{Has, Info, Keep, Member, Role, WhoHas};
pub use machine::Standing;
pub use messages::{Messages, Sent};
pub use options::ConnectOptions;
pub use view::{Message, Ticks};

/// The guide's examples, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/sdk.md")]
pub struct Guide;

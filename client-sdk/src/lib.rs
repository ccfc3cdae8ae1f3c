//! The Rust SDK for chat over MQTT with Tidings.

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

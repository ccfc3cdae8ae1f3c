//! What belongs to the user and to no chat: devices, privacy, blocks, pairing.

use crate::chat::{ask, ask_error, new_id, order};
use crate::client::Client;
use crate::error::{AskError, SendError};
use crate::machine::{Command, Errand, Expects, Question};
use crate::messages::Sent;
use crate::wire::NO_CHAT;
use crate::writer::now_ms;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// A device of the user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Device {
    /// Its name.
    pub device: String,
    /// When it began to hear messages, in ms since 1970.
    #[serde(default)]
    pub since: u64,
    /// When it was last there.
    #[serde(default)]
    pub seen: u64,
    /// Whether it is there now.
    #[serde(default)]
    pub connected: bool,
    /// Whether it hears messages.
    #[serde(default)]
    pub subscribed: bool,
}

/// To whom something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Everybody who may be shown it at all.
    All,
    /// Whom one has written to, or accepted.
    Contacts,
    /// Nobody.
    Nobody,
}

/// What is shown to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Privacy {
    /// Ticks; who hides theirs sees none.
    pub receipts: Audience,
    /// Whether one is there; who hides it sees nobody's.
    pub presence: Audience,
    /// Who may add one to groups.
    pub groups: Audience,
}

/// A page of the users that one blocks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Blocked {
    /// Some of them.
    #[serde(default)]
    pub blocked: Vec<String>,
    /// What [`Client::blocked`] wants for the page behind, if there is one.
    #[serde(default)]
    pub next: Option<String>,
}

/// What a device left to be encrypted for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct DeviceKeys {
    /// The device.
    pub device: String,
    /// Its text.
    #[serde(default)]
    pub keys: String,
}

#[derive(Deserialize)]
struct KeysOf {
    #[serde(default)]
    devices: Vec<DeviceKeys>,
}

#[derive(Deserialize)]
struct Devices {
    devices: Vec<Device>,
}

impl Audience {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Contacts => "contacts",
            Self::Nobody => "nobody",
        }
    }
}

impl Client {
    /// The user's devices: those that are connected, and those that hear messages when they are.
    ///
    /// # Errors
    ///
    /// The broker refused, or the client is closed.
    pub async fn devices(&self) -> Result<Vec<Device>, AskError> {
        let topic = "me/devices".to_owned();
        let Devices { devices } = ask(&self.handle, topic, json!({}), Expects::Request).await?;
        Ok(devices)
    }

    /// Ends the session of a device, connected or not.
    ///
    /// # Errors
    ///
    /// As for [`Chat::send`](crate::Chat::send).
    pub async fn log_out(&self, device: &str) -> Result<Sent, SendError> {
        self.command("me/devices", json!({ "logout": device })).await
    }

    /// What is shown to whom.
    ///
    /// # Errors
    ///
    /// The broker refused, or the client is closed.
    pub async fn privacy(&self) -> Result<Privacy, AskError> {
        ask(&self.handle, "me/privacy".to_owned(), json!({}), Expects::Request).await
    }

    /// Changes what is shown to whom: the settings that are given.
    ///
    /// # Errors
    ///
    /// As for [`Chat::send`](crate::Chat::send).
    pub async fn set_privacy(
        &self,
        receipts: Option<Audience>,
        presence: Option<Audience>,
        groups: Option<Audience>,
    ) -> Result<Sent, SendError> {
        let given = [("receipts", receipts), ("presence", presence), ("groups", groups)];
        let given = given.into_iter().filter_map(|(key, audience)| Some((key, audience?)));
        let settings = given.map(|(key, audience)| (key.to_owned(), json!(audience.name())));
        self.command("me/privacy", Value::Object(settings.collect())).await
    }

    /// Nothing passes between oneself and these users any more, but in groups; up to 64.
    ///
    /// # Errors
    ///
    /// As for [`Chat::send`](crate::Chat::send).
    pub async fn block(&self, users: &[&str]) -> Result<Sent, SendError> {
        self.command("me/block", json!({ "block": users })).await
    }

    /// Takes [`block`](Self::block) back.
    ///
    /// # Errors
    ///
    /// As for [`Chat::send`](crate::Chat::send).
    pub async fn unblock(&self, users: &[&str]) -> Result<Sent, SendError> {
        self.command("me/block", json!({ "unblock": users })).await
    }

    /// Whom one blocks: a page, behind `after`.
    ///
    /// # Errors
    ///
    /// The broker refused, or the client is closed.
    pub async fn blocked(&self, after: Option<&str>) -> Result<Blocked, AskError> {
        let json = after.map_or_else(|| json!({}), |after| json!({ "after": after }));
        ask(&self.handle, "me/block".to_owned(), json, Expects::Request).await
    }

    /// These users are no strangers: they hear ticks and typing, as if one had answered them.
    ///
    /// # Errors
    ///
    /// As for [`Chat::send`](crate::Chat::send).
    pub async fn accept(&self, users: &[&str]) -> Result<Sent, SendError> {
        self.command("me/state", json!({ "accept": users })).await
    }

    /// Leaves with the server where this device is woken when something waits for it, such as the
    /// token of a push service; none takes it back.
    ///
    /// # Errors
    ///
    /// As for [`Chat::send`](crate::Chat::send).
    pub async fn set_push(&self, text: Option<&str>) -> Result<Sent, SendError> {
        self.command("me/push", json!({ "set": text.unwrap_or_default() })).await
    }

    /// Leaves this device's public keys with the server, for clients that encrypt from end to end.
    ///
    /// # Errors
    ///
    /// As for [`Chat::send`](crate::Chat::send).
    pub async fn set_keys(&self, text: &str) -> Result<Sent, SendError> {
        self.command("me/keys", json!({ "set": text })).await
    }

    /// The public keys of all devices of a user.
    ///
    /// # Errors
    ///
    /// The broker refused, or the client is closed.
    pub async fn keys_of(&self, user: &str) -> Result<Vec<DeviceKeys>, AskError> {
        let (topic, json) = ("me/keys".to_owned(), json!({ "of": user }));
        let KeysOf { devices } = ask(&self.handle, topic, json, Expects::Request).await?;
        Ok(devices)
    }

    /// Waits for a stranger, as `~anon` where the server allows it;
    /// [`Event::Paired`](crate::Event::Paired) or [`Event::Unpaired`](crate::Event::Unpaired) says
    /// what came of it. A connection that breaks ends the waiting: ask again.
    ///
    /// # Errors
    ///
    /// The broker refused, or the client is closed.
    pub async fn pair(
        &self,
        pool: &str,
        interests: &[&str],
        wait: Duration,
    ) -> Result<(), AskError> {
        self.pairing(pool, "", json!({ "interests": interests, "ttl": wait.as_secs() })).await
    }

    /// Ends the room that one is in, and waits again.
    ///
    /// # Errors
    ///
    /// As for [`pair`](Self::pair).
    pub async fn pair_next(
        &self,
        pool: &str,
        interests: &[&str],
        wait: Duration,
    ) -> Result<(), AskError> {
        self.pairing(pool, "/next", json!({ "interests": interests, "ttl": wait.as_secs() })).await
    }

    /// Waits no more.
    ///
    /// # Errors
    ///
    /// As for [`pair`](Self::pair).
    pub async fn pair_leave(&self, pool: &str) -> Result<(), AskError> {
        self.pairing(pool, "/leave", json!({})).await
    }

    async fn pairing(&self, pool: &str, verb: &str, json: Value) -> Result<(), AskError> {
        crate::options::check_name("pool", pool)?;
        let payload = Bytes::from(if verb == "/leave" { String::new() } else { json.to_string() });
        let topic = format!("pair/{pool}{verb}");
        let question = Question { topic, payload, expects: Expects::Nothing };
        self.handle.ask(Command::Ask(question)).await.map(drop).map_err(ask_error)
    }

    async fn command(&self, topic: &str, json: Value) -> Result<Sent, SendError> {
        let errand = Errand {
            chat: NO_CHAT.to_owned(),
            verb: topic.to_owned(),
            id: new_id()?,
            payload: Bytes::from(json.to_string()),
            content_type: None,
            reference: None,
            time: now_ms(),
        };
        order(&self.handle, errand).await
    }
}

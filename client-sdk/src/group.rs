//! Groups and channels: what changes them, and who is there.
//!
//! A change is durable like a message, goes in the order of asking, and is an entry of the chat once
//! the broker has it.

use crate::chat::{Chat, ask};
use crate::error::{AskError, SendError};
use crate::machine::Expects;
use crate::messages::Sent;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Everything.
    Owner,
    /// Adds, removes, changes the title.
    Admin,
    /// Writes.
    Member,
    /// Reads.
    Reader,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Reader => "reader",
        }
    }
}

/// How long a chat keeps what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// Until every device of all members has it: the default.
    UntilDelivered,
    /// So many days, whoever has it.
    Days(u32),
    /// Until it is deleted.
    Forever,
    /// What comes from now on is never on the server's disk.
    Memory,
}

/// What [`Chat::info`] answers: a page of members.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Info {
    /// The title of a group.
    #[serde(default)]
    pub title: Option<String>,
    /// What oneself may do there.
    #[serde(default)]
    pub role: Option<Role>,
    /// The newest place.
    #[serde(default)]
    pub seq: u64,
    /// How many members there are.
    #[serde(default)]
    pub count: u64,
    /// Some of them.
    #[serde(default)]
    pub members: Vec<Member>,
    /// What [`Chat::info`] wants for the page behind, if there is one.
    #[serde(default)]
    pub next: Option<String>,
    /// Whether the other one is a stranger.
    #[serde(default)]
    pub stranger: bool,
}

/// A member of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Member {
    /// Who.
    pub user: String,
    /// What they may do.
    #[serde(default)]
    pub role: Option<Role>,
    /// Since when, in ms since 1970.
    #[serde(default)]
    pub joined: u64,
}

/// Who has a message; see [`Chat::who_has`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct WhoHas {
    /// How many have it on a device.
    #[serde(default)]
    pub delivered: u64,
    /// How many have read it.
    #[serde(default)]
    pub read: u64,
    /// How many members there are.
    #[serde(default)]
    pub members: u64,
    /// Some of them, but for channels.
    #[serde(default)]
    pub who: Vec<Has>,
    /// What [`Chat::who_has`] wants for the page behind, if there is one.
    #[serde(default)]
    pub next: Option<String>,
}

/// How far one member is with a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Has {
    /// Who.
    pub user: String,
    /// Whether a device of theirs has it.
    #[serde(default)]
    pub delivered: bool,
    /// Whether they have read it.
    #[serde(default)]
    pub read: bool,
}

#[derive(Deserialize)]
struct Invited {
    token: String,
}

impl Chat {
    /// Makes the group, with oneself as owner.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send); that the name is taken is the outcome of what is returned.
    pub async fn create(&self, title: &str, users: &[&str]) -> Result<Sent, SendError> {
        self.command_json("create", json!({ "title": title, "users": users })).await
    }

    /// Adds users; without a role as members, in a channel as readers.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn add(&self, users: &[&str], role: Option<Role>) -> Result<Sent, SendError> {
        let json = match role {
            Some(role) => json!({ "users": users, "role": role.name() }),
            None => json!({ "users": users }),
        };
        self.command_json("add", json).await
    }

    /// Removes users: they see nothing behind this.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn remove(&self, users: &[&str]) -> Result<Sent, SendError> {
        self.command_json("remove", json!({ "users": users })).await
    }

    /// Leaves the group.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn leave(&self) -> Result<Sent, SendError> {
        self.command_json("leave", json!({})).await
    }

    /// Gives a member another role.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn set_role(&self, user: &str, role: Role) -> Result<Sent, SendError> {
        self.command_json("role", json!({ "user": user, "role": role.name() })).await
    }

    /// Gives the group another title; an empty one for none.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn set_title(&self, title: &str) -> Result<Sent, SendError> {
        self.command_json("title", json!({ "title": title })).await
    }

    /// Joins by the token of a link.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn join(&self, token: &str) -> Result<Sent, SendError> {
        self.command_json("join", json!({ "token": token })).await
    }

    /// Makes a link that opens the group, for so long and so often; its token.
    ///
    /// # Errors
    ///
    /// The broker refused, or the client is closed.
    pub async fn invite(
        &self,
        expires: Option<Duration>,
        uses: Option<u32>,
        role: Option<Role>,
    ) -> Result<String, AskError> {
        let mut json = serde_json::Map::new();
        if let Some(expires) = expires {
            json.insert("expires".to_owned(), json!(expires.as_secs()));
        }
        if let Some(uses) = uses {
            json.insert("uses".to_owned(), json!(uses));
        }
        if let Some(role) = role {
            json.insert("role".to_owned(), json!(role.name()));
        }
        let topic = format!("chat/{}/invite", self.name());
        let Invited { token } =
            ask(&self.handle, topic, Value::Object(json), Expects::Request).await?;
        Ok(token)
    }

    /// The link opens nothing any more.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn revoke(&self, token: &str) -> Result<Sent, SendError> {
        self.command_json("invite", json!({ "revoke": token })).await
    }

    /// Who is there: a page of members, behind `after`.
    ///
    /// # Errors
    ///
    /// The broker refused, or the client is closed.
    pub async fn info(&self, after: Option<&str>) -> Result<Info, AskError> {
        let json = after.map_or_else(|| json!({}), |after| json!({ "after": after }));
        let topic = format!("chat/{}/info", self.name());
        ask(&self.handle, topic, json, Expects::Request).await
    }

    /// Who has one's own message at `seq`: a page, behind `after`.
    ///
    /// # Errors
    ///
    /// The broker refused (`late`: the message is gone), or the client is closed.
    pub async fn who_has(&self, seq: u64, after: Option<&str>) -> Result<WhoHas, AskError> {
        let json = match after {
            Some(after) => json!({ "seq": seq, "after": after }),
            None => json!({ "seq": seq }),
        };
        let topic = format!("chat/{}/info", self.name());
        ask(&self.handle, topic, json, Expects::Request).await
    }

    /// What comes from now on disappears after so long; none takes it back.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn set_timer(&self, after: Option<Duration>) -> Result<Sent, SendError> {
        let seconds = after.map_or(0, |after| after.as_secs());
        self.command_json("timer", json!({ "seconds": seconds })).await
    }

    /// How long the server keeps what is said here.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn set_retention(&self, keep: Keep) -> Result<Sent, SendError> {
        let keep = match keep {
            Keep::UntilDelivered => "until_delivered".to_owned(),
            Keep::Days(days) => format!("days:{days}"),
            Keep::Forever => "forever".to_owned(),
            Keep::Memory => "memory".to_owned(),
        };
        self.command_json("retention", json!({ "keep": keep })).await
    }
}

//! A chat's handle: send, receive, look back, mark as read.

use crate::entry::{Body, Entry, Typing};
use crate::error::{AskError, NameError, SendError};
use crate::hub::lock;
use crate::machine::{Answer, Command, Errand, Expects, Failed, Question, Standing};
use crate::messages::{Messages, Sent};
use crate::options::check_name;
use crate::shared::{Handle, Order};
use crate::store::rows;
use crate::view::{self, Message, Ticks};
use crate::writer::now_ms;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A chat of the user, cheap to clone: `@bob`, a group, a channel, a room.
///
/// Everything can be called without a connection, and happens when there is one.
#[derive(Debug, Clone)]
pub struct Chat {
    pub(crate) handle: Arc<Handle>,
    name: String,
}

/// What a message may have besides its payload; see [`Chat::send_with`].
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    id: Option<String>,
    content_type: Option<String>,
    reply_to: Option<u64>,
}

impl SendOptions {
    /// Its id, `[A-Za-z0-9._-]{1,64}`; a random one by default. The same id makes the same message,
    /// however often it is sent.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// What the payload is, such as `image/png`.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// The message that it replies to.
    #[must_use]
    pub fn reply_to(mut self, seq: u64) -> Self {
        self.reply_to = Some(seq);
        self
    }
}

impl Chat {
    pub(crate) fn new(handle: Arc<Handle>, name: &str) -> Result<Self, NameError> {
        let inner = name.strip_prefix(['@', '~', '!']).unwrap_or(name);
        // A seat of a room is a user too: `~9Zk1.1`.
        let inner = inner.strip_prefix('~').filter(|_| name.starts_with('@')).unwrap_or(inner);
        if name != "~" && check_name("chat", inner).is_err() {
            let expected = "@user, group, ~room or !channel of 1 to 64 of A-Z a-z 0-9 . _ -";
            return Err(NameError { what: "chat", name: name.to_owned(), expected });
        }
        Ok(Self { handle, name: name.to_owned() })
    }

    /// The chat as this user sees it: `@bob` is the direct chat with Bob.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it stands: unread messages, cursors, ticks. All zero for one that is not known.
    pub fn standing(&self) -> Standing {
        let known = lock(&self.handle.shared.chats).get(&self.name).cloned();
        known.unwrap_or_else(|| Standing { chat: self.name.clone(), ..Standing::default() })
    }

    /// Takes a message for sending and returns once it is on disk.
    ///
    /// From then on it survives a crash: it is sent, and sent again with the same id over however
    /// many connections, until the broker answers. The broker stores it once. Messages of one chat
    /// are stored in the order of their sending.
    ///
    /// # Errors
    ///
    /// The message is too long, the outbox is full or could not be written, or the client is closed.
    /// After [`SendError::Disk`] the message may still be sent by the next client on the same data
    /// directory.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may or may not have sent the message.
    pub async fn send(&self, payload: impl Into<Bytes>) -> Result<Sent, SendError> {
        self.send_with(payload, SendOptions::default()).await
    }

    /// [`send`](Self::send) with an id, a content type, or what it replies to.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and where the id is none.
    pub async fn send_with(
        &self,
        payload: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        let SendOptions { id, content_type, reply_to } = options;
        let id = match id {
            Some(id) => check_name("message id", &id).map(|()| id)?,
            None => new_id()?,
        };
        let verb = format!("send/{id}");
        self.errand(verb, id, payload.into(), content_type, reply_to).await
    }

    /// The message at `seq`, one's own, says this from now on.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn edit(&self, seq: u64, payload: impl Into<Bytes>) -> Result<Sent, SendError> {
        let id = new_id()?;
        self.errand(format!("edit/{seq}/{id}"), id, payload.into(), None, None).await
    }

    /// Reacts to the message at `seq`; a newer reaction replaces the older, an empty one takes it
    /// back.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn react(&self, seq: u64, reaction: &str) -> Result<Sent, SendError> {
        let id = new_id()?;
        let payload = Bytes::from(reaction.to_owned());
        self.errand(format!("react/{seq}/{id}"), id, payload, None, None).await
    }

    /// Deletes the message at `seq` for everyone: one's own, or in a group as admin.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn delete_for_everyone(&self, seq: u64) -> Result<Sent, SendError> {
        self.command(&format!("delete/{seq}"), Bytes::from_static(b"everyone")).await
    }

    /// Deletes the message at `seq` for oneself, on all devices.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn delete_for_me(&self, seq: u64) -> Result<Sent, SendError> {
        self.command(&format!("delete/{seq}"), Bytes::from_static(b"me")).await
    }

    /// Deletes all there is of a direct chat for oneself, on all devices; ends a room for both.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn end(&self) -> Result<Sent, SendError> {
        self.command("end", Bytes::new()).await
    }

    /// The chat's entries, in order, from where this device left off.
    ///
    /// All of them are in the local store already: a slow application holds up nobody. An entry
    /// counts as dealt with when the next one is asked for or [`Messages::taken`] is called; what a
    /// crash interrupted is given again: at least once. What this very device sent is not among
    /// them; what the user's other devices sent is. An older stream of the same chat ends.
    pub fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.handle), Some(self.name.clone()))
    }

    /// Entries of the log as they are, those of `places` that are on this device, at most `limit` of
    /// them from the first on: for who keeps an own view.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or the client is closed.
    pub fn entries(
        &self,
        places: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<Entry>, AskError> {
        let store = self.handle.shared.store().ok_or(AskError::Closed)?;
        let (from, to) = places.into_inner();
        rows::entries(&*store, &self.name, from, to, false, limit)
            .map_err(|error| AskError::Unreadable { cause: error.to_string() })
    }

    /// The last `limit` messages before a place (or the newest, with those that wait), in order, with
    /// edits, reactions and ticks: what of them is on this device, at once.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or the client is closed.
    pub fn page(&self, before: Option<u64>, limit: usize) -> Result<Vec<Message>, AskError> {
        let store = self.handle.shared.store().ok_or(AskError::Closed)?;
        let standing = self.standing();
        let user = &self.handle.user;
        view::page(&*store, user, &self.name, Some(&standing), before, limit)
            .map_err(|error| AskError::Unreadable { cause: error.to_string() })
    }

    /// [`page`](Self::page), once what of it is missing here has come from the broker: waits for a
    /// connection if it has to. At most 1,000.
    ///
    /// # Errors
    ///
    /// The broker refused, the store cannot be read, or the client is closed.
    pub async fn history(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Message>, AskError> {
        let limit = limit.clamp(1, HISTORY_MAX);
        let (chat, places) = (self.name.clone(), limit as u64);
        let fetch = Command::Fetch { chat, before, limit: places };
        match self.handle.ask(fetch).await {
            // Nothing was ever sent here: that is a page without messages.
            Err(Failed::Refused(refusal)) if refusal.code == "unknown_chat" => {}
            answer => drop(answer.map_err(ask_error)?),
        }
        self.page(before, limit)
    }

    /// How far one's own message at `seq` is.
    pub fn ticks(&self, seq: u64) -> Ticks {
        view::ticks(Some(&self.standing()), seq)
    }

    /// Tells that everything up to `seq` was read: durable, and repeated until the broker has it.
    ///
    /// # Errors
    ///
    /// The client was closed, or its disk failed.
    pub async fn mark_read(&self, seq: u64) -> Result<(), SendError> {
        let chat = self.name.clone();
        let read = self.handle.ask(Command::Read { chat, seq }).await;
        read.map(drop).map_err(send_error)
    }

    /// Tells that everything was read that is on this device: what is still to come, or was never
    /// [fetched](Self::history), stays unread.
    ///
    /// # Errors
    ///
    /// As for [`mark_read`](Self::mark_read).
    pub async fn mark_all_read(&self) -> Result<(), SendError> {
        self.mark_read(u64::MAX).await
    }

    /// Tells the others what one does. To be called at each key: the client says it every few
    /// seconds, and nothing without a connection.
    ///
    /// # Errors
    ///
    /// The client was closed.
    pub async fn typing(&self, state: Typing) -> Result<(), SendError> {
        let chat = self.name.clone();
        self.handle.tell(Command::Typing { chat, state }).await.map_err(send_error)
    }

    /// To the other one in a room, at once or not at all: for the offers and candidates of a call.
    ///
    /// # Errors
    ///
    /// The broker refused: `late` where nobody is there.
    pub async fn signal(&self, payload: impl Into<Bytes>) -> Result<(), AskError> {
        let topic = format!("chat/{}/signal", self.name);
        let (payload, expects) = (payload.into(), Expects::Nothing);
        let question = Question { topic, payload, expects };
        self.handle.ask(Command::Ask(question)).await.map(drop).map_err(ask_error)
    }

    /// A durable command of this chat with a JSON object.
    pub(crate) async fn command_json(
        &self,
        verb: &str,
        json: serde_json::Value,
    ) -> Result<Sent, SendError> {
        self.command(verb, Bytes::from(json.to_string())).await
    }

    async fn command(&self, verb: &str, payload: Bytes) -> Result<Sent, SendError> {
        // Not part of the topic: it only names the command here.
        let id = new_id()?;
        self.errand(verb.to_owned(), id, payload, None, None).await
    }

    async fn errand(
        &self,
        verb: String,
        id: String,
        payload: Bytes,
        content_type: Option<String>,
        reference: Option<u64>,
    ) -> Result<Sent, SendError> {
        let chat = self.name.clone();
        let time = now_ms();
        let errand = Errand { chat, verb, id, payload, content_type, reference, time };
        order(&self.handle, errand).await
    }
}

/// Gives a durable order, and returns once it is safe.
pub(crate) async fn order(handle: &Handle, errand: Errand) -> Result<Sent, SendError> {
    let (bytes, max) = (errand.payload.len(), handle.payload_bytes_max);
    if bytes > max {
        return Err(SendError::TooLarge { bytes, max });
    }
    let id = errand.id.clone();
    let (outcome, answered) = oneshot::channel();
    let (answer, taken) = oneshot::channel();
    let command = Command::Do(errand);
    let order = Order { command, answer: Some(answer), outcome: Some(outcome) };
    handle.order(order).await.map_err(send_error)?;
    taken.await.unwrap_or(Err(Failed::Closed)).map_err(send_error)?;
    Ok(Sent { id, answered })
}

/// Asks the broker, and reads its answer.
pub(crate) async fn ask<T: DeserializeOwned>(
    handle: &Handle,
    topic: String,
    json: serde_json::Value,
    expects: Expects,
) -> Result<T, AskError> {
    let payload = Bytes::from(json.to_string());
    let question = Question { topic, payload, expects };
    match handle.ask(Command::Ask(question)).await.map_err(ask_error)? {
        Answer::Json(json) => serde_json::from_slice(&json)
            .map_err(|error| AskError::Unreadable { cause: error.to_string() }),
        Answer::Taken | Answer::Done => {
            Err(AskError::Unreadable { cause: "there is none".to_owned() })
        }
    }
}

pub(crate) fn ask_error(failed: Failed) -> AskError {
    match failed {
        Failed::Full { waiting, .. } => AskError::Busy { waiting },
        Failed::Refused(refusal) => AskError::Refused(refusal),
        Failed::Disk(cause) => AskError::Unreadable { cause },
        Failed::Closed => AskError::Closed,
    }
}

pub(crate) fn send_error(failed: Failed) -> SendError {
    match failed {
        Failed::Full { waiting, bytes } => SendError::OutboxFull { sends: waiting, bytes },
        Failed::Disk(cause) => SendError::Disk { cause },
        Failed::Refused(_) | Failed::Closed => SendError::Closed,
    }
}

/// 128 random bits: nobody's retry meets another message.
pub(crate) fn new_id() -> Result<String, SendError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| SendError::NoRandomness { cause: error.to_string() })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Message {
    /// The text; none for other bytes.
    pub fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Text(text) => Some(text),
            Body::Data(_) | Body::Empty => None,
        }
    }
}

/// Messages of one page.
const HISTORY_MAX: usize = 1_000;

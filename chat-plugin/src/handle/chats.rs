//! Sending, groups, cursors and events, for the program around the broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::slot::ShardId;

use super::{ChatHandle, bad_name};
use crate::call::{CallError, PushTarget, Reply, Sent, Standing, Survey};
use crate::entry::Kind;
use crate::event::{ChatRef, Events, Listener, LogPage};
use crate::group::{Change, Role};
use crate::peer::{Asked, Call, ChatInput, Origin, Peer, Post, ToChat, ToUser};
use crate::topics::{NO_CHAT, Place, is_name, is_user, user_slot};

/// Whom a message is from that is the server's: give nobody a login of this name.
pub const SYSTEM: &str = "system";

/// A message that the program around the broker sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    from: Arc<str>,
    chat: ChatRef,
    id: Option<Box<str>>,
    content_type: Option<Box<str>>,
    payload: Bytes,
}

impl Outgoing {
    /// A message from a user, or from [`SYSTEM`], who need not be a member of the group.
    pub fn new(from: &str, chat: ChatRef, payload: impl Into<Bytes>) -> Self {
        let payload = payload.into();
        Self { from: from.into(), chat, id: None, content_type: None, payload }
    }

    /// With an id, which makes it safe to send it again.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// With a Content Type.
    #[must_use]
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.content_type = Some(content_type.into());
        self
    }
}

impl ChatHandle {
    /// Sends a message, and returns when it is stored: its place in the log.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn send(&self, message: Outgoing) -> Result<Sent, CallError> {
        let Outgoing { from, chat, id, content_type, payload } = message;
        let place = place(&chat)?;
        let stranger = match &chat {
            ChatRef::Direct(one, other) => from != *one && from != *other,
            ChatRef::Named(_) => false,
        };
        if !is_user(&from) || stranger {
            return Err(bad_name("a user of this chat", &from));
        }
        if let Some(id) = id.as_deref().filter(|id| !is_name(id)) {
            return Err(bad_name("a message", id));
        }
        let max = self.inner.options.payload_bytes_max;
        if payload.len() > max {
            let text = format!("the payload has {} bytes, at most {max} are taken", payload.len());
            return Err(CallError::Refused { code: "size", text, retry_after: None });
        }
        let post = Post {
            id,
            content_type,
            payload: Bytes::copy_from_slice(&payload),
            ..post(from, None)
        };
        let sent =
            self.call(|reply, line| to_users(place, post, Asked::Sent(reply), line.shards()));
        // Without a change there is nothing that could be so already.
        sent.await?.ok_or(CallError::Stopped)
    }

    /// Makes a group, or with `!` in front of its name a channel.
    ///
    /// # Errors
    /// The name is taken, or see [`CallError`]. `None`: it is there already, and the owner's.
    pub async fn create_group(
        &self,
        name: &str,
        owner: &str,
        title: Option<&str>,
        members: &[&str],
    ) -> Result<Option<Sent>, CallError> {
        let change = Change::Create { title: title.map(Into::into), users: names(members)? };
        self.change(name, owner, change).await
    }

    /// Adds users to a group; `None` as a role is the usual one.
    ///
    /// # Errors
    /// See [`CallError`]. `None`: nothing had to be changed.
    pub async fn add(
        &self,
        group: &str,
        users: &[&str],
        role: Option<Role>,
    ) -> Result<Option<Sent>, CallError> {
        self.change(group, SYSTEM, Change::Add { users: names(users)?, role }).await
    }

    /// Removes users from a group.
    ///
    /// # Errors
    /// See [`CallError`]. `None`: nothing had to be changed.
    pub async fn remove(&self, group: &str, users: &[&str]) -> Result<Option<Sent>, CallError> {
        self.change(group, SYSTEM, Change::Remove { users: names(users)? }).await
    }

    /// Gives a member of a group another role.
    ///
    /// # Errors
    /// See [`CallError`]. `None`: nothing had to be changed.
    pub async fn set_role(
        &self,
        group: &str,
        user: &str,
        role: Role,
    ) -> Result<Option<Sent>, CallError> {
        let user = names(&[user])?.pop().unwrap_or_default();
        self.change(group, SYSTEM, Change::Role { user, role }).await
    }

    /// Gives a group another title; an empty one takes it away.
    ///
    /// # Errors
    /// See [`CallError`]. `None`: nothing had to be changed.
    pub async fn set_title(&self, group: &str, title: &str) -> Result<Option<Sent>, CallError> {
        self.change(group, SYSTEM, Change::Title(title.into())).await
    }

    /// Makes a link to a group: the token that `join` takes.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn invite(
        &self,
        group: &str,
        expires: Option<Duration>,
        uses: Option<u32>,
    ) -> Result<String, CallError> {
        let place = group_place(group)?;
        let expires = expires.map(|expires| expires.as_secs().max(1));
        let change = Change::Invite { expires, uses, role: None, request: None };
        let post = post(SYSTEM.into(), Some(change));
        self.call(|reply, line| to_users(place, post, Asked::Invite(reply), line.shards())).await
    }

    /// Who is in a chat and how far all are: a page of up to 1,000 members behind `after`.
    ///
    /// # Errors
    /// There is no such chat, or see [`CallError`].
    pub async fn survey(
        &self,
        chat: &ChatRef,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Survey, CallError> {
        let (place, after) = (place(chat)?, after.map(Arc::from));
        self.call(|reply, line| {
            let what = ChatInput::Survey { after, limit, reply };
            (place.shard(line.shards()), Peer::Chat(ToChat { place, what }))
        })
        .await
    }

    /// Where a user's devices are woken: those that have said so to `me/push`.
    ///
    /// # Errors
    /// There can be no such user, or see [`CallError`].
    pub async fn push_targets(&self, user: &str) -> Result<Vec<PushTarget>, CallError> {
        let user = names(&[user])?.pop().unwrap_or_default();
        self.call(|reply, line| {
            let shard = user_slot(&user).shard(line.shards());
            (shard, Peer::User(ToUser::Pushes { user, reply }))
        })
        .await
    }

    /// How far a member of a chat is; `None`: that is none.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn standing(
        &self,
        chat: &ChatRef,
        user: &str,
    ) -> Result<Option<Standing>, CallError> {
        let (place, user) = (place(chat)?, Arc::from(user));
        self.call(|reply, line| {
            let what = ChatInput::Stand { user, reply };
            (place.shard(line.shards()), Peer::Chat(ToChat { place, what }))
        })
        .await
    }

    /// A page of the log of a chat: up to 200 entries from `from` on, whoever may see them.
    ///
    /// # Errors
    /// There is no such chat, or see [`CallError`].
    pub async fn log(&self, chat: &ChatRef, from: u64, limit: usize) -> Result<LogPage, CallError> {
        let place = place(chat)?;
        self.call(|reply, line| {
            let what = ChatInput::Look { from, limit, reply };
            (place.shard(line.shards()), Peer::Chat(ToChat { place, what }))
        })
        .await
    }

    /// What happens in all chats from now on, in a queue of so many events. In order for each chat.
    /// Nothing waits for who listens: what finds the queue full is lost, and
    /// [`ChatEvent::Lost`](crate::ChatEvent::Lost) says how much that was.
    ///
    /// # Errors
    /// The broker has not been started.
    pub fn events(&self, capacity: usize) -> Result<Events, CallError> {
        let line = self.inner.line.get().ok_or(CallError::NotStarted)?;
        let (listener, events) = Listener::new(capacity);
        for shard in 0..line.shards() {
            line.send(ShardId(shard), Box::new(Peer::Listen(listener.clone())));
        }
        Ok(events)
    }

    async fn change(
        &self,
        group: &str,
        by: &str,
        change: Change,
    ) -> Result<Option<Sent>, CallError> {
        let place = group_place(group)?;
        let by = names(&[by])?.pop().unwrap_or_default();
        let post = post(by, Some(change));
        self.call(|reply: Reply<Option<Sent>>, line| {
            to_users(place, post, Asked::Sent(reply), line.shards())
        })
        .await
    }
}

fn post(sender: Arc<str>, change: Option<Change>) -> Post {
    Post {
        sender,
        // No device of anybody: all of the sender's hear it.
        device: "".into(),
        id: None,
        content_type: None,
        payload: Bytes::new(),
        kind: if change.is_some() { Kind::System } else { Kind::Message },
        refers: 0,
        change: change.map(Box::new),
        ask: None,
        // The number is given where the answer will arrive.
        origin: Origin::of_call(ShardId(0), 0),
    }
}

fn to_users(place: Arc<Place>, post: Post, asked: Asked, shards: u16) -> (ShardId, Peer) {
    let shard = user_slot(&post.sender).shard(shards);
    let call = Call { place, post: Box::new(post), asked };
    (shard, Peer::User(ToUser::Call(Box::new(call))))
}

fn place(chat: &ChatRef) -> Result<Arc<Place>, CallError> {
    match chat {
        ChatRef::Direct(one, other) => match [one, other].into_iter().find(|user| !is_name(user)) {
            Some(user) => Err(bad_name("a user", user)),
            None => Ok(Place::direct(one, other)),
        },
        ChatRef::Named(name) if name.starts_with('~') && is_user(name) => {
            // Who is in it, it knows itself.
            Ok(Place::room(name, "", ""))
        }
        ChatRef::Named(name) => group_place(name),
    }
}

fn group_place(name: &str) -> Result<Arc<Place>, CallError> {
    if name != NO_CHAT && is_name(name.strip_prefix('!').unwrap_or(name)) {
        Ok(Place::group(name))
    } else {
        Err(bad_name("a group", name))
    }
}

fn names(users: &[&str]) -> Result<Vec<Arc<str>>, CallError> {
    if users.len() > USERS_MAX {
        let text = format!("at most {USERS_MAX} users at a time");
        return Err(CallError::Refused { code: "limit", text, retry_after: None });
    }
    if let Some(user) = users.iter().find(|user| !is_name(user)) {
        return Err(bad_name("a user", user));
    }
    let mut names: Vec<Arc<str>> = users.iter().map(|user| Arc::from(*user)).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// How many users one call names.
const USERS_MAX: usize = 256;

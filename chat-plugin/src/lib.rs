//! Chat over plain MQTT: direct chats and groups with ticks, store and forward, presence.
//!
//! [`Chat`] makes a service for every shard of the broker. Each has two sides that talk by
//! messages only, also within one shard: the side of the users, where sessions are, and the side
//! of the chats, where logs are. A send costs one record however many hear it; what each device
//! has is a cursor.

mod call;
mod cbor;
mod chat;
mod code;
mod deadline;
mod entry;
mod entry_row;
mod event;
mod group;
mod handle;
mod json;
mod map;
mod moderate;
mod options;
mod pairing;
mod peer;
mod rows;
mod seal;
mod seat;
mod ties;
mod topics;
mod user;
mod view;

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::codec::ReasonCode;
use tidings_core::hook::{Client, Host, Line, Service, ServiceEvent, ServiceFactory};
use tidings_core::slot::ShardId;
use tidings_core::time::Time;
use tidings_core::topic::TopicFilter;

pub use call::{CallError, Opened, PushTarget, Room, SeatKey, Sent, Standing, Survey};
pub use code::Code;
pub use event::{ChatEvent, ChatRef, Events, LogPage, StoredEntry};
pub use group::Role;
pub use handle::{ChatHandle, Outgoing, SYSTEM};
pub use moderate::{Draft, Judgement, Moderate};
pub use options::ChatOptions;
pub use rows::verify;
pub use seal::Vault;
pub use topics::ROOTS;

use chat::ChatSide;
use options::Secret;
use pairing::PairSide;
use peer::Peer;
use seal::Veil;
use seat::SeatSide;
use topics::Listening;
use user::{Arrival, UserSide};

/// Makes the chat service of each shard.
#[derive(Debug, Clone)]
pub struct Chat {
    options: Arc<ChatOptions>,
    secret: Option<Secret>,
    moderator: Option<Arc<dyn Moderate>>,
    vault: Option<Arc<dyn Vault>>,
    veil: Option<Arc<Veil>>,
    handle: ChatHandle,
}

impl Default for Chat {
    fn default() -> Self {
        Self::new(ChatOptions::default())
    }
}

impl Chat {
    /// Chat with these bounds and delays.
    pub fn new(options: ChatOptions) -> Self {
        Self::made(Arc::new(options), Secret::of_the_system())
    }

    /// The same, with what chats keep sealed: each with a key of its own out of the vault.
    #[must_use]
    pub fn with_vault(self, vault: Arc<dyn Vault>) -> Self {
        Self { vault: Some(vault), veil: Veil::new().map(Arc::new), ..self }
    }

    fn made(options: Arc<ChatOptions>, secret: Option<Secret>) -> Self {
        let handle = ChatHandle::new(Arc::clone(&options), secret);
        Self { options, secret, vault: None, veil: None, moderator: None, handle }
    }

    /// The same, with somebody who looks at each message before it is kept.
    #[must_use]
    pub fn with_moderator(self, moderator: Arc<dyn Moderate>) -> Self {
        Self { moderator: Some(moderator), ..self }
    }

    /// The way in for the program around the broker: it leads somewhere as soon as a broker with
    /// this chat has been started.
    pub fn handle(&self) -> ChatHandle {
        self.handle.clone()
    }

    /// The same, with what makes links and codes unguessable in place of the system's randomness: for
    /// simulations that are to repeat themselves. To be said before [`Chat::handle`].
    #[must_use]
    pub fn with_secret(self, secret: [u8; 32]) -> Self {
        let made = Self::made(self.options, Some(Secret(secret)));
        Self { vault: self.vault, veil: self.veil, moderator: self.moderator, ..made }
    }
}

impl ServiceFactory for Chat {
    fn make(&self, _shard: ShardId, _shards: u16) -> Box<dyn Service> {
        Box::new(ChatShard {
            users: UserSide::new(Arc::clone(&self.options)),
            chats: ChatSide::new(
                Arc::clone(&self.options),
                self.secret,
                self.vault.clone(),
                self.moderator.clone(),
            ),
            seats: SeatSide::new(Arc::clone(&self.options), self.secret),
            pairs: PairSide::new(Arc::clone(&self.options), self.secret),
            veil: self.veil.clone(),
        })
    }

    fn opened(&self, line: Arc<dyn Line>) {
        self.handle.open_line(line);
    }
}

/// The chat service of one shard.
#[derive(Debug)]
struct ChatShard {
    users: UserSide,
    chats: ChatSide,
    seats: SeatSide,
    pairs: PairSide,
    veil: Option<Arc<Veil>>,
}

impl Service for ChatShard {
    fn roots(&self) -> &'static [&'static str] {
        ROOTS
    }

    fn subscribe(&self, client: &Client<'_>, filter: &TopicFilter) -> Result<(), ReasonCode> {
        if !topics::is_user(client.user) {
            return Err(ReasonCode::NotAuthorized);
        }
        match Listening::parse(filter)? {
            Listening::Presence(user) if !self.users.may_watch(client.user, user) => {
                Err(ReasonCode::NotAuthorized)
            }
            _ => Ok(()),
        }
    }

    fn handle(&mut self, event: ServiceEvent<'_>, host: &mut dyn Host) {
        match event {
            ServiceEvent::Started => {
                self.users.started(host.now());
                self.chats.started(host);
            }
            ServiceEvent::Connected {
                session,
                client,
                persistent,
                resumed,
                in_flight,
                user_properties,
            } => {
                let says =
                    |name| user_properties.user_property(name).is_some_and(|value| value == "1");
                let arrival = Arrival {
                    persistent,
                    resumed,
                    in_flight,
                    batch: says("batch"),
                    acks: says("ack"),
                };
                self.users.connected(session, &client, &arrival, host);
            }
            ServiceEvent::Disconnected { session, client: _, how } => {
                self.users.disconnected(session, how, host);
            }
            ServiceEvent::SessionEnded { session, client } => {
                self.users.session_ended(session, &client, host);
            }
            ServiceEvent::Subscribed { session, filter, qos, new } => {
                self.users.subscribed(session, filter, qos, new, host);
            }
            ServiceEvent::Unsubscribed { session, filter } => {
                self.users.unsubscribed(session, filter, host);
            }
            ServiceEvent::Published { session, client, publish, token } => {
                self.users.published(session, &client, publish, token, host);
            }
            ServiceEvent::Acknowledged { session, tag, reason } => {
                self.users.acknowledged(session, tag, reason, host);
            }
            ServiceEvent::Room { session } => self.users.room(session, host),
            ServiceEvent::Stored(position) => {
                self.chats.stored(position, host);
                self.users.stored(position, host);
            }
            ServiceEvent::Rows { token, rows, more } => {
                if token % 2 == 0 {
                    self.chats.rows(token, rows, more, host);
                } else {
                    self.users.rows(token, &rows, more, host);
                }
            }
            ServiceEvent::Peer { from: _, message } => match message.downcast::<Peer>() {
                Ok(message) => match *message {
                    Peer::Chat(input) => self.chats.handle(input, host),
                    Peer::User(input) => self.users.handle(input, host),
                    Peer::Seat(input) => self.seats.handle(input, host),
                    Peer::Pair(input) => self.pairs.handle(input, host),
                    Peer::Listen(listener) => {
                        self.chats.listen(listener.clone());
                        self.users.listen_to_all(listener);
                    }
                },
                // Nobody but this service sends to it.
                Err(_) => debug_assert!(false, "a message of another type"),
            },
            ServiceEvent::TimedOut => {
                self.chats.timed_out(host);
                self.users.timed_out(host);
                self.pairs.timed_out(host);
            }
        }
    }

    fn veil(&self, payload: &[u8]) -> Option<Bytes> {
        self.veil.as_ref().map(|veil| veil.veil(payload))
    }

    fn unveil(&self, kept: &[u8]) -> Option<Bytes> {
        self.veil.as_ref().and_then(|veil| veil.unveil(kept))
    }

    fn next_timeout(&self) -> Option<Time> {
        let (chats, users) = (self.chats.next_timeout(), self.users.next_timeout());
        [chats, users, self.pairs.next_timeout()].into_iter().flatten().min()
    }
}

//! What threads put into a shard's box: connections, other shards' messages, the word to stop.
//!
//! The box has no bound of its own: what goes in is bounded by what Clients may have unanswered
//! and, for QoS 0, by [`Post::is_crowded`].

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tidings_core::hook::Line;
use tidings_core::output::ConnectionId;
use tidings_core::peer::PeerMessage;
use tidings_core::slot::ShardId;
use tidings_core::system::SystemValue;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::auth::Step;
use crate::exchange::{Going, Reauthenticator};
use crate::listener::Stream;
use crate::visitors::Visitor;

/// Something for a shard.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A Client that was authenticated.
    Connection(Box<Introduced>),
    /// What an authenticator says to a connected Client.
    Authenticated(Box<Answer>),
    /// From another shard.
    Peer(ShardId, PeerMessage),
    /// What the broker says of itself.
    System(Arc<[SystemValue]>),
    /// Whether the disk is nearly full.
    Disk { low: bool },
    /// Memory is used up further than before, or less far: see [`crate::pressure::Pressure`]. All
    /// shards together are to give back so many bytes.
    Memory { excess: u64 },
    /// Somebody wants to know which Clients take too little of what is for them.
    Slowest(UnboundedSender<Vec<SlowClient>>),
    /// Rights have changed.
    RightsChanged,
    /// A login is not true any more: a user's, or everybody's.
    Revoked(Option<Arc<str>>),
    /// Tell every Client, put every session away, and end.
    Stop,
}

/// A Client for whom something waits in memory: it reads more slowly than it is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowClient {
    /// Who it speaks for.
    pub user: String,
    /// Its Client Identifier.
    pub client_id: String,
    /// Bytes that are unwritten or wait in memory for it.
    pub bytes: usize,
    /// For how long it has taken nothing.
    pub stuck_for: Option<Duration>,
}

/// A connection whose CONNECT was read and whose Client is known.
#[derive(Debug)]
pub(crate) struct Introduced {
    /// Detached.
    pub(crate) stream: Box<dyn Stream>,
    /// The CONNECT, and what came behind it.
    pub(crate) bytes: Vec<u8>,
    pub(crate) login: Login,
    /// Its place among the connections from its address.
    pub(crate) from: Option<Visitor>,
}

/// Who a connection speaks for, and as which session.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) client_id: String,
    /// The Client Identifier was given by the broker.
    pub(crate) assigned: bool,
    /// When it is over.
    pub(crate) expires: Option<SystemTime>,
    /// What enhanced authentication says last, in CONNACK.
    pub(crate) authentication_data: Vec<u8>,
    /// For the next time, if there was enhanced authentication.
    pub(crate) reauthenticator: Option<Arc<Reauthenticator>>,
}

/// A step of enhanced authentication that was taken.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) connection: ConnectionId,
    pub(crate) step: Step,
    /// The exchange, if the Client is to say more.
    pub(crate) going: Option<Going>,
}

impl Mail {
    /// Roughly what it keeps in memory besides itself.
    fn bytes(&self) -> usize {
        match self {
            Self::Peer(
                _,
                PeerMessage::Publish { message, .. }
                | PeerMessage::Hand { message, .. }
                | PeerMessage::Retain { message, .. },
            ) => message.size(),
            _ => 0,
        }
    }
}

/// What is in a box and not yet taken.
#[derive(Debug, Default)]
struct Waiting {
    mail: AtomicUsize,
    bytes: AtomicUsize,
}

/// The way into a shard's box.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    sender: UnboundedSender<Mail>,
    waiting: Arc<Waiting>,
}

impl Post {
    /// Puts something in. Nobody is there any more when the broker stops: it is lost then.
    pub(crate) fn send(&self, mail: Mail) {
        self.waiting.mail.fetch_add(1, Ordering::Relaxed);
        self.waiting.bytes.fetch_add(mail.bytes(), Ordering::Relaxed);
        let _stopped = self.sender.send(mail);
    }

    /// Bytes of what waits.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting.bytes.load(Ordering::Relaxed) as u64
    }

    /// Whether so much waits that what may be lost should be.
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.mail.load(Ordering::Relaxed) > MAIL_WAITING_MAX
            || self.waiting.bytes.load(Ordering::Relaxed) > MAIL_WAITING_BYTES_MAX
    }
}

/// The way from the program to one of the services.
#[derive(Debug)]
pub(crate) struct ServiceLine {
    pub(crate) service: u8,
    pub(crate) posts: Vec<Post>,
}

impl Line for ServiceLine {
    fn shards(&self) -> u16 {
        u16::try_from(self.posts.len()).unwrap_or(u16::MAX)
    }

    fn send(&self, shard: ShardId, message: Box<dyn Any + Send>) {
        if let Some(post) = self.posts.get(usize::from(shard.0)) {
            let message = PeerMessage::Service { service: self.service, message };
            post.send(Mail::Peer(shard, message));
        }
    }
}

/// A shard's box.
#[derive(Debug)]
pub(crate) struct MailBox {
    receiver: UnboundedReceiver<Mail>,
    waiting: Arc<Waiting>,
}

impl MailBox {
    /// A box and the way into it.
    pub(crate) fn new() -> (Post, Self) {
        let (sender, receiver) = unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        (Post { sender, waiting: Arc::clone(&waiting) }, Self { receiver, waiting })
    }

    /// Waits for mail and takes all of it, up to a batch. `false`: there will be no more.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn take(&mut self, into: &mut Vec<Mail>) -> bool {
        let taken = self.receiver.recv_many(into, MAIL_BATCH).await;
        let bytes = into.iter().rev().take(taken).map(Mail::bytes).sum();
        self.waiting.mail.fetch_sub(taken, Ordering::Relaxed);
        self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
        taken > 0
    }
}

/// Above this many waiting, QoS 0 messages from other shards are dropped and counted.
const MAIL_WAITING_MAX: usize = 65_536;

/// Above this many bytes of them likewise; a message counts for every box it is in.
const MAIL_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much is taken before connections get their turn.
const MAIL_BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_core::codec::QoS;
    use tidings_core::message::{Message, MessageId};
    use tidings_core::time::Time;

    use super::*;

    #[tokio::test]
    async fn a_box_is_crowded_by_many_and_by_large_messages_until_they_are_taken() {
        let large = Bytes::from(vec![0; 1024 * 1024]);
        let qos = QoS::AtMostOnce;
        let large = Message::new(MessageId(1), "a", large, qos, Time::from_millis(0));
        let small = Message::new(MessageId(1), "a", Bytes::new(), qos, Time::from_millis(0));
        for (message, enough) in [(large, 64), (small, MAIL_WAITING_MAX + 1)] {
            let (post, mut mail) = MailBox::new();
            let message = Arc::new(message);
            for _ in 0..enough {
                assert!(!post.is_crowded());
                let message = Arc::clone(&message);
                let (publisher, token, only, origin) = (None, None, false, None);
                let message = PeerMessage::Publish { message, publisher, token, only, origin };
                post.send(Mail::Peer(ShardId(0), message));
            }
            assert!(post.is_crowded());
            let mut taken = Vec::new();
            while taken.len() < enough {
                mail.take(&mut taken).await;
            }
            assert!(!post.is_crowded());
            assert_eq!(post.waiting.bytes.load(Ordering::Relaxed), 0);
        }
    }
}

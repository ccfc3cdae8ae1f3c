//! What shards tell each other: typed messages, in the order of cause and effect.
//!
//! That is more than in order between any two: what a shard sends because of a message must not
//! come to a third one before what that message's sender had sent there earlier. One queue for each
//! receiver, filled at once, gives that. A subscriber relies on it to find the newest retained
//! message with the topic's owner.
//!
//! A shard that owns a subscription tells the others which filters it wants to hear
//! ([`PeerMessage::Interest`]), and answers SUBSCRIBE only when all of them know. A publisher's
//! shard then hands a message to the interested shards alone, and answers PUBLISH only when each
//! says that it has taken it over ([`PeerMessage::Taken`]): durable there, if it has to be.

use std::any::Any;
use std::sync::Arc;

use crate::codec::ReasonCode;
use crate::hook::SessionId;
use crate::message::Message;
use crate::topic::TopicFilter;

/// A message from one shard to another.
#[derive(Debug)]
pub enum PeerMessage {
    /// The sender wants (or no longer wants) to hear what matches `filter`.
    Interest {
        /// The filter.
        filter: TopicFilter,
        /// Whether it is wanted.
        wanted: bool,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for.
        token: Option<u64>,
    },
    /// Deliver to the sessions of yours that subscribed.
    Publish {
        /// The message.
        message: Arc<Message>,
        /// Who published it, for No Local.
        publisher: Option<SessionId>,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for.
        token: Option<u64>,
        /// Whether the message goes to this one shard, so that a full queue can refuse it.
        only: bool,
    },
    /// Make this the retained message of its topic; an empty payload removes it.
    Retain {
        /// The message.
        message: Arc<Message>,
        /// Repeated by [`PeerMessage::Taken`], when one is asked for.
        token: Option<u64>,
    },
    /// What was asked under this token is done, and durable where it must be.
    Taken {
        /// The token.
        token: u64,
        /// Success, No matching subscribers, or why not.
        reason: ReasonCode,
    },
    /// Send me the retained messages that match, for a subscription of mine: answered by one
    /// [`PeerMessage::Retained`], also where there are none.
    RetainedWanted {
        /// The filter.
        filter: TopicFilter,
        /// Repeated by [`PeerMessage::Retained`].
        session: SessionId,
    },
    /// Retained messages for a new subscription.
    Retained {
        /// The filter that was asked for.
        filter: TopicFilter,
        /// The subscribing session.
        session: SessionId,
        /// The messages.
        messages: Vec<Arc<Message>>,
    },
    /// From a service on one shard to its like on another.
    Service {
        /// Which service.
        service: u8,
        /// Its own type.
        message: Box<dyn Any + Send>,
    },
}

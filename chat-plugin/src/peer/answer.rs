//! Where answers go: to the session that asked, or to a call of the program around the broker.

use bytes::Bytes;
use tidings_core::hook::{AnswerToken, SessionId};
use tidings_core::slot::ShardId;

use super::Post;
use crate::json::Request;

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) shard: ShardId,
    /// The asking session; none for a will.
    pub(crate) session: Option<SessionId>,
    /// The PUBLISH that waits for it; none for QoS 0.
    pub(crate) token: Option<AnswerToken>,
}

impl Origin {
    /// A call of the program around the broker: such a one may do everything.
    pub(crate) const fn of_call(shard: ShardId, serial: u64) -> Self {
        let token = AnswerToken { session: CALLS, serial };
        Self { shard, session: None, token: Some(token) }
    }

    /// Which call it is, if it is one.
    pub(crate) fn call(&self) -> Option<u64> {
        self.token.filter(|token| token.session == CALLS).map(|token| token.serial)
    }
}

/// No session has this number.
const CALLS: SessionId = SessionId(u64::MAX);

/// A question, and how its answer is to be addressed.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) origin: Origin,
    /// The Response Topic (§4.10), if one was given.
    pub(crate) topic: Option<Box<str>>,
    /// The Correlation Data that goes with it.
    pub(crate) correlation: Option<Bytes>,
    /// What the asker calls it.
    pub(crate) request: Option<Request>,
}

/// To whom goes what a command brought.
#[derive(Debug, Clone)]
pub(crate) enum AnswerTo {
    /// The session that asked. The command's acknowledgement has gone already.
    Session(Box<Question>),
    /// A call of the program around the broker.
    Call(u64),
}

impl AnswerTo {
    /// Who asked.
    pub(crate) fn of(post: &Post) -> Option<Self> {
        if let Some(call) = post.origin.call() {
            return Some(Self::Call(call));
        }
        let ask = post.ask.clone()?;
        let origin = Origin { token: None, ..ask.origin };
        Some(Self::Session(Box::new(Question { origin, ..*ask })))
    }
}

//! What the machine is told, and what it says must be done about it.

use crate::entry::{Event, Presence, Receipt, Typing};
use crate::error::Refusal;
use crate::store::Change;
use crate::transport::{Lost, Opened, Outgoing};
use bytes::Bytes;
use std::time::Duration;

/// Names a command, so that its [`Output::Answer`] finds who gave it. The shell's to choose.
pub type Request = u64;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The application wants something.
    Command(Request, Command),
    /// [`Output::Connect`] led to a connection.
    Opened(Opened),
    /// There is no connection: [`Output::Connect`] failed, or it ended.
    Lost(Lost),
    /// A publish came in.
    Received {
        /// Topic Name.
        topic: String,
        /// Application Message.
        payload: Bytes,
        /// What [`Output::Acknowledge`] names; none at QoS 0.
        packet: Option<u16>,
    },
    /// The broker answered a publish.
    Acknowledged {
        /// That of the [`Outgoing`].
        token: u64,
        /// Its Reason Code.
        reason: u8,
        /// Its Reason String.
        text: Option<String>,
        /// Its user properties.
        properties: Vec<(String, String)>,
    },
    /// The broker answered a subscription.
    Subscribed {
        /// The Topic Filter.
        filter: String,
        /// What the broker said, if it refused.
        refused: Option<String>,
    },
    /// Every [`Output::Write`] up to this position survives a crash.
    Stored(u64),
    /// A write failed: nothing is written any more.
    NotStored(String),
    /// The time of [`Machine::next_timeout`](super::Machine::next_timeout) has come.
    TimedOut,
}

/// What the application may want.
#[derive(Debug)]
pub enum Command {
    /// Something to be published until the broker has answered it, whatever happens in between.
    ///
    /// Answered with [`Answer::Taken`] once it is safe; the broker's answer is
    /// [`Told::Outcome`].
    Do(Errand),
    /// The user has read everything up to here.
    Read {
        /// The chat.
        chat: String,
        /// The last entry read.
        seq: u64,
    },
    /// The application is done with everything up to here: it is not given again. Not answered.
    Taken {
        /// The chat.
        chat: String,
        /// The last entry it is done with.
        seq: u64,
    },
    /// The user is typing, or has stopped. Not answered; lost where there is no connection.
    Typing {
        /// The chat.
        chat: String,
        /// `typing`, `recording` or `stopped`.
        state: Typing,
    },
    /// Whether this user's presence is wanted. Not answered.
    Watch {
        /// The user.
        user: String,
        /// Or no longer.
        watch: bool,
    },
    /// Nobody looks at this device, or somebody does again. Not answered.
    Away(bool),
    /// Something the broker answers, asked again over connections until it does.
    Ask(Question),
    /// Entries before a place, from the broker where they are not here: answered with
    /// [`Answer::Done`] when they are as far as there are any.
    Fetch {
        /// The chat.
        chat: String,
        /// The first place that is not wanted; none: from the newest on.
        before: Option<u64>,
        /// How many places.
        limit: u64,
    },
    /// The network has changed: what connection there is is to be made anew. Not answered.
    NetworkChanged,
    /// Acknowledge, write, say DISCONNECT, and nothing more. Not answered.
    Close,
}

/// A durable command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// The chat; `-` for what belongs to none.
    pub chat: String,
    /// The topic behind the chat (`send/m1`), or all of it where there is none (`me/block`).
    pub verb: String,
    /// The message id; empty for a command without one.
    pub id: String,
    /// What is published.
    pub payload: Bytes,
    /// Content Type.
    pub content_type: Option<String>,
    /// The entry that a message replies to.
    pub reference: Option<u64>,
    /// When it was asked for, in ms since 1970: to show, never to decide.
    pub time: u64,
}

/// A command that is answered while the program runs, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Topic Name.
    pub topic: String,
    /// What is published: a JSON object where an answer is expected.
    pub payload: Bytes,
    /// What comes back.
    pub expects: Expects,
}

/// How the answer to a [`Question`] is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// By the `request` that the machine puts into it.
    Request,
    /// PUBACK is all.
    Nothing,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Connect once, with this Keep Alive.
    Connect {
        /// Longest silence.
        keep_alive: Duration,
    },
    /// Drop the connection, or the attempt.
    Cut,
    /// Say DISCONNECT; [`Input::Lost`] follows.
    Disconnect,
    /// Send a PUBLISH.
    Publish(Outgoing),
    /// Subscribe at QoS 1, or unsubscribe.
    Subscribe {
        /// The Topic Filter.
        filter: String,
        /// Or unsubscribe.
        subscribe: bool,
    },
    /// Acknowledge a publish that came in.
    Acknowledge(u16),
    /// Apply the changes, after those of earlier positions, then say [`Input::Stored`]. Several may
    /// be written as one; the last position then stands for all.
    Write {
        /// Grows by one each time.
        position: u64,
        /// What to change.
        changes: Vec<Change>,
    },
    /// A command has an answer.
    Answer(Request, Result<Answer, Failed>),
    /// The application hears.
    Tell(Told),
    /// All is said and written: the machine is not to be told anything more.
    Closed,
}

/// What answers a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is safe.
    Taken,
    /// It is done.
    Done,
    /// What the broker answered, a JSON object.
    Json(Bytes),
}

/// Why a command came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// Too much waits for the broker.
    Full {
        /// Commands that wait.
        waiting: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The broker said no.
    Refused(Refusal),
    /// The disk failed.
    Disk(String),
    /// The client was closed.
    Closed,
}

/// What the application hears without having asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something happened to the client.
    Event(Event),
    /// The broker answered a [`Command::Do`]: the place of its entry, if it has one.
    Outcome {
        /// The chat.
        chat: String,
        /// The message id.
        id: String,
        /// What the broker said.
        result: Result<Option<u64>, Refusal>,
    },
    /// A chat is as this says now, in the store as well.
    Chat(Box<Standing>),
    /// A tick.
    Receipt(Receipt),
    /// Somebody came or went.
    Presence(Presence),
    /// Somebody types, or has stopped.
    Typing {
        /// The chat.
        chat: String,
        /// Who.
        user: String,
        /// What they do.
        state: Typing,
    },
}

/// How a chat stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The chat.
    pub chat: String,
    /// The newest place there is.
    pub last: u64,
    /// When that was, by the broker's clock, in ms since 1970.
    pub time: u64,
    /// Everything up to here can be read from the store without a gap, from where this device began.
    pub in_order: u64,
    /// The application is done with everything up to here.
    pub taken: u64,
    /// How far the user has read, on any device.
    pub read: u64,
    /// How many messages of others lie behind that.
    pub unread: u64,
    /// How far the others are: user, delivered, read.
    pub others: Vec<(String, u64, u64)>,
    /// Whether the other one is a stranger.
    pub stranger: bool,
    /// Whether the chat is over for this user.
    pub ended: bool,
    /// Errands that the broker has not answered.
    pub waiting: usize,
}

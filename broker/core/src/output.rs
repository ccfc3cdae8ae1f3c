//! What a shard wants done: effects in order, in the caller's buffer.
//!
//! Packets are encoded at once, one behind the other, into one arena: a shard that answers a
//! hundred packets makes no allocation for it once the arena has grown. A large payload is not
//! copied: its [`Frame`] points at the message, for a vectored write.

use std::ops::Range;
use std::sync::Arc;

use crate::codec::{Malformed, Packet, PublishParts, QoS, ReasonCode, Version};
use crate::hook::Event;
use crate::message::Message;
use crate::peer::PeerMessage;
use crate::protocol_error::ProtocolError;
use crate::record::{Position, Query, Record};
use crate::slot::ShardId;

/// A Network Connection: a number of the shell's, not given again in the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One effect. Small, because most are [`Output::Send`], and there may be thousands: what is large is
/// boxed.
#[derive(Debug)]
pub enum Output {
    /// The session of this connection is ready: packets behind CONNECT may be handed in.
    Opened {
        /// The connection.
        connection: ConnectionId,
    },
    /// Write these bytes.
    Send {
        /// Where to.
        connection: ConnectionId,
        /// Which bytes; see [`Outbox::frame`].
        frame: Frame,
    },
    /// Enough for now: say [`crate::shard::Input::Congested`] with `false` as soon as little of
    /// what was sent is unwritten.
    Throttled {
        /// The connection.
        connection: ConnectionId,
    },
    /// Write what is to be written, then close. Nothing of this connection is handed in any more.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// Why, for the log.
        cause: CloseCause,
    },
    /// The Client wants to be authenticated again, or answers what it was asked: hand it to the
    /// authenticator of its connection. Answered by [`crate::shard::Input::Authenticated`]; nothing
    /// else is asked about this connection before.
    Authenticate {
        /// The connection.
        connection: ConnectionId,
        /// A new exchange begins with it.
        begins: bool,
        /// The Authentication Data; empty if there is none.
        data: Box<[u8]>,
    },
    /// Keep this record; its position is one more than the last one's. Answered by
    /// [`crate::shard::Input::Stored`].
    Store(Record),
    /// Read rows. Answered by [`crate::shard::Input::Rows`].
    Read {
        /// What the answer repeats.
        token: u64,
        /// What to read.
        query: Box<Query>,
        /// No row that is there was put by this record or one before it.
        since: Position,
    },
    /// Hand this to another shard, in order.
    Peer {
        /// Which one.
        shard: ShardId,
        /// What.
        message: Box<PeerMessage>,
    },
    /// Tell the observers.
    Event(Box<Event>),
}

/// Why a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseCause {
    /// The Client said DISCONNECT.
    #[error("client disconnected")]
    Disconnected,
    /// Bytes that are no packet.
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    /// A packet that is not allowed.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// The server refuses to go on.
    #[error("refused: {0}")]
    Refused(ReasonCode),
    /// Rights have changed, and the Client was subscribed to this filter.
    #[error("may not hear `{0}` any more")]
    RightsEnded(Box<str>),
    /// Nothing came for one and a half Keep Alive. [MQTT-3.1.2-22]
    #[error("keep alive timed out")]
    KeepAliveTimedOut,
    /// What authentication said holds no longer.
    #[error("login expired")]
    LoginExpired,
    /// Another connection took over the session. [MQTT-3.1.4-3]
    #[error("session taken over")]
    TakenOver,
    /// The server stops.
    #[error("server shutting down")]
    ShuttingDown,
}

/// Bytes to write: a range of the arena, and a message's payload behind it.
#[derive(Debug)]
pub struct Frame {
    range: Range<usize>,
    payload: Option<Arc<Message>>,
}

/// What a PUBLISH was encoded to, for others who get the same message in the same form.
#[derive(Debug)]
pub(crate) struct PublishBytes {
    version: Version,
    qos: QoS,
    retain: bool,
    subscription_id: Option<u32>,
    range: Range<usize>,
    /// Where the Packet Identifier is in it.
    packet_id_at: Option<usize>,
}

/// The caller's buffer for [`Output`]s. Clear it and use it again.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The effects, in order.
    pub outputs: Vec<Output>,
    /// Packets that were encoded and are not counted yet.
    pub(crate) packets: u64,
    arena: Vec<u8>,
    /// Where in `outputs` the last record is, while it may take more.
    record: Option<usize>,
}

impl Outbox {
    /// Forgets everything, keeps the memory (up to a bound).
    pub fn clear(&mut self) {
        self.record = None;
        self.outputs.clear();
        self.arena.clear();
        if self.arena.capacity() > ARENA_KEPT_BYTES {
            self.arena.shrink_to(ARENA_KEPT_BYTES);
        }
    }

    /// The two parts of a frame's bytes, to be written in this order; the second may be empty.
    pub fn frame<'a>(&'a self, frame: &'a Frame) -> (&'a [u8], &'a [u8]) {
        let head = self.arena.get(frame.range.clone()).unwrap_or_default();
        (head, frame.payload.as_ref().map_or(&[][..], |message| &message.payload))
    }

    /// The last record, if it was not carried out yet and nothing was read since.
    pub(crate) fn open_record(&mut self) -> Option<&mut Record> {
        match self.outputs.get_mut(self.record?) {
            Some(Output::Store(record)) => Some(record),
            _ => None,
        }
    }

    /// Has a record kept, to which others may be added until it is carried out.
    pub(crate) fn begin_record(&mut self, record: Record) {
        self.record = Some(self.outputs.len());
        self.outputs.push(Output::Store(record));
    }

    /// Has rows read: what is appended from now on comes behind that.
    pub(crate) fn read(&mut self, token: u64, query: Query, since: Position) {
        self.record = None;
        self.outputs.push(Output::Read { token, query: Box::new(query), since });
    }

    /// Hands a message to another shard.
    pub(crate) fn post(&mut self, shard: ShardId, message: PeerMessage) {
        self.outputs.push(Output::Peer { shard, message: Box::new(message) });
    }

    /// Encodes a packet for `connection`.
    pub(crate) fn send(&mut self, connection: ConnectionId, version: Version, packet: &Packet<'_>) {
        let start = self.arena.len();
        // Only a packet of over 256 MiB cannot be encoded, and no packet of ours comes near.
        if packet.encode(version, &mut self.arena).is_ok() {
            self.push_frame(connection, start, None);
        } else {
            self.arena.truncate(start);
        }
    }

    /// Encodes the PUBLISH of a message for `connection`; `false` if it is too large to encode.
    pub(crate) fn send_publish(
        &mut self,
        connection: ConnectionId,
        version: Version,
        parts: &PublishParts<'_>,
        message: &Arc<Message>,
    ) -> bool {
        let start = self.arena.len();
        if parts.encode_head(version, &mut self.arena).is_err() {
            self.arena.truncate(start);
            return false;
        }
        if message.payload.len() > PAYLOAD_COPIED_MAX {
            self.push_frame(connection, start, Some(Arc::clone(message)));
        } else {
            self.arena.extend_from_slice(&message.payload);
            self.push_frame(connection, start, None);
        }
        true
    }

    /// Encodes a PUBLISH with a small payload for `connection`, or copies what `bytes` has of it. Both
    /// are of one message, since this was cleared.
    pub(crate) fn send_brief(
        &mut self,
        connection: ConnectionId,
        version: Version,
        parts: &PublishParts<'_>,
        payload: &[u8],
        bytes: &mut Option<PublishBytes>,
    ) {
        let start = self.arena.len();
        let PublishParts { qos, retain, .. } = *parts;
        let subscription_id = parts.subscription_ids.first().copied();
        let same = bytes.as_ref().filter(|it| {
            (it.version, it.qos, it.retain, it.subscription_id)
                == (version, qos, retain, subscription_id)
        });
        if let Some(same) = same {
            self.arena.extend_from_within(same.range.clone());
            if let (Some(at), Some(id)) = (same.packet_id_at, parts.packet_id)
                && let Some(place) = self.arena.get_mut(start + at..start + at + 2)
            {
                place.copy_from_slice(&id.get().to_be_bytes());
            }
        } else {
            // Topic and payload came in a packet, so they fit into one.
            let Ok(packet_id_at) = parts.encode_head(version, &mut self.arena) else {
                return self.arena.truncate(start);
            };
            self.arena.extend_from_slice(payload);
            let range = start..self.arena.len();
            *bytes =
                Some(PublishBytes { version, qos, retain, subscription_id, range, packet_id_at });
        }
        self.push_frame(connection, start, None);
    }

    /// Frames that follow one another to one connection become one.
    fn push_frame(
        &mut self,
        connection: ConnectionId,
        start: usize,
        payload: Option<Arc<Message>>,
    ) {
        self.packets += 1;
        let end = self.arena.len();
        if let Some(Output::Send { connection: last, frame }) = self.outputs.last_mut()
            && *last == connection
            && frame.payload.is_none()
            && frame.range.end == start
        {
            frame.range.end = end;
            frame.payload = payload;
            return;
        }
        self.outputs.push(Output::Send { connection, frame: Frame { range: start..end, payload } });
    }
}

/// Payloads up to this many bytes are copied behind their header: cheaper than another slice to
/// write.
pub(crate) const PAYLOAD_COPIED_MAX: usize = 2 * 1024;

/// What an arena keeps over a [`Outbox::clear`].
const ARENA_KEPT_BYTES: usize = 1024 * 1024;

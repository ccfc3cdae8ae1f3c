//! One Application Message for all its deliveries (§3.3), and the form it is kept in.
//!
//! A message is made once, when it is accepted, and then only shared: every queue, every window and
//! every shard holds the same `Arc`. What the publisher said that a server forwards unchanged
//! (payload format, content type, response topic, correlation data, user properties, in their order)
//! stays in its encoded bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use crate::codec::QoS;
use crate::time::Time;

/// What tells a message from every other one a broker accepted: never given twice, also not after a
/// restart; larger for a message accepted later by the same shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(pub u64);

/// An Application Message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its identity.
    pub id: MessageId,
    /// Where it was published.
    pub topic: Box<str>,
    /// What was published.
    pub payload: Bytes,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// The properties that are forwarded unchanged, encoded (§3.3.2.3).
    pub properties: Bytes,
    /// When it was accepted.
    pub accepted: Time,
    /// When it stops being worth delivering (§3.3.2.3.3).
    pub expires: Option<Time>,
}

impl Message {
    /// Whether its Message Expiry Interval has passed. [MQTT-3.3.2-5]
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// The Message Expiry Interval to send, in seconds: what is left of it. [MQTT-3.3.2-6]
    pub fn expiry_left(&self, now: Time) -> Option<u32> {
        let left = self.expires?.since(now);
        Some(u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX))
    }

    /// Roughly the memory it takes, in bytes.
    pub fn size(&self) -> usize {
        Self::size_of_plain(&self.topic, &self.payload) + self.properties.len()
    }

    /// What [`Message::size`] would be of one without properties.
    pub(crate) fn size_of_plain(topic: &str, payload: &[u8]) -> usize {
        size_of::<Self>() + topic.len() + payload.len()
    }

    /// The bytes it is kept in, which [`Message::from_bytes`] reads.
    pub fn to_bytes(&self) -> Bytes {
        let stored = Stored {
            id: self.id,
            topic: &self.topic,
            payload: &self.payload,
            flags: self.qos as u8 | u8::from(self.retain) << 2,
            properties: &self.properties,
            accepted: self.accepted,
            expires: self.expires,
        };
        let room = 40 + self.topic.len() + self.payload.len() + self.properties.len();
        let mut bytes = Vec::with_capacity(room);
        bytes.push(FORMAT);
        // Writing into a `Vec` cannot fail, and every field here can be serialised.
        Bytes::from(postcard::to_extend(&stored, bytes).unwrap_or_default())
    }

    /// Reads what [`Message::to_bytes`] wrote.
    ///
    /// # Errors
    /// Says what does not fit: another format, or bytes that are no message.
    pub fn from_bytes(bytes: &Bytes) -> Result<Arc<Self>, BadRow> {
        let stored: Stored<'_> = unpack(FORMAT, bytes)?;
        Ok(Arc::new(Self {
            id: stored.id,
            topic: stored.topic.into(),
            payload: bytes.slice_ref(stored.payload),
            qos: QoS::from_u8(stored.flags & 0b11).ok_or(BadRow::Content)?,
            retain: stored.flags & 0b100 != 0,
            properties: bytes.slice_ref(stored.properties),
            accepted: stored.accepted,
            expires: stored.expires,
        }))
    }

    /// A message of the server's own: no publisher's properties, no expiry.
    pub fn new(id: MessageId, topic: &str, payload: Bytes, qos: QoS, accepted: Time) -> Self {
        Self {
            id,
            topic: topic.into(),
            payload,
            qos,
            retain: false,
            properties: Bytes::new(),
            accepted,
            expires: None,
        }
    }

    /// The same message with an expiry of `after` from when it was accepted.
    #[must_use]
    pub fn expiring(mut self, after: Duration) -> Self {
        self.expires = Some(self.accepted + after);
        self
    }
}

/// The fields as they are kept. Their order and meaning never change under one [`FORMAT`].
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    id: MessageId,
    topic: &'a str,
    #[serde(serialize_with = "as_bytes")]
    payload: &'a [u8],
    flags: u8,
    #[serde(serialize_with = "as_bytes")]
    properties: &'a [u8],
    accepted: Time,
    expires: Option<Time>,
}

const FORMAT: u8 = 1;

/// The same bytes as of a slice, which would be written one after the other.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// A row that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// It was written in another format.
    #[error("row has format {found}, this program reads {expected}")]
    Format {
        /// The format of the row.
        found: u8,
        /// The format that was expected.
        expected: u8,
    },
    /// Its bytes are not what its format says.
    #[error("row does not hold what its format says")]
    Content,
}

/// Serialises a value behind its format byte.
pub fn pack<T: Serialize>(format: u8, value: &T) -> Bytes {
    Bytes::from(postcard::to_extend(value, vec![format]).unwrap_or_default())
}

/// Reads what [`pack`] wrote: that format, the whole of it and nothing behind it.
///
/// # Errors
/// Another format, or bytes that do not hold a `T`.
pub fn unpack<'a, T: Deserialize<'a>>(format: u8, bytes: &'a [u8]) -> Result<T, BadRow> {
    let (&found, rest) = bytes.split_first().ok_or(BadRow::Content)?;
    if found != format {
        return Err(BadRow::Format { found, expected: format });
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        _ => Err(BadRow::Content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            id: MessageId(7),
            topic: "a/b".into(),
            payload: Bytes::from_static(b"hello"),
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: Bytes::from_static(&[1, 1]),
            accepted: Time::from_millis(1000),
            expires: Some(Time::from_millis(61_000)),
        }
    }

    #[test]
    fn a_message_reads_back_as_it_was_kept() {
        let bytes = message().to_bytes();
        assert_eq!(*Message::from_bytes(&bytes).unwrap(), message());
        // Golden: rows of this format are on people's disks.
        assert_eq!(&bytes[..], b"\x01\x07\x03a/b\x05hello\x05\x02\x01\x01\xe8\x07\x01\xc8\xdc\x03");
    }

    #[test]
    fn rubbish_is_refused_with_its_cause() {
        let mut bytes = message().to_bytes().to_vec();
        bytes.push(0);
        assert_eq!(Message::from_bytes(&Bytes::from(bytes.clone())), Err(BadRow::Content));
        bytes[0] = 9;
        let refused = Message::from_bytes(&Bytes::from(bytes));
        assert_eq!(refused, Err(BadRow::Format { found: 9, expected: 1 }));
        assert_eq!(Message::from_bytes(&Bytes::new()), Err(BadRow::Content));
    }

    #[test]
    fn expiry_left_counts_down_and_rounds_up() {
        let message = message();
        assert_eq!(message.expiry_left(Time::from_millis(1000)), Some(60));
        assert_eq!(message.expiry_left(Time::from_millis(1001)), Some(60));
        assert!(!message.is_expired(Time::from_millis(60_999)));
        assert!(message.is_expired(Time::from_millis(61_000)));
    }
}

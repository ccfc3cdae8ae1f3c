//! The row of an entry: what the log is on disk. For ever: the formats before are read as well.
//!
//! A message that is nothing but a message has format 1 and what only has a kind besides format 2,
//! as from the beginning; all else has format 3.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_core::message::BadRow;
use tidings_core::time::Time;

use crate::entry::{Entry, Kind};

impl Entry {
    /// The row's value: the fields, and the payload as the rest.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(64 + self.size() - size_of::<Self>());
        let (time, from, device, id) = (self.time, &*self.from, &*self.device, &*self.id);
        // Writing into a `Vec` cannot fail, and every field here can be serialised.
        if self.refers > 0 || self.expires.is_some() {
            bytes.extend([FORMAT_FULL, self.kind as u8, IN_CLEAR]);
            let (refers, expires) = (self.refers, self.expires);
            let fields = FullRow { time, from, device, id, refers, expires };
            bytes = postcard::to_extend(&fields, bytes).unwrap_or_default();
            self.write_content(&mut bytes);
        } else {
            match self.kind {
                Kind::Message => bytes.push(FORMAT),
                kind => bytes.extend([FORMAT_KIND, kind as u8]),
            }
            let content_type = self.content_type.as_deref();
            let fields = EntryRow { time, from, device, id, content_type };
            bytes = postcard::to_extend(&fields, bytes).unwrap_or_default();
            bytes.extend_from_slice(&self.payload);
        }
        Bytes::from(bytes)
    }

    /// Reads what [`Entry::to_bytes`] wrote.
    pub(crate) fn from_bytes(seq: u64, bytes: &Bytes) -> Result<Self, BadRow> {
        let (kind, rest) = match &bytes[..] {
            [FORMAT, rest @ ..] => (Kind::Message, rest),
            [FORMAT_KIND, kind, rest @ ..] => (Kind::of(*kind).ok_or(BadRow::Content)?, rest),
            [FORMAT_FULL, kind, IN_CLEAR, rest @ ..] => {
                let kind = Kind::of(*kind).ok_or(BadRow::Content)?;
                return Self::from_full(seq, kind, rest, bytes);
            }
            [FORMAT_FULL, ..] | [] => return Err(BadRow::Content),
            [found, ..] => return Err(BadRow::Format { found: *found, expected: FORMAT }),
        };
        let (row, payload) =
            postcard::take_from_bytes::<EntryRow<'_>>(rest).map_err(|_| BadRow::Content)?;
        Ok(Self {
            seq,
            time: row.time,
            from: row.from.into(),
            device: row.device.into(),
            id: row.id.into(),
            content_type: row.content_type.map(Into::into),
            payload: bytes.slice_ref(payload),
            kind,
            refers: 0,
            expires: None,
        })
    }

    fn from_full(seq: u64, kind: Kind, rest: &[u8], bytes: &Bytes) -> Result<Self, BadRow> {
        let (row, content) =
            postcard::take_from_bytes::<FullRow<'_>>(rest).map_err(|_| BadRow::Content)?;
        let (content_type, payload) = split_content(content).ok_or(BadRow::Content)?;
        Ok(Self {
            seq,
            time: row.time,
            from: row.from.into(),
            device: row.device.into(),
            id: row.id.into(),
            content_type: content_type.map(Into::into),
            payload: bytes.slice_ref(payload),
            kind,
            refers: row.refers,
            expires: row.expires,
        })
    }

    /// Appends what somebody said: the content type, one byte longer than it is or 0 for none, and
    /// the payload.
    fn write_content(&self, bytes: &mut Vec<u8>) {
        let content_type = self.content_type.as_deref().unwrap_or_default();
        // The longest that is taken is far below that.
        let length = u8::try_from(content_type.len() + 1).unwrap_or_default();
        if self.content_type.is_some() && length > 0 {
            bytes.push(length);
            bytes.extend_from_slice(content_type.as_bytes());
        } else {
            bytes.push(0);
        }
        bytes.extend_from_slice(&self.payload);
    }
}

fn split_content(content: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (length, rest) = content.split_first()?;
    let Some(length) = length.checked_sub(1) else { return Some((None, rest)) };
    let (content_type, payload) = rest.split_at_checked(usize::from(length))?;
    Some((Some(std::str::from_utf8(content_type).ok()?), payload))
}

#[derive(Serialize, Deserialize)]
struct EntryRow<'a> {
    time: Time,
    from: &'a str,
    device: &'a str,
    id: &'a str,
    content_type: Option<&'a str>,
}

/// What is in clear of an entry of format 3; its content follows.
#[derive(Serialize, Deserialize)]
struct FullRow<'a> {
    time: Time,
    from: &'a str,
    device: &'a str,
    id: &'a str,
    refers: u64,
    expires: Option<Time>,
}

/// A message.
const FORMAT: u8 = 1;

/// An entry that is no message: its kind follows.
const FORMAT_KIND: u8 = 2;

/// Any entry: its kind follows, and how its content is written.
const FORMAT_FULL: u8 = 3;

/// As it is.
const IN_CLEAR: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            seq: 7,
            time: Time::from_millis(1000),
            from: "alice".into(),
            device: "phone".into(),
            id: "m1".into(),
            content_type: Some("a/b".into()),
            payload: Bytes::from_static(b"hello"),
            kind: Kind::Message,
            refers: 0,
            expires: None,
        }
    }

    #[test]
    fn an_entry_reads_back_as_it_was_kept() {
        let system = Entry { kind: Kind::System, ..entry() };
        let edit = Entry { kind: Kind::Edit, refers: 5, ..entry() };
        let expires = Some(Time::from_millis(2000));
        let expiring = Entry { expires, content_type: None, ..entry() };
        // Golden: rows of these formats are on people's disks.
        for (entry, golden) in [
            (entry(), &b"\x01\xe8\x07\x05alice\x05phone\x02m1\x01\x03a/bhello"[..]),
            (system, b"\x02\x01\xe8\x07\x05alice\x05phone\x02m1\x01\x03a/bhello"),
            (edit, b"\x03\x02\x00\xe8\x07\x05alice\x05phone\x02m1\x05\x00\x04a/bhello"),
            (expiring, b"\x03\x00\x00\xe8\x07\x05alice\x05phone\x02m1\x00\x01\xd0\x0f\x00hello"),
        ] {
            let bytes = entry.to_bytes();
            assert_eq!(&bytes[..], golden);
            assert_eq!(Entry::from_bytes(7, &bytes), Ok(entry));
        }
    }

    #[test]
    fn rubbish_is_refused_with_its_cause() {
        let bad = |bytes: &'static [u8]| Entry::from_bytes(1, &Bytes::from_static(bytes));
        assert_eq!(bad(b""), Err(BadRow::Content));
        assert_eq!(bad(b"\x01\xe8"), Err(BadRow::Content));
        assert_eq!(bad(b"\x02\xe8"), Err(BadRow::Content));
        assert_eq!(bad(b"\x03"), Err(BadRow::Content));
        assert_eq!(bad(b"\x03\xff\x00"), Err(BadRow::Content));
        assert_eq!(bad(b"\x03\x00\x09"), Err(BadRow::Content));
        assert_eq!(bad(b"\x03\x00\x00\0\0\0\0\0\0\x09a/b"), Err(BadRow::Content));
        assert_eq!(bad(b"\x09\xe8"), Err(BadRow::Format { found: 9, expected: 1 }));
    }
}

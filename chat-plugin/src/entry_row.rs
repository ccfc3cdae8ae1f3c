//! The row of an entry: what the log is on disk. For ever: the formats before are read as well.
//!
//! A message that is nothing but a message has format 1 and what only has a kind besides format 2,
//! as from the beginning; all else has format 3, what is sealed too. Of a sealed entry everything but
//! its content is in clear: who sent it from where, when, and by which id.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_core::message::BadRow;
use tidings_core::time::Time;

use crate::entry::{Entry, Kind};
use crate::seal::{NONCE_BYTES, Seal};

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

    /// The same, with the content sealed. `random` comes only once.
    pub(crate) fn to_sealed(&self, seal: &Seal, random: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(96 + self.size() - size_of::<Self>());
        bytes.extend([FORMAT_FULL, self.kind as u8, SEALED]);
        let fields = FullRow {
            time: self.time,
            from: &self.from,
            device: &self.device,
            id: &self.id,
            refers: self.refers,
            expires: self.expires,
        };
        bytes = postcard::to_extend(&fields, bytes).unwrap_or_default();
        bytes.extend(random.to_be_bytes());
        let from = bytes.len();
        self.write_content(&mut bytes);
        seal.seal(nonce(random, self.seq), &mut bytes, from);
        Bytes::from(bytes)
    }

    /// Reads what [`Entry::to_bytes`] or [`Entry::to_sealed`] wrote. What was sealed with another key
    /// is gone.
    pub(crate) fn read(seq: u64, bytes: &Bytes, seal: Option<&Seal>) -> Result<Self, BadRow> {
        let [FORMAT_FULL, kind, SEALED, rest @ ..] = &bytes[..] else {
            return Self::from_bytes(seq, bytes);
        };
        let kind = Kind::of(*kind).ok_or(BadRow::Content)?;
        let (row, rest) =
            postcard::take_from_bytes::<FullRow<'_>>(rest).map_err(|_| BadRow::Content)?;
        let (random, sealed) = rest.split_first_chunk().ok_or(BadRow::Content)?;
        let nonce = nonce(u64::from_be_bytes(*random), seq);
        let content = seal.and_then(|seal| seal.open(nonce, sealed)).map(Bytes::from);
        let Some(content) = content else {
            return Ok(row.entry(seq, Kind::Gone, None, Bytes::new()).gone(b""));
        };
        let (content_type, payload) = split_content(&content).ok_or(BadRow::Content)?;
        Ok(row.entry(seq, kind, content_type, content.slice_ref(payload)))
    }

    /// Reads what is not sealed; of what is, whether it could be read.
    pub(crate) fn from_bytes(seq: u64, bytes: &Bytes) -> Result<Self, BadRow> {
        if let [FORMAT_FULL, _, SEALED, ..] = &bytes[..] {
            return Self::read(seq, bytes, None);
        }
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
        Ok(row.entry(seq, kind, content_type, bytes.slice_ref(payload)))
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

impl FullRow<'_> {
    fn entry(&self, seq: u64, kind: Kind, content_type: Option<&str>, payload: Bytes) -> Entry {
        Entry {
            seq,
            time: self.time,
            from: self.from.into(),
            device: self.device.into(),
            id: self.id.into(),
            content_type: content_type.map(Into::into),
            payload,
            kind,
            refers: self.refers,
            expires: self.expires,
        }
    }
}

fn nonce(random: u64, seq: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    let parts = random.to_be_bytes().into_iter().chain(seq.to_le_bytes());
    for (to, from) in nonce.iter_mut().zip(parts) {
        *to = from;
    }
    nonce
}

/// A message.
const FORMAT: u8 = 1;

/// An entry that is no message: its kind follows.
const FORMAT_KIND: u8 = 2;

/// Any entry: its kind follows, and how its content is written.
const FORMAT_FULL: u8 = 3;

/// As it is.
const IN_CLEAR: u8 = 0;

/// Behind a random number, sealed.
const SEALED: u8 = 1;

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
    fn what_is_sealed_is_read_with_its_key_and_gone_without() {
        let seal = Seal::new(&[1; 32]).unwrap();
        let edit = Entry { kind: Kind::Edit, refers: 5, ..entry() };
        for entry in [entry(), edit] {
            let bytes = entry.to_sealed(&seal, 9);
            assert!(!bytes.windows(5).any(|part| part == b"hello" || part == b"\x04a/bh"));
            assert_eq!(Entry::read(7, &bytes, Some(&seal)).as_ref(), Ok(&entry));
            let gone = entry.gone(b"");
            let other = Seal::new(&[2; 32]).unwrap();
            assert_eq!(Entry::read(7, &bytes, Some(&other)).as_ref(), Ok(&gone));
            assert_eq!(Entry::read(7, &bytes, None).as_ref(), Ok(&gone));
            assert_eq!(Entry::read(8, &bytes, Some(&seal)).map(|entry| entry.kind), Ok(Kind::Gone));
            assert_eq!(Entry::from_bytes(7, &bytes), Ok(gone));
        }
        // Golden: rows of this format are on people's disks.
        let sealed =
            b"\x03\x00\x01\xe8\x07\x05alice\x05phone\x02m1\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09";
        assert!(entry().to_sealed(&seal, 9).starts_with(sealed));
        let clear = Entry::read(7, &entry().to_bytes(), Some(&seal));
        assert_eq!(clear, Ok(entry()), "what was there before");
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

//! One record as bytes: a header that says which, a checksum that says whole, and the changes.
//!
//! The checksum starts from the salt of its segment. Payloads are chosen by clients: without a salt
//! they do not know, one could send a message that looks like a record, and a search through a torn
//! tail would believe it. Headers are completed by [`Group::stamp`], because only the committer
//! knows the numbers; shards encode the rest in their own time.

use bytes::Bytes;
use tidings_core::record::Op;
use tidings_core::slot::ShardId;

/// The size of an entry's header.
pub const HEADER_BYTES: usize = 24;

/// The longest body of an entry: a bound for what recovery believes of a length.
pub const ENTRY_BYTES_MAX: usize = 1 << 28;

/// How the changes in a body are written. On disk for ever.
pub(crate) const BODY_VERSION: u8 = 1;

/// The first byte of a change. On disk for ever; numbers are never reused.
const PUT: u8 = 1;
const PUT_ALL: u8 = 2;
const DELETE: u8 = 3;

/// Encoded records on their way into the journal together.
#[derive(Debug, Default)]
pub struct Group {
    bytes: Vec<u8>,
    entries: u32,
}

impl Group {
    /// Encodes one record of `shard` behind the others and answers with its size in bytes.
    ///
    /// `None`, and no change, when the record is too large for an entry ([`ENTRY_BYTES_MAX`]) or
    /// has a key longer than 65,535 bytes: the core's own bounds are far below either.
    pub fn push(&mut self, shard: ShardId, ops: &[Op]) -> Option<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        let length = encode_ops(&mut self.bytes, ops)
            .and_then(|()| self.bytes.len().checked_sub(start + HEADER_BYTES))
            .filter(|length| *length <= ENTRY_BYTES_MAX)
            .and_then(|length| u32::try_from(length).ok());
        let Some(length) = length else {
            self.bytes.truncate(start);
            return None;
        };
        let header = Header {
            checksum: 0,
            length,
            sequence: 0,
            group_index: 0,
            shard: shard.0,
            version: BODY_VERSION,
        };
        if let Some(room) = self.bytes.get_mut(start..start + HEADER_BYTES) {
            room.copy_from_slice(&header.encode());
        }
        self.entries += 1;
        Some(self.bytes.len() - start)
    }

    /// Moves the records of `other` behind these, leaving it empty with its memory.
    pub fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            return std::mem::swap(self, other);
        }
        self.bytes.extend_from_slice(&other.bytes);
        self.entries += other.entries;
        other.clear();
    }

    /// Numbers the records from `first` on and completes their checksums.
    ///
    /// Answers with the number of the last; `first - 1` for an empty group.
    pub fn stamp(&mut self, first: u64, salt: u32) -> u64 {
        let mut rest = self.bytes.as_mut_slice();
        let mut group_index = 0_u32;
        while let Some((room, tail)) = rest.split_first_chunk_mut::<HEADER_BYTES>() {
            let mut header = Header::decode(room);
            let Some((body, tail)) = tail.split_at_mut_checked(header.length as usize) else {
                break;
            };
            header.sequence = first + u64::from(group_index);
            header.group_index = group_index;
            *room = header.encode();
            header.checksum = checksum(salt, room, body);
            *room = header.encode();
            group_index += 1;
            rest = tail;
        }
        (first + u64::from(group_index)).saturating_sub(1)
    }

    /// The records as they go to disk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many records there are.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Forgets the records. Keeps the memory for the next ones, unless it is unusually much.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(MEMORY_KEPT_BYTES);
        self.entries = 0;
    }
}

/// What an empty group keeps of its memory: one hand-off's worth.
const MEMORY_KEPT_BYTES: usize = 8 << 20;

/// The fixed part of an entry, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) checksum: u32,
    pub(super) length: u32,
    pub(super) sequence: u64,
    pub(super) group_index: u32,
    pub(super) shard: u16,
    pub(super) version: u8,
}

impl Header {
    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.group_index.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.shard.to_le_bytes());
        bytes[22] = self.version;
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [c0, c1, c2, c3, l0, l1, l2, l3, rest @ ..] = *bytes;
        let [s0, s1, s2, s3, s4, s5, s6, s7, g0, g1, g2, g3, h0, h1, version, _] = rest;
        Self {
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            sequence: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            group_index: u32::from_le_bytes([g0, g1, g2, g3]),
            shard: u16::from_le_bytes([h0, h1]),
            version,
        }
    }

    /// The number of the first record that was written together with this one.
    pub(super) fn group_first(self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.group_index))
    }
}

/// An entry whose checksum is right.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    pub(super) header: Header,
    pub(super) body: &'a [u8],
}

impl Whole<'_> {
    /// The size of header and body.
    pub(super) fn len(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// The changes.
    ///
    /// # Errors
    ///
    /// A body that its own writer did not write so, or that a later version wrote.
    pub(super) fn ops(&self) -> Result<Vec<Op>, String> {
        if self.header.version != BODY_VERSION {
            let found = self.header.version;
            return Err(format!("record version {found}, this program reads {BODY_VERSION}"));
        }
        decode_ops(self.body).ok_or_else(|| "a record that does not decode".to_owned())
    }
}

/// The entry that begins where `bytes` do; `Err` with what the header seems to say when the
/// checksum is wrong, `None` when not even a header fits.
pub(super) fn check(bytes: &[u8], salt: u32) -> Option<Result<Whole<'_>, Header>> {
    let (room, tail) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::decode(room);
    let length = header.length as usize;
    let body = tail.get(..length).filter(|_| length <= ENTRY_BYTES_MAX);
    Some(match body {
        Some(body) if checksum(salt, room, body) == header.checksum => Ok(Whole { header, body }),
        _ => Err(header),
    })
}

/// How long the body is by the header that `bytes` begin with, at most [`ENTRY_BYTES_MAX`].
pub(super) fn claimed_length(bytes: &[u8]) -> usize {
    let header = bytes.first_chunk::<HEADER_BYTES>().map(Header::decode);
    header.map_or(0, |header| (header.length as usize).min(ENTRY_BYTES_MAX))
}

/// The same, found by the checksum of a body of some length; without a look at those that no writer
/// made.
pub(super) fn check_by(
    bytes: &[u8],
    salt: u32,
    sum: impl FnOnce(usize) -> u32,
) -> Option<Whole<'_>> {
    let (room, tail) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::decode(room);
    let body = tail.get(..header.length as usize)?;
    if header.encode() != *room
        || u64::from(header.group_index) > header.sequence
        || body.len() > ENTRY_BYTES_MAX
    {
        return None;
    }
    let [_, _, _, _, covered @ ..] = room;
    let of_header = crc32c::crc32c_append(salt, covered);
    let whole = crc32c::crc32c_combine(of_header, sum(body.len()), body.len());
    (whole == header.checksum).then_some(Whole { header, body })
}

/// The sequence number in the header that `bytes` begin with, if they do.
pub(super) fn sequence(bytes: &[u8]) -> Option<u64> {
    bytes.get(8..16)?.first_chunk().map(|number| u64::from_le_bytes(*number))
}

fn checksum(salt: u32, header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    let [_, _, _, _, covered @ ..] = header;
    crc32c::crc32c_append(crc32c::crc32c_append(salt, covered), body)
}

pub(crate) fn encode_ops(out: &mut Vec<u8>, ops: &[Op]) -> Option<()> {
    for op in ops {
        match op {
            Op::Put { key, value } => {
                out.push(PUT);
                encode_key(out, key)?;
                encode_value(out, value)?;
            }
            Op::PutAll { keys, value } => {
                out.push(PUT_ALL);
                out.extend_from_slice(&u32::try_from(keys.len()).ok()?.to_le_bytes());
                for key in keys {
                    encode_key(out, key)?;
                }
                encode_value(out, value)?;
            }
            Op::Delete { key } | Op::Forget { key } => {
                out.push(DELETE);
                encode_key(out, key)?;
            }
        }
    }
    Some(())
}

fn encode_key(out: &mut Vec<u8>, key: &[u8]) -> Option<()> {
    out.extend_from_slice(&u16::try_from(key.len()).ok()?.to_le_bytes());
    out.extend_from_slice(key);
    Some(())
}

fn encode_value(out: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
    out.extend_from_slice(value);
    Some(())
}

pub(crate) fn decode_ops(mut bytes: &[u8]) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        ops.push(match *tag {
            PUT => Op::Put { key: decode_key(&mut bytes)?, value: decode_value(&mut bytes)? },
            PUT_ALL => {
                let count = u32::from_le_bytes(take_array(&mut bytes)?);
                // Grows with the keys that are there, not with what the count claims.
                let mut keys = Vec::new();
                for _ in 0..count {
                    keys.push(decode_key(&mut bytes)?);
                }
                Op::PutAll { keys, value: decode_value(&mut bytes)? }
            }
            DELETE => Op::Delete { key: decode_key(&mut bytes)? },
            _ => return None,
        });
    }
    Some(ops)
}

fn decode_key(bytes: &mut &[u8]) -> Option<Bytes> {
    let length = u16::from_le_bytes(take_array(bytes)?);
    take(bytes, usize::from(length))
}

fn decode_value(bytes: &mut &[u8]) -> Option<Bytes> {
    let length = u32::from_le_bytes(take_array(bytes)?);
    take(bytes, length as usize)
}

// A copy: a slice of the segment would keep all of it in memory for one row.
fn take(bytes: &mut &[u8], length: usize) -> Option<Bytes> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Bytes::copy_from_slice(taken))
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<Op> {
        vec![
            Op::Put { key: "k".into(), value: "v".into() },
            Op::PutAll { keys: vec!["a".into(), "bc".into()], value: Bytes::new() },
            Op::Delete { key: "k".into() },
        ]
    }

    #[test]
    fn an_entry_keeps_its_bytes_for_ever() {
        let mut group = Group::default();
        group.push(ShardId(0x0201), &[]);
        group.push(ShardId(7), &record());
        assert_eq!(group.stamp(0x0506, 0xdead_beef), 0x0507);
        let body = b"\x01\x01\x00k\x01\x00\x00\x00v\
            \x02\x02\x00\x00\x00\x01\x00a\x02\x00bc\x00\x00\x00\x00\
            \x03\x01\x00k";
        let mut golden = Vec::new();
        golden.extend_from_slice(&GOLDEN_CHECKSUMS[0].to_le_bytes());
        golden.extend_from_slice(b"\0\0\0\0\x06\x05\0\0\0\0\0\0\0\0\0\0\x01\x02\x01\0");
        golden.extend_from_slice(&GOLDEN_CHECKSUMS[1].to_le_bytes());
        golden.extend_from_slice(b"\x1d\0\0\0\x07\x05\0\0\0\0\0\0\x01\0\0\0\x07\0\x01\0");
        golden.extend_from_slice(body);
        assert_eq!(group.bytes(), golden);
    }

    const GOLDEN_CHECKSUMS: [u32; 2] = [0x18a7_a754, 0x781e_3bd4];

    #[test]
    fn a_body_cut_short_does_not_decode() {
        let mut group = Group::default();
        group.push(ShardId(1), &record());
        let body = &group.bytes()[HEADER_BYTES..];
        assert_eq!(decode_ops(body), Some(record()));
        let whole = (0..body.len()).filter(|cut| decode_ops(&body[..*cut]).is_some());
        assert_eq!(whole.collect::<Vec<_>>(), [0, 9, 25], "only between changes");
        assert_eq!(decode_ops(b"\x02\xff\xff\xff\xff"), None);
        assert_eq!(decode_ops(b"\x09"), None);
    }

    #[test]
    fn a_record_with_a_key_too_long_leaves_no_trace() {
        let mut group = Group::default();
        group.push(ShardId(1), &record());
        let before = group.bytes().to_vec();
        assert_eq!(group.push(ShardId(1), &[Op::Delete { key: vec![0; 65_536].into() }]), None);
        assert_eq!((group.bytes(), group.entries()), (&before[..], 1));
    }
}

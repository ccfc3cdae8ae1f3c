//! The bytes of a base: a header, and blocks that each say how long, which, and what they are.
//!
//! The checksum of a block starts from the salt of its file, and each block has its number: no
//! block of another file, nor another block of the same, is taken for it.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::FORMAT_VERSION;

/// A block is closed once its rows or records are this many bytes.
pub const BLOCK_BYTES: usize = 64 << 10;

/// What is believed of a block's length: the longest record of the journal, and what goes with it.
pub(super) const BODY_BYTES_MAX: usize = (1 << 28) + BLOCK_BYTES;

pub(super) const FILE_HEADER_BYTES: usize = 40;
pub(super) const BLOCK_HEADER_BYTES: usize = 24;

/// The size of the body of the end block.
pub(super) const TOTALS_BYTES: usize = 40;

const MAGIC: [u8; 8] = *b"TIDINGSB";

/// What a file is for. On disk for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Rows only; the journal beside it goes on where it ends.
    Base = 1,
    /// Rows and the records behind them: all there is.
    Copy = 2,
}

/// The beginning of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the file is for.
    pub kind: Kind,
    /// Where the checksums of its blocks start from.
    pub salt: u32,
    /// The rows hold everything that the records up to this one did.
    pub complete_to: u64,
    /// When it was begun, in milliseconds since 1970.
    pub created_ms: u64,
}

/// Why bytes are no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    Version(u16),
}

impl Header {
    /// The header of a new file, with a salt of its own.
    pub fn new(kind: Kind, complete_to: u64, created_ms: u64) -> Self {
        // The only randomness the standard library hands out; it comes from the system.
        let random = RandomState::new().build_hasher().finish();
        let salt = u32::try_from(random & u64::from(u32::MAX)).unwrap_or_default();
        Self { kind, salt, complete_to, created_ms }
    }

    pub(super) fn encode(self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&(self.kind as u16).to_le_bytes());
        bytes[12..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.complete_to.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.created_ms.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[0..36]);
        bytes[36..40].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<Self, BadHeader> {
        let mut rest = &bytes[..];
        if take::<8>(&mut rest) != MAGIC {
            return Err(BadHeader::Damaged("the file does not begin as a base or a copy does"));
        }
        let version = u16::from_le_bytes(take(&mut rest));
        let kind = u16::from_le_bytes(take(&mut rest));
        let salt = u32::from_le_bytes(take(&mut rest));
        let complete_to = u64::from_le_bytes(take(&mut rest));
        let created_ms = u64::from_le_bytes(take(&mut rest));
        let _reserved = take::<4>(&mut rest);
        if crc32c::crc32c(&bytes[0..36]) != u32::from_le_bytes(take(&mut rest)) {
            return Err(BadHeader::Damaged("the checksum of the header is wrong"));
        }
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        let kind = match kind {
            1 => Kind::Base,
            2 => Kind::Copy,
            _ => return Err(BadHeader::Damaged("it is neither a base nor a copy")),
        };
        Ok(Self { kind, salt, complete_to, created_ms })
    }
}

/// What a block holds. On disk for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum BlockKind {
    Rows = 1,
    Records = 2,
    End = 3,
}

/// The beginning of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) checksum: u32,
    pub(super) length: u32,
    pub(super) number: u64,
    pub(super) kind: u8,
    pub(super) count: u32,
}

impl BlockHeader {
    /// The header of a block with this `body`, its checksum included.
    pub(super) fn of(salt: u32, kind: BlockKind, number: u64, count: u32, body: &[u8]) -> Self {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut header = Self { checksum: 0, length, number, kind: kind as u8, count };
        header.checksum = header.sum(salt, body);
        header
    }

    pub(super) fn sum(self, salt: u32, body: &[u8]) -> u32 {
        let [_, _, _, _, covered @ ..] = self.encode();
        crc32c::crc32c_append(crc32c::crc32c_append(salt, &covered), body)
    }

    pub(super) fn encode(self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16] = self.kind;
        bytes[20..24].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    /// `None`: the bytes that are always zero are not.
    pub(super) fn decode(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Option<Self> {
        let mut rest = &bytes[..];
        let header = Self {
            checksum: u32::from_le_bytes(take(&mut rest)),
            length: u32::from_le_bytes(take(&mut rest)),
            number: u64::from_le_bytes(take(&mut rest)),
            kind: u8::from_le_bytes(take(&mut rest)),
            count: {
                let _zeros = take::<3>(&mut rest);
                u32::from_le_bytes(take(&mut rest))
            },
        };
        (header.encode() == *bytes).then_some(header)
    }
}

/// What the end of a file says of the whole of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// How many rows there are.
    pub rows: u64,
    /// How many records there are behind them.
    pub records: u64,
    /// The last record whose effects may be among the rows: from it on, all rows are as they were
    /// at one moment.
    pub settled_at: u64,
    /// The last record there is: [`Header::complete_to`] where none is.
    pub last: u64,
    /// The size of the file, in bytes.
    pub bytes: u64,
}

impl Totals {
    pub(super) fn encode(self) -> [u8; TOTALS_BYTES] {
        let mut bytes = [0; TOTALS_BYTES];
        bytes[0..8].copy_from_slice(&self.rows.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.settled_at.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; TOTALS_BYTES]) -> Self {
        let mut rest = &bytes[..];
        Self {
            rows: u64::from_le_bytes(take(&mut rest)),
            records: u64::from_le_bytes(take(&mut rest)),
            settled_at: u64::from_le_bytes(take(&mut rest)),
            last: u64::from_le_bytes(take(&mut rest)),
            bytes: u64::from_le_bytes(take(&mut rest)),
        }
    }
}

/// The next bytes of a field; zeros where the slice has ended, which lengths rule out.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let Some((taken, rest)) = bytes.split_first_chunk::<N>() else { return [0; N] };
    *bytes = rest;
    *taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_totals_keep_their_bytes_for_ever() {
        let header =
            Header { kind: Kind::Copy, salt: 0x0102_0304, complete_to: 258, created_ms: 772 };
        let bytes = header.encode();
        assert_eq!(
            bytes[..36],
            *b"TIDINGSB\x01\x00\x02\x00\x04\x03\x02\x01\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0\0\0\0\0"
        );
        assert_eq!(Header::decode(&bytes), Ok(header));

        let block = BlockHeader::of(7, BlockKind::Records, 258, 3, b"body");
        let bytes = block.encode();
        assert_eq!(bytes[4..], *b"\x04\0\0\0\x02\x01\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0");
        assert_eq!(block.checksum, 0x4f84_d38e);
        assert_eq!(BlockHeader::decode(&bytes), Some(block));

        let totals = Totals { rows: 1, records: 2, settled_at: 3, last: 4, bytes: 5 };
        let expected =
            b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0";
        assert_eq!(totals.encode(), *expected);
        assert_eq!(Totals::decode(&totals.encode()), totals);
    }

    #[test]
    fn a_file_header_with_a_flipped_bit_is_refused() {
        let bytes = Header::new(Kind::Base, 9, 10).encode();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes).is_err(), "bit {bit}");
        }
    }
}

//! One file of the journal: where records are written, and what its first page says.
//!
//! A synced write is cheap only where it changes no metadata: the file has its length and its
//! blocks from the start, and the blocks have been written once. New files are written with zeros
//! some way ahead of the records; files that were used before are used again as they are, because
//! what they held fails the checksum under the new salt.

use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::{Context, JournalError};

/// Where the first entry begins: behind the header's own page, so that no write touches it again.
pub(super) const DATA_START: usize = 4_096;

/// The version of the files, in every header. On disk for ever.
pub(super) const FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"TIDINGSJ";

/// The header's flag of a segment whose groups were not synced one by one.
const FLAG_UNSYNCED: u16 = 1;

/// How far ahead of the records a new file is filled with zeros, in bytes.
const ZERO_AHEAD_BYTES: u64 = 1 << 20;

/// The beginning of every segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The sequence number of the first record in it.
    pub(super) first: u64,
    /// Where checksums of its entries start from: nobody outside can know it.
    pub(super) salt: u32,
    /// Whether each group was synced before the next was written.
    pub(super) synced: bool,
    /// How long the file was made, in bytes; 0: it does not say, as those of before 0.1.
    pub(super) capacity: u64,
}

/// Why a header is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    Version(u16),
}

pub(super) const SEGMENT_HEADER_BYTES: usize = 40;

impl SegmentHeader {
    pub(super) fn encode(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let flags = if self.synced { 0 } else { FLAG_UNSYNCED };
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[0..24]);
        bytes[24..28].copy_from_slice(&checksum.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.capacity.to_le_bytes());
        let checksum = crc32c::crc32c_append(checksum, &bytes[28..36]);
        bytes[36..40].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(BadHeader::Damaged("the file is shorter than its header"));
        };
        let [m0, m1, m2, m3, m4, m5, m6, m7, v0, v1, f0, f1, rest @ ..] = *bytes;
        let [s0, s1, s2, s3, n0, n1, n2, n3, n4, n5, n6, n7, c0, c1, c2, c3, rest @ ..] = rest;
        let [l0, l1, l2, l3, l4, l5, l6, l7, d0, d1, d2, d3] = rest;
        if [m0, m1, m2, m3, m4, m5, m6, m7] != MAGIC {
            return Err(BadHeader::Damaged("the file does not begin as a journal segment does"));
        }
        let checksum = crc32c::crc32c(&bytes[0..24]);
        let with_capacity = crc32c::crc32c_append(checksum, &bytes[28..36]);
        if checksum != u32::from_le_bytes([c0, c1, c2, c3])
            || (rest != [0; 12] && with_capacity != u32::from_le_bytes([d0, d1, d2, d3]))
        {
            return Err(BadHeader::Damaged("the checksum of the header is wrong"));
        }
        match u16::from_le_bytes([v0, v1]) {
            FORMAT_VERSION => {}
            found => return Err(BadHeader::Version(found)),
        }
        Ok(Self {
            first: u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
            salt: u32::from_le_bytes([s0, s1, s2, s3]),
            synced: u16::from_le_bytes([f0, f1]) & FLAG_UNSYNCED == 0,
            capacity: u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]),
        })
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Segment {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    header: SegmentHeader,
    /// Where the next entry goes.
    end: u64,
    /// Up to where the file's blocks have been written before.
    zeroed_to: u64,
    capacity: u64,
}

impl Segment {
    /// Makes the segment that begins with `header.first`, out of the file `spare` if there is one.
    ///
    /// The name appears only once the header is safe: a segment never lacks its header.
    pub(super) fn create(
        disk: &dyn Disk,
        directory: &Path,
        header: SegmentHeader,
        spare: Option<PathBuf>,
    ) -> Result<Self, JournalError> {
        let capacity = header.capacity;
        let reused = spare.is_some();
        let draft = spare.unwrap_or_else(|| directory.join(DRAFT_NAME));
        let opened = if reused { disk.open(&draft) } else { disk.create(&draft) };
        let file = opened.context("create", &draft)?;
        if !reused {
            file.allocate(capacity).context("allocate", &draft)?;
        }
        file.write_at(&header.encode(), 0).context("write", &draft)?;
        file.sync_all().context("sync", &draft)?;
        let path = directory.join(segment_name(header.first));
        disk.rename(&draft, &path).context("rename", &draft)?;
        disk.sync_directory(directory).context("sync", directory)?;
        let zeroed_to = if reused { capacity } else { 0 };
        Ok(Self { file, path, header, end: DATA_START as u64, zeroed_to, capacity })
    }

    pub(super) fn salt(&self) -> u32 {
        self.header.salt
    }

    /// Whether `length` more bytes have room. An empty segment takes anything: it grows.
    pub(super) fn fits(&self, length: usize) -> bool {
        self.end == DATA_START as u64 || self.end + length as u64 <= self.capacity
    }

    /// Writes behind what is there, and, when the segment is `synced`, waits until it is safe.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        self.file.write_at(bytes, self.end).context("write", &self.path)?;
        self.end += bytes.len() as u64;
        if self.header.synced {
            self.zero_ahead()?;
            self.sync()?;
        }
        Ok(())
    }

    /// Waits until everything written is safe.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().context("sync", &self.path)
    }

    // Part of the group's own sync: once per step it takes a millisecond longer, and every other
    // sync of the step changes no metadata.
    fn zero_ahead(&mut self) -> Result<(), JournalError> {
        if self.end < self.zeroed_to || self.end >= self.capacity {
            return Ok(());
        }
        let target = (self.end + ZERO_AHEAD_BYTES).min(self.capacity);
        let zeros = vec![0; usize::try_from(target - self.end).unwrap_or_default()];
        self.file.write_at(&zeros, self.end).context("write", &self.path)?;
        self.zeroed_to = target;
        Ok(())
    }
}

const DRAFT_NAME: &str = "draft.log";

/// The name of the segment whose first record is `first`: names sort as the records do.
pub(super) fn segment_name(first: u64) -> String {
    format!("journal-{first:020}.log")
}

/// The name of a segment that is to be used again.
pub(super) fn spare_name(first: u64) -> String {
    format!("spare-{first:020}.log")
}

/// The first sequence number in the name of a segment.
pub(super) fn segment_first(name: &str) -> Option<u64> {
    name.strip_prefix("journal-")?.strip_suffix(".log")?.parse().ok()
}

/// Whether the name is one of a segment that is to be used again.
pub(super) fn is_spare(name: &str) -> bool {
    name.starts_with("spare-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_header_keeps_its_bytes_for_ever() {
        let header =
            SegmentHeader { first: 258, salt: 0x0102_0304, synced: false, capacity: 0x0506 };
        let bytes = header.encode();
        assert_eq!(bytes[28..36], *b"\x06\x05\x00\x00\x00\x00\x00\x00");
        assert_eq!(
            bytes[..24],
            *b"TIDINGSJ\x01\x00\x01\x00\x04\x03\x02\x01\x02\x01\x00\x00\x00\x00\x00\x00"
        );
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        // As they were before they said how long the file is.
        let mut before = bytes;
        before[28..].fill(0);
        assert_eq!(SegmentHeader::decode(&before), Ok(SegmentHeader { capacity: 0, ..header }));
    }

    #[test]
    fn a_segment_header_with_a_flipped_bit_is_refused() {
        let bytes = SegmentHeader { first: 1, salt: 7, synced: true, capacity: 1 << 20 }.encode();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn names_give_their_first_record_back() {
        assert_eq!(segment_first(&segment_name(u64::MAX)), Some(u64::MAX));
        assert_eq!(segment_first("journal-1.txt"), None);
        assert!(is_spare(&spare_name(4)) && segment_first(&spare_name(4)).is_none());
    }
}

//! Reading a base or a copy: block by block, each checked before a byte of it is believed.
//!
//! Only the last block says that the file is whole: until [`Reader::next`] has answered `None`,
//! more may be missing. Memory is that of one block, as long as what is really there.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tidings_core::slot::ShardId;

use super::BaseError;
use super::block::{
    BLOCK_HEADER_BYTES, BODY_BYTES_MAX, BadHeader, BlockHeader, BlockKind, FILE_HEADER_BYTES,
    Header, TOTALS_BYTES, Totals,
};
use crate::journal::{BODY_VERSION, Entry, decode_ops};

/// What one block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Rows with their values, in the order of their keys.
    Rows(Vec<(Bytes, Bytes)>),
    /// Records of the journal, in order.
    Records(Vec<Entry>),
}

/// Reads one file, front to back.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    file: PathBuf,
    header: Header,
    /// Where the next block begins.
    offset: u64,
    number: u64,
    kind: BlockKind,
    last_key: Option<Bytes>,
    totals: Totals,
}

impl<R: Read> Reader<R> {
    /// Reads the header; `file` is for what errors say.
    ///
    /// # Errors
    ///
    /// See [`BaseError`].
    pub fn new(mut input: R, file: &Path) -> Result<Self, BaseError> {
        let mut bytes = [0; FILE_HEADER_BYTES];
        let damaged = |why: &str| BaseError::Damaged {
            file: file.to_path_buf(),
            offset: 0,
            why: why.to_owned(),
        };
        input.read_exact(&mut bytes).map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                damaged("the file is shorter than its header")
            } else {
                BaseError::Io { operation: "read", file: file.to_path_buf(), source }
            }
        })?;
        let header = Header::decode(&bytes).map_err(|bad| match bad {
            BadHeader::Damaged(why) => damaged(why),
            BadHeader::Version(found) => {
                BaseError::FormatVersion { file: file.to_path_buf(), found }
            }
        })?;
        Ok(Self {
            input,
            file: file.to_path_buf(),
            header,
            offset: FILE_HEADER_BYTES as u64,
            number: 0,
            kind: BlockKind::Rows,
            last_key: None,
            totals: Totals { last: header.complete_to, ..Totals::default() },
        })
    }

    /// The beginning of the file.
    pub fn header(&self) -> Header {
        self.header
    }

    /// What has been read so far; of the whole file once [`next`](Self::next) has answered `None`.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How far the file has been read, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next block; `None` behind the last, when everything was there.
    ///
    /// # Errors
    ///
    /// See [`BaseError`]. Nothing more can be read then.
    #[expect(clippy::should_implement_trait, reason = "an iterator that goes on after an error")]
    pub fn next(&mut self) -> Result<Option<Block>, BaseError> {
        if self.kind == BlockKind::End {
            return Ok(None);
        }
        let (header, body) = self.read_block()?;
        let kind = match header.kind {
            1 => BlockKind::Rows,
            2 => BlockKind::Records,
            3 => BlockKind::End,
            other => return Err(self.damaged(format!("a block of the unknown kind {other}"))),
        };
        if kind < self.kind || (kind == BlockKind::Records && self.header.kind == super::Kind::Base)
        {
            return Err(self.damaged(format!("a block of the kind {kind:?} out of its place")));
        }
        self.kind = kind;
        let length = body.len();
        let block = match kind {
            BlockKind::Rows => self.rows(&header, body).map(Some)?,
            BlockKind::Records => self.records(&header, &body).map(Some)?,
            BlockKind::End => {
                self.end(&body)?;
                None
            }
        };
        self.offset += (BLOCK_HEADER_BYTES + length) as u64;
        self.number += 1;
        Ok(block)
    }

    fn read_block(&mut self) -> Result<(BlockHeader, Bytes), BaseError> {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        if self.fill(&mut bytes)? < bytes.len() {
            return Err(self.damaged("the file ends without its end block".to_owned()));
        }
        let number = self.number;
        let header = BlockHeader::decode(&bytes)
            .filter(|header| header.number == number && header.length as usize <= BODY_BYTES_MAX)
            .ok_or_else(|| self.damaged(format!("no header of block {number}")))?;
        // Grows with the bytes that are there, not with what the length claims.
        let mut body = Vec::new();
        let limit = u64::from(header.length);
        let read = (&mut self.input).take(limit).read_to_end(&mut body);
        let read = read.map_err(|source| self.io(source))?;
        if read < header.length as usize {
            return Err(self.damaged(format!("the file ends within block {number}")));
        }
        if header.sum(self.header.salt, &body) != header.checksum {
            return Err(self.damaged(format!("the checksum of block {number} is wrong")));
        }
        Ok((header, Bytes::from(body)))
    }

    fn rows(&mut self, header: &BlockHeader, mut body: Bytes) -> Result<Block, BaseError> {
        let mut rows = Vec::new();
        while !body.is_empty() {
            let Some((key, value)) = split_row(&mut body) else {
                return Err(self.damaged("a row that does not decode".to_owned()));
            };
            if self.last_key.as_ref().is_some_and(|last| *last >= key) {
                return Err(self.damaged("rows that are not in order".to_owned()));
            }
            self.last_key = Some(key.clone());
            rows.push((key, value));
        }
        if rows.len() != header.count as usize {
            let (count, found) = (header.count, rows.len());
            return Err(self.damaged(format!("expected {count} rows, found {found}")));
        }
        self.totals.rows += u64::from(header.count);
        Ok(Block::Rows(rows))
    }

    fn records(&mut self, header: &BlockHeader, mut body: &[u8]) -> Result<Block, BaseError> {
        let mut entries = Vec::new();
        while !body.is_empty() {
            let Some(entry) = split_record(&mut body) else {
                return Err(self.damaged("a record that does not decode".to_owned()));
            };
            let (expected, found) = (self.totals.last + 1, entry.sequence);
            if found != expected {
                return Err(self.damaged(format!("expected record {expected}, found {found}")));
            }
            self.totals.last = found;
            entries.push(entry);
        }
        if entries.len() != header.count as usize {
            let (count, found) = (header.count, entries.len());
            return Err(self.damaged(format!("expected {count} records, found {found}")));
        }
        self.totals.records += u64::from(header.count);
        Ok(Block::Records(entries))
    }

    fn end(&mut self, body: &[u8]) -> Result<(), BaseError> {
        let Some(bytes) = body.first_chunk::<TOTALS_BYTES>().filter(|_| body.len() == TOTALS_BYTES)
        else {
            return Err(self.damaged("an end block of another length".to_owned()));
        };
        let totals = Totals::decode(bytes);
        let end = self.offset + (BLOCK_HEADER_BYTES + TOTALS_BYTES) as u64;
        let expected = Totals { settled_at: totals.settled_at, bytes: end, ..self.totals };
        if totals != expected || totals.settled_at < self.header.complete_to {
            return Err(self.damaged(format!("expected {expected:?}, found {totals:?}")));
        }
        if self.fill(&mut [0])? > 0 {
            self.offset = end;
            return Err(self.damaged("something behind the end".to_owned()));
        }
        self.totals = totals;
        Ok(())
    }

    /// Reads until `room` is full or the file ends; how much that was.
    fn fill(&mut self, room: &mut [u8]) -> Result<usize, BaseError> {
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.io(source)),
            }
        }
        Ok(filled)
    }

    fn io(&self, source: io::Error) -> BaseError {
        BaseError::Io { operation: "read", file: self.file.clone(), source }
    }

    fn damaged(&self, why: String) -> BaseError {
        BaseError::Damaged { file: self.file.clone(), offset: self.offset, why }
    }
}

fn split_row(body: &mut Bytes) -> Option<(Bytes, Bytes)> {
    let length = u16::from_le_bytes(*body.first_chunk()?);
    let key = split(body, 2, usize::from(length))?;
    let length = u32::from_le_bytes(*body.first_chunk()?);
    let value = split(body, 4, length as usize)?;
    Some((key, value))
}

/// What stands behind the first `skipped` bytes.
fn split(body: &mut Bytes, skipped: usize, length: usize) -> Option<Bytes> {
    let end = skipped.checked_add(length).filter(|end| *end <= body.len())?;
    let taken = body.split_to(end);
    Some(taken.slice(skipped..))
}

fn split_record(body: &mut &[u8]) -> Option<Entry> {
    let (sequence, rest) = body.split_first_chunk::<8>()?;
    let (shard, rest) = rest.split_first_chunk::<2>()?;
    let ([BODY_VERSION, 0], rest) = rest.split_first_chunk::<2>()? else { return None };
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (ops, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *body = rest;
    let shard = ShardId(u16::from_le_bytes(*shard));
    Some(Entry { sequence: u64::from_le_bytes(*sequence), shard, ops: decode_ops(ops)? })
}

#[cfg(test)]
mod tests {
    use tidings_core::record::Op;

    use super::super::{BLOCK_BYTES, Kind, Writer};
    use super::*;

    const HEADER: Header =
        Header { kind: Kind::Copy, salt: 5, complete_to: 41, created_ms: 1_700_000_000_000 };

    fn file(rows: u32, records: u64) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
        for row in 0..rows {
            writer.row(&row.to_be_bytes(), &vec![7; row as usize * 900]).unwrap();
        }
        for record in 0..records {
            let ops = [
                Op::Put { key: "k".into(), value: vec![1; 3_000].into() },
                Op::Delete { key: "gone".into() },
            ];
            writer.record(42 + record, ShardId(3), &ops).unwrap();
        }
        writer.finish(44).unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Block>, Totals), BaseError> {
        let mut reader = Reader::new(bytes, Path::new("test"))?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.next()? {
            blocks.push(block);
        }
        Ok((blocks, reader.totals()))
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = file(40, 30);
        let (blocks, totals) = read(&bytes).unwrap();
        assert_eq!((totals.rows, totals.records, totals.last), (40, 30, 71));
        assert_eq!((totals.settled_at, totals.bytes), (44, bytes.len() as u64));
        assert!(blocks.len() > 8, "{}", blocks.len());
        let rows = blocks.iter().filter_map(|block| match block {
            Block::Rows(rows) => Some(rows.clone()),
            Block::Records(_) => None,
        });
        let rows: Vec<_> = rows.flatten().collect();
        assert_eq!(rows[39].1.len(), 39 * 900);
        let (blocks, totals) = read(&file(0, 0)).unwrap();
        assert_eq!((blocks.len(), totals.rows, totals.last), (0, 0, 41));
    }

    #[test]
    fn a_small_file_keeps_its_bytes_for_ever() {
        let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
        writer.row(b"k", b"value").unwrap();
        writer.record(42, ShardId(0x0201), &[Op::Delete { key: "k".into() }]).unwrap();
        let (bytes, _) = writer.finish(0).unwrap();
        let rows = b"\x0c\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0k\x05\0\0\0value";
        let records = b"\x14\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\
            \x2a\0\0\0\0\0\0\0\x01\x02\x01\0\x04\0\0\0\x03\x01\0k";
        let end = b"\x28\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
            \x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x29\0\0\0\0\0\0\0\x2a\0\0\0\0\0\0\0\xb8\0\0\0\0\0\0\0";
        let mut rest = &bytes[FILE_HEADER_BYTES..];
        for block in [&rows[..], &records[..], &end[..]] {
            assert_eq!(rest[4..4 + block.len()], *block);
            rest = &rest[4 + block.len()..];
        }
        assert_eq!(rest, b"");
        assert_eq!(crc32c::crc32c(&bytes), GOLDEN_SUM);
    }

    const GOLDEN_SUM: u32 = 0xc2d9_1756;

    #[test]
    fn any_bit_flipped_and_any_end_cut_is_noticed_with_its_block() {
        let bytes = file(12, 3);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            match read(&flipped) {
                Err(BaseError::Damaged { offset, .. }) => assert!(offset <= at as u64),
                other => panic!("byte {at}: {other:?}"),
            }
            if at % 97 == 0 || bytes.len() - at < 100 {
                assert!(read(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(read(&longer).is_err());
    }

    #[test]
    fn a_base_of_another_version_is_named_as_such() {
        let mut bytes = file(1, 0);
        bytes[8] = 9;
        let sum = crc32c::crc32c(&bytes[..36]);
        bytes[36..40].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(read(&bytes), Err(BaseError::FormatVersion { found: 9, .. })));
    }

    #[test]
    fn a_record_or_value_longer_than_a_block_has_one_of_its_own() {
        let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
        writer.row(b"a", &vec![1; 10 * BLOCK_BYTES]).unwrap();
        writer.row(b"b", b"").unwrap();
        let (bytes, _) = writer.finish(0).unwrap();
        assert_eq!(read(&bytes).unwrap().0.len(), 2);
        let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
        let gap = writer.record(44, ShardId(0), &[]);
        assert!(gap.is_err());
    }
}

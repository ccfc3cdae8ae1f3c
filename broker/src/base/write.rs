//! Writing a base or a copy: rows in the order of their keys, then records, then the totals.

use std::io::{self, Write};

use tidings_core::record::Op;
use tidings_core::slot::ShardId;

use super::block::{BLOCK_BYTES, BlockHeader, BlockKind, FILE_HEADER_BYTES, Header, Totals};
use super::block::{BLOCK_HEADER_BYTES, TOTALS_BYTES};
use crate::journal::{BODY_VERSION, encode_ops};

/// Writes one file to `W`, front to back.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    header: Header,
    kind: BlockKind,
    body: Vec<u8>,
    count: u32,
    number: u64,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// What `out` says; here as with every call, and nothing more may be written then.
    pub fn new(mut out: W, header: Header) -> io::Result<Self> {
        out.write_all(&header.encode())?;
        let (settled_at, last) = (header.complete_to, header.complete_to);
        let bytes = FILE_HEADER_BYTES as u64;
        let totals = Totals { bytes, settled_at, last, ..Totals::default() };
        let body = Vec::with_capacity(BLOCK_BYTES);
        Ok(Self { out, header, kind: BlockKind::Rows, body, count: 0, number: 0, totals })
    }

    /// Adds a row; its key comes behind those of the rows before.
    ///
    /// # Errors
    ///
    /// See [`new`](Self::new); and a key or value longer than the format has room for.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        debug_assert_eq!(self.kind, BlockKind::Rows, "rows come before records");
        let key_length = u16::try_from(key.len()).map_err(|_| too_long("key"))?;
        let length = u32::try_from(value.len()).map_err(|_| too_long("value"))?;
        self.body.extend_from_slice(&key_length.to_le_bytes());
        self.body.extend_from_slice(key);
        self.body.extend_from_slice(&length.to_le_bytes());
        self.body.extend_from_slice(value);
        self.totals.rows += 1;
        self.counted()
    }

    /// Adds a record, the one after the last.
    ///
    /// # Errors
    ///
    /// See [`new`](Self::new); and another number than the next.
    pub fn record(&mut self, sequence: u64, shard: ShardId, ops: &[Op]) -> io::Result<()> {
        if self.kind != BlockKind::Records {
            self.close_block()?;
            self.kind = BlockKind::Records;
        }
        if sequence != self.totals.last + 1 {
            let why = format!("expected record {}, found {sequence}", self.totals.last + 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.body.extend_from_slice(&sequence.to_le_bytes());
        self.body.extend_from_slice(&shard.0.to_le_bytes());
        self.body.extend_from_slice(&[BODY_VERSION, 0]);
        let at = self.body.len();
        self.body.extend_from_slice(&[0; 4]);
        encode_ops(&mut self.body, ops).ok_or_else(|| too_long("key"))?;
        let length = u32::try_from(self.body.len() - at - 4).map_err(|_| too_long("record"))?;
        if let Some(room) = self.body.get_mut(at..at + 4) {
            room.copy_from_slice(&length.to_le_bytes());
        }
        self.totals.records += 1;
        self.totals.last = sequence;
        self.counted()
    }

    /// What it writes to. Writing to it past this spoils the file.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// How many bytes have been given to `out`.
    pub fn bytes(&self) -> u64 {
        self.totals.bytes
    }

    /// What has been written so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Ends the file: records up to `settled_at` may have left effects among its rows.
    ///
    /// # Errors
    ///
    /// See [`new`](Self::new).
    pub fn finish(mut self, settled_at: u64) -> io::Result<(W, Totals)> {
        self.close_block()?;
        self.kind = BlockKind::End;
        self.totals.settled_at = settled_at.max(self.header.complete_to);
        let mut totals = self.totals;
        totals.bytes += (BLOCK_HEADER_BYTES + TOTALS_BYTES) as u64;
        self.body.extend_from_slice(&totals.encode());
        self.write_block()?;
        self.out.flush()?;
        Ok((self.out, totals))
    }

    fn counted(&mut self) -> io::Result<()> {
        self.count += 1;
        if self.body.len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.count == 0 { Ok(()) } else { self.write_block() }
    }

    fn write_block(&mut self) -> io::Result<()> {
        let (salt, kind) = (self.header.salt, self.kind);
        let header = BlockHeader::of(salt, kind, self.number, self.count, &self.body);
        self.out.write_all(&header.encode())?;
        self.out.write_all(&self.body)?;
        self.totals.bytes += (BLOCK_HEADER_BYTES + self.body.len()) as u64;
        self.number += 1;
        self.count = 0;
        self.body.clear();
        // One large value must not be kept room for.
        self.body.shrink_to(2 * BLOCK_BYTES);
        Ok(())
    }
}

fn too_long(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("a {what} is too long"))
}

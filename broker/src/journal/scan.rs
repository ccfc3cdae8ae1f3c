//! A segment read from its beginning, a piece at a time: a journal may be many times larger than
//! what a broker that starts should take of the memory.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::entry::{self, HEADER_BYTES, Header, Whole};
use super::segment::SEGMENT_HEADER_BYTES;

/// What is read at once.
const PIECE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Scan {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    length: u64,
    /// A part of the file, from byte `at` on.
    piece: Vec<u8>,
    at: u64,
}

impl Scan {
    /// The segment as long as it is now.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open_to_read(path)?;
        let length = disk.length(path)?;
        Ok(Self { path: path.to_path_buf(), file, length, piece: Vec::new(), at: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads on as if the file ended there.
    pub(super) fn end_at(&mut self, end: u64) {
        self.length = end;
    }

    /// How long the file is.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// What a segment's header is read from; shorter where the file is.
    pub(super) fn header(&mut self) -> io::Result<&[u8]> {
        self.bytes(0, SEGMENT_HEADER_BYTES)
    }

    /// The entry at `offset`; see [`entry::check`].
    pub(super) fn entry(
        &mut self,
        offset: u64,
        salt: u32,
    ) -> io::Result<Option<Result<Whole<'_>, Header>>> {
        let claimed = entry::claimed_length(self.bytes(offset, HEADER_BYTES)?);
        Ok(entry::check(self.bytes(offset, HEADER_BYTES + claimed)?, salt))
    }

    /// Up to `length` bytes from `offset` on: fewer at the end of the file.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let from = offset.checked_sub(self.at).and_then(|from| usize::try_from(from).ok());
        let has = |from: &usize| from + length <= self.piece.len();
        let from = match from.filter(has) {
            Some(from) => from,
            None => {
                self.piece.resize(length.max(PIECE_BYTES.min(left)), 0);
                // Less if the file was made shorter: somebody else's, while it is read.
                let read = self.file.read_at(&mut self.piece, offset)?;
                self.piece.truncate(read);
                self.piece.shrink_to(PIECE_BYTES);
                self.at = offset;
                0
            }
        };
        let end = self.piece.len().min(from + length);
        Ok(self.piece.get(from..end).unwrap_or_default())
    }

    /// All from `offset` on. Zeros, which most of a segment is before it is written, take no memory.
    pub(super) fn tail(&mut self, offset: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut tail = vec![0; length];
        for (index, room) in tail.chunks_mut(PIECE_BYTES).enumerate() {
            let bytes = self.bytes(offset + (index * PIECE_BYTES) as u64, room.len())?;
            for (room, bytes) in room.chunks_mut(4_096).zip(bytes.chunks(4_096)) {
                if bytes.iter().any(|byte| *byte != 0)
                    && let Some(room) = room.get_mut(..bytes.len())
                {
                    room.copy_from_slice(bytes);
                }
            }
        }
        Ok(tail)
    }

    /// Shows all of `from..to`, piece by piece.
    pub(super) fn pieces(
        &mut self,
        from: u64,
        to: u64,
        show: &mut dyn FnMut(&[u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut offset = from;
        while offset < to {
            let wanted = usize::try_from(to - offset).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let bytes = self.bytes(offset, wanted)?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            show(bytes, offset)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}

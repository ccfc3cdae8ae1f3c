//! The outbox: sends that survive a crash, as an append-only file.
//!
//! Bytes of `outbox`: the header `TDOUTBX` and the format's number; then records, each a length
//! (u32, little-endian, of what follows the CRC), a CRC-32 of length and body (u32), and the body:
//! its kind (u8), the send's number (u64) and, for a send, chat and id (a length byte each) and the
//! payload. A new number is higher than all in the file: numbers are the order of sending.
//!
//! [`append`](Outbox::append) promises nothing before [`sync`](Outbox::sync) has returned.
//! [`finish`](Outbox::finish) is never synced on its own: when it is lost, the send is repeated with
//! its old id and the broker answers with the old seq.

use crate::error::OutboxError;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Send {
    /// Its place in the order of sending.
    pub(crate) number: u64,
    /// The chat as its sender sees it.
    pub(crate) chat: String,
    /// The message id: what makes a repetition harmless.
    pub(crate) id: String,
    /// The message.
    pub(crate) payload: Bytes,
}

/// A part of the file that could not be read, with readable records behind it.
///
/// Not a torn tail: the disk changed bytes that had been synced. A copy of the file is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxDamage {
    /// Where in the file the damage begins.
    pub offset: u64,
    /// How many bytes were passed over.
    pub bytes: u64,
    /// The copy of the file as it was found.
    pub copy: PathBuf,
}

/// The open file, and what of it is still unanswered.
#[derive(Debug)]
pub(crate) struct Outbox {
    dir: PathBuf,
    file: File,
    /// Held for its lock: one process per outbox.
    _lock: File,
    live: BTreeMap<u64, Send>,
    live_bytes: usize,
    file_bytes: u64,
    next_number: u64,
    buffer: Vec<u8>,
    poisoned: bool,
    sends_max: usize,
    bytes_max: usize,
}

impl Outbox {
    /// Opens or creates the outbox in `dir`, cuts a torn tail and finds what is unanswered.
    ///
    /// # Errors
    ///
    /// The directory cannot be used, is in use, or holds another format.
    pub(crate) fn open(
        dir: &Path,
        sends_max: usize,
        bytes_max: usize,
    ) -> Result<(Self, Option<OutboxDamage>), OutboxError> {
        create_private_dir(dir).map_err(|e| failed("create", dir, e))?;
        let lock_path = dir.join("lock");
        let lock = private(&lock_path).map_err(|e| failed("open", &lock_path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OutboxError::InUse { path: lock_path }),
            Err(TryLockError::Error(e)) => return Err(failed("lock", &lock_path, e)),
        }
        let path = dir.join(FILE);
        let mut file = private(&path).map_err(|e| failed("open", &path, e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| failed("read", &path, e))?;
        let scan = scan(&path, &bytes)?;
        let damage = match scan.damage {
            None => None,
            Some((offset, length)) => {
                let copy = dir.join("outbox.damaged");
                std::fs::copy(&path, &copy).map_err(|e| failed("copy", &copy, e))?;
                Some(OutboxDamage { offset, bytes: length, copy })
            }
        };
        let live_bytes = scan.live.values().map(record_bytes).sum();
        let mut outbox = Self {
            dir: dir.to_owned(),
            file,
            _lock: lock,
            live: scan.live,
            live_bytes,
            file_bytes: scan.end,
            next_number: scan.next_number,
            buffer: Vec::new(),
            poisoned: false,
            sends_max,
            bytes_max,
        };
        if damage.is_some() || scan.end < HEADER_BYTES {
            outbox.compact()?;
        } else if scan.end < bytes.len() as u64 {
            outbox.cut(scan.end).map_err(|e| failed("cut the torn tail of", &path, e))?;
        } else {
            let end = SeekFrom::Start(scan.end);
            outbox.file.seek(end).map_err(|e| failed("seek in", &path, e))?;
        }
        Ok((outbox, damage))
    }

    /// Every unanswered send, in the order of sending.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &Send> {
        self.live.values()
    }

    /// Takes a send, to be written by the next [`sync`](Self::sync), and gives it its number.
    ///
    /// # Errors
    ///
    /// The outbox is full, or an earlier write failed.
    pub(crate) fn append(
        &mut self,
        chat: String,
        id: String,
        payload: Bytes,
    ) -> Result<Send, OutboxError> {
        if self.poisoned {
            return Err(OutboxError::Poisoned);
        }
        let send = Send { number: self.next_number, chat, id, payload };
        let bytes = record_bytes(&send);
        if self.live.len() >= self.sends_max || self.live_bytes + bytes > self.bytes_max {
            return Err(OutboxError::Full { sends: self.live.len(), bytes: self.live_bytes });
        }
        encode_send(&send, &mut self.buffer);
        self.next_number += 1;
        self.live_bytes += bytes;
        self.live.insert(send.number, send.clone());
        Ok(send)
    }

    /// Forgets a send that the broker answered; a number not known is ignored.
    pub(crate) fn finish(&mut self, number: u64) {
        if let Some(send) = self.live.remove(&number) {
            self.live_bytes -= record_bytes(&send);
            encode_record(FINISHED, number, &[], &mut self.buffer);
        }
    }

    /// Writes what was appended and finished, and when `durable` waits for the disk. Compacts when
    /// most of the file is answered.
    ///
    /// # Errors
    ///
    /// The disk failed; the outbox takes nothing more until it is opened again, since nobody knows
    /// which of the bytes will be there.
    pub(crate) fn sync(&mut self, durable: bool) -> Result<(), OutboxError> {
        if self.poisoned {
            return Err(OutboxError::Poisoned);
        }
        let written = self.file.write_all(&self.buffer);
        let synced = written
            .and_then(|()| if durable { self.file.sync_data() } else { Ok(()) })
            .map_err(|e| failed("write", &self.dir.join(FILE), e));
        self.file_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.poisoned = synced.is_err();
        synced?;
        let live = self.live_bytes as u64 + HEADER_BYTES;
        if self.file_bytes > COMPACT_BYTES_MIN && self.file_bytes / 2 > live {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes the unanswered sends to a new file and puts it in place of the old one.
    fn compact(&mut self) -> Result<(), OutboxError> {
        let mut bytes = header().to_vec();
        for send in self.live.values() {
            encode_send(send, &mut bytes);
        }
        let path = self.dir.join(FILE);
        let replaced = self.replace(&path, &bytes).map_err(|e| failed("compact", &path, e));
        self.poisoned = replaced.is_err();
        self.file = replaced?;
        self.file_bytes = bytes.len() as u64;
        Ok(())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let new_path = self.dir.join("outbox.new");
        let mut new = private(&new_path)?;
        new.set_len(0)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        std::fs::rename(&new_path, path)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(new)
    }

    fn cut(&mut self, end: u64) -> io::Result<()> {
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end))?;
        self.file.sync_all()
    }
}

struct Scan {
    live: BTreeMap<u64, Send>,
    next_number: u64,
    end: u64,
    damage: Option<(u64, u64)>,
}

fn scan(path: &Path, bytes: &[u8]) -> Result<Scan, OutboxError> {
    let mut scan = Scan { live: BTreeMap::new(), next_number: 1, end: 0, damage: None };
    let Some(records) = bytes.strip_prefix(&header()) else {
        // A crash while the first file was made leaves a piece of the header.
        if header().starts_with(bytes) {
            return Ok(scan);
        }
        let found = bytes.get(..bytes.len().min(8)).unwrap_or_default().to_vec();
        return Err(OutboxError::Format { path: path.to_owned(), expected: FORMAT, found });
    };
    let mut rest = records;
    loop {
        let offset = (bytes.len() - rest.len()) as u64;
        match decode_record(rest) {
            Some((record, after)) => {
                scan.apply(record);
                rest = after;
            }
            None => {
                // A torn tail has nothing readable behind it; damage has.
                let next = (1..rest.len())
                    .find(|at| rest.get(*at..).is_some_and(|r| decode_record(r).is_some()));
                let Some(at) = next else {
                    scan.end = offset;
                    return Ok(scan);
                };
                scan.damage.get_or_insert((offset, 0)).1 += at as u64;
                rest = rest.get(at..).unwrap_or_default();
            }
        }
    }
}

impl Scan {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Send(send) => {
                self.next_number = self.next_number.max(send.number + 1);
                self.live.insert(send.number, send);
            }
            Record::Finished(number) => {
                self.live.remove(&number);
            }
        }
    }
}

enum Record {
    Send(Send),
    Finished(u64),
}

/// The first record of `bytes` and what follows it; none when it does not check.
fn decode_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (body, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    // The kind first: it spares most checksums when a damaged file is searched byte by byte.
    let known = body.first().is_some_and(|kind| [SEND, FINISHED].contains(kind));
    if !known || checksum(*length, &[body]) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (kind, body) = body.split_first()?;
    let (number, body) = body.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    // Not ours to have written, and the next number would not fit.
    if number == u64::MAX {
        return None;
    }
    let record = match *kind {
        SEND => {
            let (chat, body) = decode_text(body)?;
            let (id, payload) = decode_text(body)?;
            Record::Send(Send { number, chat, id, payload: Bytes::copy_from_slice(payload) })
        }
        FINISHED => Record::Finished(number),
        _ => return None,
    };
    Some((record, after))
}

fn decode_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), rest))
}

fn encode_send(send: &Send, out: &mut Vec<u8>) {
    let (chat, id) = (send.chat.as_bytes(), send.id.as_bytes());
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap_or(u8::MAX);
    let parts = [&[length(chat)], chat, &[length(id)], id, &send.payload];
    encode_record(SEND, send.number, &parts, out);
}

fn encode_record(kind: u8, number: u64, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length = 9 + parts.iter().map(|part| part.len()).sum::<usize>();
    // Payloads are bounded far below by the options' check.
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let number = number.to_le_bytes();
    let mut body: Vec<&[u8]> = vec![std::slice::from_ref(&kind), &number];
    body.extend(parts);
    out.extend(length);
    out.extend(checksum(length, &body).to_le_bytes());
    for part in body {
        out.extend(part);
    }
}

fn record_bytes(send: &Send) -> usize {
    8 + 9 + 2 + send.chat.len() + send.id.len() + send.payload.len()
}

/// Over the length as well, so that a run of zeros is no record.
fn checksum(length: [u8; 4], parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    for part in parts {
        crc.update(part);
    }
    crc.finalize()
}

fn header() -> [u8; 8] {
    [b'T', b'D', b'O', b'U', b'T', b'B', b'X', FORMAT]
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> OutboxError {
    OutboxError::Io { action, path: path.to_owned(), source }
}

/// Messages are private: nobody but the owner reads them.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

const FILE: &str = "outbox";
const FORMAT: u8 = 1;
const HEADER_BYTES: u64 = 8;

// On disk for ever.
const SEND: u8 = 1;
const FINISHED: u8 = 2;

/// Below this a file is not worth rewriting.
const COMPACT_BYTES_MIN: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    struct TempDir(PathBuf);

    impl TempDir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidings-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn open(dir: &TempDir) -> Outbox {
        let (outbox, damage) = Outbox::open(&dir.0, 10_000, 1 << 24).unwrap();
        assert_eq!(damage, None);
        outbox
    }

    fn append(outbox: &mut Outbox, id: &str) -> u64 {
        let payload = Bytes::from(format!("text of {id}"));
        outbox.append("@bob".to_owned(), id.to_owned(), payload).unwrap().number
    }

    fn ids(outbox: &Outbox) -> Vec<String> {
        outbox.unanswered().map(|send| send.id.clone()).collect()
    }

    #[test]
    fn synced_sends_are_there_in_order_after_a_crash() {
        let dir = TempDir::new("order");
        let mut outbox = open(&dir);
        for id in ["a", "b", "c"] {
            append(&mut outbox, id);
        }
        outbox.sync(true).unwrap();
        drop(outbox);
        let outbox = open(&dir);
        assert_eq!(ids(&outbox), ["a", "b", "c"]);
        assert_eq!(outbox.unanswered().next().unwrap().payload, "text of a");
    }

    #[test]
    fn crash_between_sync_and_answer_keeps_the_send_and_its_id() {
        let dir = TempDir::new("between");
        let mut outbox = open(&dir);
        let first = append(&mut outbox, "a");
        append(&mut outbox, "b");
        outbox.sync(true).unwrap();
        outbox.finish(first);
        // The answer was not written: both are repeated.
        drop(outbox);
        let mut outbox = open(&dir);
        assert_eq!(ids(&outbox), ["a", "b"]);
        outbox.finish(first);
        outbox.sync(false).unwrap();
        drop(outbox);
        assert_eq!(ids(&open(&dir)), ["b"]);
    }

    #[test]
    fn tail_torn_at_every_byte_keeps_every_whole_record() {
        let dir = TempDir::new("torn");
        let mut outbox = open(&dir);
        let mut ends = vec![std::fs::metadata(dir.0.join(FILE)).unwrap().len()];
        for id in ["a", "bb", "ccc"] {
            append(&mut outbox, id);
            outbox.sync(true).unwrap();
            ends.push(std::fs::metadata(dir.0.join(FILE)).unwrap().len());
        }
        drop(outbox);
        let whole = std::fs::read(dir.0.join(FILE)).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(dir.0.join(FILE), &whole[..cut]).unwrap();
            let mut outbox = open(&dir);
            let kept = ends[1..].iter().filter(|end| **end <= cut as u64).count();
            assert_eq!(ids(&outbox), ["a", "bb", "ccc"][..kept], "cut at {cut}");
            // What is appended behind the cut is readable again.
            append(&mut outbox, "later");
            outbox.sync(true).unwrap();
            drop(outbox);
            assert_eq!(ids(&open(&dir)).len(), kept + 1, "cut at {cut}");
        }
    }

    #[test]
    fn tail_of_zeros_is_cut() {
        let dir = TempDir::new("zeros");
        let mut outbox = open(&dir);
        append(&mut outbox, "a");
        outbox.sync(true).unwrap();
        drop(outbox);
        let mut bytes = std::fs::read(dir.0.join(FILE)).unwrap();
        bytes.extend([0; 4096]);
        std::fs::write(dir.0.join(FILE), bytes).unwrap();
        assert_eq!(ids(&open(&dir)), ["a"]);
    }

    #[test]
    fn damage_before_the_tail_is_reported_and_the_rest_kept() {
        let dir = TempDir::new("damage");
        let mut outbox = open(&dir);
        let start = std::fs::metadata(dir.0.join(FILE)).unwrap().len();
        for id in ["a", "b", "c"] {
            append(&mut outbox, id);
        }
        outbox.sync(true).unwrap();
        drop(outbox);
        let mut bytes = std::fs::read(dir.0.join(FILE)).unwrap();
        bytes[usize::try_from(start).unwrap() + 20] ^= 1;
        std::fs::write(dir.0.join(FILE), &bytes).unwrap();
        let (outbox, damage) = Outbox::open(&dir.0, 10, 1 << 20).unwrap();
        let damage = damage.unwrap();
        assert_eq!(damage.offset, start);
        assert_eq!(std::fs::read(damage.copy).unwrap(), bytes);
        assert_eq!(ids(&outbox), ["b", "c"]);
        drop(outbox);
        assert_eq!(ids(&open(&dir)), ["b", "c"]);
    }

    #[test]
    fn compaction_drops_the_answered_and_keeps_the_unanswered_in_front() {
        let dir = TempDir::new("compact");
        let mut outbox = open(&dir);
        append(&mut outbox, "kept");
        let payload = Bytes::from(vec![7; 1_000]);
        for i in 0..200 {
            let send = outbox.append("@bob".to_owned(), format!("m{i}"), payload.clone()).unwrap();
            outbox.finish(send.number);
            outbox.sync(false).unwrap();
        }
        let bytes = std::fs::metadata(dir.0.join(FILE)).unwrap().len();
        assert!(bytes <= COMPACT_BYTES_MIN + 2_000, "{bytes}");
        drop(outbox);
        let mut outbox = open(&dir);
        assert_eq!(ids(&outbox), ["kept"]);
        append(&mut outbox, "new");
        outbox.sync(true).unwrap();
        drop(outbox);
        assert_eq!(ids(&open(&dir)), ["kept", "new"]);
    }

    #[test]
    fn full_outbox_refuses_until_one_is_answered() {
        let dir = TempDir::new("full");
        let (mut outbox, _) = Outbox::open(&dir.0, 2, 1 << 20).unwrap();
        let first = append(&mut outbox, "a");
        append(&mut outbox, "b");
        let again = outbox.append("@bob".to_owned(), "c".to_owned(), Bytes::new());
        assert!(matches!(again, Err(OutboxError::Full { sends: 2, .. })));
        outbox.finish(first);
        append(&mut outbox, "c");
        assert_eq!(ids(&outbox), ["b", "c"]);

        let dir = TempDir::new("full-bytes");
        let (mut outbox, _) = Outbox::open(&dir.0, 10, 100).unwrap();
        let payload = Bytes::from(vec![0; 90]);
        let refused = outbox.append("@bob".to_owned(), "a".to_owned(), payload);
        assert!(matches!(refused, Err(OutboxError::Full { sends: 0, .. })));
    }

    #[test]
    fn second_client_on_one_directory_is_refused() {
        let dir = TempDir::new("lock");
        let _first = open(&dir);
        assert!(matches!(Outbox::open(&dir.0, 1, 1), Err(OutboxError::InUse { .. })));
    }

    #[test]
    fn other_format_is_refused() {
        let dir = TempDir::new("format");
        std::fs::create_dir_all(&dir.0).unwrap();
        std::fs::write(dir.0.join(FILE), b"TDOUTBX\x02....").unwrap();
        assert!(matches!(Outbox::open(&dir.0, 1, 1), Err(OutboxError::Format { .. })));
    }

    #[test]
    fn bytes_of_a_send_stay_what_they_are() {
        let mut bytes = Vec::new();
        let send = Send {
            number: 1,
            chat: "@bob".to_owned(),
            id: "m1".to_owned(),
            payload: Bytes::from_static(b"hi"),
        };
        encode_send(&send, &mut bytes);
        let body = b"\x01\x01\0\0\0\0\0\0\0\x04@bob\x02m1hi";
        assert_eq!(bytes[..4], u32::try_from(body.len()).unwrap().to_le_bytes());
        assert_eq!(&bytes[8..], body);
        assert_eq!(bytes.len(), record_bytes(&send));
    }
}

//! Reading the journal back: which records count, and whether what follows is a torn tail.
//!
//! Groups are synced one after the other. So where a record does not check, and a record of a
//! *later* group does, something acknowledged is gone: damage. Whole records of the *same* group
//! prove nothing, since a disk writes the sectors of one group in any order: that is a torn tail,
//! and it is cut. Damage to the very last group cannot be told from a torn tail.

use std::path::{Path, PathBuf};

use tidings_core::slot::ShardId;

use super::disk::Disk;
use super::entry::{self, HEADER_BYTES, Header};
use super::scan::Scan;
use super::segment::{
    BadHeader, DATA_START, FORMAT_VERSION, SegmentHeader, is_spare, segment_first,
};
use super::{Context, Entry, Recovered, ReplayError};

/// What is in the directory.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) recovered: Recovered,
    /// Every segment with its first record, oldest first.
    pub(super) segments: Vec<(u64, PathBuf)>,
    pub(super) spares: Vec<PathBuf>,
    /// Where the records of the last segment end.
    pub(super) end: u64,
}

pub(super) fn replay(
    disk: &dyn Disk,
    directory: &Path,
    after: u64,
    each: &mut dyn FnMut(Entry),
) -> Result<Found, ReplayError> {
    let (segments, spares) = list(disk, directory)?;
    let mut recovered = Recovered::default();
    let (mut file, mut offset) = (directory.to_path_buf(), 0);
    // The number of the record that comes next; before the first segment, of the oldest one needed.
    let mut next = after + 1;
    if segments.is_empty() && after > 0 {
        let why = format!("no segment, and the store ends at record {after}");
        return Err(ReplayError::Damaged { file, offset, why });
    }
    // Segments that the store needs nothing of are kept for a base: they are not even opened.
    let needed = segments.partition_point(|(first, _)| *first <= next).saturating_sub(1);
    for (index, (first, path)) in segments.iter().enumerate().skip(needed) {
        let mut scan = Scan::open(disk, path).context("read", path)?;
        let header = read_header(&mut scan)?;
        if header.first != *first {
            let why = format!("expected record {first} first, found {}", header.first);
            return Err(ReplayError::Damaged { file: path.clone(), offset: 0, why });
        }
        // Behind the records that the store has, a segment begins where the one before ends.
        let expected = next.max(after + 1);
        if header.first > expected || (index > needed && header.first < next) {
            let why = format!("expected record {expected}, the next found is {}", header.first);
            return Err(ReplayError::Damaged { file, offset, why });
        }
        next = header.first;
        let (from, end) =
            replay_segment(&mut scan, header, after, &mut next, &mut recovered, each)?;
        recovered.synced = header.synced;
        if index + 1 == segments.len() {
            let tail = scan.tail(end).context("read", path)?;
            check_length(&scan, &tail, header, end, next)?;
            recovered.torn_bytes = torn_tail(path, &tail, header, end, next)?;
            drop(tail);
            write_again(disk, directory, scan, from, end)?;
        }
        (file, offset) = (path.clone(), end);
    }
    recovered.last = if segments.is_empty() { 0 } else { next - 1 };
    if recovered.synced && recovered.last < after {
        // No power cut does that: each was safe here before the store had it. Said before a segment
        // is begun behind them, which would hide it from the next start.
        let why = format!(
            "the store has records up to {after}, the journal ends at {}: acknowledged ones may be \
             missing behind it",
            recovered.last
        );
        return Err(ReplayError::Damaged { file, offset, why });
    }
    Ok(Found { recovered, segments, spares, end: offset })
}

/// Hands over the records after `after` as far as they are there, and changes nothing: neither is a
/// torn tail cut nor anything synced. For a journal that somebody else may be writing.
pub(super) fn read(
    disk: &dyn Disk,
    directory: &Path,
    after: u64,
    each: &mut dyn FnMut(&Path, Entry),
) -> Result<Recovered, ReplayError> {
    let (segments, _) = list(disk, directory)?;
    let mut recovered = Recovered::default();
    let mut next = after + 1;
    let needed = segments.partition_point(|(first, _)| *first <= next).saturating_sub(1);
    for (index, (first, path)) in segments.iter().enumerate().skip(needed) {
        let mut scan = Scan::open(disk, path).context("read", path)?;
        let header = read_header(&mut scan)?;
        let damaged = |why| Err(ReplayError::Damaged { file: path.clone(), offset: 0, why });
        if header.first != *first {
            return damaged(format!("expected record {first} first, found {}", header.first));
        }
        let expected = next.max(after + 1);
        if header.first > expected || (index > needed && header.first < next) {
            return damaged(format!("expected record {expected} first, found {first}"));
        }
        next = header.first;
        recovered.synced = header.synced;
        if index + 1 == segments.len() {
            (scan, recovered.torn_bytes) = read_last(disk, path, header)?;
        }
        let mut each = |entry| each(path, entry);
        replay_segment(&mut scan, header, after, &mut next, &mut recovered, &mut each)?;
    }
    recovered.last = if segments.is_empty() { 0 } else { next - 1 };
    Ok(recovered)
}

/// The last segment as far as it can be read, and how much behind that is a torn tail.
///
/// Groups that are written while it is read may be there but for their beginning, as if that were
/// damaged: what looks so is read again, and only damage stays.
fn read_last(
    disk: &dyn Disk,
    path: &Path,
    header: SegmentHeader,
) -> Result<(Scan, u64), ReplayError> {
    let mut ended_before = None;
    loop {
        let mut scan = Scan::open(disk, path).context("read", path)?;
        let (mut next, mut skipped) = (header.first, Recovered::default());
        let none = u64::MAX;
        let (_, end) =
            replay_segment(&mut scan, header, none, &mut next, &mut skipped, &mut |_| {})?;
        let tail = scan.tail(end).context("read", path)?;
        let torn = check_length(&scan, &tail, header, end, next);
        match torn.and_then(|()| torn_tail(path, &tail, header, end, next)) {
            Ok(torn) => {
                scan.end_at(end);
                return Ok((scan, torn));
            }
            Err(error) if ended_before == Some(end) => return Err(error),
            Err(_) => ended_before = Some(end),
        }
    }
}

/// The first record of each segment, in order.
pub(super) fn firsts(
    disk: &dyn Disk,
    directory: &Path,
) -> Result<Vec<(u64, PathBuf)>, ReplayError> {
    Ok(list(disk, directory)?.0)
}

type Listing = (Vec<(u64, PathBuf)>, Vec<PathBuf>);

fn list(disk: &dyn Disk, directory: &Path) -> Result<Listing, ReplayError> {
    let (mut segments, mut spares) = (Vec::new(), Vec::new());
    for path in disk.list(directory).context("list", directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(first) = segment_first(&name) {
            segments.push((first, path));
        } else if is_spare(&name) {
            spares.push(path);
        }
    }
    segments.sort_unstable();
    Ok((segments, spares))
}

fn read_header(scan: &mut Scan) -> Result<SegmentHeader, ReplayError> {
    let path = scan.path().to_path_buf();
    let bytes = scan.header().context("read", &path)?;
    SegmentHeader::decode(bytes).map_err(|bad| match bad {
        BadHeader::Version(found) => {
            ReplayError::FormatVersion { file: path, found, expected: FORMAT_VERSION }
        }
        BadHeader::Damaged(why) => {
            ReplayError::Damaged { file: path, offset: 0, why: why.to_owned() }
        }
    })
}

/// Hands over the records of one segment and answers with the offsets of the first one handed over
/// and behind the last good one.
fn replay_segment(
    scan: &mut Scan,
    header: SegmentHeader,
    after: u64,
    next: &mut u64,
    recovered: &mut Recovered,
    each: &mut dyn FnMut(Entry),
) -> Result<(u64, u64), ReplayError> {
    let path = scan.path().to_path_buf();
    let (mut from, mut offset) = (None, DATA_START as u64);
    while let Some(Ok(whole)) = scan.entry(offset, header.salt).context("read", &path)? {
        let sequence = whole.header.sequence;
        if sequence != *next {
            break;
        }
        if sequence > after {
            let ops = whole.ops().map_err(|why| ReplayError::Damaged {
                file: path.clone(),
                offset,
                why,
            })?;
            from.get_or_insert(offset);
            recovered.records += 1;
            recovered.bytes += whole.len() as u64;
            each(Entry { sequence, shard: ShardId(whole.header.shard), ops });
        }
        *next += 1;
        offset += whole.len() as u64;
    }
    Ok((from.unwrap_or(offset), offset))
}

/// Whether the file is as long as it was made, or was so when its records ended.
///
/// A crash makes no file shorter: one that is, has been cut by somebody else. Where zeros follow the
/// last record, there was none behind it. One that ends right behind a record is given the benefit
/// of the doubt: it may be a copy that leaves out the rest.
///
/// # Errors
///
/// When it was cut within a record, or in front of the first.
fn check_length(
    scan: &Scan,
    tail: &[u8],
    header: SegmentHeader,
    end: u64,
    next: u64,
) -> Result<(), ReplayError> {
    let length = scan.length();
    let ended = match tail.get(..HEADER_BYTES).and_then(entry::sequence) {
        Some(sequence) => sequence != next,
        None => end > DATA_START as u64 && tail.iter().all(|byte| *byte == 0),
    };
    if length >= header.capacity || ended {
        return Ok(());
    }
    let why = format!(
        "the file was made with {} bytes and has {length}: record {next} and what was behind it, if \
         they were there, are gone",
        header.capacity
    );
    Err(ReplayError::Damaged { file: scan.path().to_path_buf(), offset: end.min(length), why })
}

/// How many bytes of `tail`, which begins at `end`, belong to records that were not finished.
///
/// # Errors
///
/// When they were: records of a later group are there, so record `next` had been synced.
fn torn_tail(
    path: &Path,
    tail: &[u8],
    header: SegmentHeader,
    end: u64,
    next: u64,
) -> Result<u64, ReplayError> {
    let mut torn = match entry::check(tail, header.salt) {
        Some(Err(Header { sequence, length, .. })) if sequence == next => {
            tail.len().min(HEADER_BYTES + length as usize)
        }
        _ => 0,
    };
    let sums = Sums::new(tail);
    let mut offset = 0;
    while let Some(rest) = tail.get(offset..).filter(|rest| rest.len() >= HEADER_BYTES) {
        // Most of a tail was never written: whole pages of zeros.
        if rest.get(..ZEROS.len()) == Some(&ZEROS[..]) {
            offset += ZEROS.len() - HEADER_BYTES;
            continue;
        }
        let here = offset;
        offset += 1;
        // The number first: it is cheap, and lets almost nothing through.
        let Some(sequence) = entry::sequence(rest) else { break };
        // So many records find room in front of it.
        if sequence < next || sequence - next > (here / HEADER_BYTES) as u64 {
            continue;
        }
        let sum = |length| sums.of(here + HEADER_BYTES, length);
        let Some(whole) = entry::check_by(rest, header.salt, sum) else { continue };
        if header.synced && whole.header.group_first() > next {
            let why = format!("record {next} does not check, but record {sequence} behind it does");
            let file = path.to_path_buf();
            return Err(ReplayError::Damaged { file, offset: end, why });
        }
        torn = torn.max(here + whole.len());
    }
    Ok(torn as u64)
}

static ZEROS: [u8; 4_096] = [0; 4_096];

/// Checksums of any part of a tail, at about the same cost each.
///
/// A tail is what a former segment left, payloads and all. What looks like a header in it may claim
/// any length, at every byte: to sum up all of that for each would take hours.
struct Sums<'a> {
    bytes: &'a [u8],
    /// Of the first bytes, for each multiple of [`SUM_EVERY`].
    sums: Vec<u32>,
}

impl<'a> Sums<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut sums = vec![0];
        let mut sum = 0;
        for chunk in bytes.chunks_exact(SUM_EVERY) {
            sum = crc32c::crc32c_append(sum, chunk);
            sums.push(sum);
        }
        Self { bytes, sums }
    }

    /// Of `length` bytes from `from` on; they have to be there.
    fn of(&self, from: usize, length: usize) -> u32 {
        // That of all up to the end is made of that of what is before and this one.
        self.up_to(from + length) ^ crc32c::crc32c_combine(self.up_to(from), 0, length)
    }

    fn up_to(&self, end: usize) -> u32 {
        let sum = self.sums.get(end / SUM_EVERY).copied().unwrap_or_default();
        let rest = self.bytes.get(end - end % SUM_EVERY..end).unwrap_or_default();
        crc32c::crc32c_append(sum, rest)
    }
}

const SUM_EVERY: usize = 1_024;

/// Ends the records behind the last good one, and makes what was replayed, all between `from` and `end`,
/// safe: it counts as stored from now on.
///
/// It is written once more for that. A process that was killed may have left records that are in the
/// system's memory only, and one that ended over a failed sync may have left some there that the
/// system takes for written: a sync alone would not write them, and would succeed.
fn write_again(
    disk: &dyn Disk,
    directory: &Path,
    mut scan: Scan,
    from: u64,
    end: u64,
) -> Result<(), ReplayError> {
    let path = scan.path().to_path_buf();
    let file = disk.open(&path).context("open", &path)?;
    // What begins there must not be taken for a record when it is whole one day.
    let room = usize::try_from(scan.length().saturating_sub(end)).unwrap_or(HEADER_BYTES);
    let nothing = [0; HEADER_BYTES];
    let nothing = nothing.get(..room.min(HEADER_BYTES)).unwrap_or_default();
    file.write_at(nothing, end).context("write", &path)?;
    let again = scan.pieces(from, end, &mut |bytes, offset| file.write_at(bytes, offset));
    again.context("write", &path)?;
    file.sync_all().context("sync", &path)?;
    Ok(disk.sync_directory(directory).context("sync", directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_of_any_part_is_that_of_its_bytes() {
        let bytes: Vec<u8> = (0..5_000_u32).map(|at| ((at * at) >> 3).to_le_bytes()[0]).collect();
        let sums = Sums::new(&bytes);
        let places = [0, 1, 24, 1_023, 1_024, 1_025, 2_048, 3_333, 4_096, 4_999, 5_000];
        for from in places {
            for to in places.into_iter().filter(|to| *to >= from) {
                let expected = crc32c::crc32c(&bytes[from..to]);
                assert_eq!(sums.of(from, to - from), expected, "{from}..{to}");
            }
        }
    }
}

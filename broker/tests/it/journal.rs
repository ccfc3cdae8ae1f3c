//! The journal in files: what comes back after crashes, cuts and damage.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidings_broker::journal::{
    Entry, FileJournal, FileJournalOptions, Group, Journal, Recovered, ReplayError,
};
use tidings_core::record::Op;
use tidings_core::slot::ShardId;

use crate::support::{Random, copy, delete, put};

/// Where a segment's records begin.
const DATA_START: usize = 4_096;

fn journal(directory: &Path) -> FileJournal {
    FileJournal::new(FileJournalOptions {
        directory: directory.to_path_buf(),
        segment_bytes: 16 << 10,
        sync: true,
    })
}

fn replay(journal: &mut FileJournal, after: u64) -> Result<(Recovered, Vec<Entry>), ReplayError> {
    let mut entries = Vec::new();
    let recovered = journal.replay(after, &mut |entry| entries.push(entry))?;
    Ok((recovered, entries))
}

fn open(directory: &Path) -> (FileJournal, Vec<Entry>) {
    let mut journal = journal(directory);
    let (_, entries) = replay(&mut journal, 0).unwrap();
    (journal, entries)
}

fn append(journal: &mut FileJournal, records: &[Vec<Op>]) -> u64 {
    let mut group = Group::default();
    for ops in records {
        group.push(ShardId(3), ops).unwrap();
    }
    journal.append(&mut group).unwrap()
}

fn record(number: u64) -> Vec<Op> {
    vec![put(&number.to_be_bytes(), &vec![number as u8; 20 + number as usize % 7])]
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.sequence).collect()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("journal-"))
        .collect();
    files.sort();
    files
}

/// The ends of the groups in a segment's bytes, as lengths of records say.
fn record_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![];
    let mut offset = DATA_START;
    while bytes[offset + 8] != 0 {
        let length = u32::from_le_bytes(bytes[offset + 4..offset + 8].try_into().unwrap());
        offset += 24 + length as usize;
        ends.push(offset);
    }
    ends
}

/// A journal with a first group of two records, a second of three and a third of four.
fn three_groups() -> (TempDir, PathBuf, Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &[record(1), record(2)]);
    append(&mut journal, &[record(3), record(4), record(5)]);
    append(&mut journal, &[record(6), record(7), record(8), record(9)]);
    let path = segments(dir.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    let ends = record_ends(&bytes);
    assert_eq!(ends.len(), 9);
    (dir, path, bytes, ends)
}

#[test]
fn records_come_back_as_they_went() {
    let dir = tempfile::tempdir().unwrap();
    let all = Op::PutAll { keys: vec!["a".into(), "".into()], value: "v".into() };
    let first = vec![put(b"k", b""), all, delete(b"k")];
    {
        let (mut journal, found) = open(dir.path());
        assert_eq!(found, []);
        assert_eq!(append(&mut journal, &[first.clone(), vec![]]), 2);
        assert_eq!(append(&mut journal, &[record(3)]), 3);
    }
    let (mut journal, found) = open(dir.path());
    let entry = |sequence, ops| Entry { sequence, shard: ShardId(3), ops };
    assert_eq!(found, [entry(1, first), entry(2, vec![]), entry(3, record(3))]);
    assert_eq!(append(&mut journal, &[record(4)]), 4, "numbers go on");
}

#[test]
fn records_that_the_store_has_are_not_replayed() {
    let (dir, ..) = three_groups();
    let (recovered, found) = replay(&mut journal(dir.path()), 7).unwrap();
    assert_eq!(numbers(&found), [8, 9]);
    assert_eq!((recovered.records, recovered.last), (2, 9));
}

#[test]
fn an_unsynced_journal_that_lost_what_the_store_has_goes_on_behind_it() {
    let (dir, ..) = three_groups();
    let lost = replay(&mut journal(dir.path()), 20);
    assert!(matches!(lost, Err(ReplayError::Damaged { .. })), "each group was synced: {lost:?}");
    let journal = |directory: &Path| {
        FileJournal::new(FileJournalOptions {
            directory: directory.to_path_buf(),
            segment_bytes: 16 << 10,
            sync: false,
        })
    };
    // From here on the last segment says that it was not.
    drop(replay(&mut journal(dir.path()), 0).unwrap());
    {
        let mut journal = journal(dir.path());
        assert!(numbers(&replay(&mut journal, 20).unwrap().1).is_empty());
        assert_eq!(append(&mut journal, &[record(21)]), 21);
    }
    assert_eq!(numbers(&replay(&mut journal(dir.path()), 20).unwrap().1), [21]);
    let missing = replay(&mut journal(dir.path()), 8);
    assert!(matches!(missing, Err(ReplayError::Damaged { .. })), "10 to 20 were not stored");
}

#[test]
fn a_tail_torn_at_any_byte_is_left_out() {
    let (dir, path, bytes, ends) = three_groups();
    for cut in DATA_START..*ends.last().unwrap() {
        let mut torn = bytes[..cut].to_vec();
        torn.resize(bytes.len(), 0);
        for file in segments(dir.path()) {
            fs::remove_file(file).unwrap();
        }
        fs::write(&path, torn).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        let (mut journal, found) = open(dir.path());
        assert_eq!(numbers(&found), (1..=whole).collect::<Vec<_>>(), "torn at {cut}");
        // What comes next must not bring back what was left out.
        assert_eq!(append(&mut journal, &[record(99)]), whole + 1);
        let (_, found) = open(dir.path());
        assert_eq!(found.len() as u64, whole + 1);
        assert_eq!(found.last().unwrap().ops, record(99));
    }
}

#[test]
fn a_last_segment_that_was_cut_is_damage_unless_nothing_was_there() {
    let (dir, path, bytes, ends) = three_groups();
    let last = *ends.last().unwrap();
    for cut in DATA_START - 1..last + 30 {
        for file in segments(dir.path()) {
            fs::remove_file(file).unwrap();
        }
        fs::write(&path, &bytes[..cut]).unwrap();
        let result = replay(&mut journal(dir.path()), 0);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        // A checksum may begin with zeros, as what follows the last record does.
        let left = whole.checked_sub(1).map_or(&[1][..], |last| &bytes[ends[last]..cut]);
        if cut > last || (left.len() < 24 && left.iter().all(|byte| *byte == 0)) {
            assert_eq!(result.unwrap().1.len(), whole, "cut at {cut}");
        } else {
            assert!(matches!(result, Err(ReplayError::Damaged { .. })), "cut at {cut}: {result:?}");
        }
    }
}

#[test]
fn a_torn_tail_is_counted_and_a_clean_end_is_none() {
    let (dir, path, bytes, ends) = three_groups();
    let torn_bytes = || replay(&mut journal(dir.path()), 0).unwrap().0.torn_bytes;
    assert_eq!(torn_bytes(), 0);
    let mut torn = bytes.clone();
    torn[ends[5] - 1] ^= 1;
    for file in segments(dir.path()) {
        fs::remove_file(file).unwrap();
    }
    fs::write(&path, torn).unwrap();
    assert_eq!(torn_bytes(), (ends[8] - ends[4]) as u64);
    // Or a process that dies again and again would fill the disk with segments.
    assert_eq!(fs::metadata(&path).unwrap().len(), ends[4] as u64, "it was cut");
    assert_eq!(torn_bytes(), 0);
}

#[test]
fn a_flipped_bit_before_the_last_group_is_damage_and_in_it_a_torn_tail() {
    let (dir, path, bytes, ends) = three_groups();
    for (index, flipped) in (DATA_START..ends[8]).enumerate() {
        let mut damaged = bytes.clone();
        damaged[flipped] ^= 1 << (index % 8);
        for file in segments(dir.path()) {
            fs::remove_file(file).unwrap();
        }
        fs::write(&path, damaged).unwrap();
        let result = replay(&mut journal(dir.path()), 0);
        let hit = ends.iter().filter(|end| **end <= flipped).count();
        if flipped < ends[4] {
            let start = if hit == 0 { DATA_START } else { ends[hit - 1] } as u64;
            match result {
                Err(ReplayError::Damaged { file, offset, .. }) => {
                    assert_eq!((file, offset), (path.clone(), start));
                }
                other => panic!("byte {flipped}: {other:?}"),
            }
        } else {
            assert_eq!(numbers(&result.unwrap().1).len(), hit, "byte {flipped}");
        }
    }
}

#[test]
fn a_group_whose_sectors_arrive_in_any_order_is_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = open(dir.path());
    append(&mut first, &[vec![put(b"safe", &[1; 700])], vec![put(b"safe", &[2; 700])]]);
    let path = segments(dir.path()).remove(0);
    let before = fs::read(&path).unwrap();
    let group: Vec<_> = (0..8).map(|number| vec![put(&[number], &[number; 400])]).collect();
    append(&mut first, &group);
    let after = fs::read(&path).unwrap();
    let changed: Vec<usize> = (0..after.len() / 512)
        .filter(|sector| {
            let sector = sector * 512..(sector + 1) * 512;
            before[sector.clone()] != after[sector]
        })
        .collect();
    assert!(changed.len() > 6);
    let mut random = Random(1);
    for _ in 0..200 {
        let mut disk = before.clone();
        for sector in &changed {
            if random.below(2) == 0 {
                let sector = sector * 512..(sector + 1) * 512;
                disk[sector.clone()].copy_from_slice(&after[sector]);
            }
        }
        for file in segments(dir.path()) {
            fs::remove_file(file).unwrap();
        }
        fs::write(&path, disk).unwrap();
        let (_, found) = open(dir.path());
        assert!(found.len() >= 2, "what was synced is there");
        assert_eq!(numbers(&found), (1..=found.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn a_value_that_looks_like_a_record_is_not_believed() {
    // What another journal wrote, with numbers that would fit, and a torn record in front of it.
    let (_elsewhere, _, forged, ends) = three_groups();
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = open(dir.path());
    append(&mut first, &[record(1)]);
    append(&mut first, &[vec![put(b"bait", &forged[DATA_START..ends[8]])]]);
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let start = record_ends(&bytes)[0];
    bytes[start + 24] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(numbers(&open(dir.path()).1), [1]);
}

#[test]
fn segments_follow_each_other_and_used_ones_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = open(dir.path());
    for number in 1..=600 {
        append(&mut first, &[record(number)]);
    }
    let before = segments(dir.path());
    assert!(before.len() > 2, "{before:?}");
    first.forget(550).unwrap();
    let kept = segments(dir.path());
    assert!(kept.len() < before.len() && kept.last() == before.last());
    let spares = || {
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("spare-")).count()
    };
    assert!(spares() > 0);
    for number in 601..=1_200 {
        append(&mut first, &[record(number)]);
    }
    assert_eq!(spares(), 0, "they were used before new ones were made");
    drop(first);
    let (_, found) = replay(&mut journal(dir.path()), 550).unwrap();
    assert_eq!(numbers(&found), (551..=1_200).collect::<Vec<_>>());
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = open(dir.path());
    for number in 1..=600 {
        append(&mut first, &[record(number)]);
    }
    drop(first);
    let names = segments(dir.path());
    for missing in &names[..names.len() - 1] {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        fs::remove_file(copied.path().join(missing.file_name().unwrap())).unwrap();
        let result = replay(&mut journal(copied.path()), 0);
        assert!(matches!(result, Err(ReplayError::Damaged { .. })), "{result:?}");
    }
    for name in names {
        fs::remove_file(name).unwrap();
    }
    let result = replay(&mut journal(dir.path()), 5);
    assert!(matches!(result, Err(ReplayError::Damaged { .. })), "{result:?}");
}

#[test]
fn damage_at_the_end_of_a_segment_that_is_not_the_last_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = open(dir.path());
    for number in 1..=600 {
        append(&mut first, &[record(number)]);
    }
    drop(first);
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let ends = record_ends_of_full(&bytes);
    bytes[ends - 1] ^= 1;
    fs::write(&path, bytes).unwrap();
    let result = replay(&mut journal(dir.path()), 0);
    assert!(matches!(result, Err(ReplayError::Damaged { .. })), "{result:?}");
}

/// The end of the last record of a segment that may be full to the last byte.
fn record_ends_of_full(bytes: &[u8]) -> usize {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() + 64, 0);
    *record_ends(&padded).last().unwrap()
}

#[test]
fn a_group_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = open(dir.path());
    append(&mut first, &[record(1)]);
    append(&mut first, &[vec![put(b"large", &[7; 100_000])]]);
    append(&mut first, &[record(3)]);
    drop(first);
    let (mut second, found) = open(dir.path());
    assert_eq!(numbers(&found), [1, 2, 3]);
    append(&mut second, &[record(4)]);
    second.forget(4).unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
}

#[test]
fn a_segment_of_another_version_is_refused() {
    let (dir, path, mut bytes, _) = three_groups();
    bytes[8] = 9;
    let checksum = crc32c::crc32c(&bytes[..24]);
    bytes[24..28].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32c::crc32c_append(checksum, &bytes[28..36]);
    bytes[36..40].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let result = replay(&mut journal(dir.path()), 0);
    assert!(
        matches!(result, Err(ReplayError::FormatVersion { found: 9, expected: 1, .. })),
        "{result:?}"
    );
}

#[test]
fn an_unsynced_journal_is_cut_at_its_first_damage() {
    // Without syncs, a power cut loses sectors of any group: nothing was promised.
    let dir = tempfile::tempdir().unwrap();
    let unsynced = || {
        FileJournal::new(FileJournalOptions {
            directory: dir.path().to_path_buf(),
            segment_bytes: 16 << 10,
            sync: false,
        })
    };
    let mut first = unsynced();
    replay(&mut first, 0).unwrap();
    for number in 1..=9 {
        append(&mut first, &[record(number)]);
    }
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let start = record_ends(&bytes)[4];
    bytes[start + 3] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (recovered, found) = replay(&mut unsynced(), 0).unwrap();
    assert_eq!(numbers(&found), [1, 2, 3, 4, 5]);
    assert!(recovered.torn_bytes > 0);
}

#[test]
fn any_bytes_as_a_segment_never_panic() {
    let (dir, path, bytes, ends) = three_groups();
    let mut random = Random(2);
    for _ in 0..300 {
        let mut bytes = bytes[..ends[8]].to_vec();
        for _ in 0..=random.below(6) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        for file in segments(dir.path()) {
            fs::remove_file(file).unwrap();
        }
        fs::write(&path, bytes).unwrap();
        let _any = replay(&mut journal(dir.path()), random.below(12));
    }
}

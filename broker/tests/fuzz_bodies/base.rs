//! What must hold of a base or a copy that broke: the body of a fuzz target, as a plain function.
//!
//! An input is bytes to be read as they are, or spells a file that is written, and what becomes of
//! it. Reading never panics, and gives back either what was written, all of it, or first of it and
//! then an error that names a place in the file.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which fail where they panic"
)]

use std::path::Path;

use bytes::Bytes;
use tidings_broker::base::{BaseError, Block, Header, Kind, Reader, Totals, Writer};
use tidings_broker::journal::Entry;
use tidings_core::record::Op;
use tidings_core::slot::ShardId;

/// Reads `data`, and what it spells.
pub(crate) fn any_bytes(data: &[u8]) {
    let _refused = read(data);
    let Some((how, data)) = data.split_first() else { return };
    let written = Written::new(data);
    let mut file = written.file.clone();
    match how % 4 {
        0 => {}
        1 => file.truncate(usize::from(*how) * file.len() / 256),
        2 => {
            let at = data.len() * 7 % file.len();
            file[at] ^= how | 1;
        }
        _ => file.push(*how),
    }
    let (rows, entries, end) = read(&file);
    assert!(written.rows.starts_with(&rows) && written.entries.starts_with(&entries));
    match end {
        Ok(totals) => {
            assert_eq!(file, written.file, "what is not what was written is refused");
            assert_eq!((rows.len(), entries.len()), (written.rows.len(), written.entries.len()));
            assert_eq!(totals, written.totals);
        }
        Err(BaseError::Damaged { offset, .. }) => {
            assert!(file != written.file);
            assert!(offset <= file.len() as u64);
        }
        Err(other) => panic!("{other}"),
    }
}

struct Written {
    rows: Vec<(Bytes, Bytes)>,
    entries: Vec<Entry>,
    file: Vec<u8>,
    totals: Totals,
}

impl Written {
    /// A row for each two bytes below 128, then a record for each two.
    fn new(data: &[u8]) -> Self {
        let header = Header { kind: Kind::Copy, salt: 9, complete_to: 5, created_ms: 6 };
        let mut writer = Writer::new(Vec::new(), header).unwrap();
        let (mut rows, mut entries) = (Vec::new(), Vec::new());
        for pair in data.chunks_exact(2) {
            let (first, length) = (pair[0], usize::from(pair[1]) * usize::from(pair[1]));
            let value = Bytes::from(vec![first; length]);
            if first < 128 && entries.is_empty() {
                let key = Bytes::from(vec![
                    u8::try_from(rows.len() % 256).unwrap();
                    1 + rows.len() / 256
                ]);
                if rows.last().is_some_and(|(last, _): &(Bytes, Bytes)| *last >= key) {
                    continue;
                }
                writer.row(&key, &value).unwrap();
                rows.push((key, value));
            } else {
                let (sequence, shard) = (6 + entries.len() as u64, ShardId(u16::from(first)));
                let key = Bytes::from_static(b"key");
                let ops = vec![Op::Put { key: key.clone(), value }, Op::Delete { key }];
                writer.record(sequence, shard, &ops).unwrap();
                entries.push(Entry { sequence, shard, ops });
            }
        }
        let (file, totals) = writer.finish(8).unwrap();
        Self { rows, entries, file, totals }
    }
}

type Read = (Vec<(Bytes, Bytes)>, Vec<Entry>, Result<Totals, BaseError>);

fn read(file: &[u8]) -> Read {
    let (mut rows, mut entries) = (Vec::new(), Vec::new());
    let mut read = || {
        let mut reader = Reader::new(file, Path::new("input"))?;
        while let Some(block) = reader.next()? {
            match block {
                Block::Rows(more) => rows.extend(more),
                Block::Records(more) => entries.extend(more),
            }
        }
        Ok(reader.totals())
    };
    let end = read();
    (rows, entries, end)
}

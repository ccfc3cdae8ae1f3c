//! Rows in memory: for who wants no history, for rooms, and for tests.

use super::{Change, Row, Store};
use crate::error::StoreError;
use crate::hub::lock;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

/// A [`Store`] that ends with the program: sends that are not answered by then are lost.
#[derive(Default)]
pub struct MemoryStore {
    rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

// The rows are messages.
impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut rows = lock(&self.rows);
        for change in changes {
            match change {
                Change::Put { key, value } => drop(rows.insert(key.clone(), value.clone())),
                Change::Delete { key } => drop(rows.remove(key)),
                Change::DeleteRange { from, to } => {
                    if from < to {
                        let mut rest = rows.split_off(from);
                        rows.append(&mut rest.split_off(to));
                    }
                }
            }
        }
        Ok(())
    }

    fn read(
        &self,
        range: Range<&[u8]>,
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if range.start >= range.end {
            return Ok(Vec::new());
        }
        let rows = lock(&self.rows);
        let found = rows.range(range.start.to_vec()..range.end.to_vec());
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match backwards {
            false => found.take(limit).map(owned).collect(),
            true => found.rev().take(limit).map(owned).collect(),
        })
    }
}

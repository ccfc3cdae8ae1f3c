//! The ids of a chat's sends: what makes a retry harmless.
//!
//! All of them are rows; the newest are in memory too. While memory holds all there are, a new id
//! is known to be new without a look at the store; a chat too busy for that asks the store.

use std::collections::VecDeque;

use crate::map::{Map, map};
use crate::rows::{IdHash, IdRow};

/// What is known of a chat's ids.
#[derive(Debug)]
pub(crate) struct Ids {
    known: Map<IdHash, IdRow>,
    /// In the order of their places.
    order: VecDeque<IdHash>,
    /// Whether every row is in memory.
    pub(crate) complete: bool,
}

impl Ids {
    /// What was read of the rows.
    pub(crate) fn new(mut rows: Vec<(IdHash, IdRow)>, complete: bool) -> Self {
        rows.sort_by_key(|(_, row)| row.seq);
        let mut ids = Self { known: map(), order: VecDeque::new(), complete };
        for (id, row) in rows {
            ids.insert(id, row);
        }
        ids
    }

    pub(crate) fn get(&self, id: &IdHash) -> Option<&IdRow> {
        self.known.get(id)
    }

    /// What is known of the id that has this place.
    pub(crate) fn of_place(&self, seq: u64) -> Option<&IdRow> {
        let known = |id: &IdHash| self.known.get(id);
        let at = self.order.partition_point(|id| known(id).is_some_and(|row| row.seq < seq));
        known(self.order.get(at)?).filter(|row| row.seq == seq)
    }

    /// Remembers the id of a place behind all others.
    pub(crate) fn insert(&mut self, id: IdHash, row: IdRow) {
        if self.known.insert(id, row).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > IDS_MAX {
            self.complete = false;
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Forgets ids whose rows are gone.
    pub(crate) fn forget(&mut self, gone: &[IdHash]) {
        for id in gone {
            self.known.remove(id);
        }
        self.order.retain(|id| self.known.contains_key(id));
    }

    /// Whether there is no row to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.complete && self.known.is_empty()
    }
}

/// How many ids of a chat are in memory: more than sends can wait at once, so that one that is
/// not stored yet is always among them.
pub(crate) const IDS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use tidings_core::time::Time;

    use super::*;

    fn id(number: u64) -> (IdHash, IdRow) {
        let mut hash = IdHash::default();
        hash[..8].copy_from_slice(&number.to_le_bytes());
        (hash, IdRow::new(number, hash, [0; 4], Time::default()))
    }

    #[test]
    fn the_oldest_ids_leave_memory_first_and_then_it_is_incomplete() {
        let mut ids = Ids::new(vec![id(2), id(1)], true);
        for number in 3..=IDS_MAX as u64 {
            let (hash, row) = id(number);
            ids.insert(hash, row);
        }
        assert!(ids.complete && ids.get(&id(1).0).is_some());
        let seq = |seq| ids.of_place(seq).map(|row| row.seq);
        assert_eq!([0, 1, 99, 5_000].map(seq), [None, Some(1), Some(99), None]);
        let (hash, row) = id(5_000);
        ids.insert(hash, row);
        assert!(!ids.complete && ids.get(&id(1).0).is_none());
        assert!(ids.get(&id(2).0).is_some() && ids.get(&hash).is_some());
        ids.forget(&[id(2).0]);
        assert!(ids.get(&id(2).0).is_none() && !ids.is_empty());
    }
}

//! A store with the promises of sled and no more: between two flushes, a crash keeps any of what
//! was put, in no order.
//!
//! What is not flushed is the process's own: a kill takes it as a power cut does.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_broker::store::{Store, StoreFailure, Visitor, Wanted};
use tidings_core::record::KeyRange;

use crate::disk::SimDisk;
use crate::faults::Fault;
use crate::rng::Rng;

/// A [`Store`] that forgets.
#[derive(Debug)]
pub(crate) struct SimStore {
    disk: SimDisk,
    fault: Fault,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    rows: BTreeMap<Bytes, Bytes>,
    safe: BTreeMap<Bytes, Bytes>,
    /// Since the last flush.
    pending: Vec<(Bytes, Option<Bytes>)>,
    complete_to: u64,
}

impl SimStore {
    pub(crate) fn new(disk: SimDisk, rng: Rng, fault: Fault) -> Self {
        let (rows, safe) = (BTreeMap::new(), BTreeMap::new());
        let state = State { rng, rows, safe, pending: Vec::new(), complete_to: 0 };
        Self { disk, fault, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_go_on(&self, operation: &'static str) -> Result<(), StoreFailure> {
        self.disk.fails().map_or(Ok(()), |error| Err(StoreFailure::new(operation, error)))
    }

    /// The process is gone.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        let State { rng, rows, safe, pending, .. } = &mut *state;
        if pending.is_empty() {
            return;
        }
        let odds = 1 + rng.below(4);
        for (key, value) in pending.drain(..) {
            if rng.one_in(odds) {
                apply(safe, key, value);
            }
        }
        rows.clone_from(safe);
    }
}

fn apply(rows: &mut BTreeMap<Bytes, Bytes>, key: Bytes, value: Option<Bytes>) {
    match value {
        Some(value) => {
            rows.insert(key, value);
        }
        None => {
            rows.remove(&key);
        }
    }
}

impl Store for SimStore {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreFailure> {
        self.may_go_on("put")?;
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        let mut state = self.state();
        state.rows.insert(key.clone(), value.clone());
        state.pending.push((key, Some(value)));
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<bool, StoreFailure> {
        self.may_go_on("delete")?;
        let mut state = self.state();
        if self.fault == Fault::DeleteForgotten {
            return Ok(state.rows.contains_key(key));
        }
        let was = state.rows.remove(key).is_some();
        if was {
            state.pending.push((Bytes::copy_from_slice(key), None));
        }
        Ok(was)
    }

    fn visit(
        &self,
        range: &KeyRange,
        backwards: bool,
        visitor: &mut dyn Visitor,
    ) -> Result<(), StoreFailure> {
        if range.end.as_ref().is_some_and(|end| *end <= range.start) {
            return Ok(());
        }
        let state = self.state();
        let end = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = state.rows.range::<[u8], _>((Bound::Included(&range.start[..]), end));
        while let Some((key, value)) = if backwards { rows.next_back() } else { rows.next() } {
            match visitor.meet(key) {
                Wanted::Value => visitor.take(key, value.clone()),
                Wanted::Skip => {}
                Wanted::Stop => break,
            }
        }
        Ok(())
    }

    fn flush(&self, complete_to: u64) -> Result<(), StoreFailure> {
        self.may_go_on("flush")?;
        let mut state = self.state();
        let State { safe, pending, .. } = &mut *state;
        if self.fault != Fault::FlushForgotten {
            for (key, value) in pending.drain(..) {
                apply(safe, key, value);
            }
        }
        state.complete_to = complete_to;
        Ok(())
    }

    fn complete_to(&self) -> Result<u64, StoreFailure> {
        Ok(self.state().complete_to)
    }
}

//! A store that forgets: for `durability = "memory"`, where it stays empty, and for tests.
//!
//! With nothing durable there is nothing to checkpoint: every row stays in its shard's overlay.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tidings_core::record::KeyRange;

use super::{Store, StoreFailure, Visitor, Wanted};

/// A [`Store`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rows: BTreeMap<Bytes, Bytes>,
    complete_to: u64,
}

impl MemoryStore {
    fn inner<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for MemoryStore {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreFailure> {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.inner(|inner| inner.rows.insert(key, value));
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<bool, StoreFailure> {
        Ok(self.inner(|inner| inner.rows.remove(key).is_some()))
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
        self.inner(|inner| {
            let mut rows = inner.rows.range::<[u8], _>(super::overlay::bounds(range));
            while let Some((key, value)) = if backwards { rows.next_back() } else { rows.next() } {
                match visitor.meet(key) {
                    Wanted::Value => visitor.take(key, value.clone()),
                    Wanted::Skip => {}
                    Wanted::Stop => break,
                }
            }
        });
        Ok(())
    }

    fn flush(&self, complete_to: u64) -> Result<(), StoreFailure> {
        self.inner(|inner| inner.complete_to = complete_to);
        Ok(())
    }

    fn complete_to(&self) -> Result<u64, StoreFailure> {
        Ok(self.inner(|inner| inner.complete_to))
    }
}

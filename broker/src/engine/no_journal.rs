//! What stands where a journal would be when nothing is durable.

use crate::journal::{Entry, Group, Journal, JournalError, Recovered, ReplayError};

/// Nobody appends to it.
#[derive(Debug)]
pub(super) struct NoJournal;

impl Journal for NoJournal {
    fn replay(
        &mut self,
        _after: u64,
        _each: &mut dyn FnMut(Entry),
    ) -> Result<Recovered, ReplayError> {
        Ok(Recovered::default())
    }

    fn append(&mut self, _group: &mut Group) -> Result<u64, JournalError> {
        Ok(0)
    }

    fn forget(&mut self, _through: u64) -> Result<(), JournalError> {
        Ok(())
    }
}

//! An engine without threads: whoever has it takes each step of theirs by hand.
//!
//! For a simulation, where a seed decides which of them goes on next, and what is in between when
//! the power goes. The steps are the threads' own, and so is their order.

use std::sync::Arc;

use super::{Durability, Engine, EngineOptions, OpenError, ShardStore, Workers};
use crate::commit::Work;
use crate::journal::Journal;
use crate::store::{Store, StoreFailure};

/// An [`Engine`] with the work of its threads.
///
/// Dropping it is like being killed. After a step has failed none may be taken: shards are told of
/// the failure, as by a thread's.
#[derive(Debug)]
pub struct Manual {
    engine: Engine,
    workers: Workers,
}

impl Manual {
    /// As [`Engine::open_with`], without threads; for a journal that is durable.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(
        options: &EngineOptions,
        journal: Box<dyn Journal>,
        store: Arc<dyn Store>,
    ) -> Result<(Self, Vec<ShardStore>), OpenError> {
        debug_assert!(options.durability != Durability::Memory, "there is nothing to do then");
        let (engine, workers, stores) = Engine::prepare(options, None, journal, store)?;
        Ok((Self { engine, workers }, stores))
    }

    /// The engine, to be looked at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What waits for [`commit`](Self::commit).
    pub fn work(&self) -> Work {
        self.engine.hub.work()
    }

    /// The committer's step: all that was handed over becomes safe, as one group.
    ///
    /// # Errors
    ///
    /// When the journal fails.
    pub fn commit(&mut self) -> Result<(), StoreFailure> {
        self.engine.hub.take_on_work();
        let committed = self.workers.committer.commit_waiting();
        self.told(committed)
    }

    /// The checkpointer's next step, if there is one that need not wait. Whether there was.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn checkpoint(&mut self) -> Result<bool, StoreFailure> {
        if !self.workers.checkpointer.is_ready() {
            return Ok(false);
        }
        let stepped = self.workers.checkpointer.step().map(|()| true);
        self.told(stepped)
    }

    /// The reader's step: answers the oldest read. Whether there was one.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn read(&mut self) -> Result<bool, StoreFailure> {
        let answered = self.workers.reader.answer_one();
        self.told(answered)
    }

    /// As [`Engine::shutdown`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn shutdown(mut self) -> Result<(), StoreFailure> {
        self.commit()?;
        let journal = self.workers.committer.into_journal();
        self.engine.close(Some(journal))
    }

    fn told<T>(&self, result: Result<T, StoreFailure>) -> Result<T, StoreFailure> {
        result.inspect_err(|failure| self.engine.hub.fail(failure.clone()))
    }
}

//! The reader: answers reads one after the other, so that each shard's come in order.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tidings_core::record::Query;

use crate::commit::{Hub, Lane, count, lock};
use crate::store::overlay::{Rows, newest_first};
use crate::store::{Store, StoreFailure, read};

/// What the reader is asked for.
#[derive(Debug)]
pub(super) enum ReadRequest {
    /// Rows of a shard.
    Rows {
        lane: Arc<Lane>,
        id: u64,
        /// Of the range that `top` is complete for.
        query: Query,
        /// What the shard wrote last, as far as it can matter.
        top: Rows,
        /// The shard's frozen rows, the oldest first.
        layers: Vec<Arc<Rows>>,
    },
    /// No more reads: the engine ends.
    End,
}

/// Answers what shards ask for.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) hub: Arc<Hub>,
    pub(super) store: Arc<dyn Store>,
    pub(super) requests: Receiver<ReadRequest>,
}

impl Reader {
    /// The thread: until the engine ends or fails.
    pub(super) fn run(self) {
        while let Ok(request) = self.requests.recv() {
            if self.hub.failure().is_some() {
                break;
            }
            match self.answer(request) {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) => {
                    self.hub.fail(failure);
                    break;
                }
            }
        }
    }

    /// Answers the oldest request, if there is one. Whether there was.
    pub(super) fn answer_one(&self) -> Result<bool, StoreFailure> {
        self.requests.try_recv().map_or(Ok(false), |request| self.answer(request))
    }

    /// `false`: there will be no more.
    fn answer(&self, request: ReadRequest) -> Result<bool, StoreFailure> {
        let ReadRequest::Rows { lane, id, query, top, layers } = request else { return Ok(false) };
        let layers = std::iter::once(&top).chain(newest_first(&layers));
        let answer = read::read(&*self.store, layers, &query)?;
        count(&self.hub.counters.reads, 1);
        lock(&lane.answers).push_back((id, answer));
        lane.wake();
        Ok(true)
    }
}

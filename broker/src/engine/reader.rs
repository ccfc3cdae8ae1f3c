//! The reader: answers reads one after the other, so that each shard's come in order.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tidings_core::record::Query;

use crate::commit::{Hub, Lane, count, lock};
use crate::store::overlay::{Rows, newest_first};
use crate::store::{Store, read};

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

pub(super) fn run(hub: &Hub, store: &dyn Store, requests: &Receiver<ReadRequest>) {
    while let Ok(ReadRequest::Rows { lane, id, query, top, layers }) = requests.recv() {
        if hub.failure().is_some() {
            break;
        }
        let layers = std::iter::once(&top).chain(newest_first(&layers));
        match read::read(store, layers, &query) {
            Ok(answer) => {
                count(&hub.counters.reads, 1);
                lock(&lane.answers).push_back((id, answer));
                lane.wake();
            }
            Err(failure) => {
                hub.fail(failure);
                break;
            }
        }
    }
}

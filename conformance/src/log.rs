//! What a case did on all its connections: bytes for the report, topics for tidying up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of a case, sent and received on all its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    lines: Vec<String>,
    retained: BTreeSet<Vec<u8>>,
    beyond: Option<String>,
}

impl Log {
    pub(crate) fn push(&self, line: String) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if record.lines.len() < LINES_MAX {
            record.lines.push(line);
        }
    }

    /// What was sent and received so far, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// The topics that hold a retained message, for the last time.
    pub(crate) fn take_retained(&self) -> BTreeSet<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).retained)
    }

    /// Notes that the case uses what the Server said it does not offer.
    pub(crate) fn beyond(&self, what: String) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record.beyond.get_or_insert(what);
    }

    /// What the case used though the Server does not offer it.
    pub(crate) fn used_beyond(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).beyond.clone()
    }

    pub(crate) fn retained(&self, topic: &[u8]) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record.retained.insert(topic.to_vec());
    }
}

/// What a transcript holds at most; a broker that floods us should not fill our memory.
const LINES_MAX: usize = 1000;

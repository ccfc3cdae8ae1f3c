//! What the threads of a run tell each other.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a thread has done, for others to read.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Messages published.
    pub(crate) sent: AtomicU64,
    /// PUBLISHes received.
    pub(crate) delivered: AtomicU64,
}

/// What all threads are to do.
#[derive(Debug, Default)]
pub(crate) struct Stage(AtomicU8);

impl Stage {
    /// Nothing yet.
    pub(crate) const WAIT: u8 = 0;
    /// The work, unmeasured.
    pub(crate) const WARM: u8 = 1;
    /// The work, measured.
    pub(crate) const MEASURE: u8 = 2;
    /// To send no more.
    pub(crate) const DRAIN: u8 = 3;

    /// Goes on to a stage.
    pub(crate) fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Release);
    }

    /// Where it is.
    pub(crate) fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }
}

//! What keeps a client going: every clone, chat and stream holds it, and the last one closes it.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::engine::Shared;
use crate::writer::Job;

/// What every handle holds; its end is the client's end.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
    /// Bounds the sends that wait for the disk.
    pub(crate) appends: Semaphore,
    pub(crate) payload_bytes_max: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

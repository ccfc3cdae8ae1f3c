//! The thread that tells every shard what the broker says of itself under `$SYS`.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tidings_core::system::{System, SystemValue};

use crate::clock::Clock;
use crate::mail::{Mail, Post};
use crate::metrics::Metrics;

/// The thread; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Teller {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Teller {
    /// Tells once before it returns, so that the first Client finds something, and then after each
    /// `interval`.
    pub(crate) fn start(
        metrics: Arc<Metrics>,
        posts: Vec<Post>,
        clock: Clock,
        interval: Duration,
    ) -> io::Result<Self> {
        let mut system = System::new(concat!("tidings version ", env!("CARGO_PKG_VERSION")));
        let mut tell = move || {
            let values: Arc<[SystemValue]> = system.sample(&metrics.snapshot(), clock.now()).into();
            for post in &posts {
                post.send(Mail::System(Arc::clone(&values)));
            }
        };
        tell();
        let (stop, stopped) = channel::<()>();
        let run = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
                tell();
            }
        };
        let thread = std::thread::Builder::new().name("system".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked_already = thread.join();
        }
    }
}

//! How far something is that takes long: one line of a terminal, and nothing anywhere else.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line on standard error, written over again and again.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown: None, is_terminal: io::stderr().is_terminal() }
    }

    /// Shows a line, if the last is old enough.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= SHOW_EVERY);
        if self.is_terminal && is_due {
            self.shown = Some(Instant::now());
            eprint!("\r{}\x1b[K", line());
            let _ = io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

const SHOW_EVERY: Duration = Duration::from_millis(200);

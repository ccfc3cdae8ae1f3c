//! One line on a terminal that says how far a run is.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// The line; nothing where standard error is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    shown: bool,
    said: bool,
}

impl Progress {
    /// Of a work.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, shown: std::io::stderr().is_terminal(), said: false }
    }

    /// Says how many there are, and how much time is gone of how much.
    pub(crate) fn tell(&mut self, count: u64, unit: &str, gone: Duration, of: Option<Duration>) {
        if self.shown {
            let of = of.map_or(String::new(), |of| format!(" of {:.0}", of.as_secs_f64()));
            let line =
                format!("\r\x1b[K{}: {count} {unit}, {:.0}{of} s", self.what, gone.as_secs_f64());
            // A terminal that is gone is no reason to stop.
            let _ = std::io::stderr().write_all(line.as_bytes());
            self.said = true;
        }
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.said) {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

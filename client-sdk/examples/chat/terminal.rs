//! How large the terminal is.
//!
//! The standard library does not say; `stty` does. Where there is none the terminal is taken for the
//! smallest that is usual, and ticks further up stay as they were. It may be resized at any time, so
//! it is asked again, but not for every line of a burst.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The terminal's size when it was last asked.
#[derive(Default)]
pub(crate) struct Terminal {
    asked: Option<(Instant, Size)>,
}

#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    columns: usize,
}

impl Terminal {
    /// How many rows a line of this many characters takes.
    pub(crate) fn rows_of(&mut self, width: usize) -> usize {
        width.max(1).div_ceil(self.size().columns)
    }

    /// Whether the line that many rows above the one being typed is still to be seen.
    pub(crate) fn shows(&mut self, up: usize) -> bool {
        up < self.size().rows
    }

    fn size(&mut self) -> Size {
        match self.asked {
            Some((at, size)) if at.elapsed() < AGAIN => size,
            _ => {
                let size = ask().unwrap_or(USUAL);
                self.asked = Some((Instant::now(), size));
                size
            }
        }
    }
}

fn ask() -> Option<Size> {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    let size = Size { rows: rows.parse().ok()?, columns: columns.parse().ok()? };
    // Some terminals do not know, and say 0.
    (size.rows > 0 && size.columns > 0).then_some(size)
}

const USUAL: Size = Size { rows: 20, columns: 80 };

/// How long an answer holds.
const AGAIN: Duration = Duration::from_secs(1);

//! What is printed, and where on the terminal it is.
//!
//! The terminal itself echoes what is typed, in its last line. What comes in is printed above it,
//! and the ticks of a line that is still near change in place; a line that has moved too far up
//! keeps the ticks it had.

use crate::words::{clock, now_ms, printable, text_of, utc_offset_s};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use tidings_client::{Entry, Presence};

/// What is printed, and where on the terminal it is.
pub(crate) struct Screen {
    pub(crate) you: String,
    pub(crate) them: String,
    pub(crate) address: String,
    rich: bool,
    utc_offset_s: i64,
    /// The last lines, newest at the back.
    lines: VecDeque<Line>,
    delivered: u64,
    read: u64,
    pub(crate) presence: Option<Presence>,
    pub(crate) presence_said: String,
    pub(crate) unreachable_said: bool,
}

enum Line {
    Own { id: String, time: String, text: String, seq: Option<u64>, ticks: Ticks },
    Other { rows: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ticks {
    Waiting,
    Stored,
    Delivered,
    Read,
    Failed,
}

impl Screen {
    pub(crate) fn new(you: String, them: String, address: String) -> Self {
        Self {
            you,
            them,
            address,
            // Without an input line to keep, or without a terminal to keep it on, plain lines do.
            rich: io::stdout().is_terminal() && io::stdin().is_terminal(),
            utc_offset_s: utc_offset_s(),
            lines: VecDeque::new(),
            delivered: 0,
            read: 0,
            presence: None,
            presence_said: String::new(),
            unreachable_said: false,
        }
    }

    pub(crate) fn sent(&mut self, id: &str, text: &str) {
        let (id, time) = (id.to_owned(), clock(self.utc_offset_s, now_ms()));
        let (text, ticks) = (printable(text), Ticks::Waiting);
        if self.rich {
            self.erase_typed(&text);
            let line = self.own(&time, &text, ticks);
            print!("{line}\r\n");
            flush();
        }
        self.remember(Line::Own { id, time, text, seq: None, ticks });
    }

    pub(crate) fn received(&mut self, entry: &Entry) {
        let (text, time) = (printable(&text_of(entry)), clock(self.utc_offset_s, entry.time));
        let from = self.colour("1", &entry.from);
        let time = self.colour("2", &time);
        self.print(&format!("{time} {from}: {text}"), 7 + entry.from.len() + text.chars().count());
    }

    pub(crate) fn stored(&mut self, id: &str, stored: u64) {
        if let Some(Line::Own { seq, .. }) = self.lines.iter_mut().find(|line| line.is(id)) {
            *seq = Some(stored);
        }
        self.refresh();
    }

    pub(crate) fn failed(&mut self, id: &str, why: &str) {
        if let Some(at) = self.lines.iter().position(|line| line.is(id)) {
            self.set_ticks(at, Ticks::Failed);
        }
        self.note(&format!("not stored: {why}"));
    }

    pub(crate) fn receipt(&mut self, delivered: u64, read: u64) {
        self.delivered = self.delivered.max(delivered);
        self.read = self.read.max(read);
        self.refresh();
    }

    fn refresh(&mut self) {
        for at in 0..self.lines.len() {
            let Some(Line::Own { seq: Some(seq), .. }) = self.lines.get(at) else { continue };
            let due = match *seq {
                seq if seq <= self.read => Ticks::Read,
                seq if seq <= self.delivered => Ticks::Delivered,
                _ => Ticks::Stored,
            };
            self.set_ticks(at, due);
        }
    }

    /// Changes the ticks of a line where it stands, if it is still near; or says so on a new line.
    fn set_ticks(&mut self, at: usize, due: Ticks) {
        let Some(Line::Own { time, text, ticks, .. }) = self.lines.get_mut(at) else { return };
        if *ticks == due {
            return;
        }
        *ticks = due;
        let (time, text) = (time.clone(), text.clone());
        let line = self.own(&time, &text, due);
        if !self.rich {
            println!("{line}");
            return flush();
        }
        let up: usize = self.lines.range(at..).map(Line::rows).sum();
        let height = self.lines.get(at).map_or(1, Line::rows);
        if height == 1 && up <= NEAR_ROWS {
            print!("\x1b7\x1b[{up}A\r{line}\x1b[K\x1b8");
            flush();
        }
    }

    pub(crate) fn leave(&mut self, unsent: usize) {
        if unsent > 0 {
            self.note(&format!("{unsent} unsent: they go when you are back"));
        }
        if self.rich {
            // The shell's prompt begins below what was being typed.
            println!();
        }
    }

    pub(crate) fn note(&mut self, text: &str) {
        let text = printable(text);
        let line = self.colour("2", &format!("-- {text}"));
        self.print(&line, 3 + text.chars().count());
    }

    /// Prints a line above what is being typed.
    fn print(&mut self, line: &str, width: usize) {
        if !self.rich {
            println!("{line}");
            return flush();
        }
        let rows = width.max(1).div_ceil(COLUMNS);
        // Make room below without moving the column, insert above the typed line, come back.
        for _ in 0..rows {
            print!("\x1bD\x1b[A\x1b7\r\x1b[L\x1b8\x1b[B");
        }
        print!("\x1b7\x1b[{rows}A\r{line}\x1b8");
        flush();
        self.remember(Line::Other { rows });
    }

    /// Removes what the terminal echoed when Enter was pressed.
    pub(crate) fn erase_typed(&self, typed: &str) {
        if self.rich {
            let rows = typed.chars().count().max(1).div_ceil(COLUMNS);
            for _ in 0..rows {
                print!("\x1b[A\r\x1b[K");
            }
            flush();
        }
    }

    fn remember(&mut self, line: Line) {
        self.lines.push_back(line);
        if self.lines.len() > LINES_MAX {
            self.lines.pop_front();
        }
    }

    fn own(&self, time: &str, text: &str, ticks: Ticks) -> String {
        let ticks = match ticks {
            Ticks::Waiting => self.colour("2", "…"),
            Ticks::Stored => self.colour("2", "✓"),
            Ticks::Delivered => self.colour("2", "✓✓"),
            Ticks::Read if self.rich => self.colour("34", "✓✓"),
            Ticks::Read => "✓✓ read".to_owned(),
            Ticks::Failed => self.colour("31", "✗"),
        };
        format!("{} {}: {text} {ticks}", self.colour("2", time), self.you)
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.rich { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Line {
    fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Own { id, .. } if id == wanted)
    }

    fn rows(&self) -> usize {
        match self {
            // Time, a space, a name of up to 64, ": ", the text, a space and ticks: estimated high.
            Self::Own { text, .. } => (text.chars().count() + 20).div_ceil(COLUMNS),
            Self::Other { rows } => *rows,
        }
    }
}

fn flush() {
    // A closed pipe is noticed by the next read of standard input.
    let _ = io::stdout().flush();
}

/// Narrower than this, long lines look untidy; ticks are changed only on lines that fit.
const COLUMNS: usize = 80;

/// How far up a line may stand and still be certainly on the screen.
const NEAR_ROWS: usize = 20;

const LINES_MAX: usize = 100;

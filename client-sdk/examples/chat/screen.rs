//! What is printed, and where on the terminal it is.
//!
//! The terminal itself echoes what is typed, in its last line. What comes in is printed above it,
//! and the ticks of a line that is still near change in place; a line that has moved too far up
//! keeps the ticks it had.

use crate::terminal::Terminal;
use crate::words::{clock, now_ms, printable, text_of, utc_offset_s};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use tidings_client::{Entry, Presence};

/// What is printed, and where on the terminal it is.
pub(crate) struct Screen {
    pub(crate) you: String,
    pub(crate) them: String,
    pub(crate) address: String,
    /// None where lines are only ever added: without an input line to keep, or without a terminal.
    terminal: Option<Terminal>,
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
    Other { width: usize },
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
            terminal: (io::stdout().is_terminal() && io::stdin().is_terminal())
                .then(Terminal::default),
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
        if self.terminal.is_some() {
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
        let Some(terminal) = &mut self.terminal else {
            println!("{line}");
            return flush();
        };
        let heights = self.lines.range(at..).map(|line| terminal.rows_of(line.width(&self.you)));
        let up = heights.sum();
        if terminal.shows(up) {
            print!("\x1b7\x1b[{up}A\r{line}\x1b8");
            flush();
        }
    }

    pub(crate) fn leave(&mut self, unsent: usize) {
        if unsent > 0 {
            self.note(&format!("{unsent} unsent: they go when you are back"));
        }
        if self.terminal.is_some() {
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
        let Some(terminal) = &mut self.terminal else {
            println!("{line}");
            return flush();
        };
        let rows = terminal.rows_of(width);
        // Make room below without moving the column, insert above the typed line, come back.
        for _ in 0..rows {
            print!("\x1bD\x1b[A\x1b7\r\x1b[L\x1b8\x1b[B");
        }
        print!("\x1b7\x1b[{rows}A\r{line}\x1b8");
        flush();
        self.remember(Line::Other { width });
    }

    /// Removes what the terminal echoed when Enter was pressed.
    pub(crate) fn erase_typed(&mut self, typed: &str) {
        if let Some(terminal) = &mut self.terminal {
            for _ in 0..terminal.rows_of(typed.chars().count()) {
                print!("\x1b[A\r\x1b[K");
            }
            flush();
        }
    }

    fn remember(&mut self, line: Line) {
        self.lines.push_back(line);
        // Those that wait are as many as the outbox takes.
        let waits = |line: &Line| matches!(line, Line::Own { ticks: Ticks::Waiting, .. });
        while self.lines.len() > LINES_MAX && self.lines.front().is_some_and(|line| !waits(line)) {
            self.lines.pop_front();
        }
    }

    fn own(&self, time: &str, text: &str, ticks: Ticks) -> String {
        let ticks = match ticks {
            // One as wide as the other on a terminal, so that a line never becomes a row longer.
            Ticks::Waiting if self.terminal.is_some() => self.colour("2", "… "),
            Ticks::Stored if self.terminal.is_some() => self.colour("2", "✓ "),
            Ticks::Waiting => "…".to_owned(),
            Ticks::Stored => "✓".to_owned(),
            Ticks::Delivered => self.colour("2", "✓✓"),
            Ticks::Read if self.terminal.is_some() => self.colour("34", "✓✓"),
            Ticks::Read => "✓✓ read".to_owned(),
            Ticks::Failed => self.colour("31", "✗ "),
        };
        format!("{} {}: {text} {ticks}", self.colour("2", time), self.you)
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.terminal.is_some() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Line {
    fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Own { id, .. } if id == wanted)
    }

    fn width(&self, you: &str) -> usize {
        match self {
            // Time, name, text and ticks, with what stands between them.
            Self::Own { text, .. } => 5 + 1 + you.len() + 2 + text.chars().count() + 1 + 2,
            Self::Other { width } => *width,
        }
    }
}

fn flush() {
    // A closed pipe is noticed by the next read of standard input.
    let _ = io::stdout().flush();
}

/// How many lines are remembered for their ticks.
const LINES_MAX: usize = 1_000;

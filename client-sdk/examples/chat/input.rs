//! The line that is being typed.

use crate::words::printable;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A line of text, and where in it the cursor is.
#[derive(Debug, Default)]
pub(crate) struct Input {
    chars: Vec<char>,
    cursor: usize,
}

impl Input {
    pub(crate) fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    pub(crate) fn text(&self) -> String {
        self.chars.iter().collect()
    }

    /// What stands before the cursor.
    pub(crate) fn before(&self) -> String {
        self.chars.iter().take(self.cursor).collect()
    }

    /// Takes the line, and begins a new one.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.chars).into_iter().collect()
    }

    pub(crate) fn paste(&mut self, text: &str) {
        for char in printable(text).chars() {
            self.insert(char);
        }
    }

    /// A key was pressed. Returns whether it changed the text.
    pub(crate) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('a') if control => self.cursor = 0,
            KeyCode::Char('e') if control => self.cursor = self.chars.len(),
            KeyCode::Char('u') if control => {
                self.chars.drain(..self.cursor);
                self.cursor = 0;
                return true;
            }
            KeyCode::Char('w') if control => return self.delete_word(),
            KeyCode::Char(char) if !control => {
                self.insert(char);
                return true;
            }
            KeyCode::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.chars.remove(self.cursor);
                return true;
            }
            KeyCode::Delete if self.cursor < self.chars.len() => {
                self.chars.remove(self.cursor);
                return true;
            }
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.chars.len()),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.chars.len(),
            _ => {}
        }
        false
    }

    fn insert(&mut self, char: char) {
        if self.chars.len() < CHARS_MAX {
            self.chars.insert(self.cursor, char);
            self.cursor += 1;
        }
    }

    fn delete_word(&mut self) -> bool {
        let until = self.cursor;
        while self.cursor > 0 && self.chars.get(self.cursor - 1) == Some(&' ') {
            self.cursor -= 1;
        }
        while self.cursor > 0 && self.chars.get(self.cursor - 1) != Some(&' ') {
            self.cursor -= 1;
        }
        self.chars.drain(self.cursor..until);
        self.cursor < until
    }
}

/// The longest line: well below what the broker takes.
const CHARS_MAX: usize = 10_000;

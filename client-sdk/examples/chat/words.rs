//! What is shown of entries and times, in words.
//!
//! What others wrote is theirs to choose, so it passes through [`printable`] before it is printed.

use std::time::{SystemTime, UNIX_EPOCH};
use tidings_client::{Body, Entry, EntryKind};

pub(crate) fn text_of(entry: &Entry) -> String {
    let text = match &entry.body {
        Body::Text(text) => text.clone(),
        Body::Data(data) => format!("({} bytes of data)", data.len()),
        Body::Empty => String::new(),
    };
    match entry.kind {
        EntryKind::Message => text,
        _ => format!("({:?} of {}) {text}", entry.kind, entry.reference.unwrap_or(entry.seq)),
    }
}

/// What others write must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The time of day at a distance from UTC: `09:05`.
pub(crate) fn clock(utc_offset_s: i64, time_ms: u64) -> String {
    let seconds = i64::try_from(time_ms / 1_000).unwrap_or(0) + utc_offset_s;
    let minutes = seconds.div_euclid(60).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

pub(crate) fn ago(ms: u64) -> String {
    match ms / 60_000 {
        0 => "just now".to_owned(),
        minutes @ 1..60 => format!("{minutes} min ago"),
        minutes @ 60..1_440 => format!("{} h ago", minutes / 60),
        minutes => format!("{} days ago", minutes / 1_440),
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The standard library knows no time zones; `date` does. Without it, UTC.
pub(crate) fn utc_offset_s() -> i64 {
    let output = std::process::Command::new("date").arg("+%z").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let Ok(offset) = text.trim().parse::<i64>() else { return 0 };
    (offset / 100 * 60 + offset % 100) * 60
}

/// Breaks a text into rows of at most so many columns, at spaces where there are any.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut rows = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let width = width_of(word.trim_end());
        if used > 0 && used + width > columns {
            rows.push(String::new());
            used = 0;
        }
        for char in word.chars() {
            let width = width_of(char.encode_utf8(&mut [0; 4]));
            if used + width > columns {
                if char == ' ' {
                    continue;
                }
                rows.push(String::new());
                used = 0;
            }
            if let Some(row) = rows.last_mut() {
                row.push(char);
            }
            used += width;
        }
    }
    rows
}

/// How many columns a text takes.
pub(crate) fn width_of(text: &str) -> usize {
    ratatui::text::Line::from(text).width()
}

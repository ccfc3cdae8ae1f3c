//! JSON as it is written for every message: appended to a buffer, run by run.
//!
//! The same bytes as serde_json's, which writes all that is not on the way of a message, and reads
//! what Clients say. What differs is the cost: what needs no escape is copied, not looked at byte
//! by byte.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What the asker calls its question: it comes back with the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Request {
    Number(u64),
    Text(Box<str>),
}

/// What is wrong with JSON that somebody sent, without more of it than a few words.
pub(crate) fn why(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(WHY_CHARS_MAX) {
        Some((end, _)) => [text.get(..end).unwrap_or_default(), "…"].concat(),
        None => text,
    }
}

/// How much is said of what is wrong.
const WHY_CHARS_MAX: usize = 160;

/// Appends a number.
pub(crate) fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(Digits::default().of(number).as_bytes());
}

/// Appends a text in quotes.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = first_special(rest) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, behind)) = special.split_first() else { break };
        escape(out, *special);
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends bytes in quotes, as base64.
pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Appends whatever it is.
pub(crate) fn value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing into a `Vec` cannot fail, and the types here have nothing JSON could refuse.
    let _ = serde_json::to_writer(out, value);
}

/// Where the first byte is that cannot stand in a text as it is.
fn first_special(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut chunks = bytes.chunks_exact(CHUNK_BYTES);
    for chunk in chunks.by_ref() {
        // Without a branch for each byte: the compiler makes it one comparison of all of them.
        if chunk.iter().fold(false, |any, byte| any | is_special(*byte)) {
            return chunk.iter().position(|byte| is_special(*byte)).map(|within| at + within);
        }
        at += CHUNK_BYTES;
    }
    chunks.remainder().iter().position(|byte| is_special(*byte)).map(|within| at + within)
}

const fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let hex = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            return out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                hex(byte >> 4),
                hex(byte & 15),
            ]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Writes numbers without a `String`.
#[derive(Debug, Default)]
pub(crate) struct Digits([u8; 20]);

impl Digits {
    pub(crate) fn of(&mut self, mut number: u64) -> &str {
        let mut start = self.0.len();
        for (at, digit) in self.0.iter_mut().enumerate().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
            start = at;
            if number == 0 {
                break;
            }
        }
        self.0.get(start..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }
}

/// How many bytes are looked at together.
const CHUNK_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text_: &str) -> String {
        let mut out = Vec::new();
        text(&mut out, text_);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 7, 10, 1839, u64::MAX] {
            assert_eq!(Digits::default().of(number), number.to_string());
        }
    }

    #[test]
    fn every_character_is_escaped_as_the_library_does_it_wherever_it_stands() {
        for character in (0..0x180).filter_map(char::from_u32).chain(['\u{2028}', '😀']) {
            for before in [0, 1, 15, 16, 17, 40] {
                let text = format!("{}{character}{}", "é".repeat(before), "x".repeat(33));
                assert_eq!(written(&text), serde_json::to_string(&text).unwrap());
            }
        }
        assert_eq!(written(""), "\"\"");
        assert_eq!(written("\"\\\n\"\""), serde_json::to_string("\"\\\n\"\"").unwrap());
    }

    #[test]
    fn bytes_are_base64_with_padding() {
        let mut out = Vec::new();
        base64(&mut out, &[0xff, 0]);
        assert_eq!(out, b"\"/wA=\"");
    }
}

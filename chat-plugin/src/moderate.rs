//! A word before a message is kept: what a program that embeds chat may refuse.
//!
//! Asked in the shard of the chat, when nothing else speaks against the message and before it has a
//! place: who sends again what is kept already is answered without asking. The answer comes at once
//! and from memory, for the shard waits. What takes longer (a service, a model) is done by looking
//! at messages behind their delivery, and changes what this answers next time.

use std::fmt::Debug;

use crate::code::Code;

/// A message that somebody wants to send.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Draft<'a> {
    /// The chat, as its sender calls it: `@bob`, `climbing`, `!news`.
    pub chat: &'a str,
    /// Who sends.
    pub sender: &'a str,
    /// From which device: its Client Identifier.
    pub device: &'a str,
    /// What the sender calls the message, if it has a name.
    pub id: Option<&'a str>,
    /// What the payload is, if that was said.
    pub content_type: Option<&'a str>,
    /// What is to be sent.
    pub payload: &'a [u8],
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It may go on.
    Allow,
    /// It is not kept, and nobody but its sender hears of it.
    Refuse {
        /// The code that the sender is told.
        code: Code,
        /// A sentence for the sender: what to do. Beyond 256 bytes it is cut.
        text: String,
    },
}

/// Looks at each message before it is kept.
///
/// One for all shards, called from all their threads: it must not block, wait or panic.
pub trait Moderate: Debug + Send + Sync {
    /// May it be sent?
    fn judge(&self, draft: &Draft<'_>) -> Judgement;
}

/// `text`, cut to what a Client is told.
pub(crate) fn shortened(mut text: String) -> String {
    let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

/// The longest sentence.
const TEXT_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_cut_between_characters() {
        assert_eq!(shortened("no".into()), "no");
        assert_eq!(shortened("é".repeat(200)).len(), 256);
        assert_eq!(shortened(format!("x{}", "é".repeat(200))).len(), 255);
    }
}

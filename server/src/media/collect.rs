//! Files that nobody names any more go.
//!
//! A few grants each second are held against the logs of their chats, round and round: the entry that
//! was seen to name the file last time, and if that is gone all that came since the upload. So deleted
//! messages, those that have gone by time, and chats that are over need no word from anybody.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use tidings_chat::{CallError, StoredEntry};
use tokio::time::{MissedTickBehavior, interval};

use super::index::{Grant, Line};
use super::{Media, Section, chat_of, lock, millis};

/// Looks for what may go, as long as the broker is there.
pub(crate) async fn run(media: Arc<Media>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = [(String::new(), String::new()), (String::new(), String::new())];
    loop {
        seconds.tick().await;
        lock(&media.uploads).forget_old(Instant::now());
        for (section, last) in [&media.kept, &media.rooms].into_iter().zip(&mut last) {
            // Rooms are few, and their files are in memory.
            let count = media.options.checks_per_second;
            let count = if std::ptr::eq(section, &media.rooms) { count * 8 } else { count };
            let grants = lock(&section.index).behind(last, count);
            *last = match grants.last() {
                Some((hash, chat, _)) if grants.len() == count => (hash.clone(), chat.clone()),
                _ => (String::new(), String::new()),
            };
            for (hash, chat, grant) in grants {
                look(&media, section, &hash, &chat, &grant).await;
            }
        }
    }
}

/// Whether a chat still names a file; if not it goes.
async fn look(media: &Media, section: &Section, hash: &str, chat: &str, grant: &Grant) {
    let named = match names(media, hash, chat, grant).await {
        Ok(named) => named,
        // The chat could not say: another time.
        Err(error) => return tracing::debug!(chat, "cannot look for a file: {error}"),
    };
    if let Some(seq) = named.seq {
        return lock(&section.index).named(hash, chat, seq);
    }
    let age = millis(SystemTime::now()).saturating_sub(grant.time);
    let is_young = Duration::from_millis(age) < media.options.unreferenced;
    // Whoever uploaded it may still be writing the message.
    if is_young && grant.named.is_none() && !named.is_over {
        return;
    }
    let _nothing_comes_meanwhile = media.moving.lock().await;
    let now = lock(&section.index).find(hash, chat);
    if now.is_none_or(|(_, now)| now.time != grant.time) {
        // It was uploaded again.
        return;
    }
    let line = Line { hash: hash.to_owned(), chat: chat.to_owned(), bytes: 0, grant: None };
    if let Err(error) = section.say(line).await {
        return tracing::warn!("cannot write that a file has gone: {error}");
    }
    let is_held = lock(&section.index).holds(hash);
    if !is_held {
        section.shelf.remove(hash).await;
    }
}

/// What a chat says of a file.
struct Named {
    /// An entry that names it.
    seq: Option<u64>,
    /// There is no such chat any more.
    is_over: bool,
}

async fn names(media: &Media, hash: &str, chat: &str, grant: &Grant) -> Result<Named, CallError> {
    let place = chat_of(chat);
    let over = |error| match error {
        CallError::Refused { code: "ended", .. } => Ok(Named { seq: None, is_over: true }),
        // A direct chat that has not begun, or that both have deleted.
        CallError::Refused { code: "unknown_chat", .. } => Ok(Named { seq: None, is_over: false }),
        other => Err(other),
    };
    if let Some(seq) = grant.named {
        let page = match media.chat.log(&place, seq, 1).await {
            Ok(page) => page,
            Err(error) => return over(error),
        };
        if page.entries.first().is_some_and(|entry| entry.seq == seq && is_of(entry, hash)) {
            return Ok(Named { seq: Some(seq), is_over: false });
        }
    }
    let mut next = Some(grant.from);
    while let Some(from) = next {
        let page = match media.chat.log(&place, from, PAGE).await {
            Ok(page) => page,
            Err(error) => return over(error),
        };
        if let Some(entry) = page.entries.iter().find(|entry| is_of(entry, hash)) {
            return Ok(Named { seq: Some(entry.seq), is_over: false });
        }
        next = page.next;
    }
    Ok(Named { seq: None, is_over: false })
}

/// Whether an entry names a file.
fn is_of(entry: &StoredEntry, hash: &str) -> bool {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        media: std::borrow::Cow<'a, str>,
    }
    entry.content_type.as_deref() == Some(FILE_TYPE)
        && serde_json::from_slice::<Body<'_>>(&entry.payload).is_ok_and(|body| body.media == hash)
}

/// The Content Type of a message that carries a file.
const FILE_TYPE: &str = "application/vnd.tidings.file+json";

/// Entries that are read at once.
const PAGE: usize = 200;

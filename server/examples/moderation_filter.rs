//! A moderation filter: refuses messages with certain words at once, and mutes who was found out.
//!
//! The quick answer comes from memory, for a shard waits for it. What takes longer looks at the
//! events of what was stored, and changes what is answered next time.
//! `cargo run -p tidings --example moderation_filter`, then
//! `mosquitto_pub -V 5 -u alice -i laptop -q 1 -t chat/@bob/send/m1 -m 'buy now'`.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use tidings_broker::Builder;
use tidings_chat::{Chat, ChatEvent, Code, Draft, Judgement, Moderate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = Arc::new(Filter::new(&["buy now", "click here"]));
    let chat = Chat::default().with_moderator(Arc::clone(&filter) as Arc<dyn Moderate>);
    let handle = chat.handle();
    let broker =
        Builder::new().listen("127.0.0.1:1883".parse()?).service(Arc::new(chat)).start()?;
    println!("filtering at {:?}", broker.addresses());
    let mut events = handle.events(1_024)?;
    while let Some(event) = events.blocking_next() {
        // Where a service or a model would be asked: here, whoever shouts.
        if let ChatEvent::Stored(entry) = event
            && entry.payload.len() > 16
            && entry.payload.iter().all(|byte| !byte.is_ascii_lowercase())
        {
            println!("muting {} for message {} in {}", entry.from, entry.seq, entry.chat);
            filter.mute(&entry.from);
        }
    }
    Ok(())
}

/// What is refused, and of whom everything.
#[derive(Debug)]
pub struct Filter {
    words: Vec<String>,
    muted: RwLock<BTreeSet<Arc<str>>>,
}

impl Filter {
    /// Refuses messages with one of these.
    pub fn new(words: &[&str]) -> Self {
        let words = words.iter().map(|word| word.to_lowercase()).collect();
        Self { words, muted: RwLock::default() }
    }

    /// Refuses everything of this user from now on.
    pub fn mute(&self, user: &Arc<str>) {
        self.muted.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(user));
    }
}

impl Moderate for Filter {
    fn judge(&self, draft: &Draft<'_>) -> Judgement {
        let refuse = |text: &str| Judgement::Refuse { code: Code::Forbidden, text: text.into() };
        if self.muted.read().unwrap_or_else(PoisonError::into_inner).contains(draft.sender) {
            return refuse("you are muted: write to the people who run this server");
        }
        let text = String::from_utf8_lossy(draft.payload).to_lowercase();
        match self.words.iter().find(|word| text.contains(word.as_str())) {
            Some(word) => refuse(&format!("messages with {word:?} are not taken here")),
            None => Judgement::Allow,
        }
    }
}

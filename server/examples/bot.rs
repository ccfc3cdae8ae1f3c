//! A bot: answers whoever writes to it, and greets whoever joins a group that it watches.
//!
//! `cargo run -p tidings --example bot`, then `mosquitto_sub -u alice -i phone -q 1 -t 'me/json/#' -v`
//! and `mosquitto_pub -u alice -i laptop -q 1 -t chat/@bot/send/m1 -m ping`.

use std::sync::Arc;

use tidings_broker::Builder;
use tidings_chat::{CallError, Chat, ChatEvent, ChatHandle, ChatRef, Events, Outgoing};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let chat = Chat::default();
    let handle = chat.handle();
    let broker =
        Builder::new().listen("127.0.0.1:1883".parse()?).service(Arc::new(chat)).start()?;
    println!("the bot is at {:?}", broker.addresses());
    let events = handle.events(1_024)?;
    tokio::runtime::Builder::new_current_thread().build()?.block_on(answer(handle, events))?;
    Ok(())
}

/// Answers until the broker stops.
pub async fn answer(chat: ChatHandle, mut events: Events) -> Result<(), CallError> {
    while let Some(event) = events.next().await {
        let ChatEvent::Stored(entry) = event else { continue };
        let reply = match &entry.chat {
            // Its own answers are stored as well.
            _ if *entry.from == *NAME => continue,
            ChatRef::Direct(one, other) if [one, other].iter().any(|user| ***user == *NAME) => {
                format!("you said {}", String::from_utf8_lossy(&entry.payload))
            }
            ChatRef::Named(_) if entry.kind == Some("system") && says(&entry.payload, "join") => {
                format!("welcome, {}", entry.from)
            }
            _ => continue,
        };
        // The id makes it one answer, however often this entry is seen.
        let id = format!("answer-to-{}", entry.seq);
        match chat.send(Outgoing::new(NAME, entry.chat, reply).id(&id)).await {
            Err(CallError::Stopped) => return Ok(()),
            Err(error) => eprintln!("not answered: {error}"),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Whether an entry of a group tells of this.
fn says(payload: &[u8], action: &str) -> bool {
    let told: Option<serde_json::Value> = serde_json::from_slice(payload).ok();
    told.is_some_and(|told| told.get("action").is_some_and(|it| it == action))
}

/// The bot's user name: nobody gets a login of it.
const NAME: &str = "bot";

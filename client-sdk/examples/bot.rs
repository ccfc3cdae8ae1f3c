//! A bot: answers whoever writes to it, in direct chats and groups, once for each message.
//!
//! `cargo run -p tidings-client --example bot -- mqtt://bot@localhost`

use tidings_client::{Client, ConnectOptions, EntryKind, SendOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://bot@localhost".to_owned());
    let client = Client::connect(ConnectOptions::from_url(&url, "bot-1")?).await?;
    let mut messages = client.messages();
    while let Some(entry) = messages.next().await {
        let Some(text) = entry.body.text().filter(|_| entry.kind == EntryKind::Message) else {
            continue;
        };
        if entry.from == client.user() {
            continue;
        }
        let chat = client.chat(&entry.chat)?;
        chat.mark_read(entry.seq).await?;
        // The id makes it one answer, however often a crash brings this entry again.
        let options = SendOptions::default().id(format!("to-{}", entry.seq)).reply_to(entry.seq);
        let _ = chat.send_with(format!("you said: {text}"), options).await?;
    }
    Ok(())
}

//! A push notifier: tells a push service of those for whom a message came while they were away.
//!
//! Once for each chat until its user has it all, with how much waits. Here the push service is the
//! terminal: `cargo run -p tidings --example push_notifier`, then send something to somebody who
//! is not there, as with `mosquitto_pub -u alice -i laptop -q 1 -t chat/@bob/send/m1 -m hello`.

use std::collections::HashSet;
use std::sync::Arc;

use tidings_broker::Builder;
use tidings_chat::{Chat, ChatEvent, ChatRef, Events};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let chat = Chat::default();
    let handle = chat.handle();
    let broker =
        Builder::new().listen("127.0.0.1:1883".parse()?).service(Arc::new(chat)).start()?;
    println!("waiting for messages at {:?}", broker.addresses());
    let events = handle.events(1_024)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    notify(events, |user, chat, depth| {
        // Where her devices said that they are woken: {"set":"…"} to me/push.
        let targets = runtime.block_on(handle.push_targets(user)).unwrap_or_default();
        println!("{user}, at {} devices: {depth} new in {chat}", targets.len());
        targets.iter().for_each(|target| println!("  {} by {}", target.device, target.to));
    });
    Ok(())
}

/// Notifies until the broker stops.
pub fn notify(mut events: Events, mut push: impl FnMut(&str, &ChatRef, u64)) {
    // Who was told of which chat: forgotten as soon as a device of theirs has it.
    let mut told: HashSet<(Arc<str>, ChatRef)> = HashSet::new();
    while let Some(event) = events.blocking_next() {
        match event {
            ChatEvent::Offline { chat, user, depth, .. } => {
                if told.len() >= TOLD_MAX {
                    told.clear();
                }
                if told.insert((Arc::clone(&user), chat.clone())) {
                    push(&user, &chat, depth);
                }
            }
            ChatEvent::Delivered { chat, user, .. } => {
                told.remove(&(user, chat));
            }
            // What it was is not known: everybody is told anew.
            ChatEvent::Lost { .. } => told.clear(),
            _ => {}
        }
    }
}

/// How many are remembered who were told; beyond it they are told once more.
const TOLD_MAX: usize = 100_000;

//! A chat through pipes: each line of input is a message, and what happens is a line of output.

use crate::words::{ago, clock, now_ms, printable, text_of, utc_offset_s};
use std::io::{self, BufRead, Write};
use std::time::Duration;
use tidings_client::{Client, Event, Presence, PresenceState, Receipt, State};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Talks until the input ends and all is sent, or a moment has passed. Returns how much is unsent.
pub(crate) async fn talk(client: Client, with: &str) -> Result<usize, Box<dyn std::error::Error>> {
    let chat = client.chat(with)?;
    let mut messages = chat.messages();
    let mut others = client.messages();
    let (mut receipts, mut events) = (client.receipts(), client.events());
    let them = with.strip_prefix('@').unwrap_or_else(|| client.user()).to_owned();
    let mut presence = client.presence(&them)?;
    let mut lines = typed_lines();
    let (answers, mut answered) = mpsc::channel::<String>(64);
    let mut leaving: Option<Instant> = None;
    let offset = utc_offset_s();
    // One for the whole loop: what is pressed while something else is dealt with counts too.
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    while leaving.is_none() || client.unanswered() > 0 {
        let patience = leaving.unwrap_or_else(Instant::now);
        tokio::select! {
            line = lines.recv(), if leaving.is_none() => match line {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => {
                    let sent = chat.send(line.clone()).await?;
                    say(&format!("{} {}: {line} …", clock(offset, now_ms()), client.user()));
                    let answers = answers.clone();
                    tokio::spawn(async move {
                        let outcome = match sent.stored().await {
                            Ok(seq) => format!("✓ {seq}: {line}"),
                            Err(error) => format!("✗ {line}: {error}"),
                        };
                        let _ = answers.send(outcome).await;
                    });
                }
                None => leaving = Some(Instant::now() + PATIENCE),
            },
            Some(entry) = messages.next() => {
                say(&format!("{} {}: {}", clock(offset, entry.time), entry.from, text_of(&entry)));
                if entry.from != client.user() {
                    chat.mark_read(entry.seq).await?;
                }
            }
            Some(entry) = others.next() => {
                say(&format!("-- {} says in {}: {}", entry.from, entry.chat, text_of(&entry)));
            }
            Some(outcome) = answered.recv() => say(&outcome),
            Some(receipt) = receipts.next() => {
                if let Receipt::User { chat: of, user, delivered, read, .. } = receipt
                    && of == chat.name() && user == them
                {
                    say(&format!("✓✓ {user} has {delivered}, has read {read}"));
                }
            }
            Some(change) = presence.next() => say(&described(&change)),
            Some(event) = events.next() => note(&event),
            _ = &mut interrupted => break,
            // What is unsent has a moment, then it waits in the outbox.
            () = tokio::time::sleep_until(patience), if leaving.is_some() => break,
        }
    }
    // The loop leaves as soon as the last send is answered, which may be before it was shown.
    while let Ok(outcome) = answered.try_recv() {
        say(&outcome);
    }
    messages.taken();
    let unsent = client.unanswered();
    client.close().await;
    Ok(unsent)
}

fn described(presence: &Presence) -> String {
    let user = &presence.user;
    match (presence.state, presence.last_seen) {
        (PresenceState::Online, _) => format!("-- {user} is online"),
        (PresenceState::Away, _) => format!("-- {user} is away"),
        (PresenceState::Offline, Some(time)) => {
            format!("-- {user} was last seen {}", ago(now_ms().saturating_sub(time)))
        }
        (PresenceState::Offline, None) => format!("-- {user} is offline"),
    }
}

fn note(event: &Event) {
    match event {
        Event::State(State::Online) => say("-- connected"),
        Event::State(State::Offline { reason, .. }) => say(&format!("-- {reason}")),
        Event::Stored { seq: Some(seq), .. } => say(&format!("-- ✓ {seq}, from last time")),
        Event::NotStored { refusal, .. } => say(&format!("-- ✗ from last time: {refusal}")),
        Event::Ended { chat, .. } => say(&format!("-- {chat} has ended")),
        Event::StoreFailed { cause } => say(&format!("-- the disk failed: {cause}")),
        Event::StoreNotice(notice) => say(&format!("-- {notice}")),
        _ => {}
    }
}

fn say(line: &str) {
    // A closed pipe is noticed by the next read of the input.
    let _ = writeln!(io::stdout(), "{}", printable(line));
}

/// Lines from the input; the channel closes with it. A thread, because a read cannot be cancelled:
/// it ends with the process.
fn typed_lines() -> mpsc::Receiver<String> {
    let (lines, typed) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    typed
}

/// How long what is unsent at the end of the input may take.
const PATIENCE: Duration = Duration::from_secs(5);

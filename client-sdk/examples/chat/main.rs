//! Two people talk in two terminals.
//!
//! ```text
//! cargo run --example chat -- alice bob
//! cargo run --example chat -- bob alice
//! ```
//!
//! On a terminal the ticks of a line change in place, and what is being typed stays below what comes
//! in. Piped, every change is a plain line of its own.

mod arguments;
mod news;
mod screen;
mod terminal;
mod words;

use arguments::{Arguments, DEVICE, USAGE, parse};
use screen::Screen;
use std::io::{self, BufRead};
use std::process::ExitCode;
use std::time::Duration;
use tidings_client::{Chat, Client, ConnectOptions, Entry, NotStored, Receipt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use words::text_of;

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            let kept = ConnectOptions::default_data_dir("YOU", DEVICE);
            println!("{USAGE}\n\nUnsent messages are kept in {} by default.", kept.display());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("chat: {error}\n\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chat: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(talk(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("chat: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn talk(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(arguments.options).await?;
    let chat = client.chat(&format!("@{}", arguments.them))?;
    let mut screen = Screen::new(arguments.you, arguments.them, arguments.address);
    if client.unanswered() > 0 {
        screen.note(&format!("{} unsent from last time", client.unanswered()));
    }

    let mut messages = chat.messages();
    let mut others = client.messages();
    let mut receipts = client.receipts();
    let mut presence = client.presence(&screen.them)?;
    let mut events = client.events();
    let mut lines = typed_lines();
    let (answers, mut answered) = mpsc::channel::<(String, Result<u64, NotStored>)>(64);
    let mut leaving = None;
    // One for the whole loop: what is pressed while something else is dealt with counts too.
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);

    // Once a minute "2 min ago" has become "3 min ago".
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    while leaving.is_none() || client.unanswered() > 0 {
        let patience = leaving.unwrap_or_else(Instant::now);
        tokio::select! {
            line = lines.recv(), if leaving.is_none() => match line {
                Some(line) => send(&chat, &mut screen, &answers, line).await,
                None => leaving = Some(Instant::now() + PATIENCE),
            },
            Some(entry) = messages.next() => show(&chat, &mut screen, &entry).await,
            Some(entry) = others.next() => {
                let text = format!("{} says in {}: {}", entry.from, entry.chat, text_of(&entry));
                screen.note(&text);
            }
            Some((id, result)) = answered.recv() => match result {
                Ok(seq) => screen.stored(&id, seq),
                Err(error) => screen.failed(&id, &error.to_string()),
            },
            Some(receipt) = receipts.next() => {
                if let Receipt::User { chat: of, user, delivered, read, .. } = receipt
                    && of == chat.name() && user == screen.them
                {
                    screen.receipt(delivered, read);
                }
            }
            Some(change) = presence.next() => screen.presence(change),
            Some(event) = events.next() => screen.event(event),
            _ = minute.tick() => screen.passed_minute(),
            _ = &mut interrupted => break,
            // Piped input ended; what is unsent has a moment, then it waits in the outbox.
            () = tokio::time::sleep_until(patience), if leaving.is_some() => break,
        }
    }
    // The loop leaves as soon as the last send is answered, which may be before it was shown.
    while let Ok((id, Ok(seq))) = answered.try_recv() {
        screen.stored(&id, seq);
    }
    messages.taken();
    let unsent = client.unanswered();
    client.close().await;
    screen.leave(unsent);
    Ok(())
}

async fn send(
    chat: &Chat,
    screen: &mut Screen,
    answers: &mpsc::Sender<(String, Result<u64, NotStored>)>,
    line: String,
) {
    if line.trim().is_empty() {
        return screen.erase_typed(&line);
    }
    match chat.send(line.clone()).await {
        Ok(sent) => {
            let id = sent.id().to_owned();
            screen.sent(&id, &line);
            let answers = answers.clone();
            tokio::spawn(async move {
                let result = sent.stored().await;
                // The client ended; the message waits in the outbox, which leave() says.
                if result != Err(NotStored::Closed) {
                    let _ = answers.send((id, result)).await;
                }
            });
        }
        Err(error) => screen.note(&format!("not sent: {error}")),
    }
}

async fn show(chat: &Chat, screen: &mut Screen, entry: &Entry) {
    screen.received(entry);
    if entry.from != screen.you
        && let Err(error) = chat.mark_read(entry.seq).await
    {
        screen.note(&format!("not marked as read: {error}"));
    }
}

/// Lines from the keyboard or a pipe; the channel closes at Ctrl-D. A thread, because a read from a
/// terminal cannot be cancelled: it ends with the process.
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

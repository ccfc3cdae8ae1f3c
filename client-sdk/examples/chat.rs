//! Two people talk in two terminals.
//!
//! ```text
//! cargo run --example chat -- alice bob
//! cargo run --example chat -- bob alice
//! ```
//!
//! On a terminal the ticks of a line change in place, and what is being typed stays below what comes
//! in. Piped, every change is a plain line of its own.

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidings_client::transport::Lost;
use tidings_client::{
    Body, Chat, Client, ConnectOptions, Entry, EntryKind, Event, NotStored, Presence,
    PresenceState, Receipt,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

const USAGE: &str = "\
Talk to someone over a Tidings broker.

usage: chat [--addr HOST:PORT] [--password PASSWORD] [--data DIR] YOU THEM

  --addr HOST:PORT     the broker (default 127.0.0.1:1883)
  --password PASSWORD  yours, if the broker knows users
  --data DIR           where unsent messages are kept";

struct Arguments {
    you: String,
    them: String,
    address: String,
    options: ConnectOptions,
}

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

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut address = "127.0.0.1:1883".to_owned();
    let (mut password, mut data, mut names) = (None, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "--addr" => address = value()?,
            "--password" => password = Some(value()?),
            "--data" => data = Some(value()?),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => names.push(argument),
        }
    }
    let [you, them] = <[String; 2]>::try_from(names)
        .map_err(|names| format!("expected two names, found {}", names.len()))?;
    let mut options = ConnectOptions::new(&address, &you, format!("{you}-{DEVICE}"));
    options = options.data_dir(ConnectOptions::default_data_dir(&you, DEVICE));
    if let Some(password) = password {
        options = options.password(password);
    }
    if let Some(data) = data {
        options = options.data_dir(data);
    }
    Ok(Some(Arguments { you, them, address, options }))
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

    // Once a minute "2 min ago" has become "3 min ago".
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    while leaving.is_none() || client.unanswered() > 0 {
        let patience = leaving.unwrap_or_else(Instant::now);
        tokio::select! {
            line = lines.recv(), if leaving.is_none() => match line {
                Some(line) => send(&chat, &mut screen, &answers, line).await,
                None => leaving = Some(Instant::now() + PATIENCE),
            },
            Some(entry) = messages.next() => show(&chat, &mut screen, &entry),
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
            _ = tokio::signal::ctrl_c() => break,
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

fn show(chat: &Chat, screen: &mut Screen, entry: &Entry) {
    screen.received(entry);
    if entry.from != screen.you
        && let Err(error) = chat.mark_read(entry.seq)
    {
        screen.note(&format!("not marked as read: {error}"));
    }
}

fn text_of(entry: &Entry) -> String {
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

/// What is printed, and where on the terminal it is.
struct Screen {
    you: String,
    them: String,
    address: String,
    rich: bool,
    utc_offset_s: i64,
    /// The last lines, newest at the back.
    lines: VecDeque<Line>,
    delivered: u64,
    read: u64,
    presence: Option<Presence>,
    presence_said: String,
    unreachable_said: bool,
}

enum Line {
    Own { id: String, time: String, text: String, seq: Option<u64>, ticks: Ticks },
    Other { rows: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ticks {
    Waiting,
    Stored,
    Delivered,
    Read,
    Failed,
}

impl Screen {
    fn new(you: String, them: String, address: String) -> Self {
        Self {
            you,
            them,
            address,
            // Without an input line to keep, or without a terminal to keep it on, plain lines do.
            rich: io::stdout().is_terminal() && io::stdin().is_terminal(),
            utc_offset_s: utc_offset_s(),
            lines: VecDeque::new(),
            delivered: 0,
            read: 0,
            presence: None,
            presence_said: String::new(),
            unreachable_said: false,
        }
    }

    fn sent(&mut self, id: &str, text: &str) {
        let (id, time) = (id.to_owned(), self.clock(now_ms()));
        let (text, ticks) = (printable(text), Ticks::Waiting);
        if self.rich {
            self.erase_typed(&text);
            let line = self.own(&time, &text, ticks);
            print!("{line}\r\n");
            flush();
        }
        self.remember(Line::Own { id, time, text, seq: None, ticks });
    }

    fn received(&mut self, entry: &Entry) {
        let (text, time) = (printable(&text_of(entry)), self.clock(entry.time));
        let from = self.colour("1", &entry.from);
        let time = self.colour("2", &time);
        self.print(&format!("{time} {from}: {text}"), 7 + entry.from.len() + text.chars().count());
    }

    fn stored(&mut self, id: &str, stored: u64) {
        if let Some(Line::Own { seq, .. }) = self.lines.iter_mut().find(|line| line.is(id)) {
            *seq = Some(stored);
        }
        self.refresh();
    }

    fn failed(&mut self, id: &str, why: &str) {
        if let Some(at) = self.lines.iter().position(|line| line.is(id)) {
            self.set_ticks(at, Ticks::Failed);
        }
        self.note(&format!("not stored: {why}"));
    }

    fn receipt(&mut self, delivered: u64, read: u64) {
        self.delivered = self.delivered.max(delivered);
        self.read = self.read.max(read);
        self.refresh();
    }

    fn refresh(&mut self) {
        for at in 0..self.lines.len() {
            let Some(Line::Own { seq: Some(seq), .. }) = self.lines.get(at) else { continue };
            let due = match *seq {
                seq if seq <= self.read => Ticks::Read,
                seq if seq <= self.delivered => Ticks::Delivered,
                _ => Ticks::Stored,
            };
            self.set_ticks(at, due);
        }
    }

    /// Changes the ticks of a line where it stands, if it is still near; or says so on a new line.
    fn set_ticks(&mut self, at: usize, due: Ticks) {
        let Some(Line::Own { time, text, ticks, .. }) = self.lines.get_mut(at) else { return };
        if *ticks == due {
            return;
        }
        *ticks = due;
        let (time, text) = (time.clone(), text.clone());
        let line = self.own(&time, &text, due);
        if !self.rich {
            println!("{line}");
            return flush();
        }
        let up: usize = self.lines.range(at..).map(Line::rows).sum();
        let height = self.lines.get(at).map_or(1, Line::rows);
        if height == 1 && up <= NEAR_ROWS {
            print!("\x1b7\x1b[{up}A\r{line}\x1b[K\x1b8");
            flush();
        }
    }

    fn presence(&mut self, presence: Presence) {
        self.presence = Some(presence);
        self.passed_minute();
    }

    /// Says the presence line, if it reads differently from last time.
    fn passed_minute(&mut self) {
        let Some(presence) = &self.presence else { return };
        let them = &self.them;
        let line = match (presence.state, presence.last_seen) {
            (PresenceState::Online, _) => format!("{them} is online"),
            (PresenceState::Away, _) => format!("{them} is away"),
            (PresenceState::Offline, Some(time)) => {
                format!("{them} was last seen {}", ago(now_ms().saturating_sub(time)))
            }
            (PresenceState::Offline, None) => format!("{them} is offline"),
        };
        if line != self.presence_said {
            self.note(&line);
            self.presence_said = line;
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected { .. } => {
                self.unreachable_said = false;
                let note = format!("connected to {} as {}", self.address, self.you);
                self.note(&note);
            }
            Event::Disconnected { reason: Lost::Closed, .. } => {}
            Event::Disconnected { reason, .. } => {
                // Said once, not at each attempt.
                if std::mem::replace(&mut self.unreachable_said, true) {
                    return;
                }
                let address = &self.address;
                let note = match reason {
                    Lost::Unreachable { .. } => format!(
                        "no broker at {address}: start one with `cargo run --release` (messages \
                         wait, trying again)"
                    ),
                    reason => format!("{reason} (messages wait, trying again)"),
                };
                self.note(&note);
            }
            Event::Stored { seq, .. } => self.note(&format!("✓ from last time, stored as {seq}")),
            Event::NotStored { error, .. } => self.note(&format!("from last time: {error}")),
            Event::Postponed { code, retry_in, .. } => {
                self.note(&format!("the broker says {code}: again in {retry_in:?}"));
            }
            Event::Refused { code, text, .. } => self.note(&format!("refused: {code}: {text}")),
            Event::SubscriptionRefused { filter, reason } => {
                self.note(&format!("the broker refused {filter}: {reason}"));
            }
            Event::Ended { chat } => self.note(&format!("{chat} has ended")),
            Event::Unreadable { topic, cause } => {
                self.note(&format!("cannot read {topic}: {cause}"));
            }
            Event::OutboxDamaged(damage) => {
                let copy = damage.copy.display();
                self.note(&format!("unsent messages may be missing; a copy is in {copy}"));
            }
            _ => {}
        }
    }

    fn leave(&mut self, unsent: usize) {
        if unsent > 0 {
            self.note(&format!("{unsent} unsent: they go when you are back"));
        }
        if self.rich {
            // The shell's prompt begins below what was being typed.
            println!();
        }
    }

    fn note(&mut self, text: &str) {
        let text = printable(text);
        let line = self.colour("2", &format!("-- {text}"));
        self.print(&line, 3 + text.chars().count());
    }

    /// Prints a line above what is being typed.
    fn print(&mut self, line: &str, width: usize) {
        if !self.rich {
            println!("{line}");
            return flush();
        }
        let rows = width.max(1).div_ceil(COLUMNS);
        // Make room below without moving the column, insert above the typed line, come back.
        for _ in 0..rows {
            print!("\x1bD\x1b[A\x1b7\r\x1b[L\x1b8\x1b[B");
        }
        print!("\x1b7\x1b[{rows}A\r{line}\x1b8");
        flush();
        self.remember(Line::Other { rows });
    }

    /// Removes what the terminal echoed when Enter was pressed.
    fn erase_typed(&self, typed: &str) {
        if self.rich {
            let rows = typed.chars().count().max(1).div_ceil(COLUMNS);
            for _ in 0..rows {
                print!("\x1b[A\r\x1b[K");
            }
            flush();
        }
    }

    fn remember(&mut self, line: Line) {
        self.lines.push_back(line);
        if self.lines.len() > LINES_MAX {
            self.lines.pop_front();
        }
    }

    fn own(&self, time: &str, text: &str, ticks: Ticks) -> String {
        let ticks = match ticks {
            Ticks::Waiting => self.colour("2", "…"),
            Ticks::Stored => self.colour("2", "✓"),
            Ticks::Delivered => self.colour("2", "✓✓"),
            Ticks::Read if self.rich => self.colour("34", "✓✓"),
            Ticks::Read => "✓✓ read".to_owned(),
            Ticks::Failed => self.colour("31", "✗"),
        };
        format!("{} {}: {text} {ticks}", self.colour("2", time), self.you)
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.rich { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn clock(&self, time_ms: u64) -> String {
        let seconds = i64::try_from(time_ms / 1_000).unwrap_or(0) + self.utc_offset_s;
        let minutes = seconds.div_euclid(60).rem_euclid(24 * 60);
        format!("{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl Line {
    fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Own { id, .. } if id == wanted)
    }

    fn rows(&self) -> usize {
        match self {
            // Time, a space, a name of up to 64, ": ", the text, a space and ticks: estimated high.
            Self::Own { text, .. } => (text.chars().count() + 20).div_ceil(COLUMNS),
            Self::Other { rows } => *rows,
        }
    }
}

/// What others write must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn ago(ms: u64) -> String {
    match ms / 60_000 {
        0 => "just now".to_owned(),
        minutes @ 1..60 => format!("{minutes} min ago"),
        minutes @ 60..1_440 => format!("{} h ago", minutes / 60),
        minutes => format!("{} days ago", minutes / 1_440),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The standard library knows no time zones; `date` does. Without it, UTC.
fn utc_offset_s() -> i64 {
    let output = std::process::Command::new("date").arg("+%z").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let Ok(offset) = text.trim().parse::<i64>() else { return 0 };
    (offset / 100 * 60 + offset % 100) * 60
}

fn flush() {
    // A closed pipe is noticed by the next read of standard input.
    let _ = io::stdout().flush();
}

/// How long what is unsent at the end of the input may take.
const PATIENCE: Duration = Duration::from_secs(5);

const DEVICE: &str = "terminal";

/// Narrower than this, long lines look untidy; ticks are changed only on lines that fit.
const COLUMNS: usize = 80;

/// How far up a line may stand and still be certainly on the screen.
const NEAR_ROWS: usize = 20;

const LINES_MAX: usize = 100;

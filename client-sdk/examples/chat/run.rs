//! The messenger on a terminal: what the client says and what is typed, until somebody leaves.

use crate::app::{Action, App};
use crate::draw::draw;
use crate::words::utc_offset_s;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Typed, KeyEventKind};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;
use tidings_client::{Client, Presence, Typing};
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error>;

/// Runs it on the terminal of this process, which is left as it was.
pub(crate) async fn run(client: Client, app: App) -> Result<usize, Failure> {
    let mut terminal = ratatui::try_init()?;
    let done = Messenger::new(client, app).serve(&mut terminal).await;
    ratatui::restore();
    done
}

struct Messenger {
    client: Client,
    app: App,
    utc_offset_s: i64,
    watched: BTreeSet<String>,
    /// What comes of what was asked for.
    said: mpsc::Sender<Said>,
    hear: mpsc::Receiver<Said>,
}

enum Said {
    Note(String),
    Presence(Presence),
    /// Older messages may have come.
    Older,
    /// What was missing may have come.
    Fetched,
}

impl Messenger {
    fn new(client: Client, app: App) -> Self {
        let (said, hear) = mpsc::channel(64);
        let (utc_offset_s, watched) = (utc_offset_s(), BTreeSet::new());
        Self { client, app, utc_offset_s, watched, said, hear }
    }

    async fn serve(mut self, terminal: &mut DefaultTerminal) -> Result<usize, Failure> {
        let mut keys = keys();
        let mut messages = self.client.messages();
        let (mut changes, mut events) = (self.client.changes(), self.client.events());
        let mut typing = self.client.typing();
        // Once a minute "2 min ago" has become "3 min ago".
        let mut minute = tokio::time::interval(Duration::from_secs(60));
        let mut limit = SHOWN;
        self.refresh(limit).await;
        if let Some(open) = &self.app.open {
            self.fetch(open);
        }
        loop {
            self.app.unanswered = self.client.unanswered();
            terminal.draw(|frame| draw(&mut self.app, self.utc_offset_s, frame))?;
            let mut action = None;
            tokio::select! {
                typed = keys.recv() => match typed {
                    Some(Typed::Key(key)) if key.kind != KeyEventKind::Release => {
                        action = self.app.key(key);
                    }
                    Some(Typed::Paste(text)) => self.app.paste(&text),
                    Some(_) => {}
                    None => break,
                },
                // All of them are in the store already: the screen shows what is there.
                Some(entry) = messages.next() => {
                    self.app.wrote(&entry.chat, &entry.from);
                    self.refresh(limit).await;
                }
                Some(_) = changes.next() => self.refresh(limit).await,
                Some(event) = events.next() => self.app.event(event),
                Some(change) = typing.next() => self.app.typing(change),
                Some(said) = self.hear.recv() => match said {
                    Said::Note(note) => self.app.note = Some(note),
                    Said::Presence(presence) => {
                        self.app.presence.insert(presence.user.clone(), presence);
                    }
                    Said::Fetched => self.refresh(limit).await,
                    Said::Older => {
                        limit += SHOWN;
                        self.refresh(limit).await;
                    }
                },
                _ = minute.tick() => {}
            }
            match action {
                Some(Action::Quit) => break,
                Some(Action::Open(chat)) => {
                    limit = SHOWN;
                    self.fetch(&chat);
                    self.refresh(limit).await;
                }
                Some(action) => {
                    self.carry_out(action).await;
                    self.refresh(limit).await;
                }
                None => {}
            }
        }
        messages.taken();
        let unsent = self.client.unanswered();
        self.client.close().await;
        Ok(unsent)
    }

    /// Asks for what a further device of the user was not given.
    fn fetch(&self, chat: &str) {
        let (Ok(chat), said) = (self.client.chat(chat), self.said.clone()) else { return };
        tokio::spawn(async move {
            let told = match chat.history(None, SHOWN).await {
                Ok(_) => Said::Fetched,
                Err(error) => Said::Note(error.to_string()),
            };
            let _ = said.send(told).await;
        });
    }

    /// What is shown is what the client knows now; and what is shown is read.
    async fn refresh(&mut self, limit: usize) {
        self.app.set_chats(self.client.chats());
        let open = self.app.open.clone();
        if let Some(chat) = open.and_then(|open| self.client.chat(&open).ok()) {
            match chat.page(None, limit) {
                Ok(page) => self.app.messages = page,
                Err(error) => self.app.note = Some(error.to_string()),
            }
            let standing = chat.standing();
            if standing.unread > 0 && chat.mark_read(standing.last).await.is_ok() {
                self.app.set_chats(self.client.chats());
            }
        }
        let new: Vec<String> = self.app.watched().map(str::to_owned).collect();
        for user in new {
            if !self.watched.contains(&user)
                && let Ok(mut presence) = self.client.presence(&user)
            {
                self.watched.insert(user);
                let said = self.said.clone();
                tokio::spawn(async move {
                    while let Some(presence) = presence.next().await {
                        if said.send(Said::Presence(presence)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    }

    async fn carry_out(&mut self, action: Action) {
        if let Err(error) = self.act(action).await {
            self.app.note = Some(error.to_string());
        }
    }

    async fn act(&mut self, action: Action) -> Result<(), Failure> {
        let client = &self.client;
        let names = |users: &[String]| users.to_vec();
        match action {
            Action::Quit | Action::Open(_) => {}
            Action::Send { chat, text, reply_to } => {
                let mut options = tidings_client::SendOptions::default();
                if let Some(seq) = reply_to {
                    options = options.reply_to(seq);
                }
                let chat = client.chat(&chat)?;
                drop(chat.send_with(text, options).await?);
                chat.typing(Typing::Stopped).await?;
            }
            Action::Edit { chat, seq, text } => drop(client.chat(&chat)?.edit(seq, text).await?),
            Action::React { chat, seq, reaction } => {
                drop(client.chat(&chat)?.react(seq, &reaction).await?);
            }
            Action::Delete { chat, seq, for_everyone } => {
                let chat = client.chat(&chat)?;
                drop(match for_everyone {
                    true => chat.delete_for_everyone(seq).await?,
                    false => chat.delete_for_me(seq).await?,
                });
            }
            Action::Create { group, users } => {
                let users = names(&users);
                let users: Vec<&str> = users.iter().map(|user| &**user).collect();
                drop(client.chat(&group)?.create("", &users).await?);
            }
            Action::Add { chat, users } => {
                let users: Vec<&str> = users.iter().map(|user| &**user).collect();
                drop(client.chat(&chat)?.add(&users, None).await?);
            }
            Action::Remove { chat, users } => {
                let users: Vec<&str> = users.iter().map(|user| &**user).collect();
                drop(client.chat(&chat)?.remove(&users).await?);
            }
            Action::Leave { chat } => drop(client.chat(&chat)?.leave().await?),
            Action::Title { chat, title } => drop(client.chat(&chat)?.set_title(&title).await?),
            Action::Accept { user } => drop(client.accept(&[&user]).await?),
            Action::Block { user } => drop(client.block(&[&user]).await?),
            Action::Typing { chat, state } => client.chat(&chat)?.typing(state).await?,
            Action::Reconnect => client.reconnect().await?,
            Action::Info { chat } => {
                let (chat, said) = (client.chat(&chat)?, self.said.clone());
                tokio::spawn(async move {
                    let note = match chat.info(None).await {
                        Ok(info) => {
                            let names: Vec<_> = info.members.iter().map(|it| &*it.user).collect();
                            format!("{} in {}: {}", info.count, chat.name(), names.join(", "))
                        }
                        Err(error) => error.to_string(),
                    };
                    let _ = said.send(Said::Note(note)).await;
                });
            }
            Action::Older { chat, before } => {
                let (chat, said) = (client.chat(&chat)?, self.said.clone());
                tokio::spawn(async move {
                    let told = match chat.history(Some(before), SHOWN).await {
                        Ok(_) => Said::Older,
                        Err(error) => Said::Note(error.to_string()),
                    };
                    let _ = said.send(told).await;
                });
            }
        }
        Ok(())
    }
}

/// What is typed. A thread, because a read from a terminal cannot be cancelled: it ends with the
/// process.
fn keys() -> mpsc::Receiver<Typed> {
    let (keys, typed) = mpsc::channel(64);
    std::thread::spawn(move || {
        let next = || -> io::Result<Typed> { event::read() };
        while let Ok(event) = next() {
            if keys.blocking_send(event).is_err() {
                return;
            }
        }
    });
    typed
}

/// How many messages are shown before somebody scrolls up.
const SHOWN: usize = 200;

//! Files of chats: uploaded in pieces, known by their content, there as long as a message names them.
//!
//! Who is in a chat sees its files, and nobody else: a file that was uploaded for a chat is *granted* to
//! it, and each question asks chat whether the caller is still in it. Files of chats that are kept are
//! in a folder; those of rooms are in memory only, as everything of a room is. Whether a message still
//! names a file is asked of the chat's log itself, not counted along: nothing that is lost on the way
//! can make a file go too early, or stay for ever.

mod collect;
mod index;
mod shelf;
mod uploads;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tidings_broker::auth::is_user_name;
use tidings_broker::core::metric::Metric;
use tidings_chat::{CallError, ChatHandle, ChatRef};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::config::{self, Config};
pub(crate) use collect::run as collect;
use index::{GRANT_BYTES, Grant, Index, Line};
pub(crate) use shelf::Open;
use shelf::Shelf;
use uploads::{Order, Uploads};
pub(crate) use uploads::{Progress, Writing};

/// What holds files, and what may be in it.
#[derive(Debug)]
pub(crate) struct Media {
    options: Options,
    chat: ChatHandle,
    kept: Section,
    rooms: Section,
    uploads: Mutex<Uploads>,
    /// Whole files are hashed by few at a time.
    hashing: Semaphore,
    /// Held while a file comes to its place or goes, so that none goes that just came.
    moving: tokio::sync::Mutex<()>,
}

/// Files that are in one kind of place.
#[derive(Debug)]
struct Section {
    shelf: Shelf,
    index: Mutex<Index>,
    /// Where changes of it are written; none: nowhere.
    log: Option<Arc<File>>,
    bytes_max: u64,
    full: Metric,
}

#[derive(Debug)]
pub(crate) struct Options {
    /// 0: no files are taken.
    pub(crate) file_bytes_max: u64,
    user_bytes_per_day: u64,
    uploads_max: usize,
    unreferenced: Duration,
    checks_per_second: usize,
}

/// Why something cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MediaError {
    #[error("{0}")]
    Format(&'static str),
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("there is no such file, or not in this chat")]
    NotFound,
    #[error("{0}")]
    Conflict(&'static str),
    #[error("another request writes to this upload; wait until it has ended")]
    Busy,
    /// Larger than a file may be.
    #[error("a file may have {max} bytes, and this one has more")]
    Size { max: u64 },
    #[error("{text}")]
    Limit { text: &'static str, metric: Metric },
    #[error("the file cannot be kept: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A file that somebody may see.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) bytes: u64,
    /// Its media type, as whoever uploaded it said.
    pub(crate) kind: String,
    pub(crate) open: Open,
}

impl Media {
    /// Opens the folder of files, as configured.
    ///
    /// # Errors
    /// It cannot be used.
    pub(crate) fn open(config: &Config, chat: ChatHandle) -> io::Result<Self> {
        let media = &config.media;
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let is_kept = config.data.durability != config::Durability::Memory;
        let folder = is_kept.then(|| match media.dir.as_str() {
            "" => config.data.dir.join("media"),
            dir => PathBuf::from(dir),
        });
        let uploads = Uploads::open(folder.as_deref())?;
        let rooms = Section {
            shelf: Shelf::in_memory(),
            index: Mutex::new(Index::in_memory()),
            log: None,
            bytes_max: media.room_bytes_max,
            full: Metric::LimitMediaRooms,
        };
        let kept = match &folder {
            Some(folder) => {
                let shelf = Shelf::in_folder(folder)?;
                let (index, log) = Index::open(&folder.join("index"))?;
                Section {
                    shelf,
                    index: Mutex::new(index),
                    log: Some(Arc::new(log)),
                    bytes_max: media.bytes_max,
                    full: Metric::LimitMediaBytes,
                }
            }
            None => Section {
                shelf: Shelf::in_memory(),
                index: Mutex::new(Index::in_memory()),
                log: None,
                bytes_max: media.room_bytes_max,
                full: Metric::LimitMediaRooms,
            },
        };
        let options = Options {
            file_bytes_max: media.file_bytes_max,
            user_bytes_per_day: media.user_bytes_per_day,
            uploads_max: size(media.uploads_max),
            unreferenced: Duration::from_secs(media.unreferenced_s),
            checks_per_second: size(media.checks_per_second),
        };
        Ok(Self {
            options,
            chat,
            kept,
            rooms,
            uploads: Mutex::new(uploads),
            hashing: Semaphore::new(HASHED_AT_ONCE),
            moving: tokio::sync::Mutex::default(),
        })
    }

    /// The bounds.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Begins an upload for a chat, as its caller calls it; its id.
    ///
    /// # Errors
    /// It may not be, or there is no room for it.
    pub(crate) async fn begin(
        &self,
        user: &str,
        chat: &str,
        kind: &str,
        bytes: u64,
    ) -> Result<String, MediaError> {
        let max = self.options.file_bytes_max;
        if max == 0 {
            return Err(MediaError::Forbidden(
                "no files are taken here; media.file_bytes_max is 0",
            ));
        }
        if bytes > max {
            return Err(MediaError::Size { max });
        }
        if bytes == 0 || kind.len() > KIND_BYTES_MAX || !kind.is_ascii() {
            return Err(MediaError::Format("expected a file with something in it, and its type"));
        }
        let (place, _) = self.enter(user, chat).await?;
        let now = millis(SystemTime::now());
        let section = self.section(&place);
        let chats = chat_name(&place);
        // What names it comes behind what is there now.
        let from = match self.chat.log(&place, u64::MAX, 1).await {
            Ok(page) => page.last + 1,
            Err(CallError::Refused { .. }) => 1,
            Err(error) => return Err(error.into()),
        };
        let order = Order {
            user: user.to_owned(),
            chat: chats,
            kind: kind.to_owned(),
            bytes,
            from,
            is_room: self.is_room(&place),
        };
        let (kept, of_user) = {
            let index = lock(&section.index);
            (index.bytes(), index.bytes_of(user, now.saturating_sub(DAY_MILLIS)))
        };
        let mut uploads = lock(&self.uploads);
        let (waiting, own) = uploads.bytes(order.is_room, user);
        let bytes = bytes.saturating_add(GRANT_BYTES);
        if kept.saturating_add(waiting).saturating_add(bytes) > section.bytes_max {
            let text = "there is no room for more files; try again later, or a smaller one";
            return Err(MediaError::Limit { text, metric: section.full });
        }
        let day = self.options.user_bytes_per_day;
        if day > 0 && of_user.saturating_add(own).saturating_add(bytes) > day {
            let text = "that is more than one user uploads in a day; go on tomorrow";
            return Err(MediaError::Limit { text, metric: Metric::LimitMediaDay });
        }
        if !uploads.has_room(user, self.options.uploads_max) {
            let text = "too many uploads are under way; end some, or wait";
            return Err(MediaError::Limit { text, metric: Metric::LimitMediaUploads });
        }
        Ok(uploads.begin(order)?)
    }

    /// How far an upload of the user is.
    ///
    /// # Errors
    /// There is none, or it is not theirs.
    pub(crate) fn progress(&self, user: &str, id: &str) -> Result<Progress, MediaError> {
        lock(&self.uploads).progress(user, id).ok_or(MediaError::NotFound)
    }

    /// Begins to write to an upload, from `offset` on. One at a time.
    ///
    /// # Errors
    /// There is none, it is not there, or somebody else writes.
    pub(crate) fn write(
        self: &Arc<Self>,
        user: &str,
        id: &str,
        offset: u64,
    ) -> Result<Writing, MediaError> {
        let mut uploads = lock(&self.uploads);
        let progress = uploads.progress(user, id).ok_or(MediaError::NotFound)?;
        if progress.offset != offset {
            return Err(MediaError::Conflict("this is not where the upload is; HEAD tells"));
        }
        let part = uploads.take(id).ok_or(MediaError::Busy)?;
        Ok(Writing::new(Arc::clone(self), id.to_owned(), progress, part))
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// There is none, or somebody writes to it.
    pub(crate) fn give_up(&self, user: &str, id: &str) -> Result<(), MediaError> {
        let mut uploads = lock(&self.uploads);
        uploads.progress(user, id).ok_or(MediaError::NotFound)?;
        let part = uploads.take(id).ok_or(MediaError::Busy)?;
        uploads.forget(id);
        part.remove();
        Ok(())
    }

    /// A file of a chat, for one who is in it.
    ///
    /// # Errors
    /// There is none, or not for them.
    pub(crate) async fn find(
        &self,
        user: &str,
        chat: &str,
        hash: &str,
    ) -> Result<Found, MediaError> {
        if hash.len() != 64 || !hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(MediaError::NotFound);
        }
        let (place, is_member) = self.enter(user, chat).await?;
        let section = self.section(&place);
        let found = lock(&section.index).find(hash, &chat_name(&place));
        let (bytes, Grant { kind, user: by, .. }) = found.ok_or(MediaError::NotFound)?;
        // Of a chat that has not begun only whoever uploaded it for the first message.
        if !is_member && by != user {
            return Err(MediaError::NotFound);
        }
        let open = section.shelf.open(hash).ok_or(MediaError::NotFound)?;
        Ok(Found { bytes, kind, open })
    }

    /// The chat that `user` calls so, and whether they are in it: a direct chat may be one that has not
    /// begun, or is over for both.
    async fn enter(&self, user: &str, chat: &str) -> Result<(ChatRef, bool), MediaError> {
        const OTHERS: MediaError = MediaError::Forbidden("you are not in this chat");
        let own_room = user.strip_prefix('~').and_then(|name| name.rsplit_once('.'));
        let place = match (own_room, chat.strip_prefix('@')) {
            (Some((room, _)), _) => {
                let name = ["~", room].concat();
                if chat != "~" && chat != name {
                    return Err(OTHERS);
                }
                ChatRef::named(&name)
            }
            (None, Some(other)) if is_user_name(other) => ChatRef::direct(user, other),
            (None, _) if chat.starts_with('~') => return Err(OTHERS),
            (None, _) => ChatRef::named(chat),
        };
        match self.chat.standing(&place, user).await {
            Ok(Some(_)) => Ok((place, true)),
            Ok(None) if matches!(place, ChatRef::Direct(..)) => Ok((place, false)),
            Ok(None) => Err(OTHERS),
            Err(CallError::Refused { .. }) => Err(OTHERS),
            Err(CallError::Name { .. }) => Err(MediaError::Format("expected the name of a chat")),
            Err(error) => Err(error.into()),
        }
    }

    fn is_room(&self, place: &ChatRef) -> bool {
        matches!(place, ChatRef::Named(name) if name.starts_with('~'))
    }

    fn section(&self, place: &ChatRef) -> &Section {
        if self.is_room(place) { &self.rooms } else { &self.kept }
    }

    /// A file is whole: it comes to its place, and is its chat's.
    async fn shelve(&self, order: Order, part: uploads::Part) -> Result<String, MediaError> {
        let _few = self.hashing.acquire().await;
        let (hash, part) = part.hash().await?;
        let section = if order.is_room { &self.rooms } else { &self.kept };
        let grant = Grant {
            user: order.user,
            time: millis(SystemTime::now()),
            kind: order.kind,
            from: order.from,
            named: None,
        };
        let _nothing_goes_meanwhile = self.moving.lock().await;
        section.shelf.put(&hash, part).await?;
        let line = lock(&section.index).line(&hash, order.bytes, &order.chat, grant);
        section.say(line).await?;
        Ok(hash)
    }
}

impl Section {
    /// Writes a change of the index, and then takes it over. One at a time: see [`Media::moving`].
    async fn say(&self, line: Line) -> io::Result<()> {
        let line = match &self.log {
            None => line,
            Some(log) => {
                let log = Arc::clone(log);
                let write = move || line.write(&log).map(|()| line);
                spawn_blocking(write).await.map_err(io::Error::other)??
            }
        };
        lock(&self.index).apply(line);
        Ok(())
    }
}

/// How a chat is called here, whoever looks.
fn chat_name(place: &ChatRef) -> String {
    place.to_string()
}

/// The chat that is called so here.
fn chat_of(name: &str) -> ChatRef {
    let direct = name.strip_prefix('@').and_then(|rest| rest.split_once(":@"));
    direct.map_or_else(|| ChatRef::named(name), |(one, other)| ChatRef::direct(one, other))
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// How many whole files are hashed at once.
const HASHED_AT_ONCE: usize = 2;

/// The longest media type.
const KIND_BYTES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_chats_lead_back_to_them() {
        for place in [ChatRef::direct("bob", "a.b"), ChatRef::named("!news"), ChatRef::named("~x")]
        {
            assert_eq!(chat_of(&chat_name(&place)), place);
        }
    }
}

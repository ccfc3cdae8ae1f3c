//! What the rows of a store mean: keys, values, and their versions.
//!
//! A key begins with a byte for its kind; names end with a zero, which no name contains; numbers are
//! big-endian, so that the order of bytes is that of the log. Values are postcard behind a version
//! byte of their own. All of it is on disk for ever: a new field is a new version.

use super::{Change, Row, Store};
use crate::entry::{Body, Entry, EntryKind};
use crate::error::StoreError;
use serde::{Deserialize, Serialize};

// Kinds of rows. On disk for ever.
const VERSION: u8 = 0;
const DEVICE: u8 = 1;
const CHAT: u8 = 2;
const ERRAND: u8 = 3;
const ENTRY: u8 = 4;
const ABOUT: u8 = 5;
const EXPIRES: u8 = 6;

/// The version of the rows as a whole.
const FORMAT: u8 = 1;

/// The version of every value so far.
const VALUE: u8 = 1;

/// What a device knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    /// Whether it has ever heard where all chats are: then what a lost session missed is fetched.
    pub(crate) synced: bool,
}

/// What a device knows of a chat, but for its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChatRow {
    /// Places whose entry is here, or gone.
    pub(crate) known: Vec<(u64, u64)>,
    /// From where on every place is wanted; 0: nowhere yet.
    pub(crate) floor: u64,
    /// The application has dealt with everything up to here.
    pub(crate) taken: u64,
    /// The newest place there is, as far as anybody said.
    pub(crate) top: u64,
    pub(crate) time: u64,
    pub(crate) read: u64,
    /// What of `read` the broker has acknowledged.
    pub(crate) read_told: u64,
    /// Places of messages of others behind `read`.
    pub(crate) unread: Vec<(u64, u64)>,
    /// Unread messages that are not here, up to `synced_to`.
    pub(crate) unfetched: u64,
    pub(crate) synced_to: u64,
    pub(crate) others: Vec<Other>,
    pub(crate) stranger: bool,
    pub(crate) ended: bool,
    /// Known places whose entries were not safe yet when this was written; of what was loaded, those
    /// that a crash has kept from the disk.
    pub(crate) fresh: Vec<u64>,
}

/// How far another member of a chat is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Other {
    pub(crate) user: String,
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

/// Something to be published until the broker has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrandRow {
    /// The chat; `-` for what belongs to none.
    pub(crate) chat: String,
    /// The topic behind the chat (`send/m1`), or all of it where there is none (`me/block`).
    pub(crate) verb: String,
    /// The message id; empty for a command without one.
    pub(crate) id: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) content_type: Option<String>,
    /// The entry that a message replies to.
    pub(crate) reference: Option<u64>,
    /// When it was asked for, in ms since 1970 by the device's clock: to show, never to decide.
    pub(crate) time: u64,
}

#[derive(Serialize, Deserialize)]
struct EntryRow {
    from: String,
    time: u64,
    id: String,
    body: BodyRow,
    kind: String,
    reference: Option<u64>,
    content_type: Option<String>,
    expires: Option<u64>,
    own: bool,
}

#[derive(Serialize, Deserialize)]
enum BodyRow {
    Text(String),
    Data(Vec<u8>),
    Empty,
}

/// All that a machine begins with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loaded {
    pub(crate) device: DeviceRow,
    pub(crate) chats: Vec<(String, ChatRow)>,
    pub(crate) errands: Vec<(u64, ErrandRow)>,
}

/// Reads all but the entries, and makes an empty store one of this version.
///
/// # Errors
///
/// The disk failed, a row is damaged, or the store is of a later version.
pub(crate) fn load(store: &dyn Store) -> Result<Loaded, StoreError> {
    match store.read(&[VERSION]..&[VERSION + 1], false, 1)?.first() {
        None => {
            let (key, value) = (vec![VERSION], vec![FORMAT]);
            store.write(&[Change::Put { key, value }])?;
        }
        // An older version is brought up to date here, one step for each.
        Some((_, version)) if version.first() == Some(&FORMAT) => {}
        Some((_, version)) => {
            let found = version.first().copied().unwrap_or_default();
            return Err(StoreError::Version { expected: FORMAT, found });
        }
    }
    let mut loaded = Loaded::default();
    for (_, value) in store.read(&[DEVICE]..&[DEVICE + 1], false, 1)? {
        loaded.device = decode(&value)?;
    }
    each(store, &[CHAT], &[CHAT + 1], |key, value| {
        loaded.chats.push((name_of(key)?, decode(value)?));
        Ok(())
    })?;
    for (name, chat) in &mut loaded.chats {
        // What a crash left may be any of what was being written: a chat without its last entries.
        let mut missing = Vec::new();
        for seq in std::mem::take(&mut chat.fresh) {
            if entries(store, name, seq, seq, false, 1)?.is_empty() {
                missing.push(seq);
            }
        }
        chat.fresh = missing;
    }
    each(store, &[ERRAND], &[ERRAND + 1], |key, value| {
        loaded.errands.push((number_of(key)?, decode(value)?));
        Ok(())
    })?;
    Ok(loaded)
}

pub(crate) fn put_device(device: &DeviceRow) -> Change {
    Change::Put { key: vec![DEVICE], value: encode(device) }
}

pub(crate) fn put_chat(name: &str, chat: &ChatRow) -> Change {
    Change::Put { key: named(CHAT, name), value: encode(chat) }
}

pub(crate) fn put_errand(number: u64, errand: &ErrandRow) -> Change {
    Change::Put { key: numbered(vec![ERRAND], number), value: encode(errand) }
}

pub(crate) fn delete_errand(number: u64) -> Change {
    Change::Delete { key: numbered(vec![ERRAND], number) }
}

/// An entry, and where it is found by what it is about and by when it goes.
pub(crate) fn put_entry(entry: &Entry, changes: &mut Vec<Change>) {
    let place = numbered(named(ENTRY, &entry.chat), entry.seq);
    let row = EntryRow {
        from: entry.from.clone(),
        time: entry.time,
        id: entry.id.clone(),
        body: match &entry.body {
            Body::Text(text) => BodyRow::Text(text.clone()),
            Body::Data(data) => BodyRow::Data(data.clone()),
            Body::Empty => BodyRow::Empty,
        },
        kind: entry.kind.name().to_owned(),
        reference: entry.reference,
        content_type: entry.content_type.clone(),
        expires: entry.expires,
        own: entry.own,
    };
    changes.push(Change::Put { key: place, value: encode(&row) });
    if let Some(reference) = entry.reference.filter(|_| entry.kind != EntryKind::Message) {
        let key = numbered(numbered(named(ABOUT, &entry.chat), reference), entry.seq);
        changes.push(Change::Put { key, value: Vec::new() });
    }
    if let Some(expires) = entry.expires {
        let mut key = numbered(vec![EXPIRES], expires);
        key.extend(named(ENTRY, &entry.chat).get(1..).unwrap_or_default());
        changes.push(Change::Put { key: numbered(key, entry.seq), value: Vec::new() });
    }
}

/// The entries of a chat from one place to another, and what was said about them.
pub(crate) fn delete_entries(chat: &str, from: u64, to: u64, changes: &mut Vec<Change>) {
    for kind in [ENTRY, ABOUT] {
        let (from, to) = place_range(kind, chat, from, to);
        changes.push(Change::DeleteRange { from, to });
    }
}

/// What the broker has not answered, in the order of asking.
///
/// # Errors
///
/// The disk failed, or a row is damaged.
pub(crate) fn errands(store: &dyn Store) -> Result<Vec<ErrandRow>, StoreError> {
    let mut found = Vec::new();
    each(store, &[ERRAND], &[ERRAND + 1], |_, value| {
        found.push(decode(value)?);
        Ok(())
    })?;
    Ok(found)
}

/// Up to `limit` entries of a chat, in the order of their places; the newest of them if `newest`.
///
/// # Errors
///
/// The disk failed, or a row is damaged.
pub(crate) fn entries(
    store: &dyn Store,
    chat: &str,
    from: u64,
    to: u64,
    newest: bool,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let (from, to) = place_range(ENTRY, chat, from, to);
    let mut rows = store.read(&from..&to, newest, limit)?;
    if newest {
        rows.reverse();
    }
    rows.iter().map(|row| entry(chat, row)).collect()
}

/// The edits, reactions and deletions of an entry, in order.
///
/// # Errors
///
/// The disk failed, or a row is damaged.
pub(crate) fn about(store: &dyn Store, chat: &str, seq: u64) -> Result<Vec<Entry>, StoreError> {
    let (from, to) = place_range(ABOUT, chat, seq, seq);
    let mut found = Vec::new();
    for (key, _) in store.read(&from..&to, false, ABOUT_MAX)? {
        let place = number_of(&key)?;
        found.extend(entries(store, chat, place, place, false, 1)?);
    }
    Ok(found)
}

/// What to delete of entries whose time has come by `now`, in ms since 1970.
///
/// # Errors
///
/// The disk failed, or a row is damaged.
pub(crate) fn expired(store: &dyn Store, now: u64) -> Result<Vec<Change>, StoreError> {
    let to = numbered(vec![EXPIRES], now.saturating_add(1));
    let mut changes = Vec::new();
    for (key, _) in store.read(&[EXPIRES]..&to, false, EXPIRED_MAX)? {
        let rest = key.get(9..).unwrap_or_default();
        let mut place = vec![ENTRY];
        place.extend(rest);
        changes.push(Change::Delete { key: place });
        changes.push(Change::Delete { key });
    }
    Ok(changes)
}

fn entry(chat: &str, (key, value): &Row) -> Result<Entry, StoreError> {
    let row: EntryRow = decode(value)?;
    Ok(Entry {
        chat: chat.to_owned(),
        seq: number_of(key)?,
        from: row.from,
        time: row.time,
        id: row.id,
        body: match row.body {
            BodyRow::Text(text) => Body::Text(text),
            BodyRow::Data(data) => Body::Data(data),
            BodyRow::Empty => Body::Empty,
        },
        kind: EntryKind::named(&row.kind),
        reference: row.reference,
        content_type: row.content_type,
        expires: row.expires,
        own: row.own,
    })
}

fn each(
    store: &dyn Store,
    from: &[u8],
    to: &[u8],
    mut with: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut from = from.to_vec();
    loop {
        let rows = store.read(&from..to, false, PAGE)?;
        for (key, value) in &rows {
            with(key, value)?;
        }
        let Some((last, _)) = rows.last().filter(|_| rows.len() == PAGE) else { return Ok(()) };
        from.clone_from(last);
        from.push(0);
    }
}

fn named(kind: u8, name: &str) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend(name.as_bytes());
    key.push(0);
    key
}

fn numbered(mut key: Vec<u8>, number: u64) -> Vec<u8> {
    key.extend(number.to_be_bytes());
    key
}

fn place_range(kind: u8, chat: &str, from: u64, to: u64) -> (Vec<u8>, Vec<u8>) {
    let to = numbered(named(kind, chat), to.saturating_add(1));
    (numbered(named(kind, chat), from), to)
}

fn name_of(key: &[u8]) -> Result<String, StoreError> {
    let name = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| damaged("a key"))?;
    Ok(name.to_owned())
}

fn number_of(key: &[u8]) -> Result<u64, StoreError> {
    key.last_chunk().copied().map(u64::from_be_bytes).ok_or_else(|| damaged("a key"))
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Fails for no type here: they have a length, and memory is there or the program ends.
    postcard::to_extend(value, vec![VALUE]).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, StoreError> {
    match value.split_first() {
        Some((&VALUE, rest)) => postcard::from_bytes(rest).map_err(|_| damaged("a row")),
        Some((&found, _)) => Err(StoreError::Version { expected: VALUE, found }),
        None => Err(damaged("a row")),
    }
}

fn damaged(what: &'static str) -> StoreError {
    StoreError::Damaged { what: what.to_owned() }
}

/// Rows that are read at a time.
const PAGE: usize = 256;

/// What is looked at of all that was said about one entry: the oldest.
const ABOUT_MAX: usize = 512;

/// Expired entries that are deleted at a time.
const EXPIRED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn text(chat: &str, seq: u64, kind: EntryKind, reference: Option<u64>) -> Entry {
        Entry {
            chat: chat.to_owned(),
            seq,
            from: "bob".to_owned(),
            time: 5,
            id: format!("m{seq}"),
            body: Body::Text(format!("text {seq}")),
            kind,
            reference,
            content_type: None,
            expires: (seq == 3).then_some(100),
            own: false,
        }
    }

    fn seqs(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn entries_are_found_by_place_by_what_they_are_about_and_by_their_end() {
        let (store, mut changes) = (MemoryStore::default(), Vec::new());
        for chat in ["@bob", "@bobby"] {
            for seq in [1, 2, 3, 300] {
                put_entry(&text(chat, seq, EntryKind::Message, None), &mut changes);
            }
        }
        put_entry(&text("@bob", 301, EntryKind::Edit, Some(2)), &mut changes);
        store.write(&changes).unwrap();
        let found = entries(&store, "@bob", 1, u64::MAX, true, 3).unwrap();
        assert_eq!(seqs(&found), [3, 300, 301]);
        assert_eq!(found[0], text("@bob", 3, EntryKind::Message, None));
        assert_eq!(seqs(&entries(&store, "@bob", 2, 300, false, 9).unwrap()), [2, 3, 300]);
        assert_eq!(seqs(&about(&store, "@bob", 2).unwrap()), [301]);
        assert!(expired(&store, 99).unwrap().is_empty());
        store.write(&expired(&store, 100).unwrap()).unwrap();
        assert_eq!(seqs(&entries(&store, "@bob", 1, 10, false, 9).unwrap()), [1, 2]);
        assert!(expired(&store, 100).unwrap().is_empty());
        changes.clear();
        delete_entries("@bob", 1, 300, &mut changes);
        store.write(&changes).unwrap();
        assert_eq!(seqs(&entries(&store, "@bob", 1, 999, false, 9).unwrap()), [301]);
        assert!(about(&store, "@bob", 2).unwrap().is_empty());
        assert_eq!(entries(&store, "@bobby", 1, 999, false, 9).unwrap().len(), 3);
    }

    #[test]
    fn what_was_written_is_loaded_and_a_later_version_is_refused() {
        let store = MemoryStore::default();
        assert!(load(&store).unwrap().chats.is_empty());
        let chat = ChatRow { known: vec![(1, 4)], read: 2, ..ChatRow::default() };
        let device = DeviceRow { synced: true };
        let changes: Vec<Change> = (0..600)
            .map(|n| put_chat(&format!("g{n}"), &chat))
            .chain([put_device(&device)])
            .collect();
        store.write(&changes).unwrap();
        let loaded = load(&store).unwrap();
        assert_eq!((loaded.chats.len(), loaded.device), (600, device));
        assert!(loaded.chats.contains(&("g599".to_owned(), chat)));
        store.write(&[Change::Put { key: vec![VERSION], value: vec![9] }]).unwrap();
        assert!(matches!(load(&store), Err(StoreError::Version { found: 9, .. })));
    }

    /// The bytes of a row are on disk for ever.
    #[test]
    fn rows_have_the_bytes_they_always_had() {
        let mut changes = Vec::new();
        put_entry(&text("@b", 1, EntryKind::Message, None), &mut changes);
        let key = b"\x04@b\0\0\0\0\0\0\0\0\x01".to_vec();
        let value = b"\x01\x03bob\x05\x02m1\x00\x06text 1\x07message\x00\x00\x00\x00".to_vec();
        assert_eq!(changes, [Change::Put { key, value }]);
    }
}

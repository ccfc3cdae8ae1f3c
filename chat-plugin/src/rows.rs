//! The rows chat keeps: their keys and values. On disk for ever.
//!
//! A chat's rows lie in the slot of the chat, a user's in the slot of the user, and each together:
//! one range holds a whole chat. Within it the head and the cursors come first and the log last, so
//! that one short read opens a chat of any length. Numbers here are never given another meaning.

mod beside;
mod verify;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidings_core::message::{BadRow, pack, unpack};
use tidings_core::record::{KeyBuilder, KeyRange, RowKind};
use tidings_core::time::Time;

use crate::entry::Kind;
use crate::group::Role;
use crate::ties::{PeerRow, Privacy, SeenRow, Stance};
use crate::topics::{ChatId, user_slot};
use beside::AUTHORS;
pub(crate) use beside::{
    DueRow, HeadPart, HiddenRow, KeyRow, NoteKind, NoteRow, SettingsRow, doomed_key, doomed_place,
    due_key, due_range, hidden_key, key_key, note_key, settings_key,
};

pub use verify::verify;

/// The first byte of every key of chat behind slot and kind: other services take other numbers.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Family {
    Chat = 1,
    User = 2,
    Due = 3,
    Doomed = 4,
}

/// What a row of a chat is. Their order is the order in which a chat is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum ChatRow {
    Group = 0,
    Head = 1,
    Member = 2,
    Device = 3,
    Ids = 4,
    Log = 5,
}

/// What a row of a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum UserRow {
    Presence = 1,
    Device = 2,
    Chat = 3,
    State = 4,
    Peer = 16,
    Privacy = 17,
    Seen = 18,
    Push = 19,
    Keys = 20,
}

fn chat_key(chat: ChatId, row: ChatRow) -> KeyBuilder {
    let key = KeyBuilder::new(chat.slot(), RowKind::Service).byte(Family::Chat as u8);
    key.raw(&chat.0).byte(row as u8)
}

fn user_key(user: &str, row: UserRow) -> KeyBuilder {
    let key = KeyBuilder::new(user_slot(user), RowKind::Service).byte(Family::User as u8);
    key.text(user).byte(row as u8)
}

/// Everything of a chat.
pub(crate) fn chat_range(chat: ChatId) -> KeyRange {
    let key = KeyBuilder::new(chat.slot(), RowKind::Service).byte(Family::Chat as u8);
    key.raw(&chat.0).prefix()
}

/// All of a chat's rows of one sort.
pub(crate) fn chat_rows(chat: ChatId, row: ChatRow) -> KeyRange {
    chat_key(chat, row).prefix()
}

pub(crate) fn head_key(chat: ChatId) -> Bytes {
    chat_key(chat, ChatRow::Head).build()
}

/// Beside the head, so that it is read with it.
pub(crate) fn authors_key(chat: ChatId) -> Bytes {
    chat_key(chat, ChatRow::Head).byte(AUTHORS).build()
}

pub(crate) fn group_key(chat: ChatId) -> Bytes {
    chat_key(chat, ChatRow::Group).build()
}

pub(crate) fn member_key(chat: ChatId, user: &str) -> Bytes {
    chat_key(chat, ChatRow::Member).raw(user.as_bytes()).build()
}

/// Beside the member's row, so that it is read with it: a name holds no NUL.
pub(crate) fn stance_key(chat: ChatId, user: &str) -> Bytes {
    chat_key(chat, ChatRow::Member).text(user).byte(STANCE).build()
}

const STANCE: u8 = 16;

/// Whose stance it is, if the row of a member is one.
pub(crate) fn stance_of(rest: &[u8]) -> Option<&str> {
    std::str::from_utf8(rest.strip_suffix(&[0, STANCE])?).ok()
}

pub(crate) fn cursor_key(chat: ChatId, user: &str, client_id: &str) -> Bytes {
    chat_key(chat, ChatRow::Device).text(user).raw(client_id.as_bytes()).build()
}

/// A page of ids, by the place of its first.
pub(crate) fn ids_key(chat: ChatId, first: u64) -> Bytes {
    chat_key(chat, ChatRow::Ids).number(first).build()
}

/// What comes before the ids.
pub(crate) fn front_range(chat: ChatId) -> KeyRange {
    let end = Some(chat_rows(chat, ChatRow::Ids).start);
    KeyRange { end, ..chat_range(chat) }
}

pub(crate) fn log_key(chat: ChatId, seq: u64) -> Bytes {
    chat_key(chat, ChatRow::Log).number(seq).build()
}

/// The entries from `from` to `to`, both included.
pub(crate) fn log_range(chat: ChatId, from: u64, to: u64) -> KeyRange {
    KeyRange { start: log_key(chat, from), end: Some(log_key(chat, to.saturating_add(1))) }
}

/// Exactly this row.
pub(crate) fn only(key: Bytes) -> KeyRange {
    let mut end = key.to_vec();
    end.push(0);
    KeyRange { start: key, end: Some(Bytes::from(end)) }
}

/// Everything of a user.
pub(crate) fn user_range(user: &str) -> KeyRange {
    let key = KeyBuilder::new(user_slot(user), RowKind::Service).byte(Family::User as u8);
    key.text(user).prefix()
}

pub(crate) fn presence_key(user: &str) -> Bytes {
    user_key(user, UserRow::Presence).build()
}

pub(crate) fn device_key(user: &str, client_id: &str) -> Bytes {
    user_key(user, UserRow::Device).raw(client_id.as_bytes()).build()
}

pub(crate) fn state_key(user: &str, client_id: &str) -> Bytes {
    user_key(user, UserRow::State).raw(client_id.as_bytes()).build()
}

pub(crate) fn peer_key(user: &str, peer: &str) -> Bytes {
    user_key(user, UserRow::Peer).raw(peer.as_bytes()).build()
}

pub(crate) fn privacy_key(user: &str) -> Bytes {
    user_key(user, UserRow::Privacy).build()
}

pub(crate) fn seen_key(user: &str, client_id: &str) -> Bytes {
    user_key(user, UserRow::Seen).raw(client_id.as_bytes()).build()
}

pub(crate) fn user_chat_key(user: &str, chat: ChatId) -> Bytes {
    user_key(user, UserRow::Chat).raw(&chat.0).build()
}

/// The chat whose row this is the key of.
pub(crate) fn chat_of(key: &[u8]) -> Option<ChatId> {
    let (family, rest) = key.get(2..)?.split_first()?;
    let id = rest.first_chunk().filter(|_| *family == Family::Chat as u8)?;
    Some(ChatId(*id))
}

/// What a key of a chat's row says besides the chat: the sort of row, and the rest.
pub(crate) fn split_chat_key(key: &[u8]) -> Option<(ChatRow, &[u8])> {
    let (row, rest) = key.get(CHAT_PREFIX_BYTES..)?.split_first()?;
    Some((CHAT_ROWS.into_iter().find(|known| *known as u8 == *row)?, rest))
}

/// The same for a user's row.
pub(crate) fn split_user_key<'a>(key: &'a [u8], user: &str) -> Option<(UserRow, &'a [u8])> {
    let (row, rest) = key.get(3 + user.len() + 1..)?.split_first()?;
    Some((USER_ROWS.into_iter().find(|known| *known as u8 == *row)?, rest))
}

const USER_ROWS: [UserRow; 9] = [
    UserRow::Presence,
    UserRow::Device,
    UserRow::Chat,
    UserRow::State,
    UserRow::Peer,
    UserRow::Privacy,
    UserRow::Seen,
    UserRow::Push,
    UserRow::Keys,
];

const CHAT_ROWS: [ChatRow; 6] =
    [ChatRow::Group, ChatRow::Head, ChatRow::Member, ChatRow::Device, ChatRow::Ids, ChatRow::Log];

/// Slot, kind, family and chat id.
const CHAT_PREFIX_BYTES: usize = 3 + 16;

/// A hash that stands for an id and its sender.
pub(crate) type IdHash = [u8; 16];

/// A hash that stands for the content of a send.
pub(crate) type ContentHash = [u8; 8];

/// What stands for a sender's message id within a chat.
pub(crate) fn hash_id(sender: &str, id: &str) -> IdHash {
    hash(Sha256::new(), &[sender.as_bytes(), &[0], id.as_bytes()])
}

/// What stands for the content of a send, and at its end for who sent it: the same id with another
/// content is a conflict.
///
/// `start` is what keeps a short text from being guessed.
pub(crate) fn hash_content(
    start: Sha256,
    mark: Mark,
    about: (Kind, u64),
    content_type: Option<&str>,
    payload: &[u8],
) -> ContentHash {
    let content_type = content_type.unwrap_or_default().as_bytes();
    let mut hash: ContentHash = match about {
        (Kind::Message, _) => hash(start, &[content_type, &[0], payload]),
        // No Content Type begins like that.
        (kind, refers) => {
            let about = [0xff, kind as u8];
            hash(start, &[&about, &refers.to_be_bytes(), content_type, &[0], payload])
        }
    };
    if let Some(end) = hash.last_chunk_mut() {
        *end = mark;
    }
    hash
}

/// Whether a send was of this sender.
pub(crate) fn is_by(content: &ContentHash, mark: Mark) -> bool {
    content.last_chunk() == Some(&mark)
}

/// What stands for a sender within a chat.
pub(crate) type Mark = [u8; 3];

fn hash<const N: usize>(mut sha: Sha256, parts: &[&[u8]]) -> [u8; N] {
    for part in parts {
        sha.update(part);
    }
    let mut short = [0; N];
    for (to, from) in short.iter_mut().zip(sha.finalize()) {
        *to = from;
    }
    short
}

/// What a chat is, beside its log.
///
/// Its `last_seq` and `last_time` may lag behind: the newest row of the log counts where it is
/// newer. Whoever deletes the newest row of the log writes the head in the same record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadRow {
    pub(crate) members: Vec<String>,
    pub(crate) created: Time,
    pub(crate) last_seq: u64,
    pub(crate) last_time: Time,
    /// Every entry below it is gone.
    pub(crate) floor: u64,
    /// Which members have written something: a bit for each, in the order of `members`.
    pub(crate) authors: u64,
}

/// Who wrote the entries that are gone and that somebody has not read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct AuthorsRow {
    /// What it tells begins behind this place.
    pub(crate) base: u64,
    pub(crate) names: Vec<String>,
    /// How many in a row, and by whom: a number from 1 in `names`; 0 where they do not count.
    pub(crate) runs: Vec<(u64, u16)>,
}

/// What a group is, beside its log and its members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    pub(crate) title: Option<String>,
    pub(crate) links: Vec<LinkRow>,
}

/// A link by which users join a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkRow {
    pub(crate) token: String,
    pub(crate) role: Role,
    /// Who made it.
    pub(crate) by: String,
    pub(crate) expires: Option<Time>,
    /// How often it can still be used.
    pub(crate) uses: Option<u32>,
}

/// A member of a group, or one who was: in the place of [`MemberRow`], as format 2.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SeatRow {
    pub(crate) role: Role,
    pub(crate) joined: Time,
    /// The first entry she sees.
    pub(crate) from: u64,
    /// The last one, if she is no member any more.
    pub(crate) until: Option<u64>,
    /// What was written while she was away in between: first and last entry, ascending.
    pub(crate) away: Vec<(u64, u64)>,
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct MemberRow {
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

/// How far a device is: everything up to `cursor` was acknowledged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CursorRow {
    pub(crate) cursor: u64,
    /// The session it is the cursor of: another one begins anew.
    pub(crate) session: u64,
}

/// What became of ids whose entries may be gone: of the first so many behind one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdPage {
    pub(crate) seq: u64,
    pub(crate) time: Time,
    pub(crate) ids: Vec<PagedId>,
}

/// One of them, in the order of their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PagedId {
    pub(crate) id: IdHash,
    pub(crate) content: ContentHash,
    /// How many places behind the page's.
    pub(crate) after: u64,
    /// How many milliseconds later.
    pub(crate) later: u64,
}

/// The presence of a user when it last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PresenceRow {
    pub(crate) epoch: u64,
    pub(crate) last_seen: Time,
    pub(crate) online: bool,
}

/// A persistent session that hears messages with QoS 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    pub(crate) session: u64,
    /// Since when.
    pub(crate) since: Time,
    /// Whether it hears every direct chat, those not yet begun included.
    pub(crate) everything: bool,
    /// Whether it is over, and only its cursors are still to be taken back.
    pub(crate) leaving: bool,
}

/// What a device has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateRow {
    /// Whether it takes several entries in one message.
    pub(crate) batch: bool,
}

/// A chat in a user's index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserChatRow {
    pub(crate) peer: String,
    pub(crate) since: Time,
}

/// A group in a user's index: in the place of [`UserChatRow`], as format 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserGroupRow {
    pub(crate) name: String,
    pub(crate) since: Time,
}

/// A group in the index of one who is in it no more and lacks something of it yet: in the place of
/// [`UserGroupRow`], as format 4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserLeftRow {
    pub(crate) name: String,
}

/// A direct chat in the index of one who has written there: in the place of [`UserChatRow`], as
/// format 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserContactRow {
    pub(crate) peer: String,
    pub(crate) since: Time,
}

/// A value of a row with nothing to borrow from it.
pub(crate) trait RowValue: Serialize + for<'a> Deserialize<'a> {
    /// Its first byte.
    const FORMAT: u8 = FORMAT;

    /// The row's value.
    fn to_bytes(&self) -> Bytes {
        pack(Self::FORMAT, self)
    }

    /// Reads what [`RowValue::to_bytes`] wrote.
    fn from_bytes(bytes: &[u8]) -> Result<Self, BadRow> {
        unpack(Self::FORMAT, bytes)
    }
}

impl RowValue for GroupRow {}

impl RowValue for SeatRow {
    const FORMAT: u8 = FORMAT_GROUP;
}

impl RowValue for UserGroupRow {
    const FORMAT: u8 = FORMAT_GROUP;
}

impl RowValue for UserLeftRow {
    const FORMAT: u8 = FORMAT_LEFT;
}

impl RowValue for UserContactRow {
    const FORMAT: u8 = FORMAT_CONTACT;
}

impl RowValue for Stance {}
impl RowValue for PeerRow {}
impl RowValue for Privacy {}
impl RowValue for SeenRow {}
impl RowValue for HeadRow {}
impl RowValue for AuthorsRow {}
impl RowValue for MemberRow {}
impl RowValue for CursorRow {}
impl RowValue for IdPage {}
impl RowValue for PresenceRow {}
impl RowValue for DeviceRow {}
impl RowValue for StateRow {}
impl RowValue for UserChatRow {}

/// Whether an index' row is of a group that the user is in no more.
pub(crate) fn is_of_left(value: &[u8]) -> bool {
    value.first() == Some(&FORMAT_LEFT)
}

/// Whether a member's or an index' row is of a group.
pub(crate) fn is_of_group(value: &[u8]) -> bool {
    value.first() == Some(&FORMAT_GROUP)
}

/// Whether an index' row is of a direct chat in which its user has written.
pub(crate) fn is_of_contact(value: &[u8]) -> bool {
    value.first() == Some(&FORMAT_CONTACT)
}

/// The format of every value here; one that changes gets a number of its own.
const FORMAT: u8 = 1;

/// What groups have in the place of a direct chat's row.
const FORMAT_GROUP: u8 = 2;

/// What an index has for a direct chat in which its user has written.
const FORMAT_CONTACT: u8 = 3;

/// That of a group in the index of one who is in it no more.
const FORMAT_LEFT: u8 = 4;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::group::Retention;
    use crate::ties::Reach;
    use crate::topics::Place;

    fn golden<T: RowValue + PartialEq + Debug>(row: &T, bytes: &[u8]) {
        assert_eq!(row.to_bytes(), bytes, "{row:?}");
        assert_eq!(T::from_bytes(bytes).as_ref(), Ok(row));
    }

    #[test]
    fn values_keep_their_bytes_for_ever() {
        let time = Time::from_millis(1000);
        golden(
            &HeadRow {
                members: vec!["alice".into(), "bob".into()],
                created: time,
                last_seq: 7,
                last_time: time,
                floor: 3,
                authors: 2,
            },
            b"\x01\x02\x05alice\x03bob\xe8\x07\x07\xe8\x07\x03\x02",
        );
        golden(
            &AuthorsRow { base: 3, names: vec!["bob".into()], runs: vec![(300, 1), (1, 0)] },
            b"\x01\x03\x01\x03bob\x02\xac\x02\x01\x01\x00",
        );
        golden(&HiddenRow { ranges: vec![(3, 300)] }, b"\x01\x01\x03\xac\x02");
        let settings =
            SettingsRow { timer: 300, retention: Retention::Days(7), rewritten: 9, memory_from: 5 };
        golden(&settings, b"\x01\xac\x02\x01\x07\x09\x05");
        let key = KeyRow { place: Some(300), since: 7, clear_to: 5 };
        golden(&key, b"\x01\x01\xac\x02\x07\x05");
        let due = DueRow { at: time, members: vec!["bob".into()], group: Some("a".into()) };
        golden(&due, b"\x01\xe8\x07\x01\x03bob\x01\x01a");
        for (retention, number) in
            [(Retention::UntilDelivered, 0), (Retention::Forever, 2), (Retention::Memory, 3)]
        {
            golden(&SettingsRow { retention, ..SettingsRow::default() }, &[1, 0, number, 0, 0]);
        }
        golden(&MemberRow { delivered: 9, read: 300 }, b"\x01\x09\xac\x02");
        golden(&CursorRow { cursor: 9, session: 5 }, b"\x01\x09\x05");
        let paged = PagedId { id: [0xab; 16], content: [0xcd; 8], after: 2, later: 300 };
        golden(
            &IdPage { seq: 7, time, ids: vec![paged] },
            &[&b"\x01\x07\xe8\x07\x01"[..], &[0xab; 16], &[0xcd; 8], b"\x02\xac\x02"].concat(),
        );
        golden(&PresenceRow { epoch: 3, last_seen: time, online: true }, b"\x01\x03\xe8\x07\x01");
        golden(
            &DeviceRow { session: 5, since: time, everything: true, leaving: false },
            b"\x01\x05\xe8\x07\x01\x00",
        );
        golden(&StateRow { batch: true }, b"\x01\x01");
        golden(&UserChatRow { peer: "bob".into(), since: time }, b"\x01\x03bob\xe8\x07");
        golden(&UserContactRow { peer: "bob".into(), since: time }, b"\x03\x03bob\xe8\x07");
        golden(&PeerRow { blocked: true, accepted: false }, b"\x01\x01\x00");
        golden(&Stance { blocked: false, accepted: true, hides: true }, b"\x01\x00\x01\x01");
        golden(&SeenRow { seen: time }, b"\x01\xe8\x07");
        golden(&NoteRow { text: "fcm:7".into() }, b"\x01\x05fcm:7");
        let (receipts, presence) = (Reach::Nobody, Reach::Contacts);
        golden(&Privacy { receipts, presence, groups: Reach::All }, b"\x01\x02\x01\x00");
        golden(&UserGroupRow { name: "!news".into(), since: time }, b"\x02\x05!news\xe8\x07");
        golden(&UserLeftRow { name: "!news".into() }, b"\x04\x05!news");
        let seat = SeatRow {
            role: Role::Admin,
            joined: time,
            from: 7,
            until: None,
            away: Vec::new(),
            delivered: 9,
            read: 8,
        };
        golden(&seat, b"\x02\x02\xe8\x07\x07\x00\x00\x09\x08");
        let gone = SeatRow { role: Role::Reader, until: Some(12), away: vec![(8, 9)], ..seat };
        golden(&gone, b"\x02\x00\xe8\x07\x07\x01\x0c\x01\x08\x09\x09\x08");
        let link = LinkRow {
            token: "abc".into(),
            role: Role::Member,
            by: "bob".into(),
            expires: Some(time),
            uses: None,
        };
        golden(
            &GroupRow { title: Some("Hi".into()), links: vec![link] },
            b"\x01\x01\x02Hi\x01\x03abc\x01\x03bob\x01\xe8\x07\x00",
        );
    }

    #[test]
    fn keys_keep_their_bytes_for_ever() {
        let chat = ChatId([0x32; 16]);
        let prefix = [&[0x32, 64, 1][..], &[0x32; 16]].concat();
        let key = |rest: &[u8]| [&prefix[..], rest].concat();
        assert_eq!(group_key(chat), key(b"\0"));
        assert_eq!(head_key(chat), key(b"\x01"));
        assert_eq!(authors_key(chat), key(b"\x01\x01"));
        assert_eq!(hidden_key(chat, "bob"), key(b"\x01\x02bob"));
        assert_eq!(due_key(chat), [&[0x32, 64, 3][..], &[0x32; 16]].concat());
        assert!(due_range(chat.slot()).contains(&due_key(chat)));
        let doomed = doomed_key(chat.slot(), 258);
        assert_eq!(doomed, &b"\x32\x40\x04\0\0\0\0\0\0\x01\x02"[..]);
        assert!(due_range(chat.slot()).contains(&doomed));
        assert_eq!((doomed_place(&doomed), doomed_place(&due_key(chat))), (Some(258), None));
        assert_eq!(key_key(chat), key(b"\x01\x04"));
        assert_eq!(settings_key(chat), key(b"\x01\x03"));
        assert_eq!(member_key(chat, "bob"), key(b"\x02bob"));
        assert_eq!(stance_key(chat, "bob"), key(b"\x02bob\0\x10"));
        assert_eq!(stance_of(b"bob\0\x10"), Some("bob"));
        assert_eq!(stance_of(b"bob"), None);
        assert_eq!(peer_key("bob", "eve"), &b"\x1f\x40\x02bob\0\x10eve"[..]);
        assert_eq!(privacy_key("bob"), &b"\x1f\x40\x02bob\0\x11"[..]);
        assert_eq!(seen_key("bob", "phone"), &b"\x1f\x40\x02bob\0\x12phone"[..]);
        assert_eq!(cursor_key(chat, "bob", "x\0y"), key(b"\x03bob\0x\0y"));
        assert_eq!(ids_key(chat, 258), key(b"\x04\0\0\0\0\0\0\x01\x02"));
        assert_eq!(log_key(chat, 258), key(b"\x05\0\0\0\0\0\0\x01\x02"));
        assert_eq!(presence_key("bob"), &b"\x1f\x40\x02bob\0\x01"[..]);
        assert_eq!(device_key("bob", "phone"), &b"\x1f\x40\x02bob\0\x02phone"[..]);
        assert_eq!(state_key("bob", "phone"), &b"\x1f\x40\x02bob\0\x04phone"[..]);
        let index = user_chat_key("bob", chat);
        assert_eq!(index, [&b"\x1f\x40\x02bob\0\x03"[..], &[0x32; 16]].concat());
        assert_eq!(split_user_key(&index, "bob"), Some((UserRow::Chat, &[0x32; 16][..])));
        assert_eq!(
            split_chat_key(&log_key(chat, 1)),
            Some((ChatRow::Log, &[0, 0, 0, 0, 0, 0, 0, 1][..]))
        );
        assert_eq!(split_chat_key(&[1, 2]), None);
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let chat = Place::direct("alice", "bob").id;
        assert!(chat_range(chat).contains(&head_key(chat)));
        assert!(chat_range(chat).contains(&log_key(chat, u64::MAX)));
        assert!(front_range(chat).contains(&cursor_key(chat, "bob", "phone")));
        assert!(!front_range(chat).contains(&ids_key(chat, 0)));
        let range = log_range(chat, 3, 5);
        let inside: Vec<u64> = (1..8).filter(|seq| range.contains(&log_key(chat, *seq))).collect();
        assert_eq!(inside, [3, 4, 5]);
        assert!(only(head_key(chat)).contains(&head_key(chat)));
        assert!(!only(head_key(chat)).contains(&member_key(chat, "")));
        assert!(user_range("bob").contains(&device_key("bob", "phone")));
        assert!(!user_range("bob").contains(&device_key("bobby", "phone")));
    }

    #[test]
    fn hashes_tell_what_they_stand_for_apart() {
        assert_ne!(hash_id("alice", "m1"), hash_id("alic", "em1"));
        let hash = |about, content_type, payload| {
            hash_content(Sha256::new(), [1; 3], about, content_type, payload)
        };
        let message = |content_type, payload| hash((Kind::Message, 0), content_type, payload);
        assert_ne!(message(None, b"x"), message(Some("x"), b""));
        assert_eq!(message(None, b"x"), message(None, b"x"));
        let edit = |refers| hash((Kind::Edit, refers), None, b"x");
        assert!(edit(1) != edit(2) && edit(1) != message(None, b"x"));
        assert!(is_by(&edit(1), [1; 3]) && !is_by(&edit(1), [1, 1, 2]));
    }
}

//! Whether rows can be read: what `check` asks of a store.

use tidings_core::message::BadRow;
use tidings_core::record::Row;

use super::{
    AuthorsRow, ChatRow, CursorRow, DeviceRow, DueRow, Family, GroupRow, HeadPart, HeadRow,
    HiddenRow, IdPage, KeyRow, MemberRow, NoteRow, PresenceRow, RowValue, SeatRow, SettingsRow,
    StateRow, UserChatRow, UserContactRow, UserGroupRow, UserLeftRow, UserRow, doomed_place,
    is_of_contact, is_of_group, is_of_left, split_chat_key, split_user_key, stance_of,
};
use crate::entry::Entry;
use crate::ties::{PeerRow, Privacy, SeenRow, Stance};

/// Whether a row of chat can be read.
///
/// # Errors
/// It cannot: what it says is lost.
pub fn verify(row: &Row) -> Result<(), BadRow> {
    let family = row.key.get(2).copied();
    if family == Some(Family::Chat as u8) {
        let (kind, rest) = split_chat_key(&row.key).ok_or(BadRow::Content)?;
        match kind {
            ChatRow::Group => GroupRow::from_bytes(&row.value).map(|_| ()),
            ChatRow::Member if stance_of(rest).is_some() => {
                Stance::from_bytes(&row.value).map(|_| ())
            }
            ChatRow::Member if is_of_group(&row.value) => {
                SeatRow::from_bytes(&row.value).map(|_| ())
            }
            ChatRow::Head => match HeadPart::of(rest).ok_or(BadRow::Content)? {
                HeadPart::Head => HeadRow::from_bytes(&row.value).map(|_| ()),
                HeadPart::Authors => AuthorsRow::from_bytes(&row.value).map(|_| ()),
                HeadPart::Hidden(_) => HiddenRow::from_bytes(&row.value).map(|_| ()),
                HeadPart::Settings => SettingsRow::from_bytes(&row.value).map(|_| ()),
                HeadPart::Key => KeyRow::from_bytes(&row.value).map(|_| ()),
            },
            ChatRow::Member => MemberRow::from_bytes(&row.value).map(|_| ()),
            ChatRow::Device => CursorRow::from_bytes(&row.value).map(|_| ()),
            ChatRow::Ids => IdPage::from_bytes(&row.value).map(|_| ()),
            ChatRow::Log => {
                let seq = rest.first_chunk().filter(|_| rest.len() == 8).ok_or(BadRow::Content)?;
                Entry::from_bytes(u64::from_be_bytes(*seq), &row.value).map(|_| ())
            }
        }
    } else if family == Some(Family::User as u8) {
        let name = row.key.get(3..).unwrap_or_default();
        let end = name.iter().position(|byte| *byte == 0).ok_or(BadRow::Content)?;
        let name = name.get(..end).and_then(|name| std::str::from_utf8(name).ok());
        let (kind, _) =
            name.and_then(|name| split_user_key(&row.key, name)).ok_or(BadRow::Content)?;
        match kind {
            UserRow::Presence => PresenceRow::from_bytes(&row.value).map(|_| ()),
            UserRow::Device => DeviceRow::from_bytes(&row.value).map(|_| ()),
            UserRow::State => StateRow::from_bytes(&row.value).map(|_| ()),
            UserRow::Peer => PeerRow::from_bytes(&row.value).map(|_| ()),
            UserRow::Privacy => Privacy::from_bytes(&row.value).map(|_| ()),
            UserRow::Push | UserRow::Keys => NoteRow::from_bytes(&row.value).map(|_| ()),
            UserRow::Seen => SeenRow::from_bytes(&row.value).map(|_| ()),
            UserRow::Chat if is_of_contact(&row.value) => {
                UserContactRow::from_bytes(&row.value).map(|_| ())
            }
            UserRow::Chat if is_of_left(&row.value) => {
                UserLeftRow::from_bytes(&row.value).map(|_| ())
            }
            UserRow::Chat if is_of_group(&row.value) => {
                UserGroupRow::from_bytes(&row.value).map(|_| ())
            }
            UserRow::Chat => UserChatRow::from_bytes(&row.value).map(|_| ()),
        }
    } else if family == Some(Family::Due as u8) {
        DueRow::from_bytes(&row.value).map(|_| ())
    } else if family == Some(Family::Doomed as u8) {
        doomed_place(&row.key).map(|_| ()).ok_or(BadRow::Content)
    } else {
        Err(BadRow::Content)
    }
}

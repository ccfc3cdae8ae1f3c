//! What Clients read: the bodies, with their fields in the order of the protocol.
//!
//! There are two views, and each session has one of them. In JSON a payload that is UTF-8 is shown
//! as `text`, any other as `data` in base64; whether it is UTF-8 is looked at here and nowhere else:
//! to the log it is bytes. In CBOR (RFC 8949) an entry is a map with small integers as keys and the
//! payload a byte string; every other body has the same fields as in JSON, by the same names.

mod personal;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use tidings_core::time::Time;

use crate::call::Why;
use crate::cbor;
use crate::code::Code;
use crate::entry::Entry;
use crate::group::Role;
use crate::json::{self, Request};
use crate::topics::View;

pub(crate) use personal::{Blocked, Device, DeviceKeys, Devices, Keys, PrivacyNow, Push, Stranger};

impl View {
    /// The body of a `message`.
    pub(crate) fn entry(self, entry: &Entry) -> Bytes {
        let mut body = Vec::with_capacity(entry_room(entry));
        self.write_entry(&mut body, entry);
        Bytes::from(body)
    }

    /// The body of a `batch`: the entries, one after the other.
    pub(crate) fn batch(self, entries: &[Arc<Entry>]) -> Bytes {
        let mut body = Vec::with_capacity(entries.iter().map(|entry| entry_room(entry)).sum());
        self.write_entries(&mut body, entries);
        Bytes::from(body)
    }

    /// The body of a `history`.
    pub(crate) fn history(self, history: &History<'_>) -> Bytes {
        let room = entries_room(history.entries) + 16 * history.gone.len() + 128;
        let mut body = Vec::with_capacity(room);
        match self {
            Self::Json => {
                for (name, number) in [
                    ("{\"from\":", history.from),
                    (",\"to\":", history.to),
                    (",\"last\":", history.last),
                ] {
                    body.extend_from_slice(name.as_bytes());
                    json::number(&mut body, number);
                }
                body.extend_from_slice(b",\"entries\":");
                self.write_entries(&mut body, history.entries);
                body.extend_from_slice(b",\"gone\":");
                json::value(&mut body, history.gone);
                if let Some(request) = history.request {
                    body.extend_from_slice(b",\"request\":");
                    json::value(&mut body, request);
                }
                body.push(b'}');
            }
            Self::Cbor => {
                cbor::map(&mut body, 5 + usize::from(history.request.is_some()));
                for (name, number) in
                    [("from", history.from), ("to", history.to), ("last", history.last)]
                {
                    cbor::text(&mut body, name);
                    cbor::number(&mut body, number);
                }
                cbor::text(&mut body, "entries");
                self.write_entries(&mut body, history.entries);
                cbor::text(&mut body, "gone");
                cbor::value(&mut body, history.gone);
                if let Some(request) = history.request {
                    cbor::text(&mut body, "request");
                    cbor::value(&mut body, request);
                }
            }
        }
        Bytes::from(body)
    }

    /// A small body.
    pub(crate) fn body<T: Serialize>(self, view: &T) -> Bytes {
        let mut body = Vec::with_capacity(96);
        match self {
            Self::Json => json::value(&mut body, view),
            Self::Cbor => cbor::value(&mut body, view),
        }
        Bytes::from(body)
    }

    /// The body of a `signal`, whose payload is shown as that of an entry in JSON.
    pub(crate) fn signal(self, from: &str, payload: &[u8]) -> Bytes {
        let text = std::str::from_utf8(payload).ok();
        let data = text.is_none().then(|| STANDARD.encode(payload));
        self.body(&Signal { from, text, data })
    }

    /// A body that was made in JSON.
    pub(crate) fn of_json(self, body: Bytes) -> Bytes {
        match (self, serde_json::from_slice::<serde_json::Value>(&body)) {
            (Self::Cbor, Ok(value)) => self.body(&value),
            _ => body,
        }
    }

    fn write_entries(self, body: &mut Vec<u8>, entries: &[Arc<Entry>]) {
        match self {
            Self::Json => {
                body.push(b'[');
                for (at, entry) in entries.iter().enumerate() {
                    if at > 0 {
                        body.push(b',');
                    }
                    write_json(body, entry);
                }
                body.push(b']');
            }
            Self::Cbor => {
                cbor::array(body, entries.len());
                for entry in entries {
                    write_cbor(body, entry);
                }
            }
        }
    }

    fn write_entry(self, body: &mut Vec<u8>, entry: &Entry) {
        match self {
            Self::Json => write_json(body, entry),
            Self::Cbor => write_cbor(body, entry),
        }
    }
}

/// The body of a small thing that all hear in JSON.
pub(crate) fn body<T: Serialize>(view: &T) -> Bytes {
    View::Json.body(view)
}

/// Appends an entry.
///
/// By hand and not by a serializer: it is written for every message, and a text without anything to
/// escape, which is nearly every one, is a single copy.
fn write_json(body: &mut Vec<u8>, entry: &Entry) {
    body.extend_from_slice(b"{\"seq\":");
    json::number(body, entry.seq);
    body.extend_from_slice(b",\"from\":");
    json::text(body, &entry.from);
    body.extend_from_slice(b",\"time\":");
    json::number(body, entry.time.as_millis());
    body.extend_from_slice(b",\"id\":");
    json::text(body, &entry.id);
    match std::str::from_utf8(&entry.payload) {
        Ok(text) => {
            body.extend_from_slice(b",\"text\":");
            json::text(body, text);
        }
        Err(_) => {
            body.extend_from_slice(b",\"data\":");
            json::base64(body, &entry.payload);
        }
    }
    if let Some(content_type) = &entry.content_type {
        body.extend_from_slice(b",\"type\":");
        json::text(body, content_type);
    }
    if let Some(kind) = entry.kind.name() {
        body.extend_from_slice(b",\"kind\":");
        json::text(body, kind);
    }
    if entry.refers > 0 {
        body.extend_from_slice(b",\"ref\":");
        json::number(body, entry.refers);
    }
    if let Some(expires) = entry.expires {
        body.extend_from_slice(b",\"expires\":");
        json::number(body, expires.as_millis());
    }
    body.push(b'}');
}

fn write_cbor(body: &mut Vec<u8>, entry: &Entry) {
    let kind = entry.kind.name();
    let optional =
        [entry.content_type.is_some(), kind.is_some(), entry.refers > 0, entry.expires.is_some()];
    cbor::map(body, 5 + optional.into_iter().map(usize::from).sum::<usize>());
    cbor::number(body, Key::Seq as u64);
    cbor::number(body, entry.seq);
    cbor::number(body, Key::From as u64);
    cbor::text(body, &entry.from);
    cbor::number(body, Key::Time as u64);
    cbor::number(body, entry.time.as_millis());
    cbor::number(body, Key::Id as u64);
    cbor::text(body, &entry.id);
    cbor::number(body, Key::Payload as u64);
    cbor::bytes(body, &entry.payload);
    if let Some(content_type) = &entry.content_type {
        cbor::number(body, Key::Type as u64);
        cbor::text(body, content_type);
    }
    if let Some(kind) = kind {
        cbor::number(body, Key::Kind as u64);
        cbor::text(body, kind);
    }
    if entry.refers > 0 {
        cbor::number(body, Key::Ref as u64);
        cbor::number(body, entry.refers);
    }
    if let Some(expires) = entry.expires {
        cbor::number(body, Key::Expires as u64);
        cbor::number(body, expires.as_millis());
    }
}

/// The keys of an entry in CBOR. They keep their meaning for ever.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Key {
    Seq = 0,
    From = 1,
    Time = 2,
    Id = 3,
    Payload = 4,
    Type = 5,
    Kind = 6,
    Ref = 7,
    Expires = 8,
}

/// How much room an entry wants, where little of it has to be escaped.
pub(crate) fn entry_room(entry: &Entry) -> usize {
    ENTRY_ROOM + entry.from.len() + entry.id.len() + entry.payload.len() * 4 / 3
}

fn entries_room(entries: &[Arc<Entry>]) -> usize {
    entries.iter().map(|entry| entry_room(entry)).sum()
}

/// The field names of an entry, its numbers, and a little to spare.
const ENTRY_ROOM: usize = 96;

/// What `history` answers: all there is from `from` to `to`.
#[derive(Debug)]
pub(crate) struct History<'a> {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The newest there is.
    pub(crate) last: u64,
    pub(crate) entries: &'a [Arc<Entry>],
    /// What is not among the entries, as first and last.
    pub(crate) gone: &'a [(u64, u64)],
    pub(crate) request: Option<&'a Request>,
}

/// What `sync` answers.
#[derive(Debug, Serialize)]
pub(crate) struct Sync<'a> {
    pub(crate) chats: &'a [SyncChat<'a>],
    /// With what to ask for the next page; none behind the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A chat in `sync`.
#[derive(Debug, Serialize)]
pub(crate) struct SyncChat<'a> {
    pub(crate) chat: String,
    pub(crate) last: u64,
    pub(crate) time: Time,
    /// Up to where the asker has read.
    pub(crate) read: u64,
    pub(crate) unread: u64,
    /// Whether the other one is a stranger, who waits to be answered or accepted.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) stranger: bool,
    /// How far the others are, for one who has written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) others: Vec<Receipt<'a>>,
}

/// The body of `ack`.
#[derive(Debug, Serialize)]
pub(crate) struct Ack<'a> {
    pub(crate) id: &'a str,
    pub(crate) seq: u64,
    pub(crate) time: Time,
}

/// The body of `error`.
#[derive(Debug, Serialize)]
pub(crate) struct Error<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    pub(crate) code: Code,
    pub(crate) text: &'a str,
    /// In milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
}

/// The body of `receipt`: how far `user` is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Receipt<'a> {
    pub(crate) user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<u64>,
    /// Entries that a device of `user` refused.
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    pub(crate) failed: &'a [u64],
}

/// The body of `invite`: a link.
#[derive(Debug, Serialize)]
pub(crate) struct Invite<'a> {
    pub(crate) token: &'a str,
    pub(crate) role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uses: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

/// The body of `info`: who is in a chat.
#[derive(Debug, Serialize)]
pub(crate) struct Info<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<&'a str>,
    /// The reader's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
    /// The newest entry.
    pub(crate) seq: u64,
    /// How many members there are.
    pub(crate) count: usize,
    /// Whether the other one of a direct chat is a stranger to the reader.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) stranger: bool,
    pub(crate) members: Vec<InfoMember<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<Invite<'a>>,
    /// Behind whom the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

/// A member, in `info`.
#[derive(Debug, Serialize)]
pub(crate) struct InfoMember<'a> {
    pub(crate) user: &'a str,
    /// What a person in a room is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) joined: Option<Time>,
}

/// The body of `info`: who has an entry.
#[derive(Debug, Serialize)]
pub(crate) struct InfoSeq<'a, C: Serialize> {
    #[serde(flatten)]
    pub(crate) counts: C,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) who: Vec<InfoWho<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

/// A member, in the same.
#[derive(Debug, Serialize)]
pub(crate) struct InfoWho<'a> {
    pub(crate) user: &'a str,
    pub(crate) delivered: bool,
    pub(crate) read: bool,
}

/// The body of `ended`.
#[derive(Debug, Serialize)]
pub(crate) struct Ended {
    /// The last entry there is for the one who hears it.
    pub(crate) seq: u64,
    /// Why, if it is a room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<Why>,
}

/// The body of `ending`: a room is over at that time.
#[derive(Debug, Serialize)]
pub(crate) struct Ending {
    pub(crate) at: Time,
    pub(crate) why: Why,
}

/// The body of `paired`.
#[derive(Debug, Serialize)]
pub(crate) struct Paired<'a> {
    pub(crate) chat: &'a str,
    pub(crate) pool: &'a str,
    /// What both named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interest: Option<&'a str>,
    pub(crate) partner: &'a str,
}

/// The body of `unpaired`.
#[derive(Debug, Serialize)]
pub(crate) struct Unpaired<'a> {
    pub(crate) pool: &'a str,
}

/// The body of `signal`.
#[derive(Debug, Serialize)]
struct Signal<'a> {
    from: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

/// The body of `typing`.
#[derive(Debug, Serialize)]
pub(crate) struct Typing<'a> {
    pub(crate) user: &'a str,
    pub(crate) state: &'a str,
}

/// The body of `presence/{user}`.
#[derive(Debug, Serialize)]
pub(crate) struct Presence {
    pub(crate) state: &'static str,
    pub(crate) last_seen: Time,
    pub(crate) epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Kind;

    fn text(body: &Bytes) -> &str {
        std::str::from_utf8(body).unwrap()
    }

    #[test]
    fn an_entry_shows_text_or_data_and_its_type() {
        let mut shown = Entry {
            seq: 1,
            time: Time::from_millis(1_793_210_412_345),
            from: "alice".into(),
            device: "phone".into(),
            id: "m1".into(),
            content_type: None,
            payload: Bytes::from_static(b"hel\"lo"),
            kind: Kind::Message,
            refers: 0,
            expires: None,
        };
        assert_eq!(
            text(&View::Json.entry(&shown)),
            r#"{"seq":1,"from":"alice","time":1793210412345,"id":"m1","text":"hel\"lo"}"#
        );
        shown.payload = Bytes::from_static(&[0xff, 0x00]);
        shown.content_type = Some("image/x".into());
        assert_eq!(
            text(&View::Json.entry(&shown)),
            r#"{"seq":1,"from":"alice","time":1793210412345,"id":"m1","data":"/wA=","type":"image/x"}"#
        );
        shown = Entry { payload: Bytes::from_static(b"hi"), content_type: None, ..shown };
        (shown.kind, shown.refers) = (Kind::Edit, 7);
        shown.expires = Some(Time::from_millis(9));
        let json = View::Json.entry(&shown);
        assert!(text(&json).ends_with(r#""text":"hi","kind":"edit","ref":7,"expires":9}"#));
        let cbor = View::Cbor.entry(&shown);
        assert!(cbor.starts_with(b"\xa8\x00\x01"));
        assert!(cbor.ends_with(b"\x04\x42hi\x06\x64edit\x07\x07\x08\x09"));
    }

    #[test]
    fn bodies_have_the_fields_of_the_protocol_in_order() {
        let time = Time::from_millis(5);
        assert_eq!(text(&body(&Ack { id: "m1", seq: 3, time })), r#"{"id":"m1","seq":3,"time":5}"#);
        let error =
            Error { id: Some("m1"), code: Code::UnknownChat, text: "no", retry_after: Some(9) };
        assert_eq!(
            text(&body(&error)),
            r#"{"id":"m1","code":"unknown_chat","text":"no","retry_after":9}"#
        );
        let receipt = Receipt { user: "bob", delivered: Some(7), read: Some(5), failed: &[] };
        assert_eq!(text(&body(&receipt)), r#"{"user":"bob","delivered":7,"read":5}"#);
        let failed = Receipt { user: "bob", failed: &[7], ..Receipt::default() };
        assert_eq!(text(&body(&failed)), r#"{"user":"bob","failed":[7]}"#);
        let presence = Presence { state: "online", last_seen: time, epoch: 4 };
        assert_eq!(text(&body(&presence)), r#"{"state":"online","last_seen":5,"epoch":4}"#);
    }
}

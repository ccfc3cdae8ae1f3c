//! What Clients read: the JSON bodies, with their fields in the order of the protocol.
//!
//! A payload that is UTF-8 is shown as `text`, any other as `data` in base64. Whether it is UTF-8
//! is looked at here and nowhere else: to the log it is bytes.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use tidings_core::time::Time;

use crate::code::Code;
use crate::entry::Entry;
use crate::group::Role;

/// The body of `message`.
pub(crate) fn entry(entry: &Entry) -> Bytes {
    let text = std::str::from_utf8(&entry.payload).ok();
    let view = EntryView {
        seq: entry.seq,
        from: &entry.from,
        time: entry.time,
        id: &entry.id,
        text,
        data: text.is_none().then_some(Base64(&entry.payload)),
        content_type: entry.content_type.as_deref(),
        kind: entry.kind.name(),
    };
    write(&view, 96 + entry.id.len() + entry.payload.len() * 3 / 2)
}

#[derive(Serialize)]
struct EntryView<'a> {
    seq: u64,
    from: &'a str,
    time: Time,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Base64<'a>>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
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
    pub(crate) members: Vec<InfoMember<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<Invite<'a>>,
    /// Behind whom the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<&'a str>,
}

/// A member, in `info`.
#[derive(Debug, Serialize)]
pub(crate) struct InfoMember<'a> {
    pub(crate) user: &'a str,
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

/// Writes a small body.
pub(crate) fn body<T: Serialize>(view: &T) -> Bytes {
    write(view, 96)
}

fn write<T: Serialize>(view: &T, room: usize) -> Bytes {
    let mut buffer = Vec::with_capacity(room);
    // Writing into a `Vec` cannot fail, and these types have nothing JSON could refuse.
    let _ = serde_json::to_writer(&mut buffer, view);
    Bytes::from(buffer)
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
        };
        assert_eq!(
            text(&entry(&shown)),
            r#"{"seq":1,"from":"alice","time":1793210412345,"id":"m1","text":"hel\"lo"}"#
        );
        shown.payload = Bytes::from_static(&[0xff, 0x00]);
        shown.content_type = Some("image/x".into());
        assert_eq!(
            text(&entry(&shown)),
            r#"{"seq":1,"from":"alice","time":1793210412345,"id":"m1","data":"/wA=","type":"image/x"}"#
        );
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

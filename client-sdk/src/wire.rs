//! The JSON view of the protocol: topics and payloads, in one place.
//!
//! Unknown fields and kinds are passed over: a broker may be newer than this client.

use crate::entry::{Body, Entry, EntryKind, FAILED_MAX, Presence, PresenceState, Receipt};
use crate::error::NotStored;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::time::Duration;

/// Everything of one's own: entries, answers, ticks.
pub(crate) const OWN_FILTER: &str = "me/json/#";

/// What the broker said in a publish.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Entry(Entry),
    Answer {
        chat: String,
        id: String,
        answer: Result<u64, NotStored>,
    },
    /// An error that names no message id.
    Refused {
        chat: String,
        code: String,
        text: String,
    },
    Receipt(Receipt),
    Presence(Presence),
    Ended {
        chat: String,
    },
    Other,
}

pub(crate) fn send_topic(chat: &str, id: &str) -> String {
    format!("chat/{chat}/send/{id}")
}

pub(crate) fn read_topic(chat: &str) -> String {
    format!("chat/{chat}/read")
}

pub(crate) fn presence_topic(user: &str) -> String {
    format!("presence/{user}")
}

/// Reads a publish of the broker.
///
/// # Errors
///
/// What is wrong with a payload of a known kind.
pub(crate) fn parse(topic: &str, payload: &[u8]) -> Result<Heard, String> {
    let mut levels = topic.split('/');
    let level = [levels.next(), levels.next(), levels.next(), levels.next(), levels.next()];
    match level {
        [Some("presence"), Some(user), None, ..] => {
            presence(user, json(payload)?).map(Heard::Presence)
        }
        [Some("me"), Some("json"), Some(chat), Some(kind), None] => own(chat, kind, payload),
        _ => Ok(Heard::Other),
    }
}

fn own(chat: &str, kind: &str, payload: &[u8]) -> Result<Heard, String> {
    let chat = chat.to_owned();
    Ok(match kind {
        "message" => Heard::Entry(entry(chat, json(payload)?)?),
        "ack" => {
            let Ack { id, seq } = json(payload)?;
            Heard::Answer { chat, id, answer: Ok(seq) }
        }
        "error" => {
            let Error { id, code, text, retry_after } = json(payload)?;
            let Some(id) = id else { return Ok(Heard::Refused { chat, code, text }) };
            let retry_after = retry_after.map(Duration::from_millis);
            let answer = Err(NotStored::Refused { code, text, retry_after });
            Heard::Answer { chat, id, answer }
        }
        "receipt" => Heard::Receipt(receipt(chat, json(payload)?)?),
        "ended" => Heard::Ended { chat },
        _ => Heard::Other,
    })
}

fn entry(chat: String, entry: JsonEntry) -> Result<Entry, String> {
    let body = match (entry.text, entry.data) {
        (Some(text), None) => Body::Text(text),
        (None, Some(data)) => {
            Body::Data(STANDARD.decode(data).map_err(|e| format!("data is not base64: {e}"))?)
        }
        (None, None) => Body::Empty,
        (Some(_), Some(_)) => return Err("both text and data".to_owned()),
    };
    let kind = match entry.kind.as_deref() {
        None | Some("message") => EntryKind::Message,
        Some("edit") => EntryKind::Edit,
        Some("reaction") => EntryKind::Reaction,
        Some("delete") => EntryKind::Delete,
        Some("system") => EntryKind::System,
        Some(other) => EntryKind::Other(other.to_owned()),
    };
    Ok(Entry {
        chat,
        seq: entry.seq,
        from: entry.from,
        time: entry.time,
        id: entry.id,
        body,
        kind,
        reference: entry.reference,
        content_type: entry.content_type,
        expires: entry.expires,
    })
}

fn receipt(chat: String, receipt: JsonReceipt) -> Result<Receipt, String> {
    let JsonReceipt { user, seq, delivered, read, members, failed } = receipt;
    match (user, seq) {
        // Read implies delivered, whether or not the broker says both.
        (Some(user), _) => {
            let mut failed = failed;
            failed.truncate(FAILED_MAX);
            Ok(Receipt::User { chat, user, delivered: delivered.max(read), read, failed })
        }
        (None, Some(seq)) => Ok(Receipt::Counts { chat, seq, delivered, read, members }),
        (None, None) => Err("neither user nor seq".to_owned()),
    }
}

fn presence(user: &str, presence: JsonPresence) -> Result<Presence, String> {
    let state = match presence.state.as_str() {
        "online" => PresenceState::Online,
        "away" => PresenceState::Away,
        "offline" => PresenceState::Offline,
        other => return Err(format!("state {other:?}: expected online, away or offline")),
    };
    let last_seen = presence.last_seen.filter(|time| *time != 0);
    Ok(Presence { user: user.to_owned(), state, last_seen, epoch: presence.epoch })
}

fn json<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|e| e.to_string())
}

#[derive(Deserialize)]
struct JsonEntry {
    seq: u64,
    from: String,
    time: u64,
    #[serde(default)]
    id: String,
    text: Option<String>,
    data: Option<String>,
    kind: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<u64>,
    #[serde(rename = "type")]
    content_type: Option<String>,
    expires: Option<u64>,
}

#[derive(Deserialize)]
struct Ack {
    id: String,
    seq: u64,
}

#[derive(Deserialize)]
struct Error {
    id: Option<String>,
    code: String,
    #[serde(default)]
    text: String,
    retry_after: Option<u64>,
}

#[derive(Deserialize)]
struct JsonReceipt {
    user: Option<String>,
    seq: Option<u64>,
    #[serde(default)]
    delivered: u64,
    #[serde(default)]
    read: u64,
    #[serde(default)]
    members: u64,
    #[serde(default)]
    failed: Vec<u64>,
}

#[derive(Deserialize)]
struct JsonPresence {
    state: String,
    last_seen: Option<u64>,
    #[serde(default)]
    epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_of_the_protocol_page_is_read() {
        let heard = parse(
            "me/json/@alice/message",
            br#"{"seq":1,"from":"alice","time":1793210412345,"id":"m1","text":"hello","new":[1]}"#,
        );
        let Ok(Heard::Entry(entry)) = heard else { panic!("{heard:?}") };
        assert_eq!((entry.chat.as_str(), entry.seq, entry.id.as_str()), ("@alice", 1, "m1"));
        assert_eq!(entry.body, Body::Text("hello".to_owned()));
        assert_eq!(entry.kind, EntryKind::Message);
    }

    #[test]
    fn data_is_base64_and_anything_else_is_an_error() {
        let entry = |data: &str| {
            let json = format!(r#"{{"seq":1,"from":"a","time":1,"data":"{data}"}}"#);
            parse("me/json/@a/message", json.as_bytes())
        };
        let Ok(Heard::Entry(read)) = entry("/wA=") else { panic!() };
        assert_eq!(read.body, Body::Data(vec![0xff, 0]));
        assert!(entry("***").is_err());
        assert!(parse("me/json/@a/message", b"nonsense").is_err());
    }

    #[test]
    fn answers_carry_id_and_code() {
        let heard = parse("me/json/@bob/ack", br#"{"id":"m1","seq":7,"time":3}"#).unwrap();
        let chat = "@bob".to_owned();
        assert_eq!(heard, Heard::Answer { chat, id: "m1".to_owned(), answer: Ok(7) });
        let json = br#"{"id":"m1","code":"limit","text":"slow down","retry_after":500}"#;
        let Heard::Answer { answer: Err(error), .. } = parse("me/json/@bob/error", json).unwrap()
        else {
            panic!()
        };
        let retry_after = Some(Duration::from_millis(500));
        let (code, text) = ("limit".to_owned(), "slow down".to_owned());
        assert_eq!(error, NotStored::Refused { code, text, retry_after });
    }

    #[test]
    fn error_without_id_is_not_an_answer() {
        let json = br#"{"code":"format","text":"not a seq"}"#;
        let (chat, code) = ("@bob".to_owned(), "format".to_owned());
        let refused = Heard::Refused { chat, code, text: "not a seq".to_owned() };
        assert_eq!(parse("me/json/@bob/error", json), Ok(refused));
    }

    #[test]
    fn read_implies_delivered() {
        let Heard::Receipt(Receipt::User { delivered, read, .. }) =
            parse("me/json/@bob/receipt", br#"{"user":"bob","read":5}"#).unwrap()
        else {
            panic!()
        };
        assert_eq!((delivered, read), (5, 5));
    }

    #[test]
    fn unknown_kinds_and_topics_are_passed_over() {
        assert_eq!(parse("me/json/@bob/novelty", b"?"), Ok(Heard::Other));
        assert_eq!(parse("weather", b"?"), Ok(Heard::Other));
        assert_eq!(parse("", b""), Ok(Heard::Other));
    }
}

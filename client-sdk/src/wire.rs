//! The JSON view of the protocol: topics and payloads, in one place.
//!
//! Unknown fields and kinds are passed over: a broker may be newer than this client.

use crate::entry::{
    Body, Entry, EntryKind, Event, FAILED_MAX, Presence, PresenceState, Receipt, Typing,
};
use crate::error::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use std::time::Duration;

/// Everything of one's own: entries, answers, ticks.
pub(crate) const OWN_FILTER: &str = "me/json/#";

/// What the broker said in a publish.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Entries(Vec<Entry>),
    /// To an errand, by its id.
    Acked {
        id: String,
        seq: u64,
        time: u64,
    },
    Refused {
        id: String,
        refusal: Refusal,
    },
    /// To a question, by its number.
    Answer {
        request: Option<u64>,
    },
    Receipt(Receipt),
    Presence(Presence),
    Typing {
        user: String,
        state: Typing,
    },
    Ended {
        why: Option<String>,
    },
    /// All that the application is told, and nobody else.
    Event(Event),
    Other,
}

/// What PUBACK said (§3.4).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Puback {
    Done {
        seq: Option<u64>,
        time: Option<u64>,
    },
    Refused {
        refusal: Refusal,
        /// It named no code: whether it may pass is for the message behind it to say.
        doubtful: bool,
    },
}

/// An answer of `history`.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) last: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) gone: Vec<(u64, u64)>,
}

/// A page of `sync`.
#[derive(Debug, Deserialize)]
pub(crate) struct Sync {
    pub(crate) chats: Vec<SyncChat>,
    pub(crate) next: Option<String>,
}

/// A chat of it.
#[derive(Debug, Deserialize)]
pub(crate) struct SyncChat {
    pub(crate) chat: String,
    pub(crate) last: u64,
    #[serde(default)]
    pub(crate) time: u64,
    #[serde(default)]
    pub(crate) read: u64,
    #[serde(default)]
    pub(crate) unread: u64,
    #[serde(default)]
    pub(crate) stranger: bool,
    #[serde(default)]
    pub(crate) others: Vec<SyncOther>,
}

/// How far another member is.
#[derive(Debug, Deserialize)]
pub(crate) struct SyncOther {
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) delivered: u64,
    #[serde(default)]
    pub(crate) read: u64,
}

/// The topic of a command; `-` is for those of no chat, whose verb is the topic.
pub(crate) fn topic(chat: &str, verb: &str) -> String {
    if chat == NO_CHAT { verb.to_owned() } else { format!("chat/{chat}/{verb}") }
}

pub(crate) fn presence_topic(user: &str) -> String {
    format!("presence/{user}")
}

/// Where a chat's name would be, for what belongs to none.
pub(crate) const NO_CHAT: &str = "-";

/// Reads a PUBACK.
pub(crate) fn puback(reason: u8, text: Option<String>, properties: &[(String, String)]) -> Puback {
    let property = |name: &str| {
        properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    };
    let number = |name: &str| property(name).and_then(|value| value.parse::<u64>().ok());
    if reason < 0x80 {
        let seq = number("seq").filter(|seq| place(*seq).is_ok());
        return Puback::Done { seq, time: number("time") };
    }
    // Without names (§3.4.2.2: they are left out where they would not fit) the message knows.
    let named = property("code");
    let code = named.unwrap_or_else(|| code_of(reason)).to_owned();
    let text = text.unwrap_or_else(|| format!("reason code 0x{reason:02x}"));
    let retry_after = number("retry_after").map(Duration::from_millis);
    let doubtful = named.is_none() && ["limit", "unavailable"].contains(&code.as_str());
    Puback::Refused { refusal: Refusal { code, text, retry_after }, doubtful }
}

/// The code that a Reason Code most likely stands for, where it comes alone.
fn code_of(reason: u8) -> &'static str {
    match reason {
        0x83 | 0x80 => "unavailable",
        0x87 => "forbidden",
        0x90 => "unknown_chat",
        0x97 => "limit",
        0x99 => "format",
        _ => "unavailable",
    }
}

/// Reads a publish of the broker: of which chat, and what.
///
/// # Errors
///
/// What is wrong with a payload of a known kind.
pub(crate) fn parse<'a>(topic: &'a str, payload: &[u8]) -> Result<(&'a str, Heard), String> {
    let mut levels = topic.split('/');
    let level = [levels.next(), levels.next(), levels.next(), levels.next(), levels.next()];
    match level {
        [Some("presence"), Some(user), None, ..] => {
            Ok((NO_CHAT, presence(user, json(payload)?).map(Heard::Presence)?))
        }
        [Some("me"), Some("json"), Some(chat), Some(kind), None] => {
            Ok((chat, own(chat, kind, payload)?))
        }
        _ => Ok((NO_CHAT, Heard::Other)),
    }
}

fn own(chat: &str, kind: &str, payload: &[u8]) -> Result<Heard, String> {
    let name = chat.to_owned();
    Ok(match kind {
        "message" => Heard::Entries(vec![entry(name, json(payload)?)?]),
        "batch" => Heard::Entries(entries(chat, json(payload)?)?),
        "ack" => {
            let Ack { id, seq, time } = json(payload)?;
            place(seq)?;
            Heard::Acked { id, seq, time }
        }
        "error" => {
            let Error { id, code, text, retry_after } = json(payload)?;
            // Without an id PUBACK has said it.
            let Some(id) = id else { return Ok(Heard::Other) };
            let retry_after = retry_after.map(Duration::from_millis);
            Heard::Refused { id, refusal: Refusal { code, text, retry_after } }
        }
        "receipt" => Heard::Receipt(receipt(name, json(payload)?)?),
        "typing" => {
            let JsonTyping { user, state } = json(payload)?;
            let state = match state.as_str() {
                "typing" => Typing::Typing,
                "recording" => Typing::Recording,
                _ => Typing::Stopped,
            };
            Heard::Typing { user, state }
        }
        "request" => {
            let JsonRequest { user, stranger } = json(payload)?;
            Heard::Event(Event::Request { user, stranger })
        }
        "ended" => {
            let JsonEnded { why } = json(payload)?;
            Heard::Ended { why }
        }
        "ending" => {
            let JsonEnding { at, why } = json(payload)?;
            Heard::Event(Event::Ending { chat: name, at, why })
        }
        "signal" => {
            let JsonSignal { from, text, data } = json(payload)?;
            Heard::Event(Event::Signal { chat: name, from, body: body(text, data)? })
        }
        "paired" => {
            let JsonPaired { chat, pool, interest, partner } = json(payload)?;
            Heard::Event(Event::Paired { chat, pool, interest, partner })
        }
        "unpaired" => {
            let JsonUnpaired { pool } = json(payload)?;
            Heard::Event(Event::Unpaired { pool })
        }
        "history" | "info" | "invite" | "sync" | "block" | "privacy" | "devices" | "push"
        | "keys" => {
            let JsonAnswer { request } = json(payload)?;
            let request = request.and_then(|request| request.as_u64());
            Heard::Answer { request }
        }
        _ => Heard::Other,
    })
}

/// Reads an answer of `history`.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn history(chat: &str, payload: &Bytes) -> Result<History, String> {
    let JsonHistory { from, to, last, entries: list, gone } = json(payload)?;
    let numbers = gone.iter().flat_map(|(from, to)| [*from, *to]).chain([from, to, last]);
    numbers.into_iter().try_for_each(place)?;
    Ok(History { from, to, last, entries: entries(chat, list)?, gone })
}

/// Reads a page of `sync`.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn sync(payload: &Bytes) -> Result<Sync, String> {
    let sync: Sync = json(payload)?;
    let numbers = sync.chats.iter().flat_map(|chat| [chat.last, chat.read, chat.unread]);
    numbers.into_iter().try_for_each(place)?;
    Ok(sync)
}

/// A place that a log can have: what is counted from it stays a number.
fn place(seq: u64) -> Result<(), String> {
    if seq > SEQ_MAX {
        return Err(format!("seq {seq}: expected at most {SEQ_MAX}"));
    }
    Ok(())
}

/// The largest whole number that JSON is sure to carry.
const SEQ_MAX: u64 = 1 << 53;

fn entries(chat: &str, list: Vec<JsonEntry>) -> Result<Vec<Entry>, String> {
    list.into_iter().map(|one| entry(chat.to_owned(), one)).collect()
}

fn body(text: Option<String>, data: Option<String>) -> Result<Body, String> {
    match (text, data) {
        (Some(text), None) => Ok(Body::Text(text)),
        (None, Some(data)) => {
            let data = STANDARD.decode(data).map_err(|e| format!("data is not base64: {e}"))?;
            Ok(Body::Data(data))
        }
        (None, None) => Ok(Body::Empty),
        (Some(_), Some(_)) => Err("both text and data".to_owned()),
    }
}

fn entry(chat: String, entry: JsonEntry) -> Result<Entry, String> {
    place(entry.seq)?;
    let body = body(entry.text, entry.data)?;
    let kind = EntryKind::named(entry.kind.as_deref().unwrap_or("message"));
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
        own: false,
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
    #[serde(default)]
    time: u64,
}

#[derive(Deserialize)]
struct JsonAnswer {
    request: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct JsonHistory {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    to: u64,
    #[serde(default)]
    last: u64,
    #[serde(default)]
    entries: Vec<JsonEntry>,
    #[serde(default)]
    gone: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
struct JsonTyping {
    user: String,
    state: String,
}

#[derive(Deserialize)]
struct JsonRequest {
    user: String,
    #[serde(default)]
    stranger: bool,
}

#[derive(Deserialize)]
struct JsonEnded {
    why: Option<String>,
}

#[derive(Deserialize)]
struct JsonEnding {
    at: u64,
    #[serde(default)]
    why: String,
}

#[derive(Deserialize)]
struct JsonSignal {
    #[serde(default)]
    from: String,
    text: Option<String>,
    data: Option<String>,
}

#[derive(Deserialize)]
struct JsonPaired {
    chat: String,
    pool: String,
    interest: Option<String>,
    partner: String,
}

#[derive(Deserialize)]
struct JsonUnpaired {
    pool: String,
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

    fn heard(topic: &str, json: &str) -> Heard {
        parse(topic, json.as_bytes()).unwrap().1
    }

    #[test]
    fn entries_of_the_protocol_page_are_read_alone_and_in_batches() {
        let json =
            r#"{"seq":1,"from":"alice","time":1793210412345,"id":"m1","text":"hello","new":[1]}"#;
        let Heard::Entries(alone) = heard("me/json/@alice/message", json) else { panic!() };
        let entry = &alone[0];
        assert_eq!((entry.chat.as_str(), entry.seq, entry.id.as_str()), ("@alice", 1, "m1"));
        assert_eq!((entry.body.text(), &entry.kind), (Some("hello"), &EntryKind::Message));
        let batch = heard("me/json/@alice/batch", &format!("[{json},{json}]"));
        assert_eq!(batch, Heard::Entries([alone.clone(), alone].concat()));
    }

    #[test]
    fn data_is_base64_and_anything_else_is_an_error() {
        let entry = |data: &str| {
            let json = format!(r#"{{"seq":1,"from":"a","time":1,"data":"{data}"}}"#);
            parse("me/json/@a/message", json.as_bytes()).map(|heard| heard.1)
        };
        let Ok(Heard::Entries(read)) = entry("/wA=") else { panic!() };
        assert_eq!(read[0].body, Body::Data(vec![0xff, 0]));
        assert!(entry("***").is_err());
        assert!(parse("me/json/@a/message", b"nonsense").is_err());
    }

    #[test]
    fn refusals_have_their_code_and_say_when_to_try_again() {
        let json = r#"{"id":"m1","code":"limit","text":"slow down","retry_after":500}"#;
        let refusal = Refusal {
            code: "limit".to_owned(),
            text: "slow down".to_owned(),
            retry_after: Some(Duration::from_millis(500)),
        };
        let expected = Heard::Refused { id: "m1".to_owned(), refusal: refusal.clone() };
        assert_eq!(heard("me/json/@bob/error", json), expected);
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let properties = [("code", "limit"), ("retry_after", "500")].map(owned);
        let said = puback(0x97, Some("slow down".to_owned()), &properties);
        assert_eq!(said, Puback::Refused { refusal, doubtful: false });
        assert!(matches!(puback(0x97, None, &[]), Puback::Refused { doubtful: true, .. }));
        assert!(matches!(puback(0x87, None, &[]), Puback::Refused { doubtful: false, .. }));
        let properties = [("seq", "7"), ("time", "9")].map(owned);
        assert_eq!(puback(0, None, &properties), Puback::Done { seq: Some(7), time: Some(9) });
    }

    #[test]
    fn error_without_id_is_left_to_puback() {
        let json = r#"{"code":"format","text":"not a seq"}"#;
        assert_eq!(heard("me/json/@bob/error", json), Heard::Other);
    }

    #[test]
    fn read_implies_delivered() {
        let json = r#"{"user":"bob","read":5}"#;
        let Heard::Receipt(Receipt::User { delivered, read, .. }) =
            heard("me/json/@bob/receipt", json)
        else {
            panic!()
        };
        assert_eq!((delivered, read), (5, 5));
    }

    #[test]
    fn answers_have_their_number_and_the_rest_of_the_protocol_is_read() {
        let answer = heard("me/json/@bob/info", r#"{"request":17,"title":"x"}"#);
        assert_eq!(answer, Heard::Answer { request: Some(17) });
        let json = br#"{"from":2,"to":4,"last":5,"entries":[{"seq":3,"from":"a","time":1,"text":"x"}],"gone":[[2,2],[4,4]]}"#;
        let read = history("@bob", &Bytes::from_static(json)).unwrap();
        assert_eq!((read.from, read.to, read.last, read.gone), (2, 4, 5, vec![(2, 2), (4, 4)]));
        let ending = heard("me/json/~9/ending", r#"{"at":5,"why":"idle"}"#);
        let (chat, why) = ("~9".to_owned(), "idle".to_owned());
        assert_eq!(ending, Heard::Event(Event::Ending { chat, at: 5, why }));
        let signal = heard("me/json/~9/signal", r#"{"from":"~9.1","text":"offer"}"#);
        let Heard::Event(Event::Signal { from, body, .. }) = signal else { panic!() };
        assert_eq!((from.as_str(), body.text()), ("~9.1", Some("offer")));
    }

    #[test]
    fn unknown_kinds_and_topics_are_passed_over() {
        assert_eq!(heard("me/json/@bob/novelty", "?"), Heard::Other);
        assert_eq!(heard("weather", "?"), Heard::Other);
        assert_eq!(heard("", ""), Heard::Other);
    }
}

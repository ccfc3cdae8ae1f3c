//! What becomes an entry: messages, and what somebody says about one.
//!
//! All of it goes one way, so that all of it is stored in order, once, and refused for the same
//! reasons.

use bytes::Bytes;
use tidings_core::codec::Publish;
use tidings_core::hook::{Client, Host, TEMPORARY};

use super::UserSide;
use crate::code::Code;
use crate::entry::Kind;
use crate::peer::{ALL, EVERYTHING, Origin, Post, Refusal};
use crate::topics::{is_name, is_place};

/// What a Client says, by its topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) chat: &'a str,
    pub(super) id: Option<&'a str>,
    /// What it becomes.
    pub(super) kind: Kind,
    /// The entry it is about; 0 for none.
    pub(super) refers: u64,
}

impl UserSide {
    /// A Client sends.
    ///
    /// # Errors
    /// What is wrong with it, and the id it has all the same.
    pub(super) fn ask_send<'a>(
        &mut self,
        client: &Client<'_>,
        publish: &Publish<'a>,
        said: Said<'a>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), (Option<&'a str>, Refusal)> {
        let refuse = |id, code, text: &str| Err((id, Refusal::new(code, text)));
        let Said { chat, id, kind, mut refers } = said;
        let id = match (id, publish.properties.correlation_data()) {
            (Some(id), _) => Some(id),
            (None, None) => None,
            (None, Some(data)) => match std::str::from_utf8(data) {
                Ok(id) if is_name(id) => Some(id),
                _ => {
                    let text = "Correlation Data is the message id: [A-Za-z0-9._-]{1,64}";
                    return refuse(None, Code::Format, text);
                }
            },
        };
        let max = self.options.payload_bytes_max;
        if publish.payload.len() > max {
            let text =
                format!("the payload has {} bytes, at most {max} are taken", publish.payload.len());
            return refuse(id, Code::Size, &text);
        }
        let content_type = publish.properties.content_type();
        if content_type.is_some_and(|text| text.len() > CONTENT_TYPE_BYTES_MAX) {
            let text = format!("a Content Type has at most {CONTENT_TYPE_BYTES_MAX} bytes");
            return refuse(id, Code::Format, &text);
        }
        if host.disk_low() && !chat.starts_with(TEMPORARY) {
            return Err((id, Refusal::disk_full()));
        }
        let place = self.place(client.user, chat);
        let (sender, device) = self.names(client, origin.session);
        if kind == Kind::Message
            && let Some(seq) = publish.properties.user_property("ref")
        {
            let Some(seq) = seq.parse().ok().filter(|seq| is_place(*seq)) else {
                let text = "the user property ref is the seq of an entry, such as 1839";
                return refuse(id, Code::Format, text);
            };
            refers = seq;
        }
        let post = Post {
            sender,
            device,
            id: id.map(Into::into),
            content_type: content_type.map(Into::into),
            payload: if kind == Kind::Hide && refers == EVERYTHING {
                Bytes::from_static(ALL)
            } else {
                Bytes::copy_from_slice(publish.payload)
            },
            kind,
            refers,
            change: None,
            ask: None,
            origin,
        };
        let sent = self.send(client.user, place, Box::new(post), host);
        sent.map_err(|refusal| (id, refusal))
    }
}

/// What `chat/{chat}/{verb}/{seq}` becomes.
///
/// # Errors
/// The payload is none of those that are known.
pub(super) fn kind_of(verb: &str, payload: &[u8]) -> Result<Kind, Refusal> {
    match (verb, payload) {
        ("edit", _) => Ok(Kind::Edit),
        ("react", _) => Ok(Kind::Reaction),
        (_, b"everyone") => Ok(Kind::Delete),
        (_, b"me") => Ok(Kind::Hide),
        _ => Err(Refusal::new(Code::Format, "expected the payload me or everyone")),
    }
}

/// The longest Content Type that is kept, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 128;

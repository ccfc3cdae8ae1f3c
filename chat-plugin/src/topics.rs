//! The topic scheme, in one place: what Clients publish, and where they hear.
//!
//! A direct chat has two names: each side calls it `@` and the other's name. What both sides share
//! is the [`Place`], whose id is made from both names in order. A group has one name for all.

mod listening;

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidings_core::hook::{TEMPORARY, is_temporary};
use tidings_core::slot::{ShardId, Slot};
use tidings_core::topic::TopicFilter;

use crate::code::Code;
pub(crate) use listening::Listening;

/// What tells a chat from every other: the first 16 bytes of the SHA-256 of its canonical name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChatId(pub(crate) [u8; 16]);

impl ChatId {
    /// That of what has one name for all.
    pub(crate) fn named(name: &str) -> Self {
        Self::of(&[name])
    }

    fn of(name: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in name {
            hash.update(part.as_bytes());
        }
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(id)
    }

    /// The slot its rows are in.
    pub(crate) const fn slot(self) -> Slot {
        let [first, ..] = self.0;
        Slot(first)
    }

    /// As the key of a delivery's tag.
    pub(crate) const fn to_key(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// From the key of a delivery's tag.
    pub(crate) const fn from_key(key: u128) -> Self {
        Self(key.to_be_bytes())
    }
}

impl fmt::Debug for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatId({:032x})", self.to_key())
    }
}

/// Where a chat is: its id, and who is in it or what it is called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: ChatId,
    /// Of a direct chat: both names, the lower one first; once where it is notes to self. Who is in a
    /// group stands in its rows.
    members: Vec<Arc<str>>,
    /// What a group is called, with the `!` of a channel, or a room, with its `~`.
    group: Option<Arc<str>>,
    /// Whether it is a room: a direct chat that has a name, and is in memory only.
    room: bool,
}

impl Place {
    /// The chat of two users, or of one with herself.
    pub(crate) fn direct(one: &str, other: &str) -> Arc<Self> {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        let mut members = vec![Arc::from(low)];
        if low != high {
            members.push(Arc::from(high));
        }
        Arc::new(Self {
            id: ChatId::of(&["@", low, ":@", high]),
            members,
            group: None,
            room: false,
        })
    }

    /// A group, or a channel.
    pub(crate) fn group(name: &str) -> Arc<Self> {
        let (id, group) = (ChatId::of(&[name]), Some(name.into()));
        Arc::new(Self { id, members: Vec::new(), group, room: false })
    }

    /// A room, with its `~`, and the two in it.
    pub(crate) fn room(name: &str, one: &str, other: &str) -> Arc<Self> {
        let members = Self::direct(one, other).members.clone();
        Arc::new(Self { id: ChatId::of(&[name]), members, group: Some(name.into()), room: true })
    }

    /// The room that a seat is in, by the name of its user.
    pub(crate) fn of_seat(user: &str) -> Option<Arc<Self>> {
        let room = user.strip_suffix(".1").or_else(|| user.strip_suffix(".2"))?;
        let one = is_temporary(user).then(|| seat(room, 1))?;
        Some(Self::room(room, &one, &seat(room, 2)))
    }

    /// What `user` calls `chat`: `@` and a name, or a group's name.
    pub(crate) fn of(user: &str, chat: &str) -> Arc<Self> {
        match chat.strip_prefix('@') {
            Some(peer) => Self::direct(user, peer),
            None => Self::group(chat),
        }
    }

    /// What it is called by all, if it has one name.
    pub(crate) fn named(&self) -> Option<&Arc<str>> {
        self.group.as_ref()
    }

    /// What it is called, if it is a group.
    pub(crate) fn group_name(&self) -> Option<&str> {
        self.group.as_deref().filter(|_| !self.room)
    }

    pub(crate) fn is_group(&self) -> bool {
        self.group.is_some() && !self.room
    }

    pub(crate) fn is_room(&self) -> bool {
        self.room
    }

    /// Whether few write and many read.
    pub(crate) fn is_channel(&self) -> bool {
        self.group.as_ref().is_some_and(|name| name.starts_with('!'))
    }

    /// What `user` calls it.
    pub(crate) fn name_for(&self, user: &str) -> String {
        match &self.group {
            Some(name) => name.to_string(),
            None => ["@", self.peer(user)].concat(),
        }
    }

    /// The topic of what `user` hears of it.
    pub(crate) fn heard(&self, user: &str, kind: &str) -> String {
        match &self.group {
            Some(name) => heard("", name, kind),
            None => heard("@", self.peer(user), kind),
        }
    }

    /// The members of a direct chat, once.
    pub(crate) fn members(&self) -> &[Arc<str>] {
        &self.members
    }

    /// Whom `user` talks to here: herself in notes to self.
    pub(crate) fn peer(&self, user: &str) -> &Arc<str> {
        static NOBODY: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from(""));
        let other = self.members.iter().find(|member| ***member != *user);
        other.or_else(|| self.members.first()).unwrap_or(&NOBODY)
    }

    /// The shard that owns it.
    pub(crate) fn shard(&self, shards: u16) -> ShardId {
        self.id.slot().shard(shards)
    }
}

/// The slot of a user's rows, and the shard of her sessions.
pub(crate) fn user_slot(user: &str) -> Slot {
    Slot::of(user.as_bytes())
}

/// The slot whose shard is the home of a pool.
pub(crate) fn pool_slot(pool: &str) -> Slot {
    Slot::of(pool.as_bytes())
}

/// The slot whose shard keeps a seat's link.
pub(crate) fn link_slot(link: &str) -> Slot {
    Slot::of(link.as_bytes())
}

/// A user's name, a message id: `[A-Za-z0-9._-]{1,64}`.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A user's name, or that of a temporary one: a seat of a room, or somebody to be paired.
pub(crate) fn is_user(text: &str) -> bool {
    is_name(text.strip_prefix(TEMPORARY).unwrap_or(text))
}

/// The user who sits in a room.
pub(crate) fn seat(room: &str, number: u8) -> String {
    format!("{room}.{number}")
}

/// Whether a user is one who came in to be paired.
pub(crate) fn is_guest(user: &str) -> bool {
    user.starts_with(GUESTS)
}

/// What the names of those begin with who came in to be paired.
pub(crate) const GUESTS: &str = "~anon-";

/// The room that somebody is in who is in one only, by a name that needs not be known.
pub(crate) const OWN_ROOM: &str = "~";

/// What stands for the chat where an answer is about none, so that no chat is called that.
pub(crate) const NO_CHAT: &str = "-";

/// The longest name, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// The first levels of topics that belong to chat.
pub const ROOTS: &[&str] = &["chat", "me", "presence", "pair", "room"];

/// What a Client asks for by publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    /// `chat/{chat}/send[/id]`
    Send { chat: &'a str, id: Option<&'a str> },
    /// `chat/{chat}/{verb}/{seq}[/{id}]`: one of [`ABOUT`].
    About { chat: &'a str, verb: &'a str, seq: u64, id: Option<&'a str> },
    /// `chat/{chat}/read`
    Read { chat: &'a str },
    /// `chat/{chat}/typing`
    Typing { chat: &'a str },
    /// `chat/{chat}/history`
    History { chat: &'a str },
    /// `chat/{chat}/info`
    Info { chat: &'a str },
    /// `chat/{chat}/end`
    End { chat: &'a str },
    /// `chat/{room}/signal`
    Signal { chat: &'a str },
    /// `pair/{pool}`, `pair/{pool}/next`, `pair/{pool}/leave`
    Pair { pool: &'a str, verb: PairVerb },
    /// `chat/{group}/{verb}`: one of [`VERBS`]; `timer` and `retention` of any chat but a room.
    Change { chat: &'a str, verb: &'a str },
    /// `me/sync`
    Sync,
    /// `me/state`
    State,
    /// `me/block`
    Block,
    /// `me/privacy`
    Privacy,
    /// `me/devices`
    Devices,
    /// `me/push`
    Push,
    /// `me/keys`
    Keys,
    /// Any will below `me/`, by custom `me/will`.
    Will,
}

/// What somebody wants of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PairVerb {
    Wait,
    /// Away from whom one has met, and wait again.
    Next,
    Leave,
}

/// The commands of a group that change it.
pub(crate) const VERBS: [&str; 8] =
    ["create", "add", "remove", "leave", "role", "title", "invite", "join"];

/// The commands about an entry.
const ABOUT: [&str; 3] = ["edit", "react", "delete"];

/// Why a topic is no command that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadCommand {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl<'a> Command<'a> {
    /// Reads the topic of a PUBLISH.
    ///
    /// # Errors
    /// What is wrong with it, for the Client to read.
    pub(crate) fn parse(topic: &'a str) -> Result<Self, BadCommand> {
        let mut levels = topic.split('/');
        match levels.next() {
            Some("chat") => Self::parse_chat(topic, levels),
            Some("me") => match levels.next() {
                Some("will") => Ok(Self::Will),
                Some("sync") if levels.next().is_none() => Ok(Self::Sync),
                Some("state") if levels.next().is_none() => Ok(Self::State),
                Some("block") if levels.next().is_none() => Ok(Self::Block),
                Some("privacy") if levels.next().is_none() => Ok(Self::Privacy),
                Some("devices") if levels.next().is_none() => Ok(Self::Devices),
                Some("push") if levels.next().is_none() => Ok(Self::Push),
                Some("keys") if levels.next().is_none() => Ok(Self::Keys),
                _ => Err(format(
                    "known below me/: sync, state, block, privacy, devices, push, keys, will",
                )),
            },
            Some("presence") => Err(BadCommand {
                code: Code::Forbidden,
                text: "presence is computed by the server: subscribe to presence/{user}".into(),
            }),
            Some("pair") => {
                let pool = levels.next().filter(|pool| is_name(pool));
                let verb = match (levels.next(), levels.next()) {
                    (None, _) => Some(PairVerb::Wait),
                    (Some("next"), None) => Some(PairVerb::Next),
                    (Some("leave"), None) => Some(PairVerb::Leave),
                    _ => None,
                };
                let expected = "expected pair/{pool}, pair/{pool}/next or pair/{pool}/leave";
                let (pool, verb) = pool.zip(verb).ok_or_else(|| format(expected))?;
                Ok(Self::Pair { pool, verb })
            }
            _ => Err(unavailable("rooms are made by the program around the server")),
        }
    }

    /// The chat it is about.
    pub(crate) fn chat(&self) -> Option<&'a str> {
        match *self {
            Self::Send { chat, .. }
            | Self::About { chat, .. }
            | Self::Read { chat }
            | Self::Typing { chat }
            | Self::History { chat }
            | Self::Info { chat }
            | Self::End { chat }
            | Self::Signal { chat }
            | Self::Change { chat, .. } => Some(chat),
            _ => None,
        }
    }

    fn parse_chat(topic: &str, mut levels: std::str::Split<'a, char>) -> Result<Self, BadCommand> {
        let chat = levels.next().unwrap_or_default();
        let verb = levels.next().unwrap_or_default();
        let direct = chat.starts_with('@');
        let room = chat.starts_with(TEMPORARY);
        if chat == NO_CHAT
            || chat != OWN_ROOM && !is_name(chat.strip_prefix(['@', '!', '~']).unwrap_or(chat))
        {
            return Err(format(
                "expected chat/{chat}/{command}: a chat is @ and a user, a group, ! and a channel or \
                 ~ and a room, each [A-Za-z0-9._-]{1,64}",
            ));
        }
        let argument = levels.next();
        let about = ABOUT.contains(&verb);
        let id = levels.next();
        if id.is_some() && !(about && verb != "delete" && levels.next().is_none()) {
            return Err(format(&format!("too many levels in {}", shortened(topic))));
        }
        match (verb, argument) {
            (verb, seq) if about => {
                let seq = seq.and_then(|seq| seq.parse().ok()).filter(|seq| is_place(*seq));
                let Some(seq) = seq else {
                    let text =
                        format!("expected chat/{chat}/{verb}/{{seq}}: the entry it is about");
                    return Err(format(&text));
                };
                if id.is_some_and(|id| !is_name(id)) {
                    return Err(format("a message id is [A-Za-z0-9._-]{1,64}"));
                }
                Ok(Self::About { chat, verb, seq, id })
            }
            ("send", Some(id)) if !is_name(id) => {
                Err(format("a message id is [A-Za-z0-9._-]{1,64}"))
            }
            ("send", id) => Ok(Self::Send { chat, id }),
            ("read", None) => Ok(Self::Read { chat }),
            ("typing", None) => Ok(Self::Typing { chat }),
            ("history", None) => Ok(Self::History { chat }),
            ("info", None) => Ok(Self::Info { chat }),
            ("end", None) => Ok(Self::End { chat }),
            ("signal", None) if room => Ok(Self::Signal { chat }),
            _ if room => Err(format(
                "known in a room: send, read, typing, edit, react, delete, history, info, signal, end",
            )),
            ("timer" | "retention", None) => Ok(Self::Change { chat, verb }),
            (verb, None) if VERBS.contains(&verb) => {
                if direct {
                    let text = format!("{verb} is for groups, and {chat} is a direct chat");
                    return Err(format(&text));
                }
                Ok(Self::Change { chat, verb })
            }
            _ if direct => Err(format(
                "known in a direct chat: send, read, typing, edit, react, delete, history, info, timer, retention, end",
            )),
            _ => {
                let known = VERBS.join(", ");
                Err(format(&format!(
                    "known in a group: send, read, typing, edit, react, delete, history, info, timer, retention, {known}"
                )))
            }
        }
    }
}

/// Whether an entry may be there: 0 stands for none and the last number for all.
pub(crate) const fn is_place(seq: u64) -> bool {
    seq > 0 && seq < u64::MAX
}

/// In which form a session hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum View {
    /// `me/json/…`
    #[default]
    Json,
    /// `me/cbor/…`
    Cbor,
}

/// In which view `filter` hears.
pub(crate) fn view_of(filter: &TopicFilter) -> View {
    if filter.as_str().starts_with(VIEW_CBOR) { View::Cbor } else { View::Json }
}

/// A topic of the JSON view in another.
pub(crate) fn in_view(topic: String, view: View) -> String {
    match (view, topic.strip_prefix(VIEW)) {
        (View::Cbor, Some(rest)) => [VIEW_CBOR, rest].concat(),
        _ => topic,
    }
}

/// Whether `filter` hears the messages of every direct chat.
pub(crate) fn hears_all_messages(filter: &TopicFilter) -> bool {
    let filter = filter.as_str();
    let rest = filter.strip_prefix(VIEW).or_else(|| filter.strip_prefix(VIEW_CBOR));
    matches!(rest, Some("#" | "+/#" | "+/+" | "+/message"))
}

/// Whether `filter` hears messages of at least one chat.
pub(crate) fn hears_messages(filter: &TopicFilter) -> bool {
    let mut levels = filter.as_str().split('/').skip(2);
    match (levels.next(), levels.next()) {
        (Some("#"), _) | (Some(_), Some("#")) => true,
        (Some(_), Some(kind)) => matches!(kind, "message" | "+") && levels.next().is_none(),
        _ => false,
    }
}

/// The topic of what a user hears of a chat.
fn heard(sigil: &str, name: &str, kind: &str) -> String {
    let mut topic = String::with_capacity(VIEW.len() + name.len() + kind.len() + 2);
    topic.push_str(VIEW);
    topic.push_str(sigil);
    topic.push_str(name);
    topic.push('/');
    topic.push_str(kind);
    topic
}

/// The topic of an answer that belongs to the chat a command named, or to none.
pub(crate) fn answered(topic: &str, kind: &str) -> String {
    let chat = topic.strip_prefix("chat/").and_then(|rest| rest.split('/').next());
    let chat = chat.filter(|chat| !chat.is_empty() && chat.len() <= NAME_BYTES_MAX + 1);
    let mut answer = String::with_capacity(VIEW.len() + NAME_BYTES_MAX + kind.len() + 2);
    answer.push_str(VIEW);
    answer.push_str(chat.unwrap_or("-"));
    answer.push('/');
    answer.push_str(kind);
    answer
}

const VIEW: &str = "me/json/";

const VIEW_CBOR: &str = "me/cbor/";

fn format(text: &str) -> BadCommand {
    BadCommand { code: Code::Format, text: text.into() }
}

fn unavailable(text: &str) -> BadCommand {
    BadCommand { code: Code::Unavailable, text: text.into() }
}

fn shortened(topic: &str) -> String {
    topic.chars().take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use tidings_core::codec::ReasonCode;

    use super::*;

    #[test]
    fn both_sides_of_a_direct_chat_name_the_same_place() {
        let place = Place::direct("alice", "bob");
        assert_eq!(place, Place::direct("bob", "alice"));
        assert_eq!((&**place.peer("alice"), &**place.peer("bob")), ("bob", "alice"));
        assert_eq!(place.heard("bob", "message"), "me/json/@alice/message");
        let notes = Place::direct("alice", "alice");
        assert_eq!((notes.members().len(), &**notes.peer("alice")), (1, "alice"));
        // Golden: SHA-256 of "@alice:@bob". Rows of this chat are on people's disks.
        assert_eq!(format!("{:?}", place.id), "ChatId(323b7e7ca0d4c2c440c95de9f12c3611)");
        assert_eq!(ChatId::from_key(place.id.to_key()), place.id);
    }

    #[test]
    fn a_group_has_one_name_for_all() {
        let (group, channel) = (Place::of("alice", "climbing"), Place::of("bob", "!climbing"));
        assert_eq!(group.heard("anybody", "message"), "me/json/climbing/message");
        assert!(channel.is_channel() && !group.is_channel() && group.id != channel.id);
        // Golden: SHA-256 of "climbing".
        assert_eq!(format!("{:?}", group.id), "ChatId(df7da510a6fe1ab64a57e49687b9b1d2)");
    }

    #[test]
    fn commands_are_read_and_the_rest_is_told_what_is_known() {
        let send = |chat, id| Ok(Command::Send { chat, id });
        assert_eq!(Command::parse("chat/@bob/send"), send("@bob", None));
        assert_eq!(Command::parse("chat/@bob/send/m1"), send("@bob", Some("m1")));
        assert_eq!(Command::parse("chat/climbing/send"), send("climbing", None));
        assert_eq!(Command::parse("chat/!news/read"), Ok(Command::Read { chat: "!news" }));
        let add = Command::Change { chat: "climbing", verb: "add" };
        assert_eq!(Command::parse("chat/climbing/add"), Ok(add));
        assert_eq!(Command::parse("chat/@bob/end"), Ok(Command::End { chat: "@bob" }));
        let timer = Command::Change { chat: "@bob", verb: "timer" };
        assert_eq!(Command::parse("chat/@bob/timer"), Ok(timer));
        assert_eq!(Command::parse("me/will"), Ok(Command::Will));
        let about = |verb, id| Ok(Command::About { chat: "@bob", verb, seq: 7, id });
        assert_eq!(Command::parse("chat/@bob/edit/7"), about("edit", None));
        assert_eq!(Command::parse("chat/@bob/react/7/m1"), about("react", Some("m1")));
        assert_eq!(Command::parse("chat/@bob/delete/7"), about("delete", None));
        for (topic, code) in [
            ("chat/@bob/send/", Code::Format),
            ("chat/@bob/send/a/b", Code::Format),
            ("chat/@bob/sned", Code::Format),
            ("chat/@b b/send", Code::Format),
            ("chat/@/send", Code::Format),
            ("chat", Code::Format),
            ("chat/@bob", Code::Format),
            ("chat/@bob/add", Code::Format),
            ("me", Code::Format),
            ("me/json/@bob/message", Code::Format),
            ("chat/@bob/edit", Code::Format),
            ("chat/@bob/edit/0", Code::Format),
            ("chat/@bob/edit/m1", Code::Format),
            ("chat/@bob/delete/18446744073709551615", Code::Format),
            ("chat/@bob/edit/7/", Code::Format),
            ("chat/@bob/react/7/a/b", Code::Format),
            ("chat/@bob/delete/7/m1", Code::Format),
            ("chat/climbing/add/x", Code::Format),
            ("chat/climbing/sned", Code::Format),
            ("chat/!/send", Code::Format),
            ("chat/!@bob/send", Code::Format),
            ("chat/climbing/timer/1", Code::Format),
            ("chat/~9Zk1/timer", Code::Format),
            ("chat/~9Zk1/sned", Code::Format),
            ("chat/~9Zk1/add", Code::Format),
            ("chat/climbing/signal", Code::Format),
            ("me/keys/x", Code::Format),
            ("me/push/x", Code::Format),
            ("me/sync/x", Code::Format),
            ("chat/@bob/history/1", Code::Format),
            ("pair/x/y", Code::Format),
            ("pair/", Code::Format),
            ("room/x", Code::Unavailable),
            ("presence/bob", Code::Forbidden),
        ] {
            assert_eq!(Command::parse(topic).map_err(|bad| bad.code), Err(code), "{topic}");
        }
        let long = "x".repeat(65);
        assert!(Command::parse(&format!("chat/@bob/send/{long}")).is_err());
        assert!(Command::parse(&format!("chat/@{long}/send")).is_err());
    }

    #[test]
    fn only_own_messages_and_single_users_can_be_listened_to() {
        let listening = |filter: &str| {
            let filter = TopicFilter::parse(filter).unwrap();
            Listening::parse(&filter).map(|heard| format!("{heard:?}"))
        };
        for filter in
            ["me/json/#", "me/json/+/message", "me/json/@bob/#", "me/cbor/#", "presence/bob"]
        {
            assert!(listening(filter).is_ok(), "{filter}");
        }
        for (filter, code) in [
            ("me/#", ReasonCode::TopicFilterInvalid),
            ("me/+/@bob/message", ReasonCode::TopicFilterInvalid),
            ("presence/+", ReasonCode::TopicFilterInvalid),
            ("presence/#", ReasonCode::TopicFilterInvalid),
            ("presence/bob/x", ReasonCode::TopicFilterInvalid),
            ("presence", ReasonCode::TopicFilterInvalid),
            ("chat/#", ReasonCode::NotAuthorized),
            ("pair/x", ReasonCode::NotAuthorized),
            ("$share/g/me/json/#", ReasonCode::SharedSubscriptionsNotSupported),
        ] {
            assert_eq!(listening(filter), Err(code), "{filter}");
        }
    }

    #[test]
    fn filters_tell_whether_they_hear_messages() {
        for (filter, some, all) in [
            ("me/json/#", true, true),
            ("me/json/+/message", true, true),
            ("me/json/+/+", true, true),
            ("me/cbor/#", true, true),
            ("me/json/@bob/message", true, false),
            ("me/json/@bob/#", true, false),
            ("me/json/+/receipt", false, false),
            ("me/json/+/message/x", false, false),
            ("me/json", false, false),
        ] {
            let filter = TopicFilter::parse(filter).unwrap();
            assert_eq!((hears_messages(&filter), hears_all_messages(&filter)), (some, all));
        }
    }

    #[test]
    fn answers_go_where_the_command_came_from() {
        assert_eq!(heard("@", "bob", "message"), "me/json/@bob/message");
        assert_eq!(answered("chat/@bob/send/m1", "ack"), "me/json/@bob/ack");
        assert_eq!(answered("me/sync", "error"), "me/json/-/error");
        assert_eq!(answered("chat", "error"), "me/json/-/error");
        assert_eq!(in_view(heard("@", "bob", "message"), View::Cbor), "me/cbor/@bob/message");
        assert_eq!(in_view(heard("@", "bob", "message"), View::Json), "me/json/@bob/message");
    }
}

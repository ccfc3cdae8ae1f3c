//! What groups are about: roles, and the changes that members ask for.
//!
//! A name with `!` in front is a channel: few write, many read. Changes are JSON, read once at the
//! edge; what became of one is told to the members as an entry of kind `system`, whose payload is
//! [`Told`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::json::{Request, why};
use crate::topics::is_name;

/// What a member may do; each may what those before it may. On disk as the number of its place
/// here: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Reader,
    /// Writes.
    #[default]
    Member,
    /// Adds and removes members and readers, makes links, sets the title.
    Admin,
    /// Gives and takes any role.
    Owner,
}

/// What a member asks to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Create {
        title: Option<String>,
        users: Vec<Arc<str>>,
    },
    Add {
        users: Vec<Arc<str>>,
        role: Option<Role>,
    },
    Remove {
        users: Vec<Arc<str>>,
    },
    Leave,
    Role {
        user: Arc<str>,
        role: Role,
    },
    Title(String),
    /// `expires` in seconds from now.
    Invite {
        expires: Option<u64>,
        uses: Option<u32>,
        role: Option<Role>,
        request: Option<Request>,
    },
    Revoke {
        token: String,
    },
    Join {
        token: String,
    },
    /// After how many seconds the content of what comes goes; 0 for never.
    Timer(u64),
    Retention(Retention),
}

impl Change {
    /// Reads the payload of `chat/{group}/{verb}`.
    ///
    /// # Errors
    /// What is wrong with it, for the Client to read.
    pub(crate) fn parse(verb: &str, payload: &[u8]) -> Result<Self, String> {
        let change = match verb {
            "create" => {
                let Create { title, users } = read(payload, r#"{"title":"Climbing"}"#)?;
                Self::Create { title, users: names(users)? }
            }
            "add" => {
                let Add { user, users, role } = read(payload, r#"{"users":["bob"]}"#)?;
                Self::Add { users: some(user, users)?, role }
            }
            "remove" => {
                let Remove { user, users } = read(payload, r#"{"users":["bob"]}"#)?;
                Self::Remove { users: some(user, users)? }
            }
            "leave" => {
                let Leave {} = read(payload, "{}")?;
                Self::Leave
            }
            "role" => {
                let SetRole { user, role } = read(payload, r#"{"user":"bob","role":"admin"}"#)?;
                Self::Role { user: name(&user)?, role }
            }
            "title" => {
                let Title { title } = read(payload, r#"{"title":"Climbing"}"#)?;
                Self::Title(title)
            }
            "invite" => {
                let example = r#"{"expires":86400,"uses":10}"#;
                match read(payload, example)? {
                    Invite {
                        revoke: Some(token),
                        expires: None,
                        uses: None,
                        role: None,
                        request: None,
                    } => Self::Revoke { token },
                    Invite { revoke: None, expires, uses, role, request } => {
                        if expires == Some(0) || uses == Some(0) {
                            return Err("expires and uses are at least 1".into());
                        }
                        Self::Invite { expires, uses, role, request }
                    }
                    Invite { .. } => return Err("revoke stands alone".into()),
                }
            }
            "timer" => {
                let Timer { seconds } = read(payload, r#"{"seconds":86400}"#)?;
                if seconds > SECONDS_MAX {
                    return Err(format!("seconds is at most {SECONDS_MAX}"));
                }
                Self::Timer(seconds)
            }
            "retention" => {
                let example = r#"{"keep":"days:30"}, or until_delivered, forever, memory"#;
                let Keep { keep } = read(payload, example)?;
                let keep = Retention::parse(&keep).ok_or_else(|| format!("expected {example}"))?;
                Self::Retention(keep)
            }
            _ => {
                let Join { token } = read(payload, r#"{"token":"…"}"#)?;
                Self::Join { token }
            }
        };
        let title = match &change {
            Self::Create { title, .. } => title.as_deref(),
            Self::Title(title) => Some(&**title),
            _ => None,
        };
        if title.is_some_and(|title| title.len() > TITLE_BYTES_MAX) {
            return Err(format!("a title has at most {TITLE_BYTES_MAX} bytes"));
        }
        Ok(change)
    }
}

/// The payload of an entry of kind `system`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Told<'a> {
    pub(crate) action: &'a str,
    #[serde(skip_serializing_if = "<[Arc<str>]>::is_empty", serialize_with = "seq_of_names")]
    pub(crate) users: &'a [Arc<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<&'a str>,
    /// The timer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u64>,
    /// The retention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep: Option<&'a str>,
    /// Who owns the group now that its last owner left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<&'a str>,
}

fn seq_of_names<S: serde::Serializer>(names: &[Arc<str>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(names.iter().map(|name| &**name))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    title: Option<String>,
    #[serde(default)]
    users: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    user: Option<String>,
    #[serde(default)]
    users: Vec<String>,
    role: Option<Role>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    user: Option<String>,
    #[serde(default)]
    users: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetRole {
    user: String,
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Title {
    title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    expires: Option<u64>,
    uses: Option<u32>,
    role: Option<Role>,
    revoke: Option<String>,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timer {
    seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keep {
    keep: String,
}

/// Reads JSON; nothing at all is `{}`.
fn read<'a, T: Deserialize<'a>>(payload: &'a [u8], example: &str) -> Result<T, String> {
    let payload = if payload.is_empty() { b"{}" } else { payload };
    if payload.len() > CHANGE_BYTES_MAX {
        let found = payload.len();
        return Err(format!(
            "expected {example}, of at most {CHANGE_BYTES_MAX} bytes: it has {found}"
        ));
    }
    serde_json::from_slice(payload).map_err(|error| format!("expected {example}: {}", why(&error)))
}

fn name(text: &str) -> Result<Arc<str>, String> {
    if is_name(text) { Ok(text.into()) } else { Err("a user is [A-Za-z0-9._-]{1,64}".into()) }
}

fn names(texts: Vec<String>) -> Result<Vec<Arc<str>>, String> {
    if texts.len() > USERS_MAX {
        return Err(format!("at most {USERS_MAX} users at a time"));
    }
    let mut names = texts.iter().map(|text| name(text)).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    names.dedup();
    Ok(names)
}

fn some(one: Option<String>, mut more: Vec<String>) -> Result<Vec<Arc<str>>, String> {
    more.extend(one);
    if more.is_empty() {
        return Err("expected users".into());
    }
    names(more)
}

/// How long entries are kept. On disk as the number of its place here: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Retention {
    /// Until every device of every member has them.
    #[default]
    UntilDelivered,
    /// So many days.
    Days(u32),
    Forever,
    /// Never on disk.
    Memory,
}

impl Retention {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "until_delivered" => Some(Self::UntilDelivered),
            "forever" => Some(Self::Forever),
            "memory" => Some(Self::Memory),
            _ => {
                let days = text.strip_prefix("days:")?.parse().ok();
                days.filter(|days| (1..=DAYS_MAX).contains(days)).map(Self::Days)
            }
        }
    }

    /// As it is said.
    pub(crate) fn text(self) -> String {
        match self {
            Self::UntilDelivered => "until_delivered".into(),
            Self::Days(days) => format!("days:{days}"),
            Self::Forever => "forever".into(),
            Self::Memory => "memory".into(),
        }
    }
}

/// The longest timer: a year.
const SECONDS_MAX: u64 = 365 * 24 * 3_600;

/// The most days: ten years.
const DAYS_MAX: u32 = 3_650;

/// The longest command, in bytes: more than one with as many users as there may be.
const CHANGE_BYTES_MAX: usize = 32 * 1_024;

/// How many users one command names.
const USERS_MAX: usize = 256;

/// The longest title.
const TITLE_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_and_what_is_wrong_is_told() {
        let parse = |verb: &str, payload: &str| Change::parse(verb, payload.as_bytes());
        assert_eq!(
            parse("add", r#"{"users":["carol","bob","bob"],"role":"reader"}"#),
            Ok(Change::Add { users: vec!["bob".into(), "carol".into()], role: Some(Role::Reader) })
        );
        assert_eq!(parse("create", ""), Ok(Change::Create { title: None, users: Vec::new() }));
        assert_eq!(parse("leave", "{}"), Ok(Change::Leave));
        assert_eq!(parse("invite", r#"{"revoke":"x"}"#), Ok(Change::Revoke { token: "x".into() }));
        assert_eq!(parse("timer", r#"{"seconds":0}"#), Ok(Change::Timer(0)));
        for keep in ["until_delivered", "days:7", "forever", "memory"] {
            let Ok(Change::Retention(parsed)) =
                parse("retention", &format!(r#"{{"keep":"{keep}"}}"#))
            else {
                panic!("{keep}")
            };
            assert_eq!(parsed.text(), keep);
        }
        for (verb, payload) in [
            ("add", "{}"),
            ("add", r#"{"users":["b b"]}"#),
            ("add", r#"{"user":"bob","role":"king"}"#),
            ("add", "bob"),
            ("create", r#"{"titel":"x"}"#),
            ("invite", r#"{"uses":0}"#),
            ("invite", r#"{"revoke":"x","uses":1}"#),
            ("join", ""),
            ("timer", ""),
            ("timer", r#"{"seconds":31536001}"#),
            ("retention", r#"{"keep":"days:0"}"#),
            ("retention", r#"{"keep":"days:3651"}"#),
            ("retention", r#"{"keep":"always"}"#),
            ("title", &format!(r#"{{"title":"{}"}}"#, "x".repeat(257))),
        ] {
            assert!(parse(verb, payload).is_err(), "{verb} {payload}");
        }
    }

    #[test]
    fn what_is_told_has_only_the_fields_it_needs() {
        let users = ["bob".into()];
        let told = Told { action: "add", users: &users, ..Told::default() };
        assert_eq!(serde_json::to_string(&told).unwrap(), r#"{"action":"add","users":["bob"]}"#);
    }
}

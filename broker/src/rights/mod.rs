//! Rights: what Clients may publish and hear, by the rules of a text file.
//!
//! A line is a rule, and the first one that fits decides:
//!
//! ```text
//! # WHO: all, users, anonymous, user NAME, group NAME    WHAT: publish, subscribe, both
//! group staff alice carol
//! deny  all          both       alarms/test/#
//! allow group staff  both       alarms/#
//! allow users        publish    sensors/%u/%c
//! allow all          subscribe  news/#
//! ```
//!
//! `%u` is the user and `%c` the Client Identifier, each as a whole level. A name with `+`, `#` or `/`
//! in it, a `$` before it, or none, fits no `allow`, and in a `deny` stands for every name. A
//! subscription needs a rule whose filter has all of it *within*: `allow … news/#` lets in `news/+`,
//! and not `#`. Shared subscriptions are judged by the filter behind `$share/name/`. Nobody publishes
//! to `$…`, and `#` does not mean topics that begin with `$`.
//!
//! Temporary users, whose names begin with `~`, are `anonymous` and not `users`.
//!
//! Where no line fits, it is allowed as long as there are no users, and on the topics of services,
//! such as chat, which decide themselves; anything else as [`Otherwise`] says.

mod pattern;
mod rules;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use tidings_core::codec::ReasonCode;
use tidings_core::hook::{Authorize, Client, Verdict, is_temporary};
use tidings_core::topic::TopicFilter;

use crate::auth::stamp::{Stamp, stamp};
pub use rules::{Action, BadLine, RightsError, Rules, Ruling};

/// What holds for topics of which no line speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Otherwise {
    /// Nobody may.
    #[default]
    Deny,
    /// Everybody may.
    Allow,
}

/// Why something is allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// This line of the file.
    Line(usize),
    /// The service that the topic belongs to decides.
    Service,
    /// There are no users yet.
    NoUsers,
    /// No line speaks of it: [`Otherwise`].
    Otherwise,
    /// Topics that begin with `$` are the server's.
    OfServer,
}

/// Decides by the rules of a file. See the module.
#[derive(Debug)]
pub struct Rights {
    rules: RwLock<Rules>,
    path: PathBuf,
    seen: Mutex<Option<Stamp>>,
    otherwise: Otherwise,
    service_roots: Vec<&'static str>,
    /// There is no rule: `rules` need not be asked. Every PUBLISH asks, on the threads of all shards.
    silent: AtomicBool,
    /// There are no users: what no line speaks of is allowed.
    open: AtomicBool,
    denied: AtomicU64,
    hinted: AtomicBool,
}

impl Rights {
    /// Reads the file at `path`; a missing one is no rules.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not understood.
    pub fn open(path: impl Into<PathBuf>, otherwise: Otherwise) -> Result<Self, RightsError> {
        let path = path.into();
        let (rules, stamp) = read(&path)?;
        Ok(Self {
            silent: AtomicBool::new(rules.is_empty()),
            rules: RwLock::new(rules),
            path,
            seen: Mutex::new(stamp),
            otherwise,
            service_roots: Vec::new(),
            open: AtomicBool::new(false),
            denied: AtomicU64::new(0),
            hinted: AtomicBool::new(false),
        })
    }

    /// Topics with these first levels are decided by their service, where no line speaks of them.
    #[must_use]
    pub fn service_roots(mut self, roots: &[&'static str]) -> Self {
        self.service_roots.extend(roots);
        self
    }

    /// Whether there are no users, so that what no line speaks of is allowed. `true` if this is a
    /// change: then the broker is to be told, see [`crate::Broker::rights_changed`].
    pub fn set_open(&self, open: bool) -> bool {
        self.open.swap(open, Ordering::Relaxed) != open
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.with(Rules::len)
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often something was denied.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// Reads the file again if it changed, or in any case if `always`. `true`: the rules are others
    /// than before. A file that is gone is an error, and the rules stay as they were, as with any.
    ///
    /// # Errors
    /// See [`RightsError`]. Told once for each change of the file.
    pub fn read_again(&self, always: bool) -> Result<bool, RightsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = fs::metadata(&self.path).ok().map(|metadata| stamp(&metadata));
        if stamp == *seen && !always {
            return Ok(false);
        }
        let vanished = stamp.is_none() && seen.is_some();
        *seen = stamp;
        if vanished {
            let source = io::ErrorKind::NotFound.into();
            return Err(RightsError::Read { path: self.path.clone(), source });
        }
        if stamp.is_none() {
            return Ok(false);
        }
        let (rules, read) = read(&self.path)?;
        *seen = read;
        let mut current = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != rules;
        self.silent.store(rules.is_empty(), Ordering::Release);
        *current = rules;
        self.hinted.store(false, Ordering::Relaxed);
        Ok(changed)
    }

    /// Whether `client` may publish to `topic`, and why.
    pub fn may_publish(&self, client: &Client<'_>, topic: &str) -> (bool, By) {
        if topic.starts_with('$') {
            return (false, By::OfServer);
        }
        let root = topic.split('/').next().unwrap_or_default();
        let ruling = if self.silent.load(Ordering::Acquire) {
            Ruling::Silent
        } else {
            self.with(|rules| rules.of_topic(client, Action::Publish, topic))
        };
        self.conclude(client, ruling, root)
    }

    /// Whether `client` may hear all that `filter` matches, and why.
    pub fn may_subscribe(&self, client: &Client<'_>, filter: &TopicFilter) -> (bool, By) {
        self.conclude(client, self.with(|rules| rules.of_filter(client, filter)), filter.root())
    }

    fn conclude(&self, client: &Client<'_>, ruling: Ruling, root: &str) -> (bool, By) {
        // Who holds a link, or came in as nobody, is not one for whom a server without users is open.
        let open = || self.open.load(Ordering::Relaxed) && !is_temporary(client.user);
        match ruling {
            Ruling::Allow(line) => (true, By::Line(line)),
            Ruling::Deny(line) => (false, By::Line(line)),
            Ruling::Silent if self.service_roots.contains(&root) => (true, By::Service),
            Ruling::Silent if open() => (true, By::NoUsers),
            Ruling::Silent => (self.otherwise == Otherwise::Allow, By::Otherwise),
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&Rules) -> T) -> T {
        ask(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn verdict(&self, client: &Client<'_>, what: &str, (allowed, by): (bool, By)) -> Verdict {
        if allowed {
            return Verdict::Allow;
        }
        self.denied.fetch_add(1, Ordering::Relaxed);
        let file = self.path.display();
        tracing::debug!(user = client.user, client_id = client.client_id, ?by, "denied: {what}");
        if by == By::Otherwise && self.is_empty() && !self.hinted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                user = client.user,
                "denied, as no rule allows it; allow it by a line in {file}, such as \
                 `allow users both some/topic/#` (told once)"
            );
        }
        Verdict::Deny(ReasonCode::NotAuthorized)
    }
}

impl Authorize for Rights {
    fn publish(&self, client: &Client<'_>, topic: &str) -> Verdict {
        let open = self.silent.load(Ordering::Acquire) && self.open.load(Ordering::Relaxed);
        if open && !topic.starts_with('$') && !is_temporary(client.user) {
            return Verdict::Allow;
        }
        self.verdict(client, topic, self.may_publish(client, topic))
    }

    fn subscribe(&self, client: &Client<'_>, filter: &TopicFilter) -> Verdict {
        self.verdict(client, filter.as_str(), self.may_subscribe(client, filter))
    }
}

/// Reads the file; without a stamp there is none.
fn read(path: &Path) -> Result<(Rules, Option<Stamp>), RightsError> {
    let failed = |source| RightsError::Read { path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Rules::default(), None));
        }
        Err(error) => return Err(failed(error)),
    };
    // Before the content: a change while it is read is then seen at the next look.
    let stamp = stamp(&file.metadata().map_err(failed)?);
    let mut text = String::new();
    file.take(rules::FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > rules::FILE_BYTES_MAX {
        return Err(RightsError::TooLarge { path: path.into() });
    }
    Ok((Rules::parse(&text, path)?, Some(stamp)))
}

#[cfg(test)]
mod tests {
    use tidings_core::codec::Version;

    use super::*;

    const SEAT: Client<'_> = Client { user: "~x.1", client_id: "phone", version: Version::V5 };
    const BOB: Client<'_> = Client { user: "bob", client_id: "phone", version: Version::V5 };

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn what_no_line_speaks_of_is_denied_but_to_services_and_while_there_are_no_users() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rights");
        let rights = Rights::open(&path, Otherwise::Deny).unwrap().service_roots(&["chat", "me"]);
        assert_eq!(rights.may_publish(&BOB, "chat/@amy/send"), (true, By::Service));
        assert_eq!(rights.may_subscribe(&BOB, &filter("me/json/#")), (true, By::Service));
        assert_eq!(rights.may_publish(&BOB, "x"), (false, By::Otherwise));
        assert_eq!(rights.may_subscribe(&BOB, &filter("#")), (false, By::Otherwise));
        assert!(rights.set_open(true) && !rights.set_open(true));
        assert_eq!(rights.may_publish(&BOB, "x"), (true, By::NoUsers));
        assert_eq!(rights.may_publish(&BOB, "$SYS/x"), (false, By::OfServer));
        assert_eq!(rights.may_publish(&SEAT, "x"), (false, By::Otherwise));
        assert_eq!(rights.publish(&SEAT, "x"), Verdict::Deny(ReasonCode::NotAuthorized));
        assert_eq!(rights.may_publish(&SEAT, "chat/~/send"), (true, By::Service));
        fs::write(&path, "deny all both me/#\n").unwrap();
        assert!(rights.read_again(false).unwrap());
        assert_eq!(rights.may_subscribe(&BOB, &filter("me/json/#")), (false, By::Line(1)));
        fs::write(&path, "allow users both x\nallow anonymous publish y\n").unwrap();
        assert!(rights.read_again(true).unwrap());
        assert_eq!(rights.may_publish(&SEAT, "x"), (false, By::Otherwise));
        assert_eq!(rights.may_publish(&SEAT, "y"), (true, By::Line(2)));
        fs::write(&path, "deny all both me/#\n").unwrap();
        let rights = Rights::open(&path, Otherwise::Allow).unwrap();
        assert_eq!(rights.may_subscribe(&BOB, &filter("x/#")), (true, By::Otherwise));
        assert_eq!(rights.may_subscribe(&BOB, &filter("#")), (false, By::Line(1)));
    }

    #[test]
    fn file_that_is_wrong_or_gone_keeps_the_rules_and_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rights");
        fs::write(&path, "allow all publish a\n").unwrap();
        let rights = Rights::open(&path, Otherwise::Deny).unwrap();
        assert!(!rights.read_again(false).unwrap());
        fs::write(&path, "allow all publish a\nalow all publish b\n").unwrap();
        let error = rights.read_again(false).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:2: expected", path.display())), "{error}");
        assert!(!rights.read_again(false).unwrap());
        assert!(rights.read_again(true).is_err());
        assert_eq!(rights.may_publish(&BOB, "a"), (true, By::Line(1)));
        fs::remove_file(&path).unwrap();
        assert!(rights.read_again(false).is_err());
        assert!(!rights.read_again(false).unwrap());
        assert_eq!(rights.may_publish(&BOB, "a"), (true, By::Line(1)));
        fs::write(&path, "allow all publish b\n").unwrap();
        assert!(rights.read_again(false).unwrap());
        assert_eq!(rights.may_publish(&BOB, "a"), (false, By::Otherwise));
        assert_eq!(rights.denied(), 0);
        assert_eq!(rights.publish(&BOB, "a"), Verdict::Deny(ReasonCode::NotAuthorized));
        assert_eq!(rights.denied(), 1);
    }
}

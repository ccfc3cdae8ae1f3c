//! The rules of a file, and how they decide: the first line that fits.
//!
//! For a Topic Name that is all. A Topic Filter stands for many names, and is allowed only if each of
//! them is: so it has to be *within* the filter of an `allow`, and no `deny` before that may have
//! anything in common with it, unless a still earlier `allow` covers just that.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use tidings_core::hook::{Client, is_temporary};
use tidings_core::topic::{TopicError, TopicFilter};

use super::pattern::{BadPattern, Part, Pattern, common, filter_parts, topic_parts, within};
use crate::auth::is_user_name;

/// What a Client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To publish to a topic.
    Publish,
    /// To hear a topic.
    Subscribe,
}

/// What a set of rules says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// The line that allows it.
    Allow(usize),
    /// The line that denies it.
    Deny(usize),
    /// No line speaks of it.
    Silent,
}

/// The rules of a file. Its format is in the documentation of [`crate::rights`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Rules for more than named users; in the order of the file.
    general: Vec<usize>,
    /// Rules for a user by name, alone or in a group; in the order of the file.
    by_user: HashMap<Box<str>, Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    line: usize,
    allow: bool,
    who: Who,
    publish: bool,
    subscribe: bool,
    pattern: Pattern,
}

/// Whom a general rule is about; a named user is found by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    All,
    Users,
    Anonymous,
    Named,
}

/// Whether a Client comes without a login of its own.
fn is_nobody(user: &str) -> bool {
    user.is_empty() || is_temporary(user)
}

impl Rule {
    fn concerns(&self, client: &Client<'_>, action: Action) -> bool {
        let acts = match action {
            Action::Publish => self.publish,
            Action::Subscribe => self.subscribe,
        };
        acts && match self.who {
            Who::All | Who::Named => true,
            Who::Users => !is_nobody(client.user),
            Who::Anonymous => is_nobody(client.user),
        }
        // What cannot be filled in gives nothing away, and withholds all that it could mean.
        && (!self.allow || self.pattern.fits(client))
    }

    fn ruling(&self) -> Ruling {
        if self.allow { Ruling::Allow(self.line) } else { Ruling::Deny(self.line) }
    }
}

impl Rules {
    /// Understands `text`, the content of the file at `path`.
    ///
    /// # Errors
    /// A line is not understood: the first one.
    pub fn parse(text: &str, path: &Path) -> Result<Self, RightsError> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let lines = || text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let failed = |line, cause| RightsError::Line { path: path.into(), line, cause };
        for (number, line) in lines() {
            if let Some((name, members)) =
                parse_group(line).map_err(|cause| failed(number, cause))?
            {
                groups.entry(name).or_default().extend(members);
            }
        }
        let mut rules = Self::default();
        for (number, line) in lines() {
            let rule = parse_rule(line, number, &groups).map_err(|cause| failed(number, cause))?;
            if let Some((rule, users)) = rule {
                rules.push(rule, users);
            }
        }
        if rules.rules.len() > RULES_MAX {
            return Err(RightsError::TooLarge { path: path.into() });
        }
        Ok(rules)
    }

    /// How many lines are rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn push(&mut self, rule: Rule, users: Vec<&str>) {
        let index = self.rules.len();
        if rule.who != Who::Named {
            self.general.push(index);
        }
        for user in users {
            let own = self.by_user.entry(user.into()).or_default();
            if own.last() != Some(&index) {
                own.push(index);
            }
        }
        self.rules.push(rule);
    }

    /// What they say of `action` on the Topic Name `topic`.
    pub fn of_topic(&self, client: &Client<'_>, action: Action, topic: &str) -> Ruling {
        self.concerning(client, action)
            .find(|rule| within(topic_parts(topic), rule.pattern.parts(client)))
            .map_or(Ruling::Silent, Rule::ruling)
    }

    /// What they say of a subscription to `filter`, whose share name means nothing here.
    pub fn of_filter(&self, client: &Client<'_>, filter: &TopicFilter) -> Ruling {
        // Allowed before, and a part of what is asked for.
        let mut parts_allowed: Vec<&Rule> = Vec::new();
        for rule in self.concerning(client, Action::Subscribe) {
            let covered = |part: &[Part<'_>]| {
                let within_one =
                    |earlier: &&Rule| within(part.iter().copied(), earlier.pattern.parts(client));
                parts_allowed.iter().any(within_one)
            };
            if rule.allow && within(filter_parts(filter), rule.pattern.parts(client)) {
                return rule.ruling();
            }
            let Some(part) = common(filter_parts(filter), rule.pattern.parts(client)) else {
                continue;
            };
            if !rule.allow && !covered(&part) {
                return rule.ruling();
            }
            if rule.allow && parts_allowed.len() < PARTS_MAX {
                parts_allowed.push(rule);
            }
        }
        Ruling::Silent
    }

    /// The rules about this Client, in the order of the file.
    fn concerning<'a>(
        &'a self,
        client: &'a Client<'_>,
        action: Action,
    ) -> impl Iterator<Item = &'a Rule> {
        let own = self.by_user.get(client.user).map_or(&[][..], Vec::as_slice);
        let (mut general, mut own) = (self.general.iter().peekable(), own.iter().peekable());
        let in_order = std::iter::from_fn(move || match (general.peek(), own.peek()) {
            (Some(one), Some(other)) if one < other => general.next(),
            (_, Some(_)) => own.next(),
            _ => general.next(),
        });
        let rules = in_order.filter_map(|index| self.rules.get(*index));
        rules.filter(move |rule| rule.concerns(client, action))
    }
}

/// Takes the next word off the front of a line.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let line = rest.trim_start();
    let (word, after) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    *rest = after.trim();
    word
}

fn parse_group(line: &str) -> Result<Option<(&str, Vec<&str>)>, BadLine> {
    let mut rest = line;
    if word(&mut rest) != "group" {
        return Ok(None);
    }
    let name = user_name(word(&mut rest))?;
    let members: Vec<&str> = rest.split_whitespace().map(user_name).collect::<Result<_, _>>()?;
    Ok(Some((name, members)))
}

type Groups<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// The rule of a line, and the users it names; nothing for one without.
fn parse_rule<'a>(
    line: &'a str,
    number: usize,
    groups: &Groups<'a>,
) -> Result<Option<(Rule, Vec<&'a str>)>, BadLine> {
    let mut rest = line;
    let allow = match word(&mut rest) {
        "allow" => true,
        "deny" => false,
        "group" => return Ok(None),
        first if first.is_empty() || first.starts_with('#') => return Ok(None),
        first => return Err(BadLine::First { found: shown(first) }),
    };
    let (who, users) = match word(&mut rest) {
        "all" => (Who::All, Vec::new()),
        "users" => (Who::Users, Vec::new()),
        "anonymous" => (Who::Anonymous, Vec::new()),
        "user" => (Who::Named, vec![user_name(word(&mut rest))?]),
        "group" => {
            let name = word(&mut rest);
            let members = groups.get(name).ok_or_else(|| BadLine::Group { found: shown(name) })?;
            (Who::Named, members.clone())
        }
        found => return Err(BadLine::Who { found: shown(found) }),
    };
    let (publish, subscribe) = match word(&mut rest) {
        "publish" => (true, false),
        "subscribe" => (false, true),
        "both" => (true, true),
        found => return Err(BadLine::Action { found: shown(found) }),
    };
    let pattern = Pattern::parse(rest).map_err(|bad| match bad {
        BadPattern::Topic(TopicError::Empty) => BadLine::NoTopic,
        BadPattern::Topic(error) => BadLine::Topic(error),
        BadPattern::Shared => BadLine::Shared,
        BadPattern::Mixed(level) => BadLine::Mixed { found: shown(&level) },
    })?;
    if allow && publish && pattern.is_of_server() {
        return Err(BadLine::OfServer);
    }
    Ok(Some((Rule { line: number, allow, who, publish, subscribe, pattern }, users)))
}

fn user_name(name: &str) -> Result<&str, BadLine> {
    if is_user_name(name) { Ok(name) } else { Err(BadLine::Name { found: shown(name) }) }
}

/// What was found, short and without what would make two lines of one.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS_MAX).collect()
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RightsError {
    /// The file cannot be read.
    #[error("{}: cannot read the rights: {source}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// More than a file may have.
    #[error("{}: expected at most {RULES_MAX} rules and {FILE_BYTES_MAX} bytes, found more", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// A line is not understood.
    #[error("{}:{line}: {cause}", .path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: BadLine,
    },
}

/// What is wrong with a line of a rights file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadLine {
    /// It begins with another word.
    #[error("expected `allow`, `deny`, `group` or `#`, found `{found}`")]
    First {
        /// The word.
        found: String,
    },
    /// Nobody known.
    #[error("expected `all`, `users`, `anonymous`, `user NAME` or `group NAME`, found `{found}`")]
    Who {
        /// The word.
        found: String,
    },
    /// Nothing that can be done.
    #[error("expected `publish`, `subscribe` or `both`, found `{found}`")]
    Action {
        /// The word.
        found: String,
    },
    /// There is no such group.
    #[error("no line `group {found} USER…` says who is in the group")]
    Group {
        /// Its name.
        found: String,
    },
    /// No user can have this name.
    #[error("expected a name of 1 to 64 letters, digits, `.`, `_` or `-`, found `{found}`")]
    Name {
        /// The word.
        found: String,
    },
    /// The line ends too early.
    #[error("expected a topic filter at the end of the line, found nothing")]
    NoTopic,
    /// The filter is none.
    #[error("not a topic filter: {0}")]
    Topic(TopicError),
    /// The filter has more than it needs.
    #[error("write the filter without `$share/NAME/`: it then holds for shared subscriptions too")]
    Shared,
    /// `%u` or `%c` is not alone.
    #[error("`%u` and `%c` must fill a whole level, found `{found}`")]
    Mixed {
        /// The level.
        found: String,
    },
    /// What cannot be allowed.
    #[error("no client may publish to topics that begin with `$`; allow `subscribe`")]
    OfServer,
}

/// Rules in a file. Each that names no user costs every PUBLISH a comparison.
const RULES_MAX: usize = 65_536;

/// The longest file.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

/// Earlier rules that are remembered for one filter; more are taken for none, which may deny what
/// could be allowed, and never the other way round.
const PARTS_MAX: usize = 64;

const SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use tidings_core::codec::Version;

    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::parse(text, Path::new("rights")).unwrap()
    }

    fn bad(text: &str) -> String {
        Rules::parse(text, Path::new("rights")).unwrap_err().to_string()
    }

    fn client<'a>(user: &'a str, client_id: &'a str) -> Client<'a> {
        Client { user, client_id, version: Version::V5 }
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn first_line_that_fits_decides() {
        let rules = rules(
            "# mine\n\
             group staff alice carol\n\
             deny  user bob  publish news/secret\n\
             allow users     both    news/#\n\
             deny  group staff both  a b/#\n\
             allow all       publish a b/+\n",
        );
        let publish = |user, topic| rules.of_topic(&client(user, "c"), Action::Publish, topic);
        assert_eq!(rules.len(), 4);
        assert_eq!(publish("bob", "news/secret"), Ruling::Deny(3));
        assert_eq!(publish("alice", "news/secret"), Ruling::Allow(4));
        assert_eq!(publish("alice", "a b/c"), Ruling::Deny(5));
        assert_eq!(publish("bob", "a b/c"), Ruling::Allow(6));
        assert_eq!(publish("", "a b/c"), Ruling::Allow(6));
        assert_eq!(publish("", "news/x"), Ruling::Silent);
        assert_eq!(publish("bob", "a b/c/d"), Ruling::Silent);
    }

    #[test]
    fn filter_is_allowed_only_where_every_topic_of_it_is() {
        let rules = rules(
            "allow user admin subscribe secret/#\n\
             deny all subscribe secret/#\n\
             deny all subscribe +/private\n\
             allow all subscribe #\n",
        );
        let subscribe = |user, text| rules.of_filter(&client(user, "c"), &filter(text));
        for (user, text, expected) in [
            ("bob", "news/#", Ruling::Deny(3)),
            ("bob", "news/today", Ruling::Allow(4)),
            ("bob", "#", Ruling::Deny(2)),
            ("bob", "+/x", Ruling::Deny(2)),
            ("bob", "secret", Ruling::Deny(2)),
            ("bob", "$share/g/secret/x", Ruling::Deny(2)),
            ("bob", "$share/g/news/today", Ruling::Allow(4)),
            ("admin", "secret/#", Ruling::Allow(1)),
            // The part of it that line 2 denies is what line 1 allows.
            ("admin", "+/x", Ruling::Allow(4)),
            ("admin", "#", Ruling::Deny(3)),
            ("bob", "$SYS/#", Ruling::Silent),
        ] {
            assert_eq!(subscribe(user, text), expected, "{user} {text}");
        }
    }

    #[test]
    fn names_are_filled_in_only_where_they_are_one_level() {
        let rules = rules("deny all publish d/%c\nallow all both %u/%c/#\nallow all publish d/#\n");
        let publish = |user: &str, id: &str, topic: &str| {
            rules.of_topic(&client(user, id), Action::Publish, topic)
        };
        assert_eq!(publish("bob", "phone", "bob/phone/x"), Ruling::Allow(2));
        assert_eq!(publish("bob", "phone", "bob/laptop/x"), Ruling::Silent);
        for id in ["a/b", "+", "#", "a#", "", "$SYS"] {
            assert_eq!(publish("bob", id, &format!("bob/{id}/x")), Ruling::Silent, "{id}");
            // A denial is not to be got round by such a name.
            assert_eq!(publish("bob", id, "d/x"), Ruling::Deny(1), "{id}");
        }
        assert_eq!(publish("", "phone", "/phone/x"), Ruling::Silent);
        assert_eq!(rules.of_filter(&client("+", "+"), &filter("+/+/#")), Ruling::Silent);
    }

    #[test]
    fn lines_that_are_wrong_say_where_and_what_to_do() {
        for (text, expected) in [
            ("alow all publish a", "1: expected `allow`, `deny`, `group` or `#`, found `alow`"),
            ("\nallow bob publish a", "2: expected `all`, `users`, `anonymous`, `user NAME` or"),
            ("allow all write a", "1: expected `publish`, `subscribe` or `both`, found `write`"),
            ("allow all publish", "1: expected a topic filter at the end"),
            ("allow all publish a/#/b", "1: not a topic filter: "),
            ("allow group x publish a", "1: no line `group x USER…` says who"),
            ("allow user a/b publish a", "1: expected a name of 1 to 64"),
            ("group g a b/c", "1: expected a name of 1 to 64"),
            ("allow all subscribe $share/g/a", "1: write the filter without `$share/NAME/`"),
            ("allow all publish x-%u", "1: `%u` and `%c` must fill a whole level, found `x-%u`"),
            ("allow all publish $SYS/#", "1: no client may publish to topics that begin with `$`"),
        ] {
            let error = bad(text);
            assert!(error.starts_with(&format!("rights:{expected}")), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn general_rules_and_those_of_a_user_keep_the_order_of_the_file() {
        let text = "allow user b publish x\ndeny all publish x\nallow user b publish y\n\
                    group g b b\ndeny group g publish z\nallow all publish #\n";
        let rules = rules(text);
        let publish = |user, topic| rules.of_topic(&client(user, "c"), Action::Publish, topic);
        let of = |user| ["x", "y", "z", "w"].map(|topic| publish(user, topic));
        use Ruling::{Allow, Deny};
        assert_eq!(of("b"), [Allow(1), Allow(3), Deny(5), Allow(6)]);
        assert_eq!(of("c"), [Deny(2), Allow(6), Allow(6), Allow(6)]);
    }
}

//! Reading the configuration: defaults, then the file, then `--set`, then the named options.
//!
//! Every value passes [`check`] with the place it comes from, before serde sees any: so an error
//! names file, line and key, what was expected and what was found, in one line. Where a value came
//! from is kept for `tidings config print`.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tidings_broker::auth::is_user_name;
use tidings_broker::listener::Network;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{Config, Item, Key, Kind};

/// A configuration, and where it came from.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// Keys that are not at their default.
    pub(crate) origins: BTreeMap<&'static str, Origin>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file and its line.
    File(String, usize),
    /// `--set`.
    Set,
    /// A named option, such as `--listen`.
    Option(&'static str),
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file, line) => write!(f, "{file}:{line}"),
            Self::Set => f.write_str("--set"),
            Self::Option(option) => f.write_str(option),
        }
    }
}

/// A value that has an option of its own on the command line.
#[derive(Debug)]
pub(crate) struct NamedOption {
    /// For example `--data`.
    pub(crate) option: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: DeValue<'static>,
}

impl NamedOption {
    pub(crate) fn text(option: &'static str, key: &'static str, text: impl Into<String>) -> Self {
        Self { option, key, value: DeValue::String(text.into().into()) }
    }

    pub(crate) fn list(
        option: &'static str,
        key: &'static str,
        items: impl Iterator<Item = String>,
    ) -> Self {
        let item = |text: String| Spanned::new(0..0, DeValue::String(text.into()));
        Self { option, key, value: DeValue::Array(items.map(item).collect()) }
    }
}

/// Values by key, checked.
pub(super) type Values = BTreeMap<&'static str, (Value, Origin)>;

impl Settings {
    /// Puts defaults, `file`, the `key=value`s of `sets` and `options` together, the later over
    /// the earlier.
    ///
    /// # Errors
    /// The file cannot be read, or a key or value is wrong.
    pub(crate) fn load(
        file: Option<&Path>,
        sets: &[String],
        options: Vec<NamedOption>,
    ) -> Result<Self, ConfigError> {
        let mut values = Values::new();
        if let Some(path) = file {
            let text = fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.into(), source })?;
            values = parse_file(&path.display().to_string(), &text)?;
        }
        for set in sets {
            let (key, value) = parse_set(set)?;
            values.insert(key, (value, Origin::Set));
        }
        for NamedOption { option, key, value } in options {
            insert(&mut values, Origin::Option(option), key, &Spanned::new(0..0, value))?;
        }
        Self::from_values(values)
    }

    fn from_values(values: Values) -> Result<Self, ConfigError> {
        // Defaults first: what is left out of a section stays at its own.
        let broken = |error: &dyn Display| ConfigError::Internal { cause: error.to_string() };
        let mut table = Table::try_from(Config::default()).map_err(|error| broken(&error))?;
        let mut origins = BTreeMap::new();
        for (name, (value, origin)) in values {
            let place = match name.split_once('.') {
                Some((section, key)) => table
                    .get_mut(section)
                    .and_then(Value::as_table_mut)
                    .and_then(|section| section.get_mut(key)),
                None => table.get_mut(name),
            };
            let place = place.ok_or_else(|| broken(&format_args!("no place for {name}")))?;
            *place = value;
            origins.insert(name, origin);
        }
        let config = table.try_into().map_err(|error| broken(&error))?;
        let settings = Self { config, origins };
        settings.check_together()?;
        Ok(settings)
    }

    /// What must hold between keys.
    fn check_together(&self) -> Result<(), ConfigError> {
        let limits = &self.config.limits;
        for (small, small_value, large, large_value) in [
            (
                "limits.outbound_soft_bytes",
                limits.outbound_soft_bytes,
                "limits.outbound_hard_bytes",
                limits.outbound_hard_bytes,
            ),
            (
                "limits.packet_bytes_max",
                limits.packet_bytes_max,
                "limits.outbound_hard_bytes",
                limits.outbound_hard_bytes,
            ),
            (
                "chat.payload_bytes_max",
                self.config.chat.payload_bytes_max,
                "limits.packet_bytes_max",
                limits.packet_bytes_max,
            ),
        ] {
            if small_value > large_value {
                // The one that was set is the one to change; the file's line helps to find it.
                let (key, place) = [small, large]
                    .into_iter()
                    .find_map(|key| self.origins.get(key).map(|origin| (key, origin.to_string())))
                    .unwrap_or_else(|| (small, "defaults".into()));
                return Err(ConfigError::Value {
                    place,
                    key: key.into(),
                    expected: format!("{small} to be at most {large}"),
                    found: format!("{small_value} and {large_value}"),
                });
            }
        }
        Ok(())
    }
}

/// Reads the text of a configuration file; `name` is for messages.
pub(super) fn parse_file(name: &str, text: &str) -> Result<Values, ConfigError> {
    let origin = |offset| Origin::File(name.into(), line_of(text, offset));
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: origin(error.span().map_or(0, |span| span.start)).to_string(),
        cause: one_line(error.message()),
    })?;
    let mut values = Values::new();
    for (section, value) in table.get_ref() {
        let at = origin(section.span().start);
        let section = section.get_ref().as_ref();
        if !Config::keys().any(|key| section_of(key) == Some(section)) {
            insert(&mut values, at, section, value)?;
            continue;
        }
        let DeValue::Table(table) = value.get_ref() else {
            return Err(ConfigError::Value {
                place: at.to_string(),
                key: section.into(),
                expected: format!("a section [{section}]"),
                found: describe(value.get_ref()),
            });
        };
        for (key, value) in table {
            let name = format!("{section}.{}", key.get_ref());
            insert(&mut values, origin(key.span().start), &name, value)?;
        }
    }
    Ok(values)
}

fn insert(
    values: &mut Values,
    origin: Origin,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), ConfigError> {
    let (key, value) = check(&origin, name, value)?;
    values.insert(key, (value, origin));
    Ok(())
}

/// Reads `key=value`. Words and lists need no quotes: a shell would have eaten them.
fn parse_set(set: &str) -> Result<(&'static str, Value), ConfigError> {
    let Some((name, text)) = set.split_once('=') else {
        return Err(ConfigError::Value {
            place: "--set".into(),
            key: one_line(set),
            expected: "key=value".into(),
            found: "no `=`".into(),
        });
    };
    let (name, text) = (name.trim(), text.trim());
    let key = find(&Origin::Set, name)?;
    let bare = || match key.kind {
        Kind::Addresses | Kind::List(_) if !text.starts_with('[') => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            DeValue::Array(parts.map(string).collect())
        }
        _ => string(text).into_inner(),
    };
    let value = match (key.kind, DeValue::parse(text)) {
        // `log.level=info` is no TOML, `data.dir=2026` is a number there.
        (Kind::Text { .. } | Kind::Choice(_), Ok(value)) if value.get_ref().is_str() => value,
        (Kind::Text { .. } | Kind::Choice(_), _) => Spanned::new(0..0, bare()),
        (Kind::Addresses | Kind::List(_), Ok(value)) if value.get_ref().is_array() => value,
        (Kind::Number(..) | Kind::Flag, Ok(value)) => value,
        _ => Spanned::new(0..0, bare()),
    };
    check(&Origin::Set, name, &value)
}

/// Whether `name` is a key and `value` one it takes.
fn check(
    origin: &Origin,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<(&'static str, Value), ConfigError> {
    let key = find(origin, name)?;
    let value = value.get_ref();
    let wrong = |found: String| ConfigError::Value {
        place: origin.to_string(),
        key: key.name.into(),
        expected: key.kind.to_string(),
        found,
    };
    let checked = match key.kind {
        Kind::Number(min, max) => value
            .as_integer()
            .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| u64::try_from(*number).is_ok_and(|n| (min..=max).contains(&n)))
            .map(Value::Integer),
        Kind::Choice(words) => {
            value.as_str().filter(|word| words.contains(word)).map(|word| word.into())
        }
        Kind::Text { may_be_empty } => value
            .as_str()
            .filter(|text| (may_be_empty || !text.is_empty()) && !text.contains('\0'))
            .map(|text| text.into()),
        Kind::Flag => value.as_bool().map(Value::Boolean),
        Kind::Addresses => {
            let address = |text: &str| text.parse().ok().map(|it: SocketAddr| it.to_string());
            checked_list(value, address).map_err(wrong)?
        }
        Kind::List(item) => checked_list(value, |text| item.check(text)).map_err(wrong)?,
    };
    Ok((key.name, checked.ok_or_else(|| wrong(describe(value)))?))
}

/// The texts of a list, each once and as `check` puts it; `None`: it is no list.
fn checked_list(
    value: &DeValue<'_>,
    check: impl Fn(&str) -> Option<String>,
) -> Result<Option<Value>, String> {
    let Some(items) = value.as_array() else { return Ok(None) };
    let mut texts: Vec<String> = Vec::new();
    for item in items {
        let text = item.get_ref().as_str().and_then(&check);
        let text = text.ok_or_else(|| describe(item.get_ref()))?;
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    Ok(Some(Value::Array(texts.into_iter().map(Value::String).collect())))
}

impl Item {
    /// The text as it is kept, if it is one of these.
    fn check(self, text: &str) -> Option<String> {
        let is_one = match self {
            Self::Word(words) => words.contains(&text),
            Self::Origin => {
                let host = text.split_once("://").map(|(_, host)| host);
                let is_host = |host: &str| {
                    !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace())
                };
                matches!(text, "*" | "null") || host.is_some_and(is_host)
            }
            Self::Network => text.parse::<Network>().is_ok(),
            Self::User => is_user_name(text),
            Self::IceServer => {
                let kinds = ["stun:", "stuns:", "turn:", "turns:"];
                let rest = kinds.iter().find_map(|kind| text.strip_prefix(kind));
                rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
            }
        };
        is_one.then(|| text.to_owned())
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(words) => write!(f, "a list of {}", Kind::Choice(words)),
            Self::Origin => f.write_str("origins, such as [\"https://chat.example\"]"),
            Self::Network => f.write_str("IP addresses or ranges, such as [\"10.0.0.0/8\"]"),
            Self::User => f.write_str("names of users, such as [\"alice\"]"),
            Self::IceServer => f.write_str("servers, such as [\"stun:stun.example:3478\"]"),
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(min, max) => write!(f, "an integer from {min} to {max}"),
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                match words.split_last() {
                    Some((last, rest)) => write!(f, "{} or {last}", rest.join(", ")),
                    None => Ok(()),
                }
            }
            Self::Text { may_be_empty: true } => f.write_str("a string"),
            Self::Text { may_be_empty: false } => f.write_str("a string that is not empty"),
            Self::Addresses => f.write_str("addresses with ports, such as [\"127.0.0.1:1883\"]"),
            Self::Flag => f.write_str("true or false"),
            Self::List(item) => Display::fmt(item, f),
        }
    }
}

fn find(origin: &Origin, name: &str) -> Result<&'static Key, ConfigError> {
    Config::keys().find(|key| key.name == name).ok_or_else(|| ConfigError::Unknown {
        place: origin.to_string(),
        key: one_line(name),
        mend: mend(name),
    })
}

/// The known key or section that `name` is most likely meant to be.
fn mend(name: &str) -> String {
    let parts = |name: &'static str| name.rsplit_once('.').unwrap_or(("", name));
    let (section, last) = name.rsplit_once('.').unwrap_or(("", name));
    Config::keys()
        .flat_map(|key| [Some(key.name), section_of(key)])
        .flatten()
        .map(|known| (strsim::jaro_winkler(last, parts(known).1), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        // The right key in the wrong section is likelier than a wrong one in the right section.
        .map(|(likeness, known)| {
            (likeness + if parts(known).0 == section { 0.05 } else { 0.0 }, known)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(
            || "`tidings config print` shows every key".into(),
            |(_, known)| format!("did you mean `{known}`?"),
        )
}

fn section_of(key: &Key) -> Option<&'static str> {
    key.name.split_once('.').map(|(section, _)| section)
}

/// A value as it is written, short and in one line.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => one_line(&format!("{text:?}")),
        DeValue::Integer(number) => one_line(&number.to_string()),
        DeValue::Float(number) => one_line(&number.to_string()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) if items.is_empty() => "an empty list".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

fn one_line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS_MAX).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn string(text: &str) -> Spanned<DeValue<'_>> {
    Spanned::new(0..0, DeValue::String(text.into()))
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is no TOML.
    #[error("{place}: not TOML: {cause}")]
    Syntax { place: String, cause: String },
    /// No such key.
    #[error("{place}: unknown key `{key}`; {mend}")]
    Unknown { place: String, key: String, mend: String },
    /// A key with a value that it does not take.
    #[error("{place}: {key}: expected {expected}, found {found}")]
    Value { place: String, key: String, expected: String, found: String },
    /// Ours.
    #[error("the configuration's own tables disagree: {cause}")]
    Internal { cause: String },
}

/// How much of what was found an error repeats.
const SHOWN_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::super::print;
    use super::*;

    fn from_file(text: &str) -> Result<Settings, String> {
        parse_file("t.toml", text)
            .and_then(Settings::from_values)
            .map_err(|error| error.to_string())
    }

    fn from_set(set: &str) -> Result<Settings, String> {
        Settings::load(None, &[set.to_owned()], Vec::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn empty_file_is_the_defaults() {
        assert_eq!(from_file("").unwrap().config, Config::default());
        assert_eq!(from_file("[limits]\n").unwrap().config, Config::default());
    }

    #[test]
    fn unknown_key_is_refused_with_line_and_nearest_key() {
        for (text, error) in [
            (
                "shards = 1\n[limits]\npacket_byte_max = 9",
                "t.toml:3: unknown key `limits.packet_byte_max`; \
                 did you mean `limits.packet_bytes_max`?",
            ),
            ("shard = 1", "t.toml:1: unknown key `shard`; did you mean `shards`?"),
            ("\n\n[limit]\n", "t.toml:3: unknown key `limit`; did you mean `limits`?"),
            (
                "receive_maximum = 9",
                "t.toml:1: unknown key `receive_maximum`; \
                 did you mean `limits.receive_maximum`?",
            ),
            (
                "[limits]\nxyzzy = 1",
                "t.toml:2: unknown key `limits.xyzzy`; `tidings config print` shows every key",
            ),
        ] {
            assert_eq!(from_file(text).unwrap_err(), error);
        }
    }

    #[test]
    fn wrong_value_is_refused_with_line_key_expected_and_found() {
        for (text, error) in [
            (
                "[limits]\nreceive_maximum = \"64\"",
                "t.toml:2: limits.receive_maximum: expected an integer from 1 to 65535, \
                 found \"64\"",
            ),
            (
                "limits.receive_maximum = 65536",
                "t.toml:1: limits.receive_maximum: expected an integer from 1 to 65535, \
                 found 65536",
            ),
            ("shards = -1", "t.toml:1: shards: expected an integer from 0 to 256, found -1"),
            (
                "data.durability = \"disk\"",
                "t.toml:1: data.durability: expected \"fsync\", \"os\" or \"memory\", \
                 found \"disk\"",
            ),
            (
                "data.dir = \"\"",
                "t.toml:1: data.dir: expected a string that is not empty, found \"\"",
            ),
            (
                "\nlisten = [\"127.0.0.1:1\", \"localhost:1883\"]",
                "t.toml:2: listen: expected addresses with ports, such as [\"127.0.0.1:1883\"], \
                 found \"localhost:1883\"",
            ),
            (
                "[websocket]\norigins = [\"https://chat.example/\"]",
                "t.toml:2: websocket.origins: expected origins, such as \
                 [\"https://chat.example\"], found \"https://chat.example/\"",
            ),
            (
                "proxy.trusted = [\"10.0.0.0/33\"]",
                "t.toml:1: proxy.trusted: expected IP addresses or ranges, such as \
                 [\"10.0.0.0/8\"], found \"10.0.0.0/33\"",
            ),
            (
                "proxy.listeners = \"tcp\"",
                "t.toml:1: proxy.listeners: expected a list of \"tcp\", \"tls\", \"ws\", \"wss\" or \
                 \"unix\", found \"tcp\"",
            ),
            (
                "tls.certificate_is_user = 1",
                "t.toml:1: tls.certificate_is_user: expected true or false, found 1",
            ),
            ("limits = 3", "t.toml:1: limits: expected a section [limits], found 3"),
            (
                "[shards]\nx = 1",
                "t.toml:1: shards: expected an integer from 0 to 256, found a table",
            ),
            (
                "[limits]\noutbound_soft_bytes = 2097152",
                "t.toml:2: limits.outbound_soft_bytes: expected limits.outbound_soft_bytes to be \
                 at most limits.outbound_hard_bytes, found 2097152 and 1048576",
            ),
        ] {
            assert_eq!(from_file(text).unwrap_err(), error);
        }
    }

    #[test]
    fn text_that_is_no_toml_is_refused_in_one_line_with_its_number() {
        for text in ["shards = 1\nshards = = 2", "shards = 1\nshards = 1", "shards = 1\n[limits"] {
            let error = from_file(text).unwrap_err();
            assert!(error.starts_with("t.toml:2: not TOML: "), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    /// A value of each kind that is no default anywhere.
    fn other_value(key: &Key) -> String {
        let default = print::value(&Config::default(), key.name).unwrap();
        match key.kind {
            Kind::Number(min, _) if default == Value::from(i64::try_from(min).unwrap()) => {
                (min + 1).to_string()
            }
            // One below the default keeps what must hold between keys.
            Kind::Number(..) => (default.as_integer().unwrap() - 1).to_string(),
            Kind::Choice(words) => {
                (*words.iter().find(|word| Some(**word) != default.as_str()).unwrap()).into()
            }
            Kind::Text { .. } => "other".into(),
            Kind::Addresses => "127.0.0.1:1,[::1]:2".into(),
            Kind::Flag => (!default.as_bool().unwrap()).to_string(),
            Kind::List(Item::Word(words)) => words.join(","),
            Kind::List(Item::Origin) => "https://a.example,*".into(),
            Kind::List(Item::Network) => "10.0.0.0/8,::1".into(),
            Kind::List(Item::User) => "alice,bob".into(),
            Kind::List(Item::IceServer) => "stun:a:1,turn:b:c@d:2".into(),
        }
    }

    #[test]
    fn every_key_can_be_set_and_survives_print_and_parse() {
        for key in Config::keys() {
            let settings = from_set(&format!("{}={}", key.name, other_value(key))).unwrap();
            assert_ne!(settings.config, Config::default(), "{}", key.name);
            assert_eq!(settings.origins.get(key.name), Some(&Origin::Set));
            let again = from_file(&print(&settings)).unwrap();
            assert_eq!(again.config, settings.config, "{}", key.name);
        }
    }

    #[test]
    fn set_takes_what_a_shell_leaves() {
        let config = |set| from_set(set).unwrap().config;
        assert_eq!(config("data.dir=/a b/c").data.dir, Path::new("/a b/c"));
        assert_eq!(config("data.dir=\"/a\"").data.dir, Path::new("/a"));
        assert_eq!(config("data.dir=2026").data.dir, Path::new("2026"));
        assert_eq!(config("users.file=").users.file, "");
        assert_eq!(config("listen=").top.listen, []);
        assert_eq!(config("proxy.listeners=tcp, ws").proxy.listeners, ["tcp", "ws"]);
        assert_eq!(config("limits.packet_bytes_max = 65_536").limits.packet_bytes_max, 65_536);
        assert_eq!(config("listen=[\"[::1]:9\"]").top.listen, ["[::1]:9".parse().unwrap()]);
    }

    #[test]
    fn wrong_set_is_refused() {
        for (set, error) in [
            ("shards", "--set: shards: expected key=value, found no `=`"),
            ("shads=1", "--set: unknown key `shads`; did you mean `shards`?"),
            ("shards=two", "--set: shards: expected an integer from 0 to 256, found \"two\""),
            ("shards=1.5", "--set: shards: expected an integer from 0 to 256, found 1.5"),
        ] {
            assert_eq!(from_set(set).unwrap_err(), error);
        }
    }

    #[test]
    fn later_sources_win() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.toml");
        fs::write(&path, "shards = 1\ndata.dir = \"a\"\nlog.level = \"warn\"\n").unwrap();
        let sets = ["shards=2".to_owned(), "data.dir=b".to_owned()];
        let options = vec![NamedOption::text("--data", "data.dir", "c")];
        let settings = Settings::load(Some(&path), &sets, options).unwrap();
        assert_eq!(settings.config.top.shards, 2);
        assert_eq!(settings.config.data.dir, Path::new("c"));
        assert_eq!(settings.config.log.level, super::super::Level::Warn);
        let origin = |key| settings.origins.get(key).unwrap().to_string();
        assert_eq!(origin("shards"), "--set");
        assert_eq!(origin("data.dir"), "--data");
        assert_eq!(origin("log.level"), format!("{}:3", path.display()));
    }
}

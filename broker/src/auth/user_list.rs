//! The users file: text, one `name:hash` per line, the hash an argon2id PHC string. A user that may
//! log in by SCRAM has a third field, the keys for it (see [`super::ScramSha256`]).
//!
//! Those keys are made only where they are asked for: who steals the file can try passwords against
//! them, and they are hashed with less effort than argon2id takes, for the Client has to repeat it.
//!
//! Comments and empty lines survive a rewrite. A line that cannot be read is an error and never
//! skipped: a user silently lost is a user locked out, or worse, the last one gone. A file that
//! does not exist holds no user.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use super::scram::{self, ScramKeys, ScramSecret};
use super::{USER_NAME_BYTES_MAX, is_user_name};

/// What stands in a users file, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserList {
    lines: Vec<Line>,
}

impl UserList {
    /// Reads the file at `path`; a missing one is an empty list.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or a line of it is not understood.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        match File::open(path) {
            Ok(file) => Self::read_from(&file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(UsersError::Read { path: path.into(), source }),
        }
    }

    /// Reads the opened `file`; `path` is for messages.
    pub(super) fn read_from(file: &File, path: &Path) -> Result<Self, UsersError> {
        let failed = |source| UsersError::Read { path: path.into(), source };
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(UsersError::TooLarge { path: path.into() });
        }
        Self::parse(&text, path)
    }

    /// Understands `text`, the content of the file at `path`.
    ///
    /// # Errors
    /// A line is not understood, or names a user a second time.
    pub fn parse(text: &str, path: &Path) -> Result<Self, UsersError> {
        let mut list = Self::default();
        let mut seen = HashMap::new();
        for (index, text) in text.lines().enumerate() {
            let number = index + 1;
            let failed = |cause| UsersError::Line { path: path.into(), line: number, cause };
            let line = Line::parse(text).map_err(failed)?;
            if let Line::User { name, .. } = &line
                && let Some(first) = seen.insert(name.clone(), number)
            {
                return Err(failed(format!("user `{name}` is in line {first} already")));
            }
            list.lines.push(line);
        }
        Ok(list)
    }

    /// Changes the file at `path` by `change`, and only if that succeeds.
    ///
    /// One at a time on this machine: a lock file beside it is held meanwhile. The new content is
    /// written to a temporary file of mode 0600, synced, and renamed over the old one; a reader or
    /// a power cut sees the old or the new file. A missing directory is made, mode 0700.
    ///
    /// # Errors
    /// What [`UserList::read`] and `change` say; or the file cannot be written.
    pub fn edit<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, UsersError>,
    ) -> Result<T, UsersError> {
        // A link stays a link: what it points to is replaced.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let failed = |source| UsersError::Write { path: path.into(), source };
        let directory = directory_of(path);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let lock = private_file(&with_suffix(path, ".lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut list = Self::read(path)?;
        let done = change(&mut list)?;
        list.replace(path).map_err(failed)?;
        Ok(done)
    }

    /// Adds `name`, or gives it a new password where `replace` allows it.
    ///
    /// Takes as long as a login, for it makes the hash. Says whether the user was there before.
    ///
    /// # Errors
    /// `name` is no user name, or is there and `replace` is false, or the password is empty.
    pub fn add(&mut self, name: &str, password: &[u8], replace: bool) -> Result<bool, UsersError> {
        if !is_user_name(name) {
            return Err(UsersError::Name { name: name.into() });
        }
        if password.is_empty() {
            return Err(UsersError::EmptyPassword);
        }
        let hash = hash_password(password)?;
        match self.secrets(name) {
            Some(_) if !replace => Err(UsersError::Exists { name: name.into() }),
            Some(secrets) => {
                // Keys of the old password would let it in for ever.
                let scram = secrets.scram.as_ref().map(|_| scram_keys(password)).transpose()?;
                *secrets = Secrets { hash, scram };
                Ok(true)
            }
            None => {
                if self.lines.is_empty() {
                    self.lines.extend(HEADER.iter().map(|text| Line::Text((*text).into())));
                }
                let secrets = Secrets { hash, scram: None };
                self.lines.push(Line::User { name: name.into(), secrets });
                Ok(false)
            }
        }
    }

    /// Lets `name` log in by SCRAM as well, with `password`: the one it was added with.
    ///
    /// # Errors
    /// There is no such user, or SCRAM cannot carry the password: it is no text, or holds control
    /// characters.
    pub fn enable_scram(&mut self, name: &str, password: &[u8]) -> Result<(), UsersError> {
        let unknown = || UsersError::Unknown { name: name.into() };
        self.secrets(name).ok_or_else(unknown)?.scram = Some(scram_keys(password)?);
        if self.scram_secret().is_none() {
            let at = self.lines.iter().position(|line| matches!(line, Line::User { .. }));
            let secret = [Line::Text(SECRET_SAYS.into()), Line::ScramSecret(ScramSecret::random())];
            let at = at.unwrap_or(self.lines.len());
            self.lines.splice(at..at, secret);
        }
        Ok(())
    }

    /// Whether `name` may log in by SCRAM.
    pub fn has_scram(&self, name: &str) -> bool {
        self.lines.iter().any(|line| {
            matches!(line, Line::User { name: n, secrets } if n == name && secrets.scram.is_some())
        })
    }

    fn secrets(&mut self, name: &str) -> Option<&mut Secrets> {
        self.lines.iter_mut().find_map(|line| match line {
            Line::User { name: present, secrets } if present == name => Some(secrets),
            _ => None,
        })
    }

    /// Takes `name` out.
    ///
    /// # Errors
    /// There is no such user.
    pub fn remove(&mut self, name: &str) -> Result<(), UsersError> {
        let before = self.lines.len();
        self.lines.retain(|line| !matches!(line, Line::User { name: n, .. } if n == name));
        if self.lines.len() == before {
            return Err(UsersError::Unknown { name: name.into() });
        }
        Ok(())
    }

    /// The names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| match line {
            Line::User { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Names and secrets.
    pub(super) fn into_users(self) -> impl Iterator<Item = (String, Secrets)> {
        self.lines.into_iter().filter_map(|line| match line {
            Line::User { name, secrets } => Some((name, secrets)),
            _ => None,
        })
    }

    /// What makes up the challenges of users without keys.
    pub(super) fn scram_secret(&self) -> Option<&ScramSecret> {
        self.lines.iter().find_map(|line| match line {
            Line::ScramSecret(secret) => Some(secret),
            _ => None,
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            match line {
                Line::Text(line) => text.push_str(line),
                Line::ScramSecret(secret) => {
                    text.push_str(SECRET_PREFIX);
                    text.push_str(&secret.to_text());
                }
                Line::User { name, secrets: Secrets { hash, scram } } => {
                    text.push_str(name);
                    text.push(':');
                    text.push_str(hash);
                    if let Some(scram) = scram {
                        text.push(':');
                        text.push_str(&scram.to_string());
                    }
                }
            }
            text.push('\n');
        }
        text
    }

    /// Puts the list in the place of the file at `path`; the lock is held.
    fn replace(&self, path: &Path) -> io::Result<()> {
        let directory = directory_of(path);
        let temporary = with_suffix(path, ".new");
        // What a crash left behind may be a link or have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private_file(&temporary)?;
        // Root adds users for a broker that runs as somebody else, who must be able to read them.
        let owner = fs::metadata(path).or_else(|_| fs::metadata(directory))?;
        let own = file.metadata()?;
        if (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
            let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
        }
        file.write_all(self.to_text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    }
}

/// One line: kept as it is, or understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// Empty or a comment.
    Text(String),
    ScramSecret(ScramSecret),
    User {
        name: String,
        secrets: Secrets,
    },
}

/// What is kept of a user's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Secrets {
    /// An argon2id PHC string.
    pub(super) hash: String,
    pub(super) scram: Option<ScramKeys>,
}

impl Line {
    fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return Ok(Self::Text(text.into()));
        }
        if let Some(secret) = trimmed.strip_prefix(SECRET_PREFIX) {
            let secret = ScramSecret::parse(secret);
            return secret.map(Self::ScramSecret).ok_or_else(|| {
                format!("expected 32 bytes in base64 behind `{SECRET_PREFIX}`, found others")
            });
        }
        // The text is not quoted: it may be a password somebody put there.
        let Some((name, hash)) = trimmed.split_once(':') else {
            return Err("expected `name:hash`, found no colon".into());
        };
        if !is_user_name(name) {
            return Err(format!(
                "expected a user name of A-Z a-z 0-9 . _ -, 1 to {USER_NAME_BYTES_MAX} bytes, \
                 found {name:?}"
            ));
        }
        let (hash, scram) =
            hash.split_once(':').map_or((hash, None), |(hash, it)| (hash, Some(it)));
        let failed = |cause| format!("user `{name}`: {cause}");
        check_hash(hash).map_err(failed)?;
        let scram = scram.map(ScramKeys::parse).transpose().map_err(failed)?;
        Ok(Self::User { name: name.into(), secrets: Secrets { hash: hash.into(), scram } })
    }
}

/// Whether a login can verify `hash`, and at a cost that a line of a file may cause.
fn check_hash(hash: &str) -> Result<(), String> {
    // What it shows of the line may be anything, a carriage return too.
    let found = |cause: &dyn std::fmt::Display| {
        let cause = cause.to_string().replace(char::is_control, "\u{fffd}");
        format!("expected an argon2id hash that begins with `$argon2id$v=19$`, found {cause}")
    };
    let hash = PasswordHash::new(hash).map_err(|error| found(&error))?;
    if hash.algorithm != Algorithm::Argon2id.ident() {
        return Err(found(&hash.algorithm));
    }
    // Before argon2 looks at it, which multiplies what it finds.
    if let Some(lanes) = hash.params.get_decimal("p").filter(|lanes| *lanes > LANES_MAX) {
        return Err(format!("expected at most p={LANES_MAX}, found p={lanes}"));
    }
    let params = Params::try_from(&hash).map_err(|error| found(&error))?;
    if hash.version != Some(Version::V0x13.into()) || hash.salt.is_none() || hash.hash.is_none() {
        return Err(found(&"one without version 19, salt or hash"));
    }
    if params.m_cost() > 1 << 18 || params.t_cost() > 16 {
        return Err(format!(
            "expected at most m=262144 and t=16, found m={} and t={}",
            params.m_cost(),
            params.t_cost()
        ));
    }
    Ok(())
}

/// Threads that a hash may ask for.
const LANES_MAX: u32 = 8;

/// Hashes `password` with a fresh salt.
fn hash_password(password: &[u8]) -> Result<String, UsersError> {
    let salt = SaltString::generate(&mut OsRng);
    hasher()
        .hash_password(password, &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| UsersError::Hash { cause: error.to_string() })
}

fn scram_keys(password: &[u8]) -> Result<ScramKeys, UsersError> {
    ScramKeys::derive(password, scram::new_salt(), scram::ITERATIONS)
        .ok_or(UsersError::ScramPassword)
}

/// argon2id with m=19456 KiB, t=2, p=1: what OWASP asks for, about 20 ms and 19 MiB a login.
fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

/// Opens a file for writing that only its owner may read.
fn private_file(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Why the users cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file is there and cannot be read.
    #[error("{}: cannot read the users file: {source}; {}", .path.display(), mend(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{}: cannot write the users file: {source}; {}", .path.display(), mend(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than any list of users.
    #[error("{}: expected at most {FILE_BYTES_MAX} bytes; is it a users file?", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line is not understood.
    #[error(
        "{}:{line}: {cause}; delete the line, or put a # before it, and run `tidings user add`",
        .path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What was expected and what was found.
        cause: String,
    },
    /// Not a user name.
    #[error(
        "expected a user name of A-Z a-z 0-9 . _ -, 1 to {USER_NAME_BYTES_MAX} bytes, found {name:?}"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// An empty password, which most Clients could not tell from none.
    #[error("expected a password, found none")]
    EmptyPassword,
    /// A password that SCRAM cannot carry.
    #[error(
        "expected a password of UTF-8 text without control characters, as SCRAM needs it, found \
         another; choose such a one, or a user without SCRAM"
    )]
    ScramPassword,
    /// The user is there already.
    #[error("user `{name}` exists; `tidings user add --replace {name}` gives it a new password")]
    Exists {
        /// The user.
        name: String,
    },
    /// The user is not there.
    #[error("there is no user `{name}`; `tidings user list` shows who there is")]
    Unknown {
        /// The user.
        name: String,
    },
    /// The password cannot be hashed.
    #[error("cannot hash the password: {cause}")]
    Hash {
        /// What the hasher says.
        cause: String,
    },
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "it must belong to the user that runs tidings",
        io::ErrorKind::InvalidData => "it must be UTF-8 text",
        io::ErrorKind::StorageFull => "free some space",
        _ => "check the path and the disk",
    }
}

/// Begins the line of the secret; no user name begins like that.
const SECRET_PREFIX: &str = "!scram-secret:";
const SECRET_SAYS: &str = "# Keeps SCRAM from telling which users there are; leave it as it is.";

const HEADER: [&str; 2] = [
    "# The users of this Tidings broker, one per line: name:argon2id-hash[:keys for SCRAM]",
    "# Changed by `tidings user add` and `tidings user remove`; a running broker sees it.",
];

/// About 100,000 users.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = crate::auth::verifier::DUMMY_HASH;

    fn parse(text: &str) -> Result<UserList, UsersError> {
        UserList::parse(text, Path::new("users"))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn comments_and_order_survive_add_and_remove() {
        let mut list = parse(&format!("# staff\nbob:{HASH}\n\n# guests\nann:{HASH}\n")).unwrap();
        assert_eq!(list.names().collect::<Vec<_>>(), ["bob", "ann"]);
        list.remove("bob").unwrap();
        assert!(!list.add("zoe", b"pw", false).unwrap());
        assert!(list.add("ann", b"pw", true).unwrap());
        let text = list.to_text();
        assert!(text.starts_with("# staff\n\n# guests\nann:$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(parse(&text).unwrap(), list);
    }

    #[test]
    fn bad_line_is_an_error_that_names_file_line_cause_and_mend() {
        let argon2i = HASH.replace("argon2id", "argon2i");
        let costly = HASH.replace("m=19456", "m=4194304");
        for (line, cause) in [
            ("bob".to_owned(), "no colon"),
            (format!("b b:{HASH}"), "found \"b b\""),
            (format!(":{HASH}"), "found \"\""),
            ("bob:hunter2".to_owned(), "expected an argon2id hash"),
            (format!("bob:{argon2i}"), "found argon2i"),
            (format!("bob:{costly}"), "found m=4194304"),
            (format!("ann:{HASH}"), "in line 2 already"),
        ] {
            let error = parse(&format!("# c\nann:{HASH}\n{line}\n")).unwrap_err().to_string();
            assert!(error.starts_with("users:3: ") && error.contains(cause), "{error}");
            assert!(error.contains("tidings user add"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn names_and_passwords_that_cannot_be_are_refused() {
        let mut list = UserList::default();
        assert!(matches!(list.add("a b", b"pw", false), Err(UsersError::Name { .. })));
        assert!(matches!(list.add("bob", b"", false), Err(UsersError::EmptyPassword)));
        assert!(matches!(list.remove("bob"), Err(UsersError::Unknown { .. })));
        list.add("bob", b"pw", false).unwrap();
        assert!(matches!(list.add("bob", b"pw", false), Err(UsersError::Exists { .. })));
    }

    #[test]
    fn keys_for_scram_are_made_when_asked_for_and_follow_the_password() {
        let mut list = UserList::default();
        list.add("ann", b"pw", false).unwrap();
        list.add("bob", b"pw", false).unwrap();
        assert!(!list.has_scram("bob") && list.scram_secret().is_none());
        list.enable_scram("bob", b"pw").unwrap();
        let secret = list.scram_secret().cloned();
        let first = list.to_text();
        assert_eq!(parse(&first).unwrap(), list);
        assert!(first.contains("\nann:$argon2id") && first.contains(":SCRAM-SHA-256$100000:"));
        list.add("bob", b"new", true).unwrap();
        assert!(list.has_scram("bob") && !list.has_scram("ann"));
        let (old, new) = (parse(&first).unwrap(), list.clone());
        let keys = |mut list: UserList| list.secrets("bob").unwrap().scram.clone();
        assert_ne!(keys(old), keys(new), "not those of the old password");
        list.enable_scram("ann", b"pw").unwrap();
        assert_eq!(list.scram_secret().cloned(), secret, "made once");
        assert!(matches!(list.enable_scram("eve", b"pw"), Err(UsersError::Unknown { .. })));
        let before = list.clone();
        assert!(matches!(list.enable_scram("ann", b"a\0"), Err(UsersError::ScramPassword)));
        assert!(matches!(list.add("ann", b"a\0", true), Err(UsersError::ScramPassword)));
        assert_eq!(list, before);
    }

    #[test]
    fn damaged_keys_for_scram_are_an_error() {
        for (line, cause) in [
            (format!("bob:{HASH}:hunter2"), "user `bob`: expected `SCRAM-SHA-256$"),
            ("!scram-secret:hunter2".to_owned(), "expected 32 bytes in base64"),
        ] {
            let error = parse(&line).unwrap_err().to_string();
            assert!(error.contains(cause) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn edit_writes_a_private_file_and_leaves_no_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data").join("users");
        UserList::edit(&path, |list| list.add("bob", b"pw", false)).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(!with_suffix(&path, ".new").exists());
        assert_eq!(UserList::read(&path).unwrap().names().collect::<Vec<_>>(), ["bob"]);
    }

    #[test]
    fn edit_replaces_the_file_whole_and_an_open_reader_keeps_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        fs::write(&path, format!("bob:{HASH}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(with_suffix(&path, ".new"), "left by a crash, longer than what comes").unwrap();
        let mut old = File::open(&path).unwrap();
        UserList::edit(&path, |list| list.remove("bob")).unwrap();
        let mut text = String::new();
        old.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("bob:{HASH}\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn failed_edit_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        fs::write(&path, "bob:nonsense\n").unwrap();
        UserList::edit(&path, |list| list.add("ann", b"pw", false)).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "bob:nonsense\n");
    }

    #[test]
    fn edits_at_once_lose_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = &directory.path().join("users");
        std::thread::scope(|scope| {
            for i in 0..8 {
                scope.spawn(move || {
                    UserList::edit(path, |list| list.add(&format!("user{i}"), b"pw", false))
                });
            }
        });
        assert_eq!(UserList::read(path).unwrap().names().count(), 8);
    }

    #[test]
    fn edit_through_a_link_keeps_the_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("real"), directory.path().join("users"));
        fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        UserList::edit(&link, |list| list.add("bob", b"pw", false)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(UserList::read(&path).unwrap().names().count(), 1);
    }

    #[test]
    fn new_hash_has_the_parameters_of_the_dummy() {
        let fresh = hash_password(b"pw").unwrap();
        let (fresh, dummy) = (PasswordHash::new(&fresh).unwrap(), PasswordHash::new(HASH).unwrap());
        assert_eq!(fresh.params, dummy.params);
        assert_eq!(Params::try_from(&fresh).unwrap().m_cost(), 19_456);
        assert_eq!(fresh.hash.unwrap().len(), dummy.hash.unwrap().len());
    }
}

//! Tokens of logins: what a browser keeps in place of a password.
//!
//! A token names its user and when it was given and ends, and is signed with a secret of the data
//! folder; nothing is kept of it, so it holds over restarts. It also holds only as long as the login it
//! was given for: the signature covers what the users file has of the user, so that a changed password
//! or a removed user ends it, and a user who came in where nobody had to prove anything is out as soon
//! as there are users. To log somebody out is to take no token that was given before.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::hmac::{HMAC_SHA256, Key, sign, verify};
use tidings_broker::auth::{Authenticate, Credentials, Decision, Refusal, UsersFile, is_user_name};
use tokio::time::{Instant, sleep_until};

/// What the secret is called, beside the store.
const SECRET: &str = "token-secret";

/// What the file of those who were logged out is called.
const LOGOUTS: &str = "token-logouts";

/// See the file's own words.
pub(crate) struct LoginTokens {
    key: Key,
    users: Arc<UsersFile>,
    /// Nobody needs to prove anything as long as there are no users.
    open_until_users: bool,
    /// Before when tokens of a user are not taken, in milliseconds since 1970.
    logouts: Mutex<BTreeMap<String, u64>>,
    /// Where that is kept; none: nothing is.
    file: Option<PathBuf>,
}

impl fmt::Debug for LoginTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginTokens").finish_non_exhaustive()
    }
}

/// A token that was given.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) token: String,
    /// When it ends.
    pub(crate) expires: SystemTime,
}

impl LoginTokens {
    /// With the secret of a data folder, which is made at the first start; none: with one that is
    /// forgotten with the process.
    ///
    /// # Errors
    /// A file cannot be read or made, or is not what it should be.
    pub(crate) fn open(
        data: Option<&Path>,
        users: Arc<UsersFile>,
        open_until_users: bool,
    ) -> io::Result<Self> {
        let secret = match data {
            Some(data) => read_or_make(&data.join(SECRET))?,
            None => random()?,
        };
        let file = data.map(|data| data.join(LOGOUTS));
        let logouts = file.as_deref().map_or_else(|| Ok(BTreeMap::new()), read_logouts)?;
        let key = Key::new(HMAC_SHA256, &secret);
        Ok(Self { key, users, open_until_users, logouts: Mutex::new(logouts), file })
    }

    /// A token for a user whose login was right, at most until `latest`.
    pub(crate) fn give(&self, user: &str, now: SystemTime, latest: Option<SystemTime>) -> Given {
        let end = now + LIFETIME;
        let expires = latest.map_or(end, |latest| latest.min(end));
        let (given, ends) = (millis(now), millis(expires));
        let mac = sign(&self.key, &self.signed(user, given, ends));
        let mac = Base64UrlUnpadded::encode_string(mac.as_ref());
        Given { token: format!("{PREFIX}{given}.{ends}.{mac}.{user}"), expires }
    }

    /// Whose token this is, and when it ends.
    pub(crate) fn user_of(&self, token: &[u8], now: SystemTime) -> Option<(String, SystemTime)> {
        let text = std::str::from_utf8(token).ok()?.strip_prefix(PREFIX)?;
        let mut parts = text.splitn(4, '.');
        let (given, ends, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let user = parts.next().filter(|user| is_user_name(user))?;
        let (given, ends): (u64, u64) = (given.parse().ok()?, ends.parse().ok()?);
        let mac = Base64UrlUnpadded::decode_vec(mac).ok()?;
        verify(&self.key, &self.signed(user, given, ends), &mac).ok()?;
        let is_out = self.logouts().get(user).is_some_and(|out| given <= *out);
        let expires = SystemTime::UNIX_EPOCH + Duration::from_millis(ends);
        (!is_out && expires > now).then(|| (user.to_owned(), expires))
    }

    /// Takes no token of the user any more that was given up to now.
    ///
    /// # Errors
    /// It cannot be kept: it holds until the next start.
    pub(crate) fn log_out(&self, user: &str, now: SystemTime) -> io::Result<()> {
        let mut logouts = self.logouts();
        logouts.insert(user.to_owned(), millis(now));
        // Whatever was given before has ended by itself.
        let oldest = millis(now).saturating_sub(millis(SystemTime::UNIX_EPOCH + LIFETIME));
        logouts.retain(|_, out| *out >= oldest);
        let Some(file) = &self.file else { return Ok(()) };
        let lines: String = logouts.iter().map(|(user, out)| format!("{user} {out}\n")).collect();
        let new = file.with_extension("new");
        let mut writer = made(&new, OpenOptions::new().write(true).create(true).truncate(true))?;
        writer.write_all(lines.as_bytes())?;
        writer.sync_all()?;
        fs::rename(&new, file)
    }

    /// What the signature of a token covers.
    fn signed(&self, user: &str, given: u64, ends: u64) -> Vec<u8> {
        let login = match self.users.mark(user) {
            Some(mark) => Base64UrlUnpadded::encode_string(&mark),
            None if self.open_until_users && self.users.never_held_a_user() => "open".into(),
            None => "other".into(),
        };
        format!("login {given} {ends} {login} {user}").into_bytes()
    }

    fn logouts(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.logouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The other ways to log in, with tokens in front: what looks like one is decided here alone.
#[derive(Debug)]
pub(crate) struct WithTokens {
    pub(crate) tokens: Arc<LoginTokens>,
    pub(crate) others: Arc<dyn Authenticate>,
    /// The least time from a token that is refused to its answer.
    pub(crate) failure_delay: Duration,
}

impl Authenticate for WithTokens {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        let password = credentials.password.as_deref().unwrap_or_default();
        if !password.starts_with(PREFIX.as_bytes()) {
            return self.others.authenticate(credentials);
        }
        let begin = Instant::now();
        let found = self.tokens.user_of(password, SystemTime::now());
        let name = credentials.user_name.unwrap_or_default();
        Box::pin(async move {
            match found.filter(|(user, _)| name.is_empty() || *user == name) {
                Some((user, expires)) => Decision::Accept { user, expires: Some(expires) },
                None => {
                    sleep_until(begin + self.failure_delay).await;
                    Decision::Refuse(Refusal::BadUserNameOrPassword)
                }
            }
        })
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn made(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let failed = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
    };
    options.mode(0o600).open(path).map_err(failed)
}

fn read_or_make(path: &Path) -> io::Result<[u8; 32]> {
    match File::open(path) {
        Ok(mut file) => {
            let mut secret = [0; 32];
            let mut more = [0];
            let is_whole =
                file.read_exact(&mut secret).is_ok() && matches!(file.read(&mut more), Ok(0));
            let text =
                format!("{}: expected 32 bytes; remove it to end all logins", path.display());
            is_whole
                .then_some(secret)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = random()?;
            // In its place only once it is whole.
            let new = path.with_extension("new");
            let mut file = made(&new, OpenOptions::new().write(true).create(true).truncate(true))?;
            file.write_all(&secret)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            Ok(secret)
        }
        Err(error) => {
            let text = format!("cannot read {}: {error}", path.display());
            Err(io::Error::new(error.kind(), text))
        }
    }
}

fn read_logouts(path: &Path) -> io::Result<BTreeMap<String, u64>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => {
            let text = format!("cannot read {}: {error}", path.display());
            return Err(io::Error::new(error.kind(), text));
        }
    };
    let line = |line: &str| {
        let (user, out) = line.split_once(' ')?;
        Some((user.to_owned(), out.parse().ok()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// With what every token begins, which no other kind of password does.
const PREFIX: &str = "tidings1.";

const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tidings_broker::auth::{LoginLimits, UserList};

    use super::*;

    fn users(dir: &Path) -> Arc<UsersFile> {
        Arc::new(UsersFile::open(dir.join("users"), LoginLimits::OFF).unwrap())
    }

    fn add(dir: &Path, name: &str, password: &str) {
        let added =
            UserList::edit(&dir.join("users"), |list| list.add(name, password.as_bytes(), true));
        added.unwrap();
    }

    fn open(dir: &Path) -> LoginTokens {
        LoginTokens::open(Some(dir), users(dir), true).unwrap()
    }

    #[test]
    fn token_holds_over_restarts_until_it_ends_and_is_no_other_users() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let given = open(dir.path()).give("a.b", now, None);
        let tokens = open(dir.path());
        let whose = |token: &str, now| tokens.user_of(token.as_bytes(), now).map(|it| it.0);
        assert_eq!(whose(&given.token, now).as_deref(), Some("a.b"));
        assert_eq!(whose(&given.token, now + LIFETIME + Duration::from_secs(1)), None);
        for (from, to) in [("a.b", "a.c"), ("tidings1.", "tidings1.9"), (".a.b", ".a.b.c")] {
            assert_eq!(whose(&given.token.replacen(from, to, 1), now), None, "{to}");
        }
        for wrong in ["", "tidings1.", "tidings1.1.2.3.4", "tidings1....", "x"] {
            assert_eq!(whose(wrong, now), None);
        }
        let short = tokens.give("a", now, Some(now + Duration::from_secs(5)));
        assert_eq!(whose(&short.token, now + Duration::from_secs(6)), None);
        let mode = fs::metadata(dir.path().join(SECRET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = LoginTokens::open(None, users(dir.path()), true).unwrap();
        assert_eq!(other.user_of(given.token.as_bytes(), now), None);
        fs::write(dir.path().join(SECRET), [b'x'; 31]).unwrap();
        assert!(LoginTokens::open(Some(dir.path()), users(dir.path()), true).is_err());
    }

    #[test]
    fn token_ends_with_the_login_it_was_given_for() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let open_token = open(dir.path()).give("bob", now, None).token;
        add(dir.path(), "alice", "one");
        let tokens = open(dir.path());
        assert_eq!(tokens.user_of(open_token.as_bytes(), now), None, "nobody proved to be bob");
        let token = tokens.give("alice", now, None).token;
        assert!(tokens.user_of(token.as_bytes(), now).is_some());
        add(dir.path(), "alice", "two");
        tokens.users.look();
        assert_eq!(tokens.user_of(token.as_bytes(), now), None);
        // Of one that another way to log in knows.
        let other = tokens.give("carol", now, None).token;
        assert!(tokens.user_of(other.as_bytes(), now).is_some());
    }

    #[test]
    fn who_is_logged_out_stays_so_over_a_restart_and_may_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let tokens = open(dir.path());
        let (before, other) = (tokens.give("bob", now, None), tokens.give("eve", now, None));
        tokens.log_out("bob", now + Duration::from_millis(5)).unwrap();
        let after = tokens.give("bob", now + Duration::from_millis(6), None);
        for tokens in [tokens, open(dir.path())] {
            let holds = |given: &Given| tokens.user_of(given.token.as_bytes(), now).is_some();
            assert_eq!([holds(&before), holds(&after), holds(&other)], [false, true, true]);
        }
        let tokens = open(dir.path());
        tokens.log_out("eve", now + LIFETIME + Duration::from_secs(9)).unwrap();
        assert_eq!(tokens.logouts().len(), 1, "bob's has nothing left to end");
    }
}

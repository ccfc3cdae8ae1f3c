//! Logins by JSON Web Token (RFC 7519): the password is a signed statement of who somebody is.
//!
//! The keys are read again when their file changes, and a file that is wrong changes nothing. The
//! connection ends when the token does. Which algorithm is taken is decided by the list in
//! [`TokenOptions`] and by the key, never by the token.

mod check;
mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until, timeout};

use super::stamp::{Stamp, stamp};
use super::{Authenticate, Credentials, Decision, Refusal};
use check::{BadToken, check};
use keys::Key;
pub use keys::TokenAlgorithm;

/// Which tokens are taken.
#[derive(Debug, Clone)]
pub struct TokenOptions {
    /// The file with a JWK Set or PEM public keys.
    pub keys: Option<PathBuf>,
    /// The file with the secret of HS256; without it no token signed so is taken.
    pub secret: Option<PathBuf>,
    /// Which algorithms are accepted. Default: EdDSA, ES256, RS256.
    pub algorithms: Vec<TokenAlgorithm>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be or contain.
    pub audience: Option<String>,
    /// The claim that names the user. Default: `sub`.
    pub user_claim: String,
    /// By how much clocks may differ. Default: 60 s.
    pub leeway: Duration,
    /// The least time from a token that is refused to its answer. Default: 1 s.
    pub failure_delay: Duration,
}

impl Default for TokenOptions {
    fn default() -> Self {
        use TokenAlgorithm::{EdDsa, Es256, Rs256};
        Self {
            keys: None,
            secret: None,
            algorithms: vec![EdDsa, Es256, Rs256],
            issuer: None,
            audience: None,
            user_claim: "sub".into(),
            leeway: Duration::from_secs(60),
            failure_delay: Duration::from_secs(1),
        }
    }
}

/// Lets in who has a token, as its user. See the module.
pub struct Tokens {
    options: TokenOptions,
    keys: Arc<Mutex<Keys>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the keys. With a secret, HS256 is accepted as well.
    ///
    /// # Errors
    /// A file cannot be read or holds no key.
    pub fn open(mut options: TokenOptions) -> Result<Self, KeysError> {
        options.algorithms.retain(|it| *it != TokenAlgorithm::Hs256);
        if options.secret.is_some() {
            options.algorithms.push(TokenAlgorithm::Hs256);
        }
        let read = |path: &Option<PathBuf>, parse: Parse| {
            path.clone().map(|path| KeyFile::open(path, parse)).transpose()
        };
        let public = read(&options.keys, parse_public)?;
        let secret = read(&options.secret, parse_secret)?;
        let files = public.into_iter().chain(secret).collect();
        let keys = Keys { files, looked_at: Instant::now(), looking: false };
        Ok(Self { options, keys: Arc::new(Mutex::new(keys)) })
    }

    /// Whether a password is meant to be a token: three parts, the first of which is a JSON object.
    pub fn is_token(password: &[u8]) -> bool {
        password.starts_with(b"eyJ") && password.iter().filter(|byte| **byte == b'.').count() == 2
    }

    /// Decides at the time `now`. The user name may be left out, and else must be the token's.
    fn decide(&self, credentials: &Credentials, now: SystemTime) -> Result<Decision, BadToken> {
        let token = credentials.password.as_deref().unwrap_or_default();
        let keys = lock(&self.keys).all();
        let login = check(token, &keys, &self.options, now)?;
        let name = credentials.user_name.as_deref().unwrap_or_default();
        if !name.is_empty() && name != login.user {
            return Err(BadToken::OtherUser);
        }
        Ok(Decision::Accept { user: login.user, expires: Some(login.expires) })
    }

    /// Reads what changed, at most once a second, on a thread that may wait for the disk; the login that
    /// has it read waits a moment for it, the others not at all.
    async fn refresh(&self) {
        let now = Instant::now();
        {
            let mut keys = lock(&self.keys);
            if keys.looking || now.saturating_duration_since(keys.looked_at) < LOOK_EVERY {
                return;
            }
            (keys.looked_at, keys.looking) = (now, true);
        }
        let keys = Looking(Arc::clone(&self.keys));
        // A panic in there would be ours, and leaves the keys as they were.
        let _ = timeout(LOOK_MAX, tokio::task::spawn_blocking(move || look(&keys.0))).await;
    }
}

impl Authenticate for Tokens {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        Box::pin(async move {
            let begin = Instant::now();
            self.refresh().await;
            match self.decide(&credentials, SystemTime::now()) {
                Ok(decision) => decision,
                Err(cause) => {
                    tracing::debug!(client_id = credentials.client_id, "token refused: {cause}");
                    sleep_until(begin + self.options.failure_delay).await;
                    Decision::Refuse(Refusal::BadUserNameOrPassword)
                }
            }
        })
    }
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file cannot be read.
    #[error("{}: cannot read the keys of tokens: {source}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not understood.
    #[error("{}: {cause}", .path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

/// Reads the files that changed. Nobody waits for the disk who only wants the keys there are.
fn look(keys: &Mutex<Keys>) {
    let files: Vec<_> =
        lock(keys).files.iter().map(|file| (file.path.clone(), file.parse, file.seen)).collect();
    for (at, (path, parse, seen)) in files.into_iter().enumerate() {
        let now = fs::metadata(&path).ok().map(|metadata| stamp(&metadata));
        if now == seen {
            continue;
        }
        let again = read(&path, parse);
        let mut keys = lock(keys);
        let Some(file) = keys.files.get_mut(at) else { return };
        file.take(now, again);
    }
}

type Parse = fn(&[u8]) -> Result<Vec<Key>, String>;

/// All keys there are.
struct Keys {
    files: Vec<KeyFile>,
    looked_at: Instant,
    /// Somebody looks just now.
    looking: bool,
}

/// Somebody looks until this is dropped.
struct Looking(Arc<Mutex<Keys>>);

impl Drop for Looking {
    fn drop(&mut self) {
        lock(&self.0).looking = false;
    }
}

impl Keys {
    fn all(&self) -> Vec<Key> {
        self.files.iter().flat_map(|file| file.keys.iter().cloned()).collect()
    }
}

/// A file with keys, as it was read last.
struct KeyFile {
    path: PathBuf,
    parse: Parse,
    keys: Vec<Key>,
    seen: Option<Stamp>,
}

impl KeyFile {
    fn open(path: PathBuf, parse: Parse) -> Result<Self, KeysError> {
        let (keys, seen) = read(&path, parse)?;
        Ok(Self { path, parse, keys, seen })
    }

    /// What was `read` of the file when it was as `seen`.
    fn take(&mut self, seen: Option<Stamp>, read: Result<(Vec<Key>, Option<Stamp>), KeysError>) {
        self.seen = seen;
        match read {
            Ok((keys, seen)) => {
                let file = self.path.display();
                tracing::info!(%file, keys = keys.len(), "keys of tokens read again");
                (self.keys, self.seen) = (keys, seen);
            }
            Err(error) => tracing::error!("{error}; the keys before stay in force"),
        }
    }
}

fn read(path: &Path, parse: Parse) -> Result<(Vec<Key>, Option<Stamp>), KeysError> {
    let failed = |source| KeysError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    // Before the content: a change while it is read is then seen at the next look.
    let seen = stamp(&file.metadata().map_err(failed)?);
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let keys = parse(&bytes).map_err(|cause| KeysError::Content { path: path.into(), cause })?;
    Ok((keys, Some(seen)))
}

fn parse_public(bytes: &[u8]) -> Result<Vec<Key>, String> {
    keys::parse(std::str::from_utf8(bytes).map_err(|_| "expected text, found other bytes")?)
}

/// All of the file, without a line end.
fn parse_secret(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    Key::secret(bytes.strip_suffix(b"\r").unwrap_or(bytes)).map(|key| vec![key])
}

fn lock(keys: &Mutex<Keys>) -> MutexGuard<'_, Keys> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a login waits for keys that it has read again.
const LOOK_MAX: Duration = Duration::from_millis(250);

const FILE_BYTES_MAX: u64 = 256 * 1024;

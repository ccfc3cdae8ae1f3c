//! Logins against the users file.
//!
//! The file is looked at again on a login, at most once a second, and read when its time or length
//! changed. A file that cannot be read any more, or is gone, changes nothing: the users known
//! before stay, and the log says so. That a file is missing means "no users" only at the start.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::scram::{ScramKeys, ScramSecret};
use super::user_list::{Secrets, UserList, UsersError};
use super::verifier::{Job, Outcome, Verifier};
use super::{Authenticate, Credentials, Decision, Refusal, is_user_name};

/// What failed logins cost those who try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginLimits {
    /// How many may fail per minute and address, and per minute and user; 0 is without limit.
    /// Beyond it nothing is verified and the answer is [`Refusal::ServerBusy`].
    pub failures_per_minute: u32,
    /// The least time from a login that fails to its answer.
    pub failure_delay: Duration,
}

impl LoginLimits {
    /// No limits: for a broker that listens on loopback only.
    pub const OFF: Self = Self { failures_per_minute: 0, failure_delay: Duration::ZERO };
}

impl Default for LoginLimits {
    /// 10 failures a minute, each answered after 1 s.
    fn default() -> Self {
        Self { failures_per_minute: 10, failure_delay: Duration::from_secs(1) }
    }
}

/// What became of the logins so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoginCounts {
    /// Logins accepted.
    pub accepted: u64,
    /// Logins with a wrong password, an unknown user, or without either.
    pub wrong: u64,
    /// Logins refused because of failures before them.
    pub limited: u64,
    /// Logins refused because the queue was full.
    pub busy: u64,
    /// Hashes computed.
    pub hashes: u64,
}

/// Whose logins a change of the users file made untrue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// Nobody's.
    Nobody,
    /// Theirs: they were removed, or have another password.
    Users(Vec<String>),
    /// Everybody's: there were no users before, and so nobody had to prove anything.
    Everybody,
}

/// The users of a text file with a user per line; see [`UserList`] for changing it.
///
/// A clone is the same file, with the same limits and counts.
#[derive(Debug, Clone)]
pub struct UsersFile {
    state: Arc<Mutex<State>>,
    verifier: Arc<Verifier>,
    limits: LoginLimits,
    counters: Arc<Counters>,
}

impl UsersFile {
    /// Reads the file at `path`, which may be missing, and starts the threads that verify.
    ///
    /// # Errors
    /// The file cannot be read or understood, or the threads cannot be started.
    pub fn open(path: impl Into<PathBuf>, limits: LoginLimits) -> Result<Self, UsersError> {
        let path = path.into();
        let verifier = Verifier::start(limits.failures_per_minute)
            .map_err(|source| UsersError::Read { path: path.clone(), source })?;
        let mut state = State::new(path);
        state.read()?;
        state.told_of_users = state.held_users;
        let state = Arc::new(Mutex::new(state));
        Ok(Self { state, verifier: Arc::new(verifier), limits, counters: Arc::default() })
    }

    /// Whether no user was in the file, now or earlier, as far as this has looked.
    pub fn never_held_a_user(&self) -> bool {
        !self.state().held_users
    }

    /// How many users there are, as of the last look at the file.
    pub fn len(&self) -> usize {
        self.state().users.len()
    }

    /// Whether there is no user, as of the last look at the file.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the file again if it changed, and tells whose logins do not hold any more since this was
    /// last asked. Blocks for the time that takes. See [`crate::Broker::revoke`].
    pub fn look(&self) -> Revoked {
        State::look(&self.state);
        let mut state = self.state();
        let revoked = std::mem::take(&mut state.revoked);
        if state.held_users && !std::mem::replace(&mut state.told_of_users, true) {
            return Revoked::Everybody;
        }
        if revoked.is_empty() {
            Revoked::Nobody
        } else {
            Revoked::Users(revoked.into_iter().collect())
        }
    }

    /// Whether there is a user of this name, as of the last look at the file.
    pub fn holds(&self, name: &str) -> bool {
        self.state().users.contains_key(name)
    }

    /// What tells this login of a user from an earlier or a later one, as of the last look at the file:
    /// another password is another mark. None: there is no such user.
    pub fn mark(&self, name: &str) -> Option<[u8; 32]> {
        let state = self.state();
        let hash = digest(&SHA256, state.users.get(name)?.hash.as_bytes());
        hash.as_ref().try_into().ok()
    }

    /// What became of the logins so far.
    pub fn counts(&self) -> LoginCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LoginCounts {
            accepted: read(&self.counters.accepted),
            wrong: read(&self.counters.wrong),
            limited: read(&self.counters.limited),
            busy: read(&self.counters.busy),
            hashes: self.verifier.hashes(),
        }
    }

    /// Reads the file again if it is time to look and it changed. The shard's thread goes on.
    pub(super) async fn refresh(&self) {
        if !self.state().is_look_due(Instant::now()) {
            return;
        }
        let state = Arc::clone(&self.state);
        // A panic in there would be ours, and leaves the users as they were.
        let _ = tokio::task::spawn_blocking(move || State::look(&state)).await;
    }

    /// Verifies against the users as of the last look.
    pub(super) async fn verify(&self, credentials: Credentials) -> Decision {
        let now = Instant::now();
        let (counter, refusal) = match self.outcome(credentials, now).await {
            Ok((user, Outcome::Right)) => {
                self.counters.accepted.fetch_add(1, Ordering::Relaxed);
                return Decision::accept(user);
            }
            Ok((_, Outcome::Wrong)) => (&self.counters.wrong, Refusal::BadUserNameOrPassword),
            Ok((_, Outcome::Limited)) => (&self.counters.limited, Refusal::ServerBusy),
            Err(Busy) => {
                self.counters.busy.fetch_add(1, Ordering::Relaxed);
                return Decision::Refuse(Refusal::ServerBusy);
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        sleep_until(now + self.limits.failure_delay).await;
        Decision::Refuse(refusal)
    }

    /// The keys of `user` for SCRAM, if it has some, and what makes those of others.
    pub(super) fn scram(&self, user: &str) -> (Option<ScramKeys>, Option<ScramSecret>) {
        let state = self.state();
        let keys = state.users.get(user).and_then(|secrets| secrets.scram.clone());
        (keys, state.scram_secret.clone())
    }

    /// Whether a try would be [`Outcome::Limited`]; counted if it is.
    pub(super) fn is_limited(&self, user: &str, address: Option<IpAddr>, now: Instant) -> bool {
        let limited = self.verifier.limited(user, address, now);
        self.counters.limited.fetch_add(u64::from(limited), Ordering::Relaxed);
        limited
    }

    /// Counts a proof that was `right` or not; what becomes of it after those before.
    pub(super) fn proved(
        &self,
        user: &str,
        address: Option<IpAddr>,
        now: Instant,
        right: bool,
    ) -> Outcome {
        let outcome = self.verifier.decide(user, address, now, right);
        let counter = match outcome {
            Outcome::Right => &self.counters.accepted,
            Outcome::Wrong => &self.counters.wrong,
            Outcome::Limited => &self.counters.limited,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// The least time from a login that fails to its answer.
    pub(super) fn failure_delay(&self) -> Duration {
        self.limits.failure_delay
    }

    async fn outcome(
        &self,
        credentials: Credentials,
        now: Instant,
    ) -> Result<(String, Outcome), Busy> {
        let (Some(user), Some(password)) = (credentials.user_name, credentials.password) else {
            return Ok((String::new(), Outcome::Wrong));
        };
        // Such a name is no secret of ours, and must not fill the map of failures.
        if !is_user_name(&user) {
            return Ok((user, Outcome::Wrong));
        }
        let address = credentials.peer.map(|peer| peer.ip());
        if self.verifier.limited(&user, address, now) {
            return Ok((user, Outcome::Limited));
        }
        let hash = self.state().users.get(&user).map(|secrets| secrets.hash.clone());
        let (answer, outcome) = oneshot::channel();
        if !self.verifier.try_verify(Job {
            user: user.clone(),
            password,
            address,
            now,
            hash: hash.clone(),
            answer,
        }) {
            return Err(Busy);
        }
        let outcome = outcome.await.map_err(|_| Busy)?;
        // Who was removed while the hash was computed must not get in behind the word that it was.
        let still = hash.as_ref() == self.state().users.get(&user).map(|secrets| &secrets.hash);
        Ok((user, if still { outcome } else { Outcome::Wrong }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Authenticate for UsersFile {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        Box::pin(async move {
            self.refresh().await;
            self.verify(credentials).await
        })
    }
}

/// The queue is full, or nobody works it off.
struct Busy;

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    wrong: AtomicU64,
    limited: AtomicU64,
    busy: AtomicU64,
}

/// The users as last read.
#[derive(Debug)]
struct State {
    path: PathBuf,
    users: HashMap<String, Secrets>,
    scram_secret: Option<ScramSecret>,
    /// Stays true for good: see [`super::OpenUntilUsers`].
    held_users: bool,
    /// [`UsersFile::look`] knows of it.
    told_of_users: bool,
    /// Users removed, or with another password, since [`UsersFile::look`].
    revoked: BTreeSet<String>,
    /// What the file was when it was read, or could not be; `None` for a missing one.
    seen: Option<Stamp>,
    looked_at: Instant,
}

/// What tells one content of the file from another: inode, length and time. A rename in its place
/// changes the first, even where the clock of the file system is too coarse.
type Stamp = (u64, u64, Option<SystemTime>);

impl State {
    fn new(path: PathBuf) -> Self {
        let looked_at = Instant::now();
        Self {
            path,
            users: HashMap::new(),
            scram_secret: None,
            held_users: false,
            told_of_users: false,
            revoked: BTreeSet::new(),
            seen: None,
            looked_at,
        }
    }

    /// True once a second; the one who is told so has to look.
    fn is_look_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.looked_at) >= LOOK_EVERY;
        if due {
            self.looked_at = now;
        }
        due
    }

    /// Looks whether the file changed. The lock is not held while the file is read.
    fn look(state: &Mutex<Self>) {
        let (path, seen) = {
            let state = lock(state);
            (state.path.clone(), state.seen)
        };
        let stamp = fs::metadata(&path).ok().map(|metadata| stamp(&metadata));
        if stamp == seen {
            return;
        }
        let result = read(&path);
        let mut state = lock(state);
        match result {
            Ok((list, stamp)) if stamp.is_some() => {
                state.take(list, stamp);
                let users = state.users.len();
                tracing::info!(file = %path.display(), users, "users read again");
            }
            Ok(_) => {
                tracing::error!(file = %path.display(), "users file is gone; keeping its users");
                state.seen = None;
            }
            Err(error) => {
                tracing::error!(%error, "users file is not read again; keeping the users before");
                state.seen = stamp;
                // Somebody meant to put users there: open access must not go on.
                state.held_users = true;
            }
        }
    }

    fn read(&mut self) -> Result<(), UsersError> {
        let (list, stamp) = read(&self.path)?;
        self.take(list, stamp);
        Ok(())
    }

    fn take(&mut self, list: UserList, stamp: Option<Stamp>) {
        self.scram_secret = list.scram_secret().cloned();
        let users: HashMap<_, _> = list.into_users().collect();
        self.held_users |= !users.is_empty();
        let untrue = self.users.iter().filter(|(name, secrets)| users.get(*name) != Some(secrets));
        self.revoked.extend(untrue.map(|(name, _)| name.clone()));
        self.users = users;
        self.seen = stamp;
    }
}

/// Reads the file; without a stamp there is none.
fn read(path: &Path) -> Result<(UserList, Option<Stamp>), UsersError> {
    let failed = |source| UsersError::Read { path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((UserList::default(), None));
        }
        Err(error) => return Err(failed(error)),
    };
    // Before the content: a change while it is read is then seen at the next look.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            file = %path.display(),
            mode = %format_args!("{mode:04o}"),
            "users file is open to other users of this machine; run `chmod 600` on it"
        );
    }
    let list = UserList::read_from(&file, path)?;
    Ok((list, Some(stamp(&metadata))))
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (metadata.ino(), metadata.len(), metadata.modified().ok())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::OpenUntilUsers;
    use super::super::verifier::QUEUE_MAX;
    use super::*;

    const BUSY: Decision = Decision::Refuse(Refusal::ServerBusy);
    const WRONG: Decision = Decision::Refuse(Refusal::BadUserNameOrPassword);

    fn accepted(user: &str) -> Decision {
        Decision::accept(user)
    }

    fn login(user: &str, password: &[u8]) -> Credentials {
        Credentials {
            client_id: "phone".into(),
            user_name: Some(user.into()),
            password: Some(password.to_vec()),
            peer: Some("127.0.0.1:9".parse().unwrap()),
            certificate: None,
        }
    }

    /// A directory, and in it the path of a users file with these users.
    fn users_file(users: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        for (name, password) in users {
            add(&path, name, password);
        }
        (directory, path)
    }

    fn add(path: &Path, name: &str, password: &[u8]) {
        UserList::edit(path, |list| list.add(name, password, false)).unwrap();
    }

    fn remove(path: &Path, name: &str) {
        UserList::edit(path, |list| list.remove(name)).unwrap();
    }

    async fn next_look() {
        tokio::time::advance(LOOK_EVERY).await;
    }

    #[tokio::test(start_paused = true)]
    async fn right_password_is_accepted_at_once_and_a_wrong_one_refused_after_a_second() {
        let (_directory, path) = users_file(&[("bob", b"pw")]);
        let users = UsersFile::open(&path, LoginLimits::default()).unwrap();
        let start = Instant::now();
        assert_eq!(users.authenticate(login("bob", b"pw")).await, accepted("bob"));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(users.authenticate(login("bob", b"PW")).await, WRONG);
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert_eq!((users.counts().accepted, users.counts().wrong), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn password_is_compared_whole_with_its_nul_bytes() {
        let (_directory, path) = users_file(&[("bob", b"a\0b")]);
        let users = UsersFile::open(&path, LoginLimits::OFF).unwrap();
        assert_eq!(users.authenticate(login("bob", b"a\0b")).await, accepted("bob"));
        for wrong in [&b"a"[..], b"a\0", b"a\0c", b"a\0b\0", b""] {
            assert_eq!(users.authenticate(login("bob", wrong)).await, WRONG, "{wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_user_costs_a_hash_too_and_hears_the_same() {
        let (_directory, path) = users_file(&[("bob", b"pw")]);
        let users = UsersFile::open(&path, LoginLimits::default()).unwrap();
        for name in ["bob", "nobody"] {
            let before = users.counts().hashes;
            assert_eq!(users.authenticate(login(name, b"guess")).await, WRONG);
            assert_eq!(users.counts().hashes, before + 1, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn missing_or_impossible_credentials_are_refused_without_a_hash() {
        let (_directory, path) = users_file(&[("bob", b"pw")]);
        let users = UsersFile::open(&path, LoginLimits::default()).unwrap();
        let anonymous = Credentials { user_name: None, ..login("bob", b"pw") };
        let bare = Credentials { password: None, ..login("bob", b"pw") };
        for credentials in [anonymous, bare, login("b/b", b"pw"), login("", b"pw")] {
            assert_eq!(users.authenticate(credentials).await, WRONG);
        }
        assert_eq!(users.counts().hashes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn burst_of_guesses_is_hashed_ten_times_and_then_held_up_for_a_minute() {
        let (_directory, path) = users_file(&[("bob", b"pw")]);
        let users = Arc::new(UsersFile::open(&path, LoginLimits::default()).unwrap());
        let tries: Vec<_> = (0..30)
            .map(|i| {
                let users = Arc::clone(&users);
                tokio::spawn(async move {
                    users.authenticate(login("bob", format!("guess{i}").as_bytes())).await
                })
            })
            .collect();
        for attempt in tries {
            assert_ne!(attempt.await.unwrap(), accepted("bob"));
        }
        // Two threads may both have looked before the tenth failure was counted.
        let hashes = users.counts().hashes;
        assert!((10..=11).contains(&hashes), "{hashes}");
        assert_eq!(users.authenticate(login("bob", b"pw")).await, BUSY);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(users.authenticate(login("bob", b"pw")).await, accepted("bob"));
    }

    #[tokio::test(start_paused = true)]
    async fn full_queue_answers_busy_and_loses_no_waiting_login() {
        let (_directory, path) = users_file(&[("bob", b"pw")]);
        let users = Arc::new(UsersFile::open(&path, LoginLimits::default()).unwrap());
        let total = QUEUE_MAX * 2;
        let tries: Vec<_> = (0..total)
            .map(|_| {
                let users = Arc::clone(&users);
                tokio::spawn(async move { users.authenticate(login("bob", b"pw")).await })
            })
            .collect();
        let mut busy = 0;
        for attempt in tries {
            match attempt.await.unwrap() {
                BUSY => busy += 1,
                decision => assert_eq!(decision, accepted("bob")),
            }
        }
        assert!(busy > 0 && busy <= total - QUEUE_MAX, "{busy}");
        assert_eq!(users.counts().busy, busy as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn changed_file_counts_within_a_second() {
        let (_directory, path) = users_file(&[("bob", b"pw")]);
        let users = UsersFile::open(&path, LoginLimits::OFF).unwrap();
        add(&path, "ann", b"pw");
        assert_eq!(users.authenticate(login("ann", b"pw")).await, WRONG, "looked at too early");
        next_look().await;
        assert_eq!(users.authenticate(login("ann", b"pw")).await, accepted("ann"));
        remove(&path, "bob");
        next_look().await;
        assert_eq!(users.authenticate(login("bob", b"pw")).await, WRONG);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_removed_while_the_hash_is_computed_does_not_get_in() {
        let (_directory, path) = users_file(&[("bob", b"pw")]);
        let users = UsersFile::open(&path, LoginLimits::OFF).unwrap();
        let mut login = users.authenticate(login("bob", b"pw"));
        std::future::poll_fn(|cx| {
            assert!(login.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        remove(&path, "bob");
        assert_eq!(users.look(), Revoked::Users(vec!["bob".into()]));
        assert_eq!(login.await, WRONG);
    }

    #[tokio::test(start_paused = true)]
    async fn damaged_or_missing_file_leaves_the_users_before() {
        let (_directory, path) = users_file(&[("bob", b"pw")]);
        let users = UsersFile::open(&path, LoginLimits::OFF).unwrap();
        fs::write(&path, "nonsense\n").unwrap();
        next_look().await;
        assert_eq!(users.authenticate(login("bob", b"pw")).await, accepted("bob"));
        fs::remove_file(&path).unwrap();
        next_look().await;
        assert_eq!(users.authenticate(login("bob", b"pw")).await, accepted("bob"));
        add(&path, "ann", b"pw");
        next_look().await;
        assert_eq!(users.authenticate(login("ann", b"pw")).await, accepted("ann"));
        assert_eq!(users.authenticate(login("bob", b"pw")).await, WRONG);
    }

    #[test]
    fn look_tells_whose_logins_do_not_hold_any_more() {
        let (_directory, path) = users_file(&[]);
        let users = UsersFile::open(&path, LoginLimits::OFF).unwrap();
        assert_eq!(users.look(), Revoked::Nobody);
        add(&path, "bob", b"pw");
        assert_eq!(users.look(), Revoked::Everybody);
        add(&path, "ann", b"pw");
        assert_eq!(users.look(), Revoked::Nobody);
        assert!(users.holds("ann") && !users.holds("eve"));
        UserList::edit(&path, |list| list.add("ann", b"other", true)).unwrap();
        remove(&path, "bob");
        assert_eq!(users.look(), Revoked::Users(vec!["ann".into(), "bob".into()]));
        assert_eq!(users.look(), Revoked::Nobody);
        let again = UsersFile::open(&path, LoginLimits::OFF).unwrap();
        assert_eq!(again.look(), Revoked::Nobody);
    }

    #[test]
    fn start_with_a_damaged_file_fails() {
        let (_directory, path) = users_file(&[]);
        fs::write(&path, "bob:hunter2\n").unwrap();
        let error = UsersFile::open(&path, LoginLimits::OFF).unwrap_err();
        assert!(matches!(error, UsersError::Line { line: 1, .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn open_access_ends_with_the_first_user_for_good() {
        let (_directory, path) = users_file(&[]);
        let open = OpenUntilUsers::new(UsersFile::open(&path, LoginLimits::OFF).unwrap());
        let bare = || Credentials { password: None, ..login("bob", b"") };
        assert_eq!(open.authenticate(bare()).await, accepted("bob"));
        add(&path, "bob", b"pw");
        next_look().await;
        assert_eq!(open.authenticate(bare()).await, WRONG);
        assert_eq!(open.authenticate(login("bob", b"pw")).await, accepted("bob"));
        remove(&path, "bob");
        next_look().await;
        assert_eq!(open.authenticate(bare()).await, WRONG);
        assert!(open.users().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn open_access_ends_with_a_damaged_file() {
        let (_directory, path) = users_file(&[]);
        let open = OpenUntilUsers::new(UsersFile::open(&path, LoginLimits::OFF).unwrap());
        fs::write(&path, "bob:hunter2\n").unwrap();
        next_look().await;
        assert_eq!(open.authenticate(login("bob", b"hunter2")).await, WRONG);
    }
}

//! SCRAM-SHA-256 (RFC 5802, RFC 7677) against the users file: the password never crosses the
//! network, and the Client learns that the server knows it too.
//!
//! The user is the one that SCRAM names. Every name gets a challenge, the same one each time but for
//! the nonce, so that nobody learns which users there are, or which of them have keys. What fails
//! counts against the same limits as a wrong password.

mod keys;
mod messages;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use argon2::password_hash::rand_core::{OsRng, RngCore};
use base64ct::{Base64, Encoding};
use tokio::time::{Instant, sleep_until};

pub(super) use keys::{ITERATIONS, ScramKeys};

use self::keys::{Key, hmac};
use self::messages::{Challenge, ClientFirst};
use super::users::UsersFile;
use super::verifier::Outcome;
use super::{EnhancedAuthenticate, Exchange, Introduction, Refusal, Step, is_user_name};

/// The Authentication Method `SCRAM-SHA-256`, for users that were given keys for it
/// ([`super::UserList::enable_scram`]).
///
/// A User Name in CONNECT is not needed; one that is not the user of SCRAM is refused. A Password is
/// not looked at. Failures are answered with 0x87, too many of them with 0x89.
#[derive(Debug)]
pub struct ScramSha256 {
    users: UsersFile,
    /// Makes challenges where the file has nothing to make them with.
    fallback: ScramSecret,
}

impl ScramSha256 {
    /// The name of the method.
    pub const METHOD: &'static str = "SCRAM-SHA-256";

    /// The method for the users of a file.
    ///
    /// # Panics
    /// The system has no random numbers.
    pub fn new(users: UsersFile) -> Self {
        Self { users, fallback: ScramSecret::random() }
    }

    /// The keys of `user`, if it has some, and keys that no password has for one that has none.
    fn keys(&self, user: &str) -> (Option<ScramKeys>, ScramKeys) {
        let (keys, secret) = self.users.scram(user);
        // Made in any case, or the time would tell.
        (keys, secret.as_ref().unwrap_or(&self.fallback).keys(user))
    }
}

impl EnhancedAuthenticate for ScramSha256 {
    fn offers(&self, method: &str) -> bool {
        method == Self::METHOD
    }

    fn begin(self: Arc<Self>, introduction: Introduction) -> Box<dyn Exchange> {
        let credentials = introduction.credentials;
        Box::new(ScramExchange {
            scram: self,
            user_name: credentials.user_name,
            address: credentials.peer.map(|peer| peer.ip()),
            challenged: None,
        })
    }
}

#[derive(Debug)]
struct ScramExchange {
    scram: Arc<ScramSha256>,
    /// What CONNECT says.
    user_name: Option<String>,
    address: Option<IpAddr>,
    challenged: Option<Challenged>,
}

#[derive(Debug)]
struct Challenged {
    user: String,
    challenge: Challenge,
    /// `None`: those that were made up.
    keys: Option<ScramKeys>,
}

impl ScramExchange {
    /// client-first-message.
    fn challenge(&mut self, data: &[u8], now: Instant) -> Result<Vec<u8>, Refusal> {
        let malformed = |cause| {
            tracing::debug!(cause = %cause, "SCRAM");
            Refusal::NotAuthorized
        };
        let first = ClientFirst::parse(data).map_err(malformed)?;
        // Such a name is no secret of ours, and must not fill the map of failures.
        if !is_user_name(first.user) {
            return Err(Refusal::NotAuthorized);
        }
        if self.user_name.as_deref().is_some_and(|name| name != first.user) {
            return Err(Refusal::NotAuthorized);
        }
        if self.scram.users.is_limited(first.user, self.address, now) {
            return Err(Refusal::ServerBusy);
        }
        let (keys, made_up) = self.scram.keys(first.user);
        let challenge = Challenge::new(&first, &nonce(), keys.as_ref().unwrap_or(&made_up));
        let data = challenge.message.clone().into_bytes();
        self.challenged = Some(Challenged { user: first.user.to_owned(), challenge, keys });
        Ok(data)
    }

    /// client-final-message.
    fn verify(&self, it: Challenged, data: &[u8], now: Instant) -> Result<Step, Refusal> {
        let verified = it.challenge.verify(data);
        // A Client may take its time: who was removed meanwhile, or has another password, was told
        // to whoever is connected, and does not get in behind that.
        let still = it.keys.is_some() && it.keys == self.scram.users.scram(&it.user).0;
        let right = verified.is_ok() && still;
        match (self.scram.users.proved(&it.user, self.address, now, right), verified) {
            (Outcome::Right, Ok(last)) => {
                Ok(Step::Accept { user: it.user, expires: None, data: last.into_bytes() })
            }
            (Outcome::Limited, _) => Err(Refusal::ServerBusy),
            (_, verified) => {
                tracing::debug!(user = it.user, cause = ?verified.err(), "SCRAM");
                Err(Refusal::NotAuthorized)
            }
        }
    }
}

impl Exchange for ScramExchange {
    fn step<'a>(&'a mut self, data: &'a [u8]) -> Pin<Box<dyn Future<Output = Step> + Send + 'a>> {
        Box::pin(async move {
            let now = Instant::now();
            self.scram.users.refresh().await;
            let step = if let Some(challenged) = self.challenged.take() {
                self.verify(challenged, data, now)
            } else if data.is_empty() {
                // The Client waits to be asked (RFC 4422, section 3): there is nothing to ask.
                return Step::Continue { data: Vec::new() };
            } else {
                self.challenge(data, now).map(|data| Step::Continue { data })
            };
            match step {
                Ok(step) => step,
                Err(refusal) => {
                    sleep_until(now + self.scram.users.failure_delay()).await;
                    Step::Refuse(refusal)
                }
            }
        })
    }
}

/// Makes up the challenges of users that have no keys, for ever the same for the same name.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ScramSecret(Key);

impl ScramSecret {
    pub(super) fn random() -> Self {
        let mut secret = Key::default();
        OsRng.fill_bytes(&mut secret);
        Self(secret)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Key::try_from(Base64::decode_vec(text).ok()?).ok().map(Self)
    }

    pub(super) fn to_text(&self) -> String {
        Base64::encode_string(&self.0)
    }

    fn keys(&self, user: &str) -> ScramKeys {
        let made_up = |what: &str| hmac(&self.0, &[what.as_bytes(), user.as_bytes()]);
        ScramKeys {
            iterations: ITERATIONS,
            salt: made_up("salt ").into_iter().take(SALT_BYTES).collect(),
            stored_key: made_up("stored "),
            server_key: made_up("server "),
        }
    }
}

impl std::fmt::Debug for ScramSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramSecret(hidden)")
    }
}

/// A salt for new keys.
pub(super) fn new_salt() -> Vec<u8> {
    let mut salt = vec![0; SALT_BYTES];
    OsRng.fill_bytes(&mut salt);
    salt
}

/// The server's half of the nonce: 144 bits.
fn nonce() -> String {
    let mut bytes = [0; 18];
    OsRng.fill_bytes(&mut bytes);
    Base64::encode_string(&bytes)
}

const SALT_BYTES: usize = 16;

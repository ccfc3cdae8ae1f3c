//! Authentication: who a connection speaks for (§3.1.3.5, §3.1.3.6, §4.12).
//!
//! The one role of a plugin that may be slow: a decision is a future. The Client Identifier is
//! handed over because some schemes bind it, but it proves nothing; the user of a session is what
//! [`Decision::Accept`] says, never what the CONNECT claims.

use std::fmt::{self, Debug};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::SystemTime;

use tidings_core::codec::ReasonCode;

mod certificate;
mod enhanced;
mod guard;
mod open;
mod order;
mod rate;
mod scram;
pub(crate) mod stamp;
mod temporary;
mod token;
mod user_list;
mod users;
mod verifier;
mod webhook;

pub use certificate::CertificateIsUser;
pub(crate) use enhanced::Methods;
pub use enhanced::{EnhancedAuthenticate, Exchange, Introduction, Step};
pub use open::{OpenOnLoopback, OpenUntilUsers};
pub use order::Logins;
pub use rate::network;
pub use scram::ScramSha256;
pub use temporary::TemporaryUsers;
pub use token::{KeysError, TokenAlgorithm, TokenOptions, Tokens};
pub use user_list::{UserList, UsersError};
pub use users::{LoginCounts, LoginLimits, Revoked, UsersFile};
pub use webhook::{BadUrl, Webhook, WebhookOptions};

/// What a CONNECT says about who sends it.
///
/// Its `Debug` leaves the password out, so that it may reach a log.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The Client Identifier, after the broker assigned one where it was empty (§3.1.3.1).
    pub client_id: String,
    /// The User Name (§3.1.3.5).
    pub user_name: Option<String>,
    /// The Password (§3.1.3.6): binary data of up to 65,535 bytes, NUL bytes included.
    pub password: Option<Vec<u8>>,
    /// The other end of the Network Connection; `None` where it has no address of its own.
    pub peer: Option<SocketAddr>,
    /// What the Client proved in the TLS handshake, where it did.
    pub certificate: Option<PeerCertificate>,
}

/// A client certificate that was verified: its chain leads to an authority that the listener trusts,
/// and the Client holds its key.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The Common Name of its subject, if it has one that is text.
    pub common_name: Option<String>,
    /// All of it, in DER.
    pub der: Vec<u8>,
}

impl Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("common_name", &self.common_name)
            .finish_non_exhaustive()
    }
}

impl Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .field("peer", &self.peer)
            .field("certificate", &self.certificate)
            .finish()
    }
}

/// The answer to [`Credentials`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// The connection speaks for `user`; empty for an anonymous one.
    Accept {
        /// The user that sessions, rights and chats belong to.
        user: String,
        /// When that is over, by the system's clock: the connection is ended then, with 0x87.
        expires: Option<SystemTime>,
    },
    /// The connection is answered with a Reason Code and closed [MQTT-3.2.2-7].
    Refuse(Refusal),
}

impl Decision {
    /// The connection speaks for `user`, for as long as it is there.
    pub fn accept(user: impl Into<String>) -> Self {
        Self::Accept { user: user.into(), expires: None }
    }
}

/// Why a connection is refused. The caller makes the Reason Code of it (§3.2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 0x86: the user is unknown or the password is wrong; which of them is not told.
    BadUserNameOrPassword,
    /// 0x87: nobody may come in from there.
    NotAuthorized,
    /// 0x89: too much to verify just now, or too many failures just before; try later.
    ServerBusy,
    /// 0x88: whoever decides cannot be asked just now.
    ServerUnavailable,
}

impl Refusal {
    /// What CONNACK says.
    pub(crate) fn reason(self) -> ReasonCode {
        match self {
            Self::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
            Self::ServerBusy => ReasonCode::ServerBusy,
            Self::ServerUnavailable => ReasonCode::ServerUnavailable,
        }
    }

    /// What DISCONNECT says, which has not every Reason Code of CONNACK.
    pub(crate) fn goodbye(self) -> ReasonCode {
        match self {
            Self::BadUserNameOrPassword => ReasonCode::NotAuthorized,
            // DISCONNECT has no such code (§3.14.2.1).
            Self::ServerUnavailable => ReasonCode::ServerBusy,
            other => other.reason(),
        }
    }
}

/// Decides who a connection speaks for.
///
/// Asked once per Network Connection, before anything of the session is touched. The future may
/// take its time, but must not block the thread that polls it: it is a shard's.
///
/// # Cancel safety
/// The future may be dropped at any point, for the deadline of the opening is the caller's.
pub trait Authenticate: Debug + Send + Sync {
    /// Decides about `credentials`.
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>>;
}

/// A closure that decides: see [`crate::Builder::authenticate_with`].
pub(crate) struct Deciding<F>(pub(crate) F);

impl<F> Debug for Deciding<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deciding")
    }
}

impl<F, Answer> Authenticate for Deciding<F>
where
    F: Fn(Credentials) -> Answer + Send + Sync,
    Answer: Future<Output = Decision> + Send + 'static,
{
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        Box::pin((self.0)(credentials))
    }
}

/// Whether `name` may name a user: `[A-Za-z0-9._-]`, 1 to [`USER_NAME_BYTES_MAX`] bytes.
///
/// So a user name is always one topic level, without wildcards, and one field of a text file.
pub fn is_user_name(name: &str) -> bool {
    (1..=USER_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The longest user name, in bytes.
pub const USER_NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_log_hide_the_password() {
        let credentials = Credentials {
            client_id: "phone".into(),
            user_name: Some("bob".into()),
            password: Some(b"secret".to_vec()),
            ..Credentials::default()
        };
        let text = format!("{credentials:?}");
        assert!(text.contains("bob"), "{text}");
        assert!(!text.contains("secret") && !text.contains("115"), "{text}");
    }

    #[test]
    fn user_name_is_one_topic_level_of_at_most_64_bytes() {
        for good in ["a", "bob", "A.b_c-9", &"x".repeat(64)] {
            assert!(is_user_name(good), "{good}");
        }
        for bad in ["", "a b", "a:b", "a/b", "+", "#", "~room.1", "élodie", "a\0", &"x".repeat(65)]
        {
            assert!(!is_user_name(bad), "{bad}");
        }
    }
}

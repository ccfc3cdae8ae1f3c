//! Open access for development: whoever is on this machine is who they say.
//!
//! Two kinds of peer are easily taken for local and are not: one without an address, which is
//! refused, and one behind a proxy on this machine, which nothing here can tell. So
//! [`OpenUntilUsers`] never opens again once it has seen a user, whatever becomes of the file.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use super::users::UsersFile;
use super::{Authenticate, Credentials, Decision, Refusal, is_user_name};

/// Trusts the user name of every peer on a loopback address and asks for no password.
///
/// A connection without a user name is anonymous: its user is empty. Other peers get
/// [`Refusal::NotAuthorized`], and names that [`is_user_name`] denies
/// [`Refusal::BadUserNameOrPassword`].
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOnLoopback;

impl OpenOnLoopback {
    fn decide(credentials: Credentials) -> Decision {
        if !credentials.peer.is_some_and(is_loopback) {
            return Decision::Refuse(Refusal::NotAuthorized);
        }
        match credentials.user_name {
            None => Decision::accept(String::new()),
            // A zero-length name is allowed (§3.1.3.5), and names nobody.
            Some(user) if user.is_empty() => Decision::accept(user),
            Some(user) if is_user_name(&user) => Decision::accept(user),
            Some(_) => Decision::Refuse(Refusal::BadUserNameOrPassword),
        }
    }
}

impl Authenticate for OpenOnLoopback {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        Box::pin(ready(Self::decide(credentials)))
    }
}

/// [`OpenOnLoopback`] while the users file holds no user, [`UsersFile`] from the first user on.
///
/// The step is taken while the broker runs, at the first login after the file changed. It is not
/// taken back: with the last user removed nobody can log in until the broker is started again.
#[derive(Debug)]
pub struct OpenUntilUsers {
    users: Arc<UsersFile>,
}

impl OpenUntilUsers {
    /// Open on loopback until `users` holds a user.
    pub fn new(users: impl Into<Arc<UsersFile>>) -> Self {
        Self { users: users.into() }
    }

    /// The users behind it.
    pub fn users(&self) -> &UsersFile {
        &self.users
    }
}

impl Authenticate for OpenUntilUsers {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        Box::pin(async move {
            self.users.refresh().await;
            if self.users.never_held_a_user() {
                return OpenOnLoopback::decide(credentials);
            }
            self.users.verify(credentials).await
        })
    }
}

/// An IPv4 address inside an IPv6 one counts as the IPv4 address.
fn is_loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(user: Option<&str>, peer: Option<&str>) -> Decision {
        OpenOnLoopback::decide(Credentials {
            client_id: "phone".into(),
            user_name: user.map(Into::into),
            peer: peer.map(|peer| peer.parse().unwrap()),
            ..Credentials::default()
        })
    }

    #[test]
    fn loopback_peer_is_who_it_says() {
        for peer in ["127.0.0.1:9", "127.9.9.9:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(decide(Some("bob"), Some(peer)), Decision::accept("bob"));
            assert_eq!(decide(None, Some(peer)), Decision::accept(""));
        }
    }

    #[test]
    fn other_peer_is_not_authorized() {
        for peer in [Some("192.168.0.2:9"), Some("[::ffff:10.0.0.1]:9"), Some("[fe80::1]:9"), None]
        {
            assert_eq!(decide(Some("bob"), peer), Decision::Refuse(Refusal::NotAuthorized));
            assert_eq!(decide(None, peer), Decision::Refuse(Refusal::NotAuthorized));
        }
    }

    #[test]
    fn empty_name_is_an_anonymous_one() {
        let anonymous = Decision::accept("");
        assert_eq!(decide(Some(""), Some("127.0.0.1:9")), anonymous);
    }

    #[test]
    fn name_that_is_no_user_name_is_refused() {
        for name in ["a/b", "~room.1", "#"] {
            assert_eq!(
                decide(Some(name), Some("127.0.0.1:9")),
                Decision::Refuse(Refusal::BadUserNameOrPassword)
            );
        }
    }
}

//! Temporary users: logins that a service gives, beside all others.
//!
//! A name that begins with `~` never reaches the other ways to log in, whatever they would say: it
//! belongs to who made it, for as long as that is there.

use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tidings_core::hook::is_temporary;

use super::{Authenticate, Credentials, Decision};

/// Has a closure decide about User Names that begin with `~`, and everything else by `others`.
///
/// With the closure asking the chat's handle this is how people take the seats of rooms:
///
/// ```ignore
/// let handle = chat.handle();
/// let logins = TemporaryUsers::new(Arc::new(OpenOnLoopback), move |login: Credentials| {
///     let handle = handle.clone();
///     async move {
///         let (name, password) = (login.user_name.unwrap_or_default(), login.password);
///         match handle.login(&name, &password.unwrap_or_default()).await {
///             Ok(user) => Decision::accept(user),
///             Err(_) => Decision::Refuse(Refusal::BadUserNameOrPassword),
///         }
///     }
/// });
/// ```
pub struct TemporaryUsers<F> {
    others: Arc<dyn Authenticate>,
    decide: F,
}

impl<F> TemporaryUsers<F> {
    /// Asks `decide` about temporary users, and `others` about all others.
    pub fn new(others: Arc<dyn Authenticate>, decide: F) -> Self {
        Self { others, decide }
    }
}

impl<F> Debug for TemporaryUsers<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryUsers").field("others", &self.others).finish_non_exhaustive()
    }
}

impl<F, Answer> Authenticate for TemporaryUsers<F>
where
    F: Fn(Credentials) -> Answer + Send + Sync,
    Answer: Future<Output = Decision> + Send + 'static,
{
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        if credentials.user_name.as_deref().is_some_and(is_temporary) {
            Box::pin((self.decide)(credentials))
        } else {
            self.others.authenticate(credentials)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Refusal;

    #[tokio::test]
    async fn names_with_a_tilde_are_decided_apart() {
        let others = Deciding(|_: Credentials| async { Decision::accept("other") });
        let logins = TemporaryUsers::new(Arc::new(others), |login: Credentials| async move {
            match login.password.as_deref() {
                Some(b"code") => Decision::accept("~room.1"),
                _ => Decision::Refuse(Refusal::BadUserNameOrPassword),
            }
        });
        let ask = |name: Option<&str>, password: &[u8]| {
            logins.authenticate(Credentials {
                user_name: name.map(Into::into),
                password: Some(password.into()),
                ..Credentials::default()
            })
        };
        assert_eq!(ask(Some("~link"), b"code").await, Decision::accept("~room.1"));
        assert_ne!(ask(Some("~link"), b"no").await, Decision::accept("other"));
        assert_eq!(ask(Some("bob"), b"code").await, Decision::accept("other"));
        assert_eq!(ask(None, b"code").await, Decision::accept("other"));
    }

    use crate::auth::Deciding;
}

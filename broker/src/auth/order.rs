//! Several ways to log in, in one order.
//!
//! 1. A password in the form of a token is decided by [`Tokens`] alone, where they are configured.
//! 2. A user of the users file is decided by that alone.
//! 3. Whoever is left is decided by the [`Webhook`], if there is one, and else is unknown.
//!
//! Nobody is tried in two ways: a wrong password does not become a right one further down.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Authenticate, Credentials, Decision, Tokens, UsersFile, Webhook};

/// The users file, and what there is besides it. See the module.
#[derive(Debug)]
pub struct Logins {
    users: Arc<UsersFile>,
    tokens: Option<Tokens>,
    webhook: Option<Webhook>,
}

impl Logins {
    /// By the users file, until more is added.
    pub fn new(users: impl Into<Arc<UsersFile>>) -> Self {
        Self { users: users.into(), tokens: None, webhook: None }
    }

    /// And by tokens.
    #[must_use]
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// And by asking another program.
    #[must_use]
    pub fn webhook(mut self, webhook: Webhook) -> Self {
        self.webhook = Some(webhook);
        self
    }

    async fn decide(&self, credentials: Credentials) -> Decision {
        if let (Some(tokens), Some(password)) = (&self.tokens, &credentials.password)
            && Tokens::is_token(password)
        {
            return tokens.authenticate(credentials).await;
        }
        self.users.refresh().await;
        let is_user = credentials.user_name.as_deref().is_some_and(|name| self.users.holds(name));
        match &self.webhook {
            Some(webhook) if !is_user => webhook.authenticate(credentials).await,
            _ => self.users.verify(credentials).await,
        }
    }
}

impl Authenticate for Logins {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        Box::pin(self.decide(credentials))
    }
}

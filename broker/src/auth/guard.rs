//! What failed logins cost, for ways to log in that verify elsewhere: see [`LoginLimits`].

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, sleep_until};

use super::rate::Failures;
use super::{Credentials, Decision, LoginLimits, Refusal};

/// Counts failures, and makes them wait.
#[derive(Debug)]
pub(super) struct Guard {
    failures: Mutex<Failures>,
    limits: LoginLimits,
}

impl Guard {
    pub(super) fn new(limits: LoginLimits) -> Self {
        Self { failures: Mutex::new(Failures::new(limits.failures_per_minute)), limits }
    }

    /// Whether there were so many failures that this try is not looked at.
    pub(super) fn limited(&self, credentials: &Credentials, now: Instant) -> bool {
        let (user, address) = whose(credentials);
        self.failures().limited(user, address, now)
    }

    /// A try was right.
    pub(super) fn succeeded(&self, credentials: &Credentials, now: Instant) {
        let (user, address) = whose(credentials);
        self.failures().succeeded(user, address, now);
    }

    /// A try that began at `now` was wrong: answers when the time for that is over.
    pub(super) async fn refuse(&self, credentials: &Credentials, now: Instant) -> Decision {
        let (user, address) = whose(credentials);
        self.failures().failed(user, address, now);
        self.wait(now, Refusal::BadUserNameOrPassword).await
    }

    /// Answers `refusal` when the time for a failure is over.
    pub(super) async fn wait(&self, now: Instant, refusal: Refusal) -> Decision {
        sleep_until(now + self.limits.failure_delay).await;
        Decision::Refuse(refusal)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A user that is not named is known by the Client Identifier: those without a name are not one.
fn whose(credentials: &Credentials) -> (&str, Option<IpAddr>) {
    let user = credentials.user_name.as_deref().unwrap_or(&credentials.client_id);
    (user, credentials.peer.map(|peer| peer.ip()))
}

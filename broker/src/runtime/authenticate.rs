//! Authentication again (§4.12.1): the steps of exchanges with connected Clients.
//!
//! A step is a task of its own and answers by mail, so that the shard goes on and a step that panics
//! costs its own connection only. So is the wait for the Client's answer, which is refused when it
//! does not come in time. Both end with the connection.

use std::sync::Arc;

use tidings_core::output::ConnectionId;
use tidings_core::shard::{AuthStep, Input};
use tidings_core::time::Time;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep_until;

use super::Runtime;
use crate::auth::{Refusal, Step};
use crate::exchange::{Going, Reauthenticator};
use crate::mail::{Answer, Mail};

/// A connection that was authenticated by a method.
#[derive(Debug)]
pub(super) struct ByMethod {
    who: Arc<Reauthenticator>,
    /// The exchange that waits for the Client.
    going: Option<Going>,
    /// The step that is being taken, or what waits for the end of the Client's time.
    task: Option<AbortHandle>,
}

impl ByMethod {
    pub(super) fn new(who: Arc<Reauthenticator>) -> Self {
        Self { who, going: None, task: None }
    }

    /// Ends the task that there is, for another one.
    fn replace(&mut self, task: Option<AbortHandle>) {
        if let Some(old) = std::mem::replace(&mut self.task, task) {
            old.abort();
        }
    }
}

impl Drop for ByMethod {
    fn drop(&mut self) {
        self.replace(None);
    }
}

impl Runtime {
    /// A Client begins an exchange, or answers in one.
    pub(super) fn authenticate(&mut self, id: ConnectionId, begins: bool, data: Box<[u8]>) {
        let Some(method) = self.methods.get_mut(&id) else { return };
        let Some(post) = self.posts.get(usize::from(self.id.0)).cloned() else { return };
        let (who, going) = (Arc::clone(&method.who), method.going.take());
        let time_max = self.limits.connect_timeout;
        let step = spawn_local(async move {
            let going = going.filter(|_| !begins).unwrap_or_else(|| Going::begin(&who, time_max));
            going.step(&data).await
        });
        method.replace(Some(step.abort_handle()));
        spawn_local(async move {
            let panicked = (Step::Refuse(Refusal::NotAuthorized), None);
            let (step, going) = step.await.unwrap_or(panicked);
            post.send(Mail::Authenticated(Box::new(Answer { connection: id, step, going })));
        });
    }

    /// A step was taken.
    pub(super) fn authenticated(&mut self, answer: Answer) {
        let Answer { connection, step, going } = answer;
        let Some(method) = self.methods.get_mut(&connection) else { return };
        let post = self.posts.get(usize::from(self.id.0)).cloned();
        let task = going.as_ref().map(Going::deadline).zip(post).map(|(deadline, post)| {
            let late = async move {
                sleep_until(deadline).await;
                let step = Step::Refuse(Refusal::NotAuthorized);
                post.send(Mail::Authenticated(Box::new(Answer { connection, step, going: None })));
            };
            spawn_local(late).abort_handle()
        });
        method.going = going;
        method.replace(task);
        let step = match &step {
            Step::Continue { data } => AuthStep::Continue { data },
            Step::Accept { user, expires, data } => {
                let expires = expires.map_or(Time::NEVER, |expires| self.clock.time(expires));
                AuthStep::Accept { user, expires, data }
            }
            Step::Refuse(refusal) => AuthStep::Refuse(refusal.goodbye()),
        };
        self.handle(Input::Authenticated { connection, step });
    }
}

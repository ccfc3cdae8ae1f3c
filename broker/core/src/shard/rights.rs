//! Rights: the one place that asks what a Client may say and hear, and that asks again.
//!
//! What is asked once is not true for ever. When rights change, every subscription is looked at
//! again: one that a connected Client must not have any more ends its connection with 0x87, because
//! MQTT has no other way to tell it, and is gone when the Client comes back; one of a session that
//! waits for its Client just goes. What was queued while it was allowed stays queued.

use std::time::Duration;

use super::Shard;
use super::timers::Timer;
use crate::codec::ReasonCode;
use crate::hook::{Client, SessionId, Verdict, is_temporary};
use crate::output::{CloseCause, ConnectionId, Outbox};
use crate::record::Op;
use crate::session::{Who, rows};
use crate::time::Time;
use crate::topic::TopicFilter;

impl Shard {
    /// Whether `client` may publish to `topic`: asked for PUBLISH, for a will at CONNECT, and for
    /// the will again when it is due. Services and interceptors are part of the server and are not
    /// asked.
    pub(super) fn may_say(&self, client: &Client<'_>, topic: &str) -> Result<(), ReasonCode> {
        // These topics are the server's (§4.7.2).
        if topic.starts_with('$') {
            return Err(ReasonCode::NotAuthorized);
        }
        match self.hooks.authorize.as_ref().map(|rights| rights.publish(client, topic)) {
            None if self.is_elsewhere(client, topic) => Err(ReasonCode::NotAuthorized),
            None | Some(Verdict::Allow) => Ok(()),
            Some(Verdict::Deny(reason)) => Err(reason),
        }
    }

    /// Whether `client` may hear `filter`, and the service that owns it: asked for SUBSCRIBE, for
    /// each filter of a session that is resumed, and again when rights change.
    pub(super) fn may_hear(
        &self,
        client: &Client<'_>,
        filter: &TopicFilter,
    ) -> Result<Option<u8>, ReasonCode> {
        if let Some(rights) = &self.hooks.authorize
            && let Verdict::Deny(reason) = rights.subscribe(client, &filter.unshared())
        {
            return Err(reason);
        }
        if self.hooks.authorize.is_none() && self.is_elsewhere(client, filter.as_str()) {
            return Err(ReasonCode::NotAuthorized);
        }
        let service = self.services.owner(filter.as_str());
        if let Some(service) = service {
            self.services.may_subscribe(service, client, filter)?;
        }
        Ok(service)
    }

    /// Whether a temporary user is where no service is: without rights that say so it is not for her.
    fn is_elsewhere(&self, client: &Client<'_>, topic: &str) -> bool {
        is_temporary(client.user) && self.services.owner(topic).is_none()
    }

    /// Rights have changed: every session is to be looked at again, a few at a time.
    pub(super) fn rights_changed(&mut self, now: Time, out: &mut Outbox) {
        self.recheck.clear();
        self.recheck.extend(self.sessions.keys().chain(self.offline.keys()));
        // In an order that a seed repeats, and the oldest first.
        self.recheck.sort_unstable_by(|a, b| b.cmp(a));
        self.recheck_some(now, out);
    }

    /// Looks at the next sessions.
    pub(super) fn recheck_some(&mut self, now: Time, out: &mut Outbox) {
        let mut asked = 0;
        while asked < ASKED_PER_STEP {
            let Some(id) = self.recheck.pop() else { return };
            let lost = self.forfeited(id);
            asked += 1 + lost.asked;
            self.take_away(id, &lost.filters, now, out);
        }
        if !self.recheck.is_empty() {
            self.timers.set(now + PAUSE, Timer::Rights);
        }
    }

    /// The subscriptions of a session that its Client may not have any more.
    fn forfeited(&self, id: SessionId) -> Forfeited {
        let lost = |who: &Who, filters: &mut dyn Iterator<Item = &TopicFilter>| {
            let mut found = Forfeited::default();
            for filter in filters {
                found.asked += 1;
                if self.may_hear(&who.client(), filter).is_err() {
                    found.filters.push(filter.clone());
                }
            }
            found
        };
        if let Some(session) = self.sessions.get(&id) {
            lost(&session.who(), &mut session.subscriptions.keys())
        } else if let Some(offline) = self.offline.get(&id) {
            lost(&offline.who(), &mut offline.subscriptions.iter().map(|(filter, _)| filter))
        } else {
            Forfeited::default()
        }
    }

    fn take_away(&mut self, id: SessionId, lost: &[TopicFilter], now: Time, out: &mut Outbox) {
        let Some(first) = lost.first() else { return };
        let mut ops = Vec::new();
        if self.offline.contains_key(&id) {
            for filter in lost {
                self.remove_offline_subscription(id, filter, &mut ops, out);
            }
        } else {
            for filter in lost {
                self.remove_subscription(id, filter, &mut ops, now, out);
            }
        }
        self.keep_lost(ops, out);
        // Who has no CONNACK yet does not believe anything.
        let told = self.sessions.get(&id).filter(|session| session.opening.is_none());
        if let Some(connection) = told.map(|session| session.link.connection) {
            let cause = CloseCause::RightsEnded(first.as_str().into());
            self.refuse(connection, cause, now, out);
        }
    }

    fn remove_offline_subscription(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        ops: &mut Vec<Op>,
        out: &mut Outbox,
    ) {
        let Some(offline) = self.offline.get_mut(&id) else { return };
        offline.subscriptions.retain(|(known, _)| known != filter);
        ops.push(rows::subscription_gone(offline.slot, id, filter.as_str()));
        // A service hears of the subscriptions of a session when that has a connection.
        if self.services.owner(filter.as_str()).is_none() {
            self.drop_filter(id, filter, out);
        }
    }

    /// Takes away what a session that is being resumed must not have any more, before its services
    /// and its Client hear of it.
    pub(super) fn drop_lost(&mut self, id: SessionId, out: &mut Outbox) {
        let lost = self.forfeited(id).filters;
        let mut ops = Vec::new();
        for filter in &lost {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            session.subscriptions.remove(filter);
            ops.push(rows::subscription_gone(session.slot, id, filter.as_str()));
            if self.services.owner(filter.as_str()).is_none() {
                self.drop_filter(id, filter, out);
            }
        }
        self.keep_lost(ops, out);
    }

    /// The same at start, where the router knows nothing of the session yet.
    pub(super) fn drop_lost_at_start(&mut self, id: SessionId, out: &mut Outbox) {
        let lost = self.forfeited(id).filters;
        let Some(offline) = self.offline.get_mut(&id) else { return };
        offline.subscriptions.retain(|(filter, _)| !lost.contains(filter));
        let gone =
            |filter: &TopicFilter| rows::subscription_gone(offline.slot, id, filter.as_str());
        let ops = lost.iter().map(gone).collect();
        self.keep_lost(ops, out);
    }

    /// Nobody waits for it: after a crash the same is found again.
    fn keep_lost(&mut self, ops: Vec<Op>, out: &mut Outbox) {
        if !ops.is_empty() {
            self.ledger.append(ops, false, out);
        }
    }

    /// What authentication said is not true any more: of one user, or of everybody.
    pub(super) fn revoked(&mut self, user: Option<&str>, now: Time, out: &mut Outbox) {
        let concerned = |(connection, id): (&ConnectionId, &SessionId)| {
            let session = self.sessions.get(id)?;
            user.is_none_or(|user| *user == *session.user).then_some(*connection)
        };
        let mut connections: Vec<_> = self.connections.iter().filter_map(concerned).collect();
        connections.sort_unstable();
        for connection in connections {
            let cause = CloseCause::Refused(ReasonCode::NotAuthorized);
            self.refuse(connection, cause, now, out);
        }
    }
}

/// What [`Shard::forfeited`] found.
#[derive(Default)]
struct Forfeited {
    filters: Vec<TopicFilter>,
    /// How often somebody was asked.
    asked: usize,
}

/// Questions about rights in one step, so that nobody waits long behind a change.
const ASKED_PER_STEP: usize = 4_096;

/// Between two steps.
const PAUSE: Duration = Duration::from_millis(1);

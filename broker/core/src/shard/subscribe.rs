//! SUBSCRIBE and UNSUBSCRIBE: every publisher knows before the Client hears that it is done.

use std::collections::btree_map::Entry;

use super::{Shard, Waiter};
use crate::codec::{ReasonCode, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe};
use crate::hook::{ServiceEvent, SessionId};
use crate::metric::Metric;
use crate::output::{CloseCause, Outbox};
use crate::peer::{Member, PeerMessage};
use crate::protocol_error::ProtocolError;
use crate::record::{Op, Position};
use crate::session::{ReplyKind, Subscription, rows};
use crate::slot::ShardId;
use crate::time::Time;
use crate::topic::TopicFilter;

/// A filter that was granted.
struct Granted {
    filter: TopicFilter,
    subscription: Subscription,
    new: bool,
    retained: bool,
    service: Option<u8>,
}

/// What other shards have to know before a SUBACK.
#[derive(Debug, Default)]
struct Others {
    /// What this shard hears from now on.
    interests: Vec<TopicFilter>,
    /// Groups of others that the session is a member of.
    joins: Vec<(ShardId, TopicFilter, Member)>,
}

/// What SUBACK and UNSUBACK take besides their codes: fixed header, Packet Identifier, Property
/// Length. A Remaining Length above 127 takes a byte more.
const ANSWER_BYTES: usize = 5;

impl Shard {
    /// A SUBSCRIBE (§3.8).
    pub(super) fn subscribe(
        &mut self,
        id: SessionId,
        subscribe: &Subscribe<'_>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        self.check_filters(id, subscribe.filters().count())?;
        let identifier = subscribe.properties.subscription_identifier();
        let mut reasons = Vec::new();
        let mut granted = Vec::new();
        let mut ops = Vec::new();
        let mut others = Others::default();
        for wanted in subscribe.filters() {
            match self.grant(id, &wanted, identifier) {
                Err(reason) => reasons.push(reason as u8),
                Ok(grant) => {
                    reasons.push(grant.subscription.qos as u8);
                    self.add_subscription(id, &grant, &mut ops, &mut others);
                    granted.push(grant);
                }
            }
        }
        let ready =
            if ops.is_empty() { Position::START } else { self.ledger.append(ops, true, out) };
        let Others { interests, joins } = others;
        let waits = interests.len() * usize::from(self.shards - 1) + joins.len();
        let waits = u16::try_from(waits).unwrap_or(u16::MAX);
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let kind = ReplyKind::Suback { reasons };
        let serial = session.receiving.expect(kind, subscribe.packet_id, ready, waits);
        let waiter = Waiter::Answer(id, serial);
        for filter in interests {
            self.announce(&filter, true, Some(waiter), out);
        }
        for (shard, filter, member) in joins {
            let (member, token) = (Some(member), Some(self.token(waiter)));
            let message = PeerMessage::Member { filter, session: id, member, token };
            out.post(shard, message);
        }
        self.release(id, now, out);
        let mut retained = Vec::new();
        for grant in granted {
            self.tell_subscribed(id, &grant, now, out);
            if grant.retained && grant.service.is_none() {
                retained.push(grant.filter);
            }
        }
        if waits == 0 {
            self.send_retained(id, &retained, now, out);
        } else if !retained.is_empty() {
            // Asked for only when every publisher's shard routes to this one: so that no update
            // falls between the retained message and the first one routed.
            self.retained_after.insert((id, serial), retained);
        }
        Ok(())
    }

    fn check_filters(&self, id: SessionId, filters: usize) -> Result<(), ProtocolError> {
        let max = self.limits.filters_per_subscribe_max;
        if filters > max {
            return Err(ProtocolError::TooManyFilters { filters, max });
        }
        // [MQTT-3.1.2-24]
        let bytes = ANSWER_BYTES + filters + usize::from(ANSWER_BYTES + filters > 129);
        let max = self.sessions.get(&id).map_or(usize::MAX, |it| it.link.packet_bytes_max);
        if bytes > max {
            return Err(ProtocolError::AnswerTooLarge { bytes, max });
        }
        Ok(())
    }

    /// Whether the session may have this subscription, and what it then is.
    fn grant(
        &self,
        id: SessionId,
        wanted: &SubscribeFilter<'_>,
        identifier: Option<u32>,
    ) -> Result<Granted, ReasonCode> {
        let session = self.sessions.get(&id).ok_or(ReasonCode::UnspecifiedError)?;
        let filter =
            TopicFilter::parse(wanted.filter).map_err(|_| ReasonCode::TopicFilterInvalid)?;
        if let Err(error) = self.limits.topic.check(filter.as_str()) {
            if let Some(bound) = Metric::topic_bound(&error) {
                self.counters.add(bound, 1);
            }
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let offers = &self.limits.offers;
        if let Err(reason) = offers.allow_subscription(&filter, identifier) {
            if let Some(left_out) = Metric::not_offered(reason) {
                self.counters.add(left_out, 1);
            }
            return Err(reason);
        }
        let shared = filter.share().is_some();
        if shared && self.services.owner(filter.pattern()).is_some() {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let subscriptions = &session.subscriptions;
        let new = !subscriptions.contains_key(&filter);
        if new && self.disk_low && session.is_persistent() {
            self.counters.add(Metric::LimitDiskReserve, 1);
            return Err(ReasonCode::QuotaExceeded);
        }
        if new {
            let wildcards = || subscriptions.keys().filter(|it| it.has_wildcard()).count();
            let limits = &self.limits;
            if subscriptions.len() >= limits.subscriptions_per_session_max {
                self.counters.add(Metric::LimitSubscriptions, 1);
                return Err(ReasonCode::QuotaExceeded);
            }
            if filter.has_wildcard() && wildcards() >= limits.wildcard_subscriptions_per_session_max
            {
                self.counters.add(Metric::LimitWildcards, 1);
                return Err(ReasonCode::QuotaExceeded);
            }
        }
        let service = self.may_hear(&session.client(), &filter)?;
        let handling: RetainHandling = wanted.options.retain_handling;
        // No retained messages for a Shared Subscription (§4.8.2).
        let retained = !shared && Subscription::wants_retained(handling, new);
        let subscription = Subscription::new(wanted.options, identifier).at_most(offers);
        Ok(Granted { filter, subscription, new, retained, service })
    }

    fn add_subscription(
        &mut self,
        id: SessionId,
        grant: &Granted,
        ops: &mut Vec<Op>,
        others: &mut Others,
    ) {
        let Granted { filter, subscription, service, new, .. } = grant;
        if *new {
            self.forget_replay(id, filter);
        }
        let replay_noted = self.is_replay_noted(id, filter);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.subscriptions.insert(filter.clone(), *subscription).is_none() {
            self.counters.add(Metric::Subscriptions, 1);
        }
        if session.is_persistent() {
            let filter = filter.as_str();
            ops.push(rows::subscription(session.slot, id, filter, *subscription, replay_noted));
        }
        if service.is_some() {
            return;
        }
        let first = if filter.share().is_none() {
            self.router.subscribe(filter, id, *subscription)
        } else {
            match self.join(id, filter, *subscription) {
                Err(first) => first,
                Ok((owner, member)) => {
                    others.joins.push((owner, filter.clone(), member));
                    return;
                }
            }
        };
        let heard = filter.unshared();
        // While others are still being told for somebody else, this session has to wait as well.
        if self.shards > 1 && (first || self.announced.contains_key(&heard)) {
            others.interests.push(heard);
        }
    }

    fn tell_subscribed(&mut self, id: SessionId, grant: &Granted, now: Time, out: &mut Outbox) {
        if let Some(service) = grant.service {
            let Granted { filter, subscription, new, .. } = grant;
            let event =
                ServiceEvent::Subscribed { session: id, filter, qos: subscription.qos, new: *new };
            self.call(service, event, now, out);
        }
    }

    /// Tells every other shard whether this one wants `filter`.
    pub(super) fn announce(
        &mut self,
        filter: &TopicFilter,
        wanted: bool,
        waiter: Option<Waiter>,
        out: &mut Outbox,
    ) {
        for shard in (0..self.shards).map(ShardId) {
            if shard == self.id {
                continue;
            }
            let token = waiter.map(|waiter| self.token(waiter));
            if let Some(token) = token {
                self.announcing.insert(token, filter.clone());
                *self.announced.entry(filter.clone()).or_default() += 1;
            }
            let (filter, own) = (filter.clone(), self.id);
            let message = PeerMessage::Interest { filter, shard: own, wanted, token };
            out.post(shard, message);
        }
    }

    /// Another shard has answered, perhaps about a filter.
    pub(super) fn announcement_answered(&mut self, token: u64) {
        if let Some(filter) = self.announcing.remove(&token)
            && let Entry::Occupied(mut count) = self.announced.entry(filter)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// An UNSUBSCRIBE (§3.10).
    pub(super) fn unsubscribe(
        &mut self,
        id: SessionId,
        unsubscribe: &Unsubscribe<'_>,
        now: Time,
        out: &mut Outbox,
    ) -> Result<(), CloseCause> {
        self.check_filters(id, unsubscribe.filters().count())?;
        let mut reasons = Vec::new();
        let mut ops = Vec::new();
        for text in unsubscribe.filters() {
            let ended = TopicFilter::parse(text)
                .ok()
                .filter(|filter| self.remove_subscription(id, filter, &mut ops, now, out));
            let reason = match ended {
                Some(_) => ReasonCode::Success,
                None => ReasonCode::NoSubscriptionExisted,
            };
            reasons.push(reason as u8);
        }
        let ready =
            if ops.is_empty() { Position::START } else { self.ledger.append(ops, true, out) };
        if let Some(session) = self.sessions.get_mut(&id) {
            let kind = ReplyKind::Unsuback { reasons };
            session.receiving.expect(kind, unsubscribe.packet_id, ready, 0);
        }
        self.release(id, now, out);
        Ok(())
    }

    pub(super) fn remove_subscription(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        ops: &mut Vec<Op>,
        now: Time,
        out: &mut Outbox,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if session.subscriptions.remove(filter).is_none() {
            return false;
        }
        self.counters.take(Metric::Subscriptions, 1);
        if session.is_persistent() {
            ops.push(rows::subscription_gone(session.slot, id, filter.as_str()));
        }
        self.forget_replay(id, filter);
        match self.services.owner(filter.as_str()) {
            Some(service) => {
                let event = ServiceEvent::Unsubscribed { session: id, filter };
                self.call(service, event, now, out);
            }
            None => self.drop_filter(id, filter, out),
        }
        true
    }

    /// Takes a filter of a session out of the router, here and with the other shards.
    pub(super) fn drop_filter(&mut self, id: SessionId, filter: &TopicFilter, out: &mut Outbox) {
        if filter.share().is_some() {
            self.leave(id, filter, out);
            return;
        }
        if self.router.unsubscribe(filter, id) && self.shards > 1 {
            self.announce(filter, false, None, out);
        }
    }
}

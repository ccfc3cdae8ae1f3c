//! Services: what they are told, and what they act through.
//!
//! A service is never called from within itself. What its own calls bring about (a session that has
//! room again, a message to itself) waits until it is done with the present event.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use super::Shard;
use super::load::ReadFor;
use crate::codec::{QoS, ReasonCode};
use crate::hook::{
    Answer, AnswerToken, Client, Host, Refused, Service, ServiceEvent, ServiceFactory, SessionId,
    Tag,
};
use crate::message::{Message, MessageId};
use crate::metric::Metric;
use crate::output::Outbox;
use crate::peer::PeerMessage;
use crate::record::{Position, Query, Record};
use crate::session::{InFlight, State};
use crate::session::{Offered, Pumped, Queued};
use crate::slot::ShardId;
use crate::time::Time;
use crate::topic::TopicFilter;

/// The services of a shard.
#[derive(Debug)]
pub(super) struct Services {
    list: Vec<Place>,
    queue: VecDeque<(u8, ToService)>,
}

#[derive(Debug)]
struct Place {
    roots: &'static [&'static str],
    /// Not there while it is being called.
    service: Option<Box<dyn Service>>,
}

/// An event that borrows nothing, for later.
#[derive(Debug)]
pub(super) enum ToService {
    Acknowledged {
        session: SessionId,
        tag: Tag,
        reason: ReasonCode,
    },
    Room {
        session: SessionId,
    },
    Stored(Position),
    Peer {
        from: ShardId,
        message: Box<dyn Any + Send>,
    },
    TimedOut,
    /// Not for it: what it asked for.
    EndSession(SessionId),
}

impl Services {
    pub(super) fn new(factories: &[Arc<dyn ServiceFactory>], shard: ShardId, shards: u16) -> Self {
        let place = |factory: &Arc<dyn ServiceFactory>| {
            let service = factory.make(shard, shards);
            Place { roots: service.roots(), service: Some(service) }
        };
        let list = factories.iter().take(usize::from(u8::MAX)).map(place).collect();
        Self { list, queue: VecDeque::new() }
    }

    /// The numbers of all services.
    #[expect(clippy::cast_possible_truncation, reason = "`new` takes at most 255")]
    pub(super) fn all(&self) -> std::ops::Range<u8> {
        0..self.list.len() as u8
    }

    /// The service that owns the first level of a topic or filter.
    pub(super) fn owner(&self, topic: &str) -> Option<u8> {
        if self.list.is_empty() {
            return None;
        }
        let root = topic.split('/').next().unwrap_or(topic);
        self.all().find(|service| {
            self.list.get(usize::from(*service)).is_some_and(|it| it.roots.contains(&root))
        })
    }

    pub(super) fn may_subscribe(
        &self,
        service: u8,
        client: &Client<'_>,
        filter: &TopicFilter,
    ) -> Result<(), ReasonCode> {
        let place = self.list.get(usize::from(service));
        match place.and_then(|place| place.service.as_ref()) {
            Some(service) => service.subscribe(client, filter),
            None => Err(ReasonCode::UnspecifiedError),
        }
    }

    /// What is to be kept of a message in flight: itself, or with what its service puts in the place
    /// of the payload.
    pub(super) fn veiled(&self, entry: &InFlight) -> Option<InFlight> {
        if entry.state != State::Publish {
            return None;
        }
        let message = &entry.queued.message;
        let service = self.service_of(entry)?.veil(&message.payload)?;
        let mut veiled = entry.clone();
        veiled.queued.message = Arc::new(Message { payload: service, ..Message::clone(message) });
        Some(veiled)
    }

    /// What was kept so, as it was; nothing if its service cannot read it.
    pub(super) fn unveiled(&self, mut entry: InFlight) -> Option<InFlight> {
        let message = &entry.queued.message;
        let payload = self.service_of(&entry)?.unveil(&message.payload)?;
        entry.queued.message = Arc::new(Message { payload, ..Message::clone(message) });
        Some(entry)
    }

    /// The service that delivered a message.
    fn service_of(&self, entry: &InFlight) -> Option<&dyn Service> {
        let tagged = entry.queued.tag.map(|(service, _)| service);
        let service = tagged.or_else(|| self.owner(&entry.queued.message.topic))?;
        self.list.get(usize::from(service))?.service.as_deref()
    }

    pub(super) fn push(&mut self, service: u8, event: ToService) {
        self.queue.push_back((service, event));
    }

    pub(super) fn push_all(&mut self, event: impl Fn() -> ToService) {
        for service in self.all() {
            self.queue.push_back((service, event()));
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let services = self.list.iter().filter_map(|place| place.service.as_ref());
        services.filter_map(|service| service.next_timeout()).min()
    }
}

impl Shard {
    /// Tells a service something now. Not to be called from within a service.
    pub(super) fn call(
        &mut self,
        service: u8,
        event: ServiceEvent<'_>,
        now: Time,
        out: &mut Outbox,
    ) {
        let index = usize::from(service);
        let Some(mut called) = self.services.list.get_mut(index).and_then(|it| it.service.take())
        else {
            return;
        };
        called.handle(event, &mut HostOf { shard: self, out, now, service });
        if let Some(place) = self.services.list.get_mut(index) {
            place.service = Some(called);
        }
    }

    /// Tells the services what has come up meanwhile.
    pub(super) fn run_services(&mut self, now: Time, out: &mut Outbox) {
        while let Some((service, event)) = self.services.queue.pop_front() {
            let event = match event {
                ToService::Acknowledged { session, tag, reason } => {
                    ServiceEvent::Acknowledged { session, tag, reason }
                }
                ToService::Room { session } => ServiceEvent::Room { session },
                ToService::Stored(position) => ServiceEvent::Stored(position),
                ToService::Peer { from, message } => ServiceEvent::Peer { from, message },
                ToService::TimedOut => ServiceEvent::TimedOut,
                ToService::EndSession(session) => {
                    self.log_out(session, now, out);
                    continue;
                }
            };
            self.call(service, event, now, out);
        }
    }
}

/// A shard as one of its services sees it.
struct HostOf<'a> {
    shard: &'a mut Shard,
    out: &'a mut Outbox,
    now: Time,
    service: u8,
}

impl Host for HostOf<'_> {
    fn now(&self) -> Time {
        self.now
    }

    fn shard(&self) -> ShardId {
        self.shard.id
    }

    fn shards(&self) -> u16 {
        self.shard.shards
    }

    fn random(&mut self) -> u64 {
        self.shard.random()
    }

    fn disk_low(&self) -> bool {
        self.shard.disk_low
    }

    fn message_id(&mut self) -> MessageId {
        MessageId(self.shard.ledger.number(self.out))
    }

    fn end_session(&mut self, session: SessionId) -> bool {
        let shard = &*self.shard;
        let known = shard.sessions.contains_key(&session) || shard.offline.contains_key(&session);
        if known {
            self.shard.services.push(self.service, ToService::EndSession(session));
        }
        known
    }

    fn rates_apply(&self) -> bool {
        self.shard.limits.rates_apply
    }

    fn count(&mut self, metric: Metric) {
        self.shard.counters.add(metric, 1);
    }

    fn store(&mut self, record: Record) -> Position {
        self.shard.store(record, self.out)
    }

    fn read(&mut self, token: u64, query: Query) {
        self.shard.read(ReadFor::Service { service: self.service, token }, query, self.out);
    }

    fn send(&mut self, shard: ShardId, message: Box<dyn Any + Send>) {
        if shard == self.shard.id {
            let from = self.shard.id;
            self.shard.services.push(self.service, ToService::Peer { from, message });
        } else {
            let message = PeerMessage::Service { service: self.service, message };
            self.out.post(shard, message);
        }
    }

    fn deliver(
        &mut self,
        session: SessionId,
        message: &Arc<Message>,
        tag: Option<Tag>,
    ) -> Result<QoS, Refused> {
        let number = self.shard.ledger.number(self.out);
        let service = self.service;
        let delivered = self.shard.with(session, self.now, self.out, |session, cx| {
            let subscriptions = session.subscriptions.iter();
            let granted = subscriptions
                .filter(|(filter, _)| filter.share().is_none() && filter.matches(&message.topic))
                .max_by_key(|(_, subscription)| subscription.qos);
            let (_, subscription) = granted.ok_or(Refused::NotSubscribed)?;
            let queued = Queued {
                number,
                message: Arc::clone(message),
                qos: message.qos.min(subscription.qos),
                retain: false,
                subscription_id: subscription.id,
                ready: Position::START,
                key: None,
                share: None,
                tag: tag.map(|tag| (service, tag)),
            };
            if !session.fits(&queued, cx.now) {
                return Err(Refused::TooLarge);
            }
            let qos = queued.qos;
            if qos > QoS::AtMostOnce {
                session.service_may_deliver()?;
            }
            match session.offer(queued, cx) {
                Offered::Sent => Ok((qos, Pumped::default())),
                Offered::Taken => Ok((qos, session.pump(cx))),
                Offered::Dropped => Err(Refused::Full),
            }
        });
        match delivered {
            None => Err(Refused::NotConnected),
            Some(Err(refused)) => Err(refused),
            Some(Ok((qos, pumped))) => {
                self.shard.after(session, pumped, self.out);
                Ok(qos)
            }
        }
    }

    fn answer(&mut self, token: AnswerToken, answer: Answer) {
        let Answer { reason, properties } = answer;
        let id = token.session;
        self.shard.with(id, self.now, self.out, |session, _| {
            session.receiving.done(token.serial, reason, Some(properties), Position::START)
        });
        self.shard.release(id, self.now, self.out);
    }

    fn publish(&mut self, message: Arc<Message>) {
        if self.shard.services.owner(&message.topic).is_none() {
            self.shard.publish_own(&message, None, None, None, self.now, self.out);
        }
    }
}

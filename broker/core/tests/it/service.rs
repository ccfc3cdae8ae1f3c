//! A service: what it is told, what it may do, and what its deliveries and answers become.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which fail where they panic"
)]

use std::any::Any;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidings_core::codec::{Ack, Packet, Property, QoS, ReasonCode};
use tidings_core::hook::{
    Answer, AnswerToken, Client, Host, Service, ServiceEvent, ServiceFactory, SessionId, Tag,
};
use tidings_core::limits::Limits;
use tidings_core::message::Message;
use tidings_core::shard::Hooks;
use tidings_core::slot::ShardId;
use tidings_core::time::Time;
use tidings_core::topic::TopicFilter;

use crate::harness::{Cluster, Link, filter, lasting, message, packet_id, v5};

/// What all shards' services have in common: what they were told, and what they are to do.
#[derive(Debug, Default)]
struct Book {
    told: Vec<String>,
    tokens: Vec<(ShardId, AnswerToken)>,
    sessions: Vec<(ShardId, SessionId)>,
    /// Answers are given at once.
    prompt: bool,
}

#[derive(Debug, Clone, Default)]
struct Factory(Arc<Mutex<Book>>);

impl ServiceFactory for Factory {
    fn make(&self, _: ShardId, _: u16) -> Box<dyn Service> {
        Box::new(Double(Arc::clone(&self.0)))
    }
}

#[derive(Debug)]
struct Double(Arc<Mutex<Book>>);

/// What a test has a service do: sent as a command in the payload of a PUBLISH to `svc/do`.
fn perform(book: &mut Book, command: &str, host: &mut dyn Host) {
    let words: Vec<&str> = command.split(' ').collect();
    match words[..] {
        // deliver <place of the session> <qos> <seq> <times>
        ["deliver", session, qos, seq, times] => {
            let (_, session) = book.sessions[session.parse::<usize>().unwrap()];
            let seq: u64 = seq.parse().unwrap();
            for seq in seq..seq + times.parse::<u64>().unwrap() {
                let qos = QoS::from_u8(qos.parse().unwrap()).unwrap();
                let payload = Bytes::from(seq.to_string());
                let id = host.message_id();
                let message = Arc::new(Message::new(id, "svc/out", payload, qos, host.now()));
                let result = host.deliver(session, &message, Some(Tag { key: 1, seq }));
                if let Err(refused) = result {
                    book.told.push(format!("{seq} {refused:?}"));
                    break;
                }
            }
        }
        ["answer", place, reason] => {
            let (shard, token) = book.tokens[place.parse::<usize>().unwrap()];
            assert_eq!(shard, host.shard());
            let reason = ReasonCode::from_u8(reason.parse().unwrap()).unwrap();
            host.answer(token, Answer { reason, properties: Bytes::new() });
        }
        ["tell", shard] => {
            host.send(ShardId(shard.parse().unwrap()), Box::new(command.to_owned()));
        }
        ["publish", topic] => {
            let id = host.message_id();
            let payload = Bytes::from_static(b"plain");
            let message = Message::new(id, topic, payload, QoS::AtLeastOnce, host.now());
            host.publish(Arc::new(message));
        }
        // end <place of the session>
        ["end", session] => {
            let (_, session) = book.sessions[session.parse::<usize>().unwrap()];
            let known = host.end_session(session);
            book.told.push(format!("ends {known}"));
        }
        _ => panic!("{command}"),
    }
}

impl Service for Double {
    fn roots(&self) -> &'static [&'static str] {
        &["svc"]
    }

    fn subscribe(&self, _: &Client<'_>, filter: &TopicFilter) -> Result<(), ReasonCode> {
        match filter.as_str() {
            "svc/secret" => Err(ReasonCode::NotAuthorized),
            _ => Ok(()),
        }
    }

    fn handle(&mut self, event: ServiceEvent<'_>, host: &mut dyn Host) {
        let mut book = self.0.lock().unwrap();
        match event {
            ServiceEvent::Published { session, client, publish, token } => {
                let payload = std::str::from_utf8(publish.payload).unwrap();
                if publish.topic == "svc/do" {
                    perform(&mut book, payload, host);
                    return;
                }
                let whose = if session.is_some() { "" } else { "will of " };
                let line = format!("published {whose}{} {payload}", client.client_id);
                book.told.push(line);
                if let Some(token) = token {
                    book.tokens.push((host.shard(), token));
                    if book.prompt {
                        let properties = Bytes::new();
                        host.answer(token, Answer { reason: ReasonCode::Success, properties });
                    }
                }
            }
            ServiceEvent::Connected {
                session,
                client,
                persistent,
                resumed,
                in_flight,
                user_properties,
            } => {
                let said = user_properties.user_properties();
                let said =
                    said.map(|(name, value)| format!("{} says {name}={value}", client.client_id));
                book.told.extend(said);
                book.sessions.push((host.shard(), session));
                let tags: Vec<u64> = in_flight.iter().map(|tag| tag.seq).collect();
                let line =
                    format!("connected {} {persistent} {resumed} {tags:?}", client.client_id);
                book.told.push(line);
            }
            ServiceEvent::Disconnected { client, how, .. } => {
                book.told.push(format!("disconnected {} {how:?}", client.client_id));
            }
            ServiceEvent::SessionEnded { client, .. } => {
                book.told.push(format!("ended {}", client.client_id));
            }
            ServiceEvent::Subscribed { filter, qos, new, .. } => {
                book.told.push(format!("subscribed {} {qos:?} {new}", filter.as_str()));
            }
            ServiceEvent::Unsubscribed { filter, .. } => {
                book.told.push(format!("unsubscribed {}", filter.as_str()));
            }
            ServiceEvent::Acknowledged { tag, reason, .. } => {
                book.told.push(format!("acknowledged {} {:02x}", tag.seq, reason.as_u8()));
            }
            ServiceEvent::Room { .. } => book.told.push("room".to_owned()),
            ServiceEvent::Peer { from, message } => {
                let text = message.downcast::<String>().unwrap();
                let line = format!("peer {} on {}: {text}", from.0, host.shard().0);
                book.told.push(line);
                let back: Box<dyn Any + Send> = Box::new("back".to_owned());
                if *text != "back" {
                    host.send(from, back);
                }
            }
            ServiceEvent::Started
            | ServiceEvent::Stored(_)
            | ServiceEvent::Rows { .. }
            | ServiceEvent::TimedOut => {}
            #[expect(unreachable_patterns, reason = "events may be added")]
            _ => {}
        }
    }

    fn next_timeout(&self) -> Option<Time> {
        None
    }
}

struct Stage {
    broker: Cluster,
    factory: Factory,
}

impl Stage {
    fn new(shards: u16) -> Self {
        let factory = Factory::default();
        let services: Vec<Arc<dyn ServiceFactory>> = vec![Arc::new(factory.clone())];
        let hooks = Hooks { services, ..Hooks::default() };
        Self { broker: Cluster::with(shards, Limits::default(), hooks), factory }
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.factory.0.lock().unwrap().told)
    }

    fn command(&mut self, link: Link, command: &str) {
        self.broker.publish(link, &message("svc/do", command, 0, 0));
    }
}

#[test]
fn service_answers_in_the_order_of_the_requests() {
    let mut stage = Stage::new(2);
    let alice = stage.broker.join(&v5("alice"));
    stage.told();
    stage.broker.publish(alice, &message("svc/in", "1", 1, 1));
    stage.broker.publish(alice, &message("plain", "2", 1, 2));
    stage.broker.publish(alice, &message("svc/in", "3", 2, 3));
    stage.broker.publish(alice, &message("svc/in", "4", 0, 0));
    let expected = ["published alice 1", "published alice 3", "published alice 4"];
    assert_eq!(stage.told(), expected);
    stage.command(alice, "answer 1 0");
    assert!(stage.broker.received(alice).is_empty());
    stage.command(alice, "answer 0 151");
    assert_eq!(stage.broker.received(alice), ["PUBACK 1 97", "PUBACK 2 10", "PUBREC 3"]);
    // A repeat is known as one, and an answer given twice goes nowhere.
    stage.broker.publish(alice, &message("svc/in", "3", 2, 3).again());
    stage.command(alice, "answer 0 0");
    stage.broker.pubrel(alice, 3);
    assert_eq!(stage.broker.received(alice), ["PUBREC 3", "PUBCOMP 3"]);
    assert!(stage.told().is_empty());
}

#[test]
fn answer_to_a_connection_that_is_over_is_ignored_and_the_question_asked_again() {
    for takeover in [false, true] {
        let mut stage = Stage::new(1);
        let alice = stage.broker.join(&lasting("alice", 100));
        stage.broker.publish(alice, &message("svc/in", "1", 2, 1));
        if !takeover {
            stage.broker.lose(alice);
        }
        let alice = stage.broker.join(&lasting("alice", 100));
        stage.told();
        stage.broker.publish(alice, &message("svc/in", "1", 2, 1).again());
        assert_eq!(stage.told(), ["published alice 1"]);
        stage.command(alice, "answer 0 0");
        assert!(stage.broker.received(alice).is_empty());
        stage.command(alice, "answer 1 0");
        assert_eq!(stage.broker.received(alice), ["PUBREC 1"]);
        // What was answered stays known over the next connection.
        stage.broker.lose(alice);
        let alice = stage.broker.join(&lasting("alice", 100));
        stage.told();
        stage.broker.publish(alice, &message("svc/in", "1", 2, 1).again());
        assert_eq!(stage.broker.received(alice), ["PUBREC 1"]);
        assert!(stage.told().is_empty());
    }
}

#[test]
fn deliveries_come_back_by_their_tags() {
    let mut stage = Stage::new(2);
    let bob = stage.broker.join(&lasting("bob", 100));
    stage.command(bob, "deliver 0 1 1 1");
    assert_eq!(stage.told(), ["connected bob true false []", "1 NotSubscribed"]);
    stage.broker.subscribe(bob, 1, &[filter("svc/#", 2), filter("svc/secret", 1)]);
    assert_eq!(stage.told(), ["subscribed svc/# ExactlyOnce true"]);
    stage.command(bob, "deliver 0 1 1 1");
    stage.command(bob, "deliver 0 2 2 2");
    let expected = [
        "SUBACK 1 [02, 87]",
        "PUBLISH q1 1 svc/out=1",
        "PUBLISH q2 2 svc/out=2",
        "PUBLISH q2 3 svc/out=3",
    ];
    assert_eq!(stage.broker.received(bob), expected);
    let refusal = Ack { reason: ReasonCode::QuotaExceeded, ..Ack::success(packet_id(1)) };
    stage.broker.send(bob, &Packet::Puback(refusal));
    stage.broker.pubrec(bob, 2);
    assert_eq!(stage.told(), ["acknowledged 1 97"]);
    stage.broker.pubcomp(bob, 2);
    assert_eq!(stage.told(), ["acknowledged 2 00"]);
    let refusal = Ack { reason: ReasonCode::NotAuthorized, ..Ack::success(packet_id(3)) };
    stage.broker.send(bob, &Packet::Pubrec(refusal));
    assert_eq!(stage.told(), ["acknowledged 3 87"]);
}

#[test]
fn resumed_session_tells_what_is_in_flight_and_its_subscriptions() {
    for crash in [false, true] {
        let mut stage = Stage::new(1);
        let options = lasting("bob", 100).with(Property::ReceiveMaximum(2));
        let bob = stage.broker.join(&options);
        stage.broker.listen(bob, "svc/#", 1);
        stage.command(bob, "deliver 0 1 1 4");
        assert_eq!(stage.broker.received(bob).len(), 2);
        stage.broker.lose(bob);
        stage.told();
        if crash {
            stage.broker.crash();
        }
        let bob = stage.broker.join(&options);
        let expected = ["connected bob true true [1, 2]", "subscribed svc/# AtLeastOnce false"];
        assert_eq!(stage.told(), expected);
        let expected = ["PUBLISH q1 1 dup svc/out=1", "PUBLISH q1 2 dup svc/out=2"];
        assert_eq!(stage.broker.received(bob), expected);
        stage.broker.puback(bob, 1);
        assert_eq!(stage.told(), ["acknowledged 1 00"]);
        // What was queued and not sent is forgotten: the service delivers it again.
        assert!(stage.broker.received(bob).is_empty());
    }
}

#[test]
fn session_that_a_service_ends_is_closed_and_gone_connected_or_not() {
    for connected in [true, false] {
        let mut stage = Stage::new(1);
        let bob = stage.broker.join(&lasting("bob", 100));
        let alice = stage.broker.join(&lasting("alice", 100));
        stage.broker.listen(bob, "svc/#", 1);
        if !connected {
            stage.broker.lose(bob);
        }
        stage.broker.received(bob);
        stage.told();
        stage.command(alice, "end 0");
        let told = stage.told();
        assert!(told.contains(&"ends true".to_owned()), "{told:?}");
        assert!(told.iter().any(|line| line.starts_with("ended bob")), "{told:?}");
        if connected {
            assert_eq!(stage.broker.received(bob), ["DISCONNECT 98"]);
        }
        stage.command(alice, "end 0");
        assert_eq!(stage.told(), ["ends false"]);
        stage.broker.crash();
        stage.broker.join(&lasting("bob", 100));
        assert_eq!(stage.told(), ["connected bob true false []"], "it is a new one");
    }
}

#[test]
fn full_session_has_room_again_later() {
    let mut stage = Stage::new(1);
    let bob = stage.broker.join(&v5("bob").with(Property::ReceiveMaximum(1)));
    stage.broker.listen(bob, "svc/#", 1);
    stage.told();
    stage.command(bob, "deliver 0 1 1 100");
    assert_eq!(stage.told(), ["66 Full"]);
    let mut told = Vec::new();
    for id in 1..=65 {
        stage.broker.puback(bob, id);
        told.extend(stage.told().into_iter().filter(|line| line == "room"));
    }
    assert_eq!(told, ["room"]);
    stage.broker.congest(bob, true);
    stage.command(bob, "deliver 0 1 200 1");
    assert_eq!(stage.told(), ["200 Full"]);
    stage.broker.congest(bob, false);
    assert_eq!(stage.told(), ["room"]);
}

#[test]
fn delivery_too_large_for_the_client_is_said_to_be() {
    let mut stage = Stage::new(1);
    let bob = stage.broker.join(&v5("bob").with(Property::MaximumPacketSize(20)));
    stage.broker.listen(bob, "svc/#", 1);
    stage.told();
    stage.command(bob, "deliver 0 1 1 1");
    stage.command(bob, "deliver 0 1 1000000000000000000 1");
    assert_eq!(stage.told(), ["1000000000000000000 TooLarge"]);
    assert_eq!(stage.broker.received(bob), ["PUBLISH q1 1 svc/out=1"]);
}

#[test]
fn session_events_come_in_order_and_once() {
    let mut stage = Stage::new(1);
    let bob = stage.broker.join(&lasting("bob", 100).will("svc/in", "gone", 1, 0));
    stage.broker.listen(bob, "svc/a", 0);
    stage.broker.unsubscribe(bob, 2, &["svc/a"]);
    let new = stage.broker.join(&lasting("bob", 100));
    stage.broker.lose(new);
    stage.broker.advance(100);
    let expected = [
        "connected bob true false []",
        "subscribed svc/a AtMostOnce true",
        "unsubscribed svc/a",
        "disconnected bob TakenOver",
        "published will of bob gone",
        "connected bob true true []",
        "disconnected bob Abrupt",
        "ended bob",
    ];
    assert_eq!(stage.told(), expected);
    // Of a connection that never had its CONNACK nobody hears.
    stage.broker.lazy();
    let bob = stage.broker.connect(&lasting("bob", 100));
    stage.broker.lose(bob);
    assert!(stage.told().is_empty());
}

#[test]
fn what_a_connect_says_in_user_properties_is_told_with_that_connection_only() {
    let mut stage = Stage::new(1);
    let says = lasting("bob", 100).with(Property::UserProperty("batch", "1"));
    let bob = stage.broker.join(&says.with(Property::UserProperty("x", "")));
    stage.broker.lose(bob);
    stage.broker.join(&lasting("bob", 100));
    let expected = [
        "bob says batch=1",
        "bob says x=",
        "connected bob true false []",
        "disconnected bob Abrupt",
        "connected bob true true []",
    ];
    assert_eq!(stage.told(), expected);
}

#[test]
fn services_talk_across_shards_and_with_themselves() {
    let mut stage = Stage::new(2);
    let name = stage.broker.name_on("alice", 0);
    let alice = stage.broker.join(&v5(&name));
    stage.told();
    stage.command(alice, "tell 1");
    assert_eq!(stage.told(), ["peer 0 on 1: tell 1", "peer 1 on 0: back"]);
    stage.command(alice, "tell 0");
    assert_eq!(stage.told(), ["peer 0 on 0: tell 0", "peer 0 on 0: back"]);
}

#[test]
fn service_publishes_plain_messages_but_none_to_services() {
    let mut stage = Stage::new(2);
    let bob = stage.broker.join(&v5("bob"));
    stage.broker.listen(bob, "#", 1);
    stage.broker.listen(bob, "svc/#", 1);
    stage.command(bob, "publish plain");
    stage.command(bob, "publish svc/x");
    assert_eq!(stage.broker.received(bob), ["PUBLISH q1 1 plain=plain"]);
    stage.broker.publish(bob, &message("svc/in", "not routed", 1, 1));
    assert!(stage.broker.received(bob).is_empty());
}

#[test]
fn service_is_asked_by_an_alias_as_by_the_topic() {
    let mut stage = Stage::new(2);
    let alice = stage.broker.join(&v5("alice"));
    stage.told();
    let alias = Property::TopicAlias(1);
    stage.broker.publish(alice, &message("svc/in", "1", 1, 1).with(alias));
    stage.broker.publish(alice, &message("", "2", 1, 2).with(alias));
    assert_eq!(stage.told(), ["published alice 1", "published alice 2"]);
}

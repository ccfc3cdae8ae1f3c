//! Sends: durable before they are taken, repeated with their id until answered.

use crate::fake::{Broker, Said, TempDir, client, soon};
use std::time::Duration;
use tidings_client::transport::{Lost, Opened};
use tidings_client::{Client, ConnectError, Event, NotStored, OutboxError, SendError};

fn id_of(topic: &str) -> &str {
    topic.strip_prefix("chat/@bob/send/").expect(topic)
}

#[tokio::test]
async fn puback_with_seq_completes_stored() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let publish = connection.published().await;
    assert_eq!(id_of(&publish.topic), sent.id());
    assert_eq!(publish.payload, "hello");
    connection.puback(publish.token, 0, &[("seq", "7")]);
    assert_eq!(soon(sent.stored()).await, Ok(7));
    assert_eq!(client.unanswered(), 0);
}

#[tokio::test]
async fn puback_without_seq_is_a_hint_and_the_ack_message_completes_stored() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let publish = connection.published().await;
    connection.puback(publish.token, 0, &[]);
    connection.settled().await;
    assert_eq!(client.unanswered(), 1);
    let ack = format!(r#"{{"id":"{}","seq":3,"time":9}}"#, sent.id());
    connection.receive("me/json/@bob/ack", &ack, Some(1));
    assert_eq!(connection.said().await, Said::Acknowledge(1));
    assert_eq!(soon(sent.stored()).await, Ok(3));
}

#[tokio::test]
async fn error_message_completes_stored_with_its_code() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let publish = connection.published().await;
    let error = format!(r#"{{"id":"{}","code":"forbidden","text":"blocked"}}"#, sent.id());
    connection.receive("me/json/@bob/error", &error, Some(1));
    connection.puback(publish.token, 0x87, &[]);
    let (code, text) = ("forbidden".to_owned(), "blocked".to_owned());
    let refused = NotStored::Refused { code, text, retry_after: None };
    assert_eq!(soon(sent.stored()).await, Err(refused));
    assert_eq!(client.unanswered(), 0);
}

#[tokio::test]
async fn negative_puback_alone_completes_stored_with_a_code() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let publish = connection.published().await;
    connection.puback(publish.token, 0x99, &[]);
    let refused = soon(sent.stored()).await.unwrap_err();
    assert!(matches!(refused, NotStored::Refused { code, .. } if code == "format"));
}

#[tokio::test]
async fn busy_broker_whose_puback_comes_before_its_details_loses_no_send() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let first = connection.published().await;
    connection.puback(first.token, 0x83, &[]);
    let id = sent.id();
    let error = format!(r#"{{"id":"{id}","code":"unavailable","text":"busy","retry_after":1}}"#);
    connection.receive("me/json/@bob/error", &error, Some(1));
    assert_eq!(connection.said().await, Said::Acknowledge(1));
    let again = connection.published().await;
    assert_eq!(again.topic, first.topic);
    connection.puback(again.token, 0, &[("seq", "1")]);
    assert_eq!(soon(sent.stored()).await, Ok(1));
}

#[tokio::test]
async fn passing_refusal_without_details_is_repeated_after_a_while() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let first = connection.published().await;
    // From here on no file is waited for, so the clock may jump.
    tokio::time::pause();
    connection.puback(first.token, 0x83, &[]);
    let again = connection.published().await;
    assert_eq!(again.topic, first.topic);
    connection.puback(again.token, 0, &[("seq", "1")]);
    assert_eq!(soon(sent.stored()).await, Ok(1));
}

#[tokio::test]
async fn refusal_that_names_its_code_and_no_time_is_final_at_once() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let publish = connection.published().await;
    // Nothing is to be waited for, and the clock does not move.
    tokio::time::pause();
    let asked = tokio::time::Instant::now();
    connection.puback(publish.token, 0x80, &[("code", "unavailable")]);
    let refused = soon(sent.stored()).await.unwrap_err();
    assert!(matches!(refused, NotStored::Refused { code, .. } if code == "unavailable"));
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn refusal_told_by_puback_and_message_postpones_once() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut events = client.events();
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let first = connection.published().await;
    connection.puback(first.token, 0x80, &[("code", "unavailable"), ("retry_after", "300")]);
    let id = sent.id();
    let error = format!(r#"{{"id":"{id}","code":"unavailable","text":"busy","retry_after":300}}"#);
    connection.receive("me/json/@bob/error", &error, Some(1));
    assert_eq!(connection.said().await, Said::Acknowledge(1));
    let again = connection.published().await;
    assert_eq!(again.topic, first.topic);
    connection.puback(again.token, 0, &[("seq", "1")]);
    assert_eq!(soon(sent.stored()).await, Ok(1));
    soon(client.close()).await;
    let mut postponed = 0;
    while let Some(event) = soon(events.next()).await {
        postponed += usize::from(matches!(event, Event::Postponed { .. }));
    }
    assert_eq!(postponed, 1);
}

#[tokio::test]
async fn limit_is_repeated_with_the_same_id() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    let first = connection.published().await;
    connection.puback(first.token, 0x97, &[("code", "limit"), ("retry_after", "1")]);
    let again = connection.published().await;
    assert_eq!(again.topic, first.topic);
    connection.puback(again.token, 0, &[("seq", "1")]);
    assert_eq!(soon(sent.stored()).await, Ok(1));
}

#[tokio::test]
async fn reconnect_sends_the_unanswered_again_in_order_with_the_same_ids() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    let chat = client.chat("@bob").unwrap();
    let mut sent = Vec::new();
    let mut topics = Vec::new();
    for i in 0..5 {
        sent.push(chat.send(format!("{i}")).await.unwrap());
        let publish = connection.published().await;
        if i == 1 {
            connection.puback(publish.token, 0, &[("seq", "2")]);
        } else {
            topics.push(publish.topic);
        }
    }
    assert_eq!(soon(sent.remove(1).stored()).await, Ok(2));
    drop(connection);

    let mut connection = broker.open().await;
    for (topic, sent) in topics.iter().zip(sent) {
        let again = connection.published().await;
        assert_eq!(again.topic, *topic);
        connection.puback(again.token, 0, &[("seq", "9")]);
        assert_eq!(soon(sent.stored()).await, Ok(9));
    }
    assert_eq!(connection.settled().await, []);
}

#[tokio::test]
async fn window_bounds_what_is_unanswered_and_the_outbox_takes_the_rest() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let opened = Opened { session_present: false, receive_maximum: 4 };
    let mut connection = broker.open_with(opened).await;
    let chat = client.chat("@bob").unwrap();
    for i in 0..10 {
        let _ = chat.send(format!("{i}")).await.unwrap();
    }
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(connection.published().await);
    }
    assert_eq!(connection.settled().await, []);
    connection.puback(first[0].token, 0, &[("seq", "1")]);
    assert_eq!(connection.published().await.payload, "3");
    assert_eq!(connection.settled().await, []);
}

#[tokio::test]
async fn send_of_an_earlier_run_is_sent_by_the_next_with_its_id() {
    let dir = TempDir::new();
    let (first, _broker) = client(&dir).await;
    // Nobody answers: offline from the start.
    let sent = first.chat("@bob").unwrap().send("hello").await.unwrap();
    let id = sent.id().to_owned();
    soon(first.close()).await;
    assert_eq!(soon(sent.stored()).await, Err(NotStored::Closed));

    let (second, broker) = client(&dir).await;
    assert_eq!(second.unanswered(), 1);
    let mut events = second.events();
    let mut connection = broker.open().await;
    let publish = connection.published().await;
    assert_eq!((id_of(&publish.topic), &publish.payload[..]), (id.as_str(), &b"hello"[..]));
    connection.puback(publish.token, 0, &[("seq", "1")]);
    loop {
        match soon(events.next()).await.unwrap() {
            Event::Stored { chat, id: stored, seq } => {
                assert_eq!((chat.as_str(), stored.as_str(), seq), ("@bob", id.as_str(), 1));
                break;
            }
            Event::Connected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    soon(second.close()).await;
    let (third, _broker) = client(&dir).await;
    assert_eq!(third.unanswered(), 0);
}

#[tokio::test]
async fn client_refuses_what_it_cannot_keep() {
    let dir = TempDir::new();
    let (_broker, transport) = Broker::new();
    let options = dir.options().outbox_max(2, 1 << 20).payload_bytes_max(10);
    let client = Client::connect_with(transport, options).await.unwrap();
    let chat = client.chat("@bob").unwrap();
    let too_large = chat.send("12345678901").await.unwrap_err();
    assert_eq!(too_large, SendError::TooLarge { bytes: 11, max: 10 });
    let _ = chat.send("1").await.unwrap();
    let _ = chat.send("2").await.unwrap();
    assert!(matches!(chat.send("3").await, Err(SendError::OutboxFull { sends: 2, .. })));

    let (_broker, transport) = Broker::new();
    let second = Client::connect_with(transport, dir.options()).await.unwrap_err();
    assert!(matches!(second, ConnectError::Outbox(OutboxError::InUse { .. })));
    soon(client.close()).await;
    assert!(matches!(chat.send("4").await, Err(SendError::Closed)));
}

#[tokio::test]
async fn refused_connection_is_told_and_tried_again() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut events = client.events();
    let lost = Lost::Refused { reason: "wrong user name or password".to_owned() };
    broker.refuse(lost.clone());
    let Some(Event::Disconnected { reason, retry_in }) = soon(events.next()).await else {
        panic!()
    };
    assert_eq!(reason, lost);
    assert!(retry_in.unwrap() <= Duration::from_millis(4));
    let _connection = broker.open().await;
    assert_eq!(soon(events.next()).await, Some(Event::Connected { session_present: true }));
}

#[tokio::test]
async fn dropping_the_last_handle_disconnects() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    drop(client);
    assert_eq!(connection.said().await, Said::Disconnect);
}

#[tokio::test]
async fn names_that_would_be_other_topics_are_refused() {
    let dir = TempDir::new();
    let (client, _broker) = client(&dir).await;
    for bad in ["", "@", "a/b", "#", "@+", "a b", "@@bob", "$sys"] {
        assert!(client.chat(bad).is_err(), "{bad:?}");
    }
    for good in ["@bob", "climbing", "~9Zk1", "!news", "@~9Zk1.1"] {
        assert!(client.chat(good).is_ok(), "{good:?}");
    }
    assert!(client.presence("+").is_err());
}

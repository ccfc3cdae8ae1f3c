//! Entries, ticks, presence: what comes in, and when it is acknowledged.

use crate::fake::{Broker, Connection, Said, TempDir, client, soon};
use tidings_client::transport::Opened;
use tidings_client::{Body, Client, Event, PresenceState, Receipt};

#[tokio::test]
async fn entry_is_acknowledged_when_the_next_is_asked_for() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut messages = client.chat("@bob").unwrap().messages();
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.entry("@bob", 2, 12);
    let first = soon(messages.next()).await.unwrap();
    assert_eq!((first.seq, first.body), (1, Body::Text("text 1".to_owned())));
    assert_eq!(connection.settled().await, []);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 2);
    assert_eq!(connection.said().await, Said::Acknowledge(11));
    messages.taken();
    assert_eq!(connection.said().await, Said::Acknowledge(12));
}

#[tokio::test]
async fn entry_sent_again_on_a_new_connection_is_given_once() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut messages = client.messages();
    let mut connection = broker.open().await;
    for seq in 1..=3_u16 {
        connection.entry("@bob", seq.into(), 10 + seq);
    }
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 2);
    assert_eq!(connection.said().await, Said::Acknowledge(11));
    drop(connection);

    // The acknowledgement of 1 was lost; 2 is still being dealt with; 3 only waits.
    let mut connection = broker.open().await;
    for seq in 1..=3_u16 {
        connection.entry("@bob", seq.into(), 20 + seq);
    }
    assert_eq!(connection.said().await, Said::Acknowledge(21));
    assert_eq!(connection.settled().await, []);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 3);
    assert_eq!(connection.said().await, Said::Acknowledge(22));
    messages.taken();
    assert_eq!(connection.said().await, Said::Acknowledge(23));
}

#[tokio::test]
async fn entry_taken_while_offline_is_acknowledged_when_it_comes_again() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut messages = client.messages();
    let mut events = client.events();
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.settled().await;
    drop(connection);
    while !matches!(soon(events.next()).await, Some(Event::Disconnected { .. })) {}
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
    messages.taken();
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 21);
    assert_eq!(connection.said().await, Said::Acknowledge(21));
    connection.entry("@bob", 2, 22);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 2);
}

#[tokio::test]
async fn packet_of_an_earlier_connection_is_not_acknowledged_on_the_present_one() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut messages = client.messages();
    let connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
    drop(connection);
    let mut connection = broker.open().await;
    messages.taken();
    assert_eq!(connection.settled().await, [], "11 may name another packet by now");
    connection.entry("@bob", 1, 21);
    assert_eq!(connection.said().await, Said::Acknowledge(21));
}

#[tokio::test]
async fn entry_not_dealt_with_goes_to_the_next_stream() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let chat = client.chat("@bob").unwrap();
    let mut messages = chat.messages();
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.entry("@bob", 2, 12);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
    drop(messages);
    let mut messages = chat.messages();
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 2);
    assert_eq!(connection.said().await, Said::Acknowledge(11));
}

#[tokio::test]
async fn chat_with_a_stream_of_its_own_is_kept_from_the_clients_stream() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut bob = client.chat("@bob").unwrap().messages();
    let mut rest = client.messages();
    let connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.entry("@carol", 1, 12);
    assert_eq!(soon(rest.next()).await.unwrap().chat, "@carol");
    assert_eq!(soon(bob.next()).await.unwrap().chat, "@bob");
    connection.entry("@bob", 2, 13);
    assert_eq!(soon(bob.next()).await.unwrap().seq, 2);
    drop(bob);
    assert_eq!(soon(rest.next()).await.unwrap().seq, 2, "given back to the client's stream");
}

#[tokio::test]
async fn newer_stream_of_a_chat_ends_the_older() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let chat = client.chat("@bob").unwrap();
    let mut older = chat.messages();
    let mut newer = chat.messages();
    let connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    assert_eq!(soon(older.next()).await, None);
    assert_eq!(soon(newer.next()).await.unwrap().seq, 1);
}

#[tokio::test]
async fn newer_stream_of_the_client_begins_with_what_the_older_holds() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut older = client.messages();
    let connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.entry("@bob", 2, 12);
    assert_eq!(soon(older.next()).await.unwrap().seq, 1);
    let mut newer = client.messages();
    assert_eq!(soon(newer.next()).await.unwrap().seq, 1, "not 2 before 1");
}

#[tokio::test]
async fn unclaimed_chat_is_told_and_its_entries_wait() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut events = client.events();
    let mut connection = broker.open().await;
    connection.entry("@carol", 1, 11);
    connection.entry("@carol", 2, 12);
    assert_eq!(connection.settled().await, [], "not acknowledged");
    assert!(matches!(soon(events.next()).await, Some(Event::Connected { .. })));
    let unclaimed = Event::Unclaimed { chat: "@carol".to_owned() };
    assert_eq!(soon(events.next()).await, Some(unclaimed));
    let mut messages = client.messages();
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
}

#[tokio::test]
async fn broker_that_passes_over_the_receive_maximum_is_left() {
    let dir = TempDir::new();
    let (broker, transport) = Broker::new();
    let options = dir.options().receive_maximum(2);
    let client = Client::connect_with(transport, options).await.unwrap();
    let mut events = client.events();
    let connection = broker.open().await;
    for seq in 1..=3_u16 {
        connection.entry("@bob", seq.into(), seq);
    }
    let mut saw = soon(events.next()).await;
    while !matches!(saw, Some(Event::Disconnected { .. })) {
        saw = soon(events.next()).await;
    }
    let connection = broker.open().await;
    let mut messages = client.messages();
    for seq in 1..=3_u16 {
        connection.entry("@bob", seq.into(), seq);
        assert_eq!(soon(messages.next()).await.unwrap().seq, u64::from(seq), "nothing was lost");
    }
}

#[tokio::test]
async fn unreadable_entry_is_told_and_does_not_block() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut events = client.events();
    let mut connection = broker.open().await;
    connection.receive("me/json/@bob/message", "nonsense", Some(5));
    assert_eq!(connection.said().await, Said::Acknowledge(5));
    assert!(matches!(soon(events.next()).await, Some(Event::Connected { .. })));
    assert!(matches!(soon(events.next()).await, Some(Event::Unreadable { .. })));
}

#[tokio::test]
async fn receipts_of_one_user_wait_as_one() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut receipts = client.receipts();
    let mut connection = broker.open().await;
    for (delivered, read) in [(1, 0), (5, 2), (4, 3)] {
        let json = format!(r#"{{"user":"bob","delivered":{delivered},"read":{read}}}"#);
        connection.receive("me/json/@bob/receipt", &json, None);
    }
    connection.settled().await;
    let (chat, user) = ("@bob".to_owned(), "bob".to_owned());
    let expected = Receipt::User { chat, user, delivered: 5, read: 3, failed: Vec::new() };
    assert_eq!(soon(receipts.next()).await, Some(expected));
}

#[tokio::test]
async fn presence_of_a_lower_epoch_is_never_reported_after_a_higher() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut bob = client.presence("bob").unwrap();
    let mut connection = broker.open().await;
    assert_eq!(connection.said().await, Said::Subscribe("presence/bob".to_owned(), true));
    let say = |connection: &Connection, state: &str, epoch: u64| {
        let json = format!(r#"{{"state":"{state}","last_seen":7,"epoch":{epoch}}}"#);
        connection.receive("presence/bob", &json, None);
    };
    say(&connection, "online", 5);
    let first = soon(bob.next()).await.unwrap();
    assert_eq!((first.state, first.epoch), (PresenceState::Online, 5));
    // On its own, or the newer value would hide it.
    say(&connection, "offline", 4);
    connection.settled().await;
    tokio::select! {
        biased;
        reported = bob.next() => panic!("{reported:?}"),
        () = std::future::ready(()) => {}
    }
    say(&connection, "away", 5);
    let next = soon(bob.next()).await.unwrap();
    assert_eq!((next.state, next.epoch), (PresenceState::Away, 5));

    // A late listener hears the present value; the last one to go ends the subscription.
    let mut late = client.presence("bob").unwrap();
    assert_eq!(soon(late.next()).await.unwrap().state, PresenceState::Away);
    drop(bob);
    assert_eq!(connection.settled().await, []);
    drop(late);
    assert_eq!(connection.said().await, Said::Subscribe("presence/bob".to_owned(), false));
}

#[tokio::test]
async fn presence_is_subscribed_again_on_a_new_connection() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let _bob = client.presence("bob").unwrap();
    let mut connection = broker.open().await;
    assert_eq!(connection.said().await, Said::Subscribe("presence/bob".to_owned(), true));
    drop(connection);
    let mut connection = broker.open().await;
    assert_eq!(connection.said().await, Said::Subscribe("presence/bob".to_owned(), true));
}

#[tokio::test]
async fn read_positions_become_one_and_are_repeated_until_acknowledged() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let chat = client.chat("@bob").unwrap();
    for seq in [3, 9, 5] {
        chat.mark_read(seq).unwrap();
    }
    let mut connection = broker.open().await;
    let publish = connection.published().await;
    assert_eq!((publish.topic.as_str(), &publish.payload[..]), ("chat/@bob/read", &b"9"[..]));
    chat.mark_read(12).unwrap();
    assert_eq!(connection.settled().await, [], "one of a chat at a time");
    connection.puback(publish.token, 0, &[]);
    let publish = connection.published().await;
    assert_eq!(publish.payload, "12");
    drop(connection);
    let opened = Opened { session_present: true, receive_maximum: 1 };
    let mut connection = broker.open_with(opened).await;
    let publish = connection.published().await;
    assert_eq!(publish.payload, "12");
    connection.puback(publish.token, 0, &[]);
    assert_eq!(connection.settled().await, []);
}

#[tokio::test]
async fn closing_acknowledges_what_was_taken_and_ends_the_streams() {
    let dir = TempDir::new();
    let (client, broker) = client(&dir).await;
    let mut messages = client.messages();
    let mut events = client.events();
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
    messages.taken();
    soon(client.close()).await;
    assert_eq!(connection.already_said(), [Said::Acknowledge(11), Said::Disconnect]);
    assert_eq!(soon(messages.next()).await, None);
    while soon(events.next()).await.is_some() {}
}

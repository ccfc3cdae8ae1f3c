//! One client over a transport that the test holds: sends, entries, pages, presence, the end.

use crate::fake::{Connection, Said, TempDir, client, client_with, in_memory, soon};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidings_client::store::{Change, MemoryStore, Row, SledStore, Store};
use tidings_client::transport::{Happened, Lost};
use tidings_client::{
    Body, Client, ConnectError, EntryKind, Event, NotStored, PresenceState, SendError, SendOptions,
    State, StoreError, Ticks, Typing,
};

fn id_of(topic: &str) -> &str {
    topic.rsplit('/').next().unwrap()
}

async fn stored(connection: &mut Connection, seq: u64) -> String {
    let publish = connection.published().await;
    connection.puback(publish.token, 0, &[("seq", &seq.to_string()), ("time", "5")]);
    id_of(&publish.topic).to_owned()
}

#[tokio::test]
async fn send_is_published_with_its_id_and_stored_as_the_puback_says() {
    let (client, broker) = in_memory().await;
    let mut connection = broker.open().await;
    let options = SendOptions::default().content_type("text/markdown").reply_to(3);
    let sent = client.chat("@bob").unwrap().send_with("hello", options).await.unwrap();
    let publish = connection.published().await;
    assert_eq!(publish.topic, format!("chat/@bob/send/{}", sent.id()));
    assert_eq!((&publish.payload[..], publish.at_most_once), (&b"hello"[..], false));
    assert_eq!(publish.content_type.as_deref(), Some("text/markdown"));
    assert_eq!(publish.properties, [("ref".to_owned(), "3".to_owned())]);
    connection.puback(publish.token, 0, &[("seq", "7"), ("time", "5")]);
    assert_eq!(soon(sent.stored()).await, Ok(7));
    assert_eq!(client.unanswered(), 0);
}

#[tokio::test]
async fn what_is_sent_offline_goes_in_order_one_after_the_other_over_a_restart() {
    let dir = TempDir::new();
    let (first, _nobody) = client(&dir).await;
    for text in ["one", "two", "three"] {
        let _ = first.chat("@bob").unwrap().send(text).await.unwrap();
    }
    assert!(matches!(SledStore::open(&dir.0), Err(StoreError::InUse { .. })));
    first.close().await;
    let (client, broker) = client(&dir).await;
    assert_eq!(client.unanswered(), 3);
    let mut connection = broker.open().await;
    let first = connection.published().await;
    assert_eq!(first.payload, "one");
    assert_eq!(connection.settled().await, [], "the second waits for the answer to the first");
    drop(connection);
    let mut connection = broker.open_again(true).await;
    // The subscription was acknowledged and the chats are known: nothing is asked again.
    assert_eq!(connection.published().await.topic, first.topic, "the same id again");
    connection.puback(3, 0, &[]);
    drop(connection);
    let mut connection = broker.open_again(true).await;
    for (seq, text) in [(1, "one"), (2, "two"), (3, "three")] {
        let publish = connection.published().await;
        assert_eq!(publish.payload, text);
        connection.puback(publish.token, 0, &[("seq", &seq.to_string())]);
    }
    connection.settled().await;
    assert_eq!(client.unanswered(), 0);
    let page = client.chat("@bob").unwrap().page(None, 9).unwrap();
    let texts: Vec<_> = page.iter().map(|message| message.text().unwrap()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[tokio::test]
async fn refusal_for_good_is_told_and_one_that_passes_holds_up_its_chat_only() {
    let (client, broker) = in_memory().await;
    let mut connection = broker.open().await;
    let bob = client.chat("@bob").unwrap();
    let refused = bob.send("no").await.unwrap();
    let publish = connection.published().await;
    connection.puback(publish.token, 0x87, &[("code", "forbidden")]);
    let Err(NotStored::Refused(refusal)) = soon(refused.stored()).await else { panic!() };
    assert_eq!(refusal.code, "forbidden");
    // One that passes.
    let late = bob.send("late").await.unwrap();
    let next = bob.send("next").await.unwrap();
    let publish = connection.published().await;
    connection.puback(publish.token, 0x97, &[("code", "limit"), ("retry_after", "1")]);
    let other = client.chat("@carol").unwrap().send("at once").await.unwrap();
    let publish = connection.published().await;
    assert_eq!(publish.payload, "at once");
    connection.puback(publish.token, 0, &[("seq", "1")]);
    assert_eq!(soon(other.stored()).await, Ok(1));
    assert_eq!(stored(&mut connection, 1).await, late.id());
    assert_eq!(stored(&mut connection, 2).await, next.id());
    assert_eq!((soon(late.stored()).await, soon(next.stored()).await), (Ok(1), Ok(2)));
}

#[tokio::test]
async fn ack_and_error_messages_answer_where_no_puback_did() {
    let (client, broker) = in_memory().await;
    let mut connection = broker.open().await;
    let bob = client.chat("@bob").unwrap();
    let acked = bob.send("hello").await.unwrap();
    connection.published().await;
    let ack = format!(r#"{{"id":"{}","seq":3,"time":9}}"#, acked.id());
    connection.receive("me/json/@bob/ack", &ack, Some(1));
    assert_eq!(connection.said().await, Said::Acknowledge(1));
    assert_eq!(soon(acked.stored()).await, Ok(3));
    let refused = bob.send("hello").await.unwrap();
    connection.published().await;
    let error = format!(r#"{{"id":"{}","code":"ended","text":"over"}}"#, refused.id());
    connection.receive("me/json/@bob/error", &error, Some(2));
    assert!(soon(refused.stored()).await.is_err());
}

#[tokio::test]
async fn entry_is_acknowledged_once_it_is_stored_though_nobody_has_taken_it() {
    let dir = TempDir::new();
    let (first, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.entry("@bob", 2, 12);
    assert_eq!(connection.said().await, Said::Acknowledge(11));
    assert_eq!(connection.said().await, Said::Acknowledge(12));
    let mut messages = first.messages();
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 2);
    // 1 is dealt with, 2 is not: the program ends here.
    drop(messages);
    first.close().await;
    let (client, _broker) = client(&dir).await;
    assert_eq!(client.chats()[0].unread, 2);
    let mut messages = client.messages();
    let entry = soon(messages.next()).await.unwrap();
    assert_eq!((entry.seq, entry.body), (2, Body::Text("text 2".to_owned())));
}

#[tokio::test]
async fn entry_that_comes_twice_is_given_once_and_a_gap_is_asked_for() {
    let (client, broker) = in_memory().await;
    let mut connection = broker.open().await;
    let mut messages = client.messages();
    connection.entry("@bob", 1, 11);
    assert_eq!(connection.said().await, Said::Acknowledge(11));
    connection.entry("@bob", 1, 12);
    assert_eq!(connection.said().await, Said::Acknowledge(12));
    connection.entry("@bob", 4, 13);
    assert_eq!(connection.said().await, Said::Acknowledge(13));
    let asked = connection.published().await;
    assert_eq!(asked.topic, "chat/@bob/history");
    let json: serde_json::Value = serde_json::from_slice(&asked.payload).unwrap();
    assert_eq!((json["from"].as_u64(), json["to"].as_u64()), (Some(2), Some(3)));
    assert_eq!(soon(messages.next()).await.unwrap().seq, 1);
    connection.puback(asked.token, 0, &[]);
    let fields = r#""from":2,"to":3,"last":4,"gone":[[2,2]],
        "entries":[{"seq":3,"from":"bob","time":3,"id":"x","text":"text 3"}]"#;
    connection.answer(&asked, "me/json/@bob/history", fields).await;
    assert_eq!(soon(messages.next()).await.unwrap().seq, 3);
    assert_eq!(soon(messages.next()).await.unwrap().seq, 4);
}

#[tokio::test]
async fn chat_with_a_stream_of_its_own_is_kept_from_the_clients_stream() {
    let (client, broker) = in_memory().await;
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
    assert_eq!(soon(rest.next()).await.unwrap().seq, 2, "given back, not dealt with");
    let mut newer = client.messages();
    assert_eq!(soon(rest.next()).await, None, "a newer stream ends the older");
    assert_eq!(soon(newer.next()).await.unwrap().seq, 2);
}

#[tokio::test]
async fn page_has_edits_reactions_ticks_and_what_waits() {
    let (client, broker) = in_memory().await;
    let bob = client.chat("@bob").unwrap();
    let mut connection = broker.open().await;
    let mut changes = client.changes();
    let sent = bob.send("first").await.unwrap();
    stored(&mut connection, 1).await;
    soon(sent.stored()).await.unwrap();
    let entry = |seq, kind: &str, text: &str, about| {
        format!(
            r#"{{"seq":{seq},"from":"bob","time":9,"id":"i{seq}","text":"{text}","kind":"{kind}","ref":{about}}}"#
        )
    };
    connection.entry("@bob", 2, 11);
    connection.receive("me/json/@bob/message", &entry(3, "reaction", "👍", 1), Some(12));
    connection.receive("me/json/@bob/message", &entry(4, "edit", "better", 2), Some(13));
    connection.receive("me/json/@bob/message", &entry(5, "edit", "not his", 1), Some(14));
    let receipt = r#"{"user":"bob","delivered":5,"read":0}"#;
    connection.receive("me/json/@bob/receipt", receipt, None);
    connection.settled().await;
    drop(connection);
    let _ = bob.send("waits").await.unwrap();
    let page = bob.page(None, 9).unwrap();
    let shown: Vec<_> = page
        .iter()
        .map(|message| (message.seq, message.text().unwrap(), message.edited, message.ticks))
        .collect();
    let expected = [
        (1, "first", false, Ticks::Delivered),
        (2, "better", true, Ticks::None),
        (0, "waits", false, Ticks::Waiting),
    ];
    assert_eq!(shown, expected);
    assert_eq!(page[0].reactions["bob"], "👍");
    assert_eq!(bob.page(Some(2), 9).unwrap().len(), 1);
    let standing = bob.standing();
    assert_eq!((standing.unread, standing.last, standing.waiting), (1, 5, 1));
    assert_eq!(soon(changes.next()).await.unwrap().chat, "@bob");

    // What is deleted goes.
    let mut connection = broker.open_again(true).await;
    connection.receive("me/json/@bob/message", &entry(6, "delete", "everyone", 2), Some(15));
    connection.settled().await;
    assert_eq!(bob.page(None, 9).unwrap().len(), 2);
    assert_eq!(bob.standing().unread, 0);
}

#[tokio::test]
async fn history_comes_from_the_broker_once_and_from_here_from_then_on() {
    let (client, broker) = in_memory().await;
    let mut connection = broker.open().await;
    connection.entry("@bob", 9, 11);
    connection.settled().await;
    let bob = client.chat("@bob").unwrap();
    let asking = tokio::spawn({
        let bob = bob.clone();
        async move { bob.history(Some(9), 3).await }
    });
    let asked = connection.published().await;
    let json: serde_json::Value = serde_json::from_slice(&asked.payload).unwrap();
    assert_eq!((json["from"].as_u64(), json["to"].as_u64()), (Some(6), Some(8)));
    connection.puback(asked.token, 0, &[]);
    let fields = r#""from":6,"to":8,"last":9,"gone":[[6,7]],
        "entries":[{"seq":8,"from":"alice","time":3,"id":"x","text":"mine"}]"#;
    connection.answer(&asked, "me/json/@bob/history", fields).await;
    let page = soon(asking).await.unwrap().unwrap();
    assert_eq!((page.len(), page[0].seq, page[0].ticks), (1, 8, Ticks::Stored));
    assert_eq!(soon(bob.history(Some(9), 3)).await.unwrap(), page);
    assert_eq!(connection.settled().await, [], "nothing is asked again");
    // What was scrolled back to is not given as new.
    let mut messages = client.messages();
    assert_eq!(soon(messages.next()).await.unwrap().seq, 9);
}

#[tokio::test]
async fn answer_to_an_earlier_run_is_not_taken_for_one_of_this() {
    let (client, broker) = in_memory().await;
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.entry("@bob", 3, 12);
    // What is acknowledged waits for the disk, and what is asked does not.
    let said = connection.settled().await;
    let asked = |said| if let Said::Publish(asked) = said { Some(asked) } else { None };
    let asked = said.into_iter().find_map(asked).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&asked.payload).unwrap();
    let number = json["request"].as_u64().unwrap();
    assert!(number > 1_000, "another one at each start: {number}");
    // Of another chat, with the same number: it waited in the session since before a crash.
    let fields = r#""from":2,"to":2,"last":9,"gone":[],
        "entries":[{"seq":2,"from":"carol","time":3,"id":"x","text":"not here"}]"#;
    connection.answer(&asked, "me/json/@carol/history", fields).await;
    assert_eq!(client.chat("@bob").unwrap().page(None, 9).unwrap().len(), 2);
    connection.answer(&asked, "me/json/@bob/history", &fields.replace("carol", "bob")).await;
    assert_eq!(client.chat("@bob").unwrap().page(None, 9).unwrap().len(), 3);
}

#[tokio::test]
async fn lost_session_is_noticed_and_what_was_missed_is_fetched() {
    let (client, broker) = in_memory().await;
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.settled().await;
    drop(connection);
    let mut connection = broker.open_again(false).await;
    let own = "me/json/#".to_owned();
    assert_eq!(connection.said().await, Said::Subscribe(own, true));
    let asked = connection.published().await;
    connection.puback(asked.token, 0, &[]);
    let fields = r#""chats":[{"chat":"@bob","last":2,"time":5,"read":0,"unread":2},
        {"chat":"@carol","last":1,"time":6,"read":0,"unread":1}]"#;
    connection.answer(&asked, "me/json/-/sync", fields).await;
    let mut topics = [connection.published().await.topic, connection.published().await.topic];
    topics.sort();
    assert_eq!(topics, ["chat/@bob/history", "chat/@carol/history"]);
    let unread: Vec<_> =
        client.chats().into_iter().map(|standing| (standing.chat, standing.unread)).collect();
    assert_eq!(unread, [("@carol".to_owned(), 1), ("@bob".to_owned(), 2)]);
}

#[tokio::test]
async fn read_positions_are_durable_and_repeated_until_acknowledged() {
    let dir = TempDir::new();
    let (first, broker) = client(&dir).await;
    let mut connection = broker.open().await;
    connection.entry("@bob", 1, 11);
    connection.entry("@bob", 2, 12);
    connection.settled().await;
    let bob = first.chat("@bob").unwrap();
    bob.mark_read(1).await.unwrap();
    let publish = connection.published().await;
    assert_eq!((publish.topic.as_str(), &publish.payload[..]), ("chat/@bob/read", &b"1"[..]));
    bob.mark_all_read().await.unwrap();
    assert_eq!(bob.standing().unread, 0);
    drop((connection, bob));
    first.close().await;
    let (_client, broker) = client(&dir).await;
    let mut connection = broker.open_again(true).await;
    assert!(matches!(connection.said().await, Said::Subscribe(..)));
    let mut read = None;
    while read.is_none() {
        let publish = connection.published().await;
        read = (publish.topic == "chat/@bob/read").then_some(publish);
    }
    assert_eq!(read.unwrap().payload, "2");
}

#[tokio::test]
async fn presence_and_typing_are_heard_and_said() {
    let (client, broker) = in_memory().await;
    let mut connection = broker.open().await;
    let mut bob = client.presence("bob").unwrap();
    let mut typing = client.typing();
    assert_eq!(connection.said().await, Said::Subscribe("presence/bob".to_owned(), true));
    let say = |connection: &Connection, state: &str, epoch: u64| {
        let json = format!(r#"{{"state":"{state}","last_seen":7,"epoch":{epoch}}}"#);
        connection.receive("presence/bob", &json, None);
    };
    say(&connection, "online", 5);
    assert_eq!(soon(bob.next()).await.unwrap().state, PresenceState::Online);
    say(&connection, "offline", 4);
    say(&connection, "away", 6);
    assert_eq!(soon(bob.next()).await.unwrap().state, PresenceState::Away, "4 is old");
    connection.receive("me/json/@bob/typing", r#"{"user":"bob","state":"typing"}"#, None);
    assert_eq!(soon(typing.next()).await.unwrap().state, Typing::Typing);
    let chat = client.chat("@bob").unwrap();
    chat.typing(Typing::Typing).await.unwrap();
    let publish = connection.published().await;
    assert_eq!((publish.topic.as_str(), publish.at_most_once), ("chat/@bob/typing", true));
    chat.typing(Typing::Typing).await.unwrap();
    assert_eq!(connection.settled().await, [], "not at each key");
    drop(bob);
    assert_eq!(connection.said().await, Said::Subscribe("presence/bob".to_owned(), false));
}

#[tokio::test]
async fn takeover_ends_until_reconnect() {
    let (client, broker) = in_memory().await;
    let mut events = client.events();
    broker.refuse(Lost::TakenOver);
    let offline = loop {
        let event = soon(events.next()).await.unwrap();
        if let Event::State(State::Offline { reason, retry_in }) = event {
            break (reason, retry_in);
        }
    };
    assert_eq!(offline, (Lost::TakenOver, None));
    // Everything can be called all the same.
    let sent = client.chat("@bob").unwrap().send("hello").await.unwrap();
    client.reconnect().await.unwrap();
    let mut connection = broker.open().await;
    stored(&mut connection, 1).await;
    assert_eq!(soon(sent.stored()).await, Ok(1));
    soon(client.online()).await.unwrap();
}

#[tokio::test]
async fn subscription_that_is_refused_is_told() {
    let (client, broker) = in_memory().await;
    let mut events = client.events();
    let connection = broker.open_again(false).await;
    let (filter, reason) = ("me/json/#".to_owned(), "NotAuthorized".to_owned());
    let refused = Some(reason.clone());
    connection.happen(Happened::Subscribed { filter: filter.clone(), refused });
    let expected = Event::SubscriptionRefused { filter, reason };
    while soon(events.next()).await != Some(expected.clone()) {}
}

#[tokio::test]
async fn unreadable_entry_is_told_and_does_not_block() {
    let (client, broker) = in_memory().await;
    let mut events = client.events();
    let mut connection = broker.open().await;
    connection.receive("me/json/@bob/message", "nonsense", Some(5));
    assert_eq!(connection.said().await, Said::Acknowledge(5));
    while !matches!(soon(events.next()).await, Some(Event::Unreadable { .. })) {}
}

#[tokio::test]
async fn closing_says_disconnect_and_ends_streams_and_what_waits() {
    let (client, broker) = in_memory().await;
    let chat = client.chat("@bob").unwrap();
    let mut messages = client.messages();
    let mut connection = broker.open().await;
    let sent = chat.send("hello").await.unwrap();
    connection.published().await;
    let info = tokio::spawn({
        let chat = chat.clone();
        async move { chat.info(None).await }
    });
    connection.published().await;
    soon(client.close()).await;
    assert_eq!(connection.already_said(), [Said::Disconnect]);
    assert_eq!(soon(messages.next()).await, None);
    assert_eq!(soon(sent.stored()).await, Err(NotStored::Closed));
    assert!(soon(info).await.unwrap().is_err());
    assert!(matches!(chat.send("late").await, Err(SendError::Closed)));
}

/// A disk that fails when it is told to.
#[derive(Debug, Default)]
struct Failing {
    rows: MemoryStore,
    fails: AtomicBool,
}

impl Store for Failing {
    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(StoreError::Damaged { what: "on purpose".to_owned() }),
            false => self.rows.write(changes),
        }
    }

    fn read(
        &self,
        range: Range<&[u8]>,
        backwards: bool,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.rows.read(range, backwards, limit)
    }
}

#[tokio::test]
async fn disk_that_fails_acknowledges_nothing_and_sends_nothing() {
    let store = Arc::new(Failing::default());
    let (client, broker) = client_with(&TempDir::new(), Arc::clone(&store) as Arc<dyn Store>).await;
    let mut events = client.events();
    let mut connection = broker.open().await;
    store.fails.store(true, Ordering::Relaxed);
    let refused = client.chat("@bob").unwrap().send("hello").await;
    assert!(matches!(refused, Err(SendError::Disk { .. })), "{refused:?}");
    while !matches!(soon(events.next()).await, Some(Event::StoreFailed { .. })) {}
    assert_eq!(connection.already_said(), []);
    let refused = client.chat("@bob").unwrap().send("again").await;
    assert!(matches!(refused, Err(SendError::Disk { .. })), "{refused:?}");
    soon(client.close()).await;
}

#[tokio::test]
async fn what_is_wrong_with_options_and_names_is_said() {
    let dir = TempDir::new();
    let store = || Arc::new(MemoryStore::default());
    let (_broker, transport) = crate::fake::Broker::new();
    let options = dir.options().in_flight_max(0);
    let refused = Client::connect_with(transport, store(), options).await;
    assert!(matches!(refused, Err(ConnectError::Option { option: "in_flight_max", .. })));
    let (client, _broker) = in_memory().await;
    for name in ["", "@", "a b", "@a/b", "~~x"] {
        assert!(client.chat(name).is_err(), "{name}");
    }
    let bad = SendOptions::default().id("no spaces");
    let refused = client.chat("@bob").unwrap().send_with("x", bad).await;
    assert!(matches!(refused, Err(SendError::Name(_))));
    let long = vec![0; 70_000];
    let refused = client.chat("@bob").unwrap().send(long).await;
    assert!(matches!(refused, Err(SendError::TooLarge { .. })));
}

#[test]
fn handles_go_to_other_threads() {
    fn is_sent_and_shared<T: Send + Sync>() {}
    is_sent_and_shared::<Client>();
    is_sent_and_shared::<tidings_client::Chat>();
    is_sent_and_shared::<tidings_client::Messages>();
    is_sent_and_shared::<tidings_client::Sent>();
    is_sent_and_shared::<SendError>();
}

#[test]
fn kinds_have_the_names_of_the_protocol() {
    assert_eq!(EntryKind::Reaction.name(), "reaction");
    assert_eq!(Ticks::Read.symbol(), "✓✓");
}

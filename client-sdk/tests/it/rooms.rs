//! Rooms and pairing with a real broker: clients who are nobody for long.

use crate::fake::soon;
use std::sync::Arc;
use std::time::Duration;
use tidings_broker::auth::{
    Authenticate, Credentials, Decision, OpenOnLoopback, Refusal, TemporaryUsers,
};
use tidings_broker::{Broker, Builder, Durability};
use tidings_chat::{Chat, ChatHandle, ChatOptions, SeatKey};
use tidings_client::transport::Lost;
use tidings_client::{Client, ConnectOptions, Event, State, Ticks};

/// A broker whose users are those of rooms only.
fn broker() -> (Broker, ChatHandle) {
    let mut options = ChatOptions::default();
    options.pairing = true;
    let chat = Chat::new(options);
    let handle = chat.handle();
    let seats = handle.clone();
    let others: Arc<dyn Authenticate> = Arc::new(OpenOnLoopback);
    let authenticate = TemporaryUsers::new(others, move |login: Credentials| {
        let seats = seats.clone();
        async move {
            let name = login.user_name.unwrap_or_default();
            match seats.login(&name, &login.password.unwrap_or_default()).await {
                Ok(user) => Decision::accept(user),
                Err(_) => Decision::Refuse(Refusal::BadUserNameOrPassword),
            }
        }
    });
    let broker = Builder::new()
        .listen("127.0.0.1:0".parse().unwrap())
        .durability(Durability::Memory)
        .authenticate(Arc::new(authenticate))
        .service(Arc::new(chat))
        .start()
        .unwrap();
    (broker, handle)
}

async fn connect(broker: &Broker, user: &str, password: &str, device: &str) -> Client {
    let address = broker.addresses()[0].to_string();
    let options = ConnectOptions::new(address, user, device).password(password).in_memory();
    Client::connect(options).await.unwrap()
}

async fn sit(broker: &Broker, seat: &SeatKey, device: &str) -> Client {
    let client = connect(broker, &seat.link, &seat.code, device).await;
    soon(client.online()).await.unwrap();
    client
}

async fn event(client: &Client, wanted: impl Fn(&Event) -> bool) -> Event {
    let mut events = client.events();
    loop {
        let event = soon(events.next()).await.unwrap();
        if wanted(&event) {
            return event;
        }
    }
}

#[tokio::test]
async fn two_talk_in_a_room_by_link_and_code_and_end_it() {
    let (broker, handle) = broker();
    let room = handle.make_room().await.unwrap();
    let [one, two] = &room.seats;
    let wrong = connect(&broker, &one.link, "WRONG", "phone").await;
    let refused = |event: &Event| {
        matches!(event, Event::State(State::Offline { reason: Lost::Refused { .. }, .. }))
    };
    event(&wrong, refused).await;
    drop(wrong);
    let (one, two) = (sit(&broker, one, "one").await, sit(&broker, two, "two").await);
    let at_one = one.room().unwrap();
    // Sent before the room's name is known.
    let sent = at_one.send("hello?").await.unwrap();
    assert_eq!(soon(sent.stored()).await, Ok(1));
    let mut at_two = two.messages();
    let entry = soon(at_two.next()).await.unwrap();
    assert_eq!((entry.body.text(), entry.chat.as_str()), (Some("hello?"), &*room.name));
    let chat = one.chat(&entry.chat).unwrap();
    two.chat(&entry.chat).unwrap().mark_all_read().await.unwrap();
    let mut changes = one.changes();
    while chat.ticks(1) != Ticks::Read {
        soon(changes.next()).await.unwrap();
    }
    let mut events = two.events();
    at_one.signal("offer").await.unwrap();
    let signal = loop {
        if let Event::Signal { body, .. } = soon(events.next()).await.unwrap() {
            break body;
        }
    };
    assert_eq!(signal.text(), Some("offer"));
    let _ = at_one.end().await.unwrap();
    event(&two, |event| matches!(event, Event::Ended { why: Some(why), .. } if why == "end")).await;
    broker.stop().unwrap();
}

#[tokio::test]
async fn strangers_are_paired_and_talk() {
    let (broker, _handle) = broker();
    let wait = Duration::from_secs(60);
    let one = connect(&broker, "~anon", "0123456789abcdef-one", "one").await;
    let two = connect(&broker, "~anon", "0123456789abcdef-two", "two").await;
    let mut events = [one.events(), two.events()];
    soon(one.pair("talk", &["rust"], wait)).await.unwrap();
    soon(two.pair("talk", &["jazz", "rust"], wait)).await.unwrap();
    for events in &mut events {
        let interest = loop {
            if let Event::Paired { interest, .. } = soon(events.next()).await.unwrap() {
                break interest;
            }
        };
        assert_eq!(interest.as_deref(), Some("rust"));
    }
    let sent = one.room().unwrap().send("hello, stranger").await.unwrap();
    assert_eq!(soon(sent.stored()).await, Ok(1));
    let entry = soon(two.messages().next()).await.unwrap();
    assert_eq!(entry.body.text(), Some("hello, stranger"));
    soon(two.pair_next("talk", &[], wait)).await.unwrap();
    soon(two.pair_leave("talk")).await.unwrap();
    broker.stop().unwrap();
}

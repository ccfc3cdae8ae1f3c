//! Clients and a real broker with chat in one process, over sockets.

use crate::fake::{TempDir, soon};
use crate::role::broker;
use std::net::SocketAddr;
use std::time::Duration;
use tidings_broker::Broker;
use tidings_client::{
    AskError, Audience, Client, ConnectOptions, EntryKind, Event, Keep, NotStored, PresenceState,
    Role, Ticks, Typing,
};

async fn client(broker: &Broker, user: &str) -> Client {
    let address = broker.addresses()[0].to_string();
    let options = ConnectOptions::new(address, user, format!("{user}-phone")).in_memory();
    let client = Client::connect(options).await.unwrap();
    soon(client.online()).await.unwrap();
    client
}

async fn until(client: &Client, what: &str, there: impl Fn(&Client) -> bool) {
    let mut changes = client.changes();
    while !there(client) {
        let changed = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
        assert!(changed.is_ok(), "{what}: {:#?}", client.chats());
    }
}

#[tokio::test]
async fn two_talk_with_ticks_typing_and_presence() {
    let broker = broker(None);
    let (alice, bob) = (client(&broker, "alice").await, client(&broker, "bob").await);
    let (to_bob, to_alice) = (alice.chat("@bob").unwrap(), bob.chat("@alice").unwrap());
    let mut at_bob = bob.messages();
    let seq = to_bob.send("hello").await.unwrap().stored().await.unwrap();
    assert_eq!((seq, to_bob.ticks(seq)), (1, Ticks::Stored));
    let entry = soon(at_bob.next()).await.unwrap();
    assert_eq!((entry.chat.as_str(), entry.body.text(), entry.seq), ("@alice", Some("hello"), 1));
    // Until he answers she is a stranger, and hears no ticks.
    let _ = to_alice.send("hello you").await.unwrap().stored().await.unwrap();
    until(&alice, "delivered", |_| to_bob.ticks(1) == Ticks::Delivered).await;
    to_alice.mark_read(1).await.unwrap();
    until(&alice, "read", |_| to_bob.ticks(1) == Ticks::Read).await;

    let mut presence = alice.presence("bob").unwrap();
    assert_eq!(soon(presence.next()).await.unwrap().state, PresenceState::Online);
    bob.away(true).await.unwrap();
    assert_eq!(soon(presence.next()).await.unwrap().state, PresenceState::Away);
    let mut typing = alice.typing();
    to_alice.typing(Typing::Typing).await.unwrap();
    assert_eq!(soon(typing.next()).await.unwrap().state, Typing::Typing);

    to_bob.edit(1, "hello, Bob").await.unwrap().stored().await.unwrap();
    to_alice.react(1, "👍").await.unwrap().stored().await.unwrap();
    for chat in [&to_bob, &to_alice] {
        let client = if chat.name() == "@bob" { &alice } else { &bob };
        until(client, "edited", |_| chat.standing().in_order >= 4).await;
        let page = chat.page(None, 9).unwrap();
        let texts: Vec<_> = page.iter().map(|message| message.text().unwrap()).collect();
        assert_eq!(texts, ["hello, Bob", "hello you"]);
        assert_eq!(page[0].reactions["bob"], "👍");
    }
    to_bob.delete_for_everyone(1).await.unwrap().stored().await.unwrap();
    until(&bob, "deleted", |_| to_alice.page(None, 9).unwrap().len() == 1).await;
    assert_eq!(to_bob.page(None, 9).unwrap().len(), 1);
    bob.close().await;
    assert_eq!(soon(presence.next()).await.unwrap().state, PresenceState::Offline);
    broker.stop().unwrap();
}

#[tokio::test]
async fn a_group_is_made_changed_and_left() {
    let broker = broker(None);
    let (alice, bob) = (client(&broker, "alice").await, client(&broker, "bob").await);
    let climbing = alice.chat("climbing").unwrap();
    climbing.create("Climbing", &["bob"]).await.unwrap().stored().await.unwrap();
    let taken = bob.chat("climbing").unwrap().create("", &[]).await.unwrap().stored().await;
    let Err(NotStored::Refused(refusal)) = taken else { panic!("{taken:?}") };
    assert_eq!(refusal.code, "conflict");
    climbing.send("who is in?").await.unwrap().stored().await.unwrap();
    let mut at_bob = bob.messages();
    let made = soon(at_bob.next()).await.unwrap();
    assert_eq!((made.kind, made.seq), (EntryKind::System, 1));
    assert_eq!(soon(at_bob.next()).await.unwrap().body.text(), Some("who is in?"));
    // The maker's own device knows the words of the change as well.
    until(&alice, "in order", |_| climbing.standing().in_order == 2).await;
    assert_eq!(climbing.page(None, 9).unwrap()[0].kind, EntryKind::System);

    let info = soon(climbing.info(None)).await.unwrap();
    assert_eq!((info.title.as_deref(), info.count), (Some("Climbing"), 2));
    assert_eq!(info.role, Some(Role::Owner));
    climbing.set_role("bob", Role::Admin).await.unwrap().stored().await.unwrap();
    climbing.set_title("Bouldering").await.unwrap().stored().await.unwrap();
    climbing.set_timer(Some(Duration::from_secs(3_600))).await.unwrap().stored().await.unwrap();
    climbing.set_retention(Keep::Days(7)).await.unwrap().stored().await.unwrap();
    let token = soon(climbing.invite(None, Some(1), None)).await.unwrap();
    let carol = client(&broker, "carol").await;
    carol.chat("climbing").unwrap().join(&token).await.unwrap().stored().await.unwrap();
    let who = soon(climbing.who_has(2, None)).await.unwrap();
    assert_eq!(who.members, 1, "one other was there then");
    climbing.remove(&["bob"]).await.unwrap().stored().await.unwrap();
    let mut events = bob.events();
    until(&bob, "ended", |bob| bob.chat("climbing").unwrap().standing().ended).await;
    let refused = soon(bob.chat("climbing").unwrap().info(None)).await;
    assert!(matches!(refused, Err(AskError::Refused(refusal)) if refusal.code == "forbidden"));
    climbing.add(&["bob"], None).await.unwrap().stored().await.unwrap();
    until(&bob, "again", |bob| !bob.chat("climbing").unwrap().standing().ended).await;
    drop(events.next());
    climbing.revoke(&token).await.unwrap().stored().await.unwrap();
    climbing.leave().await.unwrap().stored().await.unwrap();
    broker.stop().unwrap();
}

#[tokio::test]
async fn devices_privacy_blocks_and_keys_are_the_users() {
    let broker = broker(None);
    let (alice, bob) = (client(&broker, "alice").await, client(&broker, "bob").await);
    alice.set_privacy(Some(Audience::Nobody), None, None).await.unwrap().stored().await.unwrap();
    let privacy = soon(alice.privacy()).await.unwrap();
    assert_eq!((privacy.receipts, privacy.groups), (Audience::Nobody, Audience::All));
    alice.block(&["bob"]).await.unwrap().stored().await.unwrap();
    assert_eq!(soon(alice.blocked(None)).await.unwrap().blocked, ["bob"]);
    let sent = bob.chat("@alice").unwrap().send("hello").await.unwrap();
    let Err(NotStored::Refused(refusal)) = soon(sent.stored()).await else { panic!() };
    assert_eq!(refusal.code, "forbidden");
    alice.unblock(&["bob"]).await.unwrap().stored().await.unwrap();
    alice.accept(&["bob"]).await.unwrap().stored().await.unwrap();
    bob.chat("@alice").unwrap().send("hello").await.unwrap().stored().await.unwrap();
    bob.set_push(Some("token")).await.unwrap().stored().await.unwrap();
    bob.set_keys("public").await.unwrap().stored().await.unwrap();
    assert_eq!(soon(alice.keys_of("bob")).await.unwrap()[0].keys, "public");
    let devices = soon(alice.devices()).await.unwrap();
    assert_eq!((devices.len(), devices[0].connected), (1, true));
    // A second device of hers begins with the present, and scrolls back.
    let address = broker.addresses()[0].to_string();
    let options = ConnectOptions::new(address, "alice", "laptop").in_memory();
    let laptop = Client::connect(options).await.unwrap();
    until(&laptop, "known", |laptop| !laptop.chats().is_empty()).await;
    assert_eq!(laptop.chats()[0].unread, 1);
    let chat = laptop.chat("@bob").unwrap();
    assert!(chat.page(None, 9).unwrap().is_empty());
    chat.set_retention(Keep::Forever).await.unwrap().stored().await.unwrap();
    let mut events = laptop.events();
    alice.log_out("laptop").await.unwrap().stored().await.unwrap();
    while !matches!(soon(events.next()).await, Some(Event::NewSession)) {}
    broker.stop().unwrap();
}

/// Bytes and packets of a message, as they are in docs/sdk.md.
#[tokio::test]
async fn a_message_costs_few_packets() {
    let broker = broker(None);
    let (alice, bob) = (client(&broker, "alice").await, client(&broker, "bob").await);
    alice.accept(&["bob"]).await.unwrap().stored().await.unwrap();
    bob.accept(&["alice"]).await.unwrap().stored().await.unwrap();
    let to_bob = alice.chat("@bob").unwrap();
    let mut at_bob = bob.messages();
    to_bob.send("first").await.unwrap().stored().await.unwrap();
    soon(at_bob.next()).await.unwrap();
    let before = (alice.traffic(), bob.traffic());
    for number in 0_u64..100 {
        to_bob.send(format!("{number:0100}")).await.unwrap().stored().await.unwrap();
        soon(at_bob.next()).await.unwrap();
    }
    bob.chat("@alice").unwrap().mark_all_read().await.unwrap();
    until(&alice, "read", |_| to_bob.ticks(101) == Ticks::Read).await;
    let (alices, bobs) = (alice.traffic(), bob.traffic());
    println!("alice {before:?} {alices:?}; bob {bobs:?}");
    let sent = alices.packets_sent - before.0.packets_sent;
    assert_eq!(sent, 100, "one PUBLISH each, and nothing else");
    let received = bobs.packets_received - before.1.packets_received;
    assert!(received <= 105, "one PUBLISH each, and the PUBACK of a read: {received}");
    let bytes = (alices.bytes_sent - before.0.bytes_sent) / 100;
    assert!(bytes < 100 + 60, "{bytes} bytes for a message of 100");
    broker.stop().unwrap();
}

#[tokio::test]
async fn second_connection_of_a_device_takes_over_and_the_first_rests() {
    let broker = broker(None);
    let first = client(&broker, "alice").await;
    let mut events = first.events();
    let second = client(&broker, "alice").await;
    let offline = |event: &Event| {
        matches!(event, Event::State(tidings_client::State::Offline { retry_in: None, .. }))
    };
    while !soon(events.next()).await.is_some_and(|event| offline(&event)) {}
    soon(second.online()).await.unwrap();
    broker.stop().unwrap();
}

#[tokio::test]
async fn local_store_has_what_came_when_the_program_starts_again() {
    let (broker, dir) = (broker(None), TempDir::new());
    let alice = client(&broker, "alice").await;
    let address: SocketAddr = broker.addresses()[0];
    let options = || ConnectOptions::new(address.to_string(), "bob", "bob-phone").data_dir(&dir.0);
    let bob = Client::connect(options()).await.unwrap();
    soon(bob.online()).await.unwrap();
    alice.chat("@bob").unwrap().send("one").await.unwrap().stored().await.unwrap();
    until(&bob, "one", |bob| !bob.chats().is_empty()).await;
    bob.close().await;
    alice.chat("@bob").unwrap().send("two").await.unwrap().stored().await.unwrap();
    let bob = Client::connect(options()).await.unwrap();
    let chat = bob.chat("@alice").unwrap();
    assert_eq!(chat.page(None, 9).unwrap()[0].text(), Some("one"));
    until(&bob, "two", |_| chat.standing().unread == 2).await;
    bob.close().await;
    broker.stop().unwrap();
}

//! How fast users send and begin chats.

use std::time::Duration;

use tidings_chat::ChatOptions;
use tidings_core::codec::{ReasonCode, Version};
use tidings_core::hook::{Disconnection, SessionId};
use tidings_core::metric::Metric;

use crate::harness::{World, number, text};

fn world(options: ChatOptions) -> World {
    let mut world = World::with(2, options, 0);
    world.outside.rates_apply = true;
    world
}

/// 6 at once and one a second; 3 chats a minute.
fn options() -> ChatOptions {
    let mut options = ChatOptions::default();
    options.send_rate = 1;
    options.send_burst = 6;
    options.new_chats_per_minute = 3;
    options
}

fn send(world: &mut World, session: SessionId, peer: &str, id: &str) -> u64 {
    world.publish(session, &format!("chat/@{peer}/send/{id}"), b"x")
}

/// The codes of the answers, where they are refusals.
fn codes(world: &mut World, sent: &[u64]) -> Vec<Option<String>> {
    world.settle();
    sent.iter().map(|sent| world.property(*sent, "code")).collect()
}

fn limit() -> Option<String> {
    Some("limit".into())
}

#[test]
fn questions_have_a_rate_of_their_own() {
    let mut world = World::new(2);
    world.outside.rates_apply = true;
    let alice = world.device("alice", "laptop");
    world.publish(alice, "chat/@bob/send", b"hello");
    world.settle();
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(world.publish(alice, "me/sync", b""));
        asked.push(world.publish(alice, "chat/@bob/history", b""));
        asked.push(world.publish(alice, "chat/@bob/history", b""));
    }
    world.run();
    let refused: Vec<_> = asked.iter().filter_map(|it| world.property(*it, "code")).collect();
    assert_eq!(refused, ["limit"; 2]);
    assert_eq!(world.outside.counted, [Metric::LimitChatQuestions; 2]);
    assert_eq!(world.property(asked[11], "retry_after").as_deref(), Some("1000"));
}

#[test]
fn user_sends_a_burst_and_then_by_the_rate_over_all_devices_and_connections() {
    let mut world = world(options());
    let phone = world.device("alice", "phone");
    let laptop = world.device("alice", "laptop");
    let bob = world.device("bob", "phone");
    let begin = world.now;
    let sent = ["1", "2", "3"].map(|id| send(&mut world, phone, "bob", id));
    let more = ["4", "5", "6", "7"].map(|id| send(&mut world, laptop, "bob", id));
    assert_eq!(codes(&mut world, &sent), [None, None, None]);
    assert_eq!(codes(&mut world, &more), [None, None, None, limit()]);
    assert_eq!(world.answer(more[3]), Some(ReasonCode::QuotaExceeded));
    assert_eq!(world.property(more[3], "retry_after").as_deref(), Some("1000"));
    let errors = world.take_heard(laptop, "error");
    assert_eq!((errors.len(), number(&errors[0], "retry_after")), (1, Some(1000)));
    assert_eq!(text(&errors[0], "id").as_deref(), Some("7"));
    // Nor is it more for who comes back.
    for session in [phone, laptop] {
        world.disconnect(session, Disconnection::Clean);
    }
    world.run();
    let phone = world.device("alice", "phone");
    let there = usize::try_from(world.now.since(begin).as_secs()).unwrap();
    assert!(there < 6, "{there}");
    let sent: Vec<_> = (7..14).map(|id| send(&mut world, phone, "bob", &id.to_string())).collect();
    let others = send(&mut world, bob, "alice", "1");
    let refused = codes(&mut world, &sent);
    assert_eq!(refused.iter().filter(|code| code.is_none()).count(), there);
    assert_eq!(codes(&mut world, &[others]), [None]);
    assert_eq!(world.outside.counted, vec![Metric::LimitChatSends; 1 + 7 - there]);
    assert_eq!(world.take_heard(bob, "message").len(), 6 + there);
}

#[test]
fn user_begins_so_many_chats_a_minute_and_goes_on_in_those_there_are() {
    let mut options = options();
    options.send_burst = 100;
    let mut world = world(options);
    let alice = world.device("alice", "phone");
    // The same chat over and over is one, though it has not begun yet.
    let sent = ["b", "b", "b", "c", "d", "e", "b"].map(|peer| send(&mut world, alice, peer, "1"));
    let expected = [None, None, None, None, None, limit(), None];
    assert_eq!(codes(&mut world, &sent), expected);
    assert_eq!(world.property(sent[5], "retry_after").as_deref(), Some("20000"));
    let known = ["b", "c", "d"].map(|peer| send(&mut world, alice, peer, "2"));
    assert_eq!(codes(&mut world, &known), [None, None, None]);
    world.advance(Duration::from_secs(20));
    let sent = ["e", "f"].map(|peer| send(&mut world, alice, peer, "3"));
    assert_eq!(codes(&mut world, &sent), [None, limit()]);
    assert_eq!(world.outside.counted, [Metric::LimitNewChats; 2]);
}

#[test]
fn what_is_sent_before_the_chats_are_read_waits_in_order_and_is_none_that_is_new() {
    let mut options = options();
    options.send_burst = 100;
    options.new_chats_per_minute = 1;
    let mut world = world(options);
    let b = world.device("b", "phone");
    let first = send(&mut world, b, "alice", "1");
    assert_eq!(codes(&mut world, &[first]), [None]);
    let visitor = world.connect_as("alice", "web", Version::V5, false);
    let sent = ["2", "3", "4"].map(|id| send(&mut world, visitor, "b", id));
    let new = ["c", "d"].map(|peer| send(&mut world, visitor, peer, "1"));
    world.settle();
    assert_eq!(sent.map(|sent| world.seq(sent)), [Some(2), Some(3), Some(4)]);
    assert_eq!(codes(&mut world, &new), [None, limit()]);
}

#[test]
fn nobody_is_held_to_rates_where_they_do_not_apply_or_are_zero() {
    let mut none = options();
    (none.send_rate, none.new_chats_per_minute) = (0, 0);
    let mut unbound = world(none);
    let mut local = world(options());
    local.outside.rates_apply = false;
    for world in [&mut unbound, &mut local] {
        let alice = world.device("alice", "phone");
        let sent: Vec<_> =
            (0..50).map(|peer| send(world, alice, &format!("p{peer}"), "1")).collect();
        assert!(codes(world, &sent).iter().all(Option::is_none));
        assert!(world.outside.counted.is_empty());
    }
}

//! Deadlines of connections: which hold, and that they end with their connection.

use std::time::Duration;

use tidings_core::codec::ReasonCode;
use tidings_core::output::CloseCause;
use tidings_core::time::Time;

use crate::harness::{Cluster, lasting, v5};

#[test]
fn connection_that_ends_takes_its_keep_alive_along() {
    let mut broker = Cluster::new(1);
    for how in 0..3 {
        let link = broker.join(&v5("alice"));
        assert!(broker.next_timeout().is_some(), "a silent client is found");
        // Looked at once, and set anew because something was heard meanwhile.
        broker.advance(1000);
        broker.raw(link, vec![0xc0, 0]);
        broker.advance(1000);
        match how {
            0 => broker.lose(link),
            1 => broker.disconnect(link, ReasonCode::Success),
            _ => {
                let newer = broker.join(&v5("alice"));
                assert!(broker.closed(link).is_some());
                broker.lose(newer);
            }
        }
        assert_eq!(broker.next_timeout(), None, "{how}");
    }
}

#[test]
fn process_that_was_stopped_does_not_blame_its_clients() {
    let mut broker = Cluster::new(1);
    let alice = broker.join(&v5("alice"));
    broker.stall(100_000);
    assert!(broker.closed(alice).is_none(), "what she said meanwhile is still to be read");
    broker.raw(alice, vec![0xc0, 0]);
    broker.advance(1500);
    assert!(broker.closed(alice).is_none());
    broker.advance(1500);
    assert!(broker.closed(alice).is_some(), "silence is still found");
}

#[test]
fn login_that_is_over_ends_the_connection_and_says_so() {
    let mut broker = Cluster::new(1);
    let watcher = broker.join(&v5("watcher"));
    broker.listen(watcher, "left", 0);
    let until = broker.now + Duration::from_secs(10);
    let alice = broker.join(&v5("alice").will("left", "alice", 0, 0).expires(until));
    broker.advance(9);
    assert!(broker.closed(alice).is_none());
    broker.advance(1);
    assert_eq!(broker.closed(alice), Some(&CloseCause::LoginExpired));
    assert_eq!(broker.received(alice), ["DISCONNECT 87"]);
    assert_eq!(broker.received(watcher), ["PUBLISH q0 left=alice"]);
}

#[test]
fn login_that_was_to_end_holds_no_deadline_of_a_connection_that_is_gone() {
    let mut broker = Cluster::new(1);
    let until = broker.now + Duration::from_secs(10);
    let alice = broker.join(&v5("alice").expires(until));
    broker.lose(alice);
    assert_eq!(broker.next_timeout(), None);
}

#[test]
fn login_that_is_over_before_it_begins_is_refused() {
    let mut broker = Cluster::new(1);
    let late = broker.connect(&v5("late").expires(broker.now));
    assert_eq!(broker.closed(late), Some(&CloseCause::Refused(ReasonCode::NotAuthorized)));
}

#[test]
fn login_of_a_connection_that_is_over_ends_nothing() {
    let mut broker = Cluster::new(1);
    let until = broker.now + Duration::from_secs(10);
    let old = broker.join(&lasting("alice", 3600).expires(until));
    let new = broker.join(&lasting("alice", 3600));
    assert_eq!(broker.closed(old), Some(&CloseCause::TakenOver));
    broker.advance(20);
    assert!(broker.closed(new).is_none(), "its own login has no end");
}

#[test]
fn clock_that_was_set_back_keeps_no_session_for_longer_than_it_was_to_live() {
    let year = 365 * 24 * 3600;
    let mut broker = Cluster::new(1);
    broker.advance(year);
    let bob = broker.join(&lasting("bob", 100).will("left", "bob", 1, 50));
    broker.lose(bob);
    broker.now = Time::from_millis(1_000_000);
    broker.crash();
    broker.advance(99);
    assert_eq!(broker.session_rows()[0], 1);
    broker.advance(1);
    assert_eq!(broker.session_rows()[0], 0);
    // Set forward it cannot be told from time that passed.
    let eve = broker.join(&lasting("eve", 100));
    broker.lose(eve);
    broker.now = broker.now + Duration::from_secs(year);
    broker.crash();
    broker.advance(0);
    assert_eq!(broker.session_rows()[0], 0);
}

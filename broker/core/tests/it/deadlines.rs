//! Deadlines of connections: which hold, and that they end with their connection.

use tidings_core::codec::ReasonCode;

use crate::harness::{Cluster, v5};

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

//! What a connection leaves behind when it is over: no deadline.

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

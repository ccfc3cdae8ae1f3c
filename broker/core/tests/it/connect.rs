//! CONNECT: which session a Client gets, takeover, and how connections and sessions end.

use tidings_core::codec::{PropertiesBuf, Property, ReasonCode};
use tidings_core::record::RowKind;

use crate::harness::{Cluster, filter, lasting, message, v5, v311};

#[test]
fn clean_start_begins_anew_and_resume_finds_what_is_there() {
    // [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.2.2-2], [MQTT-3.2.2-3]
    for shards in [1, 2, 4] {
        let mut broker = Cluster::new(shards);
        let bob = broker.connect(&lasting("bob", 100));
        assert_eq!(broker.received(bob), ["CONNACK"]);
        broker.listen(bob, "a", 1);
        broker.lose(bob);
        let bob = broker.connect(&lasting("bob", 100));
        assert_eq!(broker.received(bob), ["CONNACK present"]);
        let alice = broker.join(&v5("alice"));
        broker.publish(alice, &message("a", "hello", 1, 1));
        assert_eq!(broker.received(bob), ["PUBLISH q1 1 a=hello"]);
        broker.lose(bob);
        let bob = broker.connect(&lasting("bob", 100).clean());
        assert_eq!(broker.received(bob), ["CONNACK"]);
        broker.publish(alice, &message("a", "nobody", 1, 2));
        assert!(broker.received(bob).is_empty());
        assert_eq!(broker.received(alice), ["PUBACK 1", "PUBACK 2 10"]);
    }
}

#[test]
fn session_of_mqtt_311_lasts_unless_it_is_clean() {
    let mut broker = Cluster::new(1);
    let bob = broker.connect(&v311("bob").resume());
    broker.listen(bob, "a", 1);
    broker.disconnect(bob, ReasonCode::Success);
    let bob = broker.connect(&v311("bob").resume());
    assert_eq!(broker.received(bob), ["CONNACK present"]);
    broker.disconnect(bob, ReasonCode::Success);
    let bob = broker.connect(&v311("bob"));
    assert_eq!(broker.received(bob), ["CONNACK"]);
    broker.disconnect(bob, ReasonCode::Success);
    let bob = broker.connect(&v311("bob").resume());
    assert_eq!(broker.received(bob), ["CONNACK"]);
}

//! §4.1 and around it: what a session keeps, what a connection does not, found by breaking a broker.
//!
//! Each case was written because a broker with one line changed passed all the others.

use std::thread::sleep;
use std::time::Duration;

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{MESSAGE_EXPIRY, TOPIC_ALIAS, TOPIC_ALIAS_MAXIMUM};
use crate::packet::{Props, Publish};

cases! {
    "1.5.5" {
        length_in_more_bytes_than_it_takes_closes: v5 ["MQTT-1.5.5-1"], v311 [];
    }
    "3.1.3" {
        client_ids_are_told_apart_by_case: v5 ["MQTT-3.1.3-2"], v311 ["MQTT-3.1.3-2"];
    }
    "3.1.3.2" {
        will_expiry_counts_from_its_publication: v5 ["MQTT-3.3.2-6"], v311 [];
    }
    "3.3.1" {
        dup_with_qos_0_closes: v5 ["MQTT-3.3.1-2"], v311 ["MQTT-3.3.1-2"];
    }
    "3.3.2" {
        alias_ends_with_the_connection_that_is_taken_over: v5 ["MQTT-3.3.2-7"], v311 [];
        retained_message_that_expired_is_not_sent: v5 ["MQTT-3.3.2-5"], v311 [];
    }
    "4.1" {
        resumed_session_can_unsubscribe: v5 ["MQTT-3.10.4-1", "MQTT-3.10.4-2"],
            v311 ["MQTT-3.10.4-1", "MQTT-3.10.4-2"];
        will_of_a_session_that_is_taken_over_and_goes_on_is_published: v5 ["MQTT-3.1.2-8"],
            v311 ["MQTT-3.1.2-8"];
    }
}

fn length_in_more_bytes_than_it_takes_closes(b: &Bench) -> Outcome {
    let padded = |bytes: &[u8]| {
        // A length below 128, in two bytes.
        let (first, rest) = bytes.split_at(1);
        let (length, body) = rest.split_at(1);
        [first, &[length.first().copied().unwrap_or(0) | 0x80, 0], body].concat()
    };
    let publish = Publish::new("a", "x");
    let long_properties = [&[0x30, 6, 0, 1, b'a', 0x80, 0, b'x'][..]].concat();
    b.each_closes(&[padded(&[0xC0, 0]), padded(&publish.bytes(b.version)), long_properties])
}

fn client_ids_are_told_apart_by_case(b: &Bench) -> Outcome {
    let (mut lower, mut upper) = (b.join("a")?, b.join("A")?);
    lower.ping()?;
    upper.ping()
}

fn will_expiry_counts_from_its_publication(b: &Bench) -> Outcome {
    let mut connect = b.hello("will").will(&b.topic("will"), "gone");
    if let Some(will) = &mut connect.will {
        will.props = Props::new().four(MESSAGE_EXPIRY, 100);
    }
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 1)?;
    let (wire, _) = b.join_with("will", &connect)?;
    wire.drop_connection();
    let found = sub.take("gone")?.property(MESSAGE_EXPIRY);
    let left = found.as_ref().ok().and_then(|it| it.first()).and_then(|it| it.last().copied());
    let right = left.is_some_and(|it| (80..=100).contains(&it));
    b.check(right, format!("expected a Message Expiry Interval of about 100, found {found:?}"))
}

fn dup_with_qos_0_closes(b: &Bench) -> Outcome {
    b.each_closes(&[Publish::new(&b.topic("x"), "x").dup().bytes(b.version)])
}

fn alias_ends_with_the_connection_that_is_taken_over(b: &Bench) -> Outcome {
    let (mut first, connack) = b.join_with("pub", &b.hello_kept("pub"))?;
    if connack.number(TOPIC_ALIAS_MAXIMUM).unwrap_or(0) == 0 {
        return Err(Fail::Skipped("the Server takes no Topic Alias".into()));
    }
    let alias = || Props::new().two(TOPIC_ALIAS, 1);
    first.publish(&Publish::new(&b.topic("x"), "1").with(alias()))?;
    first.ping()?;
    let (mut second, present) = b.join_kept("pub")?;
    b.check(present, "expected Session Present 1, found 0")?;
    second.publish(&Publish::new("", "2").with(alias()))?;
    second.closed().map(drop)
}

fn retained_message_that_expired_is_not_sent(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    let expiring = Props::new().four(MESSAGE_EXPIRY, 1);
    publisher.publish(&Publish::new(&b.topic("x"), "late").qos(1, 0).retain().with(expiring))?;
    publisher.publish(&Publish::new(&b.topic("y"), "in time").qos(1, 0).retain())?;
    // Passing time is what this is about.
    sleep(Duration::from_millis(2500));
    for qos in [0, 1] {
        let mut sub = b.join("sub")?;
        sub.subscribe(&b.topic("#"), qos)?;
        sub.take("in time")?;
        b.nothing_more(&mut sub, &mut publisher)?;
        sub.disconnect();
    }
    Ok(())
}

fn resumed_session_can_unsubscribe(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("x"), 1)?;
    wire.subscribe(&b.topic("end"), 1)?;
    wire.disconnect();
    let (mut wire, _) = b.join_kept("a")?;
    let codes = wire.unsubscribe(&[&b.topic("x")])?;
    if b.is_v5() {
        b.same("UNSUBACK", codes, vec![0])?;
    }
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "x").qos(1, 0))?;
    b.nothing_more(&mut wire, &mut publisher)
}

fn will_of_a_session_that_is_taken_over_and_goes_on_is_published(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 1)?;
    let connect = b.hello_kept("will").will(&b.topic("will"), "gone");
    let (mut first, _) = b.join_with("will", &connect)?;
    let (mut second, present) = b.join_kept("will")?;
    b.check(present, "expected Session Present 1, found 0")?;
    first.closed()?;
    sub.take("gone")?;
    second.ping()
}

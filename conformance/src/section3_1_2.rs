//! §3.1.2, sessions: Clean Start, Session Expiry, takeover, Keep Alive, limits of the Client.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{Bench, Outcome, cases};
use crate::number::{
    AUTH_METHOD, MAXIMUM_PACKET_SIZE, PROBLEM_INFORMATION, SESSION_EXPIRY, TOPIC_ALIAS,
    TOPIC_ALIAS_MAXIMUM,
};
use crate::packet::{Props, Publish, frame};

cases! {
    "3.1.2.4" {
        clean_start_drops_the_session: v5 ["MQTT-3.1.2-4", "MQTT-3.1.4-4", "MQTT-3.2.2-2"],
            v311 ["MQTT-3.1.2-6", "MQTT-3.1.4-3", "MQTT-3.2.2-1"];
        session_is_resumed_with_its_subscriptions:
            v5 ["MQTT-3.1.2-5", "MQTT-3.1.2-23", "MQTT-3.2.2-3", "MQTT-3.1.3-2"],
            v311 ["MQTT-3.1.2-4", "MQTT-3.2.2-2", "MQTT-3.1.3-2", "MQTT-4.1.0-1"];
        first_connection_has_no_session: v5 ["MQTT-3.1.2-6", "MQTT-3.2.2-3"],
            v311 ["MQTT-3.1.2-4", "MQTT-3.2.2-3"];
        messages_of_qos_1_and_2_wait_for_the_session: v5 ["MQTT-4.5.0-1", "MQTT-4.1.0-1"],
            v311 ["MQTT-3.1.2-5", "MQTT-4.5.0-1"];
        clean_session_ends_with_its_connection: v5 ["MQTT-4.1.0-2"],
            v311 ["MQTT-3.1.2-6", "MQTT-3.2.2-3", "MQTT-4.1.0-2"];
        retained_message_outlives_the_session_of_its_sender: v5 ["MQTT-3.3.1-5"],
            v311 ["MQTT-3.1.2-7"];
    }
    "3.1.2.11" {
        session_ends_when_its_expiry_passed: v5 ["MQTT-4.1.0-2"], v311 [];
        disconnect_changes_the_session_expiry: v5 ["MQTT-4.1.0-2"], v311 [];
        session_without_an_expiry_ends_with_its_connection: v5 ["MQTT-4.1.0-2"], v311 [];
        session_that_never_expires_is_kept: v5 ["MQTT-3.1.2-23"], v311 [];
        expiry_of_the_last_connect_counts: v5 ["MQTT-3.1.2-23", "MQTT-4.1.0-2"], v311 [];
        packets_larger_than_the_client_takes_are_not_sent:
            v5 ["MQTT-3.1.2-24", "MQTT-3.1.2-25"], v311 [];
        answers_fit_the_clients_maximum: v5 [
            "MQTT-3.1.2-24",
            "MQTT-3.4.2-2",
            "MQTT-3.4.2-3",
            "MQTT-3.5.2-2",
            "MQTT-3.5.2-3",
            "MQTT-3.6.2-2",
            "MQTT-3.6.2-3",
            "MQTT-3.7.2-2",
            "MQTT-3.7.2-3",
            "MQTT-3.9.2-1",
            "MQTT-3.9.2-2",
            "MQTT-3.11.2-1",
            "MQTT-3.11.2-2",
            "MQTT-3.14.2-3",
            "MQTT-3.14.2-4",
        ], v311 [];
        refusal_fits_the_clients_maximum: v5 ["MQTT-3.2.2-19", "MQTT-3.2.2-20"], v311 [];
        client_without_an_alias_maximum_gets_no_alias: v5 ["MQTT-3.1.2-27"], v311 [];
        aliases_sent_stay_within_the_maximum: v5 ["MQTT-3.1.2-26", "MQTT-3.3.2-11"], v311 [];
        without_problem_information_no_reason_is_given: v5 ["MQTT-3.1.2-29"], v311 [];
    }
    "3.1.2.10" {
        silence_beyond_the_keep_alive_closes: v5 ["MQTT-3.1.2-22", "MQTT-3.2.2-22"],
            v311 ["MQTT-3.1.2-24"];
        any_packet_within_the_keep_alive_keeps_it_open: v5 ["MQTT-3.1.2-22"],
            v311 ["MQTT-3.1.2-24"];
    }
    "3.1.4" {
        second_connection_takes_over: v5 ["MQTT-3.1.4-3"], v311 ["MQTT-3.1.4-2"];
        takeover_with_clean_start_ends_the_session: v5 ["MQTT-3.1.4-3", "MQTT-3.1.2-4"],
            v311 ["MQTT-3.1.4-2", "MQTT-3.1.2-6"];
        takeover_sends_unacknowledged_messages_again: v5 ["MQTT-3.1.4-3", "MQTT-4.4.0-1"],
            v311 ["MQTT-3.1.4-2", "MQTT-4.4.0-1"];
        takeover_with_clean_start_0_keeps_the_session: v5 ["MQTT-3.1.4-3", "MQTT-3.1.2-5"],
            v311 ["MQTT-3.1.4-2", "MQTT-3.1.2-4"];
    }
}

fn clean_start_drops_the_session(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("x"), 1)?;
    wire.disconnect();
    let (mut wire, connack) = b.join_with("a", &b.hello("a"))?;
    b.check(!connack.session_present(), "expected Session Present 0, found 1")?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "must not arrive").qos(1, 0))?;
    wire.subscribe(&b.topic("end"), 0)?;
    b.nothing_more(&mut wire, &mut publisher)
}

fn session_is_resumed_with_its_subscriptions(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("x"), 1)?;
    wire.drop_connection();
    let (mut wire, present) = b.join_kept("a")?;
    b.check(present, "expected Session Present 1, found 0")?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "hello").qos(1, 0))?;
    wire.take("hello").map(drop)
}

fn first_connection_has_no_session(b: &Bench) -> Outcome {
    let (_, present) = b.join_kept("a")?;
    b.check(!present, "expected Session Present 0, found 1")
}

fn messages_of_qos_1_and_2_wait_for_the_session(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    wire.subscribe(&b.topic("#"), 2)?;
    wire.disconnect();
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "one").qos(1, 0))?;
    publisher.publish(&Publish::new(&b.topic("x"), "two").qos(2, 0))?;
    let (mut wire, present) = b.join_kept("a")?;
    b.check(present, "expected Session Present 1, found 0")?;
    for (payload, qos) in [("one", 1), ("two", 2)] {
        let found = wire.take(payload)?;
        b.same("QoS", found.qos, qos)?;
        b.check(!found.dup, "expected DUP 0 on a first delivery, found 1")?;
    }
    wire.ping()
}

fn clean_session_ends_with_its_connection(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.subscribe(&b.topic("x"), 1)?;
    wire.publish(&Publish::new(&b.topic("x"), "while it lasts").qos(1, 0))?;
    wire.take("while it lasts")?;
    wire.disconnect();
    let (_, present) = b.join_kept("a")?;
    b.check(!present, "expected Session Present 0, found 1")
}

fn retained_message_outlives_the_session_of_its_sender(b: &Bench) -> Outcome {
    let mut wire = b.join("a")?;
    wire.publish(&Publish::new(&b.topic("x"), "kept").qos(1, 0).retain())?;
    wire.disconnect();
    b.join("a")?.disconnect();
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("x"), 0)?;
    sub.take("kept").map(drop)
}

fn session_ends_when_its_expiry_passed(b: &Bench) -> Outcome {
    let (wire, _) = b.join_with("a", &b.hello("a").kept(1))?;
    wire.disconnect();
    // Passing time is what this is about; a Server may take a moment to look at its clock.
    sleep(Duration::from_secs(3));
    let (_, present) = b.join_kept("a")?;
    b.check(!present, "expected Session Present 0 after the expiry, found 1")
}

fn disconnect_changes_the_session_expiry(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_kept("a")?;
    let props = Props::new().four(SESSION_EXPIRY, 0).block(b.version);
    wire.send(&frame(0xE0, &[&[0], &props]));
    wire.closed()?;
    let (_, present) = b.join_kept("a")?;
    b.check(!present, "expected Session Present 0, found 1")
}

/// Absent is 0, whatever Clean Start says.
fn session_without_an_expiry_ends_with_its_connection(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.clean = false;
    let (mut wire, _) = b.join_with("a", &connect)?;
    wire.subscribe(&b.topic("x"), 1)?;
    wire.disconnect();
    let (_, present) = b.join_kept("a")?;
    b.check(!present, "expected Session Present 0, found 1")
}

fn session_that_never_expires_is_kept(b: &Bench) -> Outcome {
    let (mut wire, _) = b.join_with("a", &b.hello("a").kept(u32::MAX))?;
    wire.subscribe(&b.topic("x"), 1)?;
    wire.drop_connection();
    let (mut wire, present) = b.join_kept("a")?;
    b.check(present, "expected Session Present 1, found 0")?;
    b.join("pub")?.publish(&Publish::new(&b.topic("x"), "x").qos(1, 0))?;
    wire.take("x").map(drop)
}

fn expiry_of_the_last_connect_counts(b: &Bench) -> Outcome {
    b.join_kept("a")?.0.disconnect();
    let (wire, connack) = b.join_with("a", &b.hello("a").kept(0))?;
    b.check(connack.session_present(), "expected Session Present 1, found 0")?;
    wire.disconnect();
    let (_, present) = b.join_kept("a")?;
    b.check(!present, "expected Session Present 0, found 1")
}

fn packets_larger_than_the_client_takes_are_not_sent(b: &Bench) -> Outcome {
    let connect = b.hello("sub").with(Props::new().four(MAXIMUM_PACKET_SIZE, 100));
    let (mut sub, _) = b.join_with("sub", &connect)?;
    sub.subscribe(&b.topic("#"), 2)?;
    let mut publisher = b.join("pub")?;
    for qos in [0, 1, 2] {
        publisher.publish(&Publish::new(&b.topic("x"), &"x".repeat(100)).qos(qos, 0))?;
        publisher.publish(&Publish::new(&b.topic("x"), "small").qos(qos, 0))?;
        sub.take("small")?;
    }
    b.nothing_more(&mut sub, &mut publisher)
}

fn answers_fit_the_clients_maximum(b: &Bench) -> Outcome {
    // Enough for a CONNACK with numbers and for a short message, not for a sentence.
    let most = 50;
    let connect = b.hello("a").with(Props::new().four(MAXIMUM_PACKET_SIZE, most));
    let mut wire = b.open("a")?;
    wire.packet_bytes_max(most);
    wire.send(&connect.bytes());
    b.same("code", wire.connack()?.code, 0)?;
    wire.publish(&Publish::new(&b.topic("nobody"), "x").qos(1, 0))?;
    wire.publish(&Publish::new(&b.topic("nobody"), "x").qos(2, 0))?;
    wire.send(&crate::packet::ack(crate::number::PUBREL, 999));
    wire.acked(crate::number::PUBCOMP, 999)?;
    wire.subscribe(&b.topic("x"), 2)?;
    wire.unsubscribe(&[&b.topic("no/such"), &b.topic("nor/this")])?;
    wire.publish(&Publish::new(&b.topic("x"), "x").qos(2, 0))?;
    wire.take("x")?;
    let _second = b.join("a")?;
    wire.closed().map(drop)
}

fn refusal_fits_the_clients_maximum(b: &Bench) -> Outcome {
    let most = 20;
    let props = Props::new().four(MAXIMUM_PACKET_SIZE, most).text(AUTH_METHOD, "no-such");
    let mut wire = b.open("a")?;
    wire.packet_bytes_max(most);
    wire.send(&b.hello("a").with(props).bytes());
    wire.closed().map(drop)
}

fn client_without_an_alias_maximum_gets_no_alias(b: &Bench) -> Outcome {
    let (mut sub, mut publisher) = b.pair(0)?;
    for payload in ["1", "2", "3"] {
        publisher.publish(&Publish::new(&b.topic("x"), payload))?;
        let found = sub.take(payload)?;
        b.same("aliases", found.property(TOPIC_ALIAS), Ok(Vec::new()))?;
        b.same("topic", found.topic, b.topic("x").into_bytes())?;
    }
    Ok(())
}

fn aliases_sent_stay_within_the_maximum(b: &Bench) -> Outcome {
    let connect = b.hello("sub").with(Props::new().two(TOPIC_ALIAS_MAXIMUM, 2));
    let (mut sub, _) = b.join_with("sub", &connect)?;
    sub.subscribe(&b.topic("#"), 0)?;
    let mut publisher = b.join("pub")?;
    let mut known = std::collections::BTreeMap::new();
    for round in 0..3 {
        for name in ["one", "two", "three"] {
            let topic = b.topic(name);
            publisher.publish(&Publish::new(&topic, &format!("{name}{round}")))?;
            let mut found = sub.take(&format!("{name}{round}"))?;
            if let Ok([alias]) = found.property(TOPIC_ALIAS).as_deref() {
                b.check(matches!(alias[..], [0, 1 | 2]), format!("alias {alias:?} of at most 2"))?;
                if found.topic.is_empty() {
                    found.topic = known.get(alias).cloned().unwrap_or_default();
                }
                known.insert(alias.clone(), found.topic.clone());
            }
            b.same("topic", found.topic, topic.into_bytes())?;
        }
    }
    Ok(())
}

fn without_problem_information_no_reason_is_given(b: &Bench) -> Outcome {
    let connect = b.hello("a").with(Props::new().byte(PROBLEM_INFORMATION, 0));
    let (mut wire, _) = b.join_with("a", &connect)?;
    let none = Props::new().block(b.version);
    // Nobody subscribes to the one, there is no subscription to the other: both have a reason.
    wire.send(&Publish::new(&b.topic("x"), "x").qos(1, 9).bytes(b.version));
    let puback = wire.next_of(crate::number::PUBACK)?;
    b.check(puback.body.len() <= 4, format!("expected no properties, found {puback}"))?;
    wire.send(&crate::packet::unsubscribe(b.version, 10, &[&b.topic("x")]));
    let unsuback = wire.next_of(crate::number::UNSUBACK)?;
    b.same("properties", unsuback.body.get(2..3).map(<[u8]>::to_vec), Some(none))
}

fn silence_beyond_the_keep_alive_closes(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.keep_alive = 2;
    let (mut wire, connack) = b.join_with("a", &connect)?;
    let seconds = connack.number(0x13).unwrap_or(2);
    if seconds != 2 {
        return Err(crate::case::Fail::Skipped(format!("the Server's Keep Alive is {seconds}")));
    }
    wire.patience(Duration::from_secs(20));
    let start = Instant::now();
    wire.closed()?;
    let took = start.elapsed();
    // The limit is 3 s; a Server that looks at its clock once a second is a little late.
    let in_time = (Duration::from_secs(2)..Duration::from_millis(4500)).contains(&took);
    b.check(in_time, format!("expected a close after 3 s, found it after {took:?}"))
}

fn any_packet_within_the_keep_alive_keeps_it_open(b: &Bench) -> Outcome {
    let mut connect = b.hello("a");
    connect.keep_alive = 1;
    let (mut wire, _) = b.join_with("a", &connect)?;
    for round in 0..6 {
        sleep(Duration::from_millis(700));
        match round % 2 {
            0 => wire.ping()?,
            _ => wire.publish(&Publish::new(&b.topic("x"), "x").qos(1, 0)).map(drop)?,
        }
    }
    Ok(())
}

fn second_connection_takes_over(b: &Bench) -> Outcome {
    let mut first = b.join("a")?;
    let mut second = b.join("a")?;
    let said = first.closed()?;
    if b.is_v5() {
        b.same("reason of the DISCONNECT", said, Some(0x8E))?;
    }
    second.ping()
}

fn takeover_with_clean_start_0_keeps_the_session(b: &Bench) -> Outcome {
    let (mut first, _) = b.join_kept("a")?;
    first.subscribe(&b.topic("x"), 1)?;
    let (mut second, present) = b.join_kept("a")?;
    b.check(present, "expected Session Present 1, found 0")?;
    first.closed()?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "hello").qos(1, 0))?;
    second.take("hello").map(drop)
}

fn takeover_with_clean_start_ends_the_session(b: &Bench) -> Outcome {
    let (mut first, _) = b.join_kept("a")?;
    first.subscribe(&b.topic("#"), 1)?;
    let (mut second, connack) = b.join_with("a", &b.hello("a"))?;
    b.check(!connack.session_present(), "expected Session Present 0, found 1")?;
    first.closed()?;
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("x"), "must not arrive").qos(1, 0))?;
    second.subscribe(&b.topic("end"), 0)?;
    b.nothing_more(&mut second, &mut publisher)
}

fn takeover_sends_unacknowledged_messages_again(b: &Bench) -> Outcome {
    let (mut first, _) = b.join_kept("a")?;
    first.subscribe(&b.topic("#"), 1)?;
    b.join("pub")?.publish(&Publish::new(&b.topic("x"), "again").qos(1, 0))?;
    let id = first.message()?.id;
    let (mut second, _) = b.join_kept("a")?;
    let found = second.take("again")?;
    b.same("identifier and DUP", (found.id, found.dup), (id, true))
}

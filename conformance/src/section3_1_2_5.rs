//! §3.1.2.5 and §3.1.3.2, wills: when they are published, when not, and what they are then.

use std::thread::sleep;
use std::time::Duration;

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{
    CONTENT_TYPE, CORRELATION_DATA, MESSAGE_EXPIRY, PAYLOAD_FORMAT, RESPONSE_TOPIC, WILL_DELAY,
};
use crate::packet::{Connect, Props, Publish, frame};
use crate::wire::Wire;

cases! {
    "3.1.2.5" {
        will_is_published_when_the_connection_breaks: v5 ["MQTT-3.1.2-7", "MQTT-3.1.2-8"],
            v311 ["MQTT-3.1.2-8", "MQTT-3.1.2-9"];
        will_is_published_after_a_protocol_error: v5 ["MQTT-3.1.2-8"], v311 ["MQTT-3.1.2-8"];
        will_is_published_when_the_keep_alive_passes: v5 ["MQTT-3.1.2-8", "MQTT-3.1.2-22"],
            v311 ["MQTT-3.1.2-8", "MQTT-3.1.2-24"];
        will_is_dropped_on_disconnect: v5 ["MQTT-3.1.2-10", "MQTT-3.14.4-3"],
            v311 ["MQTT-3.1.2-10", "MQTT-3.14.4-3"];
        will_is_published_on_disconnect_04: v5 ["MQTT-3.1.2-8"], v311 [];
        will_is_published_once: v5 ["MQTT-3.1.2-10"], v311 ["MQTT-3.1.2-10"];
        connection_without_a_will_publishes_none: v5 ["MQTT-3.1.2-8"], v311 ["MQTT-3.1.2-12"];
        will_is_published_when_its_connection_is_taken_over: v5 ["MQTT-3.1.2-8"],
            v311 ["MQTT-3.1.2-8"];
        will_is_published_after_a_malformed_packet: v5 ["MQTT-3.1.2-8"], v311 ["MQTT-3.1.2-8"];
        will_reaches_sessions_that_are_away: v5 ["MQTT-3.1.2-8", "MQTT-4.5.0-1"],
            v311 ["MQTT-3.1.2-8", "MQTT-3.1.2-5"];
        will_of_a_refused_connect_is_not_published: v5 ["MQTT-3.1.4-6"], v311 ["MQTT-3.1.4-5"];
        new_will_replaces_the_one_before: v5 ["MQTT-3.1.2-7", "MQTT-3.1.2-10"],
            v311 ["MQTT-3.1.2-8", "MQTT-3.1.2-10"];
        empty_retained_will_removes_the_retained_message:
            v5 ["MQTT-3.1.2-15", "MQTT-3.3.1-6"], v311 ["MQTT-3.1.2-17", "MQTT-3.3.1-10"];
    }
    "3.1.2.6" {
        will_has_its_qos: v5 ["MQTT-3.1.2-8"], v311 ["MQTT-3.1.2-9"];
    }
    "3.1.2.7" {
        will_without_retain_is_not_retained: v5 ["MQTT-3.1.2-14"], v311 ["MQTT-3.1.2-16"];
        will_with_retain_is_retained: v5 ["MQTT-3.1.2-15"], v311 ["MQTT-3.1.2-17"];
    }
    "3.1.3.2" {
        will_waits_for_its_delay: v5 ["MQTT-3.1.2-8"], v311 [];
        will_is_not_published_after_a_reconnect_in_time: v5 ["MQTT-3.1.3-9"], v311 [];
        will_is_published_when_the_session_ends_before_the_delay: v5 ["MQTT-3.1.2-8"], v311 [];
        will_is_published_at_once_when_a_clean_start_ends_its_session:
            v5 ["MQTT-3.1.2-8", "MQTT-3.1.2-4"], v311 [];
        will_with_a_delay_of_a_session_without_an_expiry_is_published_at_once:
            v5 ["MQTT-3.1.2-8"], v311 [];
        will_with_a_delay_is_dropped_when_the_client_takes_over: v5 ["MQTT-3.1.3-9"], v311 [];
        disconnect_04_publishes_the_will_after_its_delay: v5 ["MQTT-3.1.2-8"], v311 [];
        disconnect_with_expiry_0_publishes_the_will_at_once: v5 ["MQTT-3.1.2-8"], v311 [];
        will_has_its_properties_in_order: v5 ["MQTT-3.1.3-10"], v311 [];
    }
}

/// A Client with a will of payload `gone` on the topic `will`.
fn mortal(b: &Bench) -> Connect {
    b.hello("will").will(&b.topic("will"), "gone")
}

fn set(connect: &mut Connect, change: impl FnOnce(&mut crate::packet::Will)) {
    if let Some(will) = &mut connect.will {
        change(will);
    }
}

fn watch(b: &Bench, connect: &Connect) -> Result<(Wire, Wire), Fail> {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 2)?;
    Ok((sub, b.join_with("will", connect)?.0))
}

fn will_is_published_when_the_connection_breaks(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &mortal(b))?;
    sub.ping()?;
    wire.drop_connection();
    let found = sub.take("gone")?;
    b.same("topic", found.topic, b.topic("will").into_bytes())
}

fn will_is_published_after_a_protocol_error(b: &Bench) -> Outcome {
    let (mut sub, mut wire) = watch(b, &mortal(b))?;
    wire.send(&b.hello("will").bytes());
    wire.closed()?;
    sub.take("gone").map(drop)
}

fn will_is_published_when_the_keep_alive_passes(b: &Bench) -> Outcome {
    let mut connect = mortal(b);
    connect.keep_alive = 1;
    let (mut sub, mut wire) = watch(b, &connect)?;
    // How late the Server may be is the subject of another case.
    wire.patience(Duration::from_secs(20));
    wire.closed()?;
    sub.take("gone").map(drop)
}

fn will_is_dropped_on_disconnect(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &mortal(b))?;
    wire.disconnect();
    let mut publisher = b.join("pub")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn will_is_published_on_disconnect_04(b: &Bench) -> Outcome {
    let (mut sub, mut wire) = watch(b, &mortal(b))?;
    wire.send(&frame(0xE0, &[&[4]]));
    sub.take("gone").map(drop)
}

fn will_is_published_once(b: &Bench) -> Outcome {
    let connect = mortal(b).kept(60);
    let (mut sub, wire) = watch(b, &connect)?;
    wire.drop_connection();
    sub.take("gone")?;
    let (wire, _) = b.join_with("will", &b.hello_kept("will"))?;
    wire.drop_connection();
    let mut publisher = b.join("pub")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn connection_without_a_will_publishes_none(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &b.hello("will"))?;
    wire.drop_connection();
    // Its name being free again shows that the Server has noticed.
    b.join("will")?.disconnect();
    let mut publisher = b.join("pub")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn will_is_published_when_its_connection_is_taken_over(b: &Bench) -> Outcome {
    let (mut sub, mut wire) = watch(b, &mortal(b))?;
    let mut second = b.join("will")?;
    wire.closed()?;
    sub.take("gone")?;
    second.ping()
}

fn will_is_published_after_a_malformed_packet(b: &Bench) -> Outcome {
    let (mut sub, mut wire) = watch(b, &mortal(b))?;
    wire.send(&[0x00, 0]);
    wire.closed()?;
    sub.take("gone").map(drop)
}

fn will_reaches_sessions_that_are_away(b: &Bench) -> Outcome {
    let (mut away, _) = b.join_kept("away")?;
    away.subscribe(&b.topic("will"), 1)?;
    away.disconnect();
    let mut connect = mortal(b);
    set(&mut connect, |will| will.qos = 1);
    let (mut sub, wire) = watch(b, &connect)?;
    wire.drop_connection();
    sub.take("gone")?;
    let (mut away, _) = b.join_kept("away")?;
    away.take("gone").map(drop)
}

fn will_of_a_refused_connect_is_not_published(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 0)?;
    let mut connect = mortal(b);
    connect.client_id = Vec::new();
    connect.clean = b.is_v5();
    if b.is_v5() {
        connect = connect.with(Props::new().text(crate::number::AUTH_METHOD, "no-such"));
    }
    let mut wire = b.open("will")?;
    wire.send(&connect.bytes());
    wire.closed_or_refused()?;
    b.nothing_more(&mut sub, &mut b.join("pub")?)
}

fn new_will_replaces_the_one_before(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &mortal(b))?;
    wire.disconnect();
    let connect = b.hello("will").will(&b.topic("other"), "another");
    b.join_with("will", &connect)?.0.drop_connection();
    sub.take("another")?;
    b.nothing_more(&mut sub, &mut b.join("pub")?)
}

fn empty_retained_will_removes_the_retained_message(b: &Bench) -> Outcome {
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&b.topic("will"), "kept").qos(1, 0).retain())?;
    let mut connect = b.hello("will").will(&b.topic("will"), "");
    set(&mut connect, |will| will.retain = true);
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("#"), 0)?;
    sub.take("kept")?;
    b.join_with("will", &connect)?.0.drop_connection();
    sub.take("")?;
    let mut late = b.join("late")?;
    late.subscribe(&b.topic("#"), 0)?;
    b.nothing_more(&mut late, &mut publisher)
}

fn will_has_its_qos(b: &Bench) -> Outcome {
    for qos in [0, 1, 2] {
        let mut connect = mortal(b);
        set(&mut connect, |will| will.qos = qos);
        let (mut sub, wire) = watch(b, &connect)?;
        wire.drop_connection();
        b.same("QoS", sub.take("gone")?.qos, qos)?;
        sub.disconnect();
    }
    Ok(())
}

fn will_without_retain_is_not_retained(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &mortal(b))?;
    wire.drop_connection();
    sub.take("gone")?;
    let (mut late, mut publisher) = (b.join("late")?, b.join("pub")?);
    late.subscribe(&b.topic("#"), 0)?;
    b.nothing_more(&mut late, &mut publisher)
}

fn will_with_retain_is_retained(b: &Bench) -> Outcome {
    let mut connect = mortal(b);
    set(&mut connect, |will| will.retain = true);
    let (mut sub, wire) = watch(b, &connect)?;
    wire.drop_connection();
    b.check(!sub.take("gone")?.retain, "expected RETAIN 0 to a live subscription, found 1")?;
    let mut late = b.join("late")?;
    late.subscribe(&b.topic("#"), 0)?;
    b.check(late.take("gone")?.retain, "expected RETAIN 1 to a new subscription, found 0")?;
    late.publish(&Publish::new(&b.topic("will"), "").retain()).map(drop)
}

fn delayed(b: &Bench, delay: u32, expiry: u32) -> Connect {
    let mut connect = mortal(b).kept(expiry);
    set(&mut connect, |will| will.props = Props::new().four(WILL_DELAY, delay));
    connect
}

fn will_waits_for_its_delay(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &delayed(b, 2, 60))?;
    wire.drop_connection();
    let mut publisher = b.join("pub")?;
    b.nothing_more(&mut sub, &mut publisher)?;
    sub.take("gone").map(drop)
}

fn will_is_not_published_after_a_reconnect_in_time(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &delayed(b, 2, 60))?;
    wire.drop_connection();
    let (mut wire, _) = b.join_with("will", &b.hello_kept("will"))?;
    // Passing time is what this is about.
    sleep(Duration::from_secs(3));
    wire.ping()?;
    let mut publisher = b.join("pub")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn will_is_published_when_the_session_ends_before_the_delay(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &delayed(b, 60, 1))?;
    wire.drop_connection();
    sub.take("gone").map(drop)
}

fn will_is_published_at_once_when_a_clean_start_ends_its_session(b: &Bench) -> Outcome {
    let (mut sub, wire) = watch(b, &delayed(b, 60, 60))?;
    wire.drop_connection();
    let mut second = b.join("will")?;
    sub.take("gone")?;
    second.ping()
}

fn will_with_a_delay_of_a_session_without_an_expiry_is_published_at_once(b: &Bench) -> Outcome {
    let mut connect = mortal(b);
    set(&mut connect, |will| will.props = Props::new().four(WILL_DELAY, 60));
    let (mut sub, wire) = watch(b, &connect)?;
    wire.drop_connection();
    sub.take("gone").map(drop)
}

fn will_with_a_delay_is_dropped_when_the_client_takes_over(b: &Bench) -> Outcome {
    let (mut sub, mut first) = watch(b, &delayed(b, 1, 60))?;
    let (mut second, _) = b.join_with("will", &b.hello_kept("will"))?;
    first.closed()?;
    // Passing time is what this is about.
    sleep(Duration::from_secs(2));
    second.ping()?;
    b.nothing_more(&mut sub, &mut b.join("pub")?)
}

fn disconnect_04_publishes_the_will_after_its_delay(b: &Bench) -> Outcome {
    let (mut sub, mut wire) = watch(b, &delayed(b, 2, 60))?;
    wire.send(&frame(0xE0, &[&[4]]));
    wire.closed()?;
    b.nothing_more(&mut sub, &mut b.join("pub")?)?;
    sub.take("gone").map(drop)
}

fn disconnect_with_expiry_0_publishes_the_will_at_once(b: &Bench) -> Outcome {
    let (mut sub, mut wire) = watch(b, &delayed(b, 60, 60))?;
    let props = Props::new().four(crate::number::SESSION_EXPIRY, 0).block(b.version);
    wire.send(&frame(0xE0, &[&[4], &props]));
    wire.closed()?;
    sub.take("gone").map(drop)
}

fn will_has_its_properties_in_order(b: &Bench) -> Outcome {
    let mut connect = mortal(b);
    let sent = Props::new()
        .byte(PAYLOAD_FORMAT, 1)
        .four(MESSAGE_EXPIRY, 1000)
        .text(CONTENT_TYPE, "text")
        .text(RESPONSE_TOPIC, "answers")
        .text(CORRELATION_DATA, [0, 1, 255])
        .pair("b", "1")
        .pair("a", "2")
        .pair("b", "1");
    set(&mut connect, |will| will.props = sent.clone());
    let (mut sub, wire) = watch(b, &connect)?;
    wire.drop_connection();
    let found = sub.take("gone")?;
    let sent = Publish::new("", "").with(sent);
    for id in [PAYLOAD_FORMAT, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, 0x26] {
        b.same(&format!("property {id:#04x}"), found.property(id), sent.property(id))?;
    }
    Ok(())
}

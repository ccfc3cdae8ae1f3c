//! §3.1.2.3: every value of the Connect Flags.

use crate::case::{Bench, Outcome, cases};
use crate::number::{MAXIMUM_QOS, RETAIN_AVAILABLE};
use crate::packet::{Connect, text};

cases! {
    "3.1.2.3" {
        combinations_of_flags_that_are_allowed_are_accepted:
            v5 ["MQTT-3.1.4-5", "MQTT-3.1.2-9", "MQTT-3.1.2-17", "MQTT-3.1.2-19"],
            v311 ["MQTT-3.1.4-4", "MQTT-3.1.2-9", "MQTT-3.1.2-19", "MQTT-3.1.2-21"];
        combinations_of_flags_that_are_not_allowed_close:
            v5 ["MQTT-3.1.2-3", "MQTT-3.1.2-11", "MQTT-3.1.2-12", "MQTT-3.1.2-13"],
            v311 [
                "MQTT-3.1.2-3",
                "MQTT-3.1.2-11",
                "MQTT-3.1.2-13",
                "MQTT-3.1.2-14",
                "MQTT-3.1.2-15",
                "MQTT-3.1.2-22",
            ];
        user_name_without_its_flag_closes: v5 ["MQTT-3.1.2-16", "MQTT-3.1.2-18"],
            v311 ["MQTT-3.1.2-18", "MQTT-3.1.2-20"];
    }
}

/// Connect Flags (§3.1.2.3).
const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER: u8 = 0x80;

/// A CONNECT with these flags, and with the fields they announce.
fn with_flags(b: &Bench, flags: u8) -> Connect {
    let mut connect = b.hello(&format!("f{flags:02x}"));
    let (user, password) = b.login().unwrap_or(("user", "password"));
    connect.clean = flags & CLEAN != 0;
    connect.user = (flags & USER != 0).then(|| user.into());
    connect.password = (flags & PASSWORD != 0).then(|| password.into());
    let mut right = flags & (CLEAN | USER | PASSWORD);
    if flags & WILL != 0 {
        connect = connect.will(&b.topic("will"), "gone");
        if let Some(will) = &mut connect.will {
            will.qos = (flags & WILL_QOS) >> 3;
            will.retain = flags & WILL_RETAIN != 0;
        }
        right |= flags & (WILL | WILL_QOS | WILL_RETAIN);
    }
    connect.flags_xor = flags ^ right;
    connect
}

fn is_allowed(b: &Bench, flags: u8) -> bool {
    let will = flags & WILL != 0 || flags & (WILL_QOS | WILL_RETAIN) == 0;
    let login = b.is_v5() || flags & USER != 0 || flags & PASSWORD == 0;
    flags & 1 == 0 && will && flags & WILL_QOS != WILL_QOS && login
}

fn combinations_of_flags_that_are_allowed_are_accepted(b: &Bench) -> Outcome {
    let (_, offer) = b.join_with("a", &b.hello("a"))?;
    // Only what logs in must be accepted, and no will beyond what the Server announces.
    let login = if b.login().is_some() { USER | PASSWORD } else { 0 };
    let qos = offer.number(MAXIMUM_QOS).unwrap_or(2);
    let retain = offer.number(RETAIN_AVAILABLE).unwrap_or(1);
    for flags in (0..=u8::MAX).filter(|flags| is_allowed(b, *flags)) {
        let offered = u32::from((flags & WILL_QOS) >> 3) <= qos
            && u32::from((flags & WILL_RETAIN) >> 5) <= retain;
        if flags & (USER | PASSWORD) == login && offered {
            b.join_with(&format!("f{flags:02x}"), &with_flags(b, flags))?.0.disconnect();
        }
    }
    Ok(())
}

fn combinations_of_flags_that_are_not_allowed_close(b: &Bench) -> Outcome {
    // With the reserved flag there are as many again: every eighth will do.
    let wrong = |flags: &u8| !is_allowed(b, *flags) && (flags & 1 == 0 || flags % 8 == 5);
    for flags in (0..=u8::MAX).filter(wrong) {
        let mut wire = b.open(&format!("f{flags:02x}"))?;
        wire.send(&with_flags(b, flags).bytes());
        wire.closed()?;
    }
    Ok(())
}

/// The flag makes the field: without it, this is something behind the end.
fn user_name_without_its_flag_closes(b: &Bench) -> Outcome {
    let mut one = b.hello("a");
    (one.user, one.password) = (None, None);
    let mut two = one.clone();
    one.trailing = text("user");
    two.trailing = [text("user"), text("password")].concat();
    b.each_connect_closes(&[one.bytes(), two.bytes()])
}

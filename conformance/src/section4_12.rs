//! §4.12: enhanced authentication, by SCRAM-SHA-256 and an account that the target names.

use crate::case::{Bench, Fail, Outcome, cases};
use crate::number::{AUTH, AUTH_DATA, AUTH_METHOD, CONNACK, DISCONNECT, MAXIMUM_PACKET_SIZE};
use crate::packet::{Connect, Props, Publish, frame, subscribe};
use crate::read::{Packet, Reader, properties};
use crate::scram::Scram;
use crate::wire::Wire;

cases! {
    "4.12" {
        exchange_is_accepted:
            v5 ["MQTT-4.12.0-2", "MQTT-4.12.0-3", "MQTT-4.12.0-5", "MQTT-3.15.2-1"], v311 [];
        wrong_proof_is_refused: v5 ["MQTT-4.12.0-4", "MQTT-3.2.2-6", "MQTT-3.2.2-7"], v311 [];
        unknown_user_is_refused: v5 ["MQTT-4.12.0-4", "MQTT-3.2.2-7"], v311 [];
        other_packet_within_the_exchange_closes: v5 ["MQTT-3.1.2-30"], v311 [];
        packet_sent_with_the_connect_is_not_processed: v5 ["MQTT-3.1.2-30"], v311 [];
        other_method_within_the_exchange_closes: v5 ["MQTT-4.12.0-5"], v311 [];
        other_code_within_the_exchange_closes: v5 ["MQTT-4.12.0-3"], v311 [];
        exchange_fits_the_clients_maximum: v5 ["MQTT-3.15.2-2", "MQTT-3.15.2-3"], v311 [];
    }
    "4.12.1" {
        reauthentication_is_accepted: v5 ["MQTT-4.12.1-1", "MQTT-4.12.0-2", "MQTT-4.12.0-5"],
            v311 [];
        other_packets_go_on_within_a_reauthentication: v5 ["MQTT-3.3.4-1", "MQTT-3.12.4-1"],
            v311 [];
        failed_reauthentication_closes: v5 ["MQTT-4.12.1-2", "MQTT-4.13.2-1"], v311 [];
        reauthentication_by_another_method_closes: v5 ["MQTT-4.12.1-1"], v311 [];
    }
}

/// Codes of AUTH (§3.15.2.1).
const SUCCESS: u8 = 0x00;
const CONTINUE: u8 = 0x18;
const REAUTHENTICATE: u8 = 0x19;

/// The account to authenticate, its method, and an exchange.
fn exchange(b: &Bench, label: &str) -> Result<(String, Scram), Fail> {
    let Some((method, user, password)) = b.account() else {
        let what = "no account for enhanced authentication is given: see --auth-method";
        return Err(Fail::Skipped(what.into()));
    };
    let scram = Scram::new(user, password, &format!("{}{label}", b.id("nonce")));
    Ok((method.to_owned(), scram))
}

fn words(method: &str, data: &str) -> Props {
    Props::new().text(AUTH_METHOD, method).text(AUTH_DATA, data)
}

/// A CONNECT that begins the exchange; the account is named in there, and nowhere else.
fn begin(b: &Bench, label: &str, method: &str, data: &str) -> Connect {
    let mut connect = b.hello(label).with(words(method, data));
    (connect.user, connect.password) = (None, None);
    connect
}

fn auth(code: u8, method: &str, data: &str) -> Vec<u8> {
    let props = words(method, data).block(crate::packet::Version::V5);
    frame(0xF0, &[&[code], &props])
}

/// The next packet, an AUTH of this code: its Authentication Data. Holds the method on it.
fn auth_of(wire: &mut Wire, code: u8, method: &str) -> Result<Vec<u8>, Fail> {
    let packet = wire.next_of(AUTH)?;
    let (found, data) = parse(&packet, method).or_else(|wrong| wire.fail(wrong))?;
    if packet.first == 0xF0 && found == code {
        return Ok(data);
    }
    wire.fail(format!("expected AUTH {code:02x}, found {packet}"))
}

fn parse(packet: &Packet, method: &str) -> Result<(u8, Vec<u8>), String> {
    let mut reader = Reader(&packet.body);
    let code = reader.byte()?;
    let length = reader.var_int()?;
    let props = properties(reader.take(length)?)?;
    said(&props, method).map(|data| (code, data))
}

/// The data of an AUTH or CONNACK, if the method is the right one.
fn said(props: &[(u8, Vec<u8>)], method: &str) -> Result<Vec<u8>, String> {
    let of = |id| props.iter().find(|it| it.0 == id).and_then(|it| it.1.get(2..));
    if of(AUTH_METHOD) != Some(method.as_bytes()) {
        return Err(format!("expected the method {method}, found {:?}", of(AUTH_METHOD)));
    }
    Ok(of(AUTH_DATA).unwrap_or_default().to_vec())
}

/// A connection that authenticated in this way.
fn authenticated(b: &Bench, label: &str) -> Result<(Wire, String), Fail> {
    let (method, mut scram) = exchange(b, label)?;
    let mut wire = b.open(label)?;
    wire.send(&begin(b, label, &method, &scram.first()).bytes());
    let data = auth_of(&mut wire, CONTINUE, &method)?;
    let last = scram.last(&data).or_else(|wrong| wire.fail(wrong))?;
    wire.send(&auth(CONTINUE, &method, &last));
    let connack = wire.connack()?;
    b.same("code", connack.code, 0)?;
    let data = said(&connack.props, &method).or_else(|wrong| wire.fail(wrong))?;
    scram.verify(&data).or_else(|wrong| wire.fail(wrong))?;
    Ok((wire, method))
}

/// A connection that waits for the answer to the Server's first message.
fn half_way(b: &Bench, label: &str) -> Result<(Wire, String, String), Fail> {
    let (method, mut scram) = exchange(b, label)?;
    let mut wire = b.open(label)?;
    wire.send(&begin(b, label, &method, &scram.first()).bytes());
    let data = auth_of(&mut wire, CONTINUE, &method)?;
    let last = scram.last(&data).or_else(|wrong| wire.fail(wrong))?;
    Ok((wire, method, last))
}

fn exchange_is_accepted(b: &Bench) -> Outcome {
    let (mut wire, _) = authenticated(b, "a")?;
    wire.publish(&Publish::new(&b.topic("x"), "x").qos(1, 0))?;
    wire.ping()
}

/// The last message with one letter of the proof changed.
fn forged(last: &str) -> String {
    let (head, proof) = last.rsplit_once("p=").unwrap_or((last, ""));
    let other = if proof.starts_with('A') { "B" } else { "A" };
    format!("{head}p={other}{}", proof.get(1..).unwrap_or_default())
}

fn wrong_proof_is_refused(b: &Bench) -> Outcome {
    let (mut wire, method, last) = half_way(b, "a")?;
    wire.send(&auth(CONTINUE, &method, &forged(&last)));
    wire.turned_away()
}

fn unknown_user_is_refused(b: &Bench) -> Outcome {
    let (method, _) = exchange(b, "a")?;
    let mut scram = Scram::new("nobody-of-this-name", "password", &b.id("nonce"));
    let mut wire = b.open("a")?;
    wire.send(&begin(b, "a", &method, &scram.first()).bytes());
    // It may say so now, or go on as if it knew the user.
    let packet = wire.packet()?;
    if packet.kind() == CONNACK {
        let refused = packet.body.get(1).is_some_and(|code| *code >= 0x80);
        b.check(refused, format!("expected a refusal, found {packet}"))?;
        return wire.closed().map(drop);
    }
    let (_, data) = parse(&packet, &method).or_else(|wrong| wire.fail(wrong))?;
    let last = scram.last(&data).or_else(|wrong| wire.fail(wrong))?;
    wire.send(&auth(CONTINUE, &method, &last));
    wire.turned_away()
}

fn other_packet_within_the_exchange_closes(b: &Bench) -> Outcome {
    let wrong = [
        vec![0xC0, 0],
        subscribe(b.version, 1, &[(&b.topic("x"), 0)], Props::new()),
        Publish::new(&b.topic("x"), "x").bytes(b.version),
    ];
    for (index, bytes) in wrong.iter().enumerate() {
        let (mut wire, _, _) = half_way(b, &format!("w{index}"))?;
        wire.send(bytes);
        wire.turned_away()?;
    }
    Ok(())
}

fn packet_sent_with_the_connect_is_not_processed(b: &Bench) -> Outcome {
    let (method, scram) = exchange(b, "a")?;
    let (mut sub, mut publisher) = b.pair(0)?;
    let mut wire = b.open("a")?;
    let late = Publish::new(&b.topic("x"), "must not arrive").bytes(b.version);
    wire.send(&[begin(b, "a", &method, &scram.first()).bytes(), late].concat());
    // The answer to the CONNECT may be on its way before the Server looks further.
    match wire.packet() {
        Ok(packet) if packet.kind() == AUTH => wire.turned_away()?,
        Ok(packet) => {
            let refused = packet.kind() == CONNACK && packet.body.get(1) != Some(&0);
            b.check(refused, format!("expected a refusal, found {packet}"))?;
        }
        Err(_) => drop(wire.closed()?),
    }
    b.nothing_more(&mut sub, &mut publisher)
}

fn other_method_within_the_exchange_closes(b: &Bench) -> Outcome {
    let (mut wire, _, last) = half_way(b, "a")?;
    wire.send(&auth(CONTINUE, "another-method", &last));
    wire.turned_away()
}

fn other_code_within_the_exchange_closes(b: &Bench) -> Outcome {
    for (index, code) in [SUCCESS, REAUTHENTICATE].into_iter().enumerate() {
        let (mut wire, method, last) = half_way(b, &format!("w{index}"))?;
        wire.send(&auth(code, &method, &last));
        wire.turned_away()?;
    }
    Ok(())
}

/// The wire refuses what is larger. A broker that needs more room may refuse us.
fn exchange_fits_the_clients_maximum(b: &Bench) -> Outcome {
    let (method, mut scram) = exchange(b, "a")?;
    for most in [60, 250] {
        let props = Props::new().four(MAXIMUM_PACKET_SIZE, most);
        let mut wire = b.open("a")?;
        wire.packet_bytes_max(most);
        wire.send(&begin(b, "a", &method, &scram.first()).with(props).bytes());
        let Ok(packet) = wire.packet() else {
            wire.closed()?;
            continue;
        };
        if packet.kind() == AUTH {
            let (_, data) = parse(&packet, &method).or_else(|wrong| wire.fail(wrong))?;
            let last = scram.last(&data).or_else(|wrong| wire.fail(wrong))?;
            wire.send(&auth(CONTINUE, &method, &forged(&last)));
            wire.turned_away()?;
        }
    }
    Ok(())
}

fn reauthentication_is_accepted(b: &Bench) -> Outcome {
    let (mut wire, _) = authenticated(b, "a")?;
    let (method, mut scram) = exchange(b, "again")?;
    wire.send(&auth(REAUTHENTICATE, &method, &scram.first()));
    let data = auth_of(&mut wire, CONTINUE, &method)?;
    let last = scram.last(&data).or_else(|wrong| wire.fail(wrong))?;
    wire.send(&auth(CONTINUE, &method, &last));
    let data = auth_of(&mut wire, SUCCESS, &method)?;
    scram.verify(&data).or_else(|wrong| wire.fail(wrong))?;
    wire.ping()
}

fn other_packets_go_on_within_a_reauthentication(b: &Bench) -> Outcome {
    let (mut wire, _) = authenticated(b, "a")?;
    let (method, mut scram) = exchange(b, "again")?;
    wire.send(&auth(REAUTHENTICATE, &method, &scram.first()));
    let data = auth_of(&mut wire, CONTINUE, &method)?;
    wire.publish(&Publish::new(&b.topic("x"), "x").qos(1, 0))?;
    wire.ping()?;
    let last = scram.last(&data).or_else(|wrong| wire.fail(wrong))?;
    wire.send(&auth(CONTINUE, &method, &last));
    auth_of(&mut wire, SUCCESS, &method)?;
    wire.ping()
}

fn failed_reauthentication_closes(b: &Bench) -> Outcome {
    let (mut wire, _) = authenticated(b, "a")?;
    let (method, mut scram) = exchange(b, "again")?;
    wire.send(&auth(REAUTHENTICATE, &method, &scram.first()));
    let data = auth_of(&mut wire, CONTINUE, &method)?;
    let last = scram.last(&data).or_else(|wrong| wire.fail(wrong))?;
    wire.send(&auth(CONTINUE, &method, &forged(&last)));
    wire.closed().map(drop)
}

fn reauthentication_by_another_method_closes(b: &Bench) -> Outcome {
    let (mut wire, _) = authenticated(b, "a")?;
    let (_, scram) = exchange(b, "again")?;
    wire.send(&auth(REAUTHENTICATE, "another-method", &scram.first()));
    match wire.packet() {
        Ok(packet) if packet.kind() == DISCONNECT => wire.closed().map(drop),
        Ok(packet) => wire.fail(format!("expected the end, found {packet}")),
        Err(_) => wire.closed().map(drop),
    }
}

//! Enhanced authentication as a shard sees it: CONNACK, and AUTH on a live connection (§4.12).

use std::time::Duration;

use tidings_core::codec::{Auth, Packet, PropertiesBuf, Property, ReasonCode};
use tidings_core::output::CloseCause;
use tidings_core::shard::AuthStep;
use tidings_core::time::Time;

use crate::harness::{Cluster, Got, Link, Options, v5};

const BEGIN: ReasonCode = ReasonCode::ReAuthenticate;
const GO_ON: ReasonCode = ReasonCode::ContinueAuthentication;

fn auth(broker: &mut Cluster, link: Link, reason: ReasonCode, method: &str, data: &str) {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::AuthenticationMethod(method));
    if !data.is_empty() {
        properties.push(Property::AuthenticationData(data.as_bytes()));
    }
    broker.send(link, &Packet::Auth(Auth { reason, properties: properties.as_properties() }));
}

fn accept<'a>(user: &'a str, data: &'a str) -> AuthStep<'a> {
    AuthStep::Accept { user, expires: Time::NEVER, data: data.as_bytes() }
}

fn known(broker: &mut Cluster, user: &str) -> Link {
    broker.join(&v5("phone").user(user).authenticated("M", ""))
}

#[test]
fn connack_repeats_the_method_and_brings_the_last_data() {
    // [MQTT-4.12.0-5], [MQTT-4.12.0-6]
    let mut broker = Cluster::new(1);
    let said = |broker: &mut Cluster, options: &Options| {
        let link = broker.connect(options);
        let Got::Connack { properties, .. } = broker.got(link).remove(0) else { panic!() };
        let properties = properties.as_properties();
        let method = properties.authentication_method().map(str::to_owned);
        (method, properties.authentication_data().map(<[u8]>::to_vec))
    };
    let with_data = said(&mut broker, &v5("a").authenticated("M", "proof"));
    assert_eq!(with_data, (Some("M".to_owned()), Some(b"proof".to_vec())));
    let bare = said(&mut broker, &v5("a").authenticated("M", ""));
    assert_eq!(bare, (Some("M".to_owned()), None));
    assert_eq!(said(&mut broker, &v5("a")), (None, None));
}

#[test]
fn client_is_authenticated_again_while_other_packets_go_on() {
    // [MQTT-4.12.0-2], [MQTT-4.12.0-5], §4.12.1
    let mut broker = Cluster::new(1);
    let link = known(&mut broker, "bob");
    auth(&mut broker, link, BEGIN, "M", "first");
    assert_eq!(broker.asked, [(link, true, "first".to_owned())]);
    broker.raw(link, vec![0xc0, 0]);
    assert_eq!(broker.received(link), ["PINGRESP"]);
    broker.authenticated(link, AuthStep::Continue { data: b"challenge" });
    broker.listen(link, "t", 0);
    assert_eq!(broker.received(link), ["AUTH 18 M challenge"]);
    auth(&mut broker, link, GO_ON, "M", "");
    assert_eq!(broker.asked[1], (link, false, String::new()));
    broker.authenticated(link, accept("bob", "last"));
    assert_eq!(broker.received(link), ["AUTH 00 M last"]);
    // And once more: nothing is left of the first time.
    auth(&mut broker, link, BEGIN, "M", "");
    broker.authenticated(link, accept("bob", ""));
    assert_eq!(broker.received(link), ["AUTH 00 M (no data)"]);
    assert!(broker.closed(link).is_none());
}

#[test]
fn auth_that_is_not_due_ends_the_connection() {
    // [MQTT-4.12.0-3], [MQTT-4.12.0-7], [MQTT-4.12.1-1]
    type Script = fn(&mut Cluster, Link);
    let cases: [(Script, &str); 6] = [
        (|broker, link| auth(broker, link, GO_ON, "M", ""), "DISCONNECT 82"),
        (|broker, link| auth(broker, link, ReasonCode::Success, "M", ""), "DISCONNECT 82"),
        (|broker, link| broker.raw(link, vec![0xf0, 0]), "DISCONNECT 8c"),
        (|broker, link| auth(broker, link, BEGIN, "m", ""), "DISCONNECT 8c"),
        (
            |broker, link| {
                auth(broker, link, BEGIN, "M", "");
                auth(broker, link, BEGIN, "M", "");
            },
            "DISCONNECT 82",
        ),
        (
            |broker, link| {
                auth(broker, link, BEGIN, "M", "");
                auth(broker, link, GO_ON, "M", "");
            },
            "DISCONNECT 82",
        ),
    ];
    for (at, (script, goodbye)) in cases.into_iter().enumerate() {
        let mut broker = Cluster::new(1);
        let link = known(&mut broker, "bob");
        script(&mut broker, link);
        assert_eq!(broker.received(link), [goodbye], "case {at}");
        assert!(broker.closed(link).is_some());
    }
    let mut broker = Cluster::new(1);
    let link = broker.join(&v5("phone"));
    auth(&mut broker, link, BEGIN, "M", "");
    assert_eq!(broker.received(link), ["DISCONNECT 82"]);
    assert!(broker.asked.is_empty(), "nobody is asked about a client without a method");
}

#[test]
fn refusal_ends_the_connection_and_its_will_is_published() {
    // [MQTT-4.12.1-2]
    let mut broker = Cluster::new(1);
    let eve = broker.join(&v5("eve"));
    broker.listen(eve, "left", 0);
    let options = v5("phone").user("bob").authenticated("M", "").will("left", "bob", 0, 0);
    for step in [AuthStep::Refuse(ReasonCode::NotAuthorized), accept("alice", ""), accept("", "")] {
        let bob = broker.join(&options);
        auth(&mut broker, bob, BEGIN, "M", "");
        broker.authenticated(bob, step);
        assert_eq!(broker.received(bob), ["DISCONNECT 87"], "{step:?}");
        assert_eq!(broker.received(eve), ["PUBLISH q0 left=bob"], "{step:?}");
    }
}

#[test]
fn exchange_that_the_client_does_not_finish_can_be_refused() {
    let mut broker = Cluster::new(1);
    let bob = known(&mut broker, "bob");
    auth(&mut broker, bob, BEGIN, "M", "");
    broker.authenticated(bob, AuthStep::Continue { data: b"" });
    assert_eq!(broker.received(bob).len(), 1);
    broker.authenticated(bob, accept("bob", ""));
    assert!(broker.received(bob).is_empty(), "nobody has proved anything");
    broker.authenticated(bob, AuthStep::Refuse(ReasonCode::NotAuthorized));
    assert_eq!(broker.received(bob), ["DISCONNECT 87"]);
}

#[test]
fn data_that_the_client_would_not_take_is_not_sent() {
    // [MQTT-3.1.2-24]
    let mut broker = Cluster::new(1);
    let options = v5("phone").user("bob").authenticated("M", "");
    let bob = broker.join(&options.with(Property::MaximumPacketSize(100)));
    auth(&mut broker, bob, BEGIN, "M", "");
    broker.authenticated(bob, AuthStep::Continue { data: &[b'x'; 83] });
    assert_eq!(broker.received(bob).len(), 1);
    auth(&mut broker, bob, GO_ON, "M", "");
    broker.authenticated(bob, accept("bob", &"x".repeat(84)));
    assert_eq!(broker.received(bob), ["DISCONNECT 95"]);
}

#[test]
fn login_lasts_as_long_as_the_last_authentication_says() {
    let mut broker = Cluster::new(1);
    let until = |broker: &Cluster, seconds| broker.now + Duration::from_secs(seconds);
    let first = until(&broker, 10);
    let bob = broker.join(&v5("phone").user("bob").authenticated("M", "").expires(first));
    let later = AuthStep::Accept { user: "bob", expires: until(&broker, 20), data: b"" };
    auth(&mut broker, bob, BEGIN, "M", "");
    broker.authenticated(bob, later);
    broker.advance(19);
    assert!(broker.closed(bob).is_none(), "the first end counts no more");
    // Who begins and does not finish is known no longer than before.
    auth(&mut broker, bob, BEGIN, "M", "");
    broker.authenticated(bob, AuthStep::Continue { data: b"" });
    broker.advance(1);
    assert_eq!(broker.closed(bob), Some(&CloseCause::LoginExpired));
    // An answer to somebody who is gone, or to nobody's question, is nothing.
    broker.authenticated(bob, accept("bob", ""));
    let ann = known(&mut broker, "ann");
    broker.authenticated(ann, AuthStep::Refuse(ReasonCode::NotAuthorized));
    assert!(broker.closed(ann).is_none() && broker.received(ann).is_empty());
}

#[test]
fn login_that_is_over_already_is_none() {
    let mut broker = Cluster::new(1);
    let bob = known(&mut broker, "bob");
    auth(&mut broker, bob, BEGIN, "M", "");
    let over = AuthStep::Accept { user: "bob", expires: broker.now, data: b"" };
    broker.authenticated(bob, over);
    assert_eq!(broker.received(bob), ["DISCONNECT 87"]);
}

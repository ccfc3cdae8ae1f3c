//! Enhanced authentication over sockets: before CONNACK, and again on a live connection (§4.12).

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidings_broker::auth::{EnhancedAuthenticate, Exchange, Introduction, Refusal, Step};
use tidings_broker::{Broker, ConnectionLimits};

use crate::shell::builder;
use crate::wire::{Connect, Packet, Wire, auth, packet};

/// The method `PLAY`, which does as the Client says.
#[derive(Debug)]
struct Play;

#[derive(Debug)]
struct Playing(Introduction);

impl EnhancedAuthenticate for Play {
    fn offers(&self, method: &str) -> bool {
        method == "PLAY"
    }

    fn begin(self: Arc<Self>, introduction: Introduction) -> Box<dyn Exchange> {
        Box::new(Playing(introduction))
    }
}

impl Exchange for Playing {
    fn step<'a>(&'a mut self, data: &'a [u8]) -> Pin<Box<dyn Future<Output = Step> + Send + 'a>> {
        Box::pin(async move {
            let text = std::str::from_utf8(data).unwrap();
            let (order, what) = text.split_once(' ').unwrap_or((text, ""));
            let data = format!("hello {what}").into_bytes();
            match order {
                "" => Step::Continue { data: Vec::new() },
                "ask" => Step::Continue { data: what.into() },
                "who" => Step::Continue { data: format!("{:?}", self.0).into_bytes() },
                "much" => Step::Continue { data: vec![b'x'; what.parse().unwrap()] },
                "as" => Step::Accept { user: what.into(), expires: None, data },
                "quietly" => Step::Accept { user: what.into(), expires: None, data: Vec::new() },
                "briefly" => {
                    let expires = Some(SystemTime::now() + Duration::from_millis(50));
                    Step::Accept { user: what.into(), expires, data: Vec::new() }
                }
                "bad" => Step::Refuse(Refusal::BadUserNameOrPassword),
                "no" => Step::Refuse(Refusal::NotAuthorized),
                "think" => std::future::pending().await,
                other => panic!("{other}"),
            }
        })
    }
}

fn broker_with(connect_timeout: Duration) -> (Broker, SocketAddr) {
    let limits = ConnectionLimits { connect_timeout, ..ConnectionLimits::default() };
    let broker = builder().connection_limits(limits).enhanced_authenticate(Arc::new(Play));
    let broker = broker.start().unwrap();
    let address = broker.addresses()[0];
    (broker, address)
}

fn broker() -> (Broker, SocketAddr) {
    broker_with(ConnectionLimits::default().connect_timeout)
}

/// CONNECT by `method` and what came first.
fn begin(address: SocketAddr, method: &str, data: &str) -> (Wire, Packet) {
    let mut wire = Wire::open(address, 5).unwrap();
    wire.send(&Connect::new("phone").method(method, data.as_bytes()).bytes()).unwrap();
    let first = wire.next();
    (wire, first)
}

fn connected(address: SocketAddr, user: &str) -> Wire {
    let (wire, first) = begin(address, "PLAY", &format!("as {user}"));
    assert_eq!(first, ACCEPTED);
    wire
}

fn asked(code: u8, data: &str) -> Packet {
    Packet::Auth(code, "PLAY".into(), data.into())
}

const ACCEPTED: Packet = Packet::Connack { present: false, code: 0 };

fn refused(code: u8) -> Packet {
    Packet::Connack { present: false, code }
}

#[test]
fn exchange_goes_to_and_fro_and_ends_in_connack() {
    // [MQTT-4.12.0-2], [MQTT-4.12.0-3], [MQTT-4.12.0-5]
    let (_broker, address) = broker();
    let (mut wire, first) = begin(address, "PLAY", "");
    assert_eq!(first, asked(0x18, ""));
    wire.send(&auth(0x18, "PLAY", b"ask the name")).unwrap();
    assert_eq!(wire.next(), asked(0x18, "the name"));
    // A packet in pieces, and another behind it.
    let last = [auth(0x18, "PLAY", b"as bob"), vec![0xc0, 0]].concat();
    for byte in last {
        wire.send(&[byte]).unwrap();
    }
    assert_eq!(wire.next(), ACCEPTED);
    assert_eq!(wire.method, Some(("PLAY".into(), b"hello bob".to_vec())));
    assert_eq!(wire.next(), Packet::Pingresp);
    let (wire, _) = begin(address, "PLAY", "quietly ann");
    assert_eq!(wire.method, Some(("PLAY".into(), Vec::new())), "no data is none");
}

#[test]
fn exchange_hears_what_connect_says() {
    let (_broker, address) = broker();
    let mut wire = Wire::open(address, 5).unwrap();
    let connect = Connect::new("phone").user("bob").password("pw").method("PLAY", b"who");
    wire.send(&connect.bytes()).unwrap();
    let Packet::Auth(_, _, data) = wire.next() else { panic!() };
    let text = String::from_utf8(data).unwrap();
    for part in ["\"PLAY\"", "\"phone\"", "\"bob\"", "(hidden)", "127.0.0.1", "current_user: None"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn what_is_not_the_answer_that_is_due_is_refused() {
    // [MQTT-3.1.2-30], [MQTT-4.12.0-3], [MQTT-4.12.0-4], [MQTT-4.12.0-5]
    let (_broker, address) = broker();
    let publish = Wire::open(address, 5).unwrap().publish_bytes("t", b"", 0, false, 0);
    let large = auth(0x18, "PLAY", &vec![b'x'; 65_520]);
    for (bytes, code) in [
        (vec![0xc0, 0], 0x82),
        (publish, 0x82),
        (Connect::new("phone").v5().bytes(), 0x82),
        (auth(0x19, "PLAY", b"as bob"), 0x82),
        (auth(0, "PLAY", b"as bob"), 0x82),
        (auth(0x18, "play", b"as bob"), 0x8c),
        (vec![0xf0, 0], 0x8c),
        (packet(0xf1, &[0x18, 0]), 0x81),
        (large, 0x95),
        (auth(0x18, "PLAY", b"no"), 0x87),
        (auth(0x18, "PLAY", b"bad"), 0x86),
        (auth(0x18, "PLAY", b"much 70000"), 0x95),
    ] {
        let (mut wire, first) = begin(address, "PLAY", "ask");
        assert_eq!(first, asked(0x18, ""));
        let _refused_half_way = wire.send(&bytes);
        assert_eq!(wire.next(), refused(code), "{:x?}", &bytes[..bytes.len().min(32)]);
        wire.ends();
    }
    let (mut wire, _) = begin(address, "PLAY", "ask");
    wire.send(&[0xe0, 0]).unwrap();
    wire.ends();
}

#[test]
fn method_that_nobody_offers_is_refused() {
    // [MQTT-4.12.0-1]
    let (_broker, address) = broker();
    for method in ["", "play", "SCRAM-SHA-1"] {
        let (wire, first) = begin(address, method, "as bob");
        assert_eq!(first, refused(0x8c), "{method}");
        wire.ends();
    }
    let nothing_offered = builder().start().unwrap();
    assert_eq!(begin(nothing_offered.addresses()[0], "PLAY", "as bob").1, refused(0x8c));
}

#[test]
fn exchange_without_an_end_ends() {
    let (_broker, address) = broker();
    let (mut wire, mut next) = begin(address, "PLAY", "ask");
    let mut steps = 1;
    while next == asked(0x18, "") {
        assert!(steps < 100, "no end");
        wire.send(&auth(0x18, "PLAY", b"ask")).unwrap();
        next = wire.next();
        steps += 1;
    }
    assert_eq!(next, refused(0x87));
}

#[test]
fn deadline_of_the_opening_holds_for_the_exchange() {
    let (_broker, address) = broker_with(Duration::from_millis(100));
    // Nobody knows what to say: neither the broker nor, in the second, the Client.
    let mut wire = Wire::open(address, 5).unwrap();
    wire.send(&Connect::new("phone").method("PLAY", b"think").bytes()).unwrap();
    wire.ends();
    let (wire, first) = begin(address, "PLAY", "ask");
    assert_eq!(first, asked(0x18, ""));
    wire.ends();
}

#[test]
fn exchange_that_panics_costs_its_own_connection_only() {
    let (_broker, address) = broker();
    let mut wire = Wire::open(address, 5).unwrap();
    wire.send(&Connect::new("phone").method("PLAY", b"panic").bytes()).unwrap();
    wire.ends();
    let mut ann = connected(address, "ann");
    let mut bob = connected(address, "bob");
    bob.send(&auth(0x19, "PLAY", b"panic")).unwrap();
    assert_eq!(bob.next(), Packet::Disconnect(0x87));
    ann.ping();
}

#[test]
fn connected_client_is_authenticated_again() {
    // §4.12.1
    let (_broker, address) = broker();
    let mut bob = connected(address, "bob");
    bob.send(&auth(0x19, "PLAY", b"ask")).unwrap();
    assert_eq!(bob.next(), asked(0x18, ""));
    bob.ping();
    bob.subscribe("t", 1);
    bob.send(&auth(0x18, "PLAY", b"who")).unwrap();
    let Packet::Auth(0x18, _, data) = bob.next() else { panic!() };
    let text = String::from_utf8(data).unwrap();
    assert!(text.contains("current_user: Some(\"bob\")") && text.contains("\"phone\""), "{text}");
    bob.send(&auth(0x18, "PLAY", b"as bob")).unwrap();
    assert_eq!(bob.next(), asked(0, "hello bob"));
    bob.publish("t", b"still here", 0, false);
    assert_eq!(bob.message().text(), "still here");
    // While the authenticator thinks, other packets go on; the Client may also just go.
    bob.send(&auth(0x19, "PLAY", b"think")).unwrap();
    bob.ping();
    bob.disconnect();
}

#[test]
fn refused_again_is_the_end_of_the_connection() {
    // [MQTT-4.12.1-1], [MQTT-4.12.1-2]
    let (_broker, address) = broker_with(Duration::from_millis(100));
    for (bytes, code) in [
        (auth(0x19, "PLAY", b"no"), 0x87),
        (auth(0x19, "PLAY", b"bad"), 0x87),
        (auth(0x19, "PLAY", b"as ann"), 0x87),
        (auth(0x19, "PLAY", b"think"), 0x87),
        (auth(0x19, "play", b"as bob"), 0x8c),
        (auth(0x18, "PLAY", b"as bob"), 0x82),
    ] {
        let mut bob = connected(address, "bob");
        bob.send(&bytes).unwrap();
        assert_eq!(bob.next(), Packet::Disconnect(code), "{bytes:x?}");
        bob.ends();
    }
    // [MQTT-4.12.0-7]
    let mut bob = Wire::connect(address, &Connect::new("phone").v5().user("bob"));
    assert_eq!(bob.method, None, "[MQTT-4.12.0-6]");
    bob.send(&auth(0x19, "PLAY", b"as bob")).unwrap();
    assert_eq!(bob.next(), Packet::Disconnect(0x82));
}

#[test]
fn exchange_that_the_client_does_not_finish_ends_the_connection() {
    let (_broker, address) = broker_with(Duration::from_millis(100));
    let mut bob = connected(address, "bob");
    // One that is finished leaves nothing behind that could end it later.
    bob.send(&auth(0x19, "PLAY", b"ask more")).unwrap();
    assert_eq!(bob.next(), asked(0x18, "more"));
    bob.send(&auth(0x18, "PLAY", b"as bob")).unwrap();
    let finished = bob.next();
    if finished != Packet::Disconnect(0x87) {
        assert_eq!(finished, asked(0, "hello bob"));
        bob.send(&auth(0x19, "PLAY", b"ask more")).unwrap();
        assert_eq!(bob.next(), asked(0x18, "more"));
        assert_eq!(bob.next(), Packet::Disconnect(0x87));
    }
    bob.ends();
}

#[test]
fn login_ends_when_it_said_it_would() {
    let (_broker, address) = broker();
    // On a machine that is busy it may be over before it began.
    let mut wire = loop {
        match begin(address, "PLAY", "briefly bob") {
            (wire, ACCEPTED) => break wire,
            (_, other) => assert_eq!(other, refused(0x87)),
        }
    };
    assert_eq!(wire.next(), Packet::Disconnect(0x87));
    let mut bob = connected(address, "bob");
    bob.send(&auth(0x19, "PLAY", b"briefly bob")).unwrap();
    let mut next = bob.next();
    if next == asked(0, "") {
        next = bob.next();
    }
    assert_eq!(next, Packet::Disconnect(0x87));
}

//! Unix sockets, and proxies that say who is at the other end.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tidings_broker::auth::{Authenticate, Credentials, Decision};
use tidings_broker::core::metric::Metric;
use tidings_broker::listener::{Listener, Network};
use tidings_broker::{Broker, Builder, ConnectionLimits};

use crate::limits::eventually;
use crate::shell::builder;
use crate::wire::{Connect, PATIENCE, Wire};

#[test]
fn unix_socket_is_this_machine_and_is_gone_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let broker = builder().listener(Listener::unix(&path)).start().unwrap();
    assert_eq!(broker.addresses().len(), 1);
    assert!(broker.endpoints()[1].to_string().ends_with("mqtt.sock"));
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Open access is for this machine only.
    let mut local = Wire::connect_over(stream, &Connect::new("local").user("bob"));
    local.subscribe("t", 1);
    let mut other = Wire::connect(broker.addresses()[0], &Connect::new("other"));
    other.publish("t", &[b'x'; 100_000], 1, false);
    assert_eq!(local.message().payload.len(), 100_000);
    // A second broker there is told so, and leaves the first alone.
    let error = Builder::new().listener(Listener::unix(&path)).start().unwrap_err().to_string();
    assert!(error.contains("cannot listen on") && error.contains("mqtt.sock"), "{error}");
    local.ping();
    broker.stop().unwrap();
    assert!(!path.exists());
}

/// Lets everybody in and writes down where from.
#[derive(Debug, Default)]
struct Doorman(Mutex<Vec<String>>);

impl Authenticate for Doorman {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        self.0.lock().unwrap().push(credentials.peer.unwrap().to_string());
        Box::pin(std::future::ready(Decision::accept("")))
    }
}

fn proxied(from: &str, limits: ConnectionLimits) -> (Broker, Arc<Doorman>) {
    let doorman = Arc::new(Doorman::default());
    let from: Network = from.parse().unwrap();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).behind_proxy([from]);
    let broker = Builder::new().listener(listener).connection_limits(limits);
    let broker = broker.authenticate(Arc::clone(&doorman) as _).start().unwrap();
    (broker, doorman)
}

/// Version 2, a command, TCP over IPv4, the source 192.0.2.7:50000, and something besides.
fn header(command: u8) -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 10, 0, 0, 1, 0xc3, 0x50, 0x07, 0x5b];
    let besides = [0x04, 0, 3, 0, 0, 0];
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, 18][..], &addresses, &besides].concat()
}

#[test]
fn proxy_says_who_comes_and_its_header_may_come_in_pieces() {
    let (broker, doorman) = proxied("127.0.0.0/8", ConnectionLimits::default());
    let open = || Wire::open(broker.addresses()[0], 4).unwrap();
    let mut pieces = open();
    for byte in header(0x21) {
        pieces.send(&[byte]).unwrap();
    }
    pieces = Wire::connect_over(pieces.stream, &Connect::new("pieces"));
    pieces.ping();
    let mut lump = open();
    lump.send(&[header(0x21), Connect::new("lump").bytes(), vec![0xc0, 0]].concat()).unwrap();
    lump.next();
    lump.next();
    let mut own = open();
    own.send(&header(0x20)).unwrap();
    let port = own.stream.local_addr().unwrap();
    Wire::connect_over(own.stream, &Connect::new("own")).ping();
    let came = doorman.0.lock().unwrap().clone();
    assert_eq!(came, ["192.0.2.7:50000", "192.0.2.7:50000", &port.to_string()]);
}

#[test]
fn who_is_no_trusted_proxy_or_names_nobody_is_closed() {
    let closes = |broker: &Broker, bytes: &[u8]| {
        let mut wire = Wire::open(broker.addresses()[0], 4).unwrap();
        let _closed_already = wire.send(bytes);
        let _closed_already = wire.send(&Connect::new("x").bytes());
        wire.ends();
    };
    // Whoever is closed is not closed for being late, with a CONNECT shorter than a header either.
    let limits = ConnectionLimits { connect_timeout: 2 * PATIENCE, ..ConnectionLimits::default() };
    let (broker, doorman) = proxied("127.0.0.1", limits);
    closes(&broker, b"");
    closes(&broker, b"PROXY TCP4 192.0.2.7 10.0.0.1 50000 1883\r\n");
    let mut nowhere = header(0x21);
    nowhere[13] = 0;
    closes(&broker, &nowhere);
    eventually(&broker, |all| all.get(Metric::ConnectsRefusedProtocol) == 3);
    let (broker, stranger) = proxied("192.0.2.0/24", ConnectionLimits::default());
    closes(&broker, &header(0x21));
    assert!(doorman.0.lock().unwrap().is_empty() && stranger.0.lock().unwrap().is_empty());
}

#[test]
fn strangers_behind_a_proxy_are_counted_by_their_own_address() {
    let limits = ConnectionLimits {
        unauthenticated_per_address_max: 2,
        // Whoever is closed is not closed for being late.
        connect_timeout: 2 * PATIENCE,
        ..ConnectionLimits::default()
    };
    let (broker, _) = proxied("127.0.0.1", limits);
    let stranger = |last: u8| {
        let mut bytes = header(0x21);
        bytes[19] = last;
        let mut stream = TcpStream::connect(broker.addresses()[0]).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let inside: Vec<_> = [1, 1, 2, 2].map(stranger).into_iter().collect();
    Wire::over(stranger(1), 4).ends();
    Wire::connect_over(stranger(3), &Connect::new("third")).ping();
    drop(inside);
}

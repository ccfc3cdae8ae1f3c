//! TLS: with and without client certificates, new files, and handshakes that come to nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidings_broker::auth::{Authenticate, Credentials, Decision, Refusal};
use tidings_broker::core::limits::Limits;
use tidings_broker::core::metric::Metric;
use tidings_broker::listener::{
    ClientCertificates, Listener, Tls, TlsError, TlsOptions, Transport,
};
use tidings_broker::{Broker, Builder, ConnectionLimits};
use tokio_rustls::rustls::ALL_VERSIONS;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::keys::{Authority, Files, Identity, TlsClient};
use crate::limits::eventually;
use crate::wire::{Connect, PATIENCE, Packet, Wire};

fn options(files: &Files, client_certificates: ClientCertificates) -> TlsOptions {
    let (certificate, key) = (files.certificate.clone(), files.key.clone());
    TlsOptions { certificate, key, client_certificates }
}

fn open(files: &Files) -> Tls {
    Tls::open(options(files, ClientCertificates::Off)).unwrap()
}

fn builder(tls: &Tls) -> Builder {
    let address = "127.0.0.1:0".parse().unwrap();
    Builder::new().listener(Listener::tcp(address).with_tls(tls)).shards(2)
}

fn address(broker: &Broker) -> SocketAddr {
    broker.addresses()[0]
}

fn client(broker: &Broker, trusted: &Authority, identity: Option<&Identity>) -> TlsClient {
    crate::keys::tls(address(broker), trusted, identity, ALL_VERSIONS, &["mqtt"])
}

#[test]
fn both_versions_carry_messages_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let broker = builder(&open(&Files::new(dir.path(), &authority))).start().unwrap();
    assert_eq!(broker.endpoints()[0].transport, Transport::Mqtts);
    let connect = |name: &str, version, protocols: &[&str]| {
        let stream = crate::keys::tls(address(&broker), &authority, None, &[version], protocols);
        Wire::connect_over(stream, &Connect::new(name))
    };
    let mut bob = connect("bob", &TLS13, &[]);
    bob.subscribe("t", 1);
    let mut alice = connect("alice", &TLS12, &["mqtt"]);
    for size in [0, 1, 1000, 16 * 1024, 200_000] {
        alice.publish("t", &vec![b'x'; size], 1, false);
        assert_eq!(bob.message().payload.len(), size);
    }
    assert_eq!(alice.stream.conn.alpn_protocol(), Some(&b"mqtt"[..]));
    alice.disconnect();
    bob.ping();
}

#[test]
fn what_comes_in_one_piece_with_connect_is_not_lost_on_the_way_to_the_shard() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let broker = builder(&open(&Files::new(dir.path(), &authority))).start().unwrap();
    for number in 0..20 {
        let stream = client(&broker, &authority, None);
        let mut wire = Wire::over(stream, 4);
        let mut bytes = Connect::new(&format!("lump{number}")).bytes();
        bytes.extend(wire.publish_bytes("t", &[b'x'; 40_000], 1, false, 7));
        bytes.extend([0xc0, 0]);
        wire.send(&bytes).unwrap();
        assert_eq!(wire.next(), Packet::Connack { present: false, code: 0 });
        assert_eq!(wire.next(), Packet::Ack(crate::wire::PUBACK, 7, 0));
        assert_eq!(wire.next(), Packet::Pingresp);
    }
}

#[test]
fn reader_who_wakes_up_gets_everything() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let limits = Limits { memory_queue_bytes_max: 16 << 20, ..Limits::default() };
    let builder = builder(&open(&Files::new(dir.path(), &authority)));
    let broker = builder.limits(limits).start().unwrap();
    let mut bob = Wire::connect_over(client(&broker, &authority, None), &Connect::new("bob"));
    bob.subscribe("t", 1);
    let mut alice = Wire::connect_over(client(&broker, &authority, None), &Connect::new("alice"));
    // More than the buffers of the system and of TLS take, while bob does not read.
    for number in 0..60_u8 {
        alice.publish("t", &vec![number; 200_000], 1, false);
    }
    for number in 0..60_u8 {
        assert_eq!(bob.message().payload, vec![number; 200_000]);
    }
    bob.ping();
}

/// Who shows a certificate is who it names; nobody else comes in.
#[derive(Debug)]
struct Named;

impl Authenticate for Named {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        let name = credentials.certificate.and_then(|certificate| certificate.common_name);
        Box::pin(std::future::ready(match (name, credentials.user_name) {
            (Some(name), Some(user)) if name == user => Decision::accept(name),
            _ => Decision::Refuse(Refusal::NotAuthorized),
        }))
    }
}

/// The code of the CONNACK, if there is one.
fn answer(stream: TlsClient, user: &str) -> Option<u8> {
    let mut wire = Wire::over(stream, 5);
    wire.send(&Connect::new("phone").v5().user(user).bytes()).ok()?;
    match wire.try_next().ok()? {
        Packet::Connack { code, .. } => Some(code),
        other => panic!("expected CONNACK, found {other:?}"),
    }
}

#[test]
fn client_certificate_that_is_required_tells_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::new(dir.path(), &authority);
    let authorities = files.authorities.clone();
    let tls = Tls::open(options(&files, ClientCertificates::Required { authorities })).unwrap();
    let broker = builder(&tls).authenticate(Arc::new(Named)).start().unwrap();
    let bob = authority.client("bob");
    let come = |identity: Option<&Identity>, user: &str| {
        answer(client(&broker, &authority, identity), user)
    };
    assert_eq!(come(Some(&bob), "bob"), Some(0));
    assert_eq!(come(Some(&bob), "alice"), Some(0x87));
    assert_eq!(come(None, "bob"), None);
    // Of another authority, and one that is for servers.
    assert_eq!(come(Some(&Authority::new().client("bob")), "bob"), None);
    assert_eq!(come(Some(&authority.server()), "broker"), None);
}

#[test]
fn client_certificate_that_is_optional_is_verified_if_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::new(dir.path(), &authority);
    let authorities = files.authorities.clone();
    let tls = Tls::open(options(&files, ClientCertificates::Optional { authorities })).unwrap();
    let broker = builder(&tls).authenticate(Arc::new(Named)).start().unwrap();
    let come = |identity: Option<&Identity>, user: &str| {
        answer(client(&broker, &authority, identity), user)
    };
    assert_eq!(come(Some(&authority.client("bob")), "bob"), Some(0));
    assert_eq!(come(None, "bob"), Some(0x87));
    assert_eq!(come(Some(&Authority::new().client("bob")), "bob"), None);
}

#[test]
fn certificate_vouches_for_itself_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path(), &Authority::new());
    assert!(!open(&files).is_self_signed());
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&files.certificate, own.cert.pem()).unwrap();
    fs::write(&files.key, own.signing_key.serialize_pem()).unwrap();
    assert!(open(&files).is_self_signed());
}

#[test]
fn new_files_are_for_new_connections_and_bad_ones_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(dir.path(), &old);
    let tls = open(&files);
    let broker = builder(&tls).start().unwrap();
    let mut before = Wire::connect_over(client(&broker, &old, None), &Connect::new("before"));

    fs::write(&files.key, new.server().key).unwrap();
    assert!(matches!(tls.reload().unwrap_err(), TlsError::Mismatch { .. }));
    fs::write(&files.key, "nonsense").unwrap();
    assert!(matches!(tls.reload().unwrap_err(), TlsError::NotPem { .. }));
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(tls.reload().unwrap_err(), TlsError::Read { .. }));
    Wire::connect_over(client(&broker, &old, None), &Connect::new("still")).ping();

    files.write(&new.server());
    tls.reload().unwrap();
    Wire::connect_over(client(&broker, &new, None), &Connect::new("after")).ping();
    assert_eq!(answer(client(&broker, &old, None), "bob"), None);
    before.ping();
}

#[test]
fn changed_files_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(dir.path(), &old);
    let broker = builder(&open(&files)).start().unwrap();
    files.write(&new.server());
    let begin = std::time::Instant::now();
    // It is looked at when somebody comes in, once a second at most.
    while answer(client(&broker, &new, None), "bob").is_none() {
        assert!(begin.elapsed() < PATIENCE, "nobody noticed");
    }
}

#[test]
fn disk_that_does_not_answer_holds_up_nobody() {
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
    use std::os::unix::fs::OpenOptionsExt;

    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::new(dir.path(), &authority);
    let broker = builder(&open(&files)).start().unwrap();
    // Who opens this waits until somebody writes, and who reads it then as well.
    fs::remove_file(&files.key).unwrap();
    mknodat(CWD, &files.key, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let come = || Wire::connect_over(client(&broker, &authority, None), &Connect::new("x")).ping();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let begin = std::time::Instant::now();
    let slow = loop {
        come();
        // It can be opened for writing as soon as somebody wants to read.
        let writer = fs::OpenOptions::new().write(true).custom_flags(flags).open(&files.key);
        if let Ok(writer) = writer {
            break writer;
        }
        assert!(begin.elapsed() < PATIENCE, "nobody reads it");
    };
    for _ in 0..3 {
        come();
    }
    drop(slow);
    come();
}

#[test]
fn files_that_cannot_be_used_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::new(dir.path(), &authority);
    let error = |options: TlsOptions| Tls::open(options).unwrap_err().to_string();
    let off = || options(&files, ClientCertificates::Off);
    let missing = dir.path().join("missing.pem");
    let text = error(TlsOptions { certificate: missing.clone(), ..off() });
    assert!(text.contains("cannot read") && text.contains("missing.pem"), "{text}");
    let text = error(TlsOptions { certificate: files.key.clone(), ..off() });
    assert!(text.contains("expected certificates in PEM, found none"), "{text}");
    let text = error(TlsOptions { key: files.certificate.clone(), ..off() });
    assert!(text.contains("expected a private key"), "{text}");
    fs::write(&missing, authority.server().key).unwrap();
    let text = error(TlsOptions { key: missing, ..off() });
    assert!(text.contains("do not go together: the key is another certificate's"), "{text}");
    let encrypted = dir.path().join("encrypted.pem");
    fs::write(&encrypted, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap();
    let text = error(TlsOptions { key: encrypted, ..off() });
    assert!(text.contains("found one with a passphrase"), "{text}");
    let authorities = files.key.clone();
    let text = error(options(&files, ClientCertificates::Required { authorities }));
    assert!(text.contains("key.pem: expected certificates"), "{text}");
}

#[test]
fn half_a_handshake_is_closed_when_the_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let connect_timeout = Duration::from_millis(300);
    let limits = ConnectionLimits { connect_timeout, ..ConnectionLimits::default() };
    let tls = open(&Files::new(dir.path(), &authority));
    let broker = builder(&tls).connection_limits(limits).start().unwrap();
    let mut silent = TcpStream::connect(address(&broker)).unwrap();
    let mut half = TcpStream::connect(address(&broker)).unwrap();
    half.write_all(&[0x16, 0x03, 0x01, 0x01, 0x00, 0x01]).unwrap();
    // Whose handshake is over, and who says nothing more.
    let mut whole = client(&broker, &authority, None);
    whole.flush().unwrap();
    whole.conn.complete_io(&mut whole.sock).unwrap();
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    }
    assert!(whole.read(&mut [0; 16]).is_err(), "closed without a goodbye");
}

#[test]
fn what_is_no_tls_or_speaks_another_protocol_within_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let broker = builder(&open(&Files::new(dir.path(), &authority))).start().unwrap();
    let mut wire = Wire::open(address(&broker), 4).unwrap();
    wire.send(&Connect::new("in the clear").bytes()).unwrap();
    let mut said = Vec::new();
    let _reset = wire.stream.read_to_end(&mut said);
    // An alert at most.
    assert!(said.is_empty() || said[0] == 0x15, "{said:02x?}");
    let other = crate::keys::tls(address(&broker), &authority, None, ALL_VERSIONS, &["http/1.1"]);
    assert_eq!(answer(other, "bob"), None);
    eventually(&broker, |all| all.get(Metric::ConnectsRefusedProtocol) == 2);
    Wire::connect_over(client(&broker, &authority, None), &Connect::new("bob")).ping();
}

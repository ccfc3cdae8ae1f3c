//! TLS and WebSocket, and both, to a real broker.

use crate::fake::{TempDir, soon};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::sync::Arc;
use tidings_broker::listener::{ClientCertificates, Listener, Tls, TlsOptions};
use tidings_broker::{Builder, Durability};
use tidings_chat::Chat;
use tidings_client::transport::Lost;
use tidings_client::{Client, ConnectError, ConnectOptions, Event, State};

#[tokio::test]
async fn every_scheme_of_a_url_carries_messages() {
    let dir = TempDir::new();
    std::fs::create_dir_all(&dir.0).unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let (certificate_file, key_file) = (dir.0.join("cert.pem"), dir.0.join("key.pem"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let client_certificates = ClientCertificates::Off;
    let options = TlsOptions { certificate: certificate_file, key: key_file, client_certificates };
    let tls = Tls::open(options).unwrap();
    let listener = || Listener::tcp("127.0.0.1:0".parse().unwrap());
    let broker = Builder::new()
        .listener(listener())
        .listener(listener().with_tls(&tls))
        .listener(listener().with_websocket())
        .listener(listener().with_tls(&tls).with_websocket())
        .durability(Durability::Memory)
        .service(Arc::new(Chat::default()))
        .start()
        .unwrap();
    for (scheme, address) in ["mqtt", "mqtts", "ws", "wss"].into_iter().zip(broker.addresses()) {
        let url = format!("{scheme}://alice:secret@localhost:{}/mqtt", address.port());
        let url = if scheme.starts_with("mqtt") { url.replace("/mqtt", "") } else { url };
        let options = ConnectOptions::from_url(&url, format!("{scheme}-phone")).unwrap();
        let options = options.authorities(authority.pem()).in_memory();
        let client = Client::connect(options).await.unwrap();
        let chat = client.chat("@alice").unwrap();
        // Larger than a frame or a record is by itself.
        for size in [1, 60_000] {
            let sent = chat.send(vec![b'x'; size]).await.unwrap();
            soon(sent.stored()).await.unwrap();
        }
        client.close().await;
    }
    // An authority that is not trusted.
    let url = format!("mqtts://alice:secret@localhost:{}", broker.addresses()[1].port());
    let stranger = CertificateParams::default();
    let stranger = CertifiedIssuer::self_signed(stranger, KeyPair::generate().unwrap()).unwrap();
    let options = ConnectOptions::from_url(&url, "phone").unwrap().in_memory();
    let client = Client::connect(options.authorities(stranger.pem())).await.unwrap();
    let mut events = client.events();
    let reason = loop {
        let event = soon(events.next()).await.unwrap();
        if let Event::State(State::Offline { reason, .. }) = event {
            break reason;
        }
    };
    assert!(matches!(reason, Lost::Unreachable { .. }), "{reason:?}");
    broker.stop().unwrap();
}

#[tokio::test]
async fn certificates_that_are_none_are_refused_at_once() {
    let options = ConnectOptions::from_url("mqtts://alice@localhost", "phone").unwrap();
    let refused = Client::connect(options.authorities("nonsense").in_memory()).await;
    assert!(matches!(refused, Err(ConnectError::Certificates { .. })), "{refused:?}");
}

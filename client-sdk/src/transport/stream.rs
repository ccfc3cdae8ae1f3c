//! Bytes to the broker and back: TCP, TLS, WebSocket. Nothing of MQTT.

use crate::error::ConnectError;
use crate::options::Target;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Ordered bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What is set up once and used for every connection.
pub(super) struct Connector {
    target: Target,
    #[cfg(feature = "tls")]
    tls: Option<tokio_rustls::TlsConnector>,
}

// Certificates and their stores fill pages.
impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Connector {
    /// `authorities` are PEM certificates to trust in place of the system's.
    pub(super) fn new(target: Target, authorities: Option<&[u8]>) -> Result<Self, ConnectError> {
        #[cfg(not(feature = "websocket"))]
        if target.websocket.is_some() {
            return Err(ConnectError::Scheme { scheme: "ws".to_owned(), feature: "websocket" });
        }
        #[cfg(not(feature = "tls"))]
        if target.tls {
            let _ = authorities;
            return Err(ConnectError::Scheme { scheme: "mqtts".to_owned(), feature: "tls" });
        }
        #[cfg(feature = "tls")]
        let tls = if target.tls { Some(tls(authorities)?) } else { None };
        Ok(Self {
            target,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let Target { host, port, .. } = &self.target;
        let socket = TcpStream::connect((host.as_str(), *port)).await?;
        // Small packets, each of which somebody waits for.
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = Box::new(socket);
        #[cfg(feature = "tls")]
        let stream = match &self.tls {
            None => stream,
            Some(connector) => {
                let name = rustls::pki_types::ServerName::try_from(host.clone());
                let name = name.map_err(io::Error::other)?;
                Box::new(connector.connect(name, stream).await?)
            }
        };
        #[cfg(feature = "websocket")]
        let stream = match &self.target.websocket {
            None => stream,
            Some(path) => {
                let scheme = if self.target.tls { "wss" } else { "ws" };
                let url = format!("{scheme}://{}{path}", self.target.address());
                super::websocket::open(&url, stream).await?
            }
        };
        Ok(stream)
    }
}

#[cfg(feature = "tls")]
fn tls(authorities: Option<&[u8]>) -> Result<tokio_rustls::TlsConnector, ConnectError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use std::sync::Arc;

    let cause = |cause: String| ConnectError::Certificates { cause };
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| cause(format!("{error:?}")))?;
                roots.add(certificate).map_err(|error| cause(error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        let text = "found none; give the authority's with `ConnectOptions::authorities`";
        return Err(cause(text.to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| cause(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}

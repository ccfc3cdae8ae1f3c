//! TLS 1.2 and 1.3 by rustls: certificate and key from files, read again without a restart.
//!
//! Files are exchanged for one another only as a set that works together: what cannot be read, or
//! does not fit, is told and the old set stays.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::certificate::{is_self_signed, peer_certificate};
use super::{Socket, Stream};
use crate::auth::PeerCertificate;

/// Where TLS has its keys from, and what it asks of Clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM: the certificate and the chain behind it, without the root.
    pub certificate: PathBuf,
    /// PEM: the certificate's private key, without a passphrase.
    pub key: PathBuf,
    /// Whether Clients are to show a certificate.
    pub client_certificates: ClientCertificates,
}

/// Whether Clients show a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// None is asked for.
    #[default]
    Off,
    /// One is verified if there is one.
    Optional {
        /// PEM: the authorities that may have signed it.
        authorities: PathBuf,
    },
    /// Nobody comes in without one.
    Required {
        /// PEM: the authorities that may have signed it.
        authorities: PathBuf,
    },
}

impl ClientCertificates {
    fn authorities(&self) -> Option<&Path> {
        match self {
            Self::Off => None,
            Self::Optional { authorities } | Self::Required { authorities } => Some(authorities),
        }
    }
}

/// Why there is no TLS, or why the old files are kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: expected {expected} in PEM, {found}", .path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is there instead.
        found: String,
    },
    /// Certificate and key do not belong together, or are of an unknown kind.
    #[error("{} and {} do not go together: {}", .certificate.display(), .key.display(), why(.source))]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The authorities of clients cannot be used.
    #[error("{}: {cause}", .path.display())]
    Authorities {
        /// Their file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Random numbers are missing, or the library cannot do what it should.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// The server's side of TLS, shared by any number of listeners.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    options: TlsOptions,
    current: Mutex<Current>,
}

struct Current {
    configs: Configs,
    /// The files as they were when they were last read, whether that went well or not.
    seen: Vec<Option<Seen>>,
    looked: Instant,
    /// Somebody looks just now.
    looking: bool,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    length: u64,
    file: (u64, u64),
}

#[derive(Clone)]
struct Configs {
    mqtt: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    is_self_signed: bool,
}

/// What is spoken within TLS (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Mqtt,
    Http,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.options).finish()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn open(options: TlsOptions) -> Result<Self, TlsError> {
        let seen = seen(&options);
        let configs = read(&options)?;
        let current = Mutex::new(Current { configs, seen, looked: Instant::now(), looking: false });
        Ok(Self(Arc::new(Inner { options, current })))
    }

    /// Reads the files again. Connections that are open keep what they began with.
    ///
    /// # Errors
    /// One of them cannot be used: everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let seen = seen(&self.0.options);
        let configs = read(&self.0.options);
        let mut current = self.lock();
        current.seen = seen;
        current.looked = Instant::now();
        current.configs = configs?;
        Ok(())
    }

    /// Whether the certificate vouches for itself, so that Clients can be given it as the authority to
    /// believe.
    pub fn is_self_signed(&self) -> bool {
        self.lock().configs.is_self_signed
    }

    /// Has the files read again if they changed; looks at most once in a while, on a thread that may
    /// wait for the disk. Nobody else waits: who comes meanwhile gets what there was.
    pub(super) fn refresh(&self) {
        {
            let mut current = self.lock();
            if current.looked.elapsed() < LOOK_EVERY || current.looking {
                return;
            }
            current.looking = true;
        }
        let tls = Looking(self.clone());
        tokio::task::spawn_blocking(move || tls.0.look());
    }

    fn look(&self) {
        let files = seen(&self.0.options);
        if self.lock().seen == files {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!("TLS certificate and key are read again"),
            Err(error) => tracing::warn!("the old TLS certificate and key are kept: {error}"),
        }
    }

    /// Shakes hands, and takes the certificate that was shown.
    pub(super) async fn accept<S>(
        &self,
        stream: S,
        within: Within,
    ) -> io::Result<(TlsStream<S>, Option<PeerCertificate>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = {
            let configs = &self.lock().configs;
            Arc::clone(match within {
                Within::Mqtt => &configs.mqtt,
                Within::Http => &configs.http,
            })
        };
        // What cannot be sent is to wait with us, where it is bounded and counted.
        let bound = |tls: &mut rustls::ServerConnection| tls.set_buffer_limit(Some(BUFFER_BYTES));
        let stream = TlsAcceptor::from(config).accept_with(stream, bound).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.map(peer_certificate);
        Ok((stream, certificate))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody looks until this is dropped.
struct Looking(Tls);

impl Drop for Looking {
    fn drop(&mut self) {
        let mut current = self.0.lock();
        (current.looked, current.looking) = (Instant::now(), false);
    }
}

impl<S: Stream> Stream for TlsStream<S> {
    fn socket(&mut self) -> Option<&mut Socket> {
        self.get_mut().0.socket()
    }
}

fn read(options: &TlsOptions) -> Result<Configs, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&options.certificate)?;
    let is_self_signed = chain.first().is_some_and(is_self_signed);
    let key = private_key(&options.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = match options.client_certificates.authorities() {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong = |cause: String| TlsError::Authorities { path: path.into(), cause };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = match options.client_certificates {
                ClientCertificates::Optional { .. } => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build().map_err(|error| wrong(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|source| {
        let (certificate, key) = (options.certificate.clone(), options.key.clone());
        TlsError::Mismatch { certificate, key, source }
    })?;
    // Phones come back often: what they need to resume is with them, not in our memory. The keys
    // are new with each set of files, so nobody resumes past a change of authorities.
    config.ticketer = ring::Ticketer::new().map_err(TlsError::Setup)?;
    let speaking = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    Ok(Configs { mqtt: speaking(b"mqtt"), http: speaking(b"http/1.1"), is_self_signed })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let expected = "a private key without a passphrase";
    let pem = contents(path)?;
    // Both forms say so in a line of their own; what a parser makes of them explains nothing.
    let is_encrypted = pem.split(|byte| *byte == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED ") || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    });
    if is_encrypted {
        let found = "found one with a passphrase, which `openssl pkey` takes off".to_owned();
        return Err(TlsError::NotPem { path: path.into(), expected, found });
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| not_pem(path, expected, &error))
}

/// What the library only names.
fn why(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => {
            "the key is another certificate's".to_owned()
        }
        other => other.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error: pem::Error| not_pem(path, "certificates", &error);
    let contents = contents(path)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&contents).collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
}

fn not_pem(path: &Path, expected: &'static str, error: &pem::Error) -> TlsError {
    let found = match error {
        pem::Error::NoItemsFound => "found none".to_owned(),
        other => format!("found something else: {other}"),
    };
    TlsError::NotPem { path: path.into(), expected, found }
}

fn seen(options: &TlsOptions) -> Vec<Option<Seen>> {
    use std::os::unix::fs::MetadataExt;
    let look = |metadata: Metadata| Seen {
        modified: metadata.modified().ok(),
        length: metadata.len(),
        file: (metadata.dev(), metadata.ino()),
    };
    [Some(options.certificate.as_path()), Some(&options.key)]
        .into_iter()
        .chain([options.client_certificates.authorities()])
        .flatten()
        .map(|path| fs::metadata(path).ok().map(look))
        .collect()
}

/// How often it is looked whether the files changed, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Encrypted bytes of a connection that wait for the socket.
const BUFFER_BYTES: usize = 16 * 1024;

//! Certificates made for a test, and Clients that speak TLS.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::wire::PATIENCE;

/// An authority that signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub(crate) fn server(&self) -> Identity {
        self.sign("broker", ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(crate) fn client(&self, common_name: &str) -> Identity {
        self.sign(common_name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, common_name: &str, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }
}

/// Writes what a server needs, and the authority of its Clients.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authorities: PathBuf,
}

impl Files {
    pub(crate) fn new(dir: &Path, authority: &Authority) -> Self {
        let files = Self {
            certificate: dir.join("cert.pem"),
            key: dir.join("key.pem"),
            authorities: dir.join("ca.pem"),
        };
        fs::write(&files.authorities, authority.pem()).unwrap();
        files.write(&authority.server());
        files
    }

    pub(crate) fn write(&self, identity: &Identity) {
        fs::write(&self.certificate, &identity.certificate).unwrap();
        fs::write(&self.key, &identity.key).unwrap();
    }
}

pub(crate) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// A TLS connection that has not shaken hands; the first write does.
pub(crate) fn tls(
    address: SocketAddr,
    trusted: &Authority,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> TlsClient {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(client, stream)
}

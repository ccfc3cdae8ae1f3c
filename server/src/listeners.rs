//! From the configuration to listeners, with their certificates and proxies.
//!
//! What keys say together is checked here, before anything is opened.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tidings_broker::listener::{ClientCertificates, Listener, Network, Tls, TlsOptions};

use crate::config::{self, Config};
use crate::exit::{Exit, Failure};

/// What to listen on.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) all: Vec<Listener>,
    /// To be told when its files are to be read again.
    pub(crate) tls: Option<Tls>,
}

impl Listeners {
    /// As configured. Reads certificates and keys.
    ///
    /// # Errors
    /// Keys that contradict each other, or files that cannot be used.
    pub(crate) fn of(config: &Config) -> Result<Self, Failure> {
        let top = &config.top;
        let tls = if config.tls_is_used() { Some(open_tls(config)?) } else { None };
        check_identity(config)?;
        let origins = || config.websocket.origins.iter().cloned();
        let mut all: Vec<Listener> = Vec::new();
        let mut add = |kind: &str, listener: Listener| {
            all.push(if config.proxy.listeners.iter().any(|it| it == kind) {
                listener.behind_proxy(networks(config))
            } else {
                listener
            });
        };
        for address in &top.listen {
            add("tcp", Listener::tcp(*address));
        }
        for (address, tls) in top.listen_tls.iter().zip(tls.iter().cycle()) {
            add("tls", Listener::tcp(*address).with_tls(tls));
        }
        for address in &top.listen_ws {
            add("ws", Listener::tcp(*address).with_websocket_from(origins()));
        }
        for (address, tls) in top.listen_wss.iter().zip(tls.iter().cycle()) {
            add("wss", Listener::tcp(*address).with_tls(tls).with_websocket_from(origins()));
        }
        if !top.listen_unix.is_empty() {
            let mode = u32::from_str_radix(&top.unix_mode, 8).unwrap_or(0o600);
            add("unix", Listener::unix(&top.listen_unix).mode(mode));
        }
        if all.is_empty() && top.http.is_empty() {
            return Err(wrong(
                "listen: expected at least one address here, in another listen_ key, or in http",
            ));
        }
        Ok(Self { all, tls })
    }
}

/// The first address that other machines can reach, if any, and the key that has it.
pub(crate) fn off_loopback(config: &Config) -> Option<(&'static str, SocketAddr)> {
    let top = &config.top;
    [
        ("listen", &top.listen),
        ("listen_tls", &top.listen_tls),
        ("listen_ws", &top.listen_ws),
        ("listen_wss", &top.listen_wss),
        ("http", &top.http),
    ]
    .into_iter()
    .flat_map(|(key, addresses)| addresses.iter().map(move |address| (key, *address)))
    .find(|(_, address)| !address.ip().to_canonical().is_loopback())
}

/// Whether only this machine reaches the server, as far as the configuration says.
pub(crate) fn is_for_this_machine(config: &Config) -> bool {
    let is_proxied = !config.proxy.listeners.is_empty() || config.web.forwarded;
    !is_proxied && off_loopback(config).is_none()
}

/// Proxies that are believed.
pub(crate) fn networks(config: &Config) -> Vec<Network> {
    // Each was read once already, when the configuration was checked.
    config.proxy.trusted.iter().filter_map(|network| network.parse().ok()).collect()
}

fn open_tls(config: &Config) -> Result<Tls, Failure> {
    let tls = &config.tls;
    for (key, file) in [("tls.certificate", &tls.certificate), ("tls.key", &tls.key)] {
        if file.is_empty() {
            return Err(wrong(format!(
                "{key}: expected a PEM file, because listen_tls or listen_wss is set"
            )));
        }
    }
    let authorities = || {
        if tls.client_ca.is_empty() {
            return Err(wrong(
                "tls.client_ca: expected a PEM file, because tls.client_certificates is not \"off\"",
            ));
        }
        Ok(PathBuf::from(&tls.client_ca))
    };
    let client_certificates = match tls.client_certificates {
        config::ClientCertificates::Off => ClientCertificates::Off,
        config::ClientCertificates::Optional => {
            ClientCertificates::Optional { authorities: authorities()? }
        }
        config::ClientCertificates::Required => {
            ClientCertificates::Required { authorities: authorities()? }
        }
    };
    let file = |name: &String| Path::new(name).to_owned();
    let options = TlsOptions {
        certificate: file(&tls.certificate),
        key: file(&tls.key),
        client_certificates,
    };
    Tls::open(options)
        .map_err(|error| wrong(format!("{error}; see tls.certificate, tls.key and tls.client_ca")))
}

fn check_identity(config: &Config) -> Result<(), Failure> {
    let tls = &config.tls;
    if tls.certificate_is_user && tls.client_certificates == config::ClientCertificates::Off {
        return Err(wrong(
            "tls.certificate_is_user: expected tls.client_certificates to be \"optional\" or \
             \"required\", found \"off\"",
        ));
    }
    Ok(())
}

fn wrong(what: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Config, what)
}

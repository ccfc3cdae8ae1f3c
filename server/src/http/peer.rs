//! Who is at the other end of a request, and whether that is this machine.
//!
//! Three things pass for this machine and are not: whoever comes through a proxy on it, a page that
//! gave a name of its own to the loopback address, and a page of elsewhere that has the browser send
//! something here. So whoever counts as near has a loopback address, names this machine as the host,
//! comes through no proxy that says so, and what changes something says which page it is from.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tidings_broker::listener::{Network, names_this_machine, page_may_connect};

use super::Site;
use super::error::ApiError;
use super::gate::Place;

/// The connection that a request came by.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) address: SocketAddr,
    pub(super) place: Arc<Place>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// It is this machine: see the file's own words.
    pub(super) is_near: bool,
}

impl Peer {
    /// The address as the broker is told it: one of this machine only for who is near, for there it
    /// may stand for a login.
    pub(super) fn for_broker(&self) -> SocketAddr {
        if self.address.ip().to_canonical().is_loopback() && !self.is_near {
            let nowhere = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
            return SocketAddr::new(nowhere, self.address.port());
        }
        self.address
    }

    fn of(address: SocketAddr, headers: &HeaderMap, proxies: &[Network]) -> Self {
        let is_proxied = FORWARDING.iter().any(|name| headers.contains_key(*name));
        let trusts = |ip: IpAddr| proxies.iter().any(|network| network.contains(ip));
        if trusts(address.ip())
            && let Some(ip) = forwarded(headers, trusts)
        {
            // Through a proxy: wherever it is, it is no longer told what is this machine.
            return Self { address: SocketAddr::new(ip, address.port()), is_near: false };
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let is_near = address.ip().to_canonical().is_loopback()
            && !is_proxied
            && host.is_some_and(names_this_machine);
        Self { address, is_near }
    }
}

/// The address that the proxies say is at the other end: the last that is none of theirs.
fn forwarded(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let words = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    let mut last = None;
    for word in words {
        let ip: IpAddr = word.trim().parse().ok()?;
        last = Some(ip);
        if !trusts(ip) {
            break;
        }
    }
    last
}

impl FromRequestParts<Arc<Site>> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Infallible> {
        let nobody = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        let address = parts.extensions.get::<Connection>().map_or(nobody, |it| it.address);
        Ok(Self::of(address, &parts.headers, &site.options.proxies))
    }
}

/// Lets pages of elsewhere change nothing: a browser says which page has it ask.
pub(super) async fn guard_against_pages(
    State(site): State<Arc<Site>>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Response {
    let is_question = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match check_origin(request.headers(), peer, &site.options.origins) {
        Err(error) if !is_question => error.into_response(),
        _ => next.run(request).await,
    }
}

/// Whether the page that asks, if it is one, may.
///
/// # Errors
/// It is of elsewhere.
pub(super) fn check_origin(
    headers: &HeaderMap,
    peer: Peer,
    origins: &[String],
) -> Result<(), ApiError> {
    let mut named = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), rest) = (named.next(), named.next()) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = origin.to_str().unwrap_or_default();
    if rest.is_none() && page_may_connect(origin, host, origins, peer.address.ip()) {
        return Ok(());
    }
    let shown: String = origin.chars().take(100).collect();
    let text = format!("origin {shown:?} may not do this; websocket.origins says who may");
    Err(ApiError::forbidden(text))
}

/// What proxies say of themselves.
const FORWARDING: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded", "via"];

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, lines: &[(&'static str, &str)], proxies: &[&str]) -> Peer {
        let headers = lines.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), value.parse().unwrap())
        });
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| {
            map.append(name, value);
        });
        let proxies: Vec<Network> = proxies.iter().map(|it| it.parse().unwrap()).collect();
        Peer::of(address.parse().unwrap(), &map, &proxies)
    }

    #[test]
    fn near_is_who_names_this_machine_from_this_machine() {
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
            assert!(peer("127.0.0.1:9", &[("host", host)], &[]).is_near, "{host}");
        }
        assert!(!peer("192.0.2.1:9", &[("host", "localhost")], &[]).is_near);
        assert!(!peer("127.0.0.1:9", &[("host", "evil.example")], &[]).is_near);
        assert!(!peer("127.0.0.1:9", &[], &[]).is_near);
        for header in FORWARDING {
            let lines = [("host", "localhost"), (header, "192.0.2.1")];
            assert!(!peer("127.0.0.1:9", &lines, &[]).is_near, "{header}");
        }
    }

    #[test]
    fn proxy_that_is_trusted_says_who_is_there_and_no_other() {
        let lines = [("host", "localhost"), ("x-forwarded-for", "198.51.100.7, 192.0.2.1")];
        let ip = |peer: Peer| peer.address.ip().to_string();
        assert_eq!(ip(peer("127.0.0.1:9", &lines, &["127.0.0.1"])), "192.0.2.1");
        let through_two = peer("127.0.0.1:9", &lines, &["127.0.0.1", "192.0.2.0/24"]);
        assert_eq!((ip(through_two), through_two.is_near), ("198.51.100.7".into(), false));
        assert_eq!(ip(peer("203.0.113.1:9", &lines, &["127.0.0.1"])), "203.0.113.1");
        assert_eq!(ip(peer("127.0.0.1:9", &lines, &[])), "127.0.0.1");
        // A loopback address that a proxy names is not this machine's word.
        let lines = [("host", "localhost"), ("x-forwarded-for", "127.0.0.1")];
        assert!(!peer("127.0.0.1:9", &lines, &["127.0.0.1"]).is_near);
        let passed_on = peer("127.0.0.1:9", &lines, &[]);
        assert_eq!(passed_on.for_broker().ip().to_string(), "0.0.0.0");
        assert_eq!(
            peer("127.0.0.1:9", &lines[..1], &[]).for_broker().ip().to_string(),
            "127.0.0.1"
        );
        let lines = [("x-forwarded-for", "nonsense")];
        assert_eq!(ip(peer("127.0.0.1:9", &lines, &["127.0.0.1"])), "127.0.0.1");
    }
}

//! What a page asks for first, and what a load balancer asks for always.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Site;
use super::error::ApiError;
use super::peer::Peer;

/// What this server offers to whoever asks.
#[derive(Serialize)]
struct Config<'a> {
    version: &'static str,
    /// Any name logs in, without a password.
    open: bool,
    pairing: bool,
    rooms: bool,
    /// 0: no files.
    media_bytes_max: u64,
    ice_servers: Vec<IceServer<'a>>,
}

#[derive(Serialize, PartialEq, Eq, Debug)]
struct IceServer<'a> {
    urls: [String; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
}

impl<'a> IceServer<'a> {
    /// Of `kind:host:port`, or with a login `kind:user:password@host:port`.
    fn parse(text: &'a str) -> Self {
        let plain = || Self { urls: [text.to_owned()], username: None, credential: None };
        let Some((kind, rest)) = text.split_once(':') else { return plain() };
        let Some((login, host)) = rest.rsplit_once('@') else { return plain() };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let urls = [format!("{kind}:{host}")];
        Self { urls, username: Some(user), credential: Some(password) }
    }
}

/// `GET /api/config`
pub(super) async fn config(State(site): State<Arc<Site>>, peer: Peer) -> Response {
    let options = &site.options;
    let config = Config {
        version: env!("CARGO_PKG_VERSION"),
        open: site.is_open() && peer.is_near,
        pairing: options.pairing,
        rooms: options.rooms,
        media_bytes_max: site.media.options().file_bytes_max,
        ice_servers: options.ice_servers.iter().map(|text| IceServer::parse(text)).collect(),
    };
    fresh(Json(config))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// `GET /health`
pub(super) async fn health(State(site): State<Arc<Site>>) -> Response {
    if site.is_serving() {
        fresh(Json(Health { status: "ok" }))
    } else {
        ApiError::unavailable("the server stops").into_response()
    }
}

/// An answer that is true now and not for long.
pub(super) fn fresh(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_a_login_are_told_as_browsers_take_them() {
        let stun = IceServer::parse("stun:stun.example:3478");
        assert_eq!((&*stun.urls[0], stun.username), ("stun:stun.example:3478", None));
        let turn = IceServer::parse("turns:ann:p@ss@turn.example:5349");
        assert_eq!(turn.urls[0], "turns:turn.example:5349");
        assert_eq!((turn.username, turn.credential), (Some("ann"), Some("p@ss")));
    }
}

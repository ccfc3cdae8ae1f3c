//! MQTT over WebSocket: the request is answered here, what follows is the broker's (RFC 6455, 4.2).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::Site;
use super::error::ApiError;
use super::peer::{Connection, Peer, check_origin};
use super::stream::Patient;

/// `GET /mqtt`
pub(super) async fn upgrade(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    peer: Peer,
    mut request: Request,
) -> Response {
    let key = match check(request.headers(), peer, &site.options.origins) {
        Ok(key) => key,
        Err(refusal) => return refusal.into_response(),
    };
    if !site.is_serving() {
        return ApiError::unavailable("the server stops").into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(hand_over(upgrade, site, connection, peer.for_broker()));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    // [MQTT-6.0.0-4]
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    if let Ok(accept) = HeaderValue::try_from(accept(&key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// Gives the connection to the broker once the answer is sent. From there on its bounds hold.
async fn hand_over(
    upgrade: OnUpgrade,
    site: Arc<Site>,
    connection: Connection,
    address: SocketAddr,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(peer = %address, "no WebSocket: {error}"),
    };
    // Many come at once behind a restart. Until they are in they count here.
    let room = match site.door.room().await {
        Ok(room) => room,
        Err(error) => return tracing::debug!(peer = %address, "{error}"),
    };
    connection.place.give_back();
    match upgraded.downcast::<TokioIo<Patient>>() {
        Ok(parts) => {
            let socket = parts.io.into_inner().into_inner();
            room.websocket(parts.read_buf.to_vec(), socket, address);
        }
        // Another version of the library may have put a layer around it.
        Err(upgraded) => room.websocket(Vec::new(), TokioIo::<Upgraded>::new(upgraded), address),
    }
}

/// Whether the request may be upgraded; its key.
fn check(headers: &HeaderMap, peer: Peer, origins: &[String]) -> Result<String, ApiError> {
    let value = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_upgrade = has_word(headers, header::UPGRADE, "websocket")
        && has_word(headers, header::CONNECTION, "upgrade");
    if !is_upgrade || value(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let text = "this is MQTT over WebSocket, version 13: connect with a WebSocket client";
        return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "format", text));
    }
    let key = value(header::SEC_WEBSOCKET_KEY).unwrap_or_default();
    if !Base64::decode_vec(key).is_ok_and(|key| key.len() == 16) {
        let text = "expected a Sec-WebSocket-Key of 16 bytes in Base64";
        return Err(ApiError::format(text));
    }
    check_origin(headers, peer, origins)?;
    // [MQTT-6.0.0-3]
    if !words(headers, header::SEC_WEBSOCKET_PROTOCOL).any(|word| word == SUBPROTOCOL) {
        return Err(ApiError::format("expected Sec-WebSocket-Protocol mqtt"));
    }
    Ok(key.to_owned())
}

/// What proves that the request was understood (RFC 6455, 4.2.2). Not a secret.
fn accept(key: &str) -> String {
    let both = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    Base64::encode_string(digest(&SHA1_FOR_LEGACY_USE_ONLY, &both).as_ref())
}

/// The words of a list, in all headers of the name.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    words(headers, name).any(|it| it.eq_ignore_ascii_case(word))
}

const SUBPROTOCOL: &str = "mqtt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_the_rfc_gets_the_answer_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}

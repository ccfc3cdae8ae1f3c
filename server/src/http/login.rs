//! Logging in by HTTP, and who a request speaks for.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tidings_broker::auth::{Credentials, Decision, Refusal, is_user_name};

use super::Site;
use super::api::fresh;
use super::error::ApiError;
use super::peer::Peer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    user: String,
    #[serde(default)]
    password: String,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    user: &'a str,
    token: &'a str,
    expires: u64,
}

/// `POST /api/login`
pub(super) async fn login(
    State(site): State<Arc<Site>>,
    peer: Peer,
    body: Result<Json<Login>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(Login { user, password }) = body?;
    let wrong = || {
        let text = "the user is unknown or the password is wrong";
        ApiError::new(StatusCode::UNAUTHORIZED, "forbidden", text)
    };
    if !is_user_name(&user) {
        let text = "expected a user name of letters, digits and . _ -, at most 64";
        return Err(ApiError::format(text));
    }
    let credentials = Credentials {
        client_id: "http".into(),
        user_name: Some(user),
        password: Some(password.into_bytes()),
        peer: Some(peer.for_broker()),
        certificate: None,
    };
    let (user, latest) = match site.logins.authenticate(credentials).await {
        Decision::Accept { user, expires } if is_user_name(&user) => (user, expires),
        Decision::Accept { .. } | Decision::Refuse(Refusal::BadUserNameOrPassword) => {
            return Err(wrong());
        }
        Decision::Refuse(Refusal::NotAuthorized) => {
            let text = "nobody logs in from elsewhere as long as there are no users; \
                        `tidings user add` makes one";
            return Err(ApiError::forbidden(text));
        }
        Decision::Refuse(Refusal::ServerBusy) => {
            let text = "there were many logins, or too many wrong ones; wait";
            return Err(ApiError::limit(text, 10_000));
        }
        Decision::Refuse(Refusal::ServerUnavailable) => {
            return Err(ApiError::unavailable("whoever decides about logins does not answer"));
        }
    };
    let given = site.tokens.give(&user, SystemTime::now(), latest);
    let since = given.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let expires = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Ok(fresh(Json(LoggedIn { user: &user, token: &given.token, expires })))
}

/// The user that a request speaks for: by the token of a login, or link and token of a seat.
///
/// # Errors
/// It says none, or one that does not hold.
pub(super) async fn caller(site: &Site, headers: &HeaderMap) -> Result<String, ApiError> {
    let unauthorized =
        |text: &'static str| ApiError::new(StatusCode::UNAUTHORIZED, "forbidden", text);
    let line = headers.get(header::AUTHORIZATION).and_then(|line| line.to_str().ok());
    let token = line.and_then(|line| {
        let (scheme, token) = line.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = token.ok_or_else(|| {
        unauthorized("log in first: expected Authorization: Bearer, with the token of /api/login")
    })?;
    if let Some((link, code)) = token.split_once(':').filter(|_| token.starts_with('~')) {
        let opened = site.chat.open_seat(link, code.as_bytes()).await;
        return Ok(opened.map_err(|_| unauthorized("the seat's token does not hold"))?.user);
    }
    let found = site.tokens.user_of(token.as_bytes(), SystemTime::now());
    let (user, _) = found.ok_or_else(|| unauthorized("this login has ended; log in again"))?;
    Ok(user)
}

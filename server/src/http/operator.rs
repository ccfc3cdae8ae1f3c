//! What is for whoever runs the server: who that is, and what they may do.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidings_broker::auth::is_user_name;

use super::Site;
use super::api::fresh;
use super::error::ApiError;
use super::login::caller;
use super::peer::Peer;

/// Lets in who runs the server: from this machine, where that is enough, or a user who is named.
pub(super) async fn only(
    State(site): State<Arc<Site>>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Response {
    if peer.is_near && site.options.operator_local {
        return next.run(request).await;
    }
    match caller(&site, request.headers()).await {
        Ok(user) if site.options.operators.contains(&user) => next.run(request).await,
        Ok(_) => {
            let text = "this is for operators; web.operators names them";
            ApiError::forbidden(text).into_response()
        }
        Err(error) => error.into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogOut {
    user: String,
}

#[derive(Serialize)]
struct Done {
    done: bool,
}

/// `POST /api/admin/logout`
pub(super) async fn log_out(
    State(site): State<Arc<Site>>,
    body: Result<Json<LogOut>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(LogOut { user }) = body?;
    if !is_user_name(&user) {
        return Err(ApiError::format("expected the name of a user"));
    }
    let kept = site.tokens.log_out(&user, SystemTime::now());
    // Behind it, or they would come back at once.
    site.broker.revoke(&user);
    kept.map_err(|error| {
        ApiError::unavailable(format!("{error}; logged out until the next start only"))
    })?;
    tracing::info!(user, "logged out by an operator");
    Ok(fresh(Json(Done { done: true })))
}

/// `POST /api/admin/drain`
pub(super) async fn drain(State(site): State<Arc<Site>>) -> Response {
    site.drain.notify_one();
    fresh((StatusCode::ACCEPTED, Json(Done { done: true })))
}

//! What there is under which path.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::time::timeout;

use super::error::ApiError;
use super::{Site, api, app, headers, login, metrics, mqtt, operator, peer, rooms, stats};

/// All of it.
pub(super) fn router(site: Arc<Site>) -> Router {
    let guard = from_fn_with_state(Arc::clone(&site), peer::guard_against_pages);
    let operators = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route("/api/stats", get(stats::stats))
        .route("/api/admin/logout", post(operator::log_out))
        .route("/api/admin/drain", post(operator::drain))
        .route_layer(from_fn_with_state(Arc::clone(&site), operator::only));
    let api = Router::new()
        .route("/api/config", get(api::config))
        .route("/api/rooms", post(rooms::make))
        .route("/api/seats", post(rooms::open))
        .route("/api/login", post(login::login))
        .route("/health", get(api::health))
        .merge(operators)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(guard)
        .layer(from_fn_with_state(Arc::clone(&site), in_time));
    Router::new()
        .merge(api)
        .route("/mqtt", get(mqtt::upgrade))
        .fallback(app::serve)
        .method_not_allowed_fallback(async || {
            let text = "this path takes other methods; GET /api/openapi.json says which";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "format", text)
        })
        .layer(from_fn(headers::secure))
        .with_state(site)
}

/// Ends what takes longer than a request may, such as a body that never comes.
async fn in_time(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let answer = timeout(site.options.timeout, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        let text = "the request did not arrive in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "format", text).into_response()
    })
}

/// The largest body of what is no upload.
const BODY_BYTES_MAX: usize = 16 * 1024;

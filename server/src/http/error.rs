//! What is said to who asked for something that cannot be: a status, a code to act on, a sentence.
//!
//! Codes are those of the chat protocol, where it has one.

use std::borrow::Cow;

use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidings_chat::CallError;

/// See the file's own words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    text: Cow<'static, str>,
    /// When it makes sense to try again, in milliseconds.
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, text: text.into(), retry_after: None }
    }

    pub(super) fn format(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "format", text)
    }

    pub(super) fn forbidden(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", text)
    }

    pub(super) fn not_found() -> Self {
        let text = "there is nothing here; GET /api/openapi.json says what there is";
        Self::new(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// Too much, or too fast; after so many milliseconds there is more.
    pub(super) fn limit(text: impl Into<Cow<'static, str>>, retry_after: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "limit", text).again_after(retry_after)
    }

    /// After so many milliseconds it makes sense to try again.
    pub(super) fn again_after(self, millis: u64) -> Self {
        Self { retry_after: Some(millis), ..self }
    }

    /// Not now.
    pub(super) fn unavailable(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text).again_after(1_000)
    }

    /// A seat that link and code did not open. Never tells whether there is such a link.
    pub(super) fn not_opened() -> Self {
        let text = "the link or the code is wrong, or the room is over";
        Self::new(StatusCode::FORBIDDEN, "not_opened", text)
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotOpened => Self::not_opened(),
            CallError::Name { .. } => Self::format(error.to_string()),
            CallError::Refused { code, text, retry_after } => {
                let status = match code {
                    "limit" => StatusCode::TOO_MANY_REQUESTS,
                    "size" => StatusCode::PAYLOAD_TOO_LARGE,
                    "forbidden" => StatusCode::FORBIDDEN,
                    "unknown_chat" => StatusCode::NOT_FOUND,
                    "conflict" | "ended" | "late" => StatusCode::CONFLICT,
                    "format" => StatusCode::BAD_REQUEST,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                };
                Self { retry_after, ..Self::new(status, code, text) }
            }
            other => Self::unavailable(format!("{other}; try again in a moment")),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, "size", "the body is larger than a request may be")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(status, "format", "expected a body with Content-Type: application/json")
            }
            // What the parser says names line and column of what the caller sent.
            _ => Self::format(rejection.body_text()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, text, retry_after } = self;
        let mut response =
            (status, axum::Json(Body { code, text: &text, retry_after })).into_response();
        let headers = response.headers_mut();
        if let Some(millis) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

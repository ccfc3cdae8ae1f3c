//! What every answer says to the browser: what a page of ours may load, be in, and use.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

/// Adds them to an answer.
pub(super) async fn secure(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // The host has no character that a header could not have. A file has a policy of its own.
    if let Ok(policy) = HeaderValue::try_from(content_policy(host.as_ref())) {
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    }
    response
}

/// Nothing but what comes from here. Some browsers do not take `'self'` for WebSocket, so the host is
/// named.
fn content_policy(host: Option<&HeaderValue>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let host = host.and_then(|host| host.to_str().ok());
    let host =
        host.filter(|host| !host.is_empty() && host.len() <= 255 && host.chars().all(is_plain));
    let sockets = host.map_or_else(String::new, |host| format!(" ws://{host} wss://{host}"));
    format!(
        "default-src 'self'; connect-src 'self'{sockets}; img-src 'self' blob: data:; \
         media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    )
}

const ALWAYS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "permissions-policy",
        "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=(), usb=()",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_names_the_host_and_never_what_a_request_put_into_it() {
        let policy = |host: &str| content_policy(Some(&HeaderValue::from_str(host).unwrap()));
        assert!(policy("a.example:8080").contains("connect-src 'self' ws://a.example:8080 wss://"));
        for host in ["a; script-src *", "a b", "", "a'"] {
            assert!(policy(host).contains("connect-src 'self';"), "{host}");
        }
        assert!(!content_policy(None).contains("unsafe"));
    }
}

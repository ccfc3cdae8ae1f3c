//! The app in the browser: files that were built in, see `build.rs`.
//!
//! Paths below `/assets/` have a hash of their content in their names and never change; whatever else
//! is asked for anew each time, and answered without a body if the browser has it.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// A file of the app.
#[derive(Debug)]
struct File {
    path: &'static str,
    /// Its media type.
    kind: &'static str,
    /// An entity tag.
    tag: &'static str,
    plain: &'static [u8],
    br: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

/// In the order of their paths.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/app.rs"));

/// Whatever is no other route: a file, or a place within the app.
pub(super) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return ApiError::not_found().into_response();
    }
    let path = uri.path();
    match find(if is_place(path) { INDEX } else { path }) {
        Some(file) => file.answer(&headers),
        None => ApiError::not_found().into_response(),
    }
}

fn find(path: &str) -> Option<&'static File> {
    let at = FILES.binary_search_by(|file| file.path.cmp(path)).ok()?;
    FILES.get(at)
}

/// Whether the app itself knows what to show there.
fn is_place(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "" | "r" | "strangers" | "chats" | "admin")
}

impl File {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let keep = if self.path.starts_with("/assets/") { FOR_EVER } else { "no-cache" };
        let common = [
            (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
            (header::ETAG, HeaderValue::from_static(self.tag)),
            (header::VARY, HeaderValue::from_static("Accept-Encoding")),
        ];
        let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let is_known = |tag: &str| tag.trim().trim_start_matches("W/") == self.tag;
        if known.is_some_and(|known| known.split(',').any(is_known)) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let (encoding, bytes) = match (self.br, self.gzip) {
            (Some(br), _) if takes(headers, "br") => (Some("br"), br),
            (_, Some(gzip)) if takes(headers, "gzip") => (Some("gzip"), gzip),
            _ => (None, self.plain),
        };
        let mut response = (common, Body::from(bytes)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }
}

/// Whether who asks takes a body packed so (RFC 9110, 12.5.3).
fn takes(headers: &HeaderMap, coding: &str) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let words = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let mut named = words.filter_map(|word| {
        let (name, weight) = word.split_once(';').unwrap_or((word, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok());
        name.trim().eq_ignore_ascii_case(coding).then(|| weight.unwrap_or(0.0))
    });
    named.next().is_some_and(|weight: f32| weight > 0.0)
}

const INDEX: &str = "/index.html";
const FOR_EVER: &str = "public, max-age=31536000, immutable";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(encodings: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, encodings.parse().unwrap());
        headers
    }

    #[test]
    fn packed_is_what_the_browser_takes_best() {
        let file = File {
            path: "/assets/a.js",
            kind: "text/javascript",
            tag: "\"1\"",
            plain: b"plain",
            br: Some(b"b"),
            gzip: Some(b"g"),
        };
        for (accepts, encoding) in [
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip;q=0.5, br;q=0", Some("gzip")),
            ("identity", None),
            ("brotli", None),
        ] {
            let answer = file.answer(&headers(accepts));
            let found = answer.headers().get(header::CONTENT_ENCODING);
            assert_eq!(found.map(|it| it.to_str().unwrap()), encoding, "{accepts}");
            assert_eq!(answer.headers()[header::CACHE_CONTROL], FOR_EVER);
        }
        let mut known = HeaderMap::new();
        known.insert(header::IF_NONE_MATCH, "\"0\", W/\"1\"".parse().unwrap());
        assert_eq!(file.answer(&known).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn places_within_the_app_are_its_one_page() {
        for path in ["/", "/r/x1", "/strangers", "/chats", "/chats/@bob", "/admin"] {
            assert!(is_place(path), "{path}");
        }
        for path in ["/api/config", "/rooms", "/assets/x.js", "/index.html", "/.env"] {
            assert!(!is_place(path), "{path}");
        }
        assert!(find(INDEX).is_some());
        assert!(FILES.is_sorted_by_key(|file| file.path));
    }
}

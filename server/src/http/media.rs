//! Files over HTTP: uploads that can be resumed (tus 1.0), and files with ranges.

use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding};
use hyper::body::Frame;
use serde::Deserialize;
use tidings_broker::core::metric::Metric;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Site;
use super::error::ApiError;
use super::login::caller;
use crate::media::{Found, MediaError, Open, Progress};

/// Says with every answer which protocol this is, and takes no other.
pub(super) async fn tus(request: Request, next: Next) -> Response {
    let version = request.headers().get(TUS_RESUMABLE);
    let is_other = version.is_some_and(|version| version != TUS_VERSION);
    let mut response = if is_other {
        let text = "expected Tus-Resumable: 1.0.0";
        ApiError::new(StatusCode::PRECONDITION_FAILED, "format", text).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(TUS_RESUMABLE, HeaderValue::from_static(TUS_VERSION));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `OPTIONS /api/media`
pub(super) async fn options(State(site): State<Arc<Site>>) -> Response {
    let max = site.media.options().file_bytes_max;
    let headers = [
        (HeaderName::from_static("tus-version"), HeaderValue::from_static(TUS_VERSION)),
        (
            HeaderName::from_static("tus-extension"),
            HeaderValue::from_static("creation,termination"),
        ),
        (HeaderName::from_static("tus-max-size"), HeaderValue::from(max)),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// `POST /api/media`
pub(super) async fn begin(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let user = caller(&site, &headers).await?;
    let bytes = number(&headers, UPLOAD_LENGTH)
        .ok_or_else(|| ApiError::format("expected Upload-Length, the bytes of the file"))?;
    let line = headers.get(UPLOAD_METADATA).and_then(|line| line.to_str().ok());
    let metadata = |key| metadata(line.unwrap_or_default(), key);
    let chat = metadata("chat").ok_or_else(|| {
        ApiError::format("expected Upload-Metadata with `chat`, the chat that the file is for")
    })?;
    if site.broker.metrics().get(Metric::DiskLow) > 0 {
        return Err(ApiError::unavailable("the disk is nearly full; try again later"));
    }
    let kind = metadata("type").unwrap_or_else(|| "application/octet-stream".into());
    let begun = site.media.begin(&user, &chat, &kind, bytes).await;
    let id = begun.map_err(|error| said(&site, error))?;
    let place = HeaderValue::try_from(format!("/api/media/uploads/{id}"));
    let place = place.map_err(|_| ApiError::unavailable("the upload has no name"))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, place)]).into_response())
}

/// `HEAD /api/media/uploads/{id}`
pub(super) async fn progress(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let user = caller(&site, &headers).await?;
    let Progress { offset, bytes } =
        site.media.progress(&user, &id).map_err(|error| said(&site, error))?;
    let headers =
        [(UPLOAD_OFFSET, HeaderValue::from(offset)), (UPLOAD_LENGTH, HeaderValue::from(bytes))];
    Ok((StatusCode::OK, headers).into_response())
}

/// `PATCH /api/media/uploads/{id}`
pub(super) async fn go_on(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    let user = caller(&site, headers).await?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != OFFSET_STREAM) {
        let text = "expected Content-Type: application/offset+octet-stream";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "format", text));
    }
    let offset = number(headers, UPLOAD_OFFSET)
        .ok_or_else(|| ApiError::format("expected Upload-Offset, where the piece belongs"))?;
    let said = |error| said(&site, error);
    let mut writing = site.media.write(&user, &id, offset).map_err(said)?;
    let mut body = request.into_body();
    let mut piece = Vec::new();
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match timeout(site.options.timeout, frame).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            // What has come stays, and the upload goes on from there.
            Ok(Some(Err(_))) | Err(_) => {
                let _kept_as_far_as_it_goes = writing.append(piece.into()).await;
                let text = "the piece did not arrive whole; HEAD tells where to go on";
                let error = ApiError::new(StatusCode::REQUEST_TIMEOUT, "unavailable", text);
                return Err(error.again_after(500));
            }
        };
        if let Ok(data) = frame.into_data() {
            piece.extend_from_slice(&data);
        }
        if piece.len() >= PIECE_BYTES {
            writing.append(std::mem::take(&mut piece).into()).await.map_err(said)?;
        }
    }
    if !piece.is_empty() {
        writing.append(piece.into()).await.map_err(said)?;
    }
    let Progress { offset, .. } = writing.progress();
    let hash = writing.finish().await.map_err(said)?;
    let offset = [(UPLOAD_OFFSET, HeaderValue::from(offset))];
    let mut response = (StatusCode::NO_CONTENT, offset).into_response();
    if let Some(hash) = hash.and_then(|hash| HeaderValue::try_from(hash).ok()) {
        response.headers_mut().insert(TIDINGS_MEDIA, hash);
    }
    Ok(response)
}

/// `DELETE /api/media/uploads/{id}`
pub(super) async fn give_up(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let user = caller(&site, &headers).await?;
    site.media.give_up(&user, &id).map_err(|error| said(&site, error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
pub(super) struct Which {
    chat: String,
}

/// `GET /api/media/{sha256}`
pub(super) async fn get(
    State(site): State<Arc<Site>>,
    Path(hash): Path<String>,
    which: Result<Query<Which>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let user = caller(&site, &headers).await?;
    let Ok(Query(Which { chat })) = which else {
        return Err(ApiError::format("expected ?chat=, the chat that the file is in"));
    };
    let found = site.media.find(&user, &chat, &hash).await;
    let Found { bytes, kind, open } = found.map_err(|error| said(&site, error))?;
    let range = headers.get(header::RANGE).and_then(|line| line.to_str().ok());
    let tag = format!("\"{hash}\"");
    let is_other = headers.get(header::IF_RANGE).is_some_and(|it| it.as_bytes() != tag.as_bytes());
    let range = range.filter(|_| !is_other).and_then(|line| range_of(line, bytes));
    let (status, from, to) = match range {
        None => (StatusCode::OK, 0, bytes),
        Some(Some((from, to))) => (StatusCode::PARTIAL_CONTENT, from, to),
        Some(None) => {
            let all = HeaderValue::try_from(format!("bytes */{bytes}"));
            let text = "the file has no such part";
            let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "format", text);
            let all = all.unwrap_or(HeaderValue::from_static("bytes */0"));
            return Ok(([(header::CONTENT_RANGE, all)], error).into_response());
        }
    };
    let mut response = Response::new(Body::new(Piecewise::new(open, from, to)));
    *response.status_mut() = status;
    let is_shown = SHOWN.contains(&kind.as_str());
    let kind = if is_shown { kind.as_str() } else { "application/octet-stream" };
    let lines = [
        (header::CONTENT_LENGTH, (to - from).to_string()),
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::ACCEPT_RANGES, "bytes".into()),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable".into()),
        // Nothing that a file may turn out to be runs here.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".into()),
        (
            header::CONTENT_DISPOSITION,
            if is_shown { "inline".into() } else { "attachment".to_owned() },
        ),
    ];
    let headers = response.headers_mut();
    for (name, line) in lines {
        if let Ok(line) = HeaderValue::try_from(line) {
            headers.insert(name, line);
        }
    }
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(line) = HeaderValue::try_from(format!("bytes {from}-{}/{bytes}", to - 1))
    {
        headers.insert(header::CONTENT_RANGE, line);
    }
    Ok(response)
}

/// The part of `bytes` that a line asks for, its end not in it. None: all; `Some(None)`: there is none.
fn range_of(line: &str, bytes: u64) -> Option<Option<(u64, u64)>> {
    let ranges = line.strip_prefix("bytes=")?;
    // Several at once are answered with all of it, as may be (RFC 9110, 14.2).
    let (from, to) = ranges.split_once('-').filter(|_| !ranges.contains(','))?;
    let (from, to) = (from.trim(), to.trim());
    let range = if from.is_empty() {
        let last: u64 = to.parse().ok()?;
        (bytes.saturating_sub(last), bytes)
    } else {
        let from = from.parse().ok()?;
        let to: u64 = if to.is_empty() { u64::MAX } else { to.parse().ok()? };
        if to < from {
            return None;
        }
        (from, to.saturating_add(1).min(bytes))
    };
    Some((range.0 < range.1).then_some(range))
}

fn said(site: &Site, error: MediaError) -> ApiError {
    let text = error.to_string();
    match error {
        MediaError::Format(_) => ApiError::format(text),
        MediaError::Forbidden(_) => ApiError::forbidden(text),
        MediaError::NotFound => ApiError::new(StatusCode::NOT_FOUND, "not_found", text),
        MediaError::Conflict(_) => ApiError::new(StatusCode::CONFLICT, "conflict", text),
        // It hears that the other side is gone as soon as a piece is overdue.
        MediaError::Busy => {
            ApiError::new(StatusCode::CONFLICT, "conflict", text).again_after(2_000)
        }
        MediaError::Size { .. } => {
            site.broker.count(Metric::LimitMediaFile);
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "size", text)
        }
        MediaError::Limit { metric, .. } => {
            site.broker.count(metric);
            ApiError::limit(text, 60_000)
        }
        MediaError::Io(error) => {
            tracing::error!("cannot keep a file: {error}");
            ApiError::unavailable(text)
        }
        MediaError::Call(error) => error.into(),
    }
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// A value of Upload-Metadata: pairs of a key and text in base64.
fn metadata(line: &str, key: &str) -> Option<String> {
    let pairs = line.split(',').filter_map(|pair| pair.trim().split_once(' '));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == key)?;
    String::from_utf8(Base64::decode_vec(value.trim()).ok()?).ok()
}

/// A file, read a piece at a time as it is taken.
struct Piecewise {
    open: Open,
    at: u64,
    to: u64,
    reading: Option<JoinHandle<std::io::Result<Bytes>>>,
}

impl Piecewise {
    fn new(open: Open, from: u64, to: u64) -> Self {
        Self { open, at: from, to, reading: None }
    }

    fn read(&self) -> JoinHandle<std::io::Result<Bytes>> {
        let (at, open) = (self.at, self.open.clone());
        let size = usize::try_from(self.to - self.at).unwrap_or(READ_BYTES).min(READ_BYTES);
        spawn_blocking(move || match open {
            Open::File(file) => {
                let mut piece = vec![0; size];
                file.read_exact_at(&mut piece, at)?;
                Ok(piece.into())
            }
            Open::Memory(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(from..bytes.len().min(from + size)))
            }
        })
    }
}

impl HttpBody for Piecewise {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.at >= self.to {
            return Poll::Ready(None);
        }
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.read(),
        };
        let Poll::Ready(read) = Pin::new(&mut reading).poll(cx) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        match read.map_err(std::io::Error::other).and_then(|read| read) {
            Ok(piece) if piece.is_empty() => {
                Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())))
            }
            Ok(piece) => {
                self.at += piece.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

/// What a browser shows by itself and cannot be made to run anything. Others are to be saved.
const SHOWN: [&str; 12] = [
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "audio/mpeg",
    "audio/mp4",
    "audio/ogg",
    "audio/webm",
    "text/plain",
];

const TUS_VERSION: &str = "1.0.0";
const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const TIDINGS_MEDIA: HeaderName = HeaderName::from_static("tidings-media");
const OFFSET_STREAM: &str = "application/offset+octet-stream";

/// What is read of a file at once: each who reads slowly holds as much.
const READ_BYTES: usize = 64 * 1024;

/// What is written to the disk at once.
const PIECE_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_rfc() {
        for (line, range) in [
            ("bytes=0-9", Some(Some((0, 10)))),
            ("bytes=90-", Some(Some((90, 100)))),
            ("bytes=-5", Some(Some((95, 100)))),
            ("bytes=50-999", Some(Some((50, 100)))),
            ("bytes=-999", Some(Some((0, 100)))),
            ("bytes=100-", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=9-1", None),
            ("bytes=0-1,5-6", None),
            ("lines=1-2", None),
            ("bytes=x-", None),
        ] {
            assert_eq!(range_of(line, 100), range, "{line}");
        }
    }

    #[test]
    fn metadata_is_pairs_of_a_key_and_base64() {
        let line = "chat QGJvYg==, type aW1hZ2UvcG5n,name";
        assert_eq!(metadata(line, "chat").as_deref(), Some("@bob"));
        assert_eq!(metadata(line, "type").as_deref(), Some("image/png"));
        assert_eq!(metadata(line, "name"), None);
        assert_eq!(metadata("chat %%%", "chat"), None);
    }
}

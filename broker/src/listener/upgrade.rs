//! The request that turns HTTP into WebSocket (RFC 6455, section 4.2), and the answers to it.
//!
//! What is refused is told in one line of text, for whoever tries it with a browser or curl.

use std::io;
use std::net::IpAddr;

use base64ct::{Base64, Encoding};
use httparse::{Header, Request};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads the request and answers it. `Ok`: it is a WebSocket from here on, and what was read
/// already comes back.
///
/// # Errors
/// Why not. The other side was told, if there was a request.
pub(super) async fn upgrade<S>(
    stream: &mut S,
    origins: &[String],
    peer: IpAddr,
) -> io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    let answer = loop {
        let from = bytes.len();
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The end may stand across two reads.
        let from = from.saturating_sub(END.len() - 1);
        let news = bytes.get(from..).unwrap_or_default();
        if let Some(end) = news.windows(END.len()).position(|window| window == END) {
            let head = from + end + END.len();
            if head <= HEAD_BYTES_MAX {
                let early = bytes.split_off(head);
                break check(&bytes, origins, peer).map(|key| (key, early));
            }
        }
        if bytes.len() >= HEAD_BYTES_MAX {
            let text = format!("the request is larger than {HEAD_BYTES_MAX} bytes");
            break Err(Refusal { status: "431 Request Header Fields Too Large", text, extra: "" });
        }
    };
    match answer {
        Ok((key, early)) => {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\
                 Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n",
                accept(&key)
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            Ok(early)
        }
        Err(Refusal { status, text, extra }) => {
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: {}\r\nConnection: close\r\n{extra}\r\n{text}\n",
                text.len() + 1
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // Closing with unread input would reset the connection and take the answer back.
            let mut unread = [0; 512];
            for _ in 0..HEAD_BYTES_MAX / unread.len() {
                if stream.read(&mut unread).await? == 0 {
                    break;
                }
            }
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

/// Why a request is not an upgrade.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: &'static str,
    text: String,
    /// More header lines.
    extra: &'static str,
}

fn refused<T>(status: &'static str, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, text: text.into(), extra: "" })
}

/// Whether the request may be upgraded; its key.
fn check(head: &[u8], origins: &[String], peer: IpAddr) -> Result<String, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        // What follows would be a request to some, and frames to others.
        Ok(httparse::Status::Complete(_)) => {
            return refused(BAD_REQUEST, "expected lines that end with CR LF");
        }
        Ok(httparse::Status::Partial) => return refused(BAD_REQUEST, "the request is cut off"),
        Err(error) => return refused(BAD_REQUEST, format!("this is not HTTP: {error}")),
    }
    let headers: &[Header<'_>] = request.headers;
    if request.method != Some("GET") || request.version != Some(1) {
        return refused(BAD_REQUEST, "expected a GET of HTTP/1.1");
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if !PATHS.contains(&path) {
        return refused("404 Not Found", "MQTT over WebSocket is at /mqtt");
    }
    if !has_word(headers, "upgrade", "websocket") || !has_word(headers, "connection", "upgrade") {
        let text = "this is MQTT over WebSocket: connect with a WebSocket client";
        let extra = "Upgrade: websocket\r\n";
        return Err(Refusal { status: UPGRADE_REQUIRED, text: text.into(), extra });
    }
    let has_length = |header: &&Header<'_>| is(header, "content-length") && header.value != b"0";
    if headers.iter().any(|it| is(it, "transfer-encoding") || has_length(&it)) {
        return refused(BAD_REQUEST, "expected a request without a body");
    }
    if value(headers, "sec-websocket-version") != Some("13") {
        let text = "expected Sec-WebSocket-Version 13";
        let extra = "Sec-WebSocket-Version: 13\r\n";
        return Err(Refusal { status: UPGRADE_REQUIRED, text: text.into(), extra });
    }
    let key = value(headers, "sec-websocket-key").unwrap_or_default();
    if !Base64::decode_vec(key).is_ok_and(|key| key.len() == 16) {
        return refused(BAD_REQUEST, "expected a Sec-WebSocket-Key of 16 bytes in Base64");
    }
    let Some(host) = value(headers, "host") else {
        return refused(BAD_REQUEST, "expected one Host");
    };
    match value(headers, "origin") {
        None if headers.iter().any(|header| is(header, "origin")) => {
            return refused(BAD_REQUEST, "expected at most one Origin");
        }
        Some(origin) if !page_may_connect(origin, host, origins, peer) => {
            let text = format!(
                "origin {:?} may not connect; websocket.origins says who may",
                origin.chars().take(SHOWN_CHARS_MAX).collect::<String>()
            );
            return refused("403 Forbidden", text);
        }
        _ => {}
    }
    // [MQTT-6.0.0-3]
    if !has_exact_word(headers, "sec-websocket-protocol", SUBPROTOCOL) {
        return refused(BAD_REQUEST, "expected Sec-WebSocket-Protocol mqtt");
    }
    Ok(key.to_owned())
}

/// What proves that the request was understood (RFC 6455, 4.2.2). Not a secret.
fn accept(key: &str) -> String {
    let both = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    Base64::encode_string(digest(&SHA1_FOR_LEGACY_USE_ONLY, &both).as_ref())
}

fn is(header: &Header<'_>, name: &str) -> bool {
    header.name.eq_ignore_ascii_case(name)
}

/// The value of a header that is there once.
fn value<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|header| is(header, name));
    let (Some(header), None) = (found.next(), found.next()) else { return None };
    std::str::from_utf8(header.value).ok().map(str::trim)
}

/// The words of a list, in all headers of the name.
fn words<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |header| is(header, name))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_word(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    words(headers, name).any(|it| it.eq_ignore_ascii_case(word))
}

fn has_exact_word(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    words(headers, name).any(|it| it == word)
}

/// Whether a page of `origin` may connect to `host`: one that is listed, or of the same host.
///
/// A page may give a name of its own to this machine's loopback address and so pass for the same
/// host. Hence from this machine the host must be one of its own names: see [`names_this_machine`].
pub fn page_may_connect(origin: &str, host: &str, origins: &[String], peer: IpAddr) -> bool {
    if origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let host = without_port(host);
    without_port(authority).eq_ignore_ascii_case(host)
        && (!peer.to_canonical().is_loopback() || is_loopback(host))
}

/// Whether `host`, with or without a port, is this machine's own name for itself: `localhost` or a
/// loopback address. A page on the network can have its own name lead here, but not one of these.
pub fn names_this_machine(host: &str) -> bool {
    is_loopback(without_port(host))
}

/// The host of `host:port`, `[::1]:port`, `host`.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether a host, without a port, is this machine's own name for itself.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// The subprotocol, demanded and echoed [MQTT-6.0.0-4].
const SUBPROTOCOL: &str = "mqtt";

/// Where it is. Some clients name no path.
const PATHS: [&str; 2] = ["/mqtt", "/"];

const END: &[u8] = b"\r\n\r\n";
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const SHOWN_CHARS_MAX: usize = 100;
const BAD_REQUEST: &str = "400 Bad Request";
const UPGRADE_REQUIRED: &str = "426 Upgrade Required";

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: broker.example:8083\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\r\n";

    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn with(from: &str, to: &str) -> Result<String, Refusal> {
        assert!(GOOD.contains(from), "{from}");
        check(GOOD.replace(from, to).as_bytes(), &[], ELSEWHERE)
    }

    #[test]
    fn key_of_the_rfc_gets_the_answer_of_the_rfc() {
        let key = with("Host", "Host").unwrap();
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn every_refusal_says_what_is_wrong() {
        for (from, to, status, text) in [
            ("GET", "POST", "400", "expected a GET"),
            ("HTTP/1.1", "HTTP/1.0", "400", "HTTP/1.1"),
            ("GET /mqtt HTTP/1.1", "\x16\x03\x01", "400", "not HTTP"),
            ("/mqtt", "/other", "404", "/mqtt"),
            ("Upgrade: WebSocket", "X: y", "426", "WebSocket client"),
            ("Version: 13", "Version: 8", "426", "13"),
            ("dGhl", "", "400", "Sec-WebSocket-Key"),
            ("Host: broker.example:8083\r\n", "", "400", "Host"),
            ("mqttv3.1, mqtt", "mqttv3.1", "400", "Sec-WebSocket-Protocol mqtt"),
            ("mqttv3.1, mqtt", "MQTT", "400", "Sec-WebSocket-Protocol mqtt"),
            ("Host:", "Content-Length: 5\r\nHost:", "400", "without a body"),
            ("Host:", "Transfer-Encoding: chunked\r\nHost:", "400", "without a body"),
            ("mqtt\r\n\r\n", "mqtt\n\nGET / HTTP/1.1\r\n\r\n", "400", "CR LF"),
            ("Host:", "Origin: null\r\nHost:", "403", "\"null\""),
            ("Host:", "Origin: https://evil.example\r\nHost:", "403", "websocket.origins"),
            ("Host:", "Origin: a\r\nOrigin: b\r\nHost:", "400", "one Origin"),
        ] {
            let refusal = with(from, to).unwrap_err();
            assert!(refusal.status.starts_with(status), "{to}: {refusal:?}");
            assert!(refusal.text.contains(text), "{to}: {refusal:?}");
        }
        for path in ["/", "/mqtt?token=x"] {
            assert!(with("/mqtt", path).is_ok());
        }
    }

    #[test]
    fn page_of_the_same_host_may_connect_and_others_only_if_listed() {
        let allowed = |origin, host, origins: &[&str], peer: &str| {
            let origins: Vec<_> = origins.iter().map(|&it| it.to_owned()).collect();
            page_may_connect(origin, host, &origins, peer.parse().unwrap())
        };
        assert!(allowed("https://a.example", "a.example:8084", &[], "192.0.2.7"));
        assert!(allowed("http://[::1]:3000", "[::1]:8083", &[], "::1"));
        assert!(!allowed("https://a.example", "b.example", &[], "192.0.2.7"));
        assert!(!allowed("https://a.example.evil", "a.example", &[], "192.0.2.7"));
        assert!(allowed("https://b.example", "a.example", &["https://B.example"], "192.0.2.7"));
        assert!(allowed("null", "a.example", &["*"], "192.0.2.7"));
        // A page that named this machine after itself.
        assert!(!allowed("http://evil.example", "evil.example:8083", &[], "127.0.0.1"));
        assert!(!allowed("http://evil.example", "evil.example:8083", &[], "::ffff:127.0.0.1"));
        for host in ["localhost", "LOCALHOST", "127.0.0.1"] {
            let origin = format!("http://{host}:3000");
            assert!(page_may_connect(&origin, host, &[], "127.0.0.1".parse().unwrap()));
        }
    }
}

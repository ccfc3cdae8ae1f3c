//! A WebSocket as a stream of bytes: frames begin and end wherever they do (§6.0).

use super::stream::Stream;
use bytes::{Buf, Bytes};
use futures_core::Stream as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Opens one over a connection.
pub(super) async fn open(url: &str, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
    let mut request = url.into_client_request().map_err(io::Error::other)?;
    // [MQTT-6.0.0-3]
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let config = WebSocketConfig::default()
        .max_message_size(Some(super::mqtt::INCOMING_BYTES_MAX as usize + 64))
        .max_frame_size(Some(super::mqtt::INCOMING_BYTES_MAX as usize + 64));
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    let (socket, _) = opened.map_err(io::Error::other)?;
    Ok(Box::new(Frames { socket, unread: Bytes::new() }))
}

struct Frames {
    socket: WebSocketStream<Box<dyn Stream>>,
    unread: Bytes,
}

impl AsyncRead for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                // [MQTT-6.0.0-1]
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("a text frame")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(from(error))),
            }
        }
        let some = self.unread.len().min(buf.remaining());
        buf.put_slice(self.unread.get(..some).unwrap_or_default());
        self.unread.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        use futures_sink::Sink as _;
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(from)?;
        let message = Message::Binary(Bytes::copy_from_slice(buf));
        Pin::new(&mut self.socket).start_send(message).map_err(from)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        use futures_sink::Sink as _;
        Pin::new(&mut self.socket).poll_flush(cx).map_err(from)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        use futures_sink::Sink as _;
        Pin::new(&mut self.socket).poll_close(cx).map_err(from)
    }
}

fn from(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

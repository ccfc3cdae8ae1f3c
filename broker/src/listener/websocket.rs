//! WebSocket as a stream of bytes: frames come off what is read and go around what is written.
//!
//! Nothing is kept but the state of the frame under way: data is unmasked in the reader's memory,
//! written from the writer's. At most one pong waits; a newer one replaces it (RFC 6455, 5.5.3), so
//! that a client that pings and does not read makes nothing grow.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Deframer, End, Header, NORMAL, close_frame, pong};
use super::{Socket, Stream};
use crate::turns::wake_behind_others;

/// The server's side of a WebSocket.
#[derive(Debug)]
pub(super) struct WebSocket<S> {
    inner: S,
    deframer: Deframer,
    /// What came right behind the request to upgrade.
    early: Vec<u8>,
    /// The header of the frame that is being written.
    header: Header,
    /// Bytes of its payload that are still to be written.
    frame_left: usize,
    /// A control frame that waits for the end of the frame that is being written.
    control: Vec<u8>,
    /// How much of it is written.
    control_written: usize,
    /// A close frame is written or waits: nothing comes behind it.
    closing: bool,
    /// Wakes the reader, who waits for the end of the frame that is being written.
    reader: Option<Waker>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Over a connection that was upgraded; `early` was read from it already.
    pub(super) fn new(inner: S, early: Vec<u8>, message_bytes_max: u64) -> Self {
        Self {
            inner,
            deframer: Deframer::new(message_bytes_max),
            early,
            header: Header::default(),
            frame_left: 0,
            control: Vec::new(),
            control_written: 0,
            closing: false,
            reader: None,
        }
    }

    fn is_within_frame(&self) -> bool {
        self.frame_left > 0
    }

    /// Writes the control frame that waits, where it may stand.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.control.is_empty() {
            let rest = self.control.get(self.control_written..).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.control_written += written;
            if self.control_written == self.control.len() {
                self.control = Vec::new();
                self.control_written = 0;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Puts a control frame in the place of one that is not begun; one that is begun stays.
    fn queue_control(&mut self, frame: Vec<u8>) {
        if self.control_written == 0 && !self.closing {
            self.control = frame;
        }
    }

    /// Writes a close frame if none was, and then nothing more.
    fn poll_close(&mut self, code: u16, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            if self.is_within_frame() {
                // It can never be finished.
                self.closing = true;
                return Poll::Ready(Ok(()));
            }
            self.control.extend(close_frame(code));
            self.closing = true;
        }
        ready!(self.poll_control(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Says why, as far as there is room for it, and takes what was still sent: closing with unread
    /// input would reset the connection and take the reason back.
    fn end(&mut self, end: End, cx: &mut Context<'_>) -> io::Result<()> {
        let (code, result) = match end {
            End::Closed(code) => (code, Ok(())),
            End::Violation(violation) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, violation.to_string());
                (violation.code(), Err(error))
            }
        };
        let _no_room = self.poll_close(code, cx);
        let mut unread = [0; 512];
        for _ in 0..UNREAD_MAX / unread.len() {
            let mut unread = ReadBuf::new(&mut unread);
            match Pin::new(&mut self.inner).poll_read(cx, &mut unread) {
                Poll::Ready(Ok(())) if !unread.filled().is_empty() => {}
                _ => break,
            }
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        for _ in 0..READS_WITHOUT_DATA_MAX {
            if !this.is_within_frame()
                && let Poll::Ready(Err(error)) = this.poll_control(cx)
            {
                return Poll::Ready(Err(error));
            }
            if let Some(end) = this.deframer.end() {
                if this.is_within_frame() {
                    this.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                return Poll::Ready(this.end(end, cx));
            }
            let before = buf.filled().len();
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.early.is_empty() {
                ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                if buf.filled().len() == before {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let some = this.early.len().min(buf.remaining());
                let rest = this.early.split_off(some);
                buf.put_slice(&this.early);
                this.early = rest;
            }
            let mut answer = None;
            let received = buf.filled_mut().get_mut(before..).unwrap_or_default();
            let data = this.deframer.take(received, |ping| answer = Some(ping));
            buf.set_filled(before + data);
            if let Some(payload) = answer {
                this.queue_control(pong(&payload));
                if !this.is_within_frame()
                    && let Poll::Ready(Ok(())) = this.poll_control(cx)
                {
                    // A layer below may hold it back.
                    let _later = Pin::new(&mut this.inner).poll_flush(cx);
                }
            }
            if data > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        // Who sends nothing but pings or empty frames takes turns with the others.
        wake_behind_others(cx);
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !this.is_within_frame() {
            ready!(this.poll_control(cx))?;
            if this.closing {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            this.frame_left = buf.len().min(FRAME_BYTES_MAX);
            this.header = Header::binary(this.frame_left);
        }
        loop {
            let payload = buf.get(..this.frame_left).unwrap_or(buf);
            let inner = Pin::new(&mut this.inner);
            let written = if this.header.rest().is_empty() {
                ready!(inner.poll_write(cx, payload))?
            } else {
                let slices = [IoSlice::new(this.header.rest()), IoSlice::new(payload)];
                ready!(inner.poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let data = this.header.written(written);
            this.frame_left -= data;
            if !this.is_within_frame()
                && let Some(reader) = this.reader.take()
            {
                reader.wake();
            }
            if data > 0 {
                return Poll::Ready(Ok(data));
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_within_frame() {
            ready!(self.poll_control(cx))?;
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_close(NORMAL, cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: Stream> Stream for WebSocket<S> {
    fn socket(&mut self) -> Option<&mut Socket> {
        self.inner.socket()
    }
}

/// The largest frame that is sent: a pong waits for its end.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// How often frames without data are read before others have their turn.
const READS_WITHOUT_DATA_MAX: usize = 4;

/// What is read and thrown away of what was sent behind the last frame.
const UNREAD_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn pong_waits_for_the_end_of_a_frame_and_the_last_ping_is_answered() {
        // The pipe takes 8 bytes: a frame of 20 is written in pieces.
        let (mut client, server) = duplex(8);
        let mut server = WebSocket::new(server, Vec::new(), 1000);
        let data = *b"twenty bytes of data";
        poll_fn(|cx| {
            assert!(matches!(Pin::new(&mut server).poll_write(cx, &data), Poll::Ready(Ok(6))));
            Poll::Ready(())
        })
        .await;
        for ping in [b'1', b'2'] {
            client.write_all(&[0x89, 0x81, 0, 0, 0, 0, ping]).await.unwrap();
            poll_fn(|cx| {
                let mut memory = [0; 64];
                let mut memory = ReadBuf::new(&mut memory);
                assert!(Pin::new(&mut server).poll_read(cx, &mut memory).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        let write = async {
            server.write_all(&data[6..]).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let read = client.read_to_end(&mut received);
        let ((), read) = tokio::join!(write, read);
        read.unwrap();
        let expected = [&[0x82, 20][..], &data, &[0x8a, 1, b'2'], &[0x88, 2, 3, 0xe8]].concat();
        assert_eq!(received, expected);
    }

    #[tokio::test]
    async fn frames_without_data_end_the_turn_and_not_the_connection() {
        let (mut client, server) = duplex(4096);
        let mut server = WebSocket::new(server, Vec::new(), 1000);
        let pongs = [0x8a, 0x80, 0, 0, 0, 0].repeat(100);
        client.write_all(&pongs).await.unwrap();
        client.write_all(&[0x82, 0x81, 0, 0, 0, 0, b'1']).await.unwrap();
        let mut turns = 0;
        // One frame a read: it would all be read in one turn if nothing ended that.
        let read = poll_fn(|cx| {
            turns += 1;
            let mut memory = [0; 6];
            let mut memory = ReadBuf::new(&mut memory);
            Pin::new(&mut server).poll_read(cx, &mut memory)
        });
        read.await.unwrap();
        assert!(turns > 100 / READS_WITHOUT_DATA_MAX, "{turns}");
    }

    #[tokio::test]
    async fn what_came_behind_the_request_is_read_first() {
        let (mut client, server) = duplex(64);
        client.write_all(&[0x82, 0x81, 0, 0, 0, 0, b'2']).await.unwrap();
        drop(client);
        let early = vec![0x82, 0x81, 0, 0, 0, 0, b'1'];
        let mut server = WebSocket::new(server, early, 1000);
        let mut both = [0; 2];
        server.read_exact(&mut both).await.unwrap();
        assert_eq!(&both, b"12");
    }
}

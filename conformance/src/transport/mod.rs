//! What carries the bytes: TCP, TLS, and WebSocket over either. Blocking, with a deadline to read.
//!
//! Nothing of MQTT is known here. A WebSocket is written by hand, not taken from a library, so that
//! a case can cut packets and frames where no library would.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

pub mod tls;
pub mod websocket;

pub use websocket::{Frame, WebSocket};

/// A stream of bytes to the broker, bare or encrypted.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// How long the next read may wait. Zero is an error, as it would mean for ever.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn set_read_timeout(&self, most: Duration) -> io::Result<()> {
        self.tcp().set_read_timeout(Some(most))
    }

    /// Ends the connection at once, without the good manners of the layers above TCP.
    pub fn cut(&self) {
        let _closed_already = self.tcp().shutdown(Shutdown::Both);
    }

    /// Says that no more is sent; the other direction stays.
    pub fn finish(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _closed_already = stream.flush();
        }
        let _closed_already = self.tcp().shutdown(Shutdown::Write);
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What a connection of MQTT runs over.
#[derive(Debug)]
pub enum Channel {
    /// A stream of bytes.
    Stream(Socket),
    /// A WebSocket (§6).
    WebSocket(WebSocket),
}

impl Channel {
    /// Sends bytes: in one write, and in one binary frame if there are frames.
    ///
    /// # Errors
    /// The broker has closed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(socket) => {
                socket.write_all(bytes)?;
                socket.flush()
            }
            Self::WebSocket(socket) => socket.send(&[Frame::binary(bytes)]),
        }
    }

    /// Reads bytes of MQTT; 0 is the end.
    ///
    /// # Errors
    /// Those of reading; and [`io::ErrorKind::Other`] for what a Server may not send in a
    /// WebSocket, in words for the report.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream(socket) => socket.read(into),
            Self::WebSocket(socket) => socket.read(into),
        }
    }

    /// As [`Socket::set_read_timeout`].
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn set_read_timeout(&self, most: Duration) -> io::Result<()> {
        self.socket().set_read_timeout(most)
    }

    /// As [`Socket::cut`].
    pub fn cut(&self) {
        self.socket().cut();
    }

    /// Says that no more is sent.
    pub fn finish(&mut self) {
        match self {
            Self::Stream(socket) => socket.finish(),
            // Its Close frame would be answered by a Close; that the stream ends says enough.
            Self::WebSocket(socket) => socket.finish(),
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Stream(socket) => socket,
            Self::WebSocket(socket) => socket.socket(),
        }
    }
}
